// SPDX-License-Identifier: LGPL-2.1-or-later
/* Which backend: by the caller, by the environment, or by what there is. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

static const char *const dvsm_backend_names[] = {
	[DVSM_BACKEND_AUTO] = "auto",
	[DVSM_BACKEND_DEVICE] = "device",
	[DVSM_BACKEND_MEMFD] = "memfd",
	[DVSM_BACKEND_MEMFD_HUGETLB] = "memfd-hugetlb",
	[DVSM_BACKEND_MEMFD_THP] = "memfd-thp",
	[DVSM_BACKEND_MEMFD_4K] = "memfd-4k",
};

#define DVSM_NR_BACKENDS (sizeof(dvsm_backend_names) / sizeof(dvsm_backend_names[0]))

uint32_t dvsm_version(void)
{
	return DVSM_VERSION_MAJOR << 16 | DVSM_VERSION_MINOR;
}

const char *dvsm_backend_name(uint32_t backend)
{
	return backend < DVSM_NR_BACKENDS ? dvsm_backend_names[backend] : "unknown";
}

static int dvsm_backend_from_environment(void)
{
	const char *name = dvsm_getenv("DVSM_BACKEND");
	uint32_t backend;

	if (!name)
		return DVSM_BACKEND_AUTO;
	/* As the programs that come with the library call it, too. */
	if (!strcmp(name, "dvsm"))
		return DVSM_BACKEND_DEVICE;
	for (backend = 0; backend < DVSM_NR_BACKENDS; backend++)
		if (!strcmp(name, dvsm_backend_names[backend]))
			return (int)backend;
	dvsm_debug("dvsm: DVSM_BACKEND=%s names no backend\n", name);
	return -EINVAL;
}

/* What was asked for, by caller or environment: AUTO if nothing was. */
uint32_t dvsm_backend_wished(uint32_t backend)
{
	int chosen = backend ? (int)backend : dvsm_backend_from_environment();

	return chosen < 0 ? DVSM_BACKEND_AUTO : (uint32_t)chosen;
}

/* Replaces AUTO; MEMFD stays, because the choice there needs the length. */
int dvsm_backend_choose(uint32_t backend)
{
	int fd;

	if (backend >= DVSM_NR_BACKENDS)
		return -EOPNOTSUPP;
	if (backend == DVSM_BACKEND_AUTO) {
		int chosen = dvsm_backend_from_environment();

		if (chosen)
			return chosen;
	} else {
		return (int)backend;
	}
	fd = dvsm_device_open();
	if (fd < 0) {
		dvsm_debug("dvsm: %s: %s; using memfd\n", DVSM_DEVICE_PATH, strerrordesc_np(-fd));
		return DVSM_BACKEND_MEMFD;
	}
	close(fd);
	return DVSM_BACKEND_DEVICE;
}

int dvsm_backend_create(struct dvsm_region *region)
{
	int backend = dvsm_backend_choose(region->backend);
	int error;

	if (backend < 0)
		return backend;
	region->backend = (uint32_t)backend;
	region->ops = backend == DVSM_BACKEND_DEVICE ? &dvsm_device_ops : &dvsm_memfd_ops;
	error = region->ops->create(region);
	dvsm_debug("dvsm: region of %llu bytes on %s: %s\n",
		   (unsigned long long)region->length, dvsm_backend_name(region->backend),
		   error ? strerrordesc_np(-error) : "made");
	return error;
}

int dvsm_backend_open(struct dvsm_region *region, uint32_t backend)
{
	size_t page_size;
	int flags;

	flags = fcntl(region->fd, F_GETFL);
	if (flags < 0 || (flags & O_PATH))
		return -EBADF;
	if ((flags & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	if (backend > DVSM_BACKEND_MEMFD_4K)
		return -EINVAL;
	if ((flags & O_ACCMODE) == O_RDONLY)
		region->flags |= DVSM_REGION_F_READ_ONLY;
	if (dvsm_memfd_recognise(region->fd, &page_size))
		return dvsm_memfd_wrap(region, page_size, backend);
	if (backend != DVSM_BACKEND_AUTO && backend != DVSM_BACKEND_DEVICE)
		return -EINVAL;
	return dvsm_device_wrap(region);
}

int dvsm_info(uint32_t backend, struct dvsm_info *info)
{
	int chosen = dvsm_backend_choose(backend);
	struct dvsm_info answer = {
		.out_features = DVSM_MEMFD_FEATURES,
		.out_chunk_size = DVSM_CHUNK_SIZE,
		.out_length_max = INT64_MAX - (INT64_MAX % DVSM_PAGE_SIZE),
	};
	int error;

	if (chosen < 0)
		return dvsm_fail(chosen);
	if (chosen == DVSM_BACKEND_DEVICE) {
		error = dvsm_device_info(info);
		return error ? dvsm_fail(error) : chosen;
	}
	if (chosen == DVSM_BACKEND_MEMFD)
		chosen = dvsm_system_thp() ? DVSM_BACKEND_MEMFD_THP :
						   DVSM_BACKEND_MEMFD_4K;
	if (info->flags)
		return dvsm_fail(EOPNOTSUPP);
	answer.size = info->size;
	answer.out_nr_nodes = dvsm_system_nr_nodes();
	error = dvsm_struct_answer(info, info->size, DVSM_INFO_SIZE_FIRST, &answer,
				   sizeof(answer));
	return error ? dvsm_fail(error) : chosen;
}
