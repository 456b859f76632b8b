#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What devices cost with regions, side by side with the same on other memory, in VMs:
#   bench-dma.sh [register | load]...      (default: both)
# register: instructions to register 1 GiB with io_uring and rdma_rxe, and entries of a dma-buf's scatter list of 1 GiB. load: MiB/s of
# dvsm_region_load() and of fio at the same depth, 4 GiB from two NVMe disks, in turns. MIB=N for another amount, KERNEL=6.1 for another
# kernel. Says whether each bar is met; exits with 1 if one is missed.
# shellcheck disable=SC2317  # jobs are called by name
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
kernel=${KERNEL:-6.12}
inside=$top/selftests/dma/dma_bench_vm.sh
jobs=("$@")
[ $# -gt 0 ] || jobs=(register load)

"$top/scripts/deps.sh" build vm rdma bench
make -s tests >&2

bench_register()
{
	local mib=${MIB:-1024}

	scripts/vm/run.sh --kernel "$kernel" --icount --smp 1 --mem 6G --timeout 1200 --append hugepages=520 \
		--append "udmabuf.size_limit_mb=$mib" --build selftests/dma/importer \
		--load crc32_generic,ib_uverbs,rdma_rxe,dummy --add build/selftests/dma_bench --add "$(command -v rdma)" \
		--add "$(echo /usr/lib/*/libibverbs/librxe-rdmav*.so)" --add /etc/libibverbs.d/rxe.driver -- \
		"$inside" register "$top/build/selftests/dma_bench" "$mib"
}

# An emulator does "rep stosb" byte by byte: without it the kernel zeroes by words, as fast as it copies.
bench_load()
{
	local mib=${MIB:-4096}

	scripts/vm/run.sh --kernel "$kernel" --mem $((2 * mib + 2048))M --timeout 1200 --load nvme \
		--qemu-arg -cpu --qemu-arg max,la57=off,erms=off,fsrm=off \
		--qemu-arg -drive --qemu-arg "if=none,id=fast,driver=null-co,size=${mib}M,read-zeroes=on" \
		--qemu-arg -device --qemu-arg nvme,drive=fast,serial=fast \
		--qemu-arg -drive --qemu-arg "if=none,id=slow,driver=null-co,size=${mib}M,read-zeroes=on,bps_rd=$((400 << 20))" \
		--qemu-arg -device --qemu-arg nvme,drive=slow,serial=slow --add "$(command -v fio)" -- \
		"$inside" load "$top/build/libdvsm/examples/dvsm-load-static" "$mib"
}

missed=0
for job in "${jobs[@]}"; do
	status=0
	"bench_$job" || status=$?
	[ $status -le 1 ] || exit $status
	[ $status -eq 0 ] || missed=1
done
exit $missed
