// SPDX-License-Identifier: LGPL-2.1-or-later
/* Handles, and the calls of a region: arguments are checked here, once for all backends. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

struct dvsm_region *dvsm_handle_create(void)
{
	struct dvsm_region *region;

	region = mmap(NULL, sizeof(*region), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (region == MAP_FAILED)
		return NULL;
	region->fd = -1;
	return region;
}

void dvsm_handle_destroy(struct dvsm_region *region)
{
	munmap(region, sizeof(*region));
}

static int dvsm_options_check(const struct dvsm_region_options *options)
{
	return dvsm_struct_check(options, options->size, sizeof(*options), sizeof(*options));
}

/* The set that the caller gave, cut to the nodes that can exist at all. */
static int dvsm_options_nodes(const struct dvsm_region_options *options,
			      struct dvsm_region *region)
{
	uint32_t node;

	if (!options->nr_nodes)
		return 0;
	if (!options->nodes)
		return -EINVAL;
	for (node = 0; node < options->nr_nodes; node++) {
		if (!(options->nodes[node / 64] >> node % 64 & 1))
			continue;
		if (node >= DVSM_NODES_MAX)
			return -EINVAL;
		region->nodes[node / 64] |= 1ULL << node % 64;
		region->nr_nodes = node + 1;
	}
	return region->nr_nodes ? 0 : -EINVAL;
}

static int dvsm_options_apply(const struct dvsm_region_options *options,
			      struct dvsm_region *region)
{
	const uint32_t known = DVSM_REGION_F_HUGE_REQUIRED | DVSM_REGION_F_PINNED |
			       DVSM_REGION_F_REGISTRABLE;
	int error;

	error = dvsm_options_check(options);
	if (error)
		return error;
	if (options->flags & ~known || options->policy > DVSM_POLICY_INTERLEAVE)
		return -EOPNOTSUPP;
	error = dvsm_options_nodes(options, region);
	if (error)
		return error;
	if (options->label) {
		if (strnlen(options->label, DVSM_NAME_MAX) >= DVSM_NAME_MAX)
			return -EINVAL;
		strcpy(region->label, options->label);
	}
	region->backend = options->backend;
	region->flags = options->flags;
	region->policy = options->policy;
	return 0;
}

/* INHERIT and LOCAL take no nodes; BIND needs them. */
static int dvsm_policy_check(const struct dvsm_region *region)
{
	switch (region->policy) {
	case DVSM_POLICY_INHERIT:
	case DVSM_POLICY_LOCAL:
		return region->nr_nodes ? -EINVAL : 0;
	case DVSM_POLICY_BIND:
		return region->nr_nodes ? 0 : -EINVAL;
	default:
		return 0;
	}
}

struct dvsm_region *dvsm_region_create(uint64_t length,
				       const struct dvsm_region_options *options)
{
	struct dvsm_region *region;
	int error = 0;

	region = dvsm_handle_create();
	if (!region)
		return NULL;
	if (options)
		error = dvsm_options_apply(options, region);
	if (!error)
		error = dvsm_policy_check(region);
	if (!error && (!length || length % DVSM_PAGE_SIZE || length > INT64_MAX))
		error = -EINVAL;
	if (!error && (region->flags & DVSM_REGION_F_HUGE_REQUIRED) &&
	    length % DVSM_CHUNK_SIZE)
		error = -EINVAL;
	region->length = length;
	if (!error)
		error = dvsm_backend_create(region);
	if (error) {
		dvsm_handle_destroy(region);
		return dvsm_fail_null(error);
	}
	return region;
}

struct dvsm_region *dvsm_region_open(int fd, const struct dvsm_region_options *options)
{
	uint32_t backend = DVSM_BACKEND_AUTO;
	struct dvsm_region *region;
	int error;

	if (options) {
		error = dvsm_options_check(options);
		if (error)
			return dvsm_fail_null(error);
		if (options->flags || options->policy || options->nr_nodes ||
		    options->nodes || options->label)
			return dvsm_fail_null(EINVAL);
		backend = options->backend;
	}
	region = dvsm_handle_create();
	if (!region)
		return NULL;
	region->fd = fd;
	error = dvsm_backend_open(region, backend);
	if (error) {
		dvsm_handle_destroy(region);
		return dvsm_fail_null(error);
	}
	return region;
}

struct dvsm_region *dvsm_region_reopen(const struct dvsm_region *region, uint32_t flags)
{
	struct dvsm_region *copy;
	int fd;

	if (flags & ~DVSM_REOPEN_F_READ_ONLY)
		return dvsm_fail_null(EOPNOTSUPP);
	copy = dvsm_handle_create();
	if (!copy)
		return NULL;
	fd = region->ops->reopen(region, flags);
	if (fd < 0) {
		dvsm_handle_destroy(copy);
		return dvsm_fail_null(fd);
	}
	*copy = *region;
	copy->fd = fd;
	if (flags & DVSM_REOPEN_F_READ_ONLY)
		copy->flags |= DVSM_REGION_F_READ_ONLY;
	return copy;
}

void dvsm_region_destroy(struct dvsm_region *region)
{
	int error = errno;

	if (!region)
		return;
	close(region->fd);
	dvsm_handle_destroy(region);
	errno = error;
}

int dvsm_region_fd(const struct dvsm_region *region)
{
	return region->fd;
}

uint64_t dvsm_region_length(const struct dvsm_region *region)
{
	return region->length;
}

uint32_t dvsm_region_backend(const struct dvsm_region *region)
{
	return region->backend;
}

size_t dvsm_region_page_size(const struct dvsm_region *region)
{
	return region->page_size;
}

uint64_t dvsm_region_features(const struct dvsm_region *region)
{
	return region->ops->features(region);
}

int dvsm_region_info(const struct dvsm_region *region, struct dvsm_region_info *info)
{
	return dvsm_result(region->ops->info(region, info));
}

int dvsm_region_nodes(const struct dvsm_region *region, struct dvsm_node_stats *nodes,
		      uint32_t nr_nodes)
{
	return dvsm_result(region->ops->nodes(region, nodes, nr_nodes));
}

/* Makes *length a real length; the region's end need not be a page's. */
static int dvsm_range_check(const struct dvsm_region *region, uint64_t offset, uint64_t *length)
{
	if (offset % DVSM_PAGE_SIZE || offset >= region->length || *length % DVSM_PAGE_SIZE)
		return -EINVAL;
	if (!*length)
		*length = region->length - offset;
	return *length > region->length - offset ? -EINVAL : 0;
}

static bool dvsm_region_is_writable(const struct dvsm_region *region)
{
	int flags = fcntl(region->fd, F_GETFL);

	return flags >= 0 && (flags & O_ACCMODE) == O_RDWR;
}

int dvsm_region_populate(const struct dvsm_region *region, uint64_t offset, uint64_t length,
			 uint32_t nr_threads, uint64_t *populated)
{
	uint64_t unwanted;
	int error;

	if (!populated)
		populated = &unwanted;
	*populated = 0;
	error = dvsm_range_check(region, offset, &length);
	if (!error && !dvsm_region_is_writable(region))
		error = -EBADF;
	if (!error)
		error = region->ops->populate(region, offset, length, nr_threads, populated);
	return dvsm_result(error);
}

int dvsm_region_discard(const struct dvsm_region *region, uint64_t offset, uint64_t length,
			uint64_t *discarded)
{
	uint64_t unwanted;
	int error;

	if (!discarded)
		discarded = &unwanted;
	*discarded = 0;
	error = dvsm_range_check(region, offset, &length);
	if (!error && !dvsm_region_is_writable(region))
		error = -EBADF;
	if (!error)
		error = region->ops->discard(region, offset, length, discarded);
	return dvsm_result(error);
}

int dvsm_region_residency(const struct dvsm_region *region, uint64_t offset, uint64_t length,
			  struct dvsm_chunk *chunks, uint32_t nr_chunks, uint64_t *next)
{
	uint64_t unwanted;

	if (!next)
		next = &unwanted;
	if (!chunks || !nr_chunks || offset >= region->length ||
	    length > region->length - offset)
		return dvsm_fail(EINVAL);
	if (!length)
		length = region->length - offset;
	return dvsm_result(region->ops->residency(region,
						  dvsm_align_down(offset, DVSM_CHUNK_SIZE),
						  offset + length, chunks, nr_chunks, next));
}
