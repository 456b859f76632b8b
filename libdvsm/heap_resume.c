// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Going on where a dead holder stopped.
 *
 * One case for each operation: was its step done, and what is in hand then? From there the ordinary
 * functions take over, so a death during recovery is a death like any other.
 */
#include "heap_slab.h"

static void dvsm_resume_pages(struct dvsm_hold *hold)
{
	/* In PAGES the taking is done; giving back is a step of its own and has not begun. */
	hold->resumed = false;
	dvsm_pages_put(hold);
	hold->resumed = true;
}

static void dvsm_resume_drain(struct dvsm_hold *hold, uint32_t word)
{
	const struct dvsm_class *class = dvsm_heap_class(hold->heap, hold->log->stack);

	if (!dvsm_lane_done(hold))
		word++;
	if (word < dvsm_class_words(class)) {
		dvsm_lane_begin(hold, DVSM_OP_FILL, word);
		dvsm_slab_fill(hold);
	}
}

/* The end of a huge block that was being resized: the block ends before it. */
static void dvsm_resume_cut(const struct dvsm_heap *heap, uint32_t chunk)
{
	uint32_t first = chunk;

	if (heap->chunks[chunk].kind != DVSM_CHUNK_BODY)
		return;
	while (first > heap->header->first_chunk && heap->chunks[first].kind == DVSM_CHUNK_BODY)
		first--;
	if (heap->chunks[first].kind == DVSM_CHUNK_HUGE &&
	    first + heap->chunks[first].nr_chunks > chunk)
		heap->chunks[first].nr_chunks = chunk - first;
}

static void dvsm_resume_chunk(struct dvsm_hold *hold, uint32_t word)
{
	const struct dvsm_log *log = hold->log;

	if (!dvsm_lane_done(hold))
		word++;
	if (word <= (log->chunk + log->nr - 1) / 64 - log->chunk / 64) {
		/* Before the last step of the taking the first chunk is not in hand, nor is it named. */
		if (!word)
			dvsm_resume_cut(hold->heap, log->chunk);
		dvsm_lane_begin(hold, DVSM_OP_FREE, word);
		dvsm_chunks_free(hold);
	}
}

/* How much memory may be kept goes by the counters. Who is idle may have died here, before he had counted. */
static bool dvsm_resume_counts(uint32_t op)
{
	return op == DVSM_OP_CHUNK || op == DVSM_OP_CLOSE || op == DVSM_OP_FREE || op == DVSM_OP_IDLE;
}

/* Leaves the lane idle and nothing in its hands. */
void dvsm_lane_resume(struct dvsm_hold *hold)
{
	uint64_t state = dvsm_lane_state(hold);
	uint32_t i;

	switch (dvsm_state_op(state)) {
	case DVSM_OP_IDLE:
		break;
	case DVSM_OP_TAKE:
		if (!dvsm_lane_done(hold) || !hold->log->mask)
			break;
		hold->resumed = false;
		dvsm_slab_put(hold);
		hold->resumed = true;
		break;
	case DVSM_OP_PUSH:
		if (dvsm_lane_done(hold))
			break;
		hold->resumed = false;
		dvsm_slab_put(hold);
		hold->resumed = true;
		break;
	case DVSM_OP_PUT:
		dvsm_slab_put(hold);
		break;
	case DVSM_OP_POP:
		if (!dvsm_lane_done(hold))
			break;
		dvsm_groups_make(hold);
		dvsm_lane_begin(hold, DVSM_OP_GROUP, 0);
		dvsm_groups_put(hold);
		break;
	case DVSM_OP_GROUP:
		dvsm_groups_put(hold);
		break;
	case DVSM_OP_PAGES:
		if (dvsm_lane_done(hold))
			dvsm_resume_pages(hold);
		break;
	case DVSM_OP_FILL:
		dvsm_slab_fill(hold);
		break;
	case DVSM_OP_DRAIN:
		dvsm_resume_drain(hold, dvsm_state_cursor(state));
		break;
	case DVSM_OP_UNPAGE:
		dvsm_pages_put(hold);
		break;
	case DVSM_OP_CHUNK:
		dvsm_resume_chunk(hold, dvsm_state_cursor(state));
		break;
	case DVSM_OP_OPEN:
		dvsm_chunk_open(hold);
		break;
	case DVSM_OP_CLOSE:
		if (dvsm_lane_done(hold)) {
			dvsm_lane_begin(hold, DVSM_OP_FREE, 0);
			dvsm_chunks_free(hold);
		}
		break;
	case DVSM_OP_FREE:
		if (!dvsm_state_cursor(state) && !dvsm_lane_done(hold))
			dvsm_resume_cut(hold->heap, hold->log->chunk);
		dvsm_chunks_free(hold);
		break;
	}
	dvsm_lane_idle(hold);
	for (i = 0; i < 2; i++) {
		if (hold->log->settle[i] && DVSM_HEAP_BROKEN != DVSM_BROKEN_SETTLE)
			dvsm_slabs_settle(hold->heap, hold->log->settle[i] - 1);
		hold->log->settle[i] = 0;
	}
	if (dvsm_resume_counts(dvsm_state_op(state)))
		dvsm_chunks_count(hold->heap);
}
