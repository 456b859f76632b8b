#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The GPU example: on a device where there is one; a plain word where there is none; and its own steps with a driver
# whose device is memory of this process. TAP.
set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
program=$top/build/libdvsm/examples/cuda-register
[ -x "$program" ] || { echo "1..0 # SKIP no cuda-register (make)"; exit 4; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Refuses to copy from memory that it was told of and that has been unmapped, and to end what it was not told of.
driver()
{
	cat >"$work/cuda.c" <<-'END'
		#include <stdlib.h>
		#include <string.h>
		static void *registered;
		int cuInit(unsigned int flags) { return flags != 0; }
		int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
		int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "memory", length); return device; }
		int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &registered; return device; }
		int cuCtxSetCurrent(void *context) { return context != &registered; }
		int cuMemAlloc_v2(unsigned long long *at, size_t length) { *at = (unsigned long long)malloc(length); return !*at; }
		int cuMemFree_v2(unsigned long long at) { free((void *)at); return 0; }
		int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t length) { memcpy((void *)to, from, length); return 0; }
		int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t length)
		{
			memcpy(to, (void *)from, length);
			if (getenv("CUDA_BREAK"))
				((char *)to)[length / 2] ^= 1;
			return 0;
		}
		int cuMemHostRegister_v2(void *at, size_t length, unsigned int flags) { registered = at; return !length || flags; }
		int cuMemHostUnregister(void *at) { return at != registered; }
		int cuCtxSynchronize(void) { return 0; }
	END
	"${CC:-gcc}" -shared -fPIC -o "$work/libcuda.so.1" "$work/cuda.c"
}

n=0 failed=0
report()	# NAME STATUS
{
	n=$((n + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $n $1"
	else
		echo "not ok $n $1"
		sed 's/^/# /' "$work/log"
		failed=1
	fi
}

echo 1..3
"$program" 64 >"$work/log" 2>&1
status=$?
case $status in
0) grep -q 'contents arrived' "$work/log" ;;
4) grep -q 'SKIP: no ' "$work/log" ;;
*) false ;;
esac
report "it measures, or says in a word what is missing and ends with 4" $?
sed 's/^/# /' "$work/log"
driver && LD_LIBRARY_PATH=$work "$program" 16 >"$work/log" 2>&1 && grep -q 'memory, 16 MiB.*contents arrived' "$work/log"
report "what a device got is what the registered region holds" $?
CUDA_BREAK=1 LD_LIBRARY_PATH=$work "$program" 16 >"$work/log" 2>&1
[ $? -eq 1 ] && grep -q 'contents DIFFER' "$work/log"
report "contents that differ are an error" $?
exit $failed
