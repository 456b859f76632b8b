/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The N-th allocation of this task fails: /proc/self/fail-nth.
 */
#ifndef DVSM_SELFTEST_FAIL_NTH_H
#define DVSM_SELFTEST_FAIL_NTH_H

#include "common.h"

#define DEBUGFS		"/sys/kernel/debug/"
#define FAIL_NTH	"/proc/self/fail-nth"

/*
 * To be the first in main(). On its way back to a task the kernel writes to the area that
 * glibc has for restartable sequences. After a fork that page has to be copied first, and a
 * task for which it cannot is killed: not what any of this is about.
 */
static inline void fail_nth_exec_without_rseq(char **argv)
{
	if (getenv("GLIBC_TUNABLES"))
		return;
	setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
	execv("/proc/self/exe", argv);
}

/*
 * The descriptor for fail_nth_run(), of this process or of the thread that @path is of;
 * less than 0 without fault injection.
 */
static inline int fail_nth_open_at(const char *path)
{
	/* Allocations that may sleep are ours too, whoever makes them; nothing is printed for each. */
	static const struct { const char *path, *value; } settings[] = {
		{ DEBUGFS "failslab/ignore-gfp-wait", "N" },
		{ DEBUGFS "failslab/verbose", "0" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ DEBUGFS "fail_page_alloc/min-order", "0" },
		{ DEBUGFS "fail_page_alloc/verbose", "0" },
		{ DEBUGFS "fail_usercopy/verbose", "0" },
		{ DEBUGFS "failslab/require-start", "0" },
		{ DEBUGFS "failslab/require-end", "0xffffffffffffffff" },
		{ DEBUGFS "failslab/reject-start", "0" },
		{ DEBUGFS "failslab/reject-end", "0" },
		{ DEBUGFS "fail_page_alloc/require-start", "0" },
		{ DEBUGFS "fail_page_alloc/require-end", "0xffffffffffffffff" },
		{ DEBUGFS "fail_page_alloc/reject-start", "0" },
		{ DEBUGFS "fail_page_alloc/reject-end", "0" },
		{ DEBUGFS "fail_usercopy/require-start", "0" },
		{ DEBUGFS "fail_usercopy/require-end", "0xffffffffffffffff" },
		{ DEBUGFS "fail_usercopy/reject-start", "0" },
		{ DEBUGFS "fail_usercopy/reject-end", "0" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(settings); i++)
		write_text(settings[i].path, settings[i].value);
	return open(path, O_RDWR);
}

static inline int fail_nth_open(void)
{
	return fail_nth_open_at(FAIL_NTH);
}

/*
 * Count, until the next open, only what is allocated on behalf of a function of the
 * kernel (@which is "require"), or what is not ("reject"). There may be one of each.
 */
static inline int fail_nth_filter(const char *which, const char *function)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	unsigned long address, start = 0, end = 0;
	char line[512], name[256], path[128], text[32];
	FILE *file = fopen("/proc/kallsyms", "re");
	size_t i;
	int side;

	if (!file)
		return -errno;
	while (!start && fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx %*c %255s", &address, name) == 2 && !strcmp(name, function))
			start = address;
	/* It ends where the next one begins, which in a module may be anywhere in the list. */
	rewind(file);
	while (start && fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx", &address) == 1 && address > start && (!end || address < end))
			end = address;
	fclose(file);
	if (!end)
		return -ENOENT;
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		for (side = 0; side < 2; side++) {
			int ret;

			snprintf(path, sizeof(path), DEBUGFS "%s/%s-%s", kinds[i], which,
				 side ? "end" : "start");
			snprintf(text, sizeof(text), "%#lx", side ? end : start);
			ret = write_text(path, text);
			if (ret)
				return ret;
		}
	}
	return 0;
}

/*
 * Of what fail_nth_filter() lets through, whoever's task does it, each @interval-th allocation
 * of a kind ("failslab", "fail_page_alloc") fails, @times times; 0: none.
 */
static inline int fail_some(const char *kind, unsigned int interval, unsigned int times)
{
	const struct { const char *name; unsigned int value; } settings[] = {
		{ "probability", 0 },
		{ "interval", interval },
		{ "times", times },
		{ "probability", times ? 100 : 0 },
	};
	char path[128], text[32];
	int ret = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(settings) && !ret; i++) {
		snprintf(path, sizeof(path), DEBUGFS "%s/%s", kind, settings[i].name);
		snprintf(text, sizeof(text), "%u", settings[i].value);
		ret = write_text(path, text);
	}
	return ret;
}

/* How many of these failures are still to come. */
static inline unsigned long fail_some_left(const char *kind)
{
	unsigned long left = ~0UL;
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "%s/times", kind);
	read_number(path, &left);
	return left;
}

/* Whether the N-th allocation was reached, and so failed. */
static inline bool fail_nth_run(int nth_fd, unsigned int nth, int (*run)(int dev), int dev,
				int *ret)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(nth_fd, text, length, 0) != length)
		abort();
	*ret = run(dev);
	length = pread(nth_fd, text, sizeof(text) - 1, 0);
	text[length > 0 ? length : 0] = '\0';
	(void)!pwrite(nth_fd, "0", 1, 0);
	return atoi(text) == 0;
}

#endif /* DVSM_SELFTEST_FAIL_NTH_H */
