// SPDX-License-Identifier: GPL-2.0-only
/*
 * Policies by range, changed while the region lives: where memory comes from is
 * proven by move_pages(2) and numa_maps; what is refused is compared with mbind(2).
 */
#include <linux/mempolicy.h>
#include <signal.h>
#include <sys/syscall.h>

#include "snapshot.h"

#define LENGTH	(16 * CHUNK)
#define NR	16

FIXTURE(place) {
	int dev;
	int fd;			/* LOCAL, for a process on @first */
	char *map;
	int first, last;	/* two nodes with memory; @first has CPUs */
	uint64_t both;
};

static int first_node_with_both(void)
{
	uint64_t nodes = node_mask();

	while (nodes && node_run_on(__builtin_ctzll(nodes)))
		nodes &= nodes - 1;
	return nodes ? __builtin_ctzll(nodes) : -1;
}

static int last_node_but(int other)
{
	return 63 - __builtin_clzll(node_mask() & ~(1ULL << other));
}

FIXTURE_SETUP(place)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_NODES(2);
	self->first = first_node_with_both();
	ASSERT_LE(0, self->first);
	self->last = last_node_but(self->first);
	self->both = 1ULL << self->first | 1ULL << self->last;
	self->fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_LOCAL, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
}

FIXTURE_TEARDOWN_PARENT(place)
{
	param_set("limit_mb", 0);
	param_set("limit_user_mb", 0);
	EXPECT_NO_LEAK();
}

static int place_bind(int fd, int chunk, int nr, int node)
{
	return region_place(fd, chunk * CHUNK, nr * CHUNK, DVSM_POLICY_BIND, 1ULL << node, NULL);
}

/* The node that the first touch of a chunk gets. */
static int touch(char *map, int chunk)
{
	map[chunk * CHUNK + 3 * PAGE] = 1;
	return page_node_read(map + chunk * CHUNK + 3 * PAGE);
}

/* Pages of @node in the mapping at @map, as numa_maps tells; -1 without a line. */
static long numa_maps_pages(const void *map, int node)
{
	FILE *file = fopen("/proc/self/numa_maps", "re");
	char line[512], start[32], count[32], *at;
	long pages = -1;

	if (!file)
		return -1;
	snprintf(start, sizeof(start), "%lx ", (unsigned long)map);
	snprintf(count, sizeof(count), " N%d=", node);
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, start, strlen(start)))
			continue;
		at = strstr(line, count);
		pages = at ? strtol(at + strlen(count), NULL, 10) : 0;
		if (at && strstr(line, "kernelpagesize_kB=2048"))
			pages *= CHUNK_PAGES;
	}
	fclose(file);
	return pages;
}

TEST_F(place, range_has_its_policy_and_the_rest_keeps_its_own)
{
	int chunk;

	ASSERT_EQ(0, place_bind(self->fd, 4, 3, self->last));
	for (chunk = 0; chunk < NR; chunk++)
		EXPECT_EQ(chunk >= 4 && chunk < 7 ? self->last : self->first,
			  touch(self->map, chunk)) TH_LOG("chunk %d", chunk);
	EXPECT_EQ(3 * CHUNK_PAGES, numa_maps_pages(self->map, self->last));
	EXPECT_EQ(13 * CHUNK_PAGES, numa_maps_pages(self->map, self->first));
}

/* The node of the page at @addr as get_mempolicy(2) has it, which touches it; -errno. */
static int get_mempolicy_node(const void *addr)
{
	int node = -1;

	return syscall(SYS_get_mempolicy, &node, NULL, 0UL, addr, MPOL_F_NODE | MPOL_F_ADDR) ? -errno : node;
}

TEST_F(place, get_mempolicy_tells_the_node_that_move_pages_tells)
{
	int chunk;

	ASSERT_EQ(0, place_bind(self->fd, 4, 3, self->last));
	for (chunk = 0; chunk < NR; chunk++) {
		const char *page = self->map + chunk * CHUNK + chunk * 7 * PAGE;
		int expected = chunk >= 4 && chunk < 7 ? self->last : self->first;

		/* Every second one is there before. */
		if (chunk % 2)
			touch(self->map, chunk);
		EXPECT_EQ(expected, get_mempolicy_node(page)) TH_LOG("chunk %d", chunk);
		EXPECT_EQ(expected, page_node(page)) TH_LOG("chunk %d", chunk);
	}
	EXPECT_EQ(LENGTH, region_resident(self->fd));
}

TEST_F(place, every_way_of_allocating_obeys)
{
	struct dvsm_node_stats nodes[64];
	int chunk;

	ASSERT_EQ(0, place_bind(self->fd, 0, 4, self->last));
	EXPECT_EQ(1, pwrite(self->fd, "x", 1, 0));
	ASSERT_EQ(0, fallocate(self->fd, 0, CHUNK, CHUNK));
	ASSERT_EQ(0, region_populate(self->fd, 2 * CHUNK, 6 * CHUNK, NULL));
	ASSERT_EQ(0, region_nodes(self->fd, nodes, 64));
	EXPECT_EQ(4 * CHUNK, nodes[self->last].out_resident);
	EXPECT_EQ(4 * CHUNK, nodes[self->first].out_resident);
	for (chunk = 0; chunk < 8; chunk++) {
		EXPECT_EQ(0, read_at(self->map + chunk * CHUNK));
		EXPECT_EQ(chunk < 4 ? self->last : self->first,
			  page_node(self->map + chunk * CHUNK));
	}
}

TEST_F(place, populate_by_several_threads_obeys)
{
	int fd = region_create_on(self->dev, 128 * CHUNK, 0, DVSM_POLICY_LOCAL, 0);
	struct dvsm_chunk chunks[128];
	int i, nr;

	ASSERT_LE(0, fd);
	for (i = 0; i < 128; i += 2)
		ASSERT_EQ(0, place_bind(fd, i, 1, self->last));
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	nr = region_residency(fd, 0, 0, chunks, 128);
	ASSERT_EQ(128, nr);
	for (i = 0; i < nr; i++)
		EXPECT_EQ(i % 2 ? self->first : self->last, chunks[i].node);
}

TEST_F(place, what_is_resident_stays_and_what_comes_later_obeys)
{
	ASSERT_EQ(self->first, touch(self->map, 0));
	ASSERT_EQ(0, place_bind(self->fd, 0, 2, self->last));
	EXPECT_EQ(self->first, page_node(self->map));
	EXPECT_EQ(self->last, touch(self->map, 1));
	ASSERT_EQ(0, region_discard(self->fd, 0, CHUNK, NULL));
	EXPECT_EQ(self->last, touch(self->map, 0));
}

TEST_F(place, every_process_obeys_and_sees_a_change_at_once)
{
	struct barrier *barrier = barrier_make(2);
	pid_t pid;

	ASSERT_EQ(0, place_bind(self->fd, 0, 1, self->last));
	pid = child_start();
	if (!pid) {
		int ok = touch(self->map, 0) == self->last && touch(self->map, 1) == self->first;

		barrier_wait(barrier);
		barrier_wait(barrier);
		ok = ok && touch(self->map, 2) == self->last && touch(self->map, 3) == self->first;
		/* The child's own change is everybody's too. */
		ok = ok && !place_bind(self->fd, 4, 1, self->last);
		barrier_wait(barrier);
		_exit(!ok);
	}
	barrier_wait(barrier);
	ASSERT_EQ(0, place_bind(self->fd, 2, 1, self->last));
	barrier_wait(barrier);
	barrier_wait(barrier);
	EXPECT_EQ(self->last, touch(self->map, 4));
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(place, each_policy_works_in_a_range)
{
	static const uint8_t weights[64] = { [0 ... 63] = 2 };
	uint64_t far = 1ULL << self->last;
	int i;

	ASSERT_EQ(0, region_place(self->fd, 0, 2 * CHUNK, DVSM_POLICY_PREFERRED, far, NULL));
	ASSERT_EQ(0, region_place(self->fd, 2 * CHUNK, 2 * CHUNK, DVSM_POLICY_BIND, far, NULL));
	ASSERT_EQ(0, region_place(self->fd, 4 * CHUNK, 4 * CHUNK, DVSM_POLICY_INTERLEAVE,
				  self->both, NULL));
	ASSERT_EQ(0, region_place(self->fd, 8 * CHUNK, 4 * CHUNK, DVSM_POLICY_WEIGHTED_INTERLEAVE,
				  self->both, weights));
	ASSERT_EQ(0, region_place(self->fd, 12 * CHUNK, 2 * CHUNK, DVSM_POLICY_INHERIT, 0, NULL));
	ASSERT_EQ(0, syscall(SYS_set_mempolicy, MPOL_BIND, &far, 65UL));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(self->last, touch(self->map, i));
	for (i = 4; i < 8; i++)
		EXPECT_EQ((i % 2) == (self->first < self->last) ? self->last : self->first,
			  touch(self->map, i));
	for (i = 8; i < 12; i++)
		EXPECT_EQ((i % 4 >= 2) == (self->first < self->last) ? self->last : self->first,
			  touch(self->map, i));
	/* INHERIT follows the task, LOCAL does not. */
	EXPECT_EQ(self->last, touch(self->map, 12));
	EXPECT_EQ(self->last, touch(self->map, 13));
	EXPECT_EQ(self->first, touch(self->map, 14));
	EXPECT_EQ(10 * CHUNK_PAGES, numa_maps_pages(self->map, self->last));
}

TEST_F(place, populate_alone_where_a_range_inherits_a_task_policy)
{
	int fd = region_create_on(self->dev, 64 * CHUNK, 0, DVSM_POLICY_LOCAL, 0);
	uint64_t far = 1ULL << self->last;
	struct dvsm_node_stats nodes[64];

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_place(fd, 16 * CHUNK, 32 * CHUNK, DVSM_POLICY_INHERIT, 0, NULL));
	ASSERT_EQ(0, syscall(SYS_set_mempolicy, MPOL_BIND, &far, 65UL));
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	ASSERT_EQ(0, region_nodes(fd, nodes, 64));
	EXPECT_EQ(32 * CHUNK, nodes[self->last].out_resident);
}

TEST_F(place, weights_are_chunks_in_a_row)
{
	uint8_t weights[64] = {}, told[64];
	int lower = self->first < self->last ? self->first : self->last;
	int upper = self->first + self->last - lower, i;
	uint64_t nodes;

	weights[lower] = 3;
	weights[upper] = 1;
	ASSERT_EQ(0, region_place(self->fd, 0, 0, DVSM_POLICY_WEIGHTED_INTERLEAVE, self->both,
				  weights));
	for (i = 0; i < NR; i++)
		EXPECT_EQ(i % 4 == 3 ? upper : lower, touch(self->map, i)) TH_LOG("chunk %d", i);
	memset(told, 0xff, sizeof(told));
	EXPECT_EQ(DVSM_POLICY_WEIGHTED_INTERLEAVE,
		  region_place_query(self->fd, 0, &nodes, told, NULL, NULL));
	EXPECT_EQ(self->both, nodes);
	EXPECT_EQ(0, memcmp(weights, told, sizeof(told)));
}

TEST_F(place, without_weights_they_are_equal_and_zero_is_einval)
{
	const uint32_t weighted = DVSM_POLICY_WEIGHTED_INTERLEAVE;
	uint8_t weights[64] = {}, told[64];
	uint64_t nodes;
	int i;

	ASSERT_EQ(0, region_place(self->fd, 0, 0, weighted, self->both, NULL));
	for (i = 1; i < NR; i++)
		EXPECT_NE(touch(self->map, i - 1), touch(self->map, i));
	EXPECT_EQ(weighted, region_place_query(self->fd, 0, &nodes, told, NULL, NULL));
	EXPECT_EQ(1, told[self->first]);
	EXPECT_EQ(1, told[self->last]);

	EXPECT_EQ(-EINVAL, region_place(self->fd, 0, 0, weighted, self->both, weights));
	weights[self->first] = 1;
	EXPECT_EQ(-EINVAL, region_place(self->fd, 0, 0, weighted, self->both, weights));
	weights[self->last] = 255;
	EXPECT_EQ(0, region_place(self->fd, 0, 0, weighted, self->both, weights));
	/* Weights without a set, or for another policy. */
	EXPECT_EQ(-EINVAL, region_place(self->fd, 0, 0, weighted, 0, weights));
	EXPECT_EQ(-EINVAL, region_place(self->fd, 0, 0, DVSM_POLICY_INTERLEAVE, self->both,
					weights));
	EXPECT_EQ(-EFAULT, region_place(self->fd, 0, 0, weighted, self->both, (uint8_t *)1));
}

TEST_F(place, region_can_be_made_with_weights)
{
	uint8_t weights[64] = { [0 ... 63] = 2 };
	struct dvsm_region_create create = {
		.size = sizeof(create),
		.length = LENGTH,
		.policy = DVSM_POLICY_WEIGHTED_INTERLEAVE,
		.nr_nodes = 64,
		.nodes = (uintptr_t)&self->both,
		.weights = (uintptr_t)weights,
	};
	struct dvsm_region_info info;
	char *map;
	int fd, i;

	fd = ioctl(self->dev, DVSM_IOC_REGION_CREATE, &create);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(DVSM_POLICY_WEIGHTED_INTERLEAVE, info.out_policy);
	map = region_map(fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < NR; i += 2) {
		EXPECT_EQ(touch(map, i), touch(map, i + 1));
		EXPECT_NE(page_node(map + i * CHUNK), touch(map, (i + 2) % NR));
	}
	/* A caller who knows no weights. */
	create.size = offsetof(struct dvsm_region_create, weights);
	EXPECT_LE(0, ioctl(self->dev, DVSM_IOC_REGION_CREATE, &create));
}

/* Many changes, told and obeyed as an array of chunks would have it. */
TEST_F(place, last_policy_that_a_chunk_was_given_counts)
{
	static const uint32_t policies[] = {
		DVSM_POLICY_LOCAL, DVSM_POLICY_PREFERRED, DVSM_POLICY_INTERLEAVE, DVSM_POLICY_BIND,
	};
	struct { uint32_t policy; uint64_t nodes; } model[NR];
	unsigned int seed = 7;
	int round, i;

	for (i = 0; i < NR; i++) {
		model[i].policy = DVSM_POLICY_LOCAL;
		model[i].nodes = 0;
	}
	for (round = 0; round < 3000; round++) {
		int first = rand_r(&seed) % NR, nr = 1 + rand_r(&seed) % (NR - first);
		uint32_t policy = policies[rand_r(&seed) % ARRAY_SIZE(policies)];
		uint64_t nodes = rand_r(&seed) % 2 ? 1ULL << self->last : self->both;
		uint64_t told, start, end;

		if (policy == DVSM_POLICY_LOCAL)
			nodes = 0;
		ASSERT_EQ(0, region_place(self->fd, first * CHUNK, nr * CHUNK, policy, nodes,
					  NULL));
		for (i = first; i < first + nr; i++) {
			model[i].policy = policy;
			model[i].nodes = nodes;
		}
		for (i = 0; i < NR; i++) {
			ASSERT_EQ(model[i].policy, region_place_query(self->fd, i * CHUNK + 5,
								      &told, NULL, &start, &end))
				TH_LOG("round %d chunk %d", round, i);
			ASSERT_EQ(model[i].nodes, told) TH_LOG("round %d chunk %d", round, i);
			ASSERT_LE(start, i * CHUNK);
			ASSERT_LT(i * CHUNK, end);
			/* What is told for a range is true for all of it. */
			for (first = start / CHUNK; first < end / CHUNK; first++) {
				ASSERT_EQ(model[i].policy, model[first].policy);
				ASSERT_EQ(model[i].nodes, model[first].nodes);
			}
		}
	}
	for (i = 0; i < NR; i++) {
		int node = touch(self->map, i);

		if (model[i].policy == DVSM_POLICY_LOCAL) {
			EXPECT_EQ(self->first, node);
		} else {
			EXPECT_NE(0, model[i].nodes >> node & 1);
		}
	}
}

TEST_F(place, whole_region_at_once_ends_all_ranges)
{
	struct dvsm_region_info info;
	uint64_t start, end;
	int i;

	for (i = 0; i < NR; i += 2)
		ASSERT_EQ(0, place_bind(self->fd, i, 1, self->first));
	ASSERT_EQ(0, place_bind(self->fd, 0, 0, self->last));
	EXPECT_EQ(DVSM_POLICY_BIND, region_place_query(self->fd, 5 * CHUNK, NULL, NULL, &start,
						       &end));
	EXPECT_EQ(0, start);
	EXPECT_EQ(LENGTH, end);
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(DVSM_POLICY_BIND, info.out_policy);
	for (i = 0; i < NR; i++)
		EXPECT_EQ(self->last, touch(self->map, i));
}

TEST_F(place, ranges_are_chunks_or_reach_the_end)
{
	int fd = region_create(self->dev, 2 * CHUNK + 3 * PAGE, 0);
	uint64_t end;

	ASSERT_LE(0, fd);
	EXPECT_EQ(-EINVAL, region_place(fd, PAGE, CHUNK, DVSM_POLICY_LOCAL, 0, NULL));
	EXPECT_EQ(-EINVAL, region_place(fd, 0, PAGE, DVSM_POLICY_LOCAL, 0, NULL));
	EXPECT_EQ(-EINVAL, region_place(fd, 0, 3 * CHUNK, DVSM_POLICY_LOCAL, 0, NULL));
	EXPECT_EQ(-EINVAL, region_place(fd, 4 * CHUNK, 0, DVSM_POLICY_LOCAL, 0, NULL));
	EXPECT_EQ(-EINVAL, region_place(fd, -CHUNK, 2 * CHUNK, DVSM_POLICY_LOCAL, 0, NULL));
	EXPECT_EQ(-EINVAL, region_place(fd, 0, 0, DVSM_POLICY_BIND, 0, NULL));
	EXPECT_EQ(-EINVAL, region_place(fd, 0, 0, DVSM_POLICY_LOCAL, 1, NULL));
	EXPECT_EQ(-EOPNOTSUPP, region_place(fd, 0, 0, DVSM_POLICY_WEIGHTED_INTERLEAVE + 1, 0,
					    NULL));
	EXPECT_EQ(0, region_place(fd, CHUNK, CHUNK + 3 * PAGE, DVSM_POLICY_LOCAL, 0, NULL));
	EXPECT_EQ(DVSM_POLICY_LOCAL, region_place_query(fd, 2 * CHUNK + PAGE, NULL, NULL, NULL,
							&end));
	EXPECT_EQ(2 * CHUNK + 3 * PAGE, end);
	EXPECT_EQ(0, region_place(fd, 2 * CHUNK, 0, DVSM_POLICY_INTERLEAVE, 0, NULL));
	EXPECT_EQ(DVSM_POLICY_INTERLEAVE, region_place_query(fd, 2 * CHUNK, NULL, NULL, NULL,
							     NULL));
	EXPECT_EQ(-EINVAL, region_place_query(fd, 2 * CHUNK + 3 * PAGE, NULL, NULL, NULL, NULL));
}

TEST_F(place, read_only_descriptor_can_ask_and_not_set)
{
	int read_only = region_reopen(self->fd, DVSM_REOPEN_F_READ_ONLY);

	ASSERT_LE(0, read_only);
	EXPECT_EQ(-EBADF, place_bind(read_only, 0, 1, self->last));
	EXPECT_EQ(DVSM_POLICY_LOCAL, region_place_query(read_only, 0, NULL, NULL, NULL, NULL));
	EXPECT_EQ(self->first, touch(self->map, 0));
}

TEST_F(place, answer_is_cut_to_the_room_that_the_caller_has)
{
	uint64_t words[3] = { 0x5a5a, 0x5a5a, 0x5a5a };
	struct dvsm_region_place arg = {
		.size = sizeof(arg),
		.flags = DVSM_PLACE_F_QUERY,
		.nodes = (uintptr_t)words,
	};

	ASSERT_EQ(0, region_place(self->fd, 0, 0, DVSM_POLICY_INTERLEAVE, self->both, NULL));
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_PLACE, &arg));
	EXPECT_EQ(0x5a5a, words[0]);
	EXPECT_EQ(64 - __builtin_clzll(self->both), arg.out_nr_nodes);
	arg.nr_nodes = 1;
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_PLACE, &arg));
	EXPECT_EQ(self->both & 1, words[0]);
	EXPECT_EQ(0x5a5a, words[1]);
	arg.nr_nodes = 128;
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_PLACE, &arg));
	EXPECT_EQ(self->both, words[0]);
	EXPECT_EQ(0, words[1]);
	EXPECT_EQ(0x5a5a, words[2]);
	arg.nodes = 1;
	EXPECT_EQ(-1, ioctl(self->fd, DVSM_IOC_REGION_PLACE, &arg));
	EXPECT_EQ(EFAULT, errno);
	arg.nodes = 0;
	arg.length = CHUNK;
	EXPECT_EQ(-1, ioctl(self->fd, DVSM_IOC_REGION_PLACE, &arg));
	EXPECT_EQ(EINVAL, errno);
}

/* The same set given to the kernel for memory of this process, and to the region. */
static void expect_answers_of_mbind(struct __test_metadata *_metadata, int fd)
{
	static const struct { uint32_t policy; int mode; } pairs[] = {
		{ DVSM_POLICY_BIND, MPOL_BIND },
		{ DVSM_POLICY_PREFERRED, MPOL_PREFERRED },
		{ DVSM_POLICY_INTERLEAVE, MPOL_INTERLEAVE },
	};
	void *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t nodes;
	size_t i;

	ASSERT_NE(MAP_FAILED, own);
	/* All sets of nodes 0 to 5, and nodes that the machine cannot have. */
	for (nodes = 1; nodes < 256; nodes++) {
		uint64_t set = (nodes & 63) | (nodes >> 6 & 1) << 40 | (nodes >> 7) << 62;

		for (i = 0; i < ARRAY_SIZE(pairs); i++) {
			int theirs = syscall(SYS_mbind, own, PAGE, pairs[i].mode, &set, 65UL, 0)
				     ? -errno : 0;

			EXPECT_EQ(theirs, region_place(fd, 0, CHUNK, pairs[i].policy, set, NULL))
				TH_LOG("policy %u set %#llx", pairs[i].policy,
				       (unsigned long long)set);
		}
	}
}

TEST_F(place, node_sets_get_the_answers_of_mbind)
{
	expect_answers_of_mbind(_metadata, self->fd);
}

TEST_F(place, node_without_memory_does_not_change_where_it_goes)
{
	uint64_t none = ~node_mask() & 0xffff;

	ASSERT_EQ(0, region_place(self->fd, 0, 0, DVSM_POLICY_INTERLEAVE, self->both | none,
				  NULL));
	EXPECT_NE(touch(self->map, 0), touch(self->map, 1));
	ASSERT_EQ(0, region_place(self->fd, 0, 0, DVSM_POLICY_PREFERRED,
				  1ULL << self->last | none, NULL));
	EXPECT_EQ(self->last, touch(self->map, 2));
}

TEST_F(place, mapping_s_own_binding_comes_before_the_range_s)
{
	unsigned long near = 1UL << self->first;

	ASSERT_EQ(0, place_bind(self->fd, 0, 4, self->last));
	ASSERT_EQ(0, syscall(SYS_mbind, self->map, CHUNK, MPOL_BIND, &near, 65UL, 0U));
	EXPECT_EQ(self->first, touch(self->map, 0));
	EXPECT_EQ(self->last, touch(self->map, 1));
	/* And with MPOL_DEFAULT no longer. */
	ASSERT_EQ(0, region_discard(self->fd, 0, CHUNK, NULL));
	ASSERT_EQ(0, syscall(SYS_mbind, self->map, CHUNK, MPOL_DEFAULT, NULL, 0UL, 0U));
	EXPECT_EQ(self->last, touch(self->map, 0));
}

TEST_F(place, cpu_without_memory_gets_the_nearest_node)
{
	uint64_t with_memory = node_mask();
	int node, own;

	for (node = 0; node < 64; node++)
		if (!(with_memory >> node & 1) && !node_run_on(node))
			break;
	if (node == 64)
		SKIP(return, "no node with CPUs and without memory");
	own = touch(self->map, 0);
	EXPECT_NE(0, with_memory >> own & 1);
	EXPECT_EQ(self->last, place_bind(self->fd, 1, 1, self->last) ? -1 : touch(self->map, 1));
	EXPECT_EQ(-EINVAL, place_bind(self->fd, 1, 1, node));
}

TEST_F(place, snapshot_begins_with_its_parent_s_policies)
{
	uint64_t start, end;
	int snapshot;
	char *copy;

	ASSERT_EQ(0, place_bind(self->fd, 2, 2, self->last));
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	/* What the parent gets later is the parent's, and the other way round. */
	ASSERT_EQ(0, place_bind(self->fd, 4, 2, self->last));
	ASSERT_EQ(0, place_bind(snapshot, 6, 2, self->last));
	EXPECT_EQ(DVSM_POLICY_BIND, region_place_query(snapshot, 2 * CHUNK, NULL, NULL, &start,
						       &end));
	EXPECT_EQ(2 * CHUNK, start);
	EXPECT_EQ(4 * CHUNK, end);
	copy = region_map(snapshot, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, copy);
	EXPECT_EQ(self->last, touch(copy, 2));
	EXPECT_EQ(self->first, touch(copy, 4));
	EXPECT_EQ(self->last, touch(copy, 6));
	EXPECT_EQ(self->last, touch(self->map, 4));
	EXPECT_EQ(self->first, touch(self->map, 6));
}

/* Whatever place the copy gets, a region's own or one that nobody opens. */
TEST_F(place, copies_for_a_write_obey_the_range)
{
	int snapshots[3], i, chunk;
	char *maps[3];

	for (chunk = 0; chunk < 4; chunk++)
		ASSERT_EQ(self->first, touch(self->map, chunk));
	for (i = 0; i < 3; i++) {
		snapshots[i] = snapshot_take(self->fd);
		ASSERT_LE(0, snapshots[i]);
		maps[i] = region_map(snapshots[i], LENGTH, 0);
		ASSERT_NE(MAP_FAILED, maps[i]);
		ASSERT_EQ(0, place_bind(snapshots[i], 0, 2, self->last));
	}
	/* The parent writes: it keeps its folio, and the snapshots' copy goes elsewhere. */
	self->map[0] = 2;
	EXPECT_EQ(self->first, page_node(self->map));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, maps[i][0]);
		EXPECT_EQ(self->last, page_node(maps[i]));
	}
	/* A snapshot writes. */
	EXPECT_EQ(self->last, touch(maps[1], 0));
	EXPECT_EQ(self->last, touch(maps[1], 1));
	EXPECT_EQ(self->first, touch(maps[1], 2));
}

TEST_F(place, copied_pages_obey_the_range)
{
	int snapshot;
	char *copy;

	self->map[0] = 1;
	self->map[CHUNK] = 1;
	snapshot = snapshot_take_in_parts(self->fd, PAGE, 0);
	ASSERT_LE(0, snapshot);
	copy = region_map(snapshot, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, copy);
	ASSERT_EQ(0, place_bind(snapshot, 0, 1, self->last));
	copy[PAGE] = 3;
	copy[CHUNK + PAGE] = 3;
	EXPECT_EQ(self->last, page_node(copy + PAGE));
	EXPECT_EQ(self->first, page_node(copy + CHUNK + PAGE));
	EXPECT_EQ(1, copy[0]);
	EXPECT_EQ(self->first, page_node(copy));
}

static int node_distance(int from, int to)
{
	char path[64], text[256], *at = text;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/distance", from);
	if (read_text(path, text, sizeof(text)))
		return -1;
	/* One number for each node that is online, from 0. */
	while (to--)
		strtol(at, &at, 10);
	return strtol(at, NULL, 10);
}

/* A region that holds all of a node's memory. */
static int fill_node(int dev, int node)
{
	int fd = region_create_on(dev, 64 * GIB, 0, DVSM_POLICY_BIND, 1ULL << node);

	return fd < 0 || region_populate(fd, 0, 0, NULL) != -ENOMEM ? -1 : fd;
}

#define FULL_TRIES	20	/* the kernel gives memory back at any time */

/* The region that has filled a node, or those that have filled two; else -1. */
struct full {
	int fds[2];
	uint64_t nodes;
};

/* Empties chunks, and lets @full take all that its nodes have got back. */
static void fill_again(const struct full *full, int fd, int chunk, int nr)
{
	int i;

	region_discard(fd, chunk * CHUNK, nr * CHUNK, NULL);
	for (i = 0; i < 2; i++)
		region_populate(full->fds[i], 0, 0, NULL);
}

/* Populates chunks that are bound to a full node. */
static int populate_at_full(const struct full *full, int fd, int chunk, int nr, uint64_t *populated)
{
	int tries, ret = 0;

	for (tries = 0; tries < FULL_TRIES && !ret; tries++) {
		fill_again(full, fd, chunk, nr);
		ret = region_populate(fd, chunk * CHUNK, nr * CHUNK, populated);
	}
	return ret;
}

/* Writes to a chunk that is bound to a full node. */
static int write_at_full(const struct full *full, int fd, char *map, int chunk)
{
	int tries, ret = 0;

	for (tries = 0; tries < FULL_TRIES && ret != SIGBUS; tries++) {
		fill_again(full, fd, chunk, 1);
		ret = write_at(map + chunk * CHUNK, 1);
	}
	return ret;
}

/* Where a chunk comes to lie that may lie elsewhere than on a full node. */
static int touch_at_full(const struct full *full, int fd, char *map, int chunk)
{
	int tries, got;

	for (tries = 0; tries < FULL_TRIES; tries++) {
		fill_again(full, fd, chunk, 1);
		got = touch(map, chunk);
		if (got < 0 || !(full->nodes >> got & 1))
			break;
	}
	return got;
}

TEST_F(place, full_node_is_enomem_when_bound_and_the_next_one_when_preferred)
{
	struct dvsm_node_stats nodes[64];
	struct full full = { { fill_node(self->dev, self->first), -1 }, 1ULL << self->first };
	int got, near = 1000, node;
	uint64_t populated;

	ASSERT_LE(0, full.fds[0]);
	for (node = 0; node < 64; node++)
		if (node != self->first && node_mask() >> node & 1 &&
		    node_distance(self->first, node) < near)
			near = node_distance(self->first, node);

	ASSERT_EQ(0, place_bind(self->fd, 0, 4, self->first));
	EXPECT_EQ(-ENOMEM, populate_at_full(&full, self->fd, 0, 2, &populated));
	EXPECT_GT(2 * CHUNK, populated);
	EXPECT_EQ(SIGBUS, write_at_full(&full, self->fd, self->map, 3));

	ASSERT_EQ(0, region_place(self->fd, 4 * CHUNK, 2 * CHUNK, DVSM_POLICY_PREFERRED,
				  1ULL << self->first, NULL));
	got = touch_at_full(&full, self->fd, self->map, 4);
	EXPECT_NE(self->first, got);
	EXPECT_EQ(near, node_distance(self->first, got));
	ASSERT_EQ(0, region_nodes(self->fd, nodes, 64));
	EXPECT_LT(0, nodes[self->first].out_nr_misses);

	/* Local and interleaved memory goes on elsewhere too. */
	got = touch_at_full(&full, self->fd, self->map, 6);
	EXPECT_EQ(near, node_distance(self->first, got));
	ASSERT_EQ(0, region_place(self->fd, 8 * CHUNK, 4 * CHUNK, DVSM_POLICY_INTERLEAVE,
				  self->both, NULL));
	for (node = 8; node < 12; node++)
		EXPECT_NE(self->first, touch_at_full(&full, self->fd, self->map, node));
	/* Bound to two nodes of which one is full. */
	ASSERT_EQ(0, region_place(self->fd, 12 * CHUNK, 0, DVSM_POLICY_BIND, self->both, NULL));
	EXPECT_EQ(self->last, touch_at_full(&full, self->fd, self->map, 12));
	close(full.fds[0]);
}

/* Waits for a worker of the kernel's, which takes memory along when a cpuset changes. */
static bool page_comes_to(const char *page, int node)
{
	unsigned long end = clock_ms() + 60000;

	do {
		read_at(page);
		if (page_node(page) == node)
			return true;
		sleep_ms(10);
	} while (clock_ms() < end);
	return false;
}

static void obey_changing_cpuset(struct __test_metadata *_metadata, FIXTURE_DATA(place) *self,
				 const struct cgroup *cgroup)
{
	int pinned, upper = self->first > self->last ? self->first : self->last;
	int lower = self->first + self->last - upper;
	char first[16], last[16], both[36];
	char *stays;

	snprintf(first, sizeof(first), "%d", self->first);
	snprintf(last, sizeof(last), "%d", self->last);
	snprintf(both, sizeof(both), "%d,%d", self->first, self->last);
	ASSERT_EQ(0, region_place(self->fd, 0, 8 * CHUNK, DVSM_POLICY_INTERLEAVE, self->both, NULL));
	ASSERT_EQ(0, cgroup_set(cgroup, "cpuset.mems", first));
	ASSERT_EQ(0, cgroup_enter(cgroup));
	stamp(self->map, 2 * CHUNK, 1);
	EXPECT_EQ(self->first, page_node(self->map));
	EXPECT_EQ(self->first, page_node(self->map + CHUNK));
	EXPECT_EQ(self->first, touch(self->map, 8));
	pinned = region_create_on(self->dev, CHUNK, DVSM_REGION_F_PINNED, DVSM_POLICY_LOCAL, 0);
	ASSERT_LE(0, pinned);
	stays = region_map(pinned, CHUNK, 0);
	EXPECT_EQ(self->first, touch(stays, 0));

	ASSERT_EQ(0, cgroup_set(cgroup, "cpuset.mems", both));
	EXPECT_EQ(lower, touch(self->map, 2));
	EXPECT_EQ(upper, touch(self->map, 3));
	EXPECT_EQ(self->first, touch(self->map, 9));

	ASSERT_EQ(0, cgroup_set(cgroup, "cpuset.mems", last));
	EXPECT_EQ(self->last, touch(self->map, 4));
	EXPECT_EQ(self->last, touch(self->map, 5));
	EXPECT_EQ(self->last, touch(self->map, 10));
	EXPECT_EQ(1, pwrite(self->fd, "x", 1, 11 * CHUNK));
	EXPECT_EQ(0, region_populate(self->fd, 6 * CHUNK, 2 * CHUNK, NULL));
	EXPECT_EQ(self->last, touch(self->map, 6));
	EXPECT_EQ(self->last, touch(self->map, 7));
	EXPECT_EQ(self->last, touch(self->map, 11));
	/* What was there is taken along, as by migrate_pages(2); what is pinned is not. */
	EXPECT_TRUE(page_comes_to(self->map, self->last));
	EXPECT_TRUE(page_comes_to(self->map + CHUNK, self->last));
	EXPECT_EQ(0, stamps_wrong(self->map, 2 * CHUNK, 1));
	EXPECT_EQ(self->first, page_node_read(stays));
}

TEST_F(place, cpuset_that_changes_is_obeyed_from_then_on)
{
	struct cgroup cgroup;
	pid_t pid;

	NEED_CGROUP(&cgroup, "place");
	pid = child_start();
	if (!pid) {
		obey_changing_cpuset(_metadata, self, &cgroup);
		_exit(_metadata->exit_code);
	}
	EXPECT_EQ(0, child_wait(pid));
	cgroup_remove(&cgroup);
}

/* Any way of allocating, of four chunks from @chunk on; how many of them are on @node. */
static int allocate_on(int fd, char *map, int chunk, int node)
{
	int nr = touch(map, chunk) == node, i;

	if (pwrite(fd, "x", 1, (chunk + 1) * CHUNK) != 1 ||
	    fallocate(fd, 0, (chunk + 2) * CHUNK, CHUNK) ||
	    region_populate(fd, (chunk + 3) * CHUNK, CHUNK, NULL))
		return -1;
	for (i = chunk + 1; i < chunk + 4; i++)
		nr += !read_at(map + i * CHUNK) && page_node(map + i * CHUNK) == node;
	return nr;
}

/* The same beside a full node. */
static int allocate_on_at_full(const struct full *full, int fd, char *map, int chunk, int node)
{
	int tries, nr = 0;

	for (tries = 0; tries < FULL_TRIES && nr != 4; tries++) {
		fill_again(full, fd, chunk, 4);
		nr = allocate_on(fd, map, chunk, node);
	}
	return nr;
}

/* The set is the toucher's node and the one that is farthest by number: others are nearer to it. */
TEST_F(place, full_node_of_a_preferred_set_gives_way_to_the_set_and_then_to_the_nearest)
{
	uint64_t outside = node_mask() & ~self->both;
	struct full full = { { -1, -1 }, 1ULL << self->first };
	int node, near = 1000, got;

	ASSERT_EQ(0, region_place(self->fd, 0, 0, DVSM_POLICY_PREFERRED, self->both, NULL));
	EXPECT_EQ(4, allocate_on(self->fd, self->map, 0, self->first));
	full.fds[0] = fill_node(self->dev, self->first);
	ASSERT_LE(0, full.fds[0]);
	EXPECT_EQ(4, allocate_on_at_full(&full, self->fd, self->map, 4, self->last));
	if (!outside) {
		close(full.fds[0]);
		return;		/* a third node is there in check.sh's second machine */
	}

	for (node = 0; node < 64; node++)
		if (outside >> node & 1 && node_distance(self->first, node) < near)
			near = node_distance(self->first, node);
	/* By default regions may hold half of the memory. */
	ASSERT_EQ(0, param_set("limit_mb", 1 << 20));
	ASSERT_EQ(0, param_set("limit_user_mb", 1 << 20));
	full.fds[1] = fill_node(self->dev, self->last);
	ASSERT_LE(0, full.fds[1]);
	full.nodes = self->both;
	got = touch_at_full(&full, self->fd, self->map, 8);
	EXPECT_NE(0, outside >> got & 1);
	EXPECT_EQ(near, node_distance(self->first, got));
	EXPECT_EQ(4, allocate_on_at_full(&full, self->fd, self->map, 12, got));
	close(full.fds[0]);
	close(full.fds[1]);
}

FIXTURE(place_cpuset) {
	int dev;
	int fd;
	char *map;
	struct cgroup cgroup;
	int first, last;
};

FIXTURE_SETUP(place_cpuset)
{
	char nodes[16];

	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_NODES(2);
	NEED_CGROUP(&self->cgroup, "place");
	self->first = first_node_with_both();
	self->last = last_node_but(self->first);
	self->fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_LOCAL, 0);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	/* Set from outside of the cpuset. */
	ASSERT_EQ(0, place_bind(self->fd, 0, 2, self->first));
	ASSERT_EQ(0, region_place(self->fd, 2 * CHUNK, 2 * CHUNK, DVSM_POLICY_PREFERRED,
				  1ULL << self->first, NULL));
	ASSERT_EQ(0, region_place(self->fd, 4 * CHUNK, 2 * CHUNK, DVSM_POLICY_BIND,
				  1ULL << self->first | 1ULL << self->last, NULL));
	ASSERT_EQ(0, region_place(self->fd, 6 * CHUNK, 2 * CHUNK, DVSM_POLICY_INTERLEAVE, 0,
				  NULL));
	ASSERT_EQ(0, region_place(self->fd, 8 * CHUNK, 2 * CHUNK, DVSM_POLICY_INHERIT, 0, NULL));
	snprintf(nodes, sizeof(nodes), "%d", self->last);
	if (cgroup_set(&self->cgroup, "cpuset.mems", nodes))
		SKIP(return, "no cpuset controller in cgroup2");
	ASSERT_EQ(0, cgroup_enter(&self->cgroup));
}

FIXTURE_TEARDOWN_PARENT(place_cpuset)
{
	cgroup_remove(&self->cgroup);
	EXPECT_NO_LEAK();
}

TEST_F(place_cpuset, toucher_s_cpuset_is_obeyed_in_every_range)
{
	int chunk;

	/* Also in the first ones, bound elsewhere: the kernel drops a binding then, too. */
	for (chunk = 0; chunk < NR; chunk++)
		EXPECT_EQ(self->last, touch(self->map, chunk)) TH_LOG("chunk %d", chunk);
}

TEST_F(place_cpuset, binding_that_it_rules_out_is_answered_as_by_mbind)
{
	unsigned long elsewhere = 1UL << self->first, here = 1UL << self->last;
	char *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, own);
	EXPECT_EQ(-1, syscall(SYS_mbind, own, PAGE, MPOL_BIND, &elsewhere, 65UL, 0U));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-EINVAL, place_bind(self->fd, 0, 1, self->first));
	EXPECT_EQ(0, syscall(SYS_mbind, own, PAGE, MPOL_BIND, &here, 65UL, 0U));
	EXPECT_EQ(0, place_bind(self->fd, 0, 1, self->last));
}

TEST_F(place_cpuset, populate_obeys_it_too)
{
	struct dvsm_node_stats nodes[64];

	ASSERT_EQ(0, region_populate(self->fd, 0, 0, NULL));
	ASSERT_EQ(0, region_nodes(self->fd, nodes, 64));
	EXPECT_EQ(LENGTH, nodes[self->last].out_resident);
}

TEST_F(place_cpuset, node_sets_get_the_answers_of_mbind)
{
	expect_answers_of_mbind(_metadata, self->fd);
}

TEST_HARNESS_MAIN
