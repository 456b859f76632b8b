/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The heap's vocabulary: what lies where, who may change it, and why a death changes nothing.
 *
 * A block is free, cached, in a lane, or live.
 *
 *   word     64 bits and a tag. A set bit is a free thing: a block of a slab, a page of a chunk, a chunk of
 *            the heap. Words are the only place where memory changes hands, by one 16-byte compare and
 *            exchange that also writes the tag (lane, sequence number) of the step that did it.
 *   slab     a run of 1 to 32 pages of 64 KiB that holds blocks of one size class.
 *   chunk    2 MiB: 32 pages on one node; or a part of a huge block.
 *   stack    free blocks of one class that one CPU holds ready: malloc pops, free pushes, each in a
 *            restartable sequence with one commit store. It belongs to a CPU, so no death touches it.
 *   lane     a place to work in: a robust lock that is only ever tried, never waited for, and a log of the
 *            one step that its holder is in. There are more lanes than CPUs.
 *   hint     "this chunk may have such pages or slabs". Hints may be wrong in one direction: set for nothing.
 *
 * Invariants, which heap_audit.c checks:
 *
 *   live blocks of a slab = its blocks - set bits - blocks in stacks - blocks in lanes
 *   bits are set only in words of a slab that is named by class table and slab table alike
 *   a page of an open chunk is free (bit set), or in exactly one slab, or in a lane
 *   a chunk is free (bit set), or open, or a huge block's, or barred, or in a lane
 *   a slab with a set bit has its avail bit set, or is some CPU's current slab, or is in a lane
 *
 * Steps. The holder of a lane writes what it is about to do into the log, stores the lane's state (operation,
 * cursor, new sequence number) and then does it with one compare and exchange. Whoever overwrites the tag of a
 * step that is still outstanding first notes in that lane's help word that the step was done. So a lane's log,
 * the word and the help word say for certain whether a step was done (dvsm_lane_done), at any instant, for ever.
 *
 * Death. The kernel marks the robust locks of a thread that dies, whatever kills it. Who tries such a lane next
 * gets it together with the log and goes on in the dead one's name until the lane is idle, tags and all; should
 * it die there, the next one does the same. Blocks that the dead one held in its hands go back where they came
 * from. What is lost is one block at most: one that malloc had taken out of a stack and not yet returned, or
 * that free had been given and not yet pushed.
 *
 * A bit is set in a word by nobody but the lane that holds the thing; so a free that finds its bit set is a
 * double free. A slab's class and owner may be read without a lock as follows: read the word, then the two, then
 * exchange the word. Retiring a slab changes its words before its class, making one sets owner and class before the
 * words, and each change is a new tag; so if the exchange succeeds they were right. And they are right for who has
 * a block of the slab in hand. They are nobody's to ask for otherwise: a page whose slab nobody keeps may be another
 * one's at once, and that is why the log has the class of a slab that is filled or drained.
 *
 * Memory order: x86-64. Locked instructions are full barriers; other stores are seen in program order.
 */
#ifndef DVSM_HEAP_TYPES_H
#define DVSM_HEAP_TYPES_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

#include <dvsm/heap_inline.h>
#undef dvsm_malloc
#undef dvsm_free

#include "internal.h"

#define DVSM_HEAP_MAGIC		0x3170616568565344ULL	/* "DSVheap1" */
#define DVSM_HEAP_VERSION	6
#define DVSM_HEAP_CHUNK_SHIFT	21
#define DVSM_HEAP_PAGE_SHIFT	16
#define DVSM_HEAP_CHUNK_SIZE	(1UL << DVSM_HEAP_CHUNK_SHIFT)
#define DVSM_HEAP_PAGE_SIZE	(1UL << DVSM_HEAP_PAGE_SHIFT)
#define DVSM_CHUNK_PAGES	32U
#define DVSM_SLAB_WORDS		64U	/* words that every page has room for */
#define DVSM_HEAP_SIZE_MIN	(64UL << 20)
#define DVSM_HEAP_SIZE_MAX	(1UL << 40)
#define DVSM_HEAP_CPUS_MAX	2048U
#define DVSM_HEAP_NODES_MAX	64U
#define DVSM_HEAP_ROOTS		64U

/*
 * Classes are numbered from 1. What else a byte of the class table can say has no stack: one of capacity 0, so that
 * free() pushes by whatever the byte says and looks at it only when there is no room.
 */
#define DVSM_CLASS_NONE		0U	/* no slab here: free, metadata, or inside a huge block */
#define DVSM_CLASS_CACHED	80U	/* the last class that has stacks: 64 KiB */
#define DVSM_CLASS_LAST		119U	/* 1.875 MiB */
#define DVSM_CLASS_HUGE		120U	/* first page of a huge block */
#define DVSM_CLASSES		128U
#define DVSM_CLASS_OWNED	128U	/* added to a class: slabs whose blocks are all of one owner */
#define DVSM_STACK_REMOTE	127U	/* blocks of any class of other nodes */
#define dvsm_each_stack(index) \
	(index) = 1; (index) <= DVSM_STACK_REMOTE; (index) = (index) == DVSM_CLASS_CACHED ? DVSM_STACK_REMOTE : (index) + 1

/* Up to here a table says where a size's stack is. */
#define DVSM_SMALL_MAX		DVSM_HEAP_FAST_MAX

/* Hints: one for each class, one for slabs with owners, and for runs of free pages of 1, 2, 4, 8, 16 and 32. */
#define DVSM_HINT_RUN		120U
#define DVSM_HINT_RUNS		6U
#define DVSM_HINT_OWNED		126U
#define DVSM_HINTS		128U

/* 16 bytes, exchanged as one. A tag of 0: never changed; what that means is the table's matter. */
struct dvsm_word {
	alignas(16) uint64_t bits;
	uint64_t tag;			/* lane number << 46 | sequence number */
};

#define DVSM_SEQ_BITS		46
#define DVSM_SEQ_MASK		((1ULL << DVSM_SEQ_BITS) - 1)
#define DVSM_CURSOR_BITS	13	/* 1 TiB of chunks has 8192 words */
#define DVSM_LANES_MAX		4095U	/* a stack's tag has 12 bits for it */

/*
 * What the holder of a lane is doing. "Done" is about the step's own exchange. Each cursor counts the words of
 * the operation; takes go from the highest word down and puts from the cursor up, so one word of state
 * tells what is in the lane's hands.
 */
enum dvsm_lane_op {
	DVSM_OP_IDLE,		/* nothing in hand */
	DVSM_OP_TAKE,		/* done: log.mask of log.word, blocks, is in hand */
	DVSM_OP_PUSH,		/* not done: log.mask of log.word is in hand, on its way to a stack */
	DVSM_OP_PUT,		/* not done: log.mask of log.word is in hand, on its way back */
	DVSM_OP_POP,		/* done: log.blocks[0 .. log.nr) are in hand, out of a stack */
	DVSM_OP_GROUP,		/* log.groups[cursor ..) are in hand; done: without the first */
	DVSM_OP_PAGES,		/* done: log.mask of log.word, pages, is in hand */
	DVSM_OP_FILL,		/* words [cursor ..) of slab log.page, log.stack are in hand; done: without the first */
	DVSM_OP_DRAIN,		/* words (cursor ..) of slab log.page, log.stack are in hand; done: with the cursor's */
	DVSM_OP_UNPAGE,		/* not done: as PAGES, on their way back */
	DVSM_OP_CHUNK,		/* map words (cursor ..) of log.chunk, log.nr are in hand; done: and the cursor's */
	DVSM_OP_OPEN,		/* not done: chunk log.chunk is in hand, its page bits being set */
	DVSM_OP_CLOSE,		/* done: all pages of chunk log.chunk, thus the chunk, are in hand */
	DVSM_OP_FREE,		/* map words [cursor ..) of log.chunk, log.nr are in hand; done: without the first */
};

/* One cache line. Everything but help is written by the lock's holder only. */
struct dvsm_lane {
	alignas(64) pthread_mutex_t lock;	/* robust, shared, only tried */
	_Atomic uint64_t state;		/* operation : 5, cursor : 13, sequence number : 46 */
	_Atomic uint64_t help;		/* highest step that was done and whose tag is overwritten; whoever does it */
};

#define DVSM_BATCH		192U	/* blocks that one step moves at most */
#define DVSM_LOG_SEEN		8U
#define DVSM_MOVE_EXTRA		3U	/* what dvsm_cpu_move() may copy beyond them, of no meaning */

struct dvsm_group {
	uint64_t word;			/* offset of the word */
	uint64_t mask;
};

/* What a lane's step is about; written by the lock's holder. */
struct dvsm_log {
	alignas(64) uint64_t word;	/* offset of the word */
	uint64_t mask;
	uint32_t stack;			/* class or DVSM_STACK_REMOTE; of a slab that is filled or drained: its class */
	uint32_t cpu;
	uint32_t nr;			/* blocks; chunks */
	uint32_t page;			/* first page of a slab */
	uint32_t chunk;
	uint32_t nr_groups;
	uint32_t settle[2];		/* chunk + 1 whose hints may be missing; 0: none. Kept across steps */
	uint64_t seen[DVSM_LOG_SEEN];	/* by number of another lane: the step that it was seen in, as a tag. Kept for ever */
	uint64_t blocks[DVSM_BATCH + DVSM_MOVE_EXTRA];	/* addresses, as in stacks */
	struct dvsm_group groups[DVSM_BATCH];
};

/* One for each page; only that of a slab's first page means anything, but for delta. */
struct dvsm_slab {
	_Atomic uint32_t cur;		/* CPU + 1 whose current slab this is; 0: none. A hint for frees */
	uint8_t class;			/* as the class table; set before the words, cleared after them */
	uint8_t delta;			/* pages back to the slab's first one */
	uint16_t reserved;
	_Atomic uint64_t owner;		/* of all blocks; 0: none. Set before class */
};

enum dvsm_chunk_kind {
	DVSM_CHUNK_FREE,
	DVSM_CHUNK_OPEN,		/* pages in slabs */
	DVSM_CHUNK_HUGE,		/* first of a huge block */
	DVSM_CHUNK_BODY,		/* another one of it */
	DVSM_CHUNK_BARRED,		/* not the heap's: something else was mapped there before it grew */
};

struct dvsm_heap_chunk {
	alignas(64) struct dvsm_word pages;	/* set: free page */
	_Atomic uint32_t avail;		/* set: slab begins at this page, has free blocks, and is no CPU's current one */
	uint32_t nr_chunks;		/* of the huge block */
	_Atomic uint64_t owner;		/* of the huge block; 0: none */
	uint8_t kind;			/* written by who holds the chunk */
	uint8_t node;			/* where its memory is, as far as the heap asked */
};

/* A size class: immutable after creation. */
struct dvsm_class {
	uint32_t size;
	uint32_t nr_blocks : 13;	/* of a slab */
	uint32_t nr_pages : 6;		/* of a slab */
	uint32_t capacity : 13;		/* of a stack */
	uint64_t reciprocal;		/* ceil(2^42 / size): block = offset * reciprocal >> 42, exact below 2 MiB */
};

/*
 * A CPU's stack of one class: head and blocks are changed only inside restartable sequences on that CPU. head is
 * one word so that a batch commits with one store: count : 32, tag : 32 (lane : 12, sequence number : 20). Single
 * blocks change the count alone, as 32 bits.
 */
#define DVSM_STACK_SLOTS	2046U
struct dvsm_stack {
	alignas(64) _Atomic uint64_t head;
	_Atomic uint32_t capacity;	/* 0: not used yet; a hint, set by anybody */
	uint32_t reserved;
	uint64_t blocks[];		/* addresses: the fast paths are worth the exception */
};

/* Areas of no CPU, -1 and -2, in front of the others: they stay zero (heap_cpu.h). */
#define DVSM_CPU_GUARDS		2U
#define DVSM_CPU_SHIFT		19
struct dvsm_cpu {
	_Atomic uint32_t cur[DVSM_CLASSES];	/* page + 1 of the current slab; 0: none. Atomic: not only this CPU */
	_Atomic uint8_t next[DVSM_CLASSES];	/* word of that slab to begin a search with */
	_Atomic uint32_t node;			/* node + 1, 0: not known yet */
	uint32_t reserved;
	_Atomic uint64_t used[DVSM_CLASSES / 64];	/* stacks that ever had blocks; the others' memory is not touched */
	_Atomic uint64_t aged;			/* ms when stacks were last looked at for age */
	_Atomic uint64_t seen[DVSM_CLASSES];	/* a stack's head then */
	alignas(64) char stacks[];		/* where each begins: dvsm_stacks_place() */
};
_Static_assert(DVSM_CPU_SHIFT == 19 && DVSM_HEAP_PAGE_SHIFT == 16,
	       "what <dvsm/heap_inline.h> says");
_Static_assert(offsetof(struct dvsm_stack, head) == 0 && offsetof(struct dvsm_stack, capacity) == 8 &&
	       offsetof(struct dvsm_stack, blocks) == 16, "what <dvsm/heap_inline.h> says");
_Static_assert(sizeof(struct dvsm_lane) == 64, "a lane is one line");
_Static_assert(sizeof(struct dvsm_class) == 16, "four classes a line");

/* At offset 0. The first part is immutable after creation. */
struct dvsm_heap_header {
	_Atomic uint64_t magic;		/* written last */
	uint32_t version;
	uint32_t nr_cpus;
	uint32_t nr_lanes;
	uint32_t nr_nodes;
	uint64_t base;			/* address, the same in every process */
	uint64_t size;
	uint32_t first_chunk;		/* chunks below hold metadata */
	uint32_t end_chunk;
	uint32_t flags;
	uint32_t grow;			/* chunks that are mapped at a time; 0: all of the heap is mapped */
	uint64_t retain;		/* bytes of free chunks that keep their memory */
	uint32_t idle_ms;		/* after which stacks are emptied; UINT32_MAX: never */
	uint32_t nr_looks;		/* frees of each process that are looked at closely; UINT32_MAX: all */
	uint64_t lanes, logs, cpus, map, dirty, hints, chunks, classes, slabs, words;	/* offsets */
	struct dvsm_class class[DVSM_CLASSES];

	/*
	 * Shared counters: advisory. What nr_used and nr_dirty count changes a moment before or after them: they are exact
	 * when nobody is at work, unless somebody has died in such a moment or they were counted anew in one.
	 */
	alignas(64) _Atomic uint32_t high_chunk;	/* chunks from here on were never used */
	_Atomic uint32_t nr_used;	/* chunks */
	_Atomic uint32_t nr_dirty;	/* free chunks that keep their memory */
	_Atomic uint32_t spare_chunk;	/* open chunk without slabs that is kept; + 1 */
	_Atomic uint32_t mapped_chunk;	/* chunks below are mapped, and so are their parts of slabs and words */
	_Atomic uint32_t growing;	/* lock of the former; a heap that grows is one process's */
	_Atomic uint64_t nr_deaths;	/* lanes found with a dead holder */
	_Atomic uint64_t nr_recovered;	/* blocks, pages or chunks that were in their hands, put back */
	_Atomic uint64_t nr_discards;	/* chunks */
	_Atomic uint64_t nr_misuses;
	alignas(64) _Atomic uint32_t spare_slab[DVSM_CLASSES];	/* empty slab that is kept; page + 1 */
	alignas(64) _Atomic uint64_t roots[DVSM_HEAP_ROOTS];	/* offsets; the program's */
	pthread_mutex_t owners;		/* of who frees all of an owner's; robust, shared, only tried */
};

/* A process's view: the tables as addresses. Written at creation, then only read, but for what counts frees. */
struct dvsm_heap {
	/* Its class table is all zeroes where free() has to look at nodes first. */
	struct dvsm_heap_fast fast;
	uintptr_t base;
	uint64_t size;
	uint8_t *classes;		/* by page: the class table */
	uint32_t nr_cpus;
	uint32_t nr_nodes;
	char *cpus;
	struct dvsm_heap_header *header;
	struct dvsm_lane *lanes;
	struct dvsm_log *logs;
	struct dvsm_word *map;		/* by chunk; tag 0 means all free */
	_Atomic uint64_t *dirty;	/* by chunk: free, but keeps its memory */
	_Atomic uint64_t *hints;	/* [chunk / 64][hint], bit chunk % 64 */
	struct dvsm_heap_chunk *chunks;
	struct dvsm_slab *slabs;	/* by page */
	struct dvsm_word *words;	/* [page][DVSM_SLAB_WORDS] */
	struct dvsm_region *region;	/* NULL where memory is private to a process */
	uint64_t file_dev, file_ino;	/* what @region's descriptor was of */
	struct dvsm_heap *next;		/* heaps of this process, for fork */
	_Atomic uint32_t looks;		/* frees that are still to be looked at closely */
	uint32_t flags;
	bool is_copied;			/* private, in a region that fork() copies; @region is NULL */
	_Atomic bool ready;		/* all of the above is there */
};

static inline struct dvsm_word *dvsm_slab_word(const struct dvsm_heap *heap, uint32_t page,
					       uint32_t word)
{
	return &heap->words[(uint64_t)page * DVSM_SLAB_WORDS + word];
}

static inline void *dvsm_heap_at(const struct dvsm_heap *heap, uint64_t offset)
{
	return (void *)(heap->base + offset);
}

static inline uint64_t dvsm_heap_offset_of(const struct dvsm_heap *heap, const void *address)
{
	return (uintptr_t)address - heap->base;
}

static inline const struct dvsm_class *dvsm_heap_class(const struct dvsm_heap *heap, uint32_t class)
{
	return &heap->header->class[class & (DVSM_CLASSES - 1)];
}

/* Whether a byte of the class table is that of a slab. */
static inline bool dvsm_class_is_slab(uint32_t class)
{
	return (class & (DVSM_CLASSES - 1)) - 1 < DVSM_CLASS_LAST;
}

static inline uint32_t dvsm_class_hint(uint32_t class)
{
	return class & DVSM_CLASS_OWNED ? DVSM_HINT_OWNED : class;
}

static inline struct dvsm_cpu *dvsm_heap_cpu(const struct dvsm_heap *heap, uint32_t cpu)
{
	return (struct dvsm_cpu *)(heap->cpus + ((uint64_t)cpu << DVSM_CPU_SHIFT));
}

static inline struct dvsm_stack *dvsm_cpu_stack(const struct dvsm_heap *heap, uint32_t cpu,
						uint32_t stack)
{
	return (struct dvsm_stack *)(heap->fast.stack[stack] + ((uint64_t)cpu << DVSM_CPU_SHIFT));
}

#endif /* DVSM_HEAP_TYPES_H */
