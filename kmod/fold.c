// SPDX-License-Identifier: GPL-2.0-only
/*
 * Parts are put back to where they were copied from, when nobody else reads that any
 * more: a chunk is whole again. share.c says what shares are.
 */
#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>

#include "dvsm.h"

/* Whether nobody but the region reads what its share and the one under that have. */
static bool dvsm_link_is_foldable(const struct dvsm_link *link)
{
	const struct dvsm_share *share = link->content, *under = share->under;

	return dvsm_link_is_alone(link) && share->parts && !under->nr_members &&
	       under->nr_overs == 1 && under->store &&
	       dvsm_region_may_write_in(link->region, under->store);
}

/* Whether nobody uses that, past the page tables either. */
static bool dvsm_share_seize(struct dvsm_share *share)
{
	dvsm_share_unmap(share);
	return !dvsm_store_chunk_is_referenced(share->store, share->chunk, NULL) &&
	       !dvsm_store_chunk_is_referenced(share->under->store, share->chunk, NULL);
}

/* The two change places in page caches. */
static void dvsm_share_swap_stores(struct dvsm_share *a, struct dvsm_share *b)
{
	struct dvsm_link *place_a = xa_load(&a->store->links, a->chunk);
	struct dvsm_link *place_b = xa_load(&b->store->links, b->chunk);

	swap(a->store, b->store);
	swap(a->parts, b->parts);
	place_a->lent = b;
	place_b->lent = a;
}

/*
 * The parts of @share are in both places: from now on it has what was under it, and its
 * identity still.
 */
static void dvsm_share_fold_end(struct dvsm_share *share)
{
	struct dvsm_share *under = share->under;

	dvsm_share_swap_stores(share, under);
	share->was_shared = false;
	share->under = under->under;
	share->depth = under->depth;
	under->under = NULL;
	under->nr_overs = 0;
	dvsm_share_end_if_unread(under);
}

/*
 * Put parts back to where they were copied from, in folios that @memcg pays for. The share
 * keeps its identity.
 */
static int dvsm_share_fold(struct dvsm_share *share, struct mem_cgroup *memcg, int here)
{
	struct dvsm_share *under = share->under;
	/* Not all of the chunk may have to be there. */
	struct dvsm_placing placing = { .here = here, .order_limit = 1 };
	struct mem_cgroup *old = dvsm_memcg_use(under->store->memcg ? : memcg);
	pgoff_t start = share->chunk << DVSM_CHUNK_ORDER;
	unsigned int nth;
	int ret = 0;

	for_each_set_bit(nth, share->parts, DVSM_CHUNK_PAGES) {
		pgoff_t at = start + nth;

		/*
		 * What was copied is in both places then, and nobody reads what is under
		 * a part, such as half of a page: no harm if the rest fails.
		 */
		ret = dvsm_share_copy_pages(share, &at, at + 1, under->store, &placing);
		if (ret)
			break;
		if (under->parts)
			__set_bit(nth, under->parts);
	}
	set_active_memcg(old);
	if (!ret)
		dvsm_share_fold_end(share);
	return ret;
}

/**
 * dvsm_share_try_fold - Put parts back to where they were copied from.
 * @link: a region's link, with content
 *
 * Only where nobody else reads either.
 *
 * Context: sharing may change.
 */
void dvsm_share_try_fold(struct dvsm_link *link)
{
	struct dvsm_share *share = link->content;

	if (!dvsm_link_is_foldable(link) || share->nr_refusals == DVSM_SHARE_REFUSALS_MAX)
		return;
	if (!dvsm_share_seize(share) || dvsm_share_fold(share, NULL, NUMA_NO_NODE))
		share->nr_refusals++;
}

/**
 * dvsm_share_fold_later - dvsm_share_try_fold() on nobody's behalf.
 * @link: as there
 *
 * Who pays for the parts pays on, and they stay on their node. What a snapshot compares
 * with stays as it is, so that the time of this is not seen.
 *
 * Context: the family is locked for writing.
 * Return: 1 if that is done; 0 if it is not to be done; -EAGAIN.
 */
int dvsm_share_fold_later(struct dvsm_link *link)
{
	struct dvsm_share *share = link->content;
	struct mem_cgroup *memcg;
	struct folio *folio;
	pgoff_t first;
	int ret, here;

	if (!dvsm_link_is_foldable(link) || share->under->nr_bases ||
	    share->nr_delays == DVSM_SHARE_REFUSALS_MAX)
		return 0;
	if (!dvsm_share_seize(share)) {
		share->nr_delays++;
		return -EAGAIN;
	}
	first = (share->chunk << DVSM_CHUNK_ORDER) + find_first_bit(share->parts, DVSM_CHUNK_PAGES);
	folio = filemap_get_folio(share->store->inode->i_mapping, first);
	if (IS_ERR(folio))
		return 0;
	here = folio_nid(folio);
	memcg = dvsm_folio_memcg_get(folio);
	folio_put(folio);
	ret = dvsm_share_fold(share, memcg, here);
	mem_cgroup_put(memcg);
	if (ret)
		share->nr_delays++;
	return ret ? -EAGAIN : 1;
}

/**
 * dvsm_share_can_fold - Whether parts can be put back without a failure.
 * @share: a share with parts
 *
 * Context: sharing may change.
 * Return: true if nothing is lost, and nothing has to be allocated.
 */
bool dvsm_share_can_fold(struct dvsm_share *share)
{
	pgoff_t start = share->chunk << DVSM_CHUNK_ORDER;
	unsigned int nth;

	for_each_set_bit(nth, share->parts, DVSM_CHUNK_PAGES) {
		struct folio *folio = dvsm_share_peek(share->under, start + nth);

		if (IS_ERR_OR_NULL(folio))
			return false;
		folio_put(folio);
		if (dvsm_share_check_page(share, start + nth))
			return false;
	}
	return true;
}

/*
 * Let what is half of one page and half of another be lost. Nobody shall read it before the
 * kernel has marked it, which takes no lock that is held here.
 */
static void dvsm_page_lose(struct page *page)
{
	unsigned int nr_tries = 100;

	memory_failure_queue(page_to_pfn(page), 0);
	while (!PageHWPoison(page) && --nr_tries)
		usleep_range(500, 1000);
}

/* Overwrite one page of what is under a part. Where the part is lost that is lost with it. */
static void dvsm_share_fold_page(struct dvsm_share *share, pgoff_t index)
{
	struct folio *src = filemap_get_folio(share->store->inode->i_mapping, index);
	struct folio *dst = filemap_get_folio(share->under->store->inode->i_mapping, index);
	struct page *page = folio_page(dst, index - dst->index);
	int ret = 0;

	folio_lock(dst);
	if (IS_ERR(src)) {
		clear_highpage(page);
	} else {
		ret = dvsm_folio_copy_pages(dst, src, index, index + 1);
		folio_put(src);
	}
	folio_unlock(dst);
	folio_put(dst);
	if (ret)
		dvsm_page_lose(page);
}

/**
 * dvsm_share_fold_all - Put parts back where dvsm_share_can_fold() holds.
 * @share: the share; others read what is under its parts until it is done
 *
 * A page of a part that was lost since dvsm_share_can_fold() read it is a lost page afterwards.
 *
 * Context: sharing may change.
 */
void dvsm_share_fold_all(struct dvsm_share *share)
{
	pgoff_t start = share->chunk << DVSM_CHUNK_ORDER;
	unsigned int nth;

	for_each_set_bit(nth, share->parts, DVSM_CHUNK_PAGES)
		dvsm_share_fold_page(share, start + nth);
	dvsm_share_fold_end(share);
}
