// SPDX-License-Identifier: GPL-2.0-only
/*
 * Taking a snapshot, and giving a range folios of its own again.
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
 */
#include <linux/log2.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>

#include "dvsm.h"
#include "snapshot.h"
#include "trace.h"

/* Take chunks out of all mappings of a region. */
static void dvsm_unmap_chunks(struct dvsm_region *region, u64 first, u64 end)
{
	/* A length of 0 would mean all of it. */
	if (first < end)
		dvsm_region_unmap(region, (loff_t)first << DVSM_CHUNK_SHIFT,
				  (loff_t)(end - first) << DVSM_CHUNK_SHIFT);
}

/*
 * The snapshot gets a copy, as a share that it alone reads: its starting point. Where the
 * hardware lost a part there is nothing to start from: the snapshot loses the chunk.
 */
static int dvsm_take_copy(struct dvsm_region *parent, struct dvsm_region *snapshot, u64 chunk)
{
	struct dvsm_share *from = dvsm_share_of(parent, chunk), *share;
	struct dvsm_link *link = dvsm_link_make(snapshot, chunk);
	int ret;

	if (!link)
		return -ENOMEM;
	if (from)
		ret = dvsm_share_copy_to(from, snapshot, snapshot);
	else
		ret = dvsm_store_copy_chunk(snapshot, parent, chunk);
	if (ret && (ret != -EHWPOISON || snapshot->terms.strict))
		return ret;
	share = dvsm_share_create(link);
	if (!share)
		return -ENOMEM;
	dvsm_share_join(share, link);
	dvsm_link_set_base(link, share);
	xa_set_mark(&snapshot->links, chunk, DVSM_LINK_DIVERGED);
	if (ret)
		dvsm_share_lose(share, ret);
	else if (!from)
		dvsm_region_count_copy(snapshot, chunk);
	return 0;
}

/* A snapshot that is being taken. */
struct dvsm_take {
	struct dvsm_region *parent;
	struct dvsm_region *snapshot;
	u64 first;			/* chunk */
	u64 end;
};

/* A chunk of zeroes stays a hole in the snapshot. */
static int dvsm_take_mark(struct dvsm_take *take, u64 chunk)
{
	struct dvsm_share *share = dvsm_share_of(take->parent, chunk);
	struct dvsm_link *link;
	bool written;

	if (share)
		written = dvsm_share_settle(share);
	else
		written = dvsm_store_settle_chunk(take->parent, chunk);
	if (!written)
		return 0;
	share = dvsm_share_make(take->parent, chunk);
	link = share ? dvsm_link_make(take->snapshot, chunk) : NULL;
	if (!link)
		return -ENOMEM;
	dvsm_share_set_terms(share, &take->snapshot->terms);
	/* Of what the parent has mapped now nothing will be left. */
	((struct dvsm_link *)xa_load(&take->parent->links, chunk))->seen = false;
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
	    !dvsm_store_chunk_is_referenced(share->store, chunk, NULL)) {
		share->was_shared = true;
		return 0;
	}
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
 * dvsm_snapshot_take - DVSM_IOC_SNAPSHOT_TAKE, and what fork() maps for a child.
 * @parent: the region
 * @anchor: where the snapshot's mappings will be, as fork.c says, or NULL
 * @start: first byte, at a chunk
 * @end: the byte after the last
 * @label: the snapshot's name for people
 * @flags: DVSM_SNAPSHOT_F_
 * @granularity: bytes that a write copies: a page, 16 pages or a chunk
 *
 * Context: process; the caller pays for what is copied now and later.
 * Return: a file on the snapshot; -ENOMEM, -ENOSPC, -EINTR, -EHWPOISON.
 */
struct file *dvsm_snapshot_take(struct dvsm_region *parent, struct inode *anchor, loff_t start,
				loff_t end, const char *label, u32 flags, u64 granularity)
{
	u32 inherited = parent->flags & (DVSM_REGION_F_HUGE_REQUIRED | DVSM_REGION_F_FORK_COPY);
	struct dvsm_take take = {
		.parent = parent,
		.first = start >> DVSM_CHUNK_SHIFT,
		.end = (end + DVSM_CHUNK_SIZE - 1) >> DVSM_CHUNK_SHIFT,
	};
	struct dvsm_policy *policy = dvsm_region_policy_get(parent);
	struct dvsm_region *snapshot;
	struct inode *inode;
	struct file *file;
	int ret;

	snapshot = dvsm_region_create_inode(parent->length, inherited, policy, label,
					    parent->family);
	dvsm_policy_put(policy);
	if (!snapshot)
		return ERR_PTR(-ENOMEM);
	snapshot->parent_id = parent->id;
	if (anchor) {
		ihold(anchor);
		snapshot->anchor = anchor;
	}
	snapshot->balance = READ_ONCE(parent->balance);
	snapshot->memcg = get_mem_cgroup_from_mm(current->mm);
	snapshot->terms = (struct dvsm_terms) {
		.order = ilog2(granularity) - PAGE_SHIFT,
		.adaptive = flags & DVSM_SNAPSHOT_F_ADAPTIVE,
		.strict = flags & DVSM_SNAPSHOT_F_STRICT,
	};
	snapshot->nr_firsts = -1;
	snapshot->taken = (struct dvsm_span) { .first = take.first, .end = take.end };
	snapshot->descent = dvsm_span_in_common(snapshot->taken, parent->descent);

	take.snapshot = snapshot;
	down_write(&parent->family->lock);
	ret = dvsm_places_copy(snapshot, parent);
	if (!ret && (parent->flags & DVSM_REGION_F_REGISTRABLE))
		ret = dvsm_take_copies(&take);
	else if (!ret)
		ret = dvsm_take_share(&take);
	if (!(parent->flags & DVSM_REGION_F_REGISTRABLE))
		dvsm_snapshot_track(snapshot);
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
				*unshared += dvsm_chunk_pages(chunk, region->nr_pages) << PAGE_SHIFT;
		}
		mutex_unlock(mutex);
		up_read(&region->family->lock);
		if (!ret && dvsm_is_interrupted())
			ret = -EINTR;
		chunk++;
	}
	return ret;
}
