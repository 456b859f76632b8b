/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What fail_test.c runs while an allocation fails: operations from nothing to
 * nothing. Each answers 0 or -errno; what it made is gone when it returns.
 */
#ifndef DVSM_SELFTEST_FAIL_OPERATIONS_H
#define DVSM_SELFTEST_FAIL_OPERATIONS_H

#include <linux/mempolicy.h>

#include "dma/dma.h"

#define FAIL_OPERATION static int __attribute__((unused))
#define LENGTH (2 * CHUNK)

FAIL_OPERATION run_open(int dev)
{
	int fd = device_open(O_RDWR);

	(void)dev;
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

FAIL_OPERATION run_create(int dev)
{
	int fd = region_create(dev, LENGTH, 0);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

FAIL_OPERATION run_create_pinned(int dev)
{
	int fd = region_create_on(dev, LENGTH, DVSM_REGION_F_PINNED, DVSM_POLICY_INTERLEAVE, 1);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

FAIL_OPERATION run_reopen(int dev)
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

FAIL_OPERATION run_reopen_by_path(int dev)
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

/* Where the core cannot note the hole it says so, and the mapping is still there: once more. */
static void unmap(void *addr, size_t length)
{
	if (munmap(addr, length))
		munmap(addr, length);
}

static int touch(int fd)
{
	char *map = region_map(fd, LENGTH, 0);
	int sig;

	if (map == MAP_FAILED)
		return -errno;
	sig = write_at(map, 1) ? : read_at(map + CHUNK);
	unmap(map, LENGTH);
	return sig ? -EFAULT : 0;
}

FAIL_OPERATION run_fault(int dev)
{
	int fd = region_create(dev, LENGTH, 0), ret;

	if (fd < 0)
		return fd;
	ret = touch(fd);
	close(fd);
	return ret;
}

FAIL_OPERATION run_implicit(int dev)
{
	int own = device_open(O_RDWR), ret;

	(void)dev;
	if (own < 0)
		return own;
	ret = touch(own);
	close(own);
	return ret;
}

FAIL_OPERATION run_small_tail(int dev)
{
	int fd = region_create(dev, 100 * PAGE, 0), ret;

	if (fd < 0)
		return fd;
	ret = region_populate(fd, 0, 0, NULL);
	close(fd);
	return ret;
}

FAIL_OPERATION run_populate(int dev)
{
	int fd = region_create(dev, 64 * CHUNK, DVSM_REGION_F_HUGE_REQUIRED), ret;

	if (fd < 0)
		return fd;
	ret = region_populate(fd, 0, 33 * CHUNK, NULL);
	close(fd);
	return ret;
}

FAIL_OPERATION run_file(int dev)
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

FAIL_OPERATION run_splice(int dev)
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

FAIL_OPERATION run_tell(int dev)
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
		ret = read_text("/sys/kernel/debug/dvsm/regions", text, sizeof(text));
	close(fd);
	return ret;
}

FAIL_OPERATION run_discard(int dev)
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

/*
 * Pages of a region or snapshot that are looked at: what the snapshot was taken with is at
 * their start, and stays; what is written later is WRITTEN bytes behind that.
 */
#define BYTES_WRONG	(-EILSEQ)	/* no operation may answer that */
#define WRITTEN		64
static const size_t watched[] = {
	0, PAGE, 65536, CHUNK - PAGE, CHUNK, CHUNK + PAGE, CHUNK + 3 * PAGE, LENGTH - PAGE,
};
static const char old_bytes[ARRAY_SIZE(watched)] = "abcdefgh";

/* A region with those bytes. */
static int region_full(int dev, uint32_t flags)
{
	int fd = region_create(dev, LENGTH, flags), ret;
	size_t i;

	if (fd < 0)
		return fd;
	for (i = 0; i < ARRAY_SIZE(watched); i++) {
		if (pwrite(fd, &old_bytes[i], 1, watched[i]) != 1) {
			ret = -errno;
			close(fd);
			return ret;
		}
	}
	return fd;
}

/* A full region and a snapshot of it. Where huge folios are required a copy has nothing to fall back on. */
static int take_of(int dev, uint32_t region_flags, uint64_t granularity, uint32_t flags,
		   int *snapshot)
{
	int fd = region_full(dev, region_flags), ret;

	if (fd < 0)
		return fd;
	ret = *snapshot = snapshot_take_in_parts(fd, granularity, flags);
	if (ret >= 0)
		return fd;
	close(fd);
	return ret;
}

static int take_in_parts(int dev, uint64_t granularity, uint32_t flags, int *snapshot)
{
	return take_of(dev, 0, granularity, flags, snapshot);
}

static int take(int dev, int *snapshot)
{
	return take_in_parts(dev, 0, 0, snapshot);
}

/* A region or snapshot, and what has to be at WRITTEN bytes behind those that are watched. */
struct side {
	int fd;
	char bytes[ARRAY_SIZE(watched)];
};

static struct side side_of(int fd)
{
	return (struct side) { .fd = fd };
}

static void side_expect(struct side *side, size_t at, char byte)
{
	size_t i;

	for (i = 0; watched[i] != at; i++)
		;
	side->bytes[i] = byte;
}

static int side_write(struct side *side, size_t at, char byte)
{
	if (pwrite(side->fd, &byte, 1, at + WRITTEN) != 1)
		return -errno;
	side_expect(side, at, byte);
	return 0;
}

/* By a mapping: writes to the first chunk, reads from the other. */
static int side_touch(struct side *side)
{
	char *map = region_map(side->fd, LENGTH, 0);
	int ret = -EFAULT;

	if (map == MAP_FAILED)
		return -errno;
	if (!write_at(map + WRITTEN, 't')) {
		side_expect(side, 0, 't');
		ret = read_at(map + CHUNK) ? -EFAULT : 0;
	}
	unmap(map, LENGTH);
	return ret;
}

/* One allocation fails: the second try does not. */
static ssize_t read_byte(int fd, size_t at, char *byte)
{
	ssize_t done = pread(fd, byte, 1, at);

	return done == 1 || errno == EIO ? done : pread(fd, byte, 1, at);
}

static bool has_lost(int fd)
{
	struct dvsm_region_info info;

	return (!region_info(fd, &info) || !region_info(fd, &info)) && info.out_nr_lost;
}

/* Whatever failed before, each byte is what was last written there, or told to be lost. */
static int side_check(const struct side *side, bool may_lose)
{
	size_t i;
	char byte;

	for (i = 0; i < ARRAY_SIZE(watched); i++) {
		if (read_byte(side->fd, watched[i], &byte) == 1) {
			if (byte != old_bytes[i] ||
			    read_byte(side->fd, watched[i] + WRITTEN, &byte) != 1 ||
			    byte != side->bytes[i])
				return BYTES_WRONG;
		} else if (errno != EIO || !may_lose || !has_lost(side->fd)) {
			return BYTES_WRONG;
		}
	}
	return 0;
}

/* Both, of which the snapshot may have been lost. Their bytes count for more than @ret. */
static int sides_end(const struct side *live, const struct side *snapshot, bool may_lose, int ret)
{
	if (side_check(live, false) || side_check(snapshot, may_lose))
		ret = BYTES_WRONG;
	/* A bad order. */
	close(live->fd);
	close(snapshot->fd);
	return ret;
}

/* The first error of several. */
static int first_of(int ret, int next)
{
	return ret ? ret : next;
}

/* Each side writes and reads, by calls and by mappings, whatever the other could not do. */
static int write_both(int dev, uint32_t region_flags, uint64_t granularity, uint32_t flags)
{
	int snapshot = -1, fd = take_of(dev, region_flags, granularity, flags, &snapshot), ret;
	struct side live = side_of(fd), copy = side_of(snapshot);

	if (fd < 0)
		return fd;
	ret = side_write(&live, 0, 'x');
	ret = first_of(ret, side_write(&live, PAGE, 'x'));
	ret = first_of(ret, side_write(&copy, CHUNK, 'y'));
	ret = first_of(ret, side_write(&copy, CHUNK + 3 * PAGE, 'y'));
	ret = first_of(ret, side_touch(&copy));
	ret = first_of(ret, side_touch(&live));
	return sides_end(&live, &copy, !(flags & DVSM_SNAPSHOT_F_STRICT), ret);
}

FAIL_OPERATION run_snapshot(int dev)
{
	return write_both(dev, 0, 0, 0);
}

FAIL_OPERATION run_snapshot_huge(int dev)
{
	return write_both(dev, DVSM_REGION_F_HUGE_REQUIRED, 0, 0);
}

FAIL_OPERATION run_strict(int dev)
{
	return write_both(dev, DVSM_REGION_F_HUGE_REQUIRED, 0, DVSM_SNAPSHOT_F_STRICT);
}

FAIL_OPERATION run_strict_parts(int dev)
{
	return write_both(dev, 0, PAGE, DVSM_SNAPSHOT_F_STRICT);
}

FAIL_OPERATION run_restore(int dev)
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

/* By a copy, and of memory that the region has given back. */
FAIL_OPERATION run_restore_copy(int dev)
{
	int fd = region_create(dev, LENGTH, DVSM_REGION_F_REGISTRABLE), snapshot, ret;

	if (fd < 0)
		return fd;
	ret = pwrite(fd, "x", 1, 0) == 1 ? snapshot_take(fd) : -errno;
	snapshot = ret;
	if (ret >= 0)
		ret = region_discard(fd, 0, LENGTH, NULL);
	if (!ret)
		ret = snapshot_restore(fd, snapshot);
	close(fd);
	close(snapshot);
	return ret;
}

FAIL_OPERATION run_merge(int dev)
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

FAIL_OPERATION run_unshare(int dev)
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

FAIL_OPERATION run_name(int dev)
{
	int fd = region_create(dev, LENGTH, 0), own, ret;
	struct dvsm_name names[2];

	if (fd < 0)
		return fd;
	ret = name_create(dev, "fail", fd, 0600, DVSM_NAME_F_KEEP);
	close(fd);
	if (!ret)
		ret = name_list(dev, names, 2) == 1 ? 0 : -errno;
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

FAIL_OPERATION run_member(int dev)
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

FAIL_OPERATION run_parts(int dev)
{
	return write_both(dev, 0, PAGE, 0);
}

/* So many parts of a chunk are written that it is copied as a whole. */
FAIL_OPERATION run_adaptive(int dev)
{
	int snapshot = -1, fd = take_in_parts(dev, 65536, DVSM_SNAPSHOT_F_ADAPTIVE, &snapshot), ret = 0;
	struct side live = side_of(fd), copy = side_of(snapshot);
	size_t at;

	if (fd < 0)
		return fd;
	for (at = 0; at < CHUNK; at += 65536) {
		if (at <= 65536)
			ret = first_of(ret, side_write(&live, at, 'x'));
		else if (pwrite(fd, "x", 1, at + WRITTEN) != 1)
			ret = first_of(ret, -errno);
	}
	ret = first_of(ret, side_write(&copy, CHUNK + PAGE, 'y'));
	return sides_end(&live, &copy, true, ret);
}

FAIL_OPERATION run_restore_parts(int dev)
{
	int snapshot, fd = take_in_parts(dev, 4096, 0, &snapshot), ret;

	if (fd < 0)
		return fd;
	ret = pwrite(fd, "x", 1, 0) == 1 ? snapshot_restore(fd, snapshot) : -errno;
	if (!ret)
		ret = touch(fd);
	close(fd);
	close(snapshot);
	return ret;
}

/* All of it or nothing. Where the answer did not get here nobody knows. */
FAIL_OPERATION run_merge_parts(int dev)
{
	int snapshot = -1, fd = take_in_parts(dev, PAGE, 0, &snapshot), ret, merged;
	struct side live = side_of(fd), copy = side_of(snapshot);
	struct dvsm_snapshot_merge merge;
	char byte;

	if (fd < 0)
		return fd;
	ret = side_write(&live, 0, 'x');
	ret = first_of(ret, side_write(&copy, PAGE, 'y'));
	ret = first_of(ret, side_write(&copy, CHUNK + 3 * PAGE, 'y'));
	if (!ret) {
		merged = snapshot_merge(fd, snapshot, DVSM_MERGE_F_SNAPSHOT_WINS, &merge);
		if (!merged || (merged == -EFAULT && read_byte(fd, PAGE + WRITTEN, &byte) == 1 && byte)) {
			side_expect(&live, PAGE, 'y');
			side_expect(&live, CHUNK + 3 * PAGE, 'y');
		}
		ret = merged;
	}
	ret = first_of(ret, side_touch(&live));
	return sides_end(&live, &copy, true, ret);
}

/* A chunk after an advance that may have failed: as it was, or as it is in the region. */
static bool is_one_of(int fd, size_t chunk, const char *pages, unsigned int nr, int ret)
{
	bool is_old = ret, is_new = true;
	unsigned int i;
	char byte;

	for (i = 0; i < nr; i++) {
		if (read_byte(fd, chunk + 2 * i * PAGE, &byte) != 1)
			return errno == EIO && has_lost(fd);
		is_old &= byte == (i ? 0 : pages[0]);
		is_new &= byte == 'x';
	}
	return is_old || is_new;
}

static int advance_again(int fd, int snapshot, struct dvsm_range *ranges, uint32_t nr)
{
	int ret = snapshot_advance(fd, snapshot, ranges, nr);

	return ret < 0 ? snapshot_advance(fd, snapshot, ranges, nr) : ret;
}

/* What was written since last asked: every second page of a chunk, and of the next. */
FAIL_OPERATION run_advance(int dev)
{
	enum { NR = 8, ROOM = 256 };
	static struct dvsm_range ranges[ROOM];
	int snapshot, fd = take_in_parts(dev, PAGE, 0, &snapshot), ret = 0;
	unsigned int i;

	if (fd < 0)
		return fd;
	for (i = 0; i < 2 * NR && !ret; i++)
		if (pwrite(fd, "x", 1, i / NR * CHUNK + 2 * (i % NR) * PAGE) != 1)
			ret = -errno;
	if (!ret) {
		ret = snapshot_advance(fd, snapshot, ranges, ROOM);
		/* Fewer were told where an allocation failed after some. */
		ret = ret < 0 ? ret : ret == 2 * NR ? 0 : -ENOMEM;
		/* It can go on, has then told all, and the snapshot holds it. */
		if (!is_one_of(snapshot, 0, "a", NR, ret) ||
		    !is_one_of(snapshot, CHUNK, "e", NR, ret) ||
		    advance_again(fd, snapshot, ranges, ROOM) < 0 ||
		    !is_one_of(snapshot, 0, "a", NR, 0) ||
		    !is_one_of(snapshot, CHUNK, "e", NR, 0) ||
		    !is_one_of(fd, 0, "a", NR, 0) || !is_one_of(fd, CHUNK, "e", NR, 0) ||
		    advance_again(fd, snapshot, ranges, ROOM))
			ret = BYTES_WRONG;
	}
	close(fd);
	close(snapshot);
	return ret;
}

/* Three generations. What is discarded and written on the live side lives on for the others. */
FAIL_OPERATION run_generations(int dev)
{
	int snapshot, fd = take(dev, &snapshot), grandchild, ret = 0;
	char byte;

	if (fd < 0)
		return fd;
	grandchild = snapshot_take(snapshot);
	if (grandchild < 0) {
		ret = grandchild;
	} else {
		if (pwrite(fd, "x", 1, 0) != 1)
			ret = -errno;
		if (!ret)
			ret = region_discard(fd, CHUNK, CHUNK, NULL);
		if (!ret)
			ret = region_discard(snapshot, PAGE, PAGE, NULL);
		close(fd);
		fd = -1;
		if (!ret && (pwrite(snapshot, "y", 1, CHUNK) != 1 ||
			     pread(grandchild, &byte, 1, CHUNK) != 1))
			ret = -errno;
		close(grandchild);
	}
	if (fd >= 0)
		close(fd);
	close(snapshot);
	return ret;
}

/* A snapshot of memory that devices may write copies at once. */
FAIL_OPERATION run_snapshot_registrable(int dev)
{
	int fd = region_create(dev, LENGTH, DVSM_REGION_F_REGISTRABLE), ret;

	if (fd < 0)
		return fd;
	ret = pwrite(fd, "a", 1, 0) == 1 ? snapshot_take(fd) : -errno;
	close(fd);
	if (ret < 0)
		return ret;
	close(ret);
	return 0;
}

FAIL_OPERATION run_private(int dev)
{
	int fd = region_create(dev, LENGTH, 0), sig;
	char *map;

	if (fd < 0)
		return fd;
	map = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return -errno;
	sig = write_at(map, 1) ? : read_at(map + CHUNK);
	unmap(map, LENGTH);
	return sig ? -EFAULT : 0;
}

/* The caller does all the work itself: what a helper allocates cannot be made to fail. */
FAIL_OPERATION run_populate_alone(int dev)
{
	int fd = region_create_on(dev, LENGTH, 0, DVSM_POLICY_PREFERRED, 1), ret;

	if (fd < 0)
		return fd;
	ret = region_populate_by(fd, 0, 0, 1, NULL);
	close(fd);
	return ret;
}

FAIL_OPERATION run_fallocate(int dev)
{
	int fd = region_create(dev, LENGTH, 0), ret;

	if (fd < 0)
		return fd;
	ret = fallocate(fd, 0, 0, CHUNK) || fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						      0, CHUNK) ? -errno : 0;
	close(fd);
	return ret;
}

FAIL_OPERATION run_move(int dev)
{
	int fd = region_create(dev, LENGTH, 0), ret;
	char *map;

	if (fd < 0)
		return fd;
	map = region_map(fd, LENGTH, 0);
	ret = map == MAP_FAILED ? -errno : write_at(map, 1) ? -EFAULT : 0;
	if (!ret) {
		ret = page_move(map, !page_node(map), MPOL_MF_MOVE_ALL);
		ret = ret < 0 ? ret : 0;
	}
	if (map != MAP_FAILED)
		unmap(map, LENGTH);
	close(fd);
	return ret;
}

/* Of a range that a snapshot shares, so that the pin has to unshare it. */
FAIL_OPERATION run_pin(int dev)
{
	int snapshot, fd = take(dev, &snapshot), ret;
	struct dvsm_range ranges[4];

	if (fd < 0)
		return fd;
	ret = region_pin(fd, 0, CHUNK);
	if (!ret)
		ret = region_extents(fd, 0, CHUNK, ranges, 4, NULL);
	if (ret >= 0)
		ret = region_unpin(fd, 0, CHUNK);
	close(fd);
	close(snapshot);
	return ret;
}

/* What does not end by a command ends with the descriptor. */
FAIL_OPERATION run_pin_left(int dev)
{
	int fd = region_create(dev, LENGTH, 0), ret;

	if (fd < 0)
		return fd;
	ret = region_pin(fd, 0, 0);
	close(fd);
	return ret;
}

FAIL_OPERATION run_export(int dev)
{
	int fd = region_create(dev, LENGTH, 0), dmabuf, sig;
	char *map;

	if (fd < 0)
		return fd;
	dmabuf = region_export(fd, 0, CHUNK);
	close(fd);
	if (dmabuf < 0)
		return dmabuf;
	map = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED, dmabuf, 0);
	close(dmabuf);
	if (map == MAP_FAILED)
		return -errno;
	sig = write_at(map, 1);
	unmap(map, CHUNK);
	return sig ? -EFAULT : 0;
}

FAIL_OPERATION run_place(int dev)
{
	int fd = region_create(dev, LENGTH, 0), ret;
	uint64_t nodes = 0;

	if (fd < 0)
		return fd;
	ret = region_place(fd, 0, CHUNK, DVSM_POLICY_INTERLEAVE, 1, NULL);
	if (!ret)
		ret = region_place(fd, CHUNK, CHUNK, DVSM_POLICY_PREFERRED, 1, NULL);
	if (!ret)
		ret = region_place_query(fd, 0, &nodes, NULL, NULL, NULL);
	if (ret >= 0)
		ret = touch(fd);
	close(fd);
	return ret;
}

/* Weights of nodes, which are looked up and kept: at creation, for a range, and told. */
FAIL_OPERATION run_weighted(int dev)
{
	const uint8_t weights[64] = { [0 ... 63] = 2 };
	static uint64_t nodes;		/* looked up by the first run, in which nothing fails */
	struct dvsm_region_create create = {
		.size = sizeof(create),
		.length = LENGTH,
		.policy = DVSM_POLICY_WEIGHTED_INTERLEAVE,
		.nr_nodes = 64,
		.nodes = (uintptr_t)&nodes,
		.weights = (uintptr_t)weights,
	};
	uint8_t told_weights[64];
	uint64_t told = 0;
	int fd, ret;

	if (!nodes)
		nodes = node_mask();
	fd = ioctl(dev, DVSM_IOC_REGION_CREATE, &create);
	if (fd < 0)
		return -errno;
	ret = region_place(fd, 0, CHUNK, DVSM_POLICY_WEIGHTED_INTERLEAVE, nodes, weights);
	if (!ret)
		ret = region_place_query(fd, 0, &told, told_weights, NULL, NULL);
	if (ret >= 0)
		ret = told == nodes && told_weights[__builtin_ctzll(nodes)] == 2 ? touch(fd)
										 : BYTES_WRONG;
	close(fd);
	return ret;
}

/* Of memory that a snapshot shares. What could not be moved is told, and no error. */
FAIL_OPERATION run_migrate(int dev)
{
	int snapshot, fd = take(dev, &snapshot), ret;

	if (fd < 0)
		return fd;
	ret = region_migrate(fd, 0, 0, 2, NULL);
	if (!ret)
		ret = region_migrate(snapshot, 0, 0, 1, NULL);
	close(fd);
	close(snapshot);
	return ret;
}

/* To small pages and back. */
FAIL_OPERATION run_resize(int dev)
{
	struct dvsm_region_split split = { .size = sizeof(split) };
	struct dvsm_region_promote promote = { .size = sizeof(promote) };
	int fd = region_create(dev, LENGTH, 0), ret;

	if (fd < 0)
		return fd;
	ret = touch(fd);
	if (!ret && ioctl(fd, DVSM_IOC_REGION_SPLIT, &split))
		ret = -errno;
	if (!ret && ioctl(fd, DVSM_IOC_REGION_PROMOTE, &promote))
		ret = -errno;
	close(fd);
	return ret;
}

FAIL_OPERATION run_watch(int dev)
{
	int fd = region_create(dev, LENGTH, 0), watch, ret;
	struct dvsm_region_entry entries[4];
	struct dvsm_region_info info = {};
	uint64_t cursor = 0;

	if (fd < 0)
		return fd;
	ret = region_list(dev, &cursor, entries, 4);
	if (ret >= 0)
		ret = region_info(fd, &info);
	if (!ret) {
		watch = region_watch(dev, info.out_id);
		ret = watch < 0 ? watch : region_info(watch, &info);
		if (watch >= 0)
			close(watch);
	}
	close(fd);
	return ret;
}

FAIL_OPERATION run_find(int dev)
{
	int fd = region_create(dev, LENGTH, 0), found;
	char *map;

	if (fd < 0)
		return fd;
	map = region_map(fd, LENGTH, 0);
	close(fd);
	if (map == MAP_FAILED)
		return -errno;
	found = region_find(dev, map + CHUNK, NULL);
	if (found >= 0)
		close(found);
	unmap(map, LENGTH);
	return found < 0 ? found : 0;
}

FAIL_OPERATION run_balance(int dev)
{
	struct dvsm_balance_use uses[8 * 8];
	struct dvsm_region_balance balance = {
		.size = sizeof(balance),
		.mode = DVSM_BALANCE_OBSERVE,
		.nr_nodes = 8,
		.uses = (uintptr_t)uses,
	};
	int fd = region_create(dev, LENGTH, 0), ret;

	if (fd < 0)
		return fd;
	ret = touch(fd);
	if (!ret && ioctl(fd, DVSM_IOC_REGION_BALANCE, &balance))
		ret = -errno;
	close(fd);
	return ret;
}

/* A child that has no copy finds out when it touches it. */
FAIL_OPERATION run_fork(int dev)
{
	int fd = region_create(dev, LENGTH, DVSM_REGION_F_FORK_COPY), ret;
	char *map;
	pid_t pid;

	if (fd < 0)
		return fd;
	map = region_map(fd, LENGTH, 0);
	ret = map == MAP_FAILED ? -errno : 0;
	if (!ret && (write_at(map, 1) || write_at(map + CHUNK, 1)))
		ret = -ENOMEM;
	if (!ret) {
		pid = fork();
		if (!pid)
			_exit(read_at(map) || write_at(map + CHUNK, 2) || map[0] != 1);
		ret = pid < 0 ? -errno : child_wait(pid) ? -ENOMEM : 0;
	}
	if (!ret && map[CHUNK] != 1)
		ret = -EINVAL;
	if (map != MAP_FAILED)
		unmap(map, LENGTH);
	close(fd);
	return ret;
}

#endif /* DVSM_SELFTEST_FAIL_OPERATIONS_H */
