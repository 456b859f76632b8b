/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pure arithmetic of regions: pages, chunks and ranges. No kernel object is
 * named here, so that a host test can compile it.
 *
 * A page index counts 4 KiB pages from the region's start. A chunk is the 512
 * pages of one 2 MiB unit. A range is [start, end) in bytes.
 */
#ifndef DVSM_LAYOUT_H
#define DVSM_LAYOUT_H

#ifndef __KERNEL__
#include <stdbool.h>
#include <stdint.h>
typedef uint64_t u64;
#define PAGE_SHIFT	12
#define PAGE_SIZE	(1UL << PAGE_SHIFT)
#endif

#define DVSM_CHUNK_ORDER	9
#define DVSM_CHUNK_PAGES	(1UL << DVSM_CHUNK_ORDER)

/* The longest region: half of what a process can address with four levels. */
#define DVSM_LENGTH_MAX		(1ULL << 46)

static inline u64 dvsm_page_chunk(u64 index)
{
	return index >> DVSM_CHUNK_ORDER;
}

static inline u64 dvsm_block_start(u64 index, unsigned int order)
{
	return index & ~((1ULL << order) - 1);
}

/* Pages of a chunk that lie below @nr_pages, as its first one does. */
static inline u64 dvsm_chunk_pages(u64 chunk, u64 nr_pages)
{
	u64 nr_left = nr_pages - (chunk << DVSM_CHUNK_ORDER);

	return nr_left < DVSM_CHUNK_PAGES ? nr_left : DVSM_CHUNK_PAGES;
}

/*
 * The largest order, at most a chunk's, whose naturally aligned block around
 * @index lies below @nr_pages. Order 1 is left out: the page cache has no
 * folios of two pages. @index must be below @nr_pages.
 */
static inline unsigned int dvsm_order_max(u64 index, u64 nr_pages)
{
	unsigned int order = DVSM_CHUNK_ORDER;

	while (order && dvsm_block_start(index, order) + (1ULL << order) > nr_pages)
		order--;
	return order == 1 ? 0 : order;
}

/* The next order to try when @order could not be had. */
static inline unsigned int dvsm_order_below(unsigned int order)
{
	return order <= 2 ? 0 : order - 1;
}

/* Whether [offset, offset + length) is page aligned and inside the region. */
static inline bool dvsm_range_is_valid(u64 offset, u64 length, u64 region_length)
{
	if ((offset | length) & (PAGE_SIZE - 1))
		return false;
	return offset <= region_length && length <= region_length - offset;
}

#endif /* DVSM_LAYOUT_H */
