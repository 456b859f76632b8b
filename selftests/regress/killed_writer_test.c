// SPDX-License-Identifier: GPL-2.0-only
/*
 * A writer that was killed in the middle of a chunk's copy left the rest of the
 * chunk out: the snapshot had zeroes there. It shows in chunks of many folios.
 */
#include "../split.h"
#include "../snapshot.h"

#define NR_CHUNKS	4
#define LENGTH		(NR_CHUNKS * CHUNK)
#define NR_ROUNDS	24

DVSM_FIXTURE(killed_writer);

static void write_to_all(char *map)
{
	for (size_t chunk = 0; chunk < NR_CHUNKS; chunk++)
		map[chunk * CHUNK + 8 * PAGE + 100]++;
}

TEST_F(killed_writer, snapshot_is_whole)
{
	int fd = region_create(self->dev, LENGTH, 0), round;
	char *map = region_map(fd, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 1);
	for (uint64_t chunk = 0; chunk < NR_CHUNKS; chunk++)
		SPLIT_CHUNK(fd, map + chunk * CHUNK, chunk);
	stamp(map, LENGTH, 1);
	for (round = 0; round < NR_ROUNDS; round++) {
		int snapshot = snapshot_take(fd);
		char *old = region_map(snapshot, LENGTH, 0);
		pid_t pid;

		ASSERT_NE(MAP_FAILED, old);
		pid = child_start();
		if (!pid) {
			write_to_all(map);
			_exit(0);
		}
		sleep_ms(1 + round / 2);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		ASSERT_EQ(0, stamps_wrong(old, LENGTH, 1));
		ASSERT_EQ(0, munmap(old, LENGTH));
		close(snapshot);
	}
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
}

TEST_HARNESS_MAIN
