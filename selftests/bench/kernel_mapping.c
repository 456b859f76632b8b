// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measures of memory that is there: mapping it again, fork, unmap, free.
 */
#include <errno.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kernel_bench.h"

#define NR_FORKS	3
#define NR_UNMAPS	3

static int second_mapping(const struct memory *memory, struct samples *samples, bool write)
{
	struct resident resident;
	uint64_t start, overhead;
	size_t i;
	char *map;
	int ret;

	ret = resident_make(&resident, memory, nr_touch_chunks * CHUNK);
	if (ret)
		return ret;
	/* What MAP_POPULATE has mapped may yet take a fault to be written. */
	for (i = 0; i < nr_touch_chunks; i++)
		chunk_touch(resident.map + i * CHUNK, true);
	clock_wait_tick();
	start = clock_read();
	chunk_touch(resident.map, write);
	overhead = clock_read() - start;
	map = memory_map(memory, resident.fd, resident.size, false);
	if (map == MAP_FAILED)
		return -errno;
	/* The first one also makes page tables for all. */
	chunk_touch(map, write);
	for (i = 1; i < nr_touch_chunks; i++) {
		clock_wait_tick();
		start = clock_read();
		chunk_touch(map + i * CHUNK, write);
		samples_add(samples, (double)(clock_read() - start) - overhead);
	}
	munmap(map, resident.size);
	return resident_end(&resident);
}

static int second_read(const struct memory *memory, struct samples *samples)
{
	return second_mapping(memory, samples, false);
}

static int second_write(const struct memory *memory, struct samples *samples)
{
	return second_mapping(memory, samples, true);
}

/* Populated, and not written to before. */
static int populated_write(const struct memory *memory, struct samples *samples)
{
	struct resident resident;
	uint64_t start, overhead;
	size_t i;
	int ret;

	ret = resident_make(&resident, memory, nr_touch_chunks * CHUNK);
	if (ret)
		return ret;
	chunk_touch(resident.map, true);
	clock_wait_tick();
	start = clock_read();
	chunk_touch(resident.map, true);
	overhead = clock_read() - start;
	for (i = 1; i < nr_touch_chunks; i++) {
		clock_wait_tick();
		start = clock_read();
		chunk_touch(resident.map + i * CHUNK, true);
		samples_add(samples, (double)(clock_read() - start) - overhead);
	}
	return resident_end(&resident);
}

static double fork_time(void)
{
	uint64_t start, time;
	pid_t pid;

	usleep(10000);	/* what the last one left to others */
	clock_wait_tick();
	start = clock_read();
	pid = fork();
	time = clock_read() - start;
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return time;
}

/* What the mapping adds to a fork. */
static int fork_mapping(const struct memory *memory, struct samples *samples)
{
	struct resident resident;
	double without = 0;
	int ret, i;

	for (i = 0; i < NR_FORKS; i++) {
		double time = fork_time();

		without = !i || time < without ? time : without;
	}
	ret = resident_make(&resident, memory, nr_large_chunks * CHUNK);
	if (ret)
		return ret;
	for (i = 0; i < NR_FORKS; i++) {
		/* The fork before has left pages read-only: less work for the next one. */
		resident_touch(&resident);
		samples_add(samples, fork_time() - without);
	}
	return resident_end(&resident);
}

/* @with_free: the last descriptor too, and the pool. */
static int unmap_round(const struct memory *memory, struct samples *samples, bool with_free)
{
	struct resident resident;
	uint64_t start;
	double time;
	int ret;

	ret = resident_make(&resident, memory, nr_touch_chunks * CHUNK);
	if (ret)
		return ret;
	clock_wait_tick();
	start = clock_read();
	munmap(resident.map, resident.size);
	time = clock_read() - start;
	if (with_free)
		start = clock_read();
	if (resident.fd >= 0)
		close(resident.fd);
	if (memory->release)
		ret = memory->release();
	if (with_free)
		time += clock_read() - start;
	samples_add(samples, time / nr_touch_chunks);
	return ret;
}

static int unmap(const struct memory *memory, struct samples *samples)
{
	int ret = 0, i;

	for (i = 0; i < NR_UNMAPS && !ret; i++)
		ret = unmap_round(memory, samples, false);
	return ret;
}

static int unmap_and_free(const struct memory *memory, struct samples *samples)
{
	int ret = 0, i;

	for (i = 0; i < NR_UNMAPS && !ret; i++)
		ret = unmap_round(memory, samples, true);
	return ret;
}

const struct measure mapping_measures[] = {
	{ "second-read", "2 MiB that are resident, read through another mapping",
	  MEMORY_SHARED, .run = second_read },
	{ "second-write", "2 MiB that are resident, written through another mapping",
	  MEMORY_SHARED, .run = second_write },
	{ "populated-write", "2 MiB that MAP_POPULATE has mapped, written the first time",
	  MEMORY_SHARED, .run = populated_write },
	{ "fork", "what a large resident mapping adds to fork(), in all", ~0U, .run = fork_mapping },
	{ "unmap", "munmap, memory stays, for each 2 MiB", MEMORY_SHARED, .run = unmap },
	{ "free", "munmap and close of the last user, for each 2 MiB", ~0U, .run = unmap_and_free },
	{},
};
