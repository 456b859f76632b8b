#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The main job, twice: several processes count the words of the text under /usr/share in hash tables that they share, one on
# each NUMA node. First natively in a memfd, checked against tr | sort | uniq -c; then in a VM with two nodes, four CPUs and
# Debian's 6.12, in memory of /dev/dvsm. Both must find the same words and counts, and in the VM each chunk of a table must be on
# the node of the processes that fill it.
#   demo.sh [OPTION...]     (of wordcount: --size-limit=2M)
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$top/build/demo
wordcount=$top/build/libdvsm/examples/wordcount-static

title() { printf '\n=== %s ===\n\n' "$*"; }

"$top/scripts/deps.sh" build vm
make -s -C "$top" lib >&2
kernel=$("$top/scripts/vm/kernel.sh" 6.12)
rm -rf "$out"
mkdir -p "$out/corpus"

title "natively, backend memfd"
"$wordcount" --backend=memfd --progress --verify=pipe --output="$out/native.words" "$@"

# The files that were counted go into the VM's initramfs, under the same names.
"$wordcount" --list "$@" >"$out/files"
cpio -pdLm --quiet "$out/corpus" <"$out/files" 2>"$out/cpio.log" || { cat "$out/cpio.log" >&2; exit 1; }

title "in a VM: Linux $(cat "$kernel/release"), two nodes, four CPUs, insmod dvsm.ko, backend /dev/dvsm"
"$top/scripts/vm/run.sh" --kernel 6.12 --nodes 2 --smp 4 --add "$out/corpus/usr:/usr" --add "$wordcount" -- \
	sh -c "$wordcount"' --backend=dvsm --progress --output=/tmp/words "$@" && sha256sum </tmp/words' sh "$@" | tee "$out/vm.output"

title "the two answers"
native=$(sha256sum <"$out/native.words")
guest=$(tail -n 1 "$out/vm.output")
if [ "$native" != "$guest" ]; then
	echo "demo: the VM counted something else: $guest, natively it was $native" >&2
	exit 1
fi
if ! awk '/ chunks are on the node of / { found = 1; elsewhere = $1 != $3 } END { exit !found || elsewhere }' "$out/vm.output"; then
	echo "demo: in the VM not all tables are where their processes are" >&2
	exit 1
fi
echo "equal: $(wc -l <"$out/native.words") words with their counts, from /dev/dvsm in the VM and from memfd natively,"
echo "the latter checked against tr | sort | uniq -c."
rm -rf "$out/corpus"
