/* SPDX-License-Identifier: GPL-2.0-only */
/* A process that has a capability less, for tests of the module and of the library. */
#ifndef DVSM_SELFTEST_CAPABILITY_H
#define DVSM_SELFTEST_CAPABILITY_H

#include <linux/capability.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline bool capability_drop(int capability)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return false;
	data[capability / 32].effective &= ~(1U << capability % 32);
	return !syscall(SYS_capset, &header, data);
}

#endif /* DVSM_SELFTEST_CAPABILITY_H */
