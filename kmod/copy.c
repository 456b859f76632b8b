// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies of what shares read, page by page, from wherever it lies. share.c says what
 * shares are.
 */
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>

#include "dvsm.h"

/**
 * dvsm_memcg_use - Let a cgroup pay for what is allocated.
 * @memcg: the cgroup; NULL: whom the caller charges, as a worker's own is the root
 *
 * Context: process.
 * Return: for set_active_memcg(), afterwards.
 */
struct mem_cgroup *dvsm_memcg_use(struct mem_cgroup *memcg)
{
#ifdef CONFIG_MEMCG
	if (!memcg)
		memcg = current->active_memcg;
#endif
	return set_active_memcg(memcg);
}

/**
 * dvsm_share_peek - The folio of a page that a share reads.
 * @share: the share, or one over it
 * @index: the page
 *
 * Context: sharing may change.
 * Return: the folio, with a reference; NULL for a hole; -EHWPOISON, -EIO.
 */
struct folio *dvsm_share_peek(struct dvsm_share *share, pgoff_t index)
{
	struct folio *folio;

	share = dvsm_share_find(share, index);
	if (!share->store)
		return ERR_PTR(-EIO);
	folio = filemap_get_folio(share->store->inode->i_mapping, index);
	if (IS_ERR(folio))
		return NULL;
	if (dvsm_folio_page_is_poisoned(folio, index)) {
		folio_put(folio);
		return ERR_PTR(-EHWPOISON);
	}
	return folio;
}

/**
 * dvsm_share_check_page - Whether a page that a share reads can be read.
 * @share: the share, or one over it
 * @index: the page
 *
 * Context: sharing may change.
 * Return: 0; -EHWPOISON, -EIO.
 */
int dvsm_share_check_page(struct dvsm_share *share, pgoff_t index)
{
	struct folio *folio = dvsm_share_peek(share, index);
	int ret;

	if (IS_ERR_OR_NULL(folio))
		return PTR_ERR_OR_ZERO(folio);
	ret = dvsm_page_check(folio_page(folio, index - folio->index));
	folio_put(folio);
	return ret;
}

/*
 * Copy the page at *@at and those after it, up to @end, that lie in the same folio of the
 * share, to @dst, which has them all and is locked. Moves *@at behind what was copied; half
 * of a page may lie there after -EHWPOISON.
 */
static int dvsm_share_copy_piece(struct dvsm_share *share, pgoff_t *at, pgoff_t end,
				 struct folio *dst)
{
	pgoff_t start = *at, stop = start + 1;
	struct folio *src;
	int ret = 0;

	if (dvsm_folio_page_is_poisoned(dst, start))
		return -EHWPOISON;
	src = dvsm_share_peek(share, start);
	if (IS_ERR(src))
		return PTR_ERR(src);
	if (src) {
		/* Where the hardware lost a page each one is looked at. */
		if (stop < end && !dvsm_folio_is_poisoned(src) && !dvsm_folio_is_poisoned(dst))
			stop = dvsm_share_run_end(share, start, min(end, folio_next_index(src)));
		ret = dvsm_folio_copy_pages(dst, src, start, stop);
		folio_put(src);
	} else {
		clear_highpage(folio_page(dst, start - dst->index));
	}
	if (!ret)
		*at = stop;
	return ret;
}

/**
 * dvsm_share_copy_page - Copy a page that a share reads, or nothing of it.
 * @share: the share, or one over it
 * @index: the page
 * @dst: a folio that has the page too, locked, in no mapping, noted as written
 * @scratch: a page that it goes by: half of a page never gets to @dst
 *
 * Context: sharing may change.
 * Return: 0; -EHWPOISON, -EIO, with @dst as it was.
 */
int dvsm_share_copy_page(struct dvsm_share *share, pgoff_t index, struct folio *dst,
			 struct page *scratch)
{
	struct page *to = folio_page(dst, index - dst->index);
	struct folio *src;
	int ret = 0;

	if (dvsm_folio_page_is_poisoned(dst, index))
		return -EHWPOISON;
	src = dvsm_share_peek(share, index);
	if (IS_ERR(src))
		return PTR_ERR(src);
	if (src) {
		ret = dvsm_pages_copy(scratch, folio_page(src, index - src->index), 1);
		if (!ret)
			copy_highpage(to, scratch);
		folio_put(src);
	} else {
		clear_highpage(to);
	}
	return ret;
}

/* Zero what a new folio has beyond [start, end), which was filled. */
static void dvsm_folio_zero_rest(struct folio *folio, pgoff_t start, pgoff_t end)
{
	folio_zero_segments(folio, 0, (start - folio->index) << PAGE_SHIFT,
			    (end - folio->index) << PAGE_SHIFT, folio_size(folio));
}

/**
 * dvsm_share_copy_pages - Copy pages that a share reads to a region's place.
 * @share: the share, or one over it
 * @at: the first; moved behind what was copied
 * @end: the page after the last
 * @target: the region, which gets folios there
 * @placing: where from
 *
 * Context: sharing may change.
 * Return: 0; -ENOMEM, -ENOSPC, -EHWPOISON, -EIO. What is at *@at or behind it then nobody
 * is to read.
 */
int dvsm_share_copy_pages(struct dvsm_share *share, pgoff_t *at, pgoff_t end,
			  struct dvsm_region *target, struct dvsm_placing *placing)
{
	int ret = 0;

	while (*at < end && !ret) {
		bool allocated = false;
		struct folio *dst = dvsm_store_get_locked(target, *at, placing, &allocated);
		pgoff_t start = *at, stop;

		if (IS_ERR(dst))
			return PTR_ERR(dst) == -EDQUOT ? -ENOMEM : PTR_ERR(dst);
		stop = min_t(pgoff_t, end, dst->index + folio_nr_pages(dst));
		while (*at < stop && !ret) {
			ret = dvsm_share_copy_piece(share, at, stop, dst);
			cond_resched();
		}
		if (allocated && placing->overwrite && *at - start < folio_nr_pages(dst))
			dvsm_folio_zero_rest(dst, start, *at);
		folio_unlock(dst);
		folio_put(dst);
	}
	return ret;
}

/**
 * dvsm_share_copy_to - Copy what a share reads to a region's own place.
 * @share: the share
 * @target: the region, with no folio there
 * @reader: the region that is to read the copy, and for which it is counted
 *
 * Context: sharing may change.
 * Return: 0; -ENOMEM, -ENOSPC, -EHWPOISON, -EIO with nothing left behind.
 */
int dvsm_share_copy_to(struct dvsm_share *share, struct dvsm_region *target,
		       struct dvsm_region *reader)
{
	struct mem_cgroup *old = dvsm_memcg_use(target->memcg);
	struct dvsm_placing placing = { .here = NUMA_NO_NODE, .overwrite = true };
	pgoff_t at = share->chunk << DVSM_CHUNK_ORDER;
	pgoff_t end = min_t(u64, at + DVSM_CHUNK_PAGES, target->nr_pages);
	int ret = -EIO;

	if (share->parts) {
		ret = dvsm_share_copy_pages(share, &at, end, target, &placing);
		if (ret)
			dvsm_store_empty_chunk(target, share->chunk);
	} else if (share->store) {
		ret = dvsm_store_copy_chunk(target, share->store, share->chunk);
	}
	if (!ret)
		dvsm_region_count_copy(reader, share->chunk);
	set_active_memcg(old);
	return ret;
}
