// SPDX-License-Identifier: GPL-2.0-only
/*
 * This library on a module of the first release. The module is today's; what stands
 * between it and the library, ioctl() below, refuses what the first one did not know.
 */
#include <stdarg.h>
#include <sys/ioctl.h>

#include "lib_test.h"
#include "kselftest_harness.h"

#define LENGTH		(2 * CHUNK)
#define FIRST_FEATURES	(DVSM_FEATURE_REGION | DVSM_FEATURE_IMPLICIT_REGION | \
			 DVSM_FEATURE_PINNED | DVSM_FEATURE_POLICY)

/* The first module's commands, and how long their structs were. */
static const struct { unsigned long command; uint32_t size; } first[] = {
	{ DVSM_IOC_INFO, 80 },
	{ DVSM_IOC_REGION_CREATE, 64 },
	{ DVSM_IOC_REGION_INFO, 128 },
	{ DVSM_IOC_REGION_NODES, 24 },
	{ DVSM_IOC_REGION_POPULATE, 40 },
	{ DVSM_IOC_REGION_DISCARD, 32 },
	{ DVSM_IOC_REGION_RESIDENCY, 48 },
	{ DVSM_IOC_REGION_REOPEN, 8 },
};

static bool is_old;

/* What an older module does with a longer struct: its tail has to be zero, and stays so. */
static int old_command(int fd, unsigned long command, void *argument, uint32_t size)
{
	uint32_t length = *(uint32_t *)argument, i;
	char *bytes = argument;
	int ret;

	for (i = size; i < length; i++)
		if (bytes[i]) {
			errno = E2BIG;
			return -1;
		}
	*(uint32_t *)argument = length < size ? length : size;
	ret = syscall(SYS_ioctl, fd, command, argument);
	*(uint32_t *)argument = length;
	if (!ret && command == DVSM_IOC_INFO)
		((struct dvsm_info *)argument)->out_features &= FIRST_FEATURES;
	return ret;
}

/* Takes the place of libc's. */
int ioctl(int fd, unsigned long command, ...)
{
	void *argument;
	va_list list;
	size_t i;

	va_start(list, command);
	argument = va_arg(list, void *);
	va_end(list);
	if (!is_old || _IOC_TYPE(command) != DVSM_IOC_MAGIC)
		return syscall(SYS_ioctl, fd, command, argument);
	for (i = 0; i < sizeof(first) / sizeof(first[0]); i++)
		if (first[i].command == command)
			return old_command(fd, command, argument, first[i].size);
	errno = ENOTTY;
	return -1;
}

FIXTURE(device) {
	struct dvsm_region_options options;
	struct dvsm_region *region;
};

FIXTURE_SETUP(device)
{
	if (access("/dev/dvsm", R_OK | W_OK))
		SKIP(return, "no /dev/dvsm");
	is_old = true;
	self->options = (struct dvsm_region_options){
		.size = sizeof(self->options),
		.backend = DVSM_BACKEND_DEVICE,
	};
	self->region = dvsm_region_create(LENGTH, &self->options);
	ASSERT_NE(NULL, self->region) TH_LOG("%s", strerror(errno));
}

FIXTURE_TEARDOWN(device)
{
	dvsm_region_destroy(self->region);
}

TEST_F(device, features_that_are_missing_are_told)
{
	EXPECT_EQ(FIRST_FEATURES, dvsm_region_features(self->region));
}

TEST_F(device, what_the_first_module_did_works)
{
	struct dvsm_region_info info = { .size = sizeof(info) };
	uint64_t bytes;
	char *map;

	map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, map);
	map[0] = 1;
	EXPECT_EQ(0, dvsm_region_populate(self->region, 0, 0, 0, &bytes));
	EXPECT_EQ(CHUNK, bytes);
	EXPECT_EQ(0, dvsm_region_info(self->region, &info));
	EXPECT_EQ(LENGTH, info.out_resident);
	EXPECT_EQ(0, info.out_shared);
	EXPECT_EQ(0, dvsm_region_discard(self->region, 0, 0, &bytes));
	EXPECT_EQ(0, map[0]);
	dvsm_region_unmap(map, LENGTH);
}

TEST_F(device, what_it_did_not_know_is_EOPNOTSUPP)
{
	struct dvsm_snapshot_options options = { .size = sizeof(options) };
	struct dvsm_member member;
	struct dvsm_name name;
	struct dvsm_range range;
	struct dvsm_region_promote promote = { .size = sizeof(promote) };
	struct dvsm_region_split split = { .size = sizeof(split) };
	struct dvsm_region_entry entry;
	uint64_t cursor = 0, next;
	uint32_t nr = 1;
	char *map;

	errno = 0;
	EXPECT_EQ(NULL, dvsm_snapshot_take(self->region, &options));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(-EOPNOTSUPP, dvsm_snapshot_restore(self->region, self->region, &next));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_unshare(self->region, 0, 0, &next));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_pin(self->region, 0, CHUNK));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_unpin(self->region, 0, CHUNK));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_export_dmabuf(self->region, 0, CHUNK));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_extents(self->region, 0, CHUNK, &range, 1, &next));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_join(self->region, 1));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_leave(self->region, 1));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_members(self->region, &cursor, &member, 1));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_events(self->region));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_name_create(self->region, "/old", 0600, 0));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_name_unlink("/old", DVSM_BACKEND_DEVICE));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_name_list(&cursor, &name, 1));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_snapshot_merge(self->region, self->region, 0, &range, &nr, &next));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_diff(self->region, self->region, 0, 0, &range, 1, &next));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_snapshot_advance(self->region, self->region, 0, 0, &range, 1, &next));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_place_node(self->region, 0, 0, DVSM_POLICY_BIND, 0));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_migrate_to_node(self->region, 0, 0, 0, &next));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_balance(self->region, DVSM_BALANCE_OFF));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_promote(self->region, &promote));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_split(self->region, &split));
	EXPECT_EQ(-EOPNOTSUPP, dvsm_region_list(&cursor, &entry, 1));
	errno = 0;
	EXPECT_EQ(NULL, dvsm_region_watch(1));
	EXPECT_EQ(EOPNOTSUPP, errno);
	map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, map);
	errno = 0;
	EXPECT_EQ(NULL, dvsm_region_find(map, &next));
	EXPECT_EQ(EOPNOTSUPP, errno);
	errno = 0;
	EXPECT_EQ(NULL, dvsm_region_view(self->region, map));
	EXPECT_EQ(EOPNOTSUPP, errno);
	dvsm_region_unmap(map, LENGTH);
}

TEST_F(device, heap_works)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options),
		.backend = DVSM_BACKEND_DEVICE,
	};
	struct dvsm_heap *heap = dvsm_heap_create(&options);
	char *block;

	ASSERT_NE(NULL, heap) TH_LOG("%s", strerror(errno));
	block = dvsm_heap_malloc(heap, 1000);
	ASSERT_NE(NULL, block);
	memset(block, 1, 1000);
	dvsm_heap_free(heap, block);
	dvsm_heap_detach(heap);
}

TEST_HARNESS_MAIN
