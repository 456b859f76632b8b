// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions: making them, listing them, ending them.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/resource.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/slab.h>

#include "dvsm.h"
#include "trace.h"

static DEFINE_MUTEX(dvsm_regions_lock);
static LIST_HEAD(dvsm_regions);			/* dvsm_regions_lock */
static unsigned long dvsm_nr_regions;		/* dvsm_regions_lock */
static atomic64_t dvsm_last_id;

static struct dvsm_family *dvsm_family_alloc(void)
{
	struct dvsm_family *family = kzalloc(sizeof(*family), GFP_KERNEL_ACCOUNT);

	if (!family)
		return NULL;
	refcount_set(&family->refs, 1);
	init_rwsem(&family->lock);
	return family;
}

static void dvsm_family_put(struct dvsm_family *family)
{
	if (family && refcount_dec_and_test(&family->refs))
		kfree(family);
}

static void dvsm_region_list(struct dvsm_region *region)
{
	mutex_lock(&dvsm_regions_lock);
	list_add_tail(&region->link, &dvsm_regions);
	dvsm_nr_regions++;
	mutex_unlock(&dvsm_regions_lock);
}

static void dvsm_region_unlist(struct dvsm_region *region)
{
	mutex_lock(&dvsm_regions_lock);
	if (!list_empty(&region->link)) {
		list_del(&region->link);
		dvsm_nr_regions--;
	}
	mutex_unlock(&dvsm_regions_lock);
}

/**
 * dvsm_region_for_each - Call a function for every region.
 * @fn: the function; must not create or end regions
 * @arg: handed to @fn
 *
 * Context: may sleep.
 */
void dvsm_region_for_each(void (*fn)(struct dvsm_region *region, void *arg), void *arg)
{
	struct dvsm_region *region;

	mutex_lock(&dvsm_regions_lock);
	list_for_each_entry(region, &dvsm_regions, link)
		fn(region, arg);
	mutex_unlock(&dvsm_regions_lock);
}

/**
 * dvsm_region_count - How many regions there are.
 *
 * Context: any.
 * Return: their number.
 */
unsigned long dvsm_region_count(void)
{
	return READ_ONCE(dvsm_nr_regions);
}

/**
 * dvsm_region_free - End a region.
 * @region: the region; its page cache is empty, or it never had an inode
 *
 * Context: may sleep; nobody else knows the region any more.
 */
void dvsm_region_free(struct dvsm_region *region)
{
	dvsm_region_unlist(region);
	if (region->inode) {
		dvsm_account_settle(region);
		trace_dvsm_region_destroy(region->id, atomic_long_read(&region->nr_peak));
	}
	if (region->locker)
		free_uid(region->locker);
	if (region->user)
		dvsm_user_put(region->user);
	dvsm_family_put(region->family);
	kvfree(region->nodes);
	kfree(region);
}

static struct dvsm_region *dvsm_region_alloc(u64 length, u32 flags,
					     const struct dvsm_policy *policy, const char *label)
{
	struct dvsm_region *region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);

	if (!region)
		return NULL;
	INIT_LIST_HEAD(&region->link);
	region->length = length;
	region->nr_pages = length >> PAGE_SHIFT;
	region->flags = flags;
	region->policy = *policy;
	strscpy(region->label, label, sizeof(region->label));
	region->id = atomic64_inc_return(&dvsm_last_id);
	region->family = dvsm_family_alloc();
	region->user = dvsm_user_get(current_uid());
	region->nodes = kvcalloc(nr_node_ids, sizeof(*region->nodes), GFP_KERNEL_ACCOUNT);
	if (!region->family || !region->user || !region->nodes) {
		dvsm_region_free(region);
		return NULL;
	}
	if ((flags & DVSM_REGION_F_PINNED) && !capable(CAP_IPC_LOCK)) {
		region->locker = get_uid(current_user());
		region->lock_limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	}
	return region;
}

/**
 * dvsm_region_create - Make a region.
 * @length: in bytes, a multiple of the page, more than 0
 * @flags: DVSM_REGION_F_
 * @policy: where its memory comes from
 * @label: its name for people
 *
 * The contents of a pinned region are the caller's to populate.
 *
 * Context: process; the caller's user is charged.
 * Return: a file opened for reading and writing that is the only reference, or
 * an error.
 */
struct file *dvsm_region_create(u64 length, u32 flags, const struct dvsm_policy *policy,
				const char *label)
{
	struct dvsm_region *region;
	struct inode *inode;
	struct file *file;

	region = dvsm_region_alloc(length, flags, policy, label);
	if (!region)
		return ERR_PTR(-ENOMEM);
	inode = dvsm_inode_create(region);
	if (IS_ERR(inode)) {
		dvsm_region_free(region);
		return ERR_CAST(inode);
	}
	dvsm_region_list(region);
	trace_dvsm_region_create(region->id, region->length, region->flags);
	file = dvsm_inode_open(inode, O_RDWR);
	iput(inode);
	return file;
}

/**
 * dvsm_region_info_fill - Describe a region.
 * @region: the region
 * @info: filled in but for its size
 *
 * Context: may sleep.
 */
void dvsm_region_info_fill(struct dvsm_region *region, struct dvsm_region_info *info)
{
	unsigned int nid;

	info->out_length = region->length;
	info->out_id = region->id;
	info->out_flags = region->flags;
	info->out_policy = region->policy.mode;
	info->out_resident = (u64)READ_ONCE(region->inode->i_mapping->nrpages) << PAGE_SHIFT;
	info->out_resident_huge = (u64)dvsm_region_count_huge(region) << DVSM_CHUNK_SHIFT;
	info->out_resident_peak = (u64)atomic_long_read(&region->nr_peak) << PAGE_SHIFT;
	info->out_pinned = region->flags & DVSM_REGION_F_PINNED ? info->out_resident : 0;
	info->out_nr_faults_alloc = atomic_long_read(&region->stats.nr_faults_alloc);
	info->out_nr_faults_private = atomic_long_read(&region->stats.nr_faults_private);
	info->out_nr_fallbacks = atomic_long_read(&region->stats.nr_fallbacks);
	info->out_nr_failures = atomic_long_read(&region->stats.nr_failures);
	info->out_nr_faults = 0;
	info->out_nr_faults_remote = 0;
	info->out_nr_misses = 0;
	info->out_nr_moved = 0;
	for (nid = 0; nid < nr_node_ids; nid++) {
		struct dvsm_node *node = &region->nodes[nid];

		info->out_nr_faults += atomic_long_read(&node->nr_faults);
		info->out_nr_faults_remote += atomic_long_read(&node->nr_faults_remote);
		info->out_nr_misses += atomic_long_read(&node->nr_misses);
		info->out_nr_moved += atomic_long_read(&node->nr_moved_in);
	}
}
