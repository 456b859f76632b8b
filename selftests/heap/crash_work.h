/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What victims do: short calls that reach every part of the allocator.
 *
 * A victim owns a row of cells in shared memory. Each cell has a block or NULL, and changes by one store right
 * after malloc has returned or right before free is called. So after its death every block that the heap says
 * is live is in a cell, but for one at most: the block that was on its way.
 */
#ifndef DVSM_CRASH_WORK_H
#define DVSM_CRASH_WORK_H

#include "heap_test.h"

#define CELLS	512

struct work {
	struct dvsm_heap *heap;
	void *volatile *cells;
	uint64_t seed;
};

static inline size_t work_size(struct work *work)
{
	uint32_t kind = random_next(&work->seed) % 1000;

	if (kind < 500)
		return 1 + random_next(&work->seed) % 128;
	if (kind < 800)
		return 1 + random_next(&work->seed) % 8192;
	if (kind < 960)
		return 1 + random_next(&work->seed) % 65536;
	if (kind < 995)
		return 1 + random_next(&work->seed) % (600UL << 10);
	return 1 + random_next(&work->seed) % (5UL << 20);
}

static inline void work_allocate(struct work *work, uint32_t cell, size_t size)
{
	work->cells[cell] = dvsm_heap_malloc(work->heap, size);
}

static inline void work_free(struct work *work, uint32_t cell)
{
	void *block = work->cells[cell];

	work->cells[cell] = NULL;
	dvsm_heap_free(work->heap, block);
}

/* One call, or a burst of them of one size, which fills and empties stacks and slabs. */
static inline void work_step(struct work *work)
{
	uint32_t kind = random_next(&work->seed) % 256, cell, i, nr;
	size_t size = work_size(work);

	cell = random_next(&work->seed) % CELLS;
	if (kind < 200) {
		if (work->cells[cell])
			work_free(work, cell);
		else
			work_allocate(work, cell, size);
	} else if (kind < 230) {
		nr = size > 65536 ? 4 : size > 1024 ? 40 : CELLS;
		for (i = 0; i < nr; i++)
			if (!work->cells[(cell + i) % CELLS])
				work_allocate(work, (cell + i) % CELLS, size);
	} else if (kind < 254) {
		for (i = 0; i < CELLS; i++)
			if (work->cells[i] && random_next(&work->seed) % 8)
				work_free(work, i);
	} else {
		dvsm_heap_trim(work->heap, 0);
	}
}

/* The most that a block of a victim's takes. */
#define WORK_BLOCK_MAX	(8 * MIB)

static inline int work_compare(const void *a, const void *b)
{
	const char *const *one = a, *const *other = b;

	return (*one > *other) - (*one < *other);
}

struct work_known {
	void *blocks[4 * CELLS];
	size_t nr;
};

static inline bool work_is_known(const void *address, size_t size, void *context)
{
	const struct work_known *known = context;

	(void)size;
	return bsearch(&address, known->blocks, known->nr, sizeof(void *), work_compare);
}

/*
 * What the heap says of itself, and how much is lost of it: blocks in no cell. Victims must be dead. Return: 0; -EUCLEAN
 * also where a cell's block is not live.
 */
static inline int work_account(const struct work *work, size_t nr, struct dvsm_heap_account *account)
{
	struct work_known known = { .nr = 0 };
	size_t i;
	int error;

	for (i = 0; i < nr * CELLS; i++)
		if (work[i / CELLS].cells[i % CELLS])
			known.blocks[known.nr++] = work[i / CELLS].cells[i % CELLS];
	qsort(known.blocks, known.nr, sizeof(void *), work_compare);
	*account = (struct dvsm_heap_account){
		.size = sizeof(*account), .is_known = work_is_known, .context = &known,
	};
	error = dvsm_heap_account(work->heap, account);
	if (!error && account->out_live_blocks != known.nr)
		error = -EUCLEAN;
	if (!error && account->out_metadata + account->out_free + account->out_cached + account->out_live +
		      account->out_lost + account->out_waste != account->out_reserved)
		error = -EUCLEAN;
	return error;
}

#endif /* DVSM_CRASH_WORK_H */
