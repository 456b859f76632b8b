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
		struct dvsm_region_events region_events;
		struct dvsm_region_join region_join;
		struct dvsm_region_leave region_leave;
		struct dvsm_region_members region_members;
		struct dvsm_name_create name_create;
		struct dvsm_name_open name_open;
		struct dvsm_name_unlink name_unlink;
		struct dvsm_name_list name_list;
		struct dvsm_snapshot_take snapshot_take;
		struct dvsm_snapshot_restore snapshot_restore;
		struct dvsm_snapshot_merge snapshot_merge;
	} arg;
};

#define DVSM_OP_REGION		BIT(0)	/* about a region, not the device */
#define DVSM_OP_WRITE		BIT(1)	/* needs a descriptor opened for writing */
#define DVSM_OP_OUT_ON_ERROR	BIT(2)	/* outputs are written in error too */

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
			    DVSM_FEATURE_PIN |
			    (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER) ? DVSM_FEATURE_DMABUF : 0) |
			    DVSM_FEATURE_NAMES | DVSM_FEATURE_EVENTS |
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

/* A node set from the user: @nr_bits bits at @user, more than nodes only if zero. */
static int dvsm_nodes_from_user(nodemask_t *nodes, u64 user, u32 nr_bits)
{
	u64 __user *words = u64_to_user_ptr(user);
	u32 i;

	nodes_clear(*nodes);
	if (!nr_bits)
		return user ? -EINVAL : 0;
	if (nr_bits > PAGE_SIZE * BITS_PER_BYTE)
		return -EINVAL;
	for (i = 0; i < nr_bits; i += 64) {
		unsigned long word;
		u64 raw;
		u32 bit;

		if (get_user(raw, words + i / 64))
			return -EFAULT;
		if (nr_bits - i < 64)
			raw &= GENMASK_ULL(nr_bits - i - 1, 0);
		word = raw;
		for_each_set_bit(bit, &word, 64) {
			if (i + bit >= nr_node_ids)
				return -EINVAL;
			node_set(i + bit, *nodes);
		}
	}
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
	return dvsm_label_check(arg->label);
}

static int dvsm_region_create_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_create *arg = &call->arg.region_create;
	struct dvsm_policy policy = { .mode = arg->policy };
	u32 flags = arg->flags;
	struct file *file;
	int ret;

	if (flags & DVSM_REGION_F_PINNED)
		flags |= DVSM_REGION_F_REGISTRABLE;
	ret = dvsm_region_create_check(arg, flags);
	if (!ret)
		ret = dvsm_nodes_from_user(&policy.nodes, arg->nodes, arg->nr_nodes);
	if (!ret)
		ret = dvsm_policy_check(&policy);
	if (ret)
		return ret;

	file = dvsm_region_create(arg->length, flags, &policy, arg->label);
	if (IS_ERR(file))
		return PTR_ERR(file);
	if (flags & DVSM_REGION_F_PINNED) {
		ret = dvsm_region_pin(dvsm_file_region(file), 0, arg->length, 0);
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
	return 0;
}

static int dvsm_region_nodes_ioctl(struct dvsm_call *call)
{
	return dvsm_region_nodes(call->region, &call->arg.region_nodes);
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
				    arg->nr_threads, &arg->out_populated);
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

static int dvsm_region_pin_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_pin *arg = &call->arg.region_pin;
	u64 length = arg->length;
	int ret;

	ret = dvsm_range_check_some(call->region, arg->offset, &length);
	if (ret)
		return ret;
	return PTR_ERR_OR_ZERO(dvsm_pin_create(call->region, call->region_file, arg->offset,
					       arg->offset + length));
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
	if (!IS_ALIGNED(arg->offset, DVSM_CHUNK_SIZE) ||
	    (!IS_ALIGNED(length, DVSM_CHUNK_SIZE) && arg->offset + length != call->region->length))
		return -EINVAL;
	ret = dvsm_granularity_check(call->region, arg, &granularity);
	if (ret)
		return ret;

	file = dvsm_snapshot_take(call->region, arg->offset, arg->offset + length, arg->label,
				  arg->flags, granularity);
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
	other = dvsm_call_other(call, arg->other);
	if (IS_ERR(other))
		return PTR_ERR(other);
	ret = dvsm_region_diff(call->region, dvsm_file_region(other), arg);
	arg->length = length;
	fput(other);
	return ret;
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
		DVSM_REGION_F_HUGE_REQUIRED | DVSM_REGION_F_PINNED | DVSM_REGION_F_REGISTRABLE,
		0),
	DVSM_OP(DVSM_IOC_NAME_CREATE, name_create, name, DVSM_NAME_F_KEEP, 0),
	DVSM_OP(DVSM_IOC_NAME_OPEN, name_open, name, DVSM_NAME_F_READ_ONLY, 0),
	DVSM_OP(DVSM_IOC_NAME_UNLINK, name_unlink, name, 0, 0),
	DVSM_OP(DVSM_IOC_NAME_LIST, name_list, out_next, 0, 0),
	DVSM_OP(DVSM_IOC_REGION_INFO, region_info, out_nr_moved, 0, DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_REGION_NODES, region_nodes, out_nr_nodes, 0, DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_REGION_POPULATE, region_populate, out_populated, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE | DVSM_OP_OUT_ON_ERROR),
	DVSM_OP(DVSM_IOC_REGION_DISCARD, region_discard, out_discarded, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_RESIDENCY, region_residency, out_next, 0, DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_REGION_REOPEN, region_reopen, flags, DVSM_REOPEN_F_READ_ONLY,
		DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_REGION_UNSHARE, region_unshare, out_unshared, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE | DVSM_OP_OUT_ON_ERROR),
	DVSM_OP(DVSM_IOC_REGION_DIFF, region_diff, reserved, 0, DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_REGION_PIN, region_pin, length, 0, DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_UNPIN, region_unpin, length, 0, DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_EXPORT_DMABUF, region_export_dmabuf, length, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_EXTENTS, region_extents, out_next, 0, DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_REGION_EVENTS, region_events, reserved, 0, DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_REGION_JOIN, region_join, cookie, 0, DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_LEAVE, region_leave, cookie, 0, DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_REGION_MEMBERS, region_members, out_next, 0, DVSM_OP_REGION),
	DVSM_OP(DVSM_IOC_SNAPSHOT_TAKE, snapshot_take, label,
		DVSM_SNAPSHOT_F_READ_ONLY | DVSM_SNAPSHOT_F_ADAPTIVE,
		DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_SNAPSHOT_RESTORE, snapshot_restore, out_restored, 0,
		DVSM_OP_REGION | DVSM_OP_WRITE),
	DVSM_OP(DVSM_IOC_SNAPSHOT_MERGE, snapshot_merge, out_merged,
		DVSM_MERGE_F_SNAPSHOT_WINS | DVSM_MERGE_F_PARENT_WINS,
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

/**
 * dvsm_file_ioctl - A command on a region's descriptor.
 * @file: the region's file
 * @cmd: the command
 * @arg: user pointer to its struct
 *
 * Context: process.
 * Return: as the command says; -ENOTTY for one that is not about regions.
 */
long dvsm_file_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct dvsm_call call = {
		.file = file,
		.region_file = file,
		.region = dvsm_file_region(file),
	};
	const struct dvsm_op *op = dvsm_op_find(cmd);

	if (!op || !(op->how & DVSM_OP_REGION))
		return -ENOTTY;
	return dvsm_call_run(&call, op, (void __user *)arg);
}

/**
 * dvsm_device_ioctl - A command on /dev/dvsm.
 * @file: an open of the device
 * @cmd: the command
 * @arg: user pointer to its struct
 *
 * Commands about regions are about the implicit one.
 *
 * Context: process.
 * Return: as the command says; -ENOTTY for an unknown one, -ENOENT without an
 * implicit region.
 */
long dvsm_device_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct dvsm_context *context = file->private_data;
	struct dvsm_call call = { .file = file };
	const struct dvsm_op *op = dvsm_op_find(cmd);
	struct file *implicit;

	if (!op)
		return -ENOTTY;
	if (op->how & DVSM_OP_REGION) {
		mutex_lock(&context->lock);
		implicit = context->implicit;
		mutex_unlock(&context->lock);
		if (!implicit)
			return -ENOENT;
		call.region_file = implicit;
		call.region = dvsm_file_region(implicit);
	}
	return dvsm_call_run(&call, op, (void __user *)arg);
}
