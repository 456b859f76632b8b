// SPDX-License-Identifier: GPL-2.0-only
/* Progress while it works, and the table at the end. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wordcount.h"

#define NODES_MAX	1024
#define MIB		(1024.0 * 1024.0)

static uint64_t sum(const struct table *table, unsigned int nr_workers, size_t field)
{
	const struct worker_stats *stats = table_shared(table)->workers;
	uint64_t total = 0;
	unsigned int i;

	for (i = 0; i < nr_workers; i++)
		total += *(const _Atomic uint64_t *)((const char *)&stats[i] + field);
	return total;
}

#define SUM(table, nr_workers, field)	sum(table, nr_workers, offsetof(struct worker_stats, field))

/* One line on stderr, over the one before unless @line wants lines. */
void report_progress(const struct table *table, const struct corpus *corpus,
		     unsigned int nr_workers, double seconds, bool line)
{
	const unsigned int width = 30;
	uint64_t bytes = SUM(table, nr_workers, nr_bytes);
	uint64_t words = SUM(table, nr_workers, nr_words);
	double done = corpus->length ? (double)bytes / (double)corpus->length : 1;
	unsigned int filled = (unsigned int)(done * width);
	char bar[31] = "";

	if (filled > width)
		filled = width;
	memset(bar, '#', filled);
	memset(bar + filled, '.', width - filled);
	fprintf(stderr, "%s[%s] %3.0f %%  %.1f of %.1f MiB  %.2f M words  %.2f M/s  %" PRIu64
		" distinct%s", line ? "" : "\r\033[K", bar, 100 * done, (double)bytes / MIB,
		(double)corpus->length / MIB, (double)words / 1e6,
		seconds > 0 ? (double)words / 1e6 / seconds : 0,
		SUM(table, nr_workers, nr_distinct), line ? "\n" : "");
	fflush(stderr);
}

static void report_top(const struct entry *entries, uint64_t nr_entries)
{
	const struct entry *top[8] = { 0 };
	unsigned int nr = sizeof(top) / sizeof(top[0]), at;
	uint64_t i;

	for (i = 0; i < nr_entries; i++) {
		if (top[nr - 1] && entries[i].count <= top[nr - 1]->count)
			continue;
		for (at = nr - 1; at && (!top[at - 1] || top[at - 1]->count < entries[i].count); at--)
			top[at] = top[at - 1];
		top[at] = &entries[i];
	}
	printf("most frequent ");
	for (at = 0; at < nr && top[at]; at++)
		printf(" %.*s %" PRIu64, shown(top[at]->length), top[at]->word, top[at]->count);
	printf("\n");
}

static void report_workers(const struct table *table, unsigned int nr_workers)
{
	const struct worker_stats *stats = table_shared(table)->workers;
	uint64_t words = SUM(table, nr_workers, nr_words);
	unsigned int i;

	printf("\n%-8s %5s %7s %12s %7s %10s %12s %9s %8s\n", "worker", "node", "blocks", "words",
	       "share", "distinct", "M words/CPUs", "CPU ms", "faults");
	for (i = 0; i < nr_workers; i++) {
		double seconds = (double)stats[i].nanoseconds / 1e9;
		char node[12] = "any";

		if (stats[i].node >= 0)
			snprintf(node, sizeof(node), "%d", stats[i].node);
		printf("%-8u %5s %7" PRIu64 " %12" PRIu64 " %6.1f%% %10" PRIu64
		       " %12.2f %9.1f %8" PRIu64 "\n", i, node, stats[i].nr_tasks,
		       stats[i].nr_words,
		       words ? 100.0 * (double)stats[i].nr_words / (double)words : 0,
		       stats[i].nr_distinct,
		       seconds > 0 ? (double)stats[i].nr_words / 1e6 / seconds : 0,
		       1e3 * seconds, stats[i].nr_faults);
	}
}

/* Bytes of the region: in 2 MiB folios, and in all, by node; [NODES_MAX]: on several. */
struct placement {
	uint64_t huge[NODES_MAX];
	uint64_t all[NODES_MAX];
	int nr_nodes;
};

static int placement_get(const struct table *table, struct placement *placement)
{
	static struct dvsm_node_stats nodes[NODES_MAX];
	struct dvsm_chunk chunks[256];
	uint64_t offset = 0;
	int nr, i;

	memset(placement, 0, sizeof(*placement));
	nr = dvsm_region_nodes(table->region, nodes, NODES_MAX);
	if (nr < 0)
		return nr;
	placement->nr_nodes = nr < NODES_MAX ? nr : NODES_MAX;
	for (i = 0; i < placement->nr_nodes; i++)
		placement->all[i] = nodes[i].out_resident;
	while (offset < table->length) {
		nr = dvsm_region_residency(table->region, offset, 0, chunks, 256, &offset);
		if (nr < 0)
			return nr;
		for (i = 0; i < nr; i++)
			if (chunks[i].flags & DVSM_CHUNK_F_HUGE && chunks[i].node >= 0)
				placement->huge[chunks[i].node] += chunks[i].resident;
	}
	return 0;
}

static bool is_online(int node)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", node);
	return !node || !access(path, F_OK);
}

static void report_pages_line(const char *name, const struct placement *placement, bool huge)
{
	const uint64_t unit = huge ? DVSM_CHUNK_SIZE : 4096;
	uint64_t total = 0, bytes;
	int i;

	printf("%-14s", name);
	for (i = 0; i < placement->nr_nodes; i++) {
		if (!is_online(i))
			continue;
		bytes = huge ? placement->huge[i] : placement->all[i] - placement->huge[i];
		total += bytes;
		printf(" %9" PRIu64, bytes / unit);
	}
	printf(" %9" PRIu64 " %11.1f\n", total / unit, (double)total / MIB);
}

/* Chunks of one shard, as the kernel sees them. */
struct shard_view {
	uint64_t on[NODES_MAX];
	uint64_t nr, nr_mixed, nr_unknown;
};

#define NODE_UNKNOWN	(-1)
#define NODE_MIXED	(-2)

/*
 * By move_pages(2), not by what dvsm says. It knows pages that this process has mapped:
 * of a huge chunk any will do; of small pages it has read all that are in use by now.
 */
static int chunk_node(const struct table *table, const struct dvsm_chunk *chunk)
{
	const bool huge = chunk->flags & DVSM_CHUNK_F_HUGE;
	const char *start = table->base + chunk->offset;
	int node = NODE_UNKNOWN, got;
	uint64_t at;

	if (huge)
		(void)*(const volatile char *)start;
	for (at = 0; at < DVSM_CHUNK_SIZE; at += huge ? DVSM_CHUNK_SIZE : 4096) {
		got = dvsm_node_of(start + at);
		if (got < 0)
			continue;
		if (node != NODE_UNKNOWN && node != got)
			return NODE_MIXED;
		node = got;
	}
	return node;
}

static int shard_look(const struct table *table, unsigned int n, struct shard_view *view)
{
	uint64_t offset = table_shard_offset(table, n), end = offset + table->shard_length;
	struct dvsm_chunk chunks[256];
	int nr, node, i;

	memset(view, 0, sizeof(*view));
	while (offset < end) {
		nr = dvsm_region_residency(table->region, offset, end - offset, chunks, 256,
					   &offset);
		if (nr < 0)
			return nr;
		for (i = 0; i < nr; i++) {
			node = chunk_node(table, &chunks[i]);
			view->nr++;
			if (node >= 0 && node < NODES_MAX)
				view->on[node]++;
			else
				*(node == NODE_MIXED ? &view->nr_mixed : &view->nr_unknown) += 1;
		}
	}
	return 0;
}

static void report_shard(const struct table *table, unsigned int n, unsigned int nr_workers,
			 int nr_nodes, const struct shard_view *view)
{
	const struct worker_stats *stats = table_shared(table)->workers;
	int wanted = table_shard(table, n)->node, node;
	uint64_t nr_distinct = 0;
	char name[12] = "any";
	unsigned int i;

	for (i = n; i < nr_workers; i += table->nr_shards)
		nr_distinct += stats[i].nr_distinct;
	if (wanted >= 0)
		snprintf(name, sizeof(name), "%d", wanted);
	printf("%-8u %6s %10" PRIu64 " %8" PRIu64, n, name, nr_distinct, view->nr);
	for (node = 0; node < nr_nodes; node++)
		if (is_online(node))
			printf(" %6" PRIu64, view->on[node]);
	printf(" %8" PRIu64 " %8" PRIu64 "\n", view->nr_mixed, view->nr_unknown);
}

static void report_shards(const struct table *table, unsigned int nr_workers, int nr_nodes)
{
	static struct shard_view view;
	uint64_t nr = 0, nr_local = 0;
	const struct shard *shard;
	unsigned int n;
	int node, error;

	printf("\n%-8s %6s %10s %8s", "shard", "wanted", "distinct", "chunks");
	for (node = 0; node < nr_nodes; node++)
		if (is_online(node))
			printf(" node %d", node);
	printf(" %8s %8s\n", "several", "unknown");
	for (n = 0; n < table->nr_shards; n++) {
		shard = table_shard(table, n);
		error = shard_look(table, n, &view);
		if (error) {
			printf("%-8u not known: %s\n", n, strerror(-error));
			continue;
		}
		report_shard(table, n, nr_workers, nr_nodes, &view);
		nr += view.nr;
		if (shard->node >= 0)
			nr_local += view.on[shard->node];
		if (shard->error)
			printf("         node %d could not be asked for: %s\n", shard->node,
			       strerror(-shard->error));
	}
	if (table->nr_shards == 1 && table_shard(table, 0)->node < 0)
		printf("one shard, placed by nobody: the workers' CPUs are on one node\n");
	else
		printf("%" PRIu64 " of %" PRIu64
		       " chunks are on the node of their shard's workers, by move_pages(2)\n",
		       nr_local, nr);
}

/* A field of smaps for the mapping that begins at @base, in KiB. */
static uint64_t smaps_field(const char *base, const char *field)
{
	uint64_t value = 0, start;
	size_t width = strlen(field);
	bool inside = false;
	char line[4096], *after;
	FILE *smaps = fopen("/proc/self/smaps", "re");

	while (smaps && fgets(line, sizeof(line), smaps)) {
		start = strtoull(line, &after, 16);
		if (*after == '-')
			inside = start == (uintptr_t)base;
		else if (inside && !strncmp(line, field, width) && line[width] == ':')
			value += strtoull(line + width + 1, NULL, 10);
	}
	if (smaps)
		fclose(smaps);
	return value;
}

static void report_pages(const struct table *table, unsigned int nr_workers)
{
	static struct placement placement;
	int error = placement_get(table, &placement), i;
	uint64_t hugetlb;

	if (error) {
		printf("\npages          not known: %s\n", strerror(-error));
		return;
	}
	printf("\n%-14s", "pages");
	for (i = 0; i < placement.nr_nodes; i++)
		if (is_online(i))
			printf(" %6s %-2d", "node", i);
	printf(" %9s %11s\n", "in all", "MiB");
	report_pages_line("2 MiB", &placement, true);
	report_pages_line("4 KiB", &placement, false);
	report_shards(table, nr_workers, placement.nr_nodes);
	hugetlb = smaps_field(table->base, "Shared_Hugetlb");
	printf("smaps of the parent: %" PRIu64 " KiB mapped, %" PRIu64
	       " KiB of it by 2 MiB entries\n", smaps_field(table->base, "Rss") + hugetlb,
	       smaps_field(table->base, "ShmemPmdMapped") +
	       smaps_field(table->base, "FilePmdMapped") + hugetlb);
}

static void report_faults(const struct table *table, unsigned int nr_workers)
{
	struct dvsm_region_info info = { .size = sizeof(info) };

	printf("\nfaults         %" PRIu64 " in the workers", SUM(table, nr_workers, nr_faults));
	if (!dvsm_region_info(table->region, &info) && info.out_nr_faults)
		printf("; the region: %" PRIu64 " handled, %" PRIu64 " allocated, %" PRIu64
		       " remote, %" PRIu64 " fell back to small folios, %" PRIu64 " failed",
		       (uint64_t)info.out_nr_faults, (uint64_t)info.out_nr_faults_alloc,
		       (uint64_t)info.out_nr_faults_remote, (uint64_t)info.out_nr_fallbacks,
		       (uint64_t)info.out_nr_failures);
	printf("\n");
}

void report(const struct table *table, const struct corpus *corpus, unsigned int nr_workers,
	    double seconds, const struct entry *entries, uint64_t nr_entries)
{
	uint64_t words = SUM(table, nr_workers, nr_words);
	uint32_t backend = dvsm_region_backend(table->region);

	printf("backend        %s%s\n", dvsm_backend_name(backend),
	       backend == DVSM_BACKEND_DEVICE ? " (" DVSM_DEVICE_PATH ")" : "");
	printf("counted        %" PRIu64 " files, %.1f MiB, %" PRIu64 " words, %" PRIu64
	       " distinct\n", corpus->nr_files, (double)corpus->length / MIB, words, nr_entries);
	printf("speed          %.3f s by %u processes: %.2f million words per second, %.1f MiB/s\n",
	       seconds, nr_workers, (double)words / 1e6 / seconds,
	       (double)corpus->length / MIB / seconds);
	report_top(entries, nr_entries);
	report_workers(table, nr_workers);
	report_pages(table, nr_workers);
	report_faults(table, nr_workers);
}
