// SPDX-License-Identifier: LGPL-2.1-or-later
/* A lock among the threads of a process that a fork() cannot leave held in the child. */
#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "heap_lock.h"

/*
 * A number that this process's memory shares with no memory that it is a copy of: fork() empties the page, and a child
 * that shares the memory shares the page. 1 for all where the kernel has no such pages.
 */
static uint32_t dvsm_memory_id(void)
{
	static _Atomic uint32_t last = 1, no_page = 1;
	static _Atomic(_Atomic uint32_t *) shared_page;
	_Atomic uint32_t *page = atomic_load(&shared_page), *other = NULL;
	uint32_t id, none = 0;
	size_t size;

	if (!page) {
		size = (size_t)sysconf(_SC_PAGESIZE);
		page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED)
			page = &no_page;
		else if (madvise(page, size, MADV_WIPEONFORK))
			atomic_store(page, 1);
		if (!atomic_compare_exchange_strong(&shared_page, &other, page)) {
			if (page != &no_page)
				munmap(page, size);
			page = other;
		}
	}
	id = atomic_load(page);
	if (!id) {
		id = atomic_fetch_add(&last, 1) + 1;
		if (!atomic_compare_exchange_strong(page, &none, id))
			id = none;
	}
	return id;
}

void dvsm_lock(_Atomic uint32_t *lock)
{
	uint32_t self = dvsm_memory_id(), holder = 0;

	while (!atomic_compare_exchange_strong(lock, &holder, self)) {
		/* Else it is a copy of one that was held: the holder is not here, and the lock is for the taking. */
		if (holder == self) {
			syscall(SYS_futex, lock, FUTEX_WAIT_PRIVATE, self, NULL);
			holder = 0;
		}
	}
}

void dvsm_unlock(_Atomic uint32_t *lock)
{
	atomic_store(lock, 0);
	syscall(SYS_futex, lock, FUTEX_WAKE_PRIVATE, INT_MAX);
}
