// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device in software that imports dma-bufs, for tests.
 *
 * One for each open of /dev/dvsm_importer. It is a platform device with the DMA
 * mask and the limits that the test asks for, and reads and writes what its DMA
 * addresses name, as a real device would: where a bounce buffer is in between, it
 * sees the bounce buffer. Right only where bus and physical addresses are the same:
 * x86 without memory encryption, no IOMMU for platform devices.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/iosys-map.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "importer.h"

struct importer {
	struct mutex lock;		/* everything below */
	struct platform_device *device;	/* NULL until the first attach */
	struct device_dma_parameters dma_parms;
	struct dma_buf *dmabuf;		/* NULL until attached */
	struct dma_buf_attachment *attachment;
	struct sg_table *table;		/* NULL unless mapped */
	bool keep;
	struct list_head link;		/* importer_lock; of kept ones */
};

static DEFINE_MUTEX(importer_lock);
static LIST_HEAD(importer_kept);	/* importer_lock */

static int importer_make_device(struct importer *importer, const struct importer_attach *arg)
{
	struct platform_device *device;
	struct device *dev;

	device = platform_device_register_simple("dvsm_importer", PLATFORM_DEVID_AUTO, NULL, 0);
	if (IS_ERR(device))
		return PTR_ERR(device);
	dev = &device->dev;
	dev->dma_parms = &importer->dma_parms;
	dma_set_max_seg_size(dev, arg->segment_max);
	dma_set_seg_boundary(dev, arg->segment_boundary);
	importer->device = device;
	return dma_coerce_mask_and_coherent(dev, arg->dma_mask);
}

static int importer_attach(struct importer *importer, void __user *user)
{
	struct importer_attach arg;
	struct dma_buf *dmabuf;
	int ret;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (importer->dmabuf)
		return -EBUSY;
	ret = importer->device ? 0 : importer_make_device(importer, &arg);
	if (ret)
		return ret;
	dmabuf = dma_buf_get(arg.fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	importer->attachment = dma_buf_attach(dmabuf, &importer->device->dev);
	if (IS_ERR(importer->attachment)) {
		dma_buf_put(dmabuf);
		return PTR_ERR(importer->attachment);
	}
	importer->dmabuf = dmabuf;
	return 0;
}

static bool importer_entry_is_wrong(struct importer *importer, struct scatterlist *sg,
				    dma_addr_t previous_end, unsigned int previous_length)
{
	struct device *dev = &importer->device->dev;
	dma_addr_t start = sg_dma_address(sg), last = start + sg_dma_len(sg) - 1;
	unsigned long boundary = dma_get_seg_boundary(dev);

	if (!sg_dma_len(sg) || !PAGE_ALIGNED(sg_dma_len(sg)) || !PAGE_ALIGNED(start))
		return true;
	if (sg_dma_len(sg) > dma_get_max_seg_size(dev) || last > dma_get_mask(dev))
		return true;
	if ((start & ~boundary) != (last & ~boundary))
		return true;
	/* Could it have been one with the entry before? */
	return previous_length && previous_end == start &&
	       (u64)previous_length + sg_dma_len(sg) <= dma_get_max_seg_size(dev) &&
	       ((previous_end - previous_length) & ~boundary) == (last & ~boundary);
}

static int importer_map(struct importer *importer, void __user *user)
{
	struct importer_map arg = {};
	unsigned int previous_length = 0, i;
	dma_addr_t previous_end = 0;
	struct scatterlist *sg;
	struct sg_table *table;

	if (!importer->dmabuf || importer->table)
		return -EINVAL;
	table = dma_buf_map_attachment_unlocked(importer->attachment, DMA_BIDIRECTIONAL);
	if (IS_ERR(table))
		return PTR_ERR(table);
	importer->table = table;
	for_each_sgtable_dma_sg(table, sg, i) {
		arg.out_nr_entries++;
		arg.out_total += sg_dma_len(sg);
		arg.out_longest = max_t(u64, arg.out_longest, sg_dma_len(sg));
		arg.out_nr_wrong += importer_entry_is_wrong(importer, sg, previous_end,
							    previous_length);
		previous_length = sg_dma_len(sg);
		previous_end = sg_dma_address(sg) + previous_length;
	}
	return copy_to_user(user, &arg, sizeof(arg)) ? -EFAULT : 0;
}

static int importer_unmap(struct importer *importer)
{
	if (!importer->table)
		return -EINVAL;
	dma_buf_unmap_attachment_unlocked(importer->attachment, importer->table,
					  DMA_BIDIRECTIONAL);
	importer->table = NULL;
	return 0;
}

static void importer_detach(struct importer *importer)
{
	if (importer->table)
		importer_unmap(importer);
	if (importer->dmabuf) {
		dma_buf_detach(importer->dmabuf, importer->attachment);
		dma_buf_put(importer->dmabuf);
		importer->dmabuf = NULL;
	}
}

/*
 * Returns whether all could be copied. Page by page: the kernel takes it for a bug to
 * copy beyond a folio.
 */
static bool importer_copy_some(void *address, void __user *user, size_t length, u32 flags)
{
	while (length) {
		size_t step = min_t(size_t, length, PAGE_SIZE - offset_in_page(address));
		unsigned long left;

		if (flags & IMPORTER_F_WRITE)
			left = copy_from_user(address, user, step);
		else
			left = copy_to_user(user, address, step);
		if (left)
			return false;
		address += step;
		user += step;
		length -= step;
	}
	return true;
}

static int importer_copy_vmap(struct importer *importer, const struct importer_copy *arg)
{
	struct iosys_map map;
	int ret;

	ret = dma_buf_vmap_unlocked(importer->dmabuf, &map);
	if (ret)
		return ret;
	if (!importer_copy_some(map.vaddr + arg->offset, u64_to_user_ptr(arg->user), arg->length,
				arg->flags))
		ret = -EFAULT;
	dma_buf_vunmap_unlocked(importer->dmabuf, &map);
	return ret;
}

static int importer_copy_dma(struct importer *importer, const struct importer_copy *arg)
{
	u64 user = arg->user, at = 0, end = arg->offset + arg->length;
	struct scatterlist *sg;
	unsigned int i;

	if (!importer->table)
		return -EINVAL;
	for_each_sgtable_dma_sg(importer->table, sg, i) {
		u64 from = max(at, arg->offset), to = min(at + sg_dma_len(sg), end);

		if (from < to) {
			if (!importer_copy_some(phys_to_virt(sg_dma_address(sg) + (from - at)),
						u64_to_user_ptr(user), to - from, arg->flags))
				return -EFAULT;
			user += to - from;
		}
		at += sg_dma_len(sg);
	}
	return 0;
}

static int importer_copy(struct importer *importer, void __user *user)
{
	struct importer_copy arg;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (!importer->dmabuf || arg.offset > importer->dmabuf->size ||
	    arg.length > importer->dmabuf->size - arg.offset)
		return -EINVAL;
	if (arg.flags & IMPORTER_F_VMAP)
		return importer_copy_vmap(importer, &arg);
	return importer_copy_dma(importer, &arg);
}

static void importer_free(struct importer *importer)
{
	importer_detach(importer);
	if (importer->device)
		platform_device_unregister(importer->device);
	kfree(importer);
}

static void importer_release_kept(void)
{
	struct importer *importer, *next;

	mutex_lock(&importer_lock);
	list_for_each_entry_safe(importer, next, &importer_kept, link) {
		list_del(&importer->link);
		importer_free(importer);
	}
	mutex_unlock(&importer_lock);
}

static int importer_command(struct importer *importer, unsigned int cmd, void __user *user)
{
	switch (cmd) {
	case IMPORTER_ATTACH:
		return importer_attach(importer, user);
	case IMPORTER_DETACH:
		importer_detach(importer);
		return 0;
	case IMPORTER_MAP:
		return importer_map(importer, user);
	case IMPORTER_UNMAP:
		return importer_unmap(importer);
	case IMPORTER_COPY:
		return importer_copy(importer, user);
	case IMPORTER_KEEP:
		importer->keep = true;
		return 0;
	case IMPORTER_RELEASE_KEPT:
		importer_release_kept();
		return 0;
	default:
		return -ENOTTY;
	}
}

static long importer_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct importer *importer = file->private_data;
	int ret;

	mutex_lock(&importer->lock);
	ret = importer_command(importer, cmd, (void __user *)arg);
	mutex_unlock(&importer->lock);
	return ret;
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct importer *importer = kzalloc(sizeof(*importer), GFP_KERNEL);

	if (!importer)
		return -ENOMEM;
	mutex_init(&importer->lock);
	file->private_data = importer;
	return 0;
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct importer *importer = file->private_data;

	if (!importer->keep) {
		importer_free(importer);
		return 0;
	}
	mutex_lock(&importer_lock);
	list_add(&importer->link, &importer_kept);
	mutex_unlock(&importer_lock);
	return 0;
}

static const struct file_operations importer_fops = {
	.owner		= THIS_MODULE,
	.open		= importer_open,
	.release	= importer_release,
	.unlocked_ioctl	= importer_ioctl,
};

static struct miscdevice importer_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "dvsm_importer",
	.fops	= &importer_fops,
	.mode	= 0600,
};

static int __init importer_init(void)
{
	return misc_register(&importer_device);
}

static void __exit importer_exit(void)
{
	misc_deregister(&importer_device);
	importer_release_kept();
}

module_init(importer_init);
module_exit(importer_exit);
MODULE_DESCRIPTION("Imports dma-bufs, for tests of dvsm");
MODULE_AUTHOR("The dvsm authors");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
