/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stacks of the CPUs, by restartable sequences (rseq) on the area that glibc registers for each thread.
 *
 * Each section reads cpu_id again, looks at that CPU's stack, and ends with one store that commits. If the
 * thread is preempted, migrated, signalled or killed before that store, nothing has happened. Aborts are
 * counted by the callers and bounded: a section that is single-stepped would abort for ever.
 *
 * A thread without rseq has a negative cpu_id and does without stacks; so does every thread of a libc without
 * rseq (heap_cpu.c). Every CPU that the machine can ever have has stacks.
 */
#ifndef DVSM_HEAP_CPU_H
#define DVSM_HEAP_CPU_H

#include "heap_types.h"

/* What the kernel and the C library agree on; the kernel writes cpu_id, we write rseq_cs. */
struct dvsm_rseq {
	uint32_t cpu_id_start;
	uint32_t cpu_id;
	uint64_t rseq_cs;
};

/* Offset of the thread's area from the thread pointer. */
extern long dvsm_rseq_offset __attribute__((visibility("hidden")));
void dvsm_rseq_init(void);

enum dvsm_cpu_answer {
	DVSM_CPU_DONE,
	DVSM_CPU_NONE,		/* no rseq */
	DVSM_CPU_EMPTY,		/* pop: no block; push: no room */
	DVSM_CPU_ABORTED,
};

#if defined(__x86_64__)

/* %[area] is the thread's area as an offset from %fs. */
#define DVSM_RSEQ_BEGIN(abort)						\
	".pushsection __rseq_cs, \"aw\"\n\t"				\
	".balign 32\n"							\
	"3:\n\t"							\
	".long 0, 0\n\t"						\
	".quad 1f, 2f - 1f, 4f\n\t"					\
	".popsection\n\t"						\
	".pushsection .text.dvsm_rseq_abort, \"ax\"\n\t"		\
	".byte 0x0f, 0xb9, 0x3d\n\t"					\
	".long 0x53053053\n"						\
	"4:\n\t"							\
	"jmp " abort "\n\t"						\
	".popsection\n\t"						\
	"leaq 3b(%%rip), %[scratch]\n\t"				\
	"movq %[scratch], %%fs:8(%[area])\n"				\
	"1:\n\t"

#define DVSM_RSEQ_END	"2:\n\t"

#define DVSM_RSEQ_CPU							\
	"movl %%fs:4(%[area]), %k[scratch]\n\t"				\
	"testl %k[scratch], %k[scratch]\n\t"

/* Each CPU's area is half a mebibyte. */
#define DVSM_RSEQ_STACK							\
	"shlq $19, %[scratch]\n\t"					\
	"addq %[stacks], %[scratch]\n\t"

/**
 * dvsm_cpu_pop - take the top block of the running CPU's stack.
 * @stacks: address of CPU 0's stack of that class
 * @area: dvsm_rseq_offset
 * @block: receives the block's address
 *
 * The head's count is written alone: the tag stays.
 */
static inline __attribute__((always_inline)) enum dvsm_cpu_answer
dvsm_cpu_pop(const void *stacks, long area, void **block)
{
	uint64_t scratch, count;

	asm volatile goto(DVSM_RSEQ_BEGIN("%l[aborted]")
		 DVSM_RSEQ_CPU
		 "js %l[none]\n\t"
		 DVSM_RSEQ_STACK
		 "movl (%[scratch]), %k[count]\n\t"
		 "subl $1, %k[count]\n\t"
		 "jc %l[empty]\n\t"
		 "movq 16(%[scratch], %[count], 8), %[block]\n\t"
		 "movl %k[count], (%[scratch])\n"
		 DVSM_RSEQ_END
		 : [scratch] "=&r" (scratch), [count] "=&r" (count), [block] "=&r" (*block)
		 : [area] "r" (area), [stacks] "r" (stacks)
		 : "memory", "cc" : aborted, none, empty);
	return DVSM_CPU_DONE;
none:
	return DVSM_CPU_NONE;
empty:
	return DVSM_CPU_EMPTY;
aborted:
	return DVSM_CPU_ABORTED;
}

/**
 * dvsm_cpu_push - put a block on the running CPU's stack.
 *
 * A block that is on top already is being freed twice: that counts as no room, and the slow path looks closer.
 * (With a count of 0 the comparison is with the capacity, which is no block's offset.)
 */
static inline __attribute__((always_inline)) enum dvsm_cpu_answer
dvsm_cpu_push(const void *stacks, long area, const void *block)
{
	uint64_t scratch, count;

	asm volatile goto(DVSM_RSEQ_BEGIN("%l[aborted]")
		 DVSM_RSEQ_CPU
		 "js %l[none]\n\t"
		 DVSM_RSEQ_STACK
		 "movl (%[scratch]), %k[count]\n\t"
		 "cmpl 8(%[scratch]), %k[count]\n\t"
		 "jae %l[full]\n\t"
		 "cmpq 8(%[scratch], %[count], 8), %[block]\n\t"
		 "je %l[full]\n\t"
		 "movq %[block], 16(%[scratch], %[count], 8)\n\t"
		 "addl $1, %k[count]\n\t"
		 "movl %k[count], (%[scratch])\n"
		 DVSM_RSEQ_END
		 : [scratch] "=&r" (scratch), [count] "=&r" (count)
		 : [area] "r" (area), [stacks] "r" (stacks),
		   [block] "r" (block)
		 : "memory", "cc" : aborted, none, full);
	return DVSM_CPU_DONE;
none:
	return DVSM_CPU_NONE;
full:
	return DVSM_CPU_EMPTY;
aborted:
	return DVSM_CPU_ABORTED;
}

/**
 * dvsm_cpu_move - copy blocks and replace a stack's head, if it is what it was.
 * @cpu: the CPU that the stack belongs to; on any other one nothing happens
 * @head: the stack's head
 *
 * Return: DONE; EMPTY if the head has changed or this is another CPU.
 */
static inline enum dvsm_cpu_answer
dvsm_cpu_move(_Atomic uint64_t *head, uint32_t cpu, long area, uint64_t old, uint64_t new,
	      uint64_t *to, const uint64_t *from, uint64_t nr)
{
	uint64_t scratch, index;

	asm volatile goto(DVSM_RSEQ_BEGIN("%l[aborted]")
		 "cmpl %[cpu], %%fs:4(%[area])\n\t"
		 "jne %l[changed]\n\t"
		 "cmpq %[old], (%[head])\n\t"
		 "jne %l[changed]\n\t"
		 "xorl %k[index], %k[index]\n"
		 "5:\n\t"
		 "cmpq %[nr], %[index]\n\t"
		 "jae 6f\n\t"
		 "movq (%[from], %[index], 8), %[scratch]\n\t"
		 "movq %[scratch], (%[to], %[index], 8)\n\t"
		 "addq $1, %[index]\n\t"
		 "jmp 5b\n"
		 "6:\n\t"
		 "movq %[new], (%[head])\n"
		 DVSM_RSEQ_END
		 : [scratch] "=&r" (scratch), [index] "=&r" (index)
		 : [area] "r" (area), [cpu] "r" (cpu), [head] "r" (head), [old] "r" (old),
		   [new] "r" (new), [to] "r" (to), [from] "r" (from), [nr] "m" (nr)
		 : "memory", "cc" : aborted, changed);
	return DVSM_CPU_DONE;
changed:
	return DVSM_CPU_EMPTY;
aborted:
	return DVSM_CPU_ABORTED;
}

static inline uint32_t dvsm_cpu_id(long area)
{
	uint32_t cpu;

	asm volatile("movl %%fs:4(%1), %0" : "=r" (cpu) : "r" (area));
	return cpu;
}

#else
#error "libdvsm's heap needs restartable sequences and 16-byte exchange: x86-64 for now"
#endif

#endif /* DVSM_HEAP_CPU_H */
