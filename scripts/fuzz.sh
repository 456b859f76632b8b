#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Fuzzes the module on the debug kernel, led by KCOV.
#   fuzz.sh [SECONDS [run.sh options]]    (default: an hour; FUZZ_JOBS=2 beside each other)
#   fuzz.sh replay FILE [TIMES]           the sequences of FILE, in order
# A run begins where the last one ended: with build/fuzz/corpus.txt, and what was done until now is in build/fuzz/runs, one
# line for each VM; a VM takes FUZZ_ROUND (1800) seconds, then comes the next. So 100 000 sequences can be the sum of many runs.
# What is worth keeping is in build/fuzz/corpus.txt: copy it to selftests/fuzz/corpus.txt. When the kernel reports a
# bug, the last sequences of each job are in build/fuzz/last-JOB.txt, the guilty one at the end.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
out=$top/build/fuzz
log=$out/inputs
entries=64	# of 4096 bytes for each job, of 8 at most: fuzz_test.c knows them

vm()
{
	local timeout=$1
	shift
	rm -f "$log" "$out"/last-*.txt
	# kmemleak takes half of the time; it looks on in the bounded run that is a part of "make check". A clock that is a
	# device of the emulator would be read and set at each turn of the scheduler.
	DVSM_KCOV=1 scripts/vm/run.sh --kernel debug --nodes 2 --smp 2 --load brd --append kmemleak=off \
		--append "tsc=reliable clocksource=tsc highres=off" --timeout "$timeout" --log "$out/console" \
		--qemu-arg -object --qemu-arg "memory-backend-file,id=inputs,share=on,mem-path=$log,size=4M" \
		--qemu-arg -device --qemu-arg ivshmem-plain,memdev=inputs "$@"
}

# What stands in the memory device: each line begins with the number of its sequence.
last_inputs()
{
	local job
	for job in 0 1 2 3 4 5 6 7; do
		dd if="$log" bs=4096 skip=$((job * entries)) count=$entries status=none | tr -d '\0' | grep -aE '^[0-9]{10} [0-9a-f]*$' |
			sort | cut -d ' ' -f 2 >"$out/last-$job.txt" || rm -f "$out/last-$job.txt"
	done
	echo "fuzz.sh: failed, see $out; the last sequences: scripts/fuzz.sh replay FILE [TIMES]" >&2
	ls "$out"/last-*.txt >&2 || true
}

# fuzz_round SECONDS [run.sh options]: one VM
fuzz_round()
{
	local seconds=$1 corpus=$out/corpus.txt status=0
	shift
	[ -s "$corpus" ] || cp selftests/fuzz/corpus.txt "$corpus"
	vm $((seconds + 900)) --add "$corpus:/corpus" "$@" -- env DVSM_FUZZ_SECONDS="$seconds" DVSM_FUZZ_JOBS="${FUZZ_JOBS-2}" \
		DVSM_FUZZ_CORPUS=/corpus DVSM_FUZZ_KEEP=1 build/selftests/fuzz_test | tr -d '\r' | tee "$out/output" | grep -v '^# keep' || status=$?
	sed -nE 's/^# ([0-9]+) sequences in ([0-9]+) s$/\1 \2/p' "$out/output" >>"$out/runs"
	[ $status -eq 0 ] || return $status
	{ sed -n '/^#/p; /^[^#]/q' selftests/fuzz/corpus.txt; sed -n 's/^# keep //p' "$out/output" | sort; } >"$corpus.new"
	mv "$corpus.new" "$corpus"
}

mkdir -p "$out"
make -s tests >"$out/build.log" 2>&1 || { tail -n 40 "$out/build.log" >&2; exit 1; }
status=0
if [ "${1-}" = replay ]; then
	vm 600 --add "$2:/sequences" -- build/selftests/fuzz_test replay /sequences "${3-1}" || status=$?
else
	left=${1-3600} round=${FUZZ_ROUND-1800}
	[ $# -eq 0 ] || shift
	while [ "$left" -gt 0 ] && [ $status -eq 0 ]; do
		fuzz_round $((left < round ? left : round)) "$@" || status=$?
		left=$((left - round))
	done
	awk '{ nr += $1; s += $2 } END { printf "fuzz.sh: in all runs %d sequences in %d s\n", nr, s }' "$out/runs"
	echo "fuzz.sh: $(grep -vc '^#' "$out/corpus.txt") sequences are worth keeping: $out/corpus.txt"
fi
[ $status -eq 0 ] || last_inputs
exit $status
