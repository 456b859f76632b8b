// SPDX-License-Identifier: LGPL-2.1-or-later
/* The malloc family on the default heap. */
#include <string.h>

#include "heap_backing.h"
#include "heap_fast.h"

/* One comparison for sizes that are not small, and for a heap that is not made yet. */
DVSM_HOT void *dvsm_malloc(size_t size)
{
	if (dvsm_unlikely(size >= __atomic_load_n(&dvsm_default_heap.fast.limit, __ATOMIC_ACQUIRE)))
		return dvsm_malloc_large(size, &dvsm_default_heap);
	return dvsm_malloc_small(&dvsm_default_heap, size);
}

DVSM_HOT void dvsm_free(void *address)
{
	dvsm_free_fast(&dvsm_default_heap, address);
}

void dvsm_free_sized(void *address, size_t size)
{
	(void)size;
	dvsm_free(address);
}

void dvsm_free_aligned_sized(void *address, size_t alignment, size_t size)
{
	(void)alignment;
	(void)size;
	dvsm_free(address);
}

void *dvsm_calloc(size_t nr, size_t size)
{
	struct dvsm_heap *heap = dvsm_heap_default();

	return heap ? dvsm_heap_calloc(heap, nr, size) : dvsm_fail_null(ENOMEM);
}

void *dvsm_realloc(void *address, size_t size)
{
	struct dvsm_heap *heap = dvsm_heap_default();

	return heap ? dvsm_heap_realloc(heap, address, size) : dvsm_fail_null(ENOMEM);
}

void *dvsm_reallocarray(void *address, size_t nr, size_t size)
{
	struct dvsm_heap *heap = dvsm_heap_default();

	return heap ? dvsm_heap_reallocarray(heap, address, nr, size) : dvsm_fail_null(ENOMEM);
}

void *dvsm_memalign(size_t alignment, size_t size)
{
	struct dvsm_heap *heap = dvsm_heap_default();

	return heap ? dvsm_heap_memalign(heap, alignment, size) : dvsm_fail_null(ENOMEM);
}

void *dvsm_aligned_alloc(size_t alignment, size_t size)
{
	return dvsm_memalign(alignment, size);
}

int dvsm_posix_memalign(void **address, size_t alignment, size_t size)
{
	int error = errno;
	struct dvsm_heap *heap = dvsm_heap_default();

	errno = error;
	return heap ? dvsm_heap_posix_memalign(heap, address, alignment, size) : ENOMEM;
}

size_t dvsm_malloc_usable_size(const void *address)
{
	return address ? dvsm_heap_usable_size(&dvsm_default_heap, address) : 0;
}
