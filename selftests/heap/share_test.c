// SPDX-License-Identifier: GPL-2.0-only
/* Heaps between processes: strangers, hand-off, roots, many at work, nodes. */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "heap_test.h"
#include <kselftest_harness.h>

static void descriptor_send(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	sendmsg(socket, &message, 0);
}

static int descriptor_receive(int socket)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	int fd = -1;

	if (recvmsg(socket, &message, 0) > 0 && CMSG_FIRSTHDR(&message))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

TEST(strangers_attach_at_the_same_address)
{
	struct dvsm_heap *heap;
	int sockets[2], fd;
	pid_t pid;
	char *text;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	pid = child_begin();
	if (!pid) {
		/* Made after the fork: the test itself has never seen it. */
		heap = heap_of(1 * GIB);
		text = dvsm_heap_malloc(heap, 100);
		strcpy(text, "from a stranger");
		dvsm_heap_root_set(heap, 3, text);
		descriptor_send(sockets[0], dvsm_heap_fd(heap));
		pause();
	}
	fd = descriptor_receive(sockets[1]);
	ASSERT_GE(fd, 0);
	heap = dvsm_heap_attach(fd);
	ASSERT_NE(NULL, heap);
	text = dvsm_heap_root_get(heap, 3);
	ASSERT_NE(NULL, text);
	EXPECT_STREQ("from a stranger", text);
	EXPECT_EQ(text, dvsm_heap_address(heap, dvsm_heap_offset(heap, text)));
	EXPECT_TRUE(dvsm_heap_root_exchange(heap, 3, text, NULL));
	EXPECT_FALSE(dvsm_heap_root_exchange(heap, 3, text, NULL));
	dvsm_heap_free(heap, text);
	kill(pid, SIGKILL);
	ASSERT_EQ(SIGKILL, child_end(pid));
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	EXPECT_EQ(0, live_blocks(heap));
	/* A second time its address is taken, by itself. */
	fd = dup(dvsm_heap_fd(heap));
	EXPECT_EQ(NULL, dvsm_heap_attach(fd));
	EXPECT_EQ(EEXIST, errno);
	close(fd);
	dvsm_heap_detach(heap);
}

/* Where there is no registry of names, a file in /dev/shm is one. */
TEST(strangers_meet_by_a_name)
{
	char name[64];
	struct dvsm_heap *heap;
	int go[2], fd;
	char *text;
	pid_t pid;

	snprintf(name, sizeof(name), "/dev/shm/dvsm-share-test-%d", getpid());
	ASSERT_EQ(0, pipe(go));
	pid = child_begin();
	if (!pid) {
		if (read(go[0], name, sizeof(name)) <= 0)
			_exit(1);
		heap = dvsm_heap_attach(open(name, O_RDWR | O_CLOEXEC));
		text = heap ? dvsm_heap_root_get(heap, 0) : NULL;
		if (!text || strcmp(text, "here"))
			_exit(2);
		dvsm_heap_free(heap, text);
		_exit(0);
	}
	fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, ftruncate(fd, GIB));
	heap = dvsm_heap_create_on(dvsm_region_open(fd, NULL), NULL);
	ASSERT_NE(NULL, heap);
	text = dvsm_heap_malloc(heap, 100);
	strcpy(text, "here");
	ASSERT_EQ(0, dvsm_heap_root_set(heap, 0, text));
	ASSERT_EQ(sizeof(name), write(go[1], name, sizeof(name)));
	EXPECT_EQ(0, child_end(pid));
	unlink(name);
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	EXPECT_EQ(0, live_blocks(heap));
	dvsm_heap_destroy(heap);
}

/* A private heap maps what it uses, and goes round what is mapped in its way. */
TEST(a_private_heap_grows_round_other_mappings)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .flags = DVSM_HEAP_F_PRIVATE, .reserve = GIB,
	};
	struct dvsm_heap *heap = dvsm_heap_create(&options);
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };
	char *block, *other, *blocks[600];
	int nr, i;

	ASSERT_NE(NULL, heap);
	block = dvsm_heap_malloc(heap, 100);
	other = mmap((void *)(((uintptr_t)block & -(2 * MIB)) + 301 * MIB), 4096, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ASSERT_NE(MAP_FAILED, other) TH_LOG("the heap has mapped more than it uses");
	strcpy(other, "not the heap's");
	for (nr = 0; nr < 600; nr++) {
		blocks[nr] = dvsm_heap_malloc(heap, 2 * MIB);
		if (!blocks[nr])
			break;
		ASSERT_FALSE(blocks[nr] <= other && other < blocks[nr] + 2 * MIB);
		memset(blocks[nr], nr, 100);
	}
	ASSERT_LT(450, nr);
	ASSERT_GT(505, nr);
	ASSERT_EQ(0, dvsm_heap_check(heap, 2));
	EXPECT_EQ((long)nr + 1, live_blocks(heap));
	ASSERT_EQ(0, dvsm_heap_stats(heap, &stats));
	EXPECT_EQ((uint64_t)nr * 2 * MIB, stats.out_huge);
	for (i = 0; i < nr; i++) {
		ASSERT_EQ((char)i, blocks[i][99]);
		dvsm_heap_free(heap, blocks[i]);
	}
	EXPECT_STREQ("not the heap's", other);
	dvsm_heap_detach(heap);
	EXPECT_STREQ("not the heap's", other);
	EXPECT_EQ(-1, mincore((void *)((uintptr_t)block & -4096UL), 4096, (unsigned char *)blocks));
	EXPECT_EQ(ENOMEM, errno);
	munmap(other, 4096);
}

/* As in a sandbox: /proc says how many CPUs there can be, or nobody. */
static void lose_sys(bool proc_too)
{
	if (proc_too ? unshare(CLONE_NEWUSER) || chroot("/proc/self/fdinfo") || chdir("/") :
	    unshare(CLONE_NEWUSER | CLONE_NEWNS) || mount("none", "/sys", "tmpfs", 0, NULL))
		_exit(77);
}

static void attach_without_sys(struct __test_metadata *_metadata, bool without_proc)
{
	struct dvsm_heap *heap = heap_of(GIB), *here;
	void **blocks;
	int fd, i, j, status;
	pid_t pid;

	ASSERT_NE(NULL, heap);
	blocks = dvsm_heap_calloc(heap, 3000, sizeof(*blocks));
	for (i = 0; i < 3000; i += 2)
		blocks[i] = dvsm_heap_malloc(heap, (size_t)i * 50);
	pid = child_begin();
	if (!pid) {
		fd = dup(dvsm_heap_fd(heap));
		dvsm_heap_detach(heap);
		lose_sys(without_proc);
		here = dvsm_heap_attach(fd);
		if (!here)
			_exit(1);
		for (i = 0; i < 3000; i++) {
			if (i % 2)
				blocks[i] = dvsm_heap_malloc(here, (size_t)i * 50);
			else
				dvsm_heap_free(here, blocks[i]);
			if (i % 2 && !blocks[i])
				_exit(2);
		}
		for (j = 0; j < 10; j++)
			for (i = 1; i < 1000; i++)
				dvsm_heap_free(here, dvsm_heap_malloc(here, (size_t)i));
		dvsm_heap_trim(here, 0);
		_exit(dvsm_heap_check(here, 2) ? 3 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP(return, "no root directory of its own");
	ASSERT_EQ(0, status);
	EXPECT_EQ(1501, live_blocks(heap));
	for (i = 1; i < 3000; i += 2)
		dvsm_heap_free(heap, blocks[i]);
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

TEST(who_has_no_sys_attaches)
{
	attach_without_sys(_metadata, false);
}

/* It cannot know whether every CPU has stacks, and uses none. */
TEST(who_has_no_sys_and_no_proc_attaches)
{
	attach_without_sys(_metadata, true);
}

TEST(what_is_no_heap_is_refused)
{
	struct dvsm_region *region = dvsm_region_create(64 * MIB, NULL);
	int fd = dup(dvsm_region_fd(region));

	EXPECT_EQ(NULL, dvsm_heap_attach(fd));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, close(fd));
	dvsm_region_destroy(region);
}

/* Cells that all processes put blocks into and take them out of; each block says what it is. */
#define CELLS	4000
struct board {
	struct dvsm_heap *heap;
	_Atomic(unsigned char *) *cells;
	double end;
};

static size_t board_size(uint64_t *seed)
{
	uint32_t kind = random_next(seed) % 1000;

	return 16 + (kind < 800 ? random_next(seed) % 300 : kind < 990 ? random_next(seed) % 20000 :
		     random_next(seed) % 3000000);
}

static unsigned char *board_make(struct board *board, uint64_t *seed)
{
	size_t size = board_size(seed), i;
	unsigned char *block = dvsm_heap_malloc(board->heap, size), value = (unsigned char)*seed;

	if (!block)
		abort();
	for (i = sizeof(size) + 1; i < size; i += size > 4096 ? 251 : 1)
		block[i] = value;
	memcpy(block, &size, sizeof(size));
	block[sizeof(size)] = value;
	return block;
}

static void board_check(struct board *board, unsigned char *block)
{
	size_t size, i;

	memcpy(&size, block, sizeof(size));
	if (dvsm_heap_usable_size(board->heap, block) < size)
		abort();
	for (i = sizeof(size) + 1; i < size; i += size > 4096 ? 251 : 1)
		if (block[i] != block[sizeof(size)])
			abort();
}

static void *board_play(void *context)
{
	struct board *board = context;
	uint64_t seed = (uint64_t)getpid() * 31 + (uintptr_t)&seed;
	unsigned char *block;
	int i;

	while (seconds() < board->end) {
		for (i = 0; i < 100; i++) {
			block = random_next(&seed) % 3 ? board_make(board, &seed) : NULL;
			block = atomic_exchange(&board->cells[random_next(&seed) % CELLS], block);
			if (!block)
				continue;
			board_check(board, block);
			dvsm_heap_free(board->heap, block);
		}
	}
	return NULL;
}

static void play(struct __test_metadata *_metadata, uint32_t flags, int nr_processes, int nr_threads)
{
	struct dvsm_heap_options options = { .size = sizeof(options), .flags = flags };
	struct board board = { .end = seconds() + patience(4) };
	pthread_t threads[8];
	pid_t pids[16];
	long live = 1;
	int i, thread;

	board.heap = dvsm_heap_create(&options);
	ASSERT_NE(NULL, board.heap);
	board.cells = dvsm_heap_calloc(board.heap, CELLS, sizeof(*board.cells));
	for (i = 0; i < nr_processes; i++) {
		pids[i] = child_begin();
		if (pids[i])
			continue;
		for (thread = 1; thread < nr_threads; thread++)
			pthread_create(&threads[thread], NULL, board_play, &board);
		board_play(&board);
		for (thread = 1; thread < nr_threads; thread++)
			pthread_join(threads[thread], NULL);
		_exit(0);
	}
	for (i = 0; i < nr_processes; i++)
		ASSERT_EQ(0, child_end(pids[i]));
	ASSERT_EQ(0, dvsm_heap_check(board.heap, 2));
	for (i = 0; i < CELLS; i++)
		live += board.cells[i] != NULL;
	ASSERT_EQ(live, live_blocks(board.heap));
	for (i = 0; i < CELLS; i++)
		dvsm_heap_free(board.heap, board.cells[i]);
	dvsm_heap_trim(board.heap, 0);
	ASSERT_EQ(0, dvsm_heap_check(board.heap, 2));
	ASSERT_EQ(1, live_blocks(board.heap));
	dvsm_heap_destroy(board.heap);
}

TEST(processes_and_threads_hand_blocks_around)
{
	play(_metadata, 0, 4, 2);
}

/* For ThreadSanitizer: it does not see what another process puts between two threads. */
TEST(threads_hand_blocks_around)
{
	play(_metadata, 0, 1, 4);
}

TEST(blocks_find_back_to_their_nodes)
{
	play(_metadata, DVSM_HEAP_F_FAKE_NODES, 4, 1);
}

TEST(malloc_node_keeps_nodes_apart)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .flags = DVSM_HEAP_F_FAKE_NODES, .reserve = GIB,
	};
	struct dvsm_heap *heap = dvsm_heap_create(&options);
	uint64_t chunks[2][100];
	int node, i, other;

	for (node = 0; node < 2; node++)
		for (i = 0; i < 100; i++)
			chunks[node][i] = dvsm_heap_offset(heap,
				dvsm_heap_malloc_node(heap, 50000, (unsigned int)node)) / (2 * MIB);
	for (i = 0; i < 100; i++)
		for (other = 0; other < 100; other++)
			ASSERT_NE(chunks[0][i], chunks[1][other]);
	EXPECT_EQ(NULL, dvsm_heap_malloc_node(heap, 10, 2));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

/* Memory that a child gets a copy of, as of any private memory; with other threads inside the allocator. */
TEST(a_private_heap_is_copied_by_fork)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .flags = DVSM_HEAP_F_PRIVATE, .reserve = GIB,
	};
	struct board board = { .end = seconds() + 3 };
	pthread_t threads[2];
	long *block;
	pid_t pid;
	int i;

	board.heap = dvsm_heap_create(&options);
	ASSERT_NE(NULL, board.heap);
	board.cells = dvsm_heap_calloc(board.heap, CELLS, sizeof(*board.cells));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, board_play, &board));
	while (seconds() < board.end) {
		block = dvsm_heap_malloc(board.heap, sizeof(*block));
		*block = 1;
		pid = child_begin();
		if (!pid) {
			alarm(HANG);
			*block = 2;
			dvsm_heap_free(board.heap, block);
			if (dvsm_heap_check(board.heap, 2))
				_exit(1);
			for (i = 0; i < 1000; i++)
				dvsm_heap_free(board.heap, dvsm_heap_malloc(board.heap, (size_t)i * 9));
			_exit(0);
		}
		ASSERT_EQ(0, child_end(pid));
		ASSERT_EQ(1, *block);
		dvsm_heap_free(board.heap, block);
	}
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	ASSERT_EQ(0, dvsm_heap_check(board.heap, 2));
	dvsm_heap_destroy(board.heap);
}

/* Until the heap is full; it touches nothing. */
static void *heap_grows(void *heap)
{
	while (dvsm_heap_malloc(heap, 32 * MIB))
		;
	return NULL;
}

/* No handler runs in such a child, and the thread that makes the heap larger is not there. */
TEST(child_of_a_bare_clone_makes_the_heap_larger)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .flags = DVSM_HEAP_F_PRIVATE, .reserve = 64 * GIB,
	};
	double end = seconds() + 4;
	uint64_t seed = 7;
	struct timespec moment = {};
	pthread_t thread;
	int status;
	pid_t pid;

	while (seconds() < end) {
		struct dvsm_heap *heap = dvsm_heap_create(&options);

		ASSERT_NE(NULL, heap);
		ASSERT_EQ(0, pthread_create(&thread, NULL, heap_grows, heap));
		moment.tv_nsec = (long)(random_next(&seed) % 300000);
		nanosleep(&moment, NULL);
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
		if (!pid) {
			alarm(HANG);
			/* More than is mapped, unless all is. */
			dvsm_heap_free(heap, dvsm_heap_malloc(heap, 40 * GIB));
			_exit(0);
		}
		ASSERT_LT(0, pid);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
		pthread_join(thread, NULL);
		dvsm_heap_destroy(heap);
	}
}

/* Makes heaps and leaves them; the older of two goes first, so the list changes inside, too. */
static void *heaps_come_and_go(void *context)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .flags = DVSM_HEAP_F_PRIVATE, .reserve = 64 * MIB,
	};
	struct board *board = context;
	struct dvsm_heap *old = NULL, *heap;

	while (seconds() < board->end) {
		heap = dvsm_heap_create(&options);
		if (!heap || !dvsm_heap_malloc(heap, 100))
			abort();
		dvsm_heap_detach(old);
		old = heap;
	}
	dvsm_heap_detach(old);
	return NULL;
}

/* A child looks at every private heap that there is. */
TEST(private_heaps_come_and_go_in_threads)
{
	struct board board = { .end = seconds() + patience(4) };
	pthread_t threads[4];
	pid_t pid;
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, heaps_come_and_go, &board));
	while (seconds() < board.end) {
		pid = child_begin();
		if (!pid) {
			alarm(HANG);
			/* Its own list, which others may have been changing at the fork. */
			board.end = seconds() + 1e-4;
			heaps_come_and_go(&board);
			_exit(0);
		}
		ASSERT_EQ(0, child_end(pid));
	}
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

TEST_HARNESS_MAIN
