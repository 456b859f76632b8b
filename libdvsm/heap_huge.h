/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Blocks of whole chunks. */
#ifndef DVSM_HEAP_HUGE_H
#define DVSM_HEAP_HUGE_H

#include "heap_chunk.h"

/* heap_huge.c */
uint64_t dvsm_huge_take(const struct dvsm_heap *heap, size_t size, size_t alignment, int node,
			uint64_t owner, bool *clean);
void dvsm_huge_put(const struct dvsm_heap *heap, uint64_t offset);
bool dvsm_huge_put_held(struct dvsm_hold *hold, uint32_t chunk);
size_t dvsm_huge_size(const struct dvsm_heap *heap, uint64_t offset);
bool dvsm_huge_resize(const struct dvsm_heap *heap, uint64_t offset, size_t size);

#endif /* DVSM_HEAP_HUGE_H */
