// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measures of snapshots, beside fork(), which is what anonymous memory has instead.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <linux/dvsm.h>

#include "kernel_bench.h"

#define BLOCK			(64UL << 10)
#define NR_TAKES		3
#define NR_COMPARISONS		3
#define NR_DIVERGED		100
#define SPARSE_LENGTH		(1UL << 40)

/* @granularity: bytes that a write copies */
static int snapshot_take(const struct resident *resident, size_t granularity)
{
	struct dvsm_snapshot_take arg = {
		.size = sizeof(arg),
		.granularity = granularity,
		.label = "bench",
	};
	int fd = ioctl(resident->fd, DVSM_IOC_SNAPSHOT_TAKE, &arg);

	return fd < 0 ? -errno : fd;
}

/* The first byte of every @step. Undoes what the last snapshot has left, and maps for writing. */
static void write_each(struct resident *resident, size_t step)
{
	size_t i;

	for (i = 0; i < resident->size; i += step)
		((volatile char *)resident->map)[i]++;
}

static int take_each(struct resident *resident, size_t step, struct samples *samples)
{
	int i;

	for (i = 0; i < NR_TAKES; i++) {
		uint64_t start;
		int fd;

		write_each(resident, step);
		usleep(10000);
		clock_wait_tick();
		start = clock_read();
		fd = snapshot_take(resident, CHUNK);
		samples_add(samples, clock_read() - start);
		if (fd < 0)
			return fd;
		close(fd);
	}
	return 0;
}

static int take(const struct memory *memory, struct samples *samples)
{
	struct resident resident;
	int ret = resident_make(&resident, memory, nr_large_chunks * CHUNK);

	if (ret)
		return ret;
	ret = take_each(&resident, CHUNK, samples);
	return ret ? ret : resident_end(&resident);
}

/* The same number of chunks, evenly in a region of @length. */
static int take_sparse_of(const struct memory *memory, struct samples *samples, size_t length)
{
	struct resident resident = { .memory = memory, .size = length };
	int ret;

	resident.fd = memory->open(length);
	if (resident.fd < 0)
		return resident.fd;
	resident.map = memory_map(memory, resident.fd, length, false);
	if (resident.map == MAP_FAILED)
		return -errno;
	ret = take_each(&resident, length / nr_large_chunks, samples);
	return ret ? ret : resident_end(&resident);
}

static int take_sparse(const struct memory *memory, struct samples *samples)
{
	return take_sparse_of(memory, samples, SPARSE_LENGTH);
}

static int take_sparser(const struct memory *memory, struct samples *samples)
{
	return take_sparse_of(memory, samples, 4 * SPARSE_LENGTH);
}

/* Who else reads the memory: a snapshot or, where there are none, a child. */
struct sharer {
	int fd;
	pid_t child;
};

static int sharer_begin(struct sharer *sharer, const struct resident *resident,
			size_t granularity)
{
	*sharer = (struct sharer) { .fd = -1 };
	if (resident->memory->kind & MEMORY_SNAPSHOT) {
		sharer->fd = snapshot_take(resident, granularity);
		return sharer->fd < 0 ? sharer->fd : 0;
	}
	sharer->child = fork();
	if (sharer->child < 0)
		return -errno;
	while (!sharer->child)
		pause();
	usleep(10000);
	return 0;
}

/* Memory that was written, and that somebody else reads then. */
static int shared_make(struct resident *resident, struct sharer *sharer,
		       const struct memory *memory, size_t granularity)
{
	int ret = resident_make(resident, memory, nr_touch_chunks * CHUNK);

	if (ret)
		return ret;
	resident_touch(resident);
	return sharer_begin(sharer, resident, granularity);
}

static void sharer_end(struct sharer *sharer)
{
	if (sharer->fd >= 0)
		close(sharer->fd);
	if (sharer->child) {
		kill(sharer->child, SIGKILL);
		waitpid(sharer->child, NULL, 0);
	}
}

/* Sum of a field of the mapping at @map, in bytes. */
static size_t smaps_bytes(const void *map, const char *field)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	size_t length = strlen(field), bytes = 0;
	bool here = false;
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= (uintptr_t)map && (uintptr_t)map < end;
		else if (here && !strncmp(line, field, length) && line[length] == ':')
			bytes += strtoul(line + length + 1, NULL, 10) << 10;
	}
	if (file)
		fclose(file);
	return bytes;
}

/* Whether all that is mapped is mapped 2 MiB at a time. */
static bool is_mapped_huge(const void *map, size_t size)
{
	size_t rss = smaps_bytes(map, "Rss");

	return rss == size && rss == smaps_bytes(map, "FilePmdMapped");
}

/*
 * First writes through @map, which must not be mapped by smaller pages for it.
 * The first chunk only warms up.
 */
static int write_shared(const struct resident *resident, char *map, struct samples *samples)
{
	uint64_t start, overhead;
	size_t i;

	chunk_touch(map, true);
	clock_wait_tick();
	start = clock_read();
	chunk_touch(map, true);
	overhead = clock_read() - start;
	for (i = 1; i < resident->size / CHUNK; i++) {
		clock_wait_tick();
		start = clock_read();
		chunk_touch(map + i * CHUNK, true);
		samples_add(samples, (double)(clock_read() - start) - overhead);
	}
	if ((resident->memory->kind & MEMORY_SNAPSHOT) && !is_mapped_huge(map, resident->size)) {
		fprintf(stderr, "%s: not all in 2 MiB mappings after writes\n", resident->memory->name);
		return -EIO;
	}
	return 0;
}

static int write_after(const struct memory *memory, struct samples *samples)
{
	struct resident resident;
	struct sharer sharer;
	int ret = shared_make(&resident, &sharer, memory, CHUNK);

	if (ret)
		return ret;
	ret = write_shared(&resident, resident.map, samples);
	sharer_end(&sharer);
	return ret ? ret : resident_end(&resident);
}

/* The snapshot is written to, not what it was taken from. */
static int write_inside(const struct memory *memory, struct samples *samples)
{
	struct resident resident;
	struct sharer sharer;
	char *map;
	int ret = shared_make(&resident, &sharer, memory, CHUNK);

	if (ret)
		return ret;
	map = memory_map(memory, sharer.fd, resident.size, false);
	if (map == MAP_FAILED)
		return -errno;
	ret = write_shared(&resident, map, samples);
	munmap(map, resident.size);
	sharer_end(&sharer);
	return ret ? ret : resident_end(&resident);
}

/* One page of each chunk, after @nr_before others, each in a block of its own that the write copies. */
static int write_block_after(const struct memory *memory, struct samples *samples,
			     size_t granularity, size_t nr_before)
{
	struct resident resident;
	struct sharer sharer;
	uint64_t start;
	size_t i, nth;
	int ret = shared_make(&resident, &sharer, memory, granularity);

	if (ret)
		return ret;
	for (i = 0; i < nr_touch_chunks; i++) {
		volatile char *byte = resident.map + i * CHUNK;

		for (nth = 0; nth < nr_before; nth++, byte += 3 * granularity)
			*byte = 1;
		clock_wait_tick();
		start = clock_read();
		*byte = 1;
		samples_add(samples, clock_read() - start);
	}
	sharer_end(&sharer);
	return resident_end(&resident);
}

static int write_first_page(const struct memory *memory, struct samples *samples)
{
	return write_block_after(memory, samples, PAGE, 0);
}

static int write_next_page(const struct memory *memory, struct samples *samples)
{
	return write_block_after(memory, samples, PAGE, 4);
}

static int write_first_block(const struct memory *memory, struct samples *samples)
{
	return write_block_after(memory, samples, BLOCK, 0);
}

static int write_next_block(const struct memory *memory, struct samples *samples)
{
	return write_block_after(memory, samples, BLOCK, 4);
}

/* Copying without anything else: how the kernel copies pages, all at once. */
static int copy(const struct memory *memory, struct samples *samples)
{
	struct resident resident;
	size_t i;
	int ret = resident_make(&resident, memory, nr_touch_chunks * CHUNK);

	if (ret)
		return ret;
	resident_touch(&resident);
	for (i = 1; i < nr_touch_chunks; i++) {
		const char *source = resident.map + (i - 1) * CHUNK;
		char *target = resident.map + i * CHUNK;
		size_t words = CHUNK / sizeof(uint64_t);
		uint64_t start;

		clock_wait_tick();
		start = clock_read();
		asm volatile("rep movsq" : "+S" (source), "+D" (target), "+c" (words) : : "memory");
		samples_add(samples, clock_read() - start);
	}
	return resident_end(&resident);
}

/* Returns how many ranges differ. */
static int diff_all(int fd, int snapshot)
{
	struct dvsm_range ranges[64];
	struct dvsm_region_diff arg = {
		.size = sizeof(arg),
		.ranges = (uintptr_t)ranges,
		.nr_ranges = ARRAY_SIZE(ranges),
		.other = snapshot,
	};
	int nr = 0;

	do {
		arg.length = 0;
		if (ioctl(fd, DVSM_IOC_REGION_DIFF, &arg))
			return -errno;
		nr += arg.out_nr_ranges;
		arg.offset = arg.out_next;
	} while (arg.offset < nr_large_chunks * CHUNK);
	return nr;
}

/* Returns how many pages were restored. */
static int restore_all(int fd, int snapshot)
{
	struct dvsm_snapshot_restore arg = { .size = sizeof(arg), .snapshot = snapshot };

	return ioctl(fd, DVSM_IOC_SNAPSHOT_RESTORE, &arg) ? -errno : (int)(arg.out_restored / PAGE);
}

/* Returns how many pages were merged. */
static int merge_all(int fd, int snapshot)
{
	struct dvsm_snapshot_merge arg = { .size = sizeof(arg), .snapshot = snapshot };

	return ioctl(fd, DVSM_IOC_SNAPSHOT_MERGE, &arg) ? -errno : (int)(arg.out_merged / PAGE);
}

/* A command that goes by what differs between a region and its snapshot. */
struct comparison {
	int (*run)(int fd, int snapshot);
	bool of_snapshot;	/* it is the snapshot that was written to */
	size_t granularity;
	size_t nr_diverged;	/* pages, each in a chunk of its own */
	bool hole;		/* the last chunk, too, a hole when the snapshot was taken */
};

static int compare(const struct memory *memory, struct samples *samples,
		   const struct comparison *comparison)
{
	size_t i, nr_diverged = comparison->nr_diverged;
	struct resident resident;
	struct sharer sharer;
	char *map;
	int ret = resident_make(&resident, memory, nr_large_chunks * CHUNK);

	if (ret)
		return ret;
	resident.size -= comparison->hole * CHUNK;
	write_each(&resident, CHUNK);
	resident.size += comparison->hole * CHUNK;
	ret = sharer_begin(&sharer, &resident, comparison->granularity);
	if (ret)
		return ret;
	map = memory_map(memory, comparison->of_snapshot ? sharer.fd : resident.fd, resident.size,
			 false);
	if (map == MAP_FAILED)
		return -errno;
	for (i = 0; i < NR_COMPARISONS; i++) {
		uint64_t start;
		size_t at;
		int nr;

		/* Not adjacent: each is a range of its own. */
		for (at = 0; at < nr_diverged; at++)
			((volatile char *)map)[2 * at * CHUNK]++;
		if (comparison->hole)
			((volatile char *)map)[resident.size - CHUNK]++;
		clock_wait_tick();
		start = clock_read();
		nr = comparison->run(resident.fd, sharer.fd);
		samples_add(samples, clock_read() - start);
		if (nr != nr_diverged + comparison->hole)
			return nr < 0 ? nr : -EIO;
	}
	munmap(map, resident.size);
	sharer_end(&sharer);
	return resident_end(&resident);
}

static size_t nr_diverged_of(size_t wanted)
{
	return wanted < nr_large_chunks / 2 ? wanted : nr_large_chunks / 2;
}

#define COMPARISON(name, command, written, bytes, nr, ...) \
static int name(const struct memory *memory, struct samples *samples) \
{ \
	return compare(memory, samples, &(struct comparison) { \
		.run = command, \
		.of_snapshot = written, \
		.granularity = bytes, \
		.nr_diverged = nr, \
		__VA_ARGS__ \
	}); \
}

COMPARISON(diff_none, diff_all, false, CHUNK, 0)
COMPARISON(diff_some, diff_all, false, CHUNK, nr_diverged_of(NR_DIVERGED))
COMPARISON(diff_pages, diff_all, false, PAGE, nr_diverged_of(NR_DIVERGED))
COMPARISON(diff_fewer_pages, diff_all, false, PAGE, nr_diverged_of(NR_DIVERGED) / 2)
COMPARISON(diff_hole, diff_all, false, PAGE, nr_diverged_of(NR_DIVERGED) - 1, .hole = true)
COMPARISON(restore_pages, restore_all, false, PAGE, nr_diverged_of(NR_DIVERGED))
COMPARISON(restore_fewer_pages, restore_all, false, PAGE, nr_diverged_of(NR_DIVERGED) / 2)
COMPARISON(merge_pages, merge_all, true, PAGE, nr_diverged_of(NR_DIVERGED))
COMPARISON(merge_fewer_pages, merge_all, true, PAGE, nr_diverged_of(NR_DIVERGED) / 2)

/* Bytes that all regions have, by the module's own count; what is anybody's page table is not among them. */
static int charged(size_t *bytes)
{
	int fd = open(DVSM_DEVICE_PATH, O_RDWR | O_CLOEXEC);
	struct dvsm_info info = { .size = sizeof(info) };
	int ret = fd < 0 || ioctl(fd, DVSM_IOC_INFO, &info) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	*bytes = info.out_charged;
	return ret;
}

/* Pages, not instructions: what a large region has, and what a hundredth of random writes adds after a snapshot. */
static int pages_of(const struct memory *memory, struct samples *samples, bool extra)
{
	struct resident resident;
	struct sharer sharer;
	size_t i, before, after;
	uint64_t seed = 1;
	int ret = resident_make(&resident, memory, nr_large_chunks * CHUNK);

	if (ret)
		return ret;
	write_each(&resident, CHUNK);
	ret = sharer_begin(&sharer, &resident, PAGE);
	if (!ret)
		ret = charged(&before);
	if (ret)
		return ret;
	for (i = 0; extra && i < resident.size / PAGE / 100; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		((volatile char *)resident.map)[(seed >> 33) % (resident.size / PAGE) * PAGE]++;
	}
	ret = charged(&after);
	samples_add(samples, (double)(extra ? after - before : before) / PAGE);
	sharer_end(&sharer);
	return ret ? ret : resident_end(&resident);
}

static int pages_whole(const struct memory *memory, struct samples *samples)
{
	return pages_of(memory, samples, false);
}

static int pages_extra(const struct memory *memory, struct samples *samples)
{
	return pages_of(memory, samples, true);
}

#define MEMORY_COPIED	(MEMORY_SNAPSHOT | MEMORY_ANON)

const struct measure snapshot_measures[] = {
	{ "snapshot-take", "snapshot of a large resident region (beside fork() above)",
	  MEMORY_SNAPSHOT, .run = take },
	{ "snapshot-take-1t", "snapshot of a region of 1 TiB with the same number of chunks",
	  MEMORY_SNAPSHOT, .run = take_sparse },
	{ "snapshot-take-4t", "snapshot of a region of 4 TiB with the same number of chunks",
	  MEMORY_SNAPSHOT, .run = take_sparser },
	{ "copy", "copying 2 MiB and nothing else", MEMORY_ANON, .run = copy },
	{ "snapshot-write", "first write to each page of 2 MiB after a snapshot or fork()",
	  MEMORY_COPIED, .run = write_after, .allocated = CHUNK },
	{ "snapshot-own-write", "the same, written in the snapshot",
	  MEMORY_SNAPSHOT, .run = write_inside, .allocated = CHUNK },
	{ "snapshot-first-4k", "first write to a chunk after fork() or a snapshot that copies 4 KiB",
	  MEMORY_COPIED, .run = write_first_page, .allocated = PAGE },
	{ "snapshot-write-4k", "the fifth write there, to another page",
	  MEMORY_COPIED, .run = write_next_page, .allocated = PAGE },
	{ "snapshot-first-64k", "first write to a chunk after a snapshot that copies 64 KiB",
	  MEMORY_SNAPSHOT, .run = write_first_block, .allocated = BLOCK },
	{ "snapshot-write-64k", "the fifth write there, to another 64 KiB",
	  MEMORY_SNAPSHOT, .run = write_next_block, .allocated = BLOCK },
	{ "pages", "pages (not instructions) of a large region", MEMORY_SNAPSHOT, .run = pages_whole },
	{ "pages-extra", "pages that 1 % of random writes add after a snapshot that copies 4 KiB",
	  MEMORY_SNAPSHOT, .run = pages_extra },
	{ "diff-none", "diff of a large region without differences", MEMORY_SNAPSHOT, .run = diff_none },
	{ "diff-100", "diff of a large region with 100 chunks of difference", MEMORY_SNAPSHOT,
	  .run = diff_some },
	{ "diff-100-4k", "diff of a large region with 100 pages of difference, at 4 KiB", MEMORY_SNAPSHOT,
	  .run = diff_pages },
	{ "diff-50-4k", "the same with 50 pages", MEMORY_SNAPSHOT, .run = diff_fewer_pages },
	{ "diff-hole-4k", "diff of a large region with 99 pages, and a hole that was written to",
	  MEMORY_SNAPSHOT, .run = diff_hole },
	{ "restore-100-4k", "restore of a large region with 100 pages of difference, at 4 KiB",
	  MEMORY_SNAPSHOT, .run = restore_pages },
	{ "restore-50-4k", "the same with 50 pages", MEMORY_SNAPSHOT, .run = restore_fewer_pages },
	{ "merge-100-4k", "merge of a snapshot with 100 pages of difference, at 4 KiB",
	  MEMORY_SNAPSHOT, .run = merge_pages },
	{ "merge-50-4k", "the same with 50 pages", MEMORY_SNAPSHOT, .run = merge_fewer_pages },
	{},
};
