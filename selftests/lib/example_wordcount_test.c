// SPDX-License-Identifier: GPL-2.0-only
/*
 * wordcount: the shard that a worker writes to is on its own node, and the shards together
 * count what one table would. wordcount_test.sh has the texts that could break it.
 */
#include <ftw.h>
#include <sys/stat.h>

#include "kselftest_harness.h"
#include "example_test.h"

struct text {
	char directory[64];
	long long nr_words;
};

static bool text_make(struct text *text)
{
	static const char *const words[] = { "node", "shard", "local", "remote", "merge" };
	char path[128];
	FILE *file;
	int i, j;

	strcpy(text->directory, "/tmp/dvsm-text.XXXXXX");
	if (!mkdtemp(text->directory))
		return false;
	/* Files are given out one by one, so that all workers get some. */
	for (i = 0; i < 24; i++) {
		snprintf(path, sizeof(path), "%s/%d", text->directory, i);
		file = fopen(path, "w");
		if (!file)
			return false;
		for (j = 0; j < 20000; j++, text->nr_words++)
			fprintf(file, "%s%c%c%c\n", words[j % 5], 'a' + j % 26, 'a' + j / 26 % 26,
				'a' + i);
		fclose(file);
	}
	return true;
}

static int remove_it(const char *path, const struct stat *stat, int type, struct FTW *at)
{
	return remove(path);
}

static void text_remove(const struct text *text)
{
	nftw(text->directory, remove_it, 8, FTW_DEPTH | FTW_PHYS);
}

static void node_set_read(const char *name, char *text, size_t size)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/devices/system/node/%s", name);
	file = fopen(path, "r");
	if (!file || !fgets(text, (int)size, file))
		*text = '\0';
	if (file)
		fclose(file);
}

/* Nodes that have CPUs, each with memory too, are two or more. */
static bool workers_have_nodes_of_their_own(void)
{
	char cpu[64], memory[64];

	node_set_read("has_cpu", cpu, sizeof(cpu));
	node_set_read("has_memory", memory, sizeof(memory));
	return strpbrk(cpu, ",-") && !strcmp(cpu, memory);
}

/* What the end table says: chunks in all, and those that are where they should be. */
static bool said_local(long long *nr_local, long long *nr)
{
	const char *at = strstr(said, " chunks are on the node of their shard's workers");

	while (at && at > said && at[-1] != '\n')
		at--;
	return at && sscanf(at, "%lld of %lld chunks", nr_local, nr) == 2;
}

/* Shards 0 and 1 have words: on either node a worker came before the others had taken all files. */
static bool said_both_have_words(void)
{
	const char *shards = strstr(said, "\nshard ");
	long long nr[2] = { 0, 0 };

	if (shards)
		sscanf(shards, " shard %*[^\n] 0 %*d %lld %*[^\n] 1 %*d %lld", &nr[0], &nr[1]);
	return nr[0] && nr[1];
}

FIXTURE(device) {
	struct text text;
};

FIXTURE_SETUP(device)
{
	NEED_DEVICE();
	if (!workers_have_nodes_of_their_own())
		SKIP(return, "no two nodes with CPUs and memory");
	ASSERT_TRUE(text_make(&self->text));
}

FIXTURE_TEARDOWN(device)
{
	text_remove(&self->text);
}

TEST_F(device, shards_are_on_the_nodes_of_their_workers)
{
	long long nr_local = -1, nr = -1;
	int tries = 0;

	do
		ASSERT_EXAMPLE(0, "-q -b dvsm -w 4 --verify=sort %s", self->text.directory);
	while (!said_both_have_words() && ++tries < 10);
	EXPECT_EQ(self->text.nr_words, said_before(" words, "));
	ASSERT_TRUE(said_local(&nr_local, &nr)) TH_LOG("%s", said);
	/* Of each shard the slots and the words. */
	EXPECT_LE(4, nr);
	EXPECT_EQ(nr, nr_local) TH_LOG("%s", said);
	EXPECT_NE(NULL, strstr(said, "\n0             0 "));
	EXPECT_NE(NULL, strstr(said, "\n1             1 "));
	EXPECT_EQ(NULL, strstr(said, "could not be asked for"));
}

TEST_F(device, populated_shards_are_too)
{
	long long nr_local = -1, nr = -1;

	ASSERT_EXAMPLE(0, "-q -b dvsm -w 2 -P --verify=sort %s", self->text.directory);
	ASSERT_TRUE(said_local(&nr_local, &nr)) TH_LOG("%s", said);
	EXPECT_EQ(nr, nr_local) TH_LOG("%s", said);
}

FIXTURE(any) {
	struct text text;
};

FIXTURE_SETUP(any)
{
	ASSERT_TRUE(text_make(&self->text));
}

FIXTURE_TEARDOWN(any)
{
	text_remove(&self->text);
}

TEST_F(any, one_worker_has_one_shard)
{
	EXPECT_EXAMPLE(0, "-q -w 1 --verify=sort %s", self->text.directory);
	EXPECT_NE(NULL, strstr(said, "\n0 "));
	EXPECT_EQ(NULL, strstr(said, "\n1 "));
	EXPECT_EQ(self->text.nr_words, said_before(" words, "));
}

TEST_F(any, memfd_counts_the_same_and_says_where_it_is)
{
	static const char *const backends[] = { "memfd", "memfd-thp", "memfd-4k" };
	char line[64];

	for (int i = 0; i < 3; i++) {
		snprintf(line, sizeof(line), "-q -b %s -w 4 --verify=sort %%s", backends[i]);
		EXPECT_EXAMPLE(0, line, self->text.directory);
		EXPECT_EQ(self->text.nr_words, said_before(" words, "));
		EXPECT_TRUE(strstr(said, "one shard, placed by nobody") ||
			    strstr(said, "of their shard's workers")) TH_LOG("%s", said);
	}
}

TEST_HARNESS_MAIN
