/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * To load and unload the module, from the file that the test VM has.
 */
#ifndef DVSM_SELFTEST_MODULE_H
#define DVSM_SELFTEST_MODULE_H

#include <sched.h>
#include <sys/syscall.h>

#include "fixture.h"

#define MODULE_FILE "/vm/dvsm.ko"
#define MODULE_CALL static inline int __attribute__((unused))

MODULE_CALL load(void)
{
	int fd = open(MODULE_FILE, O_RDONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
	close(fd);
	return ret;
}

MODULE_CALL unload(void)
{
	return syscall(SYS_delete_module, "dvsm", O_NONBLOCK) ? -errno : 0;
}

/* What was the last reference may be dropped by a worker. */
MODULE_CALL unload_soon(void)
{
	/* Half a gigabyte of small pages takes long to free where other machines have the CPUs. */
	unsigned long end = clock_ms() + 120000;
	int ret;

	while ((ret = unload()) == -EWOULDBLOCK && clock_ms() < end)
		sched_yield();
	return ret;
}

/* The device node comes with the module. */
MODULE_CALL open_soon(void)
{
	unsigned long end = clock_ms() + 30000;
	int dev;

	while ((dev = device_open(O_RDWR)) < 0 && clock_ms() < end)
		sleep_ms(1);
	return dev;
}

#endif /* DVSM_SELFTEST_MODULE_H */
