// SPDX-License-Identifier: GPL-2.0-only
/*
 * What ioctl_test.c claims of commands, for commands that come by io_uring: the
 * same answers to the same mistakes.
 */
#include <linux/io_uring.h>

#include "common.h"

/* As ioctl(): the result, or -1 and errno. The ring is that of the test's process. */
static int give_by_uring(int fd, unsigned int cmd, const void *arg)
{
	static struct uring ring = { .fd = -1 };
	struct io_uring_cqe cqe = {};
	int error = 0;

	if (ring.fd < 0)
		error = uring_open(&ring, 4);
	if (!error)
		error = uring_command(&ring, fd, cmd, arg, 0);
	if (!error)
		error = uring_wait(&ring, &cqe);
	if (!error && cqe.res >= 0)
		return cqe.res;
	errno = error ? -error : -cqe.res;
	return -1;
}

#define GIVE		give_by_uring
#define NO_COMMANDS	-EOPNOTSUPP
#define BY_WATCH(answer)	NO_COMMANDS	/* descriptors that only look take none by the ring */

#include "ioctl_test.c"
