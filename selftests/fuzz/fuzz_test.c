// SPDX-License-Identifier: GPL-2.0-only
/*
 * Drives the fuzzer: libFuzzer mutates and keeps, KCOV says what is new.
 *
 *   fuzz_test                    a bounded run, as a test: DVSM_FUZZ_SECONDS (75), DVSM_FUZZ_JOBS (2)
 *   fuzz_test replay FILE [N]    the sequences of FILE, in order, N times
 *
 * Sequences stand in files as hexadecimal lines. Those that are kept in the tree are a
 * part of this program; DVSM_FUZZ_CORPUS names a file with more to begin with. With
 * DVSM_FUZZ_KEEP set, a run prints the ones that it would keep, as lines "# keep HEX". What it does is also written to a
 * memory device (ivshmem) if there is one, so that it survives the kernel: see scripts/fuzz.sh.
 */
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fuzz.h"

#define DIR_ALL		"/tmp/fuzz"
#define DIR_CORPUS	DIR_ALL "/corpus"
#define JOBS_MAX	8
#define LIMIT_MIB	48
#define LONGEST_MS	600000	/* that a test may take */

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*run)(const uint8_t *data, size_t size));
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed);

/* libFuzzer finds them by their section. */
static uint8_t counters[FUZZ_COUNTERS] __attribute__((section("__libfuzzer_extra_counters"), aligned(64)));

asm(".section .rodata\n"
    "corpus_text: .incbin \"" FUZZ_CORPUS "\"\n"
    ".byte 0\n"
    ".previous");
extern const char corpus_text[];

/* What jobs tell. */
struct shared {
	unsigned long sequences;
	unsigned long led;	/* sequences with coverage */
	uint8_t seen[FUZZ_COUNTERS];	/* whether a step between blocks was taken at all */
};

static struct shared *shared;

static bool has_worker;	/* else this process does the sequences itself */

/* --- the last inputs, in memory that outlives the kernel --- */

#define LOG_ENTRY	4096
#define LOG_ENTRIES	64	/* for each job; fuzz.sh knows both */

static char *input_log;

static void log_open(unsigned int job)
{
	char path[512], text[64], *map;
	struct dirent *entry;
	DIR *dir = opendir("/sys/bus/pci/devices");
	int fd;

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device", entry->d_name);
		if (read_text(path, text, sizeof(text)) < 0 || strncmp(text, "0x1110", 6))
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource2", entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
		map = mmap(NULL, LOG_ENTRY * LOG_ENTRIES, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   (off_t)job * LOG_ENTRY * LOG_ENTRIES);
		if (fd >= 0 && map != MAP_FAILED)
			input_log = map;
	}
	if (dir)
		closedir(dir);
}

/* "SEQUENCE HEX\n"; the sequence comes last, so that an entry without one is not whole. */
static void log_input(unsigned long sequence, const uint8_t *data, size_t size)
{
	char text[FUZZ_SIZE_MAX * 2 + 32];
	size_t i, n;

	if (!input_log)
		return;
	n = snprintf(text, sizeof(text), "%010lu ", sequence);
	for (i = 0; i < size; i++)
		n += snprintf(text + n, sizeof(text) - n, "%02x", data[i]);
	text[n++] = '\n';
	memcpy(input_log + sequence % LOG_ENTRIES * LOG_ENTRY, text, n);
}

/* --- what libFuzzer calls --- */

static int run_input(const uint8_t *data, size_t size)
{
	size_t i, seen = 0;

	if (size > FUZZ_SIZE_MAX)
		size = FUZZ_SIZE_MAX;
	size -= size % sizeof(struct fuzz_op);
	log_input(__atomic_fetch_add(&shared->sequences, 1, __ATOMIC_RELAXED), data, size);
	if (has_worker)
		fuzz_worker_run(data, size, counters);
	else
		fuzz_run(data, size, counters);
	for (i = 0; i < FUZZ_COUNTERS; i++) {
		seen |= counters[i];
		shared->seen[i] |= counters[i];
	}
	if (seen)
		__atomic_fetch_add(&shared->led, 1, __ATOMIC_RELAXED);
	return 0;
}

/* Keeps operations whole: they are what is put in, taken out and moved. */
static size_t mutate(uint8_t *data, size_t size, size_t max, unsigned int seed)
{
	struct fuzz_op *ops = (struct fuzz_op *)data;
	size_t nr = size / sizeof(*ops), room = max / sizeof(*ops), at, from;
	struct fuzz_op op;

	srand(seed);
	at = nr ? rand() % nr : 0;
	from = nr ? rand() % nr : 0;
	switch (nr ? rand() % 8 : 0) {
	case 0:		/* a new one, or one once more */
	case 1:
		if (nr >= room)
			break;
		op = ops[from];
		if (!nr || rand() % 2)
			for (from = 0; from < sizeof(op); from++)
				((uint8_t *)&op)[from] = rand();
		memmove(ops + at + 1, ops + at, (nr - at) * sizeof(*ops));
		ops[at] = op;
		return (nr + 1) * sizeof(*ops);
	case 2:
		if (nr < 2)
			break;
		memmove(ops + at, ops + at + 1, (nr - at - 1) * sizeof(*ops));
		return (nr - 1) * sizeof(*ops);
	case 3:
		op = ops[at];
		ops[at] = ops[from];
		ops[from] = op;
		return nr * sizeof(*ops);
	case 4:		/* by somebody else, or on something else */
		if (rand() % 2)
			ops[at].who = rand();
		else
			ops[at].where = rand();
		return nr * sizeof(*ops);
	case 5:
	case 6:
		((uint8_t *)&ops[at])[rand() % sizeof(op)] = rand();
		return nr * sizeof(*ops);
	}
	/* libFuzzer's own, which also crosses two inputs. */
	size = LLVMFuzzerMutate(data, size, max);
	return size - size % sizeof(*ops);
}

/*
 * A sequence with a child takes five times as long as one without: a fork and an exit are 30 ms. Of four new ones three
 * have none; what was for it is for the thread.
 */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed)
{
	struct fuzz_op *ops = (struct fuzz_op *)data;
	size_t i;

	size = mutate(data, size, max, seed);
	for (i = 0; seed % 4 && i < size / sizeof(*ops); i++)
		if (fuzz_op_who(&ops[i]) >= FUZZ_WHO_CHILD)
			ops[i].who -= FUZZ_WHO_CHILD - FUZZ_WHO_THREAD;
	return size;
}

/* --- inputs as text --- */

static size_t input_from_text(const char *text, size_t length, uint8_t *data)
{
	size_t size;

	for (size = 0; size < FUZZ_SIZE_MAX && 2 * size + 1 < length; size++)
		if (sscanf(text + 2 * size, "%2hhx", &data[size]) != 1)
			break;
	return size;
}

static void for_each_input(const char *text, void (*fn)(const uint8_t *data, size_t size))
{
	size_t length;

	for (; *text; text += length + (text[length] == '\n')) {
		uint8_t data[FUZZ_SIZE_MAX];

		length = strcspn(text, "\n");
		if (*text != '#' && length)
			fn(data, input_from_text(text, length, data));
	}
}

/* A file of inputs, or NULL. */
static const char *text_of(const char *path)
{
	static char text[8 << 20];
	int ret = read_text(path, text, sizeof(text));

	if (!ret)
		return text;
	fprintf(stderr, "cannot read %s: %s\n", path, strerror(-ret));
	return NULL;
}

static void input_to_file(const uint8_t *data, size_t size)
{
	static unsigned int nr;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), DIR_CORPUS "/kept-%u", nr++);
	fd = open(path, O_WRONLY | O_CREAT, 0644);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	close(fd);
}

static void input_replay(const uint8_t *data, size_t size)
{
	run_input(data, size);
}

static int is_shorter(const struct dirent **a, const struct dirent **b)
{
	char path[300];
	struct stat first = {}, second = {};

	snprintf(path, sizeof(path), DIR_CORPUS "/%s", (*a)->d_name);
	stat(path, &first);
	snprintf(path, sizeof(path), DIR_CORPUS "/%s", (*b)->d_name);
	stat(path, &second);
	return (first.st_size > second.st_size) - (first.st_size < second.st_size);
}

/* Whether an input takes a step between blocks that none before it took. */
static bool input_adds(const uint8_t *data, size_t size)
{
	static uint8_t seen[FUZZ_COUNTERS];
	bool adds = false;
	size_t i;

	memset(counters, 0, sizeof(counters));
	run_input(data, size);
	for (i = 0; i < FUZZ_COUNTERS; i++) {
		adds |= counters[i] && !seen[i];
		seen[i] |= counters[i];
	}
	return adds;
}

/* Of all inputs those that reach something which no shorter one does. */
static void print_kept(void)
{
	struct dirent **entries;
	int nr = scandir(DIR_CORPUS, &entries, NULL, is_shorter), i;

	for (i = 0; i < nr; i++) {
		char path[300];
		uint8_t data[FUZZ_SIZE_MAX];
		ssize_t size, at;
		int fd;

		snprintf(path, sizeof(path), DIR_CORPUS "/%s", entries[i]->d_name);
		fd = open(path, O_RDONLY);
		size = read(fd, data, sizeof(data));
		close(fd);
		if (size <= 0 || !input_adds(data, size))
			continue;
		printf("# keep ");
		for (at = 0; at < size; at++)
			printf("%02x", data[at]);
		printf("\n");
	}
}

/* --- jobs --- */

static int job_log(unsigned int job)
{
	char path[64];

	snprintf(path, sizeof(path), DIR_ALL "/log-%u", job);
	return open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
}

static void job_begin(unsigned int job)
{
	dup2(job_log(job), STDERR_FILENO);
	log_open(job);
}

static void __attribute__((noreturn)) job_run(unsigned int job, unsigned long seconds)
{
	char time[64];
	char *args[] = { "fuzz_test", "-max_len=256", "-len_control=0", "-rss_limit_mb=0", "-timeout=240",
			 "-artifact_prefix=/tmp/fuzz/", "-reload=10", "-print_final_stats=1", time, DIR_CORPUS, NULL };
	char **argv = args;
	int argc = ARRAY_SIZE(args) - 1;

	snprintf(time, sizeof(time), "-max_total_time=%lu", seconds);
	job_begin(job);
	fuzz_worker_begin(job);
	has_worker = true;
	exit(LLVMFuzzerRunDriver(&argc, &argv, run_input));
}

static bool job_wait(unsigned int job, pid_t pid)
{
	int status, fd;
	char text[2048];
	ssize_t size;

	if (waitpid(pid, &status, 0) == pid && status == 0)
		return true;
	printf("# job %u ended with status %x; the end of its log:\n", job, status);
	snprintf(text, sizeof(text), DIR_ALL "/log-%u", job);
	fd = open(text, O_RDONLY);
	lseek(fd, -2000, SEEK_END);
	size = read(fd, text, sizeof(text) - 1);
	text[size > 0 ? size : 0] = '\0';
	printf("%s\n", text);
	return false;
}

static bool fuzz_keep(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		job_begin(JOBS_MAX - 1);
		fuzz_start_or_exit();
		print_kept();
		exit(0);
	}
	return job_wait(JOBS_MAX - 1, pid);
}

static unsigned long number_from_env(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoul(text, NULL, 10) : otherwise;
}

/* Little memory for all regions: what fills it fills it soon. Returns what it was before. */
static unsigned long limit_set(unsigned long mib)
{
	unsigned long before = 0;

	read_number("/sys/module/dvsm/parameters/limit_mb", &before);
	param_set("limit_mb", mib);
	return before;
}

static unsigned int nr_seen(void)
{
	unsigned int i, nr = 0;

	for (i = 0; i < FUZZ_COUNTERS; i++)
		nr += shared->seen[i] != 0;
	return nr;
}

static int fuzz_bounded(void)
{
	unsigned long seconds = number_from_env("DVSM_FUZZ_SECONDS", 75), begun = clock_ms(), limit;
	unsigned int jobs = number_from_env("DVSM_FUZZ_JOBS", 2), i;
	const char *corpus = getenv("DVSM_FUZZ_CORPUS");
	bool well = true;
	pid_t pids[JOBS_MAX];

	printf("TAP version 13\n");
	if (access("/sys/kernel/debug/kcov", F_OK)) {
		printf("1..0 # SKIP the kernel has no KCOV\n");
		return 4;
	}
	printf("1..3\n");
	if (jobs > JOBS_MAX - 1)
		jobs = JOBS_MAX - 1;	/* the last one looks at what they found */
	mkdir(DIR_ALL, 0755);
	mkdir(DIR_CORPUS, 0755);
	for_each_input(corpus_text, input_to_file);
	if (corpus)
		for_each_input(text_of(corpus) ? : "", input_to_file);
	limit = limit_set(LIMIT_MIB);
	fflush(stdout);
	/* Again where the machine is so slow that this was not enough. */
	do {
		for (i = 0; i < jobs; i++) {
			pids[i] = fork();
			if (!pids[i])
				job_run(i, seconds);
		}
		for (i = 0; i < jobs; i++)
			well = job_wait(i, pids[i]) && well;
	} while (well && shared->sequences <= 100 && clock_ms() - begun < LONGEST_MS);
	printf("# %lu sequences in %lu s\n", shared->sequences, (clock_ms() - begun) / 1000);
	printf("# %u steps between basic blocks\n", nr_seen());
	printf("%s 1 - sequences of commands and memory operations do no harm\n", well ? "ok" : "not ok");
	printf("%s 2 - more than a hundred of them ran\n", shared->sequences > 100 ? "ok" : "not ok");
	printf("%s 3 - they are led by coverage of dvsm.ko (make module DVSM_KCOV=1)\n",
	       shared->led ? "ok" : "not ok");
	well = well && shared->sequences > 100 && shared->led;
	if (well && getenv("DVSM_FUZZ_KEEP"))
		well = fuzz_keep();
	param_set("limit_mb", limit);
	return !well;
}

static int fuzz_replay(const char *path, unsigned int times)
{
	const char *text = text_of(path);

	if (!text)
		return 1;
	limit_set(LIMIT_MIB);
	fuzz_start_or_exit();
	while (times--)
		for_each_input(text, input_replay);
	printf("%lu sequences\n", shared->sequences);
	return 0;
}

int main(int argc, char **argv)
{
	shared = share_anonymous(sizeof(*shared));
	if (argc > 2 && !strcmp(argv[1], "replay"))
		return fuzz_replay(argv[2], argc > 3 ? atoi(argv[3]) : 1);
	return fuzz_bounded();
}
