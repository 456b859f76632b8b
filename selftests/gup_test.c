// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who takes a region's pages by get_user_pages: direct I/O, vmsplice, reads of
 * other processes' memory, ptrace, mlock, core dumps. And userfaultfd, which may
 * not.
 */
#include <poll.h>
#include <linux/userfaultfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "fixture.h"

REGION_FIXTURE(gup);

#define DISK "/dev/ram0"

TEST_F(gup, direct_io_reads_a_disk_into_it_and_writes_it_back)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	int disk = open(DISK, O_RDWR | O_DIRECT);

	if (disk < 0)
		SKIP(return, "no %s (load brd)", DISK);
	ASSERT_NE(MAP_FAILED, map);
	stamp(map, 2 * CHUNK, 1);
	EXPECT_EQ(2 * CHUNK, pwrite(disk, map, 2 * CHUNK, 0));
	/* Into holes, at an odd page, across chunks. */
	EXPECT_EQ(2 * CHUNK, pread(disk, map + 3 * CHUNK + PAGE, 2 * CHUNK, 0));
	EXPECT_EQ(0, stamps_wrong(map + 3 * CHUNK + PAGE, 2 * CHUNK, 1));
	EXPECT_EQ(512, pread(disk, map + 7 * CHUNK + 512, 512, PAGE));
	EXPECT_EQ(0, memcmp(map + 7 * CHUNK + 512, map + PAGE, 512));
	EXPECT_TRUE(is_huge_mapped(map, 6 * CHUNK));
}

TEST_F(gup, direct_io_into_a_private_mapping_leaves_the_region_alone)
{
	char *map = region_map(self->fd, CHUNK, 0), *private;
	int disk = open(DISK, O_RDWR | O_DIRECT);

	if (disk < 0)
		SKIP(return, "no %s (load brd)", DISK);
	ASSERT_NE(MAP_FAILED, map);
	private = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->fd, 0);
	ASSERT_NE(MAP_FAILED, private);
	stamp(map, CHUNK, 2);
	EXPECT_EQ(CHUNK, pwrite(disk, map, CHUNK, 0));
	stamp(map, CHUNK, 3);
	EXPECT_EQ(CHUNK, pread(disk, private, CHUNK, 0));
	EXPECT_EQ(0, stamps_wrong(private, CHUNK, 2));
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 3));
}

TEST_F(gup, direct_io_past_the_end_fails_or_stops_there)
{
	char *map;
	int disk = open(DISK, O_RDWR | O_DIRECT);

	if (disk < 0)
		SKIP(return, "no %s (load brd)", DISK);
	if (variant->implicit)
		return;
	map = region_map(self->fd, REGION_LENGTH + CHUNK, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-1, pread(disk, map + REGION_LENGTH, PAGE, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_GE(PAGE, (ssize_t)pread(disk, map + REGION_LENGTH - PAGE, 2 * PAGE, 0));
}

TEST_F(gup, vmsplice_hands_its_pages_to_a_pipe)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0), buffer[4 * PAGE];
	struct iovec iov = { map + CHUNK - 2 * PAGE, 4 * PAGE };
	int pipe_fds[2];

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, pipe(pipe_fds));
	stamp(map, 2 * CHUNK, 4);
	ASSERT_EQ(4 * PAGE, vmsplice(pipe_fds[1], &iov, 1, SPLICE_F_GIFT));
	map[CHUNK + 100] = 55;		/* no copy was made */
	ASSERT_EQ(4 * PAGE, read(pipe_fds[0], buffer, 4 * PAGE));
	EXPECT_EQ(55, buffer[2 * PAGE + 100]);
	EXPECT_EQ(0, memcmp(buffer, map + CHUNK - 2 * PAGE, 4 * PAGE));
}

TEST_F(gup, page_in_a_pipe_outlives_its_discard_and_the_region_reads_zero)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0), buffer[PAGE];
	struct iovec iov = { map + CHUNK + PAGE, PAGE };
	int pipe_fds[2];

	if (is_pinned(variant->flags))
		return;
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, pipe(pipe_fds));
	memset(map + CHUNK + PAGE, 5, PAGE);
	ASSERT_EQ(PAGE, vmsplice(pipe_fds[1], &iov, 1, 0));
	ASSERT_EQ(0, region_discard(self->fd, CHUNK, CHUNK, NULL));
	EXPECT_TRUE(is_zero(map + CHUNK, CHUNK));
	ASSERT_EQ(PAGE, read(pipe_fds[0], buffer, PAGE));
	EXPECT_EQ(5, buffer[77]);
}

TEST_F(gup, other_process_reads_and_writes_it_by_process_vm)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	char *local = malloc(CHUNK);
	struct iovec here = { local, CHUNK }, there = { map + CHUNK / 2, CHUNK };
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 5);
	pid = child_start();
	if (!pid) {
		pause();
		_exit(0);
	}
	EXPECT_EQ(CHUNK, process_vm_readv(pid, &here, 1, &there, 1, 0));
	EXPECT_EQ(0, memcmp(local, map + CHUNK / 2, CHUNK));
	there.iov_base = map + 5 * CHUNK + PAGE;	/* a hole in his page tables */
	EXPECT_EQ(CHUNK, process_vm_writev(pid, &here, 1, &there, 1, 0));
	EXPECT_EQ(0, memcmp(local, map + 5 * CHUNK + PAGE, CHUNK));
	kill(pid, SIGKILL);
	child_wait(pid);
}

TEST_F(gup, debugger_peeks_and_pokes_it)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	char path[64], byte = 9;
	int status, mem;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 6);
	pid = child_start();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(map[CHUNK + 16] != 9);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	errno = 0;
	EXPECT_EQ(*(long *)map, ptrace(PTRACE_PEEKDATA, pid, map, NULL));
	EXPECT_EQ(0, ptrace(PTRACE_POKEDATA, pid, map + 2 * CHUNK, 0x1234L));
	EXPECT_EQ(0x1234L, *(long *)(map + 2 * CHUNK));
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open(path, O_RDWR);
	ASSERT_LE(0, mem);
	EXPECT_EQ(1, pwrite(mem, &byte, 1, (uintptr_t)map + CHUNK + 16));
	EXPECT_EQ(9, map[CHUNK + 16]);
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(gup, kernel_copies_to_and_from_its_holes)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	int pipe_fds[2];

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, pipe(pipe_fds));
	EXPECT_EQ(PAGE, write(pipe_fds[1], map + CHUNK, PAGE));
	EXPECT_EQ(PAGE, read(pipe_fds[0], map + 2 * CHUNK - 100, PAGE));
	EXPECT_TRUE(is_zero(map + CHUNK, CHUNK));
	EXPECT_EQ(PAGE, write(pipe_fds[1], map, PAGE));
	if (!variant->implicit) {
		char *over = region_map(self->fd, CHUNK, REGION_LENGTH);

		EXPECT_EQ(-1, read(pipe_fds[0], over, PAGE));
		EXPECT_EQ(EFAULT, errno);
	}
}

TEST_F(gup, locking_it_makes_it_resident_and_stays_huge)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	struct smaps smaps;

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, mlock(map, 4 * CHUNK));
	EXPECT_EQ(0, smaps_read(map, &smaps));
	EXPECT_EQ(4 * CHUNK, smaps.rss);
	EXPECT_EQ(4 * CHUNK, smaps.file_pmd_mapped);
	EXPECT_EQ(0, munlock(map + PAGE, CHUNK));
	EXPECT_EQ(0, munlock(map, 4 * CHUNK));
	EXPECT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	EXPECT_NE(MAP_FAILED, region_map(self->fd, CHUNK, 0));
	EXPECT_EQ(0, munlockall());
	EXPECT_EQ(0, syscall(SYS_mlock2, map, REGION_LENGTH, 1 /* MLOCK_ONFAULT */));
	stamp(map, REGION_LENGTH, 7);
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 7));
}

TEST_F(gup, userfaultfd_cannot_register_it_for_missing_pages)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)map, REGION_LENGTH } };
	static const uint64_t modes[] = {
		UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP, UFFDIO_REGISTER_MODE_MINOR,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	size_t i;

	if (uffd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_API, &api));
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		reg.mode = modes[i];
		EXPECT_EQ(-1, ioctl(uffd, UFFDIO_REGISTER, &reg)) TH_LOG("mode %zu", i);
	}
	stamp(map, REGION_LENGTH, 8);
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 8));
}

TEST_F(gup, write_tracking_by_userfaultfd_loses_no_byte)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	struct uffdio_api api = { .api = UFFD_API, .features = 1 << 15 /* WP_ASYNC */ };
	struct uffdio_register reg = {
		.range = { (uintptr_t)map, REGION_LENGTH },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect protect = { .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd with asynchronous write protection");
	ASSERT_NE(MAP_FAILED, map);
	stamp(map, REGION_LENGTH, 9);
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		SKIP(return, "asynchronous write protection refuses this mapping");
	protect.range = reg.range;
	EXPECT_EQ(0, ioctl(uffd, UFFDIO_WRITEPROTECT, &protect));
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 9));
	map[5 * PAGE + 100] = 1;
	map[3 * CHUNK + 100] = 2;
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 9));
	stamp(map, REGION_LENGTH, 10);
	close(uffd);
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 10));
}

static off_t core_size(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/tmp/core.%d", pid);
	if (stat(path, &st))
		return -1;
	unlink(path);
	return (off_t)st.st_blocks * 512;
}

TEST_F(gup, core_dump_holds_and_allocates_nothing_of_it)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	size_t length = variant->implicit ? 1UL << 42 : REGION_LENGTH;
	char *map = region_map(self->fd, length, 0);
	uint64_t before;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	map[CHUNK] = 1;
	before = region_resident(self->fd);
	if (write_text("/proc/sys/kernel/core_pattern", "/tmp/core.%p"))
		SKIP(return, "no core_pattern to set");
	pid = child_start();
	if (!pid) {
		prctl(PR_SET_DUMPABLE, 1);
		setrlimit(RLIMIT_CORE, &unlimited);
		abort();
	}
	EXPECT_EQ(128 + SIGABRT, child_wait(pid));
	EXPECT_GT(16 * MIB, core_size(pid));
	EXPECT_EQ(before, region_resident(self->fd));
}

TEST_F(gup, core_dump_that_asks_for_shared_files_has_its_contents)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	char *map = region_map(self->fd, 2 * CHUNK, 0);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, 2 * CHUNK, 11);
	if (write_text("/proc/sys/kernel/core_pattern", "/tmp/core.%p"))
		SKIP(return, "no core_pattern to set");
	pid = child_start();
	if (!pid) {
		write_text("/proc/self/coredump_filter", "0xff");
		setrlimit(RLIMIT_CORE, &unlimited);
		abort();
	}
	EXPECT_EQ(128 + SIGABRT, child_wait(pid));
	EXPECT_LE(2 * CHUNK, core_size(pid));
	EXPECT_EQ(0, stamps_wrong(map, 2 * CHUNK, 11));
}

TEST_HARNESS_MAIN
