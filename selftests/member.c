// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names, members and events as one-line calls.
 */
#include <poll.h>

#include "common.h"

static int answer(int ret)
{
	return ret < 0 ? -errno : ret;
}

/* As much of @name as the struct holds, so that a test can send one that is too long. */
static void copy_name(unsigned char *to, const char *name)
{
	memcpy(to, name, strnlen(name, DVSM_NAME_SIZE));
}

int name_create(int dev, const char *name, int region, uint32_t mode, uint32_t flags)
{
	struct dvsm_name_create arg = {
		.size = sizeof(arg),
		.flags = flags,
		.region = region,
		.mode = mode,
	};

	copy_name(arg.name, name);
	return answer(ioctl(dev, DVSM_IOC_NAME_CREATE, &arg));
}

int name_open(int dev, const char *name, uint32_t flags)
{
	struct dvsm_name_open arg = { .size = sizeof(arg), .flags = flags };

	copy_name(arg.name, name);
	return answer(ioctl(dev, DVSM_IOC_NAME_OPEN, &arg));
}

int name_unlink(int dev, const char *name)
{
	struct dvsm_name_unlink arg = { .size = sizeof(arg) };

	copy_name(arg.name, name);
	return answer(ioctl(dev, DVSM_IOC_NAME_UNLINK, &arg));
}

/* Returns how many of the first @nr_names there are. */
int name_list(int dev, struct dvsm_name *names, uint32_t nr_names)
{
	struct dvsm_name_list arg = {
		.size = sizeof(arg),
		.names = (uintptr_t)names,
		.nr_names = nr_names,
	};
	int ret = answer(ioctl(dev, DVSM_IOC_NAME_LIST, &arg));

	return ret ? ret : (int)arg.out_nr_names;
}

int region_list(int dev, uint64_t *cursor, struct dvsm_region_entry *regions,
		uint32_t nr_regions)
{
	struct dvsm_region_list arg = {
		.size = sizeof(arg),
		.cursor = *cursor,
		.regions = (uintptr_t)regions,
		.nr_regions = nr_regions,
	};
	int ret = answer(ioctl(dev, DVSM_IOC_REGION_LIST, &arg));

	*cursor = arg.out_next;
	return ret ? ret : (int)arg.out_nr_regions;
}

int region_watch(int dev, uint64_t id)
{
	struct dvsm_region_watch arg = { .size = sizeof(arg), .id = id };

	return answer(ioctl(dev, DVSM_IOC_REGION_WATCH, &arg));
}

int region_join(int fd, uint64_t cookie)
{
	struct dvsm_region_join arg = { .size = sizeof(arg), .cookie = cookie };

	return answer(ioctl(fd, DVSM_IOC_REGION_JOIN, &arg));
}

int region_leave(int fd, uint64_t cookie)
{
	struct dvsm_region_leave arg = { .size = sizeof(arg), .cookie = cookie };

	return answer(ioctl(fd, DVSM_IOC_REGION_LEAVE, &arg));
}

/* Returns how many of the first @nr_members there are. */
int region_members(int fd, struct dvsm_member *members, uint32_t nr_members)
{
	struct dvsm_region_members arg = {
		.size = sizeof(arg),
		.members = (uintptr_t)members,
		.nr_members = nr_members,
	};
	int ret = answer(ioctl(fd, DVSM_IOC_REGION_MEMBERS, &arg));

	return ret ? ret : (int)arg.out_nr_members;
}

int region_events(int fd)
{
	struct dvsm_region_events arg = {
		.size = sizeof(arg),
		.event_size = sizeof(struct dvsm_event),
	};

	return answer(ioctl(fd, DVSM_IOC_REGION_EVENTS, &arg));
}

/*
 * The next event: 1; 0 at the end; -ETIMEDOUT if none comes in time; -ETIME for one
 * that came, but woke nobody: poll() looks once more when its time is over.
 */
int events_read(int events, struct dvsm_event *event, unsigned int milliseconds)
{
	struct pollfd poll_fd = { .fd = events, .events = POLLIN };
	unsigned long end = clock_ms() + milliseconds;
	ssize_t got;

	memset(event, 0xa5, sizeof(*event));
	if (poll(&poll_fd, 1, milliseconds) != 1)
		return -ETIMEDOUT;
	if (milliseconds && clock_ms() >= end)
		return -ETIME;
	got = read(events, event, sizeof(*event));
	if (got < 0)
		return -errno;
	return got == sizeof(*event) ? 1 : got ? -EIO : 0;
}
