#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# RDMA between regions, by rdma_rxe: two processes of one VM, two VMs, and a death. TAP; starts the VMs itself.
#   rdma_test.sh [KERNEL...]     (default: 6.12 6.1)
# shellcheck disable=SC2317  # checks are called by name
set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
program=$top/build/libdvsm/examples/rdma-window
kernels=("$@")
[ $# -gt 0 ] || kernels=(6.12 6.1)
cd "$top" || exit 1

skip_all() { echo "1..0 # SKIP $*"; exit 4; }
[ -x "$program" ] || skip_all "no rdma-window: libibverbs-dev (scripts/deps.sh rdma)"
rdma=$(command -v rdma) || skip_all "no rdma: iproute2 (scripts/deps.sh rdma)"
provider=$(echo /usr/lib/*/libibverbs/librxe-rdmav*.so)
[ -e "$provider" ] || skip_all "no provider of rxe: ibverbs-providers (scripts/deps.sh rdma)"
command -v qemu-system-x86_64 >/dev/null || skip_all "no qemu-system-x86_64 (scripts/deps.sh vm)"

# shellcheck source=selftests/dma/two_vms.sh
. selftests/dma/two_vms.sh
rxe=(--load "crc32_generic,ib_uverbs,rdma_rxe,dummy" --add "$rdma" --add "$provider" --add /etc/libibverbs.d/rxe.driver)

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

echo "1..$((2 * ${#kernels[@]}))"
for kernel in "${kernels[@]}"; do
	check "two processes write and read each other's region, or mapping of the device, and memory comes back when one is killed, on $kernel" \
		vm "$work/log" --kernel "$kernel" "${rxe[@]}" -- local "$program"
	check "two machines write and read each other's region on $kernel" two_vms "$program" --kernel "$kernel" "${rxe[@]}"
done
exit $failed
