// SPDX-License-Identifier: GPL-2.0-only
/* Commands on the device: what there is, regions and their names. */
#include <linux/cred.h>
#include <linux/file.h>

#include "command.h"

int dvsm_info_ioctl(struct dvsm_call *call)
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

/**
 * dvsm_label_check - Whether a user's label may be shown to people.
 * @label: DVSM_NAME_MAX bytes
 *
 * Context: any.
 * Return: 0 or -EINVAL.
 */
int dvsm_label_check(const u8 *label)
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

int dvsm_region_create_ioctl(struct dvsm_call *call)
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

static int dvsm_name_check(const u8 *name)
{
	size_t len = strnlen(name, DVSM_NAME_SIZE);

	if (!len || len == DVSM_NAME_SIZE || memchr_inv(name + len, 0, DVSM_NAME_SIZE - len))
		return -EINVAL;
	if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	return 0;
}

int dvsm_name_create_ioctl(struct dvsm_call *call)
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

int dvsm_name_open_ioctl(struct dvsm_call *call)
{
	struct dvsm_name_open *arg = &call->arg.name_open;
	struct file *file;
	int ret;

	ret = dvsm_name_check(arg->name);
	if (ret)
		return ret;
	file = dvsm_name_open(arg->name, arg->flags & DVSM_NAME_F_READ_ONLY);
	return dvsm_call_answer(call, file);
}

int dvsm_name_unlink_ioctl(struct dvsm_call *call)
{
	int ret = dvsm_name_check(call->arg.name_unlink.name);

	return ret ? ret : dvsm_name_unlink(call->arg.name_unlink.name);
}

int dvsm_name_list_ioctl(struct dvsm_call *call)
{
	if (!call->arg.name_list.nr_names)
		return -EINVAL;
	return dvsm_name_list(&call->arg.name_list);
}

int dvsm_region_list_ioctl(struct dvsm_call *call)
{
	if (!call->arg.region_list.nr_regions)
		return -EINVAL;
	return dvsm_watch_list(&call->arg.region_list);
}

int dvsm_region_watch_ioctl(struct dvsm_call *call)
{
	struct file *file = dvsm_watch_open(call->arg.region_watch.id);

	return dvsm_call_answer(call, file);
}

int dvsm_region_find_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_find *arg = &call->arg.region_find;
	struct file *file = dvsm_vma_open(arg->address, &arg->out_offset);

	return dvsm_call_answer(call, file);
}
