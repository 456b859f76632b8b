// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the module tells about itself, regions and nodes, held against what was
 * done and what the kernel says.
 */
#include <assert.h>

#include "snapshot.h"

static const char info_test_constant[sizeof(struct dvsm_node_stats)] = "in read-only memory";

DVSM_FIXTURE(info);

TEST_F(info, version_features_and_sizes_are_those_of_the_header)
{
	const uint64_t always = DVSM_FEATURE_REGION | DVSM_FEATURE_IMPLICIT_REGION |
				DVSM_FEATURE_PINNED | DVSM_FEATURE_POLICY |
				DVSM_FEATURE_SNAPSHOT | DVSM_FEATURE_PIN | DVSM_FEATURE_DMABUF |
				DVSM_FEATURE_NAMES | DVSM_FEATURE_EVENTS | DVSM_FEATURE_PLACE |
				DVSM_FEATURE_PROMOTE | DVSM_FEATURE_MIGRATE |
				DVSM_FEATURE_LIST | DVSM_FEATURE_FORK_COPY;
	struct dvsm_info info;

	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(1, info.out_abi_version);
	EXPECT_EQ(always, info.out_features & always);
	EXPECT_EQ(0, info.out_features & ~(always | DVSM_FEATURE_FIXED_BUFFERS |
					   DVSM_FEATURE_URING_CMD | DVSM_FEATURE_BALANCE));
	EXPECT_EQ(CHUNK, info.out_chunk_size);
	EXPECT_EQ(LENGTH_MAX, info.out_length_max);
	EXPECT_LE(64 - __builtin_clzll(node_mask()), info.out_nr_nodes);
}

TEST_F(info, limits_are_half_of_memory_or_the_parameters)
{
	unsigned long total;
	struct dvsm_info info;

	meminfo("MemTotal:", &total);
	total <<= 10;
	ASSERT_EQ(0, param_set("limit_mb", 0));
	ASSERT_EQ(0, param_set("limit_user_mb", 0));
	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_LT(total / 2 - total / 32, info.out_limit);
	EXPECT_GT(total / 2 + total / 32, info.out_limit);
	EXPECT_EQ(info.out_limit, info.out_limit_user);

	ASSERT_EQ(0, param_set("limit_mb", 100));
	ASSERT_EQ(0, param_set("limit_user_mb", 7));
	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(0, param_set("limit_mb", 0));
	EXPECT_EQ(0, param_set("limit_user_mb", 0));
	EXPECT_EQ(100 * MIB, info.out_limit);
	EXPECT_EQ(7 * MIB, info.out_limit_user);
}

TEST_F(info, limit_parameter_without_bound_reads_as_a_large_limit)
{
	static const unsigned long values[] = { ~0UL, 1UL << 50, 1UL << 44, 1UL << 43 };
	struct dvsm_info info;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		ASSERT_EQ(0, param_set("limit_mb", values[i]));
		EXPECT_EQ(0, device_info(self->dev, &info));
		EXPECT_EQ(0, param_set("limit_mb", 0));
		EXPECT_LE(1ULL << 62, info.out_limit) TH_LOG("limit_mb=%lu", values[i]);
	}
}

TEST_F(info, device_counts_what_all_regions_hold)
{
	struct dvsm_info info;
	int a, b;

	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(0, info.out_nr_regions);
	EXPECT_EQ(0, info.out_charged);
	a = region_create(self->dev, 4 * CHUNK, 0);
	b = region_create(self->dev, CHUNK, DVSM_REGION_F_PINNED);
	ASSERT_LE(0, a);
	ASSERT_LE(0, b);
	ASSERT_EQ(0, region_populate(a, 0, 2 * CHUNK, NULL));
	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(2, info.out_nr_regions);
	EXPECT_EQ(3 * CHUNK, info.out_charged);
	EXPECT_EQ(3 * CHUNK, info.out_charged_user);
	close(a);
	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(1, info.out_nr_regions);
	EXPECT_EQ(CHUNK, info.out_charged);
}

TEST_F(info, user_is_charged_for_the_regions_that_he_made_whoever_touches_them)
{
	struct dvsm_info info;
	int region = region_create(self->dev, 4 * CHUNK, 0);
	pid_t pid;

	ASSERT_LE(0, region);
	pid = child_start();
	if (!pid) {
		int own;

		EXPECT_EQ(0, become_nobody());
		/* The device is open already, but the descriptor is root's. */
		own = region_create(self->dev, 2 * CHUNK, 0);
		EXPECT_LE(0, own);
		EXPECT_EQ(0, region_populate(own, 0, 0, NULL));
		EXPECT_EQ(0, region_populate(region, 0, 3 * CHUNK, NULL));
		EXPECT_EQ(0, device_info(self->dev, &info));
		EXPECT_EQ(2 * CHUNK, info.out_charged_user);
		EXPECT_EQ(5 * CHUNK, info.out_charged);
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(3 * CHUNK, info.out_charged_user);
	EXPECT_EQ(3 * CHUNK, info.out_charged);
}

TEST_F(info, region_counts_resident_huge_and_peak)
{
	int fd = region_create(self->dev, 4 * CHUNK + 3 * PAGE, 0);
	struct dvsm_region_info info;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(4 * CHUNK + 3 * PAGE, info.out_resident);
	EXPECT_EQ(4 * CHUNK, info.out_resident_huge);
	EXPECT_EQ(info.out_resident, info.out_resident_peak);
	EXPECT_EQ(0, info.out_pinned);
	ASSERT_EQ(0, region_discard(fd, CHUNK, 2 * CHUNK, NULL));
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(2 * CHUNK + 3 * PAGE, info.out_resident);
	EXPECT_EQ(2 * CHUNK, info.out_resident_huge);
	EXPECT_EQ(4 * CHUNK + 3 * PAGE, info.out_resident_peak);
}

TEST_F(info, region_counts_faults_by_what_they_did)
{
	int fd = region_create(self->dev, 4 * CHUNK, 0);
	struct dvsm_region_info info;
	char *a, *b, *private;

	ASSERT_LE(0, fd);
	a = region_map(fd, 5 * CHUNK, 0);
	b = region_map(fd, 4 * CHUNK, 0);
	private = mmap(NULL, 4 * CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, a);
	ASSERT_NE(MAP_FAILED, b);
	ASSERT_NE(MAP_FAILED, private);
	EXPECT_EQ(0, write_at(a, 1));
	EXPECT_EQ(0, write_at(a + CHUNK, 1));
	EXPECT_EQ(0, write_at(a + CHUNK + PAGE, 1));
	EXPECT_EQ(0, read_at(b));
	EXPECT_EQ(0, write_at(private, 2));
	EXPECT_EQ(SIGBUS, write_at(a + 4 * CHUNK, 1));
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(4, info.out_nr_faults);
	EXPECT_EQ(2, info.out_nr_faults_alloc);
	EXPECT_EQ(1, info.out_nr_faults_private);
	EXPECT_EQ(1, info.out_nr_failures);
	EXPECT_EQ(0, info.out_nr_fallbacks);
	EXPECT_EQ(0, info.out_nr_moved);
}

TEST_F(info, nodes_sum_up_to_the_region)
{
	int fd = region_create_on(self->dev, 8 * CHUNK, 0, DVSM_POLICY_INTERLEAVE, 0);
	struct dvsm_node_stats nodes[64] = {};
	struct dvsm_region_info info;
	uint64_t resident = 0, faults = 0, allocs = 0;
	char *map = region_map(fd, 8 * CHUNK, 0);
	int i;

	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < 8; i++)
		map[i * CHUNK] = 1;
	ASSERT_EQ(0, region_nodes(fd, nodes, 64));
	ASSERT_EQ(0, region_info(fd, &info));
	for (i = 0; i < 64; i++) {
		resident += nodes[i].out_resident;
		faults += nodes[i].out_nr_faults;
		allocs += nodes[i].out_nr_allocs;
		if (!(node_mask() >> i & 1)) {
			EXPECT_EQ(0, nodes[i].out_resident);
		}
	}
	EXPECT_EQ(8 * CHUNK, resident);
	EXPECT_EQ(8, faults);
	EXPECT_EQ(faults, info.out_nr_faults);
	EXPECT_EQ(8, allocs);
}

TEST_F(info, nodes_tell_who_had_to_break_a_sharing)
{
	int fd = region_create(self->dev, 4 * CHUNK, 0);
	struct dvsm_node_stats nodes[64] = {};
	struct dvsm_region_info info;
	char *map = region_map(fd, 4 * CHUNK, 0);
	uint64_t left = node_mask(), run_on = 0;
	int snapshot, chunk = 0;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, 4 * CHUNK, 1);
	snapshot = snapshot_take(fd);
	ASSERT_LE(0, snapshot);
	for (; left && chunk < 4; left &= left - 1) {
		if (node_run_on(__builtin_ctzll(left)))
			continue;
		map[chunk++ * CHUNK] = 1;
		run_on |= left & -left;
	}
	ASSERT_EQ(0, region_nodes(fd, nodes, 64));
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(chunk, info.out_nr_cow_faults);
	for (int node = 0; node < 64; node++)
		EXPECT_EQ(run_on >> node & 1, nodes[node].out_nr_cow_faults);
}

TEST_F(info, nodes_writes_no_more_than_the_array_holds)
{
	int fd = region_create(self->dev, CHUNK, 0);
	struct dvsm_node_stats nodes[65];
	struct dvsm_region_nodes arg = {
		.size = sizeof(arg),
		.nodes = (uintptr_t)nodes,
		.node_size = sizeof(nodes[0]),
	};
	struct dvsm_info info;
	uint32_t nr;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, device_info(self->dev, &info));
	for (nr = 0; nr <= 64; nr++) {
		uint32_t written = nr < info.out_nr_nodes ? nr : info.out_nr_nodes;

		memset(nodes, 0xa5, sizeof(nodes));
		arg.nr_nodes = nr;
		ASSERT_EQ(0, ioctl(fd, DVSM_IOC_REGION_NODES, &arg));
		EXPECT_EQ(info.out_nr_nodes, arg.out_nr_nodes);
		if (written) {
			EXPECT_EQ(0, nodes[written - 1].out_nr_cow_faults);
		}
		EXPECT_EQ(0xa5a5a5a5a5a5a5a5, nodes[written].out_resident);
	}
	arg.nr_nodes = UINT32_MAX;
	EXPECT_EQ(0, ioctl(fd, DVSM_IOC_REGION_NODES, &arg));
}

TEST_F(info, nodes_needs_no_array_for_none_and_a_writable_one_for_some)
{
	int fd = region_create(self->dev, CHUNK, 0);

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, region_nodes(fd, NULL, 0));
	EXPECT_EQ(-EFAULT, region_nodes(fd, NULL, 1));
	EXPECT_EQ(-EFAULT, region_nodes(fd, (void *)info_test_constant, 1));
	EXPECT_EQ(-EFAULT, region_nodes(fd, (void *)~0UL, 1));
}

/* All words of struct dvsm_region_info but two halves, which are flags and policy. */
static const struct {
	const char *name;
	size_t at;
} told[] = {
	{ "id", offsetof(struct dvsm_region_info, out_id) },
	{ "length", offsetof(struct dvsm_region_info, out_length) },
	{ "resident", offsetof(struct dvsm_region_info, out_resident) },
	{ "resident-huge", offsetof(struct dvsm_region_info, out_resident_huge) },
	{ "resident-peak", offsetof(struct dvsm_region_info, out_resident_peak) },
	{ "pinned", offsetof(struct dvsm_region_info, out_pinned) },
	{ "faults", offsetof(struct dvsm_region_info, out_nr_faults) },
	{ "faults-alloc", offsetof(struct dvsm_region_info, out_nr_faults_alloc) },
	{ "faults-private", offsetof(struct dvsm_region_info, out_nr_faults_private) },
	{ "faults-remote", offsetof(struct dvsm_region_info, out_nr_faults_remote) },
	{ "fallbacks", offsetof(struct dvsm_region_info, out_nr_fallbacks) },
	{ "misses", offsetof(struct dvsm_region_info, out_nr_misses) },
	{ "failures", offsetof(struct dvsm_region_info, out_nr_failures) },
	{ "moved", offsetof(struct dvsm_region_info, out_nr_moved) },
	{ "parent", offsetof(struct dvsm_region_info, out_parent_id) },
	{ "taken-offset", offsetof(struct dvsm_region_info, out_taken_offset) },
	{ "taken-length", offsetof(struct dvsm_region_info, out_taken_length) },
	{ "shared", offsetof(struct dvsm_region_info, out_shared) },
	{ "copied", offsetof(struct dvsm_region_info, out_copied) },
	{ "cow-faults", offsetof(struct dvsm_region_info, out_nr_cow_faults) },
	{ "lost", offsetof(struct dvsm_region_info, out_nr_lost) },
	{ "merges", offsetof(struct dvsm_region_info, out_nr_merges) },
	{ "conflicts", offsetof(struct dvsm_region_info, out_nr_conflicts) },
	{ "faults-parts", offsetof(struct dvsm_region_info, out_nr_faults_parts) },
};

static_assert(ARRAY_SIZE(told) + 2 == sizeof(struct dvsm_region_info) / 8, "a word is missing");

static uint64_t told_word(const struct dvsm_region_info *info, size_t i)
{
	return *(const uint64_t *)((const char *)info + told[i].at);
}

/*
 * A snapshot in parts that has counted as much as is easy to have: merges with conflicts,
 * copies, private faults and failures.
 */
static int snapshot_with_counts(int dev)
{
	int fd = region_create(dev, 4 * CHUNK, 0), snapshot, of_that;
	struct dvsm_snapshot_merge merge;
	char *map, *private;

	if (region_populate(fd, 0, 0, NULL))
		return -1;
	snapshot = snapshot_take(fd);
	map = region_map(snapshot, 5 * CHUNK, 0);
	private = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE, snapshot, 0);
	if (map == MAP_FAILED || private == MAP_FAILED)
		return -1;
	stamp(map, 2 * CHUNK, 1);
	private[0] = 1;
	write_at(map + 4 * CHUNK, 1);
	of_that = snapshot_take_in_parts(snapshot, PAGE, 0);
	map[PAGE] = 'p';
	if (pwrite(of_that, "s", 1, PAGE) != 1 ||
	    snapshot_merge(snapshot, of_that, 0, &merge) != -EAGAIN ||
	    snapshot_merge(snapshot, of_that, DVSM_MERGE_F_SNAPSHOT_WINS, &merge))
		return -1;
	return snapshot;
}

/* By the command, as the files have them; the sum, or all ones. */
static uint64_t cow_faults_by_node(int fd, char *text, size_t size)
{
	struct dvsm_node_stats stats[64];
	struct dvsm_region_nodes arg = {
		.size = sizeof(arg),
		.nodes = (uintptr_t)stats,
		.nr_nodes = 64,
		.node_size = sizeof(stats[0]),
	};
	uint64_t sum = 0;
	int node, at = 0;

	if (ioctl(fd, DVSM_IOC_REGION_NODES, &arg))
		return UINT64_MAX;
	for (node = 0; node < (int)arg.out_nr_nodes && node < 64; node++) {
		at += snprintf(text + at, size - at, "%s%llu", node ? "," : "",
			       (unsigned long long)stats[node].out_nr_cow_faults);
		sum += stats[node].out_nr_cow_faults;
	}
	return sum;
}

/* So many writes that copy, by a CPU of each node: one more on each. */
static int write_from_nodes(int fd, int *nr)
{
	const uint64_t nodes = nodes_to_work_on();
	int snapshot = snapshot_take_in_parts(fd, PAGE, 0), node, i, at = 0;

	*nr = 0;
	for (node = 0; node < 64; node++) {
		if (!(nodes >> node & 1))
			continue;
		if (node_run_on(node))
			return -ENOENT;
		for (i = 0; i <= node; i++, at++)
			if (pwrite(fd, "w", 1, at * PAGE) != 1)
				return -errno;
		++*nr;
	}
	return snapshot;
}

TEST_F(info, writes_that_copy_are_told_by_node)
{
	int fd = region_create(self->dev, 4 * CHUNK, 0), snapshot, nr, node;
	char path[64], text[16384], line[512], nodes[256], *at;
	struct dvsm_node_stats stats[64];
	struct dvsm_region_info info;

	NEED_NODES(2);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	ASSERT_EQ(1, pwrite(fd, "o", 1, 0));
	snapshot = write_from_nodes(fd, &nr);
	ASSERT_LE(0, snapshot);
	if (nr < 2)
		SKIP(return, "fewer than 2 NUMA nodes with CPUs and memory");
	ASSERT_EQ(0, region_info(fd, &info));
	ASSERT_EQ(info.out_nr_cow_faults, cow_faults_by_node(fd, nodes, sizeof(nodes)));
	ASSERT_EQ(0, region_nodes(fd, stats, 64));
	for (node = 0; node < 64; node++)
		if (nodes_to_work_on() >> node & 1)
			EXPECT_EQ(node + 1, stats[node].out_nr_cow_faults);

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	ASSERT_EQ(0, read_text(path, text, sizeof(text)));
	snprintf(line, sizeof(line), "\ndvsm-cow-faults-nodes:\t%s\n", nodes);
	EXPECT_NE(NULL, strstr(text, line)) TH_LOG("%s in %s", line, text);

	ASSERT_EQ(0, read_text("/sys/kernel/debug/dvsm/regions", text, sizeof(text)));
	snprintf(line, sizeof(line), "%llu uid=0 ", (unsigned long long)info.out_id);
	at = strstr(text, line);
	ASSERT_NE(NULL, at);
	at[strcspn(at, "\n")] = '\0';
	snprintf(line, sizeof(line), " cow=%llu cow-nodes=%s ",
		 (unsigned long long)info.out_nr_cow_faults, nodes);
	EXPECT_NE(NULL, strstr(at, line)) TH_LOG("%s lacks %s", at, line);
}

TEST_F(info, fdinfo_tells_what_the_command_tells)
{
	char path[64], text[4096], line[128];
	int fds[2], i;

	fds[0] = region_create_on(self->dev, 4 * CHUNK, DVSM_REGION_F_REGISTRABLE,
				  DVSM_POLICY_LOCAL, 0);
	ASSERT_EQ(0, region_populate(fds[0], 0, CHUNK, NULL));
	fds[1] = snapshot_with_counts(self->dev);
	ASSERT_LE(0, fds[1]);
	for (i = 0; i < 2; i++) {
		struct dvsm_region_info info;
		size_t word;

		ASSERT_EQ(0, region_info(fds[i], &info));
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fds[i]);
		ASSERT_EQ(0, read_text(path, text, sizeof(text)));
		for (word = 0; word < ARRAY_SIZE(told); word++) {
			snprintf(line, sizeof(line), "\ndvsm-%s:\t%llu\n", told[word].name,
				 (unsigned long long)told_word(&info, word));
			EXPECT_NE(NULL, strstr(text, line)) TH_LOG("%s in %s", line, text);
		}
		snprintf(line, sizeof(line), "\ndvsm-flags:\t0x%x\n", info.out_flags);
		EXPECT_NE(NULL, strstr(text, line));
		snprintf(line, sizeof(line), "\ndvsm-policy:\t%u\n", info.out_policy);
		EXPECT_NE(NULL, strstr(text, line));
	}
	EXPECT_NE(NULL, strstr(text, "dvsm-length:\t8388608\n"));
	EXPECT_NE(NULL, strstr(text, "dvsm-merges:\t1\n"));
	EXPECT_NE(NULL, strstr(text, "dvsm-conflicts:\t2\n"));
	EXPECT_NE(NULL, strstr(text, "dvsm-faults-private:\t1\n"));
	EXPECT_NE(NULL, strstr(text, "dvsm-failures:\t1\n"));
}

TEST_F(info, debugfs_tells_what_the_command_tells_of_sharing)
{
	int fd = snapshot_with_counts(self->dev);
	char text[16384], line[512], nodes[256], *at;
	struct dvsm_region_info info;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_info(fd, &info));
	ASSERT_EQ(info.out_nr_cow_faults, cow_faults_by_node(fd, nodes, sizeof(nodes)));
	ASSERT_EQ(0, read_text("/sys/kernel/debug/dvsm/regions", text, sizeof(text)));
	snprintf(line, sizeof(line), "\n%llu uid=0 ", (unsigned long long)info.out_id);
	at = strstr(text, line);
	ASSERT_NE(NULL, at);
	snprintf(line, sizeof(line),
		 " reads=%llu shared=%llu copied=%llu cow=%llu cow-nodes=%s parts=%llu lost=0 merges=1 conflicts=2 label=\n",
		 (unsigned long long)info.out_resident / PAGE,
		 (unsigned long long)info.out_shared / PAGE,
		 (unsigned long long)info.out_copied / PAGE,
		 (unsigned long long)info.out_nr_cow_faults, nodes,
		 (unsigned long long)info.out_nr_faults_parts);
	at[1 + strcspn(at + 1, "\n") + 1] = '\0';
	EXPECT_NE(NULL, strstr(at, line)) TH_LOG("%s lacks %s", at, line);
}

TEST_F(info, read_only_descriptor_says_so)
{
	int fd = region_create(self->dev, CHUNK, 0), read_only;
	struct dvsm_region_info info;

	ASSERT_LE(0, fd);
	read_only = region_reopen(fd, DVSM_REOPEN_F_READ_ONLY);
	ASSERT_LE(0, read_only);
	ASSERT_EQ(0, region_info(read_only, &info));
	EXPECT_EQ(DVSM_REGION_F_READ_ONLY, info.out_flags);
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(0, info.out_flags);
}

TEST_HARNESS_MAIN
