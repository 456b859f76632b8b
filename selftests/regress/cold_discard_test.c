// SPDX-License-Identifier: GPL-2.0-only
/*
 * MADV_COLD on a part of a huge folio makes the core split it, and only the first
 * piece keeps the mark of having been written to. With that piece discarded, the
 * rest must not be taken for zeroes.
 */
#include "../snapshot.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#endif

DVSM_FIXTURE(cold_discard)

TEST_F(cold_discard, what_is_left_is_in_a_snapshot)
{
	int fd = region_create(self->dev, CHUNK, 0), snapshot;
	char *map = region_map(fd, CHUNK, 0), byte = 0;
	struct dvsm_chunk chunk = {};
	struct dvsm_region_discard arg = { .size = sizeof(arg), .length = PAGE };

	ASSERT_NE(MAP_FAILED, map);
	memset(map, 7, CHUNK);
	/* A passing reference can be in the way of the split. */
	for (int i = 0; i < 100; i++) {
		madvise(map + CHUNK / 2, PAGE, MADV_COLD);
		ASSERT_EQ(1, region_residency(fd, 0, CHUNK, &chunk, 1));
		if (chunk.nr_folios > 1)
			break;
		usleep(10000);
	}
	ASSERT_LT(1, chunk.nr_folios);
	ASSERT_EQ(0, ioctl(fd, DVSM_IOC_REGION_DISCARD, &arg));
	snapshot = snapshot_take(fd);
	ASSERT_LE(0, snapshot);
	EXPECT_EQ(1, pread(snapshot, &byte, 1, CHUNK / 2));
	EXPECT_EQ(7, byte);
	EXPECT_EQ(1, pread(snapshot, &byte, 1, 0));
	EXPECT_EQ(0, byte);
}

TEST_HARNESS_MAIN
