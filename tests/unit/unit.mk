# SPDX-License-Identifier: MIT
# The unit tests, each twice: under AddressSanitizer with UBSan, and under ThreadSanitizer; and the
# fuzz targets, which are clang's. Included by the Makefile.
#   make unit      $(BUILD)/unit/asan/*, $(BUILD)/unit/tsan/*
#   make fuzzers   $(BUILD)/fuzz/*
#   make sanitized the command under AddressSanitizer with UBSan, $(BUILD)/asan; it and the library
#                  under UBSan alone, which needs no runtime: it traps, $(BUILD)/ubsan

CLANG ?= clang
# -g1: a report names lines, and nothing else of what there is to know of a program.
UNIT_CFLAGS = -std=gnu11 -O1 -g1 -fno-omit-frame-pointer -Wall -Wextra -Werror -Ishim -pthread \
	-DHEAD_CACHE_LEARNS_EACH=1
UNIT_asan = $(CC) -fsanitize=address,undefined -fno-sanitize-recover=all
# Also what stands in for SSE2 elsewhere.
UNIT_tsan = $(CLANG) -fsanitize=thread -DPARSER_PLAIN
UNIT_fuzz = $(CLANG) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all

UNIT_fdtable = shim/conn/fdtable.c shim/conn/fdtable_room.c shim/base/room.c shim/conn/gate.c shim/base/state_page.c shim/base/text.c shim/conn/fork_detect.c shim/base/libc.c shim/base/libc_next.c shim/base/sys.c shim/http/streams.c
UNIT_conn = tests/unit/fake_sock.c shim/conn/conn.c shim/conn/idle.c shim/conn/force.c shim/conn/goodbye.c shim/conn/last_answer.c shim/http/parser.c shim/http/head_cache.c shim/http/parser_head.c shim/http/parser_records.c shim/http/parser_frames.c shim/http/parser_websocket.c shim/http/parser_postgres.c shim/http/parser_tls.c shim/http/tracker.c shim/http/close_header.c shim/conn/reply_model.c shim/conn/pacing.c shim/base/settings.c $(UNIT_fdtable)
UNIT_crowd = $(UNIT_conn)
UNIT_settings = shim/base/settings.c shim/base/text.c
UNIT_text = shim/base/text.c
UNIT_libc_next = $(UNIT_fdtable)
UNIT_reply_model = shim/conn/reply_model.c shim/base/room.c shim/base/libc.c shim/base/libc_next.c shim/base/sys.c shim/base/text.c
UNIT_sock = shim/base/sock.c shim/base/sys.c shim/base/text.c
UNIT_tracker = shim/http/parser.c shim/http/head_cache.c shim/http/parser_head.c shim/http/parser_records.c shim/http/parser_frames.c shim/http/parser_websocket.c shim/http/parser_postgres.c shim/http/parser_tls.c shim/http/streams.c shim/http/tracker.c shim/http/close_header.c
UNIT_close_header = $(UNIT_tracker)
UNIT_tracker_pieces = $(UNIT_tracker)
UNIT_frames = $(UNIT_tracker)
UNIT_websocket = $(UNIT_tracker)
UNIT_postgres = $(UNIT_tracker)
UNIT_tls = $(UNIT_tracker)
FUZZ_usual = shim/base/settings.c shim/base/text.c
FUZZ_http = $(UNIT_tracker) # alone
FUZZ_frames = $(UNIT_tracker)
FUZZ_websocket = $(UNIT_tracker)

UNITS = fdtable conn crowd settings text tracker close_header tracker_pieces frames websocket postgres tls libc_next sock reply_model
FUZZERS = settings mode address escaped http frames websocket

unit: $(UNITS:%=$(BUILD)/unit/asan/%) $(UNITS:%=$(BUILD)/unit/tsan/%)
fuzzers: $(FUZZERS:%=$(BUILD)/fuzz/%)

sanitized:
	$(MAKE) BUILD=$(BUILD)/asan CC=$(CLANG) \
		CFLAGS='-O0 -g -fsanitize=address,undefined -fno-sanitize-recover=all' $(BUILD)/asan/weir
	$(MAKE) BUILD=$(BUILD)/ubsan CC=$(CLANG) \
		CFLAGS='-O0 -g -fsanitize=undefined -fsanitize-trap=undefined' \
		$(BUILD)/ubsan/weir $(BUILD)/ubsan/libweir.so

# A source is compiled once for each sanitizer, whoever links it.
# sanitized SANITIZER: how the objects of that build are made.
define sanitized
$(BUILD)/unit/$(1)/objects/%.o: %.c Makefile tests/unit/unit.mk $(BUILD)/compiler
	mkdir -p $$(@D)
	$$(UNIT_$(1)) $$(UNIT_CFLAGS) -MMD -c -o $$@ $$<
endef
$(foreach build,asan tsan fuzz,$(eval $(call sanitized,$(build))))

# objects SANITIZER SOURCES
objects = $(patsubst %.c,$(BUILD)/unit/$(1)/objects/%.o,$(2))

# unit_rule SANITIZER NAME
define unit_rule
$(BUILD)/unit/$(1)/$(2): $(call objects,$(1),tests/unit/$(2).c $(UNIT_$(2)))
	$$(UNIT_$(1)) $$(UNIT_CFLAGS) -o $$@ $$^
endef
$(foreach unit,$(UNITS),$(foreach build,asan tsan,$(eval $(call unit_rule,$(build),$(unit)))))

# fuzz_rule NAME
define fuzz_rule
$(BUILD)/fuzz/$(1): $(call objects,fuzz,tests/fuzz/$(1).c $(or $(FUZZ_$(1)),$(FUZZ_usual)))
	mkdir -p $$(@D)
	$$(UNIT_fuzz) $$(UNIT_CFLAGS) -o $$@ $$^
endef
$(foreach fuzzer,$(FUZZERS),$(eval $(call fuzz_rule,$(fuzzer))))

-include $(shell find $(BUILD)/unit -name '*.d' 2>/dev/null)

.PHONY: unit fuzzers sanitized
