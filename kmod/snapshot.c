// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshots: take, compare, restore, merge.
 *
 * Taking one makes shares and nothing else. The order is what makes it one
 * moment that no write slips through:
 *
 *   1. The family is locked for writing: no fault, read() or write() can look
 *      anything up.
 *   2. Every chunk is marked shared, and every folio is locked once: faults that
 *      had looked up before are mapped now.
 *   3. What is shared is unmapped: whoever writes next faults, and waits for 1.
 *   4. Only then references are looked at. One that is left is somebody's who
 *      may write past the page tables; he can have got it before 3 only. His
 *      chunks are copied.
 *
 * Restore and merge make one region read what another one reads. Nothing is
 * copied: folios stay where they are, and shares say who reads them.
 */
#include <linux/bitmap.h>
#include <linux/log2.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "dvsm.h"
#include "trace.h"

#define DVSM_RANGES_BATCH	256U	/* ranges gathered at once */

/* Between two chunks. Returns whether to give up. */
static bool dvsm_is_interrupted(void)
{
	cond_resched();
	return fatal_signal_pending(current);
}

/* Take chunks out of all mappings of a region. */
static void dvsm_unmap_chunks(struct dvsm_region *region, u64 first, u64 end)
{
	/* A length of 0 would mean all of it. */
	if (first < end)
		unmap_mapping_range(region->inode->i_mapping, (loff_t)first << DVSM_CHUNK_SHIFT,
				    (loff_t)(end - first) << DVSM_CHUNK_SHIFT, 0);
}

static struct dvsm_share *dvsm_content_of(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_link *link = xa_load(&region->links, chunk);

	return link ? link->content : NULL;
}

/* The snapshot gets a copy, as a share that it alone reads: its starting point. */
static int dvsm_take_copy(struct dvsm_region *parent, struct dvsm_region *snapshot, u64 chunk)
{
	struct dvsm_share *from = dvsm_content_of(parent, chunk), *share;
	struct dvsm_link *link = dvsm_link_make(snapshot, chunk);
	int ret;

	if (!link)
		return -ENOMEM;
	if (from)
		ret = dvsm_share_copy_to(from, snapshot);
	else
		ret = dvsm_store_copy_chunk(snapshot, parent, chunk);
	if (ret)
		return ret;
	share = dvsm_share_create(link);
	if (!share)
		return -ENOMEM;
	dvsm_share_join(share, link);
	dvsm_link_set_base(link, share);
	if (!from)
		atomic_long_add(DVSM_CHUNK_PAGES, &snapshot->stats.nr_copied);
	return 0;
}

/* Make the region's contents of a chunk a share, if they are not; NULL without memory. */
static struct dvsm_share *dvsm_content_to_share(struct dvsm_region *region, u64 chunk)
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

/* A snapshot that is being taken. */
struct dvsm_take {
	struct dvsm_region *parent;
	struct dvsm_region *snapshot;
	u64 first;			/* chunk */
	u64 end;
	unsigned int order;		/* of what a write copies */
	bool adaptive;
};

/* What is about to be shared; who shares it already gets the finer of the two. */
static void dvsm_take_granularity(struct dvsm_take *take, struct dvsm_link *link)
{
	struct dvsm_share *share = link->content;

	if (dvsm_link_is_alone(link)) {
		share->order = take->order;
		share->adaptive = take->adaptive;
	} else {
		share->order = min_t(unsigned int, share->order, take->order);
		share->adaptive |= take->adaptive;
	}
	/* Of what is mapped now nothing will be left. */
	link->seen = false;
}

/* A chunk of zeroes stays a hole in the snapshot. */
static int dvsm_take_mark(struct dvsm_take *take, u64 chunk)
{
	struct dvsm_share *share = dvsm_content_of(take->parent, chunk);
	struct dvsm_link *link;
	bool written;

	if (share)
		written = dvsm_share_settle(share);
	else
		written = dvsm_store_settle_chunk(take->parent, chunk);
	if (!written)
		return 0;
	share = dvsm_content_to_share(take->parent, chunk);
	link = share ? dvsm_link_make(take->snapshot, chunk) : NULL;
	if (!link)
		return -ENOMEM;
	dvsm_take_granularity(take, xa_load(&take->parent->links, chunk));
	dvsm_share_join(share, link);
	dvsm_link_set_base(link, share);
	return 0;
}

/* A chunk that was the parent's alone until now may have writers past the page tables. */
static int dvsm_take_check(struct dvsm_take *take, u64 chunk)
{
	struct dvsm_link *link = xa_load(&take->snapshot->links, chunk);
	struct dvsm_share *share = link->content;

	if (share->nr_members != 2 || share->nr_overs || !share->store ||
	    !dvsm_store_chunk_is_referenced(share->store, chunk, NULL))
		return 0;
	dvsm_link_set_base(link, NULL);
	dvsm_share_leave(link);
	return dvsm_take_copy(take->parent, take->snapshot, chunk);
}

/*
 * What the snapshot shares, and no more: nothing else is mapped for writing without
 * a fault, and the page tables between far chunks would cost more than the chunks.
 */
static void dvsm_take_unmap(struct dvsm_region *parent, struct dvsm_region *snapshot)
{
	struct dvsm_link *link;
	u64 first = 0, end = 0;
	unsigned long chunk;

	xa_for_each(&snapshot->links, chunk, link) {
		if (chunk != end) {
			dvsm_unmap_chunks(parent, first, end);
			first = chunk;
		}
		end = chunk + 1;
	}
	dvsm_unmap_chunks(parent, first, end);
}

static int dvsm_take_share(struct dvsm_take *take)
{
	struct dvsm_link *link;
	unsigned long at;
	u64 chunk;
	int ret = 0;

	for (chunk = dvsm_content_next_chunk(take->parent, take->first); chunk < take->end && !ret;
	     chunk = dvsm_content_next_chunk(take->parent, chunk + 1)) {
		ret = dvsm_take_mark(take, chunk);
		if (!ret && dvsm_is_interrupted())
			ret = -EINTR;
	}
	/* In error too: what was marked forgets who has it mapped. */
	dvsm_take_unmap(take->parent, take->snapshot);
	if (ret)
		return ret;
	xa_for_each(&take->snapshot->links, at, link) {
		ret = dvsm_take_check(take, at);
		if (!ret && dvsm_is_interrupted())
			ret = -EINTR;
		if (ret)
			break;
	}
	return ret;
}

/* Devices write to a registrable region whenever they like: all of it is copied. */
static int dvsm_take_copies(struct dvsm_take *take)
{
	u64 chunk;
	int ret = 0;

	dvsm_unmap_chunks(take->parent, take->first, take->end);
	for (chunk = dvsm_content_next_chunk(take->parent, take->first); chunk < take->end && !ret;
	     chunk = dvsm_content_next_chunk(take->parent, chunk + 1)) {
		dvsm_content_unmap(take->parent, chunk);
		ret = dvsm_take_copy(take->parent, take->snapshot, chunk);
		if (!ret && dvsm_is_interrupted())
			ret = -EINTR;
	}
	return ret;
}

/**
 * dvsm_snapshot_take - DVSM_IOC_SNAPSHOT_TAKE.
 * @parent: the region
 * @start: first byte, at a chunk
 * @end: the byte after the last
 * @label: the snapshot's name for people
 * @flags: DVSM_SNAPSHOT_F_
 * @granularity: bytes that a write copies: a page, 16 pages or a chunk
 *
 * Context: process; the caller pays for what is copied now and later.
 * Return: a file on the snapshot; -ENOMEM, -ENOSPC, -EINTR, -EHWPOISON.
 */
struct file *dvsm_snapshot_take(struct dvsm_region *parent, loff_t start, loff_t end,
				const char *label, u32 flags, u64 granularity)
{
	u32 inherited = parent->flags & DVSM_REGION_F_HUGE_REQUIRED;
	struct dvsm_take take = {
		.parent = parent,
		.first = start >> DVSM_CHUNK_SHIFT,
		.end = (end + DVSM_CHUNK_SIZE - 1) >> DVSM_CHUNK_SHIFT,
		.order = ilog2(granularity) - PAGE_SHIFT,
		.adaptive = flags & DVSM_SNAPSHOT_F_ADAPTIVE,
	};
	struct dvsm_region *snapshot;
	struct inode *inode;
	struct file *file;
	int ret;

	snapshot = dvsm_region_create_inode(parent->length, inherited, &parent->policy, label,
					    parent->family);
	if (!snapshot)
		return ERR_PTR(-ENOMEM);
	snapshot->parent_id = parent->id;
	snapshot->memcg = get_mem_cgroup_from_mm(current->mm);

	take.snapshot = snapshot;
	down_write(&parent->family->lock);
	if (parent->flags & DVSM_REGION_F_REGISTRABLE)
		ret = dvsm_take_copies(&take);
	else
		ret = dvsm_take_share(&take);
	up_write(&parent->family->lock);

	inode = snapshot->inode;
	file = ret ? ERR_PTR(ret == -EDQUOT ? -ENOMEM : ret)
		   : dvsm_inode_open(inode, flags & DVSM_SNAPSHOT_F_READ_ONLY ? O_RDONLY : O_RDWR);
	trace_dvsm_snapshot_take(parent->id, snapshot->id, take.first, take.end,
				 PTR_ERR_OR_ZERO(file));
	if (IS_ERR(file))
		dvsm_region_retire(snapshot);
	iput(inode);
	return file;
}

/* Ranges as they are put together from pieces that come in order. */
struct dvsm_ranges {
	struct dvsm_range *ranges;	/* @nr_room of them */
	unsigned int nr;		/* in use; the last one may still grow */
	unsigned int nr_room;
	unsigned int nr_max;		/* that are wanted */
};

static int dvsm_ranges_grow(struct dvsm_ranges *ranges)
{
	unsigned int nr_room = min(ranges->nr_max, max(2 * ranges->nr_room, DVSM_RANGES_BATCH));
	struct dvsm_range *more = kvcalloc(nr_room, sizeof(*more), GFP_KERNEL_ACCOUNT);

	if (!more)
		return -ENOMEM;
	if (ranges->nr)
		memcpy(more, ranges->ranges, ranges->nr * sizeof(*more));
	kvfree(ranges->ranges);
	ranges->ranges = more;
	ranges->nr_room = nr_room;
	return 0;
}

/* Add a range. Returns 0; -ENOSPC if no more are wanted; -ENOMEM. */
static int dvsm_ranges_add(struct dvsm_ranges *ranges, u64 offset, u64 length)
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

/* Whether what @region reads at @chunk may be anything but zeroes. */
static bool dvsm_content_is_written(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_share *share = dvsm_content_of(region, chunk);

	if (!share)
		return dvsm_store_chunk_is_written(region, chunk);
	for (; share; share = share->under)
		if (!share->store || dvsm_store_chunk_is_written(share->store, chunk))
			return true;
	return false;
}

/* Some pages of a chunk. */
struct dvsm_pages {
	DECLARE_BITMAP(bits, DVSM_CHUNK_PAGES);
};

static bool dvsm_pages_are_none(const struct dvsm_pages *pages)
{
	return bitmap_empty(pages->bits, DVSM_CHUNK_PAGES);
}

/*
 * Add what lies in @share and in those under it, down to @base which is left out.
 * That is all of the chunk if @base is not among them.
 */
static void dvsm_pages_add_above(struct dvsm_pages *pages, struct dvsm_share *share,
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

/* Where the two read different contents at @chunk, as far as identity tells. */
static void dvsm_pages_differ(struct dvsm_pages *pages, struct dvsm_region *a,
			      struct dvsm_region *b, u64 chunk)
{
	struct dvsm_share *of_a = dvsm_content_of(a, chunk), *of_b = dvsm_content_of(b, chunk);
	struct dvsm_share *common = dvsm_share_common(of_a, of_b);

	bitmap_zero(pages->bits, DVSM_CHUNK_PAGES);
	if (common) {
		dvsm_pages_add_above(pages, of_a, common);
		dvsm_pages_add_above(pages, of_b, common);
	} else if (dvsm_content_is_written(a, chunk) || dvsm_content_is_written(b, chunk)) {
		bitmap_fill(pages->bits, DVSM_CHUNK_PAGES);
	}
}

static bool dvsm_contents_differ(struct dvsm_region *a, struct dvsm_region *b, u64 chunk)
{
	struct dvsm_pages pages;

	dvsm_pages_differ(&pages, a, b, chunk);
	return !dvsm_pages_are_none(&pages);
}

/* The next run of pages from *@from on in a chunk. Returns its length in pages, or 0. */
static unsigned int dvsm_pages_next_run(const struct dvsm_pages *pages, unsigned int *from)
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

static u64 dvsm_next_chunk_of_two(struct dvsm_region *a, struct dvsm_region *b, u64 chunk)
{
	return min(dvsm_content_next_chunk(a, chunk), dvsm_content_next_chunk(b, chunk));
}

/* Gather ranges that differ, from page *@next on; sets it to where to go on. */
static int dvsm_diff_gather(struct dvsm_region *a, struct dvsm_region *b, u64 *next, u64 end,
			    struct dvsm_ranges *ranges)
{
	unsigned int from = *next % DVSM_CHUNK_PAGES;
	u64 first = dvsm_page_chunk(*next), chunk;
	int ret = 0;

	down_read(&a->family->lock);
	for (chunk = dvsm_next_chunk_of_two(a, b, first); chunk << DVSM_CHUNK_ORDER < end;
	     chunk = dvsm_next_chunk_of_two(a, b, chunk + 1)) {
		struct mutex *mutex = dvsm_store_chunk_mutex(a->family, chunk);
		struct dvsm_pages pages;

		mutex_lock(mutex);
		dvsm_pages_differ(&pages, a, b, chunk);
		mutex_unlock(mutex);
		if (chunk != first)
			from = 0;
		ret = dvsm_ranges_add_pages(ranges, &pages, chunk, &from, end << PAGE_SHIFT);
		if (!ret && dvsm_is_interrupted())
			ret = -EINTR;
		if (ret)
			break;
	}
	up_read(&a->family->lock);
	*next = chunk > end ? end : min(end, (chunk << DVSM_CHUNK_ORDER) + (ret ? from : 0));
	return ret == -ENOSPC ? 0 : ret;
}

/**
 * dvsm_region_diff - DVSM_IOC_REGION_DIFF.
 * @region: the one
 * @other: the other, of the same family
 * @arg: the command's argument, its range checked to lie in the region
 *
 * Context: process.
 * Return: 0; -EFAULT, -ENOMEM, -EINTR.
 */
int dvsm_region_diff(struct dvsm_region *region, struct dvsm_region *other,
		     struct dvsm_region_diff *arg)
{
	struct dvsm_range __user *user = u64_to_user_ptr(arg->ranges);
	u64 end = (arg->offset + arg->length) >> PAGE_SHIFT;
	struct dvsm_ranges ranges = { .nr_max = min_t(u32, arg->nr_ranges, DVSM_RANGES_BATCH) };
	u64 next = arg->offset >> PAGE_SHIFT;
	int ret;

	ret = dvsm_diff_gather(region, other, &next, end, &ranges);
	if (!ret && copy_to_user(user, ranges.ranges, ranges.nr * sizeof(*user)))
		ret = -EFAULT;
	kvfree(ranges.ranges);
	arg->out_nr_ranges = ranges.nr;
	arg->out_next = next < end ? next << PAGE_SHIFT : arg->offset + arg->length;
	return ret;
}

/*
 * Make sure that dvsm_adopt() of this chunk cannot fail: @from's contents are a
 * share that nobody writes to, and both have links.
 */
static int dvsm_adopt_prepare(struct dvsm_region *region, struct dvsm_region *from, u64 chunk)
{
	struct dvsm_share *share = dvsm_content_of(from, chunk);
	loff_t start = (loff_t)chunk << DVSM_CHUNK_SHIFT;

	if (dvsm_range_is_pinned(region, start, start + DVSM_CHUNK_SIZE))
		return -EBUSY;
	/* Nothing is adopted as nothing, unless others read what lies in the region's place. */
	if (!share && !dvsm_store_chunk_is_resident(from, chunk) &&
	    !dvsm_link_lends_to_others(xa_load(&region->links, chunk)))
		return 0;
	share = dvsm_content_to_share(from, chunk);
	if (!share || !dvsm_link_make(region, chunk))
		return -ENOMEM;
	if (!share->store)
		return -EIO;
	if (dvsm_is_interrupted())
		return -EINTR;
	if (share->nr_members > 1 || share->nr_overs)
		return 0;
	dvsm_share_unmap(share);
	return dvsm_store_chunk_is_referenced(share->store, chunk, NULL) ? -EBUSY : 0;
}

/* Make @region read what @from reads at @chunk. */
static int dvsm_adopt(struct dvsm_region *region, struct dvsm_region *from, u64 chunk)
{
	struct dvsm_share *share = dvsm_content_of(from, chunk);
	struct dvsm_link *link;

	if (!share)
		return dvsm_content_make_hole(region, chunk);
	link = xa_load(&region->links, chunk);
	dvsm_content_unmap(region, chunk);
	if (!link->content)
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
	dvsm_link_prune(link->region, link->chunk);
}

/* Call @fn for every chunk where the two differ, and count. */
static int dvsm_restore_each(struct dvsm_region *region, struct dvsm_region *snapshot,
			     int (*fn)(struct dvsm_region *region, struct dvsm_region *snapshot,
				       u64 chunk),
			     u64 *nr)
{
	u64 end = dvsm_page_chunk(region->nr_pages + DVSM_CHUNK_PAGES - 1);
	u64 chunk;
	int ret = 0;

	*nr = 0;
	for (chunk = dvsm_next_chunk_of_two(region, snapshot, 0); chunk < end && !ret;
	     chunk = dvsm_next_chunk_of_two(region, snapshot, chunk + 1)) {
		if (!dvsm_contents_differ(region, snapshot, chunk))
			continue;
		ret = fn(region, snapshot, chunk);
		*nr += !ret;
	}
	return ret;
}

/**
 * dvsm_snapshot_restore - DVSM_IOC_SNAPSHOT_RESTORE.
 * @region: the region
 * @snapshot: one taken from it
 * @arg: the command's argument
 *
 * Context: process.
 * Return: 0; -ENOMEM, -EBUSY, -EIO, -EINTR with nothing changed.
 */
int dvsm_snapshot_restore(struct dvsm_region *region, struct dvsm_region *snapshot,
			  struct dvsm_snapshot_restore *arg)
{
	struct dvsm_link *link;
	unsigned long chunk;
	u64 nr;
	int ret;

	down_write(&region->family->lock);
	ret = dvsm_restore_each(region, snapshot, dvsm_adopt_prepare, &nr);
	if (!ret)
		ret = dvsm_restore_each(region, snapshot, dvsm_adopt, &nr);
	if (!ret)
		xa_for_each(&snapshot->links, chunk, link)
			dvsm_rebase(region, link);
	up_write(&region->family->lock);
	arg->out_restored = nr << DVSM_CHUNK_SHIFT;
	trace_dvsm_snapshot_restore(region->id, snapshot->id, arg->out_restored, ret);
	return ret;
}

/* Which pages @region has written at @chunk since it read @base there. */
static void dvsm_pages_written(struct dvsm_pages *pages, struct dvsm_region *region,
			       struct dvsm_share *base, u64 chunk)
{
	struct dvsm_share *share = dvsm_content_of(region, chunk);

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

struct dvsm_merge {
	struct dvsm_region *region;
	struct dvsm_region *snapshot;
	u32 flags;
	u64 end;
	struct dvsm_ranges conflicts;
	unsigned int nr_conflicts;	/* ranges, also those that are not wanted */
	u64 last_conflict;		/* where the last of them ends */
	u64 nr_merged;			/* pages */
	struct dvsm_merge_chunk at;	/* that is being looked at */
};

static void dvsm_merge_look(struct dvsm_merge *merge, u64 chunk, struct dvsm_merge_chunk *at)
{
	struct dvsm_link *link = xa_load(&merge->snapshot->links, chunk);
	struct dvsm_share *base = link ? link->base : NULL;

	at->chunk = chunk;
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

/* Call @fn for every chunk that the snapshot has written. */
static int dvsm_merge_each(struct dvsm_merge *merge,
			   int (*fn)(struct dvsm_merge *merge, struct dvsm_merge_chunk *at))
{
	struct dvsm_merge_chunk *at = &merge->at;
	u64 chunk;
	int ret = 0;

	for (chunk = dvsm_content_next_chunk(merge->snapshot, 0); chunk < merge->end && !ret;
	     chunk = dvsm_content_next_chunk(merge->snapshot, chunk + 1)) {
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

static int dvsm_merge_prepare(struct dvsm_merge *merge, struct dvsm_merge_chunk *at)
{
	if (dvsm_merge_is_adoption(at))
		return dvsm_adopt_prepare(merge->region, merge->snapshot, at->chunk);
	return dvsm_merge_each_page(merge, at, dvsm_merge_prepare_page);
}

static int dvsm_merge_copy_page(struct dvsm_merge *merge, pgoff_t index)
{
	struct dvsm_share *share = dvsm_content_of(merge->snapshot, dvsm_page_chunk(index));
	struct folio *dst = dvsm_merge_page(merge, index);
	int ret;

	if (IS_ERR(dst))
		return PTR_ERR(dst);
	ret = dvsm_share_copy_page(share, index, dst);
	folio_unlock(dst);
	folio_put(dst);
	return ret;
}

static int dvsm_merge_adopt(struct dvsm_merge *merge, struct dvsm_merge_chunk *at)
{
	struct dvsm_link *link;
	int ret;

	if (dvsm_merge_is_adoption(at))
		ret = dvsm_adopt(merge->region, merge->snapshot, at->chunk);
	else
		ret = dvsm_merge_each_page(merge, at, dvsm_merge_copy_page);
	if (ret)
		return ret;
	link = xa_load(&merge->snapshot->links, at->chunk);
	if (link && !dvsm_pages_are_none(&at->wanted))
		dvsm_rebase(merge->region, link);
	merge->nr_merged += bitmap_weight(at->wanted.bits, DVSM_CHUNK_PAGES);
	return 0;
}

static int dvsm_merge_locked(struct dvsm_merge *merge)
{
	int ret = dvsm_merge_each(merge, dvsm_merge_find_conflict);

	if (!ret && merge->nr_conflicts && !merge->flags)
		ret = -EAGAIN;
	if (!ret)
		ret = dvsm_merge_each(merge, dvsm_merge_prepare);
	if (!ret)
		ret = dvsm_merge_each(merge, dvsm_merge_adopt);
	return ret;
}

/**
 * dvsm_snapshot_merge - DVSM_IOC_SNAPSHOT_MERGE.
 * @region: the region
 * @snapshot: one taken from it
 * @arg: the command's argument
 *
 * Context: process.
 * Return: 0; -EAGAIN, -ENOMEM, -EBUSY, -EIO, -EINTR with nothing changed;
 * -EFAULT.
 */
int dvsm_snapshot_merge(struct dvsm_region *region, struct dvsm_region *snapshot,
			struct dvsm_snapshot_merge *arg)
{
	struct dvsm_range __user *user = u64_to_user_ptr(arg->conflicts);
	struct dvsm_merge merge = {
		.region = region,
		.snapshot = snapshot,
		.flags = arg->flags,
		.end = dvsm_page_chunk(region->nr_pages + DVSM_CHUNK_PAGES - 1),
		.conflicts.nr_max = arg->nr_conflicts,
	};
	int ret;

	down_write(&region->family->lock);
	ret = dvsm_merge_locked(&merge);
	up_write(&region->family->lock);
	arg->out_merged = merge.nr_merged << PAGE_SHIFT;
	if (copy_to_user(user, merge.conflicts.ranges, merge.conflicts.nr * sizeof(*user)))
		ret = -EFAULT;
	kvfree(merge.conflicts.ranges);
	arg->out_nr_conflicts = merge.nr_conflicts;
	trace_dvsm_snapshot_merge(region->id, snapshot->id, arg->out_merged, ret);
	return ret;
}

/**
 * dvsm_region_unshare - DVSM_IOC_REGION_UNSHARE.
 * @region: the region
 * @start: first byte
 * @end: the byte after the last
 * @unshared: gets the bytes that were shared
 *
 * Context: process.
 * Return: 0; -ENOMEM, -ENOSPC, -EIO, -EINTR.
 */
int dvsm_region_unshare(struct dvsm_region *region, loff_t start, loff_t end, u64 *unshared)
{
	unsigned long chunk = start >> DVSM_CHUNK_SHIFT;
	unsigned long last = (end - 1) >> DVSM_CHUNK_SHIFT;
	int ret = 0;

	*unshared = 0;
	if (start == end)
		return 0;
	while (!ret && xa_find(&region->links, &chunk, last, XA_PRESENT)) {
		struct mutex *mutex = dvsm_store_chunk_mutex(region->family, chunk);
		struct dvsm_link *link;

		down_read(&region->family->lock);
		mutex_lock(mutex);
		link = xa_load(&region->links, chunk);
		if (dvsm_link_is_shared(link)) {
			ret = dvsm_share_break_all(link);
			if (!ret)
				*unshared += DVSM_CHUNK_SIZE;
		}
		mutex_unlock(mutex);
		up_read(&region->family->lock);
		if (!ret && dvsm_is_interrupted())
			ret = -EINTR;
		chunk++;
	}
	return ret;
}
