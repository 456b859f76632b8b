// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel knows a futex that processes share by the inode and offset of its page. When a
 * write after a snapshot put the page into another inode, who slept on it was
 * not found any more, and slept on.
 */
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "../fixture.h"
#include "../snapshot.h"

#define WORD	(3 * PAGE)

FIXTURE(futex) {
	int dev;
	int fd;
	char *map;
};

FIXTURE_SETUP(futex)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, 2 * CHUNK, 0);
	self->map = region_map(self->fd, 2 * CHUNK, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	stamp(self->map, 2 * CHUNK, 1);
}

FIXTURE_TEARDOWN_PARENT(futex)
{
	EXPECT_NO_LEAK();
}

static long futex(void *word, int op, uint32_t value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

/* A process, without the snapshot, that sleeps on a word; it ends with 0 if it is woken. */
static pid_t sleeper_start(uint32_t *word, int snapshot)
{
	const struct timespec timeout = { .tv_sec = 60 };
	pid_t pid;
	int i;

	*word = 0;
	pid = child_start();
	if (!pid && snapshot >= 0)
		close(snapshot);
	if (!pid)
		_exit(futex(word, FUTEX_WAIT, 0, &timeout) ? errno : 0);
	for (i = 0; i < 12000; i++) {
		char path[64], text[256] = "";

		snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
		read_text(path, text, sizeof(text));
		if (atoi(text) == SYS_futex)
			return pid;
		sleep_ms(5);
	}
	return -ETIME;
}

/* How many were woken; -1 if it was another. */
static long wake(uint32_t *word, pid_t pid)
{
	long nr;
	int status;

	*word = 1;
	nr = futex(word, FUTEX_WAKE, INT_MAX, NULL);
	if (!child_ends(pid, nr ? 60000 : 0, &status)) {
		kill(pid, SIGKILL);
		child_wait(pid);
		return nr ? -1 : 0;
	}
	return status ? -1 : nr;
}

TEST_F(futex, sleeper_is_found_when_a_part_is_copied)
{
	uint32_t *word = (uint32_t *)(self->map + WORD);
	int snapshots[3], i;
	pid_t pid;

	/* Each of the later parts is copied over an earlier one. */
	for (i = 0; i < 3; i++) {
		pid = sleeper_start(word, -1);
		ASSERT_LT(0, pid);
		snapshots[i] = snapshot_take_in_parts(self->fd, PAGE, 0);
		ASSERT_LE(0, snapshots[i]);
		EXPECT_EQ(1, wake(word, pid));
	}
}

TEST_F(futex, sleeper_is_found_when_parts_go_back)
{
	uint32_t *word = (uint32_t *)(self->map + WORD);
	int snapshot = snapshot_take_in_parts(self->fd, PAGE, 0);
	uint64_t part;
	pid_t pid;

	ASSERT_LE(0, snapshot);
	pid = sleeper_start(word, snapshot);
	ASSERT_LT(0, pid);
	part = pagemap_entry(word);
	close(snapshot);
	/* A read makes the chunk whole again. */
	for (size_t at = 0; at < CHUNK; at += PAGE)
		(void)*(volatile char *)(self->map + at);
	EXPECT_NE(part, pagemap_entry(word));
	EXPECT_EQ(1, wake(word, pid));
}

/* While a pipe holds a page of the snapshot the region cannot keep its folio. */
TEST_F(futex, sleeper_is_found_when_the_chunk_is_copied_away)
{
	uint32_t *word = (uint32_t *)(self->map + WORD);
	int i;

	for (i = 0; i < 3; i++) {
		pid_t pid = sleeper_start(word, -1);
		int snapshot, ends[2];
		struct iovec page;
		char *old;

		ASSERT_LT(0, pid);
		snapshot = snapshot_take(self->fd);
		old = region_map(snapshot, 2 * CHUNK, 0);
		ASSERT_NE(MAP_FAILED, old);
		page = (struct iovec) { old + 7 * PAGE, PAGE };
		ASSERT_EQ(0, pipe(ends));
		ASSERT_EQ(PAGE, vmsplice(ends[1], &page, 1, 0));
		EXPECT_EQ(1, wake(word, pid));
		EXPECT_EQ(0, *(uint32_t *)(old + WORD));
		close(ends[0]);
		close(ends[1]);
	}
}

TEST_F(futex, robust_mutex_tells_of_a_death_after_a_snapshot)
{
	pthread_mutex_t *mutex = (pthread_mutex_t *)(self->map + WORD);
	pthread_mutexattr_t attr;
	int go[2], held[2], snapshot;
	char c = 0;
	pid_t pid;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	ASSERT_EQ(0, pthread_mutex_init(mutex, &attr));
	ASSERT_EQ(0, pipe(go) | pipe(held));
	pid = child_start();
	if (!pid) {
		pthread_mutex_lock(mutex);
		if (write(held[1], &c, 1) == 1 && read(go[0], &c, 1) == 1)
			sleep_ms(500);
		raise(SIGKILL);
	}
	ASSERT_EQ(1, read(held[0], &c, 1));
	snapshot = snapshot_take_in_parts(self->fd, PAGE, 0);
	ASSERT_LE(0, snapshot);
	ASSERT_EQ(1, write(go[1], &c, 1));
	EXPECT_EQ(EOWNERDEAD, pthread_mutex_lock(mutex));
	EXPECT_EQ(128 + SIGKILL, child_wait(pid));
}

/* What a snapshot has in the same place is another futex. */
TEST_F(futex, sleepers_of_region_and_snapshot_are_told_apart)
{
	uint32_t *word = (uint32_t *)(self->map + WORD), *other;
	int snapshot = snapshot_take_in_parts(self->fd, PAGE, 0);
	char *map = region_map(snapshot, 2 * CHUNK, 0);
	pid_t pid, pid_other;

	ASSERT_NE(MAP_FAILED, map);
	other = (uint32_t *)(map + WORD);
	pid = sleeper_start(word, -1);
	pid_other = sleeper_start(other, -1);
	ASSERT_LT(0, pid);
	ASSERT_LT(0, pid_other);
	EXPECT_EQ(1, wake(word, pid));
	EXPECT_EQ(1, wake(other, pid_other));
}

/* The region has left its first place, and a snapshot reads there alone. */
TEST_F(futex, sleepers_are_told_apart_when_the_region_has_moved_away)
{
	uint32_t *word = (uint32_t *)(self->map + WORD), *other;
	int snapshot = snapshot_take_in_parts(self->fd, PAGE, 0);
	char *map = region_map(snapshot, 2 * CHUNK, 0);
	pid_t pid, pid_other;
	uint64_t bytes;

	ASSERT_NE(MAP_FAILED, map);
	other = (uint32_t *)(map + WORD);
	*(volatile char *)self->map = 1;
	ASSERT_EQ(0, region_unshare(self->fd, 0, CHUNK, &bytes));
	ASSERT_EQ(CHUNK, bytes);
	pid_other = sleeper_start(other, -1);
	pid = sleeper_start(word, -1);
	ASSERT_LT(0, pid);
	ASSERT_LT(0, pid_other);
	map[9 * PAGE] = 1;
	EXPECT_EQ(1, wake(word, pid));
	EXPECT_EQ(1, wake(other, pid_other));
	EXPECT_EQ(1, self->map[0]);
	EXPECT_EQ(0, memcmp(map + 10 * PAGE, self->map + 10 * PAGE, 2 * CHUNK - 10 * PAGE));
}

TEST_HARNESS_MAIN
