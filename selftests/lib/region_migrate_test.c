// SPDX-License-Identifier: GPL-2.0-only
/* Moving what regions hold, proven by move_pages(2); two nodes or more, on each backend. */
#include <liburing.h>
#include <linux/mempolicy.h>

#include "kselftest_harness.h"
#include "../capability.h"
#include "lib_test.h"

#define LENGTH	(3 * CHUNK)

/* libnuma's, whose header need not be there. */
struct bitmask {
	unsigned long size;
	unsigned long *maskp;
};

FIXTURE(migrate)
{
	struct dvsm_region *region;
	char *map;		/* its first and third chunk on the first node, the second a hole */
	int first, last;	/* nodes with memory; the same where there is one */
};

FIXTURE_VARIANT(migrate)
{
	uint32_t backend;
};

FIXTURE_VARIANT_ADD(migrate, device) { .backend = DVSM_BACKEND_DEVICE };
FIXTURE_VARIANT_ADD(migrate, memfd_hugetlb) { .backend = DVSM_BACKEND_MEMFD_HUGETLB };
FIXTURE_VARIANT_ADD(migrate, memfd_thp) { .backend = DVSM_BACKEND_MEMFD_THP };
FIXTURE_VARIANT_ADD(migrate, memfd_4k) { .backend = DVSM_BACKEND_MEMFD_4K };

static void fill(char *chunk)
{
	size_t i;

	for (i = 0; i < CHUNK; i += 8)
		*(uint64_t *)(chunk + i) = i + 1;
}

static bool is_filled(const char *chunk)
{
	size_t i;

	for (i = 0; i < CHUNK; i += 8)
		if (*(const uint64_t *)(chunk + i) != i + 1)
			return false;
	return true;
}

FIXTURE_SETUP(migrate)
{
	struct dvsm_region_options options = { .size = sizeof(options) };
	uint64_t nodes[16] = { 0 };
	int mode, node;

	if (syscall(SYS_get_mempolicy, &mode, nodes, 1024UL, NULL, 1UL << 2))
		SKIP(return, "needs a kernel with NUMA");
	self->first = -1;
	for (node = 0; node < 1024; node++) {
		if (!(nodes[node / 64] >> node % 64 & 1))
			continue;
		if (self->first < 0)
			self->first = node;
		self->last = node;
	}
	/* With a policy of its own this process's memory is not balanced: only who is asked moves it. */
	ASSERT_EQ(0, syscall(SYS_set_mempolicy, MPOL_LOCAL, NULL, 0UL));
	options.backend = variant->backend;
	self->region = dvsm_region_create(LENGTH, &options);
	if (!self->region)
		SKIP(return, "no %s: %s", dvsm_backend_name(variant->backend), strerror(errno));
	self->map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, self->map);
	fill(self->map);
	fill(self->map + 2 * CHUNK);
	ASSERT_EQ(0, dvsm_region_migrate_to_node(self->region, 0, 0, self->first, NULL));
	ASSERT_TRUE(is_filled(self->map));
	ASSERT_EQ(self->first, node_of(self->map));
}

FIXTURE_TEARDOWN(migrate)
{
	dvsm_region_destroy(self->region);
}

TEST_F(migrate, region_moves_with_its_contents_and_holes_stay_holes)
{
	uint64_t left = 1;
	struct dvsm_chunk chunks[4];

	ASSERT_EQ(0, dvsm_region_migrate_to_node(self->region, 0, 0, self->last, &left));
	EXPECT_EQ(0, left);
	EXPECT_TRUE(is_filled(self->map));
	EXPECT_TRUE(is_filled(self->map + 2 * CHUNK));
	EXPECT_EQ(self->last, node_of(self->map + 5 * PAGE));
	EXPECT_EQ(self->last, node_of(self->map + LENGTH - PAGE));
	ASSERT_EQ(2, dvsm_region_residency(self->region, 0, 0, chunks, 4, NULL));
	EXPECT_EQ(self->last, chunks[0].node);
	EXPECT_EQ(2 * CHUNK, chunks[1].offset);
}

TEST_F(migrate, range_and_sets_are_obeyed_and_every_byte_is_told)
{
	uint64_t last[16] = { 0 };
	struct dvsm_region_migrate arg = {
		.size = sizeof(arg),
		.offset = CHUNK,
		.nodes = (uintptr_t)last,
		.nr_nodes = 1024,
	};
	const bool one = self->first == self->last;

	last[self->last / 64] = 1ULL << self->last % 64;
	ASSERT_EQ(0, dvsm_region_migrate(self->region, &arg));
	EXPECT_EQ(one ? 0 : CHUNK, arg.out_moved);
	EXPECT_EQ(LENGTH, arg.out_next);
	EXPECT_EQ(0, arg.length);
	arg.offset = 0;
	arg.from = arg.nodes;
	arg.nr_from = 1024;
	ASSERT_EQ(0, dvsm_region_migrate(self->region, &arg));
	EXPECT_EQ(0, arg.out_moved);
	EXPECT_EQ(one ? 2 * CHUNK : CHUNK, arg.out_there);
	EXPECT_EQ(0, arg.out_pinned + arg.out_referenced + arg.out_failed);
	EXPECT_TRUE(is_filled(self->map));
	EXPECT_TRUE(is_filled(self->map + 2 * CHUNK));
	EXPECT_EQ(self->first, node_of(self->map));
	EXPECT_EQ(self->last, node_of(self->map + 2 * CHUNK));
}

static bool move_to_last(struct dvsm_region *region, int node, struct dvsm_region_migrate *arg)
{
	uint64_t set[16] = { 0 };

	memset(arg, 0, sizeof(*arg));
	arg->size = sizeof(*arg);
	arg->length = CHUNK;
	arg->nodes = (uintptr_t)set;
	arg->nr_nodes = 1024;
	set[node / 64] = 1ULL << node % 64;
	return !dvsm_region_migrate(region, arg);
}

TEST_F(migrate, position_of_the_descriptor_stays)
{
	const int fd = dvsm_region_fd(self->region);

	ASSERT_EQ(5, lseek(fd, 5, SEEK_SET));
	ASSERT_EQ(0, dvsm_region_migrate_to_node(self->region, 0, 0, self->last, NULL));
	EXPECT_EQ(5, lseek(fd, 0, SEEK_CUR));
}

/* Pages of a huge one move with the first, which the kernel tells of that one alone. */
TEST_F(migrate, huge_pages_count_with_all_their_bytes)
{
	struct dvsm_region_migrate arg;

	if (self->first == self->last)
		SKIP(return, "one node");
	/* New ones, made huge. */
	ASSERT_EQ(0, dvsm_region_discard(self->region, 0, CHUNK, NULL));
	ASSERT_EQ(0, dvsm_region_populate(self->region, 0, CHUNK, 0, NULL));
	ASSERT_EQ(0, dvsm_region_migrate_to_node(self->region, 0, CHUNK, self->first, NULL));
	ASSERT_TRUE(move_to_last(self->region, self->last, &arg));
	EXPECT_EQ(CHUNK, arg.out_moved);
	EXPECT_EQ(0, arg.out_there + arg.out_pinned + arg.out_referenced + arg.out_failed);
	self->map[0] = 1;
	EXPECT_EQ(self->last, node_of(self->map));
}

/* The ring holds a page, as a device does. */
static bool hold_page(struct io_uring *ring, char *page)
{
	struct iovec buffer = { .iov_base = page, .iov_len = PAGE };

	return !io_uring_queue_init(1, ring, 0) && !io_uring_register_buffers(ring, &buffer, 1);
}

TEST_F(migrate, a_page_that_is_held_stays_alone)
{
	const bool small = variant->backend == DVSM_BACKEND_MEMFD_4K;
	struct dvsm_region_migrate arg;
	struct io_uring ring;
	int try;

	if (variant->backend == DVSM_BACKEND_DEVICE || self->first == self->last)
		SKIP(return, "memfd with two nodes alone");
	if (!hold_page(&ring, self->map + 7 * PAGE))
		SKIP(return, "no fixed buffers");
	ASSERT_TRUE(move_to_last(self->region, self->last, &arg));
	EXPECT_EQ(CHUNK, arg.out_moved + arg.out_referenced);
	EXPECT_LE(PAGE, arg.out_referenced);
	if (small) {
		EXPECT_EQ(PAGE, arg.out_referenced);
		EXPECT_EQ(self->last, node_of(self->map));
	}
	EXPECT_EQ(self->first, node_of(self->map + 7 * PAGE));
	EXPECT_TRUE(is_filled(self->map));
	io_uring_queue_exit(&ring);
	/* A worker of the kernel's lets go. */
	for (try = 0; try < 1200; try++) {
		ASSERT_TRUE(move_to_last(self->region, self->last, &arg));
		if (!arg.out_referenced)
			break;
		usleep(50000);
	}
	EXPECT_EQ(CHUNK, arg.out_moved + arg.out_there);
	EXPECT_TRUE(is_filled(self->map));
	EXPECT_EQ(self->last, node_of(self->map + 7 * PAGE));
}

/* move_pages() ends at a batch that fails; what is behind it moves nevertheless. */
TEST_F(migrate, what_is_behind_a_failure_moves)
{
	struct dvsm_region_migrate arg;
	struct io_uring ring;

	if (variant->backend != DVSM_BACKEND_MEMFD_4K || self->first == self->last)
		SKIP(return, "small pages of memfd and two nodes alone");
	if (!hold_page(&ring, self->map + 7 * PAGE))
		SKIP(return, "no fixed buffers");
	/* Two pages that are mapped here too cannot even be taken, which ends a batch. */
	ASSERT_EQ(0, dvsm_region_unmap(self->map, LENGTH));
	self->map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, self->map);
	*(volatile uint64_t *)(self->map + 20 * PAGE) = 20 * PAGE + 1;
	*(volatile uint64_t *)(self->map + 300 * PAGE) = 300 * PAGE + 1;
	ASSERT_TRUE(capability_drop(CAP_SYS_NICE));
	ASSERT_TRUE(move_to_last(self->region, self->last, &arg));
	EXPECT_EQ(3 * PAGE, arg.out_referenced);
	EXPECT_EQ(CHUNK - 3 * PAGE, arg.out_moved);
	EXPECT_TRUE(is_filled(self->map));
	EXPECT_EQ(self->first, node_of(self->map + 7 * PAGE));
	EXPECT_EQ(self->first, node_of(self->map + 20 * PAGE));
	EXPECT_EQ(self->last, node_of(self->map + 120 * PAGE));
	EXPECT_EQ(self->last, node_of(self->map + 450 * PAGE));
	io_uring_queue_exit(&ring);
}

TEST_F(migrate, libnuma_s_sets_are_understood)
{
	unsigned long words[16] = { 0 };
	struct bitmask set = { .size = 1024, .maskp = words };

	words[self->last / 64] = 1UL << self->last % 64;
	EXPECT_EQ(0, dvsm_region_migrate_to_nodes(self->region, 0, CHUNK, &set, NULL));
	EXPECT_TRUE(is_filled(self->map));
	EXPECT_EQ(self->last, node_of(self->map));
	words[self->last / 64] = 0;
	EXPECT_FAILS(EINVAL, dvsm_region_migrate_to_nodes(self->region, 0, CHUNK, &set, NULL));
}

TEST_F(migrate, wrong_arguments_are_refused)
{
	struct dvsm_region_migrate arg = { .size = sizeof(arg) };

	EXPECT_FAILS(EINVAL, dvsm_region_migrate(self->region, &arg));
	EXPECT_FAILS(EINVAL, dvsm_region_migrate_to_node(self->region, 0, 0, -1, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_migrate_to_node(self->region, 0, 0, 1024, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_migrate_to_node(self->region, 1, 0, self->first, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_migrate_to_node(self->region, 0, 2 * LENGTH, self->first,
							 NULL));
	arg.size = 8;
	EXPECT_FAILS(EINVAL, dvsm_region_migrate(self->region, &arg));
	EXPECT_EQ(self->first, node_of(self->map));
}

TEST_HARNESS_MAIN
