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

int dvsm_options_check(const struct dvsm_region_options *options)
{
	return dvsm_struct_check(options, options->size, DVSM_OPTIONS_SIZE_FIRST,
				 sizeof(*options));
}

/* NULL of a caller who knows none. */
const uint8_t *dvsm_options_weights(const struct dvsm_region_options *options)
{
	return options->size >= sizeof(*options) ? options->weights : NULL;
}

/* The set that the caller gave, cut to the nodes that can exist at all. */
int dvsm_policy_nodes(struct dvsm_region *region, const uint64_t *nodes, uint32_t nr_nodes)
{
	uint32_t node;

	if (!nr_nodes)
		return 0;
	if (!nodes)
		return -EINVAL;
	for (node = 0; node < nr_nodes; node++) {
		if (!(nodes[node / 64] >> node % 64 & 1))
			continue;
		if (node >= DVSM_NODES_MAX)
			return -EINVAL;
		region->nodes[node / 64] |= 1ULL << node % 64;
		region->nr_nodes = node + 1;
	}
	return region->nr_nodes ? 0 : -EINVAL;
}

/* The kernel's weights, if it has any; without a set for all nodes with memory. */
void dvsm_policy_weigh(struct dvsm_region *region)
{
	uint64_t nodes[DVSM_NODES_WORDS];
	uint32_t nr_nodes = region->nr_nodes;

	if (nr_nodes)
		memcpy(nodes, region->nodes, sizeof(nodes));
	else
		nr_nodes = (uint32_t)dvsm_system_nodes("has_memory", nodes);
	if (!dvsm_system_weights(nodes, region->weights))
		return;
	memcpy(region->nodes, nodes, sizeof(nodes));
	region->nr_nodes = nr_nodes;
	region->is_weighted = true;
}

static int dvsm_policy_weights(struct dvsm_region *region, const uint8_t *weights)
{
	if (!weights)
		return 0;
	if (region->policy != DVSM_POLICY_WEIGHTED_INTERLEAVE || !region->nr_nodes)
		return -EINVAL;
	memcpy(region->weights, weights, region->nr_nodes);
	region->is_weighted = true;
	return 0;
}

/* As the device takes it, on all backends. */
bool dvsm_label_is_valid(const char *label)
{
	size_t i;

	for (i = 0; label[i]; i++)
		if (i == DVSM_NAME_MAX - 1 || label[i] <= ' ' || label[i] > '~')
			return false;
	return true;
}

static int dvsm_options_apply(const struct dvsm_region_options *options,
			      struct dvsm_region *region)
{
	const uint32_t known = DVSM_REGION_F_HUGE_REQUIRED | DVSM_REGION_F_PINNED |
			       DVSM_REGION_F_REGISTRABLE | DVSM_REGION_F_FORK_COPY;
	int error;

	error = dvsm_options_check(options);
	if (error)
		return error;
	if (options->flags & ~known || options->policy > DVSM_POLICY_WEIGHTED_INTERLEAVE)
		return -EOPNOTSUPP;
	error = dvsm_policy_nodes(region, options->nodes, options->nr_nodes);
	if (error)
		return error;
	if (options->label) {
		if (!dvsm_label_is_valid(options->label))
			return -EINVAL;
		strcpy(region->label, options->label);
	}
	region->backend = options->backend;
	region->flags = options->flags;
	region->policy = options->policy;
	return dvsm_policy_weights(region, dvsm_options_weights(options));
}

/* INHERIT and LOCAL take no nodes; BIND needs them. */
int dvsm_policy_check(const struct dvsm_region *region)
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
		    options->nodes || options->label || dvsm_options_weights(options))
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

struct dvsm_region *dvsm_region_wrap(int fd, uint32_t backend)
{
	struct dvsm_region_options options = { .size = sizeof(options), .backend = backend };
	struct dvsm_region *region;
	int error;

	if (fd < 0)
		return dvsm_fail_null(fd);
	region = dvsm_region_open(fd, &options);
	if (!region) {
		error = errno;
		close(fd);
		errno = error;
	}
	return region;
}

struct dvsm_region *dvsm_region_find(const void *address, uint64_t *offset)
{
	struct dvsm_region_find argument = {
		.size = sizeof(argument), .address = (uintptr_t)address,
	};
	int fd = dvsm_device_ioctl(DVSM_IOC_REGION_FIND, &argument);
	struct dvsm_region *region = dvsm_region_wrap(fd, DVSM_BACKEND_AUTO);

	if (region && offset)
		*offset = argument.out_offset;
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
int dvsm_range_check(const struct dvsm_region *region, uint64_t offset, uint64_t *length)
{
	if (offset % DVSM_PAGE_SIZE || offset >= region->length || *length % DVSM_PAGE_SIZE)
		return -EINVAL;
	if (!*length)
		*length = region->length - offset;
	return *length > region->length - offset ? -EINVAL : 0;
}

bool dvsm_region_is_writable(const struct dvsm_region *region)
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
