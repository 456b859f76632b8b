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

void bench_trim(void)
{
	dvsm_heap_trim(dvsm_heap_default(), 0);
}

/* What of the region is not mapped here. */
size_t bench_resident(void)
{
	struct dvsm_region_info info = { .size = sizeof(info) };
	size_t mapped = smaps_bytes("Pss_Shmem");

	dvsm_region_info(dvsm_heap_region(dvsm_heap_default()), &info);
	return info.out_resident > mapped ? info.out_resident - mapped : 0;
}

#define bench_malloc	dvsm_malloc
#define bench_free	dvsm_free
