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
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "dvsm.h"
#include "share.h"

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
	link = kmem_cache_zalloc(dvsm_link_cache, DVSM_GFP);
	if (!link)
		return NULL;
	link->region = region;
	link->chunk = chunk;
	if (xa_err(xa_store(&region->links, chunk, link, DVSM_GFP))) {
		kmem_cache_free(dvsm_link_cache, link);
		return NULL;
	}
	return link;
}

/**
 * dvsm_share_of - The share that a region reads.
 * @region: the region
 * @chunk: the chunk
 *
 * Context: sharing may change.
 * Return: the share, or NULL for contents of its own, or none.
 */
struct dvsm_share *dvsm_share_of(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_link *link = xa_load(&region->links, chunk);

	return link ? link->content : NULL;
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

/**
 * dvsm_share_free_if_unused - Free a share that nobody reads or remembers.
 * @share: the share
 *
 * Context: sharing may change.
 */
void dvsm_share_free_if_unused(struct dvsm_share *share)
{
	if (share->nr_members || share->nr_overs || share->nr_bases)
		return;
	bitmap_free(share->parts);
	kmem_cache_free(dvsm_share_cache, share);
}

/**
 * dvsm_share_end_store - Let a share's contents be lent no longer.
 * @share: the share
 * @keep_folios: they are the store's own then; else they are freed
 *
 * Context: sharing may change.
 */
void dvsm_share_end_store(struct dvsm_share *share, bool keep_folios)
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
 * dvsm_share_end_if_unread - Free what a share has if nobody reads it.
 * @share: the share, or NULL; those under it may go with it
 *
 * Context: sharing may change.
 */
void dvsm_share_end_if_unread(struct dvsm_share *share)
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
	struct dvsm_share *share = kmem_cache_zalloc(dvsm_share_cache, DVSM_GFP);

	if (!share)
		return NULL;
	INIT_LIST_HEAD(&share->members);
	share->chunk = link->chunk;
	share->terms.order = DVSM_CHUNK_ORDER;
	share->store = link->region;
	ihold(link->region->inode);
	link->lent = share;
	return share;
}

/**
 * dvsm_link_may_write - Whether a region may write to what its share has, where that is.
 * @link: the region's link, with content
 *
 * Context: sharing may change.
 */
bool dvsm_link_may_write(const struct dvsm_link *link)
{
	const struct dvsm_share *share = link->content;

	return dvsm_link_is_alone(link) &&
	       (!share->store || dvsm_region_may_write_in(link->region, share->store));
}

/**
 * dvsm_share_set_terms - Let what a region reads be shared on a snapshot's terms.
 * @share: the share; others who read it keep the finer of the two
 * @terms: the terms
 *
 * Context: sharing may change.
 */
void dvsm_share_set_terms(struct dvsm_share *share, const struct dvsm_terms *terms)
{
	if (dvsm_share_is_alone(share)) {
		share->terms = *terms;
		return;
	}
	share->terms.order = min(share->terms.order, terms->order);
	share->terms.adaptive |= terms->adaptive;
	share->terms.strict |= terms->strict;
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

/**
 * dvsm_share_make - The share that a region reads, made of its own contents if need be.
 * @region: the region
 * @chunk: the chunk
 *
 * Context: sharing may change.
 * Return: the share, or NULL without memory.
 */
struct dvsm_share *dvsm_share_make(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_link *link = dvsm_link_make(region, chunk);
	struct dvsm_share *share;

	if (!link)
		return NULL;
	if (link->content)
		return link->content;
	share = dvsm_share_create(link);
	if (share)
		dvsm_share_join(share, link);
	return share;
}

/**
 * dvsm_share_remove - Take a member out of its share, which is left as it is.
 * @link: the region's link
 *
 * Context: sharing may change.
 */
void dvsm_share_remove(struct dvsm_link *link)
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
 * dvsm_share_diverge - Note that a region is about to read something else than others.
 * @link: the region's link, with content
 *
 * For dvsm_region_diff(), which looks at chunks with a mark only.
 *
 * Context: sharing may change.
 */
void dvsm_share_diverge(struct dvsm_link *link)
{
	struct dvsm_link *member;

	list_for_each_entry(member, &link->content->members, member)
		if (member->region->parent_id)
			xa_set_mark(&member->region->links, member->chunk, DVSM_LINK_DIVERGED);
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
	to->was_shared |= to->nr_members > 1;
	dvsm_share_end_if_unread(from);
}

/**
 * dvsm_share_become_own - Make a share's contents a region's own.
 * @link: the only member, whose page cache holds them
 *
 * Context: sharing may change.
 */
void dvsm_share_become_own(struct dvsm_link *link)
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

/* Who is left of a family may have chunks that can be whole again. */
static bool dvsm_family_want_huge(struct dvsm_region *region, void *arg)
{
	dvsm_promote_want(region);
	return false;
}

/**
 * dvsm_links_retire - Drop everything that a region reads.
 * @region: the region; nobody has it open
 *
 * What it lent stays. Where it was copied in parts, others may be whole again.
 *
 * Context: the family is locked for writing.
 */
void dvsm_links_retire(struct dvsm_region *region)
{
	struct dvsm_link *link;
	unsigned long chunk;
	bool parts = false;

	xa_for_each(&region->links, chunk, link) {
		parts |= link->content && (link->content->parts || link->content->nr_overs);
		if (link->base)
			dvsm_link_set_base(link, NULL);
		if (link->content)
			dvsm_share_leave(link);
		else
			dvsm_link_prune(region, chunk);
		cond_resched();
	}
	if (parts)
		dvsm_family_for_each(region->family, dvsm_family_want_huge, NULL);
}

/* A family's place for contents that belong to no open region alone. */
static struct dvsm_region *dvsm_share_hidden_store(struct dvsm_region *payer,
						   const struct dvsm_region *reader, u64 chunk)
{
	struct dvsm_family *family = payer->family;
	struct dvsm_region *region;

	mutex_lock(&family->hidden_lock);
	list_for_each_entry(region, &family->hidden, hidden)
		if (!xa_load(&region->links, chunk) &&
		    dvsm_region_is_hidden_for(region, payer, reader))
			goto out;
	region = dvsm_region_create_hidden(payer, reader);
	if (region)
		list_add(&region->hidden, &family->hidden);
out:
	mutex_unlock(&family->hidden_lock);
	return region;
}

/**
 * dvsm_share_hidden_place - A place for contents in a hidden region.
 * @payer: whose user and cgroup pay, for what says so, too
 * @reader: the region that is to read them, alone at first; NULL for several
 * @chunk: the chunk
 *
 * Context: sharing may change.
 * Return: the hidden region's link, or NULL without memory.
 */
struct dvsm_link *dvsm_share_hidden_place(struct dvsm_region *payer,
					  const struct dvsm_region *reader, u64 chunk)
{
	struct mem_cgroup *old = set_active_memcg(payer->memcg);
	struct dvsm_region *store = dvsm_share_hidden_store(payer, reader, chunk);
	struct dvsm_link *link = NULL;

	if (store && !dvsm_place_lend(store, payer, chunk))
		link = dvsm_link_make(store, chunk);
	set_active_memcg(old);
	return link;
}

/**
 * dvsm_share_create_hidden - Make a share of nothing, in a hidden region.
 * @payer: whose user and cgroup pay for what it gets
 * @reader: the region that is to be its member
 * @chunk: the chunk
 *
 * Context: sharing may change.
 * Return: the share, which has no member yet, or NULL without memory.
 */
struct dvsm_share *dvsm_share_create_hidden(struct dvsm_region *payer,
					    const struct dvsm_region *reader, u64 chunk)
{
	struct dvsm_link *place = dvsm_share_hidden_place(payer, reader, chunk);
	struct mem_cgroup *old;
	struct dvsm_share *share;

	if (!place)
		return NULL;
	old = set_active_memcg(payer->memcg);
	share = dvsm_share_create(place);
	set_active_memcg(old);
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
	struct dvsm_share *hole = dvsm_share_create_hidden(link->region, link->region,
							   link->chunk);

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
 * dvsm_share_run_end - Where pages end that one share has.
 * @share: what is read
 * @start: the first page
 * @end: above @start; how far to look, at most to the chunk's end
 *
 * Context: sharing may change.
 * Return: the page after the last that dvsm_share_find() finds where it finds @start.
 */
pgoff_t dvsm_share_run_end(struct dvsm_share *share, pgoff_t start, pgoff_t end)
{
	struct dvsm_share *from = dvsm_share_find(share, start);

	do
		start++;
	while (start < end && dvsm_share_find(share, start) == from);
	return start;
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
