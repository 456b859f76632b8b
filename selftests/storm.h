/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Writers who notice each lost or foreign byte, and those who disturb them: what
 * race_storm_test.c runs one by one, and soak.c all at once for hours.
 *
 * The field is a region. Its first chunks are the writers': each has words of his own
 * on every 16th page and counts them up, so what he reads is what he wrote last. The
 * last chunk is scratch: anybody may do anything to it. Disturbers answer 0, or the
 * number of the line that went wrong; they count what succeeded, and name what a
 * machine lacks for them.
 */
#ifndef DVSM_SELFTEST_STORM_H
#define DVSM_SELFTEST_STORM_H

#include <sched.h>
#include <signal.h>
#include <linux/mempolicy.h>
#include <sys/prctl.h>

#include "dma/dma.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define FIELD_CHUNKS	4			/* the writers' */
#define FIELD_LENGTH	((FIELD_CHUNKS + 1) * CHUNK)
#define FIELD_SCRATCH	(FIELD_CHUNKS * CHUNK)
#define FIELD_STRIDE	(16 * PAGE)
#define FIELD_POISONS	4			/* pages that one run may lose for good */
#define FIELD_ROUNDS	30			/* that a run takes at least, unless it is for hours */

struct field {
	int dev;
	int fd;
	volatile unsigned long end;		/* clock_ms() */
	/* Counted by all, in memory that all share. */
	unsigned long nr_words;			/* written, and read back */
	unsigned long nr_lost;			/* that were not what was written */
	unsigned long nr_rounds;		/* of disturbers */
	unsigned long nr_kills;
	unsigned long nr_poisons;
	unsigned long nr_wanted;		/* of these three together */
	const char *missing;			/* a string literal: all have it at one address */
};

#define COUNT(counter)	__atomic_fetch_add(&(counter), 1, __ATOMIC_RELAXED)
#define WRONG		return __LINE__
#define STORM_CALL	static inline int __attribute__((unused))

static inline struct field *field_make(int dev, unsigned long milliseconds)
{
	struct field *field = share_anonymous(sizeof(*field));

	field->dev = dev;
	field->fd = region_create(dev, FIELD_LENGTH, 0);
	field->end = clock_ms() + milliseconds;
	field->nr_wanted = FIELD_ROUNDS;
	return field->fd < 0 ? NULL : field;
}

static inline bool field_is_done(const struct field *field)
{
	return field->nr_words &&
	       field->nr_rounds + field->nr_kills + field->nr_poisons >= field->nr_wanted;
}

static inline bool field_goes_on(const struct field *field)
{
	unsigned long now = clock_ms();

	if (now < field->end)
		return true;
	/* Beside other work nobody may have got far yet. */
	return !field->missing && now < field->end + 120000 && !field_is_done(field);
}

/* Writer @who of at most 8; each word that is wrong is counted, and told once. */
static inline int field_write(struct field *field, unsigned int who)
{
	char *map = region_map(field->fd, FIELD_SCRATCH, 0);
	uint64_t n = 0;
	size_t at;

	if (map == MAP_FAILED)
		WRONG;
	for (at = 0; at < FIELD_SCRATCH; at += FIELD_STRIDE)
		*(volatile uint64_t *)(map + at + (2 * who + 1) * PAGE - 8) = 0;
	while (field_goes_on(field)) {
		n++;
		for (at = 0; at < FIELD_SCRATCH; at += FIELD_STRIDE) {
			volatile uint64_t *word = (void *)(map + at + (2 * who + 1) * PAGE - 8);
			uint64_t was = *word;

			if (was != n - 1) {
				printf("# writer %u, offset %#zx: %lu, not %lu\n", who, at, was, n - 1);
				fflush(stdout);
				COUNT(field->nr_lost);
			}
			*word = n;
		}
		__atomic_fetch_add(&field->nr_words, FIELD_SCRATCH / FIELD_STRIDE, __ATOMIC_RELAXED);
	}
	return field->nr_lost ? __LINE__ : 0;
}

STORM_CALL storm_move(struct field *field)
{
	char *map = region_map(field->fd, FIELD_LENGTH, 0);
	size_t at;

	if ((node_mask() & 3) != 3) {
		field->missing = "memory on nodes 0 and 1";
		return 0;
	}
	while (field_goes_on(field)) {
		unsigned int moved = 0;

		/* Whoever else holds a page for a moment keeps it where it is. */
		for (at = 0; at < FIELD_LENGTH; at += CHUNK)
			if (!read_at(map + at))
				moved += page_move(map + at, !page_node(map + at),
						   MPOL_MF_MOVE_ALL) >= 0;
		if (moved)
			COUNT(field->nr_rounds);
	}
	return 0;
}

STORM_CALL storm_migrate(struct field *field)
{
	struct dvsm_region_migrate arg;
	unsigned int n = 0;

	if ((node_mask() & 3) != 3) {
		field->missing = "memory on nodes 0 and 1";
		return 0;
	}
	while (field_goes_on(field)) {
		int ret = region_migrate(field->fd, 0, FIELD_LENGTH, 1 + n++ % 2, &arg);

		if (ret)
			WRONG;
		if (arg.out_moved)
			COUNT(field->nr_rounds);
	}
	return 0;
}

/* The writers use a part of each chunk: it is made of small folios, and huge again. */
STORM_CALL storm_promote(struct field *field)
{
	struct dvsm_region_promote promote;
	struct dvsm_region_split split;

	while (field_goes_on(field)) {
		if (region_split(field->fd, 0, FIELD_LENGTH, &split) ||
		    region_promote(field->fd, 0, FIELD_LENGTH, &promote))
			WRONG;
		if (promote.out_nr_promoted)
			COUNT(field->nr_rounds);
	}
	return 0;
}

STORM_CALL storm_balance(struct field *field)
{
	static const uint32_t modes[] = { DVSM_BALANCE_OFF, DVSM_BALANCE_OBSERVE, DVSM_BALANCE_ON };
	unsigned int n = 0;

	while (field_goes_on(field)) {
		if (region_balance(field->fd, modes[n++ % 3], NULL, NULL, 0))
			WRONG;
		sleep_ms(n % 20);
		COUNT(field->nr_rounds);
	}
	return 0;
}

STORM_CALL storm_snapshot(struct field *field)
{
	static const uint64_t granularities[] = { 0, 4096, 65536 };
	unsigned int n = 0;

	while (field_goes_on(field)) {
		int snapshot = snapshot_take_in_parts(field->fd, granularities[n % 3],
						      n % 2 ? DVSM_SNAPSHOT_F_ADAPTIVE : 0);
		uint64_t first[FIELD_CHUNKS];
		char *map;
		size_t i;

		n++;
		if (snapshot == -EHWPOISON)
			continue;
		if (snapshot < 0)
			WRONG;
		map = region_map(snapshot, FIELD_LENGTH, 0);
		for (i = 0; i < FIELD_CHUNKS; i++)
			first[i] = *(volatile uint64_t *)(map + i * CHUNK + PAGE - 8);
		/* It never changes, and what is written to it stays in it. */
		*(volatile uint64_t *)(map + PAGE) = 1;
		sched_yield();
		for (i = 0; i < FIELD_CHUNKS; i++)
			if (first[i] != *(volatile uint64_t *)(map + i * CHUNK + PAGE - 8))
				WRONG;
		munmap(map, FIELD_LENGTH);
		close(snapshot);
		COUNT(field->nr_rounds);
	}
	return 0;
}

/* A snapshot's scratch becomes the region's; what the writers have is not touched. */
STORM_CALL storm_merge(struct field *field)
{
	struct dvsm_snapshot_merge merge;
	uint64_t n = 0;

	while (field_goes_on(field)) {
		int snapshot = snapshot_take(field->fd), ret;

		if (snapshot == -EHWPOISON)
			continue;
		if (snapshot < 0)
			WRONG;
		n++;
		/* Whoever wrote to the scratch without memory for a copy has cost the snapshot that chunk. */
		if (pwrite(snapshot, &n, 8, FIELD_SCRATCH + CHUNK / 2) != 8 && errno != EHWPOISON &&
		    errno != EIO)
			WRONG;
		ret = snapshot_merge(field->fd, snapshot, DVSM_MERGE_F_SNAPSHOT_WINS, &merge);
		if (ret && ret != -EBUSY && ret != -EIO && ret != -EHWPOISON)
			WRONG;
		close(snapshot);
		if (!ret)
			COUNT(field->nr_rounds);
	}
	return 0;
}

/* A snapshot that follows never goes back, and never has what was not written yet. */
STORM_CALL storm_advance(struct field *field)
{
	char *map = region_map(field->fd, FIELD_LENGTH, 0), *copy;
	struct dvsm_range ranges[256];
	uint64_t last = 0, now;
	int snapshot, ret;

	do
		snapshot = snapshot_take(field->fd);
	while (snapshot == -EHWPOISON);
	copy = region_map(snapshot, FIELD_LENGTH, 0);
	if (copy == MAP_FAILED)
		WRONG;
	while (field_goes_on(field)) {
		if (region_diff(field->fd, snapshot, ranges, 256) < 0)
			WRONG;
		ret = snapshot_advance(field->fd, snapshot, ranges, 256);
		if (ret < 0 && ret != -EBUSY && ret != -EIO && ret != -EHWPOISON)
			WRONG;
		/* Where there was no memory for a copy it has lost the chunk until it advances. */
		if (read_at(copy + PAGE - 8))
			continue;
		now = *(volatile uint64_t *)(copy + PAGE - 8);
		if (now < last || now > *(volatile uint64_t *)(map + PAGE - 8))
			WRONG;
		last = now;
		if (ret > 0)
			COUNT(field->nr_rounds);
	}
	return 0;
}

/* Of a region of his own: a restore takes everybody's writes back. */
static inline int storm_restore_of(struct field *field, uint32_t flags)
{
	int fd = region_create(field->dev, 2 * CHUNK, flags), snapshot, ret;
	char *map = region_map(fd, 2 * CHUNK, 0);
	uint64_t n = 0;

	while (field_goes_on(field)) {
		stamp(map, 2 * CHUNK, ++n);
		snapshot = snapshot_take(fd);
		if (snapshot < 0)
			WRONG;
		stamp(map, CHUNK, n + 1);
		ret = snapshot_restore(fd, snapshot);
		if (ret && ret != -EBUSY)
			WRONG;
		if (stamps_wrong(map, 2 * CHUNK, n) && !ret)
			WRONG;
		close(snapshot);
		if (!ret)
			COUNT(field->nr_rounds);
	}
	return 0;
}

STORM_CALL storm_restore(struct field *field)
{
	return storm_restore_of(field, 0);
}

/* By a copy into the folios where they are. */
STORM_CALL storm_overwrite(struct field *field)
{
	return storm_restore_of(field, DVSM_REGION_F_REGISTRABLE);
}

STORM_CALL storm_discard(struct field *field)
{
	char *map = region_map(field->fd, CHUNK, FIELD_SCRATCH);
	unsigned int n = 0;

	while (field_goes_on(field)) {
		bool all = n++ % 2;
		int ret = region_discard(field->fd, FIELD_SCRATCH + (all ? 0 : 64 * PAGE),
					 all ? CHUNK : 32 * PAGE, NULL);

		/* Of a part the rest is copied for a snapshot: not with a page that the hardware lost. */
		if (ret && ret != -EBUSY && (all || ret != -EHWPOISON)) {
			printf("discard of %s: %s\n", all ? "a chunk" : "a part", strerror(-ret));
			WRONG;
		}
		write_at(map + 70 * PAGE, n);
		if (!ret)
			COUNT(field->nr_rounds);
	}
	return 0;
}

STORM_CALL storm_remap(struct field *field)
{
	char *place = mmap(NULL, 2 * FIELD_LENGTH, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *map, *moved;

	while (field_goes_on(field)) {
		map = region_map(field->fd, FIELD_LENGTH, 0);
		read_at(map);
		read_at(map + CHUNK + PAGE);
		moved = mremap(map + PAGE, FIELD_LENGTH - PAGE, FIELD_LENGTH - PAGE,
			       MREMAP_MAYMOVE | MREMAP_FIXED, place + 3 * PAGE);
		if (moved == MAP_FAILED)
			WRONG;
		if (read_at(moved + 2 * CHUNK) || read_at(map))
			WRONG;
		moved = mremap(moved, FIELD_LENGTH - PAGE, CHUNK, 0);
		if (moved == MAP_FAILED || read_at(moved + CHUNK - 1))
			WRONG;
		munmap(map, PAGE);
		munmap(moved, CHUNK);
		COUNT(field->nr_rounds);
	}
	return 0;
}

STORM_CALL storm_advise(struct field *field)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_NOHUGEPAGE, MADV_POPULATE_WRITE,
		MADV_HUGEPAGE, MADV_COLLAPSE, MADV_DONTFORK, MADV_DOFORK, MADV_WILLNEED,
	};
	char *map = region_map(field->fd, FIELD_LENGTH, 0);
	unsigned int n = 0;

	while (field_goes_on(field)) {
		int ret = madvise(map + n % 3 * PAGE, FIELD_LENGTH - 3 * PAGE,
				  advice[n % ARRAY_SIZE(advice)]);

		if (read_at(map + n % FIELD_CHUNKS * CHUNK))
			WRONG;
		n++;
		if (!ret)
			COUNT(field->nr_rounds);
	}
	return 0;
}

/* Children that touch all, and end by exit or by another program. */
STORM_CALL storm_fork(struct field *field)
{
	char *map = region_map(field->fd, FIELD_LENGTH, 0);
	unsigned int n = 0;

	while (field_goes_on(field)) {
		pid_t pid;

		n++;
		pid = child_start();
		if (!pid) {
			for (size_t at = 0; at < FIELD_LENGTH; at += CHUNK)
				read_at(map + at + n % 512 * PAGE);
			if (n % 2)
				execl("/bin/true", "true", NULL);
			_exit(0);
		}
		if (child_wait(pid))
			WRONG;
		COUNT(field->nr_rounds);
	}
	return 0;
}

/* Children that get a copy of a region: each side has what it wrote. */
STORM_CALL storm_fork_copy(struct field *field)
{
	int fd = region_create(field->dev, 2 * CHUNK, DVSM_REGION_F_FORK_COPY);
	char *map = region_map(fd, 2 * CHUNK, 0);
	uint64_t n = 0;
	pid_t pid;

	if (map == MAP_FAILED)
		WRONG;
	while (field_goes_on(field)) {
		n += 2;
		stamp(map, CHUNK, n);
		pid = child_start();
		if (!pid) {
			if (stamps_wrong(map, CHUNK, n))
				_exit(1);
			stamp(map, CHUNK, n + 1);
			_exit(stamps_wrong(map, CHUNK, n + 1) != 0);
		}
		stamp(map + CHUNK / 2, CHUNK / 2, n + 1);
		if (child_wait(pid))
			WRONG;
		if (stamps_wrong(map + CHUNK / 2, CHUNK / 2, n + 1))
			WRONG;
		COUNT(field->nr_rounds);
	}
	return 0;
}

/* Whoever is killed does everything until then. */
static inline void storm_victim(struct field *field, unsigned int seed)
{
	char *map = region_map(field->fd, FIELD_LENGTH, 0);

	region_join(field->fd, seed);
	for (;;) {
		int own = region_create(field->dev, 4 * CHUNK, 0), snapshot;
		char *mine = region_map(own, 4 * CHUNK, 0);

		region_populate(own, 0, 0, NULL);
		snapshot = snapshot_take(own);
		region_pin(own, CHUNK, CHUNK);
		write_at(mine, 1);
		write_at(mine + 2 * CHUNK, 1);
		for (size_t at = 0; at < FIELD_LENGTH; at += CHUNK)
			read_at(map + at);
		write_at(map + FIELD_SCRATCH + seed % 512 * PAGE, 1);
		close(snapshot_take(field->fd));
		close(region_export(own, 0, CHUNK));
		munmap(mine, 4 * CHUNK);
		close(snapshot);
		close(own);
	}
}

STORM_CALL storm_kill(struct field *field)
{
	unsigned int seed = getpid();

	while (field_goes_on(field)) {
		pid_t pid = child_start();

		if (!pid)
			storm_victim(field, rand_r(&seed));
		sleep_ms(rand_r(&seed) % 50);
		kill(pid, SIGKILL);
		if (child_wait(pid) != 128 + SIGKILL)
			WRONG;
		COUNT(field->nr_kills);
	}
	return 0;
}

/* In a cgroup that is short of memory, and killed as a whole. */
STORM_CALL storm_cgroup(struct field *field)
{
	struct cgroup cgroup;
	unsigned int seed = getpid(), i;
	pid_t pids[3];
	char name[32];

	snprintf(name, sizeof(name), "storm-%d", getpid());
	if (cgroup_make(&cgroup, name)) {
		field->missing = "memory controller of cgroup 2";
		return 0;
	}
	if (cgroup_set(&cgroup, "memory.max", "24M"))
		WRONG;
	while (field_goes_on(field)) {
		for (i = 0; i < ARRAY_SIZE(pids); i++) {
			pids[i] = child_start();
			if (!pids[i]) {
				if (cgroup_enter(&cgroup))
					_exit(1);
				storm_victim(field, i);
			}
		}
		sleep_ms(rand_r(&seed) % 100);
		if (cgroup_set(&cgroup, "cgroup.kill", "1"))
			WRONG;
		for (i = 0; i < ARRAY_SIZE(pids); i++) {
			/* Who was not in it yet is killed here. */
			kill(pids[i], SIGKILL);
			if (child_wait(pids[i]) == 128 + SIGKILL)
				COUNT(field->nr_kills);
		}
	}
	cgroup_remove(&cgroup);
	return 0;
}

STORM_CALL storm_hotplug(struct field *field)
{
	static const char online[] = "/sys/devices/system/cpu/cpu1/online";

	if (access(online, W_OK)) {
		field->missing = "CPU 1 that can go";
		return 0;
	}
	while (field_goes_on(field)) {
		bool gone = !write_text(online, "0");

		sleep_ms(20);
		if (write_text(online, "1"))
			WRONG;
		sleep_ms(20);
		if (gone)
			COUNT(field->nr_rounds);
	}
	return 0;
}

/* First touches, and discards of parts and of all, with pages that are lost among them. */
static inline void touch_for_ever(struct field *field, char *map)
{
	for (unsigned int n = 0;; n++) {
		for (size_t at = n % 3 * PAGE; at < CHUNK; at += 3 * PAGE)
			write_at(map + at, n);
		region_discard(field->fd, FIELD_SCRATCH + n % 2 * 64 * PAGE,
			       n % 2 ? 32 * PAGE : CHUNK, NULL);
	}
}

/* The hardware loses pages of the scratch chunk, which is then thrown away. */
STORM_CALL storm_poison(struct field *field)
{
	char *map = region_map(field->fd, CHUNK, FIELD_SCRATCH);
	unsigned long i;
	pid_t toucher;

	field->nr_wanted = FIELD_POISONS;
	for (i = 0; i < FIELD_POISONS && field_goes_on(field); i++) {
		pid_t pid;

		/* Who has it mapped may be killed. */
		toucher = child_start();
		if (!toucher)
			touch_for_ever(field, map);
		/* The page is lost where the kernel says EBUSY too. */
		pid = child_start();
		if (!pid) {
			sleep_ms(i * 7);
			write_at(map + (100 + i) * PAGE, 1);
			_exit(madvise(map + (100 + i) * PAGE, PAGE, MADV_HWPOISON) &&
			      (errno == EINVAL || errno == EPERM) ? 1 : 0);
		}
		if (child_wait(pid) == 1)
			field->missing = "MADV_HWPOISON";
		else
			COUNT(field->nr_poisons);
		sleep_ms(200);
		kill(toucher, SIGKILL);
		child_wait(toucher);
		region_discard(field->fd, FIELD_SCRATCH, CHUNK, NULL);
	}
	return 0;
}

STORM_CALL storm_pin(struct field *field)
{
	struct dvsm_range ranges[8];
	unsigned int n = 0;

	while (field_goes_on(field)) {
		uint64_t at = n++ % (FIELD_CHUNKS + 1) * CHUNK;
		int ret = region_pin(field->fd, at, CHUNK), dmabuf;

		if (ret == -EHWPOISON)
			continue;
		if (ret)
			WRONG;
		if (region_extents(field->fd, at, CHUNK, ranges, 8, NULL) < 0)
			WRONG;
		if (region_unpin(field->fd, at, CHUNK))
			WRONG;
		dmabuf = region_export(field->fd, at, PAGE);
		if (dmabuf < 0 && dmabuf != -EOPNOTSUPP && dmabuf != -EHWPOISON)
			WRONG;
		close(dmabuf);
		COUNT(field->nr_rounds);
	}
	return 0;
}

/* A name, a member, and the event of his death. */
STORM_CALL storm_names(struct field *field)
{
	struct dvsm_event event;
	char name[64];

	snprintf(name, sizeof(name), "storm-%d", getpid());
	while (field_goes_on(field)) {
		int fd = region_create(field->dev, CHUNK, 0), events = region_events(fd), other;
		pid_t pid;

		if (name_create(field->dev, name, fd, 0600, 0))
			WRONG;
		pid = child_start();
		if (!pid) {
			other = name_open(field->dev, name, 0);
			_exit(region_join(other, 7) ? 1 : 0);
		}
		if (child_wait(pid))
			WRONG;
		if (events_read(events, &event, 60000) != 1 || event.cookie != 7)
			WRONG;
		close(events);
		close(fd);
		COUNT(field->nr_rounds);
	}
	return 0;
}

/* First touches of regions whose last descriptor and mapping go at that moment. */
STORM_CALL storm_close(struct field *field)
{
	while (field_goes_on(field)) {
		int fd = region_create(field->dev, 2 * CHUNK, 0);
		char *map = region_map(fd, 2 * CHUNK, 0);
		pid_t pid = child_start();

		if (!pid) {
			close(fd);
			write_at(map, 1);
			write_at(map + CHUNK, 1);
			_exit(0);
		}
		munmap(map, 2 * CHUNK);
		close(fd);
		if (child_wait(pid))
			WRONG;
		COUNT(field->nr_rounds);
	}
	return 0;
}

#endif /* DVSM_SELFTEST_STORM_H */
