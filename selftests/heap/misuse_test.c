// SPDX-License-Identifier: GPL-2.0-only
/* What a program must not do: it ends with SIGABRT and a message, and the heap and the others go on. */
#include "heap_test.h"
#include <kselftest_harness.h>

FIXTURE(misuse) {
	struct dvsm_heap *heap;
};

FIXTURE_VARIANT(misuse) {
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(misuse, usual) {
	.flags = 0,
};

FIXTURE_VARIANT_ADD(misuse, hardened) {
	.flags = DVSM_HEAP_F_HARDENED,
};

FIXTURE_SETUP(misuse)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .flags = variant->flags, .reserve = GIB,
	};

	self->heap = dvsm_heap_create(&options);
	ASSERT_NE(NULL, self->heap);
}

FIXTURE_TEARDOWN(misuse)
{
	dvsm_heap_destroy(self->heap);
}

/* Ends the child. */
static int in_child(struct dvsm_heap *heap, void (*mistake)(struct dvsm_heap *heap))
{
	pid_t pid = child_begin();

	if (!pid) {
		close(STDERR_FILENO);
		mistake(heap);
		_exit(0);
	}
	return child_end(pid);
}

static void free_twice(struct dvsm_heap *heap)
{
	void *block = dvsm_heap_malloc(heap, 100);

	dvsm_heap_free(heap, block);
	dvsm_heap_free(heap, block);
	/* It may take until the stack overflows. */
	dvsm_heap_trim(heap, 0);
}

static void free_twice_with_others_between(struct dvsm_heap *heap)
{
	void *blocks[10];
	int i;

	for (i = 0; i < 10; i++)
		blocks[i] = dvsm_heap_malloc(heap, 100);
	for (i = 0; i < 10; i++)
		dvsm_heap_free(heap, blocks[i]);
	dvsm_heap_free(heap, blocks[3]);
	dvsm_heap_trim(heap, 0);
}

static void free_twice_huge(struct dvsm_heap *heap)
{
	void *block = dvsm_heap_malloc(heap, 10 * MIB);

	dvsm_heap_free(heap, block);
	dvsm_heap_free(heap, block);
}

static void free_twice_large(struct dvsm_heap *heap)
{
	void *block = dvsm_heap_malloc(heap, 200000);

	dvsm_heap_free(heap, block);
	dvsm_heap_free(heap, block);
}

static void free_inside(struct dvsm_heap *heap)
{
	char *block = dvsm_heap_malloc(heap, 100);

	dvsm_heap_free(heap, block + 16);
	dvsm_heap_trim(heap, 0);
}

static void free_stack(struct dvsm_heap *heap)
{
	int variable;

	dvsm_heap_free(heap, &variable);
}

static void free_metadata(struct dvsm_heap *heap)
{
	dvsm_heap_free(heap, dvsm_heap_address(heap, 4096));
}

static void free_untouched(struct dvsm_heap *heap)
{
	dvsm_heap_free(heap, dvsm_heap_address(heap, 900 * MIB));
}

static void free_inside_huge(struct dvsm_heap *heap)
{
	char *block = dvsm_heap_malloc(heap, 10 * MIB);

	dvsm_heap_free(heap, block + 4 * MIB);
}

static void overrun(struct dvsm_heap *heap)
{
	char *blocks[100];
	int i;

	for (i = 0; i < 100; i++)
		blocks[i] = dvsm_heap_malloc(heap, 64);
	for (i = 0; i < 100; i += 2)
		dvsm_heap_free(heap, blocks[i]);
	/* Over free neighbours: nothing of the heap's is there to be hit. */
	for (i = 1; i < 100; i += 2)
		memset(blocks[i], 0x41, 200);
	for (i = 0; i < 100; i += 2)
		blocks[i] = dvsm_heap_malloc(heap, 64);
	for (i = 0; i < 100; i++)
		dvsm_heap_free(heap, blocks[i]);
	if (dvsm_heap_check(heap, 2))
		_exit(1);
}

TEST_F(misuse, double_frees) {
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_twice));
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_twice_with_others_between));
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_twice_large));
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_twice_huge));
}

TEST_F(misuse, invalid_pointers) {
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_inside));
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_stack));
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_metadata));
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_untouched));
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_inside_huge));
}

TEST_F(misuse, an_overrun_cannot_reach_the_heap) {
	EXPECT_EQ(0, in_child(self->heap, overrun));
}

/* No trim, no full stack: the second free itself ends it. */
static void free_twice_at_once(struct dvsm_heap *heap)
{
	void *first = dvsm_heap_malloc(heap, 100), *second = dvsm_heap_malloc(heap, 100);

	dvsm_heap_free(heap, first);
	dvsm_heap_free(heap, second);
	dvsm_heap_free(heap, first);
}

static void free_inside_at_once(struct dvsm_heap *heap)
{
	dvsm_heap_free(heap, (char *)dvsm_heap_malloc(heap, 100) + 16);
}

TEST_F(misuse, hardened_heaps_notice_at_once) {
	if (!variant->flags)
		SKIP(return, "for hardened heaps only");
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_twice_at_once));
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_inside_at_once));
}

TEST_F(misuse, others_go_on) {
	void *block;
	int i;

	in_child(self->heap, free_twice_large);
	in_child(self->heap, free_stack);
	in_child(self->heap, free_twice_huge);
	EXPECT_EQ(0, dvsm_heap_check(self->heap, 2));
	for (i = 0; i < 1000; i++) {
		block = dvsm_heap_malloc(self->heap, (size_t)i * 100);
		ASSERT_NE(NULL, block);
		dvsm_heap_free(self->heap, block);
	}
	EXPECT_EQ(0, dvsm_heap_check(self->heap, 2));
}

TEST_HARNESS_MAIN
