// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names of regions: who finds them, who may open and end them, and how long they last.
 */
#include <grp.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "fixture.h"

#define LENGTH (2 * CHUNK)

FIXTURE(name) {
	int dev;
	int fd;
};

FIXTURE_SETUP(name)
{
	OPEN_DEVICE_OR_SKIP(self->dev);
	umask(0);
	self->fd = region_create(self->dev, LENGTH, 0);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN_PARENT(name)
{
	EXPECT_NO_LEAK();
	EXPECT_EQ(0, stats_reach("names", 0, 60));
}

static bool reads(int fd, char wanted)
{
	char byte = 0;

	return pread(fd, &byte, 1, CHUNK) == 1 && byte == wanted;
}

static unsigned int seconds(void)
{
	const char *wish = getenv("DVSM_TEST_SECONDS");

	return wish ? atoi(wish) : 3;
}

TEST_F(name, opens_the_region_that_it_was_given_to)
{
	int fd;

	ASSERT_EQ(0, name_create(self->dev, "a", self->fd, 0600, 0));
	fd = name_open(self->dev, "a", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, pwrite(fd, "x", 1, CHUNK));
	EXPECT_TRUE(reads(self->fd, 'x'));
	EXPECT_EQ(O_RDWR, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
}

TEST_F(name, is_there_once_and_until_it_is_unlinked)
{
	int other = region_create(self->dev, CHUNK, 0), fd;

	ASSERT_LE(0, other);
	EXPECT_EQ(-ENOENT, name_open(self->dev, "a", 0));
	EXPECT_EQ(-ENOENT, name_unlink(self->dev, "a"));
	ASSERT_EQ(0, name_create(self->dev, "a", self->fd, 0600, 0));
	EXPECT_EQ(-EEXIST, name_create(self->dev, "a", other, 0600, 0));
	EXPECT_EQ(-EEXIST, name_create(self->dev, "a", self->fd, 0600, DVSM_NAME_F_KEEP));
	fd = name_open(self->dev, "a", 0);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, name_unlink(self->dev, "a"));
	EXPECT_EQ(-ENOENT, name_open(self->dev, "a", 0));
	EXPECT_EQ(1, pwrite(fd, "x", 1, CHUNK));
	EXPECT_TRUE(reads(self->fd, 'x'));
	EXPECT_EQ(0, name_create(self->dev, "a", other, 0600, 0));
}

TEST_F(name, region_may_have_several)
{
	ASSERT_EQ(0, name_create(self->dev, "a", self->fd, 0600, 0));
	ASSERT_EQ(0, name_create(self->dev, "b", self->fd, 0600, DVSM_NAME_F_KEEP));
	close(self->fd);
	EXPECT_LE(0, name_open(self->dev, "a", 0));
	EXPECT_EQ(0, name_unlink(self->dev, "b"));
	EXPECT_LE(0, name_open(self->dev, "a", 0));
}

TEST_F(name, without_keep_ends_with_the_last_descriptor_and_mapping)
{
	char *map = region_map(self->fd, LENGTH, 0);
	int fd;

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, name_create(self->dev, "a", self->fd, 0600, 0));
	close(self->fd);
	map[CHUNK] = 'y';
	fd = name_open(self->dev, "a", 0);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads(fd, 'y'));
	munmap(map, LENGTH);
	close(fd);
	EXPECT_EQ(0, stats_reach("names", 0, 60));
	EXPECT_EQ(-ENOENT, name_open(self->dev, "a", 0));
}

static int unload(void)
{
	return syscall(SYS_delete_module, "dvsm", O_NONBLOCK) ? -errno : 0;
}

TEST_F(name, with_keep_outlives_everybody_and_refuses_rmmod)
{
	int fd;

	ASSERT_EQ(1, pwrite(self->fd, "z", 1, CHUNK));
	ASSERT_EQ(0, name_create(self->dev, "kept", self->fd, 0600, DVSM_NAME_F_KEEP));
	close(self->fd);
	close(self->dev);
	/* The last close has ended all that it can end. */
	sleep_ms(100);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	self->dev = device_open(O_RDWR);
	ASSERT_LE(0, self->dev);
	fd = name_open(self->dev, "kept", 0);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(reads(fd, 'z'));
	EXPECT_EQ(0, name_unlink(self->dev, "kept"));
	EXPECT_TRUE(reads(fd, 'z'));
}

/* Who is a child of the test: @uid, @gid and one more group; no capabilities but root's. */
static int become(uid_t uid, gid_t gid, gid_t group)
{
	if (setgroups(1, &group) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		return -errno;
	return 0;
}

#define OWNER	1001
#define GROUP	2001

static const struct {
	uint32_t mode;
	uid_t uid;
	gid_t gid, group;
	int reads, writes;	/* 0 or -errno */
} permissions[] = {
	{ 0600, OWNER, 9, 9, 0, 0 },
	{ 0400, OWNER, 9, 9, 0, -EACCES },
	{ 0200, OWNER, 9, 9, -EACCES, -EACCES },
	{ 0077, OWNER, GROUP, GROUP, -EACCES, -EACCES },
	{ 0660, 1002, GROUP, 9, 0, 0 },
	{ 0660, 1002, 9, GROUP, 0, 0 },
	{ 0640, 1002, 9, GROUP, 0, -EACCES },
	{ 0606, 1002, 9, GROUP, -EACCES, -EACCES },
	{ 0660, 1002, 9, 9, -EACCES, -EACCES },
	{ 0604, 1002, 9, 9, 0, -EACCES },
	{ 0606, 1002, 9, 9, 0, 0 },
	{ 0600, 1002, 9, 9, -EACCES, -EACCES },
	{ 0000, 0, 0, 0, 0, 0 },	/* root has CAP_DAC_OVERRIDE */
};

static int open_and_close(int dev, uint32_t flags)
{
	int fd = name_open(dev, "a", flags);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

TEST_F(name, mode_decides_who_opens_it_and_how)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(permissions); i++) {
		pid_t pid = child_start();

		if (!pid)
			_exit(become(OWNER, GROUP, GROUP) ||
			      name_create(self->dev, "a", self->fd, permissions[i].mode, 0));
		ASSERT_EQ(0, child_wait(pid));
		pid = child_start();
		if (!pid) {
			if (become(permissions[i].uid, permissions[i].gid, permissions[i].group))
				_exit(3);
			if (open_and_close(self->dev, DVSM_NAME_F_READ_ONLY) != permissions[i].reads)
				_exit(1);
			_exit(open_and_close(self->dev, 0) != permissions[i].writes ? 2 : 0);
		}
		EXPECT_EQ(0, child_wait(pid)) TH_LOG("row %zu", i);
		ASSERT_EQ(0, name_unlink(self->dev, "a"));
	}
}

TEST_F(name, umask_takes_bits_away)
{
	struct dvsm_name name;

	umask(0027);
	ASSERT_EQ(0, name_create(self->dev, "a", self->fd, 0777, 0));
	ASSERT_EQ(1, name_list(self->dev, &name, 1));
	EXPECT_EQ(0750, name.mode);
}

TEST_F(name, root_of_another_user_namespace_has_no_power_over_it)
{
	pid_t pid;

	ASSERT_EQ(0, name_create(self->dev, "a", self->fd, 0600, 0));
	pid = child_start();
	if (!pid) {
		/* All capabilities, in a user namespace that does not own the IPC namespace. */
		if (become_nobody() || unshare(CLONE_NEWUSER) ||
		    write_text("/proc/self/uid_map", "0 65534 1") || geteuid())
			_exit(errno == EPERM || errno == ENOSPC ? 4 : 3);
		if (name_open(self->dev, "a", DVSM_NAME_F_READ_ONLY) != -EACCES)
			_exit(1);
		_exit(name_unlink(self->dev, "a") == -EACCES ? 0 : 2);
	}
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(name, owner_and_root_may_unlink_it_and_others_may_not)
{
	pid_t pid = child_start();

	if (!pid)
		_exit(become(OWNER, GROUP, GROUP) ||
		      name_create(self->dev, "a", self->fd, 0666, 0) ||
		      name_create(self->dev, "b", self->fd, 0666, 0) ||
		      name_unlink(self->dev, "a"));
	ASSERT_EQ(0, child_wait(pid));
	pid = child_start();
	if (!pid)
		_exit(become(1002, GROUP, GROUP) || name_unlink(self->dev, "b") != -EACCES);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(0, name_unlink(self->dev, "b"));
}

TEST_F(name, keep_is_for_the_user_whose_region_it_is)
{
	pid_t pid = child_start();

	if (!pid) {
		int own;

		if (become(OWNER, GROUP, GROUP))
			_exit(3);
		own = region_create(self->dev, CHUNK, 0);
		if (name_create(self->dev, "a", self->fd, 0600, DVSM_NAME_F_KEEP) != -EPERM)
			_exit(1);
		_exit(name_create(self->dev, "b", own, 0600, DVSM_NAME_F_KEEP) ||
		      name_unlink(self->dev, "b"));
	}
	EXPECT_EQ(0, child_wait(pid));
}

TEST_F(name, read_only_descriptors_stay_so_and_give_no_names)
{
	int fd, again;

	ASSERT_EQ(0, name_create(self->dev, "a", self->fd, 0600, 0));
	fd = name_open(self->dev, "a", DVSM_NAME_F_READ_ONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, pwrite(fd, "x", 1, 0));
	EXPECT_EQ(MAP_FAILED, region_map(fd, LENGTH, 0));
	EXPECT_EQ(-EBADF, name_create(self->dev, "b", fd, 0600, 0));
	again = region_reopen(fd, 0);
	ASSERT_LE(0, again);
	EXPECT_EQ(-1, pwrite(again, "x", 1, 0));
}

TEST_F(name, only_regions_can_have_one)
{
	int null = open("/dev/null", O_RDWR), path = fd_reopen(self->fd, O_PATH);

	EXPECT_EQ(-EBADF, name_create(self->dev, "a", -1, 0600, 0));
	EXPECT_EQ(-EBADF, name_create(self->dev, "a", null, 0600, 0));
	EXPECT_EQ(-EBADF, name_create(self->dev, "a", path, 0600, 0));
	EXPECT_EQ(-EBADF, name_create(self->dev, "a", self->dev, 0600, 0));
}

TEST_F(name, names_and_modes_that_do_not_exist_are_einval)
{
	char longest[DVSM_NAME_SIZE + 1];
	const char *wrong[] = { "", ".", "..", "/", "a/b", "/a", "a/", longest };
	struct dvsm_name_open tail = { .size = sizeof(tail), .name = "a" };
	size_t i;

	memset(longest, 'n', sizeof(longest) - 1);
	longest[DVSM_NAME_SIZE] = '\0';
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		EXPECT_EQ(-EINVAL, name_create(self->dev, wrong[i], self->fd, 0600, 0));
		EXPECT_EQ(-EINVAL, name_open(self->dev, wrong[i], 0));
		EXPECT_EQ(-EINVAL, name_unlink(self->dev, wrong[i]));
	}
	longest[DVSM_NAME_SIZE - 1] = '\0';
	EXPECT_EQ(0, name_create(self->dev, longest, self->fd, 0600, 0));
	EXPECT_LE(0, name_open(self->dev, longest, 0));
	EXPECT_EQ(0, name_create(self->dev, "...", self->fd, 0600, 0));
	EXPECT_EQ(-EINVAL, name_create(self->dev, "b", self->fd, 01600, 0));
	tail.name[DVSM_NAME_SIZE - 1] = 1;
	EXPECT_EQ(-1, ioctl(self->dev, DVSM_IOC_NAME_OPEN, &tail));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(name, list_tells_each_once_in_order_by_a_cursor)
{
	enum { NR = 50 };
	struct dvsm_name names[7];
	struct dvsm_name_list arg = {
		.size = sizeof(arg),
		.names = (uintptr_t)names,
		.nr_names = ARRAY_SIZE(names),
	};
	struct dvsm_region_info info;
	int i, nr = 0;
	char text[16];

	ASSERT_EQ(0, region_info(self->fd, &info));
	for (i = 0; i < NR; i++) {
		snprintf(text, sizeof(text), "n%d", i);
		ASSERT_EQ(0, name_create(self->dev, text, self->fd, i % 8 * 0111,
					 i % 2 ? DVSM_NAME_F_KEEP : 0));
	}
	for (;; arg.cursor = arg.out_next) {
		memset(names, 0xa5, sizeof(names));
		ASSERT_EQ(0, ioctl(self->dev, DVSM_IOC_NAME_LIST, &arg));
		if (!arg.out_nr_names)
			break;
		for (i = 0; i < arg.out_nr_names; i++, nr++) {
			snprintf(text, sizeof(text), "n%d", nr);
			EXPECT_STREQ(text, (char *)names[i].name);
			EXPECT_EQ(info.out_id, names[i].region_id);
			EXPECT_EQ(LENGTH, names[i].length);
			EXPECT_EQ(geteuid(), names[i].uid);
			EXPECT_EQ(getegid(), names[i].gid);
			EXPECT_EQ(nr % 8 * 0111, names[i].mode);
			EXPECT_EQ(nr % 2 ? DVSM_NAME_F_KEEP : 0, names[i].flags);
		}
	}
	EXPECT_EQ(NR, nr);
	for (i = 1; i < NR; i += 2) {
		snprintf(text, sizeof(text), "n%d", i);
		EXPECT_EQ(0, name_unlink(self->dev, text));
	}
	arg.nr_names = 0;
	EXPECT_EQ(-1, ioctl(self->dev, DVSM_IOC_NAME_LIST, &arg));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(name, user_has_so_many_and_no_more)
{
	int i;

	ASSERT_EQ(0, param_set("limit_user_names", 3));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, name_create(self->dev, (char[]) { 'a' + i, 0 }, self->fd, 0600, 0));
	EXPECT_EQ(-ENOSPC, name_create(self->dev, "d", self->fd, 0600, 0));
	EXPECT_EQ(0, name_unlink(self->dev, "b"));
	EXPECT_EQ(0, name_create(self->dev, "d", self->fd, 0600, 0));
	EXPECT_EQ(-ENOSPC, name_create(self->dev, "e", self->fd, 0600, 0));
	EXPECT_EQ(0, param_set("limit_user_names", 1024));
}

TEST_F(name, belongs_to_one_ipc_namespace)
{
	pid_t pid;

	ASSERT_EQ(0, name_create(self->dev, "a", self->fd, 0600, 0));
	pid = child_start();
	if (!pid) {
		struct dvsm_name names[2];

		if (unshare(CLONE_NEWIPC))
			_exit(9);
		if (name_open(self->dev, "a", 0) != -ENOENT || name_list(self->dev, names, 2))
			_exit(1);
		if (name_create(self->dev, "a", self->fd, 0600, 0) ||
		    name_create(self->dev, "inside", self->fd, 0600, 0) ||
		    name_list(self->dev, names, 2) != 2)
			_exit(2);
		_exit(name_unlink(self->dev, "a") ? 3 : 0);
	}
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(-ENOENT, name_open(self->dev, "inside", 0));
	EXPECT_LE(0, name_open(self->dev, "a", 0));
	/* What was made inside has ended, although its region has not. */
	EXPECT_EQ(0, stats_reach("names", 1, 60));
}

TEST_F(name, kept_one_ends_with_its_ipc_namespace_and_not_before)
{
	struct barrier *barrier = barrier_make(2);
	char path[64];
	pid_t pid;
	int ns;

	close(self->fd);
	pid = child_start();
	if (!pid) {
		int fd = region_create(self->dev, LENGTH, 0);

		if (unshare(CLONE_NEWIPC) || pwrite(fd, "x", 1, CHUNK) != 1 ||
		    name_create(self->dev, "kept", fd, 0600, DVSM_NAME_F_KEEP))
			_exit(1);
		barrier_wait(barrier);
		barrier_wait(barrier);
		_exit(0);
	}
	barrier_wait(barrier);
	snprintf(path, sizeof(path), "/proc/%d/ns/ipc", pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, ns);
	barrier_wait(barrier);
	EXPECT_EQ(0, child_wait(pid));
	/* Somebody can enter it still. */
	sleep_ms(2500);
	pid = child_start();
	if (!pid) {
		if (setns(ns, CLONE_NEWIPC))
			_exit(1);
		_exit(reads(name_open(self->dev, "kept", 0), 'x') ? 0 : 2);
	}
	EXPECT_EQ(0, child_wait(pid));
	close(ns);
	EXPECT_EQ(0, stats_reach("names", 0, 60));
	EXPECT_EQ(0, stats_reach("regions", 0, 60));
}

TEST_F(name, one_of_many_who_create_it_at_once_wins)
{
	enum { NR = 8 };
	struct barrier *barrier = barrier_make(NR);
	int round, i, winners = 0;
	pid_t pids[NR];

	for (round = 0; round < 5; round++) {
		for (i = 0; i < NR; i++) {
			pids[i] = child_start();
			if (!pids[i]) {
				barrier_wait(barrier);
				i = name_create(self->dev, "a", self->fd, 0600, 0);
				_exit(i == -EEXIST ? 1 : i ? 2 : 0);
			}
		}
		for (i = 0; i < NR; i++) {
			int status = child_wait(pids[i]);

			EXPECT_TRUE(status == 0 || status == 1);
			winners += status == 0;
		}
		EXPECT_EQ(0, name_unlink(self->dev, "a"));
	}
	EXPECT_EQ(5, winners);
}

/* With and without a delay where an opener has the region but not yet its own file. */
TEST_F(name, opening_it_while_its_last_user_goes_gives_the_region_or_nothing)
{
	unsigned long end = clock_ms() + 1000 * seconds();
	unsigned int opened = 0, missed = 0, round = 0;
	int pipe_fds[2], fd;

	close(self->fd);
	ASSERT_EQ(0, pipe(pipe_fds));
	while (clock_ms() < end || (!opened && round < 500)) {
		struct barrier *barrier = barrier_make(2);
		pid_t pid;

		write_text("/sys/kernel/debug/dvsm/delay_us", round++ % 2 ? "2000" : "0");
		pid = child_start();
		if (!pid) {
			fd = region_create(self->dev, LENGTH, 0);
			if (pwrite(fd, "x", 1, CHUNK) != 1 ||
			    name_create(self->dev, "a", fd, 0600, 0))
				_exit(1);
			barrier_wait(barrier);
			/* Later and later, until somebody has come in time once. */
			if (!opened)
				usleep(round * 1000);
			else if (round % 3)
				usleep(round * 37 % 3000);
			close(fd);
			_exit(0);
		}
		barrier_wait(barrier);
		fd = name_open(self->dev, "a", 0);
		EXPECT_EQ(0, child_wait(pid));
		if (fd >= 0) {
			opened++;
			EXPECT_TRUE(reads(fd, 'x'));
			EXPECT_EQ(1, pwrite(fd, "y", 1, 0));
			close(fd);
		} else {
			missed++;
			EXPECT_EQ(-ENOENT, fd);
		}
		EXPECT_EQ(0, stats_reach("names", 0, 60));
		munmap(barrier, sizeof(*barrier));
	}
	write_text("/sys/kernel/debug/dvsm/delay_us", "0");
	TH_LOG("%u opened, %u came too late", opened, missed);
	EXPECT_LT(0, opened);
}

TEST_HARNESS_MAIN
