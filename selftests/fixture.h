/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fixture that nearly every test has: /dev/dvsm is open, and when the test's
 * process is gone the module holds no region, no page and no pin.
 *
 * The check runs in the parent, so a test need not tidy up: what it leaves open
 * or mapped goes with its process, and must then be gone from the module too.
 */
#ifndef DVSM_SELFTEST_FIXTURE_H
#define DVSM_SELFTEST_FIXTURE_H

#include "common.h"
#include "kselftest_harness.h"

/* NUMA balancing would move what a test looks at, and the module's worker replace it. */
#define OPEN_DEVICE_OR_SKIP(dev)							\
do {											\
	write_text("/proc/sys/kernel/numa_balancing", "0");				\
	param_set("promote_seconds", 0);						\
	(dev) = device_open(O_RDWR);							\
	if ((dev) < 0 && !getenv("DVSM_VM"))						\
		SKIP(return, "no /dev/dvsm (load the module)");				\
	ASSERT_LE(0, (dev)) TH_LOG("/dev/dvsm: %s", strerror(-(dev)));			\
} while (0)

#define EXPECT_NO_LEAK()								\
do {											\
	struct counts left = {};							\
											\
	/* A test that broke off is still open here: it has failed already. */		\
	EXPECT_TRUE(_metadata->aborted || counts_reach_zero(&left, 60))			\
		TH_LOG("left in the module: %lu regions, %lu pages, %lu pinned, "	\
		       "%lu names, %lu members, %lu users", left.regions, left.pages,	\
		       left.pinned_pages, left.names, left.members, left.users);	\
} while (0)

#define DVSM_FIXTURE(name)								\
	FIXTURE(name) {									\
		int dev;								\
	};										\
	FIXTURE_SETUP(name)								\
	{										\
		OPEN_DEVICE_OR_SKIP(self->dev);						\
	}										\
	FIXTURE_TEARDOWN_PARENT(name)							\
	{										\
		EXPECT_NO_LEAK();							\
	}

/*
 * The same claims for the kinds of region that take different ways through the
 * module: @fd is the descriptor to map and to give commands to, REGION_LENGTH what
 * may be used of it. The implicit region is longer than that and registrable; a
 * pinned one is resident from the start.
 */
#define REGION_LENGTH	(8 * CHUNK)

#define REGION_FIXTURE(name)								\
	FIXTURE(name) {									\
		int dev;								\
		int fd;									\
	};										\
	FIXTURE_VARIANT(name) {								\
		bool implicit;								\
		uint32_t flags;								\
	};										\
	FIXTURE_VARIANT_ADD(name, plain) {						\
		.flags = 0,								\
	};										\
	FIXTURE_VARIANT_ADD(name, pinned) {						\
		.flags = DVSM_REGION_F_PINNED,						\
	};										\
	FIXTURE_VARIANT_ADD(name, implicit) {						\
		.implicit = true,							\
	};										\
	FIXTURE_SETUP(name)								\
	{										\
		OPEN_DEVICE_OR_SKIP(self->dev);						\
		self->fd = self->dev;							\
		if (variant->implicit) {						\
			void *page = region_map(self->dev, PAGE, 0);			\
											\
			ASSERT_NE(MAP_FAILED, page);					\
			munmap(page, PAGE);						\
		} else {								\
			self->fd = region_create(self->dev, REGION_LENGTH, variant->flags); \
			ASSERT_LE(0, self->fd);						\
		}									\
	}										\
	FIXTURE_TEARDOWN_PARENT(name)							\
	{										\
		EXPECT_NO_LEAK();							\
	}

static inline bool __attribute__((unused)) is_pinned(uint32_t flags)
{
	return flags & DVSM_REGION_F_PINNED;
}

/* For programs whose tests lend memory to the hugetlb pools: all of them together, as it takes long. */
#define TEST_HARNESS_MAIN_WITH_POOLS							\
static struct pools pools;								\
											\
static void pools_put_back(void)							\
{											\
	pools_restore(&pools);								\
}											\
											\
int main(int argc, char **argv)								\
{											\
	pools_read(&pools);								\
	atexit(pools_put_back);		/* the harness does not return */		\
	return test_harness_run(argc, argv);						\
}

/* Skips, by name of what is missing. */
#define NEED_NODES(nr)									\
do {											\
	if (nr_nodes_with_memory() < (nr))						\
		SKIP(return, "fewer than %d NUMA nodes with memory", (nr));		\
} while (0)

#define NEED_CGROUP(cgroup, name)							\
do {											\
	if (cgroup_make(cgroup, name))							\
		SKIP(return, "no cgroup2 with memory and cpuset at /sys/fs/cgroup");	\
} while (0)

#endif /* DVSM_SELFTEST_FIXTURE_H */
