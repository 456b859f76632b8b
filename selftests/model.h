/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What tests of random histories share: numbers from a seed, and the place where a
 * history went wrong.
 *
 * A part of the steps is done by another process, forked now and then, that has the
 * regions as they were open and mapped then.
 *
 * DVSM_SEED and DVSM_STEPS choose the history; without DVSM_STEPS it is as long as
 * DVSM_TEST_SECONDS allow twice over.
 */
#ifndef DVSM_SELFTEST_MODEL_H
#define DVSM_SELFTEST_MODEL_H

#include <sys/socket.h>
#include <time.h>

#include "snapshot.h"

static uint64_t state;
static uint64_t last_id;		/* of a region or snapshot, to be known by */
static unsigned long step;
static unsigned long nr_by_worker;	/* commands, reads and writes */
static const char *action = "";

static uint64_t draw(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 11) % below;
}

static void fail(const char *what)
{
	ksft_print_msg("step %lu, %s: %s (errno %d)\n", step, action, what, errno);
	exit(KSFT_FAIL);
}

static void check(bool holds, const char *what)
{
	if (!holds)
		fail(what);
}

/* Chunks: @first to before @end; none if that is not above it. */
struct span {
	size_t first;
	size_t end;
};

static struct span span_in_common(struct span a, struct span b)
{
	return (struct span) {
		.first = a.first > b.first ? a.first : b.first,
		.end = a.end < b.end ? a.end : b.end,
	};
}

static bool span_has(struct span span, size_t chunk)
{
	return span.first <= chunk && chunk < span.end;
}

/* A range of chunks for a snapshot, most often all of them. */
static struct span span_draw(size_t nr_chunks)
{
	struct span span = { .end = nr_chunks };

	if (!draw(4)) {
		span.first = draw(nr_chunks);
		span.end = span.first + 1 + draw(nr_chunks - span.first);
	}
	return span;
}

/* Where two members can differ. @taken: of their parents, @descent: by all that they come from */
#define span_compared(a, b) \
	((a)->parent == (b)->id ? (a)->taken : \
	 (b)->parent == (a)->id ? (b)->taken : \
	 (a)->parent && (a)->parent == (b)->parent ? span_in_common((a)->taken, (b)->taken) : \
	 span_in_common((a)->descent, (b)->descent))

static unsigned long from_env(const char *name, unsigned long otherwise)
{
	const char *value = getenv(name);

	return value ? strtoul(value, NULL, 0) : otherwise;
}

enum { WORK_IOCTL, WORK_READ, WORK_WRITE, WORK_CLOSE };

struct work {
	int what;
	int fd;
	unsigned long cmd;
	uint64_t arg[32];
	volatile uint64_t *at;
	uint64_t value;
	void *maps[2];
	size_t length;
	int ret;
	int error;
};

static struct {
	pid_t pid;		/* 0: none now */
	int sock;
	uint64_t last_id;	/* it has the regions up to this one */
	struct work *work;
} worker;

static int work_do(struct work *work)
{
	int i;

	switch (work->what) {
	case WORK_IOCTL:
		return ioctl(work->fd, work->cmd, work->arg);
	case WORK_READ:
		work->value = *work->at;
		return 0;
	case WORK_WRITE:
		*work->at = work->value;
		return 0;
	default:
		for (i = 0; i < 2 && work->maps[i]; i++)
			munmap(work->maps[i], work->length);
		return close(work->fd);
	}
}

static void work_until_the_end(int sock)
{
	struct work *work = worker.work;
	char byte;

	while (read(sock, &byte, 1) == 1) {
		work->ret = work_do(work);
		work->error = errno;
		/* It does not keep what it has taken. */
		if (work->what == WORK_IOCTL && work->cmd == DVSM_IOC_SNAPSHOT_TAKE &&
		    (fd_send(sock, work->ret) || close(work->ret)))
			break;
		if (write(sock, &byte, 1) != 1)
			break;
	}
	_exit(0);
}

static void worker_start(void)
{
	int pair[2];

	if (!worker.work)
		worker.work = share_anonymous(sizeof(*worker.work));
	check(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
	worker.pid = child_start();
	if (!worker.pid) {
		close(pair[0]);
		work_until_the_end(pair[1]);
	}
	close(pair[1]);
	worker.sock = pair[0];
	worker.last_id = last_id;
}

/* By itself or by SIGKILL. */
static void worker_end(void)
{
	if (!worker.pid)
		return;
	if (draw(2))
		kill(worker.pid, SIGKILL);
	close(worker.sock);
	child_wait(worker.pid);
	worker.pid = 0;
}

static bool worker_knows(uint64_t id)
{
	return worker.pid && id <= worker.last_id;
}

/* What is filled in at worker.work is done there. As ioctl(). */
static int work(int what)
{
	bool takes = what == WORK_IOCTL && worker.work->cmd == DVSM_IOC_SNAPSHOT_TAKE;
	int taken = -1;
	char byte = 0;

	worker.work->what = what;
	nr_by_worker++;
	check(write(worker.sock, &byte, 1) == 1, "the other process is gone");
	if (takes)
		taken = fd_receive(worker.sock);
	check(read(worker.sock, &byte, 1) == 1, "the other process has ended");
	errno = worker.work->error;
	return takes ? taken : worker.work->ret;
}

/* A command by either process, @known where the other one has all descriptors that it needs. */
static int command_by(bool known, int fd, unsigned long cmd, void *arg)
{
	uint32_t size = *(uint32_t *)arg;
	int ret;

	if (!known || draw(2))
		return ioctl(fd, cmd, arg);
	check(size <= sizeof(worker.work->arg), "size of an argument");
	memcpy(worker.work->arg, arg, size);
	worker.work->fd = fd;
	worker.work->cmd = cmd;
	ret = work(WORK_IOCTL);
	memcpy(arg, worker.work->arg, size);
	return ret;
}

static void worker_write(volatile uint64_t *at, uint64_t value)
{
	worker.work->at = at;
	worker.work->value = value;
	check(!work(WORK_WRITE), "write");
}

static uint64_t worker_read(volatile uint64_t *at)
{
	worker.work->at = at;
	check(!work(WORK_READ), "read");
	return worker.work->value;
}

/* What it has of a region that ends. @other: a second mapping, or NULL */
static void worker_close(int fd, void *map, void *other, size_t length)
{
	worker.work->fd = fd;
	worker.work->maps[0] = map;
	worker.work->maps[1] = other;
	worker.work->length = length;
	check(!work(WORK_CLOSE), "close");
}

/*
 * Call @one_step as often as the environment says; @after_step after each, or NULL. Where the
 * environment says a time, it goes on until *@nr_wanted is above 0: a slow machine takes few steps.
 */
static void history_run(void (*one_step)(void), void (*after_step)(void),
			const unsigned long *nr_wanted)
{
	unsigned long end = clock_ms() + from_env("DVSM_TEST_SECONDS", 15) * 2000;
	unsigned long nr_steps = from_env("DVSM_STEPS", 0);
	unsigned long seed = from_env("DVSM_SEED", time(NULL) ^ getpid());

	state = seed * 0x9e3779b97f4a7c15ull | 1;
	ksft_print_msg("DVSM_SEED=%lu DVSM_STEPS=%lu\n", seed, nr_steps);
	for (step = 0; nr_steps ? step < nr_steps :
	     clock_ms() < end || (!*nr_wanted && clock_ms() < end + 300000); step++) {
		if (!worker.pid && !draw(16))
			worker_start();
		one_step();
		if (after_step)
			after_step();
		if (!draw(64))
			worker_end();
	}
	ksft_print_msg("%lu times by another process\n", nr_by_worker);
	check(step < 2000 || nr_by_worker, "steps by another process");
	worker_end();
}

#endif /* DVSM_SELFTEST_MODEL_H */
