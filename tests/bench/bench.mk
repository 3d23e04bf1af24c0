# SPDX-License-Identifier: MIT
# The benchmarks' programs. Included by the Makefile.
#   make bench                      all rows of the table (installs what it needs, as root)
#   make bench ROWS="read accept"   only these; scripts/bench --help lists them
#   make bench-programs             $(BUILD)/bench/*

BENCH_CFLAGS = -std=gnu11 -O2 -g -Wall -Wextra -Werror -pthread
BENCH = $(addprefix $(BUILD)/bench/,calls many spawn ask nothing walk tracker libstub.so libfence.so)

# What walk answers instead of the kernel.
BENCH_WRAPS = sock_is sock_queues sock_info sock_shut_read_of

bench:
	BUILD=$(BUILD) scripts/bench $(ROWS)

bench-programs: $(BENCH)

$(BUILD)/bench/%: tests/bench/%.c tests/bench/bench.h tests/bench/clients.h
	mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -o $@ $< -ldl

$(BUILD)/bench/nothing: tests/bench/nothing.c
	mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -static -o $@ $<

$(BUILD)/bench/walk: tests/bench/walk.c tests/bench/bench.h $(OBJECTS)
	mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -Ishim -o $@ $< $(OBJECTS) $(BENCH_WRAPS:%=-Wl,--wrap=%) -ldl

$(BUILD)/bench/tracker: tests/bench/tracker.c tests/bench/bench.h $(OBJECTS)
	mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -Ishim -o $@ $< $(OBJECTS) -ldl

# Its functions have builtins' names.
$(BUILD)/bench/libstub.so $(BUILD)/bench/libfence.so: tests/bench/stub.c
	mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -fno-builtin -shared -fPIC $(STUB) -Wl,-soname,$(@F) -o $@ $< -ldl

$(BUILD)/bench/libfence.so: STUB = -DSTUB_FENCE

# Debian's package; none is fetched.
$(BUILD)/bench/goji: tests/bench/goji.go
	mkdir -p $(@D)
	GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$(abspath $(@D))/gocache go build -o $@ $<

.PHONY: bench bench-programs
