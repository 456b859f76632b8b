/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Heaps: malloc() in shared memory.
 *
 * A heap's blocks may be allocated, read, written and freed by any thread of any process that has the heap: the
 * maker's descendants by fork(), others by dvsm_heap_attach(). It lies at the same address everywhere, so
 * pointers into it mean the same in all of them. Its metadata is apart from the blocks. A process that dies,
 * by whatever signal and inside whatever call, neither breaks the heap nor stops the others; what is lost by
 * it is what it had allocated itself, and one block more at most.
 *
 * Processes that share a heap trust each other, as threads do.
 *
 * The functions that are named like C's and POSIX's have their semantics, errno included. Blocks of 16 bytes
 * and more, and all others too, are aligned to 16. A free of what was not allocated, or was freed already, ends
 * the process with a message, not the heap, where it is noticed: in a hardened heap (DVSM_HEAP_F_HARDENED) always, at
 * once; in others at once if the block is beyond 64 KiB or has an owner, if it was the last one that was freed on that
 * CPU, or if the address is in no slab; else when it leaves its CPU's stack for its slab. Where malloc hands it out
 * before that, two have it, and nobody is told.
 *
 * ENOMEM means that the heap's reserve is used up, or, of a private heap, a limit on address space.
 * Memory is taken when it is touched: where the machine or a limit has none left then, that is SIGBUS
 * in a shared heap (of a memfd the kernel may kill somebody instead), and in a private one what
 * becomes of any private memory.
 */
#ifndef DVSM_HEAP_H
#define DVSM_HEAP_H

#include <stdbool.h>

#include <dvsm/region.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Not __malloc__: by that a compiler may assume that a block whose address this program has passed to nobody keeps
 * what it wrote there. A child that inherited the address by fork() writes there, too.
 */
#define DVSM_MALLOC	__attribute__((__warn_unused_result__))
#define DVSM_SIZED(...)	__attribute__((__alloc_size__(__VA_ARGS__)))

struct dvsm_heap;

/*
 * PRIVATE: memory of this process alone; a child gets a copy by fork(), as of any private memory.
 * HARDENED: no stacks: every block is checked when it is freed, so a double or wild free is noticed at once and for
 *   certain, before anybody else can have the block. Some ten times slower.
 * FAKE_NODES: for tests: let CPUs be on nodes in turn, whatever the machine has.
 */
#define DVSM_HEAP_F_PRIVATE	(1U << 0)
#define DVSM_HEAP_F_HARDENED	(1U << 1)
#define DVSM_HEAP_F_FAKE_NODES	(1U << 2)

/**
 * struct dvsm_heap_options - what a new heap is like; all zero is usual.
 *
 * @size: sizeof(struct dvsm_heap_options)
 * @flags: DVSM_HEAP_F_
 * @backend: DVSM_BACKEND_, for the region that the heap makes
 * @reserve: address space, and most that the heap can ever hold, in bytes, up to 1 TiB; 0 means 1 TiB, or what the
 *   process's limits allow, or, of a heap with a name on memfd, what /dev/shm has room for. Takes no memory until it is
 *   used. Less than 64 MiB counts as 64 MiB, and where the tables (512 KiB for each CPU that the machine can have) would
 *   be more than a quarter they come on top
 * @retain: bytes of free memory that the heap keeps rather than give back to the region; 0 means 32 MiB. An
 *   eighth of what is in use comes on top
 * @retain_none: free memory goes back at once. On MEMFD_HUGETLB none does
 * @idle_ms: blocks of a size that are ready on a CPU, and of which that CPU has used up none and had none too many for so
 *   many milliseconds, stop being ready, so that their memory can go back too; 0 means 20, UINT32_MAX never
 * @nr_looks: the first frees of each process are looked at closely: an address that is not a block's is noticed, and a block
 *   that is free already, unless another CPU has it ready, or this one has it ready below its topmost 256. So many of
 *   them; 0 means 8192, UINT32_MAX all. A child of fork() goes on with what its parent has left of them, often none. In
 *   a HARDENED heap all are, and closer
 * @reserved: 0
 * @address: where the heap shall be, a multiple of 2 MiB; NULL lets the library choose
 */
struct dvsm_heap_options {
	size_t size;
	uint32_t flags;
	uint32_t backend;
	uint64_t reserve;
	uint64_t retain;
	uint32_t retain_none;
	uint32_t idle_ms;
	void *address;
	uint32_t nr_looks;
	uint32_t reserved;
};

/**
 * dvsm_heap_create - make a heap.
 * @options: NULL for all zero
 *
 * Return: the heap; NULL with errno EINVAL, EOPNOTSUPP, E2BIG, EEXIST (@address is taken), ENOMEM, or as
 * dvsm_region_create() says.
 */
DVSM_API struct dvsm_heap *dvsm_heap_create(const struct dvsm_heap_options *options);

/**
 * dvsm_heap_create_on - make a heap in a region.
 * @region: of 64 MiB to 1 TiB, all zeroes, and larger than the heap's tables, for which each CPU that the machine can
 *   have needs 512 KiB; belongs to the heap on success
 * @options: as for dvsm_heap_create(); backend and reserve must be 0
 *
 * In a region that was made PINNED every block is memory that devices may be given for long. Nothing of it goes back
 * before the region does: dvsm_heap_trim() gives back 0 bytes, and dvsm_heap_destroy() leaves it, contents included, to
 * who is still attached. What is pinned later, or exported, counts as much for the chunks that it touches.
 *
 * Return: as dvsm_heap_create().
 */
DVSM_API struct dvsm_heap *dvsm_heap_create_on(struct dvsm_region *region,
					       const struct dvsm_heap_options *options);

/**
 * dvsm_heap_attach - use a heap that a process made which is no ancestor.
 * @fd: what dvsm_heap_fd() gave there; belongs to the heap on success
 *
 * A process has a heap once: one that it has made, inherited or attached already is EEXIST too, until it detaches.
 *
 * Return: the heap; NULL with errno EEXIST (something is mapped at the heap's address in this process), EINVAL
 * (no heap, one that is not complete, is damaged, or of another version), or as dvsm_region_open() says.
 */
DVSM_API struct dvsm_heap *dvsm_heap_attach(int fd);

/**
 * dvsm_heap_create_named - make a heap that others find by a name.
 * @name: as for dvsm_name_create(), in <dvsm/name.h>; must not be there yet
 * @mode: 0 to 0777, less the umask
 * @flags: DVSM_NAME_F_KEEP; without it the name ends with the last user of the heap, and memfd has none of that kind
 * @options: as for dvsm_heap_create(); a private heap is EINVAL
 *
 * It gets the name when it is whole: nobody finds one that is being made, nor one whose maker was killed.
 * dvsm_name_unlink() ends the name.
 *
 * On memfd the heap is a file in /dev/shm. With a reserve of 0 its blocks are no more than that file system can hold, so that
 * malloc fails, with ENOMEM, before a touch is SIGBUS; what other files take there is not foreseen, nor is it with a
 * reserve that is given.
 *
 * Return: as dvsm_heap_create() and dvsm_region_create_named() say; ENOMEM also where /dev/shm has no room for 64 MiB.
 */
DVSM_API struct dvsm_heap *dvsm_heap_create_named(const char *name, uint32_t mode, uint32_t flags,
						  const struct dvsm_heap_options *options);

/**
 * dvsm_heap_attach_named - use a heap that has a name.
 * @backend: DVSM_BACKEND_; AUTO looks where AUTO makes heaps, and nowhere else
 *
 * Return: as dvsm_heap_attach() and dvsm_name_open() say.
 */
DVSM_API struct dvsm_heap *dvsm_heap_attach_named(const char *name, uint32_t backend);

/**
 * dvsm_heap_detach - this process stops using a heap.
 *
 * No thread of this process may use it any more, nor its blocks. The heap lives on in other processes, and
 * in descriptors. The default heap stays.
 */
DVSM_API void dvsm_heap_detach(struct dvsm_heap *heap);

/**
 * dvsm_heap_destroy - empty the heap for everybody, then detach.
 *
 * No process may be using it. Its memory goes back at once; who is still attached finds it empty of memory,
 * and must detach. A name that the heap has stays (but for one on the device without DVSM_NAME_F_KEEP, when nobody has
 * the heap any more): nobody can attach by it (EINVAL) nor make another heap of that name (EEXIST) before
 * dvsm_name_unlink().
 */
DVSM_API void dvsm_heap_destroy(struct dvsm_heap *heap);

/**
 * dvsm_heap_default - the heap of dvsm_malloc(), made now if it was not.
 *
 * Return: the heap; NULL and errno as dvsm_heap_create().
 */
DVSM_API struct dvsm_heap *dvsm_heap_default(void);

/**
 * dvsm_heap_region - the region that a heap lies in; it stays the heap's.
 *
 * Return: the region; NULL for a private heap.
 */
DVSM_API struct dvsm_region *dvsm_heap_region(const struct dvsm_heap *heap);

/**
 * dvsm_heap_fd - the descriptor to send to a process that shall attach.
 *
 * Return: the descriptor, which stays the heap's; -EOPNOTSUPP for a private heap.
 */
DVSM_API int dvsm_heap_fd(const struct dvsm_heap *heap);

#define DVSM_HEAP_NR_ROOTS	64

/**
 * dvsm_heap_root_set - remember a block where others can find it.
 * @slot: below DVSM_HEAP_NR_ROOTS
 * @address: in the heap, or NULL
 *
 * Atomic: who reads the slot sees all that was written before. Return: 0; -EINVAL.
 */
DVSM_API int dvsm_heap_root_set(struct dvsm_heap *heap, unsigned int slot, const void *address);

/** dvsm_heap_root_get - what was remembered; NULL for nothing. */
DVSM_API void *dvsm_heap_root_get(const struct dvsm_heap *heap, unsigned int slot);

/**
 * dvsm_heap_root_exchange - remember @desired if the slot still has @expected.
 *
 * Return: true if it did.
 */
DVSM_API bool dvsm_heap_root_exchange(struct dvsm_heap *heap, unsigned int slot,
				      const void *expected, const void *desired);

/** dvsm_heap_offset - an address as an offset in the heap's region; UINT64_MAX if it is not in the heap. */
DVSM_API uint64_t dvsm_heap_offset(const struct dvsm_heap *heap, const void *address);

/** dvsm_heap_address - the reverse; NULL for an offset beyond the heap. */
DVSM_API void *dvsm_heap_address(const struct dvsm_heap *heap, uint64_t offset);

/* On the default heap. */
DVSM_API void dvsm_free(void *address);
DVSM_API DVSM_MALLOC DVSM_SIZED(1) void *dvsm_malloc(size_t size);
DVSM_API DVSM_MALLOC DVSM_SIZED(1, 2) void *dvsm_calloc(size_t nr, size_t size);
DVSM_API DVSM_SIZED(2) void *dvsm_realloc(void *address, size_t size);
DVSM_API DVSM_SIZED(2, 3) void *dvsm_reallocarray(void *address, size_t nr, size_t size);
DVSM_API DVSM_MALLOC DVSM_SIZED(2) void *dvsm_aligned_alloc(size_t alignment, size_t size);
DVSM_API DVSM_MALLOC DVSM_SIZED(2) void *dvsm_memalign(size_t alignment, size_t size);
/* As POSIX has it: returns the error, positive, and leaves errno alone. */
DVSM_API int dvsm_posix_memalign(void **address, size_t alignment, size_t size);
DVSM_API size_t dvsm_malloc_usable_size(const void *address);
/* C23's: the size, and the alignment, that were asked for. Neither is looked at. */
DVSM_API void dvsm_free_sized(void *address, size_t size);
DVSM_API void dvsm_free_aligned_sized(void *address, size_t alignment, size_t size);

/* On a heap. */
DVSM_API void dvsm_heap_free(struct dvsm_heap *heap, void *address);
DVSM_API DVSM_MALLOC DVSM_SIZED(2) void *dvsm_heap_malloc(struct dvsm_heap *heap, size_t size);
DVSM_API DVSM_MALLOC DVSM_SIZED(2, 3) void *dvsm_heap_calloc(struct dvsm_heap *heap, size_t nr,
							    size_t size);
DVSM_API DVSM_SIZED(3) void *dvsm_heap_realloc(struct dvsm_heap *heap, void *address, size_t size);
DVSM_API DVSM_SIZED(3, 4) void *dvsm_heap_reallocarray(struct dvsm_heap *heap, void *address,
						       size_t nr, size_t size);
DVSM_API DVSM_MALLOC DVSM_SIZED(3) void *dvsm_heap_aligned_alloc(struct dvsm_heap *heap,
								size_t alignment, size_t size);
DVSM_API DVSM_MALLOC DVSM_SIZED(3) void *dvsm_heap_memalign(struct dvsm_heap *heap,
							   size_t alignment, size_t size);
/* Returns the error, as above. */
DVSM_API int dvsm_heap_posix_memalign(struct dvsm_heap *heap, void **address, size_t alignment,
				      size_t size);
DVSM_API size_t dvsm_heap_usable_size(const struct dvsm_heap *heap, const void *address);
/* The same, by the name that it has on the default heap. */
DVSM_API size_t dvsm_heap_malloc_usable_size(const struct dvsm_heap *heap, const void *address);
/* As above. */
DVSM_API void dvsm_heap_free_sized(struct dvsm_heap *heap, void *address, size_t size);
DVSM_API void dvsm_heap_free_aligned_sized(struct dvsm_heap *heap, void *address, size_t alignment, size_t size);

/**
 * dvsm_heap_malloc_node - a block in memory of one node.
 * @node: from 0
 *
 * Memory that the node does not have comes from elsewhere, as the region's policy has it. What is not touched yet comes from the
 * node whichever process touches it; on MEMFD_HUGETLB if it is this one.
 * Return: the block; NULL with errno EINVAL (no such node) or ENOMEM.
 */
DVSM_API DVSM_MALLOC DVSM_SIZED(2) void *dvsm_heap_malloc_node(struct dvsm_heap *heap, size_t size,
							      unsigned int node);

/**
 * dvsm_heap_malloc_owned - a block that belongs to an owner.
 * @owner: a number of the program's choice but 0: a client, a session, a process by its pidfd's inode
 *
 * It is used and freed like any other; dvsm_heap_realloc() keeps the owner. An owner's blocks lie together, so 64 KiB
 * are the least that an owner takes for each size class, and each call takes and frees a single block under a lane:
 * some ten times slower than dvsm_heap_malloc().
 *
 * Return: the block; NULL with errno EINVAL or ENOMEM.
 */
DVSM_API DVSM_MALLOC DVSM_SIZED(2) void *dvsm_heap_malloc_owned(struct dvsm_heap *heap, size_t size,
							       uint64_t owner);

/**
 * dvsm_heap_owner_free - free all blocks of an owner.
 *
 * What a dead process has left, for instance, also the block that it died with inside malloc or free. Nobody may
 * allocate for the owner or free its blocks meanwhile; all else may go on. Who dies in here leaves the rest for another call.
 *
 * Return: how many they were; -EINVAL; -EBUSY where every lane is taken, or where a thread that is stopped was just
 * finishing what a dead one had begun: call again.
 */
DVSM_API long dvsm_heap_owner_free(struct dvsm_heap *heap, uint64_t owner);

/**
 * dvsm_heap_join - let others know when this process dies.
 * @owner: what it allocates for by dvsm_heap_malloc_owned(); not 0
 *
 * It is the process that joins; a child by fork() is no member. See dvsm_region_join(), in <dvsm/events.h>.
 * Return: 0; -EINVAL; -EEXIST; -EOPNOTSUPP on backends without events, and for a private heap; or as that says.
 */
DVSM_API int dvsm_heap_join(struct dvsm_heap *heap, uint64_t owner);

/** dvsm_heap_leave - be a member no more. Return: 0; -ENOENT; -EOPNOTSUPP. */
DVSM_API int dvsm_heap_leave(struct dvsm_heap *heap, uint64_t owner);

/** dvsm_heap_events - a descriptor that is readable when members have died; the caller's. Return: it; -EOPNOTSUPP. */
DVSM_API int dvsm_heap_events(const struct dvsm_heap *heap);

/**
 * dvsm_heap_reap - free what dead members have left.
 * @fd: of dvsm_heap_events()
 *
 * For each member that died, or runs another program, since the last call: dvsm_heap_owner_free().
 * Does not wait for deaths, and leaves the descriptor non-blocking; several may reap by one. It waits where it has read
 * of a death and a thread that finishes what was begun there, and began with that only after this call did, is stopped.
 *
 * Return: how many blocks they were; -EOVERFLOW when deaths were forgotten that were not read in time,
 * the others being done: dvsm_region_members() says who lives; -EBUSY as dvsm_heap_owner_free(), and
 * nothing was read: call again; -EBADF.
 */
DVSM_API long dvsm_heap_reap(struct dvsm_heap *heap, int fd);

/**
 * dvsm_heap_trim - give free memory back.
 * @keep: bytes of it that may stay
 *
 * Empties the stacks of the CPUs that the calling thread can run on (it visits each of them, whatever its affinity,
 * and comes back), gives up empty slabs, and gives back to the region the memory of free chunks. On MEMFD_HUGETLB chunks
 * keep their pages, which are the heap's for as long as it lives. A thread that was restricted to just those CPUs of its
 * cpuset that are online cannot be told from one that was not restricted, and is not afterwards.
 *
 * Return: bytes given back.
 */
DVSM_API size_t dvsm_heap_trim(struct dvsm_heap *heap, size_t keep);

/**
 * struct dvsm_heap_stats - a heap in numbers.
 *
 * @size: sizeof(struct dvsm_heap_stats), set by the caller
 * @out_reserved: bytes of address space
 * @out_metadata: bytes of address space that metadata may take of it
 * @out_chunks: bytes of chunks in use
 * @out_retained: bytes of free chunks that keep their memory
 * @out_live: bytes of blocks that the program has
 * @out_live_blocks: how many
 * @out_cached: bytes of blocks that are ready in CPUs' stacks
 * @out_stranded: bytes of @out_cached for CPUs that are offline: they wait until such a CPU comes back
 * @out_free: bytes of free blocks in slabs
 * @out_free_pages: bytes of open chunks that are in no slab
 * @out_huge: bytes of @out_live in blocks of whole chunks
 * @out_deaths: threads that were found dead inside the allocator
 * @out_recovered: how many of them had something in hand, which was put back
 * @out_discarded: bytes given back to the region so far
 *
 * @out_deaths and @out_recovered do not bound what the dead have lost: a process may die with any number of blocks, and
 * outside of the allocator. That is counted by dvsm_heap_account().
 */
struct dvsm_heap_stats {
	size_t size;
	uint64_t out_reserved;
	uint64_t out_metadata;
	uint64_t out_chunks;
	uint64_t out_retained;
	uint64_t out_live;
	uint64_t out_live_blocks;
	uint64_t out_cached;
	uint64_t out_stranded;
	uint64_t out_free;
	uint64_t out_free_pages;
	uint64_t out_huge;
	uint64_t out_deaths;
	uint64_t out_recovered;
	uint64_t out_discarded;
};

/**
 * dvsm_heap_stats - count.
 *
 * Walks the tables without stopping anybody: with others at work the numbers are not of one moment.
 * Return: 0; -EINVAL.
 */
DVSM_API int dvsm_heap_stats(struct dvsm_heap *heap, struct dvsm_heap_stats *stats);

/**
 * struct dvsm_heap_class_stats - one size class.
 *
 * @block_size: bytes of a block
 * @slabs: bytes of its slabs
 * @live: blocks that the program has
 * @cached: blocks in CPUs' stacks
 * @free: free blocks in slabs
 */
struct dvsm_heap_class_stats {
	uint64_t block_size;
	uint64_t slabs;
	uint64_t live;
	uint64_t cached;
	uint64_t free;
};

/**
 * dvsm_heap_stats_classes - the same for each size class, smallest first.
 * @classes: room for @nr of them
 *
 * Return: how many there are, of which no more than @nr were written.
 */
DVSM_API int dvsm_heap_stats_classes(struct dvsm_heap *heap, struct dvsm_heap_class_stats *classes,
				     unsigned int nr);

/**
 * dvsm_heap_stats_nodes - bytes of chunks in use on each node, as far as the heap asked for them there.
 *
 * Return: how many nodes there are, of which no more than @nr were written.
 */
DVSM_API int dvsm_heap_stats_nodes(struct dvsm_heap *heap, uint64_t *chunks, unsigned int nr);

/** dvsm_heap_print - the same, by node and size class, for people; on descriptor @fd. Return: 0; -errno. */
DVSM_API int dvsm_heap_print(struct dvsm_heap *heap, int fd);

/**
 * dvsm_heap_check - audit a heap.
 * @level: 0: finish what the dead have begun. 1: the tables' own invariants, which hold while others work, too.
 *   2: all that dvsm_heap_account() counts is found, once, and adds up; nobody may be at work meanwhile
 *
 * Says what is wrong on standard error if DVSM_DEBUG is set.
 * What a dead process lost, a block for each of its calls at most, nobody has and nobody frees: it counts as live.
 * dvsm_heap_account() counts it as lost for who knows what is his, and dvsm_heap_walk() shows it.
 *
 * Return: 0; -EUCLEAN for a broken heap; -EINVAL; -ENOMEM.
 */
DVSM_API int dvsm_heap_check(struct dvsm_heap *heap, int level);

/**
 * struct dvsm_heap_account - where every byte of a heap is.
 *
 * @size: sizeof(struct dvsm_heap_account), set by the caller
 * @is_known: whether the program has this block, which is neither free nor cached; NULL: it has them all
 * @context: for @is_known
 * @out_reserved: bytes of the heap, the sum of the next six, of which each is counted by itself
 * @out_metadata: of the tables
 * @out_free: of chunks and pages that are free or were never used, and of free blocks in slabs
 * @out_cached: of blocks in CPUs' stacks
 * @out_live: of blocks that the program has
 * @out_lost: of blocks that it does not have, and of pages and chunks that are nobody's. Of the latter there are
 *   some only after damage to the log of a thread that died, and they are an error of the audit, too
 * @out_waste: of what can be no block: the ends of slabs, that of the reserve, and where a private heap could not grow as
 *   something else was there
 * @out_live_blocks: how many
 * @out_lost_blocks: how many
 */
struct dvsm_heap_account {
	size_t size;
	bool (*is_known)(const void *address, size_t size, void *context);
	void *context;
	uint64_t out_reserved;
	uint64_t out_metadata;
	uint64_t out_free;
	uint64_t out_cached;
	uint64_t out_live;
	uint64_t out_lost;
	uint64_t out_waste;
	uint64_t out_live_blocks;
	uint64_t out_lost_blocks;
};

/**
 * dvsm_heap_account - audit a heap, and count.
 *
 * As dvsm_heap_check() at level 2: nobody may be at work meanwhile, @is_known neither. A program that keeps its blocks where
 * they outlive its processes learns so what these lost when they were killed: each of them one block at most, which it
 * was allocating or freeing at that moment, or two in realloc.
 * Return: 0; -EUCLEAN for a broken heap, with the numbers as far as they go; -EINVAL; -E2BIG; -ENOMEM.
 */
DVSM_API int dvsm_heap_account(struct dvsm_heap *heap, struct dvsm_heap_account *account);

/**
 * dvsm_heap_walk - visit every live block.
 * @visit: gets each block's address and usable size; anything but 0 ends the walk
 *
 * Nobody may be at work meanwhile. A block that a process lost when it died is among them.
 * Return: 0, or what @visit answered; -ENOMEM.
 */
DVSM_API int dvsm_heap_walk(struct dvsm_heap *heap,
			    int (*visit)(void *address, size_t size, void *context), void *context);

#ifdef __cplusplus
}
#endif

#endif /* DVSM_HEAP_H */
