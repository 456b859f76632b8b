// SPDX-License-Identifier: GPL-2.0-only
/*
 * A region as a file: read, write, seek, allocate, describe.
 *
 * The generic iterators would allocate small folios and know nothing of node
 * policies, so these are our own. A reference on the folio is all that is held
 * while user memory is read or written: it may fault, on this very region too.
 */
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/huge_mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/seq_file.h>
#include <linux/splice.h>
#include <linux/uio.h>

#include "dvsm.h"

static const struct dvsm_placing dvsm_placing_current = { .here = NUMA_NO_NODE };

/*
 * Who opens is either our own dvsm_inode_open(), which does not come here, or
 * somebody with a path into /proc. He cannot be seen to hold a writable
 * descriptor, so he gets a readable one.
 */
static int dvsm_file_open(struct inode *inode, struct file *file)
{
	struct dvsm_region *region = inode->i_private;
	int ret;

	if (file->f_mode & FMODE_WRITE)
		return -EACCES;
	/* The other files may be closed meanwhile: what they pin must not go before this has a part in it. */
	ret = dvsm_inode_pin();
	if (ret)
		return ret;
	if (!atomic_inc_not_zero(&region->nr_files)) {
		dvsm_inode_unpin();
		return -ENXIO;
	}
	file->f_mode |= FMODE_PREAD;
	return 0;
}

/**
 * dvsm_file_release - The last reference on a struct file of a region is gone.
 * @inode: the region's
 * @file: the file
 *
 * Context: may sleep.
 * Return: 0.
 */
int dvsm_file_release(struct inode *inode, struct file *file)
{
	struct dvsm_region *region = inode->i_private;

	dvsm_pins_release(region, file);
	if (atomic_dec_and_test(&region->nr_files))
		dvsm_region_retire(region);
	dvsm_inode_unpin();
	return 0;
}

/* The folio at @pos for writing, referenced; allocated where there was none. */
static struct folio *dvsm_file_folio_write(struct dvsm_region *region, loff_t pos, bool *parts)
{
	struct dvsm_found found;
	struct folio *folio;

	down_read(&region->family->lock);
	folio = dvsm_content_get(region, pos >> PAGE_SHIFT, &dvsm_placing_current, true, &found);
	if (!IS_ERR(folio)) {
		dvsm_folio_mark_written(region, folio);
		folio_unlock(folio);
	}
	up_read(&region->family->lock);
	*parts = found.parts;
	return folio;
}

/*
 * How far from @pos one copy may go: to the end of the folio, or of the page if
 * the next one is elsewhere or lost.
 */
static size_t dvsm_file_span(struct folio *folio, bool parts, loff_t pos, size_t count)
{
	pgoff_t index = pos >> PAGE_SHIFT;
	size_t span;

	if (dvsm_folio_page_is_poisoned(folio, index))
		return 0;
	if (parts || (folio_test_large(folio) && folio_test_has_hwpoisoned(folio)))
		span = PAGE_SIZE - offset_in_page(pos);
	else
		span = folio_size(folio) - (pos - folio_pos(folio));
	return min(span, count);
}

/* One step of a read: what one folio holds, or one hole. */
static ssize_t dvsm_file_read_step(struct dvsm_region *region, loff_t pos, size_t count,
				   struct iov_iter *to)
{
	bool parts;
	struct folio *folio = dvsm_content_peek(region, pos >> PAGE_SHIFT, &parts);
	size_t span;
	ssize_t done;

	if (IS_ERR(folio))
		return PTR_ERR(folio);
	if (!folio) {
		loff_t next = (loff_t)dvsm_content_next(region, pos >> PAGE_SHIFT) << PAGE_SHIFT;

		/* A folio may have come meanwhile; then the page is zeroes still. */
		next = max_t(loff_t, next, round_down(pos, PAGE_SIZE) + PAGE_SIZE);
		span = min_t(loff_t, min_t(size_t, count, DVSM_CHUNK_SIZE), next - pos);
		return iov_iter_zero(span, to);
	}
	/*
	 * Not copy_page_to_iter(): older kernels lend the page itself to a pipe, and
	 * who reads the pipe may take it out of the page cache.
	 */
	span = dvsm_file_span(folio, parts, pos, count);
	if (span)
		done = copy_to_iter(folio_address(folio) + offset_in_folio(folio, pos), span, to);
	else
		done = -EHWPOISON;
	folio_put(folio);
	return done;
}

static ssize_t dvsm_file_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct dvsm_region *region = dvsm_file_region(iocb->ki_filp);
	ssize_t total = 0, done = 0;

	while (iov_iter_count(to) && iocb->ki_pos < region->length) {
		size_t count = min_t(u64, iov_iter_count(to), region->length - iocb->ki_pos);

		done = dvsm_file_read_step(region, iocb->ki_pos, count, to);
		if (done <= 0)
			break;
		iocb->ki_pos += done;
		total += done;
		if (dvsm_shall_stop())
			break;
		cond_resched();
	}
	if (total || !iov_iter_count(to) || iocb->ki_pos >= region->length)
		return total;
	return done ? done : -EFAULT;
}

static ssize_t dvsm_file_write_step(struct dvsm_region *region, loff_t pos, size_t count,
				    struct iov_iter *from)
{
	bool parts;
	struct folio *folio = dvsm_file_folio_write(region, pos, &parts);
	size_t span;
	ssize_t done;

	if (IS_ERR(folio))
		return PTR_ERR(folio) == -EDQUOT ? -ENOMEM : PTR_ERR(folio);
	span = dvsm_file_span(folio, parts, pos, count);
	if (span)
		done = copy_page_from_iter(folio_page(folio, (pos >> PAGE_SHIFT) - folio->index),
					   offset_in_page(pos), span, from);
	else
		done = -EHWPOISON;
	folio_put(folio);
	return done;
}

static ssize_t dvsm_file_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct dvsm_region *region = dvsm_file_region(iocb->ki_filp);
	ssize_t total = 0, done;

	done = generic_write_checks(iocb, from);
	if (done <= 0)
		return done;
	if (iocb->ki_pos >= region->length)
		return -EFBIG;

	while (iov_iter_count(from) && iocb->ki_pos < region->length) {
		size_t count = min_t(u64, iov_iter_count(from), region->length - iocb->ki_pos);

		done = dvsm_file_write_step(region, iocb->ki_pos, count, from);
		if (done <= 0)
			break;
		iocb->ki_pos += done;
		total += done;
		if (dvsm_shall_stop())
			break;
		cond_resched();
	}
	if (total)
		return total;
	return done ? done : -EFAULT;
}

/* The first page from @index on that has no memory. */
static pgoff_t dvsm_file_next_hole(struct dvsm_region *region, pgoff_t index)
{
	while (index < region->nr_pages) {
		bool parts;
		struct folio *folio = dvsm_content_peek(region, index, &parts);

		if (IS_ERR_OR_NULL(folio))
			break;
		index = parts ? index + 1 : folio->index + folio_nr_pages(folio);
		folio_put(folio);
		if (dvsm_is_interrupted())
			break;
	}
	return index;
}

static loff_t dvsm_file_llseek(struct file *file, loff_t offset, int whence)
{
	struct dvsm_region *region = dvsm_file_region(file);
	loff_t found;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return generic_file_llseek(file, offset, whence);
	if (offset < 0 || offset >= region->length)
		return -ENXIO;

	if (whence == SEEK_DATA)
		found = (loff_t)dvsm_content_next(region, offset >> PAGE_SHIFT) << PAGE_SHIFT;
	else
		found = (loff_t)dvsm_file_next_hole(region, offset >> PAGE_SHIFT) << PAGE_SHIFT;
	found = clamp_t(loff_t, found, offset, region->length);
	if (whence == SEEK_DATA && found == region->length)
		return -ENXIO;
	return vfs_setpos(file, found, region->length);
}

static long dvsm_file_fallocate(struct file *file, int mode, loff_t offset, loff_t length)
{
	struct dvsm_region *region = dvsm_file_region(file);
	loff_t end = offset + length;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
		return -EOPNOTSUPP;
	/* MADV_REMOVE in a forked copy comes with the file of the region that was copied. */
	if ((mode & FALLOC_FL_PUNCH_HOLE) && (region->flags & DVSM_REGION_F_FORK_COPY))
		return -EOPNOTSUPP;
	if (mode & FALLOC_FL_PUNCH_HOLE)
		return dvsm_region_discard(region, min_t(u64, offset, region->length),
					   min_t(u64, end, region->length), NULL);
	if (end > region->length)
		return -EFBIG;
	return dvsm_region_populate(region, round_down(offset, PAGE_SIZE),
				    round_up(end, PAGE_SIZE), 0, NUMA_NO_NODE, NULL);
}

/* All that DVSM_IOC_REGION_INFO tells; the flag READ_ONLY is the descriptor's, not the region's. */
static void dvsm_file_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct dvsm_region *region = dvsm_file_region(file);
	struct dvsm_region_info info = {};

	dvsm_region_info_fill(region, &info);
	seq_printf(m, "dvsm-id:\t%llu\n", info.out_id);
	seq_printf(m, "dvsm-label:\t%s\n", region->label);
	seq_printf(m, "dvsm-length:\t%llu\n", info.out_length);
	seq_printf(m, "dvsm-flags:\t%#x\n", info.out_flags);
	seq_printf(m, "dvsm-policy:\t%u\n", info.out_policy);
	seq_printf(m, "dvsm-resident:\t%llu\n", info.out_resident);
	seq_printf(m, "dvsm-resident-huge:\t%llu\n", info.out_resident_huge);
	seq_printf(m, "dvsm-resident-peak:\t%llu\n", info.out_resident_peak);
	seq_printf(m, "dvsm-pinned:\t%llu\n", info.out_pinned);
	seq_printf(m, "dvsm-parent:\t%llu\n", info.out_parent_id);
	seq_printf(m, "dvsm-taken-offset:\t%llu\n", info.out_taken_offset);
	seq_printf(m, "dvsm-taken-length:\t%llu\n", info.out_taken_length);
	seq_printf(m, "dvsm-shared:\t%llu\n", info.out_shared);
	seq_printf(m, "dvsm-cow-faults:\t%llu\n", info.out_nr_cow_faults);
	seq_puts(m, "dvsm-cow-faults-nodes:\t");
	dvsm_region_show_cow_faults(m, region);
	seq_putc(m, '\n');
	seq_printf(m, "dvsm-copied:\t%llu\n", info.out_copied);
	seq_printf(m, "dvsm-faults:\t%llu\n", info.out_nr_faults);
	seq_printf(m, "dvsm-faults-alloc:\t%llu\n", info.out_nr_faults_alloc);
	seq_printf(m, "dvsm-faults-private:\t%llu\n", info.out_nr_faults_private);
	seq_printf(m, "dvsm-faults-remote:\t%llu\n", info.out_nr_faults_remote);
	seq_printf(m, "dvsm-faults-parts:\t%llu\n", info.out_nr_faults_parts);
	seq_printf(m, "dvsm-fallbacks:\t%llu\n", info.out_nr_fallbacks);
	seq_printf(m, "dvsm-misses:\t%llu\n", info.out_nr_misses);
	seq_printf(m, "dvsm-failures:\t%llu\n", info.out_nr_failures);
	seq_printf(m, "dvsm-moved:\t%llu\n", info.out_nr_moved);
	seq_printf(m, "dvsm-lost:\t%llu\n", info.out_nr_lost);
	seq_printf(m, "dvsm-merges:\t%llu\n", info.out_nr_merges);
	seq_printf(m, "dvsm-conflicts:\t%llu\n", info.out_nr_conflicts);
}

const struct file_operations dvsm_file_fops = {
	.owner			= THIS_MODULE,
	.open			= dvsm_file_open,
	.release		= dvsm_file_release,
	.llseek			= dvsm_file_llseek,
	.read_iter		= dvsm_file_read_iter,
	.write_iter		= dvsm_file_write_iter,
	.splice_read		= copy_splice_read,
	.splice_write		= iter_file_splice_write,
	.mmap			= dvsm_region_mmap,
	.get_unmapped_area	= thp_get_unmapped_area,
	.fsync			= noop_fsync,
	.fallocate		= dvsm_file_fallocate,
	.unlocked_ioctl		= dvsm_ioctl,
	.compat_ioctl		= compat_ptr_ioctl,
	.uring_cmd		= dvsm_async_uring_cmd,
	.show_fdinfo		= dvsm_file_show_fdinfo,
};

static int dvsm_fork_release(struct inode *inode, struct file *file)
{
	fput(file->private_data);
	return dvsm_file_release(inode, file);
}

/* What mappings of regions hold that fork() copies: fork.c. */
const struct file_operations dvsm_fork_fops = {
	.owner			= THIS_MODULE,
	.release		= dvsm_fork_release,
	.get_unmapped_area	= thp_get_unmapped_area,
	.fsync			= noop_fsync,
	.fallocate		= dvsm_file_fallocate,
};
