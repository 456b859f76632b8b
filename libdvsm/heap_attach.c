// SPDX-License-Identifier: LGPL-2.1-or-later
/* Finding a heap that somebody else made, and leaving one. */
#include "heap_backing.h"
#include "heap_chunk.h"
#include "heap_class.h"
#include "heap_cpu.h"
#include "heap_lane.h"

#include <dvsm/name.h>
#include <string.h>

/* Do the tables lie where this library would put them? Then nothing that it finds can lead it astray. */
static bool dvsm_header_is_sane(const struct dvsm_heap_header *header, uint64_t length)
{
	struct dvsm_heap_header layout = {
		.size = header->size, .nr_lanes = header->nr_lanes, .nr_cpus = header->nr_cpus,
	};
	struct dvsm_class class[DVSM_CLASSES] = { 0 };

	if (atomic_load(&header->magic) != DVSM_HEAP_MAGIC ||
	    header->version != DVSM_HEAP_VERSION || header->size > length ||
	    header->size < DVSM_HEAP_SIZE_MIN || header->size > DVSM_HEAP_SIZE_MAX ||
	    header->size % DVSM_HEAP_CHUNK_SIZE || !header->base ||
	    header->base % DVSM_HEAP_CHUNK_SIZE || !header->nr_cpus ||
	    header->nr_cpus > DVSM_HEAP_CPUS_MAX || !header->nr_lanes ||
	    header->nr_lanes > DVSM_LANES_MAX || !header->nr_nodes ||
	    header->nr_nodes > DVSM_HEAP_NODES_MAX)
		return false;
	dvsm_layout(&layout);
	dvsm_classes_init(class);
	return !header->grow && atomic_load(&header->mapped_chunk) == header->end_chunk &&
	       !(header->flags & ~(DVSM_HEAP_F_HARDENED | DVSM_HEAP_F_FAKE_NODES)) &&
	       !memcmp(&layout.lanes, &header->lanes,
		       offsetof(struct dvsm_heap_header, class) -
		       offsetof(struct dvsm_heap_header, lanes)) &&
	       layout.first_chunk == header->first_chunk &&
	       layout.end_chunk == header->end_chunk && layout.first_chunk < layout.end_chunk &&
	       !memcmp(class, header->class, sizeof(class));
}

/*
 * Whether the heap has stacks for every CPU that this process may run on: 1; 0 where nobody can tell;
 * or the error. What the header says is not believed: threads index the stacks by what the kernel
 * says, and do not ask.
 */
static int dvsm_heap_has_cpus(uint32_t nr_cpus)
{
	bool known;

	if (nr_cpus >= dvsm_heap_nr_cpus(&known))
		return 1;
	return known ? -EINVAL : 0;
}

/* Its first chunk tells where it has to be: 0, or the error. */
static int dvsm_heap_find(const struct dvsm_region *region, void **address, uint64_t *size)
{
	struct dvsm_heap_header *header;
	int error = 0;

	header = dvsm_region_map(region, 0, DVSM_HEAP_CHUNK_SIZE, PROT_READ, NULL);
	if (!header)
		return -errno;
	if (!dvsm_header_is_sane(header, dvsm_region_length(region)))
		error = -EINVAL;
	*address = (void *)(uintptr_t)header->base;
	*size = header->size;
	dvsm_region_unmap(header, DVSM_HEAP_CHUNK_SIZE);
	return error;
}

/* The region becomes the heap's on success. */
static struct dvsm_heap *dvsm_heap_attach_region(struct dvsm_region *region)
{
	struct dvsm_heap_header *header;
	struct dvsm_heap *heap;
	void *address = NULL;
	uint64_t size = 0;
	int error, has_cpus = 0;

	error = dvsm_heap_find(region, &address, &size);
	if (error)
		return dvsm_fail_null(error);
	heap = dvsm_heap_handle();
	if (!heap)
		return NULL;
	header = dvsm_backing_map(region, size, address);
	error = header ? dvsm_heap_view(heap, header, region) : -errno;
	if (!error) {
		has_cpus = dvsm_heap_has_cpus(heap->nr_cpus);
		/* Then this process leaves the stacks alone: slow, and as good. */
		if (!has_cpus)
			heap->fast.area = dvsm_rseq_nowhere();
		dvsm_backing_advise(heap);
		if (has_cpus >= 0 && dvsm_heap_is_sound(heap)) {
			atomic_store(&heap->ready, true);
			return heap;
		}
		dvsm_heap_unview(heap);
		error = -EINVAL;
	}
	if (header)
		munmap(address, size);
	munmap(heap, DVSM_PAGE_SIZE);
	return dvsm_fail_null(error);
}

struct dvsm_heap *dvsm_heap_attach(int fd)
{
	struct dvsm_region *region = dvsm_region_open(fd, NULL);
	struct dvsm_heap *heap;
	int error;

	if (!region)
		return NULL;
	heap = dvsm_heap_attach_region(region);
	if (heap)
		return heap;
	error = errno;
	/* The descriptor stays the caller's, so the handle must not close it. */
	dvsm_handle_destroy(region);
	return dvsm_fail_null(error);
}

struct dvsm_heap *dvsm_heap_attach_named(const char *name, uint32_t backend)
{
	struct dvsm_region *region = dvsm_name_open(name, 0, backend);
	struct dvsm_heap *heap;
	int error;

	if (!region)
		return NULL;
	heap = dvsm_heap_attach_region(region);
	if (heap)
		return heap;
	error = errno;
	dvsm_region_destroy(region);
	return dvsm_fail_null(error);
}

/*
 * Where nothing is said: what /dev/shm has room for, so that malloc() finds the reserve used up before a touch finds the
 * file system full, which would be SIGBUS. Of the tables the stacks alone stay sparse, as most CPUs use few of them:
 * they count for half of the room at most.
 */
static uint64_t dvsm_heap_named_reserve(uint32_t backend)
{
	uint64_t reserve = dvsm_heap_reserve(false), room = dvsm_nameable_room(backend), stacks;
	bool known;

	if (reserve <= room)
		return reserve;
	stacks = (uint64_t)(dvsm_heap_nr_cpus(&known) + DVSM_CPU_GUARDS) << DVSM_CPU_SHIFT;
	if (stacks > room / 2)
		room = stacks + room / 2;
	return room < reserve ? room : reserve;
}

static struct dvsm_region *dvsm_heap_nameable_region(uint32_t mode, uint32_t flags,
						     const struct dvsm_heap_options *options)
{
	struct dvsm_region_options wish = {
		.size = sizeof(wish), .backend = options->backend, .label = "heap",
	};
	uint64_t length = options->reserve ? dvsm_heap_size_for(options->reserve, options) :
					     dvsm_heap_named_reserve(wish.backend);

	length = dvsm_align_down(length, DVSM_HEAP_CHUNK_SIZE);
	if (length < DVSM_HEAP_SIZE_MIN)
		return dvsm_fail_null(ENOMEM);
	return dvsm_nameable_create(mode, flags, length, &wish);
}

struct dvsm_heap *dvsm_heap_create_named(const char *name, uint32_t mode, uint32_t flags,
					 const struct dvsm_heap_options *options)
{
	struct dvsm_heap_options rest = { .size = sizeof(rest) };
	struct dvsm_region *region;
	struct dvsm_heap *heap;
	int error;

	if (options) {
		error = dvsm_heap_options_check(options);
		if (error)
			return dvsm_fail_null(error);
		rest = *options;
		rest.size = sizeof(rest);
	}
	region = dvsm_heap_nameable_region(mode, flags, &rest);
	if (!region)
		return NULL;
	rest.reserve = 0;
	rest.backend = 0;
	heap = dvsm_heap_create_on(region, &rest);
	if (!heap) {
		error = errno;
		dvsm_region_destroy(region);
		return dvsm_fail_null(error);
	}
	/* Last: who dies before that leaves nothing that others find and wait for. */
	if (!dvsm_nameable_name(region, name, mode, flags))
		return heap;
	error = errno;
	dvsm_heap_detach(heap);
	return dvsm_fail_null(error);
}

/* What a heap that grows has mapped; what is barred is somebody else's. */
static void dvsm_heap_unmap_grown(const struct dvsm_heap *heap)
{
	const struct dvsm_heap_header *header = heap->header;
	uint32_t chunk, mapped = atomic_load(&header->mapped_chunk);

	for (chunk = header->first_chunk; chunk < mapped; chunk += header->grow)
		if (heap->chunks[chunk].kind != DVSM_CHUNK_BARRED)
			dvsm_backing_shrink(heap, chunk, chunk + header->grow);
	munmap((void *)heap->base, header->slabs);
}

void dvsm_heap_detach(struct dvsm_heap *heap)
{
	if (!heap || heap == &dvsm_default_heap)
		return;
	dvsm_heap_forget(heap);
	dvsm_heap_unview(heap);
	if (heap->header->grow)
		dvsm_heap_unmap_grown(heap);
	else
		munmap((void *)heap->base, heap->size);
	if (heap->region && dvsm_backing_has_file(heap))
		dvsm_region_destroy(heap->region);
	else if (heap->region)
		dvsm_handle_destroy(heap->region);
	munmap(heap, DVSM_PAGE_SIZE);
}

void dvsm_heap_destroy(struct dvsm_heap *heap)
{
	if (!heap || heap == &dvsm_default_heap)
		return;
	if (heap->region && dvsm_backing_has_file(heap))
		dvsm_region_discard(heap->region, 0, 0, NULL);
	else if (heap->region)
		dvsm_backing_discard(heap, 0, heap->size);
	dvsm_heap_detach(heap);
}
