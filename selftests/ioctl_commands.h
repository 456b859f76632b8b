/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every command as one variant of a fixture: its number, the sizes of its struct,
 * where its outputs and reserved words are, and a request that succeeds. A new
 * command is tested by a new variant here.
 */
#ifndef DVSM_SELFTEST_IOCTL_COMMANDS_H
#define DVSM_SELFTEST_IOCTL_COMMANDS_H

#include <assert.h>

#include "fixture.h"

union request {
	struct {
		uint32_t size;
		uint32_t flags;
	};
	struct dvsm_info info;
	struct dvsm_region_create create;
	struct dvsm_region_info region_info;
	struct dvsm_region_nodes nodes;
	struct dvsm_region_populate populate;
	struct dvsm_region_discard discard;
	struct dvsm_region_residency residency;
	struct dvsm_region_reopen reopen;
	struct dvsm_region_unshare unshare;
	struct dvsm_region_diff diff;
	struct dvsm_region_pin pin;
	struct dvsm_region_unpin unpin;
	struct dvsm_region_export_dmabuf export;
	struct dvsm_region_extents extents;
	struct dvsm_region_place place;
	struct dvsm_region_promote promote;
	struct dvsm_region_split split;
	struct dvsm_region_events events;
	struct dvsm_region_join join;
	struct dvsm_region_leave leave;
	struct dvsm_region_members members;
	struct dvsm_name_create name_create;
	struct dvsm_name_open name_open;
	struct dvsm_name_unlink name_unlink;
	struct dvsm_name_list name_list;
	struct dvsm_region_balance balance;
	struct dvsm_region_list region_list;
	struct dvsm_region_watch watch;
	struct dvsm_region_find find;
	struct dvsm_snapshot_take take;
	struct dvsm_snapshot_restore restore;
	struct dvsm_snapshot_merge merge;
	struct dvsm_region_migrate migrate;
	unsigned char bytes[PAGE + 64];
};

static struct dvsm_node_stats node_stats[64];
static struct dvsm_chunk chunks[8];
static struct dvsm_range ranges[8];
static struct dvsm_member members[8];
static struct dvsm_name names[8];
static struct dvsm_region_entry entries[8];
static const uint64_t first_node = 1;

static_assert(DVSM_IOC_INFO == 0xd500, "number");
static_assert(DVSM_IOC_REGION_CREATE == 0xd501, "number");
static_assert(DVSM_IOC_REGION_INFO == 0xd510, "number");
static_assert(DVSM_IOC_REGION_NODES == 0xd511, "number");
static_assert(DVSM_IOC_REGION_POPULATE == 0xd512, "number");
static_assert(DVSM_IOC_REGION_DISCARD == 0xd513, "number");
static_assert(DVSM_IOC_REGION_RESIDENCY == 0xd514, "number");
static_assert(DVSM_IOC_REGION_REOPEN == 0xd515, "number");
static_assert(DVSM_IOC_REGION_UNSHARE == 0xd516, "number");
static_assert(DVSM_IOC_REGION_DIFF == 0xd517, "number");
static_assert(DVSM_IOC_REGION_PIN == 0xd518, "number");
static_assert(DVSM_IOC_REGION_UNPIN == 0xd519, "number");
static_assert(DVSM_IOC_REGION_EXPORT_DMABUF == 0xd51a, "number");
static_assert(DVSM_IOC_REGION_EXTENTS == 0xd51b, "number");
static_assert(DVSM_IOC_NAME_CREATE == 0xd502, "number");
static_assert(DVSM_IOC_NAME_OPEN == 0xd503, "number");
static_assert(DVSM_IOC_NAME_UNLINK == 0xd504, "number");
static_assert(DVSM_IOC_NAME_LIST == 0xd505, "number");
static_assert(DVSM_IOC_REGION_LIST == 0xd506, "number");
static_assert(DVSM_IOC_REGION_WATCH == 0xd507, "number");
static_assert(DVSM_IOC_REGION_FIND == 0xd508, "number");
static_assert(DVSM_IOC_REGION_EVENTS == 0xd51c, "number");
static_assert(DVSM_IOC_REGION_JOIN == 0xd51d, "number");
static_assert(DVSM_IOC_REGION_LEAVE == 0xd51e, "number");
static_assert(DVSM_IOC_REGION_MEMBERS == 0xd51f, "number");
static_assert(DVSM_IOC_REGION_BALANCE == 0xd525, "number");
static_assert(DVSM_IOC_SNAPSHOT_TAKE == 0xd520, "number");
static_assert(DVSM_IOC_SNAPSHOT_RESTORE == 0xd521, "number");
static_assert(DVSM_IOC_SNAPSHOT_MERGE == 0xd522, "number");
static_assert(DVSM_IOC_REGION_PLACE == 0xd523, "number");
static_assert(DVSM_IOC_REGION_PROMOTE == 0xd526, "number");
static_assert(DVSM_IOC_REGION_SPLIT == 0xd527, "number");
static_assert(DVSM_IOC_REGION_MIGRATE == 0xd524, "number");
static_assert(sizeof(struct dvsm_info) == 80, "size");
static_assert(sizeof(struct dvsm_region_create) == 72, "size");
static_assert(sizeof(struct dvsm_region_info) == 208, "size");
static_assert(sizeof(struct dvsm_node_stats) == 112, "size");
static_assert(sizeof(struct dvsm_region_nodes) == 32, "size");
static_assert(sizeof(struct dvsm_region_populate) == 40, "size");
static_assert(sizeof(struct dvsm_region_discard) == 32, "size");
static_assert(sizeof(struct dvsm_chunk) == 24, "size");
static_assert(sizeof(struct dvsm_region_residency) == 48, "size");
static_assert(sizeof(struct dvsm_region_reopen) == 8, "size");
static_assert(sizeof(struct dvsm_range) == 16, "size");
static_assert(sizeof(struct dvsm_region_unshare) == 32, "size");
static_assert(sizeof(struct dvsm_region_diff) == 56, "size");
static_assert(sizeof(struct dvsm_region_pin) == 24, "size");
static_assert(sizeof(struct dvsm_region_unpin) == 24, "size");
static_assert(sizeof(struct dvsm_region_export_dmabuf) == 24, "size");
static_assert(sizeof(struct dvsm_region_extents) == 48, "size");
static_assert(sizeof(struct dvsm_region_place) == 72, "size");
static_assert(sizeof(struct dvsm_region_promote) == 64, "size");
static_assert(sizeof(struct dvsm_region_split) == 72, "size");
static_assert(sizeof(struct dvsm_name_create) == 272, "size");
static_assert(sizeof(struct dvsm_name_open) == 264, "size");
static_assert(sizeof(struct dvsm_name_unlink) == 264, "size");
static_assert(sizeof(struct dvsm_name) == 288, "size");
static_assert(sizeof(struct dvsm_name_list) == 40, "size");
static_assert(sizeof(struct dvsm_balance_use) == 16, "size");
static_assert(sizeof(struct dvsm_region_balance) == 48, "size");
static_assert(sizeof(struct dvsm_region_entry) == 80, "size");
static_assert(sizeof(struct dvsm_region_list) == 40, "size");
static_assert(sizeof(struct dvsm_region_watch) == 16, "size");
static_assert(sizeof(struct dvsm_region_find) == 24, "size");
static_assert(sizeof(struct dvsm_event) == 48, "size");
static_assert(sizeof(struct dvsm_region_events) == 16, "size");
static_assert(sizeof(struct dvsm_region_join) == 16, "size");
static_assert(sizeof(struct dvsm_region_leave) == 16, "size");
static_assert(sizeof(struct dvsm_member) == 24, "size");
static_assert(sizeof(struct dvsm_region_members) == 40, "size");
static_assert(sizeof(struct dvsm_snapshot_take) == 64, "size");
static_assert(sizeof(struct dvsm_snapshot_restore) == 24, "size");
static_assert(sizeof(struct dvsm_snapshot_merge) == 40, "size");
static_assert(sizeof(struct dvsm_region_migrate) == 120, "size");

#define COMMAND_LENGTH	(4 * CHUNK)

struct span {
	size_t at, length;
};

FIXTURE(command) {
	int dev;
	int region;
	int read_only;
	int snapshot;
	int watch;
};

FIXTURE_VARIANT(command) {
	unsigned int cmd;
	uint32_t size;
	uint32_t size_min;		/* of the first version */
	uint32_t known_flags;
	struct span outputs[2];
	struct span reserved;
	size_t range;			/* of its offset, which its length follows; 0: it has none */
	bool on_device;			/* not on a region */
	bool writes;
	bool makes_fd;
	bool looks;			/* works on a descriptor that only looks */
	void (*fill)(union request *request, int snapshot);
};

static void fill_nothing(union request *request, int snapshot)
{
	(void)request;
	(void)snapshot;
}

static void fill_create(union request *request, int snapshot)
{
	(void)snapshot;
	request->create.length = CHUNK;
}

static void fill_nodes(union request *request, int snapshot)
{
	(void)snapshot;
	request->nodes.nodes = (uintptr_t)node_stats;
	request->nodes.nr_nodes = ARRAY_SIZE(node_stats);
	request->nodes.node_size = sizeof(node_stats[0]);
}

static void fill_populate(union request *request, int snapshot)
{
	(void)snapshot;
	request->populate.length = CHUNK;
}

static void fill_residency(union request *request, int snapshot)
{
	(void)snapshot;
	request->residency.chunks = (uintptr_t)chunks;
	request->residency.nr_chunks = ARRAY_SIZE(chunks);
}

static void fill_diff(union request *request, int snapshot)
{
	request->diff.ranges = (uintptr_t)ranges;
	request->diff.nr_ranges = ARRAY_SIZE(ranges);
	request->diff.other = snapshot;
}

static void fill_pin(union request *request, int snapshot)
{
	(void)snapshot;
	request->pin.offset = 2 * CHUNK;
	request->pin.length = PAGE;
}

/* There must be something to unpin, as often as a test calls before it fills in again. */
static int unpin_region;

static void fill_unpin(union request *request, int snapshot)
{
	struct dvsm_region_pin pin = { .size = sizeof(pin), .length = PAGE };
	unsigned int i;

	(void)snapshot;
	request->unpin.length = PAGE;
	for (i = 0; i < 8; i++)
		ioctl(unpin_region, DVSM_IOC_REGION_PIN, &pin);
}

static void fill_extents(union request *request, int snapshot)
{
	(void)snapshot;
	request->extents.ranges = (uintptr_t)ranges;
	request->extents.nr_ranges = ARRAY_SIZE(ranges);
}

static void fill_restore(union request *request, int snapshot)
{
	request->restore.snapshot = snapshot;
}

static void fill_merge(union request *request, int snapshot)
{
	request->merge.snapshot = snapshot;
	request->merge.conflicts = (uintptr_t)ranges;
	request->merge.nr_conflicts = ARRAY_SIZE(ranges);
}

/* So that a command that can be given once finds what it needs each time. */
static int names_dev, members_region;

static void unlink_the_name(void)
{
	struct dvsm_name_unlink arg = { .size = sizeof(arg), .name = "ioctl" };

	ioctl(names_dev, DVSM_IOC_NAME_UNLINK, &arg);
}

static void create_the_name(void)
{
	struct dvsm_name_create arg = {
		.size = sizeof(arg),
		.region = members_region,
		.mode = 0600,
		.name = "ioctl",
	};

	ioctl(names_dev, DVSM_IOC_NAME_CREATE, &arg);
}

static void fill_name_create(union request *request, int snapshot)
{
	(void)snapshot;
	unlink_the_name();
	request->name_create.region = members_region;
	request->name_create.mode = 0600;
	strcpy((char *)request->name_create.name, "ioctl");
}

static void fill_name_open(union request *request, int snapshot)
{
	(void)snapshot;
	create_the_name();
	strcpy((char *)request->name_open.name, "ioctl");
}

static void fill_name_unlink(union request *request, int snapshot)
{
	fill_name_open(request, snapshot);
}

static void fill_name_list(union request *request, int snapshot)
{
	(void)snapshot;
	request->name_list.names = (uintptr_t)names;
	request->name_list.nr_names = ARRAY_SIZE(names);
}

static struct dvsm_balance_use balance_uses[64 * 64];

static void fill_balance(union request *request, int snapshot)
{
	(void)snapshot;
	request->balance.uses = (uintptr_t)balance_uses;
	request->balance.nr_nodes = 64;
}

static void fill_region_list(union request *request, int snapshot)
{
	(void)snapshot;
	request->region_list.regions = (uintptr_t)entries;
	request->region_list.nr_regions = ARRAY_SIZE(entries);
}

static void fill_watch(union request *request, int snapshot)
{
	struct dvsm_region_info info = {};

	(void)snapshot;
	region_info(members_region, &info);
	request->watch.id = info.out_id;
}

static void fill_find(union request *request, int snapshot)
{
	static char *map;

	(void)snapshot;
	if (!map)
		map = region_map(members_region, CHUNK, 0);
	request->find.address = (uintptr_t)map;
}

static void fill_events(union request *request, int snapshot)
{
	(void)snapshot;
	request->events.event_size = sizeof(struct dvsm_event);
}

static void fill_join(union request *request, int snapshot)
{
	struct dvsm_region_leave leave = { .size = sizeof(leave), .cookie = 1 };

	(void)snapshot;
	ioctl(members_region, DVSM_IOC_REGION_LEAVE, &leave);
	request->join.cookie = 1;
}

static void fill_leave(union request *request, int snapshot)
{
	struct dvsm_region_join join = { .size = sizeof(join), .cookie = 1 };

	(void)snapshot;
	ioctl(members_region, DVSM_IOC_REGION_JOIN, &join);
	request->leave.cookie = 1;
}

static void fill_members(union request *request, int snapshot)
{
	(void)snapshot;
	request->members.members = (uintptr_t)members;
	request->members.nr_members = ARRAY_SIZE(members);
}

static void fill_migrate(union request *request, int snapshot)
{
	(void)snapshot;
	request->migrate.nodes = (uintptr_t)&first_node;
	request->migrate.nr_nodes = 64;
}

#define SIZE_OF(type, member) sizeof(((type *)0)->member)
#define END_OF(type, member) (offsetof(type, member) + SIZE_OF(type, member))
#define RANGE(type) \
	(offsetof(type, length) == END_OF(type, offset) ? offsetof(type, offset) : SIZE_MAX)
#define SPAN(type, first, last) { offsetof(type, first), END_OF(type, last) - offsetof(type, first) }

FIXTURE_VARIANT_ADD(command, info) {
	.cmd = DVSM_IOC_INFO,
	.size = sizeof(struct dvsm_info),
	.size_min = END_OF(struct dvsm_info, out_nr_regions),
	.outputs = { SPAN(struct dvsm_info, out_abi_version, out_nr_regions) },
	.on_device = true,
	.fill = fill_nothing,
};

FIXTURE_VARIANT_ADD(command, region_create) {
	.cmd = DVSM_IOC_REGION_CREATE,
	.size = sizeof(struct dvsm_region_create),
	.size_min = END_OF(struct dvsm_region_create, label),
	.known_flags = DVSM_REGION_F_HUGE_REQUIRED | DVSM_REGION_F_PINNED |
		       DVSM_REGION_F_REGISTRABLE |
		       DVSM_REGION_F_FORK_COPY,
	.on_device = true,
	.makes_fd = true,
	.fill = fill_create,
};

FIXTURE_VARIANT_ADD(command, region_info) {
	.cmd = DVSM_IOC_REGION_INFO,
	.size = sizeof(struct dvsm_region_info),
	.size_min = END_OF(struct dvsm_region_info, out_nr_moved),
	.outputs = { SPAN(struct dvsm_region_info, out_length, out_taken_length) },
	.looks = true,
	.fill = fill_nothing,
};

FIXTURE_VARIANT_ADD(command, region_nodes) {
	.cmd = DVSM_IOC_REGION_NODES,
	.size = sizeof(struct dvsm_region_nodes),
	.size_min = END_OF(struct dvsm_region_nodes, out_nr_nodes),
	.outputs = { SPAN(struct dvsm_region_nodes, out_nr_nodes, out_nr_nodes) },
	.looks = true,
	.reserved = SPAN(struct dvsm_region_nodes, reserved, reserved),
	.fill = fill_nodes,
};

FIXTURE_VARIANT_ADD(command, region_populate) {
	.cmd = DVSM_IOC_REGION_POPULATE,
	.size = sizeof(struct dvsm_region_populate),
	.size_min = END_OF(struct dvsm_region_populate, out_populated),
	.outputs = { SPAN(struct dvsm_region_populate, out_populated, out_populated) },
	.reserved = SPAN(struct dvsm_region_populate, reserved, reserved),
	.writes = true,
	.fill = fill_populate,
	.range = RANGE(struct dvsm_region_populate),
};

FIXTURE_VARIANT_ADD(command, region_discard) {
	.cmd = DVSM_IOC_REGION_DISCARD,
	.size = sizeof(struct dvsm_region_discard),
	.size_min = END_OF(struct dvsm_region_discard, out_discarded),
	.outputs = { SPAN(struct dvsm_region_discard, out_discarded, out_discarded) },
	.writes = true,
	.fill = fill_nothing,
	.range = RANGE(struct dvsm_region_discard),
};

FIXTURE_VARIANT_ADD(command, region_residency) {
	.cmd = DVSM_IOC_REGION_RESIDENCY,
	.size = sizeof(struct dvsm_region_residency),
	.size_min = END_OF(struct dvsm_region_residency, out_next),
	.outputs = { SPAN(struct dvsm_region_residency, out_nr_chunks, out_next) },
	.looks = true,
	.fill = fill_residency,
	.range = RANGE(struct dvsm_region_residency),
};

FIXTURE_VARIANT_ADD(command, region_reopen) {
	.cmd = DVSM_IOC_REGION_REOPEN,
	.size = sizeof(struct dvsm_region_reopen),
	.size_min = END_OF(struct dvsm_region_reopen, flags),
	.known_flags = DVSM_REOPEN_F_READ_ONLY,
	.makes_fd = true,
	.fill = fill_nothing,
};

FIXTURE_VARIANT_ADD(command, region_unshare) {
	.cmd = DVSM_IOC_REGION_UNSHARE,
	.size = sizeof(struct dvsm_region_unshare),
	.size_min = END_OF(struct dvsm_region_unshare, out_unshared),
	.outputs = { SPAN(struct dvsm_region_unshare, out_unshared, out_unshared) },
	.writes = true,
	.fill = fill_nothing,
	.range = RANGE(struct dvsm_region_unshare),
};

FIXTURE_VARIANT_ADD(command, region_diff) {
	.cmd = DVSM_IOC_REGION_DIFF,
	.size = sizeof(struct dvsm_region_diff),
	.size_min = END_OF(struct dvsm_region_diff, reserved),
	.outputs = { SPAN(struct dvsm_region_diff, out_next, out_nr_ranges) },
	.reserved = SPAN(struct dvsm_region_diff, reserved, reserved),
	.known_flags = DVSM_DIFF_F_ADVANCE,
	.fill = fill_diff,
	.range = RANGE(struct dvsm_region_diff),
};

FIXTURE_VARIANT_ADD(command, region_pin) {
	.cmd = DVSM_IOC_REGION_PIN,
	.size = sizeof(struct dvsm_region_pin),
	.size_min = END_OF(struct dvsm_region_pin, length),
	.writes = true,
	.fill = fill_pin,
	.range = RANGE(struct dvsm_region_pin),
};

FIXTURE_VARIANT_ADD(command, region_unpin) {
	.cmd = DVSM_IOC_REGION_UNPIN,
	.size = sizeof(struct dvsm_region_unpin),
	.size_min = END_OF(struct dvsm_region_unpin, length),
	.writes = true,
	.fill = fill_unpin,
	.range = RANGE(struct dvsm_region_unpin),
};

FIXTURE_VARIANT_ADD(command, region_export_dmabuf) {
	.cmd = DVSM_IOC_REGION_EXPORT_DMABUF,
	.size = sizeof(struct dvsm_region_export_dmabuf),
	.size_min = END_OF(struct dvsm_region_export_dmabuf, length),
	.writes = true,
	.makes_fd = true,
	.fill = fill_pin,	/* the same words at the same places */
	.range = RANGE(struct dvsm_region_export_dmabuf),
};

FIXTURE_VARIANT_ADD(command, region_extents) {
	.cmd = DVSM_IOC_REGION_EXTENTS,
	.size = sizeof(struct dvsm_region_extents),
	.size_min = END_OF(struct dvsm_region_extents, out_next),
	.outputs = { SPAN(struct dvsm_region_extents, out_nr_ranges, out_next) },
	.looks = true,
	.fill = fill_extents,
	.range = RANGE(struct dvsm_region_extents),
};

FIXTURE_VARIANT_ADD(command, name_create) {
	.cmd = DVSM_IOC_NAME_CREATE,
	.size = sizeof(struct dvsm_name_create),
	.size_min = END_OF(struct dvsm_name_create, name),
	.known_flags = DVSM_NAME_F_KEEP,
	.on_device = true,
	.fill = fill_name_create,
};

FIXTURE_VARIANT_ADD(command, name_open) {
	.cmd = DVSM_IOC_NAME_OPEN,
	.size = sizeof(struct dvsm_name_open),
	.size_min = END_OF(struct dvsm_name_open, name),
	.known_flags = DVSM_NAME_F_READ_ONLY,
	.on_device = true,
	.makes_fd = true,
	.fill = fill_name_open,
};

FIXTURE_VARIANT_ADD(command, name_unlink) {
	.cmd = DVSM_IOC_NAME_UNLINK,
	.size = sizeof(struct dvsm_name_unlink),
	.size_min = END_OF(struct dvsm_name_unlink, name),
	.on_device = true,
	.fill = fill_name_unlink,
};

FIXTURE_VARIANT_ADD(command, name_list) {
	.cmd = DVSM_IOC_NAME_LIST,
	.size = sizeof(struct dvsm_name_list),
	.size_min = END_OF(struct dvsm_name_list, out_next),
	.outputs = { SPAN(struct dvsm_name_list, out_nr_names, out_next) },
	.on_device = true,
	.fill = fill_name_list,
};

FIXTURE_VARIANT_ADD(command, region_balance) {
	.cmd = DVSM_IOC_REGION_BALANCE,
	.size = sizeof(struct dvsm_region_balance),
	.size_min = END_OF(struct dvsm_region_balance, out_nr_held),
	.outputs = { SPAN(struct dvsm_region_balance, out_mode, out_nr_held) },
	.looks = true,
	.fill = fill_balance,
};

FIXTURE_VARIANT_ADD(command, region_list) {
	.cmd = DVSM_IOC_REGION_LIST,
	.size = sizeof(struct dvsm_region_list),
	.size_min = END_OF(struct dvsm_region_list, out_next),
	.outputs = { SPAN(struct dvsm_region_list, out_nr_regions, out_next) },
	.on_device = true,
	.fill = fill_region_list,
};

FIXTURE_VARIANT_ADD(command, region_watch) {
	.cmd = DVSM_IOC_REGION_WATCH,
	.size = sizeof(struct dvsm_region_watch),
	.size_min = END_OF(struct dvsm_region_watch, id),
	.on_device = true,
	.makes_fd = true,
	.fill = fill_watch,
};

FIXTURE_VARIANT_ADD(command, region_find) {
	.cmd = DVSM_IOC_REGION_FIND,
	.size = sizeof(struct dvsm_region_find),
	.size_min = END_OF(struct dvsm_region_find, out_offset),
	.outputs = { SPAN(struct dvsm_region_find, out_offset, out_offset) },
	.on_device = true,
	.makes_fd = true,
	.fill = fill_find,
};

FIXTURE_VARIANT_ADD(command, region_events) {
	.cmd = DVSM_IOC_REGION_EVENTS,
	.size = sizeof(struct dvsm_region_events),
	.size_min = END_OF(struct dvsm_region_events, reserved),
	.reserved = SPAN(struct dvsm_region_events, reserved, reserved),
	.makes_fd = true,
	.fill = fill_events,
};

FIXTURE_VARIANT_ADD(command, region_join) {
	.cmd = DVSM_IOC_REGION_JOIN,
	.size = sizeof(struct dvsm_region_join),
	.size_min = END_OF(struct dvsm_region_join, cookie),
	.writes = true,
	.fill = fill_join,
};

FIXTURE_VARIANT_ADD(command, region_leave) {
	.cmd = DVSM_IOC_REGION_LEAVE,
	.size = sizeof(struct dvsm_region_leave),
	.size_min = END_OF(struct dvsm_region_leave, cookie),
	.writes = true,
	.fill = fill_leave,
};

FIXTURE_VARIANT_ADD(command, region_members) {
	.cmd = DVSM_IOC_REGION_MEMBERS,
	.size = sizeof(struct dvsm_region_members),
	.size_min = END_OF(struct dvsm_region_members, out_next),
	.outputs = { SPAN(struct dvsm_region_members, out_nr_members, out_next) },
	.looks = true,
	.fill = fill_members,
};

FIXTURE_VARIANT_ADD(command, region_place) {
	.cmd = DVSM_IOC_REGION_PLACE,
	.size = sizeof(struct dvsm_region_place),
	.size_min = END_OF(struct dvsm_region_place, out_length),
	.known_flags = DVSM_PLACE_F_QUERY,
	.outputs = { SPAN(struct dvsm_region_place, out_policy, out_length) },
	.writes = true,
	.fill = fill_nothing,
	.range = RANGE(struct dvsm_region_place),
};

FIXTURE_VARIANT_ADD(command, region_promote) {
	.cmd = DVSM_IOC_REGION_PROMOTE,
	.size = sizeof(struct dvsm_region_promote),
	.size_min = END_OF(struct dvsm_region_promote, out_nr_holes),
	.outputs = { SPAN(struct dvsm_region_promote, out_nr_promoted, out_nr_holes) },
	.writes = true,
	.fill = fill_nothing,
	.range = RANGE(struct dvsm_region_promote),
};

FIXTURE_VARIANT_ADD(command, region_split) {
	.cmd = DVSM_IOC_REGION_SPLIT,
	.size = sizeof(struct dvsm_region_split),
	.size_min = END_OF(struct dvsm_region_split, out_freed),
	.outputs = { SPAN(struct dvsm_region_split, out_nr_split, out_freed) },
	.writes = true,
	.fill = fill_nothing,
	.range = RANGE(struct dvsm_region_split),
};

FIXTURE_VARIANT_ADD(command, snapshot_take) {
	.cmd = DVSM_IOC_SNAPSHOT_TAKE,
	.size = sizeof(struct dvsm_snapshot_take),
	.size_min = END_OF(struct dvsm_snapshot_take, label),
	.known_flags = DVSM_SNAPSHOT_F_READ_ONLY | DVSM_SNAPSHOT_F_ADAPTIVE |
		       DVSM_SNAPSHOT_F_STRICT,
	.writes = true,
	.makes_fd = true,
	.fill = fill_nothing,
	.range = RANGE(struct dvsm_snapshot_take),
};

FIXTURE_VARIANT_ADD(command, snapshot_restore) {
	.cmd = DVSM_IOC_SNAPSHOT_RESTORE,
	.size = sizeof(struct dvsm_snapshot_restore),
	.size_min = END_OF(struct dvsm_snapshot_restore, out_restored),
	.outputs = { SPAN(struct dvsm_snapshot_restore, out_restored, out_restored) },
	.reserved = SPAN(struct dvsm_snapshot_restore, reserved, reserved),
	.writes = true,
	.fill = fill_restore,
};

FIXTURE_VARIANT_ADD(command, snapshot_merge) {
	.cmd = DVSM_IOC_SNAPSHOT_MERGE,
	.size = sizeof(struct dvsm_snapshot_merge),
	.size_min = END_OF(struct dvsm_snapshot_merge, out_merged),
	.known_flags = DVSM_MERGE_F_SNAPSHOT_WINS | DVSM_MERGE_F_PARENT_WINS,
	.outputs = {
		SPAN(struct dvsm_snapshot_merge, out_nr_conflicts, out_nr_conflicts),
		SPAN(struct dvsm_snapshot_merge, out_merged, out_merged),
	},
	.reserved = SPAN(struct dvsm_snapshot_merge, reserved, reserved),
	.writes = true,
	.fill = fill_merge,
};

FIXTURE_VARIANT_ADD(command, region_migrate) {
	.cmd = DVSM_IOC_REGION_MIGRATE,
	.size = sizeof(struct dvsm_region_migrate),
	.size_min = END_OF(struct dvsm_region_migrate, out_failed),
	.outputs = { SPAN(struct dvsm_region_migrate, out_next, out_pinned_device) },
	.writes = true,
	.fill = fill_migrate,
	.range = RANGE(struct dvsm_region_migrate),
};

FIXTURE_SETUP(command)
{
	struct dvsm_snapshot_take take = { .size = sizeof(take) };
	struct dvsm_region_watch watch = { .size = sizeof(watch) };
	struct dvsm_region_info info;

	OPEN_DEVICE_OR_SKIP(self->dev);
	self->region = region_create(self->dev, COMMAND_LENGTH, 0);
	ASSERT_LE(0, self->region);
	unpin_region = self->region;
	names_dev = self->dev;
	members_region = self->region;
	self->read_only = region_reopen(self->region, DVSM_REOPEN_F_READ_ONLY);
	ASSERT_LE(0, self->read_only);
	self->snapshot = ioctl(self->region, DVSM_IOC_SNAPSHOT_TAKE, &take);
	ASSERT_LE(0, self->snapshot);
	ASSERT_EQ(0, region_info(self->region, &info));
	watch.id = info.out_id;
	self->watch = ioctl(self->dev, DVSM_IOC_REGION_WATCH, &watch);
	ASSERT_LE(0, self->watch);
}

FIXTURE_TEARDOWN_PARENT(command)
{
	EXPECT_NO_LEAK();
}

#endif /* DVSM_SELFTEST_IOCTL_COMMANDS_H */
