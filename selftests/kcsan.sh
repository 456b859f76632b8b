#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# In a VM with the kcsan kernel: reports data races between functions of the module, and runs a command. The core has data
# races of its own, known and meant, and each report ends the VM: hence kcsan.early_enable=0 and this list.
#   kcsan.sh COMMAND...
kcsan=/sys/kernel/debug/kcsan
awk '$4 == "[dvsm]" && tolower($2) == "t" && $3 ~ /^dvsm_/ { print $3 }' /proc/kallsyms | sort -u | while read -r function; do
	echo "!$function" >$kcsan 2>/dev/null
done
# An access of the module's in 4000 is watched otherwise, for 80 us at most. In an emulator the other CPUs hardly get anywhere
# in that time.
echo 40 >/sys/module/kcsan/parameters/skip_watch
echo 2000 >/sys/module/kcsan/parameters/udelay_task
echo whitelist >$kcsan
echo on >$kcsan
"$@"
status=$?
echo off >$kcsan
# How much it has watched, to see that it was on.
sed 's/^/# kcsan: /' $kcsan | head -n 8
exit $status
