/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stacks of the CPUs, by restartable sequences (rseq) on the area that glibc registers for each thread.
 *
 * Each section reads cpu_id again, looks at that CPU's stack, and ends with one store that commits. If the
 * thread is preempted, migrated, signalled or killed before that store, nothing has happened. Aborts are
 * counted by the callers and bounded: a section that is single-stepped would abort for ever.
 *
 * A thread without rseq has a cpu_id of -1 or -2; so has every thread of a libc without rseq (heap_cpu.c). In front
 * of CPU 0's area are two that stay zero: such threads find stacks without blocks and without room there, and the
 * fast paths need not ask. Every CPU that the machine can ever have has stacks.
 */
#ifndef DVSM_HEAP_CPU_H
#define DVSM_HEAP_CPU_H

#include "heap_types.h"

/* DVSM_RSEQ_, dvsm_cpu_pop(), dvsm_cpu_push(): programs may have them inline. */

/* What the kernel and the C library agree on; the kernel writes cpu_id, we write rseq_cs. */
struct dvsm_rseq {
	uint32_t cpu_id_start;
	uint32_t cpu_id;
	uint64_t rseq_cs;
};

/* Offset of the thread's area from the thread pointer; a heap's fast.area is that, or nowhere. */
extern long dvsm_rseq_offset __attribute__((visibility("hidden")));
long dvsm_rseq_init(void);
long dvsm_rseq_nowhere(void);

#if defined(__x86_64__)

/**
 * dvsm_cpu_move - copy blocks and replace a stack's head, if it is what it was.
 * @cpu: the CPU that the stack belongs to; on any other one nothing happens
 * @head: the stack's head
 *
 * Copies four at a time: up to DVSM_MOVE_EXTRA more than @nr, for which there is room on both sides.
 * Return: DONE; EMPTY if the head has changed or this is another CPU.
 */
static inline enum dvsm_cpu_answer
dvsm_cpu_move(_Atomic uint64_t *head, uint32_t cpu, long area, uint64_t old, uint64_t new,
	      uint64_t *to, const uint64_t *from, uint64_t nr)
{
	uint64_t scratch, index;

	asm volatile goto(DVSM_RSEQ_BEGIN("jmp %l[aborted]")
		 "cmpl %[cpu], %%fs:4(%[area])\n\t"
		 "jne %l[changed]\n\t"
		 "cmpq %[old], (%[head])\n\t"
		 "jne %l[changed]\n\t"
		 "xorl %k[index], %k[index]\n"
		 "5:\n\t"
		 "cmpq %[nr], %[index]\n\t"
		 "jae 6f\n\t"
		 "movdqu (%[from], %[index], 8), %%xmm0\n\t"
		 "movdqu 16(%[from], %[index], 8), %%xmm1\n\t"
		 "movdqu %%xmm0, (%[to], %[index], 8)\n\t"
		 "movdqu %%xmm1, 16(%[to], %[index], 8)\n\t"
		 "addq $4, %[index]\n\t"
		 "jmp 5b\n"
		 "6:\n\t"
		 "movq %[new], (%[head])\n"
		 DVSM_RSEQ_END
		 : [scratch] "=&r" (scratch), [index] "=&r" (index)
		 : [area] "r" (area), [cpu] "r" (cpu), [head] "r" (head), [old] "r" (old),
		   [new] "r" (new), [to] "r" (to), [from] "r" (from), [nr] "m" (nr)
		 : "memory", "cc", "xmm0", "xmm1" : aborted, changed);
	return DVSM_CPU_DONE;
changed:
	return DVSM_CPU_EMPTY;
aborted:
	return DVSM_CPU_ABORTED;
}

/* Whether a block is on the running CPU's stack: DONE if it is, EMPTY if not. */
static inline enum dvsm_cpu_answer dvsm_cpu_find(const char *stacks, long area, const void *block)
{
	uint64_t scratch, count;

	asm volatile goto(DVSM_RSEQ_BEGIN("jmp %l[aborted]")
		 DVSM_RSEQ_STACK
		 "movl (%[scratch]), %k[count]\n"
		 "5:\n\t"
		 "subl $1, %k[count]\n\t"
		 "jc 2f\n\t"
		 "cmpq %[block], 16(%[scratch], %[count], 8)\n\t"
		 "jne 5b\n\t"
		 "jmp %l[found]\n"
		 DVSM_RSEQ_END
		 : [scratch] "=&r" (scratch), [count] "=&r" (count)
		 : [area] "r" (area), [stacks] "r" (stacks), [block] "r" (block)
		 : "memory", "cc" : aborted, found);
	return DVSM_CPU_EMPTY;
found:
	return DVSM_CPU_DONE;
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
