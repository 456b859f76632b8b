// SPDX-License-Identifier: GPL-2.0-only
/* The bank: plain code that knows of nobody else. */
#include "parallel-commit.h"

/* Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014. */
uint64_t mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15;
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
	value = (value ^ value >> 27) * 0x94d049bb133111eb;
	return value ^ value >> 31;
}

void bank_fill(const struct bank *bank, char *base)
{
	uint64_t shard, account;

	for (shard = 0; shard < bank->nr_shards; shard++)
		for (account = 0; account < ACCOUNTS; account++)
			shard_at(base, shard)->balances[account] = BALANCE;
}

/* What a transfer does follows from its number and from what it finds. Its time. */
uint64_t transfer(const struct bank *bank, char *base, uint64_t number)
{
	uint64_t dice = mix(bank->seed ^ mix(number)), amount = dice % (2 * BALANCE);
	struct shard *from, *to;
	uint64_t *source, *target, time;

	from = shard_at(base, dice / 64 % 100 < bank->hot ? 0 : mix(dice + 1) % bank->nr_shards);
	to = shard_at(base, mix(dice + 2) % bank->nr_shards);
	source = &from->balances[mix(dice + 3) % ACCOUNTS];
	target = &to->balances[mix(dice + 4) % ACCOUNTS];
	time = (from->clock > to->clock ? from->clock : to->clock) + 1;
	from->clock = to->clock = time;
	from->history = mix(from->history ^ number);
	to->history = mix(to->history + number);
	if (*source < amount) {
		from->nr_refused++;
	} else {
		*source -= amount;
		*target += amount;
	}
	return time;
}

/* Batches go to the workers in turn, so a journal tells which one is next. False: none. */
bool batch_do(const struct bank *bank, unsigned int worker)
{
	struct journal *journal = journal_at(bank, bank->base, worker);
	uint64_t number = (journal->nr_batches * bank->nr_workers + worker) * bank->batch, i;

	if (number >= bank->nr_transfers)
		return false;
	for (i = 0; i < bank->batch && number < bank->nr_transfers; i++, number++)
		journal->entries[journal->nr_entries++] = (struct entry){
			.time = transfer(bank, bank->base, number),
			.transfer = number,
		};
	journal->nr_batches++;
	return true;
}
