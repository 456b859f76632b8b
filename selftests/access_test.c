// SPDX-License-Identifier: GPL-2.0-only
/*
 * A read-only descriptor stays one: no way leads from it to a write.
 */
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "fixture.h"

FIXTURE(access) {
	int dev;
	int fd;
	int read_only;
	char *map;		/* writable */
};

FIXTURE_VARIANT(access) {
	bool by_path;		/* /proc/self/fd, not the command */
};

FIXTURE_VARIANT_ADD(access, by_command) {
	.by_path = false,
};

FIXTURE_VARIANT_ADD(access, by_proc_path) {
	.by_path = true,
};

FIXTURE_SETUP(access)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, 2 * CHUNK, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, 2 * CHUNK, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	stamp(self->map, 2 * CHUNK, 1);
	self->read_only = variant->by_path ? fd_reopen(self->fd, O_RDONLY)
					   : region_reopen(self->fd, DVSM_REOPEN_F_READ_ONLY);
	ASSERT_LE(0, self->read_only);
}

FIXTURE_TEARDOWN_PARENT(access)
{
	EXPECT_NO_LEAK();
}

TEST_F(access, it_reads_what_is_written_elsewhere)
{
	char *map = mmap(NULL, 2 * CHUNK, PROT_READ, MAP_SHARED, self->read_only, 0);
	uint64_t words[2];

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, stamps_wrong(map, 2 * CHUNK, 1));
	stamp(self->map, 2 * CHUNK, 2);
	EXPECT_EQ(0, stamps_wrong(map, 2 * CHUNK, 2));
	EXPECT_EQ(16, pread(self->read_only, words, 16, CHUNK));
	EXPECT_EQ(0, memcmp(words, self->map + CHUNK, 16));
	EXPECT_TRUE(is_huge_mapped(map, 2 * CHUNK));
}

TEST_F(access, it_cannot_be_mapped_writable)
{
	EXPECT_EQ(MAP_FAILED, region_map(self->read_only, CHUNK, 0));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, CHUNK, PROT_WRITE, MAP_SHARED, self->read_only, 0));
	EXPECT_EQ(EACCES, errno);
}

TEST_F(access, its_mapping_cannot_become_writable)
{
	char *map = mmap(NULL, 2 * CHUNK, PROT_READ, MAP_SHARED, self->read_only, 0);
	char *none = mmap(NULL, CHUNK, PROT_NONE, MAP_SHARED, self->read_only, 0);
	struct smaps smaps;
	char *twin;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_NE(MAP_FAILED, none);
	EXPECT_EQ(-1, mprotect(map, 2 * CHUNK, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(map + PAGE, PAGE, PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(none, CHUNK, PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	twin = mremap(map, 0, CHUNK, MREMAP_MAYMOVE);
	if (twin != MAP_FAILED) {
		EXPECT_EQ(-1, mprotect(twin, CHUNK, PROT_WRITE));
	}
	ASSERT_EQ(0, smaps_read(map, &smaps));
	EXPECT_FALSE(smaps_has_flag(&smaps, "mw"));
}

TEST_F(access, file_calls_that_write_are_ebadf)
{
	char byte = 1;
	struct iovec iov = { &byte, 1 };

	EXPECT_EQ(-1, write(self->read_only, &byte, 1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, pwrite(self->read_only, &byte, 1, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, pwritev(self->read_only, &iov, 1, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, fallocate(self->read_only, 0, 0, CHUNK));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, fallocate(self->read_only, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				CHUNK));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, ftruncate(self->read_only, 0));
	EXPECT_EQ(-EBADF, region_populate(self->read_only, 0, 0, NULL));
	EXPECT_EQ(-EBADF, region_discard(self->read_only, 0, 0, NULL));
	EXPECT_EQ(0, stamps_wrong(self->map, 2 * CHUNK, 1));
}

TEST_F(access, no_reopening_gives_more)
{
	static const int flags[] = { O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_RDWR | O_APPEND };
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(flags); i++)
		EXPECT_EQ(-EACCES, fd_reopen(self->read_only, flags[i]));
	/* Not from a writable descriptor either: the path knows no difference. */
	EXPECT_EQ(-EACCES, fd_reopen(self->fd, O_RDWR));
	fd = fd_reopen(self->read_only, O_RDONLY | O_TRUNC);
	EXPECT_EQ(0, stamps_wrong(self->map, 2 * CHUNK, 1));
	close(fd);
	fd = region_reopen(self->read_only, 0);
	ASSERT_LE(0, fd);
	EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(MAP_FAILED, region_map(fd, CHUNK, 0));
}

TEST_F(access, no_stranger_can_reopen_it_for_writing_by_its_path)
{
	pid_t pid = child_start();

	if (!pid) {
		EXPECT_EQ(0, become_nobody());
		EXPECT_EQ(-EACCES, fd_reopen(self->fd, O_RDWR));
		EXPECT_EQ(-EACCES, fd_reopen(self->read_only, O_WRONLY));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(access, map_files_opens_it_for_reading_only)
{
	char *map = mmap(NULL, CHUNK, PROT_READ, MAP_SHARED, self->read_only, 0);
	char path[96];
	int fd;

	ASSERT_NE(MAP_FAILED, map);
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)map,
		 (unsigned long)map + CHUNK);
	if (access(path, F_OK))
		SKIP(return, "no /proc/self/map_files");
	EXPECT_EQ(-1, open(path, O_RDWR));
	fd = open(path, O_RDONLY);
	EXPECT_EQ(MAP_FAILED, region_map(fd, CHUNK, 0));
	close(fd);
}

TEST_F(access, proc_mem_cannot_force_a_write_into_it)
{
	char *map = mmap(NULL, CHUNK, PROT_READ, MAP_SHARED, self->read_only, 0);
	int mem = open("/proc/self/mem", O_RDWR);
	char byte = 99;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_LE(0, mem);
	EXPECT_EQ(-1, pwrite(mem, &byte, 1, (uintptr_t)map + 8));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(1, pread(mem, &byte, 1, (uintptr_t)map));
	EXPECT_EQ(0, stamps_wrong(self->map, 2 * CHUNK, 1));
}

TEST_F(access, proc_mem_writes_a_private_mapping_not_the_region)
{
	char *map = mmap(NULL, CHUNK, PROT_READ, MAP_PRIVATE, self->read_only, 0);
	int mem = open("/proc/self/mem", O_RDWR);
	char byte = 99;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_LE(0, mem);
	EXPECT_EQ(0, read_at(map));
	EXPECT_EQ(1, pwrite(mem, &byte, 1, (uintptr_t)map + 8));
	EXPECT_EQ(99, map[8]);
	EXPECT_EQ(1, pwrite(mem, &byte, 1, (uintptr_t)map + 5 * PAGE + 8));
	EXPECT_EQ(99, map[5 * PAGE + 8]);
	EXPECT_EQ(0, stamps_wrong(self->map, 2 * CHUNK, 1));
	EXPECT_NE(99, self->map[8]);
}

TEST_F(access, private_mapping_of_it_may_be_written_for_oneself)
{
	char *map = mmap(NULL, 2 * CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->read_only, 0);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, 2 * CHUNK, 3);
	EXPECT_EQ(0, stamps_wrong(self->map, 2 * CHUNK, 1));
}

TEST_F(access, another_process_cannot_write_it_by_vm_writev_or_ptrace)
{
	char *map = mmap(NULL, CHUNK, PROT_READ, MAP_SHARED, self->read_only, 0);
	uint64_t word = 0x6666666666666666;
	struct iovec local = { &word, 8 }, remote = { map, 8 };
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	pid = child_start();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_EQ(-1, process_vm_writev(pid, &local, 1, &remote, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ptrace(PTRACE_POKEDATA, pid, map, word));
	EXPECT_EQ(8, process_vm_readv(pid, &local, 1, &remote, 1, 0));
	EXPECT_EQ(0, memcmp(&word, self->map, 8));
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, stamps_wrong(self->map, 2 * CHUNK, 1));
}

TEST_F(access, remove_advice_on_it_is_refused)
{
	char *map = mmap(NULL, 2 * CHUNK, PROT_READ, MAP_SHARED, self->read_only, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-1, madvise(map, CHUNK, MADV_REMOVE));
	EXPECT_EQ(0, stamps_wrong(self->map, 2 * CHUNK, 1));
}

TEST_F(access, reopened_descriptor_has_a_position_of_its_own_and_outlives_the_first)
{
	int fd = region_reopen(self->fd, 0);
	char *map;

	ASSERT_LE(0, fd);
	EXPECT_EQ(O_RDWR, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(100, lseek(self->fd, 100, SEEK_SET));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_CUR));
	close(self->fd);
	close(self->read_only);
	munmap(self->map, 2 * CHUNK);
	map = region_map(fd, 2 * CHUNK, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, stamps_wrong(map, 2 * CHUNK, 1));
}

DVSM_FIXTURE(device_access);

TEST_F(device_access, device_opened_for_reading_maps_for_reading_only)
{
	int dev = device_open(O_RDONLY);
	char *map;

	ASSERT_LE(0, dev);
	EXPECT_EQ(MAP_FAILED, region_map(dev, CHUNK, 0));
	EXPECT_EQ(EACCES, errno);
	map = mmap(NULL, CHUNK, PROT_READ, MAP_SHARED, dev, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, read_at(map));
	EXPECT_EQ(-1, mprotect(map, CHUNK, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-EBADF, region_populate(dev, 0, CHUNK, NULL));
	EXPECT_EQ(-EBADF, region_discard(dev, 0, CHUNK, NULL));
	EXPECT_EQ(-1, madvise(map, CHUNK, MADV_REMOVE));
}

TEST_F(device_access, reopening_from_a_device_opened_for_reading_gives_no_write)
{
	int dev = device_open(O_RDONLY), fd;

	ASSERT_LE(0, dev);
	ASSERT_NE(MAP_FAILED, mmap(NULL, CHUNK, PROT_READ, MAP_SHARED, dev, 0));
	fd = region_reopen(dev, 0);
	ASSERT_LE(0, fd);
	EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(MAP_FAILED, region_map(fd, CHUNK, 0));
}

TEST_F(device_access, finding_a_mapping_of_a_device_opened_for_reading_gives_no_write)
{
	static const int how[] = { MAP_SHARED, MAP_PRIVATE };
	int dev = device_open(O_RDONLY), other = device_open(O_RDWR), fd;
	size_t i;

	ASSERT_LE(0, dev);
	ASSERT_LE(0, other);
	for (i = 0; i < sizeof(how) / sizeof(*how); i++) {
		char *map = mmap(NULL, CHUNK, PROT_READ, how[i], dev, 0);

		ASSERT_NE(MAP_FAILED, map);
		fd = region_find(other, map, NULL);
		ASSERT_LE(0, fd);
		EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
		EXPECT_EQ(MAP_FAILED, region_map(fd, CHUNK, 0));
		close(fd);
	}
}

TEST_HARNESS_MAIN
