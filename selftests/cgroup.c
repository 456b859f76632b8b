// SPDX-License-Identifier: GPL-2.0-only
/*
 * A cgroup of the test's own. It lies beside the one that the tests run in,
 * below the root: a cgroup with processes cannot hand controllers to children.
 */
#include <sys/stat.h>

#include "common.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

int cgroup_make(struct cgroup *cgroup, const char *name)
{
	char path[sizeof(cgroup->path) + 32];

	write_text(CGROUP_ROOT "/cgroup.subtree_control", "+memory");
	write_text(CGROUP_ROOT "/cgroup.subtree_control", "+cpuset");
	snprintf(cgroup->path, sizeof(cgroup->path), CGROUP_ROOT "/dvsm-%s", name);
	/* One that was left behind may have processes that are about to end. */
	cgroup_remove(cgroup);
	if (mkdir(cgroup->path, 0755))
		return -errno;
	snprintf(path, sizeof(path), "%s/memory.current", cgroup->path);
	if (access(path, R_OK)) {
		rmdir(cgroup->path);
		return -ENODEV;
	}
	return 0;
}

/* Empty by now, or in a moment. */
void cgroup_remove(struct cgroup *cgroup)
{
	unsigned long end = clock_ms() + 60000;

	while (rmdir(cgroup->path) && errno == EBUSY && clock_ms() < end)
		sleep_ms(5);
}

int cgroup_set(const struct cgroup *cgroup, const char *file, const char *value)
{
	char path[sizeof(cgroup->path) + 64];

	snprintf(path, sizeof(path), "%s/%s", cgroup->path, file);
	return write_text(path, value);
}

/* Moves this process. */
int cgroup_enter(const struct cgroup *cgroup)
{
	return cgroup_set(cgroup, "cgroup.procs", "0");
}

unsigned long cgroup_get(const struct cgroup *cgroup, const char *file)
{
	char path[sizeof(cgroup->path) + 64];
	unsigned long value = ~0UL;

	snprintf(path, sizeof(path), "%s/%s", cgroup->path, file);
	read_number(path, &value);
	return value;
}

/* One line of a file like memory.events or memory.stat. */
unsigned long cgroup_event(const struct cgroup *cgroup, const char *file, const char *event)
{
	char path[sizeof(cgroup->path) + 64], text[8192], *line;

	snprintf(path, sizeof(path), "%s/%s", cgroup->path, file);
	if (read_text(path, text, sizeof(text)))
		return ~0UL;
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		size_t length = strlen(event);

		if (!strncmp(line, event, length) && line[length] == ' ')
			return strtoul(line + length, NULL, 10);
	}
	return ~0UL;
}

/* CPUs have some of a cgroup in stock, 256 KiB each, until a limit is set that asks for it. */
static void cgroup_take_stock(const struct cgroup *cgroup, unsigned long bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", bytes);
	cgroup_set(cgroup, "memory.high", text);
	cgroup_set(cgroup, "memory.high", "max");
}

/* Charges are given back in batches and by workers. No process is in it any more. */
bool cgroup_drains_to(const struct cgroup *cgroup, unsigned long bytes, unsigned int seconds)
{
	unsigned long end = clock_ms() + seconds * 1000;

	while (cgroup_get(cgroup, "memory.current") > bytes) {
		if (clock_ms() > end)
			return false;
		cgroup_take_stock(cgroup, bytes);
		sleep_ms(10);
	}
	return true;
}
