// SPDX-License-Identifier: GPL-2.0-only
/*
 * No byte of somebody else's memory is ever seen. Most of the machine's free memory
 * is lent to the hugetlb pool, and what is left is filled with a pattern. Debian's
 * kernels must be booted with init_on_alloc=0, or the page allocator hides what is
 * missing here; the debug kernel need not.
 */
#include <linux/mempolicy.h>
#include <sys/syscall.h>

#include "fixture.h"

#define DIRT	0xdb
#define LEFT	(512 * MIB)	/* of each node, beside the hugetlb pool */
#define RESERVE	(112 * MIB)	/* of that, for all others and the zones' watermarks */
#define SMALL	(64 * MIB)	/* in small pages */

FIXTURE(zero) {
	int dev;
};

static void dirty(size_t length, int advice)
{
	char *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		_exit(1);
	madvise(map, length, advice);
	memset(map, DIRT, length);
}

/* A child fills what is free on a node, in huge and in small pages, and ends. */
static bool dirty_node(int node)
{
	unsigned long nodes = 1UL << node;
	pid_t pid = child_start();

	if (!pid) {
		if (syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 65UL) ||
		    node_free(node) < 2 * RESERVE + SMALL)
			_exit(1);
		dirty((node_free(node) - RESERVE - SMALL) & ~(CHUNK - 1), MADV_HUGEPAGE);
		dirty(SMALL, MADV_NOHUGEPAGE);
		_exit(0);
	}
	return !child_wait(pid);
}

FIXTURE_SETUP(zero)
{
	int node;

	OPEN_DEVICE_OR_SKIP(self->dev);
	pools_leave(LEFT);
	for (node = 0; node < 64; node++) {
		if (!(node_mask() >> node & 1))
			continue;
		ASSERT_TRUE(dirty_node(node));
	}
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

TEST_F(zero, chunks_that_become_huge_are_zero_where_they_had_no_memory)
{
	struct dvsm_region_promote promote = { .size = sizeof(promote) };
	struct dvsm_region_split split = { .size = sizeof(split) };
	int fd = region_create(self->dev, 32 * CHUNK, 0);
	char *map = region_map(fd, 32 * CHUNK, 0);
	size_t at;

	ASSERT_NE(MAP_FAILED, map);
	for (at = 0; at < 32 * CHUNK; at += CHUNK)
		map[at + 100 * PAGE] = 1;
	ASSERT_EQ(0, ioctl(fd, DVSM_IOC_REGION_SPLIT, &split));
	ASSERT_EQ(32, split.out_nr_split);
	ASSERT_EQ(0, ioctl(fd, DVSM_IOC_REGION_PROMOTE, &promote));
	ASSERT_EQ(32, promote.out_nr_promoted);
	for (at = 0; at < 32 * CHUNK; at += CHUNK) {
		EXPECT_EQ(1, map[at + 100 * PAGE]);
		map[at + 100 * PAGE] = 0;
	}
	EXPECT_TRUE(is_zero(map, 32 * CHUNK));
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

TEST_HARNESS_MAIN_WITH_POOLS
