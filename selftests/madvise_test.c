// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every advice that madvise(2) knows, and the file advice and cache dropping that
 * would throw away an ordinary file's clean pages: none may lose a byte, and the
 * two that say "remove" must.
 */
#include <sys/prctl.h>

#include "fixture.h"

#ifndef MADV_COLD
#define MADV_COLD		20
#define MADV_PAGEOUT		21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

REGION_FIXTURE(madvise);

static char *stamped(int fd)
{
	char *map = region_map(fd, REGION_LENGTH, 0);

	if (map == MAP_FAILED)
		abort();
	stamp(map, REGION_LENGTH, 1);
	return map;
}

static int advise(void *addr, size_t length, int advice)
{
	return madvise(addr, length, advice) ? -errno : 0;
}

TEST_F(madvise, advice_that_drops_mappings_or_pages_loses_no_byte)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_COLD, MADV_PAGEOUT, MADV_FREE,
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_MERGEABLE,
		MADV_UNMERGEABLE, MADV_DONTDUMP, MADV_DODUMP, MADV_COLLAPSE, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_KEEPONFORK,
		MADV_DOFORK,
	};
	char *map = stamped(self->fd);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(advices); i++) {
		advise(map, REGION_LENGTH, advices[i]);
		advise(map + PAGE, 3 * PAGE, advices[i]);
		EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 1)) TH_LOG("advice %d", advices[i]);
		EXPECT_EQ(REGION_LENGTH, region_resident(self->fd))
			TH_LOG("advice %d", advices[i]);
	}
}

TEST_F(madvise, pageout_after_unmapping_by_others_loses_no_byte)
{
	char *map = stamped(self->fd);
	int i;

	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, advise(map, REGION_LENGTH, MADV_DONTNEED));
		EXPECT_EQ(0, read_at(map));
		EXPECT_EQ(0, advise(map, REGION_LENGTH, MADV_PAGEOUT));
	}
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 1));
}

TEST_F(madvise, dropping_caches_loses_no_byte)
{
	char *map = stamped(self->fd), *again;

	EXPECT_EQ(0, write_text("/proc/sys/vm/drop_caches", "3"));
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 1));
	/* Nor when nobody has it mapped. */
	ASSERT_EQ(0, munmap(map, REGION_LENGTH));
	sync();
	EXPECT_EQ(0, write_text("/proc/sys/vm/drop_caches", "3"));
	EXPECT_EQ(0, write_text("/proc/sys/vm/drop_caches", "1"));
	again = region_map(self->fd, REGION_LENGTH, 0);
	ASSERT_NE(MAP_FAILED, again);
	EXPECT_EQ(0, stamps_wrong(again, REGION_LENGTH, 1));
}

TEST_F(madvise, file_advice_loses_no_byte)
{
	static const int advices[] = {
		POSIX_FADV_DONTNEED, POSIX_FADV_NOREUSE, POSIX_FADV_WILLNEED, POSIX_FADV_RANDOM,
		POSIX_FADV_SEQUENTIAL, POSIX_FADV_NORMAL,
	};
	char *map = stamped(self->fd);
	int fd = region_reopen(self->fd, 0);
	size_t i;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, munmap(map, REGION_LENGTH));
	for (i = 0; i < ARRAY_SIZE(advices); i++) {
		posix_fadvise(fd, 0, 0, advices[i]);
		posix_fadvise(fd, PAGE, 5 * CHUNK, advices[i]);
	}
	readahead(fd, 0, REGION_LENGTH);
	sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
			SYNC_FILE_RANGE_WAIT_AFTER);
	map = region_map(fd, REGION_LENGTH, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 1));
}

TEST_F(madvise, compaction_and_splitting_lose_no_byte)
{
	char *map = stamped(self->fd);

	write_text("/proc/sys/vm/compact_memory", "1");
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 1));
	write_text("/sys/kernel/debug/split_huge_pages", "1");
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 1));
	EXPECT_EQ(REGION_LENGTH, region_resident(self->fd));
	stamp(map, REGION_LENGTH, 2);
	write_text("/proc/sys/vm/compact_memory", "1");
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 2));
}

TEST_F(madvise, remove_discards_the_range_unless_pinned)
{
	char *map = stamped(self->fd);

	if (is_pinned(variant->flags)) {
		EXPECT_EQ(-EBUSY, advise(map + CHUNK, 2 * CHUNK, MADV_REMOVE));
		EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 1));
		return;
	}
	EXPECT_EQ(0, advise(map + CHUNK, 2 * CHUNK, MADV_REMOVE));
	EXPECT_EQ(REGION_LENGTH - 2 * CHUNK, region_resident(self->fd));
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 1));
	EXPECT_TRUE(is_zero(map + CHUNK, 2 * CHUNK));
	EXPECT_EQ(0, advise(map + 4 * CHUNK + PAGE, PAGE, MADV_REMOVE));
	EXPECT_TRUE(is_zero(map + 4 * CHUNK + PAGE, PAGE));
	EXPECT_NE(0, *(uint64_t *)(map + 4 * CHUNK));
	EXPECT_NE(0, *(uint64_t *)(map + 4 * CHUNK + 2 * PAGE));
}

TEST_F(madvise, child_lacks_what_is_not_to_be_forked)
{
	char *map = stamped(self->fd);
	pid_t pid;

	EXPECT_EQ(0, advise(map + CHUNK, CHUNK + PAGE, MADV_DONTFORK));
	pid = child_start();
	if (!pid) {
		EXPECT_EQ(SIGSEGV, read_at(map + CHUNK));
		EXPECT_EQ(SIGSEGV, read_at(map + 2 * CHUNK));
		EXPECT_EQ(0, write_at(map + 2 * CHUNK + PAGE, 5));
		EXPECT_EQ(0, write_at(map, 6));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(6, map[0]);
	EXPECT_EQ(5, map[2 * CHUNK + PAGE]);
	EXPECT_EQ(0, advise(map, REGION_LENGTH, MADV_DOFORK));
	pid = child_start();
	if (!pid)
		_exit(read_at(map + CHUNK));
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(madvise, wiping_on_fork_is_refused)
{
	char *map = stamped(self->fd);

	EXPECT_EQ(-EINVAL, advise(map, REGION_LENGTH, MADV_WIPEONFORK));
}

TEST_F(madvise, populating_by_advice_allocates_huge)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, advise(map, 2 * CHUNK, MADV_POPULATE_READ));
	EXPECT_EQ(0, advise(map + 2 * CHUNK, REGION_LENGTH - 2 * CHUNK, MADV_POPULATE_WRITE));
	EXPECT_TRUE(is_huge_mapped(map, REGION_LENGTH));
	EXPECT_EQ(REGION_LENGTH, region_resident(self->fd));
	EXPECT_TRUE(is_zero(map, REGION_LENGTH));
}

TEST_F(madvise, advice_against_huge_pages_changes_how_it_is_mapped_not_what_it_is)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	struct dvsm_region_info info;

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, advise(map, REGION_LENGTH, MADV_NOHUGEPAGE));
	stamp(map, REGION_LENGTH, 2);
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 2));
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(REGION_LENGTH, info.out_resident_huge);
	EXPECT_EQ(REGION_LENGTH, info.out_resident);
}

TEST_F(madvise, process_without_huge_pages_reads_the_same)
{
	char *map = stamped(self->fd);
	pid_t pid = child_start();

	if (!pid) {
		char *own;

		EXPECT_EQ(0, prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
		own = region_map(self->fd, REGION_LENGTH, 0);
		EXPECT_EQ(0, stamps_wrong(own, REGION_LENGTH, 1));
		stamp(own, REGION_LENGTH, 3);
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 3));
}

TEST_F(madvise, collapse_changes_nothing)
{
	char *map = stamped(self->fd);

	EXPECT_NE(0, advise(map, REGION_LENGTH, MADV_COLLAPSE));
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 1));
	EXPECT_TRUE(is_huge_mapped(map, REGION_LENGTH));
}

DVSM_FIXTURE(split);

TEST_F(split, folio_split_by_the_core_is_told_by_residency_and_discarded_whole)
{
	int fd = region_create(self->dev, 4 * CHUNK, 0);
	char *map = region_map(fd, 4 * CHUNK, 0);
	struct dvsm_chunk chunks[4];
	int i;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, 4 * CHUNK, 1);
	if (write_text("/sys/kernel/debug/split_huge_pages", "1"))
		SKIP(return, "no debugfs split_huge_pages");
	ASSERT_EQ(4, region_residency(fd, 0, 0, chunks, 4));
	if (chunks[0].flags & DVSM_CHUNK_F_HUGE)
		SKIP(return, "this kernel's split_huge_pages leaves file folios alone");
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(CHUNK, chunks[i].resident);
		EXPECT_EQ(CHUNK_PAGES, chunks[i].nr_folios);
		EXPECT_EQ(0, chunks[i].order_max);
	}
	EXPECT_EQ(0, stamps_wrong(map, 4 * CHUNK, 1));
	EXPECT_EQ(4 * CHUNK, region_resident(fd));
	ASSERT_EQ(0, region_discard(fd, CHUNK, CHUNK, NULL));
	EXPECT_EQ(3 * CHUNK, region_resident(fd));
	EXPECT_TRUE(is_zero(map + CHUNK, CHUNK));
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 1));
}

TEST_HARNESS_MAIN
