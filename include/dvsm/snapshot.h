/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots: regions with the contents that another region had at one moment.
 *
 * A snapshot shares all memory with the region that it was taken from until
 * either is written to; then the chunk of 2 MiB is copied and the two diverge
 * there. It is a region like any other, with a handle of its own: it can be
 * mapped, sent, read, written, discarded, taken a snapshot of, and it outlives
 * its parent. What has diverged is known without reading memory: it can be
 * listed, taken back (restore) or taken over (merge).
 *
 * The DEVICE backend alone has snapshots: all calls here but dvsm_region_remap()
 * are EOPNOTSUPP on the others, and dvsm_region_features() has no
 * DVSM_FEATURE_SNAPSHOT there.
 */
#ifndef DVSM_SNAPSHOT_H
#define DVSM_SNAPSHOT_H

#include <dvsm/region.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct dvsm_snapshot_options - what a snapshot is like; all zero is usual.
 *
 * @size: sizeof(struct dvsm_snapshot_options)
 * @flags: DVSM_SNAPSHOT_F_READ_ONLY: the handle can never be mapped or written
 *   for writing; DVSM_SNAPSHOT_F_ADAPTIVE: with a granularity below a chunk, a chunk of
 *   which much was copied becomes one piece again; DVSM_SNAPSHOT_F_STRICT: a write for
 *   which what the snapshot reads cannot be copied fails, in place of losing it
 * @reserved: 0
 * @offset: start of the range, a multiple of DVSM_CHUNK_SIZE
 * @length: of the range, a multiple of DVSM_CHUNK_SIZE or to the region's end; 0
 *   means to the region's end
 * @granularity: bytes that a write on either side copies: DVSM_CHUNK_SIZE, 65536 or
 *   4096; 0 means DVSM_CHUNK_SIZE, or 4096 if adaptive; else EOPNOTSUPP
 * @label: name for people, at most DVSM_NAME_MAX - 1 bytes of '!' to '~'; NULL for none
 */
struct dvsm_snapshot_options {
	size_t size;
	uint32_t flags;
	uint32_t reserved;
	uint64_t offset;
	uint64_t length;
	uint64_t granularity;
	const char *label;
};

/**
 * dvsm_snapshot_take - make a region that holds what another one holds now.
 * @region: handle, of a descriptor opened for writing
 * @options: NULL for all zero
 *
 * The snapshot has the region's length and offsets; outside the given range it
 * reads as zeroes, and has nothing to do with the region, for good: nothing is told,
 * restored, merged or advanced there. It is one moment: writes that happened before it are in, by
 * whatever process, writes that happened after it are not. Costs by resident
 * chunks; copies nothing, except from registrable regions (pinned and implicit
 * ones among them) and where somebody may be writing past the page tables.
 *
 * Its taker pays for the copies that writes to the region make necessary. One
 * that cannot be had costs the snapshot that chunk: SIGBUS and EIO there, counted
 * in out_nr_lost of dvsm_region_info().
 *
 * Return: the snapshot's handle; dvsm_region_destroy() ends it. NULL with errno
 * EBADF (not opened for writing), EINVAL, EOPNOTSUPP, E2BIG, ENOMEM, ENOSPC,
 * EMFILE, EHWPOISON, EINTR.
 */
DVSM_API struct dvsm_region *
dvsm_snapshot_take(const struct dvsm_region *region,
		   const struct dvsm_snapshot_options *options);

/**
 * dvsm_snapshot_restore - give a region a snapshot's contents again.
 * @region: the region that @snapshot was taken from, opened for writing
 * @snapshot: stays as it is; the two share their memory afterwards
 * @restored: NULL, or receives the bytes that had diverged
 *
 * All who map the region see the snapshot's contents from then on; outside the range
 * that the snapshot was taken of the region stays as it is. Costs by chunks that
 * diverged; copies nothing. But a registrable region (pinned and implicit ones are)
 * keeps its memory, which devices may hold, and gets all of the contents by a copy;
 * what a device writes meanwhile may stay.
 *
 * Return: 0; -EINVAL (not a snapshot of @region), -EBADF, -EOPNOTSUPP, and with nothing
 * changed -EBUSY (a device may be writing to the snapshot), -EIO and -EHWPOISON
 * (contents that were lost), -ENOMEM, -ENOSPC, -EINTR.
 */
DVSM_API int dvsm_snapshot_restore(const struct dvsm_region *region,
				   const struct dvsm_region *snapshot, uint64_t *restored);

/**
 * dvsm_snapshot_merge - put what a snapshot has written into its parent.
 * @region: the region that @snapshot was taken from, opened for writing
 * @snapshot: what it has written since it was taken or last merged, in the range that
 *   it was taken of, becomes the region's, for all who map the region, all at once
 * @flags: 0, or DVSM_MERGE_F_SNAPSHOT_WINS or DVSM_MERGE_F_PARENT_WINS: who wins
 *   where both have written
 * @conflicts: NULL, or array, receives the first of the ranges that both have
 *   written, in order of offset, in bytes. An element of length 0 is not in use
 * @nr_conflicts: NULL, or the elements of the array; receives how many such
 *   ranges there are, which may be more. Received with -EAGAIN too
 * @merged: NULL, or receives the bytes that became the region's
 *
 * Chunks that the snapshot only read are not looked at: whoever needs what he
 * read to be unchanged writes there too. Costs by chunks that diverged; copies
 * pages of those that were copied in parts, and nothing else.
 *
 * Return: 0; -EAGAIN: both have written, and @flags is 0: nothing was changed.
 * -EINVAL (not a snapshot of @region, or both flags), -EBADF, -EOPNOTSUPP (also:
 * a registrable region, an unknown flag), and with nothing changed -EBUSY (a
 * device may be writing to the snapshot), -EIO, -ENOMEM, -EINTR.
 */
DVSM_API int dvsm_snapshot_merge(const struct dvsm_region *region,
				 const struct dvsm_region *snapshot, uint32_t flags,
				 struct dvsm_range *conflicts, uint32_t *nr_conflicts,
				 uint64_t *merged);

/**
 * dvsm_region_diff - ranges in which two regions of a family have diverged.
 * @region: handle
 * @other: a snapshot of it, its parent, or another snapshot of that
 * @offset: start of the range
 * @length: of the range; 0 means to the region's end
 * @ranges: array, receives ranges in order of offset, none adjacent
 * @nr_ranges: elements of the array, more than 0
 * @next: NULL, or receives where the next call goes on, or the range's end
 *
 * A page is in the answer if the two do not share it and one of them has
 * written there, even if the bytes are equal; what was copied as a chunk or in parts
 * counts as written to that extent. Between a registrable region and its snapshots, which are
 * copies, that is every chunk with memory. Outside the range that a snapshot was taken of
 * nothing has diverged. Reads no memory; costs by chunks that were written to since where a
 * snapshot is compared with the region or with another snapshot of that, else by chunks that
 * have memory.
 *
 * Return: elements written, 0 when nothing diverged from @offset on; -EINVAL
 * (also: the two have nothing in common), -EBADF, -EFAULT, -ENOMEM, -EINTR,
 * -EOPNOTSUPP.
 */
DVSM_API int dvsm_region_diff(const struct dvsm_region *region, const struct dvsm_region *other,
			      uint64_t offset, uint64_t length, struct dvsm_range *ranges,
			      uint32_t nr_ranges, uint64_t *next);

/**
 * dvsm_snapshot_advance - what was written to a region since this was last asked.
 * @region: handle, of a descriptor opened for writing
 * @snapshot: a snapshot of it, likewise
 * @offset: start of the range, a multiple of DVSM_CHUNK_SIZE
 * @length: of the range, a multiple of DVSM_CHUNK_SIZE or to the region's end; 0
 *   means to the region's end
 * @ranges: as for dvsm_region_diff()
 * @nr_ranges: elements of the array, 256 or more
 * @next: as for dvsm_region_diff()
 *
 * As dvsm_region_diff(), and what is told becomes the snapshot's contents: it holds what
 * the region held at the call, to be saved from there, and the next call tells what was
 * written since. Each chunk is of one moment; for a moment of the whole region compare
 * two snapshots. A snapshot of a range stays one of that: of @offset and @length counts
 * what lies in it.
 *
 * Return: elements written; -EINVAL (also: not a snapshot of it), -EBADF, -EFAULT,
 * -EBUSY (a device may be writing to the first chunk that differs), -ENOMEM, -EIO,
 * -EINTR, -EOPNOTSUPP (also: a registrable region).
 */
DVSM_API int dvsm_snapshot_advance(const struct dvsm_region *region,
				   const struct dvsm_region *snapshot, uint64_t offset,
				   uint64_t length, struct dvsm_range *ranges,
				   uint32_t nr_ranges, uint64_t *next);

/**
 * dvsm_region_diff_each - call a function for each range that has diverged.
 * @region: handle
 * @other: as for dvsm_region_diff()
 * @offset: as for dvsm_region_diff()
 * @length: as for dvsm_region_diff()
 * @each: called with @argument and a range, in order; anything but 0 ends it. May
 *   call the library, and read and write both regions
 * @argument: the function's own
 *
 * Return: 0 after all ranges; what @each answered if that was not 0, errno then
 * being what it left; -errno as for dvsm_region_diff().
 */
DVSM_API int dvsm_region_diff_each(const struct dvsm_region *region,
				   const struct dvsm_region *other, uint64_t offset,
				   uint64_t length,
				   int (*each)(void *argument, const struct dvsm_range *range),
				   void *argument);

/**
 * dvsm_region_unshare - give a range memory that no other region reads.
 * @region: handle, of a descriptor opened for writing
 * @offset: start of the range, a multiple of 4096
 * @length: of the range, a multiple of 4096; 0 means to the region's end
 * @unshared: NULL, or receives the bytes that were shared, also when it fails
 *
 * For before long I/O or registration. Counts as a write to what was shared.
 *
 * Return: 0; -EINVAL, -EBADF, -ENOMEM, -ENOSPC, -EIO, -EINTR, -EOPNOTSUPP.
 */
DVSM_API int dvsm_region_unshare(const struct dvsm_region *region, uint64_t offset,
				 uint64_t length, uint64_t *unshared);

/**
 * dvsm_region_view - a private copy-on-write view of a region, in its place.
 * @region: handle, of a descriptor opened for writing
 * @address: in a shared mapping of the region, a multiple of 4096
 *
 * Takes a snapshot of what is mapped from @address to the end of that mapping,
 * and maps it there instead, with the same protection: pointers stay right, and
 * what this process writes from here on only it sees, with 2 MiB mappings. Meant
 * for a forked worker, whose mapping is its own; the parent's stays. Madvise and
 * mlock of the old mapping do not pass over. A thread that writes while the call
 * runs may write to either.
 *
 * dvsm_snapshot_merge() of @region and the view makes the writes everybody's.
 * dvsm_region_remap() of @region ends the view; dvsm_region_view() replaces it
 * by a fresh one. The view's handle may be destroyed at any time; the memory
 * goes with handle and mapping. Of a registrable region (pinned and implicit ones
 * among them) the view is a copy that cannot be merged.
 *
 * Return: the view's handle; NULL with errno EINVAL (no shared mapping there),
 * EOPNOTSUPP, and what dvsm_snapshot_take() and mmap() say.
 */
DVSM_API struct dvsm_region *dvsm_region_view(const struct dvsm_region *region, void *address);

/**
 * dvsm_region_remap - map a range anew, at the same address and offset.
 * @region: handle, on any backend
 * @address: start of the range, a multiple of 4096, in a shared mapping
 * @length: of the range, a multiple of 4096; 0 means to the end of the mapping
 *
 * For two things. Chunks that lie in the range wholly are mapped by 2 MiB again
 * where the kernel had come down to 4 KiB for this process (after mprotect() of a
 * part, for example) and cannot go back by itself. And a view, or any other region
 * of @region's family, that is mapped there is replaced by @region. Protection
 * stays; madvise and mlock do not pass over. That what is mapped there belongs to
 * @region's family is the caller's business. Costs by mappings of the process.
 *
 * Return: 0; -EINVAL: the range is not page aligned, is not mapped as shared memory
 * of @region's backend in all its parts, or lies beyond @region's end: nothing
 * was changed. -EACCES (a writable mapping, @region is read-only), -ENOMEM: parts
 * may be mapped anew. What open("/proc/self/maps") says.
 */
DVSM_API int dvsm_region_remap(const struct dvsm_region *region, void *address, uint64_t length);

#ifdef __cplusplus
}
#endif

#endif /* DVSM_SNAPSHOT_H */
