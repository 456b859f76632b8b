#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The library against hostile input, for a bounded time each: DVSM_FUZZ_SECONDS (10).
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
built=$here/../../build/selftests/hostile
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# run NUMBER TARGET CLAIM
run()
{
	if [ ! -x "$built/$2" ]; then
		echo "ok $1 - $3 # SKIP no libFuzzer: install clang and libclang-rt-dev"
		return
	fi
	"$here/unpack.sh" "$here/$2.txt" "$out/$2"
	if "$built/$2" -max_total_time="${DVSM_FUZZ_SECONDS-10}" -len_control=0 -max_len=512 -timeout=240 -artifact_prefix="$out/" \
		"$out/$2" >"$out/log" 2>&1; then
		sed -n 's/^Done/# done/p' "$out/log"
		echo "ok $1 - $3"
	else
		grep -A 12 -m 1 'ERROR' "$out/log" | sed 's/^/# /'
		sed -n 's/^Base64:/# the input, for base64 -d:/p' "$out/log"
		echo "not ok $1 - $3"
	fi
}

echo "TAP version 13"
echo "1..2"
run 1 heap_attach "a heap that was damaged is refused, or can be checked"
run 2 parsers "what the library reads as text does it no harm"
