/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * parallel-commit: worker processes change views of one structure and merge them.
 *
 * The structure is a bank: accounts in shards of one chunk each, then one journal
 * for each worker, in a chunk of its own. All of it is used by plain code through
 * plain pointers; there is no lock and no atomic operation in it.
 *
 * A worker takes a view of the region in place of its mapping, does a batch of
 * transfers there, writes them into its journal, and merges. If somebody else has
 * committed to one of the same shards since, the merge is refused with nothing
 * changed, and the batch is done again in a fresh view. A worker that is killed,
 * at whatever instruction, leaves either all of its batch or nothing; what is
 * left to do is read from its journal.
 *
 * Why the result is a serial one: a transfer writes to each shard that it reads,
 * if only to its clock. So a merge that is not refused has read nothing that
 * anybody has changed since. A transfer sets the clocks of its shards to one more
 * than the later of them (Lamport, Time, Clocks, and the Ordering of Events, 1978):
 * transfers that share a shard have different times, in the order in which they
 * were committed, and those that share none may be done in any order. The check
 * does all of them in the order of their times, in one process, and compares every
 * byte. Transfers depend on their order: one that the balance does not allow is
 * refused, and each shard hashes what it has seen.
 */
#ifndef PARALLEL_COMMIT_H
#define PARALLEL_COMMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include <dvsm/dvsm.h>

#define WORKERS_MAX	64
#define BALANCE		10	/* of each account at first */

struct shard {
	uint64_t clock;		/* time of the last transfer that touched it */
	uint64_t history;	/* of all of them, in their order */
	uint64_t nr_refused;	/* transfers that the balance did not allow */
	uint64_t balances[];
};
#define ACCOUNTS ((DVSM_CHUNK_SIZE - sizeof(struct shard)) / sizeof(uint64_t))

struct entry {
	uint64_t time;
	uint64_t transfer;
};

/* Written by one worker, so that it conflicts with nobody's. */
struct journal {
	uint64_t nr_batches;	/* that are done */
	uint64_t nr_entries;
	struct entry entries[];
};
#define ENTRIES ((DVSM_CHUNK_SIZE - sizeof(struct journal)) / sizeof(struct entry))

/* One worker's counts: not part of the structure, so not in the region. */
struct counts {
	uint64_t nr_commits;
	uint64_t nr_retries;
	uint64_t nr_ranges;
	uint64_t nr_redone;	/* transfers */
};

struct bank {
	uint32_t backend;
	unsigned int nr_workers, nr_shards, hot;
	uint64_t nr_transfers, batch, seed;
	unsigned int nr_kills;
	struct dvsm_region *region;
	char *base;		/* of the mapping */
	uint64_t length;
	struct counts *counts;	/* shared with the workers */
	pid_t workers[WORKERS_MAX];
};

/* parallel-commit_bank.c */
uint64_t mix(uint64_t value);
void bank_fill(const struct bank *bank, char *base);
uint64_t transfer(const struct bank *bank, char *base, uint64_t number);
bool batch_do(const struct bank *bank, unsigned int worker);

/* parallel-commit_check.c: 0: equal to a serial run; 1: not; 2: it could not be checked */
int check(const struct bank *bank);

static inline struct shard *shard_at(char *base, uint64_t shard)
{
	return (struct shard *)(base + shard * DVSM_CHUNK_SIZE);
}

static inline struct journal *journal_at(const struct bank *bank, char *base, unsigned int worker)
{
	return (struct journal *)(base + (bank->nr_shards + worker) * DVSM_CHUNK_SIZE);
}

static inline double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

#endif /* PARALLEL_COMMIT_H */
