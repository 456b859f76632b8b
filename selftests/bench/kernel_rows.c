// SPDX-License-Identifier: GPL-2.0-only
/*
 * Samples, and the rows that they become: one line of JSON each.
 */
#include <stdlib.h>
#include <string.h>

#include "kernel_bench.h"

void samples_add(struct samples *samples, double value)
{
	if (samples->nr < NR_SAMPLES_MAX)
		samples->value[samples->nr++] = value;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

static double quantile(const struct samples *samples, double q)
{
	return samples->nr ? samples->value[(size_t)(q * (samples->nr - 1) + 0.5)] : 0;
}

/*
 * Allocators do work for several calls at once, so that calls come in two or three
 * kinds, and a median is the luck of which kind is the middle one. The extremes are
 * left out because they are interrupts and other processes. Of few samples, of
 * long work, it is the median: one in three may have met a kernel thread.
 */
static double middle_mean(const struct samples *samples)
{
	size_t first = samples->nr / 10, last = samples->nr - first, i;
	double sum = 0;

	if (samples->nr < 10)
		return quantile(samples, 0.5);
	for (i = first; i < last; i++)
		sum += samples->value[i];
	return sum / (last - first);
}

void row_make(struct row *row, const char *run, const struct measure *measure,
	      const struct memory *memory, struct samples *samples)
{
	qsort(samples->value, samples->nr, sizeof(samples->value[0]), compare);
	*row = (struct row) {
		.nr = samples->nr,
		.mean = middle_mean(samples),
		.median = quantile(samples, 0.5),
		.p10 = quantile(samples, 0.1),
		.p90 = quantile(samples, 0.9),
	};
	row->beside = row->mean - clock_zeroing() * measure->zeroed / CHUNK;
	if (measure->allocated && memory_is_zeroed_by_allocator())
		row->beside -= clock_zeroing() * measure->allocated / CHUNK;
	snprintf(row->run, sizeof(row->run), "%s", run);
	snprintf(row->measure, sizeof(row->measure), "%s", measure->name);
	snprintf(row->memory, sizeof(row->memory), "%s", memory->name);
}

#define ROW_WORD	"\"%63[^\"]\""

void row_write(FILE *file, const struct row *row)
{
	fprintf(file, "{\"run\":\"%s\",\"measure\":\"%s\",\"memory\":\"%s\",\"nr\":%lu,"
		"\"mean\":%.0f,\"median\":%.0f,\"p10\":%.0f,\"p90\":%.0f,\"beside\":%.0f}\n",
		row->run, row->measure, row->memory, row->nr, row->mean, row->median,
		row->p10, row->p90, row->beside);
	fflush(file);
}

bool row_parse(const char *line, struct row *row)
{
	return sscanf(line, "{\"run\":" ROW_WORD ",\"measure\":" ROW_WORD ",\"memory\":" ROW_WORD
		      ",\"nr\":%lu,\"mean\":%lf,\"median\":%lf,\"p10\":%lf,\"p90\":%lf,\"beside\":%lf}",
		      row->run, row->measure, row->memory, &row->nr, &row->mean, &row->median,
		      &row->p10, &row->p90, &row->beside) == 9;
}
