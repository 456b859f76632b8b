// SPDX-License-Identifier: LGPL-2.1-or-later
/* Members and events: one command a call, on the one backend that has them. */
#include <dvsm/events.h>

#include "internal.h"

static int dvsm_events_ioctl(const struct dvsm_region *region, unsigned long command,
			     void *argument)
{
	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail(EOPNOTSUPP);
	return dvsm_result(dvsm_ioctl(region->fd, command, argument));
}

int dvsm_region_join(const struct dvsm_region *region, uint64_t cookie)
{
	struct dvsm_region_join join = { .size = sizeof(join), .cookie = cookie };

	return dvsm_events_ioctl(region, DVSM_IOC_REGION_JOIN, &join);
}

int dvsm_region_leave(const struct dvsm_region *region, uint64_t cookie)
{
	struct dvsm_region_leave leave = { .size = sizeof(leave), .cookie = cookie };

	return dvsm_events_ioctl(region, DVSM_IOC_REGION_LEAVE, &leave);
}

int dvsm_region_members(const struct dvsm_region *region, uint64_t *cursor,
			struct dvsm_member *members, uint32_t nr_members)
{
	struct dvsm_region_members argument = {
		.size = sizeof(argument),
		.cursor = *cursor,
		.members = (uintptr_t)members,
		.nr_members = nr_members > INT32_MAX ? INT32_MAX : nr_members,
	};
	int error = dvsm_events_ioctl(region, DVSM_IOC_REGION_MEMBERS, &argument);

	if (error)
		return error;
	*cursor = argument.out_next;
	return (int)argument.out_nr_members;
}

int dvsm_region_events(const struct dvsm_region *region)
{
	struct dvsm_region_events events = {
		.size = sizeof(events),
		.event_size = sizeof(struct dvsm_event),
	};

	return dvsm_events_ioctl(region, DVSM_IOC_REGION_EVENTS, &events);
}
