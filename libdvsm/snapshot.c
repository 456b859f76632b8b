// SPDX-License-Identifier: LGPL-2.1-or-later
/* Snapshots: one command a call, on the one backend that has them. */
#include <string.h>

#include <dvsm/snapshot.h>

#include "internal.h"

#define DVSM_DIFF_BATCH	64	/* ranges that dvsm_region_diff_each() asks for at once */

static bool dvsm_has_snapshots(const struct dvsm_region *region)
{
	return region->backend == DVSM_BACKEND_DEVICE;
}

/* A region and another one that a command shall compare it with. */
static int dvsm_family_check(const struct dvsm_region *region, const struct dvsm_region *other)
{
	if (!dvsm_has_snapshots(region))
		return -EOPNOTSUPP;
	return dvsm_has_snapshots(other) ? 0 : -EINVAL;
}

static int dvsm_snapshot_options_check(const struct dvsm_snapshot_options *options)
{
	int error;

	error = dvsm_struct_check(options, options->size, sizeof(*options), sizeof(*options));
	if (error)
		return error;
	if (options->flags & ~(DVSM_SNAPSHOT_F_READ_ONLY | DVSM_SNAPSHOT_F_ADAPTIVE |
			       DVSM_SNAPSHOT_F_STRICT))
		return -EOPNOTSUPP;
	if (options->reserved)
		return -EINVAL;
	if (options->label && !dvsm_label_is_valid(options->label))
		return -EINVAL;
	return 0;
}

/* The command that takes a snapshot of @region with @options, which may be NULL. */
int dvsm_snapshot_prepare(const struct dvsm_region *region,
			  const struct dvsm_snapshot_options *options,
			  struct dvsm_snapshot_take *take)
{
	int error;

	*take = (struct dvsm_snapshot_take) { .size = sizeof(*take) };
	error = options ? dvsm_snapshot_options_check(options) : 0;
	if (error)
		return error;
	if (!dvsm_has_snapshots(region))
		return -EOPNOTSUPP;
	if (!options)
		return 0;
	if (options->offset >= region->length)
		return -EINVAL;
	take->flags = options->flags;
	take->offset = options->offset;
	take->length = options->length;
	take->granularity = options->granularity;
	if (options->label)
		memcpy(take->label, options->label, strlen(options->label));
	return 0;
}

struct dvsm_region *dvsm_snapshot_take(const struct dvsm_region *region,
				       const struct dvsm_snapshot_options *options)
{
	struct dvsm_region *snapshot;
	struct dvsm_snapshot_take take;
	int error, fd;

	error = dvsm_snapshot_prepare(region, options, &take);
	if (error)
		return dvsm_fail_null(error);
	/* The handle first: a descriptor that exists is handed out. */
	snapshot = dvsm_handle_create();
	if (!snapshot)
		return NULL;
	fd = dvsm_ioctl(region->fd, DVSM_IOC_SNAPSHOT_TAKE, &take);
	if (fd < 0) {
		dvsm_handle_destroy(snapshot);
		return dvsm_fail_null(fd);
	}
	*snapshot = *region;
	snapshot->fd = fd;
	snapshot->flags &= DVSM_REGION_F_HUGE_REQUIRED | DVSM_REGION_F_FORK_COPY;
	if (take.flags & DVSM_SNAPSHOT_F_READ_ONLY)
		snapshot->flags |= DVSM_REGION_F_READ_ONLY;
	memcpy(snapshot->label, take.label, sizeof(snapshot->label));
	return snapshot;
}

int dvsm_snapshot_restore(const struct dvsm_region *region, const struct dvsm_region *snapshot,
			  uint64_t *restored)
{
	struct dvsm_snapshot_restore restore = {
		.size = sizeof(restore),
		.snapshot = snapshot->fd,
	};
	int error;

	error = dvsm_family_check(region, snapshot);
	if (!error)
		error = dvsm_ioctl(region->fd, DVSM_IOC_SNAPSHOT_RESTORE, &restore);
	if (restored)
		*restored = restore.out_restored;
	return dvsm_result(error);
}

int dvsm_snapshot_merge(const struct dvsm_region *region, const struct dvsm_region *snapshot,
			uint32_t flags, struct dvsm_range *conflicts, uint32_t *nr_conflicts,
			uint64_t *merged)
{
	struct dvsm_snapshot_merge merge = {
		.size = sizeof(merge),
		.flags = flags,
		.snapshot = snapshot->fd,
		.nr_conflicts = conflicts && nr_conflicts ? *nr_conflicts : 0,
		.conflicts = (uintptr_t)conflicts,
	};
	int error;

	if (merge.nr_conflicts)
		memset(conflicts, 0, merge.nr_conflicts * sizeof(*conflicts));
	error = dvsm_family_check(region, snapshot);
	if (!error)
		error = dvsm_ioctl(region->fd, DVSM_IOC_SNAPSHOT_MERGE, &merge);
	if (nr_conflicts)
		*nr_conflicts = merge.out_nr_conflicts;
	if (merged)
		*merged = merge.out_merged;
	return dvsm_result(error);
}

/* Ranges written, or -errno. A batch of the kernel's may be smaller than the array. */
static int dvsm_diff(const struct dvsm_region *region, const struct dvsm_region *other,
		     uint32_t flags, uint64_t offset, uint64_t end, struct dvsm_range *ranges,
		     uint32_t nr_ranges, uint64_t *next)
{
	uint32_t nr = 0;
	int error;

	do {
		struct dvsm_region_diff diff = {
			.size = sizeof(diff),
			.flags = flags,
			.offset = offset,
			.length = end - offset,
			.ranges = (uintptr_t)(ranges + nr),
			.nr_ranges = nr_ranges - nr,
			.other = other->fd,
		};

		error = dvsm_ioctl(region->fd, DVSM_IOC_REGION_DIFF, &diff);
		/* What was told so far has to reach the caller: it may not be told again. */
		if (error && nr)
			break;
		if (error)
			return error;
		nr += diff.out_nr_ranges;
		offset = diff.out_next;
	} while (nr < nr_ranges && offset < end && !flags);
	*next = offset;
	return (int)nr;
}

/* Makes *length a real length. */
static int dvsm_diff_check(const struct dvsm_region *region, const struct dvsm_region *other,
			   uint64_t offset, uint64_t *length)
{
	int error = dvsm_family_check(region, other);

	if (error)
		return error;
	if (offset >= region->length || *length > region->length - offset)
		return -EINVAL;
	if (!*length)
		*length = region->length - offset;
	return 0;
}

static int dvsm_diff_once(const struct dvsm_region *region, const struct dvsm_region *other,
			  uint32_t flags, uint64_t offset, uint64_t length,
			  struct dvsm_range *ranges, uint32_t nr_ranges, uint64_t *next)
{
	uint64_t unwanted;
	int error;

	error = dvsm_diff_check(region, other, offset, &length);
	if (error)
		return dvsm_fail(error);
	if (!ranges || !nr_ranges || nr_ranges > INT32_MAX)
		return dvsm_fail(EINVAL);
	return dvsm_result(dvsm_diff(region, other, flags, offset, offset + length, ranges,
				     nr_ranges, next ? next : &unwanted));
}

int dvsm_region_diff(const struct dvsm_region *region, const struct dvsm_region *other,
		     uint64_t offset, uint64_t length, struct dvsm_range *ranges,
		     uint32_t nr_ranges, uint64_t *next)
{
	return dvsm_diff_once(region, other, 0, offset, length, ranges, nr_ranges, next);
}

int dvsm_snapshot_advance(const struct dvsm_region *region, const struct dvsm_region *snapshot,
			  uint64_t offset, uint64_t length, struct dvsm_range *ranges,
			  uint32_t nr_ranges, uint64_t *next)
{
	return dvsm_diff_once(region, snapshot, DVSM_DIFF_F_ADVANCE, offset, length, ranges,
			      nr_ranges, next);
}

int dvsm_region_diff_each(const struct dvsm_region *region, const struct dvsm_region *other,
			  uint64_t offset, uint64_t length,
			  int (*each)(void *argument, const struct dvsm_range *range),
			  void *argument)
{
	struct dvsm_range ranges[DVSM_DIFF_BATCH];
	uint64_t end;
	int nr, i, answer;

	answer = dvsm_diff_check(region, other, offset, &length);
	if (answer)
		return dvsm_fail(answer);
	end = offset + length;
	while (offset < end) {
		nr = dvsm_diff(region, other, 0, offset, end, ranges, DVSM_DIFF_BATCH, &offset);
		if (nr < 0)
			return dvsm_fail(nr);
		for (i = 0; i < nr; i++) {
			answer = each(argument, &ranges[i]);
			if (answer)
				return answer;
		}
	}
	return 0;
}

int dvsm_region_unshare(const struct dvsm_region *region, uint64_t offset, uint64_t length,
			uint64_t *unshared)
{
	struct dvsm_region_unshare unshare = {
		.size = sizeof(unshare),
		.offset = offset,
		.length = length,
	};
	int error;

	if (!dvsm_has_snapshots(region))
		error = -EOPNOTSUPP;
	else if (offset >= region->length)
		error = -EINVAL;
	else
		error = dvsm_ioctl(region->fd, DVSM_IOC_REGION_UNSHARE, &unshare);
	if (unshared)
		*unshared = unshare.out_unshared;
	return dvsm_result(error);
}
