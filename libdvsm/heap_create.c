// SPDX-License-Identifier: LGPL-2.1-or-later
/* Heaps: making them, and the default one. */
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "heap_backing.h"
#include "heap_class.h"
#include "heap_cpu.h"
#include "heap_lane.h"
#include "heap_lock.h"

struct dvsm_heap dvsm_default_heap;
uint32_t dvsm_default_flags;
const struct dvsm_heap_fast *const dvsm_heap_fast_1 = &dvsm_default_heap.fast;

#define DVSM_HEAP_IDLE_MS	20U
#define DVSM_HEAP_LOOKS		8192U

static uint64_t dvsm_layout_add(uint64_t *end, uint64_t size, uint64_t align)
{
	uint64_t offset = dvsm_align_up(*end, align);

	*end = offset + size;
	return offset;
}

/* Everything that only depends on the size and the machine. Tables for all chunks, metadata's own included. */
void dvsm_layout(struct dvsm_heap_header *header)
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
	header->cpus = dvsm_layout_add(&end, (uint64_t)(header->nr_cpus + DVSM_CPU_GUARDS)
					     << DVSM_CPU_SHIFT, 4096);
	header->cpus += (uint64_t)DVSM_CPU_GUARDS << DVSM_CPU_SHIFT;
	/* Of these two, the greater part by far, a heap that grows maps what it needs. */
	header->slabs = dvsm_layout_add(&end, nr_pages * sizeof(struct dvsm_slab), 4096);
	header->words = dvsm_layout_add(&end, nr_pages * DVSM_SLAB_WORDS * sizeof(struct dvsm_word),
					4096);
	header->first_chunk = (uint32_t)((end + DVSM_HEAP_CHUNK_SIZE - 1) >> DVSM_HEAP_CHUNK_SHIFT);
	header->end_chunk = (uint32_t)nr_chunks;
	if (header->grow) {
		header->first_chunk = (uint32_t)dvsm_align_up(header->first_chunk, header->grow);
		header->end_chunk = (uint32_t)dvsm_align_down(nr_chunks, header->grow);
	}
	header->mapped_chunk = header->grow ? header->first_chunk : header->end_chunk;
	header->high_chunk = header->first_chunk;
}

void dvsm_heap_unview(const struct dvsm_heap *heap)
{
	if (heap->fast.classes != heap->classes)
		munmap((void *)heap->fast.classes, heap->size >> DVSM_HEAP_PAGE_SHIFT);
}

int dvsm_heap_view(struct dvsm_heap *heap, struct dvsm_heap_header *header,
		   struct dvsm_region *region)
{
	uintptr_t base = (uintptr_t)header;
	struct stat file;
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
	if (region && !fstat(dvsm_region_fd(region), &file)) {
		heap->file_dev = file.st_dev;
		heap->file_ino = file.st_ino;
	}
	heap->base = base;
	heap->fast.area = dvsm_rseq_init();
	heap->fast.base = base;
	/* At first no free takes the fast path: dvsm_free_slow() looks, and says when that is enough. */
	atomic_init(&heap->looks, header->nr_looks);
	return 0;
}

/* The last number of a file's first line, however long that is; -1 where there is none. */
static int dvsm_last_number(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), number = -1;
	bool digit = false, end = fd < 0;
	char text[256];
	ssize_t length, i;

	while (!end && (length = read(fd, text, sizeof(text))) > 0) {
		for (i = 0; i < length && !end; i++) {
			end = text[i] == '\n';
			if (text[i] < '0' || text[i] > '9') {
				digit = false;
				continue;
			}
			if (!digit)
				number = 0;
			digit = true;
			if (number <= (int)DVSM_HEAP_CPUS_MAX)
				number = number * 10 + text[i] - '0';
		}
	}
	if (fd >= 0)
		close(fd);
	return number;
}

/**
 * dvsm_heap_nr_cpus - every CPU that this machine can ever have, holes included.
 * @known: receives whether it is so many, rather than so many at most
 *
 * The fast paths do not ask. One file says "0-3" or "0,2-7", another one begins with a column for each
 * of them. Where neither can be read (chroot, sandbox), the length of the kernel's CPU masks is
 * certainly enough.
 */
uint32_t dvsm_heap_nr_cpus(bool *known)
{
	unsigned long mask[DVSM_HEAP_CPUS_MAX / 8 / sizeof(long)];
	int last = dvsm_last_number("/sys/devices/system/cpu/possible");
	long bytes;

	if (last < 0)
		last = dvsm_last_number("/proc/softirqs");
	*known = last >= 0;
	if (last >= 0)
		return (uint32_t)last + 1;
	bytes = syscall(SYS_sched_getaffinity, 0, sizeof(mask), mask);
	return bytes > 0 ? (uint32_t)bytes * 8 : DVSM_HEAP_CPUS_MAX;
}

/*
 * Nodes that have memory, holes included. Many machines say that others are possible, which never come; what does come
 * has its blocks from where the CPU finds them.
 */
static uint32_t dvsm_heap_nr_nodes(uint32_t flags)
{
	uint64_t nodes[DVSM_NODES_WORDS];
	uint32_t nr_nodes = (uint32_t)dvsm_system_nodes("has_memory", nodes);

	if (flags & DVSM_HEAP_F_FAKE_NODES)
		return 2;
	return !nr_nodes ? 1 : nr_nodes > DVSM_HEAP_NODES_MAX ? DVSM_HEAP_NODES_MAX : nr_nodes;
}

/* What a heap of that size is like here. */
static int dvsm_heap_plan(struct dvsm_heap_header *header, uint64_t size, bool is_copied,
			  const struct dvsm_heap_options *options)
{
	uint32_t per_cpu;
	bool known;

	memset(header, 0, sizeof(*header));
	header->version = DVSM_HEAP_VERSION;
	header->nr_cpus = dvsm_heap_nr_cpus(&known);
	if (header->nr_cpus > DVSM_HEAP_CPUS_MAX)
		return -EOPNOTSUPP;
	per_cpu = (63 + header->nr_cpus) / header->nr_cpus;
	if (per_cpu < 4)
		per_cpu = 4;
	while (per_cpu > 1 && per_cpu * header->nr_cpus > DVSM_LANES_MAX)
		per_cpu--;
	header->nr_lanes = per_cpu * header->nr_cpus;
	header->nr_nodes = dvsm_heap_nr_nodes(options->flags);
	header->size = size;
	header->flags = options->flags;
	if ((options->flags & DVSM_HEAP_F_PRIVATE) && !is_copied && !options->address)
		header->grow = DVSM_BACKING_GROW;
	header->retain = options->retain_none ? 0 : options->retain ? options->retain : 32UL << 20;
	header->idle_ms = options->idle_ms ? options->idle_ms : DVSM_HEAP_IDLE_MS;
	header->nr_looks = options->nr_looks ? options->nr_looks : DVSM_HEAP_LOOKS;
	dvsm_layout(header);
	/* Tables for all those CPUs, and nothing left for blocks? */
	if (header->first_chunk + 2 > header->end_chunk)
		return -EINVAL;
	dvsm_classes_init(header->class);
	return 0;
}

static int dvsm_heap_format(struct dvsm_heap *heap, struct dvsm_heap_header *header,
			    const struct dvsm_heap_header *plan, struct dvsm_region *region)
{
	int error;

	memcpy(header, plan, sizeof(*plan));
	header->base = (uintptr_t)header;
	error = dvsm_heap_view(heap, header, region);
	if (error)
		return error;
	dvsm_backing_advise(heap);
	dvsm_lanes_init(heap);
	atomic_store(&header->magic, DVSM_HEAP_MAGIC);
	atomic_store(&heap->ready, true);
	return 0;
}

int dvsm_heap_options_check(const struct dvsm_heap_options *options)
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
	if (options->reserve > DVSM_HEAP_SIZE_MAX)
		return -EINVAL;
	return 0;
}

/*
 * Private heaps, for fork(). Under the lock the list changes by one store at a time, so a child finds
 * it whole, even if the lock's holder is not in it.
 */
static struct dvsm_heap *dvsm_private_heaps;
static _Atomic uint32_t dvsm_private_lock;

/* Copies of private memory: whoever held a lane of it at the fork is not in the child. */
static void dvsm_heap_forked(void)
{
	struct dvsm_heap *heap;

	for (heap = dvsm_private_heaps; heap; heap = heap->next)
		dvsm_lanes_recover(heap, true);
}

static void dvsm_heap_watch_begin(void)
{
	pthread_atfork(dvsm_lanes_fork, NULL, dvsm_heap_forked);
}

static void dvsm_heap_watch_fork(struct dvsm_heap *heap)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (!(heap->flags & DVSM_HEAP_F_PRIVATE))
		return;
	/* It may allocate. */
	pthread_once(&once, dvsm_heap_watch_begin);
	dvsm_lock(&dvsm_private_lock);
	heap->next = dvsm_private_heaps;
	__atomic_store_n(&dvsm_private_heaps, heap, __ATOMIC_RELEASE);
	dvsm_unlock(&dvsm_private_lock);
}

/* The heap's address space, or what it needs of it to begin with. */
static void *dvsm_heap_place(const struct dvsm_region *region, struct dvsm_heap_header *plan,
			     const struct dvsm_heap_options *options)
{
	struct timespec now;
	void *address;

	if (options->address)
		return dvsm_backing_map(region, plan->size, options->address);
	clock_gettime(CLOCK_MONOTONIC, &now);
	address = dvsm_backing_map_slot(region, plan->grow ? plan->slabs : plan->size,
					(unsigned int)(now.tv_nsec / 64 + getpid()));
	if (address || (errno != EEXIST && errno != ENOMEM))
		return address;
	/* Wherever the kernel likes; it would soon put something else where the heap wants to grow. */
	if (plan->grow) {
		plan->grow = 0;
		dvsm_layout(plan);
	}
	return dvsm_backing_map_anywhere(region, plan->size);
}

/* fork() needs it no more. */
void dvsm_heap_forget(const struct dvsm_heap *heap)
{
	struct dvsm_heap **at;

	if (!(heap->flags & DVSM_HEAP_F_PRIVATE))
		return;
	dvsm_lock(&dvsm_private_lock);
	for (at = &dvsm_private_heaps; *at; at = &(*at)->next) {
		if (*at == heap) {
			__atomic_store_n(at, heap->next, __ATOMIC_RELEASE);
			break;
		}
	}
	dvsm_unlock(&dvsm_private_lock);
}

/* A private heap that shall lie on the device: in a region that fork() copies. */
static bool dvsm_heap_wants_copies(const struct dvsm_heap_options *options)
{
	return (options->flags & DVSM_HEAP_F_PRIVATE) &&
	       dvsm_backend_wished(options->backend) == DVSM_BACKEND_DEVICE;
}

/* One try: region and mapping of that size. A private heap keeps no descriptor. */
static int dvsm_heap_try(struct dvsm_heap *heap, struct dvsm_region *region, uint64_t size,
			 const struct dvsm_heap_options *options)
{
	struct dvsm_region_options wish = {
		.size = sizeof(wish),
		.backend = options->backend,
		.label = "heap",
	};
	bool given = region, is_private = options->flags & DVSM_HEAP_F_PRIVATE;
	struct dvsm_heap_header plan;
	void *address;
	int error;

	if (heap->is_copied)
		wish.flags = DVSM_REGION_F_FORK_COPY;
	error = dvsm_heap_plan(&plan, size, heap->is_copied, options);
	if (error)
		return error;
	if (!given && (!is_private || heap->is_copied)) {
		region = dvsm_region_create(size, &wish);
		if (!region)
			return -errno;
	}
	address = dvsm_heap_place(region, &plan, options);
	if (!address) {
		error = -errno;
		if (!given)
			dvsm_region_destroy(region);
		return error;
	}
	if (heap->is_copied) {
		dvsm_region_destroy(region);
		region = NULL;
	}
	error = dvsm_heap_format(heap, address, &plan, region);
	if (!error)
		return 0;
	munmap(address, plan.grow ? plan.slabs : size);
	if (!given)
		dvsm_region_destroy(region);
	return error;
}

/*
 * As large as the limit on address space lets a heap become. One that grows counts by what it has mapped, any other one as
 * a whole: half of the limit is for it, the rest for the program's other mappings.
 */
uint64_t dvsm_heap_reserve(bool grows)
{
	uint64_t reserve = DVSM_HEAP_SIZE_MAX;
	struct rlimit limit;

	if (!getrlimit(RLIMIT_AS, &limit)) {
		if (grows)
			reserve = limit.rlim_max;
		else
			reserve = limit.rlim_cur / 2;
	}
	if (reserve > DVSM_HEAP_SIZE_MAX)
		return DVSM_HEAP_SIZE_MAX;
	reserve = dvsm_align_up(reserve, DVSM_HEAP_CHUNK_SIZE);
	return reserve < DVSM_HEAP_SIZE_MIN ? DVSM_HEAP_SIZE_MIN : reserve;
}

/*
 * What a heap has to be for so many bytes of blocks. On a machine with many CPUs the tables would take most of a small
 * one: then they come on top.
 */
uint64_t dvsm_heap_size_for(uint64_t reserve, const struct dvsm_heap_options *options)
{
	uint64_t size = dvsm_align_down(reserve, DVSM_HEAP_CHUNK_SIZE), tables;
	struct dvsm_heap_header plan;

	if (size < DVSM_HEAP_SIZE_MIN)
		size = DVSM_HEAP_SIZE_MIN;
	if (dvsm_heap_plan(&plan, size, false, options) == -EOPNOTSUPP)
		return size;
	tables = (uint64_t)plan.first_chunk << DVSM_HEAP_CHUNK_SHIFT;
	return tables > size / 4 ? size + tables : size;
}

static int dvsm_heap_try_sizes(struct dvsm_heap *heap, struct dvsm_region *region,
			       const struct dvsm_heap_options *options)
{
	bool grows = (options->flags & DVSM_HEAP_F_PRIVATE) && !heap->is_copied;
	uint64_t size = options->reserve;
	int error;

	if (size)
		size = dvsm_heap_size_for(size, options);
	if (region)
		size = dvsm_align_down(dvsm_region_length(region), DVSM_HEAP_CHUNK_SIZE);
	if (size) {
		error = dvsm_heap_try(heap, region, size, options);
	} else {
		/* There are more limits than that one. */
		for (size = dvsm_heap_reserve(grows), error = -ENOMEM;
		     error && size >= DVSM_HEAP_SIZE_MIN;
		     size = dvsm_align_down(size / 2, DVSM_HEAP_CHUNK_SIZE))
			error = dvsm_heap_try(heap, region, size, options);
	}
	return error;
}

/* @heap: zeroes. @region: NULL to make one, or none at all for a private heap. */
int dvsm_heap_init(struct dvsm_heap *heap, struct dvsm_region *region,
		   const struct dvsm_heap_options *options)
{
	int error;

	heap->is_copied = dvsm_heap_wants_copies(options);
	error = dvsm_heap_try_sizes(heap, region, options);
	/* It was the environment's wish; plain private memory is what every machine has. */
	if (error && heap->is_copied && !options->backend) {
		heap->is_copied = false;
		error = dvsm_heap_try_sizes(heap, region, options);
	}
	return error;
}

struct dvsm_heap *dvsm_heap_handle(void)
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
	error = dvsm_heap_options_check(options);
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

/*
 * 0: none; 1: made; else the number, + 1, of the process that is making it: 1 itself is a process in a container. A child that
 * was forked meanwhile makes its own.
 */
static _Atomic int dvsm_default_state;

struct dvsm_heap *dvsm_heap_default(void)
{
	struct dvsm_heap_options options = { .size = sizeof(options), .flags = dvsm_default_flags };
	int state = atomic_load_explicit(&dvsm_default_state, memory_order_acquire);
	int self = 0, error, cancel;

	while (state != 1) {
		if (!self)
			self = getpid() + 1;
		if (state && state != self) {
			/* Another process's, found in memory copied from it. */
			atomic_compare_exchange_strong(&dvsm_default_state, &state, 0);
		} else if (state) {
			sched_yield();
		} else if (atomic_compare_exchange_strong(&dvsm_default_state, &state, self)) {
			/* Others wait for it. */
			cancel = dvsm_cancel_off();
			error = dvsm_heap_init(&dvsm_default_heap, NULL, &options);
			if (!error)
				__atomic_store_n(&dvsm_default_heap.fast.limit, DVSM_SMALL_MAX + 1,
						 __ATOMIC_RELEASE);
			atomic_store(&dvsm_default_state, !error);
			dvsm_cancel_on(cancel);
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

	return root ? dvsm_heap_address(heap, root) : NULL;
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
