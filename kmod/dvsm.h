/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The nouns of dvsm, how long they live, and which locks guard them.
 *
 * A *region* is an inode of our own pseudo file system. Its contents are that
 * inode's page cache: folios at their natural index, zeroed before they are
 * added, never dirty, never written back, never reclaimed. The core maps what
 * ->fault returns; no page table entry is made here.
 *
 * Life of a region. Created with its inode; the inode is kept by every struct
 * file on it, and a struct file is kept by descriptors and mappings. When the
 * last of them goes, whoever it was and in whatever order, the region is retired:
 * it reads nothing any more. Its inode stays while snapshots share folios in its
 * page cache; then dvsm_inode_evict() frees what is left, gives back what was
 * charged and frees the region. Nothing else holds a region, so nothing can leak
 * one. Each struct file holds a reference on the module through its
 * file_operations.
 *
 * Sharing. Taking a snapshot makes a region of the same family that reads the
 * same folios; share.c says how.
 *
 * Life of a context. One for each open of /dev/dvsm. It may own the struct file
 * of one implicit region, made at the first mmap of the device.
 *
 * Charges. A folio is charged to the region's user and to the device before it
 * is added to the page cache, and to RLIMIT_MEMLOCK's books for a pinned region;
 * region->nr_charged is what it was charged in all. After folios have gone the
 * difference to the page cache's count is given back (dvsm_account_settle).
 *
 * Locks, outermost first; a later one is taken inside an earlier one:
 *
 *   mmap_lock or VMA lock     the core, around ->mmap and ->fault
 *   context->lock             context->implicit
 *   family->lock              read: look up, allocate and hand out folios;
 *                             write: discard, and everything that changes who
 *                             shares what. Never held while user memory is
 *                             read or written
 *   family->chunk_mutexes[]   one for the same chunk of all regions of a family:
 *                             allocation, and breaking a share for a write
 *   folio lock                the folio's place in the page cache and its
 *                             mappings
 *   i_pages, page table locks the core's
 *
 * family->hidden_lock and family->members_lock are taken inside family->chunk_mutexes[];
 * mappings are emptied under the latter. region->pins_lock (inside family->lock),
 * dvsm_regions_lock (the list of regions), dvsm_names_lock,
 * dvsm_events_lock, dvsm_users_lock, and, inside page table locks too,
 * region->places_lock and the lock of region->uses are leaves.
 */
#ifndef DVSM_H
#define DVSM_H

#include <linux/fs.h>
#include <linux/list.h>
#include <linux/migrate_mode.h>
#include <linux/mm_types.h>
#include <linux/mutex.h>
#include <linux/nodemask.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/xarray.h>
#include <linux/dvsm.h>

#include "layout.h"
#include "share.h"

/*
 * For what the module keeps besides memory. Where a cgroup has no room for it the answer is
 * ENOMEM: not the OOM killer, who would take somebody who may only have written to what
 * another has a snapshot of.
 */
#define DVSM_GFP	(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

struct dvsm_hub;
struct io_uring_cmd;
struct mem_cgroup;
struct mempolicy;
struct seq_file;
struct user_struct;

#define DVSM_CHUNK_MUTEXES	32

/* Regions that may share contents: a region and all snapshots that come from it. */
struct dvsm_family {
	refcount_t refs;		/* regions but hidden ones */
	struct rw_semaphore lock;
	bool first_is_gone;		/* the region that is no snapshot; @lock */
	atomic_long_t nr_firsts;	/* folios that were zeroes and were written to */
	struct xarray firsts;		/* by chunk: how many they were with the last one there */
	long first_lost;		/* the same of one for which @firsts had no room; READ_ONCE() */
	struct mutex members_lock;	/* @members */
	struct list_head members;	/* regions that somebody may open */
	struct mutex hidden_lock;	/* @hidden */
	struct list_head hidden;	/* regions that nobody opens, for contents that
					 * have no other place
					 */
	/* By chunk. Held while memory is taken, which may take long where it is scarce: each
	 * family has its own, and keeps no other one waiting.
	 */
	struct mutex chunk_mutexes[DVSM_CHUNK_MUTEXES];
};

/* A user of the machine who has regions. Kept by his regions. */
struct dvsm_user {
	struct list_head link;		/* dvsm_users_lock */
	unsigned int nr_regions;	/* dvsm_users_lock */
	kuid_t uid;
	atomic_long_t nr_pages;		/* charged to him */
	atomic_t nr_names;		/* that he made */
	atomic_t nr_members;		/* that he joined as and that live */
};

/* Where memory comes from. Constant after creation. */
struct dvsm_policy {
	refcount_t refs;
	u32 mode;			/* DVSM_POLICY_ */
	bool is_weighted;
	nodemask_t nodes;		/* all with memory; not empty if mode needs it */
	u8 weights[];			/* nr_node_ids of them if @is_weighted; else 1 each */
};

/* On whose behalf a folio moves. */
enum dvsm_mover {
	DVSM_MOVER_USER,		/* move_pages(), mbind(), migrate_pages() */
	DVSM_MOVER_BALANCING,		/* the kernel's NUMA balancing */
	DVSM_MOVER_COMMAND,		/* our own */
	DVSM_MOVER_OTHER,
	DVSM_NR_MOVERS
};

/* What a node has to do with a region; see struct dvsm_node_stats. */
struct dvsm_node {
	atomic_long_t nr_faults;
	atomic_long_t nr_faults_remote;
	atomic_long_t nr_allocs;
	atomic_long_t nr_misses;
	atomic_long_t nr_cow_faults;
	atomic_long_t nr_moved_in[DVSM_NR_MOVERS];
	atomic_long_t nr_moved_out[DVSM_NR_MOVERS];
};

static inline unsigned long dvsm_moves(const atomic_long_t *by_mover)
{
	unsigned long nr = 0;
	unsigned int i;

	for (i = 0; i < DVSM_NR_MOVERS; i++)
		nr += atomic_long_read(&by_mover[i]);
	return nr;
}

/* Who keeps memory where it is. */
enum dvsm_pin_kind {
	DVSM_PIN_COMMAND,		/* DVSM_IOC_REGION_PIN */
	DVSM_PIN_DMABUF,
	DVSM_PIN_DEVICE,		/* get_user_pages of somebody's, not ours */
	DVSM_PIN_NR,
};

/* What became of pages that were to move; see struct dvsm_region_migrate. */
struct dvsm_moved {
	unsigned long nr_moved;
	unsigned long nr_there;
	unsigned long nr_pinned[DVSM_PIN_NR];
	unsigned long nr_referenced;
	unsigned long nr_failed;
};

/* What has no node; see struct dvsm_region_info. */
struct dvsm_stats {
	atomic_long_t nr_faults_alloc;
	atomic_long_t nr_faults_private;
	atomic_long_t nr_faults_parts;
	atomic_long_t nr_fallbacks;
	atomic_long_t nr_failures;
	atomic_long_t nr_copied;
	atomic_long_t nr_lost;
	atomic_long_t nr_merges;
	atomic_long_t nr_conflicts;
};

/* A region without files: a place for contents; see struct dvsm_family. */
#define DVSM_REGION_F_HIDDEN	BIT(31)

/* A range that a holder keeps where it is; pin.c tells its story. */
struct dvsm_pin {
	struct rb_node node;		/* region->pins_lock, as the next one */
	unsigned long subtree_last;
	/* Constant after creation. */
	struct dvsm_region *region;
	struct file *holder;		/* an identity; no reference */
	enum dvsm_pin_kind kind;
	unsigned long first;		/* page */
	unsigned long last;		/* page */
	struct folio **folios;		/* that hold the range, in order, referenced */
	unsigned long nr_folios;
	unsigned long nr_max;		/* room in @folios */
	struct user_struct *locker;	/* whose locked_vm pays, or NULL */
	unsigned long nr_locked;	/* pages on RLIMIT_MEMLOCK's books */
	bool is_complete;		/* region->pins_lock */
};

/* Chunks: @first to before @end; none if that is not above it. */
struct dvsm_span {
	u64 first;
	u64 end;
};

/* Bits of region->wants. */
enum dvsm_want {
	DVSM_WANTS_HUGE,		/* a chunk is made of small folios, or of parts */
	DVSM_WANTS_MORE,		/* promote.c has not come to the end, or has to come again */
	DVSM_WANTS_FOLLOW,		/* a shared chunk shall go to who uses it */
};

struct dvsm_region {
	/* Constant after creation. */
	struct inode *inode;		/* owns the region */
	struct dvsm_family *family;
	struct dvsm_user *user;
	struct user_struct *locker;	/* whose locked_vm pays, or NULL */
	unsigned long lock_limit;	/* RLIMIT_MEMLOCK of the creator, in pages */
	u64 id;
	u64 length;			/* bytes, a multiple of the page */
	pgoff_t nr_pages;		/* @length in pages */
	u32 flags;			/* DVSM_REGION_F_ */
	char label[DVSM_NAME_MAX];
	u64 parent_id;			/* of the region a snapshot was taken from, or 0 */
	struct inode *anchor;		/* where mappings of a snapshot that fork() took are, as
					 * fork.c says, or NULL
					 */
	struct mem_cgroup *memcg;	/* of a snapshot's creator, who pays for its copies */
	struct dvsm_terms terms;	/* that a snapshot was taken on */
	struct dvsm_span taken;		/* what a snapshot was taken of; of others: everything */
	struct dvsm_span descent;	/* what it and all snapshots that it comes from were taken of */

	atomic_t nr_files;		/* struct files; at 0 the region is retired */
	struct xarray links;		/* by chunk; guarded as share.c says */
	long nr_firsts;			/* the family's when a snapshot's links, with their
					 * marks, told all that differs from its parent; or -1.
					 * family->lock
					 */
	struct list_head member;	/* family->members_lock; empty for hidden regions */
	struct list_head hidden;	/* family->hidden_lock; of hidden regions */
	u64 futex_owner;		/* of hidden regions: see dvsm_region_futex_owner() */
	struct list_head names;		/* dvsm_names_lock */
	struct dvsm_hub *hub;		/* of members and events; NULL until wanted, then constant */

	spinlock_t places_lock;		/* the next two, as place.c says */
	struct dvsm_policy *policy;	/* of all that no place covers */
	struct rb_root places;		/* by chunk; they do not overlap */

	u32 balance;			/* DVSM_BALANCE_; READ_ONCE() */
	struct xarray uses;		/* by chunk: struct dvsm_use of balance.c; its own lock */
	atomic_long_t nr_hints;		/* hinting faults since @balance was set */
	atomic_long_t nr_held;		/* those of them whose chunk stayed for another's sake */

	unsigned long wants;		/* bits, enum dvsm_want: what promote.c and follow.c are to do */
	bool promote_left;		/* the worker's, as the next one: it could not promote all */
	u64 promote_next;		/* chunk that it goes on at */
	u64 follow_next;		/* chunk that follow.c's worker goes on at */

	struct mutex pins_lock;		/* @pins */
	struct rb_root_cached pins;	/* by page; those of one holder may overlap */
	atomic_long_t nr_pinned;	/* pages, once for each pin; not of a pinned region */

	atomic_long_t nr_charged;	/* pages; at least the page cache's count */
	atomic_long_t nr_peak;		/* the most that @nr_charged was */
	struct dvsm_stats stats;
	struct dvsm_node *nodes;	/* nr_node_ids of them */
};

/* All of a chunk was copied for @region to read, to whatever place. */
static inline void dvsm_region_count_copy(struct dvsm_region *region, u64 chunk)
{
	atomic_long_add(dvsm_chunk_pages(chunk, region->nr_pages), &region->stats.nr_copied);
}

/* On whose behalf a folio is allocated, and so which node it should come from. */
struct dvsm_placing {
	struct vm_area_struct *vma;	/* the fault's, whose mbind() counts, or NULL */
	unsigned long addr;		/* in @vma */
	int here;			/* node to call local, or NUMA_NO_NODE: this CPU's */
	nodemask_t *allowed;		/* the caller's cpuset when @here is given, or NULL */
	bool overwrite;			/* the folio is about to be filled: do not zero it */
	unsigned int order_limit;	/* the folio's order has to be below; 0: no limit */
	struct folio *held;		/* the core has a reference on it for this fault, or NULL */
};

/* What dvsm_content_get() tells beside the folio. */
struct dvsm_found {
	bool allocated;			/* there was a hole */
	bool exclusive;			/* the region may write without breaking a share */
	bool parts;			/* the chunk is made of several folios' pages */
};

/* What a region reads, in pages; huge folios are counted as one. */
struct dvsm_usage {
	unsigned long nr_pages;
	unsigned long nr_shared;
	unsigned long nr_huge;
};

/* One open of /dev/dvsm. */
struct dvsm_context {
	struct mutex lock;		/* @implicit */
	struct file *implicit;		/* NULL until the first mmap */
};

/* main.c */
extern unsigned int dvsm_implicit_policy;
extern bool dvsm_implicit_pinned;

/* ioctl.c */
long dvsm_command(struct file *file, unsigned int cmd, void __user *user, int here);
long dvsm_ioctl(struct file *file, unsigned int cmd, unsigned long arg);
long dvsm_watch_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* async.c */
int dvsm_async_uring_cmd(struct io_uring_cmd *ioucmd, unsigned int issue_flags);
bool dvsm_shall_stop(void);

/* region.c */
void dvsm_region_free(struct dvsm_region *region);
struct dvsm_region *dvsm_region_create_inode(u64 length, u32 flags,
					     struct dvsm_policy *policy, const char *label,
					     struct dvsm_family *family);
bool dvsm_region_may_write_in(const struct dvsm_region *region, const struct dvsm_region *store);
bool dvsm_region_pays_as(const struct dvsm_region *region, const struct dvsm_region *payer);
bool dvsm_region_is_hidden_for(const struct dvsm_region *region, const struct dvsm_region *payer,
			       const struct dvsm_region *reader);
struct dvsm_region *dvsm_region_create_hidden(struct dvsm_region *payer,
					      const struct dvsm_region *reader);
void dvsm_region_retire(struct dvsm_region *region);
void dvsm_region_unmap(struct dvsm_region *region, loff_t start, loff_t length);
struct file *dvsm_region_create(u64 length, u32 flags, struct dvsm_policy *policy,
				const char *label);
void dvsm_region_info_fill(struct dvsm_region *region, struct dvsm_region_info *info);
bool dvsm_region_for_each(u64 after, bool (*fn)(struct dvsm_region *region, void *arg), void *arg);
bool dvsm_family_for_each(struct dvsm_family *family,
			  bool (*fn)(struct dvsm_region *region, void *arg), void *arg);
struct dvsm_region *dvsm_region_get(u64 id);
void dvsm_region_put(struct dvsm_region *region);
unsigned long dvsm_region_count(void);
struct dvsm_region *dvsm_region_wanting(u64 after, unsigned long wants);

/* watch.c */
int dvsm_watch_list(struct dvsm_region_list *arg);
struct file *dvsm_watch_open(u64 id);

/* inode.c */
int dvsm_inode_init(void);
void dvsm_inode_exit(void);
int dvsm_inode_pin(void);
void dvsm_inode_unpin(void);
struct inode *dvsm_inode_create(struct dvsm_region *region);
void dvsm_inode_share_futexes(struct inode *inode, struct inode *like);
void dvsm_inode_retire(struct inode *inode);
struct inode *dvsm_inode_create_scratch(void);
struct file *dvsm_inode_open(struct inode *inode, int flags);
struct file *dvsm_inode_open_as(struct inode *inode, int flags,
				const struct file_operations *fops);

/* file.c */
extern const struct file_operations dvsm_file_fops;
extern const struct file_operations dvsm_fork_fops;
int dvsm_file_release(struct inode *inode, struct file *file);

static inline bool dvsm_file_is_region(const struct file *file)
{
	return file->f_op == &dvsm_file_fops;
}

static inline struct dvsm_region *dvsm_file_region(const struct file *file)
{
	return file_inode(file)->i_private;
}

/* mmap.c */
int dvsm_region_mmap(struct file *file, struct vm_area_struct *vma);
int dvsm_context_mmap(struct file *file, struct vm_area_struct *vma);

/* fork.c */
struct dvsm_region *dvsm_vma_region(const struct vm_area_struct *vma);
int dvsm_fork_mmap(struct file *file, struct vm_area_struct *vma);
void dvsm_fork_open(struct vm_area_struct *vma);
void dvsm_fork_close(struct vm_area_struct *vma);
struct file *dvsm_vma_open(u64 address, u64 *offset);

/* store.c */
extern const struct address_space_operations dvsm_store_aops;
struct mutex *dvsm_store_chunk_mutex(struct dvsm_family *family, u64 chunk);
struct folio *dvsm_store_get(struct dvsm_region *region, pgoff_t index,
			     const struct dvsm_placing *placing, bool *allocated);
struct folio *dvsm_store_get_locked(struct dvsm_region *region, pgoff_t index,
				    const struct dvsm_placing *placing, bool *allocated);
pgoff_t dvsm_store_next(struct dvsm_region *region, pgoff_t index);
bool dvsm_store_walk(struct dvsm_region *region, pgoff_t start, pgoff_t end,
		     bool (*fn)(struct folio *folio, void *arg), void *arg);
bool dvsm_store_walk_chunk(struct dvsm_region *region, u64 chunk,
			   bool (*fn)(struct folio *folio, void *arg), void *arg);
bool dvsm_store_chunk_is_written(struct dvsm_region *region, u64 chunk);
bool dvsm_store_settle_chunk(struct dvsm_region *region, u64 chunk);
void dvsm_store_unmap_chunk(struct dvsm_region *region, u64 chunk);
bool dvsm_store_chunk_is_resident(struct dvsm_region *region, u64 chunk);
bool dvsm_store_chunk_is_poisoned(struct dvsm_region *region, u64 chunk);
bool dvsm_store_chunk_is_referenced(struct dvsm_region *region, u64 chunk, struct folio *held);
void dvsm_store_empty_chunk(struct dvsm_region *region, u64 chunk);
int dvsm_store_copy_chunk(struct dvsm_region *target, struct dvsm_region *source, u64 chunk);

/* folio.c */
void dvsm_folio_zero(struct folio *folio);
int dvsm_pages_copy(struct page *dst, struct page *src, unsigned long nr_pages);
int dvsm_page_check(struct page *page);
int dvsm_folio_copy_pages(struct folio *dst, struct folio *src, pgoff_t start, pgoff_t end);
bool dvsm_folio_is_poisoned(struct folio *folio);
bool dvsm_folio_page_is_poisoned(struct folio *folio, pgoff_t index);
bool dvsm_folio_is_written(struct folio *folio, void *arg);
void dvsm_folio_mark_written(struct dvsm_region *region, struct folio *folio);
bool dvsm_folio_settle(struct folio *folio, void *arg);
bool dvsm_folio_is_referenced(struct folio *folio, void *held);
struct mem_cgroup *dvsm_folio_memcg_get(struct folio *folio);

/* discard.c */
long dvsm_store_discard(struct dvsm_region *region, loff_t start, loff_t end);
int dvsm_region_discard(struct dvsm_region *region, loff_t start, loff_t end, u64 *discarded);

/* content.c */
struct folio *dvsm_content_get(struct dvsm_region *region, pgoff_t index,
			       const struct dvsm_placing *placing, bool write,
			       struct dvsm_found *found);
struct folio *dvsm_content_peek(struct dvsm_region *region, pgoff_t index, bool *parts);
u64 dvsm_content_next_chunk(struct dvsm_region *region, u64 chunk);
pgoff_t dvsm_content_next(struct dvsm_region *region, pgoff_t index);
void dvsm_content_walk(struct dvsm_region *region, pgoff_t start, pgoff_t end,
		       bool (*fn)(struct folio *folio, bool shared, void *arg), void *arg);
void dvsm_content_walk_pages(struct dvsm_region *region, pgoff_t start, pgoff_t end,
			     bool (*fn)(struct folio *folio, pgoff_t start, pgoff_t end,
					void *arg),
			     void *arg);
bool dvsm_content_walk_chunk(struct dvsm_region *region, pgoff_t start, pgoff_t end,
			     bool (*fn)(struct folio *folio, bool shared, void *arg), void *arg);
int dvsm_content_discard(struct dvsm_region *region, loff_t start, loff_t end,
			 unsigned long *nr_pages);
void dvsm_content_unmap(struct dvsm_region *region, u64 chunk);
int dvsm_content_make_hole(struct dvsm_region *region, u64 chunk);

/* snapshot.c, diff.c, merge.c */
void dvsm_family_note_first(struct dvsm_family *family, u64 chunk);
struct file *dvsm_snapshot_take(struct dvsm_region *parent, struct inode *anchor, loff_t start,
				loff_t end, const char *label, u32 flags, u64 granularity);
int dvsm_region_diff(struct dvsm_region *region, struct dvsm_region *other,
		     struct dvsm_region_diff *arg);
int dvsm_snapshot_restore(struct dvsm_region *region, struct dvsm_region *snapshot,
			  struct dvsm_snapshot_restore *arg);
int dvsm_snapshot_merge(struct dvsm_region *region, struct dvsm_region *snapshot,
			struct dvsm_snapshot_merge *arg);
int dvsm_region_unshare(struct dvsm_region *region, loff_t start, loff_t end, u64 *unshared);

/* policy.c */
struct dvsm_policy *dvsm_policy_create(u32 mode, const nodemask_t *nodes, const u8 *weights);
struct dvsm_policy *dvsm_policy_get(struct dvsm_policy *policy);
void dvsm_policy_put(struct dvsm_policy *policy);
struct dvsm_policy *dvsm_policy_from_user(u32 mode, u64 user_nodes, u32 nr_nodes,
					  u64 user_weights);
int dvsm_nodes_from_user(nodemask_t *nodes, u64 user, u32 nr_bits);
int dvsm_policy_to_user(const struct dvsm_policy *policy, u64 user_nodes, u32 nr_nodes,
			u64 user_weights);
struct folio *dvsm_policy_alloc(struct dvsm_region *region, const struct dvsm_placing *placing,
				pgoff_t index, unsigned int order, gfp_t gfp, int *wanted);
int dvsm_policy_home(struct dvsm_region *region, pgoff_t index, int here);

/* place.c */
struct dvsm_policy *dvsm_place_policy(struct dvsm_region *region, u64 chunk);
struct dvsm_policy *dvsm_place_policy_get(struct dvsm_region *region, u64 chunk);
struct dvsm_policy *dvsm_region_policy_get(struct dvsm_region *region);
u32 dvsm_region_policy_mode(struct dvsm_region *region);
int dvsm_region_place_set(struct dvsm_region *region, const struct dvsm_region_place *arg,
			  loff_t end);
int dvsm_region_place_look(struct dvsm_region *region, struct dvsm_region_place *arg);
bool dvsm_places_inherit(struct dvsm_region *region, u64 first, u64 last);
int dvsm_places_copy(struct dvsm_region *target, struct dvsm_region *source);
int dvsm_place_lend(struct dvsm_region *hidden, struct dvsm_region *payer, u64 chunk);
void dvsm_places_free(struct dvsm_region *region);

/* follow.c */
void dvsm_follow_want(struct dvsm_region *region);
void dvsm_follow_exit(void);

/* promote.c */
int dvsm_region_promote(struct dvsm_region *region, u64 first, u64 last,
			struct dvsm_region_promote *arg);
int dvsm_region_split(struct dvsm_region *region, u64 first, u64 last,
		      struct dvsm_region_split *arg);
void dvsm_promote_want(struct dvsm_region *region);
void dvsm_promote_exit(void);

/* migrate.c */
int dvsm_folio_migrate(struct address_space *mapping, struct folio *dst, struct folio *src,
		       enum migrate_mode mode);
int dvsm_region_migrate(struct dvsm_region *region, loff_t start, loff_t end,
			const nodemask_t *from, const nodemask_t *to, struct dvsm_moved *moved,
			u64 *next);
int dvsm_region_migrate_chunk(struct dvsm_region *region, u64 chunk, int nid,
			      struct dvsm_moved *moved);

/* populate.c */
int dvsm_region_populate(struct dvsm_region *region, loff_t start, loff_t end,
			 unsigned int nr_threads, int here, u64 *populated);
int dvsm_region_pin(struct dvsm_region *region, loff_t start, loff_t end,
		    unsigned int nr_threads, int here);

/* pin.c */
struct dvsm_pin *dvsm_pin_create(struct dvsm_region *region, struct file *holder,
				 enum dvsm_pin_kind kind, loff_t start, loff_t end);
int dvsm_pin_destroy(struct dvsm_region *region, struct file *holder, loff_t start, loff_t end);
void dvsm_pins_release(struct dvsm_region *region, struct file *holder);
bool dvsm_range_is_pinned(struct dvsm_region *region, loff_t start, loff_t end);
enum dvsm_pin_kind dvsm_range_pin_kind(struct dvsm_region *region, loff_t start, loff_t end);

/* dmabuf.c */
#ifdef CONFIG_DMA_SHARED_BUFFER
struct file *dvsm_region_export_dmabuf(struct dvsm_region *region, loff_t start, loff_t end);
#else
static inline struct file *dvsm_region_export_dmabuf(struct dvsm_region *region, loff_t start,
						     loff_t end)
{
	return ERR_PTR(-EOPNOTSUPP);
}
#endif

/* residency.c */
int dvsm_region_residency(struct dvsm_region *region, struct dvsm_region_residency *arg);
int dvsm_region_nodes(struct dvsm_region *region, struct dvsm_region_nodes *arg);
int dvsm_region_extents(struct dvsm_region *region, struct dvsm_region_extents *arg);
void dvsm_region_usage(struct dvsm_region *region, struct dvsm_usage *usage);
void dvsm_region_show_cow_faults(struct seq_file *m, struct dvsm_region *region);

/* balance.c */
u32 dvsm_balance_default(u32 flags);
void dvsm_balance_moved(struct dvsm_region *region, u64 chunk, int node);
bool dvsm_balance_was_used_from(struct dvsm_region *region, u64 chunk, int node);
bool dvsm_balance_lets_move(struct dvsm_region *region, u64 chunk, int node);
bool dvsm_balance_next_wanted(struct dvsm_region *region, u64 *chunk, int *node);
struct mempolicy *dvsm_balance_policy(struct vm_area_struct *vma, unsigned long addr);
void dvsm_balance_exit(void);
int dvsm_region_balance(struct dvsm_region *region, struct dvsm_region_balance *arg);

/* name.c */
int dvsm_name_create(struct file *file, const char *text, umode_t mode, u32 flags);
struct file *dvsm_name_open(const char *text, bool read_only);
int dvsm_name_unlink(const char *text);
int dvsm_name_list(struct dvsm_name_list *arg);
void dvsm_name_retire(struct dvsm_region *region);
unsigned int dvsm_name_count(void);
void dvsm_name_exit(void);

/* events.c */
struct file *dvsm_events_open(struct dvsm_region *region);
int dvsm_events_join(struct dvsm_region *region, u64 cookie);
int dvsm_events_leave(struct dvsm_region *region, u64 cookie);
int dvsm_events_members(struct dvsm_region *region, struct dvsm_region_members *arg);
void dvsm_events_retire(struct dvsm_region *region);
unsigned int dvsm_events_count(void);
void dvsm_events_exit(void);

/* account.c */
struct dvsm_user *dvsm_user_get(kuid_t uid);
void dvsm_user_put(struct dvsm_user *user);
unsigned long dvsm_user_count(void);
int dvsm_account_charge(struct dvsm_region *region, unsigned long nr_pages);
void dvsm_account_uncharge(struct dvsm_region *region, unsigned long nr_pages);
void dvsm_account_settle(struct dvsm_region *region);
bool dvsm_account_lock(struct user_struct *locker, unsigned long limit, unsigned long nr_pages);
void dvsm_account_unlock(struct user_struct *locker, unsigned long nr_pages);
unsigned long dvsm_account_limit(void);
unsigned long dvsm_account_limit_user(void);
unsigned long dvsm_account_charged(void);
unsigned long dvsm_account_charged_user(kuid_t uid);
unsigned long dvsm_account_locked(void);

/* debugfs.c */
void dvsm_debugfs_init(void);
void dvsm_debugfs_exit(void);
void dvsm_delay(void);

/* Between two steps of a long task. Returns whether to give it up. */
static inline bool dvsm_is_interrupted(void)
{
	cond_resched();
	return dvsm_shall_stop();
}

#endif /* DVSM_H */
