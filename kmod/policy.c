// SPDX-License-Identifier: GPL-2.0-only
/*
 * Node policies: which node a folio is allocated on.
 *
 * The kernel's mempolicy functions are not exported, so the modes are done here
 * over the page allocator, with the allocator's own rules for cpusets and
 * zonelists. What belongs to one process (its task policy, its mbind of a
 * mapping) is left to vma_alloc_folio() and folio_alloc().
 */
#include <linux/cpuset.h>
#include <linux/gfp.h>
#include <linux/topology.h>

#include "dvsm.h"

static bool dvsm_policy_takes_nodes(u32 mode)
{
	return mode == DVSM_POLICY_BIND || mode == DVSM_POLICY_PREFERRED ||
	       mode == DVSM_POLICY_INTERLEAVE;
}

/**
 * dvsm_policy_check - Whether a policy can be had by the caller.
 * @policy: the policy; without nodes PREFERRED and INTERLEAVE mean all
 *
 * Context: process; looks at the caller's cpuset.
 * Return: 0; -EOPNOTSUPP for an unknown mode; -EINVAL for nodes where none
 * belong, none where some must be, a node without memory, or a strict set that
 * the caller's cpuset rules out.
 */
int dvsm_policy_check(const struct dvsm_policy *policy)
{
	if (policy->mode > DVSM_POLICY_INTERLEAVE)
		return -EOPNOTSUPP;
	if (!dvsm_policy_takes_nodes(policy->mode))
		return nodes_empty(policy->nodes) ? 0 : -EINVAL;
	if (!nodes_subset(policy->nodes, node_states[N_MEMORY]))
		return -EINVAL;
	if (policy->mode == DVSM_POLICY_BIND &&
	    !nodes_intersects(policy->nodes, cpuset_current_mems_allowed))
		return -EINVAL;
	return 0;
}

static const nodemask_t *dvsm_policy_nodes(const struct dvsm_policy *policy)
{
	return nodes_empty(policy->nodes) ? &node_states[N_MEMORY] : &policy->nodes;
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

static int dvsm_policy_interleave(const nodemask_t *nodes, u64 chunk)
{
	unsigned int n = chunk % nodes_weight(*nodes);
	int nid = first_node(*nodes);

	while (n--)
		nid = next_node(nid, *nodes);
	return nid;
}

/**
 * dvsm_policy_home - The node that a chunk should come from.
 * @region: the region
 * @index: a page of the chunk
 * @here: the node of whoever asks
 *
 * Context: any.
 * Return: a node with memory. For INHERIT it is @here's, though a task policy
 * may choose another.
 */
int dvsm_policy_home(const struct dvsm_region *region, pgoff_t index, int here)
{
	const struct dvsm_policy *policy = &region->policy;

	switch (policy->mode) {
	case DVSM_POLICY_BIND:
	case DVSM_POLICY_PREFERRED:
		return dvsm_policy_nearest(dvsm_policy_nodes(policy), here);
	case DVSM_POLICY_INTERLEAVE:
		return dvsm_policy_interleave(dvsm_policy_nodes(policy), dvsm_page_chunk(index));
	default:
		return dvsm_policy_nearest(&node_states[N_MEMORY], here);
	}
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

static bool dvsm_policy_is_inherited(const struct dvsm_region *region,
				     const struct dvsm_placing *placing)
{
#ifdef CONFIG_NUMA
	/* The policy that mbind() gave this mapping is the more specific wish. */
	if (placing->vma && placing->vma->vm_policy)
		return true;
#endif
	return region->policy.mode == DVSM_POLICY_INHERIT;
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
 * Context: may sleep as @gfp allows.
 * Return: the folio, or NULL.
 */
struct folio *dvsm_policy_alloc(struct dvsm_region *region, const struct dvsm_placing *placing,
				pgoff_t index, unsigned int order, gfp_t gfp, int *wanted)
{
	bool huge = order == DVSM_CHUNK_ORDER;
	nodemask_t nodes;

	if (placing->here == NUMA_NO_NODE && dvsm_policy_is_inherited(region, placing)) {
		*wanted = NUMA_NO_NODE;
		if (placing->vma)
			return vma_alloc_folio(gfp, order, placing->vma, placing->addr, huge);
		return folio_alloc(gfp, order);
	}

	*wanted = dvsm_policy_home(region, index,
				   placing->here == NUMA_NO_NODE ? numa_node_id() : placing->here);
	if (region->policy.mode == DVSM_POLICY_BIND) {
		nodes = region->policy.nodes;
		if (placing->allowed)
			nodes_and(nodes, nodes, *placing->allowed);
		return __folio_alloc(gfp, order, *wanted, &nodes);
	}
	if (region->policy.mode == DVSM_POLICY_PREFERRED &&
	    nodes_weight(region->policy.nodes) > 1) {
		struct folio *folio;

		nodes = region->policy.nodes;
		folio = __folio_alloc(gfp & ~__GFP_DIRECT_RECLAIM, order, *wanted, &nodes);
		if (folio)
			return folio;
	}
	return dvsm_policy_alloc_near(*wanted, placing->allowed, order, gfp);
}
