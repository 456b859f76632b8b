// SPDX-License-Identifier: LGPL-2.1-or-later
/* A heap in numbers, counted when they are asked for: the fast paths count nothing. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "heap_slab.h"

struct dvsm_tally {
	uint64_t slabs[DVSM_CLASSES];
	uint64_t blocks[DVSM_CLASSES];
	uint64_t free[DVSM_CLASSES];
	uint64_t cached[DVSM_CLASSES];
	uint64_t stranded;		/* bytes */
	uint64_t chunks[DVSM_HEAP_NODES_MAX];
	uint64_t huge_blocks, huge_chunks, free_pages, open_chunks;
};

static void dvsm_tally_open(const struct dvsm_heap *heap, uint32_t chunk, struct dvsm_tally *tally)
{
	uint32_t page, first = chunk * DVSM_CHUNK_PAGES, word, number;
	const struct dvsm_class *class;

	tally->open_chunks++;
	tally->free_pages += (uint64_t)__builtin_popcountll(
		dvsm_word_read(&heap->chunks[chunk].pages).bits);
	for (page = first; page < first + DVSM_CHUNK_PAGES; page++) {
		number = heap->classes[page];
		if (!dvsm_class_is_slab(number) || heap->slabs[page].delta)
			continue;
		number &= DVSM_CLASSES - 1;
		class = dvsm_heap_class(heap, number);
		tally->slabs[number]++;
		tally->blocks[number] += class->nr_blocks;
		for (word = 0; word < dvsm_class_words(class); word++)
			tally->free[number] += (uint64_t)__builtin_popcountll(
				dvsm_word_read(dvsm_slab_word(heap, page, word)).bits);
	}
}

/* "0-3,6" */
static void dvsm_cpus_online(bool *online)
{
	char text[4096];
	ssize_t length = dvsm_file_read("/sys/devices/system/cpu/online", text, sizeof(text)), i;
	uint32_t number = 0, first = DVSM_HEAP_CPUS_MAX;

	/* Without the file nothing is said to be offline. */
	memset(online, length <= 0, DVSM_HEAP_CPUS_MAX * sizeof(*online));
	for (i = 0; i < length; i++) {
		if (text[i] >= '0' && text[i] <= '9') {
			number = number * 10 + (uint32_t)(text[i] - '0');
			if (i + 1 < length)
				continue;
		}
		if (text[i] == '-') {
			first = number;
		} else {
			for (first = first < number ? first : number;
			     first <= number && first < DVSM_HEAP_CPUS_MAX; first++)
				online[first] = true;
			first = DVSM_HEAP_CPUS_MAX;
			if (text[i] == '\n')
				break;
		}
		number = 0;
	}
}

static void dvsm_tally_stacks(const struct dvsm_heap *heap, struct dvsm_tally *tally)
{
	struct dvsm_stack *stack;
	struct dvsm_place place;
	uint32_t cpu, index, i, nr;
	bool online[DVSM_HEAP_CPUS_MAX];

	dvsm_cpus_online(online);
	for (cpu = 0; cpu < heap->nr_cpus; cpu++) {
		for (index = 1; index <= DVSM_CLASS_CACHED; index++) {
			nr = (uint32_t)atomic_load(&dvsm_cpu_stack(heap, cpu, index)->head);
			tally->cached[index] += nr;
			if (!online[cpu])
				tally->stranded += (uint64_t)nr * dvsm_heap_class(heap, index)->size;
		}
		stack = dvsm_cpu_stack(heap, cpu, DVSM_STACK_REMOTE);
		for (i = 0; i < (uint32_t)atomic_load(&stack->head); i++) {
			if (stack->blocks[i] - heap->base >= heap->size ||
			    !dvsm_slab_place(heap, stack->blocks[i] - heap->base, &place))
				continue;
			index = place.class & (DVSM_CLASSES - 1);
			tally->cached[index]++;
			if (!online[cpu])
				tally->stranded += dvsm_heap_class(heap, index)->size;
		}
	}
}

static void dvsm_tally_count(const struct dvsm_heap *heap, struct dvsm_tally *tally)
{
	uint32_t chunk, nr;

	memset(tally, 0, sizeof(*tally));
	for (chunk = heap->header->first_chunk; chunk < atomic_load(&heap->header->high_chunk);
	     chunk += nr) {
		nr = 1;
		switch (heap->chunks[chunk].kind) {
		case DVSM_CHUNK_OPEN:
			dvsm_tally_open(heap, chunk, tally);
			break;
		case DVSM_CHUNK_HUGE:
			nr = heap->chunks[chunk].nr_chunks ? heap->chunks[chunk].nr_chunks : 1;
			tally->huge_blocks++;
			tally->huge_chunks += nr;
			break;
		default:
			continue;
		}
		tally->chunks[heap->chunks[chunk].node % DVSM_HEAP_NODES_MAX] += nr;
	}
	dvsm_tally_stacks(heap, tally);
}

/* Others may be at work: a count that would be negative is 0. */
static uint64_t dvsm_tally_live(const struct dvsm_tally *tally, uint32_t class)
{
	uint64_t idle = tally->free[class] + tally->cached[class];

	return tally->blocks[class] > idle ? tally->blocks[class] - idle : 0;
}

int dvsm_heap_stats(struct dvsm_heap *heap, struct dvsm_heap_stats *stats)
{
	const struct dvsm_heap_header *header = heap->header;
	struct dvsm_heap_stats answer = { .size = stats->size };
	struct dvsm_tally tally;
	uint32_t class;
	uint64_t size;

	if (stats->size < sizeof(answer))
		return dvsm_fail(EINVAL);
	dvsm_tally_count(heap, &tally);
	answer.out_reserved = heap->size;
	answer.out_metadata = (uint64_t)header->first_chunk << DVSM_HEAP_CHUNK_SHIFT;
	answer.out_chunks = (tally.open_chunks + tally.huge_chunks) << DVSM_HEAP_CHUNK_SHIFT;
	answer.out_retained = (uint64_t)atomic_load(&header->nr_dirty) << DVSM_HEAP_CHUNK_SHIFT;
	answer.out_free_pages = tally.free_pages << DVSM_HEAP_PAGE_SHIFT;
	answer.out_huge = tally.huge_chunks << DVSM_HEAP_CHUNK_SHIFT;
	answer.out_live = answer.out_huge;
	answer.out_live_blocks = tally.huge_blocks;
	for (class = 1; class <= DVSM_CLASS_LAST; class++) {
		size = dvsm_heap_class(heap, class)->size;
		answer.out_live += dvsm_tally_live(&tally, class) * size;
		answer.out_live_blocks += dvsm_tally_live(&tally, class);
		answer.out_cached += tally.cached[class] * size;
		answer.out_free += tally.free[class] * size;
	}
	answer.out_stranded = tally.stranded;
	answer.out_deaths = atomic_load(&header->nr_deaths);
	answer.out_recovered = atomic_load(&header->nr_recovered);
	answer.out_discarded = atomic_load(&header->nr_discards) << DVSM_HEAP_CHUNK_SHIFT;
	memset(stats, 0, stats->size);
	*stats = answer;
	return 0;
}

int dvsm_heap_stats_classes(struct dvsm_heap *heap, struct dvsm_heap_class_stats *classes,
			    unsigned int nr)
{
	struct dvsm_tally tally;
	uint32_t class;

	dvsm_tally_count(heap, &tally);
	for (class = 1; class <= DVSM_CLASS_LAST && class <= nr; class++)
		classes[class - 1] = (struct dvsm_heap_class_stats){
			.block_size = dvsm_heap_class(heap, class)->size,
			.slabs = tally.slabs[class] * dvsm_heap_class(heap, class)->nr_pages
				 << DVSM_HEAP_PAGE_SHIFT,
			.live = dvsm_tally_live(&tally, class),
			.cached = tally.cached[class],
			.free = tally.free[class],
		};
	return (int)DVSM_CLASS_LAST;
}

int dvsm_heap_stats_nodes(struct dvsm_heap *heap, uint64_t *chunks, unsigned int nr)
{
	struct dvsm_tally tally;
	uint32_t node;

	dvsm_tally_count(heap, &tally);
	for (node = 0; node < heap->nr_nodes && node < nr; node++)
		chunks[node] = tally.chunks[node] << DVSM_HEAP_CHUNK_SHIFT;
	return (int)heap->nr_nodes;
}

/* snprintf() into a buffer of our own: the heap may be the one that stdio allocates from. */
__attribute__((format(printf, 3, 4)))
static int dvsm_print(int fd, int error, const char *format, ...)
{
	char line[160];
	const char *at = line;
	va_list list;
	ssize_t done;
	int length;

	if (error)
		return error;
	va_start(list, format);
	length = vsnprintf(line, sizeof(line), format, list);
	va_end(list);
	for (; length > 0; at += done, length -= (int)done) {
		do {
			done = write(fd, at, (size_t)length);
		} while (done < 0 && errno == EINTR);
		if (done <= 0)
			return done ? -errno : -EIO;
	}
	return 0;
}

int dvsm_heap_print(struct dvsm_heap *heap, int fd)
{
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };
	struct dvsm_tally tally;
	uint32_t class, node;
	int error;

	dvsm_heap_stats(heap, &stats);
	dvsm_tally_count(heap, &tally);
	error = dvsm_print(fd, 0, "heap at %p, %llu GiB reserved, %s\n", (void *)heap->base,
			   (unsigned long long)heap->size >> 30, heap->region ?
			   dvsm_backend_name(dvsm_region_backend(heap->region)) :
			   heap->is_copied ? "device, private" : "private");
	error = dvsm_print(fd, error, "%12llu KiB live in %llu blocks (%llu KiB huge)\n",
			   (unsigned long long)stats.out_live >> 10,
			   (unsigned long long)stats.out_live_blocks,
			   (unsigned long long)stats.out_huge >> 10);
	error = dvsm_print(fd, error, "%12llu KiB in chunks, of it %llu KiB cached, %llu KiB free in slabs, %llu KiB free pages\n",
			   (unsigned long long)stats.out_chunks >> 10,
			   (unsigned long long)stats.out_cached >> 10,
			   (unsigned long long)stats.out_free >> 10,
			   (unsigned long long)stats.out_free_pages >> 10);
	if (stats.out_stranded)
		error = dvsm_print(fd, error, "%12llu KiB cached for CPUs that are offline\n",
				   (unsigned long long)stats.out_stranded >> 10);
	error = dvsm_print(fd, error, "%12llu KiB retained, %llu KiB given back so far\n",
			   (unsigned long long)stats.out_retained >> 10,
			   (unsigned long long)stats.out_discarded >> 10);
	error = dvsm_print(fd, error, "%12llu deaths inside, %llu with something in hand\n",
			   (unsigned long long)stats.out_deaths,
			   (unsigned long long)stats.out_recovered);
	for (node = 0; node < heap->nr_nodes; node++)
		error = dvsm_print(fd, error, "%12llu KiB of chunks on node %u\n",
				   (unsigned long long)tally.chunks[node] << 11, node);
	error = dvsm_print(fd, error, "%9s %8s %10s %10s %10s\n", "size", "slabs", "live", "cached",
			   "free");
	for (class = 1; class <= DVSM_CLASS_LAST; class++)
		if (tally.slabs[class])
			error = dvsm_print(fd, error, "%9u %8llu %10llu %10llu %10llu\n",
					   dvsm_heap_class(heap, class)->size,
					   (unsigned long long)tally.slabs[class],
					   (unsigned long long)dvsm_tally_live(&tally, class),
					   (unsigned long long)tally.cached[class],
					   (unsigned long long)tally.free[class]);
	return error ? dvsm_fail(error) : 0;
}
