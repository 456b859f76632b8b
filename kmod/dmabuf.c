// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ranges of regions as dma-bufs, for drivers that are not ours.
 *
 * An export is a struct file on the region's inode that can do one thing, be mapped
 * within the range, and that holds a pin on the range. The dma-buf holds that file,
 * and so does every mapping that is made through the dma-buf: the memory stays
 * until the last importer, descriptor and mapping are gone, whatever becomes of
 * the region's own descriptors and of the process.
 *
 * The memory is pinned, so an importer is never told to let go (no move_notify),
 * and what a device writes needs no notice.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/iosys-map.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dvsm.h"

MODULE_IMPORT_NS(DMA_BUF);

struct dvsm_export {
	struct file *file;		/* whose private_data is the pin, which it owns */
	struct mutex lock;
	struct list_head mappings;	/* @lock */
};

/* One dma_buf_map_attachment(). */
struct dvsm_mapping {
	struct sg_table table;
	struct list_head link;		/* export->lock */
	struct device *dev;
	enum dma_data_direction direction;
};

/* A place in a pin. */
struct dvsm_cursor {
	const struct dvsm_pin *pin;
	unsigned long index;		/* page of the region */
	unsigned long folio;		/* that holds it, an element of pin->folios */
};

static struct dvsm_pin *dvsm_export_pin(const struct dvsm_export *export)
{
	return export->file->private_data;
}

static unsigned long dvsm_export_nr_pages(const struct dvsm_export *export)
{
	const struct dvsm_pin *pin = dvsm_export_pin(export);

	return pin->last - pin->first + 1;
}

static struct page *dvsm_cursor_page(const struct dvsm_cursor *cursor)
{
	struct folio *folio = cursor->pin->folios[cursor->folio];

	return folio_page(folio, cursor->index - folio->index);
}

/* Go on to the end of the folio, but @nr_max pages at most. Returns the pages passed. */
static unsigned long dvsm_cursor_step(struct dvsm_cursor *cursor, unsigned long nr_max)
{
	struct folio *folio = cursor->pin->folios[cursor->folio];
	unsigned long end = min(folio->index + folio_nr_pages(folio), cursor->pin->last + 1);
	unsigned long nr = min(nr_max, end - cursor->index);

	cursor->index += nr;
	if (cursor->index == folio->index + folio_nr_pages(folio))
		cursor->folio++;
	return nr;
}

static bool dvsm_cursor_is_at_end(const struct dvsm_cursor *cursor)
{
	return cursor->index > cursor->pin->last;
}

/* Pages that one entry of @dev's scatter lists may have, from @page on. */
static unsigned long dvsm_segment_max(struct device *dev, struct page *page)
{
	unsigned long boundary = dma_get_seg_boundary(dev);
	unsigned long size = min_t(unsigned long, dma_get_max_seg_size(dev),
				   dma_max_mapping_size(dev));
	unsigned long last = boundary - (page_to_phys(page) & boundary);

	return max(min(size >> PAGE_SHIFT, (last >> PAGE_SHIFT) + 1), 1UL);
}

/* The next physically contiguous piece that @dev can take as one. Returns its pages. */
static unsigned long dvsm_cursor_piece(struct dvsm_cursor *cursor, struct device *dev,
				       struct page **page)
{
	unsigned long nr = 0, nr_max;

	*page = dvsm_cursor_page(cursor);
	nr_max = dvsm_segment_max(dev, *page);
	do {
		nr += dvsm_cursor_step(cursor, nr_max - nr);
	} while (nr < nr_max && !dvsm_cursor_is_at_end(cursor) &&
		 page_to_pfn(dvsm_cursor_page(cursor)) == page_to_pfn(*page) + nr);
	return nr;
}

static int dvsm_export_fill_table(const struct dvsm_export *export, struct device *dev,
				  struct sg_table *table)
{
	const struct dvsm_pin *pin = dvsm_export_pin(export);
	struct dvsm_cursor start = { .pin = pin, .index = pin->first }, cursor = start;
	struct scatterlist *sg;
	unsigned int nr = 0, i;
	struct page *page;
	int ret;

	while (!dvsm_cursor_is_at_end(&cursor)) {
		dvsm_cursor_piece(&cursor, dev, &page);
		nr++;
	}
	ret = sg_alloc_table(table, nr, DVSM_GFP);
	if (ret)
		return ret;
	cursor = start;
	for_each_sgtable_sg(table, sg, i) {
		unsigned long nr_pages = dvsm_cursor_piece(&cursor, dev, &page);

		sg_set_page(sg, page, nr_pages << PAGE_SHIFT, 0);
	}
	return 0;
}

/*
 * Several devices may have the same memory at a time. The kernel's DMA debugging takes
 * that for a mistake unless mapping and handing over are two steps.
 */
static int dvsm_mapping_init(struct dvsm_mapping *mapping)
{
	int ret = dma_map_sgtable(mapping->dev, &mapping->table, mapping->direction,
				  DMA_ATTR_SKIP_CPU_SYNC);

	if (!ret)
		dma_sync_sgtable_for_device(mapping->dev, &mapping->table, mapping->direction);
	return ret;
}

static void dvsm_mapping_exit(struct dvsm_mapping *mapping)
{
	dma_sync_sgtable_for_cpu(mapping->dev, &mapping->table, mapping->direction);
	dma_unmap_sgtable(mapping->dev, &mapping->table, mapping->direction,
			  DMA_ATTR_SKIP_CPU_SYNC);
}

static struct sg_table *dvsm_dmabuf_map(struct dma_buf_attachment *attachment,
					enum dma_data_direction direction)
{
	struct dvsm_export *export = attachment->dmabuf->priv;
	struct dvsm_mapping *mapping = kzalloc(sizeof(*mapping), DVSM_GFP);
	int ret;

	if (!mapping)
		return ERR_PTR(-ENOMEM);
	mapping->dev = attachment->dev;
	mapping->direction = direction;
	ret = dvsm_export_fill_table(export, attachment->dev, &mapping->table);
	if (ret)
		goto err_free;
	ret = dvsm_mapping_init(mapping);
	if (ret)
		goto err_table;
	mutex_lock(&export->lock);
	list_add(&mapping->link, &export->mappings);
	mutex_unlock(&export->lock);
	return &mapping->table;

err_table:
	sg_free_table(&mapping->table);
err_free:
	kfree(mapping);
	return ERR_PTR(ret);
}

static void dvsm_dmabuf_unmap(struct dma_buf_attachment *attachment, struct sg_table *table,
			      enum dma_data_direction direction)
{
	struct dvsm_mapping *mapping = container_of(table, struct dvsm_mapping, table);
	struct dvsm_export *export = attachment->dmabuf->priv;

	mutex_lock(&export->lock);
	list_del(&mapping->link);
	mutex_unlock(&export->lock);
	dvsm_mapping_exit(mapping);
	sg_free_table(table);
	kfree(mapping);
}

static int dvsm_dmabuf_begin_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction direction)
{
	struct dvsm_export *export = dmabuf->priv;
	struct dvsm_mapping *mapping;

	mutex_lock(&export->lock);
	list_for_each_entry(mapping, &export->mappings, link)
		dma_sync_sgtable_for_cpu(mapping->dev, &mapping->table, mapping->direction);
	mutex_unlock(&export->lock);
	return 0;
}

static int dvsm_dmabuf_end_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction direction)
{
	struct dvsm_export *export = dmabuf->priv;
	struct dvsm_mapping *mapping;

	mutex_lock(&export->lock);
	list_for_each_entry(mapping, &export->mappings, link)
		dma_sync_sgtable_for_device(mapping->dev, &mapping->table, mapping->direction);
	mutex_unlock(&export->lock);
	return 0;
}

/* The core has made sure that the mapping lies in the dma-buf. */
static int dvsm_dmabuf_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct dvsm_export *export = dmabuf->priv;

	vma->vm_pgoff += dvsm_export_pin(export)->first;
	vma_set_file(vma, export->file);
	return call_mmap(export->file, vma);
}

static int dvsm_dmabuf_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct dvsm_export *export = dmabuf->priv;
	const struct dvsm_pin *pin = dvsm_export_pin(export);
	struct dvsm_cursor cursor = { .pin = pin, .index = pin->first };
	unsigned long nr_pages = dvsm_export_nr_pages(export), i;
	struct page **pages;
	void *address;

	pages = kvmalloc_array(nr_pages, sizeof(*pages), DVSM_GFP);
	if (!pages)
		return -ENOMEM;
	for (i = 0; i < nr_pages; i++) {
		pages[i] = dvsm_cursor_page(&cursor);
		dvsm_cursor_step(&cursor, 1);
	}
	address = vmap(pages, nr_pages, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	if (!address)
		return -ENOMEM;
	iosys_map_set_vaddr(map, address);
	return 0;
}

static void dvsm_dmabuf_vunmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	vunmap(map->vaddr);
}

static void dvsm_dmabuf_release(struct dma_buf *dmabuf)
{
	struct dvsm_export *export = dmabuf->priv;

	fput(export->file);
	kfree(export);
}

static const struct dma_buf_ops dvsm_dmabuf_ops = {
	.map_dma_buf		= dvsm_dmabuf_map,
	.unmap_dma_buf		= dvsm_dmabuf_unmap,
	.begin_cpu_access	= dvsm_dmabuf_begin_cpu_access,
	.end_cpu_access		= dvsm_dmabuf_end_cpu_access,
	.mmap			= dvsm_dmabuf_mmap,
	.vmap			= dvsm_dmabuf_vmap,
	.vunmap			= dvsm_dmabuf_vunmap,
	.release		= dvsm_dmabuf_release,
};

/*
 * The mapping must not grow beyond the range, which is all that its owner was
 * given of the region.
 */
static int dvsm_export_mmap(struct file *file, struct vm_area_struct *vma)
{
	const struct dvsm_pin *pin = file->private_data;

	if (vma->vm_pgoff < pin->first || vma->vm_pgoff + vma_pages(vma) > pin->last + 1)
		return -EINVAL;
	vm_flags_set(vma, VM_DONTEXPAND);
	return dvsm_region_mmap(file, vma);
}

static const struct file_operations dvsm_export_fops = {
	.owner		= THIS_MODULE,
	.mmap		= dvsm_export_mmap,
	.release	= dvsm_file_release,
};

static struct file *dvsm_export_open(struct dvsm_region *region, loff_t start, loff_t end)
{
	struct file *file = dvsm_inode_open_as(region->inode, O_RDWR, &dvsm_export_fops);
	struct dvsm_pin *pin;

	if (IS_ERR(file))
		return file;
	pin = dvsm_pin_create(region, file, DVSM_PIN_DMABUF, start, end);
	if (IS_ERR(pin)) {
		fput(file);
		return ERR_CAST(pin);
	}
	file->private_data = pin;
	return file;
}

/**
 * dvsm_region_export_dmabuf - Make a dma-buf of a range.
 * @region: the region
 * @start: first byte, page aligned
 * @end: the byte after the last, page aligned, above @start
 *
 * Context: process; may sleep; no dvsm lock held.
 * Return: the dma-buf's file, or what dvsm_pin_create() returns.
 */
struct file *dvsm_region_export_dmabuf(struct dvsm_region *region, loff_t start, loff_t end)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct dvsm_export *export = kzalloc(sizeof(*export), GFP_KERNEL_ACCOUNT);
	struct dma_buf *dmabuf;
	int ret;

	if (!export)
		return ERR_PTR(-ENOMEM);
	mutex_init(&export->lock);
	INIT_LIST_HEAD(&export->mappings);
	export->file = dvsm_export_open(region, start, end);
	if (IS_ERR(export->file)) {
		ret = PTR_ERR(export->file);
		goto err_free;
	}
	info.ops = &dvsm_dmabuf_ops;
	info.size = end - start;
	info.flags = O_RDWR;
	info.priv = export;
	dmabuf = dma_buf_export(&info);
	if (!IS_ERR(dmabuf))
		return dmabuf->file;
	ret = PTR_ERR(dmabuf);
	fput(export->file);
err_free:
	kfree(export);
	return ERR_PTR(ret);
}
