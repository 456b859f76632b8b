// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the library reads as text: lists of nodes and the state of huge pages in sysfs, mappings in /proc. Whatever
 * such a file holds, reading it ends, inside the buffers. An input is the file; the library's own functions read it,
 * from a memfd in its place.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static int file_open(const char *path, int flags);

#define open(path, flags) file_open(path, flags)
#include "../../libdvsm/system.c"
#include "../../libdvsm/memfd_residency.c"
#include "../../libdvsm/view.c"
#undef open

static int file;

static int file_open(const char *path, int flags)
{
	(void)path;
	(void)flags;
	lseek(file, 0, SEEK_SET);
	return dup(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dvsm_windows windows = { .first = (void *)(32ULL << 40) };
	struct dvsm_mapping mapping;
	struct dvsm_chunk chunks[4] = { 0 };
	uint64_t nodes[DVSM_NODES_WORDS];

	if (!file)
		file = memfd_create("file", MFD_CLOEXEC);
	if (ftruncate(file, 0) || pwrite(file, data, size, 0) != (ssize_t)size)
		abort();
	if (dvsm_system_nodes("possible", nodes) > DVSM_NODES_MAX)
		abort();
	dvsm_system_thp();
	dvsm_mapping_find(1ULL << 40, &mapping);
	dvsm_windows_smaps(&windows, chunks, 4);
	return 0;
}
