// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many at once: first touches, discards below writers, forks, exits. Data is
 * checked all the time; each storm is bounded in seconds.
 */
#include <pthread.h>
#include <sched.h>

#include "fixture.h"

#define LENGTH		(8 * CHUNK)
#define STORM_MS	3000

DVSM_FIXTURE(race);

TEST_F(race, first_touch_of_a_chunk_by_many_processes_allocates_one_folio)
{
	enum { NR = 6, ROUNDS = 12 };
	int fd = region_create(self->dev, ROUNDS * CHUNK, 0);
	struct barrier *barrier = barrier_make(NR);
	struct dvsm_region_info info;
	struct dvsm_chunk chunks[ROUNDS];
	pid_t pids[NR];
	int i, round;

	ASSERT_LE(0, fd);
	for (i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			char *map = region_map(fd, ROUNDS * CHUNK, 0);

			for (round = 0; round < ROUNDS; round++) {
				uint64_t *word = (uint64_t *)(map + round * CHUNK + i * 8);

				barrier_wait(barrier);
				*word = i + 1;
				barrier_wait(barrier);
				if (*word != i + 1)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(ROUNDS, info.out_nr_faults_alloc);
	EXPECT_EQ(ROUNDS * CHUNK, info.out_resident);
	ASSERT_EQ(ROUNDS, region_residency(fd, 0, 0, chunks, ROUNDS));
	for (round = 0; round < ROUNDS; round++)
		EXPECT_EQ(1, chunks[round].nr_folios);
}

TEST_F(race, first_touch_by_fault_write_and_populate_at_once_allocates_one_folio)
{
	enum { NR = 3, ROUNDS = 16 };
	int fd = region_create(self->dev, ROUNDS * CHUNK, 0);
	struct barrier *barrier = barrier_make(NR);
	struct dvsm_node_stats nodes[64] = {};
	uint64_t allocs = 0;
	pid_t pids[NR];
	int i, round;

	ASSERT_LE(0, fd);
	for (i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			char *map = region_map(fd, ROUNDS * CHUNK, 0);

			for (round = 0; round < ROUNDS; round++) {
				barrier_wait(barrier);
				if (i == 0)
					map[round * CHUNK + 1] = 1;
				if (i == 1 && pwrite(fd, "\2", 1, round * CHUNK + 2) != 1)
					_exit(1);
				if (i == 2 && region_populate(fd, round * CHUNK, CHUNK, NULL))
					_exit(1);
				barrier_wait(barrier);
				if (map[round * CHUNK + 1] != 1 || map[round * CHUNK + 2] != 2)
					_exit(2);
			}
			_exit(0);
		}
	}
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	ASSERT_EQ(0, region_nodes(fd, nodes, 64));
	for (i = 0; i < 64; i++)
		allocs += nodes[i].out_nr_allocs;
	EXPECT_EQ(ROUNDS, allocs);
}

/*
 * Half of the chunks are discarded all the time, half never. A writer's word in
 * the first half is what he wrote last or zero; in the second half it is what he
 * wrote last.
 */
static int writer(char *map, int who, unsigned long end)
{
	uint64_t n = 0;
	int chunk;

	while (clock_ms() < end) {
		n++;
		for (chunk = 0; chunk < 8; chunk++) {
			volatile uint64_t *word = (uint64_t *)(map + chunk * CHUNK +
							       who * 13 * PAGE + who * 8);
			uint64_t was = *word;

			if (was != n - 1 && (chunk >= 4 || was))
				return 10 + chunk;
			*word = n;
			was = *word;
			if (was != n && (chunk >= 4 || was))
				return 20 + chunk;
		}
	}
	return 0;
}

static int discarder(int fd, unsigned long end)
{
	unsigned int n = 0;

	while (clock_ms() < end) {
		size_t at = n++ % 4 * CHUNK;

		if (n % 3 == 0) {
			/* A part, and never a writer's page of a chunk that must stay. */
			if (region_discard(fd, at + 400 * PAGE, 50 * PAGE, NULL))
				return 30;
		} else if (region_discard(fd, at, CHUNK, NULL)) {
			return 31;
		}
	}
	return 0;
}

static int populater(int fd, unsigned long end)
{
	while (clock_ms() < end)
		if (region_populate(fd, 0, 0, NULL))
			return 40;
	return 0;
}

static int remapper(int fd, unsigned long end)
{
	while (clock_ms() < end) {
		char *map = region_map(fd, LENGTH, 0);

		if (map == MAP_FAILED)
			return 50;
		(void)*(volatile char *)(map + 3 * CHUNK);
		munmap(map + CHUNK + PAGE, 2 * CHUNK);
		(void)*(volatile char *)(map + 5 * CHUNK);
		mprotect(map, PAGE, PROT_READ);
		madvise(map, LENGTH, MADV_DONTNEED);
		(void)*(volatile char *)map;
		munmap(map, LENGTH);
	}
	return 0;
}

static int forker(char *map, unsigned long end)
{
	while (clock_ms() < end) {
		pid_t pid = fork();

		if (!pid) {
			(void)*(volatile char *)(map + 2 * CHUNK + 100 * PAGE);
			(void)*(volatile char *)(map + 6 * CHUNK + 100 * PAGE);
			_exit(0);
		}
		if (child_wait(pid))
			return 60;
	}
	return 0;
}

static int looker(int fd, unsigned long end)
{
	struct dvsm_chunk chunks[8];
	struct dvsm_region_info info;
	struct dvsm_node_stats nodes[64];
	char text[4096], *buffer = malloc(2 * CHUNK);

	while (clock_ms() < end) {
		if (region_residency(fd, 0, 0, chunks, 8) < 4 || region_info(fd, &info) ||
		    region_nodes(fd, nodes, 64))
			return 70;
		if (info.out_resident > LENGTH || info.out_resident < LENGTH / 2)
			return 71;
		if (pread(fd, buffer, 2 * CHUNK, 3 * CHUNK) != 2 * CHUNK)
			return 72;
		read_text("/sys/kernel/debug/dvsm/regions", text, sizeof(text));
		lseek(fd, 0, SEEK_HOLE);
	}
	return 0;
}

FIXTURE(storm) {
	int dev;
};

FIXTURE_VARIANT(storm) {
	bool implicit;
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(storm, plain) {
	.flags = 0,
};

FIXTURE_VARIANT_ADD(storm, implicit) {
	.implicit = true,
};

FIXTURE_SETUP(storm)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
}

FIXTURE_TEARDOWN_PARENT(storm)
{
	EXPECT_NO_LEAK();
}

TEST_F(storm, faults_discards_populates_maps_and_forks_at_once_lose_nothing)
{
	enum { WRITERS = 3, OTHERS = 5 };
	int fd = variant->implicit ? self->dev : region_create(self->dev, LENGTH, variant->flags);
	char *map = region_map(fd, LENGTH, 0);
	int file = region_reopen(fd, 0), i;
	unsigned long end = clock_ms() + STORM_MS;
	pid_t pids[WRITERS + OTHERS];

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, region_populate(fd, LENGTH / 2, LENGTH / 2, NULL));
	for (i = 0; i < WRITERS + OTHERS; i++) {
		pids[i] = child_start();
		if (pids[i])
			continue;
		if (i < WRITERS)
			_exit(writer(map, i, end));
		switch (i - WRITERS) {
		case 0:
			_exit(discarder(fd, end));
		case 1:
			_exit(variant->implicit ? 0 : populater(fd, end));
		case 2:
			_exit(remapper(fd, end));
		case 3:
			_exit(forker(map, end));
		default:
			_exit(looker(file, end));
		}
	}
	for (i = 0; i < WRITERS + OTHERS; i++)
		EXPECT_EQ(0, child_wait(pids[i])) TH_LOG("process %d", i);
}

/* Each has a chunk of its own, whose lock keeps nobody else out. */
TEST_F(race, faults_of_many_at_once_are_each_counted)
{
	enum { NR = 4, ROUNDS = 2000 };
	int fd = region_create(self->dev, NR * CHUNK, 0);
	struct barrier *barrier = barrier_make(NR);
	struct dvsm_region_info info;
	pid_t pids[NR];
	int i, round;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	for (i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			volatile char *map = mmap(NULL, CHUNK, PROT_READ, MAP_SHARED, fd, i * CHUNK);

			if (map == MAP_FAILED)
				_exit(1);
			barrier_wait(barrier);
			for (round = 0; round < ROUNDS; round++)
				if (map[round % PAGE] || madvise((void *)map, CHUNK, MADV_DONTNEED))
					_exit(1);
			_exit(0);
		}
	}
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(NR * ROUNDS, info.out_nr_faults);
}

/*
 * Writers spin on a chunk through their own processors' TLBs while it is
 * discarded and its memory is at once part of another region. A write that goes
 * to the old page is seen there.
 */
TEST_F(race, nobody_writes_to_memory_that_was_discarded)
{
	enum { NR = 3 };
	int fd = region_create(self->dev, CHUNK, 0);
	char *map = region_map(fd, CHUNK, 0);
	unsigned int *stop = share_anonymous(PAGE);
	unsigned long end = clock_ms() + STORM_MS;
	int i, dirty = 0, rounds = 0;
	pid_t pids[NR];

	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			while (!__atomic_load_n(stop, __ATOMIC_RELAXED))
				*(volatile uint64_t *)(map + i * 100 * PAGE) = 0xa5a5a5a5a5a5a5a5;
			_exit(0);
		}
	}
	for (; !rounds || clock_ms() < end; rounds++) {
		int other;
		char *canary;

		ASSERT_EQ(0, region_discard(fd, 0, 0, NULL));
		other = region_create(self->dev, 2 * CHUNK, 0);
		canary = region_map(other, 2 * CHUNK, 0);
		ASSERT_NE(MAP_FAILED, canary);
		ASSERT_EQ(0, region_populate(other, 0, 0, NULL));
		for (i = 0; i < 4; i++) {
			size_t offset;

			for (offset = 0; offset < 2 * CHUNK; offset += 100 * PAGE)
				dirty += *(volatile uint64_t *)(canary + offset) != 0;
			for (offset = CHUNK; offset < 2 * CHUNK; offset += 100 * PAGE)
				dirty += *(volatile uint64_t *)(canary + offset) != 0;
			sched_yield();
		}
		munmap(canary, 2 * CHUNK);
		close(other);
	}
	__atomic_store_n(stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	EXPECT_EQ(0, dirty);
	EXPECT_LT(0, rounds);
}

TEST_F(race, processes_killed_amid_everything_leave_nothing)
{
	unsigned long end = clock_ms() + STORM_MS;
	unsigned int seed = 1;

	while (clock_ms() < end) {
		pid_t pids[4];
		int i;

		for (i = 0; i < 4; i++) {
			pids[i] = child_start();
			if (!pids[i]) {
				int fd = region_create(self->dev, LENGTH, 0);
				char *map = region_map(fd, LENGTH, 0);

				for (;;) {
					region_populate(fd, 0, 0, NULL);
					stamp(map, CHUNK, i);
					region_discard(fd, PAGE, LENGTH - PAGE, NULL);
					(void)!pwrite(fd, map, CHUNK, 3 * CHUNK);
					close(region_create(self->dev, CHUNK, DVSM_REGION_F_PINNED));
				}
			}
		}
		sleep_ms(rand_r(&seed) % 60);
		for (i = 0; i < 4; i++)
			kill(pids[i], SIGKILL);
		for (i = 0; i < 4; i++)
			EXPECT_EQ(128 + SIGKILL, child_wait(pids[i]));
	}
}

static void *toucher(void *arg)
{
	char *map = arg;
	size_t offset;

	for (offset = 0; offset < LENGTH; offset += CHUNK)
		(void)*(volatile char *)(map + offset);
	return NULL;
}

TEST_F(race, threads_fault_while_their_mapping_goes_away)
{
	unsigned long end = clock_ms() + STORM_MS / 2;

	while (clock_ms() < end) {
		pid_t pid = child_start();

		if (!pid) {
			int fd = region_create(self->dev, LENGTH, 0);
			char *map = region_map(fd, LENGTH, 0);
			pthread_t threads[3];
			int i;

			for (i = 0; i < 3; i++)
				pthread_create(&threads[i], NULL, toucher, map);
			close(fd);
			munmap(map, LENGTH);	/* they may die of it: that is their right */
			_exit(0);
		}
		child_wait(pid);
	}
}

static void *closer(void *arg)
{
	const unsigned long *end = arg;

	while (clock_ms() < *end) {
		int fd;

		for (fd = 3; fd < 16; fd++) {
			struct dvsm_region_info info;

			region_info(fd, &info);
			if (fd > 8)
				close(fd);
		}
	}
	return NULL;
}

TEST_F(race, descriptors_guessed_and_closed_by_another_thread_do_no_harm)
{
	unsigned long end = clock_ms() + STORM_MS / 2;
	pid_t pid = child_start();

	if (!pid) {
		pthread_t thread;

		while (dup(self->dev) < 8)
			;
		pthread_create(&thread, NULL, closer, &end);
		while (clock_ms() < end) {
			int fd = region_create(self->dev, CHUNK, 0);
			int twin = region_reopen(fd, 0);

			region_populate(twin, 0, 0, NULL);
			close(fd);
			close(twin);
		}
		pthread_join(thread, NULL);
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
}

TEST_HARNESS_MAIN
