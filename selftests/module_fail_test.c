// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module is loaded while one of its initialisation's allocations fails, each in
 * turn. Then it is not there and has left nothing, or it is there, as what failed is
 * something it can do without; and the next load finds nothing in its way.
 *
 * Needs a kernel with fault injection, and the file that the test VM has.
 */
#include "fail_nth.h"
#include "module.h"

#define NTH_MAX		1000

FIXTURE(module_fail) {
	int dev;
	int nth;
};

FIXTURE_SETUP(module_fail)
{
	if (access(MODULE_FILE, R_OK))
		SKIP(return, "no %s to load again", MODULE_FILE);
	self->nth = fail_nth_open();
	if (self->nth < 0)
		SKIP(return, "no %s (run on the debug kernel)", FAIL_NTH);
	/* Not the core's work for a module that comes; and who fails in there leaks a name, 6.12 too. */
	ASSERT_EQ(0, fail_nth_filter("require", "do_one_initcall"));
	ASSERT_EQ(0, fail_nth_filter("reject", "sysfs_slab_add"));
	OPEN_DEVICE_OR_SKIP(self->dev);
}

FIXTURE_TEARDOWN_PARENT(module_fail)
{
	if (access(DVSM_DEVICE_PATH, F_OK)) {
		EXPECT_EQ(0, load());
		EXPECT_LE(0, open_soon());
	}
	EXPECT_NO_LEAK();
}

static int run_load(int unused)
{
	return load();
}

/* What it has made in the system, which has to be gone when it is. */
static const char *left(void)
{
	static const char *const paths[] = {
		"/sys/module/dvsm", "/sys/class/misc/dvsm", DVSM_DEVICE_PATH, DEBUGFS "dvsm",
		"/sys/kernel/slab/dvsm_inode", "/sys/kernel/slab/dvsm_share",
		"/sys/kernel/slab/dvsm_link",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(paths); i++)
		if (!access(paths[i], F_OK))
			return paths[i];
	return NULL;
}

/* The core does without a device's node, which may be what failed. */
static bool works_if_there(void)
{
	int dev = device_open(O_RDWR);
	bool works;
	char *map;

	if (dev == -ENOENT)
		return true;
	map = region_map(dev, CHUNK, 0);
	works = map != MAP_FAILED && !write_at(map, 1) && !munmap(map, CHUNK);
	close(dev);
	return works;
}

TEST_F_TIMEOUT(module_fail, each_allocation_that_fails_ends_the_load_or_is_done_without, 800)
{
	unsigned int nth, failures = 0;
	int ret;

	close(self->dev);
	ASSERT_EQ(0, unload_soon());
	ASSERT_EQ(NULL, left()) TH_LOG("%s", left());
	for (nth = 1; nth < NTH_MAX; nth++) {
		if (!fail_nth_run(self->nth, nth, run_load, 0, &ret))
			break;
		if (ret) {
			failures++;
			EXPECT_EQ(-ENOMEM, ret) TH_LOG("allocation %u", nth);
		} else {
			EXPECT_TRUE(works_if_there()) TH_LOG("allocation %u", nth);
			ASSERT_EQ(0, unload_soon());
		}
		ASSERT_EQ(NULL, left()) TH_LOG("allocation %u: %s", nth, left());
	}
	TH_LOG("%u allocations failed, %u of them for good", nth - 1, failures);
	EXPECT_LT(0, failures);
	EXPECT_GT(NTH_MAX, nth);
	/* The last one had all that it asked for. */
	ASSERT_EQ(0, ret);
	self->dev = open_soon();
	ASSERT_LE(0, self->dev);
	EXPECT_TRUE(works_if_there());
}

TEST_HARNESS_MAIN
