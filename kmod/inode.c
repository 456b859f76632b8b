// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pseudo file system whose inodes are regions.
 *
 * An inode of its own gives a region a length that fstat() tells and the fault
 * path of newer kernels checks, an address_space that unmap_mapping_range() can
 * search, and a lifetime that the core counts. Nothing here can be reached by a
 * path name.
 *
 * The file system is mounted while a region's file is open. A mount holds the
 * module through the file system's owner, and whoever holds an inode here by a path
 * holds a mount, be it by an O_PATH descriptor that the module never hears of. So rmmod
 * is refused until the last inode has been evicted.
 */
#include <linux/dcache.h>
#include <linux/fsnotify.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/random.h>
#include <linux/slab.h>

#include "dvsm.h"

#define DVSM_SUPER_MAGIC	0x6476736d	/* "dvsm" */

/* Guarded by simple_pin_fs(). */
static struct vfsmount *dvsm_mnt;
static int dvsm_mnt_count;

static struct kmem_cache *dvsm_inode_cache;

static void dvsm_inode_init_once(void *inode)
{
	inode_init_once(inode);
}

/* The core would have a process of the cgroup that pays killed for want of memory. */
static struct inode *dvsm_inode_alloc(struct super_block *sb)
{
	return alloc_inode_sb(sb, dvsm_inode_cache, DVSM_GFP);
}

static void dvsm_inode_free(struct inode *inode)
{
	kmem_cache_free(dvsm_inode_cache, inode);
}

static void dvsm_inode_evict(struct inode *inode)
{
	struct dvsm_region *region = inode->i_private;

	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	if (region)
		dvsm_region_free(region);
}

static const struct super_operations dvsm_super_ops = {
	.alloc_inode	= dvsm_inode_alloc,
	.free_inode	= dvsm_inode_free,
	.evict_inode	= dvsm_inode_evict,
	.drop_inode	= generic_delete_inode,
	.statfs		= simple_statfs,
};

/* What maps, lsof and /proc/PID/fd show: /dvsm:LABEL (ID). */
static char *dvsm_dentry_name(struct dentry *dentry, char *buffer, int buflen)
{
	struct dvsm_region *region = d_inode(dentry)->i_private;
	char name[DVSM_NAME_MAX + 32];
	int len;

	len = scnprintf(name, sizeof(name), "/dvsm:%s (%llu)", region->label, region->id) + 1;
	if (len > buflen)
		return ERR_PTR(-ENAMETOOLONG);
	return memcpy(buffer + buflen - len, name, len);
}

static const struct dentry_operations dvsm_dentry_ops = {
	.d_dname	= dvsm_dentry_name,
};

static int dvsm_fs_init_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, DVSM_SUPER_MAGIC);

	if (!ctx)
		return -ENOMEM;
	ctx->ops = &dvsm_super_ops;
	ctx->dops = &dvsm_dentry_ops;
	return 0;
}

static struct file_system_type dvsm_fs_type = {
	.owner			= THIS_MODULE,
	.name			= "dvsm",
	.init_fs_context	= dvsm_fs_init_context,
	.kill_sb		= kill_anon_super,
};

/**
 * dvsm_inode_init - Make ready for inodes.
 *
 * Context: module init.
 * Return: 0 or -ENOMEM.
 */
int dvsm_inode_init(void)
{
	dvsm_inode_cache = kmem_cache_create("dvsm_inode", sizeof(struct inode), 0,
					     SLAB_ACCOUNT, dvsm_inode_init_once);
	return dvsm_inode_cache ? 0 : -ENOMEM;
}

/**
 * dvsm_inode_exit - Undo dvsm_inode_init().
 *
 * Context: module exit; no region is left.
 */
void dvsm_inode_exit(void)
{
	/* Inodes are freed by RCU. */
	rcu_barrier();
	kmem_cache_destroy(dvsm_inode_cache);
}

/**
 * dvsm_inode_pin - Keep the file system mounted.
 *
 * Every open file does, so that all regions that can be reached are in the one that
 * dvsm_mnt names.
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int dvsm_inode_pin(void)
{
	return simple_pin_fs(&dvsm_fs_type, &dvsm_mnt, &dvsm_mnt_count);
}

/**
 * dvsm_inode_unpin - Undo dvsm_inode_pin().
 *
 * Context: may sleep; not in the eviction of an inode.
 */
void dvsm_inode_unpin(void)
{
	simple_release_fs(&dvsm_mnt, &dvsm_mnt_count);
}

/* A region has the length it was made with, and the access its files have. */
static int dvsm_inode_setattr(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr)
{
	if (!(attr->ia_valid & ATTR_SIZE))
		return -EPERM;
	return attr->ia_size == i_size_read(d_inode(dentry)) ? 0 : -EINVAL;
}

static const struct inode_operations dvsm_inode_ops = {
	.setattr	= dvsm_inode_setattr,
};

/**
 * dvsm_inode_create - Make the inode of a region.
 * @region: the region; the inode owns it from now on
 *
 * Context: may sleep; the file system is pinned.
 * Return: the inode with one reference, or an error.
 */
struct inode *dvsm_inode_create(struct dvsm_region *region)
{
	struct inode *inode = alloc_anon_inode(dvsm_mnt->mnt_sb);

	if (IS_ERR(inode))
		return inode;

	/* Security modules shall see regions as they see files. */
	inode->i_flags &= ~S_PRIVATE;
	inode->i_mode = S_IFREG | 0444;
	inode->i_op = &dvsm_inode_ops;
	inode->i_fop = &dvsm_file_fops;
	inode->i_mapping->a_ops = &dvsm_store_aops;
	mapping_set_gfp_mask(inode->i_mapping,
			     region->flags & DVSM_REGION_F_PINNED ? GFP_HIGHUSER
								  : GFP_HIGHUSER_MOVABLE);
	mapping_set_large_folios(inode->i_mapping);
	mapping_set_unevictable(inode->i_mapping);
	mapping_set_release_always(inode->i_mapping);
	i_size_write(inode, region->length);
	/* Open for writing, as far as khugepaged's read-only file THP cares. */
	atomic_inc(&inode->i_writecount);
	/* Else the core numbers it with the first futex. It counts from 1. */
	atomic64_set(&inode->i_sequence, get_random_u64() | BIT_ULL(63));
	inode->i_private = region;
	region->inode = inode;
	return inode;
}

/**
 * dvsm_inode_share_futexes - Let futexes in two inodes be the same, where their offsets are.
 * @inode: nobody has used it yet
 * @like: gives the number
 *
 * Context: any.
 */
void dvsm_inode_share_futexes(struct inode *inode, struct inode *like)
{
	atomic64_set(&inode->i_sequence, atomic64_read(&like->i_sequence));
}

/**
 * dvsm_inode_retire - Nobody can open the inode's region any more.
 * @inode: the inode
 *
 * Who watches it holds it no longer, nor does who would begin to by a path that is still
 * there. Not earlier: what a mapped file without links holds goes into core dumps.
 *
 * Context: may sleep.
 */
void dvsm_inode_retire(struct inode *inode)
{
	clear_nlink(inode);
	fsnotify_inode_delete(inode);
}

/**
 * dvsm_inode_create_scratch - An inode whose page cache folios pass through.
 *
 * Context: may sleep; a file on a region is held.
 * Return: the inode with one reference, or an error.
 */
struct inode *dvsm_inode_create_scratch(void)
{
	struct inode *inode = alloc_anon_inode(dvsm_mnt->mnt_sb);

	if (IS_ERR(inode))
		return inode;
	inode->i_mode = S_IFREG;	/* for generic_error_remove_folio() */
	mapping_set_large_folios(inode->i_mapping);
	mapping_set_unevictable(inode->i_mapping);
	return inode;
}

/**
 * dvsm_inode_open_as - A new struct file on a region's inode.
 * @inode: the inode; the file takes a reference of its own; it is new, or a file
 *	on it is held
 * @flags: O_RDWR or O_RDONLY
 * @fops: what the file can do; its ->release ends with dvsm_file_release()
 *
 * Context: may sleep.
 * Return: the file or an error.
 */
struct file *dvsm_inode_open_as(struct inode *inode, int flags,
				const struct file_operations *fops)
{
	struct file *file;
	int ret;

	ret = dvsm_inode_pin();		/* dvsm_file_release() unpins */
	if (ret)
		return ERR_PTR(ret);
	/* alloc_file_pseudo() does not take the reference that __fput() drops. */
	__module_get(THIS_MODULE);
	ihold(inode);
	file = alloc_file_pseudo(inode, dvsm_mnt, "dvsm", flags | O_LARGEFILE, fops);
	if (IS_ERR(file)) {
		iput(inode);
		module_put(THIS_MODULE);
		dvsm_inode_unpin();
		return file;
	}
	atomic_inc(&((struct dvsm_region *)inode->i_private)->nr_files);
	file->f_mode |= FMODE_PREAD | FMODE_PWRITE;
	return file;
}

/**
 * dvsm_inode_open - A new struct file that gives all that a region can do.
 * @inode: as for dvsm_inode_open_as()
 * @flags: as for dvsm_inode_open_as()
 *
 * Context: may sleep.
 * Return: the file or an error.
 */
struct file *dvsm_inode_open(struct inode *inode, int flags)
{
	return dvsm_inode_open_as(inode, flags, &dvsm_file_fops);
}
