// SPDX-License-Identifier: GPL-2.0-only
/*
 * Folios that move to another node: by the kernel, which calls ->migrate_folio, and
 * by our own command.
 *
 * The kernel finds who maps a folio by its mapping, so it cannot move what a snapshot
 * has mapped. The command can. It locks the family for writing, so that no fault
 * begins; waits for faults that are about to map, by locking each folio once; unmaps
 * the chunk for all who read it; and then replaces folio by folio:
 *
 *  - Nobody has a reference but the page cache and we: a device, read() or write()
 *    would go on with the old folio. Looked at before the copy, since who writes by a
 *    reference he has may be done when the copy is, and once more when the folios
 *    change places, which folio_migrate_mapping() does.
 *  - The copy is complete before anybody can find it: read() looks up folios without
 *    locking them.
 *  - No cgroup is charged twice, and none too little. Only adding a folio to a page
 *    cache charges it, and a folio that is on the LRU must not be added again. So the
 *    new one is added to a scratch inode, which charges it to the old one's cgroup,
 *    and taken off; then it takes the old one's place. The old one takes its own charge
 *    along when it is freed.
 */
#include <linux/cpuset.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/memcontrol.h>
#include <linux/migrate.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/task_stack.h>
#include <linux/uaccess.h>
#include <asm/syscall.h>
#include <asm/unistd.h>

#include "dvsm.h"
#include "trace.h"

/* How often a chunk is tried whose folios somebody has a reference on, and from when. */
#define DVSM_MIGRATE_TRIES	10
#define DVSM_MIGRATE_WAIT_US	20

/*
 * On whose behalf the kernel moves a folio. Balancing does it in a fault, which a system call may
 * take too; so may memory that goes offline be written about. What tells them apart is that
 * balancing moves to the node whose use the module has just seen.
 */
static enum dvsm_mover dvsm_mover_find(struct dvsm_region *region, struct folio *dst,
				       enum migrate_mode mode)
{
	int nr;

	if (current->flags & PF_KTHREAD)
		return DVSM_MOVER_OTHER;
	nr = syscall_get_nr(current, task_pt_regs(current));
	switch (nr) {
	case __NR_move_pages:
	case __NR_mbind:
	case __NR_migrate_pages:
		return DVSM_MOVER_USER;
	}
	if (mode != MIGRATE_ASYNC)
		return DVSM_MOVER_OTHER;
	/* No system call: a fault of the program's own. */
	if (nr < 0 || dvsm_balance_was_used_from(region, dvsm_page_chunk(dst->index), folio_nid(dst)))
		return DVSM_MOVER_BALANCING;
	return DVSM_MOVER_OTHER;
}

static void dvsm_folio_moved(struct dvsm_region *region, struct folio *dst, int from,
			     enum dvsm_mover mover)
{
	int to = folio_nid(dst);

	if (from == to)
		return;
	atomic_long_inc(&region->nodes[from].nr_moved_out[mover]);
	atomic_long_inc(&region->nodes[to].nr_moved_in[mover]);
	trace_dvsm_folio_move(region->id, dst->index, folio_order(dst), from, to, mover);
	dvsm_balance_moved(region, dvsm_page_chunk(dst->index), to);
	if (folio_order(dst) < DVSM_CHUNK_ORDER)
		dvsm_promote_want(region);
}

/* In one piece, and not for nothing where the hardware has lost a part. */
static int dvsm_folio_copy_mc(struct folio *dst, struct folio *src)
{
	size_t size = folio_size(src), left;

	if (!DVSM_KERNEL_MOVES_BY_BYTES)
		return dvsm_pages_copy(folio_page(dst, 0), folio_page(src, 0), folio_nr_pages(src));
	left = copy_mc_to_kernel(folio_address(dst), folio_address(src), size);
	if (!left)
		return 0;
	memory_failure_queue(folio_pfn(src) + ((size - left) >> PAGE_SHIFT), 0);
	return -EHWPOISON;
}

/*
 * Copy @src and let @dst take its place. Both are locked, @src is in no mapping, and
 * the caller has a reference on it; @extra is 1 if somebody may have one because of
 * the LRU.
 */
static int dvsm_folio_replace(struct address_space *mapping, struct folio *dst,
			      struct folio *src, int extra)
{
	int ret;

	if (folio_ref_count(src) > folio_nr_pages(src) + 1 + extra)
		return -EAGAIN;
	ret = dvsm_folio_copy_mc(dst, src);
	if (ret)
		return ret;
	folio_mark_uptodate(dst);
	return folio_migrate_mapping(mapping, dst, src, extra);
}

/**
 * dvsm_folio_migrate - ->migrate_folio of a region.
 * @mapping: the region's page cache
 * @dst: the new folio, locked
 * @src: the folio, locked, isolated from the LRU and unmapped
 * @mode: how much the kernel may wait
 *
 * Context: folios are locked, so no dvsm lock may be taken.
 * Return: 0; -EBUSY for a pinned region, -EAGAIN where somebody has a reference.
 */
int dvsm_folio_migrate(struct address_space *mapping, struct folio *dst, struct folio *src,
		       enum migrate_mode mode)
{
	struct dvsm_region *region = mapping->host->i_private;
	int ret;

	if (region->flags & DVSM_REGION_F_PINNED)
		return -EBUSY;
	ret = dvsm_folio_replace(mapping, dst, src, 0);
	if (ret)
		return ret;
	folio_migrate_flags(dst, src);
	dvsm_folio_moved(region, dst, folio_nid(src), dvsm_mover_find(region, dst, mode));
	return 0;
}

/* One command. */
struct dvsm_migration {
	struct dvsm_region *region;
	struct inode *scratch;
	const nodemask_t *from;
	const nodemask_t *to;
	enum dvsm_mover mover;
	gfp_t gfp;
	struct folio *spare;		/* a huge one, allocated before locks were taken */
	int wanted;			/* the node for the chunk at hand */
	pgoff_t start;			/* of what is looked at of the chunk at hand */
	pgoff_t end;
	struct dvsm_moved moved;	/* in this attempt at the chunk at hand */
	unsigned long nr_busy;		/* in that, folios with unknown references */
};

enum dvsm_fate {
	DVSM_FATE_NONE,			/* not on a node that is to be left */
	DVSM_FATE_THERE,
	DVSM_FATE_PINNED,
	DVSM_FATE_MOVE,
};

/* Who pins the folio; DVSM_PIN_NR: nobody. */
static enum dvsm_pin_kind dvsm_migration_pin_kind(struct dvsm_migration *migration,
						  struct folio *folio)
{
	enum dvsm_pin_kind kind = dvsm_range_pin_kind(migration->region, folio_pos(folio),
						      folio_pos(folio) + folio_size(folio));

	return kind == DVSM_PIN_NR && folio_maybe_dma_pinned(folio) ? DVSM_PIN_DEVICE : kind;
}

/* @kind receives who pins it. */
static enum dvsm_fate dvsm_migration_fate(struct dvsm_migration *migration, struct folio *folio,
					  enum dvsm_pin_kind *kind)
{
	int nid = folio_nid(folio);

	if (!node_isset(nid, *migration->from))
		return DVSM_FATE_NONE;
	if (node_isset(nid, *migration->to))
		return DVSM_FATE_THERE;
	*kind = dvsm_migration_pin_kind(migration, folio);
	return *kind == DVSM_PIN_NR ? DVSM_FATE_MOVE : DVSM_FATE_PINNED;
}

/* The node of @nodes that is a chunk's turn. */
static int dvsm_migration_turn(const nodemask_t *nodes, u64 chunk)
{
	unsigned int n = chunk % nodes_weight(*nodes);
	int nid = first_node(*nodes);

	while (n--)
		nid = next_node(nid, *nodes);
	return nid;
}

/* From the wanted node, or from another one that will do. */
static struct folio *dvsm_migration_alloc(struct dvsm_migration *migration, unsigned int order)
{
	gfp_t gfp = migration->gfp | __GFP_NOWARN;
	nodemask_t nodes = *migration->to;
	struct folio *folio = migration->spare;

	if (folio && order == DVSM_CHUNK_ORDER) {
		migration->spare = NULL;
		return folio;
	}
	gfp |= order ? __GFP_NORETRY | __GFP_NOMEMALLOC : __GFP_RETRY_MAYFAIL;
	return __folio_alloc(gfp, order, migration->wanted, &nodes);
}

/* Charge @dst to the cgroup that has @src, even beyond its limit: @src will be freed. */
static int dvsm_migration_charge(struct dvsm_migration *migration, struct folio *dst,
				 struct folio *src)
{
	struct address_space *scratch = migration->scratch->i_mapping;
	struct mem_cgroup *old = set_active_memcg(folio_memcg(src));
	int ret = filemap_add_folio(scratch, dst, 0, GFP_ATOMIC);

	set_active_memcg(old);
	return ret ? ret : generic_error_remove_folio(scratch, dvsm_error_remove_of(dst));
}

/* Replace @src, which is locked, by @dst, which is new. */
static int dvsm_migration_replace(struct dvsm_migration *migration, struct folio *dst,
				  struct folio *src)
{
	int ret = dvsm_migration_charge(migration, dst, src);

	if (ret)
		return ret;
	if (folio_test_checked(src))
		folio_set_checked(dst);
	ret = dvsm_folio_replace(src->mapping, dst, src, !folio_test_lru(src));
	if (!ret)
		src->mapping = NULL;
	folio_unlock(dst);
	return ret;
}

/* Move a folio that nobody has mapped, nor can map. */
static int dvsm_migration_move(struct dvsm_migration *migration, struct folio *src)
{
	struct folio *dst;
	int ret;

	if (dvsm_folio_is_referenced(src, NULL))
		return -EAGAIN;
	dst = dvsm_migration_alloc(migration, folio_order(src));
	if (!dst)
		return -ENOMEM;
	folio_lock(src);
	if (!src->mapping)
		ret = -EAGAIN;
	else if (dvsm_folio_is_poisoned(src))
		ret = -EHWPOISON;
	else
		ret = dvsm_migration_replace(migration, dst, src);
	folio_unlock(src);
	if (!ret)
		dvsm_folio_moved(migration->region, dst, folio_nid(src), migration->mover);
	folio_put(dst);
	return ret;
}

static bool dvsm_migration_move_folio(struct folio *folio, bool shared, void *arg)
{
	struct dvsm_migration *migration = arg;
	struct dvsm_moved *moved = &migration->moved;
	unsigned long nr_pages = folio_nr_pages(folio);
	enum dvsm_pin_kind kind;
	int ret;

	switch (dvsm_migration_fate(migration, folio, &kind)) {
	case DVSM_FATE_NONE:
		break;
	case DVSM_FATE_THERE:
		moved->nr_there += nr_pages;
		break;
	case DVSM_FATE_PINNED:
		moved->nr_pinned[kind] += nr_pages;
		break;
	case DVSM_FATE_MOVE:
		ret = dvsm_migration_move(migration, folio);
		if (!ret) {
			moved->nr_moved += nr_pages;
		} else if (ret == -EAGAIN) {
			moved->nr_referenced += nr_pages;
			migration->nr_busy++;
		} else {
			moved->nr_failed += nr_pages;
		}
		break;
	}
	return false;
}

/* Stops at a folio that is to be moved. */
static bool dvsm_migration_look_at_folio(struct folio *folio, bool shared, void *arg)
{
	enum dvsm_pin_kind kind;

	return dvsm_migration_fate(arg, folio, &kind) == DVSM_FATE_MOVE;
}

/* Take the chunk of @arg out of the mappings of a region that may read it. */
static bool dvsm_migration_unmap_sharer(struct dvsm_region *region, void *arg)
{
	struct dvsm_link *link = arg;

	if (xa_load(&region->links, link->chunk))
		dvsm_store_unmap_chunk(region, link->chunk);
	return false;
}

static void dvsm_migration_unmap(struct dvsm_migration *migration, struct dvsm_link *link,
				 u64 chunk)
{
	struct dvsm_share *share = link ? link->content : NULL;

	if (!share) {
		dvsm_content_unmap(migration->region, chunk);
	} else if (!share->parts && !share->nr_overs) {
		dvsm_share_unmap(share);
	} else {
		/* Who reads those over and under it too is known to nobody but them. */
		dvsm_share_settle(share);
		dvsm_family_for_each(migration->region->family, dvsm_migration_unmap_sharer, link);
	}
}

/* A huge folio is better looked for before faults have to wait. */
static void dvsm_migration_prepare(struct dvsm_migration *migration)
{
	struct folio *folio;
	bool parts;

	if (migration->spare)
		return;
	folio = dvsm_content_peek(migration->region, migration->start, &parts);
	if (IS_ERR_OR_NULL(folio))
		return;
	if (folio_order(folio) == DVSM_CHUNK_ORDER &&
	    node_isset(folio_nid(folio), *migration->from) &&
	    !node_isset(folio_nid(folio), *migration->to))
		migration->spare = dvsm_migration_alloc(migration, DVSM_CHUNK_ORDER);
	folio_put(folio);
}

static void dvsm_migration_drop_spare(struct dvsm_migration *migration)
{
	if (migration->spare)
		folio_put(migration->spare);
	migration->spare = NULL;
}

/* One attempt at a chunk. */
static int dvsm_migration_try(struct dvsm_migration *migration, u64 chunk)
{
	struct dvsm_region *region = migration->region;
	struct dvsm_link *link;

	dvsm_migration_prepare(migration);
	/* Nobody has asked for it, so nothing is unmapped in vain. */
	if (migration->mover == DVSM_MOVER_BALANCING && !migration->spare)
		return -ENOMEM;
	if (down_write_killable(&region->family->lock))
		return -EINTR;
	migration->moved = (struct dvsm_moved) {};
	migration->nr_busy = 0;
	link = xa_load(&region->links, chunk);
	if (dvsm_content_walk_chunk(region, migration->start, migration->end,
				    dvsm_migration_look_at_folio, migration))
		dvsm_migration_unmap(migration, link, chunk);
	dvsm_delay();
	dvsm_content_walk_chunk(region, migration->start, migration->end,
				dvsm_migration_move_folio, migration);
	up_write(&region->family->lock);
	return 0;
}

/* References may be passing ones: the chunk is tried several times. */
static int dvsm_migration_chunk(struct dvsm_migration *migration, u64 chunk,
				struct dvsm_moved *total)
{
	unsigned long nr_moved = 0;
	enum dvsm_pin_kind kind;
	unsigned int tries = 0;
	int ret;

	for (;;) {
		ret = dvsm_migration_try(migration, chunk);
		if (ret)
			break;
		/* What moved before is there now. */
		migration->moved.nr_there -= min(nr_moved, migration->moved.nr_there);
		nr_moved += migration->moved.nr_moved;
		if (!migration->nr_busy || ++tries == DVSM_MIGRATE_TRIES)
			break;
		fsleep(DVSM_MIGRATE_WAIT_US << tries);
	}
	dvsm_migration_drop_spare(migration);
	total->nr_moved += nr_moved;
	if (ret)
		return ret;
	total->nr_there += migration->moved.nr_there;
	for (kind = 0; kind < DVSM_PIN_NR; kind++)
		total->nr_pinned[kind] += migration->moved.nr_pinned[kind];
	total->nr_referenced += migration->moved.nr_referenced;
	total->nr_failed += migration->moved.nr_failed;
	return 0;
}

/* Until @end or an error; @at receives where that was. */
static int dvsm_migration_walk(struct dvsm_migration *migration, pgoff_t *at, pgoff_t end,
			       struct dvsm_moved *total)
{
	struct dvsm_region *region = migration->region;

	while (*at < end) {
		u64 chunk = dvsm_content_next_chunk(region, dvsm_page_chunk(*at));
		int ret;

		if (chunk > dvsm_page_chunk(end - 1)) {
			*at = end;
			break;
		}
		migration->start = max_t(u64, *at, chunk << DVSM_CHUNK_ORDER);
		migration->end = min_t(u64, end, (chunk + 1) << DVSM_CHUNK_ORDER);
		migration->wanted = dvsm_migration_turn(migration->to, chunk);
		ret = dvsm_migration_chunk(migration, chunk, total);
		if (ret)
			return ret;
		*at = migration->end;
		if (dvsm_is_interrupted())
			return -EINTR;
	}
	return 0;
}

static int dvsm_migration_run(struct dvsm_migration *migration, pgoff_t *at, pgoff_t end,
			      struct dvsm_moved *total)
{
	int ret;

	if (migration->region->flags & DVSM_REGION_F_PINNED)
		return -EBUSY;
	migration->scratch = dvsm_inode_create_scratch();
	if (IS_ERR(migration->scratch))
		return PTR_ERR(migration->scratch);
	ret = dvsm_migration_walk(migration, at, end, total);
	iput(migration->scratch);
	return ret;
}

/**
 * dvsm_region_migrate - Move what a range holds to other nodes.
 * @region: the region
 * @start: first byte
 * @end: the byte after the last, in the region
 * @from: the nodes that are left
 * @to: nodes with memory, some of which the caller may use
 * @moved: what became of it is added, in error too
 * @next: gets where the work ended
 *
 * Context: process; may sleep; no dvsm lock held.
 * Return: 0; -EBUSY for a pinned region; -EINVAL if the caller's cpuset rules out
 * @to; -ENOMEM if nothing could be begun; -EINTR after a fatal signal.
 */
int dvsm_region_migrate(struct dvsm_region *region, loff_t start, loff_t end,
			const nodemask_t *from, const nodemask_t *to, struct dvsm_moved *moved,
			u64 *next)
{
	nodemask_t allowed;
	struct dvsm_migration migration = {
		.region = region,
		.from = from,
		.to = &allowed,
		.mover = DVSM_MOVER_COMMAND,
		.gfp = GFP_HIGHUSER_MOVABLE,
	};
	pgoff_t at = start >> PAGE_SHIFT;
	int ret;

	*next = start;
	nodes_and(allowed, *to, cpuset_current_mems_allowed);
	if (nodes_empty(allowed))
		return -EINVAL;
	ret = dvsm_migration_run(&migration, &at, end >> PAGE_SHIFT, moved);
	*next = (u64)at << PAGE_SHIFT;
	trace_dvsm_migrate(region->id, start >> PAGE_SHIFT, end >> PAGE_SHIFT, moved->nr_moved,
			   ret);
	return ret;
}

/**
 * dvsm_region_migrate_chunk - Move a huge chunk to the node that uses it, if memory is free there.
 * @region: the region
 * @chunk: the chunk
 * @nid: the node
 * @moved: what became of it is added
 *
 * Counted as balancing.
 *
 * Context: process; may sleep; no dvsm lock held.
 * Return: 0; -EBUSY for a pinned region; -ENOMEM if nothing could be begun, or is to be moved.
 */
int dvsm_region_migrate_chunk(struct dvsm_region *region, u64 chunk, int nid,
			      struct dvsm_moved *moved)
{
	const nodemask_t to = nodemask_of_node(nid);
	struct dvsm_migration migration = {
		.region = region,
		.from = &node_states[N_MEMORY],
		.to = &to,
		.mover = DVSM_MOVER_BALANCING,
		.gfp = GFP_HIGHUSER_MOVABLE & ~__GFP_RECLAIM,
	};
	pgoff_t at = chunk << DVSM_CHUNK_ORDER;
	pgoff_t end = min_t(u64, at + DVSM_CHUNK_PAGES, region->nr_pages);

	return dvsm_migration_run(&migration, &at, end, moved);
}
