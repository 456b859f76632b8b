// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables of rows, one column a run, and the bars that dvsm has to meet.
 *
 * Figures are what one zeroing of what must be zeroed leaves of each memory's mean;
 * a memory that zeroes twice shows it. ± is half of what lies between the 10th and
 * the 90th percentile.
 */
#include <math.h>
#include <string.h>

#include "kernel_bench.h"

#define NR_RUNS_MAX	8

/* @memory may cost at most @ratio times what @other costs, in every run. */
struct bar {
	const char *measure, *memory;
	const char *other_measure, *other_memory;
	double ratio;
};

static const struct bar bars[] = {
	{ "first-touch", "dvsm-region", "first-touch", "hugetlb", 1.5 },
	{ "first-touch", "dvsm-implicit", "first-touch", "hugetlb", 1.5 },
	{ "first-touch", "dvsm-region", "first-touch", "hugetlb-fill", 1 },
	{ "first-touch", "dvsm-implicit", "first-touch", "hugetlb-fill", 1 },
	{ "map-populate", "dvsm-region", "map-populate", "shmem-thp", 1 },
	{ "map-populate", "dvsm-implicit", "map-populate", "shmem-thp", 1 },
	{ "command-populate", "dvsm-region", "map-populate", "shmem-thp", 1 },
	{ "snapshot-take", "dvsm-region", "fork", "anon-4k", 1 / 20. },
	{ "snapshot-take", "dvsm-region", "fork", "anon-thp", 1.5 },
	{ "snapshot-take-4t", "dvsm-region", "snapshot-take-1t", "dvsm-region", 1.05 },
	{ "snapshot-write", "dvsm-region", "copy", "anon-thp", 1.05 },
	{ "snapshot-own-write", "dvsm-region", "copy", "anon-thp", 1.05 },
	{ "snapshot-first-4k", "dvsm-region", "snapshot-first-4k", "anon-4k", 1.5 },
	{ "snapshot-write-4k", "dvsm-region", "snapshot-write-4k", "anon-4k", 1.5 },
	{ "pages-extra", "dvsm-region", "pages", "dvsm-region", 0.015 },
	{ "diff-100-4k", "dvsm-region", "diff-50-4k", "dvsm-region", 2.1 },
	{ "diff-hole-4k", "dvsm-region", "diff-100-4k", "dvsm-region", 1.05 },
	{ "restore-100-4k", "dvsm-region", "restore-50-4k", "dvsm-region", 2.1 },
	{ "merge-100-4k", "dvsm-region", "merge-50-4k", "dvsm-region", 2.1 },
	{ "use-off", "dvsm-region", "use-unscanned", "dvsm-region", 1.0005 },
	{ "use-observe", "dvsm-region", "use-off", "dvsm-region", 1.01 },
	{ "migrate", "dvsm-region", "move-pages", "shmem-thp", 1 },
	{ "migrate", "dvsm-region", "move-pages", "hugetlb", 1 },
	{ "residency", "dvsm-region", "residency-half", "dvsm-region", 2.1 },
	{ "residency", "dvsm-region", "residency-short", "dvsm-region", 1.25 },
};

struct runs {
	const char *name[NR_RUNS_MAX];
	size_t nr;
};

static const struct row *row_find(const struct row *rows, size_t nr_rows, const char *run,
				  const char *measure, const char *memory)
{
	size_t i;

	for (i = 0; i < nr_rows; i++)
		if (!strcmp(rows[i].run, run) && !strcmp(rows[i].measure, measure) &&
		    !strcmp(rows[i].memory, memory))
			return &rows[i];
	return NULL;
}

static void runs_find(struct runs *runs, const struct row *rows, size_t nr_rows)
{
	size_t i, r;

	runs->nr = 0;
	for (i = 0; i < nr_rows; i++) {
		for (r = 0; r < runs->nr && strcmp(runs->name[r], rows[i].run); r++)
			;
		if (r == runs->nr && r < NR_RUNS_MAX)
			runs->name[runs->nr++] = rows[i].run;
	}
}

/* One line of a table: one memory in all runs, if there is any. */
static void table_line(FILE *file, const struct measure *measure, const struct memory *memory,
		       const struct runs *runs, const struct row *rows, size_t nr_rows)
{
	bool any = false;
	size_t r;

	for (r = 0; r < runs->nr; r++)
		any = any || row_find(rows, nr_rows, runs->name[r], measure->name, memory->name);
	if (!any)
		return;
	fprintf(file, "  %-27s", memory->title);
	for (r = 0; r < runs->nr; r++) {
		const struct row *row = row_find(rows, nr_rows, runs->name[r], measure->name,
						 memory->name);

		if (row)
			fprintf(file, " %10.0f ±%-6.0f", row->beside, (row->p90 - row->p10) / 2);
		else
			fprintf(file, " %18s", "-");
	}
	fprintf(file, "\n");
}

static void table(FILE *file, const struct measure *measure, const struct runs *runs,
		  const struct row *rows, size_t nr_rows)
{
	bool begun = false;
	size_t i, r;

	for (i = 0; i < nr_rows && !begun; i++)
		begun = !strcmp(rows[i].measure, measure->name);
	if (!begun)
		return;
	fprintf(file, "\n%s%s\n  %-27s", measure->title,
		measure->zeroed ? ", beside one zeroing" :
		measure->allocated ? ", beside the page allocator's zeroing" : "", "");
	for (r = 0; r < runs->nr; r++)
		fprintf(file, " %18s", runs->name[r]);
	fprintf(file, "\n");
	for (i = 0; i < nr_memories; i++)
		table_line(file, measure, &memories[i], runs, rows, nr_rows);
}

/* The ratio, or NaN where it was not measured. */
static double bar_ratio(const struct bar *bar, const char *run, const struct row *rows, size_t nr_rows)
{
	const struct row *row = row_find(rows, nr_rows, run, bar->measure, bar->memory);
	const struct row *other = row_find(rows, nr_rows, run, bar->other_measure, bar->other_memory);

	return row && other && other->beside > 0 ? row->beside / other->beside : NAN;
}

/* Whether it is about what was asked for; what was and failed has ended its run. */
static bool bar_is_asked_for(const struct bar *bar, const struct row *rows, size_t nr_rows)
{
	size_t i;

	for (i = 0; i < nr_rows; i++)
		if (!strcmp(rows[i].measure, bar->measure))
			return true;
	return false;
}

static bool bar_report(FILE *file, const struct bar *bar, const struct runs *runs,
		       const struct row *rows, size_t nr_rows)
{
	bool met = runs->nr > 0;
	char text[128];
	size_t r;

	snprintf(text, sizeof(text), "%s %s / %s%s%s, <= %g", bar->measure, bar->memory,
		 strcmp(bar->measure, bar->other_measure) ? bar->other_measure : "",
		 strcmp(bar->measure, bar->other_measure) ? " " : "", bar->other_memory, bar->ratio);
	fprintf(file, "  %s\n  %-27s", text, "");
	for (r = 0; r < runs->nr; r++) {
		double ratio = bar_ratio(bar, runs->name[r], rows, nr_rows);

		bool good = ratio <= bar->ratio;	/* false for a NaN */

		fprintf(file, " %17.3f%c", ratio, good ? ' ' : '!');
		met = met && good;
	}
	fprintf(file, "  %s\n", met ? "met" : "MISSED");
	return met;
}

unsigned int report(FILE *file, const struct row *rows, size_t nr_rows)
{
	const struct measure * const *list, *measure;
	unsigned int missed = 0;
	struct runs runs;
	size_t i;

	runs_find(&runs, rows, nr_rows);
	for (list = measure_lists; *list; list++)
		for (measure = *list; measure->name; measure++)
			table(file, measure, &runs, rows, nr_rows);
	fprintf(file, "\nbars: ratios of the figures above; ! marks what is too much\n");
	for (i = 0; i < ARRAY_SIZE(bars); i++)
		if (bar_is_asked_for(&bars[i], rows, nr_rows) &&
		    !bar_report(file, &bars[i], &runs, rows, nr_rows))
			missed++;
	return missed;
}
