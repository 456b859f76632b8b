// SPDX-License-Identifier: GPL-2.0-only
/*
 * Heaps whose tables were damaged, or made to do harm: attaching refuses numbers that lead out of the
 * tables, and the audit and recovery do not follow them. selftests/hostile looks for more of them;
 * these are known by name.
 */
#include "heap_test.h"
#include <kselftest_harness.h>

#include "../../libdvsm/heap_types.h"

#define OWNER_DIED	0x40000000	/* what the kernel leaves in a robust lock */

static struct dvsm_heap *heap_small(void)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .reserve = 64 * MIB, .backend = DVSM_BACKEND_MEMFD_4K,
	};
	struct dvsm_heap *heap = dvsm_heap_create(&options);

	if (heap && !dvsm_heap_malloc(heap, 100))
		abort();
	return heap;
}

/* The last page of a chunk begins a slab of 30: 1.875 MiB. */
static void slab_leaves(struct dvsm_heap *heap, uint32_t chunk)
{
	uint32_t page = (chunk + 1) * DVSM_CHUNK_PAGES - 1;

	heap->chunks[chunk].kind = DVSM_CHUNK_OPEN;
	heap->map[chunk / 64].bits = 0;
	heap->map[chunk / 64].tag = 1;
	heap->classes[page] = DVSM_CLASS_LAST;
	heap->slabs[page].delta = 0;
}

static int visit_inside(void *address, size_t size, void *context)
{
	struct dvsm_heap *heap = context;
	uint64_t at = dvsm_heap_offset_of(heap, address);

	return at >> DVSM_HEAP_CHUNK_SHIFT != (at + size - 1) >> DVSM_HEAP_CHUNK_SHIFT;
}

TEST(the_audit_stays_in_the_chunk)
{
	struct dvsm_heap *heap = heap_small();

	ASSERT_NE(NULL, heap);
	EXPECT_EQ(0, dvsm_heap_walk(heap, visit_inside, heap));
	slab_leaves(heap, heap->header->first_chunk);
	EXPECT_EQ(0, dvsm_heap_walk(heap, visit_inside, heap));
	EXPECT_EQ(-EUCLEAN, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

/* A dead thread was taking away the end of a huge block, which has no beginning. */
static void block_has_no_beginning(struct dvsm_heap *heap)
{
	uint32_t chunk, first = heap->header->first_chunk;

	for (chunk = 0; chunk <= first; chunk++)
		heap->chunks[chunk].kind = DVSM_CHUNK_BODY;
	heap->logs[0].chunk = first;
	heap->logs[0].nr = 1;
	heap->map[first / 64].bits = 0;
	heap->map[first / 64].tag = 1ULL << DVSM_SEQ_BITS | 5;
	atomic_store(&heap->lanes[0].state, (uint64_t)DVSM_OP_CHUNK << 59 | 5);
	heap->lanes[0].lock.__data.__lock = OWNER_DIED;
}

/* A dead thread had taken from a stack what is no block. */
static void blocks_are_nowhere(struct dvsm_heap *heap)
{
	heap->logs[0].cpu = 0;
	heap->logs[0].stack = 1;
	heap->logs[0].nr = 1;
	heap->logs[0].blocks[0] = 0x123456789000;
	heap->lanes[0].help = 5;
	atomic_store(&heap->lanes[0].state, (uint64_t)DVSM_OP_POP << 59 | 5);
	heap->lanes[0].lock.__data.__lock = OWNER_DIED;
}

/* A dead thread was about to look at a chunk of the tables' own, whose entries nobody has checked. */
static void tables_are_to_be_settled(struct dvsm_heap *heap)
{
	heap->chunks[0].kind = DVSM_CHUNK_OPEN;
	heap->classes[0] = 1;
	atomic_store(&heap->slabs[0].cur, UINT32_MAX);
	heap->logs[0].settle[0] = 1;
	atomic_store(&heap->lanes[0].state, 5);
	heap->lanes[0].lock.__data.__lock = OWNER_DIED;
}

/* A dead thread was giving back one open chunk, and as many more as are nowhere. */
static void more_than_one_chunk_is_closed(struct dvsm_heap *heap)
{
	heap->logs[0].chunk = heap->header->first_chunk;
	heap->logs[0].nr = 1U << 20;
	heap->lanes[0].help = 5;
	atomic_store(&heap->lanes[0].state, (uint64_t)DVSM_OP_CLOSE << 59 | 5);
	heap->lanes[0].lock.__data.__lock = OWNER_DIED;
}

/* A dead thread was about to look at a chunk that was nobody's when the tables were damaged there. */
static void slabs_were_nobodys(struct dvsm_heap *heap)
{
	uint32_t chunk = atomic_load(&heap->header->high_chunk), page;

	for (page = chunk * DVSM_CHUNK_PAGES; page < (chunk + 1) * DVSM_CHUNK_PAGES; page++) {
		heap->classes[page] = 1;
		atomic_store(&heap->slabs[page].cur, UINT32_MAX);
	}
	/* The second one has no room in the first chunk, and leaves two pages of the next. */
	if (!dvsm_heap_malloc(heap, 15 * MIB / 8) || !dvsm_heap_malloc(heap, 15 * MIB / 8) ||
	    heap->chunks[chunk].kind != DVSM_CHUNK_OPEN)
		abort();
	heap->logs[0].settle[0] = chunk + 1;
	atomic_store(&heap->lanes[0].state, 5);
	heap->lanes[0].lock.__data.__lock = OWNER_DIED;
}

TEST(recovery_stays_in_the_table)
{
	void (*const damages[])(struct dvsm_heap *heap) = {
		block_has_no_beginning, blocks_are_nowhere, tables_are_to_be_settled,
		more_than_one_chunk_is_closed, slabs_were_nobodys,
	};
	struct dvsm_heap *heap;
	pid_t pid;
	size_t i;

	for (i = 0; i < sizeof(damages) / sizeof(*damages); i++) {
		heap = heap_small();
		ASSERT_NE(NULL, heap);
		damages[i](heap);
		pid = child_begin();
		if (!pid) {
			dvsm_heap_check(heap, 0);
			_exit(0);
		}
		EXPECT_EQ(0, child_end(pid)) TH_LOG("damage %zu", i);
		dvsm_heap_destroy(heap);
	}
}

/*
 * The map says that its word was changed last by a lane beyond the table, where the blocks of another lane's idle log say that
 * it is in the middle of that: whoever changes the word would note there that it is done.
 */
TEST(only_lanes_are_helped)
{
	struct dvsm_heap *heap = heap_small();
	struct dvsm_lane *beyond;
	struct dvsm_word *word;
	struct dvsm_log *log;

	ASSERT_NE(NULL, heap);
	log = &heap->logs[heap->header->nr_lanes - 1];
	beyond = (void *)dvsm_align_up((uintptr_t)log->blocks, sizeof(*beyond));
	atomic_store(&beyond->state, (uint64_t)DVSM_OP_CHUNK << 59 | 5);
	atomic_store(&beyond->help, 0);
	word = &heap->map[heap->header->first_chunk / 64];
	word->tag = (uint64_t)(beyond - heap->lanes + 1) << DVSM_SEQ_BITS | 5;
	EXPECT_NE(NULL, dvsm_heap_malloc(heap, 5 * MIB));
	EXPECT_EQ(0, atomic_load(&beyond->help));
	dvsm_heap_destroy(heap);
}

TEST(roots_lie_in_the_heap)
{
	struct dvsm_heap *heap = heap_small();

	ASSERT_NE(NULL, heap);
	atomic_store(&heap->header->roots[0], heap->size - 1);
	atomic_store(&heap->header->roots[1], heap->size);
	atomic_store(&heap->header->roots[2], UINT64_MAX);
	EXPECT_EQ((char *)heap->base + heap->size - 1, dvsm_heap_root_get(heap, 0));
	EXPECT_EQ(NULL, dvsm_heap_root_get(heap, 1));
	EXPECT_EQ(NULL, dvsm_heap_root_get(heap, 2));
	dvsm_heap_destroy(heap);
}

static void slab_leaves_the_heap(struct dvsm_heap *heap)
{
	atomic_store(&heap->header->high_chunk, heap->header->end_chunk);
	slab_leaves(heap, heap->header->end_chunk - 1);
}

static void chunks_are_not_mapped(struct dvsm_heap *heap)
{
	atomic_store(&heap->header->mapped_chunk, heap->header->first_chunk);
}

static void stack_has_more_room(struct dvsm_heap *heap)
{
	struct dvsm_stack *stack = dvsm_cpu_stack(heap, heap->nr_cpus - 1, 3);

	atomic_store(&stack->capacity, dvsm_heap_class(heap, 3)->capacity + 1U);
}

static void no_stack_has_room(struct dvsm_heap *heap)
{
	atomic_store(&dvsm_cpu_stack(heap, 0, DVSM_CLASS_LAST)->capacity, 10);
}

static void no_cpu_has_room(struct dvsm_heap *heap)
{
	struct dvsm_stack *stack = (void *)(heap->fast.stack[3] - (1UL << DVSM_CPU_SHIFT));

	atomic_store(&stack->capacity, 10);
}

static void no_cpu_has_blocks(struct dvsm_heap *heap)
{
	struct dvsm_stack *stack;

	stack = (void *)(heap->fast.stack[DVSM_CLASS_CACHED] - (2UL << DVSM_CPU_SHIFT));
	atomic_store(&stack->head, 1);
}

static void metadata_is_free(struct dvsm_heap *heap)
{
	heap->map[0].bits |= 1;
	heap->map[0].tag = 1;
}

static void chunk_is_behind_the_end(struct dvsm_heap *heap)
{
	uint32_t end = heap->header->end_chunk;

	heap->map[end / 64].bits |= 1ULL << end % 64;
	heap->map[end / 64].tag = 1;
}

static void hint_is_behind_the_end(struct dvsm_heap *heap)
{
	uint32_t end = heap->header->end_chunk;

	heap->hints[end / 64 * DVSM_HINTS + 3] |= 1ULL << end % 64;
}

static void current_slab_is_in_the_tables(struct dvsm_heap *heap)
{
	atomic_store(&dvsm_heap_cpu(heap, 0)->cur[3], heap->header->first_chunk * DVSM_CHUNK_PAGES);
}

static void current_slab_was_never_used(struct dvsm_heap *heap)
{
	atomic_store(&dvsm_heap_cpu(heap, 0)->cur[3],
		     atomic_load(&heap->header->high_chunk) * DVSM_CHUNK_PAGES + 1);
}

static void spare_slab_is_in_the_tables(struct dvsm_heap *heap)
{
	atomic_store(&heap->header->spare_slab[3], 1);
}

static void spare_slab_was_never_used(struct dvsm_heap *heap)
{
	atomic_store(&heap->header->spare_slab[3], heap->header->end_chunk * DVSM_CHUNK_PAGES);
}

static void spare_chunk_was_never_used(struct dvsm_heap *heap)
{
	atomic_store(&heap->header->spare_chunk, heap->header->end_chunk);
}

static void begins_at_nothing(struct dvsm_heap *heap)
{
	heap->header->base = 0;
}

static const struct {
	const char *name;
	void (*damage)(struct dvsm_heap *heap);
} refused[] = {
	{ "begins_at_nothing", begins_at_nothing },
	{ "slab_leaves_the_heap", slab_leaves_the_heap },
	{ "block_has_no_beginning", block_has_no_beginning },
	{ "chunks_are_not_mapped", chunks_are_not_mapped },
	{ "stack_has_more_room", stack_has_more_room },
	{ "no_stack_has_room", no_stack_has_room },
	{ "no_cpu_has_room", no_cpu_has_room },
	{ "no_cpu_has_blocks", no_cpu_has_blocks },
	{ "metadata_is_free", metadata_is_free },
	{ "chunk_is_behind_the_end", chunk_is_behind_the_end },
	{ "hint_is_behind_the_end", hint_is_behind_the_end },
	{ "current_slab_is_in_the_tables", current_slab_is_in_the_tables },
	{ "current_slab_was_never_used", current_slab_was_never_used },
	{ "spare_slab_is_in_the_tables", spare_slab_is_in_the_tables },
	{ "spare_slab_was_never_used", spare_slab_was_never_used },
	{ "spare_chunk_was_never_used", spare_chunk_was_never_used },
};

TEST(numbers_that_lead_out_are_refused)
{
	struct dvsm_heap *heap;
	size_t i;
	int fd;

	for (i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		heap = heap_small();
		ASSERT_NE(NULL, heap);
		fd = dup(dvsm_heap_fd(heap));
		dvsm_heap_detach(heap);
		heap = dvsm_heap_attach(fd);
		ASSERT_NE(NULL, heap) TH_LOG("it is refused without damage");
		fd = dup(dvsm_heap_fd(heap));
		refused[i].damage(heap);
		dvsm_heap_detach(heap);
		heap = dvsm_heap_attach(fd);
		EXPECT_EQ(NULL, heap) TH_LOG("%s", refused[i].name);
		EXPECT_EQ(EINVAL, errno) TH_LOG("%s", refused[i].name);
		if (heap)
			dvsm_heap_detach(heap);
		else
			close(fd);
	}
}

static void hint_set(struct dvsm_heap *heap, uint32_t chunk, uint32_t hint)
{
	heap->hints[chunk / 64 * DVSM_HINTS + hint] |= 1ULL << chunk % 64;
}

/* What nobody has used yet is not looked at when a heap is attached. */
static void unused_chunk_has_a_slab(struct dvsm_heap *heap)
{
	uint32_t chunk = heap->header->end_chunk - 1, page = (chunk + 1) * DVSM_CHUNK_PAGES - 1;

	heap->classes[page] = DVSM_CLASS_LAST;
	heap->chunks[chunk].avail = 1U << 31;
	dvsm_slab_word(heap, page, 0)->bits = 1;
	hint_set(heap, chunk, DVSM_CLASS_LAST);
}

static void unused_chunk_has_pages(struct dvsm_heap *heap)
{
	uint32_t chunk = heap->header->end_chunk - 1;

	heap->chunks[chunk].pages.bits = 0xffffffff;
	hint_set(heap, chunk, DVSM_HINT_RUN + 4);
}

static void chunk_has_more_pages(struct dvsm_heap *heap)
{
	uint32_t chunk = heap->header->first_chunk;

	heap->chunks[chunk].pages.bits |= 0xffffffffULL << 32;
	hint_set(heap, chunk, DVSM_HINT_RUN + 4);
}

static void unused_chunk_has_more_pages(struct dvsm_heap *heap)
{
	heap->chunks[atomic_load(&heap->header->high_chunk)].pages.bits = 0xffffffffULL << 32;
}

static void unused_pages_have_blocks(struct dvsm_heap *heap)
{
	uint32_t page = atomic_load(&heap->header->high_chunk) * DVSM_CHUNK_PAGES;

	dvsm_slab_word(heap, page, 0)->bits = ~0ULL;
}

static const struct {
	const char *name;
	void (*damage)(struct dvsm_heap *heap);
	int answer;		/* of the audit */
} accepted[] = {
	{ "unused_chunk_has_a_slab", unused_chunk_has_a_slab, 0 },
	{ "unused_chunk_has_pages", unused_chunk_has_pages, 0 },
	{ "chunk_has_more_pages", chunk_has_more_pages, -EUCLEAN },
	{ "unused_chunk_has_more_pages", unused_chunk_has_more_pages, 0 },
	{ "unused_pages_have_blocks", unused_pages_have_blocks, 0 },
};

/* In a chunk that the map gives to nobody else. */
static bool lies_in_a_chunk(struct dvsm_heap *heap, const void *block, size_t size)
{
	uint64_t at = (uintptr_t)block - heap->base;

	return at >> DVSM_HEAP_CHUNK_SHIFT >= heap->header->first_chunk &&
	       at >> DVSM_HEAP_CHUNK_SHIFT < atomic_load(&heap->header->high_chunk) &&
	       at >> DVSM_HEAP_CHUNK_SHIFT == (at + size - 1) >> DVSM_HEAP_CHUNK_SHIFT;
}

TEST(blocks_of_a_heap_that_is_accepted_lie_in_it)
{
	struct dvsm_heap *heap;
	uint32_t class;
	size_t i, size;
	void *block;
	int fd, nr;

	for (i = 0; i < sizeof(accepted) / sizeof(*accepted); i++) {
		heap = heap_small();
		ASSERT_NE(NULL, heap);
		accepted[i].damage(heap);
		fd = dup(dvsm_heap_fd(heap));
		dvsm_heap_detach(heap);
		heap = dvsm_heap_attach(fd);
		ASSERT_NE(NULL, heap) TH_LOG("%s", accepted[i].name);
		EXPECT_EQ(accepted[i].answer, dvsm_heap_check(heap, 2)) TH_LOG("%s", accepted[i].name);
		for (class = DVSM_CLASS_LAST; class > 0; class -= 17) {
			size = heap->header->class[class].size;
			for (nr = 0; nr < 3; nr++) {
				block = dvsm_heap_malloc(heap, size);
				ASSERT_NE(NULL, block);
				EXPECT_TRUE(lies_in_a_chunk(heap, block, size))
					TH_LOG("%s: %zu bytes", accepted[i].name, size);
			}
		}
		dvsm_heap_detach(heap);
	}
}

TEST_HARNESS_MAIN
