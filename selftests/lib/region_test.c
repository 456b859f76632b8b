// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions through the library, the same tests on every backend.
 *
 * A backend that this machine does not have is skipped, unless DVSM_BACKEND
 * names it: then the other ones are skipped and its absence is a failure.
 */
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include "kselftest_harness.h"
#include "lib_test.h"

FIXTURE(region)
{
	struct dvsm_region *region;
	uint64_t length;
	int nr_descriptors;
	char *map;
};

FIXTURE_VARIANT(region)
{
	uint32_t backend;
};

FIXTURE_VARIANT_ADD(region, device) { .backend = DVSM_BACKEND_DEVICE };
FIXTURE_VARIANT_ADD(region, memfd_hugetlb) { .backend = DVSM_BACKEND_MEMFD_HUGETLB };
FIXTURE_VARIANT_ADD(region, memfd_thp) { .backend = DVSM_BACKEND_MEMFD_THP };
FIXTURE_VARIANT_ADD(region, memfd_4k) { .backend = DVSM_BACKEND_MEMFD_4K };

FIXTURE_SETUP(region)
{
	struct dvsm_region_options options = { .size = sizeof(options), .label = "test" };
	const char *only = getenv("DVSM_BACKEND");

	options.backend = variant->backend;
	self->nr_descriptors = nr_descriptors();
	self->length = 8 * CHUNK;
	if (only && !strcmp(only, "memfd") && variant->backend == DVSM_BACKEND_DEVICE)
		SKIP(return, "DVSM_BACKEND=%s", only);
	if (only && strcmp(only, "memfd") && strcmp(only, dvsm_backend_name(variant->backend)))
		SKIP(return, "DVSM_BACKEND=%s", only);
	self->region = dvsm_region_create(self->length, &options);
	if (!self->region && !only && variant->backend == DVSM_BACKEND_DEVICE)
		SKIP(return, DVSM_DEVICE_PATH ": %s", strerror(errno));
	if (!self->region && !only && variant->backend == DVSM_BACKEND_MEMFD_HUGETLB)
		SKIP(return, "needs %lu free huge pages: /proc/sys/vm/nr_hugepages",
		     self->length / CHUNK);
	ASSERT_NE(NULL, self->region);
	self->map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, self->map);
}

FIXTURE_TEARDOWN(region)
{
	if (self->map) {
		EXPECT_EQ(0, dvsm_region_unmap(self->map, self->length));
	}
	dvsm_region_destroy(self->region);
	EXPECT_EQ(self->nr_descriptors, nr_descriptors());
	EXPECT_EQ(0, nr_region_mappings());
}

static uint64_t resident(struct dvsm_region *region)
{
	struct dvsm_region_info info = { .size = sizeof(info) };

	return dvsm_region_info(region, &info) ? UINT64_MAX : info.out_resident;
}

static bool is_zero(const char *at, uint64_t length)
{
	while (length && !*at)
		at++, length--;
	return !length;
}

TEST_F(region, tells_what_it_is)
{
	struct dvsm_region_info info = { .size = sizeof(info) };

	EXPECT_EQ(self->length, dvsm_region_length(self->region));
	EXPECT_EQ(variant->backend, dvsm_region_backend(self->region));
	EXPECT_EQ(variant->backend == DVSM_BACKEND_MEMFD_4K ? PAGE : CHUNK,
		  dvsm_region_page_size(self->region));
	EXPECT_NE(0, dvsm_region_features(self->region) & DVSM_FEATURE_REGION);
	EXPECT_EQ(FD_CLOEXEC, fcntl(dvsm_region_fd(self->region), F_GETFD));
	memset(&info, 0x5a, sizeof(info));
	info.size = sizeof(info);
	info.flags = 0;
	EXPECT_EQ(0, dvsm_region_info(self->region, &info));
	EXPECT_EQ(self->length, info.out_length);
	EXPECT_EQ(DVSM_POLICY_INHERIT, info.out_policy);
	EXPECT_EQ(0, info.out_resident);
	EXPECT_EQ(0, info.out_resident_huge);
	EXPECT_NE(0, info.out_id);
}

TEST_F(region, info_serves_older_and_newer_callers)
{
	const uint32_t first = offsetof(struct dvsm_region_info, out_parent_id);
	struct {
		struct dvsm_region_info info;
		uint64_t more;
	} longer = { .info = { .size = sizeof(longer) }, .more = 1 };
	struct dvsm_region_info info;

	memset(&info, 0x5a, sizeof(info));
	info.size = first;
	info.flags = 0;
	EXPECT_EQ(0, dvsm_region_info(self->region, &info));
	EXPECT_EQ(first, info.size);
	EXPECT_EQ(self->length, info.out_length);
	EXPECT_EQ(0, info.out_nr_moved);
	EXPECT_EQ(0x5a5a5a5a5a5a5a5aULL, info.out_parent_id);
	info.size = first - 1;
	EXPECT_FAILS(EINVAL, dvsm_region_info(self->region, &info));
	info.size = first;
	info.flags = 1;
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_info(self->region, &info));
	EXPECT_FAILS(E2BIG, dvsm_region_info(self->region, &longer.info));
	longer.more = 0;
	EXPECT_EQ(0, dvsm_region_info(self->region, &longer.info));
	EXPECT_EQ(self->length, longer.info.out_length);
}

TEST_F(region, new_memory_reads_as_zeroes_and_takes_no_memory_before_it_is_touched)
{
	EXPECT_EQ(0, resident(self->region));
	EXPECT_TRUE(is_zero(self->map + CHUNK - PAGE, CHUNK + PAGE));
	EXPECT_TRUE(is_zero(self->map + self->length - PAGE, PAGE));
}

TEST_F(region, a_child_and_its_parent_share_contents_both_ways)
{
	self->map[0] = 'p';
	EXPECT_TRUE(IN_CHILD(self->map[0] == 'p' && (self->map[CHUNK] = 'c')));
	EXPECT_EQ('c', self->map[CHUNK]);
}

TEST_F(region, a_child_may_use_and_end_the_inherited_handle)
{
	char *map;
	pid_t pid;
	int status;

	pid = fork();
	if (!pid) {
		map = dvsm_region_map(self->region, CHUNK, CHUNK, RW, NULL);
		if (!map)
			_exit(1);
		memcpy(map, "child", 6);
		dvsm_region_destroy(self->region);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_STREQ("child", self->map + CHUNK);
	EXPECT_EQ(0, dvsm_region_populate(self->region, 0, CHUNK, 0, NULL));
}

TEST_F(region, mappings_outlive_the_handle)
{
	self->map[5] = 5;
	dvsm_region_destroy(self->region);
	self->region = NULL;
	EXPECT_EQ(5, self->map[5]);
	self->map[CHUNK] = 6;
	EXPECT_EQ(6, self->map[CHUNK]);
}

TEST_F(region, addresses_are_where_huge_pages_fit)
{
	uint64_t offset;
	char *map;

	EXPECT_EQ(0, (uintptr_t)self->map % CHUNK);
	for (offset = CHUNK; offset < 4 * CHUNK; offset += CHUNK) {
		map = dvsm_region_map(self->region, offset, CHUNK, RW, NULL);
		ASSERT_NE(NULL, map);
		EXPECT_EQ(0, (uintptr_t)map % CHUNK);
		map[0] = (char)(offset / CHUNK);
		EXPECT_EQ(offset / CHUNK, self->map[offset]);
		EXPECT_EQ(0, dvsm_region_unmap(map, CHUNK));
	}
	if (variant->backend == DVSM_BACKEND_MEMFD_HUGETLB) {
		EXPECT_FAILS_NULL(EINVAL,
				  dvsm_region_map(self->region, 5 * PAGE, CHUNK, RW, NULL));
		return;
	}
	map = dvsm_region_map(self->region, 5 * PAGE, CHUNK, RW, NULL);
	ASSERT_NE(NULL, map);
	EXPECT_EQ(5 * PAGE, (uintptr_t)map % CHUNK);
	map[0] = 'o';
	EXPECT_EQ('o', self->map[5 * PAGE]);
	EXPECT_EQ(0, dvsm_region_unmap(map, CHUNK));
}

TEST_F(region, mapping_and_unmapping_leaves_nothing_behind)
{
	int before = nr_mappings(), i;
	char *maps[4];

	for (i = 0; i < 4; i++) {
		maps[i] = dvsm_region_map(self->region, 0, 0, RW, NULL);
		ASSERT_NE(NULL, maps[i]);
	}
	/* One line each, or none where neighbours are one: no reserve stays. */
	EXPECT_GE(before + 4, nr_mappings());
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(0, dvsm_region_unmap(maps[i], self->length));
	}
	EXPECT_EQ(before, nr_mappings());
}

#define NR_MAPPERS	64
#define NR_MEETINGS	50

struct mappers {
	const struct dvsm_region *region;
	pthread_barrier_t together;
};

/* NULL, or what is no mapping. */
static void *map_and_unmap(void *argument)
{
	struct mappers *mappers = argument;
	void *map, *failure = NULL;
	int i;

	for (i = 0; i < NR_MEETINGS; i++) {
		pthread_barrier_wait(&mappers->together);
		map = dvsm_region_map(mappers->region, 0, CHUNK, RW, NULL);
		if (!map || dvsm_region_unmap(map, CHUNK))
			failure = mappers;
	}
	return failure;
}

/* They find the same places free, again and again. */
TEST_F(region, threads_that_map_at_once_all_find_a_place)
{
	struct mappers mappers = { .region = self->region };
	pthread_t threads[NR_MAPPERS];
	void *failure;
	int i;

	pthread_barrier_init(&mappers.together, NULL, NR_MAPPERS);
	for (i = 0; i < NR_MAPPERS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, map_and_unmap, &mappers));
	for (i = 0; i < NR_MAPPERS; i++) {
		ASSERT_EQ(0, pthread_join(threads[i], &failure));
		EXPECT_EQ(NULL, failure);
	}
	pthread_barrier_destroy(&mappers.together);
}

#define NR_GUARDS	8

/* Pages without rights: new mappings come to lie right below the last one. */
static char *guard_make(void)
{
	return mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

TEST_F(region, mapping_a_part_takes_nobody_s_place)
{
	char *guards[NR_GUARDS], *maps[NR_GUARDS];
	int i;

	for (i = 0; i < NR_GUARDS; i++) {
		guards[i] = guard_make();
		ASSERT_NE(MAP_FAILED, guards[i]);
		maps[i] = dvsm_region_map(self->region, i % 2 * CHUNK, PAGE, RW, NULL);
		ASSERT_NE(NULL, maps[i]);
		maps[i][0] = 'a' + i;
	}
	EXPECT_EQ('a' + NR_GUARDS - 2, self->map[0]);
	EXPECT_EQ('a' + NR_GUARDS - 1, self->map[CHUNK]);
	for (i = 0; i < NR_GUARDS; i++) {
		EXPECT_EQ(3 * PAGE, mapped_as(guards[i], 3 * PAGE, "---p"));
		EXPECT_EQ(0, dvsm_region_unmap(maps[i], PAGE));
	}
	EXPECT_EQ(self->length, mapped_as(self->map, self->length, "rw-s"));
	for (i = 0; i < NR_GUARDS; i++) {
		EXPECT_EQ(3 * PAGE, mapped_as(guards[i], 3 * PAGE, "---p"));
		EXPECT_EQ(0, mapped_as(maps[i], PAGE, "rw-s"));
		munmap(guards[i], 3 * PAGE);
	}
	EXPECT_EQ(1, nr_region_mappings());
}

TEST_F(region, populating_a_part_takes_nobody_s_place)
{
	char *guards[NR_GUARDS];
	uint64_t populated, at;
	int i;

	for (i = 0; i < NR_GUARDS; i++) {
		guards[i] = guard_make();
		ASSERT_NE(MAP_FAILED, guards[i]);
		/* A chunk's first page, then its last and the next one's first. */
		at = i % 2 ? i * CHUNK - PAGE : i * CHUNK;
		ASSERT_EQ(0, dvsm_region_populate(self->region, at, i % 2 ? 2 * PAGE : PAGE, 0,
						  &populated));
		if (variant->backend == DVSM_BACKEND_MEMFD_HUGETLB) {
			EXPECT_EQ(CHUNK, populated);
		}
	}
	for (i = 0; i < NR_GUARDS; i++) {
		EXPECT_EQ(3 * PAGE, mapped_as(guards[i], 3 * PAGE, "---p"));
		munmap(guards[i], 3 * PAGE);
	}
	EXPECT_EQ(1, nr_region_mappings());
}

TEST_F(region, replacing_takes_as_much_as_was_asked_for_or_nothing)
{
	struct dvsm_region_map_options options = {
		.size = sizeof(options),
		.flags = DVSM_MAP_F_REPLACE,
	};
	char *reserve, *at;

	reserve = mmap(NULL, 3 * CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, reserve);
	at = options.address = (char *)(((uintptr_t)reserve + CHUNK - 1) & -CHUNK);
	if (variant->backend == DVSM_BACKEND_MEMFD_HUGETLB) {
		EXPECT_FAILS_NULL(EINVAL, dvsm_region_map(self->region, 0, PAGE, RW, &options));
		EXPECT_EQ(3 * CHUNK, mapped_as(reserve, 3 * CHUNK, "---p"));
	} else {
		EXPECT_EQ(at, dvsm_region_map(self->region, 0, PAGE, RW, &options));
		EXPECT_EQ(3 * CHUNK - PAGE, mapped_as(reserve, 3 * CHUNK, "---p"));
	}
	EXPECT_EQ(at, dvsm_region_map(self->region, 0, CHUNK, RW, &options));
	EXPECT_EQ(2 * CHUNK, mapped_as(reserve, 3 * CHUNK, "---p"));
	/* FIXED does not take the rest of the page either. */
	EXPECT_EQ(0, dvsm_region_unmap(at, CHUNK));
	EXPECT_EQ(at + CHUNK - PAGE, mmap(at + CHUNK - PAGE, PAGE, PROT_NONE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	options.flags = DVSM_MAP_F_FIXED;
	if (variant->backend == DVSM_BACKEND_MEMFD_HUGETLB) {
		EXPECT_FAILS_NULL(EEXIST, dvsm_region_map(self->region, 0, PAGE, RW, &options));
	} else {
		EXPECT_EQ(at, dvsm_region_map(self->region, 0, PAGE, RW, &options));
	}
	EXPECT_EQ(PAGE, mapped_as(at + CHUNK - PAGE, PAGE, "---p"));
	munmap(reserve, 3 * CHUNK);
}

TEST_F(region, a_fixed_mapping_is_where_it_was_asked_for_or_nowhere)
{
	struct dvsm_region_map_options options = {
		.size = sizeof(options),
		.flags = DVSM_MAP_F_FIXED,
	};
	char *map;

	/* An address that is free: it was ours a moment ago. */
	options.address = self->map;
	EXPECT_EQ(0, dvsm_region_unmap(self->map, self->length));
	EXPECT_EQ(self->map, dvsm_region_map(self->region, 0, self->length, RW, &options));
	self->map[0] = 1;
	EXPECT_FAILS_NULL(EEXIST, dvsm_region_map(self->region, CHUNK, CHUNK, RW, &options));
	EXPECT_EQ(1, self->map[0]);

	options.flags = DVSM_MAP_F_REPLACE;
	self->map[CHUNK] = 2;
	map = dvsm_region_map(self->region, CHUNK, CHUNK, RW, &options);
	EXPECT_EQ(self->map, map);
	EXPECT_EQ(2, self->map[0]);
}

TEST_F(region, a_private_mapping_keeps_its_writes)
{
	struct dvsm_region_map_options options = {
		.size = sizeof(options),
		.flags = DVSM_MAP_F_PRIVATE,
	};
	char *map;

	self->map[0] = 1;
	map = dvsm_region_map(self->region, 0, CHUNK, RW, &options);
	if (!map && variant->backend == DVSM_BACKEND_MEMFD_HUGETLB)
		SKIP(return, "needs a free huge page for the copy");
	ASSERT_NE(NULL, map);
	EXPECT_EQ(1, map[0]);
	map[0] = 2;
	EXPECT_EQ(1, self->map[0]);
	EXPECT_EQ(0, dvsm_region_unmap(map, CHUNK));
}

TEST_F(region, map_refuses_what_is_not_in_the_region_or_not_aligned)
{
	struct dvsm_region_map_options options = { .size = sizeof(options) };
	struct {
		struct dvsm_region_map_options options;
		uint64_t more;
	} longer = { .options = { .size = sizeof(longer) } };
	char *map;

	EXPECT_FAILS_NULL(EINVAL, dvsm_region_map(self->region, 1, CHUNK, RW, NULL));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_map(self->region, self->length, 0, RW, NULL));
	EXPECT_FAILS_NULL(EINVAL,
			  dvsm_region_map(self->region, CHUNK, self->length, RW, NULL));
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_map(self->region, 0, UINT64_MAX, RW, NULL));
	options.flags = 1U << 31;
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_region_map(self->region, 0, 0, RW, &options));
	options.flags = DVSM_MAP_F_FIXED | DVSM_MAP_F_REPLACE;
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_map(self->region, 0, 0, RW, &options));
	options.flags = DVSM_MAP_F_FIXED;
	options.address = (void *)1;
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_map(self->region, 0, 0, RW, &options));
	options.flags = 0;
	options.address = self->map;
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_map(self->region, 0, 0, RW, &options));
	options.address = NULL;
	options.reserved = 1;
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_map(self->region, 0, 0, RW, &options));
	options.reserved = 0;
	options.size--;
	EXPECT_FAILS_NULL(EINVAL, dvsm_region_map(self->region, 0, 0, RW, &options));
	longer.more = 1;
	EXPECT_FAILS_NULL(E2BIG, dvsm_region_map(self->region, 0, 0, RW, &longer.options));
	longer.more = 0;
	map = dvsm_region_map(self->region, 0, 0, RW, &longer.options);
	EXPECT_NE(NULL, map);
	EXPECT_EQ(0, dvsm_region_unmap(map, self->length));
	EXPECT_FAILS(EINVAL, dvsm_region_unmap(self->map + 1, PAGE));
	EXPECT_FAILS(EINVAL, dvsm_region_unmap(self->map, 0));
}

TEST_F(region, populate_allocates_once_and_later_touches_nothing_more)
{
	uint64_t populated = 0x5a;

	EXPECT_EQ(0, dvsm_region_populate(self->region, CHUNK, 2 * CHUNK, 0, &populated));
	EXPECT_EQ(2 * CHUNK, populated);
	EXPECT_EQ(2 * CHUNK, resident(self->region));
	EXPECT_EQ(0, dvsm_region_populate(self->region, CHUNK, 2 * CHUNK, 0, &populated));
	EXPECT_EQ(0, populated);
	memset(self->map + CHUNK, 1, 2 * CHUNK);
	EXPECT_EQ(2 * CHUNK, resident(self->region));
	EXPECT_EQ(0, dvsm_region_populate(self->region, 0, 4 * CHUNK, 0, &populated));
	EXPECT_EQ(2 * CHUNK, populated);
	EXPECT_EQ(1, self->map[2 * CHUNK - 1]);
}

TEST_F(region, ranges_are_checked_before_anything_is_done)
{
	uint64_t done = 0x5a;

	EXPECT_FAILS(EINVAL, dvsm_region_populate(self->region, 1, PAGE, 0, &done));
	EXPECT_EQ(0, done);
	EXPECT_FAILS(EINVAL, dvsm_region_populate(self->region, 0, 1, 0, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_populate(self->region, self->length, 0, 0, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_populate(self->region, PAGE, self->length, 0, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_populate(self->region, PAGE, -PAGE, 0, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_discard(self->region, 1, PAGE, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_discard(self->region, 0, 1, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_discard(self->region, self->length, 0, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_discard(self->region, PAGE, self->length, NULL));
	EXPECT_EQ(0, resident(self->region));
}

TEST_F(region, discard_frees_memory_and_all_processes_read_zeroes)
{
	uint64_t discarded;
	int status, ready[2], go[2];
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	memset(self->map, 1, 4 * CHUNK);
	pid = fork();
	if (!pid) {
		bool was = self->map[2 * CHUNK] == 1;

		if (write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) != 1)
			_exit(2);
		_exit(!(was && is_zero(self->map + CHUNK, 2 * CHUNK) &&
			self->map[0] == 1 && self->map[3 * CHUNK] == 1));
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	EXPECT_EQ(0, dvsm_region_discard(self->region, CHUNK, 2 * CHUNK, &discarded));
	EXPECT_EQ(2 * CHUNK, discarded);
	EXPECT_EQ(2 * CHUNK, resident(self->region));
	ASSERT_EQ(1, write(go[1], "g", 1));
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, dvsm_region_discard(self->region, 0, 0, NULL));
	EXPECT_EQ(0, resident(self->region));
	close(ready[0]), close(ready[1]), close(go[0]), close(go[1]);
}

TEST_F(region, discard_of_a_part_of_a_chunk_zeroes_that_part_alone)
{
	memset(self->map, 1, CHUNK);
	EXPECT_EQ(0, dvsm_region_discard(self->region, PAGE, 3 * PAGE, NULL));
	EXPECT_EQ(1, self->map[PAGE - 1]);
	EXPECT_TRUE(is_zero(self->map + PAGE, 3 * PAGE));
	EXPECT_EQ(1, self->map[4 * PAGE]);
	EXPECT_EQ(1, self->map[CHUNK - 1]);
}

TEST_F(region, discarded_memory_can_be_used_again)
{
	int round;

	for (round = 1; round < 4; round++) {
		memset(self->map, round, CHUNK + PAGE);
		EXPECT_EQ(0, dvsm_region_discard(self->region, 0, 0, NULL));
		EXPECT_TRUE(is_zero(self->map, CHUNK + PAGE));
	}
}

TEST_F(region, residency_lists_what_was_touched_and_nothing_else)
{
	struct dvsm_chunk chunks[8], single;
	uint64_t before, next = 0, offset;
	int nr, i;

	EXPECT_EQ(0, dvsm_region_residency(self->region, 0, 0, chunks, 8, &next));
	EXPECT_EQ(self->length, next);
	self->map[CHUNK] = 1;
	self->map[4 * CHUNK + 3 * PAGE] = 1;
	self->map[self->length - 1] = 1;
	before = resident(self->region);
	memset(chunks, 0x5a, sizeof(chunks));
	nr = dvsm_region_residency(self->region, 0, 0, chunks, 8, &next);
	ASSERT_EQ(3, nr);
	EXPECT_EQ(self->length, next);
	EXPECT_EQ(CHUNK, chunks[0].offset);
	EXPECT_EQ(4 * CHUNK, chunks[1].offset);
	EXPECT_EQ(self->length - CHUNK, chunks[2].offset);
	EXPECT_EQ(before, chunks[0].resident + chunks[1].resident + chunks[2].resident);
	EXPECT_EQ(node_of(self->map + CHUNK), chunks[0].node);
	EXPECT_EQ(before, resident(self->region));

	/* One at a time gives the same. */
	for (i = 0, offset = 0; offset < self->length; i += nr, offset = next) {
		nr = dvsm_region_residency(self->region, offset, 0, &single, 1, &next);
		ASSERT_LE(0, nr);
		ASSERT_LT(offset, next);
		if (nr) {
			EXPECT_EQ(0, memcmp(&single, &chunks[i], sizeof(single)));
		}
	}
	EXPECT_EQ(3, i);

	/* A range is a range. */
	EXPECT_EQ(1, dvsm_region_residency(self->region, 2 * CHUNK, 3 * CHUNK, chunks, 8, &next));
	EXPECT_EQ(5 * CHUNK, next);
	EXPECT_EQ(4 * CHUNK, chunks[0].offset);
	EXPECT_FAILS(EINVAL, dvsm_region_residency(self->region, 0, 0, chunks, 0, &next));
	EXPECT_FAILS(EINVAL, dvsm_region_residency(self->region, self->length, 0, chunks, 8, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_residency(self->region, CHUNK, self->length, chunks, 8,
						   NULL));
}

/* Whether the kernel makes 2 MiB pages of a memfd when it is asked to, here and now. */
static bool can_collapse(void)
{
	int fd = memfd_create("probe", 0);
	char *map, *at;
	bool can;

	if (fd < 0 || ftruncate(fd, 5 * CHUNK))
		return false;
	map = mmap(NULL, 5 * CHUNK, RW, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return false;
	memset(map, 1, 5 * CHUNK);
	at = (char *)(((uintptr_t)map + CHUNK - 1) & -CHUNK);
	can = !madvise(map, 5 * CHUNK, MADV_HUGEPAGE) && !madvise(at, CHUNK, MADV_COLLAPSE);
	munmap(map, 5 * CHUNK);
	return can;
}

TEST_F(region, populate_makes_huge_pages_where_the_kernel_can)
{
	struct dvsm_region_info info = { .size = sizeof(info) };

	if (!can_collapse())
		SKIP(return, "needs MADV_COLLAPSE of shared memory");
	ASSERT_EQ(0, dvsm_region_populate(self->region, 0, 2 * CHUNK, 0, NULL));
	ASSERT_EQ(0, dvsm_region_info(self->region, &info));
	if (variant->backend == DVSM_BACKEND_MEMFD_4K) {
		EXPECT_EQ(0, info.out_resident_huge);
	} else {
		EXPECT_LT(0, info.out_resident_huge);
	}
}

TEST_F(region, residency_says_huge_exactly_where_smaps_does)
{
	struct dvsm_region_info info = { .size = sizeof(info) };
	struct dvsm_chunk chunks[8];
	uint64_t huge = 0;
	char *map;
	int nr, i;

	ASSERT_EQ(0, dvsm_region_populate(self->region, 0, 4 * CHUNK, 0, NULL));
	/* A new mapping: the first one may hold small entries from before a collapse. */
	map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, map);
	for (i = 0; i < 4; i++)
		map[i * CHUNK] = 1;
	nr = dvsm_region_residency(self->region, 0, 0, chunks, 8, NULL);
	ASSERT_EQ(4, nr);
	for (i = 0; i < nr; i++) {
		bool is_huge = chunks[i].flags & DVSM_CHUNK_F_HUGE;

		huge += is_huge ? chunks[i].resident : 0;
		EXPECT_EQ(CHUNK, chunks[i].resident);
		if (is_huge) {
			EXPECT_EQ(1, chunks[i].nr_folios);
			EXPECT_EQ(9, chunks[i].order_min);
			EXPECT_EQ(9, chunks[i].order_max);
		} else {
			EXPECT_LT(chunks[i].order_min, 9);
			EXPECT_LT(1, chunks[i].nr_folios);
		}
	}
	EXPECT_EQ(smaps_huge(map, self->length), huge);
	EXPECT_EQ(0, dvsm_region_info(self->region, &info));
	EXPECT_EQ(huge, info.out_resident_huge);
	if (variant->backend == DVSM_BACKEND_MEMFD_4K) {
		EXPECT_EQ(0, huge);
	} else if (variant->backend != DVSM_BACKEND_MEMFD_THP) {
		EXPECT_EQ(4 * CHUNK, huge);
	}
	EXPECT_EQ(0, dvsm_region_unmap(map, self->length));
}

TEST_F(region, nodes_add_up_to_what_is_resident)
{
	struct dvsm_node_stats nodes[64];
	uint64_t sum = 0;
	int nr, i;

	memset(nodes, 0x5a, sizeof(nodes));
	memset(self->map, 1, 3 * CHUNK);
	nr = dvsm_region_nodes(self->region, nodes, 64);
	ASSERT_LT(0, nr);
	for (i = 0; i < nr && i < 64; i++)
		sum += nodes[i].out_resident;
	EXPECT_EQ(3 * CHUNK, sum);
	EXPECT_EQ(nr, dvsm_region_nodes(self->region, NULL, 0));
}

/* As in a container: Docker's filter allows it only with CAP_SYS_NICE. */
TEST_F(region, nodes_alone_are_unknown_where_move_pages_is_forbidden)
{
	struct dvsm_region_info info = { .size = sizeof(info) };
	struct dvsm_node_stats nodes[64];
	struct dvsm_chunk chunks[8];
	int nr = dvsm_region_nodes(self->region, NULL, 0);

	memset(self->map, 1, 3 * CHUNK);
	ASSERT_TRUE(forbid(SYS_move_pages, EPERM));
	EXPECT_EQ(0, dvsm_region_info(self->region, &info));
	EXPECT_EQ(3 * CHUNK, info.out_resident);
	EXPECT_EQ(3, dvsm_region_residency(self->region, 0, 0, chunks, 8, NULL));
	EXPECT_EQ(CHUNK, chunks[2].resident);
	EXPECT_EQ(nr, dvsm_region_nodes(self->region, NULL, 0));
	if (variant->backend == DVSM_BACKEND_DEVICE) {
		EXPECT_EQ(nr, dvsm_region_nodes(self->region, nodes, 64));
		return;
	}
	EXPECT_EQ(DVSM_NODE_MIXED, chunks[0].node);
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_nodes(self->region, nodes, 64));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_migrate_to_node(self->region, 0, 0, 0, NULL));
}

struct worker {
	pthread_t thread;
	struct dvsm_region *region;
	char *map;
	int n;
	bool bad;
};

static void *worker_run(void *argument)
{
	struct worker *worker = argument;
	const uint64_t offset = (uint64_t)worker->n * CHUNK;
	struct dvsm_region *region = worker->region;
	struct dvsm_chunk chunks[8];
	char *last = worker->map + offset + CHUNK - 1;
	int round;

	/* Few and small: a debug kernel takes a millisecond for a fault. */
	for (round = 1; round <= 4; round++) {
		worker->bad |= dvsm_region_populate(region, offset, CHUNK, 1, NULL) != 0;
		memset(worker->map + offset, round, CHUNK);
		worker->bad |= dvsm_region_residency(region, offset, CHUNK, chunks, 8, NULL) != 1;
		worker->bad |= *last != round;
		worker->bad |= dvsm_region_discard(region, offset, CHUNK, NULL) != 0;
		worker->bad |= *last != 0;
	}
	return NULL;
}

TEST_F(region, threads_may_share_a_handle)
{
	struct worker workers[4];
	int i;

	for (i = 0; i < 4; i++) {
		workers[i] = (struct worker){ .region = self->region, .map = self->map, .n = i };
		ASSERT_EQ(0, pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]));
	}
	for (i = 0; i < 4; i++) {
		pthread_join(workers[i].thread, NULL);
		EXPECT_FALSE(workers[i].bad);
	}
}

/* Hands a descriptor over to a process that shares nothing else of the region. */
static int send_descriptor(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec byte = { .iov_base = "d", .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &byte,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	return sendmsg(socket, &message, 0) == 1 ? 0 : -errno;
}

static int receive_descriptor(int socket)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, text;
	struct iovec byte = { .iov_base = &text, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &byte,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&message))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return fd;
}

TEST_F(region, a_descriptor_that_was_sent_opens_the_same_region)
{
	struct dvsm_region *region;
	int sockets[2], status;
	pid_t pid;
	char *map;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	pid = fork();
	if (!pid) {
		/* Forget everything that was inherited. */
		munmap(self->map, self->length);
		dvsm_region_destroy(self->region);
		close(sockets[0]);
		region = dvsm_region_open(receive_descriptor(sockets[1]), NULL);
		if (!region || dvsm_region_length(region) != self->length)
			_exit(1);
		map = dvsm_region_map(region, 0, 0, RW, NULL);
		if (!map || strcmp(map, "sent"))
			_exit(2);
		strcpy(map, "back");
		_exit(0);
	}
	strcpy(self->map, "sent");
	ASSERT_EQ(0, send_descriptor(sockets[0], dvsm_region_fd(self->region)));
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_STREQ("back", self->map);
	close(sockets[0]), close(sockets[1]);
}

TEST_F(region, open_takes_the_descriptor_over_and_knows_the_backend)
{
	struct dvsm_region *region;
	int fd = dup(dvsm_region_fd(self->region));

	region = dvsm_region_open(fd, NULL);
	ASSERT_NE(NULL, region);
	EXPECT_EQ(fd, dvsm_region_fd(region));
	EXPECT_EQ(self->length, dvsm_region_length(region));
	/* What pages a memfd is to have is its user's wish: the file does not know. */
	EXPECT_EQ(variant->backend == DVSM_BACKEND_MEMFD_4K ? DVSM_BACKEND_MEMFD_THP :
							      variant->backend,
		  dvsm_region_backend(region));
	dvsm_region_destroy(region);
	EXPECT_EQ(-1, fcntl(fd, F_GETFD));
}

TEST_F(region, reopen_gives_an_independent_descriptor)
{
	struct dvsm_region *region = dvsm_region_reopen(self->region, 0);
	char *map;

	ASSERT_NE(NULL, region);
	EXPECT_NE(dvsm_region_fd(self->region), dvsm_region_fd(region));
	EXPECT_EQ(1, lseek(dvsm_region_fd(region), 1, SEEK_SET));
	EXPECT_EQ(0, lseek(dvsm_region_fd(self->region), 0, SEEK_CUR));
	map = dvsm_region_map(region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, map);
	map[0] = 7;
	EXPECT_EQ(7, self->map[0]);
	EXPECT_EQ(0, dvsm_region_unmap(map, self->length));
	dvsm_region_destroy(region);
	EXPECT_FAILS_NULL(EOPNOTSUPP, dvsm_region_reopen(self->region, 1U << 31));
}

TEST_F(region, a_read_only_descriptor_can_never_write_or_is_not_to_be_had)
{
	struct dvsm_region *region;
	uint64_t done;
	char *map;

	errno = 0;
	region = dvsm_region_reopen(self->region, DVSM_REOPEN_F_READ_ONLY);
	if (variant->backend != DVSM_BACKEND_DEVICE) {
		EXPECT_EQ(NULL, region);
		EXPECT_EQ(EOPNOTSUPP, errno);
		return;
	}
	ASSERT_NE(NULL, region);
	self->map[0] = 3;
	map = dvsm_region_map(region, 0, 0, PROT_READ, NULL);
	ASSERT_NE(NULL, map);
	EXPECT_EQ(3, map[0]);
	EXPECT_EQ(-1, mprotect(map, CHUNK, RW));
	EXPECT_EQ(EACCES, errno);
	EXPECT_FAILS_NULL(EACCES, dvsm_region_map(region, 0, 0, RW, NULL));
	EXPECT_FAILS(EBADF, dvsm_region_populate(region, 0, 0, 0, &done));
	EXPECT_FAILS(EBADF, dvsm_region_discard(region, 0, 0, &done));
	EXPECT_EQ(0, dvsm_region_unmap(map, self->length));
	dvsm_region_destroy(region);
}

TEST_F(region, nobody_can_change_the_length)
{
	EXPECT_EQ(-1, ftruncate(dvsm_region_fd(self->region), CHUNK));
	EXPECT_EQ(-1, ftruncate(dvsm_region_fd(self->region), 16 * CHUNK));
	self->map[self->length - 1] = 1;
}

static _Atomic bool done;

/* More than a pool has, so that a mapping fails on the way to a region of small pages. */
static void *regions_come_and_go(void *argument)
{
	struct dvsm_region_options options = { .size = sizeof(options), .backend = DVSM_BACKEND_MEMFD };
	_Atomic unsigned long *nr = argument;
	struct dvsm_region *region;

	for (*nr = 0; !done; ++*nr) {
		region = dvsm_region_create(16UL << 30, &options);
		if (!region) {
			*nr = ~0UL;
			return "no region";
		}
		dvsm_region_destroy(region);
	}
	return NULL;
}

/* What this thread maps stays, whatever mappings another one makes and fails to make. */
TEST(mappings_of_other_threads_stay)
{
	unsigned long nr_lost = 0;
	_Atomic unsigned long nr_regions = 0;
	unsigned char resident;
	pthread_t thread;
	void *failure;
	time_t end;
	char *map;
	int i;

	ASSERT_EQ(0, pthread_create(&thread, NULL, regions_come_and_go, &nr_regions));
	for (end = time(NULL) + 5; (time(NULL) < end || nr_regions < 100) && !nr_lost; ) {
		map = mmap(NULL, CHUNK, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, map);
		for (i = 0; i < 50; i++)
			nr_lost += mincore(map, 4096, &resident) && errno == ENOMEM;
		munmap(map, CHUNK);
	}
	done = true;
	pthread_join(thread, &failure);
	EXPECT_EQ(NULL, failure) TH_LOG("%s", (char *)failure);
	EXPECT_EQ(0, nr_lost);
}

FIXTURE(device)
{
	struct dvsm_info before;
};

FIXTURE_SETUP(device)
{
	self->before.size = sizeof(self->before);
	if (dvsm_info(DVSM_BACKEND_DEVICE, &self->before) < 0)
		SKIP(return, DVSM_DEVICE_PATH ": %s", strerror(errno));
}

FIXTURE_TEARDOWN(device) { }

TEST_F(device, gets_its_memory_back_after_the_last_user)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = DVSM_BACKEND_DEVICE,
	};
	struct dvsm_info before = self->before, after = { .size = sizeof(after) };
	struct dvsm_region *region;
	char *map;

	region = dvsm_region_create(4 * CHUNK, &options);
	ASSERT_NE(NULL, region);
	map = dvsm_region_map(region, 0, 0, RW, NULL);
	memset(map, 1, 4 * CHUNK);
	dvsm_region_destroy(region);
	EXPECT_EQ(DVSM_BACKEND_DEVICE, dvsm_info(DVSM_BACKEND_DEVICE, &after));
	EXPECT_EQ(before.out_charged + 4 * CHUNK, after.out_charged);
	EXPECT_EQ(before.out_nr_regions + 1, after.out_nr_regions);
	EXPECT_EQ(0, dvsm_region_unmap(map, 4 * CHUNK));
	EXPECT_EQ(DVSM_BACKEND_DEVICE, dvsm_info(DVSM_BACKEND_DEVICE, &after));
	EXPECT_EQ(before.out_charged, after.out_charged);
	EXPECT_EQ(before.out_nr_regions, after.out_nr_regions);
}

TEST_HARNESS_MAIN
