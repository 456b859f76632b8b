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
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/nospec.h>
#include <linux/uaccess.h>

#include "command.h"

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
