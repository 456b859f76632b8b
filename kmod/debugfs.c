// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/dvsm: "stats", the module's totals, which are zero when
 * nobody uses it; "regions", one line for each region, memory in pages; "delay_us", for
 * tests.
 */
#include <linux/cred.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/pagemap.h>
#include <linux/seq_file.h>
#include <linux/uidgid.h>
#include <linux/user_namespace.h>

#include "dvsm.h"

static struct dentry *dvsm_debugfs;
static u32 dvsm_delay_us;

/**
 * dvsm_delay - Widen a window in which two things must not cross, for tests.
 *
 * Sleeps for as long as debugfs "delay_us" says, which is 0 but in tests.
 *
 * Context: may sleep.
 */
void dvsm_delay(void)
{
	u32 us = READ_ONCE(dvsm_delay_us);

	if (unlikely(us))
		usleep_range(us, us + us / 8 + 1);
}

static int dvsm_debugfs_stats_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "regions %lu\n", dvsm_region_count());
	seq_printf(m, "pages %lu\n", dvsm_account_charged());
	seq_printf(m, "pinned_pages %lu\n", dvsm_account_locked());
	seq_printf(m, "limit_pages %lu\n", dvsm_account_limit());
	seq_printf(m, "limit_user_pages %lu\n", dvsm_account_limit_user());
	seq_printf(m, "names %u\n", dvsm_name_count());
	seq_printf(m, "members %u\n", dvsm_events_count());
	seq_printf(m, "users %lu\n", dvsm_user_count());
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(dvsm_debugfs_stats);

/* The line of one region. */
struct dvsm_debugfs_line {
	struct seq_file *m;
	u64 id;				/* of the region */
	struct dvsm_usage usage;	/* of one that is open; else zeroes */
};

static bool dvsm_debugfs_note_id(struct dvsm_region *region, void *arg)
{
	struct dvsm_debugfs_line *line = arg;

	line->id = region->id;
	return true;
}

static bool dvsm_debugfs_show_region(struct dvsm_region *region, void *arg)
{
	struct dvsm_debugfs_line *line = arg;
	struct dvsm_stats *stats = &region->stats;
	unsigned long faults = 0, remote = 0, moved = 0, cow = 0;
	unsigned int nid;

	/* It may have ended meanwhile. */
	if (region->id != line->id)
		return true;
	for (nid = 0; nid < nr_node_ids; nid++) {
		faults += atomic_long_read(&region->nodes[nid].nr_faults);
		remote += atomic_long_read(&region->nodes[nid].nr_faults_remote);
		moved += dvsm_moves(region->nodes[nid].nr_moved_in);
		cow += atomic_long_read(&region->nodes[nid].nr_cow_faults);
	}
	seq_printf(line->m, "%llu uid=%u length=%llu flags=%#x policy=%u pages=%lu faults=%lu remote=%lu moved=%lu ",
		   region->id, from_kuid_munged(current_user_ns(), region->user->uid),
		   region->length, region->flags, dvsm_region_policy_mode(region),
		   READ_ONCE(region->inode->i_mapping->nrpages), faults, remote, moved);
	seq_printf(line->m, "reads=%lu shared=%lu copied=%lu cow=%lu cow-nodes=",
		   line->usage.nr_pages, line->usage.nr_shared,
		   atomic_long_read(&stats->nr_copied), cow);
	dvsm_region_show_cow_faults(line->m, region);
	seq_printf(line->m, " parts=%lu lost=%lu merges=%lu conflicts=%lu label=%s\n",
		   atomic_long_read(&stats->nr_faults_parts), atomic_long_read(&stats->nr_lost),
		   atomic_long_read(&stats->nr_merges), atomic_long_read(&stats->nr_conflicts),
		   region->label);
	return true;
}

/* One by one: what a region reads and shares is counted without the lock of the list. */
static int dvsm_debugfs_regions_show(struct seq_file *m, void *unused)
{
	struct dvsm_debugfs_line line = { .m = m };
	struct dvsm_region *region;
	u64 last;

	for (;;) {
		last = line.id;
		dvsm_region_for_each(last, dvsm_debugfs_note_id, &line);
		if (line.id == last || dvsm_is_interrupted())
			break;
		memset(&line.usage, 0, sizeof(line.usage));
		region = dvsm_region_get(line.id);
		if (!IS_ERR(region)) {
			dvsm_region_usage(region, &line.usage);
			dvsm_region_put(region);
		}
		dvsm_region_for_each(line.id - 1, dvsm_debugfs_show_region, &line);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(dvsm_debugfs_regions);

/**
 * dvsm_debugfs_init - Make the files.
 *
 * Context: module initialisation.
 */
void dvsm_debugfs_init(void)
{
	dvsm_debugfs = debugfs_create_dir("dvsm", NULL);
	debugfs_create_file("stats", 0444, dvsm_debugfs, NULL, &dvsm_debugfs_stats_fops);
	debugfs_create_u32("delay_us", 0600, dvsm_debugfs, &dvsm_delay_us);
	debugfs_create_file("regions", 0400, dvsm_debugfs, NULL, &dvsm_debugfs_regions_fops);
}

/**
 * dvsm_debugfs_exit - Remove them.
 *
 * Context: module exit.
 */
void dvsm_debugfs_exit(void)
{
	debugfs_remove(dvsm_debugfs);
}
