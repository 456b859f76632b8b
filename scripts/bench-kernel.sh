#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What the module's paths cost beside hugetlb's and shmem's, in VMs whose clock counts instructions. Prints one table and whether
# each bar is met; exits with 1 if one is missed.
#   bench-kernel.sh [RUN...]     RUN is KERNEL or KERNEL,KERNEL-ARGUMENT (default: the four below)
# Options for kernel_bench, such as --measure "snapshot-*", in $BENCH_ARGS.
#
# Each kernel runs twice. As Debian boots it, the page allocator zeroes every page that it hands out, so that hugetlb and shmem, which
# zero for themselves, do it twice. With init_on_alloc=0 everybody zeroes once.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$top/build/bench
bench=$top/build/selftests/kernel_bench
runs=("$@")
[ $# -gt 0 ] || runs=(6.1 6.12 "6.1,init_on_alloc=0" "6.12,init_on_alloc=0")

"$top/scripts/deps.sh" build vm
make -s -C "$top/selftests" O="$top/build/selftests" "$bench" >&2
mkdir -p "$out"
read -r -a arguments <<<"${BENCH_ARGS-}"

# measure RUN: one VM; its rows into $out/RUN.json
measure()
{
	local run=$1 extra=()

	[ "$run" = "${run#*,}" ] || extra=(--append "${run#*,}")
	"$top/scripts/vm/run.sh" --kernel "${run%%,*}" --icount --smp 1 --nodes 2 --cpuless-node 1 --mem 4G --timeout 10800 "${extra[@]}" -- \
		"$bench" --json --run "$run" "${arguments[@]}" >"$out/$run.json" 2>"$out/$run.log" ||
		{ echo "bench-kernel: $run failed:" >&2; tail -n 20 "$out/$run.log" >&2; return 1; }
	cat "$out/$run.log" >&2
}

# One VM for each CPU: what they count does not depend on what else runs. Each in a process group of its own, to be ended as one.
set -m
stop()
{
	local job

	for job in $(jobs -p); do
		kill -- "-$job" 2>/dev/null || true
	done
}
trap stop EXIT
trap 'exit 130' INT TERM HUP
pids=() failed=''
for run in "${runs[@]}"; do
	while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
		wait -n || true
	done
	echo "bench-kernel: measuring on $run" >&2
	measure "$run" &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	wait "$pid" || failed=yes
done
[ -z "$failed" ] || exit 2
rows=("${runs[@]/#/$out/}")
"$bench" --report "${rows[@]/%/.json}"
