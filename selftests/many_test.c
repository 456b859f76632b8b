// SPDX-License-Identifier: GPL-2.0-only
/*
 * Thousands: of regions, of descriptors, of mappings; and hundreds of processes that share.
 */
#include <sys/resource.h>

#include "fixture.h"

FIXTURE(many) {
	int dev;
};

FIXTURE_SETUP(many)
{
	struct rlimit limit = { 8192, 8192 };

	OPEN_DEVICE_OR_SKIP(self->dev);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
}

FIXTURE_TEARDOWN_PARENT(many)
{
	EXPECT_NO_LEAK();
}

TEST_F(many, thousands_of_regions_live_side_by_side)
{
	enum { NR = 3000 };
	int *fds = calloc(NR, sizeof(*fds)), i;
	struct dvsm_info info;
	size_t wrong = 0;

	for (i = 0; i < NR; i++) {
		fds[i] = region_create(self->dev, PAGE, 0);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(4, pwrite(fds[i], &i, 4, 8));
	}
	for (i = 0; i < NR; i++) {
		int value = -1;

		wrong += pread(fds[i], &value, 4, 8) != 4 || value != i;
	}
	EXPECT_EQ(0, wrong);
	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(NR, info.out_nr_regions);
	EXPECT_EQ(NR * PAGE, info.out_charged);
	for (i = 0; i < NR; i += 2)
		close(fds[i]);
	ASSERT_EQ(0, device_info(self->dev, &info));
	EXPECT_EQ(NR / 2, info.out_nr_regions);
}

TEST_F(many, list_of_all_regions_can_be_read_while_they_come_and_go)
{
	char *text = malloc(1 << 20);
	pid_t pid;
	int i;

	pid = child_start();
	if (!pid) {
		for (;;) {
			int fds[50];

			for (i = 0; i < 50; i++)
				fds[i] = region_create(self->dev, PAGE, 0);
			for (i = 0; i < 50; i++)
				close(fds[i]);
		}
	}
	for (i = 0; i < 100; i++)
		EXPECT_EQ(0, read_text("/sys/kernel/debug/dvsm/regions", text, 1 << 20));
	kill(pid, SIGKILL);
	child_wait(pid);
}

TEST_F(many, thousands_of_descriptors_of_one_region_keep_it)
{
	enum { NR = 3000 };
	int fd = region_create(self->dev, CHUNK, 0), last = -1, i;

	ASSERT_LE(0, fd);
	for (i = 0; i < NR; i++) {
		last = i % 3 ? region_reopen(fd, i % 2) : dup(fd);
		ASSERT_LE(0, last);
	}
	ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
	for (i = 3; i < last; i++)
		if (i != self->dev)
			close(i);
	EXPECT_EQ(CHUNK, region_resident(last));
}

TEST_F(many, thousands_of_mappings_of_one_chunk_show_one_page)
{
	enum { NR = 4000 };
	int fd = region_create(self->dev, CHUNK, 0), i;
	char **maps = calloc(NR, sizeof(*maps));
	size_t wrong = 0;

	ASSERT_LE(0, fd);
	for (i = 0; i < NR; i++) {
		/* Whole chunks and single pages. */
		maps[i] = region_map(fd, i % 4 ? PAGE : CHUNK, 0);
		ASSERT_NE(MAP_FAILED, maps[i]);
		maps[i][i % PAGE] = i;
	}
	for (i = 0; i < NR; i++)
		wrong += maps[i][i % PAGE] != maps[0][i % PAGE] || maps[i][7] != maps[0][7];
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(CHUNK, region_resident(fd));
	ASSERT_EQ(0, region_discard(fd, 0, 0, NULL));
	for (i = 0; i < NR; i += 100)
		wrong += maps[i][i % PAGE] != 0;
	EXPECT_EQ(0, wrong);
}

TEST_F(many, single_pages_of_a_region_can_be_mapped_each_for_itself)
{
	int fd = region_create(self->dev, 4 * CHUNK, 0);
	char **maps = calloc(4 * CHUNK_PAGES, sizeof(*maps)), *whole;
	size_t i;

	ASSERT_LE(0, fd);
	for (i = 0; i < 4 * CHUNK_PAGES; i++) {
		maps[i] = region_map(fd, PAGE, i * PAGE);
		ASSERT_NE(MAP_FAILED, maps[i]);
		*(uint64_t *)maps[i] = i + 1;
	}
	whole = region_map(fd, 4 * CHUNK, 0);
	ASSERT_NE(MAP_FAILED, whole);
	for (i = 0; i < 4 * CHUNK_PAGES; i++)
		ASSERT_EQ(i + 1, *(uint64_t *)(whole + i * PAGE));
}

TEST_F_TIMEOUT(many, thousands_of_processes_share_a_chunk, 300)
{
	/* Each takes a tenth of a second on a debug kernel in an emulator. */
	const int NR = access("/sys/kernel/debug/kmemleak", F_OK) ? 2000 : 200;
	int fd = region_create(self->dev, CHUNK, 0), i;
	uint64_t *words = region_map(fd, CHUNK, 0), sum = 0;
	struct barrier *barrier = barrier_make(NR + 1);
	pid_t *pids = calloc(NR, sizeof(*pids));

	ASSERT_NE(MAP_FAILED, (void *)words);
	for (i = 0; i < NR; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			words[i * 8] = i;
			__atomic_fetch_add(&words[NR * 8], 1, __ATOMIC_SEQ_CST);
			barrier_wait(barrier);
			_exit(0);
		}
	}
	barrier_wait(barrier);
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0, child_wait(pids[i]));
	for (i = 0; i < NR; i++)
		sum += words[i * 8];
	EXPECT_EQ(NR * (NR - 1) / 2, sum);
	EXPECT_EQ(NR, words[NR * 8]);
}

TEST_F(many, create_and_close_in_a_row_gives_everything_back_each_time)
{
	struct dvsm_info info;
	int i;

	for (i = 0; i < 500; i++) {
		int fd = region_create(self->dev, CHUNK, i % 2 ? DVSM_REGION_F_PINNED : 0);
		char *map = region_map(fd, CHUNK, 0);

		ASSERT_NE(MAP_FAILED, map);
		map[i] = 1;
		munmap(map, CHUNK);
		close(fd);
		ASSERT_EQ(0, device_info(self->dev, &info));
		ASSERT_EQ(0, info.out_charged);
		ASSERT_EQ(0, info.out_nr_regions);
	}
}

TEST_HARNESS_MAIN
