// SPDX-License-Identifier: GPL-2.0-only
/* What a program must not do: it ends with SIGABRT and a message, and the heap and the others go on. */
#include "heap_test.h"
#include <kselftest_harness.h>

#include "lanes.h"

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

static void free_twice_while_cancelled(struct dvsm_heap *heap)
{
	pthread_cancel(pthread_self());
	free_twice(heap);
}

/* Not its thread alone, which the message would end. */
TEST_F(misuse, ends_the_process_whose_thread_is_cancelled) {
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_twice_while_cancelled));
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

/* At once, whether or not the first one finds its CPU's stack full. */
static void free_each_twice_in_a_row(struct dvsm_heap *heap)
{
	static void *blocks[5000];
	pid_t pid;
	int i;

	run_on(sched_getcpu());
	for (i = 0; i < 5000; i++)
		blocks[i] = dvsm_heap_malloc(heap, 100);
	for (i = 0; i < 5000; i++) {
		dvsm_heap_free(heap, blocks[i]);
		/* Now and then, and where the stack gets full. */
		if (i % 97 && i / 40 != 2046 / 40)
			continue;
		pid = child_begin();
		if (!pid) {
			dvsm_heap_free(heap, blocks[i]);
			_exit(0);
		}
		if (child_end(pid) != SIGABRT)
			_exit(1);
	}
}

static void free_inside_at_once(struct dvsm_heap *heap)
{
	dvsm_heap_free(heap, (char *)dvsm_heap_malloc(heap, 100) + 16);
}

TEST_F(misuse, twice_in_a_row_on_one_cpu_is_noticed_at_once) {
	EXPECT_EQ(0, in_child(self->heap, free_each_twice_in_a_row));
	EXPECT_EQ(0, dvsm_heap_check(self->heap, 1));
}

TEST_F(misuse, hardened_heaps_notice_at_once) {
	if (!variant->flags)
		SKIP(return, "for hardened heaps only");
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_twice_at_once));
	EXPECT_EQ(SIGABRT, in_child(self->heap, free_inside_at_once));
}

/* A program that goes on after its mistake, and never trims. */
struct mistaken {
	struct dvsm_heap *heap;
	char *blocks[300];
	uint64_t seed;
};

static void mistaken_go_on(struct mistaken *program, int nr_steps)
{
	char **block;

	while (nr_steps--) {
		block = &program->blocks[random_next(&program->seed) % 300];
		if (*block)
			dvsm_heap_free(program->heap, *block);
		*block = *block ? NULL : dvsm_heap_malloc(program->heap,
							  1 + random_next(&program->seed) % 512);
	}
}

/*
 * Frees a block, @nr_between others, and the block again, or 16 bytes into another. @nr_looks: as the option of the
 * heap says. Ends the child.
 */
static void mistaken_run(uint64_t seed, uint32_t nr_looks, int nr_between, bool wild, int nr_steps)
{
	struct dvsm_heap_options options = { .size = sizeof(options), .reserve = 64 * MIB, .nr_looks = nr_looks };
	struct mistaken program = { .heap = dvsm_heap_create(&options), .seed = seed };
	char *block, *others[200];
	int i;

	run_on(sched_getcpu());
	close(STDERR_FILENO);
	mistaken_go_on(&program, 2000);
	for (i = 0; i < nr_between; i++)
		others[i] = dvsm_heap_malloc(program.heap, 100);
	block = dvsm_heap_malloc(program.heap, 100);
	dvsm_heap_free(program.heap, wild ? block + 16 : block);
	for (i = 0; i < nr_between; i++)
		dvsm_heap_free(program.heap, others[i]);
	if (!wild)
		dvsm_heap_free(program.heap, block);
	mistaken_go_on(&program, nr_steps);
	/* Two may have one block; the tables have not become wrong by it. */
	_exit(dvsm_heap_check(program.heap, 1) ? 1 : 0);
}

/* Programs that make their mistake among their first frees; and those that make it later, of which some are told. */
FIXTURE(mistaken) {
};

FIXTURE_VARIANT(mistaken) {
	uint32_t nr_looks;
};

FIXTURE_VARIANT_ADD(mistaken, soon) {
	.nr_looks = 0,
};

FIXTURE_VARIANT_ADD(mistaken, late) {
	.nr_looks = 1,
};

FIXTURE_VARIANT_ADD(mistaken, watched) {
	.nr_looks = UINT32_MAX,
};

FIXTURE_SETUP(mistaken) { }
FIXTURE_TEARDOWN(mistaken) { }

TEST_F(mistaken, is_noticed_at_once_in_time_or_perhaps)
{
	static const int between[] = { 0, 1, 10, 200 };
	static const int steps[] = { 0, 1000, 100000 };
	bool at_once = variant->nr_looks != 1;
	int i, j, seed, signal, nr_noticed, nr_wild, nr_seeds = at_once ? 10 : 40;
	pid_t pid;

	for (i = 0; i < 4; i++) {
		for (j = 0; j < (at_once ? 1 : 3); j++) {
			nr_noticed = nr_wild = 0;
			for (seed = 1; seed <= nr_seeds; seed++) {
				pid = child_begin();
				if (!pid)
					mistaken_run((uint64_t)seed, variant->nr_looks, between[i],
						     seed % 2, steps[j]);
				signal = child_end(pid);
				ASSERT_TRUE(signal == SIGABRT || !signal) TH_LOG("%d", signal);
				nr_noticed += !(seed % 2) && signal == SIGABRT;
				nr_wild += seed % 2 && signal == SIGABRT;
			}
			TH_LOG("%d frees between, %d steps after: of %d each %d double frees noticed, %d wild ones",
			       between[i], steps[j], nr_seeds / 2, nr_noticed, nr_wild);
			/* Twice in a row, on one CPU. */
			if (!between[i] || at_once)
				EXPECT_EQ(nr_seeds / 2, nr_noticed);
			if (at_once)
				EXPECT_EQ(nr_seeds / 2, nr_wild);
		}
	}
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

/* It is no mistake to free while threads that do not run hold every lane: it waits for them. */
TEST_F(misuse, a_valid_free_waits_for_a_lane)
{
	void *blocks[3] = {
		dvsm_heap_malloc(self->heap, 5 * MIB), dvsm_heap_malloc(self->heap, 100000),
		dvsm_heap_malloc_owned(self->heap, 100, 7),
	};
	double end = seconds() + 5;
	struct lanes lanes;
	int i, status, nr_waiting = 0;
	pid_t pids[3];

	ASSERT_EQ(0, lanes_take(&lanes, self->heap));
	for (i = 0; i < 3; i++) {
		pids[i] = child_begin();
		if (pids[i])
			continue;
		errno = 77;
		dvsm_heap_free(self->heap, blocks[i]);
		_exit(errno != 77);
	}
	while (seconds() < end)
		usleep(100000);
	for (i = 0; i < 3; i++)
		nr_waiting += !waitpid(pids[i], &status, WNOHANG);
	EXPECT_EQ(3, nr_waiting);
	lanes_give(&lanes);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, child_end(pids[i]));
	EXPECT_EQ(0, live_blocks(self->heap));
	EXPECT_EQ(0, dvsm_heap_check(self->heap, 2));
}

TEST_HARNESS_MAIN
