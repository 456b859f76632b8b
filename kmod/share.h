/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shares and links; share.c tells their story.
 */
#ifndef DVSM_SHARE_H
#define DVSM_SHARE_H

#include <linux/list.h>
#include <linux/types.h>

struct dvsm_region;
struct folio;

/* Contents of one chunk that several regions may read. Guarded as share.c says. */
struct dvsm_share {
	u64 chunk;
	struct dvsm_region *store;	/* whose page cache; its inode is held. NULL: a copy
					 * could not be had, and reading is an error
					 */
	struct list_head members;	/* links */
	unsigned int nr_members;
	unsigned int nr_bases;		/* snapshots that started from it */
};

/* What a region has to do with shares at one chunk. In region->links. */
struct dvsm_link {
	struct dvsm_region *region;
	u64 chunk;
	struct dvsm_share *content;
	struct dvsm_share *base;
	struct dvsm_share *lent;
	struct list_head member;	/* in content->members */
};

int dvsm_share_init(void);
void dvsm_share_exit(void);
struct dvsm_link *dvsm_link_make(struct dvsm_region *region, u64 chunk);
void dvsm_link_set_base(struct dvsm_link *link, struct dvsm_share *share);
void dvsm_links_retire(struct dvsm_region *region);
struct dvsm_share *dvsm_share_create(struct dvsm_link *link);
void dvsm_share_join(struct dvsm_share *share, struct dvsm_link *link);
void dvsm_share_leave(struct dvsm_link *link);
void dvsm_share_switch(struct dvsm_link *link, struct dvsm_share *to);
int dvsm_share_leave_to_hole(struct dvsm_link *link);
void dvsm_link_prune(struct dvsm_region *region, u64 chunk);
void dvsm_share_unmap(struct dvsm_share *share);
int dvsm_share_break(struct dvsm_link *link, struct folio *held);

/* Whether others read what @link's region reads. */
static inline bool dvsm_link_is_shared(const struct dvsm_link *link)
{
	return link && link->content && link->content->nr_members > 1;
}

/* Whether others read what lies in the place of @link's region. */
static inline bool dvsm_link_lends_to_others(const struct dvsm_link *link)
{
	return link && link->lent && (link->lent != link->content || link->lent->nr_members > 1);
}

#endif /* DVSM_SHARE_H */
