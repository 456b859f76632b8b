// SPDX-License-Identifier: GPL-2.0-only
/*
 * Places: which policy a range of a region has.
 *
 * region->policy holds for every chunk that no place covers. A place covers one
 * range of chunks; places do not overlap and stand in a tree by chunk. Setting a
 * range cuts it out of the places that are there first. What is resident stays
 * where it is.
 *
 * A hidden region has one place for each chunk that was put into it for a region
 * with another policy than its own: the policy of the region that pays, as it was
 * then.
 *
 * The tree and region->policy change with region->places_lock held, and, but for
 * hidden regions, with the family locked for writing. So a policy that was found
 * stays while the family is locked; of a hidden region, while the chunk's mutex is
 * held too.
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "dvsm.h"

struct dvsm_place {
	struct rb_node node;		/* region->places_lock, as the rest */
	u64 first;			/* chunk */
	u64 last;			/* chunk */
	struct dvsm_policy *policy;
};

static struct dvsm_place *dvsm_place_alloc(u64 first, u64 last, struct dvsm_policy *policy)
{
	struct dvsm_place *place = kmalloc(sizeof(*place), DVSM_GFP);

	if (!place)
		return NULL;
	place->first = first;
	place->last = last;
	place->policy = dvsm_policy_get(policy);
	return place;
}

static void dvsm_place_free(struct dvsm_place *place)
{
	if (place)
		dvsm_policy_put(place->policy);
	kfree(place);
}

static bool dvsm_place_is_before(struct rb_node *a, const struct rb_node *b)
{
	return rb_entry(a, struct dvsm_place, node)->first <
	       rb_entry(b, struct dvsm_place, node)->first;
}

static void dvsm_place_insert_locked(struct dvsm_region *region, struct dvsm_place *place)
{
	lockdep_assert_held(&region->places_lock);
	rb_add(&place->node, &region->places, dvsm_place_is_before);
}

/* The first place that covers @chunk or a later one; NULL if there is none. */
static struct dvsm_place *dvsm_place_from_locked(struct dvsm_region *region, u64 chunk)
{
	struct rb_node *node = region->places.rb_node;
	struct dvsm_place *found = NULL;

	lockdep_assert_held(&region->places_lock);
	while (node) {
		struct dvsm_place *place = rb_entry(node, struct dvsm_place, node);

		if (place->last >= chunk) {
			found = place;
			node = node->rb_left;
		} else {
			node = node->rb_right;
		}
	}
	return found;
}

static struct dvsm_policy *dvsm_place_policy_locked(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_place *place = dvsm_place_from_locked(region, chunk);

	return place && place->first <= chunk ? place->policy : region->policy;
}

/**
 * dvsm_place_policy - The policy that a chunk has.
 * @region: the region
 * @chunk: the chunk
 *
 * Context: the family is locked, and for a hidden region the chunk's mutex is held.
 * Return: the policy, without a reference.
 */
struct dvsm_policy *dvsm_place_policy(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_policy *policy;

	lockdep_assert_held(&region->family->lock);

	spin_lock(&region->places_lock);
	policy = dvsm_place_policy_locked(region, chunk);
	spin_unlock(&region->places_lock);
	return policy;
}

/**
 * dvsm_place_policy_get - The policy that a chunk has, for who holds no lock.
 * @region: the region
 * @chunk: the chunk
 *
 * Context: any; does not sleep.
 * Return: the policy, with a reference of the caller's own.
 */
struct dvsm_policy *dvsm_place_policy_get(struct dvsm_region *region, u64 chunk)
{
	struct dvsm_policy *policy;

	spin_lock(&region->places_lock);
	policy = dvsm_policy_get(dvsm_place_policy_locked(region, chunk));
	spin_unlock(&region->places_lock);
	return policy;
}

/**
 * dvsm_region_policy_get - The policy of all that no place covers.
 * @region: the region
 *
 * Context: any.
 * Return: the policy, with a reference.
 */
struct dvsm_policy *dvsm_region_policy_get(struct dvsm_region *region)
{
	struct dvsm_policy *policy;

	spin_lock(&region->places_lock);
	policy = dvsm_policy_get(region->policy);
	spin_unlock(&region->places_lock);
	return policy;
}

/**
 * dvsm_region_policy_mode - The mode of the policy of all that no place covers.
 * @region: the region
 *
 * Context: any.
 * Return: DVSM_POLICY_.
 */
u32 dvsm_region_policy_mode(struct dvsm_region *region)
{
	u32 mode;

	spin_lock(&region->places_lock);
	mode = region->policy->mode;
	spin_unlock(&region->places_lock);
	return mode;
}

/*
 * Take [first, last] out of one place that covers any of it. A place that goes on at
 * both sides leaves its end to *@rest, which is used up then. Returns whether there
 * was such a place; *@gone is to be freed.
 */
static bool dvsm_place_cut_locked(struct dvsm_region *region, u64 first, u64 last,
				  struct dvsm_place **rest, struct dvsm_place **gone)
{
	struct dvsm_place *place = dvsm_place_from_locked(region, first);

	*gone = NULL;
	if (!place || place->first > last)
		return false;
	if (place->first < first && place->last > last) {
		(*rest)->first = last + 1;
		(*rest)->last = place->last;
		dvsm_policy_put((*rest)->policy);
		(*rest)->policy = dvsm_policy_get(place->policy);
		dvsm_place_insert_locked(region, *rest);
		*rest = NULL;
	}
	if (place->first < first) {
		place->last = first - 1;
	} else if (place->last > last) {
		place->first = last + 1;
	} else {
		rb_erase(&place->node, &region->places);
		*gone = place;
	}
	return true;
}

/* Take [first, last] out of all places; *@rest may be used up. */
static void dvsm_places_cut(struct dvsm_region *region, u64 first, u64 last,
			    struct dvsm_place **rest)
{
	struct dvsm_place *gone;
	bool found;

	do {
		spin_lock(&region->places_lock);
		found = dvsm_place_cut_locked(region, first, last, rest, &gone);
		spin_unlock(&region->places_lock);
		dvsm_place_free(gone);
		cond_resched();
	} while (found);
}

/**
 * dvsm_places_free - Forget all places of a region, and its policy.
 * @region: the region
 *
 * Context: may sleep; nobody else knows the region any more.
 */
void dvsm_places_free(struct dvsm_region *region)
{
	struct dvsm_place *none = NULL;

	dvsm_places_cut(region, 0, U64_MAX, &none);
	dvsm_policy_put(region->policy);
}

/* The policy of the whole region; it has no place any more. */
static void dvsm_region_set_policy(struct dvsm_region *region, struct dvsm_policy *policy)
{
	struct dvsm_policy *old = region->policy;

	dvsm_policy_get(policy);
	spin_lock(&region->places_lock);
	region->policy = policy;
	spin_unlock(&region->places_lock);
	dvsm_policy_put(old);
}

/* Give chunks a policy. */
static int dvsm_place_set(struct dvsm_region *region, u64 first, u64 last,
			  struct dvsm_policy *policy)
{
	struct dvsm_place *place = dvsm_place_alloc(first, last, policy);
	struct dvsm_place *rest = dvsm_place_alloc(first, last, policy);
	int ret = -ENOMEM;

	if (place && rest) {
		down_write(&region->family->lock);
		dvsm_places_cut(region, first, last, &rest);
		if (!first && last == dvsm_page_chunk(region->nr_pages - 1)) {
			dvsm_region_set_policy(region, policy);
		} else {
			spin_lock(&region->places_lock);
			dvsm_place_insert_locked(region, place);
			spin_unlock(&region->places_lock);
			place = NULL;
		}
		up_write(&region->family->lock);
		ret = 0;
	}
	dvsm_place_free(rest);
	dvsm_place_free(place);
	return ret;
}

/*
 * The policy that a chunk has, with a reference, and the range around it that was given
 * that policy.
 */
static struct dvsm_policy *dvsm_place_look(struct dvsm_region *region, u64 chunk, u64 *first,
					   u64 *last)
{
	struct dvsm_policy *policy;
	struct dvsm_place *place;
	struct rb_node *before;

	down_read(&region->family->lock);
	spin_lock(&region->places_lock);
	policy = dvsm_policy_get(dvsm_place_policy_locked(region, chunk));
	place = dvsm_place_from_locked(region, chunk);
	if (place && place->first <= chunk) {
		*first = place->first;
		*last = place->last;
	} else {
		before = place ? rb_prev(&place->node) : rb_last(&region->places);
		*first = before ? rb_entry(before, struct dvsm_place, node)->last + 1 : 0;
		*last = place ? place->first - 1 : dvsm_page_chunk(region->nr_pages - 1);
	}
	spin_unlock(&region->places_lock);
	up_read(&region->family->lock);
	return policy;
}

/**
 * dvsm_region_place_set - DVSM_IOC_REGION_PLACE: give a range a policy.
 * @region: the region
 * @arg: its offset is at a chunk
 * @end: the byte after the range, at a chunk or the region's end
 *
 * Context: process; no dvsm lock held.
 * Return: 0; -ENOMEM; as dvsm_policy_from_user().
 */
int dvsm_region_place_set(struct dvsm_region *region, const struct dvsm_region_place *arg,
			  loff_t end)
{
	struct dvsm_policy *policy;
	int ret;

	policy = dvsm_policy_from_user(arg->policy, arg->nodes, arg->nr_nodes, arg->weights);
	if (IS_ERR(policy))
		return PTR_ERR(policy);
	ret = dvsm_place_set(region, arg->offset >> DVSM_CHUNK_SHIFT,
			     (end - 1) >> DVSM_CHUNK_SHIFT, policy);
	dvsm_policy_put(policy);
	if (!ret)
		dvsm_promote_want(region);
	return ret;
}

/**
 * dvsm_region_place_look - DVSM_IOC_REGION_PLACE: tell the policy of a chunk.
 * @region: the region
 * @arg: its outputs are filled in, and with DVSM_PLACE_F_QUERY what it points to
 *
 * Context: process; no dvsm lock held.
 * Return: 0; as dvsm_policy_to_user().
 */
int dvsm_region_place_look(struct dvsm_region *region, struct dvsm_region_place *arg)
{
	struct dvsm_policy *policy;
	u64 first, last;
	int ret = 0;

	policy = dvsm_place_look(region, arg->offset >> DVSM_CHUNK_SHIFT, &first, &last);
	if (arg->flags & DVSM_PLACE_F_QUERY)
		ret = dvsm_policy_to_user(policy, arg->nodes, arg->nr_nodes, arg->weights);
	arg->out_policy = policy->mode;
	arg->out_nr_nodes = nodes_empty(policy->nodes) ? 0 :
			    find_last_bit(policy->nodes.bits, MAX_NUMNODES) + 1;
	arg->out_offset = first << DVSM_CHUNK_SHIFT;
	arg->out_length = min(region->length, (last + 1) << DVSM_CHUNK_SHIFT) - arg->out_offset;
	dvsm_policy_put(policy);
	return ret;
}

/**
 * dvsm_places_inherit - Whether a task policy may decide about some of a range.
 * @region: the region
 * @first: first chunk
 * @last: last chunk
 *
 * Context: no dvsm lock held.
 * Return: true if a chunk of it has DVSM_POLICY_INHERIT, or after a fatal signal.
 */
bool dvsm_places_inherit(struct dvsm_region *region, u64 first, u64 last)
{
	bool inherit = false;

	while (first <= last && !inherit) {
		u64 start, end;
		struct dvsm_policy *policy = dvsm_place_look(region, first, &start, &end);

		inherit = policy->mode == DVSM_POLICY_INHERIT;
		dvsm_policy_put(policy);
		first = end + 1;
		if (dvsm_is_interrupted())
			return true;
	}
	return inherit;
}

/**
 * dvsm_places_copy - Give a new region the policies of another.
 * @target: the new region, without places
 * @source: the other
 *
 * Context: the family of both is locked for writing.
 * Return: 0; -ENOMEM; -EINTR.
 */
int dvsm_places_copy(struct dvsm_region *target, struct dvsm_region *source)
{
	struct rb_node *node;

	lockdep_assert_held_write(&source->family->lock);

	dvsm_region_set_policy(target, source->policy);
	for (node = rb_first(&source->places); node; node = rb_next(node)) {
		struct dvsm_place *place = rb_entry(node, struct dvsm_place, node);

		place = dvsm_place_alloc(place->first, place->last, place->policy);
		if (!place)
			return -ENOMEM;
		spin_lock(&target->places_lock);
		dvsm_place_insert_locked(target, place);
		spin_unlock(&target->places_lock);
		if (dvsm_is_interrupted())
			return -EINTR;
	}
	return 0;
}

/**
 * dvsm_place_lend - Let a chunk of a hidden region have the policy of another.
 * @hidden: the hidden region, with nothing at the chunk
 * @payer: the other, of the same family
 * @chunk: the chunk
 *
 * Context: sharing may change.
 * Return: 0 or -ENOMEM.
 */
int dvsm_place_lend(struct dvsm_region *hidden, struct dvsm_region *payer, u64 chunk)
{
	struct dvsm_policy *policy = dvsm_place_policy(payer, chunk);
	struct dvsm_place *place = NULL;

	if (dvsm_place_policy(hidden, chunk) == policy)
		return 0;
	if (policy != hidden->policy) {
		place = dvsm_place_alloc(chunk, chunk, policy);
		if (!place)
			return -ENOMEM;
	}
	/* Its places are of one chunk each: nothing is left of one that is cut. */
	dvsm_places_cut(hidden, chunk, chunk, NULL);
	if (place) {
		spin_lock(&hidden->places_lock);
		dvsm_place_insert_locked(hidden, place);
		spin_unlock(&hidden->places_lock);
	}
	return 0;
}
