// SPDX-License-Identifier: GPL-2.0-only
/*
 * io_uring by system calls alone: one request at a time.
 */
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "common.h"

static unsigned int *word(unsigned char *base, unsigned int at)
{
	return (unsigned int *)(base + at);
}

static int uring_map(struct uring *ring, const struct io_uring_params *params)
{
	const int prot = PROT_READ | PROT_WRITE;

	ring->sq_size = params->sq_off.array + params->sq_entries * sizeof(unsigned int);
	ring->cq_size = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
	ring->sqes_size = params->sq_entries * sizeof(struct io_uring_sqe);
	ring->sq = mmap(NULL, ring->sq_size, prot, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	ring->cq = mmap(NULL, ring->cq_size, prot, MAP_SHARED, ring->fd, IORING_OFF_CQ_RING);
	ring->sqes = mmap(NULL, ring->sqes_size, prot, MAP_SHARED, ring->fd, IORING_OFF_SQES);
	if (ring->sq == MAP_FAILED || ring->cq == MAP_FAILED || ring->sqes == MAP_FAILED)
		return -errno;
	ring->sq_tail_at = params->sq_off.tail;
	ring->sq_array_at = params->sq_off.array;
	ring->sq_mask = *word(ring->sq, params->sq_off.ring_mask);
	ring->cq_head_at = params->cq_off.head;
	ring->cq_tail_at = params->cq_off.tail;
	ring->cq_mask = *word(ring->cq, params->cq_off.ring_mask);
	ring->cqes_at = params->cq_off.cqes;
	return 0;
}

int uring_open(struct uring *ring, unsigned int entries)
{
	struct io_uring_params params = {};

	memset(ring, 0, sizeof(*ring));
	ring->fd = syscall(SYS_io_uring_setup, entries, &params);
	if (ring->fd < 0)
		return -errno;
	return uring_map(ring, &params);
}

void uring_close(struct uring *ring)
{
	munmap(ring->sq, ring->sq_size);
	munmap(ring->cq, ring->cq_size);
	munmap(ring->sqes, ring->sqes_size);
	close(ring->fd);
}

int uring_register_buffers(struct uring *ring, void *addr, size_t length)
{
	struct iovec iov = { addr, length };

	return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, &iov, 1)
		? -errno : 0;
}

int uring_unregister_buffers(struct uring *ring)
{
	return syscall(SYS_io_uring_register, ring->fd, IORING_UNREGISTER_BUFFERS, NULL, 0)
		? -errno : 0;
}

/* One READ, WRITE, READ_FIXED or WRITE_FIXED, waited for. Returns its result. */
int uring_rw(struct uring *ring, int opcode, int fd, void *addr, unsigned int length,
	     uint64_t offset)
{
	unsigned int tail = *word(ring->sq, ring->sq_tail_at);
	unsigned int slot = tail & ring->sq_mask, head;
	struct io_uring_sqe *sqe = (struct io_uring_sqe *)ring->sqes + slot;
	const struct io_uring_cqe *cqe;

	*sqe = (struct io_uring_sqe) {
		.opcode = opcode,
		.fd = fd,
		.addr = (uintptr_t)addr,
		.len = length,
		.off = offset,
	};
	word(ring->sq, ring->sq_array_at)[slot] = slot;
	__atomic_store_n(word(ring->sq, ring->sq_tail_at), tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return -errno;
	head = *word(ring->cq, ring->cq_head_at);
	if (head == __atomic_load_n(word(ring->cq, ring->cq_tail_at), __ATOMIC_ACQUIRE))
		return -EIO;
	cqe = (const struct io_uring_cqe *)(ring->cq + ring->cqes_at) + (head & ring->cq_mask);
	__atomic_store_n(word(ring->cq, ring->cq_head_at), head + 1, __ATOMIC_RELEASE);
	return cqe->res;
}
