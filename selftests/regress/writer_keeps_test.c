// SPDX-License-Identifier: GPL-2.0-only
/*
 * A write to a page that was mapped read-only holds a reference of the core's. It was
 * taken for a reader's, so that the writer never kept its folio and every write fault
 * of that kind left the region's memory somewhere else.
 */
#include "../snapshot.h"

DVSM_FIXTURE(writer_keeps);

TEST_F(writer_keeps, folio_that_it_has_mapped_for_reading)
{
	int fd = region_create(self->dev, CHUNK, 0), snapshot;
	char *map = region_map(fd, CHUNK / 2, 0), *old;	/* in 4 KiB pages */
	uint64_t pfn;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK / 2, 1);
	pfn = PAGEMAP_PFN(pagemap_entry(map));
	ASSERT_NE(0, pfn);
	snapshot = snapshot_take(fd);
	old = region_map(snapshot, CHUNK / 2, 0);
	ASSERT_NE(MAP_FAILED, old);
	ASSERT_EQ(0, read_at(map));
	ASSERT_EQ(pfn, PAGEMAP_PFN(pagemap_entry(map)));
	ASSERT_EQ(0, write_at(map, 77));
	EXPECT_EQ(pfn, PAGEMAP_PFN(pagemap_entry(map)));
	EXPECT_EQ(0, stamps_wrong(old, CHUNK / 2, 1));
	EXPECT_EQ(77, map[0]);
}

TEST_HARNESS_MAIN
