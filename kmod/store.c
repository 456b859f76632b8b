// SPDX-License-Identifier: GPL-2.0-only
/*
 * A region's page cache: folios by index, allocated, found, copied, freed. Whose
 * contents they are is content.c's and share.c's business.
 *
 * A chunk is a hole, one order-9 folio, or smaller folios where a huge one could
 * not be had, where the region ends inside the chunk, or where the core split a
 * folio, because of a hardware error or because MADV_COLD named a part of it.
 * Invariants:
 *
 *  - A folio is charged and up to date before it is added, and zeroed, unless who adds
 *    it fills all of it before he unlocks it.
 *  - A folio that was ever written to through a mapping or write() is marked
 *    (PG_checked), but in registrable regions: a chunk without marks is zeroes.
 *    Where the core splits a folio, the first piece alone keeps the mark.
 *  - A folio is never dirty: the kernel's NUMA balancing refuses dirty file
 *    folios.
 *  - Clean, unmapped folios must not be dropped as if they could be read again:
 *    the mapping is unevictable, ->release_folio refuses the path that evicts
 *    (page offlining), and ->error_remove_folio keeps a poisoned page where it
 *    is, so that no later fault brings back zeroes.
 *  - Two threads never allocate for one chunk at the same time: a lost race
 *    would cost a zeroing of 2 MiB and could hit a limit for nothing. The mutex
 *    for that is one for the same chunk of all regions of a family.
 */
#include <linux/gfp.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/pagevec.h>
#include <linux/xarray.h>

#include "dvsm.h"

/**
 * dvsm_store_chunk_mutex - What serialises changes to one chunk in a family.
 * @family: the family
 * @chunk: the chunk
 *
 * Context: any.
 * Return: the mutex, which other chunks may share.
 */
struct mutex *dvsm_store_chunk_mutex(struct dvsm_family *family, u64 chunk)
{
	return &family->chunk_mutexes[chunk % DVSM_CHUNK_MUTEXES];
}

/*
 * How hard to try for a folio of @order. Huge ones are worth some reclaim and
 * compaction, and all of it where the region has no other; sizes between are
 * only taken if they are there. The last page is asked for in earnest, but
 * without the OOM killer: killing a sharer frees nothing, and the caller has an
 * answer for ENOMEM.
 */
static gfp_t dvsm_store_gfp(struct dvsm_region *region, unsigned int order)
{
	gfp_t gfp = (region->flags & DVSM_REGION_F_PINNED) ? GFP_HIGHUSER : GFP_HIGHUSER_MOVABLE;

	gfp |= __GFP_NOWARN;
	if (!order || (region->flags & DVSM_REGION_F_HUGE_REQUIRED))
		return gfp | __GFP_RETRY_MAYFAIL;
	gfp |= __GFP_NORETRY | __GFP_NOMEMALLOC;
	return order == DVSM_CHUNK_ORDER ? gfp : gfp & ~__GFP_DIRECT_RECLAIM;
}

static void dvsm_store_count_alloc(struct dvsm_region *region, struct folio *folio, int wanted)
{
	int nid = folio_nid(folio);

	atomic_long_inc(&region->nodes[nid].nr_allocs);
	if (wanted != NUMA_NO_NODE && wanted != nid)
		atomic_long_inc(&region->nodes[wanted].nr_misses);
}

/* Whether the page allocator zeroes whatever it hands out (init_on_alloc, init_on_free). */
static bool dvsm_memory_is_zeroed(void)
{
	return want_init_on_alloc(0) || want_init_on_free();
}

/* One attempt at one order. Returns the folio, locked and with a reference. */
static struct folio *dvsm_store_add(struct dvsm_region *region, pgoff_t index, unsigned int order,
				    const struct dvsm_placing *placing)
{
	gfp_t gfp = dvsm_store_gfp(region, order);
	struct folio *folio;
	int wanted, ret;

	index = dvsm_block_start(index, order);
	ret = dvsm_account_charge(region, 1UL << order);
	if (ret)
		return ERR_PTR(ret);

	folio = dvsm_policy_alloc(region, placing, index, order, gfp, &wanted);
	if (!folio) {
		ret = -ENOMEM;
		goto err_uncharge;
	}
	if (!placing->overwrite && !dvsm_memory_is_zeroed())
		dvsm_folio_zero(folio);
	folio_mark_uptodate(folio);
	ret = filemap_add_folio(region->inode->i_mapping, folio, index, gfp);
	if (ret)
		goto err_put;
	dvsm_store_count_alloc(region, folio, wanted);
	return folio;

err_put:
	folio_put(folio);
err_uncharge:
	dvsm_account_uncharge(region, 1UL << order);
	return ERR_PTR(ret);
}

/* Looks no further than it must: a search to the region's end costs more than the rest. */
static bool dvsm_store_is_hole(struct dvsm_region *region, pgoff_t start, pgoff_t end)
{
	unsigned long at = start;

	return !xa_find(&region->inode->i_mapping->i_pages, &at, end - 1, XA_PRESENT);
}

/* The largest order of a folio around @index that no other folio is in the way of. */
static unsigned int dvsm_store_order_free(struct dvsm_region *region, pgoff_t index,
					  const struct dvsm_placing *placing)
{
	unsigned int order = dvsm_order_max(index, region->nr_pages);

	if (placing->order_limit && order >= placing->order_limit)
		order = placing->order_limit - 1;
	while (order) {
		pgoff_t start = dvsm_block_start(index, order);

		if (dvsm_store_is_hole(region, start, start + (1UL << order)))
			break;
		order = dvsm_order_below(order);
	}
	return order;
}

/* Fill the hole at @index with the largest folio that can be had. */
static struct folio *dvsm_store_alloc(struct dvsm_region *region, pgoff_t index,
				      const struct dvsm_placing *placing)
{
	bool huge_only = region->flags & DVSM_REGION_F_HUGE_REQUIRED;
	unsigned int best = dvsm_store_order_free(region, index, placing);
	unsigned int order = best;
	struct folio *folio;

	for (;;) {
		folio = dvsm_store_add(region, index, order, placing);
		if (!IS_ERR(folio) || huge_only || !order)
			break;
		/* A limit is no matter of size. */
		if (PTR_ERR(folio) == -ENOSPC || PTR_ERR(folio) == -EDQUOT)
			break;
		order = dvsm_order_below(order);
	}
	if (!IS_ERR(folio) && order < best) {
		atomic_long_inc(&region->stats.nr_fallbacks);
		if (best == DVSM_CHUNK_ORDER)
			dvsm_promote_want(region);
	}
	return folio;
}

/**
 * dvsm_store_get_locked - dvsm_store_get() with the chunk's mutex held.
 * @region: the region
 * @index: the page, below region->nr_pages
 * @placing: on whose behalf to allocate
 * @allocated: set if a folio was allocated; NULL if that is of no interest
 *
 * Context: may sleep; the family is locked.
 * Return: as dvsm_store_get().
 */
struct folio *dvsm_store_get_locked(struct dvsm_region *region, pgoff_t index,
				    const struct dvsm_placing *placing, bool *allocated)
{
	struct folio *folio = filemap_lock_folio(region->inode->i_mapping, index);

	if (IS_ERR(folio)) {
		folio = dvsm_store_alloc(region, index, placing);
		if (allocated && !IS_ERR(folio))
			*allocated = true;
	}
	return folio;
}

/**
 * dvsm_store_get - Find or allocate the folio that holds a page.
 * @region: the region
 * @index: the page, below region->nr_pages
 * @placing: on whose behalf to allocate
 * @allocated: set if a folio was allocated; NULL if that is of no interest
 *
 * Context: may sleep; the family is locked for reading.
 * Return: the folio, locked and with a reference; -ENOMEM, also for a cgroup's
 * limit; -EDQUOT for RLIMIT_MEMLOCK; -ENOSPC for a dvsm limit.
 */
struct folio *dvsm_store_get(struct dvsm_region *region, pgoff_t index,
			     const struct dvsm_placing *placing, bool *allocated)
{
	struct mutex *mutex = dvsm_store_chunk_mutex(region->family, dvsm_page_chunk(index));
	struct folio *folio;

	lockdep_assert_held_read(&region->family->lock);

	folio = filemap_lock_folio(region->inode->i_mapping, index);
	if (!IS_ERR(folio))
		return folio;
	mutex_lock(mutex);
	folio = dvsm_store_get_locked(region, index, placing, allocated);
	mutex_unlock(mutex);
	return folio;
}

/**
 * dvsm_store_next - Find the next page that has memory.
 * @region: the region
 * @index: where to start
 *
 * Context: any.
 * Return: the page, @index or later; region->nr_pages if there is none.
 */
pgoff_t dvsm_store_next(struct dvsm_region *region, pgoff_t index)
{
	unsigned long at = index;

	if (!xa_find(&region->inode->i_mapping->i_pages, &at, region->nr_pages - 1, XA_PRESENT))
		return region->nr_pages;
	return max(at, index);
}

/**
 * dvsm_store_walk - Look at the folios of a range in order.
 * @region: the region
 * @start: first page
 * @end: the page after the last
 * @fn: called with each folio, which is referenced; stops the walk with true
 * @arg: handed to @fn
 *
 * Context: may sleep.
 * Return: whether @fn stopped the walk.
 */
bool dvsm_store_walk(struct dvsm_region *region, pgoff_t start, pgoff_t end,
		     bool (*fn)(struct folio *folio, void *arg), void *arg)
{
	struct folio_batch batch;
	bool stop = false;

	folio_batch_init(&batch);
	while (!stop && start < end &&
	       filemap_get_folios(region->inode->i_mapping, &start, end - 1, &batch)) {
		unsigned int i;

		for (i = 0; i < folio_batch_count(&batch) && !stop; i++)
			stop = fn(batch.folios[i], arg);
		for (i = 0; i < folio_batch_count(&batch); i++)
			folio_put(batch.folios[i]);
		folio_batch_init(&batch);
		cond_resched();
	}
	return stop;
}

/**
 * dvsm_store_walk_chunk - dvsm_store_walk() of one chunk; quick where that is one folio.
 * @region: the region
 * @chunk: the chunk
 * @fn: called with each folio, which is referenced; stops the walk with true
 * @arg: handed to @fn
 *
 * Context: may sleep.
 * Return: whether @fn stopped the walk.
 */
bool dvsm_store_walk_chunk(struct dvsm_region *region, u64 chunk,
			   bool (*fn)(struct folio *folio, void *arg), void *arg)
{
	pgoff_t start = chunk << DVSM_CHUNK_ORDER;
	struct folio *folio = filemap_get_folio(region->inode->i_mapping, start);
	bool huge, stop = false;

	if (!IS_ERR(folio)) {
		huge = folio_order(folio) == DVSM_CHUNK_ORDER;
		if (huge)
			stop = fn(folio, arg);
		folio_put(folio);
		if (huge)
			return stop;
	}
	return dvsm_store_walk(region, start, start + DVSM_CHUNK_PAGES, fn, arg);
}

/**
 * dvsm_store_settle_chunk - Wait for faults that are about to map a chunk's folios.
 * @region: whose page cache
 * @chunk: the chunk
 *
 * Context: may sleep; no new fault can begin.
 * Return: whether the chunk may hold anything but zeroes; without meaning for a
 * registrable region.
 */
bool dvsm_store_settle_chunk(struct dvsm_region *region, u64 chunk)
{
	bool written = false;

	dvsm_store_walk_chunk(region, chunk, dvsm_folio_settle, &written);
	return written;
}

/**
 * dvsm_store_unmap_chunk - Take a chunk out of all mappings of a region.
 * @region: the region
 * @chunk: the chunk
 *
 * Private copies stay where they are.
 *
 * Context: may sleep.
 */
void dvsm_store_unmap_chunk(struct dvsm_region *region, u64 chunk)
{
	dvsm_region_unmap(region, (loff_t)chunk << DVSM_CHUNK_SHIFT, DVSM_CHUNK_SIZE);
}

/**
 * dvsm_store_chunk_is_referenced - Whether anybody uses a chunk's folios unmapped.
 * @region: whose page cache
 * @chunk: the chunk, in no mapping
 * @held: a folio that the caller has one reference on, or NULL
 *
 * Context: may sleep.
 * Return: true if somebody may; a passing reference is taken for a user.
 */
bool dvsm_store_chunk_is_referenced(struct dvsm_region *region, u64 chunk, struct folio *held)
{
	return dvsm_store_walk_chunk(region, chunk, dvsm_folio_is_referenced, held);
}

static bool dvsm_folio_is_lost(struct folio *folio, void *arg)
{
	return dvsm_folio_is_poisoned(folio);
}

/**
 * dvsm_store_chunk_is_poisoned - Whether the hardware lost a part of a chunk.
 * @region: whose page cache
 * @chunk: the chunk
 *
 * Context: may sleep.
 * Return: true if it did.
 */
bool dvsm_store_chunk_is_poisoned(struct dvsm_region *region, u64 chunk)
{
	return dvsm_store_walk_chunk(region, chunk, dvsm_folio_is_lost, NULL);
}

/**
 * dvsm_store_chunk_is_resident - Whether a page cache has memory at a chunk.
 * @region: whose page cache
 * @chunk: the chunk
 *
 * Context: any.
 * Return: true if it has.
 */
bool dvsm_store_chunk_is_resident(struct dvsm_region *region, u64 chunk)
{
	pgoff_t next = dvsm_store_next(region, chunk << DVSM_CHUNK_ORDER);

	return next < region->nr_pages && dvsm_page_chunk(next) == chunk;
}

static bool dvsm_folio_count(struct folio *folio, void *arg)
{
	*(unsigned long *)arg += folio_nr_pages(folio);
	return false;
}

/**
 * dvsm_store_empty_chunk - Free a chunk's folios.
 * @region: whose page cache
 * @chunk: the chunk, in no mapping
 *
 * Context: may sleep; nobody adds folios there.
 */
void dvsm_store_empty_chunk(struct dvsm_region *region, u64 chunk)
{
	loff_t start = (loff_t)chunk << DVSM_CHUNK_SHIFT;
	unsigned long nr_pages = 0;

	dvsm_store_walk_chunk(region, chunk, dvsm_folio_count, &nr_pages);
	if (!nr_pages)
		return;
	truncate_inode_pages_range(region->inode->i_mapping, start, start + DVSM_CHUNK_SIZE - 1);
	dvsm_account_uncharge(region, nr_pages);
}

/**
 * dvsm_store_chunk_is_written - Whether a chunk may hold anything but zeroes.
 * @region: whose page cache
 * @chunk: the chunk
 *
 * A writer who has the folio locked and is about to mark it is waited for: while the
 * family is locked for writing the answer stays what it is.
 *
 * Context: may sleep; no folio is locked by the caller.
 * Return: true if it may.
 */
bool dvsm_store_chunk_is_written(struct dvsm_region *region, u64 chunk)
{
	if (region->flags & DVSM_REGION_F_REGISTRABLE)
		return dvsm_store_chunk_is_resident(region, chunk);
	return dvsm_store_walk_chunk(region, chunk, dvsm_folio_is_written, NULL) ||
	       dvsm_store_settle_chunk(region, chunk);
}

struct dvsm_copy {
	struct dvsm_region *target;
	struct dvsm_placing placing;
	bool written;			/* the source keeps no marks */
	int ret;
};

static int dvsm_folio_copy_to(struct dvsm_copy *copy, struct folio *src)
{
	pgoff_t index = src->index;
	pgoff_t end = index + folio_nr_pages(src);

	while (index < end) {
		struct folio *dst = dvsm_store_get_locked(copy->target, index, &copy->placing,
							  NULL);
		pgoff_t stop;
		int ret;

		if (IS_ERR(dst))
			return PTR_ERR(dst) == -EDQUOT ? -ENOMEM : PTR_ERR(dst);
		stop = min_t(pgoff_t, end, dst->index + folio_nr_pages(dst));
		ret = dvsm_folio_copy_pages(dst, src, index, stop);
		index = stop;
		if (copy->written)
			folio_set_checked(dst);
		folio_unlock(dst);
		folio_put(dst);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

static bool dvsm_folio_copy(struct folio *folio, void *arg)
{
	struct dvsm_copy *copy = arg;

	if (dvsm_folio_is_poisoned(folio)) {
		copy->ret = -EHWPOISON;
	} else {
		copy->placing.here = folio_nid(folio);
		copy->placing.overwrite = folio_order(folio) == DVSM_CHUNK_ORDER;
		copy->ret = dvsm_folio_copy_to(copy, folio);
	}
	return copy->ret;
}

/**
 * dvsm_store_copy_chunk - Copy a chunk from one page cache to another.
 * @target: to where; has no folio at this chunk
 * @source: from where
 * @chunk: the chunk; nobody writes to it
 *
 * Context: may sleep; the chunk's mutex held, or the family locked for writing.
 * Return: 0; -ENOMEM, -ENOSPC, -EHWPOISON, -EINTR, with nothing left behind.
 */
int dvsm_store_copy_chunk(struct dvsm_region *target, struct dvsm_region *source, u64 chunk)
{
	struct dvsm_copy copy = {
		.target = target,
		.written = source->flags & DVSM_REGION_F_REGISTRABLE,
	};

	dvsm_store_walk_chunk(source, chunk, dvsm_folio_copy, &copy);
	if (copy.ret)
		dvsm_store_empty_chunk(target, chunk);
	return copy.ret;
}

static bool dvsm_store_dirty_folio(struct address_space *mapping, struct folio *folio)
{
	return false;
}

/*
 * Asked before a folio is evicted, without any gfp flag: never. And before a huge
 * one is split, by MADV_COLD on a part of it or by soft offlining: not where the
 * region's owner asked for huge folios that stay, unless the hardware lost a page.
 */
static bool dvsm_store_release_folio(struct folio *folio, gfp_t gfp)
{
	struct dvsm_region *region = folio->mapping->host->i_private;

	if (!gfp)
		return false;
	return !(region->flags & (DVSM_REGION_F_HUGE_REQUIRED | DVSM_REGION_F_PINNED)) ||
	       !folio_test_large(folio) || folio_test_has_hwpoisoned(folio);
}

/*
 * A huge folio that could not be split when the hardware lost a page of it must
 * not go back to the page allocator, which would hand that page out again.
 */
static void dvsm_store_free_folio(struct folio *folio)
{
	if (folio_test_large(folio) && folio_test_has_hwpoisoned(folio))
		folio_get(folio);
}

static int dvsm_store_error_remove(struct address_space *mapping, struct dvsm_error_remove_arg *arg)
{
	return 0;
}

const struct address_space_operations dvsm_store_aops = {
	.dirty_folio		= dvsm_store_dirty_folio,
	.release_folio		= dvsm_store_release_folio,
	.free_folio		= dvsm_store_free_folio,
	.migrate_folio		= dvsm_folio_migrate,
	.error_remove_folio	= dvsm_store_error_remove,
};
