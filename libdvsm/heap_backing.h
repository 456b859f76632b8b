/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making the memory of a heap. */
#ifndef DVSM_HEAP_BACKING_H
#define DVSM_HEAP_BACKING_H

#include "heap_types.h"

/* heap_backing.c */
void *dvsm_backing_map(const struct dvsm_region *region, uint64_t size, void *address);
void *dvsm_backing_map_anywhere(const struct dvsm_region *region, uint64_t size, unsigned int seed);
void dvsm_backing_advise(const struct dvsm_heap *heap);

/* heap_create.c */
int dvsm_heap_init(struct dvsm_heap *heap, struct dvsm_region *region,
		   const struct dvsm_heap_options *options);
extern struct dvsm_heap dvsm_default_heap __attribute__((visibility("hidden")));
extern uint32_t dvsm_default_flags __attribute__((visibility("hidden")));

#endif /* DVSM_HEAP_BACKING_H */
