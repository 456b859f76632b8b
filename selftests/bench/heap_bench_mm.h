/* SPDX-License-Identifier: GPL-2.0-only */
/* OSSP mm: one segment and a lock of fcntl(). */
#include <mm.h>

const bool bench_processes = true;
static MM *bench_mm;

void bench_begin(size_t most)
{
	if (most > mm_maxsize())
		most = mm_maxsize();
	bench_mm = mm_create(most, NULL);
	if (!bench_mm)
		abort();
}

void bench_trim(void)
{
}

size_t bench_resident(void)
{
	return 0;
}

void *bench_malloc(size_t size)
{
	return mm_malloc(bench_mm, size);
}

void bench_free(void *block)
{
	if (block)
		mm_free(bench_mm, block);
}
