// SPDX-License-Identifier: GPL-2.0-only
/*
 * NUMA balancing by region: what moves, what does not, what it costs and what it tells.
 * The kernel's own counters in /proc/vmstat are the witness.
 */
#include <linux/mempolicy.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "fixture.h"
#include "snapshot.h"

#define NR		32UL		/* chunks */
#define LENGTH		(NR * CHUNK)
#define PATIENCE_MS	120000
#define KNOBS		"/sys/kernel/debug/sched/numa_balancing/"

/* The scanner's knobs: quicker than it is on its own. */
static const struct {
	const char *path, *value;
} knobs[] = {
	{ KNOBS "scan_delay_ms", "100" },
	{ KNOBS "scan_period_min_ms", "100" },
	{ KNOBS "scan_period_max_ms", "400" },
	{ KNOBS "scan_size_mb", "256" },
};

FIXTURE(balance) {
	int dev;
	int fd;
	int first, last;		/* nodes with CPUs and memory */
	char *map;			/* all of it on the first node */
};

static unsigned long vmstat(const char *name)
{
	static char text[65536];
	size_t length = strlen(name);
	char *line;

	if (read_text("/proc/vmstat", text, sizeof(text)))
		return 0;
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (!strncmp(line, name, length) && line[length] == ' ')
			return strtoul(line + length, NULL, 10);
	return 0;
}

static unsigned long nr_on(int fd, int node)
{
	struct dvsm_chunk chunks[NR];
	unsigned long nr = 0;
	int i, got = region_residency(fd, 0, 0, chunks, NR);

	for (i = 0; i < got; i++)
		nr += chunks[i].node == node;
	return nr;
}

static unsigned long nr_balanced_to(int fd, int node)
{
	struct dvsm_node_stats nodes[64] = {};

	return region_nodes(fd, nodes, 64) < 0 ? 0 : nodes[node].out_nr_moved_in_balancing;
}

/* Nothing but regions is left for the scanner in this process. */
static void hide_own_memory(void)
{
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");

	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && !strstr(line, "/dvsm"))
			syscall(SYS_mbind, start, end - start, MPOL_LOCAL, NULL, 0, 0);
	}
	if (maps)
		fclose(maps);
}

/* Who uses @nr chunks from the CPUs of @node. */
struct worker {
	volatile char *map;
	unsigned long nr;
	int node;
	bool reads;			/* and writes nothing */
	unsigned int *hidden;		/* set when it has hidden its own memory, or NULL */
};

/* At random, for ever. */
static void *work(void *arg)
{
	const struct worker *worker = arg;
	uint64_t random = 88172645463325252ULL + worker->node;
	unsigned long nr = worker->nr;
	volatile char *at;

	if (node_run_on(worker->node))
		_exit(1);
	for (;;) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		at = &worker->map[random % nr * CHUNK + random / nr % CHUNK_PAGES * PAGE + 64];
		if (worker->reads)
			(void)*at;
		else
			(*at)++;
	}
	return NULL;
}

/* A child that works until it is killed. */
static pid_t child_works(struct worker worker)
{
	pid_t pid = child_start();

	if (pid)
		return pid;
	hide_own_memory();
	if (worker.hidden)
		__atomic_store_n(worker.hidden, 1, __ATOMIC_RELEASE);
	work(&worker);
	_exit(1);
}

static pid_t worker_start(volatile char *map, unsigned long nr, int node)
{
	return child_works((struct worker){ .map = map, .nr = nr, .node = node });
}

static pid_t reader_start(volatile char *map, unsigned long nr, int node)
{
	return child_works((struct worker){ .map = map, .nr = nr, .node = node, .reads = true });
}

/* A child with two threads that use one chunk from two nodes. */
static pid_t fighters_start(volatile char *map, int node, int other)
{
	struct worker workers[2] = {
		{ .map = map, .nr = 1, .node = node }, { .map = map, .nr = 1, .node = other },
	};
	pid_t pid = child_start();
	pthread_t thread;

	if (pid)
		return pid;
	if (pthread_create(&thread, NULL, work, &workers[1]))
		_exit(1);
	hide_own_memory();
	work(&workers[0]);
	_exit(1);
}

static void worker_end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* The worker has to be seen in all of the chunks; how many hints there were. */
static unsigned long wait_for_hints(int fd, unsigned long wanted)
{
	unsigned long end = clock_ms() + PATIENCE_MS;
	struct dvsm_region_balance report;

	do {
		sleep_ms(100);
		region_balance(fd, DVSM_BALANCE_KEEP, &report, NULL, 0);
	} while (report.out_nr_hints < wanted && clock_ms() < end);
	return report.out_nr_hints;
}

FIXTURE_SETUP(balance)
{
	uint64_t nodes = nodes_to_work_on();
	size_t i;

	OPEN_DEVICE_OR_SKIP(self->dev);
	if (__builtin_popcountll(nodes) < 2)
		SKIP(return, "fewer than 2 NUMA nodes with CPUs and memory");
	if (write_text("/proc/sys/kernel/numa_balancing", "1"))
		SKIP(return, "no NUMA balancing in this kernel");
	for (i = 0; i < ARRAY_SIZE(knobs); i++)
		ASSERT_EQ(0, write_text(knobs[i].path, knobs[i].value));
	ASSERT_EQ(0, param_set("balance_interval_ms", 10000));
	ASSERT_EQ(0, param_set("balance_shared", 32));
	ASSERT_EQ(0, param_set("balance", DVSM_BALANCE_ON));
	self->first = __builtin_ctzll(nodes);
	self->last = 63 - __builtin_clzll(nodes);
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	ASSERT_EQ(0, node_run_on(self->first));
	stamp(self->map, LENGTH, 1);
	ASSERT_EQ(NR, nr_on(self->fd, self->first));
}

FIXTURE_TEARDOWN_PARENT(balance)
{
	write_text("/proc/sys/kernel/numa_balancing", "0");
	param_set("balance_shared", 32);
	EXPECT_NO_LEAK();
}

TEST_F(balance, on_brings_memory_to_who_uses_it)
{
	unsigned long end = clock_ms() + PATIENCE_MS, nr, migrated = vmstat("numa_pages_migrated");
	pid_t worker = worker_start(self->map, NR, self->last);
	struct dvsm_region_info info;

	ASSERT_LE(0, worker);
	/* 6.1 leaves a huge folio alone that several processes map. */
	munmap(self->map, LENGTH);
	do {
		sleep_ms(200);
		nr = nr_on(self->fd, self->last);
	} while (nr * 100 < NR * 95 && clock_ms() < end);
	worker_end(worker);
	EXPECT_LE(NR * 95, nr * 100) TH_LOG("%lu of %lu chunks", nr, NR);
	/* The kernel's own balancing did it, nobody else, and the module knows. */
	nr = nr_on(self->fd, self->last);
	EXPECT_LE(nr * CHUNK_PAGES, vmstat("numa_pages_migrated") - migrated);
	EXPECT_EQ(nr, nr_balanced_to(self->fd, self->last));
	ASSERT_EQ(0, region_info(self->fd, &info));
	EXPECT_EQ(nr, info.out_nr_moved);
}

/* What the scanner and its faults have done, as /proc/vmstat counts it. */
struct hinting {
	unsigned long faults;		/* numa_hint_faults */
	unsigned long huge;		/* numa_huge_pte_updates */
	unsigned long ptes;		/* numa_pte_updates */
};

static struct hinting hinting_since(struct hinting before)
{
	return (struct hinting) {
		.faults = vmstat("numa_hint_faults") - before.faults,
		.huge = vmstat("numa_huge_pte_updates") - before.huge,
		.ptes = vmstat("numa_pte_updates") - before.ptes,
	};
}

/* What somebody costs who uses the memory at @map for @ms. */
static struct hinting hinting_of(volatile char *map, int node, unsigned long ms)
{
	unsigned long end = clock_ms() + PATIENCE_MS;
	unsigned int *hidden = share_anonymous(PAGE);
	pid_t worker = child_works((struct worker){ .map = map, .nr = NR, .node = node,
						    .hidden = hidden });
	struct hinting hinting;

	if (worker < 0)
		abort();
	while (!__atomic_load_n(hidden, __ATOMIC_ACQUIRE) && clock_ms() < end)
		sleep_ms(10);
	sleep_ms(200);		/* it moves to its node */
	hinting = hinting_since((struct hinting) {});
	sleep_ms(ms);
	hinting = hinting_since(hinting);
	worker_end(worker);
	return hinting;
}

TEST_F(balance, neither_off_nor_pinned_costs_a_hinting_fault_or_moves_anything)
{
	int pinned = region_create_on(self->dev, LENGTH, DVSM_REGION_F_PINNED,
				      DVSM_POLICY_PREFERRED, 1ULL << self->first);
	struct dvsm_region_balance report;
	struct hinting hinting;
	const char *kind[] = { "off", "pinned" };
	unsigned long control;
	int fds[2] = { self->fd, pinned }, i;
	char *maps[2] = { self->map, region_map(pinned, LENGTH, 0) };
	pid_t worker;

	ASSERT_LE(0, pinned);
	ASSERT_NE(MAP_FAILED, maps[1]);
	stamp(maps[1], LENGTH, 1);
	ASSERT_EQ(NR, nr_on(pinned, self->first));
	ASSERT_EQ(0, region_balance(self->fd, DVSM_BALANCE_OBSERVE, NULL, NULL, 0));
	/* So long as observing takes for many faults ... */
	hinting = hinting_since((struct hinting) {});
	control = clock_ms();
	worker = worker_start(self->map, NR, self->last);
	ASSERT_LE(0, worker);
	EXPECT_LE(4 * NR, wait_for_hints(self->fd, 4 * NR));
	control = clock_ms() - control;
	worker_end(worker);
	hinting = hinting_since(hinting);
	EXPECT_LE(4 * NR, hinting.faults);
	EXPECT_LE(4 * NR, hinting.huge);
	EXPECT_LE(4 * NR * CHUNK_PAGES, hinting.ptes);

	/* ... there are none. */
	ASSERT_EQ(0, region_balance(self->fd, DVSM_BALANCE_OFF, NULL, NULL, 0));
	for (i = 0; i < 2; i++) {
		hinting = hinting_of(maps[i], self->last, control);
		/* Nothing else here has 2 MiB entries; of small ones there are some. */
		EXPECT_EQ(0, hinting.huge) TH_LOG("%s", kind[i]);
		EXPECT_GT(NR / 2, hinting.faults)
			TH_LOG("%s: %lu hinting faults in %lu ms", kind[i], hinting.faults, control);
		EXPECT_GT(CHUNK_PAGES, hinting.ptes)
			TH_LOG("%s: %lu entries in %lu ms", kind[i], hinting.ptes, control);
		ASSERT_EQ(0, region_balance(fds[i], DVSM_BALANCE_KEEP, &report, NULL, 0));
		EXPECT_EQ(0, report.out_nr_hints);
		EXPECT_EQ(DVSM_BALANCE_OFF, report.out_mode);
		EXPECT_EQ(NR, nr_on(fds[i], self->first));
	}
}

TEST_F(balance, observe_reports_who_uses_what_and_moves_nothing)
{
	unsigned long end = clock_ms() + PATIENCE_MS, migrated = vmstat("numa_pages_migrated");
	struct dvsm_balance_use uses[64 * 64], *use;
	struct dvsm_region_balance report;
	pid_t worker;
	int i;

	ASSERT_EQ(0, region_balance(self->fd, DVSM_BALANCE_OBSERVE, NULL, NULL, 0));
	worker = worker_start(self->map, NR, self->last);
	ASSERT_LE(0, worker);
	use = &uses[self->first * 64 + self->last];
	do {
		sleep_ms(100);
		memset(uses, 0xa5, sizeof(uses));
		ASSERT_EQ(0, region_balance(self->fd, DVSM_BALANCE_KEEP, &report, uses, 64));
	} while (use->out_nr_would_move * 100 < NR * 95 && clock_ms() < end);
	worker_end(worker);
	EXPECT_EQ(DVSM_BALANCE_OBSERVE, report.out_mode);
	EXPECT_LE(NR * 95, use->out_nr_would_move * 100);
	EXPECT_LE(use->out_nr_would_move, use->out_nr_chunks);
	EXPECT_GE(NR, use->out_nr_chunks);
	use = &uses[self->last * 64 + self->last];
	EXPECT_EQ(0, use->out_nr_chunks);
	/* No more is written than there are nodes. */
	for (i = report.out_nr_nodes; i < 64; i++)
		EXPECT_EQ(0xa5a5a5a5a5a5a5a5ULL, uses[i].out_nr_chunks);
	EXPECT_EQ(NR, nr_on(self->fd, self->first));
	/* Less than one chunk: something else in the machine. */
	EXPECT_GT(CHUNK_PAGES, vmstat("numa_pages_migrated") - migrated);
}

TEST_F(balance, who_uses_his_own_node_would_not_move)
{
	struct dvsm_balance_use uses[64 * 64] = {};
	pid_t worker;

	ASSERT_EQ(0, region_balance(self->fd, DVSM_BALANCE_OBSERVE, NULL, NULL, 0));
	worker = worker_start(self->map, NR, self->first);
	ASSERT_LE(0, worker);
	EXPECT_LE(4 * NR, wait_for_hints(self->fd, 4 * NR));
	worker_end(worker);
	ASSERT_EQ(0, region_balance(self->fd, DVSM_BALANCE_KEEP, NULL, uses, 64));
	EXPECT_LT(0, uses[self->first * 64 + self->first].out_nr_chunks);
	EXPECT_EQ(0, uses[self->first * 64 + self->first].out_nr_would_move);
	EXPECT_EQ(0, uses[self->first * 64 + self->last].out_nr_chunks);
}

/* numamigrate_isolate_page() of 6.1 refuses a huge folio that is mapped twice. */
static bool kernel_keeps_shared_folios(void)
{
	struct utsname uts;

	return !uname(&uts) && !strncmp(uts.release, "6.1.", 4);
}

/*
 * Two that fight over one chunk: it moves once, and then stays for the interval, which is
 * some times what the kernel takes from one move to the next.
 */
TEST_F(balance, chunk_does_not_bounce_between_two_who_fight_over_it)
{
	unsigned long begun, interval = 10000, end, moves, held = 0;
	struct dvsm_region_balance report;
	struct dvsm_region_info info;
	pid_t a, b = 0;

	ASSERT_EQ(0, param_set("balance_interval_ms", interval));
	begun = clock_ms();
	if (kernel_keeps_shared_folios()) {
		a = fighters_start(self->map, self->first, self->last);
		munmap(self->map, LENGTH);
	} else {
		a = worker_start(self->map, 1, self->first);
		b = worker_start(self->map, 1, self->last);
	}
	ASSERT_LE(0, a);
	ASSERT_LE(0, b);
	do {
		sleep_ms(500);
		ASSERT_EQ(0, region_balance(self->fd, DVSM_BALANCE_KEEP, &report, NULL, 0));
		ASSERT_EQ(0, region_info(self->fd, &info));
		held = report.out_nr_held;
		/* Eight hints take long where others have the CPUs; a second move need not come. */
		end = begun + (held < 8 || !info.out_nr_moved ? 2 * PATIENCE_MS : 6 * interval);
	} while ((held < 8 || info.out_nr_moved < 2) && clock_ms() < end);
	/* Counted first and timed last, so that the bound is not too narrow. */
	moves = info.out_nr_moved;
	end = clock_ms();
	worker_end(a);
	if (b)
		worker_end(b);
	EXPECT_LE(8, held);
	EXPECT_LE(1, moves);
	EXPECT_GE((end - begun) / interval + 1, moves)
		TH_LOG("%lu moves in %lu ms, %lu held", moves, end - begun, held);
	TH_LOG("%lu moves in %lu ms, %lu held", moves, end - begun, held);
}

TEST_F(balance, memory_does_not_leave_the_nodes_that_its_policy_binds_it_to)
{
	int fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND, 1ULL << self->first);
	char *map;
	pid_t worker;

	ASSERT_LE(0, fd);
	map = region_map(fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 2);
	worker = worker_start(map, NR, self->last);
	ASSERT_LE(0, worker);
	EXPECT_LE(4 * NR, wait_for_hints(fd, 4 * NR));
	worker_end(worker);
	EXPECT_EQ(NR, nr_on(fd, self->first));
}

TEST_F(balance, what_snapshots_share_goes_to_who_uses_it)
{
	unsigned long end = clock_ms() + PATIENCE_MS, nr, shared;
	int snapshot = snapshot_take(self->fd);
	char *map;
	pid_t worker;

	ASSERT_LE(0, snapshot);
	map = region_map(snapshot, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, map);
	worker = reader_start(map, NR, self->last);
	ASSERT_LE(0, worker);
	do {
		sleep_ms(200);
		nr = nr_on(snapshot, self->last);
	} while (nr * 100 < NR * 95 && clock_ms() < end);
	worker_end(worker);
	EXPECT_LE(NR * 95, nr * 100) TH_LOG("%lu of %lu chunks", nr, NR);
	/* Once, for both, who share it still. What is marked may move between two looks. */
	do {
		nr = nr_on(snapshot, self->last);
		shared = nr_on(self->fd, self->last);
	} while (nr_on(snapshot, self->last) != nr);
	EXPECT_EQ(nr, shared);
	EXPECT_LE(nr, nr_balanced_to(snapshot, self->last));
	EXPECT_GE(NR, nr_balanced_to(snapshot, self->last));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 1));
	EXPECT_EQ(region_resident(snapshot), region_resident(self->fd));
}

TEST_F_TIMEOUT(balance, what_snapshots_share_moves_no_faster_than_the_parameter_says, 600)
{
	unsigned long begun, end, nr, ms;
	int snapshot = snapshot_take(self->fd);
	char *map;
	pid_t worker;

	ASSERT_LE(0, snapshot);
	map = region_map(snapshot, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, map);
	/* None at all, though it is used enough for all of it to move. */
	ASSERT_EQ(0, param_set("balance_shared", 0));
	worker = reader_start(map, NR, self->last);
	ASSERT_LE(0, worker);
	EXPECT_LE(8 * NR, wait_for_hints(snapshot, 8 * NR));
	EXPECT_EQ(0, nr_on(snapshot, self->last));
	EXPECT_EQ(0, nr_balanced_to(snapshot, self->last));

	/* Two in a second: not all that wait for it at once, and not for ever none. */
	ASSERT_EQ(0, param_set("balance_shared", 2));
	begun = clock_ms();
	end = begun + 2 * PATIENCE_MS;
	do {
		sleep_ms(100);
		nr = nr_balanced_to(snapshot, self->last);
		/* Counted first and timed last, so that the bound is not too narrow. */
		ms = clock_ms() - begun;
		ASSERT_GE(2 * (ms / 1000 + 1), nr) TH_LOG("%lu chunks in %lu ms", nr, ms);
	} while (nr < NR / 2 && clock_ms() < end);
	worker_end(worker);
	EXPECT_LE(NR / 2, nr);
	TH_LOG("%lu chunks in %lu ms", nr, ms);
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
}

/* Each by a sharer of his own. */
TEST_F(balance, shared_chunk_does_not_bounce_between_two_who_fight_over_it)
{
	unsigned long begun = clock_ms(), interval = 10000, end = begun + PATIENCE_MS, moves, held;
	int snapshot = snapshot_take(self->fd);
	struct dvsm_region_balance report;
	char *map;
	pid_t a, b;

	ASSERT_LE(0, snapshot);
	map = region_map(snapshot, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, map);
	a = reader_start(self->map, 1, self->first);
	b = reader_start(map, 1, self->last);
	ASSERT_LE(0, a);
	ASSERT_LE(0, b);
	do {
		sleep_ms(500);
		ASSERT_EQ(0, region_balance(self->fd, DVSM_BALANCE_KEEP, &report, NULL, 0));
		held = report.out_nr_held;
		ASSERT_EQ(0, region_balance(snapshot, DVSM_BALANCE_KEEP, &report, NULL, 0));
		held += report.out_nr_held;
		moves = nr_balanced_to(snapshot, self->last) + nr_balanced_to(self->fd, self->first);
	} while ((held < 2 || clock_ms() < begun + 2 * interval) && clock_ms() < end);
	end = clock_ms();
	worker_end(a);
	worker_end(b);
	/* Who already has it may keep it all the time; what was refused is not asked again for an interval. */
	EXPECT_LE(2, held);
	EXPECT_GE((end - begun) / interval + 1, moves)
		TH_LOG("%lu moves in %lu ms, %lu held", moves, end - begun, held);
}

TEST_F(balance, what_is_shared_with_the_observed_stays_and_is_seen)
{
	unsigned long migrated = vmstat("numa_pages_migrated");
	int snapshot = snapshot_take(self->fd);
	struct dvsm_region_balance report;
	char *map;
	pid_t worker;

	ASSERT_LE(0, snapshot);
	ASSERT_EQ(0, region_balance(snapshot, DVSM_BALANCE_KEEP, &report, NULL, 0));
	EXPECT_EQ(DVSM_BALANCE_ON, report.out_mode);
	ASSERT_EQ(0, region_balance(self->fd, DVSM_BALANCE_OBSERVE, NULL, NULL, 0));
	close(snapshot);
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	ASSERT_EQ(0, region_balance(snapshot, DVSM_BALANCE_ON, &report, NULL, 0));
	EXPECT_EQ(DVSM_BALANCE_OBSERVE, report.out_mode);
	map = region_map(snapshot, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, map);
	worker = reader_start(map, NR, self->last);
	ASSERT_LE(0, worker);
	EXPECT_LE(4 * NR, wait_for_hints(snapshot, 4 * NR));
	worker_end(worker);
	EXPECT_EQ(NR, nr_on(snapshot, self->first));
	EXPECT_GT(CHUNK_PAGES, vmstat("numa_pages_migrated") - migrated);
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
}

TEST_F(balance, mode_is_set_by_who_may_write_and_comes_from_the_parameter)
{
	int reader = region_reopen(self->fd, DVSM_REOPEN_F_READ_ONLY), other;
	struct dvsm_region_balance report;

	ASSERT_LE(0, reader);
	EXPECT_EQ(-EBADF, region_balance(reader, DVSM_BALANCE_OFF, NULL, NULL, 0));
	ASSERT_EQ(0, region_balance(reader, DVSM_BALANCE_KEEP, &report, NULL, 0));
	EXPECT_EQ(DVSM_BALANCE_ON, report.out_mode);
	EXPECT_EQ(-EOPNOTSUPP, region_balance(self->fd, DVSM_BALANCE_ON + 1, NULL, NULL, 0));

	ASSERT_EQ(0, param_set("balance", DVSM_BALANCE_OFF));
	other = region_create(self->dev, CHUNK, 0);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, region_balance(other, DVSM_BALANCE_OBSERVE, &report, NULL, 0));
	EXPECT_EQ(DVSM_BALANCE_OFF, report.out_mode);
	ASSERT_EQ(0, region_balance(other, DVSM_BALANCE_KEEP, &report, NULL, 0));
	EXPECT_EQ(DVSM_BALANCE_OBSERVE, report.out_mode);
	EXPECT_NE(0, param_set("balance", 0));
	EXPECT_NE(0, param_set("balance", 4));
	ASSERT_EQ(0, param_set("balance", DVSM_BALANCE_ON));

	other = region_create(self->dev, CHUNK, DVSM_REGION_F_PINNED);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, region_balance(other, DVSM_BALANCE_OFF, &report, NULL, 0));
	EXPECT_EQ(DVSM_BALANCE_OFF, report.out_mode);
	EXPECT_EQ(-EOPNOTSUPP, region_balance(other, DVSM_BALANCE_ON, NULL, NULL, 0));
	EXPECT_EQ(-EOPNOTSUPP, region_balance(other, DVSM_BALANCE_OBSERVE, NULL, NULL, 0));
}

TEST_HARNESS_MAIN
