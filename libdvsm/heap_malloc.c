// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The malloc family on a heap, past the fast path.
 *
 * Three ways by size: classes with stacks; classes without, whose blocks come straight out of slabs; and whole
 * chunks. Alignment beyond 16 is had from a class whose size is a multiple of it, as slabs begin at pages.
 */
#include <emmintrin.h>
#include <string.h>

#include "heap_fast.h"
#include "heap_huge.h"

#define DVSM_POP_TRIES	4

static void *dvsm_retry_pop(const struct dvsm_heap *heap, uint32_t class)
{
	void *block;
	int try;

	for (try = 0; try < DVSM_POP_TRIES; try++) {
		switch (dvsm_cpu_pop(heap->fast.stack[class], heap->fast.area, &block)) {
		case DVSM_CPU_DONE:
			return block;
		case DVSM_CPU_ABORTED:
			continue;
		default:
			return NULL;
		}
	}
	return NULL;
}

static __attribute__((noinline)) void *dvsm_malloc_none(void)
{
	errno = ENOMEM;
	return NULL;
}

static __attribute__((noinline)) void *dvsm_malloc_first(size_t size)
{
	struct dvsm_heap *heap = dvsm_heap_default();

	return heap ? dvsm_heap_malloc(heap, size) : dvsm_malloc_none();
}

__attribute__((noinline)) void *dvsm_malloc_slow(size_t size, const struct dvsm_heap *heap)
{
	uint32_t class = dvsm_class_of(size);
	uint64_t offset;
	void *block;

	block = dvsm_retry_pop(heap, class);
	if (block)
		return block;
	offset = dvsm_refill(heap, class, -1, true, 0);
	return offset ? dvsm_heap_at(heap, offset) : dvsm_malloc_none();
}

/* Sizes beyond DVSM_SMALL_MAX. */
__attribute__((noinline)) void *dvsm_malloc_large(size_t size, const struct dvsm_heap *heap)
{
	uint64_t offset;
	uint32_t class;
	bool clean;

	/* The default heap before its first use: see dvsm_malloc(). */
	if (dvsm_unlikely(!heap->ready))
		return dvsm_malloc_first(size);
	if (size <= DVSM_SMALL_MAX)
		return dvsm_malloc_small(heap, size);
	if (size > DVSM_CLASS_SIZE_MAX) {
		offset = dvsm_huge_take(heap, size, 1, -1, 0, &clean);
		return offset ? dvsm_heap_at(heap, offset) : dvsm_malloc_none();
	}
	class = dvsm_class_of(size);
	if (class <= DVSM_CLASS_CACHED)
		return dvsm_malloc_stack(heap, size, heap->fast.stack[class]);
	offset = dvsm_refill(heap, class, -1, false, 0);
	return offset ? dvsm_heap_at(heap, offset) : dvsm_malloc_none();
}

static inline __attribute__((always_inline)) void *
dvsm_heap_malloc_any(const struct dvsm_heap *heap, size_t size)
{
	if (size <= DVSM_SMALL_MAX)
		return dvsm_malloc_small(heap, size);
	return dvsm_malloc_large(size, heap);
}

void *dvsm_heap_malloc(struct dvsm_heap *heap, size_t size)
{
	return dvsm_heap_malloc_any(heap, size);
}

/* Whether a block is another node's is asked of the CPU that runs now; a wrong guess only costs a detour. */
static uint32_t dvsm_free_stack(const struct dvsm_heap *heap, uint64_t offset, uint32_t class)
{
	uint32_t cpu = dvsm_cpu_id(heap->fast.area);

	if (heap->nr_nodes > 1 && cpu < heap->nr_cpus &&
	    heap->chunks[offset >> DVSM_HEAP_CHUNK_SHIFT].node != dvsm_cpu_node(heap, cpu))
		return DVSM_STACK_REMOTE;
	return class;
}

#define DVSM_LOOK_MOST	256U

/*
 * Whether a block seems to be among the topmost of the running CPU's stack. Others may change that meanwhile, and only
 * half of each address is compared, four at a time: dvsm_cpu_find() knows for certain.
 */
static bool dvsm_stack_may_have(const struct dvsm_heap *heap, uint32_t index, const void *address)
{
	__m128i wanted = _mm_set1_epi32((int)(uintptr_t)address);
	uint32_t cpu = dvsm_cpu_id(heap->fast.area), count, i;
	const uint64_t *top;
	__m128 pair[2];

	if (cpu >= heap->nr_cpus)
		return false;
	count = (uint32_t)atomic_load_explicit(&dvsm_cpu_stack(heap, cpu, index)->head, memory_order_relaxed);
	top = dvsm_cpu_stack(heap, cpu, index)->blocks + count;
	for (i = 4; i <= count && i <= DVSM_LOOK_MOST; i += 4) {
		pair[0] = _mm_loadu_ps((const float *)(top - i));
		pair[1] = _mm_loadu_ps((const float *)(top - i + 2));
		if (_mm_movemask_epi8(_mm_cmpeq_epi32(wanted, _mm_castps_si128(
				      _mm_shuffle_ps(pair[0], pair[1], _MM_SHUFFLE(2, 0, 2, 0))))))
			return true;
	}
	/* What is left of a short stack. */
	for (i -= 3; i <= count && i <= DVSM_LOOK_MOST; i++)
		if (__atomic_load_n(top - i, __ATOMIC_RELAXED) == (uintptr_t)address)
			return true;
	return false;
}

/*
 * One of a process's first frees: is it a block, and is it free already? It is if its bit is set, or if it is ready on
 * the running CPU; what others have ready is not looked at.
 */
static void dvsm_free_look(struct dvsm_heap *heap, const void *address, uint32_t stack)
{
	struct dvsm_place place;
	uint32_t left = atomic_load_explicit(&heap->looks, memory_order_relaxed);

	if (!left)
		return;
	if (!dvsm_slab_place(heap, dvsm_heap_offset_of(heap, address), &place))
		dvsm_misuse(heap, DVSM_MISUSE_INVALID_POINTER, address);
	else if (dvsm_word_read(dvsm_slab_word(heap, place.page, place.block / 64)).bits >> place.block % 64 & 1 ||
		 (dvsm_stack_may_have(heap, stack, address) &&
		  dvsm_cpu_find(heap->fast.stack[stack], heap->fast.area, address) == DVSM_CPU_DONE))
		dvsm_misuse(heap, DVSM_MISUSE_DOUBLE_FREE, address);
	if (left == UINT32_MAX)
		return;
	/* Two at once count as one. */
	atomic_store_explicit(&heap->looks, left - 1, memory_order_relaxed);
	if (left == 1)
		__atomic_store_n(&heap->fast.size, heap->size, __ATOMIC_RELEASE);
}

/* NULL, foreign and wild pointers come here, too. Keeps errno. */
__attribute__((noinline)) void dvsm_free_slow(const void *address, struct dvsm_heap *heap)
{
	uint64_t offset = dvsm_heap_offset_of(heap, address);
	int error = errno;
	uint32_t class, stack;
	int try;

	if (!address)
		return;
	class = offset < heap->size ? heap->classes[offset >> DVSM_HEAP_PAGE_SHIFT] : 0;
	if (class == DVSM_CLASS_HUGE) {
		dvsm_huge_put(heap, offset);
	} else if (!dvsm_class_is_slab(class)) {
		dvsm_misuse(heap, DVSM_MISUSE_INVALID_POINTER, address);
	} else if (class > DVSM_CLASS_CACHED) {
		dvsm_flush(heap, class, offset);
	} else {
		stack = dvsm_free_stack(heap, offset, class);
		dvsm_free_look(heap, address, stack);
		for (try = 0; try < DVSM_POP_TRIES; try++) {
			switch (dvsm_cpu_push(heap->fast.stack[stack], heap->fast.area, address)) {
			case DVSM_CPU_DONE:
				errno = error;
				return;
			case DVSM_CPU_ABORTED:
				continue;
			default:
				try = DVSM_POP_TRIES;
			}
		}
		dvsm_flush(heap, stack, offset);
	}
	errno = error;
}

void dvsm_heap_free(struct dvsm_heap *heap, void *address)
{
	dvsm_free_fast(heap, address);
}

static bool dvsm_is_power(size_t value)
{
	return value && !(value & (value - 1));
}

/* Alignment is a power of two. */
static void *dvsm_align_any(const struct dvsm_heap *heap, size_t alignment, size_t size)
{
	uint64_t offset;
	uint32_t class;
	bool clean;

	if (alignment <= 16)
		return dvsm_heap_malloc_any(heap, size);
	if (size > PTRDIFF_MAX - alignment || alignment > heap->size)
		return dvsm_malloc_none();
	if (alignment <= DVSM_HEAP_PAGE_SIZE) {
		size = dvsm_align_up(size ? size : 1, alignment);
		if (size <= DVSM_CLASS_SIZE_MAX) {
			for (class = dvsm_class_of(size); class <= DVSM_CLASS_LAST; class++)
				if (!(dvsm_heap_class(heap, class)->size & (alignment - 1)))
					break;
			if (class <= DVSM_CLASS_LAST)
				return dvsm_heap_malloc_any(heap, dvsm_heap_class(heap, class)->size);
		}
	}
	offset = dvsm_huge_take(heap, size, alignment, -1, 0, &clean);
	return offset ? dvsm_heap_at(heap, offset) : dvsm_malloc_none();
}

void *dvsm_heap_aligned_alloc(struct dvsm_heap *heap, size_t alignment, size_t size)
{
	if (!dvsm_is_power(alignment)) {
		errno = EINVAL;
		return NULL;
	}
	return dvsm_align_any(heap, alignment, size);
}

void *dvsm_heap_memalign(struct dvsm_heap *heap, size_t alignment, size_t size)
{
	return dvsm_heap_aligned_alloc(heap, alignment, size);
}

int dvsm_heap_posix_memalign(struct dvsm_heap *heap, void **address, size_t alignment, size_t size)
{
	int error = errno;
	void *block;

	if (alignment % sizeof(void *) || !dvsm_is_power(alignment))
		return EINVAL;
	block = dvsm_align_any(heap, alignment, size);
	errno = error;
	if (!block)
		return ENOMEM;
	*address = block;
	return 0;
}

void *dvsm_heap_calloc(struct dvsm_heap *heap, size_t nr, size_t size)
{
	uint64_t offset;
	size_t total;
	bool clean;
	void *address;

	if (__builtin_mul_overflow(nr, size, &total))
		return dvsm_malloc_none();
	if (total > DVSM_CLASS_SIZE_MAX) {
		offset = dvsm_huge_take(heap, total, 1, -1, 0, &clean);
		if (!offset)
			return dvsm_malloc_none();
		address = dvsm_heap_at(heap, offset);
		return clean ? address : memset(address, 0, total);
	}
	address = dvsm_heap_malloc_any(heap, total);
	return address ? memset(address, 0, total) : NULL;
}

/* What a pointer that is the program's must be: else the message, and the end. 0 where the program goes on. */
static size_t dvsm_size_of(const struct dvsm_heap *heap, const void *address)
{
	uint64_t offset = dvsm_heap_offset_of(heap, address);
	struct dvsm_place place;

	if (offset < heap->size) {
		if (heap->classes[offset >> DVSM_HEAP_PAGE_SHIFT] == DVSM_CLASS_HUGE)
			return dvsm_huge_size(heap, offset);
		if (dvsm_slab_place(heap, offset, &place))
			return dvsm_heap_class(heap, place.class)->size;
	}
	dvsm_misuse(heap, DVSM_MISUSE_INVALID_POINTER, address);
	return 0;
}

size_t dvsm_heap_usable_size(const struct dvsm_heap *heap, const void *address)
{
	return address ? dvsm_size_of(heap, address) : 0;
}

size_t dvsm_heap_malloc_usable_size(const struct dvsm_heap *heap, const void *address)
{
	return dvsm_heap_usable_size(heap, address);
}

void dvsm_heap_free_sized(struct dvsm_heap *heap, void *address, size_t size)
{
	(void)size;
	dvsm_heap_free(heap, address);
}

void dvsm_heap_free_aligned_sized(struct dvsm_heap *heap, void *address, size_t alignment, size_t size)
{
	(void)alignment;
	(void)size;
	dvsm_heap_free(heap, address);
}

/* As it is, if the new size fits and does not waste more than half. */
static bool dvsm_realloc_fits(size_t old, size_t size)
{
	return size <= old && (size >= old / 2 || old <= 64);
}

/* Of a block that the program has. */
static uint64_t dvsm_owner_of(const struct dvsm_heap *heap, uint64_t offset)
{
	uint32_t page = (uint32_t)(offset >> DVSM_HEAP_PAGE_SHIFT);

	if (heap->classes[page] == DVSM_CLASS_HUGE)
		return atomic_load(&heap->chunks[page / DVSM_CHUNK_PAGES].owner);
	return atomic_load(&heap->slabs[page].owner);
}

void *dvsm_heap_realloc(struct dvsm_heap *heap, void *address, size_t size)
{
	uint64_t owner;
	size_t old;
	void *new;

	if (!address)
		return dvsm_heap_malloc_any(heap, size);
	old = dvsm_size_of(heap, address);
	if (!old)
		return dvsm_malloc_none();
	if (dvsm_realloc_fits(old, size) ||
	    (old > DVSM_CLASS_SIZE_MAX && size > DVSM_CLASS_SIZE_MAX &&
	     dvsm_huge_resize(heap, dvsm_heap_offset_of(heap, address), size)))
		return address;
	owner = dvsm_owner_of(heap, dvsm_heap_offset_of(heap, address));
	new = owner ? dvsm_heap_malloc_owned(heap, size, owner) : dvsm_heap_malloc_any(heap, size);
	if (!new)
		/* C allows a smaller block to stay where it is. */
		return size <= old ? address : NULL;
	memcpy(new, address, old < size ? old : size);
	dvsm_free_fast(heap, address);
	return new;
}

void *dvsm_heap_reallocarray(struct dvsm_heap *heap, void *address, size_t nr, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(nr, size, &total))
		return dvsm_malloc_none();
	return dvsm_heap_realloc(heap, address, total);
}

void *dvsm_heap_malloc_node(struct dvsm_heap *heap, size_t size, unsigned int node)
{
	uint64_t offset;
	bool clean;

	if (node >= heap->nr_nodes) {
		errno = EINVAL;
		return NULL;
	}
	if (size > DVSM_CLASS_SIZE_MAX)
		offset = dvsm_huge_take(heap, size, 1, (int)node, 0, &clean);
	else
		offset = dvsm_refill(heap, dvsm_class_of(size ? size : 1), (int)node, false, 0);
	return offset ? dvsm_heap_at(heap, offset) : dvsm_malloc_none();
}

size_t dvsm_heap_trim(struct dvsm_heap *heap, size_t keep)
{
	struct dvsm_hold hold;
	size_t nr;

	dvsm_lanes_recover(heap, false);
	dvsm_cpu_drain(heap);
	if (!dvsm_lane_acquire(heap, &hold))
		return 0;
	dvsm_slabs_trim(&hold);
	nr = dvsm_chunks_discard(&hold, keep >> DVSM_HEAP_CHUNK_SHIFT);
	dvsm_lane_release(&hold);
	return nr << DVSM_HEAP_CHUNK_SHIFT;
}
