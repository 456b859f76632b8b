/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fuzzer of the module: sequences of commands and memory operations, by two
 * threads and a child, mutated by libFuzzer and led by the coverage that KCOV sees.
 *
 *   input      struct fuzz_op after struct fuzz_op; every input means something, and
 *              the same one means the same sequence (which of two tasks is faster is
 *              for the scheduler to say)
 *   world      what operations work on: a few descriptors and a few windows of
 *              addresses; made before each sequence, gone after it
 *   task       who runs operations: the worker's main thread, a second one, a child process
 *   worker     the process that does the sequences of a libFuzzer, which is another one
 */
#ifndef DVSM_SELFTEST_FUZZ_H
#define DVSM_SELFTEST_FUZZ_H

#include <sched.h>
#include <setjmp.h>

#include "common.h"

#define FUZZ_FDS		8
#define FUZZ_WINDOWS		4
#define FUZZ_WINDOW_SIZE	(4 * CHUNK)
#define FUZZ_WINDOW_STEP	(8 * CHUNK)
#define FUZZ_WINDOW_BASE	0x100000000000UL
#define FUZZ_OPS_MAX		32
#define FUZZ_ARGS		5

/* One operation, as it stands in an input. */
struct fuzz_op {
	uint8_t what;	/* from FUZZ_COMMAND on a command, below it another operation */
	uint8_t who;
	uint8_t where;	/* bits 0-2 descriptor, bits 3-4 window */
	uint8_t arg[FUZZ_ARGS];
};

#define FUZZ_COMMAND		128
#define FUZZ_SIZE_MAX		(FUZZ_OPS_MAX * sizeof(struct fuzz_op))
#define FUZZ_COUNTERS		(8U << 10)

static inline unsigned int fuzz_op_slot(const struct fuzz_op *op)
{
	return op->where & 7;
}

static inline unsigned int fuzz_op_window(const struct fuzz_op *op)
{
	return op->where >> 3 & 3;
}

/*
 * Odd ones are waited for. A child costs more than all the rest of a sequence, so few have one.
 */
#define FUZZ_WHO_THREAD		20
#define FUZZ_WHO_CHILD		30
#define FUZZ_WHOS		32

static inline unsigned int fuzz_op_who(const struct fuzz_op *op)
{
	return op->who % FUZZ_WHOS;
}

enum { FUZZ_MAIN, FUZZ_THREAD, FUZZ_CHILD, FUZZ_TASKS };

struct fuzz_kcov {
	int fd;
	unsigned long *area;	/* number of addresses, then the addresses */
};

#define FUZZ_SCRATCH_SIZE	(4 * PAGE)

struct fuzz_task {
	struct fuzz_kcov kcov;
	sigjmp_buf fault;	/* where an operation ends whose access got a signal */
	int pipe[2];
	bool has_ring;		/* may give commands by the world's io_uring: one task alone */
	unsigned char *scratch;	/* outputs of commands, data to write */
};

/*
 * What all tasks work on; the child has its own copy from the moment it is made. A
 * sequence begins with the device, and a region of two chunks, mapped once.
 */
struct fuzz_world {
	int fds[FUZZ_FDS];	/* -1: none */
	int dev;		/* for what the fuzzer itself needs */
	struct uring ring;
	int disk;		/* for direct I/O, -1: none */
	pid_t child;		/* 0: none yet in this sequence */
};

extern struct fuzz_world fuzz_world;

static inline char *fuzz_window(unsigned int window)
{
	return (char *)FUZZ_WINDOW_BASE + window % FUZZ_WINDOWS * FUZZ_WINDOW_STEP;
}

/* fuzz_command.c */
void fuzz_command(struct fuzz_task *task, const struct fuzz_op *op);
uint64_t fuzz_bytes(uint8_t arg);
int fuzz_fd_get(unsigned int slot);
void fuzz_fd_set(unsigned int slot, int fd);

/* fuzz_memory.c */
void fuzz_memory(struct fuzz_task *task, const struct fuzz_op *op);

/* fuzz_run.c */
uint32_t fuzz_word(const uint32_t *word);
void fuzz_set(uint32_t *word, uint32_t value);
void fuzz_wait(const uint32_t *word, uint32_t value);
void fuzz_start_or_exit(void);
void fuzz_stay(const cpu_set_t *cpus);
void fuzz_run(const uint8_t *data, size_t size, uint8_t *counters);

/* fuzz_worker.c */
void fuzz_worker_begin(unsigned int job);
void fuzz_worker_run(const uint8_t *data, size_t size, uint8_t *counters);

#endif /* DVSM_SELFTEST_FUZZ_H */
