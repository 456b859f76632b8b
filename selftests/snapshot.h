/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the snapshot tests share.
 */
#ifndef DVSM_SELFTESTS_SNAPSHOT_H
#define DVSM_SELFTESTS_SNAPSHOT_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/dvsm.h>
#include "kselftest_harness.h"

#define PAGE		4096UL
#define CHUNK		DVSM_CHUNK_SIZE
#define CHUNK_PAGES	(CHUNK / PAGE)

static inline int region_create(size_t length, __u32 flags)
{
	struct dvsm_region_create arg = { .size = sizeof(arg), .flags = flags, .length = length };
	int device = open(DVSM_DEVICE_PATH, O_RDWR | O_CLOEXEC);
	int fd;

	if (device < 0)
		return -1;
	fd = ioctl(device, DVSM_IOC_REGION_CREATE, &arg);
	close(device);
	return fd;
}

static inline int snapshot_take_range(int fd, __u64 offset, __u64 length, __u32 flags)
{
	struct dvsm_snapshot_take arg = {
		.size = sizeof(arg),
		.flags = flags,
		.offset = offset,
		.length = length,
	};

	return ioctl(fd, DVSM_IOC_SNAPSHOT_TAKE, &arg);
}

static inline int snapshot_take(int fd)
{
	return snapshot_take_range(fd, 0, 0, 0);
}

#endif /* DVSM_SELFTESTS_SNAPSHOT_H */
