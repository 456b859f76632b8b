// SPDX-License-Identifier: LGPL-2.1-or-later
/* Structs that grow: older and newer callers, by the rules of the kernel's ABI. */
#include <string.h>

#include "internal.h"

/*
 * @size is the caller's, @first that of the first version, @known this
 * library's. What the library does not know must be zero.
 */
int dvsm_struct_check(const void *argument, size_t size, size_t first, size_t known)
{
	const unsigned char *bytes = argument;
	size_t at;

	if (size < first)
		return -EINVAL;
	for (at = known; at < size; at++)
		if (bytes[at])
			return -E2BIG;
	return 0;
}

/* Hands over as much of the answer as the caller knows; what only it knows is zero. */
int dvsm_struct_answer(void *argument, size_t size, size_t first, const void *answer,
		       size_t known)
{
	int error = dvsm_struct_check(argument, size, first, known);

	if (!error)
		memcpy(argument, answer, size < known ? size : known);
	return error;
}
