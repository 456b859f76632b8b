# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For tests on the host that start one VM or two on one wire, in which network_vm.sh runs a program; to be sourced. Makes $work, the
# test's own folder; $vm_env is what the program's environment has beside.
vm_env=()
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# vm LOG OPTION... -- ARGUMENT of network_vm.sh...
vm()
{
	local log=$1
	shift
	local options=()
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	scripts/vm/run.sh --mem 2G --smp 2 --timeout 200 "${options[@]}" -- \
		env "${vm_env[@]}" selftests/dma/network_vm.sh "$@" >"$log" 2>&1
}

# Whether somebody on this machine listens at the port, in five minutes and while process $2 lives.
listened()
{
	local tries
	for ((tries = 0; tries < 3000; tries++)); do
		! grep -q "^ *[0-9]*: 0100007F:$(printf %04X "$1") 00000000:0000 0A" /proc/net/tcp || return 0
		kill -0 "$2" 2>/dev/null || return 1
		sleep 0.1
	done
	return 1
}

# two_vms PROGRAM OPTION...: its server and its client, each in a VM, on a wire that is a socket of this machine. What both say is
# in $work/log.
two_vms()
{
	local program=$1 port=$((20000 + RANDOM % 10000)) server status=0
	shift
	local card=("$@" --load "virtio_pci,virtio_net" --qemu-arg -netdev)

	vm "$work/server" "${card[@]}" --qemu-arg "socket,id=wire,listen=127.0.0.1:$port" \
		--qemu-arg -device --qemu-arg virtio-net-pci,netdev=wire,mac=52:54:00:00:00:01 -- server "$program" eth0 10.7.0.1 &
	server=$!
	if listened "$port" "$server"; then
		vm "$work/log" "${card[@]}" --qemu-arg "socket,id=wire,connect=127.0.0.1:$port" \
			--qemu-arg -device --qemu-arg virtio-net-pci,netdev=wire,mac=52:54:00:00:00:02 -- \
			client "$program" eth0 10.7.0.2 10.7.0.1 || status=1
	else
		echo "no wire at port $port" >"$work/log"
		status=1
	fi
	wait "$server" || status=1
	cat "$work/server" >>"$work/log"
	return "$status"
}
