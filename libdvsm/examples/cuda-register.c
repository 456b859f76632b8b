// SPDX-License-Identifier: GPL-2.0-only
/*
 * cuda-register - what a region registered with a GPU gives to copies to the device.
 *
 *   cuda-register [MIB]
 *
 * Copies MIB (512) to the device from memory by malloc(), and from a region before and
 * after cuMemHostRegister(), which lets the device read it by itself, and compares what
 * arrived. Needs a driver at run time only: libcuda is looked up, and where it or a
 * device is missing the program says so and ends with status 4.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>

#include <dvsm/dvsm.h>

#define ROUNDS	5
#define SKIPPED	4

/* Of cuda.h, which need not be there. */
typedef int cu_result;
typedef int cu_device;
typedef void *cu_context;
typedef unsigned long long cu_pointer;

static struct {
	cu_result (*init)(unsigned int flags);
	cu_result (*device_get)(cu_device *device, int ordinal);
	cu_result (*device_name)(char *name, int length, cu_device device);
	cu_result (*context_retain)(cu_context *context, cu_device device);
	cu_result (*context_set)(cu_context context);
	cu_result (*alloc)(cu_pointer *pointer, size_t length);
	cu_result (*release)(cu_pointer pointer);
	cu_result (*copy_to)(cu_pointer to, const void *from, size_t length);
	cu_result (*copy_from)(void *to, cu_pointer from, size_t length);
	cu_result (*host_register)(void *memory, size_t length, unsigned int flags);
	cu_result (*host_unregister)(void *memory);
	cu_result (*synchronize)(void);
} cu;

static const struct {
	const char *name;
	void *where;
} symbols[] = {
	{ "cuInit", &cu.init },
	{ "cuDeviceGet", &cu.device_get },
	{ "cuDeviceGetName", &cu.device_name },
	{ "cuDevicePrimaryCtxRetain", &cu.context_retain },
	{ "cuCtxSetCurrent", &cu.context_set },
	{ "cuMemAlloc_v2", &cu.alloc },
	{ "cuMemFree_v2", &cu.release },
	{ "cuMemcpyHtoD_v2", &cu.copy_to },
	{ "cuMemcpyDtoH_v2", &cu.copy_from },
	{ "cuMemHostRegister_v2", &cu.host_register },
	{ "cuMemHostUnregister", &cu.host_unregister },
	{ "cuCtxSynchronize", &cu.synchronize },
};

__attribute__((noreturn)) static void skip(const char *why)
{
	printf("cuda-register: SKIP: %s\n", why);
	exit(SKIPPED);
}

static void need(int holds, const char *what)
{
	if (holds)
		return;
	perror(what);
	exit(1);
}

static void need_cu(cu_result result, const char *what)
{
	if (!result)
		return;
	fprintf(stderr, "cuda-register: %s: CUDA error %d\n", what, result);
	exit(1);
}

static cu_device find_device(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW);
	cu_device device;
	size_t i;

	if (!library)
		skip("no libcuda.so.1 (no NVIDIA driver)");
	for (i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *symbol = dlsym(library, symbols[i].name);

		if (!symbol)
			skip(symbols[i].name);
		memcpy(symbols[i].where, &symbol, sizeof(symbol));
	}
	if (cu.init(0) || cu.device_get(&device, 0))
		skip("no CUDA device");
	return device;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

/* The best of some rounds, in MiB/s. */
static double bandwidth(cu_pointer device, const void *memory, size_t length)
{
	double best = 0;
	int round;

	for (round = 0; round < ROUNDS; round++) {
		double start = now(), rate;

		need_cu(cu.copy_to(device, memory, length), "cuMemcpyHtoD");
		need_cu(cu.synchronize(), "cuCtxSynchronize");
		rate = length / 1048576.0 / (now() - start);
		if (rate > best)
			best = rate;
	}
	return best;
}

static void fill(uint64_t *words, size_t length, uint64_t seed)
{
	size_t i;

	for (i = 0; i < length / sizeof(*words); i++)
		words[i] = (i + 1) * seed;
}

int main(int argc, char **argv)
{
	size_t length = (argc > 1 ? strtoull(argv[1], NULL, 0) : 512) << 20;
	struct dvsm_region_options options = {
		.size = sizeof(options),
		.flags = DVSM_REGION_F_REGISTRABLE,
		.label = "cuda-register",
	};
	cu_device device = find_device();
	struct dvsm_region *region;
	uint64_t *plain, *shared;
	char name[128] = "";
	double rates[3];
	cu_context context;
	cu_pointer there;
	int same;

	need_cu(cu.context_retain(&context, device), "cuDevicePrimaryCtxRetain");
	need_cu(cu.context_set(context), "cuCtxSetCurrent");
	need_cu(cu.device_name(name, sizeof(name), device), "cuDeviceGetName");
	need_cu(cu.alloc(&there, length), "cuMemAlloc");
	region = dvsm_region_create(length, &options);
	need(!!region, "dvsm_region_create");
	shared = dvsm_region_map(region, 0, 0, PROT_READ | PROT_WRITE, NULL);
	plain = malloc(length);
	need(shared && plain, "memory");
	fill(plain, length, 3);
	fill(shared, length, 5);

	rates[0] = bandwidth(there, plain, length);
	rates[1] = bandwidth(there, shared, length);
	need_cu(cu.host_register(shared, length, 0), "cuMemHostRegister");
	rates[2] = bandwidth(there, shared, length);
	need_cu(cu.copy_from(plain, there, length), "cuMemcpyDtoH");
	same = !memcmp(plain, shared, length);
	need_cu(cu.host_unregister(shared), "cuMemHostUnregister");

	printf("cuda-register: %s, %zu MiB to the device: malloc %.0f MiB/s, region on %s %.0f (%.2f times), registered %.0f (%.2f times); contents %s\n",
	       name, length >> 20, rates[0], dvsm_backend_name(dvsm_region_backend(region)),
	       rates[1], rates[1] / rates[0], rates[2], rates[2] / rates[0],
	       same ? "arrived" : "DIFFER");
	free(plain);
	dvsm_region_unmap(shared, length);
	dvsm_region_destroy(region);
	cu.release(there);
	return same ? 0 : 1;
}
