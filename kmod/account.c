// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who pays for memory: dvsm's own limits and RLIMIT_MEMLOCK.
 *
 * The cgroup is charged by filemap_add_folio(); here are the limits that hold
 * across cgroups, because shared unevictable memory is not given back by killing
 * one of its users. Counts are in pages.
 */
#include <linux/cred.h>
#include <linux/module.h>
#include <linux/sched/user.h>
#include <linux/slab.h>

#include "dvsm.h"

static ulong limit_mb;
module_param(limit_mb, ulong, 0644);
MODULE_PARM_DESC(limit_mb, "MiB that all regions may hold; 0 means half of the memory (default 0)");

static ulong limit_user_mb;
module_param(limit_user_mb, ulong, 0644);
MODULE_PARM_DESC(limit_user_mb, "MiB that one user's regions may hold; 0 means half of the memory (default 0)");

static DEFINE_MUTEX(dvsm_users_lock);
static LIST_HEAD(dvsm_users);		/* dvsm_users_lock */
static unsigned long dvsm_nr_users;	/* dvsm_users_lock */

static atomic_long_t dvsm_charged;
static atomic_long_t dvsm_locked;

static unsigned long dvsm_limit_pages(unsigned long mb)
{
	if (!mb)
		return totalram_pages() / 2;
	/* In bytes too the limit has to fit. */
	return min(mb, ULONG_MAX >> 20) << (20 - PAGE_SHIFT);
}

/**
 * dvsm_account_limit - What all regions may hold, in pages.
 *
 * Context: any.
 * Return: pages.
 */
unsigned long dvsm_account_limit(void)
{
	return dvsm_limit_pages(READ_ONCE(limit_mb));
}

/**
 * dvsm_account_limit_user - What the regions of one user may hold, in pages.
 *
 * Context: any.
 * Return: pages.
 */
unsigned long dvsm_account_limit_user(void)
{
	return dvsm_limit_pages(READ_ONCE(limit_user_mb));
}

/**
 * dvsm_account_charged - What all regions hold, in pages.
 *
 * Context: any.
 * Return: pages.
 */
unsigned long dvsm_account_charged(void)
{
	return atomic_long_read(&dvsm_charged);
}

/**
 * dvsm_account_locked - What all regions have on RLIMIT_MEMLOCK's books, in pages.
 *
 * Context: any.
 * Return: pages.
 */
unsigned long dvsm_account_locked(void)
{
	return atomic_long_read(&dvsm_locked);
}

static struct dvsm_user *dvsm_user_find_locked(kuid_t uid)
{
	struct dvsm_user *user;

	lockdep_assert_held(&dvsm_users_lock);
	list_for_each_entry(user, &dvsm_users, link)
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

/**
 * dvsm_account_charged_user - What the regions of one user hold, in pages.
 * @uid: the user
 *
 * Context: may sleep.
 * Return: pages.
 */
unsigned long dvsm_account_charged_user(kuid_t uid)
{
	struct dvsm_user *user;
	unsigned long nr = 0;

	mutex_lock(&dvsm_users_lock);
	user = dvsm_user_find_locked(uid);
	if (user)
		nr = atomic_long_read(&user->nr_pages);
	mutex_unlock(&dvsm_users_lock);
	return nr;
}

/**
 * dvsm_user_get - The user to charge a region to.
 * @uid: the region's creator
 *
 * Context: may sleep.
 * Return: the user, to be given back by dvsm_user_put(), or NULL without memory.
 */
struct dvsm_user *dvsm_user_get(kuid_t uid)
{
	/* Who is short of memory keeps nobody else waiting. */
	struct dvsm_user *user, *new = kzalloc(sizeof(*new), DVSM_GFP);

	mutex_lock(&dvsm_users_lock);
	user = dvsm_user_find_locked(uid);
	if (!user && new) {
		user = new;
		user->uid = uid;
		list_add(&user->link, &dvsm_users);
		dvsm_nr_users++;
	}
	if (user)
		user->nr_regions++;
	mutex_unlock(&dvsm_users_lock);
	if (user != new)
		kfree(new);
	return user;
}

/**
 * dvsm_user_put - Undo dvsm_user_get().
 * @user: the user
 *
 * Context: may sleep.
 */
void dvsm_user_put(struct dvsm_user *user)
{
	mutex_lock(&dvsm_users_lock);
	if (--user->nr_regions == 0) {
		WARN_ON_ONCE(atomic_long_read(&user->nr_pages));
		list_del(&user->link);
		dvsm_nr_users--;
		kfree(user);
	}
	mutex_unlock(&dvsm_users_lock);
}

/**
 * dvsm_user_count - How many users have regions.
 *
 * Context: any.
 * Return: their number.
 */
unsigned long dvsm_user_count(void)
{
	return READ_ONCE(dvsm_nr_users);
}

/* Add to a counter unless that would pass the limit. */
static bool dvsm_try_add(atomic_long_t *counter, unsigned long nr, unsigned long limit)
{
	long old = atomic_long_read(counter);

	do {
		if (nr > limit || old > limit - nr)
			return false;
	} while (!atomic_long_try_cmpxchg(counter, &old, old + nr));
	return true;
}

/**
 * dvsm_account_lock - Put pages on RLIMIT_MEMLOCK's books.
 * @locker: who pays, or NULL: nobody, but counted all the same
 * @limit: what @locker may have on the books, in pages
 * @nr_pages: how many
 *
 * Context: any.
 * Return: whether that is within the limit.
 */
bool dvsm_account_lock(struct user_struct *locker, unsigned long limit, unsigned long nr_pages)
{
	if (locker && !dvsm_try_add(&locker->locked_vm, nr_pages, limit))
		return false;
	atomic_long_add(nr_pages, &dvsm_locked);
	return true;
}

/**
 * dvsm_account_unlock - Undo dvsm_account_lock().
 * @locker: who paid, or NULL
 * @nr_pages: how many
 *
 * Context: any.
 */
void dvsm_account_unlock(struct user_struct *locker, unsigned long nr_pages)
{
	atomic_long_sub(nr_pages, &dvsm_locked);
	if (locker)
		atomic_long_sub(nr_pages, &locker->locked_vm);
}

static bool dvsm_lock_charge(struct dvsm_region *region, unsigned long nr)
{
	return !(region->flags & DVSM_REGION_F_PINNED) ||
	       dvsm_account_lock(region->locker, region->lock_limit, nr);
}

static void dvsm_lock_uncharge(struct dvsm_region *region, unsigned long nr)
{
	if (region->flags & DVSM_REGION_F_PINNED)
		dvsm_account_unlock(region->locker, nr);
}

static void dvsm_account_raise_peak(struct dvsm_region *region, long now)
{
	long peak = atomic_long_read(&region->nr_peak);

	while (now > peak && !atomic_long_try_cmpxchg(&region->nr_peak, &peak, now))
		;
}

/**
 * dvsm_account_charge - Charge pages that are about to be added to a region.
 * @region: the region
 * @nr_pages: how many
 *
 * Context: any.
 * Return: 0; -ENOSPC at a dvsm limit; -EDQUOT at RLIMIT_MEMLOCK.
 */
int dvsm_account_charge(struct dvsm_region *region, unsigned long nr_pages)
{
	if (!dvsm_try_add(&region->user->nr_pages, nr_pages, dvsm_account_limit_user()))
		return -ENOSPC;
	if (!dvsm_try_add(&dvsm_charged, nr_pages, dvsm_account_limit())) {
		atomic_long_sub(nr_pages, &region->user->nr_pages);
		return -ENOSPC;
	}
	if (!dvsm_lock_charge(region, nr_pages)) {
		atomic_long_sub(nr_pages, &dvsm_charged);
		atomic_long_sub(nr_pages, &region->user->nr_pages);
		return -EDQUOT;
	}
	dvsm_account_raise_peak(region, atomic_long_add_return(nr_pages, &region->nr_charged));
	return 0;
}

/**
 * dvsm_account_uncharge - Undo dvsm_account_charge().
 * @region: the region
 * @nr_pages: how many
 *
 * Context: any.
 */
void dvsm_account_uncharge(struct dvsm_region *region, unsigned long nr_pages)
{
	atomic_long_sub(nr_pages, &region->nr_charged);
	dvsm_lock_uncharge(region, nr_pages);
	atomic_long_sub(nr_pages, &dvsm_charged);
	atomic_long_sub(nr_pages, &region->user->nr_pages);
}

/**
 * dvsm_account_settle - Give back the charge for folios that are gone.
 * @region: the region
 *
 * Context: nobody adds folios: the family is locked for writing, or the region
 * is on its way out.
 */
void dvsm_account_settle(struct dvsm_region *region)
{
	long gone = atomic_long_read(&region->nr_charged) - region->inode->i_mapping->nrpages;

	if (!WARN_ON_ONCE(gone < 0) && gone)
		dvsm_account_uncharge(region, gone);
}
