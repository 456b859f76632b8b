// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocating ranges now, on several CPUs.
 *
 * Most of a populate is zeroing, which spreads well: the caller and helpers on
 * other CPUs take some chunks after others from one counter. A helper is a kernel
 * thread, so what belongs to the caller travels with it: his memory cgroup, the
 * CPUs and nodes that he may use, and the node that he calls local. Where that
 * cannot be, he works alone: with a task policy of his own, which nobody else
 * can apply, and in a CPU cgroup, whose limit helpers would escape. Helpers count
 * for nobody's limit of processes, so all callers together get one for each CPU.
 */
#include <linux/capability.h>
#include <linux/cgroup.h>
#include <linux/cpuset.h>
#include <linux/kthread.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "dvsm.h"
#include "trace.h"

#define DVSM_POPULATE_CHUNKS_PER_CPU	16

/*
 * The page allocator gives a CPU one half of a block of 4 MiB and then the other one.
 * They are contiguous in the region only if they go to neighbouring chunks.
 */
#define DVSM_POPULATE_CHUNKS_AT_ONCE	8

static atomic_t dvsm_populate_nr_helpers = ATOMIC_INIT(0);

struct dvsm_populate {
	struct dvsm_region *region;
	struct task_struct *caller;	/* helpers get no signal of his */
	struct mem_cgroup *memcg;
	nodemask_t allowed;
	int here;			/* for helpers */
	pgoff_t start;
	pgoff_t end;
	atomic64_t next_chunk;
	atomic_long_t nr_populated;
	int error;			/* the first one; ends everybody's work */
};

/* Fill [index, end), inside one chunk. */
static int dvsm_populate_chunk(struct dvsm_populate *populate, pgoff_t index, pgoff_t end,
			       const struct dvsm_placing *placing)
{
	struct dvsm_region *region = populate->region;

	while (index < end) {
		struct dvsm_found found;
		struct folio *folio;

		down_read(&region->family->lock);
		folio = dvsm_content_get(region, index, placing, false, &found);
		up_read(&region->family->lock);
		if (IS_ERR(folio))
			return PTR_ERR(folio);
		index = folio->index + folio_nr_pages(folio);
		if (found.allocated)
			atomic_long_add(folio_nr_pages(folio), &populate->nr_populated);
		folio_unlock(folio);
		folio_put(folio);
	}
	return 0;
}

/* Returns false if there is no such chunk, or somebody had an error. */
static bool dvsm_populate_step(struct dvsm_populate *populate, u64 chunk,
			       const struct dvsm_placing *placing)
{
	pgoff_t start = max_t(u64, chunk << DVSM_CHUNK_ORDER, populate->start);
	pgoff_t end = min_t(u64, (chunk + 1) << DVSM_CHUNK_ORDER, populate->end);
	int ret;

	if (start >= populate->end || READ_ONCE(populate->error))
		return false;
	ret = dvsm_populate_chunk(populate, start, end, placing);
	if (!ret && (dvsm_shall_stop() || fatal_signal_pending(populate->caller)))
		ret = -EINTR;
	if (ret)
		cmpxchg(&populate->error, 0, ret);
	cond_resched();
	return true;
}

static void dvsm_populate_run(struct dvsm_populate *populate, const struct dvsm_placing *placing)
{
	u64 chunk, end;

	do {
		chunk = atomic64_fetch_add(DVSM_POPULATE_CHUNKS_AT_ONCE, &populate->next_chunk);
		end = chunk + DVSM_POPULATE_CHUNKS_AT_ONCE;
		while (chunk < end && dvsm_populate_step(populate, chunk, placing))
			chunk++;
	} while (chunk == end);
}

static int dvsm_populate_help(void *arg)
{
	struct dvsm_populate *populate = arg;
	struct dvsm_placing placing = {
		.here = populate->here,
		.allowed = &populate->allowed,
	};
	struct mem_cgroup *old = set_active_memcg(populate->memcg);

	dvsm_populate_run(populate, &placing);
	set_active_memcg(old);
	/* The caller stops every helper that he started. */
	set_current_state(TASK_IDLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_IDLE);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

/* Whether a CPU cgroup, or he himself, says how much the caller may work. */
static bool dvsm_populate_is_governed(void)
{
	bool governed = false;

#ifdef CONFIG_CGROUP_SCHED
	rcu_read_lock();
	governed = task_css(current, cpu_cgrp_id)->parent;
	rcu_read_unlock();
#endif
	return (governed || task_nice(current) > 0 || current->policy == SCHED_IDLE) &&
	       !capable(CAP_SYS_NICE);
}

/* How many CPUs beside the caller's own shall work. */
static unsigned int dvsm_populate_helpers(struct dvsm_populate *populate, unsigned int nr_threads)
{
	u64 nr_chunks = dvsm_page_chunk(populate->end - 1) - dvsm_page_chunk(populate->start) + 1;
	unsigned int nr = cpumask_weight(current->cpus_ptr);

	if (nr_threads)
		nr = min(nr, nr_threads);
	nr = min_t(u64, nr, nr_chunks / DVSM_POPULATE_CHUNKS_PER_CPU);
	if (nr < 2)
		return 0;
#ifdef CONFIG_NUMA
	if (current->mempolicy && dvsm_places_inherit(populate->region,
						      dvsm_page_chunk(populate->start),
						      dvsm_page_chunk(populate->end - 1)))
		return 0;
#endif
	return dvsm_populate_is_governed() ? 0 : nr - 1;
}

/* A helper near the memory of the @nth chunk, on a CPU that the caller may use. */
static struct task_struct *dvsm_populate_start(struct dvsm_populate *populate, unsigned int nth)
{
	u64 chunk = dvsm_page_chunk(populate->start) + nth;
	struct dvsm_region *region = populate->region;
	struct task_struct *helper;
	cpumask_var_t cpus;
	int nid;

	if (!alloc_cpumask_var(&cpus, GFP_KERNEL))
		return NULL;
	down_read(&region->family->lock);
	nid = dvsm_policy_home(region, chunk << DVSM_CHUNK_ORDER, populate->here);
	up_read(&region->family->lock);
	if (!cpumask_and(cpus, current->cpus_ptr, cpumask_of_node(nid)))
		cpumask_copy(cpus, current->cpus_ptr);
	helper = kthread_create_on_node(dvsm_populate_help, populate, nid, "dvsm_populate/%u", nth);
	if (!IS_ERR(helper)) {
		set_cpus_allowed_ptr(helper, cpus);
		wake_up_process(helper);
	}
	free_cpumask_var(cpus);
	return IS_ERR(helper) ? NULL : helper;
}

/* Whether there may be one more helper. */
static bool dvsm_populate_try_charge(void)
{
	if (atomic_inc_return(&dvsm_populate_nr_helpers) <= num_online_cpus())
		return true;
	atomic_dec(&dvsm_populate_nr_helpers);
	return false;
}

static void dvsm_populate_uncharge(void)
{
	atomic_dec(&dvsm_populate_nr_helpers);
}

static void dvsm_populate_with(struct dvsm_populate *populate, unsigned int nr_helpers, int here)
{
	struct dvsm_placing placing = {
		.here = here,
		.allowed = here == NUMA_NO_NODE ? NULL : &populate->allowed,
	};
	struct task_struct **helpers = NULL;
	unsigned int nr = 0;

	if (nr_helpers)
		helpers = kcalloc(nr_helpers, sizeof(*helpers), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	while (helpers && nr < nr_helpers && dvsm_populate_try_charge()) {
		helpers[nr] = dvsm_populate_start(populate, nr);
		if (!helpers[nr]) {
			dvsm_populate_uncharge();
			break;
		}
		nr++;
	}
	dvsm_populate_run(populate, &placing);
	while (nr) {
		kthread_stop(helpers[--nr]);
		dvsm_populate_uncharge();
	}
	kfree(helpers);
}

/**
 * dvsm_region_populate - Allocate every page of a range.
 * @region: the region
 * @start: first byte, page aligned
 * @end: the byte after the last, page aligned, in the region
 * @nr_threads: at most so many CPUs; 0 for a choice by size
 * @here: node to call local, or NUMA_NO_NODE: this CPU's
 * @populated: gets the bytes that were allocated, in error too; may be NULL
 *
 * Context: process; may sleep; no dvsm lock held.
 * Return: 0; -ENOMEM; -ENOSPC at a dvsm limit; -EINTR after a fatal signal.
 */
int dvsm_region_populate(struct dvsm_region *region, loff_t start, loff_t end,
			 unsigned int nr_threads, int here, u64 *populated)
{
	struct dvsm_populate populate = {
		.region = region,
		.caller = current,
		.here = here == NUMA_NO_NODE ? numa_node_id() : here,
		.start = start >> PAGE_SHIFT,
		.end = end >> PAGE_SHIFT,
	};

	if (start < end) {
		populate.allowed = cpuset_current_mems_allowed;
		populate.memcg = get_mem_cgroup_from_mm(current->mm);
		atomic64_set(&populate.next_chunk, dvsm_page_chunk(populate.start));
		dvsm_populate_with(&populate, dvsm_populate_helpers(&populate, nr_threads), here);
		mem_cgroup_put(populate.memcg);
	}
	if (populated)
		*populated = (u64)atomic_long_read(&populate.nr_populated) << PAGE_SHIFT;
	trace_dvsm_populate(region->id, populate.start, populate.end,
			    atomic_long_read(&populate.nr_populated), populate.error);
	return populate.error == -EDQUOT ? -ENOMEM : populate.error;
}

/**
 * dvsm_region_pin - Allocate every page of a range of a pinned region.
 * @region: the region
 * @start: first byte, page aligned
 * @end: the byte after the last, page aligned, in the region
 * @nr_threads: as for dvsm_region_populate()
 * @here: as for dvsm_region_populate()
 *
 * A range that can never fit is refused before memory is taken for it.
 *
 * Context: process; may sleep; no dvsm lock held.
 * Return: as dvsm_region_populate().
 */
int dvsm_region_pin(struct dvsm_region *region, loff_t start, loff_t end,
		    unsigned int nr_threads, int here)
{
	u64 nr_pages = (end - start) >> PAGE_SHIFT;

	if (region->locker && nr_pages > region->lock_limit)
		return -ENOMEM;
	if (nr_pages > min(dvsm_account_limit(), dvsm_account_limit_user()))
		return -ENOSPC;
	return dvsm_region_populate(region, start, end, nr_threads, here, NULL);
}
