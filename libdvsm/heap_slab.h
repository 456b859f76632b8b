/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Slabs: blocks between the CPUs' stacks and the chunks. */
#ifndef DVSM_HEAP_SLAB_H
#define DVSM_HEAP_SLAB_H

#include "heap_chunk.h"
#include "heap_class.h"

/* Where a block's bit is. */
struct dvsm_place {
	uint32_t page;			/* first one of the slab */
	uint32_t class;
	uint32_t block;
};

/* heap_slab.c */
bool dvsm_slab_place(const struct dvsm_heap *heap, uint64_t offset, struct dvsm_place *place);
void dvsm_slab_settle(const struct dvsm_heap *heap, uint32_t page);
void dvsm_slab_avail(const struct dvsm_heap *heap, uint32_t page, uint32_t class);
void dvsm_slabs_settle(const struct dvsm_heap *heap, uint32_t chunk);
uint64_t dvsm_slab_take(struct dvsm_hold *hold, uint32_t page, uint32_t class, uint32_t nr,
			_Atomic uint8_t *next);
uint64_t dvsm_slab_base(const struct dvsm_heap *heap, uint64_t word, uint32_t *page);
bool dvsm_slab_find(struct dvsm_hold *hold, uint32_t class, uint32_t node, uint32_t *page);
bool dvsm_slab_make(struct dvsm_hold *hold, uint32_t class, uint32_t node, uint32_t *page);
void dvsm_slab_fill(struct dvsm_hold *hold);
void dvsm_slab_emptied(struct dvsm_hold *hold, uint32_t page, uint32_t class, uint64_t owner);
void dvsm_slab_put(struct dvsm_hold *hold);
void dvsm_slab_give_spare(struct dvsm_hold *hold, uint32_t class);
void dvsm_slabs_trim(struct dvsm_hold *hold);

/* heap_refill.c */
uint64_t dvsm_refill(const struct dvsm_heap *heap, uint32_t class, int node, bool stacks,
		     uint64_t owner);
void dvsm_flush(const struct dvsm_heap *heap, uint32_t stack, uint64_t offset);
void dvsm_groups_make(struct dvsm_hold *hold);
void dvsm_groups_put(struct dvsm_hold *hold);
uint32_t dvsm_cpu_node(const struct dvsm_heap *heap, uint32_t cpu);
size_t dvsm_cpu_drain(const struct dvsm_heap *heap);

/* heap_owner.c */
bool dvsm_owners_begin(const struct dvsm_heap *heap, struct dvsm_hold *hold);
void dvsm_owners_end(struct dvsm_hold *hold);
size_t dvsm_owner_free(struct dvsm_hold *hold, uint64_t owner);

#endif /* DVSM_HEAP_SLAB_H */
