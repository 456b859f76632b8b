// SPDX-License-Identifier: GPL-2.0-only
/* Which files are counted: the same ones in the same order on every run. */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wordcount.h"

/* Text that a Debian machine has; what is missing is passed over. */
const char *const corpus_default[] = {
	"/usr/share/common-licenses", "/usr/share/doc", "/usr/share/perl", "/usr/share/perl5",
	"/usr/lib/python3", "/usr/lib/python3.11", "/usr/share/vim", "/usr/share/autoconf",
	"/usr/share/groff", "/usr/share/mime", "/usr/share/X11", NULL,
};

static const char *const packed[] = {
	".gz", ".xz", ".bz2", ".zst", ".zip", ".pyc", ".png", ".gif", ".jpg", ".pdf", ".svgz",
};

static bool is_packed(const char *path)
{
	const char *dot = strrchr(path, '.');
	size_t i;

	for (i = 0; dot && i < sizeof(packed) / sizeof(packed[0]); i++)
		if (!strcmp(dot, packed[i]))
			return true;
	return false;
}

/* Readable, and no NUL near its beginning. */
static bool is_text(const char *path)
{
	char head[4096];
	ssize_t length;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	length = read(fd, head, sizeof(head));
	close(fd);
	return length > 0 && !memchr(head, '\0', (size_t)length);
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static void *grow(void *array, uint64_t nr, size_t size)
{
	/* Doubles at each power of two. */
	if (nr & (nr - 1))
		return array;
	return realloc(array, (nr ? 2 * nr : 1) * size);
}

static int corpus_add(struct corpus *corpus, const char *path, uint64_t length)
{
	struct file *file;
	uint64_t offset;

	corpus->files = grow(corpus->files, corpus->nr_files, sizeof(*corpus->files));
	if (!corpus->files)
		return -ENOMEM;
	for (offset = 0; offset < length; offset += BLOCK_SIZE) {
		corpus->tasks = grow(corpus->tasks, corpus->nr_tasks, sizeof(*corpus->tasks));
		if (!corpus->tasks)
			return -ENOMEM;
		corpus->tasks[corpus->nr_tasks++] = (struct task){
			.file = (uint32_t)corpus->nr_files,
			.offset = offset,
		};
	}
	file = &corpus->files[corpus->nr_files++];
	file->path = strdup(path);
	file->length = length;
	corpus->length += length;
	return file->path ? 0 : -ENOMEM;
}

/*
 * Walks @roots in order, each by name, links not followed, until @limit bytes
 * are there; the last file is cut at the limit.
 */
int corpus_load(struct corpus *corpus, const char *const *roots, uint64_t limit)
{
	FTSENT *entry;
	int error = 0;
	FTS *walk;

	for (; *roots && !error && corpus->length < limit; roots++) {
		/* Keeps the order of the roots, which fts would sort too. */
		char *const root[] = { (char *)*roots, NULL };

		walk = fts_open(root, FTS_PHYSICAL | FTS_NOCHDIR | FTS_COMFOLLOW, by_name);
		if (!walk)
			return -errno;
		while (!error && corpus->length < limit && (entry = fts_read(walk))) {
			uint64_t length, left = limit - corpus->length;

			if (entry->fts_info != FTS_F)
				continue;
			length = (uint64_t)entry->fts_statp->st_size;
			if (!length || is_packed(entry->fts_path) || !is_text(entry->fts_path))
				corpus->nr_skipped++;
			else
				error = corpus_add(corpus, entry->fts_path,
						   length < left ? length : left);
		}
		fts_close(walk);
	}
	return error;
}

void corpus_free(struct corpus *corpus)
{
	uint64_t i;

	for (i = 0; i < corpus->nr_files; i++)
		free(corpus->files[i].path);
	free(corpus->files);
	free(corpus->tasks);
}
