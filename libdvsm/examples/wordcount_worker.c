// SPDX-License-Identifier: GPL-2.0-only
/* What a worker process does: take a block, find its words, count them. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "wordcount.h"

#define LETTERS(upper, lower)	[upper] = lower, [lower] = lower
const unsigned char letter_of[256] = {
	LETTERS('A', 'a'), LETTERS('B', 'b'), LETTERS('C', 'c'), LETTERS('D', 'd'),
	LETTERS('E', 'e'), LETTERS('F', 'f'), LETTERS('G', 'g'), LETTERS('H', 'h'),
	LETTERS('I', 'i'), LETTERS('J', 'j'), LETTERS('K', 'k'), LETTERS('L', 'l'),
	LETTERS('M', 'm'), LETTERS('N', 'n'), LETTERS('O', 'o'), LETTERS('P', 'p'),
	LETTERS('Q', 'q'), LETTERS('R', 'r'), LETTERS('S', 's'), LETTERS('T', 't'),
	LETTERS('U', 'u'), LETTERS('V', 'v'), LETTERS('W', 'w'), LETTERS('X', 'x'),
	LETTERS('Y', 'y'), LETTERS('Z', 'z'),
};

/* A part of one file, in memory. */
struct window {
	int fd;
	unsigned char *bytes;
	size_t size;		/* of the buffer */
	size_t held;		/* bytes that are there */
	uint64_t offset;	/* of the first one in the file */
	uint64_t file_length;
};

struct worker {
	struct table_writer writer;
	struct worker_stats *stats;
	uint64_t nr_words;
	struct window window;
};

/* The CPUs of @node that this process may use; their number. */
static int node_cpus(int node, cpu_set_t *cpus)
{
	char path[64], text[4096] = "", *at = text;
	cpu_set_t allowed;
	FILE *list;

	CPU_ZERO(cpus);
	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", node);
	list = fopen(path, "re");
	if (!list)
		return -1;
	if (!fgets(text, sizeof(text), list))
		text[0] = '\0';
	fclose(list);
	while (*at >= '0' && *at <= '9') {
		unsigned long cpu = strtoul(at, &at, 10), last = cpu;

		if (*at == '-')
			last = strtoul(at + 1, &at, 10);
		for (; cpu <= last && cpu < CPU_SETSIZE; cpu++)
			CPU_SET(cpu, cpus);
		at += *at == ',';
	}
	if (!sched_getaffinity(0, sizeof(allowed), &allowed))
		CPU_AND(cpus, cpus, &allowed);
	return CPU_COUNT(cpus);
}

/* The nodes that so many workers go to in turn: those with usable CPUs, if there are two. */
void worker_nodes(struct nodes *nodes, unsigned int nr_workers)
{
	cpu_set_t cpus;
	int node;

	nodes->nr = 0;
	for (node = 0; node < 1024 && nodes->nr < SHARDS_MAX; node++)
		if (node_cpus(node, &cpus) > 0)
			nodes->numbers[nodes->nr++] = node;
	if (nodes->nr < 2)
		nodes->nr = 0;
	else if (nodes->nr > nr_workers)
		nodes->nr = nr_workers;
}

static void worker_place(struct worker_stats *stats, int node)
{
	cpu_set_t cpus;

	if (node >= 0 && node_cpus(node, &cpus) > 0 && !sched_setaffinity(0, sizeof(cpus), &cpus))
		stats->node = node;
	else
		stats->node = -1;
}

/* Reads on, up to @wanted bytes in all; the buffer grows as needed. */
static int window_read(struct window *window, size_t wanted)
{
	if (wanted > window->file_length - window->offset)
		wanted = window->file_length - window->offset;
	if (wanted > window->size) {
		unsigned char *bytes = realloc(window->bytes, 2 * wanted);

		if (!bytes)
			return -ENOMEM;
		window->bytes = bytes;
		window->size = 2 * wanted;
	}
	while (window->held < wanted) {
		ssize_t got = pread(window->fd, window->bytes + window->held,
				    wanted - window->held,
				    (off_t)(window->offset + window->held));

		if (got < 0)
			return -errno;
		if (!got)
			return -EIO; /* the file got shorter meanwhile */
		window->held += (size_t)got;
	}
	return 0;
}

/*
 * Counts the words that begin in the window's bytes [first, last). A word that
 * reaches the end of what is held is completed by reading on. Letters are made
 * small in place, so that a word is where it was read. Hash: FNV-1a of 64 bits
 * (Fowler, Noll, Vo), its upper half folded into the lower.
 */
static int worker_words(struct worker *worker, size_t first, size_t last)
{
	struct window *window = &worker->window;
	unsigned char letter;
	size_t at = first, start;
	uint64_t hash;
	int error;

	while (at < last) {
		if (!letter_of[window->bytes[at]]) {
			at++;
			continue;
		}
		hash = 0xcbf29ce484222325;
		for (start = at;; at++) {
			if (at == window->held) {
				error = window_read(window, window->held + BLOCK_SIZE);
				if (error)
					return error;
				if (at == window->held)
					break; /* the file ends with a word */
			}
			letter = letter_of[window->bytes[at]];
			if (!letter)
				break;
			window->bytes[at] = letter;
			hash = (hash ^ letter) * 0x100000001b3;
		}
		hash ^= hash >> 32;
		if (!table_add(&worker->writer, (char *)window->bytes + start,
			       (uint32_t)(at - start), hash))
			return -ENOSPC;
		worker->nr_words++;
	}
	return 0;
}

/* One block: the words that begin in it. */
static int worker_task(struct worker *worker, const struct file *file, uint64_t offset)
{
	struct window *window = &worker->window;
	size_t before = offset > 0, at, last;
	int error;

	window->fd = open(file->path, O_RDONLY | O_CLOEXEC);
	if (window->fd < 0)
		return -errno;
	window->offset = offset - before;
	window->file_length = file->length;
	window->held = 0;
	error = window_read(window, BLOCK_SIZE + before);
	last = window->held;
	/* A word that began in the block before belongs to whoever counts that one. */
	at = before;
	if (!error && before && letter_of[window->bytes[0]])
		while (at < last && letter_of[window->bytes[at]])
			at++;
	if (!error)
		error = worker_words(worker, at, last);
	close(window->fd);
	worker->stats->nr_bytes += last - before;
	return error;
}

static uint64_t cpu_time(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t nr_faults(void)
{
	struct rusage usage = { 0 };

	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)(usage.ru_minflt + usage.ru_majflt);
}

/* Takes tasks until there are none. Errors are told on stderr and to the others. */
void worker_run(const struct table *table, const struct corpus *corpus, unsigned int n)
{
	struct shared *shared = table_shared(table);
	struct worker worker = {
		.writer = {
			.shard = table_shard(table, n % table->nr_shards),
			.base = table->base,
		},
		.stats = &shared->workers[n],
	};
	uint64_t faults = nr_faults(), task;

	worker_place(worker.stats, worker.writer.shard->node);
	while (!shared->full && !shared->failed) {
		const struct file *file;
		int error;

		task = atomic_fetch_add_explicit(&shared->next_task, 1, memory_order_relaxed);
		if (task >= corpus->nr_tasks)
			break;
		file = &corpus->files[corpus->tasks[task].file];
		error = worker_task(&worker, file, corpus->tasks[task].offset);
		worker.stats->nr_tasks++;
		worker.stats->nr_words = worker.nr_words;
		worker.stats->nr_distinct = worker.writer.nr_distinct;
		worker.stats->nr_faults = nr_faults() - faults;
		worker.stats->nanoseconds = cpu_time();
		if (error == -ENOSPC) {
			shared->full = 1;
		} else if (error) {
			fprintf(stderr, "wordcount: %s: %s\n", file->path, strerror(-error));
			shared->failed = 1;
		}
	}
	free(worker.window.bytes);
}
