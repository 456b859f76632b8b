#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What runs in a VM for vgem_test.sh: vgem_vm.sh PROGRAM
stats=/sys/kernel/debug/dvsm/stats
said=$("$1") || { echo "$said"; exit 1; }
echo "$said"
[ "$said" = "dmabuf-vgem: 8192 KiB of a region through vgem, 0 words wrong" ] || exit 1
rmmod vgem || exit 1
"$1"
[ $? -eq 4 ] || exit 1
# Workers drop the last of it.
timeout 60 sh -c "while grep -qE '^(regions|pages|pinned_pages) [1-9]' $stats; do
	sleep 0.1
done" || { cat $stats; exit 1; }
