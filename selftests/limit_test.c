// SPDX-License-Identifier: GPL-2.0-only
/*
 * RLIMIT_MEMLOCK for pinned regions, and the module's own limits, of a user and
 * of the device: refused in every way that takes memory, and given back.
 */
#include <sched.h>
#include <sys/resource.h>

#include "dma/dma.h"

DVSM_FIXTURE(memlock);

static void set_memlock(uint64_t bytes)
{
	struct rlimit limit = { bytes, bytes };

	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		abort();
}

/* A child without privileges, who may lock so much. */
static pid_t poor_child(uint64_t bytes)
{
	pid_t pid = child_start();

	if (!pid) {
		set_memlock(bytes);
		if (become_nobody())
			_exit(99);
	}
	return pid;
}

TEST_F(memlock, pinned_region_over_the_limit_is_enomem_and_takes_nothing)
{
	struct counts counts;
	pid_t pid = poor_child(4 * CHUNK);

	if (!pid) {
		EXPECT_EQ(-ENOMEM, region_create(self->dev, 4 * CHUNK + PAGE,
						 DVSM_REGION_F_PINNED));
		EXPECT_EQ(-ENOMEM, region_create(self->dev, GIB, DVSM_REGION_F_PINNED));
		EXPECT_EQ(-ENOMEM, region_create(self->dev, LENGTH_MAX, DVSM_REGION_F_PINNED));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_TRUE(counts_reach_zero(&counts, 60));
}

TEST_F(memlock, limit_can_be_used_up_exactly_and_again_after_a_close)
{
	pid_t pid = poor_child(4 * CHUNK);

	if (!pid) {
		int i;

		for (i = 0; i < 5; i++) {
			int a = region_create(self->dev, 3 * CHUNK, DVSM_REGION_F_PINNED);
			int b = region_create(self->dev, CHUNK, DVSM_REGION_F_PINNED);

			EXPECT_LE(0, a);
			EXPECT_LE(0, b);
			EXPECT_EQ(-ENOMEM, region_create(self->dev, PAGE, DVSM_REGION_F_PINNED));
			close(a);
			close(b);
		}
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(memlock, zero_limit_allows_none_and_no_pin_needs_none)
{
	pid_t pid = poor_child(0);

	if (!pid) {
		int fd = region_create(self->dev, 4 * CHUNK, DVSM_REGION_F_REGISTRABLE);

		EXPECT_EQ(-ENOMEM, region_create(self->dev, PAGE, DVSM_REGION_F_PINNED));
		EXPECT_LE(0, fd);
		EXPECT_EQ(0, region_populate(fd, 0, 0, NULL));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(memlock, privileged_user_is_exempt)
{
	pid_t pid = child_start();

	if (!pid) {
		set_memlock(0);
		EXPECT_LE(0, region_create(self->dev, 4 * CHUNK, DVSM_REGION_F_PINNED));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(memlock, processes_of_one_user_share_the_account)
{
	struct barrier *barrier = barrier_make(2);
	pid_t first = poor_child(4 * CHUNK), second;

	if (!first) {
		EXPECT_LE(0, region_create(self->dev, 3 * CHUNK, DVSM_REGION_F_PINNED));
		barrier_wait(barrier);
		barrier_wait(barrier);
		_exit(0);
	}
	second = poor_child(4 * CHUNK);
	if (!second) {
		barrier_wait(barrier);
		EXPECT_EQ(-ENOMEM, region_create(self->dev, 2 * CHUNK, DVSM_REGION_F_PINNED));
		EXPECT_LE(0, region_create(self->dev, CHUNK, DVSM_REGION_F_PINNED));
		barrier_wait(barrier);
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(first));
	EXPECT_EQ(0, child_wait(second));
}

TEST_F(memlock, account_is_held_by_the_last_mapping)
{
	pid_t pid = poor_child(4 * CHUNK);

	if (!pid) {
		int fd = region_create(self->dev, 4 * CHUNK, DVSM_REGION_F_PINNED);
		char *map = region_map(fd, CHUNK, 0);

		EXPECT_NE(MAP_FAILED, map);
		close(fd);
		EXPECT_EQ(-ENOMEM, region_create(self->dev, PAGE, DVSM_REGION_F_PINNED));
		munmap(map, CHUNK);
		EXPECT_LE(0, region_create(self->dev, 4 * CHUNK, DVSM_REGION_F_PINNED));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(memlock, creator_pays_after_he_gave_it_away)
{
	pid_t pid = poor_child(4 * CHUNK);

	if (!pid) {
		int fd = region_create(self->dev, 4 * CHUNK, DVSM_REGION_F_PINNED);
		struct counts counts;
		pid_t heir;

		EXPECT_LE(0, fd);
		heir = child_start();
		if (!heir) {
			pause();
			_exit(0);
		}
		close(fd);
		EXPECT_EQ(-ENOMEM, region_create(self->dev, PAGE, DVSM_REGION_F_PINNED));
		kill(heir, SIGKILL);
		child_wait(heir);
		/* Not before the heir's descriptor is really gone. */
		EXPECT_TRUE(counts_read(&counts) || counts_reach_zero(&counts, 60));
		EXPECT_LE(0, region_create(self->dev, PAGE, DVSM_REGION_F_PINNED));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(memlock, pinned_pages_are_counted_and_come_back_to_zero)
{
	int fd = region_create(self->dev, 3 * CHUNK, DVSM_REGION_F_PINNED);
	struct counts counts;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, counts_read(&counts));
	EXPECT_EQ(3 * CHUNK_PAGES, counts.pinned_pages);
	close(fd);
	EXPECT_TRUE(counts_reach_zero(&counts, 60));
}

FIXTURE(limit) {
	int dev;
};

FIXTURE_SETUP(limit)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	ASSERT_EQ(0, param_set("limit_mb", 16));
}

FIXTURE_TEARDOWN_PARENT(limit)
{
	param_set("limit_mb", 0);
	param_set("limit_user_mb", 0);
	EXPECT_NO_LEAK();
}

TEST_F(limit, every_way_to_take_memory_is_refused_at_the_limit)
{
	int fd = region_create(self->dev, 16 * CHUNK, 0);
	char *map = region_map(fd, 16 * CHUNK, 0);
	struct dvsm_region_info info;
	uint64_t bytes;
	int pipe_fds[2];

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, pipe(pipe_fds));
	EXPECT_EQ(0, region_populate(fd, 0, 8 * CHUNK, NULL));
	EXPECT_EQ(-ENOSPC, region_populate(fd, 0, 0, &bytes));
	EXPECT_EQ(0, bytes);
	EXPECT_EQ(SIGBUS, read_at(map + 9 * CHUNK));
	EXPECT_EQ(SIGBUS, write_at(map + 9 * CHUNK, 1));
	EXPECT_EQ(-1, pwrite(fd, "x", 1, 9 * CHUNK));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(-1, fallocate(fd, 0, 0, 16 * CHUNK));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(-1, madvise(map, 16 * CHUNK, 23 /* MADV_POPULATE_WRITE */));
	EXPECT_EQ(PAGE, write(pipe_fds[1], map, PAGE));
	EXPECT_EQ(-1, read(pipe_fds[0], map + 9 * CHUNK, PAGE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-ENOSPC, region_create(self->dev, CHUNK, DVSM_REGION_F_PINNED));
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(8 * CHUNK, info.out_resident);
	EXPECT_LE(3, info.out_nr_failures);
	/* Reading takes none. */
	EXPECT_EQ(1, pread(fd, &bytes, 1, 9 * CHUNK));
}

TEST_F(limit, what_copies_or_pins_is_refused_at_the_limit)
{
	int fd = region_create(self->dev, 4 * CHUNK, 0), other, snapshot, fork_copy;
	char *map = region_map(fd, 4 * CHUNK, 0), *copy;
	uint64_t bytes;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, 3 * CHUNK, 1);
	snapshot = snapshot_take_in_parts(fd, CHUNK, DVSM_SNAPSHOT_F_STRICT);
	ASSERT_LE(0, snapshot);
	fork_copy = region_create(self->dev, CHUNK, DVSM_REGION_F_FORK_COPY);
	copy = region_map(fork_copy, CHUNK, 0);
	ASSERT_NE(MAP_FAILED, copy);
	stamp(copy, CHUNK, 2);
	other = region_create(self->dev, 16 * CHUNK, 0);
	EXPECT_EQ(-ENOSPC, region_populate(other, 0, 0, &bytes));

	EXPECT_EQ(-ENOSPC, region_unshare(fd, 0, CHUNK, &bytes));
	EXPECT_EQ(-ENOSPC, region_unshare(snapshot, 0, CHUNK, &bytes));
	EXPECT_EQ(SIGBUS, write_at(map, 1));
	EXPECT_EQ(-1, pwrite(snapshot, "x", 1, CHUNK));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(-ENOSPC, region_pin(fd, 3 * CHUNK, CHUNK));
	EXPECT_EQ(-ENOSPC, region_pin(fd, 0, CHUNK));
	EXPECT_EQ(-ENOSPC, region_export(fd, 3 * CHUNK, CHUNK));
	pid = child_start();
	if (!pid)
		_exit(write_at(copy, 1));
	EXPECT_EQ(SIGBUS, child_wait(pid));
	/* What takes no more than there is goes on, and nothing has changed. */
	EXPECT_EQ(0, region_migrate(fd, 0, 0, node_mask(), NULL));
	EXPECT_EQ(0, snapshot_restore(fd, snapshot));
	EXPECT_EQ(0, stamps_wrong(map, 3 * CHUNK, 1));
	EXPECT_EQ(0, stamps_wrong(copy, CHUNK, 2));
	EXPECT_EQ(3 * CHUNK, region_resident(fd));
}

/* A page in a pipe keeps a folio that its region has given up. */
TEST_F(limit, what_a_pipe_holds_is_on_the_books_of_the_cgroup)
{
	enum { NR = 8 };
	struct cgroup cgroup;
	uint64_t *resident = share_anonymous(PAGE);
	pid_t pid;

	NEED_CGROUP(&cgroup, "limit");
	pid = child_start();
	if (!pid) {
		/* Whole chunks: room is left for the process itself. */
		int fd = region_create(self->dev, CHUNK, DVSM_REGION_F_HUGE_REQUIRED), ends[2], i;
		char *map = region_map(fd, CHUNK, 0);
		struct iovec page = { .iov_base = map, .iov_len = PAGE };

		if (cgroup_enter(&cgroup) || pipe(ends))
			_exit(1);
		for (i = 0; i < NR; i++)
			if (write_at(map, i) || vmsplice(ends[1], &page, 1, 0) != PAGE ||
			    region_discard(fd, 0, CHUNK, NULL))
				_exit(2);
		*resident = region_resident(fd);
		if (cgroup_get(&cgroup, "memory.current") < NR * CHUNK)
			_exit(3);
		if (cgroup_set(&cgroup, "memory.max", "17M"))
			_exit(4);
		_exit(write_at(map, 1) == SIGBUS ? 0 : 5);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, *resident);
	EXPECT_EQ(0, cgroup_event(&cgroup, "memory.events", "oom_kill"));
	EXPECT_TRUE(cgroup_drains_to(&cgroup, MIB, 60));
	cgroup_remove(&cgroup);
}

TEST_F(limit, what_is_given_back_can_be_taken_again_elsewhere)
{
	int a = region_create(self->dev, 8 * CHUNK, 0), b = region_create(self->dev, 8 * CHUNK, 0);
	char *map = region_map(b, 8 * CHUNK, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, region_populate(a, 0, 0, NULL));
	EXPECT_EQ(SIGBUS, write_at(map, 1));
	EXPECT_EQ(0, region_discard(a, 3 * CHUNK, CHUNK, NULL));
	EXPECT_EQ(0, write_at(map, 1));
	EXPECT_EQ(SIGBUS, write_at(map + CHUNK, 1));
	close(a);
	EXPECT_EQ(0, region_populate(b, 0, 0, NULL));
}

TEST_F(limit, raised_limit_lets_a_failed_fault_succeed)
{
	int fd = region_create(self->dev, 16 * CHUNK, 0);
	char *map = region_map(fd, 16 * CHUNK, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-ENOSPC, region_populate(fd, 0, 0, NULL));
	EXPECT_EQ(SIGBUS, write_at(map + 15 * CHUNK, 1));
	ASSERT_EQ(0, param_set("limit_mb", 64));
	EXPECT_EQ(0, write_at(map + 15 * CHUNK, 1));
}

TEST_F(limit, lowered_limit_takes_nothing_away)
{
	int fd = region_create(self->dev, 8 * CHUNK, 0);
	char *map = region_map(fd, 8 * CHUNK, 0);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, 6 * CHUNK, 1);
	ASSERT_EQ(0, param_set("limit_mb", 4));
	EXPECT_EQ(0, stamps_wrong(map, 6 * CHUNK, 1));
	EXPECT_EQ(SIGBUS, write_at(map + 7 * CHUNK, 1));
	EXPECT_EQ(0, region_discard(fd, 0, 5 * CHUNK, NULL));
	EXPECT_EQ(0, write_at(map, 1));
	EXPECT_EQ(SIGBUS, write_at(map + 7 * CHUNK, 1));
}

TEST_F(limit, many_who_race_for_it_get_it_all_and_no_more)
{
	enum { NR = 6 };
	uint64_t *bytes = share_anonymous(PAGE), sum = 0;
	struct barrier *barrier = barrier_make(NR + 1);
	struct dvsm_info info;
	pid_t pids[NR];
	int i;

	for (i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			int fd = region_create(self->dev, 16 * CHUNK, 0);

			barrier_wait(barrier);
			region_populate(fd, 0, 0, &bytes[i]);
			barrier_wait(barrier);
			barrier_wait(barrier);
			_exit(0);
		}
	}
	barrier_wait(barrier);
	barrier_wait(barrier);
	ASSERT_EQ(0, device_info(self->dev, &info));
	for (i = 0; i < NR; i++)
		sum += bytes[i];
	EXPECT_EQ(16 * MIB, sum);
	EXPECT_EQ(16 * MIB, info.out_charged);
	barrier_wait(barrier);
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
}

TEST_F(limit, user_at_his_limit_does_not_stop_another)
{
	int fd = region_create(self->dev, 16 * CHUNK, 0);
	pid_t pid;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, param_set("limit_mb", 64));
	ASSERT_EQ(0, param_set("limit_user_mb", 8));
	pid = child_start();
	if (!pid) {
		int own;
		uint64_t bytes;

		set_memlock(RLIM_INFINITY);
		EXPECT_EQ(0, become_nobody());
		own = region_create(self->dev, 16 * CHUNK, 0);
		EXPECT_EQ(-ENOSPC, region_populate(own, 0, 0, &bytes));
		EXPECT_EQ(8 * MIB, bytes);
		EXPECT_EQ(-ENOSPC, region_create(self->dev, 5 * CHUNK, DVSM_REGION_F_PINNED));
		/* Root's region is on root's account. */
		EXPECT_EQ(0, region_populate(fd, 0, 4 * CHUNK, &bytes));
		EXPECT_EQ(-ENOSPC, region_populate(fd, 0, 0, &bytes));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(8 * MIB, region_resident(fd));
}

TEST_HARNESS_MAIN
