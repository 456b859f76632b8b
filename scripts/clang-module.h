/* SPDX-License-Identifier: GPL-2.0 */
/* clang-module.sh: what the configuration promises because the kernel's compiler was gcc. */
#undef CONFIG_CC_HAS_NAMED_AS
#undef CONFIG_USE_X86_SEG_SUPPORT
