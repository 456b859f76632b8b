// SPDX-License-Identifier: GPL-2.0-only
/*
 * Discard: what it frees, what it zeroes, what it leaves alone.
 */
#include "fixture.h"

#define LENGTH (8 * CHUNK)

FIXTURE(discard) {
	int dev;
	int fd;
	char *map;		/* stamped with 1 */
};

FIXTURE_SETUP(discard)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	stamp(self->map, LENGTH, 1);
}

FIXTURE_TEARDOWN_PARENT(discard)
{
	EXPECT_NO_LEAK();
}

TEST_F(discard, whole_region_reads_zero_and_holds_nothing)
{
	uint64_t bytes;

	EXPECT_EQ(0, region_discard(self->fd, 0, 0, &bytes));
	EXPECT_EQ(LENGTH, bytes);
	EXPECT_EQ(0, region_resident(self->fd));
	EXPECT_TRUE(is_zero(self->map, LENGTH));
}

TEST_F(discard, some_chunks_leave_the_others)
{
	uint64_t bytes;

	EXPECT_EQ(0, region_discard(self->fd, 2 * CHUNK, 3 * CHUNK, &bytes));
	EXPECT_EQ(3 * CHUNK, bytes);
	EXPECT_EQ(LENGTH - 3 * CHUNK, region_resident(self->fd));
	EXPECT_EQ(0, stamps_wrong(self->map, 2 * CHUNK, 1));
	EXPECT_TRUE(is_zero(self->map + 2 * CHUNK, 3 * CHUNK));
	EXPECT_NE(0, self->map[5 * CHUNK + 1]);
}

TEST_F(discard, edges_inside_chunks_zero_just_their_part)
{
	char *before = malloc(LENGTH);
	uint64_t bytes;

	memcpy(before, self->map, LENGTH);
	EXPECT_EQ(0, region_discard(self->fd, CHUNK - 3 * PAGE, 2 * CHUNK + 7 * PAGE, &bytes));
	EXPECT_EQ(2 * CHUNK, bytes);
	EXPECT_EQ(0, memcmp(before, self->map, CHUNK - 3 * PAGE));
	EXPECT_TRUE(is_zero(self->map + CHUNK - 3 * PAGE, 2 * CHUNK + 7 * PAGE));
	EXPECT_EQ(0, memcmp(before + 3 * CHUNK + 4 * PAGE, self->map + 3 * CHUNK + 4 * PAGE,
			    LENGTH - 3 * CHUNK - 4 * PAGE));
}

TEST_F(discard, part_of_one_chunk_frees_nothing_and_zeroes_just_that)
{
	char *before = malloc(LENGTH);
	uint64_t bytes;

	memcpy(before, self->map, LENGTH);
	EXPECT_EQ(0, region_discard(self->fd, CHUNK + PAGE, PAGE, &bytes));
	EXPECT_EQ(0, bytes);
	memset(before + CHUNK + PAGE, 0, PAGE);
	EXPECT_EQ(0, memcmp(before, self->map, LENGTH));
	EXPECT_EQ(LENGTH, region_resident(self->fd));
}

TEST_F(discard, every_page_boundary_in_a_chunk_is_exact)
{
	size_t page;

	for (page = 1; page < CHUNK_PAGES; page += 37) {
		stamp(self->map, 2 * CHUNK, page);
		EXPECT_EQ(0, region_discard(self->fd, page * PAGE, CHUNK, NULL));
		EXPECT_EQ(0, stamps_wrong(self->map, page * PAGE, page));
		EXPECT_TRUE(is_zero(self->map + page * PAGE, CHUNK));
		EXPECT_EQ(CHUNK_PAGES, stamps_wrong(self->map, 2 * CHUNK, page));
	}
}

TEST_F(discard, holes_are_no_matter)
{
	uint64_t bytes;

	EXPECT_EQ(0, region_discard(self->fd, CHUNK, 6 * CHUNK, &bytes));
	EXPECT_EQ(0, region_discard(self->fd, PAGE, 7 * CHUNK, &bytes));
	EXPECT_EQ(0, bytes);
	EXPECT_EQ(2 * CHUNK, region_resident(self->fd));
	EXPECT_EQ(0, region_discard(self->fd, 0, 0, &bytes));
	EXPECT_EQ(2 * CHUNK, bytes);
	EXPECT_EQ(0, region_discard(self->fd, 0, 0, &bytes));
	EXPECT_EQ(0, bytes);
}

TEST_F(discard, length_zero_means_to_the_end)
{
	uint64_t bytes;

	EXPECT_EQ(0, region_discard(self->fd, 5 * CHUNK, 0, &bytes));
	EXPECT_EQ(3 * CHUNK, bytes);
	EXPECT_EQ(0, region_discard(self->fd, LENGTH, 0, &bytes));
	EXPECT_EQ(0, bytes);
	EXPECT_EQ(0, stamps_wrong(self->map, 5 * CHUNK, 1));
}

TEST_F(discard, range_that_is_odd_or_leaves_the_region_is_einval_and_changes_nothing)
{
	static const struct { uint64_t offset, length; } ranges[] = {
		{ 1, PAGE }, { PAGE / 2, 0 }, { 0, 1 }, { PAGE, LENGTH }, { 0, LENGTH + PAGE },
		{ LENGTH, PAGE }, { LENGTH + PAGE, 0 }, { 1ULL << 63, 1ULL << 63 }, { -PAGE, 2 * PAGE },
		{ CHUNK, -CHUNK }, { 0, -PAGE },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		struct dvsm_region_discard arg = {
			.size = sizeof(arg),
			.offset = ranges[i].offset,
			.length = ranges[i].length,
			.out_discarded = 0xa5a5,
		};

		errno = 0;
		EXPECT_EQ(-1, ioctl(self->fd, DVSM_IOC_REGION_DISCARD, &arg));
		EXPECT_EQ(EINVAL, errno) TH_LOG("range %zu", i);
		EXPECT_EQ(0xa5a5, arg.out_discarded);
	}
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(discard, tail_that_is_no_whole_chunk_is_freed_too)
{
	const size_t length = CHUNK + 100 * PAGE;
	int fd = region_create(self->dev, length, 0);
	char *map = region_map(fd, length, 0);
	uint64_t bytes;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, length, 2);
	EXPECT_EQ(0, region_discard(fd, CHUNK + 10 * PAGE, 0, &bytes));
	EXPECT_EQ(0, stamps_wrong(map, CHUNK + 10 * PAGE, 2));
	EXPECT_TRUE(is_zero(map + CHUNK + 10 * PAGE, 90 * PAGE));
	EXPECT_EQ(0, region_discard(fd, 0, 0, &bytes));
	EXPECT_EQ(0, region_resident(fd));
}

TEST_F(discard, all_processes_and_mappings_read_zero_afterwards)
{
	struct barrier *barrier = barrier_make(4);
	char *other = region_map(self->fd, LENGTH, 0);
	pid_t pids[3];
	int i;

	ASSERT_NE(MAP_FAILED, other);
	EXPECT_EQ(0, stamps_wrong(other, LENGTH, 1));
	for (i = 0; i < 3; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
			barrier_wait(barrier);
			barrier_wait(barrier);
			EXPECT_TRUE(is_zero(self->map + CHUNK, 2 * CHUNK));
			EXPECT_TRUE(is_zero(other + CHUNK, 2 * CHUNK));
			EXPECT_EQ(0, stamps_wrong(self->map, CHUNK, 1));
			_exit(0);
		}
	}
	barrier_wait(barrier);
	EXPECT_EQ(0, region_discard(self->fd, CHUNK, 2 * CHUNK, NULL));
	barrier_wait(barrier);
	EXPECT_TRUE(is_zero(other + CHUNK, 2 * CHUNK));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
}

TEST_F(discard, private_copies_stay_with_who_made_them)
{
	char *private = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->fd, 0);

	ASSERT_NE(MAP_FAILED, private);
	private[CHUNK] = 77;
	EXPECT_EQ(0, region_discard(self->fd, CHUNK, CHUNK, NULL));
	EXPECT_EQ(77, private[CHUNK]);
	EXPECT_TRUE(is_zero(private + CHUNK + PAGE, CHUNK - PAGE));
}

TEST_F(discard, locked_and_split_mappings_are_no_hindrance)
{
	ASSERT_EQ(0, mlock(self->map, 2 * CHUNK));
	ASSERT_EQ(0, mprotect(self->map + 3 * CHUNK + PAGE, PAGE, PROT_READ));
	ASSERT_EQ(0, munmap(self->map + 4 * CHUNK + PAGE, PAGE));
	EXPECT_EQ(0, region_discard(self->fd, 0, 0, NULL));
	EXPECT_EQ(0, region_resident(self->fd));
	EXPECT_TRUE(is_zero(self->map, 4 * CHUNK));
}

TEST_F(discard, memory_goes_back_to_the_machine)
{
	const size_t length = 64 * CHUNK;
	int fd = region_create(self->dev, length, 0);
	unsigned long before, end;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	before = pages_free();
	EXPECT_EQ(0, region_discard(fd, 0, 0, NULL));
	for (end = clock_ms() + 60000; clock_ms() < end; sleep_ms(10))
		if (pages_free() > before + length / 4 * 3 / PAGE)
			break;
	EXPECT_LT(before + length / 4 * 3 / PAGE, pages_free());
}

TEST_F(discard, discarded_chunks_are_huge_again_when_touched)
{
	int i;

	for (i = 0; i < 20; i++) {
		EXPECT_EQ(0, region_discard(self->fd, 0, 0, NULL));
		stamp(self->map, LENGTH, i);
		EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, i));
	}
	EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
}

TEST_F(discard, pinned_region_is_ebusy_and_untouched)
{
	int fd = region_create(self->dev, 2 * CHUNK, DVSM_REGION_F_PINNED);
	char *map = region_map(fd, 2 * CHUNK, 0);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, 2 * CHUNK, 3);
	EXPECT_EQ(-EBUSY, region_discard(fd, 0, 0, NULL));
	EXPECT_EQ(-EBUSY, region_discard(fd, PAGE, PAGE, NULL));
	EXPECT_EQ(0, stamps_wrong(map, 2 * CHUNK, 3));
	EXPECT_EQ(2 * CHUNK, region_resident(fd));
}

TEST_F(discard, sparse_region_of_terabytes_is_discarded_by_what_it_holds)
{
	int fd = region_create(self->dev, LENGTH_MAX, 0), round, i;
	unsigned long start, shortest = ~0UL;
	uint64_t bytes;

	ASSERT_LE(0, fd);
	/* Milliseconds, unless the machine does something else just then. */
	for (round = 0; round < 20 && shortest > 1000; round++) {
		for (i = 0; i < 16; i++)
			ASSERT_EQ(1, pwrite(fd, "x", 1, (off_t)i << 41));
		start = clock_ms();
		EXPECT_EQ(0, region_discard(fd, 0, 0, &bytes));
		EXPECT_EQ(16 * CHUNK, bytes);
		if (shortest > clock_ms() - start)
			shortest = clock_ms() - start;
	}
	EXPECT_GT(1000, shortest);
}

TEST_HARNESS_MAIN
