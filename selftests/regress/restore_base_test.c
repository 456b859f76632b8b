// SPDX-License-Identifier: GPL-2.0-only
/*
 * After a restore the two are equal and start anew. The snapshot's old starting
 * point was kept, so a later merge took what the snapshot had written before for a
 * conflict with the region's next write.
 */
#include "../snapshot.h"

DVSM_FIXTURE(restore_base);

TEST_F(restore_base, merge_after_restore_knows_what_is_new)
{
	int fd = region_create(self->dev, CHUNK, 0), snapshot;
	char *map = region_map(fd, CHUNK, 0), *own;
	struct dvsm_snapshot_merge merge;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 1);
	snapshot = snapshot_take(fd);
	own = region_map(snapshot, CHUNK, 0);
	ASSERT_NE(MAP_FAILED, own);
	own[0] = 2;
	ASSERT_EQ(0, snapshot_restore(fd, snapshot));
	ASSERT_EQ(2, map[0]);
	map[0] = 3;
	EXPECT_EQ(0, snapshot_merge(fd, snapshot, 0, &merge));
	EXPECT_EQ(0, merge.out_nr_conflicts);
	EXPECT_EQ(0, merge.out_merged);
	EXPECT_EQ(3, map[0]);
}

TEST_HARNESS_MAIN
