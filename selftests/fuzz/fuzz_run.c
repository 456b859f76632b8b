// SPDX-License-Identifier: GPL-2.0-only
/*
 * One sequence: the world is made, tasks do their operations, the world ends, and
 * what KCOV saw becomes counters.
 *
 * The thread lives as long as the fuzzer, the child from the first operation that
 * is for it to the end of the sequence. Each has a letter box for one operation;
 * the main task puts one in when it is empty, and goes on or waits for the answer,
 * as the operation says.
 */
#include <linux/futex.h>
#include <linux/kcov.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fuzz.h"

#define KCOV_ENTRIES	(64 << 10)
#define NR_NAMES	3

struct fuzz_world fuzz_world;

enum { BOX_EMPTY, BOX_FULL, BOX_QUIT };

struct fuzz_box {
	uint32_t state;
	struct fuzz_op op;
};

static struct fuzz_box *boxes;	/* one for each task, shared with children */
static struct fuzz_task tasks[FUZZ_TASKS];
static pthread_t second;
static __thread struct fuzz_task *current;

static void on_fault(int signal)
{
	if (!current)
		_exit(128 + signal);
	siglongjmp(current->fault, 1);
}

static void fuzz_do(struct fuzz_task *task, const struct fuzz_op *op)
{
	if (sigsetjmp(task->fault, 0))
		return;
	if (op->what >= FUZZ_COMMAND)
		fuzz_command(task, op);
	else
		fuzz_memory(task, op);
}

/* --- words that processes wait for --- */

uint32_t fuzz_word(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

void fuzz_set(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* A moment only: who should change it may have died. */
void fuzz_wait(const uint32_t *word, uint32_t value)
{
	const struct timespec moment = { .tv_nsec = 50000000 };

	syscall(SYS_futex, word, FUTEX_WAIT, value, &moment, NULL, 0);
}

/* --- letter boxes --- */

/* What the second thread and the child do all their lives. */
static void task_loop(struct fuzz_task *task)
{
	struct fuzz_box *box = &boxes[task - tasks];

	current = task;
	if (task->kcov.fd >= 0)
		ioctl(task->kcov.fd, KCOV_ENABLE, KCOV_TRACE_PC);
	for (;;) {
		uint32_t state = fuzz_word(&box->state);

		if (state == BOX_QUIT)
			return;
		if (state == BOX_EMPTY) {
			fuzz_wait(&box->state, BOX_EMPTY);
			continue;
		}
		fuzz_do(task, &box->op);
		/* Nobody puts anything in before it is empty, but the end of the sequence may come. */
		__atomic_compare_exchange_n(&box->state, &state, BOX_EMPTY, false, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED);
		syscall(SYS_futex, &box->state, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
}

static void *thread_main(void *unused)
{
	(void)unused;
	task_loop(&tasks[FUZZ_THREAD]);
	return NULL;
}

/* Whether it is alive; 0 is none yet, -1 one that died in this sequence. */
static bool child_lives(void)
{
	if (fuzz_world.child > 0 && waitpid(fuzz_world.child, NULL, WNOHANG) == fuzz_world.child)
		fuzz_world.child = -1;
	return fuzz_world.child > 0;
}

static void child_begin(void)
{
	boxes[FUZZ_CHILD].state = BOX_EMPTY;
	fuzz_world.child = fork();
	if (fuzz_world.child)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	task_loop(&tasks[FUZZ_CHILD]);
	_exit(0);
}

static void box_until_empty(unsigned int who)
{
	while (fuzz_word(&boxes[who].state) == BOX_FULL && (who != FUZZ_CHILD || child_lives()))
		fuzz_wait(&boxes[who].state, BOX_FULL);
}

static void give(unsigned int who, const struct fuzz_op *op, bool wait)
{
	if (who == FUZZ_CHILD && !fuzz_world.child)
		child_begin();
	if (who == FUZZ_CHILD && !child_lives())
		return;
	box_until_empty(who);
	boxes[who].op = *op;
	fuzz_set(&boxes[who].state, BOX_FULL);
	if (wait)
		box_until_empty(who);
}

/* --- the world --- */

static void world_begin(void)
{
	unsigned int i;

	fuzz_world.child = 0;
	for (i = 0; i < FUZZ_FDS; i++)
		fuzz_world.fds[i] = -1;
	fuzz_world.fds[0] = device_open(O_RDWR);
	fuzz_world.fds[1] = region_create(fuzz_world.dev, 2 * CHUNK, 0);
	mmap(fuzz_window(0), 2 * CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
	     fuzz_world.fds[1], 0);
}

static void world_end(void)
{
	static const char * const names[NR_NAMES] = { "a", "b", "c" };
	unsigned int i;

	box_until_empty(FUZZ_THREAD);
	if (fuzz_world.child > 0) {
		box_until_empty(FUZZ_CHILD);
		fuzz_set(&boxes[FUZZ_CHILD].state, BOX_QUIT);
		if (fuzz_world.child > 0)
			waitpid(fuzz_world.child, NULL, 0);
	}
	munmap(fuzz_window(0), FUZZ_WINDOWS * FUZZ_WINDOW_STEP);
	uring_unregister_buffers(&fuzz_world.ring);
	for (i = 0; i < FUZZ_FDS; i++)
		fuzz_fd_set(i, -1);
	for (i = 0; i < FUZZ_TASKS; i++)
		while (read(tasks[i].pipe[0], tasks[i].scratch, FUZZ_SCRATCH_SIZE) > 0)
			;
	for (i = 0; i < NR_NAMES; i++)
		name_unlink(fuzz_world.dev, names[i]);
}

/* --- coverage --- */

static int kcov_open(struct fuzz_kcov *kcov)
{
	kcov->fd = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);
	if (kcov->fd < 0)
		return -errno;
	if (ioctl(kcov->fd, KCOV_INIT_TRACE, KCOV_ENTRIES))
		return -errno;
	kcov->area = mmap(NULL, KCOV_ENTRIES * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, kcov->fd, 0);
	if (kcov->area == MAP_FAILED)
		return -errno;
	/* A fork would copy each of its page table entries, and only this process reads it. */
	return madvise(kcov->area, KCOV_ENTRIES * sizeof(long), MADV_DONTFORK) ? -errno : 0;
}

/* As in AFL: a counter for each step from one basic block to the next. */
static void kcov_count(const struct fuzz_kcov *kcov, uint8_t *counters)
{
	unsigned long n = __atomic_load_n(&kcov->area[0], __ATOMIC_RELAXED), i, last = 0;

	for (i = 1; i <= n && i < KCOV_ENTRIES; i++) {
		unsigned long here = kcov->area[i] * 0x9e3779b97f4a7c15UL >> 40;
		uint8_t *counter = &counters[(here ^ last) % FUZZ_COUNTERS];

		if (*counter < 255)
			++*counter;
		last = here >> 1;
	}
}

/**
 * fuzz_run - one sequence, from nothing to nothing.
 * @data: operations
 * @size: bytes of them, FUZZ_SIZE_MAX at most
 * @counters: FUZZ_COUNTERS of them are incremented
 */
void fuzz_run(const uint8_t *data, size_t size, uint8_t *counters)
{
	struct fuzz_op ops[FUZZ_OPS_MAX];
	size_t i;

	memcpy(ops, data, size);
	for (i = 0; i < FUZZ_TASKS; i++)
		__atomic_store_n(&tasks[i].kcov.area[0], 0, __ATOMIC_RELAXED);
	world_begin();
	for (i = 0; i < size / sizeof(ops[0]); i++) {
		unsigned int who = fuzz_op_who(&ops[i]);

		if (who < FUZZ_WHO_THREAD)
			fuzz_do(&tasks[FUZZ_MAIN], &ops[i]);
		else
			give(who < FUZZ_WHO_CHILD ? FUZZ_THREAD : FUZZ_CHILD, &ops[i], who & 1);
	}
	world_end();
	for (i = 0; i < FUZZ_TASKS; i++)
		kcov_count(&tasks[i].kcov, counters);
}

static int fuzz_start(void)
{
	const struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
	int i, ret;

	fuzz_world.dev = device_open(O_RDWR);
	if (fuzz_world.dev < 0)
		return fuzz_world.dev;
	/* While there is a region, the module's file system need not be mounted for each new one. */
	ret = region_create(fuzz_world.dev, CHUNK, 0);
	if (ret < 0)
		return ret;
	ret = uring_open(&fuzz_world.ring, 8);
	if (ret)
		return ret;
	fuzz_world.disk = open("/dev/ram0", O_RDWR | O_DIRECT | O_CLOEXEC);
	boxes = share_anonymous(FUZZ_TASKS * sizeof(*boxes));
	/* Names of their own for fuzzers that run beside each other. */
	if (unshare(CLONE_NEWIPC))
		return -errno;
	for (i = 0; i < FUZZ_TASKS; i++) {
		ret = kcov_open(&tasks[i].kcov);
		if (ret)
			return ret;
		if (pipe2(tasks[i].pipe, O_NONBLOCK | O_CLOEXEC))
			return -errno;
		tasks[i].scratch = share_anonymous(FUZZ_SCRATCH_SIZE);
	}
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	current = &tasks[FUZZ_MAIN];
	current->has_ring = true;
	if (ioctl(tasks[FUZZ_MAIN].kcov.fd, KCOV_ENABLE, KCOV_TRACE_PC))
		return -errno;
	return -pthread_create(&second, NULL, thread_main, NULL);
}

/**
 * fuzz_start_or_exit - what lasts as long as this process; ends it where the kernel has no KCOV or no device.
 */
void fuzz_start_or_exit(void)
{
	int ret = fuzz_start();

	if (!ret)
		return;
	dprintf(STDERR_FILENO, "cannot begin: %s\n", strerror(-ret));
	_exit(1);
}

/**
 * fuzz_stay - where the tasks run from now on, children too.
 * @cpus: not empty
 */
void fuzz_stay(const cpu_set_t *cpus)
{
	pthread_setaffinity_np(pthread_self(), sizeof(*cpus), cpus);
	pthread_setaffinity_np(second, sizeof(*cpus), cpus);
}
