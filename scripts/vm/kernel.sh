#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Finds, fetches or builds a kernel and prints the cached directory that holds it:
#   vmlinuz  lib/modules/RELEASE  build (the KDIR for module builds)  release (one line)
# Kinds: 6.1 and 6.12 (Debian's own, newest version that apt knows), debug and kcsan (built from Debian's linux-source-6.12),
# debug-6.1 (the same from linux-source-6.1), kselftest (no kernel: the test harness and checkpatch of linux-source-6.12).
# The cache is ${DVSM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/dvsm}/kernel; nothing in it is ever changed once it has its name.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${DVSM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dvsm}/kernel
PATH=$PATH:/usr/sbin:/sbin

say() { echo "kernel.sh: $*" >&2; }
die() { say "$*"; exit 1; }

# apt's lists are missing, or are old and name versions that the mirror no longer has. As root: one update, one more try.
readonly EXIT_LISTS=3
die_lists() { say "$*; apt's lists are missing or old, as root: apt-get update"; exit "$EXIT_LISTS"; }

arguments=("$@") work='' build_pid=''
on_exit()
{
	local status=$?
	[ -z "$build_pid" ] || kill -- "-$build_pid" 2>/dev/null || true
	[ -z "$work" ] || rm -rf "$work"
	if [ "$status" -eq "$EXIT_LISTS" ] && [ "$(id -u)" -eq 0 ] && [ -z "${KERNEL_SH_UPDATED-}" ]; then
		apt-get -q -o DPkg::Lock::Timeout=600 update >&2
		KERNEL_SH_UPDATED=yes exec "$0" "${arguments[@]}"
	fi
}
trap on_exit EXIT
trap 'exit 130' INT TERM HUP

# candidate PACKAGE: the version that apt would install, empty where apt knows none
candidate()
{
	apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'
}

# depends PACKAGE PREFIX: the first dependency of PACKAGE's candidate whose name begins with PREFIX
depends()
{
	{ apt-cache show --no-all-versions "$1" 2>/dev/null || true; } | sed -n 's/^Depends: //p' | tr ',' '\n' | tr '|' '\n' |
		awk -v prefix="$2" 'index($1, prefix) == 1 { print $1; exit }'
}

# fetch PACKAGE...: their .deb files into the current folder
fetch()
{
	# As root apt warns that its sandbox user cannot write here; that is all the filter takes away.
	apt-get -q download "$@" 2>&1 | grep -v -e '^Get:' -e '^Fetched' -e 'unsandboxed' >&2 || true
	for package in "$@"; do
		compgen -G "${package}_*.deb" >/dev/null || die_lists "apt-get cannot download $package"
	done
}

newest_cached() { { find "$cache" -mindepth 1 -maxdepth 1 -type d -name "$1-*" 2>/dev/null || true; } | sort -V | tail -n 1; }

# make_once KEY FUNCTION ARGUMENTS...: runs FUNCTION with a new folder as its last argument, which then becomes cache/KEY
make_once()
{
	local key=$1
	shift
	final=$cache/$key
	[ -d "$final" ] && return
	mkdir -p "$cache"
	exec 9>"$cache/.$key.lock"
	flock 9
	if [ ! -d "$final" ]; then
		work=$(mktemp -d "$cache/.tmp.XXXXXX")
		"$@" "$work"
		chmod 755 "$work"
		mv "$work" "$final"
		work=''
	fi
	exec 9>&-
}

make_stock()
{
	local image=$1 headers=$2 work=$3 release=${1#linux-image-} package

	say "fetching $image and its headers"
	mkdir "$work/deb"
	(cd "$work/deb" && fetch "$image" "$headers" "${headers%-amd64}-common" "$(depends "$headers" linux-kbuild-)")
	for package in "$work"/deb/*.deb; do
		dpkg -x "$package" "$work"
	done
	rm -rf "$work/deb" "${work:?}/usr/share" "$work/lib/modules/$release/build" "$work/lib/modules/$release/source"
	ln -s "boot/vmlinuz-$release" "$work/vmlinuz"
	ln -s "usr/src/$headers" "$work/build"
	# The package names its common half by the absolute path of an installation.
	echo "include $final/usr/src/${headers%-amd64}-common/Makefile" >"$work/usr/src/$headers/Makefile"
	depmod -b "$work" "$release"
	echo "$release" >"$work/release"
}

# The tarball of linux-source-SERIES: the installed one where it is the newest version, else one out of the .deb.
# Sets source_version and source_tarball.
find_source()
{
	local package=linux-source-$1 installed
	# dpkg-query fails for a package that it has never heard of.
	installed=$({ dpkg-query -W -f '${db:Status-Status} ${Version}' "$package" 2>/dev/null || true; } | sed -n 's/^installed //p')
	source_version=$(candidate "$package")
	source_version=${source_version:-$installed}
	[ -n "$source_version" ] || die_lists "apt knows no $package"
	source_tarball=/usr/src/$package.tar.xz
	if [ "$installed" != "$source_version" ] || [ ! -r "$source_tarball" ]; then
		make_once "source-$1-$source_version" fetch_source "$package"
		source_tarball=$final/$package.tar.xz
	fi
}

fetch_source()
{
	local package=$1 work=$2

	say "fetching $package"
	(cd "$work" && fetch "$package" && dpkg -x ./*.deb . && mv "usr/src/$package.tar.xz" . && rm -rf usr ./*.deb)
}

# merge FILE...: the settings of all configuration fragments, a later one's instead of an earlier one's
merge()
{
	sed -nE 's/^(CONFIG_[A-Z0-9_]+)=.*/\1 &/p; s/^# (CONFIG_[A-Z0-9_]+) is not set$/\1 &/p' "$@" |
		awk '{ symbol = $1; if (!(symbol in line)) order[n++] = symbol; sub(/^[^ ]+ /, ""); line[symbol] = $0 }
		     END { for (i = 0; i < n; i++) print line[order[i]] }'
}

make_built()
{
	local kind=$1 config=$2 work=$3 log=$cache/$1.log start=$SECONDS

	# In kcsan's kernel the module alone is watched: what the core does is not reported, and each access of it that is watched
	# is one of the module's that is not.
	[ "$kind" != kcsan ] || export KCSAN_SANITIZE=n
	say "building the $kind kernel from Debian's source $source_version; some 12 minutes on two cores; log: $log"
	echo "$config" >"$work/fragment"
	# In the background and a process group of its own: a trap runs at once, and ends all of the build.
	set -m
	"$here/build-kernel.sh" "$source_tarball" "$work/fragment" "$work" >"$log" 2>&1 9>&- &
	build_pid=$!
	set +m
	wait "$build_pid" ||
		{ tail -n 30 "$log" >&2; die "building the $kind kernel failed"; }
	build_pid=''
	say "built the $kind kernel in $((SECONDS - start)) s"
}

make_kselftest()
{
	tar --xz -xf "$source_tarball" -C "$1" --strip-components=1 --wildcards \
		'*/tools/testing/selftests/*.h' '*/tools/testing/selftests/*.mk' '*/tools/testing/selftests/kselftest/*' \
		'*/tools/testing/selftests/run_kselftest.sh' '*/scripts/checkpatch.pl' '*/scripts/spelling.txt' \
		'*/scripts/const_structs.checkpatch' '*/scripts/subarch.include' '*/COPYING'
	# 30 s for a test is too little for a debug kernel in an emulator that shares its CPUs; run-tests.sh limits the whole program.
	sed -i 's/^#define TEST_TIMEOUT_DEFAULT .*/#define TEST_TIMEOUT_DEFAULT 300/' "$1/tools/testing/selftests/kselftest_harness.h"
}

case ${1-} in
6.1 | 6.12)
	suffix=
	[ "$1" = 6.12 ] && suffix=-6.12
	image=$(depends "linux-image$suffix-amd64" linux-image-)
	headers=$(depends "linux-headers$suffix-amd64" linux-headers-)
	if [ -n "$image" ] && [ -n "$headers" ]; then
		make_once "$1-$(candidate "$image")" make_stock "$image" "$headers"
	else
		final=$(newest_cached "$1")
		[ -n "$final" ] || die_lists "apt knows no linux-image$suffix-amd64 and none is cached"
	fi
	;;
debug | debug-6.1 | kcsan)
	series=6.12
	fragments=("$here/debug-kernel.config")
	[ "$1" = debug ] || fragments+=("$here/$1-kernel.config")
	[ "$1" != debug-6.1 ] || series=6.1
	find_source "$series"
	config=$(merge "${fragments[@]}")
	hash=$( (echo "$config"; cat "$here/build-kernel.sh"; gcc -dumpfullversion) | sha256sum | cut -c 1-12)
	make_once "$1-$source_version-$hash" make_built "$1" "$config"
	;;
kselftest)
	find_source 6.12
	make_once "kselftest-$source_version-timeout300" make_kselftest
	;;
*)
	echo "usage: kernel.sh 6.1|6.12|debug|debug-6.1|kcsan|kselftest" >&2
	exit 2
	;;
esac
echo "$final"
