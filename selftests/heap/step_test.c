// SPDX-License-Identifier: GPL-2.0-only
/*
 * SIGKILL at every instruction of malloc, free, growth, trim and realloc; a stop at any of recovery.
 *
 * A victim is single-stepped through a scenario once, to learn which instructions it executes; then, for each of
 * them, a fresh victim runs up to a breakpoint there and is killed at the stop. A restartable sequence aborts when
 * it is single-stepped, so the instructions of those are found by decoding them, and stopped at like the others.
 * After each kill the heap passes the audit, and no more than the block on its way is lost.
 */
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include "crash_work.h"
#include <kselftest_harness.h>

#include "../../libdvsm/heap_lane.h"

/* What the compiler and the library put there for the kernel: restartable sequences. */
struct section {
	uint32_t version, flags;
	uint64_t start, length, abort;
};
extern struct section __start___rseq_cs[] __attribute__((weak));
extern struct section __stop___rseq_cs[] __attribute__((weak));

#define PLACES_MAX	20000
#define STEPS_MAX	200000

struct scenario {
	const char *name;
	void (*prepare)(struct work *work);
	void (*run)(struct work *work);
	int blocks;			/* on their way at most */
};

static void fill(struct work *work, size_t size, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		if (!work->cells[i])
			work_allocate(work, i, size);
}

static void drop(struct work *work, uint32_t first, uint32_t nr)
{
	uint32_t i;

	for (i = first; i < first + nr; i++)
		if (work->cells[i])
			work_free(work, i);
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
	{ "free of 1 KiB, flush", fill_1k, drop_all, 1 },
	{ "refill of 8 KiB, growth", trim, fill_8k, 1 },
	{ "free of 8 KiB, slabs retire", fill_8k, drop_all, 1 },
	{ "24 KiB, slabs of several pages", trim, fill_24k, 1 },
	{ "free of 24 KiB", fill_24k, drop_all, 1 },
	{ "classes without stacks", trim, run_large, 1 },
	{ "blocks with an owner", trim, run_owned, 1 },
	{ "huge blocks", nothing, run_huge, 1 },
	{ "huge realloc", nothing, run_huge_realloc, 1 },
	{ "realloc", fill_64_and_trim, run_realloc, 2 },
	{ "trim of a full heap", fill_8k, run_trim, 1 },
	{ "trim of an empty heap", fill_8k, run_drop_trim, 1 },
};

/* --- one victim --- */

/* Stops itself twice: before the scenario and after it. */
static pid_t victim_begin(const struct scenario *scenario, struct work *work)
{
	pid_t pid;
	cpu_set_t one;
	int status;

	drop(work, 0, CELLS);
	pid = child_begin();
	if (!pid) {
		CPU_ZERO(&one);
		CPU_SET(sched_getcpu(), &one);
		sched_setaffinity(0, sizeof(one), &one);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		scenario->prepare(work);
		raise(SIGSTOP);
		scenario->run(work);
		raise(SIGSTOP);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL);
	return pid;
}

static uint64_t victim_at(pid_t pid)
{
	struct user_regs_struct regs;

	return ptrace(PTRACE_GETREGS, pid, 0, &regs) ? 0 : regs.rip;
}

static void victim_end(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

static void victim_poke(pid_t pid, uint64_t place, uint8_t code)
{
	long word = ptrace(PTRACE_PEEKTEXT, pid, place, 0);

	ptrace(PTRACE_POKETEXT, pid, place, (word & ~0xffL) | code);
}

/* Lets it run to the next breakpoint, which it has not passed then. 0: it stopped for another reason. */
static uint64_t victim_continue(pid_t pid)
{
	struct user_regs_struct regs;
	int status;

	ptrace(PTRACE_CONT, pid, 0, 0);
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
		return 0;
	ptrace(PTRACE_GETREGS, pid, 0, &regs);
	regs.rip--;
	ptrace(PTRACE_SETREGS, pid, 0, &regs);
	return regs.rip;
}

/* Runs it to an instruction. False: it got to the scenario's end without passing there. */
static bool victim_run_to(pid_t pid, uint64_t place)
{
	victim_poke(pid, place, 0xcc);
	return victim_continue(pid) == place;
}

/* Runs it to an instruction and so many steps further, or to the scenario's end. Return: how many steps it took. */
static size_t victim_run_past(pid_t pid, uint64_t place, size_t nr)
{
	size_t i;
	int status;

	if (!victim_run_to(pid, place))
		return 0;
	victim_poke(pid, place, *(const uint8_t *)place);
	for (i = 0; i < nr; i++)
		if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) || waitpid(pid, &status, 0) != pid ||
		    !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
			break;
	return i;
}

/* --- which instructions --- */

struct places {
	uint64_t at[PLACES_MAX];
	size_t nr;
};

extern char __executable_start, etext;

static bool places_has(const struct places *places, uint64_t place)
{
	size_t i;

	for (i = places->nr; i-- > 0; )
		if (places->at[i] == place)
			return true;
	return false;
}

static void places_add(struct places *places, uint64_t place)
{
	if (places->nr < PLACES_MAX && !places_has(places, place))
		places->at[places->nr++] = place;
}

/* Length of an instruction, of the few forms that our sections have. */
static size_t instruction_length(const uint8_t *code)
{
	const uint8_t *at = code;
	uint8_t op, modrm;

	while (*at == 0x64 || *at == 0x66 || *at == 0x2e || *at == 0xf3)
		at++;
	if ((*at & 0xf0) == 0x40)
		at++;
	op = *at++;
	if (op == 0x0f && (*at & 0xf0) == 0x80)
		return (size_t)(at + 5 - code);
	if (op == 0x0f)
		op = *at++ == 0x6f || at[-1] == 0x7f ? 0x0f : 0xff;
	if ((op & 0xf0) == 0x70 || op == 0xeb)
		return (size_t)(at + 1 - code);
	if (op == 0xe9)
		return (size_t)(at + 4 - code);
	modrm = *at++;
	if ((modrm & 0xc0) != 0xc0) {
		if ((modrm & 7) == 4 && (*at++ & 7) == 5 && !(modrm & 0xc0))
			at += 4;
		if ((modrm & 0xc7) == 5)
			at += 4;
		at += (modrm & 0xc0) == 0x40 ? 1 : (modrm & 0xc0) == 0x80 ? 4 : 0;
	}
	if (op == 0x83 || op == 0xc1 || op == 0x6b)
		at++;
	else if (op == 0x81 || op == 0x69)
		at += 4;
	return (size_t)(at - code);
}

/* Where a jump goes; 0 for any other instruction. */
static uint64_t jump_target(uint64_t place)
{
	const uint8_t *code = (const uint8_t *)place;
	int32_t far;

	if ((code[0] & 0xf0) == 0x70 || code[0] == 0xeb)
		return place + 2 + (uint64_t)(int8_t)code[1];
	if (code[0] == 0xe9) {
		memcpy(&far, code + 1, sizeof(far));
		return place + 5 + (uint64_t)far;
	}
	if (code[0] == 0x0f && (code[1] & 0xf0) == 0x80) {
		memcpy(&far, code + 2, sizeof(far));
		return place + 6 + (uint64_t)far;
	}
	return 0;
}

/* The section that begins right after this instruction. */
static const struct section *section_after(uint64_t place)
{
	uint64_t next = place + instruction_length((const uint8_t *)place);
	const struct section *section;

	for (section = __start___rseq_cs; section < __stop___rseq_cs; section++)
		if (section->start == next)
			return section;
	return NULL;
}

/* Through a section at full speed, to whichever of its ends comes. Its instructions become places. */
static bool victim_cross(pid_t pid, struct places *places, const struct section *section)
{
	uint64_t end = section->start + section->length, at, exits[16] = { end };
	size_t nr = 1, i;

	for (at = section->start; at < end; at += instruction_length((const uint8_t *)at)) {
		places_add(places, at);
		if (jump_target(at) && jump_target(at) - section->start >= section->length && nr < 16)
			exits[nr++] = jump_target(at);
	}
	for (i = 0; i < nr; i++)
		victim_poke(pid, exits[i], 0xcc);
	at = victim_continue(pid);
	for (i = 0; i < nr; i++)
		victim_poke(pid, exits[i], *(const uint8_t *)exits[i]);
	if (at)
		places_add(places, at);
	return at;
}

/* The instructions that a victim passes on its way through the scenario. Return: how many steps it took. */
static size_t places_learn(struct places *places, const struct scenario *scenario,
			   struct work *work)
{
	pid_t pid = victim_begin(scenario, work);
	const struct section *section;
	uint64_t at = 0;
	size_t steps;
	int status;

	places->nr = 0;
	for (steps = 0; steps < STEPS_MAX; steps++) {
		section = at ? section_after(at) : NULL;
		if (section) {
			if (!victim_cross(pid, places, section))
				break;
		} else if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) || waitpid(pid, &status, 0) != pid ||
			   !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
			break;
		}
		at = victim_at(pid);
		if (at >= (uint64_t)&__executable_start && at < (uint64_t)&etext)
			places_add(places, at);
		else
			at = 0;
	}
	victim_end(pid);
	return steps;
}

FIXTURE(step) {
	char unused;
};

FIXTURE_SETUP(step)
{
}

FIXTURE_TEARDOWN(step)
{
}

TEST_F_TIMEOUT(step, every_instruction, CAMPAIGN_MAX)
{
	double end, each = patience(20) / (double)(sizeof(scenarios) / sizeof(*scenarios));
	struct places *places = malloc(sizeof(*places));
	struct work work = { .heap = heap_of(GIB) };
	long lost, now, kills, missed, all_kills = 0, all_missed = 0, sections;
	const struct scenario *scenario;
	const struct section *section;
	uint64_t seed = (uint64_t)getpid();
	size_t i, at, steps;
	pid_t pid;

	ASSERT_NE(NULL, work.heap);
	ASSERT_NE(NULL, places);
	ASSERT_LT((uintptr_t)__start___rseq_cs, (uintptr_t)__stop___rseq_cs);
	work.cells = shared_page(CELLS * sizeof(void *));
	for (i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++) {
		scenario = &scenarios[i];
		steps = places_learn(places, scenario, &work);
		ASSERT_LT(0, places->nr) TH_LOG("%s: nothing to kill at", scenario->name);
		ASSERT_GT(PLACES_MAX, places->nr);
		ASSERT_GT(STEPS_MAX, steps);
		sections = 0;
		for (at = 0; at < places->nr; at++)
			for (section = __start___rseq_cs; section < __stop___rseq_cs; section++)
				sections += places->at[at] - section->start < section->length;
		ASSERT_EQ(0, dvsm_heap_check(work.heap, 2));
		lost = live_blocks(work.heap) - work_cells_used(work.cells);
		kills = missed = 0;
		/* In an order of chance: where the time is short, another part each time. */
		for (at = places->nr; at > 1; at--) {
			size_t other = random_next(&seed) % at;
			uint64_t place = places->at[at - 1];

			places->at[at - 1] = places->at[other];
			places->at[other] = place;
		}
		end = seconds() + each;
		for (at = 0; at < places->nr && seconds() < end; at++) {
			pid = victim_begin(scenario, &work);
			ASSERT_GT(pid, 0);
			missed += !victim_run_to(pid, places->at[at]);
			victim_end(pid);
			kills++;
			ASSERT_EQ(0, dvsm_heap_check(work.heap, 2))
				TH_LOG("%s: killed at %#lx", scenario->name, places->at[at]);
			now = live_blocks(work.heap) - work_cells_used(work.cells);
			ASSERT_GE(now, lost)
				TH_LOG("%s: killed at %#lx: a live block is gone", scenario->name,
				       places->at[at]);
			ASSERT_LE(now, lost + scenario->blocks)
				TH_LOG("%s: killed at %#lx: %ld blocks lost", scenario->name,
				       places->at[at], now - lost);
			lost = now;
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
	for (end = seconds() + patience(5); seconds() < end; rounds++) {
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

TEST_HARNESS_MAIN
