// SPDX-License-Identifier: GPL-2.0-only
/*
 * Restore and merge: one region reads what another one reads. Nothing is copied but
 * pages of chunks that both have written, or that a device may be writing to: folios stay
 * where they are, and shares say who reads them.
 */
#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "dvsm.h"
#include "snapshot.h"
#include "trace.h"

#define DVSM_IN_USE_TRIES	4U	/* looks until who holds a folio is not only passing by */

/*
 * Whether anybody uses what a region reads alone, @store's folios, in no mapping any more, after
 * so many looks. To unmap once more also empties this CPU's batch of pages that were mlocked.
 */
static bool dvsm_store_chunk_is_in_use(struct dvsm_region *region, struct dvsm_region *store,
				       u64 chunk, unsigned int nr_tries)
{
	for (;;) {
		dvsm_content_unmap(region, chunk);
		if (!dvsm_store_chunk_is_referenced(store, chunk, NULL))
			return false;
		if (!--nr_tries)
			return true;
		usleep_range(500, 1000);
	}
}

/**
 * dvsm_snapshot_try_again - Whether a command that was busy may have success now.
 * @ret: its answer, with nothing changed
 * @nr_tries: how often it was tried before, 0 at first
 *
 * Whoever waited for the family in the middle of a fault kept a folio busy, and goes on now.
 *
 * Context: process; no dvsm lock held.
 * Return: whether to try once more.
 */
bool dvsm_snapshot_try_again(int ret, unsigned int *nr_tries)
{
	if (ret != -EBUSY || ++*nr_tries == 5 || dvsm_is_interrupted())
		return false;
	usleep_range(500, 1000);
	return true;
}

/**
 * dvsm_snapshot_hold - Make sure that a snapshot's contents do not change.
 * @snapshot: the snapshot
 * @chunk: where it has any
 *
 * It goes on reading them: they have to be a share, and whoever writes to them from here on
 * has to take a fault.
 *
 * Context: the family is locked for writing.
 * Return: 0; -ENOMEM; -EIO and -EHWPOISON for contents that were lost; -EBUSY if a device may be
 * writing.
 */
int dvsm_snapshot_hold(struct dvsm_region *snapshot, u64 chunk)
{
	struct dvsm_share *share = dvsm_share_make(snapshot, chunk);

	if (!share)
		return -ENOMEM;
	if (!share->store)
		return -EIO;
	/* Nobody writes to what others read. */
	if (!dvsm_share_is_alone(share))
		return 0;
	if (!dvsm_store_chunk_is_in_use(snapshot, share->store, chunk, DVSM_IN_USE_TRIES))
		return 0;
	return dvsm_store_chunk_is_poisoned(share->store, chunk) ? -EHWPOISON : -EBUSY;
}

static bool dvsm_folio_is_lost_huge(struct folio *folio, void *arg)
{
	return folio_test_large(folio) && dvsm_folio_is_poisoned(folio);
}

/* Whether a device may be writing to what a region has alone, and is to lose. */
static bool dvsm_content_is_in_use(struct dvsm_region *region, u64 chunk, unsigned int nr_tries)
{
	struct dvsm_share *share = dvsm_share_of(region, chunk);
	struct dvsm_region *store = share ? share->store : region;

	/*
	 * Nobody writes to what others read. Of a huge folio that the hardware lost a page of
	 * the core keeps a reference.
	 */
	if (!store || (share && !dvsm_share_is_alone(share)) ||
	    dvsm_store_walk_chunk(store, chunk, dvsm_folio_is_lost_huge, NULL))
		return false;
	return dvsm_store_chunk_is_in_use(region, store, chunk, nr_tries);
}

/*
 * Make sure that dvsm_adopt() of this chunk cannot fail: @from's contents are a
 * share that nobody writes to, and both have links. One is a snapshot of the other.
 */
static int dvsm_adopt_prepare(struct dvsm_region *region, struct dvsm_region *from, u64 chunk)
{
	struct dvsm_share *share = dvsm_share_of(from, chunk);
	loff_t start = (loff_t)chunk << DVSM_CHUNK_SHIFT;

	if (dvsm_range_is_pinned(region, start, start + DVSM_CHUNK_SIZE))
		return -EBUSY;
	/* Nothing is adopted as nothing, unless others read what lies in the region's place. */
	if (!share && !dvsm_store_chunk_is_resident(from, chunk) &&
	    !dvsm_link_lends_to_others(xa_load(&region->links, chunk)))
		return 0;
	share = dvsm_share_make(from, chunk);
	if (!share || !dvsm_link_make(region, chunk))
		return -ENOMEM;
	if (!share->store)
		return -EIO;
	if (dvsm_is_interrupted())
		return -EINTR;
	dvsm_share_set_terms(share, region->parent_id == from->id ? &region->terms : &from->terms);
	if (!dvsm_share_is_alone(share))
		return 0;
	return dvsm_store_chunk_is_in_use(from, share->store, chunk, DVSM_IN_USE_TRIES) ? -EBUSY :
											  0;
}

/* Make @region read what @from reads at @chunk. */
static int dvsm_adopt(struct dvsm_region *region, struct dvsm_region *from, u64 chunk)
{
	struct dvsm_share *share = dvsm_share_of(from, chunk);
	struct dvsm_link *link;

	/* For the rebase, which looks at marked links: these may be new. */
	xa_set_mark(&region->links, chunk, DVSM_LINK_DIVERGED);
	xa_set_mark(&from->links, chunk, DVSM_LINK_DIVERGED);
	if (!share)
		return dvsm_content_make_hole(region, chunk);
	link = xa_load(&region->links, chunk);
	dvsm_content_unmap(region, chunk);
	/* Snapshots that found zeroes here, whoever held them, have no link to be marked. */
	if (!dvsm_content_is_written(region, chunk))
		dvsm_family_note_first(region->family, chunk);
	if (link->content)
		dvsm_share_diverge(link);
	else
		dvsm_store_empty_chunk(region, chunk);
	dvsm_share_switch(link, share);
	return 0;
}

/*
 * The region reads what the snapshot, whose link this is, reads: from here the two
 * start anew. No base stands for zeroes, whoever holds them.
 */
static void dvsm_rebase(struct dvsm_region *region, struct dvsm_link *link)
{
	bool written = dvsm_content_is_written(region, link->chunk);

	dvsm_link_set_base(link, written ? link->content : NULL);
	/* What was copied differs as far as identity tells, and the link may be new. */
	if (dvsm_nr_pages_differing(region, link->region, link->chunk))
		xa_set_mark(&link->region->links, link->chunk, DVSM_LINK_DIVERGED);
	else
		xa_clear_mark(&link->region->links, link->chunk, DVSM_LINK_DIVERGED);
	dvsm_link_prune(link->region, link->chunk);
}

/**
 * dvsm_snapshot_advance - Let a snapshot read what its parent reads now.
 * @snapshot: the snapshot
 * @parent: its parent
 * @chunk: where
 *
 * To be rebased afterwards.
 *
 * Context: the family is locked for writing.
 * Return: 0; -EBUSY, -ENOMEM, -EIO, -EINTR with nothing changed.
 */
int dvsm_snapshot_advance(struct dvsm_region *snapshot, struct dvsm_region *parent, u64 chunk)
{
	int ret;

	if (dvsm_content_is_in_use(snapshot, chunk, DVSM_IN_USE_TRIES))
		return -EBUSY;
	ret = dvsm_adopt_prepare(snapshot, parent, chunk);
	return ret ? ret : dvsm_adopt(snapshot, parent, chunk);
}

/**
 * dvsm_snapshot_rebase - Let a snapshot and its parent start anew, from what both read.
 * @snapshot: the snapshot
 * @parent: its parent, which reads the same
 * @changed: what dvsm_snapshot_changed() said before that was made so
 * @first: chunk
 * @end: the chunk after the last
 *
 * Context: the family is locked for writing.
 */
void dvsm_snapshot_rebase(struct dvsm_region *snapshot, struct dvsm_region *parent,
			  xa_mark_t changed, u64 first, u64 end)
{
	unsigned long chunk = first;
	struct dvsm_link *link;

	if (first >= end)
		return;
	for (link = xa_find(&snapshot->links, &chunk, end - 1, changed); link;
	     link = xa_find_after(&snapshot->links, &chunk, end - 1, changed)) {
		dvsm_rebase(parent, link);
		cond_resched();
	}
}

/* Which pages @region has written at @chunk since it read @base there. */
static void dvsm_pages_written(struct dvsm_pages *pages, struct dvsm_region *region,
			       struct dvsm_share *base, u64 chunk)
{
	struct dvsm_share *share = dvsm_share_of(region, chunk);

	bitmap_zero(pages->bits, DVSM_CHUNK_PAGES);
	if (base && share)
		dvsm_pages_add_above(pages, share, base);
	else if (base || dvsm_content_is_written(region, chunk))
		bitmap_fill(pages->bits, DVSM_CHUNK_PAGES);
}

/* What is to be done at one chunk. */
struct dvsm_merge_chunk {
	u64 chunk;
	struct dvsm_pages theirs;	/* that the snapshot has written */
	struct dvsm_pages ours;		/* that the region has written */
	struct dvsm_pages conflicts;
	struct dvsm_pages wanted;	/* that the region is to get */
};

/* What the region has alone and somebody holds is copied into only after so many tries. */
#define DVSM_MERGE_TRIES_PATIENT	2U

/* A merge, or a restore: all that differs is wanted then, and there are no conflicts. */
struct dvsm_merge {
	struct dvsm_region *region;
	struct dvsm_region *snapshot;
	bool restores;
	unsigned int nr_tries;		/* before this one */
	u32 flags;
	struct dvsm_ranges conflicts;
	unsigned int nr_conflicts;	/* ranges, also those that are not wanted */
	u64 last_conflict;		/* where the last of them ends */
	u64 nr_merged;			/* pages */
	struct dvsm_merge_chunk at;	/* that is being looked at */
	struct xarray copied;		/* by chunk: struct dvsm_pages to copy; other chunks are
					 * adopted. To be asked from the first on that is prepared:
					 * what is prepared counts as written by the region
					 */
	struct page *scratch;		/* for a page on its way */
};

static void dvsm_merge_look(struct dvsm_merge *merge, u64 chunk, struct dvsm_merge_chunk *at)
{
	struct dvsm_link *link = xa_load(&merge->snapshot->links, chunk);
	struct dvsm_share *base = link ? link->base : NULL;

	at->chunk = chunk;
	if (merge->restores) {
		dvsm_pages_differ(&at->wanted, merge->region, merge->snapshot, chunk);
		at->theirs = at->wanted;
		bitmap_zero(at->ours.bits, DVSM_CHUNK_PAGES);
		return;
	}
	dvsm_pages_written(&at->theirs, merge->snapshot, base, chunk);
	dvsm_pages_written(&at->ours, merge->region, base, chunk);
	bitmap_and(at->conflicts.bits, at->theirs.bits, at->ours.bits, DVSM_CHUNK_PAGES);
	at->wanted = at->theirs;
	if (merge->flags & DVSM_MERGE_F_PARENT_WINS)
		bitmap_andnot(at->wanted.bits, at->theirs.bits, at->ours.bits, DVSM_CHUNK_PAGES);
}

/* Whether the region may read the snapshot's contents, because it loses nothing. */
static bool dvsm_merge_is_adoption(const struct dvsm_merge_chunk *at)
{
	return bitmap_equal(at->wanted.bits, at->theirs.bits, DVSM_CHUNK_PAGES) &&
	       bitmap_subset(at->ours.bits, at->wanted.bits, DVSM_CHUNK_PAGES);
}

static int dvsm_merge_note(struct dvsm_merge *merge, u64 offset, u64 length)
{
	if (!merge->nr_conflicts || merge->last_conflict != offset)
		merge->nr_conflicts++;
	merge->last_conflict = offset + length;
	if (merge->nr_conflicts > merge->conflicts.nr_max)
		return 0;
	return dvsm_ranges_add(&merge->conflicts, offset, length);
}

/* The next chunk that may be wanted. */
static u64 dvsm_merge_next_chunk(const struct dvsm_merge *merge, u64 chunk)
{
	if (merge->restores || dvsm_snapshot_is_tracked(merge->snapshot))
		return dvsm_next_chunk_differing(merge->region, merge->snapshot, chunk);
	return dvsm_content_next_chunk(merge->snapshot, chunk);
}

/* Call @fn for every chunk of what was taken that the snapshot has written, or that differs. */
static int dvsm_merge_each(struct dvsm_merge *merge,
			   int (*fn)(struct dvsm_merge *merge, struct dvsm_merge_chunk *at))
{
	struct dvsm_span span = merge->snapshot->taken;
	struct dvsm_merge_chunk *at = &merge->at;
	u64 chunk;
	int ret = 0;

	for (chunk = dvsm_merge_next_chunk(merge, span.first); chunk < span.end && !ret;
	     chunk = dvsm_merge_next_chunk(merge, chunk + 1)) {
		cond_resched();
		dvsm_merge_look(merge, chunk, at);
		if (!dvsm_pages_are_none(&at->theirs))
			ret = fn(merge, at);
	}
	return ret;
}

static int dvsm_merge_find_conflict(struct dvsm_merge *merge, struct dvsm_merge_chunk *at)
{
	u64 length = merge->region->length;
	unsigned int from = 0, nr;
	int ret = 0;

	if (dvsm_is_interrupted())
		return -EINTR;
	while (!ret && (nr = dvsm_pages_next_run(&at->conflicts, &from))) {
		u64 offset = (at->chunk << DVSM_CHUNK_SHIFT) + ((u64)from << PAGE_SHIFT);

		if (offset >= length)
			break;
		ret = dvsm_merge_note(merge, offset,
				      min_t(u64, (u64)nr << PAGE_SHIFT, length - offset));
		from += nr;
	}
	return ret;
}

static const struct dvsm_placing dvsm_merge_placing = { .here = NUMA_NO_NODE };

/* The region's page for writing, which nobody else reads; locked and referenced. */
static struct folio *dvsm_merge_page(struct dvsm_merge *merge, pgoff_t index)
{
	struct dvsm_link *link = xa_load(&merge->region->links, dvsm_page_chunk(index));
	int ret = 0;

	if (link && link->content)
		ret = dvsm_share_break(link, index, NULL);
	if (ret)
		return ERR_PTR(ret);
	link = xa_load(&merge->region->links, dvsm_page_chunk(index));
	return dvsm_store_get_locked(link && link->content ? link->content->store : merge->region,
				     index, &dvsm_merge_placing, NULL);
}

/* Call @fn for each page that the region is to get. Its own pages are unmapped. */
static int dvsm_merge_each_page(struct dvsm_merge *merge, const struct dvsm_merge_chunk *at,
				int (*fn)(struct dvsm_merge *merge, pgoff_t index))
{
	unsigned int nth;
	int ret = 0;

	dvsm_content_unmap(merge->region, at->chunk);
	for_each_set_bit(nth, at->wanted.bits, DVSM_CHUNK_PAGES) {
		pgoff_t index = (at->chunk << DVSM_CHUNK_ORDER) + nth;

		if (index < merge->region->nr_pages)
			ret = fn(merge, index);
		if (ret)
			break;
	}
	return ret;
}

static int dvsm_merge_prepare_page(struct dvsm_merge *merge, pgoff_t index)
{
	struct folio *folio = dvsm_merge_page(merge, index);

	if (IS_ERR(folio))
		return PTR_ERR(folio) == -EDQUOT ? -ENOMEM : PTR_ERR(folio);
	folio_unlock(folio);
	folio_put(folio);
	return 0;
}

static int dvsm_merge_plan(struct dvsm_merge *merge, const struct dvsm_merge_chunk *at)
{
	struct dvsm_pages *pages = kmemdup(&at->wanted, sizeof(*pages), DVSM_GFP);
	int ret;

	if (!pages)
		return -ENOMEM;
	ret = xa_err(xa_store(&merge->copied, at->chunk, pages, DVSM_GFP));
	if (ret)
		kfree(pages);
	return ret;
}

static int dvsm_merge_check_page(struct dvsm_region *region, pgoff_t index)
{
	struct dvsm_share *share = dvsm_share_of(region, dvsm_page_chunk(index));
	struct folio *folio;
	int ret = 0;

	if (share)
		return dvsm_share_check_page(share, index);
	folio = filemap_get_folio(region->inode->i_mapping, index);
	if (IS_ERR(folio))
		return 0;
	if (dvsm_folio_page_is_poisoned(folio, index))
		ret = -EHWPOISON;
	folio_put(folio);
	return ret;
}

/* What is to be copied, and what it is to replace, can be read. */
static int dvsm_merge_check_pages(struct dvsm_merge *merge, const struct dvsm_merge_chunk *at)
{
	unsigned int nth;
	int ret = 0;

	for_each_set_bit(nth, at->wanted.bits, DVSM_CHUNK_PAGES) {
		pgoff_t index = (at->chunk << DVSM_CHUNK_ORDER) + nth;

		if (index >= merge->region->nr_pages)
			break;
		ret = dvsm_merge_check_page(merge->snapshot, index);
		if (!ret)
			ret = dvsm_merge_check_page(merge->region, index);
		if (ret)
			break;
	}
	return ret;
}

/* All that may refuse a merge but a lack of memory. Nothing reads or counts differently then. */
static int dvsm_merge_check(struct dvsm_merge *merge, struct dvsm_merge_chunk *at)
{
	loff_t start = (loff_t)at->chunk << DVSM_CHUNK_SHIFT;
	bool patient = merge->nr_tries < DVSM_MERGE_TRIES_PATIENT;
	int ret;

	if (dvsm_pages_are_none(&at->wanted))
		return 0;
	if (dvsm_range_is_pinned(merge->region, start, start + DVSM_CHUNK_SIZE))
		return -EBUSY;
	if (dvsm_is_interrupted())
		return -EINTR;
	if (dvsm_merge_is_adoption(at)) {
		if (!dvsm_content_is_in_use(merge->region, at->chunk,
					    patient ? DVSM_IN_USE_TRIES : 1))
			return dvsm_adopt_prepare(merge->region, merge->snapshot, at->chunk);
		if (patient)
			return -EBUSY;
	}
	/* A device that holds the region's folios goes on writing to what all see: they stay. */
	ret = dvsm_snapshot_hold(merge->snapshot, at->chunk);
	if (!ret)
		ret = dvsm_merge_check_pages(merge, at);
	return ret ? ret : dvsm_merge_plan(merge, at);
}

static int dvsm_merge_prepare(struct dvsm_merge *merge, struct dvsm_merge_chunk *at)
{
	struct dvsm_pages *copied = xa_load(&merge->copied, at->chunk);

	if (!copied)
		return 0;
	if (dvsm_shall_stop())
		return -EINTR;
	at->wanted = *copied;
	return dvsm_merge_each_page(merge, at, dvsm_merge_prepare_page);
}

static int dvsm_merge_copy_page(struct dvsm_merge *merge, pgoff_t index)
{
	struct dvsm_share *share = dvsm_share_of(merge->snapshot, dvsm_page_chunk(index));
	struct folio *dst = dvsm_merge_page(merge, index);
	int ret;

	if (IS_ERR(dst))
		return PTR_ERR(dst);
	dvsm_folio_mark_written(merge->region, dst);
	ret = dvsm_share_copy_page(share, index, dst, merge->scratch);
	folio_unlock(dst);
	folio_put(dst);
	return ret;
}

static int dvsm_merge_adopt(struct dvsm_merge *merge, struct dvsm_merge_chunk *at)
{
	struct dvsm_pages *copied = xa_load(&merge->copied, at->chunk);
	struct dvsm_link *link;
	int ret = 0;

	if (copied) {
		at->wanted = *copied;
		ret = dvsm_merge_each_page(merge, at, dvsm_merge_copy_page);
	} else if (!dvsm_pages_are_none(&at->wanted)) {
		ret = dvsm_adopt(merge->region, merge->snapshot, at->chunk);
	}
	if (ret)
		return ret;
	link = xa_load(&merge->snapshot->links, at->chunk);
	if (link && !dvsm_pages_are_none(&at->wanted))
		dvsm_rebase(merge->region, link);
	merge->nr_merged += bitmap_weight(at->wanted.bits,
					  dvsm_chunk_pages(at->chunk, merge->region->nr_pages));
	return 0;
}

static int dvsm_merge_carry_out(struct dvsm_merge *merge)
{
	int ret = dvsm_merge_each(merge, dvsm_merge_check);

	if (!ret)
		ret = dvsm_merge_each(merge, dvsm_merge_prepare);
	if (!ret)
		ret = dvsm_merge_each(merge, dvsm_merge_adopt);
	return ret;
}

static int dvsm_merge_locked(struct dvsm_merge *merge)
{
	int ret = dvsm_merge_each(merge, dvsm_merge_find_conflict);

	if (!ret && merge->nr_conflicts && !merge->flags)
		ret = -EAGAIN;
	return ret ? ret : dvsm_merge_carry_out(merge);
}

static int dvsm_restore_locked(struct dvsm_merge *merge)
{
	struct dvsm_region *snapshot = merge->snapshot;
	xa_mark_t changed = dvsm_snapshot_changed(snapshot);
	int ret = dvsm_merge_carry_out(merge);

	if (ret)
		return ret;
	dvsm_snapshot_rebase(snapshot, merge->region, changed, snapshot->taken.first,
			     snapshot->taken.end);
	dvsm_snapshot_track(snapshot);
	return 0;
}

static int dvsm_merge_once(struct dvsm_merge *merge)
{
	struct dvsm_family *family = merge->region->family;
	struct dvsm_pages *pages;
	unsigned long chunk;
	int ret;

	merge->conflicts.nr = 0;
	merge->nr_conflicts = 0;
	merge->nr_merged = 0;
	if (down_write_killable(&family->lock))
		return -EINTR;
	ret = merge->restores ? dvsm_restore_locked(merge) : dvsm_merge_locked(merge);
	up_write(&family->lock);
	xa_for_each(&merge->copied, chunk, pages)
		kfree(pages);
	xa_destroy(&merge->copied);
	return ret;
}

static int dvsm_merge_run(struct dvsm_merge *merge)
{
	int ret;

	xa_init_flags(&merge->copied, XA_FLAGS_ACCOUNT);
	merge->scratch = alloc_page(DVSM_GFP);
	if (!merge->scratch)
		return -ENOMEM;
	do
		ret = dvsm_merge_once(merge);
	while (dvsm_snapshot_try_again(ret, &merge->nr_tries));
	__free_page(merge->scratch);
	return ret;
}

/**
 * dvsm_snapshot_restore - DVSM_IOC_SNAPSHOT_RESTORE.
 * @region: the region
 * @snapshot: one taken from it
 * @arg: the command's argument
 *
 * Context: process.
 * Return: 0; -ENOMEM, -ENOSPC, -EBUSY, -EIO, -EINTR, -EHWPOISON with nothing that reads
 * differently; -EHWPOISON, too, with what was restored before a page that was lost since it was
 * checked.
 */
int dvsm_snapshot_restore(struct dvsm_region *region, struct dvsm_region *snapshot,
			  struct dvsm_snapshot_restore *arg)
{
	struct dvsm_merge merge = { .region = region, .snapshot = snapshot, .restores = true };
	int ret;

	if (region->flags & DVSM_REGION_F_REGISTRABLE)
		ret = dvsm_snapshot_overwrite(region, snapshot, &merge.nr_merged);
	else
		ret = dvsm_merge_run(&merge);
	arg->out_restored = merge.nr_merged << PAGE_SHIFT;
	trace_dvsm_snapshot_restore(region->id, snapshot->id, arg->out_restored, ret);
	return ret;
}

/**
 * dvsm_snapshot_merge - DVSM_IOC_SNAPSHOT_MERGE.
 * @region: the region
 * @snapshot: one taken from it
 * @arg: the command's argument
 *
 * Context: process.
 * Return: 0; -EAGAIN, -EBUSY, -EIO, -EHWPOISON with nothing changed; -ENOMEM, -ENOSPC,
 * -EINTR with nothing that reads differently, but pages that were made ready may count as
 * written by the region; -EHWPOISON, too, with pages merged before one that was lost since
 * it was checked, and no others; -EFAULT.
 */
int dvsm_snapshot_merge(struct dvsm_region *region, struct dvsm_region *snapshot,
			struct dvsm_snapshot_merge *arg)
{
	struct dvsm_range __user *user = u64_to_user_ptr(arg->conflicts);
	struct dvsm_merge merge = {
		.region = region,
		.snapshot = snapshot,
		.flags = arg->flags,
		.conflicts.nr_max = arg->nr_conflicts,
	};
	int ret = dvsm_merge_run(&merge);

	atomic_long_add(!ret, &region->stats.nr_merges);
	atomic_long_add(merge.nr_conflicts, &region->stats.nr_conflicts);
	arg->out_merged = merge.nr_merged << PAGE_SHIFT;
	if (copy_to_user(user, merge.conflicts.ranges, merge.conflicts.nr * sizeof(*user)))
		ret = -EFAULT;
	kvfree(merge.conflicts.ranges);
	arg->out_nr_conflicts = merge.nr_conflicts;
	trace_dvsm_snapshot_merge(region->id, snapshot->id, arg->out_merged, merge.nr_conflicts,
				  ret);
	return ret;
}
