/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A chunk of many small folios, with all of its contents: the core splits a folio
 * when the hardware loses a page of it. The lost page is given back afterwards and
 * reads as zeroes.
 */
#ifndef DVSM_SELFTEST_SPLIT_H
#define DVSM_SELFTEST_SPLIT_H

#include "fixture.h"

#define SPLIT_LOST	(300 * PAGE)	/* in the chunk */

/* @map: the chunk's place in a mapping of @fd. 0 or -errno. */
static inline int chunk_split(int fd, char *map, uint64_t chunk)
{
	uint64_t offset = chunk * CHUNK;
	struct dvsm_chunk residency;
	int ret;

	if (write_at(map, map[0]))
		return -EFAULT;
	/* It says EBUSY, because the page cache keeps the page. */
	if (madvise(map + SPLIT_LOST, PAGE, MADV_HWPOISON) && errno != EBUSY)
		return -errno;
	ret = region_discard(fd, offset + SPLIT_LOST, PAGE, NULL);
	if (ret)
		return ret;
	ret = region_residency(fd, offset, CHUNK, &residency, 1);
	if (ret < 0)
		return ret;
	return residency.nr_folios == CHUNK_PAGES - 1 ? 0 : -EAGAIN;
}

#define SPLIT_CHUNK(fd, map, chunk)							\
do {											\
	int split = chunk_split(fd, map, chunk);					\
											\
	if (split == -EINVAL || split == -EPERM)					\
		SKIP(return, "MADV_HWPOISON: %s", strerror(-split));			\
	ASSERT_EQ(0, split);								\
} while (0)

#endif /* DVSM_SELFTEST_SPLIT_H */
