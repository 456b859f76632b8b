// SPDX-License-Identifier: LGPL-2.1-or-later
/* Size classes: their sizes, and how many pages a slab of each has. */
#include "heap_class.h"

/* To 128 and to 256 by 16, to 512 by 32, to 1024 by 64. */
#define ONE(n)	n
#define TWO(n)	n, n
#define FOUR(n)	TWO(n), TWO(n)
#define EIGHT(x, n) x(n), x(n + 1), x(n + 2), x(n + 3), x(n + 4), x(n + 5), x(n + 6), x(n + 7)

const uint8_t dvsm_class_small[DVSM_SMALL_MAX / 16 + 1] = {
	1, EIGHT(ONE, 1), EIGHT(ONE, 9), EIGHT(TWO, 17), EIGHT(FOUR, 25)
};

size_t dvsm_class_size(uint32_t class)
{
	uint32_t doubling;

	if (class <= 8)
		return class * 16UL;
	doubling = (class - 9) / 8;
	return (9UL + (class - 9) % 8) << (doubling + 4);
}

/* The shortest run of pages that wastes at most a sixteenth and holds eight blocks, or the best there is. */
static uint32_t dvsm_class_pages(size_t size)
{
	uint32_t nr_pages, best = 0;
	size_t length, waste, best_waste = ~0UL;

	for (nr_pages = (uint32_t)((size + DVSM_HEAP_PAGE_SIZE - 1) >> DVSM_HEAP_PAGE_SHIFT);
	     nr_pages <= 8 || !best; nr_pages++) {
		length = (size_t)nr_pages << DVSM_HEAP_PAGE_SHIFT;
		waste = length % size;
		if (waste <= length / 16 && (length / size >= 4 || size > DVSM_HEAP_PAGE_SIZE))
			return nr_pages;
		if (waste * 16 / nr_pages < best_waste) {
			best_waste = waste * 16 / nr_pages;
			best = nr_pages;
		}
	}
	return best;
}

/* 256 KiB of blocks, at least 8. */
static uint32_t dvsm_class_capacity(size_t size)
{
	size_t capacity = (256UL << 10) / size;

	return capacity > DVSM_STACK_SLOTS ? DVSM_STACK_SLOTS : capacity < 8 ? 8 : (uint32_t)capacity;
}

void dvsm_classes_init(struct dvsm_class *class)
{
	uint32_t number;
	size_t size;

	for (number = 1; number <= DVSM_CLASS_LAST; number++) {
		size = dvsm_class_size(number);
		class[number].size = (uint32_t)size;
		class[number].nr_pages = dvsm_class_pages(size) & 63;
		class[number].nr_blocks = (uint32_t)(((size_t)class[number].nr_pages <<
						      DVSM_HEAP_PAGE_SHIFT) / size) & 8191;
		class[number].capacity = number <= DVSM_CLASS_CACHED ?
						 dvsm_class_capacity(size) & 8191 : 0;
		class[number].reciprocal = ((1ULL << 42) + size - 1) / size;
	}
}

/*
 * Where the stacks of a CPU's area begin. An odd number of lines each, so that equal parts do not meet in the cache.
 * Numbers without a stack get the one of capacity 0 that comes first.
 */
void dvsm_stacks_place(const struct dvsm_class *class, const char *area, const char **stack)
{
	const char *next = area + offsetof(struct dvsm_cpu, stacks) + 64;
	uint32_t index, slots;

	for (index = 0; index < 256; index++)
		stack[index] = area + offsetof(struct dvsm_cpu, stacks);
	for (dvsm_each_stack(index)) {
		slots = DVSM_MOVE_EXTRA;
		slots += index == DVSM_STACK_REMOTE ? DVSM_BATCH : class[index].capacity;
		stack[index] = next;
		next += (offsetof(struct dvsm_stack, blocks) + slots * sizeof(uint64_t) + 63) / 64 * 64;
		next += (next - stack[index]) % 128 ? 0 : 64;
	}
}
