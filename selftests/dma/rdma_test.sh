#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# RDMA between regions, by rdma_rxe: two processes of one VM, two VMs, and a death. TAP; starts the VMs itself.
#   rdma_test.sh [KERNEL...]     (default: 6.12 6.1)
# shellcheck disable=SC2317  # checks are called by name
set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
program=$top/build/libdvsm/examples/rdma-window
inside=$top/selftests/dma/rdma_vm.sh
kernels=("$@")
[ $# -gt 0 ] || kernels=(6.12 6.1)
cd "$top" || exit 1

skip_all() { echo "1..0 # SKIP $*"; exit 4; }
[ -x "$program" ] || skip_all "no rdma-window: libibverbs-dev (scripts/deps.sh rdma)"
rdma=$(command -v rdma) || skip_all "no rdma: iproute2 (scripts/deps.sh rdma)"
provider=$(echo /usr/lib/*/libibverbs/librxe-rdmav*.so)
[ -e "$provider" ] || skip_all "no provider of rxe: ibverbs-providers (scripts/deps.sh rdma)"
command -v qemu-system-x86_64 >/dev/null || skip_all "no qemu-system-x86_64 (scripts/deps.sh vm)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# vm LOG OPTIONS... -- ARGUMENTS of rdma_vm.sh
vm()
{
	local log=$1 options=()
	shift
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	scripts/vm/run.sh --mem 2G --smp 2 --timeout 100 --load crc32_generic,ib_uverbs,rdma_rxe,dummy \
		--add "$program" --add "$rdma" --add "$provider" --add /etc/libibverbs.d/rxe.driver "${options[@]}" -- \
		"$inside" "$@" >"$log" 2>&1
}

# Two VMs on one wire, which is a socket of this machine.
two_vms()
{
	local kernel=$1 port=$((20000 + RANDOM % 10000)) server
	local card=(--load virtio_pci --load virtio_net --qemu-arg -netdev)

	vm "$work/server" --kernel "$kernel" "${card[@]}" --qemu-arg "socket,id=wire,listen=127.0.0.1:$port" \
		--qemu-arg -device --qemu-arg virtio-net-pci,netdev=wire,mac=52:54:00:00:00:01 -- \
		server "$program" eth0 10.7.0.1 &
	server=$!
	sleep 2
	vm "$work/log" --kernel "$kernel" "${card[@]}" --qemu-arg "socket,id=wire,connect=127.0.0.1:$port" \
		--qemu-arg -device --qemu-arg virtio-net-pci,netdev=wire,mac=52:54:00:00:00:02 -- \
		client "$program" eth0 10.7.0.2 10.7.0.1
	local status=$?
	wait "$server" || status=1
	cat "$work/server" >>"$work/log"
	return "$status"
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

echo "1..$((2 * ${#kernels[@]}))"
for kernel in "${kernels[@]}"; do
	check "two processes write and read each other's region, or mapping of the device, and memory comes back when one is killed, on $kernel" \
		vm "$work/log" --kernel "$kernel" -- local "$program"
	check "two machines write and read each other's region on $kernel" two_vms "$kernel"
done
exit $failed
