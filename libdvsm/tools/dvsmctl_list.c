// SPDX-License-Identifier: GPL-2.0-only
/* dvsmctl list: the regions that the caller may look at. */
#include <getopt.h>
#include <pwd.h>

#include "dvsmctl.h"

static const char usage[] =
	"usage: dvsmctl list [OPTION...]\n"
	"  -j, --json   for programs\n"
	"  -h, --help\n"
	"One's own regions; with CAP_SYS_ADMIN, everybody's.\n";

static json_t *entry_json(const struct dvsm_region_entry *entry)
{
	return json_pack("{s:I, s:s, s:I, s:I, s:I, s:s, s:o, s:i, s:i}",
			 "id", (json_int_t)entry->id, "label", (const char *)entry->label,
			 "parent_id", (json_int_t)entry->parent_id,
			 "length", (json_int_t)entry->length, "charged", (json_int_t)entry->charged,
			 "policy", dvsmctl_policy(entry->policy),
			 "flags", dvsmctl_flags_json(entry->flags),
			 "uid", (int)entry->uid, "nr_files", (int)entry->nr_files);
}

static const char *user_name(uint32_t uid, char *text, size_t size)
{
	const struct passwd *user = getpwuid(uid);

	if (user)
		return user->pw_name;
	snprintf(text, size, "%u", uid);
	return text;
}

static void entry_print(const struct dvsm_region_entry *entry)
{
	char length[32], charged[32], flags[128], user[32], parent[32] = "-";

	if (entry->parent_id)
		snprintf(parent, sizeof(parent), "%llu", (unsigned long long)entry->parent_id);
	printf("%6llu %6s %-8s %10s %10s %5u  %-10s %-16s %s\n", (unsigned long long)entry->id,
	       parent, user_name(entry->uid, user, sizeof(user)),
	       dvsmctl_bytes(entry->length, length, sizeof(length)),
	       dvsmctl_bytes(entry->charged, charged, sizeof(charged)), entry->nr_files,
	       dvsmctl_policy(entry->policy), *entry->label ? (const char *)entry->label : "-",
	       dvsmctl_flags(entry->flags, flags, sizeof(flags)));
}

int dvsmctl_list(int argc, char **argv)
{
	static const struct option known[] = {
		{ "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, { 0 },
	};
	struct dvsm_region_entry *entries;
	bool as_json = false;
	json_t *json;
	int c, i, nr;

	while ((c = getopt_long(argc, argv, "jh", known, NULL)) != -1) {
		if (c == 'h') {
			fputs(usage, stdout);
			return 0;
		}
		if (c != 'j')
			return DVSMCTL_USAGE;
		as_json = true;
	}
	if (optind < argc) {
		fputs(usage, stderr);
		return DVSMCTL_USAGE;
	}
	nr = dvsmctl_region_list(&entries);
	if (nr < 0)
		return 1;
	if (as_json) {
		json = json_array();
		for (i = 0; i < nr; i++)
			json_array_append_new(json, entry_json(&entries[i]));
		free(entries);
		return dvsmctl_print_json(json_pack("{s:o}", "regions", json));
	}
	printf("%6s %6s %-8s %10s %10s %5s  %-10s %-16s %s\n", "ID", "PARENT", "USER", "LENGTH",
	       "CHARGED", "FILES", "POLICY", "LABEL", "FLAGS");
	for (i = 0; i < nr; i++)
		entry_print(&entries[i]);
	free(entries);
	return 0;
}
