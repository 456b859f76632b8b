// SPDX-License-Identifier: GPL-2.0-only
/*
 * Restoring a region that devices may write to without a fault: its folios stay where they
 * are, and get the snapshot's contents by a copy.
 */
#include <linux/highmem.h>
#include <linux/pagemap.h>

#include "dvsm.h"
#include "snapshot.h"

/* The region has folios of its own for all of a chunk. */
static int dvsm_overwrite_fill(struct dvsm_region *region, u64 chunk)
{
	const struct dvsm_placing placing = { .here = NUMA_NO_NODE };
	pgoff_t index = chunk << DVSM_CHUNK_ORDER;
	pgoff_t end = index + dvsm_chunk_pages(chunk, region->nr_pages);

	while (index < end) {
		struct folio *folio = dvsm_store_get_locked(region, index, &placing, NULL);

		if (IS_ERR(folio))
			return PTR_ERR(folio) == -EDQUOT ? -ENOMEM : PTR_ERR(folio);
		index = folio_next_index(folio);
		folio_unlock(folio);
		folio_put(folio);
		cond_resched();
	}
	return 0;
}

static int dvsm_overwrite_check(struct dvsm_region *snapshot, u64 chunk)
{
	struct dvsm_share *share = dvsm_share_of(snapshot, chunk);
	pgoff_t index = chunk << DVSM_CHUNK_ORDER;
	pgoff_t end = index + dvsm_chunk_pages(chunk, snapshot->nr_pages);
	int ret = 0;

	for (; index < end && !ret; index++) {
		ret = dvsm_share_check_page(share, index);
		cond_resched();
	}
	return ret;
}

/* All that may refuse it. Whoever is about to map something of the region has done so. */
static int dvsm_overwrite_prepare(struct dvsm_region *region, struct dvsm_region *snapshot,
				  u64 chunk)
{
	int ret;

	if (dvsm_is_interrupted())
		return -EINTR;
	dvsm_store_settle_chunk(region, chunk);
	if (dvsm_store_chunk_is_poisoned(region, chunk))
		return -EHWPOISON;
	/* What is nothing but zeroes takes no memory. */
	if (!dvsm_content_is_written(snapshot, chunk))
		return 0;
	ret = dvsm_snapshot_hold(snapshot, chunk);
	if (!ret)
		ret = dvsm_overwrite_check(snapshot, chunk);
	return ret ? ret : dvsm_overwrite_fill(region, chunk);
}

static bool dvsm_folio_clear(struct folio *folio, void *arg)
{
	folio_lock(folio);
	folio_zero_range(folio, 0, folio_size(folio));
	folio_unlock(folio);
	return false;
}

static int dvsm_overwrite_chunk(struct dvsm_region *region, struct dvsm_region *snapshot,
				u64 chunk)
{
	struct dvsm_placing placing = { .here = NUMA_NO_NODE };
	pgoff_t at = chunk << DVSM_CHUNK_ORDER;

	if (dvsm_content_is_written(snapshot, chunk))
		return dvsm_share_copy_pages(dvsm_share_of(snapshot, chunk), &at,
					     at + dvsm_chunk_pages(chunk, region->nr_pages),
					     region, &placing);
	dvsm_store_walk_chunk(region, chunk, dvsm_folio_clear, NULL);
	return 0;
}

/* Call @fn for every chunk of what was taken that either has memory for, and count pages. */
static int dvsm_overwrite_each(struct dvsm_region *region, struct dvsm_region *snapshot,
			       int (*fn)(struct dvsm_region *region, struct dvsm_region *snapshot,
					 u64 chunk),
			       u64 *nr_pages)
{
	u64 chunk, end = snapshot->taken.end;
	int ret = 0;

	*nr_pages = 0;
	for (chunk = snapshot->taken.first; !ret; chunk++) {
		chunk = min(dvsm_content_next_chunk(region, chunk),
			    dvsm_content_next_chunk(snapshot, chunk));
		if (chunk >= end)
			break;
		ret = fn(region, snapshot, chunk);
		cond_resched();
		if (!ret)
			*nr_pages += dvsm_chunk_pages(chunk, region->nr_pages);
	}
	return ret;
}

static int dvsm_overwrite_locked(struct dvsm_region *region, struct dvsm_region *snapshot,
				 u64 *nr_pages)
{
	int ret = dvsm_overwrite_each(region, snapshot, dvsm_overwrite_prepare, nr_pages);

	if (ret || !*nr_pages) {
		*nr_pages = 0;
		return ret;
	}
	dvsm_region_unmap(region, (loff_t)snapshot->taken.first << DVSM_CHUNK_SHIFT,
			  (loff_t)(snapshot->taken.end - snapshot->taken.first) << DVSM_CHUNK_SHIFT);
	return dvsm_overwrite_each(region, snapshot, dvsm_overwrite_chunk, nr_pages);
}

/**
 * dvsm_snapshot_overwrite - Copy to a registrable region what a snapshot of it reads.
 * @region: the region
 * @snapshot: the snapshot
 * @nr_pages: gets how many were copied
 *
 * Who maps the region waits. Devices do not: what they write meanwhile may stay.
 *
 * Context: process; no dvsm lock held.
 * Return: 0; -ENOMEM, -ENOSPC, -EBUSY, -EIO, -EINTR, -EHWPOISON with nothing changed;
 * -EHWPOISON, too, for a page of the snapshot's that is lost meanwhile: what lies before it
 * is restored.
 */
int dvsm_snapshot_overwrite(struct dvsm_region *region, struct dvsm_region *snapshot,
			    u64 *nr_pages)
{
	unsigned int nr_tries = 0;
	int ret;

	*nr_pages = 0;
	do {
		if (down_write_killable(&region->family->lock))
			return -EINTR;
		ret = dvsm_overwrite_locked(region, snapshot, nr_pages);
		up_write(&region->family->lock);
	} while (dvsm_snapshot_try_again(ret, &nr_tries));
	return ret;
}
