// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-edu - a PCI device, driven from user space through an IOMMU, copies within a
 * region.
 *
 *   vfio-edu GROUP DEVICE [kill]        vfio-edu 7 0000:00:04.0
 *
 * The device is QEMU's "edu", bound to vfio-pci: it copies up to 4 KiB from memory
 * into a buffer of its own or back, and reaches only 28 bits of addresses, so that it
 * needs the IOMMU for memory that lies anywhere. GROUP is its IOMMU group.
 *
 * The region is mapped for the device once, all of it. Then each of some pieces is
 * copied into the device and from there to another place of the region, and the
 * processor looks.
 *
 * With "kill" a child maps a region of its own and is killed while the device reads it.
 * The memory stays, with what the child has put there, until it is unmapped for the
 * device; then it comes back.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dvsm/dvsm.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#define LENGTH		(16UL << 20)
#define IOVA		(32UL << 20)	/* where the device sees the region */
#define CHILD_LENGTH	(64UL << 20)
#define CHILD_IOVA	(128UL << 20)
#define PIECE		2048UL		/* QEMU 7.2 refuses the whole of the buffer of 4 KiB */

/* edu's registers and its buffer, in BAR 0 and on its own bus. */
#define EDU_ID		0x00
#define EDU_SOURCE	0x80
#define EDU_TARGET	0x88
#define EDU_COUNT	0x90
#define EDU_COMMAND	0x98
#define EDU_START	1
#define EDU_TO_MEMORY	2
#define EDU_BUFFER	0x40000

struct edu {
	int container;
	int group;
	int device;
	volatile uint8_t *registers;
};

static void die(const char *what)
{
	fprintf(stderr, "vfio-edu: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void edu_open_group(struct edu *edu, const char *number)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[64];

	snprintf(path, sizeof(path), "/dev/vfio/%s", number);
	edu->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	edu->group = open(path, O_RDWR | O_CLOEXEC);
	if (edu->container < 0 || edu->group < 0)
		die(path);
	if (ioctl(edu->group, VFIO_GROUP_GET_STATUS, &status) ||
	    !(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		die("the group has devices that are not bound to vfio-pci");
	if (ioctl(edu->group, VFIO_GROUP_SET_CONTAINER, &edu->container) ||
	    ioctl(edu->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		die("VFIO_SET_IOMMU");
}

/* Lets the device read and write memory, and maps its registers. */
static void edu_open_device(struct edu *edu, const char *name)
{
	struct vfio_region_info config = {
		.argsz = sizeof(config),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	struct vfio_region_info bar = { .argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX };
	const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

	edu->device = ioctl(edu->group, VFIO_GROUP_GET_DEVICE_FD, name);
	if (edu->device < 0)
		die(name);
	if (ioctl(edu->device, VFIO_DEVICE_GET_REGION_INFO, &config) ||
	    pwrite(edu->device, &command, sizeof(command), config.offset + PCI_COMMAND) !=
	    sizeof(command))
		die("PCI command register");
	if (ioctl(edu->device, VFIO_DEVICE_GET_REGION_INFO, &bar))
		die("BAR 0");
	edu->registers = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, edu->device,
			      bar.offset);
	if (edu->registers == MAP_FAILED)
		die("BAR 0");
	if ((*(volatile uint32_t *)(edu->registers + EDU_ID) & 0xff) != 0xed) {
		errno = ENODEV;
		die("no edu device");
	}
}

static void edu_write(struct edu *edu, unsigned int where, uint64_t value)
{
	*(volatile uint64_t *)(edu->registers + where) = value;
}

static void edu_start(struct edu *edu, uint64_t source, uint64_t target, uint64_t command)
{
	edu_write(edu, EDU_SOURCE, source);
	edu_write(edu, EDU_TARGET, target);
	edu_write(edu, EDU_COUNT, PIECE);
	edu_write(edu, EDU_COMMAND, command | EDU_START);
}

static void edu_wait(struct edu *edu)
{
	while (*(volatile uint64_t *)(edu->registers + EDU_COMMAND) & EDU_START)
		usleep(100);
}

static void edu_copy(struct edu *edu, uint64_t source, uint64_t target, uint64_t command)
{
	edu_start(edu, source, target, command);
	edu_wait(edu);
}

static char *map_new_region(uint64_t length)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.flags = DVSM_REGION_F_PINNED,
		.label = "edu",
	};
	struct dvsm_region *region = dvsm_region_create(length, &options);
	char *memory;

	if (!region)
		die("dvsm_region_create");
	memory = dvsm_region_map(region, 0, 0, PROT_READ | PROT_WRITE, NULL);
	if (!memory)
		die("dvsm_region_map");
	return memory;
}

static void map_for_device(struct edu *edu, void *memory, uint64_t iova, uint64_t length)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)memory,
		.iova = iova,
		.size = length,
	};
	char text[300];

	if (!ioctl(edu->container, VFIO_IOMMU_MAP_DMA, &map))
		return;
	if (errno == ENOMEM && dvsm_memlock_explain(length, text, sizeof(text)))
		fprintf(stderr, "vfio-edu: %s\n", text);
	die("VFIO_IOMMU_MAP_DMA");
}

static void unmap_for_device(struct edu *edu, uint64_t iova, uint64_t length)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = length,
	};

	if (ioctl(edu->container, VFIO_IOMMU_UNMAP_DMA, &unmap))
		die("VFIO_IOMMU_UNMAP_DMA");
}

static char byte_of(uint64_t at)
{
	return (char)(at * 31 + at / 4099);
}

static long free_mib(void)
{
	struct sysinfo info;

	sysinfo(&info);
	return (long)((info.freeram * info.mem_unit) >> 20);
}

static void run_child(struct edu *edu)
{
	char *memory = map_new_region(CHILD_LENGTH);
	uint64_t at;

	for (at = 0; at < CHILD_LENGTH; at++)
		memory[at] = byte_of(at);
	map_for_device(edu, memory, CHILD_IOVA, CHILD_LENGTH);
	edu_start(edu, CHILD_IOVA, EDU_BUFFER, 0);
	raise(SIGKILL);
}

/* @memory is for the device to show what it finds in the child's. */
static int kill_child(struct edu *edu, char *memory)
{
	const long child_mib = CHILD_LENGTH >> 20;
	long before = free_mib(), kept, lost;
	unsigned int nr_wrong = 0, i;
	pid_t pid = fork();
	int status = 0, passed;
	uint64_t at;

	if (!pid)
		run_child(edu);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork");
	if (!WIFSIGNALED(status)) {
		errno = ECHILD;
		die("the child failed");
	}
	sleep(1);
	kept = before - free_mib();
	edu_wait(edu);
	for (at = 0; at < CHILD_LENGTH; at += CHILD_LENGTH / 16) {
		if (at)
			edu_copy(edu, CHILD_IOVA + at, EDU_BUFFER, 0);
		edu_copy(edu, EDU_BUFFER, IOVA, EDU_TO_MEMORY);
		for (i = 0; i < PIECE && memory[i] == byte_of(at + i); i++)
			;
		nr_wrong += i < PIECE;
	}
	unmap_for_device(edu, CHILD_IOVA, CHILD_LENGTH);
	for (i = 0; i < 100 && before - free_mib() > child_mib / 2; i++)
		usleep(100000);
	lost = before - free_mib();
	/* Half: others take and give memory, too, and some that is free waits for its processor. */
	passed = !nr_wrong && kept > child_mib / 2 && lost <= child_mib / 2;
	printf("vfio-edu: %s, of %ld MiB of a killed child %ld stayed, %u of 16 pieces wrong, %ld did not come back\n",
	       passed ? "passed" : "FAILED", child_mib, kept, nr_wrong, lost);
	return !passed;
}

int main(int argc, char **argv)
{
	unsigned int nr_wrong = 0, i;
	struct edu edu;
	char *memory;
	uint64_t at;

	if (argc != 3 && (argc != 4 || strcmp(argv[3], "kill"))) {
		fprintf(stderr, "usage: vfio-edu GROUP DEVICE [kill]\n");
		return 2;
	}
	memory = map_new_region(LENGTH);
	edu_open_group(&edu, argv[1]);
	edu_open_device(&edu, argv[2]);
	map_for_device(&edu, memory, IOVA, LENGTH);
	if (argc == 4)
		return kill_child(&edu, memory);

	for (at = 0; at < LENGTH; at++)
		memory[at] = byte_of(at);
	/* From the front half to the back half, a piece of each 256 KiB. */
	for (at = 0, i = 0; at < LENGTH / 2; at += 128 * PIECE, i++) {
		edu_copy(&edu, IOVA + at, EDU_BUFFER, 0);
		edu_copy(&edu, EDU_BUFFER, IOVA + LENGTH / 2 + at + PIECE, EDU_TO_MEMORY);
		nr_wrong += !!memcmp(memory + at, memory + LENGTH / 2 + at + PIECE, PIECE);
	}
	printf("vfio-edu: %s, %u of %u pieces wrong\n", nr_wrong ? "FAILED" : "passed", nr_wrong, i);
	return nr_wrong ? 1 : 0;
}
