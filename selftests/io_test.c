// SPDX-License-Identifier: GPL-2.0-only
/*
 * A region as a file: read, write, allocate, sync, splice and their errors.
 */
#include <dirent.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "fixture.h"

#define LENGTH (4 * CHUNK)

FIXTURE(io) {
	int dev;
	int fd;
	char *map;
	char *buffer;		/* LENGTH bytes, 0xa5 */
};

FIXTURE_SETUP(io)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	self->buffer = malloc(LENGTH);
	ASSERT_NE(NULL, self->buffer);
	memset(self->buffer, 0xa5, LENGTH);
}

FIXTURE_TEARDOWN_PARENT(io)
{
	EXPECT_NO_LEAK();
}

TEST_F(io, read_of_a_hole_is_zeroes_and_allocates_nothing)
{
	EXPECT_EQ(LENGTH, pread(self->fd, self->buffer, LENGTH, 0));
	EXPECT_TRUE(is_zero(self->buffer, LENGTH));
	EXPECT_EQ(0, region_resident(self->fd));
}

TEST_F(io, read_across_holes_and_folios_is_in_order)
{
	self->map[CHUNK] = 1;
	self->map[2 * CHUNK - 1] = 2;
	self->map[3 * CHUNK + 7] = 3;
	EXPECT_EQ(LENGTH, pread(self->fd, self->buffer, LENGTH, 0));
	EXPECT_EQ(0, memcmp(self->buffer, self->map, LENGTH));
	EXPECT_EQ(3 * CHUNK - 10, pread(self->fd, self->buffer, 3 * CHUNK - 10, CHUNK / 2 + 3));
	EXPECT_EQ(1, self->buffer[CHUNK / 2 - 3]);
	EXPECT_EQ(3, self->buffer[5 * CHUNK / 2 + 4]);
}

TEST_F(io, write_is_seen_by_mappings_and_allocates_huge)
{
	struct dvsm_region_info info;
	size_t i;

	for (i = 0; i < LENGTH; i++)
		self->buffer[i] = i * 7 + i / 4096;
	EXPECT_EQ(2 * CHUNK, pwrite(self->fd, self->buffer, 2 * CHUNK, CHUNK / 2 + 13));
	EXPECT_EQ(0, memcmp(self->map + CHUNK / 2 + 13, self->buffer, 2 * CHUNK));
	EXPECT_TRUE(is_zero(self->map, CHUNK / 2));
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(3 * CHUNK, info.out_resident_huge);
	EXPECT_EQ(3 * CHUNK, info.out_resident);
}

TEST_F(io, position_moves_with_read_and_write_and_is_shared_by_duplicates)
{
	int twin = dup(self->fd);
	char text[4];

	EXPECT_EQ(3, write(self->fd, "abc", 3));
	EXPECT_EQ(3, write(twin, "def", 3));
	EXPECT_EQ(6, lseek(self->fd, 0, SEEK_CUR));
	EXPECT_EQ(2, lseek(twin, 2, SEEK_SET));
	EXPECT_EQ(4, read(self->fd, text, 4));
	EXPECT_EQ(0, memcmp(text, "cdef", 4));
}

TEST_F(io, read_stops_at_the_end)
{
	EXPECT_EQ(10, pread(self->fd, self->buffer, 100, LENGTH - 10));
	EXPECT_EQ(0, pread(self->fd, self->buffer, 100, LENGTH));
	EXPECT_EQ(0, pread(self->fd, self->buffer, 100, LENGTH + 12345));
	EXPECT_EQ(0, pread(self->fd, self->buffer, 100, 1L << 60));
	EXPECT_EQ(0, pread(self->fd, self->buffer, 0, 0));
	EXPECT_EQ(-1, pread(self->fd, self->buffer, 1, -1));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(io, write_stops_at_the_end_and_beyond_it_is_efbig)
{
	struct stat st;

	EXPECT_EQ(10, pwrite(self->fd, self->buffer, 100, LENGTH - 10));
	EXPECT_EQ((char)0xa5, self->map[LENGTH - 1]);
	EXPECT_EQ(-1, pwrite(self->fd, self->buffer, 1, LENGTH));
	EXPECT_EQ(EFBIG, errno);
	EXPECT_EQ(-1, pwrite(self->fd, self->buffer, 1, 1L << 50));
	EXPECT_EQ(EFBIG, errno);
	EXPECT_EQ(0, pwrite(self->fd, self->buffer, 0, 0));
	EXPECT_EQ(-1, pwrite(self->fd, self->buffer, 1, -1));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_APPEND));
	EXPECT_EQ(-1, write(self->fd, self->buffer, 1));
	EXPECT_EQ(EFBIG, errno);
	ASSERT_EQ(0, fstat(self->fd, &st));
	EXPECT_EQ(LENGTH, st.st_size);
}

TEST_F(io, vectors_of_odd_pieces_arrive_whole)
{
	struct iovec iov[16];
	size_t total = 0, i;

	for (i = 0; i < 16; i++) {
		iov[i] = (struct iovec) { self->buffer + i * 300000, 1 + i * 4099 };
		memset(iov[i].iov_base, i + 1, iov[i].iov_len);
		total += iov[i].iov_len;
	}
	EXPECT_EQ(total, pwritev(self->fd, iov, 16, CHUNK - 5000));
	for (i = 0; i < 16; i++)
		memset(iov[i].iov_base, 0, iov[i].iov_len);
	EXPECT_EQ(total, preadv(self->fd, iov, 16, CHUNK - 5000));
	for (i = 0; i < 16; i++) {
		char *at = iov[i].iov_base;

		EXPECT_EQ(i + 1, at[0]);
		EXPECT_EQ(i + 1, at[iov[i].iov_len - 1]);
	}
}

TEST_F(io, bad_buffers_are_efault_or_a_short_count)
{
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	char *nowhere = pages + PAGE;

	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, munmap(nowhere, PAGE));
	EXPECT_EQ(-1, pwrite(self->fd, nowhere, 10, 0));
	EXPECT_EQ(EFAULT, errno);
	self->map[0] = 1;
	EXPECT_EQ(-1, pread(self->fd, nowhere, 10, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, pread(self->fd, nowhere, 10, CHUNK));
	EXPECT_EQ(EFAULT, errno);
	memset(pages, 7, PAGE);
	EXPECT_EQ(100, pwrite(self->fd, pages + PAGE - 100, 500, 50));
	EXPECT_EQ(7, self->map[149]);
	EXPECT_EQ(0, self->map[150]);
	EXPECT_EQ(100, pread(self->fd, pages + PAGE - 100, 500, 50));
	EXPECT_EQ(100, pread(self->fd, pages + PAGE - 100, 500, CHUNK));
}

TEST_F(io, region_can_be_read_into_and_written_from_its_own_holes)
{
	stamp(self->map, CHUNK, 1);
	EXPECT_EQ(CHUNK, pread(self->fd, self->map + 2 * CHUNK, CHUNK, 0));
	EXPECT_EQ(0, stamps_wrong(self->map + 2 * CHUNK, CHUNK, 1));
	EXPECT_EQ(CHUNK, pwrite(self->fd, self->map + 2 * CHUNK, CHUNK, 3 * CHUNK));
	EXPECT_EQ(0, stamps_wrong(self->map + 3 * CHUNK, CHUNK, 1));
	/* From a hole into itself. */
	EXPECT_EQ(CHUNK, pwrite(self->fd, self->map + CHUNK, CHUNK, CHUNK));
	EXPECT_TRUE(is_zero(self->map + CHUNK, CHUNK));
}

TEST_F(io, length_cannot_change_but_may_be_set_to_itself)
{
	struct stat st;

	stamp(self->map, LENGTH, 2);
	EXPECT_EQ(-1, ftruncate(self->fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ftruncate(self->fd, LENGTH - PAGE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ftruncate(self->fd, LENGTH + PAGE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, ftruncate(self->fd, LENGTH));
	ASSERT_EQ(0, fstat(self->fd, &st));
	EXPECT_EQ(LENGTH, st.st_size);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 2));
}

TEST_F(io, fallocate_populates_and_punches_to_the_byte)
{
	EXPECT_EQ(0, fallocate(self->fd, 0, PAGE + 5, CHUNK));
	EXPECT_EQ(2 * CHUNK, region_resident(self->fd));
	EXPECT_EQ(0, fallocate(self->fd, FALLOC_FL_KEEP_SIZE, 0, LENGTH));
	EXPECT_EQ(LENGTH, region_resident(self->fd));
	memset(self->map, 1, LENGTH);
	EXPECT_EQ(0, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, CHUNK - 77,
			       CHUNK + 200));
	EXPECT_EQ(1, self->map[CHUNK - 78]);
	EXPECT_EQ(0, self->map[CHUNK - 77]);
	EXPECT_TRUE(is_zero(self->map + CHUNK, CHUNK));
	EXPECT_EQ(0, self->map[2 * CHUNK + 122]);
	EXPECT_EQ(1, self->map[2 * CHUNK + 123]);
	EXPECT_EQ(0, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1L << 50));
	EXPECT_EQ(0, region_resident(self->fd));
}

TEST_F(io, fallocate_refuses_what_it_cannot_do)
{
	static const int modes[] = {
		FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_ZERO_RANGE, FALLOC_FL_INSERT_RANGE,
		FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_PUNCH_HOLE, 1 << 20,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		EXPECT_EQ(-1, fallocate(self->fd, modes[i], 0, PAGE));
		EXPECT_EQ(EOPNOTSUPP, errno) TH_LOG("mode %#x", modes[i]);
	}
	EXPECT_EQ(-1, fallocate(self->fd, 0, LENGTH, 1));
	EXPECT_EQ(EFBIG, errno);
	EXPECT_EQ(-1, fallocate(self->fd, 0, 0, LENGTH + 1));
	EXPECT_EQ(EFBIG, errno);
	EXPECT_EQ(-1, fallocate(self->fd, 0, -1, PAGE));
	EXPECT_EQ(-1, fallocate(self->fd, 0, 0, 0));
	EXPECT_EQ(-1, fallocate(self->fd, 0, INT64_MAX - 5, 5));
	EXPECT_EQ(0, region_resident(self->fd));
}

TEST_F(io, pinned_region_punches_no_hole)
{
	int pinned = region_create(self->dev, CHUNK, DVSM_REGION_F_PINNED);

	ASSERT_LE(0, pinned);
	EXPECT_EQ(-1, fallocate(pinned, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
	EXPECT_EQ(EBUSY, errno);
}

TEST_F(io, every_sync_succeeds)
{
	stamp(self->map, LENGTH, 3);
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(0, fdatasync(self->fd));
	EXPECT_EQ(0, syncfs(self->fd));
	EXPECT_EQ(0, msync(self->map, LENGTH, MS_SYNC));
	EXPECT_EQ(0, msync(self->map, LENGTH, MS_ASYNC));
	EXPECT_EQ(0, msync(self->map + PAGE, PAGE, MS_SYNC | MS_INVALIDATE));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 3));
}

TEST_F(io, splice_moves_bytes_through_a_pipe)
{
	loff_t in = CHUNK - 5000, out = 2 * CHUNK + 17;
	int pipe_fds[2];
	size_t left = 200000;

	ASSERT_EQ(0, pipe(pipe_fds));
	stamp(self->map, 2 * CHUNK, 4);
	while (left) {
		ssize_t got = splice(self->fd, &in, pipe_fds[1], NULL, left < 60000 ? left : 60000,
				     0);

		ASSERT_LT(0, got);
		left -= got;
		while (got > 0) {
			ssize_t put = splice(pipe_fds[0], NULL, self->fd, &out, got, 0);

			ASSERT_LT(0, put);
			got -= put;
		}
	}
	EXPECT_EQ(0, memcmp(self->map + 2 * CHUNK + 17, self->map + CHUNK - 5000, 200000));
}

/* A kernel that notes who allocated each page splices one page at a time. */
static ssize_t splice_out(int fd, loff_t *offset, int pipe_fd, size_t length, unsigned int flags)
{
	size_t done = 0;
	ssize_t ret;

	do {
		ret = splice(fd, offset, pipe_fd, NULL, length - done, flags);
		if (ret > 0)
			done += ret;
	} while (ret > 0 && done < length);
	return ret < 0 ? ret : (ssize_t)done;
}

TEST_F(io, splice_from_holes_gives_zeroes_and_allocates_nothing)
{
	int pipe_fds[2];
	loff_t in = PAGE;

	ASSERT_EQ(0, pipe(pipe_fds));
	EXPECT_EQ(8192, splice_out(self->fd, &in, pipe_fds[1], 8192, 0));
	EXPECT_EQ(8192, read(pipe_fds[0], self->buffer, 8192));
	EXPECT_TRUE(is_zero(self->buffer, 8192));
	EXPECT_EQ(0, region_resident(self->fd));
	in = LENGTH;
	EXPECT_EQ(0, splice(self->fd, &in, pipe_fds[1], NULL, 4096, 0));
}

/* A pipe with the folio itself in it could be asked to hand it to somebody else. */
TEST_F(io, splice_takes_a_copy_not_the_region_s_page)
{
	int pipe_fds[2];
	loff_t in = CHUNK;

	ASSERT_EQ(0, pipe(pipe_fds));
	memset(self->map + CHUNK, 1, 2 * PAGE);
	ASSERT_EQ(2 * PAGE, splice_out(self->fd, &in, pipe_fds[1], 2 * PAGE, SPLICE_F_MOVE));
	memset(self->map + CHUNK, 2, 2 * PAGE);
	ASSERT_EQ(2 * PAGE, read(pipe_fds[0], self->buffer, 2 * PAGE));
	EXPECT_EQ(1, self->buffer[0]);
	EXPECT_EQ(1, self->buffer[2 * PAGE - 1]);
}

TEST_F(io, sendfile_sends_a_region_and_fills_one)
{
	int sock[2], file = memfd_create("source", 0);
	off_t at = CHUNK - 100;
	size_t left = 5000;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	stamp(self->map, 2 * CHUNK, 5);
	EXPECT_EQ(left, sendfile(sock[0], self->fd, &at, left));
	EXPECT_EQ(left, recv(sock[1], self->buffer, left, MSG_WAITALL));
	EXPECT_EQ(0, memcmp(self->buffer, self->map + CHUNK - 100, 5000));

	memset(self->buffer, 9, 100000);
	ASSERT_EQ(100000, write(file, self->buffer, 100000));
	at = 0;
	EXPECT_EQ(3 * CHUNK, lseek(self->fd, 3 * CHUNK, SEEK_SET));
	for (left = 100000; left; left -= 20000)
		EXPECT_EQ(20000, sendfile(self->fd, file, &at, 20000));
	EXPECT_EQ(0, memcmp(self->map + 3 * CHUNK, self->buffer, 100000));
}

TEST_F(io, copy_file_range_copies_inside_and_between_regions)
{
	int other = region_create(self->dev, LENGTH, 0);
	loff_t in = 100, out = 2 * CHUNK + 5;

	ASSERT_LE(0, other);
	stamp(self->map, CHUNK, 6);
	EXPECT_EQ(50000, copy_file_range(self->fd, &in, self->fd, &out, 50000, 0));
	EXPECT_EQ(0, memcmp(self->map + 2 * CHUNK + 5, self->map + 100, 50000));
	in = 0;
	out = CHUNK;
	EXPECT_EQ(50000, copy_file_range(self->fd, &in, other, &out, 50000, 0));
	EXPECT_EQ(50000, pread(other, self->buffer, 50000, CHUNK));
	EXPECT_EQ(0, memcmp(self->buffer, self->map, 50000));
	in = LENGTH;
	EXPECT_EQ(0, copy_file_range(self->fd, &in, other, &out, 50000, 0));
	in = 0;
	out = 50;
	EXPECT_EQ(-1, copy_file_range(self->fd, &in, self->fd, &out, 100, 0));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(io, implicit_region_is_a_file_through_a_reopened_descriptor)
{
	char *map = region_map(self->dev, CHUNK, 0);
	int fd = region_reopen(self->dev, 0);

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_LE(0, fd);
	EXPECT_EQ(5, pwrite(fd, "hello", 5, 1000));
	EXPECT_EQ(0, memcmp(map + 1000, "hello", 5));
	EXPECT_EQ(5, pwrite(fd, "there", 5, LENGTH_MAX - 5));
	EXPECT_EQ(2 * CHUNK, region_resident(fd));
}

TEST_F(io, calls_that_regions_have_no_use_for_answer_and_change_nothing)
{
	struct pollfd pfd = { .fd = self->fd, .events = POLLIN | POLLOUT };
	struct timespec times[2] = {};
	struct stat before, after;

	stamp(self->map, LENGTH, 7);
	ASSERT_EQ(0, fstat(self->fd, &before));
	EXPECT_EQ(-1, fchmod(self->fd, 0777));
	EXPECT_EQ(-1, fchown(self->fd, 1, 1));
	EXPECT_EQ(-1, futimens(self->fd, times));
	EXPECT_EQ(-1, fcntl(self->fd, 1033 /* F_ADD_SEALS */, 8));
	EXPECT_EQ(-1, getdents64(self->fd, self->buffer, 4096));
	EXPECT_EQ(-1, fcntl(self->fd, F_SETFL, O_DIRECT));
	EXPECT_LE(0, poll(&pfd, 1, 0));
	EXPECT_EQ(0, flock(self->fd, LOCK_EX));
	EXPECT_EQ(0, flock(self->fd, LOCK_UN));
	ASSERT_EQ(0, fstat(self->fd, &after));
	EXPECT_EQ(before.st_mode, after.st_mode);
	EXPECT_EQ(before.st_uid, after.st_uid);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 7));
}

TEST_HARNESS_MAIN
