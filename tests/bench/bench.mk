# SPDX-License-Identifier: MIT
# The benchmarks' programs. Included by the Makefile.
#   make bench                      all rows of the table (installs what it needs, as root)
#   make bench ROWS="read accept"   only these; scripts/bench --help lists them
#   make bench-programs             $(BUILD)/bench/*

BENCH_CFLAGS = -std=gnu11 -O2 -g -Wall -Wextra -Werror -pthread
BENCH = $(addprefix $(BUILD)/bench/,calls libstub.so libfence.so)

bench:
	BUILD=$(BUILD) scripts/bench $(ROWS)

bench-programs: $(BENCH)

$(BUILD)/bench/%: tests/bench/%.c tests/bench/bench.h
	@mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -o $@ $< -ldl

# Its functions have builtins' names.
$(BUILD)/bench/libstub.so $(BUILD)/bench/libfence.so: tests/bench/stub.c
	@mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -fno-builtin -shared -fPIC $(STUB) -Wl,-soname,$(@F) -o $@ $< -ldl

$(BUILD)/bench/libfence.so: STUB = -DSTUB_FENCE

# Debian's package; none is fetched.
$(BUILD)/bench/goji: tests/bench/goji.go
	@mkdir -p $(@D)
	GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$(abspath $(@D))/gocache go build -o $@ $<

.PHONY: bench bench-programs
