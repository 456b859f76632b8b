// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pins: ranges of regions that stay where they are, for devices.
 *
 * A pin holds a reference on every folio of its range. That alone keeps the folios
 * from being moved, split or handed to a snapshot: whoever wants that looks for
 * references first. What a reference does not stop, giving the range other
 * contents, asks dvsm_range_is_pinned(): discard, restore, merge.
 *
 * Life of a pin. It belongs to the struct file that asked for it, and ends with an
 * unpin of the same range by the same file, or with the file. So it survives no
 * process that alone had the file open or mapped.
 *
 * Order of pinning. The pin is listed first, and then folios are looked up, each
 * with the family locked for reading. Whoever changes contents looks at the list
 * with the family locked for writing, so either he sees the pin, or the pin sees
 * what he has made.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/interval_tree_generic.h>
#include <linux/mmzone.h>
#include <linux/pagemap.h>
#include <linux/resource.h>
#include <linux/sched/user.h>
#include <linux/slab.h>

#include "dvsm.h"
#include "trace.h"

#define DVSM_PIN_FIRST(pin)	((pin)->first)
#define DVSM_PIN_LAST(pin)	((pin)->last)

INTERVAL_TREE_DEFINE(struct dvsm_pin, node, unsigned long, subtree_last, DVSM_PIN_FIRST,
		     DVSM_PIN_LAST, static inline __maybe_unused, dvsm_pin_tree)

static void dvsm_pin_list(struct dvsm_pin *pin)
{
	struct dvsm_region *region = pin->region;

	mutex_lock(&region->pins_lock);
	dvsm_pin_tree_insert(pin, &region->pins);
	mutex_unlock(&region->pins_lock);
}

static void dvsm_pin_unlist_locked(struct dvsm_pin *pin)
{
	lockdep_assert_held(&pin->region->pins_lock);
	dvsm_pin_tree_remove(pin, &pin->region->pins);
}

/* Room for one more folio. */
static int dvsm_pin_grow(struct dvsm_pin *pin)
{
	unsigned long nr_max = max(8UL, 2 * pin->nr_max);
	struct folio **folios;

	if (pin->nr_folios < pin->nr_max)
		return 0;
	folios = kvmalloc_array(nr_max, sizeof(*folios), DVSM_GFP);
	if (!folios)
		return -ENOMEM;
	if (pin->nr_folios)
		memcpy(folios, pin->folios, pin->nr_folios * sizeof(*folios));
	kvfree(pin->folios);
	pin->folios = folios;
	pin->nr_max = nr_max;
	return 0;
}

/* Whether @folio can stay where it is for as long as a device likes. */
static int dvsm_pin_check(struct folio *folio)
{
	if (dvsm_folio_is_poisoned(folio))
		return -EHWPOISON;
	return is_zone_movable_page(&folio->page) ? -EOPNOTSUPP : 0;
}

/* Pin the folio that holds page @index. Returns the page after it, or an error. */
static long dvsm_pin_folio(struct dvsm_pin *pin, pgoff_t index)
{
	static const struct dvsm_placing placing = { .here = NUMA_NO_NODE };
	struct dvsm_region *region = pin->region;
	struct dvsm_found found;
	struct folio *folio;
	int ret;

	ret = dvsm_pin_grow(pin);
	if (ret)
		return ret;
	down_read(&region->family->lock);
	folio = dvsm_content_get(region, index, &placing, true, &found);
	if (!IS_ERR(folio))
		dvsm_folio_mark_written(region, folio);
	up_read(&region->family->lock);
	if (IS_ERR(folio))
		return PTR_ERR(folio);
	ret = dvsm_pin_check(folio);
	folio_unlock(folio);
	if (ret) {
		folio_put(folio);
		return ret;
	}
	pin->folios[pin->nr_folios++] = folio;
	return folio->index + folio_nr_pages(folio);
}

static int dvsm_pin_folios(struct dvsm_pin *pin)
{
	long index = pin->first;

	while (index <= pin->last) {
		index = dvsm_pin_folio(pin, index);
		if (index < 0)
			return index == -EDQUOT ? -ENOMEM : index;
		if (dvsm_shall_stop())
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* A pinned region is on RLIMIT_MEMLOCK's books already. */
static int dvsm_pin_charge(struct dvsm_pin *pin)
{
	unsigned long nr_pages = pin->last - pin->first + 1;

	if (pin->region->flags & DVSM_REGION_F_PINNED)
		return 0;
	if (!capable(CAP_IPC_LOCK))
		pin->locker = get_uid(current_user());
	if (!dvsm_account_lock(pin->locker, rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT, nr_pages))
		return -ENOMEM;
	pin->nr_locked = nr_pages;
	atomic_long_add(nr_pages, &pin->region->nr_pinned);
	return 0;
}

static void dvsm_pin_free(struct dvsm_pin *pin)
{
	unsigned long i;

	for (i = 0; i < pin->nr_folios; i++) {
		folio_put(pin->folios[i]);
		cond_resched();
	}
	if (pin->nr_locked) {
		atomic_long_sub(pin->nr_locked, &pin->region->nr_pinned);
		dvsm_account_unlock(pin->locker, pin->nr_locked);
	}
	if (pin->locker)
		free_uid(pin->locker);
	kvfree(pin->folios);
	kfree(pin);
}

/**
 * dvsm_pin_create - Pin a range.
 * @region: the region
 * @holder: whose pin it is
 * @kind: what kind of holder that is
 * @start: first byte, page aligned
 * @end: the byte after the last, page aligned, above @start
 *
 * Context: process, whose user is charged; may sleep; no dvsm lock held.
 * Return: the pin; -ENOMEM, also for RLIMIT_MEMLOCK; -ENOSPC at a dvsm limit;
 * -EOPNOTSUPP for memory in ZONE_MOVABLE; -EHWPOISON; -EIO; -EINTR.
 */
struct dvsm_pin *dvsm_pin_create(struct dvsm_region *region, struct file *holder,
				 enum dvsm_pin_kind kind, loff_t start, loff_t end)
{
	struct dvsm_pin *pin = kzalloc(sizeof(*pin), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!pin)
		return ERR_PTR(-ENOMEM);
	pin->region = region;
	pin->holder = holder;
	pin->kind = kind;
	pin->first = start >> PAGE_SHIFT;
	pin->last = (end >> PAGE_SHIFT) - 1;
	/* What can never fit is refused before memory is taken for it. */
	ret = -ENOSPC;
	if (pin->last - pin->first >= min(dvsm_account_limit(), dvsm_account_limit_user()))
		goto err_free;
	ret = dvsm_pin_charge(pin);
	if (ret)
		goto err_free;
	dvsm_pin_list(pin);
	/* On several CPUs; what follows then only looks up. */
	ret = dvsm_region_populate(region, start, end, 0, NUMA_NO_NODE, NULL);
	if (!ret)
		ret = dvsm_pin_folios(pin);
	trace_dvsm_pin(region->id, pin->first, pin->last + 1, pin->nr_locked, ret);
	mutex_lock(&region->pins_lock);
	if (ret)
		dvsm_pin_unlist_locked(pin);
	else
		pin->is_complete = true;
	mutex_unlock(&region->pins_lock);
	if (!ret)
		return pin;
err_free:
	dvsm_pin_free(pin);
	return ERR_PTR(ret);
}

static void dvsm_pin_end_locked(struct dvsm_pin *pin)
{
	dvsm_pin_unlist_locked(pin);
	trace_dvsm_unpin(pin->region->id, pin->first, pin->last + 1, pin->nr_locked, 0);
	dvsm_pin_free(pin);
}

/**
 * dvsm_pin_destroy - End the pin that a holder has on a range.
 * @region: the region
 * @holder: whose pin
 * @start: first byte, as the pin was made
 * @end: the byte after the last, as the pin was made
 *
 * Context: may sleep.
 * Return: 0; -ENOENT if the holder has no such pin.
 */
int dvsm_pin_destroy(struct dvsm_region *region, struct file *holder, loff_t start, loff_t end)
{
	unsigned long first = start >> PAGE_SHIFT;
	unsigned long last = (end >> PAGE_SHIFT) - 1;
	struct dvsm_pin *pin;

	mutex_lock(&region->pins_lock);
	for (pin = dvsm_pin_tree_iter_first(&region->pins, first, last); pin;
	     pin = dvsm_pin_tree_iter_next(pin, first, last))
		if (pin->holder == holder && pin->first == first && pin->last == last &&
		    pin->is_complete)
			break;
	if (pin)
		dvsm_pin_end_locked(pin);
	mutex_unlock(&region->pins_lock);
	return pin ? 0 : -ENOENT;
}

/**
 * dvsm_pins_release - End all pins of a holder that goes away.
 * @region: the region
 * @holder: the holder
 *
 * Context: may sleep.
 */
void dvsm_pins_release(struct dvsm_region *region, struct file *holder)
{
	struct dvsm_pin *pin, *next;

	mutex_lock(&region->pins_lock);
	for (pin = dvsm_pin_tree_iter_first(&region->pins, 0, ULONG_MAX); pin; pin = next) {
		next = dvsm_pin_tree_iter_next(pin, 0, ULONG_MAX);
		if (pin->holder == holder)
			dvsm_pin_end_locked(pin);
		cond_resched();
	}
	mutex_unlock(&region->pins_lock);
}

/**
 * dvsm_range_is_pinned - Whether a range must keep its folios.
 * @region: the region
 * @start: first byte
 * @end: the byte after the last, above @start
 *
 * Context: may sleep; the family is locked for writing, so the answer stays true
 * where it matters.
 * Return: true if any page of the range is pinned.
 */
bool dvsm_range_is_pinned(struct dvsm_region *region, loff_t start, loff_t end)
{
	bool pinned;

	if (region->flags & DVSM_REGION_F_PINNED)
		return true;
	mutex_lock(&region->pins_lock);
	pinned = dvsm_pin_tree_iter_first(&region->pins, start >> PAGE_SHIFT,
					  (end - 1) >> PAGE_SHIFT);
	mutex_unlock(&region->pins_lock);
	return pinned;
}

/**
 * dvsm_range_pin_kind - What kind of holder pins a range.
 * @region: the region, not made PINNED
 * @start: first byte
 * @end: the byte after the last, above @start
 *
 * Context: as dvsm_range_is_pinned().
 * Return: the first kind that has a pin there, DVSM_PIN_NR if there is none.
 */
enum dvsm_pin_kind dvsm_range_pin_kind(struct dvsm_region *region, loff_t start, loff_t end)
{
	unsigned long first = start >> PAGE_SHIFT, last = (end - 1) >> PAGE_SHIFT;
	enum dvsm_pin_kind kind = DVSM_PIN_NR;
	struct dvsm_pin *pin;

	mutex_lock(&region->pins_lock);
	for (pin = dvsm_pin_tree_iter_first(&region->pins, first, last); pin;
	     pin = dvsm_pin_tree_iter_next(pin, first, last))
		kind = min(kind, pin->kind);
	mutex_unlock(&region->pins_lock);
	return kind;
}
