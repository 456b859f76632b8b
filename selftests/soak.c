// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything at once, for SECONDS: writers who check every byte (storm.h), all that
 * disturbs them, memory that is short, and on a kernel with fault injection
 * allocations that fail. A line a minute, a report at the end; fails if a byte was
 * lost, a process ended wrong, or the module holds something afterwards.
 *
 *   soak SECONDS
 */
#include <signal.h>
#include <sys/wait.h>

#include "fail_nth.h"
#include "fail_operations.h"
#include "storm.h"

#define NR_WRITERS	3
#define NR_NTH		60	/* allocations of an operation, one of which fails */
#define CYCLE		10000	/* ms */
#define CALM		3000

static struct field *field;
static unsigned long *nr_faults;	/* injected */

/* An operation of fail_test's, while one of its allocations fails. */
static int inject(struct field *field)
{
	static int (*const operations[])(int dev) = {
		run_create, run_create_pinned, run_reopen, run_fault, run_implicit, run_populate,
		run_file, run_tell, run_discard, run_snapshot, run_restore, run_merge,
		run_unshare, run_parts, run_adaptive, run_restore_parts, run_merge_parts,
		run_generations, run_pin, run_export, run_member,
	};
	int nth = fail_nth_open();
	unsigned int seed = getpid();

	if (nth < 0)
		return 0;
	while (field_goes_on(field)) {
		unsigned int which = rand_r(&seed) % ARRAY_SIZE(operations);
		int ret;

		if (fail_nth_run(nth, 1 + rand_r(&seed) % NR_NTH, operations[which], field->dev,
				 &ret))
			COUNT(*nr_faults);
		else if (ret && ret != -EBUSY)	/* somebody moves the memory */
			WRONG;
	}
	return 0;
}

static const struct { const char *name; int (*run)(struct field *field); } disturbers[] = {
	{ "move", storm_move }, { "migrate", storm_migrate }, { "promote", storm_promote },
	{ "balance", storm_balance }, { "snapshot", storm_snapshot }, { "snapshot", storm_snapshot },
	{ "merge", storm_merge }, { "advance", storm_advance }, { "restore", storm_restore },
	{ "overwrite", storm_overwrite }, { "discard", storm_discard }, { "remap", storm_remap },
	{ "advise", storm_advise }, { "fork", storm_fork }, { "fork copy", storm_fork_copy },
	{ "kill", storm_kill }, { "cgroup", storm_cgroup }, { "hotplug", storm_hotplug },
	{ "poison", storm_poison }, { "pin", storm_pin }, { "names", storm_names },
	{ "close", storm_close }, { "inject", inject },
};

#define NR_PROCESSES (NR_WRITERS + ARRAY_SIZE(disturbers))

static void report(const char *when)
{
	printf("%s: %lu words written and read back, %lu rounds of disturbers, %lu kills survived, "
	       "%lu faults injected, %lu pages lost by hardware, %lu words lost\n", when,
	       field->nr_words, field->nr_rounds, field->nr_kills, *nr_faults, field->nr_poisons,
	       field->nr_lost);
	fflush(stdout);
}

static const char *name_of(unsigned int i)
{
	return i < NR_WRITERS ? "writer" : disturbers[i - NR_WRITERS].name;
}

static pid_t start(unsigned int i)
{
	pid_t pid = child_start();

	if (!pid)
		_exit((i < NR_WRITERS ? field_write(field, i) :
		       disturbers[i - NR_WRITERS].run(field)) & 255);
	return pid;
}

/* All who disturb, but not who they began. */
static void disturbers_signal(const pid_t *pids, int signal)
{
	unsigned int i;

	for (i = NR_WRITERS; i < NR_PROCESSES; i++)
		if (pids[i] > 0)
			kill(pids[i], signal);
}

/*
 * Where all is slow, writers hardly get on while they are disturbed, and would read little of what
 * was done to their words: of each CYCLE, the last CALM is theirs.
 */
static bool is_calm(void)
{
	unsigned long now = clock_ms();

	return now < field->end - CYCLE && now % CYCLE >= CYCLE - CALM;
}

/* Whoever ends before the end has something to say. Returns how many ended wrong. */
static unsigned int watch(pid_t *pids)
{
	unsigned int i, nr = NR_PROCESSES, failed = 0;
	unsigned long told = clock_ms();
	bool calm = false;

	while (nr) {
		if (is_calm() != calm) {
			calm = !calm;
			disturbers_signal(pids, calm ? SIGSTOP : SIGCONT);
		}
		for (i = 0; i < NR_PROCESSES; i++) {
			int status;

			if (pids[i] < 0 || !child_ends(pids[i], 0, &status))
				continue;
			pids[i] = -1;
			nr--;
			if (status) {
				printf("%s ended with %d (line, modulo 256)\n", name_of(i), status);
				failed++;
			}
		}
		sleep_ms(200);
		if (clock_ms() > told + 60000) {
			told = clock_ms();
			report("so far");
		}
		if (clock_ms() > field->end + 120000) {
			printf("%u processes do not end\n", nr);
			return failed + nr;
		}
	}
	return failed;
}

int main(int argc, char **argv)
{
	unsigned long seconds = argc > 1 ? strtoul(argv[1], NULL, 0) : 60;
	pid_t pids[NR_PROCESSES];
	struct counts counts;
	unsigned int i, failed;
	bool is_empty;
	int dev;

	fail_nth_exec_without_rseq(argv);
	write_text("/proc/sys/kernel/numa_balancing", "1");
	dev = device_open(O_RDWR);
	field = dev < 0 ? NULL : field_make(dev, seconds * 1000);
	nr_faults = share_anonymous(sizeof(*nr_faults));
	if (!field) {
		printf("no /dev/dvsm, or no region\n");
		return 1;
	}
	for (i = 0; i < NR_PROCESSES; i++)
		pids[i] = start(i);
	failed = watch(pids);
	report("in all");
	close(field->fd);
	close(dev);
	is_empty = counts_reach_zero(&counts, 60);
	if (!is_empty)
		printf("left: %lu regions, %lu pages, %lu pinned, %lu names, %lu members, %lu users\n",
		       counts.regions, counts.pages, counts.pinned_pages, counts.names,
		       counts.members, counts.users);
	return failed || field->nr_lost || !is_empty;
}
