// SPDX-License-Identifier: GPL-2.0-only
/*
 * What registering 1 GiB of memory costs, by kind of memory and by consumer:
 *
 *   dma_bench [MIB]
 *
 * All memory is resident before. Prints nanoseconds, which are instructions where
 * scripts/vm/run.sh --icount runs it, and how often hugetlb's they are.
 */
#include <time.h>
#include <sys/mman.h>

#include <infiniband/verbs.h>

#include "common.h"

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

static void *memory_hugetlb(void)
{
	int fd = memfd_create("bench", MFD_HUGETLB);

	return populate(mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
}

static void *memory_dvsm(uint32_t flags)
{
	int fd = region_create(device_open(O_RDWR), length, flags);

	return fd < 0 ? NULL : populate(region_map(fd, length, 0));
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

static const struct {
	const char *name;
	void *(*make)(void);
} kinds[] = {
	{ "hugetlb memfd", memory_hugetlb },	/* the first one is what others are compared with */
	{ "dvsm pinned", memory_pinned },
	{ "dvsm registrable", memory_registrable },
	{ "THP", memory_thp },
	{ "4 KiB pages", memory_small },
};

static const struct {
	const char *name;
	uint64_t (*cost)(void *memory);
} consumers[] = {
	{ "io_uring_register_buffers", register_uring },
	{ "ibv_reg_mr (rxe)", register_verbs },
};

int main(int argc, char **argv)
{
	uint64_t costs[ARRAY_SIZE(consumers)][ARRAY_SIZE(kinds)] = {};
	size_t kind, consumer;

	if (argc > 1)
		length = strtoul(argv[1], NULL, 0) * MIB;
	for (kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		void *memory = kinds[kind].make();

		for (consumer = 0; memory && consumer < ARRAY_SIZE(consumers); consumer++)
			costs[consumer][kind] = consumers[consumer].cost(memory);
		if (memory)
			munmap(memory, length);
	}
	for (consumer = 0; consumer < ARRAY_SIZE(consumers); consumer++) {
		printf("%s of %zu MiB\n", consumers[consumer].name, length / MIB);
		for (kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
			uint64_t cost = costs[consumer][kind], base = costs[consumer][0];

			if (!cost)
				printf("  %-18s cannot be done here\n", kinds[kind].name);
			else if (!base)
				printf("  %-18s %12lu ns\n", kinds[kind].name, cost);
			else
				printf("  %-18s %12lu ns %8.2f times hugetlb\n", kinds[kind].name,
				       cost, (double)cost / base);
		}
	}
	return 0;
}
