// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Lanes: taking one, and knowing what its step has done.
 *
 * A lane's lock is a robust, process-shared mutex that is tried and never waited for, so a dead or stopped
 * holder is in nobody's way. The kernel marks it when its holder dies, whatever kills it, and needs no
 * descriptor for that. The locks lie in the heap's first chunk, which is never unmapped while the heap is in
 * use: the kernel may write to them until the holder is gone.
 */
#include <sched.h>
#include <string.h>

#include "heap_cpu.h"
#include "heap_lane.h"

/*
 * Called before the tag (number, seq & mask) is overwritten. Only a step that is still the lane's current one
 * needs help: later ones prove by themselves that it was done.
 */
void dvsm_lane_help(const struct dvsm_hold *hold, uint32_t number, uint64_t seq, uint64_t mask)
{
	struct dvsm_lane *lane = &hold->heap->lanes[number - 1];
	uint64_t state = atomic_load_explicit(&lane->state, memory_order_acquire);
	uint64_t help;

	if (dvsm_state_op(state) == DVSM_OP_IDLE || ((dvsm_state_seq(state) ^ seq) & mask))
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

void dvsm_lanes_init(const struct dvsm_heap *heap)
{
	pthread_mutexattr_t attributes;
	uint32_t i;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	for (i = 0; i < heap->header->nr_lanes; i++)
		pthread_mutex_init(&heap->lanes[i].lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
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

/* The lane is ours and its holder is dead: go on in its name. */
static void dvsm_lane_inherit(struct dvsm_hold *hold)
{
	bool idle = dvsm_state_op(dvsm_lane_state(hold)) == DVSM_OP_IDLE;

	hold->resumed = true;
	dvsm_lane_resume(hold);
	hold->resumed = false;
	pthread_mutex_consistent(&hold->lane->lock);
	atomic_fetch_add(&hold->heap->header->nr_deaths, 1);
	if (!idle)
		atomic_fetch_add(&hold->heap->header->nr_recovered, 1);
}

static bool dvsm_lane_try(const struct dvsm_heap *heap, uint32_t index, struct dvsm_hold *hold)
{
	int error = pthread_mutex_trylock(&heap->lanes[index].lock);

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
	uint32_t nr_lanes = heap->header->nr_lanes;
	uint32_t cpu = dvsm_cpu_id(dvsm_rseq_offset);
	static __thread uint32_t visits __attribute__((tls_model("initial-exec")));
	uint32_t first, i, round;

	if (++visits % 64 == 0)
		dvsm_lane_look(heap, visits / 64 % nr_lanes);
	first = cpu < heap->nr_cpus ? cpu : dvsm_lane_last;
	for (round = 0; round < 10000; round++) {
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

void dvsm_lane_release(struct dvsm_hold *hold)
{
	pthread_mutex_unlock(&hold->lane->lock);
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
		for (i = 0; i < heap->header->nr_lanes; i++) {
			dvsm_lane_hold(heap, i, &hold);
			if (dvsm_state_op(dvsm_lane_state(&hold)) == DVSM_OP_IDLE &&
			    !hold.log->settle[0] && !hold.log->settle[1])
				continue;
			hold.resumed = true;
			dvsm_lane_resume(&hold);
		}
		dvsm_lanes_init(heap);
		return;
	}
	for (i = 0; i < heap->header->nr_lanes; i++)
		if (dvsm_lane_try(heap, i, &hold))
			dvsm_lane_release(&hold);
}
