// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commands: a table of their structs' fields says how bytes of the input become
 * arguments. A new command needs one row.
 */
#include <linux/io_uring.h>

#include "fuzz.h"

enum fuzz_kind {
	FUZZ_END,
	FUZZ_BYTES,		/* an offset or a length */
	FUZZ_FLAGS,
	FUZZ_FD,
	FUZZ_ARRAY,		/* a pointer to what the command writes; takes no byte of the input */
	FUZZ_COUNT,
	FUZZ_NODES,		/* a pointer to a node set; takes no byte */
	FUZZ_WEIGHTS,		/* a pointer to weights; takes no byte */
	FUZZ_NAME,
	FUZZ_GRANULARITY,
};

struct fuzz_field {
	uint16_t offset;
	uint16_t width;
	uint8_t kind;		/* enum fuzz_kind */
};

#define FIELD(type, member, kind) \
	{ offsetof(struct type, member), sizeof(((struct type *)0)->member), FUZZ_##kind }
#define RANGE(type) FIELD(type, offset, BYTES), FIELD(type, length, BYTES)

struct fuzz_row {
	unsigned int cmd;
	uint16_t size;
	bool makes_fd;
	struct fuzz_field fields[8];
};

static const struct fuzz_row rows[] = {
	{ DVSM_IOC_INFO, sizeof(struct dvsm_info), false, {} },
	{ DVSM_IOC_REGION_CREATE, sizeof(struct dvsm_region_create), true, {
		FIELD(dvsm_region_create, flags, FLAGS), FIELD(dvsm_region_create, length, BYTES),
		FIELD(dvsm_region_create, policy, COUNT), FIELD(dvsm_region_create, nr_nodes, COUNT),
		FIELD(dvsm_region_create, nodes, NODES), FIELD(dvsm_region_create, weights, WEIGHTS) } },
	{ DVSM_IOC_NAME_CREATE, sizeof(struct dvsm_name_create), false, {
		FIELD(dvsm_name_create, flags, FLAGS), FIELD(dvsm_name_create, region, FD),
		FIELD(dvsm_name_create, mode, COUNT), FIELD(dvsm_name_create, name, NAME) } },
	{ DVSM_IOC_NAME_OPEN, sizeof(struct dvsm_name_open), true, {
		FIELD(dvsm_name_open, flags, FLAGS), FIELD(dvsm_name_open, name, NAME) } },
	{ DVSM_IOC_NAME_UNLINK, sizeof(struct dvsm_name_unlink), false, {
		FIELD(dvsm_name_unlink, flags, FLAGS), FIELD(dvsm_name_unlink, name, NAME) } },
	{ DVSM_IOC_NAME_LIST, sizeof(struct dvsm_name_list), false, {
		FIELD(dvsm_name_list, cursor, COUNT), FIELD(dvsm_name_list, names, ARRAY),
		FIELD(dvsm_name_list, nr_names, COUNT) } },
	{ DVSM_IOC_REGION_INFO, sizeof(struct dvsm_region_info), false, {} },
	{ DVSM_IOC_REGION_NODES, sizeof(struct dvsm_region_nodes), false, {
		FIELD(dvsm_region_nodes, nodes, ARRAY), FIELD(dvsm_region_nodes, nr_nodes, COUNT) } },
	{ DVSM_IOC_REGION_POPULATE, sizeof(struct dvsm_region_populate), false, {
		FIELD(dvsm_region_populate, flags, FLAGS), RANGE(dvsm_region_populate),
		FIELD(dvsm_region_populate, nr_threads, COUNT) } },
	{ DVSM_IOC_REGION_DISCARD, sizeof(struct dvsm_region_discard), false, {
		FIELD(dvsm_region_discard, flags, FLAGS), RANGE(dvsm_region_discard) } },
	{ DVSM_IOC_REGION_RESIDENCY, sizeof(struct dvsm_region_residency), false, {
		RANGE(dvsm_region_residency), FIELD(dvsm_region_residency, chunks, ARRAY),
		FIELD(dvsm_region_residency, nr_chunks, COUNT) } },
	{ DVSM_IOC_REGION_REOPEN, sizeof(struct dvsm_region_reopen), true, {
		FIELD(dvsm_region_reopen, flags, FLAGS) } },
	{ DVSM_IOC_REGION_UNSHARE, sizeof(struct dvsm_region_unshare), false, {
		FIELD(dvsm_region_unshare, flags, FLAGS), RANGE(dvsm_region_unshare) } },
	{ DVSM_IOC_REGION_DIFF, sizeof(struct dvsm_region_diff), false, {
		FIELD(dvsm_region_diff, flags, FLAGS), RANGE(dvsm_region_diff), FIELD(dvsm_region_diff, ranges, ARRAY),
		FIELD(dvsm_region_diff, nr_ranges, COUNT), FIELD(dvsm_region_diff, other, FD) } },
	{ DVSM_IOC_REGION_PIN, sizeof(struct dvsm_region_pin), false, {
		FIELD(dvsm_region_pin, flags, FLAGS), RANGE(dvsm_region_pin) } },
	{ DVSM_IOC_REGION_UNPIN, sizeof(struct dvsm_region_unpin), false, {
		FIELD(dvsm_region_unpin, flags, FLAGS), RANGE(dvsm_region_unpin) } },
	{ DVSM_IOC_REGION_EXPORT_DMABUF, sizeof(struct dvsm_region_export_dmabuf), true, {
		FIELD(dvsm_region_export_dmabuf, flags, FLAGS), RANGE(dvsm_region_export_dmabuf) } },
	{ DVSM_IOC_REGION_EXTENTS, sizeof(struct dvsm_region_extents), false, {
		RANGE(dvsm_region_extents), FIELD(dvsm_region_extents, ranges, ARRAY),
		FIELD(dvsm_region_extents, nr_ranges, COUNT) } },
	{ DVSM_IOC_REGION_EVENTS, sizeof(struct dvsm_region_events), true, {
		FIELD(dvsm_region_events, flags, FLAGS) } },
	{ DVSM_IOC_REGION_JOIN, sizeof(struct dvsm_region_join), false, {
		FIELD(dvsm_region_join, flags, FLAGS), FIELD(dvsm_region_join, cookie, COUNT) } },
	{ DVSM_IOC_REGION_LEAVE, sizeof(struct dvsm_region_leave), false, {
		FIELD(dvsm_region_leave, flags, FLAGS), FIELD(dvsm_region_leave, cookie, COUNT) } },
	{ DVSM_IOC_REGION_MEMBERS, sizeof(struct dvsm_region_members), false, {
		FIELD(dvsm_region_members, cursor, COUNT), FIELD(dvsm_region_members, members, ARRAY),
		FIELD(dvsm_region_members, nr_members, COUNT) } },
	{ DVSM_IOC_REGION_PLACE, sizeof(struct dvsm_region_place), false, {
		FIELD(dvsm_region_place, flags, FLAGS), RANGE(dvsm_region_place),
		FIELD(dvsm_region_place, policy, COUNT), FIELD(dvsm_region_place, nr_nodes, COUNT),
		FIELD(dvsm_region_place, nodes, NODES), FIELD(dvsm_region_place, weights, WEIGHTS) } },
	{ DVSM_IOC_REGION_PROMOTE, sizeof(struct dvsm_region_promote), false, {
		FIELD(dvsm_region_promote, flags, FLAGS), RANGE(dvsm_region_promote) } },
	{ DVSM_IOC_REGION_SPLIT, sizeof(struct dvsm_region_split), false, {
		FIELD(dvsm_region_split, flags, FLAGS), RANGE(dvsm_region_split) } },
	{ DVSM_IOC_SNAPSHOT_TAKE, sizeof(struct dvsm_snapshot_take), true, {
		FIELD(dvsm_snapshot_take, flags, FLAGS), RANGE(dvsm_snapshot_take),
		FIELD(dvsm_snapshot_take, granularity, GRANULARITY) } },
	{ DVSM_IOC_SNAPSHOT_RESTORE, sizeof(struct dvsm_snapshot_restore), false, {
		FIELD(dvsm_snapshot_restore, flags, FLAGS), FIELD(dvsm_snapshot_restore, snapshot, FD) } },
	{ DVSM_IOC_SNAPSHOT_MERGE, sizeof(struct dvsm_snapshot_merge), false, {
		FIELD(dvsm_snapshot_merge, flags, FLAGS), FIELD(dvsm_snapshot_merge, snapshot, FD),
		FIELD(dvsm_snapshot_merge, nr_conflicts, COUNT), FIELD(dvsm_snapshot_merge, conflicts, ARRAY) } },
	{ DVSM_IOC_REGION_MIGRATE, sizeof(struct dvsm_region_migrate), false, {
		RANGE(dvsm_region_migrate), FIELD(dvsm_region_migrate, nr_nodes, COUNT),
		FIELD(dvsm_region_migrate, nodes, NODES), FIELD(dvsm_region_migrate, nr_from, COUNT),
		FIELD(dvsm_region_migrate, from, NODES) } },
	{ DVSM_IOC_REGION_LIST, sizeof(struct dvsm_region_list), false, {
		FIELD(dvsm_region_list, cursor, COUNT), FIELD(dvsm_region_list, regions, ARRAY),
		FIELD(dvsm_region_list, nr_regions, COUNT) } },
	{ DVSM_IOC_REGION_WATCH, sizeof(struct dvsm_region_watch), true, {
		FIELD(dvsm_region_watch, flags, FLAGS), FIELD(dvsm_region_watch, id, COUNT) } },
	{ DVSM_IOC_REGION_FIND, sizeof(struct dvsm_region_find), true, {
		FIELD(dvsm_region_find, flags, FLAGS), FIELD(dvsm_region_find, address, ARRAY) } },
	{ DVSM_IOC_REGION_BALANCE, sizeof(struct dvsm_region_balance), false, {
		FIELD(dvsm_region_balance, mode, COUNT), FIELD(dvsm_region_balance, uses, ARRAY),
		FIELD(dvsm_region_balance, nr_nodes, COUNT) } },
};

uint64_t fuzz_bytes(uint8_t arg)
{
	static const uint64_t values[] = {
		0, CHUNK, 2 * CHUNK, 3 * CHUNK, 4 * CHUNK, 0, CHUNK, PAGE,
		2 * PAGE, 16 * PAGE, 17 * PAGE, 100 * PAGE, 256 * PAGE, CHUNK - PAGE, CHUNK + PAGE, CHUNK + 256 * PAGE,
		2 * CHUNK - PAGE, 2 * CHUNK + PAGE, 3 * CHUNK + 5 * PAGE, 4 * CHUNK - PAGE, 6 * CHUNK, 8 * CHUNK, 1, PAGE - 1,
		PAGE + 1, CHUNK - 1, 1ULL << 46, (1ULL << 46) - PAGE, 1ULL << 63, INT64_MAX & ~(PAGE - 1), -PAGE, UINT64_MAX,
	};

	return values[arg % ARRAY_SIZE(values)];
}

int fuzz_fd_get(unsigned int slot)
{
	return __atomic_load_n(&fuzz_world.fds[slot % FUZZ_FDS], __ATOMIC_RELAXED);
}

/* The old one is closed, once, whoever else sets the same slot. */
void fuzz_fd_set(unsigned int slot, int fd)
{
	int old = __atomic_exchange_n(&fuzz_world.fds[slot % FUZZ_FDS], fd, __ATOMIC_RELAXED);

	if (old >= 0)
		close(old);
}

/* Arguments that are wrong, or lie where it hurts. */
enum {
	ODD_SHORT,
	ODD_LONG,		/* longer, zeroes at the end */
	ODD_LONG_TAIL,		/* longer, something else there */
	ODD_STRUCT_BAD,		/* the struct is nowhere */
	ODD_STRUCT_IN_WINDOW,	/* it lies in a region, perhaps the one that the command is about */
	ODD_ARRAY_BAD,
	ODD_ARRAY_IN_WINDOW,
	ODD_FLAGS,
	ODD_FILLED,		/* outputs and reserved words are not zero */
	ODD_URING,		/* nothing wrong, but given by io_uring: a worker does it */
	ODD_LAST = 15,		/* those between are as usual */
};

static void fuzz_put(unsigned char *arg, const struct fuzz_field *field, uint64_t value)
{
	memcpy(arg + field->offset, &value, field->width);
}

static void fuzz_fill(unsigned char *arg, const struct fuzz_row *row, const struct fuzz_op *op,
		      struct fuzz_task *task, int odd)
{
	static const uint64_t granularities[] = { 0, PAGE, 65536, CHUNK, 3 * PAGE };
	static const char * const names[] = { "a", "b", "c", "..", "a/b", "" };
	static const uint64_t nodes[] = { 1, 2, 3 };
	static const uint8_t weights[16] = { 1, 3, 0, 255, 2 };
	const struct fuzz_field *field;
	unsigned int next = 0;
	uint8_t byte;

	for (field = row->fields; field->kind; field++) {
		if (field->kind == FUZZ_ARRAY) {
			fuzz_put(arg, field, odd == ODD_ARRAY_BAD ? 0x1000 :
				 odd == ODD_ARRAY_IN_WINDOW ? (uintptr_t)fuzz_window(fuzz_op_window(op)) + CHUNK - 64 :
				 (uintptr_t)task->scratch);
			continue;
		}
		if (field->kind == FUZZ_NODES) {
			/* Policies without a set, or with one. */
			if (op->arg[3] & 0xf)
				fuzz_put(arg, field, (uintptr_t)&nodes[op->arg[3] % ARRAY_SIZE(nodes)]);
			continue;
		}
		if (field->kind == FUZZ_WEIGHTS) {
			if (op->arg[3] & 0x30)
				fuzz_put(arg, field, (uintptr_t)weights + (op->arg[3] >> 6));
			continue;
		}
		byte = op->arg[next++ % FUZZ_ARGS];
		switch (field->kind) {
		case FUZZ_BYTES:
			fuzz_put(arg, field, fuzz_bytes(byte));
			break;
		case FUZZ_FLAGS:
			fuzz_put(arg, field, odd == ODD_FLAGS ? 1ULL << (byte & 31) :
				 (byte & 7) | (byte & 8) << 2);	/* FORK_COPY is the fifth */
			break;
		case FUZZ_FD:
			fuzz_put(arg, field, fuzz_fd_get(byte));
			break;
		case FUZZ_COUNT:
			fuzz_put(arg, field, byte == 255 ? UINT64_MAX : byte & 15);
			break;
		case FUZZ_NAME:
			strcpy((char *)arg + field->offset, names[byte % ARRAY_SIZE(names)]);
			break;
		case FUZZ_GRANULARITY:
			fuzz_put(arg, field, granularities[byte % ARRAY_SIZE(granularities)]);
			break;
		}
	}
	/* Region lengths that fit into memory: the rest is for info and create alone to refuse. */
	if (row->cmd == DVSM_IOC_REGION_CREATE && (op->arg[1] & 0x80)) {
		uint64_t length = (op->arg[1] & 3) + 1;

		length = length * CHUNK + (op->arg[1] & 4 ? PAGE : 0);
		memcpy(arg + offsetof(struct dvsm_region_create, length), &length, sizeof(length));
	}
}

static int fuzz_call(const struct fuzz_task *task, int fd, unsigned int cmd, void *arg, int odd)
{
	struct io_uring_cqe cqe;

	if (odd != ODD_URING || !task->has_ring)
		return ioctl(fd, cmd, arg);
	if (uring_command(&fuzz_world.ring, fd, cmd, arg, 0) || uring_wait(&fuzz_world.ring, &cqe))
		return -1;
	return cqe.res;
}

void fuzz_command(struct fuzz_task *task, const struct fuzz_op *op)
{
	const struct fuzz_row *row = &rows[(op->what - FUZZ_COMMAND) % ARRAY_SIZE(rows)];
	int odd = op->arg[FUZZ_ARGS - 1] >= 0xc0 ? op->arg[FUZZ_ARGS - 1] & ODD_LAST : ODD_LAST;
	unsigned char arg[1024];
	void *at = arg;
	uint32_t size = row->size;
	int ret;

	memset(arg, odd == ODD_FILLED ? 0xff : 0, sizeof(arg));
	if (odd == ODD_LONG_TAIL)
		arg[size + 4] = 1;
	if (odd == ODD_LONG || odd == ODD_LONG_TAIL)
		size += 8;
	if (odd == ODD_SHORT)
		size -= 8;
	memcpy(arg, &size, sizeof(size));
	fuzz_fill(arg, row, op, task, odd);
	if (row->cmd == DVSM_IOC_REGION_EVENTS) {
		uint32_t event_size = sizeof(struct dvsm_event);

		memcpy(arg + offsetof(struct dvsm_region_events, event_size), &event_size, sizeof(event_size));
	}
	if (odd == ODD_STRUCT_BAD)
		at = (void *)0x1000;
	if (odd == ODD_STRUCT_IN_WINDOW) {
		at = fuzz_window(fuzz_op_window(op)) + CHUNK - 16;
		memcpy(at, arg, size);
	}
	ret = fuzz_call(task, fuzz_fd_get(fuzz_op_slot(op)), row->cmd, at, odd);
	if (ret < 0 || !row->makes_fd)
		return;
	fcntl(ret, F_SETFL, O_NONBLOCK);	/* a reader of events would wait for a death */
	fuzz_fd_set(op->arg[4], ret);
}
