// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The audit: do the tables agree, and is every byte somewhere?
 *
 * Level 2 marks each free block (a set bit) and each cached one (in a stack) in a bitmap of its own and finds
 * blocks that are in two places; what is in none is live. dvsm_heap_walk() visits those. Each kind of bytes is counted
 * where it is found, none as what is left of the others, so that the sum says whether all were found, once each.
 */
#include <string.h>

#include "heap_slab.h"

struct dvsm_audit {
	const struct dvsm_heap *heap;
	uint64_t *cached;		/* [page][DVSM_SLAB_WORDS]: blocks in stacks; sparse */
	size_t length;
	uint32_t end_page;		/* pages from here on were never used */
	int nr_errors;
	struct dvsm_heap_account sum;	/* and who says what is known */
	int (*visit)(void *address, size_t size, void *context);
	void *context;
	int answer;
};

static void dvsm_audit_error(struct dvsm_audit *audit, const char *what, uint64_t where)
{
	audit->nr_errors++;
	dvsm_debug("heap audit: %s at offset 0x%llx\n", what, (unsigned long long)where);
}

static bool dvsm_audit_begin(struct dvsm_audit *audit, const struct dvsm_heap *heap)
{
	memset(audit, 0, sizeof(*audit));
	audit->heap = heap;
	audit->end_page = atomic_load(&heap->header->high_chunk) * DVSM_CHUNK_PAGES;
	audit->length = (uint64_t)audit->end_page * DVSM_SLAB_WORDS * sizeof(uint64_t);
	audit->length = audit->length ? audit->length : DVSM_PAGE_SIZE;
	audit->cached = mmap(NULL, audit->length, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return audit->cached != MAP_FAILED;
}

/* Notes which blocks are in stacks. */
static void dvsm_audit_stacks(struct dvsm_audit *audit)
{
	const struct dvsm_heap *heap = audit->heap;
	struct dvsm_stack *stack;
	struct dvsm_place place;
	uint32_t cpu, index, i, count, slots;
	uint64_t *word, offset;

	for (cpu = 0; cpu < heap->nr_cpus; cpu++) {
		for (dvsm_each_stack(index)) {
			stack = dvsm_cpu_stack(heap, cpu, index);
			count = (uint32_t)atomic_load(&stack->head);
			slots = index == DVSM_STACK_REMOTE ? DVSM_BATCH :
							     dvsm_heap_class(heap, index)->capacity;
			if (count > slots) {
				dvsm_audit_error(audit, "a stack has too many blocks",
						 dvsm_heap_offset_of(heap, stack));
				count = slots;
			}
			for (i = 0; i < count; i++) {
				offset = stack->blocks[i] - heap->base;
				if (offset >= heap->size ||
				    !dvsm_slab_place(heap, offset, &place) ||
				    place.page >= audit->end_page ||
				    (index != DVSM_STACK_REMOTE && place.class != index)) {
					dvsm_audit_error(audit, "a stack has what is no block of its class",
							 offset);
					continue;
				}
				word = &audit->cached[(uint64_t)place.page * DVSM_SLAB_WORDS +
						      place.block / 64];
				if (*word >> place.block % 64 & 1)
					dvsm_audit_error(audit, "a block is in stacks twice", offset);
				*word |= 1ULL << place.block % 64;
				audit->sum.out_cached += dvsm_heap_class(heap, place.class)->size;
			}
		}
	}
}

/* A block that is neither free nor cached. */
static void dvsm_audit_visit(struct dvsm_audit *audit, uint64_t offset, size_t size)
{
	void *address = dvsm_heap_at(audit->heap, offset);

	if (!audit->sum.is_known || audit->sum.is_known(address, size, audit->sum.context)) {
		audit->sum.out_live += size;
		audit->sum.out_live_blocks++;
	} else {
		audit->sum.out_lost += size;
		audit->sum.out_lost_blocks++;
	}
	if (audit->visit && !audit->answer)
		audit->answer = audit->visit(address, size, audit->context);
}

static void dvsm_audit_lost_pages(struct dvsm_audit *audit, uint32_t nr)
{
	audit->sum.out_lost += (uint64_t)nr << DVSM_HEAP_PAGE_SHIFT;
}

/* As some CPU's current slab, or by its avail bit and the hint to that. Each of them may also be there for nothing. */
static bool dvsm_audit_is_found(const struct dvsm_heap *heap, uint32_t page, uint32_t class)
{
	uint32_t chunk = page / DVSM_CHUNK_PAGES, cur = atomic_load(&heap->slabs[page].cur);

	if (cur && class <= DVSM_CLASS_LAST &&
	    atomic_load(&dvsm_heap_cpu(heap, cur - 1)->cur[class]) == page + 1)
		return true;
	return atomic_load(&heap->chunks[chunk].avail) >> page % DVSM_CHUNK_PAGES & 1 &&
	       atomic_load(dvsm_hint_word(heap, chunk, dvsm_class_hint(class))) >> chunk % 64 & 1;
}

/* @exact: nobody is at work. */
static void dvsm_audit_slab(struct dvsm_audit *audit, uint32_t page, uint32_t number, bool exact)
{
	const struct dvsm_heap *heap = audit->heap;
	const struct dvsm_class *class = dvsm_heap_class(heap, number);
	uint64_t offset = (uint64_t)page << DVSM_HEAP_PAGE_SHIFT;
	uint64_t bits, cached, live;
	uint32_t word;
	bool any = false;

	audit->sum.out_waste += ((uint64_t)class->nr_pages << DVSM_HEAP_PAGE_SHIFT) -
				(uint64_t)class->nr_blocks * class->size;
	for (word = 0; word < dvsm_class_words(class); word++) {
		bits = dvsm_word_read(dvsm_slab_word(heap, page, word)).bits;
		if (!exact && __atomic_load_n(&heap->classes[page], __ATOMIC_ACQUIRE) != number)
			return;
		any |= bits;
		if (bits & ~dvsm_class_full(class, word))
			dvsm_audit_error(audit, "a slab has more blocks than it can", offset);
		audit->sum.out_free += (uint64_t)__builtin_popcountll(bits) * class->size;
		cached = audit->cached[(uint64_t)page * DVSM_SLAB_WORDS + word];
		if (!exact)
			continue;
		if (bits & cached)
			dvsm_audit_error(audit, "a block is free and in a stack", offset);
		live = dvsm_class_full(class, word) & ~bits & ~cached;
		for (; live; live &= live - 1)
			dvsm_audit_visit(audit, offset + (word * 64ULL +
					 (uint32_t)__builtin_ctzll(live)) * class->size, class->size);
	}
	if (exact && any && !dvsm_audit_is_found(heap, page, number))
		dvsm_audit_error(audit, "a slab with free blocks cannot be found", offset);
}

/* A page without a slab has no free blocks: else the next slab there would begin with them. */
static void dvsm_audit_no_blocks(struct dvsm_audit *audit, uint32_t page)
{
	uint32_t word;

	for (word = 0; word < DVSM_SLAB_WORDS; word++)
		if (dvsm_word_read(dvsm_slab_word(audit->heap, page, word)).bits) {
			dvsm_audit_error(audit, "a page without a slab has free blocks",
					 (uint64_t)page << DVSM_HEAP_PAGE_SHIFT);
			return;
		}
}

/* The slabs of an open chunk: they and the free pages are all of it. */
static void dvsm_audit_open(struct dvsm_audit *audit, uint32_t chunk, bool exact)
{
	const struct dvsm_heap *heap = audit->heap;
	uint64_t free = dvsm_word_read(&heap->chunks[chunk].pages).bits;
	uint32_t page, i, first = chunk * DVSM_CHUNK_PAGES, class, nr_pages;

	if (free & ~DVSM_PAGES_ALL)
		dvsm_audit_error(audit, "a chunk has more pages than it can",
				 (uint64_t)chunk << DVSM_HEAP_CHUNK_SHIFT);
	for (page = first; page < first + DVSM_CHUNK_PAGES; page += nr_pages) {
		nr_pages = 1;
		class = heap->classes[page];
		if (class == DVSM_CLASS_NONE) {
			if (free >> page % DVSM_CHUNK_PAGES & 1) {
				audit->sum.out_free += DVSM_HEAP_PAGE_SIZE;
			} else {
				dvsm_audit_lost_pages(audit, 1);
				if (exact)
					dvsm_audit_error(audit, "a page is nobody's",
							 (uint64_t)page << DVSM_HEAP_PAGE_SHIFT);
			}
			if (exact)
				dvsm_audit_no_blocks(audit, page);
			continue;
		}
		if (!dvsm_class_is_slab(class) || heap->slabs[page].delta) {
			dvsm_audit_lost_pages(audit, 1);
			if (exact)
				dvsm_audit_error(audit, "a page has no slab",
						 (uint64_t)page << DVSM_HEAP_PAGE_SHIFT);
			continue;
		}
		nr_pages = dvsm_heap_class(heap, class)->nr_pages;
		if (page + nr_pages > first + DVSM_CHUNK_PAGES) {
			/* Its blocks may be behind the heap's end. */
			dvsm_audit_lost_pages(audit, first + DVSM_CHUNK_PAGES - page);
			if (exact)
				dvsm_audit_error(audit, "a slab leaves its chunk",
						 (uint64_t)page << DVSM_HEAP_PAGE_SHIFT);
			continue;
		}
		for (i = 0; exact && i < nr_pages; i++)
			if (heap->classes[page + i] != class || heap->slabs[page + i].delta != i ||
			    free >> (page + i) % DVSM_CHUNK_PAGES & 1)
				dvsm_audit_error(audit, "a slab's pages are not its own",
						 (uint64_t)page << DVSM_HEAP_PAGE_SHIFT);
		dvsm_audit_slab(audit, page, class, exact);
	}
	if (exact && free && !(atomic_load(dvsm_hint_word(heap, chunk, DVSM_HINT_RUN)) >> chunk % 64 & 1))
		dvsm_audit_error(audit, "free pages have no hint",
				 (uint64_t)chunk << DVSM_HEAP_CHUNK_SHIFT);
}

static void dvsm_audit_chunks(struct dvsm_audit *audit, bool exact)
{
	const struct dvsm_heap *heap = audit->heap;
	uint32_t chunk, i, nr, high = audit->end_page / DVSM_CHUNK_PAGES;
	bool is_free;

	for (chunk = heap->header->first_chunk; chunk < high; chunk += nr) {
		nr = 1;
		is_free = dvsm_map_bits(heap, chunk / 64) >> chunk % 64 & 1;
		if (is_free != (heap->chunks[chunk].kind == DVSM_CHUNK_FREE) && exact)
			dvsm_audit_error(audit, is_free ? "a free chunk is somebody's" :
					 "a chunk is nobody's",
					 (uint64_t)chunk << DVSM_HEAP_CHUNK_SHIFT);
		if (is_free) {
			audit->sum.out_free += DVSM_HEAP_CHUNK_SIZE;
		} else if (heap->chunks[chunk].kind == DVSM_CHUNK_OPEN) {
			dvsm_audit_open(audit, chunk, exact);
		} else if (heap->chunks[chunk].kind == DVSM_CHUNK_HUGE && exact) {
			nr = heap->chunks[chunk].nr_chunks;
			for (i = 1; i < nr; i++)
				if (heap->chunks[chunk + i].kind != DVSM_CHUNK_BODY ||
				    (dvsm_map_bits(heap, (chunk + i) / 64) >> (chunk + i) % 64 & 1))
					dvsm_audit_error(audit, "a huge block's chunk is not its own",
							 (uint64_t)(chunk + i) << DVSM_HEAP_CHUNK_SHIFT);
			dvsm_audit_visit(audit, (uint64_t)chunk << DVSM_HEAP_CHUNK_SHIFT,
					 (size_t)nr << DVSM_HEAP_CHUNK_SHIFT);
			nr = nr ? nr : 1;
		} else if (heap->chunks[chunk].kind == DVSM_CHUNK_BARRED) {
			audit->sum.out_waste += DVSM_HEAP_CHUNK_SIZE;
		} else {
			dvsm_audit_lost_pages(audit, DVSM_CHUNK_PAGES);
			if (heap->chunks[chunk].kind == DVSM_CHUNK_BODY && exact)
				dvsm_audit_error(audit, "a part of a huge block that is not there",
						 (uint64_t)chunk << DVSM_HEAP_CHUNK_SHIFT);
		}
	}
}

static void dvsm_audit_lanes(struct dvsm_audit *audit)
{
	const struct dvsm_heap *heap = audit->heap;
	uint32_t i;

	for (i = 0; i < heap->header->nr_lanes; i++)
		if (atomic_load(&heap->lanes[i].state) >> 59 != DVSM_OP_IDLE)
			dvsm_audit_error(audit, "a lane is at work", i);
}

/* What needs no look: the tables in front, what was never used behind, and what rounding leaves there. */
static void dvsm_audit_ends(struct dvsm_audit *audit)
{
	const struct dvsm_heap_header *header = audit->heap->header;
	uint64_t end = (uint64_t)header->end_chunk << DVSM_HEAP_CHUNK_SHIFT;

	audit->sum.out_reserved = audit->heap->size;
	audit->sum.out_metadata = (uint64_t)header->first_chunk << DVSM_HEAP_CHUNK_SHIFT;
	audit->sum.out_free += end - ((uint64_t)audit->end_page << DVSM_HEAP_PAGE_SHIFT);
	audit->sum.out_waste += audit->heap->size - end;
}

static void dvsm_audit_total(struct dvsm_audit *audit)
{
	const struct dvsm_heap_account *sum = &audit->sum;
	uint64_t total = sum->out_metadata + sum->out_free + sum->out_cached + sum->out_live +
			 sum->out_lost + sum->out_waste;

	if (total != sum->out_reserved)
		dvsm_audit_error(audit, total > sum->out_reserved ? "bytes are in two places" :
				 "bytes are nowhere", total);
}

/* As dvsm_heap_check() says. @account: NULL, or what is asked for, and the answer. */
static int dvsm_audit_run(const struct dvsm_heap *heap, bool exact, struct dvsm_heap_account *account)
{
	struct dvsm_audit audit;

	dvsm_lanes_recover(heap, false);
	if (!dvsm_audit_begin(&audit, heap))
		return -errno;
	if (account)
		audit.sum = (struct dvsm_heap_account){
			.size = account->size, .is_known = account->is_known, .context = account->context,
		};
	if (exact) {
		dvsm_audit_lanes(&audit);
		dvsm_audit_stacks(&audit);
	}
	dvsm_audit_chunks(&audit, exact);
	if (exact) {
		dvsm_audit_ends(&audit);
		dvsm_audit_total(&audit);
	}
	munmap(audit.cached, audit.length);
	if (account)
		*account = audit.sum;
	return audit.nr_errors ? dvsm_fail(EUCLEAN) : 0;
}

int dvsm_heap_check(struct dvsm_heap *heap, int level)
{
	if (level < 0 || level > 2)
		return dvsm_fail(EINVAL);
	if (!level) {
		dvsm_lanes_recover(heap, false);
		return 0;
	}
	return dvsm_audit_run(heap, level == 2, NULL);
}

int dvsm_heap_account(struct dvsm_heap *heap, struct dvsm_heap_account *account)
{
	int error = dvsm_struct_check(account, account->size, sizeof(*account), sizeof(*account));

	if (error)
		return dvsm_result(error);
	return dvsm_audit_run(heap, true, account);
}

int dvsm_heap_walk(struct dvsm_heap *heap, int (*visit)(void *address, size_t size, void *context),
		   void *context)
{
	struct dvsm_audit audit;

	dvsm_lanes_recover(heap, false);
	if (!dvsm_audit_begin(&audit, heap))
		return -errno;
	audit.visit = visit;
	audit.context = context;
	dvsm_audit_stacks(&audit);
	dvsm_audit_chunks(&audit, true);
	munmap(audit.cached, audit.length);
	return audit.answer;
}
