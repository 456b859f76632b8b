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
 * has two members or more: all of their mappings are read-only, and a member who
 * wants to write breaks away first. Invariants:
 *
 *  - share->members are the links whose content it is; share->store's link for
 *    the chunk has lent == share; both at the same chunk number everywhere,
 *    because newer kernels compare a folio's index with the mapping's length.
 *  - Without content, lent is NULL too: own contents and lent ones never share a
 *    place.
 *  - A share's folios are mapped by members only.
 *  - The store's inode is held by the share, so a region may end before the
 *    contents it lent.
 *
 * All of this changes with the family locked for writing, or locked for reading
 * and the chunk's mutex held.
 */
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
	if (!share->nr_members && !share->nr_bases)
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
	if (!share->nr_members) {
		dvsm_share_end_store(share, false);
		dvsm_share_free_if_unused(share);
	}
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
	if (from && !from->nr_members) {
		dvsm_share_end_store(from, false);
		dvsm_share_free_if_unused(from);
	}
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
 * dvsm_share_unmap - Take a chunk out of all mappings of all who read a share.
 * @share: the share
 *
 * Waits first for faults that hold one of its folios and are about to map it.
 *
 * Context: sharing may change, so nobody can begin such a fault.
 */
void dvsm_share_unmap(struct dvsm_share *share)
{
	struct dvsm_link *link;

	if (share->store)
		dvsm_store_settle_chunk(share->store, share->chunk);
	list_for_each_entry(link, &share->members, member)
		dvsm_store_unmap_chunk(link->region, link->chunk);
}

/* Copy what @share has to the own place of @target. Returns 0 or an error. */
static int dvsm_share_copy(struct dvsm_share *share, struct dvsm_region *target)
{
	struct mem_cgroup *old = set_active_memcg(target->memcg);
	int ret = dvsm_store_copy_chunk(target, share->store, share->chunk);

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
		ret = dvsm_share_copy(share, place->region);
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
	ret = dvsm_share_copy(writer->content, own->store);
	if (ret) {
		dvsm_share_end_store(own, false);
		dvsm_share_free_if_unused(own);
		return ret;
	}
	dvsm_share_remove(writer);
	dvsm_share_join(own, writer);
	return 0;
}

/* The contents stay with the others and the writer gets a copy. */
static int dvsm_share_break_copy(struct dvsm_link *writer)
{
	struct dvsm_region *region = writer->region;
	u64 chunk = writer->chunk;
	int ret;

	if (writer->lent)
		return dvsm_share_break_away(writer);
	ret = dvsm_share_copy(writer->content, region);
	if (!ret) {
		dvsm_share_remove(writer);
		dvsm_link_prune(region, chunk);
	}
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
	dvsm_share_join(share, link);
	iput(old->store->inode);
	old->store = NULL;
	dvsm_share_free_if_unused(old);
	return 0;
}

/**
 * dvsm_share_break - Let a region write to a chunk that it may share.
 * @link: the region's link, with content
 * @held: a folio that the caller has one reference on, or NULL
 *
 * Afterwards nobody else reads the contents that the region reads.
 *
 * Context: the family locked for reading and the chunk's mutex held, or the
 * family locked for writing.
 * Return: 0; -ENOMEM or -ENOSPC where the writer's own copy cannot be had; -EIO
 * if the contents were lost.
 */
int dvsm_share_break(struct dvsm_link *link, struct folio *held)
{
	struct dvsm_share *share = link->content;
	struct dvsm_region *region = link->region;
	u64 chunk = link->chunk;
	bool keep;
	int ret = 0;

	if (!share->store)
		return -EIO;
	if (share->nr_members == 1) {
		if (share->store == region)
			dvsm_share_become_own(link);
		else if (share->nr_bases)
			return dvsm_share_renew(link);
		return 0;
	}
	/*
	 * Who still has a reference when no mapping is left reads, perhaps through
	 * a snapshot; writers were shut out when the share began. For his sake
	 * the folio must not change, so the writer cannot have it.
	 */
	dvsm_share_unmap(share);
	keep = share->store == region && !dvsm_store_chunk_is_referenced(region, chunk, held);
	if (keep)
		dvsm_share_break_keep(link);
	else
		ret = dvsm_share_break_copy(link);
	if (!ret) {
		atomic_long_inc(&region->stats.nr_cow_faults);
		trace_dvsm_share_break(region->id, chunk, keep);
	}
	return ret;
}
