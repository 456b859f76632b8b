// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making regions: what is accepted, what is refused with which error, and that
 * a refusal leaves nothing behind.
 */
#include <sys/resource.h>
#include <sys/stat.h>

#include "fixture.h"

DVSM_FIXTURE(create);

static int create(int dev, struct dvsm_region_create *arg)
{
	int fd;

	arg->size = sizeof(*arg);
	fd = ioctl(dev, DVSM_IOC_REGION_CREATE, arg);
	return fd < 0 ? -errno : fd;
}

static unsigned long nr_regions(int dev)
{
	struct dvsm_info info;

	return device_info(dev, &info) ? ~0UL : info.out_nr_regions;
}

TEST_F(create, length_that_is_zero_odd_or_too_long_is_einval)
{
	static const uint64_t lengths[] = {
		0, 1, PAGE - 1, PAGE + 1, CHUNK - 1, LENGTH_MAX - 1, LENGTH_MAX + 1,
		LENGTH_MAX + PAGE, 1ULL << 47, (1ULL << 63) - PAGE, 1ULL << 63, UINT64_MAX - PAGE + 1,
		UINT64_MAX,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		EXPECT_EQ(-EINVAL, region_create(self->dev, lengths[i], 0))
			TH_LOG("length %#llx", (unsigned long long)lengths[i]);
	}
	EXPECT_EQ(0, nr_regions(self->dev));
}

TEST_F(create, length_is_what_fstat_and_info_tell)
{
	static const uint64_t lengths[] = { PAGE, 3 * PAGE, CHUNK, CHUNK + PAGE, GIB, LENGTH_MAX };
	struct dvsm_region_info info;
	struct stat st;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		int fd = region_create(self->dev, lengths[i], 0);

		ASSERT_LE(0, fd);
		ASSERT_EQ(0, fstat(fd, &st));
		EXPECT_EQ(lengths[i], st.st_size);
		EXPECT_TRUE(S_ISREG(st.st_mode));
		ASSERT_EQ(0, region_info(fd, &info));
		EXPECT_EQ(lengths[i], info.out_length);
		close(fd);
	}
}

TEST_F(create, longest_region_takes_no_memory)
{
	unsigned long before = pages_taken();
	int fd = region_create(self->dev, LENGTH_MAX, 0);

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, region_resident(fd));
	EXPECT_GT(before + 16 * MIB / PAGE, pages_taken());
}

TEST_F(create, huge_required_wants_whole_chunks)
{
	EXPECT_EQ(-EINVAL, region_create(self->dev, CHUNK - PAGE, DVSM_REGION_F_HUGE_REQUIRED));
	EXPECT_EQ(-EINVAL, region_create(self->dev, CHUNK + PAGE, DVSM_REGION_F_HUGE_REQUIRED));
	EXPECT_LE(0, region_create(self->dev, CHUNK, DVSM_REGION_F_HUGE_REQUIRED));
}

TEST_F(create, every_mix_of_known_flags_is_told_by_info)
{
	struct dvsm_region_info info;
	uint32_t flags;

	for (flags = 0; flags < 8; flags++) {
		int fd = region_create(self->dev, CHUNK, flags);
		uint32_t told = flags;

		if (flags & DVSM_REGION_F_PINNED)
			told |= DVSM_REGION_F_REGISTRABLE;
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, region_info(fd, &info));
		EXPECT_EQ(told, info.out_flags);
		EXPECT_EQ(is_pinned(flags) ? CHUNK : 0, info.out_resident);
		EXPECT_EQ(is_pinned(flags) ? CHUNK : 0, info.out_pinned);
		close(fd);
	}
}

TEST_F(create, descriptor_can_read_and_write_and_has_no_path)
{
	int fd = region_create(self->dev, CHUNK, 0);
	struct stat st;

	ASSERT_LE(0, fd);
	EXPECT_EQ(O_RDWR, fcntl(fd, F_GETFL) & O_ACCMODE);
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(0, st.st_mode & 0222);
	EXPECT_EQ(0, st.st_mode & 0111);
}

TEST_F(create, identities_are_never_used_twice)
{
	struct dvsm_region_info info;
	uint64_t last = 0;
	int i;

	for (i = 0; i < 50; i++) {
		int fd = region_create(self->dev, PAGE, 0);

		ASSERT_EQ(0, region_info(fd, &info));
		EXPECT_LT(last, info.out_id);
		last = info.out_id;
		close(fd);
	}
}

TEST_F(create, label_is_shown_in_maps_fdinfo_and_debugfs)
{
	struct dvsm_region_create arg = { .length = CHUNK, .label = "trading-ring.7" };
	static char text[65536];
	struct dvsm_region_info info;
	struct smaps smaps;
	char path[64], name[64];
	int fd = create(self->dev, &arg);
	void *map;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_info(fd, &info));
	map = region_map(fd, CHUNK, 0);
	ASSERT_NE(MAP_FAILED, map);
	snprintf(name, sizeof(name), "/dvsm:trading-ring.7 (%llu)",
		 (unsigned long long)info.out_id);
	ASSERT_EQ(0, smaps_read(map, &smaps));
	EXPECT_STREQ(name, smaps.name);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	ASSERT_EQ(0, read_text(path, text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, "dvsm-label:\ttrading-ring.7\n"));
	ASSERT_EQ(0, read_text("/sys/kernel/debug/dvsm/regions", text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, "label=trading-ring.7\n"));
}

TEST_F(create, label_may_be_empty_or_fill_all_but_one_byte)
{
	struct dvsm_region_create arg = { .length = CHUNK };

	EXPECT_LE(0, create(self->dev, &arg));
	memset(arg.label, 'x', DVSM_NAME_MAX - 1);
	EXPECT_LE(0, create(self->dev, &arg));
}

TEST_F(create, label_without_end_or_with_bytes_behind_it_is_einval)
{
	struct dvsm_region_create arg = { .length = CHUNK };
	int i;

	memset(arg.label, 'x', DVSM_NAME_MAX);
	EXPECT_EQ(-EINVAL, create(self->dev, &arg));
	for (i = 1; i < DVSM_NAME_MAX; i++) {
		memset(arg.label, 0, DVSM_NAME_MAX);
		arg.label[i] = 'x';
		EXPECT_EQ(-EINVAL, create(self->dev, &arg)) TH_LOG("byte %d", i);
	}
	EXPECT_EQ(0, nr_regions(self->dev));
}

TEST_F(create, label_is_printable_ascii_or_einval)
{
	struct dvsm_region_create arg = { .length = CHUNK };
	int c;

	for (c = 1; c < 256; c++) {
		int fd;

		arg.label[0] = c;
		fd = create(self->dev, &arg);
		if (c > ' ' && c < 0x7f) {
			EXPECT_LE(0, fd) TH_LOG("character %#x", c);
			close(fd);
		} else {
			EXPECT_EQ(-EINVAL, fd) TH_LOG("character %#x", c);
		}
	}
}

TEST_F(create, unknown_policy_is_eopnotsupp)
{
	static const uint32_t policies[] = {
		DVSM_POLICY_WEIGHTED_INTERLEAVE + 1, 99, INT32_MAX, UINT32_MAX,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(policies); i++) {
		EXPECT_EQ(-EOPNOTSUPP, region_create_on(self->dev, CHUNK, 0, policies[i], 0));
		EXPECT_EQ(-EOPNOTSUPP, region_create_on(self->dev, CHUNK, 0, policies[i], 1));
	}
	EXPECT_EQ(0, nr_regions(self->dev));
}

TEST_F(create, policies_without_nodes_refuse_a_set)
{
	EXPECT_EQ(-EINVAL, region_create_on(self->dev, CHUNK, 0, DVSM_POLICY_INHERIT, 1));
	EXPECT_EQ(-EINVAL, region_create_on(self->dev, CHUNK, 0, DVSM_POLICY_LOCAL, 1));
}

TEST_F(create, bind_needs_a_set_and_preferred_and_interleave_do_not)
{
	uint64_t empty = 0;
	struct dvsm_region_create arg = {
		.length = CHUNK,
		.policy = DVSM_POLICY_BIND,
		.nr_nodes = 64,
		.nodes = (uintptr_t)&empty,
	};

	EXPECT_EQ(-EINVAL, region_create_on(self->dev, CHUNK, 0, DVSM_POLICY_BIND, 0));
	EXPECT_EQ(-EINVAL, create(self->dev, &arg));
	EXPECT_LE(0, region_create_on(self->dev, CHUNK, 0, DVSM_POLICY_PREFERRED, 0));
	EXPECT_LE(0, region_create_on(self->dev, CHUNK, 0, DVSM_POLICY_INTERLEAVE, 0));
}

TEST_F(create, node_without_memory_is_left_out_and_einval_alone)
{
	static const uint32_t policies[] = {
		DVSM_POLICY_BIND, DVSM_POLICY_PREFERRED, DVSM_POLICY_INTERLEAVE,
		DVSM_POLICY_WEIGHTED_INTERLEAVE,
	};
	uint64_t with_memory = node_mask();
	size_t i;
	int bit;

	for (i = 0; i < ARRAY_SIZE(policies); i++) {
		for (bit = 0; bit < 64; bit++) {
			int fd = region_create_on(self->dev, CHUNK, 0, policies[i], 1ULL << bit);

			if (with_memory >> bit & 1) {
				EXPECT_LE(0, fd) TH_LOG("node %d", bit);
				close(fd);
			} else {
				EXPECT_EQ(-EINVAL, fd) TH_LOG("node %d", bit);
			}
		}
		EXPECT_LE(0, region_create_on(self->dev, CHUNK, 0, policies[i],
					      with_memory | (~with_memory & -~with_memory)));
	}
}

TEST_F(create, node_sets_of_any_width_are_read_to_their_last_bit_and_no_further)
{
	const unsigned long max = PAGE * 8;
	uint64_t *words = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct dvsm_region_create arg = { .length = PAGE, .policy = DVSM_POLICY_INTERLEAVE };
	uint32_t bits;

	ASSERT_NE(MAP_FAILED, words);
	ASSERT_EQ(0, munmap((char *)words + PAGE, PAGE));
	words[0] = node_mask();
	for (bits = 64; bits <= max; bits += 64) {
		uint64_t *at = words + (max - bits) / 64;
		int fd;

		at[0] = node_mask();
		arg.nodes = (uintptr_t)at;
		arg.nr_nodes = bits;
		fd = create(self->dev, &arg);
		EXPECT_LE(0, fd) TH_LOG("%u bits", bits);
		close(fd);
		at[0] = 0;
	}
	/* One word lies in the unmapped page. */
	arg.nodes = (uintptr_t)(words + 1);
	arg.nr_nodes = max;
	EXPECT_EQ(-EFAULT, create(self->dev, &arg));
	arg.nodes = (uintptr_t)words;
	arg.nr_nodes = max + 1;
	EXPECT_EQ(-EINVAL, create(self->dev, &arg));
	arg.nr_nodes = UINT32_MAX;
	EXPECT_EQ(-EINVAL, create(self->dev, &arg));

	/* A bit that no kernel has a node for counts, and so does none beyond the width. */
	words[0] = node_mask();
	words[500] = 1ULL << 5;
	arg.nr_nodes = 64 * 501;
	EXPECT_EQ(-EINVAL, create(self->dev, &arg));
	arg.nr_nodes = 64 * 500 + 5;
	EXPECT_LE(0, create(self->dev, &arg));
}

TEST_F(create, node_set_pointer_must_be_readable_and_absent_without_a_width)
{
	struct dvsm_region_create arg = { .length = PAGE, .policy = DVSM_POLICY_INTERLEAVE };

	arg.nr_nodes = 64;
	EXPECT_EQ(-EFAULT, create(self->dev, &arg));
	arg.nodes = 1;
	EXPECT_EQ(-EFAULT, create(self->dev, &arg));
	arg.nodes = UINT64_MAX - 6;
	EXPECT_EQ(-EFAULT, create(self->dev, &arg));
	arg.nr_nodes = 0;
	EXPECT_EQ(-EINVAL, create(self->dev, &arg));
	EXPECT_EQ(0, nr_regions(self->dev));
}

TEST_F(create, table_full_of_descriptors_is_emfile_and_leaves_nothing)
{
	struct rlimit limit = { nr_open_fds() - 1, nr_open_fds() - 1 };
	struct counts counts;

	/* Stats are read by a descriptor too: open one slot for it later. */
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	while (dup(0) >= 0)
		;
	EXPECT_EQ(-EMFILE, region_create(self->dev, CHUNK, 0));
	EXPECT_EQ(-EMFILE, region_create(self->dev, CHUNK, DVSM_REGION_F_PINNED));
	close(0);
	EXPECT_TRUE(counts_reach_zero(&counts, 60));
}

TEST_F(create, pinned_region_beyond_the_limits_takes_no_memory_first)
{
	struct dvsm_info info;
	struct counts counts;
	unsigned long before;

	ASSERT_EQ(0, device_info(self->dev, &info));
	ASSERT_LT(256 * MIB, info.out_limit);
	before = pages_taken();
	EXPECT_EQ(-ENOSPC, region_create(self->dev, info.out_limit + CHUNK, DVSM_REGION_F_PINNED));
	EXPECT_EQ(-ENOSPC, region_create(self->dev, LENGTH_MAX, DVSM_REGION_F_PINNED));
	EXPECT_GT(before + 64 * MIB / PAGE, pages_taken());
	EXPECT_TRUE(counts_reach_zero(&counts, 60));
}

TEST_HARNESS_MAIN
