// SPDX-License-Identifier: GPL-2.0-only
/* dvsmctl heap looks at heaps by name and by a process's descriptor, and notices a broken one. */
#include <fcntl.h>

#include "heap_test.h"
#include <kselftest_harness.h>

FIXTURE(ctl) {
	char program[4096], name[64], path[128], output[16384];
	struct dvsm_heap *heap;
	void *blocks[1000];
};

/* Where the library is built, beside the tests: ../../libdvsm. */
FIXTURE_SETUP(ctl)
{
	const char *wish = getenv("DVSMCTL");
	struct dvsm_region *region;
	ssize_t length;
	int fd, i;

	if (wish) {
		snprintf(self->program, sizeof(self->program), "%s", wish);
	} else {
		length = readlink("/proc/self/exe", self->program, sizeof(self->program) - 64);
		ASSERT_LT(0, length);
		self->program[length] = 0;
		strcpy(strrchr(self->program, '/'), "/../../libdvsm/dvsmctl");
	}
	if (access(self->program, X_OK))
		SKIP(return, "dvsmctl is not built");
	snprintf(self->name, sizeof(self->name), "dvsm-ctl-test-%d", getpid());
	snprintf(self->path, sizeof(self->path), "/dev/shm/%s", self->name);
	fd = open(self->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, GIB));
	region = dvsm_region_open(fd, NULL);
	ASSERT_NE(NULL, region);
	self->heap = dvsm_heap_create_on(region, NULL);
	ASSERT_NE(NULL, self->heap);
	for (i = 0; i < 1000; i++)
		self->blocks[i] = dvsm_heap_malloc(self->heap, 5000);
	self->blocks[0] = dvsm_heap_realloc(self->heap, self->blocks[0], 6 * MIB);
}

FIXTURE_TEARDOWN(ctl)
{
	unlink(self->path);
}

/* Exit status; what it said is in output. */
static int ctl_run(FIXTURE_DATA(ctl) *self, const char *format, const char *argument)
{
	char command[8192];
	size_t length;
	FILE *pipe;
	int status;

	length = (size_t)snprintf(command, sizeof(command), "%s heap ", self->program);
	length += (size_t)snprintf(command + length, sizeof(command) - length, format, argument);
	snprintf(command + length, sizeof(command) - length, " 2>&1");
	pipe = popen(command, "r");
	if (!pipe)
		return -1;
	length = fread(self->output, 1, sizeof(self->output) - 1, pipe);
	self->output[length] = 0;
	status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(ctl, report_and_map_by_name)
{
	ASSERT_EQ(0, ctl_run(self, "report %s", self->name));
	EXPECT_NE(NULL, strstr(self->output, "live in 1000 blocks (6144 KiB huge)"));
	EXPECT_NE(NULL, strstr(self->output, "     5120 "));
	ASSERT_EQ(0, ctl_run(self, "map %s", self->path));
	/* Three chunks of the huge block. */
	EXPECT_NE(NULL, strstr(self->output, "###"));
}

TEST_F(ctl, audit_by_name_and_by_descriptor)
{
	char where[64];

	EXPECT_EQ(0, ctl_run(self, "audit %s", self->name));
	EXPECT_EQ(0, ctl_run(self, "audit --busy %s", self->name));
	snprintf(where, sizeof(where), "--pid %d --fd %d", getpid(), dvsm_heap_fd(self->heap));
	EXPECT_EQ(0, ctl_run(self, "audit %s", where));
	EXPECT_NE(NULL, strstr(self->output, "the heap is whole"));
}

/* Freed twice, and nobody has noticed yet: another block was freed between. */
TEST_F(ctl, audit_notices_a_broken_heap)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	dvsm_heap_free(self->heap, self->blocks[1]);
	dvsm_heap_free(self->heap, self->blocks[2]);
	dvsm_heap_free(self->heap, self->blocks[1]);
	EXPECT_EQ(1, ctl_run(self, "audit %s", self->name));
	EXPECT_NE(NULL, strstr(self->output, "the heap is broken"));
	EXPECT_NE(NULL, strstr(self->output, "in stacks twice"));
}

TEST_F(ctl, what_is_not_understood_or_not_there)
{
	EXPECT_EQ(2, ctl_run(self, "%s", ""));
	EXPECT_EQ(2, ctl_run(self, "audit%s", ""));
	EXPECT_EQ(2, ctl_run(self, "frobnicate %s", self->name));
	EXPECT_EQ(0, ctl_run(self, "--help %s", ""));
	EXPECT_EQ(1, ctl_run(self, "report %s", "dvsm-no-such-heap"));
	EXPECT_EQ(1, ctl_run(self, "report %s", "/dev/null"));
}

TEST_HARNESS_MAIN
