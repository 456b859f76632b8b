/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of the module share: the commands as one-line calls, children,
 * faults as answers, and the kernel's own view of memory (smaps, pagemap,
 * move_pages, cgroups), which is what a claim about memory is proven from.
 *
 * Calls answer 0 or more, or -errno. Sizes and offsets are in bytes.
 */
#ifndef DVSM_SELFTEST_COMMON_H
#define DVSM_SELFTEST_COMMON_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <linux/dvsm.h>

#define PAGE		4096UL
#define CHUNK		DVSM_CHUNK_SIZE
#define CHUNK_PAGES	(CHUNK / PAGE)
#define MIB		(1UL << 20)
#define GIB		(1UL << 30)
#define LENGTH_MAX	(1ULL << 46)	/* of a region */
#define NOBODY		65534

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* command.c: the commands */
int device_open(int flags);
int device_info(int dev, struct dvsm_info *info);
int region_create(int dev, uint64_t length, uint32_t flags);
int region_create_on(int dev, uint64_t length, uint32_t flags, uint32_t policy, uint64_t nodes);
int region_info(int fd, struct dvsm_region_info *info);
int region_nodes(int fd, struct dvsm_node_stats *nodes, uint32_t nr_nodes);
int region_populate(int fd, uint64_t offset, uint64_t length, uint64_t *populated);
int region_populate_by(int fd, uint64_t offset, uint64_t length, uint32_t nr_threads,
		       uint64_t *populated);
int region_discard(int fd, uint64_t offset, uint64_t length, uint64_t *discarded);
int region_residency(int fd, uint64_t offset, uint64_t length, struct dvsm_chunk *chunks,
		     uint32_t nr_chunks);
int region_place(int fd, uint64_t offset, uint64_t length, uint32_t policy, uint64_t nodes,
		 const uint8_t *weights);
int region_place_query(int fd, uint64_t offset, uint64_t *nodes, uint8_t *weights,
		       uint64_t *first, uint64_t *end);
int region_reopen(int fd, uint32_t flags);
int region_find(int dev, const void *address, uint64_t *offset);
int region_migrate(int fd, uint64_t offset, uint64_t length, uint64_t nodes,
		   struct dvsm_region_migrate *arg);
int region_promote(int fd, uint64_t offset, uint64_t length, struct dvsm_region_promote *arg);
int region_split(int fd, uint64_t offset, uint64_t length, struct dvsm_region_split *arg);
int region_balance(int fd, uint32_t mode, struct dvsm_region_balance *out,
		   struct dvsm_balance_use *uses, uint32_t nr_nodes);
uint64_t region_resident(int fd);
void *region_map(int fd, size_t length, off_t offset);

/* What the module holds, from debugfs; all zero when nobody uses it. */
struct counts {
	unsigned long regions;
	unsigned long pages;
	unsigned long pinned_pages;
	unsigned long names;
	unsigned long members;
	unsigned long users;
};

int stats_read(const char *name, unsigned long *value);
int stats_reach(const char *name, unsigned long value, unsigned int seconds);
int counts_read(struct counts *counts);
unsigned long pages_charged(void);
bool counts_reach_zero(struct counts *counts, unsigned int seconds);
int param_set(const char *name, unsigned long value);

/* member.c: names, members and the events of their deaths */
int name_create(int dev, const char *name, int region, uint32_t mode, uint32_t flags);
int name_open(int dev, const char *name, uint32_t flags);
int name_unlink(int dev, const char *name);
int name_list(int dev, struct dvsm_name *names, uint32_t nr_names);
int region_list(int dev, uint64_t *cursor, struct dvsm_region_entry *regions,
		uint32_t nr_regions);
int region_watch(int dev, uint64_t id);
int region_join(int fd, uint64_t cookie);
int region_leave(int fd, uint64_t cookie);
int region_members(int fd, struct dvsm_member *members, uint32_t nr_members);
int region_events(int fd);
int events_read(int events, struct dvsm_event *event, unsigned int milliseconds);

/* fault.c: touching memory that may not be there; 0 or the signal that it got */
int read_at(const volatile void *addr);
int write_at(volatile void *addr, unsigned char value);
int last_signal_code(void);

/* fault.c: contents. A stamp is two words on every page that tell seed and place. */
void stamp(void *addr, size_t length, uint64_t seed);
size_t stamps_wrong(const void *addr, size_t length, uint64_t seed);
bool is_zero(const void *addr, size_t length);

/* process.c: children die with the test that started them */
pid_t child_start(void);
int child_wait(pid_t pid);
bool child_ends(pid_t pid, unsigned int milliseconds, int *status);
int become_nobody(void);
unsigned long clock_ms(void);
void sleep_ms(unsigned int milliseconds);
int read_number(const char *path, unsigned long *value);
int read_text(const char *path, char *text, size_t size);
int write_text(const char *path, const char *text);
int fd_send(int sock, int fd);
int fd_receive(int sock);
int fd_reopen(int fd, int flags);
int nr_open_fds(void);

/* A meeting point of processes, in memory that they inherit. */
struct barrier {
	unsigned int nr;
	unsigned int arrived;
	unsigned int round;
};

struct barrier *barrier_make(unsigned int nr);
void barrier_wait(struct barrier *barrier);
void *share_anonymous(size_t length);

/* memory.c: the kernel's view of this process's memory */
struct smaps {
	unsigned long start, end;
	unsigned long size, rss, pss, file_pmd_mapped, private_dirty, locked;
	char flags[256];
	char name[256];
};

#define PAGEMAP_PRESENT		(1ULL << 63)
#define PAGEMAP_FILE		(1ULL << 61)
#define PAGEMAP_PFN(entry)	((entry) & ((1ULL << 55) - 1))

int smaps_read(const void *addr, struct smaps *smaps);
bool smaps_has_flag(const struct smaps *smaps, const char *flag);
bool is_huge_mapped(const void *addr, size_t length);
uint64_t pagemap_entry(const void *addr);
uint64_t kpage_flags(uint64_t pfn);
int page_node(const void *addr);
int page_node_read(const void *addr);
int page_move(const void *addr, int node, int flags);
int nr_nodes_with_memory(void);
uint64_t node_mask(void);
unsigned long node_free(int node);
int node_run_on(int node);
uint64_t nodes_to_work_on(void);
int meminfo(const char *field, unsigned long *kib);
unsigned long pages_free(void);
unsigned long pages_taken(void);

/* cgroup.c: a cgroup of the test's own, beside the one that it runs in */
struct cgroup {
	char path[256];
};

int cgroup_make(struct cgroup *cgroup, const char *name);
void cgroup_remove(struct cgroup *cgroup);
int cgroup_enter(const struct cgroup *cgroup);
int cgroup_set(const struct cgroup *cgroup, const char *file, const char *value);
unsigned long cgroup_get(const struct cgroup *cgroup, const char *file);
unsigned long cgroup_event(const struct cgroup *cgroup, const char *file, const char *event);
bool cgroup_drains_to(const struct cgroup *cgroup, unsigned long bytes, unsigned int seconds);

/* hog.c: the hugetlb pool of a node; a node without huge pages, and one with all again */
int pool_read(int node, unsigned long *nr);
int pool_write(int node, unsigned long nr);
unsigned long node_free_huge(int node);

struct pools {
	unsigned long nr[64];
};

void pools_read(struct pools *pools);
void pools_restore(const struct pools *pools);
void pool_leave(int node, unsigned long left);
void pools_leave(unsigned long left);
void node_heal(int node);

#define HOG_HUGE_LEFT	(64 * MIB)
#define HOG_REGION	(2 * HOG_HUGE_LEFT)	/* that cannot have huge pages alone */

struct hog {
	int node;
	int ring;		/* holds the pins */
	void *addr;
	bool filled;		/* the pool, which had so many: */
	unsigned long pool;
};

int hog_fragment(struct hog *hog, int node);
int hog_fragment_for_regions(struct hog *hog, int dev, int node);
void hog_release(struct hog *hog);
void hog_settle(const struct hog *hog);

/* uring.c: io_uring by system calls alone */
struct io_uring_sqe;
struct io_uring_cqe;

struct uring {
	int fd;
	unsigned char *sq;
	unsigned char *cq;
	void *sqes;
	size_t sq_size, cq_size, sqes_size;
	unsigned int sq_tail_at, sq_array_at, sq_mask, cq_head_at, cq_tail_at, cq_mask, cqes_at;
};

int uring_open(struct uring *ring, unsigned int entries);
void uring_close(struct uring *ring);
/* Of this thread's rings together: so many workers for files and devices, and as many for the rest. */
int uring_limit_workers(struct uring *ring, unsigned int nr);
int uring_register_buffers(struct uring *ring, void *addr, size_t length);
int uring_unregister_buffers(struct uring *ring);
int uring_submit(struct uring *ring, const struct io_uring_sqe *sqe);
/* In one call, as links have to be; the ring has room for so many. */
int uring_submit_all(struct uring *ring, const struct io_uring_sqe *sqes, unsigned int nr);
bool uring_reap(struct uring *ring, struct io_uring_cqe *cqe);
int uring_wait(struct uring *ring, struct io_uring_cqe *cqe);
int uring_command(struct uring *ring, int fd, unsigned int cmd, const void *arg,
		  uint64_t user_data);
/* The cancel's own result has URING_CANCEL as user_data. */
#define URING_CANCEL	UINT64_MAX
int uring_cancel(struct uring *ring, uint64_t user_data, unsigned int flags);
/* One READ, WRITE, READ_FIXED or WRITE_FIXED, waited for. Returns its result. */
int uring_rw(struct uring *ring, int opcode, int fd, void *addr, unsigned int length,
	     uint64_t offset);

#endif /* DVSM_SELFTEST_COMMON_H */
