// SPDX-License-Identifier: GPL-2.0-only
/* dvsmctl show: what one region is, where its memory is, and what it has counted. */
#include <getopt.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "dvsmctl.h"
#include "dvsmctl_map.h"

static const char usage[] =
	"usage: dvsmctl show [OPTION...] REGION\n"
	"REGION is an id or a label, as dvsmctl list tells them, or a path; or a descriptor:\n"
	"  -f, --fd N         that dvsmctl inherited, or of the process of --pid\n"
	"  -p, --pid PID      look at that process's descriptor\n"
	"options:\n"
	"  -c, --color WHEN   always, never, or auto (default): on a terminal\n"
	"  -w, --width N      columns of the map (default: the terminal's, or 80)\n"
	"  -j, --json         for programs\n"
	"  -h, --help\n";

struct options {
	struct dvsmctl_target target;
	bool as_json, colour;
	int width;
};

/* What is told of a region. */
struct report {
	struct dvsm_region_info info;
	struct dvsm_node_stats nodes[DVSMCTL_NODES];
	int nr_nodes;
	const char *balance;	/* NULL on memfd: the kernel's own affair */
	struct dvsm_chunk *chunks;
	uint32_t nr_chunks;
};

static int report_chunks(const struct dvsm_region *region, struct report *report)
{
	const uint32_t batch = 4096;
	struct dvsm_chunk *grown;
	uint64_t next = 0;
	int got;

	do {
		grown = realloc(report->chunks, (report->nr_chunks + batch) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		report->chunks = grown;
		got = dvsm_region_residency(region, next, 0, grown + report->nr_chunks, batch,
					    &next);
		if (got < 0)
			return got;
		report->nr_chunks += (uint32_t)got;
	} while (next < report->info.out_length);
	return 0;
}

static int report_fill(const struct dvsm_region *region, struct report *report)
{
	int error;

	report->info.size = sizeof(report->info);
	error = dvsm_region_info(region, &report->info);
	if (error)
		return error;
	report->info.out_flags &= ~DVSM_REGION_F_READ_ONLY;	/* is about our descriptor */
	report->balance = dvsmctl_balance(dvsm_region_balance(region, DVSM_BALANCE_KEEP));
	report->nr_nodes = dvsm_region_nodes(region, report->nodes, DVSMCTL_NODES);
	if (report->nr_nodes < 0)
		return report->nr_nodes;
	if (report->nr_nodes > DVSMCTL_NODES)
		report->nr_nodes = DVSMCTL_NODES;
	return report_chunks(region, report);
}

static json_t *chunk_json(const struct dvsm_chunk *chunk)
{
	return json_pack("{s:I, s:i, s:i, s:i, s:i, s:i, s:b, s:b, s:b, s:b}",
			 "offset", (json_int_t)chunk->offset, "node", (int)chunk->node,
			 "resident", (int)chunk->resident, "nr_folios", (int)chunk->nr_folios,
			 "order_min", (int)chunk->order_min, "order_max", (int)chunk->order_max,
			 "huge", !!(chunk->flags & DVSM_CHUNK_F_HUGE),
			 "shared", !!(chunk->flags & DVSM_CHUNK_F_SHARED),
			 "pinned", !!(chunk->flags & DVSM_CHUNK_F_PINNED),
			 "poisoned", !!(chunk->flags & DVSM_CHUNK_F_POISONED));
}

/* The numbers of struct dvsm_node_stats but the bytes, for people and for programs. */
static const struct {
	const char *name, *title;
	size_t offset;
	int width;
} node_counters[] = {
	{ "faults", "FAULTS", offsetof(struct dvsm_node_stats, out_nr_faults), 10 },
	{ "faults_remote", "REMOTE", offsetof(struct dvsm_node_stats, out_nr_faults_remote), 10 },
	{ "faults_cow", "COW", offsetof(struct dvsm_node_stats, out_nr_cow_faults), 8 },
	{ "allocs", "ALLOCS", offsetof(struct dvsm_node_stats, out_nr_allocs), 10 },
	{ "misses", "MISSES", offsetof(struct dvsm_node_stats, out_nr_misses), 8 },
	{ "moved_in", "IN", offsetof(struct dvsm_node_stats, out_nr_moved_in), 8 },
	{ "moved_in_user", "user", offsetof(struct dvsm_node_stats, out_nr_moved_in_user), 6 },
	{ "moved_in_balancing", "bal.", offsetof(struct dvsm_node_stats, out_nr_moved_in_balancing), 6 },
	{ "moved_in_command", "comm.", offsetof(struct dvsm_node_stats, out_nr_moved_in_command), 6 },
	{ "moved_out", "OUT", offsetof(struct dvsm_node_stats, out_nr_moved_out), 8 },
	{ "moved_out_user", "user", offsetof(struct dvsm_node_stats, out_nr_moved_out_user), 6 },
	{ "moved_out_balancing", "bal.", offsetof(struct dvsm_node_stats, out_nr_moved_out_balancing), 6 },
	{ "moved_out_command", "comm.", offsetof(struct dvsm_node_stats, out_nr_moved_out_command), 6 },
};

#define NR_NODE_COUNTERS (sizeof(node_counters) / sizeof(*node_counters))

static uint64_t node_counter_of(const struct dvsm_node_stats *stats, size_t i)
{
	return *(const uint64_t *)((const char *)stats + node_counters[i].offset);
}

static json_t *node_json(int node, const struct dvsm_node_stats *stats)
{
	json_t *json = json_pack("{s:i, s:I}", "node", node,
				 "resident", (json_int_t)stats->out_resident);
	size_t i;

	for (i = 0; i < NR_NODE_COUNTERS; i++)
		json_object_set_new(json, node_counters[i].name,
				    json_integer((json_int_t)node_counter_of(stats, i)));
	return json;
}

/* The numbers of struct dvsm_region_info, for people and for programs. */
static const struct {
	const char *name, *text;
	size_t offset;
	bool is_bytes;
} counters[] = {
	{ "resident", "resident", offsetof(struct dvsm_region_info, out_resident), true },
	{ "resident_huge", "in 2 MiB folios", offsetof(struct dvsm_region_info, out_resident_huge), true },
	{ "resident_peak", "at most", offsetof(struct dvsm_region_info, out_resident_peak), true },
	{ "pinned", "pinned", offsetof(struct dvsm_region_info, out_pinned), true },
	{ "shared", "shared", offsetof(struct dvsm_region_info, out_shared), true },
	{ "copied", "copied", offsetof(struct dvsm_region_info, out_copied), true },
	{ "faults", "faults", offsetof(struct dvsm_region_info, out_nr_faults), false },
	{ "faults_alloc", "allocating", offsetof(struct dvsm_region_info, out_nr_faults_alloc), false },
	{ "faults_private", "private", offsetof(struct dvsm_region_info, out_nr_faults_private), false },
	{ "faults_remote", "remote", offsetof(struct dvsm_region_info, out_nr_faults_remote), false },
	{ "faults_cow", "breaking a share", offsetof(struct dvsm_region_info, out_nr_cow_faults), false },
	{ "failures", "failed", offsetof(struct dvsm_region_info, out_nr_failures), false },
	{ "fallbacks", "smaller folios", offsetof(struct dvsm_region_info, out_nr_fallbacks), false },
	{ "misses", "other node", offsetof(struct dvsm_region_info, out_nr_misses), false },
	{ "moved", "moved folios", offsetof(struct dvsm_region_info, out_nr_moved), false },
	{ "lost", "lost chunks", offsetof(struct dvsm_region_info, out_nr_lost), false },
	{ "faults_parts", "small by parts", offsetof(struct dvsm_region_info, out_nr_faults_parts), false },
	{ "merges", "merges", offsetof(struct dvsm_region_info, out_nr_merges), false },
	{ "conflicts", "conflicts", offsetof(struct dvsm_region_info, out_nr_conflicts), false },
};

#define NR_COUNTERS (sizeof(counters) / sizeof(*counters))

static uint64_t counter_of(const struct report *report, size_t i)
{
	return *(const uint64_t *)((const char *)&report->info + counters[i].offset);
}

static int report_json(const struct dvsm_region *region, const struct report *report)
{
	json_t *json, *chunks = json_array(), *nodes = json_array();
	size_t i;
	int node;

	for (i = 0; i < report->nr_chunks; i++)
		json_array_append_new(chunks, chunk_json(&report->chunks[i]));
	for (node = 0; node < report->nr_nodes; node++)
		json_array_append_new(nodes, node_json(node, &report->nodes[node]));
	json = json_pack("{s:I, s:I, s:I, s:I, s:s, s:I, s:s, s:s?, s:o, s:o, s:o}",
			 "id", (json_int_t)report->info.out_id,
			 "parent_id", (json_int_t)report->info.out_parent_id,
			 "taken_offset", (json_int_t)report->info.out_taken_offset,
			 "taken_length", (json_int_t)report->info.out_taken_length,
			 "backend", dvsm_backend_name(dvsm_region_backend(region)),
			 "length", (json_int_t)report->info.out_length,
			 "policy", dvsmctl_policy(report->info.out_policy),
			 "balance", report->balance,
			 "flags", dvsmctl_flags_json(report->info.out_flags),
			 "nodes", nodes, "chunks", chunks);
	for (i = 0; i < NR_COUNTERS; i++)
		json_object_set_new(json, counters[i].name,
				    json_integer((json_int_t)counter_of(report, i)));
	return dvsmctl_print_json(json);
}

static void print_counters(const struct report *report)
{
	char text[32];
	size_t i;

	for (i = 0; i < NR_COUNTERS; i++) {
		if (counters[i].is_bytes)
			dvsmctl_bytes(counter_of(report, i), text, sizeof(text));
		else
			snprintf(text, sizeof(text), "%llu", (unsigned long long)counter_of(report, i));
		printf("%-16s %-14s%s", counters[i].text, text, i % 2 ? "\n" : "");
	}
	if (NR_COUNTERS % 2)
		putchar('\n');
}

static void print_nodes(const struct report *report)
{
	const struct dvsm_node_stats *stats;
	char resident[32];
	size_t i;
	int node;

	printf("\n%4s %10s", "NODE", "RESIDENT");
	for (i = 0; i < NR_NODE_COUNTERS; i++)
		printf(" %*s", node_counters[i].width, node_counters[i].title);
	putchar('\n');
	for (node = 0; node < report->nr_nodes; node++) {
		stats = &report->nodes[node];
		if (!memcmp(stats, &(struct dvsm_node_stats){ 0 }, sizeof(*stats)))
			continue;
		printf("%4d %10s", node,
		       dvsmctl_bytes(stats->out_resident, resident, sizeof(resident)));
		for (i = 0; i < NR_NODE_COUNTERS; i++)
			printf(" %*llu", node_counters[i].width,
			       (unsigned long long)node_counter_of(stats, i));
		putchar('\n');
	}
}

static int report_print(const struct dvsm_region *region, const struct report *report,
			const struct options *options)
{
	char length[32], from[32], flags[128];

	printf("region %llu: %s, %s, policy %s, flags %s",
	       (unsigned long long)report->info.out_id,
	       dvsmctl_bytes(report->info.out_length, length, sizeof(length)),
	       dvsm_backend_name(dvsm_region_backend(region)),
	       dvsmctl_policy(report->info.out_policy),
	       dvsmctl_flags(report->info.out_flags, flags, sizeof(flags)));
	if (report->balance)
		printf(", balancing %s", report->balance);
	if (report->info.out_parent_id)
		printf(", snapshot of %llu", (unsigned long long)report->info.out_parent_id);
	if (report->info.out_taken_length < report->info.out_length)
		printf(", from %s on %s of it",
		       dvsmctl_bytes(report->info.out_taken_offset, from, sizeof(from)),
		       dvsmctl_bytes(report->info.out_taken_length, length, sizeof(length)));
	puts("\n");
	dvsmctl_map_print(report->chunks, report->nr_chunks, report->info.out_length,
			  options->width, options->colour);
	putchar('\n');
	print_counters(report);
	print_nodes(report);
	return fflush(stdout) ? 1 : 0;
}

static int show(const struct options *options)
{
	struct dvsm_region *region = dvsmctl_region_open(&options->target);
	struct report report = { 0 };
	int error, status;

	if (!region)
		return 1;
	error = report_fill(region, &report);
	if (error) {
		fprintf(stderr, "dvsmctl: show: %s\n", strerror(-error));
		status = 1;
	} else if (options->as_json) {
		status = report_json(region, &report);
	} else {
		status = report_print(region, &report, options);
	}
	free(report.chunks);
	dvsm_region_destroy(region);
	return status;
}

static int terminal_width(void)
{
	struct winsize size = { 0 };
	const char *columns = getenv("COLUMNS");
	int width = 80;

	if (columns && dvsmctl_number(columns, DVSMCTL_MAP_WIDTH_MIN, &width))
		return width;
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col >= DVSMCTL_MAP_WIDTH_MIN)
		return size.ws_col;
	return width;
}

static bool colour_option(const char *when, bool *colour)
{
	if (!strcmp(when, "always"))
		*colour = true;
	else if (!strcmp(when, "never"))
		*colour = false;
	else
		return !strcmp(when, "auto");
	return true;
}

int dvsmctl_show(int argc, char **argv)
{
	static const struct option known[] = {
		DVSMCTL_TARGET_OPTIONS, { "color", required_argument, NULL, 'c' },
		{ "width", required_argument, NULL, 'w' }, { "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { 0 },
	};
	struct options options = { .target = { .fd = -1 }, .width = terminal_width() };
	bool understood = true;
	int c;

	/* https://no-color.org */
	options.colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	while ((c = getopt_long(argc, argv, "f:p:c:w:jh", known, NULL)) != -1) {
		if (dvsmctl_target_option(&options.target, c, optarg))
			continue;
		switch (c) {
		case 'c':
			understood &= colour_option(optarg, &options.colour);
			break;
		case 'w':
			understood &= dvsmctl_number(optarg, DVSMCTL_MAP_WIDTH_MIN, &options.width);
			break;
		case 'j':
			options.as_json = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			return DVSMCTL_USAGE;
		}
	}
	options.target.name = optind < argc ? argv[optind] : NULL;
	if (!understood || optind + 1 < argc || !dvsmctl_target_is_clear(&options.target)) {
		fputs(usage, stderr);
		return DVSMCTL_USAGE;
	}
	return show(&options);
}
