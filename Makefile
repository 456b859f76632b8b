# SPDX-License-Identifier: GPL-2.0-only
# dvsm: the module, the library, and how to try and test them. "make help" lists what there is.
# Everything is built under build/; the module is built in a mirror of kmod/ per kernel, so that one tree serves several.

top := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
BUILD ?= $(top)/build
PREFIX ?= /usr/local
DESTDIR ?=
KDIR ?= /lib/modules/$(shell uname -r)/build

# Not include/config/kernel.release: Debian's 6.1 names the upstream version there, not what uname says.
kernel_release = $(shell sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' $(KDIR)/include/generated/utsrelease.h)
MODULE_OUT ?= $(BUILD)/kmod/$(kernel_release)
have_kernel := $(wildcard $(KDIR)/include/generated/utsrelease.h)
kbuild = $(MAKE) -C $(KDIR) M=$(abspath $(MODULE_OUT)) DVSM_INCLUDE=$(top)/include

.PHONY: all module lib tests check check-seeded check-model soak check-kcsan coverage fuzz fuzz-host demo bench-heap bench-kernel bench-dma install install_system modules_install dkms_install clean help

ifneq ($(have_kernel),)
all: module lib
else
all: lib
	@echo "The module was skipped: the running kernel has no headers at $(KDIR)."
	@echo "Install them (apt install linux-headers-$$(uname -r)), or name a kernel: make KDIR=/path/to/its/build"
endif

module:
ifeq ($(have_kernel),)
	@echo "no kernel headers at $(KDIR): make module KDIR=/path/to/a/kernel/build" >&2; exit 1
else
	@mkdir -p $(MODULE_OUT)
	@find $(MODULE_OUT) -maxdepth 1 -type l ! -exec test -e {} \; -delete
	@for file in $(top)/kmod/*; do \
		link=$(MODULE_OUT)/$${file##*/}; [ -L "$$link" ] || ln -s "$$file" "$$link" || exit; \
	done
	+$(kbuild) modules
endif

lib:
	+$(MAKE) -C $(top)/libdvsm O=$(BUILD)/libdvsm

# Folders of selftests/ with a Makefile of their own hold tests of the library.
test_folders := $(notdir $(patsubst %/Makefile,%,$(wildcard $(top)/selftests/*/Makefile)))
tests: lib $(test_folders:%=tests-%)
	@rm -f $(BUILD)/selftests/TESTS	# it may list what somebody chose with TESTS=...
	+$(MAKE) -C $(top)/selftests O=$(BUILD)/selftests
tests-%: lib
	+$(MAKE) -C $(top)/selftests/$* O=$(BUILD)/selftests/$* LIBO=$(BUILD)/libdvsm

check:
	$(top)/scripts/check.sh

check-kcsan:
	$(top)/scripts/check.sh vm-kcsan

coverage:
	$(top)/scripts/coverage.sh

FUZZ_SECONDS ?= 3600
fuzz:
	$(top)/scripts/fuzz.sh $(FUZZ_SECONDS)

fuzz-host:
	+$(MAKE) -C $(top)/selftests/hostile O=$(BUILD)/selftests/hostile FUZZ_SECONDS=$(FUZZ_SECONDS) fuzz

check-seeded:
	$(top)/scripts/check-seeded.sh

# Pages are as they were left, so that what nobody has zeroed is seen.
DVSM_STEPS ?= 20000
check-model: tests
	@for kernel in 6.12 6.1; do for test in snapshot parts; do \
		echo "# $$kernel"; \
		$(top)/scripts/vm/run.sh --kernel $$kernel --nodes 2 --timeout 2000 --append init_on_alloc=0 -- \
			env DVSM_STEPS=$(DVSM_STEPS) $(BUILD)/selftests/$${test}_model_test || exit; \
	done; done

soak:
	$(top)/scripts/soak.sh

demo:
	$(top)/scripts/demo.sh

bench-heap:
	OUT=$(BUILD)/bench LIBO=$(BUILD)/libdvsm $(top)/selftests/bench/heap_bench.sh

bench-kernel:
	$(top)/scripts/bench-kernel.sh

bench-dma:
	$(top)/scripts/bench-dma.sh

# depmod runs only where the module lands on this machine. INSTALL_MOD_PATH is the kernel's own word for DESTDIR.
modules_root = $(DESTDIR)$(INSTALL_MOD_PATH)
modules_install: module
	install -D -m 644 $(MODULE_OUT)/dvsm.ko $(modules_root)/lib/modules/$(kernel_release)/updates/dvsm.ko
	$(if $(modules_root),,depmod -a $(kernel_release))

version = $(shell sed -n 's/^.define DVSM_VERSION_M[A-Z]*[[:space:]]*//p' $(top)/include/dvsm/base.h | paste -sd .)
dkms_source = $(DESTDIR)/usr/src/dvsm-$(version)
dkms_install:
	install -d $(dkms_source)
	cp -r $(top)/kmod $(top)/include $(dkms_source)
	sed 's/@VERSION@/$(version)/' $(top)/scripts/packaging/dkms.conf >$(dkms_source)/dkms.conf
	@echo "Next: dkms install dvsm/$(version)"

install: lib
	+$(MAKE) -C $(top)/libdvsm O=$(BUILD)/libdvsm PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) install
	$(if $(filter /usr /usr/%,$(PREFIX)),+$(MAKE) install_system,\
		@echo "Not installed: udev rule and group of /dev/dvsm, which have their place in the system (make install_system)")

# Who may open /dev/dvsm; and what the dynamic linker finds.
install_system:
	install -D -m 644 $(top)/scripts/packaging/60-dvsm.rules $(DESTDIR)/usr/lib/udev/rules.d/60-dvsm.rules
	install -D -m 644 $(top)/scripts/packaging/dvsm.sysusers $(DESTDIR)/usr/lib/sysusers.d/dvsm.conf
	$(if $(DESTDIR),,ldconfig)

clean:
	rm -rf $(BUILD)

help:
	@echo "make                  the module for the running kernel (KDIR=... for another) and the library, into build/"
	@echo "make demo             count words in shared tables, one a node: natively, then in a VM on /dev/dvsm"
	@echo "make check            static checks, host tests, and the selftests in VMs on 6.1, 6.12 and a debug kernel"
	@echo "make check-kcsan      what does much at once, on a kernel that looks for data races"
	@echo "make coverage         which lines of the module the selftests run, and which not"
	@echo "make fuzz             sequences of commands on the debug kernel, led by coverage (FUZZ_SECONDS=3600)"
	@echo "make fuzz-host        damaged heaps and files for the library (FUZZ_SECONDS=3600)"
	@echo "make check-seeded     bugs that are put in on purpose, and which test notices each"
	@echo "make check-model      random histories of snapshots beside plain memory, on both kernels (DVSM_STEPS=20000)"
	@echo "make soak             everything at once in VMs, data checked throughout (SOAK_SECONDS=3600, SOAK_KERNELS=)"
	@echo "make bench-heap       the heap beside other allocators, and the bars that it has to reach"
	@echo "make crash-campaign   processes killed at every instruction of the heap, and at random (SECONDS_EACH=600)"
	@echo "make bench-kernel     first touches and snapshots beside hugetlb, shmem and fork, counted in instructions"
	@echo "make bench-dma        registering memory with RDMA hardware's driver, and loading files into it"
	@echo "make module           the module alone (KDIR=...)"
	@echo "make lib              the library alone"
	@echo "make tests            the library and the test programs"
	@echo "make install          library, headers; below /usr udev rule and group too (PREFIX=$(PREFIX), DESTDIR=)"
	@echo "make modules_install  the module into /lib/modules (KDIR=, DESTDIR= or INSTALL_MOD_PATH=)"
	@echo "make dkms_install     the module's source into /usr/src, for \"dkms install\" (DESTDIR=)"
	@echo "make clean            remove build/"
	@echo "scripts/vm/run.sh --help    run any command in a VM with dvsm.ko loaded"

# For as long as SECONDS_EACH says: processes killed at every instruction of the heap, and at random.
crash-campaign: lib
	+$(MAKE) -C $(top)/selftests/heap O=$(BUILD)/selftests/heap LIBO=$(BUILD)/libdvsm crash-campaign
.PHONY: crash-campaign
