// SPDX-License-Identifier: GPL-2.0-only
/*
 * uring-fixed - read a file or a disk through a region, by io_uring and fixed buffers.
 *
 *   uring-fixed FILE [MIB]
 *
 * The region is a window of some blocks. The disk's controller writes to all of them
 * (O_DIRECT) but the one that has come in and is looked at: it must hold what an
 * ordinary read, through the page cache, finds there. Where the kernel takes no
 * region for fixed buffers, plain addresses do the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <liburing.h>

#include <dvsm/dvsm.h>

#define BLOCK		(1UL << 20)
#define NR_BLOCKS	16U

struct reader {
	struct io_uring ring;
	bool fixed;
	bool direct;
	int disk;			/* past the page cache where that can be */
	int file;			/* the same through it */
	char *window;			/* the ring's buffer 0, if fixed */
	uint64_t starts[NR_BLOCKS];	/* in the file, of what each block is read from */
	uint64_t next;			/* in the file: not asked for yet */
	uint64_t end;
};

static void die(const char *what, int error)
{
	fprintf(stderr, "uring-fixed: %s: %s\n", what, strerror(error));
	exit(1);
}

static void open_file(struct reader *reader, const char *path, uint64_t length)
{
	off_t end;

	reader->file = open(path, O_RDONLY | O_CLOEXEC);
	end = lseek(reader->file, 0, SEEK_END);
	if (end < 0)
		die(path, errno);
	reader->end = length && length < (uint64_t)end ? length : (uint64_t)end;
	reader->disk = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	reader->direct = reader->disk >= 0;
	if (!reader->direct)
		reader->disk = reader->file;
}

static struct dvsm_region *open_window(struct reader *reader)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.flags = DVSM_REGION_F_REGISTRABLE,
		.label = "window",
	};
	struct dvsm_region *region = dvsm_region_create(NR_BLOCKS * BLOCK, &options);
	char text[300];
	int nr;

	if (!region)
		die("dvsm_region_create", errno);
	reader->window = dvsm_region_map(region, 0, 0, PROT_READ | PROT_WRITE, NULL);
	if (!reader->window)
		die("dvsm_region_map", errno);
	nr = dvsm_region_register_uring(region, &reader->ring, reader->window, NR_BLOCKS * BLOCK);
	if (nr == -ENOMEM && dvsm_memlock_explain(NR_BLOCKS * BLOCK, text, sizeof(text)))
		fprintf(stderr, "uring-fixed: %s\n", text);
	if (nr < 0)
		die("dvsm_region_register_uring", -nr);
	reader->fixed = nr > 0;
	return region;
}

static void read_next(struct reader *reader, unsigned int block)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&reader->ring);
	char *at = reader->window + block * BLOCK;

	if (reader->fixed)
		io_uring_prep_read_fixed(sqe, reader->disk, at, BLOCK, reader->next, 0);
	else
		io_uring_prep_read(sqe, reader->disk, at, BLOCK, reader->next);
	io_uring_sqe_set_data64(sqe, block);
	reader->starts[block] = reader->next;
	reader->next += BLOCK;
}

/* Waits for a block. Returns its number. */
static unsigned int wait_for_block(struct reader *reader, size_t *length)
{
	struct io_uring_cqe *cqe;
	unsigned int block;
	int result;

	do
		result = io_uring_submit_and_wait(&reader->ring, 1);
	while (result == -EINTR);
	if (result < 0)
		die("io_uring_submit_and_wait", -result);
	io_uring_peek_cqe(&reader->ring, &cqe);
	block = io_uring_cqe_get_data64(cqe);
	if (cqe->res < 0)
		die("read", -cqe->res);
	*length = cqe->res;
	io_uring_cqe_seen(&reader->ring, cqe);
	return block;
}

static bool block_is_right(struct reader *reader, unsigned int block, size_t length)
{
	uint64_t start = reader->starts[block], left = reader->end - start;
	static char expected[BLOCK];

	return length == (left < BLOCK ? left : BLOCK) &&
	       pread(reader->file, expected, length, start) == (ssize_t)length &&
	       !memcmp(reader->window + block * BLOCK, expected, length);
}

int main(int argc, char **argv)
{
	unsigned int nr_reading = 0, nr_read = 0, nr_wrong = 0, block;
	struct reader reader = { 0 };
	struct dvsm_region *region;
	size_t length;
	int result;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: uring-fixed FILE [MIB]\n");
		return 2;
	}
	open_file(&reader, argv[1], argc > 2 ? strtoull(argv[2], NULL, 0) << 20 : 0);
	result = io_uring_queue_init(NR_BLOCKS, &reader.ring, 0);
	if (result)
		die("io_uring", -result);
	region = open_window(&reader);

	for (block = 0; block < NR_BLOCKS && reader.next < reader.end; block++, nr_reading++)
		read_next(&reader, block);
	for (; nr_reading; nr_reading--, nr_read++) {
		block = wait_for_block(&reader, &length);
		nr_wrong += !block_is_right(&reader, block, length);
		if (reader.next < reader.end) {
			read_next(&reader, block);
			nr_reading++;
		}
	}
	printf("uring-fixed: %llu KiB %s the page cache, %s, on %s: %u of %u blocks differ\n",
	       (unsigned long long)reader.end >> 10, reader.direct ? "past" : "through",
	       reader.fixed ? "by fixed buffers" : "by plain addresses",
	       dvsm_backend_name(dvsm_region_backend(region)), nr_wrong, nr_read);
	io_uring_queue_exit(&reader.ring);
	dvsm_region_destroy(region);
	return nr_wrong ? 1 : 0;
}
