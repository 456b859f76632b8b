// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page sizes changed by request and in the background: small folios to huge ones,
 * huge ones that are barely used to small ones. What memory is made of is proven from
 * smaps and the node's free memory; contents from stamps.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/uio.h>

#include "snapshot.h"

#define LENGTH	(8 * CHUNK)

DVSM_FIXTURE(promote);

/* A region whose chunks hold @nr stamped pages each, in 4 KiB folios. */
static char *small_chunks(struct __test_metadata *_metadata, int fd, unsigned long nr)
{
	char *map = region_map(fd, LENGTH, 0);
	struct dvsm_region_split arg;
	uint64_t at;

	ASSERT_NE(MAP_FAILED, map);
	for (at = 0; at < LENGTH; at += CHUNK)
		stamp(map + at + 2 * PAGE, nr * PAGE, at);
	ASSERT_EQ(LENGTH, region_resident(fd));
	ASSERT_EQ(0, region_split(fd, 0, 0, &arg));
	ASSERT_EQ(LENGTH / CHUNK, arg.out_nr_split);
	return map;
}

static size_t wrong_in_chunks(const char *map, unsigned long nr)
{
	size_t wrong = 0;
	uint64_t at;

	for (at = 0; at < LENGTH; at += CHUNK) {
		wrong += stamps_wrong(map + at + 2 * PAGE, nr * PAGE, at);
		wrong += !is_zero(map + at, 2 * PAGE);
		wrong += !is_zero(map + at + (2 + nr) * PAGE, CHUNK - (2 + nr) * PAGE);
	}
	return wrong;
}

TEST_F(promote, split_gives_zeroes_back_and_keeps_the_rest)
{
	int fd = region_create(self->dev, LENGTH, 0);
	unsigned long pages = pages_free(), nr = 3;
	struct dvsm_chunk chunk;
	struct smaps smaps;
	char *map = small_chunks(_metadata, fd, nr);

	EXPECT_EQ(LENGTH / CHUNK * nr * PAGE, region_resident(fd));
	ASSERT_EQ(0, smaps_read(map, &smaps));
	EXPECT_GE(LENGTH / CHUNK * nr * PAGE, smaps.rss);
	EXPECT_LT(pages - LENGTH / PAGE, pages_free());
	EXPECT_EQ(0, wrong_in_chunks(map, nr));
	/* Reading a hole gives it memory again. */
	ASSERT_EQ(1, region_residency(fd, 0, CHUNK, &chunk, 1));
	EXPECT_EQ(0, chunk.flags & DVSM_CHUNK_F_HUGE);
	EXPECT_EQ(0, region_discard(fd, 0, 0, NULL));
	EXPECT_EQ(0, region_resident(fd));
}

TEST_F(promote, split_leaves_what_is_used_and_counts_everything)
{
	int fd = region_create(self->dev, LENGTH, 0);
	char *map = region_map(fd, LENGTH, 0);
	struct dvsm_region_split arg;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, CHUNK, 1);				/* all of it */
	stamp(map + CHUNK, CHUNK / 2 + PAGE, 2);	/* a page too many */
	stamp(map + 2 * CHUNK, CHUNK / 2, 3);
	map[3 * CHUNK + 5] = 0;				/* all zeroes */
	ASSERT_EQ(0, region_split(fd, 0, 0, &arg));
	EXPECT_EQ(2, arg.out_nr_split);
	EXPECT_EQ(2, arg.out_nr_used);
	EXPECT_EQ(0, arg.out_nr_small + arg.out_nr_busy + arg.out_nr_nomem);
	EXPECT_EQ(CHUNK + CHUNK / 2, arg.out_freed);
	EXPECT_EQ(2 * CHUNK + CHUNK / 2, region_resident(fd));
	ASSERT_EQ(0, region_split(fd, 0, 0, &arg));
	EXPECT_EQ(1, arg.out_nr_small);
	EXPECT_EQ(2, arg.out_nr_used);
	EXPECT_EQ(0, arg.out_nr_split);
	EXPECT_EQ(0, stamps_wrong(map, CHUNK, 1));
	EXPECT_EQ(0, stamps_wrong(map + CHUNK, CHUNK / 2 + PAGE, 2));
	EXPECT_EQ(0, stamps_wrong(map + 2 * CHUNK, CHUNK / 2, 3));
	EXPECT_TRUE(is_zero(map + 2 * CHUNK + CHUNK / 2, CHUNK / 2));
	EXPECT_TRUE(is_zero(map + 3 * CHUNK, CHUNK));
}

TEST_F(promote, small_chunks_become_huge_and_new_mappings_show_it)
{
	int fd = region_create(self->dev, LENGTH, 0);
	struct dvsm_region_promote arg;
	struct dvsm_region_info info;
	char *map = small_chunks(_metadata, fd, 20), *again;

	ASSERT_EQ(0, region_discard(fd, CHUNK, CHUNK, NULL));
	ASSERT_EQ(0, region_promote(fd, 0, 7 * CHUNK, &arg));
	EXPECT_EQ(6, arg.out_nr_promoted);
	EXPECT_EQ(1, arg.out_nr_holes);
	EXPECT_EQ(0, arg.out_nr_huge + arg.out_nr_busy + arg.out_nr_nomem);
	ASSERT_EQ(0, region_promote(fd, 0, 0, &arg));
	EXPECT_EQ(6, arg.out_nr_huge);
	EXPECT_EQ(1, arg.out_nr_promoted);
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(7 * CHUNK, info.out_resident);
	EXPECT_EQ(7 * CHUNK, info.out_resident_huge);
	stamp(map + CHUNK + 2 * PAGE, 20 * PAGE, CHUNK);
	EXPECT_EQ(0, wrong_in_chunks(map, 20));
	again = region_map(fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, again);
	EXPECT_EQ(0, wrong_in_chunks(again, 20));
	EXPECT_TRUE(is_huge_mapped(again, LENGTH));
	/* The old mapping goes on, and so does what is written through either. */
	map[6 * CHUNK] = 77;
	EXPECT_EQ(77, again[6 * CHUNK]);
}

TEST_F(promote, parts_of_chunks_and_the_tail_are_left_out)
{
	int fd = region_create(self->dev, 3 * CHUNK + 5 * PAGE, 0);
	char *map = region_map(fd, 3 * CHUNK + 5 * PAGE, 0);
	struct dvsm_region_promote arg;
	struct dvsm_region_split cut;
	int i;

	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < 4; i++)
		map[i * CHUNK] = 1;
	ASSERT_EQ(0, region_split(fd, PAGE, 0, &cut));
	EXPECT_EQ(2, cut.out_nr_split);
	ASSERT_EQ(0, region_split(fd, 0, 0, &cut));
	EXPECT_EQ(1, cut.out_nr_split);
	ASSERT_EQ(0, region_promote(fd, PAGE, 2 * CHUNK, &arg));
	EXPECT_EQ(1, arg.out_nr_promoted);
	ASSERT_EQ(0, region_promote(fd, PAGE, CHUNK, &arg));
	EXPECT_EQ(0, arg.out_nr_promoted + arg.out_nr_huge + arg.out_nr_holes);
	ASSERT_EQ(0, region_promote(fd, 0, 0, &arg));
	EXPECT_EQ(2, arg.out_nr_promoted);
	EXPECT_EQ(1, arg.out_nr_huge);
	EXPECT_EQ(0, arg.out_nr_holes);
	EXPECT_EQ(-EINVAL, region_promote(fd, 1, CHUNK, &arg));
	EXPECT_EQ(-EINVAL, region_split(fd, 0, 4 * CHUNK, &cut));
}

TEST_F(promote, pinned_and_referenced_chunks_are_busy_and_stay)
{
	int fd = region_create(self->dev, LENGTH, 0), pipe_fds[2];
	struct dvsm_region_pin pin = { .size = sizeof(pin), .offset = CHUNK, .length = PAGE };
	struct dvsm_region_promote arg;
	struct dvsm_region_split cut;
	char *map = small_chunks(_metadata, fd, 20);
	struct iovec iov = { map + 2 * PAGE, PAGE };

	ASSERT_EQ(0, ioctl(fd, DVSM_IOC_REGION_PIN, &pin));
	ASSERT_EQ(0, pipe(pipe_fds));
	ASSERT_EQ(PAGE, vmsplice(pipe_fds[1], &iov, 1, 0));
	ASSERT_EQ(0, region_promote(fd, 0, 0, &arg));
	EXPECT_EQ(2, arg.out_nr_busy);
	EXPECT_EQ(6, arg.out_nr_promoted);
	EXPECT_EQ(0, wrong_in_chunks(map, 20));
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	ASSERT_EQ(0, ioctl(fd, DVSM_IOC_REGION_UNPIN, &pin));
	ASSERT_EQ(0, region_promote(fd, 0, 0, &arg));
	EXPECT_EQ(2, arg.out_nr_promoted);

	ASSERT_EQ(0, pipe(pipe_fds));
	ASSERT_EQ(PAGE, vmsplice(pipe_fds[1], &iov, 1, 0));
	ASSERT_EQ(0, ioctl(fd, DVSM_IOC_REGION_PIN, &pin));
	ASSERT_EQ(0, region_split(fd, 0, 0, &cut));
	EXPECT_EQ(2, cut.out_nr_busy);
	EXPECT_EQ(6, cut.out_nr_split);
	EXPECT_EQ(0, wrong_in_chunks(map, 20));
}

TEST_F(promote, kinds_of_region_that_cannot_say_so)
{
	int pinned = region_create(self->dev, CHUNK, DVSM_REGION_F_PINNED);
	int huge = region_create(self->dev, CHUNK, DVSM_REGION_F_HUGE_REQUIRED);
	struct dvsm_region_promote arg;
	struct dvsm_region_split cut;

	EXPECT_EQ(-EBUSY, region_promote(pinned, 0, 0, &arg));
	EXPECT_EQ(-EBUSY, region_split(pinned, 0, 0, &cut));
	EXPECT_EQ(-EOPNOTSUPP, region_split(huge, 0, 0, &cut));
	EXPECT_EQ(0, region_promote(huge, 0, 0, &arg));
	EXPECT_EQ(1, arg.out_nr_holes);
}

TEST_F(promote, shared_chunk_changes_once_for_all_who_share_it)
{
	int fd = region_create(self->dev, LENGTH, 0), snapshots[2], i;
	struct dvsm_region_promote arg;
	struct dvsm_region_split cut;
	struct counts before, after;
	char *map = small_chunks(_metadata, fd, 20), *maps[2];

	for (i = 0; i < 2; i++) {
		snapshots[i] = snapshot_take(fd);
		ASSERT_LE(0, snapshots[i]);
		maps[i] = region_map(snapshots[i], LENGTH, 0);
		EXPECT_EQ(0, wrong_in_chunks(maps[i], 20));
	}
	ASSERT_EQ(0, region_promote(snapshots[0], 0, 0, &arg));
	EXPECT_EQ(LENGTH / CHUNK, arg.out_nr_promoted);
	ASSERT_EQ(0, counts_read(&before));
	EXPECT_EQ(LENGTH / PAGE, before.pages);
	ASSERT_EQ(0, region_promote(fd, 0, 0, &arg));
	EXPECT_EQ(LENGTH / CHUNK, arg.out_nr_huge);
	EXPECT_EQ(0, wrong_in_chunks(map, 20) + wrong_in_chunks(maps[0], 20) +
		     wrong_in_chunks(maps[1], 20));
	/* They still are apart when one writes. */
	map[0] = 9;
	EXPECT_EQ(0, maps[0][0]);
	EXPECT_EQ(0, maps[1][0]);
	map[0] = 0;
	ASSERT_EQ(0, region_split(snapshots[1], CHUNK, 0, &cut));
	EXPECT_EQ(LENGTH / CHUNK - 1, cut.out_nr_split);
	ASSERT_EQ(0, counts_read(&after));
	EXPECT_GT(before.pages, after.pages);
	EXPECT_EQ(0, wrong_in_chunks(map, 20) + wrong_in_chunks(maps[0], 20) +
		     wrong_in_chunks(maps[1], 20));
}

TEST_F(promote, chunk_copied_in_parts_is_joined_when_the_region_alone_reads_it)
{
	int fd = region_create(self->dev, LENGTH, 0), snapshot;
	struct dvsm_region_promote arg;
	char *map = region_map(fd, LENGTH, 0), *copy;
	struct dvsm_chunk chunk;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, LENGTH, 5);
	snapshot = snapshot_take_in_parts(fd, PAGE, 0);
	ASSERT_LE(0, snapshot);
	copy = region_map(snapshot, LENGTH, 0);
	stamp(copy + PAGE, 3 * PAGE, 6);
	ASSERT_EQ(0, region_promote(snapshot, 0, CHUNK, &arg));
	EXPECT_EQ(1, arg.out_nr_promoted) TH_LOG("busy %llu nomem %llu huge %llu",
		(unsigned long long)arg.out_nr_busy, (unsigned long long)arg.out_nr_nomem,
		(unsigned long long)arg.out_nr_huge);
	ASSERT_EQ(1, region_residency(snapshot, 0, CHUNK, &chunk, 1));
	EXPECT_NE(0, chunk.flags & DVSM_CHUNK_F_HUGE);
	EXPECT_EQ(0, stamps_wrong(copy + PAGE, 3 * PAGE, 6));
	EXPECT_EQ(0, memcmp(copy + 4 * PAGE, map + 4 * PAGE, LENGTH - 4 * PAGE));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 5));
}

TEST_F(promote, private_copies_and_children_see_what_they_saw)
{
	int fd = region_create(self->dev, LENGTH, 0);
	struct dvsm_region_promote arg;
	struct dvsm_region_split cut;
	char *map = small_chunks(_metadata, fd, 20);
	char *own = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, own);
	own[2 * PAGE] = 42;
	ASSERT_EQ(0, region_promote(fd, 0, 0, &arg));
	EXPECT_EQ(LENGTH / CHUNK, arg.out_nr_promoted);
	EXPECT_EQ(42, own[2 * PAGE]);
	pid = child_start();
	if (!pid)
		_exit(own[2 * PAGE] != 42 || wrong_in_chunks(map, 20));
	EXPECT_EQ(0, child_wait(pid));
	ASSERT_EQ(0, region_split(fd, 0, 0, &cut));
	EXPECT_EQ(42, own[2 * PAGE]);
	EXPECT_EQ(0, wrong_in_chunks(map, 20));
}

struct writer {
	volatile uint64_t *words;	/* one a page, at the first pages of each chunk */
	volatile bool stop;
	uint64_t rounds;
	uint64_t wrong;
};

/* Every word is always one round of the others. */
static void *write_rounds(void *arg)
{
	struct writer *writer = arg;
	uint64_t at;

	while (!writer->stop) {
		for (at = 0; at < LENGTH; at += CHUNK) {
			volatile uint64_t *word = writer->words + (at + 9 * PAGE) / sizeof(*word);

			writer->wrong += *word != writer->rounds;
			*word = writer->rounds + 1;
		}
		writer->rounds++;
	}
	return NULL;
}

TEST_F(promote, writers_never_lose_a_byte)
{
	int fd = region_create(self->dev, LENGTH, 0);
	struct writer writers[2] = {};
	struct dvsm_region_promote arg;
	struct dvsm_region_split cut;
	unsigned long begun = clock_ms(), ms;
	uint64_t promoted = 0, was_split = 0, rounds;
	pthread_t threads[2];
	int i;

	for (i = 0; i < 2; i++) {
		char *map = region_map(fd, LENGTH, 0);

		ASSERT_NE(MAP_FAILED, map);
		/* Different pages of the same chunks, by mappings of their own. */
		writers[i].words = (uint64_t *)(map + i * 17 * PAGE);
	}
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, write_rounds, &writers[i]));
	/* For 5 s, or until each has come to something. */
	do {
		ASSERT_EQ(0, region_split(fd, 0, 0, &cut));
		ASSERT_EQ(0, region_promote(fd, 0, 0, &arg));
		promoted += arg.out_nr_promoted;
		was_split += cut.out_nr_split;
		rounds = __atomic_load_n(&writers[0].rounds, __ATOMIC_RELAXED);
		if (rounds)
			rounds = __atomic_load_n(&writers[1].rounds, __ATOMIC_RELAXED);
		ms = clock_ms() - begun;
	} while (ms < 5000 || ((!promoted || !was_split || !rounds) && ms < 120000));
	for (i = 0; i < 2; i++) {
		writers[i].stop = true;
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, writers[i].wrong);
		EXPECT_LT(0, writers[i].rounds);
	}
	EXPECT_LT(0, promoted);
	EXPECT_LT(0, was_split);
}

/* What the chunks are made of adds up to what the module counts; how much is resident. */
static uint64_t resident_of_all(struct __test_metadata *_metadata, int fd, int nr_sharers)
{
	struct dvsm_chunk chunks[LENGTH / CHUNK];
	uint64_t resident = 0, huge = 0;
	struct dvsm_region_info info;
	struct counts counts;
	int i, nr = region_residency(fd, 0, 0, chunks, LENGTH / CHUNK);

	EXPECT_EQ(LENGTH / CHUNK, nr);
	for (i = 0; i < nr; i++) {
		resident += chunks[i].resident;
		huge += chunks[i].flags & DVSM_CHUNK_F_HUGE ? CHUNK : 0;
		EXPECT_EQ(!(chunks[i].flags & DVSM_CHUNK_F_HUGE), chunks[i].nr_folios > 1);
	}
	EXPECT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(resident, info.out_resident);
	EXPECT_EQ(huge, info.out_resident_huge);
	EXPECT_EQ(0, counts_read(&counts));
	EXPECT_EQ(resident / PAGE, counts.pages);
	EXPECT_EQ(nr_sharers, counts.regions);
	return resident;
}

/* Kills who changes page sizes, at one moment after the other. */
static void kill_in_the_middle(struct __test_metadata *_metadata, int fd, const char *map,
			       const char *snapshot, unsigned long nr_pages)
{
	const uint64_t least = LENGTH / CHUNK * nr_pages * PAGE;
	unsigned int i, nr_between = 0;
	struct dvsm_region_promote arg;
	struct dvsm_region_split cut;

	for (i = 0; i < 20; i++) {
		pid_t pid = child_start();
		uint64_t resident;
		int status;

		if (!pid)
			for (;;) {
				region_promote(fd, 0, 0, &arg);
				region_split(fd, 0, 0, &cut);
			}
		sleep_ms(1 + 2 * i);
		kill(pid, SIGKILL);
		ASSERT_TRUE(child_ends(pid, 60000, &status));
		EXPECT_TRUE(WIFSIGNALED(status));
		/* Before the contents are looked at, which gives holes memory. */
		resident = resident_of_all(_metadata, fd, snapshot ? 2 : 1);
		EXPECT_LE(least, resident);
		EXPECT_GE(LENGTH, resident);
		nr_between += resident > least && resident < LENGTH;
		EXPECT_EQ(0, wrong_in_chunks(map, nr_pages));
		if (snapshot)
			EXPECT_EQ(0, wrong_in_chunks(snapshot, nr_pages));
	}
	TH_LOG("%u of %u died between the first chunk and the last", nr_between, i);
	/* Who comes after finds nothing in his way. */
	ASSERT_EQ(0, region_promote(fd, 0, 0, &arg));
	EXPECT_EQ(LENGTH / CHUNK, arg.out_nr_promoted + arg.out_nr_huge);
	EXPECT_EQ(LENGTH, resident_of_all(_metadata, fd, snapshot ? 2 : 1));
	ASSERT_EQ(0, region_split(fd, 0, 0, &cut));
	EXPECT_EQ(LENGTH / CHUNK, cut.out_nr_split);
	EXPECT_EQ(least, resident_of_all(_metadata, fd, snapshot ? 2 : 1));
	EXPECT_EQ(0, wrong_in_chunks(map, nr_pages));
}

TEST_F(promote, killed_caller_leaves_everything_in_order)
{
	int fd = region_create(self->dev, LENGTH, 0);
	char *map = small_chunks(_metadata, fd, 20);

	kill_in_the_middle(_metadata, fd, map, NULL, 20);
}

TEST_F(promote, killed_caller_leaves_what_snapshots_share_in_order)
{
	int fd = region_create(self->dev, LENGTH, 0), snapshot;
	char *map = small_chunks(_metadata, fd, 20), *old;

	snapshot = snapshot_take(fd);
	ASSERT_LE(0, snapshot);
	old = region_map(snapshot, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, old);
	kill_in_the_middle(_metadata, fd, map, old, 20);
}

TEST_F(promote, charges_follow_to_the_cgroup_that_paid)
{
	int fd = region_create(self->dev, LENGTH, 0);
	struct dvsm_region_promote arg;
	struct cgroup cgroup;
	unsigned long before;
	int go[2], done[2];
	pid_t pid;
	char c;

	NEED_CGROUP(&cgroup, "promote");
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(done));
	pid = child_start();
	if (!pid) {
		c = cgroup_enter(&cgroup);
		small_chunks(_metadata, fd, 100);
		_exit(write(done[1], &c, 1) != 1 || read(go[0], &c, 1) != 1);
	}
	ASSERT_EQ(1, read(done[0], &c, 1));
	ASSERT_EQ(0, c);
	before = cgroup_get(&cgroup, "memory.current");
	/* By another, who does not pay. */
	ASSERT_EQ(0, region_promote(fd, 0, 0, &arg));
	EXPECT_EQ(LENGTH / CHUNK, arg.out_nr_promoted);
	EXPECT_LT(before + LENGTH / 2, cgroup_get(&cgroup, "memory.current"));
	EXPECT_EQ(1, write(go[1], "", 1));
	EXPECT_EQ(0, child_wait(pid));
	close(fd);
	EXPECT_TRUE(cgroup_drains_to(&cgroup, MIB, 60));
	cgroup_remove(&cgroup);
}

FIXTURE(promote_hog) {
	int dev;
	int node;
	struct hog hog;
};

FIXTURE_SETUP(promote_hog)
{
	int ret;

	OPEN_DEVICE_OR_SKIP(self->dev);
	NEED_NODES(2);
	ASSERT_EQ(0, param_set("promote_seconds", 0));
	self->node = 63 - __builtin_clzll(node_mask());
	ret = hog_fragment_for_regions(&self->hog, self->dev, self->node);
	if (ret && !getenv("DVSM_VM"))
		SKIP(return, "cannot fragment a node: %s", strerror(-ret));
	ASSERT_EQ(0, ret) TH_LOG("fragmenting a node: %s", strerror(-ret));
}

FIXTURE_TEARDOWN_PARENT(promote_hog)
{
	param_set("promote_seconds", 10);
	EXPECT_NO_LEAK();
	hog_settle(&self->hog);
}

/* How many bytes are huge once at least @wanted are, or after two minutes. */
static uint64_t huge_after_work(int fd, uint64_t wanted)
{
	unsigned long end = clock_ms() + 120000;
	struct dvsm_region_info info;

	do {
		sleep_ms(200);
		if (region_info(fd, &info))
			return 0;
	} while (info.out_resident_huge < wanted && clock_ms() < end);
	return info.out_resident_huge;
}

/* To fill a node and to make it whole again takes long, for an emulator above all. */
#define HOG_TIMEOUT	600

TEST_F_TIMEOUT(promote_hog, without_huge_folios_chunks_stay_and_with_them_they_grow, HOG_TIMEOUT)
{
	int fd = region_create_on(self->dev, HOG_REGION, 0, DVSM_POLICY_BIND,
				  1ULL << self->node);
	char *map = region_map(fd, HOG_REGION, 0);
	struct dvsm_region_promote arg;
	struct dvsm_region_info info;
	unsigned long end;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, HOG_REGION, 3);
	ASSERT_EQ(0, region_info(fd, &info));
	ASSERT_LT(0, info.out_nr_fallbacks);
	ASSERT_EQ(0, region_promote(fd, 0, 0, &arg));
	EXPECT_LT(0, arg.out_nr_nomem);
	EXPECT_EQ(0, stamps_wrong(map, HOG_REGION, 3));
	hog_release(&self->hog);
	/* What the kernel's compaction is moving is busy for as long. */
	end = clock_ms() + 60000;
	do {
		ASSERT_EQ(0, region_promote(fd, 0, 0, &arg));
		EXPECT_EQ(0, arg.out_nr_nomem);
	} while (arg.out_nr_busy && clock_ms() < end);
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(HOG_REGION, info.out_resident_huge);
	EXPECT_EQ(self->node, page_node_read(map));
	EXPECT_EQ(0, stamps_wrong(map, HOG_REGION, 3));
}

TEST_F_TIMEOUT(promote_hog, worker_does_it_when_it_is_on, HOG_TIMEOUT)
{
	int fd = region_create_on(self->dev, HOG_REGION, 0, DVSM_POLICY_BIND,
				  1ULL << self->node);
	char *map = region_map(fd, HOG_REGION, 0);
	struct dvsm_region_info info;
	uint64_t huge;

	ASSERT_NE(MAP_FAILED, map);
	stamp(map, HOG_REGION, 3);
	hog_release(&self->hog);
	ASSERT_EQ(0, region_info(fd, &info));
	huge = info.out_resident_huge;
	ASSERT_GT(HOG_REGION, huge);
	/* Off: nothing happens. */
	sleep_ms(3000);
	ASSERT_EQ(0, region_info(fd, &info));
	EXPECT_EQ(huge, info.out_resident_huge);
	ASSERT_EQ(0, param_set("promote_seconds", 1));
	EXPECT_EQ(HOG_REGION, huge_after_work(fd, HOG_REGION));
	EXPECT_EQ(HOG_REGION, region_resident(fd));
	EXPECT_EQ(0, stamps_wrong(map, HOG_REGION, 3));
	EXPECT_EQ(-EINVAL, param_set("promote_seconds", 86401));
}

/* Who touched the memory was in a cpuset, and the worker is in none. */
TEST_F_TIMEOUT(promote_hog, worker_leaves_chunks_that_belong_where_their_user_may_not_have_memory,
	       HOG_TIMEOUT)
{
	int fd = region_create_on(self->dev, HOG_REGION, 0, DVSM_POLICY_INTERLEAVE, 0);
	uint64_t due = HOG_REGION / nr_nodes_with_memory() / CHUNK * CHUNK;
	uint64_t other = 1ULL << __builtin_ctzll(node_mask());
	char *map = region_map(fd, HOG_REGION, 0), node[16], c = 0;
	struct dvsm_region_migrate migrate;
	unsigned long left = 0, end;
	struct cgroup cgroup;
	int go[2], done[2];
	pid_t pid;

	ASSERT_NE(MAP_FAILED, map);
	NEED_CGROUP(&cgroup, "promote");
	snprintf(node, sizeof(node), "%d", self->node);
	ASSERT_EQ(0, cgroup_set(&cgroup, "cpuset.mems", node));
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(done));
	pid = child_start();
	if (!pid) {
		c = cgroup_enter(&cgroup);
		stamp(map, HOG_REGION, 3);
		_exit(write(done[1], &c, 1) != 1 || read(go[0], &c, 1) != 1);
	}
	ASSERT_EQ(1, read(done[0], &c, 1));
	ASSERT_EQ(0, c);
	hog_release(&self->hog);
	ASSERT_EQ(0, param_set("promote_seconds", 1));
	EXPECT_LE(due, huge_after_work(fd, due));
	for (size_t at = 0; at < HOG_REGION; at += CHUNK)
		left += page_node_read(map + at) != self->node;
	EXPECT_EQ(0, left);
	/* What is on the right node since the worker looked is looked at again. */
	ASSERT_EQ(0, region_place(fd, 0, HOG_REGION / 2, DVSM_POLICY_BIND,
				  1ULL << self->node, NULL));
	due = HOG_REGION / 2 + due / 2 / CHUNK * CHUNK;
	EXPECT_LE(due, huge_after_work(fd, due));
	ASSERT_EQ(0, region_place(fd, HOG_REGION / 2, HOG_REGION / 2, DVSM_POLICY_BIND,
				  other, NULL));
	sleep_ms(3000);
	/* What the kernel's compaction is moving stays the first time. */
	end = clock_ms() + 60000;
	do {
		ASSERT_EQ(0, region_migrate(fd, HOG_REGION / 2, HOG_REGION / 2, other,
					    &migrate));
	} while (migrate.out_referenced && clock_ms() < end);
	EXPECT_EQ(HOG_REGION, huge_after_work(fd, HOG_REGION));
	EXPECT_EQ(0, stamps_wrong(map, HOG_REGION, 3));
	munmap(map, HOG_REGION);
	EXPECT_EQ(1, write(go[1], "", 1));
	EXPECT_EQ(0, child_wait(pid));
	close(fd);
	EXPECT_TRUE(cgroup_drains_to(&cgroup, MIB, 60));
	cgroup_remove(&cgroup);
}

TEST_HARNESS_MAIN_WITH_POOLS
