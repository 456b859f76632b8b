#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A driver that is not ours keeps and shows a range of a region, in a VM. TAP; starts the VMs itself.
#   vgem_test.sh [KERNEL...]     (default: 6.12 6.1)
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=selftests/vm_cases.sh
. selftests/vm_cases.sh
program=$PWD/build/libdvsm/examples/dmabuf-vgem-static
[ -x "$program" ] || { echo "1..0 # SKIP no dmabuf-vgem: libdrm-dev (scripts/deps.sh drm)"; exit 4; }
need qemu-system-x86_64 vm
vm_cases "vgem takes a part of a region that is gone, and shows what it held; without vgem the program says so" "${*:-6.12 6.1}" \
	--smp 2 --mem 1G --timeout 200 --load vgem -- selftests/dma/vgem_vm.sh "$program"
