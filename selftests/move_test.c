// SPDX-License-Identifier: GPL-2.0-only
/*
 * Folios that move between nodes, by move_pages(2), mbind(2) and migrate_pages(2):
 * whole, with their data, counted; and pinned ones, which stay.
 */
#include <linux/mempolicy.h>
#include <sys/syscall.h>

#include "snapshot.h"

#define LENGTH (4 * CHUNK)

FIXTURE(move) {
	int dev;
	int fd;
	int first, last;
	char *map;		/* all on the first node, stamped with 1 */
};

FIXTURE_SETUP(move)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_NODES(2);
	self->first = __builtin_ctzll(node_mask());
	self->last = 63 - __builtin_clzll(node_mask());
	self->fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_PREFERRED,
				    1ULL << self->first);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	stamp(self->map, LENGTH, 1);
	ASSERT_EQ(self->first, page_node(self->map));
}

FIXTURE_TEARDOWN_PARENT(move)
{
	EXPECT_NO_LEAK();
}

TEST_F(move, one_page_takes_its_whole_folio_along_with_the_data)
{
	struct dvsm_region_info info;
	size_t page;

	ASSERT_EQ(self->last, page_move(self->map + CHUNK + 9 * PAGE, self->last, MPOL_MF_MOVE));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	for (page = 0; page < CHUNK_PAGES; page += 31)
		EXPECT_EQ(self->last, page_node(self->map + CHUNK + page * PAGE));
	EXPECT_EQ(self->first, page_node(self->map));
	EXPECT_EQ(self->first, page_node(self->map + 2 * CHUNK));
	EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(1, info.out_nr_moved);
	EXPECT_EQ(LENGTH, info.out_resident_huge);
	EXPECT_EQ(LENGTH, info.out_resident);
}

TEST_F(move, moves_are_counted_on_both_sides_and_followed_by_residency)
{
	struct dvsm_node_stats nodes[64] = {};
	struct dvsm_chunk chunks[4];
	int i;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(self->last, page_move(self->map + i * CHUNK, self->last, MPOL_MF_MOVE));
	ASSERT_EQ(self->first, page_move(self->map, self->first, MPOL_MF_MOVE));
	ASSERT_EQ(0, region_nodes(self->fd, nodes, 64));
	EXPECT_EQ(3, nodes[self->last].out_nr_moved_in);
	EXPECT_EQ(3, nodes[self->first].out_nr_moved_out);
	EXPECT_EQ(1, nodes[self->first].out_nr_moved_in);
	EXPECT_EQ(1, nodes[self->last].out_nr_moved_out);
	EXPECT_EQ(2 * CHUNK, nodes[self->last].out_resident);
	EXPECT_EQ(2 * CHUNK, nodes[self->first].out_resident);
	ASSERT_EQ(4, region_residency(self->fd, 0, 0, chunks, 4));
	EXPECT_EQ(self->first, chunks[0].node);
	EXPECT_EQ(self->last, chunks[1].node);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(move, mbind_moves_what_is_there)
{
	unsigned long nodes = 1UL << self->last;
	int i;

	ASSERT_EQ(0, syscall(SYS_mbind, self->map, LENGTH, MPOL_BIND, &nodes, 65UL,
			     MPOL_MF_MOVE | MPOL_MF_STRICT));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(self->last, page_node(self->map + i * CHUNK));
	EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
}

TEST_F(move, migrate_pages_moves_a_whole_process)
{
	unsigned long from = 1UL << self->first, to = 1UL << self->last;

	EXPECT_LE(0, syscall(SYS_migrate_pages, 0, 64UL, &from, &to));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(self->last, page_node(self->map));
}

TEST_F(move, shared_folio_moves_only_for_who_may_move_it_for_all)
{
	struct barrier *barrier = barrier_make(2);
	pid_t pid = child_start();

	if (!pid) {
		EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
		barrier_wait(barrier);
		barrier_wait(barrier);
		EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
		EXPECT_EQ(self->last, page_node(self->map));
		_exit(0);
	}
	barrier_wait(barrier);
	EXPECT_EQ(-EACCES, page_move(self->map, self->last, MPOL_MF_MOVE));
	EXPECT_EQ(self->first, page_node(self->map));
	EXPECT_EQ(self->last, page_move(self->map, self->last, MPOL_MF_MOVE_ALL));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	barrier_wait(barrier);
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(move, writers_lose_no_write_while_folios_move)
{
	enum { NR = 3 };
	uint64_t *sums = share_anonymous(PAGE);
	struct barrier *barrier = barrier_make(NR + 1);
	unsigned int *stop = share_anonymous(PAGE);
	unsigned long end;
	pid_t pids[NR];
	int i, moves = 0;

	memset(self->map, 0, LENGTH);
	for (i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			uint64_t *word = (uint64_t *)(self->map + CHUNK) + i * 1000, n = 0;

			barrier_wait(barrier);
			while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
				*(volatile uint64_t *)word += 1;
				n++;
			}
			sums[i] = n;
			_exit(0);
		}
	}
	barrier_wait(barrier);
	end = clock_ms() + 1500;
	do {
		int to = moves++ % 2 ? self->first : self->last;

		page_move(self->map + CHUNK, to, MPOL_MF_MOVE_ALL);
	} while (clock_ms() < end);
	__atomic_store_n(stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	for (i = 0; i < NR; i++)
		EXPECT_EQ(sums[i], *((uint64_t *)(self->map + CHUNK) + i * 1000));
	EXPECT_LT(0, moves);
}

TEST_F(move, unmapped_parts_and_private_copies_do_not_disturb_a_move)
{
	char *private = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->fd, 0);

	ASSERT_NE(MAP_FAILED, private);
	private[CHUNK] = 9;
	ASSERT_EQ(0, munmap(self->map + 2 * CHUNK + PAGE, PAGE));
	EXPECT_EQ(0, read_at(self->map + 2 * CHUNK));
	EXPECT_EQ(0, read_at(self->map + 2 * CHUNK + 3 * PAGE));
	EXPECT_EQ(self->last, page_move(self->map + 2 * CHUNK, self->last, MPOL_MF_MOVE_ALL));
	EXPECT_EQ(self->last, page_node(self->map + 2 * CHUNK + 3 * PAGE));
	EXPECT_EQ(9, private[CHUNK]);
	EXPECT_EQ(0, stamps_wrong(self->map, 2 * CHUNK, 1));
}

TEST_F(move, pinned_folio_stays_and_keeps_its_data)
{
	int fd = region_create_on(self->dev, LENGTH, DVSM_REGION_F_PINNED, DVSM_POLICY_BIND,
				  1ULL << self->first);
	char *map = region_map(fd, LENGTH, 0);
	unsigned long from = 1UL << self->first, to = 1UL << self->last;
	struct dvsm_region_info info;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 2);
	EXPECT_GT(0, page_move(map, self->last, MPOL_MF_MOVE));
	syscall(SYS_migrate_pages, 0, 64UL, &from, &to);
	syscall(SYS_mbind, map, LENGTH, MPOL_BIND, &to, 65UL, MPOL_MF_MOVE_ALL);
	EXPECT_EQ(-1, syscall(SYS_mbind, map, LENGTH, MPOL_BIND, &to, 65UL,
			      MPOL_MF_MOVE | MPOL_MF_STRICT));
	EXPECT_EQ(EIO, errno);
	write_text("/proc/sys/vm/compact_memory", "1");
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 2));
	EXPECT_EQ(self->first, page_node(map));
	EXPECT_EQ(self->first, page_node(map + 3 * CHUNK));
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(0, info.out_nr_moved);
}

TEST_F(move, pinned_range_stays_and_the_rest_moves)
{
	struct dvsm_region_pin pin = { .size = sizeof(pin), .offset = CHUNK, .length = PAGE };
	struct dvsm_region_unpin unpin = { .size = sizeof(unpin), .offset = CHUNK, .length = PAGE };
	unsigned long from = 1UL << self->first, to = 1UL << self->last;
	int i;

	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_PIN, &pin));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_NE(self->last, page_move(self->map + CHUNK, self->last, MPOL_MF_MOVE));
	EXPECT_EQ(-1, syscall(SYS_mbind, self->map, LENGTH, MPOL_BIND, &to, 65UL,
			      MPOL_MF_MOVE | MPOL_MF_STRICT));
	EXPECT_EQ(EIO, errno);
	EXPECT_LT(0, syscall(SYS_migrate_pages, 0, 64UL, &from, &to));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(i == 1 ? self->first : self->last, page_node(self->map + i * CHUNK));
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_UNPIN, &unpin));
	EXPECT_EQ(self->last, page_move(self->map + CHUNK, self->last, MPOL_MF_MOVE));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(move, what_a_snapshot_has_mapped_stays_until_it_is_unmapped)
{
	int snapshot = snapshot_take(self->fd);
	char *old = region_map(snapshot, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, old);
	EXPECT_EQ(0, stamps_wrong(old, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_NE(self->last, page_move(self->map, self->last, MPOL_MF_MOVE_ALL));
	EXPECT_EQ(0, stamps_wrong(old, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(self->first, page_node(self->map));
	munmap(old, LENGTH);
	EXPECT_EQ(self->last, page_move(self->map, self->last, MPOL_MF_MOVE));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	old = region_map(snapshot, LENGTH, 0);
	EXPECT_EQ(0, stamps_wrong(old, LENGTH, 1));
}

TEST_F(move, cgroup_s_charge_moves_along_without_growing)
{
	struct cgroup cgroup;
	unsigned long before;
	pid_t pid;
	int i;

	NEED_CGROUP(&cgroup, "move");
	pid = child_start();
	if (!pid) {
		int fd = region_create(self->dev, LENGTH, 0);
		char *map;

		cgroup_enter(&cgroup);
		map = region_map(fd, LENGTH, 0);
		stamp(map, LENGTH, 3);
		before = cgroup_get(&cgroup, "memory.current");
		EXPECT_LE(LENGTH, before);
		for (i = 0; i < 6; i++)
			page_move(map + CHUNK, i % 2 ? self->first : self->last, MPOL_MF_MOVE);
		EXPECT_GT(before + CHUNK, cgroup_get(&cgroup, "memory.current"));
		EXPECT_LE(LENGTH, cgroup_get(&cgroup, "memory.current"));
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_TRUE(cgroup_drains_to(&cgroup, MIB, 60));
	cgroup_remove(&cgroup);
}

TEST_HARNESS_MAIN
