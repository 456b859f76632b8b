#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What runs in a VM for vfio_test.sh: vfio_vm.sh PROGRAM
stats=/sys/kernel/debug/dvsm/stats
for device in /sys/bus/pci/devices/*; do
	[ "$(cat "$device/vendor")" = 0x1234 ] && [ "$(cat "$device/device")" = 0x11e8 ] && break
	device=
done
[ -n "$device" ] || { echo "no edu device"; exit 1; }
[ -e "$device/iommu_group" ] || { echo "no IOMMU"; exit 1; }
echo vfio-pci >"$device/driver_override"
echo "${device##*/}" >/sys/bus/pci/drivers_probe
group=$(readlink "$device/iommu_group")
"$1" "${group##*/}" "${device##*/}" || exit 1
"$1" "${group##*/}" "${device##*/}" kill || exit 1
# Workers drop the last of it.
timeout 60 sh -c "while grep -qE '^(regions|pages|pinned_pages) [1-9]' $stats; do
	sleep 0.1
done" || { cat $stats; exit 1; }
