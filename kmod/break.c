// SPDX-License-Identifier: GPL-2.0-only
/*
 * Breaking away from a share, with a copy of a chunk or of parts of it. share.c says what
 * shares are.
 */
#include <linux/bitmap.h>
#include <linux/memcontrol.h>
#include <linux/sched/mm.h>

#include "dvsm.h"
#include "trace.h"

/* The contents move house: they have been copied to @place, which lends them. */
static void dvsm_share_move(struct dvsm_share *share, struct dvsm_link *place)
{
	ihold(place->region->inode);
	dvsm_share_end_store(share, true);
	share->store = place->region;
	place->lent = share;
}

/**
 * dvsm_share_lose - Let those who read a share lose what it has.
 * @share: the share
 * @error: why the contents cannot be saved for them; who writes goes on
 *
 * Context: sharing may change.
 */
void dvsm_share_lose(struct dvsm_share *share, int error)
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
 * copy goes to its place; else one of them pays for it and has it counted. Returns
 * 0, or why it cannot be had where that ends the write.
 */
static int dvsm_share_break_keep(struct dvsm_link *writer)
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
		place = dvsm_share_hidden_place(other->region, NULL, share->chunk);
	if (place)
		ret = dvsm_share_copy_to(share, place->region, other->region);
	if (ret && place)
		dvsm_link_prune(place->region, share->chunk);
	if (ret && share->terms.strict)
		return ret;
	dvsm_share_remove(writer);
	if (ret)
		dvsm_share_lose(share, ret);
	else
		dvsm_share_move(share, place);
	return 0;
}

/*
 * The writer's copy goes elsewhere, because its own place is lent: a share that
 * only the writer reads.
 */
static int dvsm_share_break_away(struct dvsm_link *writer)
{
	struct dvsm_region *region = writer->region;
	struct dvsm_share *own = dvsm_share_create_hidden(region, region, writer->chunk);
	int ret;

	if (!own)
		return -ENOMEM;
	ret = dvsm_share_copy_to(writer->content, own->store, region);
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
	ret = dvsm_share_copy_to(writer->content, writer->region, writer->region);
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
	struct mem_cgroup *memcg = dvsm_memcg_use(old->store->memcg);
	struct dvsm_share *share = dvsm_share_create(place);

	set_active_memcg(memcg);
	if (!share)
		return -ENOMEM;
	/* dvsm_share_create() has put itself in the place of @old, and held the inode. */
	dvsm_share_remove(link);
	swap(share->under, old->under);
	swap(share->parts, old->parts);
	share->depth = old->depth;
	share->terms = old->terms;
	share->was_shared = old->was_shared;
	dvsm_share_join(share, link);
	iput(old->store->inode);
	old->store = NULL;
	dvsm_share_free_if_unused(old);
	return 0;
}

struct dvsm_payer {
	const struct dvsm_link *writer;
	const struct dvsm_share *read;
	struct dvsm_region *region;
};

/* Whether a region is younger than the writer's and reads, perhaps below others, the share. */
static bool dvsm_payer_is(struct dvsm_region *region, void *arg)
{
	struct dvsm_payer *payer = arg;
	const struct dvsm_link *writer = payer->writer;
	struct dvsm_link *link;
	struct dvsm_share *share;

	if (region->id <= writer->region->id)
		return false;
	link = xa_load(&region->links, writer->chunk);
	for (share = link ? link->content : NULL; share; share = share->under) {
		if (share == payer->read) {
			payer->region = region;
			return true;
		}
	}
	return false;
}

/*
 * Whose user and cgroup pay for a part that @writer gets over @read: the creator of a
 * snapshot, not who writes to what it was taken from. Who reads the share can end with the
 * family locked for writing only.
 */
static struct dvsm_region *dvsm_share_payer(struct dvsm_link *writer, struct dvsm_share *read)
{
	struct dvsm_payer payer = { .writer = writer, .read = read, .region = writer->region };
	struct dvsm_link *link;

	list_for_each_entry(link, &read->members, member)
		if (link->region->id > writer->region->id)
			return link->region;
	if (read->nr_overs)
		dvsm_family_for_each(writer->region->family, dvsm_payer_is, &payer);
	return payer.region;
}

/* An empty share over what @writer reads, for it alone; NULL without memory. */
static struct dvsm_share *dvsm_share_create_over(struct dvsm_link *writer)
{
	struct dvsm_share *under = writer->content, *share;
	struct dvsm_region *payer = dvsm_share_payer(writer, under);
	struct mem_cgroup *old;

	if (writer->lent || payer != writer->region || !writer->region->parent_id)
		share = dvsm_share_create_hidden(payer, writer->region, writer->chunk);
	else
		share = dvsm_share_create(writer);
	if (!share)
		return NULL;
	old = dvsm_memcg_use(share->store->memcg);
	share->parts = bitmap_zalloc(DVSM_CHUNK_PAGES, DVSM_GFP);
	set_active_memcg(old);
	if (!share->parts) {
		dvsm_share_end_if_unread(share);
		return NULL;
	}
	share->under = under;
	under->nr_overs++;
	share->depth = under->depth + 1;
	share->terms = under->terms;
	return share;
}

/* Give @share, which is over others, the part around @index. */
static int dvsm_share_add_part(struct dvsm_link *link, struct dvsm_share *share, pgoff_t index)
{
	struct dvsm_placing placing = {
		.here = NUMA_NO_NODE,
		.order_limit = 1 + share->terms.order,
		.overwrite = true,
	};
	struct mem_cgroup *old = dvsm_memcg_use(share->store->memcg);
	pgoff_t start = dvsm_block_start(index, share->terms.order);
	pgoff_t end = min_t(u64, start + BIT(share->terms.order), link->region->nr_pages);
	pgoff_t first = share->chunk << DVSM_CHUNK_ORDER;
	unsigned int nth = start - first, stop;
	int ret = 0;

	/* Others may have the old page mapped through the region. */
	if (link->seen) {
		dvsm_share_settle(share->under);
		dvsm_region_unmap(link->region, (loff_t)start << PAGE_SHIFT,
				  (loff_t)(end - start) << PAGE_SHIFT);
	}
	/* Of what is there already the region may have written some. */
	for_each_clear_bitrange_from(nth, stop, share->parts, end - first) {
		pgoff_t at = first + nth;

		ret = dvsm_share_copy_pages(share->under, &at, first + stop, share->store,
					    &placing);
		bitmap_set(share->parts, nth, at - first - nth);
		atomic_long_add(at - first - nth, &link->region->stats.nr_copied);
		if (ret)
			break;
	}
	set_active_memcg(old);
	return ret;
}

/* Whether a write to what @share has may copy a part of it. */
static bool dvsm_share_has_room_above(const struct dvsm_share *share)
{
	return share->terms.order < DVSM_CHUNK_ORDER && share->depth < DVSM_SHARE_DEPTH_MAX;
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

/*
 * Whether all others who read @share come from @link's region: a region is older than its
 * snapshots. They are who may lose what they read; nobody loses it to a snapshot.
 */
static bool dvsm_link_is_oldest(const struct dvsm_link *link, const struct dvsm_share *share)
{
	const struct dvsm_link *other;

	list_for_each_entry(other, &share->members, member)
		if (other->region->id < link->region->id)
			return false;
	return true;
}

/* The whole chunk, so that nobody else reads what the region reads. Returns as below. */
static int dvsm_share_break_chunk(struct dvsm_link *link, struct folio *held)
{
	struct dvsm_share *share = link->content;
	struct dvsm_region *region = link->region;
	bool keep = false;
	int ret;

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
		keep = share->store == region && !share->parts && dvsm_link_is_oldest(link, share) &&
		       !dvsm_store_chunk_is_referenced(region, link->chunk, held);
	}
	ret = keep ? dvsm_share_break_keep(link) : dvsm_share_break_copy(link);
	return ret ? ret : keep ? DVSM_BREAK_KEEP : DVSM_BREAK_COPY;
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

/*
 * Whether somebody may hold pages of a share that others read before. For his sake they
 * must not change. @held: as for dvsm_share_break().
 */
static bool dvsm_share_is_held(struct dvsm_share *share, struct folio *held)
{
	if (!share->was_shared)
		return false;
	dvsm_share_unmap(share);
	if (dvsm_store_chunk_is_referenced(share->store, share->chunk, held))
		return true;
	share->was_shared = false;
	return false;
}

/*
 * Let the region have what its parts are over, and those who come from it lose that:
 * dvsm_share_break_keep() without a copy, for a chunk that it had to begin in parts.
 */
static bool dvsm_share_try_take(struct dvsm_link *link, struct folio *held, int error)
{
	struct dvsm_share *share = link->content, *under = share->under;

	if (under->parts || under->nr_overs != 1 || under->store != link->region ||
	    !dvsm_link_is_oldest(link, under))
		return false;
	dvsm_share_unmap(under);
	if (dvsm_store_chunk_is_referenced(under->store, under->chunk, held) ||
	    !dvsm_share_can_fold(share))
		return false;
	dvsm_share_fold_all(share);
	/* What it has now are the parts. */
	dvsm_share_end_store(under, false);
	bitmap_free(under->parts);
	under->parts = NULL;
	dvsm_share_lose(under, error);
	dvsm_share_become_own(link);
	return true;
}

/*
 * The region alone reads its share, and cannot have one more part. Where that is for the
 * sake of others who had to pay for the parts, and of whom nobody is strict, it goes on
 * without them. Returns as below.
 */
static int dvsm_share_go_on(struct dvsm_link *link, struct folio *held, int error)
{
	struct dvsm_share *share = link->content;
	struct dvsm_region *payer;
	int ret;

	if (share->terms.strict || share->under->terms.strict)
		return error;
	/* Who pays for the parts may be gone; who reads what they are over then loses nothing. */
	if (share->store == link->region || dvsm_region_pays_as(share->store, link->region))
		return error;
	dvsm_share_unmap(share);
	/* The parts may have writers, whose writes a copy would miss. */
	if (dvsm_store_chunk_is_referenced(share->store, share->chunk, held))
		return error;
	payer = dvsm_share_payer(link, share->under);
	if (dvsm_region_pays_as(share->store, payer) && dvsm_share_try_take(link, held, error))
		return 0;
	ret = dvsm_share_break_copy(link);
	return ret ? ret : DVSM_BREAK_COPY;
}

/*
 * The region alone reads its share: let it write to the page at @index. Returns DVSM_BREAK_
 * if something was copied; 0; or an error.
 */
static int dvsm_share_break_alone(struct dvsm_link *link, pgoff_t index, struct folio *held)
{
	struct dvsm_share *share = link->content;
	int ret;

	/* Also where the page is none of its parts: it is to become one that is written to. */
	if (dvsm_share_is_held(share, held)) {
		ret = dvsm_share_break_copy(link);
		return ret ? ret : DVSM_BREAK_COPY;
	}
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
	if (ret == -ENOMEM || ret == -ENOSPC)
		return dvsm_share_go_on(link, held, ret);
	if (ret)
		return ret;
	if (share->terms.adaptive)
		dvsm_share_try_promote(link);
	return DVSM_BREAK_PART;
}

/*
 * The region may not write where what it reads is, mostly because others read that: let it write
 * to the page at @index. Returns as below.
 */
static int dvsm_share_break_shared(struct dvsm_link *link, pgoff_t index, struct folio *held)
{
	int ret = -ENOMEM;

	dvsm_share_diverge(link);
	if (!dvsm_link_is_alone(link) && dvsm_share_has_room_above(link->content))
		ret = dvsm_share_break_part(link, index);
	if (!ret)
		return DVSM_BREAK_PART;
	/* A page that nobody can have shall cost nobody else the chunk. */
	if (ret == -EHWPOISON && dvsm_share_check_page(link->content, index))
		return ret;
	return dvsm_share_break_chunk(link, held);
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
	/* A populate's helper has neither the caller's cpuset nor his place. */
	if (!(current->flags & PF_KTHREAD))
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
	int ret;

	if (!dvsm_share_find(link->content, index)->store)
		return -EIO;
	dvsm_share_try_fold(link);
	if (dvsm_link_may_write(link))
		ret = dvsm_share_break_alone(link, index, held);
	else
		ret = dvsm_share_break_shared(link, index, held);
	/* The link may be gone. */
	if (ret > 0) {
		int here = numa_node_id();

		atomic_long_inc(&region->nodes[here].nr_cow_faults);
		trace_dvsm_share_break(region->id, index, here, ret);
	}
	return min(ret, 0);
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
	if (!dvsm_link_may_write(link)) {
		dvsm_share_diverge(link);
		return min(dvsm_share_break_chunk(link, NULL), 0);
	}
	dvsm_share_try_fold(link);
	if (!share->parts)
		return min(dvsm_share_break_alone(link, start, NULL), 0);
	/* The parts may have writers, whose writes a copy would miss. */
	dvsm_share_unmap(share);
	if (dvsm_store_chunk_is_referenced(share->store, link->chunk, NULL))
		return -EBUSY;
	return dvsm_share_break_copy(link);
}
