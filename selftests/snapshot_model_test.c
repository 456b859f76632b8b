// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random histories of regions and snapshots against plain memory.
 *
 * A member is a region with a model: a few words of every page, and for every
 * chunk the number of its contents, which is new with each write and 0 for
 * memory that was never written. Everything that the module may answer follows
 * from these: what is read, where two members differ, what a merge changes, when
 * it refuses. After each step some words are compared, now and then all of them,
 * by mapping and by read().
 */
#include <sys/wait.h>
#include "model.h"

#define NR_CHUNKS	4
#define TAIL_PAGES	3
#define NR_PAGES	(NR_CHUNKS * CHUNK_PAGES + TAIL_PAGES)
#define LENGTH		((size_t)NR_PAGES * PAGE)
#define ALL_CHUNKS	(NR_CHUNKS + 1)
/*
 * The tail is made of small folios. A small folio may have a passing reference,
 * which the module has to take for a writer's: then it is copied when a snapshot
 * is taken, and counts as written by the parent.
 */
#define TAIL		NR_CHUNKS
#define NR_WORDS	3
#define NR_MEMBERS	6

static const size_t word_at[NR_WORDS] = { 0, 2040, PAGE - 8 };

struct member {
	int fd;				/* -1: not in use */
	__u64 id;			/* to be known as a parent */
	__u64 parent;
	struct span taken;
	struct span descent;
	char *map[2];
	__u64 words[NR_PAGES][NR_WORDS];
	__u64 contents[ALL_CHUNKS];
	__u64 base[ALL_CHUNKS];
};

static struct member members[NR_MEMBERS];
static struct dvsm_range *ranges;	/* that both processes write to */
static __u64 last_contents;

static size_t chunk_of(size_t page)
{
	return page / CHUNK_PAGES;
}

static void member_map(struct member *m)
{
	for (int i = 0; i < 2; i++) {
		m->map[i] = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
		check(m->map[i] != MAP_FAILED, "mmap");
	}
}

static void member_end(struct member *m)
{
	bool known = worker_knows(m->id);
	int order = draw(2);

	if (known && draw(2)) {
		worker_close(m->fd, m->map[0], m->map[1], LENGTH);
		known = false;
	}
	if (order)
		close(m->fd);
	munmap(m->map[0], LENGTH);
	munmap(m->map[1], LENGTH);
	if (!order)
		close(m->fd);
	if (known)
		worker_close(m->fd, m->map[0], m->map[1], LENGTH);
	m->fd = -1;
}

static void member_check_word(struct member *m, size_t page, int word)
{
	size_t offset = page * PAGE + word_at[word];
	__u64 seen = 0;

	if (worker_knows(m->id) && !draw(256)) {
		seen = worker_read((void *)(m->map[draw(2)] + offset));
		if (seen == m->words[page][word])
			return;
	} else if (draw(4)) {
		seen = *(volatile __u64 *)(m->map[draw(2)] + offset);
		if (seen == m->words[page][word])
			return;
	} else {
		check(pread(m->fd, &seen, 8, offset) == 8, "pread");
		if (seen == m->words[page][word])
			return;
	}
	ksft_print_msg("member %td page %zu word %d: %llx, not %llx\n", m - members, page, word,
		       (unsigned long long)seen, (unsigned long long)m->words[page][word]);
	fail("wrong word");
}

static void member_check_all(struct member *m)
{
	for (size_t page = 0; page < NR_PAGES; page++)
		for (int word = 0; word < NR_WORDS; word++)
			member_check_word(m, page, word);
}

static struct member *pick(void)
{
	struct member *m;

	do {
		m = &members[draw(NR_MEMBERS)];
	} while (m->fd < 0);
	return m;
}

static struct member *pick_free(void)
{
	for (int i = 0; i < NR_MEMBERS; i++)
		if (members[i].fd < 0)
			return &members[i];
	return NULL;
}

static void write_by_child(struct member *m, size_t offset, __u64 value)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		*(volatile __u64 *)(m->map[draw(2)] + offset) = value;
		_exit(0);
	}
	check(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "child");
}

static void do_write(struct member *m)
{
	size_t page = draw(NR_PAGES);
	unsigned int nr = 1 + draw(5);

	action = "write";
	for (; nr && page < NR_PAGES; nr--, page++) {
		int word = draw(NR_WORDS);
		size_t offset = page * PAGE + word_at[word];
		__u64 value = state | 1;

		switch (draw(8)) {
		case 0:
			check(pwrite(m->fd, &value, 8, offset) == 8, "pwrite");
			break;
		case 1:
			write_by_child(m, offset, value);
			break;
		case 2 ... 3:
			if (worker_knows(m->id)) {
				worker_write((void *)(m->map[draw(2)] + offset), value);
				break;
			}
			/* fall through */
		default:
			*(volatile __u64 *)(m->map[draw(2)] + offset) = value;
		}
		m->words[page][word] = value;
		m->contents[chunk_of(page)] = ++last_contents;
	}
}

static void do_take(struct member *m)
{
	struct dvsm_snapshot_take arg = { .size = sizeof(arg) };
	struct member *s = pick_free();
	struct span span = span_draw(ALL_CHUNKS);

	action = "take";
	if (!s)
		return;
	arg.offset = span.first * CHUNK;
	arg.length = span.end == ALL_CHUNKS ? 0 : (span.end - span.first) * CHUNK;
	s->fd = command_by(worker_knows(m->id), m->fd, DVSM_IOC_SNAPSHOT_TAKE, &arg);
	check(s->fd >= 0, "take");
	s->parent = m->id;
	s->id = ++last_id;
	s->taken = span;
	s->descent = span_in_common(span, m->descent);
	for (size_t chunk = 0; chunk < ALL_CHUNKS; chunk++) {
		s->contents[chunk] = span_has(span, chunk) ? m->contents[chunk] : 0;
		s->base[chunk] = s->contents[chunk];
	}
	for (size_t page = 0; page < NR_PAGES; page++) {
		bool in = span_has(span, chunk_of(page));

		for (int word = 0; word < NR_WORDS; word++)
			s->words[page][word] = in ? m->words[page][word] : 0;
	}
	member_map(s);
}

static void copy_chunk(struct member *to, const struct member *from, size_t chunk)
{
	for (size_t page = 0; page < NR_PAGES; page++)
		if (chunk_of(page) == chunk)
			memcpy(to->words[page], from->words[page], sizeof(to->words[page]));
	to->contents[chunk] = from->contents[chunk];
}

static struct member *parent_of(const struct member *s)
{
	for (int i = 0; i < NR_MEMBERS; i++)
		if (members[i].fd >= 0 && members[i].id == s->parent)
			return &members[i];
	return NULL;
}

static void do_restore(struct member *s)
{
	struct dvsm_snapshot_restore arg = { .size = sizeof(arg), .snapshot = s->fd };
	struct member *m = parent_of(s);

	action = "restore";
	if (!m)
		return;
	check(!command_by(worker_knows(m->id) && worker_knows(s->id), m->fd,
			  DVSM_IOC_SNAPSHOT_RESTORE, &arg), "restore");
	for (size_t chunk = s->taken.first; chunk < s->taken.end; chunk++) {
		copy_chunk(m, s, chunk);
		s->base[chunk] = s->contents[chunk];
	}
}

static bool is_in(const struct dvsm_range *ranges, unsigned int nr, size_t chunk)
{
	for (unsigned int i = 0; i < nr; i++)
		if (ranges[i].offset <= chunk * CHUNK &&
		    chunk * CHUNK < ranges[i].offset + ranges[i].length)
			return true;
	return false;
}

static void do_merge(struct member *s)
{
	static const __u32 flags[] = { 0, 0, DVSM_MERGE_F_SNAPSHOT_WINS,
				       DVSM_MERGE_F_PARENT_WINS };
	struct dvsm_snapshot_merge arg = {
		.size = sizeof(arg),
		.flags = flags[draw(4)],
		.snapshot = s->fd,
		.nr_conflicts = ALL_CHUNKS,
		.conflicts = (uintptr_t)ranges,
	};
	struct member *m = parent_of(s);
	unsigned int nr_conflicts = 0, nr_reported = 0;
	int ret;

	action = "merge";
	if (!m)
		return;
	ret = command_by(worker_knows(m->id) && worker_knows(s->id), m->fd,
			 DVSM_IOC_SNAPSHOT_MERGE, &arg);
	if (m->contents[TAIL] == s->base[TAIL] && is_in(ranges, arg.out_nr_conflicts, TAIL))
		m->contents[TAIL] = ++last_contents;
	for (size_t chunk = s->taken.first; chunk < s->taken.end; chunk++)
		nr_conflicts += s->contents[chunk] != s->base[chunk] &&
				m->contents[chunk] != s->base[chunk];
	for (size_t chunk = 0; chunk < ALL_CHUNKS; chunk++)
		nr_reported += is_in(ranges, arg.out_nr_conflicts, chunk);
	check(nr_reported == nr_conflicts, "number of conflicts");
	if (nr_conflicts && !arg.flags) {
		check(ret == -1 && errno == EAGAIN, "merge with conflicts");
		return;
	}
	check(ret == 0, "merge");
	for (size_t chunk = s->taken.first; chunk < s->taken.end; chunk++) {
		bool theirs = m->contents[chunk] != s->base[chunk];

		if (s->contents[chunk] == s->base[chunk])
			continue;
		if (theirs && arg.flags == DVSM_MERGE_F_PARENT_WINS)
			continue;
		copy_chunk(m, s, chunk);
		s->base[chunk] = s->contents[chunk];
	}
}

/* Whether a chunk has no memory, its pages having been discarded one by one. */
static bool is_empty(struct member *m, size_t chunk)
{
	struct dvsm_chunk unwanted;

	return region_residency(m->fd, chunk * CHUNK, chunk == TAIL ? 0 : CHUNK, &unwanted, 1) == 0;
}

static void do_discard(struct member *m)
{
	size_t first = draw(NR_PAGES), nr = 1 + draw(draw(2) ? CHUNK_PAGES : 8);
	struct dvsm_region_discard arg = { .size = sizeof(arg) };

	action = "discard";
	if (draw(2))
		first -= first % CHUNK_PAGES;
	if (!draw(3))
		nr = CHUNK_PAGES;
	if (first + nr > NR_PAGES)
		nr = NR_PAGES - first;
	arg.offset = first * PAGE;
	arg.length = nr * PAGE;
	check(!command_by(worker_knows(m->id), m->fd, DVSM_IOC_REGION_DISCARD, &arg), "discard");
	for (size_t page = first; page < first + nr; page++) {
		size_t chunk = chunk_of(page), start = chunk * CHUNK_PAGES;
		size_t end = start + CHUNK_PAGES < NR_PAGES ? start + CHUNK_PAGES : NR_PAGES;

		memset(m->words[page], 0, sizeof(m->words[page]));
		if (start >= first && end <= first + nr)
			m->contents[chunk] = 0;
		else if (m->contents[chunk])
			m->contents[chunk] = ++last_contents;
	}
	for (size_t chunk = chunk_of(first); chunk <= chunk_of(first + nr - 1); chunk++)
		if (is_empty(m, chunk))
			m->contents[chunk] = 0;
}

static void do_diff(struct member *a)
{
	struct member *b = pick();
	struct dvsm_region_diff arg = {
		.size = sizeof(arg),
		.ranges = (uintptr_t)ranges,
		.nr_ranges = CHUNK_PAGES / 2,
		.other = b->fd,
	};

	struct span span = span_compared(a, b);

	action = "diff";
	if (a == b)
		return;
	if (parent_of(b) == a && draw(2))
		arg.flags = DVSM_DIFF_F_ADVANCE;
	check(!command_by(worker_knows(a->id) && worker_knows(b->id), a->fd, DVSM_IOC_REGION_DIFF,
			  &arg), "diff");
	check(arg.out_next == LENGTH, "end of diff");
	for (size_t chunk = 0; chunk < ALL_CHUNKS; chunk++) {
		bool differ = is_in(ranges, arg.out_nr_ranges, chunk);

		if (differ == (span_has(span, chunk) && a->contents[chunk] != b->contents[chunk]))
			continue;
		if (differ && chunk == TAIL && span_has(span, chunk))
			continue;
		ksft_print_msg("chunk %zu of %td and %td: %llu %llu\n", chunk, a - members,
			       b - members, (unsigned long long)a->contents[chunk],
			       (unsigned long long)b->contents[chunk]);
		fail("diff is wrong");
	}
	for (size_t chunk = span.first; arg.flags && chunk < span.end; chunk++) {
		copy_chunk(b, a, chunk);
		b->base[chunk] = b->contents[chunk];
	}
}

static void do_unshare(struct member *m)
{
	struct dvsm_region_unshare arg = { .size = sizeof(arg) };

	action = "unshare";
	check(!command_by(worker_knows(m->id), m->fd, DVSM_IOC_REGION_UNSHARE, &arg), "unshare");
	/* It counts as a write to whatever was shared. */
	for (size_t chunk = 0; chunk < ALL_CHUNKS; chunk++)
		for (int i = 0; i < NR_MEMBERS; i++)
			if (members[i].fd >= 0 && &members[i] != m && m->contents[chunk] &&
			    members[i].contents[chunk] == m->contents[chunk]) {
				m->contents[chunk] = ++last_contents;
				break;
			}
}

static void do_populate(struct member *m)
{
	struct dvsm_region_populate arg = { .size = sizeof(arg) };

	action = "populate";
	check(!command_by(worker_knows(m->id), m->fd, DVSM_IOC_REGION_POPULATE, &arg), "populate");
}

static void do_remap(struct member *m)
{
	action = "remap";
	/* It would keep the old one. */
	worker_end();
	munmap(m->map[0], LENGTH);
	m->map[0] = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	check(m->map[0] != MAP_FAILED, "mmap");
}

static unsigned int nr_open(void)
{
	unsigned int nr = 0;

	for (int i = 0; i < NR_MEMBERS; i++)
		nr += members[i].fd >= 0;
	return nr;
}

static void one_step(void)
{
	struct member *m = pick();

	switch (draw(20)) {
	case 0 ... 8:
		do_write(m);
		break;
	case 9 ... 11:
		do_take(m);
		break;
	case 12:
		do_restore(m);
		break;
	case 13 ... 14:
		do_merge(m);
		break;
	case 15:
		do_discard(m);
		break;
	case 16:
		do_diff(m);
		do_diff(m);
		break;
	case 17:
		action = "close";
		if (nr_open() > 1)
			member_end(m);
		break;
	case 18:
		draw(4) ? do_remap(m) : do_populate(m);
		break;
	default:
		if (!draw(4))
			do_unshare(m);
	}
	for (int i = 0; i < 4; i++)
		member_check_word(pick(), draw(NR_PAGES), draw(NR_WORDS));
}

/* Now and then all of it. */
static void look_at_all(void)
{
	if (step % 200 != 199)
		return;
	for (int i = 0; i < NR_MEMBERS; i++)
		if (members[i].fd >= 0)
			member_check_all(&members[i]);
}

/* Where nothing is a hole the module finds differences by what it has marked. */
static void write_everywhere(struct member *m)
{
	for (size_t chunk = 0; chunk < ALL_CHUNKS; chunk++) {
		*(volatile __u64 *)(m->map[0] + chunk * CHUNK) = 1;
		m->words[chunk * CHUNK_PAGES][0] = 1;
		m->contents[chunk] = ++last_contents;
	}
}

static void history(int dev, bool written)
{
	for (int i = 0; i < NR_MEMBERS; i++)
		members[i].fd = -1;
	ranges = share_anonymous(CHUNK_PAGES / 2 * sizeof(*ranges));
	members[0].fd = region_create(dev, LENGTH, 0);
	check(members[0].fd >= 0, "create");
	members[0].id = ++last_id;
	members[0].taken = members[0].descent = (struct span) { .end = ALL_CHUNKS };
	member_map(&members[0]);
	if (written)
		write_everywhere(&members[0]);
	history_run(one_step, look_at_all, &nr_by_worker);
	ksft_print_msg("%lu steps\n", step);
	for (int i = 0; i < NR_MEMBERS; i++)
		if (members[i].fd >= 0)
			member_end(&members[i]);
}

DVSM_FIXTURE(model)

TEST_F_TIMEOUT(model, random_histories_match_plain_memory, 900)
{
	history(self->dev, false);
}

TEST_F_TIMEOUT(model, random_histories_without_holes_match_plain_memory, 900)
{
	history(self->dev, true);
}

TEST_HARNESS_MAIN
