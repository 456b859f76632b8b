// SPDX-License-Identifier: GPL-2.0-only
/*
 * kernel_bench - what dvsm's kernel paths cost beside those of their peers.
 *
 * Meant to run in a VM whose clock counts instructions (scripts/bench-kernel.sh);
 * elsewhere figures are in ticks of the time stamp counter, and vary.
 */
#include <errno.h>
#include <fnmatch.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/utsname.h>

#include "kernel_bench.h"

#define NR_ROWS_MAX	1024

size_t nr_touch_chunks = 64;
size_t nr_large_chunks = 512;

const struct measure * const measure_lists[] = { touch_measures, mapping_measures,
						 snapshot_measures, use_measures, node_measures, NULL };

static struct row rows[NR_ROWS_MAX];
static size_t nr_rows;

static void usage(FILE *file)
{
	fputs("usage: kernel_bench [--json] [--run NAME] [--measure PATTERN] [--memory NAME]\n"
	      "                    [--chunks N] [--large-chunks N]\n"
	      "       kernel_bench --report FILE...\n"
	      "\n"
	      "PATTERN is one of the shell's, or @(ONE|OTHER) for several.\n"
	      "\n"
	      "The first form measures, needs root, changes nr_hugepages and the settings of\n"
	      "transparent huge pages, and prints a table or rows of JSON. The second reads\n"
	      "such rows and prints tables and bars; it exits with 1 if a bar is missed.\n",
	      file);
}

static void measure_one(const struct measure *measure, const struct memory *memory, const char *run,
			bool json)
{
	static struct samples samples;
	int ret;

	if (!(measure->kinds & memory->kind))
		return;
	memory_settle();
	samples.nr = 0;
	ret = measure->run(memory, &samples);
	if (ret == -EOPNOTSUPP)
		return;
	if (ret || !samples.nr || nr_rows == NR_ROWS_MAX) {
		fprintf(stderr, "%s of %s: %s\n", measure->name, memory->name,
			ret ? strerror(-ret) : "nothing measured");
		return;
	}
	row_make(&rows[nr_rows], run, measure, memory, &samples);
	if (json)
		row_write(stdout, &rows[nr_rows]);
	nr_rows++;
}

static void measure_all(const char *run, const char *only_measure, const char *only_memory, bool json)
{
	const struct measure * const *list, *measure;
	size_t m;

	for (list = measure_lists; *list; list++)
		for (measure = *list; measure->name; measure++)
			for (m = 0; m < nr_memories; m++)
				if ((!only_measure || !fnmatch(only_measure, measure->name, FNM_EXTMATCH)) &&
				    (!only_memory || !strcmp(only_memory, memories[m].name)))
					measure_one(measure, &memories[m], run, json);
}

static bool rows_read(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[512];

	if (!file) {
		perror(path);
		return false;
	}
	while (fgets(line, sizeof(line), file) && nr_rows < NR_ROWS_MAX)
		if (row_parse(line, &rows[nr_rows]))
			nr_rows++;
	fclose(file);
	return true;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "run", required_argument, NULL, 'r' },
		{ "measure", required_argument, NULL, 'm' },
		{ "memory", required_argument, NULL, 'o' },
		{ "chunks", required_argument, NULL, 'c' },
		{ "large-chunks", required_argument, NULL, 'l' },
		{ "report", no_argument, NULL, 'R' },
		{ "help", no_argument, NULL, 'h' },
		{},
	};
	const char *run = NULL, *only_measure = NULL, *only_memory = NULL;
	bool json = false, reports = false;
	struct utsname uts;
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case 'j': json = true; break;
		case 'r': run = optarg; break;
		case 'm': only_measure = optarg; break;
		case 'o': only_memory = optarg; break;
		case 'c': nr_touch_chunks = strtoul(optarg, NULL, 0); break;
		case 'l': nr_large_chunks = strtoul(optarg, NULL, 0); break;
		case 'R': reports = true; break;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	if (reports) {
		for (; optind < argc; optind++)
			if (!rows_read(argv[optind]))
				return 2;
		return report(stdout, rows, nr_rows) ? 1 : 0;
	}
	uname(&uts);
	clock_init();
	if (clock_counts_instructions())
		sleep(60);	/* no time at all there, and kernel threads are done with booting */
	else
		fprintf(stderr, "kernel_bench: this clock does not count instructions; figures are its ticks\n");
	measure_all(run ? run : uts.release, only_measure, only_memory, json);
	if (!json)
		report(stdout, rows, nr_rows);
	return 0;
}
