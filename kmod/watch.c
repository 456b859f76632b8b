// SPDX-License-Identifier: GPL-2.0-only
/*
 * Looking at regions without having them: the list, and descriptors that only look.
 *
 * A watch is an open file with a region's id in it, and no more: it was asked once
 * who may look, and keeps neither the region nor its memory. Each command finds the
 * region anew and is a user of it for as long as it takes.
 */
#include <linux/anon_inodes.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uidgid.h>

#include "dvsm.h"

#define DVSM_LIST_BATCH		64	/* entries copied to the user at once */

/* Entries as they are filled in. */
struct dvsm_listing {
	struct dvsm_region_entry *entries;
	unsigned int nr;		/* in use */
	unsigned int nr_max;
	u64 last;			/* id of the last region looked at */
	bool all;			/* whoever's they are */
};

static bool dvsm_region_is_own(const struct dvsm_region *region)
{
	return uid_eq(region->user->uid, current_uid());
}

static void dvsm_entry_fill(struct dvsm_region_entry *entry, struct dvsm_region *region)
{
	*entry = (struct dvsm_region_entry) {
		.id = region->id,
		.parent_id = region->parent_id,
		.length = region->length,
		.charged = (u64)atomic_long_read(&region->nr_charged) << PAGE_SHIFT,
		.flags = region->flags,
		.policy = dvsm_region_policy_mode(region),
		.uid = from_kuid_munged(current_user_ns(), region->user->uid),
		.nr_files = atomic_read(&region->nr_files),
	};
	strscpy(entry->label, region->label, sizeof(entry->label));
}

static bool dvsm_listing_add(struct dvsm_region *region, void *arg)
{
	struct dvsm_listing *listing = arg;

	/* Not open yet, or no longer. */
	if (!atomic_read(&region->nr_files))
		return false;
	if (!listing->all && !dvsm_region_is_own(region))
		return false;
	if (listing->nr == listing->nr_max)
		return true;
	dvsm_entry_fill(&listing->entries[listing->nr++], region);
	listing->last = region->id;
	return false;
}

/**
 * dvsm_watch_list - DVSM_IOC_REGION_LIST.
 * @arg: the command's argument
 *
 * Context: process.
 * Return: 0; -EFAULT, -ENOMEM.
 */
int dvsm_watch_list(struct dvsm_region_list *arg)
{
	struct dvsm_region_entry __user *user = u64_to_user_ptr(arg->regions);
	struct dvsm_listing listing = { .last = arg->cursor, .all = capable(CAP_SYS_ADMIN) };
	int ret = 0;

	listing.entries = kcalloc(DVSM_LIST_BATCH, sizeof(*listing.entries), GFP_KERNEL_ACCOUNT);
	if (!listing.entries)
		return -ENOMEM;
	arg->out_nr_regions = 0;
	do {
		listing.nr = 0;
		listing.nr_max = min_t(u32, arg->nr_regions - arg->out_nr_regions, DVSM_LIST_BATCH);
		dvsm_region_for_each(listing.last, dvsm_listing_add, &listing);
		if (copy_to_user(user + arg->out_nr_regions, listing.entries,
				 listing.nr * sizeof(*user)))
			ret = -EFAULT;
		arg->out_nr_regions += listing.nr;
	} while (!ret && listing.nr == DVSM_LIST_BATCH);
	kfree(listing.entries);
	arg->out_next = listing.last;
	return ret;
}

static void dvsm_watch_show_fdinfo(struct seq_file *m, struct file *file)
{
	seq_printf(m, "dvsm-watch:\t%lu\n", (unsigned long)file->private_data);
}

static const struct file_operations dvsm_watch_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= dvsm_watch_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.llseek		= noop_llseek,
	.show_fdinfo	= dvsm_watch_show_fdinfo,
};

/**
 * dvsm_watch_open - A descriptor that looks at a region.
 * @id: the region's
 *
 * Context: process.
 * Return: a file, or an error: -ENOENT, -EACCES, -ENOMEM.
 */
struct file *dvsm_watch_open(u64 id)
{
	struct dvsm_region *region = dvsm_region_get(id);
	bool allowed;

	if (IS_ERR(region))
		return ERR_CAST(region);
	allowed = dvsm_region_is_own(region) || capable(CAP_SYS_ADMIN);
	dvsm_region_put(region);
	if (!allowed)
		return ERR_PTR(-EACCES);
	/* An access mode that gives neither reading nor writing. */
	return anon_inode_getfile("[dvsm-watch]", &dvsm_watch_fops, (void *)(unsigned long)id,
				  O_ACCMODE);
}
