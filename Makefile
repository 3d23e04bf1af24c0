# SPDX-License-Identifier: MIT
# make          the shim, the command weir and their manual
# make install  into PREFIX (/usr/local), below DESTDIR; make uninstall takes it away again
# make test     everything that is promised, on real servers (installs what it needs, as root)
# make check    what a change touches most, in two minutes
# make demo     a plain stop and a drain of the same server, side by side
# make bench    what it costs: a table (tests/bench/bench.mk)
# With V=1 each shows the commands that it runs.

ifneq ($(V),1)
.SILENT:
endif

BUILD ?= build
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
WEIR_CFLAGS = -std=gnu11 -Wall -Wextra -Werror -Ishim -fPIC -fvisibility=hidden \
	-ftls-model=initial-exec -fno-stack-protector -U_FORTIFY_SOURCE -fno-builtin
# One mapping for code and constants, and calls of our own that need no other page: a fork copies
# each mapping, and a child begins with nothing mapped of either.
WEIR_LDFLAGS = -shared -Wl,-z,now,-z,relro,-z,noseparate-code,-Bsymbolic-functions \
	-Wl,--sort-section=name,--version-script=$(BUILD)/exports.map,-soname,libweir.so

# Debian's musl-gcc hides /usr/include, and the kernel's headers with it: they are put within reach,
# and nothing else of there.
ifneq ($(shell $(CC) -E -include linux/futex.h -x c /dev/null >/dev/null 2>&1 && echo found),found)
KERNEL = $(BUILD)/kernel
override CPPFLAGS += -idirafter $(KERNEL)
$(shell mkdir -p $(KERNEL) && ln -sfn /usr/include/linux /usr/include/asm-generic \
	$(firstword $(wildcard /usr/include/asm /usr/include/$(shell $(CC) -print-multiarch)/asm)) $(KERNEL))
endif

# The command's start has a version of its own since glibc 2.34 (shim/base/libc_versions.h).
LIBC_VERSION := $(shell echo __GLIBC__ | $(CC) -E -P -include features.h -x c - 2>/dev/null | tail -n 1)
ifneq ($(LIBC_VERSION),__GLIBC__)
COMMAND_LDFLAGS = -Wl,--wrap=__libc_start_main
endif

# Another compiler (musl-gcc) builds everything anew.
$(shell mkdir -p $(BUILD) && { echo '$(CC)' | cmp -s - $(BUILD)/compiler || echo '$(CC)' >$(BUILD)/compiler; })

# The wrappers first: near the symbols that lead to them.
FLOORS = interpose drain tree conn http base
SOURCES = $(foreach floor,$(FLOORS),$(wildcard shim/$(floor)/*.[cS]))
OBJECTS = $(patsubst shim/%,$(BUILD)/shim/%.o,$(basename $(SOURCES)))
PROGRAMS = $(patsubst tests/programs/%.c,$(BUILD)/tests/%,$(wildcard tests/programs/*.c))

# What weir(1) shares with the library: the settings and the state page's layout.
COMMAND_SHARES = $(addprefix $(BUILD)/shim/,$(addprefix base/,settings.o text.o state_page.o proc.o sock.o sys.o) \
	tree/pagefile.o)
COMMAND_OBJECTS = $(patsubst shim/%.c,$(BUILD)/shim/%.o,$(wildcard shim/command/*.c shim/command/*/*.c))

# The manual, the completion and weir.pc, filled in by a program that runs here, wherever the library
# is to run.
HOSTCC ?= cc
SHARED = $(patsubst shim/share/%.in,$(BUILD)/share/%,$(wildcard shim/share/*.in))

# At once: a process for each of a hundred and fifty files would take as long as some of them.
$(shell mkdir -p $(sort $(dir $(OBJECTS) $(COMMAND_OBJECTS) $(PROGRAMS) $(SHARED))))

all: $(BUILD)/libweir.so $(BUILD)/weir $(SHARED)

# Preprocessed: which names there are depends on the libc.
$(BUILD)/exports.map: shim/exports.map Makefile $(BUILD)/compiler
	$(CC) -E -P -x c -o $@ $<

$(BUILD)/libweir.so: $(OBJECTS) $(BUILD)/exports.map
	echo $@
	$(CC) $(CFLAGS) $(LDFLAGS) $(WEIR_LDFLAGS) -o $@ $(OBJECTS)

$(BUILD)/weir: $(COMMAND_OBJECTS) $(COMMAND_SHARES)
	echo $@
	$(CC) $(CFLAGS) $(LDFLAGS) $(COMMAND_LDFLAGS) -o $@ $^

$(BUILD)/share/fill: shim/share/fill.c shim/base/settings.c shim/base/text.c Makefile
	$(HOSTCC) -std=gnu11 -O -Wall -Wextra -Werror -Ishim -DWEIR_COMMAND -MMD -MF $@.d -o $@ \
		$(filter %.c,$^)

# Where the generator refuses, nothing is left that the next make takes for done.
$(BUILD)/share/%: shim/share/%.in $(BUILD)/share/fill
	$(BUILD)/share/fill <$< >$@.new
	mv $@.new $@

$(BUILD)/shim/command/%.o: shim/command/%.c Makefile $(BUILD)/compiler
	$(CC) $(CPPFLAGS) $(CFLAGS) -std=gnu11 -Wall -Wextra -Werror -Ishim -DWEIR_COMMAND -MMD -c -o $@ $<

$(BUILD)/shim/%.o: shim/%.c Makefile $(BUILD)/compiler
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WEIR_CFLAGS) -MMD -c -o $@ $<

# Assembly, preprocessed.
$(BUILD)/shim/%.o: shim/%.S Makefile $(BUILD)/compiler
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WEIR_CFLAGS) -MMD -c -o $@ $<

# A header that an older build knew, and that is gone.
shim/%.h: ;

-include tests/unit/unit.mk
-include tests/bench/bench.mk

tests: $(PROGRAMS)

$(BUILD)/tests/%: CFLAGS = -O1
$(BUILD)/tests/%: tests/programs/%.c Makefile $(BUILD)/compiler shim/weir.h
	$(CC) $(CPPFLAGS) $(CFLAGS) -std=gnu11 -Wall -Wextra -Werror -Ishim -pthread -MMD -o $@ $<

# tests/run builds what it needs, on all processors.
test:
	tests/run

check:
	tests/run unit calls goji settings queue signals

install: all
	BUILD='$(BUILD)' PREFIX='$(PREFIX)' LIBDIR='$(LIBDIR)' DESTDIR='$(DESTDIR)' scripts/install

uninstall:
	PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install --remove

# A Debian package of it, into build/package.
package:
	scripts/package

demo: all
	scripts/demo

clean:
	rm -rf $(BUILD)

-include $(OBJECTS:.o=.d) $(COMMAND_OBJECTS:.o=.d) $(PROGRAMS:=.d) $(BUILD)/share/fill.d

.PHONY: all tests test check install uninstall package demo clean
