// SPDX-License-Identifier: GPL-2.0-only
/*
 * A node without huge pages: nearly all of its memory is taken in huge pages,
 * they are split, one page of each is held by a long-term pin so that nothing
 * can move it, and the others are given back. The memory is free again, in
 * pieces.
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

static int hog_take(struct hog *hog)
{
	unsigned long free = node_free(hog->node), nodes = 1UL << hog->node;
	char *raw;

	if (free < HOG_RESERVE + 64 * MIB)
		return -ENOMEM;
	hog->length = (free - HOG_RESERVE) & ~(CHUNK - 1);
	if (hog->length / CHUNK > HOG_PINS_MAX)
		return -EOVERFLOW;
	raw = mmap(NULL, hog->length + CHUNK, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (raw == MAP_FAILED)
		return -errno;
	hog->addr = (void *)(((uintptr_t)raw + CHUNK - 1) & ~(CHUNK - 1));
	if (syscall(SYS_mbind, hog->addr, hog->length, MPOL_PREFERRED, &nodes, 64UL, 0) ||
	    madvise(hog->addr, hog->length, MADV_HUGEPAGE) ||
	    madvise(hog->addr, hog->length, MADV_POPULATE_WRITE))
		return -errno;
	return 0;
}

static int hog_pin(struct hog *hog)
{
	size_t nr = hog->length / CHUNK, i;
	struct io_uring_params params = {};
	struct iovec *iov = calloc(nr, sizeof(*iov));
	int ret = 0;

	if (!iov)
		return -ENOMEM;
	/* Not the first page: what is left on either side must be small. */
	for (i = 0; i < nr; i++)
		iov[i] = (struct iovec) { (char *)hog->addr + i * CHUNK + CHUNK / 2, 1 };
	hog->ring = syscall(SYS_io_uring_setup, 1, &params);
	if (hog->ring < 0 ||
	    syscall(SYS_io_uring_register, hog->ring, IORING_REGISTER_BUFFERS, iov, nr))
		ret = -errno;
	free(iov);
	return ret;
}

/* -EOPNOTSUPP where the kernel offers no way. */
int hog_fragment(struct hog *hog, int node)
{
	size_t offset;
	int ret;

	memset(hog, 0, sizeof(*hog));
	hog->node = node;
	hog->ring = -1;
	if (access(SPLIT_PATH, W_OK))
		return -EOPNOTSUPP;
	ret = hog_take(hog);
	if (!ret)
		ret = write_text(SPLIT_PATH, "1");
	if (!ret)
		ret = hog_pin(hog);
	for (offset = 0; !ret && offset < hog->length; offset += CHUNK) {
		char *chunk = (char *)hog->addr + offset;

		if (madvise(chunk, CHUNK / 2, MADV_DONTNEED) ||
		    madvise(chunk + CHUNK / 2 + PAGE, CHUNK / 2 - PAGE, MADV_DONTNEED))
			ret = -errno;
	}
	return ret;
}

void hog_release(struct hog *hog)
{
	if (hog->ring >= 0)
		close(hog->ring);
	munmap(hog->addr, hog->length);
}
