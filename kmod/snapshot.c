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
static int dvsm_take_copy(struct dvsm_region *snapshot, struct dvsm_region *store, u64 chunk)
{
	struct dvsm_link *link = dvsm_link_make(snapshot, chunk);
	struct dvsm_share *share;
	int ret;

	if (!link)
		return -ENOMEM;
	ret = dvsm_store_copy_chunk(snapshot, store, chunk);
	if (ret)
		return ret;
	share = dvsm_share_create(link);
	if (!share)
		return -ENOMEM;
	dvsm_share_join(share, link);
	dvsm_link_set_base(link, share);
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

/* A chunk of zeroes stays a hole in the snapshot. */
static int dvsm_take_mark(struct dvsm_region *parent, struct dvsm_region *snapshot, u64 chunk)
{
	struct dvsm_share *share = dvsm_content_of(parent, chunk);
	struct dvsm_link *link;

	if ((!share || share->store) &&
	    !dvsm_store_settle_chunk(share ? share->store : parent, chunk))
		return 0;
	share = dvsm_content_to_share(parent, chunk);
	link = share ? dvsm_link_make(snapshot, chunk) : NULL;
	if (!link)
		return -ENOMEM;
	dvsm_share_join(share, link);
	dvsm_link_set_base(link, share);
	return 0;
}

/* A chunk that was the parent's alone until now may have writers past the page tables. */
static int dvsm_take_check(struct dvsm_region *snapshot, u64 chunk)
{
	struct dvsm_link *link = xa_load(&snapshot->links, chunk);
	struct dvsm_share *share = link->content;
	struct dvsm_region *store = share->store;

	if (share->nr_members != 2 || !store || !dvsm_store_chunk_is_referenced(store, chunk, NULL))
		return 0;
	dvsm_link_set_base(link, NULL);
	dvsm_share_leave(link);
	return dvsm_take_copy(snapshot, store, chunk);
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

static int dvsm_take_share(struct dvsm_region *parent, struct dvsm_region *snapshot, u64 first,
			   u64 end)
{
	struct dvsm_link *link;
	unsigned long at;
	u64 chunk;
	int ret = 0;

	for (chunk = dvsm_content_next_chunk(parent, first); chunk < end && !ret;
	     chunk = dvsm_content_next_chunk(parent, chunk + 1)) {
		ret = dvsm_take_mark(parent, snapshot, chunk);
		if (!ret && dvsm_is_interrupted())
			ret = -EINTR;
	}
	if (ret)
		return ret;
	dvsm_take_unmap(parent, snapshot);
	xa_for_each(&snapshot->links, at, link) {
		ret = dvsm_take_check(snapshot, at);
		if (!ret && dvsm_is_interrupted())
			ret = -EINTR;
		if (ret)
			break;
	}
	return ret;
}

/* Devices write to a registrable region whenever they like: all of it is copied. */
static int dvsm_take_copies(struct dvsm_region *parent, struct dvsm_region *snapshot, u64 first,
			    u64 end)
{
	u64 chunk;
	int ret = 0;

	dvsm_unmap_chunks(parent, first, end);
	for (chunk = dvsm_content_next_chunk(parent, first); chunk < end && !ret;
	     chunk = dvsm_content_next_chunk(parent, chunk + 1)) {
		dvsm_content_unmap(parent, chunk);
		ret = dvsm_take_copy(snapshot, parent, chunk);
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
 *
 * Context: process; the caller pays for what is copied now and later.
 * Return: a file on the snapshot; -ENOMEM, -ENOSPC, -EINTR, -EHWPOISON.
 */
struct file *dvsm_snapshot_take(struct dvsm_region *parent, loff_t start, loff_t end,
				const char *label, u32 flags)
{
	u32 inherited = parent->flags & DVSM_REGION_F_HUGE_REQUIRED;
	u64 first = start >> DVSM_CHUNK_SHIFT;
	u64 last = (end + DVSM_CHUNK_SIZE - 1) >> DVSM_CHUNK_SHIFT;
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

	down_write(&parent->family->lock);
	if (parent->flags & DVSM_REGION_F_REGISTRABLE)
		ret = dvsm_take_copies(parent, snapshot, first, last);
	else
		ret = dvsm_take_share(parent, snapshot, first, last);
	up_write(&parent->family->lock);

	inode = snapshot->inode;
	file = ret ? ERR_PTR(ret == -EDQUOT ? -ENOMEM : ret)
		   : dvsm_inode_open(inode, flags & DVSM_SNAPSHOT_F_READ_ONLY ? O_RDONLY : O_RDWR);
	trace_dvsm_snapshot_take(parent->id, snapshot->id, first, last,
				 PTR_ERR_OR_ZERO(file));
	if (IS_ERR(file))
		dvsm_region_retire(snapshot);
	iput(inode);
	return file;
}

/* Ranges as they are put together from chunks that come in order. */
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

/* Add a chunk. Returns 0; -ENOSPC if no more are wanted; -ENOMEM. */
static int dvsm_ranges_add(struct dvsm_ranges *ranges, u64 chunk, u64 region_length)
{
	u64 offset = chunk << DVSM_CHUNK_SHIFT;
	u64 length = min_t(u64, DVSM_CHUNK_SIZE, region_length - offset);
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
	struct dvsm_region *store = share ? share->store : region;

	return !store || dvsm_store_chunk_is_written(store, chunk);
}

/* Whether the two read different contents at @chunk, as far as identity tells. */
static bool dvsm_contents_differ(struct dvsm_region *a, struct dvsm_region *b, u64 chunk)
{
	struct dvsm_share *share = dvsm_content_of(a, chunk);

	if (share && share == dvsm_content_of(b, chunk))
		return false;
	return dvsm_content_is_written(a, chunk) || dvsm_content_is_written(b, chunk);
}

static u64 dvsm_next_chunk_of_two(struct dvsm_region *a, struct dvsm_region *b, u64 chunk)
{
	return min(dvsm_content_next_chunk(a, chunk), dvsm_content_next_chunk(b, chunk));
}

/* Gather ranges that differ, from chunk *@next on; sets it to where to go on. */
static int dvsm_diff_gather(struct dvsm_region *a, struct dvsm_region *b, u64 *next, u64 end,
			    struct dvsm_ranges *ranges)
{
	u64 chunk;
	int ret = 0;

	down_read(&a->family->lock);
	for (chunk = dvsm_next_chunk_of_two(a, b, *next); chunk < end;
	     chunk = dvsm_next_chunk_of_two(a, b, chunk + 1)) {
		struct mutex *mutex = dvsm_store_chunk_mutex(a->family, chunk);
		bool differ;

		mutex_lock(mutex);
		differ = dvsm_contents_differ(a, b, chunk);
		mutex_unlock(mutex);
		if (differ)
			ret = dvsm_ranges_add(ranges, chunk, a->length);
		if (!ret && dvsm_is_interrupted())
			ret = -EINTR;
		if (ret)
			break;
	}
	up_read(&a->family->lock);
	*next = min(chunk, end);
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
	u64 end = (arg->offset + arg->length + DVSM_CHUNK_SIZE - 1) >> DVSM_CHUNK_SHIFT;
	struct dvsm_ranges ranges = { .nr_max = min_t(u32, arg->nr_ranges, DVSM_RANGES_BATCH) };
	u64 next = arg->offset >> DVSM_CHUNK_SHIFT;
	int ret;

	ret = dvsm_diff_gather(region, other, &next, end, &ranges);
	if (!ret && copy_to_user(user, ranges.ranges, ranges.nr * sizeof(*user)))
		ret = -EFAULT;
	kvfree(ranges.ranges);
	arg->out_nr_ranges = ranges.nr;
	arg->out_next = next < end ? next << DVSM_CHUNK_SHIFT : arg->offset + arg->length;
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
	if (share->nr_members > 1)
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

/* Whether @region has written at @chunk since it read @base there. */
static bool dvsm_has_written(struct dvsm_region *region, struct dvsm_share *base, u64 chunk)
{
	if (base)
		return dvsm_content_of(region, chunk) != base;
	return dvsm_content_is_written(region, chunk);
}

struct dvsm_merge {
	struct dvsm_region *region;
	struct dvsm_region *snapshot;
	u32 flags;
	u64 end;
	struct dvsm_ranges conflicts;
	unsigned int nr_conflicts;	/* ranges, also those that are not wanted */
	u64 last_conflict;		/* chunk */
	u64 nr_merged;			/* chunks */
};

static struct dvsm_share *dvsm_merge_base(struct dvsm_merge *merge, u64 chunk)
{
	struct dvsm_link *link = xa_load(&merge->snapshot->links, chunk);

	return link ? link->base : NULL;
}

static bool dvsm_merge_is_conflict(struct dvsm_merge *merge, u64 chunk)
{
	return dvsm_has_written(merge->region, dvsm_merge_base(merge, chunk), chunk);
}

static int dvsm_merge_note(struct dvsm_merge *merge, u64 chunk)
{
	if (!merge->nr_conflicts || merge->last_conflict + 1 != chunk)
		merge->nr_conflicts++;
	merge->last_conflict = chunk;
	if (merge->nr_conflicts > merge->conflicts.nr_max)
		return 0;
	return dvsm_ranges_add(&merge->conflicts, chunk, merge->region->length);
}

/* Call @fn for every chunk that the snapshot has written. */
static int dvsm_merge_each(struct dvsm_merge *merge, int (*fn)(struct dvsm_merge *merge, u64 chunk))
{
	u64 chunk;
	int ret = 0;

	for (chunk = dvsm_content_next_chunk(merge->snapshot, 0); chunk < merge->end && !ret;
	     chunk = dvsm_content_next_chunk(merge->snapshot, chunk + 1))
		if (dvsm_has_written(merge->snapshot, dvsm_merge_base(merge, chunk), chunk))
			ret = fn(merge, chunk);
	return ret;
}

static int dvsm_merge_find_conflict(struct dvsm_merge *merge, u64 chunk)
{
	if (dvsm_is_interrupted())
		return -EINTR;
	return dvsm_merge_is_conflict(merge, chunk) ? dvsm_merge_note(merge, chunk) : 0;
}

static bool dvsm_merge_leaves_out(struct dvsm_merge *merge, u64 chunk)
{
	return (merge->flags & DVSM_MERGE_F_PARENT_WINS) && dvsm_merge_is_conflict(merge, chunk);
}

static int dvsm_merge_prepare(struct dvsm_merge *merge, u64 chunk)
{
	if (dvsm_merge_leaves_out(merge, chunk))
		return 0;
	return dvsm_adopt_prepare(merge->region, merge->snapshot, chunk);
}

static int dvsm_merge_adopt(struct dvsm_merge *merge, u64 chunk)
{
	struct dvsm_link *link;
	int ret;

	if (dvsm_merge_leaves_out(merge, chunk))
		return 0;
	ret = dvsm_adopt(merge->region, merge->snapshot, chunk);
	if (ret)
		return ret;
	link = xa_load(&merge->snapshot->links, chunk);
	if (link)
		dvsm_rebase(merge->region, link);
	merge->nr_merged++;
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
	arg->out_merged = merge.nr_merged << DVSM_CHUNK_SHIFT;
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
			ret = dvsm_share_break(link, NULL);
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
