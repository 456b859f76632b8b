// SPDX-License-Identifier: LGPL-2.1-or-later
/* Pins, dma-bufs, extents: one command a call, on the one backend that has them. */
#include <stdio.h>
#include <sys/resource.h>

#include <dvsm/dma.h>

#include "internal.h"

int dvsm_region_pin(const struct dvsm_region *region, uint64_t offset, uint64_t length)
{
	struct dvsm_region_pin pin = { .size = sizeof(pin), .offset = offset, .length = length };

	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail(EOPNOTSUPP);
	return dvsm_result(dvsm_ioctl(region->fd, DVSM_IOC_REGION_PIN, &pin));
}

int dvsm_region_unpin(const struct dvsm_region *region, uint64_t offset, uint64_t length)
{
	struct dvsm_region_unpin unpin = {
		.size = sizeof(unpin),
		.offset = offset,
		.length = length,
	};

	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail(EOPNOTSUPP);
	return dvsm_result(dvsm_ioctl(region->fd, DVSM_IOC_REGION_UNPIN, &unpin));
}

int dvsm_region_export_dmabuf(const struct dvsm_region *region, uint64_t offset, uint64_t length)
{
	struct dvsm_region_export_dmabuf export = {
		.size = sizeof(export),
		.offset = offset,
		.length = length,
	};

	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail(EOPNOTSUPP);
	return dvsm_result(dvsm_ioctl(region->fd, DVSM_IOC_REGION_EXPORT_DMABUF, &export));
}

int dvsm_region_extents(const struct dvsm_region *region, uint64_t offset, uint64_t length,
			struct dvsm_range *ranges, uint32_t nr_ranges, uint64_t *next)
{
	struct dvsm_region_extents extents = {
		.size = sizeof(extents),
		.offset = offset,
		.length = length,
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr_ranges,
	};
	int error;

	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail(EOPNOTSUPP);
	error = dvsm_ioctl(region->fd, DVSM_IOC_REGION_EXTENTS, &extents);
	if (next && !error)
		*next = extents.out_next;
	return error ? dvsm_fail(error) : (int)extents.out_nr_ranges;
}

int dvsm_memlock_explain(uint64_t length, char *text, size_t size)
{
	unsigned long long wanted = length, kib = (wanted + 1023) / 1024;
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY ||
	    limit.rlim_cur >= wanted) {
		snprintf(text, size, "%llu bytes are within RLIMIT_MEMLOCK: "
			 "what else this user has pinned, or a lack of memory, is the reason",
			 wanted);
		return 0;
	}
	snprintf(text, size, "%llu bytes cannot be pinned: RLIMIT_MEMLOCK is %llu bytes. "
		 "Raise it by \"ulimit -l %llu\", a line \"* hard memlock %llu\" in "
		 "/etc/security/limits.conf, LimitMEMLOCK=%lluK in a systemd unit, "
		 "or give the program CAP_IPC_LOCK", wanted,
		 (unsigned long long)limit.rlim_cur, kib, kib, kib);
	return 1;
}
