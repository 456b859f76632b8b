#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# clang as CC for a module whose kernel was configured for gcc: leaves out the options that only gcc knows. For compile
# checks alone, the object is thrown away.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
arguments=()
for argument; do
	case $argument in
	-mfunction-return=* | -fconserve-stack | -mrecord-mcount | -ftrivial-auto-var-init=zero | -mindirect-branch*) ;;
	*/linux/kconfig.h) arguments+=("$argument" -include "$here/clang-module.h") ;;
	*) arguments+=("$argument") ;;
	esac
done
exec "${CLANG:-clang}" "${arguments[@]}" -Qunused-arguments -Wno-unknown-warning-option -Wno-gnu-variable-sized-type-not-at-end
