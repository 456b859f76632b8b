// SPDX-License-Identifier: GPL-2.0-only
/*
 * NUMA balancing of regions: whether the kernel's own may act, and what it sees.
 *
 * The kernel scans a mapping, so that its pages are mapped anew by hinting faults, if
 * the mapping's policy has MPOL_F_MOF; on such a fault it asks for the policy again, of
 * that address, on the CPU that touched it, and moves the folio there if the policy
 * lets it. Both questions come through ->get_policy, and this file answers them:
 *
 *   off      a policy that is not scanned
 *   observe  one that is scanned; at a fault, one by which every node is right
 *   on       the same as long as the chunk has to stay where it is, else the kernel's
 *            own default
 *
 * The core cannot move what snapshots share, so it is told that such a chunk stays;
 * one that another node uses is marked, and follow.c moves it.
 *
 * A fault is known by the page table lock that the core holds, and is written down: which
 * node used the chunk, and how often in a row. What moved lately stays for
 * balance_interval_ms, or goes on to where it is moving. Nothing here sleeps.
 *
 * A use is a word: an xarray needs no more room for it than for a pointer.
 */
#include <linux/bitfield.h>
#include <linux/cpuset.h>
#include <linux/jiffies.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/topology.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "dvsm.h"

/* Hints in a row from one node that make a chunk one that would move. */
#define DVSM_USE_ENOUGH		2

/* In region->uses: chunks that follow.c is to move. */
#define DVSM_USE_WANTED		XA_MARK_0

static unsigned int balance = DVSM_BALANCE_ON;

static int dvsm_balance_param_set(const char *value, const struct kernel_param *kp)
{
	unsigned int mode;
	int ret = kstrtouint(value, 0, &mode);

	if (ret)
		return ret;
	if (mode < DVSM_BALANCE_OFF || mode > DVSM_BALANCE_ON)
		return -EINVAL;
	WRITE_ONCE(balance, mode);
	return 0;
}

static const struct kernel_param_ops dvsm_balance_param_ops = {
	.set = dvsm_balance_param_set,
	.get = param_get_uint,
};

module_param_cb(balance, &dvsm_balance_param_ops, &balance, 0644);
MODULE_PARM_DESC(balance, "NUMA balancing of new regions: 1 off, 2 observe, 3 on (default 3)");

static unsigned int balance_interval_ms = 10000;
module_param(balance_interval_ms, uint, 0644);
MODULE_PARM_DESC(balance_interval_ms, "a chunk that has moved to a node is not balanced to another one for so long (default 10000)");

/* Who used a chunk, and where it moved, as it is packed into a word. */
struct dvsm_use {
	unsigned int node;
	unsigned int nr;		/* hints in a row from @node; 0: none yet */
	bool has_moved;
	unsigned int moved_to;		/* node */
	u32 moved_at;			/* jiffies */
};

#define DVSM_USE_NODE		GENMASK_ULL(9, 0)
#define DVSM_USE_NR		GENMASK_ULL(15, 10)
#define DVSM_USE_MOVED_AT	GENMASK_ULL(47, 16)
#define DVSM_USE_MOVED_TO	GENMASK_ULL(57, 48)
#define DVSM_USE_HAS_MOVED	BIT_ULL(58)
static_assert(NODES_SHIFT <= 10);

static struct dvsm_use dvsm_use_unpack(void *entry)
{
	u64 word = entry ? xa_to_value(entry) : 0;

	return (struct dvsm_use) {
		.node = FIELD_GET(DVSM_USE_NODE, word),
		.nr = FIELD_GET(DVSM_USE_NR, word),
		.has_moved = word & DVSM_USE_HAS_MOVED,
		.moved_to = FIELD_GET(DVSM_USE_MOVED_TO, word),
		.moved_at = FIELD_GET(DVSM_USE_MOVED_AT, word),
	};
}

static void *dvsm_use_pack(const struct dvsm_use *use)
{
	return xa_mk_value(FIELD_PREP(DVSM_USE_NODE, use->node) |
			   FIELD_PREP(DVSM_USE_NR, use->nr) |
			   (use->has_moved ? DVSM_USE_HAS_MOVED : 0) |
			   FIELD_PREP(DVSM_USE_MOVED_TO, use->moved_to) |
			   FIELD_PREP(DVSM_USE_MOVED_AT, use->moved_at));
}

/* Without memory the use is forgotten: it will be seen again. */
static void dvsm_use_store_locked(struct dvsm_region *region, u64 chunk,
				  const struct dvsm_use *use)
{
	lockdep_assert_held(&region->uses.xa_lock);
	__xa_store(&region->uses, chunk, dvsm_use_pack(use), GFP_NOWAIT | __GFP_NOWARN);
}

/* Whether the chunk has moved so lately that it has to stay where it is. */
static bool dvsm_use_stays(const struct dvsm_use *use)
{
	u32 interval = min_t(unsigned long, msecs_to_jiffies(READ_ONCE(balance_interval_ms)),
			     S32_MAX);

	return use->has_moved && (u32)jiffies - use->moved_at < interval;
}

/**
 * dvsm_balance_default - What new regions get.
 * @flags: DVSM_REGION_F_ of the region
 *
 * Context: any.
 * Return: DVSM_BALANCE_
 */
u32 dvsm_balance_default(u32 flags)
{
	return flags & DVSM_REGION_F_PINNED ? DVSM_BALANCE_OFF : READ_ONCE(balance);
}

/**
 * dvsm_balance_moved - A chunk, or a part of it, shall stay for a while.
 * @region: a region that reads it
 * @chunk: the chunk
 * @node: where it has moved, or was found, or could not be moved to
 *
 * Context: any; does not sleep.
 */
void dvsm_balance_moved(struct dvsm_region *region, u64 chunk, int node)
{
	struct dvsm_use use;

	if (READ_ONCE(region->balance) != DVSM_BALANCE_ON)
		return;
	xa_lock(&region->uses);
	use = dvsm_use_unpack(xa_load(&region->uses, chunk));
	use.has_moved = true;
	use.moved_to = node;
	use.moved_at = jiffies;
	dvsm_use_store_locked(region, chunk, &use);
	xa_unlock(&region->uses);
}

/* What the chunk's policy says of a move to @here. */
static bool dvsm_balance_is_allowed(struct dvsm_region *region, u64 chunk, int here)
{
	struct dvsm_policy *policy = dvsm_place_policy_get(region, chunk);
	bool allowed;

	switch (policy->mode) {
	case DVSM_POLICY_INHERIT:
	case DVSM_POLICY_LOCAL:
		allowed = true;
		break;
	case DVSM_POLICY_BIND:
		allowed = node_isset(here, policy->nodes);
		break;
	default:
		allowed = false;
	}
	dvsm_policy_put(policy);
	return allowed;
}

/**
 * dvsm_balance_lets_move - Whether one who shares a chunk lets balancing move it.
 * @region: the region
 * @chunk: the chunk
 * @node: where to
 *
 * Context: any; does not sleep.
 * Return: whether it does.
 */
bool dvsm_balance_lets_move(struct dvsm_region *region, u64 chunk, int node)
{
	struct dvsm_use use = dvsm_use_unpack(xa_load(&region->uses, chunk));

	return READ_ONCE(region->balance) == DVSM_BALANCE_ON &&
	       !(dvsm_use_stays(&use) && use.moved_to != node) &&
	       dvsm_balance_is_allowed(region, chunk, node);
}

/**
 * dvsm_balance_was_used_from - Whether the last hinting fault of a chunk came from a node.
 * @region: the region
 * @chunk: the chunk
 * @node: the node
 *
 * Context: any; does not sleep.
 * Return: whether it did, as far as is known.
 */
bool dvsm_balance_was_used_from(struct dvsm_region *region, u64 chunk, int node)
{
	struct dvsm_use use = dvsm_use_unpack(xa_load(&region->uses, chunk));

	return use.nr && use.node == node;
}

#ifdef CONFIG_NUMA
/* Not MPOL_F_SHARED: nobody counts references on them. Shown as "default". */
static struct mempolicy dvsm_policy_off = {
	.refcnt = ATOMIC_INIT(1),
	.mode = MPOL_LOCAL,
	.flags = MPOL_F_MORON,
	.home_node = NUMA_NO_NODE,
};

static struct mempolicy dvsm_policy_on = {
	.refcnt = ATOMIC_INIT(1),
	.mode = MPOL_LOCAL,
	.flags = MPOL_F_MOF | MPOL_F_MORON,
	.home_node = NUMA_NO_NODE,
};

/* No node is a wrong one. */
static struct mempolicy dvsm_policy_stay = {
	.refcnt = ATOMIC_INIT(1),
	.mode = MPOL_PREFERRED_MANY,
	.flags = MPOL_F_MOF,
	.nodes = NODE_MASK_ALL,
	.home_node = NUMA_NO_NODE,
};

/* Let follow.c move a chunk to a node that may have it and has used it last. */
static void dvsm_balance_want(struct dvsm_region *region, u64 chunk, unsigned int node)
{
	xa_lock(&region->uses);
	if (dvsm_use_unpack(xa_load(&region->uses, chunk)).node == node)
		__xa_set_mark(&region->uses, chunk, DVSM_USE_WANTED);
	xa_unlock(&region->uses);
	dvsm_follow_want(region);
}

/*
 * Write down that this CPU uses the chunk; whether the core may move it here. @default_policy: nobody but
 * the region says where memory has to be
 */
static bool dvsm_balance_hint(struct dvsm_region *region, u64 chunk, bool default_policy)
{
	unsigned int here = numa_node_id();
	struct dvsm_use use;
	bool stays;

	atomic_long_inc(&region->nr_hints);
	xa_lock(&region->uses);
	use = dvsm_use_unpack(xa_load(&region->uses, chunk));
	if (use.nr && use.node == here)
		use.nr = min_t(unsigned int, use.nr + 1, FIELD_MAX(DVSM_USE_NR));
	else
		use.nr = 1;
	use.node = here;
	dvsm_use_store_locked(region, chunk, &use);
	/* The mark is for the node that was there before. */
	if (use.nr < DVSM_USE_ENOUGH)
		__xa_clear_mark(&region->uses, chunk, DVSM_USE_WANTED);
	xa_unlock(&region->uses);

	if (READ_ONCE(region->balance) != DVSM_BALANCE_ON)
		return false;
	stays = dvsm_use_stays(&use);
	if (stays && use.moved_to != here) {
		atomic_long_inc(&region->nr_held);
		return false;
	}
	if (!dvsm_balance_is_allowed(region, chunk, here))
		return false;
	if (!xa_load(&region->links, chunk))
		return true;
	/* The core cannot unmap what others share, and would try in vain. */
	if (!stays && use.nr >= DVSM_USE_ENOUGH && default_policy &&
	    node_isset(here, cpuset_current_mems_allowed))
		dvsm_balance_want(region, chunk, here);
	return false;
}

/**
 * dvsm_balance_policy - The policy of a mapping of a region, as the core asks for it.
 * @vma: the mapping
 * @addr: where in it
 *
 * A policy of the mapping, by mbind(), or of the task comes first, as it does in the
 * core. Asked by the scanner, by allocations of private copies and by who shows
 * policies; and at a hinting fault, under the page table lock, which is how that one
 * is known. (A kernel that cannot tell counts all of them.)
 *
 * Context: any; does not sleep.
 * Return: a policy that is not to be put.
 */
struct mempolicy *dvsm_balance_policy(struct vm_area_struct *vma, unsigned long addr)
{
	struct dvsm_region *region = dvsm_vma_region(vma);
	struct mempolicy *policy = vma->vm_policy ? vma->vm_policy : current->mempolicy;
	u32 mode = region ? READ_ONCE(region->balance) : DVSM_BALANCE_OFF;
	pgoff_t index;

	if (!policy)
		policy = mode == DVSM_BALANCE_OFF ? &dvsm_policy_off : &dvsm_policy_on;
	if (preemptible() || mode == DVSM_BALANCE_OFF || !(vma->vm_flags & VM_MAYSHARE))
		return policy;
	index = vma->vm_pgoff + ((addr - vma->vm_start) >> PAGE_SHIFT);
	return dvsm_balance_hint(region, dvsm_page_chunk(index), policy == &dvsm_policy_on) ?
	       policy : &dvsm_policy_stay;
}
#endif /* CONFIG_NUMA */

/**
 * dvsm_balance_exit - Wait for who holds one of the policies above.
 *
 * get_mempolicy(2) does so, without the mapping that it asked, while it takes a fault.
 *
 * Context: module exit; no region is left.
 */
void dvsm_balance_exit(void)
{
#ifdef CONFIG_NUMA
	struct mempolicy *const policies[] = {
		&dvsm_policy_off, &dvsm_policy_on, &dvsm_policy_stay,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(policies); i++)
		while (atomic_read(&policies[i]->refcnt) > 1)
			schedule_timeout_uninterruptible(1);
#endif
}

/**
 * dvsm_balance_next_wanted - Take the next chunk that is to follow who uses it.
 * @region: the region
 * @chunk: the first that may be it; receives which it is
 * @node: receives the node that uses it
 *
 * Context: any; does not sleep.
 * Return: whether there is one.
 */
bool dvsm_balance_next_wanted(struct dvsm_region *region, u64 *chunk, int *node)
{
	unsigned long index = *chunk;
	void *entry;

	xa_lock(&region->uses);
	entry = xa_find(&region->uses, &index, ULONG_MAX, DVSM_USE_WANTED);
	if (entry) {
		__xa_clear_mark(&region->uses, index, DVSM_USE_WANTED);
		*chunk = index;
		*node = dvsm_use_unpack(entry).node;
	}
	xa_unlock(&region->uses);
	return entry;
}

/* Where chunks are, and where they are used from. */
struct dvsm_balance_count {
	struct dvsm_region *region;
	struct dvsm_balance_use *uses;	/* nr_node_ids times nr_node_ids */
	u64 next;			/* chunk that has not been counted */
};

static bool dvsm_balance_count_chunk(struct folio *folio, bool shared, void *arg)
{
	struct dvsm_balance_count *count = arg;
	u64 chunk = dvsm_page_chunk(folio->index);
	struct dvsm_balance_use *cell;
	struct dvsm_use use;

	if (chunk < count->next)
		return false;
	count->next = chunk + 1;
	use = dvsm_use_unpack(xa_load(&count->region->uses, chunk));
	if (!use.nr)
		return false;
	cell = &count->uses[folio_nid(folio) * nr_node_ids + use.node];
	cell->out_nr_chunks++;
	if (use.node != folio_nid(folio) && use.nr >= DVSM_USE_ENOUGH)
		cell->out_nr_would_move++;
	return false;
}

static int dvsm_balance_report(struct dvsm_region *region, struct dvsm_region_balance *arg)
{
	unsigned int nr = min(arg->nr_nodes, nr_node_ids), nid;
	struct dvsm_balance_use __user *user = u64_to_user_ptr(arg->uses);
	struct dvsm_balance_count count = { .region = region };
	int ret = 0;

	count.uses = kvcalloc(nr_node_ids * nr_node_ids, sizeof(*count.uses), GFP_KERNEL_ACCOUNT);
	if (!count.uses)
		return -ENOMEM;
	dvsm_content_walk(region, 0, region->nr_pages, dvsm_balance_count_chunk, &count);
	if (dvsm_shall_stop())
		ret = -EINTR;
	for (nid = 0; !ret && nid < nr; nid++)
		if (copy_to_user(user + (size_t)nid * arg->nr_nodes,
				 &count.uses[nid * nr_node_ids], nr * sizeof(*user)))
			ret = -EFAULT;
	kvfree(count.uses);
	return ret;
}

static int dvsm_balance_set(struct dvsm_region *region, u32 mode)
{
	if ((region->flags & DVSM_REGION_F_PINNED) && mode != DVSM_BALANCE_OFF)
		return -EOPNOTSUPP;
	WRITE_ONCE(region->balance, mode);
	xa_destroy(&region->uses);
	atomic_long_set(&region->nr_hints, 0);
	atomic_long_set(&region->nr_held, 0);
	return 0;
}

/**
 * dvsm_region_balance - DVSM_IOC_REGION_BALANCE.
 * @region: the region
 * @arg: the command's argument, its mode checked
 *
 * Context: process.
 * Return: 0; -EOPNOTSUPP, -EFAULT, -ENOMEM, -EINTR.
 */
int dvsm_region_balance(struct dvsm_region *region, struct dvsm_region_balance *arg)
{
	int ret = 0;

	arg->out_nr_hints = atomic_long_read(&region->nr_hints);
	arg->out_nr_held = atomic_long_read(&region->nr_held);
	arg->out_mode = READ_ONCE(region->balance);
	arg->out_nr_nodes = nr_node_ids;
	if (arg->nr_nodes)
		ret = dvsm_balance_report(region, arg);
	if (!ret && arg->mode != DVSM_BALANCE_KEEP)
		ret = dvsm_balance_set(region, arg->mode);
	return ret;
}
