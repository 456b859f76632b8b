/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dvsmctl: each noun or verb is a file, dvsmctl_NAME.c, with one function that gets the words behind it.
 * What they say of a region is worded once, in dvsmctl_region.c.
 */
#ifndef DVSMCTL_H
#define DVSMCTL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <dvsm/dvsm.h>

#define DVSMCTL_USAGE	2	/* exit status: not understood */
#define DVSMCTL_NODES	64	/* nodes that are told one by one */

/* argv[0] is the noun or verb. Return: exit status. */
int dvsmctl_heap(int argc, char **argv);
int dvsmctl_list(int argc, char **argv);
int dvsmctl_show(int argc, char **argv);
int dvsmctl_top(int argc, char **argv);

/* dvsmctl_region.c: which region is meant, and its words */

/* Return: whether @text is a decimal number of at least @least, which @number gets. */
bool dvsmctl_number(const char *text, int least, int *number);

struct dvsmctl_target {
	const char *name;	/* an id, a label, or a path; NULL where @fd is given */
	int fd, pid;		/* -1: none */
	bool misread;		/* one of them was no number */
};

#define DVSMCTL_TARGET_OPTIONS								\
	{ "fd", required_argument, NULL, 'f' }, { "pid", required_argument, NULL, 'p' }

/* Takes the options f and p. Return: whether it was one of them. */
bool dvsmctl_target_option(struct dvsmctl_target *target, int option, const char *value);
/* Return: whether it is one region that is meant. */
bool dvsmctl_target_is_clear(const struct dvsmctl_target *target);
/* Return: a descriptor; -1 and errno. */
int dvsmctl_target_open(const struct dvsmctl_target *target);
/* Return: a handle, which is the caller's; NULL where it has said why not. */
struct dvsm_region *dvsmctl_region_open(const struct dvsmctl_target *target);
/* All regions that can be seen, to be freed; -1 where it has said why not. */
int dvsmctl_region_list(struct dvsm_region_entry **entries);

const char *dvsmctl_policy(uint32_t policy);
/* @mode: DVSM_BALANCE_, or an error. NULL: not known. */
const char *dvsmctl_balance(int mode);
/* "huge-required,pinned", or "-". */
const char *dvsmctl_flags(uint32_t flags, char *text, size_t size);
json_t *dvsmctl_flags_json(uint32_t flags);
/* "4 KiB", "2.5 GiB" */
const char *dvsmctl_bytes(uint64_t bytes, char *text, size_t size);
/* Prints and frees; exit status. */
int dvsmctl_print_json(json_t *json);

#endif /* DVSMCTL_H */
