/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Operations of fail_test.c whose command goes by io_uring. The submitter's part
 * allocates nothing of ours, and what io_uring allocates for it is one operation's
 * to try; the command is done by a worker, a thread of this process with a fail-nth
 * of its own. There is one worker, so that it is known which.
 */
#ifndef DVSM_SELFTEST_FAIL_ASYNC_H
#define DVSM_SELFTEST_FAIL_ASYNC_H

#include <dirent.h>
#include <linux/io_uring.h>

#include "fail_operations.h"

/* Of this process, opened by async_worker(): what a ring takes is not ours to let fail. */
static struct uring async_ring = { .fd = -1 };

/* Its result, when it has completed. */
static int async_give(struct uring *ring, int fd, unsigned int cmd, const void *arg)
{
	struct io_uring_cqe cqe;
	int ret = uring_command(ring, fd, cmd, arg, 0);

	if (!ret)
		ret = uring_wait(ring, &cqe);
	return ret ? ret : cqe.res;
}

/* The thread that carries out the commands; it stays for as long as this process. */
static int async_worker(int dev)
{
	struct dvsm_info info = { .size = sizeof(info) };
	char path[300], name[32];
	struct dirent *entry;
	int ret, tid = -ESRCH;
	DIR *dir;

	ret = uring_open(&async_ring, 4);
	if (!ret)
		ret = uring_limit_workers(&async_ring, 1);
	if (!ret)
		ret = async_give(&async_ring, dev, DVSM_IOC_INFO, &info);
	if (ret)
		return ret;
	dir = opendir("/proc/self/task");
	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		if (!read_text(path, name, sizeof(name)) && !strncmp(name, "iou-wrk-", 8))
			tid = atoi(entry->d_name);
	}
	if (dir)
		closedir(dir);
	return tid;
}

/* The submission: request and its data, in a ring that has none from earlier. */
FAIL_OPERATION run_async_submit(int dev)
{
	struct dvsm_region_populate populate = { .size = sizeof(populate), .length = CHUNK };
	int fd = region_create(dev, LENGTH, 0), ret;
	struct uring ring;

	if (fd < 0)
		return fd;
	ret = uring_open(&ring, 4);
	if (!ret) {
		ret = async_give(&ring, fd, DVSM_IOC_REGION_POPULATE, &populate);
		uring_close(&ring);
	}
	close(fd);
	return ret;
}

FAIL_OPERATION run_async_populate(int dev)
{
	struct dvsm_region_populate populate = { .size = sizeof(populate), .nr_threads = 1 };
	int fd = region_create(dev, LENGTH, 0), ret;

	if (fd < 0)
		return fd;
	ret = async_give(&async_ring, fd, DVSM_IOC_REGION_POPULATE, &populate);
	if (!ret && populate.out_populated != LENGTH)
		ret = BYTES_WRONG;
	close(fd);
	return ret;
}

FAIL_OPERATION run_async_migrate(int dev)
{
	uint64_t nodes = 2;
	struct dvsm_region_migrate migrate = {
		.size = sizeof(migrate),
		.nodes = (uintptr_t)&nodes,
		.nr_nodes = 64,
	};
	int snapshot, fd = take(dev, &snapshot), ret;

	if (fd < 0)
		return fd;
	ret = async_give(&async_ring, fd, DVSM_IOC_REGION_MIGRATE, &migrate);
	nodes = 1;
	if (!ret)
		ret = async_give(&async_ring, snapshot, DVSM_IOC_REGION_MIGRATE, &migrate);
	close(fd);
	close(snapshot);
	return ret;
}

/* Either side writes behind what it was taken with. */
FAIL_OPERATION run_async_snapshot(int dev)
{
	struct dvsm_snapshot_take take = { .size = sizeof(take) };
	int fd = region_full(dev, 0), ret;
	struct side live, copy;

	if (fd < 0)
		return fd;
	ret = async_give(&async_ring, fd, DVSM_IOC_SNAPSHOT_TAKE, &take);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	live = side_of(fd);
	copy = side_of(ret);
	ret = side_write(&live, 0, 'x');
	ret = first_of(ret, side_write(&copy, CHUNK, 'y'));
	return sides_end(&live, &copy, false, ret);
}

/* A page of what a snapshot shares, then all. */
FAIL_OPERATION run_async_discard(int dev)
{
	struct dvsm_region_discard discard = {
		.size = sizeof(discard),
		.offset = PAGE,
		.length = CHUNK,
	};
	int snapshot, fd = take_in_parts(dev, PAGE, 0, &snapshot), ret;

	if (fd < 0)
		return fd;
	ret = async_give(&async_ring, fd, DVSM_IOC_REGION_DISCARD, &discard);
	discard.offset = discard.length = 0;
	if (!ret)
		ret = async_give(&async_ring, fd, DVSM_IOC_REGION_DISCARD, &discard);
	close(fd);
	close(snapshot);
	return ret;
}

FAIL_OPERATION run_async_diff(int dev)
{
	struct dvsm_range ranges[4];
	struct dvsm_region_diff diff = {
		.size = sizeof(diff),
		.ranges = (uintptr_t)ranges,
		.nr_ranges = 4,
	};
	int snapshot, fd = take_in_parts(dev, PAGE, 0, &snapshot), ret;

	if (fd < 0)
		return fd;
	ret = pwrite(fd, "x", 1, 0) == 1 && pwrite(snapshot, "y", 1, CHUNK) == 1 ? 0 : -errno;
	diff.other = snapshot;
	if (!ret)
		ret = async_give(&async_ring, fd, DVSM_IOC_REGION_DIFF, &diff);
	/* It may have told less where an allocation failed after some. */
	if (!ret && diff.out_nr_ranges != 2)
		ret = -ENOMEM;
	close(fd);
	close(snapshot);
	return ret;
}

#endif /* DVSM_SELFTEST_FAIL_ASYNC_H */
