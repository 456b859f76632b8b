#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A PCI device that copies within a region through VFIO and an IOMMU, in a VM. TAP; starts the VMs itself.
#   vfio_test.sh [KERNEL...]     (default: 6.12 6.1)
set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
program=$top/build/libdvsm/examples/vfio-edu-static
kernels=("$@")
[ $# -gt 0 ] || kernels=(6.12 6.1)
cd "$top" || exit 1
[ -x "$program" ] || { echo "1..0 # SKIP no vfio-edu: make lib"; exit 4; }
command -v qemu-system-x86_64 >/dev/null || { echo "1..0 # SKIP no qemu-system-x86_64 (scripts/deps.sh vm)"; exit 4; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT

n=0 failed=0
echo "1..${#kernels[@]}"
for kernel in "${kernels[@]}"; do
	n=$((n + 1))
	name="a device behind an IOMMU copies within a region on $kernel"
	if scripts/vm/run.sh --kernel "$kernel" --timeout 60 --append intel_iommu=on --load vfio_pci,vfio_iommu_type1 \
		--qemu-arg -device --qemu-arg intel-iommu --qemu-arg -device --qemu-arg edu -- \
		selftests/dma/vfio_vm.sh "$program" >"$log" 2>&1; then
		echo "ok $n $name"
	else
		echo "not ok $n $name"
		tail -n 40 "$log" | sed 's/^/# /'
		failed=1
	fi
done
exit $failed
