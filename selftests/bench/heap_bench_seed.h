/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The idea that this project began with, for a before and after: several arenas in shared memory, each with a lock,
 * boundary tags and lists of free blocks by size, as dlmalloc has them; in front of them a small cache of
 * blocks for each arena and size, under the same lock.
 */
#include <pthread.h>

const bool bench_processes = true;

#define SEED_ARENAS	8
#define SEED_BINS	48
#define SEED_CACHED	64	/* sizes of 16 bytes times 0 .. 63 */
#define SEED_USED	1UL

/* size includes the header and bit SEED_USED; before is the size of the block in front, 0 for the first. */
struct seed_block {
	size_t before, size;
	struct seed_block *next, *prev;	/* only while it is free */
};

struct seed_arena {
	pthread_mutex_t lock;
	struct seed_block *bins[SEED_BINS];
	struct seed_block *cache[SEED_CACHED];
	uint32_t cached[SEED_CACHED];
	char *first, *end;
};

static struct seed_arena *seed_arenas;
static size_t seed_length;

static unsigned int seed_bin(size_t size)
{
	unsigned int log2 = 63 - (unsigned int)__builtin_clzl(size);
	unsigned int bin = (log2 - 5) * 2 + (size >> (log2 - 1) & 1);

	return bin < SEED_BINS ? bin : SEED_BINS - 1;
}

static struct seed_block *seed_after(struct seed_block *block)
{
	return (struct seed_block *)((char *)block + (block->size & ~SEED_USED));
}

static void seed_link(struct seed_arena *arena, struct seed_block *block)
{
	struct seed_block **bin = &arena->bins[seed_bin(block->size)];

	block->prev = NULL;
	block->next = *bin;
	if (*bin)
		(*bin)->prev = block;
	*bin = block;
}

static void seed_unlink(struct seed_arena *arena, struct seed_block *block)
{
	if (block->next)
		block->next->prev = block->prev;
	if (block->prev)
		block->prev->next = block->next;
	else
		arena->bins[seed_bin(block->size)] = block->next;
}

void bench_begin(size_t most)
{
	pthread_mutexattr_t attributes;
	struct seed_block *block, *last;
	char *memory;
	int i;

	seed_length = most / 2;
	memory = mmap(NULL, SEED_ARENAS * seed_length, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	seed_arenas = mmap(NULL, SEED_ARENAS * sizeof(*seed_arenas), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	for (i = 0; i < SEED_ARENAS; i++) {
		pthread_mutex_init(&seed_arenas[i].lock, &attributes);
		seed_arenas[i].first = memory + i * seed_length;
		seed_arenas[i].end = seed_arenas[i].first + seed_length;
		block = (struct seed_block *)seed_arenas[i].first;
		block->size = seed_length - 64;
		last = seed_after(block);
		last->before = block->size;
		last->size = 32 | SEED_USED;
		seed_link(&seed_arenas[i], block);
	}
}

void bench_trim(void)
{
}

size_t bench_resident(void)
{
	return 0;
}

static void *seed_take(struct seed_arena *arena, size_t size)
{
	struct seed_block *block = NULL, *rest;
	unsigned int bin;

	if (size / 16 < SEED_CACHED && arena->cache[size / 16]) {
		block = arena->cache[size / 16];
		arena->cache[size / 16] = block->next;
		arena->cached[size / 16]--;
		return (char *)block + 16;
	}
	for (bin = seed_bin(size); bin < SEED_BINS && !block; bin++)
		for (block = arena->bins[bin]; block && block->size < size; block = block->next)
			;
	if (!block)
		return NULL;
	seed_unlink(arena, block);
	if (block->size - size >= 64) {
		rest = (struct seed_block *)((char *)block + size);
		rest->before = size;
		rest->size = block->size - size;
		seed_after(rest)->before = rest->size;
		seed_link(arena, rest);
		block->size = size;
	}
	block->size |= SEED_USED;
	return (char *)block + 16;
}

static void seed_give(struct seed_arena *arena, struct seed_block *block)
{
	struct seed_block *other;
	size_t size = block->size & ~SEED_USED;

	if (size / 16 < SEED_CACHED && arena->cached[size / 16] < 64) {
		block->next = arena->cache[size / 16];
		arena->cache[size / 16] = block;
		arena->cached[size / 16]++;
		return;
	}
	block->size = size;
	other = seed_after(block);
	if (!(other->size & SEED_USED)) {
		seed_unlink(arena, other);
		block->size += other->size;
	}
	if (block->before) {
		other = (struct seed_block *)((char *)block - block->before);
		if (!(other->size & SEED_USED)) {
			seed_unlink(arena, other);
			other->size += block->size;
			block = other;
		}
	}
	seed_after(block)->before = block->size;
	seed_link(arena, block);
}

void *bench_malloc(size_t size)
{
	struct seed_arena *arena;
	unsigned int i, first = (unsigned int)getpid();
	void *block = NULL;

	size = (size + 16 + 15) / 16 * 16;
	size = size < 48 ? 48 : size;
	for (i = 0; i < 2 * SEED_ARENAS && !block; i++) {
		arena = &seed_arenas[(first + i) % SEED_ARENAS];
		if (i < SEED_ARENAS ? pthread_mutex_trylock(&arena->lock) :
				      pthread_mutex_lock(&arena->lock))
			continue;
		block = seed_take(arena, size);
		pthread_mutex_unlock(&arena->lock);
	}
	return block;
}

void bench_free(void *block)
{
	struct seed_arena *arena;

	if (!block)
		return;
	arena = &seed_arenas[(size_t)((char *)block - seed_arenas[0].first) / seed_length];
	pthread_mutex_lock(&arena->lock);
	seed_give(arena, (struct seed_block *)((char *)block - 16));
	pthread_mutex_unlock(&arena->lock);
}
