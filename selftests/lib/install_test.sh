#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What "make install" puts where: TAP.
# shellcheck disable=SC2317  # checks are called by name
set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=selftests/lib/tap.sh
. "$(dirname "$0")/tap.sh"
touch "$work/begun"

install_into() { make -s -C "$top" install "$@"; }

files_are_there()	# FOLDER PREFIX FILE...
{
	folder=$1$2
	shift 2
	for file; do
		[ -s "$folder/$file" ] || { echo "no $folder/$file"; return 1; }
	done
}

# Neither are rule and group there, where nobody would look for them, nor in the system.
system_is_as_it_was()	# PREFIX
{
	found=$(find "$1" -name '*dvsm.rules' -o -name dvsm.conf
		find /usr/lib/udev/rules.d/60-dvsm.rules /usr/lib/sysusers.d/dvsm.conf -newer "$work/begun" 2>/dev/null)
	[ -z "$found" ] || { echo "$found"; return 1; }
}

program_runs()	# FOLDER PREFIX
{
	cat >"$work/program.c" <<-'EOT'
	#include <dvsm/dvsm.h>
	int main(void) { void *block = dvsm_malloc(100); dvsm_free(block); return !block; }
	EOT
	flags=$(PKG_CONFIG_PATH=$1$2/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$1 pkg-config --cflags --libs dvsm) || return 1
	# shellcheck disable=SC2086 # several words
	cc -Wall -Werror -o "$work/program" "$work/program.c" $flags && LD_LIBRARY_PATH=$1$2/lib "$work/program"
}

# A compiler that lacks the header.
says_what_it_needs()
{
	printf '#!/bin/sh\ncase "$*" in *liburing.h*) exit 1 ;; esac\nexec cc "$@"\n' >"$work/cc"
	chmod +x "$work/cc"
	! make -s -C "$top/libdvsm" CC="$work/cc" O="$work/libdvsm" 2>"$work/errors" || return
	cat "$work/errors"
	grep -q 'libdvsm needs liburing-dev' "$work/errors" && ! grep -q 'fatal error' "$work/errors"
}

echo 1..7
check "into a package's folder" install_into DESTDIR="$work/package" PREFIX=/usr
check "library, headers, manual, rule and group are there" files_are_there "$work/package" /usr lib/libdvsm.so lib/libdvsm.a \
	lib/libdvsm-malloc.so lib/pkgconfig/dvsm.pc include/dvsm/dvsm.h include/linux/dvsm.h share/man/man3/dvsm_malloc.3 \
	lib/udev/rules.d/60-dvsm.rules lib/sysusers.d/dvsm.conf
check "a program builds by pkg-config there, and runs" program_runs "$work/package" /usr
check "below a prefix of one's own" install_into PREFIX="$work/own"
check "there it is whole, too" program_runs "" "$work/own"
check "without liburing-dev make says that it is missing, and compiles nothing" says_what_it_needs
check "and the system is as it was" system_is_as_it_was "$work/own"
exit "$failed"
