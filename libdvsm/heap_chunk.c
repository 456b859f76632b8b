// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Chunks: the heap's own 2 MiB pieces.
 *
 * The map has a bit for each chunk, set when it is free. A map word that was never changed (tag 0) stands for
 * "all free", so a new heap of 1 TiB has nothing to initialise. A free chunk whose dirty bit is set still has
 * its memory, and contents; which ones are kept is the retain policy of dvsm_chunks_free().
 */
#include "heap_chunk.h"
#include "heap_lock.h"

/* The chunks of a map word that are the allocator's to give. */
uint64_t dvsm_map_valid(const struct dvsm_heap *heap, uint32_t word)
{
	uint32_t first = heap->header->first_chunk, end = heap->header->end_chunk;
	uint64_t bits = ~0ULL;

	if (word < first / 64 || word > (end - 1) / 64)
		return 0;
	if (word == first / 64)
		bits &= ~0ULL << first % 64;
	if (word == end / 64)
		bits &= ~(~0ULL << end % 64);
	return bits;
}

static uint64_t dvsm_map_effective(const struct dvsm_heap *heap, uint32_t word,
				   struct dvsm_word value)
{
	return value.tag ? value.bits : dvsm_map_valid(heap, word);
}

uint64_t dvsm_map_bits(const struct dvsm_heap *heap, uint32_t word)
{
	return dvsm_map_effective(heap, word, dvsm_word_read(&heap->map[word]));
}

static bool dvsm_map_try_take(const struct dvsm_hold *hold, uint32_t word, uint64_t mask)
{
	struct dvsm_word old = dvsm_word_read(&hold->heap->map[word]);
	uint64_t bits;

	for (;;) {
		bits = dvsm_map_effective(hold->heap, word, old);
		if ((bits & mask) != mask)
			return false;
		if (dvsm_word_step(hold, &hold->heap->map[word], &old, bits & ~mask))
			return true;
	}
}

/* The bits of the cursor's map word that belong to chunks [chunk, chunk + nr). */
static uint64_t dvsm_map_mask(uint32_t chunk, uint32_t nr, uint32_t word)
{
	uint32_t first = word == chunk / 64 ? chunk % 64 : 0;
	uint32_t last = word == (chunk + nr - 1) / 64 ? (chunk + nr - 1) % 64 : 63;

	return (~0ULL << first) & (~0ULL >> (63 - last));
}

static uint32_t dvsm_map_words(uint32_t chunk, uint32_t nr)
{
	return (chunk + nr - 1) / 64 - chunk / 64 + 1;
}

static void dvsm_high_raise(const struct dvsm_heap *heap, uint32_t end)
{
	uint32_t high = atomic_load(&heap->header->high_chunk);

	while (high < end &&
	       !atomic_compare_exchange_weak(&heap->header->high_chunk, &high, end))
		;
}

/* One free chunk: with memory on the node, else without memory, else any. */
static bool dvsm_chunk_find_one(const struct dvsm_heap *heap, uint32_t node, uint32_t *chunk)
{
	uint32_t word, last = (heap->header->end_chunk - 1) / 64;
	uint32_t high = atomic_load(&heap->header->high_chunk) / 64;
	uint64_t bits;
	int pass;

	for (pass = 0; pass < 3; pass++) {
		if (!pass && !atomic_load(&heap->header->nr_dirty))
			continue;
		for (word = heap->header->first_chunk / 64;
		     word <= (pass == 1 || high > last ? last : high); word++) {
			bits = dvsm_map_bits(heap, word);
			if (!pass)
				bits &= atomic_load(&heap->dirty[word]);
			else if (pass == 1)
				bits &= ~atomic_load(&heap->dirty[word]);
			for (; bits; bits &= bits - 1) {
				*chunk = word * 64 + (uint32_t)__builtin_ctzll(bits);
				if (pass || heap->nr_nodes == 1 ||
				    heap->chunks[*chunk].node == node)
					return true;
			}
		}
	}
	return false;
}

/* The first chunk from @chunk on whose address is a multiple of so many chunks. */
static uint32_t dvsm_chunk_align(const struct dvsm_heap *heap, uint32_t chunk, uint32_t align)
{
	uint32_t off = (uint32_t)((heap->base >> DVSM_HEAP_CHUNK_SHIFT) + chunk) & (align - 1);

	return off ? chunk + align - off : chunk;
}

/* The lowest run of free chunks. @align: of its address, in chunks; a power of two. */
static bool dvsm_chunk_find_run(const struct dvsm_heap *heap, uint32_t nr, uint32_t align,
				uint32_t *chunk)
{
	uint32_t at, end = heap->header->end_chunk, used;
	uint32_t start = dvsm_chunk_align(heap, heap->header->first_chunk, align);
	uint64_t bits;

	for (at = start; at < end && start + nr <= end; ) {
		bits = ~dvsm_map_bits(heap, at / 64) & (~0ULL << at % 64);
		if (!bits) {
			at = (at / 64 + 1) * 64;
		} else {
			used = at / 64 * 64 + (uint32_t)__builtin_ctzll(bits);
			if (used >= start + nr)
				at = used;
			else
				at = start = dvsm_chunk_align(heap, used + 1, align);
		}
		if (at >= start + nr) {
			*chunk = start;
			return true;
		}
	}
	return false;
}

/* Of the chunks [chunk, chunk + nr), those of the so-many-th map word that have memory. */
static uint64_t dvsm_chunks_dirty(const struct dvsm_heap *heap, uint32_t chunk, uint32_t nr,
				  uint32_t word)
{
	return atomic_load(&heap->dirty[chunk / 64 + word]) &
	       dvsm_map_mask(chunk, nr, chunk / 64 + word);
}

/*
 * Counts chunks that were taken: the counter first, the bits then, so that a count or a death between the two leaves it too
 * high, which the next count mends. The bits are the holder's to change. Return: whether the chunks read as zeroes.
 */
static bool dvsm_chunks_account(const struct dvsm_heap *heap, uint32_t chunk, uint32_t nr)
{
	uint32_t word, nr_dirty = 0;
	uint64_t dirty;

	for (word = 0; word < dvsm_map_words(chunk, nr); word++)
		nr_dirty += (uint32_t)__builtin_popcountll(dvsm_chunks_dirty(heap, chunk, nr, word));
	atomic_fetch_sub(&heap->header->nr_dirty, nr_dirty);
	for (word = 0; nr_dirty && word < dvsm_map_words(chunk, nr); word++) {
		dirty = dvsm_chunks_dirty(heap, chunk, nr, word);
		if (dirty)
			atomic_fetch_and(&heap->dirty[chunk / 64 + word], ~dirty);
	}
	atomic_fetch_add(&heap->header->nr_used, nr);
	return !nr_dirty;
}

/* The steps of taking chunks that were found free. False: others were faster; the lane is idle. */
static bool dvsm_chunks_try_take(struct dvsm_hold *hold, uint32_t chunk, uint32_t nr)
{
	uint32_t word, first;

	dvsm_high_raise(hold->heap, chunk + nr);
	hold->log->chunk = chunk;
	hold->log->nr = nr;
	for (word = dvsm_map_words(chunk, nr); word-- > 0; ) {
		dvsm_lane_begin(hold, DVSM_OP_CHUNK, word);
		if (dvsm_map_try_take(hold, chunk / 64 + word,
				      dvsm_map_mask(chunk, nr, chunk / 64 + word)))
			continue;
		if (word + 1 < dvsm_map_words(chunk, nr)) {
			/* To be freed they have to be counted. */
			first = (chunk / 64 + word + 1) * 64;
			dvsm_chunks_account(hold->heap, first, chunk + nr - first);
			dvsm_lane_begin(hold, DVSM_OP_FREE, word + 1);
			dvsm_chunks_free(hold);
		} else {
			dvsm_lane_idle(hold);
		}
		return false;
	}
	return true;
}

/* Something else is mapped where a heap wants to grow: these chunks stay taken, and have no memory. */
static void dvsm_chunks_bar(struct dvsm_hold *hold, uint32_t chunk, uint32_t nr)
{
	uint32_t i;

	if (dvsm_chunks_try_take(hold, chunk, nr)) {
		for (i = 0; i < nr; i++)
			hold->heap->chunks[chunk + i].kind = DVSM_CHUNK_BARRED;
		dvsm_lane_idle(hold);
	}
}

/* The heap's mapping reaches to chunk end, if it can; how much more than that, depends on what there is. */
static bool dvsm_chunks_map(struct dvsm_hold *hold, uint32_t end)
{
	struct dvsm_heap_header *header = hold->heap->header;
	uint32_t mapped, last, grow = header->grow;
	bool done = true;

	if (end <= atomic_load(&header->mapped_chunk))
		return true;
	if (!grow)
		return false;
	dvsm_lock(&header->growing);
	while (done && (mapped = atomic_load(&header->mapped_chunk)) < end) {
		last = mapped + (mapped - header->first_chunk) / 2;
		last = last < mapped + 4 * grow ? mapped + 4 * grow : last;
		last = (uint32_t)dvsm_align_up(last > end ? last : end, grow);
		if (last > header->end_chunk)
			last = header->end_chunk;
		done = dvsm_backing_grow(hold->heap, mapped, last);
		if (!done && last > mapped + grow) {
			last = mapped + grow;
			done = dvsm_backing_grow(hold->heap, mapped, last);
		}
		if (!done && errno == EEXIST) {
			dvsm_chunks_bar(hold, mapped, last - mapped);
			done = true;
		}
		if (done)
			atomic_store(&header->mapped_chunk, last);
	}
	dvsm_unlock(&header->growing);
	return done;
}

/**
 * dvsm_chunks_take - take a run of chunks into the lane's hands.
 * @align: of its address, in chunks
 * @node: where the memory should be; asked for only on machines with several
 * @clean: receives whether all of it reads as zeroes
 *
 * The lane must be idle. Return: true, with log.chunk and log.nr in hand and the state at CHUNK, cursor 0,
 * done; false when there is no such run, with the lane idle.
 */
bool dvsm_chunks_take(struct dvsm_hold *hold, uint32_t nr, uint32_t align, uint32_t node,
		      bool *clean)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t chunk, i;

	do {
		if (nr == 1 && align == 1 ? !dvsm_chunk_find_one(heap, node, &chunk) :
					    !dvsm_chunk_find_run(heap, nr, align, &chunk))
			return false;
		if (!dvsm_chunks_map(hold, chunk + nr))
			return false;
	} while (!dvsm_chunks_try_take(hold, chunk, nr));
	*clean = dvsm_chunks_account(heap, chunk, nr);
	if (heap->nr_nodes > 1) {
		for (i = 0; i < nr; i++)
			heap->chunks[chunk + i].node = (uint8_t)node;
		dvsm_backing_bind(heap, (uint64_t)chunk << DVSM_HEAP_CHUNK_SHIFT,
				  (uint64_t)nr << DVSM_HEAP_CHUNK_SHIFT, node);
	}
	return true;
}

/* As above, these and no others. */
bool dvsm_chunks_take_at(struct dvsm_hold *hold, uint32_t chunk, uint32_t nr)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t word;
	uint64_t mask;

	if (chunk + nr > heap->header->end_chunk)
		return false;
	for (word = chunk / 64; word <= (chunk + nr - 1) / 64; word++) {
		mask = dvsm_map_mask(chunk, nr, word);
		if ((dvsm_map_bits(heap, word) & mask) != mask)
			return false;
	}
	if (!dvsm_chunks_map(hold, chunk + nr) || !dvsm_chunks_try_take(hold, chunk, nr))
		return false;
	dvsm_chunks_account(heap, chunk, nr);
	return true;
}

/* How many free chunks may keep their memory, by what is in use now. */
static uint64_t dvsm_chunks_limit(const struct dvsm_heap *heap)
{
	const struct dvsm_heap_header *header = heap->header;
	uint32_t used = atomic_load(&header->nr_used);

	/* Deaths leave it too low: who frees what nobody has counted takes it below 0. */
	if ((int32_t)used < 0)
		used = 0;
	return header->retain ? (header->retain >> DVSM_HEAP_CHUNK_SHIFT) + used / 8 : 0;
}

/* Chunks that keep their memory, or had it when they were taken. Deaths may have left the counter off: it gets right by this. */
static uint64_t dvsm_chunks_count_dirty(const struct dvsm_heap *heap)
{
	uint32_t word, last = atomic_load(&heap->header->high_chunk) / 64;
	uint32_t before = atomic_load(&heap->header->nr_dirty), nr = 0;

	for (word = heap->header->first_chunk / 64; word <= last; word++)
		nr += (uint32_t)__builtin_popcountll(atomic_load(&heap->dirty[word]));
	/* If nobody has changed it meanwhile. */
	atomic_compare_exchange_strong(&heap->header->nr_dirty, &before, nr);
	return nr;
}

/* Before a chunk loses its memory by what the counter says, which takes longer than to count. */
static bool dvsm_chunks_keep(const struct dvsm_heap *heap, uint32_t nr)
{
	uint64_t limit = dvsm_chunks_limit(heap);

	return !dvsm_backing_can_discard(heap) ||
	       atomic_load(&heap->header->nr_dirty) + (uint64_t)nr <= limit ||
	       (nr <= limit && dvsm_chunks_count_dirty(heap) + nr <= limit);
}

/* Chunks that are nobody's lose their memory, if they shall. Return: whether they have none. */
static bool dvsm_chunks_lose(const struct dvsm_hold *hold, uint32_t first, uint32_t nr)
{
	const struct dvsm_heap *heap = hold->heap;

	/* What is not mapped has no memory of the heap's: something else may be there. */
	if (first + nr > atomic_load(&heap->header->mapped_chunk))
		return true;
	if ((!hold->discard && dvsm_chunks_keep(heap, nr)) ||
	    dvsm_backing_discard(heap, (uint64_t)first << DVSM_HEAP_CHUNK_SHIFT,
				 (uint64_t)nr << DVSM_HEAP_CHUNK_SHIFT))
		return false;
	atomic_fetch_add(&heap->header->nr_discards, nr);
	return true;
}

/* The chunks of one map word: nothing of them is anybody's, and their memory stays or goes. */
static void dvsm_chunks_clear(const struct dvsm_hold *hold, uint32_t first, uint32_t nr)
{
	const struct dvsm_heap *heap = hold->heap;
	uint64_t mask = dvsm_map_mask(first, nr, first / 64);
	uint32_t chunk;

	for (chunk = first; chunk < first + nr; chunk++) {
		heap->classes[chunk * DVSM_CHUNK_PAGES] = DVSM_CLASS_NONE;
		heap->chunks[chunk].kind = DVSM_CHUNK_FREE;
		heap->chunks[chunk].nr_chunks = 0;
		atomic_store(&heap->chunks[chunk].owner, 0);
		atomic_store(&heap->chunks[chunk].avail, 0);
	}
	if (dvsm_chunks_lose(hold, first, nr)) {
		atomic_fetch_and(&heap->dirty[first / 64], ~mask);
	} else {
		atomic_fetch_or(&heap->dirty[first / 64], mask);
		atomic_fetch_add(&heap->header->nr_dirty, nr);
	}
	atomic_fetch_sub(&heap->header->nr_used, nr);
}

/* The rest of DVSM_OP_FREE, from its cursor on; leaves the lane idle. */
void dvsm_chunks_free(struct dvsm_hold *hold)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t chunk = hold->log->chunk, nr = hold->log->nr;
	uint32_t word = dvsm_state_cursor(dvsm_lane_state(hold));
	uint64_t mask, twice;
	uint32_t first;

	if (hold->resumed && dvsm_lane_done(hold))
		word++;
	for (; word < dvsm_map_words(chunk, nr); word++) {
		dvsm_lane_begin(hold, DVSM_OP_FREE, word);
		mask = dvsm_map_mask(chunk, nr, chunk / 64 + word);
		first = (chunk / 64 + word) * 64 + (uint32_t)__builtin_ctzll(mask);
		dvsm_chunks_clear(hold, first, (uint32_t)__builtin_popcountll(mask));
		dvsm_word_put(hold, &heap->map[chunk / 64 + word], mask, &twice);
		/* Another thread frees the same block. */
		if (twice && !hold->resumed)
			dvsm_misuse(heap, DVSM_MISUSE_DOUBLE_FREE,
				    dvsm_heap_at(heap, (uint64_t)chunk << DVSM_HEAP_CHUNK_SHIFT));
	}
	dvsm_lane_idle(hold);
}

/* Of a chunk that was never used nobody has checked what the tables say, if the heap was damaged when it was attached. */
static void dvsm_chunk_reset(const struct dvsm_heap *heap, uint32_t chunk)
{
	uint32_t page, first = chunk * DVSM_CHUNK_PAGES;

	for (page = first; page < first + DVSM_CHUNK_PAGES; page++) {
		__atomic_store_n(&heap->classes[page], DVSM_CLASS_NONE, __ATOMIC_RELAXED);
		heap->slabs[page].class = DVSM_CLASS_NONE;
		heap->slabs[page].delta = 0;
		atomic_store_explicit(&heap->slabs[page].cur, 0, memory_order_relaxed);
		atomic_store_explicit(&heap->slabs[page].owner, 0, memory_order_relaxed);
	}
}

/* log.chunk, in hand, becomes 32 free pages; leaves the lane idle. */
void dvsm_chunk_open(struct dvsm_hold *hold)
{
	struct dvsm_heap_chunk *chunk = &hold->heap->chunks[hold->log->chunk];
	uint64_t twice;

	if (!hold->resumed || !dvsm_lane_done(hold)) {
		dvsm_chunk_reset(hold->heap, hold->log->chunk);
		chunk->kind = DVSM_CHUNK_OPEN;
		atomic_store(&chunk->avail, 0);
		dvsm_lane_begin(hold, DVSM_OP_OPEN, 0);
		dvsm_word_put(hold, &chunk->pages, DVSM_PAGES_ALL, &twice);
	}
	dvsm_pages_settle(hold->heap, hold->log->chunk);
	dvsm_lane_idle(hold);
}

/**
 * dvsm_chunk_close - give back an open chunk, if all its pages are free.
 *
 * The lane is idle before and after.
 */
bool dvsm_chunk_close(struct dvsm_hold *hold, uint32_t chunk)
{
	hold->log->chunk = chunk;
	hold->log->nr = 1;
	dvsm_lane_begin(hold, DVSM_OP_CLOSE, 0);
	if (!dvsm_word_try_take(hold, &hold->heap->chunks[chunk].pages, DVSM_PAGES_ALL)) {
		dvsm_lane_idle(hold);
		return false;
	}
	dvsm_lane_begin(hold, DVSM_OP_FREE, 0);
	dvsm_chunks_free(hold);
	dvsm_chunks_shed(hold);
	return true;
}

/* A chunk's memory goes back, if it is free. The lane is idle before and after. False: it has its memory. */
static bool dvsm_chunk_discard(struct dvsm_hold *hold, uint32_t chunk)
{
	const struct dvsm_heap *heap = hold->heap;

	hold->log->chunk = chunk;
	hold->log->nr = 1;
	dvsm_lane_begin(hold, DVSM_OP_CHUNK, 0);
	if (!dvsm_map_try_take(hold, chunk / 64, 1ULL << chunk % 64)) {
		dvsm_lane_idle(hold);
		return false;
	}
	dvsm_chunks_account(heap, chunk, 1);
	hold->discard = true;
	dvsm_lane_begin(hold, DVSM_OP_FREE, 0);
	dvsm_chunks_free(hold);
	hold->discard = false;
	return !(atomic_load(&heap->dirty[chunk / 64]) >> chunk % 64 & 1);
}

/* The highest word of the map with free chunks that keep their memory. */
static bool dvsm_chunk_find_dirty(const struct dvsm_heap *heap, uint32_t *chunk)
{
	uint32_t word = (atomic_load(&heap->header->high_chunk) + 63) / 64;
	uint64_t bits;

	while (word-- > heap->header->first_chunk / 64) {
		bits = atomic_load(&heap->dirty[word]) & dvsm_map_bits(heap, word);
		if (bits) {
			*chunk = word * 64 + (uint32_t)__builtin_ctzll(bits);
			return true;
		}
	}
	return false;
}

/* So many more than the limit stay, that not every free chunk that comes and goes is a call to the kernel. */
#define DVSM_RETAIN_SLACK	8U

/**
 * dvsm_chunks_shed - memory that was kept while more was in use goes back.
 *
 * The lane is idle before and after. Where one chunk cannot lose its memory it is not tried with others.
 */
void dvsm_chunks_shed(struct dvsm_hold *hold)
{
	const struct dvsm_heap *heap = hold->heap;
	uint64_t limit = dvsm_chunks_limit(heap);
	uint32_t chunk;

	if (!dvsm_backing_can_discard(heap) ||
	    atomic_load(&heap->header->nr_dirty) <= limit + DVSM_RETAIN_SLACK)
		return;
	while (dvsm_chunks_count_dirty(heap) > limit && dvsm_chunk_find_dirty(heap, &chunk))
		if (!dvsm_chunk_discard(hold, chunk))
			return;
}

/* Deaths may have left the counter off. What is counted meanwhile stays. */
static void dvsm_chunks_count_used(const struct dvsm_heap *heap)
{
	uint32_t word, last = atomic_load(&heap->header->high_chunk) / 64;
	uint32_t before = atomic_load(&heap->header->nr_used), nr = 0;
	uint64_t bits;

	for (word = heap->header->first_chunk / 64; word <= last; word++)
		for (bits = dvsm_map_valid(heap, word) & ~dvsm_map_bits(heap, word); bits; bits &= bits - 1)
			nr += heap->chunks[word * 64 + (uint32_t)__builtin_ctzll(bits)].kind != DVSM_CHUNK_BARRED;
	atomic_compare_exchange_strong(&heap->header->nr_used, &before, nr);
}

/**
 * dvsm_chunks_count - count anew how many chunks are in use, and how many have memory.
 *
 * What others are at meanwhile may be counted twice.
 */
void dvsm_chunks_count(const struct dvsm_heap *heap)
{
	dvsm_chunks_count_used(heap);
	dvsm_chunks_count_dirty(heap);
}

/**
 * dvsm_chunks_discard - give the memory of free chunks back to the region.
 * @keep: chunks that may keep theirs
 *
 * The lane is idle before and after. Also counts anew how many are in use and how many have memory.
 * Return: chunks that lost their memory.
 */
size_t dvsm_chunks_discard(struct dvsm_hold *hold, size_t keep)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t word, last, high = atomic_load(&heap->header->high_chunk);
	uint32_t before = atomic_load(&heap->header->nr_dirty);
	size_t nr_dirty = 0, nr = 0;
	uint64_t bits;

	if (!high)
		return 0;
	dvsm_chunks_count_used(heap);
	last = (high - 1) / 64;
	for (word = last + 1; word-- > heap->header->first_chunk / 64; ) {
		bits = atomic_load(&heap->dirty[word]) & dvsm_map_bits(heap, word);
		for (; bits; bits &= bits - 1) {
			if (nr_dirty < keep) {
				nr_dirty++;
				continue;
			}
			if (dvsm_chunk_discard(hold, word * 64 + (uint32_t)__builtin_ctzll(bits)))
				nr++;
			else
				nr_dirty++;
		}
	}
	/* If nobody has changed it meanwhile. */
	before -= (uint32_t)nr;
	atomic_compare_exchange_strong(&heap->header->nr_dirty, &before, (uint32_t)nr_dirty);
	return nr;
}
