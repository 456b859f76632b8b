// SPDX-License-Identifier: GPL-2.0-only
/* A CPU that goes offline with blocks ready on it, and comes back. Machines of our own only: DVSM_VM. */
#include <fcntl.h>

#include "heap_test.h"
#include <kselftest_harness.h>

#define NR_BLOCKS	100		/* the stack for other nodes has room for 192 */
#define NR_WORKERS	3
#define OTHER		1		/* the CPU that goes; this one is 0 */

FIXTURE(hotplug) {
	struct dvsm_heap *heap;
};

FIXTURE_VARIANT(hotplug) {
	uint32_t backend;
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(hotplug, device) { .backend = DVSM_BACKEND_DEVICE, };
FIXTURE_VARIANT_ADD(hotplug, memfd) { .backend = DVSM_BACKEND_MEMFD, };
FIXTURE_VARIANT_ADD(hotplug, private) { .flags = DVSM_HEAP_F_PRIVATE, };

static bool set_online(bool online)
{
	int fd = open("/sys/devices/system/cpu/cpu1/online", O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, online ? "1" : "0", 1) == 1;

	close(fd);
	return done;
}

FIXTURE_SETUP(hotplug)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options),
		.backend = variant->backend,
		.flags = variant->flags,
		.idle_ms = UINT32_MAX,
	};

	if (!getenv("DVSM_VM") || access("/sys/devices/system/cpu/cpu1/online", W_OK))
		SKIP(return, "a machine of our own (DVSM_VM) with a CPU 1 that can go offline");
	if (variant->backend == DVSM_BACKEND_DEVICE && access("/dev/dvsm", R_OK | W_OK))
		SKIP(return, "no /dev/dvsm");
	self->heap = dvsm_heap_create(&options);
	ASSERT_NE(NULL, self->heap);
}

FIXTURE_TEARDOWN(hotplug)
{
	if (!self->heap)
		return;
	set_online(true);
	dvsm_heap_destroy(self->heap);
}

static struct dvsm_heap_stats stats_of(struct dvsm_heap *heap)
{
	struct dvsm_heap_stats stats = { .size = sizeof(stats) };

	dvsm_heap_stats(heap, &stats);
	return stats;
}

static void take(struct dvsm_heap *heap, void **blocks)
{
	int i;

	for (i = 0; i < NR_BLOCKS; i++)
		blocks[i] = dvsm_heap_malloc(heap, 100);
}

static void give(struct dvsm_heap *heap, void **blocks)
{
	int i;

	for (i = 0; i < NR_BLOCKS; i++)
		dvsm_heap_free(heap, blocks[i]);
}

static _Atomic bool stop;

struct worker {
	pthread_t thread;
	struct dvsm_heap *heap;
	int cpu;
};

/* Blocks that nobody else has while they are ours. What is wrong, or NULL. */
static void *churn(struct dvsm_heap *heap, unsigned char mine, uint64_t *seed)
{
	unsigned char *blocks[64];
	int i;

	for (i = 0; i < 64; i++) {
		blocks[i] = dvsm_heap_malloc(heap, 16 + random_next(seed) % 2000);
		if (!blocks[i])
			return "no memory";
		memset(blocks[i], mine, 16);
	}
	for (i = 0; i < 64; i++) {
		if (blocks[i][0] != mine || blocks[i][15] != mine)
			return "another one has a block of mine";
		dvsm_heap_free(heap, blocks[i]);
	}
	return NULL;
}

static void *work(void *argument)
{
	const struct worker *worker = argument;
	uint64_t seed = (uintptr_t)worker;
	void *wrong = NULL;
	int i;

	while (!atomic_load(&stop) && !wrong) {
		/* When the CPU goes the kernel lets the thread run anywhere, and so it stays. */
		run_on(worker->cpu);
		for (i = 0; i < 20 && !wrong; i++)
			wrong = churn(worker->heap, (unsigned char)(seed >> 8), &seed);
	}
	return wrong;
}

TEST_F(hotplug, what_is_ready_on_a_cpu_that_goes_offline_waits_for_it)
{
	void *mine[NR_BLOCKS], *others[NR_BLOCKS];
	struct dvsm_heap_stats before, stats;

	ASSERT_TRUE(run_on(0));
	take(self->heap, mine);
	ASSERT_TRUE(run_on(OTHER));
	take(self->heap, others);
	give(self->heap, others);
	/* Of another node, where there are two: these have a stack of their own. */
	give(self->heap, mine);
	ASSERT_TRUE(run_on(0));
	dvsm_heap_trim(self->heap, 0);
	EXPECT_EQ(0, stats_of(self->heap).out_cached);

	ASSERT_TRUE(run_on(OTHER));
	take(self->heap, others);
	ASSERT_TRUE(run_on(0));
	take(self->heap, mine);
	ASSERT_TRUE(run_on(OTHER));
	give(self->heap, others);
	give(self->heap, mine);
	ASSERT_TRUE(run_on(0));
	before = stats_of(self->heap);
	EXPECT_EQ(0, before.out_stranded);
	EXPECT_LE(2 * NR_BLOCKS * 100, before.out_cached);

	ASSERT_TRUE(set_online(false));
	stats = stats_of(self->heap);
	EXPECT_EQ(before.out_cached, stats.out_cached);
	EXPECT_LE(2 * NR_BLOCKS * 100, stats.out_stranded);
	/* Nobody gets there. */
	dvsm_heap_trim(self->heap, 0);
	EXPECT_EQ(stats.out_stranded, stats_of(self->heap).out_stranded);
	EXPECT_EQ(stats.out_stranded, stats_of(self->heap).out_cached);
	EXPECT_EQ(0, live_blocks(self->heap));
	EXPECT_EQ(0, dvsm_heap_check(self->heap, 2));

	ASSERT_TRUE(set_online(true));
	EXPECT_EQ(0, stats_of(self->heap).out_stranded);
	EXPECT_EQ(stats.out_stranded, stats_of(self->heap).out_cached);
	dvsm_heap_trim(self->heap, 0);
	EXPECT_EQ(0, stats_of(self->heap).out_cached);
	EXPECT_EQ(0, dvsm_heap_check(self->heap, 2));
}

static bool may_run_on(int cpu)
{
	cpu_set_t set;

	return !sched_getaffinity(0, sizeof(set), &set) && CPU_ISSET(cpu, &set);
}

TEST_F(hotplug, who_trims_while_a_cpu_is_offline_may_run_on_it_later)
{
	void *blocks[NR_BLOCKS];
	cpu_set_t all;

	/* As a thread that nobody has restricted: tests may be run by one that was. */
	memset(&all, 0xff, sizeof(all));
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(all), &all));
	ASSERT_TRUE(may_run_on(OTHER));
	ASSERT_TRUE(set_online(false));
	ASSERT_FALSE(may_run_on(OTHER));
	take(self->heap, blocks);
	give(self->heap, blocks);
	ASSERT_LT(0, stats_of(self->heap).out_cached);
	dvsm_heap_trim(self->heap, 0);
	EXPECT_EQ(0, stats_of(self->heap).out_cached);
	ASSERT_TRUE(set_online(true));
	EXPECT_TRUE(may_run_on(OTHER));
}

/* Threads that run there are put elsewhere by the kernel, in the middle of whatever they do. */
TEST_F(hotplug, threads_go_on_while_their_cpu_goes_and_comes)
{
	double end = seconds() + patience(4);
	struct worker workers[NR_WORKERS];
	void *wrong;
	pid_t pid;
	int i;

	atomic_store(&stop, false);
	ASSERT_TRUE(run_on(0));
	for (i = 0; i < NR_WORKERS; i++) {
		workers[i] = (struct worker){ .heap = self->heap, .cpu = i ? OTHER : 0 };
		ASSERT_EQ(0, pthread_create(&workers[i].thread, NULL, work, &workers[i]));
	}
	for (i = 0; i < 3 || seconds() < end; i++) {
		EXPECT_TRUE(set_online(false));
		usleep(20000);
		pid = child_begin();
		if (!pid) {
			dvsm_heap_free(self->heap, dvsm_heap_malloc(self->heap, 5000));
			_exit(dvsm_heap_check(self->heap, 1) ? 1 : 0);
		}
		EXPECT_EQ(0, child_end(pid));
		EXPECT_TRUE(set_online(true));
		usleep(20000);
	}
	printf("# %d times\n", i);
	atomic_store(&stop, true);
	for (i = 0; i < NR_WORKERS; i++) {
		ASSERT_EQ(0, pthread_join(workers[i].thread, &wrong));
		EXPECT_EQ(NULL, wrong) TH_LOG("%s", (const char *)wrong);
	}
	dvsm_heap_trim(self->heap, 0);
	EXPECT_EQ(0, stats_of(self->heap).out_cached);
	EXPECT_EQ(0, live_blocks(self->heap));
	EXPECT_EQ(0, dvsm_heap_check(self->heap, 2));
}

TEST_HARNESS_MAIN
