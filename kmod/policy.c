// SPDX-License-Identifier: GPL-2.0-only
/*
 * Node policies: which node a folio is allocated on.
 *
 * The kernel's mempolicy functions are not exported, so the modes are done here
 * over the page allocator, with the allocator's own rules for cpusets and
 * zonelists. What belongs to one process (its task policy, its mbind of a
 * mapping) is left to vma_alloc_folio() and folio_alloc().
 *
 * A policy never changes, so regions and ranges share it. place.c says which of
 * them has which.
 */
#include <linux/cpuset.h>
#include <linux/gfp.h>
#include <linux/slab.h>
#include <linux/topology.h>
#include <linux/uaccess.h>

#include "dvsm.h"

#define DVSM_POLICY_BITS_MAX	(PAGE_SIZE * BITS_PER_BYTE)	/* of a set from the user */

static bool dvsm_policy_takes_nodes(u32 mode)
{
	return mode != DVSM_POLICY_INHERIT && mode != DVSM_POLICY_LOCAL;
}

/*
 * The nodes of a set that have memory. As mbind() answers: others are left out, and
 * what is left must have one that the caller's cpuset allows. Unlike there the cpuset
 * leaves nothing out, because it is the caller's only; it is applied at allocation.
 */
static int dvsm_policy_trim(nodemask_t *trimmed, const nodemask_t *nodes)
{
	nodes_and(*trimmed, *nodes, node_states[N_MEMORY]);
	return nodes_intersects(*trimmed, cpuset_current_mems_allowed) ? 0 : -EINVAL;
}

static int dvsm_policy_check(u32 mode, const nodemask_t *nodes, const u8 *weights)
{
	if (mode > DVSM_POLICY_WEIGHTED_INTERLEAVE)
		return -EOPNOTSUPP;
	if (!dvsm_policy_takes_nodes(mode) && !nodes_empty(*nodes))
		return -EINVAL;
	if (mode == DVSM_POLICY_BIND && nodes_empty(*nodes))
		return -EINVAL;
	if (weights && (mode != DVSM_POLICY_WEIGHTED_INTERLEAVE || nodes_empty(*nodes)))
		return -EINVAL;
	return 0;
}

/* Take over the set and the weights, from outside. */
static int dvsm_policy_fill(struct dvsm_policy *policy, const nodemask_t *nodes,
			    const u8 *weights)
{
	int nid, ret;

	if (nodes_empty(*nodes))
		return 0;
	ret = dvsm_policy_trim(&policy->nodes, nodes);
	if (ret || !weights)
		return ret;
	for_each_node_mask(nid, policy->nodes)
		if (!weights[nid])
			return -EINVAL;
	memcpy(policy->weights, weights, nr_node_ids);
	policy->is_weighted = true;
	return 0;
}

/**
 * dvsm_policy_create - Make a policy.
 * @mode: DVSM_POLICY_
 * @nodes: the node set; an empty one means all where the mode allows that
 * @weights: of the nodes of the set, by node number; NULL: 1 each
 *
 * Context: process; looks at the caller's cpuset.
 * Return: the policy with one reference; -EOPNOTSUPP for an unknown mode; -EINVAL
 * for nodes or weights where none belong, none where some must be, or a set
 * without a node that has memory and is allowed; -ENOMEM.
 */
struct dvsm_policy *dvsm_policy_create(u32 mode, const nodemask_t *nodes, const u8 *weights)
{
	struct dvsm_policy *policy;
	int ret;

	ret = dvsm_policy_check(mode, nodes, weights);
	if (ret)
		return ERR_PTR(ret);
	policy = kzalloc(struct_size(policy, weights, weights ? nr_node_ids : 0),
			 GFP_KERNEL_ACCOUNT);
	if (!policy)
		return ERR_PTR(-ENOMEM);
	refcount_set(&policy->refs, 1);
	policy->mode = mode;
	ret = dvsm_policy_fill(policy, nodes, weights);
	if (!ret)
		return policy;
	kfree(policy);
	return ERR_PTR(ret);
}

/**
 * dvsm_nodes_from_user - Read a node set.
 * @nodes: gets it
 * @user: pointer to words of 64 bits, or 0 for no set
 * @nr_bits: bits that count
 *
 * Context: process.
 * Return: 0; -EINVAL, -EFAULT.
 */
int dvsm_nodes_from_user(nodemask_t *nodes, u64 user, u32 nr_bits)
{
	u64 __user *words = u64_to_user_ptr(user);
	u32 i;

	nodes_clear(*nodes);
	if (!nr_bits)
		return user ? -EINVAL : 0;
	if (nr_bits > DVSM_POLICY_BITS_MAX)
		return -EINVAL;
	for (i = 0; i < nr_bits; i += 64) {
		unsigned long word;
		u64 raw;
		u32 bit;

		if (get_user(raw, words + i / 64))
			return -EFAULT;
		if (nr_bits - i < 64)
			raw &= GENMASK_ULL(nr_bits - i - 1, 0);
		word = raw;
		for_each_set_bit(bit, &word, 64) {
			if (i + bit >= MAX_NUMNODES)
				return -EINVAL;
			node_set(i + bit, *nodes);
		}
	}
	return 0;
}

/* Weights from the user, for the nodes of a set that can exist; 0 for others. */
static int dvsm_weights_from_user(u8 *weights, const nodemask_t *nodes, u64 user)
{
	u8 __user *bytes = u64_to_user_ptr(user);
	int nid;

	for_each_node_mask(nid, *nodes)
		if (nid < nr_node_ids && get_user(weights[nid], bytes + nid))
			return -EFAULT;
	return 0;
}

/**
 * dvsm_policy_from_user - Make a policy that the user describes.
 * @mode: DVSM_POLICY_
 * @user_nodes: user pointer to the node set, or 0
 * @nr_nodes: bits in the set
 * @user_weights: user pointer to an array of weights by node number, or 0
 *
 * Context: process.
 * Return: the policy with one reference; as dvsm_policy_create(); -EFAULT.
 */
struct dvsm_policy *dvsm_policy_from_user(u32 mode, u64 user_nodes, u32 nr_nodes,
					  u64 user_weights)
{
	struct dvsm_policy *policy;
	u8 *weights = NULL;
	nodemask_t nodes;
	int ret;

	ret = dvsm_nodes_from_user(&nodes, user_nodes, nr_nodes);
	if (ret)
		return ERR_PTR(ret);
	if (user_weights) {
		weights = kzalloc(nr_node_ids, GFP_KERNEL_ACCOUNT);
		if (!weights)
			return ERR_PTR(-ENOMEM);
		ret = dvsm_weights_from_user(weights, &nodes, user_weights);
	}
	policy = ret ? ERR_PTR(ret) : dvsm_policy_create(mode, &nodes, weights);
	kfree(weights);
	return policy;
}

/**
 * dvsm_policy_get - One more reference on a policy.
 * @policy: the policy
 *
 * Context: any.
 * Return: @policy.
 */
struct dvsm_policy *dvsm_policy_get(struct dvsm_policy *policy)
{
	refcount_inc(&policy->refs);
	return policy;
}

/**
 * dvsm_policy_put - One reference on a policy less.
 * @policy: the policy, or NULL
 *
 * Context: any.
 */
void dvsm_policy_put(struct dvsm_policy *policy)
{
	if (policy && refcount_dec_and_test(&policy->refs))
		kfree(policy);
}

static const nodemask_t *dvsm_policy_nodes(const struct dvsm_policy *policy)
{
	return nodes_empty(policy->nodes) ? &node_states[N_MEMORY] : &policy->nodes;
}

static unsigned int dvsm_policy_weight(const struct dvsm_policy *policy, int nid)
{
	return policy->is_weighted ? policy->weights[nid] : 1;
}

/**
 * dvsm_policy_to_user - Describe a policy to the user.
 * @policy: the policy
 * @user_nodes: user pointer to room for the node set, or 0
 * @nr_nodes: bits in the set, and elements of the array
 * @user_weights: user pointer to room for an array of weights, or 0
 *
 * Context: process.
 * Return: 0; -EINVAL for too wide a set; -EFAULT.
 */
int dvsm_policy_to_user(const struct dvsm_policy *policy, u64 user_nodes, u32 nr_nodes,
			u64 user_weights)
{
	u64 __user *words = u64_to_user_ptr(user_nodes);
	u8 __user *bytes = u64_to_user_ptr(user_weights);
	u32 nid, bit;

	if (nr_nodes > DVSM_POLICY_BITS_MAX)
		return -EINVAL;
	for (nid = 0; nid < nr_nodes && words; nid += 64) {
		u64 word = 0;

		for (bit = 0; bit < min(64U, nr_nodes - nid); bit++)
			if (nid + bit < nr_node_ids && node_isset(nid + bit, policy->nodes))
				word |= BIT_ULL(bit);
		if (put_user(word, words + nid / 64))
			return -EFAULT;
	}
	for (nid = 0; nid < nr_nodes && bytes; nid++) {
		u8 weight = 0;

		if (nid < nr_node_ids && node_isset(nid, policy->nodes))
			weight = dvsm_policy_weight(policy, nid);
		if (put_user(weight, bytes + nid))
			return -EFAULT;
	}
	return 0;
}

static int dvsm_policy_nearest(const nodemask_t *nodes, int here)
{
	int best = NUMA_NO_NODE, nid;

	if (node_isset(here, *nodes))
		return here;
	for_each_node_mask(nid, *nodes)
		if (best == NUMA_NO_NODE || node_distance(here, nid) < node_distance(here, best))
			best = nid;
	return best;
}

static int dvsm_policy_interleave(const struct dvsm_policy *policy, u64 chunk)
{
	const nodemask_t *nodes = dvsm_policy_nodes(policy);
	unsigned int sum = 0, n;
	int nid;

	for_each_node_mask(nid, *nodes)
		sum += dvsm_policy_weight(policy, nid);
	n = chunk % sum;
	for_each_node_mask(nid, *nodes) {
		if (n < dvsm_policy_weight(policy, nid))
			break;
		n -= dvsm_policy_weight(policy, nid);
	}
	return nid;
}

static int dvsm_policy_home_of(const struct dvsm_policy *policy, pgoff_t index, int here)
{
	switch (policy->mode) {
	case DVSM_POLICY_BIND:
	case DVSM_POLICY_PREFERRED:
		return dvsm_policy_nearest(dvsm_policy_nodes(policy), here);
	case DVSM_POLICY_INTERLEAVE:
	case DVSM_POLICY_WEIGHTED_INTERLEAVE:
		return dvsm_policy_interleave(policy, dvsm_page_chunk(index));
	default:
		return dvsm_policy_nearest(&node_states[N_MEMORY], here);
	}
}

/**
 * dvsm_policy_home - The node that a chunk should come from.
 * @region: the region
 * @index: a page of the chunk
 * @here: the node of whoever asks
 *
 * Context: the family is locked.
 * Return: a node with memory. For INHERIT it is @here's, though a task policy
 * may choose another.
 */
int dvsm_policy_home(struct dvsm_region *region, pgoff_t index, int here)
{
	return dvsm_policy_home_of(dvsm_place_policy(region, dvsm_page_chunk(index)), index, here);
}

/* A huge folio of the wanted node first; then whatever the policy allows. */
static struct folio *dvsm_policy_alloc_near(int nid, nodemask_t *nodes, unsigned int order,
					    gfp_t gfp)
{
	struct folio *folio;

	if (order == DVSM_CHUNK_ORDER) {
		folio = __folio_alloc(gfp | __GFP_THISNODE | __GFP_NORETRY, order, nid, nodes);
		if (folio)
			return folio;
	}
	return __folio_alloc(gfp, order, nid, nodes);
}

static bool dvsm_policy_is_inherited(const struct dvsm_policy *policy,
				     const struct dvsm_placing *placing)
{
#ifdef CONFIG_NUMA
	/* The policy that mbind() gave this mapping is the more specific wish. */
	if (placing->vma && placing->vma->vm_policy)
		return true;
#endif
	return policy->mode == DVSM_POLICY_INHERIT;
}

/**
 * dvsm_policy_alloc - Allocate a folio where the policy says.
 * @region: the region
 * @placing: on whose behalf
 * @index: its place in the region
 * @order: its size
 * @gfp: flags for the page allocator
 * @wanted: gets the node that was wanted, NUMA_NO_NODE where a task's policy
 *	decided
 *
 * Context: may sleep as @gfp allows; the family is locked, and for a hidden region the
 * chunk's mutex is held.
 * Return: the folio, or NULL.
 */
struct folio *dvsm_policy_alloc(struct dvsm_region *region, const struct dvsm_placing *placing,
				pgoff_t index, unsigned int order, gfp_t gfp, int *wanted)
{
	const struct dvsm_policy *policy = dvsm_place_policy(region, dvsm_page_chunk(index));
	bool huge = order == DVSM_CHUNK_ORDER;
	nodemask_t nodes;

	if (placing->here == NUMA_NO_NODE && dvsm_policy_is_inherited(policy, placing)) {
		*wanted = NUMA_NO_NODE;
		if (placing->vma)
			return vma_alloc_folio(gfp, order, placing->vma, placing->addr, huge);
		return folio_alloc(gfp, order);
	}

	*wanted = dvsm_policy_home_of(policy, index,
				      placing->here == NUMA_NO_NODE ? numa_node_id() : placing->here);
	if (policy->mode == DVSM_POLICY_BIND) {
		const nodemask_t *allowed = placing->allowed ? : &cpuset_current_mems_allowed;

		/* As with MPOL_BIND: where the two leave nothing the cpuset decides. */
		nodes_and(nodes, policy->nodes, *allowed);
		if (nodes_empty(nodes))
			nodes = *allowed;
		return __folio_alloc(gfp, order, *wanted, &nodes);
	}
	if (policy->mode == DVSM_POLICY_PREFERRED && nodes_weight(policy->nodes) > 1) {
		struct folio *folio;

		/* A populate's helper is in no cpuset of the caller's. */
		nodes_and(nodes, policy->nodes, *(placing->allowed ? : &node_states[N_MEMORY]));
		folio = nodes_empty(nodes) ? NULL :
			__folio_alloc(gfp & ~__GFP_DIRECT_RECLAIM, order, *wanted, &nodes);
		if (folio)
			return folio;
	}
	return dvsm_policy_alloc_near(*wanted, placing->allowed, order, gfp);
}
