// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocations that fail where nobody waits for the answer: in what workers do, and the
 * kernel threads that help to populate. fail_test lets the N-th one of a task fail; whose
 * task it will be is not known here, so one on behalf of a function fails, anywhere.
 * A worker tries again until it is done, a populate has one of its errors, and nothing is lost.
 *
 * Needs a kernel with fault injection: the debug kernel.
 */
#include "fail_nth.h"
#include "fixture.h"
#include "snapshot.h"

#define LENGTH		(2 * CHUNK)
#define NR_ROUNDS	24

FIXTURE(fail_worker) {
	int dev;
	int nth;	/* it is not used, but says that there is fault injection */
};

/* What is done once more in each round. */
FIXTURE_VARIANT(fail_worker) {
	const char *function;		/* whose allocations fail */
	int (*begin)(int dev, uint64_t *length);	/* a region that is ready, or -errno */
	int (*run)(int fd, unsigned int round);		/* 0 or -errno */
	bool has_answer;		/* -ENOMEM: then the next one has memory */
};

/* Chunks that are full, of small folios, wait for the worker. */
static int join_begin(int dev, uint64_t *length)
{
	*length = LENGTH;
	/* What lies on several nodes is joined by nobody. */
	return region_create_on(dev, LENGTH, 0, DVSM_POLICY_BIND, node_mask() & -node_mask());
}

static int join_run(int fd, unsigned int round)
{
	unsigned long end = clock_ms() + 120000;
	char *map = region_map(fd, LENGTH, 0);
	struct dvsm_region_split split;
	struct dvsm_region_info info;
	int ret = 0;

	if (map == MAP_FAILED)
		return -errno;
	/* Splitting gives pages of zeroes back. The worker hears of it when they are there again. */
	memset(map, 0, LENGTH);
	for (size_t chunk = 0; chunk < LENGTH; chunk += CHUNK)
		map[chunk] = 1;
	if (region_split(fd, 0, LENGTH, &split) || split.out_nr_split != LENGTH / CHUNK)
		ret = -EPROTO;
	stamp(map, LENGTH, round);
	if (region_place(fd, 0, LENGTH, DVSM_POLICY_BIND, node_mask() & -node_mask(), NULL))
		ret = -EPROTO;
	do {
		sleep_ms(50);
		if (region_info(fd, &info))
			ret = -EIO;
	} while (!ret && info.out_resident_huge != LENGTH && clock_ms() < end);
	if (!ret && info.out_resident_huge != LENGTH)
		ret = -ETIME;
	if (!ret && stamps_wrong(map, LENGTH, round))
		ret = -EILSEQ;
	munmap(map, LENGTH);
	return ret;
}

FIXTURE_VARIANT_ADD(fail_worker, join) {
	.function = "dvsm_promote_work",
	.begin = join_begin,
	.run = join_run,
};

/* A page that was copied goes back when the snapshot is gone. */
static int fold_run(int fd, unsigned int round)
{
	char *map = region_map(fd, LENGTH, 0);
	unsigned long before;
	int ret = 0, snapshot;

	if (map == MAP_FAILED)
		return -errno;
	stamp(map, LENGTH, round);
	before = pages_charged();
	snapshot = snapshot_take_in_parts(fd, PAGE, 0);
	if (snapshot < 0) {
		munmap(map, LENGTH);
		return snapshot;
	}
	for (size_t chunk = 0; chunk < LENGTH; chunk += CHUNK)
		map[chunk + 9 * PAGE + 64] = 7;
	if (pages_charged() != before + LENGTH / CHUNK)
		ret = -EPROTO;
	close(snapshot);
	if (!ret && stats_reach("pages", before, 120))
		ret = -ETIME;
	for (size_t chunk = 0; chunk < LENGTH; chunk += CHUNK) {
		if (map[chunk + 9 * PAGE + 64] != 7)
			ret = -EILSEQ;
		map[chunk + 9 * PAGE + 64] = 0;
	}
	if (!ret && stamps_wrong(map, LENGTH, round))
		ret = -EILSEQ;
	munmap(map, LENGTH);
	return ret;
}

FIXTURE_VARIANT_ADD(fail_worker, fold) {
	.function = "dvsm_promote_work",
	.begin = join_begin,
	.run = fold_run,
};

static int populate_begin(int dev, uint64_t *length)
{
	*length = 33 * CHUNK;
	return region_create(dev, *length, DVSM_REGION_F_HUGE_REQUIRED);
}

static int populate_run(int fd, unsigned int round)
{
	int ret = region_discard(fd, 0, 0, NULL);

	return ret ? ret : region_populate_by(fd, 0, 0, 2, NULL);
}

FIXTURE_VARIANT_ADD(fail_worker, populate_help) {
	.function = "dvsm_populate_help",
	.begin = populate_begin,
	.run = populate_run,
	.has_answer = true,
};

FIXTURE_SETUP(fail_worker)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->nth = fail_nth_open();
	if (self->nth < 0)
		SKIP(return, "no %s (run on the debug kernel)", FAIL_NTH);
	ASSERT_EQ(0, param_set("promote_seconds", 1));
	ASSERT_EQ(0, fail_nth_filter("require", variant->function));
}

FIXTURE_TEARDOWN_PARENT(fail_worker)
{
	fail_some("failslab", 0, 0);
	fail_some("fail_page_alloc", 0, 0);
	param_set("promote_seconds", 10);
	EXPECT_NO_LEAK();
}

TEST_F_TIMEOUT(fail_worker, allocations_that_fail_are_made_up_for, 600)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc" };
	unsigned int round, failed[ARRAY_SIZE(kinds)] = {}, errors = 0, times;
	uint64_t length;
	int fd = variant->begin(self->dev, &length), ret;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, variant->run(fd, 1));
	for (round = 0; round < NR_ROUNDS; round++) {
		const char *kind = kinds[round % ARRAY_SIZE(kinds)];

		/* Each round others, as the kernel counts on from round to round; later several in a row. */
		times = round < NR_ROUNDS / 2 ? 1 : 5;
		ASSERT_EQ(0, fail_some(kind, 1 + round / 2 % (NR_ROUNDS / 4), times));
		ret = variant->run(fd, 2 + round);
		failed[round % ARRAY_SIZE(kinds)] += times - fail_some_left(kind);
		ASSERT_EQ(0, fail_some(kind, 0, 0));
		if (variant->has_answer && ret == -ENOMEM) {
			errors++;
			ret = variant->run(fd, 2 + round);
		}
		ASSERT_EQ(0, ret) TH_LOG("%s, round %u: %s", kind, round, strerror(-ret));
		ASSERT_EQ(length, region_resident(fd));
	}
	TH_LOG("failed: %u of slab, %u of pages; %u errors", failed[0], failed[1], errors);
	EXPECT_LT(0, failed[0]);
	EXPECT_LT(0, failed[1]);
	close(fd);
}

int main(int argc, char **argv)
{
	fail_nth_exec_without_rseq(argv);
	return test_harness_run(argc, argv);
}
