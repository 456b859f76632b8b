// SPDX-License-Identifier: GPL-2.0-only
/*
 * DVSM_IOC_REGION_MIGRATE: what a range holds moves to other nodes, with its contents,
 * whoever maps it; and says what did not move and why.
 */
#include <signal.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "snapshot.h"

#define LENGTH	(4 * CHUNK)

FIXTURE(migrate) {
	int dev;
	int fd;
	int first, last;
	uint64_t to_first, to_last;
	char *map;		/* all on the first node, stamped with 1 */
};

FIXTURE_SETUP(migrate)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_NODES(2);
	self->first = __builtin_ctzll(node_mask());
	self->last = 63 - __builtin_clzll(node_mask());
	self->to_first = 1ULL << self->first;
	self->to_last = 1ULL << self->last;
	self->fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_PREFERRED, self->to_first);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	stamp(self->map, LENGTH, 1);
	ASSERT_EQ(self->first, page_node(self->map));
}

FIXTURE_TEARDOWN_PARENT(migrate)
{
	EXPECT_NO_LEAK();
}

/* Every byte is told in one output; the range is worked through. */
#define EXPECT_OUTPUTS(arg, moved, there, pinned, referenced, failed)		\
do {										\
	EXPECT_EQ((uint64_t)(moved), (arg).out_moved);				\
	EXPECT_EQ((uint64_t)(there), (arg).out_there);				\
	EXPECT_EQ((uint64_t)(pinned), (arg).out_pinned);			\
	EXPECT_EQ((arg).out_pinned, (arg).out_pinned_command +			\
		  (arg).out_pinned_dmabuf + (arg).out_pinned_device);		\
	EXPECT_EQ((uint64_t)(referenced), (arg).out_referenced);		\
	EXPECT_EQ((uint64_t)(failed), (arg).out_failed);			\
} while (0)

TEST_F(migrate, range_moves_with_its_data_and_nothing_else_does)
{
	struct dvsm_region_migrate arg;
	size_t i;

	ASSERT_EQ(0, region_migrate(self->fd, CHUNK, 2 * CHUNK, self->to_last, &arg));
	EXPECT_OUTPUTS(arg, 2 * CHUNK, 0, 0, 0, 0);
	EXPECT_EQ(3 * CHUNK, arg.out_next);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	for (i = 0; i < LENGTH; i += 31 * PAGE)
		EXPECT_EQ(i >= CHUNK && i < 3 * CHUNK ? self->last : self->first,
			  page_node(self->map + i));
	EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
}

TEST_F(migrate, moves_are_counted_as_the_commands)
{
	struct dvsm_node_stats nodes[64] = {};
	struct dvsm_region_info info;

	ASSERT_EQ(0, region_migrate(self->fd, 0, 3 * CHUNK, self->to_last, NULL));
	ASSERT_EQ(0, region_migrate(self->fd, 0, CHUNK, self->to_first, NULL));
	ASSERT_EQ(self->last, page_move(self->map + 3 * CHUNK, self->last, MPOL_MF_MOVE));
	ASSERT_EQ(0, region_nodes(self->fd, nodes, 64));
	EXPECT_EQ(4, nodes[self->last].out_nr_moved_in);
	EXPECT_EQ(3, nodes[self->last].out_nr_moved_in_command);
	EXPECT_EQ(1, nodes[self->last].out_nr_moved_in_user);
	EXPECT_EQ(0, nodes[self->last].out_nr_moved_in_balancing);
	EXPECT_EQ(3, nodes[self->first].out_nr_moved_out_command);
	EXPECT_EQ(1, nodes[self->first].out_nr_moved_out_user);
	EXPECT_EQ(1, nodes[self->first].out_nr_moved_in_command);
	EXPECT_EQ(1, nodes[self->last].out_nr_moved_out_command);
	EXPECT_EQ(3 * CHUNK, nodes[self->last].out_resident);
	EXPECT_EQ(CHUNK, nodes[self->first].out_resident);
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(5, info.out_nr_moved);
	EXPECT_EQ(LENGTH, info.out_resident_huge);
}

TEST_F(migrate, caller_of_the_first_version_gets_its_node_stats_and_no_more)
{
	struct dvsm_region_nodes arg = { .size = 24, .nr_nodes = 1 };
	struct dvsm_node_stats nodes[2];

	memset(nodes, 0xee, sizeof(nodes));
	arg.nodes = (uintptr_t)nodes;
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_NODES, &arg));
	EXPECT_EQ(0xeeeeeeeeeeeeeeeeULL, nodes[0].out_nr_moved_in_user);
	EXPECT_NE(0xeeeeeeeeeeeeeeeeULL, nodes[0].out_nr_moved_out);
}

TEST_F(migrate, what_is_there_stays_and_is_counted)
{
	struct dvsm_region_migrate arg;

	ASSERT_EQ(0, region_migrate(self->fd, CHUNK, CHUNK, self->to_last, NULL));
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, &arg));
	EXPECT_OUTPUTS(arg, LENGTH - CHUNK, CHUNK, 0, 0, 0);
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_first | self->to_last, &arg));
	EXPECT_OUTPUTS(arg, 0, LENGTH, 0, 0, 0);
	EXPECT_EQ(LENGTH, arg.out_next);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(migrate, only_the_given_nodes_are_left)
{
	struct dvsm_region_migrate arg = {
		.size = sizeof(arg),
		.nodes = (uintptr_t)&self->to_first,
		.nr_nodes = 64,
		.from = (uintptr_t)&self->to_first,
		.nr_from = 64,
	};

	ASSERT_EQ(0, region_migrate(self->fd, 0, CHUNK, self->to_last, NULL));
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_MIGRATE, &arg));
	EXPECT_OUTPUTS(arg, 0, LENGTH - CHUNK, 0, 0, 0);
	arg.from = (uintptr_t)&self->to_last;
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_MIGRATE, &arg));
	EXPECT_OUTPUTS(arg, CHUNK, 0, 0, 0, 0);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(self->first, page_node(self->map));
}

TEST_F(migrate, several_nodes_get_chunks_in_turn)
{
	uint64_t others = node_mask() & ~self->to_first;
	struct dvsm_chunk chunks[4];
	int i, nodes[2] = { __builtin_ctzll(others), self->last };

	NEED_NODES(3);
	others = 1ULL << nodes[0] | 1ULL << nodes[1];
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, others, NULL));
	ASSERT_EQ(4, region_residency(self->fd, 0, 0, chunks, 4));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(nodes[i % 2], chunks[i].node);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(migrate, small_folios_of_a_tail_move_each_and_whole)
{
	size_t length = CHUNK + 100 * PAGE;
	int fd = region_create_on(self->dev, length, 0, DVSM_POLICY_PREFERRED, self->to_first);
	char *map = region_map(fd, length, 0);
	struct dvsm_region_migrate arg;
	struct dvsm_chunk before[2], after[2];
	size_t i;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, length, 2);
	ASSERT_EQ(2, region_residency(fd, 0, 0, before, 2));
	ASSERT_EQ(0, region_migrate(fd, 0, 0, self->to_last, &arg));
	EXPECT_OUTPUTS(arg, length, 0, 0, 0, 0);
	ASSERT_EQ(2, region_residency(fd, 0, 0, after, 2));
	EXPECT_EQ(self->last, after[1].node);
	EXPECT_EQ(before[1].nr_folios, after[1].nr_folios);
	EXPECT_EQ(before[1].order_min, after[1].order_min);
	EXPECT_EQ(0, stamps_wrong(map, length, 2));
	for (i = 0; i < length; i += PAGE)
		EXPECT_EQ(self->last, page_node(map + i));
}

/* Bytes of the mapping at @map on @node, as /proc/self/numa_maps has it. */
static size_t numa_maps_bytes(const void *map, int node)
{
	FILE *file = fopen("/proc/self/numa_maps", "re");
	char line[1024], word[16];
	size_t bytes = 0;

	snprintf(word, sizeof(word), " N%d=", node);
	while (file && fgets(line, sizeof(line), file)) {
		const char *at = strstr(line, word);

		if (strtoul(line, NULL, 16) == (uintptr_t)map && at)
			bytes = strtoul(at + strlen(word), NULL, 10) * PAGE;
	}
	if (file)
		fclose(file);
	return bytes;
}

TEST_F(migrate, residency_agrees_with_the_kernel_whoever_moved)
{
	struct dvsm_node_stats nodes[64] = {};
	unsigned long to = self->to_last;
	struct dvsm_chunk chunks[4];
	int i, node;

	ASSERT_EQ(0, region_migrate(self->fd, 0, CHUNK, self->to_last, NULL));
	ASSERT_EQ(self->last, page_move(self->map + CHUNK, self->last, MPOL_MF_MOVE));
	ASSERT_EQ(0, syscall(SYS_mbind, self->map + 2 * CHUNK, CHUNK, MPOL_BIND, &to, 65UL,
			     MPOL_MF_MOVE));
	ASSERT_EQ(0, syscall(SYS_mbind, self->map + 2 * CHUNK, CHUNK, MPOL_DEFAULT, NULL, 0UL, 0));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	ASSERT_EQ(4, region_residency(self->fd, 0, 0, chunks, 4));
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(i < 3 ? self->last : self->first, chunks[i].node);
		EXPECT_EQ(chunks[i].node, page_node(self->map + i * CHUNK + 77 * PAGE));
	}
	ASSERT_EQ(0, region_nodes(self->fd, nodes, 64));
	for (node = 0; node < 64; node++)
		EXPECT_EQ(nodes[node].out_resident, numa_maps_bytes(self->map, node));
	EXPECT_EQ(3 * CHUNK, nodes[self->last].out_resident);
}

TEST_F(migrate, holes_cost_nothing_and_stay_holes)
{
	int fd = region_create(self->dev, LENGTH_MAX, 0);
	struct dvsm_region_migrate arg;
	char *map = region_map(fd, CHUNK, LENGTH_MAX / 2);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 3);
	ASSERT_EQ(0, region_migrate(fd, 0, 0, self->to_last, &arg));
	EXPECT_EQ(CHUNK, arg.out_moved + arg.out_there);
	EXPECT_EQ(LENGTH_MAX, arg.out_next);
	EXPECT_EQ(CHUNK, region_resident(fd));
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 3));
}

TEST_F(migrate, other_processes_find_their_memory_moved)
{
	struct barrier *barrier = barrier_make(2);
	pid_t pid = child_start();

	if (!pid) {
		EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
		barrier_wait(barrier);
		barrier_wait(barrier);
		EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
		EXPECT_EQ(self->last, page_node(self->map));
		EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
		_exit(_metadata->exit_code);
	}
	barrier_wait(barrier);
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, NULL));
	barrier_wait(barrier);
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(migrate, private_copies_stay_with_who_made_them)
{
	char *private = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->fd, 0);

	ASSERT_NE(MAP_FAILED, private);
	EXPECT_EQ(0, read_at(private + PAGE));
	private[CHUNK] = 9;
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, NULL));
	EXPECT_EQ(9, private[CHUNK]);
	EXPECT_EQ(0, stamps_wrong(private, CHUNK, 1));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

FIXTURE(shared) {
	int dev;
	int fd;
	int snapshot;
	int first, last;
	uint64_t to_last;
	char *map;		/* all on the first node, stamped with 1, one page with 2 */
	char *old;		/* what the snapshot reads, stamped with 1 */
};

FIXTURE_VARIANT(shared) {
	uint64_t granularity;
};

FIXTURE_VARIANT_ADD(shared, chunks) {
	.granularity = CHUNK,
};

FIXTURE_VARIANT_ADD(shared, parts) {
	.granularity = PAGE,
};

FIXTURE_SETUP(shared)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_NODES(2);
	self->first = __builtin_ctzll(node_mask());
	self->last = 63 - __builtin_clzll(node_mask());
	self->to_last = 1ULL << self->last;
	self->fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND, 1ULL << self->first);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	stamp(self->map, LENGTH, 1);
	self->snapshot = snapshot_take_in_parts(self->fd, variant->granularity, 0);
	ASSERT_LE(0, self->snapshot);
	self->old = region_map(self->snapshot, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->old);
	stamp(self->map + CHUNK + 5 * PAGE, PAGE, 2);
	EXPECT_EQ(0, stamps_wrong(self->old, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(self->map, CHUNK, 1));
}

FIXTURE_TEARDOWN_PARENT(shared)
{
	EXPECT_NO_LEAK();
}

/* Pages that are not as the live side wrote them, which is one with 2. */
static size_t wrong_in_live(const char *map)
{
	return stamps_wrong(map, LENGTH, 1) - 1 + stamps_wrong(map + CHUNK + 5 * PAGE, PAGE, 2);
}

static size_t pages_elsewhere(const char *map, int node)
{
	size_t nr = 0, i;

	for (i = 0; i < LENGTH; i += PAGE) {
		read_at(map + i);
		nr += page_node(map + i) != node;
	}
	return nr;
}

TEST_F(shared, folio_moves_once_for_all_who_share_it)
{
	struct dvsm_region_migrate arg;

	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, &arg));
	EXPECT_EQ(0, arg.out_pinned + arg.out_referenced + arg.out_failed + arg.out_there);
	EXPECT_EQ(LENGTH + (variant->granularity < CHUNK ? PAGE : 0), arg.out_moved);
	EXPECT_EQ(0, wrong_in_live(self->map));
	EXPECT_EQ(0, stamps_wrong(self->old, LENGTH, 1));
	EXPECT_EQ(0, pages_elsewhere(self->map, self->last));
	EXPECT_EQ(self->last, page_node(self->old));
	EXPECT_EQ(self->last, page_node(self->old + LENGTH - PAGE));
	ASSERT_EQ(0, region_migrate(self->snapshot, 0, 0, self->to_last, &arg));
	EXPECT_EQ(0, pages_elsewhere(self->old, self->last));
	EXPECT_EQ(0, stamps_wrong(self->old, LENGTH, 1));
}

TEST_F(shared, snapshot_moves_what_its_parent_reads_too)
{
	ASSERT_EQ(0, region_migrate(self->snapshot, 0, 0, self->to_last, NULL));
	EXPECT_EQ(0, stamps_wrong(self->old, LENGTH, 1));
	EXPECT_EQ(0, pages_elsewhere(self->old, self->last));
	EXPECT_EQ(0, wrong_in_live(self->map));
	EXPECT_EQ(self->last, page_node(self->map));
}

TEST_F(shared, write_after_a_move_is_seen_by_its_own_side_only)
{
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, NULL));
	stamp(self->map, PAGE, 3);
	stamp(self->old + 2 * CHUNK, PAGE, 4);
	EXPECT_EQ(0, stamps_wrong(self->map, PAGE, 3));
	EXPECT_EQ(0, stamps_wrong(self->old, PAGE, 1));
	EXPECT_EQ(0, stamps_wrong(self->old + 2 * CHUNK, PAGE, 4));
	EXPECT_EQ(2, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(shared, brother_s_mappings_follow_too)
{
	int brother = snapshot_take_in_parts(self->fd, variant->granularity, 0);
	char *map = region_map(brother, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, wrong_in_live(map));
	stamp(map + 7 * PAGE, PAGE, 5);
	ASSERT_EQ(0, region_migrate(self->snapshot, 0, 0, self->to_last, NULL));
	EXPECT_EQ(0, stamps_wrong(map + 7 * PAGE, PAGE, 5));
	EXPECT_EQ(2, stamps_wrong(map, LENGTH, 1));
	EXPECT_EQ(0, wrong_in_live(self->map));
	EXPECT_EQ(0, stamps_wrong(self->old, LENGTH, 1));
	EXPECT_EQ(0, read_at(map + 2 * CHUNK));
	EXPECT_EQ(self->last, page_node(map + 2 * CHUNK));
}

TEST_F(shared, contents_move_whose_region_is_gone)
{
	munmap(self->map, LENGTH);
	close(self->fd);
	ASSERT_EQ(0, region_migrate(self->snapshot, 0, 0, self->to_last, NULL));
	EXPECT_EQ(0, stamps_wrong(self->old, LENGTH, 1));
	EXPECT_EQ(0, pages_elsewhere(self->old, self->last));
}

TEST_F(migrate, pinned_region_is_ebusy)
{
	int fd = region_create_on(self->dev, LENGTH, DVSM_REGION_F_PINNED, DVSM_POLICY_BIND,
				  self->to_first);
	struct dvsm_region_migrate arg;

	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBUSY, region_migrate(fd, 0, 0, self->to_last, &arg));
	EXPECT_OUTPUTS(arg, 0, 0, 0, 0, 0);
	EXPECT_EQ(0, arg.out_next);
}

TEST_F(migrate, pinned_range_stays_until_it_is_unpinned)
{
	struct dvsm_region_pin pin = { .size = sizeof(pin), .offset = CHUNK, .length = PAGE };
	struct dvsm_region_unpin unpin = { .size = sizeof(unpin), .offset = CHUNK, .length = PAGE };
	struct dvsm_region_migrate arg;

	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_PIN, &pin));
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, &arg));
	EXPECT_OUTPUTS(arg, LENGTH - CHUNK, 0, CHUNK, 0, 0);
	EXPECT_EQ(CHUNK, arg.out_pinned_command);
	EXPECT_EQ(self->first, page_node(self->map + CHUNK));
	EXPECT_NE(self->last, page_move(self->map + CHUNK, self->last, MPOL_MF_MOVE));
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_UNPIN, &unpin));
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, &arg));
	EXPECT_OUTPUTS(arg, CHUNK, LENGTH - CHUNK, 0, 0, 0);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(migrate, what_a_pipe_holds_is_referenced_until_it_is_read)
{
	struct iovec iovec = { .iov_base = self->map + CHUNK, .iov_len = PAGE };
	struct dvsm_region_migrate arg;
	int ends[2];
	char page[PAGE];

	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(PAGE, vmsplice(ends[1], &iovec, 1, 0));
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, &arg));
	EXPECT_OUTPUTS(arg, LENGTH - CHUNK, 0, 0, CHUNK, 0);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(self->first, page_node(self->map + CHUNK));
	ASSERT_EQ(PAGE, read(ends[0], page, PAGE));
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, &arg));
	EXPECT_OUTPUTS(arg, CHUNK, LENGTH - CHUNK, 0, 0, 0);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(migrate, registered_buffer_is_pinned)
{
	int fd = region_create_on(self->dev, LENGTH, DVSM_REGION_F_REGISTRABLE,
				  DVSM_POLICY_PREFERRED, self->to_first);
	char *map = region_map(fd, LENGTH, 0);
	struct dvsm_region_migrate arg;
	struct dvsm_info info;
	struct uring ring;

	ASSERT_EQ(0, device_info(self->dev, &info));
	if (!(info.out_features & DVSM_FEATURE_FIXED_BUFFERS))
		SKIP(return, "no io_uring fixed buffers on this kernel");
	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 2);
	ASSERT_EQ(0, uring_open(&ring, 4));
	ASSERT_EQ(0, uring_register_buffers(&ring, map, CHUNK));
	ASSERT_EQ(0, region_migrate(fd, 0, 0, self->to_last, &arg));
	EXPECT_OUTPUTS(arg, LENGTH - CHUNK, 0, CHUNK, 0, 0);
	EXPECT_EQ(CHUNK, arg.out_pinned_device);
	EXPECT_EQ(self->first, page_node(map));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 2));
	uring_close(&ring);
}

TEST_F(migrate, what_stays_is_told_by_kind_of_holder)
{
	struct dvsm_region_export_dmabuf export = { .size = sizeof(export), .length = 2 * CHUNK };
	struct dvsm_region_pin pin = { .size = sizeof(pin), .offset = CHUNK, .length = PAGE };
	struct dvsm_region_unpin unpin = { .size = sizeof(unpin), .offset = CHUNK, .length = PAGE };
	struct iovec iovec = { .iov_base = self->map + 2 * CHUNK, .iov_len = PAGE };
	unsigned long end = clock_ms() + 60000;
	struct dvsm_region_migrate arg;
	int ends[2], dmabuf;

	/* The second chunk has two holders, the last one none. */
	dmabuf = ioctl(self->fd, DVSM_IOC_REGION_EXPORT_DMABUF, &export);
	ASSERT_LE(0, dmabuf);
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_PIN, &pin));
	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(PAGE, vmsplice(ends[1], &iovec, 1, 0));
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, &arg));
	EXPECT_OUTPUTS(arg, CHUNK, 0, 2 * CHUNK, CHUNK, 0);
	EXPECT_EQ(CHUNK, arg.out_pinned_command);
	EXPECT_EQ(CHUNK, arg.out_pinned_dmabuf);
	EXPECT_EQ(0, arg.out_pinned_device);
	/* As one lets go, the next one is told. */
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_UNPIN, &unpin));
	close(ends[0]);
	close(ends[1]);
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, &arg));
	EXPECT_OUTPUTS(arg, CHUNK, CHUNK, 2 * CHUNK, 0, 0);
	EXPECT_EQ(2 * CHUNK, arg.out_pinned_dmabuf);
	close(dmabuf);
	do {
		sleep_ms(10);
		ASSERT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, &arg));
	} while (arg.out_there != LENGTH && clock_ms() < end);
	EXPECT_OUTPUTS(arg, 0, LENGTH, 0, 0, 0);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(migrate, no_huge_page_on_the_target_leaves_the_chunk_where_it_is)
{
	struct dvsm_region_migrate arg;
	struct hog hog;
	size_t length;
	char *map;
	int fd, ret;

	ret = hog_fragment(&hog, self->last);
	if (ret)
		SKIP(return, "node %d cannot be broken up: %s", self->last, strerror(-ret));
	/* More than all that is free, whatever compaction may make of it, and what may be given back meanwhile. */
	length = (node_free(self->last) + 64 * MIB) / CHUNK * CHUNK;
	fd = region_create_on(self->dev, length, DVSM_REGION_F_HUGE_REQUIRED, DVSM_POLICY_BIND,
			      self->to_first);
	map = region_map(fd, length, 0);
	ASSERT_NE(MAP_FAILED, map);
	stamp(map, length, 6);
	ret = region_migrate(fd, 0, 0, self->to_last, &arg);
	hog_release(&hog);
	ASSERT_EQ(0, ret);
	EXPECT_EQ(length, arg.out_failed + arg.out_moved);
	EXPECT_LE(CHUNK, arg.out_failed);
	EXPECT_EQ(length, arg.out_next);
	EXPECT_EQ(0, stamps_wrong(map, length, 6));
	EXPECT_TRUE(is_huge_mapped(map, length));
}

TEST_F(migrate, wrong_sets_are_einval_and_change_nothing)
{
	struct dvsm_region_migrate arg = { .size = sizeof(arg) };
	uint64_t none = 0;

	EXPECT_EQ(-1, ioctl(self->fd, DVSM_IOC_REGION_MIGRATE, &arg));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-EINVAL, region_migrate(self->fd, 0, 0, none, NULL));
	EXPECT_EQ(-EINVAL, region_migrate(self->fd, 0, 0, 1ULL << 63, NULL));
	EXPECT_EQ(-EINVAL, region_migrate(self->fd, 1, PAGE, self->to_last, NULL));
	EXPECT_EQ(-EINVAL, region_migrate(self->fd, CHUNK, LENGTH, self->to_last, NULL));
	EXPECT_EQ(self->first, page_node(self->map));
}

TEST_F(migrate, cpuset_says_where_the_caller_may_move_things)
{
	struct dvsm_region_migrate arg;
	struct cgroup cgroup;
	char mems[16];
	pid_t pid;

	NEED_CGROUP(&cgroup, "migrate");
	snprintf(mems, sizeof(mems), "%d", self->first);
	ASSERT_EQ(0, region_migrate(self->fd, 0, CHUNK, self->to_last, NULL));
	ASSERT_EQ(0, cgroup_set(&cgroup, "cpuset.mems", mems));
	pid = child_start();
	if (!pid) {
		cgroup_enter(&cgroup);
		EXPECT_EQ(-EINVAL, region_migrate(self->fd, 0, 0, self->to_last, &arg));
		EXPECT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last | self->to_first, &arg));
		EXPECT_OUTPUTS(arg, CHUNK, LENGTH - CHUNK, 0, 0, 0);
		_exit(_metadata->exit_code);
	}
	EXPECT_EQ(0, child_wait(pid));
	cgroup_remove(&cgroup);
}

TEST_F(migrate, charge_stays_with_its_cgroup_even_at_its_limit)
{
	struct dvsm_region_migrate arg;
	struct cgroup cgroup;
	unsigned long before;
	char limit[32];
	pid_t pid;
	int i;

	NEED_CGROUP(&cgroup, "migrate");
	pid = child_start();
	if (!pid) {
		int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_PREFERRED,
					  self->to_first);
		char *map;

		cgroup_enter(&cgroup);
		map = region_map(fd, LENGTH, 0);
		stamp(map, LENGTH, 3);
		before = cgroup_get(&cgroup, "memory.current");
		snprintf(limit, sizeof(limit), "%lu", before + MIB / 4);
		EXPECT_EQ(0, cgroup_set(&cgroup, "memory.max", limit));
		for (i = 0; i < 6; i++) {
			EXPECT_EQ(0, region_migrate(fd, 0, 0, 1ULL << (i % 2 ? self->first
									     : self->last), &arg));
			EXPECT_OUTPUTS(arg, LENGTH, 0, 0, 0, 0);
		}
		EXPECT_GT(before + MIB, cgroup_get(&cgroup, "memory.current"));
		EXPECT_LE(LENGTH, cgroup_get(&cgroup, "memory.current"));
		EXPECT_EQ(0, cgroup_event(&cgroup, "memory.events", "oom_kill"));
		EXPECT_EQ(0, stamps_wrong(map, LENGTH, 3));
		_exit(_metadata->exit_code);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_TRUE(cgroup_drains_to(&cgroup, MIB, 60));
	cgroup_remove(&cgroup);
}

TEST_F(migrate, stranger_s_move_charges_who_had_the_memory)
{
	struct cgroup cgroup;
	unsigned long before;
	pid_t pid;

	NEED_CGROUP(&cgroup, "migrate");
	pid = child_start();
	if (!pid) {
		cgroup_enter(&cgroup);
		before = cgroup_get(&cgroup, "memory.current");
		EXPECT_EQ(0, region_migrate(self->fd, 0, 0, self->to_last, NULL));
		EXPECT_GT(before + CHUNK, cgroup_get(&cgroup, "memory.current"));
		_exit(_metadata->exit_code);
	}
	EXPECT_EQ(0, child_wait(pid));
	cgroup_remove(&cgroup);
}

/* Whoever moves, and on older kernels that copies after the folios changed places. */
TEST_F(migrate, read_and_write_never_see_a_half_moved_page)
{
	char page[PAGE];
	unsigned long end;
	pid_t pids[2];
	int i;

	for (i = 0; i < 2; i++) {
		pids[i] = child_start();
		if (pids[i])
			continue;
		for (int to = 0;; to = !to) {
			int node = to ? self->last : self->first;

			if (i)
				page_move(self->map, node, MPOL_MF_MOVE_ALL);
			else
				region_migrate(self->fd, 0, CHUNK, 1ULL << node, NULL);
			/* Only what is mapped can be moved by move_pages(). */
			read_at(self->map);
		}
	}
	for (end = clock_ms() + 1500; clock_ms() < end;) {
		off_t at = (off_t)(rand() % CHUNK_PAGES) * PAGE;

		ASSERT_EQ(PAGE, pread(self->fd, page, PAGE, at));
		ASSERT_EQ(0, memcmp(page, self->map + at, PAGE));
		ASSERT_EQ(PAGE, pwrite(self->fd, page, PAGE, at));
	}
	for (i = 0; i < 2; i++) {
		kill(pids[i], SIGKILL);
		child_wait(pids[i]);
	}
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(migrate, killed_mover_leaves_everything_in_order)
{
	int i;

	for (i = 0; i < 20; i++) {
		pid_t pid = child_start();
		int status;

		if (!pid)
			for (;;) {
				region_migrate(self->fd, 0, 0, self->to_last, NULL);
				region_migrate(self->fd, 0, 0, self->to_first, NULL);
			}
		sleep_ms(1 + i);
		kill(pid, SIGKILL);
		EXPECT_TRUE(child_ends(pid, 60000, &status));
		EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	}
	EXPECT_EQ(LENGTH, region_resident(self->fd));
}

TEST_HARNESS_MAIN
