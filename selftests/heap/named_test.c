// SPDX-License-Identifier: GPL-2.0-only
/* Heaps by name, and what dead members leave: where the module has events, they say whose blocks to free. */
#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <dvsm/events.h>
#include <dvsm/name.h>
#include <dvsm/place.h>

#include "heap_test.h"
#include <kselftest_harness.h>

FIXTURE(named) {
	struct dvsm_heap_options options;
	struct dvsm_heap *heap;
	char name[64];
};

FIXTURE_VARIANT(named) {
	uint32_t backend;
};

FIXTURE_VARIANT_ADD(named, device) { .backend = DVSM_BACKEND_DEVICE, };
FIXTURE_VARIANT_ADD(named, memfd) { .backend = DVSM_BACKEND_MEMFD, };

FIXTURE_SETUP(named)
{
	if (variant->backend == DVSM_BACKEND_DEVICE && access("/dev/dvsm", R_OK | W_OK))
		SKIP(return, "no /dev/dvsm");
	umask(0);
	self->options.size = sizeof(self->options);
	self->options.backend = variant->backend;
	self->options.reserve = GIB;
	snprintf(self->name, sizeof(self->name), "dvsm-heap-test-%d", getpid());
	self->heap = dvsm_heap_create_named(self->name, 0600, DVSM_NAME_F_KEEP, &self->options);
	ASSERT_NE(NULL, self->heap) TH_LOG("%s", strerror(errno));
}

FIXTURE_TEARDOWN(named)
{
	dvsm_name_unlink(self->name, variant->backend);
	if (self->heap)
		dvsm_heap_destroy(self->heap);
}

static bool has_events(const struct dvsm_heap *heap)
{
	return dvsm_region_backend(dvsm_heap_region(heap)) == DVSM_BACKEND_DEVICE;
}

/* A process that has the heap by its name alone. It says 1 when it is ready, and waits to be killed. */
static pid_t stranger(const char *name, uint32_t backend, struct dvsm_heap *mine, int *said,
		      void (*work)(struct dvsm_heap *heap))
{
	int pipes[2];
	pid_t pid;
	char byte = 0;

	if (pipe(pipes))
		return -1;
	pid = child_begin();
	if (pid) {
		close(pipes[1]);
		*said = read(pipes[0], &byte, 1) == 1 ? byte : -1;
		close(pipes[0]);
		return pid;
	}
	dvsm_heap_detach(mine);
	mine = dvsm_heap_attach_named(name, backend);
	if (mine) {
		work(mine);
		byte = 1;
	}
	if (write(pipes[1], &byte, 1) == 1)
		pause();
	_exit(1);
}

static void leave_a_note(struct dvsm_heap *heap)
{
	char *text = dvsm_heap_malloc(heap, 100);

	strcpy(text, "here");
	dvsm_heap_root_set(heap, 0, text);
}

TEST_F(named, strangers_meet_by_the_name_alone)
{
	char *text;
	pid_t pid;
	int said;

	pid = stranger(self->name, variant->backend, self->heap, &said, leave_a_note);
	ASSERT_EQ(1, said);
	text = dvsm_heap_root_get(self->heap, 0);
	ASSERT_NE(NULL, text);
	EXPECT_STREQ("here", text);
	dvsm_heap_free(self->heap, text);
	kill(pid, SIGKILL);
	ASSERT_EQ(SIGKILL, child_end(pid));
	EXPECT_EQ(0, dvsm_heap_check(self->heap, 2));
	EXPECT_EQ(0, live_blocks(self->heap));
}

#define NR_SIZES	3

static const size_t sizes[NR_SIZES] = { 100, 50000, 5 * MIB };

/* From a CPU of another node than the block shall be on, where there is one: else "local" would do. */
static void run_elsewhere(int node)
{
	unsigned int here;
	cpu_set_t one;
	int cpu;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (!sched_setaffinity(0, sizeof(one), &one) && !getcpu(NULL, &here) &&
		    (int)here != node)
			return;
	}
}

/* How many pages of a block that is touched now, for the first time, are not on the node. */
static long nr_elsewhere(char *block, size_t size, int node)
{
	long nr = 0;
	size_t at;

	memset(block, 1, size);
	for (at = 0; at < size; at += 4096)
		nr += dvsm_node_of(block + at) != node;
	return nr;
}

/* Blocks in the roots, NR_SIZES for each of two nodes: a note of how many pages are elsewhere. */
static void touch_for_others(struct dvsm_heap *heap)
{
	long nr = 0;
	int i;

	for (i = 0; i < 2 * NR_SIZES; i++) {
		run_elsewhere(i / NR_SIZES);
		nr += nr_elsewhere(dvsm_heap_root_get(heap, i), sizes[i % NR_SIZES], i / NR_SIZES);
	}
	dvsm_heap_root_set(heap, 2 * NR_SIZES, nr ? dvsm_heap_root_get(heap, 0) : NULL);
}

static bool has_two_nodes(void)
{
	uint64_t nodes[16] = { 0 };
	int mode;

	return !syscall(SYS_get_mempolicy, &mode, nodes, 1024UL, NULL, 1UL << 2) && (nodes[0] & 3) == 3;
}

TEST_F(named, blocks_of_a_node_lie_there)
{
	char *block;
	int i;

	if (!has_two_nodes())
		SKIP(return, "no nodes 0 and 1 with memory");
	for (i = 0; i < 2 * NR_SIZES; i++) {
		run_elsewhere(i / NR_SIZES);
		block = dvsm_heap_malloc_node(self->heap, sizes[i % NR_SIZES], (unsigned int)i / NR_SIZES);
		ASSERT_NE(NULL, block);
		EXPECT_EQ(0, nr_elsewhere(block, sizes[i % NR_SIZES], i / NR_SIZES))
			TH_LOG("%zu bytes on node %d", sizes[i % NR_SIZES], i / NR_SIZES);
	}
}

TEST_F(named, blocks_of_a_node_lie_there_whoever_touches_them_first)
{
	char *block;
	pid_t pid;
	int i, said;

	if (!has_two_nodes())
		SKIP(return, "no nodes 0 and 1 with memory");
	for (i = 0; i < 2 * NR_SIZES; i++) {
		block = dvsm_heap_malloc_node(self->heap, sizes[i % NR_SIZES], (unsigned int)i / NR_SIZES);
		ASSERT_NE(NULL, block);
		dvsm_heap_root_set(self->heap, (unsigned int)i, block);
	}
	pid = stranger(self->name, variant->backend, self->heap, &said, touch_for_others);
	ASSERT_EQ(1, said);
	EXPECT_EQ(NULL, dvsm_heap_root_get(self->heap, 2 * NR_SIZES));
	kill(pid, SIGKILL);
	ASSERT_EQ(SIGKILL, child_end(pid));
}

/* A field of the mapping that an address is in, in bytes. */
static size_t smaps_of(const void *address, const char *field)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long start, end, kib;
	char line[256], name[64];
	size_t bytes = 0;
	bool here = false;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= (uintptr_t)address && (uintptr_t)address < end;
		else if (here && sscanf(line, "%63[^:]: %lu kB", name, &kib) == 2 && !strcmp(name, field))
			bytes = kib << 10;
	}
	if (file)
		fclose(file);
	return bytes;
}

static void setting_write(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		printf("# %s stays as it is\n", path);
	close(fd);
}

TEST_F(named, blocks_lie_in_huge_pages)
{
	size_t size, huge;
	char *block;
	int i;

	if (variant->backend != DVSM_BACKEND_DEVICE)
		SKIP(return, "what memfd gives is the machine's matter");
	if (getenv("DVSM_VM")) {
		/* Earlier tests have left memory in pieces. */
		setting_write("/proc/sys/vm/drop_caches", "3");
		setting_write("/proc/sys/vm/compact_memory", "1");
		/* smaps of Linux 6.1 leaves out the huge pages that it waits to see used. */
		setting_write("/proc/sys/kernel/numa_balancing", "0");
	}
	for (i = 0; i < 2000; i++) {
		size = 16UL << i % 17;
		block = dvsm_heap_malloc(self->heap, size);
		ASSERT_NE(NULL, block);
		memset(block, 1, size);
	}
	huge = smaps_of(block, "FilePmdMapped");
	EXPECT_LT(64 * MIB, huge);
	/* Blocks and tables alike. */
	EXPECT_EQ(smaps_of(block, "Rss"), huge);
}

TEST_F(named, names_are_told_apart)
{
	EXPECT_EQ(NULL, dvsm_heap_create_named(self->name, 0600, DVSM_NAME_F_KEEP, &self->options));
	EXPECT_EQ(EEXIST, errno);
	/* This process has it already. */
	EXPECT_EQ(NULL, dvsm_heap_attach_named(self->name, variant->backend));
	EXPECT_EQ(EEXIST, errno);
	EXPECT_EQ(NULL, dvsm_heap_attach_named("dvsm-heap-test-nobody", variant->backend));
	EXPECT_EQ(ENOENT, errno);
	self->options.flags = DVSM_HEAP_F_PRIVATE;
	EXPECT_EQ(NULL, dvsm_heap_create_named("dvsm-heap-test-private", 0600, DVSM_NAME_F_KEEP, &self->options));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(NULL, dvsm_heap_attach_named("dvsm-heap-test-private", variant->backend));
	EXPECT_EQ(ENOENT, errno);
	self->options.flags = 0;
	self->options.reserve = 2048 * GIB;
	EXPECT_EQ(NULL, dvsm_heap_create_named("dvsm-heap-test-short", 0600, DVSM_NAME_F_KEEP, &self->options));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, dvsm_name_unlink(self->name, variant->backend));
	EXPECT_EQ(NULL, dvsm_heap_attach_named(self->name, variant->backend));
	EXPECT_EQ(ENOENT, errno);
}

TEST_F(named, what_is_mapped_where_the_heap_lies_stays_and_is_told)
{
	int fd = dup(dvsm_heap_fd(self->heap));
	char *block = dvsm_heap_malloc(self->heap, 100);
	char *first = dvsm_heap_address(self->heap, 0);
	struct dvsm_heap *other;
	char *places[2], *mine;

	ASSERT_NE(NULL, block);
	strcpy(block, "theirs");
	/* Amid what is in use, and far beyond, where the heap may grow to. */
	places[0] = block - (uintptr_t)block % 4096;
	places[1] = first + GIB - 4096;
	dvsm_heap_detach(self->heap);
	self->heap = NULL;
	self->options.address = first;
	for (int i = 0; i < 2; i++) {
		mine = mmap(places[i], 4096, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		ASSERT_EQ(places[i], mine);
		strcpy(mine, "mine");
		EXPECT_EQ(NULL, dvsm_heap_attach(fd));
		EXPECT_EQ(EEXIST, errno);
		EXPECT_EQ(NULL, dvsm_heap_attach_named(self->name, variant->backend));
		EXPECT_EQ(EEXIST, errno);
		EXPECT_EQ(NULL, dvsm_heap_create(&self->options));
		EXPECT_EQ(EEXIST, errno);
		EXPECT_STREQ("mine", mine);
		ASSERT_EQ(0, munmap(mine, 4096));
	}
	/* Nothing of the attempts is left in the way. */
	self->heap = dvsm_heap_attach(fd);
	ASSERT_NE(NULL, self->heap);
	EXPECT_STREQ("theirs", block);
	other = dvsm_heap_create(&self->options);
	EXPECT_EQ(NULL, other);
	EXPECT_EQ(EEXIST, errno);
}

TEST_F(named, a_process_has_a_heap_once)
{
	int fd = dup(dvsm_heap_fd(self->heap));

	EXPECT_EQ(NULL, dvsm_heap_attach(fd));
	EXPECT_EQ(EEXIST, errno);
	dvsm_heap_detach(self->heap);
	self->heap = dvsm_heap_attach(fd);
	ASSERT_NE(NULL, self->heap);
	dvsm_heap_detach(self->heap);
	self->heap = dvsm_heap_attach_named(self->name, variant->backend);
	ASSERT_NE(NULL, self->heap);
}

TEST_F(named, a_name_outlives_its_heap)
{
	dvsm_heap_destroy(self->heap);
	self->heap = NULL;
	EXPECT_EQ(NULL, dvsm_heap_attach_named(self->name, variant->backend));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(NULL, dvsm_heap_create_named(self->name, 0600, DVSM_NAME_F_KEEP, &self->options));
	EXPECT_EQ(EEXIST, errno);
	EXPECT_EQ(0, dvsm_name_unlink(self->name, variant->backend));
	self->heap = dvsm_heap_create_named(self->name, 0600, DVSM_NAME_F_KEEP, &self->options);
	EXPECT_NE(NULL, self->heap);
}

/* Blocks of two owners; the process is a member for one of them. */
static void work_for_two(struct dvsm_heap *heap)
{
	int i;

	dvsm_heap_join(heap, 71);
	for (i = 0; i < 1000; i++) {
		if (!dvsm_heap_malloc_owned(heap, (size_t)i * 7, 71))
			_exit(2);
		if (i % 10 == 0 && !dvsm_heap_malloc_owned(heap, 64, 72))
			_exit(2);
	}
	if (!dvsm_heap_malloc_owned(heap, 5 * MIB, 71))
		_exit(2);
}

TEST_F(named, what_dead_members_leave_is_freed)
{
	struct pollfd ready = { .events = POLLIN };
	pid_t pid;
	int said;

	if (!has_events(self->heap)) {
		EXPECT_EQ(-EOPNOTSUPP, dvsm_heap_join(self->heap, 1));
		EXPECT_EQ(-EOPNOTSUPP, dvsm_heap_leave(self->heap, 1));
		EXPECT_EQ(-EOPNOTSUPP, dvsm_heap_events(self->heap));
		return;
	}
	EXPECT_EQ(-EINVAL, dvsm_heap_join(self->heap, 0));
	EXPECT_EQ(-ENOENT, dvsm_heap_leave(self->heap, 5));
	ready.fd = dvsm_heap_events(self->heap);
	ASSERT_LE(0, ready.fd);
	EXPECT_EQ(0, dvsm_heap_reap(self->heap, ready.fd));
	EXPECT_EQ(-EBADF, dvsm_heap_reap(self->heap, 999));
	pid = stranger(self->name, variant->backend, self->heap, &said, work_for_two);
	ASSERT_EQ(1, said);
	EXPECT_EQ(0, poll(&ready, 1, 0));
	EXPECT_EQ(0, dvsm_heap_reap(self->heap, ready.fd));
	EXPECT_EQ(1101, live_blocks(self->heap));
	kill(pid, SIGKILL);
	EXPECT_EQ(1, poll(&ready, 1, HANG * 1000));
	EXPECT_EQ(1001, dvsm_heap_reap(self->heap, ready.fd));
	EXPECT_EQ(100, live_blocks(self->heap));
	EXPECT_EQ(0, dvsm_heap_reap(self->heap, ready.fd));
	ASSERT_EQ(SIGKILL, child_end(pid));
	EXPECT_EQ(100, dvsm_heap_owner_free(self->heap, 72));
	EXPECT_EQ(0, dvsm_heap_check(self->heap, 2));
	close(ready.fd);
}

static double create_and_leave(const char *name, const struct dvsm_heap_options *options)
{
	double begun = seconds();

	if (!dvsm_heap_create_named(name, 0600, DVSM_NAME_F_KEEP, options))
		return -1;
	return seconds() - begun;
}

/* Who is killed while making a heap leaves a whole one, or no name. */
TEST_F(named, a_name_without_a_heap_is_never_found)
{
	enum { NR = 200 };
	double *length = shared_page(4096);
	struct dvsm_heap *heap;
	struct timespec wait;
	int i, nr_whole = 0;
	char name[80];
	pid_t pid;

	ASSERT_NE(NULL, length);
	snprintf(name, sizeof(name), "%s-killed", self->name);
	for (i = 0; i <= NR; i++) {
		pid = child_begin();
		if (!pid) {
			*length = create_and_leave(name, &self->options);
			pause();
		}
		while (!i && !*(volatile double *)length)
			usleep(1000);
		ASSERT_LT(0, *length);
		/* As long as it took, and half as long again for the fork. */
		wait = (struct timespec){ .tv_nsec = (long)(*length * 1.5e9 * i / NR) % 1000000000 };
		nanosleep(&wait, NULL);
		kill(pid, SIGKILL);
		ASSERT_EQ(SIGKILL, child_end(pid));
		heap = dvsm_heap_attach_named(name, variant->backend);
		nr_whole += !!heap;
		if (!heap) {
			ASSERT_EQ(ENOENT, errno) TH_LOG("kill %d", i);
			continue;
		}
		dvsm_heap_detach(heap);
		ASSERT_EQ(0, dvsm_name_unlink(name, variant->backend));
	}
	EXPECT_LT(0, nr_whole);
	munmap(length, 4096);
}

/* /dev/shm as it is in a container, for this process alone: of a size that mount(8) would take. */
static bool shm_of(const char *size)
{
	char options[64];

	snprintf(options, sizeof(options), "size=%s", size);
	return !unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("none", "/dev/shm", "tmpfs", 0, options);
}

/* Takes blocks of a size, all of them written to, until there are no more; how many bytes. */
static size_t fill_and_free(struct dvsm_heap *heap, size_t size)
{
	void **block, **blocks = NULL;
	size_t bytes = 0;

	while ((block = dvsm_heap_malloc(heap, size))) {
		memset(block, 1, size);
		*block = blocks;
		blocks = block;
		bytes += size;
	}
	while (blocks) {
		block = blocks;
		blocks = *block;
		dvsm_heap_free(heap, block);
	}
	return bytes;
}

#define NOWHERE	"dvsm-heap-test-small"

/* As much as there is, in blocks of every kind: then ENOMEM, not SIGBUS. */
static bool is_filled_cleanly(const char *size, size_t at_least)
{
	static const size_t sizes[] = { 5 * MIB, 16, 50000 };
	struct dvsm_heap_options options = { .size = sizeof(options), .backend = DVSM_BACKEND_MEMFD };
	struct dvsm_heap *heap;
	size_t i, bytes;

	if (!shm_of(size))
		return false;
	heap = dvsm_heap_create_named(NOWHERE, 0600, DVSM_NAME_F_KEEP, &options);
	if (!heap)
		return false;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		errno = 0;
		bytes = fill_and_free(heap, sizes[i]);
		printf("# of %s: %zu MiB in blocks of %zu\n", size, bytes / MIB, sizes[i]);
		if (errno != ENOMEM || bytes < at_least)
			return false;
	}
	return !dvsm_heap_check(heap, 2);
}

#define SHM_OR_SKIP(size) do {							\
	if (!shm_of(size))							\
		SKIP(return, "no /dev/shm of one's own: %s", strerror(errno));	\
} while (0)

/* A machine of so many CPUs, most of which are not there. */
static bool cpus_of(const char *which)
{
	const char *file = "/dev/shm/possible";
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	bool written = fd >= 0 && write(fd, which, strlen(which)) == (ssize_t)strlen(which);

	close(fd);
	return written && !mount(file, "/sys/devices/system/cpu/possible", NULL, MS_BIND, NULL);
}

TEST(a_heap_is_no_larger_than_what_its_file_lies_in)
{
	pid_t pid;

	SHM_OR_SKIP("100m");
	EXPECT_TRUE(is_filled_cleanly("100m", 32 * MIB));
	pid = child_begin();
	if (!pid)
		_exit(!is_filled_cleanly("64m", 16 * MIB));
	EXPECT_EQ(0, child_end(pid));
	/* Most of that many stacks will never be used. */
	ASSERT_TRUE(cpus_of("0-127\n"));
	EXPECT_TRUE(is_filled_cleanly("64m", 16 * MIB));
}

TEST(where_no_heap_has_room_there_is_none_and_who_says_how_much_is_believed)
{
	struct dvsm_heap_options options = { .size = sizeof(options), .backend = DVSM_BACKEND_MEMFD };
	struct dvsm_heap *heap;

	SHM_OR_SKIP("32m");
	EXPECT_EQ(NULL, dvsm_heap_create_named(NOWHERE, 0600, DVSM_NAME_F_KEEP, &options));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(NULL, dvsm_heap_attach_named(NOWHERE, DVSM_BACKEND_MEMFD));
	options.reserve = GIB;
	heap = dvsm_heap_create_named(NOWHERE, 0600, DVSM_NAME_F_KEEP, &options);
	ASSERT_NE(NULL, heap);
	EXPECT_EQ(GIB, dvsm_region_length(dvsm_heap_region(heap)));
	dvsm_heap_destroy(heap);
	dvsm_name_unlink(NOWHERE, DVSM_BACKEND_MEMFD);
}

TEST(a_file_system_without_a_limit_limits_no_heap)
{
	struct dvsm_heap_options options = { .size = sizeof(options), .backend = DVSM_BACKEND_MEMFD };
	struct dvsm_heap *heap;

	SHM_OR_SKIP("0");
	heap = dvsm_heap_create_named(NOWHERE, 0600, DVSM_NAME_F_KEEP, &options);
	ASSERT_NE(NULL, heap);
	EXPECT_EQ(1UL << 40, dvsm_region_length(dvsm_heap_region(heap)));
	dvsm_heap_destroy(heap);
}

TEST_HARNESS_MAIN
