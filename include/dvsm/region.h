/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Regions: shared memory with a length, a node policy and contents.
 *
 * A region is a file descriptor with a handle around it. The handle does not
 * change once it is made, so threads may use one handle at the same time; a
 * child inherits handle, descriptor and mappings by fork() and may use all
 * three. The region's memory lives until its last descriptor and mapping, in
 * whatever process, is gone.
 */
#ifndef DVSM_REGION_H
#define DVSM_REGION_H

#include <dvsm/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dvsm_region;

/**
 * struct dvsm_region_options - what a new region is like; all zero is usual.
 *
 * @size: sizeof(struct dvsm_region_options)
 * @backend: DVSM_BACKEND_
 * @flags: DVSM_REGION_F_HUGE_REQUIRED, _PINNED, _REGISTRABLE, _FORK_COPY
 * @policy: DVSM_POLICY_, where memory goes when it is first touched
 * @nr_nodes: bits in the set at @nodes
 * @nodes: node set, bit N % 64 of word N / 64 is node N; NULL for no set
 * @label: name for people, at most DVSM_NAME_MAX - 1 bytes of '!' to '~'; NULL for none
 * @weights: for WEIGHTED_INTERLEAVE with a set: @nr_nodes elements, element N is how many
 *   chunks in a row go to node N, 1 to 255 for each node of the set. NULL for those that
 *   the kernel has in /sys/kernel/mm/mempolicy/weighted_interleave (Linux 6.9 and later),
 *   of all nodes with memory where there is no set; else 1 each
 */
struct dvsm_region_options {
	size_t size;
	uint32_t backend;
	uint32_t flags;
	uint32_t policy;
	uint32_t nr_nodes;
	const uint64_t *nodes;
	const char *label;
	const uint8_t *weights;
};

/**
 * dvsm_region_create - make a region.
 * @length: in bytes, more than 0, a multiple of 4096; takes no memory until it
 *   is touched (unless pinned, or on MEMFD_HUGETLB), so several TiB are fine
 * @options: NULL for all zero
 *
 * On memfd: HUGE_REQUIRED means MEMFD_HUGETLB; PINNED is EOPNOTSUPP, because
 * mlock() holds for one process's mapping only and does not keep pages in place;
 * FORK_COPY and WEIGHTED_INTERLEAVE likewise; a policy on MEMFD_HUGETLB holds for
 * mappings made through this handle only.
 *
 * Return: the handle; dvsm_region_destroy() ends it. NULL with errno EINVAL,
 * EOPNOTSUPP, E2BIG, ENOSPC, ENOMEM (also: the huge page pool is too small),
 * EFBIG (of a memfd: more than RLIMIT_FSIZE), EMFILE, or what open("/dev/dvsm") says
 * when DEVICE was asked for.
 */
DVSM_API struct dvsm_region *
dvsm_region_create(uint64_t length, const struct dvsm_region_options *options);

/**
 * dvsm_region_open - a handle for a descriptor that came from elsewhere.
 * @fd: of a dvsm region, of a /dev/dvsm whose implicit region exists, of a memfd
 *   or of a file on tmpfs or hugetlbfs; belongs to the handle on success, stays
 *   the caller's on failure
 * @options: NULL, or a struct whose @backend may be MEMFD_4K to use a memfd
 *   without transparent huge pages; everything else in it must be zero
 *
 * The region's length is the file's length at this moment.
 *
 * Return: the handle; NULL with errno EBADF (no descriptor, or of another kind),
 * ENOENT (no implicit region yet), EINVAL (an empty file), EMFILE, ENOMEM.
 */
DVSM_API struct dvsm_region *
dvsm_region_open(int fd, const struct dvsm_region_options *options);

/**
 * dvsm_region_reopen - a second, independent descriptor and handle.
 * @region: stays as it is
 * @flags: DVSM_REOPEN_F_READ_ONLY: the new descriptor can never be mapped or
 *   written for writing, by anybody who holds it. EOPNOTSUPP on memfd, where
 *   the owner of a read-only descriptor may open it again for writing
 *
 * Return: the handle, with the access that @region has or less; NULL and errno.
 */
DVSM_API struct dvsm_region *
dvsm_region_reopen(const struct dvsm_region *region, uint32_t flags);

/**
 * dvsm_region_find - a handle for the region that is mapped somewhere in this process.
 * @address: in a mapping
 * @offset: NULL, or receives where in the region that is
 *
 * For who has closed the descriptor, or has a copy that fork() made (FORK_COPY). On the
 * DEVICE backend alone.
 *
 * Return: the handle; NULL and errno: ENOENT (no region is mapped there), EMFILE,
 * ENOMEM, EOPNOTSUPP (an older module); what open("/dev/dvsm") says.
 */
DVSM_API struct dvsm_region *dvsm_region_find(const void *address, uint64_t *offset);

/**
 * dvsm_region_destroy - close the descriptor and end the handle.
 * @region: may be NULL
 *
 * Mappings stay. Other processes' handles stay. Never fails; keeps errno.
 */
DVSM_API void dvsm_region_destroy(struct dvsm_region *region);

/**
 * dvsm_region_fd - the descriptor: to be sent, polled, inherited; close-on-exec.
 *
 * Return: the descriptor, which stays the handle's.
 */
DVSM_API int dvsm_region_fd(const struct dvsm_region *region);

/**
 * dvsm_region_length - length in bytes.
 */
DVSM_API uint64_t dvsm_region_length(const struct dvsm_region *region);

/**
 * dvsm_region_backend - where its memory comes from.
 *
 * Return: DVSM_BACKEND_DEVICE, _MEMFD_HUGETLB, _MEMFD_THP or _MEMFD_4K.
 */
DVSM_API uint32_t dvsm_region_backend(const struct dvsm_region *region);

/**
 * dvsm_region_page_size - the page that the backend aims at, in bytes.
 *
 * Return: 2 MiB, or 4096 on MEMFD_4K. What the memory is really made of is
 * dvsm_region_residency()'s answer.
 */
DVSM_API size_t dvsm_region_page_size(const struct dvsm_region *region);

/**
 * dvsm_region_features - what this region's backend can do.
 *
 * Return: DVSM_FEATURE_ bits; 0 and errno when the device does not answer.
 */
DVSM_API uint64_t dvsm_region_features(const struct dvsm_region *region);

/*
 * FIXED: at @address exactly, EEXIST where something is mapped already.
 * REPLACE: at @address exactly, in place of what is mapped there.
 * PRIVATE: copy-on-write for this process alone, as MAP_PRIVATE.
 */
#define DVSM_MAP_F_FIXED	(1U << 0)
#define DVSM_MAP_F_REPLACE	(1U << 1)
#define DVSM_MAP_F_PRIVATE	(1U << 2)

/**
 * struct dvsm_region_map_options - how to map; all zero is usual.
 *
 * @size: sizeof(struct dvsm_region_map_options)
 * @flags: DVSM_MAP_F_
 * @reserved: 0
 * @address: with FIXED or REPLACE, a multiple of 4096 and not NULL, else NULL. For huge
 *   pages @address and offset must be equal modulo 2 MiB
 */
struct dvsm_region_map_options {
	size_t size;
	uint32_t flags;
	uint32_t reserved;
	void *address;
};

/**
 * dvsm_region_map - map a range of the region into this process.
 * @region: handle
 * @offset: start of the range, a multiple of 4096
 * @length: of the range; 0 means to the region's end; a part of a page counts
 *   as the whole page
 * @prot: PROT_ of mmap()
 * @options: NULL for all zero
 *
 * Without FIXED or REPLACE the address is equal to @offset modulo 2 MiB, so
 * that huge pages fit, on every backend.
 *
 * On MEMFD_HUGETLB a page is 2 MiB here, because the kernel maps no part of one:
 * @offset, and an address that is given, are multiples of it, a part counts as
 * the whole, and with REPLACE a @length that is no multiple is EINVAL.
 *
 * Core dumps leave shared mappings out unless they are asked for them: those of the device by the process's
 * coredump_filter (bit 3: shared files), of MEMFD_HUGETLB likewise (bit 6: shared huge pages). Those of other memfds
 * are marked by MADV_DONTDUMP; madvise(MADV_DODUMP) puts a range in. The dump allocates the holes of that, and they
 * keep the memory: of a sparse region only what is in use should be asked for. PRIVATE mappings of a memfd are dumped
 * as the kernel dumps them, with all of the file that they cover once something was written there.
 *
 * Return: the address; NULL with errno EINVAL, EACCES (PROT_WRITE on a read-only
 * descriptor), EEXIST, ENOMEM, E2BIG, EOPNOTSUPP.
 */
DVSM_API void *dvsm_region_map(const struct dvsm_region *region, uint64_t offset,
			       uint64_t length, int prot,
			       const struct dvsm_region_map_options *options);

/**
 * dvsm_region_unmap - end a mapping or a part of one.
 * @address: a multiple of 4096
 * @length: in bytes, more than 0; as it was given to dvsm_region_map() ends all of
 *   a mapping
 *
 * A huge page of the pool (MEMFD_HUGETLB) goes as a whole: an end inside one means
 * its end if @address is a multiple of 2 MiB, else it is EINVAL.
 *
 * Return: 0; -EINVAL, -ENOMEM as munmap() says.
 */
DVSM_API int dvsm_region_unmap(void *address, uint64_t length);

/**
 * dvsm_region_info - what the region is and holds.
 * @region: handle
 * @info: its size and flags set by the caller; receives the rest. On memfd the
 *   counters (out_nr_), out_resident_peak and out_pinned are 0 and out_id is
 *   the inode's number; the call costs by resident chunks there
 *
 * Return: 0; -EINVAL for a size below the first version's; -E2BIG; -EOPNOTSUPP for
 * flags that do not exist.
 */
DVSM_API int dvsm_region_info(const struct dvsm_region *region, struct dvsm_region_info *info);

/**
 * dvsm_region_nodes - statistics node by node.
 * @region: handle
 * @nodes: array, element N is node N; on memfd only out_resident is counted
 * @nr_nodes: elements of the array; may be 0
 *
 * Return: how many nodes there could be, which may be more than @nr_nodes;
 * -errno; on memfd -EOPNOTSUPP where move_pages() is forbidden, as in containers.
 */
DVSM_API int dvsm_region_nodes(const struct dvsm_region *region,
			       struct dvsm_node_stats *nodes, uint32_t nr_nodes);

/**
 * dvsm_region_populate - allocate a range now, so that no later touch can fail.
 * @region: handle, of a descriptor opened for writing
 * @offset: start of the range, a multiple of 4096
 * @length: of the range, a multiple of 4096; 0 means to the region's end
 * @nr_threads: at most so many CPUs at once; 0 lets the backend choose. memfd
 *   uses one, and so does the device for a caller without CAP_SYS_NICE who is in a CPU
 *   cgroup other than the root, has a nice value above 0 or is SCHED_IDLE, and for one
 *   whose task policy decides about a chunk of the range
 * @populated: NULL, or receives the bytes that this call allocated, also when
 *   it fails with -ENOMEM, -ENOSPC or -EINTR
 *
 * On MEMFD_HUGETLB whole pages are allocated, also those that the range has a part of.
 *
 * Return: 0; -EINVAL, -EBADF, -ENOMEM, -ENOSPC, -EINTR (a fatal signal),
 * -EHWPOISON.
 */
DVSM_API int dvsm_region_populate(const struct dvsm_region *region, uint64_t offset,
				  uint64_t length, uint32_t nr_threads, uint64_t *populated);

/**
 * dvsm_region_discard - give a range's memory back; it reads as zeroes then.
 * @region: handle, of a descriptor opened for writing
 * @offset: start of the range, a multiple of 4096
 * @length: of the range, a multiple of 4096; 0 means to the region's end
 * @discarded: NULL, or receives the bytes that were freed: whole pages only
 *
 * On MEMFD_HUGETLB the pages go back to the pool and stay reserved for the
 * region. -ENOMEM means that another user was faster: the range is discarded
 * and touching it may raise SIGBUS until dvsm_region_populate() succeeds.
 *
 * Return: 0; -EINVAL, -EBADF, -EBUSY (pinned), -ENOMEM.
 */
DVSM_API int dvsm_region_discard(const struct dvsm_region *region, uint64_t offset,
				 uint64_t length, uint64_t *discarded);

/**
 * dvsm_region_residency - what the chunks of a range are made of, and where.
 * @region: handle
 * @offset: start of the range, rounded down to a chunk
 * @length: of the range; 0 means to the region's end
 * @chunks: array, receives chunks that have memory, in order of offset
 * @nr_chunks: elements of the array, more than 0
 * @next: NULL, or receives where the next call goes on, or the range's end
 *
 * On memfd the answer comes from a mapping that the call makes for itself: a
 * chunk is HUGE when the kernel maps it by one 2 MiB entry; the folios of
 * another one are reported as if they were single pages. MEMFD_HUGETLB regions that are
 * resident in parts need userfaultfd() for it, else -EOPNOTSUPP. Where move_pages() is
 * forbidden, as in containers, every chunk's node is DVSM_NODE_MIXED.
 *
 * Return: elements written, 0 when nothing is resident from @offset on;
 * -EINVAL, -EFAULT, -ENOMEM, -EOPNOTSUPP.
 */
DVSM_API int dvsm_region_residency(const struct dvsm_region *region, uint64_t offset,
				   uint64_t length, struct dvsm_chunk *chunks,
				   uint32_t nr_chunks, uint64_t *next);

/**
 * dvsm_region_balance - whether the kernel moves the region's memory to who uses it.
 * @region: handle; of a descriptor opened for writing unless @mode is KEEP
 * @mode: DVSM_BALANCE_KEEP, _OFF, _OBSERVE, _ON; see <linux/dvsm.h>
 *
 * Return: the mode before the call; -EBADF; -EOPNOTSUPP on memfd, for a mode that does
 * not exist, and for OBSERVE and ON with a pinned region.
 */
DVSM_API int dvsm_region_balance(const struct dvsm_region *region, uint32_t mode);

/**
 * dvsm_region_balance_report - where memory is, and where it is used from.
 * @region: handle
 * @uses: table of @nr_nodes rows: element I * @nr_nodes + J is about chunks on node I that
 *   are used from node J
 * @nr_nodes: rows and columns; may be 0
 * @nr_hints: NULL, or receives how often the kernel has looked since the mode was set
 * @nr_held: NULL, or receives how often a chunk stayed because it had moved lately
 *
 * Costs by folios if @nr_nodes is not 0.
 *
 * Return: how many nodes there could be, which may be more than @nr_nodes; rows and
 * columns beyond that are not written. -EFAULT, -ENOMEM, -EOPNOTSUPP (memfd).
 */
DVSM_API int dvsm_region_balance_report(const struct dvsm_region *region,
					struct dvsm_balance_use *uses, uint32_t nr_nodes,
					uint64_t *nr_hints, uint64_t *nr_held);

/**
 * dvsm_region_migrate - move what a range holds to other nodes.
 * @region: handle, of a descriptor opened for writing
 * @migrate: its size, range and node sets set by the caller, as <linux/dvsm.h> says;
 *   receives what became of each byte, in failure too. On memfd move_pages() is
 *   used: page by page, of a chunk that somebody has mapped, be it the caller, only with
 *   CAP_SYS_NICE (else out_referenced), and out_pinned is 0, because nothing tells who
 *   holds it
 *
 * Return: 0 when the range was worked through, though some of it may not have moved;
 * -EINVAL, -E2BIG, -EBADF, -EBUSY (a pinned region), -EINTR, -ENOMEM; -EOPNOTSUPP on a
 * kernel that cannot, and on memfd where move_pages() is forbidden.
 */
DVSM_API int dvsm_region_migrate(const struct dvsm_region *region,
				 struct dvsm_region_migrate *migrate);

/**
 * dvsm_region_migrate_to_node - dvsm_region_migrate() to one node.
 * @region: handle, of a descriptor opened for writing
 * @offset: start of the range, a multiple of 4096
 * @length: of the range, a multiple of 4096; 0 means to the region's end
 * @node: its number
 * @left: NULL, or receives the bytes that are not there now: pinned, in use, or
 *   without memory on the node
 *
 * Return: as dvsm_region_migrate().
 */
DVSM_API int dvsm_region_migrate_to_node(const struct dvsm_region *region, uint64_t offset,
					 uint64_t length, int node, uint64_t *left);

struct bitmask;

/**
 * dvsm_region_migrate_to_nodes - dvsm_region_migrate() to nodes that libnuma names.
 * @region: handle, of a descriptor opened for writing
 * @offset: as above
 * @length: as above
 * @nodes: libnuma's set, as numa_parse_nodestring() makes it; this library does not
 *   need libnuma
 * @left: as above
 *
 * Return: as dvsm_region_migrate().
 */
DVSM_API int dvsm_region_migrate_to_nodes(const struct dvsm_region *region, uint64_t offset,
					  uint64_t length, const struct bitmask *nodes,
					  uint64_t *left);

#ifdef __cplusplus
}
#endif

#endif /* DVSM_REGION_H */
