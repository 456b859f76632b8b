#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# dvsm's heap beside other allocators, one after the other in each round: a table with the ratio to each workload's best.
#   heap_bench.sh [WORKLOAD:WORKERS...]    (default: all, for 1 and 2 workers and for as many as the machine has CPUs)
# Peers that are not installed are left out: apt install libjemalloc2 libtcmalloc-minimal4 libmimalloc2.0 libboost-dev libmm-dev
# OUT=DIR for the programs, ROUNDS=N for the median of N rounds.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
out=${OUT:-$top/build/bench}
lib=${LIBO:-$top/build/libdvsm}
rounds=${ROUNDS:-3}
mkdir -p "$out"

flags=(-O2 -g -fno-builtin-malloc -fno-builtin-free -D_GNU_SOURCE -Wall -Wextra -Wno-unused-parameter
	-I"$top/include" -I"$top/include/uapi" -I"$here")

# build NAME FLAGS...: heap_bench.c with one adapter
build()
{
	local name=$1
	shift
	gcc -std=gnu11 "${flags[@]}" -o "$out/heap_bench_$name" "$here/heap_bench.c" "$@" -lpthread
}

make -s -C "$top/libdvsm" O="$lib" lib
build dvsm -DBENCH_INLINE='"heap_bench_dvsm.h"' -L"$lib" -ldvsm -Wl,-rpath,"$lib"
build dvsm-inline -DBENCH_INLINE='"heap_bench_dvsm.h"' -DBENCH_DVSM_INLINE -L"$lib" -ldvsm -Wl,-rpath,"$lib"
build libc -DBENCH_INLINE='"heap_bench_libc.h"'
build seed -DBENCH_INLINE='"heap_bench_seed.h"'
names=(dvsm dvsm-inline glibc)
declare -A preload program
program=([dvsm]=dvsm [dvsm-inline]=dvsm-inline [glibc]=libc [seed]=seed)
for peer in mimalloc:libmimalloc.so.2 tcmalloc:libtcmalloc_minimal.so.4 jemalloc:libjemalloc.so.2; do
	file=$(ldconfig -p | awk -v name="${peer#*:}" '$1 == name { print $NF; exit }')
	[ -n "$file" ] || continue
	names+=("${peer%%:*}")
	program[${peer%%:*}]=libc
	preload[${peer%%:*}]=$file
done
names+=(dvsm-malloc)
program[dvsm-malloc]=libc
preload[dvsm-malloc]=$lib/libdvsm-malloc.so
names+=(seed)
if [ -e /usr/include/boost/interprocess/managed_external_buffer.hpp ]; then
	g++ "${flags[@]}" -c -o "$out/boost.o" "$here/heap_bench_boost.cpp"
	gcc -std=gnu11 "${flags[@]}" -o "$out/heap_bench_boost" "$here/heap_bench.c" "$out/boost.o" -lstdc++ -lpthread
	names+=(boost)
	program[boost]=boost
fi
if [ -e /usr/include/mm.h ]; then
	build mm -DBENCH_INLINE='"heap_bench_mm.h"' -lmm
	names+=(mm)
	program[mm]=mm
fi

cpus=$(nproc)
workloads=("$@")
if [ $# -eq 0 ]; then
	workloads=(local:1 local:2 deep:1 deep:2 handoff:2 mixed:1 mixed:2 larson:2 churn:1 huge:1 footprint:1)
	[ "$cpus" -le 2 ] || workloads+=("local:$cpus" "handoff:$cpus" "mixed:$cpus" "larson:$cpus")
	workloads+=("local:$((4 * cpus))" "mixed:$((4 * cpus))")
fi

median() { sort -g | awk '{ value[NR] = $1 } END { if (NR) print value[int((NR + 1) / 2)]; else print "-" }'; }

# The shared peers' segments are small and their locks are slow: some workloads are not for them.
runs() { case $1:$2 in boost:huge | mm:huge | mm:mixed | mm:larson | mm:footprint | mm:deep) return 1 ;; esac; }

printf '%-12s' workload
printf '%13s' "${names[@]}"
printf '   M operations/s of CPU time (footprint: MiB)\n'
for item in "${workloads[@]}"; do
	workload=${item%%:*} workers=${item##*:}
	declare -A results=()
	for ((round = 0; round < rounds; round++)); do
		for name in "${names[@]}"; do
			runs "$name" "$workload" || continue
			value=$(LD_PRELOAD=${preload[$name]:-} timeout 60 "$out/heap_bench_${program[$name]}" "$workload" "$workers" 2>/dev/null) || continue
			results[$name]+="$value"$'\n'
		done
	done
	printf '%-12s' "$item"
	for name in "${names[@]}"; do
		printf '%13s' "$(printf '%s' "${results[$name]:-}" | median)"
	done
	ours=$(printf '%s' "${results[dvsm]:-}" | median)
	mimalloc=$(printf '%s' "${results[mimalloc]:-}" | median)
	printf '   dvsm/mimalloc %s\n' "$(awk -v a="$ours" -v b="$mimalloc" 'BEGIN { if (b + 0) printf "%.2f", a / b; else print "-" }')"
	unset results
done
