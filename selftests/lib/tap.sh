# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-only
# What tests in sh share: numbered results, and a folder that goes with the test.

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
n=0
failed=0

# result STATUS NAME: ok if STATUS is 0, else what $work/said has, too
result()
{
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $n $2"
	else
		echo "not ok $n $2"
		head -n 20 "$work/said" | cut -c 1-200 | sed 's/^/# /'
		failed=1
	fi
}

check()	# NAME COMMAND...
{
	name=$1
	shift
	"$@" >"$work/said" 2>&1
	result $? "$name"
}
