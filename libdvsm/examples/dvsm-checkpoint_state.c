// SPDX-License-Identifier: GPL-2.0-only
/* A table in a region, made from files, and the proof that it is the right one. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "dvsm-checkpoint.h"

int complain(const char *what, int error)
{
	if (error == -EBADMSG)
		fprintf(stderr, "dvsm-checkpoint: %s: damaged, or of another run\n", what);
	else
		fprintf(stderr, "dvsm-checkpoint: %s: %s\n", what, strerror(-error));
	return 2;
}

int state_create(struct state *state, uint32_t backend, uint64_t length)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = backend,
		.label = "dvsm-checkpoint",
	};

	state->length = length;
	state->table = NULL;
	state->region = dvsm_region_create(length, &options);
	if (!state->region)
		return complain(dvsm_backend_name(backend), -errno);
	state->table = dvsm_region_map(state->region, 0, 0, PROT_READ | PROT_WRITE, NULL);
	return state->table ? 0 : complain("mmap", -errno);
}

void state_destroy(struct state *state)
{
	if (state->table)
		dvsm_region_unmap(state->table, state->length);
	dvsm_region_destroy(state->region);
}

/* Loads up to checkpoint @last, 0 for all there are. */
int load(struct chain *chain, uint64_t last, struct state *state)
{
	char what[4200];
	int error = 0;

	while (!error && (!last || chain->number < last))
		error = checkpoint_load(chain, (char *)state->table, state->length);
	if (error == -ENOENT && !last && chain->number)
		error = 0;
	if (!error && !table_is_sound(state->table, state->length))
		error = -EBADMSG;
	if (!error)
		return 0;
	snprintf(what, sizeof(what), "%s: checkpoint %u", chain->directory, chain->number + 1);
	return complain(what, error);
}

/* The same region length as when the files were written. */
int state_create_for(struct state *state, uint32_t backend,
		     const struct chain *chain)
{
	struct head head;
	int error = checkpoint_head(chain, 1, &head);

	if (error)
		return complain(chain->directory, error);
	return state_create(state, backend, head.length);
}

/*
 * Loads one checkpoint after the other, and applies steps in memory until there
 * are as many: the two ways to get there have nothing in common but the steps.
 */
int verify(const char *directory, uint32_t backend, uint64_t last)
{
	struct chain chain = { .directory = directory };
	uint64_t nr_wrong = 0, nr_redone = 0, nr_steps = 0;
	struct table *replayed = MAP_FAILED;
	double start = now();
	struct state state = { 0 };
	struct head head;
	int error;

	error = state_create_for(&state, backend, &chain);
	while (!error && checkpoint_head(&chain, chain.number + 1, &head) != -ENOENT &&
	       (!last || chain.number < last)) {
		error = load(&chain, chain.number + 1, &state);
		if (error)
			break;
		if (replayed == MAP_FAILED) {
			replayed = mmap(NULL, state.length, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (replayed == MAP_FAILED) {
				error = complain("mmap", -errno);
				break;
			}
			table_init(replayed, state.length, state.table->seed);
		}
		nr_redone += table_redo(state.table);
		for (nr_steps = state.table->done; replayed->done < nr_steps;)
			table_step(replayed);
		if (!table_is_equal(replayed, state.table)) {
			printf("checkpoint %-4u is NOT the table after %" PRIu64 " steps\n",
			       chain.number, nr_steps);
			nr_wrong++;
		}
	}
	if (!error) {
		printf("verified         %u checkpoints, %" PRIu64 " of them in the middle of a step, against"
		       " %" PRIu64 " steps in %.1f s: ", chain.number, nr_redone, nr_steps, now() - start);
		if (nr_wrong)
			printf("%" PRIu64 " DIFFERENT\n", nr_wrong);
		else
			printf("all equal\n");
	}
	if (replayed != MAP_FAILED)
		munmap(replayed, state.length);
	if (state.region)
		state_destroy(&state);
	return error ? error : nr_wrong != 0;
}
