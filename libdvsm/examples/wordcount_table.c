// SPDX-License-Identifier: GPL-2.0-only
/* The hash tables in the region: insert and count without a lock; add up at the end. */
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
 * A shard's memory goes to its node, whoever touches it first, the parent too. When the
 * node is full the next one is better than to die. The error is the shard's, for the
 * report: it is a table wherever it is.
 */
static void shard_init(const struct table *table, unsigned int n, int node, uint64_t nr_slots,
		       uint64_t words)
{
	uint64_t offset = table_shard_offset(table, n);
	struct shard *shard = table_shard(table, n);
	int error = 0;

	if (node >= 0)
		error = dvsm_region_place_node(table->region, offset, table->shard_length,
					       DVSM_POLICY_PREFERRED, (unsigned int)node);
	shard->node = node;
	shard->error = error;
	shard->slots = offset + round_up(sizeof(*shard), 4096);
	shard->nr_slots = nr_slots;
	shard->words_next = offset + words;
	shard->words_end = offset + table->shard_length;
}

/*
 * Room for the words of @text bytes of ordinary text, times @scale, in each shard. The
 * region is sparse, so what is not used costs nothing.
 */
int table_create(struct table *table, uint32_t backend, const struct nodes *nodes, uint64_t text,
		 unsigned int scale)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = backend,
		.label = "wordcount",
	};
	uint64_t nr_slots = 1 << 16, words;
	unsigned int n;

	_Static_assert(sizeof(struct shared) <= DVSM_CHUNK_SIZE, "it has a chunk of its own");
	while (nr_slots < text / 32 * scale)
		nr_slots *= 2;
	words = round_up(round_up(sizeof(struct shard), 4096) + nr_slots * sizeof(struct slot),
			 DVSM_CHUNK_SIZE);
	table->shard_length = words + round_up(text * scale, DVSM_CHUNK_SIZE) +
			      WORKERS_MAX * DVSM_CHUNK_SIZE;
	table->nr_shards = nodes->nr ? nodes->nr : 1;
	table->length = table_shard_offset(table, table->nr_shards);
	table->region = dvsm_region_create(table->length, &options);
	if (!table->region)
		return -errno;
	table->base = dvsm_region_map(table->region, 0, 0, PROT_READ | PROT_WRITE, NULL);
	if (!table->base) {
		int error = errno;

		dvsm_region_destroy(table->region);
		return -error;
	}
	for (n = 0; n < table->nr_shards; n++)
		shard_init(table, n, nodes->nr ? nodes->numbers[n] : -1, nr_slots, words);
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

		writer->next = atomic_fetch_add_explicit(&writer->shard->words_next, slice,
							 memory_order_relaxed);
		writer->end = writer->next + slice;
		if (writer->end > writer->shard->words_end) {
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
	struct slot *slots = (struct slot *)(writer->base + writer->shard->slots);
	const uint64_t mask = writer->shard->nr_slots - 1;
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

/* A shard's words and counts, in slot order, to @entries; how many. */
static uint64_t shard_entries(const struct table *table, unsigned int n, struct entry *entries)
{
	const struct shard *shard = table_shard(table, n);
	struct slot *slots = (struct slot *)(table->base + shard->slots);
	uint64_t nr = 0, i;

	for (i = 0; i < shard->nr_slots; i++) {
		const struct record *record;

		if (!slots[i].word)
			continue;
		record = (const struct record *)(table->base +
			 (slots[i].word & ((1ULL << OFFSET_BITS) - 1)));
		entries[nr++] = (struct entry){
			.word = record->letters,
			.length = record->length,
			.count = slots[i].count,
		};
	}
	return nr;
}

/* What is equal stands side by side: adds it up. How many are left. */
static uint64_t entries_merge(struct entry *entries, uint64_t nr)
{
	uint64_t merged = 0, i;

	for (i = 0; i < nr; i++) {
		if (merged && !entry_compare(&entries[merged - 1], &entries[i]))
			entries[merged - 1].count += entries[i].count;
		else
			entries[merged++] = entries[i];
	}
	return merged;
}

/* All words and counts, in order of the words; to be freed. The shards are quiet by now. */
struct entry *table_entries(const struct table *table, uint64_t *nr_entries)
{
	const struct shared *shared = table_shared(table);
	struct entry *entries;
	uint64_t nr = 0;
	unsigned int i;

	for (i = 0; i < WORKERS_MAX; i++)
		nr += shared->workers[i].nr_distinct;
	entries = malloc((nr ? nr : 1) * sizeof(*entries));
	if (!entries)
		return NULL;
	for (nr = 0, i = 0; i < table->nr_shards; i++)
		nr += shard_entries(table, i, entries + nr);
	qsort(entries, nr, sizeof(*entries), entry_compare);
	*nr_entries = entries_merge(entries, nr);
	return entries;
}

int entry_compare(const void *a, const void *b)
{
	const struct entry *one = a, *two = b;
	uint32_t common = one->length < two->length ? one->length : two->length;
	int order = memcmp(one->word, two->word, common);

	return order ? order : (one->length > two->length) - (one->length < two->length);
}
