// SPDX-License-Identifier: GPL-2.0-only
/*
 * No byte of somebody else's memory is ever seen. The machine's free memory is
 * filled with a pattern first. Debian's kernels must be booted with init_on_alloc=0,
 * or the page allocator hides what is missing here; the debug kernel need not.
 */
#include "fixture.h"

FIXTURE(zero) {
	int dev;
};

#define DIRT 0xdb

/*
 * A child fills memory with dirt, in huge and in small pages, and ends. What it had
 * is what is allocated next.
 */
static void dirty_free_memory(void)
{
	static const struct { size_t length; int advice; } parts[] = {
		{ 384 * MIB, MADV_HUGEPAGE }, { 96 * MIB, MADV_NOHUGEPAGE },
	};
	pid_t pid = child_start();

	if (!pid) {
		size_t i;

		for (i = 0; i < ARRAY_SIZE(parts); i++) {
			char *map = mmap(NULL, parts[i].length, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (map == MAP_FAILED)
				_exit(1);
			madvise(map, parts[i].length, parts[i].advice);
			memset(map, DIRT, parts[i].length);
		}
		_exit(0);
	}
	if (child_wait(pid))
		abort();
}

FIXTURE_SETUP(zero)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	dirty_free_memory();
}

FIXTURE_TEARDOWN_PARENT(zero)
{
	EXPECT_NO_LEAK();
}

TEST_F(zero, populated_chunks_are_zero)
{
	int fd = region_create(self->dev, 128 * CHUNK, 0);
	char *map = region_map(fd, 128 * CHUNK, 0);

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	EXPECT_TRUE(is_zero(map, 128 * CHUNK));
}

TEST_F(zero, faulted_chunks_are_zero_by_read_and_by_write)
{
	int fd = region_create(self->dev, 64 * CHUNK, 0);
	char *map = region_map(fd, 64 * CHUNK, 0);
	size_t offset;

	ASSERT_NE(MAP_FAILED, map);
	for (offset = 0; offset < 64 * CHUNK; offset += 2 * CHUNK)
		map[offset] = 0;
	EXPECT_TRUE(is_zero(map, 64 * CHUNK));
}

TEST_F(zero, chunks_that_were_written_by_write_are_zero_around_it)
{
	int fd = region_create(self->dev, 32 * CHUNK, 0);
	char *map = region_map(fd, 32 * CHUNK, 0);
	size_t offset, bad = 0;

	ASSERT_NE(MAP_FAILED, map);
	for (offset = 0; offset < 32 * CHUNK; offset += CHUNK) {
		ASSERT_EQ(1, pwrite(fd, "x", 1, offset + 100000));
		map[offset + 100000] = 0;
		bad += !is_zero(map + offset, CHUNK);
	}
	EXPECT_EQ(0, bad);
}

TEST_F(zero, private_copies_of_holes_are_zero)
{
	int fd = region_create(self->dev, 16 * CHUNK, 0);
	char *map = mmap(NULL, 16 * CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	size_t offset;

	ASSERT_NE(MAP_FAILED, map);
	for (offset = 0; offset < 16 * CHUNK; offset += 16 * PAGE)
		map[offset] = 0;
	EXPECT_TRUE(is_zero(map, 16 * CHUNK));
}

TEST_F(zero, pinned_and_implicit_regions_are_zero)
{
	int fd = region_create(self->dev, 32 * CHUNK, DVSM_REGION_F_PINNED);
	char *pinned = region_map(fd, 32 * CHUNK, 0);
	char *implicit = region_map(self->dev, 32 * CHUNK, 0);

	ASSERT_NE(MAP_FAILED, pinned);
	ASSERT_NE(MAP_FAILED, implicit);
	EXPECT_TRUE(is_zero(pinned, 32 * CHUNK));
	EXPECT_TRUE(is_zero(implicit, 32 * CHUNK));
}

TEST_F(zero, small_tails_are_zero)
{
	int i;

	for (i = 0; i < 64; i++) {
		size_t length = (i * 8 + 1) * PAGE;
		int fd = region_create(self->dev, length, 0);
		char *map = region_map(fd, length, 0);

		ASSERT_NE(MAP_FAILED, map);
		EXPECT_TRUE(is_zero(map, length)) TH_LOG("%zu pages", length / PAGE);
		munmap(map, length);
		close(fd);
	}
}

TEST_F(zero, what_a_region_gave_back_is_zero_in_the_next_one)
{
	int i;

	for (i = 0; i < 8; i++) {
		int fd = region_create(self->dev, 16 * CHUNK, 0);
		char *map = region_map(fd, 16 * CHUNK, 0);

		ASSERT_NE(MAP_FAILED, map);
		EXPECT_TRUE(is_zero(map, 16 * CHUNK));
		memset(map, DIRT, 16 * CHUNK);
		if (i % 2) {
			EXPECT_EQ(0, region_discard(fd, 0, 0, NULL));
		}
		EXPECT_EQ(i % 2 ? 0 : (char)DIRT, map[5]);
		munmap(map, 16 * CHUNK);
		close(fd);
	}
}

TEST_F(zero, small_folios_of_a_short_cgroup_are_zero)
{
	int fd = region_create(self->dev, 32 * CHUNK, 0);
	char *map = region_map(fd, 32 * CHUNK, 0);
	struct dvsm_region_info info;
	struct cgroup cgroup;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	NEED_CGROUP(&cgroup, "zero");
	ASSERT_EQ(0, cgroup_set(&cgroup, "memory.max", "21M"));
	pid = child_start();
	if (!pid) {
		cgroup_enter(&cgroup);
		_exit(-region_populate_by(fd, 0, 0, 1, NULL));
	}
	EXPECT_EQ(ENOMEM, child_wait(pid));
	/* It is looked at from outside: the cgroup is full. */
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_LT(info.out_resident_huge, info.out_resident);
	EXPECT_TRUE(is_zero(map, info.out_resident));
	EXPECT_EQ(0, region_discard(fd, 0, 0, NULL));
	cgroup_remove(&cgroup);
}

TEST_HARNESS_MAIN
