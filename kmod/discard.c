// SPDX-License-Identifier: GPL-2.0-only
/* Giving memory back: a range reads as zeroes, and what holds nothing else is freed. */
#include <linux/pagemap.h>

#include "dvsm.h"
#include "trace.h"

#define DVSM_DISCARD_STEP	BIT_ULL(30)

/* Whether the hardware lost a page of [from, to), in bytes, of a folio. */
static bool dvsm_folio_range_is_poisoned(struct folio *folio, loff_t from, loff_t to)
{
	pgoff_t index;

	if (!dvsm_folio_is_poisoned(folio))
		return false;
	for (index = from >> PAGE_SHIFT; index <= (to - 1) >> PAGE_SHIFT; index++)
		if (dvsm_folio_page_is_poisoned(folio, index))
			return true;
	return false;
}

/*
 * Zero what lies in [start, end) of folios that stick out of it. On return
 * [*first, *last) is the part that whole folios fill. -EHWPOISON where a page cannot
 * be zeroed, nor freed without its folio.
 */
static int dvsm_store_zero_edges(struct dvsm_region *region, loff_t start, loff_t end,
				 loff_t *first, loff_t *last)
{
	loff_t edges[2] = { start, end - 1 };
	struct folio *folio;
	int i;

	*first = start;
	*last = end;
	for (i = 0; i < 2; i++) {
		loff_t from, to;

		folio = filemap_lock_folio(region->inode->i_mapping, edges[i] >> PAGE_SHIFT);
		if (IS_ERR(folio)) {
			if (i)
				*last = round_down(end, PAGE_SIZE);
			else
				*first = round_up(start, PAGE_SIZE);
			continue;
		}
		from = max(start, folio_pos(folio));
		to = min_t(loff_t, end, folio_pos(folio) + folio_size(folio));
		if (to - from < folio_size(folio)) {
			if (dvsm_folio_range_is_poisoned(folio, from, to)) {
				folio_unlock(folio);
				folio_put(folio);
				return -EHWPOISON;
			}
			folio_zero_range(folio, from - folio_pos(folio), to - from);
			if (i)
				*last = folio_pos(folio);
			else
				*first = to;
		}
		folio_unlock(folio);
		folio_put(folio);
	}
	return 0;
}

static bool dvsm_folio_mark(struct folio *folio, void *arg)
{
	folio_set_checked(folio);
	return false;
}

/* The one piece of a written chunk that has the mark may go. */
static void dvsm_store_spread_mark(struct dvsm_region *region, u64 chunk)
{
	if (dvsm_store_walk_chunk(region, chunk, dvsm_folio_is_written, NULL))
		dvsm_store_walk_chunk(region, chunk, dvsm_folio_mark, NULL);
}

/**
 * dvsm_store_discard - Make a range read as zeroes and free its folios.
 * @region: the region
 * @start: first byte
 * @end: the byte after the last, above @start
 *
 * Context: may sleep; the family is locked for writing.
 * Return: pages that were freed; -EHWPOISON for a part of a folio with a lost page.
 */
long dvsm_store_discard(struct dvsm_region *region, loff_t start, loff_t end)
{
	struct address_space *mapping = region->inode->i_mapping;
	unsigned long before = mapping->nrpages;
	loff_t first, last;
	bool written = false;
	int ret;

	lockdep_assert_held_write(&region->family->lock);

	dvsm_store_spread_mark(region, dvsm_page_chunk(start >> PAGE_SHIFT));
	dvsm_store_spread_mark(region, dvsm_page_chunk((end - 1) >> PAGE_SHIFT));
	ret = dvsm_store_zero_edges(region, start, end, &first, &last);
	if (ret)
		return ret;
	if (first < last) {
		/* What a fault maps meanwhile the core finds in this inode's mappings alone. */
		if (region->anchor)
			dvsm_store_walk(region, first >> PAGE_SHIFT, last >> PAGE_SHIFT,
					dvsm_folio_settle, &written);
		dvsm_region_unmap(region, first, last - first);
		truncate_inode_pages_range(mapping, first, last - 1);
	}
	dvsm_account_settle(region);
	return before - mapping->nrpages;
}

/**
 * dvsm_region_discard - Give the memory of a range back.
 * @region: the region
 * @start: first byte
 * @end: the byte after the last, in the region
 * @discarded: gets the bytes that were freed; may be NULL
 *
 * Context: process; may sleep; no dvsm lock held.
 * Return: 0; -EBUSY where it is pinned; -EINTR after a fatal signal; -ENOMEM or
 * -ENOSPC where snapshots share a part of a chunk; -EHWPOISON for a part of a folio
 * with a lost page.
 */
int dvsm_region_discard(struct dvsm_region *region, loff_t start, loff_t end, u64 *discarded)
{
	unsigned long nr_pages = 0;
	loff_t at = start;
	int ret = 0;

	if (region->flags & DVSM_REGION_F_PINNED)
		return -EBUSY;
	while (at < end && !ret) {
		pgoff_t next = dvsm_content_next(region, at >> PAGE_SHIFT);
		loff_t step;

		/* All of a chunk if all of it is wanted, holes or not. */
		at = max(at, round_down((loff_t)next << PAGE_SHIFT, DVSM_CHUNK_SIZE));
		if (at >= end)
			break;
		step = min_t(loff_t, end, round_down(at, DVSM_DISCARD_STEP) + DVSM_DISCARD_STEP);
		down_write(&region->family->lock);
		if (dvsm_range_is_pinned(region, at, step))
			ret = -EBUSY;
		else
			ret = dvsm_content_discard(region, at, step, &nr_pages);
		up_write(&region->family->lock);
		at = step;
		if (!ret && dvsm_shall_stop())
			ret = -EINTR;
		cond_resched();
	}
	if (discarded)
		*discarded = (u64)nr_pages << PAGE_SHIFT;
	trace_dvsm_discard(region->id, start >> PAGE_SHIFT, end >> PAGE_SHIFT, nr_pages, ret);
	return ret;
}
