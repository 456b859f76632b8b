#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Everything at once, for long, with each byte checked: build/selftests/soak in one VM a kernel, one after the other.
#   soak.sh
# For $SOAK_SECONDS (default 3600) on each of $SOAK_KERNELS (default "6.12 6.1 debug"). The last line of each report says what
# was done and what was lost; logs are in build/soak/. Fails if anything was lost or left, or the kernel reported a bug.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$top/build/soak
seconds=${SOAK_SECONDS:-3600}
read -r -a kernels <<<"${SOAK_KERNELS:-6.12 6.1 debug}"

cd "$top"
scripts/deps.sh build vm
mkdir -p "$out"
make -s tests >"$out/build.log" 2>&1 || { tail -n 40 "$out/build.log" >&2; exit 1; }
failed=0
for kernel in "${kernels[@]}"; do
	status=0
	scripts/vm/run.sh --kernel "$kernel" --nodes 2 --smp 4 --timeout $((seconds + 600)) --log "$out/$kernel.console" -- \
		build/selftests/soak "$seconds" >"$out/$kernel.log" 2>&1 || status=$?
	echo "$kernel: $seconds s, $(grep '^in all: ' "$out/$kernel.log" | sed 's/^in all: //' || true)"
	if [ $status -ne 0 ]; then
		failed=1
		echo "$kernel: failed with status $status: $(grep -vE '^so far|^in all' "$out/$kernel.log" | head -n 5 | tr '\n' ';')"
	fi
done
exit $failed
