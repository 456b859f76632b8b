#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What devices cost with regions, side by side with the same on other memory, in VMs:
#   bench-dma.sh [register | load]...      (default: both)
# register: instructions to register 1 GiB with io_uring and rdma_rxe. load: MiB/s of dvsm_region_load() and of fio at the same depth,
# from one NVMe disk, in turns. MIB=N for another amount, KERNEL=6.1 for another kernel.
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
	scripts/vm/run.sh --kernel "$kernel" --icount --smp 1 --mem 6G --timeout 1200 --append hugepages=520 \
		--load crc32_generic,ib_uverbs,rdma_rxe,dummy --add build/selftests/dma_bench --add "$(command -v rdma)" \
		--add "$(echo /usr/lib/*/libibverbs/librxe-rdmav*.so)" --add /etc/libibverbs.d/rxe.driver -- \
		"$inside" register "$top/build/selftests/dma_bench" "${MIB:-1024}"
}

bench_load()
{
	local mib=${MIB:-4096}

	scripts/vm/run.sh --kernel "$kernel" --mem $((2 * mib + 2048))M --timeout 1200 --load nvme \
		--qemu-arg -drive --qemu-arg "if=none,id=nvme,driver=null-co,size=${mib}M,read-zeroes=on" \
		--qemu-arg -device --qemu-arg nvme,drive=nvme,serial=nvme --add "$(command -v fio)" -- \
		"$inside" load "$top/build/libdvsm/examples/dvsm-load-static" "$mib"
}

for job in "${jobs[@]}"; do
	"bench_$job"
done
