// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Regions without the module: memfd.
 *
 * Three kinds of page. MEMFD_HUGETLB maps the whole region once without
 * MAP_NORESERVE, which reserves the pool's pages for the inode until it goes: a
 * fault cannot find the pool empty and raise SIGBUS. A hole that is punched
 * drops its reservation, so discard takes it again. MEMFD_THP asks for huge
 * pages by madvise() on each mapping; where the kernel gives none at a fault,
 * populate collapses what it touched. MEMFD_4K refuses them.
 *
 * A policy is set by mbind() on a mapping of the whole region: shared memory
 * keeps it in the inode, for every process and for good; hugetlbfs keeps it in
 * the mapping only, so each mapping through the handle gets it again.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "internal.h"

#ifndef MPOL_PREFERRED_MANY
#define MPOL_PREFERRED_MANY	5
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB		(21U << 26)
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL		0x0008U
#endif

static bool dvsm_memfd_is_hugetlb(const struct dvsm_region *region)
{
	return region->backend == DVSM_BACKEND_MEMFD_HUGETLB;
}

/* The mode and node set of mbind(); 1 where there is nothing to set. */
static int dvsm_memfd_policy(const struct dvsm_region *region, int *mode, uint64_t *nodes)
{
	uint64_t memory[DVSM_NODES_WORDS], common = 0;
	unsigned int word, nr_given = 0;

	memset(nodes, 0, DVSM_NODES_WORDS * sizeof(*nodes));
	if (region->policy == DVSM_POLICY_INHERIT)
		return 1;
	if (region->policy == DVSM_POLICY_WEIGHTED_INTERLEAVE)
		return -EOPNOTSUPP;
	if (region->policy == DVSM_POLICY_LOCAL) {
		*mode = MPOL_LOCAL;
		return 0;
	}
	dvsm_system_nodes("has_memory", memory);
	for (word = 0; word < DVSM_NODES_WORDS; word++) {
		nodes[word] = region->nr_nodes ? region->nodes[word] : memory[word];
		/* As mbind() has it: nodes without memory are left out. */
		nodes[word] &= memory[word];
		nr_given += (unsigned int)__builtin_popcountll(nodes[word]);
		common |= nodes[word];
	}
	if (!common)
		return -EINVAL;
	*mode = region->policy == DVSM_POLICY_BIND ? MPOL_BIND :
		region->policy == DVSM_POLICY_INTERLEAVE ? MPOL_INTERLEAVE :
		nr_given > 1 ? MPOL_PREFERRED_MANY : MPOL_PREFERRED;
	return 0;
}

int dvsm_memfd_policy_apply(const struct dvsm_region *region, void *address, uint64_t length)
{
	uint64_t nodes[DVSM_NODES_WORDS];
	bool none;
	int mode;
	int error;

	error = dvsm_memfd_policy(region, &mode, nodes);
	if (error)
		return error > 0 ? 0 : error;
	none = mode == MPOL_LOCAL;
	/* The kernel takes one bit off the count that it is given. */
	if (!syscall(SYS_mbind, address, dvsm_align_up(length, dvsm_region_granule(region)), mode,
		     none ? NULL : nodes, none ? 0UL : DVSM_NODES_MAX + 1UL, 0U))
		return 0;
	if (errno == ENOSYS)
		return -EOPNOTSUPP;
	/* PREFERRED_MANY is new in 5.15. */
	if (errno == EINVAL && mode == MPOL_PREFERRED_MANY)
		return -EOPNOTSUPP;
	return -errno;
}

static int dvsm_memfd_mapped(const struct dvsm_region *region, void *address, uint64_t length,
			     int flags)
{
	if (dvsm_memfd_is_hugetlb(region))
		return dvsm_memfd_policy_apply(region, address, length);
	/* EINVAL comes from kernels without transparent huge pages: nothing to refuse there. */
	madvise(address, length, region->backend == DVSM_BACKEND_MEMFD_THP ? MADV_HUGEPAGE :
									     MADV_NOHUGEPAGE);
	/*
	 * A core dump takes a file without links for anonymous memory and has all of it, and its holes get pages,
	 * which others who have the region keep. Of the pool's pages it has none unless it is told to, and fills no hole.
	 */
	if (flags == MAP_SHARED)
		madvise(address, length, MADV_DONTDUMP);
	return 0;
}

/* A mapping of the library's own, to do something to the memory. Multiples of the granule. */
void *dvsm_memfd_window(const struct dvsm_region *region, uint64_t offset, uint64_t length)
{
	void *address;
	int error;

	address = dvsm_map_aligned(region->fd, offset, length, PROT_READ | PROT_WRITE, MAP_SHARED);
	if (!address)
		return NULL;
	error = dvsm_memfd_mapped(region, address, length, MAP_SHARED);
	if (error) {
		munmap(address, length);
		return dvsm_fail_null(error);
	}
	return address;
}

/* For the inode, as long as it lives; ENOMEM where the pool is too small. */
static int dvsm_memfd_reserve(const struct dvsm_region *region, uint64_t offset,
			      uint64_t length)
{
	void *address;

	address = dvsm_map_aligned(region->fd, offset, length, PROT_READ | PROT_WRITE, MAP_SHARED);
	if (!address)
		return -errno;
	munmap(address, length);
	return 0;
}

static int dvsm_memfd_descriptor(const struct dvsm_region *region, unsigned int flags)
{
	char name[sizeof("dvsm:") + DVSM_NAME_MAX];
	int fd, error;

	snprintf(name, sizeof(name), "dvsm%s%s", region->label[0] ? ":" : "", region->label);
	flags |= MFD_CLOEXEC | MFD_ALLOW_SEALING;
	fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	if (fd < 0)
		/* ENOENT, ENODEV: a kernel without 2 MiB hugetlb pages */
		return errno == ENOENT || errno == ENODEV || errno == ENOSYS ? -EOPNOTSUPP : -errno;
	fd = dvsm_fd_raise(fd);
	if (fd < 0)
		return fd;
	error = dvsm_file_set_length(fd, region->length);
	/* The length is what others may rely on: no SIGBUS by a sibling's ftruncate. */
	if (!error && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		error = -errno;
	if (!error)
		return fd;
	close(fd);
	return error;
}

static int dvsm_memfd_try_hugetlb(struct dvsm_region *region)
{
	int error;

	if (region->length % DVSM_CHUNK_SIZE)
		return -EINVAL;
	region->fd = dvsm_memfd_descriptor(region, MFD_HUGETLB | MFD_HUGE_2MB);
	if (region->fd < 0)
		return region->fd;
	region->backend = DVSM_BACKEND_MEMFD_HUGETLB;
	region->page_size = DVSM_CHUNK_SIZE;
	error = dvsm_memfd_reserve(region, 0, region->length);
	if (error) {
		close(region->fd);
		region->fd = -1;
	}
	return error;
}

/* The policy is the inode's from here on; the mapping that carried it is not needed. */
static int dvsm_memfd_policy_store(const struct dvsm_region *region)
{
	void *address;
	int error;

	if (region->policy == DVSM_POLICY_INHERIT)
		return 0;
	address = dvsm_memfd_window(region, 0, region->length);
	if (!address)
		return -errno;
	error = dvsm_memfd_policy_apply(region, address, region->length);
	munmap(address, region->length);
	return error;
}

static int dvsm_memfd_create(struct dvsm_region *region)
{
	uint32_t wish = region->backend;
	int error;

	if (region->flags & (DVSM_REGION_F_PINNED | DVSM_REGION_F_FORK_COPY))
		return -EOPNOTSUPP;
	if (region->flags & DVSM_REGION_F_HUGE_REQUIRED) {
		if (wish != DVSM_BACKEND_MEMFD && wish != DVSM_BACKEND_MEMFD_HUGETLB)
			return -EOPNOTSUPP;
		wish = DVSM_BACKEND_MEMFD_HUGETLB;
	}
	if (wish == DVSM_BACKEND_MEMFD || wish == DVSM_BACKEND_MEMFD_HUGETLB) {
		error = dvsm_memfd_try_hugetlb(region);
		if (error && wish == DVSM_BACKEND_MEMFD_HUGETLB)
			return error;
		if (error)
			wish = dvsm_system_thp() ? DVSM_BACKEND_MEMFD_THP :
							 DVSM_BACKEND_MEMFD_4K;
		else
			wish = DVSM_BACKEND_MEMFD_HUGETLB;
	}
	if (wish != DVSM_BACKEND_MEMFD_HUGETLB) {
		region->fd = dvsm_memfd_descriptor(region, 0);
		if (region->fd < 0)
			return region->fd;
		region->backend = wish;
		region->page_size = wish == DVSM_BACKEND_MEMFD_THP ? DVSM_CHUNK_SIZE :
								     DVSM_PAGE_SIZE;
	}
	error = dvsm_memfd_policy_store(region);
	if (error) {
		close(region->fd);
		region->fd = -1;
	}
	return error;
}

/* Files on tmpfs and hugetlbfs, memfds among them. */
bool dvsm_memfd_recognise(int fd, size_t *page_size)
{
	struct statfs fs;
	struct stat file;

	if (fstat(fd, &file) || !S_ISREG(file.st_mode) || fstatfs(fd, &fs))
		return false;
	if (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC)
		return false;
	*page_size = fs.f_type == HUGETLBFS_MAGIC ? (size_t)fs.f_bsize : DVSM_PAGE_SIZE;
	return true;
}

int dvsm_memfd_wrap(struct dvsm_region *region, size_t page_size, uint32_t backend)
{
	struct stat file;

	if (fstat(region->fd, &file))
		return -errno;
	if (!file.st_size)
		return -EINVAL;
	if (page_size != DVSM_PAGE_SIZE) {
		/* A pool of 1 GiB pages is nobody's 2 MiB chunk. */
		if (page_size != DVSM_CHUNK_SIZE)
			return -EOPNOTSUPP;
		if (backend == DVSM_BACKEND_DEVICE || backend == DVSM_BACKEND_MEMFD_THP ||
		    backend == DVSM_BACKEND_MEMFD_4K)
			return -EINVAL;
		region->backend = DVSM_BACKEND_MEMFD_HUGETLB;
	} else {
		if (backend == DVSM_BACKEND_DEVICE || backend == DVSM_BACKEND_MEMFD_HUGETLB)
			return -EINVAL;
		region->backend = backend == DVSM_BACKEND_MEMFD_4K ? backend :
								     DVSM_BACKEND_MEMFD_THP;
		page_size = region->backend == DVSM_BACKEND_MEMFD_4K ? DVSM_PAGE_SIZE :
								       DVSM_CHUNK_SIZE;
	}
	region->ops = &dvsm_memfd_ops;
	region->page_size = page_size;
	region->length = (uint64_t)file.st_size;
	return 0;
}

/*
 * Through /proc, which gives the access that is asked for, whatever the old
 * descriptor has: so read-only cannot be promised, and read-write is asked for
 * only where it is there already.
 */
static int dvsm_memfd_reopen(const struct dvsm_region *region, uint32_t flags)
{
	bool read_only = region->flags & DVSM_REGION_F_READ_ONLY;
	char path[40];
	int fd;

	if (flags & DVSM_REOPEN_F_READ_ONLY)
		return -EOPNOTSUPP;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", region->fd);
	fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	return fd < 0 ? -errno : dvsm_fd_raise(fd);
}

static uint64_t dvsm_memfd_features(const struct dvsm_region *region)
{
	if (region->backend == DVSM_BACKEND_MEMFD_HUGETLB)
		return DVSM_MEMFD_FEATURES & ~DVSM_FEATURE_PLACE;
	return DVSM_MEMFD_FEATURES;
}

/* Bytes that the file has memory for. */
static uint64_t dvsm_memfd_allocated(const struct dvsm_region *region)
{
	struct stat file;

	return fstat(region->fd, &file) ? 0 : (uint64_t)file.st_blocks * 512;
}

/* Adds up what is resident: bytes in huge pages, and bytes by node where they are wanted. */
static int dvsm_memfd_sum(const struct dvsm_region *region, uint64_t *huge,
			  const struct dvsm_node_query *query)
{
	struct dvsm_chunk chunks[64];
	uint64_t offset = 0;
	int nr_chunks, i;

	*huge = 0;
	while (offset < region->length) {
		nr_chunks = dvsm_memfd_residency(region, offset, region->length, chunks, 64,
						 &offset, query);
		if (nr_chunks < 0)
			return nr_chunks;
		for (i = 0; i < nr_chunks; i++)
			if (chunks[i].flags & DVSM_CHUNK_F_HUGE)
				*huge += chunks[i].resident;
	}
	return 0;
}

static int dvsm_memfd_info(const struct dvsm_region *region, struct dvsm_region_info *info)
{
	struct dvsm_region_info answer = {
		.out_length = region->length,
		.out_flags = region->flags,
		.out_policy = region->policy,
		.out_resident = dvsm_memfd_allocated(region),
		.out_taken_length = region->length,
	};
	struct stat file;
	uint64_t huge;
	int error;

	if (info->flags)
		return -EOPNOTSUPP;
	if (fstat(region->fd, &file))
		return -errno;
	answer.size = info->size;
	answer.out_id = file.st_ino;
	if (dvsm_memfd_is_hugetlb(region)) {
		answer.out_resident_huge = answer.out_resident;
	} else if (region->backend == DVSM_BACKEND_MEMFD_THP) {
		error = dvsm_memfd_sum(region, &huge, NULL);
		if (error)
			return error;
		answer.out_resident_huge = huge;
	}
	return dvsm_struct_answer(info, info->size, DVSM_REGION_INFO_SIZE_FIRST, &answer,
				  sizeof(answer));
}

static int dvsm_memfd_nodes(const struct dvsm_region *region, struct dvsm_node_stats *nodes,
			    uint32_t nr_nodes)
{
	uint32_t nr_possible = dvsm_system_nr_nodes();
	struct dvsm_node_query query = { .nodes = nodes };
	uint64_t huge;
	int error = 0;

	query.nr_nodes = nr_nodes < nr_possible ? nr_nodes : nr_possible;
	if (query.nr_nodes) {
		memset(nodes, 0, query.nr_nodes * sizeof(*nodes));
		error = dvsm_memfd_sum(region, &huge, &query);
	}
	return error ? error : (int)nr_possible;
}

static int dvsm_memfd_region_residency(const struct dvsm_region *region, uint64_t offset,
				       uint64_t end, struct dvsm_chunk *chunks,
				       uint32_t nr_chunks, uint64_t *next)
{
	const struct dvsm_node_query query = { 0 };

	return dvsm_memfd_residency(region, offset, end, chunks, nr_chunks, next, &query);
}

static int dvsm_memfd_populate_mapping(const struct dvsm_region *region, uint64_t offset,
				       uint64_t length)
{
	const uint64_t granule = dvsm_region_granule(region);
	const uint64_t start = dvsm_align_down(offset, granule);
	void *address;
	int error = 0;

	length = dvsm_align_up(offset + length, granule) - start;
	address = dvsm_memfd_window(region, start, length);
	if (!address)
		return -errno;
	if (madvise(address, length, MADV_POPULATE_WRITE))
		error = errno == EFAULT ? -ENOMEM : -errno;
	/* Where the kernel gives no huge pages at a fault it may still make them. */
	if (!error && region->backend == DVSM_BACKEND_MEMFD_THP && !dvsm_system_thp_by_fault())
		madvise(address, length, MADV_COLLAPSE);
	munmap(address, length);
	return error;
}

static int dvsm_memfd_populate(const struct dvsm_region *region, uint64_t offset,
			       uint64_t length, uint32_t nr_threads, uint64_t *populated)
{
	uint64_t before = dvsm_memfd_allocated(region), after;
	int error;

	(void)nr_threads;
	error = dvsm_memfd_populate_mapping(region, offset, length);
	if (error == -EINVAL) {
		/* A kernel before 5.14: small pages, but there. */
		error = fallocate(region->fd, 0, (off_t)offset, (off_t)length) ? -errno : 0;
		if (error == -ENOSPC)
			error = -ENOMEM;
	}
	after = dvsm_memfd_allocated(region);
	*populated = after > before ? after - before : 0;
	return error;
}

static int dvsm_memfd_discard(const struct dvsm_region *region, uint64_t offset,
			      uint64_t length, uint64_t *discarded)
{
	uint64_t before = dvsm_memfd_allocated(region), after;
	uint64_t first, end;

	if (fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)length))
		return -errno;
	after = dvsm_memfd_allocated(region);
	*discarded = before > after ? before - after : 0;
	if (!dvsm_memfd_is_hugetlb(region))
		return 0;
	first = dvsm_align_up(offset, DVSM_CHUNK_SIZE);
	end = dvsm_align_down(offset + length, DVSM_CHUNK_SIZE);
	return first < end ? dvsm_memfd_reserve(region, first, end - first) : 0;
}

const struct dvsm_backend_ops dvsm_memfd_ops = {
	.create = dvsm_memfd_create,
	.reopen = dvsm_memfd_reopen,
	.mapped = dvsm_memfd_mapped,
	.features = dvsm_memfd_features,
	.info = dvsm_memfd_info,
	.nodes = dvsm_memfd_nodes,
	.populate = dvsm_memfd_populate,
	.discard = dvsm_memfd_discard,
	.residency = dvsm_memfd_region_residency,
	.migrate = dvsm_memfd_migrate,
};
