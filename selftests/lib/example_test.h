/* SPDX-License-Identifier: GPL-2.0-only */
/* Running one of libdvsm's example programs, which is linked into the test. */
#ifndef DVSM_EXAMPLE_TEST_H
#define DVSM_EXAMPLE_TEST_H

#include <getopt.h>

#include "lib_test.h"

int example_main(int argc, char **argv);

static char said[65536];	/* by the program that ran last */

/*
 * The program's exit status, 128 plus the signal that ended it, or -1. @line: its
 * arguments, by spaces; %s in it is @directory.
 */
static inline int example_run(const char *line, const char *directory)
{
	char text[1024], *argv[32] = { (char *)"example" };
	char path[] = "/tmp/dvsm-example.XXXXXX";
	int status = -1, fd = mkstemp(path), argc = 1;
	ssize_t length;
	pid_t pid;

	unlink(path);
	snprintf(text, sizeof(text), line, directory);
	for (char *word = strtok(text, " "); word && argc < 31; word = strtok(NULL, " "))
		argv[argc++] = word;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
		optind = 0;	/* the harness has read options of its own */
		exit(example_main(argc, argv));
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	length = pread(fd, said, sizeof(said) - 1, 0);
	said[length > 0 ? length : 0] = '\0';
	close(fd);
	if (pid < 0)
		return -1;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* With what it said, where its exit status is another one. */
#define EXPECT_EXAMPLE(expected, line, directory) do {				\
	int status_ = example_run(line, directory);				\
	EXPECT_EQ(expected, status_)						\
		TH_LOG("%s: %s", line, said);					\
} while (0)

#define ASSERT_EXAMPLE(expected, line, directory) do {				\
	int status_ = example_run(line, directory);				\
	ASSERT_EQ(expected, status_)						\
		TH_LOG("%s: %s", line, said);					\
} while (0)

/* The number before @what in what was said; -1: it was not said. */
static inline long long said_before(const char *what)
{
	char *at = strstr(said, what);

	while (at && at > said && at[-1] == ' ')
		at--;
	if (!at || at == said || at[-1] < '0' || at[-1] > '9')
		return -1;
	while (at > said && at[-1] >= '0' && at[-1] <= '9')
		at--;
	return atoll(at);
}

#define NEED_DEVICE() do {							\
	if (access(DVSM_DEVICE_PATH, R_OK | W_OK))				\
		SKIP(return, DVSM_DEVICE_PATH ": %s", strerror(errno));		\
} while (0)

#endif /* DVSM_EXAMPLE_TEST_H */
