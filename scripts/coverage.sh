#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Which lines of kmod/ the selftests run: per file, and the lines that none of them reaches.
#   coverage.sh [KERNEL...]               (default: 6.12 debug; the union of what runs on them)
#   COVERAGE_TESTS="mmap_test ..."        some tests only; COVERAGE_SECONDS=2700 for each kernel's
# The report is build/coverage/report; it fails where a file has less than $COVERAGE_BAR (90) percent.
#
# A line counts as run if an instruction of it lies in a basic block that has run. What the compiler has left out is no line;
# nor are those that the kernel's macros number in trace.c.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
out=$top/build/coverage
vm=$top/scripts/vm
[ $# -gt 0 ] || set -- 6.12 debug

# build KERNEL: dvsm.ko that calls selftests/coverage/ in each basic block
build()
{
	local kdir hook=$out/hook-$1
	kdir=$("$vm/kernel.sh" "$1")/build
	mkdir -p "$hook"
	ln -sf "$top"/selftests/coverage/* "$hook"
	make -s -C "$kdir" M="$hook" modules
	make -s module KDIR="$kdir" MODULE_OUT="$out/kmod-$1" KBUILD_EXTRA_SYMBOLS="$hook/Module.symvers" \
		KCFLAGS="-g -fsanitize-coverage=trace-pc -include $top/selftests/coverage/coverage.h" 2>&1 |
		grep -v '^Skipping BTF' >&2 || true
}

tests_for()
{
	if [ -n "${COVERAGE_TESTS-}" ]; then
		for test in $COVERAGE_TESTS; do
			find build/selftests -maxdepth 2 -name "$test" -type f
		done
		return
	fi
	# Debian's kernels have no fault injection; the debug kernel is slow, and there only what that is needed for.
	if [ "$1" = debug ]; then
		ls build/selftests/fail_test
	else
		# module_test unloads what has been counted.
		sed 's|^|build/selftests/|' build/selftests/TESTS | grep -vE '/(fail|fuzz|module|module_fail)_test$'
	fi
}

run()
{
	local options=(--append hugepages=64) tests limit=${COVERAGE_SECONDS-2700}
	mapfile -t tests < <(tests_for "$1")
	[ ${#tests[@]} -gt 0 ] || return 0
	mapfile -t -O ${#options[@]} options < <(grep -v '^#' selftests/vm-options)
	"$vm/run.sh" --kernel "$1" --nodes 2 --timeout $((limit + 300)) "${options[@]}" --build selftests/coverage \
		--dvsm "$out/kmod-$1/dvsm.ko" --log "$out/$1.console" -- \
		env DVSM_TEST_SECONDS=1 selftests/coverage/collect.sh "$limit" "$vm/run-tests.sh" 600 "${tests[@]}" |
		tr -d '\r' >"$out/$1.output" || echo "coverage.sh: tests on $1 ended with an error: see $out/$1.output" >&2
}

# instructions KO: "SECTION ADDRESS BLOCK" for each instruction; BLOCK: where the one before it that has its block's call returns to
instructions()
{
	objdump -dr --no-show-raw-insn -j .text -j .text.unlikely -j .init.text -j .exit.text "$1" 2>/dev/null | awk '
	/^Disassembly of section/ { section = $4; sub(/:$/, "", section); next }
	/^[0-9a-f]+ <.*>:$/ { begin = 1; n = 0; next }
	/R_X86_64_(PLT32|PC32)[ \t]+dvsm_coverage_hit/ { called = 1; next }
	/^ *[0-9a-f]+:\t/ {
		address = $1; sub(/:$/, "", address)
		if (called) { block = address; called = 0; for (i = 0; i < n; i++) print section, early[i], block; n = begin = 0 }
		# Before the first call of a function nothing tells more than that call.
		if (begin) early[n++] = address
		else print section, address, block
	}'
}

# lines KERNEL: "FILE LINE 0|1" for each instruction of ours
lines()
{
	local ko=$out/kmod-$1/dvsm.ko section
	instructions "$ko" >"$out/$1.instructions"
	awk '$1 == "hit" { print $2 }' "$out/$1.output" >"$out/$1.hits"
	awk '$1 == "section" { print $2, $3 }' "$out/$1.output" >"$out/$1.sections"
	# The low 28 bits of addresses: mawk writes greater numbers inexactly. The module is much smaller than that.
	awk '
	function number(text,  value, i) {
		value = 0; text = substr(text, length(text) - 6)
		for (i = 1; i <= length(text); i++) value = value * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1
		return value
	}
	FILENAME ~ /sections$/ { sub(/^0x/, "", $2); base[$1] = number($2); next }
	FILENAME ~ /hits$/ { hit[number($1)] = 1; next }
	{ print $1, $2, ($1 in base) && ((base[$1] + number("000000" $3)) % 268435456 in hit) ? 1 : 0 }
	' "$out/$1.sections" "$out/$1.hits" "$out/$1.instructions" >"$out/$1.ran"
	for section in .text .text.unlikely .init.text .exit.text; do
		awk -v section="$section" '$1 == section { print $2 }' "$out/$1.ran" >"$out/$1.addresses"
		[ -s "$out/$1.addresses" ] || continue
		awk -v section="$section" '$1 == section { print $3 }' "$out/$1.ran" >"$out/$1.flags"
		addr2line -e "$ko" -j "$section" <"$out/$1.addresses" 2>/dev/null |
			sed -n 's|^.*/\([a-z_]*\.[ch]\):\([0-9]*\).*|\1 \2|p; t; s/.*/- 0/p' |
			paste -d ' ' - "$out/$1.flags" | sort -u
	done | awk 'NR == FNR { length_of[$2] = $1; next } $1 in length_of && $2 <= length_of[$1]' <(cd kmod && wc -l -- *.[ch]) -
}

report()
{
	sort -u "$out"/lines | awk -v bar="${COVERAGE_BAR-90}" '
	{ key = $1 " " $2; if (!(key in ran)) { ran[key] = 0; total[$1]++ } if ($3 && !ran[key]) { ran[key] = 1; covered[$1]++ } }
	END {
		for (file in total) {
			percent = 100 * covered[file] / total[file]; lines += total[file]; well += covered[file]
			printf "%-16s %5d of %5d lines  %5.1f %%%s\n", file, covered[file], total[file], percent, percent < bar ? "  BELOW" : "" | "sort"
		}
		close("sort")
		printf "%-16s %5d of %5d lines  %5.1f %%\n", "all", well, lines, 100 * well / lines
		for (key in ran) if (!ran[key]) { split(key, part, " "); printf "%s %05d\n", part[1], part[2] > "'"$out/missed"'" }
	}'
	[ -e "$out/missed" ] || return 0
	echo
	echo "Not run:"
	sort "$out/missed" | while read -r file line; do
		line=$((10#$line))
		printf '%s:%d:%s\n' "$file" "$line" "$(sed -n "${line}p" "kmod/$file")"
	done
}

mkdir -p "$out"
rm -f "$out"/lines "$out"/missed "$out"/*.output
make -s tests
for kernel; do
	build "$kernel"
	run "$kernel"
done
for kernel; do
	[ ! -s "$out/$kernel.output" ] || lines "$kernel" >>"$out/lines"
done
report >"$out/report"
sed '/^$/q' "$out/report"
echo "coverage.sh: what has not run is named in $out/report"
! grep -q ' BELOW$' "$out/report"
