/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What all of libdvsm's headers share: version, conventions, backends.
 *
 * Conventions. A function that returns int answers 0 or a count on success and
 * -errno on failure, and sets errno as well. A function that returns a pointer
 * answers NULL on failure and sets errno. Sizes and offsets are in bytes unless
 * named nr_. A struct that may grow begins with its size, which the caller sets
 * to sizeof; what the library does not know yet must be zero (else E2BIG), and
 * zero means "as before". The library does not allocate with malloc() or start
 * threads, and may be called from several threads at once and after fork(). What is
 * about regions does not print (but for DVSM_DEBUG), exit or keep global state
 * either, so an allocator may stand on it. Heaps (<dvsm/heap.h>) are one: they have
 * a default heap, a list of the process's private heaps and a pthread_atfork()
 * handler for these; and a pointer that was misused, where that is noticed, is told of
 * on standard error and ends the process by abort().
 *
 * Environment: DVSM_BACKEND=device|memfd|memfd-hugetlb|memfd-thp|memfd-4k
 * decides what DVSM_BACKEND_AUTO means (dvsm is another word for device); DVSM_DEBUG=1 lets the library say on
 * standard error which backend it took and why. Both are ignored in setuid
 * programs.
 */
#ifndef DVSM_BASE_H
#define DVSM_BASE_H

#include <stddef.h>
#include <stdint.h>

#include <linux/dvsm.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DVSM_VERSION_MAJOR	0
#define DVSM_VERSION_MINOR	1

/* Marks what the shared library exports. */
#define DVSM_API	__attribute__((__visibility__("default")))

/*
 * Backends: where a region's memory comes from.
 *
 * AUTO takes what DVSM_BACKEND names; without it DEVICE where /dev/dvsm can be
 * opened, else MEMFD; a private heap takes the device only where DVSM_BACKEND or its
 * options name it. MEMFD takes MEMFD_HUGETLB where the pool has pages for the
 * whole region, else MEMFD_THP where the kernel can make huge pages of shared
 * memory at a fault or when it is asked to populate, else MEMFD_4K. A backend
 * that is asked for by name is used or the call fails; a region's own backend is
 * never AUTO or MEMFD.
 */
#define DVSM_BACKEND_AUTO		0
#define DVSM_BACKEND_DEVICE		1	/* /dev/dvsm */
#define DVSM_BACKEND_MEMFD		2	/* the best of the next three */
#define DVSM_BACKEND_MEMFD_HUGETLB	3	/* 2 MiB pages from the pool, reserved at creation */
#define DVSM_BACKEND_MEMFD_THP		4	/* 2 MiB pages where the kernel makes them, else 4 KiB */
#define DVSM_BACKEND_MEMFD_4K		5	/* 4 KiB pages */

/**
 * dvsm_version - version of the library that is running.
 *
 * Return: (major << 16) | minor.
 */
DVSM_API uint32_t dvsm_version(void);

/**
 * dvsm_backend_name - name of a backend, as DVSM_BACKEND takes it.
 * @backend: DVSM_BACKEND_
 *
 * Return: a static string; "unknown" for any other number.
 */
DVSM_API const char *dvsm_backend_name(uint32_t backend);

/**
 * dvsm_info - what a backend can do on this machine, now.
 * @backend: DVSM_BACKEND_, AUTO for the one that a new region would get (whether from
 *   the pool of huge pages depends on its length, too, and is not told)
 * @info: its size and flags set by the caller; receives the rest. Without the
 *   module out_abi_version is 0, and limits, charges and out_nr_regions are 0,
 *   for the library does not know them
 *
 * Return: the DVSM_BACKEND_ that the answer is about, more than 0. -ENOENT,
 * -EACCES, -ENODEV, as open("/dev/dvsm") answers, when DEVICE is asked for and
 * cannot be had; -EINVAL for a size below the first version's, or for a
 * DVSM_BACKEND that names no backend; -E2BIG; -EOPNOTSUPP for flags or a @backend
 * that do not exist.
 */
DVSM_API int dvsm_info(uint32_t backend, struct dvsm_info *info);

#ifdef __cplusplus
}
#endif

#endif /* DVSM_BASE_H */
