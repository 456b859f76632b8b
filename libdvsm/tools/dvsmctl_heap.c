// SPDX-License-Identifier: GPL-2.0-only
/*
 * dvsmctl heap: what is in a heap, where, and whether its tables agree.
 *
 * It attaches like any stranger, so it sees what they see, and finishes what the dead have begun.
 */
#include <fcntl.h>
#include <getopt.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <dvsm/heap.h>

#include "dvsmctl.h"

#define CHUNK_SHIFT	21
#define LINE		64	/* chunks on a line of the map */

static const char usage[] =
	"usage: dvsmctl heap VERB [OPTION...] [NAME]\n"
	"verbs:\n"
	"  report   how much is live, cached, free; by node and size class\n"
	"  map      one character for each 2 MiB: how much of it is live\n"
	"  audit    whether every byte is free, cached, live or metadata\n"
	"  recover  finish what the dead have begun, and no more\n"
	"the heap:\n"
	"  NAME          a file in /dev/shm, or a path\n"
	"  -f, --fd N    a descriptor that dvsmctl inherited, or of the process of --pid\n"
	"  -p, --pid PID look at that process's descriptor\n"
	"options:\n"
	"  -b, --busy    audit: others are at work; check only what holds then\n"
	"  -h, --help\n"
	"map and audit without --busy want that nobody is at work meanwhile.\n";

struct options {
	const char *name;
	int fd, pid;
	bool busy;
};

static int heap_open(const struct options *options)
{
	char path[4096];
	int pidfd, fd;

	if (options->pid > 0) {
		pidfd = (int)syscall(SYS_pidfd_open, options->pid, 0);
		fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, options->fd, 0);
		if (pidfd >= 0)
			close(pidfd);
		return fd;
	}
	if (options->fd >= 0)
		return options->fd;
	snprintf(path, sizeof(path), "%s%s", strchr(options->name, '/') ? "" : "/dev/shm/",
		 options->name);
	return open(path, O_RDWR | O_CLOEXEC);
}

struct map {
	struct dvsm_heap *heap;
	uint64_t *live;			/* bytes, by chunk */
	uint64_t nr_chunks, end;
};

static int map_visit(void *address, size_t size, void *context)
{
	struct map *map = context;
	uint64_t at = dvsm_heap_offset(map->heap, address), end = at + size, next;

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

	dvsm_heap_stats(heap, &stats);
	map.nr_chunks = stats.out_reserved >> CHUNK_SHIFT;
	map.live = calloc(map.nr_chunks, sizeof(*map.live));
	if (!map.live)
		return -ENOMEM;
	dvsm_heap_walk(heap, map_visit, &map);
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

static int heap_run(const char *verb, const struct options *options)
{
	struct dvsm_heap *heap;
	int fd, error;

	fd = heap_open(options);
	heap = fd < 0 ? NULL : dvsm_heap_attach(fd);
	if (!heap) {
		fprintf(stderr, "dvsmctl: %s: %s\n", options->name ? options->name : "that descriptor",
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
		error = dvsm_heap_check(heap, options->busy ? 1 : 2);
	if (!strcmp(verb, "audit"))
		puts(error ? "the heap is broken" : "the heap is whole");
	else if (error)
		fprintf(stderr, "dvsmctl: %s: %s\n", verb, strerror(-error));
	dvsm_heap_detach(heap);
	return error != 0;
}

int dvsmctl_heap(int argc, char **argv)
{
	static const struct option known[] = {
		{ "fd", required_argument, NULL, 'f' }, { "pid", required_argument, NULL, 'p' },
		{ "busy", no_argument, NULL, 'b' }, { "help", no_argument, NULL, 'h' }, { 0 },
	};
	static const char *const verbs[] = { "report", "map", "audit", "recover" };
	struct options options = { .fd = -1 };
	const char *verb = NULL;
	size_t i;
	int c;

	while ((c = getopt_long(argc, argv, "f:p:bh", known, NULL)) != -1) {
		switch (c) {
		case 'f':
			options.fd = atoi(optarg);
			break;
		case 'p':
			options.pid = atoi(optarg);
			break;
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
	options.name = optind + 1 < argc ? argv[optind + 1] : NULL;
	if (!verb || optind + 2 < argc || !options.name == (options.fd < 0) ||
	    (options.pid > 0 && options.fd < 0)) {
		fputs(usage, stderr);
		return DVSMCTL_USAGE;
	}
	/* What is wrong is said by the library. */
	if (!strcmp(verb, "audit"))
		setenv("DVSM_DEBUG", "1", 1);
	return heap_run(verb, &options);
}
