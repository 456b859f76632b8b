#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What runs in a VM for scripts/bench-dma.sh: dma_bench_vm.sh register DMA_BENCH [MIB] | load DVSM_LOAD MIB
case $1 in
register)
	ip addr add 10.7.0.1/24 dev dummy0
	ip link set dummy0 up
	rdma link add rxe0 type rxe netdev dummy0
	shift
	"$@"
	;;
load)
	# In turns, so that whatever else the machine does hits both.
	for turn in 1 2 3; do
		"$2" /dev/nvme0n1 "$3" || exit 1
		fio --name=fio --filename=/dev/nvme0n1 --readonly --rw=read --bs=1M --iodepth=32 --ioengine=io_uring \
			--direct=1 --size="${3}M" --minimal | awk -F';' -v turn=$turn '{ printf "fio:       %.0f MiB/s\n", $7 / 1024 }'
	done
	;;
esac
