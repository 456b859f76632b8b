// SPDX-License-Identifier: GPL-2.0-only
/* Blocks with owners: freed one by one like others, or all of an owner's at once, also after it was killed. */
#include <limits.h>

#include <dvsm/events.h>

#include "heap_test.h"
#include <kselftest_harness.h>

#include "lanes.h"

#include "../../libdvsm/heap_lane.h"

#define NR	3000

static size_t owned_size(uint64_t *seed)
{
	uint32_t kind = random_next(seed) % 100;

	return kind < 80 ? 1 + random_next(seed) % 2000 :
	       kind < 99 ? 1 + random_next(seed) % 200000 : 3 * MIB;
}

TEST(an_owners_blocks_go_and_others_stay)
{
	struct dvsm_heap *heap = heap_of(GIB);
	char *owned, *other[NR], *plain[NR];
	uint64_t seed = 1;
	int i;

	ASSERT_NE(NULL, heap);
	for (i = 0; i < NR; i++) {
		owned = dvsm_heap_malloc_owned(heap, owned_size(&seed), 7);
		other[i] = dvsm_heap_malloc_owned(heap, 100, 1ULL << 40 | 7);
		plain[i] = dvsm_heap_malloc(heap, 100);
		ASSERT_TRUE(owned && other[i] && plain[i]);
		ASSERT_EQ(0, (uintptr_t)owned % 16);
		memset(owned, 1, 1);
		memset(other[i], i, 100);
		memset(plain[i], i, 100);
	}
	EXPECT_EQ(NR, dvsm_heap_owner_free(heap, 7));
	EXPECT_EQ(0, dvsm_heap_owner_free(heap, 7));
	EXPECT_EQ(2 * NR, live_blocks(heap));
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	for (i = 0; i < NR; i++) {
		ASSERT_EQ((char)i, other[i][99]);
		ASSERT_EQ((char)i, plain[i][99]);
		dvsm_heap_free(heap, other[i]);
		dvsm_heap_free(heap, plain[i]);
	}
	EXPECT_EQ(0, live_blocks(heap));
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

TEST(realloc_keeps_the_owner)
{
	static const size_t sizes[] = { 10, 5000, 300000, 5 * MIB, 9 * MIB, 100 };
	struct dvsm_heap *heap = heap_of(GIB);
	char *block;
	size_t i;

	ASSERT_NE(NULL, heap);
	block = dvsm_heap_malloc_owned(heap, 10, 5);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		block = dvsm_heap_realloc(heap, block, sizes[i]);
		ASSERT_NE(NULL, block);
		EXPECT_LE(sizes[i], dvsm_heap_usable_size(heap, block));
	}
	EXPECT_EQ(1, dvsm_heap_owner_free(heap, 5));
	EXPECT_EQ(0, live_blocks(heap));
	dvsm_heap_destroy(heap);
}

TEST(no_owner_is_EINVAL)
{
	struct dvsm_heap *heap = heap_of(GIB);

	errno = 0;
	EXPECT_EQ(NULL, dvsm_heap_malloc_owned(heap, 1, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-EINVAL, dvsm_heap_owner_free(heap, 0));
	dvsm_heap_destroy(heap);
}

/* Nothing at all is lost of those that are killed, at any moment, inside free of all as well. */
TEST(nothing_is_lost_of_the_killed)
{
	struct dvsm_heap *heap = heap_of(GIB);
	double end = seconds() + patience(5);
	void *blocks[100] = { 0 };
	struct timespec pause = { 0 };
	uint64_t seed = 1, mine, nr = 0;
	pid_t pid[2];
	int i;

	ASSERT_NE(NULL, heap);
	/* The machine need not let the second run while the first one's blocks are freed. */
	dvsm_heap_patience = HANG * 1000;
	while (seconds() < end) {
		for (i = 0; i < 2; i++) {
			pid[i] = child_begin();
			mine = nr * 2 + (uint64_t)i + 1;
			seed += mine;
			for (; !pid[i]; ) {
				uint32_t slot = random_next(&seed) % 100;

				if (!blocks[slot]) {
					blocks[slot] = dvsm_heap_malloc_owned(heap, owned_size(&seed), mine);
				} else if (random_next(&seed) % 500) {
					dvsm_heap_free(heap, blocks[slot]);
					blocks[slot] = NULL;
				} else {
					dvsm_heap_owner_free(heap, mine);
					memset(blocks, 0, sizeof(blocks));
				}
			}
		}
		pause.tv_nsec = 500000 + random_next(&seed) % 3000000;
		nanosleep(&pause, NULL);
		for (i = 0; i < 2; i++) {
			kill(pid[i], SIGKILL);
			ASSERT_EQ(SIGKILL, child_end(pid[i]));
			EXPECT_LE(0, dvsm_heap_owner_free(heap, nr * 2 + (uint64_t)i + 1));
		}
		nr++;
		ASSERT_EQ(0, live_blocks(heap));
		ASSERT_EQ(0, dvsm_heap_check(heap, 2));
	}
	TH_LOG("%lu pairs killed", nr);
	dvsm_heap_destroy(heap);
}

struct freers {
	struct dvsm_heap *heap;
	pthread_barrier_t barrier;
	int rounds;
};

static void *owner_free_rounds(void *context)
{
	struct freers *freers = context;
	long nr = 0;
	int i;

	for (i = 0; i < freers->rounds; i++) {
		pthread_barrier_wait(&freers->barrier);
		nr += dvsm_heap_owner_free(freers->heap, 7);
		pthread_barrier_wait(&freers->barrier);
	}
	return (void *)nr;
}

TEST(two_who_free_the_same_owner_share_the_work)
{
	struct freers freers = { .heap = heap_of(GIB), .rounds = 300 };
	pthread_t threads[2];
	void *freed;
	long nr = 0;
	int i, j;

	ASSERT_NE(NULL, freers.heap);
	pthread_barrier_init(&freers.barrier, NULL, 3);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, owner_free_rounds, &freers));
	for (i = 0; i < freers.rounds; i++) {
		for (j = 0; j < 500; j++)
			ASSERT_NE(NULL, dvsm_heap_malloc_owned(freers.heap, 100 + j % 3 * 5000, 7));
		ASSERT_NE(NULL, dvsm_heap_malloc_owned(freers.heap, 3 * MIB, 7));
		pthread_barrier_wait(&freers.barrier);
		pthread_barrier_wait(&freers.barrier);
	}
	for (i = 0; i < 2; i++) {
		pthread_join(threads[i], &freed);
		nr += (long)freed;
	}
	EXPECT_EQ(501 * freers.rounds, nr);
	EXPECT_EQ(0, live_blocks(freers.heap));
	EXPECT_EQ(0, dvsm_heap_check(freers.heap, 2));
	dvsm_heap_destroy(freers.heap);
}

/* What the module would say, through a pipe: no test here needs the device. */
static void tell(int fd, uint64_t owner)
{
	struct dvsm_event event = { .cookie = owner };

	if (write(fd, &event, sizeof(event)) != (ssize_t)sizeof(event))
		abort();
}

TEST(deaths_are_not_forgotten_where_no_lane_is_to_be_had)
{
	struct dvsm_heap *heap = heap_of(GIB);
	struct lanes lanes;
	int pipes[2];

	ASSERT_NE(NULL, heap);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_NE(NULL, dvsm_heap_malloc_owned(heap, 100, 7));
	ASSERT_NE(NULL, dvsm_heap_malloc_owned(heap, 5 * MIB, 7));
	ASSERT_NE(NULL, dvsm_heap_malloc_owned(heap, 100, 8));
	tell(pipes[1], 7);
	tell(pipes[1], 8);
	ASSERT_EQ(0, lanes_take(&lanes, heap));
	EXPECT_EQ(-EBUSY, dvsm_heap_reap(heap, pipes[0]));
	lanes_give(&lanes);
	EXPECT_EQ(3, dvsm_heap_reap(heap, pipes[0]));
	EXPECT_EQ(0, dvsm_heap_reap(heap, pipes[0]));
	EXPECT_EQ(0, live_blocks(heap));
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

/* As who has the lane's lock of a dead thread, is at its work, and is stopped. */
static void lane_resume_begin(struct dvsm_heap *heap, uint32_t lane)
{
	__atomic_store_n(&heap->lanes[lane].lock.__data.__lock, getpid(), __ATOMIC_SEQ_CST);
}

static void lane_resume_end(struct dvsm_heap *heap, uint32_t lane)
{
	__atomic_store_n(&heap->lanes[lane].lock.__data.__lock, 0, __ATOMIC_SEQ_CST);
}

TEST(deaths_are_not_forgotten_where_a_stopped_thread_finishes_for_the_dead)
{
	struct dvsm_heap *heap = heap_of(64 * MIB);
	uint32_t lane;
	int pipes[2];

	ASSERT_NE(NULL, heap);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_NE(NULL, dvsm_heap_malloc_owned(heap, 100, 7));
	tell(pipes[1], 7);
	for (lane = 0; lane < heap->header->nr_lanes; lane += heap->header->nr_lanes - 1) {
		lane_resume_begin(heap, lane);
		EXPECT_EQ(-EBUSY, dvsm_heap_owner_free(heap, 7));
		EXPECT_EQ(-EBUSY, dvsm_heap_reap(heap, pipes[0]));
		lane_resume_end(heap, lane);
	}
	EXPECT_EQ(1, live_blocks(heap));
	EXPECT_EQ(1, dvsm_heap_reap(heap, pipes[0]));
	EXPECT_EQ(0, live_blocks(heap));
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

struct reapers {
	struct dvsm_heap *heap;
	int fd;
	_Atomic int round, nr_done;
};

static void *reap_rounds(void *context)
{
	struct reapers *reapers = context;
	int round, spin;

	for (round = 1;; round++) {
		for (spin = 0; atomic_load(&reapers->round) < round; spin++)
			if (spin > 1000)
				sched_yield();
		if (atomic_load(&reapers->round) == INT_MAX)
			return NULL;
		if (dvsm_heap_reap(reapers->heap, reapers->fd))
			abort();
		atomic_fetch_add(&reapers->nr_done, 1);
	}
}

/* Both see that there is something to read, and one of them finds it gone. */
TEST(reapers_of_one_descriptor_do_not_wait)
{
	struct reapers reapers = { .heap = heap_of(64 * MIB) };
	double end = seconds() + patience(4), begin;
	pthread_t threads[2];
	int pipes[2], i;

	ASSERT_NE(NULL, reapers.heap);
	ASSERT_EQ(0, pipe(pipes));
	reapers.fd = pipes[0];
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, reap_rounds, &reapers));
	for (i = 1; seconds() < end; i++) {
		begin = seconds();
		tell(pipes[1], 9);
		atomic_store(&reapers.round, i);
		while (atomic_load(&reapers.nr_done) < 2 * i) {
			ASSERT_GT(begin + HANG, seconds()) TH_LOG("a reaper waits in round %d", i);
			sched_yield();
		}
	}
	atomic_store(&reapers.round, INT_MAX);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	dvsm_heap_destroy(reapers.heap);
}

TEST_HARNESS_MAIN
