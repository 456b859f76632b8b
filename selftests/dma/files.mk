# SPDX-License-Identifier: GPL-2.0-only
# Memory for devices: pins, dma-bufs. importer/ is a module of its own, which scripts/vm/run.sh builds (--build).

TESTS += dma/pin_test dma/dmabuf_test dma/nvme_test

# Not static: libibverbs loads its drivers. Built where its header is.
ifneq ($(wildcard /usr/include/infiniband/verbs.h),)
all: $(O)/dma_bench
endif

dma_bench_objects := $(O)/.obj/command.o $(O)/.obj/process.o $(O)/.obj/uring.o

$(O)/dma_bench: $(here)/dma/dma_bench.c $(here)/common.h $(dma_bench_objects)
	@mkdir -p $(@D)
	@echo "  CCLD    $(@F)"
	@$(CC) $(CFLAGS) -pthread -o $@ $< $(dma_bench_objects) -libverbs
