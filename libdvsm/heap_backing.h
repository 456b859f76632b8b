/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making the memory of a heap. */
#ifndef DVSM_HEAP_BACKING_H
#define DVSM_HEAP_BACKING_H

#include "heap_types.h"

/*
 * How many chunks a private heap maps at a time, at least: their slabs are a page. Limits on address space, strict overcommit
 * and mlockall() count what is mapped.
 */
#define DVSM_BACKING_GROW	8U
#define DVSM_SLABS_OF_CHUNK	(DVSM_CHUNK_PAGES * sizeof(struct dvsm_slab))
#define DVSM_WORDS_OF_CHUNK	(DVSM_CHUNK_PAGES * DVSM_SLAB_WORDS * sizeof(struct dvsm_word))

/* heap_backing.c */
void *dvsm_backing_map(const struct dvsm_region *region, uint64_t size, void *address);
void *dvsm_backing_map_slot(const struct dvsm_region *region, uint64_t size, unsigned int seed);
void *dvsm_backing_map_anywhere(const struct dvsm_region *region, uint64_t size);
void dvsm_backing_shrink(const struct dvsm_heap *heap, uint32_t first, uint32_t end);
void dvsm_backing_advise(const struct dvsm_heap *heap);
bool dvsm_backing_has_file(const struct dvsm_heap *heap);

/* heap_create.c */
void dvsm_layout(struct dvsm_heap_header *header);
int dvsm_heap_view(struct dvsm_heap *heap, struct dvsm_heap_header *header,
		   struct dvsm_region *region);
void dvsm_heap_unview(const struct dvsm_heap *heap);
uint32_t dvsm_heap_nr_cpus(bool *known);
uint64_t dvsm_heap_reserve(bool grows);
uint64_t dvsm_heap_size_for(uint64_t reserve, const struct dvsm_heap_options *options);
int dvsm_heap_options_check(const struct dvsm_heap_options *options);
struct dvsm_heap *dvsm_heap_handle(void);
void dvsm_heap_forget(const struct dvsm_heap *heap);
int dvsm_heap_init(struct dvsm_heap *heap, struct dvsm_region *region,
		   const struct dvsm_heap_options *options);
extern struct dvsm_heap dvsm_default_heap __attribute__((visibility("hidden")));
extern uint32_t dvsm_default_flags __attribute__((visibility("hidden")));

#endif /* DVSM_HEAP_BACKING_H */
