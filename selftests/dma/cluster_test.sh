#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Programs that outgrow one machine: an Open MPI window and UCX puts and gets in dvsm memory, between processes of this
# machine, on memfd or on what DVSM_BACKEND names; UCX also between two VMs on one wire, on the device. TAP; starts the VMs itself.
#   cluster_test.sh [KERNEL...]     (default: 6.12 6.1)
# shellcheck disable=SC2317  # checks are called by name
set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
examples=$top/build/libdvsm/examples
kernels=("$@")
[ $# -gt 0 ] || kernels=(6.12 6.1)
cd "$top" || exit 1

skip_all() { echo "1..0 # SKIP $*"; exit 4; }
[ -x "$examples/mpi-window" ] || skip_all "no mpi-window: libopenmpi-dev (scripts/deps.sh cluster)"
[ -x "$examples/ucx-put" ] || skip_all "no ucx-put: libucx-dev (scripts/deps.sh cluster)"
command -v mpirun >/dev/null || skip_all "no mpirun: openmpi-bin (scripts/deps.sh cluster)"

# shellcheck source=selftests/dma/two_vms.sh
. selftests/dma/two_vms.sh
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 DVSM_BACKEND=${DVSM_BACKEND:-memfd}

# Every rank and side looks at all that it has been given, and its exit status is the verdict; but it must have run.
mpi_here()
{
	timeout 100 mpirun --oversubscribe -n 3 "$examples/mpi-window" 8 >"$work/log" 2>&1 &&
		grep -q "3 ranks, 8 MiB each on $DVSM_BACKEND.*: 0 words" "$work/log"
}

ucx_here()	# TRANSPORTS
{
	local port=$((20000 + RANDOM % 10000)) server
	UCX_TLS=$1 timeout 100 "$examples/ucx-put" server "$port" >"$work/server" 2>&1 &
	server=$!
	UCX_TLS=$1 timeout 100 "$examples/ucx-put" client localhost "$port" >"$work/log" 2>&1
	local status=$?
	wait "$server" || status=1
	cat "$work/server" >>"$work/log"
	return "$status"
}

# The heap on the other machine got what was put.
ucx_two_vms()	# TRANSPORTS OPTION...
{
	local vm_env=("UCX_TLS=$1")
	two_vms "$examples/ucx-put" "${@:2}" && grep -q ' 0 words of the heap on device are wrong' "$work/log"
}

n=0 failed=0
check()	# NAME COMMAND...
{
	local name=$1
	shift
	n=$((n + 1))
	if "$@"; then
		echo "ok $n $name"
	else
		echo "not ok $n $name"
		tail -n 40 "$work/log" | sed 's/^/# /'
		failed=1
	fi
}

echo "1..$((3 + ${#kernels[@]}))"
check "MPI ranks put into and get from windows in regions, and send blocks of a heap, on this machine" mpi_here
check "UCX puts into and gets from a heap by TCP on this machine" ucx_here tcp
check "UCX puts into and gets from a heap by shared memory on this machine" ucx_here sm
for kernel in "${kernels[@]}"; do
	if command -v qemu-system-x86_64 >/dev/null; then
		check "UCX puts into and gets from a heap of another machine by TCP on $kernel" ucx_two_vms tcp --kernel "$kernel"
	else
		n=$((n + 1))
		echo "ok $n UCX between two machines on $kernel # SKIP no qemu-system-x86_64 (scripts/deps.sh vm)"
	fi
done
exit $failed
