// SPDX-License-Identifier: GPL-2.0-only
/*
 * Private heaps on the device: fork() gives the child a copy, which the kernel makes at the moment of the fork.
 */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <dvsm/watch.h>

#include "heap_test.h"
#include <kselftest_harness.h>

#define BLOCKS	20000

FIXTURE(device) {
	struct dvsm_heap *heap;
	char *blocks[BLOCKS];
};

FIXTURE_SETUP(device)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .flags = DVSM_HEAP_F_PRIVATE, .backend = DVSM_BACKEND_DEVICE,
	};

	self->heap = dvsm_heap_create(&options);
	if (!self->heap && !getenv("DVSM_VM"))
		SKIP(return, "no /dev/dvsm (load the module)");
	ASSERT_NE(NULL, self->heap) TH_LOG("%s", strerror(errno));
}

FIXTURE_TEARDOWN(device)
{
}

static size_t size_of(int i)
{
	return 16 + (size_t)i * 7919 % 2000;
}

/* Block i is full of what @seed makes of it. */
static void blocks_make(struct dvsm_heap *heap, char **blocks, int first, int end, int seed)
{
	int i;

	for (i = first; i < end; i++) {
		blocks[i] = dvsm_heap_malloc(heap, size_of(i));
		memset(blocks[i], (i + seed) & 0xff, size_of(i));
	}
}

static int blocks_wrong(char **blocks, int first, int end, int seed)
{
	int i, nr = 0;
	size_t at;

	for (i = first; i < end; i++)
		for (at = 0; at < size_of(i); at++)
			if (blocks[i][at] != (char)(i + seed)) {
				nr++;
				break;
			}
	return nr;
}

static void blocks_free(struct dvsm_heap *heap, char **blocks, int first, int end)
{
	int i;

	for (i = first; i < end; i++)
		dvsm_heap_free(heap, blocks[i]);
}

/* Regions of this user, and what they hold; a child's go a moment after it. */
static int regions(uint64_t *charged)
{
	struct dvsm_region_entry entries[64];
	uint64_t cursor = 0;
	int nr, i, total = 0;

	*charged = 0;
	while ((nr = dvsm_region_list(&cursor, entries, 64)) > 0)
		for (i = 0; i < nr; i++, total++)
			*charged += entries[i].charged;
	return total;
}

static bool regions_reach(int wanted, uint64_t *charged)
{
	double end = seconds() + HANG;

	while (regions(charged) != wanted && seconds() < end)
		usleep(10000);
	return regions(charged) == wanted;
}

static int nr_descriptors(void)
{
	int fd, nr = 0;

	for (fd = 0; fd < 256; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

TEST_F(device, children_and_grandchildren_go_their_own_ways)
{
	struct dvsm_heap *heap = self->heap;
	char **blocks = self->blocks;
	pid_t pid;

	blocks_make(heap, blocks, 0, BLOCKS, 1);
	pid = child_begin();
	if (!pid) {
		alarm(HANG);
		if (blocks_wrong(blocks, 0, BLOCKS, 1))
			_exit(1);
		blocks_free(heap, blocks, 0, BLOCKS / 2);
		blocks_make(heap, blocks, 0, BLOCKS / 2, 2);
		pid = child_begin();
		if (!pid) {
			if (blocks_wrong(blocks, 0, BLOCKS / 2, 2) ||
			    blocks_wrong(blocks, BLOCKS / 2, BLOCKS, 1))
				_exit(1);
			blocks_free(heap, blocks, 0, BLOCKS);
			_exit(dvsm_heap_check(heap, 2) ? 2 : 0);
		}
		blocks_free(heap, blocks, BLOCKS / 2, BLOCKS);
		blocks_make(heap, blocks, BLOCKS / 2, BLOCKS, 3);
		if (child_end(pid) || blocks_wrong(blocks, 0, BLOCKS / 2, 2) ||
		    blocks_wrong(blocks, BLOCKS / 2, BLOCKS, 3))
			_exit(3);
		_exit(dvsm_heap_check(heap, 2) ? 4 : 0);
	}
	blocks_free(heap, blocks, 0, 100);
	blocks_make(heap, blocks, 0, 100, 4);
	EXPECT_EQ(0, child_end(pid));
	EXPECT_EQ(0, blocks_wrong(blocks, 0, 100, 4));
	EXPECT_EQ(0, blocks_wrong(blocks, 100, BLOCKS, 1));
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
}

TEST_F(device, no_descriptor_is_needed_or_left)
{
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };
	int before = nr_descriptors(), fd;
	char *block;
	pid_t pid;

	EXPECT_EQ(-EOPNOTSUPP, dvsm_heap_fd(self->heap));
	EXPECT_EQ(NULL, dvsm_heap_region(self->heap));
	blocks_make(self->heap, self->blocks, 0, BLOCKS, 1);
	pid = child_begin();
	if (!pid) {
		alarm(HANG);
		for (fd = 3; fd < 256; fd++)
			close(fd);
		/* What goes back is the child's. */
		block = dvsm_heap_malloc(self->heap, 200 * MIB);
		memset(block, 1, 200 * MIB);
		dvsm_heap_free(self->heap, block);
		dvsm_heap_stats(self->heap, &stats);
		if (!stats.out_discarded || nr_descriptors() > 3)
			_exit(1);
		blocks_free(self->heap, self->blocks, 0, BLOCKS);
		if (!dvsm_heap_trim(self->heap, 0))
			_exit(2);
		block = dvsm_heap_calloc(self->heap, 1, 10 * MIB);
		for (fd = 0; fd < (int)(10 * MIB); fd++)
			if (block[fd])
				_exit(3);
		_exit(dvsm_heap_check(self->heap, 2) ? 4 : 0);
	}
	EXPECT_EQ(0, child_end(pid));
	EXPECT_EQ(before, nr_descriptors());
	EXPECT_EQ(0, blocks_wrong(self->blocks, 0, BLOCKS, 1));
}

TEST_F(device, memory_comes_back_with_the_child)
{
	uint64_t before, after;
	pid_t pid;
	int i;

	blocks_make(self->heap, self->blocks, 0, BLOCKS, 1);
	ASSERT_TRUE(regions_reach(1, &before));
	for (i = 0; i < 10; i++) {
		pid = child_begin();
		if (!pid) {
			blocks_free(self->heap, self->blocks, 0, BLOCKS);
			blocks_make(self->heap, self->blocks, 0, BLOCKS, 2);
			if (i & 1)
				raise(SIGKILL);
			_exit(0);
		}
		child_end(pid);
	}
	EXPECT_TRUE(regions_reach(1, &after));
	EXPECT_EQ(before, after);
	dvsm_heap_destroy(self->heap);
	EXPECT_TRUE(regions_reach(0, &after));
	EXPECT_EQ(0, after);
}

static _Atomic bool stop;

static void *play(void *argument)
{
	uint64_t seed = (uintptr_t)&seed;
	struct dvsm_heap *heap = argument;
	char *held[256] = { 0 };
	size_t size;
	uint32_t at;

	while (!stop) {
		at = random_next(&seed) % 256;
		dvsm_heap_free(heap, held[at]);
		size = random_next(&seed) % 64 ? 8 + random_next(&seed) % 1000 :
						 random_next(&seed) % (3 * MIB);
		held[at] = dvsm_heap_malloc(heap, size);
		if (held[at])
			held[at][0] = 1;
	}
	return NULL;
}

TEST_F(device, any_thread_forks_at_any_moment)
{
	double end = seconds() + patience(3);
	pthread_t threads[3];
	int i, nr, status = 0;
	pid_t pid;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, play, self->heap));
	blocks_make(self->heap, self->blocks, 0, 1000, 1);
	for (nr = 0; !status && seconds() < end; nr++) {
		/* By the C library, and behind its back: then nothing is recovered, but lanes are plenty. */
		pid = nr & 1 ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
		if (!pid) {
			alarm(HANG);
			if (blocks_wrong(self->blocks, 0, 1000, 1))
				_exit(1);
			blocks_free(self->heap, self->blocks, 0, 1000);
			blocks_make(self->heap, self->blocks, 0, 1000, 2);
			if (!(nr & 1) && dvsm_heap_check(self->heap, 2))
				_exit(2);
			_exit(blocks_wrong(self->blocks, 0, 1000, 2) ? 3 : 0);
		}
		ASSERT_LT(0, pid);
		status = child_end(pid);
	}
	EXPECT_EQ(0, status) TH_LOG("fork number %d", nr);
	stop = true;
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, blocks_wrong(self->blocks, 0, 1000, 1));
	EXPECT_EQ(0, dvsm_heap_check(self->heap, 2));
}

TEST_F(device, fork_that_fails_leaves_nothing)
{
	struct rlimit limit = { 1, 1 };
	uint64_t charged;
	pid_t pid;

	blocks_make(self->heap, self->blocks, 0, 1000, 1);
	pid = child_begin();
	if (!pid) {
		if (setuid(65534) || setrlimit(RLIMIT_NPROC, &limit))
			_exit(1);
		pid = fork();
		if (!pid)
			_exit(0);
		if (pid > 0 || errno != EAGAIN)
			_exit(2);
		blocks_free(self->heap, self->blocks, 0, 1000);
		_exit(dvsm_heap_check(self->heap, 2) ? 3 : 0);
	}
	EXPECT_EQ(0, child_end(pid));
	EXPECT_TRUE(regions_reach(1, &charged));
}

TEST_F(device, child_of_vfork_works_in_the_parents_heap)
{
	volatile int *word = dvsm_heap_malloc(self->heap, sizeof(*word));
	pid_t pid;

	*word = 1;
	pid = vfork();
	if (!pid) {
		*word = 2;
		_exit(0);
	}
	EXPECT_EQ(0, child_end(pid));
	EXPECT_EQ(2, *word);
}

TEST_HARNESS_MAIN
