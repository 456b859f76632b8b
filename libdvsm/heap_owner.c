// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Blocks with an owner, and freeing all of one owner's.
 *
 * An owner's blocks lie in slabs of its own and go through no stack. So what of such a slab is not free is the
 * owner's, and no tag has to be kept, or cleared, for each block.
 */
#include "heap_class.h"
#include "heap_cpu.h"
#include "heap_huge.h"
#include "heap_slab.h"

void *dvsm_heap_malloc_owned(struct dvsm_heap *heap, size_t size, uint64_t owner)
{
	uint64_t offset;
	bool clean;

	if (!owner)
		return dvsm_fail_null(EINVAL);
	if (size > DVSM_CLASS_SIZE_MAX)
		offset = dvsm_huge_take(heap, size, 1, -1, owner, &clean);
	else
		offset = dvsm_refill(heap, dvsm_class_of(size) | DVSM_CLASS_OWNED, -1, false, owner);
	return offset ? dvsm_heap_at(heap, offset) : dvsm_fail_null(ENOMEM);
}

/* The class byte of a slab of the owner's; 0 for any other page. */
static uint32_t dvsm_owner_class(const struct dvsm_heap *heap, uint32_t page, uint64_t owner)
{
	uint32_t class = __atomic_load_n(&heap->classes[page], __ATOMIC_ACQUIRE);

	return class & DVSM_CLASS_OWNED && dvsm_class_is_slab(class) && !heap->slabs[page].delta &&
	       atomic_load(&heap->slabs[page].owner) == owner ? class : 0;
}

/*
 * All blocks of a slab. Word by word, each as one group that is being freed. With its last block the slab goes, and
 * then its words say nothing; until then nobody can take it away. One that was empty goes here. Return: how many
 * blocks there were.
 */
static size_t dvsm_owner_free_slab(struct dvsm_hold *hold, uint32_t page, uint32_t number,
				   uint64_t owner)
{
	const struct dvsm_heap *heap = hold->heap;
	const struct dvsm_class *class = dvsm_heap_class(heap, number);
	struct dvsm_word *word;
	uint64_t live;
	size_t nr = 0;
	uint32_t i;

	for (i = 0; i < dvsm_class_words(class) && dvsm_owner_class(heap, page, owner) == number; i++) {
		word = dvsm_slab_word(heap, page, i);
		live = dvsm_class_full(class, i) & ~dvsm_word_read(word).bits;
		if (!live)
			continue;
		nr += (size_t)__builtin_popcountll(live);
		hold->log->groups[0] = (struct dvsm_group){
			.word = dvsm_heap_offset_of(heap, word), .mask = live,
		};
		hold->log->nr_groups = 1;
		dvsm_lane_begin(hold, DVSM_OP_GROUP, 0);
		dvsm_groups_put(hold);
	}
	if (dvsm_owner_class(heap, page, owner) == number)
		dvsm_slab_emptied(hold, page, number, owner);
	return nr;
}

/**
 * dvsm_owner_free - free all blocks of an owner.
 *
 * After dvsm_owners_begin(): what dead threads have in their hands is neither free nor the owner's, nor is what somebody
 * else finishes for them. The lane is idle before and after. Return: how many they were.
 */
size_t dvsm_owner_free(struct dvsm_hold *hold, uint64_t owner)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t chunk, page, class;
	size_t nr = 0;

	for (chunk = heap->header->first_chunk; chunk < atomic_load(&heap->header->high_chunk);
	     chunk++) {
		if (heap->chunks[chunk].kind == DVSM_CHUNK_HUGE &&
		    atomic_load(&heap->chunks[chunk].owner) == owner) {
			dvsm_huge_put_held(hold, chunk);
			nr++;
		}
		if (heap->chunks[chunk].kind != DVSM_CHUNK_OPEN)
			continue;
		for (page = chunk * DVSM_CHUNK_PAGES; page < (chunk + 1) * DVSM_CHUNK_PAGES; page++) {
			class = dvsm_owner_class(heap, page, owner);
			if (class)
				nr += dvsm_owner_free_slab(hold, page, class, owner);
		}
	}
	return nr;
}

/**
 * dvsm_owners_begin - get ready for dvsm_owner_free().
 *
 * Two who free the same owner's blocks would take each other's for his. Whoever had the lock before may have died with a
 * lane, so lanes come after it. Return: true with a lane; false where somebody makes no progress.
 */
bool dvsm_owners_begin(const struct dvsm_heap *heap, struct dvsm_hold *hold)
{
	if (!dvsm_owners_lock(heap))
		return false;
	if (dvsm_lanes_finish(heap) && dvsm_lane_acquire(heap, hold))
		return true;
	dvsm_owners_unlock(heap);
	return false;
}

void dvsm_owners_end(struct dvsm_hold *hold)
{
	dvsm_lane_release(hold);
	dvsm_owners_unlock(hold->heap);
}

long dvsm_heap_owner_free(struct dvsm_heap *heap, uint64_t owner)
{
	struct dvsm_hold hold;
	size_t nr;

	if (!owner)
		return dvsm_fail(EINVAL);
	if (!dvsm_owners_begin(heap, &hold))
		return dvsm_fail(EBUSY);
	nr = dvsm_owner_free(&hold, owner);
	dvsm_owners_end(&hold);
	return (long)nr;
}
