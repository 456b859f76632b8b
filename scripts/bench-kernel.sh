#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What the module's paths cost beside hugetlb's and shmem's, in a VM whose clock counts instructions: one column for each kernel.
#   bench-kernel.sh [KERNEL...]     (default: 6.1 6.12; options of kernel_bench in $BENCH_ARGS)
# init_on_alloc=0, because Debian's default has the page allocator zero pages that are then zeroed once more, by all of them.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$top/build/bench
bench=$top/build/selftests/kernel_bench
kernels=("$@")
[ $# -gt 0 ] || kernels=(6.1 6.12)

"$top/scripts/deps.sh" build vm
make -s -C "$top" tests >&2
mkdir -p "$out"
read -r -a arguments <<<"${BENCH_ARGS-}"
for kernel in "${kernels[@]}"; do
	echo "bench-kernel: measuring on $kernel" >&2
	"$top/scripts/vm/run.sh" --kernel "$kernel" --icount --smp 1 --mem 6G --timeout 1200 --append init_on_alloc=0 -- \
		"$bench" --json --run "$kernel" "${arguments[@]}" >"$out/$kernel.json"
done
rows=("${kernels[@]/#/$out/}")
exec "$bench" --report "${rows[@]/%/.json}"
