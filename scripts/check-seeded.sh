#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Do the tests notice bugs? Each patch in selftests/seeded/ puts one into a copy of the tree, and names kernel and tests; the
# copy is built, those tests run, and the first that fails, or what the kernel reports, is told.
#   check-seeded.sh [SEED...]     (default: all)
# Fails if a patch does not apply or build, if a bug is not noticed, or if the same tests fail without it. A VM ends after
# SEEDED_TIMEOUT seconds (default 400).
#
# The head of a patch:
#   Bug: what is wrong
#   Kernel: one of scripts/vm/run.sh's, or host
#   Test: NAME [OPTION...]        in build/selftests, with options of the harness; one or more
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
unset MAKEFLAGS MFLAGS
seeds=$top/selftests/seeded
out=$top/build/seeded
tree=$out/tree
limit=${SEEDED_TIMEOUT:-400}
extra=(--append hugepages=64)
mapfile -t -O ${#extra[@]} extra < <(grep -v '^#' selftests/vm-options)

say() { echo "check-seeded: $*" >&2; }

field() { sed -n "/^---/q; s/^$2: //p" "$seeds/$1.patch"; }

# With their times, so that little is built anew; but what an earlier run built last has its bug in it still.
copy_tree()
{
	rm -rf "$tree"
	mkdir -p "$tree"
	git ls-files -co --exclude-standard -- kmod include libdvsm selftests scripts Makefile |
		while read -r file; do [ ! -f "$file" ] || echo "$file"; done | cpio -pdm --quiet "$tree"
	sed -n 's,^+++ b/,,p' "$seeds"/*.patch | sort -u | while read -r file; do touch "$tree/$file"; done
}

# build KERNEL: the copy's module, or its library and the heap's tests
build()
{
	if [ "$1" = host ]; then
		make -s -C "$tree/libdvsm" O="$out/libdvsm" &&
			make -s -C "$tree/selftests/heap" O="$out/selftests/heap" LIBO="$out/libdvsm" KSELFTEST_DIR="$kselftest"
	else
		make -s -C "$tree" module KDIR="$("$top/scripts/vm/kernel.sh" "$1")/build" MODULE_OUT="$out/kmod-$1"
	fi
}

# One line of shell for each test, on standard input: NAME [OPTION...]
test_commands()
{
	local name options dir=build/selftests
	[ "$1" != host ] || dir=$out/selftests
	while read -r name options; do
		echo "DVSM_TEST_FILTER='$options' scripts/vm/run-tests.sh $limit $dir/$name;"
	done
}

# run_tests KERNEL LOG: the tests on standard input; what they print and their VM's status are in LOG
run_tests()
{
	local kernel=$1 log=$2 tests programs status=0 begin=() options=("${extra[@]}")
	tests=$(cat)
	if [ "$kernel" = host ]; then
		DVSM_TEST_SECONDS=5 bash -c "$(test_commands host <<<"$tests")" >"$log" 2>&1
		return
	fi
	# Debian's kernels zero every page otherwise.
	[ "$kernel" != 6.1 ] || options+=(--append init_on_alloc=0)
	[ "$kernel" != kcsan ] || { options+=(--append kcsan.early_enable=0); begin=(selftests/kcsan.sh); }
	mapfile -t programs < <(awk '{ print "build/selftests/" $1 }' <<<"$tests" | sort -u)
	scripts/vm/run.sh --kernel "$kernel" --nodes 2 --smp 4 --timeout "$limit" --log "$log.console" \
		--dvsm "$out/kmod-$kernel/dvsm.ko" "${options[@]}" -- env DVSM_TEST_SECONDS=5 \
		"${begin[@]}" sh -c "$(test_commands "$kernel" <<<"$tests")" "$PWD/scripts/vm/run-tests.sh" "${programs[@]}" >"$log" 2>&1 || status=$?
	echo "# VM $status" >>"$log"
}

# What a log tells against the code, one line each.
complaints()
{
	tr -d '\r' <"$1" | awk '
	/^# RUN / { name = $3 }
	/^1\.\.0/ { print name ": the options leave no test of it"; told = 1 }
	/^not ok / { sub(/^not ok [0-9]+ *-? */, ""); print name ": " $0; told = 1 }
	/^# LEFT / { sub(/^# LEFT /, ""); print "left behind by " $0 }
	/^# END / && $4 != 0 && $4 != 4 && !told { print name ": exit status " $4 }
	/^run.sh: the kernel reported a bug: / { sub(/^.*bug: /, ""); print (name ? name ": " : "") "the kernel: " $0; told = 1 }
	/^# VM / && $3 != 0 && !told { print (name ? name ": " : "") "the VM ended with status " $3 }'
}

# seed NAME: puts the bug in, builds, tests, takes it out
seed()
{
	local name=$1 kernel log=$out/$1.log found=''
	kernel=$(field "$name" Kernel)
	if ! patch -s -d "$tree" -p1 --no-backup-if-mismatch -r - <"$seeds/$name.patch" >"$log" 2>&1; then
		result fail "$name" "does not apply"
		copy_tree
		return
	fi
	if ! build "$kernel" >"$log" 2>&1; then
		result fail "$name" "does not build"
	else
		field "$name" Test | run_tests "$kernel" "$log"
		found=$(complaints "$log" | head -n 1)
		if grep -q '^# VM 96' "$log"; then
			result fail "$name" "the VM could not be set up"
		elif [[ $found == *"the options leave no test of it" ]]; then
			result fail "$name" "$found"
		elif [[ $found == *"the VM ended with status 97" ]]; then
			result fail "$name" "the VM did not end in time, which has many reasons"
		elif [ -n "$found" ]; then
			result caught "$name" "$found"
		else
			result fail "$name" "nobody noticed: $(field "$name" Bug)"
		fi
	fi
	patch -s -R -d "$tree" -p1 --no-backup-if-mismatch <"$seeds/$name.patch"
}

result() { printf '%-6s  %-20s  %s\n' "$1" "$2" "$3" | tee -a "$out/results"; }

names=("$@")
[ $# -gt 0 ] || mapfile -t names < <(cd "$seeds" && printf '%s\n' *.patch | sed 's/\.patch$//')
for name in "${names[@]}"; do
	[ -r "$seeds/$name.patch" ] || { say "there is no seed $name"; exit 2; }
done
scripts/deps.sh build vm
begun=$SECONDS
mkdir -p "$out"
: >"$out/results"
make -s tests >"$out/build.log" 2>&1 || { tail -n 40 "$out/build.log" >&2; exit 1; }
kselftest=$(scripts/vm/kernel.sh kselftest)/tools/testing/selftests
copy_tree

# Without a bug the same tests have nothing to say.
for kernel in $(for name in "${names[@]}"; do field "$name" Kernel; done | sort -u); do
	build "$kernel" >"$out/clean-$kernel.log" 2>&1 || { tail -n 40 "$out/clean-$kernel.log" >&2; say "$kernel: no build"; exit 1; }
	for name in "${names[@]}"; do
		[ "$(field "$name" Kernel)" != "$kernel" ] || field "$name" Test
	done | sort -u | run_tests "$kernel" "$out/clean-$kernel.log"
	found=$(complaints "$out/clean-$kernel.log")
	[ -z "$found" ] || result fail "clean-$kernel" "${found//$'\n'/; }"
done
for name in "${names[@]}"; do
	seed "$name"
done
say "$((SECONDS - begun)) s; logs in $out"
caught=$(grep -c '^caught' "$out/results" || true)
failed=$(grep -c '^fail' "$out/results" || true)
echo "$caught caught, $failed failed"
[ "$failed" -eq 0 ]
