// SPDX-License-Identifier: GPL-2.0-only
/* Blocks with owners: freed one by one like others, or all of an owner's at once, also after it was killed. */
#include "heap_test.h"
#include <kselftest_harness.h>

#define NR	3000

static size_t owned_size(uint64_t *seed)
{
	uint32_t kind = random_next(seed) % 100;

	return kind < 80 ? 1 + random_next(seed) % 2000 :
	       kind < 99 ? 1 + random_next(seed) % 200000 : 3 * MIB;
}

TEST(an_owners_blocks_go_and_others_stay)
{
	struct dvsm_heap *heap = heap_of(GIB);
	char *owned, *other[NR], *plain[NR];
	uint64_t seed = 1;
	int i;

	ASSERT_NE(NULL, heap);
	for (i = 0; i < NR; i++) {
		owned = dvsm_heap_malloc_owned(heap, owned_size(&seed), 7);
		other[i] = dvsm_heap_malloc_owned(heap, 100, 1ULL << 40 | 7);
		plain[i] = dvsm_heap_malloc(heap, 100);
		ASSERT_TRUE(owned && other[i] && plain[i]);
		ASSERT_EQ(0, (uintptr_t)owned % 16);
		memset(owned, 1, 1);
		memset(other[i], i, 100);
		memset(plain[i], i, 100);
	}
	EXPECT_EQ(NR, dvsm_heap_owner_free(heap, 7));
	EXPECT_EQ(0, dvsm_heap_owner_free(heap, 7));
	EXPECT_EQ(2 * NR, live_blocks(heap));
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	for (i = 0; i < NR; i++) {
		ASSERT_EQ((char)i, other[i][99]);
		ASSERT_EQ((char)i, plain[i][99]);
		dvsm_heap_free(heap, other[i]);
		dvsm_heap_free(heap, plain[i]);
	}
	EXPECT_EQ(0, live_blocks(heap));
	EXPECT_EQ(0, dvsm_heap_check(heap, 2));
	dvsm_heap_destroy(heap);
}

TEST(realloc_keeps_the_owner)
{
	static const size_t sizes[] = { 10, 5000, 300000, 5 * MIB, 9 * MIB, 100 };
	struct dvsm_heap *heap = heap_of(GIB);
	char *block;
	size_t i;

	ASSERT_NE(NULL, heap);
	block = dvsm_heap_malloc_owned(heap, 10, 5);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		block = dvsm_heap_realloc(heap, block, sizes[i]);
		ASSERT_NE(NULL, block);
		EXPECT_LE(sizes[i], dvsm_heap_usable_size(heap, block));
	}
	EXPECT_EQ(1, dvsm_heap_owner_free(heap, 5));
	EXPECT_EQ(0, live_blocks(heap));
	dvsm_heap_destroy(heap);
}

TEST(no_owner_is_EINVAL)
{
	struct dvsm_heap *heap = heap_of(GIB);

	errno = 0;
	EXPECT_EQ(NULL, dvsm_heap_malloc_owned(heap, 1, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-EINVAL, dvsm_heap_owner_free(heap, 0));
	dvsm_heap_destroy(heap);
}

/* Nothing at all is lost of those that are killed, at any moment, inside free of all as well. */
TEST(nothing_is_lost_of_the_killed)
{
	struct dvsm_heap *heap = heap_of(GIB);
	double end = seconds() + patience(5);
	void *blocks[100] = { 0 };
	struct timespec pause = { 0 };
	uint64_t seed = 1, mine, nr = 0;
	pid_t pid[2];
	int i;

	ASSERT_NE(NULL, heap);
	while (seconds() < end) {
		for (i = 0; i < 2; i++) {
			pid[i] = child_begin();
			mine = nr * 2 + (uint64_t)i + 1;
			seed += mine;
			for (; !pid[i]; ) {
				uint32_t slot = random_next(&seed) % 100;

				if (!blocks[slot]) {
					blocks[slot] = dvsm_heap_malloc_owned(heap, owned_size(&seed), mine);
				} else if (random_next(&seed) % 500) {
					dvsm_heap_free(heap, blocks[slot]);
					blocks[slot] = NULL;
				} else {
					dvsm_heap_owner_free(heap, mine);
					memset(blocks, 0, sizeof(blocks));
				}
			}
		}
		pause.tv_nsec = 500000 + random_next(&seed) % 3000000;
		nanosleep(&pause, NULL);
		for (i = 0; i < 2; i++) {
			kill(pid[i], SIGKILL);
			ASSERT_EQ(SIGKILL, child_end(pid[i]));
			EXPECT_LE(0, dvsm_heap_owner_free(heap, nr * 2 + (uint64_t)i + 1));
		}
		nr++;
		ASSERT_EQ(0, live_blocks(heap));
		ASSERT_EQ(0, dvsm_heap_check(heap, 2));
	}
	TH_LOG("%lu pairs killed", nr);
	dvsm_heap_destroy(heap);
}

TEST_HARNESS_MAIN
