/* SPDX-License-Identifier: GPL-2.0-only */
/* What the tests of the heap share. */
#ifndef DVSM_HEAP_TEST_H
#define DVSM_HEAP_TEST_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <dvsm/heap.h>

#define MIB	(1UL << 20)
#define GIB	(1UL << 30)

/* Seconds that a test with a time of its own may ask for; the harness would end it after five minutes. */
#define CAMPAIGN_MAX	1000000

/* Seconds that a hang may take: long for a machine that stalls, less than the harness gives. */
#define HANG	240

static inline double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* How long a test with a time of its own may run: DVSM_TEST_SECONDS, or what it asks for. */
static inline double patience(double usual)
{
	const char *wish = getenv("DVSM_TEST_SECONDS");

	return wish ? atof(wish) : usual;
}

static inline uint32_t random_next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*seed >> 33);
}

static inline bool run_on(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	return !sched_setaffinity(0, sizeof(one), &one);
}

/* Memory that children share with the test, beside the heap. */
static inline void *shared_page(size_t length)
{
	void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* A child that dies with the test. */
static inline pid_t child_begin(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* The signal that a child died of; 0 if it exited with 0; -1 for another exit. */
static inline int child_end(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) ? -1 : 0;
}

static inline int count_block(void *address, size_t size, void *context)
{
	(void)address;
	(void)size;
	++*(long *)context;
	return 0;
}

static inline long live_blocks(struct dvsm_heap *heap)
{
	long nr = 0;

	dvsm_heap_walk(heap, count_block, &nr);
	return nr;
}

static inline struct dvsm_heap *heap_on(uint32_t backend, uint64_t reserve)
{
	struct dvsm_heap_options options = { .size = sizeof(options), .backend = backend, .reserve = reserve };

	return dvsm_heap_create(&options);
}

static inline struct dvsm_heap *heap_of(uint64_t reserve)
{
	return heap_on(DVSM_BACKEND_AUTO, reserve);
}

#endif /* DVSM_HEAP_TEST_H */
