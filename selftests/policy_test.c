// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where a chunk's memory comes from, proven by move_pages(2): each policy, each
 * way of allocating, and what the process itself has to say.
 */
#include <linux/mempolicy.h>
#include <sys/syscall.h>

#include "fixture.h"

#define LENGTH (8 * CHUNK)

FIXTURE(policy) {
	int dev;
	int first, last;	/* two nodes with memory, and CPUs if there are such */
};

FIXTURE_SETUP(policy)
{
	uint64_t nodes = nodes_to_work_on();

	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_NODES(2);
	if (__builtin_popcountll(nodes) < 2)
		nodes = node_mask();
	self->first = __builtin_ctzll(nodes);
	self->last = 63 - __builtin_clzll(nodes);
}

FIXTURE_TEARDOWN_PARENT(policy)
{
	EXPECT_NO_LEAK();
}

static int set_task_policy(int mode, unsigned long nodes)
{
	return syscall(SYS_set_mempolicy, mode, nodes ? &nodes : NULL, nodes ? 65UL : 0UL)
		? -errno : 0;
}

static int bind_mapping(void *addr, size_t length, int mode, unsigned long nodes, unsigned int flags)
{
	return syscall(SYS_mbind, addr, length, mode, &nodes, 65UL, flags) ? -errno : 0;
}

/* Chunks of the whole region that are on @node. */
static int chunks_on(int fd, int node)
{
	struct dvsm_chunk chunks[64];
	int nr = region_residency(fd, 0, 0, chunks, 64), on = 0, i;

	for (i = 0; i < nr; i++)
		on += chunks[i].node == node;
	return on;
}

static char *touched(int fd)
{
	char *map = region_map(fd, LENGTH, 0);
	size_t offset;

	if (map == MAP_FAILED)
		abort();
	for (offset = 0; offset < LENGTH; offset += CHUNK)
		map[offset + 5 * PAGE] = 1;
	return map;
}

TEST_F(policy, local_memory_is_the_toucher_s_node)
{
	int nodes[2] = { self->first, self->last }, i;

	for (i = 0; i < 2; i++) {
		int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_LOCAL, 0);
		char *map;

		if (node_run_on(nodes[i]))
			SKIP(return, "a node without CPUs");
		map = touched(fd);
		EXPECT_EQ(nodes[i], page_node(map));
		EXPECT_EQ(8, chunks_on(fd, nodes[i]));
	}
}

TEST_F(policy, local_ignores_the_task_policy_and_inherit_follows_it)
{
	int local = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_LOCAL, 0);
	int inherit = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_INHERIT, 0);

	if (node_run_on(self->first))
		SKIP(return, "a node without CPUs");
	ASSERT_EQ(0, set_task_policy(MPOL_BIND, 1UL << self->last));
	touched(local);
	touched(inherit);
	EXPECT_EQ(8, chunks_on(local, self->first));
	EXPECT_EQ(8, chunks_on(inherit, self->last));
}

TEST_F(policy, inherit_interleaves_if_the_task_does)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_INHERIT, 0);
	int other = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_INHERIT, 0);

	/*
	 * The kernel takes turns by a counter of the task's, which everything else that the task allocates moves
	 * as well: on a debug kernel the records of page owners.
	 */
	int least = access("/sys/kernel/debug/page_owner", F_OK) ? 4 : 2;

	/* So does a new slab for the nodes of a region's tree: this leaves one with free ones. */
	ASSERT_EQ(0, region_populate(other, 0, 0, NULL));
	ASSERT_EQ(0, region_discard(other, 0, 0, NULL));
	sleep_ms(200);
	ASSERT_EQ(0, set_task_policy(MPOL_INTERLEAVE, 1UL << self->first | 1UL << self->last));
	touched(fd);
	EXPECT_LE(least, chunks_on(fd, self->first));
	EXPECT_LE(least, chunks_on(fd, self->last));
	EXPECT_EQ(8, chunks_on(fd, self->first) + chunks_on(fd, self->last));
	/* Also in a populate, where other threads could not know. */
	ASSERT_EQ(0, region_populate(other, 0, 0, NULL));
	EXPECT_LE(least, chunks_on(other, self->first));
	EXPECT_LE(least, chunks_on(other, self->last));
	EXPECT_EQ(8, chunks_on(other, self->first) + chunks_on(other, self->last));
}

TEST_F(policy, bind_is_obeyed_from_every_cpu_and_every_call)
{
	static const char *const ways[] = { "fault", "populate", "write", "fallocate" };
	int nodes[2] = { self->first, self->last }, i, way;

	for (i = 0; i < 2; i++) {
		for (way = 0; way < 4; way++) {
			int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND,
						  1ULL << nodes[i]);
			int chunk;

			ASSERT_LE(0, fd);
			if (node_run_on(nodes[!i]))
				SKIP(return, "a node without CPUs");
			if (way == 0)
				touched(fd);
			if (way == 1) {
				EXPECT_EQ(0, region_populate(fd, 0, 0, NULL));
			}
			for (chunk = 0; way == 2 && chunk < 8; chunk++)
				EXPECT_EQ(1, pwrite(fd, "x", 1, chunk * CHUNK));
			if (way == 3) {
				EXPECT_EQ(0, fallocate(fd, 0, 0, LENGTH));
			}
			EXPECT_EQ(8, chunks_on(fd, nodes[i]))
				TH_LOG("node %d by %s", nodes[i], ways[way]);
			close(fd);
		}
	}
}

TEST_F(policy, bind_to_several_nodes_takes_the_toucher_s_own)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND,
				  1ULL << self->first | 1ULL << self->last);

	if (node_run_on(self->last))
		SKIP(return, "a node without CPUs");
	touched(fd);
	EXPECT_EQ(8, chunks_on(fd, self->last));
}

TEST_F(policy, preferred_node_is_taken_while_it_has_memory)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_PREFERRED, 1ULL << self->last);

	if (node_run_on(self->first))
		SKIP(return, "a node without CPUs");
	touched(fd);
	EXPECT_EQ(8, chunks_on(fd, self->last));
}

TEST_F(policy, interleave_goes_by_chunk_not_by_order_of_touch)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_INTERLEAVE,
				  1ULL << self->first | 1ULL << self->last);
	static const int order[] = { 5, 0, 3, 7, 1, 6, 2, 4 };
	char *map = region_map(fd, LENGTH, 0);
	int i;

	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < 8; i++)
		map[order[i] * CHUNK] = 1;
	for (i = 0; i < 8; i++)
		EXPECT_EQ(i % 2 ? self->last : self->first, page_node(map + i * CHUNK));
}

TEST_F(policy, interleave_over_one_node_stays_there)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_INTERLEAVE, 1ULL << self->last);

	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	EXPECT_EQ(8, chunks_on(fd, self->last));
}

TEST_F(policy, mapping_s_own_binding_comes_first_and_only_there)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND, 1ULL << self->first);
	char *bound = region_map(fd, LENGTH, 0), *plain = region_map(fd, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, bound);
	ASSERT_EQ(0, bind_mapping(bound, LENGTH, MPOL_BIND, 1UL << self->last, 0));
	bound[0] = 1;
	bound[CHUNK] = 1;
	plain[2 * CHUNK] = 1;
	plain[0] = 1;
	EXPECT_EQ(self->last, page_node(bound));
	EXPECT_EQ(self->last, page_node(bound + CHUNK));
	EXPECT_EQ(self->first, page_node(plain + 2 * CHUNK));
	EXPECT_EQ(self->last, page_node(plain));
}

TEST_F(policy, interleaved_binding_of_a_mapping_spreads_chunks)
{
	int fd = region_create(self->dev, LENGTH, 0);
	char *map = region_map(fd, LENGTH, 0);
	size_t offset;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, bind_mapping(map, LENGTH, MPOL_INTERLEAVE,
				  1UL << self->first | 1UL << self->last, 0));
	for (offset = 0; offset < LENGTH; offset += CHUNK)
		map[offset] = 1;
	EXPECT_EQ(4, chunks_on(fd, self->first));
	EXPECT_EQ(4, chunks_on(fd, self->last));
}

TEST_F(policy, numa_maps_tells_the_same)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND, 1ULL << self->last);
	char *map = touched(fd), line[512], start[32], count[32];
	FILE *file = fopen("/proc/self/numa_maps", "r");
	bool found = false;

	ASSERT_NE(NULL, file);
	snprintf(start, sizeof(start), "%lx ", (unsigned long)map);
	snprintf(count, sizeof(count), " N%d=", self->last);
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, start, strlen(start)))
			continue;
		found = true;
		EXPECT_NE(NULL, strstr(line, count)) TH_LOG("%s", line);
	}
	fclose(file);
	EXPECT_TRUE(found);
}

TEST_F(policy, remote_faults_and_allocations_are_counted_by_node)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND, 1ULL << self->last);
	struct dvsm_node_stats nodes[64] = {};
	struct dvsm_region_info info;

	if (node_run_on(self->first))
		SKIP(return, "a node without CPUs");
	touched(fd);
	ASSERT_EQ(0, region_nodes(fd, nodes, 64));
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(8, nodes[self->first].out_nr_faults);
	EXPECT_EQ(8, nodes[self->first].out_nr_faults_remote);
	EXPECT_EQ(0, nodes[self->last].out_nr_faults);
	EXPECT_EQ(8, nodes[self->last].out_nr_allocs);
	EXPECT_EQ(8 * CHUNK, nodes[self->last].out_resident);
	EXPECT_EQ(8, info.out_nr_faults_remote);
	EXPECT_EQ(0, info.out_nr_misses);
}

TEST_F(policy, pinned_region_is_placed_at_creation)
{
	int fd = region_create_on(self->dev, LENGTH, DVSM_REGION_F_PINNED, DVSM_POLICY_INTERLEAVE,
				  0);
	char *map = region_map(fd, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, read_at(map));
	EXPECT_EQ(0, read_at(map + CHUNK));
	EXPECT_NE(page_node(map), page_node(map + CHUNK));
}

FIXTURE(cpuset) {
	int dev;
	struct cgroup cgroup;
	int first, last;
};

FIXTURE_SETUP(cpuset)
{
	char nodes[16];

	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_NODES(2);
	NEED_CGROUP(&self->cgroup, "cpuset");
	self->first = __builtin_ctzll(node_mask());
	self->last = 63 - __builtin_clzll(node_mask());
	snprintf(nodes, sizeof(nodes), "%d", self->last);
	if (cgroup_set(&self->cgroup, "cpuset.mems", nodes))
		SKIP(return, "no cpuset controller in cgroup2");
	ASSERT_EQ(0, cgroup_enter(&self->cgroup));
}

FIXTURE_TEARDOWN_PARENT(cpuset)
{
	cgroup_remove(&self->cgroup);
	EXPECT_NO_LEAK();
}

TEST_F(cpuset, memory_comes_from_allowed_nodes_by_every_policy_but_bind)
{
	static const uint32_t policies[] = {
		DVSM_POLICY_INHERIT, DVSM_POLICY_LOCAL, DVSM_POLICY_INTERLEAVE,
		DVSM_POLICY_PREFERRED,
	};
	size_t i;

	node_run_on(self->first);
	for (i = 0; i < ARRAY_SIZE(policies); i++) {
		int fd = region_create_on(self->dev, LENGTH, 0, policies[i], 0);

		ASSERT_LE(0, fd);
		touched(fd);
		EXPECT_EQ(8, chunks_on(fd, self->last)) TH_LOG("policy %u", policies[i]);
		close(fd);
	}
}

TEST_F(cpuset, populate_by_several_threads_stays_inside)
{
	static const uint32_t policies[] = {
		DVSM_POLICY_INHERIT, DVSM_POLICY_LOCAL, DVSM_POLICY_INTERLEAVE,
		DVSM_POLICY_PREFERRED,
	};
	struct dvsm_node_stats nodes[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(policies); i++) {
		int fd = region_create_on(self->dev, 64 * CHUNK, 0, policies[i], 0);

		ASSERT_LE(0, fd);
		ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
		ASSERT_EQ(0, region_nodes(fd, nodes, 64));
		EXPECT_EQ(64 * CHUNK, nodes[self->last].out_resident)
			TH_LOG("policy %u", policies[i]);
		close(fd);
	}
}

/* Forbidden since the region was made, so that its policy still has both. */
TEST_F(cpuset, preferred_node_that_became_forbidden_is_not_taken)
{
	const size_t length = 96 * CHUNK;
	struct dvsm_node_stats nodes[64];
	char both[32], last[16];
	int fd;

	snprintf(both, sizeof(both), "%d,%d", self->first, self->last);
	snprintf(last, sizeof(last), "%d", self->last);
	/* Where the forbidden one is near, by two CPUs at least. */
	node_run_on(self->first);
	ASSERT_EQ(0, cgroup_set(&self->cgroup, "cpuset.mems", both));
	fd = region_create_on(self->dev, length, 0, DVSM_POLICY_PREFERRED,
			      1ULL << self->first | 1ULL << self->last);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cgroup_set(&self->cgroup, "cpuset.mems", last));
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	ASSERT_EQ(0, region_nodes(fd, nodes, 64));
	EXPECT_EQ(length, nodes[self->last].out_resident);
}

TEST_F(cpuset, bind_to_a_forbidden_node_is_einval)
{
	EXPECT_EQ(-EINVAL, region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND,
					    1ULL << self->first));
	EXPECT_LE(0, region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND,
				      1ULL << self->first | 1ULL << self->last));
}

TEST_HARNESS_MAIN
