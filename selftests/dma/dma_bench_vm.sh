#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What runs in a VM for scripts/bench-dma.sh: dma_bench_vm.sh register DMA_BENCH [MIB] | load DVSM_LOAD MIB
# Exits with 1 if a bar is missed.

# The disk of the controller whose serial number is $1; the kernel looks for all at once, and numbers them as it finds them.
disk()
{
	for controller in /sys/class/nvme/*; do
		[ "$(tr -d ' ' <"$controller/serial")" = "$1" ] && echo "/dev/${controller##*/}n1"
	done
}

# fio's speed on disk $1 at the depth of dvsm_region_load(), with requests of $2 MiB.
fio_speed()
{
	fio --name=fio --filename="$1" --readonly --rw=read --bs="$2M" --iodepth=32 --ioengine=io_uring --direct=1 \
		--size="${mib}M" --minimal | awk -F';' '{ printf "%.0f\n", $7 / 1024 }'
}

# compare DISK WHAT: in turns, so that whatever else the machine does hits all. The bar is fio's speed, of the medians. fio reads
# into 32 buffers again and again; of a 32nd of all each, they are new memory all of the time.
compare()
{
	for turn in 1 2 3 4 5; do
		"$program" "$1" "$mib" >/tmp/load || exit 1
		echo "$turn $(awk '{ printf "%s ", $2 }' /tmp/load) $(fio_speed "$1" $((mib / 32))) $(fio_speed "$1" 1)"
	done >/tmp/speeds
	awk -v mib="$mib" -v what="$2" '
	function median(column) { return sorted[column, int((NR + 1) / 2)] }
	function judge(what, load, fio)
	{
		met = median(load) >= median(fio)
		missed += !met
		printf "  %-64s %7.2f, at least 1: %s\n", what, median(load) / median(fio), met ? "met" : "MISSED"
	}
	BEGIN { printf "loading %d MiB from %s, 32 requests, MiB/s\n  turn  load: new memory  again  fio: new memory  32 MiB again and again\n", mib, what }
	{
		printf "  %4d %17d %6d %16d %23d\n", $1, $2, $3, $4, $5
		for (column = 2; column <= 5; column++) {
			for (i = NR; i > 1 && sorted[column, i - 1] > $column; i--)
				sorted[column, i] = sorted[column, i - 1]
			sorted[column, i] = $column
		}
	}
	END {
		print "bars, of medians"
		judge("dvsm_region_load() / fio, both into new memory", 2, 4)
		judge("dvsm_region_load() / fio, both into memory that is there", 3, 5)
		judge("dvsm_region_load() into new memory / fio into what is there", 2, 5)
		exit missed > 0
	}' /tmp/speeds || missed=1
}

case $1 in
register)
	ip addr add 10.7.0.1/24 dev dummy0
	ip link set dummy0 up
	rdma link add rxe0 type rxe netdev dummy0
	shift
	"$@"
	;;
load)
	program=$2 mib=$3 missed=0
	compare "$(disk slow)" "a disk of 400 MiB/s"
	compare "$(disk fast)" "a disk that answers at once"
	exit $missed
	;;
esac
