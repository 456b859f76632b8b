#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A PCI device that copies within a region through VFIO and an IOMMU, in a VM. TAP; starts the VMs itself.
#   vfio_test.sh [KERNEL...]     (default: 6.12 6.1)
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=selftests/vm_cases.sh
. selftests/vm_cases.sh
program=$PWD/build/libdvsm/examples/vfio-edu-static
[ -x "$program" ] || { echo "1..0 # SKIP no vfio-edu: make lib"; exit 4; }
need qemu-system-x86_64 vm
vm_cases "a device behind an IOMMU copies within a region, and keeps that of a killed process until it lets go" "${*:-6.12 6.1}" \
	--timeout 200 --append intel_iommu=on --load vfio_pci,vfio_iommu_type1 \
	--qemu-arg -device --qemu-arg intel-iommu --qemu-arg -device --qemu-arg edu -- selftests/dma/vfio_vm.sh "$program"
