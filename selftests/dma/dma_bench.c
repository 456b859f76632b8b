// SPDX-License-Identifier: GPL-2.0-only
/*
 * What memory of 1 GiB costs devices, by kind of memory and by consumer, and which bars dvsm meets:
 *
 *   dma_bench [MIB]
 *
 * Registering: nanoseconds, which are instructions where scripts/vm/run.sh --icount runs it. All memory is resident before. Then
 * the entries of a dma-buf's scatter list. Exits with 1 if a bar is missed; what could not be measured misses it.
 */
#include <math.h>
#include <time.h>
#include <sys/mman.h>

#include <infiniband/verbs.h>
#include <linux/types.h>
#include <linux/udmabuf.h>

#include "dma.h"
#include "importer/importer.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4
#endif

static size_t length = GIB;

static void *populate(void *memory)
{
	size_t at;

	if (memory == MAP_FAILED)
		return NULL;
	for (at = 0; at < length; at += PAGE)
		((volatile char *)memory)[at] = 1;
	return memory;
}

static void *map_and_close(int fd)
{
	void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	close(fd);
	return populate(memory);
}

static void *memory_hugetlb(void)
{
	return map_and_close(memfd_create("bench", MFD_HUGETLB));
}

static int region_of(uint32_t flags)
{
	int dev = device_open(O_RDWR), fd = region_create(dev, length, flags);

	close(dev);
	return fd;
}

static void *memory_dvsm(uint32_t flags)
{
	int fd = region_of(flags);
	void *memory = region_map(fd, length, 0);

	close(fd);
	return populate(memory);
}

static void *memory_pinned(void)
{
	return memory_dvsm(DVSM_REGION_F_PINNED);
}

static void *memory_registrable(void)
{
	return memory_dvsm(DVSM_REGION_F_REGISTRABLE);
}

static void *memory_private(int advice)
{
	char *memory = mmap(NULL, length + CHUNK, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memory += -(uintptr_t)memory % CHUNK;
	madvise(memory, length, advice);
	return populate(memory);
}

static void *memory_thp(void)
{
	return memory_private(MADV_HUGEPAGE);
}

static void *memory_small(void)
{
	return memory_private(MADV_NOHUGEPAGE);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

/* Nanoseconds; 0 if it cannot be done. */
static uint64_t register_uring(void *memory)
{
	struct uring ring;
	uint64_t start, end;
	int error;

	if (uring_open(&ring, 4))
		return 0;
	start = now();
	error = uring_register_buffers(&ring, memory, length);
	end = now();
	uring_close(&ring);
	return error ? 0 : end - start;
}

static uint64_t register_verbs(void *memory)
{
	static struct ibv_pd *domain;
	struct ibv_device **devices;
	uint64_t start, end;
	struct ibv_mr *mr;

	if (!domain) {
		devices = ibv_get_device_list(NULL);
		if (!devices || !devices[0])
			return 0;
		domain = ibv_alloc_pd(ibv_open_device(devices[0]));
	}
	start = now();
	mr = ibv_reg_mr(domain, memory, length, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	end = now();
	if (mr)
		ibv_dereg_mr(mr);
	return mr ? end - start : 0;
}

/* dma-bufs. A descriptor, or a negative number. */
static int export_dvsm(void)
{
	int region = region_of(DVSM_REGION_F_PINNED), dmabuf = region_export(region, 0, length);

	close(region);
	return dmabuf;
}

/* Of shmem's pages of 4 KiB. udmabuf takes no more than udmabuf.size_limit_mb says. */
static int export_udmabuf(void)
{
	int driver = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), dmabuf = -1;
	struct udmabuf_create create = {
		.memfd = memfd_create("bench", MFD_ALLOW_SEALING),
		.size = length,
	};

	if (driver >= 0 && !ftruncate(create.memfd, length) &&
	    !fcntl(create.memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		dmabuf = ioctl(driver, UDMABUF_CREATE, &create);
	close(create.memfd);
	close(driver);
	return dmabuf;
}

/* What a device without limits is given; no entry if it cannot be done, or if one is wrong. */
static struct importer_map scatter_list(int dmabuf)
{
	struct importer_attach attach = {
		.dma_mask = ~0ULL,
		.segment_boundary = ~0ULL,
		.segment_max = UINT32_MAX,
		.fd = dmabuf,
	};
	struct importer_map map = {};
	int importer = open(IMPORTER_PATH, O_RDWR | O_CLOEXEC);

	if (dmabuf < 0 || ioctl(importer, IMPORTER_ATTACH, &attach) ||
	    ioctl(importer, IMPORTER_MAP, &map) || map.out_total != length)
		map = (struct importer_map) {};
	close(importer);
	close(dmabuf);
	return map;
}

enum kind { HUGETLB, PINNED, REGISTRABLE, THP, SMALL, NR_KINDS };

static const struct {
	const char *name;
	void *(*make)(void);
} kinds[NR_KINDS] = {
	[HUGETLB] = { "hugetlb memfd", memory_hugetlb },
	[PINNED] = { "dvsm pinned", memory_pinned },
	[REGISTRABLE] = { "dvsm registrable", memory_registrable },
	[THP] = { "THP", memory_thp },
	[SMALL] = { "4 KiB pages", memory_small },
};

static const struct {
	const char *name;
	uint64_t (*cost)(void *memory);
} consumers[] = {
	{ "io_uring_register_buffers", register_uring },
	{ "ibv_reg_mr (rxe)", register_verbs },
};

static uint64_t costs[ARRAY_SIZE(consumers)][NR_KINDS];

static const struct {
	const char *name;
	int (*export)(void);
	bool merges;
} exporters[] = {
	{ "dvsm pinned", export_dvsm, true },
	{ "udmabuf, 4 KiB pages", export_udmabuf, false },
};

/* NaN where one of the two could not be measured. */
static double ratio(double cost, double other)
{
	return cost && other ? cost / other : NAN;
}

static void register_all(void)
{
	size_t kind, consumer;

	for (kind = 0; kind < NR_KINDS; kind++) {
		void *memory = kinds[kind].make();

		for (consumer = 0; memory && consumer < ARRAY_SIZE(consumers); consumer++)
			costs[consumer][kind] = consumers[consumer].cost(memory);
		if (memory)
			munmap(memory, length);
	}
}

static void register_report(size_t consumer)
{
	const uint64_t *cost = costs[consumer];
	size_t kind;

	printf("%s of %zu MiB\n", consumers[consumer].name, length / MIB);
	for (kind = 0; kind < NR_KINDS; kind++)
		if (cost[kind])
			printf("  %-20s %12lu ns, %5.2f times hugetlb, %5.2f times below 4 KiB\n",
			       kinds[kind].name, cost[kind], ratio(cost[kind], cost[HUGETLB]),
			       ratio(cost[SMALL], cost[kind]));
		else
			printf("  %-20s cannot be done here\n", kinds[kind].name);
}

/* Entries of dvsm's list. */
static unsigned int list_report(void)
{
	unsigned int nr_entries = 0;
	size_t i;

	printf("dma-buf scatter list of %zu MiB: entries\n", length / MIB);
	for (i = 0; i < ARRAY_SIZE(exporters); i++) {
		struct importer_map map = scatter_list(exporters[i].export());

		if (!map.out_nr_entries)
			printf("  %-20s cannot be done here\n", exporters[i].name);
		else
			printf("  %-20s %12u, the longest of %llu KiB\n", exporters[i].name,
			       map.out_nr_entries, map.out_longest >> 10);
		/* What could be one entry, and is two. */
		if (exporters[i].merges && map.out_nr_wrong)
			printf("  %-20s %12u of them are wrong\n", "", map.out_nr_wrong);
		else if (exporters[i].merges)
			nr_entries = map.out_nr_entries;
	}
	return nr_entries;
}

/* Returns whether it is missed, as it is by what is not a number. */
static int bar(const char *what, const char *which, double value, bool at_most, double limit)
{
	bool met = at_most ? value <= limit : value >= limit;

	printf("  %-26s %-32s %7.2f, %s %g: %s\n", what, which, value,
	       at_most ? "at most" : "at least", limit, met ? "met" : "MISSED");
	return !met;
}

int main(int argc, char **argv)
{
	unsigned int nr_entries;
	size_t consumer, kind;
	int nr_missed = 0;

	if (argc > 1)
		length = strtoul(argv[1], NULL, 0) * MIB;
	register_all();
	for (consumer = 0; consumer < ARRAY_SIZE(consumers); consumer++)
		register_report(consumer);
	nr_entries = list_report();
	printf("bars\n");
	for (consumer = 0; consumer < ARRAY_SIZE(consumers); consumer++)
		for (kind = PINNED; kind <= REGISTRABLE; kind++) {
			const uint64_t *cost = costs[consumer];
			char which[64];

			snprintf(which, sizeof(which), "%s / hugetlb", kinds[kind].name);
			nr_missed += bar(consumers[consumer].name, which,
					 ratio(cost[kind], cost[HUGETLB]), true, 1.25);
			snprintf(which, sizeof(which), "4 KiB pages / %s", kinds[kind].name);
			nr_missed += bar(consumers[consumer].name, which,
					 ratio(cost[SMALL], cost[kind]), false, 5);
		}
	nr_missed += bar("dma-buf scatter list", "entries", nr_entries ?: NAN, true,
			 (double)length / CHUNK);
	return nr_missed ? 1 : 0;
}
