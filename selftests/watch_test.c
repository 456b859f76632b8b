// SPDX-License-Identifier: GPL-2.0-only
/*
 * The list of regions, and descriptors that only look: what they tell, to whom, and
 * that they keep nothing.
 */
#include <sys/syscall.h>

#include "fixture.h"

#define LENGTH (4 * CHUNK)

FIXTURE(watch) {
	int dev;
	int fd;
	uint64_t id;
};

FIXTURE_SETUP(watch)
{
	struct dvsm_region_info info;

	OPEN_DEVICE_OR_SKIP(self->dev);
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, region_info(self->fd, &info));
	self->id = info.out_id;
}

FIXTURE_TEARDOWN_PARENT(watch)
{
	EXPECT_NO_LEAK();
}

static unsigned int seconds(void)
{
	const char *wish = getenv("DVSM_TEST_SECONDS");

	return wish ? atoi(wish) : 3;
}

/* How often the list has a region; the first such entry. */
static int listed(int dev, uint64_t id, struct dvsm_region_entry *entry)
{
	struct dvsm_region_entry some[3];
	uint64_t cursor = 0;
	int nr, i, found = 0;

	while ((nr = region_list(dev, &cursor, some, ARRAY_SIZE(some))) > 0)
		for (i = 0; i < nr; i++)
			if (some[i].id == id && !found++ && entry)
				*entry = some[i];
	return nr < 0 ? nr : found;
}

TEST_F(watch, list_tells_what_a_region_is)
{
	struct dvsm_region_create create = {
		.size = sizeof(create),
		.flags = DVSM_REGION_F_REGISTRABLE,
		.length = 3 * CHUNK,
		.policy = DVSM_POLICY_LOCAL,
		.label = "labelled",
	};
	int fd = ioctl(self->dev, DVSM_IOC_REGION_CREATE, &create), snapshot;
	struct dvsm_snapshot_take take = { .size = sizeof(take) };
	struct dvsm_region_entry entry = {};
	struct dvsm_region_info info;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_info(fd, &info));
	ASSERT_EQ(0, region_populate(fd, 0, CHUNK, NULL));
	ASSERT_EQ(1, listed(self->dev, info.out_id, &entry));
	EXPECT_EQ(0, entry.parent_id);
	EXPECT_EQ(3 * CHUNK, entry.length);
	EXPECT_EQ(CHUNK, entry.charged);
	EXPECT_EQ(DVSM_REGION_F_REGISTRABLE, entry.flags);
	EXPECT_EQ(DVSM_POLICY_LOCAL, entry.policy);
	EXPECT_EQ(getuid(), entry.uid);
	EXPECT_EQ(1, entry.nr_files);
	EXPECT_STREQ("labelled", (char *)entry.label);

	snapshot = ioctl(self->fd, DVSM_IOC_SNAPSHOT_TAKE, &take);
	ASSERT_LE(0, snapshot);
	ASSERT_EQ(0, region_info(snapshot, &info));
	ASSERT_EQ(1, listed(self->dev, info.out_id, &entry));
	EXPECT_EQ(self->id, entry.parent_id);
	close(snapshot);
	EXPECT_EQ(0, listed(self->dev, info.out_id, &entry));
}

TEST_F(watch, list_has_every_region_once_in_order)
{
	enum { NR = 300 };
	struct dvsm_region_entry all[NR + 64];
	uint64_t ids[NR], cursor = 0, far = UINT64_MAX;
	struct dvsm_region_info info;
	int i, nr, at = 0;

	for (i = 0; i < NR; i++) {
		int fd = region_create(self->dev, CHUNK, 0);

		ASSERT_LE(0, fd);
		ASSERT_EQ(0, region_info(fd, &info));
		ids[i] = info.out_id;
	}
	nr = region_list(self->dev, &cursor, all, ARRAY_SIZE(all));
	ASSERT_LE(NR, nr);
	for (i = 0; i < nr; i++) {
		if (i) {
			EXPECT_LT(all[i - 1].id, all[i].id);
		}
		at += at < NR && all[i].id == ids[at];
	}
	EXPECT_EQ(NR, at);
	EXPECT_EQ(0, region_list(self->dev, &cursor, all, ARRAY_SIZE(all)));
	EXPECT_EQ(0, region_list(self->dev, &far, all, ARRAY_SIZE(all)));
	EXPECT_EQ(1, listed(self->dev, ids[NR / 2], NULL));
	EXPECT_EQ(-EINVAL, region_list(self->dev, &cursor, all, 0));
	cursor = 0;
	EXPECT_EQ(-EFAULT, region_list(self->dev, &cursor, NULL, 1));
}

TEST_F(watch, looks_and_does_nothing_else)
{
	int watch = region_watch(self->dev, self->id), fd;
	struct dvsm_region_info seen, info;
	struct dvsm_chunk chunks[4];
	char byte = 1;

	ASSERT_LE(0, watch);
	ASSERT_EQ(1, pwrite(self->fd, &byte, 1, CHUNK));
	ASSERT_EQ(0, region_info(self->fd, &info));
	ASSERT_EQ(0, region_info(watch, &seen));
	EXPECT_EQ(DVSM_REGION_F_READ_ONLY, seen.out_flags);
	seen.out_flags = info.out_flags;
	EXPECT_EQ(0, memcmp(&info, &seen, sizeof(info)));
	ASSERT_EQ(1, region_residency(watch, 0, 0, chunks, ARRAY_SIZE(chunks)));
	EXPECT_EQ(CHUNK, chunks[0].offset);

	EXPECT_EQ(-1, pread(watch, &byte, 1, CHUNK));
	EXPECT_EQ(-1, read(watch, &byte, 1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, write(watch, &byte, 1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, watch, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LENGTH, PROT_NONE, MAP_SHARED, watch, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LENGTH, PROT_READ, MAP_PRIVATE, watch, 0));
	EXPECT_EQ(-1, ftruncate(watch, LENGTH));
	EXPECT_EQ(-1, fallocate(watch, 0, 0, CHUNK));
	/* Nor does it become more by being opened again. */
	fd = fd_reopen(watch, O_RDONLY);
	EXPECT_GT(0, fd);
	EXPECT_GT(0, fd_reopen(watch, O_RDWR));
}

/* What a move tells to those who look on. */
struct progress {
	volatile uint64_t under_way;	/* number of the move, from 1; 0: none */
	volatile bool seen_by_watch, seen_by_fdinfo;
	volatile bool stop;
};

/* Moves that were done, as a watch tells; UINT64_MAX: nothing. */
static uint64_t moved_by_watch(int watch)
{
	struct dvsm_node_stats nodes[64] = {};
	uint64_t nr = 0;
	int i;

	if (region_nodes(watch, nodes, 64))
		return UINT64_MAX;
	for (i = 0; i < 64; i++)
		nr += nodes[i].out_nr_moved_in_command;
	return nr;
}

static uint64_t moved_by_fdinfo(pid_t pid, int fd)
{
	char path[64], text[4096], *at;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
	if (read_text(path, text, sizeof(text)))
		return UINT64_MAX;
	at = strstr(text, "dvsm-moved:");
	return at ? strtoull(at + strlen("dvsm-moved:"), NULL, 10) : UINT64_MAX;
}

/* Until both ways have shown a move that is neither at its begin nor at its end. */
static int look_at_progress(struct progress *progress, uint64_t id, int fd, uint64_t nr_chunks)
{
	int watch = region_watch(device_open(O_RDWR), id);
	uint64_t last = 0;

	while (!progress->stop) {
		uint64_t move = progress->under_way;
		uint64_t by_watch = moved_by_watch(watch), by_fdinfo = moved_by_fdinfo(getppid(), fd);

		if (by_watch < last || by_watch == UINT64_MAX || by_fdinfo == UINT64_MAX)
			return 1;
		last = by_watch;
		if (!move || move != progress->under_way)
			continue;
		if (by_watch > (move - 1) * nr_chunks && by_watch < move * nr_chunks)
			progress->seen_by_watch = true;
		if (by_fdinfo > (move - 1) * nr_chunks && by_fdinfo < move * nr_chunks)
			progress->seen_by_fdinfo = true;
	}
	return 0;
}

TEST_F(watch, other_process_sees_how_far_a_move_has_come)
{
	enum { NR = 64 };
	const int nodes[2] = { __builtin_ctzll(node_mask()), 63 - __builtin_clzll(node_mask()) };
	struct progress *progress = share_anonymous(sizeof(*progress));
	unsigned long end = clock_ms() + 120000;
	struct dvsm_region_migrate arg;
	struct dvsm_region_info info;
	uint64_t nr = 0;
	pid_t pid;
	int fd;

	NEED_NODES(2);
	fd = region_create_on(self->dev, NR * CHUNK, 0, DVSM_POLICY_BIND, 1ULL << nodes[0]);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_populate(fd, 0, 0, NULL));
	ASSERT_EQ(0, region_info(fd, &info));
	pid = child_start();
	if (!pid) {
		close(fd);
		_exit(look_at_progress(progress, info.out_id, fd, NR));
	}
	do {
		progress->under_way = ++nr;
		ASSERT_EQ(0, region_migrate(fd, 0, 0, 1ULL << nodes[nr % 2], &arg));
		progress->under_way = 0;
		EXPECT_EQ(NR * CHUNK, arg.out_moved);
		ASSERT_EQ(nr * NR, moved_by_watch(fd));
	} while (!(progress->seen_by_watch && progress->seen_by_fdinfo) && clock_ms() < end);
	progress->stop = true;
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_TRUE(progress->seen_by_watch);
	EXPECT_TRUE(progress->seen_by_fdinfo);
}

TEST_F(watch, does_not_keep_the_region_or_its_memory)
{
	int watch = region_watch(self->dev, self->id);
	struct dvsm_region_info info;
	struct counts counts;

	ASSERT_LE(0, watch);
	ASSERT_EQ(0, region_populate(self->fd, 0, LENGTH, NULL));
	ASSERT_EQ(0, region_info(watch, &info));
	EXPECT_EQ(LENGTH, info.out_resident);
	close(self->fd);
	EXPECT_TRUE(counts_reach_zero(&counts, 60));
	EXPECT_EQ(-ENOENT, region_info(watch, &info));
	EXPECT_EQ(-ENOENT, region_watch(self->dev, self->id));
}

TEST_F(watch, keeps_the_module)
{
	int watch = region_watch(self->dev, self->id);
	struct counts counts;

	ASSERT_LE(0, watch);
	close(self->fd);
	close(self->dev);
	ASSERT_TRUE(counts_reach_zero(&counts, 60));
	EXPECT_EQ(-1, syscall(SYS_delete_module, "dvsm", O_NONBLOCK));
	EXPECT_EQ(EWOULDBLOCK, errno);
}

TEST_F(watch, unknown_ids_are_enoent)
{
	EXPECT_EQ(-ENOENT, region_watch(self->dev, 0));
	EXPECT_EQ(-ENOENT, region_watch(self->dev, self->id + 1));
	EXPECT_EQ(-ENOENT, region_watch(self->dev, UINT64_MAX));
}

TEST_F(watch, others_see_their_own_regions_and_root_sees_all)
{
	struct dvsm_region_entry entry = {};
	int watch = region_watch(self->dev, self->id), to_child[2], to_parent[2], status;
	struct dvsm_region_info info;
	uint64_t id = 0;
	pid_t pid;

	ASSERT_LE(0, watch);
	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	pid = child_start();
	ASSERT_LE(0, pid);
	if (!pid) {
		int fd, step = 1;

		if (become_nobody() || listed(self->dev, self->id, NULL) != 0)
			_exit(step);
		step++;
		if (region_watch(self->dev, self->id) != -EACCES)
			_exit(step);
		step++;
		fd = region_create(self->dev, CHUNK, 0);
		if (fd < 0 || region_info(fd, &info) || listed(self->dev, info.out_id, NULL) != 1)
			_exit(step);
		step++;
		/* His own, though he could not even read the descriptor that he was given. */
		if (region_watch(self->dev, info.out_id) < 0 || region_info(watch, &info))
			_exit(step);
		step++;
		if (region_info(fd, &info) ||
		    write(to_parent[1], &info.out_id, sizeof(id)) != sizeof(id) ||
		    read(to_child[0], &id, 1) != 1)
			_exit(step);
		_exit(0);
	}
	ASSERT_EQ(sizeof(id), read(to_parent[0], &id, sizeof(id)));
	ASSERT_EQ(1, listed(self->dev, id, &entry));
	EXPECT_EQ(NOBODY, entry.uid);
	EXPECT_LE(0, region_watch(self->dev, id));
	ASSERT_EQ(1, write(to_child[1], "", 1));
	status = child_wait(pid);
	EXPECT_EQ(0, status) TH_LOG("status %#x", status);
}

/* Regions come and go; whoever looks finds them whole or not at all. */
TEST_F(watch, looking_at_regions_that_come_and_go)
{
	unsigned long end = clock_ms() + seconds() * 1000;
	struct dvsm_region_entry some[8];
	struct dvsm_region_info info;
	struct dvsm_chunk chunks[4];
	unsigned long nr_looks = 0;
	int i, makers = 2, status;
	pid_t pids[2];

	for (i = 0; i < makers; i++) {
		pids[i] = child_start();
		ASSERT_LE(0, pids[i]);
		if (pids[i])
			continue;
		while (clock_ms() < end) {
			int fd = region_create(self->dev, LENGTH, 0);

			if (fd < 0 || pwrite(fd, "x", 1, CHUNK) != 1)
				_exit(1);
			close(fd);
		}
		_exit(0);
	}
	do {
		uint64_t cursor = 0;
		int nr;

		while ((nr = region_list(self->dev, &cursor, some, ARRAY_SIZE(some))) > 0) {
			for (i = 0; i < nr; i++) {
				int watch = region_watch(self->dev, some[i].id), ret;

				if (watch < 0) {
					EXPECT_EQ(-ENOENT, watch);
					continue;
				}
				ret = region_info(watch, &info);
				if (!ret) {
					EXPECT_EQ(some[i].id, info.out_id);
					EXPECT_EQ(LENGTH, info.out_length);
					nr_looks++;
				} else {
					EXPECT_EQ(-ENOENT, ret);
				}
				ret = region_residency(watch, 0, 0, chunks, ARRAY_SIZE(chunks));
				EXPECT_TRUE(ret == -ENOENT || (ret >= 0 && ret <= 1))
					TH_LOG("%d", ret);
				close(watch);
			}
		}
		EXPECT_EQ(0, nr);
	} while (clock_ms() < end);
	EXPECT_LT(0, nr_looks);
	for (i = 0; i < makers; i++) {
		status = child_wait(pids[i]);
		EXPECT_EQ(0, status);
	}
}

TEST_HARNESS_MAIN
