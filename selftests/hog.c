// SPDX-License-Identifier: GPL-2.0-only
/*
 * A node without huge pages: nearly all of its memory is taken, huge pages among
 * it are split, one page of every 2 MiB of physical memory is held by a long-term
 * pin so that nothing can move it, and the others are given back. The memory is
 * free again, in pieces.
 */
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "common.h"

#define HOG_RESERVE	(48 * MIB)	/* left free, so that nobody is killed */
#define HOG_PINS_MAX	(1 << 14)	/* io_uring's own limit */
#define SPLIT_PATH	"/sys/kernel/debug/split_huge_pages"

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

/*
 * Makes a node's free memory whole again, as far as it can be: whoever asks for
 * huge pages in earnest gets the processors' private lists flushed and memory
 * compacted.
 */
void node_heal(int node)
{
	unsigned long before, end = clock_ms() + 20000;
	char path[128], text[32];

	snprintf(path, sizeof(path),
		 "/sys/devices/system/node/node%d/hugepages/hugepages-2048kB/nr_hugepages", node);
	while (node_free_huge(node) < node_free(node) / 10 * 9 && clock_ms() < end) {
		if (read_number(path, &before))
			return;
		snprintf(text, sizeof(text), "%lu", before + node_free(node) / CHUNK);
		write_text(path, text);
		snprintf(text, sizeof(text), "%lu", before);
		write_text(path, text);
		sleep_ms(20);
	}
}

static int hog_take(struct hog *hog)
{
	unsigned long free = node_free(hog->node), nodes = 1UL << hog->node;
	size_t offset;
	char *raw;

	if (free < HOG_RESERVE + 64 * MIB)
		return -ENOMEM;
	hog->length = (free - HOG_RESERVE) & ~(CHUNK - 1);
	raw = mmap(NULL, hog->length + CHUNK, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (raw == MAP_FAILED)
		return -errno;
	hog->addr = (void *)(((uintptr_t)raw + CHUNK - 1) & ~(CHUNK - 1));
	if (syscall(SYS_mbind, hog->addr, hog->length, MPOL_BIND, &nodes, 65UL, 0) ||
	    madvise(hog->addr, hog->length, MADV_HUGEPAGE) ||
	    madvise(hog->addr, hog->length, MADV_POPULATE_WRITE))
		return -errno;
	/* A split gives up pages that are all zeroes, and what is left is compacted. */
	for (offset = 0; offset < hog->length; offset += PAGE)
		((char *)hog->addr)[offset] = 1;
	return write_text(SPLIT_PATH, "1");
}

static uint64_t *hog_pagemap(const struct hog *hog)
{
	size_t size = hog->length / PAGE * 8;
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
static int hog_choose(struct hog *hog, struct iovec *iov)
{
	uint64_t *entries = hog_pagemap(hog);
	size_t i, nr_blocks = 0;
	char *seen = NULL;
	int nr = 0;

	if (!entries)
		return -ENOMEM;
	for (i = 0; i < hog->length / PAGE; i++)
		if (PAGEMAP_PFN(entries[i]) / CHUNK_PAGES >= nr_blocks)
			nr_blocks = PAGEMAP_PFN(entries[i]) / CHUNK_PAGES + 1;
	seen = calloc(nr_blocks, 1);
	for (i = 0; seen && i < hog->length / PAGE && nr < HOG_PINS_MAX; i++) {
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

/* Pins the pages at @iov, which are in order, and gives back all others. */
static int hog_keep(struct hog *hog, const struct iovec *iov, int nr)
{
	struct io_uring_params params = {};
	char *at = hog->addr, *end = at + hog->length;
	int i;

	hog->ring = syscall(SYS_io_uring_setup, 1, &params);
	if (hog->ring < 0 ||
	    syscall(SYS_io_uring_register, hog->ring, IORING_REGISTER_BUFFERS, iov, nr))
		return -errno;
	for (i = 0; i <= nr; i++) {
		char *next = i < nr ? iov[i].iov_base : end;

		if (next > at && madvise(at, next - at, MADV_DONTNEED))
			return -errno;
		at = next + PAGE;
	}
	return 0;
}

/* -EOPNOTSUPP where the kernel offers no way. */
int hog_fragment(struct hog *hog, int node)
{
	struct iovec *iov;
	int ret;

	memset(hog, 0, sizeof(*hog));
	hog->node = node;
	hog->ring = -1;
	if (access(SPLIT_PATH, W_OK))
		return -EOPNOTSUPP;
	node_heal(node);
	ret = hog_take(hog);
	if (ret)
		return ret;
	iov = calloc(HOG_PINS_MAX, sizeof(*iov));
	if (!iov)
		return -ENOMEM;
	ret = hog_choose(hog, iov);
	if (ret > 0)
		ret = hog_keep(hog, iov, ret);
	free(iov);
	return ret;
}

void hog_release(struct hog *hog)
{
	if (hog->ring >= 0)
		close(hog->ring);
	munmap(hog->addr, hog->length);
	node_heal(hog->node);
}
