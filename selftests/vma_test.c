// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings after they were made: cut, moved, grown, doubled, protected piece by
 * piece. The region's contents and its books must not notice.
 */
#include "fixture.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

REGION_FIXTURE(vma);

/* A mapping of the whole region with a stamp in it. */
static char *stamped(int fd, uint64_t seed)
{
	char *map = region_map(fd, REGION_LENGTH, 0);

	if (map == MAP_FAILED)
		abort();
	stamp(map, REGION_LENGTH, seed);
	return map;
}

TEST_F(vma, one_page_unmapped_inside_a_chunk_leaves_its_neighbours)
{
	char *map = stamped(self->fd, 1);
	char *again;

	ASSERT_EQ(0, munmap(map + CHUNK + 9 * PAGE, PAGE));
	EXPECT_EQ(SIGSEGV, read_at(map + CHUNK + 9 * PAGE));
	EXPECT_EQ(0, stamps_wrong(map, CHUNK + 9 * PAGE, 1));
	EXPECT_EQ(0, write_at(map + CHUNK + 8 * PAGE + 100, 1));
	EXPECT_EQ(0, write_at(map + CHUNK + 10 * PAGE + 100, 1));
	again = region_map(self->fd, REGION_LENGTH, 0);
	ASSERT_NE(MAP_FAILED, again);
	EXPECT_EQ(0, stamps_wrong(again, REGION_LENGTH, 1));
	EXPECT_EQ(REGION_LENGTH, region_resident(self->fd));
}

TEST_F(vma, head_middle_and_tail_can_be_unmapped_in_any_order)
{
	static const struct { size_t at, length; } cuts[] = {
		{ 3 * CHUNK, CHUNK }, { 0, CHUNK / 2 }, { REGION_LENGTH - PAGE, PAGE },
		{ CHUNK / 2, 2 * CHUNK }, { 6 * CHUNK - PAGE, 2 * PAGE }, { 0, REGION_LENGTH },
	};
	char *map = stamped(self->fd, 2), *again;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cuts); i++)
		ASSERT_EQ(0, munmap(map + cuts[i].at, cuts[i].length));
	again = region_map(self->fd, REGION_LENGTH, 0);
	ASSERT_NE(MAP_FAILED, again);
	EXPECT_EQ(0, stamps_wrong(again, REGION_LENGTH, 2));
	EXPECT_TRUE(is_huge_mapped(again, REGION_LENGTH));
}

TEST_F(vma, every_second_page_unmapped_leaves_the_others)
{
	char *map = stamped(self->fd, 3);
	size_t offset, wrong = 0;

	for (offset = PAGE; offset < CHUNK; offset += 2 * PAGE)
		ASSERT_EQ(0, munmap(map + CHUNK + offset, PAGE));
	for (offset = 0; offset < CHUNK; offset += 2 * PAGE)
		wrong += read_at(map + CHUNK + offset) != 0;
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 3));
}

TEST_F(vma, moved_mapping_shows_the_same_contents)
{
	char *map = stamped(self->fd, 4);
	char *room = mmap(NULL, 2 * REGION_LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *moved;

	ASSERT_NE(MAP_FAILED, room);
	/* First where huge pages do not fit, then where they do. */
	moved = mremap(map, REGION_LENGTH, REGION_LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED,
		       (char *)(((uintptr_t)room + CHUNK - 1) & ~(CHUNK - 1)) + 3 * PAGE);
	ASSERT_NE(MAP_FAILED, moved);
	EXPECT_EQ(SIGSEGV, read_at(map));
	EXPECT_EQ(0, stamps_wrong(moved, REGION_LENGTH, 4));
	stamp(moved, REGION_LENGTH, 5);
	map = mremap(moved, REGION_LENGTH, REGION_LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED,
		     (void *)(((uintptr_t)room + CHUNK - 1) & ~(CHUNK - 1)));
	if (map == MAP_FAILED)	/* the ranges overlap: by way of another place */
		map = mremap(moved, REGION_LENGTH, REGION_LENGTH + PAGE, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 5));
	EXPECT_EQ(REGION_LENGTH, region_resident(self->fd));
}

TEST_F(vma, one_page_of_a_chunk_can_be_moved_away)
{
	char *map = stamped(self->fd, 6);
	char *room = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *moved, expected[PAGE];

	ASSERT_NE(MAP_FAILED, room);
	memcpy(expected, map + 5 * PAGE, PAGE);
	moved = mremap(map + 5 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	ASSERT_EQ(room, moved);
	EXPECT_EQ(0, memcmp(moved, expected, PAGE));
	EXPECT_EQ(SIGSEGV, read_at(map + 5 * PAGE));
	EXPECT_EQ(0, stamps_wrong(map, 5 * PAGE, 6));
	EXPECT_EQ(0, read_at(map + 6 * PAGE));
}

TEST_F(vma, grown_mapping_shows_more_of_the_region)
{
	char *map = region_map(self->fd, CHUNK, 0);

	ASSERT_NE(MAP_FAILED, map);
	map[0] = 11;
	map = mremap(map, CHUNK, REGION_LENGTH, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(11, map[0]);
	stamp(map, REGION_LENGTH, 7);
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 7));
}

TEST_F(vma, growth_beyond_the_end_is_sigbus_there)
{
	char *map;

	if (variant->implicit)	/* its end is in implicit_test.c */
		return;
	map = region_map(self->fd, REGION_LENGTH, 0);
	ASSERT_NE(MAP_FAILED, map);
	map = mremap(map, REGION_LENGTH, REGION_LENGTH + 4 * CHUNK, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, write_at(map + REGION_LENGTH - 1, 1));
	EXPECT_EQ(SIGBUS, read_at(map + REGION_LENGTH));
	EXPECT_EQ(SIGBUS, write_at(map + REGION_LENGTH + 4 * CHUNK - 1, 1));
	EXPECT_LE(region_resident(self->fd), REGION_LENGTH);
}

TEST_F(vma, shrunk_mapping_keeps_what_is_left)
{
	char *map = stamped(self->fd, 8);

	ASSERT_EQ(map, mremap(map, REGION_LENGTH, 2 * CHUNK + PAGE, 0));
	EXPECT_EQ(0, stamps_wrong(map, 2 * CHUNK + PAGE, 8));
	EXPECT_EQ(SIGSEGV, read_at(map + 2 * CHUNK + PAGE));
	EXPECT_EQ(REGION_LENGTH, region_resident(self->fd));
}

TEST_F(vma, old_length_zero_makes_a_second_mapping)
{
	char *map = stamped(self->fd, 9);
	char *twin = mremap(map, 0, REGION_LENGTH, MREMAP_MAYMOVE);

	ASSERT_NE(MAP_FAILED, twin);
	EXPECT_EQ(0, stamps_wrong(twin, REGION_LENGTH, 9));
	stamp(twin, REGION_LENGTH, 10);
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 10));
	ASSERT_EQ(0, munmap(map, REGION_LENGTH));
	EXPECT_EQ(0, stamps_wrong(twin, REGION_LENGTH, 10));
}

TEST_F(vma, mapping_left_behind_by_a_move_still_shows_the_region)
{
	char *map = stamped(self->fd, 11);
	char *moved = mremap(map, REGION_LENGTH, REGION_LENGTH,
			     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);

	if (moved == MAP_FAILED && errno == EINVAL)
		SKIP(return, "MREMAP_DONTUNMAP of shared files");
	ASSERT_NE(MAP_FAILED, moved);
	EXPECT_EQ(0, stamps_wrong(moved, REGION_LENGTH, 11));
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 11));
	map[0] = 77;
	EXPECT_EQ(77, moved[0]);
}

TEST_F(vma, protection_can_change_page_by_page_inside_a_chunk)
{
	char *map = stamped(self->fd, 12);

	ASSERT_EQ(0, mprotect(map + CHUNK + PAGE, PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(map + CHUNK + 3 * PAGE, PAGE, PROT_NONE));
	EXPECT_EQ(0, read_at(map + CHUNK + PAGE));
	EXPECT_EQ(SIGSEGV, write_at(map + CHUNK + PAGE, 1));
	EXPECT_EQ(SIGSEGV, read_at(map + CHUNK + 3 * PAGE));
	EXPECT_EQ(0, write_at(map + CHUNK + 2 * PAGE + 64, 1));
	ASSERT_EQ(0, mprotect(map, REGION_LENGTH, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 12));
	stamp(map, REGION_LENGTH, 13);
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 13));
}

TEST_F(vma, whole_chunk_stays_huge_through_protection_changes)
{
	char *map = stamped(self->fd, 14);
	struct smaps smaps;

	ASSERT_EQ(0, mprotect(map, REGION_LENGTH, PROT_READ));
	EXPECT_EQ(SIGSEGV, write_at(map, 1));
	ASSERT_EQ(0, mprotect(map, REGION_LENGTH, PROT_READ | PROT_WRITE));
	stamp(map, REGION_LENGTH, 15);
	ASSERT_EQ(0, smaps_read(map, &smaps));
	EXPECT_EQ(REGION_LENGTH, smaps.file_pmd_mapped);
}

TEST_F(vma, remapped_file_pages_show_what_they_were_told_to)
{
	char *map = stamped(self->fd, 16);
	char expected[PAGE];

	memcpy(expected, map + 4 * CHUNK + 2 * PAGE, PAGE);
	if (remap_file_pages(map, CHUNK, 0, 4 * CHUNK_PAGES + 2, 0))
		SKIP(return, "remap_file_pages: %s", strerror(errno));
	EXPECT_EQ(0, memcmp(map, expected, PAGE));
	EXPECT_EQ(0, remap_file_pages(map, CHUNK, 0, (1UL << 46) / PAGE, 0));
	if (!variant->implicit) {
		EXPECT_EQ(SIGBUS, read_at(map));
	}
}

TEST_F(vma, child_inherits_mappings_in_pieces)
{
	char *map = stamped(self->fd, 17);
	pid_t pid;

	ASSERT_EQ(0, munmap(map + CHUNK + PAGE, PAGE));
	ASSERT_EQ(0, mprotect(map + 2 * CHUNK, PAGE, PROT_READ));
	pid = child_start();
	if (!pid) {
		EXPECT_EQ(SIGSEGV, read_at(map + CHUNK + PAGE));
		EXPECT_EQ(SIGSEGV, write_at(map + 2 * CHUNK, 1));
		EXPECT_EQ(0, write_at(map + 100, 55));
		EXPECT_EQ(0, munmap(map + 3 * CHUNK, 2 * CHUNK + PAGE));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(55, map[100]);
	EXPECT_EQ(0, stamps_wrong(map + 6 * CHUNK, 0, 17));
	EXPECT_EQ(0, read_at(map + 3 * CHUNK));
}

TEST_F(vma, thousand_pieces_with_different_protection_come_and_go)
{
	char *map = stamped(self->fd, 18);
	size_t offset;

	for (offset = 0; offset < 2 * CHUNK; offset += 2 * PAGE)
		ASSERT_EQ(0, mprotect(map + offset, PAGE, PROT_READ));
	EXPECT_EQ(SIGSEGV, write_at(map + CHUNK, 1));
	EXPECT_EQ(0, stamps_wrong(map, REGION_LENGTH, 18));
	ASSERT_EQ(0, munmap(map, REGION_LENGTH));
	EXPECT_EQ(REGION_LENGTH, region_resident(self->fd));
}

TEST_HARNESS_MAIN
