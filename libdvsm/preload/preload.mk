# SPDX-License-Identifier: GPL-2.0-only
# libdvsm-malloc.so: all of the library that it needs is inside, so that it stands alone under LD_PRELOAD.

preload := $(out)/libdvsm-malloc.so
preload_objects := $(filter-out $(out)/obj/io.o,$(objects))
lib: $(if $(SANITIZE),,$(preload))

$(out)/obj/preload-malloc.o: $(srcdir)/preload/malloc.c $(out)/flags
	$(call say,CC)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -fno-builtin -Wno-missing-prototypes -MMD -MP -c -o $@ $<

$(preload): $(out)/obj/preload-malloc.o $(preload_objects) $(srcdir)/preload/malloc.map
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -shared -Wl,-soname,libdvsm-malloc.so -Wl,-z,defs,-z,nodelete \
		-Wl,--version-script,$(srcdir)/preload/malloc.map -o $@ $< $(preload_objects)

install-preload: $(preload)
	install -d $(DESTDIR)$(LIBDIR)
	install -m 755 $< $(DESTDIR)$(LIBDIR)
install: $(if $(SANITIZE),,install-preload)
.PHONY: install-preload

-include $(out)/obj/preload-malloc.d
