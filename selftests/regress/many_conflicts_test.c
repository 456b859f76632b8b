// SPDX-License-Identifier: GPL-2.0-only
/*
 * A merge reported 256 ranges of conflict at most, whatever room there was.
 */
#include "../snapshot.h"

#define NR_CONFLICTS	260
#define LENGTH		(2 * NR_CONFLICTS * CHUNK)

DVSM_FIXTURE(many_conflicts);

TEST_F(many_conflicts, are_all_reported_where_there_is_room)
{
	int fd = region_create(self->dev, LENGTH, 0), snapshot = snapshot_take(fd);
	static struct dvsm_range ranges[NR_CONFLICTS + 2];
	struct dvsm_snapshot_merge merge = {
		.size = sizeof(merge),
		.snapshot = snapshot,
		.conflicts = (uintptr_t)ranges,
		.nr_conflicts = NR_CONFLICTS + 1,
	};
	uint64_t i;

	ASSERT_LE(0, snapshot);
	for (i = 0; i < NR_CONFLICTS; i++) {
		ASSERT_EQ(1, pwrite(fd, "a", 1, 2 * i * CHUNK));
		ASSERT_EQ(1, pwrite(snapshot, "b", 1, 2 * i * CHUNK));
	}
	ASSERT_EQ(-1, ioctl(fd, DVSM_IOC_SNAPSHOT_MERGE, &merge));
	ASSERT_EQ(EAGAIN, errno);
	ASSERT_EQ(NR_CONFLICTS, merge.out_nr_conflicts);
	for (i = 0; i < NR_CONFLICTS; i++) {
		ASSERT_EQ(2 * i * CHUNK, ranges[i].offset);
		ASSERT_EQ(CHUNK, ranges[i].length);
	}
	EXPECT_EQ(0, ranges[i].length);
}

TEST_HARNESS_MAIN
