// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Lanes: taking one, and knowing what its step has done.
 *
 * A lane's lock is a robust, process-shared mutex that is tried and never waited for, so a dead or stopped
 * holder is in nobody's way. The kernel marks it when its holder dies, whatever kills it, and needs no
 * descriptor for that. The locks lie in the heap's first chunk, which is never unmapped while the heap is in
 * use: the kernel may write to them until the holder is gone.
 */
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "heap_cpu.h"
#include "heap_lane.h"

#define DVSM_LANE_SLEEP	1000000		/* ns, for others to run */

/*
 * Called before the tag (number, seq & mask) is overwritten. Only a step that is still the lane's current one
 * needs help: later ones prove by themselves that it was done.
 */
void dvsm_lane_help(const struct dvsm_hold *hold, uint32_t number, uint64_t seq, uint64_t mask)
{
	struct dvsm_lane *lane = &hold->heap->lanes[number - 1];
	uint64_t state, help;

	/* Nobody has checked the tags of words when the heap was attached. */
	if (number > hold->heap->header->nr_lanes)
		return;
	state = atomic_load_explicit(&lane->state, memory_order_acquire);
	hold->log->seen[number % DVSM_LOG_SEEN] = (uint64_t)number << DVSM_SEQ_BITS |
						  dvsm_state_seq(state);
	if (dvsm_state_op(state) == DVSM_OP_IDLE || ((dvsm_state_seq(state) ^ seq) & mask) ||
	    DVSM_HEAP_BROKEN == DVSM_BROKEN_HELP)
		return;
	seq = dvsm_state_seq(state);
	help = atomic_load(&lane->help);
	/* Never back: another helper may have noted a later step meanwhile. */
	while (((seq - help) & DVSM_SEQ_MASK) - 1 < DVSM_SEQ_MASK / 2 &&
	       !atomic_compare_exchange_weak(&lane->help, &help, seq))
		;
}

/* The current step, or a later one, was seen done and then overwritten. */
bool dvsm_lane_helped(const struct dvsm_hold *hold)
{
	uint64_t ahead = atomic_load(&hold->lane->help) - dvsm_state_seq(dvsm_lane_state(hold));

	return (ahead & DVSM_SEQ_MASK) < DVSM_SEQ_MASK / 2;
}

/* The word that the lane's state is about; NULL for a stack. */
static struct dvsm_word *dvsm_lane_word(const struct dvsm_hold *hold, uint64_t state)
{
	const struct dvsm_heap *heap = hold->heap;
	const struct dvsm_log *log = hold->log;
	uint32_t cursor = dvsm_state_cursor(state);

	switch (dvsm_state_op(state)) {
	case DVSM_OP_TAKE:
	case DVSM_OP_PUT:
	case DVSM_OP_PAGES:
	case DVSM_OP_UNPAGE:
		return dvsm_heap_at(heap, log->word);
	case DVSM_OP_GROUP:
		return dvsm_heap_at(heap, log->groups[cursor].word);
	case DVSM_OP_FILL:
	case DVSM_OP_DRAIN:
		return dvsm_slab_word(heap, log->page, cursor);
	case DVSM_OP_CHUNK:
	case DVSM_OP_FREE:
		return &heap->map[log->chunk / 64 + cursor];
	case DVSM_OP_OPEN:
	case DVSM_OP_CLOSE:
		return &heap->chunks[log->chunk].pages;
	default:
		return NULL;
	}
}

/* Was the current step's exchange done? First the tag, then help: who overwrites does it in the other order. */
bool dvsm_lane_done(const struct dvsm_hold *hold)
{
	const struct dvsm_word *word = dvsm_lane_word(hold, dvsm_lane_state(hold));
	struct dvsm_stack *stack;

	if (word) {
		if (__atomic_load_n(&word->tag, __ATOMIC_SEQ_CST) == dvsm_lane_tag(hold))
			return true;
	} else {
		stack = dvsm_cpu_stack(hold->heap, hold->log->cpu, hold->log->stack);
		if (atomic_load(&stack->head) >> 32 == dvsm_lane_stack_tag(hold))
			return true;
	}
	return dvsm_lane_helped(hold);
}

void dvsm_lane_lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

void dvsm_lanes_init(const struct dvsm_heap *heap)
{
	uint32_t i;

	for (i = 0; i < heap->header->nr_lanes; i++)
		dvsm_lane_lock_init(&heap->lanes[i].lock);
	dvsm_lane_lock_init(&heap->header->owners);
}

static void dvsm_lane_hold(const struct dvsm_heap *heap, uint32_t index, struct dvsm_hold *hold)
{
	hold->heap = heap;
	hold->lane = &heap->lanes[index];
	hold->log = &heap->logs[index];
	hold->number = index + 1;
	hold->resumed = false;
	hold->discard = false;
	hold->owner = 0;
}

/* The lane is ours and its holder is dead: go on in its name. A log that was damaged is let be, and what it held is lost. */
static void dvsm_lane_inherit(struct dvsm_hold *hold)
{
	bool idle = dvsm_state_op(dvsm_lane_state(hold)) == DVSM_OP_IDLE;

	if (dvsm_log_is_sound(hold)) {
		hold->resumed = true;
		dvsm_lane_resume(hold);
		hold->resumed = false;
	} else {
		hold->log->settle[0] = hold->log->settle[1] = 0;
		dvsm_lane_idle(hold);
		atomic_fetch_add(&hold->heap->header->nr_misuses, 1);
		dvsm_debug("heap: a dead thread's log is damaged\n");
	}
	pthread_mutex_consistent(&hold->lane->lock);
	atomic_fetch_add(&hold->heap->header->nr_deaths, 1);
	if (!idle)
		atomic_fetch_add(&hold->heap->header->nr_recovered, 1);
}

/*
 * Whether a live thread has a lock. Who is killed while he tries it could be taken for its holder, if both have the same
 * number, each in a PID namespace of its own: so what is held is not even tried.
 */
static bool dvsm_lock_is_held(const pthread_mutex_t *lock)
{
#ifdef __GLIBC__
	int word = __atomic_load_n(&lock->__data.__lock, __ATOMIC_RELAXED);

	return word && !(word & FUTEX_OWNER_DIED);
#else
	(void)lock;
	return false;
#endif
}

static bool dvsm_lane_try(const struct dvsm_heap *heap, uint32_t index, struct dvsm_hold *hold)
{
	pthread_mutex_t *lock = &heap->lanes[index].lock;
	int error;

	if (dvsm_lock_is_held(lock))
		return false;
	error = pthread_mutex_trylock(lock);
	if (error && error != EOWNERDEAD)
		return false;
	dvsm_lane_hold(heap, index, hold);
	if (error)
		dvsm_lane_inherit(hold);
	return true;
}

/* Now and then a look at a lane in the middle of something: is its holder dead? */
static void dvsm_lane_look(const struct dvsm_heap *heap, uint32_t index)
{
	uint64_t state = atomic_load_explicit(&heap->lanes[index].state, memory_order_relaxed);
	struct dvsm_hold hold;

	if (dvsm_state_op(state) != DVSM_OP_IDLE && dvsm_lane_try(heap, index, &hold))
		dvsm_lane_release(&hold);
}

/* Lane of the thread's last visit. A hint, so that lanes, like stacks, stay with their CPU. */
static __thread uint32_t dvsm_lane_last __attribute__((tls_model("initial-exec")));

/* Every lane is tried so many times. */
static bool dvsm_lane_rounds(const struct dvsm_heap *heap, struct dvsm_hold *hold,
			     uint32_t nr_rounds)
{
	uint32_t nr_lanes = heap->header->nr_lanes;
	uint32_t cpu = dvsm_cpu_id(heap->fast.area);
	uint32_t first, i, round;

	first = cpu < heap->nr_cpus ? cpu : dvsm_lane_last;
	for (round = 0; round < nr_rounds; round++) {
		for (i = 0; i < nr_lanes; i++) {
			if (dvsm_lane_try(heap, (first + i * heap->nr_cpus + (i * heap->nr_cpus) / nr_lanes) %
					  nr_lanes, hold)) {
				dvsm_lane_last = hold->number - 1;
				return true;
			}
		}
		sched_yield();
	}
	return false;
}

/**
 * dvsm_lane_acquire - a lane to work in.
 *
 * With every lane taken, by more threads than there are lanes, all of them in the middle of a step, it gives
 * the CPU away and tries again; dead ones among them are free again at once.
 *
 * Return: true; false when so many live holders make no progress that the call is better refused.
 */
bool dvsm_lane_acquire(const struct dvsm_heap *heap, struct dvsm_hold *hold)
{
	static __thread uint32_t visits __attribute__((tls_model("initial-exec")));

	if (++visits % 64 == 0)
		dvsm_lane_look(heap, visits / 64 % heap->header->nr_lanes);
	return dvsm_lane_rounds(heap, hold, 10000);
}

/**
 * dvsm_lane_wait - as above, however long it takes.
 *
 * For free(), which cannot refuse. Not under a lane: those who do that could wait for each other.
 */
void dvsm_lane_wait(const struct dvsm_heap *heap, struct dvsm_hold *hold)
{
	if (dvsm_lane_acquire(heap, hold))
		return;
	do
		dvsm_sleep(DVSM_LANE_SLEEP);
	while (!dvsm_lane_rounds(heap, hold, 1));
}

void dvsm_lane_release(struct dvsm_hold *hold)
{
	pthread_mutex_unlock(&hold->lane->lock);
}

/* The thread that forks, as its locks name it. */
static __thread int dvsm_lane_forking __attribute__((tls_model("initial-exec")));

/* Before a fork. */
void dvsm_lanes_fork(void)
{
	dvsm_lane_forking = (int)syscall(SYS_gettid);
}

/*
 * After a fork, of a copy: a lock that was held begins anew. One of the thread that forked stays its, under the number that
 * it has here: it forked in a signal handler, and goes on in what that interrupted. Returns whether it is such a one.
 */
static bool dvsm_lock_forked(pthread_mutex_t *lock)
{
#ifdef __GLIBC__
	int word = lock->__data.__lock;
	bool mine = word && (word & FUTEX_TID_MASK) == dvsm_lane_forking;

	if (!word)
		return false;
#else
	bool mine = false;
#endif
	dvsm_lane_lock_init(lock);
	return mine && !pthread_mutex_trylock(lock);
}

/* Whether who holds a lane may still be at a dead one's work: it is a lock's owner from when that is done. */
static bool dvsm_lane_is_resumed(const struct dvsm_lane *lane)
{
#ifdef __GLIBC__
	int holder = __atomic_load_n(&lane->lock.__data.__lock, __ATOMIC_SEQ_CST) & FUTEX_TID_MASK;

	return holder != __atomic_load_n(&lane->lock.__data.__owner, __ATOMIC_SEQ_CST);
#else
	return dvsm_state_op(atomic_load(&lane->state)) != DVSM_OP_IDLE;
#endif
}

/**
 * dvsm_lanes_recover - finish what the dead have begun, now.
 * @all_dead: this process has a copy of the heap's memory and is alone in it: every holder is gone
 */
void dvsm_lanes_recover(const struct dvsm_heap *heap, bool all_dead)
{
	struct dvsm_hold hold;
	uint32_t i;

	if (all_dead) {
		dvsm_lock_forked(&heap->header->owners);
		/* Most children come from a quiet heap: what they do not write to, the kernel need not copy. */
		for (i = 0; i < heap->header->nr_lanes; i++) {
			if (dvsm_lock_forked(&heap->lanes[i].lock))
				continue;
			dvsm_lane_hold(heap, i, &hold);
			if (dvsm_state_op(dvsm_lane_state(&hold)) == DVSM_OP_IDLE &&
			    !hold.log->settle[0] && !hold.log->settle[1])
				continue;
			hold.resumed = true;
			dvsm_lane_resume(&hold);
		}
		return;
	}
	for (i = 0; i < heap->header->nr_lanes; i++)
		if (dvsm_lane_try(heap, i, &hold))
			dvsm_lane_release(&hold);
}

/* Milliseconds that something which takes microseconds may take before it is called stopped; tests have less of them. */
unsigned int dvsm_heap_patience = 2000;

/* For the next try of somebody's lock. False: that was enough. */
static bool dvsm_lane_pause(unsigned int round)
{
	if (round < 100)
		sched_yield();
	else
		dvsm_sleep(DVSM_LANE_SLEEP);
	return round < 100 + dvsm_heap_patience;
}

/* Nobody is at work there for a dead one. False: somebody is, and makes no progress. */
static bool dvsm_lane_finish(const struct dvsm_heap *heap, uint32_t index)
{
	struct dvsm_hold hold;
	unsigned int round;

	for (round = 0; !dvsm_lane_try(heap, index, &hold); round++) {
		if (!dvsm_lane_is_resumed(&heap->lanes[index]))
			return true;
		if (!dvsm_lane_pause(round))
			return false;
	}
	dvsm_lane_release(&hold);
	return true;
}

/**
 * dvsm_lanes_finish - as dvsm_lanes_recover(), and wait for those who are at it already.
 *
 * Return: false when one of these makes no progress.
 */
bool dvsm_lanes_finish(const struct dvsm_heap *heap)
{
	uint32_t i;

	for (i = 0; i < heap->header->nr_lanes; i++)
		if (!dvsm_lane_finish(heap, i))
			return false;
	return true;
}

/**
 * dvsm_owners_lock - be the only one who frees owners' blocks.
 *
 * Who dies with it has freed some of them, and each of those whole. Return: false when its holder makes no progress.
 */
bool dvsm_owners_lock(const struct dvsm_heap *heap)
{
	pthread_mutex_t *lock = &heap->header->owners;
	unsigned int round;
	int error;

	for (round = 0; ; round++) {
		error = dvsm_lock_is_held(lock) ? EBUSY : pthread_mutex_trylock(lock);
		if (error == EOWNERDEAD)
			pthread_mutex_consistent(lock);
		if (!error || error == EOWNERDEAD)
			return true;
		if (!dvsm_lane_pause(round))
			return false;
	}
}

void dvsm_owners_unlock(const struct dvsm_heap *heap)
{
	pthread_mutex_unlock(&heap->header->owners);
}
