/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dvsm-checkpoint: incremental checkpoints of a table that is never held still.
 *
 * One process changes the table all the time and knows nothing of checkpoints.
 * Another one takes a snapshot, asks for what has diverged from the snapshot
 * before, and writes those chunks to a file. The first checkpoint's predecessor
 * is a snapshot of the empty region, so it is like all others.
 *
 * The region: a chunk with struct table, then the records.
 *
 * A snapshot may fall into the middle of a step. So the table keeps a redo record,
 * as databases do: a step says what it is going to write before it does. Whoever
 * restarts finishes the step that had begun; the table is then what it was after
 * a whole number of steps, and which number, the table says itself.
 */
#ifndef DVSM_CHECKPOINT_H
#define DVSM_CHECKPOINT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <dvsm/dvsm.h>

/* dvsm-checkpoint_table.c */

struct record {
	uint64_t words[8];
};

struct table {
	uint64_t magic;
	uint64_t length;		/* bytes, this header's chunk included */
	uint64_t nr_records;
	uint64_t seed;
	uint64_t redo_index;		/* of step @begun, as is @redo */
	struct record redo;
	_Atomic uint64_t begun;		/* steps; one more than done, or equal */
	_Atomic uint64_t done;
};

void table_init(struct table *table, uint64_t length, uint64_t seed);
bool table_is_sound(const struct table *table, uint64_t length);
void table_step(struct table *table);
bool table_redo(struct table *table);
bool table_is_equal(const struct table *one, const struct table *other);
uint64_t table_digest(const struct table *table);

/* dvsm-checkpoint_file.c */

/* What a file begins with; ranges follow, then their bytes. */
struct head {
	char magic[8];
	uint32_t version;
	uint32_t number;	/* from 1 */
	uint64_t length;	/* of the region, in bytes */
	uint64_t nr_ranges;
	uint64_t nr_bytes;	/* of all ranges */
	uint64_t previous;	/* digest of the file before, 0 for the first: no file of another run */
	uint64_t digest;	/* of all of the file, this word being 0 */
};

struct chain {
	const char *directory;
	uint32_t number;	/* of the last checkpoint that was written or loaded; 0: none */
	uint64_t digest;	/* of its file */
};

int checkpoint_write(struct chain *chain, const struct dvsm_region *snapshot,
		     const struct dvsm_region *before, struct head *head);
int checkpoint_head(const struct chain *chain, uint32_t number, struct head *head);
int checkpoint_load(struct chain *chain, char *base, uint64_t length);
int checkpoint_remove_after(const struct chain *chain);

uint64_t digest_words(uint64_t digest, const void *bytes, uint64_t length);

/* dvsm-checkpoint_state.c: 0, or an exit status after saying why */

/* A region with a table, mapped. */
struct state {
	struct dvsm_region *region;
	struct table *table;
	uint64_t length;
};

int complain(const char *what, int error);
int state_create(struct state *state, uint32_t backend, uint64_t length);
int state_create_for(struct state *state, uint32_t backend, const struct chain *chain);
void state_destroy(struct state *state);
int load(struct chain *chain, uint64_t last, struct state *state);
int verify(const char *directory, uint32_t backend, uint64_t last);

static inline double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

#endif /* DVSM_CHECKPOINT_H */
