// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel says about this process's memory and about its nodes.
 */
#include <sched.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>

#include "common.h"

struct smaps_field {
	const char *name;
	size_t at;
};

static const struct smaps_field smaps_fields[] = {
	{ "Size:", offsetof(struct smaps, size) },
	{ "Rss:", offsetof(struct smaps, rss) },
	{ "Pss:", offsetof(struct smaps, pss) },
	{ "FilePmdMapped:", offsetof(struct smaps, file_pmd_mapped) },
	{ "Private_Dirty:", offsetof(struct smaps, private_dirty) },
	{ "Locked:", offsetof(struct smaps, locked) },
};

static void smaps_parse(char *line, struct smaps *smaps)
{
	unsigned long kib;
	char name[64];
	size_t i;

	if (!strncmp(line, "VmFlags:", 8)) {
		snprintf(smaps->flags, sizeof(smaps->flags), "%.255s", line + 8);
		return;
	}
	if (sscanf(line, "%63s %lu kB", name, &kib) != 2)
		return;
	for (i = 0; i < ARRAY_SIZE(smaps_fields); i++)
		if (!strcmp(name, smaps_fields[i].name))
			*(unsigned long *)((char *)smaps + smaps_fields[i].at) = kib << 10;
}

/* The mapping that holds @addr, in bytes; -ENOENT if there is none. */
int smaps_read(const void *addr, struct smaps *smaps)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool inside = false;
	char line[512];

	if (!file)
		return -errno;
	memset(smaps, 0, sizeof(*smaps));
	while (fgets(line, sizeof(line), file)) {
		int name_at = 0;

		if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &start, &end, &name_at) == 2) {
			if (inside)
				break;
			inside = start <= (uintptr_t)addr && (uintptr_t)addr < end;
			if (!inside)
				continue;
			smaps->start = start;
			smaps->end = end;
			line[strcspn(line, "\n")] = '\0';
			if (name_at)
				snprintf(smaps->name, sizeof(smaps->name), "%.255s",
					 line + name_at);
		} else if (inside) {
			smaps_parse(line, smaps);
		}
	}
	fclose(file);
	return smaps->end ? 0 : -ENOENT;
}

/* @flag is two letters, as in VmFlags. */
bool smaps_has_flag(const struct smaps *smaps, const char *flag)
{
	const char *at = strstr(smaps->flags, flag);

	return at && at[-1] == ' ';
}

/* Whether the mapping at @addr has @length bytes present, all of them by PMDs. */
bool is_huge_mapped(const void *addr, size_t length)
{
	struct smaps smaps;

	return !smaps_read(addr, &smaps) && smaps.rss == length && smaps.file_pmd_mapped == length;
}

uint64_t pagemap_entry(const void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry), (uintptr_t)addr / PAGE * 8) != sizeof(entry))
		entry = 0;
	close(fd);
	return entry;
}

/* KPF_ bits of linux/kernel-page-flags.h. */
uint64_t kpage_flags(uint64_t pfn)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t flags = 0;

	if (fd < 0)
		return 0;
	if (pread(fd, &flags, sizeof(flags), pfn * 8) != sizeof(flags))
		flags = 0;
	close(fd);
	return flags;
}

/* The node of the page at @addr, which must be present; or -errno. */
int page_node(const void *addr)
{
	void *page = (void *)addr;
	int status = -EIO;

	if (syscall(SYS_move_pages, 0, 1UL, &page, NULL, &status, 0) < 0)
		return -errno;
	return status;
}

/* The same after a read: who moves the page, or tries to, has it unmapped for a moment. */
int page_node_read(const void *addr)
{
	unsigned long end = clock_ms() + 60000;
	int node;

	do {
		if (read_at(addr))
			return -EFAULT;
		node = page_node(addr);
	} while (node < 0 && clock_ms() < end);
	return node;
}

/* Moves the page at @addr; returns the node where it is then, or -errno. */
int page_move(const void *addr, int node, int flags)
{
	void *page = (void *)addr;
	int status = -EIO;

	if (syscall(SYS_move_pages, 0, 1UL, &page, &node, &status, flags) < 0)
		return -errno;
	return status;
}

/* One bit for each node that has memory; only nodes below 64. */
uint64_t node_mask(void)
{
	char text[256], *at = text, *end;
	uint64_t mask = 0;

	if (read_text("/sys/devices/system/node/has_memory", text, sizeof(text)))
		return 1;
	while (*at >= '0' && *at <= '9') {
		unsigned long first = strtoul(at, &end, 10), last = first;

		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (; first <= last && first < 64; first++)
			mask |= 1ULL << first;
		at = *end == ',' ? end + 1 : end;
	}
	return mask;
}

int nr_nodes_with_memory(void)
{
	return __builtin_popcountll(node_mask());
}

static unsigned long field_kib(const char *path, const char *field)
{
	char text[8192];
	const char *at;

	if (read_text(path, text, sizeof(text)))
		return 0;
	at = strstr(text, field);
	return at ? strtoul(at + strlen(field), NULL, 10) : 0;
}

/* Bytes. */
unsigned long node_free(int node)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
	return field_kib(path, "MemFree:") << 10;
}

/* @field with its colon. */
int meminfo(const char *field, unsigned long *kib)
{
	*kib = field_kib("/proc/meminfo", field);
	return 0;
}

/* The sum of the numbers of all lines "NAME NUMBER" with this name, or all that begin so. */
static unsigned long sum_after(const char *path, const char *word, bool prefix)
{
	FILE *file = fopen(path, "re");
	unsigned long sum = 0, value;
	char line[512], name[64];

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, " %63s %lu", name, &value) == 2 &&
		    (prefix ? !strncmp(name, word, strlen(word)) : !strcmp(name, word)))
			sum += value;
	fclose(file);
	return sum;
}

/*
 * Pages that nobody has. Unlike MemFree these are also those that wait in the
 * processors' private lists, where huge pages stay for long.
 */
unsigned long pages_free(void)
{
	return sum_after("/proc/zoneinfo", "nr_free_pages", false) +
	       sum_after("/proc/zoneinfo", "count:", false);
}

/* Pages that were ever allocated, by anybody. */
unsigned long pages_taken(void)
{
	return sum_after("/proc/vmstat", "pgalloc_", true);
}

/* Runs this process on the CPUs of a node; -ENOENT where it has none. */
int node_run_on(int node)
{
	char path[64], text[256], *at = text, *end;
	cpu_set_t cpus;
	int ret;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", node);
	ret = read_text(path, text, sizeof(text));
	if (ret)
		return ret;
	CPU_ZERO(&cpus);
	while (*at >= '0' && *at <= '9') {
		unsigned long first = strtoul(at, &end, 10), last = first;

		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (; first <= last; first++)
			CPU_SET(first, &cpus);
		at = *end == ',' ? end + 1 : end;
	}
	if (!CPU_COUNT(&cpus))
		return -ENOENT;
	return sched_setaffinity(0, sizeof(cpus), &cpus) ? -errno : 0;
}

/* The nodes with memory that have CPUs, too. */
uint64_t nodes_to_work_on(void)
{
	uint64_t nodes = 0;
	cpu_set_t before;
	int node;

	if (sched_getaffinity(0, sizeof(before), &before))
		return 0;
	for (node = 0; node < 64; node++)
		if (node_mask() >> node & 1 && !node_run_on(node))
			nodes |= 1ULL << node;
	sched_setaffinity(0, sizeof(before), &before);
	return nodes;
}

