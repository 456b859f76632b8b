// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes, clocks, small files and descriptors.
 */
#include <dirent.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common.h"

/* fork(), but the child does not outlive its parent. */
pid_t child_start(void)
{
	pid_t parent = getpid(), pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(127);
	}
	return pid;
}

static int status_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Returns the exit code, or 128 and the signal. */
int child_wait(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -errno;
	return status_code(status);
}

/* Whether the child ended in time; @status as from child_wait(). */
bool child_ends(pid_t pid, unsigned int milliseconds, int *status)
{
	unsigned long end = clock_ms() + milliseconds;
	bool is_over;
	int raw;

	/* It may have ended while this process did not run: there is a look after the end. */
	do {
		is_over = clock_ms() > end;
		if (waitpid(pid, &raw, WNOHANG) == pid) {
			*status = status_code(raw);
			return true;
		}
		sleep_ms(1);
	} while (!is_over);
	return false;
}

/* For good; no capability is left. */
int become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		return -errno;
	/* Else /proc/self belongs to root. */
	prctl(PR_SET_DUMPABLE, 1);
	return 0;
}

unsigned long clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000UL + now.tv_nsec / 1000000;
}

void sleep_ms(unsigned int milliseconds)
{
	struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

/* The start of a file, as a string. */
int read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t got;

	if (fd < 0)
		return -errno;
	while (length < size - 1 && (got = read(fd, text + length, size - 1 - length)) > 0)
		length += got;
	close(fd);
	text[length] = '\0';
	return 0;
}

int read_number(const char *path, unsigned long *value)
{
	char text[64];
	int ret = read_text(path, text, sizeof(text));

	if (!ret)
		*value = strtoul(text, NULL, 0);
	return ret;
}

int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

int fd_send(int sock, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -errno;
}

int fd_receive(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	int fd;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1)
		return -EIO;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		return -EIO;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

/* What anybody can do who sees a descriptor in /proc. */
int fd_reopen(int fd, int flags)
{
	char path[64];
	int new_fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	new_fd = open(path, flags | O_CLOEXEC);
	return new_fd < 0 ? -errno : new_fd;
}

int nr_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int nr = 0;

	if (!dir)
		return -errno;
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

void *share_anonymous(size_t length)
{
	return mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

struct barrier *barrier_make(unsigned int nr)
{
	struct barrier *barrier = share_anonymous(sizeof(*barrier));

	if (barrier == MAP_FAILED)
		abort();
	barrier->nr = nr;
	return barrier;
}

/* Waits until all have come. */
void barrier_wait(struct barrier *barrier)
{
	unsigned int round = __atomic_load_n(&barrier->round, __ATOMIC_SEQ_CST);

	if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_SEQ_CST) == barrier->nr) {
		__atomic_store_n(&barrier->arrived, 0, __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&barrier->round, 1, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &barrier->round, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
		return;
	}
	while (__atomic_load_n(&barrier->round, __ATOMIC_SEQ_CST) == round)
		syscall(SYS_futex, &barrier->round, FUTEX_WAIT, round, NULL, NULL, 0);
}
