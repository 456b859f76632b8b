// SPDX-License-Identifier: GPL-2.0-only
/* The hash table in the region: insert and count without a lock. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "wordcount.h"

#define PROBES_MAX	1024U		/* a longer way means that the table is full */
#define OFFSET_BITS	48

/* In the words part, 8-byte aligned. */
struct record {
	uint32_t length;
	char letters[];
};

static uint64_t round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

/*
 * Room for the words of @text bytes of ordinary text, times @scale. The region
 * is sparse, so what is not used costs nothing.
 */
int table_create(struct table *table, uint32_t backend, uint64_t text, unsigned int scale)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = backend,
		.label = "wordcount",
	};
	uint64_t nr_slots = 1 << 16, slots, words;
	struct shared *shared;

	while (nr_slots < text / 32 * scale)
		nr_slots *= 2;
	slots = round_up(sizeof(*shared), 4096);
	words = round_up(slots + nr_slots * sizeof(struct slot), DVSM_CHUNK_SIZE);
	table->length = words + round_up(text * scale, DVSM_CHUNK_SIZE) +
			WORKERS_MAX * DVSM_CHUNK_SIZE;
	table->region = dvsm_region_create(table->length, &options);
	if (!table->region)
		return -errno;
	table->base = dvsm_region_map(table->region, 0, 0, PROT_READ | PROT_WRITE, NULL);
	if (!table->base) {
		int error = errno;

		dvsm_region_destroy(table->region);
		return -error;
	}
	shared = table_shared(table);
	shared->slots = slots;
	shared->nr_slots = nr_slots;
	shared->words_next = words;
	shared->words_end = table->length;
	return 0;
}

void table_destroy(struct table *table)
{
	dvsm_region_unmap(table->base, table->length);
	dvsm_region_destroy(table->region);
}

static struct record *record_at(const struct table_writer *writer, uint64_t offset)
{
	return (struct record *)(writer->base + offset);
}

/* Writes the record where the writer's free part begins; NULL when all is full. */
static struct record *record_write(struct table_writer *writer, const char *word, uint32_t length)
{
	uint64_t size = round_up(sizeof(struct record) + length, 8);
	struct record *record;

	if (size > writer->end - writer->next) {
		uint64_t slice = round_up(size, DVSM_CHUNK_SIZE);

		writer->next = atomic_fetch_add_explicit(&writer->shared->words_next, slice,
							 memory_order_relaxed);
		writer->end = writer->next + slice;
		if (writer->end > writer->shared->words_end) {
			writer->next = writer->end = 0;
			return NULL;
		}
	}
	record = record_at(writer, writer->next);
	record->length = length;
	memcpy(record->letters, word, length);
	return record;
}

/*
 * Adds one to the word's count, and the word if it is new. False when there is
 * no room. The record is written before the slot refers to it (release), and
 * read after the reference (acquire); a record whose slot was lost to another
 * process is overwritten by the next one.
 */
bool table_add(struct table_writer *writer, const char *word, uint32_t length, uint64_t hash)
{
	struct slot *slots = (struct slot *)(writer->base + writer->shared->slots);
	const uint64_t mask = writer->shared->nr_slots - 1;
	const uint64_t tag = hash >> OFFSET_BITS << OFFSET_BITS;
	struct record *record = NULL;
	unsigned int probe;

	for (probe = 0; probe < PROBES_MAX; probe++) {
		struct slot *slot = &slots[(hash + probe) & mask];
		uint64_t held = atomic_load_explicit(&slot->word, memory_order_acquire);

		if (!held) {
			if (!record)
				record = record_write(writer, word, length);
			if (!record)
				return false;
			if (atomic_compare_exchange_strong_explicit(&slot->word, &held,
								    tag | writer->next,
								    memory_order_acq_rel,
								    memory_order_acquire)) {
				writer->next += round_up(sizeof(*record) + length, 8);
				writer->nr_distinct++;
				held = 0;
			}
		}
		if (held) {
			uint64_t offset = held & ((1ULL << OFFSET_BITS) - 1);
			const struct record *other = record_at(writer, offset);

			if ((held ^ tag) >> OFFSET_BITS || other->length != length ||
			    memcmp(other->letters, word, length))
				continue;
		}
		atomic_fetch_add_explicit(&slot->count, 1, memory_order_relaxed);
		return true;
	}
	return false;
}

/* All words and counts, in slot order; to be freed. The table is quiet by now. */
struct entry *table_entries(const struct table *table, uint64_t *nr_entries)
{
	const struct shared *shared = table_shared(table);
	struct slot *slots = (struct slot *)(table->base + shared->slots);
	struct entry *entries;
	uint64_t nr = 0, i;

	for (i = 0; i < WORKERS_MAX; i++)
		nr += shared->workers[i].nr_distinct;
	entries = malloc((nr ? nr : 1) * sizeof(*entries));
	*nr_entries = 0;
	for (i = 0; entries && i < shared->nr_slots && *nr_entries < nr; i++) {
		const struct record *record;

		if (!slots[i].word)
			continue;
		record = (const struct record *)(table->base +
			 (slots[i].word & ((1ULL << OFFSET_BITS) - 1)));
		entries[(*nr_entries)++] = (struct entry){
			.word = record->letters,
			.length = record->length,
			.count = slots[i].count,
		};
	}
	return entries;
}

int entry_compare(const void *a, const void *b)
{
	const struct entry *one = a, *two = b;
	uint32_t common = one->length < two->length ? one->length : two->length;
	int order = memcmp(one->word, two->word, common);

	return order ? order : (one->length > two->length) - (one->length < two->length);
}
