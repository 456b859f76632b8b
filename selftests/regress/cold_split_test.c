// SPDX-License-Identifier: GPL-2.0-only
/*
 * MADV_COLD on a part of a huge folio makes the core split it. It did so in regions
 * that must be huge and in pinned ones too.
 */
#include "../fixture.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#endif

FIXTURE(cold_split)
{
	int dev;
};

FIXTURE_VARIANT(cold_split)
{
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(cold_split, huge_required)
{
	.flags = DVSM_REGION_F_HUGE_REQUIRED,
};

FIXTURE_VARIANT_ADD(cold_split, pinned)
{
	.flags = DVSM_REGION_F_PINNED,
};

FIXTURE_SETUP(cold_split)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
}

FIXTURE_TEARDOWN_PARENT(cold_split)
{
	EXPECT_NO_LEAK();
}

TEST_F(cold_split, huge_folios_stay_whole)
{
	int fd = region_create(self->dev, REGION_LENGTH, variant->flags);
	char *map = region_map(fd, REGION_LENGTH, 0);
	struct dvsm_chunk chunks[REGION_LENGTH / CHUNK];
	int i;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, REGION_LENGTH, 1);
	madvise(map + 4 * PAGE, PAGE, MADV_COLD);
	madvise(map + CHUNK + CHUNK / 2, CHUNK, MADV_COLD);
	ASSERT_EQ(ARRAY_SIZE(chunks),
		  region_residency(fd, 0, REGION_LENGTH, chunks, ARRAY_SIZE(chunks)));
	for (i = 0; i < ARRAY_SIZE(chunks); i++)
		EXPECT_EQ(9, chunks[i].order_min);
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 1));
}

TEST_HARNESS_MAIN
