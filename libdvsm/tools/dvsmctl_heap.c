// SPDX-License-Identifier: GPL-2.0-only
/*
 * dvsmctl heap: what is in a heap, where, and whether its tables agree.
 *
 * It attaches like any stranger, so it sees what they see, and finishes what the dead have begun.
 */
#include <getopt.h>
#include <unistd.h>

#include "dvsmctl.h"

#define CHUNK_SHIFT	21
#define LINE		64	/* chunks on a line of the map */

static const char usage[] =
	"usage: dvsmctl heap VERB [OPTION...] [NAME]\n"
	"verbs:\n"
	"  report   how much is live, cached, free; by node and size class\n"
	"  map      one character for each 2 MiB: how much of it is live\n"
	"  audit    whether every byte is free, cached, live or metadata, and how many are which\n"
	"  recover  finish what the dead have begun, and no more\n"
	"the heap:\n"
	"  NAME          a file in /dev/shm, a name of the module's, or a path\n"
	"  -f, --fd N    a descriptor that dvsmctl inherited, or of the process of --pid\n"
	"  -p, --pid PID look at that process's descriptor\n"
	"options:\n"
	"  -b, --busy    audit: others are at work; check only what holds then\n"
	"  -h, --help\n"
	"map and audit without --busy want that nobody is at work meanwhile.\n";

struct options {
	struct dvsmctl_target target;
	bool busy;
};

struct map {
	struct dvsm_heap *heap;
	uint64_t *live;			/* bytes, by chunk */
	uint64_t nr_chunks, end;
};

static int map_visit(void *address, size_t size, void *context)
{
	struct map *map = context;
	uint64_t at = dvsm_heap_offset(map->heap, address), limit = map->nr_chunks << CHUNK_SHIFT;
	uint64_t end, next;

	if (at >= limit)
		return 0;
	/* What the tables say is not believed: the heap may be broken. */
	end = size < limit - at ? at + size : limit;
	for (; at < end; at = next) {
		next = ((at >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT;
		next = next < end ? next : end;
		map->live[at >> CHUNK_SHIFT] += next - at;
		if ((at >> CHUNK_SHIFT) + 1 > map->end)
			map->end = (at >> CHUNK_SHIFT) + 1;
	}
	return 0;
}

static int heap_map(struct dvsm_heap *heap)
{
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };
	struct map map = { .heap = heap };
	uint64_t first, chunk;
	int error;

	dvsm_heap_stats(heap, &stats);
	map.nr_chunks = stats.out_reserved >> CHUNK_SHIFT;
	map.live = calloc(map.nr_chunks, sizeof(*map.live));
	if (!map.live)
		return -ENOMEM;
	error = dvsm_heap_walk(heap, map_visit, &map);
	if (error) {
		free(map.live);
		return error;
	}
	first = stats.out_metadata >> CHUNK_SHIFT;
	printf("2 MiB each: . nothing live, 0 to 9 tenths, # full; the first is at offset 0x%llx",
	       (unsigned long long)first << CHUNK_SHIFT);
	for (chunk = first; chunk < map.end; chunk++) {
		if ((chunk - first) % LINE == 0)
			printf("\n%12llx  ", (unsigned long long)chunk << CHUNK_SHIFT);
		putchar(!map.live[chunk] ? '.' : map.live[chunk] >> CHUNK_SHIFT ? '#' :
			(int)('0' + (map.live[chunk] * 10 >> CHUNK_SHIFT)));
	}
	putchar('\n');
	free(map.live);
	return 0;
}

static int heap_audit(struct dvsm_heap *heap)
{
	struct dvsm_heap_account account = { .size = sizeof(account) };
	int error = dvsm_heap_account(heap, &account);
	const struct { const char *what; uint64_t bytes; } rows[] = {
		{ "metadata", account.out_metadata }, { "free", account.out_free },
		{ "cached", account.out_cached }, { "live", account.out_live },
		{ "lost", account.out_lost }, { "waste", account.out_waste },
		{ "in all", account.out_reserved },
	};
	size_t i;

	if (!error || error == -EUCLEAN)
		for (i = 0; i < sizeof(rows) / sizeof(*rows); i++)
			printf("%16llu bytes %s\n", (unsigned long long)rows[i].bytes, rows[i].what);
	return error;
}

static int heap_run(const char *verb, const struct options *options)
{
	struct dvsm_heap *heap;
	int fd, error;

	fd = dvsmctl_target_open(&options->target);
	heap = fd < 0 ? NULL : dvsm_heap_attach(fd);
	if (!heap) {
		fprintf(stderr, "dvsmctl: %s: %s\n", options->target.name ? options->target.name : "that descriptor",
			fd < 0 || errno != EINVAL ? strerror(errno) : "no heap of this version");
		return 1;
	}
	if (!strcmp(verb, "report"))
		error = dvsm_heap_print(heap, STDOUT_FILENO);
	else if (!strcmp(verb, "map"))
		error = heap_map(heap);
	else if (!strcmp(verb, "recover"))
		error = dvsm_heap_check(heap, 0);
	else
		error = options->busy ? dvsm_heap_check(heap, 1) : heap_audit(heap);
	if (!strcmp(verb, "audit") && (!error || error == -EUCLEAN))
		puts(error ? "the heap is broken" : "the heap is whole");
	else if (error)
		fprintf(stderr, "dvsmctl: %s: %s\n", verb, strerror(-error));
	dvsm_heap_detach(heap);
	return error != 0;
}

int dvsmctl_heap(int argc, char **argv)
{
	static const struct option known[] = {
		DVSMCTL_TARGET_OPTIONS,
		{ "busy", no_argument, NULL, 'b' }, { "help", no_argument, NULL, 'h' }, { 0 },
	};
	static const char *const verbs[] = { "report", "map", "audit", "recover" };
	struct options options = { .target = { .fd = -1 } };
	const char *verb = NULL;
	size_t i;
	int c;

	while ((c = getopt_long(argc, argv, "f:p:bh", known, NULL)) != -1) {
		if (dvsmctl_target_option(&options.target, c, optarg))
			continue;
		switch (c) {
		case 'b':
			options.busy = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			return DVSMCTL_USAGE;
		}
	}
	for (i = 0; optind < argc && i < sizeof(verbs) / sizeof(*verbs); i++)
		if (!strcmp(argv[optind], verbs[i]))
			verb = argv[optind];
	options.target.name = optind + 1 < argc ? argv[optind + 1] : NULL;
	if (!verb || optind + 2 < argc || !dvsmctl_target_is_clear(&options.target)) {
		fputs(usage, stderr);
		return DVSMCTL_USAGE;
	}
	/* What is wrong is said by the library. */
	if (!strcmp(verb, "audit"))
		setenv("DVSM_DEBUG", "1", 1);
	return heap_run(verb, &options);
}
