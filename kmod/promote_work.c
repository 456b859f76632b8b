// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes huge in the background: what had to be made of small folios when it was
 * touched. Only chunks that are full, with huge folios that are free already, a few at a
 * time. And parts go back to where they were copied from, which costs no memory, when a
 * snapshot that needed both is gone.
 */
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "dvsm.h"
#include "promote.h"

#define DVSM_PROMOTE_BATCH	8U	/* chunks that the worker promotes at a time */
#define DVSM_PROMOTE_LOOK	1024U	/* chunks that it looks at for that */

static unsigned int dvsm_promote_seconds = 10;

static void dvsm_promote_work(struct work_struct *work);
static DECLARE_DELAYED_WORK(dvsm_promote_worker, dvsm_promote_work);

/**
 * dvsm_promote_want - A chunk of small folios is new, is elsewhere, or belongs elsewhere.
 * @region: the region
 *
 * Context: any.
 */
void dvsm_promote_want(struct dvsm_region *region)
{
	unsigned int seconds = READ_ONCE(dvsm_promote_seconds);

	set_bit(DVSM_WANTS_HUGE, &region->wants);
	if (seconds)
		queue_delayed_work(system_unbound_wq, &dvsm_promote_worker, seconds * HZ);
}

/**
 * dvsm_promote_exit - End the worker.
 *
 * Context: module exit; no region is left.
 */
void dvsm_promote_exit(void)
{
	cancel_delayed_work_sync(&dvsm_promote_worker);
}

/*
 * Parts whose place below nobody reads any more go back there. Returns whether the chunk is whole
 * now; -EAGAIN for what may be so another time.
 */
static int dvsm_promote_gather(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_link *link;
	int ret = 0;

	if (!xa_load(&region->links, chunk))
		return 1;
	down_write(&region->family->lock);
	link = xa_load(&region->links, chunk);
	if (link && link->content && dvsm_link_is_alone(link))
		do
			ret = dvsm_share_fold_later(link);
		while (ret > 0);
	if (!ret)
		ret = !(link && link->content && link->content->parts);
	up_write(&region->family->lock);
	return ret;
}

/*
 * Whether all of a chunk's small folios are there, on the node that its huge one should come from:
 * one that the cpuset of who touched it allows. The worker is in no cpuset.
 */
static bool dvsm_promote_is_due(struct dvsm_region *region, u64 chunk,
				const struct dvsm_chunk_look *look)
{
	int wanted;

	if (look->huge || look->nr_pages < DVSM_CHUNK_PAGES)
		return false;
	down_read(&region->family->lock);
	wanted = dvsm_policy_home(region, chunk << DVSM_CHUNK_ORDER, look->nid);
	up_read(&region->family->lock);
	return wanted == look->nid;
}

/*
 * Go on with a region where the worker left off. Returns whether there may be more to
 * do; what is busy or finds no memory is looked at again in the next round.
 */
static bool dvsm_promote_some(struct dvsm_region *region, struct dvsm_fresh *fresh)
{
	/* Only what is free: no reclaim for the sake of a page size. */
	gfp_t gfp = (GFP_HIGHUSER_MOVABLE & ~__GFP_DIRECT_RECLAIM) | __GFP_NORETRY;
	u64 nr_whole = region->nr_pages >> DVSM_CHUNK_ORDER;
	unsigned int nr_done = 0, nr_looked;
	int ret;

	if (!region->promote_next)
		region->promote_left = false;
	for (nr_looked = 0; nr_looked < DVSM_PROMOTE_LOOK; nr_looked++) {
		u64 chunk = dvsm_content_next_chunk(region, region->promote_next);
		struct dvsm_chunk_look look;

		if (chunk >= nr_whole) {
			region->promote_next = 0;
			return region->promote_left;
		}
		region->promote_next = chunk + 1;
		ret = dvsm_promote_gather(region, chunk);
		region->promote_left |= ret < 0;
		/* What is needed in parts stays so; to join it would cost memory. */
		if (ret <= 0)
			continue;
		look = dvsm_chunk_look(region, chunk);
		if (!dvsm_promote_is_due(region, chunk, &look))
			continue;
		ret = dvsm_promote_chunk(region, chunk, look.nid, gfp, fresh);
		region->promote_left |= ret != 0;
		if (ret == -ENOMEM || ++nr_done == DVSM_PROMOTE_BATCH)
			break;
	}
	return true;
}

static void dvsm_promote_work(struct work_struct *work)
{
	struct dvsm_fresh *fresh = kzalloc(sizeof(*fresh), GFP_KERNEL);
	const unsigned long wants = BIT(DVSM_WANTS_HUGE) | BIT(DVSM_WANTS_MORE);
	struct dvsm_region *region;
	bool more = false;
	u64 id = 0;

	if (!dvsm_region_count())
		goto out;
	/* Short of memory: another time. */
	more = !fresh || dvsm_inode_pin();
	if (more)
		goto out;
	while (READ_ONCE(dvsm_promote_seconds) && (region = dvsm_region_wanting(id, wants))) {
		id = region->id;
		/* Who wants it later means chunks that this pass may be past. */
		if (!region->promote_next)
			clear_bit(DVSM_WANTS_HUGE, &region->wants);
		if (dvsm_promote_some(region, fresh))
			set_bit(DVSM_WANTS_MORE, &region->wants);
		else
			clear_bit(DVSM_WANTS_MORE, &region->wants);
		more |= READ_ONCE(region->wants) & wants;
		iput(region->inode);
		cond_resched();
	}
	dvsm_inode_unpin();
out:
	kfree(fresh);
	if (more && READ_ONCE(dvsm_promote_seconds))
		queue_delayed_work(system_unbound_wq, &dvsm_promote_worker,
				   READ_ONCE(dvsm_promote_seconds) * HZ);
}

static int dvsm_set_promote_seconds(const char *value, const struct kernel_param *kp)
{
	int ret = param_set_uint_minmax(value, kp, 0, 86400);

	if (!ret && READ_ONCE(dvsm_promote_seconds) && dvsm_region_count())
		mod_delayed_work(system_unbound_wq, &dvsm_promote_worker,
				 READ_ONCE(dvsm_promote_seconds) * HZ);
	return ret;
}

static const struct kernel_param_ops dvsm_promote_seconds_ops = {
	.set = dvsm_set_promote_seconds,
	.get = param_get_uint,
};

module_param_cb(promote_seconds, &dvsm_promote_seconds_ops, &dvsm_promote_seconds, 0644);
MODULE_PARM_DESC(promote_seconds, "seconds between attempts to make chunks of small folios huge, 0 for never (default 10)");
