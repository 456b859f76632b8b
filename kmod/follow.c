// SPDX-License-Identifier: GPL-2.0-only
/*
 * Chunks that snapshots share follow those who use them.
 *
 * The kernel's NUMA balancing unmaps a folio where its own mapping says that it is
 * mapped, which is not where the other sharers have it. So balance.c keeps such chunks
 * from it, marks those that another node has used often enough, and a worker moves them
 * as DVSM_IOC_REGION_MIGRATE would: once, for all sharers. It moves no more than
 * balance_shared chunks in a second, only to memory that is free, and what it has
 * looked at stays for balance_interval_ms, whichever of the sharers is asked.
 */
#include <linux/moduleparam.h>
#include <linux/workqueue.h>

#include "dvsm.h"

static unsigned int balance_shared = 32;
module_param(balance_shared, uint, 0644);
MODULE_PARM_DESC(balance_shared, "chunks that snapshots share which are balanced in a second, 0 for none (default 32)");

static void dvsm_follow_work(struct work_struct *work);
static DECLARE_DELAYED_WORK(dvsm_follow_worker, dvsm_follow_work);

/**
 * dvsm_follow_want - A region has marked a chunk in region->uses.
 * @region: the region
 *
 * Context: any; does not sleep.
 */
void dvsm_follow_want(struct dvsm_region *region)
{
	if (!READ_ONCE(balance_shared))
		return;
	set_bit(DVSM_WANTS_FOLLOW, &region->wants);
	queue_delayed_work(system_unbound_wq, &dvsm_follow_worker, HZ);
}

/**
 * dvsm_follow_exit - End the worker.
 *
 * Context: module exit; no region is left.
 */
void dvsm_follow_exit(void)
{
	cancel_delayed_work_sync(&dvsm_follow_worker);
}

struct dvsm_followed {
	struct dvsm_region *region;
	u64 chunk;
	int node;
};

static bool dvsm_follow_is_refused_by(struct dvsm_region *region, void *arg)
{
	const struct dvsm_followed *followed = arg;

	return xa_load(&region->links, followed->chunk) &&
	       !dvsm_balance_lets_move(region, followed->chunk, followed->node);
}

static bool dvsm_follow_note(struct dvsm_region *region, void *arg)
{
	const struct dvsm_followed *followed = arg;

	if (xa_load(&region->links, followed->chunk))
		dvsm_balance_moved(region, followed->chunk, followed->node);
	return false;
}

/* A look that keeps no fault waiting. */
static bool dvsm_follow_is_there(const struct dvsm_followed *followed)
{
	pgoff_t index = followed->chunk << DVSM_CHUNK_ORDER;
	bool parts, there;
	struct folio *folio = dvsm_content_peek(followed->region, index, &parts);

	if (IS_ERR_OR_NULL(folio))
		return false;
	there = !parts && folio_order(folio) == DVSM_CHUNK_ORDER &&
		folio_nid(folio) == followed->node;
	folio_put(folio);
	return there;
}

/* What was tried stays where it is for a while, whatever became of it. */
static void dvsm_follow_try(struct dvsm_followed *followed)
{
	struct dvsm_region *region = followed->region;
	struct dvsm_moved moved = {};

	if (dvsm_family_for_each(region->family, dvsm_follow_is_refused_by, followed))
		atomic_long_inc(&region->nr_held);
	else
		dvsm_region_migrate_chunk(region, followed->chunk, followed->node, &moved);
	if (moved.nr_moved)
		dvsm_family_for_each(region->family, dvsm_follow_note, followed);
	else
		dvsm_balance_moved(region, followed->chunk, followed->node);
}

/* Move what a region has marked, from where that ended before; @left is how many chunks may yet be tried. */
static void dvsm_follow_region(struct dvsm_region *region, unsigned int *left)
{
	struct dvsm_followed followed = { .region = region, .chunk = region->follow_next };
	bool began_at_zero = !followed.chunk;

	while (*left) {
		cond_resched();
		if (!dvsm_balance_next_wanted(region, &followed.chunk, &followed.node)) {
			followed.chunk = 0;
			if (began_at_zero)
				break;
			began_at_zero = true;
			continue;
		}
		if (dvsm_follow_is_there(&followed)) {
			dvsm_balance_moved(region, followed.chunk, followed.node);
		} else {
			dvsm_follow_try(&followed);
			(*left)--;
		}
		followed.chunk++;
	}
	region->follow_next = followed.chunk;
}

static void dvsm_follow_work(struct work_struct *work)
{
	static u64 last;		/* region that was looked at last: each has its turn */
	unsigned int left = READ_ONCE(balance_shared);
	struct dvsm_region *region;

	if (!left || !dvsm_region_count())
		return;
	/* Short of memory: another time. */
	if (dvsm_inode_pin()) {
		queue_delayed_work(system_unbound_wq, &dvsm_follow_worker, HZ);
		return;
	}
	while (left && (region = dvsm_region_wanting(last, BIT(DVSM_WANTS_FOLLOW)))) {
		last = region->id;
		clear_bit(DVSM_WANTS_FOLLOW, &region->wants);
		dvsm_follow_region(region, &left);
		if (!left)
			dvsm_follow_want(region);
		iput(region->inode);
	}
	/* Those before the one that this round began after. */
	if (left && last) {
		last = 0;
		queue_delayed_work(system_unbound_wq, &dvsm_follow_worker, HZ);
	}
	dvsm_inode_unpin();
}
