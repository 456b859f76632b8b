# SPDX-License-Identifier: GPL-2.0-only
# The module's fuzzer. libFuzzer comes as a library with clang (libclang-rt-dev); no code of ours is instrumented.

FUZZER_LIB := $(shell clang -print-file-name=libclang_rt.fuzzer_no_main-x86_64.a 2>/dev/null)

ifneq ($(wildcard $(FUZZER_LIB)),)
TESTS += fuzz/fuzz_test
$(O)/fuzz_test: $(wildcard $(here)/fuzz/*)
CFLAGS_fuzz/fuzz_test := -DFUZZ_CORPUS='"$(here)/fuzz/corpus.txt"' $(wildcard $(here)/fuzz/fuzz_[!t]*.c)
LDLIBS_fuzz/fuzz_test := $(FUZZER_LIB) -lstdc++ -lm
endif
