// SPDX-License-Identifier: LGPL-2.1-or-later
/* Commands by the caller's io_uring: each fills one SQE. */
#include <string.h>
#include <liburing.h>

#include <dvsm/async.h>

#include "internal.h"

struct io_uring_sqe *dvsm_region_command_async(const struct dvsm_region *region,
					       struct io_uring *ring, uint32_t command,
					       void *argument)
{
	const struct dvsm_uring_cmd cmd = { .arg = (uintptr_t)argument };
	struct io_uring_sqe *sqe;

	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail_null(EOPNOTSUPP);
	sqe = io_uring_get_sqe(ring);
	if (!sqe)
		return dvsm_fail_null(EAGAIN);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = region->fd;
	sqe->cmd_op = command;
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	return sqe;
}

struct io_uring_sqe *dvsm_region_populate_async(const struct dvsm_region *region,
						struct io_uring *ring, union dvsm_async *async,
						uint64_t offset, uint64_t length,
						uint32_t nr_threads)
{
	async->populate = (struct dvsm_region_populate) {
		.size = sizeof(async->populate),
		.offset = offset,
		.length = length,
		.nr_threads = nr_threads,
	};
	return dvsm_region_command_async(region, ring, DVSM_IOC_REGION_POPULATE, async);
}

struct io_uring_sqe *dvsm_region_discard_async(const struct dvsm_region *region,
					       struct io_uring *ring, union dvsm_async *async,
					       uint64_t offset, uint64_t length)
{
	async->discard = (struct dvsm_region_discard) {
		.size = sizeof(async->discard),
		.offset = offset,
		.length = length,
	};
	return dvsm_region_command_async(region, ring, DVSM_IOC_REGION_DISCARD, async);
}

struct io_uring_sqe *dvsm_snapshot_take_async(const struct dvsm_region *region,
					      struct io_uring *ring, union dvsm_async *async,
					      const struct dvsm_snapshot_options *options)
{
	int error = dvsm_snapshot_prepare(region, options, &async->take);

	if (error)
		return dvsm_fail_null(error);
	return dvsm_region_command_async(region, ring, DVSM_IOC_SNAPSHOT_TAKE, async);
}

struct io_uring_sqe *dvsm_region_diff_async(const struct dvsm_region *region,
					    const struct dvsm_region *other,
					    struct io_uring *ring, union dvsm_async *async,
					    uint64_t offset, uint64_t length,
					    struct dvsm_range *ranges, uint32_t nr_ranges)
{
	async->diff = (struct dvsm_region_diff) {
		.size = sizeof(async->diff),
		.offset = offset,
		.length = length,
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr_ranges,
		.other = other->fd,
	};
	return dvsm_region_command_async(region, ring, DVSM_IOC_REGION_DIFF, async);
}

struct io_uring_sqe *dvsm_region_migrate_async(const struct dvsm_region *region,
					       struct io_uring *ring, union dvsm_async *async,
					       const struct dvsm_region_migrate *migrate)
{
	const size_t known = sizeof(async->migrate);
	size_t size = migrate->size;
	int error = dvsm_struct_check(migrate, size, DVSM_MIGRATE_SIZE_FIRST, known);

	if (error)
		return dvsm_fail_null(error);
	/* An older caller's storage ends where his struct does. */
	if (size > known)
		size = known;
	memcpy(&async->migrate, migrate, size);
	async->migrate.size = (uint32_t)size;
	return dvsm_region_command_async(region, ring, DVSM_IOC_REGION_MIGRATE, async);
}
