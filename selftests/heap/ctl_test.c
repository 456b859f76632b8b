// SPDX-License-Identifier: GPL-2.0-only
/* dvsmctl heap looks at heaps by name and by a process's descriptor, and notices a broken one. */
#include <fcntl.h>

#include <dvsm/name.h>

#include "heap_test.h"
#include <kselftest_harness.h>

#include "../../libdvsm/heap_types.h"

FIXTURE(ctl) {
	char program[4096], name[64], path[128], output[16384];
	unsigned long limit;	/* address space that dvsmctl gets, in MiB; 0: as much as it likes */
	struct dvsm_heap *heap;
	void *blocks[1000];
};

FIXTURE_VARIANT(ctl) {
	uint32_t backend;
};

FIXTURE_VARIANT_ADD(ctl, device) { .backend = DVSM_BACKEND_DEVICE, };
FIXTURE_VARIANT_ADD(ctl, memfd) { .backend = DVSM_BACKEND_MEMFD, };

/* Mistakes are for the audit: after its first free a process may make them. */
static struct dvsm_heap *heap_on_device(const char *name)
{
	struct dvsm_heap_options options = {
		.size = sizeof(options), .backend = DVSM_BACKEND_DEVICE, .reserve = GIB,
		.nr_looks = 1,
	};

	return dvsm_heap_create_named(name, 0600, DVSM_NAME_F_KEEP, &options);
}

static struct dvsm_heap *heap_in_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct dvsm_heap_options options = { .size = sizeof(options), .nr_looks = 1 };
	struct dvsm_region *region;

	region = fd < 0 || ftruncate(fd, GIB) ? NULL : dvsm_region_open(fd, NULL);
	return region ? dvsm_heap_create_on(region, &options) : NULL;
}

/* Where the library is built, beside the tests: ../../libdvsm. */
FIXTURE_SETUP(ctl)
{
	const char *wish = getenv("DVSMCTL");
	ssize_t length;
	int i;

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
	if (variant->backend == DVSM_BACKEND_DEVICE) {
		if (access("/dev/dvsm", R_OK | W_OK))
			SKIP(return, "no /dev/dvsm");
		snprintf(self->path, sizeof(self->path), "%s", self->name);
		self->heap = heap_on_device(self->name);
	} else {
		snprintf(self->path, sizeof(self->path), "/dev/shm/%s", self->name);
		self->heap = heap_in_file(self->path);
	}
	ASSERT_NE(NULL, self->heap) TH_LOG("%s", strerror(errno));
	for (i = 0; i < 1000; i++)
		self->blocks[i] = dvsm_heap_malloc(self->heap, 5000);
	self->blocks[0] = dvsm_heap_realloc(self->heap, self->blocks[0], 6 * MIB);
}

FIXTURE_TEARDOWN(ctl)
{
	dvsm_name_unlink(self->name, variant->backend);
	if (self->heap)
		dvsm_heap_destroy(self->heap);
}

/* Exit status; what it said is in output. */
static int ctl_run(FIXTURE_DATA(ctl) *self, const char *format, const char *argument)
{
	char command[8192];
	size_t length;
	FILE *pipe;
	int status;

	length = 0;
	if (self->limit)
		length = (size_t)snprintf(command, sizeof(command), "ulimit -v %lu; ", self->limit << 10);
	length += (size_t)snprintf(command + length, sizeof(command) - length, "%s heap ", self->program);
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
	snprintf(where, sizeof(where), "%16lu bytes live\n", 999 * 5120 + 6 * MIB);
	EXPECT_NE(NULL, strstr(self->output, where)) TH_LOG("%s", self->output);
	snprintf(where, sizeof(where), "%16lu bytes in all\n", GIB);
	EXPECT_NE(NULL, strstr(self->output, where)) TH_LOG("%s", self->output);
	EXPECT_NE(NULL, strstr(self->output, " 0 bytes lost\n")) TH_LOG("%s", self->output);
}

/* Freed twice, and nobody has noticed yet: another block was freed between. */
TEST_F(ctl, audit_notices_a_broken_heap)
{
	run_on(sched_getcpu());
	dvsm_heap_free(self->heap, self->blocks[1]);
	dvsm_heap_free(self->heap, self->blocks[2]);
	dvsm_heap_free(self->heap, self->blocks[1]);
	EXPECT_EQ(1, ctl_run(self, "audit %s", self->name));
	EXPECT_NE(NULL, strstr(self->output, "the heap is broken"));
	EXPECT_NE(NULL, strstr(self->output, "in stacks twice"));
	EXPECT_NE(NULL, strstr(self->output, "\nthe heap is broken")) TH_LOG("%s", self->output);
}

/* Attaching works, and then there is no address space for what the audit notes. */
TEST_F(ctl, want_of_memory_is_no_broken_heap)
{
	int nr_audits = 0, nr_maps = 0, status;

	ASSERT_NE(NULL, dvsm_heap_malloc(self->heap, 900 * MIB));
	for (self->limit = GIB / MIB; self->limit < GIB / MIB + 64; self->limit += 2) {
		status = ctl_run(self, "audit %s", self->name);
		EXPECT_EQ(NULL, strstr(self->output, "broken")) TH_LOG("%s", self->output);
		if (strstr(self->output, "audit: Cannot allocate memory")) {
			EXPECT_EQ(1, status);
			nr_audits++;
		}
		status = ctl_run(self, "map %s", self->name);
		if (strstr(self->output, "map: Cannot allocate memory")) {
			EXPECT_EQ(1, status);
			nr_maps++;
		}
	}
	EXPECT_LT(0, nr_audits);
	EXPECT_LT(0, nr_maps);
}

/* Its last page begins a slab of 1.875 MiB. */
TEST_F(ctl, a_heap_whose_slab_is_behind_its_end_is_refused)
{
	uint32_t chunk = self->heap->header->end_chunk - 1, page = chunk * 32 + 31;

	atomic_store(&self->heap->header->high_chunk, chunk + 1);
	self->heap->map[chunk / 64].bits &= ~(1ULL << chunk % 64);
	self->heap->map[chunk / 64].tag = 1;
	self->heap->chunks[chunk].kind = DVSM_CHUNK_OPEN;
	self->heap->classes[page] = DVSM_CLASS_LAST;
	EXPECT_EQ(1, ctl_run(self, "map %s", self->name));
	EXPECT_EQ(1, ctl_run(self, "audit %s", self->name));
	EXPECT_NE(NULL, strstr(self->output, "no heap of this version"));
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
