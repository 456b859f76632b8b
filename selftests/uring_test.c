// SPDX-License-Identifier: GPL-2.0-only
/*
 * io_uring and regions: as buffers, as registered buffers, as files.
 */
#include <linux/io_uring.h>

#include "fixture.h"

FIXTURE(uring) {
	int dev;
	int fd;
	int file;
	char *map;
	struct uring ring;
};

FIXTURE_VARIANT(uring) {
	bool implicit;
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(uring, registrable) {
	.flags = DVSM_REGION_F_REGISTRABLE,
};

FIXTURE_VARIANT_ADD(uring, pinned) {
	.flags = DVSM_REGION_F_PINNED,
};

FIXTURE_VARIANT_ADD(uring, implicit) {
	.implicit = true,
};

#define LENGTH (4 * CHUNK)

FIXTURE_SETUP(uring)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = variant->implicit ? self->dev : region_create(self->dev, LENGTH, variant->flags);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	self->file = memfd_create("data", 0);
	ASSERT_LE(0, self->file);
	if (uring_open(&self->ring, 4))
		SKIP(return, "no io_uring");
}

FIXTURE_TEARDOWN_PARENT(uring)
{
	EXPECT_NO_LEAK();
}

/* Whether LENGTH bytes at the region's start could be registered; what is wrong otherwise. */
static int register_all(FIXTURE_DATA(uring) *self)
{
	return uring_register_buffers(&self->ring, self->map, LENGTH);
}

TEST_F(uring, plain_reads_and_writes_use_it_as_a_buffer)
{
	stamp(self->map, CHUNK, 1);
	EXPECT_EQ(CHUNK, uring_rw(&self->ring, IORING_OP_WRITE, self->file, self->map, CHUNK, 0));
	EXPECT_EQ(CHUNK, uring_rw(&self->ring, IORING_OP_READ, self->file, self->map + 2 * CHUNK,
				  CHUNK, 0));
	EXPECT_EQ(0, stamps_wrong(self->map + 2 * CHUNK, CHUNK, 1));
}

TEST_F(uring, region_is_a_file_to_it)
{
	int fd = variant->implicit ? region_reopen(self->dev, 0) : self->fd;
	char buffer[100] = "written by a ring";

	EXPECT_EQ(100, uring_rw(&self->ring, IORING_OP_WRITE, fd, buffer, 100, CHUNK - 50));
	EXPECT_EQ(0, strcmp(self->map + CHUNK - 50, "written by a ring"));
	memset(buffer, 0, sizeof(buffer));
	EXPECT_EQ(100, uring_rw(&self->ring, IORING_OP_READ, fd, buffer, 100, CHUNK - 50));
	EXPECT_EQ(0, strcmp(buffer, "written by a ring"));
}

TEST_F(uring, registration_works_exactly_where_the_feature_says_so)
{
	struct dvsm_info info;

	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(!!(info.out_features & DVSM_FEATURE_FIXED_BUFFERS), !register_all(self));
}

TEST_F(uring, registered_buffers_carry_data_both_ways)
{
	if (register_all(self))
		SKIP(return, "this kernel takes no fixed buffers in regions");
	EXPECT_EQ(LENGTH, region_resident(self->fd));
	stamp(self->map, CHUNK, 2);
	EXPECT_EQ(CHUNK, uring_rw(&self->ring, IORING_OP_WRITE_FIXED, self->file, self->map, CHUNK,
				  0));
	EXPECT_EQ(CHUNK, uring_rw(&self->ring, IORING_OP_READ_FIXED, self->file,
				  self->map + CHUNK + CHUNK / 2, CHUNK, 0));
	EXPECT_EQ(0, stamps_wrong(self->map + CHUNK + CHUNK / 2, CHUNK, 2));
	EXPECT_EQ(0, uring_unregister_buffers(&self->ring));
}

TEST_F(uring, registered_memory_is_still_shared_with_children)
{
	pid_t pid;

	if (register_all(self))
		SKIP(return, "this kernel takes no fixed buffers in regions");
	pid = child_start();
	if (!pid) {
		stamp(self->map, CHUNK, 3);
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	/* What the ring sees is what the child wrote: fork has copied nothing. */
	EXPECT_EQ(CHUNK, uring_rw(&self->ring, IORING_OP_WRITE_FIXED, self->file, self->map, CHUNK,
				  0));
	EXPECT_EQ(CHUNK, pread(self->file, self->map + CHUNK, CHUNK, 0));
	EXPECT_EQ(0, stamps_wrong(self->map + CHUNK, CHUNK, 3));
}

TEST_F(uring, registration_outlives_mapping_and_descriptors)
{
	char *map = self->map, *check = malloc(CHUNK);

	if (register_all(self))
		SKIP(return, "this kernel takes no fixed buffers in regions");
	stamp(map, CHUNK, 4);
	ASSERT_EQ(0, munmap(map, LENGTH));
	close(self->fd);
	if (!variant->implicit)
		close(self->dev);
	EXPECT_EQ(CHUNK, uring_rw(&self->ring, IORING_OP_WRITE_FIXED, self->file, map, CHUNK, 0));
	ASSERT_EQ(CHUNK, pread(self->file, check, CHUNK, 0));
	EXPECT_EQ(0, stamps_wrong(check, CHUNK, 4));
}

/* Which of the four chunks say that they are pinned, by bits. */
static int pinned_chunks(FIXTURE_DATA(uring) *self)
{
	struct dvsm_chunk chunks[4];
	int pinned = 0;

	if (region_residency(self->fd, 0, LENGTH, chunks, 4) != 4)
		return -1;
	for (int i = 0; i < 4; i++)
		pinned |= chunks[i].flags & DVSM_CHUNK_F_PINNED ? 1 << i : 0;
	return pinned;
}

TEST_F(uring, registered_chunks_say_that_they_are_pinned)
{
	int always = variant->flags & DVSM_REGION_F_PINNED ? 0xf : 0;

	stamp(self->map, LENGTH, 6);
	EXPECT_EQ(always, pinned_chunks(self));
	if (uring_register_buffers(&self->ring, self->map + CHUNK + PAGE, CHUNK))
		SKIP(return, "this kernel takes no fixed buffers in regions");
	EXPECT_EQ(always | 0x6, pinned_chunks(self));
	EXPECT_EQ(0, uring_unregister_buffers(&self->ring));
	EXPECT_EQ(always, pinned_chunks(self));
}

TEST_F(uring, discard_below_a_registration_gives_the_region_fresh_zeroes)
{
	if (variant->flags & DVSM_REGION_F_PINNED)
		return;
	if (register_all(self))
		SKIP(return, "this kernel takes no fixed buffers in regions");
	stamp(self->map, LENGTH, 5);
	EXPECT_EQ(0, region_discard(self->fd, 0, CHUNK, NULL));
	EXPECT_TRUE(is_zero(self->map, CHUNK));
	EXPECT_EQ(0, stamps_wrong(self->map + CHUNK, 0, 5));
	EXPECT_EQ(0, uring_unregister_buffers(&self->ring));
	EXPECT_TRUE(is_zero(self->map, CHUNK));
}

/* When what others held is back: rings of tests before this one end in the background. */
static unsigned long pages_free_at_rest(void)
{
	unsigned long now = pages_free(), last;

	do {
		last = now;
		sleep_ms(500);
		now = pages_free();
	} while (now > last + MIB / PAGE);
	return now;
}

/*
 * A ring is a device that outlives its process here: the test has it, and the process
 * that is killed has the region, registers it, and lets reads wait for a pipe.
 */
TEST_F(uring, ring_keeps_the_memory_of_a_killed_process_until_it_lets_go)
{
	const size_t length = 32 * CHUNK;
	char **map = share_anonymous(sizeof(*map)), *check = malloc(CHUNK);
	struct io_uring_cqe cqe;
	struct counts counts;
	unsigned long before, end;
	int pipe_fds[2], i;
	pid_t pid;

	if (register_all(self))
		SKIP(return, "this kernel takes no fixed buffers in regions");
	ASSERT_EQ(0, uring_unregister_buffers(&self->ring));
	ASSERT_EQ(0, pipe(pipe_fds));
	munmap(self->map, LENGTH);
	close(self->fd);
	if (!variant->implicit)
		close(self->dev);
	ASSERT_TRUE(counts_reach_zero(&counts, 60));
	before = pages_free_at_rest();
	pid = child_start();
	if (!pid) {
		int dev = device_open(O_RDWR);

		*map = region_map(variant->implicit ? dev :
				  region_create(dev, length, variant->flags), length, 0);
		if (*map == MAP_FAILED || uring_register_buffers(&self->ring, *map, length))
			_exit(1);
		stamp(*map + length - CHUNK, CHUNK, 7);
		for (i = 0; i < 2; i++) {
			struct io_uring_sqe sqe = {
				.opcode = IORING_OP_READ_FIXED,
				.fd = pipe_fds[0],
				.addr = (uintptr_t)*map + i * CHUNK,
				.len = CHUNK,
			};

			if (uring_submit(&self->ring, &sqe))
				_exit(2);
		}
		raise(SIGKILL);
	}
	ASSERT_EQ(128 + SIGKILL, child_wait(pid));
	/* The region is gone. Its memory is not, nor what it holds; nor are the reads. */
	EXPECT_FALSE(uring_reap(&self->ring, &cqe));
	EXPECT_TRUE(counts_reach_zero(&counts, 60));
	EXPECT_LE(pages_free() + (length - LENGTH) / PAGE, before);
	EXPECT_EQ(CHUNK, uring_rw(&self->ring, IORING_OP_WRITE_FIXED, self->file,
				  *map + length - CHUNK, CHUNK, 0));
	ASSERT_EQ(CHUNK, pread(self->file, check, CHUNK, 0));
	EXPECT_EQ(0, stamps_wrong(check, CHUNK, 7));
	uring_close(&self->ring);
	end = clock_ms() + 60000;
	while (pages_free() + 2 * LENGTH / PAGE < before && clock_ms() < end)
		sleep_ms(50);
	EXPECT_LE(before, pages_free() + 2 * LENGTH / PAGE);
}

TEST_HARNESS_MAIN
