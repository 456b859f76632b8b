/* SPDX-License-Identifier: GPL-2.0-only */
/* The chunk map of a region, drawn for a terminal. */
#ifndef DVSMCTL_MAP_H
#define DVSMCTL_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include <dvsm/region.h>

#define DVSMCTL_MAP_WIDTH_MIN	24	/* columns */

/* @chunks are in order of offset; @length is the region's, in bytes. */
void dvsmctl_map_print(const struct dvsm_chunk *chunks, uint32_t nr_chunks, uint64_t length,
		       int width, bool colour);

#endif /* DVSMCTL_MAP_H */
