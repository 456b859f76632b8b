/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The library's own vocabulary.
 *
 * A handle is one anonymous page, mapped when it is made and never written
 * afterwards: no malloc(), because an allocator may stand on this library, and
 * no lock. Inside the library errors travel as -errno; errno is set once, where
 * a call leaves the library, by dvsm_fail() and dvsm_fail_null().
 */
#ifndef DVSM_INTERNAL_H
#define DVSM_INTERNAL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#include <dvsm/base.h>
#include <dvsm/region.h>

#define DVSM_PAGE_SIZE		4096UL
#define DVSM_NODES_MAX		1024	/* MAX_NUMNODES of Linux */
#define DVSM_NODES_WORDS	(DVSM_NODES_MAX / 64)

/* Newer than the oldest libc headers that this builds with. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

/* What a call does after region.c has checked range and access. */
struct dvsm_backend_ops {
	/* Fills fd, backend, page_size; the rest of the handle is set already. */
	int (*create)(struct dvsm_region *region);
	int (*reopen)(const struct dvsm_region *region, uint32_t flags);	/* a descriptor */
	/* After each mapping that the library makes; @flags: MAP_SHARED or MAP_PRIVATE. */
	int (*mapped)(const struct dvsm_region *region, void *address, uint64_t length, int flags);
	uint64_t (*features)(const struct dvsm_region *region);
	int (*info)(const struct dvsm_region *region, struct dvsm_region_info *info);
	int (*nodes)(const struct dvsm_region *region, struct dvsm_node_stats *nodes,
		     uint32_t nr_nodes);
	int (*populate)(const struct dvsm_region *region, uint64_t offset, uint64_t length,
			uint32_t nr_threads, uint64_t *populated);
	int (*discard)(const struct dvsm_region *region, uint64_t offset, uint64_t length,
		       uint64_t *discarded);
	int (*residency)(const struct dvsm_region *region, uint64_t offset, uint64_t end,
			 struct dvsm_chunk *chunks, uint32_t nr_chunks, uint64_t *next);
	int (*migrate)(const struct dvsm_region *region, uint64_t end,
		       struct dvsm_region_migrate *migrate);
};

struct dvsm_region {
	const struct dvsm_backend_ops *ops;
	uint64_t length;	/* bytes */
	size_t page_size;	/* bytes, that the backend aims at */
	int fd;
	uint32_t backend;	/* never AUTO or MEMFD */
	uint32_t flags;		/* DVSM_REGION_F_ */
	uint32_t policy;	/* DVSM_POLICY_ */
	uint32_t nr_nodes;	/* bits of the set; 0 for none */
	uint64_t nodes[DVSM_NODES_WORDS];
	bool is_weighted;
	uint8_t weights[DVSM_NODES_MAX];	/* of nodes of the set */
	char label[DVSM_NAME_MAX];
};

/* region.c */
struct dvsm_region *dvsm_handle_create(void);
void dvsm_handle_destroy(struct dvsm_region *region);
int dvsm_options_check(const struct dvsm_region_options *options);
const uint8_t *dvsm_options_weights(const struct dvsm_region_options *options);
bool dvsm_label_is_valid(const char *label);
int dvsm_policy_check(const struct dvsm_region *region);
int dvsm_policy_nodes(struct dvsm_region *region, const uint64_t *nodes, uint32_t nr_nodes);
void dvsm_policy_weigh(struct dvsm_region *region);
/* A handle for a descriptor that was opened for it, or -errno; on failure it is closed: NULL, errno. */
struct dvsm_region *dvsm_region_wrap(int fd, uint32_t backend);
int dvsm_range_check(const struct dvsm_region *region, uint64_t offset, uint64_t *length);
bool dvsm_region_is_writable(const struct dvsm_region *region);

/* backend.c */
uint32_t dvsm_backend_wished(uint32_t backend);
int dvsm_backend_choose(uint32_t backend);
int dvsm_backend_create(struct dvsm_region *region);
int dvsm_backend_open(struct dvsm_region *region, uint32_t backend);
uint64_t dvsm_backend_length_max(void);

/* backend_device.c */
extern const struct dvsm_backend_ops dvsm_device_ops;
int dvsm_ioctl(int fd, unsigned long command, void *argument);
int dvsm_device_open(void);
int dvsm_device_ioctl(unsigned long command, void *argument);
int dvsm_device_discard_at(const void *address, uint64_t length);
int dvsm_device_prefer_at(const void *address, uint64_t length, uint32_t node);
int dvsm_device_info(struct dvsm_info *info);
int dvsm_device_wrap(struct dvsm_region *region);

/* backend_memfd.c */
extern const struct dvsm_backend_ops dvsm_memfd_ops;
#define DVSM_MEMFD_FEATURES	(DVSM_FEATURE_REGION | DVSM_FEATURE_POLICY | \
				 DVSM_FEATURE_FIXED_BUFFERS | DVSM_FEATURE_MIGRATE | \
				 DVSM_FEATURE_PLACE)
bool dvsm_memfd_recognise(int fd, size_t *page_size);
int dvsm_memfd_wrap(struct dvsm_region *region, size_t page_size, uint32_t backend);
int dvsm_memfd_policy_apply(const struct dvsm_region *region, void *address, uint64_t length);
void *dvsm_memfd_window(const struct dvsm_region *region, uint64_t offset, uint64_t length);

/* memfd_residency.c */
/* Which nodes are wanted beside each chunk's. */
struct dvsm_node_query {
	struct dvsm_node_stats *nodes;	/* NULL, or receives what each holds */
	uint32_t nr_nodes;
};
int dvsm_memfd_residency(const struct dvsm_region *region, uint64_t offset, uint64_t end,
			 struct dvsm_chunk *chunks, uint32_t nr_chunks, uint64_t *next,
			 const struct dvsm_node_query *query);
int dvsm_memfd_migrate(const struct dvsm_region *region, uint64_t end,
		       struct dvsm_region_migrate *migrate);

/* snapshot.c */
struct dvsm_snapshot_options;
int dvsm_snapshot_prepare(const struct dvsm_region *region,
			  const struct dvsm_snapshot_options *options,
			  struct dvsm_snapshot_take *take);

/* name.c */
struct dvsm_region *dvsm_nameable_create(uint32_t mode, uint32_t flags, uint64_t length,
					 const struct dvsm_region_options *options);
uint64_t dvsm_nameable_room(uint32_t backend);
int dvsm_nameable_name(const struct dvsm_region *region, const char *name, uint32_t mode,
		       uint32_t flags);

/* map.c */
void *dvsm_map_aligned(int fd, uint64_t offset, uint64_t length, int prot, int flags);

/* Sizes of the first version of structs that have grown since. */
#define DVSM_INFO_SIZE_FIRST		sizeof(struct dvsm_info)
#define DVSM_REGION_INFO_SIZE_FIRST	offsetof(struct dvsm_region_info, out_parent_id)
#define DVSM_OPTIONS_SIZE_FIRST		offsetof(struct dvsm_region_options, weights)

/* struct.c */
/* Of struct dvsm_region_migrate: what the first version had. */
#define DVSM_MIGRATE_SIZE_FIRST	(offsetof(struct dvsm_region_migrate, out_failed) + sizeof(uint64_t))

int dvsm_struct_check(const void *argument, size_t size, size_t first, size_t known);
int dvsm_struct_answer(void *argument, size_t size, size_t first, const void *answer,
		       size_t known);

/* system.c */
const char *dvsm_getenv(const char *name);
__attribute__((format(printf, 1, 2))) void dvsm_debug(const char *format, ...);
ssize_t dvsm_file_read(const char *path, char *buffer, size_t size);
int dvsm_file_set_length(int fd, uint64_t length);
int dvsm_fd_raise(int fd);
int dvsm_cancel_off(void);
void dvsm_cancel_on(int state);
void dvsm_sleep(uint32_t nanoseconds);
int dvsm_system_nodes(const char *which, uint64_t *nodes);
bool dvsm_system_weights(const uint64_t *nodes, uint8_t *weights);
uint32_t dvsm_system_nr_nodes(void);
bool dvsm_system_thp_by_fault(void);
bool dvsm_system_thp(void);

static inline int dvsm_fail(int error)
{
	errno = error < 0 ? -error : error;
	return -errno;
}

static inline void *dvsm_fail_null(int error)
{
	dvsm_fail(error);
	return NULL;
}

/* The exit of every call that returns int. */
static inline int dvsm_result(int result)
{
	return result < 0 ? dvsm_fail(result) : result;
}

static inline uint64_t dvsm_align_down(uint64_t value, uint64_t unit)
{
	return value - value % unit;
}

/* The caller has made sure that it does not overflow. */
static inline uint64_t dvsm_align_up(uint64_t value, uint64_t unit)
{
	return dvsm_align_down(value + unit - 1, unit);
}

/* What the kernel maps as a whole: it rounds lengths up to that, over whatever lies there. */
static inline uint64_t dvsm_region_granule(const struct dvsm_region *region)
{
	return region->backend == DVSM_BACKEND_MEMFD_HUGETLB ? region->page_size : DVSM_PAGE_SIZE;
}

#endif /* DVSM_INTERNAL_H */
