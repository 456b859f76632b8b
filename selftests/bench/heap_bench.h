/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An allocator under the benchmark. One program is built for each: heap_bench.c and one adapter.
 *
 * PROCESSES says how its workers share memory: as processes that were forked after bench_begin(), or as threads.
 */
#ifndef DVSM_HEAP_BENCH_H
#define DVSM_HEAP_BENCH_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

extern const bool bench_processes;
void bench_begin(size_t most);	/* bytes that will be live at most */
void *bench_malloc(size_t size);
void bench_free(void *block);
void bench_trim(void);		/* all that is free goes back now, as far as the allocator can be asked to */
size_t bench_resident(void);	/* bytes of memory behind the allocator that RSS does not count; 0: none */

#ifdef __cplusplus
}
#endif

#endif /* DVSM_HEAP_BENCH_H */
