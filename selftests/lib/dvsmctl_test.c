// SPDX-License-Identifier: GPL-2.0-only
/* dvsmctl list, show and top: what they tell, to whom, for people and for programs. */
#include <grp.h>

#include <jansson.h>
#include <kselftest_harness.h>

#include "lib_test.h"

#define NOBODY	65534

/* Where the library is built, beside the tests. */
static const char *find_program(void)
{
	static const char *const places[] = { "/../../libdvsm/dvsmctl", "/../libdvsm/dvsmctl" };
	static char program[4096 + 64];
	const char *wish = getenv("DVSMCTL");
	char folder[4096];
	ssize_t length = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
	size_t i;

	if (wish)
		return access(wish, X_OK) ? NULL : wish;
	if (length < 0)
		return NULL;
	folder[length] = 0;
	*strrchr(folder, '/') = 0;
	for (i = 0; i < 2; i++) {
		snprintf(program, sizeof(program), "%s%s", folder, places[i]);
		if (!access(program, X_OK))
			return program;
	}
	return NULL;
}

#define FIND_PROGRAM(program)								\
do {											\
	program = find_program();							\
	if (!program)									\
		SKIP(return, "dvsmctl is not built (libjansson-dev, libncurses-dev)");	\
} while (0)

static char output[1 << 20];

/* Exit status; what it said is in output. */
static int run(const char *program, const char *format, unsigned long long argument)
{
	char command[8192];
	size_t length;
	FILE *pipe;
	int status;

	length = (size_t)snprintf(command, sizeof(command), "%s ", program);
	length += (size_t)snprintf(command + length, sizeof(command) - length, format, argument);
	snprintf(command + length, sizeof(command) - length, " 2>&1");
	pipe = popen(command, "r");
	if (!pipe)
		return -1;
	length = fread(output, 1, sizeof(output) - 1, pipe);
	output[length] = 0;
	status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What it printed, as JSON; NULL if it is none. */
static json_t *parsed(void)
{
	return json_loads(output, 0, NULL);
}

static json_int_t integer(json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);

	return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* The element of "regions" with that id. */
static json_t *region_of(json_t *list, json_int_t id)
{
	json_t *regions = json_object_get(list, "regions"), *region;
	size_t i;

	json_array_foreach(regions, i, region)
		if (integer(region, "id") == id)
			return region;
	return NULL;
}

static int become_nobody(void)
{
	return setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	       setresuid(NOBODY, NOBODY, NOBODY);
}

FIXTURE(memfd) {
	const char *program;
	char path[128];
};

FIXTURE_SETUP(memfd)
{
	FIND_PROGRAM(self->program);
	snprintf(self->path, sizeof(self->path), "/dev/shm/dvsmctl-test-%d", getpid());
}

FIXTURE_TEARDOWN(memfd)
{
	unlink(self->path);
}

static bool needs_the_device(const char *program)
{
	if (!access(DVSM_DEVICE_PATH, F_OK) && become_nobody())
		return false;
	return run(program, "list", 0) == 1 && strstr(output, DVSM_DEVICE_PATH) &&
	       run(program, "top", 0) == 1 && strstr(output, DVSM_DEVICE_PATH) &&
	       run(program, "show 1", 0) == 1 && run(program, "show label", 0) == 1;
}

TEST_F(memfd, without_the_device_lists_say_what_is_missing)
{
	EXPECT_TRUE(IN_CHILD(needs_the_device(self->program)));
}

TEST_F(memfd, show_takes_a_path)
{
	int fd = open(self->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	char command[256];
	json_t *json;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, 64 * CHUNK));
	ASSERT_EQ(1, pwrite(fd, "x", 1, 5 * CHUNK));
	snprintf(command, sizeof(command), "show --json %s", self->path);
	ASSERT_EQ(0, run(self->program, command, 0));
	json = parsed();
	ASSERT_NE(NULL, json) TH_LOG("%s", output);
	EXPECT_EQ(64 * CHUNK, integer(json, "length"));
	ASSERT_EQ(1, json_array_size(json_object_get(json, "chunks")));
	EXPECT_EQ(5 * CHUNK, integer(json_array_get(json_object_get(json, "chunks"), 0), "offset"));
	EXPECT_TRUE(json_is_null(json_object_get(json, "balance")));
	json_decref(json);

	/* 9 cells on a line; the sixth is not empty. */
	snprintf(command, sizeof(command), "show --width 42 %s", self->path);
	ASSERT_EQ(0, run(self->program, command, 0));
	EXPECT_NE(NULL, strstr(output, "0x000000000000 .. .. .. .. .. ")) TH_LOG("%s", output);
	EXPECT_NE(NULL, strstr(output, "h .. .. .. \n"));
	EXPECT_NE(NULL, strstr(output, "0x000001200000 .. .. .."));
	EXPECT_EQ(NULL, strstr(output, "0x000002400000"));
	close(fd);
}

TEST_F(memfd, what_is_not_understood_or_not_there)
{
	EXPECT_EQ(2, run(self->program, "", 0));
	EXPECT_EQ(2, run(self->program, "frobnicate", 0));
	EXPECT_EQ(2, run(self->program, "list 1", 0));
	EXPECT_EQ(2, run(self->program, "show", 0));
	EXPECT_EQ(2, run(self->program, "show --color sometimes 1", 0));
	EXPECT_EQ(2, run(self->program, "show --width 5 1", 0));
	EXPECT_EQ(2, run(self->program, "top --interval 0", 0));
	EXPECT_EQ(2, run(self->program, "top --count 0", 0));
	EXPECT_EQ(0, run(self->program, "--help", 0));
	EXPECT_EQ(0, run(self->program, "list --help", 0));
	EXPECT_EQ(0, run(self->program, "show --help", 0));
	EXPECT_EQ(0, run(self->program, "top --help", 0));
	EXPECT_EQ(1, run(self->program, "show /no/such/file", 0));
	EXPECT_EQ(1, run(self->program, "show /dev/null", 0));
}

/* A region of eight chunks, of which the first four are there, on the nodes in turn. */
FIXTURE(device) {
	const char *program;
	struct dvsm_region *region;
	unsigned long long id;
	int nr_nodes;
};

FIXTURE_SETUP(device)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.backend = DVSM_BACKEND_DEVICE,
		.policy = DVSM_POLICY_INTERLEAVE,
		.label = "dvsmctl-test",
	};
	struct dvsm_region_info info = { .size = sizeof(info) };

	FIND_PROGRAM(self->program);
	if (access(DVSM_DEVICE_PATH, F_OK))
		SKIP(return, "no /dev/dvsm (load the module)");
	self->region = dvsm_region_create(8 * CHUNK, &options);
	ASSERT_NE(NULL, self->region);
	ASSERT_EQ(0, dvsm_region_populate(self->region, 0, 4 * CHUNK, 0, NULL));
	ASSERT_EQ(0, dvsm_region_info(self->region, &info));
	self->id = info.out_id;
	self->nr_nodes = access("/sys/devices/system/node/node1", F_OK) ? 1 : 2;
}

FIXTURE_TEARDOWN(device)
{
	dvsm_region_destroy(self->region);
}

TEST_F(device, list_tells_regions)
{
	json_t *json, *region;

	ASSERT_EQ(0, run(self->program, "list", 0));
	EXPECT_NE(NULL, strstr(output, "dvsmctl-test"));
	EXPECT_NE(NULL, strstr(output, "interleave"));
	ASSERT_EQ(0, run(self->program, "list --json", 0));
	json = parsed();
	ASSERT_NE(NULL, json) TH_LOG("%s", output);
	region = region_of(json, (json_int_t)self->id);
	ASSERT_NE(NULL, region);
	EXPECT_EQ(8 * CHUNK, integer(region, "length"));
	EXPECT_EQ(4 * CHUNK, integer(region, "charged"));
	EXPECT_EQ(getuid(), integer(region, "uid"));
	EXPECT_STREQ("dvsmctl-test", json_string_value(json_object_get(region, "label")));
	json_decref(json);
}

TEST_F(device, show_draws_nodes_and_letters)
{
	const char *map = self->nr_nodes > 1 ? "0x000000000000 0H 1H 0H 1H .. .. .. .. \n" :
					       "0x000000000000 0H 0H 0H 0H .. .. .. .. \n";
	struct dvsm_region *snapshot;

	ASSERT_EQ(0, run(self->program, "show %llu", self->id));
	EXPECT_NE(NULL, strstr(output, map)) TH_LOG("%s", output);
	ASSERT_EQ(0, run(self->program, "show dvsmctl-test", 0));
	EXPECT_NE(NULL, strstr(output, map)) TH_LOG("%s", output);
	EXPECT_EQ(NULL, strstr(output, "\033["));
	ASSERT_EQ(0, run(self->program, "show --color always %llu", self->id));
	EXPECT_NE(NULL, strstr(output, "\033[32m0H\033[0m")) TH_LOG("%s", output);

	ASSERT_EQ(0, dvsm_region_pin(self->region, 2 * CHUNK, CHUNK));
	ASSERT_EQ(0, run(self->program, "show %llu", self->id));
	EXPECT_NE(NULL, strstr(output, "0P ")) TH_LOG("%s", output);
	/* What nobody has written to is not shared: it is a hole in the snapshot. */
	ASSERT_EQ(1, pwrite(dvsm_region_fd(self->region), "x", 1, 0));
	snapshot = dvsm_snapshot_take(self->region, NULL);
	ASSERT_NE(NULL, snapshot);
	ASSERT_EQ(0, run(self->program, "show %llu", self->id));
	EXPECT_NE(NULL, strstr(output, "0x000000000000 0S ")) TH_LOG("%s", output);
	EXPECT_NE(NULL, strstr(output, "0P "));
	/* Both have the label, and a program names neither. */
	dvsm_region_destroy(snapshot);
}

TEST_F(device, show_tells_whether_the_kernel_balances_the_region)
{
	static const char *const words[] = { "off", "observe", "on" };
	char line[64];
	json_t *json;
	uint32_t mode;

	for (mode = DVSM_BALANCE_OFF; mode <= DVSM_BALANCE_ON; mode++) {
		ASSERT_LE(0, dvsm_region_balance(self->region, mode));
		ASSERT_EQ(0, run(self->program, "show %llu", self->id));
		snprintf(line, sizeof(line), ", balancing %s\n", words[mode - 1]);
		EXPECT_NE(NULL, strstr(output, line)) TH_LOG("%s", output);
		ASSERT_EQ(0, run(self->program, "show --json %llu", self->id));
		json = parsed();
		ASSERT_NE(NULL, json) TH_LOG("%s", output);
		EXPECT_STREQ(words[mode - 1], json_string_value(json_object_get(json, "balance")));
		json_decref(json);
	}
}

TEST_F(device, list_and_show_name_weighted_interleave)
{
	struct dvsm_region_place place = {
		.size = sizeof(place),
		.policy = DVSM_POLICY_WEIGHTED_INTERLEAVE,
	};

	ASSERT_EQ(0, dvsm_region_place(self->region, &place));
	ASSERT_EQ(0, run(self->program, "list", 0));
	EXPECT_NE(NULL, strstr(output, "weighted-interleave")) TH_LOG("%s", output);
	ASSERT_EQ(0, run(self->program, "show %llu", self->id));
	EXPECT_NE(NULL, strstr(output, "policy weighted-interleave")) TH_LOG("%s", output);
}

TEST_F(device, a_long_region_is_drawn_in_groups)
{
	struct dvsm_region_info info = { .size = sizeof(info) };
	struct dvsm_region *region = dvsm_region_create(1ULL << 40, NULL);

	ASSERT_NE(NULL, region);
	ASSERT_EQ(0, dvsm_region_populate(region, 1ULL << 39, CHUNK, 0, NULL));
	ASSERT_EQ(0, dvsm_region_info(region, &info));
	ASSERT_EQ(0, run(self->program, "show --width 80 %llu", info.out_id));
	EXPECT_NE(NULL, strstr(output, "A cell is 1024 chunks of 2 MiB")) TH_LOG("%s", output);
	EXPECT_NE(NULL, strstr(output, "H .."));
	EXPECT_NE(NULL, strstr(output, "lines without memory are left out"));
	dvsm_region_destroy(region);
}

TEST_F(device, show_for_programs_has_chunks_nodes_and_counters)
{
	json_t *json, *chunk;

	ASSERT_EQ(0, run(self->program, "show --json %llu", self->id));
	json = parsed();
	ASSERT_NE(NULL, json) TH_LOG("%s", output);
	EXPECT_EQ((json_int_t)self->id, integer(json, "id"));
	EXPECT_EQ(4 * CHUNK, integer(json, "resident"));
	EXPECT_EQ(4 * CHUNK, integer(json, "resident_huge"));
	ASSERT_EQ(4, json_array_size(json_object_get(json, "chunks")));
	chunk = json_array_get(json_object_get(json, "chunks"), 3);
	EXPECT_EQ(3 * CHUNK, integer(chunk, "offset"));
	EXPECT_EQ(CHUNK, integer(chunk, "resident"));
	EXPECT_EQ(self->nr_nodes - 1, integer(chunk, "node"));
	EXPECT_TRUE(json_is_true(json_object_get(chunk, "huge")));
	EXPECT_TRUE(json_is_false(json_object_get(chunk, "pinned")));
	EXPECT_LE((size_t)self->nr_nodes, json_array_size(json_object_get(json, "nodes")));
	json_decref(json);
}

TEST_F(device, top_tells_rates)
{
	volatile unsigned char *map = dvsm_region_map(self->region, 0, 0, RW, NULL);
	json_t *json, *region, *faults;
	pid_t pid;

	ASSERT_NE(NULL, map);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		for (;;) {
			map[0]++;
			madvise((void *)map, CHUNK, MADV_DONTNEED);
			usleep(1000);
		}
	}
	while (!map[0])
		usleep(1000);
	/* Some thousand faults on a machine that has time for them. */
	EXPECT_EQ(0, run(self->program, "top --json --count 1 --interval 3", 0));
	json = parsed();
	EXPECT_NE(NULL, json) TH_LOG("%s", output);
	region = region_of(json, (json_int_t)self->id);
	EXPECT_NE(NULL, region);
	faults = json_object_get(region, "faults");
	EXPECT_TRUE(json_is_real(faults) && json_real_value(faults) > 1);
	json_decref(json);
	EXPECT_EQ(0, run(self->program, "top --count 2 --interval 0.2", 0));
	EXPECT_NE(NULL, strstr(output, "dvsmctl-test")) TH_LOG("%s", output);
	EXPECT_NE(NULL, strstr(output, "FAULTS/s"));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Exit status 0, or which step went wrong. */
static int as_nobody(const char *program, unsigned long long id)
{
	struct dvsm_region_info info = { .size = sizeof(info) };
	struct dvsm_region *own;
	json_t *json;

	if (become_nobody())
		return 1;
	own = dvsm_region_create(CHUNK, NULL);
	if (!own || dvsm_region_info(own, &info) || run(program, "list --json", 0))
		return 2;
	json = parsed();
	if (!region_of(json, (json_int_t)info.out_id) || region_of(json, (json_int_t)id))
		return 3;
	if (run(program, "show %llu", info.out_id) || run(program, "top -i 0.1 -n 1", 0))
		return 4;
	if (run(program, "show %llu", id) != 1 || !strstr(output, "Permission denied"))
		return 5;
	return run(program, "show dvsmctl-test", 0) == 1 ? 0 : 6;
}

TEST_F(device, without_root_one_sees_ones_own)
{
	struct stat before;
	int status = -1;
	pid_t pid;

	if (getuid())
		SKIP(return, "not root");
	/* As if nobody were in the device's group. */
	ASSERT_EQ(0, stat(DVSM_DEVICE_PATH, &before));
	ASSERT_EQ(0, chmod(DVSM_DEVICE_PATH, 0666));
	pid = fork();
	if (!pid)
		_exit(as_nobody(self->program, self->id));
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) TH_LOG("step %d: %s", WEXITSTATUS(status), output);
	ASSERT_EQ(0, chmod(DVSM_DEVICE_PATH, before.st_mode & 07777));
}

TEST_HARNESS_MAIN
