/* SPDX-License-Identifier: GPL-2.0-only */
/* Commands on their way from ioctl.c to who carries them out. */
#ifndef DVSM_COMMAND_H
#define DVSM_COMMAND_H

#include <linux/fs.h>
#include <linux/dvsm.h>

#include "dvsm.h"

/* A command on its way. */
struct dvsm_call {
	struct file *file;		/* that the command was given to */
	struct file *region_file;	/* of the region that it is about; NULL for the device */
	struct dvsm_region *region;	/* that it is about; NULL for the device */
	struct file *new_file;		/* to be returned as a descriptor */
	int here;			/* node to call local, or NUMA_NO_NODE: this CPU's */
	union {
		struct {
			u32 size;
			u32 flags;
		};
		struct dvsm_info info;
		struct dvsm_region_create region_create;
		struct dvsm_region_info region_info;
		struct dvsm_region_nodes region_nodes;
		struct dvsm_region_populate region_populate;
		struct dvsm_region_discard region_discard;
		struct dvsm_region_residency region_residency;
		struct dvsm_region_reopen region_reopen;
		struct dvsm_region_unshare region_unshare;
		struct dvsm_region_diff region_diff;
		struct dvsm_region_pin region_pin;
		struct dvsm_region_unpin region_unpin;
		struct dvsm_region_export_dmabuf region_export_dmabuf;
		struct dvsm_region_extents region_extents;
		struct dvsm_region_place region_place;
		struct dvsm_region_promote region_promote;
		struct dvsm_region_split region_split;
		struct dvsm_region_events region_events;
		struct dvsm_region_join region_join;
		struct dvsm_region_leave region_leave;
		struct dvsm_region_members region_members;
		struct dvsm_region_balance region_balance;
		struct dvsm_region_list region_list;
		struct dvsm_region_watch region_watch;
		struct dvsm_region_find region_find;
		struct dvsm_name_create name_create;
		struct dvsm_name_open name_open;
		struct dvsm_name_unlink name_unlink;
		struct dvsm_name_list name_list;
		struct dvsm_snapshot_take snapshot_take;
		struct dvsm_snapshot_restore snapshot_restore;
		struct dvsm_snapshot_merge snapshot_merge;
		struct dvsm_region_migrate region_migrate;
	} arg;
};

/* For a handler that makes a descriptor: @file is it, or the error. */
static inline int dvsm_call_answer(struct dvsm_call *call, struct file *file)
{
	if (IS_ERR(file))
		return PTR_ERR(file);
	call->new_file = file;
	return 0;
}

/*
 * Handlers: they check what the argument says, and answer as <linux/dvsm.h> says of the
 * command. Context: process or io_uring worker; may sleep; no dvsm lock held.
 */

/* command_device.c */
int dvsm_info_ioctl(struct dvsm_call *call);
int dvsm_region_create_ioctl(struct dvsm_call *call);
int dvsm_name_create_ioctl(struct dvsm_call *call);
int dvsm_name_open_ioctl(struct dvsm_call *call);
int dvsm_name_unlink_ioctl(struct dvsm_call *call);
int dvsm_name_list_ioctl(struct dvsm_call *call);
int dvsm_region_list_ioctl(struct dvsm_call *call);
int dvsm_region_watch_ioctl(struct dvsm_call *call);
int dvsm_region_find_ioctl(struct dvsm_call *call);
int dvsm_label_check(const u8 *label);

/* command_region.c */
int dvsm_region_info_ioctl(struct dvsm_call *call);
int dvsm_region_nodes_ioctl(struct dvsm_call *call);
int dvsm_region_populate_ioctl(struct dvsm_call *call);
int dvsm_region_discard_ioctl(struct dvsm_call *call);
int dvsm_region_residency_ioctl(struct dvsm_call *call);
int dvsm_region_reopen_ioctl(struct dvsm_call *call);
int dvsm_region_pin_ioctl(struct dvsm_call *call);
int dvsm_region_unpin_ioctl(struct dvsm_call *call);
int dvsm_region_export_dmabuf_ioctl(struct dvsm_call *call);
int dvsm_region_extents_ioctl(struct dvsm_call *call);
int dvsm_region_place_ioctl(struct dvsm_call *call);
int dvsm_region_promote_ioctl(struct dvsm_call *call);
int dvsm_region_split_ioctl(struct dvsm_call *call);
int dvsm_region_balance_ioctl(struct dvsm_call *call);
int dvsm_region_events_ioctl(struct dvsm_call *call);
int dvsm_region_join_ioctl(struct dvsm_call *call);
int dvsm_region_leave_ioctl(struct dvsm_call *call);
int dvsm_region_members_ioctl(struct dvsm_call *call);
int dvsm_region_migrate_ioctl(struct dvsm_call *call);
int dvsm_range_check(const struct dvsm_region *region, u64 offset, u64 *length);
bool dvsm_range_is_chunks(const struct dvsm_region *region, u64 offset, u64 length);

/* command_snapshot.c */
int dvsm_region_unshare_ioctl(struct dvsm_call *call);
int dvsm_snapshot_take_ioctl(struct dvsm_call *call);
int dvsm_region_diff_ioctl(struct dvsm_call *call);
int dvsm_snapshot_restore_ioctl(struct dvsm_call *call);
int dvsm_snapshot_merge_ioctl(struct dvsm_call *call);

#endif /* DVSM_COMMAND_H */
