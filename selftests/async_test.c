// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commands by io_uring: when they complete, how they are cancelled, and what is
 * left of them when ring, descriptor or process go away. Which commands there are
 * and what they answer to mistakes is in ioctl_uring_test.c.
 */
#include <limits.h>
#include <signal.h>
#include <linux/io_uring.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "fixture.h"

#define LENGTH	(768 * MIB)	/* takes a while to populate */
#define DELAY	"/sys/kernel/debug/dvsm/delay_us"

/*
 * A test that wants to come before a populate is done may come too late, where this process
 * does not run for a while and its workers do: it tries again for so long.
 */
#define TRY_MS	60000

FIXTURE(async) {
	int dev;
	int fd;
	struct uring ring;
	struct dvsm_region_populate populate;	/* all of @fd */
};

FIXTURE_SETUP(async)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, uring_open(&self->ring, 8));
	self->populate = (struct dvsm_region_populate) { .size = sizeof(self->populate) };
}

FIXTURE_TEARDOWN_PARENT(async)
{
	EXPECT_NO_LEAK();
}

/* The result of what has @user_data; what else completes is counted in @nr_others. */
static int result_of(struct uring *ring, uint64_t user_data, unsigned int *nr_others)
{
	struct io_uring_cqe cqe;

	while (!uring_wait(ring, &cqe)) {
		if (cqe.user_data == user_data)
			return cqe.res;
		if (nr_others)
			(*nr_others)++;
	}
	return -EIO;
}

/* Starts to populate all of the region and waits until that runs. */
static int populate_and_see_it_run(FIXTURE_DATA(async) *self)
{
	int ret = uring_command(&self->ring, self->fd, DVSM_IOC_REGION_POPULATE, &self->populate, 1);

	while (!ret && !region_resident(self->fd))
		sleep_ms(1);
	return ret;
}

TEST_F(async, outputs_are_there_when_it_has_completed)
{
	char *map = region_map(self->fd, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	self->populate.length = 64 * CHUNK;
	ASSERT_EQ(0, uring_command(&self->ring, self->fd, DVSM_IOC_REGION_POPULATE,
				   &self->populate, 7));
	EXPECT_EQ(0, result_of(&self->ring, 7, NULL));
	EXPECT_EQ(64 * CHUNK, self->populate.out_populated);
	EXPECT_EQ(64 * CHUNK, region_resident(self->fd));
	EXPECT_TRUE(is_zero(map, 64 * CHUNK));
	EXPECT_TRUE(is_huge_mapped(map, 64 * CHUNK));
}

TEST_F(async, submitter_does_not_wait_for_it)
{
	unsigned long end = clock_ms() + TRY_MS;
	struct io_uring_cqe cqe;
	bool completed, runs;

	do {
		ASSERT_EQ(0, region_discard(self->fd, 0, 0, NULL));
		ASSERT_EQ(0, uring_command(&self->ring, self->fd, DVSM_IOC_REGION_POPULATE,
					   &self->populate, 1));
		completed = uring_reap(&self->ring, &cqe);
		runs = !completed && region_resident(self->fd) < LENGTH;
		EXPECT_EQ(0, completed ? cqe.res : result_of(&self->ring, 1, NULL));
		EXPECT_EQ(LENGTH, self->populate.out_populated);
	} while (!runs && clock_ms() < end);
	EXPECT_TRUE(runs);
}

TEST_F(async, descriptor_may_be_closed_meanwhile)
{
	char *map = region_map(self->fd, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, populate_and_see_it_run(self));
	close(self->fd);
	EXPECT_EQ(0, result_of(&self->ring, 1, NULL));
	EXPECT_EQ(LENGTH, self->populate.out_populated);
	EXPECT_TRUE(is_zero(map + LENGTH - CHUNK, CHUNK));
}

TEST_F(async, snapshot_arrives_as_a_descriptor_of_this_process)
{
	struct dvsm_snapshot_take take = { .size = sizeof(take) };
	char *map = region_map(self->fd, LENGTH, 0), *old;
	int snapshot;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, 2 * CHUNK, 1);
	ASSERT_EQ(0, uring_command(&self->ring, self->fd, DVSM_IOC_SNAPSHOT_TAKE, &take, 1));
	snapshot = result_of(&self->ring, 1, NULL);
	ASSERT_LT(0, snapshot);
	EXPECT_EQ(FD_CLOEXEC, fcntl(snapshot, F_GETFD));
	stamp(map, 2 * CHUNK, 2);
	old = region_map(snapshot, 2 * CHUNK, 0);
	ASSERT_NE(MAP_FAILED, old);
	EXPECT_EQ(0, stamps_wrong(old, 2 * CHUNK, 1));
}

TEST_F(async, cancel_ends_one_that_runs)
{
	unsigned long end = clock_ms() + TRY_MS;
	uint64_t resident;
	int ret;

	do {
		ASSERT_EQ(0, region_discard(self->fd, 0, 0, NULL));
		ASSERT_EQ(0, populate_and_see_it_run(self));
		ASSERT_EQ(0, uring_cancel(&self->ring, 1, 0));
		ret = result_of(&self->ring, 1, NULL);
	} while (!ret && clock_ms() < end);
	EXPECT_EQ(-ECANCELED, ret);
	resident = region_resident(self->fd);
	EXPECT_GT(LENGTH, resident);
	EXPECT_EQ(resident, self->populate.out_populated);
	/* What was done stays done, and the rest can be had. */
	ASSERT_EQ(0, uring_command(&self->ring, self->fd, DVSM_IOC_REGION_POPULATE,
				   &self->populate, 2));
	EXPECT_EQ(0, result_of(&self->ring, 2, NULL));
	EXPECT_EQ(LENGTH - resident, self->populate.out_populated);
}

/* Moves that were done. */
static uint64_t moves_by_command(int fd)
{
	struct dvsm_node_stats nodes[64] = {};
	uint64_t nr = 0;
	int i;

	region_nodes(fd, nodes, 64);
	for (i = 0; i < 64; i++)
		nr += nodes[i].out_nr_moved_in_command;
	return nr;
}

TEST_F(async, cancelled_move_tells_where_to_go_on)
{
	enum { NR = 96 };
	const int nodes[2] = { __builtin_ctzll(node_mask()), 63 - __builtin_clzll(node_mask()) };
	unsigned long end = clock_ms() + 60000;
	struct dvsm_region_migrate arg;
	struct dvsm_chunk chunks[NR];
	uint64_t before, set, id = 0;
	int fd, i, ret;
	char *map;

	NEED_NODES(2);
	fd = region_create_on(self->dev, NR * CHUNK, 0, DVSM_POLICY_BIND, 1ULL << nodes[0]);
	map = region_map(fd, NR * CHUNK, 0);
	ASSERT_NE(MAP_FAILED, map);
	stamp(map, NR * CHUNK, 1);
	/* One that is done before the cancel comes goes back, for another try. */
	do {
		set = 1ULL << nodes[++id % 2];
		arg = (struct dvsm_region_migrate) {
			.size = sizeof(arg),
			.nodes = (uintptr_t)&set,
			.nr_nodes = 64,
		};
		before = moves_by_command(fd);
		ASSERT_EQ(0, uring_command(&self->ring, fd, DVSM_IOC_REGION_MIGRATE, &arg, id));
		while (moves_by_command(fd) == before && clock_ms() < end)
			;
		ASSERT_EQ(0, uring_cancel(&self->ring, id, 0));
		ret = result_of(&self->ring, id, NULL);
	} while (!ret && clock_ms() < end);
	ASSERT_EQ(-ECANCELED, ret) TH_LOG("of %llu tries", (unsigned long long)id);
	ASSERT_LT(0, arg.out_next);
	ASSERT_GT(NR * CHUNK, arg.out_next);
	EXPECT_EQ(0, arg.out_next % CHUNK);
	EXPECT_EQ(arg.out_next, arg.out_moved);
	ASSERT_EQ(NR, region_residency(fd, 0, 0, chunks, NR));
	for (i = 0; i < NR; i++)
		EXPECT_EQ(nodes[(id + (i * CHUNK >= arg.out_next)) % 2], chunks[i].node);
	before = arg.out_next;
	/* From there on. */
	arg.offset = before;
	ASSERT_EQ(0, uring_command(&self->ring, fd, DVSM_IOC_REGION_MIGRATE, &arg, ++id));
	EXPECT_EQ(0, result_of(&self->ring, id, NULL));
	EXPECT_EQ(NR * CHUNK - before, arg.out_moved);
	EXPECT_EQ(NR * CHUNK, arg.out_next);
	EXPECT_EQ(0, stamps_wrong(map, NR * CHUNK, 1));
	ASSERT_EQ(NR, region_residency(fd, 0, 0, chunks, NR));
	for (i = 0; i < NR; i++)
		EXPECT_EQ(nodes[(id - 1) % 2], chunks[i].node);
}

TEST_F(async, cancel_reaches_one_and_no_other)
{
	int other = region_create(self->dev, 8 * CHUNK, 0);
	struct dvsm_region_populate populate = { .size = sizeof(populate) };
	unsigned int i;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, populate_and_see_it_run(self));
	ASSERT_EQ(0, uring_cancel(&self->ring, 1, 0));
	/* Workers that have just been cancelled are told apart from the next command. */
	for (i = 0; i < 32; i++) {
		ASSERT_EQ(0, uring_command(&self->ring, other, DVSM_IOC_REGION_POPULATE, &populate,
					   100 + i));
		EXPECT_EQ(0, result_of(&self->ring, 100 + i, NULL));
		EXPECT_EQ(0, region_discard(other, 0, 0, NULL));
	}
}

TEST_F(async, stop_and_continue_do_not_end_it)
{
	uint64_t *populated = share_anonymous(PAGE);
	pid_t pid = child_start();

	if (!pid) {
		struct uring ring;
		int ret = uring_open(&ring, 4);

		if (!ret)
			ret = uring_command(&ring, self->fd, DVSM_IOC_REGION_POPULATE,
					    &self->populate, 1);
		if (!ret)
			ret = result_of(&ring, 1, NULL);
		*populated = self->populate.out_populated;
		_exit(-ret);
	}
	while (!region_resident(self->fd))
		;
	kill(pid, SIGSTOP);
	sleep_ms(20);
	kill(pid, SIGCONT);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(LENGTH, *populated);
}

/* The command, which nobody can see complete any more, ends before it is done. */
static bool ends_early(int fd)
{
	uint64_t before, resident = region_resident(fd);
	unsigned int same = 0;

	while (same < 10 && resident < LENGTH) {
		sleep_ms(50);
		before = resident;
		resident = region_resident(fd);
		same = resident == before ? same + 1 : 0;
	}
	return resident < LENGTH;
}

TEST_F(async, ring_that_is_closed_ends_it)
{
	unsigned long end = clock_ms() + TRY_MS;
	bool early;

	do {
		ASSERT_EQ(0, region_discard(self->fd, 0, 0, NULL));
		ASSERT_EQ(0, populate_and_see_it_run(self));
		uring_close(&self->ring);
		early = ends_early(self->fd);
		ASSERT_EQ(0, uring_open(&self->ring, 8));
	} while (!early && clock_ms() < end);
	EXPECT_TRUE(early);
}

TEST_F(async, process_that_is_killed_leaves_nothing)
{
	unsigned long end = clock_ms() + TRY_MS;
	bool early;
	pid_t pid;

	do {
		ASSERT_EQ(0, region_discard(self->fd, 0, 0, NULL));
		pid = child_start();
		if (!pid) {
			struct uring ring;

			if (!uring_open(&ring, 4))
				uring_command(&ring, self->fd, DVSM_IOC_REGION_POPULATE,
					      &self->populate, 1);
			for (;;)
				pause();
		}
		while (!region_resident(self->fd))
			sleep_ms(1);
		kill(pid, SIGKILL);
		EXPECT_EQ(128 + SIGKILL, child_wait(pid));
		/* The process is gone, and with it its workers: nothing is added any more. */
		early = ends_early(self->fd);
	} while (!early && clock_ms() < end);
	EXPECT_TRUE(early);
}

TEST_F(async, thousands_in_flight_all_complete)
{
	enum { NR = 4000, FDS = 8 };
	struct dvsm_region_populate *populates = calloc(NR, sizeof(*populates));
	struct dvsm_region_discard *discards = calloc(NR, sizeof(*discards));
	unsigned int i, nr = 0;
	unsigned char *seen = calloc(NR, 1);
	struct io_uring_cqe cqe;
	struct uring ring;
	int fds[FDS];

	ASSERT_EQ(0, uring_open(&ring, NR));
	for (i = 0; i < FDS; i++) {
		fds[i] = region_create(self->dev, 2 * CHUNK, 0);
		ASSERT_LE(0, fds[i]);
	}
	for (i = 0; i < NR; i++) {
		populates[i] = (struct dvsm_region_populate) { .size = sizeof(*populates) };
		discards[i] = (struct dvsm_region_discard) { .size = sizeof(*discards) };
		ASSERT_EQ(0, i % 16 < 15
			  ? uring_command(&ring, fds[i % FDS], DVSM_IOC_REGION_POPULATE, &populates[i], i)
			  : uring_command(&ring, fds[i % FDS], DVSM_IOC_REGION_DISCARD, &discards[i], i));
	}
	for (; nr < NR; nr++) {
		ASSERT_EQ(0, uring_wait(&ring, &cqe));
		ASSERT_GT(NR, cqe.user_data);
		EXPECT_EQ(0, cqe.res);
		EXPECT_EQ(0, seen[cqe.user_data]++);
	}
	EXPECT_FALSE(uring_reap(&ring, &cqe));
}

TEST_F(async, cancel_of_all_ends_those_that_run_and_those_that_wait)
{
	enum { NR = 500 };
	struct dvsm_region_populate *populates = calloc(NR, sizeof(*populates));
	const unsigned int flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY;
	unsigned long end = clock_ms() + TRY_MS;
	unsigned int i, nr_cancelled;
	struct io_uring_cqe cqe;
	struct uring ring;

	ASSERT_EQ(0, uring_open(&ring, NR + 1));
	do {
		nr_cancelled = 0;
		ASSERT_EQ(0, region_discard(self->fd, 0, 0, NULL));
		for (i = 0; i < NR; i++) {
			populates[i] = self->populate;
			ASSERT_EQ(0, uring_command(&ring, self->fd, DVSM_IOC_REGION_POPULATE,
						   &populates[i], i));
		}
		while (!region_resident(self->fd))
			sleep_ms(1);
		ASSERT_EQ(0, uring_cancel(&ring, 0, flags));
		for (i = 0; i < NR + 1; i++) {
			ASSERT_EQ(0, uring_wait(&ring, &cqe));
			if (cqe.user_data != URING_CANCEL)
				nr_cancelled += cqe.res == -ECANCELED;
		}
	} while (region_resident(self->fd) == LENGTH && clock_ms() < end);
	EXPECT_EQ(NR, nr_cancelled);
	EXPECT_GT(LENGTH, region_resident(self->fd));
}

TEST_F(async, words_of_the_request_that_must_be_zero_are_looked_at)
{
	const struct dvsm_uring_cmd uring_cmds[] = {
		{ .arg = (uintptr_t)&self->populate, .reserved = 1 },
		{ .arg = (uintptr_t)&self->populate, .reserved = 1ULL << 63 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(uring_cmds); i++) {
		struct io_uring_sqe sqe = {
			.opcode = IORING_OP_URING_CMD,
			.fd = self->fd,
			.cmd_op = DVSM_IOC_REGION_POPULATE,
			.user_data = i,
		};

		memcpy(sqe.cmd, &uring_cmds[i], sizeof(uring_cmds[i]));
		ASSERT_EQ(0, uring_submit(&self->ring, &sqe));
		EXPECT_EQ(-EINVAL, result_of(&self->ring, i, NULL));
	}
	EXPECT_EQ(0, region_resident(self->fd));
}

TEST_F(async, limits_are_those_of_the_process)
{
	struct dvsm_region_create create = {
		.size = sizeof(create),
		.flags = DVSM_REGION_F_PINNED,
		.length = 4 * CHUNK,
	};
	struct rlimit limit = { 2 * CHUNK, 2 * CHUNK };
	pid_t pid = child_start();
	struct uring ring;

	if (!pid) {
		int ret = setrlimit(RLIMIT_MEMLOCK, &limit) || become_nobody() ? -1 :
			  uring_open(&ring, 4);

		if (!ret)
			ret = uring_command(&ring, self->dev, DVSM_IOC_REGION_CREATE, &create, 1);
		_exit(ret ? 1 : -result_of(&ring, 1, NULL));
	}
	EXPECT_EQ(ENOMEM, child_wait(pid));
}

TEST_F(async, memory_is_charged_to_the_cgroup_of_the_process)
{
	struct cgroup cgroup;
	pid_t pid;

	NEED_CGROUP(&cgroup, "async");
	self->populate.length = 32 * CHUNK;
	pid = child_start();
	if (!pid) {
		struct uring ring;

		if (cgroup_enter(&cgroup) || uring_open(&ring, 4) ||
		    uring_command(&ring, self->fd, DVSM_IOC_REGION_POPULATE, &self->populate, 1))
			_exit(1);
		_exit(-result_of(&ring, 1, NULL));
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_LE(32 * CHUNK, cgroup_get(&cgroup, "memory.current"));
	close(self->fd);
	EXPECT_TRUE(cgroup_drains_to(&cgroup, MIB, 60));
	cgroup_remove(&cgroup);
}

/* Has the ring's workers run on the CPUs of one node. */
static int ring_work_on(struct uring *ring, int node)
{
	unsigned long mask = 0;
	char path[96], list[64];
	unsigned int first, last;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", node);
	if (read_text(path, list, sizeof(list)))
		return -errno;
	if (sscanf(list, "%u-%u", &first, &last) == 1)
		last = first;
	for (; first <= last; first++)
		mask |= 1UL << first;
	return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_IOWQ_AFF, &mask,
		       sizeof(mask)) ? -errno : 0;
}

TEST_F(async, node_of_the_submitter_is_the_local_one)
{
	struct dvsm_node_stats nodes[64] = {};
	uint64_t work_on = nodes_to_work_on();
	int here, there, fd;

	if (__builtin_popcountll(work_on) < 2)
		SKIP(return, "fewer than 2 NUMA nodes with CPUs and memory");
	there = __builtin_ctzll(work_on);
	here = 63 - __builtin_clzll(work_on);
	fd = region_create_on(self->dev, 4 * CHUNK, 0, DVSM_POLICY_LOCAL, 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, node_run_on(here));
	ASSERT_EQ(0, ring_work_on(&self->ring, there));
	ASSERT_EQ(0, uring_command(&self->ring, fd, DVSM_IOC_REGION_POPULATE, &self->populate, 1));
	EXPECT_EQ(0, result_of(&self->ring, 1, NULL));
	ASSERT_EQ(0, region_nodes(fd, nodes, 64));
	EXPECT_EQ(0, nodes[there].out_resident);
	EXPECT_EQ(4 * CHUNK, nodes[here].out_resident);
}

/*
 * A worker begins what is linked to a request of its own without an attempt by the submitter.
 * What the module would find in the request then is an earlier request's: at the same place a
 * splice has the number of a descriptor.
 */
TEST_F(async, node_is_not_believed_where_the_submitter_made_no_attempt)
{
	static const int nodes[] = { 0x7fffff00, INT_MIN, -256, 1023, 1 << 20, 1, 0 };
	enum { NR = 32 };
	struct io_uring_sqe splices[NR], linked[2] = {
		{ .opcode = IORING_OP_NOP, .flags = IOSQE_ASYNC | IOSQE_IO_LINK, .user_data = 1 },
		{ .opcode = IORING_OP_URING_CMD, .cmd_op = DVSM_IOC_REGION_POPULATE, .user_data = 2 },
	};
	struct dvsm_uring_cmd uring_cmd = { .arg = (uintptr_t)&self->populate };
	unsigned int i, nth;
	struct uring ring;

	ASSERT_EQ(0, uring_open(&ring, 2 * NR));
	memcpy(linked[1].cmd, &uring_cmd, sizeof(uring_cmd));
	for (nth = 0; nth < ARRAY_SIZE(nodes); nth++) {
		uint32_t policy = nth % 2 ? DVSM_POLICY_LOCAL : DVSM_POLICY_INHERIT;
		int fd = region_create_on(self->dev, 4 * CHUNK, 0, policy, 0);
		struct io_uring_cqe cqe;

		ASSERT_LE(0, fd);
		/* Whichever request is taken next has had it. */
		for (i = 0; i < NR; i++)
			splices[i] = (struct io_uring_sqe) {
				.opcode = IORING_OP_SPLICE,
				.fd = -1,
				.splice_fd_in = nodes[nth],
			};
		ASSERT_EQ(0, uring_submit_all(&ring, splices, NR));
		for (i = 0; i < NR; i++) {
			ASSERT_EQ(0, uring_wait(&ring, &cqe));
			ASSERT_EQ(-EBADF, cqe.res);
		}
		linked[1].fd = fd;
		ASSERT_EQ(0, uring_submit_all(&ring, linked, ARRAY_SIZE(linked)));
		EXPECT_EQ(0, result_of(&ring, 2, NULL));
		EXPECT_EQ(4 * CHUNK, region_resident(fd));
		close(fd);
	}
}

TEST_F(async, module_stays_while_one_runs)
{
	const uint64_t nodes = node_mask();
	struct dvsm_region_migrate migrate = {
		.size = sizeof(migrate),
		.nodes = (uintptr_t)&nodes,
		.nr_nodes = 64,
	};
	pid_t pid;

	if (!getenv("DVSM_VM"))
		SKIP(return, "would unload the module of this machine");
	ASSERT_EQ(0, region_populate(self->fd, 0, 64 * CHUNK, NULL));
	/* For each chunk a second: it runs until it is let go. */
	ASSERT_EQ(0, write_text(DELAY, "1000000"));
	EXPECT_EQ(0, uring_command(&self->ring, self->fd, DVSM_IOC_REGION_MIGRATE, &migrate, 1));
	close(self->fd);
	close(self->dev);
	/* The parent of this test holds no descriptor of the module. */
	pid = child_start();
	if (!pid)
		_exit(syscall(SYS_delete_module, "dvsm", O_NONBLOCK) ? errno : 0);
	EXPECT_EQ(EWOULDBLOCK, child_wait(pid));
	EXPECT_EQ(0, write_text(DELAY, "0"));
	EXPECT_EQ(0, result_of(&self->ring, 1, NULL));
	EXPECT_EQ(LENGTH, migrate.out_next);
}

TEST_HARNESS_MAIN
