// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names, members and events by the library: on the device what the module does, on
 * memfd files in /dev/shm, and EOPNOTSUPP for the rest.
 */
#include "lib_test.h"
#include "kselftest_harness.h"

#define LENGTH (2 * CHUNK)

FIXTURE(lib_name) {
	struct dvsm_region_options options;
	char name[64];
};

FIXTURE_VARIANT(lib_name) {
	uint32_t backend;
};

FIXTURE_VARIANT_ADD(lib_name, device) { .backend = DVSM_BACKEND_DEVICE, };
FIXTURE_VARIANT_ADD(lib_name, memfd) { .backend = DVSM_BACKEND_MEMFD, };
FIXTURE_VARIANT_ADD(lib_name, memfd_4k) { .backend = DVSM_BACKEND_MEMFD_4K, };

FIXTURE_SETUP(lib_name)
{
	if (variant->backend == DVSM_BACKEND_DEVICE && access("/dev/dvsm", R_OK | W_OK))
		SKIP(return, "no /dev/dvsm");
	if (variant->backend != DVSM_BACKEND_DEVICE && access("/dev/shm", W_OK))
		SKIP(return, "no /dev/shm");
	umask(0);
	self->options.size = sizeof(self->options);
	self->options.backend = variant->backend;
	/* Tests of several users must not meet. One that was killed may have left its name. */
	snprintf(self->name, sizeof(self->name), "/dvsm-test-%d", getpid());
	dvsm_name_unlink(self->name, variant->backend);
}

FIXTURE_TEARDOWN(lib_name)
{
	dvsm_name_unlink(self->name, variant->backend);
}

static bool is_device(uint32_t backend)
{
	return backend == DVSM_BACKEND_DEVICE;
}

TEST_F(lib_name, strangers_share_what_is_in_it)
{
	struct dvsm_region *region, *other;
	char *mine, *others;
	int fds;

	region = dvsm_region_create_named(self->name, 0600, DVSM_NAME_F_KEEP, LENGTH,
					  &self->options);
	ASSERT_NE(NULL, region);
	mine = dvsm_region_map(region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, mine);
	mine[CHUNK] = 'x';
	dvsm_region_unmap(mine, LENGTH);
	dvsm_region_destroy(region);
	fds = nr_descriptors();

	other = dvsm_name_open(self->name, 0, variant->backend);
	ASSERT_NE(NULL, other);
	EXPECT_EQ(LENGTH, dvsm_region_length(other));
	EXPECT_EQ(is_device(variant->backend), is_device(dvsm_region_backend(other)));
	others = dvsm_region_map(other, 0, 0, RW, NULL);
	ASSERT_NE(NULL, others);
	EXPECT_EQ('x', others[CHUNK]);
	dvsm_region_unmap(others, LENGTH);

	/* With and without the '/'. */
	EXPECT_EQ(0, dvsm_name_unlink(self->name + 1, variant->backend));
	EXPECT_FAILS(ENOENT, dvsm_name_unlink(self->name, variant->backend));
	EXPECT_FAILS_NULL(ENOENT, dvsm_name_open(self->name, 0, variant->backend));
	dvsm_region_destroy(other);
	EXPECT_EQ(fds, nr_descriptors());
}

TEST_F(lib_name, environment_chooses_the_backend_of_named_ones_too)
{
	struct dvsm_region_options options = self->options;
	const char *name = dvsm_backend_name(variant->backend);
	struct dvsm_region *region;

	if (variant->backend == DVSM_BACKEND_MEMFD)
		name = "memfd-thp";
	options.backend = DVSM_BACKEND_AUTO;
	ASSERT_EQ(0, setenv("DVSM_BACKEND", name, 1));
	region = dvsm_region_create_named(self->name, 0600, DVSM_NAME_F_KEEP, LENGTH, &options);
	ASSERT_NE(NULL, region);
	EXPECT_STREQ(name, dvsm_backend_name(dvsm_region_backend(region)));
	dvsm_region_destroy(region);
	region = dvsm_name_open(self->name, 0, DVSM_BACKEND_AUTO);
	ASSERT_NE(NULL, region);
	EXPECT_STREQ(name, dvsm_backend_name(dvsm_region_backend(region)));
	dvsm_region_destroy(region);
	unsetenv("DVSM_BACKEND");
}

TEST_F(lib_name, is_made_once)
{
	struct dvsm_region *region;
	int fds = nr_descriptors();

	region = dvsm_region_create_named(self->name, 0600, DVSM_NAME_F_KEEP, LENGTH,
					  &self->options);
	ASSERT_NE(NULL, region);
	EXPECT_FAILS_NULL(EEXIST, dvsm_region_create_named(self->name, 0600, DVSM_NAME_F_KEEP,
							   LENGTH, &self->options));
	dvsm_region_destroy(region);
	EXPECT_EQ(fds, nr_descriptors());
}

TEST_F(lib_name, one_that_ends_by_itself_is_the_devices_alone)
{
	struct dvsm_region *region = dvsm_region_create_named(self->name, 0600, 0, LENGTH,
							      &self->options);

	if (!is_device(variant->backend)) {
		EXPECT_EQ(NULL, region);
		EXPECT_EQ(EOPNOTSUPP, errno);
		return;
	}
	ASSERT_NE(NULL, region);
	dvsm_region_destroy(region);
	EXPECT_FAILS_NULL(ENOENT, dvsm_name_open(self->name, 0, variant->backend));
}

TEST_F(lib_name, read_only_handle_maps_for_reading_only)
{
	struct dvsm_region *region, *reader;
	void *map;

	region = dvsm_region_create_named(self->name, 0600, DVSM_NAME_F_KEEP, LENGTH,
					  &self->options);
	ASSERT_NE(NULL, region);
	reader = dvsm_name_open(self->name, DVSM_NAME_F_READ_ONLY, variant->backend);
	ASSERT_NE(NULL, reader);
	EXPECT_FAILS_NULL(EACCES, dvsm_region_map(reader, 0, 0, RW, NULL));
	map = dvsm_region_map(reader, 0, 0, PROT_READ, NULL);
	EXPECT_NE(NULL, map);
	dvsm_region_unmap(map, LENGTH);
	dvsm_region_destroy(reader);
	dvsm_region_destroy(region);
}

TEST_F(lib_name, wrong_arguments_are_told_apart_and_leave_nothing)
{
	static const char *const wrong[] = { "", "/", ".", "..", "/..", "//a", "a/b", "a/" };
	struct dvsm_region_options odd = self->options;
	struct dvsm_region *region = dvsm_region_create(LENGTH, &self->options);
	char longest[DVSM_NAME_SIZE + 1];
	int fds = nr_descriptors();
	uint64_t cursor = 0;
	size_t i;

	ASSERT_NE(NULL, region);
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		EXPECT_FAILS_NULL(EINVAL, dvsm_name_open(wrong[i], 0, variant->backend));
		EXPECT_FAILS(EINVAL, dvsm_name_unlink(wrong[i], variant->backend));
		EXPECT_FAILS_NULL(EINVAL, dvsm_region_create_named(wrong[i], 0600,
								   DVSM_NAME_F_KEEP, LENGTH,
								   &self->options));
		EXPECT_FAILS(is_device(variant->backend) ? EINVAL : EOPNOTSUPP,
			     dvsm_name_create(region, wrong[i], 0600, 0));
	}
	memset(longest, 'n', DVSM_NAME_SIZE);
	longest[DVSM_NAME_SIZE] = '\0';
	EXPECT_FAILS_NULL(EINVAL, dvsm_name_open(longest, 0, variant->backend));
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_name_open(self->name, 1U << 7, variant->backend));
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_name_open(self->name, 0, DVSM_BACKEND_MEMFD_HUGETLB));
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_name_open(self->name, 0, 77));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create_named(self->name, 01000, DVSM_NAME_F_KEEP,
							   LENGTH, &self->options));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create_named(self->name, 0600, DVSM_NAME_F_KEEP,
							   LENGTH + 1, &self->options));
	odd.size = offsetof(struct dvsm_region_options, weights) - 1;
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_create_named(self->name, 0600, DVSM_NAME_F_KEEP,
							   LENGTH, &odd));
	EXPECT_FAILS_NULL(ENOENT, dvsm_name_open(self->name, 0, variant->backend));
	if (is_device(variant->backend)) {
		EXPECT_FAILS(EINVAL, dvsm_name_list(&cursor, NULL, 0));
	}
	EXPECT_EQ(fds, nr_descriptors());
	dvsm_region_destroy(region);
}

TEST_F(lib_name, list_has_it_on_the_device)
{
	struct dvsm_name names[8];
	uint64_t cursor = 0;
	bool found = false;
	struct dvsm_region *region;
	int nr, i;

	if (!is_device(variant->backend))
		return;
	region = dvsm_region_create_named(self->name, 0640, 0, LENGTH, &self->options);
	ASSERT_NE(NULL, region);
	while ((nr = dvsm_name_list(&cursor, names, 8)) > 0)
		for (i = 0; i < nr; i++)
			found |= !strcmp((char *)names[i].name, self->name + 1) &&
				 names[i].mode == 0640 && names[i].length == LENGTH;
	EXPECT_EQ(0, nr);
	EXPECT_TRUE(found);
	dvsm_region_destroy(region);
}

TEST_F(lib_name, death_of_a_member_is_read_and_others_have_no_members)
{
	struct dvsm_region *region = dvsm_region_create(LENGTH, &self->options);
	struct dvsm_member members[4];
	struct dvsm_event event;
	uint64_t cursor = 0;
	int events;

	ASSERT_NE(NULL, region);
	if (!is_device(variant->backend)) {
		EXPECT_FAILS(EOPNOTSUPP, dvsm_region_events(region));
		EXPECT_FAILS(EOPNOTSUPP, dvsm_region_join(region, 1));
		EXPECT_FAILS(EOPNOTSUPP, dvsm_region_leave(region, 1));
		EXPECT_FAILS(EOPNOTSUPP, dvsm_region_members(region, &cursor, members, 4));
		EXPECT_FAILS(EOPNOTSUPP, dvsm_name_create(region, self->name, 0600, 0));
		EXPECT_EQ(0, dvsm_region_features(region) &
			     (DVSM_FEATURE_NAMES | DVSM_FEATURE_EVENTS));
		dvsm_region_destroy(region);
		return;
	}
	EXPECT_EQ(DVSM_FEATURE_NAMES | DVSM_FEATURE_EVENTS, dvsm_region_features(region) &
		  (DVSM_FEATURE_NAMES | DVSM_FEATURE_EVENTS));
	events = dvsm_region_events(region);
	ASSERT_LE(0, events);
	EXPECT_EQ(0, dvsm_region_join(region, 5));
	EXPECT_FAILS(EEXIST, dvsm_region_join(region, 5));
	EXPECT_EQ(1, dvsm_region_members(region, &cursor, members, 4));
	EXPECT_EQ(5, members[0].cookie);
	EXPECT_EQ(0, dvsm_region_members(region, &cursor, members, 4));
	EXPECT_EQ(0, dvsm_region_leave(region, 5));
	EXPECT_FAILS(ENOENT, dvsm_region_leave(region, 5));
	EXPECT_TRUE(IN_CHILD(!dvsm_region_join(region, 6)));
	ASSERT_EQ(sizeof(event), read(events, &event, sizeof(event)));
	EXPECT_EQ(DVSM_EVENT_EXIT, event.type);
	EXPECT_EQ(6, event.cookie);
	close(events);
	dvsm_region_destroy(region);
}

TEST_HARNESS_MAIN
