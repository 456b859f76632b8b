// SPDX-License-Identifier: GPL-2.0-only
/*
 * Members of a region: every way to die is an event, once, for every reader, and
 * nothing else is.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "module.h"

#define SELF		"/proc/self/exe"
#define QUIET		300		/* milliseconds in which nothing happens */
#define SOON		120000		/* and in which something does */
#define DELAY		"/sys/kernel/debug/dvsm/delay_us"

FIXTURE(events) {
	int dev;
	int fd;
	int events;
};

FIXTURE_SETUP(events)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, CHUNK, 0);
	ASSERT_LE(0, self->fd);
	self->events = region_events(self->fd);
	ASSERT_LE(0, self->events);
}

FIXTURE_TEARDOWN_PARENT(events)
{
	EXPECT_NO_LEAK();
	EXPECT_EQ(0, stats_reach("members", 0, 60));
}

static unsigned int seconds(void)
{
	const char *wish = getenv("DVSM_TEST_SECONDS");

	return wish ? atoi(wish) : 3;
}

static void die_by_exit(void)
{
	exit(7);
}

static void die_by_kill(void)
{
	kill(getpid(), SIGKILL);
}

static void die_by_signal(void)
{
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

static void *exit_group(void *code)
{
	_exit((int)(long)code);
}

static void die_in_a_thread(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, exit_group, (void *)5L);
	pause();
}

/* When the first thread is dead: the process's state is that thread's. */
static void *exit_late(void *unused)
{
	char text[512], *name_end;

	(void)unused;
	do {
		sleep_ms(1);
		read_text("/proc/self/stat", text, sizeof(text));
		name_end = strrchr(text, ')');
	} while (!name_end || name_end[2] != 'Z');
	syscall(SYS_exit, 6);
	return NULL;
}

/* The last thread is the one that counts, as for waitpid(). */
static void die_thread_by_thread(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, exit_late, NULL);
	syscall(SYS_exit, 4);
}

static void die_by_exec(void)
{
	char *argv[] = { "events_test", "-h", NULL };

	/* What it prints does not matter. */
	close(1);
	close(2);
	execv(SELF, argv);
}

static void *exec_late(void *unused)
{
	sleep_ms(20);
	die_by_exec();
	return unused;
}

static void die_by_exec_in_a_thread(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, exec_late, NULL);
	pause();
}

static void die_without_descriptors(void)
{
	close_range(0, ~0U, 0);
	_exit(7);
}

FIXTURE(death) {
	int dev;
	int fd;
	int events;
};

FIXTURE_VARIANT(death) {
	void (*die)(void);
	uint32_t type;
	int code;	/* as waitpid() tells it */
};

FIXTURE_VARIANT_ADD(death, exit) { .die = die_by_exit, .type = DVSM_EVENT_EXIT, .code = 7 << 8, };
FIXTURE_VARIANT_ADD(death, sigkill) { .die = die_by_kill, .type = DVSM_EVENT_EXIT, .code = 9, };
FIXTURE_VARIANT_ADD(death, signal) { .die = die_by_signal, .type = DVSM_EVENT_EXIT, .code = 11, };
FIXTURE_VARIANT_ADD(death, thread) { .die = die_in_a_thread, .type = DVSM_EVENT_EXIT,
				     .code = 5 << 8, };
FIXTURE_VARIANT_ADD(death, thread_by_thread) { .die = die_thread_by_thread,
					       .type = DVSM_EVENT_EXIT, .code = 6 << 8, };
FIXTURE_VARIANT_ADD(death, exec) { .die = die_by_exec, .type = DVSM_EVENT_EXEC, };
FIXTURE_VARIANT_ADD(death, exec_in_a_thread) { .die = die_by_exec_in_a_thread,
					       .type = DVSM_EVENT_EXEC, };
FIXTURE_VARIANT_ADD(death, without_descriptors) { .die = die_without_descriptors,
						  .type = DVSM_EVENT_EXIT, .code = 7 << 8, };

FIXTURE_SETUP(death)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, CHUNK, 0);
	ASSERT_LE(0, self->fd);
	self->events = region_events(self->fd);
	ASSERT_LE(0, self->events);
}

FIXTURE_TEARDOWN_PARENT(death)
{
	EXPECT_NO_LEAK();
	EXPECT_EQ(0, stats_reach("members", 0, 60));
}

/* In ticks of 10 ms, from /proc/PID/stat. */
static unsigned long long start_ticks(pid_t pid)
{
	unsigned long long ticks = 0;
	char path[64], text[1024], *at;
	int field;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_text(path, text, sizeof(text)))
		return 0;
	at = strrchr(text, ')');
	for (field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at)
		ticks = strtoull(at, NULL, 10);
	return ticks;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

TEST_F(death, is_one_event_that_is_there_before_waitpid_returns)
{
	struct barrier *barrier = barrier_make(2);
	unsigned long long ticks;
	struct dvsm_event event;
	uint64_t before;
	int status;
	pid_t pid;

	pid = child_start();
	if (!pid) {
		if (region_join(self->fd, 0x123456789abcdef0))
			_exit(99);
		barrier_wait(barrier);
		barrier_wait(barrier);
		variant->die();
		_exit(98);
	}
	barrier_wait(barrier);
	ticks = start_ticks(pid);
	EXPECT_EQ(-ETIMEDOUT, events_read(self->events, &event, QUIET));
	before = now_ns();
	barrier_wait(barrier);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(1, events_read(self->events, &event, 0));
	EXPECT_EQ(variant->type, event.type);
	EXPECT_EQ(pid, event.pid);
	if (variant->type == DVSM_EVENT_EXIT) {
		EXPECT_EQ(variant->code, event.code);
		EXPECT_EQ(status, event.code);
	} else {
		EXPECT_EQ(0, event.code);
	}
	EXPECT_EQ(0, event.reserved);
	EXPECT_EQ(0x123456789abcdef0, event.cookie);
	EXPECT_EQ(1, event.sequence);
	EXPECT_EQ(ticks, event.start_time / 10000000);
	EXPECT_LE(before, event.time);
	EXPECT_GE(now_ns(), event.time);
	EXPECT_EQ(-ETIMEDOUT, events_read(self->events, &event, QUIET));
}

/* Joins with @nr cookies from @first on, and dies. */
static int join_and_die(int fd, uint64_t first, unsigned int nr)
{
	pid_t pid = child_start();
	unsigned int i;

	if (!pid) {
		for (i = 0; i < nr; i++)
			if (region_join(fd, first + i))
				_exit(1);
		_exit(0);
	}
	return child_wait(pid);
}

TEST_F(events, by_the_oom_killer_too)
{
	struct dvsm_event event;
	struct cgroup cgroup;
	pid_t pid;

	NEED_CGROUP(&cgroup, "events");
	ASSERT_EQ(0, cgroup_set(&cgroup, "memory.max", "33554432"));
	cgroup_set(&cgroup, "memory.swap.max", "0");
	pid = child_start();
	if (!pid) {
		char *map;

		if (cgroup_enter(&cgroup) || region_join(self->fd, 1))
			_exit(1);
		map = mmap(NULL, 256 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
		memset(map, 1, 256 * MIB);
		_exit(2);
	}
	ASSERT_EQ(128 + SIGKILL, child_wait(pid));
	ASSERT_EQ(1, events_read(self->events, &event, 0));
	EXPECT_EQ(pid, event.pid);
	EXPECT_EQ(SIGKILL, event.code & 0x7f);
	EXPECT_LT(0, cgroup_event(&cgroup, "memory.events", "oom_kill"));
	cgroup_remove(&cgroup);
}

TEST_F(events, child_by_fork_is_no_member_and_may_become_one)
{
	struct dvsm_event event;
	pid_t pid;

	ASSERT_EQ(0, region_join(self->fd, 1));
	pid = child_start();
	if (!pid)
		_exit(0);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(-ETIMEDOUT, events_read(self->events, &event, QUIET));
	pid = child_start();
	if (!pid)
		_exit(region_leave(self->fd, 1) != -ENOENT || region_join(self->fd, 1));
	EXPECT_EQ(0, child_wait(pid));
	ASSERT_EQ(1, events_read(self->events, &event, 0));
	EXPECT_EQ(pid, event.pid);
	EXPECT_EQ(1, event.cookie);
}

/* Until the other end of the pipe is closed. */
static int share_memory(void *pipe_fd)
{
	char byte;

	(void)!read(*(int *)pipe_fd, &byte, 1);
	syscall(SYS_exit, 0);
	return 0;
}

/* Who shares the memory may still write to it. */
TEST_F(events, death_waits_for_the_last_process_that_shares_the_memory)
{
	struct dvsm_event event;
	int pipe_fds[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(pipe_fds));
	pid = fork();
	if (!pid) {
		close(pipe_fds[1]);
		if (region_join(self->fd, 1) ||
		    clone(share_memory, (char *)malloc(MIB) + MIB, CLONE_VM, pipe_fds) < 0)
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	EXPECT_EQ(128 + SIGKILL, child_wait(pid));
	EXPECT_EQ(-ETIMEDOUT, events_read(self->events, &event, QUIET));
	close(pipe_fds[1]);
	ASSERT_EQ(1, events_read(self->events, &event, SOON));
	EXPECT_EQ(DVSM_EVENT_EXIT, event.type);
	EXPECT_EQ(-1, event.code);
}

TEST_F(events, who_has_left_is_no_member)
{
	struct dvsm_event event;
	pid_t pid = child_start();

	if (!pid) {
		if (region_leave(self->fd, 1) != -ENOENT || region_join(self->fd, 1) ||
		    region_join(self->fd, 1) != -EEXIST || region_leave(self->fd, 2) != -ENOENT ||
		    region_leave(self->fd, 1) || region_leave(self->fd, 1) != -ENOENT)
			_exit(1);
		_exit(region_join(self->fd, 3));
	}
	EXPECT_EQ(0, child_wait(pid));
	ASSERT_EQ(1, events_read(self->events, &event, 0));
	EXPECT_EQ(3, event.cookie);
	EXPECT_EQ(-ETIMEDOUT, events_read(self->events, &event, QUIET));
}

TEST_F(events, regions_do_not_hear_of_each_others_members)
{
	int other = region_create(self->dev, CHUNK, 0), others = region_events(other);
	struct dvsm_event event;
	pid_t pid = child_start();

	if (!pid)
		_exit(region_join(self->fd, 1) || region_join(other, 1) || region_join(other, 2) ||
		      region_leave(other, 1));
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(1, events_read(self->events, &event, 0));
	EXPECT_EQ(1, event.cookie);
	EXPECT_EQ(1, events_read(others, &event, 0));
	EXPECT_EQ(2, event.cookie);
	EXPECT_EQ(-ETIMEDOUT, events_read(self->events, &event, QUIET));
	EXPECT_EQ(-ETIMEDOUT, events_read(others, &event, 0));
}

TEST_F(events, every_reader_gets_all_also_one_who_comes_late)
{
	int second = region_events(self->fd), late, i;
	struct dvsm_event event;

	for (i = 1; i <= 5; i++)
		ASSERT_EQ(0, join_and_die(self->fd, i, 1));
	late = region_events(self->fd);
	for (i = 1; i <= 5; i++) {
		EXPECT_EQ(1, events_read(self->events, &event, 0));
		EXPECT_EQ(i, event.cookie);
		EXPECT_EQ(1, events_read(second, &event, 0));
		EXPECT_EQ(i, event.cookie);
		EXPECT_EQ(1, events_read(late, &event, 0));
		EXPECT_EQ(i, event.cookie);
		EXPECT_EQ(i, event.sequence);
	}
	EXPECT_EQ(-ETIMEDOUT, events_read(late, &event, 0));
}

TEST_F(events, who_does_not_read_in_time_is_told_how_many_were_lost_and_who_lives)
{
	enum { LOST = 77 };
	int late, reader, i;
	struct dvsm_member members[2];
	struct dvsm_event event;

	ASSERT_EQ(0, region_join(self->fd, 42));
	ASSERT_EQ(0, join_and_die(self->fd, 1, 3));
	for (i = 1; i <= 3; i++)
		EXPECT_EQ(1, events_read(self->events, &event, 0));
	/* Order within one process's death is not promised; counts and sequence are. */
	ASSERT_EQ(0, join_and_die(self->fd, 100, DVSM_EVENTS_KEPT - 1));
	ASSERT_EQ(0, join_and_die(self->fd, 100 + DVSM_EVENTS_KEPT, LOST + 1));
	late = region_events(self->fd);
	for (reader = 0; reader < 2; reader++) {
		int fd = reader ? late : self->events;

		ASSERT_EQ(1, events_read(fd, &event, 0));
		EXPECT_EQ(DVSM_EVENT_LOST, event.type);
		EXPECT_EQ(reader ? LOST + 3 : LOST, event.cookie);
		EXPECT_EQ(LOST + 3, event.sequence);
		EXPECT_EQ(0, event.pid);
		for (i = 1; i <= DVSM_EVENTS_KEPT; i++) {
			ASSERT_EQ(1, events_read(fd, &event, 0));
			ASSERT_EQ(DVSM_EVENT_EXIT, event.type);
			ASSERT_EQ(LOST + 3 + i, event.sequence);
		}
		EXPECT_EQ(-ETIMEDOUT, events_read(fd, &event, 0));
	}
	ASSERT_EQ(1, region_members(self->fd, members, 2));
	EXPECT_EQ(42, members[0].cookie);
	EXPECT_EQ(getpid(), members[0].pid);
	EXPECT_EQ(start_ticks(getpid()), members[0].start_time / 10000000);
}

TEST_F(events, members_are_listed_in_order_by_a_cursor)
{
	enum { NR = 100 };
	struct dvsm_member members[9];
	struct dvsm_region_members arg = {
		.size = sizeof(arg),
		.members = (uintptr_t)members,
		.nr_members = ARRAY_SIZE(members),
	};
	int i, nr = 0;

	EXPECT_EQ(0, region_members(self->fd, members, 9));
	for (i = 0; i < NR; i++)
		ASSERT_EQ(0, region_join(self->fd, i));
	for (;; arg.cursor = arg.out_next) {
		memset(members, 0xa5, sizeof(members));
		ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_MEMBERS, &arg));
		if (!arg.out_nr_members)
			break;
		for (i = 0; i < arg.out_nr_members; i++, nr++) {
			EXPECT_EQ(nr, members[i].cookie);
			EXPECT_EQ(getpid(), members[i].pid);
			EXPECT_EQ(0, members[i].reserved);
		}
		/* Who goes meanwhile is not missed by others. */
		if (nr == 9) {
			EXPECT_EQ(0, region_leave(self->fd, 8));
		}
	}
	EXPECT_EQ(NR, nr);
	arg.nr_members = 0;
	EXPECT_EQ(-1, ioctl(self->fd, DVSM_IOC_REGION_MEMBERS, &arg));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(events, read_gives_whole_records_and_loses_none)
{
	struct dvsm_event events[40];
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);

	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, munmap(pages + PAGE, PAGE));
	ASSERT_EQ(0, fcntl(self->events, F_SETFL, O_NONBLOCK));
	EXPECT_EQ(-1, read(self->events, events, sizeof(events)));
	EXPECT_EQ(EAGAIN, errno);
	ASSERT_EQ(0, join_and_die(self->fd, 1, 30));
	EXPECT_EQ(-1, read(self->events, events, sizeof(events[0]) - 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, read(self->events, events, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, read(self->events, pages + PAGE, sizeof(events)));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, read(self->events, pages + PAGE - 8, sizeof(events)));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(2 * sizeof(events[0]), read(self->events, events, 3 * sizeof(events[0]) - 1));
	EXPECT_EQ(1, events[0].sequence);
	EXPECT_EQ(2, events[1].sequence);
	EXPECT_EQ(28 * sizeof(events[0]), read(self->events, events, sizeof(events)));
	EXPECT_EQ(3, events[0].sequence);
	EXPECT_EQ(30, events[27].sequence);
	EXPECT_EQ(-1, read(self->events, events, sizeof(events)));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(-1, write(self->events, events, sizeof(events)));
}

struct waiter {
	pthread_t thread;
	int events;
	long answer;		/* the event's cookie; 0 at the end; less than 0 for an error */
	bool has_answer;
};

static void *read_one(void *arg)
{
	struct waiter *waiter = arg;
	struct dvsm_event event;
	ssize_t got = read(waiter->events, &event, sizeof(event));

	waiter->answer = got == sizeof(event) ? (long)event.cookie : got;
	__atomic_store_n(&waiter->has_answer, true, __ATOMIC_RELEASE);
	return NULL;
}

/* How many have an answer, once @nr have one, or when that takes too long. */
static int answers(struct waiter *waiters, int nr_waiters, int nr)
{
	unsigned long end = clock_ms() + SOON;
	int i, have;

	do {
		sleep_ms(5);
		for (have = i = 0; i < nr_waiters; i++)
			have += __atomic_load_n(&waiters[i].has_answer, __ATOMIC_ACQUIRE);
	} while (have < nr && clock_ms() < end);
	return have;
}

/* Each for itself: what comes later would wake who was forgotten. */
TEST_F(events, read_waits_for_a_death_and_for_the_end)
{
	struct waiter waiters[3] = {};
	long sum = 0;
	int i;

	for (i = 0; i < 3; i++) {
		waiters[i].events = self->events;
		ASSERT_EQ(0, pthread_create(&waiters[i].thread, NULL, read_one, &waiters[i]));
	}
	sleep_ms(100);
	EXPECT_EQ(0, answers(waiters, 3, 0));
	ASSERT_EQ(0, join_and_die(self->fd, 11, 2));
	ASSERT_EQ(2, answers(waiters, 3, 2));
	sleep_ms(100);
	EXPECT_EQ(2, answers(waiters, 3, 0));
	close(self->fd);
	ASSERT_EQ(3, answers(waiters, 3, 3));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pthread_join(waiters[i].thread, NULL));
		sum += waiters[i].answer;
	}
	/* Two threads got one each, the third one the end. */
	EXPECT_EQ(11 + 12, sum);
}

TEST_F(events, poll_waits_for_a_death_and_for_the_end)
{
	struct pollfd poll_fd = { .fd = self->events, .events = POLLIN };
	struct barrier *barrier = barrier_make(2);
	struct dvsm_event event;
	unsigned long begun;
	pid_t pid;

	pid = child_start();
	if (!pid) {
		if (region_join(self->fd, 1))
			_exit(1);
		close(self->fd);
		barrier_wait(barrier);
		sleep_ms(QUIET);
		_exit(0);
	}
	barrier_wait(barrier);
	ASSERT_EQ(1, events_read(self->events, &event, SOON)) TH_LOG("nobody was woken");
	EXPECT_EQ(0, child_wait(pid));
	pid = child_start();
	if (!pid) {
		barrier_wait(barrier);
		sleep_ms(QUIET);
		_exit(0);
	}
	/* The child has the last descriptor. */
	close(self->fd);
	barrier_wait(barrier);
	begun = clock_ms();
	ASSERT_EQ(1, poll(&poll_fd, 1, SOON));
	EXPECT_GT(SOON, clock_ms() - begun);
	EXPECT_EQ(POLLHUP, poll_fd.revents);
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(events, descriptor_does_not_keep_the_region_and_tells_its_end)
{
	struct pollfd poll_fd = { .fd = self->events, .events = POLLIN };
	struct dvsm_event event;

	ASSERT_EQ(0, poll(&poll_fd, 1, 0));
	ASSERT_EQ(0, join_and_die(self->fd, 1, 1));
	ASSERT_EQ(1, poll(&poll_fd, 1, 0));
	EXPECT_EQ(POLLIN, poll_fd.revents);
	ASSERT_EQ(0, region_join(self->fd, 2));
	close(self->fd);
	EXPECT_EQ(0, stats_reach("regions", 0, 60));
	EXPECT_EQ(0, stats_reach("members", 0, 60));
	ASSERT_EQ(1, poll(&poll_fd, 1, 0));
	EXPECT_EQ(POLLIN | POLLHUP, poll_fd.revents);
	EXPECT_EQ(1, events_read(self->events, &event, 0));
	ASSERT_EQ(1, poll(&poll_fd, 1, 0));
	EXPECT_EQ(POLLHUP, poll_fd.revents);
	EXPECT_EQ(0, events_read(self->events, &event, 0));
}

/* As the pid namespace has it that /proc was mounted in. */
static pid_t pid_in_proc(void)
{
	char text[16] = {};

	return readlink("/proc/self", text, sizeof(text) - 1) > 0 ? atoi(text) : -errno;
}

/* Where the reader is in a pid namespace below that of the dead, and above it. */
TEST_F(events, pid_is_the_readers_view)
{
	pid_t *innermost = share_anonymous(sizeof(*innermost)), outer, status;
	struct dvsm_event event;

	outer = child_start();
	if (!outer) {
		int inner;

		if (unshare(CLONE_NEWPID))
			_exit(9);
		inner = fork();
		if (!inner) {
			struct dvsm_event seen;
			pid_t pid = fork();

			if (!pid) {
				*innermost = pid_in_proc();
				_exit(region_join(self->fd, 1));
			}
			if (child_wait(pid) || events_read(self->events, &seen, 0) != 1 ||
			    seen.pid != pid)
				_exit(1);
			_exit(0);
		}
		if (child_wait(inner))
			_exit(2);
		/* The parent of a pid namespace's first process is outside. */
		_exit(region_join(self->fd, 2));
	}
	ASSERT_EQ(0, child_wait(outer));
	ASSERT_EQ(1, events_read(self->events, &event, 0));
	EXPECT_EQ(2, event.cookie);
	EXPECT_EQ(outer, event.pid);
	close(self->events);
	self->events = region_events(self->fd);
	ASSERT_EQ(1, events_read(self->events, &event, 0));
	EXPECT_EQ(1, event.cookie);
	EXPECT_LT(0, event.pid);
	EXPECT_EQ(*innermost, event.pid);

	outer = child_start();
	if (!outer) {
		if (unshare(CLONE_NEWPID))
			_exit(9);
		status = fork();
		if (!status) {
			struct dvsm_event seen;
			int own = region_events(self->fd);

			if (events_read(own, &seen, 0) != 1 || seen.pid)
				_exit(1);
			_exit(0);
		}
		_exit(child_wait(status));
	}
	EXPECT_EQ(0, child_wait(outer));
}

TEST_F(events, user_has_so_many_members_and_no_more)
{
	ASSERT_EQ(0, param_set("limit_user_members", 3));
	EXPECT_EQ(0, region_join(self->fd, 1));
	EXPECT_EQ(0, region_join(self->fd, 2));
	EXPECT_EQ(0, region_join(self->fd, 3));
	EXPECT_EQ(-ENOSPC, region_join(self->fd, 4));
	EXPECT_EQ(0, region_leave(self->fd, 2));
	/* The dead do not count. */
	EXPECT_EQ(0, join_and_die(self->fd, 10, 1));
	EXPECT_EQ(0, join_and_die(self->fd, 10, 1));
	EXPECT_EQ(0, region_join(self->fd, 4));
	EXPECT_EQ(-ENOSPC, region_join(self->fd, 5));
	EXPECT_EQ(0, param_set("limit_user_members", 16384));
}

TEST_F(events, need_no_privilege_but_a_descriptor)
{
	int read_only = region_reopen(self->fd, DVSM_REOPEN_F_READ_ONLY);
	struct dvsm_event event;
	pid_t pid = child_start();

	if (!pid) {
		int events;

		if (become_nobody())
			_exit(2);
		events = region_events(read_only);
		_exit(events < 0 || region_join(read_only, 1) != -EBADF ||
		      region_join(self->fd, 1));
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(1, events_read(self->events, &event, 0));
}

static unsigned int alarm_us;

static void alarm_set(unsigned int us)
{
	struct itimerval timer = { .it_value = { us / 1000000, us % 1000000 } };

	alarm_us = us;
	setitimer(ITIMER_REAL, &timer, NULL);
}

/* Each later than the one before, or what takes longer than that would never come to its end. */
static void on_alarm(int signal)
{
	(void)signal;
	alarm_set(2 * alarm_us);
}

TEST_F(events, joining_is_not_disturbed_by_signals)
{
	struct sigaction action = { .sa_handler = on_alarm };
	unsigned long end = clock_ms() + 1000;
	unsigned int nr = 0;
	int ret = 0;

	sigaction(SIGALRM, &action, NULL);
	while (!ret && (clock_ms() < end || nr < 100)) {
		alarm_set(1 + nr * 37 % 300);
		ret = region_join(self->fd, 1);
		if (!ret)
			ret = region_leave(self->fd, 1);
		nr++;
	}
	alarm_set(0);
	EXPECT_EQ(0, ret) TH_LOG("after %u times: %s", nr, strerror(-ret));
	TH_LOG("%u times", nr);
}

TEST_F(events, of_many_who_die_at_once_none_is_missed_or_told_twice)
{
	enum { NR = 100 };
	struct barrier *barrier = barrier_make(NR + 1);
	unsigned char seen[NR] = {};
	struct dvsm_event event;
	pid_t pids[NR];
	int i;

	for (i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			if (region_join(self->fd, i))
				_exit(1);
			barrier_wait(barrier);
			pause();
		}
	}
	barrier_wait(barrier);
	for (i = 0; i < NR; i++)
		kill(pids[i], SIGKILL);
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(1, events_read(self->events, &event, SOON));
		ASSERT_GT(NR, event.cookie);
		EXPECT_EQ(pids[event.cookie], event.pid);
		EXPECT_EQ(SIGKILL, event.code);
		EXPECT_EQ(i + 1, event.sequence);
		seen[event.cookie]++;
	}
	for (i = 0; i < NR; i++) {
		EXPECT_EQ(1, seen[i]);
		EXPECT_EQ(128 + SIGKILL, child_wait(pids[i]));
	}
	EXPECT_EQ(-ETIMEDOUT, events_read(self->events, &event, QUIET));
}

/*
 * A region ends while its members die, join and leave, and readers wait, with and
 * without a delay between a membership's end and what follows from it.
 */
TEST_F(events, region_ends_while_its_members_die)
{
	unsigned long end = clock_ms() + 1000 * seconds();
	unsigned int round = 0;

	close(self->fd);
	while (clock_ms() < end) {
		int fd = region_create(self->dev, CHUNK, 0), events = region_events(fd);
		struct barrier *barrier = barrier_make(5);
		struct dvsm_event event;
		pid_t pids[4];
		int i, ret;

		write_text(DELAY, round++ % 2 ? "1500" : "0");
		for (i = 0; i < 4; i++) {
			pids[i] = child_start();
			if (!pids[i]) {
				close(events);
				if (region_join(fd, i))
					_exit(1);
				barrier_wait(barrier);
				if (i == 3) {
					region_leave(fd, i);
					region_join(fd, 9);
				}
				usleep(round * (i + 1) * 131 % 3000);
				if (i % 2)
					kill(getpid(), SIGKILL);
				close(fd);
				usleep(round * 57 % 3000);
				_exit(0);
			}
		}
		barrier_wait(barrier);
		usleep(round * 91 % 3000);
		close(fd);
		while ((ret = events_read(events, &event, SOON)) == 1)
			EXPECT_EQ(DVSM_EVENT_EXIT, event.type);
		EXPECT_EQ(0, ret);
		for (i = 0; i < 4; i++)
			EXPECT_EQ(i % 2 ? 128 + SIGKILL : 0, child_wait(pids[i]));
		close(events);
		munmap(barrier, sizeof(*barrier));
		EXPECT_EQ(0, stats_reach("members", 0, 60));
	}
	write_text(DELAY, "0");
	TH_LOG("%u rounds", round);
}

TEST_F(events, unloading_waits_for_processes_that_were_members_a_moment_ago)
{
	int round;

	if (access(MODULE_FILE, R_OK))
		SKIP(return, "no %s to load again", MODULE_FILE);
	close(self->events);
	close(self->fd);
	close(self->dev);
	for (round = 0; round < 5; round++) {
		int dev = open_soon(), fd = region_create(dev, CHUNK, 0), i;
		struct barrier *barrier = barrier_make(4);
		pid_t pids[3];

		for (i = 0; i < 3; i++) {
			pids[i] = child_start();
			if (!pids[i]) {
				if (region_join(fd, i))
					_exit(1);
				close(dev);
				close(fd);
				barrier_wait(barrier);
				/* One dies about when the module goes, the others live on. */
				if (i == 2)
					_exit(0);
				sleep_ms(i ? 50 : 500);
				_exit(0);
			}
		}
		barrier_wait(barrier);
		close(dev);
		close(fd);
		EXPECT_EQ(0, unload_soon());
		for (i = 0; i < 3; i++)
			EXPECT_EQ(0, child_wait(pids[i]));
		ASSERT_EQ(0, load());
	}
	self->dev = open_soon();
	EXPECT_LE(0, self->dev);
}

/* Microseconds that a child takes from its start to its end, as its parent sees it. */
static unsigned long life_us(int fd, bool join)
{
	enum { NR = 50 };
	uint64_t begin = now_ns();
	int i;

	for (i = 0; i < NR; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(join ? region_join(fd, 1) : 0);
		child_wait(pid);
	}
	return (now_ns() - begin) / NR / 1000;
}

TEST_F(events, cost_of_a_membership_is_told)
{
	unsigned long without = life_us(self->fd, false), with = life_us(self->fd, true);

	TH_LOG("fork, exit and wait: %lu us, with a membership %lu us", without, with);
	EXPECT_LT(0, with);
}

TEST_HARNESS_MAIN
