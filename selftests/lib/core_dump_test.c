// SPDX-License-Identifier: GPL-2.0-only
/*
 * Core dumps of processes that have regions and heaps: nothing of them is in one, and no hole gets memory that the
 * survivors would keep. Whether there is a dump at all is the machine's matter (core_pattern, limits); what the kernel
 * would leave out of one stands in smaps.
 */
#include <sys/resource.h>

#include "kselftest_harness.h"
#include "lib_test.h"

#define LENGTH	(1UL << 30)
/* So that a dump that should not be ends soon. */
#define DUMP_MAX	(64UL << 20)

FIXTURE(core_dump)
{
	struct dvsm_region *region;
	struct dvsm_heap *heap;
	char *map;
	char folder[32];
};

FIXTURE_VARIANT(core_dump)
{
	uint32_t backend;
	uint64_t length;
	bool marked;	/* by MADV_DONTDUMP; else the kernel leaves it out by itself */
};

FIXTURE_VARIANT_ADD(core_dump, device) { .backend = DVSM_BACKEND_DEVICE, .length = LENGTH };
FIXTURE_VARIANT_ADD(core_dump, memfd_hugetlb)
{
	.backend = DVSM_BACKEND_MEMFD_HUGETLB,
	.length = 4 * CHUNK,
};
FIXTURE_VARIANT_ADD(core_dump, memfd_thp)
{
	.backend = DVSM_BACKEND_MEMFD_THP,
	.length = LENGTH,
	.marked = true,
};
FIXTURE_VARIANT_ADD(core_dump, memfd_4k)
{
	.backend = DVSM_BACKEND_MEMFD_4K,
	.length = LENGTH,
	.marked = true,
};

FIXTURE_SETUP(core_dump)
{
	struct dvsm_region_options options = { .size = sizeof(options), .backend = variant->backend };

	self->region = dvsm_region_create(variant->length, &options);
	if (!self->region && variant->backend == DVSM_BACKEND_DEVICE)
		SKIP(return, DVSM_DEVICE_PATH ": %s", strerror(errno));
	if (!self->region && variant->backend == DVSM_BACKEND_MEMFD_HUGETLB)
		SKIP(return, "needs %lu free huge pages: /proc/sys/vm/nr_hugepages",
		     variant->length / CHUNK);
	ASSERT_NE(NULL, self->region);
	self->map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, self->map);
	strcpy(self->folder, "/tmp/core_dump_testXXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->folder));
}

FIXTURE_TEARDOWN(core_dump)
{
	dvsm_heap_destroy(self->heap);
	if (self->region) {
		dvsm_region_unmap(self->map, variant->length);
		dvsm_region_destroy(self->region);
		rmdir(self->folder);
	}
	EXPECT_EQ(0, nr_region_mappings());
}

static uint64_t resident(const struct dvsm_region *region)
{
	struct dvsm_region_info info = { .size = sizeof(info) };

	return dvsm_region_info(region, &info) ? UINT64_MAX : info.out_resident;
}

/* Whether smaps has a flag, two letters, for the mapping that begins at or before an address and ends behind it. */
static bool has_flag(const void *address, const char *flag)
{
	unsigned long from, to, at = (uintptr_t)address;
	FILE *smaps = fopen("/proc/self/smaps", "re");
	bool inside = false, has = false;
	char line[4096];

	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from <= at && at < to;
		else if (inside && !strncmp(line, "VmFlags:", 8))
			has = strstr(line + 8, flag);
	}
	if (smaps)
		fclose(smaps);
	return has;
}

/* Whether a dump is a file in the working folder; a machine of our own is made to have it there. */
static bool is_dumped_here(void)
{
	int fd = open("/proc/sys/kernel/core_pattern", (getenv("DVSM_VM") ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	char pattern[128] = "|";

	if (getenv("DVSM_VM") && pwrite(fd, "core", 4, 0) != 4)
		printf("# core_pattern stays as it is\n");
	if (fd < 0 || pread(fd, pattern, sizeof(pattern) - 1, 0) <= 0)
		pattern[0] = '|';
	close(fd);
	return pattern[0] != '|' && pattern[0] != '\n' && !strchr(pattern, '/');
}

static void die_with_core(const char *folder)
{
	struct rlimit limit = { DUMP_MAX, DUMP_MAX };
	int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);

	if (chdir(folder) || setrlimit(RLIMIT_CORE, &limit) || prctl(PR_SET_DUMPABLE, 1) ||
	    write(fd, "0x33", 4) != 4)	/* the kernel's default */
		_exit(1);
	abort();
}

/* What a page has that shall be found again: computed, so that it is nowhere else in the process. */
static char pattern(size_t at)
{
	return (char)((at * 167 + 31) % 251);
}

static void page_fill(char *page)
{
	size_t i;

	for (i = 0; i < PAGE; i++)
		page[i] = pattern(i);
}

static bool page_has(const char *page)
{
	size_t i;

	for (i = 0; i < PAGE && page[i] == pattern(i); i++)
		;
	return i == PAGE;
}

static bool file_has(int folder, const char *name)
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	const char *file = MAP_FAILED;
	struct stat stat = { 0 };
	bool has = false;
	off_t at;

	if (fd >= 0 && !fstat(fd, &stat))
		file = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (file == MAP_FAILED)
		return false;
	for (at = 0; at + (off_t)PAGE <= stat.st_size && !has; at += PAGE)
		has = page_has(file + at);
	munmap((void *)file, (size_t)stat.st_size);
	return has;
}

/* A child dumps core: whether a page that was filled is in there. -1: no dump can be had, or looked at, here. */
static int core_has(const char *folder)
{
	struct dirent *entry;
	int status, has = -1;
	pid_t pid;
	DIR *dir;

	if (!is_dumped_here())
		return -1;
	pid = fork();
	if (!pid)
		die_with_core(folder);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || !WCOREDUMP(status))
		return -1;
	dir = opendir(folder);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		has = file_has(dirfd(dir), entry->d_name);
		unlinkat(dirfd(dir), entry->d_name, 0);
	}
	if (dir)
		closedir(dir);
	return has;
}

static void say_if_none(int has)
{
	if (has < 0)
		printf("# no dump can be had here: the flag alone was looked at\n");
}

TEST_F(core_dump, has_nothing_of_a_region_and_gives_its_holes_no_memory)
{
	uint64_t before;
	int has;

	page_fill(self->map + CHUNK);
	before = resident(self->region);
	EXPECT_EQ(variant->marked, has_flag(self->map, "dd"));
	has = core_has(self->folder);
	say_if_none(has);
	EXPECT_NE(1, has);
	EXPECT_EQ(before, resident(self->region));
}

TEST_F(core_dump, has_nothing_of_a_heap_and_gives_its_holes_no_memory)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options),
		.backend = variant->backend,
		.reserve = LENGTH,
	};
	uint64_t before;
	char *page;
	int has;

	/* A heap there has no holes. */
	if (variant->backend == DVSM_BACKEND_MEMFD_HUGETLB)
		return;
	self->heap = dvsm_heap_create(&options);
	ASSERT_NE(NULL, self->heap);
	page = dvsm_heap_memalign(self->heap, PAGE, PAGE);
	ASSERT_NE(NULL, page);
	page_fill(page);
	before = resident(dvsm_heap_region(self->heap));
	EXPECT_EQ(variant->marked, has_flag(page, "dd"));
	EXPECT_EQ(variant->marked, has_flag(dvsm_heap_address(self->heap, 0), "dd"));
	has = core_has(self->folder);
	say_if_none(has);
	EXPECT_NE(1, has);
	EXPECT_EQ(before, resident(dvsm_heap_region(self->heap)));
}

TEST_F(core_dump, has_a_range_that_it_is_asked_to_have)
{
	int has;

	/* Elsewhere coredump_filter decides. */
	if (!variant->marked)
		return;
	page_fill(self->map + CHUNK);
	ASSERT_EQ(0, madvise(self->map + CHUNK, CHUNK, MADV_DODUMP));
	EXPECT_TRUE(has_flag(self->map, "dd"));
	EXPECT_FALSE(has_flag(self->map + CHUNK, "dd"));
	EXPECT_TRUE(has_flag(self->map + 2 * CHUNK, "dd"));
	has = core_has(self->folder);
	say_if_none(has);
	EXPECT_NE(0, has);
	/* Holes of that range have memory now, and no other ones. */
	EXPECT_GE(CHUNK, resident(self->region));
}

TEST_F(core_dump, has_nothing_of_what_was_mapped_in_place_of_something)
{
	struct dvsm_region_map_options options = {
		.size = sizeof(options),
		.flags = DVSM_MAP_F_REPLACE,
		.address = self->map + CHUNK,
	};

	ASSERT_EQ(self->map + CHUNK, dvsm_region_map(self->region, CHUNK, CHUNK, RW, &options));
	EXPECT_EQ(variant->marked, has_flag(self->map + CHUNK, "dd"));
	ASSERT_EQ(0, dvsm_region_remap(self->region, self->map, variant->length));
	EXPECT_EQ(variant->marked, has_flag(self->map, "dd"));
	EXPECT_EQ(variant->marked, has_flag(self->map + variant->length - PAGE, "dd"));
	ASSERT_EQ(0, dvsm_region_unmap(self->map, CHUNK));
	options.flags = DVSM_MAP_F_FIXED;
	options.address = self->map;
	ASSERT_EQ(self->map, dvsm_region_map(self->region, 0, CHUNK, RW, &options));
	EXPECT_EQ(variant->marked, has_flag(self->map, "dd"));
}

/* What is the process's own is dumped, as the kernel does it. */
TEST_F(core_dump, is_not_kept_from_private_memory)
{
	struct dvsm_region_map_options options = {
		.size = sizeof(options),
		.flags = DVSM_MAP_F_PRIVATE,
	};
	struct dvsm_heap_options private = {
		.size = sizeof(private),
		.flags = DVSM_HEAP_F_PRIVATE,
	};
	char *map, *block;

	map = dvsm_region_map(self->region, 0, CHUNK, RW, &options);
	if (!map && variant->backend == DVSM_BACKEND_MEMFD_HUGETLB)
		SKIP(return, "needs a free huge page for the copy");
	ASSERT_NE(NULL, map);
	EXPECT_FALSE(has_flag(map, "dd"));
	EXPECT_EQ(0, dvsm_region_unmap(map, CHUNK));
	self->heap = dvsm_heap_create(&private);
	ASSERT_NE(NULL, self->heap);
	block = dvsm_heap_malloc(self->heap, 100);
	EXPECT_FALSE(has_flag(block, "dd"));
}

TEST_HARNESS_MAIN
