/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel benchmark is made of.
 *
 * A *measure* (kernel_touch.c, kernel_mapping.c, ...) takes samples of one thing,
 * on each *memory* (kernel_memory.c) it is for. The samples of a pair become a
 * *row* (kernel_rows.c), one line of JSON. The report (kernel_report.c) reads the
 * rows of several runs, prints tables and tests the *bars*.
 *
 * A new measure is an entry in its file's array, a new bar one in kernel_report.c.
 */
#ifndef KERNEL_BENCH_H
#define KERNEL_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <x86intrin.h>

#define CHUNK		(2UL << 20)
#define PAGE		4096UL
#define NR_SAMPLES_MAX	4096
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* Kinds of memory, for the masks of measures. */
#define MEMORY_DVSM	(1U << 0)
#define MEMORY_HUGETLB	(1U << 1)
#define MEMORY_SHMEM	(1U << 2)
#define MEMORY_ANON	(1U << 3)
#define MEMORY_HUGE	(1U << 4)	/* must take a fault for 2 MiB, not for 4 KiB */
#define MEMORY_SNAPSHOT	(1U << 5)	/* has snapshots that share */
#define MEMORY_SHARED	(MEMORY_DVSM | MEMORY_HUGETLB | MEMORY_SHMEM)

/*
 * A kind of memory. Sizes are in bytes, multiples of CHUNK. Calls that return
 * int give 0 or a negative errno. Order: prepare, acquire, open, map ... munmap,
 * close, release; what is NULL has nothing to do.
 */
struct memory {
	const char *name;			/* in rows */
	const char *title;			/* in tables */
	unsigned int kind;			/* MEMORY_ */
	int (*prepare)(size_t size);		/* the machine's settings; not measured */
	int (*acquire)(size_t size);		/* taking memory off the machine; measured */
	int (*open)(size_t size);		/* a descriptor, or -1 for anonymous memory */
	void *(*map)(int fd, size_t size, bool populate);	/* NULL: plain mmap of @fd */
	int (*populate)(int fd, size_t size);	/* NULL: MAP_POPULATE */
	int (*release)(void);			/* giving it back; measured */
};

extern const struct memory memories[];
extern const size_t nr_memories;

void *memory_map(const struct memory *memory, int fd, size_t size, bool populate);
void memory_settle(void);
bool memory_is_zeroed_by_allocator(void);	/* init_on_alloc */

/* Resident memory, mapped. */
struct resident {
	const struct memory *memory;
	size_t size;
	int fd;
	char *map;
};

int resident_make(struct resident *resident, const struct memory *memory, size_t size);
int resident_end(struct resident *resident);

/* Every page once, because the kernel may map few of them at a fault. */
void chunk_touch(volatile char *chunk, bool write);
void resident_touch(struct resident *resident);	/* writes to all of it */

/* Values of one measure on one memory, in ticks of the clock. */
struct samples {
	size_t nr;
	double value[NR_SAMPLES_MAX];
};

void samples_add(struct samples *samples, double value);

struct measure {
	const char *name;			/* in rows */
	const char *title;			/* in tables, with what one sample is */
	unsigned int kinds;			/* MEMORY_ bits it is for */
	size_t zeroed;				/* bytes that one sample must zero */
	int (*run)(const struct memory *memory, struct samples *samples);
	size_t allocated;			/* bytes of one sample that only the page
						 * allocator zeroes, and only where it
						 * zeroes everything
						 */
};

/* Each ends with an element that has no name. */
extern const struct measure touch_measures[];		/* kernel_touch.c */
extern const struct measure mapping_measures[];		/* kernel_mapping.c */
extern const struct measure snapshot_measures[];	/* kernel_snapshot.c */
extern const struct measure use_measures[];		/* kernel_use.c */
extern const struct measure node_measures[];		/* kernel_node.c */
extern const struct measure * const measure_lists[];	/* all of them; ends with NULL */

/* kernel_clock.c */
void clock_init(void);
bool clock_counts_instructions(void);
double clock_zeroing(void);			/* ticks for zeroing one CHUNK */
void clock_wait_tick(void);			/* until just after a timer interrupt */

static inline uint64_t clock_read(void)
{
	unsigned int cpu;

	return __rdtscp(&cpu);
}

/* One measured pair in one run. */
struct row {
	char run[64];				/* kernel and settings */
	char measure[64];
	char memory[64];
	unsigned long nr;			/* samples */
	double mean;				/* of the middle 80 %, or median of few, in ticks */
	double median, p10, p90;		/* in ticks */
	double beside;				/* mean without the zeroing */
};

void row_make(struct row *row, const char *run, const struct measure *measure,
	      const struct memory *memory, struct samples *samples);
void row_write(FILE *file, const struct row *row);
bool row_parse(const char *line, struct row *row);

/* kernel_report.c: tables and bars; the number of bars that were missed. */
unsigned int report(FILE *file, const struct row *rows, size_t nr_rows);

/* How many chunks the measures use; see the options. */
extern size_t nr_touch_chunks;
extern size_t nr_large_chunks;

#endif /* KERNEL_BENCH_H */
