/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Commands that an event loop does not wait for: by the caller's io_uring.
 *
 * A call takes an SQE of the ring and fills it; the caller sets its user_data, and
 * flags if he wants links, and submits. The result is in the CQE: what the call
 * without _async returns, or the negative error. A worker of the ring does the work.
 *
 * The storage, and arrays that were handed over, belong to the kernel until the CQE
 * has come; then the storage holds the outputs. The region's handle is not needed
 * meanwhile. io_uring_prep_cancel64() by the user_data cancels: the command then
 * ends with -ECANCELED, between two chunks if it runs already, and what it has done
 * is done. So does closing the ring.
 *
 * On Linux 6.12 a command that waits in a link, or for a drain, needs IOSQE_ASYNC.
 *
 * The DEVICE backend alone (DVSM_FEATURE_URING_CMD): NULL with EOPNOTSUPP on the
 * others. Rings with IORING_SETUP_IOPOLL refuse commands in the CQE.
 */
#ifndef DVSM_ASYNC_H
#define DVSM_ASYNC_H

#include <dvsm/snapshot.h>

#ifdef __cplusplus
extern "C" {
#endif

struct io_uring;	/* liburing's */
struct io_uring_sqe;

/* A command's storage. Inputs are filled in by the call that it is given to. */
union dvsm_async {
	struct dvsm_region_populate populate;
	struct dvsm_region_discard discard;
	struct dvsm_region_diff diff;
	struct dvsm_region_migrate migrate;
	struct dvsm_snapshot_take take;
};

/**
 * dvsm_region_command_async - any command of <linux/dvsm.h> on a region.
 * @region: handle
 * @ring: ring with room for a request
 * @command: DVSM_IOC_REGION_ or DVSM_IOC_SNAPSHOT_
 * @argument: the command's struct, filled in
 *
 * Return: the SQE; NULL with errno EAGAIN (no SQE is free: submit first),
 * EOPNOTSUPP.
 */
DVSM_API struct io_uring_sqe *
dvsm_region_command_async(const struct dvsm_region *region, struct io_uring *ring,
			  uint32_t command, void *argument);

/**
 * dvsm_region_populate_async - allocate a range, without waiting for it.
 * @region: handle, of a descriptor opened for writing
 * @ring: ring with room for a request
 * @async: storage; populate.out_populated is the bytes that were allocated
 * @offset: start of the range, a multiple of 4096
 * @length: of the range, a multiple of 4096; 0 means to the region's end
 * @nr_threads: at most so many CPUs; 0 for a choice by size
 *
 * Return: as dvsm_region_command_async(); the CQE has what
 * dvsm_region_populate() returns.
 */
DVSM_API struct io_uring_sqe *
dvsm_region_populate_async(const struct dvsm_region *region, struct io_uring *ring,
			   union dvsm_async *async, uint64_t offset, uint64_t length,
			   uint32_t nr_threads);

/**
 * dvsm_region_discard_async - give the memory of a range back, without waiting.
 * @region: handle, of a descriptor opened for writing
 * @ring: ring with room for a request
 * @async: storage; discard.out_discarded is the bytes that were freed
 * @offset: start of the range, a multiple of 4096
 * @length: of the range, a multiple of 4096; 0 means to the region's end
 *
 * Return: as dvsm_region_command_async().
 */
DVSM_API struct io_uring_sqe *
dvsm_region_discard_async(const struct dvsm_region *region, struct io_uring *ring,
			  union dvsm_async *async, uint64_t offset, uint64_t length);

/**
 * dvsm_snapshot_take_async - take a snapshot, without waiting for it.
 * @region: handle, of a descriptor opened for writing
 * @ring: ring with room for a request
 * @async: storage
 * @options: NULL for all zero; not needed any more when this returns
 *
 * The moment that the snapshot is of lies between submission and CQE. The CQE has
 * its descriptor, close-on-exec, for dvsm_region_open().
 *
 * Return: as dvsm_region_command_async(); also EINVAL, E2BIG for @options.
 */
DVSM_API struct io_uring_sqe *
dvsm_snapshot_take_async(const struct dvsm_region *region, struct io_uring *ring,
			 union dvsm_async *async,
			 const struct dvsm_snapshot_options *options);

/**
 * dvsm_region_diff_async - ranges in which two regions have diverged, without waiting.
 * @region: handle
 * @other: as for dvsm_region_diff(); its descriptor has to stay open until the CQE
 * @ring: ring with room for a request
 * @async: storage; diff.out_nr_ranges elements were written, and diff.out_next is
 *   where the next command goes on, or the range's end
 * @offset: start of the range
 * @length: of the range; 0 means to the region's end
 * @ranges: array; stays until the CQE
 * @nr_ranges: elements of the array, more than 0; one command may fill less
 *
 * Return: as dvsm_region_command_async(); the CQE has 0 or the error.
 */
DVSM_API struct io_uring_sqe *
dvsm_region_diff_async(const struct dvsm_region *region, const struct dvsm_region *other,
		       struct io_uring *ring, union dvsm_async *async, uint64_t offset,
		       uint64_t length, struct dvsm_range *ranges, uint32_t nr_ranges);

/**
 * dvsm_region_migrate_async - move what a range holds to other nodes, without waiting.
 * @region: handle, of a descriptor opened for writing
 * @ring: ring with room for a request
 * @async: storage; migrate.out_next to migrate.out_failed are what came of it, written
 *   with EBUSY, ENOMEM, EINTR and ECANCELED, too: from out_next one can go on
 * @migrate: as for dvsm_region_migrate(); not needed any more when this returns, but
 *   its node sets stay until the CQE
 *
 * Return: as dvsm_region_command_async(); also EINVAL, E2BIG for @migrate. The CQE has
 * 0 or the error.
 */
DVSM_API struct io_uring_sqe *
dvsm_region_migrate_async(const struct dvsm_region *region, struct io_uring *ring,
			  union dvsm_async *async, const struct dvsm_region_migrate *migrate);

#ifdef __cplusplus
}
#endif

#endif /* DVSM_ASYNC_H */
