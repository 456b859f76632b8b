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
 *   ECANCELED   the same, of a command by io_uring that was cancelled
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
#define DVSM_FEATURE_BALANCE		(1ULL << 14)	/* NUMA balancing by region */
#define DVSM_FEATURE_LIST		(1ULL << 16)	/* regions, and looking at them */
#define DVSM_FEATURE_MIGRATE		(1ULL << 13)
#define DVSM_FEATURE_URING_CMD		(1ULL << 17)	/* commands by io_uring */
#define DVSM_FEATURE_PLACE		(1ULL << 12)	/* node policies by range, at any time */
#define DVSM_FEATURE_PROMOTE		(1ULL << 15)	/* page sizes can be changed */
#define DVSM_FEATURE_FORK_COPY		(1ULL << 18)	/* regions that fork() copies; finding them */

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
 * the chunks which that process touches first through that mapping. The cpuset of
 * whoever touches first is always obeyed.
 */
#define DVSM_POLICY_INHERIT		0	/* the toucher's task policy and cpuset */
#define DVSM_POLICY_LOCAL		1	/* the toucher's node, others when it is full */
#define DVSM_POLICY_BIND		2	/* the given nodes and no others */
#define DVSM_POLICY_PREFERRED		3	/* the given nodes, others when they are full */
#define DVSM_POLICY_INTERLEAVE		4	/* chunk by chunk over the given nodes */
#define DVSM_POLICY_WEIGHTED_INTERLEAVE	5	/* the same, a weight of chunks at a time */

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
 * FORK_COPY: a child that is forked does not share the mappings that it inherits, but
 *   has a snapshot of the region mapped there, of the moment of the fork, whoever
 *   forked and how; DVSM_IOC_REGION_FIND gives its descriptor. What cannot be taken
 *   (ENOMEM) is SIGBUS in the child. Descriptors, and processes that map them,
 *   share the region as ever. Snapshots of it are of this kind, too. Mappings cannot
 *   grow (mremap); private ones are not concerned. Holes are made by DISCARD alone,
 *   not by fallocate() or MADV_REMOVE. Not with REGISTRABLE.
 */
#define DVSM_REGION_F_HUGE_REQUIRED	(1U << 0)
#define DVSM_REGION_F_PINNED		(1U << 1)
#define DVSM_REGION_F_REGISTRABLE	(1U << 2)
#define DVSM_REGION_F_FORK_COPY		(1U << 5)
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
 * @flags: DVSM_REGION_F_HUGE_REQUIRED, _PINNED, _REGISTRABLE, _FORK_COPY
 * @length: in bytes, more than 0, at most out_length_max, a multiple of the page
 * @policy: DVSM_POLICY_
 * @nr_nodes: bits in the set at @nodes; 0 where the policy takes no set
 * @nodes: pointer to the node set, an array of __u64, bit N of it is node N.
 *   Needed by BIND; for PREFERRED and both kinds of INTERLEAVE no set means all
 *   nodes with memory; refused with INHERIT and LOCAL. Nodes without memory are
 *   left out of a set, as mbind() does; EINVAL if none is left that has memory and
 *   that the caller's cpuset allows
 * @label: NUL-terminated name for people, of '!' to '~': shown in maps and debugfs;
 *   bytes after the NUL must be zero
 * @weights: for WEIGHTED_INTERLEAVE with a set: pointer to an array of __u8 with
 *   @nr_nodes elements, element N is how many chunks in a row go to node N, 1 to
 *   255 for each node of the set; 0 for a weight of 1 each
 */
struct dvsm_region_create {
	__u32 size;
	__u32 flags;
	__aligned_u64 length;
	__u32 policy;
	__u32 nr_nodes;
	__aligned_u64 nodes;
	__u8 label[DVSM_NAME_MAX];
	__aligned_u64 weights;
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
 * struct dvsm_region_entry - one region.
 *
 * @id: its out_id
 * @parent_id: of the region that a snapshot was taken from, or 0
 * @length: in bytes
 * @charged: bytes charged to its user for it; what it reads of others is not in it
 * @flags: DVSM_REGION_F_
 * @policy: DVSM_POLICY_
 * @uid: whose it is, as the caller's user namespace sees it
 * @nr_files: open files of it; a mapping keeps one open, a name with KEEP is one
 * @label: NUL-terminated, zeroes after it
 */
struct dvsm_region_entry {
	__aligned_u64 id;
	__aligned_u64 parent_id;
	__aligned_u64 length;
	__aligned_u64 charged;
	__u32 flags;
	__u32 policy;
	__u32 uid;
	__u32 nr_files;
	__u8 label[DVSM_NAME_MAX];
};

/*
 * struct dvsm_region_list - the regions of the caller's user.
 *
 * On /dev/dvsm. With CAP_SYS_ADMIN in the first user namespace the regions of all
 * users. In the order of their ids. Called again with @cursor set to @out_next until
 * @out_nr_regions is 0; regions that come or go meanwhile are in the answer or not,
 * all others once.
 *
 * @size: sizeof(struct dvsm_region_list)
 * @flags: none, 0
 * @cursor: 0 to begin
 * @regions: pointer to an array of struct dvsm_region_entry
 * @nr_regions: elements of the array, more than 0
 * @out_nr_regions: elements that were written
 * @out_next: where the next call goes on
 */
struct dvsm_region_list {
	__u32 size;
	__u32 flags;
	__aligned_u64 cursor;
	__aligned_u64 regions;
	__u32 nr_regions;
	__u32 out_nr_regions;
	__aligned_u64 out_next;
};
#define DVSM_IOC_REGION_LIST	_IO(DVSM_IOC_MAGIC, 0x06)

/*
 * struct dvsm_region_watch - a descriptor that only looks at a region.
 *
 * On /dev/dvsm. The descriptor is returned. It can be given DVSM_IOC_REGION_INFO,
 * _NODES, _RESIDENCY, _EXTENTS and _MEMBERS, and DVSM_IOC_REGION_BALANCE with the mode
 * KEEP; all other commands on regions answer EBADF there, and it cannot be read, written
 * or mapped. It does not keep the region:
 * once the last other user is gone the commands answer ENOENT. Who may look is asked
 * here only: the region's own user, or CAP_SYS_ADMIN in the first user namespace
 * (EACCES). ENOENT if there is no such region.
 *
 * @size: sizeof(struct dvsm_region_watch)
 * @flags: none, 0
 * @id: the region's out_id
 */
struct dvsm_region_watch {
	__u32 size;
	__u32 flags;
	__aligned_u64 id;
};
#define DVSM_IOC_REGION_WATCH	_IO(DVSM_IOC_MAGIC, 0x07)

/*
 * struct dvsm_region_find - a descriptor of the region that the caller has mapped somewhere.
 *
 * On /dev/dvsm. For who has closed the descriptor, or never had one: a child's copy of a
 * region with FORK_COPY. The descriptor is returned, for writing if the mapping was made with
 * one for writing. ENOENT if no region is mapped there; ENOMEM also where a
 * copy could not be taken.
 *
 * @size: sizeof(struct dvsm_region_find)
 * @flags: none, 0
 * @address: in a mapping of the caller's
 * @out_offset: where in the region that is, in bytes
 */
struct dvsm_region_find {
	__u32 size;
	__u32 flags;
	__aligned_u64 address;
	__aligned_u64 out_offset;
};
#define DVSM_IOC_REGION_FIND	_IO(DVSM_IOC_MAGIC, 0x08)

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
 * @out_policy: DVSM_POLICY_ of what no range's own policy covers
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
 * @out_copied: bytes that were copied for this region to read, because it or another
 *   one wrote, or the snapshot was taken. What several read counts in one of them, the
 *   one whose user pays; a chunk counts up to the region's end, whatever it holds
 * @out_nr_cow_faults: writes of this region that had to break a sharing: each is a part
 *   of the size that the snapshot asked for, or a chunk. UNSHARE and the like are not
 *   counted
 * @out_nr_lost: chunks of this snapshot that were lost for want of memory
 * @out_nr_merges: merges of snapshots into this region that were carried out
 * @out_nr_conflicts: conflicting ranges that merges into this region have found, also
 *   those that answered EAGAIN
 * @out_nr_faults_parts: faults that mapped one page, and could not map the chunk, because
 *   the region reads the chunk in parts: what a granularity below a chunk costs
 * @out_taken_offset: where the range begins that a snapshot was taken of, in bytes; 0 of
 *   what is no snapshot
 * @out_taken_length: bytes of that range; of what is no snapshot its length
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
	__aligned_u64 out_nr_merges;
	__aligned_u64 out_nr_conflicts;
	__aligned_u64 out_nr_faults_parts;
	__aligned_u64 out_taken_offset;
	__aligned_u64 out_taken_length;
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
 * @out_nr_moved_in_user: of those that came, by move_pages(), mbind(), migrate_pages()
 * @out_nr_moved_in_balancing: by NUMA balancing, the kernel's or the module's
 * @out_nr_moved_in_command: by DVSM_IOC_REGION_MIGRATE
 * @out_nr_moved_out_user: of those that went, likewise
 * @out_nr_moved_out_balancing: likewise
 * @out_nr_moved_out_command: likewise
 * @out_nr_cow_faults: writes by CPUs of the node that had to break a sharing
 */
struct dvsm_node_stats {
	__aligned_u64 out_resident;
	__aligned_u64 out_nr_faults;
	__aligned_u64 out_nr_faults_remote;
	__aligned_u64 out_nr_allocs;
	__aligned_u64 out_nr_misses;
	__aligned_u64 out_nr_moved_in;
	__aligned_u64 out_nr_moved_out;
	__aligned_u64 out_nr_moved_in_user;
	__aligned_u64 out_nr_moved_in_balancing;
	__aligned_u64 out_nr_moved_in_command;
	__aligned_u64 out_nr_moved_out_user;
	__aligned_u64 out_nr_moved_out_balancing;
	__aligned_u64 out_nr_moved_out_command;
	__aligned_u64 out_nr_cow_faults;
};

/* Of the first version, which ended with @out_nr_moved_out. */
#define DVSM_NODE_STATS_SIZE_0		56

/*
 * struct dvsm_region_nodes - the region's statistics node by node.
 *
 * @size: sizeof(struct dvsm_region_nodes)
 * @flags: none, 0
 * @nodes: pointer to an array of struct dvsm_node_stats, element N is node N
 * @nr_nodes: elements of the array; those from out_nr_nodes on are not written
 * @out_nr_nodes: nodes there are; may be more than @nr_nodes
 * @node_size: sizeof(struct dvsm_node_stats), which tells how far apart the elements
 *   are; 0 means DVSM_NODE_STATS_SIZE_0
 * @reserved: 0
 */
struct dvsm_region_nodes {
	__u32 size;
	__u32 flags;
	__aligned_u64 nodes;
	__u32 nr_nodes;
	__u32 out_nr_nodes;
	__u32 node_size;
	__u32 reserved;
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
 * @nr_threads: at most so many CPUs at once; 0 lets the module choose. Without
 *   CAP_SYS_NICE one, in a CPU cgroup other than the root, with a nice value above 0
 *   or as SCHED_IDLE; one also where a task policy decides about a chunk of the range
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
#define DVSM_CHUNK_F_PINNED		(1U << 1)	/* some of it is pinned and does not move */
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
 * DVSM_CHUNK_F_PINNED tells of all that REGION_MIGRATE counts in @out_pinned, devices with
 * a mapping and direct I/O under way among them. The kernel cannot tell these from 1024
 * other references on a 4 KiB folio, such as mappings of so many processes.
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
 * @out_unshared: bytes that were shared, by chunks: all of one, up to the region's end, of
 *   which the range or others have a part; written in error too
 */
struct dvsm_region_unshare {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 out_unshared;
};
#define DVSM_IOC_REGION_UNSHARE	_IO(DVSM_IOC_MAGIC, 0x16)

#define DVSM_DIFF_F_ADVANCE		(1U << 0)

/*
 * struct dvsm_region_diff - where two regions of a family read other contents.
 *
 * On a region. Without reading memory: a page is in the answer if the two do not
 * share it and at least one of them has written there, even if the bytes are equal.
 * What was copied as a chunk, or in parts, counts as written to that extent. Costs by
 * chunks that were written to, between a region and a snapshot of it or two snapshots of
 * one parent; else by chunks that have memory. A snapshot of a range has diverged inside of
 * that only: beside it nothing is told, also between two snapshots of which one has no more.
 * Called again with @offset set to @out_next until @out_next is the end of the range.
 *
 * ADVANCE, "dirty since last asked": @other is a snapshot of the region (else EINVAL),
 * and what is told becomes its contents, as if it had been taken at the call; what the
 * snapshot itself wrote there is told and gone. So the next call tells what was written
 * since. Each chunk is of one moment. What the snapshot was taken of does not grow: of
 * @offset and @length counts what lies in it. Both descriptors have to be opened for writing,
 * the range of whole chunks, and @nr_ranges 256 or more. Where a chunk cannot be had
 * (EBUSY if a device may be writing to either side) the call ends before it; it fails if that is
 * the first. EOPNOTSUPP on a registrable region. After EFAULT take a new snapshot.
 *
 * @size: sizeof(struct dvsm_region_diff)
 * @flags: DVSM_DIFF_F_ADVANCE or none
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
/* The same, for who looks for it beside the commands on snapshots. */
#define DVSM_IOC_SNAPSHOT_DIFF	DVSM_IOC_REGION_DIFF

/*
 * struct dvsm_region_pin - keep a range where it is, for devices.
 *
 * What has no memory is allocated, what others share is unshared. Until the pin
 * ends the range is not moved and not given away: discard, restore and merge answer
 * EBUSY there, but for restoring a registrable region, which copies into it. A snapshot
 * copies it at once. Needs a descriptor opened for writing.
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

/*
 * NUMA balancing of a region: the kernel takes memory away from mappings for a moment,
 * a part of it at a time, sees by the faults who uses it, and moves it there.
 *
 * OFF: no such faults because of the region. Pinned regions are always OFF.
 * OBSERVE: faults, and no moves: DVSM_IOC_REGION_BALANCE reports what they tell.
 * ON: moves, but of no chunk that has moved to another node in the last
 *   balance_interval_ms (a module parameter); of what snapshots share, balance_shared
 *   chunks in a second, once for all sharers. A chunk whose policy is
 *   BIND moves inside its node set; with PREFERRED and INTERLEAVE none moves.
 *
 * A new region has the mode that the module parameter balance says, a snapshot its
 * parent's. A policy of the task, or of a mapping by mbind(), comes first, as in the
 * kernel: without MPOL_F_NUMA_BALANCING it is not balanced, with it also where the region
 * is OFF. kernel.numa_balancing (sysctl) must be on.
 */
#define DVSM_BALANCE_KEEP		0	/* as it is: only report */
#define DVSM_BALANCE_OFF		1
#define DVSM_BALANCE_OBSERVE		2
#define DVSM_BALANCE_ON			3

/*
 * struct dvsm_balance_use - chunks on one node that are used from one node.
 *
 * @out_nr_chunks: chunks whose last hinting fault came from there
 * @out_nr_would_move: those of them that are on another node and whose last two
 *   came from there
 */
struct dvsm_balance_use {
	__aligned_u64 out_nr_chunks;
	__aligned_u64 out_nr_would_move;
};

/*
 * struct dvsm_region_balance - set the balancing of a region, and report.
 *
 * On a region; with a mode other than KEEP, on a descriptor opened for writing (EBADF).
 * The report is about the time before the mode is set anew, and setting it begins
 * another one. EOPNOTSUPP for OBSERVE or ON with a pinned region.
 *
 * @size: sizeof(struct dvsm_region_balance)
 * @flags: none, 0
 * @mode: DVSM_BALANCE_
 * @nr_nodes: rows, and columns, of the table; 0 for none
 * @uses: pointer to a table of struct dvsm_balance_use: element I * nr_nodes + J is
 *   about chunks on node I that are used from node J. Elements for nodes from
 *   @out_nr_nodes on are not written. A chunk of folios on several nodes counts as
 *   its first one
 * @out_mode: DVSM_BALANCE_ before this call
 * @out_nr_nodes: nodes there are; may be more than @nr_nodes
 * @out_nr_hints: hinting faults since the mode was set
 * @out_nr_held: those that did not move their chunk because it had moved lately, or
 *   because another region shares it and keeps it
 */
struct dvsm_region_balance {
	__u32 size;
	__u32 flags;
	__u32 mode;
	__u32 nr_nodes;
	__aligned_u64 uses;
	__u32 out_mode;
	__u32 out_nr_nodes;
	__aligned_u64 out_nr_hints;
	__aligned_u64 out_nr_held;
};
#define DVSM_IOC_REGION_BALANCE	_IO(DVSM_IOC_MAGIC, 0x25)

#define DVSM_SNAPSHOT_F_READ_ONLY	(1U << 0)	/* the descriptor cannot write */
#define DVSM_SNAPSHOT_F_ADAPTIVE	(1U << 1)	/* much that was copied becomes a chunk */
#define DVSM_SNAPSHOT_F_STRICT		(1U << 2)	/* is not lost: a write fails instead */

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
 * empty, and for DIFF, RESTORE and MERGE has nothing to do with the parent, for good:
 * what is written to it there is its own. Its creator pays for copies that are made for it. When one cannot be had
 * while the parent is written to, the snapshot loses that chunk: SIGBUS and EIO; or,
 * if it is STRICT, the write fails: SIGBUS and ENOMEM, and the snapshot stays.
 * It loses a chunk likewise, or STRICT fails with EHWPOISON, where one that has to be
 * copied has a page that the hardware lost; what is shared shares the loss of that page.
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
 * two share them. Outside the range that the snapshot was taken of the region stays as
 * it is. Costs by chunks that differ; copies nothing but what a device may be writing
 * to: where somebody holds a folio that the region has alone, it stays and gets the
 * contents; EHWPOISON if the hardware lost a page of either there. EBUSY if a device
 * may be writing to the snapshot, or where a range of the region is pinned.
 *
 * A registrable region keeps its folios, and gets the contents by a copy of all chunks
 * that either has memory for; EHWPOISON if the hardware lost a part of one.
 *
 * @size: sizeof(struct dvsm_snapshot_restore)
 * @flags: none, 0
 * @snapshot: its descriptor; EINVAL if it is not one of this region
 * @reserved: 0
 * @out_restored: bytes that differed, as DVSM_IOC_REGION_DIFF tells them; or were copied
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
 * writing. Chunks of the range that it was taken of which the snapshot has written since
 * then, or since it was last merged, become the parent's, for all who map it. Chunks that both have
 * written are conflicts: without a flag nothing is changed and the answer is
 * EAGAIN. Costs by chunks that diverged; of those that were copied in parts the pages
 * that the snapshot wrote are copied, and of those that a device may be writing to,
 * others change hands. EBUSY if a device may be writing to the snapshot, or where the
 * region is pinned; EOPNOTSUPP on a registrable region.
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

/*
 * struct dvsm_uring_cmd - any command by io_uring: the cmd bytes of an SQE.
 *
 * For DVSM_FEATURE_URING_CMD. The SQE's opcode is IORING_OP_URING_CMD, its fd the
 * descriptor that the command would be given to by ioctl(2), its cmd_op the
 * command's number, its uring_cmd_flags 0. The command is carried out by a worker of
 * the ring; the CQE's res is what ioctl(2) would return, or the negative error. The
 * command's struct, and all that it points to, has to stay until then, when its
 * outputs are written. A command that is cancelled while it runs ends with
 * ECANCELED and leaves done what is done. Rings with IORING_SETUP_IOPOLL refuse.
 *
 * @arg: pointer to the command's struct
 * @reserved: 0
 */
struct dvsm_uring_cmd {
	__aligned_u64 arg;
	__aligned_u64 reserved;
};

#define DVSM_PLACE_F_QUERY		(1U << 0)	/* change nothing, tell what there is */

/*
 * struct dvsm_region_place - give a range a node policy, or tell which it has.
 *
 * The policy holds for every process, for what is allocated from now on; what is
 * resident stays where it is. The last policy that a chunk was given counts. A
 * range to which the whole region belongs replaces the region's policy and those
 * of all ranges. A snapshot begins with the policies that its parent has when it is
 * taken, ranges included. What is copied for a region because of a write, or to
 * keep a snapshot's contents, is placed by that region's policy as it is when the
 * copy gets its place. Needs a descriptor opened for writing, but for QUERY.
 *
 * With QUERY @length and @policy are 0, @nodes and @weights may be 0 and are else
 * where the answer is written: the set at @nodes, and the weights of its nodes (0
 * for others) at @weights.
 *
 * @size: sizeof(struct dvsm_region_place)
 * @flags: DVSM_PLACE_F_QUERY
 * @offset: start of the range, a multiple of DVSM_CHUNK_SIZE; with QUERY any byte
 *   of the chunk in question
 * @length: of the range, a multiple of DVSM_CHUNK_SIZE, or up to the region's end; 0
 *   means to the region's end
 * @policy: as in struct dvsm_region_create, and the next three
 * @nr_nodes: bits in the set at @nodes, and elements of @weights
 * @nodes: pointer to the node set
 * @weights: pointer to the weights, or 0
 * @out_policy: DVSM_POLICY_ of the chunk at @offset
 * @out_nr_nodes: bits that its set needs, which may be more than @nr_nodes; 0 for
 *   no set
 * @out_offset: start of the range around @offset that was given this policy
 * @out_length: its length
 */
struct dvsm_region_place {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__u32 policy;
	__u32 nr_nodes;
	__aligned_u64 nodes;
	__aligned_u64 weights;
	__u32 out_policy;
	__u32 out_nr_nodes;
	__aligned_u64 out_offset;
	__aligned_u64 out_length;
};
#define DVSM_IOC_REGION_PLACE	_IO(DVSM_IOC_MAGIC, 0x23)

/*
 * struct dvsm_region_promote - make chunks of small folios huge.
 *
 * Each chunk of the range that has memory in other form than one 2 MiB folio gets one:
 * what could not be had when it was touched, what the kernel or DVSM_IOC_REGION_SPLIT
 * has split, what a region alone reads after it was copied in parts. Pages that had no
 * memory get zeroes. The folio comes from the node that the policy names, or from
 * none. Contents stay; for all who map or share the chunk it is mapped anew. A
 * mapping that had the chunk in small pages keeps small entries of the huge folio
 * until that piece is mapped again. Chunks of which the range has a part only are
 * left out. Needs a descriptor opened for writing; a fatal signal ends it with EINTR.
 *
 * Errors beside the common ones: EBUSY for a region that was made PINNED.
 *
 * @size: sizeof(struct dvsm_region_promote)
 * @flags: none, 0
 * @offset: start of the range, a multiple of the page
 * @length: of the range, a multiple of the page; 0 means to the region's end
 * @out_nr_promoted: chunks that were made huge
 * @out_nr_huge: chunks that were huge
 * @out_nr_busy: chunks that are pinned, or referenced by somebody, or hold memory that
 *   the hardware lost, or of which others share parts; they are as they were
 * @out_nr_nomem: chunks for which there was no huge folio, or a limit in the way
 * @out_nr_holes: chunks without memory
 */
struct dvsm_region_promote {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 out_nr_promoted;
	__aligned_u64 out_nr_huge;
	__aligned_u64 out_nr_busy;
	__aligned_u64 out_nr_nomem;
	__aligned_u64 out_nr_holes;
};
#define DVSM_IOC_REGION_PROMOTE	_IO(DVSM_IOC_MAGIC, 0x26)

/*
 * struct dvsm_region_split - give back what huge chunks do not use.
 *
 * A chunk that is one 2 MiB folio and of whose 4 KiB pages at least half are all zeroes
 * is made of 4 KiB folios, and those of the zeroes are freed. Contents stay, for all
 * who map or share the chunk; the range as for DVSM_IOC_REGION_PROMOTE. Needs a
 * descriptor opened for writing; a fatal signal ends it with EINTR.
 *
 * Errors beside the common ones: EBUSY for a region that was made PINNED; EOPNOTSUPP
 * for one with HUGE_REQUIRED.
 *
 * @size: sizeof(struct dvsm_region_split)
 * @flags: none, 0
 * @offset: start of the range, a multiple of the page
 * @length: of the range, a multiple of the page; 0 means to the region's end
 * @out_nr_split: chunks that were split
 * @out_nr_used: huge chunks that stay, because more than half is used
 * @out_nr_small: chunks that were not huge
 * @out_nr_busy: as in struct dvsm_region_promote
 * @out_nr_nomem: chunks for whose contents there were no 4 KiB folios
 * @out_freed: bytes that were freed
 */
struct dvsm_region_split {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 out_nr_split;
	__aligned_u64 out_nr_used;
	__aligned_u64 out_nr_small;
	__aligned_u64 out_nr_busy;
	__aligned_u64 out_nr_nomem;
	__aligned_u64 out_freed;
};
#define DVSM_IOC_REGION_SPLIT	_IO(DVSM_IOC_MAGIC, 0x27)

/*
 * struct dvsm_region_migrate - move what a range holds to other nodes.
 *
 * Folios that lie in the range with a part are moved whole; what snapshots share is
 * moved once for all who read it. Contents do not change; who reads or writes
 * meanwhile waits for one chunk at most. What a folio is made of stays as it is: a
 * 2 MiB folio for which the nodes have none is left where it is, and counts as failed.
 * The node policy is not changed. Needs a descriptor opened for writing.
 *
 * Answers 0 when the range was worked through, whatever became of it; the outputs tell.
 * Each folio counts in one of them, with all its bytes, or in none if it is on no node
 * of @from. Others can watch by DVSM_IOC_REGION_NODES, fdinfo and trace events.
 *
 * @size: sizeof(struct dvsm_region_migrate)
 * @flags: none, 0
 * @offset: start of the range, a multiple of the page
 * @length: of the range, a multiple of the page; 0 means to the region's end
 * @nodes: pointer to the set of nodes to go to, as in struct dvsm_region_create.
 *   With several, chunk by chunk in turn, and another of them where one is full.
 *   EINVAL if it is empty, has a node without memory, or none that the caller's
 *   cpuset allows; of others those that it forbids are left out
 * @from: pointer to the set of nodes to leave
 * @nr_nodes: bits in the set at @nodes
 * @nr_from: bits in the set at @from; 0 means all nodes
 * @out_next: where the work ended: the end of the range, or where to go on after EINTR
 * @out_moved: bytes that were moved
 * @out_there: bytes that were on a node of @nodes before
 * @out_pinned: bytes that stay because of DVSM_IOC_REGION_PIN, a dma-buf, or a device
 *   or direct I/O that uses them
 * @out_referenced: bytes that somebody else used, each time that they were tried
 * @out_failed: bytes for which there was no memory, or that the hardware has lost
 * @out_pinned_command: those of @out_pinned in a range with a DVSM_IOC_REGION_PIN
 * @out_pinned_dmabuf: else, those in a range that is exported as dma-buf
 * @out_pinned_device: the others: a device has them by a mapping, or direct I/O
 *
 * Errors beside the common ones: EBUSY for a pinned region. The outputs are written
 * with EBUSY, ENOMEM and EINTR too.
 */
struct dvsm_region_migrate {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 nodes;
	__aligned_u64 from;
	__u32 nr_nodes;
	__u32 nr_from;
	__aligned_u64 out_next;
	__aligned_u64 out_moved;
	__aligned_u64 out_there;
	__aligned_u64 out_pinned;
	__aligned_u64 out_referenced;
	__aligned_u64 out_failed;
	__aligned_u64 out_pinned_command;
	__aligned_u64 out_pinned_dmabuf;
	__aligned_u64 out_pinned_device;
};
#define DVSM_IOC_REGION_MIGRATE	_IO(DVSM_IOC_MAGIC, 0x24)

#endif /* _UAPI_LINUX_DVSM_H */
