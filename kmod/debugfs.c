// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/dvsm: "stats", the module's totals, which are zero when
 * nobody uses it; "regions", one line for each region; "delay_us", for tests.
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
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(dvsm_debugfs_stats);

static void dvsm_debugfs_show_region(struct dvsm_region *region, void *arg)
{
	struct seq_file *m = arg;
	unsigned long faults = 0, remote = 0, moved = 0;
	unsigned int nid;

	for (nid = 0; nid < nr_node_ids; nid++) {
		faults += atomic_long_read(&region->nodes[nid].nr_faults);
		remote += atomic_long_read(&region->nodes[nid].nr_faults_remote);
		moved += atomic_long_read(&region->nodes[nid].nr_moved_in);
	}
	seq_printf(m, "%llu uid=%u length=%llu flags=%#x policy=%u pages=%lu faults=%lu remote=%lu moved=%lu label=%s\n",
		   region->id, from_kuid_munged(current_user_ns(), region->user->uid),
		   region->length, region->flags, region->policy.mode,
		   READ_ONCE(region->inode->i_mapping->nrpages), faults, remote, moved,
		   region->label);
}

static int dvsm_debugfs_regions_show(struct seq_file *m, void *unused)
{
	dvsm_region_for_each(dvsm_debugfs_show_region, m);
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
