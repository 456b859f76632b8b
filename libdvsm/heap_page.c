// SPDX-License-Identifier: LGPL-2.1-or-later
/* Pages: the 32 pieces of an open chunk, given out in runs. */
#include "heap_chunk.h"

/* Bits where a run of nr set bits begins. A chunk has no more pages than these, whatever else is set in a damaged heap. */
static uint64_t dvsm_runs(uint64_t bits, uint32_t nr)
{
	uint32_t have = 1, step;

	bits &= DVSM_PAGES_ALL;
	while (have < nr) {
		step = nr - have < have ? nr - have : have;
		bits &= bits >> step;
		have += step;
	}
	return bits;
}

/* Sets the hints that a chunk's free pages call for. */
void dvsm_pages_settle(const struct dvsm_heap *heap, uint32_t chunk)
{
	uint64_t bits = dvsm_word_read(&heap->chunks[chunk].pages).bits;
	uint32_t run;

	for (run = 0; run < DVSM_HINT_RUNS; run++)
		if (dvsm_runs(bits, 1U << run))
			dvsm_hint_set(heap, chunk, DVSM_HINT_RUN + run);
}

/* A step on one chunk. True: log.mask of log.word is in hand. */
static bool dvsm_pages_try_take(struct dvsm_hold *hold, uint32_t chunk, uint32_t nr)
{
	struct dvsm_word *word = &hold->heap->chunks[chunk].pages;
	struct dvsm_word old = dvsm_word_read(word);
	uint64_t starts;

	hold->log->word = dvsm_heap_offset_of(hold->heap, word);
	while ((starts = dvsm_runs(old.bits, nr)) != 0) {
		hold->log->mask = ((1ULL << nr) - 1) << __builtin_ctzll(starts);
		dvsm_lane_begin(hold, DVSM_OP_PAGES, 0);
		if (dvsm_word_step(hold, word, &old, old.bits & ~hold->log->mask))
			return true;
		dvsm_lane_idle(hold);
	}
	return false;
}

/**
 * dvsm_pages_take - take a run of pages of an open chunk on a node.
 * @page: receives the first one's number
 *
 * The lane is idle before. Return: true with the state at PAGES, done; false when no open chunk has such a run.
 */
bool dvsm_pages_take(struct dvsm_hold *hold, uint32_t nr, uint32_t node, uint32_t *page)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t run = 31 - (uint32_t)__builtin_clz(nr);
	uint32_t word, last = (atomic_load(&heap->header->high_chunk) + 63) / 64;
	uint32_t hint = DVSM_HINT_RUN + run, chunk;
	uint64_t bits;

	for (word = heap->header->first_chunk / 64; word < last; word++) {
		bits = atomic_load(dvsm_hint_word(heap, word * 64, hint));
		for (; bits; bits &= bits - 1) {
			chunk = word * 64 + (uint32_t)__builtin_ctzll(bits);
			if (!dvsm_chunk_is_used(heap, chunk))
				break;
			if (heap->nr_nodes > 1 && heap->chunks[chunk].node != node)
				continue;
			if (dvsm_pages_try_take(hold, chunk, nr)) {
				*page = chunk * DVSM_CHUNK_PAGES +
					(uint32_t)__builtin_ctzll(hold->log->mask);
				return true;
			}
			if (dvsm_runs(dvsm_word_read(&heap->chunks[chunk].pages).bits, 1U << run))
				continue;
			/* Clear, then look again: who frees pages sets bits, then looks at the hint. */
			hold->log->settle[0] = chunk + 1;
			dvsm_hint_clear(heap, chunk, hint);
			dvsm_pages_settle(heap, chunk);
			hold->log->settle[0] = 0;
		}
	}
	return false;
}

/* An open chunk that became empty stays, if it is the only one. */
static void dvsm_pages_spare(struct dvsm_hold *hold, uint32_t chunk)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t spare = atomic_load(&heap->header->spare_chunk);

	if (spare && spare != chunk + 1 &&
	    heap->chunks[spare - 1].kind == DVSM_CHUNK_OPEN &&
	    dvsm_word_read(&heap->chunks[spare - 1].pages).bits == DVSM_PAGES_ALL)
		dvsm_chunk_close(hold, chunk);
	else
		atomic_store(&heap->header->spare_chunk, chunk + 1);
}

/* The rest of DVSM_OP_UNPAGE: log.mask of log.word become free pages; leaves the lane idle. */
void dvsm_pages_put(struct dvsm_hold *hold)
{
	const struct dvsm_heap *heap = hold->heap;
	struct dvsm_heap_chunk *owner = (struct dvsm_heap_chunk *)dvsm_heap_at(heap, hold->log->word);
	uint32_t chunk = (uint32_t)(owner - heap->chunks), page;
	uint64_t mask, bits = 0, twice;

	if (!hold->resumed || !dvsm_lane_done(hold)) {
		for (mask = hold->log->mask; mask; mask &= mask - 1) {
			page = chunk * DVSM_CHUNK_PAGES + (uint32_t)__builtin_ctzll(mask);
			__atomic_store_n(&heap->classes[page], DVSM_CLASS_NONE, __ATOMIC_RELEASE);
			heap->slabs[page].class = DVSM_CLASS_NONE;
		}
		dvsm_lane_begin(hold, DVSM_OP_UNPAGE, 0);
		bits = dvsm_word_put(hold, &owner->pages, hold->log->mask, &twice);
	}
	dvsm_pages_settle(heap, chunk);
	dvsm_lane_idle(hold);
	if (bits == DVSM_PAGES_ALL)
		dvsm_pages_spare(hold, chunk);
}
