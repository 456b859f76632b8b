// SPDX-License-Identifier: GPL-2.0-only
/*
 * The same count by other means: the tools that everybody has (tr, sort, uniq),
 * or, where they are missing or slow, one process that sorts all words. Nothing
 * is shared with the count that is checked but the list of files.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wordcount.h"

static const char pipeline[] =
	"export LC_ALL=C; tr -cs A-Za-z '\\n' | tr A-Z a-z | sort | uniq -c";

/* Compares line by line what comes, in order, with the entries. */
struct comparison {
	const struct entry *entries;
	uint64_t nr_entries, nr_seen, nr_wrong;
};

static void compare(struct comparison *comparison, const char *word, size_t length,
		    uint64_t count)
{
	const struct entry other = { .word = word, .length = (uint32_t)length };
	const struct entry *entry = NULL;

	if (comparison->nr_seen < comparison->nr_entries)
		entry = &comparison->entries[comparison->nr_seen];
	comparison->nr_seen++;
	if (entry && !entry_compare(entry, &other) && entry->count == count)
		return;
	if (comparison->nr_wrong++ < 5)
		fprintf(stderr, "wordcount: MISMATCH: %.*s %" PRIu64 " against %.*s %" PRIu64 "\n",
			entry ? shown(entry->length) : 0, entry ? entry->word : "",
			entry ? entry->count : 0, shown((uint32_t)length), word, count);
}

/* The file's part that is counted, followed by @end; 0 or -errno. */
static int copy_file(const struct file *file, int (*put)(void *, const char *, size_t),
		     void *argument)
{
	static char buffer[1 << 20];
	uint64_t left = file->length;
	int fd = open(file->path, O_RDONLY | O_CLOEXEC), error = 0;
	ssize_t got;

	if (fd < 0)
		return -errno;
	while (!error && left) {
		got = read(fd, buffer, left < sizeof(buffer) ? left : sizeof(buffer));
		if (got <= 0) {
			error = got ? -errno : -EIO;
			break;
		}
		left -= (uint64_t)got;
		error = put(argument, buffer, (size_t)got);
	}
	close(fd);
	return error ? error : put(argument, "\n", 1);
}

static int put_pipe(void *argument, const char *bytes, size_t length)
{
	ssize_t put;

	while (length) {
		put = write(*(int *)argument, bytes, length);
		if (put < 0)
			return -errno;
		bytes += put;
		length -= (size_t)put;
	}
	return 0;
}

static _Noreturn void feed(const struct corpus *corpus, int to)
{
	uint64_t i;
	int error = 0;

	for (i = 0; !error && i < corpus->nr_files; i++)
		error = copy_file(&corpus->files[i], put_pipe, &to);
	if (error)
		fprintf(stderr, "wordcount: verify: %s\n", strerror(-error));
	_exit(error != 0);
}

static int verify_pipe(const struct corpus *corpus, struct comparison *comparison)
{
	int to[2], from[2], status = 0, failed = 0;
	pid_t feeder, shell;
	char *line = NULL, *word;
	size_t size = 0;
	uint64_t count;
	FILE *answer;

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		return -errno;
	fflush(NULL);
	shell = fork();
	if (!shell) {
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		execl("/bin/sh", "sh", "-c", pipeline, (char *)NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	feeder = fork();
	if (!feeder)
		feed(corpus, to[1]);
	close(to[1]);
	answer = fdopen(from[0], "r");
	if (shell < 0 || feeder < 0 || !answer)
		return -errno;
	while (getline(&line, &size, answer) > 0) {
		count = strtoull(line, &word, 10);
		word += strspn(word, " ");
		word[strcspn(word, "\n")] = '\0';
		/* Text that begins with no letter gives tr one empty word. */
		if (*word)
			compare(comparison, word, strlen(word), count);
	}
	free(line);
	fclose(answer);
	waitpid(feeder, &status, 0);
	failed |= status;
	waitpid(shell, &status, 0);
	failed |= status;
	return failed ? -EIO : 0;
}

struct text {
	char *bytes;
	uint64_t length;
};

static int put_text(void *argument, const char *bytes, size_t length)
{
	struct text *text = argument;
	size_t i;

	for (i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)bytes[i];

		text->bytes[text->length++] = byte < 128 && isalpha(byte) ? (char)tolower(byte) : 0;
	}
	return 0;
}

static int by_letters(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int verify_sort(const struct corpus *corpus, struct comparison *comparison)
{
	struct text text = { .bytes = malloc(corpus->length + corpus->nr_files + 1) };
	uint64_t nr_words = 0, i, run;
	char **words = NULL;
	int error = text.bytes ? 0 : -ENOMEM;

	for (i = 0; !error && i < corpus->nr_files; i++)
		error = copy_file(&corpus->files[i], put_text, &text);
	if (!error)
		words = malloc((text.length / 2 + 1) * sizeof(*words));
	if (!words) {
		free(text.bytes);
		return error ? error : -ENOMEM;
	}
	for (i = 0; i < text.length; i++)
		if (text.bytes[i] && (!i || !text.bytes[i - 1]))
			words[nr_words++] = text.bytes + i;
	qsort(words, nr_words, sizeof(*words), by_letters);
	for (i = 0; i < nr_words; i += run) {
		for (run = 1; i + run < nr_words && !strcmp(words[i], words[i + run]);)
			run++;
		compare(comparison, words[i], strlen(words[i]), run);
	}
	free(words);
	free(text.bytes);
	return 0;
}

static bool have_tools(void)
{
	return !system("command -v tr sort uniq >/dev/null 2>&1");
}

/* 0: equal; 1: not; -errno: it could not be checked. Says which it is. */
int verify(enum verify how, const struct corpus *corpus, const struct entry *entries,
	   uint64_t nr_entries, bool quiet)
{
	struct comparison comparison = { .entries = entries, .nr_entries = nr_entries };
	struct timespec start, end;
	const char *name;
	int error;

	if (how == VERIFY_AUTO)
		how = have_tools() ? VERIFY_PIPE : VERIFY_SORT;
	name = how == VERIFY_PIPE ? "tr | sort | uniq -c" : "sorting all words in one process";
	if (!quiet)
		fprintf(stderr, "checking by %s ...\n", name);
	clock_gettime(CLOCK_MONOTONIC, &start);
	error = how == VERIFY_PIPE ? verify_pipe(corpus, &comparison) :
				     verify_sort(corpus, &comparison);
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (error) {
		fprintf(stderr, "wordcount: verify: %s\n", strerror(-error));
		return error;
	}
	if (comparison.nr_seen < nr_entries)
		comparison.nr_wrong += nr_entries - comparison.nr_seen;
	printf("checked        against %s in %.1f s: ", name,
	       (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9);
	if (comparison.nr_wrong)
		printf("MISMATCH in %" PRIu64 " of %" PRIu64 " entries\n", comparison.nr_wrong,
		       comparison.nr_seen);
	else
		printf("all %" PRIu64 " entries are equal\n", comparison.nr_seen);
	return comparison.nr_wrong != 0;
}
