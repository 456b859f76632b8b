// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshots at a limit: who takes one, or writes where one shares, and has no room for
 * the copy, in his memory cgroup or below RLIMIT_MEMLOCK. He gets an error, nobody loses
 * a byte, nobody is killed, and nothing is left of what could not be finished.
 */
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "dma/dma.h"

#define LENGTH	(8 * CHUNK)
#define OLD	1		/* the stamp of what the region holds at first */

FIXTURE(snapshot_limit) {
	int dev;
	struct cgroup cgroup;
	int sock[2];
};

FIXTURE_SETUP(snapshot_limit)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_CGROUP(&self->cgroup, "poor");
	cgroup_set(&self->cgroup, "memory.swap.max", "0");
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, self->sock));
}

FIXTURE_TEARDOWN_PARENT(snapshot_limit)
{
	EXPECT_EQ(0, cgroup_event(&self->cgroup, "memory.events", "oom_kill"));
	EXPECT_TRUE(cgroup_drains_to(&self->cgroup, MIB, 60))
		TH_LOG("%lu kept", cgroup_get(&self->cgroup, "memory.current"));
	cgroup_remove(&self->cgroup);
	EXPECT_NO_LEAK();
}

static int limit_set(struct cgroup *cgroup, unsigned long bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", bytes);
	return cgroup_set(cgroup, "memory.max", text);
}

/* A byte each way: "go on". */
static int step_on(int sock)
{
	return write(sock, "x", 1) == 1 ? 0 : -1;
}

static int step_wait(int sock)
{
	char byte;

	return read(sock, &byte, 1) == 1 ? 0 : -1;
}

enum why { REGISTRABLE, PINNED_REGION, PINNED_RANGE, HELD };

/* Chunks that have to be copied when the snapshot is taken. */
FIXTURE_VARIANT(snapshot_limit) {
	enum why why;
	uint32_t flags;
	size_t copied;
};

FIXTURE_VARIANT_ADD(snapshot_limit, registrable) {
	.why = REGISTRABLE, .flags = DVSM_REGION_F_REGISTRABLE, .copied = LENGTH,
};

FIXTURE_VARIANT_ADD(snapshot_limit, pinned_region) {
	.why = PINNED_REGION, .flags = DVSM_REGION_F_PINNED, .copied = LENGTH,
};

FIXTURE_VARIANT_ADD(snapshot_limit, pinned_range) {
	.why = PINNED_RANGE, .copied = 5 * CHUNK,
};

FIXTURE_VARIANT_ADD(snapshot_limit, held_by_a_pipe) {
	.why = HELD, .copied = LENGTH,
};

/* Let somebody use what the variant says past the page tables. */
static int hold(enum why why, int fd, char *map)
{
	int ends[2];

	if (why == PINNED_RANGE)
		return region_pin(fd, 2 * CHUNK, 5 * CHUNK);
	if (why != HELD)
		return 0;
	if (pipe(ends))
		return -errno;
	for (size_t at = 0; at < LENGTH; at += CHUNK) {
		struct iovec page = { .iov_base = map + at, .iov_len = PAGE };

		if (vmsplice(ends[1], &page, 1, 0) != (ssize_t)PAGE)
			return -errno;
	}
	return 0;
}

static pid_t take_in(struct cgroup *cgroup, int fd, int sock)
{
	pid_t pid = child_start();

	if (!pid) {
		int snapshot;

		if (cgroup_enter(cgroup))
			_exit(199);
		snapshot = snapshot_take(fd);
		_exit(snapshot < 0 ? -snapshot : fd_send(sock, snapshot) ? 198 : 0);
	}
	return pid;
}

TEST_F(snapshot_limit, taker_who_cannot_pay_is_refused_and_who_can_is_charged)
{
	int fd = region_create(self->dev, LENGTH, variant->flags), snapshot;
	struct counts before, after;
	unsigned long charged;
	char *map = region_map(fd, LENGTH, 0), *copy;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, OLD);
	ASSERT_EQ(0, hold(variant->why, fd, map));
	ASSERT_EQ(0, counts_read(&before));
	/* Room for two chunks and a part of the third. */
	ASSERT_EQ(0, limit_set(&self->cgroup, 5 * MIB));
	EXPECT_EQ(ENOMEM, child_wait(take_in(&self->cgroup, fd, self->sock[1])));
	EXPECT_EQ(0, cgroup_event(&self->cgroup, "memory.events", "oom_kill"));
	EXPECT_EQ(0, stats_reach("pages", before.pages, 60));
	EXPECT_EQ(0, stats_reach("regions", 1, 60));
	ASSERT_EQ(0, counts_read(&after));
	EXPECT_EQ(before.pinned_pages, after.pinned_pages);
	EXPECT_TRUE(cgroup_drains_to(&self->cgroup, MIB, 60));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, OLD));

	ASSERT_EQ(0, cgroup_set(&self->cgroup, "memory.max", "max"));
	ASSERT_EQ(0, child_wait(take_in(&self->cgroup, fd, self->sock[1])));
	snapshot = fd_receive(self->sock[0]);
	ASSERT_LE(0, snapshot);
	/* The snapshot alone: who took it is gone. */
	EXPECT_TRUE(cgroup_drains_to(&self->cgroup, variant->copied + MIB, 60));
	charged = cgroup_get(&self->cgroup, "memory.current");
	EXPECT_LE(variant->copied, charged);
	ASSERT_EQ(0, counts_read(&after));
	EXPECT_EQ(before.pages + variant->copied / PAGE, after.pages);
	EXPECT_EQ(before.pinned_pages, after.pinned_pages);
	stamp(map, LENGTH, 2);
	copy = region_map(snapshot, LENGTH, 0);
	EXPECT_EQ(0, stamps_wrong(copy, LENGTH, OLD));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 2));
	close(snapshot);
	munmap(copy, LENGTH);
}

/* The taker may lock nothing: a snapshot of pinned memory is not pinned. */
TEST_F(snapshot_limit, taker_at_his_memlock_limit_is_not_in_need_of_it)
{
	int fd = region_create(self->dev, LENGTH, variant->flags);
	char *map = region_map(fd, LENGTH, 0);
	struct counts before, after;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, OLD);
	ASSERT_EQ(0, hold(variant->why, fd, map));
	ASSERT_EQ(0, counts_read(&before));
	pid = child_start();
	if (!pid) {
		struct rlimit none = {};
		int snapshot;

		if (setrlimit(RLIMIT_MEMLOCK, &none) || become_nobody())
			_exit(199);
		snapshot = snapshot_take(fd);
		_exit(snapshot < 0 ? -snapshot : fd_send(self->sock[1], snapshot) ? 198 : 0);
	}
	ASSERT_EQ(0, child_wait(pid));
	ASSERT_LE(0, fd_receive(self->sock[0]));
	ASSERT_EQ(0, counts_read(&after));
	EXPECT_EQ(before.pages + variant->copied / PAGE, after.pages);
	EXPECT_EQ(before.pinned_pages, after.pinned_pages);
}

#define LOST "/sys/module/dvsm_lost/parameters/copy"	/* lost/: whether copies fail */

/* A region of eight chunks, and a snapshot of it whose taker pays from the cgroup. */
FIXTURE(snapshot_payer) {
	int dev;
	struct cgroup cgroup;
	int sock[2];
	int fd, snapshot;
	char *map, *old;		/* the region's, the snapshot's */
	unsigned long *nr_written;	/* shared: granules */
};

FIXTURE_VARIANT(snapshot_payer) {
	size_t granularity;
	bool by_call;
};

FIXTURE_VARIANT_ADD(snapshot_payer, chunk_mapped) { .granularity = CHUNK };
FIXTURE_VARIANT_ADD(snapshot_payer, chunk_written) { .granularity = CHUNK, .by_call = true };
FIXTURE_VARIANT_ADD(snapshot_payer, parts_of_64K_mapped) { .granularity = 65536 };
FIXTURE_VARIANT_ADD(snapshot_payer, parts_of_64K_written) { .granularity = 65536, .by_call = true };
FIXTURE_VARIANT_ADD(snapshot_payer, pages_mapped) { .granularity = PAGE };
FIXTURE_VARIANT_ADD(snapshot_payer, pages_written) { .granularity = PAGE, .by_call = true };

FIXTURE_SETUP(snapshot_payer)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_CGROUP(&self->cgroup, "payer");
	cgroup_set(&self->cgroup, "memory.swap.max", "0");
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, self->sock));
	self->nr_written = share_anonymous(PAGE);
	self->fd = region_create(self->dev, LENGTH, 0);
	/* Beyond the end there is SIGBUS at once. */
	self->map = region_map(self->fd, LENGTH + CHUNK, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	stamp(self->map, LENGTH, OLD);
}

FIXTURE_TEARDOWN_PARENT(snapshot_payer)
{
	write_text(LOST, "N");
	EXPECT_EQ(0, cgroup_event(&self->cgroup, "memory.events", "oom_kill"));
	EXPECT_TRUE(cgroup_drains_to(&self->cgroup, MIB, 60))
		TH_LOG("%lu kept", cgroup_get(&self->cgroup, "memory.current"));
	cgroup_remove(&self->cgroup);
	EXPECT_NO_LEAK();
}

/*
 * The byte after the first of each granule, until one cannot be written. What it needs
 * besides the copies, its stack and page tables, is touched before there is a limit.
 */
static int write_granules(int fd, char *map, size_t granularity, bool by_call,
			  unsigned long *nr_written)
{
	for (size_t at = 0; at < LENGTH; at += granularity, ++*nr_written) {
		int ret;

		if (by_call)
			ret = pwrite(fd, "w", 1, at + 32) == 1 ? 0 : errno;
		else
			ret = write_at(map + at + 32, 'w');
		if (ret)
			return ret;
	}
	return 0;
}

/* Whether the first so many granules, and no others, have the byte that is written there. */
static bool is_written_up_to(const char *map, size_t granularity, unsigned long nr)
{
	for (size_t at = 0; at < LENGTH; at += granularity)
		if ((map[at + 32] == 'w') != (at / granularity < nr))
			return false;
	return stamps_wrong(map, LENGTH, OLD) == 0;
}

/* Takes the snapshot, hands it over, and waits; with @writer it then writes to it at the limit. */
#define START_TAKER(taker, flags, writer)						\
do {											\
	(taker) = child_start();							\
	if (!(taker)) {									\
		int s, ret = 0;								\
		char *own;								\
											\
		if (cgroup_enter(&self->cgroup))					\
			_exit(199);							\
		own = snapshot_take_mapped(self->fd, LENGTH, variant->granularity, (flags), &s); \
		if (own == MAP_FAILED || stamps_wrong(own, LENGTH, OLD) ||		\
		    write_at(self->map + LENGTH, 1) != SIGBUS ||			\
		    fd_send(self->sock[1], s) || step_wait(self->sock[1]))		\
			_exit(198);							\
		if (writer)								\
			ret = write_granules(s, own, variant->granularity,		\
					     variant->by_call, self->nr_written);	\
		_exit(ret);								\
	}										\
	self->snapshot = fd_receive(self->sock[0]);					\
	ASSERT_LE(0, self->snapshot);							\
	self->old = region_map(self->snapshot, LENGTH, 0);				\
	ASSERT_NE(MAP_FAILED, self->old);						\
	/* So that no table is needed later. */						\
	ASSERT_EQ(0, stamps_wrong(self->old, LENGTH, OLD));				\
} while (0)

/* Room for one chunk, and for a part of the second. */
#define LEAVE_ROOM()									\
	ASSERT_EQ(0, limit_set(&self->cgroup, cgroup_get(&self->cgroup, "memory.current") + 3 * MIB))

TEST_F(snapshot_payer, writer_at_the_limit_gets_an_error_and_nobody_else_notices)
{
	unsigned long nr;
	pid_t taker;
	int ret;

	START_TAKER(taker, 0, true);
	LEAVE_ROOM();
	ASSERT_EQ(0, step_on(self->sock[0]));
	ret = child_wait(taker);
	EXPECT_EQ(variant->by_call ? ENOMEM : SIGBUS, ret);
	nr = *self->nr_written;
	EXPECT_LE(1, nr);
	EXPECT_GE(4 * MIB, nr * variant->granularity);
	EXPECT_EQ(0, cgroup_event(&self->cgroup, "memory.events", "oom_kill"));
	EXPECT_TRUE(is_written_up_to(self->old, variant->granularity, nr));
	EXPECT_TRUE(is_written_up_to(self->map, variant->granularity, 0));
	/* It goes on where it had to end. */
	ASSERT_EQ(0, cgroup_set(&self->cgroup, "memory.max", "max"));
	EXPECT_EQ(1, pwrite(self->snapshot, "w", 1, nr * variant->granularity + 32));
	EXPECT_TRUE(is_written_up_to(self->old, variant->granularity, nr + 1));
	EXPECT_TRUE(is_written_up_to(self->map, variant->granularity, 0));
}

TEST_F(snapshot_payer, live_writer_gets_an_error_where_a_strict_snapshot_s_payer_is_at_his_limit)
{
	struct dvsm_region_info info;
	unsigned long nr;
	pid_t taker;
	int ret;

	START_TAKER(taker, DVSM_SNAPSHOT_F_STRICT, false);
	LEAVE_ROOM();
	ret = write_granules(self->fd, self->map, variant->granularity, variant->by_call,
			     self->nr_written);
	EXPECT_EQ(variant->by_call ? ENOMEM : SIGBUS, ret);
	nr = *self->nr_written;
	EXPECT_LE(1, nr);
	EXPECT_GE(4 * MIB, nr * variant->granularity);
	EXPECT_EQ(0, cgroup_event(&self->cgroup, "memory.events", "oom_kill"));
	EXPECT_TRUE(is_written_up_to(self->map, variant->granularity, nr));
	EXPECT_TRUE(is_written_up_to(self->old, variant->granularity, 0));
	ASSERT_EQ(0, region_info(self->snapshot, &info));
	EXPECT_EQ(0, info.out_nr_lost);
	ASSERT_EQ(0, cgroup_set(&self->cgroup, "memory.max", "max"));
	EXPECT_EQ(1, pwrite(self->fd, "w", 1, nr * variant->granularity + 32));
	EXPECT_TRUE(is_written_up_to(self->map, variant->granularity, nr + 1));
	EXPECT_TRUE(is_written_up_to(self->old, variant->granularity, 0));
	/* Who waits in the cgroup was let live. */
	ASSERT_EQ(0, step_on(self->sock[0]));
	EXPECT_EQ(0, child_wait(taker));
}

/* A later snapshot, which was not strict, has left its terms with what the region reads. */
TEST_F(snapshot_payer, strict_snapshot_loses_nothing_after_one_that_was_not)
{
	struct dvsm_region_info info;
	unsigned long nr;
	int later, ret;
	pid_t taker;

	if (variant->granularity == CHUNK)
		SKIP(return, "nothing is left to be copied");
	START_TAKER(taker, DVSM_SNAPSHOT_F_STRICT, false);
	for (size_t at = 48; at < LENGTH; at += CHUNK)
		ASSERT_EQ(1, pwrite(self->fd, "w", 1, at));
	later = snapshot_take_in_parts(self->fd, variant->granularity, 0);
	ASSERT_LE(0, later);
	close(later);
	ASSERT_TRUE(stats_reach("regions", 2, 60) == 0);
	LEAVE_ROOM();
	ret = write_granules(self->fd, self->map, variant->granularity, variant->by_call,
			     self->nr_written);
	EXPECT_EQ(variant->by_call ? ENOMEM : SIGBUS, ret);
	nr = *self->nr_written;
	EXPECT_GT(LENGTH / variant->granularity, nr);
	EXPECT_TRUE(is_written_up_to(self->map, variant->granularity, nr));
	EXPECT_TRUE(is_written_up_to(self->old, variant->granularity, 0));
	ASSERT_EQ(0, region_info(self->snapshot, &info));
	EXPECT_EQ(0, info.out_nr_lost);
	ASSERT_EQ(0, step_on(self->sock[0]));
	EXPECT_EQ(0, child_wait(taker));
}

/* Each chunk that the snapshot has left is whole; the others tell that they are lost. */
TEST_F(snapshot_payer, live_writer_goes_on_where_a_snapshot_s_payer_is_at_his_limit)
{
	struct dvsm_region_info info;
	unsigned int nr_lost = 0;
	pid_t taker;

	START_TAKER(taker, 0, false);
	LEAVE_ROOM();
	EXPECT_EQ(0, write_granules(self->fd, self->map, variant->granularity, variant->by_call,
				    self->nr_written));
	EXPECT_TRUE(is_written_up_to(self->map, variant->granularity,
				     LENGTH / variant->granularity));
	EXPECT_EQ(0, cgroup_event(&self->cgroup, "memory.events", "oom_kill"));
	for (size_t at = 0; at < LENGTH; at += CHUNK) {
		char *mine = malloc(CHUNK);
		ssize_t got = pread(self->snapshot, mine, CHUNK, at);

		if (got < 0) {
			EXPECT_EQ(EIO, errno);
			EXPECT_EQ(SIGBUS, read_at(self->old + at));
			nr_lost++;
		} else {
			EXPECT_EQ((ssize_t)CHUNK, got);
			EXPECT_EQ(0, memcmp(mine, self->old + at, CHUNK));
			EXPECT_EQ(0, self->old[at + 32] == 'w');
		}
		free(mine);
	}
	ASSERT_EQ(0, region_info(self->snapshot, &info));
	EXPECT_EQ(nr_lost, info.out_nr_lost);
	EXPECT_LE(1, nr_lost);
	EXPECT_GT(LENGTH / CHUNK, nr_lost);
	ASSERT_EQ(0, step_on(self->sock[0]));
	EXPECT_EQ(0, child_wait(taker));
}

/* What was merged was paid for by a later snapshot's taker. */
TEST_F(snapshot_payer, live_writer_goes_on_in_what_it_merged)
{
	struct dvsm_snapshot_merge merge;
	struct dvsm_region_info info;
	int ready[2], go[2], own;
	pid_t merger, taker;
	char c = 0;

	if (variant->granularity == CHUNK)
		SKIP(return, "no parts");
	ASSERT_EQ(0, pipe(ready) | pipe(go));
	merger = child_start();
	if (!merger) {
		own = snapshot_take_in_parts(self->fd, variant->granularity, 0);
		if (own < 0 || write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(199);
		for (size_t at = 0; at < LENGTH; at += CHUNK)
			if (pwrite(own, "w", 1, at + 32) != 1)
				_exit(198);
		_exit(-snapshot_merge(self->fd, own, 0, &merge));
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	START_TAKER(taker, 0, false);
	ASSERT_EQ(1, write(go[1], &c, 1));
	ASSERT_EQ(0, child_wait(merger));
	/* The kernel has references on new pages for a while, until somebody compacts memory. */
	ASSERT_EQ(0, write_text("/proc/sys/vm/compact_memory", "1"));
	ASSERT_EQ(0, limit_set(&self->cgroup, cgroup_get(&self->cgroup, "memory.current")));
	EXPECT_EQ(0, write_granules(self->fd, self->map, variant->granularity, variant->by_call,
				    self->nr_written));
	EXPECT_TRUE(is_written_up_to(self->map, variant->granularity,
				     LENGTH / variant->granularity));
	ASSERT_EQ(0, region_info(self->snapshot, &info));
	EXPECT_LE(1, info.out_nr_lost);
	ASSERT_EQ(0, step_on(self->sock[0]));
	EXPECT_EQ(0, child_wait(taker));
}

/* The place of the parts stays with who paid for them, and is short of memory when he is gone. */
TEST_F(snapshot_payer, live_writer_goes_on_when_who_paid_is_gone_and_others_lose_nothing)
{
	struct dvsm_region_info info;
	pid_t taker;
	int other;

	if (variant->granularity == CHUNK)
		SKIP(return, "no parts");
	other = snapshot_take_in_parts(self->fd, variant->granularity, 0);
	ASSERT_LE(0, other);
	START_TAKER(taker, 0, false);
	for (size_t at = 0; at < LENGTH; at += CHUNK)
		ASSERT_EQ(1, pwrite(self->fd, "w", 1, at + 32));
	munmap(self->old, LENGTH);
	close(self->snapshot);
	ASSERT_EQ(0, step_on(self->sock[0]));
	ASSERT_EQ(0, child_wait(taker));
	ASSERT_EQ(0, write_text("/proc/sys/vm/compact_memory", "1"));
	ASSERT_EQ(0, limit_set(&self->cgroup, cgroup_get(&self->cgroup, "memory.current")));
	EXPECT_EQ(0, write_granules(self->fd, self->map, variant->granularity, variant->by_call,
				    self->nr_written));
	EXPECT_TRUE(is_written_up_to(self->map, variant->granularity,
				     LENGTH / variant->granularity));
	ASSERT_EQ(0, region_info(other, &info));
	EXPECT_EQ(0, info.out_nr_lost);
}

/*
 * The writer who goes on puts its parts back in the place of what the snapshot read. Where one is
 * lost meanwhile it loses that and nothing else.
 */
TEST_F(snapshot_payer, live_writer_who_goes_on_loses_no_more_than_a_part_that_is_lost)
{
	const size_t part = variant->granularity, last = CHUNK - part;
	struct dvsm_region_info info;
	pid_t taker;
	size_t at;
	int ret;

	if (part == CHUNK)
		SKIP(return, "no parts");
	if (access(LOST, W_OK) && !getenv("DVSM_VM"))
		SKIP(return, "no module that loses copies: load selftests/lost");
	START_TAKER(taker, 0, false);
	ASSERT_EQ(0, write_at(self->map + last + 32, 'w'));
	ASSERT_EQ(0, limit_set(&self->cgroup, cgroup_get(&self->cgroup, "memory.current")));
	ASSERT_EQ(0, write_text(LOST, "Y"));
	/* A part for which there is room after all cannot be copied either. */
	ret = EHWPOISON;
	for (at = 0; at < last && ret; at += part) {
		if (variant->by_call)
			ret = pwrite(self->fd, "w", 1, at + 32) == 1 ? 0 : errno;
		else
			ret = write_at(self->map + at + 32, 'w');
		if (ret && ret != EHWPOISON && ret != SIGBUS)
			break;
	}
	ASSERT_EQ(0, write_text(LOST, "N"));
	ASSERT_EQ(0, ret);
	EXPECT_EQ(0, stamps_wrong(self->map, last, OLD));
	EXPECT_EQ('w', self->map[at - part + 32]);
	for (at = last; at < CHUNK; at += PAGE)
		EXPECT_EQ(SIGBUS, read_at(self->map + at));
	EXPECT_EQ(0, memcmp(self->map + CHUNK, self->old + CHUNK, LENGTH - CHUNK));
	EXPECT_EQ(SIGBUS, read_at(self->old));
	ASSERT_EQ(0, region_info(self->snapshot, &info));
	EXPECT_EQ(1, info.out_nr_lost);
	ASSERT_EQ(0, step_on(self->sock[0]));
	EXPECT_EQ(0, child_wait(taker));
}

/* To pin what is shared is to copy it. */
TEST_F(snapshot_payer, pin_at_the_limit_is_refused_and_leaves_no_pin)
{
	struct counts counts;
	pid_t taker, pid;

	START_TAKER(taker, 0, false);
	LEAVE_ROOM();
	EXPECT_EQ(-ENOMEM, region_pin(self->snapshot, 0, LENGTH));
	ASSERT_EQ(0, counts_read(&counts));
	EXPECT_EQ(0, counts.pinned_pages);
	EXPECT_EQ(0, region_pinned(self->snapshot));
	EXPECT_TRUE(is_written_up_to(self->map, variant->granularity, 0));
	EXPECT_TRUE(is_written_up_to(self->old, variant->granularity, 0));
	ASSERT_EQ(0, cgroup_set(&self->cgroup, "memory.max", "max"));
	/* Whoever may not lock so much has nothing copied for it. */
	ASSERT_EQ(0, counts_read(&counts));
	pid = child_start();
	if (!pid) {
		struct rlimit limit = { 6 * CHUNK, 6 * CHUNK };

		if (setrlimit(RLIMIT_MEMLOCK, &limit) || become_nobody())
			_exit(199);
		_exit(-region_pin(self->snapshot, 0, LENGTH));
	}
	EXPECT_EQ(ENOMEM, child_wait(pid));
	EXPECT_EQ(0, stats_reach("pages", counts.pages, 0));
	EXPECT_EQ(0, region_pinned(self->snapshot));
	ASSERT_EQ(0, region_pin(self->snapshot, 0, LENGTH));
	EXPECT_EQ(LENGTH, region_pinned(self->snapshot));
	EXPECT_TRUE(is_written_up_to(self->map, variant->granularity, 0));
	EXPECT_TRUE(is_written_up_to(self->old, variant->granularity, 0));
	ASSERT_EQ(0, step_on(self->sock[0]));
	EXPECT_EQ(0, child_wait(taker));
}

/*
 * What the module keeps besides memory is small, so that it takes many chunks to need
 * more than a few pages for it.
 */
#define MANY	320UL
#define FEW	(14 * PAGE)

FIXTURE(snapshot_books) {
	int dev;
	struct cgroup cgroup;
	int fd;
};

FIXTURE_SETUP(snapshot_books)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_CGROUP(&self->cgroup, "books");
	cgroup_set(&self->cgroup, "memory.swap.max", "0");
	self->fd = region_create(self->dev, MANY * CHUNK, 0);
	ASSERT_LE(0, self->fd);
	for (size_t at = 0; at < MANY * CHUNK; at += CHUNK)
		ASSERT_EQ(1, pwrite(self->fd, "o", 1, at));
}

FIXTURE_TEARDOWN_PARENT(snapshot_books)
{
	EXPECT_EQ(0, cgroup_event(&self->cgroup, "memory.events", "oom_kill"));
	cgroup_remove(&self->cgroup);
	EXPECT_NO_LEAK();
}

/*
 * In the cgroup, which gets room for a few pages: more than a process needs for itself. The
 * limit comes first, so that no CPU ever has as much of the cgroup in stock: what another one
 * has cannot be had at once.
 */
static void limit_and_enter(struct cgroup *cgroup)
{
	if (limit_set(cgroup, FEW) || cgroup_enter(cgroup))
		_exit(199);
}

TEST_F(snapshot_books, taker_without_room_for_what_says_who_shares_gets_ENOMEM)
{
	pid_t pid = child_start();

	if (!pid) {
		int snapshot;

		limit_and_enter(&self->cgroup);
		snapshot = snapshot_take(self->fd);
		_exit(snapshot < 0 ? -snapshot : 0);
	}
	EXPECT_EQ(ENOMEM, child_wait(pid));
	EXPECT_EQ(0, stats_reach("regions", 1, 60));
	EXPECT_EQ(0, stats_reach("pages", MANY * CHUNK_PAGES, 60));
	for (size_t at = 0; at < MANY * CHUNK; at += CHUNK)
		ASSERT_EQ(1, pwrite(self->fd, "n", 1, at));
	EXPECT_EQ(0, stats_reach("pages", MANY * CHUNK_PAGES, 60));
}

TEST_F(snapshot_books, writer_at_his_limit_pays_for_nothing_that_somebody_elses_snapshot_needs)
{
	int snapshot = snapshot_take_in_parts(self->fd, PAGE, 0);
	char byte = 0;
	pid_t pid;

	ASSERT_LE(0, snapshot);
	pid = child_start();
	if (!pid) {
		limit_and_enter(&self->cgroup);
		for (size_t at = 0; at < MANY * CHUNK; at += CHUNK)
			if (pwrite(self->fd, "n", 1, at) != 1)
				_exit(errno);
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	for (size_t at = 0; at < MANY * CHUNK; at += CHUNK) {
		ASSERT_EQ(1, pread(snapshot, &byte, 1, at));
		ASSERT_EQ('o', byte);
		ASSERT_EQ(1, pread(self->fd, &byte, 1, at));
		ASSERT_EQ('n', byte);
	}
}

/*
 * For a snapshot of zeroes the family notes which chunks were written to, and goes on to know it
 * when they are discarded. Each that is noted here is far from the others: half a KiB.
 */
TEST_F(snapshot_books, what_says_that_zeroes_were_written_to_is_paid_for_by_the_writer)
{
	enum { NR = 2000 };
	const unsigned long far = 64 * CHUNK;
	int fd = region_create(self->dev, NR * far, 0), snapshot = snapshot_take(fd);
	pid_t pid;

	ASSERT_LE(0, fd);
	ASSERT_LE(0, snapshot);
	pid = child_start();
	if (!pid) {
		unsigned long at, before;

		if (cgroup_enter(&self->cgroup))
			_exit(199);
		before = cgroup_get(&self->cgroup, "memory.current");
		for (at = 0; at < NR * far; at += far)
			if (pwrite(fd, "n", 1, at) != 1 || region_discard(fd, at, CHUNK, NULL))
				_exit(errno);
		_exit(cgroup_get(&self->cgroup, "memory.current") < before + NR * 360UL ? 198 : 0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, region_resident(fd));
	close(snapshot);
	close(fd);
	EXPECT_TRUE(cgroup_drains_to(&self->cgroup, MIB / 2, 60))
		TH_LOG("%lu kept", cgroup_get(&self->cgroup, "memory.current"));
}

TEST_HARNESS_MAIN
