#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Compares syzkaller's description of the ABI with the header, and prints each difference: every command with its struct,
# every struct with its fields in order and their sizes, every flag, policy and event.
#   check.sh [HEADER [DESCRIPTION]]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
header=${1:-$here/../../include/uapi/linux/dvsm.h}
description=${2:-$here/dvsm.txt}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# One fact a line: "command NAME STRUCT", "field STRUCT NUMBER NAME BYTES", "value NAME".
facts_of_header()
{
	sed 's|/\*.*\*/||' "$header" | awk '
	BEGIN { bytes["__u8"] = 1; bytes["__u16"] = 2; bytes["__u32"] = bytes["__s32"] = 4; bytes["__aligned_u64"] = 8 }
	/^#define DVSM_IOC_[A-Z_]+[ \t]+_IO/ {
		argument = tolower($2); sub(/_ioc/, "", argument); print "command", $2, argument
	}
	/^#define DVSM_([A-Z]+_F|POLICY|EVENT|BALANCE)_[A-Z_]+[ \t]/ { print "value", $2 }
	/^#define DVSM_NAME_(MAX|SIZE)[ \t]/ { constant[$2] = $3 }
	/^struct dvsm_[a-z_]+ \{/ { struct = $2; number = 0; next }
	/^\}/ { struct = "" }
	struct && NF {
		name = $2; sub(/;$/, "", name); size = bytes[$1]
		if (split(name, part, /[][]/) > 1) {
			name = part[1]; size *= part[2] in constant ? constant[part[2]] : part[2]
		}
		print "field", struct, ++number, name, size
	}'
}

facts_of_description()
{
	sed 's/#.*//' "$description" | awk -v header="$header" '
	BEGIN {
		while ((getline line < header) > 0)
			if (split(line, word) >= 3 && word[2] ~ /^DVSM_NAME_(MAX|SIZE)$/)
				constant[word[2]] = word[3]
		close(header)
	}
	function size_of(type,  last, count) {
		if (type == "dvsm_bytes") return 8
		if (type ~ /^fd_dvsm/) return 4
		if (type ~ /^ptr64\[/) return 8
		if (type ~ /^(string|array)\[/) {
			last = type; sub(/.*, /, "", last); sub(/\]$/, "", last)
			return last in constant ? constant[last] : last
		}
		if (match(type, /int(8|16|32|64)/)) return substr(type, RSTART + 3, RLENGTH - 3) / 8
		return "unknown"
	}
	/^ioctl\$/ {
		name = $0; sub(/^ioctl\$/, "", name); sub(/\(.*/, "", name)
		command = $0; sub(/.*cmd const\[/, "", command); sub(/\].*/, "", command)
		argument = $0; sub(/.*arg ptr\[[a-z]+, /, "", argument); sub(/\].*/, "", argument)
		print "command", name == command ? name : name "!=" command, argument
		next
	}
	/^dvsm_[a-z_]+ = / {
		for (i = 3; i <= NF; i++) {
			sub(/,$/, "", $i)
			if ($i ~ /^DVSM_([A-Z]+_F|POLICY|EVENT|BALANCE)_/) print "value", $i
		}
		next
	}
	/^dvsm_[a-z_]+ \{/ { struct = $1; number = 0; next }
	/^\}/ { struct = "" }
	struct && NF {
		type = $0; sub(/^[ \t]*[a-z0-9_]+[ \t]+/, "", type); sub(/[ \t]*\((in|out)\)$/, "", type)
		print "field", struct, ++number, $1, size_of(type)
	}'
}

facts_of_header | sort -u >"$tmp/header"
facts_of_description | sort -u >"$tmp/description"
# A header that cannot be read would agree with an empty description.
[ "$(grep -c '^command' "$tmp/header")" -ge 20 ] || { echo "no commands found in $header" >&2; exit 1; }
diff --label "$header" --label "$description" -U 0 "$tmp/header" "$tmp/description"
