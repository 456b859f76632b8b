// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a region reads and writes: its own page cache, or a share's.
 *
 * Most chunks have no link and are found without a lock but the family's. A
 * chunk with a link is looked up with its mutex held, because another member may
 * be breaking away from the share.
 */
#include <linux/pagemap.h>

#include "dvsm.h"

/* Whose page cache holds what @region reads at @index; NULL if that was lost. */
static struct dvsm_region *dvsm_content_store_locked(struct dvsm_region *region, pgoff_t index)
{
	struct dvsm_link *link = xa_load(&region->links, dvsm_page_chunk(index));

	return link && link->content ? dvsm_share_find(link->content, index)->store : region;
}

/* Whether a write to @index would change nothing about who shares what. */
static bool dvsm_content_is_exclusive_locked(struct dvsm_link *link, pgoff_t index)
{
	if (!link || !link->content)
		return true;
	return dvsm_link_may_write(link) && !link->content->nr_bases &&
	       !link->content->was_shared &&
	       dvsm_share_find(link->content, index) == link->content;
}

static struct folio *dvsm_content_get_locked(struct dvsm_region *region, pgoff_t index,
					     const struct dvsm_placing *placing, bool write,
					     struct dvsm_found *found)
{
	u64 chunk = dvsm_page_chunk(index);
	struct dvsm_link *link = xa_load(&region->links, chunk);
	struct dvsm_region *store;
	int ret;

	if (link && link->content) {
		if (write)
			ret = dvsm_share_break(link, index, placing->held);
		else
			ret = dvsm_share_read(link, index);
		if (ret)
			return ERR_PTR(ret);
		link = xa_load(&region->links, chunk);
	}
	store = dvsm_content_store_locked(region, index);
	found->exclusive = dvsm_content_is_exclusive_locked(link, index);
	found->parts = link && link->content && link->content->parts;
	return dvsm_store_get_locked(store, index, placing, &found->allocated);
}

/**
 * dvsm_content_get - Find or allocate the folio that holds a page.
 * @region: the region
 * @index: the page, below region->nr_pages
 * @placing: on whose behalf to allocate
 * @write: make it one that nobody else reads
 * @found: filled in
 *
 * Context: may sleep; the family is locked for reading.
 * Return: the folio, locked and with a reference; -ENOMEM, also for a cgroup's
 * limit; -EDQUOT for RLIMIT_MEMLOCK; -ENOSPC for a dvsm limit; -EIO for contents
 * that were lost.
 */
struct folio *dvsm_content_get(struct dvsm_region *region, pgoff_t index,
			       const struct dvsm_placing *placing, bool write,
			       struct dvsm_found *found)
{
	u64 chunk = dvsm_page_chunk(index);
	struct mutex *mutex;	/* that lets the sharing of the chunk change */
	struct folio *folio;

	*found = (struct dvsm_found) { .exclusive = true };
	/* Nobody makes a link for us while the family is locked for reading. */
	if (!xa_load(&region->links, chunk))
		return dvsm_store_get(region, index, placing, &found->allocated);

	mutex = dvsm_store_chunk_mutex(region->family, chunk);
	mutex_lock(mutex);
	folio = dvsm_content_get_locked(region, index, placing, write, found);
	mutex_unlock(mutex);
	return folio;
}

/**
 * dvsm_content_peek - Find the folio that holds a page, for reading.
 * @region: the region
 * @index: the page
 * @parts: set if the folio's other pages may not be what the region reads
 *
 * While the reference is held the page shows what the region held when it was
 * taken or, in a region that is written to, something later.
 *
 * Context: may sleep; no dvsm lock held.
 * Return: the folio with a reference, NULL for a hole; -EIO for contents that
 * were lost.
 */
struct folio *dvsm_content_peek(struct dvsm_region *region, pgoff_t index, bool *parts)
{
	u64 chunk = dvsm_page_chunk(index);
	struct mutex *mutex = dvsm_store_chunk_mutex(region->family, chunk);
	struct dvsm_region *store = region;
	struct folio *folio = NULL;

	*parts = false;
	down_read(&region->family->lock);
	if (xa_load(&region->links, chunk)) {
		struct dvsm_link *link;

		mutex_lock(mutex);
		link = xa_load(&region->links, chunk);
		*parts = link && link->content && link->content->parts;
		store = dvsm_content_store_locked(region, index);
		if (store)
			folio = filemap_get_folio(store->inode->i_mapping, index);
		mutex_unlock(mutex);
	} else {
		folio = filemap_get_folio(region->inode->i_mapping, index);
	}
	up_read(&region->family->lock);
	if (!store)
		return ERR_PTR(-EIO);
	return IS_ERR(folio) ? NULL : folio;
}

/**
 * dvsm_content_next_chunk - Find the next chunk that may have memory.
 * @region: the region
 * @chunk: where to start
 *
 * Context: any.
 * Return: the chunk, @chunk or later; ULONG_MAX if there is none.
 */
u64 dvsm_content_next_chunk(struct dvsm_region *region, u64 chunk)
{
	unsigned long linked = chunk, last = ULONG_MAX;
	pgoff_t own;

	/* Most chunks that are asked for are there, and the next one after them. */
	if (xa_load(&region->links, chunk))
		return chunk;
	own = dvsm_store_next(region, chunk << DVSM_CHUNK_ORDER);
	if (own < region->nr_pages)
		last = dvsm_page_chunk(own);
	return xa_find(&region->links, &linked, last, XA_PRESENT) ? linked : last;
}

struct dvsm_content_walk {
	bool (*fn)(struct folio *folio, bool shared, void *arg);
	bool (*fn_pages)(struct folio *folio, pgoff_t start, pgoff_t end, void *arg);
	void *arg;
	bool shared;
	pgoff_t start;			/* for @fn_pages: what is read of the folios at hand */
	pgoff_t end;
};

static bool dvsm_content_walk_folio(struct folio *folio, void *arg)
{
	struct dvsm_content_walk *walk = arg;

	if (walk->fn_pages)
		return walk->fn_pages(folio, max(folio->index, walk->start),
				      min(folio_next_index(folio), walk->end), walk->arg);
	return walk->fn(folio, walk->shared, walk->arg);
}

/* The same, also ending when the caller is to die. */
static bool dvsm_content_walk_own_folio(struct folio *folio, void *arg)
{
	return dvsm_content_walk_folio(folio, arg) || dvsm_shall_stop();
}

/* The folios of [start, end), inside one chunk, that a share reads: by runs that one share has. */
static bool dvsm_content_walk_runs(struct dvsm_share *share, pgoff_t start, pgoff_t end,
				   struct dvsm_content_walk *walk)
{
	bool stop = false;

	for (; !stop && start < end; start = walk->end) {
		struct dvsm_region *store = dvsm_share_find(share, start)->store;

		walk->start = start;
		walk->end = dvsm_share_run_end(share, start, end);
		if (store)
			stop = dvsm_store_walk(store, start, walk->end, dvsm_content_walk_folio,
					       walk);
	}
	return stop;
}

/* All folios of [start, end), inside one chunk, that the region reads any page of. */
static bool dvsm_content_walk_locked(struct dvsm_region *region, pgoff_t start, pgoff_t end,
				     struct dvsm_content_walk *walk)
{
	struct dvsm_link *link = xa_load(&region->links, dvsm_page_chunk(start));
	struct dvsm_share *share = link ? link->content : NULL;
	bool stop = false;

	walk->start = start;
	walk->end = end;
	if (!share)
		return dvsm_store_walk(region, start, end, dvsm_content_walk_folio, walk);
	if (walk->fn_pages)
		return dvsm_content_walk_runs(share, start, end, walk);
	for (; share && !stop; share = share->under) {
		walk->shared = share != link->content || !dvsm_link_is_alone(link);
		if (share->store)
			stop = dvsm_store_walk(share->store, start, end, dvsm_content_walk_folio,
					       walk);
	}
	walk->shared = false;
	return stop;
}

/**
 * dvsm_content_walk_chunk - dvsm_content_walk() inside one chunk.
 * @region: the region
 * @start: first page
 * @end: the page after the last
 * @fn: as there; may replace the folio
 * @arg: handed to @fn
 *
 * Context: sharing may change.
 * Return: whether @fn stopped the walk.
 */
bool dvsm_content_walk_chunk(struct dvsm_region *region, pgoff_t start, pgoff_t end,
			     bool (*fn)(struct folio *folio, bool shared, void *arg), void *arg)
{
	struct dvsm_content_walk walk = { .fn = fn, .arg = arg };

	return dvsm_content_walk_locked(region, start, end, &walk);
}

static void dvsm_content_walk_all(struct dvsm_region *region, pgoff_t start, pgoff_t end,
				  struct dvsm_content_walk *walk)
{
	bool stop = false;
	u64 chunk;

	if (xa_empty(&region->links)) {
		walk->start = start;
		walk->end = end;
		dvsm_store_walk(region, start, end, dvsm_content_walk_own_folio, walk);
		return;
	}
	while (!stop && start < end && !dvsm_shall_stop()) {
		struct mutex *mutex;	/* as above */

		chunk = dvsm_content_next_chunk(region, dvsm_page_chunk(start));
		if (chunk >= dvsm_page_chunk(end + DVSM_CHUNK_PAGES - 1))
			break;
		start = max_t(u64, start, chunk << DVSM_CHUNK_ORDER);
		mutex = dvsm_store_chunk_mutex(region->family, chunk);
		down_read(&region->family->lock);
		mutex_lock(mutex);
		stop = dvsm_content_walk_locked(region, start,
						min_t(u64, end, (chunk + 1) << DVSM_CHUNK_ORDER),
						walk);
		mutex_unlock(mutex);
		up_read(&region->family->lock);
		start = (chunk + 1) << DVSM_CHUNK_ORDER;
	}
}

/**
 * dvsm_content_walk - Look at the folios that a region reads, in order of chunks.
 * @region: the region
 * @start: first page
 * @end: the page after the last
 * @fn: called with each folio, which is referenced, and whether others share it;
 *	stops the walk with true; must not sleep for long
 * @arg: handed to @fn
 *
 * A fatal signal ends the walk too.
 *
 * Context: may sleep; no dvsm lock held.
 */
void dvsm_content_walk(struct dvsm_region *region, pgoff_t start, pgoff_t end,
		       bool (*fn)(struct folio *folio, bool shared, void *arg), void *arg)
{
	struct dvsm_content_walk walk = { .fn = fn, .arg = arg };

	dvsm_content_walk_all(region, start, end, &walk);
}

/**
 * dvsm_content_walk_pages - Look at the pages that a region reads, in order.
 * @region: the region
 * @start: first page
 * @end: the page after the last
 * @fn: called with each folio, which is referenced, and which of its pages are read:
 *	from one to before another; stops the walk with true; must not sleep for long
 * @arg: handed to @fn
 *
 * A fatal signal ends the walk too.
 *
 * Context: may sleep; no dvsm lock held.
 */
void dvsm_content_walk_pages(struct dvsm_region *region, pgoff_t start, pgoff_t end,
			     bool (*fn)(struct folio *folio, pgoff_t start, pgoff_t end,
					void *arg),
			     void *arg)
{
	struct dvsm_content_walk walk = { .fn_pages = fn, .arg = arg };

	dvsm_content_walk_all(region, start, end, &walk);
}

/* The next page from @index on, in the chunk or after it, that has memory. */
static pgoff_t dvsm_content_next_locked(struct dvsm_region *region, pgoff_t index)
{
	struct dvsm_link *link = xa_load(&region->links, dvsm_page_chunk(index));
	struct dvsm_share *share = link ? link->content : NULL;
	pgoff_t next = region->nr_pages;

	if (!share)
		return dvsm_store_next(region, index);
	for (; share; share = share->under) {
		/* What was lost is no hole. */
		if (!share->store)
			return index;
		next = min(next, dvsm_store_next(share->store, index));
	}
	return next;
}

/**
 * dvsm_content_next - Find the next page that has memory, or was lost.
 * @region: the region
 * @index: where to start
 *
 * Context: may sleep; no dvsm lock held.
 * Return: the page, @index or later; region->nr_pages if there is none; @index
 * after a fatal signal, which ends the search.
 */
pgoff_t dvsm_content_next(struct dvsm_region *region, pgoff_t index)
{
	pgoff_t from = index;

	if (xa_empty(&region->links))
		return dvsm_store_next(region, index);
	while (!dvsm_shall_stop()) {
		u64 chunk = dvsm_content_next_chunk(region, dvsm_page_chunk(from));
		struct mutex *mutex = dvsm_store_chunk_mutex(region->family, chunk);
		pgoff_t next;

		if (chunk > dvsm_page_chunk(region->nr_pages - 1))
			return region->nr_pages;
		from = max_t(u64, from, chunk << DVSM_CHUNK_ORDER);
		down_read(&region->family->lock);
		mutex_lock(mutex);
		next = dvsm_content_next_locked(region, from);
		mutex_unlock(mutex);
		up_read(&region->family->lock);
		if (dvsm_page_chunk(next) == chunk && next < region->nr_pages)
			return next;
		from = (chunk + 1) << DVSM_CHUNK_ORDER;
		cond_resched();
	}
	return index;
}

/**
 * dvsm_content_unmap - Take a chunk out of a region's mappings.
 * @region: the region
 * @chunk: the chunk
 *
 * Waits first for faults that are about to map it.
 *
 * Context: the family is locked for writing.
 */
void dvsm_content_unmap(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_link *link = xa_load(&region->links, chunk);

	lockdep_assert_held_write(&region->family->lock);

	if (link && link->content)
		dvsm_share_settle(link->content);
	else
		dvsm_store_settle_chunk(region, chunk);
	dvsm_store_unmap_chunk(region, chunk);
}

/**
 * dvsm_content_make_hole - Let a region read nothing at a chunk.
 * @region: the region
 * @chunk: the chunk
 *
 * Context: the family is locked for writing.
 * Return: 0 or -ENOMEM.
 */
int dvsm_content_make_hole(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_link *link = xa_load(&region->links, chunk);
	struct dvsm_share *share = link ? link->content : NULL;

	lockdep_assert_held_write(&region->family->lock);

	dvsm_content_unmap(region, chunk);
	if (share)
		dvsm_share_diverge(link);
	if (dvsm_link_lends_to_others(link))
		return dvsm_share_leave_to_hole(link);
	if (share)
		dvsm_share_leave(link);
	else
		dvsm_store_empty_chunk(region, chunk);
	return 0;
}

/*
 * [start, end) is a part of one chunk. Returns pages that were freed, or an
 * error.
 */
static long dvsm_content_discard_part(struct dvsm_region *region, u64 chunk, loff_t start,
				      loff_t end)
{
	struct dvsm_link *link = xa_load(&region->links, chunk);
	struct dvsm_region *store;
	int ret;

	if (link && link->content) {
		ret = dvsm_share_break_all(link);
		if (ret)
			return ret;
	}
	store = dvsm_content_store_locked(region, chunk << DVSM_CHUNK_ORDER);
	/* Another region's page cache knows nothing of this one's mappings. */
	if (store != region)
		dvsm_content_unmap(region, chunk);
	return dvsm_store_discard(store, start, end);
}

static bool dvsm_content_count(struct folio *folio, bool shared, void *arg)
{
	*(unsigned long *)arg += folio_nr_pages(folio);
	return false;
}

static long dvsm_content_discard_chunk(struct dvsm_region *region, u64 chunk)
{
	pgoff_t start = chunk << DVSM_CHUNK_ORDER;
	unsigned long nr_pages = 0;
	int ret;

	dvsm_content_walk_chunk(region, start, start + DVSM_CHUNK_PAGES, dvsm_content_count,
				&nr_pages);
	ret = dvsm_content_make_hole(region, chunk);
	return ret ? ret : nr_pages;
}

/**
 * dvsm_content_discard - Make a range read as zeroes and give its memory back.
 * @region: the region
 * @start: first byte
 * @end: the byte after the last, above @start
 * @nr_pages: what the region no longer reads is added to it
 *
 * Context: may sleep; the family is locked for writing.
 * Return: 0; where others share the memory -ENOMEM or -ENOSPC for what has to
 * be copied; -EHWPOISON for a part of a folio with a lost page.
 */
int dvsm_content_discard(struct dvsm_region *region, loff_t start, loff_t end,
			 unsigned long *nr_pages)
{
	if (xa_empty(&region->links)) {
		long done = dvsm_store_discard(region, start, end);

		if (done < 0)
			return done;
		*nr_pages += done;
		return 0;
	}
	while (start < end) {
		u64 chunk = start >> DVSM_CHUNK_SHIFT;
		loff_t first = (loff_t)chunk << DVSM_CHUNK_SHIFT;
		loff_t last = min_t(loff_t, first + DVSM_CHUNK_SIZE, region->length);
		long done;

		if (start == first && end >= last)
			done = dvsm_content_discard_chunk(region, chunk);
		else
			done = dvsm_content_discard_part(region, chunk, start, min(end, last));
		if (done < 0)
			return done;
		*nr_pages += done;
		start = last;
	}
	return 0;
}
