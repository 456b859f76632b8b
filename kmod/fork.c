// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions that fork() copies.
 *
 * Who maps a region made with DVSM_REGION_F_FORK_COPY shares it, as any other; but
 * a child that is forked gets, in place of the mapping, one of a snapshot. It is taken
 * when the core has copied the mapping for the child. Then the parent's mmap_lock is held
 * for writing, and the mapping's own lock: a thread of the parent that writes to what is
 * shared now waits until the fork is over, as it does with memory of its own. So the
 * child sees all that a thread wrote before some moment, and nothing of what it wrote
 * after that, be it here or elsewhere. And it is nobody's duty: fork(), clone() and
 * whatever does without a C library come this way.
 *
 * The core puts the copied mapping into the i_mmap of the parent's file after we
 * were asked, so the file cannot be exchanged. It stays; vm_private_data says what the
 * mapping reads:
 *
 *   NULL             the region of its file
 *   struct file      the region of this one, a snapshot; the mapping has a reference
 *   error pointer    nothing: the snapshot could not be taken
 *
 * The file is one that nothing can be mapped from, for remap_file_pages() would put what
 * it gives in the place of the copy. Its private_data is the file that was mapped, which
 * has pins and lives as long as the mapping.
 *
 * region->anchor is the inode in whose i_mmap such mappings of a snapshot are. They are
 * not merged and do not grow (VM_DONTEXPAND), as the core does not compare
 * vm_private_data.
 */
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "dvsm.h"

/**
 * dvsm_vma_region - The region that a mapping reads.
 * @vma: a mapping of a region's file
 *
 * Context: the mapping is held.
 * Return: the region, or NULL if there is none.
 */
struct dvsm_region *dvsm_vma_region(const struct vm_area_struct *vma)
{
	struct file *file = vma->vm_private_data;

	if (IS_ERR(file))
		return NULL;
	return dvsm_file_region(file ? file : vma->vm_file);
}

static struct file *dvsm_fork_take(const struct vm_area_struct *vma)
{
	struct dvsm_region *region = dvsm_vma_region(vma);
	u64 start = (u64)vma->vm_pgoff << PAGE_SHIFT;
	u64 end = start + (vma->vm_end - vma->vm_start);

	if (!region)
		return vma->vm_private_data;
	start = min(round_down(start, DVSM_CHUNK_SIZE), region->length);
	end = min(round_up(end, DVSM_CHUNK_SIZE), region->length);
	return dvsm_snapshot_take(region, file_inode(vma->vm_file), start, end, region->label, 0,
				  DVSM_CHUNK_SIZE);
}

/**
 * dvsm_fork_mmap - A mapping of a region that fork() copies begins.
 * @file: one of the region's files
 * @vma: the new mapping
 *
 * Context: mmap_lock held for writing.
 * Return: 0 or -ENOMEM.
 */
int dvsm_fork_mmap(struct file *file, struct vm_area_struct *vma)
{
	int flags = file->f_mode & FMODE_WRITE ? O_RDWR : O_RDONLY;
	struct file *mapped = dvsm_inode_open_as(file_inode(file), flags, &dvsm_fork_fops);

	if (IS_ERR(mapped))
		return PTR_ERR(mapped);
	mapped->private_data = get_file(file);
	vma_set_file(vma, mapped);
	fput(mapped);
	vm_flags_set(vma, VM_DONTEXPAND);
	return 0;
}

/**
 * dvsm_fork_open - ->open of a mapping of a region that fork() copies.
 * @vma: the new mapping: a child's, or a part of one that was split or moved
 *
 * Context: mmap_lock of the mapping's process, and of the parent, held for writing.
 */
void dvsm_fork_open(struct vm_area_struct *vma)
{
	if (vma->vm_mm != current->mm && (vma->vm_flags & VM_MAYSHARE))
		vma->vm_private_data = dvsm_fork_take(vma);
	else if (!IS_ERR_OR_NULL(vma->vm_private_data))
		get_file(vma->vm_private_data);
}

/**
 * dvsm_fork_close - ->close of a mapping of a region that fork() copies.
 * @vma: the mapping, in which nothing is mapped any more
 *
 * Context: may sleep.
 */
void dvsm_fork_close(struct vm_area_struct *vma)
{
	if (!IS_ERR_OR_NULL(vma->vm_private_data))
		fput(vma->vm_private_data);
}

/* Whether the file that was mapped gives all of its region: that of a dma-buf does not. */
static bool dvsm_vma_is_of_region(const struct vm_area_struct *vma)
{
	const struct file *file = vma->vm_file;

	if (file && file->f_op == &dvsm_fork_fops)
		file = file->private_data;
	return file && dvsm_file_is_region(file);
}

/* The file that a mapping of the caller's reads, with a reference, and whether he may write. */
static struct file *dvsm_vma_file_get(u64 address, u64 *offset, bool *writable)
{
	struct file *file = ERR_PTR(-ENOENT);
	struct vm_area_struct *vma;

	if (address >= TASK_SIZE)
		return file;
	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, address);
	if (vma && dvsm_vma_is_of_region(vma)) {
		file = vma->vm_private_data ? vma->vm_private_data : vma->vm_file;
		if (!IS_ERR(file))
			get_file(file);
		*offset = ((u64)vma->vm_pgoff << PAGE_SHIFT) + (address - vma->vm_start);
		*writable = vma->vm_file->f_mode & FMODE_WRITE;
	}
	mmap_read_unlock(current->mm);
	return file;
}

/**
 * dvsm_vma_open - DVSM_IOC_REGION_FIND.
 * @address: in a mapping of the caller's
 * @offset: receives where in the region it is
 *
 * Context: process.
 * Return: a new file on the region that is mapped there, for writing if the mapping's is; -ENOENT, -ENOMEM.
 */
struct file *dvsm_vma_open(u64 address, u64 *offset)
{
	bool writable = false;
	struct file *file, *held = dvsm_vma_file_get(address, offset, &writable);

	if (IS_ERR(held))
		return held;
	file = dvsm_inode_open(file_inode(held), writable ? O_RDWR : O_RDONLY);
	fput(held);
	return file;
}
