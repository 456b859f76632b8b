// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that the hardware lost, and memory that is taken out of use before that:
 * a poisoned page kills only who touches it, never comes back as zeroes, and is
 * never used again; a page that is soft-offlined moves. And what comes of copies that
 * meet such a page.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/uio.h>
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

TEST_F(poison, what_a_restore_replaces_may_be_lost)
{
	char *map = region_map(self->fd, LENGTH, 0);
	int snapshot;

	if (variant->implicit || is_pinned(variant->flags))
		SKIP(return, "keeps its folios");
	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 2);
	snapshot = snapshot_take_range(self->fd, 0, LENGTH, 0);
	ASSERT_LE(0, snapshot);
	stamp(map, LENGTH, 3);
	LOSE_PAGE(map);
	EXPECT_EQ(SIGBUS, read_at(map + BAD));
	ASSERT_EQ(0, snapshot_restore(self->fd, snapshot));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 2));
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
	} while (ret && errno == EBUSY && tries++ < 1000 && !is_pinned(variant->flags));
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

/*
 * Copies that meet lost memory. No test can lose memory under a running copy; but the
 * module in lost/ can answer for the copy as if it had.
 */
#define LOST "/sys/module/dvsm_lost/parameters/"

/* Whether copies fail from now on, and what tells which page it was says so too. */
static int lose_copies(bool lose)
{
	int ret = write_text(LOST "check", lose ? "Y" : "N");

	return ret ? ret : write_text(LOST "copy", lose ? "Y" : "N");
}

/* Pages of a map as the fixture has it that are not as it wrote them. */
static size_t nr_wrong(const char *map)
{
	return stamps_wrong(map, CHUNK, 31) + stamps_wrong(map + CHUNK, CHUNK, 32);
}

FIXTURE(copy)
{
	int dev;
	int fd;
	char *map;
};

FIXTURE_VARIANT(copy)
{
	uint64_t granularity;
};

FIXTURE_VARIANT_ADD(copy, chunk) { .granularity = CHUNK };
FIXTURE_VARIANT_ADD(copy, block) { .granularity = 16 * PAGE };
FIXTURE_VARIANT_ADD(copy, page) { .granularity = PAGE };

FIXTURE_SETUP(copy)
{
	int ret;

	OPEN_DEVICE_OR_SKIP(self->dev);
	ret = lose_copies(false);
	if (ret == -ENOENT && !getenv("DVSM_VM"))
		SKIP(return, "no module that loses copies: load selftests/lost");
	ASSERT_EQ(0, ret) TH_LOG("%s", strerror(-ret));
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	stamp(self->map, CHUNK, 31);
	stamp(self->map + CHUNK, CHUNK, 32);
}

FIXTURE_TEARDOWN_PARENT(copy)
{
	lose_copies(false);
	EXPECT_NO_LEAK();
}

TEST_F(copy, write_that_cannot_have_one_is_sigbus_and_later_succeeds)
{
	for (int side = 0; side < 2; side++) {
		unsigned long before;
		char *other, *writer, *reader;
		int snapshot;

		other = snapshot_take_mapped(self->fd, LENGTH, variant->granularity,
					     DVSM_SNAPSHOT_F_STRICT, &snapshot);
		ASSERT_NE(MAP_FAILED, other);
		writer = side ? other : self->map;
		reader = side ? self->map : other;
		before = pages_charged();
		ASSERT_EQ(0, lose_copies(true));
		EXPECT_EQ(SIGBUS, write_at(writer + BAD + 100, 3));
		EXPECT_EQ(BUS_MCEERR_AR, last_signal_code());
		ASSERT_EQ(0, lose_copies(false));
		EXPECT_EQ(before, pages_charged());
		EXPECT_EQ(0, nr_wrong(writer));
		EXPECT_EQ(0, nr_wrong(reader));
		EXPECT_EQ(0, write_at(writer + BAD + 100, 3));
		EXPECT_EQ(variant->granularity / PAGE, pages_charged() - before);
		EXPECT_EQ(3, writer[BAD + 100]);
		EXPECT_EQ(0, reader[BAD + 100]);
		EXPECT_EQ(0, nr_wrong(writer));
		EXPECT_EQ(0, nr_wrong(reader));
		ASSERT_EQ(0, munmap(other, LENGTH));
		close(snapshot);
		self->map[BAD + 100] = 0;
	}
}

TEST_F(copy, writer_goes_on_at_the_cost_of_a_chunk_but_not_of_one_in_parts)
{
	bool whole = variant->granularity == CHUNK;
	struct dvsm_region_info info;
	int snapshot;
	char *other = snapshot_take_mapped(self->fd, LENGTH, variant->granularity, 0, &snapshot);

	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, lose_copies(true));
	EXPECT_EQ(whole ? 0 : SIGBUS, write_at(self->map + BAD + 100, 3));
	ASSERT_EQ(0, lose_copies(false));
	EXPECT_EQ(0, nr_wrong(self->map));
	EXPECT_EQ(whole ? SIGBUS : 0, read_at(other + BAD));
	EXPECT_EQ(0, stamps_wrong(other + CHUNK, CHUNK, 32));
	ASSERT_EQ(0, region_info(snapshot, &info));
	EXPECT_EQ(whole, info.out_nr_lost);
	if (!whole)
		EXPECT_EQ(0, stamps_wrong(other, CHUNK, 31));
}

TEST_F(copy, parts_that_are_there_stay_and_the_next_comes_later)
{
	unsigned long before;
	int snapshot;
	char *other;

	if (variant->granularity == CHUNK)
		SKIP(return, "no parts");
	other = snapshot_take_mapped(self->fd, LENGTH, variant->granularity, 0, &snapshot);
	ASSERT_NE(MAP_FAILED, other);
	before = pages_charged();
	ASSERT_EQ(0, write_at(self->map + 100, 1));
	ASSERT_EQ(0, lose_copies(true));
	EXPECT_EQ(SIGBUS, write_at(self->map + BAD + 100, 3));
	EXPECT_EQ(0, write_at(self->map + 101, 2));
	ASSERT_EQ(0, lose_copies(false));
	EXPECT_EQ(0, nr_wrong(self->map));
	EXPECT_EQ(0, nr_wrong(other));
	EXPECT_EQ(0, self->map[BAD + 100]);
	EXPECT_EQ(0, write_at(self->map + BAD + 100, 3));
	EXPECT_EQ(2 * variant->granularity / PAGE, pages_charged() - before);
	EXPECT_EQ(1, self->map[100]);
	EXPECT_EQ(2, self->map[101]);
	EXPECT_EQ(0, nr_wrong(self->map));
	EXPECT_EQ(0, nr_wrong(other));
}

TEST_F(copy, parts_go_back_later)
{
	unsigned long before = pages_charged();
	int snapshot;
	char *other;

	if (variant->granularity == CHUNK)
		SKIP(return, "no parts");
	other = snapshot_take_mapped(self->fd, LENGTH, variant->granularity, 0, &snapshot);
	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, write_at(self->map + BAD + 100, 3));
	ASSERT_EQ(0, munmap(other, LENGTH));
	close(snapshot);
	/* A fault each: after some that were for nothing nobody tries any more. */
	ASSERT_EQ(0, munmap(self->map, LENGTH));
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	ASSERT_EQ(0, lose_copies(true));
	EXPECT_EQ(3, self->map[BAD + 100]);
	ASSERT_EQ(0, lose_copies(false));
	EXPECT_EQ(before + variant->granularity / PAGE, pages_charged());
	EXPECT_EQ(0, nr_wrong(self->map));
	EXPECT_EQ(before, pages_charged());
	EXPECT_EQ(3, self->map[BAD + 100]);
}

TEST_F(copy, merge_that_would_need_one_changes_nothing)
{
	struct dvsm_snapshot_merge merge;
	int snapshot;
	char *other;

	if (variant->granularity == CHUNK)
		SKIP(return, "merges whole chunks");
	other = snapshot_take_mapped(self->fd, LENGTH, variant->granularity, 0, &snapshot);
	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, write_at(self->map + 100, 1));
	ASSERT_EQ(0, write_at(other + BAD + 100, 3));
	ASSERT_EQ(0, lose_copies(true));
	EXPECT_EQ(-EHWPOISON, snapshot_merge(self->fd, snapshot, 0, &merge));
	/* The pages can be read when they are checked, but what they are to replace cannot be. */
	ASSERT_EQ(0, write_text(LOST "check", "N"));
	EXPECT_EQ(-EHWPOISON, snapshot_merge(self->fd, snapshot, 0, &merge));
	ASSERT_EQ(0, lose_copies(false));
	EXPECT_EQ(0, self->map[BAD + 100]);
	EXPECT_EQ(1, self->map[100]);
	EXPECT_EQ(0, nr_wrong(self->map));
	EXPECT_EQ(0, nr_wrong(other));
	EXPECT_EQ(0, snapshot_merge(self->fd, snapshot, 0, &merge));
	EXPECT_EQ(variant->granularity, merge.out_merged);
	EXPECT_EQ(3, self->map[BAD + 100]);
	EXPECT_EQ(1, self->map[100]);
	EXPECT_EQ(0, nr_wrong(self->map));
}

/* Both sides have parts of their own there: the first copy is the one into the region's page. */
TEST_F(copy, page_that_a_merge_could_not_replace_stays_as_it_was)
{
	struct dvsm_snapshot_merge merge;
	int snapshot;
	char *other;

	if (variant->granularity == CHUNK)
		SKIP(return, "merges whole chunks");
	other = snapshot_take_mapped(self->fd, LENGTH, variant->granularity, 0, &snapshot);
	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, write_at(self->map + 100, 1));
	ASSERT_EQ(0, write_at(self->map + BAD + 100, 2));
	ASSERT_EQ(0, write_at(other + BAD + 100, 3));
	ASSERT_EQ(0, write_text(LOST "copy", "Y"));
	EXPECT_EQ(-EHWPOISON, snapshot_merge(self->fd, snapshot, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	ASSERT_EQ(0, lose_copies(false));
	/* What the kernel is told to lose it loses a little later. */
	sleep_ms(200);
	for (uint64_t at = 0; at < CHUNK; at += PAGE)
		ASSERT_EQ(0, read_at(self->map + at));
	EXPECT_EQ(2, self->map[BAD + 100]);
	EXPECT_EQ(0, nr_wrong(self->map));
	EXPECT_EQ(0, nr_wrong(other));
	EXPECT_EQ(0, snapshot_merge(self->fd, snapshot, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ(variant->granularity, merge.out_merged);
	EXPECT_EQ(1, self->map[100]);
	EXPECT_EQ(3, self->map[BAD + 100]);
	EXPECT_EQ(0, nr_wrong(self->map));
}

TEST_F(copy, snapshot_that_has_to_copy_at_once_loses_the_chunk)
{
	struct dvsm_region_info info;
	int fds[2], snapshot;
	struct iovec iov = { .iov_base = self->map + BAD, .iov_len = PAGE };
	char *other;

	if (variant->granularity != CHUNK)
		SKIP(return, "copies whole chunks");
	ASSERT_EQ(0, pipe(fds));
	/* Somebody holds a page: he might write to it. */
	ASSERT_EQ(PAGE, vmsplice(fds[1], &iov, 1, 0));
	ASSERT_EQ(0, lose_copies(true));
	other = snapshot_take_mapped(self->fd, LENGTH, CHUNK, 0, &snapshot);
	ASSERT_NE(MAP_FAILED, other);
	EXPECT_EQ(-EHWPOISON, snapshot_take_range(self->fd, 0, 0, DVSM_SNAPSHOT_F_STRICT));
	ASSERT_EQ(0, lose_copies(false));
	EXPECT_EQ(SIGBUS, read_at(other));
	EXPECT_EQ(0, stamps_wrong(other + CHUNK, CHUNK, 32));
	EXPECT_EQ(0, nr_wrong(self->map));
	ASSERT_EQ(0, region_info(snapshot, &info));
	EXPECT_EQ(1, info.out_nr_lost);
}

/* On 6.1; newer kernels, and with them the module, move with a function of their own. */
TEST_F(copy, chunk_moves_later)
{
	struct dvsm_region_migrate arg;
	int there;

	if (variant->granularity != CHUNK)
		SKIP(return, "whole chunks");
	NEED_NODES(2);
	there = !page_node(self->map);
	ASSERT_EQ(0, lose_copies(true));
	region_migrate(self->fd, 0, CHUNK, 1 << there, &arg);
	ASSERT_EQ(0, lose_copies(false));
	EXPECT_EQ(CHUNK, arg.out_moved + arg.out_failed);
	EXPECT_EQ(0, nr_wrong(self->map));
	EXPECT_EQ(arg.out_moved ? there : !there, page_node(self->map));
	EXPECT_EQ(0, region_migrate(self->fd, 0, CHUNK, 1 << there, &arg));
	EXPECT_EQ(0, nr_wrong(self->map));
	EXPECT_EQ(there, page_node(self->map));
}

TEST_F(copy, chunk_becomes_huge_later)
{
	struct dvsm_region_split cut = { .size = sizeof(cut) };
	struct dvsm_region_promote join = { .size = sizeof(join) };
	int fd = region_create(self->dev, CHUNK, 0);
	char *map = region_map(fd, CHUNK, 0);

	if (variant->granularity != CHUNK)
		SKIP(return, "whole chunks");
	ASSERT_NE(MAP_FAILED, map);
	stamp(map, 64 * PAGE, 33);
	ASSERT_EQ(0, ioctl(fd, DVSM_IOC_REGION_SPLIT, &cut));
	ASSERT_EQ(1, cut.out_nr_split);
	ASSERT_EQ(0, lose_copies(true));
	EXPECT_EQ(0, ioctl(fd, DVSM_IOC_REGION_PROMOTE, &join));
	ASSERT_EQ(0, lose_copies(false));
	EXPECT_EQ(1, join.out_nr_busy);
	EXPECT_EQ(0, stamps_wrong(map, 64 * PAGE, 33));
	EXPECT_EQ(64 * PAGE, region_resident(fd));
	join = (struct dvsm_region_promote) { .size = sizeof(join) };
	EXPECT_EQ(0, ioctl(fd, DVSM_IOC_REGION_PROMOTE, &join));
	EXPECT_EQ(1, join.out_nr_promoted);
	EXPECT_EQ(0, stamps_wrong(map, 64 * PAGE, 33));
	EXPECT_TRUE(is_zero(map + 64 * PAGE, CHUNK - 64 * PAGE));
}

TEST_HARNESS_MAIN
