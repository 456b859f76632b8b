#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What scripts/vm/run.sh exits with: all verdicts on tests in VMs rest on it. TAP; starts the VMs itself.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=selftests/vm_cases.sh
. selftests/vm_cases.sh
need qemu-system-x86_64 vm

log=$(mktemp)
trap 'rm -f "$log"' EXIT
n=0 failed=0

# status_is WANTED NAME RUN_ARGUMENT...
status_is()
{
	local wanted=$1 name=$2 status=0
	shift 2
	n=$((n + 1))
	scripts/vm/run.sh --smp 1 --mem 1G --no-dvsm "$@" >"$log" 2>&1 || status=$?
	if [ $status -eq "$wanted" ]; then
		echo "ok $n $name"
	else
		echo "not ok $n $name"
		echo "# exit status $status, not $wanted"
		tail -n 60 "$log" | sed 's/^/# /'
		failed=1
	fi
}

echo 1..9
status_is 0 "success is the command's" -- true
status_is 3 "a failure is the command's" -- sh -c "exit 3"
status_is 137 "a command that is killed has the shell's status" -- sh -c "kill -9 \$\$"
status_is 96 "a module that there is not: no VM" --load dvsm_there_is_no_such_module -- true
status_is 97 "a command that does not end in its time" --timeout 5 -- sleep 60
status_is 98 "a VM that powers off" -- poweroff -f
status_is 98 "a VM that reboots" -- reboot -f
status_is 99 "a kernel that complains, and a command that succeeds" -- sh -c "echo '<4>WARNING: CPU: 0 PID: 1' >/dev/kmsg"
status_is 99 "a kernel that panics" -- sh -c "echo c >/proc/sysrq-trigger"
exit $failed
