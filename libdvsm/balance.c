// SPDX-License-Identifier: LGPL-2.1-or-later
/* NUMA balancing of a region; the device's alone. */
#include "internal.h"

int dvsm_region_balance(const struct dvsm_region *region, uint32_t mode)
{
	struct dvsm_region_balance argument = { .size = sizeof(argument), .mode = mode };
	int error;

	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail(EOPNOTSUPP);
	error = dvsm_ioctl(region->fd, DVSM_IOC_REGION_BALANCE, &argument);
	return error ? dvsm_fail(error) : (int)argument.out_mode;
}

int dvsm_region_balance_report(const struct dvsm_region *region, struct dvsm_balance_use *uses,
			       uint32_t nr_nodes, uint64_t *nr_hints, uint64_t *nr_held)
{
	struct dvsm_region_balance argument = {
		.size = sizeof(argument),
		.mode = DVSM_BALANCE_KEEP,
		.uses = (uintptr_t)uses,
		.nr_nodes = nr_nodes,
	};
	int error;

	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail(EOPNOTSUPP);
	error = dvsm_ioctl(region->fd, DVSM_IOC_REGION_BALANCE, &argument);
	if (error)
		return dvsm_fail(error);
	if (nr_hints)
		*nr_hints = argument.out_nr_hints;
	if (nr_held)
		*nr_held = argument.out_nr_held;
	return (int)argument.out_nr_nodes;
}
