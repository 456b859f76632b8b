/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lanes and steps: how anything changes hands.
 *
 * A step is: write the log, dvsm_lane_begin(), one exchange. See the head of heap_types.h.
 */
#ifndef DVSM_HEAP_LANE_H
#define DVSM_HEAP_LANE_H

#include "heap_types.h"

/* A lane held by this thread. */
struct dvsm_hold {
	const struct dvsm_heap *heap;
	struct dvsm_lane *lane;
	struct dvsm_log *log;
	uint32_t number;		/* from 1 */
	bool resumed;			/* the work is a dead holder's */
	uint64_t owner;			/* whose slabs are looked for and made; 0: nobody's */
	bool discard;			/* chunks that are freed lose their memory, whatever the policy */
};

static inline uint64_t dvsm_state_make(uint32_t op, uint32_t cursor, uint64_t seq)
{
	return (uint64_t)op << 59 | (uint64_t)cursor << DVSM_SEQ_BITS | seq;
}

static inline uint32_t dvsm_state_op(uint64_t state)
{
	return (uint32_t)(state >> 59);
}

static inline uint32_t dvsm_state_cursor(uint64_t state)
{
	return (uint32_t)(state >> DVSM_SEQ_BITS) & ((1U << DVSM_CURSOR_BITS) - 1);
}

static inline uint64_t dvsm_state_seq(uint64_t state)
{
	return state & DVSM_SEQ_MASK;
}

static inline uint64_t dvsm_lane_state(const struct dvsm_hold *hold)
{
	return atomic_load_explicit(&hold->lane->state, memory_order_relaxed);
}

static inline uint64_t dvsm_lane_tag(const struct dvsm_hold *hold)
{
	return (uint64_t)hold->number << DVSM_SEQ_BITS | dvsm_state_seq(dvsm_lane_state(hold));
}

/* The tag that a lane's step leaves in a stack's head. Not 0: numbers begin at 1. */
static inline uint32_t dvsm_stack_tag_of(const struct dvsm_hold *hold, uint64_t seq)
{
	return hold->number << 20 | (uint32_t)(seq & 0xfffff);
}

static inline uint32_t dvsm_lane_stack_tag(const struct dvsm_hold *hold)
{
	return dvsm_stack_tag_of(hold, dvsm_lane_state(hold));
}

/*
 * In a build that is broken on purpose, to see that the crash tests notice, an expression: the operation whose beginning is
 * not logged, or one of these.
 */
#ifndef DVSM_HEAP_BROKEN
#define DVSM_HEAP_BROKEN	-1
#endif
#define DVSM_BROKEN_HELP	32	/* that a step was done is not noted by who overwrites its tag */
#define DVSM_BROKEN_SETTLE	33	/* the log does not say whose hints may be missing */

/* All that was written to the log before is there before the state; so is all that was exchanged. */
static inline void dvsm_lane_begin(const struct dvsm_hold *hold, uint32_t op, uint32_t cursor)
{
	uint64_t seq = (dvsm_state_seq(dvsm_lane_state(hold)) + 1) & DVSM_SEQ_MASK;

	if ((int)op == DVSM_HEAP_BROKEN)
		op = DVSM_OP_IDLE;
	atomic_store_explicit(&hold->lane->state, dvsm_state_make(op, cursor, seq),
			      memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void dvsm_lane_idle(const struct dvsm_hold *hold)
{
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&hold->lane->state,
			      dvsm_state_make(DVSM_OP_IDLE, 0, dvsm_state_seq(dvsm_lane_state(hold))),
			      memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
}

/* heap_lane.c */
void dvsm_lane_help(const struct dvsm_hold *hold, uint32_t number, uint64_t seq, uint64_t mask);
bool dvsm_lane_helped(const struct dvsm_hold *hold);
bool dvsm_lane_done(const struct dvsm_hold *hold);
bool dvsm_lane_acquire(const struct dvsm_heap *heap, struct dvsm_hold *hold);
void dvsm_lane_wait(const struct dvsm_heap *heap, struct dvsm_hold *hold);
void dvsm_lane_release(struct dvsm_hold *hold);
void dvsm_lane_lock_init(pthread_mutex_t *lock);
void dvsm_lanes_init(const struct dvsm_heap *heap);
void dvsm_lanes_fork(void);
void dvsm_lanes_recover(const struct dvsm_heap *heap, bool all_dead);
bool dvsm_lanes_finish(const struct dvsm_heap *heap);
bool dvsm_owners_lock(const struct dvsm_heap *heap);
void dvsm_owners_unlock(const struct dvsm_heap *heap);
extern unsigned int dvsm_heap_patience __attribute__((visibility("hidden")));

/* heap_resume.c */
void dvsm_lane_resume(struct dvsm_hold *hold);

/* heap_sound.c */
bool dvsm_heap_is_sound(const struct dvsm_heap *heap);
bool dvsm_log_is_sound(const struct dvsm_hold *hold);

/* A lane that was seen in a later step needs no help with this one; its line, which it writes often, stays where it is. */
static inline bool dvsm_lane_left(const struct dvsm_hold *hold, uint32_t number, uint64_t tag)
{
	uint64_t seen = hold->log->seen[number % DVSM_LOG_SEEN];

	return seen >> DVSM_SEQ_BITS == number &&
	       ((seen - tag) & DVSM_SEQ_MASK) - 1 < DVSM_SEQ_MASK / 2;
}

static inline void dvsm_word_help(const struct dvsm_hold *hold, uint64_t tag)
{
	uint32_t number = (uint32_t)(tag >> DVSM_SEQ_BITS);

	if (number && number != hold->number && !dvsm_lane_left(hold, number, tag))
		dvsm_lane_help(hold, number, tag & DVSM_SEQ_MASK, DVSM_SEQ_MASK);
}

/* Soon to be exchanged, and likely another CPU's now: for writing, or it would be fetched twice. */
static inline void dvsm_word_prefetch(const struct dvsm_word *word)
{
	asm volatile("prefetchw %0" : : "m" (*word));
}

static inline struct dvsm_word dvsm_word_read(const struct dvsm_word *word)
{
	struct dvsm_word value;

	/*
	 * Not one read: who exchanges afterwards compares both halves. The tag first: bits from before a word's
	 * first change may mean something else after it (heap_chunk.c).
	 */
	value.tag = __atomic_load_n(&word->tag, __ATOMIC_ACQUIRE);
	value.bits = __atomic_load_n(&word->bits, __ATOMIC_ACQUIRE);
	return value;
}

/* ThreadSanitizer sees no assembly, so it is told that the exchange below is a barrier both ways. */
#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define dvsm_tsan_acquire	__tsan_acquire
#define dvsm_tsan_release	__tsan_release
#else
#define dvsm_tsan_acquire(address)	((void)0)
#define dvsm_tsan_release(address)	((void)0)
#endif

/* On failure @old receives what is there. */
static inline bool dvsm_word_exchange(struct dvsm_word *word, struct dvsm_word *old,
				      uint64_t bits, uint64_t tag)
{
	bool done;

	dvsm_tsan_release(word);
	asm volatile("lock cmpxchg16b %[word]"
		     : [word] "+m" (*word), "+a" (old->bits), "+d" (old->tag), "=@ccz" (done)
		     : "b" (bits), "c" (tag)
		     : "memory");
	dvsm_tsan_acquire(word);
	return done;
}

/* The step's exchange; @old as dvsm_word_read() found it. */
static inline bool dvsm_word_step(const struct dvsm_hold *hold, struct dvsm_word *word,
				  struct dvsm_word *old, uint64_t bits)
{
	dvsm_word_help(hold, old->tag);
	return dvsm_word_exchange(word, old, bits, dvsm_lane_tag(hold));
}

/*
 * Sets bits; some of them set already means that somebody frees what is free.
 * Returns the word's bits from then on; sets *twice to the bits that were set before.
 */
static inline uint64_t dvsm_word_put(const struct dvsm_hold *hold, struct dvsm_word *word,
				     uint64_t mask, uint64_t *twice)
{
	struct dvsm_word old = dvsm_word_read(word);

	while (!dvsm_word_step(hold, word, &old, old.bits | mask))
		;
	*twice = old.bits & mask;
	return old.bits | mask;
}

/* The word of what is in hand as a whole, whatever a damaged heap has there. */
static inline void dvsm_word_set(const struct dvsm_hold *hold, struct dvsm_word *word,
				 uint64_t bits)
{
	struct dvsm_word old = dvsm_word_read(word);

	while (!dvsm_word_step(hold, word, &old, bits))
		;
}

/* Clears all of mask, or nothing. */
static inline bool dvsm_word_try_take(const struct dvsm_hold *hold, struct dvsm_word *word,
				      uint64_t mask)
{
	struct dvsm_word old = dvsm_word_read(word);

	while ((old.bits & mask) == mask)
		if (dvsm_word_step(hold, word, &old, old.bits & ~mask))
			return true;
	return false;
}

#endif /* DVSM_HEAP_LANE_H */
