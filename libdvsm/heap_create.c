// SPDX-License-Identifier: LGPL-2.1-or-later
/* Heaps: making them, finding them, leaving them. */
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "heap_backing.h"
#include "heap_class.h"
#include "heap_cpu.h"
#include "heap_lane.h"

struct dvsm_heap dvsm_default_heap;
uint32_t dvsm_default_flags;
const struct dvsm_heap_fast *const dvsm_heap_fast_1 = &dvsm_default_heap.fast;

static uint64_t dvsm_layout_add(uint64_t *end, uint64_t size, uint64_t align)
{
	uint64_t offset = dvsm_align_up(*end, align);

	*end = offset + size;
	return offset;
}

/* Everything that only depends on the size and the machine. Tables for all chunks, metadata's own included. */
static void dvsm_layout(struct dvsm_heap_header *header)
{
	uint64_t nr_chunks = header->size >> DVSM_HEAP_CHUNK_SHIFT;
	uint64_t nr_words = (nr_chunks + 63) / 64 + 1;
	uint64_t nr_pages = nr_chunks * DVSM_CHUNK_PAGES;
	uint64_t end = sizeof(*header);

	header->lanes = dvsm_layout_add(&end, header->nr_lanes * sizeof(struct dvsm_lane), 4096);
	header->logs = dvsm_layout_add(&end, header->nr_lanes * sizeof(struct dvsm_log), 4096);
	header->map = dvsm_layout_add(&end, nr_words * sizeof(struct dvsm_word), 4096);
	header->dirty = dvsm_layout_add(&end, nr_words * sizeof(uint64_t), 64);
	header->hints = dvsm_layout_add(&end, nr_words * DVSM_HINTS * sizeof(uint64_t), 64);
	header->chunks = dvsm_layout_add(&end, nr_chunks * sizeof(struct dvsm_heap_chunk), 64);
	header->classes = dvsm_layout_add(&end, nr_pages, 64);
	header->slabs = dvsm_layout_add(&end, nr_pages * sizeof(struct dvsm_slab), 4096);
	header->cpus = dvsm_layout_add(&end, (uint64_t)(header->nr_cpus + DVSM_CPU_GUARDS)
					     << DVSM_CPU_SHIFT, 4096);
	header->cpus += (uint64_t)DVSM_CPU_GUARDS << DVSM_CPU_SHIFT;
	header->words = dvsm_layout_add(&end, nr_pages * DVSM_SLAB_WORDS * sizeof(struct dvsm_word),
					4096);
	header->first_chunk = (uint32_t)((end + DVSM_HEAP_CHUNK_SIZE - 1) >> DVSM_HEAP_CHUNK_SHIFT);
	header->end_chunk = (uint32_t)nr_chunks;
	header->high_chunk = header->first_chunk;
}

static int dvsm_heap_view(struct dvsm_heap *heap, struct dvsm_heap_header *header,
			  struct dvsm_region *region)
{
	uintptr_t base = (uintptr_t)header;
	uint32_t size;
	void *zeroes;

	heap->header = header;
	heap->size = header->size;
	heap->nr_nodes = header->nr_nodes;
	heap->nr_cpus = header->nr_cpus;
	heap->flags = header->flags;
	heap->lanes = (struct dvsm_lane *)(base + header->lanes);
	heap->logs = (struct dvsm_log *)(base + header->logs);
	heap->map = (struct dvsm_word *)(base + header->map);
	heap->dirty = (_Atomic uint64_t *)(base + header->dirty);
	heap->hints = (_Atomic uint64_t *)(base + header->hints);
	heap->chunks = (struct dvsm_heap_chunk *)(base + header->chunks);
	heap->classes = (uint8_t *)(base + header->classes);
	heap->slabs = (struct dvsm_slab *)(base + header->slabs);
	heap->cpus = (char *)(base + header->cpus);
	dvsm_stacks_place(header->class, heap->cpus, heap->fast.stack);
	for (size = 0; size <= DVSM_SMALL_MAX; size += 16)
		heap->fast.small[size / 16] = heap->fast.stack[dvsm_class_small[size / 16]];
	heap->fast.classes = heap->classes;
	if (header->nr_nodes > 1) {
		zeroes = mmap(NULL, header->size >> DVSM_HEAP_PAGE_SHIFT, PROT_READ,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (zeroes == MAP_FAILED)
			return -errno;
		heap->fast.classes = zeroes;
	}
	heap->words = (struct dvsm_word *)(base + header->words);
	heap->region = region;
	heap->base = base;
	dvsm_rseq_init();
	heap->fast.area = dvsm_rseq_offset;
	heap->fast.base = base;
	/* Last: until then free() of another thread, of NULL or of nothing of ours, looks at no table. */
	atomic_signal_fence(memory_order_seq_cst);
	heap->fast.size = header->size;
	return 0;
}

/*
 * Every CPU that this machine can ever have, holes included: the fast paths do not ask. The file says
 * "0-3" or "0,2-7"; the last number is the highest.
 */
static uint32_t dvsm_heap_nr_cpus(void)
{
	char text[256];
	ssize_t length = dvsm_file_read("/sys/devices/system/cpu/possible", text, sizeof(text));
	long nr_cpus = sysconf(_SC_NPROCESSORS_CONF), last = 0;
	ssize_t i;

	for (i = 0; i < length && text[i] != '\n'; i++)
		last = text[i] >= '0' && text[i] <= '9' ? last * 10 + text[i] - '0' : 0;
	if (length > 0 && last + 1 > nr_cpus)
		nr_cpus = last + 1;
	return nr_cpus < 1 ? 1 : (uint32_t)nr_cpus;
}

static uint32_t dvsm_heap_nr_nodes(uint32_t flags)
{
	uint32_t nr_nodes = dvsm_system_nr_nodes();

	if (flags & DVSM_HEAP_F_FAKE_NODES)
		return 2;
	return !nr_nodes ? 1 : nr_nodes > DVSM_HEAP_NODES_MAX ? DVSM_HEAP_NODES_MAX : nr_nodes;
}

static int dvsm_heap_format(struct dvsm_heap *heap, struct dvsm_heap_header *header, uint64_t size,
			    struct dvsm_region *region, const struct dvsm_heap_options *options)
{
	uint32_t per_cpu;
	int error;

	header->version = DVSM_HEAP_VERSION;
	header->nr_cpus = dvsm_heap_nr_cpus();
	if (header->nr_cpus > DVSM_HEAP_CPUS_MAX)
		return -EOPNOTSUPP;
	per_cpu = (63 + header->nr_cpus) / header->nr_cpus;
	if (per_cpu < 4)
		per_cpu = 4;
	while (per_cpu > 1 && per_cpu * header->nr_cpus > DVSM_LANES_MAX)
		per_cpu--;
	header->nr_lanes = per_cpu * header->nr_cpus;
	header->nr_nodes = dvsm_heap_nr_nodes(options->flags);
	header->base = (uintptr_t)header;
	header->size = size;
	header->flags = options->flags;
	header->retain = options->retain_none ? 0 : options->retain ? options->retain : 32UL << 20;
	dvsm_layout(header);
	/* Tables for all those CPUs, and nothing left for blocks? */
	if (header->first_chunk + 2 > header->end_chunk)
		return -EINVAL;
	dvsm_classes_init(header->class);
	error = dvsm_heap_view(heap, header, region);
	if (error)
		return error;
	dvsm_backing_advise(heap);
	dvsm_lanes_init(heap);
	atomic_store(&header->magic, DVSM_HEAP_MAGIC);
	atomic_store(&heap->ready, true);
	return 0;
}

static int dvsm_options_check(const struct dvsm_heap_options *options)
{
	const unsigned char *tail = (const unsigned char *)options;
	size_t at;

	if (options->size < sizeof(*options))
		return -EINVAL;
	for (at = sizeof(*options); at < options->size; at++)
		if (tail[at])
			return -E2BIG;
	if (options->flags & ~(DVSM_HEAP_F_PRIVATE | DVSM_HEAP_F_HARDENED |
			       DVSM_HEAP_F_FAKE_NODES))
		return -EOPNOTSUPP;
	if ((uintptr_t)options->address % DVSM_HEAP_CHUNK_SIZE || options->reserved)
		return -EINVAL;
	if (options->reserve && (options->reserve < DVSM_HEAP_SIZE_MIN ||
				 options->reserve > DVSM_HEAP_SIZE_MAX))
		return -EINVAL;
	return 0;
}

/* Copies of private memory: whoever held a lane of it at the fork is not in the child. */
static struct dvsm_heap *dvsm_private_heaps;

static void dvsm_heap_forked(void)
{
	struct dvsm_heap *heap;

	for (heap = dvsm_private_heaps; heap; heap = heap->next)
		dvsm_lanes_recover(heap, true);
}

static void dvsm_heap_watch_fork(struct dvsm_heap *heap)
{
	static _Atomic int registered;

	if (!(heap->flags & DVSM_HEAP_F_PRIVATE))
		return;
	heap->next = __atomic_load_n(&dvsm_private_heaps, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&dvsm_private_heaps, &heap->next, heap, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	if (!atomic_exchange(&registered, 1))
		pthread_atfork(NULL, NULL, dvsm_heap_forked);
}

/* One try: region and mapping of that size. */
static int dvsm_heap_try(struct dvsm_heap *heap, struct dvsm_region *region, uint64_t size,
			 const struct dvsm_heap_options *options)
{
	struct dvsm_region_options wish = {
		.size = sizeof(wish),
		.backend = options->backend,
		.label = "heap",
	};
	bool given = region;
	struct timespec now;
	void *address;
	int error;

	if (!given && !(options->flags & DVSM_HEAP_F_PRIVATE)) {
		region = dvsm_region_create(size, &wish);
		if (!region)
			return -errno;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (options->address)
		address = dvsm_backing_map(region, size, options->address);
	else
		address = dvsm_backing_map_anywhere(region, size,
						    (unsigned int)(now.tv_nsec / 64 + getpid()));
	if (!address) {
		error = -errno;
		if (!given)
			dvsm_region_destroy(region);
		return error;
	}
	error = dvsm_heap_format(heap, address, size, region, options);
	if (!error)
		return 0;
	munmap(address, size);
	if (!given)
		dvsm_region_destroy(region);
	return error;
}

/* @heap: zeroes. @region: NULL to make one, or none at all for a private heap. */
int dvsm_heap_init(struct dvsm_heap *heap, struct dvsm_region *region,
		   const struct dvsm_heap_options *options)
{
	uint64_t size = options->reserve;
	int error;

	if (region)
		size = dvsm_align_down(dvsm_region_length(region), DVSM_HEAP_CHUNK_SIZE);
	if (size) {
		size = dvsm_align_down(size, DVSM_HEAP_CHUNK_SIZE);
		error = dvsm_heap_try(heap, region, size, options);
	} else {
		/* As much as the limits on address space allow. */
		for (size = DVSM_HEAP_SIZE_MAX, error = -ENOMEM;
		     error && size >= 16 * DVSM_HEAP_SIZE_MIN; size /= 4)
			error = dvsm_heap_try(heap, region, size, options);
	}
	return error;
}

static struct dvsm_heap *dvsm_heap_handle(void)
{
	void *page = mmap(NULL, DVSM_PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page == MAP_FAILED ? NULL : page;
}

static struct dvsm_heap *dvsm_heap_new(struct dvsm_region *region,
				       const struct dvsm_heap_options *options)
{
	static const struct dvsm_heap_options defaults = { .size = sizeof(defaults) };
	struct dvsm_heap *heap;
	int error;

	if (!options)
		options = &defaults;
	error = dvsm_options_check(options);
	if (!error && region && (options->backend || options->reserve ||
				 (options->flags & DVSM_HEAP_F_PRIVATE) ||
				 dvsm_region_length(region) < DVSM_HEAP_SIZE_MIN ||
				 dvsm_region_length(region) > DVSM_HEAP_SIZE_MAX))
		error = -EINVAL;
	if (error)
		return dvsm_fail_null(error);
	heap = dvsm_heap_handle();
	if (!heap)
		return NULL;
	error = dvsm_heap_init(heap, region, options);
	if (!error) {
		dvsm_heap_watch_fork(heap);
		return heap;
	}
	munmap(heap, DVSM_PAGE_SIZE);
	return dvsm_fail_null(error);
}

struct dvsm_heap *dvsm_heap_create(const struct dvsm_heap_options *options)
{
	return dvsm_heap_new(NULL, options);
}

struct dvsm_heap *dvsm_heap_create_on(struct dvsm_region *region,
				      const struct dvsm_heap_options *options)
{
	if (!region)
		return dvsm_fail_null(EINVAL);
	return dvsm_heap_new(region, options);
}

/* Do the tables lie where this library would put them? Then nothing that it finds can lead it astray. */
static bool dvsm_header_is_sane(const struct dvsm_heap_header *header, uint64_t length)
{
	struct dvsm_heap_header layout = {
		.size = header->size, .nr_lanes = header->nr_lanes, .nr_cpus = header->nr_cpus,
	};
	struct dvsm_class class[DVSM_CLASSES] = { 0 };

	if (atomic_load(&header->magic) != DVSM_HEAP_MAGIC ||
	    header->version != DVSM_HEAP_VERSION || header->size > length ||
	    header->size < DVSM_HEAP_SIZE_MIN || header->size % DVSM_HEAP_CHUNK_SIZE ||
	    header->base % DVSM_HEAP_CHUNK_SIZE || !header->nr_cpus ||
	    header->nr_cpus > DVSM_HEAP_CPUS_MAX || !header->nr_lanes ||
	    header->nr_lanes > DVSM_LANES_MAX || !header->nr_nodes ||
	    header->nr_nodes > DVSM_HEAP_NODES_MAX)
		return false;
	dvsm_layout(&layout);
	dvsm_classes_init(class);
	return !memcmp(&layout.lanes, &header->lanes,
		       offsetof(struct dvsm_heap_header, class) -
		       offsetof(struct dvsm_heap_header, lanes)) &&
	       layout.first_chunk == header->first_chunk &&
	       !memcmp(class, header->class, sizeof(class));
}

struct dvsm_heap *dvsm_heap_attach(int fd)
{
	struct dvsm_heap_header *header;
	struct dvsm_region *region;
	struct dvsm_heap *heap;
	uint64_t size;
	void *address;
	int error = EINVAL;

	region = dvsm_region_open(fd, NULL);
	if (!region)
		return NULL;
	heap = dvsm_heap_handle();
	header = heap ? dvsm_region_map(region, 0, DVSM_HEAP_CHUNK_SIZE, PROT_READ, NULL) : NULL;
	if (!header) {
		error = errno;
		goto fail;
	}
	if (dvsm_header_is_sane(header, dvsm_region_length(region)) &&
	    header->nr_cpus >= dvsm_heap_nr_cpus()) {
		address = (void *)(uintptr_t)header->base;
		size = header->size;
		dvsm_region_unmap(header, DVSM_HEAP_CHUNK_SIZE);
		header = dvsm_backing_map(region, size, address);
		if (header) {
			error = -dvsm_heap_view(heap, header, region);
			dvsm_backing_advise(heap);
			atomic_store(&heap->ready, !error);
			if (!error)
				return heap;
			munmap(address, size);
		} else {
			error = errno;
		}
	} else {
		dvsm_region_unmap(header, DVSM_HEAP_CHUNK_SIZE);
	}
fail:
	if (heap)
		munmap(heap, DVSM_PAGE_SIZE);
	/* The descriptor stays the caller's, so the handle must not close it. */
	dvsm_handle_destroy(region);
	return dvsm_fail_null(error);
}

void dvsm_heap_detach(struct dvsm_heap *heap)
{
	struct dvsm_heap **at;

	if (!heap || heap == &dvsm_default_heap)
		return;
	for (at = &dvsm_private_heaps; *at; at = &(*at)->next) {
		if (*at == heap) {
			*at = heap->next;
			break;
		}
	}
	if (heap->fast.classes != heap->classes)
		munmap((void *)heap->fast.classes, heap->size >> DVSM_HEAP_PAGE_SHIFT);
	munmap((void *)heap->base, heap->size);
	if (heap->region)
		dvsm_region_destroy(heap->region);
	munmap(heap, DVSM_PAGE_SIZE);
}

void dvsm_heap_destroy(struct dvsm_heap *heap)
{
	if (!heap || heap == &dvsm_default_heap)
		return;
	if (heap->region)
		dvsm_region_discard(heap->region, 0, 0, NULL);
	dvsm_heap_detach(heap);
}

/* 0: none; 1: made; else the process that is making it. A child that was forked meanwhile makes its own. */
static _Atomic int dvsm_default_state;

struct dvsm_heap *dvsm_heap_default(void)
{
	struct dvsm_heap_options options = { .size = sizeof(options), .flags = dvsm_default_flags };
	int state = atomic_load_explicit(&dvsm_default_state, memory_order_acquire);
	int self = 0, error;

	while (state != 1) {
		if (!self)
			self = getpid();
		if (state && state != self) {
			/* Another process's, found in memory copied from it. */
			atomic_compare_exchange_strong(&dvsm_default_state, &state, 0);
		} else if (state) {
			sched_yield();
		} else if (atomic_compare_exchange_strong(&dvsm_default_state, &state, self)) {
			error = dvsm_heap_init(&dvsm_default_heap, NULL, &options);
			if (!error)
				dvsm_default_heap.fast.limit = DVSM_SMALL_MAX + 1;
			atomic_store(&dvsm_default_state, !error);
			if (error)
				return dvsm_fail_null(error);
			/* Now, as it may allocate. */
			dvsm_heap_watch_fork(&dvsm_default_heap);
		}
		state = atomic_load_explicit(&dvsm_default_state, memory_order_acquire);
	}
	return &dvsm_default_heap;
}

struct dvsm_region *dvsm_heap_region(const struct dvsm_heap *heap)
{
	return heap->region;
}

int dvsm_heap_fd(const struct dvsm_heap *heap)
{
	return heap->region ? dvsm_region_fd(heap->region) : dvsm_fail(EOPNOTSUPP);
}

uint64_t dvsm_heap_offset(const struct dvsm_heap *heap, const void *address)
{
	uint64_t offset = dvsm_heap_offset_of(heap, address);

	return offset < heap->size ? offset : UINT64_MAX;
}

void *dvsm_heap_address(const struct dvsm_heap *heap, uint64_t offset)
{
	return offset < heap->size ? dvsm_heap_at(heap, offset) : NULL;
}

/* A root is an offset; 0, which is the header's, is nothing. */
static bool dvsm_root_make(const struct dvsm_heap *heap, const void *address, uint64_t *root)
{
	*root = address ? dvsm_heap_offset(heap, address) : 0;
	return *root != UINT64_MAX;
}

int dvsm_heap_root_set(struct dvsm_heap *heap, unsigned int slot, const void *address)
{
	uint64_t root;

	if (slot >= DVSM_HEAP_ROOTS || !dvsm_root_make(heap, address, &root))
		return dvsm_fail(EINVAL);
	atomic_store(&heap->header->roots[slot], root);
	return 0;
}

void *dvsm_heap_root_get(const struct dvsm_heap *heap, unsigned int slot)
{
	uint64_t root = slot < DVSM_HEAP_ROOTS ? atomic_load(&heap->header->roots[slot]) : 0;

	return root ? dvsm_heap_at(heap, root) : NULL;
}

bool dvsm_heap_root_exchange(struct dvsm_heap *heap, unsigned int slot, const void *expected,
			     const void *desired)
{
	uint64_t old, new;

	if (slot >= DVSM_HEAP_ROOTS || !dvsm_root_make(heap, expected, &old) ||
	    !dvsm_root_make(heap, desired, &new))
		return false;
	return atomic_compare_exchange_strong(&heap->header->roots[slot], &old, new);
}
