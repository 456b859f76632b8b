// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who shares which contents with whom.
 *
 * Contents of a chunk are somebody's folios at that chunk's place in a page
 * cache. A region without a link for a chunk has its own contents, in its own
 * page cache, or a hole. A link says otherwise:
 *
 *   link->content   the share that the region reads, NULL: its own contents
 *   link->base      the share that a snapshot started from; an identity only,
 *                   kept to tell who has written since
 *   link->lent      the share whose folios lie in this region's page cache
 *
 * A share is contents that one or more regions read. It never changes while it
 * has two members or more, or is under another share: all mappings are read-only,
 * and a member who wants to write breaks away first.
 *
 * Breaking away copies the chunk, or, where the snapshot asked for it, a part. Then
 * the writer gets a share that has that part alone and is over the old one: what it
 * does not have is read below. The next part goes there too, as long as nobody else
 * reads it; when a snapshot of that is taken, the next write begins one more share
 * above. No more than DVSM_SHARE_DEPTH_MAX lie on one another: then the chunk is
 * copied. A share that is under one other and read by nobody else takes the other's
 * parts back, and the chunk is whole again. Invariants:
 *
 *  - share->members are the links whose content it is; share->store's link for
 *    the chunk has lent == share; both at the same chunk number everywhere,
 *    because newer kernels compare a folio's index with the mapping's length.
 *  - Without content, lent is NULL too: own contents and lent ones never share a
 *    place.
 *  - A share's folios are mapped by members only, its own and those of shares over
 *    it.
 *  - Who has a page of a share mapped that he may not write to has link->seen, or
 *    it was unmapped when the share began.
 *  - A share with parts has no folio where it has no part.
 *  - The store's inode is held by the share, so a region may end before the
 *    contents it lent.
 *
 * All of this changes with the family locked for writing, or locked for reading
 * and the chunk's mutex held.
 */
#include <linux/bitmap.h>
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "dvsm.h"
#include "share.h"
#include "trace.h"

static struct kmem_cache *dvsm_share_cache;
static struct kmem_cache *dvsm_link_cache;

/**
 * dvsm_share_init - Make the caches.
 *
 * Context: module initialisation.
 * Return: 0 or -ENOMEM.
 */
int dvsm_share_init(void)
{
	dvsm_share_cache = KMEM_CACHE(dvsm_share, SLAB_ACCOUNT);
	dvsm_link_cache = KMEM_CACHE(dvsm_link, SLAB_ACCOUNT);
	if (dvsm_share_cache && dvsm_link_cache)
		return 0;
	dvsm_share_exit();
	return -ENOMEM;
}

/**
 * dvsm_share_exit - Undo dvsm_share_init().
 *
 * Context: module exit; no region is left.
 */
void dvsm_share_exit(void)
{
	kmem_cache_destroy(dvsm_share_cache);
	kmem_cache_destroy(dvsm_link_cache);
}

/**
 * dvsm_link_make - The link of a region for a chunk, made if there is none.
 * @region: the region
 * @chunk: the chunk
 *
 * Context: sharing may change.
 * Return: the link, or NULL without memory.
 */
struct dvsm_link *dvsm_link_make(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_link *link = xa_load(&region->links, chunk);

	if (link)
		return link;
	link = kmem_cache_zalloc(dvsm_link_cache, GFP_KERNEL);
	if (!link)
		return NULL;
	link->region = region;
	link->chunk = chunk;
	if (xa_err(xa_store(&region->links, chunk, link, GFP_KERNEL))) {
		kmem_cache_free(dvsm_link_cache, link);
		return NULL;
	}
	return link;
}

/**
 * dvsm_link_prune - Free a link that says nothing.
 * @region: the region
 * @chunk: the chunk
 *
 * Context: sharing may change.
 */
void dvsm_link_prune(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_link *link = xa_load(&region->links, chunk);

	if (!link || link->content || link->base || link->lent)
		return;
	xa_erase(&region->links, chunk);
	kmem_cache_free(dvsm_link_cache, link);
}

static void dvsm_share_free_if_unused(struct dvsm_share *share)
{
	if (share->nr_members || share->nr_overs || share->nr_bases)
		return;
	bitmap_free(share->parts);
	kmem_cache_free(dvsm_share_cache, share);
}

/* The contents are no longer lent: the store owns the folios, or they are freed. */
static void dvsm_share_end_store(struct dvsm_share *share, bool keep_folios)
{
	struct dvsm_region *store = share->store;
	struct dvsm_link *link;

	if (!store)
		return;
	link = xa_load(&store->links, share->chunk);
	link->lent = NULL;
	share->store = NULL;
	if (!keep_folios)
		dvsm_store_empty_chunk(store, share->chunk);
	dvsm_link_prune(store, share->chunk);
	iput(store->inode);
}

/* Nobody reads it any more: what it has is freed, and what is under it perhaps. */
static void dvsm_share_end_if_unread(struct dvsm_share *share)
{
	while (share && !share->nr_members && !share->nr_overs) {
		struct dvsm_share *under = share->under;

		dvsm_share_end_store(share, false);
		share->under = NULL;
		dvsm_share_free_if_unused(share);
		if (under)
			under->nr_overs--;
		share = under;
	}
}

/**
 * dvsm_share_create - Turn what a region has at a chunk's place into a share.
 * @link: the region's link
 *
 * Context: sharing may change.
 * Return: the share, which has no member yet, or NULL without memory.
 */
struct dvsm_share *dvsm_share_create(struct dvsm_link *link)
{
	struct dvsm_share *share = kmem_cache_zalloc(dvsm_share_cache, GFP_KERNEL);

	if (!share)
		return NULL;
	INIT_LIST_HEAD(&share->members);
	share->chunk = link->chunk;
	share->order = DVSM_CHUNK_ORDER;
	share->store = link->region;
	ihold(link->region->inode);
	link->lent = share;
	return share;
}

/**
 * dvsm_share_join - Make a region read a share.
 * @share: the share
 * @link: the region's link, without content
 *
 * Context: sharing may change.
 */
void dvsm_share_join(struct dvsm_share *share, struct dvsm_link *link)
{
	link->content = share;
	list_add(&link->member, &share->members);
	share->nr_members++;
}

static void dvsm_share_remove(struct dvsm_link *link)
{
	list_del(&link->member);
	link->content->nr_members--;
	link->content = NULL;
}

/**
 * dvsm_share_leave - Make a region read its share no longer.
 * @link: the region's link; its mappings of the chunk are gone
 *
 * Frees the contents when nobody else reads them. The region's own place in its
 * page cache may still be lent to others.
 *
 * Context: the family is locked for writing.
 */
void dvsm_share_leave(struct dvsm_link *link)
{
	struct dvsm_share *share = link->content;
	struct dvsm_region *region = link->region;
	u64 chunk = link->chunk;

	dvsm_share_remove(link);
	dvsm_share_end_if_unread(share);
	dvsm_link_prune(region, chunk);
}

/**
 * dvsm_share_switch - Make a region read another share.
 * @link: the region's link; its mappings of the chunk are gone, and its own
 *	folios if it had content of its own
 * @to: the share
 *
 * Context: the family is locked for writing.
 */
void dvsm_share_switch(struct dvsm_link *link, struct dvsm_share *to)
{
	struct dvsm_share *from = link->content;

	if (from)
		dvsm_share_remove(link);
	dvsm_share_join(to, link);
	dvsm_share_end_if_unread(from);
}

/* The only member whose own page cache holds the contents makes them its own. */
static void dvsm_share_become_own(struct dvsm_link *link)
{
	struct dvsm_share *share = link->content;

	dvsm_share_remove(link);
	dvsm_share_end_store(share, true);
	dvsm_share_free_if_unused(share);
}

/**
 * dvsm_link_set_base - Remember which share a snapshot started from.
 * @link: the snapshot's link
 * @share: the share, or NULL
 *
 * Context: the family is locked for writing.
 */
void dvsm_link_set_base(struct dvsm_link *link, struct dvsm_share *share)
{
	struct dvsm_share *old = link->base;

	if (share)
		share->nr_bases++;
	link->base = share;
	if (old) {
		old->nr_bases--;
		dvsm_share_free_if_unused(old);
	}
}

/**
 * dvsm_links_retire - Drop everything that a region reads.
 * @region: the region; nobody has it open
 *
 * What it lent stays.
 *
 * Context: the family is locked for writing.
 */
void dvsm_links_retire(struct dvsm_region *region)
{
	struct dvsm_link *link;
	unsigned long chunk;

	xa_for_each(&region->links, chunk, link) {
		if (link->base)
			dvsm_link_set_base(link, NULL);
		if (link->content)
			dvsm_share_leave(link);
		else
			dvsm_link_prune(region, chunk);
	}
}

/* A family's place for contents that belong to no open region alone. */
static struct dvsm_region *dvsm_share_hidden_store(struct dvsm_region *payer, u64 chunk)
{
	struct dvsm_family *family = payer->family;
	struct dvsm_region *region;

	mutex_lock(&family->hidden_lock);
	list_for_each_entry(region, &family->hidden, hidden)
		if (!xa_load(&region->links, chunk) && dvsm_region_is_hidden_for(region, payer))
			goto out;
	region = dvsm_region_create_hidden(payer);
	if (region)
		list_add(&region->hidden, &family->hidden);
out:
	mutex_unlock(&family->hidden_lock);
	return region;
}

/* A link in a hidden region, for @payer's contents of @chunk; NULL without memory. */
static struct dvsm_link *dvsm_share_hidden_place(struct dvsm_region *payer, u64 chunk)
{
	struct dvsm_region *store = dvsm_share_hidden_store(payer, chunk);

	return store ? dvsm_link_make(store, chunk) : NULL;
}

/* A share of nothing, in a hidden region; NULL without memory. */
static struct dvsm_share *dvsm_share_create_hidden(struct dvsm_region *payer, u64 chunk)
{
	struct dvsm_link *place = dvsm_share_hidden_place(payer, chunk);
	struct dvsm_share *share;

	if (!place)
		return NULL;
	share = dvsm_share_create(place);
	if (!share)
		dvsm_link_prune(place->region, chunk);
	return share;
}

/**
 * dvsm_share_leave_to_hole - Make a region whose place is lent read nothing.
 * @link: the region's link, with content; its mappings of the chunk are gone
 *
 * Context: the family is locked for writing.
 * Return: 0 or -ENOMEM.
 */
int dvsm_share_leave_to_hole(struct dvsm_link *link)
{
	struct dvsm_share *hole = dvsm_share_create_hidden(link->region, link->chunk);

	if (!hole)
		return -ENOMEM;
	dvsm_share_switch(link, hole);
	return 0;
}

/**
 * dvsm_share_find - The share that has a page.
 * @share: what is read
 * @index: the page
 *
 * Context: sharing may change.
 * Return: @share or one under it.
 */
struct dvsm_share *dvsm_share_find(struct dvsm_share *share, pgoff_t index)
{
	while (share->parts && !test_bit(index % DVSM_CHUNK_PAGES, share->parts))
		share = share->under;
	return share;
}

/**
 * dvsm_share_settle - Wait for faults that are about to map what a share reads.
 * @share: the share
 *
 * Context: sharing may change, so that nobody can begin such a fault.
 * Return: whether there may be anything but zeroes.
 */
bool dvsm_share_settle(struct dvsm_share *share)
{
	bool written = false;

	for (; share; share = share->under)
		written |= !share->store || dvsm_store_settle_chunk(share->store, share->chunk);
	return written;
}

/**
 * dvsm_share_unmap - Take a chunk out of all mappings of all who read a share.
 * @share: the share; none is over it
 *
 * Waits first for faults that hold one of its folios and are about to map it.
 *
 * Context: sharing may change, so nobody can begin such a fault.
 */
void dvsm_share_unmap(struct dvsm_share *share)
{
	struct dvsm_link *link;

	dvsm_share_settle(share);
	list_for_each_entry(link, &share->members, member)
		dvsm_store_unmap_chunk(link->region, link->chunk);
}

/* The page of @share at @index, with a reference: NULL for a hole, or an error. */
static struct folio *dvsm_share_peek(struct dvsm_share *share, pgoff_t index)
{
	struct folio *folio;

	share = dvsm_share_find(share, index);
	if (!share->store)
		return ERR_PTR(-EIO);
	folio = filemap_get_folio(share->store->inode->i_mapping, index);
	if (IS_ERR(folio))
		return NULL;
	if (dvsm_store_page_is_poisoned(folio, index)) {
		folio_put(folio);
		return ERR_PTR(-EHWPOISON);
	}
	return folio;
}

/**
 * dvsm_share_copy_page - Copy a page that a share reads.
 * @share: the share, or one over it
 * @index: the page
 * @dst: a folio that has the page too, locked, in no mapping
 *
 * Context: sharing may change.
 * Return: 0; -EHWPOISON, -EIO.
 */
int dvsm_share_copy_page(struct dvsm_share *share, pgoff_t index, struct folio *dst)
{
	struct folio *src = dvsm_share_peek(share, index);

	if (IS_ERR(src))
		return PTR_ERR(src);
	if (src) {
		copy_highpage(folio_page(dst, index - dst->index),
			      folio_page(src, index - src->index));
		folio_put(src);
	} else {
		clear_highpage(folio_page(dst, index - dst->index));
	}
	dvsm_folio_mark_written(dst);
	return 0;
}

/* Copy pages of what @share reads to the place of @target, where they get folios. */
static int dvsm_share_copy_pages(struct dvsm_share *share, pgoff_t start, pgoff_t end,
				 struct dvsm_region *target, struct dvsm_placing *placing)
{
	int ret = 0;

	for (; start < end && !ret; start++) {
		struct folio *dst = dvsm_store_get_locked(target, start, placing, NULL);

		if (IS_ERR(dst))
			return PTR_ERR(dst) == -EDQUOT ? -ENOMEM : PTR_ERR(dst);
		ret = dvsm_share_copy_page(share, start, dst);
		folio_unlock(dst);
		folio_put(dst);
		cond_resched();
	}
	return ret;
}

/**
 * dvsm_share_copy_to - Copy what a share reads to a region's own place.
 * @share: the share
 * @target: the region, with no folio there
 *
 * Context: sharing may change.
 * Return: 0; -ENOMEM, -ENOSPC, -EHWPOISON, -EIO with nothing left behind.
 */
int dvsm_share_copy_to(struct dvsm_share *share, struct dvsm_region *target)
{
	struct mem_cgroup *old = set_active_memcg(target->memcg);
	struct dvsm_placing placing = { .here = NUMA_NO_NODE };
	pgoff_t start = share->chunk << DVSM_CHUNK_ORDER;
	int ret = -EIO;

	if (share->parts) {
		ret = dvsm_share_copy_pages(share, start,
					    min_t(u64, start + DVSM_CHUNK_PAGES, target->nr_pages),
					    target, &placing);
		if (ret)
			dvsm_store_empty_chunk(target, share->chunk);
	} else if (share->store) {
		ret = dvsm_store_copy_chunk(target, share->store, share->chunk);
	}
	if (!ret)
		atomic_long_add(DVSM_CHUNK_PAGES, &target->stats.nr_copied);
	set_active_memcg(old);
	return ret;
}

/* The contents move house: they have been copied to @place, which lends them. */
static void dvsm_share_move(struct dvsm_share *share, struct dvsm_link *place)
{
	ihold(place->region->inode);
	dvsm_share_end_store(share, true);
	share->store = place->region;
	place->lent = share;
}

/*
 * The contents cannot be saved for those who did not write. They lose them; the
 * writer goes on.
 */
static void dvsm_share_lose(struct dvsm_share *share, int error)
{
	struct dvsm_link *link;

	dvsm_share_end_store(share, true);
	list_for_each_entry(link, &share->members, member) {
		atomic_long_inc(&link->region->stats.nr_lost);
		trace_dvsm_snapshot_lost(link->region->id, link->chunk, error);
	}
}

/*
 * The writer's own page cache holds the contents: it keeps the folios and the
 * others get a copy, once for all of them. Where only one other reads them the
 * copy goes to its place.
 */
static void dvsm_share_break_keep(struct dvsm_link *writer)
{
	struct dvsm_share *share = writer->content;
	struct dvsm_link *other = NULL, *place, *link;
	int ret = -ENOMEM;

	list_for_each_entry(link, &share->members, member)
		if (link != writer)
			other = link;
	if (share->nr_members == 2 && !other->lent)
		place = other;
	else
		place = dvsm_share_hidden_place(other->region, share->chunk);
	if (place)
		ret = dvsm_share_copy_to(share, place->region);
	dvsm_share_remove(writer);
	if (!ret) {
		dvsm_share_move(share, place);
		return;
	}
	if (place)
		dvsm_link_prune(place->region, share->chunk);
	dvsm_share_lose(share, ret);
}

/*
 * The writer's copy goes elsewhere, because its own place is lent: a share that
 * only the writer reads.
 */
static int dvsm_share_break_away(struct dvsm_link *writer)
{
	struct dvsm_share *own = dvsm_share_create_hidden(writer->region, writer->chunk);
	int ret;

	if (!own)
		return -ENOMEM;
	ret = dvsm_share_copy_to(writer->content, own->store);
	if (ret) {
		dvsm_share_end_store(own, false);
		dvsm_share_free_if_unused(own);
		return ret;
	}
	dvsm_share_switch(writer, own);
	return 0;
}

/* The contents stay with the others and the writer gets a copy. */
static int dvsm_share_break_copy(struct dvsm_link *writer)
{
	int ret;

	if (writer->lent)
		return dvsm_share_break_away(writer);
	ret = dvsm_share_copy_to(writer->content, writer->region);
	if (!ret)
		dvsm_share_leave(writer);
	return ret;
}

/*
 * The only member is about to write, and snapshots remember the share as what
 * they started from: the contents get another identity.
 */
static int dvsm_share_renew(struct dvsm_link *link)
{
	struct dvsm_share *old = link->content;
	struct dvsm_link *place = xa_load(&old->store->links, old->chunk);
	struct dvsm_share *share = dvsm_share_create(place);

	if (!share)
		return -ENOMEM;
	/* dvsm_share_create() has put itself in the place of @old, and held the inode. */
	dvsm_share_remove(link);
	swap(share->under, old->under);
	swap(share->parts, old->parts);
	share->depth = old->depth;
	share->order = old->order;
	share->adaptive = old->adaptive;
	dvsm_share_join(share, link);
	iput(old->store->inode);
	old->store = NULL;
	dvsm_share_free_if_unused(old);
	return 0;
}

/*
 * Whose user and cgroup pay for a part that @writer gets: a snapshot's creator, not
 * who writes to what it was taken from.
 */
static struct dvsm_region *dvsm_share_payer(struct dvsm_link *writer)
{
	struct dvsm_link *link;

	if (writer->region->parent_id)
		return writer->region;
	list_for_each_entry(link, &writer->content->members, member)
		if (link != writer)
			return link->region;
	return writer->region;
}

/* An empty share over what @writer reads, for it alone; NULL without memory. */
static struct dvsm_share *dvsm_share_create_over(struct dvsm_link *writer)
{
	struct dvsm_share *under = writer->content, *share;

	if (writer->lent || !writer->region->parent_id)
		share = dvsm_share_create_hidden(dvsm_share_payer(writer), writer->chunk);
	else
		share = dvsm_share_create(writer);
	if (!share)
		return NULL;
	share->parts = bitmap_zalloc(DVSM_CHUNK_PAGES, GFP_KERNEL_ACCOUNT);
	if (!share->parts) {
		dvsm_share_end_if_unread(share);
		return NULL;
	}
	share->under = under;
	under->nr_overs++;
	share->depth = under->depth + 1;
	share->order = under->order;
	share->adaptive = under->adaptive;
	return share;
}

/* Give @share, which is over others, the part around @index. */
static int dvsm_share_add_part(struct dvsm_link *link, struct dvsm_share *share, pgoff_t index)
{
	struct dvsm_placing placing = {
		.here = NUMA_NO_NODE,
		.order_limit = 1 + share->order,
		/* A larger folio is filled by and by, and starts with zeroes. */
		.overwrite = !share->order,
	};
	struct mem_cgroup *old = set_active_memcg(share->store->memcg);
	pgoff_t start = dvsm_block_start(index, share->order);
	pgoff_t end = min_t(u64, start + BIT(share->order), link->region->nr_pages);
	pgoff_t at;
	int ret = 0;

	/* Others may have the old page mapped through the region. */
	if (link->seen) {
		dvsm_share_settle(share->under);
		unmap_mapping_range(link->region->inode->i_mapping, (loff_t)start << PAGE_SHIFT,
				    (loff_t)(end - start) << PAGE_SHIFT, 0);
	}
	for (at = start; at < end && !ret; at++) {
		if (test_bit(at % DVSM_CHUNK_PAGES, share->parts))
			continue;
		ret = dvsm_share_copy_pages(share->under, at, at + 1, share->store, &placing);
		if (ret)
			break;
		__set_bit(at % DVSM_CHUNK_PAGES, share->parts);
		atomic_long_inc(&link->region->stats.nr_copied);
	}
	set_active_memcg(old);
	return ret;
}

/* Whether a write to what @share has may copy a part of it. */
static bool dvsm_share_has_room_above(const struct dvsm_share *share)
{
	return share->order < DVSM_CHUNK_ORDER && share->depth < DVSM_SHARE_DEPTH_MAX;
}

/* The writer's part goes into a share of its own over what it reads. */
static int dvsm_share_break_part(struct dvsm_link *writer, pgoff_t index)
{
	struct dvsm_share *share = dvsm_share_create_over(writer);
	int ret;

	if (!share)
		return -ENOMEM;
	ret = dvsm_share_add_part(writer, share, index);
	if (ret) {
		dvsm_share_end_if_unread(share);
		return ret;
	}
	/* What it reads is under the new share: it is read still. */
	dvsm_share_remove(writer);
	dvsm_share_join(share, writer);
	return 0;
}

/* Whether nobody but the region, past the page tables either, uses what it reads in parts. */
static bool dvsm_share_is_foldable(struct dvsm_share *share)
{
	struct dvsm_share *under = share->under;

	if (under->nr_members || under->nr_overs > 1 || !under->store ||
	    share->nr_refusals == DVSM_SHARE_REFUSALS_MAX)
		return false;
	dvsm_share_unmap(share);
	if (!dvsm_store_chunk_is_referenced(share->store, share->chunk, NULL) &&
	    !dvsm_store_chunk_is_referenced(under->store, share->chunk, NULL))
		return true;
	share->nr_refusals++;
	return false;
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

/**
 * dvsm_share_try_fold - Put parts back to where they were copied from.
 * @link: a region's link, with content that it alone reads
 *
 * Only where nobody else reads that either. The share keeps its identity.
 *
 * Context: sharing may change.
 */
void dvsm_share_try_fold(struct dvsm_link *link)
{
	struct dvsm_share *share = link->content, *under = share->under;
	struct dvsm_placing placing = { .here = NUMA_NO_NODE };
	pgoff_t start = share->chunk << DVSM_CHUNK_ORDER;
	struct mem_cgroup *old;
	unsigned int nth;
	int ret = 0;

	if (!share->parts || !dvsm_share_is_foldable(share))
		return;
	old = set_active_memcg(under->store->memcg);
	for_each_set_bit(nth, share->parts, DVSM_CHUNK_PAGES) {
		/* What was copied is in both places then: no harm if the rest fails. */
		ret = dvsm_share_copy_pages(share, start + nth, start + nth + 1, under->store,
					    &placing);
		if (ret)
			break;
		if (under->parts)
			__set_bit(nth, under->parts);
	}
	set_active_memcg(old);
	if (ret)
		return;
	dvsm_share_swap_stores(share, under);
	share->under = under->under;
	share->depth = under->depth;
	under->under = NULL;
	under->nr_overs = 0;
	dvsm_share_end_if_unread(under);
}

/* The whole chunk, so that nobody else reads what the region reads. */
static int dvsm_share_break_chunk(struct dvsm_link *link, struct folio *held)
{
	struct dvsm_share *share = link->content;
	struct dvsm_region *region = link->region;
	bool keep = false;

	/*
	 * Who still has a reference when no mapping is left reads, perhaps through
	 * a snapshot; writers were shut out when the share began. For his sake
	 * the folio must not change, so the writer cannot have it.
	 */
	if (share->nr_overs) {
		dvsm_share_settle(share);
		dvsm_store_unmap_chunk(region, link->chunk);
	} else {
		dvsm_share_unmap(share);
		keep = share->store == region && !share->parts &&
		       !dvsm_store_chunk_is_referenced(region, link->chunk, held);
	}
	if (keep) {
		dvsm_share_break_keep(link);
		return 0;
	}
	return dvsm_share_break_copy(link);
}

/* So many parts that the region is better served by a chunk of its own. */
static void dvsm_share_try_promote(struct dvsm_link *link)
{
	struct dvsm_share *share = link->content;

	if (bitmap_weight(share->parts, DVSM_CHUNK_PAGES) < DVSM_SHARE_PARTS_MANY ||
	    share->nr_refusals == DVSM_SHARE_REFUSALS_MAX)
		return;
	dvsm_share_unmap(share);
	if (dvsm_store_chunk_is_referenced(share->store, share->chunk, NULL))
		share->nr_refusals++;
	else
		dvsm_share_break_copy(link);
}

/* The region alone reads its share: let it write to the page at @index. */
static int dvsm_share_break_alone(struct dvsm_link *link, pgoff_t index)
{
	struct dvsm_share *share = link->content;
	int ret;

	if (!share->parts && share->store == link->region) {
		dvsm_share_become_own(link);
		return 0;
	}
	if (share->nr_bases) {
		ret = dvsm_share_renew(link);
		if (ret)
			return ret;
		share = link->content;
	}
	if (!share->parts || test_bit(index % DVSM_CHUNK_PAGES, share->parts))
		return 0;
	ret = dvsm_share_add_part(link, share, index);
	if (!ret && share->adaptive)
		dvsm_share_try_promote(link);
	return ret;
}

/**
 * dvsm_share_read - Let a region map a page for reading.
 * @link: the region's link, with content
 * @index: the page
 *
 * Context: as dvsm_share_break().
 * Return: 0; -EIO if the contents were lost.
 */
int dvsm_share_read(struct dvsm_link *link, pgoff_t index)
{
	if (dvsm_link_is_alone(link))
		dvsm_share_try_fold(link);
	link->seen = true;
	return dvsm_share_find(link->content, index)->store ? 0 : -EIO;
}

/**
 * dvsm_share_break - Let a region write to a page that it may share.
 * @link: the region's link, with content
 * @index: the page
 * @held: a folio that the caller has one reference on, or NULL
 *
 * Afterwards nobody else reads the page that the region reads.
 *
 * Context: the family locked for reading and the chunk's mutex held, or the
 * family locked for writing.
 * Return: 0; -ENOMEM or -ENOSPC where the writer's own copy cannot be had; -EIO
 * if the contents were lost.
 */
int dvsm_share_break(struct dvsm_link *link, pgoff_t index, struct folio *held)
{
	struct dvsm_region *region = link->region;
	u64 chunk = link->chunk;
	int ret = -ENOMEM;

	if (!dvsm_share_find(link->content, index)->store)
		return -EIO;
	if (dvsm_link_is_alone(link))
		dvsm_share_try_fold(link);
	if (dvsm_link_is_alone(link))
		return dvsm_share_break_alone(link, index);
	if (dvsm_share_has_room_above(link->content))
		ret = dvsm_share_break_part(link, index);
	if (ret)
		ret = dvsm_share_break_chunk(link, held);
	if (!ret) {
		atomic_long_inc(&region->stats.nr_cow_faults);
		trace_dvsm_share_break(region->id, chunk, !xa_load(&region->links, chunk));
	}
	return ret;
}

/**
 * dvsm_share_break_all - Let a region write to all of a chunk that it may share.
 * @link: the region's link, with content
 *
 * Context: as dvsm_share_break().
 * Return: as dvsm_share_break(); -EBUSY where somebody uses parts of the chunk past
 * the page tables.
 */
int dvsm_share_break_all(struct dvsm_link *link)
{
	struct dvsm_share *share = link->content;
	pgoff_t start = link->chunk << DVSM_CHUNK_ORDER;

	if (!share->store)
		return -EIO;
	if (!dvsm_link_is_alone(link))
		return dvsm_share_break_chunk(link, NULL);
	dvsm_share_try_fold(link);
	if (!share->parts)
		return dvsm_share_break_alone(link, start);
	/* The parts may have writers, whose writes a copy would miss. */
	dvsm_share_unmap(share);
	if (dvsm_store_chunk_is_referenced(share->store, link->chunk, NULL))
		return -EBUSY;
	return dvsm_share_break_copy(link);
}
