// SPDX-License-Identifier: LGPL-2.1-or-later
/* Where the thread's rseq area is. */

#include "heap_cpu.h"

long dvsm_rseq_offset;

/* glibc 2.35 and later. Weak: an older one has no rseq, and neither have we then. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

/* What threads have in its place then: no CPU. */
static __thread struct dvsm_rseq dvsm_rseq_none __attribute__((tls_model("initial-exec"))) = {
	.cpu_id = (uint32_t)-1,
};

/* An area in which every thread is on no CPU. */
long dvsm_rseq_nowhere(void)
{
	uintptr_t thread;

	asm("movq %%fs:0, %0" : "=r" (thread));
	return (long)((uintptr_t)&dvsm_rseq_none - thread);
}

/* In a program with ThreadSanitizer blocks change hands by words alone, which it can be told of (heap_lane.h). */
extern void __tsan_init(void) __attribute__((weak));

/* A size of 0 means that the registration was refused or switched off; the area is not to be looked at then. */
long dvsm_rseq_init(void)
{
	long offset;

	if (!__tsan_init && &__rseq_offset && &__rseq_size && __rseq_size)
		offset = __rseq_offset;
	else
		offset = dvsm_rseq_nowhere();
	/* The same, whichever thread says it. */
	__atomic_store_n(&dvsm_rseq_offset, offset, __ATOMIC_RELAXED);
	return offset;
}
