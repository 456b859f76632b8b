#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What runs in a VM for uring_fixed_test.sh: uring_fixed_vm.sh PROGRAM
stats=/sys/kernel/debug/dvsm/stats
case $(uname -r) in
6.1.*) how="by plain addresses" ;;
*) how="by fixed buffers" ;;
esac

# sectors: that the disk itself has read so far
sectors() { awk '{ print $3 }' /sys/block/nvme0n1/stat; }

# says WHAT ARGUMENT...: the program, word for word
says()
{
	wanted="uring-fixed: $1"
	shift
	said=$("$@") || { echo "$said"; return 1; }
	echo "$said"
	[ "$said" = "$wanted" ]
}

# More blocks than the window has. They stay in the page cache, which is not what is to be read.
dd if=/dev/urandom of=/dev/nvme0n1 bs=1M count=24 conv=fsync 2>/dev/null || exit 1
before=$(sectors)
says "24576 KiB past the page cache, $how, on device: 0 of 24 blocks differ" "$1" /dev/nvme0n1 24 || exit 1
[ $(($(sectors) - before)) -ge 49152 ] || exit 1
says "65536 KiB past the page cache, $how, on device: 0 of 64 blocks differ" "$1" /dev/nvme0n1 || exit 1
# A file that ends within a block, and whose file system takes O_DIRECT on 6.12 alone.
head -c 3000001 /dev/urandom >/tmp/file
"$1" /tmp/file | tee /tmp/said | grep -q "^uring-fixed: 2929 KiB .* $how, on device: 0 of 3 blocks differ" || { cat /tmp/said; exit 1; }
# Workers drop the last of it.
timeout 60 sh -c "while grep -qE '^(regions|pages|pinned_pages) [1-9]' $stats; do
	sleep 0.1
done" || { cat $stats; exit 1; }
