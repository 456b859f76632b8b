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

TEST_HARNESS_MAIN
