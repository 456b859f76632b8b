#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What scripts/vm/run.sh exits with: all verdicts on tests in VMs rest on it. TAP; starts the VMs itself.
# shellcheck disable=SC2317  # functions are called by name
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=selftests/vm_cases.sh
. selftests/vm_cases.sh
need qemu-system-x86_64 vm

work=$(mktemp -d) log=$work/log
trap 'rm -rf "$work"' EXIT
n=0 failed=0
vm=(scripts/vm/run.sh --smp 1 --mem 1G)

# status_is WANTED NAME COMMAND...: and what it says is in the log
status_is()
{
	local wanted=$1 name=$2 status=0
	shift 2
	n=$((n + 1))
	"$@" >"$log" 2>&1 || status=$?
	if [ $status -eq "$wanted" ]; then
		echo "ok $n $name"
	else
		echo "not ok $n $name"
		echo "# exit status $status, not $wanted"
		tail -n 60 "$log" | sed 's/^/# /'
		failed=1
	fi
}

# It ends before its first process, is started once more, and no third time.
twice()
{
	"${vm[@]}" --no-dvsm --append rdinit=/there_is_no_such_program -- true
	local status=$?
	[ "$(grep -c 'starting it once more' "$log")" -eq 1 ] || status=1
	return "$status"
}

# Somebody with a clone, a kernel in the cache, QEMU, and no rights.
ordinary_user()
{
	local kernel copy=$work/clone/kernel-cache/kernel
	kernel=$(scripts/vm/kernel.sh 6.12) || return 1
	mkdir -p "$copy/${kernel##*/}" "$work/clone/build" && chmod 755 "$work" || return 1
	cp -r scripts "$work/clone/" && cp -rL "$kernel"/{lib,vmlinuz,release} "$copy/${kernel##*/}/" || return 1
	chown -R 65534:65534 "$work/clone" || return 1
	(cd "$work/clone" && setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$work/clone" TMPDIR=/tmp DVSM_CACHE="$work/clone/kernel-cache" \
		"${vm[@]}" --no-dvsm -- sh -c "test \$(id -u) = 0 && exit 7")
}

echo 1..12
status_is 0 "success is the command's" "${vm[@]}" --no-dvsm -- true
status_is 3 "a failure is the command's" "${vm[@]}" --no-dvsm -- sh -c "exit 3"
status_is 137 "a command that is killed has the shell's status" "${vm[@]}" --no-dvsm -- sh -c "kill -9 \$\$"
status_is 96 "a module that there is not: no VM" "${vm[@]}" --no-dvsm --load dvsm_there_is_no_such_module -- true
status_is 97 "a command that does not end in its time" "${vm[@]}" --no-dvsm --timeout 5 -- sleep 60
status_is 98 "a VM that powers off" "${vm[@]}" --no-dvsm -- poweroff -f
status_is 98 "a VM that reboots" "${vm[@]}" --no-dvsm -- reboot -f
status_is 99 "a kernel that complains, and a command that succeeds" "${vm[@]}" --no-dvsm -- sh -c "echo '<4>WARNING: CPU: 0 PID: 1' >/dev/kmsg"
status_is 99 "a kernel that panics" "${vm[@]}" --no-dvsm -- sh -c "echo c >/proc/sysrq-trigger"
status_is 99 "a VM that dies before its first process is started once more" twice
status_is 95 "a module that somebody holds" "${vm[@]}" -- \
	sh -c "echo enable_event:dvsm:dvsm_fault >/sys/kernel/tracing/events/sched/sched_process_exit/trigger"
if [ "$(id -u)" -eq 0 ]; then
	status_is 7 "an ordinary user can, and is root inside" ordinary_user
else
	echo "ok $((n + 1)) an ordinary user can, and is root inside # SKIP so are all tests here"
fi
exit $failed
