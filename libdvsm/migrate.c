// SPDX-License-Identifier: LGPL-2.1-or-later
/* Moving what a region holds to other nodes, by sets of several kinds. */
#include <string.h>

#include "internal.h"

/* libnuma's set: its ABI, so that its header is not needed. */
struct bitmask {
	unsigned long size;	/* bits */
	unsigned long *maskp;
};

static bool dvsm_set_is_empty(uint64_t address, uint32_t nr_nodes)
{
	const uint64_t *nodes = (const uint64_t *)(uintptr_t)address;
	uint32_t node;

	for (node = 0; node < nr_nodes; node++)
		if (nodes[node / 64] >> node % 64 & 1)
			return false;
	return true;
}

static int dvsm_migrate_check(const struct dvsm_region *region,
			      const struct dvsm_region_migrate *migrate, uint64_t *end)
{
	uint64_t length = migrate->length;
	int error;

	error = dvsm_range_check(region, migrate->offset, &length);
	if (error)
		return error;
	if (migrate->flags)
		return -EOPNOTSUPP;
	if (!dvsm_region_is_writable(region))
		return -EBADF;
	if (!migrate->nodes || dvsm_set_is_empty(migrate->nodes, migrate->nr_nodes) ||
	    !migrate->from != !migrate->nr_from)
		return -EINVAL;
	*end = migrate->offset + length;
	return 0;
}

int dvsm_region_migrate(const struct dvsm_region *region, struct dvsm_region_migrate *migrate)
{
	struct dvsm_region_migrate argument = { .size = sizeof(argument) };
	const size_t size = migrate->size, known = size < sizeof(argument) ? size : sizeof(argument);
	uint64_t end;
	int error, ret;

	error = dvsm_struct_check(migrate, size, DVSM_MIGRATE_SIZE_FIRST, sizeof(argument));
	if (error)
		return dvsm_fail(error);
	memcpy(&argument, migrate, offsetof(struct dvsm_region_migrate, out_next));
	argument.size = sizeof(argument);
	error = dvsm_migrate_check(region, &argument, &end);
	if (error)
		return dvsm_fail(error);
	ret = region->ops->migrate(region, end, &argument);
	argument.size = migrate->size;
	argument.length = migrate->length;
	memcpy(migrate, &argument, known);
	return dvsm_result(ret);
}

static int dvsm_region_migrate_to_words(const struct dvsm_region *region, uint64_t offset,
					uint64_t length, const uint64_t *words,
					uint32_t nr_nodes, uint64_t *left)
{
	struct dvsm_region_migrate migrate = {
		.size = sizeof(migrate),
		.offset = offset,
		.length = length,
		.nodes = (uintptr_t)words,
		.nr_nodes = nr_nodes,
	};
	int ret = dvsm_region_migrate(region, &migrate);

	if (left)
		*left = migrate.out_pinned + migrate.out_referenced + migrate.out_failed;
	return ret;
}

int dvsm_region_migrate_to_node(const struct dvsm_region *region, uint64_t offset,
				uint64_t length, int node, uint64_t *left)
{
	uint64_t words[DVSM_NODES_WORDS] = { 0 };

	if (node < 0 || node >= DVSM_NODES_MAX)
		return dvsm_fail(EINVAL);
	words[node / 64] = 1ULL << node % 64;
	return dvsm_region_migrate_to_words(region, offset, length, words, (uint32_t)node + 1,
					    left);
}

int dvsm_region_migrate_to_nodes(const struct dvsm_region *region, uint64_t offset,
				 uint64_t length, const struct bitmask *nodes, uint64_t *left)
{
	const unsigned long bits = 8 * sizeof(unsigned long);
	uint64_t words[DVSM_NODES_WORDS] = { 0 };
	unsigned long node;
	uint32_t nr_nodes = 0;

	for (node = 0; node < nodes->size; node++) {
		if (!(nodes->maskp[node / bits] >> node % bits & 1))
			continue;
		if (node >= DVSM_NODES_MAX)
			return dvsm_fail(EINVAL);
		words[node / 64] |= 1ULL << node % 64;
		nr_nodes = (uint32_t)node + 1;
	}
	return dvsm_region_migrate_to_words(region, offset, length, words, nr_nodes, left);
}
