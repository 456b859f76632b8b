// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module's commands as one-line calls, and what debugfs says it holds.
 */
#include "common.h"

static int answer(int ret)
{
	return ret < 0 ? -errno : ret;
}

int device_open(int flags)
{
	return answer(open(DVSM_DEVICE_PATH, flags | O_CLOEXEC));
}

int device_info(int dev, struct dvsm_info *info)
{
	*info = (struct dvsm_info) { .size = sizeof(*info) };
	return answer(ioctl(dev, DVSM_IOC_INFO, info));
}

/* @nodes: one bit for each node; 0 sends no set. */
int region_create_on(int dev, uint64_t length, uint32_t flags, uint32_t policy, uint64_t nodes)
{
	struct dvsm_region_create create = {
		.size = sizeof(create),
		.flags = flags,
		.length = length,
		.policy = policy,
		.nr_nodes = nodes ? 64 : 0,
		.nodes = nodes ? (uintptr_t)&nodes : 0,
		.label = "selftest",
	};

	return answer(ioctl(dev, DVSM_IOC_REGION_CREATE, &create));
}

int region_create(int dev, uint64_t length, uint32_t flags)
{
	return region_create_on(dev, length, flags, DVSM_POLICY_INHERIT, 0);
}

int region_info(int fd, struct dvsm_region_info *info)
{
	*info = (struct dvsm_region_info) { .size = sizeof(*info) };
	return answer(ioctl(fd, DVSM_IOC_REGION_INFO, info));
}

/* Bytes that are allocated; a number no region can have if the command fails. */
uint64_t region_resident(int fd)
{
	struct dvsm_region_info info;

	return region_info(fd, &info) ? UINT64_MAX : info.out_resident;
}

int region_nodes(int fd, struct dvsm_node_stats *nodes, uint32_t nr_nodes)
{
	struct dvsm_region_nodes arg = {
		.size = sizeof(arg),
		.nodes = (uintptr_t)nodes,
		.nr_nodes = nr_nodes,
	};

	return answer(ioctl(fd, DVSM_IOC_REGION_NODES, &arg));
}

int region_populate_by(int fd, uint64_t offset, uint64_t length, uint32_t nr_threads,
		       uint64_t *populated)
{
	struct dvsm_region_populate arg = {
		.size = sizeof(arg),
		.offset = offset,
		.length = length,
		.nr_threads = nr_threads,
	};
	int ret = answer(ioctl(fd, DVSM_IOC_REGION_POPULATE, &arg));

	if (populated)
		*populated = arg.out_populated;
	return ret;
}

int region_populate(int fd, uint64_t offset, uint64_t length, uint64_t *populated)
{
	return region_populate_by(fd, offset, length, 0, populated);
}

int region_discard(int fd, uint64_t offset, uint64_t length, uint64_t *discarded)
{
	struct dvsm_region_discard arg = {
		.size = sizeof(arg),
		.offset = offset,
		.length = length,
	};
	int ret = answer(ioctl(fd, DVSM_IOC_REGION_DISCARD, &arg));

	if (discarded)
		*discarded = arg.out_discarded;
	return ret;
}

/* Returns how many elements of @chunks were filled. */
int region_residency(int fd, uint64_t offset, uint64_t length, struct dvsm_chunk *chunks,
		     uint32_t nr_chunks)
{
	struct dvsm_region_residency arg = {
		.size = sizeof(arg),
		.offset = offset,
		.length = length,
		.chunks = (uintptr_t)chunks,
		.nr_chunks = nr_chunks,
	};
	int ret = answer(ioctl(fd, DVSM_IOC_REGION_RESIDENCY, &arg));

	return ret ? ret : (int)arg.out_nr_chunks;
}

int region_reopen(int fd, uint32_t flags)
{
	struct dvsm_region_reopen arg = { .size = sizeof(arg), .flags = flags };

	return answer(ioctl(fd, DVSM_IOC_REGION_REOPEN, &arg));
}

void *region_map(int fd, size_t length, off_t offset)
{
	return mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
}

int counts_read(struct counts *counts)
{
	char text[512];
	int ret = read_text("/sys/kernel/debug/dvsm/stats", text, sizeof(text));

	if (ret)
		return ret;
	if (sscanf(text, "regions %lu\npages %lu\npinned_pages %lu", &counts->regions,
		   &counts->pages, &counts->pinned_pages) != 3)
		return -EINVAL;
	return 0;
}

/* The last reference may be dropped a moment later, by a worker of the kernel. */
bool counts_reach_zero(struct counts *counts, unsigned int seconds)
{
	unsigned long end = clock_ms() + seconds * 1000;

	for (;;) {
		if (counts_read(counts))
			return false;
		if (!counts->regions && !counts->pages && !counts->pinned_pages)
			return true;
		if (clock_ms() > end)
			return false;
		sleep_ms(5);
	}
}

/* A parameter of the module. */
int param_set(const char *name, unsigned long value)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "/sys/module/dvsm/parameters/%s", name);
	snprintf(text, sizeof(text), "%lu", value);
	return write_text(path, text);
}
