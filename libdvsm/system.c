// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the machine and the environment say, read without malloc(). */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* NULL in programs that run with somebody else's rights, as for LD_PRELOAD. */
const char *dvsm_getenv(const char *name)
{
	const char *value = secure_getenv(name);

	return value && *value ? value : NULL;
}

void dvsm_debug(const char *format, ...)
{
	const char *wish = dvsm_getenv("DVSM_DEBUG");
	int saved = errno;
	char line[256];
	va_list args;
	ssize_t written;
	int length;

	if (!wish || !strcmp(wish, "0"))
		return;
	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (length >= (int)sizeof(line))
		length = sizeof(line) - 1;
	if (length > 0) {
		written = write(STDERR_FILENO, line, (size_t)length);
		(void)written; /* where nobody listens there is nothing to do */
	}
	errno = saved;
}

/* The start of a small file, NUL-terminated. Bytes read, or -errno. */
ssize_t dvsm_file_read(const char *path, char *buffer, size_t size)
{
	ssize_t length;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	length = read(fd, buffer, size - 1);
	if (length < 0)
		length = -errno;
	else
		buffer[length] = '\0';
	close(fd);
	return length;
}

/*
 * Gives a new file its length: 0; -EINVAL for more than a file can have, -EFBIG for more than RLIMIT_FSIZE lets it have.
 * The kernel ends a process that tries that.
 */
int dvsm_file_set_length(int fd, uint64_t length)
{
	struct rlimit limit;

	if (!getrlimit(RLIMIT_FSIZE, &limit) && length > limit.rlim_cur)
		return -EFBIG;
	if (!ftruncate(fd, (off_t)length))
		return 0;
	return errno == EFBIG ? -EINVAL : -errno;
}

/*
 * What programs write to descriptors 0, 1 and 2 is meant for a terminal or a log, also where they have closed these: no
 * descriptor through which memory or files are written is one of the three. -errno is passed on.
 */
int dvsm_fd_raise(int fd)
{
	int high;

	if (fd < 0 || fd > STDERR_FILENO)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (high < 0)
		high = -errno;
	close(fd);
	return high;
}

/* Nothing of the library's is left half done by pthread_cancel(): what to give to dvsm_cancel_on(). */
int dvsm_cancel_off(void)
{
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return state;
}

void dvsm_cancel_on(int state)
{
	pthread_setcancelstate(state, NULL);
}

/* Less than a second. */
void dvsm_sleep(uint32_t nanoseconds)
{
	const struct timespec time = { .tv_nsec = nanoseconds };
	int cancel = dvsm_cancel_off();

	nanosleep(&time, NULL);
	dvsm_cancel_on(cancel);
}

/*
 * The node set in /sys/devices/system/node/@which ("possible", "has_memory"),
 * which reads like "0-1,4". A kernel without NUMA has node 0. Number of the
 * last node plus 1.
 */
int dvsm_system_nodes(const char *which, uint64_t *nodes)
{
	char path[64], text[1024];
	unsigned long node, last;
	int nr_nodes = 0;
	char *at;

	memset(nodes, 0, DVSM_NODES_WORDS * sizeof(*nodes));
	snprintf(path, sizeof(path), "/sys/devices/system/node/%s", which);
	if (dvsm_file_read(path, text, sizeof(text)) <= 0)
		strcpy(text, "0");
	for (at = text; *at >= '0' && *at <= '9'; at += *at == ',') {
		node = last = strtoul(at, &at, 10);
		if (*at == '-')
			last = strtoul(at + 1, &at, 10);
		for (; node <= last && node < DVSM_NODES_MAX; node++) {
			nodes[node / 64] |= 1ULL << node % 64;
			nr_nodes = (int)node + 1;
		}
	}
	return nr_nodes;
}

/* Weights of the nodes of a set; 1 where the kernel has none. Whether it has any. */
bool dvsm_system_weights(const uint64_t *nodes, uint8_t *weights)
{
	char path[80], text[16];
	bool any = false;
	uint32_t node;

	for (node = 0; node < DVSM_NODES_MAX; node++) {
		long weight = 0;

		if (!(nodes[node / 64] >> node % 64 & 1))
			continue;
		snprintf(path, sizeof(path),
			 "/sys/kernel/mm/mempolicy/weighted_interleave/node%u", node);
		if (dvsm_file_read(path, text, sizeof(text)) > 0)
			weight = strtol(text, NULL, 10);
		any |= weight > 0;
		weights[node] = weight >= 1 && weight <= UINT8_MAX ? (uint8_t)weight : 1;
	}
	return any;
}

uint32_t dvsm_system_nr_nodes(void)
{
	uint64_t nodes[DVSM_NODES_WORDS];

	return (uint32_t)dvsm_system_nodes("possible", nodes);
}

/* Whether a fault gives a memfd huge pages where MADV_HUGEPAGE asks for them. */
bool dvsm_system_thp_by_fault(void)
{
	char text[128];

	if (dvsm_file_read("/sys/kernel/mm/transparent_hugepage/shmem_enabled", text,
			   sizeof(text)) <= 0)
		return false;
	return strstr(text, "[advise]") || strstr(text, "[always]") ||
	       strstr(text, "[within_size]") || strstr(text, "[force]");
}

/*
 * Whether huge pages can be had for a memfd at all: by a fault, or afterwards,
 * by MADV_COLLAPSE, which "never" does not forbid and "deny" does. On no memory
 * at all it does nothing and still says whether the kernel knows it.
 */
bool dvsm_system_thp(void)
{
	char text[128];

	if (dvsm_file_read("/sys/kernel/mm/transparent_hugepage/shmem_enabled", text,
			   sizeof(text)) <= 0 || strstr(text, "[deny]"))
		return false;
	return dvsm_system_thp_by_fault() || !madvise(NULL, 0, MADV_COLLAPSE);
}
