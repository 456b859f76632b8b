// SPDX-License-Identifier: GPL-2.0-only
/* parallel-commit: see parallel-commit.h for what it does; here are options and workers. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "parallel-commit.h"

#define CONFLICTS	16	/* ranges that a worker asks for */
#define EXIT_SKIP	4

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
