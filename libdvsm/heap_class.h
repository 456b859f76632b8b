/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Size classes: 16 to 128 by 16, then eight to each doubling, so at most 12.5 % apart.
 */
#ifndef DVSM_HEAP_CLASS_H
#define DVSM_HEAP_CLASS_H

#include "heap_types.h"

/* Class of a size up to DVSM_SMALL_MAX, by (size + 15) / 16. */
extern const uint8_t dvsm_class_small[DVSM_SMALL_MAX / 16 + 1];

/* Size of the largest class. */
#define DVSM_CLASS_SIZE_MAX	(15UL << 17)

/* For sizes from 1 to DVSM_CLASS_SIZE_MAX. */
static inline uint32_t dvsm_class_of_large(size_t size)
{
	uint32_t log2 = 63 - (uint32_t)__builtin_clzl(size - 1);

	return (log2 - 7) * 8 + (uint32_t)((size - 1) >> (log2 - 3)) + 1;
}

static inline uint32_t dvsm_class_of(size_t size)
{
	if (size <= DVSM_SMALL_MAX)
		return dvsm_class_small[(size + 15) / 16];
	return dvsm_class_of_large(size);
}

size_t dvsm_class_size(uint32_t class);
void dvsm_classes_init(struct dvsm_class *class);
void dvsm_stacks_place(const struct dvsm_class *class, const char *area, const char **stack);

/* The block of a slab that an offset from the slab's start is in. */
static inline uint32_t dvsm_class_block(const struct dvsm_class *class, uint32_t offset)
{
	return (uint32_t)(offset * class->reciprocal >> 42);
}

static inline uint32_t dvsm_class_words(const struct dvsm_class *class)
{
	return (class->nr_blocks + 63U) / 64;
}

/* The bits that word has when every block of it is free. */
static inline uint64_t dvsm_class_full(const struct dvsm_class *class, uint32_t word)
{
	uint32_t rest = class->nr_blocks - word * 64;

	return rest >= 64 ? ~0ULL : (1ULL << rest) - 1;
}

#endif /* DVSM_HEAP_CLASS_H */
