// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a review of the snapshots' bookkeeping found: operations in an order that
 * nothing had tried.
 */
#include <sys/uio.h>

#include "../snapshot.h"
#include "../dma/dma.h"

#define NR_CHUNKS	2
#define LENGTH		(NR_CHUNKS * CHUNK)

FIXTURE(review) {
	int dev;
	int fd;
	char *map;
};

FIXTURE_SETUP(review)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
}

FIXTURE_TEARDOWN_PARENT(review)
{
	param_set("limit_user_mb", 0);
	write_text("/sys/kernel/debug/dvsm/delay_us", "0");
	EXPECT_NO_LEAK();
}

/* Whoever got the snapshot's contents lost them when the snapshot was written to. */
TEST_F(review, region_does_not_lose_what_it_got_from_a_snapshot)
{
	char *own;
	int s;

	self->map[0] = 1;
	own = snapshot_take_mapped(self->fd, LENGTH, CHUNK, 0, &s);
	ASSERT_NE(MAP_FAILED, own);
	own[0] = 2;
	ASSERT_EQ(0, snapshot_restore(self->fd, s));
	ASSERT_EQ(2, self->map[0]);
	ASSERT_EQ(0, param_set("limit_user_mb", 2));
	EXPECT_EQ(SIGBUS, write_at(own, 3));
	ASSERT_EQ(0, param_set("limit_user_mb", 0));
	EXPECT_EQ(0, read_at(self->map));
	EXPECT_EQ(2, self->map[0]);
	EXPECT_EQ(2, own[0]);
	EXPECT_EQ(0, write_at(own, 3));
	EXPECT_EQ(2, self->map[0]);
}

/* What was made ready before it failed counted as written by the region. */
TEST_F(review, merge_that_was_refused_is_forgotten)
{
	struct dvsm_snapshot_merge merge;
	char *own;
	int s;

	stamp(self->map, LENGTH, 1);
	own = snapshot_take_mapped(self->fd, LENGTH, PAGE, 0, &s);
	ASSERT_NE(MAP_FAILED, own);
	self->map[PAGE] = 'p';
	own[2 * PAGE] = 's';
	self->map[CHUNK + PAGE] = 'p';
	own[CHUNK + 2 * PAGE] = 's';
	ASSERT_EQ(0, region_pin(s, CHUNK + 2 * PAGE, PAGE));
	EXPECT_EQ(-EBUSY, snapshot_merge(self->fd, s, 0, &merge));
	ASSERT_EQ(0, region_unpin(s, CHUNK + 2 * PAGE, PAGE));
	EXPECT_EQ(0, snapshot_merge(self->fd, s, 0, &merge));
	EXPECT_EQ(0, merge.out_nr_conflicts);
	EXPECT_EQ(2 * PAGE, merge.out_merged);
	EXPECT_EQ('s', self->map[2 * PAGE]);
	EXPECT_EQ('s', self->map[CHUNK + 2 * PAGE]);
	EXPECT_EQ('p', self->map[PAGE]);
}

/* Page by page it went into a pinned page; as a whole it was refused. */
TEST_F(review, merge_does_not_write_to_what_is_pinned)
{
	struct dvsm_snapshot_merge merge;
	char *own;
	int s;

	stamp(self->map, LENGTH, 1);
	own = snapshot_take_mapped(self->fd, LENGTH, PAGE, 0, &s);
	ASSERT_NE(MAP_FAILED, own);
	self->map[PAGE] = 'p';
	own[2 * PAGE] = 's';
	ASSERT_EQ(0, region_pin(self->fd, 2 * PAGE, PAGE));
	EXPECT_EQ(-EBUSY, snapshot_merge(self->fd, s, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_NE('s', self->map[2 * PAGE]);
	ASSERT_EQ(0, region_unpin(self->fd, 2 * PAGE, PAGE));
	EXPECT_EQ(0, snapshot_merge(self->fd, s, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ('s', self->map[2 * PAGE]);
}

/* Discarding began at the first page with memory, which made it a part of a chunk. */
TEST_F(review, discard_of_a_chunk_that_begins_with_a_hole_copies_nothing)
{
	struct dvsm_region_split split = { .size = sizeof(split) };
	char *own;
	int s;

	self->map[5 * PAGE] = 5;
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_SPLIT, &split));
	ASSERT_GT(CHUNK / 2, region_resident(self->fd));
	own = snapshot_take_mapped(self->fd, LENGTH, CHUNK, 0, &s);
	ASSERT_NE(MAP_FAILED, own);
	ASSERT_EQ(0, param_set("limit_user_mb", 1));
	EXPECT_EQ(0, region_discard(self->fd, 0, CHUNK, NULL));
	ASSERT_EQ(0, param_set("limit_user_mb", 0));
	EXPECT_EQ(0, read_at(own + 5 * PAGE));
	EXPECT_EQ(5, own[5 * PAGE]);
	EXPECT_EQ(0, self->map[5 * PAGE]);
	EXPECT_GT(CHUNK / 2, region_resident(s));
}

/* What was lost was taken for a hole, and stayed lost. */
TEST_F(review, discard_of_what_was_lost_makes_it_zeroes)
{
	struct dvsm_region_info info;
	char *own;
	int s;

	stamp(self->map, LENGTH, 1);
	own = snapshot_take_mapped(self->fd, LENGTH, CHUNK, 0, &s);
	ASSERT_NE(MAP_FAILED, own);
	ASSERT_EQ(0, param_set("limit_user_mb", LENGTH / MIB));
	EXPECT_EQ(0, write_at(self->map, 'w'));
	ASSERT_EQ(0, param_set("limit_user_mb", 0));
	ASSERT_EQ(0, region_info(s, &info));
	ASSERT_EQ(1, info.out_nr_lost);
	ASSERT_EQ(SIGBUS, read_at(own));
	EXPECT_EQ(0, region_discard(s, 0, CHUNK, NULL));
	EXPECT_EQ(0, read_at(own));
	EXPECT_EQ(0, own[0]);
	EXPECT_EQ(0, snapshot_restore(self->fd, s));
	EXPECT_EQ(0, self->map[0]);
}

/* The last reader wrote in place while a pipe held a page of what two had read. */
static void page_in_a_pipe(struct __test_metadata *_metadata, int fd, char *map,
			   uint64_t granularity)
{
	char *old, page[PAGE];
	struct iovec iov;
	int s, fds[2];

	stamp(map, LENGTH, 1);
	old = snapshot_take_mapped(fd, LENGTH, granularity, 0, &s);
	ASSERT_NE(MAP_FAILED, old);
	ASSERT_EQ(0, pipe(fds));
	iov = (struct iovec) { old + 4 * PAGE, PAGE };
	ASSERT_EQ(PAGE, vmsplice(fds[1], &iov, 1, 0));
	ASSERT_EQ(0, munmap(old, LENGTH));
	close(s);
	/* A read first, which may map it for writing at once. */
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	memset(map + 4 * PAGE, 0xdd, PAGE);
	ASSERT_EQ(PAGE, read(fds[0], page, PAGE));
	EXPECT_NE(0xdd, (unsigned char)page[0]);
	EXPECT_NE(0xdd, (unsigned char)page[PAGE - 1]);
	EXPECT_EQ(0xdd, (unsigned char)map[4 * PAGE]);
	close(fds[0]);
	close(fds[1]);
}

TEST_F(review, page_in_a_pipe_does_not_change_when_its_snapshot_is_gone)
{
	page_in_a_pipe(_metadata, self->fd, self->map, CHUNK);
}

TEST_F(review, page_in_a_pipe_does_not_change_when_its_snapshot_in_parts_is_gone)
{
	page_in_a_pipe(_metadata, self->fd, self->map, PAGE);
}

/*
 * A write fault that had left the lock and not yet marked its page was missed by an
 * ADVANCE, which then took the snapshot for equal, for ever.
 */
TEST_F(review, first_writes_beside_an_advance_are_told_by_the_next)
{
	const unsigned int nr = 24;
	unsigned int round, chunk, wrong = 0;
	struct dvsm_range ranges[CHUNK_PAGES];

	ASSERT_EQ(0, write_text("/sys/kernel/debug/dvsm/delay_us", "100"));
	for (round = 0; round < 10; round++) {
		int fd = region_create(self->dev, nr * CHUNK, 0), s = snapshot_take(fd), ret;
		volatile char *map = region_map(fd, nr * CHUNK, 0);
		char *own = region_map(s, nr * CHUNK, 0);
		pid_t writer;

		ASSERT_LE(0, s);
		ASSERT_NE(MAP_FAILED, map);
		ASSERT_NE(MAP_FAILED, own);
		writer = child_start();
		if (!writer) {
			for (chunk = 0; chunk < nr; chunk++)
				map[chunk * CHUNK] = 1;
			_exit(0);
		}
		while (!map[(nr - 1) * CHUNK]) {
			ret = snapshot_advance(fd, s, ranges, ARRAY_SIZE(ranges));
			ASSERT_TRUE(ret >= 0 || ret == -EBUSY) TH_LOG("%d", ret);
		}
		ASSERT_EQ(0, child_wait(writer));
		ASSERT_LE(0, snapshot_advance(fd, s, ranges, ARRAY_SIZE(ranges)));
		for (chunk = 0; chunk < nr; chunk++)
			wrong += own[chunk * CHUNK] != 1;
		munmap((void *)map, nr * CHUNK);
		munmap(own, nr * CHUNK);
		close(s);
		close(fd);
	}
	EXPECT_EQ(0, wrong);
}

/*
 * As poisoned_share_test says: while a snapshot has it mapped the folio cannot be split.
 * Who has it mapped may be killed.
 */
#define LOSE_PAGE(address)								\
do {											\
	pid_t pid = child_start();							\
	int error;									\
											\
	if (!pid)									\
		_exit(madvise(address, PAGE, MADV_HWPOISON) && errno != EBUSY ? errno : 0); \
	error = child_wait(pid);							\
	if (error == EINVAL || error == EPERM)						\
		SKIP(return, "MADV_HWPOISON: %s", strerror(error));			\
} while (0)

#define BAD	(7 * PAGE)

/* The copy of a lost page failed, so the snapshot lost the whole chunk. */
TEST_F(review, write_to_a_lost_page_costs_the_snapshot_that_page_alone)
{
	int s;
	char *own;

	stamp(self->map, LENGTH, 1);
	own = snapshot_take_mapped(self->fd, LENGTH, PAGE, 0, &s);
	ASSERT_NE(MAP_FAILED, own);
	ASSERT_EQ(0, stamps_wrong(own, LENGTH, 1));
	LOSE_PAGE(own + BAD);
	EXPECT_EQ(SIGBUS, write_at(self->map + BAD, 2));
	EXPECT_EQ(0, stamps_wrong(own, BAD, 1));
	EXPECT_EQ(0, read_at(own + BAD + PAGE));
	EXPECT_EQ(0, write_at(self->map + BAD + PAGE, 2));
}

/* Put together again, a good copy went into the lost page that it was a copy of. */
TEST_F(review, copied_page_does_not_go_back_to_a_lost_one)
{
	int s;
	char *own;

	stamp(self->map, LENGTH, 1);
	own = snapshot_take_mapped(self->fd, LENGTH, PAGE, 0, &s);
	ASSERT_NE(MAP_FAILED, own);
	ASSERT_EQ(0, stamps_wrong(own, LENGTH, 1));
	self->map[BAD] = 'p';
	LOSE_PAGE(own + BAD);
	munmap(own, LENGTH);
	close(s);
	EXPECT_EQ(0, read_at(self->map));
	EXPECT_EQ(0, read_at(self->map + BAD + PAGE));
	EXPECT_EQ(0, write_at(self->map + 2 * PAGE, 2));
	EXPECT_EQ(0, read_at(self->map + BAD));
	EXPECT_EQ('p', self->map[BAD]);
}

/* It stopped half way, and each one after it, too. */
TEST_F(review, merge_of_a_lost_page_changes_nothing)
{
	struct dvsm_snapshot_merge merge;
	char *own, *more;
	int s, t;

	stamp(self->map, LENGTH, 1);
	own = snapshot_take_mapped(self->fd, LENGTH, PAGE, 0, &s);
	ASSERT_NE(MAP_FAILED, own);
	self->map[CHUNK + PAGE] = 'p';
	own[0] = 's';
	own[CHUNK + 2 * PAGE] = 's';
	own[CHUNK + 3 * PAGE] = 's';
	more = snapshot_take_mapped(s, LENGTH, PAGE, 0, &t);
	ASSERT_NE(MAP_FAILED, more);
	EXPECT_EQ('s', more[CHUNK + 3 * PAGE]);
	EXPECT_EQ('s', own[CHUNK + 3 * PAGE]);
	LOSE_PAGE(own + CHUNK + 3 * PAGE);
	EXPECT_EQ(-EHWPOISON, snapshot_merge(self->fd, s, 0, &merge));
	EXPECT_NE('s', self->map[0]);
	EXPECT_NE('s', self->map[CHUNK + 2 * PAGE]);
	EXPECT_EQ(-EHWPOISON, snapshot_merge(self->fd, s, 0, &merge));
	EXPECT_EQ(0, merge.out_nr_conflicts);
	EXPECT_EQ('p', self->map[CHUNK + PAGE]);
}

TEST_HARNESS_MAIN
