// SPDX-License-Identifier: GPL-2.0-only
/*
 * SIGKILL at every instruction of malloc, free, growth, trim and realloc; a stop at any of recovery.
 *
 * A victim is single-stepped through a scenario once, to learn which instructions it executes; then, for each of
 * them, a fresh victim runs up to a breakpoint there and is killed at the stop. After each kill the heap passes the
 * audit, and no more than the block on its way is lost.
 */
#include "step.h"
#include <kselftest_harness.h>

#include "../../libdvsm/heap_chunk.h"
#include "../../libdvsm/heap_slab.h"

static void fill(struct work *work, size_t size, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		if (!work->cells[i])
			work_allocate(work, i, size);
}

static void fill_64(struct work *work) { fill(work, 64, CELLS); }
static void fill_1k(struct work *work) { fill(work, 1024, CELLS); }
static void fill_8k(struct work *work) { fill(work, 8192, 64); }
static void fill_24k(struct work *work) { fill(work, 24576, 16); }
static void drop_all(struct work *work) { drop(work, 0, CELLS); }
static void nothing(struct work *work) { (void)work; }

static void trim(struct work *work)
{
	dvsm_heap_trim(work->heap, 0);
}

/* The lane's log says that it had 200 chunks. */
static void trim_and_huge(struct work *work)
{
	dvsm_heap_trim(work->heap, 0);
	fill(work, 400 * MIB, 1);
	drop(work, 0, 1);
}

static void fill_64_and_trim(struct work *work)
{
	fill(work, 64, CELLS);
	dvsm_heap_trim(work->heap, 0);
}

static void warm_64(struct work *work)
{
	fill(work, 64, CELLS);
	drop(work, 0, CELLS);
}

static void run_malloc(struct work *work) { fill(work, 64, 4); }
static void run_large(struct work *work) { fill(work, 300000, 2); drop(work, 0, 2); }
static void run_huge(struct work *work) { fill(work, 5 * MIB, 1); drop(work, 0, 1); }
static void run_trim(struct work *work) { dvsm_heap_trim(work->heap, 0); }
static void run_drop_trim(struct work *work) { drop(work, 0, CELLS); dvsm_heap_trim(work->heap, 0); }

/* The next call that comes to the slabs looks for stacks that nobody has used since. */
static void look_for_age(struct work *work)
{
	work->heap->header->idle_ms = 1;
	atomic_store(&dvsm_heap_cpu(work->heap, (uint32_t)sched_getcpu())->aged, 1);
}

static void fill_64_and_look(struct work *work)
{
	fill(work, 64, CELLS);
	look_at_frees(work, 16);
}

static void idle_64_and_1k(struct work *work)
{
	dvsm_heap_trim(work->heap, 0);
	warm_64(work);
	fill_1k(work);
	drop_all(work);
	look_for_age(work);
	fill(work, 8192, 64);
	drop_all(work);
	look_for_age(work);
}

/* More than half of what the heap of the test has. */
static void run_most(struct work *work) { fill(work, 40 * MIB, 1); drop(work, 0, 1); }

#define OWNER	9

static void run_owned(struct work *work)
{
	uint32_t i;

	for (i = 0; i < 4; i++)
		work->cells[i] = dvsm_heap_malloc_owned(work->heap, i < 2 ? 8192 : 24576, OWNER);
	work->cells[4] = dvsm_heap_malloc_owned(work->heap, 3 * MIB, OWNER);
	drop(work, 0, 5);
}

static void run_recovery(struct work *work)
{
	dvsm_heap_check(work->heap, 0);
}

/* Every operation that a lane can be in. */
static void run_all(struct work *work)
{
	fill(work, 64, 64);
	fill(work, 24576, 80);
	fill(work, 3 * MIB, 81);
	drop(work, 0, CELLS);
	dvsm_heap_trim(work->heap, 0);
}

static void run_realloc(struct work *work)
{
	void *block = work->cells[0];

	/* On its way from here to the store; so are the old and the new one inside. */
	work->cells[0] = NULL;
	work->cells[0] = dvsm_heap_realloc(work->heap, block, 9000);
}

static void run_huge_realloc(struct work *work)
{
	fill(work, 3 * MIB, 1);
	work->cells[0] = dvsm_heap_realloc(work->heap, work->cells[0], 7 * MIB);
	work->cells[0] = dvsm_heap_realloc(work->heap, work->cells[0], 3 * MIB);
	drop(work, 0, 1);
}

/* Each begins with no blocks; what earlier victims left in stacks and slabs stays. */
static const struct scenario scenarios[] = {
	{ "malloc in a new heap", trim, run_malloc, 1 },
	{ "refill of 64 bytes", trim, fill_64, 1 },
	{ "refill, after a huge block", trim_and_huge, fill_64, 1 },
	{ "malloc from a warm stack", warm_64, run_malloc, 1 },
	{ "free to a warm stack", fill_64, drop_all, 1 },
	{ "free of 64 bytes, looked at", fill_64_and_look, drop_all, 1 },
	{ "free of 1 KiB, flush", fill_1k, drop_all, 1 },
	{ "refill of 8 KiB, growth", trim, fill_8k, 1 },
	{ "free of 8 KiB, slabs retire", fill_8k, drop_all, 1 },
	{ "24 KiB, slabs of several pages", trim, fill_24k, 1 },
	{ "free of 24 KiB", fill_24k, drop_all, 1 },
	{ "classes without stacks", trim, run_large, 1 },
	{ "blocks with an owner", trim, run_owned, 1 },
	{ "stacks that nobody uses", idle_64_and_1k, fill_24k, 1 },
	{ "huge blocks", nothing, run_huge, 1 },
	{ "huge realloc", nothing, run_huge_realloc, 1 },
	{ "realloc", fill_64_and_trim, run_realloc, 2 },
	{ "trim of a full heap", fill_8k, run_trim, 1 },
	{ "trim of an empty heap", fill_8k, run_drop_trim, 1 },
};
#define NR_SCENARIOS	(sizeof(scenarios) / sizeof(*scenarios))

/* DVSM_SCENARIOS: a part of the names of those that are wanted. */
static bool scenario_is_wanted(const struct scenario *scenario)
{
	const char *wish = getenv("DVSM_SCENARIOS");

	return !wish || strstr(scenario->name, wish);
}

#ifdef DVSM_HEAP_BROKEN
int dvsm_heap_broken = -1;

/* DVSM_BROKEN: what is left out. */
static void broken_choose(void)
{
	static const char *const names[] = {
		[DVSM_OP_TAKE] = "TAKE", [DVSM_OP_PUSH] = "PUSH", [DVSM_OP_PUT] = "PUT", [DVSM_OP_POP] = "POP",
		[DVSM_OP_GROUP] = "GROUP", [DVSM_OP_PAGES] = "PAGES", [DVSM_OP_FILL] = "FILL",
		[DVSM_OP_DRAIN] = "DRAIN", [DVSM_OP_UNPAGE] = "UNPAGE", [DVSM_OP_CHUNK] = "CHUNK",
		[DVSM_OP_OPEN] = "OPEN", [DVSM_OP_CLOSE] = "CLOSE", [DVSM_OP_FREE] = "FREE",
		[DVSM_BROKEN_HELP] = "HELP", [DVSM_BROKEN_SETTLE] = "SETTLE",
	};
	const char *wish = getenv("DVSM_BROKEN");
	int i;

	for (i = 0; wish && i < (int)(sizeof(names) / sizeof(*names)); i++)
		if (names[i] && !strcmp(names[i], wish))
			dvsm_heap_broken = i;
}
#else
static void broken_choose(void)
{
}
#endif

/* However slow the machine is: what is said of a share of the rounds must not be luck. */
#define ROUNDS_MIN	32

FIXTURE(step) {
	char unused;
};

FIXTURE_SETUP(step)
{
	broken_choose();
}

FIXTURE_TEARDOWN(step)
{
}

TEST_F_TIMEOUT(step, every_instruction, CAMPAIGN_MAX)
{
	double end, length = patience(20);
	struct places *places = malloc(sizeof(*places));
	struct work work = { .heap = heap_of(GIB) };
	long kills, missed, all_kills = 0, all_missed = 0, sections;
	struct dvsm_heap_account before, now;
	const struct scenario *scenario;
	const struct section *section;
	uint64_t seed = (uint64_t)getpid();
	size_t i, at, steps, nr = 0;
	pid_t pid;

	ASSERT_NE(NULL, work.heap);
	ASSERT_NE(NULL, places);
	ASSERT_LT((uintptr_t)__start___rseq_cs, (uintptr_t)__stop___rseq_cs);
	work.cells = shared_page(CELLS * sizeof(void *));
	for (i = 0; i < NR_SCENARIOS; i++)
		nr += scenario_is_wanted(&scenarios[i]);
	ASSERT_LT(0, nr);
	for (i = 0; i < NR_SCENARIOS; i++) {
		scenario = &scenarios[i];
		if (!scenario_is_wanted(scenario))
			continue;
		steps = places_learn(places, scenario, &work);
		ASSERT_LT(0, places->nr) TH_LOG("%s: nothing to kill at", scenario->name);
		ASSERT_GT(PLACES_MAX, places->nr);
		ASSERT_GT(STEPS_MAX, steps);
		sections = 0;
		for (at = 0; at < places->nr; at++)
			for (section = __start___rseq_cs; section < __stop___rseq_cs; section++)
				sections += places->at[at] - section->start < section->length;
		ASSERT_EQ(0, work_account(&work, 1, &before));
		kills = missed = 0;
		/* In an order of chance: where the time is short, another part each time. */
		for (at = places->nr; at > 1; at--) {
			size_t other = random_next(&seed) % at;
			uint64_t place = places->at[at - 1];

			places->at[at - 1] = places->at[other];
			places->at[other] = place;
		}
		end = seconds() + length / (double)nr;
		/* Who has more time than it takes goes over them again, in a heap that has lost nothing yet. */
		for (; !kills || seconds() < end; kills++) {
			at = (size_t)kills % places->nr;
			if (kills && !at) {
				drop(&work, 0, CELLS);
				dvsm_heap_destroy(work.heap);
				work.heap = heap_of(GIB);
				ASSERT_NE(NULL, work.heap);
				ASSERT_EQ(0, work_account(&work, 1, &before));
			}
			pid = victim_begin(scenario, &work);
			ASSERT_GT(pid, 0);
			missed += !victim_run_to(pid, places->at[at]);
			victim_end(pid);
			ASSERT_EQ(0, work_account(&work, 1, &now))
				TH_LOG("%s: killed at %#lx", scenario->name, places->at[at]);
			ASSERT_GE(now.out_lost_blocks, before.out_lost_blocks)
				TH_LOG("%s: killed at %#lx: a lost block is somebody's", scenario->name,
				       places->at[at]);
			ASSERT_LE(now.out_lost_blocks, before.out_lost_blocks + scenario->blocks)
				TH_LOG("%s: killed at %#lx: %lu blocks lost", scenario->name,
				       places->at[at], now.out_lost_blocks - before.out_lost_blocks);
			ASSERT_LE(now.out_lost, before.out_lost + scenario->blocks * WORK_BLOCK_MAX)
				TH_LOG("%s: killed at %#lx: more than its blocks' bytes lost", scenario->name,
				       places->at[at]);
			before = now;
		}
		ASSERT_LT(0, kills);
		all_kills += kills;
		all_missed += missed;
		TH_LOG("%-32s %6zu steps, %5ld of %5zu instructions (%ld in sections), %ld not reached",
		       scenario->name, steps, kills, places->nr, sections, missed);
	}
	/* A heap that others have died in is another one than was learned: about a fifth is not passed again. */
	EXPECT_LT(2 * all_missed, all_kills) TH_LOG("%ld of %ld killed nobody", all_missed, all_kills);
	dvsm_heap_destroy(work.heap);
}

/* Who wants memory that a dead one has in its hands gets it, from another CPU, too. */
TEST_F_TIMEOUT(step, what_the_dead_held_is_not_missing, CAMPAIGN_MAX)
{
	static const struct scenario scenario = { "most of the memory", nothing, run_most, 1 };
	struct places *places = malloc(sizeof(*places));
	struct work work = { .heap = heap_of(64 * MIB) };
	struct dvsm_heap_account account;
	uint64_t seed = (uint64_t)getpid(), place;
	long rounds = 0, lost = 0;
	void *block;
	double end;
	pid_t pid;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one CPU");
	ASSERT_NE(NULL, work.heap);
	ASSERT_NE(NULL, places);
	work.cells = shared_page(CELLS * sizeof(void *));
	places_learn(places, &scenario, &work);
	ASSERT_LT(0, places->nr);
	for (end = seconds() + patience(5); rounds < ROUNDS_MIN || seconds() < end; rounds++) {
		run_on(0);
		pid = victim_begin(&scenario, &work);
		ASSERT_GT(pid, 0);
		place = places->at[random_next(&seed) % places->nr];
		victim_run_to(pid, place);
		victim_end(pid);
		run_on(1);
		drop(&work, 0, 1);
		block = dvsm_heap_malloc(work.heap, 40 * MIB);
		dvsm_heap_free(work.heap, block);
		ASSERT_EQ(0, work_account(&work, 1, &account));
		ASSERT_TRUE(block || account.out_lost_blocks)
			TH_LOG("killed at %#lx: ENOMEM, and nothing is lost", place);
		/* How much is in use decides what free memory stays. */
		ASSERT_GE(64 * MIB, dvsm_heap_trim(work.heap, 0));
		ASSERT_GE(32, atomic_load(&work.heap->header->nr_used));
		if (!account.out_lost_blocks)
			continue;
		lost++;
		dvsm_heap_destroy(work.heap);
		work.heap = heap_of(64 * MIB);
		ASSERT_NE(NULL, work.heap);
	}
	TH_LOG("%ld victims, %ld lost their block", rounds, lost);
	EXPECT_LT(lost, rounds / 2);
	dvsm_heap_destroy(work.heap);
}

/* Where a victim is stopped, and until it is killed, others overwrite the tags of its steps: these are known to be done. */
TEST_F_TIMEOUT(step, others_pass_by_who_is_stopped, CAMPAIGN_MAX)
{
	static const struct scenario scenario = { "all operations", trim, run_all, 1 };
	struct places *places = malloc(sizeof(*places));
	struct work work[2] = { { .heap = heap_of(256 * MIB) } };
	struct dvsm_heap_account before, now;
	uint64_t seed = (uint64_t)getpid(), place;
	long rounds = 0, missed = 0;
	double end;
	pid_t pid;

	ASSERT_NE(NULL, work[0].heap);
	ASSERT_NE(NULL, places);
	work[0].cells = shared_page(CELLS * sizeof(void *));
	work[1] = (struct work){ .heap = work[0].heap, .cells = shared_page(CELLS * sizeof(void *)) };
	run_on(sched_getcpu());
	places_learn(places, &scenario, &work[0]);
	ASSERT_LT(0, places->nr);
	ASSERT_EQ(0, work_account(work, 2, &before));
	for (end = seconds() + patience(5); rounds < ROUNDS_MIN || seconds() < end; rounds++) {
		pid = victim_begin(&scenario, &work[0]);
		ASSERT_GT(pid, 0);
		place = places->at[random_next(&seed) % places->nr];
		missed += !victim_run_to(pid, place);
		run_all(&work[1]);
		victim_end(pid);
		ASSERT_EQ(0, work_account(work, 2, &now)) TH_LOG("stopped at %#lx", place);
		ASSERT_GE(now.out_lost_blocks, before.out_lost_blocks) TH_LOG("stopped at %#lx: a lost block is somebody's", place);
		ASSERT_LE(now.out_lost_blocks, before.out_lost_blocks + 1)
			TH_LOG("stopped at %#lx: %lu blocks lost", place, now.out_lost_blocks - before.out_lost_blocks);
		before = now;
	}
	TH_LOG("%ld victims, %ld not stopped", rounds, missed);
	EXPECT_LT(2 * missed, rounds);
	dvsm_heap_destroy(work[0].heap);
}

/*
 * An owner is killed anywhere, and who goes on in its name is stopped anywhere. What is in the hands of that one is not
 * the owner's yet.
 */
TEST_F_TIMEOUT(step, an_owner_is_freed_beside_its_recovery, CAMPAIGN_MAX)
{
	static const struct scenario dies = { "owner", trim, run_owned, 0 };
	static const struct scenario recovers = { "recovery", nothing, run_recovery, 0 };
	struct places *places = malloc(sizeof(*places));
	struct work work = { .heap = heap_of(256 * MIB) };
	long rounds = 0, amid = 0, busy = 0, nr;
	uint64_t seed = (uint64_t)getpid(), place;
	size_t steps;
	double end;
	pid_t pid;

	ASSERT_NE(NULL, work.heap);
	ASSERT_NE(NULL, places);
	work.cells = shared_page(CELLS * sizeof(void *));
	places_learn(places, &dies, &work);
	ASSERT_LT(0, places->nr);
	dvsm_heap_patience = 20;
	for (end = seconds() + patience(5); rounds < ROUNDS_MIN || seconds() < end; rounds++) {
		ASSERT_LE(0, dvsm_heap_owner_free(work.heap, OWNER));
		memset((void *)work.cells, 0, CELLS * sizeof(void *));
		pid = victim_begin(&dies, &work);
		ASSERT_GT(pid, 0);
		place = places->at[random_next(&seed) % places->nr];
		victim_run_to(pid, place);
		victim_end(pid);
		pid = victim_begin(&recovers, &work);
		ASSERT_GT(pid, 0);
		steps = victim_run_past(pid, (uint64_t)dvsm_lane_resume, random_next(&seed) % 800);
		nr = dvsm_heap_owner_free(work.heap, OWNER);
		ASSERT_TRUE(nr >= 0 || nr == -EBUSY);
		amid += !!steps;
		busy += nr < 0;
		ptrace(PTRACE_CONT, pid, 0, 0);
		waitpid(pid, NULL, 0);
		victim_end(pid);
		ASSERT_LE(0, dvsm_heap_owner_free(work.heap, OWNER));
		ASSERT_EQ(0, dvsm_heap_check(work.heap, 2))
			TH_LOG("killed at %#lx, recovery stopped after %zu steps: %ld", place, steps, nr);
		ASSERT_EQ(0, live_blocks(work.heap));
	}
	TH_LOG("%ld owners died, recovery was stopped %ld times and %ld times waited for", rounds, amid, busy);
	EXPECT_LT(0, amid);
	dvsm_heap_destroy(work.heap);
}

/* --- on the device, in an emulator, where a step takes a millisecond --- */

FIXTURE(device) {
	char unused;
};

FIXTURE_SETUP(device)
{
	if (access("/dev/dvsm", R_OK | W_OK))
		SKIP(return, "no /dev/dvsm");
	broken_choose();
}

FIXTURE_TEARDOWN(device)
{
}

/* run_all() calls each of them. */
static const void *const functions[] = {
	dvsm_lane_acquire, dvsm_lane_release, dvsm_refill, dvsm_flush, dvsm_slab_take, dvsm_slab_make, dvsm_slab_fill,
	dvsm_slab_emptied, dvsm_slabs_trim, dvsm_groups_put, dvsm_pages_take, dvsm_pages_put, dvsm_chunks_take,
	dvsm_chunks_free, dvsm_chunk_open, dvsm_chunk_close, dvsm_chunks_discard,
};
#define NR_FUNCTIONS	(sizeof(functions) / sizeof(*functions))
#define STEPS_BEYOND	512

/*
 * Every eighth victim is killed some steps beyond a call of one of the functions; the others at instructions that such ones
 * have passed. While every second one is stopped others pass by.
 */
TEST_F_TIMEOUT(device, a_sample_of_instructions, CAMPAIGN_MAX)
{
	static const struct scenario scenario = { "all operations", trim, run_all, 1 };
	struct places *places = calloc(1, sizeof(*places));
	struct work work[2] = { { .heap = heap_on(DVSM_BACKEND_DEVICE, GIB) } };
	struct dvsm_heap_account before, now;
	const char *wish = getenv("DVSM_SEED");
	uint64_t first = wish ? strtoul(wish, NULL, 0) : (uint64_t)time(NULL), seed = first, place;
	long rounds = 0, missed = 0, lost = 0, walked = 0;
	double end;
	pid_t pid;

	ASSERT_NE(NULL, work[0].heap);
	ASSERT_NE(NULL, places);
	work[0].cells = shared_page(CELLS * sizeof(void *));
	work[1] = (struct work){ .heap = work[0].heap, .cells = shared_page(CELLS * sizeof(void *)) };
	TH_LOG("DVSM_SEED=%lu", first);
	run_on(sched_getcpu());
	ASSERT_EQ(0, work_account(work, 2, &before));
	for (end = seconds() + 4 * patience(5); rounds < ROUNDS_MIN || seconds() < end; rounds++) {
		pid = victim_begin(&scenario, &work[0]);
		ASSERT_GT(pid, 0);
		if (rounds % 8) {
			place = places->at[random_next(&seed) % places->nr];
			missed += !victim_run_to(pid, place);
		} else {
			place = (uint64_t)functions[random_next(&seed) % NR_FUNCTIONS];
			if (victim_run_again(pid, place, random_next(&seed) % (1 + random_next(&seed) % 8)))
				walked += places_follow(places, pid, 1 + random_next(&seed) % STEPS_BEYOND);
			places_add(places, place);
		}
		place = victim_at(pid);
		if (random_next(&seed) % 2)
			run_all(&work[1]);
		victim_end(pid);
		ASSERT_EQ(0, work_account(work, 2, &now)) TH_LOG("killed at %#lx", place);
		ASSERT_GE(now.out_lost_blocks, before.out_lost_blocks) TH_LOG("killed at %#lx: a lost block is somebody's", place);
		ASSERT_LE(now.out_lost_blocks, before.out_lost_blocks + 1)
			TH_LOG("killed at %#lx: %lu blocks lost", place, now.out_lost_blocks - before.out_lost_blocks);
		lost += now.out_lost_blocks - before.out_lost_blocks;
		before = now;
	}
	TH_LOG("%ld victims at a sample of %zu instructions, learned in %ld steps; %ld not reached, %ld lost their block",
	       rounds, places->nr, walked, missed, lost);
	EXPECT_LT(2 * missed, rounds);
	dvsm_heap_destroy(work[0].heap);
}

TEST_HARNESS_MAIN
