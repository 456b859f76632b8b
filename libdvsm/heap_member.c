// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Members of a heap, and what becomes of their blocks when they die.
 *
 * The region's module tells who died. The allocator itself does not need it: lanes are robust locks on every backend.
 */
#include <fcntl.h>
#include <unistd.h>

#include <dvsm/events.h>

#include "heap_slab.h"

int dvsm_heap_join(struct dvsm_heap *heap, uint64_t owner)
{
	if (!owner)
		return dvsm_fail(EINVAL);
	return heap->region ? dvsm_region_join(heap->region, owner) : dvsm_fail(EOPNOTSUPP);
}

int dvsm_heap_leave(struct dvsm_heap *heap, uint64_t owner)
{
	return heap->region ? dvsm_region_leave(heap->region, owner) : dvsm_fail(EOPNOTSUPP);
}

int dvsm_heap_events(const struct dvsm_heap *heap)
{
	return heap->region ? dvsm_region_events(heap->region) : dvsm_fail(EOPNOTSUPP);
}

/* Between a look and the read somebody else may read it all: so it is the read that must not wait. */
static int dvsm_events_never_wait(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK)))
		return -errno;
	return 0;
}

/* Bytes of what there is to read now; 0 for nothing. */
static ssize_t dvsm_events_read(int fd, struct dvsm_event *events, size_t size)
{
	ssize_t length = read(fd, events, size);

	return length >= 0 ? length : errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

long dvsm_heap_reap(struct dvsm_heap *heap, int fd)
{
	struct dvsm_event events[32];
	struct dvsm_hold hold;
	bool lost = false;
	ssize_t length;
	size_t i, nr = 0;
	int error, cancel;

	error = dvsm_events_never_wait(fd);
	if (error)
		return dvsm_fail(error);
	cancel = dvsm_cancel_off();
	/* Lane and others' work before the events: what has been read is never told again, and so cannot be refused. */
	if (!dvsm_owners_begin(heap, &hold)) {
		dvsm_cancel_on(cancel);
		return dvsm_fail(EBUSY);
	}
	while ((length = dvsm_events_read(fd, events, sizeof(events))) > 0) {
		/* Once more, for who died since. Whoever stops just now, at work for one of these, is waited for. */
		while (!dvsm_lanes_finish(heap))
			;
		for (i = 0; i < (size_t)length / sizeof(*events); i++) {
			if (events[i].type == DVSM_EVENT_LOST)
				lost = true;
			else if (events[i].cookie)
				nr += dvsm_owner_free(&hold, events[i].cookie);
		}
	}
	dvsm_owners_end(&hold);
	dvsm_cancel_on(cancel);
	dvsm_lanes_recover(heap, false);
	if (lost)
		return dvsm_fail(EOVERFLOW);
	return length < 0 ? dvsm_fail((int)length) : (long)nr;
}
