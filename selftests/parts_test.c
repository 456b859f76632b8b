// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshots whose writes copy less than a chunk: what is copied, who sees what, what
 * it costs in memory and in huge mappings, and how both come back.
 */
#include "snapshot.h"
#include "split.h"
#include "dma/dma.h"
#include <sys/uio.h>

#define NR_CHUNKS	8
#define LENGTH		(NR_CHUNKS * CHUNK)
#define BLOCK		(16 * PAGE)

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

static char *take(int fd, uint64_t granularity, uint32_t flags, int *snapshot)
{
	return snapshot_take_mapped(fd, LENGTH, granularity, flags, snapshot);
}

static char *remap(char *map, int fd)
{
	munmap(map, LENGTH);
	return region_map(fd, LENGTH, 0);
}

static uint64_t nr_faults_parts(int fd)
{
	struct dvsm_region_info info;

	return region_info(fd, &info) ? UINT64_MAX : info.out_nr_faults_parts;
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
			before = pages_charged();
			ASSERT_EQ(0, write_at((side ? old : self->map) + 5 * PAGE + 100, 3));
			EXPECT_EQ(granularities[i] / PAGE, pages_charged() - before);
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
	before = pages_charged();
	for (size_t page = 7; page < LENGTH / PAGE; page += 100)
		self->map[page * PAGE + 64] = 1;
	extra = pages_charged() - before;
	EXPECT_LT(0, extra);
	EXPECT_GT(before * 15 / 1000, extra);
	EXPECT_EQ(0, stamps_wrong(old, LENGTH, 1));
}

TEST_F(parts, huge_mappings_and_memory_are_back_when_the_snapshot_is_gone)
{
	unsigned long before = pages_charged();
	int snapshot;
	char *old = take(self->fd, 4096, 0, &snapshot);

	ASSERT_NE(MAP_FAILED, old);
	for (size_t chunk = 0; chunk < NR_CHUNKS; chunk++)
		self->map[chunk * CHUNK + 9 * PAGE + 64] = 7;
	EXPECT_EQ(before + NR_CHUNKS, pages_charged());
	/* Who has no part of his own keeps the huge folio, and maps it. */
	EXPECT_EQ(0, stamps_wrong(old, LENGTH, 1));
	EXPECT_TRUE(is_huge_mapped(old, LENGTH));
	EXPECT_FALSE(is_huge_mapped(self->map, LENGTH));
	EXPECT_EQ(NR_CHUNKS, nr_faults_parts(self->fd));
	EXPECT_EQ(0, nr_faults_parts(snapshot));
	touch_all(self->map);
	EXPECT_EQ(LENGTH / PAGE, nr_faults_parts(self->fd));
	ASSERT_EQ(0, munmap(old, LENGTH));
	close(snapshot);
	self->map = remap(self->map, self->fd);
	ASSERT_NE(MAP_FAILED, self->map);
	touch_all(self->map);
	EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
	EXPECT_EQ(LENGTH / PAGE, nr_faults_parts(self->fd));
	EXPECT_EQ(before, pages_charged());
	for (size_t chunk = 0; chunk < NR_CHUNKS; chunk++)
		EXPECT_EQ(7, self->map[chunk * CHUNK + 9 * PAGE + 64]);
}

/* Without a fault: what was copied is mapped all the time. */
TEST_F(parts, in_the_background_parts_go_back_when_the_snapshots_are_gone)
{
	unsigned long before = pages_charged();
	int snapshots[2];
	char *olds[2], *map;

	for (int i = 0; i < 2; i++) {
		olds[i] = take(self->fd, 4096, 0, &snapshots[i]);
		ASSERT_NE(MAP_FAILED, olds[i]);
		for (size_t chunk = 0; chunk < NR_CHUNKS; chunk++)
			self->map[chunk * CHUNK + (9 + i) * PAGE + 64] = 7;
	}
	touch_all(self->map);
	EXPECT_EQ(before + 2 * NR_CHUNKS, pages_charged());
	ASSERT_EQ(0, param_set("promote_seconds", 1));
	/* One of the two is enough to keep what it reads. */
	munmap(olds[1], LENGTH);
	close(snapshots[1]);
	sleep_ms(2500);
	EXPECT_EQ(0, stamps_wrong(olds[0], LENGTH, 1));
	EXPECT_LT(before, pages_charged());
	munmap(olds[0], LENGTH);
	close(snapshots[0]);
	EXPECT_EQ(0, stats_reach("pages", before, 120));
	ASSERT_EQ(0, param_set("promote_seconds", 10));
	for (size_t chunk = 0; chunk < NR_CHUNKS; chunk++) {
		EXPECT_EQ(7, self->map[chunk * CHUNK + 9 * PAGE + 64]);
		EXPECT_EQ(7, self->map[chunk * CHUNK + 10 * PAGE + 64]);
		self->map[chunk * CHUNK + 9 * PAGE + 64] = 0;
		self->map[chunk * CHUNK + 10 * PAGE + 64] = 0;
	}
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, map);
	touch_all(map);
	EXPECT_TRUE(is_huge_mapped(map, LENGTH));
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

/* The page is mapped for writing: there was no fault, and the write was not merged. */
TEST_F(parts, what_is_written_after_a_merge_is_merged_by_the_next_one)
{
	int s = snapshot_take_in_parts(self->fd, PAGE, 0);
	char *map = region_map(s, LENGTH, 0);
	struct dvsm_snapshot_merge arg;

	self->map[PAGE] = 'p';
	map[2 * PAGE] = 's';
	ASSERT_EQ(0, snapshot_merge(self->fd, s, 0, &arg));
	EXPECT_EQ('s', self->map[2 * PAGE]);
	map[2 * PAGE] = 't';
	ASSERT_EQ(0, snapshot_merge(self->fd, s, DVSM_MERGE_F_SNAPSHOT_WINS, &arg));
	EXPECT_EQ('t', self->map[2 * PAGE]);
}

TEST_F(parts, parent_wins_over_a_snapshot_with_a_folio_of_its_own)
{
	int s = snapshot_take_in_parts(self->fd, PAGE, 0);
	char *map = region_map(s, LENGTH, 0);
	struct dvsm_snapshot_merge arg;
	uint64_t unshared;

	/* With another one the parent goes on copying parts. */
	ASSERT_LE(0, snapshot_take_in_parts(self->fd, PAGE, 0));
	ASSERT_EQ(0, region_unshare(s, 0, CHUNK, &unshared));
	self->map[PAGE] = 'p';
	map[PAGE] = 's';
	map[2 * PAGE] = 's';
	ASSERT_EQ(0, snapshot_merge(self->fd, s, DVSM_MERGE_F_PARENT_WINS, &arg));
	EXPECT_EQ('p', self->map[PAGE]);
	EXPECT_EQ('s', self->map[2 * PAGE]);
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
	ASSERT_EQ(0, param_set("limit_mb", pages_charged() * PAGE / MIB));
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

struct cow {
	uint64_t nr_faults;
	uint64_t copied;
};

/* What some regions have counted in sum. */
static struct cow cow_of(const int *fds, size_t nr)
{
	struct cow cow = {};
	struct dvsm_region_info info;

	while (nr--) {
		if (region_info(fds[nr], &info))
			return (struct cow) { UINT64_MAX, UINT64_MAX };
		cow.nr_faults += info.out_nr_cow_faults;
		cow.copied += info.out_copied;
	}
	return cow;
}

/* Every word of the first chunk tells its place; the same in @copy. */
static void fill(char *map, char *copy)
{
	uint64_t *words = (uint64_t *)copy;

	for (size_t i = 0; i < CHUNK / sizeof(*words); i++)
		words[i] = i + 1;
	memcpy(map, copy, CHUNK);
}

TEST_F(parts, block_is_made_of_all_that_is_read_below)
{
	static char first[CHUNK], second[CHUNK], own[CHUNK];
	int fds[2];
	char *maps[2];
	unsigned long before;

	fill(self->map, first);
	maps[0] = take(self->fd, PAGE, 0, &fds[0]);
	ASSERT_NE(MAP_FAILED, maps[0]);
	memcpy(second, first, CHUNK);
	for (size_t page = 3; page < 20; page += 3)
		self->map[page * PAGE + 100] = second[page * PAGE + 100] = 's';
	maps[1] = take(self->fd, BLOCK, 0, &fds[1]);
	ASSERT_NE(MAP_FAILED, maps[1]);
	memcpy(own, second, CHUNK);
	before = pages_charged();
	self->map[8 * PAGE + 100] = own[8 * PAGE + 100] = 'o';
	EXPECT_EQ(BLOCK / PAGE, pages_charged() - before);
	EXPECT_EQ(0, memcmp(self->map, own, CHUNK));
	EXPECT_EQ(0, memcmp(maps[1], second, CHUNK));
	EXPECT_EQ(0, memcmp(maps[0], first, CHUNK));
}

/* Copied by 4 KiB for a snapshot that is there still, and by 64 KiB for a later one. */
TEST_F(parts, block_that_is_partly_there_gets_the_rest)
{
	static char old[CHUNK], own[CHUNK];
	unsigned long before;
	int fds[2];
	char *map;

	fill(self->map, old);
	map = take(self->fd, PAGE, 0, &fds[0]);
	ASSERT_NE(MAP_FAILED, map);
	memcpy(own, old, CHUNK);
	self->map[3 * PAGE + 100] = own[3 * PAGE + 100] = 'o';
	self->map[6 * PAGE + 100] = own[6 * PAGE + 100] = 'o';
	fds[1] = snapshot_take_in_parts(self->fd, BLOCK, 0);
	ASSERT_LE(0, fds[1]);
	close(fds[1]);
	before = pages_charged();
	self->map[8 * PAGE + 100] = own[8 * PAGE + 100] = 'o';
	EXPECT_EQ(BLOCK / PAGE - 2, pages_charged() - before);
	EXPECT_EQ(0, memcmp(self->map, own, CHUNK));
	EXPECT_EQ(0, memcmp(map, old, CHUNK));
}

TEST_F(parts, hole_in_a_block_is_zeroes_in_the_copy)
{
	static char old[CHUNK], own[CHUNK];
	int snapshot;
	char *map;

	fill(self->map, old);
	SPLIT_CHUNK(self->fd, self->map, 0);
	memset(old + SPLIT_LOST, 0, PAGE);
	map = take(self->fd, BLOCK, 0, &snapshot);
	ASSERT_NE(MAP_FAILED, map);
	memcpy(own, old, CHUNK);
	self->map[SPLIT_LOST - PAGE] = own[SPLIT_LOST - PAGE] = 'o';
	EXPECT_EQ(0, memcmp(self->map, own, CHUNK));
	EXPECT_EQ(0, memcmp(map, old, CHUNK));
}

/* A write to another page of the block fails too, and the page is all that anybody misses. */
TEST_F(parts, block_with_a_lost_page_is_not_copied)
{
	size_t block = 2 * BLOCK, lost = block + 5 * PAGE;
	static char want[CHUNK];
	int snapshot;
	char *map;

	fill(self->map, want);
	map = take(self->fd, BLOCK, 0, &snapshot);
	ASSERT_NE(MAP_FAILED, map);
	/* From here on the region is the only one to read its share, and adds to it. */
	self->map[0] = want[0];
	if (madvise(self->map + lost, PAGE, MADV_HWPOISON) && errno != EBUSY)
		SKIP(return, "MADV_HWPOISON: %s", strerror(errno));
	EXPECT_EQ(SIGBUS, write_at(self->map + lost + PAGE, 'o'));
	EXPECT_EQ(SIGBUS, write_at(self->map + lost, 'o'));
	EXPECT_EQ(SIGBUS, read_at(map + lost));
	EXPECT_EQ(SIGBUS, read_at(self->map + lost));
	for (int side = 0; side < 2; side++) {
		EXPECT_EQ(0, memcmp(side ? map : self->map, want, lost));
		EXPECT_EQ(0, memcmp((side ? map : self->map) + lost + PAGE, want + lost + PAGE,
				    CHUNK - lost - PAGE));
	}
	EXPECT_EQ(0, write_at(self->map + block + BLOCK, 'o'));
	EXPECT_EQ(want[block + BLOCK], map[block + BLOCK]);
}

/* A hundred pages of one chunk, written to by each of three who read them, in turn. */
TEST_F(parts, writes_and_what_they_copied_are_counted_whoever_else_reads_the_chunk)
{
	static const uint64_t granularities[] = { 4096, 65536, CHUNK };

	for (int i = 0; i < ARRAY_SIZE(granularities); i++) {
		uint64_t copied = (100 * PAGE + granularities[i] - 1) / granularities[i] *
				  granularities[i];
		int fds[] = { self->fd, -1, -1 };
		struct cow before, cow;
		char *maps[3];

		maps[0] = self->map;
		maps[1] = take(self->fd, granularities[i], 0, &fds[1]);
		maps[2] = take(self->fd, granularities[i], 0, &fds[2]);
		ASSERT_NE(MAP_FAILED, maps[1]);
		ASSERT_NE(MAP_FAILED, maps[2]);
		for (int writer = 0; writer < 3; writer++) {
			char *at = maps[writer] + writer * CHUNK;

			before = cow_of(fds, 3);
			for (int page = 0; page < 100; page++)
				at[page * PAGE + 64] = 1;
			cow = cow_of(fds, 3);
			EXPECT_EQ(copied / granularities[i], cow.nr_faults - before.nr_faults);
			EXPECT_EQ(copied, cow.copied - before.copied)
				TH_LOG("writer %d, granularity %llu", writer,
				       (unsigned long long)granularities[i]);
		}
		for (int s = 1; s < 3; s++) {
			ASSERT_EQ(0, munmap(maps[s], LENGTH));
			close(fds[s]);
		}
	}
}

/* A region that ends inside a chunk, and one with such a chunk behind another. */
TEST_F(parts, what_is_copied_ends_where_the_region_ends)
{
	static const size_t lengths[] = { 3 * PAGE, CHUNK + 3 * PAGE };

	for (int i = 0; i < ARRAY_SIZE(lengths); i++) {
		size_t last = lengths[i] - PAGE;
		int fds[2];
		struct cow cow;
		char *map;

		fds[0] = region_create(self->dev, lengths[i], 0);
		map = region_map(fds[0], lengths[i], 0);
		ASSERT_NE(MAP_FAILED, map);
		stamp(map, lengths[i], 1);
		fds[1] = snapshot_take(fds[0]);
		map[last] = 1;
		cow = cow_of(fds, 2);
		EXPECT_EQ(1, cow.nr_faults);
		EXPECT_EQ(3 * PAGE, cow.copied);
		close(fds[1]);
		ASSERT_EQ(0, munmap(map, lengths[i]));
		close(fds[0]);

		fds[0] = region_create(self->dev, lengths[i], DVSM_REGION_F_REGISTRABLE);
		ASSERT_EQ(0, region_populate(fds[0], 0, 0, NULL));
		fds[1] = snapshot_take(fds[0]);
		EXPECT_EQ(lengths[i], cow_of(fds, 2).copied);
		close(fds[1]);
		close(fds[0]);
	}
}

static uint64_t restored(int fd, int snapshot)
{
	struct dvsm_snapshot_restore arg = { .size = sizeof(arg), .snapshot = snapshot };

	return ioctl(fd, DVSM_IOC_SNAPSHOT_RESTORE, &arg) ? UINT64_MAX : arg.out_restored;
}

TEST_F(parts, bytes_of_unshare_merge_and_restore_end_where_the_region_ends)
{
	static const size_t lengths[] = { 3 * PAGE, CHUNK + 3 * PAGE };

	for (int i = 0; i < ARRAY_SIZE(lengths); i++) {
		size_t last = lengths[i] - PAGE;
		struct dvsm_snapshot_merge merge;
		uint64_t unshared;
		char *map, *own;
		int fd, s;

		fd = region_create(self->dev, lengths[i], 0);
		map = region_map(fd, lengths[i], 0);
		ASSERT_NE(MAP_FAILED, map);
		stamp(map, lengths[i], 1);
		s = snapshot_take(fd);
		own = region_map(s, lengths[i], 0);
		ASSERT_NE(MAP_FAILED, own);
		own[last] = 1;
		ASSERT_EQ(0, snapshot_merge(fd, s, 0, &merge));
		EXPECT_EQ(3 * PAGE, merge.out_merged);
		map[last] = 2;
		EXPECT_EQ(3 * PAGE, restored(fd, s));
		EXPECT_EQ(1, map[last]);
		EXPECT_EQ(0, restored(fd, s));
		ASSERT_EQ(0, region_unshare(s, 0, 0, &unshared));
		EXPECT_EQ(lengths[i], unshared);
		ASSERT_EQ(0, munmap(map, lengths[i]));
		ASSERT_EQ(0, munmap(own, lengths[i]));
		close(s);
		close(fd);
	}
}

/* What is in the region's own part, and what is around it, each once and in order. */
TEST_F(parts, extents_tell_each_page_once_however_few_fit)
{
	int snapshot = snapshot_take_in_parts(self->fd, PAGE, 0);
	struct dvsm_range ranges[64];
	uint64_t at, next;
	int max, nr, i, nr_calls;

	ASSERT_LE(0, snapshot);
	for (i = 7; i < 512; i += 50)
		self->map[i * PAGE] = 1;
	for (max = 1; max <= 64; max = max * 3 + 1) {
		for (at = nr_calls = 0; at < LENGTH && nr_calls < 100; nr_calls++) {
			nr = region_extents(self->fd, at, LENGTH - at, ranges, max, &next);
			ASSERT_LT(0, nr);
			ASSERT_LT(at, next);
			for (i = 0; i < nr; at += ranges[i++].length)
				ASSERT_EQ(at, ranges[i].offset);
			ASSERT_EQ(at, next);
		}
		EXPECT_EQ(LENGTH, at);
	}
}

TEST_F(parts, restore_tells_the_pages_that_differed)
{
	int snapshot = snapshot_take_in_parts(self->fd, PAGE, 0);

	ASSERT_LE(0, snapshot);
	for (int i = 0; i < 5; i++)
		self->map[i * CHUNK + i * PAGE + 64] = self->map[i * CHUNK + 9 * PAGE + 64] = 1;
	EXPECT_EQ(10 * PAGE, restored(self->fd, snapshot));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_HARNESS_MAIN
