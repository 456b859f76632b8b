// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of a test VM: mounts, loads modules, runs one command, judges the kernel, powers off.
 *
 * What it is told lies in /vm, which run.sh packs into the initramfs:
 *
 *   argv      the command, each word ended by a NUL     cwd       where to run it
 *   modules   "FILE PARAMETERS" a line, in order        timeout   seconds for the command, 0 for none
 *   dvsm.ko   our module, if it is to be loaded         params    its parameters
 *   root      "host" where the 9p export "host" becomes the root file system
 *
 * What it says goes through three I/O ports (QEMU's isa-debugcon), never through the console, which is the kernel's:
 * the command's output, its error output, and status lines. "boot" is the first status line and "end" the last; without "end"
 * nothing that came before counts as success.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum {
	PORT_OUTPUT = 0xe9,	/* run.sh names the same numbers */
	PORT_ERRORS,
	PORT_STATUS,
	PORT_LAST = PORT_STATUS,
	PORT_EXIT = 0xf4,	/* isa-debug-exit: any write ends QEMU */
};

#define CGROUP		"/sys/fs/cgroup/run"
#define HOST		"/vm/host"
#define KMEMLEAK	"/sys/kernel/debug/kmemleak"

static int vm_dir;		/* /vm, reachable after the root has changed too */

static void port_write(int port, const void *data, size_t size)
{
	asm volatile("rep outsb" : "+S" (data), "+c" (size) : "d" (port) : "memory");
}

__attribute__((format(printf, 1, 2)))
static void status(const char *format, ...)
{
	char line[1024];
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (size > (int)sizeof(line) - 2)
		size = sizeof(line) - 2;
	line[size++] = '\n';
	port_write(PORT_STATUS, line, size);
}

static void __attribute__((noreturn)) power_off(void)
{
	status("end");
	sync();
	outb(0, PORT_EXIT);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

__attribute__((format(printf, 1, 2), noreturn))
static void fail(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	status("setup %s", text);
	power_off();
}

/* The whole of /vm/NAME with a NUL behind it, NULL if it is not there; freed by nobody. */
static char *vm_read(const char *name, size_t *size_out)
{
	int fd = openat(vm_dir, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *data;
	ssize_t got, size = 0;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) || !(data = calloc(1, st.st_size + 1)))
		fail("cannot read /vm/%s: %m", name);
	while (size < st.st_size && (got = read(fd, data + size, st.st_size - size)) > 0)
		size += got;
	close(fd);
	if (size_out)
		*size_out = size;
	return data;
}

static long vm_number(const char *name)
{
	char *text = vm_read(name, NULL);

	return text ? strtol(text, NULL, 10) : 0;
}

static int write_file(const char *path, const char *text)
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

static void make_dirs(const char *path)
{
	char copy[4096];
	char *slash;

	snprintf(copy, sizeof(copy), "%s", path);
	for (slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(copy, 0755);
		*slash = '/';
	}
	mkdir(copy, 0755);
}

/* Mounts that the host's read-only root has no place for are left out. */
static void mount_at(const char *root, const char *type, const char *path, const char *options)
{
	char target[4096];

	snprintf(target, sizeof(target), "%s%s", root, path);
	if (access(target, F_OK))
		make_dirs(target);
	if (mount(type, target, type, 0, options) && errno != EBUSY && errno != ENODEV && errno != ENOENT)
		fail("cannot mount %s at %s: %m", type, target);
}

static void mount_system(const char *root)
{
	mount_at(root, "proc", "/proc", NULL);
	mount_at(root, "sysfs", "/sys", NULL);
	mount_at(root, "devtmpfs", "/dev", NULL);
	mount_at(root, "devpts", "/dev/pts", "ptmxmode=666");
	mount_at(root, "tmpfs", "/dev/shm", "mode=1777,huge=advise");
	mount_at(root, "mqueue", "/dev/mqueue", NULL);
	mount_at(root, "hugetlbfs", "/dev/hugepages", "pagesize=2M");
	if (*root) {	/* in the initramfs /tmp is writable as it is, and may hold what was packed */
		mount_at(root, "tmpfs", "/tmp", "mode=1777");
		mount_at(root, "tmpfs", "/run", "mode=755");
	} else {
		chmod("/tmp", 01777);
	}
	mount_at(root, "cgroup2", "/sys/fs/cgroup", NULL);
	mount_at(root, "debugfs", "/sys/kernel/debug", NULL);
	mount_at(root, "tracefs", "/sys/kernel/tracing", NULL);
}

/* The host's root file system, read-only, becomes ours; what the command needs to write to is tmpfs over it. */
static void enter_host_root(const char *cwd)
{
	char from[4096], to[4096];

	mkdir(HOST, 0755);
	if (mount("host", HOST, "9p", MS_RDONLY, "trans=virtio,version=9p2000.L,cache=loose,msize=512000"))
		fail("cannot mount the host's root file system: %m");
	mkdir("/root.new", 0755);
	if (mount(HOST, "/root.new", NULL, MS_BIND, NULL))
		fail("cannot bind the host's root file system: %m");
	mount_system("/root.new");
	snprintf(from, sizeof(from), HOST "%s", cwd);
	snprintf(to, sizeof(to), "/root.new%s", cwd);
	if (access(to, F_OK)) {			/* a working directory under /tmp or /run, which are ours now */
		make_dirs(to);
		if (mount(from, to, NULL, MS_BIND, NULL))
			fail("cannot show the working directory %s: %m", cwd);
	}
	if (chdir("/root.new") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		fail("cannot enter the host's root file system: %m");
}

static void insmod(const char *name, const char *params)
{
	int fd = openat(vm_dir, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail("no module file %s", name);
	if (syscall(SYS_finit_module, fd, params ? params : "", 0) && errno != EEXIST)
		fail("cannot load %s: %s", name, strerror(errno));
	close(fd);
}

static void load_modules(void)
{
	char *lines = vm_read("modules", NULL), *line, *params;

	for (line = lines ? strtok(lines, "\n") : NULL; line; line = strtok(NULL, "\n")) {
		params = strchr(line, ' ');
		if (params)
			*params++ = '\0';
		insmod(line, params);
	}
}

static void install_busybox(void)
{
	pid_t pid = fork();
	int state;

	if (!pid) {
		execl("/bin/busybox", "busybox", "--install", "-s", "/bin", NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &state, 0) != pid || state)
		fail("busybox --install");
}

static void make_cgroup(void)
{
	/* One at a time: a kernel without one controller refuses the whole line. */
	static const char * const controllers[] = { "+memory", "+cpuset", "+cpu", "+pids", "+hugetlb", "+io" };
	size_t i;

	for (i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++)
		write_file("/sys/fs/cgroup/cgroup.subtree_control", controllers[i]);
	if (mkdir(CGROUP, 0755) && errno != EEXIST)
		fail("cannot make the command's cgroup: %m");
}

static char **split_argv(void)
{
	static char *argv[1024];
	size_t size, at, n = 0;
	char *words = vm_read("argv", &size);

	if (!words)
		fail("no command");
	for (at = 0; at < size && n < 1023; at += strlen(words + at) + 1)
		argv[n++] = words + at;
	return argv;
}

static void __attribute__((noreturn)) run_child(char **argv, const char *cwd, int output, int errors)
{
	static char *env[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "TERM=dumb", "LC_ALL=C.UTF-8", "TMPDIR=/tmp", "DVSM_VM=1", NULL,
	};
	int null = open("/dev/null", O_RDONLY);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	dup2(null, 0);
	dup2(output, 1);
	dup2(errors, 2);
	syscall(SYS_close_range, 3, ~0U, 0);
	ioperm(PORT_OUTPUT, PORT_LAST - PORT_OUTPUT + 1, 0);
	ioperm(PORT_EXIT, 1, 0);
	if (write_file(CGROUP "/cgroup.procs", "0")) {
		dprintf(2, "init: cannot enter %s\n", CGROUP);
		_exit(125);
	}
	if (chdir(cwd)) {
		dprintf(2, "init: cannot enter %s: %m\n", cwd);
		_exit(125);
	}
	environ = env;
	execvp(argv[0], argv);
	dprintf(2, "init: cannot run %s: %m\n", argv[0]);
	_exit(errno == ENOENT ? 127 : 126);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Copies what is there to the port. Returns false once nobody can write any more. */
static bool pump(struct pollfd *pfd, int port)
{
	char data[65536];
	ssize_t size = read(pfd->fd, data, sizeof(data));

	if (size > 0)
		port_write(port, data, size);
	if (size == 0)
		pfd->fd = -1;
	return size > 0;
}

/* Where is everybody? For the console, when the command has not ended in its time. */
static void show_blocked(void)
{
	write_file("/proc/sys/kernel/printk", "8");
	write_file("/proc/sysrq-trigger", "w");
	write_file("/proc/sysrq-trigger", "l");
	write_file("/proc/sysrq-trigger", "m");
	sleep(1);
}

/* Runs the command to its end, or its time's, and leaves no process of it. Returns its wait status, or -1 on a timeout. */
static int run_command(char **argv, const char *cwd, long timeout)
{
	struct signalfd_siginfo info;
	struct pollfd pfd[3];
	int output[2], errors[2];
	double start = now(), killed = 0;
	int result = 0;
	bool running = true, late = false, told = false;
	sigset_t child;
	pid_t pid, dead;
	int state;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	if (pipe2(output, O_CLOEXEC) || pipe2(errors, O_CLOEXEC))
		fail("pipe: %m");
	pid = fork();
	if (pid < 0)
		fail("fork: %m");
	if (!pid)
		run_child(argv, cwd, output[1], errors[1]);
	close(output[1]);
	close(errors[1]);
	pfd[0] = (struct pollfd) { .fd = output[0], .events = POLLIN };
	pfd[1] = (struct pollfd) { .fd = errors[0], .events = POLLIN };
	pfd[2] = (struct pollfd) { .fd = signalfd(-1, &child, SFD_CLOEXEC), .events = POLLIN };

	while (running || pfd[0].fd >= 0 || pfd[1].fd >= 0) {
		poll(pfd, 3, 500);
		if (pfd[0].revents)
			pump(&pfd[0], PORT_OUTPUT);
		if (pfd[1].revents)
			pump(&pfd[1], PORT_ERRORS);
		if (pfd[2].revents & POLLIN)
			(void)!read(pfd[2].fd, &info, sizeof(info));
		while ((dead = waitpid(-1, &state, WNOHANG)) > 0) {
			if (dead != pid)
				continue;
			running = false;
			result = state;
		}
		if (running && timeout && !late && now() - start > timeout) {
			status("timeout %ld", timeout);
			show_blocked();
			late = true;
		}
		if ((late || !running) && !killed) {	/* what it left behind holds the pipes open */
			write_file(CGROUP "/cgroup.kill", "1");
			killed = now();
		}
		if (killed && now() - killed > 20 && !told) {
			status("stuck a process of the command outlives SIGKILL");
			show_blocked();
			told = true;
		}
		if (told)
			break;
	}
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	return late ? -1 : result;
}

static void unload_dvsm(void)
{
	double start = now();

	/* The last reference may be dropped by a worker (io_uring's exit, a delayed fput). */
	while (syscall(SYS_delete_module, "dvsm", O_NONBLOCK)) {
		if (errno == ENOENT)
			return;
		if (now() - start > 60) {
			status("rmmod %s", strerror(errno));
			return;
		}
		usleep(50000);
	}
}

static bool kmemleak_is_wanted(void)
{
	char text[4096] = "";
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		fail("cannot read the command line");
	close(fd);
	return !strstr(text, "kmemleak=off") && !access(KMEMLEAK, F_OK);
}

/* Two scans, because an object that changed since the last one is not reported; five seconds, because younger ones are not. */
static void check_kmemleak(void)
{
	char text[16384];
	ssize_t size;
	int fd;

	if (!kmemleak_is_wanted())
		return;
	sleep(6);
	/* It refuses to scan once it has switched itself off, for want of memory or by an error of its own. */
	if (write_file(KMEMLEAK, "scan") || write_file(KMEMLEAK, "scan")) {
		status("splat kmemleak has switched itself off");
		return;
	}
	fd = open(KMEMLEAK, O_RDONLY | O_CLOEXEC);
	size = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (size > 0) {
		status("splat kmemleak found leaks");
		port_write(PORT_ERRORS, text, size);
		write_file(KMEMLEAK, "clear");
	}
	if (fd >= 0)
		close(fd);
}

/* What the kernel says about its own bugs; run.sh has the same list for a console whose VM did not live to read its log. */
static bool is_splat(const char *line)
{
	static const char * const signs[] = {
#include "splats.h"
	};
	size_t i;

	for (i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
		if (strstr(line, signs[i]))
			return true;
	return false;
}

static void check_dmesg(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char record[8192], *text, *end;
	ssize_t size;
	int said = 0;

	if (fd < 0)
		fail("cannot read the kernel log: %m");
	while ((size = read(fd, record, sizeof(record) - 1)) > 0 || (size < 0 && errno == EPIPE)) {
		if (size < 0)
			continue;	/* the ring went round: the next read goes on with the oldest record left */
		record[size] = '\0';
		text = strchr(record, ';');
		if (!text)
			continue;
		end = strchr(text, '\n');
		if (end)
			*end = '\0';
		if (is_splat(text + 1) && said++ < 20)
			status("splat %s", text + 1);
	}
	close(fd);
}

static void check_taint(void)
{
	/* proprietary 0, forced load 1, ..., out-of-tree 12, unsigned 13: only those that tell of a kernel bug */
	static const struct { int bit; const char *name; } bugs[] = {
		{ 4, "machine check" }, { 5, "bad page" }, { 7, "oops" }, { 9, "warning" }, { 14, "soft lockup" },
	};
	char text[32] = "";
	int fd = open("/proc/sys/kernel/tainted", O_RDONLY | O_CLOEXEC);
	unsigned long taint;
	size_t i;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		fail("cannot read the taint flags");
	close(fd);
	taint = strtoul(text, NULL, 10);
	for (i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++)
		if (taint >> bugs[i].bit & 1)
			status("splat the kernel is tainted: %s", bugs[i].name);
}

int main(void)
{
	bool host_root, have_dvsm;
	char *cwd, *root;
	int state;

	if (getpid() != 1) {
		fprintf(stderr, "this is the first process of a test VM\n");
		return 2;
	}
	if (ioperm(PORT_OUTPUT, PORT_LAST - PORT_OUTPUT + 1, 1) || ioperm(PORT_EXIT, 1, 1))
		return 2;
	status("boot");
	vm_dir = open("/vm", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	cwd = vm_read("cwd", NULL);
	root = vm_read("root", NULL);
	host_root = root && !strcmp(root, "host");
	have_dvsm = !faccessat(vm_dir, "dvsm.ko", F_OK, 0);
	load_modules();
	if (host_root)
		enter_host_root(cwd);
	else
		mount_system("");
	if (!host_root)
		install_busybox();
	write_file("/proc/sys/kernel/hostname", "dvsm-vm");
	if (have_dvsm)
		insmod("dvsm.ko", vm_read("params", NULL));
	make_cgroup();

	status("run");
	state = run_command(split_argv(), cwd, vm_number("timeout"));
	if (state >= 0) {
		status("exit %d", WIFSIGNALED(state) ? 128 + WTERMSIG(state) : WEXITSTATUS(state));
		check_kmemleak();
		if (have_dvsm)
			unload_dvsm();
	}
	check_dmesg();
	check_taint();
	power_off();
}
