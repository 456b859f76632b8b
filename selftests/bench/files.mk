# SPDX-License-Identifier: GPL-2.0-only
# kernel_bench stands alone: several files, and neither library nor test harness.
PROGRAMS += bench/heap_fork_bench

kernel_bench := $(wildcard $(here)/bench/kernel_*.c)

all: $(O)/kernel_bench

$(O)/kernel_bench: $(kernel_bench) $(here)/bench/kernel_bench.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(kernel_bench)
