// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sharing: by fork, by descriptors that travel, by several mappings, by exec.
 */
#include <pthread.h>
#include <sys/socket.h>

#include "fixture.h"

REGION_FIXTURE(share);

TEST_F(share, child_and_parent_see_each_others_writes)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	struct barrier *barrier = barrier_make(2);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 1);
	pid = child_start();
	if (!pid) {
		EXPECT_EQ(0, stamps_wrong(map, CHUNK, 1));
		stamp(map + CHUNK, CHUNK, 2);
		barrier_wait(barrier);
		barrier_wait(barrier);
		EXPECT_EQ(0, stamps_wrong(map + 2 * CHUNK, CHUNK, 3));
		_exit(0);
	}
	barrier_wait(barrier);
	EXPECT_EQ(0, stamps_wrong(map + CHUNK, CHUNK, 2));
	stamp(map + 2 * CHUNK, CHUNK, 3);
	barrier_wait(barrier);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_TRUE(is_huge_mapped(map, 3 * CHUNK));
}

TEST_F(share, processes_map_the_same_physical_page)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	uint64_t *pfn = share_anonymous(PAGE);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	map[CHUNK + 5 * PAGE] = 1;
	pid = child_start();
	if (!pid) {
		char *own = region_map(self->fd, REGION_LENGTH, 0);

		own[CHUNK + 5 * PAGE] = 2;
		*pfn = PAGEMAP_PFN(pagemap_entry(own + CHUNK + 5 * PAGE));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(PAGEMAP_PFN(pagemap_entry(map + CHUNK + 5 * PAGE)), *pfn);
	EXPECT_EQ(2, map[CHUNK + 5 * PAGE]);
}

TEST_F(share, grandchildren_share_after_everybody_between_is_gone)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	int pipe_fds[2];
	char byte;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, pipe(pipe_fds));
	pid = fork();
	if (!pid) {
		if (!fork()) {
			sleep_ms(20);
			stamp(map, REGION_LENGTH, 4);
			_exit(write(pipe_fds[1], "x", 1) != 1);
		}
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	ASSERT_EQ(1, read(pipe_fds[0], &byte, 1));
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 4));
}

TEST_F(share, two_mappings_of_one_process_show_the_same)
{
	char *a = region_map(self->fd, REGION_LENGTH, 0);
	char *b = region_map(self->fd, REGION_LENGTH, 0);
	char *c = region_map(self->fd, 2 * CHUNK, CHUNK + CHUNK / 2);

	ASSERT_NE(MAP_FAILED, a);
	ASSERT_NE(MAP_FAILED, b);
	ASSERT_NE(MAP_FAILED, c);
	stamp(a, REGION_LENGTH, 5);
	EXPECT_EQ(0, stamps_wrong(b, REGION_LENGTH, 5));
	EXPECT_EQ(0, memcmp(c, a + CHUNK + CHUNK / 2, 2 * CHUNK));
	c[7] = 8;
	EXPECT_EQ(8, a[CHUNK + CHUNK / 2 + 7]);
	ASSERT_EQ(0, munmap(a, REGION_LENGTH));
	EXPECT_EQ(8, b[CHUNK + CHUNK / 2 + 7]);
}

TEST_F(share, descriptor_travels_through_a_socket)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	int sock[2];
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	pid = child_start();
	if (!pid) {
		char *own;
		int fd;

		munmap(map, REGION_LENGTH);
		close(self->fd);
		fd = fd_receive(sock[1]);
		own = region_map(fd, REGION_LENGTH, 0);
		EXPECT_EQ(0, stamps_wrong(own, REGION_LENGTH, 6));
		stamp(own, REGION_LENGTH, 7);
		_exit(0);
	}
	stamp(map, REGION_LENGTH, 6);
	EXPECT_EQ(0, fd_send(sock[0], self->fd));
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 7));
}

static void *read_all(void *map)
{
	return (void *)(uintptr_t)!is_zero(map, REGION_LENGTH);
}

TEST_F(share, threads_of_one_process_fault_the_same_chunks_at_once)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	struct dvsm_region_info info;
	pthread_t threads[8];
	size_t i;

	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < 8; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, read_all, map));
	for (i = 0; i < 8; i++) {
		void *wrong;

		ASSERT_EQ(0, pthread_join(threads[i], &wrong));
		EXPECT_EQ(NULL, wrong);
	}
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(REGION_LENGTH, info.out_resident);
	if (!is_pinned(variant->flags)) {
		EXPECT_EQ(REGION_LENGTH / CHUNK, info.out_nr_faults_alloc);
	}
}

TEST_F(share, contents_survive_exec_through_an_inherited_descriptor)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	char text[64] = "", path[64];
	int pipe_fds[2];
	pid_t pid;

	if (access("/bin/busybox", X_OK))
		SKIP(return, "no /bin/busybox to execute");
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, pipe(pipe_fds));
	strcpy(map + CHUNK, "a word that the next program shall read\n");
	pid = child_start();
	if (!pid) {
		if (variant->implicit) {	/* the device itself cannot be read */
			self->fd = region_reopen(self->dev, 0);
		}
		fcntl(self->fd, F_SETFD, 0);
		dup2(pipe_fds[1], 1);
		dup2(open("/dev/null", O_WRONLY), 2);
		snprintf(path, sizeof(path), "if=/proc/self/fd/%d", self->fd);
		execl("/bin/busybox", "busybox", "dd", path, "bs=4096", "skip=512", "count=1",
		      NULL);
		_exit(1);
	}
	close(pipe_fds[1]);
	EXPECT_LT(0, read(pipe_fds[0], text, sizeof(text) - 1));
	EXPECT_EQ(0, strncmp(text, "a word that the next program", 28));
	while (read(pipe_fds[0], path, sizeof(path)) > 0)
		;
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(share, atomic_words_count_right_across_processes)
{
	enum { NR = 4, ROUNDS = 20000 };
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	uint64_t *word = (uint64_t *)(map + 3 * CHUNK + 64);
	pid_t pids[NR];
	int i, j;

	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			for (j = 0; j < ROUNDS; j++)
				__atomic_fetch_add(word, 1, __ATOMIC_RELAXED);
			_exit(0);
		}
	}
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	EXPECT_EQ(NR * ROUNDS, *word);
}

TEST_F(share, futex_in_a_region_wakes_another_process)
{
	struct barrier *barrier;
	pid_t pid;
	int i;

	barrier = (struct barrier *)region_map(self->fd, REGION_LENGTH, 0);
	ASSERT_NE(MAP_FAILED, (void *)barrier);
	barrier->nr = 2;
	pid = child_start();
	if (!pid) {
		for (i = 0; i < 50; i++)
			barrier_wait(barrier);
		_exit(0);
	}
	for (i = 0; i < 50; i++)
		barrier_wait(barrier);
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(share, process_shared_mutex_in_a_region_is_robust)
{
	pthread_mutex_t *mutex = region_map(self->fd, REGION_LENGTH, CHUNK);
	pthread_mutexattr_t attr;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, (void *)mutex);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	ASSERT_EQ(0, pthread_mutex_init(mutex, &attr));
	pid = child_start();
	if (!pid) {
		pthread_mutex_lock(mutex);
		raise(SIGKILL);
	}
	EXPECT_EQ(128 + SIGKILL, child_wait(pid));
	EXPECT_EQ(EOWNERDEAD, pthread_mutex_lock(mutex));
	EXPECT_EQ(0, pthread_mutex_consistent(mutex));
	EXPECT_EQ(0, pthread_mutex_unlock(mutex));
}

TEST_HARNESS_MAIN
