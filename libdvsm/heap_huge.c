// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Blocks of whole chunks.
 *
 * Taking one is DVSM_OP_CHUNK; it is the program's when the lane is idle again. Giving one back is DVSM_OP_FREE.
 */
#include "heap_cpu.h"
#include "heap_huge.h"
#include "heap_slab.h"

static void dvsm_huge_body(const struct dvsm_heap *heap, uint32_t chunk, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		heap->chunks[chunk + i].kind = DVSM_CHUNK_BODY;
}

static void dvsm_huge_name(const struct dvsm_heap *heap, uint32_t chunk, uint32_t nr)
{
	dvsm_huge_body(heap, chunk + 1, nr - 1);
	heap->chunks[chunk].nr_chunks = nr;
	heap->chunks[chunk].kind = DVSM_CHUNK_HUGE;
	__atomic_store_n(&heap->classes[(uint64_t)chunk * DVSM_CHUNK_PAGES], DVSM_CLASS_HUGE,
			 __ATOMIC_RELEASE);
}

static uint64_t dvsm_huge_try(const struct dvsm_heap *heap, uint32_t nr, uint32_t align,
			      uint32_t node, uint64_t owner, bool *clean)
{
	struct dvsm_hold hold;
	uint64_t offset = 0;

	if (!dvsm_lane_acquire(heap, &hold))
		return 0;
	if (dvsm_chunks_take(&hold, nr, align, node, clean)) {
		offset = (uint64_t)hold.log->chunk << DVSM_HEAP_CHUNK_SHIFT;
		atomic_store(&heap->chunks[hold.log->chunk].owner, owner);
		dvsm_huge_name(heap, hold.log->chunk, nr);
		dvsm_lane_idle(&hold);
	}
	dvsm_lane_release(&hold);
	return offset;
}

/**
 * dvsm_huge_take - a block of whole chunks.
 * @alignment: a power of two
 * @node: -1 for the running CPU's
 * @owner: 0: nobody
 * @clean: receives whether it reads as zeroes
 *
 * Keeps errno. Return: its offset; 0 when there is no such room.
 */
uint64_t dvsm_huge_take(const struct dvsm_heap *heap, size_t size, size_t alignment, int node,
			uint64_t owner, bool *clean)
{
	int error = errno;
	uint64_t offset;
	uint32_t nr, align;

	if (size > heap->size || alignment > heap->size)
		return 0;
	nr = size ? (uint32_t)((size + DVSM_HEAP_CHUNK_SIZE - 1) >> DVSM_HEAP_CHUNK_SHIFT) : 1;
	align = alignment <= DVSM_HEAP_CHUNK_SIZE ? 1 : (uint32_t)(alignment >> DVSM_HEAP_CHUNK_SHIFT);
	if (node < 0)
		node = (int)dvsm_cpu_node(heap, dvsm_cpu_id(heap->fast.area));
	offset = dvsm_huge_try(heap, nr, align, (uint32_t)node, owner, clean);
	if (!offset) {
		/* What the dead have in their hands may be what is missing. */
		dvsm_lanes_recover(heap, false);
		offset = dvsm_huge_try(heap, nr, align, (uint32_t)node, owner, clean);
	}
	errno = error;
	return offset;
}

static bool dvsm_huge_is(const struct dvsm_heap *heap, uint64_t offset)
{
	return !(offset & (DVSM_HEAP_CHUNK_SIZE - 1)) &&
	       heap->chunks[offset >> DVSM_HEAP_CHUNK_SHIFT].kind == DVSM_CHUNK_HUGE;
}

/* The block that begins there; the lane is idle before and after. False: there is none, any more. */
bool dvsm_huge_put_held(struct dvsm_hold *hold, uint32_t chunk)
{
	hold->log->chunk = chunk;
	hold->log->nr = hold->heap->chunks[chunk].nr_chunks;
	if (!hold->log->nr)
		return false;
	dvsm_lane_begin(hold, DVSM_OP_FREE, 0);
	dvsm_chunks_free(hold);
	dvsm_chunks_shed(hold);
	return true;
}

void dvsm_huge_put(const struct dvsm_heap *heap, uint64_t offset)
{
	struct dvsm_hold hold;

	if (!dvsm_huge_is(heap, offset)) {
		dvsm_misuse(heap, DVSM_MISUSE_INVALID_POINTER, dvsm_heap_at(heap, offset));
		return;
	}
	dvsm_lane_wait(heap, &hold);
	if (!dvsm_huge_put_held(&hold, (uint32_t)(offset >> DVSM_HEAP_CHUNK_SHIFT)))
		dvsm_misuse(heap, DVSM_MISUSE_DOUBLE_FREE, dvsm_heap_at(heap, offset));
	dvsm_lane_release(&hold);
}

/* 0 for what is no such block. */
size_t dvsm_huge_size(const struct dvsm_heap *heap, uint64_t offset)
{
	if (!dvsm_huge_is(heap, offset)) {
		dvsm_misuse(heap, DVSM_MISUSE_INVALID_POINTER, dvsm_heap_at(heap, offset));
		return 0;
	}
	return (size_t)heap->chunks[offset >> DVSM_HEAP_CHUNK_SHIFT].nr_chunks
	       << DVSM_HEAP_CHUNK_SHIFT;
}

/* Shrinks in place; grows in place where the chunks behind are free. */
bool dvsm_huge_resize(const struct dvsm_heap *heap, uint64_t offset, size_t size)
{
	uint32_t chunk = (uint32_t)(offset >> DVSM_HEAP_CHUNK_SHIFT);
	uint32_t old = heap->chunks[chunk].nr_chunks, nr;
	struct dvsm_hold hold;
	bool done = true;

	if (size > heap->size)
		return false;
	nr = (uint32_t)((size + DVSM_HEAP_CHUNK_SIZE - 1) >> DVSM_HEAP_CHUNK_SHIFT);
	if (nr == old)
		return true;
	if (!dvsm_lane_acquire(heap, &hold))
		return false;
	if (nr < old) {
		/* Its own chunks no more, then free: who dies between the two has lost them. So log first. */
		hold.log->chunk = chunk + nr;
		hold.log->nr = old - nr;
		dvsm_lane_begin(&hold, DVSM_OP_FREE, 0);
		heap->chunks[chunk].nr_chunks = nr;
		dvsm_chunks_free(&hold);
	} else {
		done = dvsm_chunks_take_at(&hold, chunk + old, nr - old);
		if (done) {
			dvsm_huge_body(heap, chunk + old, nr - old);
			heap->chunks[chunk].nr_chunks = nr;
			dvsm_lane_idle(&hold);
		}
	}
	dvsm_lane_release(&hold);
	return done;
}
