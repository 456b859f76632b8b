// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that the hardware lost, and memory that is taken out of use before that:
 * a poisoned page kills only who touches it, never comes back as zeroes, and is
 * never used again; a page that is soft-offlined moves.
 */
#include <signal.h>
#include <linux/kernel-page-flags.h>

#include "fixture.h"
#include "snapshot.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

#define LENGTH (2 * CHUNK)
#define BAD (CHUNK / 2 + 3 * PAGE)	/* the page to be lost */

REGION_FIXTURE(poison);

/*
 * The kernel may say EBUSY, because the page cache keeps the page; what counts is
 * what becomes of it.
 */
#define LOSE_PAGE(map)									\
do {											\
	if (madvise((map) + BAD, PAGE, MADV_HWPOISON) && errno != EBUSY)		\
		SKIP(return, "MADV_HWPOISON: %s", strerror(errno));			\
} while (0)

TEST_F(poison, toucher_gets_sigbus_and_the_other_pages_keep_their_contents)
{
	char *map = region_map(self->fd, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 1);
	LOSE_PAGE(map);
	EXPECT_EQ(SIGBUS, read_at(map + BAD));
	EXPECT_EQ(BUS_MCEERR_AR, last_signal_code());
	EXPECT_EQ(SIGBUS, write_at(map + BAD + 100, 1));
	EXPECT_EQ(0, stamps_wrong(map, BAD, 1));
	EXPECT_EQ(0, read_at(map + BAD + PAGE));
	EXPECT_EQ(0, write_at(map + BAD - 1, 1));
	EXPECT_EQ(0, write_at(map + CHUNK, 1));
}

/* By hwpoison-inject, which needs no mapping. EBUSY is no answer, see LOSE_PAGE(). */
static int lose_pfn(uint64_t pfn)
{
	char text[32];
	int ret;

	snprintf(text, sizeof(text), "%#llx", (unsigned long long)pfn);
	ret = write_text("/sys/kernel/debug/hwpoison/corrupt-pfn", text);
	return ret == -EBUSY ? 0 : ret;
}

TEST_F(poison, page_that_nobody_has_mapped_is_lost_like_others)
{
	char *map = region_map(self->fd, LENGTH, 0), *buffer = malloc(LENGTH), *other = NULL;
	int fd = region_reopen(self->fd, 0), snapshot = -1, ret;
	bool shares = !variant->implicit && !is_pinned(variant->flags);
	uint64_t pfn;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 2);
	stamp(map + CHUNK, CHUNK, 3);
	pfn = PAGEMAP_PFN(pagemap_entry(map + BAD));
	ASSERT_NE(0, pfn);
	if (shares) {
		snapshot = snapshot_take_range(self->fd, 0, LENGTH, 0);
		ASSERT_LE(0, snapshot);
	}
	ASSERT_EQ(0, munmap(map, LENGTH));
	ret = lose_pfn(pfn);
	if (ret == -ENOENT && !getenv("DVSM_VM"))
		SKIP(return, "no hwpoison-inject: modprobe it");
	ASSERT_EQ(0, ret) TH_LOG("%s", strerror(-ret));
	EXPECT_EQ(BAD, pread(fd, buffer, LENGTH, 0));
	EXPECT_EQ(-1, pread(fd, buffer, PAGE, BAD));
	EXPECT_EQ(EHWPOISON, errno);
	EXPECT_EQ(0, stamps_wrong(buffer, BAD, 2));
	if (shares) {
		other = region_map(snapshot, LENGTH, 0);
		ASSERT_NE(MAP_FAILED, other);
		close(fd);
		close(self->fd);
	} else {
		other = region_map(self->fd, LENGTH, 0);
		ASSERT_NE(MAP_FAILED, other);
	}
	EXPECT_EQ(SIGBUS, read_at(other + BAD));
	EXPECT_EQ(BUS_MCEERR_AR, last_signal_code());
	EXPECT_EQ(0, stamps_wrong(other, BAD, 2));
	EXPECT_EQ(0, stamps_wrong(other + CHUNK, CHUNK, 3));
}

TEST_F(poison, lost_page_never_comes_back_as_zeroes)
{
	char *map = region_map(self->fd, LENGTH, 0), *again;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 2);
	LOSE_PAGE(map);
	EXPECT_EQ(0, madvise(map, LENGTH, MADV_DONTNEED));
	EXPECT_EQ(SIGBUS, read_at(map + BAD));
	write_text("/proc/sys/vm/drop_caches", "3");
	again = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, again);
	EXPECT_EQ(SIGBUS, read_at(again + BAD));
	EXPECT_EQ(BUS_MCEERR_AR, last_signal_code());
	ASSERT_EQ(0, munmap(map, LENGTH));
	EXPECT_EQ(0, region_populate(self->fd, 0, LENGTH, NULL));
	EXPECT_EQ(SIGBUS, read_at(again + BAD));
	pid = child_start();
	if (!pid) {
		char *own = region_map(self->fd, LENGTH, 0);

		_exit(read_at(own + BAD) != SIGBUS);
	}
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(poison, read_and_write_stop_before_it_and_then_fail)
{
	char *map = region_map(self->fd, LENGTH, 0), *buffer = malloc(LENGTH);
	int fd = region_reopen(self->fd, 0);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 3);
	LOSE_PAGE(map);
	EXPECT_EQ(BAD, pread(fd, buffer, LENGTH, 0));
	EXPECT_EQ(-1, pread(fd, buffer, PAGE, BAD));
	EXPECT_EQ(EHWPOISON, errno);
	EXPECT_EQ(-1, pread(fd, buffer, 1, BAD + PAGE - 1));
	EXPECT_EQ(EHWPOISON, errno);
	EXPECT_EQ(PAGE, pread(fd, buffer, PAGE, BAD + PAGE));
	EXPECT_EQ(100, pwrite(fd, buffer, 200, BAD - 100));
	EXPECT_EQ(-1, pwrite(fd, buffer, 1, BAD));
	EXPECT_EQ(EHWPOISON, errno);
}

TEST_F(poison, residency_tells_and_the_page_is_still_counted)
{
	char *map = region_map(self->fd, LENGTH, 0);
	struct dvsm_chunk chunks[2];

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 4);
	LOSE_PAGE(map);
	ASSERT_EQ(2, region_residency(self->fd, 0, LENGTH, chunks, 2));
	EXPECT_EQ(DVSM_CHUNK_F_POISONED, chunks[0].flags & DVSM_CHUNK_F_POISONED);
	EXPECT_EQ(0, chunks[1].flags & DVSM_CHUNK_F_POISONED);
	EXPECT_EQ(CHUNK, chunks[0].resident);
}

TEST_F(poison, other_processes_that_have_it_mapped_are_told_when_they_touch_it)
{
	char *map = region_map(self->fd, LENGTH, 0);
	struct barrier *barrier = barrier_make(2);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 5);
	pid = child_start();
	if (!pid) {
		char *own = region_map(self->fd, LENGTH, 0);

		EXPECT_EQ(0, stamps_wrong(own, LENGTH, 5));
		barrier_wait(barrier);
		barrier_wait(barrier);
		EXPECT_EQ(0, stamps_wrong(own, BAD, 5));
		EXPECT_EQ(SIGBUS, read_at(own + BAD));
		EXPECT_EQ(BUS_MCEERR_AR, last_signal_code());
		EXPECT_EQ(SIGBUS, read_at(map + BAD));
		_exit(0);
	}
	barrier_wait(barrier);
	LOSE_PAGE(map);
	barrier_wait(barrier);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, stamps_wrong(map, BAD, 5));
}

static int punch(int fd, off_t offset, off_t length)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) ? -errno : 0;
}

TEST_F(poison, discard_replaces_it_unless_pinned)
{
	char *map = region_map(self->fd, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 6);
	LOSE_PAGE(map);
	if (is_pinned(variant->flags)) {
		EXPECT_EQ(-EBUSY, region_discard(self->fd, 0, CHUNK, NULL));
		EXPECT_EQ(SIGBUS, read_at(map + BAD));
		return;
	}
	/* A part of it cannot be made zeroes. */
	if (!variant->implicit) {
		EXPECT_EQ(-EHWPOISON, punch(self->fd, BAD, 100));
		EXPECT_EQ(-EHWPOISON, punch(self->fd, BAD - PAGE, PAGE + 100));
	}
	EXPECT_EQ(0, stamps_wrong(map, BAD, 6));
	/* The page alone, and then the whole chunk. */
	EXPECT_EQ(0, region_discard(self->fd, BAD, PAGE, NULL));
	EXPECT_EQ(0, stamps_wrong(map, BAD, 6));
	EXPECT_EQ(0, read_at(map + BAD));
	EXPECT_TRUE(is_zero(map + BAD, PAGE));
	EXPECT_EQ(0, write_at(map + BAD, 1));
	EXPECT_EQ(0, region_discard(self->fd, 0, CHUNK, NULL));
	EXPECT_TRUE(is_zero(map, CHUNK));
	stamp(map, CHUNK, 7);
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 7));
}

TEST_F(poison, snapshot_has_all_else)
{
	bool copied = variant->implicit || is_pinned(variant->flags);
	char *map = region_map(self->fd, LENGTH, 0), *other;
	struct dvsm_region_info info;
	int snapshot, strict;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 11);
	stamp(map + CHUNK, CHUNK, 21);
	LOSE_PAGE(map);
	other = snapshot_take_mapped(self->fd, LENGTH, 0, 0, &snapshot);
	ASSERT_NE(MAP_FAILED, other);
	EXPECT_EQ(0, stamps_wrong(other + CHUNK, CHUNK, 21));
	EXPECT_EQ(SIGBUS, read_at(other + BAD));
	/* What is copied is copied by chunks. */
	ASSERT_EQ(0, region_info(snapshot, &info));
	EXPECT_EQ(copied, info.out_nr_lost);
	EXPECT_EQ(copied ? SIGBUS : 0, read_at(other));
	if (!copied)
		EXPECT_EQ(0, stamps_wrong(other, BAD, 11));
	/* The region goes on; there is no room for another copy of a chunk of which a page is gone. */
	EXPECT_EQ(0, write_at(map, 1));
	EXPECT_EQ(SIGBUS, read_at(other));
	EXPECT_EQ(0, stamps_wrong(other + CHUNK, CHUNK, 21));
	strict = snapshot_take_range(self->fd, 0, 0, DVSM_SNAPSHOT_F_STRICT);
	EXPECT_EQ(copied, strict < 0);
	if (!copied)
		EXPECT_EQ(SIGBUS, write_at(map, 2));
}

TEST_F(poison, migrate_moves_all_else)
{
	char *map = region_map(self->fd, LENGTH, 0);
	struct dvsm_region_migrate arg;
	int there;

	if (is_pinned(variant->flags))
		SKIP(return, "pinned memory does not move");
	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 12);
	stamp(map + CHUNK, CHUNK, 22);
	there = !page_node(map + CHUNK);
	LOSE_PAGE(map);
	region_migrate(self->fd, 0, LENGTH, 1 << there, &arg);
	EXPECT_LT(0, arg.out_failed);
	EXPECT_EQ(0, stamps_wrong(map, BAD, 12));
	EXPECT_EQ(0, stamps_wrong(map + CHUNK, CHUNK, 22));
	EXPECT_EQ(there, page_node(map + CHUNK));
	EXPECT_EQ(SIGBUS, read_at(map + BAD));
}

TEST_F(poison, page_is_never_used_again)
{
	char *map = region_map(self->fd, LENGTH, 0);
	uint64_t pfn;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 8);
	pfn = PAGEMAP_PFN(pagemap_entry(map + BAD));
	LOSE_PAGE(map);
	ASSERT_EQ(0, munmap(map, LENGTH));
	close(self->fd);
	close(self->dev);
	pid = child_start();
	if (!pid) {
		char *all = mmap(NULL, 256 * MIB, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

		_exit(all == MAP_FAILED);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_TRUE(kpage_flags(pfn) >> KPF_HWPOISON & 1);
}

TEST_F(poison, page_that_is_soft_offlined_keeps_its_contents_elsewhere)
{
	char *map = region_map(self->fd, LENGTH, 0);
	int ret, tries = 0;
	uint64_t pfn;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 9);
	pfn = PAGEMAP_PFN(pagemap_entry(map + BAD));
	/* It is EBUSY too while somebody in the kernel just looks at the page. */
	do {
		ret = madvise(map + BAD, PAGE, MADV_SOFT_OFFLINE);
		sleep_ms(10);
	} while (ret && errno == EBUSY && tries++ < 100 && !is_pinned(variant->flags));
	if (ret && errno == EINVAL)
		SKIP(return, "MADV_SOFT_OFFLINE");
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 9));
	EXPECT_EQ(is_pinned(variant->flags) ? REGION_LENGTH : LENGTH, region_resident(self->fd));
	if (is_pinned(variant->flags)) {
		EXPECT_NE(0, ret);
		EXPECT_EQ(pfn, PAGEMAP_PFN(pagemap_entry(map + BAD)));
		return;
	}
	EXPECT_EQ(0, ret);
	EXPECT_NE(pfn, PAGEMAP_PFN(pagemap_entry(map + BAD)));
	/* Also one that nobody has mapped, which might be taken for a clean file's page. */
	ASSERT_EQ(0, madvise(map, LENGTH, MADV_DONTNEED));
	EXPECT_EQ(0, read_at(map + 5 * PAGE));
	madvise(map + 5 * PAGE, PAGE, MADV_SOFT_OFFLINE);
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 9));
}

TEST_F(poison, private_copy_that_is_lost_is_not_the_region_s)
{
	char *map = region_map(self->fd, LENGTH, 0);
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 10);
	pid = child_start();
	if (!pid) {
		char *private = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->fd,
				     0);

		private[BAD] = 1;
		/* The owner of dirty anonymous memory may be killed at once. */
		if (madvise(private + BAD, PAGE, MADV_HWPOISON) && errno != EBUSY)
			_exit(4);
		_exit(read_at(private + BAD) != SIGBUS);
	}
	status = child_wait(pid);
	if (status == 4)
		SKIP(return, "MADV_HWPOISON");
	EXPECT_TRUE(status == 0 || status == 128 + SIGBUS) TH_LOG("child: %d", status);
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 10));
}

TEST_HARNESS_MAIN
