/* SPDX-License-Identifier: GPL-2.0-only */
/* malloc() of the C library, or of what LD_PRELOAD puts in its place: private to a process. */
#include <malloc.h>

const bool bench_processes = false;

/* Each is there if its library is. */
void mi_collect(bool force) __attribute__((weak));
int mallctl(const char *name, void *old, size_t *old_length, void *new, size_t new_length) __attribute__((weak));
void MallocExtension_ReleaseFreeMemory(void) __attribute__((weak));

void bench_begin(size_t most)
{
	(void)most;
}

void bench_trim(void)
{
	if (mi_collect) {
		mi_collect(true);
	} else if (mallctl) {
		mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
		/* 4096: of all arenas. */
		mallctl("arena.4096.purge", NULL, NULL, NULL, 0);
	} else if (MallocExtension_ReleaseFreeMemory) {
		MallocExtension_ReleaseFreeMemory();
	} else {
		malloc_trim(0);
	}
}

size_t bench_resident(void)
{
	return 0;
}

#define bench_malloc	malloc
#define bench_free	free
