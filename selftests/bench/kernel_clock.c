// SPDX-License-Identifier: GPL-2.0-only
/*
 * The clock: the time stamp counter. In a VM whose virtual clock counts
 * instructions it advances by one an instruction, and figures are exact.
 */
#include <stdlib.h>
#include <string.h>

#include "kernel_bench.h"

#define NR_LOOPS	100000UL
#define LOOP_LENGTH	2UL		/* instructions */

static bool counts_instructions;
static double zeroing;

static uint64_t clock_loop(unsigned long loops)
{
	uint64_t start = clock_read();

	asm volatile("1: dec %0\n\tjnz 1b" : "+r" (loops) : : "cc");
	return clock_read() - start;
}

/* The way the kernel zeroes: clear_page() on a CPU with fast string operations. */
static uint64_t clock_zero(char *memory)
{
	uint64_t start = clock_read();
	size_t size = CHUNK;

	asm volatile("rep stosb" : "+D" (memory), "+c" (size) : "a" (0) : "memory");
	return clock_read() - start;
}

void clock_init(void)
{
	char *memory = aligned_alloc(CHUNK, CHUNK);
	uint64_t best = UINT64_MAX, loop = UINT64_MAX, time;
	int i;

	memset(memory, 1, CHUNK);
	for (i = 0; i < 9; i++) {
		clock_wait_tick();
		time = clock_zero(memory);
		best = time < best ? time : best;
		time = clock_loop(NR_LOOPS);
		loop = time < loop ? time : loop;
	}
	free(memory);
	zeroing = best;
	counts_instructions = loop >= NR_LOOPS * LOOP_LENGTH && loop < NR_LOOPS * LOOP_LENGTH + 100;
}

bool clock_counts_instructions(void)
{
	return counts_instructions;
}

double clock_zeroing(void)
{
	return zeroing;
}

/*
 * A tick every 4 million instructions would hit every second fault of 2 MiB. A
 * sample that begins just after one has none in it.
 */
void clock_wait_tick(void)
{
	uint64_t usual = UINT64_MAX, time, start = clock_read();

	do {
		time = clock_loop(200);
		usual = time < usual ? time : usual;
	} while (time < usual + 800 && clock_read() - start < 20000000);
}
