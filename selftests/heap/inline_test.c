// SPDX-License-Identifier: GPL-2.0-only
/* The fast paths in the caller and those in the library are the same heap's. */
#include <dvsm/heap_inline.h>

#include "heap_test.h"
#include <kselftest_harness.h>

#ifndef dvsm_malloc
#error "this compiler gets no inline paths: leave the test out"
#endif

#define NR	4000

/* Each in turn by call and in the caller, in several processes that free each other's. */
static void work(void *volatile *slots, uint64_t seed, double end)
{
	unsigned char *block;
	size_t size, i;
	uint32_t slot;

	while (seconds() < end) {
		slot = random_next(&seed) % NR;
		block = __atomic_exchange_n(&slots[slot], NULL, __ATOMIC_ACQ_REL);
		if (block) {
			size = *(uint32_t *)block;
			for (i = 4; i < size; i++)
				if (block[i] != (unsigned char)size)
					abort();
			if (random_next(&seed) % 2)
				dvsm_free(block);
			else
				(dvsm_free)(block);
			continue;
		}
		size = 4 + random_next(&seed) % (random_next(&seed) % 16 ? 1100 : 70000);
		block = random_next(&seed) % 2 ? dvsm_malloc(size) : (dvsm_malloc)(size);
		if (!block || (uintptr_t)block % 16)
			abort();
		memset(block, (int)size, size);
		*(uint32_t *)block = (uint32_t)size;
		block = __atomic_exchange_n(&slots[slot], block, __ATOMIC_ACQ_REL);
		dvsm_free(block);
	}
}

TEST(inline_and_called_paths_mix)
{
	void *volatile *slots = shared_page(NR * sizeof(*slots));
	double end = seconds() + patience(3);
	pid_t pid[4];
	long live;
	int i;

	ASSERT_NE(NULL, slots);
	dvsm_free(dvsm_malloc(1));
	dvsm_free(NULL);
	live = live_blocks(dvsm_heap_default());
	for (i = 0; i < 4; i++) {
		pid[i] = child_begin();
		if (!pid[i]) {
			work(slots, (uint64_t)i + 1, end);
			_exit(0);
		}
	}
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, child_end(pid[i]));
	for (i = 0; i < NR; i++)
		dvsm_free(slots[i]);
	EXPECT_EQ(live, live_blocks(dvsm_heap_default()));
	EXPECT_EQ(0, dvsm_heap_check(dvsm_heap_default(), 2));
}

/* What the header says of constants must hold for sizes at the table's edges, too. */
TEST(sizes_at_the_edges)
{
	size_t size;
	char *block;

	for (size = 0; size < 1100; size++) {
		block = dvsm_malloc(size);
		ASSERT_NE(NULL, block);
		ASSERT_LE(size, dvsm_malloc_usable_size(block));
		dvsm_free(block);
	}
	block = dvsm_malloc(1024);
	ASSERT_EQ(1024, dvsm_malloc_usable_size(block));
	dvsm_free(block);
	EXPECT_EQ(NULL, dvsm_malloc(SIZE_MAX));
}

/* What the compiler says of a size that it knows to be beyond the table is an error here. */
TEST(a_constant_size_beyond_the_fast_paths)
{
	void *block = dvsm_malloc(2500);

	EXPECT_LE(2500, dvsm_malloc_usable_size(block));
	dvsm_free(block);
}

TEST_HARNESS_MAIN
