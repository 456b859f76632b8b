// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pins: ranges of regions that stay where they are.
 */
#include <sys/resource.h>

#include "dma.h"

#define LENGTH (4 * CHUNK)

FIXTURE(pin) {
	int dev;
	int fd;
	char *map;
};

FIXTURE_VARIANT(pin) {
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(pin, plain) {
	.flags = 0,
};

FIXTURE_VARIANT_ADD(pin, registrable) {
	.flags = DVSM_REGION_F_REGISTRABLE,
};

FIXTURE_SETUP(pin)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, variant->flags);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
}

FIXTURE_TEARDOWN_PARENT(pin)
{
	EXPECT_NO_LEAK();
}

static unsigned long pinned_pages(void)
{
	struct counts counts;

	return counts_read(&counts) ? ~0UL : counts.pinned_pages;
}

/* A file's last reference may be dropped a moment later. */
static bool pins_end(int fd)
{
	unsigned long end = clock_ms() + 60000;

	while (region_pinned(fd) && clock_ms() < end)
		sleep_ms(10);
	return !region_pinned(fd);
}

TEST_F(pin, makes_its_range_resident_and_nothing_else)
{
	EXPECT_EQ(0, region_pin(self->fd, CHUNK, 2 * CHUNK));
	EXPECT_EQ(2 * CHUNK, region_resident(self->fd));
	EXPECT_TRUE(is_zero(self->map, LENGTH));
}

TEST_F(pin, is_counted_while_it_lasts_and_no_longer)
{
	EXPECT_EQ(0, region_pin(self->fd, 0, CHUNK));
	EXPECT_EQ(CHUNK, region_pinned(self->fd));
	EXPECT_EQ(CHUNK_PAGES, pinned_pages());
	EXPECT_EQ(0, region_pin(self->fd, CHUNK / 2, PAGE));
	EXPECT_EQ(CHUNK + PAGE, region_pinned(self->fd));
	EXPECT_EQ(0, region_unpin(self->fd, 0, CHUNK));
	EXPECT_EQ(PAGE, region_pinned(self->fd));
	EXPECT_EQ(0, region_unpin(self->fd, CHUNK / 2, PAGE));
	EXPECT_EQ(0, region_pinned(self->fd));
	EXPECT_EQ(0, pinned_pages());
}

TEST_F(pin, only_what_was_pinned_can_be_unpinned)
{
	EXPECT_EQ(-ENOENT, region_unpin(self->fd, 0, CHUNK));
	EXPECT_EQ(0, region_pin(self->fd, 0, 2 * CHUNK));
	EXPECT_EQ(-ENOENT, region_unpin(self->fd, 0, CHUNK));
	EXPECT_EQ(-ENOENT, region_unpin(self->fd, CHUNK, CHUNK));
	EXPECT_EQ(0, region_unpin(self->fd, 0, 2 * CHUNK));
	EXPECT_EQ(-ENOENT, region_unpin(self->fd, 0, 2 * CHUNK));
}

TEST_F(pin, another_holder_can_neither_end_nor_lose_it)
{
	int other = region_reopen(self->fd, 0);

	ASSERT_LE(0, other);
	EXPECT_EQ(0, region_pin(other, 0, CHUNK));
	EXPECT_EQ(-ENOENT, region_unpin(self->fd, 0, CHUNK));
	EXPECT_EQ(0, region_pin(self->fd, 0, CHUNK));
	EXPECT_EQ(2 * CHUNK, region_pinned(self->fd));
	close(other);
	EXPECT_EQ(CHUNK, region_pinned(self->fd));
	EXPECT_EQ(-EBUSY, region_discard(self->fd, 0, CHUNK, NULL));
}

TEST_F(pin, ends_with_the_process_that_alone_held_it)
{
	struct barrier *barrier = barrier_make(2);
	pid_t pid = child_start();

	if (!pid) {
		int own = region_reopen(self->fd, 0);

		if (region_pin(own, 0, LENGTH))
			_exit(1);
		barrier_wait(barrier);
		pause();
		_exit(2);
	}
	barrier_wait(barrier);
	EXPECT_EQ(LENGTH, region_pinned(self->fd));
	kill(pid, SIGKILL);
	child_wait(pid);
	EXPECT_TRUE(pins_end(self->fd));
	EXPECT_EQ(LENGTH, region_resident(self->fd));
}

TEST_F(pin, mapping_alone_keeps_its_files_pins)
{
	int own = region_reopen(self->fd, 0);
	char *map = region_map(own, PAGE, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, region_pin(own, 0, CHUNK));
	close(own);
	EXPECT_EQ(CHUNK, region_pinned(self->fd));
	munmap(map, PAGE);
	EXPECT_TRUE(pins_end(self->fd));
}

TEST_F(pin, discard_is_busy_where_it_touches_the_range)
{
	stamp(self->map + CHUNK, CHUNK, 1);
	EXPECT_EQ(0, region_pin(self->fd, CHUNK + PAGE, PAGE));
	EXPECT_EQ(-EBUSY, region_discard(self->fd, 0, LENGTH, NULL));
	EXPECT_EQ(-EBUSY, region_discard(self->fd, CHUNK + PAGE, PAGE, NULL));
	EXPECT_NE(0, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, CHUNK, CHUNK));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(0, stamps_wrong(self->map + CHUNK, CHUNK, 1));
	EXPECT_EQ(0, region_discard(self->fd, 2 * CHUNK, 2 * CHUNK, NULL));
	EXPECT_EQ(0, region_unpin(self->fd, CHUNK + PAGE, PAGE));
	EXPECT_EQ(0, region_discard(self->fd, 0, LENGTH, NULL));
	EXPECT_TRUE(is_zero(self->map, LENGTH));
}

TEST_F(pin, pages_are_not_moved_to_another_node)
{
	uint64_t pfn;
	int from;

	NEED_NODES(2);
	stamp(self->map, CHUNK, 1);
	EXPECT_EQ(0, region_pin(self->fd, 0, CHUNK));
	from = page_node(self->map);
	pfn = PAGEMAP_PFN(pagemap_entry(self->map));
	page_move(self->map, !from, 0);
	EXPECT_EQ(from, page_node(self->map));
	EXPECT_EQ(pfn, PAGEMAP_PFN(pagemap_entry(self->map)));
	EXPECT_EQ(0, region_unpin(self->fd, 0, CHUNK));
	page_move(self->map, !from, 0);
	EXPECT_EQ(!from, page_node(self->map));
	EXPECT_EQ(0, stamps_wrong(self->map, CHUNK, 1));
}

/* The folio that a device writes to is the region's, before and after a snapshot. */
TEST_F(pin, snapshot_gets_a_copy_and_the_region_keeps_its_folios)
{
	uint64_t pfn;
	int snapshot;
	char *copy;

	stamp(self->map, LENGTH, 1);
	EXPECT_EQ(0, region_pin(self->fd, CHUNK, CHUNK));
	pfn = PAGEMAP_PFN(pagemap_entry(self->map + CHUNK));
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	copy = region_map(snapshot, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, copy);
	EXPECT_EQ(0, stamps_wrong(copy, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	stamp(self->map, LENGTH, 2);
	EXPECT_EQ(pfn, PAGEMAP_PFN(pagemap_entry(self->map + CHUNK)));
	EXPECT_EQ(0, stamps_wrong(copy, LENGTH, 1));
}

/* Nobody has touched it, but a device may have written without a fault. */
TEST_F(pin, snapshot_does_not_take_it_for_zeroes)
{
	struct dvsm_region_info info;
	int snapshot;

	EXPECT_EQ(0, region_pin(self->fd, 0, CHUNK));
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	EXPECT_EQ(0, region_info(snapshot, &info));
	EXPECT_EQ(CHUNK, info.out_resident);
	EXPECT_EQ(CHUNK, info.out_copied);
}

TEST_F(pin, of_a_shared_range_breaks_the_sharing_at_once)
{
	uint64_t pfn;
	int snapshot;
	char *copy;

	if (variant->flags & DVSM_REGION_F_REGISTRABLE)
		return;
	stamp(self->map, LENGTH, 1);
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	copy = region_map(snapshot, LENGTH, 0);
	EXPECT_EQ(0, region_pin(snapshot, 0, CHUNK));
	EXPECT_EQ(0, stamps_wrong(copy, LENGTH, 1));
	pfn = PAGEMAP_PFN(pagemap_entry(copy));
	EXPECT_NE(pfn, PAGEMAP_PFN(pagemap_entry(self->map)));
	stamp(copy, CHUNK, 2);
	EXPECT_EQ(pfn, PAGEMAP_PFN(pagemap_entry(copy)));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(copy, CHUNK, 2));
	/* The region must not get the pinned folios either. */
	EXPECT_EQ(-EBUSY, snapshot_restore(self->fd, snapshot));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(pin, restore_and_merge_are_busy_where_the_region_is_pinned)
{
	struct dvsm_snapshot_merge merge;
	int snapshot;
	char *copy;

	if (variant->flags & DVSM_REGION_F_REGISTRABLE)
		return;
	stamp(self->map, LENGTH, 1);
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	copy = region_map(snapshot, LENGTH, 0);
	stamp(copy, LENGTH, 2);
	EXPECT_EQ(0, region_pin(self->fd, CHUNK, PAGE));
	EXPECT_EQ(-EBUSY, snapshot_restore(self->fd, snapshot));
	EXPECT_EQ(-EBUSY, snapshot_merge(self->fd, snapshot, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(0, region_unpin(self->fd, CHUNK, PAGE));
	EXPECT_EQ(0, snapshot_merge(self->fd, snapshot, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 2));
}

TEST_F(pin, needs_room_below_the_memlock_limit)
{
	struct rlimit limit = { .rlim_cur = CHUNK, .rlim_max = CHUNK };
	pid_t pid = child_start();

	if (!pid) {
		if (setrlimit(RLIMIT_MEMLOCK, &limit) || become_nobody())
			_exit(1);
		if (region_pin(self->fd, 0, 2 * CHUNK) != -ENOMEM)
			_exit(2);
		if (region_resident(self->fd))
			_exit(3);
		if (region_pin(self->fd, 0, CHUNK) || region_pin(self->fd, 0, PAGE) != -ENOMEM)
			_exit(4);
		if (region_unpin(self->fd, 0, CHUNK) || region_pin(self->fd, CHUNK, CHUNK))
			_exit(5);
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	/* Its holder lives on here; what it costs is still the child's user's. */
	EXPECT_EQ(CHUNK, region_pinned(self->fd));
}

TEST_F(pin, that_can_never_fit_takes_no_memory)
{
	int fd = region_create(self->dev, 1ULL << 45, variant->flags);

	EXPECT_EQ(-ENOSPC, region_pin(fd, 0, 0));
	EXPECT_EQ(0, region_resident(fd));
	EXPECT_EQ(0, pinned_pages());
	EXPECT_EQ(0, region_discard(fd, 0, 0, NULL));
}

TEST_F(pin, ranges_are_checked)
{
	EXPECT_EQ(-EINVAL, region_pin(self->fd, 1, PAGE));
	EXPECT_EQ(-EINVAL, region_pin(self->fd, 0, PAGE + 1));
	EXPECT_EQ(-EINVAL, region_pin(self->fd, 0, LENGTH + PAGE));
	EXPECT_EQ(-EINVAL, region_pin(self->fd, LENGTH, 0));
	EXPECT_EQ(-EINVAL, region_pin(self->fd, LENGTH, PAGE));
	EXPECT_EQ(-EINVAL, region_unpin(self->fd, LENGTH, 0));
	EXPECT_EQ(-EINVAL, region_export(self->fd, LENGTH, 0));
}

TEST_F(pin, shows_in_the_residency_report)
{
	struct dvsm_chunk chunks[4] = {};

	EXPECT_EQ(0, region_populate(self->fd, 0, LENGTH, NULL));
	EXPECT_EQ(0, region_pin(self->fd, CHUNK, PAGE));
	ASSERT_EQ(4, region_residency(self->fd, 0, LENGTH, chunks, 4));
	EXPECT_EQ(0, chunks[0].flags & DVSM_CHUNK_F_PINNED);
	EXPECT_NE(0, chunks[1].flags & DVSM_CHUNK_F_PINNED);
	EXPECT_EQ(0, chunks[2].flags & DVSM_CHUNK_F_PINNED);
}

/* Pins against discards, snapshots and faults of the same chunks. */
TEST_F(pin, races_with_everything_lose_no_word)
{
	unsigned int i, seconds = 3;
	unsigned long end = clock_ms() + 1000 * seconds;
	pid_t pids[3];

	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = child_start();
		if (pids[i])
			continue;
		while (clock_ms() < end) {
			if (i == 0) {
				region_discard(self->fd, 0, LENGTH, NULL);
			} else if (i == 1) {
				int snapshot = snapshot_take(self->fd);

				if (snapshot >= 0)
					close(snapshot);
			} else {
				self->map[3 * CHUNK]++;
			}
		}
		_exit(0);
	}
	for (i = 0; clock_ms() < end; i++) {
		ASSERT_EQ(0, region_pin(self->fd, CHUNK, CHUNK));
		stamp(self->map + CHUNK, CHUNK, i);
		sleep_ms(i % 8);
		ASSERT_EQ(0, stamps_wrong(self->map + CHUNK, CHUNK, i));
		ASSERT_EQ(0, region_unpin(self->fd, CHUNK, CHUNK));
	}
	for (i = 0; i < ARRAY_SIZE(pids); i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	EXPECT_EQ(0, region_pinned(self->fd));
}

TEST_F(pin, extents_tell_what_is_contiguous)
{
	struct dvsm_range ranges[8] = {};
	uint64_t next, total = 0;
	int nr, i;

	EXPECT_EQ(0, region_extents(self->fd, 0, LENGTH, ranges, 8, &next));
	EXPECT_EQ(LENGTH, next);
	EXPECT_EQ(0, region_pin(self->fd, 0, CHUNK));
	EXPECT_EQ(0, region_pin(self->fd, 2 * CHUNK, 2 * CHUNK));
	stamp(self->map, LENGTH / 4, 1);
	stamp(self->map + 2 * CHUNK, 2 * CHUNK, 1);
	nr = region_extents(self->fd, PAGE, LENGTH - 2 * PAGE, ranges, 8, &next);
	ASSERT_LE(2, nr);
	EXPECT_EQ(LENGTH - PAGE, next);
	for (i = 0; i < nr; i++) {
		char *at = self->map + ranges[i].offset;
		uint64_t pfn = PAGEMAP_PFN(pagemap_entry(at)), page;

		total += ranges[i].length;
		for (page = 0; page < ranges[i].length / PAGE; page++)
			ASSERT_EQ(pfn + page, PAGEMAP_PFN(pagemap_entry(at + page * PAGE)));
		if (i && ranges[i - 1].offset + ranges[i - 1].length == ranges[i].offset)
			EXPECT_NE(PAGEMAP_PFN(pagemap_entry(at - PAGE)) + 1, pfn);
	}
	EXPECT_EQ(3 * CHUNK - 2 * PAGE, total);
	/* One at a time says the same. */
	for (i = 0, next = PAGE; i < nr; i++) {
		struct dvsm_range one;

		ASSERT_EQ(1, region_extents(self->fd, next, LENGTH - PAGE - next, &one, 1, &next));
		EXPECT_EQ(ranges[i].offset, one.offset);
		EXPECT_EQ(ranges[i].length, one.length);
	}
	EXPECT_EQ(LENGTH - PAGE, next);
}

/* Free blocks of 2 MiB or of 4 MiB, of all nodes. */
static unsigned long nr_free_blocks(bool of_4_mib)
{
	FILE *file = fopen("/proc/buddyinfo", "re");
	unsigned long nr[11], sum = 0;

	while (file && fscanf(file, "Node %*d, zone %*s %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu ",
			      &nr[0], &nr[1], &nr[2], &nr[3], &nr[4], &nr[5], &nr[6], &nr[7],
			      &nr[8], &nr[9], &nr[10]) == 11)
		sum += nr[of_4_mib ? 10 : 9];
	if (file)
		fclose(file);
	return sum;
}

/* In how many pieces a range is, which has memory everywhere. */
static unsigned int nr_pieces(int fd, uint64_t length)
{
	struct dvsm_range ranges[64];
	unsigned int nr = 0;
	uint64_t next = 0;

	while (next < length) {
		int ret = region_extents(fd, next, length - next, ranges, 64, &next);

		if (ret < 0)
			return ~0U;
		nr += ret;
	}
	return nr;
}

/* Halves of the blocks of 4 MiB that the page allocator has lie side by side in the region, too. */
TEST_F(pin, populated_memory_comes_in_pieces_of_4_MiB)
{
	const unsigned int nr_chunks = 128, nr_most = nr_chunks / 8 * 5;
	unsigned int nr = ~0U, turn;

	for (turn = 0; turn < 10 && nr > nr_most; turn++) {
		unsigned long nr_single = nr_free_blocks(false);
		/* Blocks of 2 MiB come first. */
		int single = region_create(self->dev, (nr_single + 8) * CHUNK, 0);
		int fd = region_create(self->dev, nr_chunks * CHUNK, variant->flags);

		ASSERT_EQ(0, region_populate_by(single, 0, 0, 1, NULL));
		if (nr_free_blocks(true) < nr_chunks)
			SKIP(return, "fewer than %u free blocks of 4 MiB", nr_chunks);
		ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
		nr = nr_pieces(fd, nr_chunks * CHUNK);
		TH_LOG("%u chunks in %u pieces, besides %lu single ones", nr_chunks, nr, nr_single);
		close(single);
		close(fd);
	}
	EXPECT_GE(nr_most, nr);
}

TEST_HARNESS_MAIN
