// SPDX-License-Identifier: GPL-2.0-only
/*
 * A disk whose controller reads and writes a region by itself: O_DIRECT on QEMU's
 * NVMe disk, which scripts/vm/run.sh gets by selftests/vm-options.
 */
#include <signal.h>
#include <linux/io_uring.h>

#include "fixture.h"

#define DISK	"/dev/nvme0n1"
#define AT	(4UL << 30)	/* on the disk: beyond what file systems of other tests have written first */

FIXTURE(nvme) {
	int dev;
	int fd;
	char *map;
	int disk;
};

FIXTURE_VARIANT(nvme) {
	bool implicit;
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(nvme, plain) { .flags = 0 };
FIXTURE_VARIANT_ADD(nvme, registrable) { .flags = DVSM_REGION_F_REGISTRABLE };
FIXTURE_VARIANT_ADD(nvme, pinned) { .flags = DVSM_REGION_F_PINNED };
FIXTURE_VARIANT_ADD(nvme, implicit) { .implicit = true };

FIXTURE_SETUP(nvme)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	if (!getenv("DVSM_VM"))
		SKIP(return, "would overwrite " DISK " of this machine");
	self->disk = open(DISK, O_RDWR | O_DIRECT | O_EXCL | O_CLOEXEC);
	if (self->disk < 0)
		SKIP(return, DISK ": %s (selftests/vm-options)", strerror(errno));
	self->fd = variant->implicit ? self->dev :
		   region_create(self->dev, REGION_LENGTH, variant->flags);
	self->map = region_map(self->fd, REGION_LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
}

FIXTURE_TEARDOWN_PARENT(nvme)
{
	EXPECT_NO_LEAK();
}

/* Sectors that the disk itself has read and written so far. */
static int sectors(unsigned long *nr_read, unsigned long *nr_written)
{
	char text[256];

	if (read_text("/sys/block/nvme0n1/stat", text, sizeof(text)))
		return -errno;
	return sscanf(text, "%*u %*u %lu %*u %*u %*u %lu", nr_read, nr_written) == 2 ? 0 : -EINVAL;
}

TEST_F(nvme, controller_writes_and_reads_the_region)
{
	const size_t half = REGION_LENGTH / 2;
	unsigned long before[2], after[2];

	stamp(self->map, half, 1);
	ASSERT_EQ(0, sectors(&before[0], &before[1]));
	EXPECT_EQ(half, pwrite(self->disk, self->map, half, AT));
	EXPECT_EQ(half, pread(self->disk, self->map + half, half, AT));
	ASSERT_EQ(0, sectors(&after[0], &after[1]));
	EXPECT_EQ(0, stamps_wrong(self->map + half, half, 1));
	/* By the disk, not by the page cache. */
	EXPECT_LE(half / 512, after[0] - before[0]);
	EXPECT_LE(half / 512, after[1] - before[1]);
}

TEST_F(nvme, pieces_of_any_alignment_arrive_where_they_belong)
{
	static const struct { size_t at, length; } pieces[] = {
		{ 0, 512 }, { 512, 4096 }, { CHUNK - 512, 1024 }, { CHUNK - PAGE, 3 * PAGE },
		{ PAGE + 1024, CHUNK }, { 2 * CHUNK - 1536, CHUNK + 3072 },
	};
	char *copy = self->map + REGION_LENGTH / 2;
	size_t i;

	stamp(self->map, REGION_LENGTH / 2, 2);
	for (i = 0; i < ARRAY_SIZE(pieces); i++) {
		size_t at = pieces[i].at, length = pieces[i].length;

		ASSERT_EQ(length, pwrite(self->disk, self->map + at, length, AT + at));
		memset(copy, 0, REGION_LENGTH / 2);
		ASSERT_EQ(length, pread(self->disk, copy + at, length, AT + at));
		EXPECT_EQ(0, memcmp(self->map + at, copy + at, length)) TH_LOG("piece %zu", i);
		EXPECT_TRUE(is_zero(copy, at)) TH_LOG("piece %zu", i);
		EXPECT_TRUE(is_zero(copy + at + length, PAGE)) TH_LOG("piece %zu", i);
	}
}

TEST_F(nvme, snapshot_keeps_what_the_disk_had_put_there_before)
{
	struct dvsm_snapshot_take take = { .size = sizeof(take), .length = REGION_LENGTH };
	int snapshot;
	char *old;

	stamp(self->map, CHUNK, 1);
	ASSERT_EQ(CHUNK, pwrite(self->disk, self->map, CHUNK, AT));
	stamp(self->map, CHUNK, 2);
	ASSERT_EQ(CHUNK, pwrite(self->disk, self->map, CHUNK, AT + CHUNK));
	ASSERT_EQ(CHUNK, pread(self->disk, self->map, CHUNK, AT));
	snapshot = ioctl(self->fd, DVSM_IOC_SNAPSHOT_TAKE, &take);
	ASSERT_LE(0, snapshot);
	ASSERT_EQ(CHUNK, pread(self->disk, self->map, CHUNK, AT + CHUNK));
	old = region_map(snapshot, CHUNK, 0);
	ASSERT_NE(MAP_FAILED, old);
	EXPECT_EQ(0, stamps_wrong(old, CHUNK, 1));
	EXPECT_EQ(0, stamps_wrong(self->map, CHUNK, 2));
	/* And the disk reads a snapshot. */
	ASSERT_EQ(CHUNK, pwrite(self->disk, old, CHUNK, AT + 2 * CHUNK));
	ASSERT_EQ(CHUNK, pread(self->disk, self->map + CHUNK, CHUNK, AT + 2 * CHUNK));
	EXPECT_EQ(0, stamps_wrong(self->map + CHUNK, CHUNK, 1));
}

/*
 * The disk writes to the first 8 chunks at @map, until the process is killed; to each by one
 * request at a time, as kernels that watch DMA want it.
 */
static void read_for_ever(int disk, char *map, struct uring *ring, bool fixed)
{
	unsigned long nr;

	for (nr = 0; ; nr++) {
		struct io_uring_cqe cqe = { .user_data = nr };
		struct io_uring_sqe sqe = {
			.opcode = fixed ? IORING_OP_READ_FIXED : IORING_OP_READ,
			.fd = disk,
			.len = CHUNK,
			.off = AT + nr % 64 * CHUNK,
		};

		if (nr >= 8 && (uring_wait(ring, &cqe) || cqe.res != CHUNK))
			_exit(3);
		sqe.user_data = cqe.user_data;
		sqe.addr = (uintptr_t)map + cqe.user_data * CHUNK;
		if (uring_submit(ring, &sqe))
			_exit(2);
	}
}

TEST_F(nvme, process_that_is_killed_while_the_disk_writes_leaves_nothing)
{
	unsigned long end, wrong;
	pid_t pid = child_start();

	if (!pid) {
		struct uring ring;

		if (uring_open(&ring, 64))
			_exit(1);
		read_for_ever(self->disk, self->map, &ring, false);
	}
	sleep_ms(200);
	kill(pid, SIGKILL);
	EXPECT_EQ(128 + SIGKILL, child_wait(pid));
	/* The kernel ends what is under way after the process. Then what is put here stays. */
	end = clock_ms() + 120000;
	do {
		stamp(self->map, REGION_LENGTH, 9);
		sleep_ms(50);
		wrong = stamps_wrong(self->map, REGION_LENGTH, 9);
	} while (wrong && clock_ms() < end);
	EXPECT_EQ(0, wrong);
}

/* As the one before, with a region of its own, in fixed buffers where the kernel takes them. */
static void read_into_own_region_for_ever(FIXTURE_DATA(nvme) *self, bool implicit, uint32_t flags,
					  bool fixed)
{
	int fd = implicit ? device_open(O_RDWR) : region_create(self->dev, REGION_LENGTH, flags);
	char *map = region_map(fd, REGION_LENGTH, 0);
	struct uring ring;

	if (map == MAP_FAILED || uring_open(&ring, 64))
		_exit(1);
	if (fixed != !uring_register_buffers(&ring, map, REGION_LENGTH))
		_exit(4);
	read_for_ever(self->disk, map, &ring, fixed);
}

/* Sixteen who are killed while the disk reads into regions of theirs. Whether all is gone then. */
static bool kill_readers(FIXTURE_DATA(nvme) *self, const FIXTURE_VARIANT(nvme) *variant, bool fixed)
{
	const unsigned int nr = 16;
	struct counts counts;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		pid_t pid = child_start();

		if (!pid) {
			self->dev = device_open(O_RDWR);
			read_into_own_region_for_ever(self, variant->implicit, variant->flags,
						      fixed);
		}
		sleep_ms(100 + 10 * i);
		kill(pid, SIGKILL);
		if (child_wait(pid) != 128 + SIGKILL)
			return false;
	}
	return counts_reach_zero(&counts, 60);
}

TEST_F(nvme, memory_of_killed_processes_comes_back_when_the_disk_is_done)
{
	unsigned long before, after, end;
	struct dvsm_info info;
	struct counts counts;
	unsigned int tries;
	bool fixed;

	ASSERT_EQ(0, device_info(self->dev, &info));
	fixed = (info.out_features & DVSM_FEATURE_FIXED_BUFFERS) &&
		(variant->implicit || variant->flags);
	munmap(self->map, REGION_LENGTH);
	close(self->fd);
	if (!variant->implicit)
		ASSERT_TRUE(counts_reach_zero(&counts, 60));
	/* Others take some, too, but not each time as much as one region of the sixteen has. */
	for (tries = 0; tries < 3; tries++) {
		before = pages_free();
		ASSERT_TRUE(kill_readers(self, variant, fixed));
		end = clock_ms() + 30000;
		do {
			sleep_ms(50);
			after = pages_free() + REGION_LENGTH / PAGE;
		} while (after < before && clock_ms() < end);
		if (after >= before)
			break;
	}
	EXPECT_LE(before, after);
}

TEST_HARNESS_MAIN
