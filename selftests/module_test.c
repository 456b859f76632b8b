// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module goes when nobody uses it and not before. It is loaded again from the
 * file that the test VM has.
 */
#include <sys/socket.h>

#include "module.h"

FIXTURE(module) {
	int dev;
};

FIXTURE_SETUP(module)
{
	if (access(MODULE_FILE, R_OK))
		SKIP(return, "no %s to load again", MODULE_FILE);
	OPEN_DEVICE_OR_SKIP(self->dev);
}

FIXTURE_TEARDOWN_PARENT(module)
{
	if (access(DVSM_DEVICE_PATH, F_OK)) {
		EXPECT_EQ(0, load());
		EXPECT_LE(0, open_soon());
	}
	EXPECT_NO_LEAK();
}

TEST_F(module, open_device_keeps_it)
{
	EXPECT_EQ(-EWOULDBLOCK, unload());
}

TEST_F(module, region_keeps_it_by_descriptor_alone)
{
	int fd = region_create(self->dev, CHUNK, 0);

	ASSERT_LE(0, fd);
	close(self->dev);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	EXPECT_EQ(1, pwrite(fd, "x", 1, 0));
	close(fd);
	EXPECT_EQ(0, unload_soon());
}

TEST_F(module, region_keeps_it_by_reopened_descriptors_alone)
{
	int fd = region_create(self->dev, CHUNK, 0);
	int by_command = region_reopen(fd, 0), by_path = fd_reopen(fd, O_RDONLY);

	ASSERT_LE(0, by_command);
	ASSERT_LE(0, by_path);
	close(self->dev);
	close(fd);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	close(by_command);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	close(by_path);
	EXPECT_EQ(0, unload_soon());
}

TEST_F(module, mapping_alone_keeps_it)
{
	int fd = region_create(self->dev, CHUNK, 0);
	char *map = region_map(fd, CHUNK, 0);

	ASSERT_NE(MAP_FAILED, map);
	close(self->dev);
	close(fd);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	EXPECT_EQ(0, write_at(map, 1));
	ASSERT_EQ(0, munmap(map, CHUNK));
	EXPECT_EQ(0, unload_soon());
}

TEST_F(module, mapping_of_the_device_alone_keeps_it)
{
	char *map = region_map(self->dev, CHUNK, 0);

	ASSERT_NE(MAP_FAILED, map);
	close(self->dev);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	EXPECT_EQ(0, write_at(map, 1));
	ASSERT_EQ(0, munmap(map, PAGE));
	EXPECT_EQ(-EWOULDBLOCK, unload());
	ASSERT_EQ(0, munmap(map + PAGE, CHUNK - PAGE));
	EXPECT_EQ(0, unload_soon());
}

TEST_F(module, descriptor_in_flight_keeps_it)
{
	int fd = region_create(self->dev, CHUNK, 0), sock[2];

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, fd_send(sock[0], fd));
	close(fd);
	close(self->dev);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	close(sock[0]);
	close(sock[1]);
	EXPECT_EQ(0, unload_soon());
}

TEST_F(module, another_process_s_mapping_keeps_it)
{
	char *map = region_map(self->dev, CHUNK, 0);
	struct barrier *barrier = barrier_make(2);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	pid = child_start();
	if (!pid) {
		close(self->dev);
		barrier_wait(barrier);
		pause();
		_exit(0);
	}
	munmap(map, CHUNK);
	close(self->dev);
	barrier_wait(barrier);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	kill(pid, SIGKILL);
	EXPECT_EQ(128 + SIGKILL, child_wait(pid));
	EXPECT_EQ(0, unload_soon());
}

TEST_F(module, it_comes_and_goes_many_times)
{
	int i;

	close(self->dev);
	for (i = 0; i < 10; i++) {
		int dev;
		char *map;

		ASSERT_EQ(0, unload_soon());
		ASSERT_EQ(0, load());
		dev = open_soon();
		ASSERT_LE(0, dev);
		map = region_map(dev, CHUNK, 0);
		ASSERT_NE(MAP_FAILED, map);
		EXPECT_EQ(0, write_at(map, 1));
		munmap(map, CHUNK);
		close(dev);
	}
}

/*
 * The core drops a file's reference on the module before the inode's: what is
 * freed then must not need a module that has just gone.
 */
TEST_F(module, unloading_right_after_the_last_close_waits_for_the_memory_to_be_freed)
{
	int i;

	close(self->dev);
	for (i = 0; i < 4; i++) {
		struct barrier *barrier = barrier_make(2);
		pid_t pid = child_start();

		if (!pid) {
			int dev = open_soon();
			int fd = region_create(dev, 512 * MIB, 0);

			if (region_populate(fd, 0, 0, NULL))
				_exit(1);
			/* Small folios take longer to free. */
			if (i % 2)
				write_text("/sys/kernel/debug/split_huge_pages", "1");
			close(dev);
			barrier_wait(barrier);
			close(fd);
			_exit(0);
		}
		barrier_wait(barrier);
		EXPECT_EQ(0, unload_soon());
		EXPECT_EQ(0, child_wait(pid));
		ASSERT_EQ(0, load());
	}
}

TEST_F(module, opening_and_unloading_at_once_ends_well)
{
	unsigned long end = clock_ms() + 2000;
	pid_t pids[3];
	int i, loads = 0;

	close(self->dev);
	for (i = 0; i < 3; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			while (clock_ms() < end) {
				int dev = device_open(O_RDWR);
				char *map;

				if (dev < 0)
					continue;
				sleep_ms(1);
				map = region_map(dev, PAGE, 0);
				if (map != MAP_FAILED)
					map[0] = 1;
				close(dev);
				if (map != MAP_FAILED)
					munmap(map, PAGE);
				sleep_ms(10);
			}
			_exit(0);
		}
	}
	/* Once at least, when the others have stopped. */
	while (clock_ms() < end || !loads) {
		if (!unload()) {
			ASSERT_EQ(0, load());
			loads++;
		}
	}
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
}

TEST_HARNESS_MAIN
