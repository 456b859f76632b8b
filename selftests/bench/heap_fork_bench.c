// SPDX-License-Identifier: GPL-2.0-only
/*
 * What fork() costs a heap, as private memory and in a region that fork() copies: the fork itself, what each side
 * writes then, and the memory that this takes. Meant for a VM whose clock counts instructions (run.sh --icount):
 * then microseconds are thousands of instructions. One row for each kind of heap:
 *
 *   heap_fork_bench [MIB]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <dvsm/heap.h>

#define CHUNK	(2UL << 20)
#define BLOCK	(CHUNK / 4)
#define FEW	16

struct result {
	double fork, end, read, few, few_by_parent, all, all_by_parent;	/* microseconds */
	long few_kib, all_kib, first_kib;
	unsigned long huge_percent;
};

static char **blocks;
static size_t nr_blocks;
static struct result *result;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static long free_kib(void)
{
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");
	long kib = 0, value;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemFree: %ld", &value) == 1)
			kib = value;
	if (file)
		fclose(file);
	return kib;
}

/* How much of what is mapped at the heap is mapped by 2 MiB. */
static unsigned long huge_percent(const void *address)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long start, end, kib, rss = 0, huge = 0;
	bool inside = false;
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (unsigned long)address && (unsigned long)address < end;
		else if (inside && sscanf(line, "Rss: %lu", &kib) == 1)
			rss += kib;
		else if (inside && (sscanf(line, "AnonHugePages: %lu", &kib) == 1 ||
				    sscanf(line, "FilePmdMapped: %lu", &kib) == 1))
			huge += kib;
	}
	if (file)
		fclose(file);
	return rss ? huge * 100 / rss : 0;
}

/* A word in every @step bytes of the first @nr blocks. */
static double write_words(size_t nr, size_t step)
{
	double begun = now();
	size_t i, at;

	for (i = 0; i < nr; i++)
		for (at = 0; at < BLOCK; at += step)
			((volatile char *)blocks[i])[at]++;
	return now() - begun;
}

static double read_words(void)
{
	double begun = now();
	size_t i, at;

	for (i = 0; i < nr_blocks; i++)
		for (at = 0; at < BLOCK; at += 4096)
			(void)((volatile char *)blocks[i])[at];
	return now() - begun;
}

/* FEW words, each in a chunk of its own. */
static double write_few(void)
{
	double begun = now();
	size_t i;

	for (i = 0; i < FEW; i++)
		((volatile char *)blocks[nr_blocks / FEW * i])[4096]++;
	return now() - begun;
}

/* What a child does before it ends. */
typedef void work(void);

static void write_in_child(void)
{
	long kib = free_kib();

	result->few = write_few();
	result->few_kib = kib - free_kib();
	result->read = read_words();
	result->all = write_words(nr_blocks, 4096);
	result->all_kib = kib - free_kib();
	result->huge_percent = huge_percent(blocks[nr_blocks / 2]);
}

static void wait_in_child(void)
{
	pause();
}

static void nothing(void)
{
}

static pid_t child_begin(work *work)
{
	pid_t pid = fork();

	if (!pid) {
		work();
		_exit(0);
	}
	return pid;
}

static void forks(void)
{
	double begun, took;
	pid_t pid;
	int i;

	for (i = 0; i < 5; i++) {
		begun = now();
		pid = child_begin(nothing);
		took = now() - begun;
		if (!i || took < result->fork)
			result->fork = took;
		waitpid(pid, NULL, 0);
		took = now() - begun;
		if (!i || took < result->end)
			result->end = took;
		write_words(nr_blocks, 4096);
	}
}

static int run(uint32_t backend)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .flags = DVSM_HEAP_F_PRIVATE, .backend = backend,
	};
	struct dvsm_heap *heap;
	long kib = free_kib();
	size_t i;
	pid_t pid;

	heap = dvsm_heap_create(&options);
	if (!heap)
		return -1;
	dvsm_heap_free(heap, dvsm_heap_malloc(heap, 100));
	result->first_kib = kib - free_kib();
	for (i = 0; i < nr_blocks; i++) {
		blocks[i] = dvsm_heap_malloc(heap, BLOCK);
		memset(blocks[i], 1, BLOCK);
	}
	forks();
	waitpid(child_begin(write_in_child), NULL, 0);
	write_words(nr_blocks, 4096);
	pid = child_begin(wait_in_child);
	result->few_by_parent = write_few();
	result->all_by_parent = write_words(nr_blocks, 4096);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	dvsm_heap_destroy(heap);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct { const char *name; uint32_t backend; } kinds[] = {
		{ "private", DVSM_BACKEND_AUTO }, { "region", DVSM_BACKEND_DEVICE },
	};
	size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 256, i;

	nr_blocks = (mib << 20) / BLOCK;
	blocks = calloc(nr_blocks, sizeof(*blocks));
	result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	printf("%-8s %10s %10s %10s %10s %10s %10s %10s %9s %9s %9s %5s\n", "heap", "fork", "and end",
	       "few", "by parent", "read all", "all", "by parent", "empty", "few", "all", "huge");
	for (i = 0; i < 2; i++) {
		if (run(kinds[i].backend)) {
			printf("%-8s cannot be had here\n", kinds[i].name);
			continue;
		}
		printf("%-8s %7.0f us %7.0f us %7.0f us %7.0f us %7.0f us %7.0f us %7.0f us %5ld KiB %5ld KiB %5ld KiB %3lu %%\n",
		       kinds[i].name, result->fork, result->end, result->few, result->few_by_parent,
		       result->read, result->all, result->all_by_parent, result->first_kib, result->few_kib,
		       result->all_kib, result->huge_percent);
	}
	return 0;
}
