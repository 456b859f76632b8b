/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dvsm_malloc() and dvsm_free() without a call, for programs that count cycles: include this in place of
 * <dvsm/heap.h>. A block that the running CPU has ready is taken, or put back, by a dozen instructions in the caller;
 * for everything else they call the library.
 *
 * A program that is compiled with this header works with libraries that export dvsm_heap_fast_1, whatever else
 * changes in them; it is tied to them by that symbol.
 *
 * The kernel may look at the descriptor of a restartable sequence after a thread has left it. So code that can be
 * unmapped must not have any: position-independent code that is no program's (-fPIC) gets the calls, and so does
 * what no compiler of ours is known to compile (not x86-64, GCC before 11, clang before 14).
 */
#ifndef DVSM_HEAP_INLINE_H
#define DVSM_HEAP_INLINE_H

#include <dvsm/heap.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DVSM_HEAP_FAST_MAX	1024

/**
 * struct dvsm_heap_fast - what the fast paths read of a heap. It changes when the heap is made, and @size once more.
 *
 * @base: the heap's address; 0: there is none yet
 * @size: its length; 0 as long as no free may take the fast path. Read it before what else it lets be used
 * @classes: for each 64 KiB of it what is there: an index for @stack
 * @area: from the thread pointer to the thread's rseq area
 * @limit: sizes below it may use @small; 0: there is no heap yet. Read it first, too
 * @small: CPU 0's stack for blocks of a size, by (size + 15) / 16
 * @stack: CPU 0's stacks
 */
struct dvsm_heap_fast {
	uintptr_t base;
	uint64_t size;
	const uint8_t *classes;
	long area;
	size_t limit;
	const char *small[DVSM_HEAP_FAST_MAX / 16 + 1];
	const char *stack[256];
};

/** dvsm_heap_fast_1 - that of the default heap. The number grows when what is said here changes. */
extern DVSM_API const struct dvsm_heap_fast *const dvsm_heap_fast_1;

enum dvsm_cpu_answer {
	DVSM_CPU_DONE,
	DVSM_CPU_EMPTY,		/* pop: no block; push: no room; either: no rseq */
	DVSM_CPU_ABORTED,
};

#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 14 : __GNUC__ >= 11)

/*
 * %[area] is the thread's area as an offset from %fs; @abort, instructions, ends with a jump. Both sections are of the
 * function's group ("?"): of an inline function of C++ the linker keeps one copy, and what belongs to it.
 */
#define DVSM_RSEQ_BEGIN(abort)						\
	".pushsection __rseq_cs, \"aw?\"\n\t"				\
	".balign 32\n"							\
	"3:\n\t"							\
	".long 0, 0\n\t"						\
	".quad 1f, 2f - 1f, 4f\n\t"					\
	".popsection\n\t"						\
	".pushsection .text.dvsm_rseq_abort, \"ax?\"\n\t"		\
	".byte 0x0f, 0xb9, 0x3d\n\t"					\
	".long 0x53053053\n"						\
	"4:\n\t"							\
	abort "\n\t"							\
	".popsection\n\t"						\
	"leaq 3b(%%rip), %[scratch]\n\t"				\
	"movq %[scratch], %%fs:8(%[area])\n"				\
	"1:\n\t"

#define DVSM_RSEQ_END	"2:\n\t"

/* Each CPU's area is half a mebibyte. A thread without rseq is on CPU -1 or -2, where stacks are empty and full. */
#define DVSM_RSEQ_STACK							\
	"movslq %%fs:4(%[area]), %[scratch]\n\t"			\
	"shlq $19, %[scratch]\n\t"					\
	"addq %[stacks], %[scratch]\n\t"

/**
 * dvsm_cpu_pop - take the top block of the running CPU's stack.
 * @stacks: CPU 0's stack of that class
 * @area: as in struct dvsm_heap_fast
 * @block: receives the block's address
 *
 * The head's count is written alone: the tag stays. Not an "asm goto": GCC before 11.5, 12.4 and 13.3 miscompiles those
 * with outputs (its bug 113921). Carry says that there is none, and then the count why: 0 after an abort.
 */
static __inline__ __attribute__((__always_inline__)) enum dvsm_cpu_answer
dvsm_cpu_pop(const char *stacks, long area, void **block)
{
	uint64_t scratch, count;
	void *top;
	int none;

	__asm__ volatile(DVSM_RSEQ_BEGIN("xorl %k[count], %k[count]\n\tstc\n\tjmp 2f")
		 DVSM_RSEQ_STACK
		 "movl (%[scratch]), %k[count]\n\t"
		 "subl $1, %k[count]\n\t"
		 "jc 2f\n\t"
		 "movq 16(%[scratch], %[count], 8), %[top]\n\t"
		 "movl %k[count], (%[scratch])\n"
		 DVSM_RSEQ_END
		 : [scratch] "=&r" (scratch), [count] "=&r" (count), [top] "=&a" (top), "=@ccc" (none)
		 : [area] "r" (area), [stacks] "rm" (stacks)
		 : "memory");
	if (__builtin_expect(none, 0))
		return count ? DVSM_CPU_EMPTY : DVSM_CPU_ABORTED;
	*block = top;
	return DVSM_CPU_DONE;
}

/**
 * dvsm_cpu_push - put a block on the running CPU's stack.
 *
 * A block that is on top already is being freed twice: that counts as no room, and the slow path looks closer.
 * (With a count of 0 the comparison is with the capacity, which is no block's address.)
 */
static __inline__ __attribute__((__always_inline__)) enum dvsm_cpu_answer
dvsm_cpu_push(const char *stacks, long area, const void *block)
{
	uint64_t scratch, count;

	__asm__ volatile goto(DVSM_RSEQ_BEGIN("jmp %l[aborted]")
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
		 : [area] "r" (area), [stacks] "r" (stacks), [block] "r" (block)
		 : "memory", "cc" : aborted, full);
	return DVSM_CPU_DONE;
full:
	return DVSM_CPU_EMPTY;
aborted:
	return DVSM_CPU_ABORTED;
}

#if !defined(__PIC__) || defined(__PIE__)

static __inline__ DVSM_MALLOC DVSM_SIZED(1) void *dvsm_malloc_inline(size_t size)
{
	const struct dvsm_heap_fast *fast = dvsm_heap_fast_1;
	void *block;

	/* fast->limit says so, too, but no compiler knows. */
	if (__builtin_constant_p(size) && size > DVSM_HEAP_FAST_MAX)
		return dvsm_malloc(size);
	if (__builtin_expect(size < __atomic_load_n(&fast->limit, __ATOMIC_ACQUIRE) &&
			     dvsm_cpu_pop(fast->small[(size + 15) / 16], fast->area, &block) ==
			     DVSM_CPU_DONE, 1))
		return block;
	return dvsm_malloc(size);
}

static __inline__ void dvsm_free_inline(void *address)
{
	const struct dvsm_heap_fast *fast = dvsm_heap_fast_1;
	uint64_t size = __atomic_load_n(&fast->size, __ATOMIC_ACQUIRE);
	uint64_t offset = (uintptr_t)address - fast->base;

	if (__builtin_expect(offset >= size ||
			     dvsm_cpu_push(fast->stack[fast->classes[offset >> 16]], fast->area,
					   address) != DVSM_CPU_DONE, 0))
		dvsm_free(address);
}

#define dvsm_malloc(size)	dvsm_malloc_inline(size)
#define dvsm_free(address)	dvsm_free_inline(address)

#endif
#endif

#ifdef __cplusplus
}
#endif

#endif /* DVSM_HEAP_INLINE_H */
