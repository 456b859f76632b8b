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
		.node_size = sizeof(*nodes),
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

/* @nodes: one bit for each node; 0 sends no set. @weights: 64 of them, or NULL. */
int region_place(int fd, uint64_t offset, uint64_t length, uint32_t policy, uint64_t nodes,
		 const uint8_t *weights)
{
	struct dvsm_region_place arg = {
		.size = sizeof(arg),
		.offset = offset,
		.length = length,
		.policy = policy,
		.nr_nodes = nodes ? 64 : 0,
		.nodes = nodes ? (uintptr_t)&nodes : 0,
		.weights = (uintptr_t)weights,
	};

	return answer(ioctl(fd, DVSM_IOC_REGION_PLACE, &arg));
}

/* The DVSM_POLICY_ at @offset, and the range [@first, @end) that it reaches. */
int region_place_query(int fd, uint64_t offset, uint64_t *nodes, uint8_t *weights,
		       uint64_t *first, uint64_t *end)
{
	struct dvsm_region_place arg = {
		.size = sizeof(arg),
		.flags = DVSM_PLACE_F_QUERY,
		.offset = offset,
		.nr_nodes = 64,
		.nodes = (uintptr_t)nodes,
		.weights = (uintptr_t)weights,
	};
	int ret = answer(ioctl(fd, DVSM_IOC_REGION_PLACE, &arg));

	if (ret)
		return ret;
	if (first)
		*first = arg.out_offset;
	if (end)
		*end = arg.out_offset + arg.out_length;
	return (int)arg.out_policy;
}

/* @nodes: one bit for each node to go to. @arg: NULL, or gets the outputs */
int region_migrate(int fd, uint64_t offset, uint64_t length, uint64_t nodes,
		   struct dvsm_region_migrate *arg)
{
	struct dvsm_region_migrate unwanted;

	if (!arg)
		arg = &unwanted;
	*arg = (struct dvsm_region_migrate) {
		.size = sizeof(*arg),
		.offset = offset,
		.length = length,
		.nodes = (uintptr_t)&nodes,
		.nr_nodes = 64,
	};
	return answer(ioctl(fd, DVSM_IOC_REGION_MIGRATE, arg));
}

int region_promote(int fd, uint64_t offset, uint64_t length, struct dvsm_region_promote *arg)
{
	*arg = (struct dvsm_region_promote) {
		.size = sizeof(*arg),
		.offset = offset,
		.length = length,
	};
	return answer(ioctl(fd, DVSM_IOC_REGION_PROMOTE, arg));
}

int region_split(int fd, uint64_t offset, uint64_t length, struct dvsm_region_split *arg)
{
	*arg = (struct dvsm_region_split) {
		.size = sizeof(*arg),
		.offset = offset,
		.length = length,
	};
	return answer(ioctl(fd, DVSM_IOC_REGION_SPLIT, arg));
}

int region_balance(int fd, uint32_t mode, struct dvsm_region_balance *out,
		   struct dvsm_balance_use *uses, uint32_t nr_nodes)
{
	struct dvsm_region_balance arg = {
		.size = sizeof(arg),
		.mode = mode,
		.uses = (uintptr_t)uses,
		.nr_nodes = nr_nodes,
	};
	int ret = answer(ioctl(fd, DVSM_IOC_REGION_BALANCE, &arg));

	if (out)
		*out = arg;
	return ret;
}

int region_reopen(int fd, uint32_t flags)
{
	struct dvsm_region_reopen arg = { .size = sizeof(arg), .flags = flags };

	return answer(ioctl(fd, DVSM_IOC_REGION_REOPEN, &arg));
}

int region_find(int dev, const void *address, uint64_t *offset)
{
	struct dvsm_region_find arg = { .size = sizeof(arg), .address = (uintptr_t)address };
	int ret = answer(ioctl(dev, DVSM_IOC_REGION_FIND, &arg));

	if (offset)
		*offset = arg.out_offset;
	return ret;
}

void *region_map(int fd, size_t length, off_t offset)
{
	return mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
}

#define STATS	"/sys/kernel/debug/dvsm/stats"

static int stats_find(const char *text, const char *name, unsigned long *value)
{
	size_t length = strlen(name);
	const char *line;

	for (line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, length) && line[length] == ' ')
			return sscanf(line + length, "%lu", value) == 1 ? 0 : -EINVAL;
	}
	return -ENOENT;
}

/* One line of debugfs "stats". */
int stats_read(const char *name, unsigned long *value)
{
	char text[1024];
	int ret = read_text(STATS, text, sizeof(text));

	return ret ? ret : stats_find(text, name, value);
}

/* 0 once the line says @value; -ETIMEDOUT if it does not come to. */
int stats_reach(const char *name, unsigned long value, unsigned int seconds)
{
	unsigned long end = clock_ms() + seconds * 1000, now;
	bool is_over;
	int ret;

	do {
		/* One look at least comes after all of the time. */
		is_over = clock_ms() > end;
		ret = stats_read(name, &now);
		if (ret || now == value)
			return ret;
		sleep_ms(5);
	} while (!is_over);
	return -ETIMEDOUT;
}

int counts_read(struct counts *counts)
{
	const struct { const char *name; unsigned long *value; } lines[] = {
		{ "regions", &counts->regions },
		{ "pages", &counts->pages },
		{ "pinned_pages", &counts->pinned_pages },
		{ "names", &counts->names },
		{ "members", &counts->members },
		{ "users", &counts->users },
	};
	char text[1024];
	int ret = read_text(STATS, text, sizeof(text));
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lines) && !ret; i++)
		ret = stats_find(text, lines[i].name, lines[i].value);
	return ret;
}

/* Pages of all regions together. */
unsigned long pages_charged(void)
{
	struct counts counts = {};

	counts_read(&counts);
	return counts.pages;
}

static bool counts_are_zero(const struct counts *counts)
{
	return !counts->regions && !counts->pages && !counts->pinned_pages && !counts->names &&
	       !counts->members && !counts->users;
}

/* The last reference may be dropped a moment later, by a worker of the kernel. */
bool counts_reach_zero(struct counts *counts, unsigned int seconds)
{
	unsigned long end = clock_ms() + seconds * 1000;
	bool is_over;

	do {
		is_over = clock_ms() > end;
		if (counts_read(counts))
			return false;
		if (counts_are_zero(counts))
			return true;
		sleep_ms(5);
	} while (!is_over);
	return false;
}

/* A parameter of the module. */
int param_set(const char *name, unsigned long value)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "/sys/module/dvsm/parameters/%s", name);
	snprintf(text, sizeof(text), "%lu", value);
	return write_text(path, text);
}
