// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a region is made of, read from the page caches: the truth whoever put
 * folios there, moved or split them. Costs by folios, not by length.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "dvsm.h"

#define DVSM_RESIDENCY_BATCH	256	/* entries copied to the user at once */

static bool dvsm_usage_add(struct folio *folio, bool shared, void *arg)
{
	struct dvsm_usage *usage = arg;

	usage->nr_pages += folio_nr_pages(folio);
	usage->nr_huge += folio_order(folio) == DVSM_CHUNK_ORDER;
	if (shared)
		usage->nr_shared += folio_nr_pages(folio);
	return false;
}

/**
 * dvsm_region_usage - Count what a region reads.
 * @region: the region
 * @usage: filled in
 *
 * Context: may sleep; no dvsm lock held.
 */
void dvsm_region_usage(struct dvsm_region *region, struct dvsm_usage *usage)
{
	memset(usage, 0, sizeof(*usage));
	dvsm_content_walk(region, 0, region->nr_pages, dvsm_usage_add, usage);
}

static bool dvsm_count_node(struct folio *folio, bool shared, void *arg)
{
	struct dvsm_node_stats *stats = arg;

	stats[folio_nid(folio)].out_resident += folio_size(folio);
	return false;
}

static void dvsm_node_stats_add_moves(struct dvsm_node_stats *stats, const struct dvsm_node *node)
{
	const atomic_long_t *in = node->nr_moved_in, *out = node->nr_moved_out;

	stats->out_nr_moved_in = dvsm_moves(in);
	stats->out_nr_moved_out = dvsm_moves(out);
	stats->out_nr_moved_in_user = atomic_long_read(&in[DVSM_MOVER_USER]);
	stats->out_nr_moved_in_balancing = atomic_long_read(&in[DVSM_MOVER_BALANCING]);
	stats->out_nr_moved_in_command = atomic_long_read(&in[DVSM_MOVER_COMMAND]);
	stats->out_nr_moved_out_user = atomic_long_read(&out[DVSM_MOVER_USER]);
	stats->out_nr_moved_out_balancing = atomic_long_read(&out[DVSM_MOVER_BALANCING]);
	stats->out_nr_moved_out_command = atomic_long_read(&out[DVSM_MOVER_COMMAND]);
}

/* To an array whose elements are as long as its owner knows them. */
static int dvsm_node_stats_copy(u64 address, const struct dvsm_node_stats *stats,
				unsigned int nr, u32 size)
{
	u32 known = min_t(u32, size, sizeof(*stats));

	for (; nr; nr--, stats++, address += size)
		if (copy_to_user(u64_to_user_ptr(address), stats, known) ||
		    clear_user(u64_to_user_ptr(address + known), size - known))
			return -EFAULT;
	return 0;
}

/**
 * dvsm_region_nodes - DVSM_IOC_REGION_NODES.
 * @region: the region
 * @arg: the command's argument
 *
 * Context: process.
 * Return: 0; -EFAULT, -ENOMEM, -EINTR.
 */
int dvsm_region_nodes(struct dvsm_region *region, struct dvsm_region_nodes *arg)
{
	u32 size = arg->node_size ? arg->node_size : DVSM_NODE_STATS_SIZE_0;
	struct dvsm_node_stats *stats;
	unsigned int nid, nr;
	int ret = 0;

	stats = kvcalloc(nr_node_ids, sizeof(*stats), GFP_KERNEL_ACCOUNT);
	if (!stats)
		return -ENOMEM;
	dvsm_content_walk(region, 0, region->nr_pages, dvsm_count_node, stats);
	if (dvsm_shall_stop())
		ret = -EINTR;
	for (nid = 0; nid < nr_node_ids; nid++) {
		struct dvsm_node *node = &region->nodes[nid];

		stats[nid].out_nr_faults = atomic_long_read(&node->nr_faults);
		stats[nid].out_nr_faults_remote = atomic_long_read(&node->nr_faults_remote);
		stats[nid].out_nr_allocs = atomic_long_read(&node->nr_allocs);
		stats[nid].out_nr_misses = atomic_long_read(&node->nr_misses);
		stats[nid].out_nr_cow_faults = atomic_long_read(&node->nr_cow_faults);
		dvsm_node_stats_add_moves(&stats[nid], node);
	}
	nr = min(arg->nr_nodes, nr_node_ids);
	if (!ret)
		ret = dvsm_node_stats_copy(arg->nodes, stats, nr, size);
	kvfree(stats);
	arg->out_nr_nodes = nr_node_ids;
	return ret;
}

/**
 * dvsm_region_show_cow_faults - Writes that had to break a sharing, by the node of the CPU.
 * @m: where to; gets a number for each node, with commas between them
 * @region: the region
 *
 * Context: any.
 */
void dvsm_region_show_cow_faults(struct seq_file *m, struct dvsm_region *region)
{
	unsigned int nid;

	for (nid = 0; nid < nr_node_ids; nid++)
		seq_printf(m, nid ? ",%lu" : "%lu",
			   atomic_long_read(&region->nodes[nid].nr_cow_faults));
}

/* Chunks as they are put together from folios that come in order. */
struct dvsm_residency {
	struct dvsm_region *region;
	struct dvsm_chunk *chunks;
	unsigned int nr_chunks;		/* in use; the last one may still grow */
	unsigned int nr_max;
};

static u32 dvsm_residency_flags(struct dvsm_region *region, struct folio *folio, bool shared)
{
	u32 flags = 0;

	/* By us, or by who has it by a mapping; as dvsm_migration_pin_kind(). */
	if (dvsm_range_is_pinned(region, folio_pos(folio), folio_pos(folio) + folio_size(folio)) ||
	    folio_maybe_dma_pinned(folio))
		flags |= DVSM_CHUNK_F_PINNED;
	if (shared)
		flags |= DVSM_CHUNK_F_SHARED;
	if (folio_order(folio) == DVSM_CHUNK_ORDER)
		flags |= DVSM_CHUNK_F_HUGE;
	if (folio_test_large(folio) ? folio_test_has_hwpoisoned(folio)
				    : folio_test_hwpoison(folio))
		flags |= DVSM_CHUNK_F_POISONED;
	return flags;
}

static bool dvsm_residency_add(struct folio *folio, bool shared, void *arg)
{
	struct dvsm_residency *residency = arg;
	u64 offset = (u64)dvsm_page_chunk(folio->index) << DVSM_CHUNK_SHIFT;
	u8 order = folio_order(folio);
	struct dvsm_chunk *chunk = NULL;

	if (residency->nr_chunks)
		chunk = &residency->chunks[residency->nr_chunks - 1];
	if (!chunk || chunk->offset != offset) {
		if (residency->nr_chunks == residency->nr_max)
			return true;
		chunk = &residency->chunks[residency->nr_chunks++];
		*chunk = (struct dvsm_chunk) {
			.offset = offset,
			.node = folio_nid(folio),
			.order_min = order,
			.order_max = order,
		};
	}
	chunk->resident += folio_size(folio);
	chunk->nr_folios++;
	chunk->flags |= dvsm_residency_flags(residency->region, folio, shared);
	chunk->order_min = min(chunk->order_min, order);
	chunk->order_max = max(chunk->order_max, order);
	if (chunk->node != folio_nid(folio))
		chunk->node = DVSM_NODE_MIXED;
	return false;
}

/**
 * dvsm_region_residency - DVSM_IOC_REGION_RESIDENCY.
 * @region: the region
 * @arg: the command's argument, its range checked to lie in the region
 *
 * Context: process.
 * Return: 0; -EFAULT, -ENOMEM, -EINTR.
 */
int dvsm_region_residency(struct dvsm_region *region, struct dvsm_region_residency *arg)
{
	struct dvsm_chunk __user *user = u64_to_user_ptr(arg->chunks);
	pgoff_t start = round_down(arg->offset, DVSM_CHUNK_SIZE) >> PAGE_SHIFT;
	pgoff_t end = (arg->offset + arg->length) >> PAGE_SHIFT;
	struct dvsm_residency residency = { .region = region };
	unsigned int nr_done = 0;
	int ret = 0;

	residency.chunks = kvcalloc(min_t(u32, arg->nr_chunks, DVSM_RESIDENCY_BATCH),
				    sizeof(*residency.chunks), GFP_KERNEL_ACCOUNT);
	if (!residency.chunks)
		return -ENOMEM;
	/* Whole chunks, also where the range ends inside one. */
	end = min_t(u64, round_up(end, DVSM_CHUNK_PAGES), region->nr_pages);
	while (start < end && nr_done < arg->nr_chunks) {
		residency.nr_chunks = 0;
		residency.nr_max = min_t(u32, arg->nr_chunks - nr_done, DVSM_RESIDENCY_BATCH);
		dvsm_content_walk(region, start, end, dvsm_residency_add, &residency);
		if (dvsm_shall_stop()) {
			ret = -EINTR;
			break;
		}
		if (copy_to_user(user + nr_done, residency.chunks,
				 residency.nr_chunks * sizeof(*user))) {
			ret = -EFAULT;
			break;
		}
		nr_done += residency.nr_chunks;
		if (residency.nr_chunks < residency.nr_max) {
			start = end;
			break;
		}
		start = (residency.chunks[residency.nr_chunks - 1].offset >> PAGE_SHIFT) +
			DVSM_CHUNK_PAGES;
	}
	kvfree(residency.chunks);
	arg->out_nr_chunks = nr_done;
	arg->out_next = start < end ? (u64)start << PAGE_SHIFT : arg->offset + arg->length;
	return ret;
}

/* Extents as they are put together from folios that come in order. */
struct dvsm_extents {
	struct dvsm_range *ranges;
	unsigned int nr;		/* in use; the last one may still grow */
	unsigned int nr_max;
	pgoff_t next;			/* where to go on */
	unsigned long next_pfn;		/* behind the last one */
};

static bool dvsm_extents_add(struct folio *folio, pgoff_t start, pgoff_t end, void *arg)
{
	struct dvsm_extents *extents = arg;
	unsigned long pfn = folio_pfn(folio) + (start - folio->index);
	struct dvsm_range *last = extents->nr ? &extents->ranges[extents->nr - 1] : NULL;
	u64 length = (u64)(end - start) << PAGE_SHIFT;
	u64 offset = (u64)start << PAGE_SHIFT;

	if (last && last->offset + last->length == offset && extents->next_pfn == pfn) {
		last->length += length;
	} else {
		if (extents->nr == extents->nr_max) {
			extents->next = start;
			return true;
		}
		extents->ranges[extents->nr++] = (struct dvsm_range) {
			.offset = offset,
			.length = length,
		};
	}
	extents->next_pfn = pfn + (end - start);
	return false;
}

/**
 * dvsm_region_extents - DVSM_IOC_REGION_EXTENTS.
 * @region: the region
 * @arg: the command's argument, its range checked to lie in the region
 *
 * Context: process.
 * Return: 0; -EFAULT, -ENOMEM, -EINTR.
 */
int dvsm_region_extents(struct dvsm_region *region, struct dvsm_region_extents *arg)
{
	struct dvsm_range __user *user = u64_to_user_ptr(arg->ranges);
	struct dvsm_extents extents = {
		.nr_max = min_t(u32, arg->nr_ranges, DVSM_RESIDENCY_BATCH),
		.next = (arg->offset + arg->length) >> PAGE_SHIFT,
	};
	int ret = 0;

	extents.ranges = kvcalloc(extents.nr_max, sizeof(*extents.ranges), GFP_KERNEL_ACCOUNT);
	if (!extents.ranges)
		return -ENOMEM;
	dvsm_content_walk_pages(region, arg->offset >> PAGE_SHIFT, extents.next,
				dvsm_extents_add, &extents);
	if (dvsm_shall_stop())
		ret = -EINTR;
	else if (copy_to_user(user, extents.ranges, extents.nr * sizeof(*user)))
		ret = -EFAULT;
	kvfree(extents.ranges);
	arg->out_nr_ranges = extents.nr;
	arg->out_next = (u64)extents.next << PAGE_SHIFT;
	return ret;
}
