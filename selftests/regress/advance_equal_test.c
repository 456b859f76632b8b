// SPDX-License-Identifier: GPL-2.0-only
/*
 * A region and its snapshot that were both discarded are equal, and a diff with
 * ADVANCE has nothing to tell. The snapshot's starting point was kept where nothing was
 * told, so a merge took its discard for a conflict with the region's next write.
 */
#include "../snapshot.h"

DVSM_FIXTURE(advance_equal);

TEST_F(advance_equal, merge_after_an_advance_knows_what_is_new)
{
	int fd = region_create(self->dev, CHUNK, 0), snapshot;
	volatile char *map = region_map(fd, CHUNK, 0);
	struct dvsm_range ranges[CHUNK_PAGES / 2];
	struct dvsm_snapshot_merge merge;

	ASSERT_NE(MAP_FAILED, map);
	map[0] = 1;
	snapshot = snapshot_take(fd);
	ASSERT_LE(0, snapshot);
	ASSERT_EQ(0, region_discard(snapshot, 0, CHUNK, NULL));
	ASSERT_EQ(0, region_discard(fd, 0, CHUNK, NULL));
	ASSERT_EQ(0, snapshot_advance(fd, snapshot, ranges, ARRAY_SIZE(ranges)));
	map[0] = 3;
	EXPECT_EQ(0, snapshot_merge(fd, snapshot, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ(0, merge.out_nr_conflicts);
	EXPECT_EQ(0, merge.out_merged);
	EXPECT_EQ(3, map[0]);
}

TEST_HARNESS_MAIN
