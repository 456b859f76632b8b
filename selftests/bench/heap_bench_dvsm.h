/* SPDX-License-Identifier: GPL-2.0-only */
/* dvsm's own heap, shared between processes. */
#include <dvsm/heap.h>

const bool bench_processes = true;

void bench_begin(size_t most)
{
	(void)most;
	dvsm_free(dvsm_malloc(1));
}

size_t bench_resident(void)
{
	return 0;
}

#define bench_malloc	dvsm_malloc
#define bench_free	dvsm_free
