/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wordcount: word frequencies of a text corpus, counted by several processes in
 * hash tables that live in a dvsm region: one for each NUMA node, a shard.
 *
 * The region, front to back; everything in it refers by offset from its start,
 * so that it may be mapped anywhere:
 *
 *   struct shared   queue, statistics; a chunk, wherever it comes to be
 *   for each shard, in chunks that dvsm_region_place_node() puts on its node:
 *     struct shard
 *     slots         power of two, open addressing, linear probing
 *     words         records (length, letters), in slices of a chunk: each
 *                   worker fills slices of its own
 *
 * A worker runs on the CPUs of one node and counts in the shard of that node, so
 * that all it writes but its statistics is local. A word may be in several
 * shards: the parent adds them up at the end.
 *
 * A slot goes from 0 to a word's reference by one compare-and-swap and never
 * changes again; the release in it publishes the record. Its count is added to
 * atomically. Nobody waits for anybody.
 *
 * A word is a longest run of A-Z and a-z in one file, in lower case.
 */
#ifndef WORDCOUNT_H
#define WORDCOUNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dvsm/dvsm.h>

#define WORKERS_MAX	256
#define SHARDS_MAX	64
#define BLOCK_SIZE	(256UL << 10)	/* bytes of a file that are one task */

/* wordcount_corpus.c: which files; known to all by fork, not in the region. */

struct file {
	char *path;
	uint64_t length;	/* bytes that are counted: the last file may be cut */
};

struct task {
	uint32_t file;
	uint64_t offset;
};

struct corpus {
	struct file *files;
	struct task *tasks;
	uint64_t nr_files, nr_tasks;
	uint64_t length;	/* bytes of all files */
	uint64_t nr_skipped;	/* compressed, binary, empty or unreadable */
};

extern const char *const corpus_default[];
int corpus_load(struct corpus *corpus, const char *const *roots, uint64_t limit);
void corpus_free(struct corpus *corpus);

/* wordcount_table.c */

struct slot {
	_Atomic uint64_t word;	/* 16 bits of the hash, 48 of the record's offset; 0: free */
	_Atomic uint64_t count;
};

/* One worker's lines: written by it, read by the parent at any time. */
struct worker_stats {
	_Alignas(128) _Atomic uint64_t nr_bytes;
	_Atomic uint64_t nr_words;
	_Atomic uint64_t nr_distinct;	/* words that this worker was the first to insert */
	_Atomic uint64_t nr_tasks;
	_Atomic uint64_t nr_faults;
	_Atomic uint64_t nanoseconds;	/* of CPU time */
	_Atomic int32_t node;		/* where it was sent; -1: anywhere */
};

struct shared {
	_Alignas(128) _Atomic uint64_t next_task;
	_Alignas(128) _Atomic uint32_t full;		/* more room is needed: start again */
	_Atomic uint32_t failed;			/* a worker said why */
	struct worker_stats workers[WORKERS_MAX];
};

struct shard {
	uint64_t slots;			/* offset */
	uint64_t nr_slots;
	uint64_t words_end;		/* offset */
	int32_t node;			/* wanted; -1: any */
	int32_t error;			/* why the node could not be asked for, or 0 */
	_Alignas(128) _Atomic uint64_t words_next;	/* offset of the next free slice */
};

struct table {
	struct dvsm_region *region;
	char *base;		/* of the mapping; struct shared is there */
	uint64_t length;
	uint64_t shard_length;
	unsigned int nr_shards;	/* one behind the other, from the second chunk on */
};

/* A process's own end of a shard. */
struct table_writer {
	struct shard *shard;
	char *base;
	uint64_t next, end;	/* free part of the current slice */
	uint64_t nr_distinct;
};

struct entry {
	const char *word;	/* not terminated */
	uint32_t length;
	uint64_t count;
};

/* For printf's %.*s: a word may be as long as a file. */
static inline int shown(uint32_t length)
{
	return length < 40 ? (int)length : 40;
}

/* Nodes on which workers run; none where it makes no difference. */
struct nodes {
	unsigned int nr;
	int numbers[SHARDS_MAX];
};

int table_create(struct table *table, uint32_t backend, const struct nodes *nodes, uint64_t text,
		 unsigned int scale);
void table_destroy(struct table *table);
bool table_add(struct table_writer *writer, const char *word, uint32_t length, uint64_t hash);
struct entry *table_entries(const struct table *table, uint64_t *nr_entries);

static inline struct shared *table_shared(const struct table *table)
{
	return (struct shared *)table->base;
}

static inline uint64_t table_shard_offset(const struct table *table, unsigned int n)
{
	return DVSM_CHUNK_SIZE + n * table->shard_length;
}

static inline struct shard *table_shard(const struct table *table, unsigned int n)
{
	return (struct shard *)(table->base + table_shard_offset(table, n));
}

/* wordcount_worker.c */
extern const unsigned char letter_of[256];	/* lower case, or 0 */
void worker_run(const struct table *table, const struct corpus *corpus, unsigned int n);
void worker_nodes(struct nodes *nodes, unsigned int nr_workers);

/* wordcount_report.c */
void report_progress(const struct table *table, const struct corpus *corpus,
		     unsigned int nr_workers, double seconds, bool line);
void report(const struct table *table, const struct corpus *corpus, unsigned int nr_workers,
	    double seconds, const struct entry *entries, uint64_t nr_entries);

/* wordcount_verify.c: entries are in the order of their letters */
enum verify { VERIFY_NONE, VERIFY_AUTO, VERIFY_PIPE, VERIFY_SORT };
int verify(enum verify how, const struct corpus *corpus, const struct entry *entries,
	   uint64_t nr_entries, bool quiet);

/* As strcmp of the words. */
int entry_compare(const void *a, const void *b);

#endif /* WORDCOUNT_H */
