// SPDX-License-Identifier: LGPL-2.1-or-later
/* Regions of /dev/dvsm: one command a call. */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

/* Commands whose struct is the caller's own: that it is too long is told to him as it is. */
static bool dvsm_struct_is_the_callers(unsigned long command)
{
	return command == DVSM_IOC_INFO || command == DVSM_IOC_REGION_INFO ||
	       command == DVSM_IOC_REGION_MIGRATE || command == DVSM_IOC_REGION_PLACE;
}

/* Of the other ones the answer is 0. */
static bool dvsm_answer_is_descriptor(unsigned long command)
{
	switch (command) {
	case DVSM_IOC_REGION_CREATE:
	case DVSM_IOC_NAME_OPEN:
	case DVSM_IOC_REGION_WATCH:
	case DVSM_IOC_REGION_FIND:
	case DVSM_IOC_REGION_REOPEN:
	case DVSM_IOC_REGION_EXPORT_DMABUF:
	case DVSM_IOC_REGION_EVENTS:
	case DVSM_IOC_SNAPSHOT_TAKE:
		return true;
	}
	return false;
}

/*
 * The one place where a command leaves for the kernel. An older module than this library
 * knows some commands not (ENOTTY), or not all that a struct can say (E2BIG). Of the
 * commands that every module knows, ENOTTY tells what the descriptor is of.
 */
int dvsm_ioctl(int fd, unsigned long command, void *argument)
{
	int result = ioctl(fd, command, argument);

	if (result >= 0)
		return dvsm_answer_is_descriptor(command) ? dvsm_fd_raise(result) : result;
	if (errno == E2BIG && !dvsm_struct_is_the_callers(command))
		return -EOPNOTSUPP;
	if (errno == ENOTTY && command != DVSM_IOC_INFO && command != DVSM_IOC_REGION_INFO)
		return -EOPNOTSUPP;
	return -errno;
}

int dvsm_device_open(void)
{
	int fd = open(DVSM_DEVICE_PATH, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : dvsm_fd_raise(fd);
}

/* A command on the device itself: what dvsm_ioctl() answers. */
int dvsm_device_ioctl(unsigned long command, void *argument)
{
	int cancel = dvsm_cancel_off();
	int device = dvsm_device_open();
	int result = device;

	if (device >= 0) {
		result = dvsm_ioctl(device, command, argument);
		close(device);
	}
	dvsm_cancel_on(cancel);
	return result;
}

int dvsm_device_info(struct dvsm_info *info)
{
	return dvsm_device_ioctl(DVSM_IOC_INFO, info);
}

static int dvsm_device_create(struct dvsm_region *region)
{
	struct dvsm_region_create create = {
		.size = sizeof(create),
		.flags = region->flags,
		.length = region->length,
		.policy = region->policy,
	};
	int fd;

	if (region->policy == DVSM_POLICY_WEIGHTED_INTERLEAVE && !region->is_weighted)
		dvsm_policy_weigh(region);
	create.nr_nodes = region->nr_nodes;
	create.nodes = region->nr_nodes ? (uintptr_t)region->nodes : 0;
	create.weights = region->is_weighted ? (uintptr_t)region->weights : 0;
	memcpy(create.label, region->label, sizeof(create.label));
	fd = dvsm_device_ioctl(DVSM_IOC_REGION_CREATE, &create);
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
		.node_size = sizeof(*nodes),
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

/*
 * A command on whatever region is mapped at @address: no descriptor of it is needed. @offset: in @argument, receives where in
 * the region that is
 */
static int dvsm_device_command_at(const void *address, unsigned long command, void *argument,
				  __u64 *offset)
{
	struct dvsm_region_find find = { .size = sizeof(find), .address = (uintptr_t)address };
	int cancel = dvsm_cancel_off();
	int fd = dvsm_device_ioctl(DVSM_IOC_REGION_FIND, &find), error = fd;

	if (fd >= 0) {
		*offset = find.out_offset;
		error = dvsm_ioctl(fd, command, argument);
		close(fd);
	}
	dvsm_cancel_on(cancel);
	return error;
}

/* @length: multiple of the page */
int dvsm_device_discard_at(const void *address, uint64_t length)
{
	struct dvsm_region_discard discard = { .size = sizeof(discard), .length = length };

	return dvsm_device_command_at(address, DVSM_IOC_REGION_DISCARD, &discard, &discard.offset);
}

/* What is not allocated there yet shall come from the node, whoever touches it. */
int dvsm_device_prefer_at(const void *address, uint64_t length, uint32_t node)
{
	const uint64_t nodes = 1ULL << node;
	struct dvsm_region_place place = {
		.size = sizeof(place),
		.length = length,
		.policy = DVSM_POLICY_PREFERRED,
		.nr_nodes = 64,
		.nodes = (uintptr_t)&nodes,
	};

	return dvsm_device_command_at(address, DVSM_IOC_REGION_PLACE, &place, &place.offset);
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

static int dvsm_device_migrate(const struct dvsm_region *region, uint64_t end,
			       struct dvsm_region_migrate *migrate)
{
	migrate->length = dvsm_align_up(end - migrate->offset, DVSM_PAGE_SIZE);
	return dvsm_ioctl(region->fd, DVSM_IOC_REGION_MIGRATE, migrate);
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
	.migrate = dvsm_device_migrate,
};
