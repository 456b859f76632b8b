/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The kernel ABI of /dev/dvsm, the only header that module and library share.
 *
 * Every command takes a struct whose first two words are its size, set by the
 * caller, and its flags. The command's number does not change when its struct
 * grows. A struct grows by appending; a word that an older
 * caller does not send reads as zero and zero means "as before". A newer caller
 * may send a longer struct to an older module as long as what the module does
 * not know is zero. Outputs are named out_; they are written only on success,
 * unless the command says otherwise. Sizes and offsets are in bytes unless
 * named nr_; page means 4096 bytes, chunk means DVSM_CHUNK_SIZE bytes.
 *
 * Errors, one meaning each, the same for all commands:
 *
 *   ENOTTY      no such command
 *   E2BIG       the struct is longer than the module knows, its tail not zero
 *   EINVAL      understood and wrong: a struct shorter than the first version,
 *               a value out of range, a reserved word that is not zero, a range
 *               that is not page aligned or leaves the region
 *   EOPNOTSUPP  unknown flag or mode, or a thing that this kernel, backend or
 *               kind of region cannot do
 *   EFAULT      a pointer that cannot be read or written
 *   EBADF       the descriptor was not opened for what the command needs
 *   EACCES      more access was asked for than the descriptor has, or than a
 *               name's owner and mode give
 *   EPERM       the caller lacks a privilege
 *   ENOENT      no such object
 *   EEXIST      there is one already
 *   EAGAIN      both sides wrote: nothing was changed, look and try again
 *   EIO         contents of a snapshot that were lost: a copy could not be had
 *   EBUSY       pinned, or referenced by somebody who cannot be waited for
 *   ENOSPC      a dvsm limit is reached: of the caller's user or of the device
 *   ENOMEM      the machine, the cgroup or RLIMIT_MEMLOCK has no more memory
 *   EMFILE      no free descriptor
 *   EINTR       a fatal signal came; what was done so far stays done
 *   EHWPOISON   the range holds memory that the hardware has lost
 *
 * A new descriptor is the command's return value and is close-on-exec.
 */
#ifndef _UAPI_LINUX_DVSM_H
#define _UAPI_LINUX_DVSM_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DVSM_DEVICE_PATH	"/dev/dvsm"
#define DVSM_ABI_VERSION	1

#define DVSM_CHUNK_SHIFT	21
#define DVSM_CHUNK_SIZE		(1UL << DVSM_CHUNK_SHIFT)

#define DVSM_IOC_MAGIC		0xD5

/*
 * Features, in struct dvsm_info's out_features: what this module on this kernel
 * can do.
 */
#define DVSM_FEATURE_REGION		(1ULL << 0)
#define DVSM_FEATURE_IMPLICIT_REGION	(1ULL << 1)	/* mmap of the device */
#define DVSM_FEATURE_PINNED		(1ULL << 2)
#define DVSM_FEATURE_POLICY		(1ULL << 3)	/* node policies at creation */
#define DVSM_FEATURE_SNAPSHOT		(1ULL << 5)
#define DVSM_FEATURE_FIXED_BUFFERS	(1ULL << 4)	/* io_uring takes registrable regions */
#define DVSM_FEATURE_PIN		(1ULL << 8)	/* ranges of any region */
#define DVSM_FEATURE_DMABUF		(1ULL << 9)
#define DVSM_FEATURE_NAMES		(1ULL << 10)
#define DVSM_FEATURE_EVENTS		(1ULL << 11)	/* members and their deaths */

/*
 * struct dvsm_info - what the module is and what it allows.
 *
 * @size: sizeof(struct dvsm_info)
 * @flags: none, 0
 * @out_abi_version: DVSM_ABI_VERSION of the module
 * @out_nr_nodes: nodes that the kernel could have; every node number is below it
 * @out_features: DVSM_FEATURE_ bits
 * @out_chunk_size: unit of placement and residency, in bytes
 * @out_length_max: longest region, in bytes
 * @out_limit: what all regions may hold, in bytes
 * @out_limit_user: what the regions of one user may hold, in bytes
 * @out_charged: what all regions hold now, in bytes
 * @out_charged_user: what the caller's user's regions hold now, in bytes
 * @out_nr_regions: regions that exist
 */
struct dvsm_info {
	__u32 size;
	__u32 flags;
	__u32 out_abi_version;
	__u32 out_nr_nodes;
	__aligned_u64 out_features;
	__aligned_u64 out_chunk_size;
	__aligned_u64 out_length_max;
	__aligned_u64 out_limit;
	__aligned_u64 out_limit_user;
	__aligned_u64 out_charged;
	__aligned_u64 out_charged_user;
	__aligned_u64 out_nr_regions;
};
#define DVSM_IOC_INFO		_IO(DVSM_IOC_MAGIC, 0x00)

/*
 * Node policies: which node a chunk is allocated on when it is first touched.
 * A process's own mbind() of its mapping comes before the region's policy, for
 * the chunks which that process touches first through that mapping.
 */
#define DVSM_POLICY_INHERIT		0	/* the toucher's task policy and cpuset */
#define DVSM_POLICY_LOCAL		1	/* the toucher's node, others when it is full */
#define DVSM_POLICY_BIND		2	/* the given nodes and no others */
#define DVSM_POLICY_PREFERRED		3	/* the given nodes, others when they are full */
#define DVSM_POLICY_INTERLEAVE		4	/* chunk by chunk over the given nodes */

/*
 * Kinds of region, in struct dvsm_region_create's flags.
 *
 * HUGE_REQUIRED: a chunk is one 2 MiB folio or nothing: ENOMEM at creation and
 *   populate, SIGBUS at a fault, never smaller folios. The length must be a
 *   multiple of DVSM_CHUNK_SIZE.
 * PINNED: every chunk is allocated at creation, never moves, and is counted
 *   against RLIMIT_MEMLOCK of the creator's user unless it has CAP_IPC_LOCK.
 *   Implies REGISTRABLE.
 * REGISTRABLE: mappings can be pinned for as long as a device likes (io_uring
 *   fixed buffers, RDMA memory regions, VFIO). A snapshot of such a region
 *   copies at once, because a device writes without a fault.
 */
#define DVSM_REGION_F_HUGE_REQUIRED	(1U << 0)
#define DVSM_REGION_F_PINNED		(1U << 1)
#define DVSM_REGION_F_REGISTRABLE	(1U << 2)
/* Only reported, in struct dvsm_region_info: */
#define DVSM_REGION_F_IMPLICIT		(1U << 3)	/* made by mmap of the device */
#define DVSM_REGION_F_READ_ONLY		(1U << 4)	/* this descriptor cannot write */

#define DVSM_NAME_MAX			32	/* of a region's label, with its NUL */

/*
 * struct dvsm_region_create - make a region; the descriptor is returned.
 *
 * On /dev/dvsm. Takes no memory for the contents unless PINNED.
 *
 * @size: sizeof(struct dvsm_region_create)
 * @flags: DVSM_REGION_F_HUGE_REQUIRED, _PINNED, _REGISTRABLE
 * @length: in bytes, more than 0, at most out_length_max, a multiple of the page
 * @policy: DVSM_POLICY_
 * @nr_nodes: bits in the set at @nodes; 0 where the policy takes no set
 * @nodes: pointer to the node set, an array of __u64, bit N of it is node N.
 *   Needed by BIND, PREFERRED and INTERLEAVE (for INTERLEAVE and PREFERRED no
 *   set means all nodes with memory), refused with INHERIT and LOCAL
 * @label: NUL-terminated name for people: shown in maps and debugfs; bytes
 *   after the NUL must be zero
 *
 * Errors beside the common ones: EINVAL for a node without memory.
 */
struct dvsm_region_create {
	__u32 size;
	__u32 flags;
	__aligned_u64 length;
	__u32 policy;
	__u32 nr_nodes;
	__aligned_u64 nodes;
	__u8 label[DVSM_NAME_MAX];
};
#define DVSM_IOC_REGION_CREATE	_IO(DVSM_IOC_MAGIC, 0x01)

#define DVSM_NAME_SIZE			256	/* of a name, with its NUL */

#define DVSM_NAME_F_KEEP		(1U << 0)	/* stays until it is unlinked */

/*
 * struct dvsm_name_create - give a region a name that others can open it by.
 *
 * On /dev/dvsm. A name belongs to the caller's IPC namespace and ends with it, to
 * the caller's fsuid and fsgid, and has mode bits, as POSIX shared memory has. A
 * region may have several names. Without KEEP a name ends with the last user of
 * its region. With KEEP it is a user itself, as if it held a descriptor: the region
 * and its memory stay, charged to the region's user, and the module cannot be
 * unloaded. So KEEP is for the user whose region it is (or CAP_SYS_RESOURCE):
 * EPERM.
 *
 * @size: sizeof(struct dvsm_name_create)
 * @flags: DVSM_NAME_F_KEEP
 * @region: descriptor of the region, opened for writing (EBADF)
 * @mode: 0 to 0777, less the caller's umask; read gives descriptors for reading,
 *   read and write gives those for writing
 * @name: NUL-terminated, 1 to DVSM_NAME_SIZE - 1 bytes, none of them '/', not "."
 *   and not ".."; bytes after the NUL must be zero
 *
 * Errors beside the common ones: EEXIST; ENOSPC if the user has limit_user_names.
 */
struct dvsm_name_create {
	__u32 size;
	__u32 flags;
	__s32 region;
	__u32 mode;
	__u8 name[DVSM_NAME_SIZE];
};
#define DVSM_IOC_NAME_CREATE	_IO(DVSM_IOC_MAGIC, 0x02)

#define DVSM_NAME_F_READ_ONLY		(1U << 1)

/*
 * struct dvsm_name_open - a descriptor of the region that has a name.
 *
 * On /dev/dvsm. The descriptor is returned, for reading and writing, or by flag
 * for reading only. EACCES unless the mode gives that to the caller's fsuid, fsgid
 * and groups, or the caller has CAP_DAC_OVERRIDE or CAP_IPC_OWNER in the user
 * namespace that owns the IPC namespace.
 *
 * @size: sizeof(struct dvsm_name_open)
 * @flags: DVSM_NAME_F_READ_ONLY
 * @name: as in struct dvsm_name_create
 */
struct dvsm_name_open {
	__u32 size;
	__u32 flags;
	__u8 name[DVSM_NAME_SIZE];
};
#define DVSM_IOC_NAME_OPEN	_IO(DVSM_IOC_MAGIC, 0x03)

/*
 * struct dvsm_name_unlink - end a name.
 *
 * On /dev/dvsm. Who has the region open keeps it. EACCES unless the caller's fsuid
 * owns the name or the caller has a capability that struct dvsm_name_open names.
 *
 * @size: sizeof(struct dvsm_name_unlink)
 * @flags: none, 0
 * @name: as in struct dvsm_name_create
 */
struct dvsm_name_unlink {
	__u32 size;
	__u32 flags;
	__u8 name[DVSM_NAME_SIZE];
};
#define DVSM_IOC_NAME_UNLINK	_IO(DVSM_IOC_MAGIC, 0x04)

/*
 * struct dvsm_name - one name.
 *
 * @region_id: out_id of its region
 * @length: of the region, in bytes
 * @uid: owner, as the caller's user namespace sees it
 * @gid: group, likewise
 * @mode: 0 to 0777
 * @flags: DVSM_NAME_F_KEEP
 * @name: NUL-terminated, zeroes after it
 */
struct dvsm_name {
	__aligned_u64 region_id;
	__aligned_u64 length;
	__u32 uid;
	__u32 gid;
	__u32 mode;
	__u32 flags;
	__u8 name[DVSM_NAME_SIZE];
};

/*
 * struct dvsm_name_list - the names of the caller's IPC namespace.
 *
 * On /dev/dvsm. In the order of their creation. Called again with @cursor set to
 * @out_next until @out_nr_names is 0; names that come or go meanwhile are in the
 * answer or not, all others once.
 *
 * @size: sizeof(struct dvsm_name_list)
 * @flags: none, 0
 * @cursor: 0 to begin
 * @names: pointer to an array of struct dvsm_name
 * @nr_names: elements of the array, more than 0
 * @out_nr_names: elements that were written
 * @out_next: where the next call goes on
 */
struct dvsm_name_list {
	__u32 size;
	__u32 flags;
	__aligned_u64 cursor;
	__aligned_u64 names;
	__u32 nr_names;
	__u32 out_nr_names;
	__aligned_u64 out_next;
};
#define DVSM_IOC_NAME_LIST	_IO(DVSM_IOC_MAGIC, 0x05)

/*
 * struct dvsm_region_info - what a region is and holds.
 *
 * On a region, or on /dev/dvsm once its implicit region exists (else ENOENT).
 * Costs by folios, for @out_resident_huge.
 *
 * @size: sizeof(struct dvsm_region_info)
 * @flags: none, 0
 * @out_length: in bytes
 * @out_id: number of the region, unique while the module is loaded, never 0
 * @out_flags: DVSM_REGION_F_
 * @out_policy: DVSM_POLICY_
 * @out_resident: bytes that are allocated
 * @out_resident_huge: those of them in 2 MiB folios
 * @out_resident_peak: the most that @out_resident has been
 * @out_pinned: bytes counted as pinned, once for each pin
 * @out_nr_faults: faults handled, by all processes
 * @out_nr_faults_alloc: those of them that allocated memory
 * @out_nr_faults_private: those of them for a copy in a MAP_PRIVATE mapping
 * @out_nr_faults_remote: those of them answered with memory of another node
 * @out_nr_fallbacks: allocations that got smaller folios than asked for
 * @out_nr_misses: allocations that got another node than asked for
 * @out_nr_failures: faults answered with SIGBUS
 * @out_nr_moved: folios that moved between nodes
 * @out_parent_id: number of the region that a snapshot was taken from, or 0
 * @out_shared: those of the resident bytes that others read too
 * @out_copied: bytes that were copied to this region because of a write
 * @out_nr_cow_faults: writes of this region that had to break a sharing
 * @out_nr_lost: chunks of this snapshot that were lost for want of memory
 */
struct dvsm_region_info {
	__u32 size;
	__u32 flags;
	__aligned_u64 out_length;
	__aligned_u64 out_id;
	__u32 out_flags;
	__u32 out_policy;
	__aligned_u64 out_resident;
	__aligned_u64 out_resident_huge;
	__aligned_u64 out_resident_peak;
	__aligned_u64 out_pinned;
	__aligned_u64 out_nr_faults;
	__aligned_u64 out_nr_faults_alloc;
	__aligned_u64 out_nr_faults_private;
	__aligned_u64 out_nr_faults_remote;
	__aligned_u64 out_nr_fallbacks;
	__aligned_u64 out_nr_misses;
	__aligned_u64 out_nr_failures;
	__aligned_u64 out_nr_moved;
	__aligned_u64 out_parent_id;
	__aligned_u64 out_shared;
	__aligned_u64 out_copied;
	__aligned_u64 out_nr_cow_faults;
	__aligned_u64 out_nr_lost;
};
#define DVSM_IOC_REGION_INFO	_IO(DVSM_IOC_MAGIC, 0x10)

/*
 * struct dvsm_node_stats - what one node has to do with a region.
 *
 * @out_resident: bytes of the region on the node
 * @out_nr_faults: faults taken by CPUs of the node
 * @out_nr_faults_remote: those of them answered with another node's memory
 * @out_nr_allocs: folios allocated on the node
 * @out_nr_misses: folios that wanted the node and got another one
 * @out_nr_moved_in: folios that moved to the node
 * @out_nr_moved_out: folios that moved away from it
 */
struct dvsm_node_stats {
	__aligned_u64 out_resident;
	__aligned_u64 out_nr_faults;
	__aligned_u64 out_nr_faults_remote;
	__aligned_u64 out_nr_allocs;
	__aligned_u64 out_nr_misses;
	__aligned_u64 out_nr_moved_in;
	__aligned_u64 out_nr_moved_out;
};

/*
 * struct dvsm_region_nodes - the region's statistics node by node.
 *
 * @size: sizeof(struct dvsm_region_nodes)
 * @flags: none, 0
 * @nodes: pointer to an array of struct dvsm_node_stats, element N is node N
 * @nr_nodes: elements of the array; those from out_nr_nodes on are not written
 * @out_nr_nodes: nodes there are; may be more than @nr_nodes
 */
struct dvsm_region_nodes {
	__u32 size;
	__u32 flags;
	__aligned_u64 nodes;
	__u32 nr_nodes;
	__u32 out_nr_nodes;
};
#define DVSM_IOC_REGION_NODES	_IO(DVSM_IOC_MAGIC, 0x11)

/*
 * struct dvsm_region_populate - allocate a range now.
 *
 * This and all commands on regions below work on /dev/dvsm too once its
 * implicit region exists (else ENOENT). Needs a descriptor opened for writing. Work is spread over CPUs of the nodes
 * that the memory comes from when the range is large. What is resident already
 * stays as it is. A fatal signal ends it with EINTR.
 *
 * @size: sizeof(struct dvsm_region_populate)
 * @flags: none, 0
 * @offset: start of the range, a multiple of the page
 * @length: of the range, a multiple of the page; 0 means to the region's end
 * @nr_threads: at most so many CPUs at once; 0 lets the module choose
 * @reserved: 0
 * @out_populated: bytes that were allocated by this call; written on ENOMEM,
 *   ENOSPC and EINTR too
 */
struct dvsm_region_populate {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__u32 nr_threads;
	__u32 reserved;
	__aligned_u64 out_populated;
};
#define DVSM_IOC_REGION_POPULATE _IO(DVSM_IOC_MAGIC, 0x12)

/*
 * struct dvsm_region_discard - give the memory of a range back.
 *
 * The range reads as zeroes afterwards, in every process. Folios that lie in
 * the range are freed; of a folio that lies in it with a part only, that part
 * is zeroed. Needs a descriptor opened for writing; EBUSY where the range is pinned.
 *
 * @size: sizeof(struct dvsm_region_discard)
 * @flags: none, 0
 * @offset: start of the range, a multiple of the page
 * @length: of the range, a multiple of the page; 0 means to the region's end
 * @out_discarded: bytes that were freed
 */
struct dvsm_region_discard {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 out_discarded;
};
#define DVSM_IOC_REGION_DISCARD	_IO(DVSM_IOC_MAGIC, 0x13)

#define DVSM_NODE_MIXED			(-1)	/* a chunk with folios of several nodes */

#define DVSM_CHUNK_F_SHARED		(1U << 0)	/* snapshots share it */
#define DVSM_CHUNK_F_PINNED		(1U << 1)	/* never moves */
#define DVSM_CHUNK_F_POISONED		(1U << 2)	/* holds memory the hardware lost */
#define DVSM_CHUNK_F_HUGE		(1U << 3)	/* is one 2 MiB folio */

/*
 * struct dvsm_chunk - one chunk that has memory.
 *
 * @offset: of the chunk, in bytes from the region's start
 * @resident: bytes of it that are allocated
 * @node: where they are, or DVSM_NODE_MIXED
 * @flags: DVSM_CHUNK_F_
 * @nr_folios: folios that it is made of
 * @order_min: log2 of the pages of its smallest folio
 * @order_max: log2 of the pages of its largest folio
 */
struct dvsm_chunk {
	__aligned_u64 offset;
	__u32 resident;
	__s32 node;
	__u32 flags;
	__u16 nr_folios;
	__u8 order_min;
	__u8 order_max;
};

/*
 * struct dvsm_region_residency - what the chunks of a range are made of.
 *
 * Costs by chunks that have memory, not by length. Called again with @offset
 * set to @out_next until @out_next is the end of the range.
 *
 * @size: sizeof(struct dvsm_region_residency)
 * @flags: none, 0
 * @offset: start of the range; rounded down to a chunk
 * @length: of the range; 0 means to the region's end
 * @chunks: pointer to an array of struct dvsm_chunk
 * @nr_chunks: elements of the array, more than 0
 * @out_nr_chunks: elements that were written, in order of offset
 * @out_next: where the next call goes on, or the end of the range
 */
struct dvsm_region_residency {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 chunks;
	__u32 nr_chunks;
	__u32 out_nr_chunks;
	__aligned_u64 out_next;
};
#define DVSM_IOC_REGION_RESIDENCY _IO(DVSM_IOC_MAGIC, 0x14)

#define DVSM_REOPEN_F_READ_ONLY		(1U << 0)

/*
 * struct dvsm_region_reopen - a second, independent descriptor of a region.
 *
 * On a region, or on /dev/dvsm once its implicit region exists. The descriptor
 * is returned. It has the caller's descriptor's access or, by flag, less; never
 * more: EACCES. (Opening /proc/self/fd/N does the same, for reading only.)
 *
 * @size: sizeof(struct dvsm_region_reopen)
 * @flags: DVSM_REOPEN_F_READ_ONLY
 */
struct dvsm_region_reopen {
	__u32 size;
	__u32 flags;
};
#define DVSM_IOC_REGION_REOPEN	_IO(DVSM_IOC_MAGIC, 0x15)

/* A range of a region, in bytes. */
struct dvsm_range {
	__aligned_u64 offset;
	__aligned_u64 length;
};

/*
 * struct dvsm_region_unshare - give a range folios that nobody else reads.
 *
 * For before long I/O or registration. Counts as a write to what was shared.
 * Needs a descriptor opened for writing.
 *
 * @size: sizeof(struct dvsm_region_unshare)
 * @flags: none, 0
 * @offset: start of the range, a multiple of the page
 * @length: of the range, a multiple of the page; 0 means to the region's end
 * @out_unshared: bytes that were shared; written in error too
 */
struct dvsm_region_unshare {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 out_unshared;
};
#define DVSM_IOC_REGION_UNSHARE	_IO(DVSM_IOC_MAGIC, 0x16)

/*
 * struct dvsm_region_diff - where two regions of a family read other contents.
 *
 * On a region. Without reading memory: a page is in the answer if the two do not
 * share it and at least one of them has written there, even if the bytes are equal.
 * What was copied as a chunk, or in parts, counts as written to that extent. Costs by
 * chunks that have memory. Called again with @offset set to @out_next until @out_next
 * is the end of the range.
 *
 * @size: sizeof(struct dvsm_region_diff)
 * @flags: none, 0
 * @offset: start of the range
 * @length: of the range; 0 means to the region's end
 * @ranges: pointer to an array of struct dvsm_range
 * @nr_ranges: elements of the array, more than 0
 * @other: descriptor of a snapshot of the region, of its parent, or of another
 *   snapshot of that; EINVAL if the two have nothing in common
 * @out_next: where the next call goes on, or the end of the range
 * @out_nr_ranges: elements that were written, in order, none adjacent
 * @reserved: 0
 */
struct dvsm_region_diff {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 ranges;
	__u32 nr_ranges;
	__s32 other;
	__aligned_u64 out_next;
	__u32 out_nr_ranges;
	__u32 reserved;
};
#define DVSM_IOC_REGION_DIFF	_IO(DVSM_IOC_MAGIC, 0x17)

/*
 * struct dvsm_region_pin - keep a range where it is, for devices.
 *
 * What has no memory is allocated, what others share is unshared. Until the pin
 * ends the range is not moved and not given other contents: discard, restore and
 * merge answer EBUSY there, and a snapshot copies it at once. Needs a descriptor
 * opened for writing.
 *
 * The pin belongs to the open file that the descriptor is of: it ends with
 * DVSM_IOC_REGION_UNPIN, or when the last of that file's descriptors and mappings
 * is gone. A pin on /dev/dvsm belongs to the implicit region. Each pin is counted
 * against RLIMIT_MEMLOCK of the caller's user unless it has CAP_IPC_LOCK, also where
 * pins overlap; in a region that was made PINNED nothing more is counted.
 *
 * A region whose mappings devices shall register (DVSM_REGION_F_REGISTRABLE) need
 * not be pinned first; a range that is exported as dma-buf is pinned by that.
 *
 * Errors beside the common ones: EOPNOTSUPP for memory in ZONE_MOVABLE, which a
 * region that is made PINNED does not get.
 *
 * @size: sizeof(struct dvsm_region_pin)
 * @flags: none, 0
 * @offset: start of the range, a multiple of the page
 * @length: of the range, a multiple of the page; 0 means to the region's end
 */
struct dvsm_region_pin {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
};
#define DVSM_IOC_REGION_PIN	_IO(DVSM_IOC_MAGIC, 0x18)

/*
 * struct dvsm_region_unpin - end a pin.
 *
 * The memory stays as it is. Needs a descriptor opened for writing. ENOENT if the
 * open file has no pin of exactly this range; of two equal ones one ends.
 *
 * @size: sizeof(struct dvsm_region_unpin)
 * @flags: none, 0
 * @offset: as the pin was made
 * @length: as the pin was made
 */
struct dvsm_region_unpin {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
};
#define DVSM_IOC_REGION_UNPIN	_IO(DVSM_IOC_MAGIC, 0x19)

/*
 * struct dvsm_region_export_dmabuf - make a dma-buf of a range.
 *
 * The dma-buf's descriptor is returned. The range is pinned as by
 * DVSM_IOC_REGION_PIN, by a holder of its own: until the last descriptor, importer
 * and mapping of the dma-buf is gone the memory stays and the region lives on, with
 * all that it holds, whatever becomes of its own descriptors. Devices get it in as
 * few pieces as they allow: contiguous folios are one. Needs a descriptor opened
 * for writing.
 *
 * Errors as for DVSM_IOC_REGION_PIN; EOPNOTSUPP also where the kernel has no
 * dma-bufs.
 *
 * @size: sizeof(struct dvsm_region_export_dmabuf)
 * @flags: none, 0
 * @offset: start of the range, a multiple of the page
 * @length: of the range, a multiple of the page; 0 means to the region's end
 */
struct dvsm_region_export_dmabuf {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
};
#define DVSM_IOC_REGION_EXPORT_DMABUF _IO(DVSM_IOC_MAGIC, 0x1a)

/*
 * struct dvsm_region_extents - what is contiguous in physical memory.
 *
 * The pieces of a range that have memory, each as long as its pages follow one
 * another in physical memory too. Stays true while the range is pinned. Costs by
 * folios. Called again with @offset set to @out_next until @out_next is the end of
 * the range; no piece is cut at the end of the array.
 *
 * @size: sizeof(struct dvsm_region_extents)
 * @flags: none, 0
 * @offset: start of the range, a multiple of the page
 * @length: of the range, a multiple of the page; 0 means to the region's end
 * @ranges: pointer to an array of struct dvsm_range
 * @nr_ranges: elements of the array, more than 0
 * @out_nr_ranges: elements that were written, in order of offset
 * @out_next: where the next call goes on, or the end of the range
 */
struct dvsm_region_extents {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 ranges;
	__u32 nr_ranges;
	__u32 out_nr_ranges;
	__aligned_u64 out_next;
};
#define DVSM_IOC_REGION_EXTENTS	_IO(DVSM_IOC_MAGIC, 0x1b)

/*
 * Members: processes that want their death to be known. A process joins a region
 * with a cookie of its own making. When its address space ends, by exit, signal,
 * the OOM killer or exec, every events descriptor of the region gets a record:
 * after its last thread has run its last instruction in that memory, and before
 * its parent can wait for it. A child by fork is not a member. Processes that share
 * an address space (CLONE_VM without CLONE_THREAD) are one member, which ends with
 * the last of them. I/O that the process has begun may still be on its way.
 */
#define DVSM_EVENTS_KEPT		1024	/* events that a region remembers */

#define DVSM_EVENT_EXIT			1	/* it ended */
#define DVSM_EVENT_EXEC			2	/* it runs another program */
#define DVSM_EVENT_LOST			3	/* @cookie events were not read in time */

/*
 * struct dvsm_event - what read() of an events descriptor gives, one or more.
 *
 * @type: DVSM_EVENT_
 * @pid: of the process, in the reader's pid namespace; 0 where it is not seen
 * @code: for EXIT the status as waitpid() tells it, or -1 where somebody has waited
 *   for the process already; else 0
 * @reserved: 0
 * @cookie: as the process joined with it; for LOST a number of events
 * @sequence: number of the event in its region, from 1; for LOST that of the last
 *   one lost
 * @start_time: when the process began, in nanoseconds of CLOCK_BOOTTIME
 * @time: when it ended, likewise
 */
struct dvsm_event {
	__u32 type;
	__s32 pid;
	__s32 code;
	__u32 reserved;
	__aligned_u64 cookie;
	__aligned_u64 sequence;
	__aligned_u64 start_time;
	__aligned_u64 time;
};

/*
 * struct dvsm_region_events - a descriptor that tells of members' deaths.
 *
 * On a region. The descriptor is returned. It can be polled, and read whole records
 * at a time; read() waits unless O_NONBLOCK is set, EINVAL if not one record fits.
 * Each such descriptor has a place of its own in the region's events and begins with
 * the oldest one that is remembered, so deaths before it was made are told too. A
 * region remembers DVSM_EVENTS_KEPT events; whoever is further behind gets one LOST
 * record in place of the older ones, and DVSM_IOC_REGION_MEMBERS says who is left.
 * It does not keep the region: POLLHUP and end of file when the region is gone.
 *
 * @size: sizeof(struct dvsm_region_events)
 * @flags: none, 0
 * @event_size: sizeof(struct dvsm_event)
 * @reserved: 0
 */
struct dvsm_region_events {
	__u32 size;
	__u32 flags;
	__u32 event_size;
	__u32 reserved;
};
#define DVSM_IOC_REGION_EVENTS	_IO(DVSM_IOC_MAGIC, 0x1c)

/*
 * struct dvsm_region_join - become a member.
 *
 * On a region, with a descriptor opened for writing. Lasts until the process's end,
 * DVSM_IOC_REGION_LEAVE or the region's end, whatever descriptors it closes. EEXIST
 * if the process is a member with this cookie; it may be one with several. ENOSPC
 * if the user has limit_user_members.
 *
 * @size: sizeof(struct dvsm_region_join)
 * @flags: none, 0
 * @cookie: any number; events tell it
 */
struct dvsm_region_join {
	__u32 size;
	__u32 flags;
	__aligned_u64 cookie;
};
#define DVSM_IOC_REGION_JOIN	_IO(DVSM_IOC_MAGIC, 0x1d)

/*
 * struct dvsm_region_leave - be a member no more, without an event.
 *
 * On a region, with a descriptor opened for writing. ENOENT if the process is no
 * member with this cookie.
 *
 * @size: sizeof(struct dvsm_region_leave)
 * @flags: none, 0
 * @cookie: as in struct dvsm_region_join
 */
struct dvsm_region_leave {
	__u32 size;
	__u32 flags;
	__aligned_u64 cookie;
};
#define DVSM_IOC_REGION_LEAVE	_IO(DVSM_IOC_MAGIC, 0x1e)

/*
 * struct dvsm_member - one living member.
 *
 * @cookie: as the process joined with it
 * @start_time: when the process began, in nanoseconds of CLOCK_BOOTTIME
 * @pid: of the process, in the caller's pid namespace; 0 where it is not seen
 * @reserved: 0
 */
struct dvsm_member {
	__aligned_u64 cookie;
	__aligned_u64 start_time;
	__s32 pid;
	__u32 reserved;
};

/*
 * struct dvsm_region_members - who is a member and lives.
 *
 * On a region. In the order in which they joined. Called again with @cursor set to
 * @out_next until @out_nr_members is 0; who joins or goes meanwhile is in the answer
 * or not, all others once.
 *
 * @size: sizeof(struct dvsm_region_members)
 * @flags: none, 0
 * @cursor: 0 to begin
 * @members: pointer to an array of struct dvsm_member
 * @nr_members: elements of the array, more than 0
 * @out_nr_members: elements that were written
 * @out_next: where the next call goes on
 */
struct dvsm_region_members {
	__u32 size;
	__u32 flags;
	__aligned_u64 cursor;
	__aligned_u64 members;
	__u32 nr_members;
	__u32 out_nr_members;
	__aligned_u64 out_next;
};
#define DVSM_IOC_REGION_MEMBERS	_IO(DVSM_IOC_MAGIC, 0x1f)

#define DVSM_SNAPSHOT_F_READ_ONLY	(1U << 0)	/* the descriptor cannot write */
#define DVSM_SNAPSHOT_F_ADAPTIVE	(1U << 1)	/* much that was copied becomes a chunk */

/*
 * struct dvsm_snapshot_take - make a region with the contents of another one.
 *
 * On a region, with a descriptor opened for writing. The new descriptor is
 * returned. The two share all memory until one of them writes; a chunk that
 * somebody may be writing to past the page tables (a device, O_DIRECT), and every
 * chunk of a registrable region, is copied at once.
 *
 * The snapshot holds, for every aligned 8-byte word, what it held at one moment
 * during the call, and all words as of the moment at which the call holds off
 * writers: a write that happened before it is in, one that happened after is not.
 * What a device writes meanwhile may be in or not.
 *
 * The snapshot has the parent's length and offsets; outside the given range it is
 * empty. Its creator pays for copies that are made for it. When one cannot be had
 * while the parent is written to, the snapshot loses that chunk: SIGBUS and EIO.
 *
 * @size: sizeof(struct dvsm_snapshot_take)
 * @flags: DVSM_SNAPSHOT_F_ bits
 * @offset: start of the range, a multiple of DVSM_CHUNK_SIZE
 * @length: of the range, a multiple of DVSM_CHUNK_SIZE or to the region's end;
 *   0 means to the region's end
 * @granularity: bytes that a write on either side copies: DVSM_CHUNK_SIZE (0 means
 *   this, or 4096 if adaptive), 65536 or 4096; else, and for less than a chunk in
 *   regions that must be huge, EOPNOTSUPP. A chunk shared at several granularities
 *   is copied at the finest. What less than a chunk costs: a process that touches
 *   a chunk of which a part was copied maps that chunk by 4 KiB pages, until the
 *   parts have been put together (by adaptation, by unsharing, or when nobody else
 *   reads what they were copied from) and the process maps the range anew.
 * @label: as in struct dvsm_region_create
 */
struct dvsm_snapshot_take {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 granularity;
	__u8 label[DVSM_NAME_MAX];
};
#define DVSM_IOC_SNAPSHOT_TAKE	_IO(DVSM_IOC_MAGIC, 0x20)

/*
 * struct dvsm_snapshot_restore - give a region a snapshot's contents again.
 *
 * On the region that the snapshot was taken from, with a descriptor opened for
 * writing. All who map the region see the snapshot's contents from then on; the
 * two share them. Costs by chunks that differ; copies nothing. EBUSY if a device
 * may be writing to the snapshot, or where the region is pinned; EOPNOTSUPP on a registrable region.
 *
 * @size: sizeof(struct dvsm_snapshot_restore)
 * @flags: none, 0
 * @snapshot: its descriptor; EINVAL if it is not one of this region
 * @reserved: 0
 * @out_restored: bytes that differed
 */
struct dvsm_snapshot_restore {
	__u32 size;
	__u32 flags;
	__s32 snapshot;
	__u32 reserved;
	__aligned_u64 out_restored;
};
#define DVSM_IOC_SNAPSHOT_RESTORE _IO(DVSM_IOC_MAGIC, 0x21)

#define DVSM_MERGE_F_SNAPSHOT_WINS	(1U << 0)
#define DVSM_MERGE_F_PARENT_WINS	(1U << 1)

/*
 * struct dvsm_snapshot_merge - put what a snapshot wrote into its parent.
 *
 * On the region that the snapshot was taken from, with a descriptor opened for
 * writing. Chunks that the snapshot has written since it was taken, or since it
 * was last merged, become the parent's, for all who map it. Chunks that both have
 * written are conflicts: without a flag nothing is changed and the answer is
 * EAGAIN. Costs by chunks of the snapshot; copies nothing. EBUSY if a device may
 * be writing to the snapshot, or where the region is pinned; EOPNOTSUPP on a registrable region.
 *
 * @size: sizeof(struct dvsm_snapshot_merge)
 * @flags: one of DVSM_MERGE_F_, or none
 * @snapshot: its descriptor; EINVAL if it is not one of this region
 * @nr_conflicts: elements of the array
 * @conflicts: pointer to an array of struct dvsm_range
 * @out_nr_conflicts: conflicting ranges; more than @nr_conflicts means that only
 *   the first were written; written with EAGAIN too
 * @reserved: 0
 * @out_merged: bytes that became the parent's
 */
struct dvsm_snapshot_merge {
	__u32 size;
	__u32 flags;
	__s32 snapshot;
	__u32 nr_conflicts;
	__aligned_u64 conflicts;
	__u32 out_nr_conflicts;
	__u32 reserved;
	__aligned_u64 out_merged;
};
#define DVSM_IOC_SNAPSHOT_MERGE	_IO(DVSM_IOC_MAGIC, 0x22)

#endif /* _UAPI_LINUX_DVSM_H */
