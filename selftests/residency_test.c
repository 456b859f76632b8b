// SPDX-License-Identifier: GPL-2.0-only
/*
 * Residency: what a region is made of, held against the kernel's own view.
 */
#include "fixture.h"

DVSM_FIXTURE(residency);

static int residency(int fd, struct dvsm_region_residency *arg)
{
	arg->size = sizeof(*arg);
	return ioctl(fd, DVSM_IOC_REGION_RESIDENCY, arg) ? -errno : 0;
}

TEST_F(residency, empty_region_has_no_chunks)
{
	int fd = region_create(self->dev, LENGTH_MAX, 0);
	struct dvsm_chunk chunks[2];
	struct dvsm_region_residency arg = {
		.chunks = (uintptr_t)chunks,
		.nr_chunks = 2,
	};

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, residency(fd, &arg));
	EXPECT_EQ(0, arg.out_nr_chunks);
	EXPECT_EQ(LENGTH_MAX, arg.out_next);
}

TEST_F(residency, chunk_is_told_with_place_size_node_and_order)
{
	int fd = region_create(self->dev, 16 * CHUNK + 12 * PAGE, 0);
	char *map = region_map(fd, 16 * CHUNK + 12 * PAGE, 0);
	struct dvsm_chunk chunks[8] = {};

	ASSERT_NE(MAP_FAILED, map);
	map[3 * CHUNK] = 1;
	map[9 * CHUNK + 5 * PAGE] = 1;
	map[16 * CHUNK] = 1;
	ASSERT_EQ(3, region_residency(fd, 0, 0, chunks, 8));
	EXPECT_EQ(3 * CHUNK, chunks[0].offset);
	EXPECT_EQ(CHUNK, chunks[0].resident);
	EXPECT_EQ(page_node(map + 3 * CHUNK), chunks[0].node);
	EXPECT_EQ(DVSM_CHUNK_F_HUGE, chunks[0].flags);
	EXPECT_EQ(1, chunks[0].nr_folios);
	EXPECT_EQ(9, chunks[0].order_min);
	EXPECT_EQ(9, chunks[0].order_max);
	EXPECT_EQ(9 * CHUNK, chunks[1].offset);
	EXPECT_EQ(page_node(map + 9 * CHUNK + 5 * PAGE), chunks[1].node);
	/* A tail of 12 pages: the first touch brought the largest block that fits. */
	EXPECT_EQ(16 * CHUNK, chunks[2].offset);
	EXPECT_EQ(8 * PAGE, chunks[2].resident);
	EXPECT_EQ(0, chunks[2].flags);
	EXPECT_EQ(3, chunks[2].order_max);
}

TEST_F(residency, loop_by_out_next_finds_every_chunk_once_whatever_the_array)
{
	static const uint32_t sizes[] = { 1, 2, 3, 7, 40, 1000 };
	int fd = region_create(self->dev, 64 * CHUNK, 0);
	struct dvsm_chunk *chunks = calloc(1000, sizeof(*chunks));
	size_t i;
	int chunk;

	ASSERT_LE(0, fd);
	for (chunk = 0; chunk < 64; chunk += 3)
		ASSERT_EQ(0, region_populate(fd, chunk * CHUNK, PAGE, NULL));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct dvsm_region_residency arg = {
			.chunks = (uintptr_t)chunks,
			.nr_chunks = sizes[i],
		};
		uint32_t n, expected = 0;

		do {
			ASSERT_EQ(0, residency(fd, &arg));
			for (n = 0; n < arg.out_nr_chunks; n++, expected += 3)
				EXPECT_EQ(expected * CHUNK, chunks[n].offset);
			arg.offset = arg.out_next;
		} while (arg.out_next < 64 * CHUNK);
		EXPECT_EQ(66, expected);
	}
}

TEST_F(residency, more_chunks_than_one_batch_are_told_in_one_call)
{
	enum { NR = 300 };
	int fd = region_create(self->dev, 2UL * NR * CHUNK, 0);
	struct dvsm_chunk *chunks = calloc(NR, sizeof(*chunks));
	int i;

	ASSERT_LE(0, fd);
	for (i = 0; i < NR; i++)
		ASSERT_EQ(0, region_populate(fd, 2 * i * CHUNK, PAGE, NULL));
	ASSERT_EQ(NR, region_residency(fd, 0, 0, chunks, NR));
	for (i = 0; i < NR; i++)
		EXPECT_EQ(2 * i * CHUNK, chunks[i].offset);
}

TEST_F(residency, range_is_told_in_whole_chunks)
{
	int fd = region_create(self->dev, 8 * CHUNK, 0);
	struct dvsm_chunk chunks[8];
	struct dvsm_region_residency arg = {
		.offset = 2 * CHUNK + 5 * PAGE,
		.length = CHUNK,
		.chunks = (uintptr_t)chunks,
		.nr_chunks = 8,
	};

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	ASSERT_EQ(0, residency(fd, &arg));
	EXPECT_EQ(2, arg.out_nr_chunks);
	EXPECT_EQ(2 * CHUNK, chunks[0].offset);
	EXPECT_EQ(CHUNK, chunks[0].resident);
	EXPECT_EQ(3 * CHUNK, chunks[1].offset);
	EXPECT_EQ(CHUNK, chunks[1].resident);
	EXPECT_EQ(3 * CHUNK + 5 * PAGE, arg.out_next);
}

TEST_F(residency, wrong_ranges_and_no_array_are_einval)
{
	static const struct { uint64_t offset, length; } ranges[] = {
		{ 1, 0 }, { 0, 1 }, { 0, 4 * CHUNK + PAGE }, { 4 * CHUNK, PAGE }, { 4 * CHUNK + PAGE, 0 },
		{ -PAGE, 2 * PAGE }, { PAGE, -PAGE }, { 1ULL << 63, 1ULL << 63 },
	};
	int fd = region_create(self->dev, 4 * CHUNK, 0);
	struct dvsm_chunk chunk;
	size_t i;

	ASSERT_LE(0, fd);
	EXPECT_EQ(-EINVAL, region_residency(fd, 0, 0, &chunk, 0));
	for (i = 0; i < ARRAY_SIZE(ranges); i++)
		EXPECT_EQ(-EINVAL, region_residency(fd, ranges[i].offset, ranges[i].length, &chunk,
						    1)) TH_LOG("range %zu", i);
	EXPECT_EQ(0, region_residency(fd, 4 * CHUNK, 0, &chunk, 1));
}

TEST_F(residency, array_that_cannot_be_written_is_efault_once_there_is_something_to_tell)
{
	int fd = region_create(self->dev, 4 * CHUNK, 0);

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, region_residency(fd, 0, 0, NULL, 1));
	ASSERT_EQ(0, region_populate(fd, 0, CHUNK, NULL));
	EXPECT_EQ(-EFAULT, region_residency(fd, 0, 0, NULL, 1));
	EXPECT_EQ(-EFAULT, region_residency(fd, 0, 0, (void *)~7UL, UINT32_MAX));
}

TEST_F(residency, array_may_lie_in_the_region_itself)
{
	int fd = region_create(self->dev, 4 * CHUNK, 0);
	struct dvsm_chunk *chunks = region_map(fd, 4 * CHUNK, 0);

	ASSERT_NE(MAP_FAILED, (void *)chunks);
	ASSERT_EQ(0, region_populate(fd, 3 * CHUNK, CHUNK, NULL));
	EXPECT_EQ(1, region_residency(fd, 0, 0, chunks, 10));
	EXPECT_EQ(3 * CHUNK, chunks[0].offset);
}

TEST_F(residency, pinned_chunks_say_so)
{
	int fd = region_create(self->dev, 2 * CHUNK, DVSM_REGION_F_PINNED);
	struct dvsm_chunk chunks[2];

	ASSERT_LE(0, fd);
	ASSERT_EQ(2, region_residency(fd, 0, 0, chunks, 2));
	EXPECT_EQ(DVSM_CHUNK_F_HUGE | DVSM_CHUNK_F_PINNED, chunks[0].flags);
	EXPECT_EQ(DVSM_CHUNK_F_HUGE | DVSM_CHUNK_F_PINNED, chunks[1].flags);
}

TEST_F(residency, chunk_on_several_nodes_is_mixed)
{
	int fd = region_create_on(self->dev, CHUNK, 0, DVSM_POLICY_BIND, node_mask() & -node_mask());
	char *map = region_map(fd, CHUNK, 0);
	int first = __builtin_ctzll(node_mask()), last = 63 - __builtin_clzll(node_mask());
	struct dvsm_node_stats nodes[64] = {};
	struct dvsm_chunk chunk;

	NEED_NODES(2);
	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 1);
	if (write_text("/sys/kernel/debug/split_huge_pages", "1"))
		SKIP(return, "no debugfs split_huge_pages");
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 1));
	ASSERT_EQ(1, region_residency(fd, 0, 0, &chunk, 1));
	if (chunk.flags & DVSM_CHUNK_F_HUGE)
		SKIP(return, "this kernel's split_huge_pages leaves file folios alone");
	EXPECT_EQ(first, chunk.node);
	ASSERT_EQ(last, page_move(map + 5 * PAGE, last, 2 /* MPOL_MF_MOVE */));
	ASSERT_EQ(1, region_residency(fd, 0, 0, &chunk, 1));
	EXPECT_EQ(DVSM_NODE_MIXED, chunk.node);
	EXPECT_EQ(CHUNK, chunk.resident);
	ASSERT_EQ(0, region_nodes(fd, nodes, 64));
	EXPECT_EQ(PAGE, nodes[last].out_resident);
	EXPECT_EQ(1, nodes[last].out_nr_moved_in);
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 1));
}

TEST_HARNESS_MAIN
