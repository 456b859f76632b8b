// SPDX-License-Identifier: LGPL-2.1-or-later
/* Mapping a region into this process. */
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

#define DVSM_MAP_TRIES	100

/* Threads that get into each other's way in step would do so for ever: each waits for another time, that grows. */
static void dvsm_map_wait(unsigned int try)
{
	uint32_t number = ((uint32_t)syscall(SYS_gettid) + try) * 2654435761u;

	dvsm_sleep(number % (1000U << (try < 10 ? try : 10)));
}

/*
 * Maps where huge pages fit: address and offset equal modulo a chunk. Where a chunk more than that fits, the right
 * place is certain to be. It is free again when it is taken, by a call that replaces nothing: who maps over something,
 * and fails, may have removed that, and what is there by then may be another thread's.
 */
void *dvsm_map_aligned(int fd, uint64_t offset, uint64_t length, int prot, int flags)
{
	uint64_t room = length + DVSM_CHUNK_SIZE;
	char *place, *address;
	unsigned int try;

	for (try = 0; try < DVSM_MAP_TRIES; try++) {
		place = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (place == MAP_FAILED)
			return NULL;
		munmap(place, room);
		place += (offset - (uintptr_t)place) % DVSM_CHUNK_SIZE;
		address = mmap(place, length, prot, flags | MAP_FIXED_NOREPLACE, fd, (off_t)offset);
		if (address == place)
			return address;
		/* Another thread was quicker; kernels before 4.17 say so by another place. */
		if (address != MAP_FAILED)
			munmap(address, length);
		else if (errno != EEXIST)
			return NULL;
		dvsm_map_wait(try);
	}
	return dvsm_fail_null(ENOMEM);
}

static int dvsm_map_options_check(const struct dvsm_region_map_options *options)
{
	const uint32_t known = DVSM_MAP_F_FIXED | DVSM_MAP_F_REPLACE | DVSM_MAP_F_PRIVATE;
	int error;

	error = dvsm_struct_check(options, options->size, sizeof(*options), sizeof(*options));
	if (error)
		return error;
	if (options->flags & ~known)
		return -EOPNOTSUPP;
	if (options->reserved)
		return -EINVAL;
	if ((options->flags & DVSM_MAP_F_FIXED) && (options->flags & DVSM_MAP_F_REPLACE))
		return -EINVAL;
	/* A mapping at NULL could not be told from a failure. */
	if (options->flags & (DVSM_MAP_F_FIXED | DVSM_MAP_F_REPLACE))
		return !options->address || (uintptr_t)options->address % DVSM_PAGE_SIZE ? -EINVAL : 0;
	return options->address ? -EINVAL : 0;
}

static void *dvsm_map_at(const struct dvsm_region *region, uint64_t offset, uint64_t length,
			 int prot, int flags, const struct dvsm_region_map_options *options)
{
	bool replace = options->flags & DVSM_MAP_F_REPLACE;
	void *address;

	address = mmap(options->address, length, prot,
		       flags | (replace ? MAP_FIXED : MAP_FIXED_NOREPLACE), region->fd,
		       (off_t)offset);
	if (address == MAP_FAILED)
		return NULL;
	/* Kernels before 4.17 take MAP_FIXED_NOREPLACE for a hint. */
	if (address != options->address) {
		munmap(address, length);
		return dvsm_fail_null(EEXIST);
	}
	return address;
}

void *dvsm_region_map(const struct dvsm_region *region, uint64_t offset, uint64_t length,
		      int prot, const struct dvsm_region_map_options *options)
{
	static const struct dvsm_region_map_options defaults = { .size = sizeof(defaults) };
	const uint64_t granule = dvsm_region_granule(region);
	int flags = MAP_SHARED;
	void *address;
	int error;

	if (!options)
		options = &defaults;
	error = dvsm_map_options_check(options);
	if (error)
		return dvsm_fail_null(error);
	if (offset % granule || offset >= region->length || length > region->length - offset)
		return dvsm_fail_null(EINVAL);
	if (!length)
		length = region->length - offset;
	/* A part of a huge page in place of others' small ones: more than was asked for would go. */
	if ((options->flags & DVSM_MAP_F_REPLACE) && granule != DVSM_PAGE_SIZE && length % granule)
		return dvsm_fail_null(EINVAL);
	/* Page multiples on the file side: a tail part counts as its page. */
	length = dvsm_align_up(length, granule);
	if (options->flags & DVSM_MAP_F_PRIVATE)
		flags = MAP_PRIVATE;
	if (options->flags & (DVSM_MAP_F_FIXED | DVSM_MAP_F_REPLACE))
		address = dvsm_map_at(region, offset, length, prot, flags, options);
	else
		address = dvsm_map_aligned(region->fd, offset, length, prot, flags);
	if (!address)
		return NULL;
	if (region->ops->mapped) {
		error = region->ops->mapped(region, address, length, flags);
		if (error) {
			munmap(address, length);
			return dvsm_fail_null(error);
		}
	}
	return address;
}

/*
 * A huge page of the pool goes as a whole: the kernel refuses an end inside one. Nothing but
 * that mapping can lie in it, so going on to its end is what dvsm_region_map() has rounded up.
 */
int dvsm_region_unmap(void *address, uint64_t length)
{
	if (!munmap(address, length))
		return 0;
	if (errno == EINVAL && length && !((uintptr_t)address % DVSM_CHUNK_SIZE) &&
	    !munmap(address, dvsm_align_up(length, DVSM_CHUNK_SIZE)))
		return 0;
	return -errno;
}
