// SPDX-License-Identifier: LGPL-2.1-or-later
/* Where memory comes from, where it is, and what it is made of. */
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <dvsm/place.h>

#include "internal.h"

/* As libnuma's <numa.h> has it since version 2. */
struct bitmask {
	unsigned long size;	/* bits */
	unsigned long *maskp;
};

/* The kernel's weights, where some are wanted and none are given. */
static int dvsm_place_weigh(struct dvsm_region_place *place, struct dvsm_region *like)
{
	int error;

	if (place->policy != DVSM_POLICY_WEIGHTED_INTERLEAVE || place->weights ||
	    place->flags & DVSM_PLACE_F_QUERY || !place->nodes != !place->nr_nodes)
		return 0;
	error = dvsm_policy_nodes(like, (const uint64_t *)(uintptr_t)place->nodes, place->nr_nodes);
	if (error)
		return error;
	dvsm_policy_weigh(like);
	if (!like->is_weighted)
		return 0;
	place->nodes = (uintptr_t)like->nodes;
	place->nr_nodes = like->nr_nodes;
	place->weights = (uintptr_t)like->weights;
	return 0;
}

static int dvsm_device_place(const struct dvsm_region *region, struct dvsm_region_place *place)
{
	const struct dvsm_region_place given = *place;
	struct dvsm_region like = { 0 };
	int error = dvsm_place_weigh(place, &like);

	if (!error)
		error = dvsm_ioctl(region->fd, DVSM_IOC_REGION_PLACE, place);
	place->nodes = given.nodes;
	place->nr_nodes = given.nr_nodes;
	place->weights = given.weights;
	return error;
}

/*
 * mbind() on a mapping of the range: shared memory keeps it in the inode. hugetlbfs
 * does not, and nothing tells how far a policy reaches.
 */
static int dvsm_memfd_place(const struct dvsm_region *region, struct dvsm_region_place *place)
{
	struct dvsm_region like = {
		.fd = region->fd,
		.backend = region->backend,
		.page_size = DVSM_PAGE_SIZE,
		.policy = place->policy,
	};
	uint64_t length = place->length;
	void *address;
	int error;

	if (place->flags || place->policy > DVSM_POLICY_INTERLEAVE ||
	    region->backend == DVSM_BACKEND_MEMFD_HUGETLB)
		return -EOPNOTSUPP;
	if (region->flags & DVSM_REGION_F_READ_ONLY)
		return -EBADF;
	if (place->offset % DVSM_CHUNK_SIZE || place->offset >= region->length || place->weights)
		return -EINVAL;
	if (!length)
		length = region->length - place->offset;
	if (length > region->length - place->offset ||
	    (length % DVSM_CHUNK_SIZE && place->offset + length != region->length))
		return -EINVAL;
	error = dvsm_policy_nodes(&like, (const uint64_t *)(uintptr_t)place->nodes, place->nr_nodes);
	if (!error)
		error = dvsm_policy_check(&like);
	if (error)
		return error;
	address = dvsm_memfd_window(region, place->offset, length);
	if (!address)
		return -errno;
	if (place->policy != DVSM_POLICY_INHERIT)
		error = dvsm_memfd_policy_apply(&like, address, length);
	else if (syscall(SYS_mbind, address, dvsm_align_up(length, DVSM_PAGE_SIZE), MPOL_DEFAULT,
			 NULL, 0UL, 0U))
		error = -errno;
	munmap(address, length);
	if (error)
		return error;
	place->out_policy = place->policy;
	place->out_nr_nodes = like.nr_nodes;
	place->out_offset = place->offset;
	place->out_length = length;
	return 0;
}

int dvsm_region_place(const struct dvsm_region *region, struct dvsm_region_place *place)
{
	int error = dvsm_struct_check(place, place->size, sizeof(*place), sizeof(*place));

	if (error)
		return dvsm_fail(error);
	if (region->backend == DVSM_BACKEND_DEVICE)
		return dvsm_result(dvsm_device_place(region, place));
	return dvsm_result(dvsm_memfd_place(region, place));
}

int dvsm_region_place_node(const struct dvsm_region *region, uint64_t offset, uint64_t length,
			   uint32_t policy, unsigned int node)
{
	uint64_t nodes[DVSM_NODES_WORDS] = { 0 };
	struct dvsm_region_place place = {
		.size = sizeof(place),
		.offset = offset,
		.length = length,
		.policy = policy,
		.nr_nodes = DVSM_NODES_MAX,
		.nodes = (uintptr_t)nodes,
	};

	if (node >= DVSM_NODES_MAX)
		return dvsm_fail(EINVAL);
	nodes[node / 64] = 1ULL << node % 64;
	return dvsm_region_place(region, &place);
}

int dvsm_region_place_bitmask(const struct dvsm_region *region, uint64_t offset,
			      uint64_t length, uint32_t policy, const struct bitmask *nodes)
{
	struct dvsm_region_place place = {
		.size = sizeof(place),
		.offset = offset,
		.length = length,
		.policy = policy,
		.nr_nodes = nodes ? (uint32_t)nodes->size : 0,
		.nodes = nodes ? (uintptr_t)nodes->maskp : 0,
	};

	return dvsm_region_place(region, &place);
}

int dvsm_region_promote(const struct dvsm_region *region, struct dvsm_region_promote *promote)
{
	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail(EOPNOTSUPP);
	return dvsm_result(dvsm_ioctl(region->fd, DVSM_IOC_REGION_PROMOTE, promote));
}

int dvsm_region_split(const struct dvsm_region *region, struct dvsm_region_split *split)
{
	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail(EOPNOTSUPP);
	return dvsm_result(dvsm_ioctl(region->fd, DVSM_IOC_REGION_SPLIT, split));
}

int dvsm_node_of(const void *pointer)
{
	void *page = (void *)((uintptr_t)pointer & ~(DVSM_PAGE_SIZE - 1));
	int node = -ENOENT;

	if (syscall(SYS_move_pages, 0, 1UL, &page, NULL, &node, 0) < 0)
		return dvsm_fail(errno == ENOSYS || errno == EPERM ? EOPNOTSUPP : errno);
	return dvsm_result(node);
}
