// SPDX-License-Identifier: GPL-2.0-only
/*
 * mpi-window - an MPI program whose window and buffers are dvsm memory.
 *
 *   mpirun -n RANKS mpi-window [MIB]
 *
 * Each rank makes a region that devices can use and exposes it as its part of a
 * window (MPI_Win_create). Each then puts its data into the next rank's region and
 * gets the previous rank's back, adds to a counter of rank 0, and passes a message
 * around whose buffers are blocks of a dvsm heap. Everybody checks what he has.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <mpi.h>
#include <dvsm/dvsm.h>

#define MESSAGE	(1UL << 20)	/* bytes */

struct part {
	struct dvsm_region *region;
	uint64_t *words;	/* first half: written by others; second half: read by others */
	size_t nr_words;	/* of a half */
	uint64_t *counter;	/* the word after both */
};

static int rank, nr_ranks;

static void die(const char *what)
{
	fprintf(stderr, "mpi-window: rank %d: %s: %s\n", rank, what, strerror(errno));
	MPI_Abort(MPI_COMM_WORLD, 1);
}

static void fill(uint64_t *words, size_t nr, uint64_t seed)
{
	size_t i;

	for (i = 0; i < nr; i++)
		words[i] = (i + 1) * (seed + 1);
}

static size_t wrong(const uint64_t *words, size_t nr, uint64_t seed)
{
	size_t i, nr_wrong = 0;

	for (i = 0; i < nr; i++)
		nr_wrong += words[i] != (i + 1) * (seed + 1);
	return nr_wrong;
}

static void part_open(struct part *part, uint64_t half)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.flags = DVSM_REGION_F_REGISTRABLE,
		.label = "window",
	};

	part->region = dvsm_region_create(2 * half + 4096, &options);
	if (!part->region)
		die("dvsm_region_create");
	part->words = dvsm_region_map(part->region, 0, 0, PROT_READ | PROT_WRITE, NULL);
	if (!part->words)
		die("dvsm_region_map");
	part->nr_words = half / sizeof(uint64_t);
	part->counter = part->words + 2 * part->nr_words;
}

/* Puts to the next rank, gets from the previous one, counts at rank 0. */
static size_t window_use(struct part *part, MPI_Win window)
{
	int next = (rank + 1) % nr_ranks, previous = (rank + nr_ranks - 1) % nr_ranks;
	uint64_t *seen = malloc(part->nr_words * sizeof(*seen)), one = 1;
	size_t nr_wrong;

	if (!seen)
		die("malloc");
	fill(part->words + part->nr_words, part->nr_words, rank);
	MPI_Win_fence(0, window);
	MPI_Put(part->words + part->nr_words, part->nr_words, MPI_UINT64_T, next, 0,
		part->nr_words, MPI_UINT64_T, window);
	MPI_Get(seen, part->nr_words, MPI_UINT64_T, previous, part->nr_words, part->nr_words,
		MPI_UINT64_T, window);
	MPI_Accumulate(&one, 1, MPI_UINT64_T, 0, 2 * part->nr_words, 1, MPI_UINT64_T, MPI_SUM,
		       window);
	MPI_Win_fence(0, window);
	nr_wrong = wrong(part->words, part->nr_words, previous) +
		   wrong(seen, part->nr_words, previous);
	if (!rank)
		nr_wrong += *part->counter != (uint64_t)nr_ranks;
	free(seen);
	return nr_wrong;
}

/* Passes a message once around, from block to block. */
static size_t message_pass(void)
{
	int next = (rank + 1) % nr_ranks, previous = (rank + nr_ranks - 1) % nr_ranks;
	size_t nr = MESSAGE / sizeof(uint64_t), nr_wrong;
	uint64_t *out = dvsm_malloc(MESSAGE), *in = dvsm_malloc(MESSAGE);

	if (!out || !in)
		die("dvsm_malloc");
	fill(out, nr, rank + 100);
	MPI_Sendrecv(out, nr, MPI_UINT64_T, next, 0, in, nr, MPI_UINT64_T, previous, 0,
		     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	nr_wrong = wrong(in, nr, previous + 100);
	dvsm_free(in);
	dvsm_free(out);
	return nr_wrong;
}

int main(int argc, char **argv)
{
	unsigned long long nr_wrong, all_wrong;
	struct part part;
	uint64_t half;
	MPI_Win window;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &nr_ranks);
	half = (argc > 1 ? strtoull(argv[1], NULL, 0) : 8) << 19;
	part_open(&part, half);
	MPI_Win_create(part.words, dvsm_region_length(part.region), sizeof(uint64_t),
		       MPI_INFO_NULL, MPI_COMM_WORLD, &window);
	nr_wrong = window_use(&part, window);
	MPI_Win_free(&window);
	nr_wrong += message_pass();
	MPI_Reduce(&nr_wrong, &all_wrong, 1, MPI_UNSIGNED_LONG_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
	if (!rank)
		printf("mpi-window: %d ranks, %llu MiB each on %s: %llu words are wrong\n",
		       nr_ranks, (unsigned long long)half >> 19,
		       dvsm_backend_name(dvsm_region_backend(part.region)), all_wrong);
	dvsm_region_unmap(part.words, dvsm_region_length(part.region));
	dvsm_region_destroy(part.region);
	MPI_Finalize();
	return nr_wrong ? 1 : 0;
}
