// SPDX-License-Identifier: GPL-2.0-only
/* dvsm-checkpoint: files that give exactly the state at a checkpoint, or are refused. */
#include "kselftest_harness.h"
#include "example_test.h"
#include "../../libdvsm/examples/dvsm-checkpoint.h"

#define SECONDS	250

static void directory_remove(const char *path)
{
	struct dirent *entry;
	DIR *dir = opendir(path);

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(path);
}

static off_t file_size(const char *directory, const char *name)
{
	char path[256];
	struct stat file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return stat(path, &file) ? -1 : file.st_size;
}

/* Changes one bit of the byte at @offset. */
static int file_damage(const char *directory, const char *name, off_t offset)
{
	char path[256], byte;
	int fd, error;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_RDWR);
	error = pread(fd, &byte, 1, offset) != 1;
	byte ^= 4;
	error |= pwrite(fd, &byte, 1, offset) != 1;
	close(fd);
	return error;
}

static int file_move(const char *from, const char *to, const char *name)
{
	char old[256], new[256];

	snprintf(old, sizeof(old), "%s/%s", from, name);
	snprintf(new, sizeof(new), "%s/%s", to, name);
	return rename(old, new);
}

/* The digest that restart printed. */
static unsigned long long digest(void)
{
	const char *at = strstr(said, "digest");

	return at ? strtoull(at + strcspn(at, " "), NULL, 16) : 0;
}

FIXTURE(device)
{
	char directory[64];
};

FIXTURE_SETUP(device)
{
	NEED_DEVICE();
	strcpy(self->directory, "/tmp/dvsm-checkpoint-test.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->directory));
}

FIXTURE_TEARDOWN(device)
{
	directory_remove(self->directory);
}

TEST_F_TIMEOUT(device, every_checkpoint_is_the_table_after_a_number_of_steps, SECONDS)
{
	EXPECT_EXAMPLE(0, "--verify -s 16 -n 4 -i 30", NULL);
	EXPECT_EQ(4, said_before(" checkpoints, "));
	EXPECT_NE(NULL, strstr(said, "all equal"));
}

TEST_F_TIMEOUT(device, also_of_a_table_that_changes_as_fast_as_it_can, SECONDS)
{
	EXPECT_EXAMPLE(0, "--verify -s 8 -n 5 -i 5 -R 0", NULL);
	EXPECT_EQ(5, said_before(" checkpoints, "));
}

TEST_F_TIMEOUT(device, checkpoints_hold_what_has_changed_and_no_more, SECONDS)
{
	off_t size;

	/* 4 MiB of the 64 at a time, for 65536 steps: a minute, however late a checkpoint is. */
	ASSERT_EXAMPLE(0, "run -s 64 -n 3 -i 50 -R 1000 %s", self->directory);
	for (int i = 1; i <= 3; i++) {
		char name[] = { '0', '0', '0', '0', '0', '0' + i, '.', 'd', 'v', 's', 'm', 0 };

		size = file_size(self->directory, name);
		EXPECT_LT(0, size);
		EXPECT_GT((off_t)(8 * CHUNK), size);
	}
}

TEST_F_TIMEOUT(device, restart_gives_the_same_from_any_checkpoint_on_any_backend, SECONDS)
{
	unsigned long long at[4];
	char line[128];

	/* Between any two of them the other process gets to make a step. */
	ASSERT_EXAMPLE(0, "run -s 8 -n 3 -i 500 -R 10000 %s", self->directory);
	for (int i = 1; i <= 3; i++) {
		snprintf(line, sizeof(line), "restart --at=%d %%s", i);
		ASSERT_EXAMPLE(0, line, self->directory);
		at[i] = digest();
		snprintf(line, sizeof(line), "restart -a %d -b memfd-4k --verify %%s", i);
		ASSERT_EXAMPLE(0, line, self->directory);
		EXPECT_EQ(at[i], digest());
		EXPECT_EQ(i, said_before(" checkpoints, "));
	}
	EXPECT_NE(at[1], at[2]);
	EXPECT_NE(at[2], at[3]);
	ASSERT_EXAMPLE(0, "restart %s", self->directory);
	EXPECT_EQ(at[3], digest());
	EXPECT_EXAMPLE(2, "restart --at=4 %s", self->directory);
}

TEST_F_TIMEOUT(device, restart_can_go_on_from_an_earlier_checkpoint, SECONDS)
{
	ASSERT_EXAMPLE(0, "run -s 8 -n 4 -i 20 -R 0 %s", self->directory);
	EXPECT_EXAMPLE(2, "run -s 8 %s", self->directory);
	EXPECT_EXAMPLE(0, "restart --at=2 --continue -n 3 -i 20 -R 0 --verify %s", self->directory);
	EXPECT_EQ(5, said_before(" checkpoints, "));
	EXPECT_NE(NULL, strstr(said, "all equal"));
	EXPECT_EXAMPLE(4, "restart --continue -b memfd %s", self->directory);
	EXPECT_EXAMPLE(0, "restart --verify %s", self->directory);
	EXPECT_EQ(5, said_before(" checkpoints, "));
}

TEST_F_TIMEOUT(device, damaged_files_and_files_of_another_run_are_refused, SECONDS)
{
	char other[64] = "/tmp/dvsm-checkpoint-test.XXXXXX";
	off_t size;

	ASSERT_NE(NULL, mkdtemp(other));
	/* Time for a step between any two, or there is nothing in a file to be damaged. */
	ASSERT_EXAMPLE(0, "run -s 4 -n 3 -i 500 -R 10000 %s", self->directory);
	ASSERT_EXAMPLE(0, "run -s 4 -n 2 -i 500 -R 10000 --seed=2 %s", other);
	size = file_size(self->directory, "000002.dvsm");
	for (int i = 0; i < 4; i++) {
		const off_t places[] = { 10, 40, 200, size - 1 };

		ASSERT_EQ(0, file_damage(self->directory, "000002.dvsm", places[i]));
		EXPECT_EXAMPLE(2, "restart %s", self->directory);
		EXPECT_NE(NULL, strstr(said, "checkpoint 2: damaged"));
		EXPECT_EXAMPLE(2, "restart --verify --at=2 %s", self->directory);
		EXPECT_EXAMPLE(0, "restart --at=1 %s", self->directory);
		ASSERT_EQ(0, file_damage(self->directory, "000002.dvsm", places[i]));
	}
	EXPECT_EXAMPLE(0, "restart --verify %s", self->directory);
	ASSERT_EQ(0, file_move(other, self->directory, "000002.dvsm"));
	EXPECT_EXAMPLE(2, "restart %s", self->directory);
	ASSERT_EQ(0, file_move(self->directory, other, "000002.dvsm"));
	EXPECT_EXAMPLE(0, "restart %s", self->directory);
	EXPECT_NE(NULL, strstr(said, "from checkpoint 1 "));
	directory_remove(other);
}

/* A snapshot rarely falls between the two stores that matter: here it does at each step. */
TEST(step_that_had_begun_is_finished_by_whoever_restarts)
{
	const uint64_t length = 2 * CHUNK;
	struct table *before = calloc(1, length), *after = calloc(1, length);
	struct table *middle = calloc(1, length);

	table_init(before, length, 3);
	table_init(after, length, 3);
	for (int i = 0; i < 50; i++) {
		table_step(after);
		memcpy(middle, before, length);
		*middle = *after;
		middle->done = before->done;
		ASSERT_FALSE(table_is_equal(middle, after));
		ASSERT_TRUE(table_is_sound(middle, length));
		ASSERT_TRUE(table_redo(middle));
		ASSERT_TRUE(table_is_equal(middle, after));
		ASSERT_FALSE(table_redo(middle));
		table_step(before);
		ASSERT_TRUE(table_is_equal(before, after));
	}
	free(before);
	free(after);
	free(middle);
}

TEST(without_snapshots_it_says_so_and_skips)
{
	static const char *const backends[] = { "memfd", "memfd-thp", "memfd-4k" };
	char line[64];

	for (int i = 0; i < 3; i++) {
		snprintf(line, sizeof(line), "--verify -b %s", backends[i]);
		EXPECT_EXAMPLE(4, line, NULL);
		EXPECT_NE(NULL, strstr(said, "has no snapshots"));
		EXPECT_NE(NULL, strstr(said, backends[i]));
	}
}

TEST(options_are_checked)
{
	EXPECT_EXAMPLE(0, "--help", NULL);
	EXPECT_EQ(0, strncmp(said, "usage: dvsm-checkpoint", 16));
	EXPECT_EXAMPLE(2, "", NULL);
	EXPECT_EXAMPLE(2, "run", NULL);
	EXPECT_EXAMPLE(2, "forget /tmp/nothing", NULL);
	EXPECT_EXAMPLE(2, "run --no-such-option /tmp/nothing", NULL);
	EXPECT_EXAMPLE(2, "run -n 0 /tmp/nothing", NULL);
	EXPECT_EXAMPLE(2, "run -b diskette /tmp/nothing", NULL);
	EXPECT_EXAMPLE(2, "restart /tmp/there/is/nothing", NULL);
}

TEST_HARNESS_MAIN
