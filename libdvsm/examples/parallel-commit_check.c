// SPDX-License-Identifier: GPL-2.0-only
/* The same transfers in one process, in the order that their times give. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "parallel-commit.h"

static int by_time(const void *a, const void *b)
{
	const struct entry *one = a, *other = b;

	if (one->time != other->time)
		return one->time < other->time ? -1 : 1;
	return one->transfer < other->transfer ? -1 : one->transfer > other->transfer;
}

/* All journals in one, in the order of a serial run. NULL: not every transfer is there once. */
static struct entry *order(const struct bank *bank)
{
	struct entry *entries = calloc(bank->nr_transfers, sizeof(*entries));
	bool *seen = calloc(bank->nr_transfers, sizeof(*seen));
	uint64_t nr = 0, i, number;
	unsigned int worker;

	for (worker = 0; entries && seen && worker < bank->nr_workers; worker++) {
		const struct journal *journal = journal_at(bank, bank->base, worker);

		for (i = 0; i < journal->nr_entries; i++) {
			number = journal->entries[i].transfer;
			if (number >= bank->nr_transfers || seen[number]) {
				fprintf(stderr, "parallel-commit: transfer %" PRIu64
					" was committed twice\n", number);
				goto wrong;
			}
			seen[number] = true;
			entries[nr++] = journal->entries[i];
		}
	}
	if (nr == bank->nr_transfers) {
		free(seen);
		qsort(entries, nr, sizeof(*entries), by_time);
		return entries;
	}
	fprintf(stderr, "parallel-commit: %" PRIu64 " transfers were committed of %" PRIu64 "\n",
		nr, bank->nr_transfers);
wrong:
	free(entries);
	free(seen);
	return NULL;
}

/* 0: equal to a serial run; 1: not; 2: it could not be checked. */
int check(const struct bank *bank)
{
	uint64_t length = bank->nr_shards * DVSM_CHUNK_SIZE, nr_refused = 0, shard, i;
	double start = now();
	struct entry *entries = order(bank);
	char *serial;
	int answer = 1;

	if (!entries)
		return 1;
	serial = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (serial == MAP_FAILED) {
		perror("parallel-commit: memory for the serial run");
		free(entries);
		return 2;
	}
	bank_fill(bank, serial);
	for (i = 0; i < bank->nr_transfers; i++)
		if (transfer(bank, serial, entries[i].transfer) != entries[i].time)
			break;
	for (shard = 0; shard < bank->nr_shards; shard++)
		nr_refused += shard_at(serial, shard)->nr_refused;
	printf("serial run     %.3f s, %" PRIu64 " transfers refused by the balance: ",
	       now() - start, nr_refused);
	if (i < bank->nr_transfers) {
		printf("DIFFERENT at transfer %" PRIu64 "\n", entries[i].transfer);
	} else if (memcmp(serial, bank->base, length)) {
		for (i = 0; serial[i] == bank->base[i]; i++)
			;
		printf("DIFFERENT at byte %" PRIu64 "\n", i);
	} else {
		printf("equal in all %" PRIu64 " bytes\n", length);
		answer = 0;
	}
	munmap(serial, length);
	free(entries);
	return answer;
}
