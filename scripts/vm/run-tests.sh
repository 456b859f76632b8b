#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Runs test programs one after the other, on the host or in a VM (busybox sh), for check.sh to read:
#   run-tests.sh SECONDS PROGRAM...
# Each program's output stands between "# RUN NAME" and "# END NAME STATUS SECONDS"; "# LEFT NAME ..." says what it left
# behind. DVSM_TEST_FILTER has options of the kselftest harness for all programs of it, as "-V VARIANT -F FIXTURE", which
# leave out tests; DVSM_TEST_UNDER a command that runs each program: "valgrind -q".
limit=$1
shift
stats=/sys/kernel/debug/dvsm/stats

# What must be back at zero when nobody uses the device; some of it is dropped by workers, so it may take a moment.
left_over()
{
	[ -r $stats ] || return 0
	tries=0
	while left=$(grep -E '^(regions|pages|pinned_pages|names|members|users) ' $stats | grep -v ' 0$'); do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || { echo "# LEFT $1 $(echo "$left" | tr '\n' ' ')"; return; }
		sleep 0.1
	done
}

# The module says nothing when a user makes a mistake.
kernel_log()
{
	[ -n "$DVSM_VM" ] || return 0
	dmesg -c | grep ' dvsm: ' | sed "s|^|# LEFT $1 a line in the kernel log: |"
}

[ -z "$DVSM_VM" ] || dmesg -c >/dev/null
for program; do
	name=${program##*selftests/}
	name=${name##*-sanitized/}
	echo "# RUN $name"
	begun=$(date +%s)
	filter=
	case $name in
	*.sh) ;;
	*) filter=$DVSM_TEST_FILTER ;;
	esac
	# shellcheck disable=SC2086 # several words
	timeout -s KILL "$limit" $DVSM_TEST_UNDER "$program" $filter 2>&1 </dev/null
	status=$?
	left_over "$name"
	kernel_log "$name"
	echo "# END $name $status $(($(date +%s) - begun))"
done
