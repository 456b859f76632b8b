// SPDX-License-Identifier: GPL-2.0-only
/*
 * io_uring by system calls alone.
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
	int ret;

	memset(ring, 0, sizeof(*ring));
	ring->fd = syscall(SYS_io_uring_setup, entries, &params);
	if (ring->fd < 0)
		return -errno;
	ret = uring_map(ring, &params);
	if (ret)
		uring_close(ring);
	return ret;
}

int uring_limit_workers(struct uring *ring, unsigned int nr)
{
	unsigned int limits[2] = { nr, nr };

	return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_IOWQ_MAX_WORKERS, limits, 2)
		? -errno : 0;
}

void uring_close(struct uring *ring)
{
	munmap(ring->sq, ring->sq_size);
	munmap(ring->cq, ring->cq_size);
	munmap(ring->sqes, ring->sqes_size);
	close(ring->fd);
	ring->fd = -1;
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

static int uring_enter(struct uring *ring, unsigned int nr, unsigned int wait)
{
	int ret = syscall(SYS_io_uring_enter, ring->fd, nr, wait,
			  wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0);

	return ret < 0 ? -errno : ret == nr ? 0 : -EIO;
}

int uring_submit_all(struct uring *ring, const struct io_uring_sqe *sqes, unsigned int nr)
{
	unsigned int tail = *word(ring->sq, ring->sq_tail_at);
	unsigned int i;

	for (i = 0; i < nr; i++) {
		unsigned int slot = (tail + i) & ring->sq_mask;

		((struct io_uring_sqe *)ring->sqes)[slot] = sqes[i];
		word(ring->sq, ring->sq_array_at)[slot] = slot;
	}
	__atomic_store_n(word(ring->sq, ring->sq_tail_at), tail + nr, __ATOMIC_RELEASE);
	return uring_enter(ring, nr, 0);
}

int uring_submit(struct uring *ring, const struct io_uring_sqe *sqe)
{
	return uring_submit_all(ring, sqe, 1);
}

bool uring_reap(struct uring *ring, struct io_uring_cqe *cqe)
{
	unsigned int head = *word(ring->cq, ring->cq_head_at);

	if (head == __atomic_load_n(word(ring->cq, ring->cq_tail_at), __ATOMIC_ACQUIRE))
		return false;
	*cqe = ((const struct io_uring_cqe *)(ring->cq + ring->cqes_at))[head & ring->cq_mask];
	__atomic_store_n(word(ring->cq, ring->cq_head_at), head + 1, __ATOMIC_RELEASE);
	return true;
}

int uring_wait(struct uring *ring, struct io_uring_cqe *cqe)
{
	while (!uring_reap(ring, cqe)) {
		int ret = uring_enter(ring, 0, 1);

		if (ret && ret != -EINTR)
			return ret;
	}
	return 0;
}

int uring_command(struct uring *ring, int fd, unsigned int cmd, const void *arg,
		  uint64_t user_data)
{
	struct dvsm_uring_cmd uring_cmd = { .arg = (uintptr_t)arg };
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_URING_CMD,
		.fd = fd,
		.cmd_op = cmd,
		.user_data = user_data,
	};

	memcpy(sqe.cmd, &uring_cmd, sizeof(uring_cmd));
	return uring_submit(ring, &sqe);
}

int uring_cancel(struct uring *ring, uint64_t user_data, unsigned int flags)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_ASYNC_CANCEL,
		.addr = user_data,
		.cancel_flags = flags,
		.user_data = URING_CANCEL,
	};

	return uring_submit(ring, &sqe);
}

int uring_rw(struct uring *ring, int opcode, int fd, void *addr, unsigned int length,
	     uint64_t offset)
{
	struct io_uring_sqe sqe = {
		.opcode = opcode,
		.fd = fd,
		.addr = (uintptr_t)addr,
		.len = length,
		.off = offset,
	};
	struct io_uring_cqe cqe;
	int ret = uring_submit(ring, &sqe);

	if (!ret)
		ret = uring_wait(ring, &cqe);
	return ret ? ret : cqe.res;
}
