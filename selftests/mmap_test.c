// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mapping regions: how they are mapped, where, and where they end.
 */
#include "fixture.h"

#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif

REGION_FIXTURE(mmap);

static uint64_t nr_faults(int fd)
{
	struct dvsm_region_info info;

	return region_info(fd, &info) ? 0 : info.out_nr_faults;
}

TEST_F(mmap, chunk_takes_one_fault_and_one_huge_mapping)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	uint64_t faults = nr_faults(self->fd);
	size_t i;

	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < REGION_LENGTH; i += PAGE)
		map[i] = 1;
	EXPECT_EQ(REGION_LENGTH / CHUNK, nr_faults(self->fd) - faults);
	EXPECT_TRUE(is_huge_mapped(map, REGION_LENGTH));
	EXPECT_EQ(REGION_LENGTH, region_resident(self->fd));
}

TEST_F(mmap, chunk_is_physically_one_aligned_folio)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	uint64_t pfn;
	size_t i;

	ASSERT_NE(MAP_FAILED, map);
	map[3 * CHUNK + 77 * PAGE] = 1;
	pfn = PAGEMAP_PFN(pagemap_entry(map + 3 * CHUNK));
	ASSERT_NE(0, pfn);
	EXPECT_EQ(0, pfn % CHUNK_PAGES);
	for (i = 0; i < CHUNK_PAGES; i++) {
		uint64_t entry = pagemap_entry(map + 3 * CHUNK + i * PAGE);

		ASSERT_EQ(pfn + i, PAGEMAP_PFN(entry));
		ASSERT_TRUE(entry & PAGEMAP_PRESENT);
		ASSERT_TRUE(entry & PAGEMAP_FILE);
	}
}

TEST_F(mmap, read_of_a_hole_is_zero_and_huge)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, read_at(map + CHUNK + 5));
	EXPECT_TRUE(is_zero(map + CHUNK, CHUNK));
	EXPECT_TRUE(is_huge_mapped(map, CHUNK));
}

/* Whether a whole chunk of the file lies in [offset, offset + length). */
static bool holds_chunk(size_t length, off_t offset)
{
	return (offset + length) / CHUNK > (offset + CHUNK - 1) / CHUNK;
}

TEST_F(mmap, kernel_chooses_addresses_that_fit_huge_pages)
{
	static const size_t lengths[] = { CHUNK, CHUNK + PAGE, 3 * CHUNK, 7 * CHUNK + 5 * PAGE };
	static const off_t offsets[] = { 0, PAGE, CHUNK / 2, CHUNK, 3 * CHUNK - PAGE };
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		for (j = 0; j < ARRAY_SIZE(offsets); j++) {
			char *map = region_map(self->fd, lengths[i], offsets[j]);

			ASSERT_NE(MAP_FAILED, map);
			if (!holds_chunk(lengths[i], offsets[j]))
				continue;
			EXPECT_EQ(0, ((uintptr_t)map - offsets[j]) % CHUNK)
				TH_LOG("length %zu offset %ld at %p", lengths[i],
				       (long)offsets[j], map);
		}
	}
}

TEST_F(mmap, hint_address_is_taken)
{
	char *hole = mmap(NULL, 4 * CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *map, *aligned = (char *)(((uintptr_t)hole + CHUNK - 1) & ~(CHUNK - 1));

	ASSERT_NE(MAP_FAILED, hole);
	ASSERT_EQ(0, munmap(hole, 4 * CHUNK));
	map = mmap(aligned, 2 * CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	EXPECT_EQ(aligned, map);
}

TEST_F(mmap, fixed_address_that_fits_no_huge_page_shows_the_same_contents)
{
	char *good = region_map(self->fd, REGION_LENGTH, 0), *odd, *room;
	struct smaps smaps;

	ASSERT_NE(MAP_FAILED, good);
	room = mmap(NULL, REGION_LENGTH + 2 * CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	room = (char *)(((uintptr_t)room + CHUNK - 1) & ~(CHUNK - 1)) + 5 * PAGE;
	odd = mmap(room, REGION_LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, self->fd,
		   0);
	ASSERT_EQ(room, odd);
	stamp(odd, 2 * CHUNK, 1);
	EXPECT_EQ(0, stamps_wrong(good, 2 * CHUNK, 1));
	stamp(good + CHUNK, 2 * CHUNK, 2);
	EXPECT_EQ(0, stamps_wrong(odd + CHUNK, 2 * CHUNK, 2));
	ASSERT_EQ(0, smaps_read(odd, &smaps));
	EXPECT_EQ(0, smaps.file_pmd_mapped);
	EXPECT_EQ(3 * CHUNK, smaps.rss);
	EXPECT_TRUE(is_huge_mapped(good, 3 * CHUNK));
}

TEST_F(mmap, fixed_mapping_over_another_replaces_just_that_part)
{
	char *map = region_map(self->fd, REGION_LENGTH, 0);
	char *over;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, REGION_LENGTH, 3);
	over = mmap(map + CHUNK + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    self->fd, 5 * CHUNK);
	ASSERT_EQ(map + CHUNK + 3 * PAGE, over);
	EXPECT_EQ(0, memcmp(over, map + 5 * CHUNK, PAGE));
	EXPECT_EQ(1, stamps_wrong(map, REGION_LENGTH, 3));
	*over = 99;
	EXPECT_EQ(99, map[5 * CHUNK]);
}

TEST_F(mmap, offset_maps_that_part)
{
	char *whole = region_map(self->fd, REGION_LENGTH, 0), *part;

	ASSERT_NE(MAP_FAILED, whole);
	part = region_map(self->fd, 2 * CHUNK, 3 * CHUNK + 7 * PAGE);
	ASSERT_NE(MAP_FAILED, part);
	stamp(whole + 3 * CHUNK + 7 * PAGE, 2 * CHUNK, 4);
	EXPECT_EQ(0, stamps_wrong(part, 2 * CHUNK, 4));
}

TEST_F(mmap, zero_length_and_odd_offset_are_einval)
{
	EXPECT_EQ(MAP_FAILED, region_map(self->fd, 0, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, region_map(self->fd, CHUNK, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, region_map(self->fd, CHUNK, PAGE + 512));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(mmap, lengths_that_no_address_space_holds_fail_and_leave_nothing)
{
	static const size_t lengths[] = {
		1UL << 47, 1UL << 48, 1UL << 62, ~0UL, ~0UL - PAGE, ~0UL << 12, -CHUNK,
		(1UL << 63) - 1, 1UL << 63,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lengths); i++)
		EXPECT_EQ(MAP_FAILED, region_map(self->fd, lengths[i], 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, CHUNK, PROT_READ, MAP_SHARED, self->fd, -PAGE));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, CHUNK, PROT_READ, MAP_SHARED, self->fd,
				   (off_t)(1UL << 63)));
	EXPECT_EQ(is_pinned(variant->flags) ? REGION_LENGTH : 0, region_resident(self->fd));
}

TEST_F(mmap, sync_mappings_are_refused_and_validated_ones_are_not)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, CHUNK, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC,
				   self->fd, 0));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_NE(MAP_FAILED, mmap(NULL, CHUNK, PROT_READ, MAP_SHARED_VALIDATE, self->fd, 0));
}

TEST_F(mmap, populate_flag_makes_it_resident_and_huge)
{
	char *map = mmap(NULL, REGION_LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			 self->fd, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_TRUE(is_huge_mapped(map, REGION_LENGTH));
	EXPECT_EQ(REGION_LENGTH, region_resident(self->fd));
}

TEST_F(mmap, private_mapping_reads_the_region_and_writes_for_itself)
{
	char *shared = region_map(self->fd, REGION_LENGTH, 0);
	char *private = mmap(NULL, REGION_LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->fd, 0);

	ASSERT_NE(MAP_FAILED, shared);
	ASSERT_NE(MAP_FAILED, private);
	stamp(shared, REGION_LENGTH, 5);
	EXPECT_EQ(0, stamps_wrong(private, REGION_LENGTH, 5));
	stamp(private + CHUNK, CHUNK, 6);
	EXPECT_EQ(0, stamps_wrong(shared, REGION_LENGTH, 5));
	EXPECT_EQ(0, stamps_wrong(private + CHUNK, CHUNK, 6));
	EXPECT_EQ(0, stamps_wrong(private, CHUNK, 5));
	/* What was not copied shows what is written afterwards. */
	shared[3 * CHUNK] = 42;
	EXPECT_EQ(42, private[3 * CHUNK]);
	shared[CHUNK] = 43;
	EXPECT_NE(43, private[CHUNK]);
}

TEST_F(mmap, private_write_of_an_untouched_hole_starts_from_zeroes)
{
	char *private = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->fd, CHUNK);
	struct dvsm_region_info info;

	ASSERT_NE(MAP_FAILED, private);
	private[PAGE + 1] = 9;
	EXPECT_EQ(0, private[PAGE]);
	EXPECT_EQ(9, private[PAGE + 1]);
	EXPECT_TRUE(is_zero(private + 2 * PAGE, CHUNK - 2 * PAGE));
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(1, info.out_nr_faults_private);
	/* The copy belongs to the process, not to the region. */
	EXPECT_FALSE(pagemap_entry(private + PAGE) & PAGEMAP_FILE);
}

TEST_F(mmap, private_copies_part_ways_at_fork)
{
	char *shared = region_map(self->fd, CHUNK, 0);
	char *private = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->fd, 0);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, shared);
	ASSERT_NE(MAP_FAILED, private);
	private[0] = 1;
	pid = child_start();
	if (!pid) {
		private[0] = 2;
		shared[PAGE] = 3;
		_exit(private[0] != 2 || shared[0]);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(1, private[0]);
	EXPECT_EQ(3, private[PAGE]);
}

TEST_F(mmap, no_access_mapping_takes_no_memory_until_it_may_be_touched)
{
	char *map = mmap(NULL, CHUNK, PROT_NONE, MAP_SHARED, self->fd, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(SIGSEGV, read_at(map));
	EXPECT_EQ(is_pinned(variant->flags) ? REGION_LENGTH : 0, region_resident(self->fd));
	ASSERT_EQ(0, mprotect(map, CHUNK, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, write_at(map, 1));
	EXPECT_TRUE(is_huge_mapped(map, CHUNK));
}

DVSM_FIXTURE(bounds);

TEST_F(bounds, last_byte_is_there_and_the_next_one_is_sigbus)
{
	static const size_t lengths[] = {
		PAGE, 5 * PAGE, CHUNK - PAGE, CHUNK, CHUNK + PAGE, 2 * CHUNK + 511 * PAGE, 3 * CHUNK,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		int fd = region_create(self->dev, lengths[i], 0);
		char *map = region_map(fd, lengths[i] + 2 * CHUNK, 0);

		ASSERT_NE(MAP_FAILED, map);
		EXPECT_EQ(SIGBUS, read_at(map + lengths[i]));
		EXPECT_EQ(SIGBUS, write_at(map + lengths[i], 1));
		EXPECT_EQ(SIGBUS, read_at(map + lengths[i] + 2 * CHUNK - 1));
		EXPECT_EQ(0, region_resident(fd));
		EXPECT_EQ(0, write_at(map + lengths[i] - 1, 1)) TH_LOG("length %zu", lengths[i]);
		EXPECT_EQ(SIGBUS, read_at(map + lengths[i]));
		munmap(map, lengths[i] + 2 * CHUNK);
		close(fd);
	}
}

TEST_F(bounds, length_that_is_no_multiple_of_a_chunk_has_huge_chunks_and_a_small_tail)
{
	const size_t length = 2 * CHUNK + CHUNK / 2 + 3 * PAGE;
	int fd = region_create(self->dev, length, 0);
	char *map = region_map(fd, length, 0);
	struct dvsm_chunk chunks[4];
	struct smaps smaps;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, length, 7);
	EXPECT_EQ(0, stamps_wrong(map, length, 7));
	ASSERT_EQ(0, smaps_read(map, &smaps));
	EXPECT_EQ(length, smaps.rss);
	EXPECT_EQ(2 * CHUNK, smaps.file_pmd_mapped);
	EXPECT_EQ(length, region_resident(fd));
	ASSERT_EQ(3, region_residency(fd, 0, 0, chunks, 4));
	EXPECT_EQ(DVSM_CHUNK_F_HUGE, chunks[1].flags);
	EXPECT_EQ(CHUNK / 2 + 3 * PAGE, chunks[2].resident);
	EXPECT_EQ(0, chunks[2].flags & DVSM_CHUNK_F_HUGE);
}

TEST_F(bounds, mapping_that_begins_at_or_past_the_end_is_all_sigbus)
{
	static const off_t offsets[] = { 2 * CHUNK, 2 * CHUNK + PAGE, 1L << 40, 1L << 46, 1L << 50 };
	int fd = region_create(self->dev, 2 * CHUNK, 0);
	size_t i;

	ASSERT_LE(0, fd);
	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		char *map = region_map(fd, CHUNK, offsets[i]);

		ASSERT_NE(MAP_FAILED, map);
		EXPECT_EQ(SIGBUS, read_at(map));
		EXPECT_EQ(SIGBUS, write_at(map + CHUNK - 1, 1));
		munmap(map, CHUNK);
	}
	EXPECT_EQ(0, region_resident(fd));
}

TEST_F(bounds, private_mapping_past_the_end_is_sigbus)
{
	int fd = region_create(self->dev, PAGE, 0);
	char *map = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, write_at(map, 1));
	EXPECT_EQ(SIGBUS, read_at(map + PAGE));
	EXPECT_EQ(SIGBUS, write_at(map + PAGE, 1));
	EXPECT_EQ(0, region_resident(fd) % PAGE);
}

TEST_F(bounds, far_end_of_the_longest_region_can_be_touched)
{
	int fd = region_create(self->dev, LENGTH_MAX, 0);
	char *map = region_map(fd, CHUNK, LENGTH_MAX - CHUNK);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 8);
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 8));
	EXPECT_TRUE(is_huge_mapped(map, CHUNK));
	EXPECT_EQ(CHUNK, region_resident(fd));
}

TEST_F(bounds, whole_longest_region_can_be_mapped_and_touched_sparsely)
{
	const size_t length = 1UL << 45;
	int fd = region_create(self->dev, LENGTH_MAX, 0);
	char *map = region_map(fd, length, 0);
	int i;

	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < 10; i++)
		map[(length / 10 * i) & ~7UL] = i;
	EXPECT_EQ(10 * CHUNK, region_resident(fd));
	EXPECT_TRUE(is_huge_mapped(map, 10 * CHUNK));
}

TEST_F(bounds, mapped_region_stays_whole_when_its_descriptor_is_closed)
{
	int fd = region_create(self->dev, 2 * CHUNK, 0);
	char *map = region_map(fd, 2 * CHUNK, 0);
	struct dvsm_info info;

	ASSERT_NE(MAP_FAILED, map);
	map[0] = 1;
	close(fd);
	EXPECT_EQ(1, map[0]);
	EXPECT_EQ(0, write_at(map + CHUNK, 2));
	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(2 * CHUNK, info.out_charged);
	ASSERT_EQ(0, munmap(map, 2 * CHUNK));
	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(0, info.out_charged);
}

TEST_HARNESS_MAIN
