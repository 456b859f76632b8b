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

TEST_F(policy, nodes_without_memory_are_refused)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = variant->backend,
		.policy = DVSM_POLICY_BIND,
		.nr_nodes = 1024,
	};
	uint64_t set[17] = { 0 };
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
	/* A good node beside it does not help. */
	set[self->first / 64] |= 1ULL << self->first % 64;
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, &options));
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

TEST_HARNESS_MAIN
