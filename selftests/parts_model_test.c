// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random histories of regions and snapshots that copy in parts, against plain memory.
 *
 * Every page has a number that is new with each write. What the module may answer is
 * known up to one thing: what it copied in one piece it may call written as a whole.
 * So each difference and each conflict that there is must be reported, and more may
 * be; a merge that reports none must do exactly what the numbers say.
 */
#include <sys/wait.h>
#include "model.h"

#define NR_PAGES	(2 * CHUNK_PAGES + 37)
#define LENGTH		((size_t)NR_PAGES * PAGE)
#define ALL_CHUNKS	3
#define NR_MEMBERS	6
#define NR_RANGES	NR_PAGES

struct member {
	int fd;				/* -1: not in use */
	uint64_t id;			/* to be known as a parent */
	uint64_t parent;
	struct span taken;
	struct span descent;
	char *map;
	uint64_t now[NR_PAGES];
	uint64_t base[NR_PAGES];
};

static struct member members[NR_MEMBERS];
static struct dvsm_range *ranges;	/* that both processes write to */
static uint64_t last;
static unsigned long nr_merged, nr_fine;	/* merges; those where both had written a chunk */

/* Two words of a page, at its ends. */
static uint64_t *word(char *map, size_t page, bool end)
{
	return (uint64_t *)(map + page * PAGE + (end ? PAGE - 8 : 0));
}

static void check_page(struct member *m, size_t page)
{
	uint64_t words[2];

	if (worker_knows(m->id) && !draw(32))
		check(worker_read(word(m->map, page, draw(2))) == m->now[page], "word by another process");
	check(*word(m->map, page, false) == m->now[page], "first word of a page");
	check(*word(m->map, page, true) == m->now[page], "last word of a page");
	if (draw(4))
		return;
	check(pread(m->fd, &words[0], 8, page * PAGE) == 8 &&
	      pread(m->fd, &words[1], 8, page * PAGE + PAGE - 8) == 8, "read()");
	check(words[0] == m->now[page] && words[1] == m->now[page], "words by read()");
}

static void check_all(struct member *m)
{
	static char all[LENGTH];

	check(pread(m->fd, all, LENGTH, 0) == LENGTH, "read() of everything");
	for (size_t page = 0; page < NR_PAGES; page++) {
		if (*word(all, page, false) != m->now[page])
			ksft_print_msg("member %td page %zu: %llu, not %llu; in the mapping %llu\n",
				       m - members, page,
				       (unsigned long long)*word(all, page, false),
				       (unsigned long long)m->now[page],
				       (unsigned long long)*word(m->map, page, false));
		check(*word(all, page, false) == m->now[page], "first word in all of it");
		check(*word(all, page, true) == m->now[page], "last word in all of it");
		check(*word(m->map, page, draw(2)) == m->now[page], "a word in the mapping");
	}
}

static void set_page(struct member *m, size_t page)
{
	m->now[page] = ++last;
	*word(m->map, page, false) = last;
	*word(m->map, page, true) = last;
}

static void do_write(struct member *m)
{
	size_t page = draw(NR_PAGES), nr = draw(4) ? 1 : 1 + draw(40);
	pid_t pid = 0;

	action = "write";
	if (!draw(6)) {
		/* By another process, through the inherited mapping. */
		action = "write by a child";
		m->now[page] = ++last;
		pid = fork();
		if (!pid) {
			*word(m->map, page, false) = last;
			*word(m->map, page, true) = last;
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		return;
	}
	if (worker_knows(m->id) && !draw(4)) {
		action = "write by the other process";
		m->now[page] = ++last;
		worker_write(word(m->map, page, false), last);
		worker_write(word(m->map, page, true), last);
		return;
	}
	if (!draw(6)) {
		char buffer[PAGE] = {};

		action = "write()";
		m->now[page] = ++last;
		memcpy(buffer, &last, 8);
		memcpy(buffer + PAGE - 8, &last, 8);
		check(pwrite(m->fd, buffer, PAGE, page * PAGE) == PAGE, "write()");
		return;
	}
	for (; nr && page < NR_PAGES; nr--)
		set_page(m, page++);
}

static struct member *pick(void)
{
	struct member *m;

	do
		m = &members[draw(NR_MEMBERS)];
	while (m->fd < 0);
	return m;
}

static unsigned int nr_open(void)
{
	unsigned int nr = 0;

	for (int i = 0; i < NR_MEMBERS; i++)
		nr += members[i].fd >= 0;
	return nr;
}

static void member_map(struct member *m)
{
	m->map = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	check(m->map != MAP_FAILED, "mmap");
}

static bool page_is_in(struct span span, size_t page)
{
	return span_has(span, page / CHUNK_PAGES);
}

static void copy_pages(uint64_t *to, const uint64_t *from, struct span span)
{
	for (size_t page = 0; page < NR_PAGES; page++)
		if (page_is_in(span, page))
			to[page] = from[page];
}

static void do_take(struct member *m)
{
	static const uint64_t granularities[] = { 4096, 4096, 65536, 0 };
	struct dvsm_snapshot_take arg = {
		.size = sizeof(arg),
		.granularity = granularities[draw(4)],
	};
	struct span span = span_draw(ALL_CHUNKS);
	struct member *s = NULL;

	action = "take";
	for (int i = 0; i < NR_MEMBERS; i++)
		if (members[i].fd < 0)
			s = &members[i];
	if (!s)
		return;
	if (arg.granularity && !draw(3))
		arg.flags = DVSM_SNAPSHOT_F_ADAPTIVE;
	arg.offset = span.first * CHUNK;
	arg.length = span.end == ALL_CHUNKS ? 0 : (span.end - span.first) * CHUNK;
	s->fd = command_by(worker_knows(m->id), m->fd, DVSM_IOC_SNAPSHOT_TAKE, &arg);
	check(s->fd >= 0, "take");
	s->parent = m->id;
	s->id = ++last_id;
	s->taken = span;
	s->descent = span_in_common(span, m->descent);
	memset(s->now, 0, sizeof(s->now));
	copy_pages(s->now, m->now, span);
	memcpy(s->base, s->now, sizeof(s->base));
	member_map(s);
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
	copy_pages(m->now, s->now, s->taken);
	copy_pages(s->base, s->now, s->taken);
}

static bool is_in(unsigned int nr, size_t page)
{
	for (unsigned int i = 0; i < nr; i++)
		if (ranges[i].offset <= page * PAGE && page * PAGE < ranges[i].offset + ranges[i].length)
			return true;
	return false;
}

static bool both_wrote(const struct member *m, const struct member *s, size_t first, size_t end)
{
	bool mine = false, theirs = false;

	for (size_t page = first; page < end && page < NR_PAGES; page++) {
		if (!page_is_in(s->taken, page))
			break;
		mine |= m->now[page] != s->base[page];
		theirs |= s->now[page] != s->base[page];
	}
	return mine && theirs;
}

static void do_merge(struct member *s)
{
	struct dvsm_snapshot_merge arg = {
		.size = sizeof(arg),
		.snapshot = s->fd,
		.nr_conflicts = NR_RANGES,
		.conflicts = (uintptr_t)ranges,
	};
	struct member *m = parent_of(s);
	int ret;

	action = "merge";
	if (!m)
		return;
	ret = command_by(worker_knows(m->id) && worker_knows(s->id), m->fd,
			 DVSM_IOC_SNAPSHOT_MERGE, &arg);
	check(ret == 0 || errno == EAGAIN, "merge");
	check(!ret == !arg.out_nr_conflicts, "merge with conflicts is refused");
	for (size_t page = 0; page < NR_PAGES; page++) {
		if (!page_is_in(s->taken, page))
			check(!is_in(arg.out_nr_conflicts, page), "a conflict outside");
		else if (m->now[page] != s->base[page] && s->now[page] != s->base[page])
			check(is_in(arg.out_nr_conflicts, page), "a conflict is missing");
	}
	if (ret)
		return;
	nr_merged++;
	nr_fine += both_wrote(m, s, 0, CHUNK_PAGES) || both_wrote(m, s, CHUNK_PAGES, 2 * CHUNK_PAGES);
	for (size_t page = 0; page < NR_PAGES; page++) {
		if (s->now[page] == s->base[page] || !page_is_in(s->taken, page))
			continue;
		m->now[page] = s->now[page];
		s->base[page] = s->now[page];
	}
}

static void do_diff(struct member *a)
{
	struct member *b = pick();
	struct dvsm_region_diff arg = {
		.size = sizeof(arg),
		.other = b->fd,
		.ranges = (uintptr_t)ranges,
		.nr_ranges = 1 + draw(8),
	};
	struct span span = span_compared(a, b);
	bool seen[NR_PAGES] = {};

	action = "diff";
	if (a == b)
		return;
	if (parent_of(b) == a && draw(2)) {
		action = "diff that advances";
		arg.flags = DVSM_DIFF_F_ADVANCE;
		arg.nr_ranges += CHUNK_PAGES / 2;
	}
	do {
		check(!command_by(worker_knows(a->id) && worker_knows(b->id), a->fd,
				  DVSM_IOC_REGION_DIFF, &arg), "diff");
		check(arg.out_next > arg.offset, "diff goes on");
		for (size_t page = arg.offset / PAGE; page < arg.out_next / PAGE; page++)
			seen[page] = is_in(arg.out_nr_ranges, page);
		arg.offset = arg.out_next;
	} while (arg.offset < LENGTH);
	for (size_t page = 0; page < NR_PAGES; page++) {
		if (!page_is_in(span, page))
			check(!seen[page], "a difference outside");
		else if (a->now[page] != b->now[page])
			check(seen[page], "a difference is missing");
	}
	if (arg.flags) {
		copy_pages(b->now, a->now, span);
		copy_pages(b->base, a->now, span);
	}
}

static void do_discard(struct member *m)
{
	size_t first = draw(NR_PAGES), nr = 1 + draw(draw(2) ? CHUNK_PAGES : 8);
	struct dvsm_region_discard arg = { .size = sizeof(arg) };

	action = "discard";
	if (!draw(3)) {
		first -= first % CHUNK_PAGES;
		nr = CHUNK_PAGES;
	}
	if (first + nr > NR_PAGES)
		nr = NR_PAGES - first;
	arg.offset = first * PAGE;
	arg.length = nr * PAGE;
	check(!command_by(worker_knows(m->id), m->fd, DVSM_IOC_REGION_DISCARD, &arg), "discard");
	memset(&m->now[first], 0, nr * sizeof(m->now[0]));
}

static void do_unshare(struct member *m)
{
	struct dvsm_region_unshare arg = { .size = sizeof(arg) };

	action = "unshare";
	check(!command_by(worker_knows(m->id), m->fd, DVSM_IOC_REGION_UNSHARE, &arg), "unshare");
}

static void do_remap(struct member *m)
{
	action = "remap";
	/* It would keep the old one. */
	worker_end();
	munmap(m->map, LENGTH);
	member_map(m);
}

static void do_close(struct member *m)
{
	action = "close";
	if (nr_open() == 1)
		return;
	check_all(m);
	if (worker_knows(m->id) && draw(2)) {
		/* It is the last to have it. */
		munmap(m->map, LENGTH);
		close(m->fd);
		worker_close(m->fd, m->map, NULL, LENGTH);
	} else {
		if (worker_knows(m->id))
			worker_close(m->fd, m->map, NULL, LENGTH);
		munmap(m->map, LENGTH);
		close(m->fd);
	}
	m->fd = -1;
}

static void one_step(void)
{
	struct member *m = pick();

	switch (draw(24)) {
	case 0 ... 12:
		do_write(m);
		break;
	case 13 ... 14:
		do_take(m);
		break;
	case 15:
		do_restore(m);
		break;
	case 16 ... 17:
		do_merge(m);
		break;
	case 18:
		do_discard(m);
		break;
	case 19:
		do_diff(m);
		do_diff(m);
		break;
	case 20:
		do_close(m);
		break;
	case 21:
		do_remap(m);
		break;
	case 22:
		if (!draw(4))
			do_unshare(m);
		break;
	default:
		if (!draw(4))
			check_all(m);
	}
	for (int i = 0; i < 6; i++)
		check_page(pick(), draw(NR_PAGES));
}

static void history(int dev, bool written)
{
	for (int i = 0; i < NR_MEMBERS; i++)
		members[i].fd = -1;
	ranges = share_anonymous(NR_RANGES * sizeof(*ranges));
	members[0].fd = region_create(dev, LENGTH, 0);
	check(members[0].fd >= 0, "create");
	members[0].id = ++last_id;
	members[0].taken = members[0].descent = (struct span) { .end = ALL_CHUNKS };
	member_map(&members[0]);
	/* Where nothing is a hole the module finds differences by what it has marked. */
	for (size_t page = 0; written && page < NR_PAGES; page++)
		set_page(&members[0], page);
	history_run(one_step, NULL, &nr_fine);
	for (int i = 0; i < NR_MEMBERS; i++)
		if (members[i].fd >= 0)
			check_all(&members[i]);
	ksft_print_msg("%lu steps, %lu merges, %lu of chunks that both had written to\n", step,
		       nr_merged, nr_fine);
	/* Short histories may have none. */
	check(step < 2000 || nr_fine, "merges in parts");
}

DVSM_FIXTURE(parts_model)

TEST_F_TIMEOUT(parts_model, random_histories_match_plain_memory, 900)
{
	history(self->dev, false);
}

TEST_F_TIMEOUT(parts_model, random_histories_without_holes_match_plain_memory, 900)
{
	history(self->dev, true);
}

TEST_HARNESS_MAIN
