// SPDX-License-Identifier: GPL-2.0-only
/* dvsmctl NOUN VERB ...: looks at what other programs do with dvsm. */
#include "dvsmctl.h"

static const struct {
	const char *name, *about;
	int (*run)(int argc, char **argv);
} nouns[] = {
	{ "list", "the regions that there are", dvsmctl_list },
	{ "show", "one region: its chunks and counters", dvsmctl_show },
	{ "top", "what regions do, again and again", dvsmctl_top },
	{ "heap", "report, map and audit heaps", dvsmctl_heap },
};

static void usage(FILE *file)
{
	size_t i;

	fprintf(file, "usage: dvsmctl NOUN ...\n");
	for (i = 0; i < sizeof(nouns) / sizeof(*nouns); i++)
		fprintf(file, "  %-8s %s; dvsmctl %s --help says more\n", nouns[i].name,
			nouns[i].about, nouns[i].name);
}

int main(int argc, char **argv)
{
	size_t i;

	for (i = 0; argc > 1 && i < sizeof(nouns) / sizeof(*nouns); i++)
		if (!strcmp(argv[1], nouns[i].name))
			return nouns[i].run(argc - 1, argv + 1);
	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		usage(stdout);
		return 0;
	}
	usage(stderr);
	return DVSMCTL_USAGE;
}
