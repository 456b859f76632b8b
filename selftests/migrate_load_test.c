// SPDX-License-Identifier: GPL-2.0-only
/*
 * Folios that move back and forth while everybody writes to them: by our command, by
 * move_pages(), by mbind() and by the kernel's NUMA balancing at once, with snapshots
 * taken, moved and written to.
 *
 * Every page belongs to one writer, who knows each byte of it. He looks at all of it
 * before he writes it anew, word by word: a word tells its writer, its page, its place
 * and how often it was written. So a snapshot of it, whenever taken, shows words of one
 * round up to some place, and of the round before after it; and is the same when it is
 * looked at again.
 *
 * DVSM_TEST_SECONDS says for how long.
 */
#include <linux/mempolicy.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "snapshot.h"

#define LENGTH		(4 * CHUNK + 37 * PAGE)	/* small folios at the end */
#define NR_PAGES	(LENGTH / PAGE)
#define STRIDE		23		/* pages; between those that are written */
#define PAGE_WORDS	(PAGE / sizeof(uint64_t))
#define NR_WRITERS	4
#define NR_SNAPSHOTS	3
#define PHASE_MS	500		/* with snapshots, and without */
#define NOTE_PAGE	1		/* which no writer has: for a snapshot's own note */

/* Numbers that processes share. */
struct tally {
	volatile int stop;
	uint64_t rounds[NR_WRITERS];
	uint64_t by_command, by_user, by_mbind, snapshots;
};

FIXTURE(migrate_load) {
	int dev;
	int fd;
	char *map;
	struct tally *tally;
	int nodes[2];
};

FIXTURE_VARIANT(migrate_load) {
	uint64_t granularity;
	unsigned int delay_us;
};

FIXTURE_VARIANT_ADD(migrate_load, chunks) {
	.granularity = CHUNK,
};

FIXTURE_VARIANT_ADD(migrate_load, parts) {
	.granularity = PAGE,
};

FIXTURE_VARIANT_ADD(migrate_load, chunks_with_delays) {
	.granularity = CHUNK,
	.delay_us = 500,
};

static const struct {
	const char *path, *value;
} balancing[] = {
	{ "/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "10" },
	{ "/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "20" },
	{ "/sys/kernel/debug/sched/numa_balancing/scan_period_max_ms", "50" },
	{ "/proc/sys/kernel/numa_balancing", "1" },
};

static int set_delay(unsigned int us)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", us);
	return write_text("/sys/kernel/debug/dvsm/delay_us", text);
}

FIXTURE_SETUP(migrate_load)
{
	unsigned int i;

	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_NODES(2);
	self->nodes[0] = __builtin_ctzll(node_mask());
	self->nodes[1] = 63 - __builtin_clzll(node_mask());
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	self->tally = share_anonymous(sizeof(*self->tally));
	for (i = 0; i < ARRAY_SIZE(balancing); i++)
		write_text(balancing[i].path, balancing[i].value);
	ASSERT_EQ(0, param_set("balance_interval_ms", 0));
	ASSERT_EQ(0, set_delay(variant->delay_us));
}

FIXTURE_TEARDOWN_PARENT(migrate_load)
{
	write_text("/proc/sys/kernel/numa_balancing", "0");
	EXPECT_EQ(0, param_set("balance_interval_ms", 10000));
	EXPECT_EQ(0, set_delay(0));
	EXPECT_NO_LEAK();
}

static unsigned long test_ms(void)
{
	const char *seconds = getenv("DVSM_TEST_SECONDS");

	return 1000 * (seconds ? strtoul(seconds, NULL, 0) : 5);
}

static uint64_t word_of(size_t page, uint64_t round, size_t place)
{
	return (uint64_t)page << 48 | (round & 0x7fffffffff) << 9 | place;
}

static volatile uint64_t *words_at(char *map, size_t page)
{
	return (volatile uint64_t *)(map + page * PAGE);
}

static bool is_note_page(size_t page)
{
	return page % CHUNK_PAGES == NOTE_PAGE;
}

/* Whether the page shows the round, all of it. */
static bool page_is_of(char *map, size_t page, uint64_t round)
{
	volatile uint64_t *words = words_at(map, page);
	size_t i;

	for (i = 0; i < PAGE_WORDS; i++)
		if (words[i] != (round ? word_of(page, round, i) : 0))
			return false;
	return true;
}

static void write_page(char *map, size_t page, uint64_t round)
{
	volatile uint64_t *words = words_at(map, page);
	size_t i;

	for (i = 0; i < PAGE_WORDS; i++)
		words[i] = word_of(page, round, i);
}

/* The writer's own pages, again and again, from one node after the other. */
static int write_for_ever(char *map, struct tally *tally, unsigned int writer, const int *nodes)
{
	uint64_t round = 0;
	size_t page;

	for (; !tally->stop; round++) {
		if (round % 4 == 0)
			node_run_on(nodes[round / 4 % 2]);
		for (page = writer * STRIDE; page < NR_PAGES; page += NR_WRITERS * STRIDE) {
			if (is_note_page(page))
				continue;
			if (!page_is_of(map, page, round)) {
				ksft_print_msg("writer %u, page %zu, round %lu: bytes were lost\n",
					       writer, page, round);
				return 1;
			}
			write_page(map, page, round + 1);
		}
		tally->rounds[writer] = round + 1;
	}
	return 0;
}

static uint64_t round_of(uint64_t word)
{
	return word >> 9 & 0x7fffffffff;
}

/* Words of one round, then perhaps of the one before. Adds up what it sees. */
static bool page_is_a_moment(char *map, size_t page, uint64_t *sum)
{
	volatile uint64_t *words = words_at(map, page);
	uint64_t first = round_of(words[0]), last = first;
	size_t i;

	for (i = 0; i < PAGE_WORDS; i++) {
		uint64_t word = words[i], round = round_of(word);

		if (word && word != word_of(page, round, i))
			return false;
		if (round > last || round + 1 < first)
			return false;
		last = round;
		*sum = *sum * 31 + word;
	}
	return true;
}

static bool snapshot_is_a_moment(char *map, uint64_t *sum)
{
	size_t page;

	*sum = 0;
	for (page = 0; page < NR_PAGES; page += STRIDE)
		if (!is_note_page(page) && !page_is_a_moment(map, page, sum))
			return false;
	return true;
}

struct snapshot {
	int fd;
	char *map;
	uint64_t sum;		/* of what it showed at first */
	uint64_t note;		/* what was written to it */
};

/* What is wrong with it, or NULL. */
static const char *snapshot_begin(struct snapshot *s, int fd, uint64_t granularity, uint64_t note)
{
	size_t i;

	s->fd = snapshot_take_in_parts(fd, granularity, 0);
	if (s->fd < 0)
		return "it cannot be taken";
	s->map = region_map(s->fd, LENGTH, 0);
	if (s->map == MAP_FAILED)
		return "it cannot be mapped";
	if (!snapshot_is_a_moment(s->map, &s->sum))
		return "it shows several moments";
	s->note = note;
	for (i = NOTE_PAGE; i < NR_PAGES; i += CHUNK_PAGES)
		write_page(s->map, i, note);
	return NULL;
}

static const char *snapshot_end(struct snapshot *s)
{
	uint64_t sum;
	size_t i;

	if (!s->map)
		return NULL;
	if (!snapshot_is_a_moment(s->map, &sum) || sum != s->sum)
		return "it has changed";
	for (i = NOTE_PAGE; i < NR_PAGES; i += CHUNK_PAGES)
		if (!page_is_of(s->map, i, s->note))
			return "what was written to it is lost";
	munmap(s->map, LENGTH);
	close(s->fd);
	s->map = NULL;
	return NULL;
}

static int take_snapshots_for_ever(int fd, struct tally *tally, uint64_t granularity,
				   const int *nodes)
{
	struct snapshot snapshots[NR_SNAPSHOTS] = {};
	const char *wrong = NULL;
	uint64_t nr;
	int i;

	for (nr = 0; !tally->stop && !wrong; nr++) {
		struct snapshot *s = &snapshots[nr % NR_SNAPSHOTS];
		struct snapshot *other = &snapshots[(nr + 1) % NR_SNAPSHOTS];

		/* What nobody shares balancing can move, too. */
		while (clock_ms() / PHASE_MS % 2 && !tally->stop && !wrong) {
			for (i = 0; i < NR_SNAPSHOTS && !wrong; i++)
				wrong = snapshot_end(&snapshots[i]);
			sleep_ms(PHASE_MS / 10);
		}
		if (!wrong)
			wrong = snapshot_end(s);
		if (!wrong)
			wrong = snapshot_begin(s, fd, granularity, nr + 1);
		if (!wrong)
			region_migrate(other->map ? other->fd : s->fd, nr * CHUNK % (4 * CHUNK),
				       CHUNK, 1ULL << nodes[nr / 4 % 2], NULL);
		tally->snapshots = nr;
	}
	for (nr = 0; nr < NR_SNAPSHOTS && !wrong; nr++)
		wrong = snapshot_end(&snapshots[nr]);
	if (wrong)
		ksft_print_msg("snapshot: %s\n", wrong);
	return wrong != NULL;
}

static int migrate_for_ever(int fd, struct tally *tally, const int *nodes)
{
	struct dvsm_region_migrate arg;
	uint64_t nr;

	for (nr = 0; !tally->stop; nr++) {
		uint64_t offset = nr % 5 * CHUNK;

		if (region_migrate(fd, offset, nr % 3 || offset == 4 * CHUNK ? 0 : CHUNK,
				   1ULL << nodes[nr % 2], &arg))
			return 1;
		tally->by_command += arg.out_moved;
	}
	return 0;
}

static int move_pages_for_ever(char *map, struct tally *tally, const int *nodes)
{
	unsigned long nr;

	for (nr = 0; !tally->stop; nr++) {
		char *page = map + nr * 7919 % NR_PAGES * PAGE;
		int to = nodes[nr / 16 % 2];

		(void)*(volatile char *)page;
		tally->by_user += page_move(page, to, MPOL_MF_MOVE_ALL) == to;
	}
	return 0;
}

static int mbind_for_ever(char *map, struct tally *tally, const int *nodes)
{
	unsigned long nr;

	for (nr = 0; !tally->stop; nr++) {
		unsigned long set = 1UL << nodes[nr / 3 % 2];
		size_t at = nr % 4 * CHUNK;

		(void)*(volatile char *)(map + at);
		tally->by_mbind += !syscall(SYS_mbind, map + at, CHUNK, MPOL_BIND, &set, 65UL,
					    MPOL_MF_MOVE_ALL);
	}
	return 0;
}

static uint64_t moves_by_balancing(int fd)
{
	struct dvsm_node_stats nodes[64] = {};
	uint64_t nr = 0;
	int i;

	region_nodes(fd, nodes, 64);
	for (i = 0; i < 64; i++)
		nr += nodes[i].out_nr_moved_in_balancing;
	return nr;
}

/* 6.1 leaves a huge folio alone that several processes map, as all here do. */
static bool kernel_balances_shared_folios(void)
{
	struct utsname uts;

	return uname(&uts) || strncmp(uts.release, "6.1.", 4);
}

/* Whether everybody has come to something; balancing as far as this kernel does it. */
static bool all_have_worked(const struct tally *t, int fd)
{
	const volatile struct tally *tally = t;
	int i;

	for (i = 0; i < NR_WRITERS; i++)
		if (!tally->rounds[i])
			return false;
	return tally->by_command && tally->by_user && tally->by_mbind && tally->snapshots &&
	       (!kernel_balances_shared_folios() || moves_by_balancing(fd));
}

/* A run of some minutes is no hanging one. */
TEST_F_TIMEOUT(migrate_load, no_byte_is_lost_and_no_snapshot_changes, 900)
{
	struct tally *tally = self->tally;
	unsigned long end = clock_ms() + 120000;
	pid_t pids[NR_WRITERS + 4];
	uint64_t by_balancing;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = child_start();
		if (pids[i])
			continue;
		switch (i) {
		case NR_WRITERS:
			_exit(migrate_for_ever(self->fd, tally, self->nodes));
		case NR_WRITERS + 1:
			_exit(move_pages_for_ever(self->map, tally, self->nodes));
		case NR_WRITERS + 2:
			_exit(mbind_for_ever(self->map, tally, self->nodes));
		case NR_WRITERS + 3:
			_exit(take_snapshots_for_ever(self->fd, tally, variant->granularity,
						      self->nodes));
		default:
			_exit(write_for_ever(self->map, tally, i, self->nodes));
		}
	}
	sleep_ms(test_ms());
	/* The scanner comes when it likes, seldom where there is much to do. */
	while (!all_have_worked(tally, self->fd) && clock_ms() < end)
		sleep_ms(100);
	tally->stop = 1;
	for (i = 0; i < ARRAY_SIZE(pids); i++)
		EXPECT_EQ(0, child_wait(pids[i])) TH_LOG("process %u", i);
	by_balancing = moves_by_balancing(self->fd);
	TH_LOG("rounds %lu, MiB by command %lu, folios by move_pages %lu, mbinds %lu, balancing %lu, snapshots %lu",
	       tally->rounds[0], tally->by_command / MIB, tally->by_user, tally->by_mbind,
	       by_balancing, tally->snapshots);
	for (i = 0; i < NR_WRITERS; i++)
		EXPECT_LT(0, tally->rounds[i]);
	EXPECT_LT(0, tally->by_command);
	EXPECT_LT(0, tally->by_user);
	EXPECT_LT(0, tally->by_mbind);
	if (kernel_balances_shared_folios())
		EXPECT_LT(0, by_balancing);
	EXPECT_LT(0, tally->snapshots);
}

TEST_HARNESS_MAIN
