// SPDX-License-Identifier: GPL-2.0-only
/* wordcount: see wordcount.h for what it does; here are options and processes. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wordcount.h"

struct options {
	uint32_t backend;
	unsigned int nr_workers;
	uint64_t limit;
	enum verify verify;
	const char *output;
	bool progress, lines, list, populate;
};

static const char usage[] =
	"usage: wordcount [OPTION...] [FILE-OR-DIRECTORY...]\n"
	"\n"
	"Counts words, A-Z and a-z in lower case, by processes that share hash tables in a\n"
	"dvsm region, one on each NUMA node. Without files: text under /usr/share and\n"
	"/usr/lib/python3.\n"
	"\n"
	"  -b, --backend=NAME     auto (default), dvsm, memfd, memfd-hugetlb, memfd-thp, memfd-4k\n"
	"  -w, --workers=N        worker processes (default: usable CPUs)\n"
	"  -s, --size-limit=SIZE  stop taking files at SIZE bytes (K, M, G; default 64M)\n"
	"  -v, --verify[=HOW]     check against pipe (tr | sort | uniq -c), sort (one\n"
	"                         process of our own), or auto, what there is\n"
	"  -P, --populate         allocate the table before the workers start\n"
	"  -o, --output=FILE      write all words and counts, in order of the words\n"
	"  -l, --list             print the files that would be counted, and stop\n"
	"  -p, --progress         show progress even where stderr is no terminal\n"
	"  -q, --quiet            no progress\n"
	"\n"
	"Exit status: 0 done, and equal where it was checked; 1 mismatch; 2 it could not be done.\n";

static const struct option long_options[] = {
	{ "backend", required_argument, NULL, 'b' },
	{ "workers", required_argument, NULL, 'w' },
	{ "size-limit", required_argument, NULL, 's' },
	{ "verify", optional_argument, NULL, 'v' },
	{ "populate", no_argument, NULL, 'P' },
	{ "output", required_argument, NULL, 'o' },
	{ "list", no_argument, NULL, 'l' },
	{ "progress", no_argument, NULL, 'p' },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool parse_backend(const char *name, uint32_t *backend)
{
	if (!strcmp(name, "dvsm"))
		name = "device";
	for (*backend = 0; strcmp(dvsm_backend_name(*backend), "unknown"); ++*backend)
		if (!strcmp(name, dvsm_backend_name(*backend)))
			return true;
	return false;
}

static bool parse_size(const char *text, uint64_t *size)
{
	static const char units[] = "KMG";
	const char *unit;
	char *end;

	errno = 0;
	*size = strtoull(text, &end, 0);
	unit = *end ? strchr(units, *end) : NULL;
	if (unit) {
		*size <<= 10 * (unit - units + 1);
		end++;
	}
	return !errno && end != text && !*end && *size && *size < 1ULL << 40;
}

static bool parse_verify(const char *text, enum verify *how)
{
	if (!text || !strcmp(text, "auto"))
		*how = VERIFY_AUTO;
	else if (!strcmp(text, "pipe"))
		*how = VERIFY_PIPE;
	else if (!strcmp(text, "sort"))
		*how = VERIFY_SORT;
	else
		return false;
	return true;
}

static bool parse(int argc, char **argv, struct options *options)
{
	bool right = true;
	uint64_t nr;
	int option;

	while (right && (option = getopt_long(argc, argv, "b:w:s:v::Po:lpqh", long_options,
					      NULL)) != -1) {
		switch (option) {
		case 'b':
			right = parse_backend(optarg, &options->backend);
			break;
		case 'w':
			right = parse_size(optarg, &nr) && nr <= WORKERS_MAX;
			options->nr_workers = (unsigned int)nr;
			break;
		case 's':
			right = parse_size(optarg, &options->limit);
			break;
		case 'v':
			right = parse_verify(optarg, &options->verify);
			break;
		case 'P':
			options->populate = true;
			break;
		case 'o':
			options->output = optarg;
			break;
		case 'l':
			options->list = true;
			break;
		case 'p':
			options->lines = !options->progress;
			options->progress = true;
			break;
		case 'q':
			options->progress = false;
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

static double seconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - start->tv_sec) +
	       (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

/* A worker never outlives the parent. */
static pid_t start_worker(const struct table *table, const struct corpus *corpus, unsigned int n)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	worker_run(table, corpus, n);
	_exit(0);
}

/* Waits for all, showing progress. Workers that did not end well. */
static unsigned int wait_workers(const struct table *table, const struct corpus *corpus,
				 const struct options *options, unsigned int nr_running,
				 const struct timespec *start)
{
	const struct timespec tick = { .tv_nsec = 20000000 };
	unsigned int nr_bad = 0;
	double shown = 0;
	int status;
	pid_t pid;

	while (nr_running) {
		pid = waitpid(-1, &status, WNOHANG);
		if (pid > 0) {
			nr_running--;
			if (WIFSIGNALED(status))
				fprintf(stderr, "wordcount: worker %d died: %s\n", pid,
					strsignal(WTERMSIG(status)));
			nr_bad += status != 0;
			continue;
		}
		nanosleep(&tick, NULL);
		if (options->progress && seconds_since(start) - shown >= (options->lines ? 1 : 0.1)) {
			shown = seconds_since(start);
			report_progress(table, corpus, options->nr_workers, shown, options->lines);
		}
	}
	return nr_bad;
}

/* Runs the workers over the corpus. 0, -ENOSPC: the table is full; -EIO: said why. */
static int count(const struct table *table, const struct corpus *corpus,
		 const struct options *options, double *seconds)
{
	struct timespec start;
	unsigned int i, nr_bad;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; i < options->nr_workers; i++) {
		if (start_worker(table, corpus, i) < 0) {
			fprintf(stderr, "wordcount: fork: %s\n", strerror(errno));
			table_shared(table)->failed = 1;
			break;
		}
	}
	nr_bad = wait_workers(table, corpus, options, i, &start);
	*seconds = seconds_since(&start);
	if (options->progress)
		report_progress(table, corpus, options->nr_workers, *seconds, options->lines);
	if (options->progress && !options->lines)
		fputc('\n', stderr);
	if (table_shared(table)->failed || nr_bad)
		return -EIO;
	return table_shared(table)->full ? -ENOSPC : 0;
}

static int write_entries(const char *path, const struct entry *entries, uint64_t nr_entries)
{
	FILE *file = fopen(path, "we");
	uint64_t i;

	if (!file)
		return -errno;
	for (i = 0; i < nr_entries; i++)
		fprintf(file, "%7" PRIu64 " %.*s\n", entries[i].count, (int)entries[i].length,
			entries[i].word);
	return fclose(file) ? -errno : 0;
}

static int populate(const struct table *table)
{
	struct timespec start;
	uint64_t populated = 0, done, offset;
	unsigned int i;
	int error = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; i < table->nr_shards && !error; i++) {
		offset = table_shard_offset(table, i);
		error = dvsm_region_populate(table->region, offset,
					     table_shard(table, i)->words_next - offset, 0, &done);
		populated += done;
	}
	if (error)
		fprintf(stderr, "wordcount: populate: %s\n", strerror(-error));
	else
		printf("populated      %.1f MiB in %.3f s\n",
		       (double)populated / (1024 * 1024), seconds_since(&start));
	return error;
}

/* Makes the table larger until everything fits. */
static int fill(const struct options *options, const struct corpus *corpus, struct table *table,
		double *seconds)
{
	struct nodes nodes;
	unsigned int scale;
	int error;

	worker_nodes(&nodes, options->nr_workers);
	for (scale = 1;; scale *= 4) {
		error = table_create(table, options->backend, &nodes, corpus->length, scale);
		if (error) {
			fprintf(stderr, "wordcount: no region of backend %s: %s\n",
				dvsm_backend_name(options->backend), strerror(-error));
			return error;
		}
		if (options->populate)
			error = populate(table);
		if (!error)
			error = count(table, corpus, options, seconds);
		if (!error)
			return 0;
		table_destroy(table);
		if (error != -ENOSPC || scale > 64)
			return error;
		if (options->progress)
			fprintf(stderr, "the table is full: again with a larger one\n");
	}
}

static int finish(const struct options *options, const struct corpus *corpus,
		  const struct table *table, double seconds)
{
	struct entry *entries;
	uint64_t nr_entries;
	int error;

	entries = table_entries(table, &nr_entries);
	if (!entries) {
		fprintf(stderr, "wordcount: %s\n", strerror(ENOMEM));
		return 2;
	}
	report(table, corpus, options->nr_workers, seconds, entries, nr_entries);
	error = options->output ? write_entries(options->output, entries, nr_entries) : 0;
	if (error)
		fprintf(stderr, "wordcount: %s: %s\n", options->output, strerror(-error));
	else if (options->verify)
		error = verify(options->verify, corpus, entries, nr_entries, !options->progress);
	free(entries);
	return error < 0 ? 2 : error;
}

static int run(const struct options *options, const struct corpus *corpus)
{
	struct table table;
	double seconds;
	int error;

	printf("corpus         %s ... %s: %" PRIu64 " files of text, %" PRIu64
	       " others passed over\n", corpus->files[0].path,
	       corpus->files[corpus->nr_files - 1].path, corpus->nr_files, corpus->nr_skipped);
	error = fill(options, corpus, &table, &seconds);
	if (error) {
		if (error == -ENOSPC)
			fprintf(stderr, "wordcount: no table is large enough\n");
		return 2;
	}
	error = finish(options, corpus, &table, seconds);
	table_destroy(&table);
	return error;
}

static void list(const struct corpus *corpus)
{
	uint64_t i;

	for (i = 0; i < corpus->nr_files; i++)
		puts(corpus->files[i].path);
}

int main(int argc, char **argv)
{
	struct options options = { .limit = 64UL << 20, .progress = isatty(STDERR_FILENO) };
	struct corpus corpus = { 0 };
	const char *const *roots;
	cpu_set_t cpus;
	int error;

	if (!parse(argc, argv, &options)) {
		fputs(usage, stderr);
		return 2;
	}
	if (!options.nr_workers)
		options.nr_workers = sched_getaffinity(0, sizeof(cpus), &cpus) ?
				     1 : (unsigned int)CPU_COUNT(&cpus);
	if (options.nr_workers > WORKERS_MAX)
		options.nr_workers = WORKERS_MAX;
	roots = optind < argc ? (const char *const *)argv + optind : corpus_default;
	error = corpus_load(&corpus, roots, options.limit);
	if (error || !corpus.nr_files) {
		fprintf(stderr, "wordcount: %s\n", error ? strerror(-error) : "no text found");
		error = 2;
	} else if (options.list) {
		list(&corpus);
	} else {
		error = run(&options, &corpus);
	}
	corpus_free(&corpus);
	return error;
}
