/* SPDX-License-Identifier: GPL-2.0-only */
/* What the tests of libdvsm share: the kernel's own view of mappings, and leaks. */
#ifndef DVSM_LIB_TEST_H
#define DVSM_LIB_TEST_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dvsm/dvsm.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define PAGE	4096UL
#define CHUNK	DVSM_CHUNK_SIZE
#define RW	(PROT_READ | PROT_WRITE)

/* One line of smaps, in bytes, added up over the mappings that begin in the range. */
static inline uint64_t smaps_sum(const void *address, uint64_t length, const char *field)
{
	const unsigned long first = (uintptr_t)address;
	size_t width = strlen(field);
	uint64_t sum = 0, value;
	bool inside = false;
	char line[4096], *after;
	FILE *smaps;

	smaps = fopen("/proc/self/smaps", "re");
	if (!smaps)
		return UINT64_MAX;
	while (fgets(line, sizeof(line), smaps)) {
		value = strtoul(line, &after, 16);
		if (*after == '-')
			inside = value >= first && value < first + length;
		else if (inside && !strncmp(line, field, width) && line[width] == ':')
			sum += strtoul(line + width + 1, NULL, 10) * 1024;
	}
	fclose(smaps);
	return sum;
}

/* Bytes that are mapped by 2 MiB entries. */
static inline uint64_t smaps_huge(const void *address, uint64_t length)
{
	return smaps_sum(address, length, "ShmemPmdMapped") +
	       smaps_sum(address, length, "FilePmdMapped") +
	       smaps_sum(address, length, "Shared_Hugetlb") +
	       smaps_sum(address, length, "Private_Hugetlb");
}

/* The node of a page that this process has touched; -errno as move_pages(2) says. */
static inline int node_of(void *address)
{
	int status = -ENOSYS;

	if (syscall(SYS_move_pages, 0, 1UL, &address, NULL, &status, 0))
		return -errno;
	return status;
}

static inline int nr_descriptors(void)
{
	struct dirent *entry;
	DIR *dir = opendir("/proc/self/fd");
	int nr = 0;

	while (dir && (entry = readdir(dir)))
		nr += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return nr - 1;
}

static inline int nr_mappings(void)
{
	char line[4096];
	FILE *maps = fopen("/proc/self/maps", "re");
	int nr = 0;

	while (maps && fgets(line, sizeof(line), maps))
		nr++;
	if (maps)
		fclose(maps);
	return nr;
}

/* Bytes of a range that are mapped with exactly these rights, as "---p". */
static inline uint64_t mapped_as(const void *address, uint64_t length, const char *rights)
{
	const unsigned long first = (uintptr_t)address, end = first + length;
	unsigned long from, to;
	char line[4096], has[8];
	FILE *maps = fopen("/proc/self/maps", "re");
	uint64_t sum = 0;

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s", &from, &to, has) != 3 || strcmp(has, rights))
			continue;
		from = from < first ? first : from;
		to = to > end ? end : to;
		sum += from < to ? to - from : 0;
	}
	if (maps)
		fclose(maps);
	return sum;
}

/* Mappings of regions, of whatever backend. */
static inline int nr_region_mappings(void)
{
	char line[4096];
	FILE *maps = fopen("/proc/self/maps", "re");
	int nr = 0;

	while (maps && fgets(line, sizeof(line), maps))
		nr += strstr(line, "dvsm") && !strstr(line, "_test") && !strstr(line, ".so");
	if (maps)
		fclose(maps);
	return nr;
}

/* From now on a system call fails in this process and its children. */
static inline bool forbid(int call, int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 4, .filter = filter };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Runs @expression in a child, which answers with 0 for true. */
#define IN_CHILD(expression) ({							\
	int status_ = -1;							\
	pid_t pid_ = fork();							\
	if (!pid_)								\
		_exit((expression) ? 0 : 1);					\
	if (pid_ > 0)								\
		waitpid(pid_, &status_, 0);					\
	WIFEXITED(status_) && !WEXITSTATUS(status_);				\
})

/* A call that must fail: its answer is -error and errno is error. */
#define EXPECT_FAILS(error, call) do {						\
	errno = 0;								\
	EXPECT_EQ(-(error), (call));						\
	EXPECT_EQ((error), errno);						\
} while (0)

#define EXPECT_FAILS_NULL(error, call) do {					\
	errno = 0;								\
	EXPECT_EQ(NULL, (call));						\
	EXPECT_EQ((error), errno);						\
} while (0)

#endif /* DVSM_LIB_TEST_H */
