// SPDX-License-Identifier: GPL-2.0-only
/*
 * Members of a region, and the events of their deaths.
 *
 * The kernel tells of the end of an address space by ->release of an MMU notifier:
 * when its last thread has left it, by exit, signal or exec. It is one notifier for
 * each process that is a member of any region (dvsm_process), which all of its
 * memberships share (mmu_notifier_get()). fork() does not inherit it, descriptors
 * have no part in it.
 *
 * A membership is made when a process joins. At the process's death nothing needs to
 * be allocated: the membership itself goes into the log of its region's hub, in the
 * place of the oldest one there. A reader is a place in that log, so readers cost
 * nothing and do not hold each other up; one who is too far behind is told by how
 * much.
 *
 * Life of a hub: of its region, and of the files of its readers. When the region is
 * retired its members are let go. Whoever takes a living membership off its lists,
 * under dvsm_events_lock, is the one to drop its part in the notifier: death, leaving
 * or the region's end.
 */
#include <linux/anon_inodes.h>
#include <linux/cred.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "dvsm.h"

static uint limit_user_members = 16384;
module_param(limit_user_members, uint, 0644);
MODULE_PARM_DESC(limit_user_members, "living members of regions that one user may have (default 16384)");

#define DVSM_EVENTS_BATCH	8	/* events, members that are copied at once */

struct dvsm_hub {
	refcount_t refs;		/* region and readers */
	wait_queue_head_t wait;		/* for events, and for the region's end */
	bool closed;			/* dvsm_events_lock; the region is gone */
	u64 last_serial;		/* dvsm_events_lock; of memberships */
	u64 last_sequence;		/* dvsm_events_lock; of events, from 1 */
	struct list_head living;	/* dvsm_events_lock; in the order of @serial */
	/* dvsm_events_lock; event N is at N % DVSM_EVENTS_KEPT */
	struct dvsm_membership *log[DVSM_EVENTS_KEPT];
};

/* A process that is a member of regions. */
struct dvsm_process {
	struct mmu_notifier notifier;	/* owns it; one user for each membership */
	struct list_head memberships;	/* dvsm_events_lock */
};

struct dvsm_membership {
	struct list_head link;		/* dvsm_events_lock; hub->living, or to be freed */
	struct list_head of_process;	/* dvsm_events_lock; while it lives */
	struct dvsm_process *process;	/* while it lives */
	struct dvsm_hub *hub;
	struct dvsm_user *user;		/* who is charged while it lives */
	struct pid *pid;
	u64 serial;
	u64 cookie;
	u64 start_time;
	/* Of the death. */
	u64 sequence;
	u64 time;
	u32 type;
	s32 code;
};

/* An open events descriptor. */
struct dvsm_reader {
	struct dvsm_hub *hub;
	struct mutex lock;		/* @next */
	u64 next;			/* sequence of the next event to be read */
};

static DEFINE_SPINLOCK(dvsm_events_lock);
static unsigned int dvsm_nr_members;	/* dvsm_events_lock */
static atomic_t dvsm_nr_processes;

static void dvsm_membership_free(struct dvsm_membership *membership)
{
	put_pid(membership->pid);
	dvsm_user_put(membership->user);
	kfree(membership);
}

static void dvsm_memberships_free(struct list_head *gone)
{
	struct dvsm_membership *membership, *next;

	list_for_each_entry_safe(membership, next, gone, link)
		dvsm_membership_free(membership);
}

/* It lives no more; the caller drops its part in the process's notifier. */
static void dvsm_membership_end_locked(struct dvsm_membership *membership)
{
	lockdep_assert_held(&dvsm_events_lock);
	list_del(&membership->of_process);
	list_del(&membership->link);
	atomic_dec(&membership->user->nr_members);
	dvsm_nr_members--;
}

/* Into the log; what has to make room for it is to be freed with @gone. */
static void dvsm_hub_log_locked(struct dvsm_hub *hub, struct dvsm_membership *membership,
				struct list_head *gone)
{
	struct dvsm_membership **slot;

	lockdep_assert_held(&dvsm_events_lock);
	membership->sequence = hub->last_sequence + 1;
	slot = &hub->log[membership->sequence % DVSM_EVENTS_KEPT];
	if (*slot)
		list_add(&(*slot)->link, gone);
	*slot = membership;
	WRITE_ONCE(hub->last_sequence, membership->sequence);
	wake_up_interruptible_poll(&hub->wait, EPOLLIN | EPOLLRDNORM);
}

/* How a process came to leave its address space. */
static void dvsm_membership_explain(struct dvsm_membership *membership)
{
	struct task_struct *leader;

	membership->time = ktime_get_boottime_ns();
	membership->type = DVSM_EVENT_EXIT;
	membership->code = -1;
	rcu_read_lock();
	leader = pid_task(membership->pid, PIDTYPE_TGID);
	if (leader && READ_ONCE(leader->mm)) {
		membership->type = DVSM_EVENT_EXEC;
		membership->code = 0;
	} else if (leader) {
		membership->code = leader->signal->flags & SIGNAL_GROUP_EXIT ?
				   leader->signal->group_exit_code : leader->exit_code;
	}
	rcu_read_unlock();
}

/* One that dies with its process is logged. Returns false if there is none. */
static bool dvsm_process_end_one(struct dvsm_process *process)
{
	struct dvsm_membership *membership;
	LIST_HEAD(gone);

	spin_lock(&dvsm_events_lock);
	membership = list_first_entry_or_null(&process->memberships, struct dvsm_membership,
					      of_process);
	if (membership) {
		dvsm_membership_end_locked(membership);
		dvsm_membership_explain(membership);
		dvsm_hub_log_locked(membership->hub, membership, &gone);
	}
	spin_unlock(&dvsm_events_lock);
	dvsm_memberships_free(&gone);
	return membership;
}

static void dvsm_process_release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct dvsm_process *process = container_of(notifier, struct dvsm_process, notifier);
	unsigned int nr_dead = 0;

	dvsm_delay();
	/* Each wakes all who wait for it: with many of both, others get the lock in between. */
	while (dvsm_process_end_one(process)) {
		nr_dead++;
		cond_resched();
	}
	/* The caller's SRCU section keeps the process's memory until we have returned. */
	while (nr_dead--)
		mmu_notifier_put(notifier);
}

static struct mmu_notifier *dvsm_process_alloc(struct mm_struct *mm)
{
	struct dvsm_process *process = kzalloc(sizeof(*process), GFP_KERNEL_ACCOUNT);

	if (!process)
		return ERR_PTR(-ENOMEM);
	INIT_LIST_HEAD(&process->memberships);
	atomic_inc(&dvsm_nr_processes);
	return &process->notifier;
}

static void dvsm_process_free(struct mmu_notifier *notifier)
{
	kfree(container_of(notifier, struct dvsm_process, notifier));
	atomic_dec(&dvsm_nr_processes);
}

static const struct mmu_notifier_ops dvsm_process_ops = {
	.release	= dvsm_process_release,
	.alloc_notifier	= dvsm_process_alloc,
	.free_notifier	= dvsm_process_free,
};

/* The caller's process, with one part in its notifier. */
static struct dvsm_process *dvsm_process_get(void)
{
	struct mmu_notifier *notifier = mmu_notifier_get(&dvsm_process_ops, current->mm);

	/* Any signal interrupts it, before anything has been done. */
	if (IS_ERR(notifier))
		return ERR_PTR(PTR_ERR(notifier) == -EINTR ? -ERESTARTNOINTR : PTR_ERR(notifier));
	return container_of(notifier, struct dvsm_process, notifier);
}

static void dvsm_process_put(struct dvsm_process *process)
{
	mmu_notifier_put(&process->notifier);
}

static struct dvsm_membership *dvsm_process_find_locked(struct dvsm_process *process,
							const struct dvsm_hub *hub, u64 cookie)
{
	struct dvsm_membership *membership;

	lockdep_assert_held(&dvsm_events_lock);
	list_for_each_entry(membership, &process->memberships, of_process)
		if (membership->hub == hub && membership->cookie == cookie)
			return membership;
	return NULL;
}

static void dvsm_hub_put(struct dvsm_hub *hub)
{
	unsigned int i;

	if (!refcount_dec_and_test(&hub->refs))
		return;
	for (i = 0; i < DVSM_EVENTS_KEPT; i++)
		if (hub->log[i])
			dvsm_membership_free(hub->log[i]);
	kvfree(hub);
}

/* A region's hub, made when it is first wanted; NULL without memory. */
static struct dvsm_hub *dvsm_hub_of(struct dvsm_region *region)
{
	struct dvsm_hub *hub = smp_load_acquire(&region->hub);	/* pairs with cmpxchg() */
	struct dvsm_hub *other;

	if (hub)
		return hub;
	hub = kvzalloc(sizeof(*hub), GFP_KERNEL_ACCOUNT);
	if (!hub)
		return NULL;
	refcount_set(&hub->refs, 1);
	init_waitqueue_head(&hub->wait);
	INIT_LIST_HEAD(&hub->living);
	other = cmpxchg(&region->hub, NULL, hub);
	if (!other)
		return hub;
	kvfree(hub);
	return other;
}

static struct dvsm_membership *dvsm_membership_alloc(struct dvsm_hub *hub, u64 cookie)
{
	struct dvsm_membership *membership = kzalloc(sizeof(*membership), GFP_KERNEL_ACCOUNT);

	if (!membership)
		return NULL;
	membership->user = dvsm_user_get(current_uid());
	if (!membership->user) {
		kfree(membership);
		return NULL;
	}
	membership->hub = hub;
	membership->cookie = cookie;
	membership->pid = get_task_pid(current, PIDTYPE_TGID);
	membership->start_time = current->group_leader->start_boottime;
	return membership;
}

static int dvsm_membership_begin(struct dvsm_membership *membership, struct dvsm_process *process)
{
	struct dvsm_hub *hub = membership->hub;
	int ret = 0;

	spin_lock(&dvsm_events_lock);
	if (dvsm_process_find_locked(process, hub, membership->cookie)) {
		ret = -EEXIST;
	} else if (atomic_read(&membership->user->nr_members) >= READ_ONCE(limit_user_members)) {
		ret = -ENOSPC;
	} else {
		membership->process = process;
		membership->serial = ++hub->last_serial;
		list_add_tail(&membership->link, &hub->living);
		list_add_tail(&membership->of_process, &process->memberships);
		atomic_inc(&membership->user->nr_members);
		dvsm_nr_members++;
	}
	spin_unlock(&dvsm_events_lock);
	return ret;
}

/**
 * dvsm_events_join - Make the caller's process a member of a region.
 * @region: the region
 * @cookie: what events shall tell of it
 *
 * Context: process; a file on the region is held.
 * Return: 0; -EEXIST; -ENOSPC at the limit; -ENOMEM.
 */
int dvsm_events_join(struct dvsm_region *region, u64 cookie)
{
	struct dvsm_hub *hub = dvsm_hub_of(region);
	struct dvsm_membership *membership;
	struct dvsm_process *process;
	int ret;

	if (!hub)
		return -ENOMEM;
	membership = dvsm_membership_alloc(hub, cookie);
	if (!membership)
		return -ENOMEM;
	process = dvsm_process_get();
	if (IS_ERR(process)) {
		dvsm_membership_free(membership);
		return PTR_ERR(process);
	}
	ret = dvsm_membership_begin(membership, process);
	if (ret) {
		dvsm_process_put(process);
		dvsm_membership_free(membership);
	}
	return ret;
}

/**
 * dvsm_events_leave - Let the caller's process be a member no more.
 * @region: the region
 * @cookie: what it joined with
 *
 * Context: process; a file on the region is held.
 * Return: 0, -ENOENT or -ENOMEM.
 */
int dvsm_events_leave(struct dvsm_region *region, u64 cookie)
{
	struct dvsm_hub *hub = smp_load_acquire(&region->hub);	/* as in dvsm_hub_of() */
	struct dvsm_membership *membership;
	struct dvsm_process *process;

	if (!hub)
		return -ENOENT;
	process = dvsm_process_get();
	if (IS_ERR(process))
		return PTR_ERR(process);
	spin_lock(&dvsm_events_lock);
	membership = dvsm_process_find_locked(process, hub, cookie);
	if (membership)
		dvsm_membership_end_locked(membership);
	spin_unlock(&dvsm_events_lock);
	if (membership) {
		dvsm_process_put(process);
		dvsm_membership_free(membership);
	}
	dvsm_process_put(process);
	return membership ? 0 : -ENOENT;
}

/* Describes members behind @cursor; how many, and where it got. */
static unsigned int dvsm_hub_describe(struct dvsm_hub *hub, struct dvsm_member *members,
				      unsigned int nr_members, u64 *cursor)
{
	struct dvsm_membership *membership;
	unsigned int nr = 0;

	spin_lock(&dvsm_events_lock);
	list_for_each_entry(membership, &hub->living, link) {
		if (nr == nr_members)
			break;
		if (membership->serial <= *cursor)
			continue;
		members[nr++] = (struct dvsm_member) {
			.cookie = membership->cookie,
			.start_time = membership->start_time,
			.pid = pid_vnr(membership->pid),
		};
		*cursor = membership->serial;
	}
	spin_unlock(&dvsm_events_lock);
	return nr;
}

/**
 * dvsm_events_members - List a region's living members.
 * @region: the region
 * @arg: as struct dvsm_region_members says
 *
 * Context: process; a file on the region is held.
 * Return: 0, -EFAULT, or -EINTR after a fatal signal.
 */
int dvsm_events_members(struct dvsm_region *region, struct dvsm_region_members *arg)
{
	struct dvsm_hub *hub = smp_load_acquire(&region->hub);	/* as in dvsm_hub_of() */
	struct dvsm_member __user *user = u64_to_user_ptr(arg->members);
	struct dvsm_member members[DVSM_EVENTS_BATCH];
	unsigned int nr;

	arg->out_nr_members = 0;
	arg->out_next = arg->cursor;
	if (!hub)
		return 0;
	do {
		nr = min_t(u32, arg->nr_members - arg->out_nr_members, DVSM_EVENTS_BATCH);
		nr = dvsm_hub_describe(hub, members, nr, &arg->out_next);
		if (copy_to_user(user + arg->out_nr_members, members, nr * sizeof(*members)))
			return -EFAULT;
		arg->out_nr_members += nr;
		if (dvsm_shall_stop())
			return -EINTR;
		cond_resched();
	} while (nr == DVSM_EVENTS_BATCH);
	return 0;
}

/**
 * dvsm_events_retire - The last file on a region is gone: nobody is a member any more.
 * @region: the region
 *
 * Context: may sleep.
 */
void dvsm_events_retire(struct dvsm_region *region)
{
	struct dvsm_hub *hub = region->hub;
	struct dvsm_membership *membership, *next;
	LIST_HEAD(gone);

	if (!hub)
		return;
	spin_lock(&dvsm_events_lock);
	list_for_each_entry_safe(membership, next, &hub->living, link) {
		dvsm_membership_end_locked(membership);
		list_add(&membership->link, &gone);
	}
	WRITE_ONCE(hub->closed, true);
	wake_up_interruptible_poll(&hub->wait, EPOLLHUP);
	spin_unlock(&dvsm_events_lock);
	dvsm_delay();
	list_for_each_entry(membership, &gone, link)
		dvsm_process_put(membership->process);
	dvsm_memberships_free(&gone);
	region->hub = NULL;
	dvsm_hub_put(hub);
}

static void dvsm_event_describe(const struct dvsm_membership *membership, struct dvsm_event *event)
{
	*event = (struct dvsm_event) {
		.type = membership->type,
		.pid = pid_vnr(membership->pid),
		.code = membership->code,
		.cookie = membership->cookie,
		.sequence = membership->sequence,
		.start_time = membership->start_time,
		.time = membership->time,
	};
}

/* Describes events from *@next on; how many, and where it got. */
static unsigned int dvsm_hub_read(struct dvsm_hub *hub, struct dvsm_event *events,
				  unsigned int nr_events, u64 *next)
{
	unsigned int nr = 0;
	u64 oldest = 1;

	spin_lock(&dvsm_events_lock);
	if (hub->last_sequence > DVSM_EVENTS_KEPT)
		oldest = hub->last_sequence - DVSM_EVENTS_KEPT + 1;
	if (*next < oldest) {
		events[nr++] = (struct dvsm_event) {
			.type = DVSM_EVENT_LOST,
			.cookie = oldest - *next,
			.sequence = oldest - 1,
		};
		*next = oldest;
	}
	while (nr < nr_events && *next <= hub->last_sequence)
		dvsm_event_describe(hub->log[(*next)++ % DVSM_EVENTS_KEPT], &events[nr++]);
	spin_unlock(&dvsm_events_lock);
	return nr;
}

static bool dvsm_reader_has_events(const struct dvsm_reader *reader)
{
	return READ_ONCE(reader->next) <= READ_ONCE(reader->hub->last_sequence);
}

/* Waits until there are events or will be none any more. */
static int dvsm_reader_wait(struct file *file, struct dvsm_reader *reader)
{
	if (dvsm_reader_has_events(reader) || READ_ONCE(reader->hub->closed))
		return 0;
	if (file->f_flags & O_NONBLOCK)
		return -EAGAIN;
	return wait_event_interruptible(reader->hub->wait, dvsm_reader_has_events(reader) ||
							   READ_ONCE(reader->hub->closed));
}

/* Bytes read, from the reader's place on; an event that cannot be copied stays unread. */
static ssize_t dvsm_reader_read_locked(struct dvsm_reader *reader, char __user *buffer,
				       size_t count)
{
	struct dvsm_event events[DVSM_EVENTS_BATCH];
	size_t done = 0;
	unsigned int nr;

	lockdep_assert_held(&reader->lock);
	do {
		u64 next = reader->next;

		nr = min_t(size_t, (count - done) / sizeof(*events), DVSM_EVENTS_BATCH);
		nr = nr ? dvsm_hub_read(reader->hub, events, nr, &next) : 0;
		if (copy_to_user(buffer + done, events, nr * sizeof(*events)))
			return done ? done : -EFAULT;
		WRITE_ONCE(reader->next, next);
		done += nr * sizeof(*events);
	} while (nr == DVSM_EVENTS_BATCH);
	return done;
}

static ssize_t dvsm_reader_read(struct file *file, char __user *buffer, size_t count, loff_t *pos)
{
	struct dvsm_reader *reader = file->private_data;
	ssize_t ret;

	if (count < sizeof(struct dvsm_event))
		return -EINVAL;
	do {
		bool closed = READ_ONCE(reader->hub->closed);

		ret = dvsm_reader_wait(file, reader);
		if (ret)
			return ret;
		ret = mutex_lock_interruptible(&reader->lock);
		if (ret)
			return -ERESTARTSYS;
		ret = dvsm_reader_read_locked(reader, buffer, count);
		mutex_unlock(&reader->lock);
		/* Another thread was faster, unless it is the end. */
		if (closed)
			break;
	} while (!ret);
	return ret;
}

static __poll_t dvsm_reader_poll(struct file *file, poll_table *wait)
{
	struct dvsm_reader *reader = file->private_data;
	__poll_t mask = 0;

	poll_wait(file, &reader->hub->wait, wait);
	if (dvsm_reader_has_events(reader))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(reader->hub->closed))
		mask |= EPOLLHUP;
	return mask;
}

static int dvsm_reader_release(struct inode *inode, struct file *file)
{
	struct dvsm_reader *reader = file->private_data;

	dvsm_hub_put(reader->hub);
	kfree(reader);
	return 0;
}

static const struct file_operations dvsm_reader_fops = {
	.owner		= THIS_MODULE,
	.read		= dvsm_reader_read,
	.poll		= dvsm_reader_poll,
	.release	= dvsm_reader_release,
	.llseek		= noop_llseek,
};

/**
 * dvsm_events_open - A new reader of a region's events.
 * @region: the region
 *
 * Context: process; a file on the region is held.
 * Return: a file, or an error.
 */
struct file *dvsm_events_open(struct dvsm_region *region)
{
	struct dvsm_hub *hub = dvsm_hub_of(region);
	struct dvsm_reader *reader;
	struct file *file;

	if (!hub)
		return ERR_PTR(-ENOMEM);
	reader = kzalloc(sizeof(*reader), GFP_KERNEL_ACCOUNT);
	if (!reader)
		return ERR_PTR(-ENOMEM);
	refcount_inc(&hub->refs);
	reader->hub = hub;
	reader->next = 1;
	mutex_init(&reader->lock);
	file = anon_inode_getfile("[dvsm-events]", &dvsm_reader_fops, reader, O_RDONLY);
	if (IS_ERR(file)) {
		dvsm_hub_put(hub);
		kfree(reader);
	}
	return file;
}

/**
 * dvsm_events_count - How many living members all regions have.
 *
 * Context: any.
 * Return: their number.
 */
unsigned int dvsm_events_count(void)
{
	return READ_ONCE(dvsm_nr_members);
}

/**
 * dvsm_events_exit - Wait until the core has let go of all notifiers.
 *
 * Context: module exit; there are no regions, so there are no members.
 */
void dvsm_events_exit(void)
{
	while (atomic_read(&dvsm_nr_processes)) {
		mmu_notifier_synchronize();
		schedule_timeout_uninterruptible(1);
	}
	/* The last dvsm_process_free() may not have returned; SRCU calls it with BH off. */
	synchronize_rcu();
}
