// SPDX-License-Identifier: GPL-2.0-only
/* Where every byte of a heap is: each kind is counted by itself, and all of them are all of the heap. */
#include <linux/futex.h>

#include "heap_test.h"
#include <kselftest_harness.h>

#include "../../libdvsm/heap_types.h"

#define BLOCKS	3000

/* What the program has, by its own list. */
struct mine {
	void *blocks[BLOCKS];
	uint64_t nr, bytes;
};

static bool is_mine(const void *address, size_t size, void *context)
{
	const struct mine *mine = context;
	size_t i;

	for (i = 0; i < BLOCKS; i++)
		if (mine->blocks[i] == address)
			return true;
	return false;
}

FIXTURE(account) {
	struct dvsm_heap *heap;
	struct dvsm_heap_account account;
	struct mine mine;
	uint64_t seed;
};

FIXTURE_VARIANT(account) {
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(account, shared) { .flags = 0, };
FIXTURE_VARIANT_ADD(account, private) { .flags = DVSM_HEAP_F_PRIVATE, };
FIXTURE_VARIANT_ADD(account, hardened) { .flags = DVSM_HEAP_F_HARDENED, };

FIXTURE_SETUP(account)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .reserve = GIB, .flags = variant->flags,
	};

	self->heap = dvsm_heap_create(&options);
	ASSERT_NE(NULL, self->heap);
	self->account.size = sizeof(self->account);
	self->account.context = &self->mine;
	self->seed = 1;
}

FIXTURE_TEARDOWN(account)
{
	if (self->heap)
		dvsm_heap_destroy(self->heap);
}

static size_t size_any(uint64_t *seed)
{
	uint32_t kind = random_next(seed) % 1000;

	return 1 + random_next(seed) % (kind < 900 ? 2000 : kind < 990 ? 100000 : kind < 998 ? 2 * MIB : 9 * MIB);
}

static void mine_put(FIXTURE_DATA(account) *self, size_t slot)
{
	struct mine *mine = &self->mine;

	if (!mine->blocks[slot])
		return;
	mine->nr--;
	mine->bytes -= dvsm_heap_usable_size(self->heap, mine->blocks[slot]);
	dvsm_heap_free(self->heap, mine->blocks[slot]);
	mine->blocks[slot] = NULL;
}

static void mine_get(FIXTURE_DATA(account) *self, size_t slot)
{
	struct mine *mine = &self->mine;
	size_t size = size_any(&self->seed);

	mine_put(self, slot);
	mine->blocks[slot] = slot % 16 ? dvsm_heap_malloc(self->heap, size) :
					 dvsm_heap_malloc_owned(self->heap, size, 1 + slot % 3);
	if (!mine->blocks[slot])
		return;
	mine->nr++;
	mine->bytes += dvsm_heap_usable_size(self->heap, mine->blocks[slot]);
}

static uint64_t sum(const struct dvsm_heap_account *account)
{
	return account->out_metadata + account->out_free + account->out_cached + account->out_live +
	       account->out_lost + account->out_waste;
}

TEST_F(account, every_byte_is_somewhere_once)
{
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };
	size_t round, i;

	self->account.is_known = is_mine;
	for (round = 0; round < 6; round++) {
		for (i = 0; i < BLOCKS; i++)
			if (round % 2)
				mine_put(self, random_next(&self->seed) % BLOCKS);
			else
				mine_get(self, random_next(&self->seed) % BLOCKS);
		if (round == 3)
			dvsm_heap_trim(self->heap, 0);
		ASSERT_EQ(0, dvsm_heap_account(self->heap, &self->account));
		ASSERT_EQ(self->account.out_reserved, sum(&self->account)) TH_LOG("round %zu", round);
		EXPECT_EQ(self->mine.bytes, self->account.out_live);
		EXPECT_EQ(self->mine.nr, self->account.out_live_blocks);
		EXPECT_EQ(0, self->account.out_lost);
		EXPECT_EQ(0, self->account.out_lost_blocks);
		dvsm_heap_stats(self->heap, &stats);
		EXPECT_EQ(stats.out_reserved, self->account.out_reserved);
		EXPECT_EQ(stats.out_metadata, self->account.out_metadata);
		EXPECT_EQ(stats.out_cached, self->account.out_cached);
		EXPECT_EQ(stats.out_live, self->account.out_live);
		EXPECT_LE(stats.out_free + stats.out_free_pages, self->account.out_free);
	}
	for (i = 0; i < BLOCKS; i++)
		mine_put(self, i);
	dvsm_heap_trim(self->heap, 0);
	ASSERT_EQ(0, dvsm_heap_account(self->heap, &self->account));
	EXPECT_EQ(self->account.out_reserved, sum(&self->account));
	EXPECT_EQ(0, self->account.out_live + self->account.out_lost + self->account.out_cached);
}

/* As if a process had died with them on their way. */
TEST_F(account, what_the_program_does_not_know_is_lost)
{
	static const size_t sizes[] = { 1, 100, 5000, 70000, 3 * MIB };
	uint64_t lost = 0;
	size_t i;

	for (i = 0; i < BLOCKS; i++)
		mine_get(self, i);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		lost += dvsm_heap_usable_size(self->heap, dvsm_heap_malloc(self->heap, sizes[i]));
	self->account.is_known = is_mine;
	ASSERT_EQ(0, dvsm_heap_account(self->heap, &self->account));
	EXPECT_EQ(lost, self->account.out_lost);
	EXPECT_EQ(i, self->account.out_lost_blocks);
	EXPECT_EQ(self->mine.bytes, self->account.out_live);
	EXPECT_EQ(self->account.out_reserved, sum(&self->account));
	/* Who does not ask has them all. */
	self->account.is_known = NULL;
	ASSERT_EQ(0, dvsm_heap_account(self->heap, &self->account));
	EXPECT_EQ(0, self->account.out_lost);
	EXPECT_EQ(self->mine.bytes + lost, self->account.out_live);
}

/* What a dead thread had in its hands when its log was damaged. */
TEST_F(account, pages_and_chunks_that_are_nobodys_are_lost)
{
	struct dvsm_heap *heap = self->heap;
	uint32_t chunk = heap->header->first_chunk;

	mine_get(self, 1);
	ASSERT_EQ(0, dvsm_heap_account(heap, &self->account));
	ASSERT_NE(0, heap->chunks[chunk].pages.bits >> 31 & 1);
	heap->chunks[chunk].pages.bits &= ~(1ULL << 31);
	EXPECT_EQ(-EUCLEAN, dvsm_heap_account(heap, &self->account));
	EXPECT_EQ(DVSM_HEAP_PAGE_SIZE, self->account.out_lost);
	EXPECT_EQ(self->account.out_reserved, sum(&self->account));
	heap->chunks[chunk].pages.bits |= 1ULL << 31;
	chunk = atomic_load(&heap->header->high_chunk);
	atomic_store(&heap->header->high_chunk, chunk + 1);
	ASSERT_EQ(0, dvsm_heap_check(heap, 2));
	heap->map[chunk / 64].bits &= ~(1ULL << chunk % 64);
	EXPECT_EQ(-EUCLEAN, dvsm_heap_account(heap, &self->account));
	EXPECT_EQ(DVSM_HEAP_CHUNK_SIZE, self->account.out_lost);
	EXPECT_EQ(self->account.out_reserved, sum(&self->account));
}

/* A block in a stack whose slab is gone: the tables are at odds with nothing, but the sum is. */
TEST(a_byte_in_two_places_is_told)
{
	struct dvsm_heap_account account = { .size = sizeof(account) };
	struct dvsm_heap *heap = heap_of(GIB);
	uint32_t page;
	void *block;

	ASSERT_NE(NULL, heap);
	block = dvsm_heap_malloc(heap, 60000);
	dvsm_heap_free(heap, block);
	ASSERT_EQ(0, dvsm_heap_account(heap, &account));
	if (!account.out_cached)
		SKIP(return, "no restartable sequences, so no stacks");
	page = (uint32_t)(dvsm_heap_offset(heap, block) >> DVSM_HEAP_PAGE_SHIFT);
	heap->chunks[page / DVSM_CHUNK_PAGES].kind = DVSM_CHUNK_BARRED;
	EXPECT_EQ(-EUCLEAN, dvsm_heap_account(heap, &account));
	EXPECT_LT(account.out_reserved, sum(&account));
	dvsm_heap_destroy(heap);
}

/* Who dies between a chunk's change and its count leaves the count too high, or too low. */
TEST(free_chunks_keep_their_memory_whatever_deaths_have_left_in_the_count)
{
	static const uint32_t counts[] = { 16, 100000, UINT32_MAX, -100U };
	struct dvsm_heap *heap = heap_of(GIB);
	struct dvsm_heap_header *header;
	uint64_t discards;
	void *block;
	size_t i;

	ASSERT_NE(NULL, heap);
	header = heap->header;
	for (i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		dvsm_heap_trim(heap, 0);
		block = dvsm_heap_malloc(heap, 2 * DVSM_HEAP_CHUNK_SIZE);
		ASSERT_NE(NULL, block);
		ASSERT_EQ(0, atomic_load(&header->nr_dirty));
		discards = atomic_load(&header->nr_discards);
		atomic_store(&header->nr_dirty, counts[i]);
		dvsm_heap_free(heap, block);
		EXPECT_EQ(discards, atomic_load(&header->nr_discards)) TH_LOG("a count of %u", counts[i]);
		EXPECT_EQ(2, atomic_load(&header->nr_dirty)) TH_LOG("a count of %u", counts[i]);
	}
	dvsm_heap_destroy(heap);
}

/* As who dies between taking a chunk and counting it; and who dies when he has finished that for him. */
static void die_with_a_chunk(struct dvsm_heap *heap, uint32_t chunk)
{
	struct dvsm_word *word = &heap->map[chunk / 64];

	heap->logs[0].chunk = chunk;
	heap->logs[0].nr = 1;
	word->bits &= ~(1ULL << chunk % 64);
	word->tag = 1ULL << DVSM_SEQ_BITS | 5;
	atomic_store(&heap->lanes[0].state, (uint64_t)DVSM_OP_CHUNK << 59 | 5);
}

TEST(how_much_is_in_use_is_counted_anew_after_a_death)
{
	struct dvsm_heap *heap = heap_of(GIB);
	struct dvsm_heap_header *header;
	uint32_t used, dirty, chunk;
	void *block, *other;
	int i;

	ASSERT_NE(NULL, heap);
	header = heap->header;
	block = dvsm_heap_malloc(heap, 2 * DVSM_HEAP_CHUNK_SIZE);
	other = dvsm_heap_malloc(heap, 2 * DVSM_HEAP_CHUNK_SIZE);
	chunk = (uint32_t)(dvsm_heap_offset(heap, block) >> DVSM_HEAP_CHUNK_SHIFT);
	dvsm_heap_free(heap, block);
	used = atomic_load(&header->nr_used);
	dirty = atomic_load(&header->nr_dirty);
	ASSERT_LE(2, used);
	ASSERT_EQ(2, dirty);
	for (i = 0; i < 4; i++) {
		if (i % 2)
			atomic_fetch_sub(&header->nr_used, 1);
		else
			die_with_a_chunk(heap, chunk);
		heap->lanes[0].lock.__data.__lock = FUTEX_OWNER_DIED;
		ASSERT_EQ(0, dvsm_heap_check(heap, 2));
		EXPECT_EQ(i + 1U, atomic_load(&header->nr_deaths));
		EXPECT_EQ(used, atomic_load(&header->nr_used)) TH_LOG("death %d", i);
		EXPECT_EQ(dirty, atomic_load(&header->nr_dirty)) TH_LOG("death %d", i);
	}
	dvsm_heap_free(heap, other);
	dvsm_heap_destroy(heap);
}

TEST_F(account, sizes_that_are_wrong)
{
	self->account.size = sizeof(self->account) - 1;
	EXPECT_EQ(-EINVAL, dvsm_heap_account(self->heap, &self->account));
}

TEST_HARNESS_MAIN
