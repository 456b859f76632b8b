// SPDX-License-Identifier: GPL-2.0-only
/*
 * Restoring regions that devices may write to: their folios stay, whoever holds them, and
 * get the snapshot's contents.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/uio.h>

#include "snapshot.h"

#define NR_CHUNKS	4
#define LENGTH		(NR_CHUNKS * CHUNK)
#define HOLE		2	/* chunk that has no memory when the snapshot is taken */

FIXTURE(overwrite)
{
	int dev;
	int fd;
	char *map;
};

FIXTURE_VARIANT(overwrite)
{
	bool implicit;
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(overwrite, registrable) {
	.flags = DVSM_REGION_F_REGISTRABLE,
};

FIXTURE_VARIANT_ADD(overwrite, pinned) {
	.flags = DVSM_REGION_F_PINNED,
};

FIXTURE_VARIANT_ADD(overwrite, implicit) {
	.implicit = true,
};

FIXTURE_SETUP(overwrite)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = variant->implicit ? self->dev : region_create(self->dev, LENGTH, variant->flags);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	for (size_t chunk = 0; chunk < NR_CHUNKS; chunk++)
		if (chunk != HOLE)
			stamp(self->map + chunk * CHUNK, CHUNK, chunk + 1);
}

FIXTURE_TEARDOWN_PARENT(overwrite)
{
	EXPECT_NO_LEAK();
}

/* How many chunks do not read as when the test began. */
static int nr_chunks_other(const char *map)
{
	int nr = 0;

	for (size_t chunk = 0; chunk < NR_CHUNKS; chunk++) {
		const char *at = map + chunk * CHUNK;

		nr += chunk == HOLE ? !is_zero(at, CHUNK) : stamps_wrong(at, CHUNK, chunk + 1) != 0;
	}
	return nr;
}

static int restore(int fd, int snapshot, uint64_t *bytes)
{
	struct dvsm_snapshot_restore arg = { .size = sizeof(arg), .snapshot = snapshot };
	int ret = ioctl(fd, DVSM_IOC_SNAPSHOT_RESTORE, &arg) ? -errno : 0;

	*bytes = arg.out_restored;
	return ret;
}

TEST_F(overwrite, contents_come_back_into_the_same_memory)
{
	int snapshot = snapshot_take(self->fd);
	uint64_t pfn[NR_CHUNKS], bytes;
	size_t chunk;
	pid_t pid;

	ASSERT_LE(0, snapshot);
	stamp(self->map, LENGTH, 9);
	for (chunk = 0; chunk < NR_CHUNKS; chunk++)
		pfn[chunk] = PAGEMAP_PFN(pagemap_entry(self->map + chunk * CHUNK));
	ASSERT_NE(0, pfn[0]);
	ASSERT_EQ(0, restore(self->fd, snapshot, &bytes));
	EXPECT_EQ(LENGTH, bytes);
	EXPECT_EQ(0, nr_chunks_other(self->map));
	for (chunk = 0; chunk < NR_CHUNKS; chunk++)
		EXPECT_EQ(pfn[chunk], PAGEMAP_PFN(pagemap_entry(self->map + chunk * CHUNK)));

	/* Another process, and again, of what was written to the snapshot. */
	pid = child_start();
	if (!pid)
		_exit(nr_chunks_other(self->map));
	EXPECT_EQ(0, child_wait(pid));
	ASSERT_EQ(5, pwrite(snapshot, "later", 5, CHUNK + 3 * PAGE));
	ASSERT_EQ(0, restore(self->fd, snapshot, &bytes));
	EXPECT_EQ(0, memcmp(self->map + CHUNK + 3 * PAGE, "later", 5));
	EXPECT_EQ(1, nr_chunks_other(self->map));
}

/* A pipe holds a page as a device would: what it reads afterwards is what was restored. */
TEST_F(overwrite, who_holds_a_page_sees_it_restored)
{
	struct iovec page = { .iov_base = self->map + CHUNK, .iov_len = PAGE };
	char before[PAGE], got[PAGE];
	uint64_t bytes;
	int snapshot, ends[2];

	memcpy(before, self->map + CHUNK, PAGE);
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	memset(self->map + CHUNK, 'x', PAGE);
	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ((ssize_t)PAGE, vmsplice(ends[1], &page, 1, 0));
	ASSERT_EQ(0, restore(self->fd, snapshot, &bytes));
	ASSERT_EQ((ssize_t)PAGE, read(ends[0], got, PAGE));
	EXPECT_EQ(0, memcmp(before, got, PAGE));
}

/* A pinned region has all of its memory always. */
TEST_F(overwrite, memory_that_was_given_back_comes_back_and_a_hole_stays_zero)
{
	struct dvsm_region_info info;
	uint64_t bytes;
	int snapshot;

	if (variant->flags & DVSM_REGION_F_PINNED)
		SKIP(return, "pinned memory is not given back");
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	ASSERT_EQ(0, region_discard(self->fd, 0, LENGTH, NULL));
	ASSERT_EQ(0, restore(self->fd, snapshot, &bytes));
	EXPECT_EQ(LENGTH - CHUNK, bytes);
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(LENGTH - CHUNK, info.out_resident);
	EXPECT_EQ(0, nr_chunks_other(self->map));
}

TEST_F(overwrite, beside_a_range_all_stays)
{
	int snapshot = snapshot_take_range(self->fd, CHUNK, 2 * CHUNK, 0);
	uint64_t bytes;

	ASSERT_LE(0, snapshot);
	stamp(self->map, 3 * CHUNK, 9);
	stamp(self->map + 3 * CHUNK, CHUNK, 8);
	ASSERT_EQ(0, restore(self->fd, snapshot, &bytes));
	EXPECT_EQ(2 * CHUNK, bytes);
	EXPECT_EQ(0, stamps_wrong(self->map, CHUNK, 9));
	EXPECT_EQ(0, stamps_wrong(self->map + CHUNK, CHUNK, 2));
	EXPECT_TRUE(is_zero(self->map + 2 * CHUNK, CHUNK));
	EXPECT_EQ(0, stamps_wrong(self->map + 3 * CHUNK, CHUNK, 8));
}

TEST_F(overwrite, parts_of_a_snapshot_come_back_too)
{
	int snapshot = snapshot_take_in_parts(self->fd, PAGE, 0), above;
	uint64_t bytes;

	ASSERT_LE(0, snapshot);
	/* Somebody else reads it: the write has a part of its own. */
	above = snapshot_take_in_parts(snapshot, PAGE, 0);
	ASSERT_LE(0, above);
	ASSERT_EQ(4, pwrite(snapshot, "part", 4, 7 * PAGE));
	stamp(self->map, LENGTH, 9);
	ASSERT_EQ(0, restore(self->fd, snapshot, &bytes));
	EXPECT_EQ(0, memcmp(self->map + 7 * PAGE, "part", 4));
	EXPECT_EQ(1, nr_chunks_other(self->map));
	ASSERT_EQ(-EINVAL, restore(self->fd, above, &bytes));
}

TEST_F(overwrite, without_memory_nothing_is_changed)
{
	uint64_t bytes;
	int snapshot;

	if (variant->flags & DVSM_REGION_F_PINNED)
		SKIP(return, "pinned memory is there");
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	stamp(self->map, CHUNK, 9);
	ASSERT_EQ(0, region_discard(self->fd, 3 * CHUNK, CHUNK, NULL));
	ASSERT_EQ(0, param_set("limit_mb", 1));
	EXPECT_EQ(-ENOSPC, restore(self->fd, snapshot, &bytes));
	EXPECT_EQ(0, bytes);
	ASSERT_EQ(0, param_set("limit_mb", 0));
	EXPECT_EQ(0, stamps_wrong(self->map, CHUNK, 9));
	EXPECT_EQ(0, stamps_wrong(self->map + CHUNK, CHUNK, 2));
	EXPECT_TRUE(is_zero(self->map + 3 * CHUNK, CHUNK));
}

/* Two words far from each other, the first always written before the second. */
struct words {
	volatile uint64_t *first;
	volatile uint64_t *second;
	volatile bool stop;
	unsigned long nr_torn;
};

/* A restore that takes the second word back takes the first one back with it. */
static void *write_words(void *arg)
{
	struct words *words = arg;

	for (uint64_t i = 1; !words->stop; i++) {
		*words->first = i;
		*words->second = i;
		words->nr_torn += !*words->second && *words->first;
	}
	return NULL;
}

TEST_F(overwrite, for_who_maps_it_it_is_one_moment)
{
	struct words words = {
		.first = (volatile uint64_t *)self->map,
		.second = (volatile uint64_t *)(self->map + 3 * CHUNK),
	};
	unsigned long end = clock_ms() + 3000;
	int snapshot, rounds = 0;
	pthread_t writer;
	uint64_t bytes;

	*words.first = 0;
	*words.second = 0;
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	ASSERT_EQ(0, pthread_create(&writer, NULL, write_words, &words));
	for (; clock_ms() < end || rounds <= 1; rounds++) {
		ASSERT_EQ(0, restore(self->fd, snapshot, &bytes));
		sleep_ms(1);
	}
	words.stop = true;
	pthread_join(writer, NULL);
	EXPECT_LT(1, rounds);
	EXPECT_EQ(0, words.nr_torn) TH_LOG("in %d rounds", rounds);
}

TEST_HARNESS_MAIN
