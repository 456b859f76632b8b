// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who means harm, or has very little: another user in namespaces of his own and a
 * cgroup of a few MiB, numbers near the end of all numbers, a machine out of memory.
 * What others hold stays as it is. What a read-only descriptor withstands is in
 * access_test.c, what limits refuse in limit_test.c and cgroup_test.c.
 */
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "dma/dma.h"

#define LENGTH	(8 * CHUNK)

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

FIXTURE(abuse) {
	int dev;
	int fd;			/* others' */
	char *map;
	struct cgroup cgroup;
};

FIXTURE_SETUP(abuse)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_CGROUP(&self->cgroup, "abuse");
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	stamp(self->map, LENGTH, 1);
}

FIXTURE_TEARDOWN_PARENT(abuse)
{
	EXPECT_TRUE(cgroup_drains_to(&self->cgroup, MIB, 60));
	cgroup_remove(&self->cgroup);
	EXPECT_NO_LEAK();
}

/* All that takes memory, by who has @dev and nothing else; 0, or a line that is wrong. */
static int take_all_ways(int dev)
{
	int fd = region_create(dev, 64 * CHUNK, 0), snapshot, ret;
	char *map = region_map(fd, 64 * CHUNK, 0);
	size_t at;

	if (fd < 0 || map == MAP_FAILED)
		return __LINE__;
	if (region_create(dev, 4 * CHUNK, DVSM_REGION_F_PINNED) != -ENOMEM)
		return __LINE__;
	if (region_pin(fd, 0, 4 * CHUNK) != -ENOMEM)
		return __LINE__;
	if (write_at(map, 1) || pwrite(fd, "x", 1, PAGE) != 1)
		return __LINE__;
	snapshot = snapshot_take(fd);
	if (snapshot < 0)
		return __LINE__;
	ret = region_populate(fd, 0, 0, NULL);
	if (ret != -ENOMEM)
		return __LINE__;
	for (at = 0; at < 64 * CHUNK && !write_at(map + at, 2); at += CHUNK)
		;
	if (at == 64 * CHUNK)
		return __LINE__;
	if (fallocate(fd, 0, 0, 64 * CHUNK) != -1 || errno != ENOMEM)
		return __LINE__;
	/* What is given back can be had again. */
	if (region_discard(fd, CHUNK, 0, NULL) || write_at(map + 2 * CHUNK, 1) || map[2 * CHUNK] != 1)
		return __LINE__;
	/* The pieces are the same for all, so they stay or are lost, but do not change. */
	if (!read_at(region_map(snapshot, CHUNK, 0)) &&
	    *(volatile char *)region_map(snapshot, CHUNK, 0) != 1)
		return __LINE__;
	return 0;
}

TEST_F(abuse, user_in_a_tiny_container_gets_errors_or_dies_and_others_lose_nothing)
{
	pid_t pid;
	int status;

	ASSERT_EQ(0, cgroup_set(&self->cgroup, "memory.max", "24M"));
	cgroup_set(&self->cgroup, "memory.swap.max", "0");
	pid = child_start();
	if (!pid) {
		const struct rlimit none = { 0, 0 };

		munmap(self->map, LENGTH);
		close(self->fd);
		if (cgroup_enter(&self->cgroup) || setrlimit(RLIMIT_MEMLOCK, &none) ||
		    become_nobody() ||
		    unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET))
			_exit(199);
		/* It is root there, which is nothing here. */
		_exit(take_all_ways(self->dev) & 255);
	}
	status = child_wait(pid);
	if (status == 199)
		SKIP(return, "no user namespaces for unprivileged users");
	/* With all of its memory in regions, the next page of a page table may be its end. */
	EXPECT_TRUE(status == 0 || status == 128 + SIGKILL) TH_LOG("line %d, modulo 256", status);
	EXPECT_GE(1, cgroup_event(&self->cgroup, "memory.events", "oom_kill"));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(LENGTH, region_resident(self->fd));
}

/* Anonymous memory without end, until the OOM killer comes. */
static void eat(void)
{
	for (;;) {
		char *memory = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory != MAP_FAILED)
			memset(memory, 1, CHUNK);
	}
}

TEST_F(abuse, out_of_memory_kills_who_eats_and_what_it_shared_stays)
{
	int shared = region_create(self->dev, 4 * CHUNK, 0);
	char *map = region_map(shared, 4 * CHUNK, 0);
	struct barrier *barrier = barrier_make(2);
	unsigned long end = clock_ms() + 3000;
	pid_t eater, other;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, cgroup_set(&self->cgroup, "memory.max", "48M"));
	cgroup_set(&self->cgroup, "memory.swap.max", "0");
	eater = child_start();
	if (!eater) {
		int own = region_create(self->dev, 4 * CHUNK, 0);

		if (cgroup_enter(&self->cgroup))
			_exit(199);
		stamp(map, 4 * CHUNK, 2);
		stamp(region_map(own, 4 * CHUNK, 0), 4 * CHUNK, 3);
		barrier_wait(barrier);
		eat();
	}
	other = child_start();
	if (!other) {
		barrier_wait(barrier);
		/* Outside of that cgroup, with the same region, while the other one dies. */
		for (; clock_ms() < end; sleep_ms(10))
			if (stamps_wrong(map, 4 * CHUNK, 2))
				_exit(1);
		_exit(0);
	}
	EXPECT_EQ(128 + SIGKILL, child_wait(eater));
	EXPECT_EQ(0, child_wait(other));
	EXPECT_LE(1, cgroup_event(&self->cgroup, "memory.events", "oom_kill"));
	EXPECT_EQ(0, stamps_wrong(map, 4 * CHUNK, 2));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	munmap(map, 4 * CHUNK);
	close(shared);
}

/* A mapping behind the end is one that cannot be touched. */
static int map_and_touch(int fd, uint64_t offset, uint64_t length)
{
	char *map = region_map(fd, length, offset);
	int sig;

	if (map == MAP_FAILED)
		return -errno;
	sig = read_at(map);
	munmap(map, length);
	return sig == SIGBUS ? -EFAULT : 0;
}

/* Every command that takes a range, and what else does. */
static int on_range(int fd, unsigned int which, uint64_t offset, uint64_t length)
{
	struct dvsm_range ranges[4] = {};
	struct dvsm_chunk chunks[4];
	uint64_t bytes;

	switch (which) {
	case 0:
		return region_populate(fd, offset, length, NULL);
	case 1:
		return region_discard(fd, offset, length, NULL);
	case 2:
		return region_residency(fd, offset, length, chunks, 4);
	case 3:
		return region_unshare(fd, offset, length, &bytes);
	case 4:
		return region_pin(fd, offset, length);
	case 5:
		return region_unpin(fd, offset, length);
	case 6:
		return region_export(fd, offset, length);
	case 7:
		return region_extents(fd, offset, length, ranges, 4, NULL);
	case 8:
		return snapshot_take_range(fd, offset, length, 0);
	case 9:
		return fallocate(fd, 0, offset, length) ? -errno : 0;
	case 10:
		return map_and_touch(fd, offset, length);
	case 11:
		return pread(fd, ranges, length, offset) < 0 ? -errno : 0;
	default:
		return pwrite(fd, ranges, length, offset) < 0 ? -errno : 0;
	}
}

TEST_F(abuse, numbers_near_the_end_of_all_numbers_are_errors)
{
	static const uint64_t ends[] = {
		~0ULL, ~0ULL - PAGE + 1, ~0ULL - CHUNK + 1, 1ULL << 63, (1ULL << 63) - PAGE,
		(1ULL << 63) + CHUNK, 1ULL << 47, 1ULL << 62, ~0ULL << 32,
	};
	unsigned int which;
	size_t i, j;

	for (which = 0; which <= 12; which++)
		for (i = 0; i < ARRAY_SIZE(ends); i++) {
			/* fallocate() beyond the end is EFBIG; pread() there is the end. */
			EXPECT_GE(which == 11 ? 0 : -1, on_range(self->fd, which, ends[i], CHUNK))
				TH_LOG("%u: offset %#lx", which, ends[i]);
			for (j = 0; j < ARRAY_SIZE(ends); j++)
				EXPECT_GE(which == 11 ? 0 : -1,
					  on_range(self->fd, which, ends[i], ends[j]))
					TH_LOG("%u: offset %#lx length %#lx", which, ends[i],
					       ends[j]);
			/* A length alone: nothing that begins in the region may end outside. */
			if (which < 9)
				EXPECT_EQ(-EINVAL, on_range(self->fd, which, CHUNK, ends[i]))
					TH_LOG("%u: length %#lx", which, ends[i]);
		}
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(LENGTH, region_resident(self->fd));
}

TEST_F(abuse, sealed_mapping_shows_the_region_like_any_other)
{
	char *map = region_map(self->fd, LENGTH, 0);
	int snapshot;

	ASSERT_NE(MAP_FAILED, map);
	if (syscall(SYS_mseal, map, LENGTH, 0)) {
		if (errno == ENOSYS)
			SKIP(return, "no mseal()");
		ASSERT_EQ(0, errno);
	}
	EXPECT_EQ(-1, munmap(map, CHUNK));
	EXPECT_EQ(-1, mprotect(map, CHUNK, PROT_READ));
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	EXPECT_EQ(0, write_at(map, 7));
	EXPECT_EQ(0, snapshot_restore(self->fd, snapshot));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	EXPECT_EQ(0, region_discard(self->fd, 0, CHUNK, NULL));
	EXPECT_TRUE(is_zero(map, CHUNK));
}

/* A folio that a snapshot has mapped is in mappings that the core does not find. */
TEST_F(abuse, soft_offline_of_a_shared_page_is_refused_or_keeps_all_contents)
{
	int snapshot = snapshot_take(self->fd), ret;
	char *old = region_map(snapshot, LENGTH, 0);

	ASSERT_NE(MAP_FAILED, old);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(old, LENGTH, 1));
	ret = madvise(self->map + 7 * PAGE, PAGE, MADV_SOFT_OFFLINE) ? -errno : 0;
	if (ret == -EINVAL)
		SKIP(return, "MADV_SOFT_OFFLINE");
	EXPECT_EQ(-EBUSY, ret);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(old, LENGTH, 1));
	stamp(self->map, LENGTH, 2);
	EXPECT_EQ(0, stamps_wrong(old, LENGTH, 1));
}

TEST_HARNESS_MAIN
