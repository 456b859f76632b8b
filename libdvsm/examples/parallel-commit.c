// SPDX-License-Identifier: GPL-2.0-only
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
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <dvsm/dvsm.h>

#define WORKERS_MAX	64
#define BALANCE		10	/* of each account at first */
#define CONFLICTS	16	/* ranges that a worker asks for */
#define EXIT_SKIP	4

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

static const char usage[] =
	"usage: parallel-commit [OPTION...]\n"
	"\n"
	"Worker processes transfer money between accounts in private copy-on-write views of\n"
	"one region, and merge them; conflicts are detected by the kernel and done again.\n"
	"The result is compared with that of a serial run, byte for byte.\n"
	"\n"
	"  -b, --backend=NAME    auto (default), device, memfd, memfd-hugetlb, memfd-thp, memfd-4k\n"
	"  -w, --workers=N       worker processes (default 4, at most 64)\n"
	"  -s, --shards=N        chunks of 2 MiB that hold accounts (default 64)\n"
	"  -t, --transfers=N     in all (default 2000)\n"
	"  -B, --batch=N         transfers that are committed at once (default 2)\n"
	"  -H, --hot=PERCENT     transfers that take from the first shard (default 0)\n"
	"  -k, --kill=N          kill a worker N times, at random, and start another one\n"
	"  -r, --seed=N          of the transfers (default 1)\n"
	"\n"
	"Exit status: 0 equal; 1 not equal; 2 it could not be done; 4 the backend has no snapshots.\n";

static const struct option long_options[] = {
	{ "backend", required_argument, NULL, 'b' },
	{ "workers", required_argument, NULL, 'w' },
	{ "shards", required_argument, NULL, 's' },
	{ "transfers", required_argument, NULL, 't' },
	{ "batch", required_argument, NULL, 'B' },
	{ "hot", required_argument, NULL, 'H' },
	{ "kill", required_argument, NULL, 'k' },
	{ "seed", required_argument, NULL, 'r' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

/* Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014. */
static uint64_t mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15;
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
	value = (value ^ value >> 27) * 0x94d049bb133111eb;
	return value ^ value >> 31;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static struct shard *shard_at(char *base, uint64_t shard)
{
	return (struct shard *)(base + shard * DVSM_CHUNK_SIZE);
}

static struct journal *journal_at(const struct bank *bank, char *base, unsigned int worker)
{
	return (struct journal *)(base + (bank->nr_shards + worker) * DVSM_CHUNK_SIZE);
}

static void bank_fill(const struct bank *bank, char *base)
{
	uint64_t shard, account;

	for (shard = 0; shard < bank->nr_shards; shard++)
		for (account = 0; account < ACCOUNTS; account++)
			shard_at(base, shard)->balances[account] = BALANCE;
}

/* What a transfer does follows from its number and from what it finds. Its time. */
static uint64_t transfer(const struct bank *bank, char *base, uint64_t number)
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
static bool batch_do(const struct bank *bank, unsigned int worker)
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

static int worker_run(const struct bank *bank, unsigned int worker)
{
	struct counts *counts = &bank->counts[worker];
	struct dvsm_range conflicts[CONFLICTS];
	struct dvsm_region *view;
	uint32_t nr_conflicts;
	int error;

	for (;;) {
		/* From here on everything at base is this worker's own. */
		view = dvsm_region_view(bank->region, bank->base);
		if (!view)
			return -errno;
		if (!batch_do(bank, worker)) {
			dvsm_region_destroy(view);
			return 0;
		}
		nr_conflicts = CONFLICTS;
		error = dvsm_snapshot_merge(bank->region, view, 0, conflicts, &nr_conflicts,
					    NULL);
		dvsm_region_destroy(view);
		if (!error) {
			counts->nr_commits++;
		} else if (error == -EAGAIN) {
			counts->nr_retries++;
			counts->nr_ranges += nr_conflicts;
			counts->nr_redone += bank->batch;
		} else {
			return error;
		}
	}
}

/* A worker never outlives the parent. */
static int worker_start(struct bank *bank, unsigned int worker)
{
	pid_t parent = getpid(), pid = fork();
	int error;

	if (pid) {
		bank->workers[worker] = pid;
		return pid < 0 ? -errno : 0;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	error = worker_run(bank, worker);
	if (error)
		fprintf(stderr, "parallel-commit: worker %u: %s\n", worker, strerror(-error));
	_exit(error != 0);
}

static void workers_kill(const struct bank *bank)
{
	unsigned int worker;

	for (worker = 0; worker < bank->nr_workers; worker++)
		if (bank->workers[worker] > 0)
			kill(bank->workers[worker], SIGKILL);
	while (wait(NULL) > 0)
		;
}

static unsigned int worker_of(const struct bank *bank, pid_t pid)
{
	unsigned int worker = 0;

	while (bank->workers[worker] != pid)
		worker++;
	return worker;
}

/* Waits for all; one that was killed is replaced. */
static int workers_wait(struct bank *bank, unsigned int *nr_killed)
{
	unsigned int nr_running = bank->nr_workers, nr_sent = 0, worker;
	uint64_t dice = mix(bank->seed + 5);
	int status, error;
	pid_t pid;

	*nr_killed = 0;
	while (nr_running) {
		if (nr_sent < bank->nr_kills) {
			usleep((useconds_t)(1000 + (dice = mix(dice)) % 20000));
			pid = bank->workers[dice / 32768 % bank->nr_workers];
			if (pid > 0 && !kill(pid, SIGKILL))
				nr_sent++;
		}
		pid = waitpid(-1, &status, nr_sent < bank->nr_kills ? WNOHANG : 0);
		if (pid < 0)
			return -errno;
		if (!pid)
			continue;
		worker = worker_of(bank, pid);
		bank->workers[worker] = 0;
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && bank->nr_kills) {
			++*nr_killed;
			error = worker_start(bank, worker);
			if (error)
				return error;
		} else if (status) {
			return -ECHILD;
		} else {
			nr_running--;
		}
	}
	return 0;
}

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
static int check(const struct bank *bank)
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

static void report(const struct bank *bank, unsigned int nr_killed, double seconds)
{
	struct counts sum = { 0 };
	unsigned int worker;

	for (worker = 0; worker < bank->nr_workers; worker++) {
		sum.nr_commits += bank->counts[worker].nr_commits;
		sum.nr_retries += bank->counts[worker].nr_retries;
		sum.nr_ranges += bank->counts[worker].nr_ranges;
		sum.nr_redone += bank->counts[worker].nr_redone;
	}
	printf("committed      %" PRIu64 " transfers by %u workers in %.3f s\n",
	       bank->nr_transfers, bank->nr_workers, seconds);
	printf("conflicts      %" PRIu64 " merges refused for %" PRIu64 " ranges that others had written\n",
	       sum.nr_retries, sum.nr_ranges);
	printf("retries        %" PRIu64 " batches, %" PRIu64 " transfers done again; %" PRIu64
	       " merges taken\n", sum.nr_retries, sum.nr_redone, sum.nr_commits);
	if (bank->nr_kills)
		printf("killed         %u workers\n", nr_killed);
}

/* 0, or the exit status after saying why. */
static int bank_create(struct bank *bank)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = bank->backend,
		.label = "parallel-commit",
	};

	bank->length = (bank->nr_shards + bank->nr_workers) * DVSM_CHUNK_SIZE;
	bank->region = dvsm_region_create(bank->length, &options);
	if (!bank->region) {
		fprintf(stderr, "parallel-commit: no region of backend %s: %s\n",
			dvsm_backend_name(bank->backend), strerror(errno));
		return 2;
	}
	if (!(dvsm_region_features(bank->region) & DVSM_FEATURE_SNAPSHOT)) {
		fprintf(stderr, "parallel-commit: backend %s has no snapshots, which this program"
			" is about: it needs the dvsm module and " DVSM_DEVICE_PATH "\n",
			dvsm_backend_name(dvsm_region_backend(bank->region)));
		return EXIT_SKIP;
	}
	bank->base = dvsm_region_map(bank->region, 0, 0, PROT_READ | PROT_WRITE, NULL);
	bank->counts = mmap(NULL, bank->nr_workers * sizeof(*bank->counts),
			    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!bank->base || bank->counts == MAP_FAILED ||
	    dvsm_region_populate(bank->region, 0, 0, 0, NULL)) {
		perror("parallel-commit: memory");
		return 2;
	}
	bank_fill(bank, bank->base);
	printf("bank           %u shards of %lu accounts on backend %s at %p\n", bank->nr_shards,
	       (unsigned long)ACCOUNTS, dvsm_backend_name(dvsm_region_backend(bank->region)),
	       (void *)bank->base);
	return 0;
}

static int run(struct bank *bank)
{
	unsigned int worker, nr_killed;
	int error = bank_create(bank);
	double start;

	if (error)
		return error;
	fflush(stdout);
	start = now();
	for (worker = 0; !error && worker < bank->nr_workers; worker++)
		error = worker_start(bank, worker);
	if (!error)
		error = workers_wait(bank, &nr_killed);
	if (error) {
		workers_kill(bank);
		fprintf(stderr, "parallel-commit: workers: %s\n", strerror(-error));
		return 2;
	}
	report(bank, nr_killed, now() - start);
	return check(bank);
}

static bool parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 0);
	return !errno && end != text && !*end && *text != '-' && *number >= least && *number <= most;
}

static bool parse_backend(const char *name, uint32_t *backend)
{
	for (*backend = 0; strcmp(dvsm_backend_name(*backend), "unknown"); ++*backend)
		if (!strcmp(name, dvsm_backend_name(*backend)))
			return true;
	return false;
}

static bool parse(int argc, char **argv, struct bank *bank)
{
	uint64_t number = 0;
	bool right = true;
	int option;

	while (right && (option = getopt_long(argc, argv, "b:w:s:t:B:H:k:r:h", long_options,
					      NULL)) != -1) {
		switch (option) {
		case 'b':
			right = parse_backend(optarg, &bank->backend);
			break;
		case 'w':
			right = parse_number(optarg, 1, WORKERS_MAX, &number);
			bank->nr_workers = (unsigned int)number;
			break;
		case 's':
			right = parse_number(optarg, 1, 1 << 20, &number);
			bank->nr_shards = (unsigned int)number;
			break;
		case 't':
			right = parse_number(optarg, 1, UINT32_MAX, &bank->nr_transfers);
			break;
		case 'B':
			right = parse_number(optarg, 1, ENTRIES, &bank->batch);
			break;
		case 'H':
			right = parse_number(optarg, 0, 100, &number);
			bank->hot = (unsigned int)number;
			break;
		case 'k':
			right = parse_number(optarg, 0, 1000, &number);
			bank->nr_kills = (unsigned int)number;
			break;
		case 'r':
			right = parse_number(optarg, 0, UINT64_MAX, &bank->seed);
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			right = false;
		}
	}
	return right && optind == argc;
}

int main(int argc, char **argv)
{
	struct bank bank = {
		.nr_workers = 4,
		.nr_shards = 64,
		.nr_transfers = 2000,
		.batch = 2,
		.seed = 1,
	};

	if (!parse(argc, argv, &bank)) {
		fputs(usage, stderr);
		return 2;
	}
	if (bank.nr_transfers / bank.nr_workers + bank.batch > ENTRIES) {
		fprintf(stderr, "parallel-commit: a journal has room for %lu transfers\n",
			(unsigned long)ENTRIES);
		return 2;
	}
	return run(&bank);
}
