// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Mapping anew what is mapped: views of a region, and 2 MiB mappings again.
 *
 * Offset and protection of what is there are the kernel's to tell, by
 * /proc/self/maps. It is read without a stream, and again for every piece, because
 * what is replaced changes the list.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <dvsm/snapshot.h>

#include "internal.h"

/* One line of /proc/self/maps. */
struct dvsm_mapping {
	uint64_t start, end;	/* addresses */
	uint64_t offset;	/* of @start, in bytes */
	dev_t device;
	ino_t inode;
	int prot;
	bool is_shared;
};

struct dvsm_maps {
	int fd;
	size_t at, held;
	char buffer[1024];
};

/* What is mapped somewhere is one of ours if its file is on this device, and is this one. */
struct dvsm_files {
	dev_t device;
	ino_t inode;		/* 0: any */
};

/* The next line, its end cut off where @size is too small. Its length; 0 at the end; -errno. */
static int dvsm_maps_line(struct dvsm_maps *maps, char *line, size_t size)
{
	size_t length = 0;
	ssize_t held;
	char byte;

	do {
		if (maps->at == maps->held) {
			held = read(maps->fd, maps->buffer, sizeof(maps->buffer));
			if (held <= 0)
				return held ? -errno : 0;
			maps->at = 0;
			maps->held = (size_t)held;
		}
		byte = maps->buffer[maps->at++];
		if (length < size - 1)
			line[length++] = byte;
	} while (byte != '\n');
	line[length] = '\0';
	return (int)length;
}

/* "START-END rwxs OFFSET MAJOR:MINOR INODE PATH" */
static void dvsm_maps_parse(const char *line, struct dvsm_mapping *mapping)
{
	unsigned int major = 0, minor = 0;
	char access[5] = "----";

	*mapping = (struct dvsm_mapping){ 0 };
	sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &mapping->start, &mapping->end,
	       access, &mapping->offset, &major, &minor, &mapping->inode);
	mapping->prot = (access[0] == 'r' ? PROT_READ : 0) | (access[1] == 'w' ? PROT_WRITE : 0) |
			(access[2] == 'x' ? PROT_EXEC : 0);
	mapping->is_shared = access[3] == 's';
	mapping->device = makedev(major, minor);
}

/* What is mapped at @address, from there on. */
static int dvsm_mapping_find(uint64_t address, struct dvsm_mapping *mapping)
{
	struct dvsm_maps maps = { .at = 0 };
	char line[128];
	int length;

	maps.fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (maps.fd < 0)
		return -errno;
	do {
		length = dvsm_maps_line(&maps, line, sizeof(line));
		if (length > 0)
			dvsm_maps_parse(line, mapping);
	} while (length > 0 && mapping->end <= address);
	close(maps.fd);
	if (length < 0)
		return length;
	if (!length || mapping->start > address)
		return -EINVAL;
	mapping->offset += address - mapping->start;
	mapping->start = address;
	return 0;
}

/*
 * Which files may be replaced by @region. The regions of the device are files of
 * one file system; on memfd there are no views, so only the region itself. An
 * implicit region's descriptor is the device, a second one is the region.
 */
static int dvsm_files_of(const struct dvsm_region *region, struct dvsm_files *files)
{
	struct stat file;
	int fd = region->fd, error = 0;

	if (fstat(fd, &file))
		return -errno;
	if (S_ISCHR(file.st_mode)) {
		fd = region->ops->reopen(region, 0);
		if (fd < 0)
			return fd;
		error = fstat(fd, &file) ? -errno : 0;
		close(fd);
	}
	files->device = file.st_dev;
	files->inode = region->backend == DVSM_BACKEND_DEVICE ? 0 : file.st_ino;
	return error;
}

/* What is mapped at @address, if @region can be mapped instead. */
static int dvsm_piece_find(const struct dvsm_region *region, const struct dvsm_files *files,
			   uint64_t address, struct dvsm_mapping *piece)
{
	int error = dvsm_mapping_find(address, piece);

	if (error)
		return error;
	if (!piece->is_shared || piece->device != files->device ||
	    (files->inode && piece->inode != files->inode))
		return -EINVAL;
	if (piece->offset >= region->length ||
	    piece->end - piece->start > dvsm_align_up(region->length, DVSM_PAGE_SIZE) - piece->offset)
		return -EINVAL;
	return 0;
}

/*
 * The end of what is mapped from @address on as one piece of one file, whatever
 * the protections; the offset at @address.
 */
static int dvsm_extent(const struct dvsm_region *region, const struct dvsm_files *files,
		       uint64_t address, uint64_t *end, uint64_t *offset)
{
	struct dvsm_mapping first, next;
	int error;

	error = dvsm_piece_find(region, files, address, &first);
	if (error)
		return error;
	*offset = first.offset;
	*end = first.end;
	while (!dvsm_piece_find(region, files, *end, &next) && next.inode == first.inode &&
	       next.offset - first.offset == *end - address)
		*end = next.end;
	return 0;
}

static int dvsm_replace(const struct dvsm_region *region, const struct dvsm_files *files,
			uint64_t address, uint64_t end)
{
	struct dvsm_mapping piece;
	uint64_t length;
	void *mapped;
	int error;

	for (; address < end; address += length) {
		error = dvsm_piece_find(region, files, address, &piece);
		if (error)
			return error;
		length = (piece.end < end ? piece.end : end) - address;
		mapped = mmap((void *)address, length, piece.prot, MAP_SHARED | MAP_FIXED,
			      region->fd, (off_t)piece.offset);
		if (mapped == MAP_FAILED)
			return -errno;
		if (region->ops->mapped)
			error = region->ops->mapped(region, mapped, length, MAP_SHARED);
		if (error)
			return error;
	}
	return 0;
}

/* That all of a range can be replaced, before any of it is. */
static int dvsm_replace_check(const struct dvsm_region *region, const struct dvsm_files *files,
			      uint64_t address, uint64_t end)
{
	struct dvsm_mapping piece;
	int error = 0;

	for (; address < end && !error; address = piece.end) {
		error = dvsm_piece_find(region, files, address, &piece);
		if (!error && (piece.prot & PROT_WRITE) &&
		    (region->flags & DVSM_REGION_F_READ_ONLY))
			error = -EACCES;
	}
	return error;
}

int dvsm_region_remap(const struct dvsm_region *region, void *address, uint64_t length)
{
	uint64_t start = (uintptr_t)address, end = start + length, offset;
	struct dvsm_files files;
	int error;

	if (start % DVSM_PAGE_SIZE || length % DVSM_PAGE_SIZE || end < start)
		return dvsm_fail(EINVAL);
	error = dvsm_files_of(region, &files);
	if (!error && !length)
		error = dvsm_extent(region, &files, start, &end, &offset);
	if (!error)
		error = dvsm_replace_check(region, &files, start, end);
	if (!error)
		error = dvsm_replace(region, &files, start, end);
	return dvsm_result(error);
}

struct dvsm_region *dvsm_region_view(const struct dvsm_region *region, void *address)
{
	struct dvsm_snapshot_options options = { .size = sizeof(options), .label = region->label };
	uint64_t start = (uintptr_t)address, end, offset;
	struct dvsm_region *view;
	struct dvsm_files files;
	int error;

	if (region->backend != DVSM_BACKEND_DEVICE)
		return dvsm_fail_null(EOPNOTSUPP);
	if (start % DVSM_PAGE_SIZE)
		return dvsm_fail_null(EINVAL);
	error = dvsm_files_of(region, &files);
	if (!error)
		error = dvsm_extent(region, &files, start, &end, &offset);
	if (error)
		return dvsm_fail_null(error);
	options.offset = dvsm_align_down(offset, DVSM_CHUNK_SIZE);
	options.length = dvsm_align_up(offset + (end - start), DVSM_CHUNK_SIZE) - options.offset;
	if (options.length > region->length - options.offset)
		options.length = 0;
	view = dvsm_snapshot_take(region, &options);
	if (!view)
		return NULL;
	error = dvsm_replace(view, &files, start, end);
	if (error) {
		dvsm_replace(region, &files, start, end);
		dvsm_region_destroy(view);
		return dvsm_fail_null(error);
	}
	return view;
}
