// SPDX-License-Identifier: GPL-2.0-only
/*
 * A node whose memory goes offline while regions have some there, and comes back. That
 * takes a node of ZONE_MOVABLE alone, which check.sh makes in a machine of its own.
 */
#include <glob.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "snapshot.h"

#define LENGTH	(6 * CHUNK + 5 * PAGE)

FIXTURE(offline) {
	int dev;
	int fd;			/* bound to @node, all there, stamped with 1 */
	int node;		/* that can go offline */
	uint64_t there;
	char *map;
};

/* Its memory blocks' files. */
static int blocks_of(int node, glob_t *blocks)
{
	char pattern[80];

	snprintf(pattern, sizeof(pattern), "/sys/devices/system/node/node%d/memory[0-9]*", node);
	return glob(pattern, 0, NULL, blocks);
}

static bool block_says(const char *block, const char *file, const char *word)
{
	char path[128], text[64];

	snprintf(path, sizeof(path), "%s/%s", block, file);
	return !read_text(path, text, sizeof(text)) && !strncmp(text, word, strlen(word));
}

static bool is_movable(int node)
{
	glob_t blocks;
	size_t i;

	if (blocks_of(node, &blocks))
		return false;
	for (i = 0; i < blocks.gl_pathc; i++)
		if (!block_says(blocks.gl_pathv[i], "valid_zones", "Movable"))
			break;
	return i && i == blocks.gl_pathc;
}

static void wake_up(int signal)
{
	(void)signal;
}

/* All of a node's memory; a signal ends what the kernel would try for ever. */
static int node_set_state(int node, const char *state, unsigned int seconds)
{
	const struct sigaction action = { .sa_handler = wake_up };
	char path[128];
	glob_t blocks;
	int ret = 0;
	size_t i;

	if (blocks_of(node, &blocks))
		return -ENOENT;
	sigaction(SIGALRM, &action, NULL);
	for (i = 0; i < blocks.gl_pathc && !ret; i++) {
		if (block_says(blocks.gl_pathv[i], "state", state))
			continue;
		snprintf(path, sizeof(path), "%s/state", blocks.gl_pathv[i]);
		alarm(seconds);
		ret = write_text(path, state);
		alarm(0);
	}
	globfree(&blocks);
	return ret;
}

/* The kernel gives up where pages are busy for a moment. */
static int node_go_offline(int node)
{
	unsigned long end = clock_ms() + 90000;
	int ret;

	do {
		ret = node_set_state(node, "offline", 60);
	} while ((ret == -EBUSY || ret == -EAGAIN) && clock_ms() < end);
	return ret;
}

FIXTURE_SETUP(offline)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	for (self->node = 63; self->node >= 0; self->node--)
		if (node_mask() >> self->node & 1 && is_movable(self->node))
			break;
	if (self->node < 0)
		SKIP(return, "no node whose memory can go offline");
	self->there = 1ULL << self->node;
	self->fd = region_create_on(self->dev, LENGTH, 0, DVSM_POLICY_BIND, self->there);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, region_populate(self->fd, 0, 4 * CHUNK, NULL));
	self->map = region_map(self->fd, LENGTH, 0);
	ASSERT_NE(MAP_FAILED, self->map);
	stamp(self->map, 4 * CHUNK, 1);
	stamp(self->map + 6 * CHUNK, 5 * PAGE, 1);
	ASSERT_EQ(self->node, page_node(self->map));
}

FIXTURE_TEARDOWN_PARENT(offline)
{
	int node;

	for (node = 0; node < 64; node++)
		node_set_state(node, "online_movable", 60);
	EXPECT_NO_LEAK();
}

/* Nothing of it is on the node, and the kernel says so too; it reads as ever. */
static void expect_moved_away(struct __test_metadata *_metadata, FIXTURE_DATA(offline) *self)
{
	struct dvsm_node_stats nodes[64] = {};
	struct dvsm_chunk chunks[8];
	unsigned int nr_folios = 0;
	int i, nr;

	EXPECT_EQ(0, stamps_wrong(self->map, 4 * CHUNK, 1));
	EXPECT_EQ(0, stamps_wrong(self->map + 6 * CHUNK, 5 * PAGE, 1));
	nr = region_residency(self->fd, 0, 0, chunks, 8);
	EXPECT_LE(5, nr);
	for (i = 0; i < nr; i++) {
		EXPECT_NE(self->node, chunks[i].node);
		nr_folios += chunks[i].nr_folios;
		EXPECT_EQ(chunks[i].node, page_node(self->map + chunks[i].offset));
	}
	ASSERT_EQ(0, region_nodes(self->fd, nodes, 64));
	EXPECT_EQ(0, nodes[self->node].out_resident);
	EXPECT_EQ(nr_folios, nodes[self->node].out_nr_moved_out);
	EXPECT_EQ(0, nodes[self->node].out_nr_moved_out_user);
	EXPECT_EQ(0, nodes[self->node].out_nr_moved_out_balancing);
}

static bool may_use(int node)
{
	unsigned long nodes[16] = { 0 };

	/* MPOL_F_MEMS_ALLOWED */
	return syscall(SYS_get_mempolicy, NULL, nodes, 1024UL, NULL, 1UL << 2) ||
	       nodes[0] >> node & 1;
}

TEST_F(offline, what_is_there_moves_away_and_later_answers_are_those_of_mbind)
{
	char *own = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct dvsm_region_pin pin = { .size = sizeof(pin), .length = CHUNK };
	unsigned long end;

	ASSERT_NE(MAP_FAILED, own);
	ASSERT_EQ(0, syscall(SYS_mbind, own, PAGE, MPOL_BIND, &self->there, 65UL, 0U));
	/* Who shall go offline cannot be pinned. */
	EXPECT_EQ(-1, ioctl(self->fd, DVSM_IOC_REGION_PIN, &pin));
	EXPECT_EQ(EOPNOTSUPP, errno);
	ASSERT_EQ(0, node_go_offline(self->node));
	ASSERT_EQ(0, node_mask() & self->there);
	expect_moved_away(_metadata, self);

	/* A worker tells the tasks. */
	end = clock_ms() + 60000;
	while (may_use(self->node) && clock_ms() < end)
		sleep_ms(10);
	ASSERT_FALSE(may_use(self->node));
	/* A binding from before goes on elsewhere, the process's own and the region's. */
	EXPECT_EQ(0, write_at(own, 1));
	EXPECT_EQ(0, write_at(self->map + 4 * CHUNK, 1));
	EXPECT_EQ(1, pwrite(self->fd, "x", 1, 5 * CHUNK));
	EXPECT_EQ(0, read_at(self->map + 5 * CHUNK));
	EXPECT_NE(self->node, page_node(own));
	EXPECT_NE(self->node, page_node(self->map + 4 * CHUNK));
	EXPECT_NE(self->node, page_node(self->map + 5 * CHUNK));
	/* A new one is refused. */
	EXPECT_EQ(-1, syscall(SYS_mbind, own + PAGE, PAGE, MPOL_BIND, &self->there, 65UL, 0U));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-EINVAL, region_place(self->fd, 0, 0, DVSM_POLICY_BIND, self->there, NULL));
	EXPECT_EQ(-EINVAL, region_create_on(self->dev, CHUNK, 0, DVSM_POLICY_BIND, self->there));
	EXPECT_EQ(-EINVAL, region_migrate(self->fd, 0, 0, self->there, NULL));

	/* It comes back, and all of that is as before. */
	ASSERT_EQ(0, node_set_state(self->node, "online_movable", 60));
	end = clock_ms() + 60000;
	while (!may_use(self->node) && clock_ms() < end)
		sleep_ms(10);
	EXPECT_EQ(0, region_place(self->fd, 0, 0, DVSM_POLICY_BIND, self->there, NULL));
	ASSERT_EQ(0, region_discard(self->fd, 5 * CHUNK, CHUNK, NULL));
	EXPECT_EQ(0, write_at(self->map + 5 * CHUNK, 1));
	EXPECT_EQ(self->node, page_node(self->map + 5 * CHUNK));
	EXPECT_EQ(0, region_migrate(self->fd, 0, 0, self->there, NULL));
	EXPECT_EQ(0, stamps_wrong(self->map, 4 * CHUNK, 1));
	EXPECT_EQ(self->node, page_node(self->map));
}

TEST_F(offline, memory_that_somebody_holds_is_not_taken_away)
{
	struct iovec iovec = { .iov_base = self->map + CHUNK, .iov_len = PAGE };
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(PAGE, vmsplice(ends[1], &iovec, 1, 0));
	/* It would try until then. */
	EXPECT_GT(0, node_set_state(self->node, "offline", 3));
	EXPECT_NE(0, node_mask() & self->there);
	EXPECT_EQ(0, stamps_wrong(self->map, 4 * CHUNK, 1));
	EXPECT_EQ(self->node, page_node(self->map + CHUNK));
	close(ends[0]);
	close(ends[1]);
	ASSERT_EQ(0, node_go_offline(self->node));
	expect_moved_away(_metadata, self);
}

TEST_HARNESS_MAIN
