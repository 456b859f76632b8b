// SPDX-License-Identifier: GPL-2.0-only
/*
 * A snapshot that alone was left of those who shared a chunk discarded a part of it
 * and waited for faults on its own page cache, where the memory was not: a fault
 * under way mapped a page that was no longer in the page cache.
 */
#include "../split.h"
#include "../snapshot.h"

#define AT	(100 * PAGE)

DVSM_FIXTURE(discard_lent);

TEST_F(discard_lent, fault_under_way_finds_the_hole)
{
	int fd = region_create(self->dev, CHUNK, 0), snapshot;
	char *map = region_map(fd, CHUNK, 0), *old;
	struct barrier *barrier = barrier_make(2);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 1);
	SPLIT_CHUNK(fd, map, 0);
	snapshot = snapshot_take(fd);
	old = region_map(snapshot, CHUNK, 0);
	ASSERT_NE(MAP_FAILED, old);
	ASSERT_EQ(0, munmap(map, CHUNK));
	close(fd);

	ASSERT_EQ(0, write_text("/sys/kernel/debug/dvsm/delay_us", "300000"));
	pid = child_start();
	if (!pid) {
		read_at(old + AT);
		barrier_wait(barrier);
		_exit(old[AT] || old[AT + 8]);
	}
	sleep_ms(100);
	EXPECT_EQ(0, region_discard(snapshot, AT, 8 * PAGE, NULL));
	barrier_wait(barrier);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, write_text("/sys/kernel/debug/dvsm/delay_us", "0"));
	EXPECT_TRUE(is_zero(old + AT, 8 * PAGE));
}

TEST_HARNESS_MAIN
