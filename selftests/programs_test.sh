#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Programs that know nothing of dvsm, with /dev/dvsm for their memory, in a VM. TAP; starts the VMs itself.
#   programs_test.sh [KERNEL...]     (default: 6.12 6.1)
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=selftests/vm_cases.sh
. selftests/vm_cases.sh
for program in qemu-system-x86_64 fio python3 numactl; do
	need $program "vm check"
done
vm_cases "QEMU, fio, python3, numactl and README's programs use /dev/dvsm as memory" "${*:-6.12 6.1}" \
	--root host --nodes 2 --timeout 300 --load brd:rd_nr=1:rd_size=16384 -- selftests/programs_vm.sh
