// SPDX-License-Identifier: GPL-2.0-only
/*
 * The chunk map: one cell for each chunk, or for each group of 2, 4, 8, ... chunks where there
 * are too many. A cell is two characters, so that it can be read without colours: the node, and
 * a letter for what the memory is.
 */
#include <stdio.h>

#include "dvsmctl_map.h"

#define CELL_WIDTH	3
#define MARGIN		15	/* "0x%012x " */
#define LINES_MAX	32
#define CELLS_MAX	256		/* on a line */

#define NODE_NONE	(-2)

/* What the chunks of a cell have. */
struct cell {
	int node;		/* NODE_NONE, DVSM_NODE_MIXED, or the one node */
	uint32_t flags;		/* DVSM_CHUNK_F_ that some have */
	bool has_small;		/* some chunk is not one 2 MiB folio */
};

static void cell_add(struct cell *cell, const struct dvsm_chunk *chunk)
{
	cell->node = cell->node == NODE_NONE || cell->node == chunk->node ? chunk->node :
									 DVSM_NODE_MIXED;
	cell->flags |= chunk->flags;
	cell->has_small |= !(chunk->flags & DVSM_CHUNK_F_HUGE);
}

static char cell_node(const struct cell *cell)
{
	if (cell->node == NODE_NONE)
		return '.';
	if (cell->node == DVSM_NODE_MIXED)
		return '*';
	return cell->node < 10 ? (char)('0' + cell->node) : '+';
}

static char cell_letter(const struct cell *cell)
{
	if (cell->node == NODE_NONE)
		return '.';
	if (cell->flags & DVSM_CHUNK_F_POISONED)
		return '!';
	if (cell->flags & DVSM_CHUNK_F_PINNED)
		return cell->has_small ? 'p' : 'P';
	if (cell->flags & DVSM_CHUNK_F_SHARED)
		return cell->has_small ? 's' : 'S';
	return cell->has_small ? 'h' : 'H';
}

/* Nodes are colours (the mixed ones white), pinned is bold, shared underlined, small folios dim. */
static void cell_print(const struct cell *cell, bool colour)
{
	static const int colours[] = { 32, 34, 33, 35, 36, 31 };
	const int nr_colours = sizeof(colours) / sizeof(*colours);

	if (!colour || cell->node == NODE_NONE) {
		printf("%c%c ", cell_node(cell), cell_letter(cell));
		return;
	}
	printf("\033[%d%s%s%s%sm%c%c\033[0m ",
	       cell->node < 0 ? 37 : colours[cell->node % nr_colours],
	       cell->flags & DVSM_CHUNK_F_PINNED ? ";1" : "",
	       cell->flags & DVSM_CHUNK_F_SHARED ? ";4" : "", cell->has_small ? ";2" : "",
	       cell->flags & DVSM_CHUNK_F_POISONED ? ";7" : "", cell_node(cell), cell_letter(cell));
}

static void legend_print(uint64_t group, bool colour)
{
	if (group == 1)
		printf("A cell is one chunk of 2 MiB: its node, and a letter.\n");
	else
		printf("A cell is %llu chunks of 2 MiB: their node, and a letter for what some are.\n",
		       (unsigned long long)group);
	printf("  0-9 the node (+ above 9), * several   .. no memory\n"
	       "  H one 2 MiB folio   S and shared with snapshots   P and pinned\n"
	       "  h s p made of smaller folios   ! poisoned\n");
	if (colour)
		printf("  colour: node; bold: pinned; underlined: shared; dim: smaller folios\n");
}

/* One line of cells; what it used of the chunks. */
static uint32_t line_fill(struct cell *cells, uint64_t nr_cells, uint64_t first, uint64_t group,
			  const struct dvsm_chunk *chunks, uint32_t nr_chunks)
{
	uint64_t i, at;
	uint32_t used;

	for (i = 0; i < nr_cells; i++)
		cells[i] = (struct cell){ .node = NODE_NONE };
	for (used = 0; used < nr_chunks; used++) {
		at = chunks[used].offset / DVSM_CHUNK_SIZE - first;
		if (at / group >= nr_cells)
			break;
		cell_add(&cells[at / group], &chunks[used]);
	}
	return used;
}

void dvsmctl_map_print(const struct dvsm_chunk *chunks, uint32_t nr_chunks, uint64_t length,
		       int width, bool colour)
{
	uint64_t all = (length + DVSM_CHUNK_SIZE - 1) / DVSM_CHUNK_SIZE, first, left, i;
	uint64_t per_line = (uint64_t)(width - MARGIN) / CELL_WIDTH, group = 1;
	struct cell cells[CELLS_MAX];
	uint32_t used = 0, before;
	bool empty = false;

	if (per_line > CELLS_MAX)
		per_line = CELLS_MAX;
	while (all > per_line * LINES_MAX * group)
		group *= 2;
	legend_print(group, colour);
	for (first = 0; first < all; first += per_line * group) {
		left = (all - first + group - 1) / group;
		left = left < per_line ? left : per_line;
		before = used;
		used += line_fill(cells, left, first, group, chunks + used, nr_chunks - used);
		/* Of empty lines the first is drawn. */
		if (used == before && empty)
			continue;
		empty = used == before;
		printf("0x%012llx ", (unsigned long long)first * DVSM_CHUNK_SIZE);
		for (i = 0; i < left; i++)
			cell_print(&cells[i], colour);
		putchar('\n');
	}
	if (empty && all > per_line * group)
		printf("(lines without memory are left out)\n");
}
