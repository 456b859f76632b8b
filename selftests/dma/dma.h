/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of memory for devices share: the commands as one-line calls.
 */
#ifndef DVSM_SELFTEST_DMA_H
#define DVSM_SELFTEST_DMA_H

#include "snapshot.h"

#define DMA_CALL static inline int __attribute__((unused))

DMA_CALL region_pin(int fd, uint64_t offset, uint64_t length)
{
	struct dvsm_region_pin pin = { .size = sizeof(pin), .offset = offset, .length = length };

	return ioctl(fd, DVSM_IOC_REGION_PIN, &pin) < 0 ? -errno : 0;
}

DMA_CALL region_unpin(int fd, uint64_t offset, uint64_t length)
{
	struct dvsm_region_unpin unpin = {
		.size = sizeof(unpin),
		.offset = offset,
		.length = length,
	};

	return ioctl(fd, DVSM_IOC_REGION_UNPIN, &unpin) < 0 ? -errno : 0;
}

DMA_CALL region_export(int fd, uint64_t offset, uint64_t length)
{
	struct dvsm_region_export_dmabuf export = {
		.size = sizeof(export),
		.offset = offset,
		.length = length,
	};
	int dmabuf = ioctl(fd, DVSM_IOC_REGION_EXPORT_DMABUF, &export);

	return dmabuf < 0 ? -errno : dmabuf;
}

/* Pieces of a range that are contiguous, at most @nr_max; how many there are. */
DMA_CALL region_extents(int fd, uint64_t offset, uint64_t length, struct dvsm_range *ranges,
			uint32_t nr_max, uint64_t *next)
{
	struct dvsm_region_extents extents = {
		.size = sizeof(extents),
		.offset = offset,
		.length = length,
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr_max,
	};
	int ret = ioctl(fd, DVSM_IOC_REGION_EXTENTS, &extents);

	if (next)
		*next = extents.out_next;
	return ret < 0 ? -errno : (int)extents.out_nr_ranges;
}

static inline uint64_t __attribute__((unused)) region_pinned(int fd)
{
	struct dvsm_region_info info;

	return region_info(fd, &info) ? ~0ULL : info.out_pinned;
}

#endif /* DVSM_SELFTEST_DMA_H */
