// SPDX-License-Identifier: GPL-2.0-only
/* The library's commands by io_uring, and the example of an event loop. */
#include <limits.h>
#include <liburing.h>

#include "kselftest_harness.h"
#include "example_test.h"

#define LENGTH	(8 * CHUNK)

#define EXPECT_NO_SQE(expected_errno, call) do {					\
	errno = 0;								\
	EXPECT_EQ(NULL, call);							\
	EXPECT_EQ(expected_errno, errno);					\
} while (0)

static struct dvsm_region *region_on(uint32_t backend)
{
	struct dvsm_region_options options = { .size = sizeof(options), .backend = backend };

	return dvsm_region_create(LENGTH, &options);
}

FIXTURE(async) {
	struct dvsm_region *region;
	struct io_uring ring;
	union dvsm_async async;
	char *map;
};

FIXTURE_SETUP(async)
{
	self->region = region_on(DVSM_BACKEND_DEVICE);
	if (!self->region)
		SKIP(return, "no /dev/dvsm (load the module)");
	ASSERT_EQ(0, io_uring_queue_init(2, &self->ring, 0));
	self->map = dvsm_region_map(self->region, 0, LENGTH, RW, NULL);
	ASSERT_NE(NULL, self->map);
}

FIXTURE_TEARDOWN(async)
{
	io_uring_queue_exit(&self->ring);
	dvsm_region_unmap(self->map, LENGTH);
	dvsm_region_destroy(self->region);
}

/* Submits @sqe and waits for it. */
static int result_of(struct io_uring *ring, struct io_uring_sqe *sqe)
{
	struct io_uring_cqe *cqe;
	int result;

	if (!sqe)
		return -errno;
	io_uring_sqe_set_data64(sqe, 77);
	io_uring_submit(ring);
	result = io_uring_wait_cqe(ring, &cqe);
	if (result)
		return result;
	result = cqe->user_data == 77 ? cqe->res : -EIO;
	io_uring_cqe_seen(ring, cqe);
	return result;
}

TEST_F(async, populate_and_discard)
{
	union dvsm_async *async = &self->async;

	EXPECT_NE(0, dvsm_region_features(self->region) & DVSM_FEATURE_URING_CMD);
	EXPECT_EQ(0, result_of(&self->ring, dvsm_region_populate_async(self->region, &self->ring,
								       async, CHUNK, 0, 0)));
	EXPECT_EQ(LENGTH - CHUNK, async->populate.out_populated);
	EXPECT_EQ(0, result_of(&self->ring, dvsm_region_discard_async(self->region, &self->ring,
								      async, 0, 3 * CHUNK)));
	EXPECT_EQ(2 * CHUNK, async->discard.out_discarded);
	EXPECT_EQ(-EINVAL, result_of(&self->ring, dvsm_region_populate_async(self->region,
									     &self->ring, async,
									     1, 0, 0)));
}

TEST_F(async, snapshot_diff_and_restore)
{
	struct dvsm_snapshot_options options = {
		.size = sizeof(options),
		.flags = DVSM_SNAPSHOT_F_READ_ONLY,
		.label = "moment",
	};
	struct dvsm_snapshot_restore restore = { .size = sizeof(restore) };
	struct dvsm_range ranges[4] = {};
	struct dvsm_region *snapshot;
	int fd;

	self->map[0] = 1;
	self->map[2 * CHUNK] = 1;
	fd = result_of(&self->ring, dvsm_snapshot_take_async(self->region, &self->ring,
							     &self->async, &options));
	ASSERT_LT(0, fd);
	snapshot = dvsm_region_open(fd, NULL);
	ASSERT_NE(NULL, snapshot);
	self->map[2 * CHUNK] = 2;
	ASSERT_EQ(0, result_of(&self->ring, dvsm_region_diff_async(self->region, snapshot,
								   &self->ring, &self->async, 0,
								   0, ranges, 4)));
	EXPECT_EQ(1, self->async.diff.out_nr_ranges);
	EXPECT_EQ(LENGTH, self->async.diff.out_next);
	EXPECT_EQ(2 * CHUNK, ranges[0].offset);
	EXPECT_EQ(CHUNK, ranges[0].length);
	restore.snapshot = fd;
	EXPECT_EQ(0, result_of(&self->ring, dvsm_region_command_async(self->region, &self->ring,
								      DVSM_IOC_SNAPSHOT_RESTORE,
								      &restore)));
	EXPECT_EQ(CHUNK, restore.out_restored);
	EXPECT_EQ(1, self->map[2 * CHUNK]);
	dvsm_region_destroy(snapshot);
}

/* The last node that has memory. */
static int last_node(void)
{
	uint64_t nodes[16] = { 0 };
	int mode, node;

	if (syscall(SYS_get_mempolicy, &mode, nodes, 1024UL, NULL, 1UL << 2))
		return -1;
	for (node = 1023; node >= 0 && !(nodes[node / 64] >> node % 64 & 1); node--)
		;
	return node;
}

TEST_F(async, migrate)
{
	struct dvsm_region_migrate migrate = { .size = sizeof(migrate), .offset = CHUNK };
	uint64_t nodes[16] = { 0 };
	int node = last_node();
	size_t where;

	if (node < 0)
		SKIP(return, "needs a kernel with NUMA");
	memset(self->map, 1, 3 * CHUNK);
	ASSERT_EQ(0, dvsm_region_migrate_to_node(self->region, 0, 0, 0, NULL));
	nodes[node / 64] = 1ULL << node % 64;
	migrate.nodes = (uintptr_t)nodes;
	migrate.nr_nodes = (uint32_t)node + 1;
	EXPECT_EQ(0, result_of(&self->ring, dvsm_region_migrate_async(self->region, &self->ring,
								      &self->async, &migrate)));
	EXPECT_EQ(LENGTH, self->async.migrate.out_next);
	EXPECT_EQ(2 * CHUNK, node ? self->async.migrate.out_moved :
				    self->async.migrate.out_there);
	/* What was not asked for stays; the rest lies where the kernel says that it does. */
	for (where = 0; where < 3 * CHUNK; where += CHUNK / 4) {
		EXPECT_EQ(1, *(volatile char *)(self->map + where));
		EXPECT_EQ(where < CHUNK ? 0 : node, dvsm_node_of(self->map + where));
	}

	migrate.offset = 1;
	EXPECT_EQ(-EINVAL, result_of(&self->ring, dvsm_region_migrate_async(self->region,
									    &self->ring,
									    &self->async,
									    &migrate)));
	migrate.size = 4;
	EXPECT_NO_SQE(EINVAL, dvsm_region_migrate_async(self->region, &self->ring, &self->async,
						      &migrate));
}

TEST_F(async, snapshot_options_are_checked_at_once)
{
	struct dvsm_snapshot_options options = { .size = sizeof(options), .reserved = 1 };

	EXPECT_NO_SQE(EINVAL, dvsm_snapshot_take_async(self->region, &self->ring, &self->async,
						     &options));
	options.reserved = 0;
	options.flags = 1U << 31;
	EXPECT_NO_SQE(EOPNOTSUPP, dvsm_snapshot_take_async(self->region, &self->ring, &self->async,
							 &options));
	EXPECT_EQ(2, io_uring_sq_space_left(&self->ring));
}

TEST_F(async, full_ring_is_eagain)
{
	union dvsm_async asyncs[3];
	int i;

	for (i = 0; i < 2; i++)
		EXPECT_NE(NULL, dvsm_region_populate_async(self->region, &self->ring, &asyncs[i],
							   0, 0, 0));
	EXPECT_NO_SQE(EAGAIN, dvsm_region_populate_async(self->region, &self->ring, &asyncs[2],
						       0, 0, 0));
}

TEST(memfd_has_no_commands_and_no_request_is_used_up)
{
	struct dvsm_region *region = region_on(DVSM_BACKEND_MEMFD);
	union dvsm_async async;
	struct dvsm_region_migrate migrate = { .size = sizeof(migrate) };
	struct dvsm_range range;
	struct io_uring ring;

	ASSERT_NE(NULL, region);
	if (io_uring_queue_init(2, &ring, 0))
		SKIP(return, "no io_uring");
	EXPECT_EQ(0, dvsm_region_features(region) & DVSM_FEATURE_URING_CMD);
	EXPECT_NO_SQE(EOPNOTSUPP, dvsm_region_populate_async(region, &ring, &async, 0, 0, 0));
	EXPECT_NO_SQE(EOPNOTSUPP, dvsm_region_discard_async(region, &ring, &async, 0, 0));
	EXPECT_NO_SQE(EOPNOTSUPP, dvsm_snapshot_take_async(region, &ring, &async, NULL));
	EXPECT_NO_SQE(EOPNOTSUPP, dvsm_region_diff_async(region, region, &ring, &async, 0, 0,
						       &range, 1));
	EXPECT_NO_SQE(EOPNOTSUPP, dvsm_region_migrate_async(region, &ring, &async, &migrate));
	EXPECT_EQ(2, io_uring_sq_space_left(&ring));
	io_uring_queue_exit(&ring);
	dvsm_region_destroy(region);
}

TEST(loop_ticks_while_a_region_is_populated)
{
	long long call = LLONG_MAX, ring = LLONG_MAX;
	int i;

	NEED_DEVICE();
	/* The shortest of each: a machine that stands still makes any of them longer. */
	for (i = 0; i < 3; i++) {
		ASSERT_EXAMPLE(0, "512", "");
		ASSERT_LT(0, said_before("ms by a call"));
		ASSERT_LE(0, said_before("ms by the ring"));
		if (call > said_before("ms by a call"))
			call = said_before("ms by a call");
		if (ring > said_before("ms by the ring"))
			ring = said_before("ms by the ring");
	}
	EXPECT_GT(call, ring) TH_LOG("%s", said);
}

TEST(loop_cancels_a_populate)
{
	int tries = 0;

	NEED_DEVICE();
	/* One that is done before its time has come cannot be cancelled. */
	do {
		ASSERT_EXAMPLE(0, "768 20", "");
	} while (!strstr(said, "cancelled") && ++tries < 10);
	EXPECT_NE(NULL, strstr(said, "cancelled")) TH_LOG("%s", said);
}

TEST_HARNESS_MAIN
