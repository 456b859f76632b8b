// SPDX-License-Identifier: GPL-2.0-only
/*
 * What programs do with descriptors and mappings beside commands. Answers do not
 * matter here: the kernel's own checks say what is wrong.
 */
#include <poll.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <linux/dma-buf.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>

#include "fuzz.h"

/* Offsets and lengths inside a window: anything else would hit the fuzzer itself. */
static size_t offset_of(uint8_t arg)
{
	return fuzz_bytes(arg) % FUZZ_WINDOW_SIZE;
}

static size_t page_of(uint8_t arg)
{
	return offset_of(arg) & ~(PAGE - 1);
}

static size_t length_of(size_t offset, uint8_t arg)
{
	size_t length = offset_of(arg);

	return length < FUZZ_WINDOW_SIZE - offset ? length : FUZZ_WINDOW_SIZE - offset;
}

static char *window_of(const struct fuzz_op *op)
{
	return fuzz_window(fuzz_op_window(op));
}

static int fd_of(const struct fuzz_op *op)
{
	return fuzz_fd_get(fuzz_op_slot(op));
}

static void do_mmap(struct fuzz_task *task, const struct fuzz_op *op)
{
	static const int prots[] = { PROT_READ | PROT_WRITE, PROT_READ, PROT_WRITE, PROT_NONE };
	static const int flags[] = { MAP_SHARED, MAP_SHARED, MAP_PRIVATE, MAP_SHARED | MAP_POPULATE,
				     MAP_SHARED_VALIDATE, MAP_PRIVATE | MAP_NORESERVE,
				     MAP_SHARED | MAP_LOCKED, MAP_SHARED | MAP_NORESERVE };
	size_t at = page_of(op->arg[0]);
	size_t length = length_of(at, op->arg[1]);

	(void)task;
	/* Mostly what a program does: whole, from the beginning. */
	if (op->arg[4] < 160) {
		at = 0;
		length = 2 * CHUNK;
	}
	mmap(window_of(op) + at, length, prots[op->arg[3] & 3], flags[op->arg[3] >> 2 & 7] | MAP_FIXED,
	     fd_of(op), fuzz_bytes(op->arg[2]));
}

static void do_munmap(struct fuzz_task *task, const struct fuzz_op *op)
{
	size_t at = page_of(op->arg[0]);

	(void)task;
	munmap(window_of(op) + at, length_of(at, op->arg[1]));
}

static void do_mremap(struct fuzz_task *task, const struct fuzz_op *op)
{
	size_t at = page_of(op->arg[0]), to = page_of(op->arg[2]);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (op->arg[4] & 4 ? MREMAP_DONTUNMAP : 0);

	(void)task;
	mremap(window_of(op) + at, length_of(at, op->arg[1]), length_of(to, op->arg[3]), flags,
	       fuzz_window(op->arg[4]) + to);
}

static void do_mprotect(struct fuzz_task *task, const struct fuzz_op *op)
{
	size_t at = page_of(op->arg[0]);

	(void)task;
	mprotect(window_of(op) + at, length_of(at, op->arg[1]), op->arg[2] & (PROT_READ | PROT_WRITE));
}

/* Not MADV_HWPOISON: memory that is gone for good would soon be all (poison_test does it). */
static void do_madvise(struct fuzz_task *task, const struct fuzz_op *op)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTFORK, MADV_DOFORK, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED,
		MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_MERGEABLE, 25 /* MADV_COLLAPSE */,
	};
	size_t at = page_of(op->arg[0]);

	(void)task;
	madvise(window_of(op) + at, length_of(at, op->arg[1]), advice[op->arg[2] % ARRAY_SIZE(advice)]);
}

static void do_write(struct fuzz_task *task, const struct fuzz_op *op)
{
	volatile char *at = window_of(op) + offset_of(op->arg[0]) % (2 * CHUNK);
	unsigned int i;

	(void)task;
	for (i = 0; i <= (op->arg[1] & 7); i++)
		at[i * PAGE * (1 + op->arg[2] % 64)] = op->arg[3];
}

static void do_read(struct fuzz_task *task, const struct fuzz_op *op)
{
	volatile char *at = window_of(op) + offset_of(op->arg[0]) % (2 * CHUNK);
	unsigned int i;

	(void)task;
	for (i = 0; i <= (op->arg[1] & 7); i++)
		(void)at[i * PAGE * (1 + op->arg[2] % 64)];
}

/* Where data comes from or goes to: plain memory, or a region that may be the file's own. */
static struct iovec buffer_of(struct fuzz_task *task, const struct fuzz_op *op, uint8_t arg)
{
	struct iovec iov = { task->scratch, arg & 1 ? FUZZ_SCRATCH_SIZE : 100 };

	if (arg & 2) {
		iov.iov_base = window_of(op) + page_of(op->arg[3]);
		iov.iov_len = length_of(page_of(op->arg[3]), op->arg[4]);
	}
	return iov;
}

static void do_io(struct fuzz_task *task, const struct fuzz_op *op)
{
	struct iovec iov[2] = { buffer_of(task, op, op->arg[2]), buffer_of(task, op, op->arg[2] >> 2) };
	off_t at = fuzz_bytes(op->arg[0]);

	switch (op->arg[1] % 6) {
	case 0: preadv(fd_of(op), iov, 2, at); break;
	case 1:
	case 2: pwritev(fd_of(op), iov, 2, at); break;
	case 3: pread(fd_of(op), iov[0].iov_base, iov[0].iov_len, at); break;
	case 4: pwrite(fd_of(op), iov[0].iov_base, iov[0].iov_len, at); break;
	case 5:
		lseek(fd_of(op), at, op->arg[3] % 5);
		readv(fd_of(op), iov, 1);
		break;
	}
}

static void do_file(struct fuzz_task *task, const struct fuzz_op *op)
{
	struct pollfd poll_fd = { .fd = fd_of(op), .events = POLLIN | POLLOUT };
	struct dma_buf_sync sync = { .flags = op->arg[1] & 7 };
	struct stat st;

	(void)task;
	switch (op->arg[0] % 10) {
	case 0: fstat(fd_of(op), &st); break;
	case 1: ftruncate(fd_of(op), fuzz_bytes(op->arg[1])); break;
	case 2: fallocate(fd_of(op), op->arg[2] & 0x7f, fuzz_bytes(op->arg[1]), fuzz_bytes(op->arg[3])); break;
	case 3: fsync(fd_of(op)); break;
	case 4: posix_fadvise(fd_of(op), 0, 0, op->arg[1] % 6); break;
	case 5: poll(&poll_fd, 1, 0); break;
	case 6: fchmod(fd_of(op), op->arg[1]); break;
	case 7: ioctl(fd_of(op), DMA_BUF_IOCTL_SYNC, &sync); break;
	case 8: ioctl(fd_of(op), op->arg[1] | op->arg[2] << 8 | (uint32_t)op->arg[3] << 30, task->scratch); break;
	case 9: fcntl(fd_of(op), F_SETFL, O_NONBLOCK | (op->arg[1] & 1 ? O_APPEND : O_DIRECT)); break;
	}
}

static void do_events(struct fuzz_task *task, const struct fuzz_op *op)
{
	(void)!read(fd_of(op), task->scratch, op->arg[0] * 16);
}

static void do_close(struct fuzz_task *task, const struct fuzz_op *op)
{
	(void)task;
	fuzz_fd_set(fuzz_op_slot(op), -1);
}

static void do_open(struct fuzz_task *task, const struct fuzz_op *op)
{
	static const int flags[] = { O_RDWR, O_RDONLY, O_WRONLY, O_RDWR | O_NONBLOCK };
	char path[32] = DVSM_DEVICE_PATH;
	int fd;

	(void)task;
	if (op->arg[0] & 1)
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd_of(op));
	if (op->arg[0] & 2)
		fd = fcntl(fd_of(op), F_DUPFD_CLOEXEC, 100);
	else
		fd = open(path, flags[op->arg[1] & 3] | O_CLOEXEC);
	fuzz_fd_set(op->arg[2], fd);
}

/* The pipe keeps what a window held; later, or never, it is read. */
static void do_pipe(struct fuzz_task *task, const struct fuzz_op *op)
{
	struct iovec iov = { window_of(op) + page_of(op->arg[1]), length_of(page_of(op->arg[1]), op->arg[2]) };
	off_t at = fuzz_bytes(op->arg[1]);

	switch (op->arg[0] % 5) {
	case 0:
	case 1: vmsplice(task->pipe[1], &iov, 1, SPLICE_F_NONBLOCK | (op->arg[3] & 1 ? SPLICE_F_GIFT : 0)); break;
	case 2: splice(fd_of(op), &at, task->pipe[1], NULL, fuzz_bytes(op->arg[2]) % CHUNK, SPLICE_F_NONBLOCK); break;
	case 3: (void)!read(task->pipe[0], task->scratch, FUZZ_SCRATCH_SIZE); break;
	case 4: splice(task->pipe[0], NULL, fd_of(op), &at, CHUNK, SPLICE_F_NONBLOCK); break;
	}
}

static void do_direct(struct fuzz_task *task, const struct fuzz_op *op)
{
	char *at = window_of(op) + page_of(op->arg[1]);
	size_t length = length_of(page_of(op->arg[1]), op->arg[2]);

	(void)task;
	length = length < CHUNK ? length : CHUNK;
	if (op->arg[0] & 1)
		(void)!pread(fuzz_world.disk, at, length, 0);
	else
		(void)!pwrite(fuzz_world.disk, at, length, 0);
}

static void do_uring(struct fuzz_task *task, const struct fuzz_op *op)
{
	char *at = window_of(op) + page_of(op->arg[1]);
	size_t length = length_of(page_of(op->arg[1]), op->arg[2]);

	(void)task;
	if (op->arg[0] & 1)
		uring_unregister_buffers(&fuzz_world.ring);
	else
		uring_register_buffers(&fuzz_world.ring, at, length);
}

static void do_vm_access(struct fuzz_task *task, const struct fuzz_op *op)
{
	struct iovec local = { task->scratch, FUZZ_SCRATCH_SIZE };
	struct iovec remote = { window_of(op) + offset_of(op->arg[1]), FUZZ_SCRATCH_SIZE };
	pid_t pid = op->arg[0] & 2 && fuzz_world.child ? fuzz_world.child : getpid();

	if (op->arg[0] & 1)
		process_vm_readv(pid, &local, 1, &remote, 1, 0);
	else
		process_vm_writev(pid, &local, 1, &remote, 1, 0);
}

static void do_lock(struct fuzz_task *task, const struct fuzz_op *op)
{
	size_t at = page_of(op->arg[1]), length = length_of(at, op->arg[2]);
	char *start = window_of(op) + at;

	switch (op->arg[0] % 6) {
	case 0: mlock(start, length); break;
	case 1: munlock(start, length); break;
	case 2: mlock2(start, length, MLOCK_ONFAULT); break;
	case 3: msync(start, length, op->arg[3] & 7); break;
	case 4: mincore(start, length < CHUNK ? length : CHUNK, task->scratch); break;
	case 5: syscall(SYS_remap_file_pages, start, length, 0, op->arg[3], 0); break;
	}
}

/* Nodes that there may not be: then it is one more wrong argument. */
static void do_nodes(struct fuzz_task *task, const struct fuzz_op *op)
{
	unsigned long mask = 1 + op->arg[1] % 3, other = 3 - mask % 3;
	size_t at = page_of(op->arg[2]), length = length_of(at, op->arg[3]);
	void *page = window_of(op) + at;
	int node = op->arg[1] & 1, status;

	(void)task;
	switch (op->arg[0] % 3) {
	case 0:
		syscall(SYS_mbind, page, length, op->arg[1] % 5, &mask, 64, op->arg[4] & 3);
		break;
	case 1:
		syscall(SYS_move_pages, 0, 1UL, &page, &node, &status, MPOL_MF_MOVE_ALL);
		break;
	case 2:
		syscall(SYS_migrate_pages, 0, 64UL, &mask, &other);
		break;
	}
}

/* A process that has everything and ends at once, after a touch. */
static void do_fork(struct fuzz_task *task, const struct fuzz_op *op)
{
	pid_t pid = fork();

	if (!pid) {
		if (!sigsetjmp(task->fault, 1)) {
			if (op->arg[0] & 1)
				do_write(task, op);
			else
				do_read(task, op);
		}
		_exit(0);
	}
	if (pid > 0 && (op->arg[0] & 2))
		kill(pid, SIGKILL);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void do_kill(struct fuzz_task *task, const struct fuzz_op *op)
{
	(void)task;
	(void)op;
	if (fuzz_world.child > 0)
		kill(fuzz_world.child, SIGKILL);
}

void fuzz_memory(struct fuzz_task *task, const struct fuzz_op *op)
{
	/* Those that reach much stand there more than once. */
	static void (* const operations[])(struct fuzz_task *task, const struct fuzz_op *op) = {
		do_mmap, do_mmap, do_mmap, do_write, do_write, do_write, do_read, do_read,
		do_munmap, do_mremap, do_mprotect, do_madvise, do_madvise, do_io, do_io, do_file,
		do_events, do_close, do_open, do_pipe, do_direct, do_uring, do_vm_access, do_lock,
		do_nodes, do_fork, do_kill,
	};

	operations[op->what % ARRAY_SIZE(operations)](task, op);
}
