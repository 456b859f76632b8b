/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef DVSM_HEAP_LOCK_H
#define DVSM_HEAP_LOCK_H

#include <stdatomic.h>
#include <stdint.h>

/* A lock among the threads of a process: 0 is free. A forked child has it free, whoever held it. */
void dvsm_lock(_Atomic uint32_t *lock);
void dvsm_unlock(_Atomic uint32_t *lock);

#endif
