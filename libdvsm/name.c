// SPDX-License-Identifier: LGPL-2.1-or-later
/* Names: the device's registry, or files in /dev/shm. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <dvsm/name.h>

#include "internal.h"

#define DVSM_SHM_FOLDER	"/dev/shm"

/* @name without its leading '/', or NULL where it cannot be one. */
static const char *dvsm_name_check(const char *name)
{
	size_t length;

	name += *name == '/';
	length = strnlen(name, DVSM_NAME_SIZE);
	if (!length || length == DVSM_NAME_SIZE || strchr(name, '/') || !strcmp(name, ".") ||
	    !strcmp(name, ".."))
		return NULL;
	return name;
}

/* Whose names are meant: the device's registry, or of any memfd the files in /dev/shm. */
static int dvsm_name_backend(uint32_t backend)
{
	int chosen = dvsm_backend_choose(backend);

	if (chosen == DVSM_BACKEND_MEMFD_HUGETLB)
		return -EOPNOTSUPP;
	if (chosen == DVSM_BACKEND_MEMFD && !dvsm_system_thp())
		return DVSM_BACKEND_MEMFD_4K;
	return chosen;
}

int dvsm_name_create(const struct dvsm_region *region, const char *name, uint32_t mode,
		     uint32_t flags)
{
	struct dvsm_name_create create = {
		.size = sizeof(create),
		.flags = flags,
		.region = region->fd,
		.mode = mode,
	};

	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail(EOPNOTSUPP);
	name = dvsm_name_check(name);
	if (!name)
		return dvsm_fail(EINVAL);
	memcpy(create.name, name, strlen(name));
	return dvsm_result(dvsm_device_ioctl(DVSM_IOC_NAME_CREATE, &create));
}

/* @chosen: as above. A memfd's backend is told by the file but for that of 4 KiB pages. */
static struct dvsm_region *dvsm_name_wrap(int fd, int chosen)
{
	return dvsm_region_wrap(fd, chosen == DVSM_BACKEND_MEMFD_4K ? DVSM_BACKEND_MEMFD_4K :
								      DVSM_BACKEND_AUTO);
}

static void dvsm_shm_path(char *path, size_t size, const char *name)
{
	snprintf(path, size, DVSM_SHM_FOLDER "/%s", name);
}

static int dvsm_shm_create(uint32_t mode, uint64_t length)
{
	int fd = open(DVSM_SHM_FOLDER, O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
	int error;

	if (fd < 0)
		return -errno;
	fd = dvsm_fd_raise(fd);
	if (fd < 0)
		return fd;
	error = dvsm_file_set_length(fd, length);
	if (!error)
		return fd;
	close(fd);
	return error;
}

static int dvsm_shm_name(int fd, const char *name)
{
	char path[sizeof(DVSM_SHM_FOLDER) + DVSM_NAME_SIZE], self[64];

	dvsm_shm_path(path, sizeof(path), name);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

/* What a file in /dev/shm can be. */
static int dvsm_shm_check(uint32_t mode, uint32_t flags, uint64_t length,
			  const struct dvsm_region_options *options)
{
	if (flags != DVSM_NAME_F_KEEP)
		return -EOPNOTSUPP;
	if (options && (options->flags || options->policy))
		return -EOPNOTSUPP;
	if (options && (options->nr_nodes || options->nodes || dvsm_options_weights(options)))
		return -EINVAL;
	if (mode & ~0777U || !length || length % DVSM_PAGE_SIZE || length > INT64_MAX)
		return -EINVAL;
	return 0;
}

/* A region that can get a name, once it is what those who find it expect. */
struct dvsm_region *dvsm_nameable_create(uint32_t mode, uint32_t flags, uint64_t length,
					 const struct dvsm_region_options *options)
{
	uint32_t backend = DVSM_BACKEND_AUTO;
	int chosen, error;

	if (options) {
		error = dvsm_options_check(options);
		if (error)
			return dvsm_fail_null(error);
		backend = options->backend;
	}
	chosen = dvsm_name_backend(backend);
	if (chosen < 0)
		return dvsm_fail_null(chosen);
	if (chosen == DVSM_BACKEND_DEVICE)
		return dvsm_region_create(length, options);
	error = dvsm_shm_check(mode, flags, length, options);
	if (error)
		return dvsm_fail_null(error);
	return dvsm_name_wrap(dvsm_shm_create(mode, length), chosen);
}

/* Bytes that the file system of such a region can ever have, for all of its files; UINT64_MAX: nothing says so. */
uint64_t dvsm_nameable_room(uint32_t backend)
{
	struct statfs fs;

	/* A tmpfs without a limit says 0. */
	if (dvsm_name_backend(backend) == DVSM_BACKEND_DEVICE || statfs(DVSM_SHM_FOLDER, &fs) || !fs.f_blocks)
		return UINT64_MAX;
	return (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
}

int dvsm_nameable_name(const struct dvsm_region *region, const char *name, uint32_t mode,
		       uint32_t flags)
{
	if (region->backend == DVSM_BACKEND_DEVICE)
		return dvsm_name_create(region, name, mode, flags);
	name = dvsm_name_check(name);
	return dvsm_result(name ? dvsm_shm_name(region->fd, name) : -EINVAL);
}

struct dvsm_region *dvsm_region_create_named(const char *name, uint32_t mode, uint32_t flags,
					     uint64_t length,
					     const struct dvsm_region_options *options)
{
	struct dvsm_region *region;

	if (!dvsm_name_check(name))
		return dvsm_fail_null(EINVAL);
	region = dvsm_nameable_create(mode, flags, length, options);
	if (!region || !dvsm_nameable_name(region, name, mode, flags))
		return region;
	dvsm_region_destroy(region);
	return NULL;
}

static int dvsm_shm_open(const char *name, uint32_t flags)
{
	int access = flags & DVSM_NAME_F_READ_ONLY ? O_RDONLY : O_RDWR;
	char path[sizeof(DVSM_SHM_FOLDER) + DVSM_NAME_SIZE];
	int fd;

	if (flags & ~DVSM_NAME_F_READ_ONLY)
		return -EOPNOTSUPP;
	dvsm_shm_path(path, sizeof(path), name);
	fd = open(path, access | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return fd < 0 ? -errno : dvsm_fd_raise(fd);
}

struct dvsm_region *dvsm_name_open(const char *name, uint32_t flags, uint32_t backend)
{
	struct dvsm_name_open argument = { .size = sizeof(argument), .flags = flags };
	int chosen;

	name = dvsm_name_check(name);
	if (!name)
		return dvsm_fail_null(EINVAL);
	chosen = dvsm_name_backend(backend);
	if (chosen < 0)
		return dvsm_fail_null(chosen);
	if (chosen != DVSM_BACKEND_DEVICE)
		return dvsm_name_wrap(dvsm_shm_open(name, flags), chosen);
	memcpy(argument.name, name, strlen(name));
	return dvsm_name_wrap(dvsm_device_ioctl(DVSM_IOC_NAME_OPEN, &argument), chosen);
}

int dvsm_name_unlink(const char *name, uint32_t backend)
{
	char path[sizeof(DVSM_SHM_FOLDER) + DVSM_NAME_SIZE];
	struct dvsm_name_unlink argument = { .size = sizeof(argument) };
	int chosen;

	name = dvsm_name_check(name);
	if (!name)
		return dvsm_fail(EINVAL);
	chosen = dvsm_name_backend(backend);
	if (chosen < 0)
		return dvsm_fail(chosen);
	if (chosen != DVSM_BACKEND_DEVICE) {
		dvsm_shm_path(path, sizeof(path), name);
		return unlink(path) ? dvsm_fail(errno) : 0;
	}
	memcpy(argument.name, name, strlen(name));
	return dvsm_result(dvsm_device_ioctl(DVSM_IOC_NAME_UNLINK, &argument));
}

int dvsm_name_list(uint64_t *cursor, struct dvsm_name *names, uint32_t nr_names)
{
	struct dvsm_name_list argument = {
		.size = sizeof(argument),
		.cursor = *cursor,
		.names = (uintptr_t)names,
		.nr_names = nr_names > INT32_MAX ? INT32_MAX : nr_names,
	};
	int error = dvsm_device_ioctl(DVSM_IOC_NAME_LIST, &argument);

	if (error)
		return dvsm_fail(error);
	*cursor = argument.out_next;
	return (int)argument.out_nr_names;
}
