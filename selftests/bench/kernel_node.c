// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measures of memory on nodes: moving it to another one, and asking where it is.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/dvsm.h>
#include <linux/mempolicy.h>

#include "kernel_bench.h"

#define NR_MOVES		5
#define NR_QUERIES		3
#define SPARSE_LENGTH		(1UL << 40)

/* Whether there are two nodes with memory, which are then 0 and 1. */
static bool has_two_nodes(void)
{
	return !access("/sys/devices/system/node/node1", F_OK);
}

/* All of it, by our command. */
static int move_by_command(const struct resident *resident, int node)
{
	uint64_t nodes = 1ULL << node;
	struct dvsm_region_migrate arg = {
		.size = sizeof(arg),
		.length = resident->size,
		.nodes = (uintptr_t)&nodes,
		.nr_nodes = 64,
	};

	if (ioctl(resident->fd, DVSM_IOC_REGION_MIGRATE, &arg))
		return -errno;
	return arg.out_moved == resident->size ? 0 : -EBUSY;
}

static void **pages;
static int *targets, *status;

/* One page of each chunk: its folio is moved whole. */
static int move_by_pages(const struct resident *resident, int node)
{
	size_t nr = resident->size / CHUNK, i;

	for (i = 0; i < nr; i++)
		targets[i] = node;
	if (syscall(SYS_move_pages, 0, nr, pages, targets, status, MPOL_MF_MOVE) < 0)
		return -errno;
	for (i = 0; i < nr; i++)
		if (status[i] != node)
			return -EBUSY;
	return 0;
}

static int pages_list(const struct resident *resident)
{
	size_t nr = resident->size / CHUNK, i;

	pages = calloc(nr, sizeof(*pages));
	targets = calloc(nr, sizeof(*targets));
	status = calloc(nr, sizeof(*status));
	if (!pages || !targets || !status)
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		pages[i] = resident->map + i * CHUNK;
	return 0;
}

static void touch_each(const struct resident *resident)
{
	size_t i;

	for (i = 0; i < resident->size; i += CHUNK)
		((volatile char *)resident->map)[i]++;
}

/* A sample is what a chunk costs; with @touch, until it can be written to again. */
static int move_all(const struct memory *memory, struct samples *samples,
		    int (*move)(const struct resident *resident, int node), bool touch)
{
	struct resident resident;
	int ret, i;

	if (!has_two_nodes())
		return -EOPNOTSUPP;
	ret = resident_make(&resident, memory, nr_touch_chunks * CHUNK);
	if (ret)
		return ret;
	resident_touch(&resident);
	ret = pages_list(&resident);
	/* Not measured: it may be on either node, and be there already. */
	if (!ret)
		ret = move_by_pages(&resident, 1);
	for (i = 0; i < NR_MOVES && !ret; i++) {
		uint64_t start;

		touch_each(&resident);
		usleep(10000);
		clock_wait_tick();
		start = clock_read();
		ret = move(&resident, i % 2);
		if (touch)
			touch_each(&resident);
		samples_add(samples, (double)(clock_read() - start) / nr_touch_chunks);
	}
	free(pages);
	free(targets);
	free(status);
	return ret ? ret : resident_end(&resident);
}

static int migrate(const struct memory *memory, struct samples *samples)
{
	return move_all(memory, samples, move_by_command, false);
}

static int migrate_and_touch(const struct memory *memory, struct samples *samples)
{
	return move_all(memory, samples, move_by_command, true);
}

static int move_pages(const struct memory *memory, struct samples *samples)
{
	return move_all(memory, samples, move_by_pages, false);
}

static int move_pages_and_touch(const struct memory *memory, struct samples *samples)
{
	return move_all(memory, samples, move_by_pages, true);
}

static int residency_all(int fd, size_t length)
{
	static struct dvsm_chunk chunks[4096];
	struct dvsm_region_residency arg = {
		.size = sizeof(arg),
		.length = length,
		.chunks = (uintptr_t)chunks,
		.nr_chunks = ARRAY_SIZE(chunks),
	};

	return ioctl(fd, DVSM_IOC_REGION_RESIDENCY, &arg) ? -errno : (int)arg.out_nr_chunks;
}

/* @nr_chunks, evenly in a region of @length. */
static int residency_of(const struct memory *memory, struct samples *samples, size_t length,
			size_t nr_chunks)
{
	struct resident resident = { .memory = memory, .size = length };
	size_t i;
	int nr;

	resident.fd = memory->open(length);
	if (resident.fd < 0)
		return resident.fd;
	resident.map = memory_map(memory, resident.fd, length, false);
	if (resident.map == MAP_FAILED)
		return -errno;
	for (i = 0; i < nr_chunks; i++)
		((volatile char *)resident.map)[i * (length / nr_chunks)]++;
	for (i = 0; i < NR_QUERIES; i++) {
		uint64_t start;

		clock_wait_tick();
		start = clock_read();
		nr = residency_all(resident.fd, length);
		samples_add(samples, clock_read() - start);
		if (nr != nr_chunks)
			return nr < 0 ? nr : -EIO;
	}
	return resident_end(&resident);
}

static int residency(const struct memory *memory, struct samples *samples)
{
	return residency_of(memory, samples, SPARSE_LENGTH, nr_large_chunks);
}

static int residency_half(const struct memory *memory, struct samples *samples)
{
	return residency_of(memory, samples, SPARSE_LENGTH, nr_large_chunks / 2);
}

static int residency_short(const struct memory *memory, struct samples *samples)
{
	return residency_of(memory, samples, SPARSE_LENGTH / 4, nr_large_chunks);
}

#define MEMORY_REGION	MEMORY_SNAPSHOT

const struct measure node_measures[] = {
	{ "migrate", "moving 2 MiB to another node, by the command", MEMORY_REGION,
	  .run = migrate, .allocated = CHUNK },
	{ "migrate-touch", "the same, and touching it", MEMORY_REGION,
	  .run = migrate_and_touch, .allocated = CHUNK },
	{ "move-pages", "moving 2 MiB to another node, by move_pages()", MEMORY_HUGE,
	  .run = move_pages, .allocated = CHUNK },
	{ "move-pages-touch", "the same, and touching it", MEMORY_HUGE,
	  .run = move_pages_and_touch, .allocated = CHUNK },
	{ "residency", "where the chunks of a region of 1 TiB are", MEMORY_REGION, .run = residency },
	{ "residency-half", "the same with half as many chunks", MEMORY_REGION,
	  .run = residency_half },
	{ "residency-short", "with as many chunks in a quarter of the length", MEMORY_REGION,
	  .run = residency_short },
	{},
};
