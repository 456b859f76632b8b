// SPDX-License-Identifier: GPL-2.0-only
/*
 * One disturber at a time against writers who notice every byte: see storm.h.
 */
#include "storm.h"

#define NR_WRITERS	3
#define NR_DISTURBERS	2	/* of the same kind, also against one another */

FIXTURE(storm_race) {
	struct field *field;
};

FIXTURE_VARIANT(storm_race) {
	int (*disturb)(struct field *field);
};

#define DISTURBER(name) FIXTURE_VARIANT_ADD(storm_race, name) { .disturb = storm_##name, }

DISTURBER(move);
DISTURBER(migrate);
DISTURBER(promote);
DISTURBER(balance);
DISTURBER(snapshot);
DISTURBER(merge);
DISTURBER(advance);
DISTURBER(restore);
DISTURBER(overwrite);
DISTURBER(discard);
DISTURBER(remap);
DISTURBER(advise);
DISTURBER(fork);
DISTURBER(fork_copy);
DISTURBER(kill);
DISTURBER(cgroup);
DISTURBER(hotplug);
DISTURBER(poison);
DISTURBER(pin);
DISTURBER(names);
DISTURBER(close);

FIXTURE_SETUP(storm_race)
{
	const char *seconds = getenv("DVSM_TEST_SECONDS");
	int dev;

	OPEN_DEVICE_OR_SKIP(dev);
	self->field = field_make(dev, 600 * (seconds ? strtoul(seconds, NULL, 0) : 5));
	ASSERT_NE(NULL, self->field);
}

FIXTURE_TEARDOWN_PARENT(storm_race)
{
	EXPECT_NO_LEAK();
}

TEST_F(storm_race, loses_no_byte)
{
	struct field *field = self->field;
	pid_t pids[NR_WRITERS + NR_DISTURBERS];
	unsigned int i, wrong = 0;

	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = child_start();
		if (!pids[i])
			_exit(i < NR_WRITERS ? field_write(field, i) & 255 :
			      variant->disturb(field) & 255);
	}
	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		int status = child_wait(pids[i]);

		EXPECT_EQ(0, status) TH_LOG("process %u (line, modulo 256)", i);
		wrong += status != 0;
	}
	/* A test that is skipped has not failed. */
	ASSERT_EQ(0, wrong);
	ASSERT_EQ(0, field->nr_lost);
	ASSERT_LT(0, field->nr_words);
	if (field->missing)
		SKIP(return, "no %s", field->missing);
	EXPECT_TRUE(field_is_done(field));
	TH_LOG("%lu words, %lu rounds, %lu kills, %lu pages poisoned", field->nr_words,
	       field->nr_rounds, field->nr_kills, field->nr_poisons);
}

TEST_HARNESS_MAIN
