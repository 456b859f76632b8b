// SPDX-License-Identifier: GPL-2.0-only
/* Commands on a region: its memory, where that is and stays, and who uses it. */
#include <linux/file.h>
#include <linux/pagemap.h>

#include "command.h"

/**
 * dvsm_range_check - Whether a range lies in a region.
 * @region: the region
 * @offset: its start in bytes
 * @length: in bytes; 0 is replaced by what is left of the region
 *
 * Context: any.
 * Return: 0 or -EINVAL.
 */
int dvsm_range_check(const struct dvsm_region *region, u64 offset, u64 *length)
{
	if (!*length && offset <= region->length)
		*length = region->length - offset;
	return dvsm_range_is_valid(offset, *length, region->length) ? 0 : -EINVAL;
}

/* As dvsm_range_check(), for what cannot be empty. */
static int dvsm_range_check_some(const struct dvsm_region *region, u64 offset, u64 *length)
{
	int ret = dvsm_range_check(region, offset, length);

	return ret ? ret : *length ? 0 : -EINVAL;
}

/**
 * dvsm_range_is_chunks - Whether a range is made of whole chunks.
 * @region: the region, whose end ends a chunk too
 * @offset: the range's start in bytes
 * @length: in bytes
 *
 * Context: any.
 * Return: true if it is.
 */
bool dvsm_range_is_chunks(const struct dvsm_region *region, u64 offset, u64 length)
{
	return IS_ALIGNED(offset, DVSM_CHUNK_SIZE) &&
	       (IS_ALIGNED(length, DVSM_CHUNK_SIZE) || offset + length == region->length);
}

int dvsm_region_info_ioctl(struct dvsm_call *call)
{
	dvsm_region_info_fill(call->region, &call->arg.region_info);
	if (!(call->file->f_mode & FMODE_WRITE))
		call->arg.region_info.out_flags |= DVSM_REGION_F_READ_ONLY;
	/* Then not all was counted. */
	return dvsm_shall_stop() ? -EINTR : 0;
}

int dvsm_region_nodes_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_nodes *arg = &call->arg.region_nodes;

	if (arg->reserved || (arg->node_size && arg->node_size < DVSM_NODE_STATS_SIZE_0))
		return -EINVAL;
	if (arg->node_size > PAGE_SIZE)
		return -E2BIG;
	return dvsm_region_nodes(call->region, arg);
}

int dvsm_region_populate_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_populate *arg = &call->arg.region_populate;
	u64 length = arg->length;
	int ret;

	arg->out_populated = 0;
	if (arg->reserved)
		return -EINVAL;
	ret = dvsm_range_check(call->region, arg->offset, &length);
	if (ret)
		return ret;
	return dvsm_region_populate(call->region, arg->offset, arg->offset + length,
				    arg->nr_threads, call->here, &arg->out_populated);
}

int dvsm_region_discard_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_discard *arg = &call->arg.region_discard;
	u64 length = arg->length;
	int ret;

	ret = dvsm_range_check(call->region, arg->offset, &length);
	if (ret)
		return ret;
	return dvsm_region_discard(call->region, arg->offset, arg->offset + length,
				   &arg->out_discarded);
}

int dvsm_region_residency_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_residency *arg = &call->arg.region_residency;
	u64 length = arg->length;
	int ret;

	if (!arg->nr_chunks)
		return -EINVAL;
	ret = dvsm_range_check(call->region, arg->offset, &arg->length);
	if (ret)
		return ret;
	ret = dvsm_region_residency(call->region, arg);
	arg->length = length;
	return ret;
}

int dvsm_region_reopen_ioctl(struct dvsm_call *call)
{
	bool read_only = call->arg.region_reopen.flags & DVSM_REOPEN_F_READ_ONLY;
	struct file *file;

	if (!(call->file->f_mode & FMODE_WRITE))
		read_only = true;
	file = dvsm_inode_open(call->region->inode, read_only ? O_RDONLY : O_RDWR);
	return dvsm_call_answer(call, file);
}

int dvsm_region_pin_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_pin *arg = &call->arg.region_pin;
	u64 length = arg->length;
	int ret;

	ret = dvsm_range_check_some(call->region, arg->offset, &length);
	if (ret)
		return ret;
	return PTR_ERR_OR_ZERO(dvsm_pin_create(call->region, call->region_file, DVSM_PIN_COMMAND,
					       arg->offset, arg->offset + length));
}

int dvsm_region_unpin_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_unpin *arg = &call->arg.region_unpin;
	u64 length = arg->length;
	int ret;

	ret = dvsm_range_check_some(call->region, arg->offset, &length);
	if (ret)
		return ret;
	return dvsm_pin_destroy(call->region, call->region_file, arg->offset,
				arg->offset + length);
}

int dvsm_region_export_dmabuf_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_export_dmabuf *arg = &call->arg.region_export_dmabuf;
	u64 length = arg->length;
	struct file *file;
	int ret;

	ret = dvsm_range_check_some(call->region, arg->offset, &length);
	if (ret)
		return ret;
	file = dvsm_region_export_dmabuf(call->region, arg->offset, arg->offset + length);
	return dvsm_call_answer(call, file);
}

int dvsm_region_extents_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_extents *arg = &call->arg.region_extents;
	u64 length = arg->length;
	int ret;

	if (!arg->nr_ranges)
		return -EINVAL;
	ret = dvsm_range_check(call->region, arg->offset, &arg->length);
	if (ret)
		return ret;
	ret = dvsm_region_extents(call->region, arg);
	arg->length = length;
	return ret;
}

static int dvsm_region_place_check(const struct dvsm_region *region,
				   const struct dvsm_region_place *arg, u64 *length)
{
	int ret = dvsm_range_check_some(region, arg->offset, length);

	return ret ? ret : dvsm_range_is_chunks(region, arg->offset, *length) ? 0 : -EINVAL;
}

int dvsm_region_place_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_place *arg = &call->arg.region_place;
	u64 length = arg->length;
	int ret;

	if (arg->flags & DVSM_PLACE_F_QUERY) {
		if (length || arg->policy || arg->offset >= call->region->length)
			return -EINVAL;
	} else {
		if (!(call->file->f_mode & FMODE_WRITE))
			return -EBADF;
		ret = dvsm_region_place_check(call->region, arg, &length);
		if (!ret)
			ret = dvsm_region_place_set(call->region, arg, arg->offset + length);
		if (ret)
			return ret;
	}
	return dvsm_region_place_look(call->region, arg);
}

int dvsm_region_promote_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_promote *arg = &call->arg.region_promote;
	u64 length = arg->length, end;
	int ret;

	ret = dvsm_range_check_some(call->region, arg->offset, &length);
	if (ret)
		return ret;
	memset_startat(arg, 0, out_nr_promoted);
	end = dvsm_page_chunk((arg->offset + length) >> PAGE_SHIFT);
	if (arg->offset >> DVSM_CHUNK_SHIFT >= end)
		return 0;
	return dvsm_region_promote(call->region,
				   (arg->offset + DVSM_CHUNK_SIZE - 1) >> DVSM_CHUNK_SHIFT,
				   end - 1, arg);
}

int dvsm_region_split_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_split *arg = &call->arg.region_split;
	u64 length = arg->length, end;
	int ret;

	ret = dvsm_range_check_some(call->region, arg->offset, &length);
	if (ret)
		return ret;
	memset_startat(arg, 0, out_nr_split);
	end = dvsm_page_chunk((arg->offset + length) >> PAGE_SHIFT);
	if (arg->offset >> DVSM_CHUNK_SHIFT >= end)
		return 0;
	return dvsm_region_split(call->region,
				 (arg->offset + DVSM_CHUNK_SIZE - 1) >> DVSM_CHUNK_SHIFT,
				 end - 1, arg);
}

int dvsm_region_balance_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_balance *arg = &call->arg.region_balance;

	if (arg->mode > DVSM_BALANCE_ON)
		return -EOPNOTSUPP;
	if (arg->mode != DVSM_BALANCE_KEEP && !(call->file->f_mode & FMODE_WRITE))
		return -EBADF;
	return dvsm_region_balance(call->region, arg);
}

int dvsm_region_events_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_events *arg = &call->arg.region_events;
	struct file *file;

	if (arg->event_size != sizeof(struct dvsm_event) || arg->reserved)
		return -EINVAL;
	file = dvsm_events_open(call->region);
	return dvsm_call_answer(call, file);
}

int dvsm_region_join_ioctl(struct dvsm_call *call)
{
	return dvsm_events_join(call->region, call->arg.region_join.cookie);
}

int dvsm_region_leave_ioctl(struct dvsm_call *call)
{
	return dvsm_events_leave(call->region, call->arg.region_leave.cookie);
}

int dvsm_region_members_ioctl(struct dvsm_call *call)
{
	if (!call->arg.region_members.nr_members)
		return -EINVAL;
	return dvsm_events_members(call->region, &call->arg.region_members);
}

static int dvsm_region_migrate_nodes(const struct dvsm_region_migrate *arg, nodemask_t *from,
				     nodemask_t *to)
{
	int ret = dvsm_nodes_from_user(to, arg->nodes, arg->nr_nodes);

	if (!ret)
		ret = dvsm_nodes_from_user(from, arg->from, arg->nr_from);
	if (ret)
		return ret;
	if (nodes_empty(*to) || !nodes_subset(*to, node_states[N_MEMORY]))
		return -EINVAL;
	if (!arg->nr_from)
		nodes_setall(*from);
	return 0;
}

int dvsm_region_migrate_ioctl(struct dvsm_call *call)
{
	struct dvsm_region_migrate *arg = &call->arg.region_migrate;
	struct dvsm_moved moved = {};
	u64 length = arg->length;
	nodemask_t from, to;
	int ret;

	ret = dvsm_range_check(call->region, arg->offset, &length);
	if (!ret)
		ret = dvsm_region_migrate_nodes(arg, &from, &to);
	if (ret)
		return ret;
	ret = dvsm_region_migrate(call->region, arg->offset, arg->offset + length, &from, &to,
				  &moved, &arg->out_next);
	arg->out_moved = (u64)moved.nr_moved << PAGE_SHIFT;
	arg->out_there = (u64)moved.nr_there << PAGE_SHIFT;
	arg->out_pinned_command = (u64)moved.nr_pinned[DVSM_PIN_COMMAND] << PAGE_SHIFT;
	arg->out_pinned_dmabuf = (u64)moved.nr_pinned[DVSM_PIN_DMABUF] << PAGE_SHIFT;
	arg->out_pinned_device = (u64)moved.nr_pinned[DVSM_PIN_DEVICE] << PAGE_SHIFT;
	arg->out_pinned = arg->out_pinned_command + arg->out_pinned_dmabuf + arg->out_pinned_device;
	arg->out_referenced = (u64)moved.nr_referenced << PAGE_SHIFT;
	arg->out_failed = (u64)moved.nr_failed << PAGE_SHIFT;
	return ret;
}
