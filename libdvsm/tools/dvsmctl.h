/* SPDX-License-Identifier: GPL-2.0-only */
/* dvsmctl: each noun is a file, dvsmctl_NOUN.c, with one function that gets the words behind the noun. */
#ifndef DVSMCTL_H
#define DVSMCTL_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DVSMCTL_USAGE	2	/* exit status: not understood */

/* argv[0] is the noun. Return: exit status. */
int dvsmctl_heap(int argc, char **argv);

#endif /* DVSMCTL_H */
