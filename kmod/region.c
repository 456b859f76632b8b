// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions: making them, listing them, ending them.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/resource.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/slab.h>

#include "dvsm.h"
#include "trace.h"

static DEFINE_MUTEX(dvsm_regions_lock);
static DEFINE_XARRAY_FLAGS(dvsm_regions, XA_FLAGS_ACCOUNT);	/* by id; dvsm_regions_lock */
static unsigned long dvsm_nr_regions;		/* dvsm_regions_lock */
static atomic64_t dvsm_last_id;

static struct dvsm_family *dvsm_family_alloc(void)
{
	struct dvsm_family *family = kzalloc(sizeof(*family), GFP_KERNEL_ACCOUNT);
	unsigned int i;

	if (!family)
		return NULL;
	refcount_set(&family->refs, 1);
	init_rwsem(&family->lock);
	xa_init_flags(&family->firsts, XA_FLAGS_ACCOUNT);
	mutex_init(&family->members_lock);
	INIT_LIST_HEAD(&family->members);
	mutex_init(&family->hidden_lock);
	INIT_LIST_HEAD(&family->hidden);
	for (i = 0; i < ARRAY_SIZE(family->chunk_mutexes); i++)
		mutex_init(&family->chunk_mutexes[i]);
	return family;
}

static struct dvsm_family *dvsm_family_get(struct dvsm_family *family)
{
	refcount_inc(&family->refs);
	return family;
}

static void dvsm_family_put(struct dvsm_family *family)
{
	struct dvsm_region *region, *next;

	if (!family || !refcount_dec_and_test(&family->refs))
		return;
	/* Nobody is left who could read what hidden regions hold. */
	list_for_each_entry_safe(region, next, &family->hidden, hidden)
		iput(region->inode);
	xa_destroy(&family->firsts);
	kfree(family);
}

static int dvsm_region_list(struct dvsm_region *region)
{
	/* Who is short of memory keeps nobody else waiting. */
	int ret = xa_reserve(&dvsm_regions, region->id, DVSM_GFP);

	if (ret)
		return ret;
	mutex_lock(&dvsm_regions_lock);
	xa_store(&dvsm_regions, region->id, region, DVSM_GFP);
	dvsm_nr_regions++;
	mutex_unlock(&dvsm_regions_lock);
	mutex_lock(&region->family->members_lock);
	list_add_tail(&region->member, &region->family->members);
	mutex_unlock(&region->family->members_lock);
	return 0;
}

static void dvsm_region_unlist(struct dvsm_region *region)
{
	mutex_lock(&dvsm_regions_lock);
	if (xa_erase(&dvsm_regions, region->id))
		dvsm_nr_regions--;
	mutex_unlock(&dvsm_regions_lock);
	if (list_empty(&region->member))
		return;
	mutex_lock(&region->family->members_lock);
	list_del_init(&region->member);
	mutex_unlock(&region->family->members_lock);
}

/**
 * dvsm_region_for_each - Call a function for regions, in the order of their ids.
 * @after: those with a greater id than this
 * @fn: the function; must not create or end regions; true to stop
 * @arg: handed to @fn
 *
 * Context: may sleep.
 * Return: whether @fn stopped it.
 */
bool dvsm_region_for_each(u64 after, bool (*fn)(struct dvsm_region *region, void *arg), void *arg)
{
	struct dvsm_region *region;
	unsigned long id = after;
	bool stopped = false;

	mutex_lock(&dvsm_regions_lock);
	while (!stopped && (region = xa_find_after(&dvsm_regions, &id, ULONG_MAX, XA_PRESENT)))
		stopped = fn(region, arg);
	mutex_unlock(&dvsm_regions_lock);
	return stopped;
}

/**
 * dvsm_family_for_each - Call a function for all regions of a family but hidden ones.
 * @family: the family
 * @fn: as for dvsm_region_for_each()
 * @arg: handed to @fn
 *
 * Context: may sleep.
 * Return: whether @fn stopped it.
 */
bool dvsm_family_for_each(struct dvsm_family *family,
			  bool (*fn)(struct dvsm_region *region, void *arg), void *arg)
{
	struct dvsm_region *region;
	bool stopped = false;

	mutex_lock(&family->members_lock);
	list_for_each_entry(region, &family->members, member) {
		stopped = fn(region, arg);
		if (stopped)
			break;
	}
	mutex_unlock(&family->members_lock);
	return stopped;
}

/**
 * dvsm_region_get - Become a user of a region, as an open file is one.
 * @id: the region's
 *
 * Context: may sleep.
 * Return: the region, to be given back by dvsm_region_put(); -ENOENT or -ENOMEM.
 */
struct dvsm_region *dvsm_region_get(u64 id)
{
	struct dvsm_region *region;
	struct inode *inode;
	int ret;

	/* First: whoever has the region open now has pinned the same mount. */
	ret = dvsm_inode_pin();
	if (ret)
		return ERR_PTR(ret);
	mutex_lock(&dvsm_regions_lock);
	region = xa_load(&dvsm_regions, id);
	/* In this order: who drops one of nr_files that is not the last drops his inode next. */
	inode = region ? igrab(region->inode) : NULL;
	if (!inode || !atomic_inc_not_zero(&region->nr_files))
		region = ERR_PTR(-ENOENT);
	mutex_unlock(&dvsm_regions_lock);
	if (IS_ERR(region)) {
		iput(inode);
		dvsm_inode_unpin();
	}
	return region;
}

/**
 * dvsm_region_put - Undo dvsm_region_get().
 * @region: the region
 *
 * Context: may sleep; no dvsm lock held.
 */
void dvsm_region_put(struct dvsm_region *region)
{
	struct inode *inode = region->inode;

	/* All others may have closed it meanwhile. */
	if (atomic_dec_and_test(&region->nr_files))
		dvsm_region_retire(region);
	iput(inode);
	dvsm_inode_unpin();
}

/**
 * dvsm_region_wanting - The next region that wants a worker's attention.
 * @after: begin after the region with this number
 * @wants: bits, enum dvsm_want; one of them is enough
 *
 * Context: may sleep; the file system is pinned.
 * Return: the region, with a reference on its inode, or NULL.
 */
struct dvsm_region *dvsm_region_wanting(u64 after, unsigned long wants)
{
	struct dvsm_region *region;
	unsigned long id = after;

	mutex_lock(&dvsm_regions_lock);
	while ((region = xa_find_after(&dvsm_regions, &id, ULONG_MAX, XA_PRESENT)))
		if ((READ_ONCE(region->wants) & wants) && !(region->flags & DVSM_REGION_F_PINNED) &&
		    igrab(region->inode))
			break;
	mutex_unlock(&dvsm_regions_lock);
	return region;
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
	WARN_ON_ONCE(!xa_empty(&region->links));
	WARN_ON_ONCE(!RB_EMPTY_ROOT(&region->pins.rb_root));
	dvsm_places_free(region);
	xa_destroy(&region->uses);
	if (region->locker)
		free_uid(region->locker);
	if (region->user)
		dvsm_user_put(region->user);
	mem_cgroup_put(region->memcg);
	iput(region->anchor);
	if (!(region->flags & DVSM_REGION_F_HIDDEN))
		dvsm_family_put(region->family);
	kvfree(region->nodes);
	kfree(region);
}

static struct dvsm_region *dvsm_region_alloc(u64 length, u32 flags, struct dvsm_policy *policy, const char *label,
					     kuid_t uid)
{
	struct dvsm_region *region = kzalloc(sizeof(*region), DVSM_GFP);

	if (!region)
		return NULL;
	INIT_LIST_HEAD(&region->member);
	INIT_LIST_HEAD(&region->hidden);
	INIT_LIST_HEAD(&region->names);
	xa_init_flags(&region->links, XA_FLAGS_ACCOUNT);
	spin_lock_init(&region->places_lock);
	region->policy = dvsm_policy_get(policy);
	region->places = RB_ROOT;
	xa_init_flags(&region->uses, XA_FLAGS_ACCOUNT);
	region->balance = dvsm_balance_default(flags);
	mutex_init(&region->pins_lock);
	region->pins = RB_ROOT_CACHED;
	region->length = length;
	region->nr_pages = length >> PAGE_SHIFT;
	region->taken.end = dvsm_page_chunk(region->nr_pages + DVSM_CHUNK_PAGES - 1);
	region->descent = region->taken;
	region->flags = flags;
	strscpy(region->label, label, sizeof(region->label));
	region->id = atomic64_inc_return(&dvsm_last_id);
	region->user = dvsm_user_get(uid);
	region->nodes = kvcalloc(nr_node_ids, sizeof(*region->nodes), DVSM_GFP);
	if (!region->user || !region->nodes) {
		dvsm_region_free(region);
		return NULL;
	}
	return region;
}

/* Give @region its inode, which owns it from then on; NULL and freed without memory. */
static struct dvsm_region *dvsm_region_embody(struct dvsm_region *region)
{
	struct inode *inode = dvsm_inode_create(region);

	if (!IS_ERR(inode))
		return region;
	dvsm_region_free(region);
	return NULL;
}

/**
 * dvsm_region_create_inode - Make a region that nobody has open yet.
 * @length: in bytes, a multiple of the page, more than 0
 * @flags: DVSM_REGION_F_
 * @policy: where its memory comes from
 * @label: its name for people
 * @family: the family that it joins; NULL for one of its own
 *
 * Context: process; the caller's user is charged.
 * Return: the region, whose inode has one reference, or NULL without memory.
 */
struct dvsm_region *dvsm_region_create_inode(u64 length, u32 flags,
					     struct dvsm_policy *policy, const char *label,
					     struct dvsm_family *family)
{
	struct dvsm_region *region;

	region = dvsm_region_alloc(length, flags, policy, label, current_uid());
	if (!region)
		return NULL;
	region->family = family ? dvsm_family_get(family) : dvsm_family_alloc();
	if (!region->family) {
		dvsm_region_free(region);
		return NULL;
	}
	if ((flags & DVSM_REGION_F_PINNED) && !capable(CAP_IPC_LOCK)) {
		region->locker = get_uid(current_user());
		region->lock_limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	}
	region = dvsm_region_embody(region);
	if (!region)
		return NULL;
	if (dvsm_region_list(region)) {
		iput(region->inode);
		return NULL;
	}
	trace_dvsm_region_create(region->id, region->length, region->flags);
	return region;
}

static struct mem_cgroup *dvsm_memcg_get(struct mem_cgroup *memcg)
{
#ifdef CONFIG_MEMCG
	if (memcg)
		css_get(&memcg->css);
#endif
	return memcg;
}

/* What of a region's flags says how its memory is made. */
static u32 dvsm_region_hidden_flags(const struct dvsm_region *payer)
{
	return DVSM_REGION_F_HIDDEN | (payer->flags & DVSM_REGION_F_HUGE_REQUIRED);
}

/*
 * Whose futexes those are that lie where a region writes; NULL for several. The core knows a futex by inode and
 * offset, and who sleeps on one is not seen by whoever moves its page: so a page that the
 * family's first region writes to stays in inodes of one number.
 */
static u64 dvsm_region_futex_owner(const struct dvsm_region *region)
{
	if (!region || region->parent_id)
		return 0;
	return region->flags & DVSM_REGION_F_HIDDEN ? region->futex_owner : region->id;
}

/**
 * dvsm_region_may_write_in - Whether futexes that a region has in a place are its own.
 * @region: the region
 * @store: the place
 *
 * The family's first region may have moved away from a place, to another of its number. As
 * long as it is there who stayed behind has to move, too, before he writes: else a wake-up
 * could go to the wrong side.
 *
 * Context: the family is locked.
 */
bool dvsm_region_may_write_in(const struct dvsm_region *region, const struct dvsm_region *store)
{
	u64 owner = dvsm_region_futex_owner(store);

	return !owner || owner == region->id || store->family->first_is_gone;
}

/**
 * dvsm_region_pays_as - Whether a hidden region's memory is as another's.
 * @region: the hidden region
 * @payer: the region that contents are kept for
 *
 * Context: any.
 * Return: true if the same user and cgroup pay, and the wishes are the same.
 */
bool dvsm_region_pays_as(const struct dvsm_region *region, const struct dvsm_region *payer)
{
	return region->user == payer->user && region->memcg == payer->memcg &&
	       region->flags == dvsm_region_hidden_flags(payer);
}

/**
 * dvsm_region_is_hidden_for - Whether contents of a region may go to a hidden region.
 * @region: the hidden region
 * @payer: the region that contents are kept for
 * @reader: the region that is to read them, alone at first; NULL for several
 *
 * Context: any.
 */
bool dvsm_region_is_hidden_for(const struct dvsm_region *region, const struct dvsm_region *payer,
			       const struct dvsm_region *reader)
{
	return dvsm_region_pays_as(region, payer) &&
	       region->futex_owner == dvsm_region_futex_owner(reader);
}

/**
 * dvsm_region_create_hidden - Make a place for contents of a family.
 * @payer: the region whose user and cgroup pay for what is put there
 * @reader: as for dvsm_region_is_hidden_for()
 *
 * Context: may sleep.
 * Return: the region, kept by the family, or NULL without memory.
 */
struct dvsm_region *dvsm_region_create_hidden(struct dvsm_region *payer,
					      const struct dvsm_region *reader)
{
	struct dvsm_region *region;

	region = dvsm_region_alloc(payer->length, dvsm_region_hidden_flags(payer),
				   payer->policy, "hidden", payer->user->uid);
	if (!region)
		return NULL;
	region->family = payer->family;
	region->memcg = dvsm_memcg_get(payer->memcg);
	region = dvsm_region_embody(region);
	if (region) {
		region->futex_owner = dvsm_region_futex_owner(reader);
		if (region->futex_owner)
			dvsm_inode_share_futexes(region->inode, reader->inode);
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
struct file *dvsm_region_create(u64 length, u32 flags, struct dvsm_policy *policy,
				const char *label)
{
	struct dvsm_region *region;
	struct inode *inode;
	struct file *file;
	int ret;

	ret = dvsm_inode_pin();
	if (ret)
		return ERR_PTR(ret);
	region = dvsm_region_create_inode(length, flags, policy, label, NULL);
	if (region) {
		inode = region->inode;
		file = dvsm_inode_open(inode, O_RDWR);
		iput(inode);
	} else {
		file = ERR_PTR(-ENOMEM);
	}
	dvsm_inode_unpin();
	return file;
}

/**
 * dvsm_region_retire - The last file on a region is gone.
 * @region: the region
 *
 * It reads nothing any more. What others read of its page cache stays, and keeps
 * the inode.
 *
 * Context: may sleep.
 */
void dvsm_region_retire(struct dvsm_region *region)
{
	struct inode *anchor;
	struct dvsm_link *link;
	unsigned long chunk;
	u64 next = 0;

	dvsm_region_unlist(region);
	dvsm_inode_retire(region->inode);
	dvsm_name_retire(region);
	dvsm_events_retire(region);
	down_write(&region->family->lock);
	if (!region->parent_id)
		region->family->first_is_gone = true;
	dvsm_links_retire(region);
	/* What is still linked is lent; everything between belongs to nobody. */
	xa_for_each(&region->links, chunk, link) {
		if (chunk > next)
			truncate_inode_pages_range(region->inode->i_mapping,
						   (loff_t)next << DVSM_CHUNK_SHIFT,
						   ((loff_t)chunk << DVSM_CHUNK_SHIFT) - 1);
		next = chunk + 1;
	}
	truncate_inode_pages(region->inode->i_mapping, (loff_t)next << DVSM_CHUNK_SHIFT);
	dvsm_account_settle(region);
	/* There are no mappings any more. An eviction that let go of it could go on and on. */
	anchor = region->anchor;
	region->anchor = NULL;
	up_write(&region->family->lock);
	iput(anchor);
}

/**
 * dvsm_region_unmap - Take a range out of all mappings of a region.
 * @region: the region
 * @start: first byte, at a page
 * @length: of the range, more than 0
 *
 * Private copies stay where they are. Mappings of others may be emptied too.
 *
 * Context: may sleep.
 */
void dvsm_region_unmap(struct dvsm_region *region, loff_t start, loff_t length)
{
	unmap_mapping_range(region->inode->i_mapping, start, length, 0);
	if (region->anchor)
		unmap_mapping_range(region->anchor->i_mapping, start, length, 0);
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
	struct dvsm_usage usage;
	unsigned int nid;

	dvsm_region_usage(region, &usage);
	info->out_length = region->length;
	info->out_id = region->id;
	info->out_flags = region->flags;
	info->out_policy = dvsm_region_policy_mode(region);
	info->out_resident = (u64)usage.nr_pages << PAGE_SHIFT;
	info->out_resident_huge = (u64)usage.nr_huge << DVSM_CHUNK_SHIFT;
	info->out_resident_peak = (u64)atomic_long_read(&region->nr_peak) << PAGE_SHIFT;
	if (region->flags & DVSM_REGION_F_PINNED)
		info->out_pinned = info->out_resident;
	else
		info->out_pinned = (u64)atomic_long_read(&region->nr_pinned) << PAGE_SHIFT;
	info->out_nr_faults_alloc = atomic_long_read(&region->stats.nr_faults_alloc);
	info->out_nr_faults_private = atomic_long_read(&region->stats.nr_faults_private);
	info->out_nr_fallbacks = atomic_long_read(&region->stats.nr_fallbacks);
	info->out_nr_failures = atomic_long_read(&region->stats.nr_failures);
	info->out_parent_id = region->parent_id;
	info->out_shared = (u64)usage.nr_shared << PAGE_SHIFT;
	info->out_copied = (u64)atomic_long_read(&region->stats.nr_copied) << PAGE_SHIFT;
	info->out_nr_lost = atomic_long_read(&region->stats.nr_lost);
	info->out_nr_merges = atomic_long_read(&region->stats.nr_merges);
	info->out_nr_conflicts = atomic_long_read(&region->stats.nr_conflicts);
	info->out_nr_faults_parts = atomic_long_read(&region->stats.nr_faults_parts);
	info->out_taken_offset = region->taken.first << DVSM_CHUNK_SHIFT;
	info->out_taken_length = min(region->taken.end << DVSM_CHUNK_SHIFT, region->length) -
				 info->out_taken_offset;
	info->out_nr_faults = 0;
	info->out_nr_faults_remote = 0;
	info->out_nr_misses = 0;
	info->out_nr_moved = 0;
	info->out_nr_cow_faults = 0;
	for (nid = 0; nid < nr_node_ids; nid++) {
		struct dvsm_node *node = &region->nodes[nid];

		info->out_nr_faults += atomic_long_read(&node->nr_faults);
		info->out_nr_faults_remote += atomic_long_read(&node->nr_faults_remote);
		info->out_nr_misses += atomic_long_read(&node->nr_misses);
		info->out_nr_moved += dvsm_moves(node->nr_moved_in);
		info->out_nr_cow_faults += atomic_long_read(&node->nr_cow_faults);
	}
}
