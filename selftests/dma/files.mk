# SPDX-License-Identifier: GPL-2.0-only
# Memory for devices: pins, dma-bufs. importer/ is a module of its own, which scripts/vm/run.sh builds (--build).

TESTS += dma/pin_test dma/dmabuf_test
