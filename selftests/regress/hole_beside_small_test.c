// SPDX-License-Identifier: GPL-2.0-only
/*
 * A hole between small folios was filled by asking for a huge one first, which
 * could not have been added and which a limit may refuse.
 */
#include "../split.h"

DVSM_FIXTURE(hole_beside_small);

TEST_F(hole_beside_small, needs_no_more_than_its_page)
{
	int fd = region_create(self->dev, CHUNK, 0);
	char *map = region_map(fd, CHUNK, 0);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 1);
	SPLIT_CHUNK(fd, map, 0);
	ASSERT_EQ(0, param_set("limit_mb", 2));
	EXPECT_EQ(0, write_at(map + SPLIT_LOST, 1));
	ASSERT_EQ(0, param_set("limit_mb", 0));
	EXPECT_EQ(CHUNK, region_resident(fd));
}

TEST_HARNESS_MAIN
