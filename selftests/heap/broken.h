/* SPDX-License-Identifier: GPL-2.0-only */
/* Goes before each file of a heap that is broken on purpose: DVSM_BROKEN says how (step_test.c). */
#ifndef DVSM_HEAP_BROKEN_H
#define DVSM_HEAP_BROKEN_H

extern int dvsm_heap_broken;
#define DVSM_HEAP_BROKEN	dvsm_heap_broken

#endif /* DVSM_HEAP_BROKEN_H */
