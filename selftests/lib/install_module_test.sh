#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What "make modules_install" and "make dkms_install" put where, and that dkms.conf builds it: TAP.
# shellcheck disable=SC2317  # checks are called by name
set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=selftests/lib/tap.sh
. "$(dirname "$0")/tap.sh"
kernel=$("$top/scripts/vm/kernel.sh" 6.12 2>"$work/said") || { echo "1..0 # SKIP no kernel: $(tail -n 1 "$work/said")"; exit 4; }
# As uname says it in that kernel.
release=$(cat "$kernel/release")
version=$(sed -n 's/^.define DVSM_VERSION_M[A-Z]*[[:space:]]*//p' "$top/include/dvsm/base.h" | paste -sd .)

# One file, its folder below lib/modules the kernel's; this machine's own are left alone.
module_is_installed()	# VARIABLE
{
	# VMs that start meanwhile link the same file under this lock.
	mkdir -p "$top/build/vm" &&
		flock "$top/build/vm/$release.lock" make -s -C "$top" modules_install KDIR="$kernel/build" "$1=$work/$1" || return
	[ "$(cd "$work/$1" && find . -type f)" = "./lib/modules/$release/updates/dvsm.ko" ] || { find "$work/$1"; return 1; }
	[ "$(modinfo -F vermagic "$work/$1/lib/modules/$release/updates/dvsm.ko" | cut -d ' ' -f 1)" = "$release" ]
}

source_is_installed()
{
	make -s -C "$top" dkms_install DESTDIR="$work/dkms" || return
	diff -r "$top/kmod" "$work/dkms/usr/src/dvsm-$version/kmod" && diff -r "$top/include" "$work/dkms/usr/src/dvsm-$version/include"
}

# As dkms does it: in a copy of the source, by the command that dkms.conf has. One file of it is enough.
source_builds()
{
	# shellcheck disable=SC2034  # dkms.conf's
	local kernel_source_dir=$kernel/build dkms_tree=$work/tree PACKAGE_NAME PACKAGE_VERSION MAKE

	# shellcheck disable=SC1090
	. "$work/dkms/usr/src/dvsm-$version/dkms.conf"
	[ "$PACKAGE_NAME/$PACKAGE_VERSION" = "dvsm/$version" ] && mkdir -p "$work/tree/dvsm/$version" &&
		cp -r "$work/dkms/usr/src/dvsm-$version" "$work/tree/dvsm/$version/build" &&
		eval "${MAKE[0]% modules} main.o" && [ -s "$work/tree/dvsm/$version/build/kmod/main.o" ]
}

echo 1..4
check "modules_install into a package's folder" module_is_installed DESTDIR
check "modules_install where the kernel's own would go" module_is_installed INSTALL_MOD_PATH
check "dkms_install copies all of the source, and nothing else" source_is_installed
check "dkms.conf builds it" source_builds
exit "$failed"
