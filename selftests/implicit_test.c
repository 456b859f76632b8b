// SPDX-License-Identifier: GPL-2.0-only
/*
 * The implicit region: what a program gets that knows only open and mmap.
 */
#include <sys/socket.h>
#include <sys/stat.h>

#include "fixture.h"

DVSM_FIXTURE(implicit);

TEST_F(implicit, open_and_mmap_are_enough_for_zeroed_huge_memory)
{
	char *map = region_map(self->dev, 4 * CHUNK, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_TRUE(is_zero(map, 4 * CHUNK));
	stamp(map, 4 * CHUNK, 1);
	EXPECT_EQ(0, stamps_wrong(map, 4 * CHUNK, 1));
	EXPECT_TRUE(is_huge_mapped(map, 4 * CHUNK));
}

TEST_F(implicit, region_commands_are_enoent_before_the_first_mmap)
{
	struct dvsm_region_info info;
	struct dvsm_chunk chunk;

	EXPECT_EQ(-ENOENT, region_info(self->dev, &info));
	EXPECT_EQ(-ENOENT, region_nodes(self->dev, NULL, 0));
	EXPECT_EQ(-ENOENT, region_populate(self->dev, 0, CHUNK, NULL));
	EXPECT_EQ(-ENOENT, region_discard(self->dev, 0, CHUNK, NULL));
	EXPECT_EQ(-ENOENT, region_residency(self->dev, 0, CHUNK, &chunk, 1));
	EXPECT_EQ(-ENOENT, region_reopen(self->dev, 0));
	/* A failed mmap makes none. */
	EXPECT_EQ(MAP_FAILED, region_map(self->dev, 0, 0));
	EXPECT_EQ(MAP_FAILED, region_map(self->dev, CHUNK, LENGTH_MAX));
	EXPECT_EQ(-ENOENT, region_info(self->dev, &info));
}

TEST_F(implicit, region_commands_work_after_the_first_mmap)
{
	char *map = region_map(self->dev, 4 * CHUNK, 0);
	struct dvsm_region_info info;
	struct dvsm_chunk chunks[4];
	uint64_t bytes;

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, region_populate(self->dev, CHUNK, 2 * CHUNK, &bytes));
	EXPECT_EQ(2 * CHUNK, bytes);
	ASSERT_EQ(0, region_info(self->dev, &info));
	EXPECT_EQ(DVSM_REGION_F_IMPLICIT | DVSM_REGION_F_REGISTRABLE, info.out_flags);
	EXPECT_EQ(LENGTH_MAX, info.out_length);
	EXPECT_EQ(DVSM_POLICY_INHERIT, info.out_policy);
	EXPECT_EQ(2, region_residency(self->dev, 0, 0, chunks, 4));
	EXPECT_EQ(CHUNK, chunks[0].offset);
	EXPECT_EQ(0, region_discard(self->dev, 0, 0, &bytes));
	EXPECT_EQ(2 * CHUNK, bytes);
}

TEST_F(implicit, mappings_of_one_open_share)
{
	char *a = region_map(self->dev, 2 * CHUNK, 0), *b = region_map(self->dev, 2 * CHUNK, 0);
	char *c = region_map(self->dev, CHUNK, CHUNK);

	ASSERT_NE(MAP_FAILED, a);
	ASSERT_NE(MAP_FAILED, b);
	ASSERT_NE(MAP_FAILED, c);
	stamp(a, 2 * CHUNK, 2);
	EXPECT_EQ(0, stamps_wrong(b, 2 * CHUNK, 2));
	EXPECT_EQ(0, memcmp(c, a + CHUNK, CHUNK));
}

TEST_F(implicit, two_opens_do_not_share)
{
	int other = device_open(O_RDWR);
	char *a = region_map(self->dev, CHUNK, 0), *b = region_map(other, CHUNK, 0);
	struct dvsm_info info;

	ASSERT_NE(MAP_FAILED, a);
	ASSERT_NE(MAP_FAILED, b);
	stamp(a, CHUNK, 3);
	EXPECT_TRUE(is_zero(b, CHUNK));
	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(2, info.out_nr_regions);
}

TEST_F(implicit, descriptor_reopened_by_its_path_is_another_open)
{
	char *a = region_map(self->dev, CHUNK, 0), *b;
	int other = fd_reopen(self->dev, O_RDWR);

	ASSERT_NE(MAP_FAILED, a);
	ASSERT_LE(0, other);
	b = region_map(other, CHUNK, 0);
	ASSERT_NE(MAP_FAILED, b);
	a[0] = 1;
	EXPECT_EQ(0, b[0]);
}

TEST_F(implicit, duplicates_and_children_are_the_same_open)
{
	int twin = dup(self->dev);
	pid_t pid = child_start();
	char *map, *other;

	if (!pid) {
		char *own = region_map(self->dev, 2 * CHUNK, 0);

		stamp(own, 2 * CHUNK, 4);
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	map = region_map(self->dev, 2 * CHUNK, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, stamps_wrong(map, 2 * CHUNK, 4));
	other = region_map(twin, 2 * CHUNK, 0);
	ASSERT_NE(MAP_FAILED, other);
	EXPECT_EQ(0, stamps_wrong(other, 2 * CHUNK, 4));
}

TEST_F(implicit, descriptor_passed_to_a_stranger_shares)
{
	char *map = region_map(self->dev, CHUNK, 0);
	int sock[2];
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	pid = child_start();
	if (!pid) {
		char *own;
		int fd;

		munmap(map, CHUNK);
		close(self->dev);
		EXPECT_EQ(0, become_nobody());
		fd = fd_receive(sock[1]);
		own = region_map(fd, CHUNK, 0);
		EXPECT_EQ(0, stamps_wrong(own, CHUNK, 5));
		own[8] = 66;
		_exit(0);
	}
	stamp(map, CHUNK, 5);
	ASSERT_EQ(0, fd_send(sock[0], self->dev));
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(66, map[8]);
}

TEST_F(implicit, mapping_works_after_the_descriptor_is_closed)
{
	char *map = region_map(self->dev, 4 * CHUNK, 0);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	close(self->dev);
	stamp(map, 4 * CHUNK, 6);
	pid = child_start();
	if (!pid)
		_exit(stamps_wrong(map, 4 * CHUNK, 6) || write_at(map + 8, 3));
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(3, map[8]);
	EXPECT_TRUE(is_huge_mapped(map, 4 * CHUNK));
}

TEST_F(implicit, contents_stay_while_the_descriptor_is_open)
{
	char *map = region_map(self->dev, CHUNK, 0);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 7);
	ASSERT_EQ(0, munmap(map, CHUNK));
	map = region_map(self->dev, CHUNK, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 7));
}

TEST_F(implicit, any_length_and_offset_below_the_limit_works)
{
	static const struct { size_t length; off_t offset; } maps[] = {
		{ PAGE, 0 }, { 1, 0 }, { 100000, 0 }, { CHUNK + PAGE, 0 }, { CHUNK - PAGE, PAGE },
		{ 3 * CHUNK + 5 * PAGE, 7 * PAGE }, { PAGE, 1L << 40 }, { CHUNK, LENGTH_MAX - CHUNK },
		{ PAGE, LENGTH_MAX - PAGE }, { 100, LENGTH_MAX - PAGE },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		char *map = region_map(self->dev, maps[i].length, maps[i].offset);

		ASSERT_NE(MAP_FAILED, map) TH_LOG("map %zu", i);
		map[0] = 1;
		map[maps[i].length - 1] = 2;
		EXPECT_EQ(2, map[maps[i].length - 1]);
		munmap(map, maps[i].length);
		EXPECT_EQ(0, region_discard(self->dev, 0, 0, NULL));
	}
}

TEST_F(implicit, beyond_the_length_limit_is_einval)
{
	static const struct { size_t length; off_t offset; } maps[] = {
		{ PAGE, LENGTH_MAX }, { 2 * PAGE, LENGTH_MAX - PAGE }, { CHUNK, 1L << 62 },
		{ 1UL << 45, LENGTH_MAX - (1UL << 45) + PAGE },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		EXPECT_EQ(MAP_FAILED, region_map(self->dev, maps[i].length, maps[i].offset));
		EXPECT_EQ(EINVAL, errno) TH_LOG("map %zu", i);
	}
}

TEST_F(implicit, growth_past_the_length_limit_is_sigbus_there)
{
	char *map = region_map(self->dev, CHUNK, LENGTH_MAX - CHUNK);

	ASSERT_NE(MAP_FAILED, map);
	map = mremap(map, CHUNK, 2 * CHUNK, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, write_at(map + CHUNK - 1, 1));
	EXPECT_EQ(SIGBUS, read_at(map + CHUNK));
	EXPECT_EQ(SIGBUS, write_at(map + 2 * CHUNK - 1, 1));
}

TEST_F(implicit, sparse_terabytes_take_memory_only_where_touched)
{
	char *map = region_map(self->dev, 1UL << 43, 0);
	int i;

	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < 8; i++)
		map[(size_t)i << 40] = i;
	EXPECT_EQ(8 * CHUNK, region_resident(self->dev));
}

TEST_F(implicit, private_mapping_of_the_device_is_a_private_copy)
{
	char *shared = region_map(self->dev, CHUNK, 0);
	char *private = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->dev, 0);

	ASSERT_NE(MAP_FAILED, shared);
	ASSERT_NE(MAP_FAILED, private);
	shared[0] = 1;
	private[PAGE] = 2;
	EXPECT_EQ(1, private[0]);
	EXPECT_EQ(0, shared[PAGE]);
}

TEST_F(implicit, mapping_shows_the_region_not_the_device)
{
	char *map = region_map(self->dev, CHUNK, 0);
	struct smaps smaps;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, smaps_read(map, &smaps));
	EXPECT_EQ(0, strncmp(smaps.name, "/dvsm:implicit (", 16)) TH_LOG("%s", smaps.name);
}

/* What the VFS says of character devices: who sets the length of a memory file first cannot use this one. */
TEST_F(implicit, device_has_no_size_and_takes_none)
{
	struct stat file;
	int round;

	for (round = 0; round < 2; round++) {
		ASSERT_EQ(0, fstat(self->dev, &file));
		EXPECT_EQ(0, file.st_size);
		errno = 0;
		EXPECT_EQ(-1, ftruncate(self->dev, CHUNK));
		EXPECT_EQ(EINVAL, errno);
		/* And once more with the region behind it. */
		ASSERT_NE(MAP_FAILED, region_map(self->dev, CHUNK, 0));
	}
}

TEST_F(implicit, policy_parameter_places_new_implicit_regions)
{
	char *map;
	int dev, i;

	NEED_NODES(2);
	ASSERT_EQ(0, param_set("implicit_policy", DVSM_POLICY_INTERLEAVE));
	dev = device_open(O_RDWR);
	map = region_map(dev, 4 * CHUNK, 0);
	EXPECT_EQ(0, param_set("implicit_policy", DVSM_POLICY_INHERIT));
	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < 4; i++)
		map[i * CHUNK] = 1;
	EXPECT_NE(page_node(map), page_node(map + CHUNK));
	EXPECT_EQ(page_node(map), page_node(map + 2 * CHUNK));
	EXPECT_EQ(-EINVAL, param_set("implicit_policy", DVSM_POLICY_BIND));
	EXPECT_EQ(-EINVAL, param_set("implicit_policy", DVSM_POLICY_INTERLEAVE + 1));
	EXPECT_EQ(0, param_set("implicit_policy", DVSM_POLICY_LOCAL));
	EXPECT_EQ(0, param_set("implicit_policy", DVSM_POLICY_PREFERRED));
	EXPECT_EQ(0, param_set("implicit_policy", DVSM_POLICY_INHERIT));
}

FIXTURE(implicit_pinned) {
	int dev;
};

FIXTURE_SETUP(implicit_pinned)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	ASSERT_EQ(0, param_set("implicit_pinned", 1));
}

FIXTURE_TEARDOWN_PARENT(implicit_pinned)
{
	param_set("implicit_pinned", 0);
	param_set("limit_mb", 0);
	EXPECT_NO_LEAK();
}

TEST_F(implicit_pinned, mmap_takes_the_memory)
{
	char *map = region_map(self->dev, 4 * CHUNK, CHUNK);
	struct dvsm_region_info info;
	struct counts counts;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, region_info(self->dev, &info));
	EXPECT_EQ(4 * CHUNK, info.out_resident);
	EXPECT_EQ(4 * CHUNK, info.out_pinned);
	ASSERT_EQ(0, counts_read(&counts));
	EXPECT_EQ(4 * CHUNK_PAGES, counts.pinned_pages);
	EXPECT_EQ(-EBUSY, region_discard(self->dev, CHUNK, CHUNK, NULL));
}

TEST_F(implicit_pinned, mmap_that_a_limit_forbids_fails_and_holds_nothing)
{
	struct dvsm_info info;

	ASSERT_EQ(0, param_set("limit_mb", 8));
	EXPECT_EQ(MAP_FAILED, region_map(self->dev, 8 * CHUNK, 0));
	EXPECT_EQ(ENOSPC, errno);
	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(0, info.out_charged);
	/* And a smaller one works on the same descriptor. */
	EXPECT_NE(MAP_FAILED, region_map(self->dev, 2 * CHUNK, 0));
}

TEST_HARNESS_MAIN
