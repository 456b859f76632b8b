// SPDX-License-Identifier: GPL-2.0-only
/* The table: steps that depend on all steps before them, and can be finished by others. */
#include <string.h>

#include "dvsm-checkpoint.h"

#define MAGIC		0x3130656c62617400	/* "\0table01" */
#define WINDOWS		16		/* parts of the table; steps stay in one for a while */
#define WINDOW_STEPS	(1U << 16)

/* Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014. */
static uint64_t mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15;
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
	value = (value ^ value >> 27) * 0x94d049bb133111eb;
	return value ^ value >> 31;
}

static struct record *table_records(const struct table *table)
{
	return (struct record *)((char *)table + DVSM_CHUNK_SIZE);
}

/* @table is zeroed memory. */
void table_init(struct table *table, uint64_t length, uint64_t seed)
{
	table->length = length;
	table->nr_records = (length - DVSM_CHUNK_SIZE) / sizeof(struct record);
	table->seed = seed;
	table->magic = MAGIC;
}

bool table_is_sound(const struct table *table, uint64_t length)
{
	uint64_t ahead = table->begun - table->done;

	return table->magic == MAGIC && table->length == length &&
	       table->nr_records == (length - DVSM_CHUNK_SIZE) / sizeof(struct record) &&
	       ahead <= 1 && table->redo_index < table->nr_records;
}

/* Nobody else writes to the table: the order of the stores is for whoever restarts. */
void table_step(struct table *table)
{
	uint64_t step = table->done + 1, window = table->nr_records / WINDOWS, index;
	const struct record *old;
	unsigned int i;

	index = step / WINDOW_STEPS % WINDOWS * window + mix(table->seed ^ mix(step)) % window;
	old = &table_records(table)[index];
	table->redo_index = index;
	for (i = 0; i < 8; i++)
		table->redo.words[i] = mix(old->words[i] + step + i);
	atomic_store_explicit(&table->begun, step, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
	table_records(table)[index] = table->redo;
	atomic_store_explicit(&table->done, step, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
}

/* Finishes the step that had begun; whether there was one. */
bool table_redo(struct table *table)
{
	if (table->begun == table->done)
		return false;
	table_records(table)[table->redo_index] = table->redo;
	table->done = table->begun;
	return true;
}

/* Whether two tables are the same after the same steps. */
bool table_is_equal(const struct table *one, const struct table *other)
{
	return one->length == other->length && one->seed == other->seed &&
	       one->done == other->done &&
	       !memcmp(table_records(one), table_records(other), one->length - DVSM_CHUNK_SIZE);
}

uint64_t table_digest(const struct table *table)
{
	return digest_words(table->done, table_records(table), table->length - DVSM_CHUNK_SIZE);
}
