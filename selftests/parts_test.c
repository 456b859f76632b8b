// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshots whose writes copy less than a chunk: what is copied, who sees what, what
 * it costs in memory and in huge mappings, and how both come back.
 */
#include "snapshot.h"
#include <sys/uio.h>

#define NR_CHUNKS	8
#define LENGTH		(NR_CHUNKS * CHUNK)

FIXTURE(parts)
{
	int dev;
	int fd;
	char *map;
};

FIXTURE_SETUP(parts)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	stamp(self->map, LENGTH, 1);
}

FIXTURE_TEARDOWN_PARENT(parts)
{
	EXPECT_NO_LEAK();
}

static unsigned long nr_pages(void)
{
	struct counts counts = {};

	counts_read(&counts);
	return counts.pages;
}

/* A snapshot, mapped. */
static char *take(int fd, uint64_t granularity, uint32_t flags, int *snapshot)
{
	*snapshot = snapshot_take_in_parts(fd, granularity, flags);
	if (*snapshot < 0)
		return MAP_FAILED;
	return region_map(*snapshot, LENGTH, 0);
}

static char *remap(char *map, int fd)
{
	munmap(map, LENGTH);
	return region_map(fd, LENGTH, 0);
}

static void touch_all(char *map)
{
	for (size_t at = 0; at < LENGTH; at += PAGE)
		(void)*(volatile char *)(map + at);
}

TEST_F(parts, write_copies_what_was_asked_for)
{
	static const uint64_t granularities[] = { 4096, 65536, CHUNK };

	for (int i = 0; i < ARRAY_SIZE(granularities); i++) {
		for (int side = 0; side < 2; side++) {
			unsigned long before;
			int snapshot;
			char *old = take(self->fd, granularities[i], 0, &snapshot);

			ASSERT_NE(MAP_FAILED, old);
			before = nr_pages();
			ASSERT_EQ(0, write_at((side ? old : self->map) + 5 * PAGE + 100, 3));
			EXPECT_EQ(granularities[i] / PAGE, nr_pages() - before);
			EXPECT_EQ(0, stamps_wrong(side ? self->map : old, LENGTH, 1));
			ASSERT_EQ(0, munmap(old, LENGTH));
			close(snapshot);
			self->map[5 * PAGE + 100] = 0;
		}
	}
}

TEST_F(parts, one_page_in_a_hundred_costs_less_than_two_percent)
{
	int snapshot;
	char *old = take(self->fd, 4096, 0, &snapshot);
	unsigned long before, extra;

	ASSERT_NE(MAP_FAILED, old);
	before = nr_pages();
	for (size_t page = 7; page < LENGTH / PAGE; page += 100)
		self->map[page * PAGE + 64] = 1;
	extra = nr_pages() - before;
	EXPECT_LT(0, extra);
	EXPECT_GT(before * 15 / 1000, extra);
	EXPECT_EQ(0, stamps_wrong(old, LENGTH, 1));
}

TEST_F(parts, huge_mappings_and_memory_are_back_when_the_snapshot_is_gone)
{
	unsigned long before = nr_pages();
	int snapshot;
	char *old = take(self->fd, 4096, 0, &snapshot);

	ASSERT_NE(MAP_FAILED, old);
	for (size_t chunk = 0; chunk < NR_CHUNKS; chunk++)
		self->map[chunk * CHUNK + 9 * PAGE + 64] = 7;
	EXPECT_EQ(before + NR_CHUNKS, nr_pages());
	/* Who has no part of his own keeps the huge folio, and maps it. */
	EXPECT_EQ(0, stamps_wrong(old, LENGTH, 1));
	EXPECT_TRUE(is_huge_mapped(old, LENGTH));
	EXPECT_FALSE(is_huge_mapped(self->map, LENGTH));
	ASSERT_EQ(0, munmap(old, LENGTH));
	close(snapshot);
	self->map = remap(self->map, self->fd);
	ASSERT_NE(MAP_FAILED, self->map);
	touch_all(self->map);
	EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
	EXPECT_EQ(before, nr_pages());
	for (size_t chunk = 0; chunk < NR_CHUNKS; chunk++)
		EXPECT_EQ(7, self->map[chunk * CHUNK + 9 * PAGE + 64]);
}

TEST_F(parts, adaptive_snapshot_that_diverged_much_is_huge_again)
{
	struct dvsm_chunk chunks[NR_CHUNKS];
	int snapshot;
	char *own = take(self->fd, 0, DVSM_SNAPSHOT_F_ADAPTIVE, &snapshot);

	ASSERT_NE(MAP_FAILED, own);
	for (size_t page = 0; page < 200; page++)
		own[page * PAGE + 64] = 9;
	own = remap(own, snapshot);
	ASSERT_NE(MAP_FAILED, own);
	for (size_t page = 0; page < CHUNK_PAGES; page++)
		ASSERT_EQ(page < 200 ? 9 : 0, own[page * PAGE + 64]);
	EXPECT_TRUE(is_huge_mapped(own, CHUNK));
	ASSERT_EQ(NR_CHUNKS, region_residency(snapshot, 0, LENGTH, chunks, NR_CHUNKS));
	EXPECT_EQ(9, chunks[0].order_min);
	EXPECT_EQ(0, chunks[0].flags & DVSM_CHUNK_F_SHARED);
}

TEST_F(parts, other_processes_see_the_new_page_at_once)
{
	struct barrier *barrier = barrier_make(2);
	int snapshot;
	char *old = take(self->fd, 4096, 0, &snapshot);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, old);
	pid = child_start();
	if (!pid) {
		volatile char *at = self->map + 3 * PAGE + 64;

		if (*at)
			_exit(1);
		barrier_wait(barrier);
		barrier_wait(barrier);
		_exit(*at == 5 ? 0 : 2);
	}
	barrier_wait(barrier);
	self->map[3 * PAGE + 64] = 5;
	barrier_wait(barrier);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, old[3 * PAGE + 64]);
}

TEST_F(parts, pages_in_a_pipe_keep_what_the_snapshot_holds)
{
	struct iovec iov;
	int snapshot, fds[2];
	char *old = take(self->fd, 4096, 0, &snapshot), page[PAGE];

	ASSERT_NE(MAP_FAILED, old);
	ASSERT_EQ(0, pipe(fds));
	iov = (struct iovec) { old + 4 * PAGE, PAGE };
	ASSERT_EQ(PAGE, vmsplice(fds[1], &iov, 1, 0));
	memset(self->map + 4 * PAGE, 0xee, PAGE);
	ASSERT_EQ(0, munmap(old, LENGTH));
	close(snapshot);
	/* What was copied away would go back to the folio in the pipe. */
	touch_all(self->map);
	memset(self->map + 4 * PAGE, 0xdd, PAGE);
	ASSERT_EQ(PAGE, read(fds[0], page, PAGE));
	EXPECT_NE(0xdd, (unsigned char)page[0]);
	EXPECT_NE(0xee, (unsigned char)page[0]);
	EXPECT_NE(0xee, (unsigned char)page[PAGE - 1]);
}

TEST_F(parts, diff_names_the_pages)
{
	struct dvsm_range ranges[128];
	int snapshot = snapshot_take_in_parts(self->fd, 4096, 0), other;
	size_t i;

	ASSERT_LE(0, snapshot);
	for (i = 0; i < 100; i++)
		self->map[i * 37 * PAGE + 64] = 1;
	ASSERT_EQ(100, region_diff(self->fd, snapshot, ranges, ARRAY_SIZE(ranges)));
	for (i = 0; i < 100; i++) {
		EXPECT_EQ(i * 37 * PAGE, ranges[i].offset);
		EXPECT_EQ(PAGE, ranges[i].length);
	}
	other = snapshot_take_in_parts(self->fd, 4096, 0);
	self->map[12 * PAGE] = 1;
	EXPECT_EQ(100, region_diff(other, snapshot, ranges, ARRAY_SIZE(ranges)));
	EXPECT_EQ(1, region_diff(self->fd, other, ranges, ARRAY_SIZE(ranges)));
	EXPECT_EQ(12 * PAGE, ranges[0].offset);
}

TEST_F(parts, writers_of_different_pages_of_a_chunk_do_not_conflict)
{
	struct dvsm_snapshot_merge merge;
	struct dvsm_range range;
	int one, two;
	char *first = take(self->fd, 4096, 0, &one), *second = take(self->fd, 4096, 0, &two);

	ASSERT_NE(MAP_FAILED, first);
	ASSERT_NE(MAP_FAILED, second);
	first[1 * PAGE] = 11;
	second[2 * PAGE] = 22;
	self->map[3 * PAGE] = 33;
	EXPECT_EQ(0, snapshot_merge(self->fd, one, 0, &merge));
	EXPECT_EQ(PAGE, merge.out_merged);
	EXPECT_EQ(0, snapshot_merge(self->fd, two, 0, &merge));
	EXPECT_EQ(11, self->map[1 * PAGE]);
	EXPECT_EQ(22, self->map[2 * PAGE]);
	EXPECT_EQ(33, self->map[3 * PAGE]);

	close(one);
	munmap(first, LENGTH);
	first = take(self->fd, 4096, 0, &one);
	first[5 * PAGE] = 1;
	self->map[5 * PAGE] = 2;
	merge = (struct dvsm_snapshot_merge) {
		.size = sizeof(merge),
		.snapshot = one,
		.conflicts = (uintptr_t)&range,
		.nr_conflicts = 1,
	};
	ASSERT_EQ(-1, ioctl(self->fd, DVSM_IOC_SNAPSHOT_MERGE, &merge));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(1, merge.out_nr_conflicts);
	EXPECT_EQ(5 * PAGE, range.offset);
	EXPECT_EQ(PAGE, range.length);
}

TEST_F(parts, many_generations_are_all_remembered)
{
	int snapshots[40];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(snapshots); i++) {
		snapshots[i] = snapshot_take_in_parts(self->fd, 4096, 0);
		ASSERT_LE(0, snapshots[i]);
		self->map[i * PAGE + 64] = 1 + i;
	}
	for (i = 0; i < ARRAY_SIZE(snapshots); i++) {
		char byte;

		ASSERT_EQ(1, pread(snapshots[i], &byte, 1, i * PAGE + 64));
		EXPECT_EQ(0, byte);
		if (!i)
			continue;
		ASSERT_EQ(1, pread(snapshots[i], &byte, 1, (i - 1) * PAGE + 64));
		EXPECT_EQ(i, byte);
	}
}

TEST_F(parts, without_memory_for_the_copy_the_snapshot_loses_it_and_the_writer_goes_on)
{
	int snapshot;
	char *old = take(self->fd, 4096, 0, &snapshot);

	ASSERT_NE(MAP_FAILED, old);
	ASSERT_EQ(0, param_set("limit_mb", nr_pages() * PAGE / MIB));
	EXPECT_EQ(0, write_at(self->map + PAGE, 4));
	EXPECT_EQ(SIGBUS, read_at(old + PAGE));
	EXPECT_EQ(SIGBUS, write_at(old + CHUNK, 1));
	ASSERT_EQ(0, param_set("limit_mb", 0));
	EXPECT_EQ(0, write_at(old + CHUNK, 1));
	EXPECT_EQ(4, self->map[PAGE]);
}

TEST_F(parts, granularities_that_there_are_not_are_refused)
{
	int huge = region_create(self->dev, LENGTH, DVSM_REGION_F_HUGE_REQUIRED);

	EXPECT_EQ(-EOPNOTSUPP, snapshot_take_in_parts(self->fd, 2048, 0));
	EXPECT_EQ(-EOPNOTSUPP, snapshot_take_in_parts(self->fd, 8192, 0));
	EXPECT_EQ(-EOPNOTSUPP, snapshot_take_in_parts(self->fd, 4 * MIB, 0));
	EXPECT_EQ(-EINVAL, snapshot_take_in_parts(self->fd, CHUNK, DVSM_SNAPSHOT_F_ADAPTIVE));
	EXPECT_EQ(-EOPNOTSUPP, snapshot_take_in_parts(huge, 4096, 0));
	EXPECT_LE(0, snapshot_take_in_parts(huge, CHUNK, 0));
}

TEST_HARNESS_MAIN
