// SPDX-License-Identifier: GPL-2.0-only
/* Node policies, proven by move_pages(2); two nodes or more, on each backend. */
#include <linux/mempolicy.h>

#include "kselftest_harness.h"
#include "lib_test.h"

FIXTURE(policy)
{
	uint64_t nodes[16];	/* with memory */
	int first, second;
};

FIXTURE_VARIANT(policy)
{
	uint32_t backend;
};

FIXTURE_VARIANT_ADD(policy, device) { .backend = DVSM_BACKEND_DEVICE };
FIXTURE_VARIANT_ADD(policy, memfd_hugetlb) { .backend = DVSM_BACKEND_MEMFD_HUGETLB };
FIXTURE_VARIANT_ADD(policy, memfd_thp) { .backend = DVSM_BACKEND_MEMFD_THP };
FIXTURE_VARIANT_ADD(policy, memfd_4k) { .backend = DVSM_BACKEND_MEMFD_4K };

FIXTURE_SETUP(policy)
{
	struct dvsm_region_options options = { .size = sizeof(options) };
	struct dvsm_region *region;
	int mode, node;

	options.backend = variant->backend;
	if (syscall(SYS_get_mempolicy, &mode, self->nodes, 1024UL, NULL, 1UL << 2))
		SKIP(return, "needs a kernel with NUMA");
	self->first = self->second = -1;
	for (node = 0; node < 1024; node++) {
		if (!(self->nodes[node / 64] >> node % 64 & 1))
			continue;
		if (self->first < 0)
			self->first = node;
		else if (self->second < 0)
			self->second = node;
	}
	region = dvsm_region_create(8 * CHUNK, &options);
	if (!region)
		SKIP(return, "no %s: %s", dvsm_backend_name(variant->backend), strerror(errno));
	dvsm_region_destroy(region);
}

FIXTURE_TEARDOWN(policy)
{
}

/* A region of four chunks, each touched, and the nodes where they came to be. */
static bool place(uint32_t backend, uint32_t policy, const uint64_t *nodes, uint32_t nr_nodes,
		  int *got)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = backend,
		.policy = policy,
		.nodes = nodes,
		.nr_nodes = nr_nodes,
	};
	struct dvsm_region *region = dvsm_region_create(4 * CHUNK, &options);
	bool child;
	char *map;
	int i;

	if (!region)
		return false;
	map = dvsm_region_map(region, 0, 0, RW, NULL);
	if (!map)
		return false;
	/* The policy is the region's: a child's first touch obeys it too. */
	map[0] = map[CHUNK] = 1;
	child = IN_CHILD((map[2 * CHUNK] = map[3 * CHUNK] = 1));
	for (i = 0; i < 4; i++) {
		map[i * CHUNK] = 2;
		got[i] = node_of(map + i * CHUNK);
	}
	dvsm_region_unmap(map, 4 * CHUNK);
	dvsm_region_destroy(region);
	return child;
}

TEST_F(policy, bind_puts_memory_on_the_given_node)
{
	int nodes[2] = { self->first, self->second }, got[4], i, j;

	for (j = 0; j < 2 && nodes[j] >= 0; j++) {
		uint64_t set[16] = { 0 };

		set[nodes[j] / 64] = 1ULL << nodes[j] % 64;
		ASSERT_TRUE(place(variant->backend, DVSM_POLICY_BIND, set, 1024, got));
		for (i = 0; i < 4; i++) {
			EXPECT_EQ(nodes[j], got[i]);
		}
	}
}

TEST_F(policy, of_less_than_a_chunk_is_set_there_and_nowhere_else)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = variant->backend,
		.policy = DVSM_POLICY_LOCAL,
	};
	struct dvsm_region *region;

	if (variant->backend == DVSM_BACKEND_MEMFD_HUGETLB)
		return;
	region = dvsm_region_create(PAGE, &options);
	EXPECT_NE(NULL, region);
	dvsm_region_destroy(region);
}

TEST_F(policy, preferred_takes_the_given_node_while_it_has_memory)
{
	uint64_t set[16] = { 0 };
	int got[4], i;

	set[self->first / 64] = 1ULL << self->first % 64;
	ASSERT_TRUE(place(variant->backend, DVSM_POLICY_PREFERRED, set, 1024, got));
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(self->first, got[i]);
	}
}

TEST_F(policy, interleave_uses_all_nodes_that_are_given_or_all_there_are)
{
	int got[4], i, on_first = 0, on_second = 0;

	ASSERT_TRUE(place(variant->backend, DVSM_POLICY_INTERLEAVE, self->nodes, 1024, got));
	ASSERT_TRUE(place(variant->backend, DVSM_POLICY_INTERLEAVE, NULL, 0, got));
	if (self->second < 0)
		SKIP(return, "needs two nodes with memory");
	for (i = 0; i < 4; i++) {
		on_first += got[i] == self->first;
		on_second += got[i] == self->second;
	}
	/* Page by page on 4 KiB memory, where chunks begin on one node all alike. */
	if (variant->backend == DVSM_BACKEND_DEVICE ||
	    variant->backend == DVSM_BACKEND_MEMFD_HUGETLB) {
		EXPECT_EQ(2, on_first);
		EXPECT_EQ(2, on_second);
	}
}

/* The node of the CPU that this process is on and from now on stays on. */
static int stay(void)
{
	unsigned long mask[16] = { 0 };
	unsigned int cpu, node;

	if (syscall(SYS_getcpu, &cpu, &node, NULL))
		return -1;
	mask[cpu / 64] = 1UL << cpu % 64;
	if (syscall(SYS_sched_setaffinity, 0, sizeof(mask), mask))
		return -1;
	return (int)node;
}

TEST_F(policy, local_puts_memory_where_the_toucher_runs)
{
	int node = stay(), got[4], i;

	ASSERT_LE(0, node);
	if (!(self->nodes[node / 64] >> node % 64 & 1))
		SKIP(return, "node %d has no memory", node);
	ASSERT_TRUE(place(variant->backend, DVSM_POLICY_LOCAL, NULL, 0, got));
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(node, got[i]);
	}
}

TEST_F(policy, nodes_without_memory_are_left_out_and_refused_alone)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = variant->backend,
		.policy = DVSM_POLICY_BIND,
		.nr_nodes = 1024,
	};
	uint64_t set[17] = { 0 };
	struct dvsm_region *region;
	uint32_t policy;
	int node;

	for (node = 0; self->nodes[node / 64] >> node % 64 & 1;)
		node++;
	set[node / 64] = 1ULL << node % 64;
	options.nodes = set;
	for (policy = DVSM_POLICY_BIND; policy <= DVSM_POLICY_INTERLEAVE; policy++) {
		options.policy = policy;
		EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, &options));
	}
	/* A good node beside it helps, as with mbind(). */
	set[self->first / 64] |= 1ULL << self->first % 64;
	region = dvsm_region_create(CHUNK, &options);
	EXPECT_NE(NULL, region);
	dvsm_region_destroy(region);
	/* A bit that no kernel has; and an empty set. */
	memset(set, 0, sizeof(set));
	options.policy = DVSM_POLICY_BIND;
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, &options));
	set[16] = 1;
	options.nr_nodes = 1025;
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, &options));
}

TEST_F(policy, populate_obeys_it)
{
	uint64_t set[16] = { 0 };
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = variant->backend,
		.policy = DVSM_POLICY_BIND,
		.nr_nodes = 1024,
		.nodes = set,
	};
	int node = self->second >= 0 ? self->second : self->first;
	struct dvsm_node_stats nodes[1024];
	struct dvsm_region *region;

	set[node / 64] = 1ULL << node % 64;
	region = dvsm_region_create(4 * CHUNK, &options);
	ASSERT_NE(NULL, region);
	EXPECT_EQ(0, dvsm_region_populate(region, 0, 0, 0, NULL));
	EXPECT_LT(node, dvsm_region_nodes(region, nodes, 1024));
	EXPECT_EQ(4 * CHUNK, nodes[node].out_resident);
	dvsm_region_destroy(region);
}

/* Laid out as libnuma's. */
struct bitmask {
	unsigned long size;
	unsigned long *maskp;
};

TEST_F(policy, ranges_get_policies_of_their_own)
{
	struct dvsm_region_options options = { .size = sizeof(options), .backend = variant->backend };
	struct dvsm_region *region = dvsm_region_create(8 * CHUNK, &options);
	uint64_t set[16] = { 0 };
	struct bitmask nodes = { 1024, (unsigned long *)set };
	int far = self->second, i;
	char *map;

	ASSERT_NE(NULL, region);
	if (far < 0)
		SKIP(return, "needs two nodes with memory");
	if (variant->backend == DVSM_BACKEND_MEMFD_HUGETLB) {
		EXPECT_FAILS(EOPNOTSUPP, dvsm_region_place_node(region, 0, CHUNK,
								DVSM_POLICY_BIND, far));
		dvsm_region_destroy(region);
		return;
	}
	ASSERT_EQ(0, dvsm_region_place_node(region, 0, 0, DVSM_POLICY_BIND, self->first));
	ASSERT_EQ(0, dvsm_region_place_node(region, 2 * CHUNK, CHUNK, DVSM_POLICY_BIND, far));
	set[far / 64] = 1ULL << far % 64;
	ASSERT_EQ(0, dvsm_region_place_bitmask(region, 6 * CHUNK, 0, DVSM_POLICY_PREFERRED, &nodes));
	ASSERT_EQ(0, dvsm_region_place_bitmask(region, 7 * CHUNK, 0, DVSM_POLICY_LOCAL, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_place_node(region, CHUNK / 2, 0, DVSM_POLICY_BIND, far));
	EXPECT_FAILS(EINVAL, dvsm_region_place_node(region, 0, 9 * CHUNK, DVSM_POLICY_BIND, far));
	EXPECT_FAILS(EINVAL, dvsm_region_place_node(region, 0, 0, DVSM_POLICY_BIND, 1024));
	EXPECT_FAILS(EINVAL, dvsm_region_place_bitmask(region, 0, 0, DVSM_POLICY_BIND, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_place_node(region, 0, 0, DVSM_POLICY_LOCAL, far));
	map = dvsm_region_map(region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, map);
	EXPECT_FAILS(ENOENT, dvsm_node_of(map));
	for (i = 0; i < 7; i++) {
		map[i * CHUNK + 77] = 1;
		EXPECT_EQ(i == 2 || i == 6 ? far : self->first, dvsm_node_of(map + i * CHUNK + 77));
		EXPECT_EQ(node_of(map + i * CHUNK), dvsm_node_of(map + i * CHUNK + 77));
	}
	dvsm_region_unmap(map, 8 * CHUNK);
	dvsm_region_destroy(region);
}

TEST_F(policy, weights_are_the_kernel_s_or_equal_and_can_be_asked_for)
{
	struct dvsm_region_options options = { .size = sizeof(options), .backend = variant->backend };
	struct dvsm_region *region = dvsm_region_create(8 * CHUNK, &options);
	struct dvsm_region_place place = {
		.size = sizeof(place),
		.policy = DVSM_POLICY_WEIGHTED_INTERLEAVE,
		.nr_nodes = 1024,
		.nodes = (uintptr_t)self->nodes,
	};
	const char *path = "/sys/kernel/mm/mempolicy/weighted_interleave/node0";
	uint64_t told[16];
	uint8_t weights[1024];
	int fd, wanted = 1;

	ASSERT_NE(NULL, region);
	if (variant->backend != DVSM_BACKEND_DEVICE) {
		EXPECT_FAILS(EOPNOTSUPP, dvsm_region_place(region, &place));
		dvsm_region_destroy(region);
		return;
	}
	fd = open(path, O_RDWR);
	if (fd >= 0) {
		wanted = 3;
		ASSERT_EQ(1, write(fd, "3", 1));
	}
	ASSERT_EQ(0, dvsm_region_place(region, &place));
	EXPECT_EQ(0, place.weights);
	if (fd >= 0)
		ASSERT_EQ(1, write(fd, "0", 1));
	place = (struct dvsm_region_place) {
		.size = sizeof(place),
		.flags = DVSM_PLACE_F_QUERY,
		.nr_nodes = 1024,
		.nodes = (uintptr_t)told,
		.weights = (uintptr_t)weights,
	};
	ASSERT_EQ(0, dvsm_region_place(region, &place));
	EXPECT_EQ(DVSM_POLICY_WEIGHTED_INTERLEAVE, place.out_policy);
	EXPECT_EQ(8 * CHUNK, place.out_length);
	EXPECT_EQ(self->nodes[0], told[0]);
	if (self->nodes[0] & 1)
		EXPECT_EQ(wanted, weights[0]);
	place.size = 8;
	EXPECT_FAILS(EINVAL, dvsm_region_place(region, &place));
	dvsm_region_destroy(region);
}

/* Sets the kernel's own weight of a node, "0" for the default. Whether it has one. */
static bool kernel_weight_set(int node, const char *weight)
{
	char path[80];
	bool done;
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/mm/mempolicy/weighted_interleave/node%d", node);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return false;
	done = write(fd, weight, 1) == 1;
	close(fd);
	return done;
}

/* Of eight chunks of a new region, those that come to be on @node; -1: there is no region. */
static int chunks_on(const struct dvsm_region_options *options, int node)
{
	struct dvsm_region *region = dvsm_region_create(8 * CHUNK, options);
	int nr = 0, i;
	char *map;

	if (!region)
		return -1;
	map = dvsm_region_map(region, 0, 0, RW, NULL);
	for (i = 0; map && i < 8; i++) {
		map[i * CHUNK] = 1;
		nr += dvsm_node_of(map + i * CHUNK) == node;
	}
	dvsm_region_unmap(map, 8 * CHUNK);
	dvsm_region_destroy(region);
	return nr;
}

TEST_F(policy, region_is_made_with_weights_in_one_call)
{
	uint8_t weights[1024] = { 0 };
	uint64_t set[16] = { 0 };
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = variant->backend,
		.policy = DVSM_POLICY_WEIGHTED_INTERLEAVE,
		.nr_nodes = 1024,
		.nodes = set,
		.weights = weights,
	};

	if (self->second < 0)
		SKIP(return, "one node");
	set[self->first / 64] |= 1ULL << self->first % 64;
	set[self->second / 64] |= 1ULL << self->second % 64;
	weights[self->first] = 3;
	weights[self->second] = 1;
	if (variant->backend != DVSM_BACKEND_DEVICE) {
		EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_region_create(8 * CHUNK, &options));
		return;
	}
	EXPECT_EQ(6, chunks_on(&options, self->first));
	EXPECT_EQ(2, chunks_on(&options, self->second));
	weights[self->second] = 0;
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(8 * CHUNK, &options));
}

TEST_F(policy, weights_that_nobody_gives_are_the_kernel_s_with_and_without_a_set)
{
	uint64_t set[16] = { 0 };
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = variant->backend,
		.policy = DVSM_POLICY_WEIGHTED_INTERLEAVE,
	};
	int wanted = 4, nr_nodes, i;

	if (variant->backend != DVSM_BACKEND_DEVICE) {
		EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_region_create(8 * CHUNK, &options));
		return;
	}
	if (self->second < 0)
		SKIP(return, "one node");
	for (nr_nodes = i = 0; i < 16; i++)
		nr_nodes += __builtin_popcountll(self->nodes[i]);
	set[self->first / 64] |= 1ULL << self->first % 64;
	set[self->second / 64] |= 1ULL << self->second % 64;
	if (kernel_weight_set(self->first, "3"))
		wanted = 6;
	options.nr_nodes = 1024;
	options.nodes = set;
	EXPECT_EQ(wanted, chunks_on(&options, self->first));
	options.nr_nodes = 0;
	options.nodes = NULL;
	if (nr_nodes == 2)
		EXPECT_EQ(wanted, chunks_on(&options, self->first));
	kernel_weight_set(self->first, "0");
}

TEST_HARNESS_MAIN
