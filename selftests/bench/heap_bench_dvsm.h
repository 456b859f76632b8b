/* SPDX-License-Identifier: GPL-2.0-only */
/* dvsm's own heap, shared between processes; with BENCH_DVSM_INLINE its fast paths are in the caller. */
#ifdef BENCH_DVSM_INLINE
#include <dvsm/heap_inline.h>
#else
#include <dvsm/heap.h>
#endif

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
