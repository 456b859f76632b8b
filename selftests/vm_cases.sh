# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For tests on the host that start a VM for each kernel; to be sourced.

# need PROGRAM GROUP: skip all without it
need()
{
	command -v "$1" >/dev/null || { echo "1..0 # SKIP no $1 (scripts/deps.sh $2)"; exit 4; }
}

# vm_cases NAME "KERNEL..." RUN_ARGUMENT...: one test for each kernel, as TAP: scripts/vm/run.sh succeeds; exits
vm_cases()
{
	local name=$1 kernels kernel log n=0 failed=0
	read -ra kernels <<<"$2"
	shift 2
	log=$(mktemp)
	echo "1..${#kernels[@]}"
	for kernel in "${kernels[@]}"; do
		n=$((n + 1))
		if scripts/vm/run.sh --kernel "$kernel" "$@" >"$log" 2>&1; then
			echo "ok $n $name on $kernel"
		else
			echo "not ok $n $name on $kernel"
			tail -n 60 "$log" | sed 's/^/# /'
			failed=1
		fi
	done
	rm -f "$log"
	exit $failed
}
