/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names: how strangers find a region.
 *
 * On the device a name belongs to an IPC namespace, has an owner and mode bits, and
 * ends with the last user of its region or, with DVSM_NAME_F_KEEP, when it is
 * unlinked or its IPC namespace ends. On memfd a name is a file in /dev/shm, as
 * shm_open() makes them: always kept, and whoever may write to it may also change its
 * length. All files there share what that file system has room for (in containers often
 * 64 MiB), and a touch that finds it full is SIGBUS: dvsm_region_populate() asks first, and
 * heaps that are told no size are no larger. A name is 1 to 255 bytes without '/', not "." and not ".."; one '/' before
 * it is ignored.
 */
#ifndef DVSM_NAME_H
#define DVSM_NAME_H

#include <dvsm/region.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * dvsm_name_create - give a region a name.
 * @region: handle, of a descriptor opened for writing
 * @name: must not be there yet
 * @mode: 0 to 0777, less the umask
 * @flags: DVSM_NAME_F_KEEP
 *
 * Return: 0; -EEXIST; -EINVAL; -EBADF (a read-only descriptor, or an implicit region);
 * -EPERM (KEEP for another user's region); -ENOSPC (the user has limit_user_names);
 * -ENOMEM; -EOPNOTSUPP on memfd, and for flags that do not exist; what
 * open("/dev/dvsm") says.
 */
DVSM_API int dvsm_name_create(const struct dvsm_region *region, const char *name, uint32_t mode,
			      uint32_t flags);

/**
 * dvsm_region_create_named - make a region that has a name, on every backend.
 * @name: must not be there yet
 * @mode: 0 to 0777, less the umask
 * @flags: DVSM_NAME_F_KEEP; without it -EOPNOTSUPP on memfd, where nothing ends a
 *   name but dvsm_name_unlink()
 * @length: as for dvsm_region_create()
 * @options: as for dvsm_region_create(). On memfd flags and policies are EOPNOTSUPP, and
 *   so is MEMFD_HUGETLB
 *
 * Nobody finds the name before the region has its length.
 *
 * Return: the handle; NULL and errno, as dvsm_region_create() and dvsm_name_create()
 * say; EACCES where /dev/shm cannot be written.
 */
DVSM_API struct dvsm_region *
dvsm_region_create_named(const char *name, uint32_t mode, uint32_t flags, uint64_t length,
			 const struct dvsm_region_options *options);

/**
 * dvsm_name_open - open a region by its name.
 * @name: the name
 * @flags: DVSM_NAME_F_READ_ONLY; on memfd as shm_open(O_RDONLY), so its owner may open
 *   it again for writing
 * @backend: DVSM_BACKEND_; AUTO looks where AUTO makes regions, and nowhere else
 *
 * Return: the handle; NULL and errno ENOENT, EACCES, EINVAL, EMFILE, ENOMEM, EOPNOTSUPP
 * (MEMFD_HUGETLB, unknown flags).
 */
DVSM_API struct dvsm_region *dvsm_name_open(const char *name, uint32_t flags, uint32_t backend);

/**
 * dvsm_name_unlink - end a name; who has the region open keeps it.
 * @name: the name
 * @backend: as for dvsm_name_open()
 *
 * Return: 0; -ENOENT; -EACCES (not the owner; on memfd -EPERM too, as unlink() says);
 * -EINVAL; -EOPNOTSUPP.
 */
DVSM_API int dvsm_name_unlink(const char *name, uint32_t backend);

/**
 * dvsm_name_list - the names of the caller's IPC namespace, on the device.
 * @cursor: *@cursor is 0 to begin; receives where the next call goes on
 * @names: array
 * @nr_names: its elements, more than 0
 *
 * Return: elements written, 0 at the end; -EINVAL, -EFAULT, -ENOMEM; what
 * open("/dev/dvsm") says.
 */
DVSM_API int dvsm_name_list(uint64_t *cursor, struct dvsm_name *names, uint32_t nr_names);

#ifdef __cplusplus
}
#endif

#endif /* DVSM_NAME_H */
