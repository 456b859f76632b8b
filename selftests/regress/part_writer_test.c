// SPDX-License-Identifier: GPL-2.0-only
/*
 * A snapshot that is gone again had left its mark on the parts of the region: somebody who holds
 * one may be reading for that snapshot. Whoever then wrote to a page that had not been copied
 * yet, and held it past the page tables, was taken for a reader by the next write to
 * another page: the region went on with a copy, and what he wrote was lost.
 */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "../fixture.h"
#include "../snapshot.h"

DVSM_FIXTURE(part_writer);

struct copy {
	int fd;
	void *from;
	off_t to;
	ssize_t ret;
};

/* The kernel holds the target while it waits for the source. */
static void *copy_run(void *arg)
{
	struct copy *copy = arg;

	copy->ret = pwrite(copy->fd, copy->from, PAGE, copy->to);
	return NULL;
}

TEST_F(part_writer, what_he_writes_is_there)
{
	int fd = region_create(self->dev, CHUNK, 0), snapshot, other;
	struct copy copy = { .fd = fd, .to = 9 * PAGE };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_copy fill = { .len = PAGE };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	struct pollfd event = { .fd = uffd, .events = POLLIN };
	char *map = region_map(fd, CHUNK, 0), data[PAGE];
	struct uffd_msg msg;
	pthread_t thread;

	ASSERT_NE(MAP_FAILED, map);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd");
	copy.from = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, copy.from);
	reg.range.start = (uintptr_t)copy.from;
	reg.range.len = PAGE;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &reg));

	stamp(map, CHUNK, 1);
	snapshot = snapshot_take_in_parts(fd, PAGE, 0);
	ASSERT_LE(0, snapshot);
	map[3 * PAGE] = 1;
	other = snapshot_take_in_parts(fd, PAGE, 0);
	ASSERT_LE(0, other);
	close(other);
	ASSERT_EQ(0, stats_reach("regions", 2, 60));

	ASSERT_EQ(0, pthread_create(&thread, NULL, copy_run, &copy));
	ASSERT_EQ(1, poll(&event, 1, 60000));
	ASSERT_EQ(sizeof(msg), read(uffd, &msg, sizeof(msg)));
	map[3 * PAGE] = 2;
	memset(data, 'd', PAGE);
	fill.src = (uintptr_t)data;
	fill.dst = (uintptr_t)copy.from;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_COPY, &fill));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(PAGE, copy.ret);
	EXPECT_EQ(0, memcmp(map + copy.to, data, PAGE));
	EXPECT_EQ(2, map[3 * PAGE]);
	close(uffd);
	close(snapshot);
	close(fd);
}

TEST_HARNESS_MAIN
