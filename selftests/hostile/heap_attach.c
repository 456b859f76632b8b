// SPDX-License-Identifier: GPL-2.0-only
/*
 * A heap that somebody has damaged, or made to do harm, before it is attached: attaching refuses it, or works;
 * then checking it, walking it and asking it for statistics ends with an answer. libFuzzer decides what is
 * damaged: an input is a list of words to be overwritten in the tables of a heap that was in use.
 *
 * Damage done while the heap is attached is not the matter here: whoever can do that is trusted.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <dvsm/dvsm.h>
#include "../../libdvsm/heap_types.h"

#define LENGTH		DVSM_HEAP_SIZE_MIN
#define PAGE		4096UL
#define NR_BLOCKS	400

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One word that is overwritten. */
struct damage {
	uint8_t table;		/* where: an index of tables[] */
	uint8_t width;		/* 1, 2, 4 or 8 bytes: its lowest two bits; bit 2: as an offset added to what is there */
	uint16_t entry;
	uint32_t at;		/* byte in the entry */
	uint64_t value;
};

/* What of a heap is not zero, and where its tables are. */
struct page {
	uint64_t offset;
	unsigned char data[PAGE];
};

static struct page *pages;
static size_t nr_pages;
static struct { uint64_t offset, entry; } tables[10];

static void heap_use(struct dvsm_heap *heap)
{
	void *blocks[NR_BLOCKS];
	unsigned int i;

	for (i = 0; i < NR_BLOCKS; i++)
		blocks[i] = dvsm_heap_malloc(heap, i % 50 ? 16UL << i % 12 : i << 12);
	for (i = 0; i < NR_BLOCKS; i += 3)
		dvsm_heap_free(heap, blocks[i]);
	if (!dvsm_heap_malloc_owned(heap, 100, 7) || !dvsm_heap_malloc_owned(heap, 5UL << 20, 7))
		abort();
	dvsm_heap_root_set(heap, 0, blocks[1]);
}

static void tables_find(const struct dvsm_heap_header *header)
{
	const uint64_t offsets[] = {
		0, header->lanes, header->logs, header->map, header->hints, header->chunks, header->classes,
		header->slabs, header->cpus, header->words,
	};
	const uint64_t entries[] = {
		sizeof(*header), sizeof(struct dvsm_lane), sizeof(struct dvsm_log), sizeof(struct dvsm_word), 8,
		sizeof(struct dvsm_heap_chunk), 1, sizeof(struct dvsm_slab), 1UL << DVSM_CPU_SHIFT,
		DVSM_SLAB_WORDS * sizeof(struct dvsm_word),
	};
	unsigned int i;

	for (i = 0; i < 10; i++) {
		tables[i].offset = offsets[i];
		tables[i].entry = entries[i];
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options),
		.reserve = LENGTH,
		.backend = DVSM_BACKEND_MEMFD_4K,
	};
	struct dvsm_heap *heap = dvsm_heap_create(&options);
	static const char zeroes[PAGE];
	uint64_t offset;

	(void)argc;
	(void)argv;
	if (!heap)
		abort();
	heap_use(heap);
	tables_find(heap->header);
	pages = calloc(heap->header->first_chunk * DVSM_HEAP_CHUNK_SIZE / PAGE, sizeof(*pages));
	for (offset = 0; offset < heap->header->first_chunk * DVSM_HEAP_CHUNK_SIZE; offset += PAGE) {
		if (!memcmp((void *)(heap->base + offset), zeroes, PAGE))
			continue;
		pages[nr_pages].offset = offset;
		memcpy(pages[nr_pages++].data, (void *)(heap->base + offset), PAGE);
	}
	dvsm_heap_detach(heap);
	return 0;
}

static void damage_do(int fd, const struct damage *damage)
{
	unsigned int table = damage->table % 10;
	uint64_t at = tables[table].offset + damage->entry * tables[table].entry +
		      damage->at % tables[table].entry;
	size_t width = 1UL << (damage->width & 3);
	uint64_t value = 0;

	if (at + sizeof(value) > LENGTH)
		return;
	if (damage->width & 4 && pread(fd, &value, width, (off_t)at) < 0)
		abort();
	value += damage->value;
	if (pwrite(fd, &value, width, (off_t)at) < 0)
		abort();
}

/* A block is in the heap, all of it. */
static int visit(void *address, size_t size, void *context)
{
	struct dvsm_heap *heap = context;
	uint64_t at = dvsm_heap_offset(heap, address);

	if (at >= heap->size || size > heap->size - at)
		abort();
	return 0;
}

static void heap_look(struct dvsm_heap *heap)
{
	struct dvsm_heap_account account = { .size = sizeof(account) };
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };

	dvsm_heap_check(heap, 0);
	dvsm_heap_check(heap, 1);
	dvsm_heap_check(heap, 2);
	dvsm_heap_account(heap, &account);
	dvsm_heap_walk(heap, visit, heap);
	dvsm_heap_stats(heap, &stats);
	dvsm_heap_root_get(heap, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("hostile", MFD_CLOEXEC);
	struct dvsm_heap *heap;
	struct damage damage;
	size_t i;

	if (fd < 0 || ftruncate(fd, (off_t)LENGTH))
		abort();
	for (i = 0; i < nr_pages; i++)
		if (pwrite(fd, pages[i].data, PAGE, (off_t)pages[i].offset) != (ssize_t)PAGE)
			abort();
	for (; size >= sizeof(damage); data += sizeof(damage), size -= sizeof(damage)) {
		memcpy(&damage, data, sizeof(damage));
		damage_do(fd, &damage);
	}
	heap = dvsm_heap_attach(fd);
	if (heap) {
		heap_look(heap);
		dvsm_heap_detach(heap);
	}
	close(fd);
	return 0;
}
