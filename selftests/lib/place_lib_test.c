// SPDX-License-Identifier: GPL-2.0-only
/*
 * The library's calls for what memory is made of, and node sets that libnuma itself has
 * made. It is loaded if it is there; nothing here needs it to be built.
 */
#include <dlfcn.h>

#include "kselftest_harness.h"
#include "lib_test.h"

#define LENGTH	(4 * CHUNK)

FIXTURE(device) {
	struct dvsm_region *region;
	char *map;
};

FIXTURE_SETUP(device)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = DVSM_BACKEND_DEVICE,
	};

	if (access(DVSM_DEVICE_PATH, F_OK))
		SKIP(return, "no /dev/dvsm (load the module)");
	self->region = dvsm_region_create(LENGTH, &options);
	ASSERT_NE(NULL, self->region);
	self->map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, self->map);
}

FIXTURE_TEARDOWN(device)
{
	dvsm_region_destroy(self->region);
}

/* The first pages of each chunk; all others are zeroes. */
static void write_some(char *map)
{
	size_t at;

	for (at = 0; at < LENGTH; at += PAGE)
		if (at % CHUNK < 9 * PAGE)
			memset(map + at, 1 + at / PAGE % 100, PAGE);
}

static bool is_written(const char *map)
{
	size_t at;

	for (at = 0; at < LENGTH; at++)
		if (map[at] != (at % CHUNK < 9 * PAGE ? (char)(1 + at / PAGE % 100) : 0))
			return false;
	return true;
}

TEST_F(device, promoted_chunks_are_mapped_whole_again_by_remap)
{
	struct dvsm_region_promote promote = { .size = sizeof(promote) };
	struct dvsm_region_split split = { .size = sizeof(split) };
	struct dvsm_region_info info = { .size = sizeof(info) };

	write_some(self->map);
	ASSERT_EQ(LENGTH, smaps_sum(self->map, LENGTH, "FilePmdMapped"));
	ASSERT_EQ(0, dvsm_region_split(self->region, &split));
	ASSERT_EQ(LENGTH / CHUNK, split.out_nr_split);
	EXPECT_EQ(LENGTH - LENGTH / CHUNK * 9 * PAGE, split.out_freed);
	/* Looking gives the holes memory, too. */
	EXPECT_TRUE(is_written(self->map));
	EXPECT_EQ(0, smaps_sum(self->map, LENGTH, "FilePmdMapped"));

	ASSERT_EQ(0, dvsm_region_promote(self->region, &promote));
	ASSERT_EQ(LENGTH / CHUNK, promote.out_nr_promoted);
	ASSERT_EQ(0, dvsm_region_info(self->region, &info));
	EXPECT_EQ(LENGTH, info.out_resident_huge);
	ASSERT_EQ(0, dvsm_region_remap(self->region, self->map, 0));
	EXPECT_TRUE(is_written(self->map));
	EXPECT_EQ(LENGTH, smaps_sum(self->map, LENGTH, "FilePmdMapped"));
	self->map[CHUNK] = 77;
	EXPECT_EQ(77, self->map[CHUNK]);
}

TEST(memfd_can_neither_promote_nor_split)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = DVSM_BACKEND_MEMFD,
	};
	struct dvsm_region_promote promote = { .size = sizeof(promote) };
	struct dvsm_region_split split = { .size = sizeof(split) };
	struct dvsm_region *region = dvsm_region_create(CHUNK, &options);

	ASSERT_NE(NULL, region);
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_promote(region, &promote));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_split(region, &split));
	dvsm_region_destroy(region);
}

/* What a program with <numa.h> would call. */
FIXTURE(libnuma) {
	void *library;
	struct bitmask *(*allocate)(void);		/* numa_allocate_nodemask */
	struct bitmask *(*set)(struct bitmask *, unsigned int);
	struct bitmask *(*clear)(struct bitmask *);
	struct bitmask *(*parse)(const char *);		/* numa_parse_nodestring */
	void (*free)(struct bitmask *);
	struct bitmask *with_memory;			/* numa_all_nodes_ptr */
	struct dvsm_region *region;
	char *map;
	int first, last;				/* nodes with memory */
};

FIXTURE_VARIANT(libnuma) {
	uint32_t backend;
};

FIXTURE_VARIANT_ADD(libnuma, device) { .backend = DVSM_BACKEND_DEVICE };
FIXTURE_VARIANT_ADD(libnuma, memfd_4k) { .backend = DVSM_BACKEND_MEMFD_4K };

FIXTURE_SETUP(libnuma)
{
	struct dvsm_region_options options = { .size = sizeof(options), .backend = variant->backend };
	int (*available)(void), (*has)(const struct bitmask *, unsigned int), node;
	struct bitmask **all;

	self->library = dlopen("libnuma.so.1", RTLD_NOW);
	if (!self->library)
		SKIP(return, "no libnuma.so.1");
	*(void **)&available = dlsym(self->library, "numa_available");
	*(void **)&has = dlsym(self->library, "numa_bitmask_isbitset");
	*(void **)&self->allocate = dlsym(self->library, "numa_allocate_nodemask");
	*(void **)&self->set = dlsym(self->library, "numa_bitmask_setbit");
	*(void **)&self->clear = dlsym(self->library, "numa_bitmask_clearall");
	*(void **)&self->parse = dlsym(self->library, "numa_parse_nodestring");
	*(void **)&self->free = dlsym(self->library, "numa_bitmask_free");
	all = dlsym(self->library, "numa_all_nodes_ptr");
	ASSERT_TRUE(available && has && self->allocate && self->set && self->clear &&
		    self->parse && self->free && all);
	if (available() < 0)
		SKIP(return, "no NUMA, says libnuma");
	self->with_memory = *all;
	self->first = self->last = -1;
	for (node = 0; node < 64; node++) {
		if (!has(self->with_memory, node))
			continue;
		if (self->first < 0)
			self->first = node;
		self->last = node;
	}
	self->region = dvsm_region_create(LENGTH, &options);
	if (!self->region)
		SKIP(return, "no %s: %s", dvsm_backend_name(variant->backend), strerror(errno));
	self->map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, self->map);
}

FIXTURE_TEARDOWN(libnuma)
{
	dvsm_region_destroy(self->region);
}

/* A move leaves no mapping behind. */
static int node_of_touched(char *at)
{
	*(volatile char *)at = 2;
	return node_of(at);
}

TEST_F(libnuma, its_own_sets_say_where_memory_goes)
{
	struct bitmask *nodes = self->allocate(), *parsed;
	char text[16];
	int i;

	ASSERT_NE(NULL, nodes);
	snprintf(text, sizeof(text), "%d", self->first);
	parsed = self->parse(text);
	ASSERT_NE(NULL, parsed);
	self->set(nodes, self->last);
	ASSERT_EQ(0, dvsm_region_place_bitmask(self->region, 0, CHUNK, DVSM_POLICY_BIND, nodes));
	ASSERT_EQ(0, dvsm_region_place_bitmask(self->region, CHUNK, CHUNK, DVSM_POLICY_BIND, parsed));
	ASSERT_EQ(0, dvsm_region_place_bitmask(self->region, 2 * CHUNK, 0, DVSM_POLICY_INTERLEAVE,
					       self->with_memory));
	EXPECT_EQ(self->last, node_of_touched(self->map));
	EXPECT_EQ(self->first, node_of_touched(self->map + CHUNK));
	i = node_of_touched(self->map + 2 * CHUNK);
	if (variant->backend == DVSM_BACKEND_DEVICE && self->first != self->last) {
		EXPECT_NE(i, node_of_touched(self->map + 3 * CHUNK));
	} else {
		EXPECT_LE(0, node_of_touched(self->map + 3 * CHUNK));
	}

	EXPECT_EQ(0, dvsm_region_migrate_to_nodes(self->region, 0, 0, parsed, NULL));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(self->first, node_of_touched(self->map + i * CHUNK));
	EXPECT_EQ(0, dvsm_region_migrate_to_nodes(self->region, CHUNK, CHUNK, nodes, NULL));
	EXPECT_EQ(self->last, node_of_touched(self->map + CHUNK));
	self->clear(nodes);
	EXPECT_FAILS(EINVAL, dvsm_region_migrate_to_nodes(self->region, 0, 0, nodes, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_place_bitmask(self->region, 0, 0, DVSM_POLICY_BIND, nodes));
	self->free(nodes);
	self->free(parsed);
}

TEST_HARNESS_MAIN
