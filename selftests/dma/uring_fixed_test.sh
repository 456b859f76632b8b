#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# An NVMe disk read into a region by io_uring, in fixed buffers where the kernel takes them, in a VM. TAP; starts the VMs itself.
#   uring_fixed_test.sh [KERNEL...]     (default: 6.12 6.1)
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=selftests/vm_cases.sh
. selftests/vm_cases.sh
program=$PWD/build/libdvsm/examples/uring-fixed
[ -x "$program" ] || { echo "1..0 # SKIP no uring-fixed: make lib"; exit 4; }
need qemu-system-x86_64 vm
vm_cases "a disk is read into a region, and uring-fixed says how" "${*:-6.12 6.1}" \
	--smp 2 --mem 1G --timeout 200 --load nvme --qemu-arg -drive \
	--qemu-arg if=none,id=nvme,driver=null-co,size=64M,read-zeroes=on,snapshot=on \
	--qemu-arg -device --qemu-arg nvme,drive=nvme,serial=nvme -- selftests/dma/uring_fixed_vm.sh "$program"
