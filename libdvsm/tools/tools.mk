# SPDX-License-Identifier: GPL-2.0-only
# dvsmctl, which sees what an installed program sees. Left out where its libraries are missing: libjansson-dev, libncurses-dev.

BINDIR ?= $(PREFIX)/bin
tool := $(out)/dvsmctl
tool_objects := $(patsubst $(srcdir)/tools/%.c,$(out)/tools/%.o,$(wildcard $(srcdir)/tools/dvsmctl*.c))
tool_libs := -ljansson -lncursesw -ltinfo
ifeq ($(and $(call has_header,jansson.h),$(call has_header,ncurses.h)),)
lib: no-tool
install: no-tool
no-tool:
	@echo "dvsmctl is left out: it needs libjansson-dev and libncurses-dev"
.PHONY: no-tool
else
lib: $(tool)
install: install-tools
endif

$(out)/tools/%.o: $(srcdir)/tools/%.c $(out)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(example_flags) -MMD -MP -c -o $@ $<

$(tool): $(tool_objects) $(out)/libdvsm.a
	$(call say,LD)
	$(Q)$(CC) $(example_flags) $(LDFLAGS) -pie -o $@ $(tool_objects) $(out)/libdvsm.a $(tool_libs)

install-tools: $(tool)
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1
	install -m 755 $< $(DESTDIR)$(BINDIR)
	install -m 644 $(wildcard $(top)/Documentation/man/*.1) $(DESTDIR)$(MANDIR)/man1
.PHONY: install-tools

-include $(tool_objects:.o=.d)
