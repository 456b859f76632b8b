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

TEST_F(nvme, process_that_is_killed_while_the_disk_writes_leaves_nothing)
{
	unsigned long end, wrong;
	pid_t pid = child_start();

	if (!pid) {
		struct uring ring;
		unsigned int i;

		if (uring_open(&ring, 64))
			_exit(1);
		for (;;)
			for (i = 0; i < 64; i++) {
				struct io_uring_cqe cqe;
				struct io_uring_sqe sqe = {
					.opcode = IORING_OP_READ,
					.fd = self->disk,
					.addr = (uintptr_t)self->map + i % 8 * CHUNK,
					.len = CHUNK,
					.off = AT + i * CHUNK,
				};

				if (uring_submit(&ring, &sqe))
					_exit(2);
				while (i > 32 && uring_reap(&ring, &cqe))
					if (cqe.res != CHUNK)
						_exit(3);
			}
	}
	sleep_ms(200);
	kill(pid, SIGKILL);
	EXPECT_EQ(128 + SIGKILL, child_wait(pid));
	/* The kernel ends what is under way after the process. Then what is put here stays. */
	end = clock_ms() + 5000;
	do {
		stamp(self->map, REGION_LENGTH, 9);
		sleep_ms(50);
		wrong = stamps_wrong(self->map, REGION_LENGTH, 9);
	} while (wrong && clock_ms() < end);
	EXPECT_EQ(0, wrong);
}

TEST_HARNESS_MAIN
