// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where two regions of a family read different contents, told from who shares what:
 * no memory is read.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "dvsm.h"
#include "snapshot.h"

#define DVSM_RANGES_BATCH	256U	/* ranges gathered at once */

static int dvsm_ranges_grow(struct dvsm_ranges *ranges)
{
	unsigned int nr_room = min_t(u64, ranges->nr_max,
				     max_t(u64, 2ULL * ranges->nr_room, DVSM_RANGES_BATCH));
	size_t size = array_size(nr_room, sizeof(*ranges->ranges));
	/* The family is locked: no search for memory that is in one piece. */
	struct dvsm_range *more = size > PAGE_SIZE ? __vmalloc(size, DVSM_GFP)
						   : kmalloc(size, DVSM_GFP);

	if (!more)
		return -ENOMEM;
	if (ranges->nr)
		memcpy(more, ranges->ranges, ranges->nr * sizeof(*more));
	kvfree(ranges->ranges);
	ranges->ranges = more;
	ranges->nr_room = nr_room;
	return 0;
}

/**
 * dvsm_ranges_add - Add a range.
 * @ranges: what there is
 * @offset: behind all of that
 * @length: in bytes
 *
 * Context: may sleep.
 * Return: 0; -ENOSPC if no more are wanted; -ENOMEM.
 */
int dvsm_ranges_add(struct dvsm_ranges *ranges, u64 offset, u64 length)
{
	struct dvsm_range *last = ranges->nr ? &ranges->ranges[ranges->nr - 1] : NULL;
	int ret;

	if (last && last->offset + last->length == offset) {
		last->length += length;
		return 0;
	}
	if (ranges->nr == ranges->nr_max)
		return -ENOSPC;
	if (ranges->nr == ranges->nr_room) {
		ret = dvsm_ranges_grow(ranges);
		if (ret)
			return ret;
	}
	ranges->ranges[ranges->nr++] = (struct dvsm_range) { .offset = offset, .length = length };
	return 0;
}

/**
 * dvsm_content_is_written - Whether a region may read anything but zeroes.
 * @region: the region
 * @chunk: where
 *
 * Context: sharing may change.
 * Return: true if it may.
 */
bool dvsm_content_is_written(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_share *share = dvsm_share_of(region, chunk);

	if (!share)
		return dvsm_store_chunk_is_written(region, chunk);
	for (; share; share = share->under)
		if (!share->store || dvsm_store_chunk_is_written(share->store, chunk))
			return true;
	return false;
}

/**
 * dvsm_pages_add_above - Add what lies in a share and in those under it.
 * @pages: what there is
 * @share: the uppermost, or NULL for nothing
 * @base: the first that is left out; all of the chunk is added if it is not there
 *
 * Context: sharing may change.
 */
void dvsm_pages_add_above(struct dvsm_pages *pages, struct dvsm_share *share,
				 const struct dvsm_share *base)
{
	for (; share && share != base; share = share->under) {
		if (!share->parts) {
			bitmap_fill(pages->bits, DVSM_CHUNK_PAGES);
			return;
		}
		bitmap_or(pages->bits, pages->bits, share->parts, DVSM_CHUNK_PAGES);
	}
}

/* The uppermost share that both read. */
static struct dvsm_share *dvsm_share_common(struct dvsm_share *a, struct dvsm_share *b)
{
	for (; a; a = a->under) {
		struct dvsm_share *at = b;

		while (at && at != a)
			at = at->under;
		if (at)
			return at;
	}
	return NULL;
}

/**
 * dvsm_pages_differ - Where two regions read different contents, as far as identity tells.
 * @pages: gets the pages of the chunk
 * @a: the one
 * @b: the other
 * @chunk: the chunk
 *
 * Context: sharing may change.
 */
void dvsm_pages_differ(struct dvsm_pages *pages, struct dvsm_region *a, struct dvsm_region *b,
		       u64 chunk)
{
	struct dvsm_share *of_a = dvsm_share_of(a, chunk), *of_b = dvsm_share_of(b, chunk);
	struct dvsm_share *common = dvsm_share_common(of_a, of_b);

	bitmap_zero(pages->bits, DVSM_CHUNK_PAGES);
	if (common) {
		dvsm_pages_add_above(pages, of_a, common);
		dvsm_pages_add_above(pages, of_b, common);
	} else if (dvsm_content_is_written(a, chunk) || dvsm_content_is_written(b, chunk)) {
		bitmap_fill(pages->bits, DVSM_CHUNK_PAGES);
	}
}

/**
 * dvsm_nr_pages_differing - In how much of a chunk two regions read different contents.
 * @a: the one
 * @b: the other
 * @chunk: the chunk, which begins below the regions' end
 *
 * Context: sharing may change.
 * Return: pages that may differ.
 */
unsigned int dvsm_nr_pages_differing(struct dvsm_region *a, struct dvsm_region *b, u64 chunk)
{
	struct dvsm_pages pages;

	dvsm_pages_differ(&pages, a, b, chunk);
	return bitmap_weight(pages.bits, dvsm_chunk_pages(chunk, a->nr_pages));
}

/**
 * dvsm_pages_next_run - Find pages that follow one another.
 * @pages: where
 * @from: the first to look at; set to the first of them
 *
 * Context: any.
 * Return: how many they are; 0 if there is none.
 */
unsigned int dvsm_pages_next_run(const struct dvsm_pages *pages, unsigned int *from)
{
	*from = find_next_bit(pages->bits, DVSM_CHUNK_PAGES, *from);
	return find_next_zero_bit(pages->bits, DVSM_CHUNK_PAGES, *from) - *from;
}

/* Add pages of a chunk, from page @from of it on; sets it to the first with no room. */
static int dvsm_ranges_add_pages(struct dvsm_ranges *ranges, const struct dvsm_pages *pages,
				 u64 chunk, unsigned int *from, u64 region_length)
{
	unsigned int nr;
	int ret;

	while ((nr = dvsm_pages_next_run(pages, from))) {
		u64 offset = (chunk << DVSM_CHUNK_SHIFT) + ((u64)*from << PAGE_SHIFT);

		if (offset >= region_length)
			break;
		ret = dvsm_ranges_add(ranges, offset,
				      min_t(u64, (u64)nr << PAGE_SHIFT, region_length - offset));
		if (ret)
			return ret;
		*from += nr;
	}
	return 0;
}

/**
 * dvsm_family_note_first - Note that somebody writes to what was zeroes.
 * @family: the family
 * @chunk: where
 *
 * Snapshots have no links for zeroes, so there is nothing that could be marked.
 *
 * Context: may sleep; the family is locked.
 */
void dvsm_family_note_first(struct dvsm_family *family, u64 chunk)
{
	long nr = atomic_long_inc_return(&family->nr_firsts);

	/* One region alone has no snapshot that could ask. */
	if (refcount_read(&family->refs) > 1 &&
	    xa_err(xa_store(&family->firsts, chunk, xa_mk_value(nr), DVSM_GFP)))
		WRITE_ONCE(family->first_lost, nr);
}

/* Up to @end, where the answer is that. */
static u64 dvsm_next_chunk_marked(struct dvsm_region *snapshot, u64 chunk, u64 end)
{
	unsigned long at = chunk;

	return xa_find(&snapshot->links, &at, end, DVSM_LINK_DIVERGED) ? at : end;
}

/* The same for chunks that were zeroes when the snapshot was tracked, and were written to. */
static u64 dvsm_next_chunk_first(struct dvsm_region *snapshot, u64 chunk, u64 end)
{
	unsigned long at;
	void *entry;

	xa_for_each_range(&snapshot->family->firsts, at, entry, chunk, end) {
		if ((long)xa_to_value(entry) > snapshot->nr_firsts)
			return at;
		cond_resched();
	}
	return end;
}

/**
 * dvsm_snapshot_track - Let a snapshot's marks tell where it differs from its parent.
 * @snapshot: a snapshot all of whose unmarked chunks are as its parent's
 *
 * Context: the family is locked for writing.
 */
void dvsm_snapshot_track(struct dvsm_region *snapshot)
{
	struct dvsm_family *family = snapshot->family;

	snapshot->nr_firsts = atomic_long_read(&family->nr_firsts);
	/* No other snapshot is there that would ask for older ones. */
	if (refcount_read(&family->refs) == 2)
		xa_destroy(&family->firsts);
}

/**
 * dvsm_snapshot_is_tracked - Whether marks tell where a snapshot differs.
 * @snapshot: the snapshot
 *
 * Context: the family is locked.
 * Return: whether it reads what its parent reads wherever it has no marked link and nobody
 * wrote to what was zeroes.
 */
bool dvsm_snapshot_is_tracked(const struct dvsm_region *snapshot)
{
	return snapshot->nr_firsts >= READ_ONCE(snapshot->family->first_lost);
}

/**
 * dvsm_next_chunk_differing - Find the next chunk where two regions may differ.
 * @a: the one
 * @b: the other
 * @chunk: where to start
 *
 * Costs by chunks that were written to for a region and its snapshot, and for two
 * snapshots of one parent; else by chunks with memory.
 *
 * Context: the family is locked.
 * Return: the chunk; ULONG_MAX if there is none.
 */
u64 dvsm_next_chunk_differing(struct dvsm_region *a, struct dvsm_region *b, u64 chunk)
{
	bool siblings = a->parent_id && a->parent_id == b->parent_id;
	bool of_a = siblings || a->parent_id == b->id;
	bool of_b = siblings || b->parent_id == a->id;
	u64 end = ULONG_MAX;

	if ((!of_a && !of_b) || (of_a && !dvsm_snapshot_is_tracked(a)) ||
	    (of_b && !dvsm_snapshot_is_tracked(b)))
		return min(dvsm_content_next_chunk(a, chunk), dvsm_content_next_chunk(b, chunk));
	if (of_a) {
		end = dvsm_next_chunk_marked(a, chunk, end);
		end = dvsm_next_chunk_first(a, chunk, end);
	}
	if (of_b) {
		end = dvsm_next_chunk_marked(b, chunk, end);
		end = dvsm_next_chunk_first(b, chunk, end);
	}
	return end;
}

/**
 * dvsm_span_in_common - What two spans have in common.
 * @a: the one
 * @b: the other
 *
 * Context: any.
 * Return: the span, which may be none.
 */
struct dvsm_span dvsm_span_in_common(struct dvsm_span a, struct dvsm_span b)
{
	return (struct dvsm_span) {
		.first = max(a.first, b.first),
		.end = min(a.end, b.end),
	};
}

/* Where two regions of a family can differ: outside of it one has nothing of the other. */
static struct dvsm_span dvsm_span_compared(const struct dvsm_region *a,
					   const struct dvsm_region *b)
{
	if (a->parent_id == b->id)
		return a->taken;
	if (b->parent_id == a->id)
		return b->taken;
	if (a->parent_id && a->parent_id == b->parent_id)
		return dvsm_span_in_common(a->taken, b->taken);
	return dvsm_span_in_common(a->descent, b->descent);
}

/* A comparison that goes on. */
struct dvsm_diff {
	struct dvsm_region *region;
	struct dvsm_region *other;
	bool advance;			/* @other is a snapshot that is to read what was told */
	bool all;			/* from @next to @end is all that can differ */
	u64 next;			/* page to look at */
	u64 end;			/* page after the last */
	struct dvsm_ranges ranges;
};

/* Tell of pages of a chunk, from page @from of it on; sets it as above. */
static int dvsm_diff_tell(struct dvsm_diff *diff, const struct dvsm_pages *pages, u64 chunk,
			  unsigned int *from)
{
	return dvsm_ranges_add_pages(&diff->ranges, pages, chunk, from, diff->end << PAGE_SHIFT);
}

/* Tell of all that differs in a chunk, and let the snapshot read it; or neither. */
static int dvsm_diff_advance(struct dvsm_diff *diff, const struct dvsm_pages *pages, u64 chunk,
			     unsigned int *from)
{
	unsigned int nr = diff->ranges.nr;
	u64 length = nr ? diff->ranges.ranges[nr - 1].length : 0;
	int ret;

	if (dvsm_pages_are_none(pages))
		return 0;
	ret = dvsm_diff_tell(diff, pages, chunk, from);
	if (!ret)
		ret = dvsm_snapshot_advance(diff->other, diff->region, chunk);
	if (!ret)
		return 0;
	*from = 0;
	diff->ranges.nr = nr;
	if (nr)
		diff->ranges.ranges[nr - 1].length = length;
	/* What was told so far is true no more: it has to get to the caller. */
	return nr ? -ENOSPC : ret;
}

static int dvsm_diff_gather(struct dvsm_diff *diff)
{
	struct dvsm_region *region = diff->region, *other = diff->other;
	u64 first = dvsm_page_chunk(diff->next), chunk;
	unsigned int from = diff->next % DVSM_CHUNK_PAGES;
	int ret = 0;

	for (chunk = dvsm_next_chunk_differing(region, other, first);
	     chunk << DVSM_CHUNK_ORDER < diff->end;
	     chunk = dvsm_next_chunk_differing(region, other, chunk + 1)) {
		struct mutex *mutex = dvsm_store_chunk_mutex(region->family, chunk);
		struct dvsm_pages pages;

		mutex_lock(mutex);
		dvsm_pages_differ(&pages, region, other, chunk);
		mutex_unlock(mutex);
		if (chunk != first)
			from = 0;
		if (diff->advance)
			ret = dvsm_diff_advance(diff, &pages, chunk, &from);
		else
			ret = dvsm_diff_tell(diff, &pages, chunk, &from);
		if (!ret && dvsm_is_interrupted())
			ret = diff->advance ? -ENOSPC : -EINTR;
		if (ret)
			break;
	}
	diff->next = chunk > diff->end ? diff->end
				       : min(diff->end, (chunk << DVSM_CHUNK_ORDER) +
							(ret ? from : 0));
	return ret == -ENOSPC ? 0 : ret;
}

static int dvsm_diff_locked(struct dvsm_diff *diff)
{
	struct dvsm_family *family = diff->region->family;
	u64 first = dvsm_page_chunk(diff->next);
	xa_mark_t changed;
	int ret;

	if (!diff->advance) {
		down_read(&family->lock);
		ret = dvsm_diff_gather(diff);
		up_read(&family->lock);
		return ret;
	}
	if (down_write_killable(&family->lock))
		return -EINTR;
	changed = dvsm_snapshot_changed(diff->other);
	ret = dvsm_diff_gather(diff);
	/* Also where both had become the same without being told. */
	dvsm_snapshot_rebase(diff->other, diff->region, changed, first,
			     dvsm_page_chunk(diff->next + DVSM_CHUNK_PAGES - 1));
	if (!ret && diff->all && diff->next == diff->end)
		dvsm_snapshot_track(diff->other);
	up_write(&family->lock);
	return ret;
}

/* The range that was asked for may lie around all that can differ, or beside it. */
static void dvsm_diff_clip(struct dvsm_diff *diff)
{
	struct dvsm_span span = dvsm_span_compared(diff->region, diff->other);
	u64 first = span.first << DVSM_CHUNK_ORDER;
	u64 end = min_t(u64, span.end << DVSM_CHUNK_ORDER, diff->region->nr_pages);

	diff->all = diff->next <= first && diff->end >= end;
	diff->next = max(diff->next, first);
	diff->end = min(diff->end, end);
}

/**
 * dvsm_region_diff - DVSM_IOC_REGION_DIFF.
 * @region: the one
 * @other: the other, of the same family
 * @arg: the command's argument, its range checked to lie in the region
 *
 * Context: process.
 * Return: 0; -EFAULT, -ENOMEM, -EINTR; with DVSM_DIFF_F_ADVANCE -EBUSY, -EIO.
 */
int dvsm_region_diff(struct dvsm_region *region, struct dvsm_region *other,
		     struct dvsm_region_diff *arg)
{
	struct dvsm_range __user *user = u64_to_user_ptr(arg->ranges);
	struct dvsm_diff diff = {
		.region = region,
		.other = other,
		.advance = arg->flags & DVSM_DIFF_F_ADVANCE,
		.next = arg->offset >> PAGE_SHIFT,
		.end = (arg->offset + arg->length) >> PAGE_SHIFT,
		.ranges.nr_max = min_t(u32, arg->nr_ranges, DVSM_RANGES_BATCH),
	};
	unsigned int nr_tries = 0;
	u64 next;
	int ret;

	dvsm_diff_clip(&diff);
	next = diff.next;
	do {
		diff.next = next;
		ret = dvsm_diff_locked(&diff);
	} while (dvsm_snapshot_try_again(ret, &nr_tries));
	if (!ret && copy_to_user(user, diff.ranges.ranges, diff.ranges.nr * sizeof(*user)))
		ret = -EFAULT;
	kvfree(diff.ranges.ranges);
	arg->out_nr_ranges = diff.ranges.nr;
	arg->out_next = diff.next < diff.end ? diff.next << PAGE_SHIFT : arg->offset + arg->length;
	return ret;
}
