// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Between a CPU's stacks and the slabs: refill when malloc finds a stack empty, flush when free finds it full.
 *
 * Both move batches. A batch out of a slab is one exchange for up to 64 blocks; a batch into slabs is grouped by
 * word and is one exchange for each, however many blocks other CPUs' slabs get back by it. Threads without
 * rseq, and blocks of classes without stacks, go the same way one by one.
 */
#include <emmintrin.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "heap_cpu.h"
#include "heap_slab.h"

#define DVSM_MOVE_TRIES	8
#define DVSM_AGE_BATCHES	16	/* that are put at a time: what a call may take longer for it is bounded */

/* The node of a CPU, learned when a thread first runs there. */
uint32_t dvsm_cpu_node(const struct dvsm_heap *heap, uint32_t cpu)
{
	struct dvsm_cpu *area;
	unsigned int node, here;

	if (heap->nr_nodes == 1)
		return 0;
	if (heap->flags & DVSM_HEAP_F_FAKE_NODES)
		return cpu < heap->nr_cpus ? cpu % heap->nr_nodes : 0;
	if (cpu < heap->nr_cpus) {
		area = dvsm_heap_cpu(heap, cpu);
		node = atomic_load_explicit(&area->node, memory_order_relaxed);
		if (node)
			return node - 1;
	}
	if (getcpu(&here, &node) || node >= heap->nr_nodes)
		return 0;
	if (here < heap->nr_cpus)
		atomic_store_explicit(&dvsm_heap_cpu(heap, here)->node, node + 1,
				      memory_order_relaxed);
	return node;
}

static bool dvsm_stack_is_used(const struct dvsm_heap *heap, uint32_t cpu, uint32_t index)
{
	return atomic_load(&dvsm_heap_cpu(heap, cpu)->used[index / 64]) >> index % 64 & 1;
}

static uint64_t dvsm_head_make(uint64_t count, uint64_t tag)
{
	return count | tag << 32;
}

static uint32_t dvsm_head_count(uint64_t head)
{
	return (uint32_t)head;
}

/* What a stack may hold, which its first user says. */
static uint32_t dvsm_stack_capacity(const struct dvsm_heap *heap, struct dvsm_cpu *cpu,
				    struct dvsm_stack *stack, uint32_t index)
{
	uint32_t capacity = atomic_load_explicit(&stack->capacity, memory_order_relaxed);

	if (heap->flags & DVSM_HEAP_F_HARDENED)
		return 0;
	if (capacity)
		return capacity;
	capacity = index == DVSM_STACK_REMOTE ? DVSM_BATCH : dvsm_heap_class(heap, index)->capacity;
	atomic_fetch_or(&cpu->used[index / 64], 1ULL << index % 64);
	atomic_store_explicit(&stack->capacity, capacity, memory_order_relaxed);
	return capacity;
}

/*
 * A step on stack log.stack of CPU log.cpu, whose head this is. A stack's tag has 20 bits of the sequence number
 * only; so the step's must differ from the one that is there, and who left that one is helped only if
 * its step is about this stack, and nobody has changed that since.
 */
static void dvsm_stack_begin(struct dvsm_hold *hold, uint32_t op, uint64_t head)
{
	uint32_t number = (uint32_t)(head >> 52), other_op;
	const struct dvsm_log *other;

	/* A number that would look like the one that is there is burnt first, in the state that is. */
	if (dvsm_stack_tag_of(hold, dvsm_lane_state(hold) + 1) == head >> 32)
		dvsm_lane_begin(hold, dvsm_state_op(dvsm_lane_state(hold)),
				dvsm_state_cursor(dvsm_lane_state(hold)));
	dvsm_lane_begin(hold, op, 0);
	if (!number || number == hold->number)
		return;
	other = &hold->heap->logs[number - 1];
	other_op = dvsm_state_op(atomic_load(&hold->heap->lanes[number - 1].state));
	if ((other_op == DVSM_OP_PUSH || other_op == DVSM_OP_POP) &&
	    other->cpu == hold->log->cpu && other->stack == hold->log->stack &&
	    atomic_load(&dvsm_cpu_stack(hold->heap, other->cpu, other->stack)->head) == head)
		dvsm_lane_help(hold, number, head >> 32 & 0xfffff, 0xfffff);
}

/* Whether the set bits are neighbours. */
static bool dvsm_is_run(uint64_t mask)
{
	uint64_t lowest = mask & -mask;

	return !(mask & (mask + lowest));
}

/* log.mask of log.word goes onto the running CPU's stack. False: it is still in hand. */
static bool dvsm_push_batch(struct dvsm_hold *hold, uint32_t class)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t size = dvsm_heap_class(heap, class)->size;
	uint32_t nr, at, cpu, count, capacity, page, try;
	uint64_t blocks[64 + DVSM_MOVE_EXTRA], mask, head, base;
	struct dvsm_stack *stack;

	base = heap->base + dvsm_slab_base(heap, hold->log->word, &page);
	nr = (uint32_t)__builtin_popcountll(hold->log->mask);
	/* Lowest block on top, so that a fresh slab is handed out upwards. */
	mask = hold->log->mask;
	if (dvsm_is_run(mask)) {
		base += (uint32_t)__builtin_ctzll(mask) * (uint64_t)size;
		for (at = nr; at; base += size)
			blocks[--at] = base;
	} else {
		for (at = nr; mask; mask &= mask - 1)
			blocks[--at] = base + (uint32_t)__builtin_ctzll(mask) * (uint64_t)size;
	}
	for (try = 0; try < DVSM_MOVE_TRIES; try++) {
		cpu = dvsm_cpu_id(heap->fast.area);
		if (cpu >= heap->nr_cpus)
			return false;
		stack = dvsm_cpu_stack(heap, cpu, class);
		head = atomic_load(&stack->head);
		count = dvsm_head_count(head);
		capacity = dvsm_stack_capacity(heap, dvsm_heap_cpu(heap, cpu), stack, class);
		if (count + nr > capacity)
			return false;
		/* In hand, whatever the log says about stacks meanwhile. */
		dvsm_lane_begin(hold, DVSM_OP_PUT, 0);
		hold->log->cpu = cpu;
		hold->log->stack = class;
		dvsm_stack_begin(hold, DVSM_OP_PUSH, head);
		if (dvsm_cpu_move(&stack->head, cpu, heap->fast.area, head,
				  dvsm_head_make(count + nr, dvsm_lane_stack_tag(hold)),
				  stack->blocks + count, blocks, nr) == DVSM_CPU_DONE) {
			dvsm_lane_idle(hold);
			return true;
		}
	}
	return false;
}

/*
 * The CPU's current slab is exhausted: page, which is claimed, takes its place. A slab's cur is set before the
 * CPU has it and cleared after the CPU has it no more: so none is left with a cur that is nobody's, and that
 * frees would trust.
 */
static void dvsm_cur_install(struct dvsm_hold *hold, uint32_t cpu, uint32_t class, uint32_t page)
{
	const struct dvsm_heap *heap = hold->heap;
	_Atomic uint32_t *cur = &dvsm_heap_cpu(heap, cpu)->cur[class];
	uint32_t old = atomic_load(cur);

	/* Also where it has the page already: another CPU may have had it, and left it, in between. */
	hold->log->settle[1] = old ? (old - 1) / DVSM_CHUNK_PAGES + 1 : 0;
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store(&heap->slabs[page].cur, cpu + 1);
	if (!atomic_compare_exchange_strong(cur, &old, page + 1)) {
		atomic_store(&heap->slabs[page].cur, 0);
		dvsm_slab_settle(heap, page);
		return;
	}
	if (!old || old == page + 1)
		return;
	/* Nobody's first, then a look: who frees sets bits, then looks whose it is. */
	atomic_store(&heap->slabs[old - 1].cur, 0);
	dvsm_slab_settle(heap, old - 1);
}

/* Finds blocks on a node: in a slab, which becomes the CPU's current one where there is a CPU, or in a new one. */
static bool dvsm_take_on(struct dvsm_hold *hold, uint32_t class, uint32_t cpu, uint32_t node,
			 uint32_t nr, uint32_t *page)
{
	const struct dvsm_heap *heap = hold->heap;
	_Atomic uint8_t *next = cpu < heap->nr_cpus ? &dvsm_heap_cpu(heap, cpu)->next[class] : NULL;

	while (dvsm_slab_find(hold, class, node, page) ||
	       dvsm_slab_make(hold, class, node, page)) {
		if (dvsm_slab_take(hold, *page, class, nr, next)) {
			if (next)
				dvsm_cur_install(hold, cpu, class, *page);
			else
				dvsm_slab_settle(heap, *page);
			hold->log->settle[0] = 0;
			hold->log->settle[1] = 0;
			return true;
		}
		dvsm_slab_settle(heap, *page);
		hold->log->settle[0] = 0;
	}
	return false;
}

/*
 * Finds blocks: in the CPU's current slab, in another, in a new one. Where the node has none, and no chunk is left for it,
 * another node has one. State TAKE, done; false when full.
 */
static bool dvsm_take_some(struct dvsm_hold *hold, uint32_t class, uint32_t cpu, uint32_t node,
			   uint32_t nr, uint32_t *page)
{
	const struct dvsm_heap *heap = hold->heap;
	struct dvsm_cpu *area = cpu < heap->nr_cpus ? dvsm_heap_cpu(heap, cpu) : NULL;
	uint32_t i;

	if (area) {
		*page = atomic_load(&area->cur[class]) - 1;
		if (*page + 1 && dvsm_slab_take(hold, *page, class, nr, &area->next[class]))
			return true;
	}
	if (dvsm_take_on(hold, class, cpu, node, nr, page))
		return true;
	for (i = 1; i < heap->nr_nodes; i++)
		if (dvsm_take_on(hold, class, ~0U, (node + i) % heap->nr_nodes, 1, page))
			return true;
	return false;
}

/* Groups that are being made, and where their words are in the log: by hash, 0 is none. */
struct dvsm_grouping {
	uint8_t table[256];
	uint32_t nr;
};

static struct dvsm_group *dvsm_group_of(const struct dvsm_heap *heap, struct dvsm_log *log,
					struct dvsm_grouping *grouping, uint64_t word)
{
	uint32_t slot;

	slot = (uint32_t)(word / sizeof(struct dvsm_word)) * 0x9e3779b1U >> 24;
	while (grouping->table[slot] && log->groups[grouping->table[slot] - 1].word != word)
		slot = (slot + 1) & 255;
	if (!grouping->table[slot]) {
		dvsm_word_prefetch(dvsm_heap_at(heap, word));
		log->groups[grouping->nr] = (struct dvsm_group){ .word = word };
		grouping->table[slot] = (uint8_t)++grouping->nr;
	}
	return &log->groups[grouping->table[slot] - 1U];
}

static void dvsm_group_add(struct dvsm_hold *hold, struct dvsm_grouping *grouping,
			   const struct dvsm_place *place, uint64_t mask)
{
	const struct dvsm_heap *heap = hold->heap;
	struct dvsm_group *group;
	uint64_t twice, base;

	group = dvsm_group_of(heap, hold->log, grouping,
			      dvsm_heap_offset_of(heap, dvsm_slab_word(heap, place->page,
								       place->block / 64)));
	twice = group->mask & mask;
	group->mask |= mask;
	if (!twice || hold->resumed)
		return;
	base = dvsm_slab_base(heap, group->word, &(uint32_t){ 0 });
	dvsm_misuse(heap, DVSM_MISUSE_DOUBLE_FREE,
		    dvsm_heap_at(heap, base + (uint64_t)__builtin_ctzll(twice) *
				 dvsm_heap_class(heap, place->class)->size));
}

/* The part of a slab that one word is about, where blocks are being looked up. */
struct dvsm_span {
	uint64_t begin, length;		/* address; 0 for none */
	struct dvsm_place place;	/* of a block in it */
	uint32_t size, nr_blocks;
	uint64_t reciprocal;
};

static bool dvsm_span_find(const struct dvsm_heap *heap, uint64_t block, struct dvsm_span *span)
{
	const struct dvsm_class *class;
	uint32_t first;

	span->length = 0;
	if (!dvsm_slab_place(heap, block - heap->base, &span->place))
		return false;
	class = dvsm_heap_class(heap, span->place.class);
	first = span->place.block & ~63U;
	span->nr_blocks = class->nr_blocks - first < 64 ? class->nr_blocks - first : 64;
	span->begin = heap->base + ((uint64_t)span->place.page << DVSM_HEAP_PAGE_SHIFT) +
		      (uint64_t)first * class->size;
	span->length = (uint64_t)span->nr_blocks * class->size;
	span->size = class->size;
	span->reciprocal = class->reciprocal;
	return true;
}

/* How many of the blocks are each the next one of its slab; four at a time. */
static uint32_t dvsm_span_run(const struct dvsm_span *span, const uint64_t *blocks, uint32_t nr)
{
	__m128i one, two, step;
	uint32_t i;

	one = _mm_set_epi64x((long long)(blocks[0] + span->size), (long long)blocks[0]);
	step = _mm_set1_epi64x(2 * (long long)span->size);
	for (i = 0; i + 4 <= nr; i += 4) {
		two = _mm_add_epi64(one, step);
		if (_mm_movemask_epi8(_mm_and_si128(
			    _mm_cmpeq_epi32(one, _mm_loadu_si128((const __m128i *)&blocks[i])),
			    _mm_cmpeq_epi32(two, _mm_loadu_si128((const __m128i *)&blocks[i + 2])))) != 0xffff)
			break;
		one = _mm_add_epi64(two, step);
	}
	while (i < nr && blocks[i] == blocks[0] + (uint64_t)i * span->size)
		i++;
	return i;
}

/*
 * log.blocks become log.groups: one for each word. Neighbours are often freed one after the other: as long as blocks
 * are of one slab and word, their bits gather in mask.
 */
void dvsm_groups_make(struct dvsm_hold *hold)
{
	const struct dvsm_heap *heap = hold->heap;
	struct dvsm_log *log = hold->log;
	struct dvsm_grouping grouping;
	struct dvsm_span span = { 0 };
	uint64_t mask = 0, bits, at, block;
	uint32_t i, run, left;

	memset(&grouping, 0, sizeof(grouping));
	for (i = 0; i < log->nr; i += run) {
		at = log->blocks[i] - span.begin;
		block = at * span.reciprocal >> 42;
		if (at >= span.length || block * span.size != at) {
			if (mask)
				dvsm_group_add(hold, &grouping, &span.place, mask);
			mask = 0;
			run = 1;
			if (!dvsm_span_find(heap, log->blocks[i], &span)) {
				if (!hold->resumed)
					dvsm_misuse(heap, DVSM_MISUSE_INVALID_POINTER,
						    (void *)log->blocks[i]);
				continue;
			}
			block = span.place.block % 64;
		}
		left = span.nr_blocks - (uint32_t)block;
		run = dvsm_span_run(&span, &log->blocks[i],
				    log->nr - i < left ? log->nr - i : left);
		bits = (~0ULL >> (64 - run)) << block;
		if (mask & bits) {
			dvsm_group_add(hold, &grouping, &span.place, mask);
			mask = 0;
		}
		mask |= bits;
	}
	if (mask)
		dvsm_group_add(hold, &grouping, &span.place, mask);
	log->nr_groups = grouping.nr;
}

/* A slab that some words say is empty. */
struct dvsm_emptied {
	uint32_t page, class;
	uint64_t owner;
};

/* The rest of DVSM_OP_GROUP, from its cursor on; leaves the lane idle. */
void dvsm_groups_put(struct dvsm_hold *hold)
{
	const struct dvsm_heap *heap = hold->heap;
	struct dvsm_log *log = hold->log;
	struct dvsm_emptied empty[16], slab;
	uint32_t nr_empty = 0, at, block;
	const struct dvsm_class *class;
	uint64_t bits, twice, base;

	at = dvsm_state_cursor(dvsm_lane_state(hold));
	if (hold->resumed && at < log->nr_groups && dvsm_lane_done(hold)) {
		dvsm_slab_base(heap, log->groups[at].word, &slab.page);
		dvsm_slab_settle(heap, slab.page);
		at++;
	}
	for (; at < log->nr_groups; at++) {
		dvsm_lane_begin(hold, DVSM_OP_GROUP, at);
		/* What the slab is, as long as these blocks are in hand; with them it may go. */
		base = dvsm_slab_base(heap, log->groups[at].word, &slab.page);
		slab.class = heap->slabs[slab.page].class;
		slab.owner = atomic_load(&heap->slabs[slab.page].owner);
		class = dvsm_heap_class(heap, slab.class);
		bits = dvsm_word_put(hold, dvsm_heap_at(heap, log->groups[at].word),
				     log->groups[at].mask, &twice);
		if (twice && !hold->resumed)
			dvsm_misuse(heap, DVSM_MISUSE_DOUBLE_FREE,
				    dvsm_heap_at(heap, base + (uint64_t)__builtin_ctzll(twice) *
						 class->size));
		if (!atomic_load(&heap->slabs[slab.page].cur))
			dvsm_slab_avail(heap, slab.page, slab.class);
		block = (uint32_t)((log->groups[at].word -
				    dvsm_heap_offset_of(heap, dvsm_slab_word(heap, slab.page, 0))) /
				   sizeof(struct dvsm_word));
		if (bits == dvsm_class_full(class, block) && nr_empty < 16 &&
		    (!nr_empty || empty[nr_empty - 1].page != slab.page))
			empty[nr_empty++] = slab;
	}
	dvsm_lane_idle(hold);
	while (nr_empty--)
		dvsm_slab_emptied(hold, empty[nr_empty].page, empty[nr_empty].class,
				  empty[nr_empty].owner);
}

/* Blocks that are in log.blocks go to their slabs. The state is POP, done, or idle with nothing else in hand. */
static void dvsm_blocks_put(struct dvsm_hold *hold)
{
	dvsm_groups_make(hold);
	if (!hold->log->nr_groups) {
		dvsm_lane_idle(hold);
		return;
	}
	dvsm_lane_begin(hold, DVSM_OP_GROUP, 0);
	dvsm_groups_put(hold);
}

/* Takes up to nr blocks off the running CPU's stack, into log.blocks. False when it could not be done. */
static bool dvsm_pop_batch(struct dvsm_hold *hold, uint32_t cpu, uint32_t index, uint64_t head,
			   uint32_t nr)
{
	struct dvsm_stack *stack = dvsm_cpu_stack(hold->heap, cpu, index);
	uint32_t rest = dvsm_head_count(head) - nr;

	hold->log->cpu = cpu;
	hold->log->stack = index;
	hold->log->nr = nr;
	dvsm_stack_begin(hold, DVSM_OP_POP, head);
	if (dvsm_cpu_move(&stack->head, cpu, hold->heap->fast.area, head,
			  dvsm_head_make(rest, dvsm_lane_stack_tag(hold)),
			  hold->log->blocks, stack->blocks + rest, nr) == DVSM_CPU_DONE)
		return true;
	dvsm_lane_idle(hold);
	return false;
}

/*
 * Half of the running CPU's stack goes to the slabs, if it is full. False: it takes no blocks.
 *
 * @block: address of what is being freed. Nobody else can have put it on top: whatever happens between the two
 *   looks here, while it is in our hands it is in no stack.
 */
static bool dvsm_flush_stack(struct dvsm_hold *hold, uint32_t index, uint64_t block)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t cpu, count, capacity, try;
	struct dvsm_stack *stack;
	uint64_t head;

	for (try = 0; try < DVSM_MOVE_TRIES; try++) {
		cpu = dvsm_cpu_id(heap->fast.area);
		if (cpu >= heap->nr_cpus)
			return false;
		stack = dvsm_cpu_stack(heap, cpu, index);
		head = atomic_load(&stack->head);
		count = dvsm_head_count(head);
		capacity = dvsm_stack_capacity(heap, dvsm_heap_cpu(heap, cpu), stack, index);
		if (count && __atomic_load_n(&stack->blocks[count - 1], __ATOMIC_RELAXED) == block)
			dvsm_misuse(heap, DVSM_MISUSE_DOUBLE_FREE, (void *)block);
		if (count < capacity)
			return true;
		if (!capacity)
			return false;
		count = (count + 1) / 2 < DVSM_BATCH ? (count + 1) / 2 : DVSM_BATCH;
		if (dvsm_pop_batch(hold, cpu, index, head, count)) {
			dvsm_blocks_put(hold);
			return true;
		}
	}
	return false;
}

/* No current slab of that class any more; if it is empty it can go. Return: whether there was one. */
static bool dvsm_cpu_leave_class(struct dvsm_hold *hold, uint32_t cpu, uint32_t class)
{
	const struct dvsm_heap *heap = hold->heap;
	_Atomic uint32_t *cur = &dvsm_heap_cpu(heap, cpu)->cur[class];
	uint32_t old = atomic_load(cur);

	if (!old)
		return false;
	hold->log->settle[1] = (old - 1) / DVSM_CHUNK_PAGES + 1;
	atomic_signal_fence(memory_order_seq_cst);
	if (atomic_compare_exchange_strong(cur, &old, 0)) {
		atomic_store(&heap->slabs[old - 1].cur, 0);
		dvsm_slab_settle(heap, old - 1);
		dvsm_slab_emptied(hold, old - 1, class, 0);
	}
	hold->log->settle[1] = 0;
	return true;
}

static void dvsm_cpu_leave(struct dvsm_hold *hold, uint32_t cpu)
{
	uint32_t class;

	for (class = 1; class <= DVSM_CLASS_CACHED; class++)
		dvsm_cpu_leave_class(hold, cpu, class);
}

/* Empties a stack of the running CPU, by so many batches at most. Return: blocks that went to slabs. */
static size_t dvsm_stack_drain(struct dvsm_hold *hold, uint32_t index, uint32_t nr_batches)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t cpu, count, try = 0;
	uint64_t head;
	size_t nr = 0;

	while (nr_batches && try < DVSM_MOVE_TRIES) {
		cpu = dvsm_cpu_id(heap->fast.area);
		if (cpu >= heap->nr_cpus)
			break;
		head = atomic_load(&dvsm_cpu_stack(heap, cpu, index)->head);
		count = dvsm_head_count(head);
		if (!count)
			break;
		if (count > DVSM_BATCH)
			count = DVSM_BATCH;
		if (!dvsm_pop_batch(hold, cpu, index, head, count)) {
			try++;
			continue;
		}
		dvsm_blocks_put(hold);
		nr += count;
		nr_batches--;
	}
	return nr;
}

/* A stack that is as it was at the last look has been neither refilled nor flushed since. Return: batches it took. */
static uint32_t dvsm_stack_age(struct dvsm_hold *hold, uint32_t cpu, uint32_t index, uint32_t nr_batches)
{
	const struct dvsm_heap *heap = hold->heap;
	_Atomic uint64_t *seen = &dvsm_heap_cpu(heap, cpu)->seen[index];
	_Atomic uint64_t *head = &dvsm_cpu_stack(heap, cpu, index)->head;
	size_t nr = 0;

	if (atomic_load(head) == atomic_load(seen)) {
		if (dvsm_head_count(atomic_load(head)))
			nr = dvsm_stack_drain(hold, index, nr_batches);
		if (index <= DVSM_CLASS_CACHED && !dvsm_head_count(atomic_load(head)) &&
		    (dvsm_cpu_leave_class(hold, cpu, index) || nr))
			dvsm_slab_give_spare(hold, index);
	}
	atomic_store(seen, atomic_load(head));
	return (uint32_t)((nr + DVSM_BATCH - 1) / DVSM_BATCH);
}

/*
 * What this CPU has ready of sizes that nobody wants any more goes to the slabs, a part at a time: it may be all that
 * keeps their chunks. The lane is idle before and after.
 */
static void dvsm_cpu_age(struct dvsm_hold *hold)
{
	const struct dvsm_heap *heap = hold->heap;
	uint32_t cpu = dvsm_cpu_id(heap->fast.area), index, left = DVSM_AGE_BATCHES;
	_Atomic uint64_t *aged;
	struct timespec time;
	uint64_t now, last;

	if (cpu >= heap->nr_cpus || heap->header->idle_ms == UINT32_MAX)
		return;
	aged = &dvsm_heap_cpu(heap, cpu)->aged;
	last = atomic_load(aged);
	clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
	now = (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
	if (now >= last && now - last < heap->header->idle_ms)
		return;
	/* One thread looks. The first time, and where the clock began anew, there is nothing to compare with. */
	if (!atomic_compare_exchange_strong(aged, &last, now) || !last || now < last)
		return;
	for (dvsm_each_stack(index))
		if (left && dvsm_stack_is_used(heap, cpu, index))
			left -= dvsm_stack_age(hold, cpu, index, left);
}

static uint64_t dvsm_refill_try(const struct dvsm_heap *heap, uint32_t class, int node, bool stacks,
				uint64_t owner)
{
	uint32_t cpu = dvsm_cpu_id(heap->fast.area), page, nr, more = 0, got = 0;
	struct dvsm_hold hold;
	_Atomic uint8_t *next = NULL;
	uint64_t block, first;

	if (node < 0)
		node = (int)dvsm_cpu_node(heap, cpu);
	if (!stacks || class > DVSM_CLASS_CACHED)
		cpu = ~0U;
	if (heap->flags & DVSM_HEAP_F_HARDENED)
		cpu = ~0U;
	if (cpu < heap->nr_cpus)
		more = dvsm_heap_class(heap, class)->capacity / 2U;
	if (more) {
		next = &dvsm_heap_cpu(heap, cpu)->next[class];
		page = atomic_load(&dvsm_heap_cpu(heap, cpu)->cur[class]);
		if (page)
			dvsm_word_prefetch(dvsm_slab_word(heap, page - 1, *next));
	}
	if (more > DVSM_BATCH)
		more = DVSM_BATCH;
	if (!dvsm_lane_acquire(heap, &hold))
		return 0;
	hold.owner = owner;
	nr = more + 1 < 64 ? more + 1 : 64;
	if (!dvsm_take_some(&hold, class, cpu, (uint32_t)node, nr, &page)) {
		dvsm_lane_release(&hold);
		return 0;
	}
	first = hold.log->mask & -hold.log->mask;
	block = dvsm_slab_base(heap, hold.log->word, &page) +
		(uint64_t)__builtin_ctzll(first) * dvsm_heap_class(heap, class)->size;
	/* From here the first block is the caller's. */
	hold.log->mask &= ~first;
	atomic_signal_fence(memory_order_seq_cst);
	if (hold.log->mask) {
		do {
			got += (uint32_t)__builtin_popcountll(hold.log->mask);
			if (!dvsm_push_batch(&hold, class)) {
				dvsm_slab_put(&hold);
				break;
			}
			nr = more > got ? more - got < 64 ? more - got : 64 : 0;
		} while (nr && dvsm_slab_take(&hold, page, class, nr, next));
	} else {
		dvsm_lane_idle(&hold);
	}
	dvsm_cpu_age(&hold);
	dvsm_lane_release(&hold);
	return block;
}

/**
 * dvsm_refill - a block from the slabs, and a batch for the stack.
 * @class: size class
 * @node: -1 for the running CPU's
 * @stacks: whether the CPU's stack may be filled
 * @owner: 0; or whose the block shall be, and the class is with DVSM_CLASS_OWNED
 *
 * Keeps errno. Return: the block's offset; 0 when there is none.
 */
uint64_t dvsm_refill(const struct dvsm_heap *heap, uint32_t class, int node, bool stacks,
		     uint64_t owner)
{
	int error = errno;
	uint64_t block;

	block = dvsm_refill_try(heap, class, node, stacks, owner);
	if (!block) {
		/* What the dead have in their hands may be what is missing. */
		dvsm_lanes_recover(heap, false);
		block = dvsm_refill_try(heap, class, node, stacks, owner);
	}
	errno = error;
	return block;
}

/**
 * dvsm_flush - free a block that the running CPU's stack has no room for.
 * @stack: class or DVSM_STACK_REMOTE
 * @offset: the block
 */
void dvsm_flush(const struct dvsm_heap *heap, uint32_t index, uint64_t offset)
{
	struct dvsm_place place;
	struct dvsm_hold hold;
	bool again;

	if (!dvsm_slab_place(heap, offset, &place)) {
		dvsm_misuse(heap, DVSM_MISUSE_INVALID_POINTER, dvsm_heap_at(heap, offset));
		return;
	}
	dvsm_lane_wait(heap, &hold);
	again = (index <= DVSM_CLASS_CACHED || index == DVSM_STACK_REMOTE) &&
		dvsm_cpu_id(heap->fast.area) < heap->nr_cpus &&
		dvsm_flush_stack(&hold, index, heap->base + offset);
	if (!again || dvsm_cpu_push(heap->fast.stack[index], heap->fast.area,
				     dvsm_heap_at(heap, offset)) != DVSM_CPU_DONE) {
		hold.log->blocks[0] = heap->base + offset;
		hold.log->nr = 1;
		dvsm_blocks_put(&hold);
	}
	dvsm_cpu_age(&hold);
	dvsm_lane_release(&hold);
}

/* What the stacks of a CPU have. */
static bool dvsm_cpu_has_blocks(const struct dvsm_heap *heap, uint32_t cpu)
{
	uint32_t index;

	for (dvsm_each_stack(index))
		if (dvsm_stack_is_used(heap, cpu, index) &&
		    dvsm_head_count(atomic_load(&dvsm_cpu_stack(heap, cpu, index)->head)))
			return true;
	return false;
}

/* The C library's are of 1024 CPUs, and the kernel refuses to tell of more than it is given room for. */
struct dvsm_cpu_mask {
	unsigned long bits[DVSM_HEAP_CPUS_MAX / 8 / sizeof(long)];
};

static bool dvsm_affinity_get(struct dvsm_cpu_mask *mask)
{
	memset(mask, 0, sizeof(*mask));
	return syscall(SYS_sched_getaffinity, 0, sizeof(*mask), mask) > 0;
}

static bool dvsm_affinity_set(const struct dvsm_cpu_mask *mask)
{
	return !syscall(SYS_sched_setaffinity, 0, sizeof(*mask), mask);
}

static bool dvsm_affinity_set_one(uint32_t cpu)
{
	struct dvsm_cpu_mask one = { { 0 } };

	one.bits[cpu / 64] = 1UL << cpu % 64;
	return dvsm_affinity_set(&one);
}

/* As sched_getaffinity() said: it leaves CPUs that are offline out, and a thread that may run on every one may on these, too. */
static void dvsm_cpu_return(const struct dvsm_cpu_mask *before)
{
	struct dvsm_cpu_mask all, now;

	memset(&all, 0xff, sizeof(all));
	if (!dvsm_affinity_set(&all) || !dvsm_affinity_get(&now) ||
	    memcmp(&now, before, sizeof(now)) != 0)
		dvsm_affinity_set(before);
}

/**
 * dvsm_cpu_drain - empty the stacks of every CPU that this thread can run on.
 *
 * It goes there: a stack is changed by nobody but its own CPU. Its affinity is no obstacle, as a thread may widen that
 * to its cpuset; CPUs that are offline or outside of the cpuset are. Return: blocks that went to slabs.
 */
size_t dvsm_cpu_drain(const struct dvsm_heap *heap)
{
	struct dvsm_cpu_mask before;
	struct dvsm_hold hold;
	bool moved = false, known;
	uint32_t cpu, index;
	size_t nr = 0;

	if (!dvsm_lane_acquire(heap, &hold))
		return 0;
	known = dvsm_affinity_get(&before);
	for (cpu = 0; cpu < heap->nr_cpus; cpu++) {
		if (known && dvsm_cpu_has_blocks(heap, cpu) && dvsm_affinity_set_one(cpu)) {
			moved = true;
			for (dvsm_each_stack(index))
				nr += dvsm_stack_drain(&hold, index, UINT32_MAX);
		}
		dvsm_cpu_leave(&hold, cpu);
	}
	if (moved)
		dvsm_cpu_return(&before);
	dvsm_lane_release(&hold);
	return nr;
}
