// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tracepoints: what happens to a region can be read under its number, once, with
 * the right figures.
 */
#include <stdarg.h>
#include <linux/mempolicy.h>
#include <sys/stat.h>

#include "snapshot.h"

#define INSTANCE	"/sys/kernel/tracing/instances/dvsm-test"
#define LENGTH		(4 * CHUNK)

FIXTURE(trace) {
	int dev;
	int fd;
	unsigned long long id;
};

FIXTURE_SETUP(trace)
{
	struct dvsm_region_info info;

	OPEN_DEVICE_OR_SKIP(self->dev);
	rmdir(INSTANCE);
	if (mkdir(INSTANCE, 0755) && !getenv("DVSM_VM"))
		SKIP(return, "no trace instance: %s", strerror(errno));
	ASSERT_EQ(0, write_text(INSTANCE "/events/dvsm/enable", "1"));
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_EQ(0, region_info(self->fd, &info));
	self->id = info.out_id;
}

FIXTURE_TEARDOWN_PARENT(trace)
{
	write_text(INSTANCE "/events/dvsm/enable", "0");
	EXPECT_EQ(0, rmdir(INSTANCE));
	EXPECT_NO_LEAK();
}

/* In @wanted * is the rest of any word. */
static bool fits(const char *text, const char *wanted)
{
	while (*wanted && *text) {
		if (*wanted == '*') {
			text += strcspn(text, " ");
			wanted++;
		} else if (*wanted++ != *text++) {
			return false;
		}
	}
	return !*wanted && !*text;
}

/* How many events were written so far with this text. */
static int __attribute__((format(printf, 1, 2))) nr_traced(const char *format, ...)
{
	FILE *file = fopen(INSTANCE "/trace", "re");
	char wanted[256], line[512];
	va_list args;
	int nr = 0;

	va_start(args, format);
	vsnprintf(wanted, sizeof(wanted), format, args);
	va_end(args);
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		const char *at = strstr(line, ": dvsm_");

		line[strcspn(line, "\n")] = '\0';
		nr += at && fits(at + 2, wanted);
	}
	fclose(file);
	return nr;
}

static int nr_faults_traced(unsigned long long id, unsigned long page, int order, int node,
			    int error)
{
	return nr_traced("dvsm_fault: region=%llu page=%lu flags=* order=%d node=%d error=%d",
			 id, page, order, node, error);
}

TEST_F(trace, region_s_life_is_told_from_end_to_end)
{
	ASSERT_EQ(1, pwrite(self->fd, "x", 1, CHUNK));
	EXPECT_EQ(1, nr_traced("dvsm_region_create: region=%llu length=%lu flags=0x0", self->id,
			       LENGTH));
	EXPECT_EQ(0, nr_traced("dvsm_region_destroy: region=%llu peak_pages=%lu", self->id,
			       CHUNK_PAGES));
	close(self->fd);
	EXPECT_EQ(1, nr_traced("dvsm_region_destroy: region=%llu peak_pages=%lu", self->id,
			       CHUNK_PAGES));
}

TEST_F(trace, every_fault_is_told_with_its_page_folio_and_node)
{
	char *map = region_map(self->fd, LENGTH + CHUNK, 0);
	int node;

	ASSERT_NE(MAP_FAILED, map);
	map[CHUNK + 5 * PAGE] = 1;
	map[CHUNK + 7 * PAGE] = 1;
	node = page_node(map + CHUNK);
	EXPECT_EQ(1, nr_faults_traced(self->id, CHUNK_PAGES + 5, 9, node, 0));
	EXPECT_EQ(0, nr_faults_traced(self->id, CHUNK_PAGES + 7, 9, node, 0));
	EXPECT_EQ(SIGBUS, read_at(map + LENGTH));
	EXPECT_EQ(1, nr_faults_traced(self->id, LENGTH / PAGE, 0, -1, -EFBIG));
}

TEST_F(trace, populate_and_discard_are_told_with_what_they_did)
{
	ASSERT_EQ(0, region_populate(self->fd, CHUNK, 2 * CHUNK, NULL));
	ASSERT_EQ(0, region_discard(self->fd, 2 * CHUNK, 0, NULL));
	EXPECT_EQ(1, nr_traced("dvsm_populate: region=%llu start=%lu end=%lu pages=%lu error=0",
			       self->id, CHUNK_PAGES, 3 * CHUNK_PAGES, 2 * CHUNK_PAGES));
	EXPECT_EQ(1, nr_traced("dvsm_discard: region=%llu start=%lu end=%lu pages=%lu error=0",
			       self->id, 2 * CHUNK_PAGES, 4 * CHUNK_PAGES, CHUNK_PAGES));
}

TEST_F(trace, failed_populate_is_told_with_its_error)
{
	ASSERT_EQ(0, param_set("limit_mb", CHUNK / MIB));
	EXPECT_EQ(-ENOSPC, region_populate_by(self->fd, 0, 0, 1, NULL));
	EXPECT_EQ(0, param_set("limit_mb", 0));
	EXPECT_EQ(1, nr_traced("dvsm_populate: region=%llu start=0 end=%lu pages=%lu error=%d",
			       self->id, LENGTH / PAGE, CHUNK_PAGES, -ENOSPC));
}

TEST_F(trace, folio_that_moves_is_told_with_both_nodes)
{
	char *map = region_map(self->fd, LENGTH, 0);
	int from, to;

	NEED_NODES(2);
	ASSERT_NE(MAP_FAILED, map);
	map[3 * CHUNK] = 1;
	from = page_node(map + 3 * CHUNK);
	to = __builtin_ctzll(node_mask() & ~(1ULL << from));
	ASSERT_EQ(to, page_move(map + 3 * CHUNK, to, MPOL_MF_MOVE));
	EXPECT_EQ(1, nr_traced("dvsm_folio_move: region=%llu page=%lu order=9 from=%d to=%d by=user",
			       self->id, 3 * CHUNK_PAGES, from, to));
	ASSERT_EQ(0, region_migrate(self->fd, 0, 0, 1ULL << from, NULL));
	EXPECT_EQ(1, nr_traced("dvsm_folio_move: region=%llu page=%lu order=9 from=%d to=%d by=command",
			       self->id, 3 * CHUNK_PAGES, to, from));
	EXPECT_EQ(1, nr_traced("dvsm_migrate: region=%llu start=0 end=%lu pages=%lu error=0",
			       self->id, LENGTH / PAGE, CHUNK_PAGES));
}

TEST_F(trace, snapshot_its_divergence_and_its_return_are_told)
{
	struct dvsm_region_info info;
	int snapshot;

	ASSERT_EQ(2, pwrite(self->fd, "ab", 2, CHUNK));
	snapshot = snapshot_take(self->fd);
	ASSERT_EQ(0, region_info(snapshot, &info));
	ASSERT_EQ(1, pwrite(self->fd, "c", 1, CHUNK));
	ASSERT_EQ(0, snapshot_restore(self->fd, snapshot));
	EXPECT_EQ(1, nr_traced("dvsm_snapshot_take: region=%llu snapshot=%llu chunks=0-4 error=0",
			       self->id, info.out_id));
	EXPECT_EQ(1, nr_traced("dvsm_share_break: region=%llu chunk=1 page=%lu node=* others-copied",
			       self->id, CHUNK_PAGES));
	ASSERT_EQ(1, pwrite(snapshot, "d", 1, CHUNK + 3 * PAGE));
	EXPECT_EQ(1, nr_traced("dvsm_share_break: region=%llu chunk=1 page=%lu node=* copied",
			       (unsigned long long)info.out_id, CHUNK_PAGES + 3));
	EXPECT_EQ(1, nr_traced("dvsm_snapshot_restore: region=%llu snapshot=%llu bytes=%lu error=0",
			       self->id, info.out_id, CHUNK));
}

TEST_F(trace, every_write_that_copies_is_told_with_its_page_and_what_was_copied)
{
	char *map = region_map(self->fd, LENGTH, 0), *own;
	struct dvsm_region_info info;
	int snapshot;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 1);
	own = snapshot_take_mapped(self->fd, LENGTH, PAGE, 0, &snapshot);
	ASSERT_NE(MAP_FAILED, own);
	ASSERT_EQ(0, region_info(snapshot, &info));
	for (int page = 0; page < 3; page++)
		map[CHUNK + page * PAGE] = own[2 * CHUNK + page * PAGE] = 'w';
	map[CHUNK] = 'x';
	for (int page = 0; page < 3; page++) {
		EXPECT_EQ(1, nr_traced("dvsm_share_break: region=%llu chunk=1 page=%lu node=* part-copied",
				       self->id, CHUNK_PAGES + page));
		EXPECT_EQ(1, nr_traced("dvsm_share_break: region=%llu chunk=2 page=%lu node=* part-copied",
				       (unsigned long long)info.out_id, 2 * CHUNK_PAGES + page));
	}
}

/* As often as the command that tells what each node did says. */
TEST_F(trace, every_write_that_copies_is_told_with_the_node_of_the_CPU)
{
	struct dvsm_node_stats stats[64];
	int snapshot, node, at = 0;

	NEED_NODES(2);
	ASSERT_EQ(0, region_populate(self->fd, 0, 0, NULL));
	ASSERT_EQ(1, pwrite(self->fd, "o", 1, 0));
	snapshot = snapshot_take_in_parts(self->fd, PAGE, 0);
	ASSERT_LE(0, snapshot);
	for (node = 0; node < 64; node++) {
		if (!(nodes_to_work_on() >> node & 1))
			continue;
		ASSERT_EQ(0, node_run_on(node));
		for (int i = 0; i <= node; i++, at++)
			ASSERT_EQ(1, pwrite(self->fd, "w", 1, at * PAGE));
	}
	ASSERT_EQ(0, region_nodes(self->fd, stats, 64));
	for (node = 0; node < 64; node++) {
		if (!(node_mask() >> node & 1))
			continue;
		EXPECT_EQ((int)stats[node].out_nr_cow_faults,
			  nr_traced("dvsm_share_break: region=%llu chunk=0 page=* node=%d part-copied",
				    self->id, node));
		if (nodes_to_work_on() >> node & 1)
			EXPECT_EQ(node + 1, stats[node].out_nr_cow_faults);
	}
}

TEST_F(trace, merge_is_told_with_its_conflicts)
{
	struct dvsm_snapshot_merge merge;
	struct dvsm_region_info info;
	int snapshot;

	ASSERT_EQ(0, region_populate(self->fd, 0, 0, NULL));
	snapshot = snapshot_take(self->fd);
	ASSERT_EQ(0, region_info(snapshot, &info));
	for (int chunk = 0; chunk < 4; chunk += 2) {
		ASSERT_EQ(1, pwrite(self->fd, "p", 1, chunk * CHUNK));
		ASSERT_EQ(1, pwrite(snapshot, "s", 1, chunk * CHUNK));
	}
	EXPECT_EQ(-EAGAIN, snapshot_merge(self->fd, snapshot, 0, &merge));
	EXPECT_EQ(0, snapshot_merge(self->fd, snapshot, DVSM_MERGE_F_SNAPSHOT_WINS, &merge));
	EXPECT_EQ(1, nr_traced("dvsm_snapshot_merge: region=%llu snapshot=%llu bytes=0 conflicts=2 error=%d",
			       self->id, info.out_id, -EAGAIN));
	EXPECT_EQ(1, nr_traced("dvsm_snapshot_merge: region=%llu snapshot=%llu bytes=%lu conflicts=2 error=0",
			       self->id, info.out_id, 2 * CHUNK));
}

TEST_HARNESS_MAIN
