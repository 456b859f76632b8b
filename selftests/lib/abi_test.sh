#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What libdvsm promises about its files: TAP. Usage: abi_test.sh LIBDIR (where libdvsm was built)
# shellcheck disable=SC2317  # checks are called by name
# CC and CXX may list several compilers ("gcc clang").
set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
lib=${1:-$top/build/libdvsm}
: "${CC:=gcc clang}" "${CXX:=g++ clang++}"
# shellcheck source=selftests/lib/tap.sh
. "$(dirname "$0")/tap.sh"

check()	# NAME COMMAND...: the command says nothing when all is well
{
	name=$1
	shift
	"$@" >"$work/said" 2>&1 && ! [ -s "$work/said" ]
	result $? "$name"
}

skip() { n=$((n + 1)); echo "ok $n $1 # SKIP $2"; }

header_compiles()	# COMPILER LANGUAGE STANDARD HEADER
{
	printf '#include <%s>\nint main(void) { return 0; }\n' "$4" |
		"$1" -x "$2" -std="$3" -pedantic -Wall -Wextra -Werror \
		-I"$installed/include" -fsyntax-only -
}

declared()
{
	cat "$installed"/include/dvsm/*.h | tr '\n;' ' \n' | sed -n 's/.*DVSM_API//p' |
		awk 'match($0, /dvsm_[a-z0-9_]+\(/) { print substr($0, RSTART, RLENGTH - 1); next }
			$NF ~ /dvsm_/ { print $NF }' | sort -u
}

exported() { nm -D --defined-only "$lib/libdvsm.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u; }

declared_is_exported() { declared >"$work/declared"; exported >"$work/exported"; diff "$work/declared" "$work/exported"; }

# Symbols of the static library that a program's own could clash with.
static_names() { nm -g --defined-only "$lib/libdvsm.a" 2>/dev/null | awk 'NF == 3 && $3 !~ /^dvsm_/ { print $3 }'; }

# An allocator may stand on the region half: it must not call one.
no_allocator()
{
	for object in "$lib"/obj/*.o; do
		case ${object##*/} in heap*|preload*) continue;; esac
		nm -u "$object" | grep -wE 'malloc|calloc|realloc|free|strdup|fopen|opendir|printf|fprintf|exit|abort'
	done
	true
}

# No writable data: nothing to protect, nothing for a fork to split.
no_state()
{
	for object in "$lib"/obj/*.o; do
		case ${object##*/} in heap*|preload*) continue;; esac
		size -A "$object" | awk -v o="${object##*/}" '$1 ~ /^\.(data|bss|tdata|tbss)$/ && $2 { print o, $1, $2 }'
	done
}

no_constructor() { find "$lib/obj" -name "*.o" ! -name "preload*" -exec readelf -SW {} + | grep -E '\.(init_array|ctors|preinit_array)'; true; }

# Commands, features, tracepoints, parameters and region calls each have their place in the user's documentation.
documented()
{
	{
		sed -n 's/^#define \(DVSM_IOC_[A-Z_]*\)\s*_IO.*/\1/p' "$top/include/uapi/linux/dvsm.h"
		sed -n 's/^#define \(DVSM_FEATURE_[A-Z_]*\)\s.*/\1/p' "$top/include/uapi/linux/dvsm.h"
		sed -n 's/^TRACE_EVENT(\([a-z_]*\),$/\1/p; s/^DEFINE_EVENT([a-z_]*, \([a-z_]*\),$/\1/p' "$top/kmod/trace.h"
		sed -n 's/^module_param[a-z_]*(\([a-z_]*\),.*/\1/p' "$top"/kmod/*.c
		declared | grep -E '^dvsm_(region|snapshot|info|backend|version)'
	} | while read -r name; do
		grep -qw "$name" "$top/Documentation/dvsm.rst" || echo "$name is not in Documentation/dvsm.rst"
	done
}

has_manual()
{
	declared | grep -E '^dvsm_(region|snapshot|heap_[a-z_]*[a-z]$|info|backend|version)' | while read -r name; do
		[ -s "$installed/share/man/man3/$name.3" ] || echo "no manual page for $name"
	done
}

version_node() { readelf -VW "$lib/libdvsm.so" | grep -q "DVSM_$version\b" || echo "no version node DVSM_$version"; }

soname() { readelf -dW "$lib/libdvsm.so" | grep -q "soname: \[libdvsm.so.${version%.*}\]" || readelf -dW "$lib/libdvsm.so"; }

program_builds()	# PKG-CONFIG-ARGUMENT COMPILER-FLAG
{
	cat >"$work/program.c" <<'END'
#include <dvsm/dvsm.h>

int main(void)
{
	struct dvsm_region *region = dvsm_region_create(4096, NULL);

	dvsm_region_destroy(region);
	return region == NULL;
}
END
	# shellcheck disable=SC2046,SC2086
	"${CC%% *}" $2 -o "$work/program" "$work/program.c" \
		$(PKG_CONFIG_PATH=$installed/lib/pkgconfig pkg-config --cflags --libs $1 dvsm) &&
		LD_LIBRARY_PATH=$installed/lib "$work/program"
}

# An inline function of C++ is in each object that uses it; the linker keeps one, with what its fast paths refer to.
inline_twice()	# COMPILER
{
	for unit in one two; do
		cat >"$work/$unit.cc" <<END
#include <dvsm/heap_inline.h>
#include <vector>

template <class T> struct allocator {
	typedef T value_type;
	T *allocate(size_t n) { return static_cast<T *>(dvsm_malloc(n * sizeof(T))); }
	void deallocate(T *block, size_t) { dvsm_free(block); }
};

__attribute__((noinline)) inline void *twice(size_t size)
{
	void *block = dvsm_malloc(size);

	dvsm_free(block);
	return dvsm_malloc(size);
}

int $unit()
{
	std::vector<int, allocator<int>> numbers;

	for (int i = 0; i < 1000; i++)
		numbers.push_back(i);
	void *block = twice(100);
	dvsm_free(block);
	return block && numbers[999] == 999;
}
END
		"$1" -std=c++17 -O2 -Wall -Wextra -Werror -I"$installed/include" -c -o "$work/$unit.o" "$work/$unit.cc" || return
	done
	echo 'int one(); int two(); int main() { return !(one() && two()); }' >"$work/main.cc"
	"$1" -o "$work/inline_twice" "$work/main.cc" "$work/one.o" "$work/two.o" "$lib/libdvsm.a" && "$work/inline_twice"
}

version=$(sed -n 's/^.define DVSM_VERSION_M[A-Z]*[[:space:]]*//p' "$top/include/dvsm/base.h" | paste -sd .)
installed=$work/prefix

echo "TAP version 13"
check "make_install_is_quiet_and_works" make -s -C "$top/libdvsm" O="$lib" PREFIX="$installed" install
for header in dvsm/dvsm.h dvsm/base.h dvsm/region.h dvsm/snapshot.h dvsm/heap.h dvsm/heap_inline.h linux/dvsm.h; do
	[ -e "$installed/include/$header" ] || continue
	for compiler in $CC; do
		command -v "$compiler" >/dev/null || { skip "$header.$compiler" "no $compiler"; continue; }
		check "$header.compiles_in_c11.$compiler" header_compiles "$compiler" c c11 "$header"
	done
	for compiler in $CXX; do
		command -v "$compiler" >/dev/null || { skip "$header.$compiler" "no $compiler"; continue; }
		check "$header.compiles_in_c++17.$compiler" header_compiles "$compiler" c++ c++17 "$header"
	done
done
for compiler in $CXX; do
	command -v "$compiler" >/dev/null || { skip "inline_functions_of_two_objects_link.$compiler" "no $compiler"; continue; }
	check "inline_functions_of_two_objects_link.$compiler" inline_twice "$compiler"
done
check "what_the_headers_declare_is_what_the_library_exports" declared_is_exported
check "every_command_feature_tracepoint_parameter_and_region_call_is_documented" documented
check "every_region_call_has_a_manual_page" has_manual
check "version_node_is_the_headers_version" version_node
check "soname_is_the_major_version" soname
check "static_library_has_no_name_without_our_prefix" static_names
check "the_region_half_calls_no_allocator_and_does_not_print_or_exit" no_allocator
check "the_region_half_has_no_state" no_state
check "no_constructor" no_constructor
if command -v pkg-config >/dev/null; then
	check "a_program_builds_by_pkg_config" program_builds "" ""
	check "a_program_builds_statically_by_pkg_config" program_builds --static -static
else
	skip "a_program_builds_by_pkg_config" "no pkg-config"
fi
echo "1..$n"
exit $failed
