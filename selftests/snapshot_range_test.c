// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshots of a range of a region: beside it nothing has diverged, and nothing is
 * restored, merged or advanced.
 */
#include "snapshot.h"

#define NR_CHUNKS	5
#define LENGTH		(NR_CHUNKS * CHUNK)
#define FIRST		1	/* chunk of the range */
#define END		3
#define HOLE		4	/* chunk that was never written */
#define AT(chunk)	((chunk) * CHUNK + 5 * PAGE)

FIXTURE(range)
{
	int dev;
	int fd;
	char *map;
	int snapshot;
	char *taken;
};

FIXTURE_VARIANT(range)
{
	uint64_t granularity;
};

FIXTURE_VARIANT_ADD(range, in_chunks) {
	.granularity = CHUNK,
};

FIXTURE_VARIANT_ADD(range, in_parts) {
	.granularity = PAGE,
};

static int take(int fd, size_t first, size_t end, uint64_t granularity)
{
	return snapshot_take_as(fd, first * CHUNK, (end - first) * CHUNK, granularity, 0);
}

FIXTURE_SETUP(range)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	for (size_t chunk = 0; chunk < HOLE; chunk++)
		memset(self->map + chunk * CHUNK, 'o', CHUNK);
	self->snapshot = take(self->fd, FIRST, END, variant->granularity);
	ASSERT_LE(0, self->snapshot);
	self->taken = region_map(self->snapshot, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->taken);
}

FIXTURE_TEARDOWN_PARENT(range)
{
	EXPECT_NO_LEAK();
}

/* A byte of every chunk. */
static void write_all(char *map, char value)
{
	for (size_t chunk = 0; chunk < NR_CHUNKS; chunk++)
		map[AT(chunk)] = value;
}

static bool is_inside(size_t chunk)
{
	return FIRST <= chunk && chunk < END;
}

/* How many chunks do not have @inside or @outside, as it should be, where write_all() writes. */
static int nr_wrong(const char *map, char inside, char outside)
{
	int nr = 0;

	for (size_t chunk = 0; chunk < NR_CHUNKS; chunk++)
		nr += map[AT(chunk)] != (is_inside(chunk) ? inside : outside);
	return nr;
}

/* A comparison of two regions, in one call. */
struct told {
	struct dvsm_range ranges[CHUNK_PAGES / 2];
	struct dvsm_region_diff arg;
};

static int tell(int fd, int other, uint64_t offset, uint64_t length, uint32_t flags,
		struct told *told)
{
	told->arg = (struct dvsm_region_diff) {
		.size = sizeof(told->arg),
		.flags = flags,
		.offset = offset,
		.length = length,
		.ranges = (uintptr_t)told->ranges,
		.nr_ranges = CHUNK_PAGES / 2,
		.other = other,
	};
	return ioctl(fd, DVSM_IOC_REGION_DIFF, &told->arg) ? -errno : 0;
}

/* Whether that says just what write_all() writes to some chunks. */
static bool is_told(const struct told *told, size_t first, size_t end, uint64_t granularity)
{
	if (granularity == CHUNK)
		return told->arg.out_nr_ranges == 1 && told->ranges[0].offset == first * CHUNK &&
		       told->ranges[0].length == (end - first) * CHUNK;
	for (size_t i = 0; i < end - first; i++)
		if (told->ranges[i].offset != AT(first + i) || told->ranges[i].length != PAGE)
			return false;
	return told->arg.out_nr_ranges == end - first;
}

TEST_F(range, info_tells_the_range)
{
	int again = take(self->snapshot, END - 1, NR_CHUNKS, variant->granularity);
	struct dvsm_region_info info;

	ASSERT_LE(0, again);
	ASSERT_EQ(0, region_info(self->snapshot, &info));
	EXPECT_EQ(LENGTH, info.out_length);
	EXPECT_EQ(FIRST * CHUNK, info.out_taken_offset);
	EXPECT_EQ((END - FIRST) * CHUNK, info.out_taken_length);
	ASSERT_EQ(0, region_info(again, &info));
	EXPECT_EQ((END - 1) * CHUNK, info.out_taken_offset);
	EXPECT_EQ(LENGTH - (END - 1) * CHUNK, info.out_taken_length);
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(0, info.out_taken_offset);
	EXPECT_EQ(LENGTH, info.out_taken_length);
}

TEST_F(range, nothing_has_diverged_at_first)
{
	struct dvsm_snapshot_restore restore = {
		.size = sizeof(restore),
		.snapshot = self->snapshot,
		.out_restored = 1,
	};
	struct dvsm_snapshot_merge merge;
	struct told told;

	ASSERT_EQ(0, tell(self->fd, self->snapshot, 0, 0, 0, &told));
	EXPECT_EQ(0, told.arg.out_nr_ranges);
	ASSERT_EQ(0, snapshot_merge(self->fd, self->snapshot, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ(0, merge.out_merged);
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_SNAPSHOT_RESTORE, &restore));
	EXPECT_EQ(0, restore.out_restored);
	EXPECT_EQ('o', self->map[AT(0)]);
	EXPECT_EQ('o', self->map[AT(END)]);
	EXPECT_EQ(HOLE * CHUNK, region_resident(self->fd));
}

TEST_F(range, diff_tells_what_was_written_inside)
{
	struct told told;

	write_all(self->map, 'w');
	ASSERT_EQ(0, tell(self->fd, self->snapshot, 0, 0, 0, &told));
	EXPECT_TRUE(is_told(&told, FIRST, END, variant->granularity));
	EXPECT_EQ(LENGTH, told.arg.out_next);
	ASSERT_EQ(0, tell(self->snapshot, self->fd, 0, 0, 0, &told));
	EXPECT_TRUE(is_told(&told, FIRST, END, variant->granularity));
	/* A range across the end of what was taken, one beside it, and one beyond. */
	ASSERT_EQ(0, tell(self->fd, self->snapshot, (END - 1) * CHUNK, 2 * CHUNK, 0, &told));
	EXPECT_TRUE(is_told(&told, END - 1, END, variant->granularity));
	EXPECT_EQ((END + 1) * CHUNK, told.arg.out_next);
	ASSERT_EQ(0, tell(self->fd, self->snapshot, 0, FIRST * CHUNK, 0, &told));
	EXPECT_EQ(0, told.arg.out_nr_ranges);
	EXPECT_EQ(FIRST * CHUNK, told.arg.out_next);
	ASSERT_EQ(0, tell(self->fd, self->snapshot, AT(END), PAGE, 0, &told));
	EXPECT_EQ(0, told.arg.out_nr_ranges);
	EXPECT_EQ(AT(END) + PAGE, told.arg.out_next);
}

TEST_F(range, restore_brings_back_what_was_taken_and_leaves_the_rest_as_written)
{
	struct dvsm_snapshot_restore restore = {
		.size = sizeof(restore),
		.snapshot = self->snapshot,
	};
	struct told told;

	for (char value = 'a'; value < 'd'; value++) {
		write_all(self->map, value);
		ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_SNAPSHOT_RESTORE, &restore));
		EXPECT_EQ((END - FIRST) * variant->granularity, restore.out_restored);
		EXPECT_EQ(0, nr_wrong(self->map, 'o', value));
		EXPECT_EQ(0, nr_wrong(self->taken, 'o', 0));
		ASSERT_EQ(0, tell(self->fd, self->snapshot, 0, 0, 0, &told));
		EXPECT_EQ(0, told.arg.out_nr_ranges);
	}
	/* Beside the writes, too. */
	EXPECT_EQ('o', self->map[0]);
	EXPECT_EQ('o', self->map[END * CHUNK]);
}

/* What the snapshot has beside that is its own. */
TEST_F(range, merge_takes_what_was_written_inside)
{
	struct dvsm_snapshot_merge merge;

	write_all(self->taken, 's');
	self->map[AT(0)] = self->map[AT(END)] = self->map[AT(HOLE)] = 'w';
	ASSERT_EQ(0, snapshot_merge(self->fd, self->snapshot, 0, &merge));
	EXPECT_EQ(0, merge.out_nr_conflicts);
	EXPECT_EQ((END - FIRST) * variant->granularity, merge.out_merged);
	EXPECT_EQ(0, nr_wrong(self->map, 's', 'w'));
	EXPECT_EQ('o', self->map[0]);
	EXPECT_EQ(0, nr_wrong(self->taken, 's', 's'));

	write_all(self->taken, 't');
	write_all(self->map, 'x');
	EXPECT_EQ(-EAGAIN, snapshot_merge(self->fd, self->snapshot, 0, &merge));
	EXPECT_EQ(variant->granularity == CHUNK ? 1 : END - FIRST, merge.out_nr_conflicts);
	ASSERT_EQ(0, snapshot_merge(self->fd, self->snapshot, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ(0, nr_wrong(self->map, 't', 'x'));
}

TEST_F(range, advance_stays_inside)
{
	struct dvsm_snapshot_restore restore = {
		.size = sizeof(restore),
		.snapshot = self->snapshot,
	};
	struct told told;

	write_all(self->map, 'w');
	ASSERT_EQ(0, tell(self->fd, self->snapshot, 0, 0, DVSM_DIFF_F_ADVANCE, &told));
	EXPECT_TRUE(is_told(&told, FIRST, END, variant->granularity));
	EXPECT_EQ(LENGTH, told.arg.out_next);
	EXPECT_EQ(0, nr_wrong(self->taken, 'w', 0));
	ASSERT_EQ(0, tell(self->fd, self->snapshot, 0, 0, DVSM_DIFF_F_ADVANCE, &told));
	EXPECT_EQ(0, told.arg.out_nr_ranges);
	/* By a range too, across the end of what was taken, and beyond it. */
	write_all(self->map, 'x');
	ASSERT_EQ(0, tell(self->fd, self->snapshot, (END - 1) * CHUNK, 2 * CHUNK,
			  DVSM_DIFF_F_ADVANCE, &told));
	EXPECT_TRUE(is_told(&told, END - 1, END, variant->granularity));
	ASSERT_EQ(0, tell(self->fd, self->snapshot, END * CHUNK, 0, DVSM_DIFF_F_ADVANCE, &told));
	EXPECT_EQ(0, told.arg.out_nr_ranges);
	EXPECT_EQ(LENGTH, told.arg.out_next);
	EXPECT_EQ('w', self->taken[AT(FIRST)]);
	EXPECT_EQ('x', self->taken[AT(END - 1)]);
	EXPECT_EQ(0, self->taken[AT(END)]);
	EXPECT_EQ(0, self->taken[END * CHUNK]);
	ASSERT_EQ(0, tell(self->fd, self->snapshot, 0, 0, 0, &told));
	EXPECT_TRUE(is_told(&told, FIRST, END - 1, variant->granularity));
	/* It covers no more than before. */
	write_all(self->map, 'y');
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_SNAPSHOT_RESTORE, &restore));
	EXPECT_EQ('w', self->map[AT(FIRST)]);
	EXPECT_EQ('x', self->map[AT(END - 1)]);
	EXPECT_EQ('y', self->map[AT(0)]);
	EXPECT_EQ('y', self->map[AT(END)]);
	EXPECT_EQ('y', self->map[AT(HOLE)]);
}

TEST_F(range, holes_inside_are_restored_merged_and_told)
{
	int fd = region_create(self->dev, LENGTH, 0);
	int snapshot = take(fd, FIRST, END, variant->granularity);
	char *map = region_map(fd, LENGTH, 0), *taken = region_map(snapshot, LENGTH, 0);
	struct dvsm_snapshot_merge merge;
	struct told told;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_NE(MAP_FAILED, taken);
	write_all(map, 'w');
	ASSERT_EQ(0, tell(fd, snapshot, 0, 0, 0, &told));
	EXPECT_TRUE(is_told(&told, FIRST, END, CHUNK));
	ASSERT_EQ(0, snapshot_restore(fd, snapshot));
	EXPECT_EQ(0, nr_wrong(map, 0, 'w'));
	write_all(taken, 's');
	ASSERT_EQ(0, snapshot_merge(fd, snapshot, 0, &merge));
	EXPECT_EQ(0, nr_wrong(map, 's', 'w'));
}

TEST_F(range, two_snapshots_differ_in_what_both_were_taken_of)
{
	int other = take(self->fd, FIRST + 1, NR_CHUNKS, variant->granularity);
	int apart = take(self->fd, END, NR_CHUNKS, variant->granularity);
	char *map = region_map(other, LENGTH, 0);
	struct told told;

	ASSERT_LE(0, apart);
	ASSERT_NE(MAP_FAILED, map);
	write_all(self->taken, 's');
	ASSERT_EQ(0, tell(self->snapshot, other, 0, 0, 0, &told));
	EXPECT_TRUE(is_told(&told, FIRST + 1, END, variant->granularity));
	write_all(map, 't');
	ASSERT_EQ(0, tell(other, self->snapshot, 0, 0, 0, &told));
	EXPECT_TRUE(is_told(&told, FIRST + 1, END, variant->granularity));
	ASSERT_EQ(0, tell(self->snapshot, apart, 0, 0, 0, &told));
	EXPECT_EQ(0, told.arg.out_nr_ranges);
	EXPECT_EQ(LENGTH, told.arg.out_next);
}

/* Of all that the snapshot has; of the region it has no more than that one had. */
TEST_F(range, a_snapshot_of_the_snapshot_is_of_all_of_that)
{
	struct told told;
	int second;

	write_all(self->taken, 's');
	second = take(self->snapshot, 0, NR_CHUNKS, variant->granularity);
	ASSERT_LE(0, second);
	write_all(self->taken, 't');
	ASSERT_EQ(0, tell(self->snapshot, second, 0, 0, 0, &told));
	EXPECT_TRUE(is_told(&told, 0, NR_CHUNKS, variant->granularity));
	ASSERT_EQ(0, tell(self->fd, second, 0, 0, 0, &told));
	EXPECT_TRUE(is_told(&told, FIRST, END, variant->granularity));
	ASSERT_EQ(0, snapshot_restore(self->snapshot, second));
	EXPECT_EQ(0, nr_wrong(self->taken, 's', 's'));
	EXPECT_EQ('o', self->map[AT(0)]);
}

TEST_HARNESS_MAIN
