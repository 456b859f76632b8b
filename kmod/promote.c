// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page sizes: a chunk of small folios becomes one huge folio, and a huge folio that
 * is barely used becomes small ones without its zeroes.
 *
 * Both replace what lies at a chunk's place in a page cache, for all who read it.
 * The family is locked for writing, the chunk is in no mapping, and nobody has a
 * reference on its folios: so nobody can write to the old ones or find neither. What
 * can fail is done before: when the old folios go, the new ones are filled and
 * charged to the limits, and go in with __GFP_NOFAIL. The cgroup that paid for the
 * old ones pays for the new ones; for a moment it may be over its limit.
 */
#include <linux/bitmap.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "dvsm.h"
#include "promote.h"

#define DVSM_SPLIT_USED_MAX	(DVSM_CHUNK_PAGES / 2)	/* pages; with more a chunk stays huge */

static bool dvsm_chunk_look_at(struct folio *folio, bool shared, void *arg)
{
	struct dvsm_chunk_look *look = arg;

	if (!look->nr_folios++)
		look->nid = folio_nid(folio);
	look->nr_pages += folio_nr_pages(folio);
	look->huge |= folio_order(folio) == DVSM_CHUNK_ORDER;
	return false;
}

/**
 * dvsm_chunk_look - What the memory is that a region reads at a chunk.
 * @region: the region
 * @chunk: the chunk
 *
 * Context: may sleep; no dvsm lock held.
 * Return: that.
 */
struct dvsm_chunk_look dvsm_chunk_look(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_chunk_look look = { .nid = NUMA_NO_NODE };
	pgoff_t start = chunk << DVSM_CHUNK_ORDER;

	dvsm_content_walk(region, start, start + DVSM_CHUNK_PAGES, dvsm_chunk_look_at, &look);
	return look;
}

/*
 * Whose page cache holds a chunk that a region reads; it is in no mapping any more and
 * used by nobody. -EBUSY where that cannot be had.
 */
static struct dvsm_region *dvsm_chunk_seize(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_link *link = xa_load(&region->links, chunk);
	struct dvsm_share *share = link ? link->content : NULL;
	loff_t start = (loff_t)chunk << DVSM_CHUNK_SHIFT;
	struct dvsm_region *store = region;

	lockdep_assert_held_write(&region->family->lock);

	if (dvsm_range_is_pinned(region, start, start + DVSM_CHUNK_SIZE))
		return ERR_PTR(-EBUSY);
	if (share) {
		if (share->parts || share->nr_overs || !share->store)
			return ERR_PTR(-EBUSY);
		store = share->store;
		dvsm_share_unmap(share);
	} else {
		dvsm_content_unmap(region, chunk);
	}
	if (dvsm_store_chunk_is_referenced(store, chunk, NULL) ||
	    dvsm_store_chunk_is_poisoned(store, chunk))
		return ERR_PTR(-EBUSY);
	return store;
}

static void dvsm_fresh_free(struct dvsm_fresh *fresh)
{
	while (fresh->nr) {
		struct folio *folio = fresh->folios[--fresh->nr];

		folio_unlock(folio);
		folio_put(folio);
	}
	mem_cgroup_put(fresh->memcg);
	fresh->memcg = NULL;
}

static void dvsm_fresh_add(struct dvsm_fresh *fresh, struct folio *folio, pgoff_t index)
{
	__folio_set_locked(folio);
	folio->index = index;
	fresh->folios[fresh->nr++] = folio;
}

/* What there is at a chunk's place, and who pays for it. */
static bool dvsm_fresh_look_at_old(struct folio *folio, void *arg)
{
	struct dvsm_fresh *fresh = arg;

	fresh->nr_old += folio_nr_pages(folio);
	fresh->written |= folio_test_checked(folio);
	if (!fresh->memcg)
		fresh->memcg = dvsm_folio_memcg_get(folio);
	return false;
}

static void dvsm_fresh_look(struct dvsm_fresh *fresh, struct dvsm_region *store, u64 chunk)
{
	pgoff_t start = chunk << DVSM_CHUNK_ORDER;

	fresh->nr_old = 0;
	fresh->written = false;
	dvsm_store_walk(store, start, start + DVSM_CHUNK_PAGES, dvsm_fresh_look_at_old, fresh);
}

/* The new folios take the place of the old ones, which are seized. Cannot fail. */
static void dvsm_fresh_replace(struct dvsm_fresh *fresh, struct dvsm_region *store, u64 chunk)
{
	struct address_space *mapping = store->inode->i_mapping;
	gfp_t gfp = mapping_gfp_mask(mapping) | __GFP_NOFAIL;
	loff_t start = (loff_t)chunk << DVSM_CHUNK_SHIFT;
	struct mem_cgroup *old = set_active_memcg(fresh->memcg);
	unsigned int i;

	truncate_inode_pages_range(mapping, start, start + DVSM_CHUNK_SIZE - 1);
	for (i = 0; i < fresh->nr; i++) {
		struct folio *folio = fresh->folios[i];

		folio_mark_uptodate(folio);
		if (fresh->written)
			folio_set_checked(folio);
		/* filemap_add_folio() locks it anew. */
		__folio_clear_locked(folio);
		if (WARN_ON_ONCE(filemap_add_folio(mapping, folio, folio->index, gfp)))
			__folio_set_locked(folio);
	}
	set_active_memcg(old);
	dvsm_fresh_free(fresh);
}

/* Copies a chunk's folios, in order, to a huge one, and zeroes what is between. */
struct dvsm_gather {
	struct folio *dst;
	unsigned long at;		/* page of @dst */
	int ret;
};

static void dvsm_gather_zero(struct dvsm_gather *gather, unsigned long end)
{
	for (; gather->at < end; gather->at++)
		clear_highpage(folio_page(gather->dst, gather->at));
}

static bool dvsm_gather_folio(struct folio *src, void *arg)
{
	struct dvsm_gather *gather = arg;
	unsigned long nr_pages = folio_nr_pages(src);

	dvsm_gather_zero(gather, src->index % DVSM_CHUNK_PAGES);
	gather->ret = dvsm_pages_copy(folio_page(gather->dst, gather->at), folio_page(src, 0),
				      nr_pages);
	gather->at += nr_pages;
	cond_resched();
	return gather->ret;
}

/* The chunk is made of small folios in @store: put the huge one in their place. */
static int dvsm_promote_store(struct dvsm_region *store, u64 chunk, struct dvsm_fresh *fresh)
{
	struct dvsm_gather gather = { .dst = fresh->folios[0] };
	pgoff_t start = chunk << DVSM_CHUNK_ORDER;
	int ret;

	dvsm_fresh_look(fresh, store, chunk);
	ret = dvsm_account_charge(store, DVSM_CHUNK_PAGES - fresh->nr_old);
	if (ret)
		return -ENOMEM;
	if (dvsm_store_walk(store, start, start + DVSM_CHUNK_PAGES, dvsm_gather_folio, &gather)) {
		dvsm_account_uncharge(store, DVSM_CHUNK_PAGES - fresh->nr_old);
		return -EBUSY;
	}
	dvsm_gather_zero(&gather, DVSM_CHUNK_PAGES);
	dvsm_fresh_replace(fresh, store, chunk);
	return 0;
}

static bool dvsm_store_chunk_is_huge(struct dvsm_region *store, u64 chunk)
{
	struct folio *folio = filemap_get_folio(store->inode->i_mapping, chunk << DVSM_CHUNK_ORDER);
	bool huge;

	if (IS_ERR(folio))
		return false;
	huge = folio_order(folio) == DVSM_CHUNK_ORDER;
	folio_put(folio);
	return huge;
}

/* Whoever reads parts of a chunk elsewhere, and alone, gets all of it in one place. */
static int dvsm_promote_join_parts(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_link *link = xa_load(&region->links, chunk);

	if (!link || !link->content || !link->content->parts)
		return 0;
	/* Of what has got parts since it was looked at a worker does not know who pays. */
	if (!dvsm_link_is_alone(link) || (current->flags & PF_KTHREAD))
		return -EBUSY;
	return dvsm_share_break_all(link);
}

/* @fresh has a huge folio. Returns 0; -EBUSY, -ENOMEM. */
static int dvsm_promote_locked(struct dvsm_region *region, u64 chunk, struct dvsm_fresh *fresh)
{
	struct dvsm_region *store;
	int ret;

	ret = dvsm_promote_join_parts(region, chunk);
	if (ret)
		return ret == -ENOSPC || ret == -EDQUOT ? -ENOMEM : ret == -ENOMEM ? ret : -EBUSY;
	store = dvsm_chunk_seize(region, chunk);
	if (IS_ERR(store))
		return PTR_ERR(store);
	if (dvsm_store_chunk_is_huge(store, chunk))
		return 0;
	/* Somebody may have discarded it since the first look. */
	if (!dvsm_store_chunk_is_resident(store, chunk))
		return -EBUSY;
	return dvsm_promote_store(store, chunk, fresh);
}

/* A huge folio on the node that the chunk should be on, seen from @nid, and no other. */
static struct folio *dvsm_promote_alloc(struct dvsm_region *region, u64 chunk, int nid, gfp_t gfp)
{
	struct dvsm_placing placing = { .here = nid };
	pgoff_t index = chunk << DVSM_CHUNK_ORDER;
	struct folio *folio;
	int wanted;

	down_read(&region->family->lock);
	folio = dvsm_policy_alloc(region, &placing, index, DVSM_CHUNK_ORDER,
				  gfp | __GFP_THISNODE | __GFP_NOWARN, &wanted);
	up_read(&region->family->lock);
	return folio;
}

/**
 * dvsm_promote_chunk - Make a chunk of small folios one huge folio.
 * @region: the region
 * @chunk: a whole chunk
 * @nid: the node that it is to be on
 * @gfp: how hard to try for it
 * @fresh: an empty place for it, and empty again afterwards
 *
 * Context: may sleep; no dvsm lock held.
 * Return: 0; -ENOMEM, -EBUSY and others where it stays as it is.
 */
int dvsm_promote_chunk(struct dvsm_region *region, u64 chunk, int nid, gfp_t gfp,
		       struct dvsm_fresh *fresh)
{
	struct folio *folio = dvsm_promote_alloc(region, chunk, nid, gfp);
	int ret;

	if (!folio)
		return -ENOMEM;
	dvsm_fresh_add(fresh, folio, chunk << DVSM_CHUNK_ORDER);
	if (down_write_killable(&region->family->lock)) {
		dvsm_fresh_free(fresh);
		return -EINTR;
	}
	ret = dvsm_promote_locked(region, chunk, fresh);
	up_write(&region->family->lock);
	dvsm_fresh_free(fresh);
	return ret;
}

/**
 * dvsm_region_promote - DVSM_IOC_REGION_PROMOTE.
 * @region: the region
 * @first: first chunk, and the last of those that are whole
 * @last: see @first
 * @arg: its outputs are filled in, in error too
 *
 * Context: process; no dvsm lock held.
 * Return: 0; -EBUSY for a pinned region; -ENOMEM; -EINTR after a fatal signal.
 */
int dvsm_region_promote(struct dvsm_region *region, u64 first, u64 last,
			struct dvsm_region_promote *arg)
{
	struct dvsm_fresh *fresh;
	u64 chunk, nr_seen = 0;
	int ret = 0;

	if (region->flags & DVSM_REGION_F_PINNED)
		return -EBUSY;
	fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);
	if (!fresh)
		return -ENOMEM;
	for (chunk = dvsm_content_next_chunk(region, first); chunk <= last;
	     chunk = dvsm_content_next_chunk(region, chunk + 1)) {
		struct dvsm_chunk_look look = dvsm_chunk_look(region, chunk);

		if (look.nr_folios) {
			nr_seen++;
			if (look.nr_folios == 1 && look.huge)
				ret = 1;
			else
				ret = dvsm_promote_chunk(region, chunk, look.nid,
							 GFP_HIGHUSER_MOVABLE | __GFP_RETRY_MAYFAIL,
							 fresh);
			arg->out_nr_huge += ret == 1;
			arg->out_nr_promoted += !ret;
			arg->out_nr_busy += ret == -EBUSY;
			arg->out_nr_nomem += ret == -ENOMEM;
			ret = 0;
		}
		if (dvsm_is_interrupted()) {
			ret = -EINTR;
			break;
		}
	}
	if (!ret && first <= last)
		arg->out_nr_holes = last - first + 1 - nr_seen;
	kfree(fresh);
	return ret;
}

/* Copies of a huge folio's pages that are not all zeroes, each a folio. */
static int dvsm_split_fill(struct dvsm_fresh *fresh, struct dvsm_region *store,
			   struct folio *huge, const unsigned long *used)
{
	struct dvsm_placing placing = { .here = folio_nid(huge), .overwrite = true };
	gfp_t gfp = mapping_gfp_mask(store->inode->i_mapping) | __GFP_NOWARN | __GFP_RETRY_MAYFAIL;
	unsigned int nth;
	int wanted;

	for_each_set_bit(nth, used, DVSM_CHUNK_PAGES) {
		pgoff_t index = huge->index + nth;
		struct folio *folio = dvsm_policy_alloc(store, &placing, index, 0, gfp, &wanted);

		if (!folio)
			return -ENOMEM;
		copy_highpage(folio_page(folio, 0), folio_page(huge, nth));
		dvsm_fresh_add(fresh, folio, index);
	}
	return 0;
}

/* Which pages of a huge folio are not all zeroes; how many. */
static unsigned int dvsm_folio_used(struct folio *huge, unsigned long *used)
{
	unsigned int nth;

	bitmap_zero(used, DVSM_CHUNK_PAGES);
	for (nth = 0; nth < DVSM_CHUNK_PAGES; nth++)
		if (memchr_inv(page_address(folio_page(huge, nth)), 0, PAGE_SIZE))
			__set_bit(nth, used);
	return bitmap_weight(used, DVSM_CHUNK_PAGES);
}

/* The huge folio that a region reads at a chunk, with a reference; NULL if there is none. */
static struct folio *dvsm_content_huge(struct dvsm_region *region, u64 chunk)
{
	bool parts;
	struct folio *folio = dvsm_content_peek(region, chunk << DVSM_CHUNK_ORDER, &parts);

	if (IS_ERR_OR_NULL(folio))
		return NULL;
	if (!parts && folio_order(folio) == DVSM_CHUNK_ORDER)
		return folio;
	folio_put(folio);
	return NULL;
}

/* A look without locks, so that a chunk in use is not unmapped for nothing. */
static bool dvsm_split_is_worth_while(struct dvsm_region *region, u64 chunk)
{
	DECLARE_BITMAP(used, DVSM_CHUNK_PAGES);
	struct folio *folio = dvsm_content_huge(region, chunk);
	bool worth;

	if (!folio)
		return false;
	worth = !dvsm_folio_is_poisoned(folio) &&
		dvsm_folio_used(folio, used) <= DVSM_SPLIT_USED_MAX;
	folio_put(folio);
	return worth;
}

/* Returns pages that were given back, 0 for none any more; -EBUSY, -ENOMEM. */
static long dvsm_split_locked(struct dvsm_region *region, u64 chunk, struct dvsm_fresh *fresh)
{
	struct dvsm_region *store = dvsm_chunk_seize(region, chunk);
	DECLARE_BITMAP(used, DVSM_CHUNK_PAGES);
	struct folio *huge;
	unsigned int nr_used;
	int ret;

	if (IS_ERR(store))
		return PTR_ERR(store);
	huge = filemap_get_folio(store->inode->i_mapping, chunk << DVSM_CHUNK_ORDER);
	if (IS_ERR(huge))
		return 0;
	nr_used = folio_order(huge) == DVSM_CHUNK_ORDER ? dvsm_folio_used(huge, used) :
							  DVSM_CHUNK_PAGES;
	if (nr_used > DVSM_SPLIT_USED_MAX) {
		folio_put(huge);
		return 0;
	}
	ret = dvsm_split_fill(fresh, store, huge, used);
	folio_put(huge);
	if (ret)
		return ret;
	dvsm_fresh_look(fresh, store, chunk);
	dvsm_fresh_replace(fresh, store, chunk);
	dvsm_account_uncharge(store, DVSM_CHUNK_PAGES - nr_used);
	return DVSM_CHUNK_PAGES - nr_used;
}

static void dvsm_split_count(struct dvsm_region *region, u64 chunk, struct dvsm_fresh *fresh,
			     struct dvsm_region_split *arg)
{
	struct dvsm_chunk_look look = dvsm_chunk_look(region, chunk);
	long freed;

	if (!look.nr_folios)
		return;
	if (look.nr_folios > 1 || !look.huge) {
		arg->out_nr_small++;
		return;
	}
	if (!dvsm_split_is_worth_while(region, chunk)) {
		arg->out_nr_used++;
		return;
	}
	down_write(&region->family->lock);
	freed = dvsm_split_locked(region, chunk, fresh);
	up_write(&region->family->lock);
	dvsm_fresh_free(fresh);
	if (freed > 0) {
		arg->out_nr_split++;
		arg->out_freed += (u64)freed << PAGE_SHIFT;
	}
	arg->out_nr_used += !freed;
	arg->out_nr_busy += freed == -EBUSY;
	arg->out_nr_nomem += freed == -ENOMEM;
}

/**
 * dvsm_region_split - DVSM_IOC_REGION_SPLIT.
 * @region: the region
 * @first: first chunk
 * @last: last chunk
 * @arg: its outputs are filled in, in error too
 *
 * Context: process; no dvsm lock held.
 * Return: 0; -EBUSY for a pinned region; -EOPNOTSUPP for one that must be huge; -ENOMEM;
 * -EINTR after a fatal signal.
 */
int dvsm_region_split(struct dvsm_region *region, u64 first, u64 last,
		      struct dvsm_region_split *arg)
{
	struct dvsm_fresh *fresh;
	u64 chunk;
	int ret = 0;

	if (region->flags & DVSM_REGION_F_HUGE_REQUIRED)
		return -EOPNOTSUPP;
	if (region->flags & DVSM_REGION_F_PINNED)
		return -EBUSY;
	fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);
	if (!fresh)
		return -ENOMEM;
	for (chunk = dvsm_content_next_chunk(region, first); chunk <= last && !ret;
	     chunk = dvsm_content_next_chunk(region, chunk + 1)) {
		dvsm_split_count(region, chunk, fresh, arg);
		if (dvsm_is_interrupted())
			ret = -EINTR;
	}
	kfree(fresh);
	return ret;
}

