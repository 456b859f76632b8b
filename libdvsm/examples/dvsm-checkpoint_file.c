// SPDX-License-Identifier: GPL-2.0-only
/*
 * Checkpoint files: what one snapshot has that the one before had not.
 *
 * A file appears under its name when all of it is on the disk. Each names the
 * digest of the one before, so that a restart takes a whole chain or none.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dvsm-checkpoint.h"

#define VERSION		1
#define BLOCK		(1UL << 20)	/* bytes that are read or written at once */

static const char magic[8] = "DVSMCKPT";

/* FNV-1a (Fowler, Noll, Vo) by words of 8 bytes; @length is a multiple of 8. */
uint64_t digest_words(uint64_t digest, const void *bytes, uint64_t length)
{
	const uint64_t *words = bytes;
	uint64_t i;

	for (i = 0; i < length / 8; i++)
		digest = (digest ^ words[i]) * 0x100000001b3;
	return digest;
}

static uint64_t digest_begin(const struct head *head)
{
	struct head copy = *head;

	copy.digest = 0;
	return digest_words(0xcbf29ce484222325, &copy, sizeof(copy));
}

static int path_of(const struct chain *chain, uint32_t number, const char *ending, char *path,
		   size_t size)
{
	int length = snprintf(path, size, "%s/%06u.%s", chain->directory, number, ending);

	return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

/* A growing list. */
struct ranges {
	struct dvsm_range *at;
	uint64_t nr, room;
	uint64_t nr_bytes;
};

static int ranges_add(void *argument, const struct dvsm_range *range)
{
	struct ranges *ranges = argument;

	if (ranges->nr == ranges->room) {
		uint64_t room = ranges->room ? 2 * ranges->room : 64;
		void *at = realloc(ranges->at, room * sizeof(*range));

		if (!at)
			return -ENOMEM;
		ranges->at = at;
		ranges->room = room;
	}
	ranges->at[ranges->nr++] = *range;
	ranges->nr_bytes += range->length;
	return 0;
}

static int write_all(int fd, const void *bytes, uint64_t length)
{
	const char *at = bytes;
	ssize_t written;

	while (length) {
		written = write(fd, at, length < BLOCK ? length : BLOCK);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		at += written;
		length -= (uint64_t)written;
	}
	return 0;
}

static int read_all(int fd, void *bytes, uint64_t length)
{
	char *at = bytes;
	ssize_t got;

	while (length) {
		got = read(fd, at, length < BLOCK ? length : BLOCK);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got ? -errno : -EBADMSG;	/* the file is too short */
		at += got;
		length -= (uint64_t)got;
	}
	return 0;
}

static int write_contents(int fd, struct head *head, const struct ranges *ranges,
			  const char *base)
{
	uint64_t i;
	int error;

	head->digest = digest_words(digest_begin(head), ranges->at,
				    ranges->nr * sizeof(*ranges->at));
	for (i = 0; i < ranges->nr; i++)
		head->digest = digest_words(head->digest, base + ranges->at[i].offset,
					    ranges->at[i].length);
	error = write_all(fd, head, sizeof(*head));
	if (!error)
		error = write_all(fd, ranges->at, ranges->nr * sizeof(*ranges->at));
	for (i = 0; !error && i < ranges->nr; i++)
		error = write_all(fd, base + ranges->at[i].offset, ranges->at[i].length);
	if (!error && fsync(fd))
		error = -errno;
	return error;
}

static int directory_sync(const char *directory)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;

	if (fd < 0)
		return -errno;
	error = fsync(fd) ? -errno : 0;
	close(fd);
	return error;
}

static int write_file(const struct chain *chain, struct head *head, const struct ranges *ranges,
		      const char *base)
{
	char path[4096], temporary[4096];
	int fd, error;

	if (path_of(chain, head->number, "dvsm", path, sizeof(path)) ||
	    path_of(chain, head->number, "tmp", temporary, sizeof(temporary)))
		return -ENAMETOOLONG;
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	error = write_contents(fd, head, ranges, base);
	close(fd);
	if (!error && rename(temporary, path))
		error = -errno;
	if (error)
		unlink(temporary);
	return error ? error : directory_sync(chain->directory);
}

/* The next checkpoint: what @snapshot has that @before had not. */
int checkpoint_write(struct chain *chain, const struct dvsm_region *snapshot,
		     const struct dvsm_region *before, struct head *head)
{
	struct ranges ranges = { 0 };
	char *base;
	int error;

	base = dvsm_region_map(snapshot, 0, 0, PROT_READ, NULL);
	if (!base)
		return -errno;
	error = dvsm_region_diff_each(snapshot, before, 0, 0, ranges_add, &ranges);
	*head = (struct head){
		.version = VERSION,
		.number = chain->number + 1,
		.length = dvsm_region_length(snapshot),
		.nr_ranges = ranges.nr,
		.nr_bytes = ranges.nr_bytes,
		.previous = chain->digest,
	};
	memcpy(head->magic, magic, sizeof(magic));
	if (!error)
		error = write_file(chain, head, &ranges, base);
	if (!error) {
		chain->number = head->number;
		chain->digest = head->digest;
	}
	dvsm_region_unmap(base, dvsm_region_length(snapshot));
	free(ranges.at);
	return error;
}

static int open_file(const struct chain *chain, uint32_t number, struct head *head)
{
	char path[4096];
	int fd, error;

	if (path_of(chain, number, "dvsm", path, sizeof(path)))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	error = read_all(fd, head, sizeof(*head));
	if (!error && (memcmp(head->magic, magic, sizeof(magic)) || head->version != VERSION ||
		       head->number != number || !head->length ||
		       head->length % DVSM_CHUNK_SIZE))
		error = -EBADMSG;
	if (!error)
		return fd;
	close(fd);
	return error;
}

int checkpoint_head(const struct chain *chain, uint32_t number, struct head *head)
{
	int fd = open_file(chain, number, head);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* Nothing that a file says is believed before it is known to fit. */
static int load_range(int fd, const struct dvsm_range *range, char *base, uint64_t length,
		      uint64_t *digest)
{
	int error;

	if (range->offset % 8 || range->length % 8 || range->offset > length ||
	    range->length > length - range->offset)
		return -EBADMSG;
	error = read_all(fd, base + range->offset, range->length);
	*digest = digest_words(*digest, base + range->offset, range->length);
	return error;
}

static int load_contents(int fd, const struct head *head, char *base)
{
	struct dvsm_range *ranges;
	uint64_t digest, i;
	int error;

	if (head->nr_ranges > head->length / DVSM_CHUNK_SIZE)
		return -EBADMSG;
	ranges = calloc(head->nr_ranges + 1, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	error = read_all(fd, ranges, head->nr_ranges * sizeof(*ranges));
	digest = digest_words(digest_begin(head), ranges, head->nr_ranges * sizeof(*ranges));
	for (i = 0; !error && i < head->nr_ranges; i++)
		error = load_range(fd, &ranges[i], base, head->length, &digest);
	free(ranges);
	return !error && digest != head->digest ? -EBADMSG : error;
}

/*
 * The checkpoint after the last one that was loaded, on top of it. -EBADMSG: the
 * file is damaged, or none of this chain; what is at @base is of no use then.
 */
int checkpoint_load(struct chain *chain, char *base, uint64_t length)
{
	struct head head;
	int fd = open_file(chain, chain->number + 1, &head), error;

	if (fd < 0)
		return fd;
	error = head.length == length && head.previous == chain->digest ?
		load_contents(fd, &head, base) : -EBADMSG;
	close(fd);
	if (error)
		return error;
	chain->number = head.number;
	chain->digest = head.digest;
	return 0;
}

/* From the last one down, so that what is left is a chain at any moment. */
int checkpoint_remove_after(const struct chain *chain)
{
	uint32_t last = chain->number;
	char path[4096];

	for (;; last++) {
		if (path_of(chain, last + 1, "dvsm", path, sizeof(path)))
			return -ENAMETOOLONG;
		if (access(path, F_OK))
			break;
	}
	for (; last > chain->number; last--) {
		if (path_of(chain, last, "dvsm", path, sizeof(path)))
			return -ENAMETOOLONG;
		if (unlink(path))
			return -errno;
	}
	return directory_sync(chain->directory);
}
