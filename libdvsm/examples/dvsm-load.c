// SPDX-License-Identifier: GPL-2.0-only
/*
 * dvsm-load - read a file or a block device into a region and tell how fast that was:
 * into new memory, which has to be zeroed first, and then once more into the same.
 *
 *   dvsm-load FILE [MIB]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <dvsm/dvsm.h>

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

static int progress(uint64_t done, uint64_t total, void *argument)
{
	int *percent = argument;

	if ((int)(done * 100 / total) == *percent || !isatty(STDERR_FILENO))
		return 0;
	*percent = done * 100 / total;
	fprintf(stderr, "\r%3d %%%s", *percent, done == total ? "\n" : "");
	return 0;
}

int main(int argc, char **argv)
{
	struct dvsm_region_options kind = {
		.size = sizeof(kind),
		.flags = DVSM_REGION_F_REGISTRABLE,
		.label = "load",
	};
	int percent = -1;
	struct dvsm_io_options options = {
		.size = sizeof(options),
		.progress = progress,
		.argument = &percent,
	};
	struct dvsm_io_result result;
	struct dvsm_region *region;
	uint64_t length;
	double start, took;
	int turn, fd;

	if (argc < 2) {
		fprintf(stderr, "usage: dvsm-load FILE [MIB]\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	length = argc > 2 ? strtoull(argv[2], NULL, 0) << 20 : (uint64_t)lseek(fd, 0, SEEK_END);
	length = (length + 4095) & ~4095ULL;
	region = fd < 0 ? NULL : dvsm_region_create(length, &kind);
	if (!region) {
		fprintf(stderr, "dvsm-load: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	for (turn = 0; turn < 2; turn++) {
		start = now();
		if (dvsm_region_load(region, 0, fd, 0, 0, &options, &result)) {
			fprintf(stderr, "dvsm-load: %s\n", strerror(errno));
			return 1;
		}
		took = now() - start;
		printf("dvsm-load: %.0f MiB/s into %s memory (%llu MiB, %llu past the page cache, by %s%s, on %s)\n",
		       result.done / 1048576.0 / took, turn ? "resident" : "new",
		       (unsigned long long)result.done >> 20,
		       (unsigned long long)result.direct >> 20,
		       result.how & DVSM_IO_HOW_URING ? "io_uring" : "system calls",
		       result.how & DVSM_IO_HOW_FIXED ? " with fixed buffers" : "",
		       dvsm_backend_name(dvsm_region_backend(region)));
	}
	return 0;
}
