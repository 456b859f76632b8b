/* SPDX-License-Identifier: GPL-2.0-only */
/* Chunks that change their page size; promote.c tells their story. */
#ifndef DVSM_PROMOTE_H
#define DVSM_PROMOTE_H

#include "dvsm.h"

/* What one chunk's memory is. */
struct dvsm_chunk_look {
	unsigned long nr_folios;
	unsigned long nr_pages;
	int nid;			/* of the first folio */
	bool huge;			/* one of them is */
};

/* Folios that are to be in the place of others. */
struct dvsm_fresh {
	struct folio *folios[DVSM_CHUNK_PAGES];	/* locked; their index says where */
	unsigned int nr;
	struct mem_cgroup *memcg;	/* that pays, or NULL */
	unsigned long nr_old;		/* pages of those that they replace */
	bool written;
};

/* promote.c */
struct dvsm_chunk_look dvsm_chunk_look(struct dvsm_region *region, u64 chunk);
int dvsm_promote_chunk(struct dvsm_region *region, u64 chunk, int nid, gfp_t gfp,
		       struct dvsm_fresh *fresh);

#endif /* DVSM_PROMOTE_H */
