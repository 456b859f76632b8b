// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions and devices, by the library: pins and dma-bufs of /dev/dvsm, files by
 * io_uring and O_DIRECT on every backend.
 *
 * Files are made in the folder that the environment's DVSM_TEST_FILES names. A VM of
 * ours gets a file system on its first disk; without a disk it is /tmp.
 */
#include <liburing.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "lib_test.h"
#include "kselftest_harness.h"

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 300

#define LENGTH	(4 * CHUNK)

FIXTURE(io) {
	struct dvsm_region *region;
	char *map;
	int file;
};

FIXTURE_VARIANT(io) {
	uint32_t backend;
	uint32_t flags;
	uint32_t how;		/* DVSM_IO_F_ */
};

#define IO_VARIANT(name, ...) FIXTURE_VARIANT_ADD(io, name) { __VA_ARGS__ }
IO_VARIANT(device, .backend = DVSM_BACKEND_DEVICE);
IO_VARIANT(device_plain, .backend = DVSM_BACKEND_DEVICE, .how = DVSM_IO_F_PLAIN);
IO_VARIANT(device_registrable, .backend = DVSM_BACKEND_DEVICE, .flags = DVSM_REGION_F_REGISTRABLE);
IO_VARIANT(device_pinned, .backend = DVSM_BACKEND_DEVICE, .flags = DVSM_REGION_F_PINNED);
IO_VARIANT(memfd, .backend = DVSM_BACKEND_MEMFD);
IO_VARIANT(memfd_plain, .backend = DVSM_BACKEND_MEMFD, .how = DVSM_IO_F_PLAIN);
IO_VARIANT(memfd_buffered, .backend = DVSM_BACKEND_MEMFD, .how = DVSM_IO_F_BUFFERED);
IO_VARIANT(memfd_unregistered, .backend = DVSM_BACKEND_MEMFD, .how = DVSM_IO_F_UNREGISTERED);

/* Makes a file system on a disk of the VM, once. */
static const char *disk_folder(void)
{
	static const char *const disks[] = { "/dev/nvme0n1", "/dev/vda" };
	const char *folder = "/run/dvsm-files";
	char command[64];
	unsigned int i;

	if (!mkdir(folder, 0700))
		for (i = 0; i < sizeof(disks) / sizeof(disks[0]); i++) {
			/* A part of the disk: the debug kernel takes minutes to write the tables of all. */
			snprintf(command, sizeof(command), "mke2fs -F %s 262144 >/dev/null 2>&1",
				 disks[i]);
			if (!access(disks[i], W_OK) && !system(command) &&
			    !mount(disks[i], folder, "ext4", 0, NULL))
				break;
		}
	return folder;
}

/* A file without a name. */
static int file_make(void)
{
	const char *folder = getenv("DVSM_TEST_FILES");
	int file;

	if (!folder)
		folder = getenv("DVSM_VM") ? disk_folder() : "/tmp";
	file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return file < 0 ? open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : file;
}

static void fill(void *memory, uint64_t length, uint64_t seed)
{
	uint64_t *words = memory, i;

	for (i = 0; i < length / 8; i++)
		words[i] = (seed + i) * 0x9e3779b97f4a7c15;
	memset((char *)memory + length / 8 * 8, (int)seed, length % 8);
}

FIXTURE_SETUP(io)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = variant->backend,
		.flags = variant->flags,
	};

	self->region = dvsm_region_create(LENGTH, &options);
	if (!self->region && variant->backend == DVSM_BACKEND_DEVICE)
		SKIP(return, "no /dev/dvsm (load the module)");
	ASSERT_NE(NULL, self->region);
	self->map = dvsm_region_map(self->region, 0, LENGTH, RW, NULL);
	ASSERT_NE(NULL, self->map);
	self->file = file_make();
	if (self->file < 0)
		SKIP(return, "no file system here that has O_TMPFILE");
}

FIXTURE_TEARDOWN(io)
{
	dvsm_region_destroy(self->region);
}

/* Whether the file can be opened past the page cache. */
static bool has_direct(int file)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	fd = open(path, O_RDONLY | O_DIRECT);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* All that is usual for the variant, but for what is given. */
#pragma GCC diagnostic ignored "-Woverride-init"
#define OPTIONS(...) (&(struct dvsm_io_options) {					\
	.size = sizeof(struct dvsm_io_options), .flags = variant->how, ##__VA_ARGS__ })

TEST_F(io, file_is_loaded_past_the_page_cache_where_it_can_be)
{
	bool direct = has_direct(self->file) && !(variant->how & DVSM_IO_F_BUFFERED);
	struct dvsm_io_result result;
	char *expected = malloc(LENGTH);

	fill(expected, LENGTH, 1);
	ASSERT_EQ(LENGTH, pwrite(self->file, expected, LENGTH, 0));
	ASSERT_EQ(0, dvsm_region_load(self->region, 0, self->file, 0, 0, OPTIONS(), &result));
	EXPECT_EQ(LENGTH, result.done);
	EXPECT_EQ(direct ? LENGTH : 0, result.direct);
	EXPECT_EQ(direct && !(variant->how & DVSM_IO_F_PLAIN),
		  !!(result.how & DVSM_IO_HOW_URING));
	EXPECT_EQ(0, memcmp(expected, self->map, LENGTH));
}

TEST_F(io, region_is_stored_and_comes_back)
{
	struct dvsm_io_result result;
	char *read = malloc(LENGTH);

	fill(self->map, LENGTH, 2);
	ASSERT_EQ(0, dvsm_region_store(self->region, 0, self->file, 0, 0, OPTIONS(), &result));
	EXPECT_EQ(LENGTH, result.done);
	ASSERT_EQ(LENGTH, pread(self->file, read, LENGTH, 0));
	EXPECT_EQ(0, memcmp(read, self->map, LENGTH));
	EXPECT_EQ(LENGTH, lseek(self->file, 0, SEEK_END));
}

TEST_F(io, any_offset_and_length_is_carried_and_nothing_else)
{
	static const struct {
		uint64_t offset, file_offset, length;
	} cases[] = {
		{ 0, 0, 1 }, { 1, 1, 4095 }, { 0, 0, 4096 }, { 4095, 4095, 2 },
		{ 1, 0, 100000 }, { 0, 511, 100000 }, { 512, 512, CHUNK },
		{ 100, 100, 3 * CHUNK + 77 }, { CHUNK - 1, 2 * CHUNK - 1, CHUNK + 2 },
		{ 4096, 8192, CHUNK + 4096 }, { LENGTH - 5, 7, 5 },
	};
	char *before = malloc(LENGTH), *data = malloc(LENGTH);
	unsigned int i;

	fill(data, LENGTH, 3);
	ASSERT_EQ(LENGTH, pwrite(self->file, data, LENGTH, 0));
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dvsm_io_result result;
		char *got = malloc(LENGTH);

		fill(self->map, LENGTH, 4 + i);
		memcpy(before, self->map, LENGTH);
		memcpy(before + cases[i].offset, data + cases[i].file_offset, cases[i].length);
		ASSERT_EQ(0, dvsm_region_load(self->region, cases[i].offset, self->file,
					      cases[i].file_offset, cases[i].length,
					      OPTIONS(.block = 65536, .depth = 5), &result))
			TH_LOG("case %u: %m", i);
		EXPECT_EQ(cases[i].length, result.done);
		EXPECT_EQ(0, memcmp(before, self->map, LENGTH)) TH_LOG("case %u", i);
		/* And back, to a file that is otherwise as it was. */
		fill(self->map, LENGTH, 100 + i);
		memcpy(before, data, LENGTH);
		memcpy(before + cases[i].file_offset, self->map + cases[i].offset,
		       cases[i].length);
		ASSERT_EQ(0, dvsm_region_store(self->region, cases[i].offset, self->file,
					       cases[i].file_offset, cases[i].length,
					       OPTIONS(.block = 65536, .depth = 5), &result));
		EXPECT_EQ(cases[i].length, result.done);
		ASSERT_EQ(LENGTH, pread(self->file, got, LENGTH, 0));
		EXPECT_EQ(0, memcmp(before, got, LENGTH)) TH_LOG("case %u", i);
		memcpy(data, got, LENGTH);
		free(got);
	}
}

TEST_F(io, end_of_the_file_ends_it)
{
	static const uint64_t lengths[] = { 0, 1, 4096, 5000, CHUNK - 4096, CHUNK + 1,
					    3 * CHUNK + 511 };
	char *data = malloc(LENGTH), *expected = malloc(LENGTH);
	unsigned int i;

	fill(data, LENGTH, 5);
	for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct dvsm_io_result result;

		ASSERT_EQ(0, ftruncate(self->file, 0));
		ASSERT_EQ((ssize_t)lengths[i], pwrite(self->file, data, lengths[i], 0));
		fill(self->map, LENGTH, 6);
		memcpy(expected, self->map, LENGTH);
		memcpy(expected, data, lengths[i]);
		ASSERT_EQ(0, dvsm_region_load(self->region, 0, self->file, 0, 0,
					      OPTIONS(.block = CHUNK / 4), &result));
		EXPECT_EQ(lengths[i], result.done);
		EXPECT_EQ(0, memcmp(expected, self->map, lengths[i])) TH_LOG("case %u", i);
		EXPECT_EQ(0, memcmp(expected, self->map, LENGTH)) TH_LOG("case %u", i);
	}
}

static uint64_t resident(struct dvsm_region *region)
{
	struct dvsm_region_info info = { .size = sizeof(info) };

	return dvsm_region_info(region, &info) ? UINT64_MAX : info.out_resident;
}

/* A region with two holes, over a file without; and what the file is like then. */
static bool holes_are_stored(struct dvsm_region *region, char *map, int file,
			     const struct dvsm_io_options *options)
{
	char *read = malloc(LENGTH), *zeroes = calloc(1, CHUNK);
	struct dvsm_io_result result;
	uint64_t before;
	bool good;

	fill(read, LENGTH, 7);
	if (pwrite(file, read, LENGTH, 0) != LENGTH)
		return false;
	fill(map + CHUNK, CHUNK, 8);
	fill(map + 3 * CHUNK, CHUNK, 9);
	before = resident(region);
	good = !dvsm_region_store(region, 0, file, 0, 0, options, &result) &&
	       result.done == LENGTH && pread(file, read, LENGTH, 0) == LENGTH;
	/* A page of the pool that is missing is reserved: nothing tells that it is missing. */
	if (dvsm_region_backend(region) != DVSM_BACKEND_MEMFD_HUGETLB)
		good &= before == resident(region);
	good &= !memcmp(read, zeroes, CHUNK) && !memcmp(read + 2 * CHUNK, zeroes, CHUNK) &&
		!memcmp(read + CHUNK, map + CHUNK, CHUNK) &&
		!memcmp(read + 3 * CHUNK, map + 3 * CHUNK, CHUNK);
	free(read);
	free(zeroes);
	return good;
}

TEST_F(io, holes_are_stored_as_zeroes_and_take_no_memory)
{
	if (variant->flags & DVSM_REGION_F_PINNED)
		return;
	EXPECT_TRUE(holes_are_stored(self->region, self->map, self->file,
				     OPTIONS(.flags = variant->how | DVSM_IO_F_UNREGISTERED)));
}

TEST_F(io, holes_take_no_memory_where_the_file_can_have_none_either)
{
	if (variant->flags & DVSM_REGION_F_PINNED)
		return;
	ASSERT_TRUE(forbid(SYS_fallocate, EOPNOTSUPP));
	EXPECT_TRUE(holes_are_stored(self->region, self->map, self->file,
				     OPTIONS(.flags = variant->how | DVSM_IO_F_UNREGISTERED)));
}

/* Pages here and there, and ends that are no page's. */
TEST_F(io, small_holes_and_ends_are_stored_exactly)
{
	const uint64_t offset = 3 * PAGE + 100, length = CHUNK + 5 * PAGE + 33;
	char *before = malloc(LENGTH), *read = malloc(LENGTH);
	struct dvsm_io_result result;
	uint64_t page, skew;

	for (skew = 0; skew < 2; skew++) {
		/* Pinned ones stay as they are. */
		dvsm_region_discard(self->region, 0, 0, NULL);
		for (page = 0; page < LENGTH / PAGE; page += 1 + page % 3)
			fill(self->map + page * PAGE, PAGE, page);
		fill(before, LENGTH, 70);
		ASSERT_EQ(LENGTH, pwrite(self->file, before, LENGTH, 0));
		ASSERT_EQ(0, dvsm_region_store(self->region, offset, self->file, offset + skew,
					       length, OPTIONS(), &result));
		EXPECT_EQ(length, result.done);
		memcpy(before + offset + skew, self->map + offset, length);
		ASSERT_EQ(LENGTH, pread(self->file, read, LENGTH, 0));
		EXPECT_EQ(0, memcmp(before, read, LENGTH));
	}
}

TEST_F(io, end_of_a_disk_ends_it_and_gets_no_memory_behind)
{
	int disk = open("/dev/ram0", O_RDWR | O_CLOEXEC);
	struct dvsm_io_result result;
	char *expected = malloc(CHUNK);
	off_t size;

	if (disk < 0)
		SKIP(return, "needs a disk in memory: modprobe brd");
	size = lseek(disk, 0, SEEK_END);
	ASSERT_LE((off_t)CHUNK, size);
	fill(expected, CHUNK, 12);
	ASSERT_EQ(CHUNK, pwrite(disk, expected, CHUNK, size - CHUNK));
	ASSERT_EQ(0, fsync(disk));
	ASSERT_EQ(0, dvsm_region_load(self->region, 0, disk, size - CHUNK, 0, OPTIONS(), &result));
	EXPECT_EQ(CHUNK, result.done);
	if (!(variant->flags & DVSM_REGION_F_PINNED)) {
		EXPECT_EQ(CHUNK, resident(self->region));
	}
	EXPECT_EQ(0, memcmp(expected, self->map, CHUNK));
	ASSERT_EQ(0, dvsm_region_load(self->region, 0, disk, size, 0, OPTIONS(), &result));
	EXPECT_EQ(0, result.done);
	EXPECT_FAILS(ENOSPC, dvsm_region_store(self->region, 0, disk, size - PAGE, CHUNK,
					       OPTIONS(), NULL));
	close(disk);
}

TEST_F(io, position_of_the_region_s_descriptor_stays)
{
	const int fd = dvsm_region_fd(self->region);

	fill(self->map + CHUNK, CHUNK, 13);
	ASSERT_EQ(5, lseek(fd, 5, SEEK_SET));
	ASSERT_EQ(0, dvsm_region_store(self->region, 0, self->file, 0, 0, OPTIONS(), NULL));
	EXPECT_EQ(5, lseek(fd, 0, SEEK_CUR));
	ASSERT_EQ(0, dvsm_region_load(self->region, 0, self->file, 0, 0, OPTIONS(), NULL));
	EXPECT_EQ(5, lseek(fd, 0, SEEK_CUR));
}

static int stop_half_way(uint64_t done, uint64_t total, void *argument)
{
	unsigned int *calls = argument;

	++*calls;
	return done >= total / 2;
}

TEST_F(io, progress_is_told_and_can_end_it)
{
	struct dvsm_io_result result;
	unsigned int calls = 0;

	ASSERT_EQ(0, ftruncate(self->file, LENGTH));
	EXPECT_FAILS(ECANCELED, dvsm_region_load(self->region, 0, self->file, 0, 0,
						 OPTIONS(.progress = stop_half_way,
							 .argument = &calls, .depth = 2,
							 .block = 65536), &result));
	EXPECT_LE(LENGTH / 2 / 65536, calls);
	EXPECT_LE(LENGTH / 2, result.done);
	EXPECT_GT(LENGTH, result.done);
}

/* What a region has when the first bytes are there. */
struct first_bytes {
	struct dvsm_region *region;
	uint64_t resident;
};

static int look_once(uint64_t done, uint64_t total, void *argument)
{
	struct first_bytes *first = argument;

	if (!first->resident)
		first->resident = resident(first->region);
	return 0;
}

/* Memory is made 64 MiB at a time: the disk does not wait for all of it. */
TEST_F(io, load_of_several_pieces_brings_all_and_begins_before_all_memory_is_made)
{
	const uint64_t piece = 64UL << 20, length = 4 * piece, offset = 7 * PAGE, skew = 5 * PAGE;
	const uint64_t wanted = 3 * piece + 3 * PAGE, step = 255 * PAGE;
	struct dvsm_region_options options = {
		.size = sizeof(options), .backend = variant->backend, .flags = variant->flags,
	};
	struct first_bytes first = {};
	struct dvsm_io_result result;
	char expected[PAGE], *map;
	uint64_t at;
	bool fixed;

	if (variant->how)
		SKIP(return, "it has no pieces");
	first.region = dvsm_region_create(length, &options);
	ASSERT_NE(NULL, first.region);
	fixed = has_direct(self->file) &&
		(dvsm_region_features(first.region) & DVSM_FEATURE_FIXED_BUFFERS) &&
		(variant->flags || variant->backend == DVSM_BACKEND_MEMFD);
	map = dvsm_region_map(first.region, 0, length, RW, NULL);
	ASSERT_NE(NULL, map);
	ASSERT_EQ(0, ftruncate(self->file, (off_t)(skew + wanted)));
	for (at = 0; at < wanted; at += step) {
		fill(expected, PAGE, at);
		ASSERT_EQ(PAGE, pwrite(self->file, expected, PAGE, (off_t)(skew + at)));
	}
	ASSERT_EQ(0, dvsm_region_load(first.region, offset, self->file, skew, 0,
				      OPTIONS(.progress = look_once, .argument = &first), &result));
	EXPECT_EQ(wanted, result.done);
	EXPECT_EQ(fixed, !!(result.how & DVSM_IO_HOW_FIXED));
	if (!(variant->flags & DVSM_REGION_F_PINNED))
		EXPECT_GE(2 * piece + CHUNK, first.resident);
	for (at = 0; at < wanted; at += step) {
		fill(expected, PAGE, at);
		ASSERT_EQ(0, memcmp(expected, map + offset + at, PAGE));
		if (at + 2 * PAGE <= wanted)
			ASSERT_EQ(0, map[offset + at + PAGE]);
	}
	dvsm_region_destroy(first.region);
}

struct cancelled {
	struct dvsm_region *region;
	const struct dvsm_io_options *options;
	int file, ret;
};

static int cancel_oneself(uint64_t done, uint64_t total, void *argument)
{
	pthread_cancel(pthread_self());
	pthread_testcancel();
	return 0;
}

static void *load_cancelled(void *argument)
{
	struct cancelled *side = argument;

	side->ret = dvsm_region_load(side->region, 0, side->file, 0, 0, side->options, NULL);
	pthread_testcancel();
	side->ret = -EINPROGRESS;
	return NULL;
}

/* Requests may be on their way, and descriptors are open. */
TEST_F(io, who_is_cancelled_has_his_load_finished_first)
{
	struct cancelled side = {
		.region = self->region, .file = self->file, .ret = -EINTR,
		.options = OPTIONS(.progress = cancel_oneself, .block = 65536),
	};
	char *expected = malloc(LENGTH);
	int descriptors;
	pthread_t thread;
	void *answer;

	fill(expected, LENGTH, 14);
	ASSERT_EQ(LENGTH, pwrite(self->file, expected, LENGTH, 0));
	descriptors = nr_descriptors();
	ASSERT_EQ(0, pthread_create(&thread, NULL, load_cancelled, &side));
	ASSERT_EQ(0, pthread_join(thread, &answer));
	EXPECT_EQ(PTHREAD_CANCELED, answer);
	EXPECT_EQ(0, side.ret);
	EXPECT_EQ(descriptors, nr_descriptors());
	EXPECT_EQ(0, memcmp(expected, self->map, LENGTH));
	free(expected);
}

#define NAME_FULL	"dvsm-io-test-full"
#define BLOCK		(1UL << 20)
#define NR_BLOCKS	64UL

/*
 * A region of whose every block the first half has memory, and the second half can have none: its file system, this process's
 * own, is full. NULL where there can be none.
 */
static struct dvsm_region *region_without_room(void)
{
	struct dvsm_region_options options = { .size = sizeof(options), .backend = DVSM_BACKEND_MEMFD_4K };
	struct dvsm_region *region;
	char *half = calloc(1, BLOCK / 2);
	uint64_t i;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/dev/shm", "tmpfs", 0, "size=33m"))
		return NULL;
	region = dvsm_region_create_named(NAME_FULL, 0600, DVSM_NAME_F_KEEP, NR_BLOCKS * BLOCK, &options);
	for (i = 0; region && i < NR_BLOCKS; i++)
		if (pwrite(dvsm_region_fd(region), half, BLOCK / 2, (off_t)(i * BLOCK)) != BLOCK / 2)
			return NULL;
	free(half);
	return region;
}

/* Whether nobody but this process writes to what has memory. */
static bool stays_empty(char *map)
{
	uint64_t i, at;
	int round;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < NR_BLOCKS; i++)
			for (at = i * BLOCK; at < i * BLOCK + BLOCK / 2; at += PAGE) {
				if (round && map[at])
					return false;
				map[at] = 0;
			}
		usleep(200000);
	}
	return true;
}

/* Each request fails half way, one after the other. */
TEST(load_without_memory_is_over_when_it_returns)
{
	struct dvsm_io_options options = { .size = sizeof(options), .depth = NR_BLOCKS, .block = BLOCK };
	char *expected = malloc(NR_BLOCKS * BLOCK), *map;
	int file = file_make(), i;
	struct dvsm_region *region;

	ASSERT_LE(0, file);
	region = region_without_room();
	if (!region)
		SKIP(return, "no /dev/shm of one's own: %s", strerror(errno));
	map = dvsm_region_map(region, 0, 0, RW, NULL);
	ASSERT_NE(NULL, map);
	memset(expected, 1, NR_BLOCKS * BLOCK);
	ASSERT_EQ(NR_BLOCKS * BLOCK, pwrite(file, expected, NR_BLOCKS * BLOCK, 0));
	ASSERT_EQ(0, fsync(file));
	for (i = 0; i < 5; i++) {
		EXPECT_FAILS(EFAULT, dvsm_region_load(region, 0, file, 0, 0, &options, NULL));
		ASSERT_TRUE(stays_empty(map));
	}
	dvsm_region_destroy(region);
}

TEST_F(io, mistakes_have_their_errors)
{
	struct dvsm_io_options longer[2] = { { .size = sizeof(longer) } };
	struct dvsm_region *read_only = dvsm_region_reopen(self->region, DVSM_REOPEN_F_READ_ONLY);
	int for_reading = open("/proc/self/exe", O_RDONLY);

	ASSERT_EQ(0, ftruncate(self->file, LENGTH));
	EXPECT_FAILS(EINVAL, dvsm_region_load(self->region, LENGTH, self->file, 0, 0, NULL, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_load(self->region, 1, self->file, 0, LENGTH, NULL, NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_load(self->region, 0, self->file, INT64_MAX, 0, NULL,
					      NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_load(self->region, 0, self->file, 0, 0,
					      OPTIONS(.block = 4095), NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_load(self->region, 0, self->file, 0, 0,
					      OPTIONS(.depth = 1025), NULL));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_load(self->region, 0, self->file, 0, 0,
						  OPTIONS(.flags = 1U << 31), NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_load(self->region, 0, self->file, 0, 0,
					      OPTIONS(.size = 8), NULL));
	longer[1].depth = 1;
	EXPECT_FAILS(E2BIG, dvsm_region_load(self->region, 0, self->file, 0, 0, longer, NULL));
	EXPECT_FAILS(EBADF, dvsm_region_load(self->region, 0, -1, 0, 0, NULL, NULL));
	EXPECT_NE(0, dvsm_region_store(self->region, 0, for_reading, 0, 0, NULL, NULL));
	if (!read_only)
		return;
	EXPECT_FAILS(EACCES, dvsm_region_load(read_only, 0, self->file, 0, 0, NULL, NULL));
	EXPECT_EQ(0, dvsm_region_store(read_only, 0, self->file, 0, 0, OPTIONS(), NULL));
	dvsm_region_destroy(read_only);
}

/* Opened once more, past the page cache, it could do more than the one that was given. */
TEST_F(io, descriptor_can_do_what_it_was_opened_for)
{
	char path[32], kept[PAGE], *expected = malloc(LENGTH);
	int reading, writing, appending;

	fill(expected, LENGTH, 3);
	fill(self->map, LENGTH, 4);
	memcpy(kept, self->map, sizeof(kept));
	ASSERT_EQ(LENGTH, pwrite(self->file, expected, LENGTH, 0));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->file);
	reading = open(path, O_RDONLY | O_CLOEXEC);
	writing = open(path, O_WRONLY | O_CLOEXEC);
	appending = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
	ASSERT_LE(0, reading);
	ASSERT_LE(0, writing);
	ASSERT_LE(0, appending);
	EXPECT_FAILS(EBADF, dvsm_region_store(self->region, 0, reading, 0, 0, OPTIONS(), NULL));
	EXPECT_FAILS(EBADF, dvsm_region_load(self->region, 0, writing, 0, 0, OPTIONS(), NULL));
	EXPECT_FAILS(EINVAL, dvsm_region_store(self->region, 0, appending, 0, 0, OPTIONS(), NULL));
	EXPECT_EQ(0, memcmp(kept, self->map, sizeof(kept)));
	ASSERT_EQ(0, dvsm_region_load(self->region, 0, reading, 0, 0, OPTIONS(), NULL));
	EXPECT_EQ(0, memcmp(expected, self->map, LENGTH));
	EXPECT_EQ(0, dvsm_region_store(self->region, 0, writing, 0, 0, OPTIONS(), NULL));
	EXPECT_EQ(LENGTH, lseek(self->file, 0, SEEK_END));
	close(reading);
	close(writing);
	close(appending);
}

/* Such a one takes whole blocks alone: the rest is carried all the same, and the file may be shorter. */
TEST_F(io, descriptor_past_the_page_cache_takes_any_offset_and_length)
{
	static const uint64_t offsets[] = { 0, 100, PAGE };
	char path[32], *expected = malloc(LENGTH);
	uint64_t length = LENGTH - 3 * PAGE - 1, at;
	struct dvsm_io_result result;
	unsigned int i;
	int direct;

	if (!has_direct(self->file))
		SKIP(return, "no O_DIRECT in this file system");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->file);
	direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, direct);
	for (i = 0; i < 6; i++) {
		at = offsets[i % 3];
		fill(self->map, LENGTH, i);
		memcpy(expected, self->map, LENGTH);
		ASSERT_EQ(0, ftruncate(self->file, 0));
		/* The second time at places that differ modulo the page size. */
		EXPECT_EQ(0, dvsm_region_store(self->region, at + i / 3, direct, at, length,
					       OPTIONS(), &result));
		EXPECT_EQ(length, result.done);
		EXPECT_EQ((off_t)(at + length), lseek(self->file, 0, SEEK_END));
		memset(self->map, 0, LENGTH);
		EXPECT_EQ(0, dvsm_region_load(self->region, at + i / 3, direct, at, 0, OPTIONS(),
					      &result));
		EXPECT_EQ(length, result.done);
		EXPECT_EQ(0, memcmp(expected + at + i / 3, self->map + at + i / 3, length));
	}
	EXPECT_TRUE(fcntl(direct, F_GETFL) & O_DIRECT);
	close(direct);
	free(expected);
}

/* No other descriptor of the file can be had, so not even one byte can be written: it is lengthened all the same. */
TEST_F(io, descriptor_past_the_page_cache_lengthens_where_nothing_can_be_opened)
{
	struct dvsm_io_result result;
	char path[32];
	int direct;

	if (!has_direct(self->file))
		SKIP(return, "no O_DIRECT in this file system");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->file);
	direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, direct);
	if (fallocate(direct, 0, 0, 1) && errno == EOPNOTSUPP)
		SKIP(return, "no fallocate() in this file system");
	ASSERT_EQ(0, ftruncate(self->file, 0));
	fill(self->map, LENGTH, 15);
	ASSERT_TRUE(forbid(SYS_openat, EACCES));
	ASSERT_EQ(0, dvsm_region_store(self->region, 0, direct, 0, 0, OPTIONS(), &result));
	EXPECT_EQ(LENGTH, result.done);
	EXPECT_EQ(LENGTH, lseek(self->file, 0, SEEK_END));
	memset(self->map, 0, LENGTH);
	ASSERT_EQ(0, dvsm_region_load(self->region, 0, direct, 0, 0, OPTIONS(), &result));
	EXPECT_EQ(LENGTH, result.done);
	/* A file system in memory takes any number of bytes. */
	if (pread(direct, self->map, 100, 0) < 0 && errno == EINVAL)
		EXPECT_FAILS(EINVAL, dvsm_region_load(self->region, 0, direct, 0, 100, OPTIONS(), NULL));
	else
		EXPECT_EQ(0, dvsm_region_load(self->region, 0, direct, 0, 100, OPTIONS(), NULL));
	close(direct);
}

/* An end that he can write himself needs no other descriptor. */
TEST_F(io, descriptor_past_the_page_cache_goes_first)
{
	bool opens = !(variant->how & DVSM_IO_F_BUFFERED);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[32];
	int direct;

	if (!has_direct(self->file))
		SKIP(return, "no O_DIRECT in this file system");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->file);
	direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, direct);
	ASSERT_EQ(0, ftruncate(self->file, LENGTH));
	ASSERT_EQ(0, fcntl(direct, F_SETLK, &lock));
	ASSERT_EQ(0, dvsm_region_load(self->region, 0, direct, 0, 0, OPTIONS(), NULL));
	EXPECT_EQ(opens, IN_CHILD(!fcntl(direct, F_SETLK, &lock)));
	close(direct);
}

struct side {
	const struct dvsm_region *region;
	const struct dvsm_io_options *options;
	pthread_barrier_t *together;
	int file, nth, nr_rounds, ret;
};

static void *store_a_page(void *argument)
{
	struct side *side = argument;
	uint64_t at = (uint64_t)side->nth * PAGE;
	int i;

	for (i = 0; i < side->nr_rounds; i++) {
		if (!side->nth && ftruncate(side->file, 0))
			side->ret = -errno;
		pthread_barrier_wait(side->together);
		if (dvsm_region_store(side->region, at, side->file, at, PAGE, side->options,
				      NULL))
			side->ret = -errno;
		pthread_barrier_wait(side->together);
		if (lseek(side->file, 0, SEEK_END) != 2 * PAGE)
			side->ret = -EIO;
		pthread_barrier_wait(side->together);
	}
	return NULL;
}

/* Both lengthen the file. */
TEST_F(io, stores_side_by_side_leave_the_file_as_long_as_the_longer)
{
	struct dvsm_io_options options = *OPTIONS();
	pthread_barrier_t together;
	struct side sides[2];
	pthread_t threads[2];
	int i;

	fill(self->map, 2 * PAGE, 5);
	pthread_barrier_init(&together, NULL, 2);
	for (i = 0; i < 2; i++) {
		sides[i] = (struct side) {
			.region = self->region, .options = &options, .together = &together,
			.file = self->file, .nth = i, .nr_rounds = getenv("DVSM_VM") ? 20 : 3000,
		};
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, store_a_page, &sides[i]));
	}
	for (i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, sides[i].ret);
	}
	pthread_barrier_destroy(&together);
}

/* Descriptors and mappings are as they were, also after errors. */
TEST_F(io, leaves_nothing_behind)
{
	int descriptors = nr_descriptors(), mappings = nr_mappings();

	EXPECT_EQ(0, dvsm_region_store(self->region, 0, self->file, 0, 0, OPTIONS(), NULL));
	EXPECT_EQ(0, dvsm_region_load(self->region, 0, self->file, 0, 0, OPTIONS(), NULL));
	EXPECT_NE(0, dvsm_region_load(self->region, 0, -1, 0, 0, OPTIONS(), NULL));
	EXPECT_EQ(descriptors, nr_descriptors());
	EXPECT_EQ(mappings, nr_mappings());
}

TEST_F(io, ring_takes_the_region_exactly_where_the_features_say_so)
{
	bool device = variant->backend == DVSM_BACKEND_DEVICE;
	bool wanted = (dvsm_region_features(self->region) & DVSM_FEATURE_FIXED_BUFFERS) &&
		      (!device || variant->flags);
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	int nr;

	if (io_uring_queue_init(4, &ring, 0))
		SKIP(return, "no io_uring");
	nr = dvsm_region_register_uring(self->region, &ring, self->map, LENGTH);
	EXPECT_EQ(wanted ? 1 : 0, nr);
	fill(self->map, LENGTH, 10);
	sqe = io_uring_get_sqe(&ring);
	if (nr)
		io_uring_prep_write_fixed(sqe, self->file, self->map + 5, CHUNK, 0, 0);
	else
		io_uring_prep_write(sqe, self->file, self->map + 5, CHUNK, 0);
	ASSERT_EQ(1, io_uring_submit_and_wait(&ring, 1));
	ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
	EXPECT_EQ(CHUNK, cqe->res);
	ASSERT_EQ(CHUNK, pread(self->file, self->map + 2 * CHUNK, CHUNK, 0));
	EXPECT_EQ(0, memcmp(self->map + 5, self->map + 2 * CHUNK, CHUNK));
	io_uring_queue_exit(&ring);
	EXPECT_FAILS(EINVAL, dvsm_region_register_uring(self->region, &ring, self->map, 0));
}

/* Children of a process whose memory a ring has: both see one memory, without a copy. */
TEST_F(io, registered_memory_is_shared_with_children)
{
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	char *read = malloc(CHUNK);

	if (io_uring_queue_init(4, &ring, 0))
		SKIP(return, "no io_uring");
	if (dvsm_region_register_uring(self->region, &ring, self->map, LENGTH) < 1)
		SKIP(return, "no fixed buffers here");
	EXPECT_TRUE(IN_CHILD((fill(self->map, CHUNK, 11), true)));
	io_uring_prep_write_fixed(io_uring_get_sqe(&ring), self->file, self->map, CHUNK, 0, 0);
	ASSERT_EQ(1, io_uring_submit_and_wait(&ring, 1));
	ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
	ASSERT_EQ(CHUNK, pread(self->file, read, CHUNK, 0));
	fill(self->map + CHUNK, CHUNK, 11);
	EXPECT_EQ(0, memcmp(self->map + CHUNK, read, CHUNK));
	io_uring_queue_exit(&ring);
}

TEST(memfd_has_no_pins_and_no_dmabufs)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = DVSM_BACKEND_MEMFD,
	};
	struct dvsm_region *region = dvsm_region_create(LENGTH, &options);
	struct dvsm_range range;

	ASSERT_NE(NULL, region);
	EXPECT_EQ(0, dvsm_region_features(region) & (DVSM_FEATURE_PIN | DVSM_FEATURE_DMABUF));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_pin(region, 0, 0));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_unpin(region, 0, 0));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_export_dmabuf(region, 0, 0));
	EXPECT_FAILS(EOPNOTSUPP, dvsm_region_extents(region, 0, 0, &range, 1, NULL));
	dvsm_region_destroy(region);
}

TEST(device_pins_and_exports)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = DVSM_BACKEND_DEVICE,
	};
	struct dvsm_region *region = dvsm_region_create(LENGTH, &options);
	struct dvsm_region_info info = { .size = sizeof(info) };
	struct dvsm_range ranges[8];
	uint64_t next = 0;
	int fd;

	if (!region)
		SKIP(return, "no /dev/dvsm (load the module)");
	EXPECT_EQ(0, dvsm_region_pin(region, CHUNK, CHUNK));
	EXPECT_EQ(0, dvsm_region_info(region, &info));
	EXPECT_EQ(CHUNK, info.out_pinned);
	EXPECT_FAILS(EBUSY, dvsm_region_discard(region, 0, 0, NULL));
	EXPECT_EQ(1, dvsm_region_extents(region, 0, 0, ranges, 8, &next));
	EXPECT_EQ(CHUNK, ranges[0].offset);
	EXPECT_EQ(CHUNK, ranges[0].length);
	EXPECT_EQ(LENGTH, next);
	EXPECT_FAILS(ENOENT, dvsm_region_unpin(region, 0, CHUNK));
	EXPECT_EQ(0, dvsm_region_unpin(region, CHUNK, CHUNK));
	fd = dvsm_region_export_dmabuf(region, 0, CHUNK);
	EXPECT_LE(0, fd);
	dvsm_region_destroy(region);
	EXPECT_EQ(CHUNK, lseek(fd, 0, SEEK_END));
	close(fd);
	EXPECT_FAILS(EINVAL, dvsm_region_pin(dvsm_region_create(CHUNK, &options), 1, 0));
}

TEST(memlock_limit_is_named_with_ways_to_raise_it)
{
	struct rlimit limit = { .rlim_cur = 65536, .rlim_max = 65536 };
	char text[400], little[10];

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	EXPECT_EQ(1, dvsm_memlock_explain(1 << 20, text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, "RLIMIT_MEMLOCK is 65536 bytes"));
	EXPECT_NE(NULL, strstr(text, "ulimit -l 1024"));
	EXPECT_NE(NULL, strstr(text, "LimitMEMLOCK=1024K"));
	EXPECT_NE(NULL, strstr(text, "CAP_IPC_LOCK"));
	EXPECT_EQ(0, dvsm_memlock_explain(65536, text, sizeof(text)));
	EXPECT_EQ(1, dvsm_memlock_explain(1 << 20, little, sizeof(little)));
	EXPECT_EQ(9, strlen(little));
}

TEST_HARNESS_MAIN
