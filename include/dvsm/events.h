/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Members of a region, and the events of their deaths.
 *
 * A process joins a region with a cookie of its own making; when it dies, in
 * whatever way, or runs another program, everybody who has an events descriptor of
 * the region reads that. What exactly an event promises is said in <linux/dvsm.h>.
 * The DEVICE backend alone has them: all calls here are -EOPNOTSUPP on the others, and
 * dvsm_region_features() has no DVSM_FEATURE_EVENTS there.
 */
#ifndef DVSM_EVENTS_H
#define DVSM_EVENTS_H

#include <dvsm/region.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * dvsm_region_join - become a member.
 * @region: handle, of a descriptor opened for writing
 * @cookie: what events tell; a process may join with several
 *
 * It is the process that joins, not the handle or the thread: a child by fork() is no
 * member, and closing descriptors changes nothing. A process that has joined takes
 * longer to end, for the kernel waits there for its other processors.
 *
 * Return: 0; -EEXIST (joined with this cookie already); -ENOSPC (the user has
 * limit_user_members); -EBADF; -ENOMEM; -EOPNOTSUPP.
 */
DVSM_API int dvsm_region_join(const struct dvsm_region *region, uint64_t cookie);

/**
 * dvsm_region_leave - be a member no more; no event comes of it.
 * @region: handle, of a descriptor opened for writing
 * @cookie: as for dvsm_region_join()
 *
 * Return: 0; -ENOENT; -EBADF; -ENOMEM; -EOPNOTSUPP.
 */
DVSM_API int dvsm_region_leave(const struct dvsm_region *region, uint64_t cookie);

/**
 * dvsm_region_members - who is a member and lives, in the order of joining.
 * @region: handle
 * @cursor: *@cursor is 0 to begin; receives where the next call goes on
 * @members: array
 * @nr_members: its elements, more than 0
 *
 * Return: elements written, 0 at the end; -EINVAL, -EFAULT, -EINTR (a fatal signal),
 * -EOPNOTSUPP.
 */
DVSM_API int dvsm_region_members(const struct dvsm_region *region, uint64_t *cursor,
				 struct dvsm_member *members, uint32_t nr_members);

/**
 * dvsm_region_events - a descriptor to poll and to read struct dvsm_event from.
 * @region: handle
 *
 * Close-on-exec, the caller's to close. Begins with the oldest event that the region
 * remembers. Does not keep the region: POLLHUP and end of file when that is gone.
 *
 * Return: the descriptor; -EMFILE, -ENOMEM, -EOPNOTSUPP.
 */
DVSM_API int dvsm_region_events(const struct dvsm_region *region);

#ifdef __cplusplus
}
#endif

#endif /* DVSM_EVENTS_H */
