// SPDX-License-Identifier: GPL-2.0-only
/*
 * dmabuf-vgem - a part of a region as a dma-buf, in the hands of a driver that knows nothing of dvsm.
 *
 *   dmabuf-vgem [MIB]
 *
 * The driver is the kernel's vgem (modprobe vgem), a graphics card of nothing but memory. It imports the second half of a pinned
 * region of MIB (16), as a real card's driver would; then the program gives up the region and the dma-buf, and vgem's object is all that
 * keeps that half. What a mapping of that object shows is compared with what the region held. DRM maps no object that was imported;
 * it hands out the object's dma-buf, to be mapped instead.
 *
 * Where there is no vgem, or no /dev/dvsm, the program says so and ends with status 4.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <dvsm/dvsm.h>
#include <libdrm/drm.h>

#define NR_CARDS	16
#define SKIPPED		4

__attribute__((noreturn)) static void skip(const char *why)
{
	printf("dmabuf-vgem: SKIP: %s\n", why);
	exit(SKIPPED);
}

static void need(int holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "dmabuf-vgem: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int is_vgem(int card)
{
	char name[16] = "";
	struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };

	return !ioctl(card, DRM_IOCTL_VERSION, &version) && !strcmp(name, "vgem");
}

static int open_vgem(void)
{
	char path[32];
	int i, card;

	for (i = 0; i < NR_CARDS; i++) {
		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		card = open(path, O_RDWR | O_CLOEXEC);
		if (card >= 0 && is_vgem(card))
			return card;
		if (card >= 0)
			close(card);
	}
	skip("no vgem among /dev/dri/card* (modprobe vgem)");
}

static uint64_t word_at(size_t i)
{
	return (i + 1) * 0x9e3779b97f4a7c15;
}

/* A dma-buf of the second half of a region that is gone when this returns. */
static int export_half(size_t half)
{
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.flags = DVSM_REGION_F_PINNED,
		.label = "dmabuf-vgem",
	};
	struct dvsm_region *region = dvsm_region_create(2 * half, &options);
	uint64_t *words;
	int dmabuf;
	size_t i;

	if (!region && errno == EOPNOTSUPP)
		skip("no /dev/dvsm, and no dma-bufs of memfd");
	if (!region && errno == ENOMEM) {
		char text[300];

		dvsm_memlock_explain(2 * half, text, sizeof(text));
		fprintf(stderr, "dmabuf-vgem: %s\n", text);
		exit(1);
	}
	need(!!region, "dvsm_region_create");
	words = dvsm_region_map(region, 0, 0, PROT_READ | PROT_WRITE, NULL);
	need(!!words, "dvsm_region_map");
	for (i = 0; i < half / sizeof(*words); i++)
		words[half / sizeof(*words) + i] = word_at(i);
	dmabuf = dvsm_region_export_dmabuf(region, half, half);
	if (dmabuf == -EOPNOTSUPP)
		skip("no /dev/dvsm, and no dma-bufs of memfd");
	need(dmabuf >= 0, "dvsm_region_export_dmabuf");
	dvsm_region_unmap(words, 2 * half);
	dvsm_region_destroy(region);
	return dmabuf;
}

int main(int argc, char **argv)
{
	size_t half = (argc > 1 ? strtoull(argv[1], NULL, 0) : 16) << 19, nr_wrong = 0, i;
	int card = open_vgem(), dmabuf = export_half(half);
	struct drm_prime_handle object = { .fd = dmabuf };
	uint64_t *words;

	need(!ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &object), "import into vgem");
	close(dmabuf);

	object.flags = O_RDWR | O_CLOEXEC;
	need(!ioctl(card, DRM_IOCTL_PRIME_HANDLE_TO_FD, &object), "dma-buf of vgem's object");
	words = mmap(NULL, half, PROT_READ | PROT_WRITE, MAP_SHARED, object.fd, 0);
	need(words != MAP_FAILED, "mmap");
	close(object.fd);
	for (i = 0; i < half / sizeof(*words); i++)
		nr_wrong += words[i] != word_at(i);
	printf("dmabuf-vgem: %zu KiB of a region through vgem, %zu words wrong\n", half >> 10, nr_wrong);
	return nr_wrong ? 1 : 0;
}
