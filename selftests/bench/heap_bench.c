// SPDX-License-Identifier: GPL-2.0-only
/*
 * How fast an allocator is: the workloads, for one allocator (see heap_bench.h; heap_bench.sh runs them all side
 * by side). heap_bench WORKLOAD WORKERS prints the median of RUNS runs, in millions of operations per second.
 *
 * An operation is a malloc and its free. Time is the CPU time of the workers, so that a busy machine shows less;
 * for hand-off that of the busier side, without what it takes to sleep when it has to wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "heap_bench.h"

/* A sum of the kernel's over all mappings of this process, in bytes. Allocates nothing. */
static size_t smaps_bytes(const char *field)
{
	char text[4096], *at;
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[length > 0 ? length : 0] = 0;
	at = strstr(text, field);
	return at ? strtoul(strchr(at, ':') + 1, NULL, 10) << 10 : 0;
}

#ifdef BENCH_INLINE
#include BENCH_INLINE
#endif

#define RUNS	5
#define WORKERS_MAX	256
#define BATCH	100
#define SLOTS	1000
#define MIB	(1UL << 20)

struct ring {
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint64_t tail;
	_Alignas(64) void *blocks[64][BATCH];
};

/* Shared by all workers, beside the allocator. */
static struct shared {
	_Atomic uint64_t operations[WORKERS_MAX];
	double cpu_time[WORKERS_MAX];
	double waiting[WORKERS_MAX];	/* part of it */
	_Atomic uint32_t begun, stop;
	struct ring ring[WORKERS_MAX];
	void *slots[WORKERS_MAX][SLOTS];
	_Atomic(void **) passed[WORKERS_MAX];
} *shared;

static double run_seconds = 0.25;
static int nr_workers;

static double now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static uint32_t random_next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*seed >> 33);
}

static bool stopped(void)
{
	return atomic_load_explicit(&shared->stop, memory_order_relaxed);
}

/* Batches of 100 blocks of 64 bytes, allocated and freed by one worker. */
static uint64_t local(int self)
{
	void *blocks[BATCH];
	uint64_t nr = 0;
	int i, round;

	(void)self;
	while (!stopped()) {
		for (round = 0; round < 100; round++) {
			for (i = 0; i < BATCH; i++)
				blocks[i] = bench_malloc(64);
			for (i = 0; i < BATCH; i++)
				bench_free(blocks[i]);
		}
		nr += 100 * BATCH;
	}
	return nr;
}

/* As many blocks at once as no cache holds. */
static uint64_t deep(int self)
{
	void **blocks = shared->slots[self];
	uint64_t nr = 0;
	int i;

	while (!stopped()) {
		for (i = 0; i < SLOTS; i++)
			*(int *)(blocks[i] = bench_malloc(64)) = i;
		for (i = 0; i < SLOTS; i++)
			bench_free(blocks[i]);
		nr += SLOTS;
	}
	return nr;
}

/* Even workers allocate batches, odd ones free them. */
static uint64_t handoff(int self)
{
	const struct timespec pause = { .tv_nsec = 20000 };
	struct ring *ring = &shared->ring[self / 2];
	uint64_t nr = 0, at, i;
	double begin;

	while (!stopped()) {
		at = self % 2 ? ring->tail : ring->head;
		if (self % 2 ? at == atomic_load_explicit(&ring->head, memory_order_acquire) :
			       at - atomic_load_explicit(&ring->tail, memory_order_acquire) == 64) {
			begin = now(CLOCK_THREAD_CPUTIME_ID);
			nanosleep(&pause, NULL);
			shared->waiting[self] += now(CLOCK_THREAD_CPUTIME_ID) - begin;
			continue;
		}
		for (i = 0; i < BATCH; i++) {
			if (self % 2)
				bench_free(ring->blocks[at % 64][i]);
			else
				ring->blocks[at % 64][i] = bench_malloc(64);
		}
		atomic_store_explicit(self % 2 ? &ring->tail : &ring->head, at + 1,
				      memory_order_release);
		nr += self % 2 ? BATCH : 0;
	}
	return nr;
}

/* 8 bytes to 64 KiB, small ones more often; what is replaced is chosen at random. */
static size_t mixed_size(uint64_t *seed)
{
	uint32_t magnitude = 3 + random_next(seed) % 14;

	magnitude = magnitude < 3 + random_next(seed) % 14 ? magnitude : 3 + random_next(seed) % 14;
	return (1UL << magnitude) - random_next(seed) % (1UL << (magnitude - 1));
}

static uint64_t replace(int self, size_t (*size_of)(uint64_t *seed))
{
	void **slots = shared->slots[self];
	uint64_t nr = 0, seed = (uint64_t)self + 1;
	uint32_t slot, i;

	while (!stopped()) {
		for (i = 0; i < 1000; i++) {
			slot = random_next(&seed) % SLOTS;
			bench_free(slots[slot]);
			slots[slot] = bench_malloc(size_of(&seed));
			*(uint64_t *)slots[slot] = seed;
		}
		nr += 1000;
	}
	for (i = 0; i < SLOTS; i++) {
		bench_free(slots[i]);
		slots[i] = NULL;
	}
	return nr;
}

static uint64_t mixed(int self)
{
	return replace(self, mixed_size);
}

/* A server: workers replace blocks of 16 to 1024 bytes and pass what they hold on to the next worker. */
static uint64_t larson(int self)
{
	void **slots = shared->slots[self], **next;
	uint64_t nr = 0, seed = (uint64_t)self + 1;
	uint32_t slot, i;

	while (!stopped()) {
		for (i = 0; i < 5000; i++) {
			slot = random_next(&seed) % SLOTS;
			bench_free(slots[slot]);
			slots[slot] = bench_malloc(16 + random_next(&seed) % 1009);
			*(uint64_t *)slots[slot] = seed;
		}
		nr += 5000;
		next = atomic_exchange(&shared->passed[(self + 1) % nr_workers], slots);
		slots = next;
		while (!slots && !stopped()) {
			slots = atomic_exchange(&shared->passed[self], NULL);
			if (!slots)
				sched_yield();
		}
		if (!slots)
			break;
	}
	return nr;
}

struct short_life {
	uint64_t seed;
	void *blocks[200];
};

static void *short_life(void *context)
{
	struct short_life *life = context;
	int i;

	for (i = 0; i < 200; i++) {
		bench_free(life->blocks[i]);
		life->blocks[i] = bench_malloc(16 + random_next(&life->seed) % 500);
	}
	return NULL;
}

/* Threads that live for 200 operations and free what the one before allocated. */
static uint64_t churn(int self)
{
	struct short_life life = { .seed = (uint64_t)self };
	pthread_t thread;
	uint64_t nr = 0;
	int i;

	while (!stopped()) {
		if (pthread_create(&thread, NULL, short_life, &life))
			abort();
		pthread_join(thread, NULL);
		nr += 200;
	}
	for (i = 0; i < 200; i++)
		bench_free(life.blocks[i]);
	return nr;
}

/* 2 to 32 MiB, every page touched. */
static uint64_t huge(int self)
{
	uint64_t nr = 0, seed = (uint64_t)self;
	size_t size, at;
	char *block;

	while (!stopped()) {
		size = 2 * MIB + random_next(&seed) % (30 * MIB);
		block = bench_malloc(size);
		if (!block)
			abort();
		for (at = 0; at < size; at += 4096)
			block[at] = 1;
		bench_free(block);
		nr++;
	}
	return nr;
}

/* The workload whose memory is looked at: 300,000 mixed small blocks, half replaced, then another size. */
static uint64_t footprint(int self)
{
	enum { NR = 300000 };
	void **blocks = mmap(NULL, NR * sizeof(void *), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t seed = (uint64_t)self + 1, nr = 0;
	uint32_t i, slot;
	size_t size;

	for (i = 0; i < 3 * NR; i++) {
		slot = i < NR ? i : random_next(&seed) % NR;
		size = 16 + random_next(&seed) % (random_next(&seed) % 8 ? 300 : 3000);
		bench_free(blocks[slot]);
		blocks[slot] = bench_malloc(size);
		memset(blocks[slot], 1, size);
		nr++;
	}
	for (i = 0; i < NR; i++)
		bench_free(blocks[i]);
	return nr;
}

/* Resident memory, of the process and behind the allocator, beyond what there was at first. */
static double resident(void)
{
	static size_t before;
	size_t now = smaps_bytes("Rss") + bench_resident();

	before = before ? before : now;
	return ((double)now - (double)before) / MIB;
}

static struct {
	double peak, after, trimmed;	/* MiB */
} phase_resident;

/*
 * A phase with 400,000 blocks of 16 to 1500 bytes and 100 of up to 1 MiB, which end; then half a second of one with some
 * blocks of another size, in which an allocator's own policy does what it does; then it is asked to trim.
 */
static uint64_t phase(int self)
{
	enum { SMALL = 400000, NR = SMALL + 100, LATER = 1000 };
	const struct timespec pause = { .tv_nsec = 10000000 };
	void **blocks = mmap(NULL, NR * sizeof(void *), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint64_t seed = (uint64_t)self + 1;
	size_t size;
	int i, round;

	resident();
	for (i = 0; i < NR; i++) {
		size = i < SMALL ? 16 + random_next(&seed) % 1485 : 4096 + random_next(&seed) % MIB;
		blocks[i] = bench_malloc(size);
		memset(blocks[i], 1, size);
	}
	phase_resident.peak = resident();
	for (i = 0; i < NR; i++)
		bench_free(blocks[i]);
	for (round = 0; round < 50; round++) {
		for (i = 0; i < LATER; i++)
			memset(blocks[i] = bench_malloc(2500), 1, 2500);
		for (i = 0; i < LATER; i++)
			bench_free(blocks[i]);
		nanosleep(&pause, NULL);
	}
	phase_resident.after = resident();
	bench_trim();
	phase_resident.trimmed = resident();
	return NR;
}

static const struct workload {
	const char *name;
	uint64_t (*work)(int self);
} workloads[] = {
	{ "local", local }, { "deep", deep }, { "handoff", handoff }, { "mixed", mixed },
	{ "larson", larson }, { "churn", churn }, { "huge", huge }, { "footprint", footprint },
	{ "phase", phase }, { "phase-after", phase }, { "phase-trimmed", phase },
};

static const struct workload *workload;

static void work(int self)
{
	clockid_t clock = workload->work == churn ? CLOCK_PROCESS_CPUTIME_ID :
						    CLOCK_THREAD_CPUTIME_ID;
	int nr_cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t one;
	double begin;

	CPU_ZERO(&one);
	CPU_SET(self % nr_cpus, &one);
	sched_setaffinity(0, sizeof(one), &one);
	bench_free(bench_malloc(64));
	atomic_fetch_add(&shared->begun, 1);
	while (atomic_load(&shared->begun) < (uint32_t)nr_workers)
		sched_yield();
	begin = now(clock);
	shared->operations[self] = workload->work(self);
	shared->cpu_time[self] = now(clock) - begin - shared->waiting[self];
}

static void *work_thread(void *context)
{
	work((int)(intptr_t)context);
	return NULL;
}

/* Millions of operations per second. */
static double run(void)
{
	pthread_t threads[WORKERS_MAX];
	pid_t pids[WORKERS_MAX];
	double sum = 0, busiest = 0;
	struct timespec time = { .tv_nsec = (long)(run_seconds * 1e9) };
	uint64_t operations = 0;
	int i;

	memset(shared, 0, sizeof(*shared));
	for (i = 0; i < nr_workers; i++) {
		if (!bench_processes) {
			pthread_create(&threads[i], NULL, work_thread, (void *)(intptr_t)i);
			continue;
		}
		pids[i] = fork();
		if (!pids[i]) {
			work(i);
			_exit(0);
		}
	}
	nanosleep(&time, NULL);
	atomic_store(&shared->stop, 1);
	for (i = 0; i < nr_workers; i++) {
		if (bench_processes)
			waitpid(pids[i], NULL, 0);
		else
			pthread_join(threads[i], NULL);
		operations += shared->operations[i];
		sum += (double)shared->operations[i] / shared->cpu_time[i];
		busiest = shared->cpu_time[i] > busiest ? shared->cpu_time[i] : busiest;
	}
	return (workload->work == handoff ? (double)operations / busiest : sum) / 1e6;
}

static int ascending(const void *a, const void *b)
{
	double difference = *(const double *)a - *(const double *)b;

	return difference < 0 ? -1 : difference > 0;
}

/* Most memory that one run took, beside what was there before, in MiB. */
static double peak(void)
{
	struct rusage before, after;

	getrusage(RUSAGE_SELF, &before);
	shared->begun = 0;
	work(0);
	getrusage(RUSAGE_SELF, &after);
	return ((double)(after.ru_maxrss - before.ru_maxrss) * 1024 + (double)bench_resident()) / MIB;
}

int main(int argc, char **argv)
{
	double results[RUNS];
	size_t i;

	for (i = 0; argc == 3 && i < sizeof(workloads) / sizeof(*workloads); i++)
		if (!strcmp(argv[1], workloads[i].name))
			workload = &workloads[i];
	nr_workers = argc == 3 ? atoi(argv[2]) : 0;
	if (!workload || nr_workers < 1 || nr_workers > WORKERS_MAX) {
		fprintf(stderr, "usage: %s local|deep|handoff|mixed|larson|churn|huge|footprint|phase[-after|-trimmed] WORKERS\n",
			argv[0]);
		return 2;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	bench_begin(512 * MIB);
	if (workload->work == footprint) {
		printf("%.1f\n", peak());
		return 0;
	}
	if (workload->work == phase) {
		work(0);
		printf("%.1f\n", !strcmp(argv[1], "phase") ? phase_resident.peak :
		       !strcmp(argv[1], "phase-after") ? phase_resident.after : phase_resident.trimmed);
		return 0;
	}
	for (i = 0; i < RUNS; i++)
		results[i] = run();
	qsort(results, RUNS, sizeof(*results), ascending);
	printf("%.4g\n", results[RUNS / 2]);
	return 0;
}
