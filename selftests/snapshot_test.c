// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshots: what is shared, what is copied and for whom, what each side sees.
 */
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "snapshot.h"

#define LENGTH	(4 * CHUNK)

FIXTURE(snapshot)
{
	int dev;
	int fd;
	char *map;
	char *old;		/* what the region holds when the test starts */
};

FIXTURE_SETUP(snapshot)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	self->old = malloc(LENGTH);
	ASSERT_NE(NULL, self->old);
	stamp(self->old, LENGTH, 1);
	memcpy(self->map, self->old, LENGTH);
}

/* Whether [from, from + length) of @map holds what the region held at first. */
#define IS_OLD(map, from, length) \
	(memcmp((map) + (from), self->old + (from), (length)) == 0)

FIXTURE_TEARDOWN_PARENT(snapshot)
{
	EXPECT_NO_LEAK();
}

static uint64_t pfn_of(const char *addr)
{
	(void)*(volatile const char *)addr;
	return PAGEMAP_PFN(pagemap_entry(addr));
}

static uint64_t copied(int fd)
{
	struct dvsm_region_info info;

	return region_info(fd, &info) ? UINT64_MAX : info.out_copied;
}

TEST_F(snapshot, shares_every_folio_and_copies_nothing)
{
	int s = snapshot_take(self->fd);
	struct dvsm_region_info info;
	struct dvsm_chunk chunks[4];
	char *map;

	ASSERT_LE(0, s);
	map = region_map(s, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, map);
	for (size_t at = 0; at < LENGTH; at += CHUNK)
		EXPECT_EQ(pfn_of(self->map + at), pfn_of(map + at));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	ASSERT_EQ(0, region_info(s, &info));
	EXPECT_EQ(LENGTH, info.out_resident);
	EXPECT_EQ(LENGTH, info.out_shared);
	EXPECT_EQ(0, info.out_copied);
	EXPECT_NE(0, info.out_parent_id);
	ASSERT_EQ(4, region_residency(s, 0, LENGTH, chunks, 4));
	for (int i = 0; i < 4; i++)
		EXPECT_TRUE(chunks[i].flags & DVSM_CHUNK_F_SHARED);
}

TEST_F(snapshot, keeps_2_MiB_mappings_on_both_sides_through_writes)
{
	int s = snapshot_take(self->fd);
	char *map = region_map(s, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	EXPECT_TRUE(is_huge_mapped(map, LENGTH));
	stamp(self->map, CHUNK, 2);
	stamp(map + CHUNK, CHUNK, 3);
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 1));
	EXPECT_TRUE(IS_OLD(self->map, CHUNK, LENGTH - CHUNK));
	EXPECT_TRUE(IS_OLD(map, 2 * CHUNK, 2 * CHUNK));
	EXPECT_TRUE(is_huge_mapped(map, LENGTH));
	EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
}

TEST_F(snapshot, write_after_a_read_keeps_the_2_MiB_mapping)
{
	int s = snapshot_take(self->fd);

	ASSERT_LE(0, s);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	stamp(self->map, LENGTH, 2);
	EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
}

/* rep movs and read-modify-write read a chunk before they write to it. */
TEST_F(snapshot, an_instruction_that_reads_and_writes_one_chunk_ends)
{
	char *to = self->map + PAGE, *from = self->map;
	size_t length = PAGE;
	int s = snapshot_take(self->fd);

	ASSERT_LE(0, s);
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
	EXPECT_EQ(0, memcmp(self->map, self->map + PAGE, PAGE));
	__atomic_fetch_add(&self->map[CHUNK], 1, __ATOMIC_SEQ_CST);
	EXPECT_TRUE(is_huge_mapped(self->map, 2 * CHUNK));
}

TEST_F(snapshot, live_side_keeps_its_folio_and_the_snapshot_gets_the_copy)
{
	uint64_t before = pfn_of(self->map);
	int s = snapshot_take(self->fd);

	self->map[0]++;
	EXPECT_EQ(before, pfn_of(self->map));
	EXPECT_EQ(0, copied(self->fd));
	EXPECT_EQ(CHUNK, copied(s));
}

TEST_F(snapshot, last_sharer_writes_without_a_copy)
{
	uint64_t before = pfn_of(self->map);
	struct dvsm_region_info info;
	int s = snapshot_take(self->fd);

	close(s);
	self->map[0]++;
	EXPECT_EQ(before, pfn_of(self->map));
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(0, info.out_nr_cow_faults);
	EXPECT_EQ(0, info.out_copied);
}

TEST_F(snapshot, last_sharer_writes_without_a_copy_when_the_parent_is_gone)
{
	int s = snapshot_take(self->fd);
	char *map = region_map(s, LENGTH, 0);
	uint64_t before = pfn_of(map);
	struct counts counts;

	munmap(self->map, LENGTH);
	close(self->fd);
	map[0]++;
	EXPECT_EQ(before, pfn_of(map));
	EXPECT_EQ(0, copied(s));
	map[0]--;
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	ASSERT_EQ(0, counts_read(&counts));
	EXPECT_EQ(LENGTH / PAGE, counts.pages);
}

TEST_F(snapshot, old_contents_are_copied_once_for_all_who_still_share_them)
{
	int s[3];
	struct counts counts;

	for (int i = 0; i < 3; i++)
		s[i] = snapshot_take(self->fd);
	self->map[0]++;
	ASSERT_EQ(0, counts_read(&counts));
	EXPECT_EQ((LENGTH + CHUNK) / PAGE, counts.pages);
	for (int i = 0; i < 3; i++) {
		char *map = region_map(s[i], LENGTH, 0);

		EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	}
}

/*
 * The books tell what there is at once, not when the region's end settles them: what
 * was copied for snapshots, in a whole and in parts, what a restore and a merge put
 * something else in the place of, and what a discard gives back.
 */
TEST_F(snapshot, what_nobody_reads_any_more_is_off_the_books_while_the_region_lives)
{
	const unsigned long own = LENGTH / PAGE;
	struct dvsm_snapshot_merge merge;
	int s[2], i;

	for (i = 0; i < 2; i++)
		s[i] = snapshot_take(self->fd);
	self->map[0]++;
	EXPECT_EQ(0, stats_reach("pages", own + CHUNK_PAGES, 0));
	close(s[0]);
	EXPECT_EQ(0, stats_reach("pages", own + CHUNK_PAGES, 0));
	close(s[1]);
	EXPECT_EQ(0, stats_reach("pages", own, 0)) TH_LOG("a copy for two snapshots");

	for (i = 0; i < 2; i++)
		s[i] = snapshot_take_in_parts(self->fd, PAGE, 0);
	self->map[0]++;
	EXPECT_EQ(0, stats_reach("pages", own + 1, 0));
	close(s[0]);
	close(s[1]);
	/* Who looks it up next puts it back to where it was copied from. */
	EXPECT_EQ(1, pwrite(self->fd, "x", 1, 0));
	EXPECT_EQ(0, stats_reach("pages", own, 0)) TH_LOG("a part");

	s[0] = snapshot_take(self->fd);
	self->map[0]++;
	EXPECT_EQ(0, stats_reach("pages", own + CHUNK_PAGES, 0));
	ASSERT_EQ(0, snapshot_restore(self->fd, s[0]));
	EXPECT_EQ(0, stats_reach("pages", own, 0)) TH_LOG("what a restore replaced");
	EXPECT_EQ(1, pwrite(s[0], "x", 1, CHUNK));
	EXPECT_EQ(0, stats_reach("pages", own + CHUNK_PAGES, 0));
	ASSERT_EQ(0, snapshot_merge(self->fd, s[0], DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ(0, stats_reach("pages", own, 0)) TH_LOG("what a merge replaced");

	EXPECT_EQ(1, pwrite(s[0], "y", 1, 2 * CHUNK));
	EXPECT_EQ(0, stats_reach("pages", own + CHUNK_PAGES, 0));
	ASSERT_EQ(0, region_discard(s[0], 2 * CHUNK, CHUNK, NULL));
	EXPECT_EQ(0, stats_reach("pages", own, 0)) TH_LOG("what was discarded");
	close(s[0]);
	EXPECT_EQ(0, stats_reach("pages", own, 0));
}

TEST_F(snapshot, of_a_range_is_empty_outside_it)
{
	int s = snapshot_take_range(self->fd, CHUNK, 2 * CHUNK, 0);
	char *map = region_map(s, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_TRUE(is_zero(map, CHUNK));
	EXPECT_EQ(0, memcmp(map + CHUNK, self->map + CHUNK, 2 * CHUNK));
	EXPECT_TRUE(is_zero(map + 3 * CHUNK, CHUNK));
}

TEST_F(snapshot, read_only_snapshot_cannot_be_written)
{
	int s = snapshot_take_range(self->fd, 0, 0, DVSM_SNAPSHOT_F_READ_ONLY);
	char *map;

	ASSERT_LE(0, s);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, s, 0));
	map = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, s, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-1, mprotect(map, LENGTH, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-EBADF, snapshot_take(s));
	EXPECT_GT(0, fd_reopen(s, O_RDWR));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
}

TEST_F(snapshot, snapshot_outlives_the_process_that_took_it)
{
	int pair[2], s;
	char *map;

	ASSERT_EQ(0, pipe(pair));
	close(pair[0]);
	close(pair[1]);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	if (!child_start()) {
		s = snapshot_take(self->fd);
		_exit(s < 0 || fd_send(pair[1], s));
	}
	s = fd_receive(pair[0]);
	ASSERT_LE(0, s);
	stamp(self->map, LENGTH, 9);
	map = region_map(s, LENGTH, 0);
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
}

TEST_F(snapshot, a_deep_chain_costs_no_memory_and_can_be_written_to_at_its_end)
{
	int fd = self->fd;
	struct counts counts;

	for (int i = 0; i < 1000; i++) {
		int s = snapshot_take_range(fd, 0, CHUNK, 0);

		ASSERT_LE(0, s) TH_LOG("snapshot %d", i);
		if (fd != self->fd && i % 10)
			close(fd);
		fd = s;
	}
	{
		char *map = region_map(fd, LENGTH, 0);

		EXPECT_EQ(0, memcmp(map, self->map, CHUNK));
		map[5] = 'x';
		EXPECT_NE('x', self->map[5]);
	}
	ASSERT_EQ(0, counts_read(&counts));
	EXPECT_EQ((LENGTH + CHUNK) / PAGE, counts.pages);
}

/* Processor time would stand still in a VM whenever a tick is late. */
static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static uint64_t median(uint64_t *values, size_t nr)
{
	qsort(values, nr, sizeof(*values), compare_u64);
	return values[nr / 2];
}

/* Each is written to, so that each has contents of its own over those before; all stay open. */
TEST_F(snapshot, a_thousand_generations_that_wrote_keep_each_its_contents)
{
	enum { NR = 1000, LAST = 100 };
	struct rlimit files = { .rlim_cur = NR + 100, .rlim_max = NR + 100 };
	uint64_t begin, took[NR + 1], first, last;
	int fds[NR + 1] = { self->fd };
	uint32_t word;
	int i, at;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	for (i = 1; i <= NR; i++) {
		begin = clock_ns();
		fds[i] = snapshot_take_in_parts(fds[i - 1], PAGE, 0);
		ASSERT_LE(0, fds[i]) TH_LOG("snapshot %d", i);
		ASSERT_EQ((ssize_t)sizeof(i), pwrite(fds[i], &i, sizeof(i), i % 512 * PAGE + 8));
		took[i] = clock_ns() - begin;
	}
	for (i = 1; i <= NR; i++) {
		for (at = i; at > 0 && at > i - 512; at -= 101) {
			ASSERT_EQ((ssize_t)sizeof(word),
				  pread(fds[i], &word, sizeof(word), at % 512 * PAGE + 8));
			ASSERT_EQ(at, word) TH_LOG("generation %d, written by %d", i, at);
		}
		ASSERT_EQ((ssize_t)sizeof(word), pread(fds[i - 1], &word, sizeof(word), i % 512 * PAGE + 8));
		ASSERT_NE(i, word);
	}
	/* Medians: what else the machine does counts as ours. */
	first = median(took + 1, LAST);
	last = median(took + 1 + NR - LAST, LAST);
	TH_LOG("of the first hundred one took %lu us, of the last %lu us", first / 1000, last / 1000);
	EXPECT_GT(5 * first, last);
}

TEST_F(snapshot, private_and_forked_mappings_see_the_snapshot)
{
	int s = snapshot_take(self->fd);
	char *map = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, s, 0);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	map[0] = 'p';
	stamp(self->map, LENGTH, 2);
	map[0] = 0;
	pid = child_start();
	if (!pid)
		_exit(!IS_OLD(map, PAGE, LENGTH - PAGE));
	EXPECT_EQ(0, child_wait(pid));
}

/* Readers past the page tables: what they got must not change under them. */
TEST_F(snapshot, vmsplice_out_of_a_snapshot_is_not_changed_by_the_live_side)
{
	int s = snapshot_take(self->fd), pipes[2];
	char *map = region_map(s, LENGTH, 0);
	struct iovec iov = { .iov_base = map, .iov_len = PAGE };
	char expected[PAGE], seen[PAGE];

	ASSERT_EQ(0, pipe(pipes));
	memcpy(expected, map, PAGE);
	ASSERT_EQ((ssize_t)PAGE, vmsplice(pipes[1], &iov, 1, 0));
	stamp(self->map, LENGTH, 2);
	ASSERT_EQ((ssize_t)PAGE, read(pipes[0], seen, PAGE));
	EXPECT_EQ(0, memcmp(expected, seen, PAGE));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 2));
}

/* What dma.rst says of pins for reading: a page in a pipe is one. */
TEST_F(snapshot, reader_of_the_live_side_keeps_what_was_shared_when_he_came)
{
	char seen[3][PAGE];
	int pipes[3][2], s = -1;

	for (int i = 0; i < 3; i++) {
		struct iovec page = { .iov_base = self->map + i * CHUNK, .iov_len = PAGE };

		ASSERT_EQ(0, pipe(pipes[i]));
		/* The first comes before the snapshot. */
		if (i == 1) {
			s = snapshot_take(self->fd);
			ASSERT_LE(0, s);
		}
		ASSERT_EQ((ssize_t)PAGE, vmsplice(pipes[i][1], &page, 1, 0));
	}
	self->map[32] = self->map[CHUNK + 32] = 'n';
	close(s);
	self->map[2 * CHUNK + 32] = 'n';
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ((ssize_t)PAGE, read(pipes[i][0], seen[i], PAGE));
		EXPECT_EQ('n', self->map[i * CHUNK + 32]);
	}
	EXPECT_EQ('n', seen[0][32]);
	EXPECT_EQ(0, seen[1][32]);
	EXPECT_EQ(0, seen[2][32]);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
}

TEST_F(snapshot, splice_out_of_a_snapshot_is_not_changed_by_the_live_side)
{
	int s = snapshot_take(self->fd), pipes[2];
	char expected[PAGE], seen[PAGE];
	loff_t at = 0;

	ASSERT_EQ(0, pipe(pipes));
	memcpy(expected, self->map, PAGE);
	ASSERT_EQ((ssize_t)PAGE, splice(s, &at, pipes[1], NULL, PAGE, 0));
	stamp(self->map, LENGTH, 2);
	ASSERT_EQ((ssize_t)PAGE, read(pipes[0], seen, PAGE));
	EXPECT_EQ(0, memcmp(expected, seen, PAGE));
}

TEST_F(snapshot, chunk_that_somebody_holds_is_copied_when_the_snapshot_is_taken)
{
	struct iovec iov = { .iov_base = self->map + CHUNK, .iov_len = PAGE };
	int pipes[2], s;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ((ssize_t)PAGE, vmsplice(pipes[1], &iov, 1, 0));
	s = snapshot_take(self->fd);
	ASSERT_LE(0, s);
	EXPECT_EQ(CHUNK, copied(s));
}

static int take_of(int dev, uint32_t flags, uint64_t *bytes)
{
	int fd = region_create(dev, LENGTH, flags);
	char *map = region_map(fd, LENGTH, 0);
	int s;

	stamp(map, LENGTH, 4);
	s = snapshot_take(fd);
	*bytes = copied(s);
	stamp(map, LENGTH, 5);
	return s;
}

TEST_F(snapshot, registrable_and_pinned_regions_are_copied_at_once)
{
	static const uint32_t flags[] = { DVSM_REGION_F_REGISTRABLE, DVSM_REGION_F_PINNED };

	for (int i = 0; i < 2; i++) {
		uint64_t bytes;
		int s = take_of(self->dev, flags[i], &bytes);
		char *map = region_map(s, LENGTH, 0);

		ASSERT_NE(MAP_FAILED, map);
		EXPECT_EQ(LENGTH, bytes);
		EXPECT_EQ(0, stamps_wrong(map, LENGTH, 4));
	}
}

TEST_F(snapshot, of_an_implicit_region_is_copied_at_once)
{
	char *map = region_map(self->dev, CHUNK, 0);
	int s;

	stamp(map, CHUNK, 6);
	s = snapshot_take(self->dev);
	ASSERT_LE(0, s);
	EXPECT_EQ(CHUNK, copied(s));
	stamp(map, CHUNK, 7);
	map = region_map(s, CHUNK, 0);
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 6));
}

/* Devices write to the parent without a fault: its snapshots are copies, and nothing tells what was written. */
TEST_F(snapshot, copy_of_what_devices_write_to_is_compared_chunk_by_chunk_and_never_merged)
{
	char *map = region_map(self->dev, PAGE, 0);
	int fds[] = {
		region_create(self->dev, LENGTH, DVSM_REGION_F_REGISTRABLE),
		region_create(self->dev, LENGTH, DVSM_REGION_F_PINNED),
		self->dev,	/* implicit */
	};
	size_t i;

	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		struct dvsm_range ranges[4], many[256];
		struct dvsm_snapshot_merge merge;
		int s;

		ASSERT_EQ(0, region_populate(fds[i], 0, LENGTH, NULL));
		s = snapshot_take(fds[i]);
		ASSERT_LE(0, s);
		ASSERT_EQ(1, region_diff(fds[i], s, ranges, 4)) TH_LOG("region %zu", i);
		EXPECT_EQ(0, ranges[0].offset);
		EXPECT_EQ(LENGTH, ranges[0].length);
		EXPECT_EQ(1, pwrite(s, "x", 1, 0));
		EXPECT_EQ(-EOPNOTSUPP, snapshot_merge(fds[i], s, 0, &merge));
		EXPECT_EQ(-EOPNOTSUPP, snapshot_advance(fds[i], s, many, 256));
	}
}

TEST_F(snapshot, discard_of_one_side_leaves_the_other)
{
	int s = snapshot_take(self->fd);
	char *map = region_map(s, LENGTH, 0);

	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	ASSERT_EQ(0, region_discard(self->fd, 0, 2 * CHUNK, NULL));
	EXPECT_TRUE(is_zero(self->map, 2 * CHUNK));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	ASSERT_EQ(0, region_discard(s, 3 * CHUNK + PAGE, PAGE, NULL));
	EXPECT_TRUE(is_zero(map + 3 * CHUNK + PAGE, PAGE));
	EXPECT_TRUE(IS_OLD(self->map, 2 * CHUNK, 2 * CHUNK));
	EXPECT_TRUE(IS_OLD(map, 0, 3 * CHUNK));
	self->map[0] = 'n';
	EXPECT_NE('n', map[0]);
}

TEST_F(snapshot, unshare_gives_the_range_its_own_folios)
{
	int s = snapshot_take(self->fd);
	char *map = region_map(s, LENGTH, 0);
	uint64_t unshared;

	ASSERT_EQ(0, region_unshare(s, 0, 2 * CHUNK, &unshared));
	EXPECT_EQ(2 * CHUNK, unshared);
	EXPECT_NE(pfn_of(self->map), pfn_of(map));
	EXPECT_EQ(pfn_of(self->map + 2 * CHUNK), pfn_of(map + 2 * CHUNK));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	ASSERT_EQ(0, region_unshare(s, 0, 2 * CHUNK, &unshared));
	EXPECT_EQ(0, unshared);
}

TEST_F(snapshot, without_memory_for_the_copy_the_snapshot_is_lost_and_the_live_side_goes_on)
{
	int s = snapshot_take(self->fd);
	char *map = region_map(s, LENGTH, 0);
	struct dvsm_region_info info;
	char byte;

	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	ASSERT_EQ(0, param_set("limit_user_mb", LENGTH / MIB));
	EXPECT_EQ(0, write_at(self->map, 'w'));
	ASSERT_EQ(0, param_set("limit_user_mb", 0));
	EXPECT_EQ(SIGBUS, read_at(map));
	EXPECT_EQ(-1, pread(s, &byte, 1, 0));
	EXPECT_EQ(EIO, errno);
	EXPECT_TRUE(IS_OLD(map, CHUNK, LENGTH - CHUNK));
	EXPECT_TRUE(IS_OLD(self->map, CHUNK, LENGTH - CHUNK));
	ASSERT_EQ(0, region_info(s, &info));
	EXPECT_EQ(1, info.out_nr_lost);
	EXPECT_EQ('w', self->map[0]);
}

TEST_F(snapshot, without_memory_for_the_copy_a_strict_snapshot_stays_and_the_write_fails)
{
	int s = snapshot_take_range(self->fd, 0, 0, DVSM_SNAPSHOT_F_STRICT);
	char *map = region_map(s, LENGTH, 0), byte = 'w';
	struct dvsm_region_info info;

	ASSERT_EQ(0, param_set("limit_user_mb", LENGTH / MIB));
	EXPECT_EQ(SIGBUS, write_at(self->map, 'w'));
	EXPECT_EQ(-1, pwrite(self->fd, &byte, 1, CHUNK));
	EXPECT_TRUE(errno == ENOMEM || errno == ENOSPC);
	ASSERT_EQ(0, param_set("limit_user_mb", 0));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	EXPECT_TRUE(IS_OLD(self->map, 0, LENGTH));
	ASSERT_EQ(0, region_info(s, &info));
	EXPECT_EQ(0, info.out_nr_lost);
	EXPECT_EQ(0, write_at(self->map, 'w'));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
}

TEST_F(snapshot, without_memory_the_writing_snapshot_gets_SIGBUS_and_both_sides_are_intact)
{
	int s = snapshot_take(self->fd);
	char *map = region_map(s, LENGTH, 0);

	ASSERT_EQ(0, param_set("limit_user_mb", LENGTH / MIB));
	EXPECT_EQ(SIGBUS, write_at(map, 'w'));
	ASSERT_EQ(0, param_set("limit_user_mb", 0));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(0, write_at(map, 'w'));
}

/* By a child in a cgroup that has nothing. 0 if it does not pay for as much as a chunk. */
static int stamp_for_nothing(struct cgroup *writer, char *map)
{
	unsigned long before = cgroup_get(writer, "memory.current");
	pid_t pid = child_start();

	if (!pid) {
		if (cgroup_enter(writer))
			_exit(1);
		stamp(map, LENGTH, 2);
		_exit(cgroup_get(writer, "memory.current") - before >= CHUNK ? 2 : 0);
	}
	return child_wait(pid);
}

TEST_F(snapshot, the_writers_cgroup_does_not_pay_for_somebody_elses_snapshot)
{
	struct cgroup writer;
	int s = snapshot_take(self->fd);

	ASSERT_LE(0, s);
	NEED_CGROUP(&writer, "writer");
	EXPECT_EQ(0, stamp_for_nothing(&writer, self->map));
	EXPECT_EQ(LENGTH, copied(s));
	cgroup_remove(&writer);
}

/* In parts, where the snapshot has written before: then it reads a share over the region's. */
TEST_F(snapshot, the_writers_cgroup_does_not_pay_for_parts_either)
{
	static const uint64_t granularities[] = { PAGE, 65536 };

	for (int i = 0; i < 2; i++) {
		struct cgroup writer;
		int s = snapshot_take_in_parts(self->fd, granularities[i], 0);
		char *map = region_map(s, LENGTH, 0);

		ASSERT_LE(0, s);
		ASSERT_NE(MAP_FAILED, map);
		for (size_t chunk = 0; chunk < LENGTH; chunk += 2 * CHUNK)
			map[chunk] = 'x';
		NEED_CGROUP(&writer, "writer");
		EXPECT_EQ(0, stamp_for_nothing(&writer, self->map))
			TH_LOG("parts of %lu", granularities[i]);
		EXPECT_EQ(LENGTH, copied(self->fd));
		cgroup_remove(&writer);
		munmap(map, LENGTH);
		close(s);
		/* What was copied for it goes back, and the count with the next region. */
		munmap(self->map, LENGTH);
		close(self->fd);
		self->fd = region_create(self->dev, LENGTH, 0);
		self->map = region_map(self->fd, LENGTH, 0);
		ASSERT_NE(MAP_FAILED, self->map);
		stamp(self->map, LENGTH, 1);
	}
}

TEST_F(snapshot, diff_tells_chunks_that_diverged_on_either_side)
{
	int s = snapshot_take(self->fd), t = snapshot_take(self->fd);
	char *map = region_map(s, LENGTH, 0);
	struct dvsm_range ranges[4] = {};

	EXPECT_EQ(0, region_diff(self->fd, s, ranges, 4));
	self->map[CHUNK] = 'x';
	map[3 * CHUNK] = 'y';
	ASSERT_EQ(2, region_diff(self->fd, s, ranges, 4));
	EXPECT_EQ(CHUNK, ranges[0].offset);
	EXPECT_EQ(CHUNK, ranges[0].length);
	EXPECT_EQ(3 * CHUNK, ranges[1].offset);
	ASSERT_EQ(1, region_diff(s, t, ranges, 4));
	EXPECT_EQ(3 * CHUNK, ranges[0].offset);
	ASSERT_EQ(1, region_diff(t, self->fd, ranges, 4));
	EXPECT_EQ(CHUNK, ranges[0].offset);
}

TEST_F(snapshot, diff_that_advances_tells_what_was_written_since_last_asked)
{
	int s = snapshot_take(self->fd), t = snapshot_take(self->fd);
	char *map = region_map(s, LENGTH, 0);
	struct dvsm_range ranges[256] = {};

	EXPECT_EQ(0, snapshot_advance(self->fd, s, ranges, 256));
	self->map[CHUNK] = 'x';
	map[3 * CHUNK] = 'y';
	ASSERT_EQ(2, snapshot_advance(self->fd, s, ranges, 256));
	EXPECT_EQ(CHUNK, ranges[0].offset);
	EXPECT_EQ(3 * CHUNK, ranges[1].offset);
	EXPECT_EQ('x', map[CHUNK]);
	EXPECT_NE('y', map[3 * CHUNK]);
	EXPECT_EQ(pfn_of(self->map + CHUNK), pfn_of(map + CHUNK));
	EXPECT_EQ(0, snapshot_advance(self->fd, s, ranges, 256));
	self->map[CHUNK] = 'z';
	EXPECT_EQ('x', map[CHUNK]);
	ASSERT_EQ(1, snapshot_advance(self->fd, s, ranges, 256));
	EXPECT_EQ(CHUNK, ranges[0].offset);
	EXPECT_EQ('z', map[CHUNK]);
	/* The other snapshot is where it was. */
	ASSERT_EQ(1, region_diff(self->fd, t, ranges, 4));
	EXPECT_EQ(CHUNK, ranges[0].offset);
	ASSERT_EQ(1, region_diff(s, t, ranges, 4));
	/* A hole that is filled, and one that is made. */
	ASSERT_EQ(0, region_discard(self->fd, 0, CHUNK, NULL));
	ASSERT_EQ(1, snapshot_advance(self->fd, s, ranges, 256));
	EXPECT_EQ(0, ranges[0].offset);
	EXPECT_EQ(0, map[0]);
	self->map[0] = 'h';
	ASSERT_EQ(1, snapshot_advance(self->fd, s, ranges, 256));
	EXPECT_EQ(0, ranges[0].offset);
	EXPECT_EQ('h', map[0]);
	EXPECT_EQ(0, region_diff(self->fd, s, ranges, 4));
}

/* A device may be writing: what it writes after the call would not be told. */
TEST_F(snapshot, diff_that_advances_ends_before_a_chunk_that_somebody_uses)
{
	int s = snapshot_take(self->fd), ends[2];
	struct iovec page = { .iov_base = self->map + CHUNK, .iov_len = PAGE };
	struct dvsm_range ranges[256] = {};

	ASSERT_EQ(0, pipe(ends));
	self->map[0] = 'x';
	self->map[CHUNK] = 'x';
	ASSERT_EQ(PAGE, vmsplice(ends[1], &page, 1, 0));
	ASSERT_EQ(1, snapshot_advance(self->fd, s, ranges, 256));
	EXPECT_EQ(0, ranges[0].offset);
	EXPECT_EQ(CHUNK, ranges[0].length);
	EXPECT_EQ(-EBUSY, snapshot_advance(self->fd, s, ranges, 256));
	close(ends[0]);
	close(ends[1]);
	ASSERT_EQ(1, snapshot_advance(self->fd, s, ranges, 256));
	EXPECT_EQ(CHUNK, ranges[0].offset);
}

/* Whoever holds a page of the region: a device that writes to it, for all that one can see. */
static void hold_page(int *ends, char *page)
{
	struct iovec iov = { .iov_base = page, .iov_len = PAGE };

	if (pipe(ends) || vmsplice(ends[1], &iov, 1, 0) != PAGE)
		abort();
}

static void release_page(int *ends)
{
	close(ends[0]);
	close(ends[1]);
}

TEST_F(snapshot, nothing_takes_the_place_of_a_folio_that_somebody_holds)
{
	int s = snapshot_take(self->fd), ends[2], chunk;
	char *copy = region_map(s, LENGTH, 0), *held = self->map + CHUNK;
	struct dvsm_snapshot_merge merge;
	struct dvsm_range ranges[256];
	uint64_t pfn;

	for (chunk = 0; chunk < 3; chunk++)
		self->map[chunk * CHUNK] = 'x';
	hold_page(ends, held);
	pfn = PAGEMAP_PFN(pagemap_entry(held));
	EXPECT_EQ(0, snapshot_restore(self->fd, s));
	EXPECT_TRUE(IS_OLD(self->map, 0, LENGTH));
	EXPECT_TRUE(IS_OLD(copy, 0, LENGTH));
	EXPECT_EQ(pfn, PAGEMAP_PFN(pagemap_entry(held)));
	/* The others have changed hands. */
	EXPECT_EQ(PAGEMAP_PFN(pagemap_entry(copy)), PAGEMAP_PFN(pagemap_entry(self->map)));
	copy[0] = 's';
	copy[CHUNK] = 's';
	EXPECT_EQ(0, snapshot_merge(self->fd, s, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ('s', self->map[0]);
	EXPECT_EQ('s', *held);
	EXPECT_TRUE(IS_OLD(self->map, 1, CHUNK - 1));
	EXPECT_TRUE(IS_OLD(self->map, CHUNK + 1, LENGTH - CHUNK - 1));
	EXPECT_EQ(pfn, PAGEMAP_PFN(pagemap_entry(held)));
	release_page(ends);

	/* A hole is no exception. */
	ASSERT_EQ(0, region_discard(s, CHUNK, CHUNK, NULL));
	*held = 'y';
	hold_page(ends, held);
	EXPECT_EQ(0, snapshot_restore(self->fd, s));
	EXPECT_TRUE(is_zero(held, CHUNK));
	EXPECT_EQ(pfn, PAGEMAP_PFN(pagemap_entry(held)));
	release_page(ends);

	/* A snapshot that is to read what its parent does waits. */
	*held = 'z';
	copy[CHUNK] = 's';
	hold_page(ends, copy + CHUNK);
	EXPECT_EQ(-EBUSY, snapshot_advance(self->fd, s, ranges, 256));
	EXPECT_EQ('s', copy[CHUNK]);
	release_page(ends);
	EXPECT_EQ(1, snapshot_advance(self->fd, s, ranges, 256));
	EXPECT_EQ('z', copy[CHUNK]);
}

/* What is copied to where it was zeroes when the snapshot was taken is a difference from then on. */
TEST_F(snapshot, what_was_copied_for_somebody_who_holds_it_is_known_to_the_snapshot)
{
	int fd = region_create(self->dev, LENGTH, 0), s = snapshot_take(fd), ends[2], turn;
	char *map = region_map(fd, LENGTH, 0), *copy = region_map(s, LENGTH, 0);
	struct dvsm_snapshot_merge merge;
	struct dvsm_range ranges[256];

	for (turn = 0; turn < 2; turn++) {
		size_t at = 2 * turn * CHUNK;

		map[at] = 'x';
		if (turn)
			copy[at] = 's';
		hold_page(ends, map + at);
		ASSERT_EQ(0, snapshot_restore(fd, s));
		EXPECT_EQ(turn ? 's' : 0, map[at]);
		ASSERT_EQ(1, region_diff(fd, s, ranges, 256));
		EXPECT_EQ(at, ranges[0].offset);
		release_page(ends);
	}
	/* Writes that come later, of either side. */
	map[0] = 'y';
	copy[2 * CHUNK + 1] = 'q';
	ASSERT_EQ(2, region_diff(fd, s, ranges, 256));
	ASSERT_EQ(-EAGAIN, snapshot_merge(fd, s, 0, &merge));
	EXPECT_EQ(0, snapshot_merge(fd, s, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ('s', map[2 * CHUNK]);
	EXPECT_EQ('q', map[2 * CHUNK + 1]);
	EXPECT_EQ('y', map[0]);
	ASSERT_EQ(0, snapshot_restore(fd, s));
	EXPECT_EQ(0, map[0]);
	EXPECT_EQ('q', map[2 * CHUNK + 1]);
	close(s);
	close(fd);
}

TEST_F(snapshot, diff_goes_on_where_the_last_answer_ended)
{
	int s = snapshot_take(self->fd);
	struct dvsm_range range;
	struct dvsm_region_diff arg = {
		.size = sizeof(arg),
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
		.other = s,
	};

	self->map[0] = 'x';
	self->map[2 * CHUNK] = 'x';
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_DIFF, &arg));
	EXPECT_EQ(1, arg.out_nr_ranges);
	EXPECT_EQ(0, range.offset);
	EXPECT_EQ(2 * CHUNK, arg.out_next);
	arg.offset = arg.out_next;
	arg.length = 0;
	ASSERT_EQ(0, ioctl(self->fd, DVSM_IOC_REGION_DIFF, &arg));
	EXPECT_EQ(2 * CHUNK, range.offset);
	EXPECT_EQ(LENGTH, arg.out_next);
}

TEST_F(snapshot, reading_holes_is_no_divergence)
{
	int fd = region_create(self->dev, LENGTH, 0), s = snapshot_take(fd);
	char *map = region_map(fd, LENGTH, 0);
	struct dvsm_range ranges[4];

	EXPECT_TRUE(is_zero(map, LENGTH));
	ASSERT_EQ(0, region_populate(s, 0, LENGTH, NULL));
	EXPECT_EQ(0, region_diff(fd, s, ranges, 4));
	map[0] = 1;
	EXPECT_EQ(1, region_diff(fd, s, ranges, 4));
}

TEST_F(snapshot, restore_is_seen_by_all_who_map_the_region)
{
	int s = snapshot_take(self->fd);
	char *other = region_map(self->fd, LENGTH, 0);
	pid_t pid;

	stamp(self->map, LENGTH, 2);
	EXPECT_EQ(0, stamps_wrong(other, LENGTH, 2));
	pid = child_start();
	if (!pid) {
		if (stamps_wrong(self->map, LENGTH, 2))
			_exit(1);
		_exit(snapshot_restore(self->fd, s) ? 2 : stamps_wrong(self->map, LENGTH, 1) != 0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, stamps_wrong(other, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	stamp(self->map, LENGTH, 3);
	EXPECT_EQ(0, snapshot_restore(self->fd, s));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_TRUE(is_huge_mapped(self->map, LENGTH));
}

TEST_F(snapshot, merge_brings_what_the_snapshot_wrote_and_leaves_the_rest)
{
	int s = snapshot_take(self->fd);
	char *map = region_map(s, LENGTH, 0);
	struct dvsm_snapshot_merge arg;

	self->map[0] = 'p';
	map[CHUNK] = 's';
	ASSERT_EQ(0, snapshot_merge(self->fd, s, 0, &arg));
	EXPECT_EQ(0, arg.out_nr_conflicts);
	EXPECT_EQ(CHUNK, arg.out_merged);
	EXPECT_EQ('p', self->map[0]);
	EXPECT_EQ('s', self->map[CHUNK]);
	EXPECT_EQ(0, copied(self->fd));
	ASSERT_EQ(0, snapshot_merge(self->fd, s, 0, &arg));
	EXPECT_EQ(0, arg.out_merged);
}

TEST_F(snapshot, merge_with_conflicts_changes_nothing_unless_told_who_wins)
{
	int s = snapshot_take(self->fd);
	char *map = region_map(s, LENGTH, 0);
	struct dvsm_snapshot_merge arg;

	self->map[0] = 'p';
	map[0] = 's';
	map[CHUNK] = 's';
	EXPECT_EQ(-EAGAIN, snapshot_merge(self->fd, s, 0, &arg));
	EXPECT_EQ(1, arg.out_nr_conflicts);
	EXPECT_EQ('p', self->map[0]);
	EXPECT_NE('s', self->map[CHUNK]);
	EXPECT_EQ(0, snapshot_merge(self->fd, s, DVSM_MERGE_F_PARENT_WINS, &arg));
	EXPECT_EQ('p', self->map[0]);
	EXPECT_EQ('s', self->map[CHUNK]);
	EXPECT_EQ(0, snapshot_merge(self->fd, s, DVSM_MERGE_F_SNAPSHOT_WINS, &arg));
	EXPECT_EQ('s', self->map[0]);
}

TEST_F(snapshot, merges_and_the_conflicts_that_they_found_are_counted_in_the_parent)
{
	int s = snapshot_take(self->fd);
	char *map = region_map(s, LENGTH, 0);
	struct dvsm_snapshot_merge arg;
	struct dvsm_region_info info;

	ASSERT_NE(MAP_FAILED, map);
	self->map[0] = map[0] = 'b';
	self->map[2 * CHUNK] = map[2 * CHUNK] = 'b';
	map[CHUNK] = 's';
	EXPECT_EQ(-EAGAIN, snapshot_merge(self->fd, s, 0, &arg));
	EXPECT_EQ(2, arg.out_nr_conflicts);
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(0, info.out_nr_merges);
	EXPECT_EQ(2, info.out_nr_conflicts);
	EXPECT_EQ(0, snapshot_merge(self->fd, s, DVSM_MERGE_F_SNAPSHOT_WINS, &arg));
	EXPECT_EQ(0, snapshot_merge(self->fd, s, 0, &arg));
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(2, info.out_nr_merges);
	EXPECT_EQ(4, info.out_nr_conflicts);
	ASSERT_EQ(0, region_info(s, &info));
	EXPECT_EQ(0, info.out_nr_merges);
	EXPECT_EQ(0, info.out_nr_conflicts);
}

TEST_F(snapshot, commands_answer_mistakes_with_their_errno)
{
	int s = snapshot_take(self->fd), t = snapshot_take(s);
	int other = region_create(self->dev, LENGTH, 0);
	int registrable = region_create(self->dev, LENGTH, DVSM_REGION_F_REGISTRABLE);
	int eager = snapshot_take(registrable);
	int read_only = snapshot_take_range(self->fd, 0, 0, DVSM_SNAPSHOT_F_READ_ONLY);
	struct dvsm_snapshot_merge merge;
	struct dvsm_range ranges[4], many[256];

	EXPECT_EQ(-EINVAL, snapshot_take_range(self->fd, PAGE, CHUNK, 0));
	EXPECT_EQ(-EINVAL, snapshot_take_range(self->fd, 0, PAGE, 0));
	EXPECT_EQ(-EINVAL, snapshot_take_range(self->fd, LENGTH, CHUNK, 0));
	EXPECT_EQ(-EOPNOTSUPP, snapshot_take_range(self->fd, 0, 0, 8));
	EXPECT_EQ(-EINVAL, snapshot_restore(self->fd, self->fd));
	EXPECT_EQ(-EINVAL, snapshot_restore(self->fd, other));
	EXPECT_EQ(-EINVAL, snapshot_restore(self->fd, t));
	EXPECT_EQ(-EBADF, snapshot_restore(self->fd, -1));
	EXPECT_EQ(-EBADF, snapshot_restore(self->fd, self->dev));
	EXPECT_EQ(-EINVAL, snapshot_restore(registrable, s));
	EXPECT_EQ(0, snapshot_restore(registrable, eager));
	EXPECT_EQ(-EINVAL, snapshot_merge(self->fd, s, DVSM_MERGE_F_PARENT_WINS |
					  DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ(-EINVAL, snapshot_merge(self->fd, t, 0, &merge));
	EXPECT_EQ(0, snapshot_merge(s, t, 0, &merge));
	EXPECT_EQ(-EINVAL, region_diff(self->fd, other, ranges, 4));
	EXPECT_EQ(-EINVAL, region_diff(self->fd, s, ranges, 0));
	EXPECT_EQ(0, region_diff(self->fd, t, ranges, 4));
	EXPECT_EQ(-EINVAL, snapshot_advance(self->fd, s, ranges, 4));
	EXPECT_EQ(-EINVAL, snapshot_advance(self->fd, t, many, 256));
	EXPECT_EQ(-EINVAL, snapshot_advance(s, self->fd, many, 256));
	EXPECT_EQ(-EBADF, snapshot_advance(self->fd, read_only, many, 256));
	EXPECT_EQ(-EOPNOTSUPP, snapshot_advance(registrable, eager, many, 256));
	EXPECT_EQ(-ENOENT, snapshot_take(self->dev));
}

TEST_HARNESS_MAIN
