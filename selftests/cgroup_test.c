// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory cgroups: who is charged, what happens at their limit, and that every
 * charge comes back.
 */
#include <linux/kernel-page-flags.h>

#include "fixture.h"
#include "snapshot.h"

#define LENGTH (8 * CHUNK)

FIXTURE(cgroup) {
	int dev;
	struct cgroup a, b;
};

FIXTURE_SETUP(cgroup)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_CGROUP(&self->a, "a");
	NEED_CGROUP(&self->b, "b");
}

FIXTURE_TEARDOWN_PARENT(cgroup)
{
	EXPECT_TRUE(cgroup_drains_to(&self->a, MIB, 60))
		TH_LOG("a keeps %lu", cgroup_get(&self->a, "memory.current"));
	EXPECT_TRUE(cgroup_drains_to(&self->b, MIB, 60))
		TH_LOG("b keeps %lu", cgroup_get(&self->b, "memory.current"));
	cgroup_remove(&self->a);
	cgroup_remove(&self->b);
	EXPECT_NO_LEAK();
}

/* Ways to take memory, each in a child in a cgroup that does nothing else. */
enum how { POPULATE, POPULATE_ALONE, FAULT, WRITE, FALLOCATE };

static int take_in(struct cgroup *cgroup, int fd, size_t length, enum how how)
{
	pid_t pid = child_start();

	if (!pid) {
		char *map = region_map(fd, length, 0);
		size_t offset;
		int ret = 0;

		if (cgroup_enter(cgroup))
			_exit(199);
		if (how == POPULATE || how == POPULATE_ALONE)
			_exit(-region_populate_by(fd, 0, length, how == POPULATE_ALONE, NULL));
		if (how == FALLOCATE)
			_exit(fallocate(fd, 0, 0, length) ? errno : 0);
		for (offset = 0; offset < length && !ret; offset += CHUNK) {
			if (how == FAULT)
				ret = write_at(map + offset, 1);
			else
				ret = pwrite(fd, "x", 1, offset) == 1 ? 0 : errno;
		}
		_exit(ret);
	}
	return child_wait(pid);
}

/* Linux 6.1 tells old numbers while somebody else is adding up new ones. */
static bool file_reaches(const struct cgroup *cgroup, unsigned long bytes)
{
	unsigned long end = clock_ms() + 60000;

	while (cgroup_event(cgroup, "memory.stat", "file") < bytes) {
		if (clock_ms() > end)
			return false;
		sleep_ms(10);
	}
	return true;
}

TEST_F(cgroup, toucher_is_charged_not_the_creator)
{
	static const enum how hows[] = { FAULT, WRITE, POPULATE, POPULATE_ALONE, FALLOCATE };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(hows); i++) {
		int fd = region_create(self->dev, LENGTH, 0);

		ASSERT_LE(0, fd);
		ASSERT_EQ(0, take_in(&self->a, fd, LENGTH, hows[i])) TH_LOG("way %d", hows[i]);
		EXPECT_LE(LENGTH, cgroup_get(&self->a, "memory.current"));
		EXPECT_GT(LENGTH / 2, cgroup_get(&self->b, "memory.current"));
		/* Who only reads it later pays nothing. */
		ASSERT_EQ(0, take_in(&self->b, fd, LENGTH, FAULT));
		EXPECT_TRUE(cgroup_drains_to(&self->b, LENGTH / 2, 60));
		EXPECT_TRUE(file_reaches(&self->a, LENGTH));
		close(fd);
		EXPECT_TRUE(cgroup_drains_to(&self->a, MIB, 60));
	}
}

TEST_F(cgroup, populate_by_several_cpus_charges_its_caller)
{
	int fd = region_create(self->dev, 96 * CHUNK, 0);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, take_in(&self->a, fd, 96 * CHUNK, POPULATE));
	EXPECT_LE(96 * CHUNK, cgroup_get(&self->a, "memory.current"));
	EXPECT_TRUE(cgroup_drains_to(&self->a, 104 * CHUNK, 60));
}

TEST_F(cgroup, charge_stays_when_the_toucher_is_gone_and_goes_with_a_discard)
{
	int fd = region_create(self->dev, LENGTH, 0);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, take_in(&self->a, fd, LENGTH, FAULT));
	EXPECT_LE(LENGTH, cgroup_get(&self->a, "memory.current"));
	EXPECT_EQ(0, region_discard(fd, 0, LENGTH / 2, NULL));
	EXPECT_TRUE(cgroup_drains_to(&self->a, LENGTH / 2 + MIB, 60));
	EXPECT_LE(LENGTH / 2, cgroup_get(&self->a, "memory.current"));
}

TEST_F(cgroup, two_cgroups_pay_each_for_what_it_touched)
{
	int fd = region_create(self->dev, LENGTH, 0);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, take_in(&self->a, fd, 3 * CHUNK, FAULT));
	ASSERT_EQ(0, take_in(&self->b, fd, LENGTH, FAULT));
	EXPECT_LE(3 * CHUNK, cgroup_get(&self->a, "memory.current"));
	EXPECT_TRUE(cgroup_drains_to(&self->a, 4 * CHUNK, 60));
	EXPECT_TRUE(cgroup_drains_to(&self->b, 6 * CHUNK, 60));
	EXPECT_LE(5 * CHUNK, cgroup_get(&self->b, "memory.current"));
}

/* Holes below, so that the parts need new folios there, which a kernel thread takes. */
TEST_F(cgroup, parts_that_go_back_in_the_background_stay_on_the_books_of_who_paid)
{
	struct dvsm_region_split split = { .size = sizeof(split) };
	unsigned long back = (LENGTH - LENGTH / CHUNK * PAGE) / PAGE;
	int fd = region_create(self->dev, LENGTH, 0), pipes[2][2];
	uint64_t frame;
	char byte;
	pid_t pid;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pipe(pipes[0]) | pipe(pipes[1]));
	ASSERT_EQ(0, param_set("promote_seconds", 0));
	pid = child_start();
	if (!pid) {
		char *map = region_map(fd, LENGTH, 0);
		int snapshot;

		if (cgroup_enter(&self->a))
			_exit(199);
		for (size_t chunk = 0; chunk < LENGTH; chunk += CHUNK)
			map[chunk] = 1;
		if (ioctl(fd, DVSM_IOC_REGION_SPLIT, &split) || split.out_nr_split != LENGTH / CHUNK)
			_exit(198);
		snapshot = snapshot_take_in_parts(fd, PAGE, 0);
		if (snapshot < 0)
			_exit(197);
		/* Not all: chunks that are full would be made huge besides. */
		for (size_t page = 0; page < LENGTH; page += PAGE)
			if (page % CHUNK && page % CHUNK != CHUNK - PAGE)
				map[page] = 1;
		frame = PAGEMAP_PFN(pagemap_entry(map + LENGTH - CHUNK + PAGE));
		if (write(pipes[0][1], &frame, sizeof(frame)) != sizeof(frame) ||
		    read(pipes[1][0], &byte, 1) != 1)
			_exit(195);
		_exit(0);
	}
	close(pipes[0][1]);
	close(pipes[1][0]);
	ASSERT_EQ(sizeof(frame), read(pipes[0][0], &frame, sizeof(frame)));
	EXPECT_LE(LENGTH - LENGTH / CHUNK * PAGE, cgroup_get(&self->a, "memory.current"));
	ASSERT_EQ(1, write(pipes[1][1], "x", 1));
	ASSERT_EQ(0, child_wait(pid));
	ASSERT_TRUE(kpage_flags(frame) >> KPF_UNEVICTABLE & 1);
	ASSERT_EQ(0, param_set("promote_seconds", 1));
	/* A touch would put them back at once: only who looks from outside sees the worker do it. */
	for (int n = 0; n < 1200 && kpage_flags(frame) >> KPF_UNEVICTABLE & 1; n++)
		sleep_ms(50);
	EXPECT_FALSE(kpage_flags(frame) >> KPF_UNEVICTABLE & 1);
	EXPECT_EQ(0, stats_reach("pages", back, 120));
	ASSERT_EQ(0, param_set("promote_seconds", 10));
	EXPECT_LE(LENGTH - LENGTH / CHUNK * PAGE, cgroup_get(&self->a, "memory.current"));
}

/* A populate's helpers are kernel threads, whose own cgroup is the root. */
TEST_F(cgroup, parts_that_a_populate_finds_stay_on_the_books_of_who_paid)
{
	const size_t length = 64 * CHUNK;
	struct dvsm_region_split split = { .size = sizeof(split) };
	int fd = region_create(self->dev, length, 0), pipes[2][2];
	char byte;
	pid_t pid;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pipe(pipes[0]) | pipe(pipes[1]));
	ASSERT_EQ(0, param_set("promote_seconds", 0));
	pid = child_start();
	if (!pid) {
		char *map = region_map(fd, length, 0);
		int snapshot;

		if (cgroup_enter(&self->a))
			_exit(199);
		for (size_t chunk = 0; chunk < length; chunk += CHUNK)
			map[chunk] = 1;
		if (ioctl(fd, DVSM_IOC_REGION_SPLIT, &split) || split.out_nr_split != length / CHUNK)
			_exit(198);
		snapshot = snapshot_take_in_parts(fd, PAGE, 0);
		if (snapshot < 0)
			_exit(197);
		for (size_t page = 0; page < length; page += PAGE)
			map[page] = 1;
		close(snapshot);
		if (region_populate_by(fd, 0, 0, 4, NULL))
			_exit(196);
		if (write(pipes[0][1], "x", 1) != 1 || read(pipes[1][0], &byte, 1) != 1)
			_exit(195);
		_exit(0);
	}
	close(pipes[0][1]);
	close(pipes[1][0]);
	ASSERT_EQ(1, read(pipes[0][0], &byte, 1));
	EXPECT_LE(length, pages_charged() * PAGE);
	EXPECT_LE(length, cgroup_get(&self->a, "memory.current"));
	ASSERT_EQ(1, write(pipes[1][1], "x", 1));
	ASSERT_EQ(0, child_wait(pid));
	ASSERT_EQ(0, param_set("promote_seconds", 10));
}

TEST_F(cgroup, limit_is_enomem_or_sigbus_and_nobody_is_killed)
{
	static const struct { enum how how; int answer; } ways[] = {
		{ POPULATE, ENOMEM }, { POPULATE_ALONE, ENOMEM }, { WRITE, ENOMEM },
		{ FALLOCATE, ENOMEM }, { FAULT, SIGBUS },
	};
	size_t i;

	ASSERT_EQ(0, cgroup_set(&self->a, "memory.max", "9M"));
	cgroup_set(&self->a, "memory.swap.max", "0");
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		/* Whole chunks: room is left for the process itself. */
		int fd = region_create(self->dev, 32 * CHUNK, DVSM_REGION_F_HUGE_REQUIRED);

		ASSERT_LE(0, fd);
		EXPECT_EQ(ways[i].answer, take_in(&self->a, fd, 32 * CHUNK, ways[i].how))
			TH_LOG("way %d", ways[i].how);
		EXPECT_LE(3 * CHUNK, region_resident(fd));
		EXPECT_GE(9 * MIB, region_resident(fd));
		EXPECT_GE(9 * MIB, cgroup_get(&self->a, "memory.current"));
		close(fd);
		EXPECT_TRUE(cgroup_drains_to(&self->a, MIB, 60));
	}
	EXPECT_EQ(0, cgroup_event(&self->a, "memory.events", "oom_kill"));
}

TEST_F(cgroup, raised_limit_lets_it_go_on)
{
	int fd = region_create(self->dev, LENGTH, DVSM_REGION_F_HUGE_REQUIRED);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cgroup_set(&self->a, "memory.max", "9M"));
	EXPECT_EQ(ENOMEM, take_in(&self->a, fd, LENGTH, POPULATE_ALONE));
	ASSERT_EQ(0, cgroup_set(&self->a, "memory.max", "max"));
	EXPECT_EQ(0, take_in(&self->a, fd, LENGTH, POPULATE_ALONE));
	EXPECT_EQ(LENGTH, region_resident(fd));
}

TEST_F(cgroup, failed_pinned_region_gives_everything_back)
{
	pid_t pid;

	ASSERT_EQ(0, cgroup_set(&self->a, "memory.max", "9M"));
	pid = child_start();
	if (!pid) {
		int fd;

		cgroup_enter(&self->a);
		fd = region_create(self->dev, 16 * CHUNK,
				   DVSM_REGION_F_PINNED | DVSM_REGION_F_HUGE_REQUIRED);
		_exit(fd < 0 ? -fd : 0);
	}
	EXPECT_EQ(ENOMEM, child_wait(pid));
	EXPECT_TRUE(cgroup_drains_to(&self->a, MIB, 60));
	EXPECT_EQ(0, cgroup_event(&self->a, "memory.events", "oom_kill"));
}

TEST_F(cgroup, cgroup_that_is_removed_leaves_its_memory_usable)
{
	int fd = region_create(self->dev, LENGTH, 0);
	char *map = region_map(fd, LENGTH, 0);
	struct cgroup gone;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, cgroup_make(&gone, "gone"));
	ASSERT_EQ(0, take_in(&gone, fd, LENGTH, FAULT));
	cgroup_remove(&gone);
	EXPECT_NE(0, access(gone.path, F_OK));
	stamp(map, LENGTH, 1);
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	EXPECT_EQ(0, region_discard(fd, 0, CHUNK, NULL));
	EXPECT_TRUE(is_zero(map, CHUNK));
}

TEST_F(cgroup, killed_cgroup_gives_its_memory_back)
{
	struct barrier *barrier = barrier_make(4);
	pid_t pids[3];
	int i;

	for (i = 0; i < 3; i++) {
		pids[i] = child_start();
		if (!pids[i]) {
			int fd;

			cgroup_enter(&self->a);
			fd = region_create(self->dev, LENGTH, 0);
			region_populate(fd, 0, 0, NULL);
			barrier_wait(barrier);
			for (;;)
				region_populate(fd, 0, 0, NULL), region_discard(fd, 0, 0, NULL);
		}
	}
	barrier_wait(barrier);
	EXPECT_EQ(0, cgroup_set(&self->a, "cgroup.kill", "1"));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(128 + SIGKILL, child_wait(pids[i]));
}

TEST_HARNESS_MAIN
