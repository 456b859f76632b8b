/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An operation of fail_test.c: a dma-buf of a region in the hands of a driver.
 */
#ifndef DVSM_SELFTEST_FAIL_IMPORT_H
#define DVSM_SELFTEST_FAIL_IMPORT_H

#include <linux/dma-buf.h>

#include "dma/importer/importer.h"
#include "fail_operations.h"

/*
 * Maps it, and writes a byte as a device does. Without the kernel's own mapping, for which
 * the core takes a failure for a bug: a WARN in dma_buf_vmap().
 */
static int import(int importer, int dmabuf)
{
	struct importer_attach attach = {
		.dma_mask = ~0ULL,
		.segment_boundary = ~0ULL,
		.segment_max = 65536,
		.fd = dmabuf,
	};
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_RW };
	char byte = 'x';
	struct importer_copy copy = {
		.user = (uintptr_t)&byte,
		.offset = PAGE,
		.length = 1,
		.flags = IMPORTER_F_WRITE,
	};
	struct importer_map map;

	if (ioctl(importer, IMPORTER_ATTACH, &attach) || ioctl(importer, IMPORTER_MAP, &map) ||
	    ioctl(importer, IMPORTER_COPY, &copy))
		return -errno;
	if (ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync))
		return -errno;
	sync.flags |= DMA_BUF_SYNC_END;
	if (ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync))
		return -errno;
	return map.out_total != CHUNK || map.out_nr_wrong ? BYTES_WRONG : 0;
}

FAIL_OPERATION run_import(int dev)
{
	static int importer = -1;	/* its device is made by the first run, in which nothing fails */
	int fd = region_create(dev, LENGTH, 0), dmabuf, ret;
	char other;

	if (fd < 0)
		return fd;
	dmabuf = region_export(fd, CHUNK, CHUNK);
	if (dmabuf < 0) {
		close(fd);
		return dmabuf;
	}
	if (importer < 0)
		importer = open(IMPORTER_PATH, O_RDWR | O_CLOEXEC);
	ret = import(importer, dmabuf);
	if (!ret)
		ret = pread(fd, &other, 1, CHUNK + PAGE) != 1 ? -errno : other == 'x' ? 0 : BYTES_WRONG;
	ioctl(importer, IMPORTER_DETACH);
	close(dmabuf);
	close(fd);
	return ret;
}

#endif /* DVSM_SELFTEST_FAIL_IMPORT_H */
