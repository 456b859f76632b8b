/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where memory comes from, by range and at any time; where it is; what it is made of. */
#ifndef DVSM_PLACE_H
#define DVSM_PLACE_H

#include <dvsm/region.h>

#ifdef __cplusplus
extern "C" {
#endif

struct bitmask;		/* of libnuma, which is not needed here */

/**
 * dvsm_region_place - give a range a node policy, or ask which it has.
 * @region: handle, of a descriptor opened for writing but for a query
 * @place: what <linux/dvsm.h> says at struct dvsm_region_place; size, flags and inputs
 *   set by the caller, the outputs written on success
 *
 * WEIGHTED_INTERLEAVE without weights takes those that the kernel has in
 * /sys/kernel/mm/mempolicy/weighted_interleave (Linux 6.9 and later), of all nodes with
 * memory where there is no set; else 1 each.
 * On MEMFD_THP and MEMFD_4K ranges keep the policy for all processes, as on the device;
 * -EOPNOTSUPP there for WEIGHTED_INTERLEAVE and for a query, and on MEMFD_HUGETLB for
 * everything.
 *
 * Return: 0; -EINVAL, -EBADF, -EFAULT, -ENOMEM, -EOPNOTSUPP, -E2BIG.
 */
DVSM_API int dvsm_region_place(const struct dvsm_region *region,
			       struct dvsm_region_place *place);

/**
 * dvsm_region_place_node - give a range a policy with one node.
 * @region: handle
 * @offset: start of the range, a multiple of 2 MiB
 * @length: of the range, a multiple of 2 MiB; 0 means to the region's end
 * @policy: DVSM_POLICY_BIND or _PREFERRED
 * @node: the node
 *
 * Return: as dvsm_region_place().
 */
DVSM_API int dvsm_region_place_node(const struct dvsm_region *region, uint64_t offset,
				    uint64_t length, uint32_t policy, unsigned int node);

/**
 * dvsm_region_place_bitmask - give a range a policy with a node set of libnuma.
 * @region: handle
 * @offset: start of the range, a multiple of 2 MiB
 * @length: of the range, a multiple of 2 MiB; 0 means to the region's end
 * @policy: DVSM_POLICY_
 * @nodes: as numa_allocate_nodemask() or numa_parse_nodestring() makes them; NULL for
 *   no set
 *
 * Return: as dvsm_region_place().
 */
DVSM_API int dvsm_region_place_bitmask(const struct dvsm_region *region, uint64_t offset,
				       uint64_t length, uint32_t policy,
				       const struct bitmask *nodes);

/**
 * dvsm_region_promote - make chunks of small folios huge.
 * @region: handle, of a descriptor opened for writing
 * @promote: what <linux/dvsm.h> says at struct dvsm_region_promote; size, flags and range
 *   set by the caller, the counts written, after -EINTR too
 *
 * Mappings that had small pages get 2 MiB entries by dvsm_region_remap(), new ones by
 * themselves.
 *
 * Return: 0; -EINVAL, -EBADF, -EBUSY (a pinned region), -ENOMEM, -EINTR, -EOPNOTSUPP (memfd).
 */
DVSM_API int dvsm_region_promote(const struct dvsm_region *region,
				 struct dvsm_region_promote *promote);

/**
 * dvsm_region_split - give back what huge chunks that are barely used do not use.
 * @region: handle, of a descriptor opened for writing
 * @split: what <linux/dvsm.h> says at struct dvsm_region_split; as above
 *
 * Return: as dvsm_region_promote(); -EOPNOTSUPP also for a region with HUGE_REQUIRED.
 */
DVSM_API int dvsm_region_split(const struct dvsm_region *region, struct dvsm_region_split *split);

/**
 * dvsm_node_of - the node that the page at an address is on.
 * @pointer: into any mapping of this process
 *
 * Asks the kernel, as move_pages(2) does: nothing is touched, nothing moves.
 *
 * Return: the node; -ENOENT where nothing is mapped in by this process yet, -EFAULT
 * where there is no mapping or only the zero page, -EOPNOTSUPP on a kernel without NUMA.
 */
DVSM_API int dvsm_node_of(const void *pointer);

#ifdef __cplusplus
}
#endif

#endif /* DVSM_PLACE_H */
