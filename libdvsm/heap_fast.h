/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The paths that nearly every malloc and free take. heap_malloc.c has the others. */
#ifndef DVSM_HEAP_FAST_H
#define DVSM_HEAP_FAST_H

#include "heap_class.h"
#include "heap_cpu.h"
#include "heap_slab.h"

/* Functions that are little more than a fast path: where they begin must not be luck. */
#define DVSM_HOT		__attribute__((hot, aligned(64)))

#define dvsm_likely(x)		__builtin_expect(!!(x), 1)
#define dvsm_unlikely(x)	__builtin_expect(!!(x), 0)

/* heap_malloc.c */
void *dvsm_malloc_slow(size_t size, const struct dvsm_heap *heap);
void *dvsm_malloc_large(size_t size, const struct dvsm_heap *heap);
void dvsm_free_slow(const void *address, struct dvsm_heap *heap);

static inline __attribute__((always_inline)) void *
dvsm_malloc_stack(const struct dvsm_heap *heap, size_t size, const char *stacks)
{
	void *block;

	if (dvsm_likely(dvsm_cpu_pop(stacks, heap->fast.area, &block) == DVSM_CPU_DONE))
		return block;
	return dvsm_malloc_slow(size, heap);
}

/* Sizes up to DVSM_SMALL_MAX. */
static inline __attribute__((always_inline)) void *
dvsm_malloc_small(const struct dvsm_heap *heap, size_t size)
{
	return dvsm_malloc_stack(heap, size, heap->fast.small[(size + 15) / 16]);
}

static inline __attribute__((always_inline)) void
dvsm_free_fast(struct dvsm_heap *heap, const void *address)
{
	uint64_t size = __atomic_load_n(&heap->fast.size, __ATOMIC_ACQUIRE);
	uint64_t offset = (uintptr_t)address - heap->fast.base;

	if (dvsm_likely(offset < size) &&
	    dvsm_likely(dvsm_cpu_push(heap->fast.stack[heap->fast.classes[offset >> DVSM_HEAP_PAGE_SHIFT]],
				      heap->fast.area, address) == DVSM_CPU_DONE))
		return;
	dvsm_free_slow(address, heap);
}

#endif /* DVSM_HEAP_FAST_H */
