// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions that fork() copies: what child and parent see, of which moment, by whatever
 * way the child was made, and that nothing is left of it.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fixture.h"
#include "dma/dma.h"

#define LENGTH	(8 * CHUNK)

FIXTURE(fork) {
	int dev;
	int fd;
	char *map;
	struct barrier *barrier;
};

FIXTURE_SETUP(fork)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, DVSM_REGION_F_FORK_COPY);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	self->barrier = barrier_make(2);
}

FIXTURE_TEARDOWN_PARENT(fork)
{
	EXPECT_NO_LEAK();
}

/* Each chunk is stamped for itself, so that parts of what was stamped can be looked at. */
static void chunks_stamp(char *addr, size_t length, uint64_t seed)
{
	size_t at;

	for (at = 0; at < length; at += CHUNK)
		stamp(addr + at, CHUNK, seed);
}

static size_t chunks_wrong(const char *addr, size_t length, uint64_t seed)
{
	size_t at, nr = 0;

	for (at = 0; at < length; at += CHUNK)
		nr += stamps_wrong(addr + at, CHUNK, seed);
	return nr;
}

static uint64_t region_id(int fd)
{
	struct dvsm_region_info info;

	return region_info(fd, &info) ? 0 : info.out_id;
}

static unsigned long nr_regions(int dev)
{
	struct dvsm_info info;

	return device_info(dev, &info) ? ~0UL : info.out_nr_regions;
}

static bool regions_reach(int dev, unsigned long nr)
{
	int tries;

	for (tries = 0; tries < 6000 && nr_regions(dev) != nr; tries++)
		sleep_ms(10);
	return nr_regions(dev) == nr;
}

/* remap_file_pages() maps anew what a mapping's file gives, which here is the parent's. */
TEST_F(fork, child_cannot_put_the_parents_memory_in_the_place_of_its_copy)
{
	char *map = self->map;
	pid_t pid;

	chunks_stamp(map, 2 * CHUNK, 1);
	pid = child_start();
	if (!pid) {
		barrier_wait(self->barrier);
		EXPECT_EQ(-1, remap_file_pages(map, CHUNK, 0, 0, 0));
		EXPECT_EQ(ENODEV, errno);
		EXPECT_EQ(-1, remap_file_pages(map, CHUNK, 0, CHUNK_PAGES, 0));
		EXPECT_EQ(0, chunks_wrong(map, 2 * CHUNK, 1));
		chunks_stamp(map, CHUNK, 3);
		_exit(_metadata->exit_code);
	}
	chunks_stamp(map, 2 * CHUNK, 2);
	barrier_wait(self->barrier);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, chunks_wrong(map, 2 * CHUNK, 2));
	EXPECT_EQ(-1, remap_file_pages(map, CHUNK, 0, 0, 0));
	EXPECT_EQ(0, chunks_wrong(map, 2 * CHUNK, 2));
}

/* The mapping's own file is not the one that was mapped, which lives as long all the same. */
TEST_F(fork, mapping_keeps_the_pins_of_the_file_that_was_mapped)
{
	int own = region_reopen(self->fd, 0);
	char *map = region_map(own, PAGE, 0);
	unsigned int i;

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, region_pin(own, 0, CHUNK));
	close(own);
	EXPECT_EQ(CHUNK, region_pinned(self->fd));
	munmap(map, PAGE);
	for (i = 0; i < 6000 && region_pinned(self->fd); i++)
		sleep_ms(10);
	EXPECT_EQ(0, region_pinned(self->fd));
}

/* Whose descriptor is of a part finds no more of it by a mapping; nor does a child. */
TEST_F(fork, mapping_of_an_exported_part_finds_no_region)
{
	int part = region_export(self->fd, CHUNK, PAGE);
	pid_t pid;
	char *map;

	ASSERT_LE(0, part);
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, part, 0);
	ASSERT_NE(MAP_FAILED, map);
	close(part);
	*map = 1;
	EXPECT_EQ(-ENOENT, region_find(self->dev, map, NULL));
	pid = child_start();
	if (!pid) {
		EXPECT_EQ(-ENOENT, region_find(self->dev, map, NULL));
		_exit(_metadata->exit_code);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_LT(0, region_pinned(self->fd));
}

TEST_F(fork, neither_sees_what_the_other_writes_later)
{
	char *map = self->map;
	pid_t pid;

	chunks_stamp(map, 4 * CHUNK, 1);
	pid = child_start();
	if (!pid) {
		barrier_wait(self->barrier);
		EXPECT_EQ(0, chunks_wrong(map, 4 * CHUNK, 1));
		EXPECT_TRUE(is_zero(map + 4 * CHUNK, 4 * CHUNK));
		chunks_stamp(map + CHUNK, CHUNK, 3);
		chunks_stamp(map + 5 * CHUNK, CHUNK, 3);
		barrier_wait(self->barrier);
		barrier_wait(self->barrier);
		EXPECT_EQ(0, chunks_wrong(map + CHUNK, CHUNK, 3));
		EXPECT_EQ(0, chunks_wrong(map + 2 * CHUNK, CHUNK, 1));
		EXPECT_EQ(0, chunks_wrong(map + 5 * CHUNK, CHUNK, 3));
		EXPECT_TRUE(is_zero(map + 6 * CHUNK, CHUNK));
		_exit(_metadata->exit_code);
	}
	chunks_stamp(map, CHUNK, 2);
	chunks_stamp(map + 4 * CHUNK, CHUNK, 2);
	barrier_wait(self->barrier);
	barrier_wait(self->barrier);
	EXPECT_EQ(0, chunks_wrong(map, CHUNK, 2));
	EXPECT_EQ(0, chunks_wrong(map + CHUNK, 3 * CHUNK, 1));
	EXPECT_TRUE(is_zero(map + 5 * CHUNK, 3 * CHUNK));
	chunks_stamp(map, LENGTH, 4);
	barrier_wait(self->barrier);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, chunks_wrong(map, LENGTH, 4));
}

TEST_F(fork, grandchildren_have_what_their_parent_had)
{
	char *map = self->map;
	pid_t pid;

	chunks_stamp(map, LENGTH, 1);
	pid = child_start();
	if (!pid) {
		chunks_stamp(map, CHUNK, 2);
		pid = child_start();
		if (!pid) {
			barrier_wait(self->barrier);
			EXPECT_EQ(0, chunks_wrong(map, CHUNK, 2));
			EXPECT_EQ(0, chunks_wrong(map + CHUNK, LENGTH - CHUNK, 1));
			chunks_stamp(map + 2 * CHUNK, CHUNK, 5);
			_exit(_metadata->exit_code);
		}
		chunks_stamp(map + CHUNK, CHUNK, 3);
		barrier_wait(self->barrier);
		EXPECT_EQ(0, child_wait(pid));
		EXPECT_EQ(0, chunks_wrong(map, CHUNK, 2));
		EXPECT_EQ(0, chunks_wrong(map + CHUNK, CHUNK, 3));
		EXPECT_EQ(0, chunks_wrong(map + 2 * CHUNK, LENGTH - 2 * CHUNK, 1));
		_exit(_metadata->exit_code);
	}
	chunks_stamp(map + 3 * CHUNK, CHUNK, 4);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, chunks_wrong(map, 3 * CHUNK, 1));
	EXPECT_EQ(0, chunks_wrong(map + 3 * CHUNK, CHUNK, 4));
}

TEST_F(fork, child_outlives_parent_and_its_generations)
{
	int pipe_fds[2], i;
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(pipe_fds));
	chunks_stamp(self->map, LENGTH, 1);
	pid = fork();
	if (!pid) {
		/* Each one writes a chunk of its own and leaves. */
		for (i = 0; i < 6; i++) {
			chunks_stamp(self->map + i * CHUNK, CHUNK, 2 + i);
			if (fork())
				_exit(0);
		}
		for (i = 0; i < 6; i++)
			if (chunks_wrong(self->map + i * CHUNK, CHUNK, 2 + i))
				_exit(1);
		if (chunks_wrong(self->map + 6 * CHUNK, 2 * CHUNK, 1))
			_exit(1);
		_exit(write(pipe_fds[1], "x", 1) != 1);
	}
	munmap(self->map, LENGTH);
	close(self->fd);
	EXPECT_EQ(0, child_wait(pid));
	close(pipe_fds[1]);
	EXPECT_EQ(1, read(pipe_fds[0], &byte, 1));
	EXPECT_TRUE(regions_reach(self->dev, 0));
}

TEST_F(fork, child_of_the_bare_system_call_has_a_copy_too)
{
	long pid;

	chunks_stamp(self->map, LENGTH, 1);
	pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	ASSERT_LE(0, pid);
	if (!pid) {
		chunks_stamp(self->map, LENGTH, 2);
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, chunks_wrong(self->map, LENGTH, 1));
}

TEST_F(fork, child_that_shares_the_memory_has_no_copy)
{
	volatile char *map = self->map;
	pid_t pid = vfork();

	if (!pid) {
		map[0] = 1;
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(1, map[0]);
	EXPECT_EQ(1, nr_regions(self->dev));
}

TEST_F(fork, descriptors_share_as_ever)
{
	char *map = self->map, *own;
	pid_t pid;

	chunks_stamp(map, LENGTH, 1);
	pid = child_start();
	if (!pid) {
		own = region_map(self->fd, LENGTH, 0);
		barrier_wait(self->barrier);
		EXPECT_EQ(0, chunks_wrong(own, CHUNK, 2));
		EXPECT_EQ(0, chunks_wrong(map, CHUNK, 1));
		chunks_stamp(own + CHUNK, CHUNK, 3);
		EXPECT_EQ(0, chunks_wrong(map + CHUNK, CHUNK, 1));
		_exit(_metadata->exit_code);
	}
	chunks_stamp(map, CHUNK, 2);
	barrier_wait(self->barrier);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, chunks_wrong(map + CHUNK, CHUNK, 3));
}

TEST_F(fork, all_stay_huge)
{
	pid_t pid;

	chunks_stamp(self->map, LENGTH, 1);
	pid = child_start();
	if (!pid) {
		EXPECT_EQ(0, chunks_wrong(self->map, LENGTH, 1));
		EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
		self->map[0]++;
		self->map[CHUNK + 5 * PAGE]++;
		EXPECT_TRUE(is_huge_mapped(self->map, CHUNK) || read_at(self->map) == 0);
		EXPECT_EQ(0, chunks_wrong(self->map + 2 * CHUNK, LENGTH - 2 * CHUNK, 1));
		EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
		_exit(_metadata->exit_code);
	}
	EXPECT_EQ(0, child_wait(pid));
	chunks_stamp(self->map, LENGTH, 2);
	EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
}

/*
 * A thread writes the same number to a word of the region, to one of other memory, and to
 * two more in other chunks. What a child finds must be what was there at one moment: the numbers
 * do not grow from one to the next, and differ by one at most.
 */
#define MARKS	6

struct marks {
	volatile unsigned long *at[MARKS];
	volatile bool stop;
};

static void *marks_write(void *argument)
{
	struct marks *marks = argument;
	unsigned long number;
	int i;

	for (number = 1; !marks->stop; number++)
		for (i = 0; i < MARKS; i++)
			__atomic_store_n(marks->at[i], number, __ATOMIC_SEQ_CST);
	return NULL;
}

static bool marks_are_of_one_moment(const struct marks *marks)
{
	int i;

	for (i = 1; i < MARKS; i++)
		if (*marks->at[i] > *marks->at[i - 1])
			return false;
	return *marks->at[0] - *marks->at[MARKS - 1] <= 1;
}

TEST_F(fork, child_sees_one_moment_of_each_thread)
{
	struct marks marks[2] = { 0 };
	unsigned long begun = clock_ms();
	char *below, *above;
	pthread_t threads[2];
	int i, status = 0, nr;
	pid_t pid;

	/* Memory that fork() copies before the region, and after it. */
	below = mmap(self->map - GIB, PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	above = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, below);
	ASSERT_NE(MAP_FAILED, above);
	for (i = 0; i < 2; i++) {
		marks[i].at[0] = (unsigned long *)(self->map + i * 64);
		marks[i].at[1] = (unsigned long *)(below + i * 64);
		marks[i].at[2] = (unsigned long *)(self->map + 2 * CHUNK + i * 64);
		marks[i].at[3] = (unsigned long *)(above + i * 64);
		marks[i].at[4] = (unsigned long *)(self->map + LENGTH - PAGE + i * 64);
		marks[i].at[5] = (unsigned long *)(self->map + CHUNK + i * 64);
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, marks_write, &marks[i]));
	}
	for (nr = 0; !status && (nr < 50 || clock_ms() - begun < 3000); nr++) {
		pid = fork();
		if (!pid)
			_exit(marks_are_of_one_moment(&marks[0]) &&
			      marks_are_of_one_moment(&marks[1]) ? 0 : 1);
		status = child_wait(pid);
	}
	EXPECT_EQ(0, status) TH_LOG("fork number %d", nr);
	for (i = 0; i < 2; i++) {
		marks[i].stop = true;
		pthread_join(threads[i], NULL);
	}
	EXPECT_TRUE(regions_reach(self->dev, 1));
}

TEST_F(fork, parts_that_were_cut_and_moved_are_copied_each)
{
	char *map = self->map, *moved;
	pid_t pid;

	chunks_stamp(map, LENGTH, 1);
	ASSERT_EQ(0, mprotect(map + CHUNK + 8 * PAGE, PAGE, PROT_READ));
	ASSERT_EQ(0, munmap(map + 4 * CHUNK, CHUNK));
	moved = mremap(map + 6 * CHUNK, CHUNK, CHUNK, MREMAP_MAYMOVE | MREMAP_FIXED,
		       map + 4 * CHUNK);
	ASSERT_EQ(map + 4 * CHUNK, moved);
	pid = child_start();
	if (!pid) {
		ASSERT_EQ(0, mprotect(map + CHUNK + 8 * PAGE, PAGE, PROT_READ | PROT_WRITE));
		barrier_wait(self->barrier);
		EXPECT_EQ(0, chunks_wrong(map, 4 * CHUNK, 1));
		/* A chunk in three mappings, each of which has a copy; then in fewer. */
		map[CHUNK]++;
		map[CHUNK + 8 * PAGE]++;
		map[CHUNK + 9 * PAGE]++;
		map[CHUNK]--;
		map[CHUNK + 8 * PAGE]--;
		map[CHUNK + 9 * PAGE]--;
		EXPECT_EQ(0, chunks_wrong(map, 4 * CHUNK, 1));
		moved = mremap(map + 4 * CHUNK, CHUNK, CHUNK, MREMAP_MAYMOVE | MREMAP_FIXED,
			       map + 6 * CHUNK);
		ASSERT_EQ(map + 6 * CHUNK, moved);
		EXPECT_EQ(0, chunks_wrong(map + 5 * CHUNK, 3 * CHUNK, 1));
		chunks_stamp(map, 4 * CHUNK, 3);
		_exit(_metadata->exit_code);
	}
	ASSERT_EQ(0, mprotect(map + CHUNK + 8 * PAGE, PAGE, PROT_READ | PROT_WRITE));
	chunks_stamp(map, 4 * CHUNK, 2);
	chunks_stamp(map + 4 * CHUNK, CHUNK, 2);
	chunks_stamp(map + 5 * CHUNK, CHUNK, 2);
	barrier_wait(self->barrier);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, chunks_wrong(map, 4 * CHUNK, 2));
}

TEST_F(fork, memory_comes_back_with_the_child)
{
	struct dvsm_info before;
	pid_t pid;
	int i;

	chunks_stamp(self->map, LENGTH, 1);
	ASSERT_EQ(0, device_info(self->dev, &before));
	for (i = 0; i < 20; i++) {
		pid = child_start();
		if (!pid) {
			if (i & 1)
				chunks_stamp(self->map, LENGTH, 2);
			if (i & 2)
				raise(SIGKILL);
			_exit(0);
		}
		if (i & 4)
			chunks_stamp(self->map, 2 * CHUNK, 1);
		child_wait(pid);
	}
	EXPECT_TRUE(regions_reach(self->dev, 1));
	/* A region leaves the list before its memory goes. */
	EXPECT_EQ(0, stats_reach("pages", before.out_charged / PAGE, 60));
	EXPECT_EQ(0, chunks_wrong(self->map, LENGTH, 1));
}

static void *read_slowly(void *addr)
{
	return (void *)(uintptr_t)read_at(addr);
}

/*
 * The copy's own memory is mapped where the core does not look for it. Nothing was there
 * when it was taken, so it is discarded as any region's; the edges of a range are waited for
 * in any case.
 */
TEST_F(fork, fault_under_way_does_not_map_what_is_discarded)
{
	void *seen = NULL;
	pthread_t reader;
	pid_t pid;

	ASSERT_EQ(0, write_text("/sys/kernel/debug/dvsm/delay_us", "300000"));
	pid = child_start();
	if (!pid) {
		int fd;

		/* Of what stays mapped discard would wait for ever. */
		alarm(60);
		chunks_stamp(self->map, 3 * CHUNK, 2);
		fd = region_find(self->dev, self->map, NULL);
		if (fd < 0 || madvise(self->map, 3 * CHUNK, MADV_DONTNEED) ||
		    pthread_create(&reader, NULL, read_slowly, self->map + CHUNK))
			_exit(1);
		sleep_ms(100);
		if (region_discard(fd, 0, 3 * CHUNK, NULL) || pthread_join(reader, &seen) || seen)
			_exit(2);
		_exit(is_zero(self->map, 3 * CHUNK) ? 0 : 3);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, write_text("/sys/kernel/debug/dvsm/delay_us", "0"));
	EXPECT_TRUE(is_zero(self->map, 3 * CHUNK));
}

TEST_F(fork, many_children_write_at_once)
{
	struct barrier *barrier = barrier_make(9);
	pid_t pids[8];
	int i;

	chunks_stamp(self->map, LENGTH, 1);
	for (i = 0; i < 8; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			barrier_wait(barrier);
			chunks_stamp(self->map + (i & 3) * CHUNK, CHUNK, 10 + i);
			barrier_wait(barrier);
			EXPECT_EQ(0, chunks_wrong(self->map + (i & 3) * CHUNK, CHUNK, 10 + i));
			EXPECT_EQ(0, chunks_wrong(self->map + ((i + 1) & 3) * CHUNK, CHUNK, 1));
			EXPECT_EQ(0, chunks_wrong(self->map + 4 * CHUNK, 4 * CHUNK, 1));
			_exit(_metadata->exit_code);
		}
	}
	barrier_wait(barrier);
	chunks_stamp(self->map + 4 * CHUNK, 4 * CHUNK, 2);
	barrier_wait(barrier);
	for (i = 0; i < 8; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	EXPECT_EQ(0, chunks_wrong(self->map, 4 * CHUNK, 1));
	EXPECT_EQ(0, chunks_wrong(self->map + 4 * CHUNK, 4 * CHUNK, 2));
}

TEST_F(fork, fork_that_fails_leaves_nothing)
{
	struct rlimit limit = { 1, 1 };
	int status = 0;
	pid_t pid;

	chunks_stamp(self->map, LENGTH, 1);
	pid = child_start();
	if (!pid) {
		if (become_nobody() || setrlimit(RLIMIT_NPROC, &limit))
			_exit(2);
		pid = fork();
		if (!pid)
			_exit(0);
		if (pid >= 0 || errno != EAGAIN)
			_exit(3);
		_exit(chunks_wrong(self->map, LENGTH, 1) ? 4 : 0);
	}
	status = child_wait(pid);
	EXPECT_EQ(0, status);
	EXPECT_TRUE(regions_reach(self->dev, 1));
}

TEST_F(fork, descriptor_is_found_by_address)
{
	struct dvsm_region_info info;
	uint64_t id = region_id(self->fd), offset;
	char *map = self->map;
	pid_t pid;
	int fd;

	chunks_stamp(map, LENGTH, 1);
	close(self->fd);
	fd = region_find(self->dev, map + CHUNK + 5, &offset);
	ASSERT_LE(0, fd);
	EXPECT_EQ(CHUNK + 5, offset);
	EXPECT_EQ(id, region_id(fd));
	EXPECT_EQ(O_RDWR, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	pid = child_start();
	if (!pid) {
		fd = region_find(self->dev, map, &offset);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, region_info(fd, &info));
		EXPECT_EQ(id, info.out_parent_id);
		EXPECT_NE(id, info.out_id);
		EXPECT_EQ(DVSM_REGION_F_FORK_COPY, info.out_flags);
		/* What is its own it can do without: the parent's is not concerned. */
		EXPECT_EQ(0, region_discard(fd, 0, 2 * CHUNK, NULL));
		EXPECT_TRUE(is_zero(map, 2 * CHUNK));
		EXPECT_EQ(0, chunks_wrong(map + 2 * CHUNK, CHUNK, 1));
		chunks_stamp(map, CHUNK, 2);
		EXPECT_EQ(0, chunks_wrong(region_map(fd, CHUNK, 0), CHUNK, 2));
		_exit(_metadata->exit_code);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, chunks_wrong(map, LENGTH, 1));
}

TEST_F(fork, copy_can_be_mapped_by_its_descriptor_and_outlive_its_mapping)
{
	char *map = self->map, *own;
	pid_t pid;
	int fd;

	chunks_stamp(map, LENGTH, 1);
	pid = child_start();
	if (!pid) {
		fd = region_find(self->dev, map, NULL);
		ASSERT_LE(0, fd);
		own = region_map(fd, LENGTH, 0);
		chunks_stamp(own, CHUNK, 2);
		EXPECT_EQ(0, chunks_wrong(map, CHUNK, 2));
		chunks_stamp(map + CHUNK, CHUNK, 3);
		EXPECT_EQ(0, chunks_wrong(own + CHUNK, CHUNK, 3));
		EXPECT_EQ(0, chunks_wrong(own + 2 * CHUNK, CHUNK, 1));
		barrier_wait(self->barrier);
		barrier_wait(self->barrier);
		munmap(map, LENGTH);
		close(self->fd);
		EXPECT_EQ(0, chunks_wrong(own + 2 * CHUNK, LENGTH - 2 * CHUNK, 1));
		EXPECT_EQ(0, chunks_wrong(own, CHUNK, 2));
		_exit(_metadata->exit_code);
	}
	barrier_wait(self->barrier);
	chunks_stamp(map, LENGTH, 4);
	EXPECT_EQ(0, region_discard(self->fd, 4 * CHUNK, CHUNK, NULL));
	barrier_wait(self->barrier);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, chunks_wrong(map, 4 * CHUNK, 4));
}

TEST_F(fork, find_answers_enoent_where_no_region_is)
{
	char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = region_reopen(self->fd, DVSM_REOPEN_F_READ_ONLY);
	char *map = mmap(NULL, CHUNK, PROT_READ, MAP_SHARED, fd, CHUNK);
	uint64_t offset;

	EXPECT_EQ(-ENOENT, region_find(self->dev, page, NULL));
	EXPECT_EQ(-ENOENT, region_find(self->dev, NULL, NULL));
	EXPECT_EQ(-ENOENT, region_find(self->dev, (void *)-1L, NULL));
	EXPECT_EQ(-ENOENT, region_find(self->dev, self->map + LENGTH, NULL));
	close(fd);
	fd = region_find(self->dev, map, &offset);
	ASSERT_LE(0, fd);
	EXPECT_EQ(CHUNK, offset);
	EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
}

TEST_F(fork, devices_exclude_it_and_snapshots_inherit_it)
{
	struct dvsm_snapshot_take take = { .size = sizeof(take) };
	struct dvsm_region_info info;
	int fd;

	EXPECT_EQ(-EINVAL, region_create(self->dev, CHUNK, DVSM_REGION_F_FORK_COPY |
							    DVSM_REGION_F_REGISTRABLE));
	EXPECT_EQ(-EINVAL, region_create(self->dev, CHUNK, DVSM_REGION_F_FORK_COPY |
							    DVSM_REGION_F_PINNED));
	fd = ioctl(self->fd, DVSM_IOC_SNAPSHOT_TAKE, &take);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(DVSM_REGION_F_FORK_COPY, info.out_flags);
}

/* The kernel would punch a hole into the region that was copied. */
TEST_F(fork, madvise_remove_is_refused_and_harms_nobody)
{
	pid_t pid;

	chunks_stamp(self->map, LENGTH, 1);
	pid = child_start();
	if (!pid)
		_exit(!madvise(self->map, CHUNK, MADV_REMOVE) || errno != EOPNOTSUPP);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(-1, madvise(self->map, CHUNK, MADV_REMOVE));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(-1, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, CHUNK));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(0, chunks_wrong(self->map, LENGTH, 1));
}

TEST_F(fork, mapping_does_not_grow)
{
	EXPECT_EQ(MAP_FAILED, mremap(self->map, CHUNK, 2 * CHUNK, 0));
	EXPECT_EQ(MAP_FAILED, mremap(self->map, LENGTH, 2 * LENGTH, MREMAP_MAYMOVE));
}

TEST_F(fork, children_run_other_programs)
{
	unsigned long begun = clock_ms();
	int nr, status;
	pid_t pid;

	chunks_stamp(self->map, LENGTH, 1);
	for (nr = 0; nr < 20 || clock_ms() - begun < 500; nr++) {
		pid = fork();
		if (!pid) {
			self->map[0]++;
			execl("/nonexistent", "nonexistent", NULL);
			_exit(errno == ENOENT ? 0 : 1);
		}
		status = child_wait(pid);
		ASSERT_EQ(0, status);
	}
	EXPECT_EQ(0, chunks_wrong(self->map, LENGTH, 1));
	EXPECT_TRUE(regions_reach(self->dev, 1));
}

/* The copy that a process has is mapped anew, so that the next one's is of that. */
static char *map_of_its_own(int dev, char *map)
{
	int fd = region_find(dev, map, NULL);
	char *own = region_map(fd, LENGTH, 0);

	munmap(map, LENGTH);
	close(fd);
	return own;
}

TEST_F(fork, generations_without_end_are_let_go_of)
{
	enum { NR = 400 };
	char *map = self->map, byte = 1;
	int i, done[2];
	pid_t pid;

	chunks_stamp(map, LENGTH, 1);
	ASSERT_EQ(0, pipe(done));
	pid = child_start();
	for (i = 0; !pid && i < NR; i++) {
		/* Each is there while the next one is made, and no longer. */
		if (fork())
			_exit(0);
		map = map_of_its_own(self->dev, map);
		if (map == MAP_FAILED)
			_exit(1);
	}
	if (!pid) {
		byte = chunks_wrong(map, LENGTH, 1) != 0;
		_exit(write(done[1], &byte, 1) != 1);
	}
	close(done[1]);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(1, read(done[0], &byte, 1));
	EXPECT_EQ(0, byte);
	EXPECT_TRUE(regions_reach(self->dev, 1));
	EXPECT_EQ(0, chunks_wrong(self->map, LENGTH, 1));
}

TEST_HARNESS_MAIN
