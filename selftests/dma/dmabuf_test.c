// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ranges of regions as dma-bufs: seen by an importer of ours, which looks at every
 * entry, by vgem, which is not ours, and by mmap.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <linux/dma-buf.h>
#include <linux/types.h>

#include "dma.h"
#include "importer/importer.h"

#define LENGTH (4 * CHUNK)

/* A device without any limit. */
static const struct importer_attach ideal = {
	.dma_mask = ~0ULL,
	.segment_boundary = ~0ULL,
	.segment_max = UINT32_MAX,
};

FIXTURE(dmabuf) {
	int dev;
	int fd;
	int dmabuf;
	int importer;
	char *map;
};

FIXTURE_VARIANT(dmabuf) {
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(dmabuf, plain) {
	.flags = 0,
};

FIXTURE_VARIANT_ADD(dmabuf, pinned) {
	.flags = DVSM_REGION_F_PINNED,
};

FIXTURE_SETUP(dmabuf)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, variant->flags);
	ASSERT_LE(0, self->fd);
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	self->dmabuf = region_export(self->fd, 0, LENGTH);
	ASSERT_LE(0, self->dmabuf);
	self->importer = open(IMPORTER_PATH, O_RDWR | O_CLOEXEC);
	if (self->importer < 0)
		SKIP(return, "no " IMPORTER_PATH " (run.sh --build selftests/dma/importer)");
}

FIXTURE_TEARDOWN_PARENT(dmabuf)
{
	EXPECT_NO_LEAK();
}

static int attach(int importer, int dmabuf, struct importer_attach kind)
{
	kind.fd = dmabuf;
	return ioctl(importer, IMPORTER_ATTACH, &kind) ? -errno : 0;
}

static int map_for_dma(int importer, struct importer_map *map)
{
	return ioctl(importer, IMPORTER_MAP, map) ? -errno : 0;
}

static int copy(int importer, void *memory, uint64_t offset, uint64_t length, uint32_t flags)
{
	struct importer_copy arg = {
		.user = (uintptr_t)memory,
		.offset = offset,
		.length = length,
		.flags = flags,
	};

	return ioctl(importer, IMPORTER_COPY, &arg) ? -errno : 0;
}

static int cpu_access(int dmabuf, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_RW | flags };

	return ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync) ? -errno : 0;
}

/* Pages behind one another, as the process sees them. */
static unsigned int nr_contiguous(char *map, size_t length)
{
	unsigned int nr = 0;
	uint64_t last = 0;
	size_t at;

	for (at = 0; at < length; at += PAGE) {
		uint64_t pfn = PAGEMAP_PFN(pagemap_entry(map + at));

		nr += pfn != last + 1;
		last = pfn;
	}
	return nr;
}

TEST_F(dmabuf, has_its_length_and_name)
{
	char path[64], text[512];

	EXPECT_EQ(LENGTH, lseek(self->dmabuf, 0, SEEK_END));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->dmabuf);
	ASSERT_LE(0, read_text(path, text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, "dvsm"));
}

TEST_F(dmabuf, device_without_limits_gets_one_entry_for_each_contiguous_piece)
{
	struct importer_map map;

	stamp(self->map, LENGTH, 1);
	ASSERT_EQ(0, attach(self->importer, self->dmabuf, ideal));
	ASSERT_EQ(0, map_for_dma(self->importer, &map));
	EXPECT_EQ(LENGTH, map.out_total);
	EXPECT_EQ(0, map.out_nr_wrong);
	EXPECT_EQ(nr_contiguous(self->map, LENGTH), map.out_nr_entries);
	EXPECT_LE(map.out_nr_entries, LENGTH / CHUNK);
}

TEST_F(dmabuf, no_entry_is_longer_than_the_device_takes)
{
	static const uint32_t limits[] = { PAGE, 5 * PAGE, 65536, 3 * CHUNK / 2 };
	struct importer_map map;
	size_t i;

	stamp(self->map, LENGTH, 1);
	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		struct importer_attach kind = ideal;
		int importer = open(IMPORTER_PATH, O_RDWR);

		kind.segment_max = limits[i];
		ASSERT_EQ(0, attach(importer, self->dmabuf, kind));
		ASSERT_EQ(0, map_for_dma(importer, &map));
		EXPECT_EQ(LENGTH, map.out_total);
		EXPECT_EQ(0, map.out_nr_wrong);
		EXPECT_LE(map.out_longest, limits[i]);
		EXPECT_LE(LENGTH / limits[i], map.out_nr_entries);
		close(importer);
	}
}

TEST_F(dmabuf, no_entry_crosses_the_devices_boundary)
{
	struct importer_attach kind = ideal;
	struct importer_map map;

	kind.segment_boundary = CHUNK / 4 - 1;
	stamp(self->map, LENGTH, 1);
	ASSERT_EQ(0, attach(self->importer, self->dmabuf, kind));
	ASSERT_EQ(0, map_for_dma(self->importer, &map));
	EXPECT_EQ(LENGTH, map.out_total);
	EXPECT_EQ(0, map.out_nr_wrong);
	EXPECT_LE(LENGTH / (CHUNK / 4), map.out_nr_entries);
}

TEST_F(dmabuf, device_reads_and_writes_what_processes_see)
{
	char *memory = malloc(LENGTH);
	struct importer_map map;

	stamp(self->map, LENGTH, 1);
	ASSERT_EQ(0, attach(self->importer, self->dmabuf, ideal));
	ASSERT_EQ(0, map_for_dma(self->importer, &map));
	EXPECT_EQ(0, copy(self->importer, memory, 0, LENGTH, 0));
	EXPECT_EQ(0, stamps_wrong(memory, LENGTH, 1));
	stamp(memory, LENGTH, 2);
	EXPECT_EQ(0, copy(self->importer, memory, 0, LENGTH, IMPORTER_F_WRITE));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 2));
	/* Not aligned to anything. */
	memset(memory, 7, 100);
	EXPECT_EQ(0, copy(self->importer, memory, CHUNK - 50, 100, IMPORTER_F_WRITE));
	EXPECT_EQ(0, memcmp(memory, self->map + CHUNK - 50, 100));
}

TEST_F(dmabuf, kernel_mapping_shows_the_same_memory)
{
	char *memory = malloc(LENGTH);

	stamp(self->map, LENGTH, 1);
	ASSERT_EQ(0, attach(self->importer, self->dmabuf, ideal));
	EXPECT_EQ(0, copy(self->importer, memory, 0, LENGTH, IMPORTER_F_VMAP));
	EXPECT_EQ(0, stamps_wrong(memory, LENGTH, 1));
	stamp(memory, LENGTH, 2);
	EXPECT_EQ(0, copy(self->importer, memory, 0, LENGTH, IMPORTER_F_VMAP | IMPORTER_F_WRITE));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 2));
}

TEST_F(dmabuf, two_devices_share_one_buffer)
{
	int second = open(IMPORTER_PATH, O_RDWR);
	char *memory = malloc(LENGTH);
	struct importer_map map;

	ASSERT_EQ(0, attach(self->importer, self->dmabuf, ideal));
	ASSERT_EQ(0, attach(second, self->dmabuf, ideal));
	ASSERT_EQ(0, map_for_dma(self->importer, &map));
	ASSERT_EQ(0, map_for_dma(second, &map));
	stamp(memory, LENGTH, 1);
	EXPECT_EQ(0, copy(self->importer, memory, 0, LENGTH, IMPORTER_F_WRITE));
	memset(memory, 0, LENGTH);
	EXPECT_EQ(0, ioctl(self->importer, IMPORTER_UNMAP));
	EXPECT_EQ(0, copy(second, memory, 0, LENGTH, 0));
	EXPECT_EQ(0, stamps_wrong(memory, LENGTH, 1));
}

TEST_F(dmabuf, mapping_is_the_regions_memory)
{
	char *map = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, self->dmabuf, 0);

	ASSERT_NE(MAP_FAILED, map);
	stamp(self->map, LENGTH, 1);
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	stamp(map, LENGTH, 2);
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 2));
	EXPECT_EQ(0, region_discard(self->fd, 0, 0, NULL) + EBUSY);
}

TEST_F(dmabuf, mapping_at_an_aligned_address_is_huge)
{
	char *space = mmap(NULL, LENGTH + CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = (char *)(((uintptr_t)space + CHUNK - 1) & ~(CHUNK - 1));
	char *map = mmap(at, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, self->dmabuf,
			 0);

	ASSERT_EQ(at, map);
	stamp(map, LENGTH, 1);
	EXPECT_TRUE(is_huge_mapped(map, LENGTH));
}

TEST_F(dmabuf, part_of_a_region_gives_nothing_beyond_it)
{
	int part = region_export(self->fd, CHUNK + PAGE, CHUNK);
	char *memory = malloc(LENGTH), *map;
	struct importer_map dma;

	ASSERT_LE(0, part);
	stamp(self->map, LENGTH, 1);
	memcpy(memory, self->map, LENGTH);
	EXPECT_EQ(CHUNK, lseek(part, 0, SEEK_END));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, CHUNK + PAGE, PROT_READ, MAP_SHARED, part, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, part, CHUNK));
	map = mmap(NULL, CHUNK, PROT_READ, MAP_SHARED, part, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, memcmp(memory + CHUNK + PAGE, map, CHUNK));
	/* Neither grown nor shifted. */
	EXPECT_EQ(MAP_FAILED, mremap(map, CHUNK, 2 * CHUNK, MREMAP_MAYMOVE));
	EXPECT_EQ(MAP_FAILED, mremap(map, 0, 2 * CHUNK, MREMAP_MAYMOVE));
	EXPECT_EQ(0, memcmp(memory + CHUNK + PAGE, map, CHUNK));
	ASSERT_EQ(0, attach(self->importer, part, ideal));
	ASSERT_EQ(0, map_for_dma(self->importer, &dma));
	EXPECT_EQ(CHUNK, dma.out_total);
	EXPECT_EQ(0, dma.out_nr_wrong);
	memset(memory, 0, CHUNK);
	EXPECT_EQ(0, copy(self->importer, memory, 0, CHUNK, 0));
	EXPECT_EQ(0, memcmp(map, memory, CHUNK));
	/* The kernel unmaps what it shall remap before it learns that it cannot. */
	EXPECT_EQ(-1, remap_file_pages(map, PAGE, 0, 0, 0));
	EXPECT_EQ(-1, remap_file_pages(map + PAGE, PAGE, 0, 2 * CHUNK_PAGES + 1, 0));
	EXPECT_EQ(SIGSEGV, read_at(map));
	EXPECT_EQ(SIGSEGV, read_at(map + PAGE));
	EXPECT_EQ(0, remap_file_pages(map + 2 * PAGE, PAGE, 0, 2 * CHUNK_PAGES, 0));
	EXPECT_EQ(0, memcmp(memory + CHUNK - PAGE, map + 2 * PAGE, PAGE));
}

TEST_F(dmabuf, needs_a_descriptor_that_may_write)
{
	int read_only = region_reopen(self->fd, DVSM_REOPEN_F_READ_ONLY);

	EXPECT_EQ(-EBADF, region_export(read_only, 0, LENGTH));
}

TEST_F(dmabuf, memory_outlives_every_descriptor_of_the_region)
{
	char *memory = malloc(LENGTH);
	struct importer_map map;
	struct counts counts;
	char *late;

	stamp(self->map, LENGTH, 1);
	munmap(self->map, LENGTH);
	close(self->fd);
	ASSERT_EQ(0, counts_read(&counts));
	EXPECT_EQ(1, counts.regions);
	EXPECT_EQ(LENGTH / PAGE, counts.pages);
	EXPECT_EQ(LENGTH / PAGE, counts.pinned_pages);
	late = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, self->dmabuf, 0);
	ASSERT_NE(MAP_FAILED, late);
	EXPECT_EQ(0, stamps_wrong(late, LENGTH, 1));
	ASSERT_EQ(0, attach(self->importer, self->dmabuf, ideal));
	ASSERT_EQ(0, map_for_dma(self->importer, &map));
	close(self->dmabuf);
	EXPECT_EQ(0, copy(self->importer, memory, 0, LENGTH, 0));
	EXPECT_EQ(0, stamps_wrong(memory, LENGTH, 1));
	close(self->importer);
	EXPECT_EQ(0, stamps_wrong(late, LENGTH, 1));
	ASSERT_EQ(0, counts_read(&counts));
	EXPECT_EQ(LENGTH / PAGE, counts.pinned_pages);
	munmap(late, LENGTH);
	EXPECT_TRUE(counts_reach_zero(&counts, 60));
}

/* The device of a dead process goes on writing, until it lets go. */
TEST_F(dmabuf, memory_outlives_the_process_until_the_device_lets_go)
{
	struct counts counts;
	pid_t pid;

	munmap(self->map, LENGTH);
	close(self->dmabuf);
	close(self->fd);
	ASSERT_TRUE(counts_reach_zero(&counts, 60));
	pid = child_start();
	if (!pid) {
		int fd = region_create(self->dev, LENGTH, variant->flags);
		int dmabuf = region_export(fd, 0, LENGTH);
		struct importer_map map;

		if (attach(self->importer, dmabuf, ideal) || map_for_dma(self->importer, &map) ||
		    ioctl(self->importer, IMPORTER_KEEP))
			_exit(1);
		raise(SIGKILL);
	}
	EXPECT_NE(1, child_wait(pid));
	close(self->importer);
	EXPECT_FALSE(counts_reach_zero(&counts, 1));
	EXPECT_EQ(LENGTH / PAGE, counts.pages);
	EXPECT_EQ(LENGTH / PAGE, counts.pinned_pages);
	self->importer = open(IMPORTER_PATH, O_RDWR);
	EXPECT_EQ(0, ioctl(self->importer, IMPORTER_RELEASE_KEPT));
	EXPECT_TRUE(counts_reach_zero(&counts, 60));
}

TEST_F(dmabuf, region_refuses_what_would_take_the_memory_away)
{
	struct importer_map map;
	char *memory = malloc(LENGTH);
	int snapshot;
	char *view;

	stamp(self->map, LENGTH, 1);
	ASSERT_EQ(0, attach(self->importer, self->dmabuf, ideal));
	ASSERT_EQ(0, map_for_dma(self->importer, &map));
	EXPECT_EQ(-EBUSY, region_discard(self->fd, 0, 0, NULL));
	snapshot = snapshot_take(self->fd);
	ASSERT_LE(0, snapshot);
	view = region_map(snapshot, LENGTH, 0);
	stamp(memory, LENGTH, 2);
	EXPECT_EQ(0, copy(self->importer, memory, 0, LENGTH, IMPORTER_F_WRITE));
	EXPECT_EQ(0, stamps_wrong(view, LENGTH, 1));
	EXPECT_EQ(0, stamps_wrong(self->map, LENGTH, 2));
	stamp(self->map, LENGTH, 3);
	EXPECT_EQ(0, copy(self->importer, memory, 0, LENGTH, 0));
	EXPECT_EQ(0, stamps_wrong(memory, LENGTH, 3));
	/* What is registrable gets the contents where it is, and the device sees them. */
	EXPECT_EQ(is_pinned(variant->flags) ? 0 : -EBUSY, snapshot_restore(self->fd, snapshot));
	EXPECT_EQ(0, copy(self->importer, memory, 0, LENGTH, 0));
	EXPECT_EQ(0, stamps_wrong(memory, LENGTH, is_pinned(variant->flags) ? 1 : 3));
}

TEST_F(dmabuf, module_cannot_go_while_one_exists)
{
	FILE *file;
	int nr = 0;

	munmap(self->map, LENGTH);
	close(self->fd);
	close(self->dev);
	file = fopen("/sys/module/dvsm/refcnt", "r");
	ASSERT_NE(NULL, file);
	EXPECT_EQ(1, fscanf(file, "%d", &nr));
	EXPECT_LT(0, nr);
	EXPECT_NE(0, syscall(SYS_delete_module, "dvsm", O_NONBLOCK));
	EXPECT_EQ(EWOULDBLOCK, errno);
}

TEST_F(dmabuf, fork_gives_the_child_the_same_memory)
{
	struct importer_map map;
	char *memory = malloc(LENGTH);
	pid_t pid;

	ASSERT_EQ(0, attach(self->importer, self->dmabuf, ideal));
	ASSERT_EQ(0, map_for_dma(self->importer, &map));
	stamp(self->map, LENGTH, 1);
	pid = child_start();
	if (!pid) {
		if (stamps_wrong(self->map, LENGTH, 1))
			_exit(1);
		stamp(self->map, LENGTH, 2);
		_exit(0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, copy(self->importer, memory, 0, LENGTH, 0));
	EXPECT_EQ(0, stamps_wrong(memory, LENGTH, 2));
}

DVSM_FIXTURE(export);

/* Small folios, here because the region ends inside a chunk: each piece is one entry. */
TEST_F(export, any_length_is_carried)
{
	uint64_t length = CHUNK + 37 * PAGE;
	int fd = region_create(self->dev, length, 0), importer = open(IMPORTER_PATH, O_RDWR);
	int dmabuf = region_export(fd, 3 * PAGE, 0);
	char *map = region_map(fd, length, 0), *memory = malloc(length);
	struct importer_map dma;

	if (importer < 0)
		SKIP(return, "no " IMPORTER_PATH);
	ASSERT_LE(0, dmabuf);
	stamp(map, length, 1);
	ASSERT_EQ(0, attach(importer, dmabuf, ideal));
	ASSERT_EQ(0, map_for_dma(importer, &dma));
	EXPECT_EQ(length - 3 * PAGE, dma.out_total);
	EXPECT_EQ(0, dma.out_nr_wrong);
	EXPECT_EQ(nr_contiguous(map + 3 * PAGE, length - 3 * PAGE), dma.out_nr_entries);
	EXPECT_EQ(0, copy(importer, memory, 0, length - 3 * PAGE, 0));
	EXPECT_EQ(0, memcmp(map + 3 * PAGE, memory, length - 3 * PAGE));
}

/* Such a device works on a copy, and begin and end of CPU access carry it over. */
TEST_F(export, device_that_cannot_reach_the_memory_is_kept_in_step_by_cpu_access)
{
	struct importer_attach kind = { .dma_mask = UINT32_MAX, .segment_boundary = ~0ULL,
					.segment_max = UINT32_MAX };
	int importer = open(IMPORTER_PATH, O_RDWR), fd, dmabuf;
	char *memory = malloc(LENGTH), *map;
	struct importer_map dma;

	NEED_NODES(2);
	if (importer < 0)
		SKIP(return, "no " IMPORTER_PATH);
	fd = region_create_on(self->dev, LENGTH, DVSM_REGION_F_PINNED, DVSM_POLICY_BIND, 2);
	ASSERT_LE(0, fd);
	map = region_map(fd, LENGTH, 0);
	stamp(map, LENGTH, 1);
	if (PAGEMAP_PFN(pagemap_entry(map)) < 1UL << 20)
		SKIP(return, "node 1 has its memory below 4 GiB");
	dmabuf = region_export(fd, 0, LENGTH);
	ASSERT_LE(0, dmabuf);
	ASSERT_EQ(0, attach(importer, dmabuf, kind));
	ASSERT_EQ(0, map_for_dma(importer, &dma));
	EXPECT_EQ(LENGTH, dma.out_total);
	EXPECT_GT(CHUNK, dma.out_longest);
	EXPECT_EQ(0, copy(importer, memory, 0, LENGTH, 0));
	EXPECT_EQ(0, stamps_wrong(memory, LENGTH, 1));
	stamp(memory, LENGTH, 2);
	EXPECT_EQ(0, copy(importer, memory, 0, LENGTH, IMPORTER_F_WRITE));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 1));
	EXPECT_EQ(0, cpu_access(dmabuf, DMA_BUF_SYNC_START));
	EXPECT_EQ(0, stamps_wrong(map, LENGTH, 2));
	stamp(map, LENGTH, 3);
	EXPECT_EQ(0, cpu_access(dmabuf, DMA_BUF_SYNC_END));
	EXPECT_EQ(0, copy(importer, memory, 0, LENGTH, 0));
	EXPECT_EQ(0, stamps_wrong(memory, LENGTH, 3));
}

TEST_F(export, gibibyte_is_512_entries_at_most)
{
	int fd = region_create(self->dev, GIB, DVSM_REGION_F_HUGE_REQUIRED | DVSM_REGION_F_PINNED);
	int importer = open(IMPORTER_PATH, O_RDWR), dmabuf;
	struct importer_map dma;

	if (fd == -ENOMEM || fd == -ENOSPC)
		SKIP(return, "less than 1 GiB of huge folios");
	if (importer < 0)
		SKIP(return, "no " IMPORTER_PATH);
	ASSERT_LE(0, fd);
	dmabuf = region_export(fd, 0, GIB);
	ASSERT_LE(0, dmabuf);
	ASSERT_EQ(0, attach(importer, dmabuf, ideal));
	ASSERT_EQ(0, map_for_dma(importer, &dma));
	TH_LOG("1 GiB is %u entries, the longest of %llu MiB", dma.out_nr_entries,
	       dma.out_longest >> 20);
	EXPECT_EQ(GIB, dma.out_total);
	EXPECT_EQ(0, dma.out_nr_wrong);
	EXPECT_LE(dma.out_nr_entries, 512);
}

/* DRM's own ABI, as much as vgem needs. */
struct drm_prime_handle {
	__u32 handle;
	__u32 flags;
	__s32 fd;
};

#define DRM_IOCTL_PRIME_HANDLE_TO_FD	_IOWR('d', 0x2d, struct drm_prime_handle)
#define DRM_IOCTL_PRIME_FD_TO_HANDLE	_IOWR('d', 0x2e, struct drm_prime_handle)

/* It attaches and maps for DMA; from then on it is the driver that keeps the memory. */
TEST_F(export, vgem_imports_it_and_gives_it_back)
{
	int drm = open("/dev/dri/card0", O_RDWR | O_CLOEXEC);
	int fd = region_create(self->dev, LENGTH, DVSM_REGION_F_PINNED);
	char *map = region_map(fd, LENGTH, 0), *through;
	struct drm_prime_handle prime = {};
	struct counts counts;

	if (drm < 0)
		SKIP(return, "no /dev/dri/card0 (run.sh --load vgem)");
	prime.fd = region_export(fd, 0, LENGTH);
	ASSERT_LE(0, prime.fd);
	stamp(map, LENGTH, 1);
	ASSERT_EQ(0, ioctl(drm, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime)) TH_LOG("%m");
	munmap(map, LENGTH);
	close(prime.fd);
	close(fd);
	ASSERT_EQ(0, counts_read(&counts));
	EXPECT_EQ(LENGTH / PAGE, counts.pinned_pages);
	prime.flags = O_RDWR | O_CLOEXEC;
	ASSERT_EQ(0, ioctl(drm, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime)) TH_LOG("%m");
	through = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, prime.fd, 0);
	ASSERT_NE(MAP_FAILED, through);
	close(prime.fd);
	EXPECT_EQ(0, stamps_wrong(through, LENGTH, 1));
	stamp(through, LENGTH, 2);
	munmap(through, LENGTH);
	EXPECT_FALSE(counts_reach_zero(&counts, 1));
	close(drm);
	EXPECT_TRUE(counts_reach_zero(&counts, 60));
}

TEST_HARNESS_MAIN
