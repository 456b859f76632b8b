/* SPDX-License-Identifier: GPL-2.0-only */
/* A thread that holds every lane of a heap and makes no progress. */
#ifndef DVSM_HEAP_LANES_TEST_H
#define DVSM_HEAP_LANES_TEST_H

#include <semaphore.h>

#include "../../libdvsm/heap_types.h"

struct lanes {
	struct dvsm_heap *heap;
	sem_t held, enough;
	pthread_t thread;
};

static inline void *lanes_thread(void *context)
{
	struct lanes *lanes = context;
	uint32_t i;

	for (i = 0; i < lanes->heap->header->nr_lanes; i++)
		pthread_mutex_lock(&lanes->heap->lanes[i].lock);
	sem_post(&lanes->held);
	while (sem_wait(&lanes->enough))
		;
	while (i--)
		pthread_mutex_unlock(&lanes->heap->lanes[i].lock);
	return NULL;
}

static inline int lanes_take(struct lanes *lanes, struct dvsm_heap *heap)
{
	int error;

	lanes->heap = heap;
	sem_init(&lanes->held, 0, 0);
	sem_init(&lanes->enough, 0, 0);
	error = pthread_create(&lanes->thread, NULL, lanes_thread, lanes);
	while (!error && sem_wait(&lanes->held))
		;
	return error;
}

static inline void lanes_give(struct lanes *lanes)
{
	sem_post(&lanes->enough);
	pthread_join(lanes->thread, NULL);
}

#endif /* DVSM_HEAP_LANES_TEST_H */
