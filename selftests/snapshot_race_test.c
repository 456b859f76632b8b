// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshots while others write, fault, discard and close.
 *
 * A writer counts in pairs: it adds 1 to the first word of a pair, then to the
 * second, on page after page. So at every moment first - second is 0 or 1, on all
 * pages the first words differ by 1 at most, and both only grow. A snapshot that is
 * one moment shows that, and shows it again when it is looked at later.
 *
 * With "delay_us" the module sleeps between a fault's last look at who shares the
 * folio and its mapping: the gap through which a write could slip.
 */
#include <pthread.h>
#include <sys/uio.h>

#include "snapshot.h"

#define NR_CHUNKS	3
#define LENGTH		(NR_CHUNKS * CHUNK)
#define STRIDE		(64 * PAGE)
#define NR_PAIRS	(LENGTH / STRIDE)
#define NR_WRITERS	3

struct pair {
	volatile uint64_t first;
	volatile uint64_t second;
};

FIXTURE(snapshot_race)
{
	int dev;
	int fd;
	char *map;
	volatile int *stop;
};

FIXTURE_VARIANT(snapshot_race)
{
	unsigned int delay_us;
	uint64_t granularity;
};

FIXTURE_VARIANT_ADD(snapshot_race, plain)
{
	.delay_us = 0,
};

FIXTURE_VARIANT_ADD(snapshot_race, with_delayed_faults)
{
	.delay_us = 500,
};

FIXTURE_VARIANT_ADD(snapshot_race, in_parts)
{
	.granularity = 4096,
};

FIXTURE_VARIANT_ADD(snapshot_race, in_parts_with_delayed_faults)
{
	.delay_us = 500,
	.granularity = 4096,
};

/* How long one test goes on. */
static unsigned long test_ms(void)
{
	const char *seconds = getenv("DVSM_TEST_SECONDS");

	return 1000 * (seconds ? strtoul(seconds, NULL, 0) : 5);
}

static int set_delay(unsigned int us)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", us);
	return write_text("/sys/kernel/debug/dvsm/delay_us", text);
}

FIXTURE_SETUP(snapshot_race)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	self->stop = share_anonymous(PAGE);
	ASSERT_EQ(0, set_delay(variant->delay_us));
}

FIXTURE_TEARDOWN_PARENT(snapshot_race)
{
	EXPECT_EQ(0, set_delay(0));
	EXPECT_NO_LEAK();
}

static struct pair *pair_at(char *map, unsigned int writer, size_t i)
{
	return (struct pair *)(map + i * STRIDE + writer * PAGE);
}

static void count_in_pairs(char *map, unsigned int writer, volatile int *stop)
{
	while (!*stop)
		for (size_t i = 0; i < NR_PAIRS; i++) {
			struct pair *pair = pair_at(map, writer, i);

			pair->first++;
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
			pair->second++;
		}
}

/* What is wrong with one writer's pairs, or NULL. @sum gets the total of all. */
static const char *look(char *map, unsigned int writer, uint64_t *sum)
{
	uint64_t most = 0, least = UINT64_MAX;

	for (size_t i = 0; i < NR_PAIRS; i++) {
		struct pair *pair = pair_at(map, writer, i);
		uint64_t second = pair->second, first = pair->first;

		if (first - second > 1)
			return "a pair was torn";
		most = first > most ? first : most;
		least = first < least ? first : least;
		*sum += first + second;
	}
	return most - least > 1 ? "pages are of different moments" : NULL;
}

static const char *look_at_all(char *map, uint64_t *sum)
{
	const char *wrong = NULL;

	*sum = 0;
	for (unsigned int writer = 0; writer < NR_WRITERS && !wrong; writer++)
		wrong = look(map, writer, sum);
	return wrong;
}

TEST_F(snapshot_race, every_snapshot_is_one_moment_and_never_changes)
{
	unsigned long end = clock_ms() + test_ms(), nr = 0;
	pid_t writers[NR_WRITERS];
	uint64_t last = 0, sum, again;
	const char *wrong;

	for (unsigned int i = 0; i < NR_WRITERS; i++) {
		writers[i] = child_start();
		if (!writers[i]) {
			count_in_pairs(self->map, i, self->stop);
			_exit(0);
		}
	}
	/* A slow machine takes few in that time, and may run no writer yet. */
	while (clock_ms() < end || nr <= 3 || !last) {
		int s = snapshot_take_in_parts(self->fd, variant->granularity, 0);
		char *map;

		ASSERT_LE(0, s) TH_LOG("%s", strerror(-s));
		map = region_map(s, LENGTH, 0);
		ASSERT_NE(MAP_FAILED, map);
		wrong = look_at_all(map, &sum);
		ASSERT_EQ(NULL, wrong) TH_LOG("snapshot %lu: %s", nr, wrong);
		ASSERT_LE(last, sum);
		wrong = look_at_all(map, &again);
		ASSERT_EQ(NULL, wrong) TH_LOG("snapshot %lu: %s", nr, wrong);
		ASSERT_EQ(sum, again) TH_LOG("snapshot %lu has changed", nr);
		last = sum;
		munmap(map, LENGTH);
		close(s);
		nr++;
	}
	*self->stop = 1;
	for (unsigned int i = 0; i < NR_WRITERS; i++)
		EXPECT_EQ(0, child_wait(writers[i]));
	EXPECT_EQ(NULL, look_at_all(self->map, &sum));
	EXPECT_LT(3, nr);
	EXPECT_LT(0, last);
}

struct write {
	volatile uint64_t *word;
	uint64_t value;
};

static void *write_once(void *arg)
{
	struct write *write = arg;

	*write->word = write->value;
	return NULL;
}

/*
 * A first touch that writes takes two delays: the folio is looked up, and asked once
 * more whether it may be written to. A snapshot of any moment of that either has the
 * write or never gets it, be it the first one to share the page or the second.
 */
TEST_F(snapshot_race, a_write_is_before_or_after_a_snapshot)
{
	enum { NR_MOMENTS = 8 };
	unsigned int delay_us = 80 * variant->delay_us, i;

	memset(self->map, 0, LENGTH);
	ASSERT_EQ(0, set_delay(delay_us));
	for (i = 0; i < 2 * NR_MOMENTS; i++) {
		size_t at = i % NR_CHUNKS * CHUNK + i * PAGE;
		struct write write = { (uint64_t *)(self->map + at), i + 1 };
		int s, first = -1;
		uint64_t seen, later;
		pthread_t thread;

		if (i >= NR_MOMENTS)
			first = snapshot_take_in_parts(self->fd, variant->granularity, 0);
		/* The memory stays, its mapping goes. */
		ASSERT_EQ(0, madvise(self->map, LENGTH, MADV_DONTNEED));
		ASSERT_EQ(0, pthread_create(&thread, NULL, write_once, &write));
		usleep((2 * i + 1) % (2 * NR_MOMENTS) * delay_us / NR_MOMENTS);
		s = snapshot_take_in_parts(self->fd, variant->granularity, 0);
		ASSERT_LE(0, s);
		ASSERT_EQ(sizeof(seen), pread(s, &seen, sizeof(seen), at));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_EQ(sizeof(later), pread(s, &later, sizeof(later), at));
		EXPECT_EQ(seen, later) TH_LOG("moment %u: the snapshot has changed", i);
		EXPECT_EQ(i + 1, *write.word);
		close(s);
		if (first >= 0)
			close(first);
	}
}

/* No write of the live side is lost, whoever breaks away from whom. */
TEST_F(snapshot_race, no_write_is_lost)
{
	unsigned long end = clock_ms() + test_ms();
	uint64_t *done = share_anonymous(PAGE);
	pid_t writers[NR_WRITERS];
	int s[2] = { -1, -1 };
	char *maps[2] = {};

	for (unsigned int i = 0; i < NR_WRITERS; i++) {
		writers[i] = child_start();
		if (!writers[i]) {
			uint64_t *word = (uint64_t *)(self->map + CHUNK * i % LENGTH + 64);

			while (!*self->stop) {
				__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
				done[i]++;
			}
			_exit(0);
		}
	}
	for (unsigned int nr = 0; clock_ms() < end; nr++) {
		unsigned int at = nr % 2;

		if (s[at] >= 0) {
			munmap(maps[at], LENGTH);
			close(s[at]);
		}
		s[at] = snapshot_take_in_parts(nr % 3 && s[!at] >= 0 ? s[!at] : self->fd, variant->granularity, 0);
		ASSERT_LE(0, s[at]);
		maps[at] = region_map(s[at], LENGTH, 0);
		maps[at][nr * 4096 % LENGTH] = nr;
	}
	*self->stop = 1;
	for (unsigned int i = 0; i < NR_WRITERS; i++) {
		EXPECT_EQ(0, child_wait(writers[i]));
		EXPECT_EQ(done[i], *(uint64_t *)(self->map + CHUNK * i % LENGTH + 64));
	}
}

/* Everything that changes who shares what, against faults on all sides. */
TEST_F(snapshot_race, storm_of_commands_and_faults_ends_well)
{
	unsigned long end = clock_ms() + test_ms();
	int s = snapshot_take_in_parts(self->fd, variant->granularity, 0);
	char *map = region_map(s, LENGTH, 0);
	pid_t pids[4];

	ASSERT_NE(MAP_FAILED, map);
	for (unsigned int i = 0; i < 4; i++) {
		pids[i] = child_start();
		if (pids[i])
			continue;
		for (unsigned int nr = i; clock_ms() < end; nr += 7) {
			size_t at = nr * 4096UL * 37 % LENGTH;
			struct dvsm_snapshot_merge merge;
			uint64_t unshared;
			int t;

			switch (i) {
			case 0:
				(nr & 1 ? map : self->map)[at] = nr;
				break;
			case 1:
				(void)*(volatile char *)((nr & 1 ? map : self->map) + at);
				break;
			case 2:
				if (nr % 3 == 0)
					region_discard(nr & 1 ? s : self->fd,
						       at & ~(CHUNK - 1), CHUNK, NULL);
				else if (nr % 3 == 1)
					snapshot_restore(self->fd, s);
				else
					snapshot_merge(self->fd, s, DVSM_MERGE_F_SNAPSHOT_WINS,
						       &merge);
				break;
			default:
				t = snapshot_take_in_parts(nr & 1 ? s : self->fd, variant->granularity, 0);
				if (t < 0)
					_exit(1);
				if (nr % 3)
					region_unshare(t, 0, CHUNK, &unshared);
				close(t);
			}
		}
		_exit(0);
	}
	for (unsigned int i = 0; i < 4; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
}

/* The parent goes while others read and write what they share with it. */
TEST_F(snapshot_race, parent_may_be_closed_while_its_snapshots_are_used)
{
	unsigned long end = clock_ms() + test_ms() / 2;

	while (clock_ms() < end) {
		int fd = region_create(self->dev, LENGTH, 0), s;
		char *map = region_map(fd, LENGTH, 0), *copy;
		pid_t pid;

		stamp(map, LENGTH, 5);
		s = snapshot_take_in_parts(fd, variant->granularity, 0);
		ASSERT_LE(0, s);
		copy = region_map(s, LENGTH, 0);
		pid = child_start();
		if (!pid) {
			munmap(map, LENGTH);
			close(fd);
			copy[PAGE / 2] = 'c';
			_exit(stamps_wrong(copy, LENGTH, 5) != 0);
		}
		munmap(map, LENGTH);
		close(fd);
		EXPECT_EQ(0, stamps_wrong(copy, LENGTH, 5));
		EXPECT_EQ(0, child_wait(pid));
		munmap(copy, LENGTH);
		close(s);
	}
}

#define DISK	"/dev/ram0"

/* The disk, opened past the page cache; SKIP where there is none. */
#define OPEN_DISK_OR_SKIP(fd)								\
do {											\
	fd = open(DISK, O_RDWR | O_DIRECT);						\
	if (fd < 0)									\
		SKIP(return, "no " DISK " (load brd)");					\
} while (0)

/* What leaves a snapshot past the page tables is what the snapshot holds, whatever its parent writes meanwhile. */
TEST_F(snapshot_race, direct_io_out_of_a_snapshot_has_what_the_snapshot_has)
{
	char *back = aligned_alloc(CHUNK, CHUNK), *copy = aligned_alloc(CHUNK, CHUNK);
	unsigned long end = clock_ms() + test_ms();
	pid_t pids[NR_WRITERS];
	unsigned int i, rounds;
	int disk;

	OPEN_DISK_OR_SKIP(disk);
	for (i = 0; i < NR_WRITERS; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			count_in_pairs(self->map, i, self->stop);
			_exit(0);
		}
	}
	for (rounds = 0; !rounds || clock_ms() < end; rounds++) {
		int snapshot;
		char *map = snapshot_take_mapped(self->fd, LENGTH, variant->granularity, 0, &snapshot);
		char *chunk = map + rounds % NR_CHUNKS * CHUNK;
		struct iovec local = { copy, CHUNK }, remote = { chunk, CHUNK };

		ASSERT_NE(MAP_FAILED, map);
		/* A read-only pin each, of memory that this process has mapped and of what it has not. */
		ASSERT_EQ(CHUNK, (size_t)pwrite(disk, chunk, CHUNK, 0));
		ASSERT_EQ(CHUNK, (size_t)process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
		ASSERT_EQ(CHUNK, (size_t)pread(disk, back, CHUNK, 0));
		EXPECT_EQ(0, memcmp(back, chunk, CHUNK));
		EXPECT_EQ(0, memcmp(copy, chunk, CHUNK));
		munmap(map, LENGTH);
		close(snapshot);
	}
	*self->stop = 1;
	for (i = 0; i < NR_WRITERS; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	TH_LOG("%u rounds", rounds);
	EXPECT_LT(0, rounds);
}

/* Reads a disk of two halves into the same chunk, one after the other, and once at least. */
static int read_disk_for_ever(int disk, char *chunk, char *expected, volatile int *stop)
{
	size_t nr;

	for (nr = 0; !nr || !*stop; nr++) {
		memset(expected, 'a' + nr % 2, CHUNK);
		if (pread(disk, chunk, CHUNK, nr % 2 * CHUNK) != CHUNK)
			return 1;
		/* Nothing of it went to a folio that the region reads no more. */
		if (memcmp(chunk, expected, CHUNK))
			return 2;
	}
	return 0;
}

TEST_F(snapshot_race, direct_io_into_the_live_side_is_in_no_snapshot_taken_before)
{
	char *expected = aligned_alloc(CHUNK, CHUNK), *seen = malloc(CHUNK);
	unsigned long end = clock_ms() + test_ms();
	unsigned int rounds, halves[2] = { 0 };
	pid_t pid;
	int disk;

	OPEN_DISK_OR_SKIP(disk);
	for (rounds = 0; rounds < 2; rounds++) {
		memset(expected, 'a' + rounds, CHUNK);
		ASSERT_EQ(CHUNK, (size_t)pwrite(disk, expected, CHUNK, rounds * CHUNK));
	}
	memset(self->map, 'a', CHUNK);
	pid = child_start();
	if (!pid)
		_exit(read_disk_for_ever(disk, self->map, expected, self->stop));
	for (rounds = 0; !rounds || clock_ms() < end; rounds++) {
		int snapshot;
		char *map = snapshot_take_mapped(self->fd, LENGTH, variant->granularity, 0, &snapshot);

		ASSERT_NE(MAP_FAILED, map);
		memcpy(seen, map, CHUNK);
		halves[seen[CHUNK - 1] - 'a']++;
		sleep_ms(1 + rounds % 5);
		EXPECT_EQ(0, memcmp(map, seen, CHUNK));
		munmap(map, LENGTH);
		close(snapshot);
	}
	*self->stop = 1;
	EXPECT_EQ(0, child_wait(pid));
	TH_LOG("%u rounds, %u and %u of the two", rounds, halves[0], halves[1]);
	EXPECT_LT(0, rounds);
}

TEST_HARNESS_MAIN
