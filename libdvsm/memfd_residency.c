// SPDX-License-Identifier: LGPL-2.1-or-later
/* What a memfd's chunks are made of: not there yet. */
#include "internal.h"

int dvsm_memfd_residency(const struct dvsm_region *region, uint64_t offset, uint64_t end,
			 struct dvsm_chunk *chunks, uint32_t nr_chunks, uint64_t *next)
{
	(void)region, (void)offset, (void)end, (void)chunks, (void)nr_chunks, (void)next;
	return -EOPNOTSUPP;
}
