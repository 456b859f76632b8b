/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looking at regions that others have: the list, and handles that only look.
 *
 * The DEVICE backend alone has them; elsewhere nobody knows who has a region. One sees
 * the regions of one's own user; with CAP_SYS_ADMIN in the first user namespace, those
 * of all users.
 */
#ifndef DVSM_WATCH_H
#define DVSM_WATCH_H

#include <dvsm/region.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * dvsm_region_list - the regions that the caller may look at, by their ids.
 * @cursor: *@cursor is 0 to begin; receives where the next call goes on
 * @regions: array
 * @nr_regions: its elements, more than 0
 *
 * Return: elements written, 0 at the end; -EINVAL, -EFAULT, -ENOMEM; what
 * open("/dev/dvsm") says.
 */
DVSM_API int dvsm_region_list(uint64_t *cursor, struct dvsm_region_entry *regions,
			      uint32_t nr_regions);

/**
 * dvsm_region_watch - a handle that only looks at a region.
 * @id: out_id of the region
 *
 * Its descriptor can be asked for info, nodes, residency, extents, members and the report
 * of balancing; all else is -EBADF, and it cannot be mapped. It does not keep the region:
 * once the last other user is gone calls answer -ENOENT.
 *
 * Return: the handle; NULL and errno: ENOENT, EACCES (another user's), EMFILE, ENOMEM;
 * what open("/dev/dvsm") says.
 */
DVSM_API struct dvsm_region *dvsm_region_watch(uint64_t id);

#ifdef __cplusplus
}
#endif

#endif /* DVSM_WATCH_H */
