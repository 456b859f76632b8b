/* SPDX-License-Identifier: GPL-2.0-only */
/* malloc() of the C library, or of what LD_PRELOAD puts in its place: private to a process. */
const bool bench_processes = false;

void bench_begin(size_t most)
{
	(void)most;
}

size_t bench_resident(void)
{
	return 0;
}

#define bench_malloc	malloc
#define bench_free	free
