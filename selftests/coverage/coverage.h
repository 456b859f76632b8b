/* SPDX-License-Identifier: GPL-2.0-only */
/* Force-included into dvsm.ko: what gcc calls in each basic block is our function, not KCOV's. */
#ifndef __ASSEMBLY__
asm(".set __sanitizer_cov_trace_pc, dvsm_coverage_hit");
#endif
