// SPDX-License-Identifier: GPL-2.0-only
/* dvsm-checkpoint: see dvsm-checkpoint.h for what it does; here are options and processes. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dvsm-checkpoint.h"

#define MIB		(1024.0 * 1024.0)
#define EXIT_SKIP	4

struct options {
	uint32_t backend;
	uint64_t length;	/* of the region, in bytes */
	uint64_t nr_checkpoints;
	uint64_t interval;	/* milliseconds */
	uint64_t rate;		/* steps a second; 0: as fast as they go */
	uint64_t seed;
	uint64_t at;		/* restart from this one; 0: the last */
	bool verify, go_on;
	const char *directory;
};

static const char usage[] =
	"usage: dvsm-checkpoint run [OPTION...] DIRECTORY\n"
	"       dvsm-checkpoint restart [OPTION...] DIRECTORY\n"
	"       dvsm-checkpoint --verify [OPTION...]\n"
	"\n"
	"run: one process changes a table in a dvsm region all the time, another one writes\n"
	"incremental checkpoints of it to DIRECTORY, by snapshots and what they differ in.\n"
	"restart: makes the table again from these files.\n"
	"--verify alone: both, in a directory of its own that is removed afterwards.\n"
	"\n"
	"  -v, --verify           compare what each checkpoint gives on restart with a table\n"
	"                         to which the same steps were applied in memory, byte by byte\n"
	"  -a, --at=N             restart from checkpoint N (default: the last)\n"
	"  -c, --continue         after the restart go on as run does; later files are removed\n"
	"  -n, --checkpoints=N    how many run writes (default 8)\n"
	"  -i, --interval=MS      between them, in milliseconds (default 200)\n"
	"  -s, --size=MIB         of the table (default 128)\n"
	"  -R, --rate=N           steps a second (default 200000; 0: as fast as they go)\n"
	"  -r, --seed=N           of the steps (default 1)\n"
	"  -b, --backend=NAME     auto (default), device, memfd, memfd-hugetlb, memfd-thp,\n"
	"                         memfd-4k; run needs one with snapshots, restart does not\n"
	"\n"
	"Exit status: 0 done, and equal where it was checked; 1 not equal; 2 it could not be\n"
	"done, files that are damaged included; 4 the backend has no snapshots.\n";

static const struct option long_options[] = {
	{ "verify", no_argument, NULL, 'v' },
	{ "at", required_argument, NULL, 'a' },
	{ "continue", no_argument, NULL, 'c' },
	{ "checkpoints", required_argument, NULL, 'n' },
	{ "interval", required_argument, NULL, 'i' },
	{ "size", required_argument, NULL, 's' },
	{ "rate", required_argument, NULL, 'R' },
	{ "seed", required_argument, NULL, 'r' },
	{ "backend", required_argument, NULL, 'b' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static void pause_for(double seconds)
{
	struct timespec time = { .tv_sec = (time_t)seconds };

	time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
	nanosleep(&time, NULL);
}

static int need_snapshots(const struct state *state)
{
	if (dvsm_region_features(state->region) & DVSM_FEATURE_SNAPSHOT)
		return 0;
	fprintf(stderr, "dvsm-checkpoint: backend %s has no snapshots, which run needs: it needs"
		" the dvsm module and " DVSM_DEVICE_PATH "\n",
		dvsm_backend_name(dvsm_region_backend(state->region)));
	return EXIT_SKIP;
}

/* Changes the table until it is killed. It does not outlive the parent. */
static void mutate(struct table *table, uint64_t rate, pid_t parent)
{
	uint64_t first = table->done, batch = rate / 1000 + 1, i;
	double start = now(), ahead;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	for (;;) {
		for (i = 0; i < batch; i++)
			table_step(table);
		if (!rate)
			continue;
		ahead = (double)(table->done - first) / (double)rate - (now() - start);
		if (ahead > 0)
			pause_for(ahead);
	}
}

/* One checkpoint; *before becomes the new snapshot. */
static int checkpoint(const struct state *state, struct chain *chain,
		      struct dvsm_region **before)
{
	struct dvsm_snapshot_options options = {
		.size = sizeof(options),
		.flags = DVSM_SNAPSHOT_F_READ_ONLY,
		.label = "checkpoint",
	};
	double start = now(), taken, written;
	struct dvsm_region *snapshot;
	uint64_t begun, meanwhile;
	struct head head;
	int error;

	snapshot = dvsm_snapshot_take(state->region, &options);
	if (!snapshot)
		return -errno;
	taken = now();
	begun = state->table->done;
	error = checkpoint_write(chain, snapshot, *before, &head);
	if (error) {
		dvsm_region_destroy(snapshot);
		return error;
	}
	written = now();
	meanwhile = state->table->done - begun;
	printf("checkpoint %-4u step %9" PRIu64 "  %6.1f of %.1f MiB in %" PRIu64 " ranges  snapshot %.3f ms,"
	       " file %.0f ms, %" PRIu64 " steps meanwhile\n", head.number, begun,
	       (double)head.nr_bytes / MIB, (double)head.length / MIB, head.nr_ranges,
	       (taken - start) * 1e3, (written - taken) * 1e3, meanwhile);
	fflush(stdout);
	dvsm_region_destroy(*before);
	*before = snapshot;
	return 0;
}

/* Checkpoints after @chain's last one, of which @before is a snapshot. */
static int checkpoints(const struct options *options, const struct state *state,
		       struct chain *chain, struct dvsm_region **before)
{
	pid_t parent = getpid(), mutator;
	uint64_t i;
	int error = 0;

	fflush(stdout);
	mutator = fork();
	if (!mutator)
		mutate(state->table, options->rate, parent);
	if (mutator < 0)
		return -errno;
	for (i = 0; !error && i < options->nr_checkpoints; i++) {
		pause_for((double)options->interval / 1e3);
		if (waitpid(mutator, NULL, WNOHANG))
			return -ECHILD;
		error = checkpoint(state, chain, before);
	}
	/* Wherever it is. */
	kill(mutator, SIGKILL);
	waitpid(mutator, NULL, 0);
	return error;
}

static int run_on(const struct options *options, const struct state *state, struct chain *chain,
		  struct dvsm_region *before)
{
	int error = checkpoints(options, state, chain, &before);

	dvsm_region_destroy(before);
	if (error)
		return complain(options->directory, error);
	return options->verify ? verify(options->directory, options->backend, 0) : 0;
}

static int run(const struct options *options)
{
	struct chain chain = { .directory = options->directory };
	struct dvsm_region *empty;
	struct state state;
	struct head head;
	int error;

	if (checkpoint_head(&chain, 1, &head) != -ENOENT) {
		fprintf(stderr, "dvsm-checkpoint: %s has checkpoints: restart --continue, or remove them\n",
			options->directory);
		return 2;
	}
	if (mkdir(options->directory, 0777) && errno != EEXIST)
		return complain(options->directory, -errno);
	error = state_create(&state, options->backend, options->length);
	if (!error)
		error = need_snapshots(&state);
	if (!error) {
		empty = dvsm_snapshot_take(state.region, NULL);
		if (empty) {
			table_init(state.table, options->length, options->seed);
			error = run_on(options, &state, &chain, empty);
		} else {
			error = complain("snapshot", -errno);
		}
	}
	state_destroy(&state);
	return error;
}

static int go_on(const struct options *options, const struct state *state, struct chain *chain)
{
	struct dvsm_region *before;
	int error = need_snapshots(state);

	if (error)
		return error;
	/* What was redone is in the next checkpoint, because it is after this snapshot. */
	before = dvsm_snapshot_take(state->region, NULL);
	if (!before)
		return complain("snapshot", -errno);
	table_redo(state->table);
	error = checkpoint_remove_after(chain);
	if (error) {
		dvsm_region_destroy(before);
		return complain(chain->directory, error);
	}
	return run_on(options, state, chain, before);
}

static int restart(const struct options *options)
{
	struct chain chain = { .directory = options->directory };
	struct state state = { 0 };
	double start = now();
	bool in_a_step;
	int error;

	error = state_create_for(&state, options->backend, &chain);
	if (!error)
		error = load(&chain, options->at, &state);
	if (!error) {
		in_a_step = state.table->begun != state.table->done;
		printf("restarted        from checkpoint %u in %.3f s: %" PRIu64 " steps%s\n",
		       chain.number, now() - start, (uint64_t)state.table->begun,
		       in_a_step ? ", the last to be finished" : "");
		if (options->go_on) {
			error = go_on(options, &state, &chain);
		} else {
			table_redo(state.table);
			printf("digest           %016" PRIx64 "\n", table_digest(state.table));
			error = options->verify ?
				verify(options->directory, options->backend, options->at) : 0;
		}
	}
	if (state.region)
		state_destroy(&state);
	return error;
}

/* run and verify in a directory that is removed again. */
static int self_check(struct options *options)
{
	const char *where = getenv("TMPDIR");
	struct chain chain = { 0 };
	char directory[4096];
	int error;

	snprintf(directory, sizeof(directory), "%s/dvsm-checkpoint.XXXXXX", where ? where : "/tmp");
	if (!mkdtemp(directory))
		return complain(directory, -errno);
	options->directory = chain.directory = directory;
	error = run(options);
	checkpoint_remove_after(&chain);
	rmdir(directory);
	return error;
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

static bool parse(int argc, char **argv, struct options *options)
{
	bool right = true;
	uint64_t number;
	int option;

	while (right && (option = getopt_long(argc, argv, "va:cn:i:s:R:r:b:h", long_options,
					      NULL)) != -1) {
		switch (option) {
		case 'v':
			options->verify = true;
			break;
		case 'a':
			right = parse_number(optarg, 1, 999999, &options->at);
			break;
		case 'c':
			options->go_on = true;
			break;
		case 'n':
			right = parse_number(optarg, 1, 999999, &options->nr_checkpoints);
			break;
		case 'i':
			right = parse_number(optarg, 0, 86400000, &options->interval);
			break;
		case 's':
			right = parse_number(optarg, 2, 1 << 24, &number);
			options->length = (number + 1) / 2 * DVSM_CHUNK_SIZE + DVSM_CHUNK_SIZE;
			break;
		case 'R':
			right = parse_number(optarg, 0, 1000000000, &options->rate);
			break;
		case 'r':
			right = parse_number(optarg, 0, UINT64_MAX, &options->seed);
			break;
		case 'b':
			right = parse_backend(optarg, &options->backend);
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			right = false;
		}
	}
	return right;
}

int main(int argc, char **argv)
{
	struct options options = {
		.length = 65 * DVSM_CHUNK_SIZE,
		.nr_checkpoints = 8,
		.interval = 200,
		.rate = 200000,
		.seed = 1,
	};
	int nr_words;

	if (parse(argc, argv, &options)) {
		nr_words = argc - optind;
		if (!nr_words && options.verify)
			return self_check(&options);
		if (nr_words == 2) {
			options.directory = argv[optind + 1];
			if (!strcmp(argv[optind], "run"))
				return run(&options);
			if (!strcmp(argv[optind], "restart"))
				return restart(&options);
		}
	}
	fputs(usage, stderr);
	return 2;
}
