// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the heap wants of the memory below it: the only heap file that knows regions from private memory. */
#include <linux/mempolicy.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "heap_backing.h"
#include "heap_chunk.h"

/* Where heaps go: free on x86-64 Linux, with AddressSanitizer too. 1 TiB apart. */
#define DVSM_BASE_FIRST	(20ULL << 40)
#define DVSM_BASE_SLOTS	56U

static void *dvsm_backing_map_private(uint64_t size, void *address)
{
	void *mapped = mmap(address, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
			    -1, 0);

	if (mapped == MAP_FAILED)
		return NULL;
	if (mapped != address) {
		munmap(mapped, size);
		return dvsm_fail_null(EEXIST);
	}
	return mapped;
}

/* @region: NULL for private memory. */
void *dvsm_backing_map(const struct dvsm_region *region, uint64_t size, void *address)
{
	struct dvsm_region_map_options options = {
		.size = sizeof(options),
		.flags = DVSM_MAP_F_FIXED,
		.address = address,
	};

	if (!region)
		return dvsm_backing_map_private(size, address);
	return dvsm_region_map(region, 0, size, PROT_READ | PROT_WRITE, &options);
}

/* ThreadSanitizer, if it is in the program, has its own tables there and knows no memory but where the kernel puts it. */
extern void __tsan_init(void) __attribute__((weak));

/* As above, at the first place that is free; different processes begin at different places. */
void *dvsm_backing_map_slot(const struct dvsm_region *region, uint64_t size, unsigned int seed)
{
	void *address;
	unsigned int i;

	errno = EEXIST;
	for (i = 0; i < DVSM_BASE_SLOTS && !__tsan_init; i++) {
		address = (void *)(DVSM_BASE_FIRST + ((uint64_t)((seed + i) % DVSM_BASE_SLOTS) << 40));
		address = dvsm_backing_map(region, size, address);
		if (address || (errno != EEXIST && errno != ENOMEM))
			return address;
	}
	return NULL;
}

/* Sanitizers and small address spaces: wherever the kernel likes. */
void *dvsm_backing_map_anywhere(const struct dvsm_region *region, uint64_t size)
{
	if (region)
		return dvsm_region_map(region, 0, size, PROT_READ | PROT_WRITE, NULL);
	return dvsm_map_aligned(-1, 0, size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
}

/* Chunks [first, end) and what the tables say of them: three mappings. Both are multiples of the header's grow. */
struct dvsm_backing_part {
	uint64_t offset, length;
};

static void dvsm_backing_parts(const struct dvsm_heap *heap, uint32_t first, uint32_t end,
			       struct dvsm_backing_part *parts)
{
	const struct dvsm_heap_header *header = heap->header;
	uint64_t at = first, nr = end - first;

	parts[0] = (struct dvsm_backing_part){
		header->slabs + at * DVSM_SLABS_OF_CHUNK, nr * DVSM_SLABS_OF_CHUNK,
	};
	parts[1] = (struct dvsm_backing_part){
		header->words + at * DVSM_WORDS_OF_CHUNK, nr * DVSM_WORDS_OF_CHUNK,
	};
	parts[2] = (struct dvsm_backing_part){
		at << DVSM_HEAP_CHUNK_SHIFT, nr << DVSM_HEAP_CHUNK_SHIFT,
	};
}

/* All or nothing. False with errno EEXIST where something that is not the heap's is mapped. */
bool dvsm_backing_grow(const struct dvsm_heap *heap, uint32_t first, uint32_t end)
{
	struct dvsm_backing_part parts[3];
	int i, error;

	dvsm_backing_parts(heap, first, end, parts);
	for (i = 0; i < 3; i++) {
		if (dvsm_backing_map_private(parts[i].length, dvsm_heap_at(heap, parts[i].offset)))
			continue;
		error = errno;
		while (i--)
			munmap(dvsm_heap_at(heap, parts[i].offset), parts[i].length);
		errno = error;
		return false;
	}
	madvise(dvsm_heap_at(heap, parts[2].offset), parts[2].length, MADV_HUGEPAGE);
	return true;
}

void dvsm_backing_shrink(const struct dvsm_heap *heap, uint32_t first, uint32_t end)
{
	struct dvsm_backing_part parts[3];
	int i;

	dvsm_backing_parts(heap, first, end, parts);
	for (i = 0; i < 3; i++)
		munmap(dvsm_heap_at(heap, parts[i].offset), parts[i].length);
}

/*
 * Metadata is touched here and there: small pages for it, where there is a choice. Blocks get huge pages; of a
 * shared heap the backend has asked for them already.
 */
void dvsm_backing_advise(const struct dvsm_heap *heap)
{
	uint64_t first = (uint64_t)heap->header->first_chunk << DVSM_HEAP_CHUNK_SHIFT;

	if (heap->region && dvsm_region_backend(heap->region) == DVSM_BACKEND_MEMFD_THP)
		madvise((void *)heap->base, first, MADV_NOHUGEPAGE);
	if (!heap->region && !heap->is_copied && !heap->header->grow)
		madvise((void *)(heap->base + first), heap->size - first, MADV_HUGEPAGE);
}

/* The region's descriptor may have been closed behind the library's back, and its number be another file's by now. */
bool dvsm_backing_has_file(const struct dvsm_heap *heap)
{
	struct stat file;

	return !fstat(dvsm_region_fd(heap->region), &file) && file.st_dev == heap->file_dev &&
	       file.st_ino == heap->file_ino;
}

/* Whether free chunks can lose their memory at all. */
bool dvsm_backing_can_discard(const struct dvsm_heap *heap)
{
	return !heap->region || (heap->region->backend != DVSM_BACKEND_MEMFD_HUGETLB &&
				 !(heap->region->flags & DVSM_REGION_F_PINNED));
}

/*
 * Shared memory is discarded by its address where that works, which is everywhere but for who may not open the
 * device, or has an older module.
 *
 * An error leaves the memory where it is. Pages of the pool stay: a hole has no reservation, and the next touch could
 * find the pool empty.
 */
int dvsm_backing_discard(const struct dvsm_heap *heap, uint64_t offset, uint64_t length)
{
	void *address = dvsm_heap_at(heap, offset);
	uint32_t backend;

	if (heap->is_copied)
		return dvsm_device_discard_at(address, length);
	if (!heap->region)
		return madvise(address, length, MADV_DONTNEED) ? -errno : 0;
	backend = dvsm_region_backend(heap->region);
	if (backend == DVSM_BACKEND_MEMFD_HUGETLB)
		return -EOPNOTSUPP;
	if (backend != DVSM_BACKEND_DEVICE)
		return madvise(address, length, MADV_REMOVE) ? -errno : 0;
	if (!dvsm_device_discard_at(address, length))
		return 0;
	if (!dvsm_backing_has_file(heap))
		return -EBADF;
	return dvsm_region_discard(heap->region, offset, length, NULL);
}

/*
 * A wish: memory that is not touched yet shall come from the node, whoever touches it: mbind() sees to that in shmem's
 * inode, and on the device, where it holds for this process's mapping alone, the region's own policy does. Of the pool, and
 * on the device with an older module, or for who may not open it, it holds for this process. Not where each mapping that
 * this makes would have to be copied by fork() for itself: there whoever touches first decides.
 */
void dvsm_backing_bind(const struct dvsm_heap *heap, uint64_t offset, uint64_t length,
		       uint32_t node)
{
	unsigned long nodes[2] = { 1UL << node, 0 };
	void *address = dvsm_heap_at(heap, offset);

	if (heap->flags & DVSM_HEAP_F_FAKE_NODES || heap->is_copied)
		return;
	if (heap->region && dvsm_region_backend(heap->region) == DVSM_BACKEND_DEVICE &&
	    !dvsm_device_prefer_at(address, length, node))
		return;
	syscall(SYS_mbind, address, length, MPOL_PREFERRED, nodes, DVSM_HEAP_NODES_MAX + 1UL, 0U);
}
