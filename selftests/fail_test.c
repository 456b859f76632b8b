// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every allocation that fails. The kernel lets the N-th one of a task fail
 * (/proc/self/fail-nth); each operation is run with N = 1, 2, ... until it no
 * longer reaches the N-th. It answers with an error that is documented for it, or
 * manages without; nothing is left, neither what counters know nor what only
 * kmemleak finds; and the same operation succeeds afterwards.
 *
 * Needs a kernel with fault injection: the debug kernel.
 */
#include <fcntl.h>

#include "fail_async.h"
#include "fail_import.h"
#include "fail_nth.h"
#include "fail_operations.h"

#define KMEMLEAK	DEBUGFS "kmemleak"
#define NTH_MAX		2000

FIXTURE(fail) {
	int dev;
	int nth;
	int kept;
};

/* One operation, from nothing to nothing. */
FIXTURE_VARIANT(fail) {
	int (*run)(int dev);	/* 0 or -errno */
	int also;		/* -errno that it may answer beside those that all may */
	bool mounts;		/* it is about the first region, which mounts the file system */
	bool by_worker;		/* what fails is io_uring's worker's, who does the command */
	const char *needs;	/* a file */
	const char *spares;	/* a function of the kernel that is to fail at nothing */
};

#define OPERATION(name, ...) \
	FIXTURE_VARIANT_ADD(fail, name) { .run = run_##name, __VA_ARGS__ }

OPERATION(open);
OPERATION(create, .mounts = true);
OPERATION(create_pinned);
OPERATION(reopen);
OPERATION(reopen_by_path);
OPERATION(fault);
OPERATION(private);
OPERATION(implicit);
OPERATION(small_tail);
OPERATION(populate);
OPERATION(populate_alone);
OPERATION(fallocate);
OPERATION(file);
OPERATION(splice, .also = -ENFILE);	/* pipe() */
OPERATION(tell);
OPERATION(discard);
OPERATION(place);
OPERATION(weighted);
OPERATION(move);
OPERATION(migrate);
OPERATION(resize);
OPERATION(pin);
OPERATION(pin_left);
OPERATION(export);
OPERATION(watch);
OPERATION(find);
OPERATION(balance);
OPERATION(name);
OPERATION(member);
/* A snapshot for which nothing could be copied is lost. */
OPERATION(snapshot, .also = -EIO);
OPERATION(snapshot_huge, .also = -EIO);
OPERATION(strict);
OPERATION(strict_parts);
OPERATION(snapshot_registrable);
OPERATION(generations, .also = -EIO);
OPERATION(restore, .also = -EIO);
OPERATION(restore_copy);
OPERATION(merge, .also = -EIO);
OPERATION(unshare, .also = -EIO);
OPERATION(fork);
OPERATION(parts, .also = -EIO);
OPERATION(adaptive, .also = -EIO);
OPERATION(restore_parts, .also = -EIO);
OPERATION(merge_parts, .also = -EIO);
OPERATION(advance, .also = -EIO);
OPERATION(async_submit, .also = -EAGAIN);	/* io_uring without a request */
OPERATION(async_populate, .by_worker = true);
OPERATION(async_migrate, .by_worker = true);
OPERATION(async_snapshot, .by_worker = true);
OPERATION(async_discard, .by_worker = true);
OPERATION(async_diff, .by_worker = true);
/* DMA debugging ends for good when it has no memory. */
OPERATION(import, .needs = IMPORTER_PATH, .spares = "debug_dma_map_sg");

static int fail_nth_open_worker(int dev)
{
	int worker = async_worker(dev);
	char path[64];

	if (worker < 0)
		return worker;
	snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth", worker);
	return fail_nth_open_at(path);
}

FIXTURE_SETUP(fail)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->nth = variant->by_worker ? fail_nth_open_worker(self->dev) : fail_nth_open();
	if (self->nth < 0 && access(KMEMLEAK, F_OK))
		SKIP(return, "no %s (run on the debug kernel)", FAIL_NTH);
	ASSERT_LE(0, self->nth);
	if (variant->needs && access(variant->needs, F_OK))
		SKIP(return, "no %s (see selftests/vm-options)", variant->needs);
	if (variant->spares)
		ASSERT_EQ(0, fail_nth_filter("reject", variant->spares));
	/* A mount takes half of the time, and half of the allocations, of most operations. */
	self->kept = variant->mounts ? -1 : region_create(self->dev, CHUNK, 0);
	ASSERT_TRUE(variant->mounts || self->kept >= 0);
}

FIXTURE_TEARDOWN_PARENT(fail)
{
	EXPECT_NO_LEAK();
}

/* Every file, mounted file system and dma-buf holds the module. */
static unsigned long module_references(void)
{
	unsigned long nr;

	return read_number("/sys/module/dvsm/refcnt", &nr) ? ~0UL : nr;
}

static const char *regions_text(void)
{
	static char text[8192];

	read_text(DEBUGFS "dvsm/regions", text, sizeof(text));
	return text;
}

/*
 * The last reference may be dropped a moment later, by a worker. Looks are counted, not
 * seconds: a machine that stood still would have had one.
 */
#define NR_LOOKS	4000
#define LOOK_MS		5

/* Nothing but empty regions. */
static bool counts_return_to(struct counts *counts, unsigned long nr_regions)
{
	unsigned int i;

	for (i = 0; i < NR_LOOKS && !counts_read(counts); i++) {
		if (counts->regions == nr_regions && counts->users == nr_regions && !counts->pages &&
		    !counts->pinned_pages && !counts->names && !counts->members)
			return true;
		sleep_ms(LOOK_MS);
	}
	return false;
}

static bool module_references_return_to(unsigned long nr)
{
	unsigned int i;

	for (i = 0; i < NR_LOOKS; i++) {
		if (module_references() == nr)
			return true;
		sleep_ms(LOOK_MS);
	}
	return false;
}

TEST_F_TIMEOUT(fail, each_allocation_that_fails_is_an_error_and_leaves_nothing, 600)
{
	const int known[] = { 0, -ENOMEM, -EFAULT, -EMFILE, variant->also };
	const unsigned int nr_kept = self->kept >= 0;
	unsigned int nth, failures = 0, seen[256] = {};
	unsigned long references;
	struct dvsm_info info;
	struct counts counts;
	int ret;

	ASSERT_EQ(0, variant->run(self->dev));
	ASSERT_TRUE(counts_return_to(&counts, nr_kept));
	references = module_references();
	ASSERT_NE(~0UL, references);
	for (nth = 1; nth < NTH_MAX; nth++) {
		size_t i;

		if (!fail_nth_run(self->nth, nth, variant->run, self->dev, &ret))
			break;
		for (i = 0; i < ARRAY_SIZE(known) && known[i] != ret; i++)
			;
		EXPECT_LT(i, ARRAY_SIZE(known)) TH_LOG("allocation %u: %s", nth, strerror(-ret));
		failures += ret != 0;
		seen[-ret & 255]++;
		ASSERT_TRUE(counts_return_to(&counts, nr_kept))
			TH_LOG("allocation %u (%s): %lu regions, %lu pages, %lu pinned, %lu names, "
			       "%lu members, %lu users:\n%s", nth, strerror(-ret), counts.regions,
			       counts.pages, counts.pinned_pages, counts.names, counts.members,
			       counts.users, regions_text());
		ASSERT_EQ(0, device_info(self->dev, &info));
		ASSERT_EQ(nr_kept, info.out_nr_regions);
		ASSERT_EQ(0, info.out_charged);
		ASSERT_TRUE(module_references_return_to(references)) TH_LOG("allocation %u", nth);
	}
	TH_LOG("%u allocations failed, %u of them for good", nth - 1, failures);
	for (ret = 1; ret < 256; ret++)
		if (seen[ret])
			TH_LOG("%u x %s", seen[ret], strerror(ret));
	EXPECT_LT(0, failures);
	EXPECT_GT(NTH_MAX, nth);
	EXPECT_EQ(0, variant->run(self->dev));
}

/*
 * What was allocated and is reached from nowhere: no counter knows it. Of all that
 * came before, so this comes last. An object has to be five seconds old and the same
 * in two scans to be told.
 */
DVSM_FIXTURE(fail_kmemleak);

TEST_F_TIMEOUT(fail_kmemleak, nothing_is_unreachable, 600)
{
	char line[512], text[8192] = "";
	size_t length = 0;
	FILE *file;

	if (access(KMEMLEAK, F_OK))
		SKIP(return, "no " KMEMLEAK " (run on the debug kernel)");
	sleep_ms(6000);
	ASSERT_EQ(0, write_text(KMEMLEAK, "scan")) TH_LOG("kmemleak has switched itself off");
	ASSERT_EQ(0, write_text(KMEMLEAK, "scan"));
	file = fopen(KMEMLEAK, "re");
	ASSERT_NE(NULL, file);
	while (fgets(line, sizeof(line), file)) {
		size_t size = strlen(line);

		if (length + size < sizeof(text)) {
			memcpy(text + length, line, size + 1);
			length += size;
		}
	}
	fclose(file);
	EXPECT_EQ(NULL, strstr(text, "[dvsm]")) TH_LOG("%s", text);
}

int main(int argc, char **argv)
{
	fail_nth_exec_without_rseq(argv);
	return test_harness_run(argc, argv);
}
