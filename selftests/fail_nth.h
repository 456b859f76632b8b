/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The N-th allocation of this task fails: /proc/self/fail-nth.
 */
#ifndef DVSM_SELFTEST_FAIL_NTH_H
#define DVSM_SELFTEST_FAIL_NTH_H

#include "common.h"

#define DEBUGFS		"/sys/kernel/debug/"
#define FAIL_NTH	"/proc/self/fail-nth"

/* The descriptor for fail_nth_run(); less than 0 without fault injection. */
static inline int fail_nth_open(void)
{
	/* Allocations that may sleep are ours too; nothing is printed for each. */
	static const struct { const char *path, *value; } settings[] = {
		{ DEBUGFS "failslab/ignore-gfp-wait", "N" },
		{ DEBUGFS "failslab/verbose", "0" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ DEBUGFS "fail_page_alloc/min-order", "0" },
		{ DEBUGFS "fail_page_alloc/verbose", "0" },
		{ DEBUGFS "fail_usercopy/verbose", "0" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(settings); i++)
		write_text(settings[i].path, settings[i].value);
	return open(FAIL_NTH, O_RDWR);
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
