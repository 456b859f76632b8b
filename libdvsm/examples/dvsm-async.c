// SPDX-License-Identifier: GPL-2.0-only
/*
 * dvsm-async - an event loop that goes on ticking while a region is populated.
 *
 *   dvsm-async [MIB] [CANCEL_MS]
 *
 * Populates a region of MIB (512) twice: by a call, which stops the loop, and by the
 * loop's own ring; then takes a snapshot by the ring. Prints the longest time between
 * two ticks of each. With CANCEL_MS the populate by the ring is cancelled after so long.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <liburing.h>

#include <dvsm/dvsm.h>

#define TICK_MS		2
#define CANCEL		UINT64_MAX	/* user_data of the cancel's own CQE */

struct loop {
	struct io_uring ring;
	double last;		/* tick, in milliseconds */
	double longest;		/* between two */
	unsigned int nr_ticks;
};

static double now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e3 + time.tv_nsec * 1e-6;
}

static void loop_start(struct loop *loop)
{
	loop->last = now_ms();
	loop->longest = 0;
	loop->nr_ticks = 0;
}

static void loop_tick(struct loop *loop)
{
	double now = now_ms();

	if (now - loop->last > loop->longest)
		loop->longest = now - loop->last;
	loop->last = now;
	loop->nr_ticks++;
}

/* Ticks until the command @user_data has completed; returns its result. */
static int loop_run(struct loop *loop, uint64_t user_data, double cancel_ms)
{
	struct __kernel_timespec tick = { .tv_nsec = TICK_MS * 1000000 };
	double cancel_at = cancel_ms ? now_ms() + cancel_ms : 0;
	struct io_uring_cqe *cqe;
	uint64_t who;
	int result;

	for (;;) {
		if (cancel_at && now_ms() >= cancel_at) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

			io_uring_prep_cancel64(sqe, user_data, 0);
			io_uring_sqe_set_data64(sqe, CANCEL);
			io_uring_submit(&loop->ring);
			cancel_at = 0;
		}
		result = io_uring_wait_cqe_timeout(&loop->ring, &cqe, &tick);
		loop_tick(loop);
		if (result == -ETIME || result == -EINTR)
			continue;
		if (result)
			return result;
		who = io_uring_cqe_get_data64(cqe);
		result = cqe->res;
		io_uring_cqe_seen(&loop->ring, cqe);
		if (who == user_data)
			return result;
	}
}

static int fail(const char *what, int error)
{
	fprintf(stderr, "dvsm-async: %s: %s\n", what, strerror(error < 0 ? -error : error));
	return 1;
}

int main(int argc, char **argv)
{
	uint64_t length = (argc > 1 ? strtoull(argv[1], NULL, 0) : 512) << 20;
	double cancel_ms = argc > 2 ? strtod(argv[2], NULL) : 0;
	struct dvsm_region *region, *snapshot;
	struct io_uring_sqe *sqe;
	union dvsm_async async;
	struct loop loop;
	int result;

	region = dvsm_region_create(length, NULL);
	if (!region)
		return fail("region", errno);
	result = io_uring_queue_init(8, &loop.ring, 0);
	if (result)
		return fail("io_uring", result);

	loop_start(&loop);
	result = dvsm_region_populate(region, 0, 0, 0, NULL);
	loop_tick(&loop);
	if (result)
		return fail("populate", result);
	printf("dvsm-async: populate of %llu MiB: longest tick %.0f ms by a call\n",
	       (unsigned long long)length >> 20, loop.longest);
	result = dvsm_region_discard(region, 0, 0, NULL);
	if (result)
		return fail("discard", result);

	sqe = dvsm_region_populate_async(region, &loop.ring, &async, 0, 0, 0);
	if (!sqe)
		return fail("populate by the ring", errno);
	io_uring_sqe_set_data64(sqe, 1);
	loop_start(&loop);
	io_uring_submit(&loop.ring);
	result = loop_run(&loop, 1, cancel_ms);
	if (result && !(cancel_ms && result == -ECANCELED))
		return fail("populate by the ring", result);
	printf("dvsm-async: populate of %llu MiB: longest tick %.0f ms by the ring, of %u%s\n",
	       (unsigned long long)async.populate.out_populated >> 20, loop.longest,
	       loop.nr_ticks, result ? ", cancelled" : "");

	sqe = dvsm_snapshot_take_async(region, &loop.ring, &async, NULL);
	if (!sqe)
		return fail("snapshot by the ring", errno);
	io_uring_sqe_set_data64(sqe, 2);
	loop_start(&loop);
	io_uring_submit(&loop.ring);
	result = loop_run(&loop, 2, 0);
	snapshot = result < 0 ? NULL : dvsm_region_open(result, NULL);
	if (!snapshot)
		return fail("snapshot by the ring", result < 0 ? result : errno);
	printf("dvsm-async: snapshot: longest tick %.0f ms by the ring, of %u\n",
	       loop.longest, loop.nr_ticks);

	dvsm_region_destroy(snapshot);
	dvsm_region_destroy(region);
	io_uring_queue_exit(&loop.ring);
	return 0;
}
