// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a memfd's chunks are made of and on which nodes they are.
 *
 * The kernel tells this about mappings, not about files, so chunks are looked
 * at through mappings that live for one call. Which pages exist: SEEK_DATA on
 * shared memory; on hugetlbfs, which has no such thing, a fault that is not
 * allowed to allocate. Whether a chunk is one huge folio: the ShmemPmdMapped
 * line of smaps for a mapping of that chunk alone, hence the gaps between the
 * windows. Nodes: move_pages() that asks and moves nothing, or that moves.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY	1
#endif

#define DVSM_WINDOWS		64U			/* chunks looked at together */
#define DVSM_WINDOW_STRIDE	(2 * DVSM_CHUNK_SIZE)	/* a chunk and a gap */
#define DVSM_CHUNK_PAGES	(DVSM_CHUNK_SIZE / DVSM_PAGE_SIZE)

/* Windows side by side, each a chunk, in a reserve that is unmapped as one. */
struct dvsm_windows {
	char *reserve;
	uint64_t reserved;
	char *first;		/* window N is at first + N * DVSM_WINDOW_STRIDE */
};

static char *dvsm_window(const struct dvsm_windows *windows, uint32_t n)
{
	return windows->first + n * DVSM_WINDOW_STRIDE;
}

static int dvsm_windows_init(struct dvsm_windows *windows, uint32_t nr_windows)
{
	windows->reserved = nr_windows * DVSM_WINDOW_STRIDE + DVSM_CHUNK_SIZE;
	windows->reserve = mmap(NULL, windows->reserved, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (windows->reserve == MAP_FAILED)
		return -errno;
	windows->first = (char *)dvsm_align_up((uintptr_t)windows->reserve, DVSM_CHUNK_SIZE);
	return 0;
}

static void dvsm_windows_exit(struct dvsm_windows *windows)
{
	munmap(windows->reserve, windows->reserved);
}

static int dvsm_window_map(const struct dvsm_windows *windows, uint32_t n, int fd,
			   uint64_t offset, uint64_t length)
{
	char *address = mmap(dvsm_window(windows, n), length, PROT_READ,
			     MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, (off_t)offset);

	if (address == MAP_FAILED)
		return -errno;
	/* Whoever dumps core meanwhile fills no holes. */
	madvise(address, length, MADV_DONTDUMP);
	return 0;
}

/*
 * Fills node and, where it is wanted, adds to the bytes of each node. Sandboxes forbid
 * move_pages(): nodes are unknown there.
 */
static int dvsm_chunk_nodes(char *address, struct dvsm_chunk *chunk, size_t page_size,
			    const struct dvsm_node_query *query)
{
	unsigned long nr_pages = DVSM_CHUNK_SIZE / page_size, i;
	void *pages[DVSM_CHUNK_PAGES];
	int status[DVSM_CHUNK_PAGES];
	bool seen = false;

	for (i = 0; i < nr_pages; i++)
		pages[i] = address + i * page_size;
	chunk->node = DVSM_NODE_MIXED;
	if (!query)
		return 0;
	if (syscall(SYS_move_pages, 0, nr_pages, pages, NULL, status, 0)) {
		if (errno == EPERM)
			return query->nodes ? -EOPNOTSUPP : 0;
		/* A kernel without NUMA has node 0 alone. */
		if (errno != ENOSYS)
			return -errno;
		memset(status, 0, sizeof(status));
	}
	for (i = 0; i < nr_pages; i++) {
		if (status[i] < 0)
			continue; /* not there */
		if ((uint32_t)status[i] < query->nr_nodes)
			query->nodes[status[i]].out_resident += page_size;
		if (!seen)
			chunk->node = status[i];
		else if (chunk->node != status[i])
			chunk->node = DVSM_NODE_MIXED;
		seen = true;
	}
	return 0;
}

/* Sets HUGE in the chunks whose window smaps shows as one PMD. */
static int dvsm_windows_smaps(const struct dvsm_windows *windows, struct dvsm_chunk *chunks,
			      uint32_t nr_chunks)
{
	const unsigned long first = (uintptr_t)windows->first;
	struct dvsm_chunk *chunk = NULL;
	char buffer[4096], *line, *end;
	size_t held = 0;
	ssize_t got;
	int fd;

	fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -EOPNOTSUPP;
	while ((got = read(fd, buffer + held, sizeof(buffer) - 1 - held)) > 0) {
		held += (size_t)got;
		buffer[held] = '\0';
		for (line = buffer; (end = strchr(line, '\n')); line = end + 1) {
			unsigned long value;
			char *after;

			*end = '\0';
			value = strtoul(line, &after, 16);
			if (*after == '-') {
				value -= first;
				chunk = value % DVSM_WINDOW_STRIDE == 0 &&
					value / DVSM_WINDOW_STRIDE < nr_chunks ?
					&chunks[value / DVSM_WINDOW_STRIDE] : NULL;
			} else if (chunk && !strncmp(line, "ShmemPmdMapped:", 15) &&
				   strtoul(line + 15, NULL, 10) * 1024 == DVSM_CHUNK_SIZE) {
				chunk->flags |= DVSM_CHUNK_F_HUGE;
			}
		}
		held -= (size_t)(line - buffer);
		memmove(buffer, line, held);
		/* A path may be longer than the buffer: its line's rest is no mapping of ours. */
		if (held == sizeof(buffer) - 1)
			held = 0;
	}
	close(fd);
	return got < 0 ? -errno : 0;
}

static void dvsm_chunk_folios(struct dvsm_chunk *chunk)
{
	if (chunk->flags & DVSM_CHUNK_F_HUGE) {
		chunk->nr_folios = 1;
		chunk->order_min = chunk->order_max = DVSM_CHUNK_SHIFT - 12;
	} else {
		chunk->nr_folios = (uint16_t)(chunk->resident / DVSM_PAGE_SIZE);
	}
}

/* Maps what is there of the chunk, and counts it; allocates nothing. */
static int dvsm_chunk_touch(int fd, char *address, struct dvsm_chunk *chunk, uint64_t length)
{
	const uint64_t end = chunk->offset + length;
	uint64_t data, hole = chunk->offset;
	off_t found;

	while (hole < end) {
		found = lseek(fd, (off_t)hole, SEEK_DATA);
		if (found < 0 && errno == ENXIO)
			break;
		if (found < 0)
			return -errno;
		data = (uint64_t)found;
		if (data >= end)
			break;
		found = lseek(fd, found, SEEK_HOLE);
		if (found < 0 && errno == ENXIO)
			break; /* discarded meanwhile */
		if (found < 0)
			return -errno;
		hole = dvsm_align_up((uint64_t)found, DVSM_PAGE_SIZE);
		if (hole > end)
			hole = end;
		if (madvise(address + (data - chunk->offset), hole - data, MADV_POPULATE_READ) &&
		    errno != EFAULT && errno != EHWPOISON)
			return errno == EINVAL ? -EOPNOTSUPP : -errno;
		chunk->resident += (uint32_t)(hole - data);
	}
	return 0;
}

/* One batch: the next chunks that have data. Number of chunks, *next moved on. */
static int dvsm_shmem_batch(const struct dvsm_region *region, int fd, uint64_t end,
			    struct dvsm_chunk *chunks, uint32_t nr_chunks, uint64_t *next,
			    const struct dvsm_node_query *query)
{
	const uint64_t file_end = dvsm_align_up(region->length, DVSM_PAGE_SIZE);
	struct dvsm_windows windows = { 0 };
	uint32_t nr_found = 0, i;
	int error;

	error = dvsm_windows_init(&windows, nr_chunks);
	if (error)
		return error;
	while (!error && nr_found < nr_chunks && *next < end) {
		struct dvsm_chunk *chunk = &chunks[nr_found];
		off_t data = lseek(fd, (off_t)*next, SEEK_DATA);
		uint64_t length;

		if (data < 0 || (uint64_t)data >= end) {
			error = data < 0 && errno != ENXIO ? -errno : 0;
			*next = end;
			break;
		}
		memset(chunk, 0, sizeof(*chunk));
		chunk->offset = dvsm_align_down((uint64_t)data, DVSM_CHUNK_SIZE);
		*next = chunk->offset + DVSM_CHUNK_SIZE;
		length = DVSM_CHUNK_SIZE;
		if (length > file_end - chunk->offset)
			length = file_end - chunk->offset;
		error = dvsm_window_map(&windows, nr_found, fd, chunk->offset, length);
		if (!error)
			error = dvsm_chunk_touch(fd, dvsm_window(&windows, nr_found), chunk, length);
		if (!error && chunk->resident)
			nr_found++;
	}
	if (!error && nr_found && region->backend == DVSM_BACKEND_MEMFD_THP)
		error = dvsm_windows_smaps(&windows, chunks, nr_found);
	for (i = 0; !error && i < nr_found; i++) {
		error = dvsm_chunk_nodes(dvsm_window(&windows, i), &chunks[i], DVSM_PAGE_SIZE,
					 query);
		dvsm_chunk_folios(&chunks[i]);
	}
	dvsm_windows_exit(&windows);
	return error ? error : (int)nr_found;
}

/* A descriptor of our own for lseek(): the region's has a position that is the user's. */
static int dvsm_shmem_open(const struct dvsm_region *region)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", region->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -EOPNOTSUPP : -errno;
	return fd;
}

static int dvsm_shmem_residency(const struct dvsm_region *region, uint64_t end,
				struct dvsm_chunk *chunks, uint32_t nr_chunks, uint64_t *next,
				const struct dvsm_node_query *query)
{
	uint32_t nr_found = 0, batch;
	int found = 0;
	int fd;

	fd = dvsm_shmem_open(region);
	if (fd < 0)
		return fd;
	while (found >= 0 && nr_found < nr_chunks && *next < end) {
		batch = nr_chunks - nr_found;
		if (batch > DVSM_WINDOWS)
			batch = DVSM_WINDOWS;
		found = dvsm_shmem_batch(region, fd, end, chunks + nr_found, batch, next, query);
		if (found > 0)
			nr_found += (uint32_t)found;
	}
	close(fd);
	return found < 0 ? found : (int)nr_found;
}

/* A range whose faults fail where there is no page yet. The userfaultfd, or -errno. */
static int dvsm_missing_bar(char *address, uint64_t length)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_SIGBUS };
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)address, .len = length },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd;

	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (fd < 0)
		return -EOPNOTSUPP;
	if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range)) {
		close(fd);
		return -EOPNOTSUPP;
	}
	return fd;
}

/* The chunk at @offset: 1 where it is there, 0 where it is not. */
static int dvsm_hugetlb_chunk(const struct dvsm_region *region, bool full, uint64_t offset,
			      const struct dvsm_windows *windows, struct dvsm_chunk *chunk,
			      const struct dvsm_node_query *query)
{
	char *address = dvsm_window(windows, 0);
	int error, bar = -1;
	bool present;

	error = dvsm_window_map(windows, 0, region->fd, offset, DVSM_CHUNK_SIZE);
	if (error)
		return error;
	if (!full) {
		bar = dvsm_missing_bar(address, DVSM_CHUNK_SIZE);
		if (bar < 0)
			return bar;
	}
	present = !madvise(address, DVSM_CHUNK_SIZE, MADV_POPULATE_READ);
	error = present || errno == EFAULT || errno == EHWPOISON ? 0 : -errno;
	if (present) {
		memset(chunk, 0, sizeof(*chunk));
		chunk->offset = offset;
		chunk->resident = DVSM_CHUNK_SIZE;
		chunk->flags = DVSM_CHUNK_F_HUGE;
		dvsm_chunk_folios(chunk);
		error = dvsm_chunk_nodes(address, chunk, DVSM_CHUNK_SIZE, query);
	}
	if (bar >= 0)
		close(bar);
	return error ? error : present;
}

static int dvsm_hugetlb_residency(const struct dvsm_region *region, uint64_t end,
				  struct dvsm_chunk *chunks, uint32_t nr_chunks, uint64_t *next,
				  const struct dvsm_node_query *query)
{
	struct dvsm_windows windows = { 0 };
	uint32_t nr_found = 0;
	struct stat file;
	uint64_t held;
	int found = 0;

	if (fstat(region->fd, &file))
		return -errno;
	held = (uint64_t)file.st_blocks * 512;
	if (!held) {
		*next = end;
		return 0;
	}
	found = dvsm_windows_init(&windows, 1);
	if (found)
		return found;
	while (found >= 0 && nr_found < nr_chunks && *next < end) {
		found = dvsm_hugetlb_chunk(region, held >= (uint64_t)file.st_size, *next, &windows,
					   &chunks[nr_found], query);
		if (found > 0)
			nr_found++;
		*next += DVSM_CHUNK_SIZE;
	}
	dvsm_windows_exit(&windows);
	return found < 0 ? found : (int)nr_found;
}

/*
 * As dvsm_region_residency(), and adds to out_resident of @query's nodes what each node
 * holds: that is more than @chunks can say when a chunk is on several nodes. @query is
 * NULL where not even the chunks' nodes are wanted: asking costs by pages.
 */
int dvsm_memfd_residency(const struct dvsm_region *region, uint64_t offset, uint64_t end,
			 struct dvsm_chunk *chunks, uint32_t nr_chunks, uint64_t *next,
			 const struct dvsm_node_query *query)
{
	uint64_t cursor = offset;
	int found;

	if (nr_chunks > INT32_MAX)
		nr_chunks = INT32_MAX;
	if (region->backend == DVSM_BACKEND_MEMFD_HUGETLB)
		found = dvsm_hugetlb_residency(region, end, chunks, nr_chunks, &cursor, query);
	else
		found = dvsm_shmem_residency(region, end, chunks, nr_chunks, &cursor, query);
	if (found >= 0)
		*next = cursor < end ? cursor : end;
	return found;
}

static bool dvsm_set_has(const uint64_t *nodes, uint32_t nr_nodes, int node)
{
	return node >= 0 && (uint32_t)node < nr_nodes && nodes[node / 64] >> node % 64 & 1;
}

/* The node that comes @nth in turn, from a set that is not empty. */
static int dvsm_set_nth(const uint64_t *nodes, uint32_t nr_nodes, uint64_t nth)
{
	uint32_t node, weight = 0;

	for (node = 0; node < nr_nodes; node++)
		weight += dvsm_set_has(nodes, nr_nodes, (int)node);
	nth %= weight;
	for (node = 0; node < nr_nodes; node++)
		if (dvsm_set_has(nodes, nr_nodes, (int)node) && !nth--)
			break;
	return (int)node;
}

/* Pages that shall move, and why each stays, if it does. */
struct dvsm_moves {
	unsigned long nr;
	void *pages[DVSM_CHUNK_PAGES];
	int status[DVSM_CHUNK_PAGES];
};

#define DVSM_STATUS_NONE	INT_MIN		/* the kernel has not written any */
#define DVSM_MOVE_TRIES		8

/* Whoever else has them mapped, if the caller is allowed that. */
static long dvsm_pages_move(unsigned long nr, void **pages, const int *nodes, int *status)
{
	long ret = syscall(SYS_move_pages, 0, nr, pages, nodes, status, MPOL_MF_MOVE_ALL);

	if (ret < 0 && errno == EPERM)
		ret = syscall(SYS_move_pages, 0, nr, pages, nodes, status, MPOL_MF_MOVE);
	return ret;
}

/*
 * The kernel moves pages in batches, which end with a page that it cannot take, and writes
 * that one's status first. Where some of a batch do not move it writes nothing for the whole
 * batch and ends, with the number of pages that have not moved: so the next try begins behind
 * the page that ended the batch. Without memory there is no next one; nor are there many, for
 * a huge page that stays is tried again for each two of its pages.
 */
static int dvsm_moves_do(struct dvsm_moves *moves, int to)
{
	int targets[DVSM_CHUNK_PAGES], *status = moves->status;
	unsigned long first = 0, i;
	long ret;
	int try;

	for (i = 0; i < moves->nr; i++) {
		targets[i] = to;
		status[i] = DVSM_STATUS_NONE;
	}
	for (try = 0; try < DVSM_MOVE_TRIES && first < moves->nr; try++) {
		ret = dvsm_pages_move(moves->nr - first, moves->pages + first, targets,
				      status + first);
		if (!ret)
			return 0;
		if (ret < 0 && errno != ENOMEM)
			return -errno;
		for (i = first; i < moves->nr && status[i] != DVSM_STATUS_NONE; i++)
			;
		for (; i < moves->nr && (ret < 0 || status[i] == DVSM_STATUS_NONE); i++)
			if (status[i] == DVSM_STATUS_NONE)
				status[i] = ret < 0 ? -ENOMEM : -EBUSY;
		first = i + 1;
	}
	return 0;
}

/* The pages of [address, address + length) that are mapped and not where they shall be. */
static int dvsm_moves_pick(struct dvsm_moves *moves, char *address, uint64_t length,
			   size_t page_size, struct dvsm_region_migrate *migrate)
{
	const uint64_t *nodes = (const uint64_t *)(uintptr_t)migrate->nodes;
	const uint64_t *from = (const uint64_t *)(uintptr_t)migrate->from;
	unsigned long nr = length / page_size, i;
	int *status = moves->status;

	for (i = 0; i < nr; i++)
		moves->pages[i] = address + i * page_size;
	if (syscall(SYS_move_pages, 0, nr, moves->pages, NULL, status, 0))
		return errno == EPERM || errno == ENOSYS ? -EOPNOTSUPP : -errno;
	moves->nr = 0;
	for (i = 0; i < nr; i++) {
		if (status[i] < 0 || (from && !dvsm_set_has(from, migrate->nr_from, status[i])))
			continue;
		if (dvsm_set_has(nodes, migrate->nr_nodes, status[i]))
			migrate->out_there += page_size;
		else
			moves->pages[moves->nr++] = moves->pages[i];
	}
	return 0;
}

/* By where pages are now: a huge one moves with its first, and leaves the others' status wrong. */
static int dvsm_moves_count(struct dvsm_moves *moves, size_t page_size,
			    struct dvsm_region_migrate *migrate)
{
	const uint64_t *nodes = (const uint64_t *)(uintptr_t)migrate->nodes;
	int now[DVSM_CHUNK_PAGES];
	unsigned long i;

	if (syscall(SYS_move_pages, 0, moves->nr, moves->pages, NULL, now, 0))
		return -errno;
	for (i = 0; i < moves->nr; i++)
		if (dvsm_set_has(nodes, migrate->nr_nodes, now[i]))
			migrate->out_moved += page_size;
		else if (now[i] == -ENOENT)
			continue; /* discarded meanwhile */
		else if (moves->status[i] == -ENOMEM)
			migrate->out_failed += page_size;
		else
			migrate->out_referenced += page_size;
	return 0;
}

/* Maps what there is of the chunk. @fd: a descriptor to seek in; -1 for hugetlb */
static int dvsm_migrate_touch(int fd, char *address, const struct dvsm_chunk *chunk,
			      uint64_t length)
{
	struct dvsm_chunk unwanted = *chunk;

	if (fd < 0)
		return madvise(address, length, MADV_POPULATE_READ) ? -errno : 0;
	return dvsm_chunk_touch(fd, address, &unwanted, length);
}

static int dvsm_chunk_migrate(const struct dvsm_region *region, int fd,
			      const struct dvsm_windows *windows, const struct dvsm_chunk *chunk,
			      uint64_t end, struct dvsm_region_migrate *migrate)
{
	const uint64_t *nodes = (const uint64_t *)(uintptr_t)migrate->nodes;
	const bool hugetlb = region->backend == DVSM_BACKEND_MEMFD_HUGETLB;
	const size_t page_size = hugetlb ? DVSM_CHUNK_SIZE : DVSM_PAGE_SIZE;
	const uint64_t file_end = dvsm_align_up(region->length, DVSM_PAGE_SIZE);
	uint64_t start = chunk->offset, length, stop;
	char *address = dvsm_window(windows, 0);
	struct dvsm_moves moves;
	int error;

	length = file_end - start < DVSM_CHUNK_SIZE ? file_end - start : DVSM_CHUNK_SIZE;
	stop = start + length;
	error = dvsm_window_map(windows, 0, region->fd, start, length);
	if (!error)
		error = dvsm_migrate_touch(fd, address, chunk, length);
	if (error)
		return error;
	if (!hugetlb && migrate->offset > start)
		start = migrate->offset;
	if (!hugetlb && stop > end)
		stop = end;
	error = dvsm_moves_pick(&moves, address + (start - chunk->offset), stop - start, page_size,
				migrate);
	if (error || !moves.nr)
		return error;
	error = dvsm_moves_do(&moves, dvsm_set_nth(nodes, migrate->nr_nodes,
						   chunk->offset / DVSM_CHUNK_SIZE));
	/* A huge page that was split for it is not mapped any more. */
	if (!error)
		error = dvsm_migrate_touch(fd, address, chunk, length);
	return error ? error : dvsm_moves_count(&moves, page_size, migrate);
}

/* As DVSM_IOC_REGION_MIGRATE; the sets and the range are checked, @end is the range's. */
int dvsm_memfd_migrate(const struct dvsm_region *region, uint64_t end,
		       struct dvsm_region_migrate *migrate)
{
	uint64_t next = dvsm_align_down(migrate->offset, DVSM_CHUNK_SIZE);
	const bool hugetlb = region->backend == DVSM_BACKEND_MEMFD_HUGETLB;
	struct dvsm_windows windows = { 0 };
	int fd, found = 1, error;

	migrate->out_next = migrate->offset;
	fd = hugetlb ? -1 : dvsm_shmem_open(region);
	if (fd < 0 && !hugetlb)
		return fd;
	error = dvsm_windows_init(&windows, 1);
	if (error) {
		if (fd >= 0)
			close(fd);
		return error;
	}
	while (!error && next < end) {
		struct dvsm_chunk chunk;

		found = dvsm_memfd_residency(region, next, end, &chunk, 1, &next, NULL);
		if (found == 1)
			error = dvsm_chunk_migrate(region, fd, &windows, &chunk, end, migrate);
		else if (found < 0)
			error = found;
		if (!error)
			migrate->out_next = next < end ? next : end;
	}
	dvsm_windows_exit(&windows);
	if (fd >= 0)
		close(fd);
	return error;
}
