/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * /dev/dvsm_importer: a device in software that takes one dma-buf for each open.
 * For tests. Commands answer 0 or an error.
 */
#ifndef DVSM_IMPORTER_H
#define DVSM_IMPORTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define IMPORTER_PATH		"/dev/dvsm_importer"

/*
 * Attach to a dma-buf as a device of this kind; as before after a detach.
 *
 * @dma_mask: addresses that it can reach
 * @segment_max: bytes of the longest entry that it takes
 * @segment_boundary: no entry crosses a multiple of this + 1
 */
struct importer_attach {
	__aligned_u64 dma_mask;
	__aligned_u64 segment_boundary;
	__u32 segment_max;
	__s32 fd;
};
#define IMPORTER_ATTACH		_IO('i', 1)

/*
 * Map it for DMA in both directions and look at every entry.
 *
 * @out_total: bytes of all entries
 * @out_longest: bytes of the longest one
 * @out_nr_entries: of the list
 * @out_nr_wrong: entries that break a rule of the device, or follow one that ends
 *   where they begin although both would have fitted in one
 */
struct importer_map {
	__aligned_u64 out_total;
	__aligned_u64 out_longest;
	__u32 out_nr_entries;
	__u32 out_nr_wrong;
};
#define IMPORTER_MAP		_IO('i', 2)
#define IMPORTER_UNMAP		_IO('i', 3)

/*
 * Copy between user memory and the dma-buf: the device writes to or reads from the
 * DMA addresses of the list; VMAP: through the kernel's own mapping instead.
 */
#define IMPORTER_F_WRITE	(1U << 0)	/* to the dma-buf */
#define IMPORTER_F_VMAP		(1U << 1)
struct importer_copy {
	__aligned_u64 user;
	__aligned_u64 offset;
	__aligned_u64 length;
	__u32 flags;
	__u32 pad;
};
#define IMPORTER_COPY		_IO('i', 4)

/* Keep what this open has when it is closed, as a device that never lets go. */
#define IMPORTER_KEEP		_IO('i', 5)
/* Let go of all that was kept. */
#define IMPORTER_RELEASE_KEPT	_IO('i', 6)

/* Let go of the dma-buf, mapped or not. The device stays, and may take another one. */
#define IMPORTER_DETACH		_IO('i', 7)

#endif /* DVSM_IMPORTER_H */
