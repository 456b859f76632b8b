#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Builds one kernel from a linux-source tarball and a configuration fragment, and leaves in DEST what a VM and a
# module build need: vmlinuz, lib/modules, build (the KDIR) and release.
# kernel.sh calls it and caches the answer by a hash in which this file takes part: an edit here is a rebuild.
set -euo pipefail

if [ $# -ne 3 ]; then
	echo "usage: build-kernel.sh TARBALL FRAGMENT DEST" >&2
	exit 2
fi
tarball=$1 fragment=$2 dest=$3
tree=$dest/build
jobs=$(nproc)

# Every line of the fragment must hold in the final .config: kconfig drops silently what a dependency forbids.
check_config()
{
	local line symbol bad=0

	while IFS= read -r line; do
		case $line in
		CONFIG_*=*)
			grep -qxF -- "$line" "$tree/.config" && continue
			;;
		'# CONFIG_'*' is not set')
			symbol=${line#\# }
			symbol=${symbol%% *}
			grep -q "^$symbol=" "$tree/.config" || continue
			;;
		*)
			continue
			;;
		esac
		echo "build-kernel: the configuration lost: $line" >&2
		bad=1
	done <"$fragment"
	return $bad
}

# A module build needs headers, kbuild and its host programs; not the sources (1.5 GiB) and objects of the kernel itself.
prune_tree()
{
	find "$tree" -type f \( -name '*.c' -o -name '*.S' -o -name '*.o' -o -name '*.a' -o -name '*.ko' -o -name '*.cmd' \
		-o -name '*.mod' -o -name '*.rst' -o -name '*.dts*' -o -name '*.json' \) \
		-not -path "$tree/scripts/*" -not -path "$tree/include/*" -not -path "$tree/tools/objtool/*" -delete
	find "$tree/arch" -mindepth 1 -maxdepth 1 -type d -not -name x86 -exec rm -rf {} +
	rm -rf "$tree/Documentation" "$tree/drivers" "$tree/sound" "$tree/tools/testing" "$tree/tools/perf" \
		"$tree/vmlinux" "$tree/samples" "$tree/rust"
	rm -f "$tree"/.tmp_* "$tree"/arch/x86/boot/bzImage "$tree"/arch/x86/boot/compressed/vmlinux*
	find "$tree" -type d -empty -delete
}

mkdir -p "$tree"
tar --xz -xf "$tarball" -C "$tree" --strip-components=1
make -s -C "$tree" KCONFIG_ALLCONFIG="$(readlink -f "$fragment")" allnoconfig
check_config
make -s -C "$tree" -j"$jobs" bzImage modules
make -s -C "$tree" kernelrelease >"$dest/release"
release=$(cat "$dest/release")
make -s -C "$tree" INSTALL_MOD_PATH="$dest" modules_install
rm -f "$dest/lib/modules/$release/build" "$dest/lib/modules/$release/source"
cp "$tree/arch/x86/boot/bzImage" "$dest/vmlinuz"
cp "$tree/System.map" "$dest/System.map"
prune_tree
