// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measures of memory that is used for a while, as NUMA balancing looks at it: on its
 * defaults, at the begin of a process, when it looks most often.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <linux/dvsm.h>

#include "kernel_bench.h"

#define NR_ACCESSES	(1000UL * 1000)	/* of a sample */
#define NR_SAMPLES	300		/* some seconds of a machine of 1 GHz */

static int scanning_set(bool on)
{
	int fd = open("/proc/sys/kernel/numa_balancing", O_WRONLY | O_CLOEXEC);
	int ret = fd < 0 || write(fd, on ? "1" : "0", 1) != 1 ? -EOPNOTSUPP : 0;

	if (fd >= 0)
		close(fd);
	return ret;
}

/* Reads and writes at random; the seed goes on from sample to sample. */
static void use(volatile char *map, size_t size, uint64_t *seed)
{
	uint64_t random = *seed;
	unsigned long i;

	for (i = 0; i < NR_ACCESSES; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		map[random % size]++;
	}
	*seed = random;
}

/* One value: most samples meet no scan, and a median would not see the others. */
static int use_mode(const struct memory *memory, struct samples *samples, uint32_t mode)
{
	struct dvsm_region_balance balance = { .size = sizeof(balance), .mode = mode };
	uint64_t seed = 88172645463325252ULL, start;
	struct resident resident;
	unsigned int i;
	int ret;

	ret = scanning_set(mode != DVSM_BALANCE_KEEP);
	if (ret)
		return ret;
	ret = resident_make(&resident, memory, nr_large_chunks * CHUNK);
	if (ret)
		return ret;
	if (mode != DVSM_BALANCE_KEEP &&
	    ioctl(resident.fd, DVSM_IOC_REGION_BALANCE, &balance))
		return -errno;
	resident_touch(&resident);
	start = clock_read();
	for (i = 0; i < NR_SAMPLES; i++)
		use(resident.map, resident.size, &seed);
	samples_add(samples, (double)(clock_read() - start) / NR_SAMPLES);
	balance.mode = DVSM_BALANCE_KEEP;
	if (ioctl(resident.fd, DVSM_IOC_REGION_BALANCE, &balance))
		return -errno;
	scanning_set(true);
	ret = resident_end(&resident);
	/* Else the two would be the same for a wrong reason. */
	return !ret && (mode == DVSM_BALANCE_OBSERVE) != !!balance.out_nr_hints ? -EIO : ret;
}

static int use_unscanned(const struct memory *memory, struct samples *samples)
{
	return use_mode(memory, samples, DVSM_BALANCE_KEEP);
}

static int use_off(const struct memory *memory, struct samples *samples)
{
	return use_mode(memory, samples, DVSM_BALANCE_OFF);
}

static int use_observed(const struct memory *memory, struct samples *samples)
{
	return use_mode(memory, samples, DVSM_BALANCE_OBSERVE);
}

const struct measure use_measures[] = {
	{ "use-unscanned", "a million random accesses, kernel.numa_balancing=0", MEMORY_DVSM,
	  .run = use_unscanned },
	{ "use-off", "the same with it on, the region's balancing off", MEMORY_DVSM,
	  .run = use_off },
	{ "use-observe", "the same, the region observed", MEMORY_DVSM, .run = use_observed },
	{},
};
