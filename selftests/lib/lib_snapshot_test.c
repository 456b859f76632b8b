// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshots through the library: on the device what they do, on memfd that they
 * are refused and that nothing else is.
 */
#include <sys/socket.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "lib_test.h"

#define LENGTH	(6 * CHUNK)
#define TAKE(...) (&(struct dvsm_snapshot_options){			\
	.size = sizeof(struct dvsm_snapshot_options), __VA_ARGS__ })

static struct dvsm_region *create_on(uint32_t backend, uint64_t length, uint32_t flags)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = backend,
		.flags = flags,
		.label = "live",
	};

	return dvsm_region_create(length, &options);
}

static void fill(char *map, uint64_t length, uint64_t seed)
{
	uint64_t *words = (uint64_t *)map;
	uint64_t i;

	for (i = 0; i < length / 8; i++)
		words[i] = (i + 1) * (2 * seed + 1);
}

static bool is_filled(const char *map, uint64_t from, uint64_t length, uint64_t seed)
{
	const uint64_t *words = (const uint64_t *)map;
	uint64_t i;

	for (i = from / 8; i < (from + length) / 8; i++)
		if (words[i] != (i + 1) * (2 * seed + 1))
			return false;
	return true;
}

FIXTURE(device)
{
	struct dvsm_region *region;
	char *map;
	int nr_descriptors;
	int nr_region_mappings;
};

FIXTURE_SETUP(device)
{
	if (access(DVSM_DEVICE_PATH, R_OK | W_OK))
		SKIP(return, DVSM_DEVICE_PATH ": %s", strerror(errno));
	self->nr_descriptors = nr_descriptors();
	self->nr_region_mappings = nr_region_mappings();
	self->region = create_on(DVSM_BACKEND_DEVICE, LENGTH, 0);
	ASSERT_NE(NULL, self->region);
	self->map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, self->map);
	fill(self->map, LENGTH, 1);
}

FIXTURE_TEARDOWN(device)
{
	if (!self->region)
		return;
	EXPECT_EQ(0, dvsm_region_unmap(self->map, LENGTH));
	dvsm_region_destroy(self->region);
	EXPECT_EQ(self->nr_descriptors, nr_descriptors());
	EXPECT_EQ(self->nr_region_mappings, nr_region_mappings());
}

static char *map_all(const struct dvsm_region *region)
{
	return dvsm_region_map(region, 0, 0, RW, NULL);
}

static void end(struct dvsm_region *snapshot, char *map)
{
	if (map)
		dvsm_region_unmap(map, LENGTH);
	dvsm_region_destroy(snapshot);
}

TEST_F(device, device_says_that_it_has_them)
{
	EXPECT_TRUE(dvsm_region_features(self->region) & DVSM_FEATURE_SNAPSHOT);
}

TEST_F(device, holds_what_the_region_held_when_it_was_taken)
{
	struct dvsm_region *snapshot = dvsm_snapshot_take(self->region, NULL);
	struct dvsm_region_info info = { .size = sizeof(info) };
	char *map;

	ASSERT_NE(NULL, snapshot);
	EXPECT_EQ(LENGTH, dvsm_region_length(snapshot));
	EXPECT_EQ(DVSM_BACKEND_DEVICE, dvsm_region_backend(snapshot));
	EXPECT_EQ(CHUNK, dvsm_region_page_size(snapshot));
	EXPECT_EQ(FD_CLOEXEC, fcntl(dvsm_region_fd(snapshot), F_GETFD));
	map = map_all(snapshot);
	ASSERT_NE(NULL, map);
	fill(self->map, LENGTH, 2);
	EXPECT_TRUE(is_filled(map, 0, LENGTH, 1));
	fill(map, CHUNK, 3);
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 2));
	EXPECT_EQ(LENGTH, smaps_huge(map, LENGTH));
	ASSERT_EQ(0, dvsm_region_info(snapshot, &info));
	EXPECT_NE(0, info.out_parent_id);
	end(snapshot, map);
}

TEST_F(device, options_are_passed_on)
{
	struct dvsm_region *snapshot, *copy;
	char line[4096] = "";
	char *map;
	FILE *maps;
	bool seen = false;

	snapshot = dvsm_snapshot_take(self->region,
				      TAKE(.flags = DVSM_SNAPSHOT_F_READ_ONLY, .offset = CHUNK,
					   .length = 2 * CHUNK, .granularity = CHUNK,
					   .label = "a-snapshot"));
	ASSERT_NE(NULL, snapshot);
	EXPECT_FAILS_NULL(EACCES, map_all(snapshot));
	map = dvsm_region_map(snapshot, 0, 0, PROT_READ, NULL);
	ASSERT_NE(NULL, map);
	EXPECT_EQ(0, *(uint64_t *)map);
	EXPECT_TRUE(is_filled(map, CHUNK, 2 * CHUNK, 1));
	EXPECT_EQ(0, *(uint64_t *)(map + 3 * CHUNK));
	maps = fopen("/proc/self/maps", "re");
	while (fgets(line, sizeof(line), maps))
		seen |= strstr(line, "a-snapshot") != NULL;
	fclose(maps);
	EXPECT_TRUE(seen);
	EXPECT_FAILS_NULL(EBADF, dvsm_snapshot_take(snapshot, NULL));
	EXPECT_FAILS(EBADF, dvsm_region_populate(snapshot, 0, 0, 0, NULL));
	copy = dvsm_region_reopen(snapshot, 0);
	ASSERT_NE(NULL, copy);
	EXPECT_FAILS_NULL(EACCES, map_all(copy));
	dvsm_region_destroy(copy);
	end(snapshot, map);
}

TEST_F(device, options_that_are_wrong_are_refused)
{
	struct {
		struct dvsm_snapshot_options options;
		uint64_t more;
	} longer = { .options.size = sizeof(longer) };
	struct dvsm_region *snapshot;

	EXPECT_FAILS_NULL(EINVAL, dvsm_snapshot_take(self->region, &(struct dvsm_snapshot_options){ .size = 8 }));
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_snapshot_take(self->region, TAKE(.flags = 8)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_snapshot_take(self->region, TAKE(.reserved = 1)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_snapshot_take(self->region, TAKE(.offset = PAGE)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_snapshot_take(self->region, TAKE(.length = PAGE)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_snapshot_take(self->region, TAKE(.offset = LENGTH)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_snapshot_take(self->region, TAKE(.length = LENGTH + CHUNK)));
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_snapshot_take(self->region, TAKE(.granularity = 12345)));
	EXPECT_FAILS_NULL(EINVAL, dvsm_snapshot_take(self->region, TAKE(.flags = DVSM_SNAPSHOT_F_ADAPTIVE,
									.granularity = CHUNK)));
	snapshot = dvsm_snapshot_take(self->region, TAKE(.flags = DVSM_SNAPSHOT_F_ADAPTIVE,
							 .granularity = 65536));
	EXPECT_NE(NULL, snapshot);
	dvsm_region_destroy(snapshot);
	EXPECT_FAILS_NULL(EINVAL, dvsm_snapshot_take(self->region,
				TAKE(.label = "a name that is longer than the room for it")));
	snapshot = dvsm_snapshot_take(self->region, &longer.options);
	EXPECT_NE(NULL, snapshot);
	dvsm_region_destroy(snapshot);
	longer.more = 1;
	EXPECT_FAILS_NULL(E2BIG, dvsm_snapshot_take(self->region, &longer.options));
}

TEST_F(device, passes_over_a_socket_and_outlives_its_parent)
{
	struct dvsm_region *snapshot = dvsm_snapshot_take(self->region, NULL), *opened;
	char *map;

	ASSERT_NE(NULL, snapshot);
	opened = dvsm_region_open(dup(dvsm_region_fd(snapshot)), NULL);
	ASSERT_NE(NULL, opened);
	dvsm_region_destroy(snapshot);
	fill(self->map, LENGTH, 4);
	map = map_all(opened);
	ASSERT_NE(NULL, map);
	EXPECT_TRUE(is_filled(map, 0, LENGTH, 1));
	snapshot = dvsm_snapshot_take(opened, NULL);
	ASSERT_NE(NULL, snapshot);
	end(opened, map);
	map = map_all(snapshot);
	ASSERT_NE(NULL, map);
	EXPECT_TRUE(is_filled(map, 0, LENGTH, 1));
	end(snapshot, map);
}

TEST_F(device, restore_takes_divergence_back)
{
	struct dvsm_region *snapshot = dvsm_snapshot_take(self->region, NULL);
	struct dvsm_region *stranger = create_on(DVSM_BACKEND_DEVICE, LENGTH, 0);
	uint64_t restored = 7;

	ASSERT_NE(NULL, snapshot);
	ASSERT_NE(NULL, stranger);
	fill(self->map, 2 * CHUNK, 2);
	EXPECT_FAILS(EINVAL, dvsm_snapshot_restore(self->region, stranger, &restored));
	EXPECT_EQ(0, restored);
	EXPECT_FAILS(EINVAL, dvsm_snapshot_restore(self->region, self->region, NULL));
	EXPECT_FAILS(EINVAL, dvsm_snapshot_restore(snapshot, self->region, NULL));
	ASSERT_EQ(0, dvsm_snapshot_restore(self->region, snapshot, &restored));
	EXPECT_EQ(2 * CHUNK, restored);
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 1));
	ASSERT_EQ(0, dvsm_snapshot_restore(self->region, snapshot, NULL));
	dvsm_region_destroy(stranger);
	dvsm_region_destroy(snapshot);
}

TEST_F(device, merge_tells_conflicts_and_changes_nothing)
{
	struct dvsm_region *snapshot = dvsm_snapshot_take(self->region, NULL);
	struct dvsm_range conflicts[4];
	uint32_t nr = 4;
	uint64_t merged = 7;
	char *map;

	ASSERT_NE(NULL, snapshot);
	map = map_all(snapshot);
	ASSERT_NE(NULL, map);
	/* Conflicts: 1, and 3 with 4. */
	for (int chunk = 1; chunk < 5; chunk++)
		map[chunk * CHUNK] = 's';
	self->map[CHUNK] = self->map[3 * CHUNK] = self->map[4 * CHUNK] = 'p';
	memset(conflicts, 0xff, sizeof(conflicts));
	EXPECT_FAILS(EAGAIN, dvsm_snapshot_merge(self->region, snapshot, 0, conflicts, &nr,
						 &merged));
	EXPECT_EQ(2, nr);
	EXPECT_EQ(0, merged);
	EXPECT_EQ(CHUNK, conflicts[0].offset);
	EXPECT_EQ(CHUNK, conflicts[0].length);
	EXPECT_EQ(3 * CHUNK, conflicts[1].offset);
	EXPECT_EQ(2 * CHUNK, conflicts[1].length);
	EXPECT_EQ(0, conflicts[2].length);
	EXPECT_NE('s', self->map[2 * CHUNK]);

	nr = 1;
	EXPECT_FAILS(EAGAIN, dvsm_snapshot_merge(self->region, snapshot, 0, conflicts, &nr, NULL));
	EXPECT_EQ(2, nr);
	EXPECT_FAILS(EAGAIN, dvsm_snapshot_merge(self->region, snapshot, 0, NULL, &nr, NULL));
	EXPECT_FAILS(EAGAIN, dvsm_snapshot_merge(self->region, snapshot, 0, NULL, NULL, NULL));
	EXPECT_FAILS(EINVAL, dvsm_snapshot_merge(self->region, snapshot, 3, NULL, NULL, NULL));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_snapshot_merge(self->region, snapshot, 4, NULL, NULL, NULL));

	EXPECT_EQ(0, dvsm_snapshot_merge(self->region, snapshot, DVSM_MERGE_F_PARENT_WINS, NULL,
					 NULL, &merged));
	EXPECT_EQ(CHUNK, merged);
	EXPECT_EQ('p', self->map[CHUNK]);
	EXPECT_EQ('s', self->map[2 * CHUNK]);
	EXPECT_EQ(0, dvsm_snapshot_merge(self->region, snapshot, DVSM_MERGE_F_SNAPSHOT_WINS, NULL,
					 NULL, &merged));
	EXPECT_EQ(3 * CHUNK, merged);
	EXPECT_EQ('s', self->map[4 * CHUNK]);
	nr = 0;
	EXPECT_EQ(0, dvsm_snapshot_merge(self->region, snapshot, 0, NULL, &nr, &merged));
	EXPECT_EQ(0, merged);
	end(snapshot, map);
}

static int note(void *argument, const struct dvsm_range *range)
{
	struct dvsm_range *list = argument;

	while (list->length)
		list++;
	*list = *range;
	return 0;
}

static int stop_at_second(void *argument, const struct dvsm_range *range)
{
	(void)range;
	return ++*(int *)argument == 2 ? 42 : 0;
}

TEST_F(device, diff_lists_ranges_by_array_and_by_function)
{
	struct dvsm_region *snapshot = dvsm_snapshot_take(self->region, NULL);
	struct dvsm_range ranges[8] = {}, each[8] = {};
	uint64_t next;
	int nr = 0;

	ASSERT_NE(NULL, snapshot);
	EXPECT_EQ(0, dvsm_region_diff(self->region, snapshot, 0, 0, ranges, 8, &next));
	EXPECT_EQ(LENGTH, next);
	EXPECT_EQ(0, dvsm_region_diff_each(self->region, snapshot, 0, 0, note, each));
	EXPECT_EQ(0, each[0].length);
	self->map[0] = self->map[CHUNK] = self->map[3 * CHUNK] = self->map[5 * CHUNK] = 'x';
	ASSERT_EQ(3, dvsm_region_diff(self->region, snapshot, 0, 0, ranges, 8, NULL));
	EXPECT_EQ(0, ranges[0].offset);
	EXPECT_EQ(2 * CHUNK, ranges[0].length);
	EXPECT_EQ(3 * CHUNK, ranges[1].offset);
	EXPECT_EQ(5 * CHUNK, ranges[2].offset);
	EXPECT_EQ(0, dvsm_region_diff_each(self->region, snapshot, 0, 0, note, each));
	EXPECT_EQ(0, memcmp(ranges, each, sizeof(each)));
	EXPECT_EQ(42, dvsm_region_diff_each(self->region, snapshot, 0, 0, stop_at_second, &nr));
	EXPECT_EQ(2, nr);
	ASSERT_EQ(1, dvsm_region_diff(self->region, snapshot, 0, 0, ranges, 1, &next));
	EXPECT_EQ(3 * CHUNK, next);
	ASSERT_EQ(1, dvsm_region_diff(self->region, snapshot, next, CHUNK, ranges, 8, &next));
	EXPECT_EQ(3 * CHUNK, ranges[0].offset);
	EXPECT_EQ(4 * CHUNK, next);
	EXPECT_FAILS(EINVAL, dvsm_region_diff(self->region, snapshot, 0, 0, NULL, 8, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_diff(self->region, snapshot, 0, 0, ranges, 0, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_diff(self->region, snapshot, LENGTH, 0, ranges, 8, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_diff(self->region, snapshot, CHUNK, LENGTH, ranges, 8, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_diff_each(self->region, snapshot, LENGTH, 0, note, each));
	EXPECT_FAILS(EINVAL, dvsm_region_diff(self->region, self->region, 0, 0, ranges, 8, NULL));
	dvsm_region_destroy(snapshot);
}

static int count_ranges(void *argument, const struct dvsm_range *range)
{
	uint64_t *counts = argument;

	counts[0]++;
	counts[1] += range->offset;
	return 0;
}

/* More ranges than the kernel or the library hands over at once. */
TEST_F(device, diff_of_more_ranges_than_a_batch)
{
	enum { NR = 300 };
	struct dvsm_region *region = create_on(DVSM_BACKEND_DEVICE, 2 * NR * CHUNK, 0), *empty;
	struct dvsm_range *ranges = calloc(NR + 1, sizeof(*ranges));
	uint64_t counts[2] = {}, next;

	ASSERT_NE(NULL, region);
	empty = dvsm_snapshot_take(region, NULL);
	ASSERT_NE(NULL, empty);
	for (int i = 0; i < NR; i++)
		ASSERT_EQ(1, pwrite(dvsm_region_fd(region), "x", 1, 2 * i * CHUNK));
	EXPECT_EQ(NR, dvsm_region_diff(region, empty, 0, 0, ranges, NR + 1, &next));
	EXPECT_EQ(2 * NR * CHUNK, next);
	for (int i = 0; i < NR; i++)
		EXPECT_EQ(2 * i * CHUNK, ranges[i].offset);
	EXPECT_EQ(0, dvsm_region_diff_each(region, empty, 0, 0, count_ranges, counts));
	EXPECT_EQ(NR, counts[0]);
	EXPECT_EQ((uint64_t)NR * (NR - 1) * CHUNK, counts[1]);
	free(ranges);
	dvsm_region_destroy(empty);
	dvsm_region_destroy(region);
}

/* Told once, then not again, then what is newly written; the snapshot holds what was told. */
TEST_F(device, advance_tells_what_was_written_since_last_asked)
{
	enum { ROOM = 256 };
	struct dvsm_region *snapshot = dvsm_snapshot_take(self->region, NULL);
	struct dvsm_range *ranges = calloc(ROOM, sizeof(*ranges));
	uint64_t next = 7;
	char *map;

	ASSERT_NE(NULL, snapshot);
	ASSERT_NE(NULL, ranges);
	map = map_all(snapshot);
	ASSERT_NE(NULL, map);
	EXPECT_EQ(0, dvsm_snapshot_advance(self->region, snapshot, 0, 0, ranges, ROOM, &next));
	EXPECT_EQ(LENGTH, next);
	self->map[CHUNK] = self->map[3 * CHUNK] = 'x';
	EXPECT_NE('x', map[CHUNK]);
	ASSERT_EQ(2, dvsm_snapshot_advance(self->region, snapshot, 0, 0, ranges, ROOM, &next));
	EXPECT_EQ(LENGTH, next);
	EXPECT_EQ(CHUNK, ranges[0].offset);
	EXPECT_EQ(CHUNK, ranges[0].length);
	EXPECT_EQ(3 * CHUNK, ranges[1].offset);
	EXPECT_EQ(CHUNK, ranges[1].length);
	EXPECT_EQ(0, memcmp(map, self->map, LENGTH));
	EXPECT_EQ(0, dvsm_snapshot_advance(self->region, snapshot, 0, 0, ranges, ROOM, NULL));
	EXPECT_EQ(0, dvsm_region_diff(self->region, snapshot, 0, 0, ranges, ROOM, NULL));

	/* One of those, and one that is new: the snapshot stays as it was until it is asked. */
	self->map[3 * CHUNK] = self->map[4 * CHUNK] = 'z';
	EXPECT_EQ('x', map[3 * CHUNK]);
	EXPECT_NE('z', map[4 * CHUNK]);
	ASSERT_EQ(1, dvsm_snapshot_advance(self->region, snapshot, 0, 0, ranges, ROOM, &next));
	EXPECT_EQ(3 * CHUNK, ranges[0].offset);
	EXPECT_EQ(2 * CHUNK, ranges[0].length);
	EXPECT_EQ(0, memcmp(map, self->map, LENGTH));

	/* Of a part alone what was written there. */
	self->map[0] = self->map[5 * CHUNK] = 'q';
	ASSERT_EQ(1, dvsm_snapshot_advance(self->region, snapshot, 0, CHUNK, ranges, ROOM, &next));
	EXPECT_EQ(CHUNK, next);
	EXPECT_EQ(0, ranges[0].offset);
	EXPECT_EQ('q', map[0]);
	EXPECT_NE('q', map[5 * CHUNK]);
	ASSERT_EQ(1, dvsm_snapshot_advance(self->region, snapshot, 0, 0, ranges, ROOM, &next));
	EXPECT_EQ(LENGTH, next);
	EXPECT_EQ(5 * CHUNK, ranges[0].offset);
	EXPECT_EQ(0, memcmp(map, self->map, LENGTH));

	self->map[0] = 'r';
	EXPECT_FAILS(EINVAL, dvsm_snapshot_advance(self->region, snapshot, 0, 0, ranges, ROOM - 1,
						   &next));
	EXPECT_FAILS(EINVAL, dvsm_snapshot_advance(snapshot, self->region, 0, 0, ranges, ROOM,
						   &next));
	EXPECT_EQ('q', map[0]);
	end(snapshot, map);
	free(ranges);
}

TEST_F(device, unshare_says_what_was_shared)
{
	struct dvsm_region *snapshot = dvsm_snapshot_take(self->region, NULL);
	struct dvsm_region_info info = { .size = sizeof(info) };
	uint64_t unshared = 7;

	ASSERT_NE(NULL, snapshot);
	ASSERT_EQ(0, dvsm_region_unshare(snapshot, CHUNK, 2 * CHUNK, &unshared));
	EXPECT_EQ(2 * CHUNK, unshared);
	ASSERT_EQ(0, dvsm_region_info(snapshot, &info));
	EXPECT_EQ(LENGTH - 2 * CHUNK, info.out_shared);
	ASSERT_EQ(0, dvsm_region_unshare(snapshot, 0, 0, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_unshare(snapshot, 1, CHUNK, &unshared));
	EXPECT_EQ(0, unshared);
	EXPECT_FAILS(EINVAL, dvsm_region_unshare(snapshot, CHUNK, LENGTH, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_unshare(snapshot, LENGTH, 0, NULL));
	dvsm_region_destroy(snapshot);
}

/* What a worker sees and leaves, in answers that tell where it went wrong. */
static int work_in_a_view(const struct dvsm_region *region, char *map, uint32_t flags)
{
	struct dvsm_region *view = dvsm_region_view(region, map);
	char **pointer = (char **)(map + 2 * CHUNK);
	char byte;

	if (!view)
		return 1;
	if (!is_filled(map, 0, CHUNK, 1))
		return 2;
	if (*pointer != map + 3 * CHUNK)
		return 3;
	(*pointer)[0] = 'v';
	if (smaps_huge(map, LENGTH) < 3 * CHUNK)
		return 4;
	if (pread(dvsm_region_fd(region), &byte, 1, 3 * CHUNK) != 1 || byte == 'v')
		return 5;	/* the region has seen the view's write */
	if (flags == UINT32_MAX)
		return 0;	/* thrown away by exit */
	return dvsm_snapshot_merge(region, view, flags, NULL, NULL, NULL) ? 6 : 0;
}

TEST_F(device, view_is_private_until_it_is_merged)
{
	*(char **)(self->map + 2 * CHUNK) = self->map + 3 * CHUNK;
	EXPECT_TRUE(IN_CHILD(!work_in_a_view(self->region, self->map, UINT32_MAX)));
	EXPECT_NE('v', self->map[3 * CHUNK]);
	EXPECT_TRUE(IN_CHILD(!work_in_a_view(self->region, self->map, 0)));
	EXPECT_EQ('v', self->map[3 * CHUNK]);
	EXPECT_TRUE(is_filled(self->map, 0, 2 * CHUNK, 1));
}

TEST_F(device, views_of_two_workers_conflict_only_where_both_wrote)
{
	int go[2][2], status;
	pid_t pids[2];
	char byte = 0;

	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, go[i]));
		pids[i] = fork();
		if (!pids[i]) {
			struct dvsm_region *view = dvsm_region_view(self->region, self->map);
			struct dvsm_range conflict = {};
			uint32_t nr = 1;
			int answer;

			self->map[i * CHUNK] = 'v';
			self->map[4 * CHUNK] = 'v';
			if (!view || write(go[i][1], "r", 1) != 1 || read(go[i][1], &byte, 1) != 1)
				_exit(9);
			answer = dvsm_snapshot_merge(self->region, view, 0, &conflict, &nr, NULL);
			if (!answer)
				_exit(0);
			_exit(answer == -EAGAIN && nr == 1 && conflict.offset == 4 * CHUNK &&
			      conflict.length == CHUNK ? 1 : 9);
		}
	}
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(1, read(go[i][0], &byte, 1));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(1, write(go[i][0], "g", 1));
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_EQ(i, WEXITSTATUS(status));
		close(go[i][0]);
		close(go[i][1]);
	}
	EXPECT_EQ('v', self->map[0]);
	EXPECT_NE('v', self->map[CHUNK]);
}

TEST_F(device, view_is_replaced_by_a_fresh_one_and_ended_by_remap)
{
	struct dvsm_region *view = dvsm_region_view(self->region, self->map);
	uint64_t old = *(uint64_t *)(self->map + CHUNK);
	char *other = map_all(self->region);

	ASSERT_NE(NULL, view);
	ASSERT_NE(NULL, other);
	self->map[0] = 'v';
	other[CHUNK] = 'p';
	EXPECT_EQ(old, *(uint64_t *)(self->map + CHUNK));
	dvsm_region_destroy(view);
	EXPECT_EQ('v', self->map[0]);
	view = dvsm_region_view(self->region, self->map);
	ASSERT_NE(NULL, view);
	EXPECT_NE('v', self->map[0]);
	EXPECT_EQ('p', self->map[CHUNK]);
	self->map[0] = 'v';
	ASSERT_EQ(0, dvsm_region_remap(self->region, self->map, LENGTH));
	dvsm_region_destroy(view);
	self->map[CHUNK] = 'q';
	EXPECT_EQ('q', other[CHUNK]);
	EXPECT_NE('v', other[0]);
	dvsm_region_unmap(other, LENGTH);
}

TEST_F(device, view_of_a_part_keeps_offset_and_protection)
{
	char *part = dvsm_region_map(self->region, CHUNK, 4 * CHUNK, RW, NULL);
	struct dvsm_region *view;

	ASSERT_NE(NULL, part);
	ASSERT_EQ(0, mprotect(part + 2 * CHUNK, CHUNK, PROT_READ));
	view = dvsm_region_view(self->region, part + CHUNK + PAGE);
	ASSERT_NE(NULL, view);
	fill(self->map, LENGTH, 5);
	EXPECT_EQ(*(uint64_t *)(self->map + CHUNK), *(uint64_t *)part);
	EXPECT_TRUE(is_filled(part - CHUNK, 2 * CHUNK + PAGE, 3 * CHUNK - PAGE, 1));
	part[CHUNK + PAGE] = 'v';
	part[3 * CHUNK] = 'v';
	EXPECT_FALSE(IN_CHILD(part[2 * CHUNK] = 1));
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 5));
	dvsm_region_unmap(part, 4 * CHUNK);
	dvsm_region_destroy(view);
}

TEST_F(device, view_of_a_part_is_restored_and_merged_there)
{
	char *part = dvsm_region_map(self->region, CHUNK, 2 * CHUNK, RW, NULL);
	uint64_t restored = 0, merged = 0;
	struct dvsm_region *view;

	ASSERT_NE(NULL, part);
	view = dvsm_region_view(self->region, part);
	ASSERT_NE(NULL, view);
	fill(self->map, LENGTH, 5);
	ASSERT_EQ(0, dvsm_snapshot_restore(self->region, view, &restored));
	EXPECT_EQ(2 * CHUNK, restored);
	EXPECT_TRUE(is_filled(self->map, 0, CHUNK, 5));
	EXPECT_TRUE(is_filled(self->map, CHUNK, 2 * CHUNK, 1));
	EXPECT_TRUE(is_filled(self->map, 3 * CHUNK, LENGTH - 3 * CHUNK, 5));
	fill(part, CHUNK, 6);
	ASSERT_EQ(0, dvsm_snapshot_merge(self->region, view, 0, NULL, NULL, &merged));
	EXPECT_EQ(CHUNK, merged);
	EXPECT_TRUE(is_filled(self->map, 0, CHUNK, 5));
	EXPECT_TRUE(is_filled(self->map + CHUNK, 0, CHUNK, 6));
	EXPECT_TRUE(is_filled(self->map, 3 * CHUNK, LENGTH - 3 * CHUNK, 5));
	dvsm_region_unmap(part, 2 * CHUNK);
	dvsm_region_destroy(view);
}

TEST_F(device, view_only_of_a_shared_mapping_of_a_region)
{
	struct dvsm_region *snapshot, *short_one = create_on(DVSM_BACKEND_DEVICE, CHUNK, 0);
	char *anonymous = mmap(NULL, CHUNK, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct dvsm_region_map_options private = { sizeof(private), .flags = DVSM_MAP_F_PRIVATE };
	char *map;

	ASSERT_NE(NULL, short_one);
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_view(self->region, anonymous));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_view(self->region, self->map + 1));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_view(self->region, NULL));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_view(short_one, self->map + CHUNK));
	map = dvsm_region_map(self->region, 0, 0, RW, &private);
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_view(self->region, map));
	dvsm_region_unmap(map, LENGTH);
	snapshot = dvsm_snapshot_take(self->region, TAKE(.flags = DVSM_SNAPSHOT_F_READ_ONLY));
	EXPECT_FAILS_NULL(EBADF, dvsm_region_view(snapshot, self->map));
	EXPECT_FAILS(EACCES, dvsm_region_remap(snapshot, self->map, LENGTH));
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 1));
	self->map[0] = 'w';
	munmap(anonymous, CHUNK);
	dvsm_region_destroy(snapshot);
	dvsm_region_destroy(short_one);
}

TEST_F(device, remap_brings_2_MiB_mappings_back)
{
	ASSERT_EQ(0, mprotect(self->map + CHUNK, PAGE, PROT_READ));
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 1));
	ASSERT_EQ(0, mprotect(self->map + CHUNK, PAGE, RW));
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 1));
	EXPECT_GT(LENGTH, smaps_huge(self->map, LENGTH));
	ASSERT_EQ(0, dvsm_region_remap(self->region, self->map, 0));
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 1));
	EXPECT_EQ(LENGTH, smaps_huge(self->map, LENGTH));
}

/* What writes beside a snapshot in parts cost in 2 MiB mappings comes back when it is gone. */
TEST_F(device, remap_after_a_snapshot_in_parts_brings_2_MiB_mappings_back)
{
	struct dvsm_region *snapshot = dvsm_snapshot_take(self->region, TAKE(.granularity = PAGE));

	ASSERT_NE(NULL, snapshot);
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 1));
	EXPECT_EQ(LENGTH, smaps_sum(self->map, LENGTH, "FilePmdMapped"));
	for (uint64_t at = 0; at < LENGTH; at += CHUNK)
		fill(self->map + at + 3 * PAGE, PAGE, 9);
	EXPECT_EQ(0, smaps_sum(self->map, LENGTH, "FilePmdMapped"));
	dvsm_region_destroy(snapshot);
	ASSERT_EQ(0, dvsm_region_remap(self->region, self->map, 0));
	for (uint64_t at = 0; at < LENGTH; at += CHUNK) {
		EXPECT_TRUE(is_filled(self->map + at + 3 * PAGE, 0, PAGE, 9));
		EXPECT_TRUE(is_filled(self->map, at, 3 * PAGE, 1));
		EXPECT_TRUE(is_filled(self->map, at + 4 * PAGE, CHUNK - 4 * PAGE, 1));
	}
	EXPECT_EQ(LENGTH, smaps_sum(self->map, LENGTH, "FilePmdMapped"));
}

TEST_F(device, implicit_region_can_be_viewed_and_mapped_anew)
{
	int fd = open(DVSM_DEVICE_PATH, O_RDWR | O_CLOEXEC);
	char *map = mmap(NULL, 2 * CHUNK, RW, MAP_SHARED, fd, 0);
	struct dvsm_region *region, *view;

	ASSERT_NE(MAP_FAILED, map);
	map[0] = 'p';
	region = dvsm_region_open(fd, NULL);
	ASSERT_NE(NULL, region);
	view = dvsm_region_view(region, map);
	ASSERT_NE(NULL, view);
	map[0] = 'v';
	EXPECT_FAILS(EOPNOTSUPP, dvsm_snapshot_merge(region, view, 0, NULL, NULL, NULL));
	EXPECT_EQ('v', map[0]);
	ASSERT_EQ(0, dvsm_region_remap(region, map, 2 * CHUNK));
	EXPECT_EQ('p', map[0]);
	munmap(map, 2 * CHUNK);
	dvsm_region_destroy(view);
	dvsm_region_destroy(region);
}

FIXTURE(memfd)
{
	struct dvsm_region *region;
	char *map;
};

FIXTURE_VARIANT(memfd)
{
	uint32_t backend;
};

FIXTURE_VARIANT_ADD(memfd, memfd_hugetlb) { .backend = DVSM_BACKEND_MEMFD_HUGETLB };
FIXTURE_VARIANT_ADD(memfd, memfd_thp) { .backend = DVSM_BACKEND_MEMFD_THP };
FIXTURE_VARIANT_ADD(memfd, memfd_4k) { .backend = DVSM_BACKEND_MEMFD_4K };

FIXTURE_SETUP(memfd)
{
	self->region = create_on(variant->backend, LENGTH, 0);
	if (!self->region && variant->backend == DVSM_BACKEND_MEMFD_HUGETLB)
		SKIP(return, "needs %lu free huge pages: /proc/sys/vm/nr_hugepages",
		     LENGTH / CHUNK);
	ASSERT_NE(NULL, self->region);
	self->map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, self->map);
	fill(self->map, LENGTH, 1);
}

FIXTURE_TEARDOWN(memfd)
{
	if (self->map)
		dvsm_region_unmap(self->map, LENGTH);
	dvsm_region_destroy(self->region);
}

TEST_F(memfd, has_no_snapshots_and_says_so)
{
	const struct dvsm_region *region = self->region;
	struct dvsm_info info = { .size = sizeof(info) };
	struct dvsm_range ranges[2];
	uint64_t bytes = 7;
	uint32_t nr = 2;

	EXPECT_EQ(0, dvsm_region_features(region) & DVSM_FEATURE_SNAPSHOT);
	ASSERT_EQ((int)variant->backend, dvsm_info(variant->backend, &info));
	EXPECT_EQ(0, info.out_features & DVSM_FEATURE_SNAPSHOT);
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_snapshot_take(region, NULL));
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_snapshot_take(region, TAKE(.label = "s")));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_snapshot_restore(region, region, &bytes));
	EXPECT_EQ(0, bytes);
	EXPECT_FAILS(EOPNOTSUPP, dvsm_snapshot_merge(region, region, 0, ranges, &nr, NULL));
	EXPECT_EQ(0, nr);
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_diff(region, region, 0, 0, ranges, 2, NULL));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_diff_each(region, region, 0, 0, note, ranges));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_unshare(region, 0, 0, NULL));
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_region_view(region, self->map));
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 1));
}

TEST_F(memfd, is_mapped_anew_like_any_region)
{
	struct dvsm_region *stranger;

	ASSERT_EQ(0, mprotect(self->map + CHUNK, CHUNK, PROT_READ));
	ASSERT_EQ(0, dvsm_region_remap(self->region, self->map, 0));
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 1));
	ASSERT_EQ(0, dvsm_region_remap(self->region, self->map + 2 * CHUNK, CHUNK));
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 1));
	EXPECT_FAILS(EINVAL, dvsm_region_remap(self->region, self->map + 1, CHUNK));
	EXPECT_FAILS(EINVAL, dvsm_region_remap(self->region, self->map, CHUNK + 1));
	EXPECT_FAILS(EINVAL, dvsm_region_remap(self->region, self->map, LENGTH + CHUNK));
	EXPECT_FAILS(EINVAL, dvsm_region_remap(self->region, self->map, -PAGE));
	stranger = create_on(DVSM_BACKEND_MEMFD_4K, LENGTH, 0);
	EXPECT_FAILS(EINVAL, dvsm_region_remap(stranger, self->map, LENGTH));
	dvsm_region_destroy(stranger);
	EXPECT_TRUE(is_filled(self->map, 0, LENGTH, 1));
}

TEST_HARNESS_MAIN
