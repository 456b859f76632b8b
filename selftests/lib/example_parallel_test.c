// SPDX-License-Identifier: GPL-2.0-only
/* parallel-commit: conflicts are found and done again, and the result is a serial one. */
#include "kselftest_harness.h"
#include "example_test.h"

FIXTURE(device) { int unused; };

FIXTURE_SETUP(device)
{
	NEED_DEVICE();
}

FIXTURE_TEARDOWN(device) { }

#define SECONDS	250

TEST_F_TIMEOUT(device, result_is_that_of_a_serial_run, SECONDS)
{
	EXPECT_EXAMPLE(0, "-w 4 -s 24 -t 120 -r 7", NULL);
	EXPECT_EQ(24 * (long long)CHUNK, said_before(" bytes\n"));
	EXPECT_EQ(60, said_before(" merges taken"));
}

TEST_F_TIMEOUT(device, workers_that_write_to_the_same_chunk_conflict, SECONDS)
{
	EXPECT_EXAMPLE(0, "-w 4 -s 8 -t 60 --hot=100", NULL);
	EXPECT_LT(0, said_before(" merges refused"));
	EXPECT_EQ(said_before(" merges refused"), said_before(" batches, "));
	EXPECT_LE(said_before(" merges refused"), said_before(" ranges that others"));
}

TEST_F_TIMEOUT(device, one_worker_conflicts_with_nobody, SECONDS)
{
	EXPECT_EXAMPLE(0, "-w 1 -s 8 -t 40 -B 3", NULL);
	EXPECT_EQ(0, said_before(" merges refused"));
	EXPECT_EQ(14, said_before(" merges taken"));
}

TEST_F_TIMEOUT(device, workers_that_are_killed_leave_all_of_a_batch_or_nothing, SECONDS)
{
	EXPECT_EXAMPLE(0, "-w 3 -s 12 -t 120 -k 8 -B 4", NULL);
	EXPECT_LT(0, said_before(" workers\n"));
}

TEST(without_snapshots_it_says_so_and_skips)
{
	static const char *const backends[] = { "memfd", "memfd-thp", "memfd-4k" };
	char line[64];

	for (int i = 0; i < 3; i++) {
		snprintf(line, sizeof(line), "-t 10 -b %s", backends[i]);
		EXPECT_EXAMPLE(4, line, NULL);
		EXPECT_NE(NULL, strstr(said, "has no snapshots"));
		EXPECT_NE(NULL, strstr(said, backends[i]));
	}
}

TEST(options_are_checked)
{
	EXPECT_EXAMPLE(0, "--help", NULL);
	EXPECT_EQ(0, strncmp(said, "usage: parallel-commit", 16));
	EXPECT_EXAMPLE(2, "--no-such-option", NULL);
	EXPECT_EXAMPLE(2, "-w 0", NULL);
	EXPECT_EXAMPLE(2, "-b diskette", NULL);
	EXPECT_EXAMPLE(2, "-t 1000000", NULL);
	EXPECT_EXAMPLE(2, "word", NULL);
}

TEST_HARNESS_MAIN
