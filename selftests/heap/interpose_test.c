// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hostile programs under libdvsm-malloc.so: what other allocators have been caught at. The test starts itself again with
 * LD_PRELOAD; INTERPOSER is the library's path. preload_test.sh does the same with programs that others wrote.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <setjmp.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "heap_test.h"
#include <kselftest_harness.h>

#define NR_THREADS	4

/* Blocks that every holder has filled with a byte of its own: whoever gets a block that somebody has is noticed. */
static bool churn(unsigned char self, int rounds, size_t size)
{
	unsigned char *blocks[64];
	size_t i, at;

	for (; rounds; rounds--) {
		for (i = 0; i < 64; i++) {
			blocks[i] = malloc(size);
			if (!blocks[i])
				return false;
			memset(blocks[i], self, size);
		}
		for (i = 0; i < 64; i++) {
			for (at = 0; at < size; at++)
				if (blocks[i][at] != self)
					return false;
			free(blocks[i]);
		}
	}
	return true;
}

static _Atomic int stop;

static void *churn_until_stop(void *self)
{
	while (!stop)
		if (!churn((unsigned char)(uintptr_t)self, 10, 48))
			return "another one has a block of mine";
	return NULL;
}

static void threads_begin(pthread_t *threads)
{
	uintptr_t i;

	stop = 0;
	for (i = 0; i < NR_THREADS; i++)
		pthread_create(&threads[i], NULL, churn_until_stop, (void *)(i + 1));
}

static int threads_end(pthread_t *threads)
{
	int i, bad = 0;
	void *said;

	stop = 1;
	for (i = 0; i < NR_THREADS; i++) {
		pthread_join(threads[i], &said);
		bad += !!said;
	}
	return bad;
}

static size_t virtual_size(void)
{
	size_t pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	if (!file || fscanf(file, "%zu", &pages) != 1)
		pages = 0;
	if (file)
		fclose(file);
	return pages * 4096;
}

/* Whether a function of the C library's is one of the malloc family, by its name. */
static bool is_family(const char *name)
{
	static const char * const parts[] = {
		"malloc", "calloc", "realloc", "valloc", "mallinfo", "mallopt", "memalign", "aligned_alloc",
	};
	const char *bare = strncmp(name, "__libc_", 7) ? name : name + 7;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(parts); i++)
		if (strstr(bare, parts[i]))
			return true;
	return !strcmp(bare, "free") || !strcmp(bare, "cfree") || !strncmp(bare, "free_", 5);
}

/* The dynamic section of the C library's symbols, in its file that is mapped at @file. */
static const ElfW(Shdr) *dynamic_symbols(const char *file)
{
	const ElfW(Ehdr) *elf = (const void *)file;
	const ElfW(Shdr) *section = (const void *)(file + elf->e_shoff);
	int i;

	for (i = 0; i < elf->e_shnum; i++)
		if (section[i].sh_type == SHT_DYNSYM)
			return &section[i];
	return NULL;
}

static const char *file_of(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat stat;
	void *file = MAP_FAILED;

	if (fd >= 0 && !fstat(fd, &stat))
		file = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	return file == MAP_FAILED ? NULL : file;
}

TEST(nothing_of_the_c_librarys_family_is_left_out)
{
	void *library = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	const ElfW(Shdr) *section, *strings;
	const char *file, *name;
	const ElfW(Sym) *symbol;
	struct link_map *map;
	Dl_info info;
	size_t i;
	int nr = 0;

	ASSERT_NE(NULL, library);
	ASSERT_EQ(0, dlinfo(library, RTLD_DI_LINKMAP, &map));
	file = file_of(map->l_name);
	ASSERT_NE(NULL, file) TH_LOG("%s", map->l_name);
	section = dynamic_symbols(file);
	ASSERT_NE(NULL, section);
	strings = (const ElfW(Shdr) *)(file + ((const ElfW(Ehdr) *)file)->e_shoff) + section->sh_link;
	for (i = 0; i < section->sh_size / sizeof(*symbol); i++) {
		symbol = (const ElfW(Sym) *)(file + section->sh_offset) + i;
		name = file + strings->sh_offset + symbol->st_name;
		if (!symbol->st_shndx || ELF64_ST_TYPE(symbol->st_info) != STT_FUNC || !is_family(name))
			continue;
		ASSERT_NE(0, dladdr(dlsym(RTLD_DEFAULT, name), &info));
		EXPECT_NE(NULL, strstr(info.dli_fname, "libdvsm-malloc.so")) TH_LOG("%s: %s", name, info.dli_fname);
		nr++;
	}
	TH_LOG("%d functions", nr);
	EXPECT_LE(20, nr);
}

TEST(every_function_is_the_interposers)
{
	static const char * const names[] = {
		"malloc", "free", "free_sized", "free_aligned_sized", "cfree", "calloc", "realloc", "reallocarray", "aligned_alloc", "memalign",
		"posix_memalign", "valloc", "pvalloc", "malloc_usable_size", "malloc_trim", "mallopt", "mallinfo",
		"mallinfo2", "malloc_stats", "malloc_info", "vfork", "__libc_malloc", "__libc_free", "__libc_calloc",
		"__libc_realloc", "__libc_memalign", "__libc_valloc", "__libc_pvalloc",
		"__libc_mallopt", "__libc_mallinfo",
	};
	Dl_info info;
	void *symbol;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		symbol = dlsym(RTLD_DEFAULT, names[i]);
		ASSERT_NE(NULL, symbol) TH_LOG("%s", names[i]);
		ASSERT_NE(0, dladdr(symbol, &info));
		EXPECT_NE(NULL, strstr(info.dli_fname, "libdvsm-malloc.so")) TH_LOG("%s: %s", names[i], info.dli_fname);
	}
}

TEST(what_the_c_library_allocates_can_be_freed)
{
	struct dirent **entries;
	char *line = NULL, *text;
	size_t length = 0;
	FILE *stream;
	int nr;

	ASSERT_LT(0, asprintf(&text, "%04000d", 1));
	free(text);
	free(strdup("text"));
	free(realpath("/proc/self/exe", NULL));
	free(getcwd(NULL, 0));
	nr = scandir("/", &entries, NULL, alphasort);
	ASSERT_LT(0, nr);
	while (nr)
		free(entries[--nr]);
	free(entries);
	stream = fopen("/proc/self/status", "r");
	while (getline(&line, &length, stream) > 0)
		;
	fclose(stream);
	free(line);
	stream = open_memstream(&text, &length);
	for (nr = 0; nr < 10000; nr++)
		fputs("0123456789", stream);
	fclose(stream);
	ASSERT_EQ(100000, length);
	free(text);
}

TEST(reports_go_to_any_stream)
{
	size_t length = 0, i, open = 0, close = 0;
	struct mallinfo2 before, after;
	char *text = NULL;
	FILE *stream;
	void *block;

	ASSERT_EQ(EINVAL, malloc_info(1, stderr));
	stream = open_memstream(&text, &length);
	ASSERT_EQ(0, malloc_info(0, stream));
	fclose(stream);
	ASSERT_EQ(text, strstr(text, "<malloc version=\"1\">"));
	ASSERT_NE(NULL, strstr(text, "</malloc>"));
	for (i = 0; i < length; i++) {
		open += text[i] == '<';
		close += text[i] == '>';
	}
	ASSERT_EQ(open, close);
	free(text);

	before = mallinfo2();
	block = malloc(100 * MIB);
	after = mallinfo2();
	ASSERT_GE(after.uordblks, before.uordblks + 100 * MIB);
	ASSERT_GE(after.hblkhd, before.hblkhd + 100 * MIB);
	free(block);
	ASSERT_EQ(1, mallopt(M_MMAP_THRESHOLD, 1 << 20));
}

TEST(no_alignment_is_beyond_half_of_the_address_space)
{
	/* Not for the compiler to know. */
	volatile size_t too_much[] = { SIZE_MAX, SIZE_MAX / 2 + 2 };
	int i;

	for (i = 0; i < 2; i++) {
		errno = 0;
		EXPECT_EQ(NULL, memalign(too_much[i], 8));
		EXPECT_EQ(EINVAL, errno);
	}
}

TEST(alignments_of_every_kind)
{
	size_t alignment, size;
	void *block = NULL;

	for (alignment = 1; alignment <= 4 * MIB; alignment *= 2) {
		for (size = 0; size <= 3 * MIB; size = size * 3 + 1) {
			if (alignment >= sizeof(void *)) {
				ASSERT_EQ(0, posix_memalign(&block, alignment, size));
				ASSERT_EQ(0, (uintptr_t)block % alignment);
				memset(block, 1, size);
				free(block);
			}
			block = memalign(alignment, size);
			ASSERT_EQ(0, (uintptr_t)block % alignment);
			ASSERT_GE(malloc_usable_size(block), size);
			block = realloc(block, size + 100);
			memset(block, 1, size + 100);
			free(block);
			block = aligned_alloc(alignment, size);
			ASSERT_EQ(0, (uintptr_t)block % alignment);
			free(block);
		}
	}
	block = valloc(1);
	ASSERT_EQ(0, (uintptr_t)block % 4096);
	free(block);
	block = pvalloc(4097);
	ASSERT_EQ(0, (uintptr_t)block % 4096);
	ASSERT_LE(8192, malloc_usable_size(block));
	free(block);
	ASSERT_EQ(EINVAL, posix_memalign(&block, 24, 8));
}

TEST(errors_are_the_c_librarys)
{
	volatile size_t huge = PTRDIFF_MAX, wrap = SIZE_MAX / 2 + 2;
	void *block = malloc(64);

	errno = 0;
	ASSERT_EQ(NULL, malloc(huge + 1));
	ASSERT_EQ(ENOMEM, errno);
	errno = 0;
	ASSERT_EQ(NULL, calloc(wrap, 2));
	ASSERT_EQ(ENOMEM, errno);
	errno = 0;
	ASSERT_EQ(NULL, reallocarray(block, wrap, 2));
	ASSERT_EQ(ENOMEM, errno);
	errno = 0;
	ASSERT_EQ(NULL, realloc(block, huge));
	ASSERT_EQ(ENOMEM, errno);
	errno = 77;
	free(block);
	ASSERT_EQ(77, errno);
	ASSERT_EQ(NULL, realloc(malloc(10), 0));
	free(NULL);
	ASSERT_EQ(0, malloc_usable_size(NULL));
}

/* Newer than the C library that this is built with. */
TEST(frees_of_c23_free)
{
	void (*free_sized)(void *address, size_t size) = dlsym(RTLD_DEFAULT, "free_sized");
	void (*free_aligned_sized)(void *address, size_t alignment, size_t size) =
		dlsym(RTLD_DEFAULT, "free_aligned_sized");
	size_t before, i;

	ASSERT_TRUE(free_sized && free_aligned_sized);
	before = mallinfo2().uordblks;
	for (i = 0; i < 100; i++) {
		errno = 77;
		free_sized(malloc(i * 1000), i * 1000);
		free_aligned_sized(aligned_alloc(4096, i * 4096), 4096, i * 4096);
		ASSERT_EQ(77, errno);
	}
	free_sized(NULL, 0);
	free_aligned_sized(NULL, 0, 0);
	ASSERT_EQ(before, mallinfo2().uordblks);
}

TEST(address_space_is_taken_as_it_is_used)
{
	struct rlimit limit = { .rlim_cur = 1 * GIB, .rlim_max = 1 * GIB };
	pthread_t threads[NR_THREADS];
	void *blocks[100], *block;
	int nr;

	ASSERT_GT(512 * MIB, virtual_size());
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &limit));
	threads_begin(threads);
	for (nr = 0; nr < 100; nr++) {
		blocks[nr] = malloc(20 * MIB);
		if (!blocks[nr])
			break;
		memset(blocks[nr], nr, 1);
	}
	ASSERT_EQ(ENOMEM, errno);
	/* 1 GiB less what is mapped, and less the stacks of the threads. */
	ASSERT_LE(35, nr);
	ASSERT_GT(51, nr);
	block = malloc(1000);
	ASSERT_NE(NULL, block);
	free(block);
	while (nr)
		free(blocks[--nr]);
	ASSERT_EQ(0, threads_end(threads));
	/* Freed address space serves again. */
	for (nr = 0; nr < 100; nr++) {
		block = malloc((size_t)nr * 7 * MIB);
		if (nr < 90)
			ASSERT_NE(NULL, block);
		free(block);
	}
}

/* The heap must do with what there is at the start, too. */
TEST(a_limit_from_the_start)
{
	char *again[] = { "/proc/self/exe", "--limited", NULL };
	struct rlimit limit = { .rlim_cur = 300 * MIB, .rlim_max = 300 * MIB };
	pid_t pid = child_begin();

	if (!pid) {
		setrlimit(RLIMIT_AS, &limit);
		execv(again[0], again);
		_exit(1);
	}
	ASSERT_EQ(0, child_end(pid));
	pid = child_begin();
	if (!pid) {
		setenv("DVSM_MALLOC_FORK", "share", 1);
		setrlimit(RLIMIT_AS, &limit);
		execv(again[0], again);
		_exit(1);
	}
	ASSERT_EQ(0, child_end(pid));
}

static int limited_main(void)
{
	char *blocks[100];
	int nr, i;

	for (nr = 0; nr < 100; nr++) {
		blocks[nr] = malloc(5 * MIB);
		if (!blocks[nr])
			break;
		memset(blocks[nr], nr, 5 * MIB);
	}
	for (i = 0; i < nr; i++)
		if (blocks[i][i] != i)
			return 1;
	if (nr < 15 || nr > 59)
		return 1;
	free(blocks[0]);
	return !malloc(100);
}

TEST(locking_all_memory_locks_what_is_used)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		SKIP(return, "mlockall: %s", strerror(errno));
	free(malloc(30 * MIB));
	ASSERT_TRUE(churn(1, 100, 100));
	munlockall();
}

TEST(children_of_vfork_may_allocate)
{
	double end = seconds() + patience(3);
	pthread_t threads[NR_THREADS];
	void *block;
	pid_t pid;
	int i;

	threads_begin(threads);
	while (seconds() < end) {
		block = malloc(100);
		pid = vfork();
		if (!pid) {
			free(block);
			for (i = 0; i < 6; i++) {
				if (!churn(99, 50, 48))
					_exit(1);
				sched_yield();
			}
			_exit(0);
		}
		ASSERT_LT(0, pid);
		ASSERT_EQ(0, child_end(pid));
	}
	ASSERT_EQ(0, threads_end(threads));
}

TEST(forks_of_a_threaded_program)
{
	double end = seconds() + patience(3);
	pthread_t threads[NR_THREADS], more[NR_THREADS];
	pid_t pid;

	threads_begin(threads);
	while (seconds() < end) {
		pid = child_begin();
		if (!pid) {
			threads_begin(more);
			if (!churn(99, 20, 48) || threads_end(more))
				_exit(1);
			free(malloc(50 * MIB));
			exit(0);
		}
		ASSERT_EQ(0, child_end(pid));
	}
	ASSERT_EQ(0, threads_end(threads));
}

TEST(every_descriptor_may_be_closed)
{
	void *block;
	int i, fd;

	block = malloc(100 * MIB);
	memset(block, 1, 100 * MIB);
	syscall(SYS_close_range, 3U, ~0U, 0U);
	errno = 0;
	/* Their numbers are other files' now, which must keep what is in them. */
	for (i = 0; i < 20; i++) {
		fd = memfd_create("mine", 0);
		ASSERT_EQ(0, ftruncate(fd, 4096));
		ASSERT_EQ(4, pwrite(fd, "mine", 4, 0));
	}
	free(block);
	for (i = 0; i < 30; i++)
		free(malloc((size_t)i * 5 * MIB));
	malloc_trim(0);
	ASSERT_TRUE(churn(1, 1000, 1000));
	for (i = 3; i < 23; i++) {
		char text[5] = "";

		ASSERT_EQ(4, pread(i, text, 4, 0));
		ASSERT_STREQ("mine", text);
	}
}

/* Without /sys and /proc nobody says how many CPUs there are. */
TEST(an_empty_root)
{
	cpu_set_t one;
	pid_t pid;

	if (geteuid())
		SKIP(return, "only root may mount");
	pid = child_begin();
	if (!pid) {
		CPU_ZERO(&one);
		CPU_SET(sysconf(_SC_NPROCESSORS_CONF) - 1, &one);
		sched_setaffinity(0, sizeof(one), &one);
		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("none", "/sys", "tmpfs", 0, NULL))
			_exit(1);
		execl("/proc/self/exe", "interpose_test", "--churn", NULL);
		_exit(1);
	}
	ASSERT_EQ(0, child_end(pid));
}

TEST(other_roots_and_users)
{
	char folder[] = "/tmp/interposeXXXXXX";
	void *block = malloc(100);

	if (geteuid())
		SKIP(return, "not root");
	ASSERT_NE(NULL, mkdtemp(folder));
	ASSERT_EQ(0, chroot(folder));
	ASSERT_EQ(0, chdir("/"));
	ASSERT_EQ(0, setgid(65534));
	ASSERT_EQ(0, setuid(65534));
	free(block);
	ASSERT_TRUE(churn(1, 1000, 48));
	free(malloc(100 * MIB));
	ASSERT_EQ(0, child_end(child_begin() ?: (_exit(!churn(1, 100, 48)), 0)));
}

/* What the heap can ask of the kernel is refused: it has to live with what it has. */
TEST(seccomp_refuses_what_is_not_vital)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mbind, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setaffinity, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };
	pthread_t threads[NR_THREADS];
	unsigned char *block;
	int i;

	ASSERT_EQ(0, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ASSERT_EQ(0, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	threads_begin(threads);
	ASSERT_TRUE(churn(99, 1000, 48));
	for (i = 0; i < 20; i++) {
		block = malloc(40 * MIB);
		memset(block, i + 1, 40 * MIB);
		free(block);
		block = calloc(1, 40 * MIB);
		ASSERT_EQ(0, block[0] | block[39 * MIB]);
		free(block);
	}
	malloc_trim(0);
	ASSERT_EQ(0, threads_end(threads));
}

static sigjmp_buf back;
static _Atomic int inside;
static volatile int nr_jumps;

static void jump(int signal)
{
	if (inside)
		return;
	nr_jumps = nr_jumps + 1;
	siglongjmp(back, 1);
}

/* A handler that jumps out of code that is not the allocator's, and interrupts the allocator all the time. */
TEST(signals_at_any_moment)
{
	struct itimerval often = { .it_interval.tv_usec = 100, .it_value.tv_usec = 100 };
	struct sigaction action = { .sa_handler = jump };
	volatile double end = seconds() + patience(2);
	volatile unsigned int work = 0;

	sigaction(SIGALRM, &action, NULL);
	inside = 1;
	setitimer(ITIMER_REAL, &often, NULL);
	while (!nr_jumps || seconds() < end) {
		if (!sigsetjmp(back, 1)) {
			inside = 0;
			while (work++ % 100000)
				;
		}
		inside = 1;
		ASSERT_TRUE(churn(1, 3, 80));
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	ASSERT_LT(0, nr_jumps);
	ASSERT_TRUE(churn(1, 1000, 80));
}

static void key_destroy(void *block)
{
	free(block);
	free(malloc(77));
}

static void *thread_with_key(void *key)
{
	unsigned char *block = malloc(500);

	memset(block, 1, 500);
	pthread_setspecific(*(pthread_key_t *)key, block);
	return malloc(33);
}

static void at_exit(void)
{
	churn(9, 100, 64);
}

TEST(threads_that_end_free_what_they_have)
{
	pthread_attr_t small;
	pthread_t threads[8];
	pthread_key_t key;
	void *block;
	int round, i;

	pthread_key_create(&key, key_destroy);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16384);
	for (round = 0; round < 200; round++) {
		for (i = 0; i < 8; i++)
			ASSERT_EQ(0, pthread_create(&threads[i], i % 2 ? &small : NULL, thread_with_key, &key));
		for (i = 0; i < 8; i++) {
			pthread_join(threads[i], &block);
			free(block);
		}
	}
	ASSERT_EQ(0, atexit(at_exit));
}

TEST(libraries_come_and_go)
{
	static const char * const names[] = { "libm.so.6", "libstdc++.so.6", "libz.so.1", "libgcc_s.so.1" };
	void *handles[ARRAY_SIZE(names)];
	int round;
	size_t i;

	for (round = 0; round < 30; round++) {
		for (i = 0; i < ARRAY_SIZE(names); i++)
			handles[i] = dlopen(names[i], RTLD_NOW);
		ASSERT_NE(NULL, handles[0]);
		ASSERT_TRUE(churn(1, 10, 128));
		for (i = 0; i < ARRAY_SIZE(names); i++)
			if (handles[i])
				dlclose(handles[i]);
	}
}

TEST(memory_comes_back_to_the_machine)
{
	struct rusage usage;
	size_t i;
	char *block;

	for (i = 0; i < 50; i++) {
		block = malloc(200 * MIB);
		memset(block, 1, 200 * MIB);
		free(block);
	}
	getrusage(RUSAGE_SELF, &usage);
	ASSERT_GT(400 * 1024, usage.ru_maxrss);
	block = malloc(200 * MIB);
	memset(block, 1, 200 * MIB);
	free(block);
	malloc_trim(0);
	ASSERT_LE(mallinfo2().keepcost, 2 * MIB);
}

/* The other policy, in a program that knows of it: what a child allocates its parent may use and free. */
static int share_main(void)
{
	/* calloc() is declared so that the compiler believes that nobody else writes there. */
	char * volatile *mail = calloc(2, sizeof(*mail));
	pthread_t threads[NR_THREADS];
	pid_t pid;
	int round;

	threads_begin(threads);
	for (round = 0; round < 100; round++) {
		pid = child_begin();
		if (!pid) {
			mail[0] = strdup("from a child");
			_exit(churn(9, 10, 48) ? 0 : 1);
		}
		if (child_end(pid) || !mail[0] || strcmp(mail[0], "from a child"))
			return 1;
		free(mail[0]);
		mail[0] = NULL;
		/* Killed wherever it is. */
		pid = child_begin();
		if (!pid)
			for (;;)
				churn(9, 1, 48);
		usleep(1000);
		kill(pid, SIGKILL);
		child_end(pid);
	}
	return threads_end(threads);
}

TEST(shared_among_those_who_fork)
{
	pid_t pid = child_begin();

	if (!pid) {
		setenv("DVSM_MALLOC_FORK", "share", 1);
		execl("/proc/self/exe", "interpose_test", "--share", NULL);
		_exit(1);
	}
	ASSERT_EQ(0, child_end(pid));
}

/* The way without restartable sequences, and the one that checks everything. */
TEST(all_ways_into_the_heap)
{
	static const char * const settings[][2] = {
		{ "GLIBC_TUNABLES", "glibc.pthread.rseq=0" }, { "DVSM_MALLOC_HARDENED", "1" }
	};
	pid_t pid;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		pid = child_begin();
		if (!pid) {
			setenv(settings[i][0], settings[i][1], 1);
			execl("/proc/self/exe", "interpose_test", "--churn", NULL);
			_exit(1);
		}
		ASSERT_EQ(0, child_end(pid)) TH_LOG("%s", settings[i][0]);
	}
}

static int churn_main(void)
{
	pthread_t threads[NR_THREADS];
	bool fine;

	threads_begin(threads);
	fine = churn(9, 2000, 48) && churn(9, 10, 100000);
	return threads_end(threads) || !fine;
}

/* KiB of freed blocks that are ready on CPUs: a hardened heap never has any. */
static unsigned long cached_kib(void)
{
	int file = memfd_create("stats", MFD_CLOEXEC), error = dup(STDERR_FILENO);
	unsigned long kib = 0;
	char text[4096] = "", *at;

	dup2(file, STDERR_FILENO);
	malloc_stats();
	dup2(error, STDERR_FILENO);
	if (pread(file, text, sizeof(text) - 1, 0) > 0 && (at = strstr(text, "of it ")))
		sscanf(at, "of it %lu KiB cached", &kib);
	close(file);
	close(error);
	return kib;
}

/* 0: ordinary; 3: hardened. */
static int stacks_main(void)
{
	return churn(9, 10, 4096) ? cached_kib() ? 0 : 3 : 1;
}

static int hardened_by(const char *value)
{
	pid_t pid = child_begin();
	int status;

	if (!pid) {
		unsetenv("DVSM_MALLOC_HARDENED");
		if (value)
			setenv("DVSM_MALLOC_HARDENED", value, 1);
		execl("/proc/self/exe", "interpose_test", "--stacks", NULL);
		_exit(1);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(a_heap_is_hardened_by_anything_but_0)
{
	EXPECT_EQ(0, hardened_by(NULL));
	EXPECT_EQ(0, hardened_by(""));
	EXPECT_EQ(0, hardened_by("0"));
	EXPECT_EQ(3, hardened_by("1"));
	EXPECT_EQ(3, hardened_by("yes"));
}

static bool is_interposed(void)
{
	Dl_info info;

	return dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) && strstr(info.dli_fname, "libdvsm-malloc.so");
}

int main(int argc, char **argv)
{
	if (!getenv("LD_PRELOAD")) {
		setenv("LD_PRELOAD", INTERPOSER, 1);
		execv("/proc/self/exe", argv);
		return 1;
	}
	if (!is_interposed()) {
		fprintf(stderr, "%s is not in use\n", INTERPOSER);
		return 1;
	}
	if (argc == 2 && !strcmp(argv[1], "--limited"))
		return limited_main();
	if (argc == 2 && !strcmp(argv[1], "--share"))
		return share_main();
	if (argc == 2 && !strcmp(argv[1], "--churn"))
		return churn_main();
	if (argc == 2 && !strcmp(argv[1], "--stacks"))
		return stacks_main();
	return test_harness_run(argc, argv);
}
