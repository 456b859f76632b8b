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
OPERATION(merge, .also = -EIO);
OPERATION(unshare, .also = -EIO);
OPERATION(fork);
OPERATION(parts, .also = -EIO);
OPERATION(adaptive, .also = -EIO);
OPERATION(restore_parts, .also = -EIO);
OPERATION(merge_parts, .also = -EIO);
OPERATION(advance, .also = -EIO);

FIXTURE_SETUP(fail)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->nth = fail_nth_open();
	if (self->nth < 0 && access(KMEMLEAK, F_OK))
		SKIP(return, "no %s (run on the debug kernel)", FAIL_NTH);
	ASSERT_LE(0, self->nth);
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

/* Nothing but empty regions; the last reference may be dropped a moment later, by a worker. */
static bool counts_return_to(struct counts *counts, unsigned long nr_regions)
{
	unsigned long end = clock_ms() + 20000;

	while (!counts_read(counts)) {
		if (counts->regions == nr_regions && counts->users == nr_regions && !counts->pages &&
		    !counts->pinned_pages && !counts->names && !counts->members)
			return true;
		if (clock_ms() > end)
			break;
		sleep_ms(5);
	}
	return false;
}

static bool module_references_return_to(unsigned long nr)
{
	unsigned long end = clock_ms() + 20000;

	while (module_references() != nr) {
		if (clock_ms() > end)
			return false;
		sleep_ms(5);
	}
	return true;
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
			TH_LOG("allocation %u: %lu regions, %lu pages, %lu pinned, %lu names, "
			       "%lu members, %lu users", nth, counts.regions, counts.pages,
			       counts.pinned_pages, counts.names, counts.members, counts.users);
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

TEST_F_TIMEOUT(fail_kmemleak, nothing_is_unreachable, 120)
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

TEST_HARNESS_MAIN
