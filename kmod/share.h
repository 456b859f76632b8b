/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shares and links; share.c tells their story.
 */
#ifndef DVSM_SHARE_H
#define DVSM_SHARE_H

#include <linux/list.h>
#include <linux/types.h>
#include <linux/xarray.h>

struct dvsm_placing;
struct dvsm_region;
struct folio;
struct mem_cgroup;

#define DVSM_SHARE_DEPTH_MAX	4	/* shares under one another */
#define DVSM_SHARE_PARTS_MANY	128	/* pages that make a chunk of its own worth while */
#define DVSM_SHARE_REFUSALS_MAX	4

/* What the creator of a snapshot asked for; what several read gets the best of it. */
struct dvsm_terms {
	u8 order;			/* of what a write to a shared page copies */
	bool adaptive;			/* whether much that was copied becomes a chunk */
	bool strict;			/* a write that would lose the snapshot's page fails */
};

/* How a write to a page that others read came to its own. */
enum dvsm_break {
	DVSM_BREAK_PART = 1,		/* a part was copied, for the writer */
	DVSM_BREAK_COPY,		/* the chunk was copied, for the writer */
	DVSM_BREAK_KEEP,		/* the chunk was copied, for the others */
};

/* Mark in region->links of a snapshot: it and its parent may read different contents. */
#define DVSM_LINK_DIVERGED	XA_MARK_0

/* Contents of one chunk that several regions may read. Guarded as share.c says. */
struct dvsm_share {
	u64 chunk;
	struct dvsm_region *store;	/* whose page cache; its inode is held. NULL: a copy
					 * could not be had, and reading is an error
					 */
	struct dvsm_share *under;	/* what it reads where it has no page of its own */
	unsigned long *parts;		/* bit for page: what it has; NULL: all of it */
	struct list_head members;	/* links */
	unsigned int nr_members;
	unsigned int nr_overs;		/* shares that this one is under */
	unsigned int nr_bases;		/* snapshots that started from it */
	u8 depth;			/* shares below it */
	u8 nr_refusals;			/* times that its parts could not be put together */
	u8 nr_delays;			/* the same, in the background */
	bool was_shared;		/* others may hold pages that they got by reading it */
	struct dvsm_terms terms;
};

/* What a region has to do with shares at one chunk. In region->links. */
struct dvsm_link {
	struct dvsm_region *region;
	u64 chunk;
	struct dvsm_share *content;
	struct dvsm_share *base;
	struct dvsm_share *lent;
	struct list_head member;	/* in content->members */
	bool seen;			/* a page that others share may be mapped */
};

/* share.c */
int dvsm_share_init(void);
void dvsm_share_exit(void);
bool dvsm_link_may_write(const struct dvsm_link *link);
void dvsm_share_set_terms(struct dvsm_share *share, const struct dvsm_terms *terms);
struct dvsm_link *dvsm_link_make(struct dvsm_region *region, u64 chunk);
void dvsm_link_set_base(struct dvsm_link *link, struct dvsm_share *share);
void dvsm_links_retire(struct dvsm_region *region);
struct dvsm_share *dvsm_share_of(struct dvsm_region *region, u64 chunk);
struct dvsm_share *dvsm_share_make(struct dvsm_region *region, u64 chunk);
struct dvsm_share *dvsm_share_create(struct dvsm_link *link);
struct dvsm_share *dvsm_share_create_hidden(struct dvsm_region *payer,
					    const struct dvsm_region *reader, u64 chunk);
void dvsm_share_join(struct dvsm_share *share, struct dvsm_link *link);
void dvsm_share_leave(struct dvsm_link *link);
void dvsm_share_diverge(struct dvsm_link *link);
void dvsm_share_switch(struct dvsm_link *link, struct dvsm_share *to);
int dvsm_share_leave_to_hole(struct dvsm_link *link);
void dvsm_link_prune(struct dvsm_region *region, u64 chunk);
void dvsm_share_unmap(struct dvsm_share *share);
struct dvsm_share *dvsm_share_find(struct dvsm_share *share, pgoff_t index);
pgoff_t dvsm_share_run_end(struct dvsm_share *share, pgoff_t start, pgoff_t end);
bool dvsm_share_settle(struct dvsm_share *share);
void dvsm_share_free_if_unused(struct dvsm_share *share);
void dvsm_share_end_store(struct dvsm_share *share, bool keep_folios);
void dvsm_share_end_if_unread(struct dvsm_share *share);
void dvsm_share_remove(struct dvsm_link *link);
void dvsm_share_become_own(struct dvsm_link *link);
struct dvsm_link *dvsm_share_hidden_place(struct dvsm_region *payer,
					  const struct dvsm_region *reader, u64 chunk);

/* copy.c */
struct mem_cgroup *dvsm_memcg_use(struct mem_cgroup *memcg);
struct folio *dvsm_share_peek(struct dvsm_share *share, pgoff_t index);
int dvsm_share_check_page(struct dvsm_share *share, pgoff_t index);
int dvsm_share_copy_page(struct dvsm_share *share, pgoff_t index, struct folio *dst,
			 struct page *scratch);
int dvsm_share_copy_pages(struct dvsm_share *share, pgoff_t *at, pgoff_t end,
			  struct dvsm_region *target, struct dvsm_placing *placing);
int dvsm_share_copy_to(struct dvsm_share *share, struct dvsm_region *target,
		       struct dvsm_region *reader);

/* break.c */
void dvsm_share_lose(struct dvsm_share *share, int error);
int dvsm_share_read(struct dvsm_link *link, pgoff_t index);
int dvsm_share_break(struct dvsm_link *link, pgoff_t index, struct folio *held);
int dvsm_share_break_all(struct dvsm_link *link);

/* fold.c */
void dvsm_share_try_fold(struct dvsm_link *link);
int dvsm_share_fold_later(struct dvsm_link *link);
bool dvsm_share_can_fold(struct dvsm_share *share);
void dvsm_share_fold_all(struct dvsm_share *share);

/* Whether one region alone reads a share that has members. */
static inline bool dvsm_share_is_alone(const struct dvsm_share *share)
{
	return share->nr_members == 1 && !share->nr_overs;
}

/* Whether @link's region alone reads its share. */
static inline bool dvsm_link_is_alone(const struct dvsm_link *link)
{
	return dvsm_share_is_alone(link->content);
}

/* Whether a write to what @link's region reads has to copy something. */
static inline bool dvsm_link_is_shared(const struct dvsm_link *link)
{
	return link && link->content && (!dvsm_link_may_write(link) || link->content->parts);
}

/* Whether others read what lies in the place of @link's region. */
static inline bool dvsm_link_lends_to_others(const struct dvsm_link *link)
{
	return link && link->lent && (link->lent != link->content || !dvsm_link_is_alone(link));
}

#endif /* DVSM_SHARE_H */
