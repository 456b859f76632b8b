// SPDX-License-Identifier: GPL-2.0-only
/*
 * A node without huge pages. Some of its memory is taken page by page, and one page
 * of every 2 MiB of physical memory is held by a long-term pin, so that nothing can
 * move it. What is left in whole huge pages goes into the hugetlb pool. Then the
 * pages that are not pinned are given back: free memory, all of it in pieces. Compaction
 * may move other pages there, and what it makes whole by that goes into the pool, too.
 */
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "common.h"

#define HOG_RESERVE	(32 * MIB)	/* left free, so that nobody is killed */
#define HOG_LENGTH	(448 * MIB)	/* what is broken */
#define HOG_PINS_MAX	1024		/* 2 MiB blocks that it may lie in */
#define HOG_NEEDS	(768 * MIB)	/* free of a node; the rest of it may be lent */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif

/* Bytes of a node that lie in free blocks of 2 MiB and more. */
unsigned long node_free_huge(int node)
{
	char text[8192], *line;
	unsigned long bytes = 0;

	if (read_text("/proc/buddyinfo", text, sizeof(text)))
		return 0;
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		unsigned long free[11];
		int nid;

		if (sscanf(line, "Node %d, zone %*s %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu",
			   &nid, &free[0], &free[1], &free[2], &free[3], &free[4], &free[5],
			   &free[6], &free[7], &free[8], &free[9], &free[10]) == 12 && nid == node)
			bytes += free[9] * CHUNK + free[10] * 2 * CHUNK;
	}
	return bytes;
}

static void pool_path(int node, char *path, size_t size)
{
	snprintf(path, size,
		 "/sys/devices/system/node/node%d/hugepages/hugepages-2048kB/nr_hugepages", node);
}

/* How many huge pages of a node are in the hugetlb pool. */
int pool_read(int node, unsigned long *nr)
{
	char path[128];

	pool_path(node, path, sizeof(path));
	return read_number(path, nr);
}

/* It takes from what is free, or gives back. */
int pool_write(int node, unsigned long nr)
{
	char path[128], text[32];

	pool_path(node, path, sizeof(path));
	snprintf(text, sizeof(text), "%lu", nr);
	return write_text(path, text);
}

/* What each node has in it, and one; 0 for a node that there is not. */
void pools_read(struct pools *pools)
{
	unsigned long nr;
	int node;

	memset(pools, 0, sizeof(*pools));
	for (node = 0; node < 64; node++)
		if (node_mask() >> node & 1 && !pool_read(node, &nr))
			pools->nr[node] = nr + 1;
}

void pools_restore(const struct pools *pools)
{
	int node;

	for (node = 0; node < 64; node++)
		if (pools->nr[node])
			pool_write(node, pools->nr[node] - 1);
}

/*
 * Lends it, or takes back, what leaves @left bytes free on a node: less to fill for a test that
 * fills it.
 */
void pool_leave(int node, unsigned long left)
{
	unsigned long nr, free = node_free(node);

	if (!pool_read(node, &nr))
		pool_write(node, nr * CHUNK + free > left ? (nr * CHUNK + free - left) / CHUNK : 0);
}

/* The same on each node. */
void pools_leave(unsigned long left)
{
	int node;

	for (node = 0; node < 64; node++)
		if (node_mask() >> node & 1)
			pool_leave(node, left);
}

/* Moves together what can be moved; unlike an allocation's own attempt it is never put off. */
static void node_compact(int node)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/compact", node);
	write_text(path, "1");
}

/* But for a tenth of what is free or lent. */
static bool node_is_whole(int node)
{
	unsigned long nr = 0, free = node_free(node);

	pool_read(node, &nr);
	return free <= node_free_huge(node) + (free + nr * CHUNK) / 10;
}

/*
 * Makes a node's free memory whole again, as far as it can be: whoever asks for
 * huge pages in earnest gets the processors' private lists flushed and memory
 * compacted.
 */
void node_heal(int node)
{
	unsigned long before, end = clock_ms() + 20000;

	while (!node_is_whole(node) && clock_ms() < end) {
		node_compact(node);
		if (pool_read(node, &before))
			return;
		pool_write(node, before + node_free(node) / CHUNK);
		pool_write(node, before);
		sleep_ms(20);
	}
}

static int hog_take(struct hog *hog)
{
	unsigned long nodes = 1UL << hog->node;

	if (node_free(hog->node) < HOG_LENGTH + 2 * HOG_RESERVE)
		return -ENOMEM;
	hog->addr = mmap(NULL, HOG_LENGTH, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (hog->addr == MAP_FAILED)
		return -errno;
	if (syscall(SYS_mbind, hog->addr, HOG_LENGTH, MPOL_BIND, &nodes, 65UL, 0) ||
	    madvise(hog->addr, HOG_LENGTH, MADV_NOHUGEPAGE) ||
	    madvise(hog->addr, HOG_LENGTH, MADV_POPULATE_WRITE))
		return -errno;
	return 0;
}

static uint64_t *hog_pagemap(const struct hog *hog)
{
	size_t size = HOG_LENGTH / PAGE * 8;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t *entries = malloc(size);

	if (entries && pread(fd, entries, size, (uintptr_t)hog->addr / PAGE * 8) != size) {
		free(entries);
		entries = NULL;
	}
	close(fd);
	return entries;
}

/* One page of every 2 MiB of physical memory. Returns how many, or -errno. */
static int hog_choose(const struct hog *hog, struct iovec *iov)
{
	uint64_t *entries = hog_pagemap(hog);
	size_t i, nr_blocks = 0;
	char *seen = NULL;
	int nr = 0;

	if (!entries)
		return -ENOMEM;
	for (i = 0; i < HOG_LENGTH / PAGE; i++)
		if (PAGEMAP_PFN(entries[i]) / CHUNK_PAGES >= nr_blocks)
			nr_blocks = PAGEMAP_PFN(entries[i]) / CHUNK_PAGES + 1;
	seen = calloc(nr_blocks, 1);
	for (i = 0; seen && i < HOG_LENGTH / PAGE && nr < HOG_PINS_MAX; i++) {
		uint64_t block = PAGEMAP_PFN(entries[i]) / CHUNK_PAGES;

		if (!(entries[i] & PAGEMAP_PRESENT) || seen[block])
			continue;
		seen[block] = 1;
		iov[nr++] = (struct iovec) { (char *)hog->addr + i * PAGE, PAGE };
	}
	free(entries);
	free(seen);
	return seen ? nr : -ENOMEM;
}

static int hog_pin(struct hog *hog, const struct iovec *iov, int nr)
{
	struct io_uring_params params = {};

	hog->ring = syscall(SYS_io_uring_setup, 1, &params);
	if (hog->ring < 0 ||
	    syscall(SYS_io_uring_register, hog->ring, IORING_REGISTER_BUFFERS, iov, nr))
		return -errno;
	return 0;
}

/* Others give memory back meanwhile: again, until it does not help any more. */
static int hog_fill_pool(const struct hog *hog)
{
	unsigned long now, last;
	int ret = pool_read(hog->node, &now);

	do {
		unsigned long free = node_free_huge(hog->node);

		last = now;
		if (!ret && free > HOG_RESERVE)
			ret = pool_write(hog->node, now + (free - HOG_RESERVE) / CHUNK);
		if (!ret)
			ret = pool_read(hog->node, &now);
	} while (!ret && now > last);
	return ret;
}

/*
 * All that the kernel can make whole goes into the pool as well, also what it gives back late: the
 * pool asks as hard as anybody may. Half of HOG_HUGE_LEFT is given back: nobody finds much more
 * later, however hard he tries.
 */
static int hog_fill_pool_late(const struct hog *hog)
{
	unsigned long end = clock_ms() + 60000, now, last;
	int ret = pool_read(hog->node, &now);

	do {
		if (clock_ms() > end)
			return -EAGAIN;
		do {
			last = now;
			node_compact(hog->node);
			ret = ret ?: pool_write(hog->node, now + HOG_LENGTH / CHUNK);
			ret = ret ?: pool_read(hog->node, &now);
		} while (!ret && now > last);
		now -= HOG_HUGE_LEFT / 2 / CHUNK;
		ret = ret ?: pool_write(hog->node, now);
	} while (!ret && node_free_huge(hog->node) > HOG_HUGE_LEFT);
	return ret;
}

/* Gives back all but the pages at @iov, which are in order. */
static int hog_let_go(const struct hog *hog, const struct iovec *iov, int nr)
{
	char *at = hog->addr, *end = at + HOG_LENGTH;
	int i;

	for (i = 0; i <= nr; i++) {
		char *next = i < nr ? iov[i].iov_base : end;

		if (next > at && madvise(at, next - at, MADV_DONTNEED))
			return -errno;
		at = next + PAGE;
	}
	return 0;
}

/*
 * Afterwards the node has half of HOG_LENGTH and more free in pieces, and at most
 * HOG_HUGE_LEFT in huge pages; or all is as before.
 */
int hog_fragment(struct hog *hog, int node)
{
	struct iovec *iov = calloc(HOG_PINS_MAX, sizeof(*iov));
	int ret, nr = 0;

	memset(hog, 0, sizeof(*hog));
	hog->node = node;
	hog->ring = -1;
	if (!iov)
		return -ENOMEM;
	node_heal(node);
	ret = hog_take(hog);
	if (!ret)
		ret = nr = hog_choose(hog, iov);
	if (ret > 0)
		ret = hog_pin(hog, iov, nr);
	if (!ret)
		ret = pool_read(node, &hog->pool);
	if (!ret) {
		hog->filled = true;
		ret = hog_fill_pool(hog);
	}
	if (!ret)
		ret = hog_let_go(hog, iov, nr);
	if (!ret)
		ret = hog_fill_pool_late(hog);
	if (ret)
		hog_release(hog);
	free(iov);
	return ret;
}

/* Whether a region on the node has to take small folios, too. */
static bool regions_fall_back(int dev, int node)
{
	struct dvsm_region_info info = {};
	int fd = region_create_on(dev, HOG_REGION, 0, DVSM_POLICY_BIND, 1ULL << node);

	region_populate(fd, 0, 0, NULL);
	region_info(fd, &info);
	close(fd);
	return info.out_nr_fallbacks;
}

/*
 * The same for who needs to find it so: what somebody else freed just before may come back late,
 * and in huge pages, which are lent then, too.
 */
int hog_fragment_for_regions(struct hog *hog, int dev, int node)
{
	int ret, tries;

	pool_leave(node, HOG_NEEDS);
	ret = hog_fragment(hog, node);
	for (tries = 0; !ret && tries < 10 && !regions_fall_back(dev, node); tries++) {
		ret = hog_fill_pool_late(hog);
		if (ret)
			hog_release(hog);
	}
	return ret;
}

/* By the process that has it. */
void hog_release(struct hog *hog)
{
	/* Closing alone leaves the pins to a worker, and the node in pieces until then. */
	if (hog->ring >= 0) {
		syscall(SYS_io_uring_register, hog->ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
		close(hog->ring);
	}
	if (hog->addr && hog->addr != MAP_FAILED)
		munmap(hog->addr, HOG_LENGTH);
	hog->addr = NULL;
	hog->ring = -1;
	hog_settle(hog);
}

/* By whoever comes after that process. The pins go with the ring, a while later. */
void hog_settle(const struct hog *hog)
{
	if (hog->filled)
		pool_write(hog->node, hog->pool);
	node_heal(hog->node);
}
