// SPDX-License-Identifier: GPL-2.0-only
/*
 * When huge pages cannot be had. A node is broken into pieces, or a cgroup is
 * short: a region that allows it falls back to smaller folios and says so; one
 * that requires huge pages fails, and never takes a small one.
 */
#include "fixture.h"

#define LENGTH HOG_REGION

FIXTURE(fragmented) {
	int dev;
	int node, other;
	struct hog hog;
};

FIXTURE_SETUP(fragmented)
{
	int ret;

	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_NODES(2);
	self->other = __builtin_ctzll(node_mask());
	self->node = 63 - __builtin_clzll(node_mask());
	ret = hog_fragment_for_regions(&self->hog, self->dev, self->node);
	if (ret && !getenv("DVSM_VM"))
		SKIP(return, "cannot fragment a node: %s", strerror(-ret));
	ASSERT_EQ(0, ret) TH_LOG("fragmenting a node: %s", strerror(-ret));
}

FIXTURE_TEARDOWN_PARENT(fragmented)
{
	EXPECT_NO_LEAK();
	hog_settle(&self->hog);
}

/* Walks the chunks of a full region: what they are made of must add up. */
struct makeup {
	uint64_t resident;
	unsigned int huge, small, other_node;
	uint32_t nr_folios;
};

static void look(int fd, int node, struct makeup *makeup)
{
	struct dvsm_chunk *chunks = calloc(LENGTH / CHUNK, sizeof(*chunks));
	int nr = region_residency(fd, 0, 0, chunks, LENGTH / CHUNK), i;

	memset(makeup, 0, sizeof(*makeup));
	for (i = 0; i < nr; i++) {
		bool huge = chunks[i].flags & DVSM_CHUNK_F_HUGE;

		makeup->resident += chunks[i].resident;
		makeup->huge += huge;
		makeup->small += !huge;
		makeup->other_node += chunks[i].node != node;
		makeup->nr_folios += chunks[i].nr_folios;
		if (huge != (chunks[i].nr_folios == 1 && chunks[i].order_max == 9))
			abort();
		if (!huge && chunks[i].order_max >= 9)
			abort();
	}
	free(chunks);
}

TEST_F(fragmented, region_falls_back_to_small_folios_and_says_so)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND, 1ULL << self->node);
	char *map = region_map(fd, LENGTH, 0);
	struct dvsm_region_info info;
	struct makeup makeup;
	struct smaps smaps;
	int tries;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, region_populate(fd, 0, LENGTH / 2, NULL));
	stamp(map, LENGTH, 1);
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	look(fd, self->node, &makeup);
	EXPECT_EQ(LENGTH, makeup.resident);
	EXPECT_LT(0, makeup.small);
	EXPECT_EQ(0, makeup.other_node);
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(LENGTH, info.out_resident);
	EXPECT_EQ(makeup.huge * CHUNK, info.out_resident_huge);
	EXPECT_LT(0, info.out_nr_fallbacks);
	/* Compaction may have some of it unmapped for a moment, and move it. */
	for (tries = 0; tries < 600; tries++) {
		EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
		ASSERT_EQ(0, smaps_read(map, &smaps));
		if (smaps.rss == LENGTH)
			break;
		sleep_ms(100);
	}
	EXPECT_EQ(LENGTH, smaps.rss);
	EXPECT_EQ(makeup.huge * CHUNK, smaps.file_pmd_mapped);
}

TEST_F(fragmented, small_folios_are_zeroed_shared_discarded_and_counted_as_huge_ones_are)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND, 1ULL << self->node);
	char *map = region_map(fd, LENGTH, 0), *before = malloc(2 * CHUNK), *at;
	struct dvsm_chunk *chunks = calloc(64, sizeof(*chunks));
	int i, nr;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	EXPECT_TRUE(is_zero(map, LENGTH));
	nr = region_residency(fd, 0, 0, chunks, 64);
	for (i = 0; i < nr - 1 && (chunks[i].flags | chunks[i + 1].flags) & DVSM_CHUNK_F_HUGE; i++)
		;
	ASSERT_LT(i, nr - 1);
	at = map + chunks[i].offset;
	stamp(at, 2 * CHUNK, 2);
	pid = child_start();
	if (!pid)
		_exit(stamps_wrong(at, 2 * CHUNK, 2) != 0);
	EXPECT_EQ(0, child_wait(pid));
	memcpy(before, at, 2 * CHUNK);
	EXPECT_EQ(0, region_discard(fd, chunks[i].offset + 5 * PAGE, CHUNK, NULL));
	EXPECT_EQ(0, memcmp(before, at, 5 * PAGE));
	EXPECT_TRUE(is_zero(at + 5 * PAGE, CHUNK));
	EXPECT_EQ(0, memcmp(before + CHUNK + 5 * PAGE, at + CHUNK + 5 * PAGE, CHUNK - 5 * PAGE));
	EXPECT_EQ(2 * CHUNK, pread(fd, before, 2 * CHUNK, chunks[i].offset));
	EXPECT_EQ(0, memcmp(before, at, 2 * CHUNK));
	EXPECT_EQ(0, region_discard(fd, 0, 0, NULL));
	EXPECT_EQ(0, region_resident(fd));
}

TEST_F(fragmented, huge_required_is_enomem_at_populate_and_sigbus_at_a_fault)
{
	int fd = region_create_on(self->dev, LENGTH, DVSM_REGION_F_HUGE_REQUIRED, DVSM_POLICY_BIND,
				  1ULL << self->node);
	char *map = region_map(fd, LENGTH, 0);
	int tries, by_write, by_read, written, error;
	struct dvsm_region_info info;
	struct makeup makeup;
	uint64_t bytes;

	ASSERT_NE(MAP_FAILED, map);
	/* What the kernel gives back meanwhile may become one huge page more: then once more. */
	for (tries = 0; tries < 20; tries++) {
		ASSERT_EQ(0, region_discard(fd, 0, 0, NULL));
		ASSERT_EQ(-ENOMEM, region_populate_by(fd, 0, 0, 1, &bytes));
		by_write = write_at(map + bytes, 1);
		by_read = read_at(map + LENGTH - PAGE);
		written = pwrite(fd, "x", 1, LENGTH - PAGE);
		error = errno;
		ASSERT_EQ(0, region_info(fd, &info));
		if (info.out_resident == bytes)
			break;
	}
	EXPECT_EQ(0, bytes % CHUNK);
	EXPECT_GT(LENGTH, bytes);
	EXPECT_EQ(bytes, info.out_resident);
	look(fd, self->node, &makeup);
	EXPECT_EQ(0, makeup.small);
	EXPECT_EQ(bytes, makeup.resident);
	EXPECT_EQ(SIGBUS, by_write);
	EXPECT_EQ(SIGBUS, by_read);
	EXPECT_EQ(-1, written);
	EXPECT_EQ(ENOMEM, error);
	EXPECT_EQ(0, info.out_nr_fallbacks);
	EXPECT_LE(2, info.out_nr_failures);
	/* It is no lasting failure. */
	hog_release(&self->hog);
	EXPECT_EQ(0, region_populate(fd, 0, 0, NULL));
	look(fd, self->node, &makeup);
	EXPECT_EQ(LENGTH / CHUNK, makeup.huge);
}

TEST_F(fragmented, pinned_huge_required_region_is_enomem_and_leaves_nothing)
{
	struct counts counts;

	EXPECT_EQ(-ENOMEM, region_create_on(self->dev, LENGTH,
					    DVSM_REGION_F_HUGE_REQUIRED | DVSM_REGION_F_PINNED,
					    DVSM_POLICY_BIND, 1ULL << self->node));
	EXPECT_TRUE(counts_reach_zero(&counts, 60));
}

TEST_F(fragmented, preferred_node_without_huge_pages_is_missed_and_the_miss_is_counted)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_PREFERRED, 1ULL << self->node);
	struct dvsm_node_stats nodes[64] = {};
	struct dvsm_region_info info;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	ASSERT_EQ(0, region_info(fd, &info));
	ASSERT_EQ(0, region_nodes(fd, nodes, 64));
	EXPECT_EQ(LENGTH, info.out_resident_huge);
	EXPECT_EQ(nodes[self->other].out_resident / CHUNK, info.out_nr_misses);
	EXPECT_EQ(nodes[self->other].out_resident / CHUNK, nodes[self->node].out_nr_misses);
	EXPECT_LT(0, info.out_nr_misses);
}

/*
 * The process that populates does nothing else: when its cgroup is full to the
 * brim, its own next page would need the OOM killer. It is looked at from outside.
 */
FIXTURE(short_cgroup) {
	int dev;
	struct cgroup cgroup;
};

FIXTURE_SETUP(short_cgroup)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_CGROUP(&self->cgroup, "huge");
	ASSERT_EQ(0, cgroup_set(&self->cgroup, "memory.max", "17M"));
	cgroup_set(&self->cgroup, "memory.swap.max", "0");
}

FIXTURE_TEARDOWN_PARENT(short_cgroup)
{
	EXPECT_EQ(0, cgroup_event(&self->cgroup, "memory.events", "oom_kill"));
	EXPECT_TRUE(cgroup_drains_to(&self->cgroup, MIB, 60));
	cgroup_remove(&self->cgroup);
	EXPECT_NO_LEAK();
}

static int populate_in(struct cgroup *cgroup, int fd, uint64_t *bytes)
{
	struct dvsm_region_populate *arg = share_anonymous(PAGE);
	pid_t pid;

	arg->size = sizeof(*arg);
	pid = child_start();
	if (!pid) {
		int ret;

		cgroup_enter(cgroup);
		ret = ioctl(fd, DVSM_IOC_REGION_POPULATE, arg);
		_exit(ret ? errno : 0);
	}
	pid = child_wait(pid);
	*bytes = arg->out_populated;
	return pid;
}

TEST_F(short_cgroup, last_pieces_are_small_and_then_it_is_enomem)
{
	int fd = region_create(self->dev, LENGTH, 0);
	struct makeup makeup;
	uint64_t bytes;

	ASSERT_LE(0, fd);
	EXPECT_EQ(ENOMEM, populate_in(&self->cgroup, fd, &bytes));
	look(fd, -1, &makeup);
	EXPECT_EQ(bytes, makeup.resident);
	EXPECT_LT(2, makeup.huge);
	EXPECT_LT(0, makeup.small);
	EXPECT_LE(12 * MIB, bytes);
	EXPECT_GE(17 * MIB, bytes);
}

TEST_F(short_cgroup, huge_required_is_enomem_with_whole_chunks_only)
{
	int fd = region_create(self->dev, LENGTH, DVSM_REGION_F_HUGE_REQUIRED);
	struct makeup makeup;
	uint64_t bytes;
	pid_t pid;

	ASSERT_LE(0, fd);
	EXPECT_EQ(ENOMEM, populate_in(&self->cgroup, fd, &bytes));
	look(fd, -1, &makeup);
	EXPECT_EQ(bytes, makeup.resident);
	EXPECT_EQ(0, makeup.small);
	EXPECT_LT(2, makeup.huge);
	pid = child_start();
	if (!pid) {
		char *map = region_map(fd, LENGTH, 0);

		cgroup_enter(&self->cgroup);
		_exit(write_at(map + LENGTH - 1, 1));
	}
	EXPECT_EQ(SIGBUS, child_wait(pid));
	EXPECT_EQ(bytes, region_resident(fd));
}

TEST_HARNESS_MAIN_WITH_POOLS
