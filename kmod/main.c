// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module and its device, /dev/dvsm.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/huge_mm.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "dvsm.h"

unsigned int dvsm_implicit_policy = DVSM_POLICY_INHERIT;
bool dvsm_implicit_pinned;

static int dvsm_set_implicit_policy(const char *value, const struct kernel_param *kp)
{
	unsigned int mode;
	int ret = kstrtouint(value, 0, &mode);

	if (ret)
		return ret;
	/* BIND has no meaning without a node set, and there is none here. */
	if (mode > DVSM_POLICY_INTERLEAVE || mode == DVSM_POLICY_BIND)
		return -EINVAL;
	WRITE_ONCE(dvsm_implicit_policy, mode);
	return 0;
}

static const struct kernel_param_ops dvsm_implicit_policy_ops = {
	.set = dvsm_set_implicit_policy,
	.get = param_get_uint,
};

module_param_cb(implicit_policy, &dvsm_implicit_policy_ops, &dvsm_implicit_policy, 0644);
MODULE_PARM_DESC(implicit_policy, "node policy of implicit regions: 0 inherit, 1 local, 3 preferred, 4 interleave (default 0)");
module_param_named(implicit_pinned, dvsm_implicit_pinned, bool, 0644);
MODULE_PARM_DESC(implicit_pinned, "whether implicit regions are pinned (default no)");

static int dvsm_device_open(struct inode *inode, struct file *file)
{
	struct dvsm_context *context = kzalloc(sizeof(*context), GFP_KERNEL_ACCOUNT);

	if (!context)
		return -ENOMEM;
	mutex_init(&context->lock);
	file->private_data = context;
	return 0;
}

static int dvsm_device_release(struct inode *inode, struct file *file)
{
	struct dvsm_context *context = file->private_data;

	if (context->implicit)
		fput(context->implicit);
	kfree(context);
	return 0;
}

static const struct file_operations dvsm_device_fops = {
	.owner			= THIS_MODULE,
	.open			= dvsm_device_open,
	.release		= dvsm_device_release,
	.mmap			= dvsm_context_mmap,
	.get_unmapped_area	= thp_get_unmapped_area,
	.llseek			= noop_llseek,
	.fsync			= noop_fsync,
	.unlocked_ioctl		= dvsm_ioctl,
	.compat_ioctl		= compat_ptr_ioctl,
	.uring_cmd		= dvsm_async_uring_cmd,
};

static struct miscdevice dvsm_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "dvsm",
	.fops	= &dvsm_device_fops,
	.mode	= 0660,
};

static int __init dvsm_init(void)
{
	int ret;

	ret = dvsm_inode_init();
	if (ret)
		return ret;
	ret = dvsm_share_init();
	if (ret)
		goto err_inode;
	dvsm_debugfs_init();
	ret = misc_register(&dvsm_device);
	if (ret)
		goto err_debugfs;
	return 0;

err_debugfs:
	dvsm_debugfs_exit();
	dvsm_share_exit();
err_inode:
	dvsm_inode_exit();
	return ret;
}

static void __exit dvsm_exit(void)
{
	misc_deregister(&dvsm_device);
	dvsm_follow_exit();
	dvsm_promote_exit();
	dvsm_debugfs_exit();
	dvsm_name_exit();
	dvsm_events_exit();
	dvsm_share_exit();
	dvsm_inode_exit();
	dvsm_balance_exit();
}

module_init(dvsm_init);
module_exit(dvsm_exit);
MODULE_DESCRIPTION("Dynamic virtual shared memory: huge, placed, shared regions");
MODULE_AUTHOR("The dvsm authors");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1");
