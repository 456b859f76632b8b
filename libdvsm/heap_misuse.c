// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a program did that it must not: a message, and the end of the process that did it, not of its thread alone.
 *
 * Nothing that the program could have damaged is needed to say so: no allocation, no stdio.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heap_slab.h"

static char *dvsm_put_text(char *at, const char *text)
{
	size_t length = strlen(text);

	memcpy(at, text, length);
	return at + length;
}

static char *dvsm_put_hex(char *at, uint64_t value)
{
	int shift;

	at = dvsm_put_text(at, "0x");
	for (shift = 60; shift > 0 && !(value >> shift); shift -= 4)
		;
	for (; shift >= 0; shift -= 4)
		*at++ = "0123456789abcdef"[value >> shift & 15];
	return at;
}

__attribute__((cold)) void dvsm_misuse(const struct dvsm_heap *heap, enum dvsm_misuse what,
				       const void *address)
{
	char line[128], *at = line;

	dvsm_cancel_off();
	at = dvsm_put_text(at, "dvsm: ");
	at = dvsm_put_text(at, what == DVSM_MISUSE_DOUBLE_FREE ? "double free of " :
								   "invalid pointer ");
	at = dvsm_put_hex(at, (uintptr_t)address);
	*at++ = '\n';
	if (write(STDERR_FILENO, line, (size_t)(at - line)) < 0)
		at = line;
	if (heap->header)
		atomic_fetch_add(&heap->header->nr_misuses, 1);
	abort();
}
