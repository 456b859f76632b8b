// SPDX-License-Identifier: LGPL-2.1-or-later
/* Regions of /dev/dvsm: one command a call. */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

/* The one place where a command leaves for the kernel. */
int dvsm_ioctl(int fd, unsigned long command, void *argument)
{
	int result = ioctl(fd, command, argument);

	return result < 0 ? -errno : result;
}

int dvsm_device_open(void)
{
	int fd = open(DVSM_DEVICE_PATH, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int dvsm_device_info(struct dvsm_info *info)
{
	int fd = dvsm_device_open();
	int error;

	if (fd < 0)
		return fd;
	error = dvsm_ioctl(fd, DVSM_IOC_INFO, info);
	close(fd);
	return error;
}

static int dvsm_device_create(struct dvsm_region *region)
{
	struct dvsm_region_create create = {
		.size = sizeof(create),
		.flags = region->flags,
		.length = region->length,
		.policy = region->policy,
		.nr_nodes = region->nr_nodes,
		.nodes = region->nr_nodes ? (uintptr_t)region->nodes : 0,
	};
	int device, fd;

	memcpy(create.label, region->label, sizeof(create.label));
	device = dvsm_device_open();
	if (device < 0)
		return device;
	fd = dvsm_ioctl(device, DVSM_IOC_REGION_CREATE, &create);
	close(device);
	if (fd < 0)
		return fd;
	region->fd = fd;
	region->page_size = DVSM_CHUNK_SIZE;
	return 0;
}

int dvsm_device_wrap(struct dvsm_region *region)
{
	struct dvsm_region_info info = { .size = sizeof(info) };
	int error;

	error = dvsm_ioctl(region->fd, DVSM_IOC_REGION_INFO, &info);
	if (error == -ENOTTY || error == -EINVAL)
		return -EBADF;
	if (error)
		return error;
	region->ops = &dvsm_device_ops;
	region->backend = DVSM_BACKEND_DEVICE;
	region->page_size = DVSM_CHUNK_SIZE;
	region->length = info.out_length;
	region->flags |= info.out_flags;
	region->policy = info.out_policy;
	return 0;
}

static int dvsm_device_reopen(const struct dvsm_region *region, uint32_t flags)
{
	struct dvsm_region_reopen reopen = { .size = sizeof(reopen), .flags = flags };

	return dvsm_ioctl(region->fd, DVSM_IOC_REGION_REOPEN, &reopen);
}

static uint64_t dvsm_device_features(const struct dvsm_region *region)
{
	struct dvsm_info info = { .size = sizeof(info) };
	int error;

	/* Who was sent a descriptor may have no right to open the device. */
	error = dvsm_ioctl(region->fd, DVSM_IOC_INFO, &info);
	if (error == -ENOTTY)
		error = dvsm_device_info(&info);
	if (error) {
		dvsm_fail(error);
		return 0;
	}
	return info.out_features;
}

static int dvsm_device_region_info(const struct dvsm_region *region,
				   struct dvsm_region_info *info)
{
	return dvsm_ioctl(region->fd, DVSM_IOC_REGION_INFO, info);
}

static int dvsm_device_nodes(const struct dvsm_region *region, struct dvsm_node_stats *nodes,
			     uint32_t nr_nodes)
{
	struct dvsm_region_nodes argument = {
		.size = sizeof(argument),
		.nodes = (uintptr_t)nodes,
		.nr_nodes = nr_nodes,
	};
	int error = dvsm_ioctl(region->fd, DVSM_IOC_REGION_NODES, &argument);

	return error ? error : (int)argument.out_nr_nodes;
}

static int dvsm_device_populate(const struct dvsm_region *region, uint64_t offset,
				uint64_t length, uint32_t nr_threads, uint64_t *populated)
{
	struct dvsm_region_populate argument = {
		.size = sizeof(argument),
		.offset = offset,
		.length = dvsm_align_up(length, DVSM_PAGE_SIZE),
		.nr_threads = nr_threads,
	};
	int error = dvsm_ioctl(region->fd, DVSM_IOC_REGION_POPULATE, &argument);

	*populated = argument.out_populated;
	return error;
}

static int dvsm_device_discard(const struct dvsm_region *region, uint64_t offset,
			       uint64_t length, uint64_t *discarded)
{
	struct dvsm_region_discard argument = {
		.size = sizeof(argument),
		.offset = offset,
		.length = dvsm_align_up(length, DVSM_PAGE_SIZE),
	};
	int error = dvsm_ioctl(region->fd, DVSM_IOC_REGION_DISCARD, &argument);

	*discarded = argument.out_discarded;
	return error;
}

static int dvsm_device_residency(const struct dvsm_region *region, uint64_t offset, uint64_t end,
				 struct dvsm_chunk *chunks, uint32_t nr_chunks, uint64_t *next)
{
	struct dvsm_region_residency argument = {
		.size = sizeof(argument),
		.offset = offset,
		.length = end - offset,
		.chunks = (uintptr_t)chunks,
		.nr_chunks = nr_chunks,
	};
	int error = dvsm_ioctl(region->fd, DVSM_IOC_REGION_RESIDENCY, &argument);

	if (error)
		return error;
	*next = argument.out_next;
	return (int)argument.out_nr_chunks;
}

const struct dvsm_backend_ops dvsm_device_ops = {
	.create = dvsm_device_create,
	.reopen = dvsm_device_reopen,
	.features = dvsm_device_features,
	.info = dvsm_device_region_info,
	.nodes = dvsm_device_nodes,
	.populate = dvsm_device_populate,
	.discard = dvsm_device_discard,
	.residency = dvsm_device_residency,
};
