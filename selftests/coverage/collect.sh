#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# In a VM: runs a command, SECONDS at most, then prints where dvsm.ko lies and which of its blocks have run.
#   collect.sh SECONDS COMMAND...
limit=$1
shift
timeout "$limit" "$@" || echo "# collect: status $?, 143 if it was cut off"
for section in /sys/module/dvsm/sections/.*text*; do
	echo "section ${section##*/} $(cat "$section")"
done
cat /sys/kernel/debug/dvsm_coverage
