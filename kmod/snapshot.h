/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What snapshot.c, diff.c, merge.c and overwrite.c tell one another.
 */
#ifndef DVSM_SNAPSHOT_H
#define DVSM_SNAPSHOT_H

#include <linux/bitmap.h>
#include <linux/dvsm.h>

#include "layout.h"

struct dvsm_region;
struct dvsm_share;

/* Some pages of a chunk. */
struct dvsm_pages {
	DECLARE_BITMAP(bits, DVSM_CHUNK_PAGES);
};

/* Ranges as they are put together from pieces that come in order. */
struct dvsm_ranges {
	struct dvsm_range *ranges;	/* @nr_room of them */
	unsigned int nr;		/* in use; the last one may still grow */
	unsigned int nr_room;
	unsigned int nr_max;		/* that are wanted */
};

static inline bool dvsm_pages_are_none(const struct dvsm_pages *pages)
{
	return bitmap_empty(pages->bits, DVSM_CHUNK_PAGES);
}

/* diff.c */
struct dvsm_span dvsm_span_in_common(struct dvsm_span a, struct dvsm_span b);
int dvsm_ranges_add(struct dvsm_ranges *ranges, u64 offset, u64 length);
bool dvsm_content_is_written(struct dvsm_region *region, u64 chunk);
void dvsm_pages_add_above(struct dvsm_pages *pages, struct dvsm_share *share,
			  const struct dvsm_share *base);
unsigned int dvsm_pages_next_run(const struct dvsm_pages *pages, unsigned int *from);
void dvsm_pages_differ(struct dvsm_pages *pages, struct dvsm_region *a, struct dvsm_region *b,
		       u64 chunk);
unsigned int dvsm_nr_pages_differing(struct dvsm_region *a, struct dvsm_region *b, u64 chunk);
u64 dvsm_next_chunk_differing(struct dvsm_region *a, struct dvsm_region *b, u64 chunk);
void dvsm_snapshot_track(struct dvsm_region *snapshot);
bool dvsm_snapshot_is_tracked(const struct dvsm_region *snapshot);

/* Which of a snapshot's links may tell of a difference from its parent. */
static inline xa_mark_t dvsm_snapshot_changed(const struct dvsm_region *snapshot)
{
	return dvsm_snapshot_is_tracked(snapshot) ? DVSM_LINK_DIVERGED : XA_PRESENT;
}

/* merge.c */
int dvsm_snapshot_hold(struct dvsm_region *snapshot, u64 chunk);
bool dvsm_snapshot_try_again(int ret, unsigned int *nr_tries);
int dvsm_snapshot_advance(struct dvsm_region *snapshot, struct dvsm_region *parent, u64 chunk);
void dvsm_snapshot_rebase(struct dvsm_region *snapshot, struct dvsm_region *parent,
			  xa_mark_t changed, u64 first, u64 end);

/* overwrite.c */
int dvsm_snapshot_overwrite(struct dvsm_region *region, struct dvsm_region *snapshot,
			    u64 *nr_pages);

#endif /* DVSM_SNAPSHOT_H */
