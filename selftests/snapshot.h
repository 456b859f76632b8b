/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The snapshot commands as one-line calls; they answer 0 or more, or -errno.
 */
#ifndef DVSM_SELFTEST_SNAPSHOT_H
#define DVSM_SELFTEST_SNAPSHOT_H

#include "fixture.h"

/* @granularity: bytes that a write copies; 0: a chunk */
static inline int
snapshot_take_as(int fd, uint64_t offset, uint64_t length, uint64_t granularity, uint32_t flags)
{
	struct dvsm_snapshot_take arg = {
		.size = sizeof(arg),
		.flags = flags,
		.offset = offset,
		.length = length,
		.granularity = granularity,
	};
	int ret = ioctl(fd, DVSM_IOC_SNAPSHOT_TAKE, &arg);

	return ret < 0 ? -errno : ret;
}

static inline int __attribute__((unused))
snapshot_take_range(int fd, uint64_t offset, uint64_t length, uint32_t flags)
{
	return snapshot_take_as(fd, offset, length, 0, flags);
}

static inline int __attribute__((unused))
snapshot_take_in_parts(int fd, uint64_t granularity, uint32_t flags)
{
	return snapshot_take_as(fd, 0, 0, granularity, flags);
}

/* A snapshot of all of a region, mapped; MAP_FAILED if either cannot be had. */
static inline char *__attribute__((unused))
snapshot_take_mapped(int fd, size_t length, uint64_t granularity, uint32_t flags, int *snapshot)
{
	*snapshot = snapshot_take_in_parts(fd, granularity, flags);
	return *snapshot < 0 ? MAP_FAILED : region_map(*snapshot, length, 0);
}

static inline int __attribute__((unused)) snapshot_take(int fd)
{
	return snapshot_take_as(fd, 0, 0, 0, 0);
}

static inline int __attribute__((unused)) snapshot_restore(int fd, int snapshot)
{
	struct dvsm_snapshot_restore arg = { .size = sizeof(arg), .snapshot = snapshot };

	return ioctl(fd, DVSM_IOC_SNAPSHOT_RESTORE, &arg) ? -errno : 0;
}

static inline int __attribute__((unused))
snapshot_merge(int fd, int snapshot, uint32_t flags, struct dvsm_snapshot_merge *arg)
{
	*arg = (struct dvsm_snapshot_merge) {
		.size = sizeof(*arg),
		.flags = flags,
		.snapshot = snapshot,
	};
	return ioctl(fd, DVSM_IOC_SNAPSHOT_MERGE, arg) ? -errno : 0;
}

/* How many ranges differ, at most @nr_ranges of them in @ranges; -errno. */
static inline int __attribute__((unused))
region_diff(int fd, int other, struct dvsm_range *ranges, uint32_t nr_ranges)
{
	struct dvsm_region_diff arg = {
		.size = sizeof(arg),
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr_ranges,
		.other = other,
	};

	return ioctl(fd, DVSM_IOC_REGION_DIFF, &arg) ? -errno : (int)arg.out_nr_ranges;
}

/* All that was written since this was last asked, in one call; as above. */
static inline int __attribute__((unused))
snapshot_advance(int fd, int snapshot, struct dvsm_range *ranges, uint32_t nr_ranges)
{
	struct dvsm_region_diff arg = {
		.size = sizeof(arg),
		.flags = DVSM_DIFF_F_ADVANCE,
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr_ranges,
		.other = snapshot,
	};

	return ioctl(fd, DVSM_IOC_REGION_DIFF, &arg) ? -errno : (int)arg.out_nr_ranges;
}

static inline int __attribute__((unused))
region_unshare(int fd, uint64_t offset, uint64_t length, uint64_t *unshared)
{
	struct dvsm_region_unshare arg = {
		.size = sizeof(arg),
		.offset = offset,
		.length = length,
	};
	int ret = ioctl(fd, DVSM_IOC_REGION_UNSHARE, &arg) ? -errno : 0;

	*unshared = arg.out_unshared;
	return ret;
}

#endif /* DVSM_SELFTEST_SNAPSHOT_H */
