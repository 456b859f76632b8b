#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# dvsm's heap beside other allocators, one after the other in each round: a table with the ratio to each workload's best.
#   heap_bench.sh [WORKLOAD:WORKERS...]    (default: all, for 1 and 2 workers and for as many as the machine has CPUs)
# With gnuplot it also draws heap_bench.svg, beside the programs: each allocator's share of the best.
# As root it installs the peers (deps.sh bench-heap); those that are missing otherwise are named and left out.
# OUT=DIR for the programs, ROUNDS=N for the median of N rounds. Exits with 1 if a bar is missed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
out=${OUT:-$top/build/bench}
lib=${LIBO:-$top/build/libdvsm}
rounds=${ROUNDS:-3}
mkdir -p "$out"
"$top/scripts/deps.sh" bench-heap || echo "heap_bench: peers that are missing are left out" >&2

# Aligned, or where the compiler happens to put a loop decides about a fifth of the result.
flags=(-O2 -g -falign-functions=64 -falign-loops=32 -fno-builtin-malloc -fno-builtin-free -D_GNU_SOURCE -Wall -Wextra -Wno-unused-parameter
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
many=$((4 * cpus < 256 ? 4 * cpus : 256))	# what the benchmark has room for
workloads=("$@")
if [ $# -eq 0 ]; then
	workloads=(local:1 local:2 deep:1 deep:2 handoff:2 mixed:1 mixed:2 larson:2 churn:1 huge:1 footprint:1 phase:1 phase-after:1 phase-trimmed:1)
	[ "$cpus" -le 2 ] || workloads+=("local:$cpus" "handoff:$cpus" "mixed:$cpus" "larson:$cpus")
	workloads+=("local:$many" "mixed:$many")
fi

median() { sort -g | awk '{ value[NR] = $1 } END { if (NR) print value[int((NR + 1) / 2)]; else print "-" }'; }

# The shared peers' segments are small and their locks are slow: some workloads are not for them.
runs() { case $1:$2 in boost:huge | mm:huge | mm:mixed | mm:larson | mm:footprint | mm:phase* | mm:deep) return 1 ;; esac; }

missed=''
declare -A result	# [WORKLOAD:WORKERS NAME]: the median

measure()
{
	local item=$1 name round value
	local workload=${item%%:*} workers=${item##*:}
	local -A values=()

	for ((round = 0; round < rounds; round++)); do
		for name in "${names[@]}"; do
			runs "$name" "$workload" || continue
			if ! value=$(LD_PRELOAD=${preload[$name]:-} timeout 60 "$out/heap_bench_${program[$name]}" "$workload" "$workers" 2>/dev/null); then
				echo "heap_bench.sh: $name broke off in $item" >&2
				# A peer's figure is left out; ours is missed.
				[[ $name != dvsm* ]] || missed=yes
				continue
			fi
			values[$name]+="$value"$'\n'
		done
	done
	for name in "${names[@]}"; do
		result[$item $name]=$(printf '%s' "${values[$name]:-}" | median)
	done
}

# bar WHAT VALUE LEAST|-MOST: one line, and whether the bar is reached
bar()
{
	awk -v what="$1" -v value="$2" -v least="$3" 'BEGIN {
		if (value !~ /^[0-9]/)
			exit 0
		most = least < 0
		least = most ? -least : least
		printf "%-52s %8.2f   %s %-5g %s\n", what, value, most ? "at most" : "at least", least,
			(most ? value <= least : value >= least) ? "reached" : "MISSED"
		exit !(most ? value <= least : value >= least)
	}' || missed=yes
}

ratio() { awk -v a="${result[$1 $2]:--}" -v b="${result[$1 $3]:--}" 'BEGIN { if (a + 0 && b + 0) print a / b; else print "-" }'; }

# back ITEM MOST: how much of a phase's memory stays when it is over
back()
{
	bar "$1 to its peak" "$(awk -v rest="${result[$1 dvsm]:--}" -v peak="${result[phase:${1##*:} dvsm]:--}" \
		'BEGIN { if (rest != "-" && peak + 0) print rest / peak; else print "-" }')" "-$2"
}

# The best of the private allocators.
best()
{
	local name
	for name in glibc mimalloc tcmalloc jemalloc; do
		echo "${result[$1 $name]:-0} $name"
	done | sort -g | tail -n 1 | cut -d ' ' -f 2
}

# From the entry to the first return, which is the way of a block that is ready.
instructions() { objdump -d --no-show-raw-insn "$lib/libdvsm.so" | awk -v name="<$1>:" '$2 == name { on = 1; next } on { n++ } on && $2 == "ret" { print n; exit }'; }

printf '%-12s' workload
printf '%13s' "${names[@]}"
printf '   M operations/s of CPU time (footprint, phase: MiB)\n'
for item in "${workloads[@]}"; do
	measure "$item"
	printf '%-12s' "$item"
	for name in "${names[@]}"; do
		printf '%13s' "${result[$item $name]}"
	done
	printf '\n'
done

printf '\ninstructions of malloc %s, of free %s (of 64 bytes, ready on the CPU)\n\n' \
	"$(instructions dvsm_malloc)" "$(instructions dvsm_free)"
for item in "${workloads[@]}"; do
	case $item in
	local:[12])
		bar "$item, inline, to mimalloc" "$(ratio "$item" dvsm-inline mimalloc)" 1.25
		bar "$item, by calls, to mimalloc" "$(ratio "$item" dvsm mimalloc)" 1.25
		;;
	handoff:2) bar "$item to mimalloc" "$(ratio "$item" dvsm mimalloc)" 3 ;;
	footprint:*)
		bar "$item to mimalloc" "$(ratio "$item" dvsm mimalloc)" -1.15
		continue
		;;
	phase:*) continue ;;
	phase-after:*)
		bar "$item to mimalloc" "$(ratio "$item" dvsm mimalloc)" -1.15
		back "$item" 0.25
		continue
		;;
	phase-trimmed:*)
		back "$item" 0.05
		continue
		;;
	mixed:* | larson:* | churn:* | huge:*)
		# Huge pages and stacks for each CPU, beside small pages and arenas.
		[ "$item" != "mixed:$many" ] || bar "$item to glibc" "$(ratio "$item" dvsm glibc)" 1.22
		bar "$item to the best private one ($(best "$item"))" "$(ratio "$item" dvsm "$(best "$item")")" 0.9
		;;
	esac
	bar "$item to Boost.Interprocess" "$(ratio "$item" dvsm boost)" 10
	bar "$item to OSSP mm" "$(ratio "$item" dvsm mm)" 50
done
# By CPU time: what a worker does in a second must not shrink with the number of workers.
for item in "${workloads[@]}"; do
	case $item in
	local:1 | mixed:1) ;;
	local:* | mixed:*)
		bar "$item, each worker to one alone" "$(awk -v n="${item##*:}" -v all="${result[$item dvsm]:--}" -v one="${result[${item%%:*}:1 dvsm]:--}" \
			'BEGIN { if (all + 0 && one + 0) print all / n / one; else print "-" }')" 0.95
		;;
	esac
done

# Footprint and phase are the other way round: less is better.
plot()
{
	local name item
	command -v gnuplot >/dev/null || return 0
	{
		printf 'workload'
		printf ' %s' "${names[@]}"
		printf '\n'
		for item in "${workloads[@]}"; do
			printf '%s' "$item"
			for name in "${names[@]}"; do
				printf ' %s' "${result[$item $name]:--}"
			done
			printf '\n'
		done
	} >"$out/heap_bench.dat"
	awk 'NR == 1 { print; next }
	{
		best = ""
		for (i = 2; i <= NF; i++)
			if ($i ~ /^[0-9]/ && $i + 0 && (best == "" || ($1 ~ /^(footprint|phase)/ ? $i + 0 < best : $i + 0 > best)))
				best = $i + 0
		printf "%s", $1
		for (i = 2; i <= NF; i++)
			printf " %s", $i ~ /^[0-9]/ && $i + 0 ? ($1 ~ /^(footprint|phase)/ ? best / $i : $i / best) : "-"
		printf "\n"
	}' "$out/heap_bench.dat" >"$out/heap_bench.relative"
	gnuplot <<-EOT
	set terminal svg size 1400,500
	set output "$out/heap_bench.svg"
	set style data histogram
	set style fill solid
	set yrange [0:1.05]
	set ylabel "share of the best (footprint, phase: the least, divided)"
	set key outside
	set datafile missing "-"
	plot for [i=2:$((${#names[@]} + 1))] "$out/heap_bench.relative" using i:xtic(1) title columnheader(i)
	EOT
	echo "plot: $out/heap_bench.svg"
}
plot
[ -z "$missed" ]
