/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What tests of random histories share: numbers from a seed, and the place where a
 * history went wrong.
 *
 * DVSM_SEED and DVSM_STEPS choose the history; without DVSM_STEPS it is as long as
 * DVSM_TEST_SECONDS allow twice over.
 */
#ifndef DVSM_SELFTEST_MODEL_H
#define DVSM_SELFTEST_MODEL_H

#include <time.h>

#include "snapshot.h"

static uint64_t state;
static unsigned long step;
static const char *action = "";

static uint64_t draw(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 11) % below;
}

static void fail(const char *what)
{
	ksft_print_msg("step %lu, %s: %s (errno %d)\n", step, action, what, errno);
	exit(KSFT_FAIL);
}

static void check(bool holds, const char *what)
{
	if (!holds)
		fail(what);
}

static unsigned long from_env(const char *name, unsigned long otherwise)
{
	const char *value = getenv(name);

	return value ? strtoul(value, NULL, 0) : otherwise;
}

/* Call @one_step as often as the environment says; @after_step after each, or NULL. */
static void history_run(void (*one_step)(void), void (*after_step)(void))
{
	unsigned long end = clock_ms() + from_env("DVSM_TEST_SECONDS", 15) * 2000;
	unsigned long nr_steps = from_env("DVSM_STEPS", 0);
	unsigned long seed = from_env("DVSM_SEED", time(NULL) ^ getpid());

	state = seed * 0x9e3779b97f4a7c15ull | 1;
	ksft_print_msg("DVSM_SEED=%lu DVSM_STEPS=%lu\n", seed, nr_steps);
	for (step = 0; nr_steps ? step < nr_steps : clock_ms() < end; step++) {
		one_step();
		if (after_step)
			after_step();
	}
}

#endif /* DVSM_SELFTEST_MODEL_H */
