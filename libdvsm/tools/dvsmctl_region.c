// SPDX-License-Identifier: GPL-2.0-only
/* Which region is meant, and how its properties are worded. */
#include <fcntl.h>
#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <dvsm/name.h>

#include "dvsmctl.h"

#define BATCH 64

bool dvsmctl_number(const char *text, int least, int *number)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < least || value > INT_MAX)
		return false;
	*number = (int)value;
	return true;
}

bool dvsmctl_target_option(struct dvsmctl_target *target, int option, const char *value)
{
	if (option == 'f')
		target->misread |= !dvsmctl_number(value, 0, &target->fd);
	else if (option == 'p')
		target->misread |= !dvsmctl_number(value, 1, &target->pid);
	return option == 'f' || option == 'p';
}

bool dvsmctl_target_is_clear(const struct dvsmctl_target *target)
{
	return !target->misread && !target->name == (target->fd >= 0) &&
	       (target->pid <= 0 || target->fd >= 0);
}

static int path_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	/* Who may only read looks as well. */
	return fd < 0 && errno == EACCES ? open(path, O_RDONLY | O_CLOEXEC) : fd;
}

/* By a name of the module's. */
static int name_open(const char *name)
{
	struct dvsm_region *region = dvsm_name_open(name, 0, DVSM_BACKEND_DEVICE);
	int fd;

	if (!region) {
		/* No module, no names. */
		errno = errno == EACCES ? EACCES : ENOENT;
		return -1;
	}
	fd = fcntl(dvsm_region_fd(region), F_DUPFD_CLOEXEC, 0);
	dvsm_region_destroy(region);
	return fd;
}

int dvsmctl_target_open(const struct dvsmctl_target *target)
{
	char path[4096];
	int pidfd, fd;

	if (target->pid > 0) {
		pidfd = (int)syscall(SYS_pidfd_open, target->pid, 0);
		fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, target->fd, 0);
		if (pidfd >= 0)
			close(pidfd);
		return fd;
	}
	if (target->fd >= 0)
		return target->fd;
	snprintf(path, sizeof(path), "%s%s", strchr(target->name, '/') ? "" : "/dev/shm/",
		 target->name);
	fd = path_open(path, O_RDWR);
	return fd < 0 && errno == ENOENT && !strchr(target->name, '/') ?
		       name_open(target->name) : fd;
}

int dvsmctl_region_list(struct dvsm_region_entry **entries)
{
	struct dvsm_region_entry *grown;
	uint64_t cursor = 0;
	int nr = 0, got;

	*entries = NULL;
	do {
		grown = realloc(*entries, (size_t)(nr + BATCH) * sizeof(**entries));
		if (!grown) {
			got = -ENOMEM;
			break;
		}
		*entries = grown;
		got = dvsm_region_list(&cursor, *entries + nr, BATCH);
		nr += got > 0 ? got : 0;
	} while (got > 0);
	if (got < 0) {
		fprintf(stderr, "dvsmctl: %s: %s%s\n", DVSM_DEVICE_PATH, strerror(-got),
			got == -ENOENT ? " (regions are listed by the module, which is not loaded)" : "");
		free(*entries);
		*entries = NULL;
		return -1;
	}
	return nr;
}

/* The one region with that label; NULL where it has said why not. */
static struct dvsm_region *region_by_label(const char *label)
{
	struct dvsm_region_entry *entries;
	struct dvsm_region *region = NULL;
	int nr = dvsmctl_region_list(&entries), i, found = -1;

	if (nr < 0)
		return NULL;
	for (i = 0; i < nr; i++) {
		if (strcmp((char *)entries[i].label, label))
			continue;
		if (found >= 0) {
			fprintf(stderr, "dvsmctl: %s: more than one region; name it by its id\n",
				label);
			goto out;
		}
		found = i;
	}
	if (found >= 0)
		region = dvsm_region_watch(entries[found].id);
	else
		errno = ENOENT;
	if (!region)
		fprintf(stderr, "dvsmctl: %s: %s\n", label,
			errno == ENOENT ? "no such region, or another user's" : strerror(errno));
out:
	free(entries);
	return region;
}

static struct dvsm_region *region_by_id(const char *name, uint64_t id)
{
	struct dvsm_region *region = dvsm_region_watch(id);

	if (region)
		return region;
	if (errno == ENOENT && access(DVSM_DEVICE_PATH, F_OK))
		fprintf(stderr, "dvsmctl: %s: %s: the module is not loaded\n", name,
			DVSM_DEVICE_PATH);
	else
		fprintf(stderr, "dvsmctl: %s: %s\n", name,
			errno == ENOENT ? "no such region" : strerror(errno));
	return NULL;
}

struct dvsm_region *dvsmctl_region_open(const struct dvsmctl_target *target)
{
	struct dvsm_region *region;
	char *end;
	uint64_t id;
	int fd;

	if (target->name && !strchr(target->name, '/')) {
		id = strtoull(target->name, &end, 10);
		return *end ? region_by_label(target->name) : region_by_id(target->name, id);
	}
	fd = dvsmctl_target_open(target);
	region = fd < 0 ? NULL : dvsm_region_open(fd, NULL);
	if (!region)
		fprintf(stderr, "dvsmctl: %s: %s\n", target->name ? target->name : "that descriptor",
			fd < 0 || errno != EBADF ? strerror(errno) : "not a region");
	return region;
}

const char *dvsmctl_policy(uint32_t policy)
{
	static const char *const names[] = {
		[DVSM_POLICY_INHERIT] = "inherit", [DVSM_POLICY_LOCAL] = "local",
		[DVSM_POLICY_BIND] = "bind", [DVSM_POLICY_PREFERRED] = "preferred",
		[DVSM_POLICY_INTERLEAVE] = "interleave",
		[DVSM_POLICY_WEIGHTED_INTERLEAVE] = "weighted-interleave",
	};

	return policy < sizeof(names) / sizeof(*names) ? names[policy] : "unknown";
}

const char *dvsmctl_balance(int mode)
{
	static const char *const names[] = {
		[DVSM_BALANCE_OFF] = "off", [DVSM_BALANCE_OBSERVE] = "observe",
		[DVSM_BALANCE_ON] = "on",
	};

	return mode > 0 && mode < (int)(sizeof(names) / sizeof(*names)) ? names[mode] : NULL;
}

static const char *const flag_names[] = {
	"huge-required", "pinned", "registrable", "implicit", "read-only", "fork-copy",
};

#define NR_FLAGS (sizeof(flag_names) / sizeof(*flag_names))

const char *dvsmctl_flags(uint32_t flags, char *text, size_t size)
{
	size_t i, used = 0;

	for (i = 0; i < NR_FLAGS && used < size; i++)
		if (flags >> i & 1)
			used += (size_t)snprintf(text + used, size - used, "%s%s",
						 used ? "," : "", flag_names[i]);
	return used ? text : "-";
}

json_t *dvsmctl_flags_json(uint32_t flags)
{
	json_t *json = json_array();
	size_t i;

	for (i = 0; i < NR_FLAGS; i++)
		if (flags >> i & 1)
			json_array_append_new(json, json_string(flag_names[i]));
	return json;
}

const char *dvsmctl_bytes(uint64_t bytes, char *text, size_t size)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(*units)) {
		value /= 1024;
		unit++;
	}
	snprintf(text, size, value == (double)(uint64_t)value ? "%.0f %s" : "%.1f %s", value,
		 units[unit]);
	return text;
}

int dvsmctl_print_json(json_t *json)
{
	int failed = json_dumpf(json, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);

	json_decref(json);
	putchar('\n');
	return failed || fflush(stdout) ? 1 : 0;
}
