// SPDX-License-Identifier: GPL-2.0-only
/* Commands on a region and its snapshots. */
#include <linux/file.h>

#include "command.h"

int dvsm_region_unshare_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_unshare *arg = &call->arg.region_unshare;
	u64 length = arg->length;
	int ret;

	arg->out_unshared = 0;
	ret = dvsm_range_check(call->region, arg->offset, &length);
	if (ret)
		return ret;
	return dvsm_region_unshare(call->region, arg->offset, arg->offset + length,
				   &arg->out_unshared);
}

static int dvsm_granularity_check(const struct dvsm_region *region,
				  const struct dvsm_snapshot_take *arg, u64 *granularity)
{
	bool adaptive = arg->flags & DVSM_SNAPSHOT_F_ADAPTIVE;

	*granularity = arg->granularity;
	if (!*granularity)
		*granularity = adaptive ? PAGE_SIZE : DVSM_CHUNK_SIZE;
	if (*granularity == DVSM_CHUNK_SIZE)
		return adaptive ? -EINVAL : 0;
	if (*granularity != PAGE_SIZE && *granularity != 16 * PAGE_SIZE)
		return -EOPNOTSUPP;
	return region->flags & DVSM_REGION_F_HUGE_REQUIRED ? -EOPNOTSUPP : 0;
}

int dvsm_snapshot_take_ioctl(struct dvsm_call *call)
{
	struct dvsm_snapshot_take *arg = &call->arg.snapshot_take;
	u64 length = arg->length, granularity;
	struct file *file;
	int ret;

	ret = dvsm_range_check(call->region, arg->offset, &length);
	if (!ret)
		ret = dvsm_label_check(arg->label);
	if (ret)
		return ret;
	if (!dvsm_range_is_chunks(call->region, arg->offset, length))
		return -EINVAL;
	ret = dvsm_granularity_check(call->region, arg, &granularity);
	if (ret)
		return ret;

	file = dvsm_snapshot_take(call->region, NULL, arg->offset, arg->offset + length,
				  arg->label, arg->flags, granularity);
	return dvsm_call_answer(call, file);
}

/* Another region, by descriptor. The file is to be put; an error pointer if none. */
static struct file *dvsm_call_other(const struct dvsm_call *call, int fd)
{
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (!dvsm_file_is_region(file)) {
		fput(file);
		return ERR_PTR(-EBADF);
	}
	if (dvsm_file_region(file)->family != call->region->family ||
	    dvsm_file_region(file) == call->region) {
		fput(file);
		return ERR_PTR(-EINVAL);
	}
	return file;
}

/* A snapshot of the call's region, by descriptor. */
static struct file *dvsm_call_snapshot(const struct dvsm_call *call, int fd)
{
	struct file *file = dvsm_call_other(call, fd);

	if (!IS_ERR(file) && dvsm_file_region(file)->parent_id != call->region->id) {
		fput(file);
		return ERR_PTR(-EINVAL);
	}
	return file;
}

/* The same, where both tell who has written: devices do not. */
static struct file *dvsm_call_tracked_snapshot(const struct dvsm_call *call, int fd)
{
	if (call->region->flags & DVSM_REGION_F_REGISTRABLE)
		return ERR_PTR(-EOPNOTSUPP);
	return dvsm_call_snapshot(call, fd);
}

/* Whole chunks, and room for all the ranges of one. */
static int dvsm_advance_check(const struct dvsm_call *call, const struct dvsm_region_diff *arg)
{
	u64 end = arg->offset + arg->length;

	if (!(call->file->f_mode & FMODE_WRITE))
		return -EBADF;
	if (!IS_ALIGNED(arg->offset, DVSM_CHUNK_SIZE) ||
	    (!IS_ALIGNED(end, DVSM_CHUNK_SIZE) && end != call->region->length))
		return -EINVAL;
	return arg->nr_ranges < DVSM_CHUNK_PAGES / 2 ? -EINVAL : 0;
}

int dvsm_region_diff_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_diff *arg = &call->arg.region_diff;
	u64 length = arg->length;
	struct file *other;
	int ret;

	if (!arg->nr_ranges || arg->reserved)
		return -EINVAL;
	ret = dvsm_range_check(call->region, arg->offset, &arg->length);
	if (ret)
		return ret;
	if (arg->flags & DVSM_DIFF_F_ADVANCE) {
		ret = dvsm_advance_check(call, arg);
		if (ret)
			return ret;
		other = dvsm_call_tracked_snapshot(call, arg->other);
		if (!IS_ERR(other) && !(other->f_mode & FMODE_WRITE)) {
			fput(other);
			return -EBADF;
		}
	} else {
		other = dvsm_call_other(call, arg->other);
	}
	if (IS_ERR(other))
		return PTR_ERR(other);
	ret = dvsm_region_diff(call->region, dvsm_file_region(other), arg);
	arg->length = length;
	fput(other);
	return ret;
}

int dvsm_snapshot_restore_ioctl(struct dvsm_call *call)
{
	struct dvsm_snapshot_restore *arg = &call->arg.snapshot_restore;
	struct file *snapshot;
	int ret;

	if (arg->reserved)
		return -EINVAL;
	snapshot = dvsm_call_snapshot(call, arg->snapshot);
	if (IS_ERR(snapshot))
		return PTR_ERR(snapshot);
	ret = dvsm_snapshot_restore(call->region, dvsm_file_region(snapshot), arg);
	fput(snapshot);
	return ret;
}

int dvsm_snapshot_merge_ioctl(struct dvsm_call *call)
{
	struct dvsm_snapshot_merge *arg = &call->arg.snapshot_merge;
	struct file *snapshot;
	int ret;

	arg->out_nr_conflicts = 0;
	arg->out_merged = 0;
	if (arg->reserved || hweight32(arg->flags) > 1)
		return -EINVAL;
	snapshot = dvsm_call_tracked_snapshot(call, arg->snapshot);
	if (IS_ERR(snapshot))
		return PTR_ERR(snapshot);
	ret = dvsm_snapshot_merge(call->region, dvsm_file_region(snapshot), arg);
	fput(snapshot);
	return ret;
}
