#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What runs in a VM for two_vms.sh: network_vm.sh ROLE PROGRAM [INTERFACE ADDRESS [PEER]]; ROLE is local, server or client.
role=$1 program=$2 interface=${3:-dummy0} address=${4:-10.7.0.1} peer=$5
stats=/sys/kernel/debug/dvsm/stats

gone()	# within a minute
{
	tries=0
	while grep -qE '^(regions|pages|pinned_pages) [1-9]' $stats; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || { cat $stats; return 1; }
		sleep 0.1
	done
}

ip addr add "$address/24" dev "$interface" || exit 1
ip link set "$interface" up || exit 1
ip link set lo up
# The kernel says within a second that a link is running, and UCX looks for those that are when it begins. Dummies are "unknown".
tries=0
while grep -q down "/sys/class/net/$interface/operstate"; do
	tries=$((tries + 1))
	[ $tries -lt 600 ] || { echo "$interface is not running"; exit 1; }
	sleep 0.1
done
if [ -e /sys/module/rdma_rxe ]; then
	rdma link add rxe0 type rxe netdev "$interface" || exit 1
fi
case $role in
server)
	"$program" server
	;;
client)
	"$program" client "$peer"
	;;
local)
	"$program" server &
	"$program" client "$address" && wait $! && gone || exit 1
	# The device's path as memory, which knows no commands of ours.
	"$program" -f /dev/dvsm server &
	"$program" -f /dev/dvsm client "$address" && wait $! && gone || exit 1
	# The owner of registered memory dies while another one may write to it.
	"$program" server >/dev/null 2>&1 &
	server=$!
	tries=0
	until grep -q '^regions 1$' $stats; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || { cat $stats; exit 1; }
		sleep 0.1
	done
	sleep 1
	"$program" client "$address" >/dev/null 2>&1 &
	client=$!
	sleep 0.3
	kill -9 $server
	sleep 0.3
	kill -9 $client
	wait
	;;
esac || exit 1
gone
