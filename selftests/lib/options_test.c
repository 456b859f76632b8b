// SPDX-License-Identifier: GPL-2.0-only
/* What creation and opening take, what they refuse, and which backend one gets. */
#include "kselftest_harness.h"
#include "lib_test.h"

#define OPTIONS(...) (&(struct dvsm_region_options){			\
	.size = sizeof(struct dvsm_region_options), __VA_ARGS__ })

static const uint32_t memfds[] = {
	DVSM_BACKEND_MEMFD, DVSM_BACKEND_MEMFD_THP, DVSM_BACKEND_MEMFD_4K,
};

static bool have_device(void)
{
	return access(DVSM_DEVICE_PATH, R_OK | W_OK) == 0;
}

static unsigned long free_huge_pages(void)
{
	unsigned long nr = 0;
	char text[32] = "";
	int fd = open("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", O_RDONLY);

	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0)
		nr = strtoul(text, NULL, 10);
	if (fd >= 0)
		close(fd);
	return nr;
}

/* The first release knew no weights. */
#define FIRST_SIZE	offsetof(struct dvsm_region_options, weights)

TEST(version_is_the_headers)
{
	EXPECT_EQ(DVSM_VERSION_MAJOR << 16 | DVSM_VERSION_MINOR, dvsm_version());
}

TEST(every_backend_has_a_name)
{
	EXPECT_STREQ("auto", dvsm_backend_name(DVSM_BACKEND_AUTO));
	EXPECT_STREQ("device", dvsm_backend_name(DVSM_BACKEND_DEVICE));
	EXPECT_STREQ("memfd", dvsm_backend_name(DVSM_BACKEND_MEMFD));
	EXPECT_STREQ("memfd-hugetlb", dvsm_backend_name(DVSM_BACKEND_MEMFD_HUGETLB));
	EXPECT_STREQ("memfd-thp", dvsm_backend_name(DVSM_BACKEND_MEMFD_THP));
	EXPECT_STREQ("memfd-4k", dvsm_backend_name(DVSM_BACKEND_MEMFD_4K));
	EXPECT_STREQ("unknown", dvsm_backend_name(6));
	EXPECT_STREQ("unknown", dvsm_backend_name(UINT32_MAX));
}

TEST(lengths_are_pages_and_more_than_none)
{
	size_t i;

	for (i = 0; i < 3; i++) {
		struct dvsm_region_options *options = OPTIONS(.backend = memfds[i]);
		struct dvsm_region *region;

		EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(0, options));
		EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(1, options));
		EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK + 1, options));
		EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(UINT64_MAX, options));
		EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(-PAGE, options));
		EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(1ULL << 63, options));
		region = dvsm_region_create(3 * PAGE, options);
		ASSERT_NE(NULL, region);
		EXPECT_EQ(3 * PAGE, dvsm_region_length(region));
		dvsm_region_destroy(region);
	}
}

TEST(a_region_may_end_in_the_middle_of_a_chunk)
{
	const uint64_t length = 2 * CHUNK + 3 * PAGE;
	struct dvsm_chunk chunks[4];
	struct dvsm_region *region;
	uint64_t next, done;
	size_t i;
	char *map;

	for (i = 0; i < 3; i++) {
		region = dvsm_region_create(length, OPTIONS(.backend = memfds[i]));
		ASSERT_NE(NULL, region);
		map = dvsm_region_map(region, 0, 0, RW, NULL);
		ASSERT_NE(NULL, map);
		map[length - 1] = 1;
		EXPECT_EQ(1, dvsm_region_residency(region, 0, 0, chunks, 4, &next));
		EXPECT_EQ(length, next);
		EXPECT_EQ(2 * CHUNK, chunks[0].offset);
		EXPECT_EQ(1, dvsm_region_residency(region, 0, 0, chunks, 1, &next));
		EXPECT_EQ(length, next);
		EXPECT_EQ(0, dvsm_region_populate(region, 0, 0, 0, NULL));
		EXPECT_EQ(3, dvsm_region_residency(region, 0, 0, chunks, 4, &next));
		EXPECT_EQ(0, dvsm_region_discard(region, 2 * CHUNK, 0, &done));
		EXPECT_EQ(0, map[length - 1]);
		EXPECT_EQ(0, dvsm_region_unmap(map, length));
		dvsm_region_destroy(region);
	}
}

TEST(options_that_the_library_does_not_know_are_refused)
{
	const uint32_t known = DVSM_REGION_F_HUGE_REQUIRED | DVSM_REGION_F_PINNED |
			       DVSM_REGION_F_REGISTRABLE | DVSM_REGION_F_FORK_COPY;
	struct {
		struct dvsm_region_options options;
		uint64_t more;
	} longer = { .options = { .size = sizeof(longer) }, .more = 1 };
	const uint64_t node0 = 1;
	const uint8_t weight = 1;
	char label[DVSM_NAME_MAX + 1];
	struct dvsm_region *region;
	struct dvsm_region_options shorter = { .size = FIRST_SIZE - 1 };
	unsigned int bit;

	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, &shorter));
	shorter.size = 0;
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, &shorter));
	/* What stands behind the struct of an older caller is not read. */
	shorter.size = FIRST_SIZE;
	shorter.weights = (uint8_t *)1;
	region = dvsm_region_create(CHUNK, &shorter);
	EXPECT_NE(NULL, region);
	dvsm_region_destroy(region);
	EXPECT_FAILS_NULL(E2BIG, dvsm_region_create(CHUNK, &longer.options));
	longer.more = 0;
	region = dvsm_region_create(CHUNK, &longer.options);
	EXPECT_NE(NULL, region);
	dvsm_region_destroy(region);
	for (bit = 0; bit < 32; bit++) {
		if (known >> bit & 1)
			continue;
		EXPECT_FAILS_NULL(EOPNOTSUPP,
				  dvsm_region_create(CHUNK, OPTIONS(.flags = 1U << bit)));
	}
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_region_create(CHUNK, OPTIONS(.policy = 6)));
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_region_create(CHUNK, OPTIONS(.backend = 6)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, OPTIONS(.nr_nodes = 1)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, OPTIONS(.nr_nodes = 1,
								    .nodes = &node0)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, OPTIONS(.policy = DVSM_POLICY_LOCAL,
								    .nr_nodes = 1,
								    .nodes = &node0)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, OPTIONS(.policy = DVSM_POLICY_BIND)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, OPTIONS(.weights = &weight)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, OPTIONS(
		.policy = DVSM_POLICY_INTERLEAVE, .nr_nodes = 1, .nodes = &node0,
		.weights = &weight)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, OPTIONS(
		.policy = DVSM_POLICY_WEIGHTED_INTERLEAVE, .weights = &weight)));
	memset(label, 'l', sizeof(label));
	label[DVSM_NAME_MAX] = '\0';
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, OPTIONS(.label = label)));
	label[DVSM_NAME_MAX - 1] = '\0';
	for (bit = 0; bit < 3; bit++)
		EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, OPTIONS(
			.backend = memfds[bit], .label = "two words")));
	region = dvsm_region_create(CHUNK, OPTIONS(.label = label));
	EXPECT_NE(NULL, region);
	dvsm_region_destroy(region);
}

TEST(a_failed_creation_leaves_no_descriptor)
{
	const uint64_t far_node[16] = { [15] = 1ULL << 63 };
	int before = nr_descriptors();
	size_t i;

	for (i = 0; i < 3; i++) {
		EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, OPTIONS(
			.backend = memfds[i], .policy = DVSM_POLICY_BIND,
			.nr_nodes = 1024, .nodes = far_node)));
		EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_region_create(CHUNK, OPTIONS(
			.backend = memfds[i], .flags = DVSM_REGION_F_PINNED)));
	}
	EXPECT_EQ(before, nr_descriptors());
	EXPECT_EQ(0, nr_region_mappings());
}

TEST(huge_required_without_the_module_means_the_pool)
{
	const uint32_t flags = DVSM_REGION_F_HUGE_REQUIRED;
	struct dvsm_region *region;

	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_region_create(CHUNK, OPTIONS(
		.backend = DVSM_BACKEND_MEMFD_THP, .flags = flags)));
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_region_create(CHUNK, OPTIONS(
		.backend = DVSM_BACKEND_MEMFD_4K, .flags = flags)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK + PAGE, OPTIONS(
		.backend = DVSM_BACKEND_MEMFD, .flags = flags)));
	if (free_huge_pages() >= 4) {
		region = dvsm_region_create(CHUNK, OPTIONS(
			.backend = DVSM_BACKEND_MEMFD, .flags = flags));
		ASSERT_NE(NULL, region);
		EXPECT_EQ(DVSM_BACKEND_MEMFD_HUGETLB, dvsm_region_backend(region));
		dvsm_region_destroy(region);
	}
	/* No pool is that large. */
	EXPECT_FAILS_NULL(ENOMEM, dvsm_region_create(1ULL << 42, OPTIONS(
		.backend = DVSM_BACKEND_MEMFD, .flags = flags)));
}

FIXTURE(memfd_hugetlb)
{
	unsigned long nr;	/* free pages of the pool */
};

FIXTURE_SETUP(memfd_hugetlb)
{
	self->nr = free_huge_pages();
	if (self->nr < 4)
		SKIP(return, "needs 4 free huge pages: /proc/sys/vm/nr_hugepages");
}

FIXTURE_TEARDOWN(memfd_hugetlb)
{
	EXPECT_EQ(self->nr, free_huge_pages());
}

TEST_F(memfd_hugetlb, the_pool_is_reserved_at_creation_and_given_back)
{
	struct dvsm_region *region, *more;
	unsigned long nr = self->nr;

	region = dvsm_region_create(nr * CHUNK, OPTIONS(.backend = DVSM_BACKEND_MEMFD_HUGETLB));
	ASSERT_NE(NULL, region);
	EXPECT_FAILS_NULL(ENOMEM, dvsm_region_create(CHUNK, OPTIONS(
		.backend = DVSM_BACKEND_MEMFD_HUGETLB)));
	/* Without a name the next best is taken: nobody gets a SIGBUS. */
	more = dvsm_region_create(CHUNK, OPTIONS(.backend = DVSM_BACKEND_MEMFD));
	ASSERT_NE(NULL, more);
	EXPECT_NE(DVSM_BACKEND_MEMFD_HUGETLB, dvsm_region_backend(more));
	dvsm_region_destroy(more);
	dvsm_region_destroy(region);
	EXPECT_EQ(nr, free_huge_pages());
	region = dvsm_region_create(nr * CHUNK, OPTIONS(.backend = DVSM_BACKEND_MEMFD_HUGETLB));
	EXPECT_NE(NULL, region);
	dvsm_region_destroy(region);
}

TEST_F(memfd_hugetlb, discard_keeps_the_reservation)
{
	struct dvsm_region *region, *other;
	unsigned long nr = self->nr;
	char *map;

	region = dvsm_region_create(nr * CHUNK, OPTIONS(.backend = DVSM_BACKEND_MEMFD_HUGETLB));
	ASSERT_NE(NULL, region);
	map = dvsm_region_map(region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, map);
	memset(map, 1, nr * CHUNK);
	EXPECT_EQ(0, dvsm_region_discard(region, 0, 0, NULL));
	other = dvsm_region_create(CHUNK, OPTIONS(.backend = DVSM_BACKEND_MEMFD_HUGETLB));
	EXPECT_EQ(NULL, other);
	memset(map, 2, nr * CHUNK);
	EXPECT_EQ(0, dvsm_region_unmap(map, nr * CHUNK));
	dvsm_region_destroy(region);
}

TEST(several_tebibytes_cost_nothing)
{
	const uint64_t length = 4ULL << 40;
	struct dvsm_region_info info = { .size = sizeof(info) };
	struct dvsm_chunk chunks[4];
	struct dvsm_region *region;
	uint64_t next;
	size_t i;
	char *map;

	for (i = 0; i < 3; i++) {
		region = dvsm_region_create(length, OPTIONS(.backend = memfds[i]));
		ASSERT_NE(NULL, region);
		EXPECT_NE(DVSM_BACKEND_MEMFD_HUGETLB, dvsm_region_backend(region));
		map = dvsm_region_map(region, 0, 0, RW, NULL);
		ASSERT_NE(NULL, map);
		map[0] = map[length / 2] = map[length - 1] = 1;
		EXPECT_EQ(3, dvsm_region_residency(region, 0, 0, chunks, 4, &next));
		EXPECT_EQ(length, next);
		EXPECT_EQ(length / 2, chunks[1].offset);
		EXPECT_EQ(0, dvsm_region_info(region, &info));
		EXPECT_GE(3 * CHUNK, info.out_resident);
		EXPECT_EQ(0, dvsm_region_unmap(map, length));
		dvsm_region_destroy(region);
	}
}

TEST(the_environment_decides_only_what_the_caller_leaves_open)
{
	struct dvsm_region *region;

	setenv("DVSM_BACKEND", "memfd-4k", 1);
	region = dvsm_region_create(CHUNK, NULL);
	ASSERT_NE(NULL, region);
	EXPECT_EQ(DVSM_BACKEND_MEMFD_4K, dvsm_region_backend(region));
	dvsm_region_destroy(region);
	region = dvsm_region_create(CHUNK, OPTIONS(.backend = DVSM_BACKEND_MEMFD_THP));
	ASSERT_NE(NULL, region);
	EXPECT_EQ(DVSM_BACKEND_MEMFD_THP, dvsm_region_backend(region));
	dvsm_region_destroy(region);

	setenv("DVSM_BACKEND", "memfd-thp", 1);
	region = dvsm_region_create(CHUNK, NULL);
	ASSERT_NE(NULL, region);
	EXPECT_EQ(DVSM_BACKEND_MEMFD_THP, dvsm_region_backend(region));
	dvsm_region_destroy(region);

	/* Both words name the device, which is used or the call fails. */
	setenv("DVSM_BACKEND", "device", 1);
	region = dvsm_region_create(CHUNK, NULL);
	EXPECT_EQ(have_device(), region != NULL);
	dvsm_region_destroy(region);
	errno = 0;
	setenv("DVSM_BACKEND", "dvsm", 1);
	region = dvsm_region_create(CHUNK, NULL);
	EXPECT_EQ(have_device(), region != NULL) TH_LOG("%s", strerror(errno));
	EXPECT_TRUE(region ? dvsm_region_backend(region) == DVSM_BACKEND_DEVICE : errno != EINVAL);
	dvsm_region_destroy(region);

	setenv("DVSM_BACKEND", "diskette", 1);
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create(CHUNK, NULL));

	setenv("DVSM_BACKEND", "", 1);
	region = dvsm_region_create(CHUNK, NULL);
	ASSERT_NE(NULL, region);
	EXPECT_EQ(have_device(), dvsm_region_backend(region) == DVSM_BACKEND_DEVICE);
	dvsm_region_destroy(region);
}

TEST(the_device_when_named_is_used_or_the_call_fails)
{
	struct dvsm_region *region;

	region = dvsm_region_create(CHUNK, OPTIONS(.backend = DVSM_BACKEND_DEVICE));
	EXPECT_EQ(have_device(), region != NULL);
	if (!region) {
		EXPECT_TRUE(errno == ENOENT || errno == EACCES || errno == ENODEV);
	} else {
		EXPECT_EQ(DVSM_BACKEND_DEVICE, dvsm_region_backend(region));
	}
	dvsm_region_destroy(region);
}

TEST(info_tells_about_a_backend_without_making_a_region)
{
	struct {
		struct dvsm_info info;
		uint64_t more;
	} longer = { .info = { .size = sizeof(longer) }, .more = 0x5a };
	struct dvsm_info info = { .size = sizeof(info), .out_limit = 0x5a };
	int chosen;

	unsetenv("DVSM_BACKEND");
	chosen = dvsm_info(DVSM_BACKEND_MEMFD, &info);
	EXPECT_TRUE(chosen == DVSM_BACKEND_MEMFD_THP || chosen == DVSM_BACKEND_MEMFD_4K);
	EXPECT_EQ(sizeof(info), info.size);
	EXPECT_EQ(0, info.out_abi_version);
	EXPECT_EQ(CHUNK, info.out_chunk_size);
	EXPECT_LT(0, info.out_nr_nodes);
	EXPECT_EQ(0, info.out_limit);
	EXPECT_NE(0, info.out_features & DVSM_FEATURE_REGION);
	EXPECT_EQ(0, info.out_features & (DVSM_FEATURE_PINNED | DVSM_FEATURE_IMPLICIT_REGION));
	EXPECT_EQ(DVSM_BACKEND_MEMFD_4K, dvsm_info(DVSM_BACKEND_MEMFD_4K, &info));
	EXPECT_FAILS(E2BIG, dvsm_info(DVSM_BACKEND_MEMFD, &longer.info));
	longer.more = 0;
	EXPECT_LT(0, dvsm_info(DVSM_BACKEND_MEMFD, &longer.info));
	EXPECT_EQ(sizeof(longer), longer.info.size);
	chosen = dvsm_info(DVSM_BACKEND_AUTO, &info);
	EXPECT_EQ(have_device(), chosen == DVSM_BACKEND_DEVICE);
	if (chosen == DVSM_BACKEND_DEVICE) {
		EXPECT_LT(0, info.out_abi_version);
		EXPECT_LT(0, info.out_limit);
	}
	EXPECT_FAILS(EOPNOTSUPP, dvsm_info(6, &info));
	info.size--;
	EXPECT_FAILS(EINVAL, dvsm_info(DVSM_BACKEND_MEMFD, &info));
	info.size++;
	info.flags = 1;
	EXPECT_FAILS(EOPNOTSUPP, dvsm_info(DVSM_BACKEND_MEMFD, &info));
	setenv("DVSM_BACKEND", "nothing", 1);
	info.flags = 0;
	EXPECT_FAILS(EINVAL, dvsm_info(DVSM_BACKEND_AUTO, &info));
}

TEST(open_refuses_descriptors_of_other_kinds_and_leaves_them_alone)
{
	int file = open(".", O_TMPFILE | O_RDWR, 0600);
	int null = open("/dev/null", O_RDWR);
	int empty = memfd_create("empty", 0);
	int memfd = memfd_create("dvsm", 0);
	int ends[2], path, write_only;
	struct dvsm_region *region;
	char name[32];

	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(0, ftruncate(memfd, CHUNK));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", memfd);
	write_only = open(name, O_WRONLY);
	path = open(name, O_PATH);
	EXPECT_FAILS_NULL(EBADF, dvsm_region_open(-1, NULL));
	EXPECT_FAILS_NULL(EBADF, dvsm_region_open(1000, NULL));
	EXPECT_FAILS_NULL(EBADF, dvsm_region_open(ends[0], NULL));
	EXPECT_FAILS_NULL(EBADF, dvsm_region_open(ends[1], NULL));
	EXPECT_FAILS_NULL(EBADF, dvsm_region_open(null, NULL));
	EXPECT_FAILS_NULL(EBADF, dvsm_region_open(path, NULL));
	EXPECT_FAILS_NULL(EBADF, dvsm_region_open(write_only, NULL));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_open(empty, NULL));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_open(memfd, OPTIONS(.label = "no")));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_open(memfd, OPTIONS(.flags = 1)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_open(memfd, OPTIONS(
		.backend = DVSM_BACKEND_DEVICE)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_open(memfd, OPTIONS(
		.backend = DVSM_BACKEND_MEMFD_HUGETLB)));
	EXPECT_EQ(0, fcntl(memfd, F_GETFD));
	EXPECT_EQ(0, fcntl(ends[0], F_GETFD));
	region = dvsm_region_open(memfd, OPTIONS(.backend = DVSM_BACKEND_MEMFD_4K));
	ASSERT_NE(NULL, region);
	EXPECT_EQ(DVSM_BACKEND_MEMFD_4K, dvsm_region_backend(region));
	dvsm_region_destroy(region);
	close(file), close(null), close(empty), close(ends[0]), close(ends[1]), close(path);
	close(write_only);
}

TEST(a_read_only_memfd_gives_a_read_only_handle)
{
	int memfd = memfd_create("dvsm", 0), read_only;
	struct dvsm_region *region, *again;
	struct dvsm_region_info info = { .size = sizeof(info) };
	char name[32];
	char *map;

	ASSERT_EQ(0, ftruncate(memfd, 2 * CHUNK));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", memfd);
	read_only = open(name, O_RDONLY | O_CLOEXEC);
	region = dvsm_region_open(read_only, NULL);
	ASSERT_NE(NULL, region);
	EXPECT_FAILS_NULL(EACCES, dvsm_region_map(region, 0, 0, RW, NULL));
	EXPECT_FAILS(EBADF, dvsm_region_populate(region, 0, 0, 0, NULL));
	EXPECT_FAILS(EBADF, dvsm_region_discard(region, 0, 0, NULL));
	EXPECT_EQ(0, dvsm_region_info(region, &info));
	EXPECT_EQ(DVSM_REGION_F_READ_ONLY, info.out_flags);
	again = dvsm_region_reopen(region, 0);
	ASSERT_NE(NULL, again);
	EXPECT_FAILS_NULL(EACCES, dvsm_region_map(again, 0, 0, RW, NULL));
	map = dvsm_region_map(again, 0, 0, PROT_READ, NULL);
	EXPECT_NE(NULL, map);
	EXPECT_EQ(0, dvsm_region_unmap(map, 2 * CHUNK));
	dvsm_region_destroy(again);
	dvsm_region_destroy(region);
	close(memfd);
}

TEST(destroy_keeps_errno_and_takes_null)
{
	struct dvsm_region *region = dvsm_region_create(CHUNK, NULL);

	ASSERT_NE(NULL, region);
	errno = EDOM;
	dvsm_region_destroy(NULL);
	EXPECT_EQ(EDOM, errno);
	/* Even where it cannot close: somebody else has. */
	close(dvsm_region_fd(region));
	dvsm_region_destroy(region);
	EXPECT_EQ(EDOM, errno);
}

TEST(the_library_is_silent_unless_asked)
{
	int saved = dup(STDERR_FILENO), quiet = memfd_create("stderr", 0);
	char text[512] = "";

	dup2(quiet, STDERR_FILENO);
	unsetenv("DVSM_DEBUG");
	dvsm_region_destroy(dvsm_region_create(CHUNK, NULL));
	dvsm_region_create(0, NULL);
	EXPECT_EQ(0, lseek(quiet, 0, SEEK_END));
	setenv("DVSM_DEBUG", "0", 1);
	dvsm_region_destroy(dvsm_region_create(CHUNK, NULL));
	EXPECT_EQ(0, lseek(quiet, 0, SEEK_END));
	setenv("DVSM_DEBUG", "1", 1);
	dvsm_region_destroy(dvsm_region_create(CHUNK, OPTIONS(
		.backend = DVSM_BACKEND_MEMFD_4K)));
	dup2(saved, STDERR_FILENO);
	EXPECT_LT(0, pread(quiet, text, sizeof(text) - 1, 0));
	EXPECT_NE(NULL, strstr(text, "memfd-4k"));
	close(quiet), close(saved);
}

TEST_HARNESS_MAIN
