// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measures of memory that comes into being: first touch and populate.
 */
#include <errno.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "kernel_bench.h"

#define NR_POPULATES	3

/* The same writes where everything is mapped: not part of any fault. */
static double touch_overhead(volatile char *chunk)
{
	uint64_t start;

	chunk_touch(chunk, true);
	clock_wait_tick();
	start = clock_read();
	chunk_touch(chunk, true);
	return clock_read() - start;
}

static long faults_taken(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static int first_touch_round(const struct memory *memory, struct samples *samples)
{
	size_t size = nr_touch_chunks * CHUNK, i;
	double acquired = 0, overhead;
	uint64_t start;
	long faults;
	char *map;
	int fd, ret;

	ret = memory->prepare ? memory->prepare(size) : 0;
	if (ret)
		return ret;
	if (memory->acquire) {
		start = clock_read();
		ret = memory->acquire(size);
		acquired = clock_read() - start;
		if (ret)
			return ret;
	}
	fd = memory->open(size);
	if (fd < -1)
		return fd;
	map = memory_map(memory, fd, size, false);
	if (map == MAP_FAILED)
		return -errno;
	faults = faults_taken();
	/* The first one also makes page tables for all. */
	chunk_touch(map, true);
	overhead = touch_overhead(map);
	for (i = 1; i < nr_touch_chunks; i++) {
		clock_wait_tick();
		start = clock_read();
		chunk_touch(map + i * CHUNK, true);
		if (samples)
			samples_add(samples, (double)(clock_read() - start) - overhead +
					     acquired / nr_touch_chunks);
	}
	if ((memory->kind & MEMORY_HUGE) && faults_taken() - faults > (long)(2 * nr_touch_chunks))
		return -EIO;	/* It did not get huge pages: this would be no comparison. */
	munmap(map, size);
	if (fd >= 0)
		close(fd);
	return memory->release ? memory->release() : 0;
}

/* The first round warms caches up, and the lists of the page allocator. */
static int first_touch(const struct memory *memory, struct samples *samples)
{
	int ret = first_touch_round(memory, NULL);

	return ret ? ret : first_touch_round(memory, samples);
}

/* Everything from nothing to a mapping that takes no fault any more. */
static int map_populate_round(const struct memory *memory, struct samples *samples)
{
	size_t size = nr_large_chunks * CHUNK;
	uint64_t start, time;
	char *map;
	int fd, ret;

	ret = memory->prepare ? memory->prepare(size) : 0;
	if (ret)
		return ret;
	start = clock_read();
	ret = memory->acquire ? memory->acquire(size) : 0;
	if (ret)
		return ret;
	fd = memory->open(size);
	if (fd < -1)
		return fd;
	map = memory_map(memory, fd, size, true);
	time = clock_read() - start;
	if (map == MAP_FAILED)
		return -errno;
	samples_add(samples, (double)time / nr_large_chunks);
	munmap(map, size);
	if (fd >= 0)
		close(fd);
	return memory->release ? memory->release() : 0;
}

static int map_populate(const struct memory *memory, struct samples *samples)
{
	int ret = 0, i;

	for (i = 0; i < NR_POPULATES && !ret; i++)
		ret = map_populate_round(memory, samples);
	return ret;
}

static int command_populate_round(const struct memory *memory, struct samples *samples)
{
	size_t size = nr_large_chunks * CHUNK;
	int fd = memory->open(size), ret;
	uint64_t start = clock_read();

	if (fd < 0)
		return fd;
	ret = memory->populate(fd, size);
	samples_add(samples, (double)(clock_read() - start) / nr_large_chunks);
	close(fd);
	return ret;
}

static int command_populate(const struct memory *memory, struct samples *samples)
{
	int ret = 0, i;

	if (!memory->populate)
		return -EOPNOTSUPP;
	for (i = 0; i < NR_POPULATES && !ret; i++)
		ret = command_populate_round(memory, samples);
	return ret;
}

const struct measure touch_measures[] = {
	{ "first-touch", "first touch of 2 MiB", ~0U, .zeroed = CHUNK, .run = first_touch },
	{ "map-populate", "open, mmap and MAP_POPULATE, for each 2 MiB", ~0U, .zeroed = CHUNK,
	  .run = map_populate },
	{ "command-populate", "populate by command, not mapped, for each 2 MiB", MEMORY_DVSM,
	  .zeroed = CHUNK, .run = command_populate },
	{},
};
