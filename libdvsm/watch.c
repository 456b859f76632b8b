// SPDX-License-Identifier: LGPL-2.1-or-later
/* Looking at regions that others have; the device's alone. */
#include <unistd.h>

#include <dvsm/watch.h>

#include "internal.h"

int dvsm_region_list(uint64_t *cursor, struct dvsm_region_entry *regions, uint32_t nr_regions)
{
	struct dvsm_region_list argument = {
		.size = sizeof(argument),
		.cursor = *cursor,
		.regions = (uintptr_t)regions,
		.nr_regions = nr_regions > INT32_MAX ? INT32_MAX : nr_regions,
	};
	int error = dvsm_device_ioctl(DVSM_IOC_REGION_LIST, &argument);

	if (error)
		return dvsm_fail(error);
	*cursor = argument.out_next;
	return (int)argument.out_nr_regions;
}

struct dvsm_region *dvsm_region_watch(uint64_t id)
{
	struct dvsm_region_watch argument = { .size = sizeof(argument), .id = id };

	return dvsm_region_wrap(dvsm_device_ioctl(DVSM_IOC_REGION_WATCH, &argument),
				DVSM_BACKEND_AUTO);
}
