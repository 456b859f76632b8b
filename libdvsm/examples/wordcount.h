/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wordcount: word frequencies of a text corpus, counted by several processes in
 * one hash table that lives in a dvsm region.
 *
 * The region, front to back; everything in it refers by offset from its start,
 * so that it may be mapped anywhere:
 *
 *   struct shared   queue, statistics
 *   slots           power of two, open addressing, linear probing
 *   words           records (length, letters), in slices of a chunk: each
 *                   worker fills slices of its own, on its own node
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
	uint64_t slots;			/* offset */
	uint64_t nr_slots;
	uint64_t words_end;		/* offset */
	_Alignas(128) _Atomic uint64_t next_task;
	_Alignas(128) _Atomic uint64_t words_next;	/* offset of the next free slice */
	_Alignas(128) _Atomic uint32_t full;		/* more room is needed: start again */
	_Atomic uint32_t failed;			/* a worker said why */
	struct worker_stats workers[WORKERS_MAX];
};

struct table {
	struct dvsm_region *region;
	char *base;		/* of the mapping; struct shared is there */
	uint64_t length;
};

/* A process's own end of the table. */
struct table_writer {
	struct shared *shared;
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

int table_create(struct table *table, uint32_t backend, uint64_t text, unsigned int scale);
void table_destroy(struct table *table);
bool table_add(struct table_writer *writer, const char *word, uint32_t length, uint64_t hash);
struct entry *table_entries(const struct table *table, uint64_t *nr_entries);

static inline struct shared *table_shared(const struct table *table)
{
	return (struct shared *)table->base;
}

/* wordcount_worker.c */
extern const unsigned char letter_of[256];	/* lower case, or 0 */
void worker_run(const struct table *table, const struct corpus *corpus, unsigned int n);
int worker_node(unsigned int n);

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
