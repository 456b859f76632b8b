// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commands: one table, one way in, one way out.
 *
 * The argument is copied once, checked and extended with zeroes to the size that
 * this module knows; its handler sees kernel memory only. A handler that makes a
 * descriptor hands back the file; it is installed last, when nothing can fail
 * any more.
 */
#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/nospec.h>
#include <linux/pagemap.h>
#include <linux/uaccess.h>

#include "dvsm.h"

/* A command on its way. */
struct dvsm_call {
	struct file *file;		/* that the command was given to */
	struct file *region_file;	/* of the region that it is about; NULL for the device */
	struct dvsm_region *region;	/* that it is about; NULL for the device */
	struct file *new_file;		/* to be returned as a descriptor */
	int here;			/* node to call local, or NUMA_NO_NODE: this CPU's */
	union {
		struct {
			u32 size;
			u32 flags;
		};
		struct dvsm_info info;
		struct dvsm_region_create region_create;
		struct dvsm_region_info region_info;
		struct dvsm_region_nodes region_nodes;
		struct dvsm_region_populate region_populate;
		struct dvsm_region_discard region_discard;
		struct dvsm_region_residency region_residency;
		struct dvsm_region_reopen region_reopen;
		struct dvsm_region_unshare region_unshare;
		struct dvsm_region_diff region_diff;
		struct dvsm_region_pin region_pin;
		struct dvsm_region_unpin region_unpin;
		struct dvsm_region_export_dmabuf region_export_dmabuf;
		struct dvsm_region_extents region_extents;
		struct dvsm_region_place region_place;
		struct dvsm_region_promote region_promote;
		struct dvsm_region_split region_split;
		struct dvsm_region_events region_events;
		struct dvsm_region_join region_join;
		struct dvsm_region_leave region_leave;
		struct dvsm_region_members region_members;
		struct dvsm_region_balance region_balance;
		struct dvsm_region_list region_list;
		struct dvsm_region_watch region_watch;
		struct dvsm_region_find region_find;
		struct dvsm_name_create name_create;
		struct dvsm_name_open name_open;
		struct dvsm_name_unlink name_unlink;
		struct dvsm_name_list name_list;
		struct dvsm_snapshot_take snapshot_take;
		struct dvsm_snapshot_restore snapshot_restore;
		struct dvsm_snapshot_merge snapshot_merge;
		struct dvsm_region_migrate region_migrate;
	} arg;
};

#define DVSM_OP_REGION		BIT(0)	/* about a region, not the device */
#define DVSM_OP_WRITE		BIT(1)	/* needs a descriptor opened for writing */
#define DVSM_OP_OUT_ON_ERROR	BIT(2)	/* outputs are written in error too */
#define DVSM_OP_LOOK		BIT(3)	/* works on a descriptor that only looks */

struct dvsm_op {
	int (*fn)(struct dvsm_call *call);
	u32 size;			/* of the struct, as this module knows it */
	u32 size_min;			/* of its first version */
	u32 known_flags;
	u32 how;			/* DVSM_OP_ */
};

static int dvsm_info_ioctl(struct dvsm_call *call)
{
	struct dvsm_info *arg = &call->arg.info;

	arg->out_abi_version = DVSM_ABI_VERSION;
	arg->out_nr_nodes = nr_node_ids;
	arg->out_features = DVSM_FEATURE_REGION | DVSM_FEATURE_IMPLICIT_REGION |
			    DVSM_FEATURE_PINNED | DVSM_FEATURE_POLICY | DVSM_FEATURE_SNAPSHOT |
			    DVSM_FEATURE_PIN | DVSM_FEATURE_PLACE | DVSM_FEATURE_PROMOTE |
			    (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER) ? DVSM_FEATURE_DMABUF : 0) |
			    DVSM_FEATURE_NAMES | DVSM_FEATURE_EVENTS | DVSM_FEATURE_LIST |
			    DVSM_FEATURE_MIGRATE | DVSM_FEATURE_FORK_COPY |
			    (IS_ENABLED(CONFIG_NUMA_BALANCING) ? DVSM_FEATURE_BALANCE : 0) |
			    (IS_ENABLED(CONFIG_IO_URING) ? DVSM_FEATURE_URING_CMD : 0) |
			    (DVSM_KERNEL_FIXED_BUFFERS ? DVSM_FEATURE_FIXED_BUFFERS : 0);
	arg->out_chunk_size = DVSM_CHUNK_SIZE;
	arg->out_length_max = DVSM_LENGTH_MAX;
	arg->out_limit = (u64)dvsm_account_limit() << PAGE_SHIFT;
	arg->out_limit_user = (u64)dvsm_account_limit_user() << PAGE_SHIFT;
	arg->out_charged = (u64)dvsm_account_charged() << PAGE_SHIFT;
	arg->out_charged_user = (u64)dvsm_account_charged_user(current_uid()) << PAGE_SHIFT;
	arg->out_nr_regions = dvsm_region_count();
	return 0;
}

static int dvsm_label_check(const u8 *label)
{
	size_t len = strnlen(label, DVSM_NAME_MAX);
	size_t i;

	if (len == DVSM_NAME_MAX || memchr_inv(label + len, 0, DVSM_NAME_MAX - len))
		return -EINVAL;
	for (i = 0; i < len; i++)
		if (label[i] <= ' ' || label[i] > '~')
			return -EINVAL;
	return 0;
}

static int dvsm_region_create_check(const struct dvsm_region_create *arg, u32 flags)
{
	if (!arg->length || arg->length > DVSM_LENGTH_MAX || !PAGE_ALIGNED(arg->length))
		return -EINVAL;
	if ((flags & DVSM_REGION_F_HUGE_REQUIRED) && !IS_ALIGNED(arg->length, DVSM_CHUNK_SIZE))
		return -EINVAL;
	if ((flags & DVSM_REGION_F_REGISTRABLE) && (flags & DVSM_REGION_F_FORK_COPY))
		return -EINVAL;
	return dvsm_label_check(arg->label);
}

static int dvsm_region_create_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_create *arg = &call->arg.region_create;
	struct dvsm_policy *policy;
	u32 flags = arg->flags;
	struct file *file;
	int ret;

	if (flags & DVSM_REGION_F_PINNED)
		flags |= DVSM_REGION_F_REGISTRABLE;
	ret = dvsm_region_create_check(arg, flags);
	if (ret)
		return ret;
	policy = dvsm_policy_from_user(arg->policy, arg->nodes, arg->nr_nodes, arg->weights);
	if (IS_ERR(policy))
		return PTR_ERR(policy);

	file = dvsm_region_create(arg->length, flags, policy, arg->label);
	dvsm_policy_put(policy);
	if (IS_ERR(file))
		return PTR_ERR(file);
	if (flags & DVSM_REGION_F_PINNED) {
		ret = dvsm_region_pin(dvsm_file_region(file), 0, arg->length, 0, call->here);
		if (ret) {
			fput(file);
			return ret;
		}
	}
	call->new_file = file;
	return 0;
}

static int dvsm_region_info_ioctl(struct dvsm_call *call)
{
	dvsm_region_info_fill(call->region, &call->arg.region_info);
	if (!(call->file->f_mode & FMODE_WRITE))
		call->arg.region_info.out_flags |= DVSM_REGION_F_READ_ONLY;
	/* Then not all was counted. */
	return dvsm_shall_stop() ? -EINTR : 0;
}

static int dvsm_region_nodes_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_nodes *arg = &call->arg.region_nodes;

	if (arg->reserved || (arg->node_size && arg->node_size < DVSM_NODE_STATS_SIZE_0))
		return -EINVAL;
	if (arg->node_size > PAGE_SIZE)
		return -E2BIG;
	return dvsm_region_nodes(call->region, arg);
}

/* Replace a length of 0 by what is left of the region; then check. */
static int dvsm_range_check(const struct dvsm_region *region, u64 offset, u64 *length)
{
	if (!*length && offset <= region->length)
		*length = region->length - offset;
	return dvsm_range_is_valid(offset, *length, region->length) ? 0 : -EINVAL;
}

static int dvsm_region_populate_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_populate *arg = &call->arg.region_populate;
	u64 length = arg->length;
	int ret;

	arg->out_populated = 0;
	if (arg->reserved)
		return -EINVAL;
	ret = dvsm_range_check(call->region, arg->offset, &length);
	if (ret)
		return ret;
	return dvsm_region_populate(call->region, arg->offset, arg->offset + length,
				    arg->nr_threads, call->here, &arg->out_populated);
}

static int dvsm_region_discard_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_discard *arg = &call->arg.region_discard;
	u64 length = arg->length;
	int ret;

	ret = dvsm_range_check(call->region, arg->offset, &length);
	if (ret)
		return ret;
	return dvsm_region_discard(call->region, arg->offset, arg->offset + length,
				   &arg->out_discarded);
}

static int dvsm_region_residency_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_residency *arg = &call->arg.region_residency;
	u64 length = arg->length;
	int ret;

	if (!arg->nr_chunks)
		return -EINVAL;
	ret = dvsm_range_check(call->region, arg->offset, &arg->length);
	if (ret)
		return ret;
	ret = dvsm_region_residency(call->region, arg);
	arg->length = length;
	return ret;
}

static int dvsm_region_reopen_ioctl(struct dvsm_call *call)
{
	bool read_only = call->arg.region_reopen.flags & DVSM_REOPEN_F_READ_ONLY;
	struct file *file;

	if (!(call->file->f_mode & FMODE_WRITE))
		read_only = true;
	file = dvsm_inode_open(call->region->inode, read_only ? O_RDONLY : O_RDWR);
	if (IS_ERR(file))
		return PTR_ERR(file);
	call->new_file = file;
	return 0;
}

static int dvsm_region_unshare_ioctl(struct dvsm_call *call)
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

/* As dvsm_range_check(), for what cannot be empty. */
static int dvsm_range_check_some(const struct dvsm_region *region, u64 offset, u64 *length)
{
	int ret = dvsm_range_check(region, offset, length);

	return ret ? ret : *length ? 0 : -EINVAL;
}

/* Whether a range is made of whole chunks; the region's end ends one too. */
static bool dvsm_range_is_chunks(const struct dvsm_region *region, u64 offset, u64 length)
{
	return IS_ALIGNED(offset, DVSM_CHUNK_SIZE) &&
	       (IS_ALIGNED(length, DVSM_CHUNK_SIZE) || offset + length == region->length);
}

static int dvsm_region_pin_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_pin *arg = &call->arg.region_pin;
	u64 length = arg->length;
	int ret;

	ret = dvsm_range_check_some(call->region, arg->offset, &length);
	if (ret)
		return ret;
	return PTR_ERR_OR_ZERO(dvsm_pin_create(call->region, call->region_file, DVSM_PIN_COMMAND,
					       arg->offset, arg->offset + length));
}

static int dvsm_region_unpin_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_unpin *arg = &call->arg.region_unpin;
	u64 length = arg->length;
	int ret;

	ret = dvsm_range_check_some(call->region, arg->offset, &length);
	if (ret)
		return ret;
	return dvsm_pin_destroy(call->region, call->region_file, arg->offset,
				arg->offset + length);
}

static int dvsm_region_export_dmabuf_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_export_dmabuf *arg = &call->arg.region_export_dmabuf;
	u64 length = arg->length;
	struct file *file;
	int ret;

	ret = dvsm_range_check_some(call->region, arg->offset, &length);
	if (ret)
		return ret;
	file = dvsm_region_export_dmabuf(call->region, arg->offset, arg->offset + length);
	if (IS_ERR(file))
		return PTR_ERR(file);
	call->new_file = file;
	return 0;
}

static int dvsm_region_extents_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_extents *arg = &call->arg.region_extents;
	u64 length = arg->length;
	int ret;

	if (!arg->nr_ranges)
		return -EINVAL;
	ret = dvsm_range_check(call->region, arg->offset, &arg->length);
	if (ret)
		return ret;
	ret = dvsm_region_extents(call->region, arg);
	arg->length = length;
	return ret;
}

static int dvsm_region_place_check(const struct dvsm_region *region,
				   const struct dvsm_region_place *arg, u64 *length)
{
	int ret = dvsm_range_check_some(region, arg->offset, length);

	return ret ? ret : dvsm_range_is_chunks(region, arg->offset, *length) ? 0 : -EINVAL;
}

static int dvsm_region_place_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_place *arg = &call->arg.region_place;
	u64 length = arg->length;
	int ret;

	if (arg->flags & DVSM_PLACE_F_QUERY) {
		if (length || arg->policy || arg->offset >= call->region->length)
			return -EINVAL;
	} else {
		if (!(call->file->f_mode & FMODE_WRITE))
			return -EBADF;
		ret = dvsm_region_place_check(call->region, arg, &length);
		if (!ret)
			ret = dvsm_region_place_set(call->region, arg, arg->offset + length);
		if (ret)
			return ret;
	}
	return dvsm_region_place_look(call->region, arg);
}

static int dvsm_region_promote_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_promote *arg = &call->arg.region_promote;
	u64 length = arg->length, end;
	int ret;

	ret = dvsm_range_check_some(call->region, arg->offset, &length);
	if (ret)
		return ret;
	memset_startat(arg, 0, out_nr_promoted);
	end = dvsm_page_chunk((arg->offset + length) >> PAGE_SHIFT);
	if (arg->offset >> DVSM_CHUNK_SHIFT >= end)
		return 0;
	return dvsm_region_promote(call->region,
				   (arg->offset + DVSM_CHUNK_SIZE - 1) >> DVSM_CHUNK_SHIFT,
				   end - 1, arg);
}

static int dvsm_region_split_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_split *arg = &call->arg.region_split;
	u64 length = arg->length, end;
	int ret;

	ret = dvsm_range_check_some(call->region, arg->offset, &length);
	if (ret)
		return ret;
	memset_startat(arg, 0, out_nr_split);
	end = dvsm_page_chunk((arg->offset + length) >> PAGE_SHIFT);
	if (arg->offset >> DVSM_CHUNK_SHIFT >= end)
		return 0;
	return dvsm_region_split(call->region,
				 (arg->offset + DVSM_CHUNK_SIZE - 1) >> DVSM_CHUNK_SHIFT,
				 end - 1, arg);
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

static int dvsm_snapshot_take_ioctl(struct dvsm_call *call)
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
	if (IS_ERR(file))
		return PTR_ERR(file);
	call->new_file = file;
	return 0;
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
	struct file *file;

	if (call->region->flags & DVSM_REGION_F_REGISTRABLE)
		return ERR_PTR(-EOPNOTSUPP);
	file = dvsm_call_other(call, fd);
	if (!IS_ERR(file) && dvsm_file_region(file)->parent_id != call->region->id) {
		fput(file);
		return ERR_PTR(-EINVAL);
	}
	return file;
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

static int dvsm_region_diff_ioctl(struct dvsm_call *call)
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
		other = dvsm_call_snapshot(call, arg->other);
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

static int dvsm_snapshot_restore_ioctl(struct dvsm_call *call)
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

static int dvsm_snapshot_merge_ioctl(struct dvsm_call *call)
{
	struct dvsm_snapshot_merge *arg = &call->arg.snapshot_merge;
	struct file *snapshot;
	int ret;

	arg->out_nr_conflicts = 0;
	arg->out_merged = 0;
	if (arg->reserved || hweight32(arg->flags) > 1)
		return -EINVAL;
	snapshot = dvsm_call_snapshot(call, arg->snapshot);
	if (IS_ERR(snapshot))
		return PTR_ERR(snapshot);
	ret = dvsm_snapshot_merge(call->region, dvsm_file_region(snapshot), arg);
	fput(snapshot);
	return ret;
}

static int dvsm_name_check(const u8 *name)
{
	size_t len = strnlen(name, DVSM_NAME_SIZE);

	if (!len || len == DVSM_NAME_SIZE || memchr_inv(name + len, 0, DVSM_NAME_SIZE - len))
		return -EINVAL;
	if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	return 0;
}

static int dvsm_name_create_ioctl(struct dvsm_call *call)
{
	struct dvsm_name_create *arg = &call->arg.name_create;
	struct file *file;
	int ret;

	ret = dvsm_name_check(arg->name);
	if (ret)
		return ret;
	if (arg->mode & ~0777)
		return -EINVAL;
	file = fget(arg->region);
	if (!file)
		return -EBADF;
	if (dvsm_file_is_region(file) && (file->f_mode & FMODE_WRITE))
		ret = dvsm_name_create(file, arg->name, arg->mode, arg->flags);
	else
		ret = -EBADF;
	fput(file);
	return ret;
}

static int dvsm_name_open_ioctl(struct dvsm_call *call)
{
	struct dvsm_name_open *arg = &call->arg.name_open;
	struct file *file;
	int ret;

	ret = dvsm_name_check(arg->name);
	if (ret)
		return ret;
	file = dvsm_name_open(arg->name, arg->flags & DVSM_NAME_F_READ_ONLY);
	if (IS_ERR(file))
		return PTR_ERR(file);
	call->new_file = file;
	return 0;
}

static int dvsm_name_unlink_ioctl(struct dvsm_call *call)
{
	int ret = dvsm_name_check(call->arg.name_unlink.name);

	return ret ? ret : dvsm_name_unlink(call->arg.name_unlink.name);
}

static int dvsm_name_list_ioctl(struct dvsm_call *call)
{
	if (!call->arg.name_list.nr_names)
		return -EINVAL;
	return dvsm_name_list(&call->arg.name_list);
}

static int dvsm_region_balance_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_balance *arg = &call->arg.region_balance;

	if (arg->mode > DVSM_BALANCE_ON)
		return -EOPNOTSUPP;
	if (arg->mode != DVSM_BALANCE_KEEP && !(call->file->f_mode & FMODE_WRITE))
		return -EBADF;
	return dvsm_region_balance(call->region, arg);
}

static int dvsm_region_list_ioctl(struct dvsm_call *call)
{
	if (!call->arg.region_list.nr_regions)
		return -EINVAL;
	return dvsm_watch_list(&call->arg.region_list);
}

static int dvsm_region_watch_ioctl(struct dvsm_call *call)
{
	struct file *file = dvsm_watch_open(call->arg.region_watch.id);

	if (IS_ERR(file))
		return PTR_ERR(file);
	call->new_file = file;
	return 0;
}

static int dvsm_region_find_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_find *arg = &call->arg.region_find;
	struct file *file = dvsm_vma_open(arg->address, &arg->out_offset);

	if (IS_ERR(file))
		return PTR_ERR(file);
	call->new_file = file;
	return 0;
}

static int dvsm_region_events_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_events *arg = &call->arg.region_events;
	struct file *file;

	if (arg->event_size != sizeof(struct dvsm_event) || arg->reserved)
		return -EINVAL;
	file = dvsm_events_open(call->region);
	if (IS_ERR(file))
		return PTR_ERR(file);
	call->new_file = file;
	return 0;
}

static int dvsm_region_join_ioctl(struct dvsm_call *call)
{
	return dvsm_events_join(call->region, call->arg.region_join.cookie);
}

static int dvsm_region_leave_ioctl(struct dvsm_call *call)
{
	return dvsm_events_leave(call->region, call->arg.region_leave.cookie);
}

static int dvsm_region_members_ioctl(struct dvsm_call *call)
{
	if (!call->arg.region_members.nr_members)
		return -EINVAL;
	return dvsm_events_members(call->region, &call->arg.region_members);
}

static int dvsm_region_migrate_nodes(const struct dvsm_region_migrate *arg, nodemask_t *from,
				     nodemask_t *to)
{
	int ret = dvsm_nodes_from_user(to, arg->nodes, arg->nr_nodes);

	if (!ret)
		ret = dvsm_nodes_from_user(from, arg->from, arg->nr_from);
	if (ret)
		return ret;
	if (nodes_empty(*to) || !nodes_subset(*to, node_states[N_MEMORY]))
		return -EINVAL;
	if (!arg->nr_from)
		nodes_setall(*from);
	return 0;
}

static int dvsm_region_migrate_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_migrate *arg = &call->arg.region_migrate;
	struct dvsm_moved moved = {};
	u64 length = arg->length;
	nodemask_t from, to;
	int ret;

	ret = dvsm_range_check(call->region, arg->offset, &length);
	if (!ret)
		ret = dvsm_region_migrate_nodes(arg, &from, &to);
	if (ret)
		return ret;
	ret = dvsm_region_migrate(call->region, arg->offset, arg->offset + length, &from, &to,
				  &moved, &arg->out_next);
	arg->out_moved = (u64)moved.nr_moved << PAGE_SHIFT;
	arg->out_there = (u64)moved.nr_there << PAGE_SHIFT;
	arg->out_pinned_command = (u64)moved.nr_pinned[DVSM_PIN_COMMAND] << PAGE_SHIFT;
	arg->out_pinned_dmabuf = (u64)moved.nr_pinned[DVSM_PIN_DMABUF] << PAGE_SHIFT;
	arg->out_pinned_device = (u64)moved.nr_pinned[DVSM_PIN_DEVICE] << PAGE_SHIFT;
	arg->out_pinned = arg->out_pinned_command + arg->out_pinned_dmabuf + arg->out_pinned_device;
	arg->out_referenced = (u64)moved.nr_referenced << PAGE_SHIFT;
	arg->out_failed = (u64)moved.nr_failed << PAGE_SHIFT;
	return ret;
}

#define DVSM_OP(_nr, _name, _last, _flags, _how)				\
	[_IOC_NR(_nr)] = {							\
		.fn = dvsm_##_name##_ioctl,					\
		.size = sizeof(struct dvsm_##_name),				\
		.size_min = offsetofend(struct dvsm_##_name, _last),		\
		.known_flags = (_flags),					\
		.how = (_how),							\
	}

static const struct dvsm_op dvsm_ops[] = {
	DVSM_OP(DVSM_IOC_INFO, info, out_nr_regions, 0, 0),
	DVSM_OP(DVSM_IOC_REGION_CREATE, region_create, label,
		DVSM_REGION_F_HUGE_REQUIRED | DVSM_REGION_F_PINNED | DVSM_REGION_F_REGISTRABLE |
		DVSM_REGION_F_FORK_COPY, 0),
	DVSM_OP(DVSM_IOC_NAME_CREATE, name_create, name, DVSM_NAME_F_KEEP, 0),
	DVSM_OP(DVSM_IOC_NAME_OPEN, name_open, name, DVSM_NAME_F_READ_ONLY, 0),
	DVSM_OP(DVSM_IOC_NAME_UNLINK, name_unlink, name, 0, 0),
	DVSM_OP(DVSM_IOC_NAME_LIST, name_list, out_next, 0, 0),
	DVSM_OP(DVSM_IOC_REGION_LIST, region_list, out_next, 0, 0),
	DVSM_OP(DVSM_IOC_REGION_WATCH, region_watch, id, 0, 0),
	DVSM_OP(DVSM_IOC_REGION_FIND, region_find, out_offset, 0, 0),
	DVSM_OP(DVSM_IOC_REGION_INFO, region_info, out_nr_moved, 0, DVSM_OP_REGION | DVSM_OP_LOOK),
	DVSM_OP(DVSM_IOC_REGION_NODES, region_nodes, out_nr_nodes, 0,
		DVSM_OP_REGION | DVSM_OP_LOOK),
	DVSM_OP(DVSM_IOC_REGION_POPULATE, region_populate, out_populated, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE | DVSM_OP_OUT_ON_ERROR),
	DVSM_OP(DVSM_IOC_REGION_DISCARD, region_discard, out_discarded, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_RESIDENCY, region_residency, out_next, 0,
		DVSM_OP_REGION | DVSM_OP_LOOK),
	DVSM_OP(DVSM_IOC_REGION_REOPEN, region_reopen, flags, DVSM_REOPEN_F_READ_ONLY,
		DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_REGION_UNSHARE, region_unshare, out_unshared, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE | DVSM_OP_OUT_ON_ERROR),
	DVSM_OP(DVSM_IOC_REGION_DIFF, region_diff, reserved, DVSM_DIFF_F_ADVANCE, DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_REGION_PIN, region_pin, length, 0, DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_UNPIN, region_unpin, length, 0, DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_EXPORT_DMABUF, region_export_dmabuf, length, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_EXTENTS, region_extents, out_next, 0,
		DVSM_OP_REGION | DVSM_OP_LOOK),
	DVSM_OP(DVSM_IOC_REGION_EVENTS, region_events, reserved, 0, DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_REGION_JOIN, region_join, cookie, 0, DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_LEAVE, region_leave, cookie, 0, DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_MEMBERS, region_members, out_next, 0,
		DVSM_OP_REGION | DVSM_OP_LOOK),
	DVSM_OP(DVSM_IOC_REGION_PLACE, region_place, out_length, DVSM_PLACE_F_QUERY,
		DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_REGION_BALANCE, region_balance, out_nr_held, 0,
		DVSM_OP_REGION | DVSM_OP_LOOK),
	DVSM_OP(DVSM_IOC_REGION_PROMOTE, region_promote, out_nr_holes, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE | DVSM_OP_OUT_ON_ERROR),
	DVSM_OP(DVSM_IOC_REGION_SPLIT, region_split, out_freed, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE | DVSM_OP_OUT_ON_ERROR),
	DVSM_OP(DVSM_IOC_SNAPSHOT_TAKE, snapshot_take, label,
		DVSM_SNAPSHOT_F_READ_ONLY | DVSM_SNAPSHOT_F_ADAPTIVE | DVSM_SNAPSHOT_F_STRICT,
		DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_SNAPSHOT_RESTORE, snapshot_restore, out_restored, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_SNAPSHOT_MERGE, snapshot_merge, out_merged,
		DVSM_MERGE_F_SNAPSHOT_WINS | DVSM_MERGE_F_PARENT_WINS,
		DVSM_OP_REGION | DVSM_OP_WRITE | DVSM_OP_OUT_ON_ERROR),
	DVSM_OP(DVSM_IOC_REGION_MIGRATE, region_migrate, out_failed, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE | DVSM_OP_OUT_ON_ERROR),
};

static const struct dvsm_op *dvsm_op_find(unsigned int cmd)
{
	unsigned int nr = _IOC_NR(cmd);

	if (cmd != _IO(DVSM_IOC_MAGIC, nr) || nr >= ARRAY_SIZE(dvsm_ops))
		return NULL;
	nr = array_index_nospec(nr, ARRAY_SIZE(dvsm_ops));
	return dvsm_ops[nr].fn ? &dvsm_ops[nr] : NULL;
}

static int dvsm_call_copy_in(struct dvsm_call *call, const struct dvsm_op *op,
			     void __user *user, u32 *user_size)
{
	int ret;

	if (get_user(*user_size, (u32 __user *)user))
		return -EFAULT;
	if (*user_size > PAGE_SIZE)
		return -E2BIG;
	if (*user_size < op->size_min)
		return -EINVAL;
	ret = copy_struct_from_user(&call->arg, op->size, user, *user_size);
	if (ret)
		return ret;
	/* The user may have changed his mind between the two looks. */
	call->arg.size = *user_size;
	return call->arg.flags & ~op->known_flags ? -EOPNOTSUPP : 0;
}

/* Whether a handler that answered @ret had begun: else no output is written. */
static bool dvsm_call_began(int ret)
{
	return ret != -EINVAL && ret != -EBADF && ret != -EOPNOTSUPP;
}

static long dvsm_call_finish(struct dvsm_call *call, const struct dvsm_op *op,
			     void __user *user, u32 user_size, int ret)
{
	int fd = 0;

	if (ret && !((op->how & DVSM_OP_OUT_ON_ERROR) && dvsm_call_began(ret)))
		return ret;
	if (call->new_file) {
		fd = get_unused_fd_flags(O_CLOEXEC);
		if (fd < 0)
			goto err_put;
	}
	if (copy_to_user(user, &call->arg, min(user_size, op->size))) {
		if (call->new_file)
			put_unused_fd(fd);
		fd = -EFAULT;
		goto err_put;
	}
	if (call->new_file)
		fd_install(fd, call->new_file);
	return ret ? ret : fd;

err_put:
	if (call->new_file)
		fput(call->new_file);
	return fd;
}

static long dvsm_call_run(struct dvsm_call *call, const struct dvsm_op *op, void __user *user)
{
	u32 user_size;
	int ret;

	if ((op->how & DVSM_OP_WRITE) && !(call->file->f_mode & FMODE_WRITE))
		return -EBADF;
	ret = dvsm_call_copy_in(call, op, user, &user_size);
	if (ret)
		return ret;
	return dvsm_call_finish(call, op, user, user_size, op->fn(call));
}

/* The file of the implicit region; the context keeps it. NULL if there is none. */
static struct file *dvsm_context_implicit(struct dvsm_context *context)
{
	struct file *implicit;

	mutex_lock(&context->lock);
	implicit = context->implicit;
	mutex_unlock(&context->lock);
	return implicit;
}

/**
 * dvsm_command - Carry out a command.
 * @file: a region's, or an open of the device
 * @cmd: the command
 * @user: its struct
 * @here: the node that the caller calls local, or NUMA_NO_NODE: this CPU's
 *
 * On the device, commands about regions are about the implicit one.
 *
 * Context: process or io_uring worker; may sleep; no dvsm lock held.
 * Return: as the command says; -ENOTTY for one that there is not, or not on a
 * region; -ENOENT on the device without an implicit region.
 */
long dvsm_command(struct file *file, unsigned int cmd, void __user *user, int here)
{
	struct dvsm_call call = { .file = file, .here = here };
	const struct dvsm_op *op = dvsm_op_find(cmd);

	if (!op)
		return -ENOTTY;
	if (dvsm_file_is_region(file)) {
		if (!(op->how & DVSM_OP_REGION))
			return -ENOTTY;
		call.region_file = file;
	} else if (op->how & DVSM_OP_REGION) {
		call.region_file = dvsm_context_implicit(file->private_data);
		if (!call.region_file)
			return -ENOENT;
	}
	if (call.region_file)
		call.region = dvsm_file_region(call.region_file);
	return dvsm_call_run(&call, op, user);
}

/**
 * dvsm_ioctl - A command by ioctl().
 * @file: a region's, or an open of the device
 * @cmd: the command
 * @arg: user pointer to its struct
 *
 * Context: process.
 * Return: as dvsm_command().
 */
long dvsm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return dvsm_command(file, cmd, (void __user *)arg, NUMA_NO_NODE);
}

/**
 * dvsm_watch_ioctl - A command on a descriptor that only looks.
 * @file: from dvsm_watch_open()
 * @cmd: the command
 * @arg: user pointer to its struct
 *
 * Context: process.
 * Return: as dvsm_command(); -EBADF for what is more than looking, -ENOENT once the
 * region is gone.
 */
long dvsm_watch_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct dvsm_call call = { .file = file, .here = NUMA_NO_NODE };
	const struct dvsm_op *op = dvsm_op_find(cmd);
	long ret;

	if (!op || !(op->how & DVSM_OP_REGION))
		return -ENOTTY;
	if (!(op->how & DVSM_OP_LOOK))
		return -EBADF;
	call.region = dvsm_region_get((unsigned long)file->private_data);
	if (IS_ERR(call.region))
		return PTR_ERR(call.region);
	ret = dvsm_call_run(&call, op, (void __user *)arg);
	dvsm_region_put(call.region);
	return ret;
}
