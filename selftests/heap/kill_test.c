// SPDX-License-Identifier: GPL-2.0-only
/*
 * SIGKILL at random: victims die 0.1 to 2 ms into their work, again and again. After each death the heap passes
 * the audit and has lost one block at most; and whoever survives goes on at speed.
 */
#include "crash_work.h"
#include <kselftest_harness.h>

#include "../../libdvsm/heap_lane.h"

static pid_t victim_begin(struct work *work, uint64_t seed)
{
	pid_t pid = child_begin();

	if (pid)
		return pid;
	work->seed = seed;
	for (;;)
		work_step(work);
}

static void wait_randomly(uint64_t *seed)
{
	struct timespec time = { .tv_nsec = 100000 + random_next(seed) % 1900000 };

	nanosleep(&time, NULL);
}

FIXTURE(kill) {
	char unused;
};

FIXTURE_VARIANT(kill) {
	uint32_t backend;
};

FIXTURE_VARIANT_ADD(kill, device) { .backend = DVSM_BACKEND_DEVICE, };
FIXTURE_VARIANT_ADD(kill, memfd) { .backend = DVSM_BACKEND_MEMFD, };

FIXTURE_SETUP(kill)
{
	if (variant->backend == DVSM_BACKEND_DEVICE && access("/dev/dvsm", R_OK | W_OK))
		SKIP(return, "no /dev/dvsm");
}

FIXTURE_TEARDOWN(kill)
{
}

TEST_F_TIMEOUT(kill, each_kill_loses_one_block_at_most, CAMPAIGN_MAX)
{
	double end = seconds() + patience(12);
	struct work work = { .heap = heap_on(variant->backend, 1 * GIB) };
	struct dvsm_heap_account before = { 0 }, now;
	uint64_t seed = (uint64_t)getpid();
	long kills = 0;
	pid_t pid;

	ASSERT_NE(NULL, work.heap);
	work.cells = shared_page(CELLS * sizeof(void *));
	while (kills <= 10 || seconds() < end) {
		pid = victim_begin(&work, random_next(&seed));
		wait_randomly(&seed);
		kill(pid, SIGKILL);
		ASSERT_EQ(SIGKILL, child_end(pid)) TH_LOG("victim of seed %d", getpid());
		kills++;
		ASSERT_EQ(0, work_account(&work, 1, &now)) TH_LOG("after %ld kills", kills);
		ASSERT_GE(now.out_lost_blocks, before.out_lost_blocks) TH_LOG("a lost block is somebody's after %ld kills", kills);
		ASSERT_LE(now.out_lost_blocks, before.out_lost_blocks + 1) TH_LOG("more than one block lost by kill %ld", kills);
		ASSERT_LE(now.out_lost, before.out_lost + WORK_BLOCK_MAX) TH_LOG("more than a block's bytes lost by kill %ld", kills);
		before = now;
	}
	TH_LOG("%ld kills, %lu blocks of %lu bytes lost", kills, before.out_lost_blocks, before.out_lost);
	EXPECT_GT(kills, 10);
	dvsm_heap_destroy(work.heap);
}

/* Three victims at a time, and a survivor that shares classes and CPUs with them. */
TEST_F_TIMEOUT(kill, survivors_go_on_while_others_die, CAMPAIGN_MAX)
{
	double end = seconds() + patience(8), pause;
	struct dvsm_heap *heap = heap_on(variant->backend, 1 * GIB);
	struct dvsm_heap_account account;
	long kills = 0, before;
	uint64_t seed = (uint64_t)getpid() + 1;
	struct work work[4];
	volatile long *progress;
	pid_t pids[4];
	int i;

	ASSERT_NE(NULL, heap);
	progress = shared_page(4096);
	for (i = 0; i < 4; i++)
		work[i] = (struct work){ .heap = heap, .cells = shared_page(CELLS * sizeof(void *)) };
	pids[3] = child_begin();
	if (!pids[3]) {
		work[3].seed = seed;
		for (;; ++*progress)
			work_step(&work[3]);
	}
	for (i = 0; i < 3; i++)
		pids[i] = victim_begin(&work[i], random_next(&seed));
	while (seconds() < end) {
		wait_randomly(&seed);
		i = (int)(random_next(&seed) % 3);
		kill(pids[i], SIGKILL);
		ASSERT_EQ(SIGKILL, child_end(pids[i]));
		pids[i] = victim_begin(&work[i], random_next(&seed));
		if (kills++ % 256)
			continue;
		/* A survivor that waits for a dead one would stand still. */
		before = *progress;
		pause = seconds() + HANG;
		while (*progress == before && seconds() < pause)
			usleep(1000);
		ASSERT_NE(before, *progress) TH_LOG("no progress after %ld kills", kills);
	}
	for (i = 0; i < 4; i++) {
		kill(pids[i], SIGKILL);
		ASSERT_EQ(SIGKILL, child_end(pids[i]));
		kills++;
	}
	ASSERT_EQ(0, work_account(work, 4, &account));
	TH_LOG("%ld kills, %lu blocks of %lu bytes lost", kills, account.out_lost_blocks, account.out_lost);
	ASSERT_LE(account.out_lost_blocks, (uint64_t)kills);
	ASSERT_LE(account.out_lost, account.out_lost_blocks * WORK_BLOCK_MAX);
	dvsm_heap_destroy(heap);
}

/*
 * Who dies before the first step of a drain, or after the last one of a fill, has nothing in hand, so the page may be
 * another slab's by now, with more words.
 */
TEST(the_heir_asks_the_log_what_a_slab_was)
{
	static const uint32_t ops[] = { DVSM_OP_DRAIN, DVSM_OP_FILL };
	struct dvsm_heap *heap = heap_of(256 * MIB);
	uint32_t page, number, small;
	struct dvsm_hold hold;
	void *blocks[2000];
	size_t i, op;
	pid_t pid;

	ASSERT_NE(NULL, heap);
	for (i = 0; i < 2000; i++)
		blocks[i] = dvsm_heap_malloc_owned(heap, 64, 1);
	page = (uint32_t)(dvsm_heap_offset_of(heap, blocks[1999]) >> DVSM_HEAP_PAGE_SHIFT);
	page -= heap->slabs[page].delta;
	number = heap->classes[page];
	for (small = 1; dvsm_heap_class(heap, small)->nr_blocks > 64; )
		small++;
	ASSERT_TRUE(dvsm_heap_class(heap, number)->nr_blocks > 64);
	for (op = 0; op < 2; op++) {
		pid = child_begin();
		if (!pid) {
			if (!dvsm_lane_acquire(heap, &hold))
				_exit(1);
			hold.log->page = page;
			hold.log->stack = small;
			dvsm_lane_begin(&hold, ops[op], 0);
			/* What a later step by another lane would have left. */
			if (ops[op] == DVSM_OP_FILL)
				atomic_store(&hold.lane->help, dvsm_state_seq(dvsm_lane_state(&hold)));
			raise(SIGKILL);
		}
		ASSERT_EQ(SIGKILL, child_end(pid));
		ASSERT_EQ(0, dvsm_heap_check(heap, 2));
		ASSERT_EQ(2000, live_blocks(heap)) TH_LOG("%s", op ? "fill" : "drain");
	}
	dvsm_heap_destroy(heap);
}

TEST_HARNESS_MAIN
