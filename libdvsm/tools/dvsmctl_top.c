// SPDX-License-Identifier: GPL-2.0-only
/* dvsmctl top: what regions do in a second, again and again. */
#include <getopt.h>
#include <ncurses.h>
#include <time.h>
#include <unistd.h>

#include "dvsmctl.h"

static const char usage[] =
	"usage: dvsmctl top [OPTION...]\n"
	"  -i, --interval S   seconds between two looks (default 2; 0.05 and more)\n"
	"  -n, --count N      end after N tables (default: on and on; one where the output is no terminal)\n"
	"  -j, --json         one object for each table, for programs\n"
	"  -h, --help\n"
	"On a terminal: q ends it. A region's first look has no rates yet and is not told.\n";

/* The counters whose rates are told, and their columns. */
static const struct {
	const char *name, *title;
	size_t offset;
} rates[] = {
	{ "faults", "FAULTS/s", offsetof(struct dvsm_region_info, out_nr_faults) },
	{ "faults_remote", "REMOTE/s", offsetof(struct dvsm_region_info, out_nr_faults_remote) },
	{ "faults_alloc", "ALLOCS/s", offsetof(struct dvsm_region_info, out_nr_faults_alloc) },
	{ "faults_cow", "COW/s", offsetof(struct dvsm_region_info, out_nr_cow_faults) },
	{ "moved", "MOVED/s", offsetof(struct dvsm_region_info, out_nr_moved) },
};

#define NR_RATES (sizeof(rates) / sizeof(*rates))

/* A region that is looked at. */
struct seen {
	uint64_t id;
	char label[DVSM_NAME_MAX];
	struct dvsm_region *region;
	struct dvsm_region_info info;
	struct timespec when;
	double rates[NR_RATES];		/* per second, between the last two looks */
	unsigned int nr_looks;
	bool is_listed;
};

struct top {
	struct seen *seen;
	size_t nr_seen;
	double interval;
	long count;			/* 0: on and on */
	bool as_json, on_screen;
};

static uint64_t counter_of(const struct dvsm_region_info *info, size_t i)
{
	return *(const uint64_t *)((const char *)info + rates[i].offset);
}

static struct seen *seen_find(struct top *top, uint64_t id)
{
	size_t i;

	for (i = 0; i < top->nr_seen; i++)
		if (top->seen[i].id == id)
			return &top->seen[i];
	return NULL;
}

/* A region that ends between list and watch is no matter. */
static void seen_add(struct top *top, const struct dvsm_region_entry *entry)
{
	struct dvsm_region *region = dvsm_region_watch(entry->id);
	struct seen *grown;

	if (!region)
		return;
	grown = realloc(top->seen, (top->nr_seen + 1) * sizeof(*grown));
	if (!grown) {
		dvsm_region_destroy(region);
		return;
	}
	top->seen = grown;
	grown += top->nr_seen++;
	*grown = (struct seen){ .id = entry->id, .region = region, .is_listed = true };
	memcpy(grown->label, entry->label, sizeof(grown->label));
}

/* Whether the region is still there. */
static bool seen_look(struct seen *seen)
{
	struct dvsm_region_info info = { .size = sizeof(info) };
	struct timespec now;
	double seconds;
	size_t i;

	if (!seen->is_listed || dvsm_region_info(seen->region, &info))
		return false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	seconds = (double)(now.tv_sec - seen->when.tv_sec) +
		  (double)(now.tv_nsec - seen->when.tv_nsec) / 1e9;
	for (i = 0; i < NR_RATES; i++)
		seen->rates[i] = (double)(counter_of(&info, i) - counter_of(&seen->info, i)) /
				 seconds;
	seen->info = info;
	seen->when = now;
	seen->nr_looks++;
	return true;
}

static int top_look(struct top *top)
{
	struct dvsm_region_entry *entries;
	struct seen *seen;
	size_t i, kept = 0;
	int nr = dvsmctl_region_list(&entries), entry;

	if (nr < 0)
		return -1;
	for (i = 0; i < top->nr_seen; i++)
		top->seen[i].is_listed = false;
	for (entry = 0; entry < nr; entry++) {
		seen = seen_find(top, entries[entry].id);
		if (seen)
			seen->is_listed = true;
		else
			seen_add(top, &entries[entry]);
	}
	free(entries);
	for (i = 0; i < top->nr_seen; i++) {
		if (seen_look(&top->seen[i]))
			top->seen[kept++] = top->seen[i];
		else
			dvsm_region_destroy(top->seen[i].region);
	}
	top->nr_seen = kept;
	return 0;
}

/* Busy ones first. */
static int seen_compare(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;
	size_t i;

	for (i = 0; i < NR_RATES; i++)
		if (x->rates[i] != y->rates[i])
			return x->rates[i] < y->rates[i] ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

static int top_print_json(const struct top *top)
{
	json_t *regions = json_array(), *region;
	size_t i, rate;

	for (i = 0; i < top->nr_seen; i++) {
		const struct seen *seen = &top->seen[i];

		if (seen->nr_looks < 2)
			continue;
		region = json_pack("{s:I, s:s, s:I}", "id", (json_int_t)seen->id, "label",
				   seen->label, "resident", (json_int_t)seen->info.out_resident);
		for (rate = 0; rate < NR_RATES; rate++)
			json_object_set_new(region, rates[rate].name,
					    json_real(seen->rates[rate]));
		json_array_append_new(regions, region);
	}
	return dvsmctl_print_json(json_pack("{s:o}", "regions", regions));
}

static void line_put(const struct top *top, int line, const char *text)
{
	if (top->on_screen)
		mvaddnstr(line, 0, text, COLS);
	else
		puts(text);
}

static void top_print(struct top *top)
{
	char text[256], resident[32];
	size_t i, rate, used;
	int line = 0;

	used = (size_t)snprintf(text, sizeof(text), "%6s %-16s %10s", "ID", "LABEL", "RESIDENT");
	for (rate = 0; rate < NR_RATES; rate++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, " %9s",
					 rates[rate].title);
	line_put(top, line++, text);
	for (i = 0; i < top->nr_seen; i++) {
		const struct seen *seen = &top->seen[i];

		if (seen->nr_looks < 2)
			continue;
		used = (size_t)snprintf(text, sizeof(text), "%6llu %-16.16s %10s",
					(unsigned long long)seen->id,
					*seen->label ? seen->label : "-",
					dvsmctl_bytes(seen->info.out_resident, resident,
						      sizeof(resident)));
		for (rate = 0; rate < NR_RATES; rate++)
			used += (size_t)snprintf(text + used, sizeof(text) - used, " %9.1f",
						 seen->rates[rate]);
		line_put(top, line++, text);
	}
}

/* Whether the user wants to end. */
static bool top_wait(const struct top *top)
{
	struct timespec wait = { .tv_sec = (time_t)top->interval };
	int key;

	if (top->on_screen) {
		refresh();
		timeout((int)(top->interval * 1000));
		key = getch();
		return key == 'q' || key == 'Q';
	}
	wait.tv_nsec = (long)((top->interval - (double)wait.tv_sec) * 1e9);
	nanosleep(&wait, NULL);
	return false;
}

static int top_run(struct top *top)
{
	long table = 0;
	int status = 0;

	if (top_look(top))
		return 1;
	/* Only now, so that what is wrong is said on the plain terminal. */
	if (top->on_screen) {
		initscr();
		cbreak();
		noecho();
		curs_set(0);
	}
	while (!top_wait(top)) {
		status = top_look(top) ? 1 : 0;
		if (status)
			break;
		qsort(top->seen, top->nr_seen, sizeof(*top->seen), seen_compare);
		if (top->as_json) {
			if (top_print_json(top))
				return 1;
		} else {
			if (top->on_screen)
				erase();
			top_print(top);
			fflush(stdout);
		}
		if (++table == top->count)
			break;
	}
	if (top->on_screen)
		endwin();
	return ferror(stdout) ? 1 : status;
}

int dvsmctl_top(int argc, char **argv)
{
	static const struct option known[] = {
		{ "interval", required_argument, NULL, 'i' },
		{ "count", required_argument, NULL, 'n' }, { "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { 0 },
	};
	struct top top = { .interval = 2, .count = -1 };
	int c, status;
	size_t i;

	while ((c = getopt_long(argc, argv, "i:n:jh", known, NULL)) != -1) {
		switch (c) {
		case 'i':
			top.interval = atof(optarg);
			break;
		case 'n':
			top.count = atol(optarg);
			break;
		case 'j':
			top.as_json = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			return DVSMCTL_USAGE;
		}
	}
	if (optind < argc || !(top.interval >= 0.05 && top.interval <= 86400) || !top.count ||
	    top.count < -1) {
		fputs(usage, stderr);
		return DVSMCTL_USAGE;
	}
	top.on_screen = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && !top.as_json &&
			top.count < 0;
	if (top.count < 0)
		top.count = top.on_screen ? 0 : 1;
	status = top_run(&top);
	for (i = 0; i < top.nr_seen; i++)
		dvsm_region_destroy(top.seen[i].region);
	free(top.seen);
	return status;
}
