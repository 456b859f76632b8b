// SPDX-License-Identifier: GPL-2.0-only
/*
 * lseek(2) finds holes and data where residency says they are.
 */
#include "snapshot.h"

DVSM_FIXTURE(seek);

#define LENGTH (6 * CHUNK + 5 * PAGE)

static off_t seek_to(int fd, off_t offset, int whence)
{
	off_t at = lseek(fd, offset, whence);

	return at < 0 ? -errno : at;
}

TEST_F(seek, empty_region_is_one_hole)
{
	int fd = region_create(self->dev, LENGTH, 0);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-ENXIO, seek_to(fd, 0, SEEK_DATA));
	EXPECT_EQ(0, seek_to(fd, 0, SEEK_HOLE));
	EXPECT_EQ(12345, seek_to(fd, 12345, SEEK_HOLE));
	EXPECT_EQ(LENGTH - 1, seek_to(fd, LENGTH - 1, SEEK_HOLE));
}

TEST_F(seek, full_region_has_its_hole_at_the_end)
{
	int fd = region_create(self->dev, LENGTH, 0);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	EXPECT_EQ(LENGTH, seek_to(fd, 0, SEEK_HOLE));
	EXPECT_EQ(LENGTH, seek_to(fd, LENGTH - 1, SEEK_HOLE));
	EXPECT_EQ(7777, seek_to(fd, 7777, SEEK_DATA));
	EXPECT_EQ(LENGTH - 1, seek_to(fd, LENGTH - 1, SEEK_DATA));
}

TEST_F(seek, edges_are_those_of_folios)
{
	int fd = region_create(self->dev, LENGTH, 0);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_populate(fd, CHUNK, PAGE, NULL));
	ASSERT_EQ(0, region_populate(fd, 4 * CHUNK, 2 * CHUNK, NULL));
	EXPECT_EQ(CHUNK, seek_to(fd, 0, SEEK_DATA));
	EXPECT_EQ(CHUNK + 99, seek_to(fd, CHUNK + 99, SEEK_DATA));
	EXPECT_EQ(2 * CHUNK, seek_to(fd, CHUNK + 99, SEEK_HOLE));
	EXPECT_EQ(2 * CHUNK + 1, seek_to(fd, 2 * CHUNK + 1, SEEK_HOLE));
	EXPECT_EQ(4 * CHUNK, seek_to(fd, 2 * CHUNK, SEEK_DATA));
	EXPECT_EQ(6 * CHUNK, seek_to(fd, 4 * CHUNK, SEEK_HOLE));
	EXPECT_EQ(-ENXIO, seek_to(fd, 6 * CHUNK, SEEK_DATA));
}

/* Wherever that lies: in the place of the other one, in a copy, in parts of several. */
TEST_F(seek, snapshot_and_region_have_data_where_they_read_it)
{
	int fd = region_create(self->dev, LENGTH, 0), s[2], i;

	ASSERT_LE(0, fd);
	ASSERT_EQ(1, pwrite(fd, "a", 1, CHUNK));
	ASSERT_EQ(1, pwrite(fd, "b", 1, 3 * CHUNK));
	s[0] = snapshot_take(fd);
	s[1] = snapshot_take_in_parts(fd, PAGE, 0);
	for (i = 0; i < 2; i++) {
		ASSERT_LE(0, s[i]);
		EXPECT_EQ(1, pwrite(s[i], "c", 1, CHUNK + 7 * PAGE));
		EXPECT_EQ(1, pwrite(s[i], "d", 1, 4 * CHUNK));
	}
	EXPECT_EQ(1, pwrite(fd, "e", 1, CHUNK));
	EXPECT_EQ(0, region_discard(fd, 3 * CHUNK, CHUNK, NULL));

	EXPECT_EQ(CHUNK, seek_to(fd, 0, SEEK_DATA));
	EXPECT_EQ(2 * CHUNK, seek_to(fd, CHUNK, SEEK_HOLE));
	EXPECT_EQ(-ENXIO, seek_to(fd, 2 * CHUNK, SEEK_DATA));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, seek_to(s[i], 0, SEEK_HOLE));
		EXPECT_EQ(CHUNK, seek_to(s[i], 0, SEEK_DATA));
		EXPECT_EQ(2 * CHUNK, seek_to(s[i], CHUNK, SEEK_HOLE));
		EXPECT_EQ(3 * CHUNK, seek_to(s[i], 2 * CHUNK, SEEK_DATA));
		EXPECT_EQ(5 * CHUNK, seek_to(s[i], 3 * CHUNK, SEEK_HOLE));
		EXPECT_EQ(-ENXIO, seek_to(s[i], 5 * CHUNK, SEEK_DATA));
	}
}

TEST_F(seek, outside_the_region_is_enxio)
{
	int fd = region_create(self->dev, LENGTH, 0);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-ENXIO, seek_to(fd, LENGTH, SEEK_DATA));
	EXPECT_EQ(-ENXIO, seek_to(fd, LENGTH, SEEK_HOLE));
	EXPECT_EQ(-ENXIO, seek_to(fd, -1, SEEK_DATA));
	EXPECT_EQ(-ENXIO, seek_to(fd, -1, SEEK_HOLE));
	EXPECT_EQ(-ENXIO, seek_to(fd, INT64_MAX, SEEK_HOLE));
}

TEST_F(seek, ordinary_seeks_are_those_of_a_file)
{
	int fd = region_create(self->dev, LENGTH, 0);

	ASSERT_LE(0, fd);
	EXPECT_EQ(5, seek_to(fd, 5, SEEK_SET));
	EXPECT_EQ(15, seek_to(fd, 10, SEEK_CUR));
	EXPECT_EQ(LENGTH - 3, seek_to(fd, -3, SEEK_END));
	EXPECT_EQ(LENGTH + 3, seek_to(fd, 3, SEEK_END));
	EXPECT_EQ(-EINVAL, seek_to(fd, -1, SEEK_SET));
	EXPECT_EQ(-EINVAL, seek_to(fd, -LENGTH - 1, SEEK_END));
	EXPECT_EQ(-EINVAL, seek_to(fd, 0, 77));
}

TEST_F(seek, sparse_region_of_terabytes_is_walked_by_its_data)
{
	int fd = region_create(self->dev, LENGTH_MAX, 0);
	off_t at = 0;
	int i;

	ASSERT_LE(0, fd);
	for (i = 0; i < 20; i++)
		ASSERT_EQ(1, pwrite(fd, "x", 1, ((off_t)i << 41) + i * 12345));
	for (i = 0; i < 20; i++) {
		at = seek_to(fd, at, SEEK_DATA);
		EXPECT_EQ((((off_t)i << 41) + i * 12345) / CHUNK * CHUNK, at);
		at = seek_to(fd, at, SEEK_HOLE);
	}
	EXPECT_EQ(-ENXIO, seek_to(fd, at, SEEK_DATA));
}

TEST_HARNESS_MAIN
