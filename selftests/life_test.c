// SPDX-License-Identifier: GPL-2.0-only
/*
 * A region lives as long as somebody can reach it, and not a moment longer,
 * whoever it was and in whatever order they let go.
 */
#include <sys/inotify.h>
#include <sys/socket.h>

#include "fixture.h"

#define LENGTH (4 * CHUNK)

REGION_FIXTURE(life);

static bool alive(void)
{
	struct counts counts;

	return !counts_read(&counts) && counts.regions == 1 && counts.pages;
}

static bool gone(void)
{
	struct counts counts;

	return counts_reach_zero(&counts, 60);
}

/* The next permutation of @n numbers; false after the last. */
static bool next_order(int *order, int n)
{
	int i, j, t;

	for (i = n - 2; i >= 0 && order[i] > order[i + 1]; i--)
		;
	if (i < 0)
		return false;
	for (j = n - 1; order[j] < order[i]; j--)
		;
	t = order[i], order[i] = order[j], order[j] = t;
	for (i++, j = n - 1; i < j; i++, j--)
		t = order[i], order[i] = order[j], order[j] = t;
	return true;
}

TEST_F(life, last_of_descriptors_and_mappings_ends_it_in_every_order)
{
	enum { NR = 4 };
	int order[NR] = { 0, 1, 2, 3 }, step;

	close(self->fd);
	do {
		int dev = device_open(O_RDWR), fds[3];
		char *map;

		fds[0] = variant->implicit ? dev : region_create(dev, LENGTH, variant->flags);
		map = region_map(fds[0], LENGTH, 0);
		ASSERT_NE(MAP_FAILED, map);
		map[CHUNK] = 1;
		fds[1] = region_reopen(fds[0], 0);
		fds[2] = dup(fds[0]);
		for (step = 0; step < NR; step++) {
			EXPECT_TRUE(alive()) TH_LOG("step %d", step);
			if (order[step] == 3) {
				munmap(map, LENGTH);
			} else {
				close(fds[order[step]]);
			}
		}
		if (!variant->implicit)
			close(dev);
		EXPECT_TRUE(gone()) TH_LOG("order %d %d %d %d", order[0], order[1], order[2],
					   order[3]);
	} while (next_order(order, NR));
}

TEST_F(life, device_may_be_closed_first)
{
	char *map = region_map(self->fd, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	map[0] = 1;
	close(self->dev);
	EXPECT_TRUE(alive());
	EXPECT_EQ(0, write_at(map + CHUNK, 2));
	munmap(map, LENGTH);
	if (!variant->implicit) {
		EXPECT_TRUE(alive());
		close(self->fd);
	}
	EXPECT_TRUE(gone());
}

TEST_F(life, mapping_s_last_page_keeps_it)
{
	char *map = region_map(self->fd, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 1);
	close(self->fd);
	close(self->dev);
	ASSERT_EQ(0, munmap(map, CHUNK + 7 * PAGE));
	ASSERT_EQ(0, munmap(map + CHUNK + 8 * PAGE, LENGTH - CHUNK - 8 * PAGE));
	EXPECT_TRUE(alive());
	EXPECT_EQ(0, read_at(map + CHUNK + 7 * PAGE));
	ASSERT_EQ(0, munmap(map + CHUNK + 7 * PAGE, PAGE));
	EXPECT_TRUE(gone());
}

TEST_F(life, process_that_is_killed_holds_nothing)
{
	struct barrier *barrier = barrier_make(2);
	pid_t pid;

	close(self->fd);
	close(self->dev);
	pid = child_start();
	if (!pid) {
		int dev = device_open(O_RDWR);
		int fd = variant->implicit ? dev : region_create(dev, LENGTH, variant->flags);
		char *map = region_map(fd, LENGTH, 0);

		stamp(map, LENGTH, 1);
		barrier_wait(barrier);
		for (;;)
			stamp(map, LENGTH, 2);
	}
	barrier_wait(barrier);
	EXPECT_TRUE(alive());
	kill(pid, SIGKILL);
	EXPECT_EQ(128 + SIGKILL, child_wait(pid));
	EXPECT_TRUE(gone());
}

TEST_F(life, child_s_mapping_keeps_it_after_its_maker_died)
{
	struct barrier *barrier = barrier_make(2);
	int pipe_fds[2];
	pid_t maker;
	char byte;

	close(self->fd);
	close(self->dev);
	ASSERT_EQ(0, pipe(pipe_fds));
	maker = fork();
	if (!maker) {
		int dev = device_open(O_RDWR);
		int fd = variant->implicit ? dev : region_create(dev, LENGTH, variant->flags);
		char *map = region_map(fd, LENGTH, 0);

		stamp(map, LENGTH, 3);
		if (!fork()) {
			close(dev);
			close(fd);
			barrier_wait(barrier);
			byte = stamps_wrong(map, LENGTH, 3) != 0;
			_exit(write(pipe_fds[1], &byte, 1) != 1);
		}
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(maker));
	EXPECT_TRUE(alive());
	barrier_wait(barrier);
	ASSERT_EQ(1, read(pipe_fds[0], &byte, 1));
	EXPECT_EQ(0, byte);
	EXPECT_TRUE(gone());
}

TEST_F(life, descriptor_in_flight_keeps_it_and_dies_with_its_socket)
{
	int sock[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, region_populate(self->fd, 0, CHUNK, NULL));
	ASSERT_EQ(0, fd_send(sock[0], self->fd));
	close(self->fd);
	if (!variant->implicit)
		close(self->dev);
	EXPECT_TRUE(alive());
	close(sock[0]);
	EXPECT_TRUE(alive());
	close(sock[1]);
	EXPECT_TRUE(gone());
}

TEST_F(life, socket_that_holds_itself_and_the_region_is_collected)
{
	int sock[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, region_populate(self->fd, 0, CHUNK, NULL));
	ASSERT_EQ(0, fd_send(sock[0], self->fd));
	ASSERT_EQ(0, fd_send(sock[0], sock[0]));
	ASSERT_EQ(0, fd_send(sock[0], sock[1]));
	close(self->fd);
	if (!variant->implicit)
		close(self->dev);
	close(sock[0]);
	close(sock[1]);
	/* The collector runs when somebody closes a socket. */
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	close(sock[0]);
	close(sock[1]);
	EXPECT_TRUE(gone());
}

TEST_F(life, exec_lets_go_of_it)
{
	int pipe_fds[2];
	char byte;
	pid_t pid;

	if (access("/bin/busybox", X_OK))
		SKIP(return, "no /bin/busybox to execute");
	ASSERT_EQ(0, pipe(pipe_fds));
	close(self->fd);
	close(self->dev);
	pid = child_start();
	if (!pid) {
		int dev = device_open(O_RDWR);
		int fd = variant->implicit ? dev : region_create(dev, LENGTH, variant->flags);
		char *map = region_map(fd, LENGTH, 0);

		map[0] = 1;
		dup2(pipe_fds[0], 0);
		execl("/bin/busybox", "busybox", "cat", NULL);
		_exit(1);
	}
	close(pipe_fds[0]);
	EXPECT_TRUE(gone());
	byte = 0;
	(void)!write(pipe_fds[1], &byte, 0);
	close(pipe_fds[1]);
	kill(pid, SIGKILL);
	child_wait(pid);
}

TEST_F(life, who_watches_it_does_not_hold_it)
{
	unsigned long end = clock_ms() + 120000;
	int watch = inotify_init1(IN_CLOEXEC), status = -1;
	char path[64];
	pid_t pid;

	ASSERT_LE(0, watch);
	close(self->fd);
	close(self->dev);
	/* The last region that there is: nothing is left of the file system that they are in. */
	pid = child_start();
	if (!pid) {
		self->dev = device_open(O_RDWR);
		self->fd = region_create(self->dev, LENGTH, 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", self->fd);
		status = inotify_add_watch(watch, path, IN_OPEN | IN_DELETE_SELF);
		close(self->fd);
		_exit(status < 0);
	}
	/* It could not even be killed. */
	while (waitpid(pid, &status, WNOHANG) != pid && clock_ms() < end)
		sleep_ms(10);
	EXPECT_EQ(0, status);
	close(watch);
}

TEST_F(life, children_killed_at_once_leave_it_to_the_parent)
{
	enum { NR = 40 };
	char *map = region_map(self->fd, LENGTH, 0);
	struct barrier *barrier = barrier_make(NR + 1);
	pid_t pids[NR];
	int i;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 4);
	for (i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			barrier_wait(barrier);
			for (;;)
				(void)stamps_wrong(map, LENGTH, 4);
		}
	}
	barrier_wait(barrier);
	for (i = 0; i < NR; i++)
		kill(pids[i], SIGKILL);
	for (i = 0; i < NR; i++)
		EXPECT_EQ(128 + SIGKILL, child_wait(pids[i]));
	EXPECT_TRUE(alive());
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 4));
}

TEST_HARNESS_MAIN
