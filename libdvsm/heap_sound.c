// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Is what stands in a heap's tables possible? Asked when it is attached, and of a dead holder's log before its step is
 * finished: numbers that lead out of the tables are refused, so whatever a file holds, attaching and checking it
 * does no harm. Whether the tables agree with each other is the audit's matter.
 *
 * Others may be at work: each number that is looked at is in its range at every moment of a sound heap.
 */
#include "heap_class.h"
#include "heap_cpu.h"
#include "heap_lane.h"
#include "heap_slab.h"

static bool dvsm_lanes_are_sound(const struct dvsm_heap *heap)
{
	pthread_mutex_t fresh;
	uint32_t i;

	/* Of a mutex its kind alone never changes; what else is in it, trylock looks at with care. */
	dvsm_lane_lock_init(&fresh);
	for (i = 0; i < heap->header->nr_lanes; i++)
		if (heap->lanes[i].lock.__data.__kind != fresh.__data.__kind)
			return false;
	return heap->header->owners.__data.__kind == fresh.__data.__kind;
}

static uint32_t dvsm_stack_slots(const struct dvsm_heap *heap, uint32_t index)
{
	return index == DVSM_STACK_REMOTE ? DVSM_BATCH : dvsm_heap_class(heap, index)->capacity;
}

/* A head's tag names a lane. */
static bool dvsm_stack_is_sound(const struct dvsm_heap *heap, const struct dvsm_stack *stack,
				uint32_t slots)
{
	uint64_t head = atomic_load(&stack->head);

	return (uint32_t)head <= slots && head >> 52 <= heap->header->nr_lanes &&
	       atomic_load(&stack->capacity) <= slots;
}

/* What threads that are on no CPU find: stacks that are empty and full at once. */
static bool dvsm_guards_are_sound(const struct dvsm_heap *heap)
{
	const char *stack;
	uint32_t guard, index;

	for (guard = 1; guard <= DVSM_CPU_GUARDS; guard++) {
		for (dvsm_each_stack(index)) {
			stack = heap->fast.stack[index] - ((uint64_t)guard << DVSM_CPU_SHIFT);
			if (!dvsm_stack_is_sound(heap, (const struct dvsm_stack *)stack, 0))
				return false;
		}
		stack = heap->fast.stack[DVSM_CLASS_NONE] - ((uint64_t)guard << DVSM_CPU_SHIFT);
		if (!dvsm_stack_is_sound(heap, (const struct dvsm_stack *)stack, 0))
			return false;
	}
	return true;
}

/* A chunk in use, counted from 1, or none. It was counted as used before anybody could name it. */
static bool dvsm_named_chunk_is_sound(const struct dvsm_heap *heap, uint32_t chunk)
{
	return !chunk || (chunk > heap->header->first_chunk &&
			  chunk <= atomic_load(&heap->header->high_chunk));
}

/* A page of such a chunk, counted from 1, or none. */
static bool dvsm_named_page_is_sound(const struct dvsm_heap *heap, uint32_t page)
{
	return !page || dvsm_named_chunk_is_sound(heap, (page - 1) / DVSM_CHUNK_PAGES + 1);
}

static bool dvsm_cpus_are_sound(const struct dvsm_heap *heap)
{
	uint32_t cpu, index;

	for (cpu = 0; cpu < heap->nr_cpus; cpu++) {
		for (dvsm_each_stack(index))
			if (!dvsm_stack_is_sound(heap, dvsm_cpu_stack(heap, cpu, index),
						 dvsm_stack_slots(heap, index)))
				return false;
		/* That of everything that has none. */
		if (!dvsm_stack_is_sound(heap, dvsm_cpu_stack(heap, cpu, DVSM_CLASS_NONE), 0))
			return false;
		for (index = 0; index < DVSM_CLASSES; index++)
			if (!dvsm_named_page_is_sound(heap,
						      atomic_load(&dvsm_heap_cpu(heap, cpu)->cur[index])))
				return false;
	}
	return true;
}

/*
 * Behind the heap's end. Others may make and retire slabs between the looks at class and delta, so one
 * of each is no proof.
 */
static bool dvsm_slab_leaves(const struct dvsm_heap *heap, uint32_t page)
{
	uint32_t class, end = heap->header->end_chunk * DVSM_CHUNK_PAGES;
	int look;

	for (look = 0; look < 8; look++) {
		class = __atomic_load_n(&heap->classes[page], __ATOMIC_ACQUIRE);
		if (!dvsm_class_is_slab(class) || heap->slabs[page].delta ||
		    page + dvsm_heap_class(heap, class)->nr_pages <= end)
			return false;
	}
	return true;
}

static bool dvsm_chunk_is_sound(const struct dvsm_heap *heap, uint32_t chunk)
{
	const struct dvsm_heap_chunk *entry = &heap->chunks[chunk];
	uint32_t page, first = chunk * DVSM_CHUNK_PAGES;

	if (entry->kind > DVSM_CHUNK_BODY || (entry->kind == DVSM_CHUNK_HUGE &&
					      entry->nr_chunks > heap->header->end_chunk - chunk))
		return false;
	for (page = 0; page < DVSM_CHUNK_PAGES; page++)
		if (heap->slabs[first + page].delta > page ||
		    atomic_load(&heap->slabs[first + page].cur) > heap->nr_cpus ||
		    dvsm_slab_leaves(heap, first + page))
			return false;
	return true;
}

static bool dvsm_spares_are_sound(const struct dvsm_heap *heap)
{
	uint32_t class;

	for (class = 0; class < DVSM_CLASSES; class++)
		if (!dvsm_named_page_is_sound(heap, atomic_load(&heap->header->spare_slab[class])))
			return false;
	return dvsm_named_chunk_is_sound(heap, atomic_load(&heap->header->spare_chunk));
}

/* The map's bits and the hints of that word are of chunks that are the allocator's. */
static bool dvsm_map_is_sound(const struct dvsm_heap *heap, uint32_t word)
{
	uint64_t valid = dvsm_map_valid(heap, word);
	uint32_t hint;

	if (dvsm_map_bits(heap, word) & ~valid)
		return false;
	for (hint = 0; hint < DVSM_HINTS; hint++)
		if (atomic_load(dvsm_hint_word(heap, word * 64, hint)) & ~valid)
			return false;
	return true;
}

/* @heap: its header is sane. */
bool dvsm_heap_is_sound(const struct dvsm_heap *heap)
{
	const struct dvsm_heap_header *header = heap->header;
	uint32_t chunk, high = atomic_load(&header->high_chunk);

	if (high < header->first_chunk || high > header->end_chunk || !dvsm_spares_are_sound(heap))
		return false;
	/* Of the words between these two all bits are chunks. */
	if (!dvsm_map_is_sound(heap, header->first_chunk / 64) ||
	    !dvsm_map_is_sound(heap, (header->end_chunk - 1) / 64))
		return false;
	/* The first chunk is nobody's second one. */
	if (heap->chunks[header->first_chunk].kind == DVSM_CHUNK_BODY)
		return false;
	for (chunk = header->first_chunk; chunk < high; chunk++)
		if (!dvsm_chunk_is_sound(heap, chunk))
			return false;
	return dvsm_lanes_are_sound(heap) && dvsm_cpus_are_sound(heap) &&
	       dvsm_guards_are_sound(heap);
}

/* Some word of a slab that there is. */
static bool dvsm_log_word_is_sound(const struct dvsm_heap *heap, uint64_t word)
{
	uint64_t at = word - heap->header->words;
	uint64_t page = at / (DVSM_SLAB_WORDS * sizeof(struct dvsm_word));

	return word >= heap->header->words && at % sizeof(struct dvsm_word) == 0 &&
	       page >= heap->header->first_chunk * DVSM_CHUNK_PAGES &&
	       page < heap->header->end_chunk * DVSM_CHUNK_PAGES;
}

static bool dvsm_log_pages_are_sound(const struct dvsm_heap *heap, uint64_t word)
{
	uint64_t at = word - heap->header->chunks;

	return word >= heap->header->chunks && at % sizeof(struct dvsm_heap_chunk) == 0 &&
	       at / sizeof(struct dvsm_heap_chunk) >= heap->header->first_chunk &&
	       at / sizeof(struct dvsm_heap_chunk) < heap->header->end_chunk;
}

static bool dvsm_log_chunks_are_sound(const struct dvsm_heap *heap, uint32_t chunk, uint32_t nr)
{
	return chunk >= heap->header->first_chunk && chunk < heap->header->end_chunk && nr &&
	       nr <= heap->header->end_chunk - chunk;
}

static bool dvsm_log_groups_are_sound(const struct dvsm_heap *heap, const struct dvsm_log *log,
				      uint32_t cursor)
{
	uint32_t i;

	if (log->nr_groups > DVSM_BATCH || cursor > log->nr_groups)
		return false;
	for (i = cursor; i < log->nr_groups; i++)
		if (!dvsm_log_word_is_sound(heap, log->groups[i].word))
			return false;
	return true;
}

static bool dvsm_log_slab_is_sound(const struct dvsm_heap *heap, const struct dvsm_log *log,
				   uint32_t cursor)
{
	return dvsm_class_is_slab(log->stack) &&
	       log->page / DVSM_CHUNK_PAGES >= heap->header->first_chunk &&
	       log->page / DVSM_CHUNK_PAGES < heap->header->end_chunk &&
	       log->page % DVSM_CHUNK_PAGES + dvsm_heap_class(heap, log->stack)->nr_pages <= DVSM_CHUNK_PAGES &&
	       cursor <= DVSM_SLAB_WORDS;
}

static bool dvsm_log_stack_is_sound(const struct dvsm_heap *heap, const struct dvsm_log *log)
{
	return log->cpu < heap->nr_cpus &&
	       ((log->stack && log->stack <= DVSM_CLASS_CACHED) || log->stack == DVSM_STACK_REMOTE);
}

static bool dvsm_log_blocks_are_sound(const struct dvsm_heap *heap, const struct dvsm_log *log)
{
	uint64_t first = (uint64_t)heap->header->first_chunk << DVSM_HEAP_CHUNK_SHIFT;
	uint64_t high = (uint64_t)atomic_load(&heap->header->high_chunk) << DVSM_HEAP_CHUNK_SHIFT;
	uint32_t i;

	if (log->nr > DVSM_BATCH)
		return false;
	for (i = 0; i < log->nr; i++)
		if (log->blocks[i] - heap->base < first || log->blocks[i] - heap->base >= high)
			return false;
	return true;
}

/* @hold: a lane whose holder is dead. */
bool dvsm_log_is_sound(const struct dvsm_hold *hold)
{
	const struct dvsm_heap *heap = hold->heap;
	const struct dvsm_log *log = hold->log;
	uint32_t cursor = dvsm_state_cursor(dvsm_lane_state(hold));

	if (!dvsm_named_chunk_is_sound(heap, log->settle[0]) ||
	    !dvsm_named_chunk_is_sound(heap, log->settle[1]))
		return false;
	switch (dvsm_state_op(dvsm_lane_state(hold))) {
	case DVSM_OP_IDLE:
		return true;
	case DVSM_OP_PUSH:
		return dvsm_log_word_is_sound(heap, log->word) && dvsm_log_stack_is_sound(heap, log);
	case DVSM_OP_TAKE:
	case DVSM_OP_PUT:
		return dvsm_log_word_is_sound(heap, log->word);
	case DVSM_OP_POP:
		return dvsm_log_stack_is_sound(heap, log) && dvsm_log_blocks_are_sound(heap, log);
	case DVSM_OP_GROUP:
		return dvsm_log_groups_are_sound(heap, log, cursor);
	case DVSM_OP_PAGES:
	case DVSM_OP_UNPAGE:
		return dvsm_log_pages_are_sound(heap, log->word) && !(log->mask >> DVSM_CHUNK_PAGES);
	case DVSM_OP_FILL:
	case DVSM_OP_DRAIN:
		return dvsm_log_slab_is_sound(heap, log, cursor);
	case DVSM_OP_OPEN:
	case DVSM_OP_CLOSE:
		return log->nr == 1 && dvsm_log_chunks_are_sound(heap, log->chunk, 1);
	case DVSM_OP_CHUNK:
	case DVSM_OP_FREE:
		return dvsm_log_chunks_are_sound(heap, log->chunk, log->nr) &&
		       cursor <= (log->chunk + log->nr - 1) / 64 - log->chunk / 64 + 1;
	default:
		return false;
	}
}
