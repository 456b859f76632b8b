// SPDX-License-Identifier: GPL-2.0-only
/*
 * A huge folio that a snapshot has mapped cannot be split when the hardware loses a
 * page of it. When it was given back, the page allocator handed the lost page out.
 */
#include <linux/kernel-page-flags.h>

#include "../snapshot.h"

#define BAD	(77 * PAGE)

DVSM_FIXTURE(poisoned_share);

TEST_F(poisoned_share, page_is_never_used_again)
{
	int fd = region_create(self->dev, CHUNK, 0), snapshot;
	char *map = region_map(fd, CHUNK, 0), *old;
	uint64_t pfn, flags;
	int error;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 1);
	snapshot = snapshot_take(fd);
	old = region_map(snapshot, CHUNK, 0);
	ASSERT_NE(MAP_FAILED, old);
	ASSERT_EQ(0, stamps_wrong(map, CHUNK, 1));
	ASSERT_EQ(0, stamps_wrong(old, CHUNK, 1));
	pfn = PAGEMAP_PFN(pagemap_entry(map + BAD));
	/* Who has such a page mapped may be killed. */
	pid = child_start();
	if (!pid)
		_exit(madvise(map + BAD, PAGE, MADV_HWPOISON) && errno != EBUSY ? errno : 0);
	error = child_wait(pid);
	if (error == EINVAL || error == EPERM)
		SKIP(return, "MADV_HWPOISON: %s", strerror(error));
	ASSERT_EQ(0, munmap(old, CHUNK));
	old = region_map(snapshot, CHUNK, 0);
	ASSERT_NE(MAP_FAILED, old);
	EXPECT_EQ(SIGBUS, read_at(map + BAD));
	EXPECT_EQ(SIGBUS, read_at(old + BAD));
	EXPECT_EQ(0, stamps_wrong(old, BAD, 1));
	EXPECT_EQ(0, stamps_wrong(map, BAD, 1));
	ASSERT_EQ(0, munmap(old, CHUNK));
	ASSERT_EQ(0, munmap(map, CHUNK));
	close(snapshot);
	close(fd);
	/* Whoever takes all that there is does not get it. */
	node_heal(0);
	flags = kpage_flags(pfn);
	EXPECT_TRUE(flags & (1ULL << KPF_HWPOISON));
	EXPECT_FALSE(flags & (1ULL << KPF_BUDDY));
}

TEST_HARNESS_MAIN
