// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commands by io_uring: IORING_OP_URING_CMD on the descriptors that take ioctls.
 *
 * The submitter is never made to wait: his attempt is refused with -EAGAIN, and
 * io_uring has one of its workers try again. A worker is a thread of the
 * submitter's process: memory, descriptors, limits and cgroups are the process's,
 * the credentials those of the submission. So there the command is the ioctl; only
 * the node that is called local has to come along. Until it has ended, the request
 * holds the file, and with it region and module.
 *
 * io_uring cancels a command that waits by itself, and one that runs by a signal
 * that only the worker sees. So does a ring that is closed, and a thread that ends.
 */
#include <linux/nodemask.h>
#include <linux/numa.h>
#include <linux/sched/signal.h>
#include <linux/topology.h>

#include "dvsm.h"

/* What the attempt leaves for the worker, in the request. */
struct dvsm_async {
	int here;
};

/*
 * The node that the submitter was on; NUMA_NO_NODE where he made no attempt. After a link a
 * worker begins the next request without one, nothing says so, and the word is the submitter's
 * to choose: an earlier request left it. So it may be any node there is, and no more is asked.
 */
static int dvsm_async_here(struct io_uring_cmd *ioucmd)
{
	int here = io_uring_cmd_to_pdu(ioucmd, struct dvsm_async)->here;

	if (cmd_to_io_kiocb(ioucmd)->flags & REQ_F_FORCE_ASYNC)
		return NUMA_NO_NODE;
	return here >= 0 && here < nr_node_ids && node_online(here) ? here : NUMA_NO_NODE;
}

static long dvsm_async_run(struct io_uring_cmd *ioucmd)
{
	struct dvsm_uring_cmd cmd;
	long ret;

	memcpy(&cmd, io_uring_sqe_cmd(ioucmd->dvsm_uring_sqe), sizeof(cmd));
	if (cmd.reserved || ioucmd->flags)
		return -EINVAL;
	ret = dvsm_command(ioucmd->file, ioucmd->cmd_op, u64_to_user_ptr(cmd.arg),
			   dvsm_async_here(ioucmd));
	switch (ret) {
	case -EINTR:
	case -ERESTARTNOINTR:	/* nothing begun: there is no system call to restart */
		return -ECANCELED;
	default:
		return ret;
	}
}

/**
 * dvsm_async_uring_cmd - A command by io_uring.
 * @ioucmd: the request
 * @issue_flags: how it may be carried out
 *
 * Context: process or io_uring worker.
 * Return: -EAGAIN, to be called again by a worker; else -EIOCBQUEUED: the
 * command has completed.
 */
int dvsm_async_uring_cmd(struct io_uring_cmd *ioucmd, unsigned int issue_flags)
{
	if (issue_flags & IO_URING_F_NONBLOCK) {
		io_uring_cmd_to_pdu(ioucmd, struct dvsm_async)->here = numa_node_id();
		return -EAGAIN;
	}
	/* 6.1 takes no result above 0 as a return value. */
	io_uring_cmd_done(ioucmd, dvsm_async_run(ioucmd), 0, issue_flags);
	return -EIOCBQUEUED;
}

/**
 * dvsm_shall_stop - Whether what runs here shall end early.
 *
 * Context: process, io_uring worker or kernel thread.
 * Return: true if the process is dying, or io_uring has cancelled the command.
 */
bool dvsm_shall_stop(void)
{
	if ((current->flags & PF_IO_WORKER) && test_thread_flag(TIF_NOTIFY_SIGNAL))
		return true;
	return fatal_signal_pending(current);
}
