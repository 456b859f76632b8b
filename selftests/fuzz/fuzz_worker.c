// SPDX-License-Identifier: GPL-2.0-only
/*
 * The process that does a job's sequences. libFuzzer's process has 20 MiB of tables, and
 * a fork copies what its process has: so sequences, which fork, are done by another one
 * that has next to nothing.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fuzz.h"

/*
 * Jobs that stay on a CPU of their own do half as much again as jobs that share all: what
 * goes from one CPU to another is dear in an emulator. Tasks that meet need two, though:
 * of four stretches of sequences the last one has all CPUs.
 */
#define STRETCH		64

static struct {
	uint32_t given;		/* how many sequences libFuzzer's process put in */
	uint32_t done;		/* how many the worker has done */
	uint32_t size;
	uint8_t data[FUZZ_SIZE_MAX];
	uint8_t counters[FUZZ_COUNTERS];
} *box;

static pid_t worker;
static cpu_set_t cpu_own, cpus_all;

static void __attribute__((noreturn)) worker_loop(void)
{
	uint32_t done;

	for (done = 0;; done++) {
		if (done % STRETCH == 0)
			fuzz_stay(done / STRETCH % 4 == 3 ? &cpus_all : &cpu_own);
		while (fuzz_word(&box->given) == done)
			fuzz_wait(&box->given, done);
		memset(box->counters, 0, sizeof(box->counters));
		fuzz_run(box->data, box->size, box->counters);
		fuzz_set(&box->done, done + 1);
	}
}

/* Its regions are gone before this process is. */
static void worker_end(void)
{
	kill(worker, SIGKILL);
	waitpid(worker, NULL, 0);
}

/**
 * fuzz_worker_begin - makes this process's worker, which ends with it.
 * @job: which CPU is its own
 */
void fuzz_worker_begin(unsigned int job)
{
	sched_getaffinity(0, sizeof(cpus_all), &cpus_all);
	CPU_SET(job % CPU_COUNT(&cpus_all), &cpu_own);
	sched_setaffinity(0, sizeof(cpu_own), &cpu_own);
	box = share_anonymous(sizeof(*box));
	worker = fork();
	if (!worker) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fuzz_start_or_exit();
		worker_loop();
	}
	atexit(worker_end);
}

/**
 * fuzz_worker_run - has the worker do a sequence; aborts if it dies.
 * @data: operations
 * @size: bytes of them
 * @counters: are set
 */
void fuzz_worker_run(const uint8_t *data, size_t size, uint8_t *counters)
{
	uint32_t done = box->done;

	memcpy(box->data, data, size);
	box->size = size;
	fuzz_set(&box->given, done + 1);
	while (fuzz_word(&box->done) == done) {
		fuzz_wait(&box->done, done);
		if (waitpid(worker, NULL, WNOHANG) == worker)
			abort();
	}
	memcpy(counters, box->counters, sizeof(box->counters));
}
