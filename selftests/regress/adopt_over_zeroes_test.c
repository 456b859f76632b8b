// SPDX-License-Identifier: GPL-2.0-only
/*
 * A region that was discarded while a snapshot read its memory reads zeroes by a
 * share. A snapshot taken then has nothing that could be marked; when the region
 * got contents by a restore, that snapshot was taken for equal still.
 */
#include "../snapshot.h"

DVSM_FIXTURE(adopt_over_zeroes);

TEST_F(adopt_over_zeroes, snapshot_of_zeroes_differs_from_what_a_restore_brought)
{
	int fd = region_create(self->dev, CHUNK, 0), full, empty;
	volatile char *map = region_map(fd, CHUNK, 0);
	struct dvsm_range range = {};

	ASSERT_NE(MAP_FAILED, map);
	map[0] = 1;
	full = snapshot_take(fd);
	ASSERT_LE(0, full);
	ASSERT_EQ(0, region_discard(fd, 0, CHUNK, NULL));
	empty = snapshot_take(fd);
	ASSERT_LE(0, empty);
	ASSERT_EQ(0, snapshot_restore(fd, full));
	ASSERT_EQ(1, map[0]);
	EXPECT_EQ(1, region_diff(fd, empty, &range, 1));
	EXPECT_EQ(CHUNK, range.length);
	ASSERT_EQ(0, snapshot_restore(fd, empty));
	EXPECT_EQ(0, map[0]);
}

TEST_HARNESS_MAIN
