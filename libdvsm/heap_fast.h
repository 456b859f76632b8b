/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The paths that nearly every malloc and free take. heap_malloc.c has the others. */
#ifndef DVSM_HEAP_FAST_H
#define DVSM_HEAP_FAST_H

#include "heap_class.h"
#include "heap_cpu.h"
#include "heap_slab.h"

#define dvsm_likely(x)		__builtin_expect(!!(x), 1)
#define dvsm_unlikely(x)	__builtin_expect(!!(x), 0)

/* heap_malloc.c */
void *dvsm_malloc_slow(const struct dvsm_heap *heap, size_t size);
void *dvsm_malloc_large(const struct dvsm_heap *heap, size_t size);
void dvsm_free_slow(const struct dvsm_heap *heap, uint64_t offset);

static inline const void *dvsm_stacks(const struct dvsm_heap *heap, uint64_t stack)
{
	uint64_t stride = DVSM_STACK_STRIDE;

	/* One multiplication, not shifts and sums. */
	asm("" : "+r" (stride));
	return heap->stacks + stack * stride;
}

static inline __attribute__((always_inline)) void *
dvsm_malloc_stack(const struct dvsm_heap *heap, size_t size, const void *stacks)
{
	void *block;

	if (dvsm_likely(dvsm_cpu_pop(stacks, dvsm_rseq_offset, &block) == DVSM_CPU_DONE))
		return block;
	return dvsm_malloc_slow(heap, size);
}

/* Sizes up to DVSM_SMALL_MAX. */
static inline __attribute__((always_inline)) void *
dvsm_malloc_small(const struct dvsm_heap *heap, size_t size)
{
	return dvsm_malloc_stack(heap, size, heap->stacks + dvsm_stack_small[(size + 15) / 16]);
}

static inline __attribute__((always_inline)) void
dvsm_free_fast(const struct dvsm_heap *heap, const void *address)
{
	uint64_t offset = dvsm_heap_offset_of(heap, address);
	uint64_t class;

	if (dvsm_unlikely(offset >= heap->size))
		goto slow;
	class = heap->fast[offset >> DVSM_HEAP_PAGE_SHIFT];
	if (dvsm_likely(dvsm_cpu_push(dvsm_stacks(heap, class), dvsm_rseq_offset, address) == DVSM_CPU_DONE))
		return;
slow:
	dvsm_free_slow(heap, offset);
}

#endif /* DVSM_HEAP_FAST_H */
