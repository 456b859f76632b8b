/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Regions and devices: ranges that stay in place, dma-bufs, io_uring, and files that
 * are read into and written from a region past the page cache.
 */
#ifndef DVSM_DMA_H
#define DVSM_DMA_H

#include <dvsm/region.h>

#ifdef __cplusplus
extern "C" {
#endif

struct io_uring;	/* liburing's */

/**
 * dvsm_region_pin - keep a range where it is, for devices.
 * @region: handle, of a descriptor opened for writing
 * @offset: start of the range, a multiple of 4096
 * @length: of the range, a multiple of 4096; 0 means to the region's end
 *
 * What has no memory is allocated, what snapshots share is copied. Until the pin
 * ends the range is neither moved nor given other contents. The pin belongs to the
 * handle's open file: it ends with dvsm_region_unpin(), or when the last descriptor
 * and mapping of that file, in whatever process, is gone; dvsm_region_reopen() makes
 * a holder of its own. Each pin is counted against RLIMIT_MEMLOCK, unless the region
 * was made PINNED. On the DEVICE backend alone (DVSM_FEATURE_PIN).
 *
 * Return: 0; -ENOMEM, which dvsm_memlock_explain() puts in words where it was the
 * limit; -ENOSPC, -EINVAL, -EBADF, -EIO, -EINTR, -EHWPOISON; -EOPNOTSUPP, also for
 * memory that the kernel keeps movable.
 */
DVSM_API int dvsm_region_pin(const struct dvsm_region *region, uint64_t offset, uint64_t length);

/**
 * dvsm_region_unpin - end a pin.
 * @region: handle that the range was pinned by, or another of the same open file
 * @offset: as it was pinned
 * @length: as it was pinned
 *
 * Return: 0; -ENOENT if exactly this range is not pinned; -EINVAL, -EBADF,
 * -EOPNOTSUPP.
 */
DVSM_API int dvsm_region_unpin(const struct dvsm_region *region, uint64_t offset,
			       uint64_t length);

/**
 * dvsm_memlock_explain - say why so much could not be pinned, and what to do.
 * @length: bytes that were to be pinned
 * @text: receives one line without a line feed, always NUL-terminated
 * @size: bytes at @text, more than 0; 300 are enough
 *
 * Return: 1 if RLIMIT_MEMLOCK is below @length for the caller, 0 if it is not: other
 * pins of the same user, or a lack of memory, are the reason then.
 */
DVSM_API int dvsm_memlock_explain(uint64_t length, char *text, size_t size);

/**
 * dvsm_region_export_dmabuf - make a dma-buf of a range.
 * @region: handle, of a descriptor opened for writing
 * @offset: start of the range, a multiple of 4096
 * @length: of the range, a multiple of 4096; 0 means to the region's end
 *
 * The range is pinned until the last descriptor, importer and mapping of the dma-buf
 * is gone; it needs neither the handle nor the process any more. On the DEVICE
 * backend alone (DVSM_FEATURE_DMABUF).
 *
 * Return: the dma-buf's descriptor, close-on-exec; as dvsm_region_pin() otherwise.
 */
DVSM_API int dvsm_region_export_dmabuf(const struct dvsm_region *region, uint64_t offset,
				       uint64_t length);

/**
 * dvsm_region_extents - which pieces of a range are contiguous in physical memory.
 * @region: handle
 * @offset: start of the range, a multiple of 4096
 * @length: of the range, a multiple of 4096; 0 means to the region's end
 * @ranges: array, receives the pieces that have memory, in order of offset
 * @nr_ranges: elements of the array, more than 0
 * @next: NULL, or receives where the next call goes on, or the range's end
 *
 * Each piece is as long as it can be. The answer stays true while the range is
 * pinned. On the DEVICE backend alone.
 *
 * Return: elements written; -EINVAL, -EFAULT, -ENOMEM, -EINTR, -EOPNOTSUPP.
 */
DVSM_API int dvsm_region_extents(const struct dvsm_region *region, uint64_t offset,
				 uint64_t length, struct dvsm_range *ranges, uint32_t nr_ranges,
				 uint64_t *next);

/* Bytes of the region that one fixed buffer of dvsm_region_register_uring() covers. */
#define DVSM_URING_BUFFER_SIZE	(1ULL << 30)

/**
 * dvsm_region_register_uring - make a mapping of a region a ring's fixed buffers.
 * @region: handle
 * @ring: the ring, which has no fixed buffers yet
 * @address: of a mapping of the region
 * @length: of the mapping, in bytes
 *
 * Buffer N covers DVSM_URING_BUFFER_SIZE bytes from @address + N *
 * DVSM_URING_BUFFER_SIZE on, the last one less. Every page is allocated, pinned for the
 * ring and counted against RLIMIT_MEMLOCK until the buffers are unregistered or
 * the ring is gone. Works where dvsm_region_features() has DVSM_FEATURE_FIXED_BUFFERS,
 * which regions of /dev/dvsm have from Linux 6.5 on and regions of memfd always, and
 * on /dev/dvsm only for regions that are REGISTRABLE or PINNED.
 *
 * Return: how many buffers were registered, or 0 where this kernel does not take
 * the region: plain addresses work always. -EINVAL; -ENOMEM; what
 * io_uring_register_buffers() says otherwise.
 */
DVSM_API int dvsm_region_register_uring(const struct dvsm_region *region, struct io_uring *ring,
					void *address, uint64_t length);

#define DVSM_IO_F_BUFFERED	(1U << 0)	/* through the page cache only */
#define DVSM_IO_F_PLAIN		(1U << 1)	/* one system call at a time, no io_uring */
#define DVSM_IO_F_UNREGISTERED	(1U << 2)	/* no fixed buffers; a store has none anyway */

/**
 * struct dvsm_io_options - how to load and store; all zero is usual.
 *
 * @size: sizeof(struct dvsm_io_options)
 * @flags: DVSM_IO_F_: what not to use
 * @depth: requests in flight, at most 1024; 0 means 32
 * @block: bytes of a request, a multiple of 4096; 0 means 1 MiB
 * @progress: NULL, or called now and then with the bytes that are done and that are
 *   to be done; anything but 0 ends the call with -ECANCELED. pthread_cancel() waits
 *   for the end of the call
 * @argument: handed to @progress
 */
struct dvsm_io_options {
	size_t size;
	uint32_t flags;
	uint32_t depth;
	uint64_t block;
	int (*progress)(uint64_t done, uint64_t total, void *argument);
	void *argument;
};

/* What happened, in struct dvsm_io_result. */
#define DVSM_IO_HOW_URING	(1U << 0)	/* io_uring was used */
#define DVSM_IO_HOW_FIXED	(1U << 1)	/* with fixed buffers; of a load alone */

/**
 * struct dvsm_io_result - what loading or storing has done.
 *
 * @done: bytes that were carried, in error too; then not always the first ones
 * @direct: those of them past the page cache (O_DIRECT)
 * @how: DVSM_IO_HOW_
 * @reserved: 0
 */
struct dvsm_io_result {
	uint64_t done;
	uint64_t direct;
	uint32_t how;
	uint32_t reserved;
};

/**
 * dvsm_region_load - read a file into a region.
 * @region: handle, of a descriptor opened for writing
 * @offset: where in the region
 * @fd: the file or block device, open for reading; its position is not used
 * @file_offset: where in the file
 * @length: how much; 0 means to the region's end. The end of the file or device ends it too
 * @options: NULL for all zero
 * @result: NULL, or receives what was done
 *
 * Reads past the page cache, many requests at a time, straight into the region's
 * pages. What that cannot be had for is read in the ordinary way: where @offset and
 * @file_offset differ modulo 4096, at ends that are no multiples of 4096, where the
 * file system refuses O_DIRECT, without io_uring, without /proc. @fd may have O_DIRECT
 * itself; ends that are no multiples of the disk's blocks are -EINVAL then where it
 * cannot be opened once more, as without /proc.
 *
 * The file is opened once more, but for DVSM_IO_F_BUFFERED and an @fd without O_DIRECT.
 * Closing that ends the record locks (F_SETLK of fcntl(2)) that the process has on the
 * file, as any close() of it does. Open file description locks (F_OFD_SETLK) and
 * flock() are not touched.
 *
 * Return: 0, if less than @length was there too; -EINVAL, -EBADF, -EACCES (the
 * region's descriptor cannot write), -E2BIG, -EOPNOTSUPP, -ECANCELED, -ENOMEM, -EFAULT (no memory for a page of the region), -EIO and what
 * else read(2) says.
 */
DVSM_API int dvsm_region_load(const struct dvsm_region *region, uint64_t offset, int fd,
			      uint64_t file_offset, uint64_t length,
			      const struct dvsm_io_options *options,
			      struct dvsm_io_result *result);

/**
 * dvsm_region_store - write a region to a file.
 * @region: handle
 * @offset: where in the region
 * @fd: the file or block device, open for writing; its position is not used
 * @file_offset: where in the file
 * @length: how much; 0 means to the region's end
 * @options: NULL for all zero
 * @result: NULL, or receives what was done
 *
 * As dvsm_region_load(). What has no memory in the region becomes a hole of the file,
 * or zeroes where that cannot be, and takes no memory; on MEMFD_HUGETLB, where nothing
 * tells it, it takes the pages that are reserved for it. Others may write to the file
 * elsewhere meanwhile. Says nothing about stable storage: fsync(2) does. The region's
 * file is opened once more, too, always: record locks on it end.
 *
 * Return: as dvsm_region_load(); -EINVAL for a descriptor with O_APPEND, which writes at
 * the end whatever the offset; -ENOSPC, -EFBIG and what else write(2) says.
 */
DVSM_API int dvsm_region_store(const struct dvsm_region *region, uint64_t offset, int fd,
			       uint64_t file_offset, uint64_t length,
			       const struct dvsm_io_options *options,
			       struct dvsm_io_result *result);

#ifdef __cplusplus
}
#endif

#endif /* DVSM_DMA_H */
