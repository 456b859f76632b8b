// SPDX-License-Identifier: GPL-2.0-only
/*
 * An O_PATH descriptor of a region's file is known to the file system alone: rmmod
 * began and waited for ever. It is refused, and the memory is given back all the same.
 */
#include <sys/syscall.h>

#include "../fixture.h"

DVSM_FIXTURE(path_descriptor);

static int unload(void)
{
	return syscall(SYS_delete_module, "dvsm", O_NONBLOCK) ? -errno : 0;
}

TEST_F(path_descriptor, keeps_the_module_and_no_memory)
{
	int fd = region_create(self->dev, CHUNK, 0), path;
	char name[64];

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	path = open(name, O_PATH | O_CLOEXEC);
	ASSERT_LE(0, path);
	close(fd);
	/* Whose it was stays known until the inode goes. */
	EXPECT_EQ(0, stats_reach("regions", 0, 60));
	EXPECT_EQ(0, stats_reach("pages", 0, 60));
	close(self->dev);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	EXPECT_EQ(-1, open(name, O_RDONLY));
	/* A new region, beside the remains of the old one. */
	self->dev = device_open(O_RDWR);
	ASSERT_LE(0, self->dev);
	fd = region_create(self->dev, CHUNK, 0);
	ASSERT_LE(0, fd);
	EXPECT_LE(0, region_reopen(fd, 0));
}

TEST_HARNESS_MAIN
