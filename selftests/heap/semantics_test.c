// SPDX-License-Identifier: GPL-2.0-only
/* What C17 and POSIX.1-2024 say of the malloc family, on the default heap; and what free() promises beyond. */
#include <linux/io_uring.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>

#include "heap_test.h"
#include <kselftest_harness.h>

#define ALIGNED(address, to) (((uintptr_t)(address) & ((to) - 1)) == 0)

/* Sizes around every class and slab boundary. */
static size_t next_size(size_t size)
{
	return size < 4096 ? size + 1 : size < (1UL << 20) ? size + size / 17 : size + size / 5;
}

static bool is_filled(const unsigned char *block, size_t size, unsigned char value)
{
	size_t i;

	for (i = 0; i < size; i += size > 65536 ? 509 : 1)
		if (block[i] != value)
			return false;
	return !size || block[size - 1] == value;
}

TEST(every_size_is_aligned_to_16_and_usable)
{
	unsigned char *block;
	size_t size;

	for (size = 0; size < 64 * MIB; size = next_size(size)) {
		block = dvsm_malloc(size);
		ASSERT_NE(NULL, block);
		ASSERT_TRUE(ALIGNED(block, 16)) TH_LOG("size %zu", size);
		ASSERT_GE(dvsm_malloc_usable_size(block), size);
		memset(block, 0xa5, dvsm_malloc_usable_size(block));
		dvsm_free(block);
	}
	ASSERT_EQ(0, dvsm_heap_check(dvsm_heap_default(), 2));
}

TEST(size_classes_waste_an_eighth_at_most)
{
	unsigned char *block;
	size_t size, usable;

	for (size = 129; size < 1900000; size = next_size(size)) {
		block = dvsm_malloc(size);
		usable = dvsm_malloc_usable_size(block);
		ASSERT_LE(usable - size, size / 8 + 1) TH_LOG("size %zu has %zu", size, usable);
		dvsm_free(block);
	}
}

TEST(blocks_do_not_overlap)
{
	enum { NR = 20000 };
	static unsigned char *blocks[NR];
	static size_t sizes[NR];
	uint64_t seed = 1;
	int i, round;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < NR; i++) {
			if (blocks[i] && random_next(&seed) % 2) {
				ASSERT_TRUE(is_filled(blocks[i], sizes[i], (unsigned char)i));
				dvsm_free(blocks[i]);
				blocks[i] = NULL;
			}
			if (!blocks[i]) {
				sizes[i] = random_next(&seed) % (i % 100 ? 2000 : 200000);
				blocks[i] = dvsm_malloc(sizes[i]);
				ASSERT_NE(NULL, blocks[i]);
				memset(blocks[i], (unsigned char)i, sizes[i]);
			}
		}
	}
	for (i = 0; i < NR; i++) {
		ASSERT_TRUE(is_filled(blocks[i], sizes[i], (unsigned char)i));
		dvsm_free(blocks[i]);
	}
	ASSERT_EQ(0, dvsm_heap_check(dvsm_heap_default(), 2));
	ASSERT_EQ(0, live_blocks(dvsm_heap_default()));
}

TEST(zero_sizes_give_distinct_blocks)
{
	void *first = dvsm_malloc(0), *second = dvsm_malloc(0), *third = dvsm_calloc(0, 7);

	EXPECT_NE(NULL, first);
	EXPECT_NE(NULL, second);
	EXPECT_NE(NULL, third);
	EXPECT_NE(first, second);
	EXPECT_NE(second, third);
	dvsm_free(first);
	dvsm_free(second);
	dvsm_free(third);
	dvsm_free(NULL);
}

TEST(too_much_is_ENOMEM)
{
	volatile size_t half = SIZE_MAX / 2, most = SIZE_MAX, beyond = (size_t)PTRDIFF_MAX + 1;
	void *block = dvsm_malloc(10);

	errno = 0;
	EXPECT_EQ(NULL, dvsm_malloc(most));
	EXPECT_EQ(ENOMEM, errno);
	errno = 0;
	EXPECT_EQ(NULL, dvsm_malloc(beyond));
	EXPECT_EQ(ENOMEM, errno);
	errno = 0;
	EXPECT_EQ(NULL, dvsm_calloc(half, 3));
	EXPECT_EQ(ENOMEM, errno);
	errno = 0;
	EXPECT_EQ(NULL, dvsm_realloc(block, most));
	EXPECT_EQ(ENOMEM, errno);
	errno = 0;
	EXPECT_EQ(NULL, dvsm_reallocarray(block, half, 3));
	EXPECT_EQ(ENOMEM, errno);
	errno = 0;
	EXPECT_EQ(NULL, dvsm_aligned_alloc(4096, most - 100));
	EXPECT_EQ(ENOMEM, errno);
	errno = 0;
	EXPECT_EQ(NULL, dvsm_malloc(2UL << 40));
	EXPECT_EQ(ENOMEM, errno);
	dvsm_free(block);
}

TEST(calloc_zeroes_what_was_used)
{
	unsigned char *block;
	size_t size;

	for (size = 1; size < 16 * MIB; size = size * 3 + 1) {
		block = dvsm_malloc(size);
		memset(block, 0xff, size);
		dvsm_free(block);
		block = dvsm_calloc(1, size);
		ASSERT_TRUE(is_filled(block, size, 0)) TH_LOG("size %zu", size);
		dvsm_free(block);
	}
}

TEST(realloc_keeps_contents)
{
	uint64_t seed = 7;
	unsigned char *block = NULL;
	size_t size = 0, wanted;
	int i;

	for (i = 0; i < 2000; i++) {
		wanted = 1 + random_next(&seed) % (1U << random_next(&seed) % 24);
		block = dvsm_realloc(block, wanted);
		ASSERT_NE(NULL, block);
		ASSERT_TRUE(is_filled(block, size < wanted ? size : wanted, 0x5a))
			TH_LOG("from %zu to %zu", size, wanted);
		memset(block, 0x5a, wanted);
		size = wanted;
	}
	dvsm_free(block);
	ASSERT_EQ(0, dvsm_heap_check(dvsm_heap_default(), 2));
}

TEST(realloc_to_0_gives_a_block)
{
	void *block = dvsm_malloc(100);

	block = dvsm_realloc(block, 0);
	EXPECT_NE(NULL, block);
	dvsm_free(block);
}

TEST(alignments)
{
	size_t alignment, size;
	void *block;

	for (alignment = 1; alignment <= 64 * MIB; alignment *= 2) {
		for (size = 1; size <= 4 * MIB; size = size * 5 + 3) {
			block = dvsm_aligned_alloc(alignment, size);
			ASSERT_NE(NULL, block) TH_LOG("%zu at %zu", size, alignment);
			ASSERT_TRUE(ALIGNED(block, alignment));
			ASSERT_GE(dvsm_malloc_usable_size(block), size);
			memset(block, 1, size);
			dvsm_free(block);
		}
	}
	errno = 0;
	EXPECT_EQ(NULL, dvsm_aligned_alloc(24, 48));
	EXPECT_EQ(EINVAL, errno);
	errno = 0;
	EXPECT_EQ(NULL, dvsm_aligned_alloc(0, 48));
	EXPECT_EQ(EINVAL, errno);
}

/* Addresses count, not offsets: a heap may begin at any 2 MiB. */
TEST(alignments_in_a_heap_anywhere)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .reserve = 256 * MIB, .address = (void *)(0x120000000000 + 6 * MIB),
	};
	struct dvsm_heap *heap = dvsm_heap_create(&options);
	size_t alignment;
	void *block;

	ASSERT_NE(NULL, heap);
	for (alignment = 1; alignment <= 64 * MIB; alignment *= 2) {
		block = dvsm_heap_aligned_alloc(heap, alignment, 3 * MIB);
		ASSERT_NE(NULL, block) TH_LOG("%zu", alignment);
		ASSERT_TRUE(ALIGNED(block, alignment)) TH_LOG("%zu", alignment);
		dvsm_heap_free(heap, block);
	}
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

TEST(posix_memalign_returns_its_error)
{
	void *block = (void *)1;

	errno = 77;
	EXPECT_EQ(EINVAL, dvsm_posix_memalign(&block, 4, 10));
	EXPECT_EQ(EINVAL, dvsm_posix_memalign(&block, 24, 10));
	EXPECT_EQ(EINVAL, dvsm_posix_memalign(&block, 0, 10));
	EXPECT_EQ(ENOMEM, dvsm_posix_memalign(&block, 8, SIZE_MAX));
	EXPECT_EQ((void *)1, block);
	EXPECT_EQ(77, errno);
	EXPECT_EQ(0, dvsm_posix_memalign(&block, 4096, 10));
	EXPECT_TRUE(ALIGNED(block, 4096));
	EXPECT_EQ(77, errno);
	dvsm_free(block);
}

TEST(the_whole_family_works_on_a_heap)
{
	struct dvsm_heap *heap = heap_of(64 * MIB);
	volatile size_t half = SIZE_MAX / 2;
	unsigned char *block;
	void *other = (void *)1;

	ASSERT_NE(NULL, heap);
	block = dvsm_heap_reallocarray(heap, NULL, 10, 10);
	ASSERT_NE(UINT64_MAX, dvsm_heap_offset(heap, block));
	memset(block, 0x5a, 100);
	errno = 0;
	EXPECT_EQ(NULL, dvsm_heap_reallocarray(heap, block, half, 3));
	EXPECT_EQ(ENOMEM, errno);
	block = dvsm_heap_reallocarray(heap, block, 1000, 1000);
	ASSERT_NE(NULL, block);
	EXPECT_LE(1000000, dvsm_heap_usable_size(heap, block));
	EXPECT_TRUE(is_filled(block, 100, 0x5a));
	dvsm_heap_free(heap, block);

	block = dvsm_heap_memalign(heap, 8192, 100);
	EXPECT_TRUE(block && ALIGNED(block, 8192));
	EXPECT_NE(UINT64_MAX, dvsm_heap_offset(heap, block));
	dvsm_heap_free(heap, block);
	errno = 0;
	EXPECT_EQ(NULL, dvsm_heap_memalign(heap, 24, 10));
	EXPECT_EQ(EINVAL, errno);

	errno = 77;
	EXPECT_EQ(EINVAL, dvsm_heap_posix_memalign(heap, &other, 4, 10));
	EXPECT_EQ(EINVAL, dvsm_heap_posix_memalign(heap, &other, 24, 10));
	EXPECT_EQ(EINVAL, dvsm_heap_posix_memalign(heap, &other, 0, 10));
	EXPECT_EQ(ENOMEM, dvsm_heap_posix_memalign(heap, &other, 8, 100 * MIB));
	EXPECT_EQ((void *)1, other);
	EXPECT_EQ(0, dvsm_heap_posix_memalign(heap, &other, 4096, 10));
	EXPECT_TRUE(ALIGNED(other, 4096));
	EXPECT_NE(UINT64_MAX, dvsm_heap_offset(heap, other));
	EXPECT_EQ(77, errno);
	dvsm_heap_free(heap, other);

	block = dvsm_heap_malloc(heap, 100);
	EXPECT_EQ(dvsm_heap_usable_size(heap, block), dvsm_heap_malloc_usable_size(heap, block));
	EXPECT_EQ(0, dvsm_heap_malloc_usable_size(heap, NULL));
	dvsm_heap_free_sized(heap, block, 100);
	dvsm_heap_free_aligned_sized(heap, dvsm_heap_aligned_alloc(heap, 4096, 5000), 4096, 5000);
	dvsm_heap_free_sized(heap, NULL, 0);
	dvsm_heap_free_aligned_sized(heap, NULL, 0, 0);
	EXPECT_EQ(0, live_blocks(heap));
	dvsm_heap_destroy(heap);
}

TEST(frees_that_are_told_the_size_free)
{
	long before;
	size_t size;

	before = live_blocks(dvsm_heap_default());
	for (size = 0; size < 4 * MIB; size = size * 3 + 1) {
		errno = 42;
		dvsm_free_sized(dvsm_malloc(size), size);
		dvsm_free_sized(dvsm_calloc(1, size), size);
		dvsm_free_aligned_sized(dvsm_aligned_alloc(1024, size), 1024, size);
		ASSERT_EQ(42, errno);
	}
	dvsm_free_sized(NULL, 0);
	dvsm_free_aligned_sized(NULL, 64, 0);
	EXPECT_EQ(before, live_blocks(dvsm_heap_default()));
	EXPECT_EQ(0, dvsm_heap_check(dvsm_heap_default(), 2));
}

static uint64_t resident(const struct dvsm_heap *heap)
{
	struct dvsm_region_info info = { .size = sizeof(info) };

	return dvsm_region_info(dvsm_heap_region(heap), &info) ? 0 : info.out_resident;
}

TEST(locking_all_memory_on_fault_fills_no_heap)
{
	struct dvsm_heap *heap = heap_of(GIB), *later;
	uint64_t before = resident(heap);

	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT))
		SKIP(return, "mlockall: %s", strerror(errno));
	EXPECT_EQ(before, resident(heap));
	later = heap_of(GIB);
	ASSERT_NE(NULL, later);
	EXPECT_GE(before, resident(later));
	munlockall();
	dvsm_heap_destroy(later);
	dvsm_heap_destroy(heap);
}

TEST(free_keeps_errno)
{
	size_t size;
	int i;

	for (size = 1; size < 16 * MIB; size = size * 4 + 1) {
		void *blocks[40];

		for (i = 0; i < 40; i++)
			blocks[i] = dvsm_malloc(size);
		for (i = 0; i < 40; i++) {
			errno = 42;
			dvsm_free(blocks[i]);
			ASSERT_EQ(42, errno) TH_LOG("size %zu", size);
		}
	}
}

static void *free_it(void *block)
{
	dvsm_free(block);
	return dvsm_malloc(333);
}

TEST(threads_may_free_each_others_blocks_and_die)
{
	pthread_t thread;
	void *block;
	int i;

	for (i = 0; i < 300; i++) {
		ASSERT_EQ(0, pthread_create(&thread, NULL, free_it, dvsm_malloc(333)));
		ASSERT_EQ(0, pthread_join(thread, &block));
		dvsm_free(block);
	}
	ASSERT_EQ(0, dvsm_heap_check(dvsm_heap_default(), 2));
	ASSERT_EQ(0, live_blocks(dvsm_heap_default()));
}

static _Atomic bool stop;

static void *churn(void *context)
{
	void *blocks[64] = { 0 };
	uint64_t seed = (uintptr_t)&blocks;
	int i;

	(void)context;
	while (!atomic_load(&stop)) {
		i = (int)(random_next(&seed) % 64);
		dvsm_free(blocks[i]);
		blocks[i] = dvsm_malloc(random_next(&seed) % 5000);
	}
	for (i = 0; i < 64; i++)
		dvsm_free(blocks[i]);
	return NULL;
}

/* Children of a program whose other threads are anywhere: they share the heap, and must not wait for anybody. */
TEST(fork_at_any_moment)
{
	double end = seconds() + 2;
	pthread_t threads[3];
	void *block;
	pid_t pid;
	int i;

	dvsm_free(dvsm_malloc(1));
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, churn, NULL));
	while (seconds() < end) {
		block = dvsm_malloc(1000);
		pid = child_begin();
		if (!pid) {
			alarm(HANG);
			dvsm_free(block);
			for (i = 0; i < 300; i++)
				dvsm_free(dvsm_malloc((size_t)i * 50));
			_exit(0);
		}
		ASSERT_EQ(0, child_end(pid));
	}
	atomic_store(&stop, true);
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ASSERT_EQ(0, dvsm_heap_check(dvsm_heap_default(), 2));
	ASSERT_EQ(0, live_blocks(dvsm_heap_default()));
}

TEST(descendants_share_the_default_heap)
{
	long *block = dvsm_malloc(sizeof(*block)), **other = dvsm_malloc(sizeof(*other));
	pid_t pid;

	*block = 1;
	pid = child_begin();
	if (!pid) {
		*block = 2;
		*other = dvsm_malloc(sizeof(long));
		**other = 3;
		_exit(0);
	}
	ASSERT_EQ(0, child_end(pid));
	EXPECT_EQ(2, *block);
	EXPECT_EQ(3, **other);
	dvsm_free(*other);
	dvsm_free(other);
	dvsm_free(block);
}

TEST(memory_comes_back)
{
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };
	struct dvsm_heap *heap = heap_of(2 * GIB);
	enum { NR = 200000 };
	static void *blocks[NR];
	int i;

	for (i = 0; i < NR; i++)
		blocks[i] = dvsm_heap_malloc(heap, 1000);
	for (i = 0; i < NR; i++)
		dvsm_heap_free(heap, blocks[i]);
	ASSERT_EQ(0, dvsm_heap_stats(heap, &stats));
	/* Without being asked: what is retained, and little else. */
	EXPECT_LE(stats.out_retained + stats.out_chunks, 60 * MIB);
	EXPECT_EQ(0, stats.out_live_blocks);
	dvsm_heap_trim(heap, 0);
	ASSERT_EQ(0, dvsm_heap_stats(heap, &stats));
	EXPECT_LE(stats.out_chunks, 4 * MIB);
	EXPECT_EQ(0, stats.out_retained);
	ASSERT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

/* A part of what is in use may be kept on top of the 32 MiB, and it is in use no more. */
TEST(memory_that_was_kept_goes_with_what_was_in_use)
{
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };
	struct dvsm_heap *heap = heap_of(16 * GIB);
	enum { NR = 100 };
	void *blocks[NR];
	int i;

	ASSERT_NE(NULL, heap);
	/* None of it is touched. */
	for (i = 0; i < NR; i++)
		blocks[i] = dvsm_heap_malloc(heap, 100 * MIB);
	ASSERT_NE(NULL, blocks[NR - 1]);
	for (i = 0; i < NR; i++) {
		dvsm_heap_free(heap, blocks[i]);
		if (i != NR / 2)
			continue;
		ASSERT_EQ(0, dvsm_heap_stats(heap, &stats));
		EXPECT_GT(stats.out_retained, 500 * MIB);
	}
	ASSERT_EQ(0, dvsm_heap_stats(heap, &stats));
	EXPECT_LE(stats.out_retained, (32 + 16) * MIB);
	ASSERT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

/* What a heap has of a size: blocks that are ready, and slabs. */
static void ready_of(struct dvsm_heap *heap, size_t size, uint64_t *cached, uint64_t *slabs)
{
	struct dvsm_heap_class_stats classes[128];
	int nr = dvsm_heap_stats_classes(heap, classes, 128), i;

	for (i = 0; i < nr && classes[i].block_size != size; i++)
		;
	*cached = i < nr ? classes[i].cached : ~0ULL;
	*slabs = i < nr ? classes[i].slabs : ~0ULL;
}

#define IDLE_BLOCKS	5000

static void use_size(struct dvsm_heap *heap, size_t size)
{
	static void *blocks[IDLE_BLOCKS];
	int i;

	for (i = 0; i < IDLE_BLOCKS; i++)
		blocks[i] = dvsm_heap_malloc(heap, size);
	for (i = 0; i < IDLE_BLOCKS; i++)
		dvsm_heap_free(heap, blocks[i]);
}

TEST(blocks_of_a_size_that_nobody_wants_stop_being_ready)
{
	static const size_t sizes[] = { 64, 256, 1024 };
	struct dvsm_heap *heap = heap_of(GIB);
	double begun = seconds();
	uint64_t cached, slabs;
	unsigned int i, left;

	ASSERT_NE(NULL, heap);
	run_on(sched_getcpu());
	for (i = 0; i < 3; i++) {
		use_size(heap, sizes[i]);
		ready_of(heap, sizes[i], &cached, &slabs);
		EXPECT_LT(100, cached);
		EXPECT_LT(0, slabs);
	}
	do {
		usleep(5000);
		use_size(heap, 512);
		for (i = 0, left = 0; i < 3; i++) {
			ready_of(heap, sizes[i], &cached, &slabs);
			left += cached || slabs;
		}
	} while (left && seconds() - begun < HANG);
	EXPECT_EQ(0, left);
	ready_of(heap, 512, &cached, &slabs);
	EXPECT_LT(100, cached);
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

TEST(blocks_stay_ready_where_that_is_wanted)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .reserve = GIB, .idle_ms = UINT32_MAX,
	};
	struct dvsm_heap *heap = dvsm_heap_create(&options);
	uint64_t before, cached, slabs;
	int i;

	ASSERT_NE(NULL, heap);
	run_on(sched_getcpu());
	use_size(heap, 64);
	ready_of(heap, 64, &before, &slabs);
	EXPECT_LT(100, before);
	for (i = 0; i < 50; i++) {
		usleep(5000);
		use_size(heap, 512);
	}
	ready_of(heap, 64, &cached, &slabs);
	EXPECT_EQ(before, cached);
	dvsm_heap_destroy(heap);
}

/* A number of /proc/meminfo's that counts pages. */
static long pool(const char *field)
{
	FILE *meminfo = fopen("/proc/meminfo", "re");
	size_t width = strlen(field);
	char line[256];
	long value = -1;

	while (meminfo && fgets(line, sizeof(line), meminfo))
		if (!strncmp(line, field, width) && line[width] == ':')
			value = strtol(line + width + 1, NULL, 10);
	if (meminfo)
		fclose(meminfo);
	return value;
}

/* What nobody has and nobody was promised. */
static long pool_available(void)
{
	return pool("HugePages_Free") - pool("HugePages_Rsvd");
}

TEST(pages_of_the_pool_stay_the_heap_s)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options),
		.backend = DVSM_BACKEND_MEMFD_HUGETLB,
		.reserve = 64 * MIB,
		.retain_none = 1,
	};
	long before = pool_available(), rest;
	struct dvsm_heap *heap = dvsm_heap_create(&options);
	char *block, *again;

	if (!heap)
		SKIP(return, "needs 32 free huge pages: /proc/sys/vm/nr_hugepages");
	EXPECT_EQ(before - 32, pool_available());
	block = dvsm_heap_malloc(heap, 16 * MIB);
	ASSERT_NE(NULL, block);
	memset(block, 1, 16 * MIB);
	rest = pool("HugePages_Free");
	dvsm_heap_free(heap, block);
	EXPECT_EQ(before - 32, pool_available());
	dvsm_heap_trim(heap, 0);
	EXPECT_EQ(before - 32, pool_available());
	EXPECT_GE(rest, pool("HugePages_Free"));
	/* What is not fresh is cleared where that was promised. */
	again = dvsm_heap_calloc(heap, 1, 16 * MIB);
	ASSERT_NE(NULL, again);
	EXPECT_EQ(0, again[0]);
	EXPECT_EQ(0, memcmp(again, again + 1, 16 * MIB - 1));
	dvsm_heap_free(heap, again);
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
	EXPECT_EQ(before, pool_available());
}

/* As RDMA and VFIO do: pinned for as long as the ring has it. 0; -errno. */
static int device_register(void *address, size_t size)
{
	struct iovec buffer = { address, size };
	struct io_uring_params params = { 0 };
	int ring = (int)syscall(SYS_io_uring_setup, 1, &params), error;

	if (ring < 0)
		return -errno;
	error = syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1) ? -errno : 0;
	close(ring);
	return error;
}

TEST(memory_of_a_pinned_region_stays_the_heap_s_and_devices_may_have_any_block)
{
	struct dvsm_region_options options = {
		.size = sizeof(options), .flags = DVSM_REGION_F_PINNED, .backend = DVSM_BACKEND_DEVICE,
	};
	struct dvsm_region *region = dvsm_region_create(64 * MIB, &options);
	static const size_t sizes[] = { 100, 70000, 16 * MIB };
	struct dvsm_region_info info = { .size = sizeof(info) };
	struct dvsm_heap *heap;
	unsigned char *block;
	uint64_t features;
	int i;

	if (!region)
		SKIP(return, "no pinned region of 64 MiB: %s", strerror(errno));
	features = dvsm_region_features(region);
	heap = dvsm_heap_create_on(region, NULL);
	ASSERT_NE(NULL, heap);
	for (i = 0; i < 3; i++) {
		block = dvsm_heap_malloc(heap, sizes[i]);
		ASSERT_NE(NULL, block);
		memset(block, 0xff, sizes[i]);
		/* Older kernels' rings take no region, which the module says. */
		EXPECT_EQ(features & DVSM_FEATURE_FIXED_BUFFERS ? 0 : -EOPNOTSUPP, device_register(block, sizes[i]))
			TH_LOG("size %zu", sizes[i]);
		dvsm_heap_free(heap, block);
		EXPECT_EQ(0, dvsm_heap_trim(heap, 0));
		/* It is not fresh, and so is cleared. */
		block = dvsm_heap_calloc(heap, 1, sizes[i]);
		ASSERT_NE(NULL, block);
		EXPECT_TRUE(is_filled(block, sizes[i], 0)) TH_LOG("size %zu", sizes[i]);
		dvsm_heap_free(heap, block);
	}
	dvsm_heap_trim(heap, 0);
	ASSERT_EQ(0, dvsm_region_info(region, &info));
	EXPECT_EQ(64 * MIB, info.out_resident);
	EXPECT_EQ(0, live_blocks(heap));
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

TEST(statistics_agree_with_each_other)
{
	struct dvsm_heap_class_stats classes[200], one;
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };
	struct dvsm_heap *heap = heap_of(GIB);
	uint64_t live = 0, nodes[64], chunks = 0, seed = 1;
	void *blocks[2000];
	int i, nr;

	ASSERT_NE(NULL, heap);
	for (i = 0; i < 2000; i++)
		blocks[i] = dvsm_heap_malloc(heap, 1 + random_next(&seed) % 100000);
	for (i = 0; i < 2000; i += 3)
		dvsm_heap_free(heap, blocks[i]);
	nr = dvsm_heap_stats_classes(heap, classes, 200);
	ASSERT_LT(100, nr);
	ASSERT_GT(200, nr);
	ASSERT_EQ(0, dvsm_heap_stats(heap, &stats));
	for (i = 0; i < nr; i++) {
		ASSERT_TRUE(!i || classes[i].block_size > classes[i - 1].block_size);
		EXPECT_LE((classes[i].live + classes[i].cached + classes[i].free) *
			  classes[i].block_size, classes[i].slabs);
		live += classes[i].live * classes[i].block_size;
	}
	EXPECT_EQ(stats.out_live, live);
	EXPECT_EQ(2000 - 667, stats.out_live_blocks);
	EXPECT_EQ(0, stats.out_stranded);
	EXPECT_EQ(nr, dvsm_heap_stats_classes(heap, &one, 1));
	EXPECT_EQ(16, one.block_size);
	nr = dvsm_heap_stats_nodes(heap, nodes, 64);
	ASSERT_LE(1, nr);
	for (i = 0; i < nr; i++)
		chunks += nodes[i];
	EXPECT_EQ(stats.out_chunks, chunks);
	dvsm_heap_destroy(heap);
}

TEST(trim_empties_stacks_of_cpus_that_the_thread_left)
{
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };
	struct dvsm_heap *heap = heap_of(GIB);
	cpu_set_t all, after;
	void *blocks[200];
	int i, last = 0;

	ASSERT_NE(NULL, heap);
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	if (CPU_COUNT(&all) < 2)
		SKIP(return, "one CPU");
	for (i = 0; i < CPU_SETSIZE; i++)
		last = CPU_ISSET(i, &all) ? i : last;
	run_on(last);
	for (i = 0; i < 200; i++)
		blocks[i] = dvsm_heap_malloc(heap, 64);
	for (i = 0; i < 200; i++)
		dvsm_heap_free(heap, blocks[i]);
	for (i = 0; !CPU_ISSET(i, &all); i++)
		;
	run_on(i);
	dvsm_heap_stats(heap, &stats);
	EXPECT_LT(0, stats.out_cached);
	dvsm_heap_trim(heap, 0);
	dvsm_heap_stats(heap, &stats);
	EXPECT_EQ(0, stats.out_cached);
	EXPECT_EQ(0, stats.out_chunks);
	sched_getaffinity(0, sizeof(after), &after);
	EXPECT_EQ(1, CPU_COUNT(&after));
	EXPECT_TRUE(CPU_ISSET(i, &after));
	sched_setaffinity(0, sizeof(all), &all);
	dvsm_heap_destroy(heap);
}

TEST(a_full_heap_says_ENOMEM_and_recovers)
{
	struct dvsm_heap *heap = heap_of(64 * MIB);
	enum { NR = 2000 };
	static void *blocks[NR];
	int nr, round;

	for (round = 0; round < 3; round++) {
		for (nr = 0; nr < NR; nr++) {
			errno = 0;
			blocks[nr] = dvsm_heap_malloc(heap, 100000);
			if (!blocks[nr])
				break;
		}
		ASSERT_EQ(ENOMEM, errno);
		ASSERT_GT(nr, 400);
		while (nr)
			dvsm_heap_free(heap, blocks[--nr]);
		ASSERT_EQ(0, dvsm_heap_check(heap, 2));
	}
	dvsm_heap_destroy(heap);
}

/* Counted by pages that the file has: a heap with one small block touches what that takes. */
TEST(a_new_heap_takes_little_memory)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .reserve = GIB, .backend = DVSM_BACKEND_MEMFD_4K,
	};
	struct dvsm_heap *heap = dvsm_heap_create(&options);
	struct stat file;
	void *block;
	int i;

	ASSERT_NE(NULL, heap);
	run_on(sched_getcpu());
	for (i = 0; i < 3; i++) {
		block = dvsm_heap_malloc(heap, 64);
		ASSERT_NE(NULL, block);
		usleep(50000);
		/* Comes to the slabs, and looks for stacks that nobody uses. */
		dvsm_heap_free(heap, dvsm_heap_malloc(heap, 100000));
	}
	ASSERT_EQ(0, fstat(dvsm_heap_fd(heap), &file));
	/* Tables of lanes and chunks, the block, and of the stacks' 37 pages one or two. */
	EXPECT_GT(24, (long)file.st_blocks / 8) TH_LOG("%ld KiB", (long)file.st_blocks / 2);
	dvsm_heap_destroy(heap);
}

/* Small ones are as large as they have to be, whatever the machine's tables take. */
TEST(a_small_reserve_has_room_for_what_was_asked)
{
	static const uint64_t reserves[] = { 1, MIB, 32 * MIB, 64 * MIB };
	struct dvsm_heap *heap;
	void *block;
	size_t i;

	for (i = 0; i < sizeof(reserves) / sizeof(*reserves); i++) {
		heap = heap_of(reserves[i]);
		ASSERT_NE(NULL, heap) TH_LOG("%lu bytes: %s", reserves[i], strerror(errno));
		block = dvsm_heap_malloc(heap, 40 * MIB);
		EXPECT_NE(NULL, block);
		dvsm_heap_free(heap, block);
		dvsm_heap_destroy(heap);
	}
	EXPECT_EQ(NULL, heap_of(2048 * GIB));
	EXPECT_EQ(EINVAL, errno);
}

TEST(memory_of_another_node_is_better_than_ENOMEM)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .flags = DVSM_HEAP_F_FAKE_NODES, .reserve = 64 * MIB,
	};
	struct dvsm_heap *heap = dvsm_heap_create(&options);
	enum { NR_MAX = 65536, KEEP = 60 };
	static void *blocks[NR_MAX];
	cpu_set_t all;
	int nr, i;

	ASSERT_NE(NULL, heap);
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	if (!CPU_ISSET(0, &all) || !CPU_ISSET(1, &all))
		SKIP(return, "not CPUs 0 and 1");
	/* Every chunk becomes node 0's and keeps a block. */
	run_on(0);
	for (nr = 0; nr < NR_MAX && (blocks[nr] = dvsm_heap_malloc(heap, 1000)); nr++)
		;
	ASSERT_LT(10000, nr);
	ASSERT_GT(NR_MAX, nr);
	for (i = 0; i < nr; i++)
		if (i % KEEP)
			dvsm_heap_free(heap, blocks[i]);
	run_on(1);
	for (i = 0; i < nr; i++) {
		if (i % KEEP == 0)
			continue;
		blocks[i] = dvsm_heap_malloc(heap, 1000);
		if (!blocks[i])
			break;
	}
	EXPECT_LT(nr * 9 / 10, i) TH_LOG("%d of %d: %s", i, nr, strerror(errno));
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	sched_setaffinity(0, sizeof(all), &all);
	dvsm_heap_destroy(heap);
}

/* Closed behind the library's back, as daemons do, and taken by a file of the program's own. */
TEST(a_descriptor_that_is_another_files_by_now_is_left_alone)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .reserve = 64 * MIB, .backend = DVSM_BACKEND_MEMFD_4K,
	};
	struct dvsm_heap *heap = dvsm_heap_create(&options);
	int file = memfd_create("other", MFD_CLOEXEC), fd;
	char text[8] = { 0 };

	ASSERT_NE(NULL, heap);
	ASSERT_LE(0, file);
	ASSERT_EQ(7, write(file, "precious", 7));
	fd = dvsm_heap_fd(heap);
	ASSERT_EQ(fd, dup2(file, fd));
	dvsm_heap_destroy(heap);
	EXPECT_EQ(7, pread(file, text, 7, 0));
	EXPECT_STREQ("preciou", text);
	EXPECT_EQ(0, close(fd));
}

static struct {
	struct dvsm_heap *heap;
	volatile int nr_forks, nr_left;		/* rounds that a child does */
} forking;

static void fork_here(int signal)
{
	(void)signal;
	if (forking.nr_left || forking.nr_forks++ >= 300)
		return;
	if (!fork())
		forking.nr_left = 100;
}

/* 1 for a block that somebody has already. */
static int allocate_some(struct dvsm_heap *heap, size_t size)
{
	void *blocks[8];
	int i, j;

	for (i = 0; i < 8; i++) {
		blocks[i] = dvsm_heap_malloc(heap, size);
		for (j = 0; j < i; j++)
			if (blocks[i] == blocks[j])
				return 1;
	}
	while (i--)
		dvsm_heap_free(heap, blocks[i]);
	return 0;
}

/* Returns how many processes saw something wrong. */
static int fork_amid(size_t size)
{
	const struct itimerval often = { .it_interval.tv_usec = 700, .it_value.tv_usec = 700 };
	const struct itimerval never = { .it_value.tv_usec = 0 };
	struct sigaction action = { .sa_handler = fork_here, .sa_flags = SA_RESTART };
	int status, nr_wrong = 0;

	forking.nr_forks = 0;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	while (forking.nr_forks < 300) {
		if (allocate_some(forking.heap, size))
			_exit(1);
		if (forking.nr_left && !--forking.nr_left)
			_exit(0);
		while (!forking.nr_left && waitpid(-1, &status, WNOHANG) > 0)
			nr_wrong += !!status;
	}
	if (forking.nr_left)
		_exit(0);
	setitimer(ITIMER_REAL, &never, NULL);
	while (wait(&status) > 0)
		nr_wrong += !!status;
	return nr_wrong;
}

/* As programs could until POSIX.1-2017. */
TEST(a_handler_that_forks_returns_in_both)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .flags = DVSM_HEAP_F_PRIVATE, .reserve = 64 * MIB,
	};

	forking.heap = dvsm_heap_create(&options);
	ASSERT_NE(NULL, forking.heap);
	EXPECT_EQ(0, fork_amid(100000));
	EXPECT_EQ(0, dvsm_heap_check(forking.heap, 2));
	dvsm_heap_destroy(forking.heap);
	options.flags |= DVSM_HEAP_F_HARDENED;
	forking.heap = dvsm_heap_create(&options);
	ASSERT_NE(NULL, forking.heap);
	EXPECT_EQ(0, fork_amid(200));
	EXPECT_EQ(0, dvsm_heap_check(forking.heap, 2));
	dvsm_heap_destroy(forking.heap);
}

static void *allocate_cancelled(void *unused)
{
	pthread_cancel(pthread_self());
	dvsm_free(dvsm_malloc(100));
	return NULL;
}

TEST(a_cancelled_thread_makes_nobody_wait)
{
	pthread_t thread;
	pid_t pid;

	pid = child_begin();
	if (!pid) {
		alarm(HANG);
		if (!pthread_create(&thread, NULL, allocate_cancelled, NULL))
			pthread_join(thread, NULL);
		_exit(!dvsm_malloc(100));
	}
	EXPECT_EQ(0, child_end(pid));
}

#define NR_FIRST	8

static void *malloc_behind_barrier(void *barrier)
{
	pthread_barrier_wait(barrier);
	return dvsm_malloc(100);
}

/* Ends the process: 0 if each of several threads that begin at one time gets a block of its own. */
static void malloc_first(void)
{
	pthread_t threads[NR_FIRST];
	pthread_barrier_t barrier;
	void *blocks[NR_FIRST];
	int i, j;

	pthread_barrier_init(&barrier, NULL, NR_FIRST);
	for (i = 0; i < NR_FIRST; i++)
		if (pthread_create(&threads[i], NULL, malloc_behind_barrier, &barrier))
			_exit(1);
	for (i = 0; i < NR_FIRST; i++) {
		pthread_join(threads[i], &blocks[i]);
		if (!blocks[i])
			_exit(1);
		for (j = 0; j < i; j++)
			if (blocks[j] == blocks[i])
				_exit(1);
	}
	_exit(0);
}

/* As in a container, whose first process has the number 1. */
TEST(the_first_process_of_a_namespace_makes_the_default_heap_once)
{
	int *refused = shared_page(4096), round;
	pid_t pid, first;

	ASSERT_NE(NULL, refused);
	for (round = 0; round < 20; round++) {
		pid = child_begin();
		if (!pid) {
			*refused = unshare(CLONE_NEWUSER | CLONE_NEWPID) ? errno : 0;
			if (*refused)
				_exit(0);
			first = child_begin();
			if (!first)
				malloc_first();
			_exit(child_end(first) ? 1 : 0);
		}
		ASSERT_EQ(0, child_end(pid)) TH_LOG("round %d", round);
		if (*refused)
			SKIP(return, "no namespaces of one's own: %s", strerror(*refused));
	}
	munmap(refused, 4096);
}

TEST(a_limit_on_files_makes_the_heap_smaller)
{
	const struct rlimit limit = { .rlim_cur = GIB, .rlim_max = GIB };
	struct dvsm_heap_options options = { .size = sizeof(options), .reserve = 2 * GIB };
	pid_t pid;

	pid = child_begin();
	if (!pid) {
		if (setrlimit(RLIMIT_FSIZE, &limit))
			_exit(2);
		options.backend = DVSM_BACKEND_MEMFD;
		if (dvsm_heap_create(&options) || errno != EFBIG)
			_exit(3);
		_exit(!dvsm_malloc(100));
	}
	EXPECT_EQ(0, child_end(pid));
}

TEST_HARNESS_MAIN
