// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kinds of memory that are compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/dvsm.h>
#include <linux/memfd.h>

#include "kernel_bench.h"

#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"

static int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static unsigned long file_number(const char *path)
{
	unsigned long number = 0;
	FILE *file = fopen(path, "re");

	if (file) {
		if (fscanf(file, "%lu", &number) != 1)
			number = 0;
		fclose(file);
	}
	return number;
}

static int pool_set(size_t size)
{
	char text[32];

	snprintf(text, sizeof(text), "%zu", size / CHUNK);
	return file_write(NR_HUGEPAGES, text);
}

static int pool_fill(size_t size)
{
	int ret = pool_set(size);

	return ret ? ret : file_number(NR_HUGEPAGES) == size / CHUNK ? 0 : -ENOMEM;
}

static int pool_empty(void)
{
	return pool_set(0);
}

/* Let work that an earlier measure left behind be done. */
void memory_settle(void)
{
	pool_set(0);
	sync();
	usleep(100000);
}

/* hugetlb's pages are zeroed when they are used; in its pool only if all pages are. */
bool memory_is_zeroed_by_allocator(void)
{
	const unsigned int nr = 8;
	static int known = -1;

	if (known < 0) {
		uint64_t start = clock_read();

		pool_set(nr * CHUNK);
		known = clock_read() - start > nr / 2 * clock_zeroing();
		pool_empty();
	}
	return known;
}

static int hugetlb_open(size_t size)
{
	int fd = memfd_create("bench", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);

	if (fd < 0)
		return -errno;
	return ftruncate(fd, size) ? -errno : fd;
}

static int shmem_prepare_huge(size_t size)
{
	(void)size;
	return file_write(THP "shmem_enabled", "always");
}

static int shmem_prepare_small(size_t size)
{
	(void)size;
	return file_write(THP "shmem_enabled", "never");
}

static int shmem_open(size_t size)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	return ftruncate(fd, size) ? -errno : fd;
}

static int anon_prepare(size_t size)
{
	(void)size;
	return file_write(THP "enabled", "madvise");
}

static int anon_open(size_t size)
{
	(void)size;
	return -1;
}

/* Anonymous memory has no alignment of its own, and is to be advised before it is touched. */
static void *anon_map(size_t size, int advice, bool populate)
{
	char *raw = mmap(NULL, size + CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			 -1, 0);
	char *memory = (char *)(((uintptr_t)raw + CHUNK - 1) & ~(CHUNK - 1));

	if (raw == MAP_FAILED)
		return MAP_FAILED;
	if (memory > raw)
		munmap(raw, memory - raw);
	munmap(memory + size, raw + CHUNK - memory);
	memory = mmap(memory, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (memory == MAP_FAILED || madvise(memory, size, advice))
		return MAP_FAILED;
	/* What MAP_POPULATE does, after the advice that it would come too early for. */
	if (populate && madvise(memory, size, MADV_POPULATE_WRITE))
		return MAP_FAILED;
	return memory;
}

static void *anon_map_huge(int fd, size_t size, bool populate)
{
	(void)fd;
	return anon_map(size, MADV_HUGEPAGE, populate);
}

static void *anon_map_small(int fd, size_t size, bool populate)
{
	(void)fd;
	return anon_map(size, MADV_NOHUGEPAGE, populate);
}

static int dvsm_open(size_t size)
{
	int fd = open(DVSM_DEVICE_PATH, O_RDWR | O_CLOEXEC);

	(void)size;
	return fd < 0 ? -errno : fd;
}

static int dvsm_open_region(size_t size)
{
	struct dvsm_region_create arg = { .size = sizeof(arg), .length = size, .label = "bench" };
	int device = dvsm_open(size), fd;

	if (device < 0)
		return device;
	fd = ioctl(device, DVSM_IOC_REGION_CREATE, &arg);
	if (fd < 0)
		fd = -errno;
	close(device);
	return fd;
}

static int dvsm_populate(int fd, size_t size)
{
	struct dvsm_region_populate arg = { .size = sizeof(arg), .length = size, .nr_threads = 1 };

	return ioctl(fd, DVSM_IOC_REGION_POPULATE, &arg) ? -errno : 0;
}

void *memory_map(const struct memory *memory, int fd, size_t size, bool populate)
{
	if (memory->map)
		return memory->map(fd, size, populate);
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (populate ? MAP_POPULATE : 0),
		    fd, 0);
}

int resident_make(struct resident *resident, const struct memory *memory, size_t size)
{
	int ret = 0;

	resident->memory = memory;
	resident->size = size;
	if (memory->prepare)
		ret = memory->prepare(size);
	if (!ret && memory->acquire)
		ret = memory->acquire(size);
	if (ret)
		return ret;
	resident->fd = memory->open(size);
	if (resident->fd < -1)
		return resident->fd;
	resident->map = memory_map(memory, resident->fd, size, true);
	return resident->map == MAP_FAILED ? -errno : 0;
}

int resident_end(struct resident *resident)
{
	munmap(resident->map, resident->size);
	if (resident->fd >= 0)
		close(resident->fd);
	return resident->memory->release ? resident->memory->release() : 0;
}

void chunk_touch(volatile char *chunk, bool write)
{
	size_t i;

	for (i = 0; i < CHUNK; i += PAGE) {
		if (write)
			chunk[i] = 1;
		else
			(void)chunk[i];
	}
}

void resident_touch(struct resident *resident)
{
	size_t i;

	for (i = 0; i < resident->size; i += CHUNK)
		chunk_touch(resident->map + i, true);
}

const struct memory memories[] = {
	{ "dvsm-region", "dvsm, region", MEMORY_DVSM | MEMORY_SNAPSHOT | MEMORY_HUGE,
	  .open = dvsm_open_region, .populate = dvsm_populate },
	{ "dvsm-implicit", "dvsm, mmap of the device", MEMORY_DVSM | MEMORY_HUGE, .open = dvsm_open },
	{ "hugetlb", "hugetlb, pool filled before", MEMORY_HUGETLB | MEMORY_HUGE, .prepare = pool_fill,
	  .open = hugetlb_open },
	{ "hugetlb-fill", "hugetlb, filling its pool", MEMORY_HUGETLB | MEMORY_HUGE,
	  .acquire = pool_set, .open = hugetlb_open, .release = pool_empty },
	{ "shmem-thp", "shmem, THP", MEMORY_SHMEM | MEMORY_HUGE, .prepare = shmem_prepare_huge,
	  .open = shmem_open },
	{ "shmem-4k", "shmem, 4 KiB", MEMORY_SHMEM, .prepare = shmem_prepare_small,
	  .open = shmem_open },
	{ "anon-thp", "anonymous, THP", MEMORY_ANON | MEMORY_HUGE, .prepare = anon_prepare,
	  .open = anon_open, .map = anon_map_huge },
	{ "anon-4k", "anonymous, 4 KiB", MEMORY_ANON, .prepare = anon_prepare, .open = anon_open,
	  .map = anon_map_small },
};
const size_t nr_memories = ARRAY_SIZE(memories);
