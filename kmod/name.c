// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names of regions: a registry for each IPC namespace.
 *
 * An entry without a keeper knows its region and holds nothing of it: it ends when
 * the region is retired, which takes it off the list. Whoever opens it takes one of
 * region->nr_files under dvsm_names_lock, unless there are none any more. An entry
 * to be kept has a file on the region, its keeper, as if somebody had it open.
 *
 * A space is an IPC namespace that has names, and holds one reference on it, so a
 * pointer to a namespace means the same one for as long as it is compared. A module
 * is not told when a namespace ends. But one whose only reference is the space's has
 * ended for everybody else and can never be entered again: all other references come
 * from a task in it, or from a file that has one. So while there are spaces other
 * than the first namespace's, a worker looks once a second for those that are left
 * over, and ends them with their names.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs_struct.h>
#include <linux/ipc_namespace.h>
#include <linux/module.h>
#include <linux/nsproxy.h>
#include <linux/proc_ns.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "dvsm.h"

static uint limit_user_names = 1024;
module_param(limit_user_names, uint, 0644);
MODULE_PARM_DESC(limit_user_names, "names of regions that one user may have made (default 1024)");

#define DVSM_SPACE_LOOK		HZ	/* between two looks for namespaces that ended */
#define DVSM_NAME_BATCH		16	/* names that are listed at once */

/* An IPC namespace that has names. */
struct dvsm_space {
	struct list_head link;		/* dvsm_names_lock */
	struct list_head entries;	/* dvsm_names_lock; in the order of @serial */
	struct ipc_namespace *ns;	/* referenced */
};

struct dvsm_entry {
	struct list_head link;		/* dvsm_names_lock; of the space, or of those to be freed */
	struct list_head of_region;	/* dvsm_names_lock; region->names */
	struct dvsm_space *space;	/* constant while linked, as all below */
	struct dvsm_region *region;
	struct file *keeper;		/* NULL without DVSM_NAME_F_KEEP */
	struct dvsm_user *user;		/* who is charged */
	u64 serial;			/* grows from entry to entry, from 1 */
	kuid_t uid;
	kgid_t gid;
	umode_t mode;
	char text[];
};

static DEFINE_MUTEX(dvsm_names_lock);
static LIST_HEAD(dvsm_spaces);		/* dvsm_names_lock */
static u64 dvsm_last_serial;		/* dvsm_names_lock */
static unsigned int dvsm_nr_names;	/* dvsm_names_lock */

static void dvsm_space_look(struct work_struct *work);
static DECLARE_DELAYED_WORK(dvsm_space_work, dvsm_space_look);

/* The caller's. */
static struct ipc_namespace *dvsm_space_ns(void)
{
	return current->nsproxy->ipc_ns;
}

/* put_ipc_ns() is not exported everywhere. */
static void dvsm_space_put_ns(struct ipc_namespace *ns)
{
	if (ns->ns.ops)
		ns->ns.ops->put(&ns->ns);
}

static bool dvsm_space_can_end(const struct dvsm_space *space)
{
	return space->ns->ns.inum != PROC_IPC_INIT_INO;
}

static struct dvsm_space *dvsm_space_find_locked(void)
{
	struct dvsm_space *space;

	lockdep_assert_held(&dvsm_names_lock);
	list_for_each_entry(space, &dvsm_spaces, link)
		if (space->ns == dvsm_space_ns())
			return space;
	return NULL;
}

/* @fresh becomes the caller's space if there is none yet; else it is not needed. */
static struct dvsm_space *dvsm_space_get_locked(struct dvsm_space **fresh)
{
	struct dvsm_space *space = dvsm_space_find_locked();

	if (space)
		return space;
	space = *fresh;
	*fresh = NULL;
	INIT_LIST_HEAD(&space->entries);
	space->ns = get_ipc_ns(dvsm_space_ns());
	list_add_tail(&space->link, &dvsm_spaces);
	if (dvsm_space_can_end(space))
		schedule_delayed_work(&dvsm_space_work, DVSM_SPACE_LOOK);
	return space;
}

static struct dvsm_entry *dvsm_entry_find_locked(const struct dvsm_space *space, const char *text)
{
	struct dvsm_entry *entry;

	lockdep_assert_held(&dvsm_names_lock);
	list_for_each_entry(entry, &space->entries, link)
		if (!strcmp(entry->text, text))
			return entry;
	return NULL;
}

/* Nobody finds @entry any more; it is to be freed with @gone. */
static void dvsm_entry_remove_locked(struct dvsm_entry *entry, struct list_head *gone)
{
	struct dvsm_space *space = entry->space;

	lockdep_assert_held(&dvsm_names_lock);
	list_del(&entry->of_region);
	list_move(&entry->link, gone);
	dvsm_nr_names--;
	if (list_empty(&space->entries)) {
		list_del(&space->link);
		dvsm_space_put_ns(space->ns);
		kfree(space);
	}
}

static void dvsm_entry_free(struct dvsm_entry *entry)
{
	if (entry->keeper)
		fput(entry->keeper);
	atomic_dec(&entry->user->nr_names);
	dvsm_user_put(entry->user);
	kfree(entry);
}

static void dvsm_entries_free(struct list_head *gone)
{
	struct dvsm_entry *entry, *next;

	list_for_each_entry_safe(entry, next, gone, link)
		dvsm_entry_free(entry);
}

static void dvsm_space_end_locked(struct dvsm_space *space, struct list_head *gone)
{
	bool last;

	do {
		struct dvsm_entry *entry = list_first_entry(&space->entries, struct dvsm_entry,
							    link);

		last = list_is_last(&entry->link, &space->entries);
		dvsm_entry_remove_locked(entry, gone);
	} while (!last);
}

static void dvsm_space_look(struct work_struct *work)
{
	struct dvsm_space *space, *next;
	bool again = false;
	LIST_HEAD(gone);

	mutex_lock(&dvsm_names_lock);
	list_for_each_entry_safe(space, next, &dvsm_spaces, link) {
		if (!dvsm_space_can_end(space))
			continue;
		if (refcount_read(&space->ns->ns.count) == 1)
			dvsm_space_end_locked(space, &gone);
		else
			again = true;
	}
	if (again)
		schedule_delayed_work(&dvsm_space_work, DVSM_SPACE_LOOK);
	mutex_unlock(&dvsm_names_lock);
	dvsm_entries_free(&gone);
}

static struct dvsm_entry *dvsm_entry_alloc(const char *text, umode_t mode)
{
	size_t size = strlen(text) + 1;
	struct dvsm_entry *entry = kzalloc(struct_size(entry, text, size), GFP_KERNEL_ACCOUNT);

	if (!entry)
		return NULL;
	memcpy(entry->text, text, size);
	entry->uid = current_fsuid();
	entry->gid = current_fsgid();
	entry->mode = mode & ~current_umask();
	entry->user = dvsm_user_get(current_uid());
	if (!entry->user) {
		kfree(entry);
		return NULL;
	}
	atomic_inc(&entry->user->nr_names);
	return entry;
}

static int dvsm_entry_insert(struct dvsm_entry *entry, struct dvsm_space **fresh)
{
	struct dvsm_space *space;
	int ret = 0;

	mutex_lock(&dvsm_names_lock);
	space = dvsm_space_find_locked();
	if (space && dvsm_entry_find_locked(space, entry->text)) {
		ret = -EEXIST;
	} else {
		space = dvsm_space_get_locked(fresh);
		entry->space = space;
		entry->serial = ++dvsm_last_serial;
		list_add_tail(&entry->link, &space->entries);
		list_add_tail(&entry->of_region, &entry->region->names);
		dvsm_nr_names++;
	}
	mutex_unlock(&dvsm_names_lock);
	return ret;
}

/* Whose memory a kept name keeps must agree. */
static bool dvsm_name_may_keep(const struct dvsm_region *region)
{
	return uid_eq(region->user->uid, current_uid()) || capable(CAP_SYS_RESOURCE);
}

/**
 * dvsm_name_create - Give a region a name in the caller's IPC namespace.
 * @file: a file on the region, opened for writing
 * @text: the name
 * @mode: its mode before the caller's umask
 * @flags: DVSM_NAME_F_KEEP
 *
 * Context: process.
 * Return: 0; -EEXIST; -EPERM; -ENOSPC at the limit; -ENOMEM.
 */
int dvsm_name_create(struct file *file, const char *text, umode_t mode, u32 flags)
{
	struct dvsm_region *region = dvsm_file_region(file);
	struct dvsm_space *fresh;
	struct dvsm_entry *entry;
	int ret = 0;

	if ((flags & DVSM_NAME_F_KEEP) && !dvsm_name_may_keep(region))
		return -EPERM;
	entry = dvsm_entry_alloc(text, mode);
	if (!entry)
		return -ENOMEM;
	entry->region = region;
	/* Two at once may both be refused at the last place; neither gets past the limit. */
	if (atomic_read(&entry->user->nr_names) > READ_ONCE(limit_user_names))
		ret = -ENOSPC;
	fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);
	if (!ret && !fresh)
		ret = -ENOMEM;
	if (!ret && (flags & DVSM_NAME_F_KEEP)) {
		entry->keeper = dvsm_inode_open(region->inode, O_RDWR);
		if (IS_ERR(entry->keeper)) {
			ret = PTR_ERR(entry->keeper);
			entry->keeper = NULL;
		}
	}
	if (!ret)
		ret = dvsm_entry_insert(entry, &fresh);
	if (ret)
		dvsm_entry_free(entry);
	kfree(fresh);
	return ret;
}

static bool dvsm_entry_has_capability(const struct dvsm_entry *entry)
{
	struct user_namespace *user_ns = entry->space->ns->user_ns;

	return ns_capable(user_ns, CAP_DAC_OVERRIDE) || ns_capable(user_ns, CAP_IPC_OWNER);
}

static int dvsm_entry_permission(const struct dvsm_entry *entry, umode_t wanted)
{
	umode_t mode = entry->mode;

	if (uid_eq(current_fsuid(), entry->uid))
		mode >>= 6;
	else if (in_group_p(entry->gid))
		mode >>= 3;
	if ((mode & wanted) == wanted || dvsm_entry_has_capability(entry))
		return 0;
	return -EACCES;
}

/*
 * The region that @text names, with one of its nr_files and a reference on its inode
 * taken; or an error.
 */
static struct dvsm_region *dvsm_name_get(const char *text, umode_t wanted)
{
	struct dvsm_region *region = ERR_PTR(-ENOENT);
	struct dvsm_entry *entry = NULL;
	struct inode *inode = NULL;
	struct dvsm_space *space;
	int ret;

	mutex_lock(&dvsm_names_lock);
	space = dvsm_space_find_locked();
	if (space)
		entry = dvsm_entry_find_locked(space, text);
	if (entry) {
		ret = dvsm_entry_permission(entry, wanted);
		if (ret)
			region = ERR_PTR(ret);
		else
			inode = igrab(entry->region->inode);
		/* In this order, as in dvsm_region_get(). */
		if (inode && atomic_inc_not_zero(&entry->region->nr_files))
			region = entry->region;
	}
	mutex_unlock(&dvsm_names_lock);
	if (IS_ERR(region))
		iput(inode);
	return region;
}

/**
 * dvsm_name_open - Open a region by its name.
 * @text: the name, in the caller's IPC namespace
 * @read_only: whether to open it for reading only
 *
 * Context: process.
 * Return: a new file, or an error: -ENOENT, -EACCES, -ENOMEM.
 */
struct file *dvsm_name_open(const char *text, bool read_only)
{
	struct dvsm_region *region;
	struct inode *inode;
	struct file *file;
	int ret;

	/* First: whoever has the region open now has pinned the same mount. */
	ret = dvsm_inode_pin();
	if (ret)
		return ERR_PTR(ret);
	region = dvsm_name_get(text, read_only ? 4 : 6);
	if (IS_ERR(region)) {
		file = ERR_CAST(region);
	} else {
		inode = region->inode;
		dvsm_delay();
		file = dvsm_inode_open(inode, read_only ? O_RDONLY : O_RDWR);
		/* All others may have closed it while there was no file of ours. */
		if (atomic_dec_and_test(&region->nr_files))
			dvsm_region_retire(region);
		iput(inode);
	}
	dvsm_inode_unpin();
	return file;
}

/**
 * dvsm_name_unlink - End a name.
 * @text: the name, in the caller's IPC namespace
 *
 * Context: process.
 * Return: 0, -ENOENT or -EACCES.
 */
int dvsm_name_unlink(const char *text)
{
	struct dvsm_entry *entry = NULL;
	struct dvsm_space *space;
	LIST_HEAD(gone);
	int ret = 0;

	mutex_lock(&dvsm_names_lock);
	space = dvsm_space_find_locked();
	if (space)
		entry = dvsm_entry_find_locked(space, text);
	if (!entry)
		ret = -ENOENT;
	else if (!uid_eq(current_fsuid(), entry->uid) && !dvsm_entry_has_capability(entry))
		ret = -EACCES;
	else
		dvsm_entry_remove_locked(entry, &gone);
	mutex_unlock(&dvsm_names_lock);
	dvsm_entries_free(&gone);
	return ret;
}

static void dvsm_entry_describe(const struct dvsm_entry *entry, struct dvsm_name *name)
{
	struct user_namespace *user_ns = current_user_ns();

	memset(name, 0, sizeof(*name));
	name->region_id = entry->region->id;
	name->length = entry->region->length;
	name->uid = from_kuid_munged(user_ns, entry->uid);
	name->gid = from_kgid_munged(user_ns, entry->gid);
	name->mode = entry->mode;
	name->flags = entry->keeper ? DVSM_NAME_F_KEEP : 0;
	strscpy(name->name, entry->text, sizeof(name->name));
}

/* Describes names behind @cursor; how many, and where it got. */
static unsigned int dvsm_name_describe(struct dvsm_name *names, unsigned int nr_names, u64 *cursor)
{
	struct dvsm_space *space;
	struct dvsm_entry *entry;
	unsigned int nr = 0;

	mutex_lock(&dvsm_names_lock);
	space = dvsm_space_find_locked();
	if (space) {
		list_for_each_entry(entry, &space->entries, link) {
			if (nr == nr_names)
				break;
			if (entry->serial <= *cursor)
				continue;
			dvsm_entry_describe(entry, &names[nr++]);
			*cursor = entry->serial;
		}
	}
	mutex_unlock(&dvsm_names_lock);
	return nr;
}

/**
 * dvsm_name_list - List the names of the caller's IPC namespace.
 * @arg: as struct dvsm_name_list says
 *
 * Context: process.
 * Return: 0; -EFAULT; -ENOMEM; -EINTR after a fatal signal.
 */
int dvsm_name_list(struct dvsm_name_list *arg)
{
	struct dvsm_name __user *user = u64_to_user_ptr(arg->names);
	struct dvsm_name *names;
	unsigned int nr;
	int ret = 0;

	names = kcalloc(DVSM_NAME_BATCH, sizeof(*names), GFP_KERNEL_ACCOUNT);
	if (!names)
		return -ENOMEM;
	arg->out_nr_names = 0;
	arg->out_next = arg->cursor;
	do {
		nr = min_t(u32, arg->nr_names - arg->out_nr_names, DVSM_NAME_BATCH);
		nr = dvsm_name_describe(names, nr, &arg->out_next);
		if (copy_to_user(user + arg->out_nr_names, names, nr * sizeof(*names)))
			ret = -EFAULT;
		arg->out_nr_names += nr;
		/* Somebody may go on adding names. */
		if (!ret && dvsm_is_interrupted())
			ret = -EINTR;
	} while (!ret && nr == DVSM_NAME_BATCH);
	kfree(names);
	return ret;
}

/**
 * dvsm_name_retire - The last file on a region is gone: so are its names.
 * @region: the region
 *
 * Context: may sleep.
 */
void dvsm_name_retire(struct dvsm_region *region)
{
	struct dvsm_entry *entry, *next;
	LIST_HEAD(gone);

	mutex_lock(&dvsm_names_lock);
	list_for_each_entry_safe(entry, next, &region->names, of_region)
		dvsm_entry_remove_locked(entry, &gone);
	mutex_unlock(&dvsm_names_lock);
	dvsm_entries_free(&gone);
}

/**
 * dvsm_name_count - How many names there are, in all namespaces.
 *
 * Context: any.
 * Return: their number.
 */
unsigned int dvsm_name_count(void)
{
	return READ_ONCE(dvsm_nr_names);
}

/**
 * dvsm_name_exit - Undo what names have set going.
 *
 * Context: module exit; there are no regions, so there are no names.
 */
void dvsm_name_exit(void)
{
	cancel_delayed_work_sync(&dvsm_space_work);
}
