#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Installs what is missing of the named groups, as root; otherwise names the missing packages in one line and fails.
#   deps.sh [build] [vm] [debug-kernel] [check]     (default: build vm)
# Kernels and their headers are not installed: scripts/vm/kernel.sh fetches them into its cache.
set -euo pipefail

declare -A groups=(
	[build]="gcc make libc6-dev liburing-dev libjansson-dev libncurses-dev"
	[vm]="gcc make libc6-dev liburing-dev libjansson-dev libncurses-dev qemu-system-x86 busybox-static cpio kmod libnuma1 pahole xz-utils"
	[debug-kernel]="gcc make libc6-dev bc bison flex libelf-dev libssl-dev perl kmod xz-utils"
	[check]="g++ clang libclang-rt-dev sparse shellcheck perl patch pkg-config fio python3 valgrind redis-server sqlite3 postgresql numactl"
	[bench]="fio"
	[bench-heap]="gcc g++ make libc6-dev libjemalloc2 libtcmalloc-minimal4 libmimalloc2.0 libboost-dev libmm-dev gnuplot-nox"
	[cluster]="openmpi-bin libopenmpi-dev libucx-dev"
	[drm]="libdrm-dev"
	[rdma]="libibverbs-dev ibverbs-providers rdma-core iproute2"
)

[ $# -gt 0 ] || set -- build vm
missing=()
for group; do
	[ -n "${groups[$group]-}" ] || { echo "deps.sh: no group $group; there are: ${!groups[*]}" >&2; exit 2; }
	for package in ${groups[$group]}; do
		[[ " ${missing[*]} " == *" $package "* ]] && continue
		dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
	done
done

# kernel.sh asks apt for the newest kernels, and needs its lists even where nothing is to be installed.
lists=yes
[ -n "$(apt-cache policy linux-image-6.12-amd64 2>/dev/null)" ] || lists=

if [ "$(id -u)" -ne 0 ]; then
	[ ${#missing[@]} -gt 0 ] || exit 0	# kernel.sh says what it misses; it may have all in its cache
	update=''
	[ -n "$lists" ] || update="apt-get update && "
	echo "deps.sh: missing packages, install them as root: ${update}apt-get install ${missing[*]}" >&2
	exit 1
fi
[ ${#missing[@]} -gt 0 ] || [ -z "$lists" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -o DPkg::Lock::Timeout=600)
[ -n "$lists" ] || "${apt[@]}" update
[ ${#missing[@]} -gt 0 ] || exit 0
echo "deps.sh: installing ${missing[*]}" >&2
# Servers among them are for tests to start, not for the machine.
[ -e /usr/sbin/policy-rc.d ] || { trap 'rm -f /usr/sbin/policy-rc.d' EXIT; install -m 755 <(printf '#!/bin/sh\nexit 101\n') /usr/sbin/policy-rc.d; }
# Lists that are old name versions that the mirror no longer has: one update, then one more try.
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" || {
	"${apt[@]}" update
	"${apt[@]}" install -y --no-install-recommends "${missing[@]}"
}
