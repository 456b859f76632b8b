// SPDX-License-Identifier: GPL-2.0-only
/*
 * Populate: which ranges it takes, what it allocates, how it ends.
 */
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "capability.h"
#include "fixture.h"

DVSM_FIXTURE(populate);

static unsigned long nr_allocating_faults(int fd)
{
	struct dvsm_region_info info;

	return region_info(fd, &info) ? ~0UL : info.out_nr_faults_alloc;
}

TEST_F(populate, range_becomes_resident_huge_and_zero)
{
	int fd = region_create(self->dev, 16 * CHUNK, 0);
	char *map = region_map(fd, 16 * CHUNK, 0);
	struct dvsm_region_info info;
	uint64_t bytes;

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, region_populate(fd, 2 * CHUNK, 5 * CHUNK, &bytes));
	EXPECT_EQ(5 * CHUNK, bytes);
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(5 * CHUNK, info.out_resident);
	EXPECT_EQ(5 * CHUNK, info.out_resident_huge);
	EXPECT_TRUE(is_zero(map + 2 * CHUNK, 5 * CHUNK));
	EXPECT_EQ(0, nr_allocating_faults(fd));
	EXPECT_TRUE(is_huge_mapped(map, 5 * CHUNK));
}

TEST_F(populate, length_zero_means_to_the_end)
{
	int fd = region_create(self->dev, 4 * CHUNK + PAGE, 0);
	uint64_t bytes;

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, region_populate(fd, 3 * CHUNK, 0, &bytes));
	EXPECT_EQ(CHUNK + PAGE, bytes);
	EXPECT_EQ(0, region_populate(fd, 4 * CHUNK + PAGE, 0, &bytes));
	EXPECT_EQ(0, bytes);
}

TEST_F(populate, one_page_allocates_its_chunk)
{
	int fd = region_create(self->dev, 4 * CHUNK, 0);
	uint64_t bytes;

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, region_populate(fd, 2 * CHUNK - PAGE, 2 * PAGE, &bytes));
	EXPECT_EQ(2 * CHUNK, bytes);
}

TEST_F(populate, what_is_resident_stays_as_it_is)
{
	int fd = region_create(self->dev, 8 * CHUNK, 0);
	char *map = region_map(fd, 8 * CHUNK, 0);
	uint64_t bytes;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map + CHUNK, 2 * CHUNK, 1);
	EXPECT_EQ(0, region_populate(fd, 0, 0, &bytes));
	EXPECT_EQ(6 * CHUNK, bytes);
	EXPECT_EQ(0, stamps_wrong(map + CHUNK, 2 * CHUNK, 1));
	EXPECT_EQ(0, region_populate(fd, 0, 0, &bytes));
	EXPECT_EQ(0, bytes);
}

TEST_F(populate, range_that_is_odd_or_leaves_the_region_is_einval_and_writes_nothing)
{
	static const struct { uint64_t offset, length; } ranges[] = {
		{ 1, PAGE }, { PAGE / 2, 0 }, { 0, 1 }, { 0, PAGE - 1 }, { PAGE, 4 * CHUNK },
		{ 0, 4 * CHUNK + PAGE }, { 4 * CHUNK, PAGE }, { 4 * CHUNK + PAGE, 0 },
		{ 1ULL << 63, 0 }, { 1ULL << 63, 1ULL << 63 }, { -PAGE, PAGE }, { -PAGE, 2 * PAGE },
		{ PAGE, -PAGE }, { CHUNK, -CHUNK }, { 0, -PAGE },
	};
	int fd = region_create(self->dev, 4 * CHUNK, 0);
	size_t i;

	ASSERT_LE(0, fd);
	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		struct dvsm_region_populate arg = {
			.size = sizeof(arg),
			.offset = ranges[i].offset,
			.length = ranges[i].length,
			.out_populated = 0xa5a5,
		};

		errno = 0;
		EXPECT_EQ(-1, ioctl(fd, DVSM_IOC_REGION_POPULATE, &arg)) TH_LOG("range %zu", i);
		EXPECT_EQ(EINVAL, errno) TH_LOG("range %zu", i);
		EXPECT_EQ(0xa5a5, arg.out_populated);
	}
	EXPECT_EQ(0, region_resident(fd));
}

TEST_F(populate, any_number_of_threads_does_the_same)
{
	static const uint32_t threads[] = { 1, 2, 3, 64, UINT32_MAX, 0 };
	int fd = region_create(self->dev, 64 * CHUNK + 5 * PAGE, 0);
	char *map = region_map(fd, 64 * CHUNK + 5 * PAGE, 0);
	struct dvsm_region_info info;
	uint64_t bytes;
	size_t i;

	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		EXPECT_EQ(0, region_populate_by(fd, 0, 0, threads[i], &bytes));
		EXPECT_EQ(64 * CHUNK + 5 * PAGE, bytes);
		ASSERT_EQ(0, region_info(fd, &info));
		EXPECT_EQ(64 * CHUNK, info.out_resident_huge);
		EXPECT_EQ(64 * CHUNK + 5 * PAGE, info.out_resident);
		EXPECT_EQ(0, region_discard(fd, 0, 0, NULL));
	}
}

TEST_F(populate, two_at_once_allocate_everything_once)
{
	int fd = region_create(self->dev, 48 * CHUNK, 0);
	uint64_t *bytes = share_anonymous(PAGE);
	struct barrier *barrier = barrier_make(3);
	pid_t pids[3];
	int i;

	ASSERT_LE(0, fd);
	for (i = 0; i < 3; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			barrier_wait(barrier);
			_exit(-region_populate(fd, 0, 0, &bytes[i]));
		}
	}
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	EXPECT_EQ(48 * CHUNK, bytes[0] + bytes[1] + bytes[2]);
	EXPECT_EQ(48 * CHUNK, region_resident(fd));
}

#define PF_EXITING	0x4	/* in linux/sched.h of the kernel */

/* Threads of the kernel that help, of all callers; those that are ending are nobody's. */
static unsigned int nr_helpers(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	unsigned int nr = 0;

	while (proc && (entry = readdir(proc))) {
		char path[300], text[512];
		unsigned int flags;

		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		nr += *entry->d_name >= '0' && *entry->d_name <= '9' &&
		      !read_text(path, text, sizeof(text)) &&
		      sscanf(text, "%*d (dvsm_populate%*[^)]) %*c %*d %*d %*d %*d %*d %u",
			     &flags) == 1 && !(flags & PF_EXITING);
	}
	if (proc)
		closedir(proc);
	return nr;
}

/* They count for nobody's limit of processes. */
TEST_F(populate, callers_together_get_no_more_helpers_than_there_are_CPUs)
{
	enum { NR = 12, LOOKS = 20 };
	int fd = region_create(self->dev, 128 * CHUNK, 0);
	unsigned long end = clock_ms() + 120000, *stop = share_anonymous(PAGE);
	long nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int i, nr, most = 0;
	pid_t pids[NR];

	if (nr_cpus < 2)
		SKIP(return, "one CPU");
	ASSERT_LE(0, fd);
	for (i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			int ret = 0;

			while (!ret && !__atomic_load_n(stop, __ATOMIC_RELAXED)) {
				ret = region_populate(fd, 0, 0, NULL);
				if (!ret)
					ret = region_discard(fd, 0, 0, NULL);
			}
			_exit(-ret);
		}
	}
	/* Whoever looks is one of many who run: there may be helpers that he does not see. */
	for (i = 0; (i < LOOKS || !most) && clock_ms() < end; i++) {
		nr = nr_helpers();
		if (nr > most)
			most = nr;
	}
	__atomic_store_n(stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	EXPECT_LT(0, most);
	EXPECT_GE(nr_cpus, most);
}

TEST_F(populate, pinned_region_has_nothing_left_to_populate)
{
	int fd = region_create(self->dev, 4 * CHUNK, DVSM_REGION_F_PINNED);
	uint64_t bytes;

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, region_populate(fd, 0, 0, &bytes));
	EXPECT_EQ(0, bytes);
}

TEST_F(populate, limit_is_enospc_and_tells_how_far_it_came)
{
	int fd = region_create(self->dev, 32 * CHUNK, 0);
	uint64_t bytes;
	int ret;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, param_set("limit_mb", 20));
	ret = region_populate(fd, 0, 0, &bytes);
	EXPECT_EQ(0, param_set("limit_mb", 0));
	EXPECT_EQ(-ENOSPC, ret);
	EXPECT_EQ(10 * CHUNK, bytes);
	EXPECT_EQ(10 * CHUNK, region_resident(fd));
	EXPECT_EQ(0, region_populate(fd, 0, 0, &bytes));
	EXPECT_EQ(22 * CHUNK, bytes);
}

static void nothing(int sig)
{
	(void)sig;
}

TEST_F(populate, signal_that_is_handled_does_not_end_it)
{
	int fd = region_create(self->dev, 128 * CHUNK, 0);
	struct sigaction action = { .sa_handler = nothing };
	struct itimerval timer = { { 0, 2000 }, { 0, 2000 } };
	uint64_t bytes;

	ASSERT_LE(0, fd);
	sigaction(SIGALRM, &action, NULL);
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &timer, NULL));
	EXPECT_EQ(0, region_populate(fd, 0, 0, &bytes));
	EXPECT_EQ(128 * CHUNK, bytes);
}

TEST_F(populate, fatal_signal_ends_it_before_it_is_done_and_leaves_nothing)
{
	const size_t length = 768 * MIB;
	uint64_t resident = length;
	int round, fd;

	/* It may be done before the signal comes: then once more. */
	for (round = 0; round < 8 && resident == length; round++) {
		pid_t pid;

		fd = region_create(self->dev, length, 0);
		ASSERT_LE(0, fd);
		pid = child_start();
		if (!pid) {
			region_populate(fd, 0, 0, NULL);
			_exit(0);
		}
		while (!region_resident(fd))
			;
		kill(pid, SIGKILL);
		child_wait(pid);
		resident = region_resident(fd);
		close(fd);
		EXPECT_NO_LEAK();
	}
	EXPECT_GT(length, resident);
}

/*
 * The most helpers that were there at once while a child populated, by their names in /proc, and that may run on
 * the child's CPUs alone. Kernel threads that are made later have higher numbers. -1 if the child failed.
 */
static int helpers_of(pid_t pid, const cpu_set_t *allowed)
{
	int most = 0, status;

	do {
		int now = 0;

		for (pid_t other = pid + 1; other < pid + 64; other++) {
			char path[40], name[32] = "";
			cpu_set_t cpus, both;

			snprintf(path, sizeof(path), "/proc/%d/comm", other);
			if (read_text(path, name, sizeof(name)) || strncmp(name, "dvsm_populate/", 14) ||
			    sched_getaffinity(other, sizeof(cpus), &cpus))
				continue;
			CPU_AND(&both, &cpus, allowed);
			now += CPU_EQUAL(&both, &cpus);
		}
		if (now > most)
			most = now;
	} while (!waitpid(pid, &status, WNOHANG));
	return status ? -1 : most;
}

TEST_F(populate, large_one_is_helped_on_the_callers_cpus)
{
	static const struct { int cpus; uint32_t nr_threads; } ways[] = {
		{ 64, 0 }, { 2, 0 }, { 64, 2 }, { 64, 1 }, { 1, 0 },
	};
	const size_t length = 512 * MIB;
	cpu_set_t all;
	size_t i;

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		int cpu, expected, round, most = 0, fd;
		cpu_set_t mine;

		CPU_ZERO(&mine);
		for (cpu = CPU_SETSIZE - 1; cpu >= 0 && CPU_COUNT(&mine) < ways[i].cpus; cpu--)
			if (CPU_ISSET(cpu, &all))
				CPU_SET(cpu, &mine);
		expected = CPU_COUNT(&mine);
		if (ways[i].nr_threads && (int)ways[i].nr_threads < expected)
			expected = (int)ways[i].nr_threads;
		/* It may be done before anybody looks: then once more. */
		for (round = 0; round < 8 && most >= 0 && most < expected - 1 + !round; round++) {
			pid_t pid;

			fd = region_create(self->dev, length, 0);
			ASSERT_LE(0, fd);
			pid = child_start();
			if (!pid)
				_exit(sched_setaffinity(0, sizeof(mine), &mine) ||
				      region_populate_by(fd, 0, 0, ways[i].nr_threads, NULL));
			most = helpers_of(pid, &mine);
			EXPECT_EQ(length, region_resident(fd));
			close(fd);
			EXPECT_NO_LEAK();
		}
		EXPECT_EQ(expected - 1, most) {
			TH_LOG("%d CPUs, %u threads", ways[i].cpus, ways[i].nr_threads);
		}
	}
}

/* How a process that populates is governed. */
struct governed {
	bool in_cgroup, is_nice, is_idle, may_nice;
};

static int become_governed(const struct governed *how, const struct cgroup *cgroup)
{
	struct cgroup root = { .path = "/sys/fs/cgroup" };
	struct sched_param param = { 0 };

	return cgroup_enter(how->in_cgroup ? cgroup : &root) ||
	       (how->is_nice && setpriority(PRIO_PROCESS, 0, 1)) ||
	       (how->is_idle && sched_setscheduler(0, SCHED_IDLE, &param)) ||
	       (!how->may_nice && !capability_drop(CAP_SYS_NICE));
}

/* Helpers are kernel threads, which no cgroup and no nice value of the caller's binds. */
TEST_F(populate, who_is_governed_and_may_not_change_that_works_alone)
{
	static const struct governed ways[] = {
		{ }, { .in_cgroup = true, .may_nice = true }, { .in_cgroup = true }, { .is_nice = true },
		{ .is_nice = true, .may_nice = true }, { .is_idle = true },
	};
	const size_t length = 256 * MIB;
	struct cgroup cgroup;
	cpu_set_t all;
	bool has_cpu;
	size_t i;

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	if (CPU_COUNT(&all) < 2)
		SKIP(return, "one CPU");
	NEED_CGROUP(&cgroup, "cpu");
	/* Some kernels have no such controller, the debug kernel among them. */
	has_cpu = !write_text("/sys/fs/cgroup/cgroup.subtree_control", "+cpu");
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		bool governed = ways[i].in_cgroup || ways[i].is_nice || ways[i].is_idle;
		int expected = governed && !ways[i].may_nice ? 0 : CPU_COUNT(&all) - 1;
		int round, most = 0, now = 0;

		if (ways[i].in_cgroup && !has_cpu)
			continue;
		/* They may be gone before anybody looks: then once more. */
		for (round = 0; round < (expected ? 8 : 2) && now >= 0 && (!expected || most < expected); round++) {
			int fd = region_create(self->dev, length, 0);
			pid_t pid;

			ASSERT_LE(0, fd);
			pid = child_start();
			if (!pid)
				_exit(become_governed(&ways[i], &cgroup) || region_populate(fd, 0, 0, NULL));
			now = helpers_of(pid, &all);
			most = now > most ? now : most;
			EXPECT_EQ(length, region_resident(fd));
			close(fd);
			EXPECT_NO_LEAK();
		}
		EXPECT_LE(0, now) TH_LOG("way %zu", i);
		EXPECT_EQ(expected, most) TH_LOG("way %zu", i);
	}
	if (has_cpu)
		EXPECT_EQ(0, write_text("/sys/fs/cgroup/cgroup.subtree_control", "-cpu"));
	cgroup_remove(&cgroup);
}

TEST_F(populate, work_for_several_cpus_is_shared_by_the_nodes_that_own_the_memory)
{
	struct dvsm_node_stats nodes[64] = {};
	uint64_t mask = node_mask();
	int fd, i;

	NEED_NODES(2);
	fd = region_create_on(self->dev, 64 * CHUNK, 0, DVSM_POLICY_INTERLEAVE, 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	ASSERT_EQ(0, region_nodes(fd, nodes, 64));
	for (i = 0; i < 64; i++) {
		if (mask >> i & 1) {
			EXPECT_LE(64 / nr_nodes_with_memory() * CHUNK, nodes[i].out_resident);
			EXPECT_GE((64 + nr_nodes_with_memory() - 1) / nr_nodes_with_memory() * CHUNK,
				  nodes[i].out_resident);
		}
	}
}

TEST_HARNESS_MAIN
