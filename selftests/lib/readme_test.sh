#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The programs in README.md build without a warning and do what they say: TAP. Usage: readme_test.sh LIBDIR
set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
lib=${1:-$top/build/libdvsm}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

awk -v work="$work" '/^```c$/ { n++; inside = 1; next } /^```$/ { inside = 0 } inside { print > (work "/" n ".c") }' "$top/README.md"
programs=("$work"/*.c)
echo "TAP version 13"
echo "1..${#programs[@]}"
for ((n = 1; n <= ${#programs[@]}; n++)); do
	name="readme_program_$n"
	if ! "${CC:-gcc}" -std=gnu11 -Wall -Wextra -Werror -Wno-unused-value -I"$top/include" -I"$top/include/uapi" \
		-o "$work/$n" "$work/$n.c" "$lib/libdvsm.a" >"$work/said" 2>&1; then
		echo "not ok $n $name"
		sed 's/^/# /' "$work/said"
		failed=1
	elif grep -q '/dev/dvsm' "$work/$n.c" && ! [ -w /dev/dvsm ]; then
		echo "ok $n $name # SKIP no /dev/dvsm"
	elif "$work/$n" >"$work/said" 2>&1; then
		echo "ok $n $name"
		sed 's/^/# /' "$work/said"
	else
		echo "not ok $n $name"
		sed 's/^/# /' "$work/said"
		failed=1
	fi
done
exit $failed
