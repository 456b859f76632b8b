// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Slabs: finding one, taking blocks out of it, making it and giving it up.
 *
 * Who looks for a slab claims it by clearing its avail bit; a claimed slab is installed as a CPU's current slab,
 * or settled again. Claims keep CPUs apart, nothing depends on them.
 */
#include <emmintrin.h>

#include "heap_slab.h"

/* The lowest nr of the set bits. */
static uint64_t dvsm_lowest(uint64_t bits, uint32_t nr)
{
	uint64_t rest = bits;

	while (nr--)
		rest &= rest - 1;
	return bits & ~rest;
}

static uint32_t dvsm_slab_class(const struct dvsm_heap *heap, uint32_t page)
{
	return __atomic_load_n(&heap->classes[page], __ATOMIC_ACQUIRE);
}

/* Whether a slab of that class and owner begins at a page. */
static bool dvsm_slab_is(const struct dvsm_heap *heap, uint32_t page, uint32_t class, uint64_t owner)
{
	return dvsm_slab_class(heap, page) == class && !heap->slabs[page].delta &&
	       atomic_load(&heap->slabs[page].owner) == owner;
}

/* False for an offset that is no block's start. */
bool dvsm_slab_place(const struct dvsm_heap *heap, uint64_t offset, struct dvsm_place *place)
{
	uint32_t page = (uint32_t)(offset >> DVSM_HEAP_PAGE_SHIFT);
	const struct dvsm_class *class;
	uint32_t at;

	place->class = dvsm_slab_class(heap, page);
	if (!dvsm_class_is_slab(place->class))
		return false;
	place->page = page - heap->slabs[page].delta;
	class = dvsm_heap_class(heap, place->class);
	at = (uint32_t)(offset - ((uint64_t)place->page << DVSM_HEAP_PAGE_SHIFT));
	place->block = dvsm_class_block(class, at);
	return place->block < class->nr_blocks && place->block * class->size == at;
}

static bool dvsm_slab_has_free(const struct dvsm_heap *heap, uint32_t page, uint32_t class)
{
	uint32_t word;

	for (word = 0; word < dvsm_class_words(dvsm_heap_class(heap, class)); word++)
		if (__atomic_load_n(&dvsm_slab_word(heap, page, word)->bits, __ATOMIC_SEQ_CST))
			return true;
	return false;
}

static bool dvsm_slab_is_empty(const struct dvsm_heap *heap, uint32_t page, uint32_t class)
{
	const struct dvsm_class *class_info = dvsm_heap_class(heap, class);
	uint32_t word;

	for (word = 0; word < dvsm_class_words(class_info); word++)
		if (__atomic_load_n(&dvsm_slab_word(heap, page, word)->bits, __ATOMIC_SEQ_CST) !=
		    dvsm_class_full(class_info, word))
			return false;
	return true;
}

void dvsm_slab_avail(const struct dvsm_heap *heap, uint32_t page, uint32_t class)
{
	uint32_t chunk = page / DVSM_CHUNK_PAGES, bit = 1U << page % DVSM_CHUNK_PAGES;

	/* Avail, then the hint; who clears the hint looks at avail afterwards. */
	if (!(atomic_load(&heap->chunks[chunk].avail) & bit))
		atomic_fetch_or(&heap->chunks[chunk].avail, bit);
	dvsm_hint_set(heap, chunk, dvsm_class_hint(class));
}

/* A slab that is nobody's any more can be found again, if there is something to find. */
void dvsm_slab_settle(const struct dvsm_heap *heap, uint32_t page)
{
	uint32_t class = dvsm_slab_class(heap, page);

	if (!dvsm_class_is_slab(class))
		return;
	if (!atomic_load(&heap->slabs[page].cur) && dvsm_slab_has_free(heap, page, class))
		dvsm_slab_avail(heap, page, class);
}

/* After a death: all slabs of a chunk, and who has them for current. */
void dvsm_slabs_settle(const struct dvsm_heap *heap, uint32_t chunk)
{
	uint32_t page, first = chunk * DVSM_CHUNK_PAGES, cpu, class;

	if (heap->chunks[chunk].kind != DVSM_CHUNK_OPEN)
		return;
	for (page = first; page < first + DVSM_CHUNK_PAGES; page++) {
		class = dvsm_slab_class(heap, page);
		if (!dvsm_class_is_slab(class) || heap->slabs[page].delta)
			continue;
		cpu = atomic_load(&heap->slabs[page].cur);
		if (cpu && atomic_load(&dvsm_heap_cpu(heap, cpu - 1)->cur[class]) != page + 1)
			atomic_store(&heap->slabs[page].cur, 0);
		dvsm_slab_settle(heap, page);
	}
	dvsm_pages_settle(heap, chunk);
}

/**
 * dvsm_slab_take - take up to @nr blocks out of one word of a slab.
 *
 * @next: where to begin, and where the next one shall; NULL: at the beginning
 *
 * The lane is idle before. Return: log.mask, the blocks in log.word in hand, state TAKE, done; 0 with the lane
 * idle when the slab has none, or is not of that class and owner any more.
 */
uint64_t dvsm_slab_take(struct dvsm_hold *hold, uint32_t page, uint32_t class, uint32_t nr,
			_Atomic uint8_t *next)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t nr_words = dvsm_class_words(dvsm_heap_class(heap, class));
	uint32_t first = next ? atomic_load_explicit(next, memory_order_relaxed) : 0, i, at;
	struct dvsm_word *word, old;
	uint64_t mask;

	if (first >= nr_words)
		first = 0;
	for (i = 0; i < nr_words; i++) {
		at = first + i < nr_words ? first + i : first + i - nr_words;
		word = dvsm_slab_word(heap, page, at);
		old = dvsm_word_read(word);
		while (old.bits && dvsm_slab_is(heap, page, class, hold->owner)) {
			mask = old.bits;
			if ((uint32_t)__builtin_popcountll(mask) > nr)
				mask = dvsm_lowest(mask, nr);
			hold->log->word = dvsm_heap_offset_of(heap, word);
			hold->log->mask = mask;
			dvsm_lane_begin(hold, DVSM_OP_TAKE, 0);
			if (dvsm_word_step(hold, word, &old, old.bits & ~mask)) {
				if (next)
					atomic_store_explicit(next, (uint8_t)at, memory_order_relaxed);
				return mask;
			}
			dvsm_lane_idle(hold);
		}
	}
	return 0;
}

/* Offset of the block of bit 0 of a slab's word, and the slab's page. */
uint64_t dvsm_slab_base(const struct dvsm_heap *heap, uint64_t word, uint32_t *page)
{
	uint64_t index = (word - dvsm_heap_offset_of(heap, heap->words)) / sizeof(struct dvsm_word);
	const struct dvsm_class *class;

	*page = (uint32_t)(index / DVSM_SLAB_WORDS);
	class = dvsm_heap_class(heap, dvsm_slab_class(heap, *page));
	return ((uint64_t)*page << DVSM_HEAP_PAGE_SHIFT) +
	       index % DVSM_SLAB_WORDS * 64 * class->size;
}

/* The pages of a chunk whose class table entry is class: where to look, which is why others may be writing them. */
static __attribute__((no_sanitize("thread"))) uint32_t dvsm_chunk_match(const struct dvsm_heap *heap, uint32_t chunk, uint32_t class)
{
	const __m128i *entries = (const __m128i *)(heap->classes + (uint64_t)chunk * DVSM_CHUNK_PAGES);
	__m128i wanted = _mm_set1_epi8((char)class);

	return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_load_si128(entries), wanted)) |
	       (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_load_si128(entries + 1), wanted)) << 16;
}

/* Claims one available slab of a chunk. The caller has logged the chunk to be settled. */
static bool dvsm_slab_claim(const struct dvsm_hold *hold, uint32_t chunk, uint32_t class,
			    uint32_t *page)
{
	const struct dvsm_heap *heap = hold->heap;
	_Atomic uint32_t *avail = &heap->chunks[chunk].avail;
	uint32_t mask = dvsm_chunk_match(heap, chunk, class) & atomic_load(avail), bit;

	for (; mask; mask &= mask - 1) {
		bit = mask & -mask;
		*page = chunk * DVSM_CHUNK_PAGES + (uint32_t)__builtin_ctz(bit);
		if (hold->owner && atomic_load(&heap->slabs[*page].owner) != hold->owner)
			continue;
		if (!(atomic_fetch_and(avail, ~bit) & bit))
			continue;
		/* It may have become another owner's just before; and may still, as frees make it available again. */
		if (!hold->owner || atomic_load(&heap->slabs[*page].owner) == hold->owner)
			return true;
		dvsm_slab_settle(heap, *page);
	}
	return false;
}

/**
 * dvsm_slab_find - claim a slab of a class that has free blocks, on a node.
 *
 * Return: true, with log.settle[0] set for the slab's chunk until the caller has installed or settled it.
 */
bool dvsm_slab_find(struct dvsm_hold *hold, uint32_t class, uint32_t node, uint32_t *page)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t word, last = (atomic_load(&heap->header->high_chunk) + 63) / 64, chunk;
	uint64_t bits;

	for (word = heap->header->first_chunk / 64; word < last; word++) {
		bits = atomic_load(dvsm_hint_word(heap, word * 64, dvsm_class_hint(class)));
		for (; bits; bits &= bits - 1) {
			chunk = word * 64 + (uint32_t)__builtin_ctzll(bits);
			if (!dvsm_chunk_is_used(heap, chunk))
				break;
			if (heap->nr_nodes > 1 && heap->chunks[chunk].node != node)
				continue;
			hold->log->settle[0] = chunk + 1;
			atomic_signal_fence(memory_order_seq_cst);
			if (dvsm_slab_claim(hold, chunk, class, page))
				return true;
			/* Of other owners and classes there may be some. */
			if (class & DVSM_CLASS_OWNED)
				continue;
			dvsm_hint_clear(heap, chunk, class);
			if (dvsm_chunk_match(heap, chunk, class) &
			    atomic_load(&heap->chunks[chunk].avail))
				dvsm_hint_set(heap, chunk, class);
		}
	}
	hold->log->settle[0] = 0;
	return false;
}

/* The rest of DVSM_OP_FILL: the slab's words from the cursor on get all their bits; leaves the lane idle. */
void dvsm_slab_fill(struct dvsm_hold *hold)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t page = hold->log->page, word = dvsm_state_cursor(dvsm_lane_state(hold));
	const struct dvsm_class *class = dvsm_heap_class(heap, hold->log->stack);

	if (hold->resumed && dvsm_lane_done(hold))
		word++;
	for (; word < dvsm_class_words(class); word++) {
		dvsm_lane_begin(hold, DVSM_OP_FILL, word);
		dvsm_word_set(hold, dvsm_slab_word(heap, page, word),
			      dvsm_class_full(class, word));
	}
	if (hold->resumed)
		dvsm_slab_settle(heap, page);
	dvsm_lane_idle(hold);
}

/**
 * dvsm_slab_make - make a slab, claimed as by dvsm_slab_find().
 *
 * The lane is idle before and after. Return: false when the heap is full.
 */
bool dvsm_slab_make(struct dvsm_hold *hold, uint32_t class, uint32_t node, uint32_t *page)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t nr_pages = dvsm_heap_class(heap, class)->nr_pages, i, chunk;
	bool clean;

	while (!dvsm_pages_take(hold, nr_pages, node, page)) {
		if (!dvsm_chunks_take(hold, 1, 1, node, &clean))
			return false;
		dvsm_chunk_open(hold);
	}
	chunk = *page / DVSM_CHUNK_PAGES;
	hold->log->settle[0] = chunk + 1;
	atomic_fetch_and(&heap->chunks[chunk].avail, ~(1U << *page % DVSM_CHUNK_PAGES));
	for (i = 0; i < nr_pages; i++) {
		heap->slabs[*page + i].delta = (uint8_t)i;
		atomic_store_explicit(&heap->slabs[*page + i].owner, hold->owner, memory_order_relaxed);
		heap->slabs[*page + i].class = (uint8_t)class;
		atomic_store_explicit(&heap->slabs[*page + i].cur, 0, memory_order_relaxed);
		__atomic_store_n(&heap->classes[*page + i], (uint8_t)class, __ATOMIC_RELEASE);
	}
	hold->log->page = *page;
	hold->log->stack = class;
	dvsm_lane_begin(hold, DVSM_OP_FILL, 0);
	dvsm_slab_fill(hold);
	return true;
}

/* Takes all blocks of a word, if they are there and the slab is what it was. */
static bool dvsm_slab_try_drain(const struct dvsm_hold *hold, uint32_t page, uint32_t number,
				uint64_t owner, uint32_t index)
{
	const struct dvsm_heap *heap = hold->heap;
	struct dvsm_word *word = dvsm_slab_word(heap, page, index), old = dvsm_word_read(word);
	uint64_t full = dvsm_class_full(dvsm_heap_class(heap, number), index);

	while (old.bits == full && dvsm_slab_is(heap, page, number, owner))
		if (dvsm_word_step(hold, word, &old, 0))
			return true;
	return false;
}

/*
 * Makes the pages of a slab of a class and an owner free, if all its blocks are. It takes every block, so that nobody else
 * can. The lane is idle before and after.
 */
static void dvsm_slab_retire(struct dvsm_hold *hold, uint32_t page, uint32_t number,
			     uint64_t owner)
{
	const struct dvsm_heap *heap = hold->heap;
	const struct dvsm_class *class = dvsm_heap_class(heap, number);
	uint32_t chunk = page / DVSM_CHUNK_PAGES, word;

	hold->log->page = page;
	hold->log->stack = number;
	for (word = dvsm_class_words(class); word-- > 0; ) {
		dvsm_lane_begin(hold, DVSM_OP_DRAIN, word);
		if (dvsm_slab_try_drain(hold, page, number, owner, word))
			continue;
		if (word + 1 < dvsm_class_words(class)) {
			dvsm_lane_begin(hold, DVSM_OP_FILL, word + 1);
			dvsm_slab_fill(hold);
		} else {
			dvsm_lane_idle(hold);
		}
		dvsm_slab_settle(heap, page);
		return;
	}
	hold->log->word = dvsm_heap_offset_of(heap, &heap->chunks[chunk].pages);
	hold->log->mask = ((1ULL << class->nr_pages) - 1) << page % DVSM_CHUNK_PAGES;
	dvsm_lane_begin(hold, DVSM_OP_UNPAGE, 0);
	dvsm_pages_put(hold);
}

/* Who claims is alone with it: of two that see it empty, one retires it. The lane is idle before and after. */
static void dvsm_slab_try_retire(struct dvsm_hold *hold, uint32_t page, uint32_t class,
				 uint64_t owner)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t chunk = page / DVSM_CHUNK_PAGES, bit = 1U << page % DVSM_CHUNK_PAGES;

	hold->log->settle[0] = chunk + 1;
	atomic_signal_fence(memory_order_seq_cst);
	if (atomic_fetch_and(&heap->chunks[chunk].avail, ~bit) & bit) {
		/* It may have become another one meanwhile, or a part of one. */
		if (dvsm_slab_is(heap, page, class, owner) && dvsm_slab_is_empty(heap, page, class))
			dvsm_slab_retire(hold, page, class, owner);
		else
			dvsm_slab_settle(heap, page);
	}
	hold->log->settle[0] = 0;
}

/*
 * A slab seems to be empty: give it up, unless it is the only empty one of a class that has stacks. What class and
 * owner it has is known from when a block of it was in hand. The lane is idle before and after.
 */
void dvsm_slab_emptied(struct dvsm_hold *hold, uint32_t page, uint32_t class, uint64_t owner)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t spare;

	if (!dvsm_slab_is(heap, page, class, owner) || atomic_load(&heap->slabs[page].cur) ||
	    !dvsm_slab_is_empty(heap, page, class))
		return;
	if (class <= DVSM_CLASS_CACHED) {
		spare = atomic_load(&heap->header->spare_slab[class]);
		if (!spare || spare == page + 1 || dvsm_slab_class(heap, spare - 1) != class ||
		    heap->slabs[spare - 1].delta || !dvsm_slab_is_empty(heap, spare - 1, class)) {
			atomic_store(&heap->header->spare_slab[class], page + 1);
			return;
		}
	}
	dvsm_slab_try_retire(hold, page, class, owner);
}

/* The empty slab that is kept for a class goes. The lane is idle before and after. */
void dvsm_slab_give_spare(struct dvsm_hold *hold, uint32_t class)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t spare = atomic_exchange(&heap->header->spare_slab[class], 0);

	if (spare && dvsm_slab_is(heap, spare - 1, class, 0) && dvsm_slab_is_empty(heap, spare - 1, class))
		dvsm_slab_try_retire(hold, spare - 1, class, 0);
}

/* The rest of DVSM_OP_PUT: log.mask of log.word goes back; leaves the lane idle. */
void dvsm_slab_put(struct dvsm_hold *hold)
{
	uint32_t page;
	uint64_t twice;

	if (!hold->resumed || !dvsm_lane_done(hold)) {
		dvsm_lane_begin(hold, DVSM_OP_PUT, 0);
		dvsm_word_put(hold, dvsm_heap_at(hold->heap, hold->log->word), hold->log->mask,
			      &twice);
	}
	dvsm_slab_base(hold->heap, hold->log->word, &page);
	dvsm_slab_settle(hold->heap, page);
	dvsm_lane_idle(hold);
}

/*
 * Gives up every empty slab, and every open chunk without slabs. Not those with owners: what is not free in these must
 * be the owner's, whenever it is looked at, and they go with their last block anyway.
 */
void dvsm_slabs_trim(struct dvsm_hold *hold)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t chunk, page, class, bit;

	for (class = 1; class < DVSM_CLASSES; class++)
		atomic_store(&heap->header->spare_slab[class], 0);
	for (chunk = heap->header->first_chunk; chunk < atomic_load(&heap->header->high_chunk);
	     chunk++) {
		if (heap->chunks[chunk].kind != DVSM_CHUNK_OPEN)
			continue;
		for (page = 0; page < DVSM_CHUNK_PAGES; page++) {
			bit = 1U << page;
			class = dvsm_slab_class(heap, chunk * DVSM_CHUNK_PAGES + page);
			if (!(atomic_load(&heap->chunks[chunk].avail) & bit) ||
			    !dvsm_class_is_slab(class) || class & DVSM_CLASS_OWNED ||
			    !dvsm_slab_is_empty(heap, chunk * DVSM_CHUNK_PAGES + page, class))
				continue;
			dvsm_slab_try_retire(hold, chunk * DVSM_CHUNK_PAGES + page, class, 0);
		}
		if (heap->chunks[chunk].kind == DVSM_CHUNK_OPEN &&
		    dvsm_word_read(&heap->chunks[chunk].pages).bits == DVSM_PAGES_ALL)
			dvsm_chunk_close(hold, chunk);
	}
	atomic_store(&heap->header->spare_chunk, 0);
}
