// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs that have closed descriptors 0, 1 and 2: what they or their libraries write there goes nowhere, and not into the
 * heap's header.
 */
#include <fcntl.h>

#include <dvsm/dvsm.h>

#include "heap_test.h"
#include <kselftest_harness.h>

FIXTURE(descriptor) {
	char name[64];
};

FIXTURE_VARIANT(descriptor) {
	uint32_t backend;
};

FIXTURE_VARIANT_ADD(descriptor, device) { .backend = DVSM_BACKEND_DEVICE, };
FIXTURE_VARIANT_ADD(descriptor, memfd) { .backend = DVSM_BACKEND_MEMFD_4K, };
FIXTURE_VARIANT_ADD(descriptor, memfd_hugetlb) { .backend = DVSM_BACKEND_MEMFD_HUGETLB, };

FIXTURE_SETUP(descriptor)
{
	struct dvsm_region_options options = { .size = sizeof(options), .backend = variant->backend };
	struct dvsm_region *region = dvsm_region_create(64 * MIB, &options);

	snprintf(self->name, sizeof(self->name), "dvsm-descriptor-test-%d", getpid());
	if (!region)
		SKIP(return, "no such backend: %s", strerror(errno));
	dvsm_region_destroy(region);
}

FIXTURE_TEARDOWN(descriptor)
{
	dvsm_name_unlink(self->name, variant->backend);
}

/* No region at all counts as one, and so does one that would be another program's after execve(). */
static bool is_low(const struct dvsm_region *region)
{
	return !region || dvsm_region_fd(region) <= STDERR_FILENO ||
	       !(fcntl(dvsm_region_fd(region), F_GETFD) & FD_CLOEXEC);
}

static bool heap_is_whole(uint32_t backend)
{
	struct dvsm_heap *heap = heap_on(backend, 64 * MIB);
	int i;

	if (!heap || is_low(dvsm_heap_region(heap)) || !dvsm_heap_malloc(heap, 100))
		return false;
	for (i = 0; i <= STDERR_FILENO; i++)
		if (write(i, "message\n", 8) != -1 || errno != EBADF)
			return false;
	return !dvsm_heap_check(heap, 2);
}

/* By each way to get one. */
static bool regions_are_high(uint32_t backend, const char *name)
{
	struct dvsm_region_options options = { .size = sizeof(options), .backend = backend };
	struct dvsm_region *region = dvsm_region_create(64 * MIB, &options), *other;
	bool named = backend != DVSM_BACKEND_MEMFD_HUGETLB;
	void *map;

	if (is_low(region) || is_low(dvsm_region_reopen(region, 0)))
		return false;
	if (named && (is_low(dvsm_region_create_named(name, 0600, DVSM_NAME_F_KEEP, 64 * MIB, &options)) ||
		      is_low(dvsm_name_open(name, 0, backend))))
		return false;
	if (backend != DVSM_BACKEND_DEVICE)
		return true;
	other = dvsm_snapshot_take(region, NULL);
	map = dvsm_region_map(region, 0, 0, PROT_READ, NULL);
	return !is_low(other) && !is_low(dvsm_region_find(map, NULL)) &&
	       dvsm_region_events(region) > STDERR_FILENO;
}

static void close_all_three(void)
{
	int i;

	for (i = 0; i <= STDERR_FILENO; i++)
		close(i);
}

TEST_F(descriptor, messages_of_the_program_do_not_reach_a_heap)
{
	pid_t pid = child_begin();

	if (!pid) {
		close_all_three();
		_exit(!heap_is_whole(variant->backend));
	}
	EXPECT_EQ(0, child_end(pid));
}

TEST_F(descriptor, no_region_is_what_messages_go_to)
{
	pid_t pid = child_begin();

	if (!pid) {
		close_all_three();
		_exit(!regions_are_high(variant->backend, self->name));
	}
	EXPECT_EQ(0, child_end(pid));
}

TEST_HARNESS_MAIN
