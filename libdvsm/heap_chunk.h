/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chunks, and the pages of open ones. */
#ifndef DVSM_HEAP_CHUNK_H
#define DVSM_HEAP_CHUNK_H

#include "heap_lane.h"

#define DVSM_PAGES_ALL	0xffffffffULL

static inline _Atomic uint64_t *dvsm_hint_word(const struct dvsm_heap *heap, uint32_t chunk,
					       uint32_t hint)
{
	return &heap->hints[(uint64_t)(chunk / 64) * DVSM_HINTS + hint];
}

static inline void dvsm_hint_set(const struct dvsm_heap *heap, uint32_t chunk, uint32_t hint)
{
	_Atomic uint64_t *word = dvsm_hint_word(heap, chunk, hint);
	uint64_t bit = 1ULL << chunk % 64;

	if (!(atomic_load(word) & bit))
		atomic_fetch_or(word, bit);
}

static inline void dvsm_hint_clear(const struct dvsm_heap *heap, uint32_t chunk, uint32_t hint)
{
	atomic_fetch_and(dvsm_hint_word(heap, chunk, hint), ~(1ULL << chunk % 64));
}

/*
 * Hints of chunks that were never used come from a damaged heap. To be asked after the hint was read: a chunk is counted as
 * used before it gets one.
 */
static inline bool dvsm_chunk_is_used(const struct dvsm_heap *heap, uint32_t chunk)
{
	return chunk < atomic_load(&heap->header->high_chunk);
}

/* heap_chunk.c */
bool dvsm_chunks_take(struct dvsm_hold *hold, uint32_t nr, uint32_t align, uint32_t node,
		      bool *clean);
bool dvsm_chunks_take_at(struct dvsm_hold *hold, uint32_t chunk, uint32_t nr);
void dvsm_chunks_free(struct dvsm_hold *hold);
void dvsm_chunk_open(struct dvsm_hold *hold);
bool dvsm_chunk_close(struct dvsm_hold *hold, uint32_t chunk);
void dvsm_chunks_shed(struct dvsm_hold *hold);
void dvsm_chunks_count(const struct dvsm_heap *heap);
size_t dvsm_chunks_discard(struct dvsm_hold *hold, size_t keep);
uint64_t dvsm_map_valid(const struct dvsm_heap *heap, uint32_t word);
uint64_t dvsm_map_bits(const struct dvsm_heap *heap, uint32_t word);

/* heap_page.c */
void dvsm_pages_settle(const struct dvsm_heap *heap, uint32_t chunk);
bool dvsm_pages_take(struct dvsm_hold *hold, uint32_t nr, uint32_t node, uint32_t *page);
void dvsm_pages_put(struct dvsm_hold *hold);

/* heap_misuse.c */
enum dvsm_misuse {
	DVSM_MISUSE_DOUBLE_FREE,
	DVSM_MISUSE_INVALID_POINTER,
};

void dvsm_misuse(const struct dvsm_heap *heap, enum dvsm_misuse what, const void *address);

/* heap_backing.c */
bool dvsm_backing_grow(const struct dvsm_heap *heap, uint32_t first, uint32_t end);
bool dvsm_backing_can_discard(const struct dvsm_heap *heap);
int dvsm_backing_discard(const struct dvsm_heap *heap, uint64_t offset, uint64_t length);
void dvsm_backing_bind(const struct dvsm_heap *heap, uint64_t offset, uint64_t length,
		       uint32_t node);

#endif /* DVSM_HEAP_CHUNK_H */
