// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every allocation that fails. The kernel lets the N-th one of a task fail
 * (/proc/self/fail-nth); each operation is run with N = 1, 2, ... until it no
 * longer reaches the N-th. Whatever it answers, it must be an answer, nothing may
 * be left, and the same operation must succeed afterwards.
 *
 * Needs a kernel with fault injection: the debug kernel.
 */
#include <fcntl.h>

#include "snapshot.h"

#define FAIL_NTH	"/proc/self/fail-nth"
#define NTH_MAX		400
#define DEBUGFS		"/sys/kernel/debug/"

FIXTURE(fail) {
	int dev;
	int nth;
};

/* One operation, from nothing to nothing. */
FIXTURE_VARIANT(fail) {
	int (*run)(int dev);	/* 0 or -errno */
};

#define LENGTH (2 * CHUNK)

static int run_open(int dev)
{
	int fd = device_open(O_RDWR);

	(void)dev;
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int run_create(int dev)
{
	int fd = region_create(dev, LENGTH, 0);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int run_create_pinned(int dev)
{
	int fd = region_create_on(dev, LENGTH, DVSM_REGION_F_PINNED, DVSM_POLICY_INTERLEAVE, 1);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int run_reopen(int dev)
{
	int fd = region_create(dev, LENGTH, 0), ret;

	if (fd < 0)
		return fd;
	ret = region_reopen(fd, DVSM_REOPEN_F_READ_ONLY);
	close(fd);
	if (ret < 0)
		return ret;
	close(ret);
	return 0;
}

static int run_reopen_by_path(int dev)
{
	int fd = region_create(dev, LENGTH, 0), ret;

	if (fd < 0)
		return fd;
	ret = fd_reopen(fd, O_RDONLY);
	close(fd);
	if (ret < 0)
		return ret;
	close(ret);
	return 0;
}

static int touch(int fd)
{
	char *map = region_map(fd, LENGTH, 0);
	int sig;

	if (map == MAP_FAILED)
		return -errno;
	sig = write_at(map, 1) ? : read_at(map + CHUNK);
	munmap(map, LENGTH);
	return sig ? -EFAULT : 0;
}

static int run_fault(int dev)
{
	int fd = region_create(dev, LENGTH, 0), ret;

	if (fd < 0)
		return fd;
	ret = touch(fd);
	close(fd);
	return ret;
}

static int run_implicit(int dev)
{
	int own = device_open(O_RDWR), ret;

	(void)dev;
	if (own < 0)
		return own;
	ret = touch(own);
	close(own);
	return ret;
}

static int run_small_tail(int dev)
{
	int fd = region_create(dev, 100 * PAGE, 0), ret;

	if (fd < 0)
		return fd;
	ret = region_populate(fd, 0, 0, NULL);
	close(fd);
	return ret;
}

static int run_populate(int dev)
{
	int fd = region_create(dev, 64 * CHUNK, DVSM_REGION_F_HUGE_REQUIRED), ret;

	if (fd < 0)
		return fd;
	ret = region_populate(fd, 0, 33 * CHUNK, NULL);
	close(fd);
	return ret;
}

static int run_file(int dev)
{
	int fd = region_create(dev, LENGTH, 0), ret = 0;
	char byte;

	if (fd < 0)
		return fd;
	if (pwrite(fd, "x", 1, CHUNK) != 1 || pread(fd, &byte, 1, CHUNK) != 1 ||
	    pread(fd, &byte, 1, 0) != 1 || lseek(fd, 0, SEEK_DATA) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static int run_splice(int dev)
{
	int fd = region_create(dev, LENGTH, 0), pipe_fds[2], ret = 0;
	loff_t at = 0;

	if (fd < 0)
		return fd;
	if (pipe(pipe_fds)) {
		ret = -errno;
	} else {
		if (splice(fd, &at, pipe_fds[1], NULL, 2 * PAGE, 0) <= 0 ||
		    splice(pipe_fds[0], NULL, fd, &at, 2 * PAGE, 0) <= 0)
			ret = -errno;
		close(pipe_fds[0]);
		close(pipe_fds[1]);
	}
	close(fd);
	return ret;
}

static int run_tell(int dev)
{
	int fd = region_create(dev, LENGTH, 0), ret;
	struct dvsm_node_stats nodes[8];
	struct dvsm_region_info info;
	struct dvsm_chunk chunks[4];
	char text[4096];

	if (fd < 0)
		return fd;
	ret = region_residency(fd, 0, 0, chunks, 4);
	if (ret >= 0)
		ret = region_nodes(fd, nodes, 8);
	if (!ret)
		ret = region_info(fd, &info);
	if (!ret)
		ret = read_text(DEBUGFS "dvsm/regions", text, sizeof(text));
	close(fd);
	return ret;
}

static int run_discard(int dev)
{
	int fd = region_create(dev, LENGTH, 0), ret;

	if (fd < 0)
		return fd;
	ret = region_populate(fd, 0, 0, NULL);
	if (!ret)
		ret = region_discard(fd, PAGE, CHUNK, NULL);
	if (!ret)
		ret = region_discard(fd, 0, 0, NULL);
	close(fd);
	return ret;
}

/* A full region and a snapshot of it. */
static int take(int dev, int *snapshot)
{
	int fd = region_create(dev, LENGTH, 0), ret;

	if (fd < 0)
		return fd;
	ret = pwrite(fd, "a", 1, 0) == 1 && pwrite(fd, "b", 1, CHUNK) == 1 ? 0 : -errno;
	if (!ret)
		ret = *snapshot = snapshot_take(fd);
	if (ret >= 0)
		return fd;
	close(fd);
	return ret;
}

/* Reads both, writes both, closes in a bad order. */
static int run_snapshot(int dev)
{
	int snapshot, fd = take(dev, &snapshot), ret = 0;
	char byte;

	if (fd < 0)
		return fd;
	if (pwrite(fd, "x", 1, 0) != 1 || pread(snapshot, &byte, 1, 0) != 1 ||
	    pwrite(snapshot, "y", 1, CHUNK) != 1)
		ret = -errno;
	if (!ret)
		ret = touch(snapshot);
	close(fd);
	close(snapshot);
	return ret;
}

static int run_restore(int dev)
{
	int snapshot, fd = take(dev, &snapshot), ret;

	if (fd < 0)
		return fd;
	ret = pwrite(fd, "x", 1, 0) == 1 ? snapshot_restore(fd, snapshot) : -errno;
	if (!ret)
		ret = touch(fd);
	close(fd);
	close(snapshot);
	return ret;
}

static int run_merge(int dev)
{
	int snapshot, fd = take(dev, &snapshot), ret;
	struct dvsm_snapshot_merge merge;
	struct dvsm_range ranges[2];

	if (fd < 0)
		return fd;
	ret = pwrite(fd, "x", 1, 0) == 1 && pwrite(snapshot, "y", 1, CHUNK) == 1 ? 0 : -errno;
	if (!ret)
		ret = snapshot_merge(fd, snapshot, 0, &merge);
	if (!ret)
		ret = region_diff(fd, snapshot, ranges, 2);
	close(fd);
	close(snapshot);
	return ret < 0 ? ret : 0;
}

static int run_unshare(int dev)
{
	int snapshot, fd = take(dev, &snapshot), ret;
	uint64_t bytes;

	if (fd < 0)
		return fd;
	ret = region_unshare(fd, 0, CHUNK, &bytes);
	if (!ret)
		ret = region_unshare(snapshot, 0, 0, &bytes);
	close(snapshot);
	close(fd);
	return ret;
}

static int run_name(int dev)
{
	int fd = region_create(dev, LENGTH, 0), own, ret;

	if (fd < 0)
		return fd;
	ret = name_create(dev, "fail", fd, 0600, DVSM_NAME_F_KEEP);
	close(fd);
	if (!ret) {
		own = name_open(dev, "fail", 0);
		ret = own < 0 ? own : 0;
		if (own >= 0)
			close(own);
	}
	/* Also after an error: it may have come when the answer was copied. */
	while ((own = name_unlink(dev, "fail")) == -EFAULT)
		;
	return ret;
}

static int run_member(int dev)
{
	int fd = region_create(dev, LENGTH, 0), events, ret;
	struct dvsm_member member;

	if (fd < 0)
		return fd;
	events = region_events(fd);
	ret = events < 0 ? events : region_join(fd, 1);
	if (!ret)
		ret = region_members(fd, &member, 1) == 1 ? 0 : -EFAULT;
	if (!ret)
		ret = region_leave(fd, 1);
	if (events >= 0)
		close(events);
	close(fd);
	return ret;
}

FIXTURE_VARIANT_ADD(fail, open) { .run = run_open, };
FIXTURE_VARIANT_ADD(fail, create) { .run = run_create, };
FIXTURE_VARIANT_ADD(fail, create_pinned) { .run = run_create_pinned, };
FIXTURE_VARIANT_ADD(fail, reopen) { .run = run_reopen, };
FIXTURE_VARIANT_ADD(fail, reopen_by_path) { .run = run_reopen_by_path, };
FIXTURE_VARIANT_ADD(fail, fault) { .run = run_fault, };
FIXTURE_VARIANT_ADD(fail, implicit) { .run = run_implicit, };
FIXTURE_VARIANT_ADD(fail, small_tail) { .run = run_small_tail, };
FIXTURE_VARIANT_ADD(fail, populate) { .run = run_populate, };
FIXTURE_VARIANT_ADD(fail, file) { .run = run_file, };
FIXTURE_VARIANT_ADD(fail, splice) { .run = run_splice, };
FIXTURE_VARIANT_ADD(fail, tell) { .run = run_tell, };
FIXTURE_VARIANT_ADD(fail, discard) { .run = run_discard, };
FIXTURE_VARIANT_ADD(fail, name) { .run = run_name, };
FIXTURE_VARIANT_ADD(fail, member) { .run = run_member, };
FIXTURE_VARIANT_ADD(fail, snapshot) { .run = run_snapshot, };
FIXTURE_VARIANT_ADD(fail, restore) { .run = run_restore, };
FIXTURE_VARIANT_ADD(fail, merge) { .run = run_merge, };
FIXTURE_VARIANT_ADD(fail, unshare) { .run = run_unshare, };

FIXTURE_SETUP(fail)
{
	/* Allocations that may sleep are ours too; nothing is printed for each. */
	static const struct { const char *path, *value; } settings[] = {
		{ DEBUGFS "failslab/ignore-gfp-wait", "N" },
		{ DEBUGFS "failslab/verbose", "0" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ DEBUGFS "fail_page_alloc/min-order", "0" },
		{ DEBUGFS "fail_page_alloc/verbose", "0" },
		{ DEBUGFS "fail_usercopy/verbose", "0" },
	};
	size_t i;

	OPEN_DEVICE_OR_SKIP(self->dev);
	self->nth = open(FAIL_NTH, O_RDWR);
	if (self->nth < 0 && access(DEBUGFS "kmemleak", F_OK))
		SKIP(return, "no %s (run on the debug kernel)", FAIL_NTH);
	ASSERT_LE(0, self->nth);
	for (i = 0; i < ARRAY_SIZE(settings); i++)
		write_text(settings[i].path, settings[i].value);
}

FIXTURE_TEARDOWN_PARENT(fail)
{
	EXPECT_NO_LEAK();
}

/* Whether the N-th allocation was reached, and so failed. */
static bool fail_armed_run(int nth_fd, unsigned int nth, int (*run)(int dev), int dev, int *ret)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(nth_fd, text, length, 0) != length)
		abort();
	*ret = run(dev);
	length = pread(nth_fd, text, sizeof(text) - 1, 0);
	text[length > 0 ? length : 0] = '\0';
	(void)!pwrite(nth_fd, "0", 1, 0);
	return atoi(text) == 0;
}

TEST_F_TIMEOUT(fail, each_allocation_that_fails_is_an_error_and_leaves_nothing, 600)
{
	static const int known[] = {
		0, -ENOMEM, -EFAULT, -EMFILE, -ENFILE, -EIO, -EAGAIN, -ENOSPC, -ENXIO,
	};
	unsigned int nth, failures = 0;
	struct counts counts;
	int ret;

	ASSERT_EQ(0, variant->run(self->dev));
	for (nth = 1; nth < NTH_MAX; nth++) {
		size_t i;

		if (!fail_armed_run(self->nth, nth, variant->run, self->dev, &ret))
			break;
		for (i = 0; i < ARRAY_SIZE(known) && known[i] != ret; i++)
			;
		EXPECT_LT(i, ARRAY_SIZE(known)) TH_LOG("allocation %u: %s", nth, strerror(-ret));
		failures += ret != 0;
		EXPECT_TRUE(counts_reach_zero(&counts, 5)) TH_LOG("allocation %u", nth);
	}
	TH_LOG("%u allocations failed, %u of them for good", nth - 1, failures);
	EXPECT_LT(0, failures);
	EXPECT_GT(NTH_MAX, nth);
	EXPECT_EQ(0, variant->run(self->dev));
}

TEST_HARNESS_MAIN
