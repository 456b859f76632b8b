// SPDX-License-Identifier: GPL-2.0-only
/* The library's calls for NUMA balancing; what they do in the kernel is balance_test's. */
#include <kselftest_harness.h>

#include "lib_test.h"

FIXTURE(memfd) {
	struct dvsm_region *region;
};

FIXTURE_SETUP(memfd)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = DVSM_BACKEND_MEMFD,
	};

	self->region = dvsm_region_create(CHUNK, &options);
	ASSERT_NE(NULL, self->region);
}

FIXTURE_TEARDOWN(memfd)
{
	dvsm_region_destroy(self->region);
}

TEST_F(memfd, cannot_balance)
{
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_balance(self->region, DVSM_BALANCE_KEEP));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_balance(self->region, DVSM_BALANCE_ON));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_balance_report(self->region, NULL, 0, NULL, NULL));
}

FIXTURE(device) {
	struct dvsm_region *region;
};

FIXTURE_SETUP(device)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = DVSM_BACKEND_DEVICE,
	};

	if (access(DVSM_DEVICE_PATH, F_OK))
		SKIP(return, "no /dev/dvsm (load the module)");
	self->region = dvsm_region_create(CHUNK, &options);
	ASSERT_NE(NULL, self->region);
}

FIXTURE_TEARDOWN(device)
{
	dvsm_region_destroy(self->region);
}

TEST_F(device, answers_the_mode_before_and_reports)
{
	struct dvsm_balance_use uses[64 * 64];
	struct dvsm_region *reader, *watch;
	struct dvsm_region_info info = { .size = sizeof(info) };
	uint64_t nr_hints = 1, nr_held = 1;
	int nr_nodes;

	ASSERT_LE(0, dvsm_region_balance(self->region, DVSM_BALANCE_OBSERVE));
	EXPECT_EQ(DVSM_BALANCE_OBSERVE, dvsm_region_balance(self->region, DVSM_BALANCE_OFF));
	EXPECT_EQ(DVSM_BALANCE_OFF, dvsm_region_balance(self->region, DVSM_BALANCE_KEEP));
	EXPECT_EQ(DVSM_BALANCE_OFF, dvsm_region_balance(self->region, DVSM_BALANCE_KEEP));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_balance(self->region, 4));

	nr_nodes = dvsm_region_balance_report(self->region, uses, 64, &nr_hints, &nr_held);
	EXPECT_LT(0, nr_nodes);
	EXPECT_EQ(0, nr_hints);
	EXPECT_EQ(0, nr_held);
	EXPECT_EQ(0, uses[0].out_nr_chunks);
	EXPECT_EQ(nr_nodes, dvsm_region_balance_report(self->region, NULL, 0, NULL, NULL));

	reader = dvsm_region_reopen(self->region, DVSM_REOPEN_F_READ_ONLY);
	ASSERT_NE(NULL, reader);
	EXPECT_FAILS(EBADF, dvsm_region_balance(reader, DVSM_BALANCE_ON));
	EXPECT_EQ(DVSM_BALANCE_OFF, dvsm_region_balance(reader, DVSM_BALANCE_KEEP));
	dvsm_region_destroy(reader);

	/* So does a handle that only looks. */
	ASSERT_EQ(0, dvsm_region_info(self->region, &info));
	watch = dvsm_region_watch(info.out_id);
	ASSERT_NE(NULL, watch);
	EXPECT_FAILS(EBADF, dvsm_region_balance(watch, DVSM_BALANCE_ON));
	EXPECT_EQ(DVSM_BALANCE_OFF, dvsm_region_balance(watch, DVSM_BALANCE_KEEP));
	EXPECT_FAILS_NULL(EACCES, dvsm_region_map(watch, 0, 0, PROT_READ, NULL));
	EXPECT_FAILS(EBADF, dvsm_region_populate(watch, 0, 0, 0, NULL));
	dvsm_region_destroy(watch);
}

TEST_HARNESS_MAIN
