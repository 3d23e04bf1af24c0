#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# weir check: what it says of a program is what happens when that is started under the shim. Real
# programs, programs that the loader will not preload into, processes, and files that lie.
# mutant: shim/command/check/program.c: s/if \(elf->is_go\)/if (elf->is_go \&\& !elf->loader)/
# seconds: 14
# shellcheck disable=SC2154  # output, status: bats' run

load helpers

WEIR=$ROOT/build/weir

setup() {
    port=$((9000 + 10 * BATS_TEST_NUMBER))
    # What nobody may read, also where the tree and bats' own directory are closed to him.
    PUBLIC=$(mktemp -d /tmp/weir-check.XXXXXX)
    chmod 755 "$PUBLIC"
    cp "$WEIR" "$WEIR_LIB" "$PUBLIC"
}

teardown() {
    end_started
    rm -rf "$PUBLIC"
}

# checked STATUS COMMAND|PID: weir check exits with STATUS; what it says is in $output.
checked() {
    run "$WEIR" check "$2"
    echo "# weir check $2: $status"$'\n'"$output"
    [ "$status" = "$1" ]
}

# says REGEX: a line of $output matches.
says() {
    grep -Eq -- "$1" <<<"$output" || { echo "it does not say: $1" >&2; return 1; }
}

# ends_with REGEX: the last line, which is the verdict.
ends_with() {
    tail -n 1 <<<"$output" | grep -Eq -- "$1" || { echo "the last line is not: $1" >&2; return 1; }
}

works() {
    checked 0 "$1"
    ends_with '^will work$'
}

# works_not COMMAND REGEX: it will not, for this reason, which names the file.
works_not() {
    checked 1 "$1"
    ends_with "^will not work: .*$2"
}

# A user namespace that has no other user in it, as an ordinary user's has not.
can_be_nobody() {
    as_nobody true 2>/dev/null || skip "not root"
}

as_nobody() {
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}

# under_shim COMMAND...: whether a process that is started like that has the shim in it. COMMAND
# copies its standard input.
has_shim() {
    local maps
    maps=$(LD_PRELOAD=$PUBLIC/libweir.so "$@" <<<'' 3>&-) || return 1
    grep -q libweir.so <<<"$maps"
}

# compiled NAME OPTION...: a small server's program.
compiled() {
    local name=$1
    shift
    cat >"$BATS_TEST_TMPDIR/$name.c" <<'END'
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef USES
int USES(void);
#endif
int main(void)
{
    char byte;
    int fd = accept(0, NULL, NULL);
    FILE *maps = fopen("/proc/self/maps", "r");
    for (int c; maps && (c = getc(maps)) != EOF;)
        putchar(c);
#ifdef USES
    USES();
#endif
    return read(fd, &byte, 1) > 0 ? close(fd) : 0;
}
END
    gcc -O1 -w -o "$PUBLIC/$name" "$BATS_TEST_TMPDIR/$name.c" "$@"
}

# ---- what will work ----

@test "the servers that we know will work, and their accept is covered" {
    local server
    for server in nginx redis-server memcached node /usr/bin/python3 vsftpd sshd; do
        works "$server"
        says 'is dynamic, for x86-64 and glibc, as the shim is\.'
        says "^It accepts by .*accept4? \(in (${server##*/}|libuv\.so\.1)\).*: covered\.$" # or Debian 13's node
        says '^It reads by .*: covered\.$'
        says '^It closes by .*close.*: covered\.$'
    done
}

@test "what a library accepts is said by its name" {
    works apache2
    says '^It accepts by accept4 \(in libapr-1\.so\.0\): covered\.$'
    says '^Libraries that it loads later \(dlopen\) are covered'
    # Of its libraries some use fdopen, none of which accepts.
    not says 'stdio'
    works sshd
    says '^What stdio reads .*\(fdopen in sshd\) can.t be seen'
}

@test "each call that the library exports is found, in the library and in a program" {
    local name said others
    nm -D --defined-only "$WEIR_LIB" | awk '{ sub(/@.*/, "", $3); print $3 }' |
        grep -v '^weir_' >"$BATS_TEST_TMPDIR/names"
    echo .data >"$BATS_TEST_TMPDIR/names.s"
    while read -r name; do
        printf '.quad %s\n' "$name"
    done <"$BATS_TEST_TMPDIR/names" >>"$BATS_TEST_TMPDIR/names.s"
    compiled all "$BATS_TEST_TMPDIR/names.s" -no-pie -Wl,--unresolved-symbols=ignore-all,-z,notext
    works "$PUBLIC/all"
    others=$(sed -n 's/^Other calls .*all covered: \([0-9]*\)\.$/\1/p' <<<"$output")
    said=$(sed -n 's/([^)]*)//g; s/^It \(accepts\|reads\|writes\|closes\) by\(.*\): covered\.$/\2/p' \
        <<<"$output" | wc -w)
    [ $((said + others)) = "$(wc -l <"$BATS_TEST_TMPDIR/names")" ]
}

@test "a program that uses weir.h is said to cooperate" {
    compiled helps -DUSES=weir_mark_idle "$WEIR_LIB"
    works "$PUBLIC/helps"
    says '^It cooperates by weir_mark_idle: covered\.$'
}

@test "of each program the calls that nm finds, and no others, are said to be covered" {
    local file=$BATS_TEST_TMPDIR/names
    works memcached
    grep -E '^It (accepts|reads|writes|closes) by' <<<"$output" |
        sed 's/([^)]*)//g; s/^It [a-z]* by//; s/: covered\.//' | tr -s ' ' '\n' |
        grep . | sort -u >"$file.said"
    {
        nm -D --undefined-only "$(command -v memcached)"
        ldd "$(command -v memcached)" | awk '$3 ~ "^/" && $1 !~ /^libc\.so/ { print $3 }' |
            xargs -n 1 nm -D --undefined-only
    } | awk '{ sub(/@.*/, "", $2); print $2 }' | sort -u >"$file.imported"
    nm -D --defined-only "$WEIR_LIB" | awk '{ sub(/@.*/, "", $3); print $3 }' | sort -u >"$file.ours"
    comm -12 "$file.imported" "$file.ours" |
        grep -E '^_*(accept|read|recv|write|send|splice|close|fclose|freopen|shutdown|dup)' \
            >"$file.wanted"
    [ "$(wc -l <"$file.wanted")" -gt 10 ]
    diff "$file.wanted" "$file.said"
}

@test "the list of covered calls is the library's own" {
    # A libweir.so that stands in front of accept and nothing else.
    echo 'int accept(void) { return -1; }' >"$BATS_TEST_TMPDIR/less.c"
    gcc -shared -fPIC -w -o "$PUBLIC/libweir.so" "$BATS_TEST_TMPDIR/less.c"
    run "$PUBLIC/weir" check memcached
    [ "$status" = 0 ]
    says '^It accepts by accept \(in memcached\): covered\.$'
    not says '^It (reads|writes|closes) by'
}

@test "io_uring, syscall and a system call of its own: what can't be seen is said" {
    echo 'int io_uring_queue_init(void) { return 0; }' >"$BATS_TEST_TMPDIR/uring.c"
    gcc -shared -fPIC -Wl,-soname,liburing.so.2 -o "$PUBLIC/liburing.so.2" \
        "$BATS_TEST_TMPDIR/uring.c"
    # shellcheck disable=SC2016  # the loader's $ORIGIN
    compiled uring -DUSES=io_uring_queue_init "$PUBLIC/liburing.so.2" -Wl,-rpath,'$ORIGIN'
    works "$PUBLIC/uring"
    says '^io_uring \(io_uring_queue_init in uring\) can.t be seen'
    says '^A system call that code makes by itself, .*can.t be seen'
    works node
    not says '^io_uring \('
    says '^The same calls made by syscall\(\) are covered'
}

@test "a library that is not there is named, one beside the program is found by RUNPATH and RPATH" {
    local tags
    echo 'int here(void) { return 0; }' >"$BATS_TEST_TMPDIR/here.c"
    mkdir "$PUBLIC/lib"
    gcc -shared -fPIC -Wl,-soname,libhere.so.1 -o "$PUBLIC/lib/libhere.so.1" \
        "$BATS_TEST_TMPDIR/here.c"
    for tags in disable-new-dtags enable-new-dtags; do
        # shellcheck disable=SC2016  # the loader's $ORIGIN
        compiled here -DUSES=here "$PUBLIC/lib/libhere.so.1" -Wl,--$tags,-rpath,'${ORIGIN}/lib'
        works "$PUBLIC/here"
        says '^Libraries that it needs and that were looked at: 3\.$'
        mv "$PUBLIC/lib" "$PUBLIC/away"
        checked 0 "$PUBLIC/here"
        says 'here needs libhere\.so\.1, which is not found'
        LD_LIBRARY_PATH=$PUBLIC/away works "$PUBLIC/here"
        not says 'not found'
        mv "$PUBLIC/away" "$PUBLIC/lib"
    done
    # $ORIGIN is where the program's file lies, not a link to it (java).
    mkdir "$PUBLIC/bin"
    ln -s ../here "$PUBLIC/bin/there"
    works "$PUBLIC/bin/there"
    says '^Libraries that it needs and that were looked at: 3\.$'
    not says 'not found'
    # What is there and no file is passed over, and not waited for: here the list comes first.
    mkdir "$PUBLIC/fifo"
    mkfifo "$PUBLIC/fifo/libhere.so.1"
    export LD_LIBRARY_PATH=$PUBLIC/fifo
    timeout "$(patient 5)" "$WEIR" check "$PUBLIC/here"
}

@test "a library that only ld.so.cache knows is found there" {
    echo 'int here(void) { return 0; }' >"$BATS_TEST_TMPDIR/here.c"
    mkdir "$PUBLIC/lib"
    gcc -shared -fPIC -Wl,-soname,libhere.so.1 -o "$PUBLIC/lib/libhere.so.1" \
        "$BATS_TEST_TMPDIR/here.c"
    compiled here -DUSES=here "$PUBLIC/lib/libhere.so.1"
    checked 0 "$PUBLIC/here"
    says 'here needs libhere\.so\.1, which is not found'
    echo "$PUBLIC/lib" >"$BATS_TEST_TMPDIR/conf"
    ldconfig -X -f "$BATS_TEST_TMPDIR/conf" -C "$BATS_TEST_TMPDIR/cache"
    # shellcheck disable=SC2016  # expanded by the inner shell
    run unshare --mount sh -c 'mount --bind "$1" /etc/ld.so.cache && exec "$2" check "$3"' - \
        "$BATS_TEST_TMPDIR/cache" "$WEIR" "$PUBLIC/here"
    [ "$status" = 0 ]
    says '^Libraries that it needs and that were looked at: 3\.$'
}

@test "the loader itself can be run, and what it is told to start is not known" {
    works /lib64/ld-linux-x86-64.so.2
    says 'is the loader: what it is told to start is not looked at'
    "$WEIR" run /lib64/ld-linux-x86-64.so.2 /bin/cat /proc/self/maps | grep -q libweir
}

@test "a program with functions of its own in front of the shim's is said to have them" {
    local name names=(dup3 poll recv send splice)
    for name in "${names[@]}"; do
        echo "int $name(void) { return 0; }"
    done >"$BATS_TEST_TMPDIR/own.names.c"
    compiled own -rdynamic -fno-builtin "$BATS_TEST_TMPDIR/own.names.c"
    works "$PUBLIC/own"
    says "^It has functions of its own in front of the shim.s, .*: ${names[*]}\.$"
    # By the older hash table as well.
    compiled own -rdynamic -fno-builtin "$BATS_TEST_TMPDIR/own.names.c" -Wl,--hash-style=sysv
    works "$PUBLIC/own"
    says "^It has functions of its own in front of the shim.s, .*: ${names[*]}\.$"
}

@test "AddressSanitizer of gcc ends a program that is preloaded into: so it is said" {
    compiled asan -fsanitize=address
    not has_shim "$PUBLIC/asan"
    works_not "$PUBLIC/asan" 'AddressSanitizer.*verify_asan_link_order=0'
    export ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0
    has_shim "$PUBLIC/asan"
    works "$PUBLIC/asan"
}

# ---- what will not ----

@test "a static program will not work" {
    local options
    works_not /bin/busybox '/bin/busybox is statically linked'
    not has_shim /bin/busybox cat /proc/self/maps
    for options in -static -static-pie; do
        compiled static "$options"
        works_not "$PUBLIC/static" "$PUBLIC/static is statically linked"
        not has_shim "$PUBLIC/static"
    done
}

@test "a Go program will not work, dynamic or static" {
    works_not fzf '/fzf is a Go program: it makes its system calls itself'
    works_not gosu '/gosu is a Go program, statically linked'
    # Its note and its section: each is enough.
    cp "$(command -v fzf)" "$PUBLIC/go"
    objcopy --remove-section .note.go.buildid "$PUBLIC/go"
    works_not "$PUBLIC/go" 'is a Go program'
    cp "$(command -v fzf)" "$PUBLIC/go"
    objcopy --rename-section .go.buildinfo=.other "$PUBLIC/go"
    works_not "$PUBLIC/go" 'is a Go program'
}

# header CLASS DATA MACHINE: the 64 bytes of a head, its e_machine as two escapes.
header() {
    printf '\x7fELF%b%b\x01' "\\x$1" "\\x$2"
    head -c 9 /dev/zero
    printf '\x02\x00%b' "$3"
    head -c 44 /dev/zero
}

@test "a program for another machine or word size will not work" {
    header 02 01 '\xb7\x00' >"$PUBLIC/aarch64"
    header 01 01 '\x03\x00' >"$PUBLIC/i386"
    header 01 01 '\x3e\x00' >"$PUBLIC/x32"
    header 02 02 '\x00\x16' >"$PUBLIC/s390"
    header 02 01 '\xf7\x00' >"$PUBLIC/bpf"
    chmod 755 "$PUBLIC"/*
    works_not "$PUBLIC/aarch64" 'aarch64 is for aarch64 \(64-bit\), and the shim for x86-64 \(64-bit\)'
    works_not "$PUBLIC/i386" 'i386 is for i386 \(32-bit\)'
    works_not "$PUBLIC/x32" 'x32 is for x86-64 \(32-bit\)'
    works_not "$PUBLIC/s390" 's390 is for s390 \(64-bit\)'
    works_not "$PUBLIC/bpf" 'bpf is for machine 247 \(64-bit\)'
}

@test "a program for another libc will not work" {
    compiled musl -Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1
    works_not "$PUBLIC/musl" 'is for musl \(its loader is /lib/ld-musl-x86_64\.so\.1\), and the shim for glibc'
    # A loader of another name: by the name under which libc is needed.
    compiled other -Wl,--dynamic-linker=/lib64/ld-other.so.1
    works "$PUBLIC/other"
    compiled none -nostdlib -ffreestanding -Wl,--dynamic-linker=/lib64/ld-other.so.1,-e,main \
        -Wl,--unresolved-symbols=ignore-all
    works_not "$PUBLIC/none" 'is for an unknown libc \(its loader is /lib64/ld-other\.so\.1\)'
}

@test "a library, an object file, text that can't be executed: no program" {
    cp "$WEIR_LIB" "$PUBLIC/library.so"
    echo 'int x;' | gcc -c -x c -o "$PUBLIC/object.o" -
    chmod 755 "$PUBLIC/library.so" "$PUBLIC/object.o"
    works_not "$PUBLIC/library.so" 'library\.so is a shared library, and no program'
    works_not "$PUBLIC/object.o" 'object\.o is an ELF file, but no program'
    works_not /etc/passwd 'is no file that you may execute'
    works_not /usr/bin 'is no file that you may execute'
    works_not nosuchcommand 'nosuchcommand: no such command in PATH'
    works_not /no/such/file '/no/such/file: No such file'
    works_not '' 'empty'
}

# ---- who runs it ----

@test "a setuid program will not work for who is not its owner, and will for its owner" {
    can_be_nobody
    compiled setuid
    chown 0 "$PUBLIC/setuid"
    chmod 4755 "$PUBLIC/setuid"
    # The loader's own word for it, and then ours.
    not has_shim as_nobody "$PUBLIC/setuid"
    run as_nobody "$PUBLIC/weir" check "$PUBLIC/setuid"
    [ "$status" = 1 ]
    ends_with '^will not work: .*/setuid is setuid \(user 0\): .*secure-execution mode.* ignores LD_PRELOAD'

    has_shim "$PUBLIC/setuid"
    works "$PUBLIC/setuid"
    says 'is setuid: for user 0 that changes nothing; for others .*secure-execution mode'

    # execve(2): no_new_privs makes the kernel ignore the bit.
    has_shim setpriv --no-new-privs --reuid=65534 --clear-groups "$PUBLIC/setuid"
    setpriv --no-new-privs --reuid=65534 --clear-groups "$PUBLIC/weir" check "$PUBLIC/setuid"

    chown 65534 "$PUBLIC/setuid"
    chmod 4755 "$PUBLIC/setuid"
    not has_shim "$PUBLIC/setuid"
    works_not "$PUBLIC/setuid" 'is setuid \(user 65534\)'
    has_shim as_nobody "$PUBLIC/setuid"
    as_nobody "$PUBLIC/weir" check "$PUBLIC/setuid"
}

@test "a setgid program will not work for who is not of that group" {
    can_be_nobody
    compiled setgid
    chown 0:0 "$PUBLIC/setgid"
    chmod 2755 "$PUBLIC/setgid"
    not has_shim as_nobody "$PUBLIC/setgid"
    run as_nobody "$PUBLIC/weir" check "$PUBLIC/setgid"
    [ "$status" = 1 ]
    ends_with 'is setgid \(group 0\): .*secure-execution mode'
    works "$PUBLIC/setgid"
    # inode(7): without the group's execute bit it is no setgid program.
    chmod 2745 "$PUBLIC/setgid"
    has_shim as_nobody "$PUBLIC/setgid"
    as_nobody "$PUBLIC/weir" check "$PUBLIC/setgid"
}

@test "a program with file capabilities will not work for who is not root" {
    can_be_nobody
    compiled capable
    setcap cap_net_bind_service+ep "$PUBLIC/capable" || skip "no file can be given capabilities here"
    not has_shim as_nobody "$PUBLIC/capable"
    run as_nobody "$PUBLIC/weir" check "$PUBLIC/capable"
    [ "$status" = 1 ]
    ends_with 'capable has file capabilities: .*secure-execution mode'
    has_shim "$PUBLIC/capable"
    works "$PUBLIC/capable"
    says 'has file capabilities: for user 0 that changes nothing'
}

@test "a program that may be executed and not read: not permitted, and nothing is said of it" {
    can_be_nobody
    compiled closed
    chmod 711 "$PUBLIC/closed"
    run as_nobody "$PUBLIC/weir" check "$PUBLIC/closed"
    [ "$status" = 5 ]
    [ "$output" = "weir: $PUBLIC/closed may not be read by you: nothing is known of it" ]
}

# ---- scripts ----

# script NAME LINE...: an executable file of these lines.
script() {
    local name=$1
    shift
    printf '%s\n' "$@" >"$PUBLIC/$name"
    chmod 755 "$PUBLIC/$name"
}

@test "of a script the interpreter is looked at, through env and other scripts" {
    local shell
    script plain '#!/usr/bin/python3 -u' 'pass'
    works "$PUBLIC/plain"
    says 'plain is a script'
    says '^/usr/bin/python3 is dynamic'
    script by_env '#! /usr/bin/env -S A=1 python3 -u'
    PATH=/usr/bin:$PATH works "$PUBLIC/by_env"
    says '^/usr/bin/python3 is dynamic'
    script by_option '#!/usr/bin/env -Spython3 -u'
    PATH=/usr/bin:$PATH works "$PUBLIC/by_option"
    says '^/usr/bin/python3 is dynamic'
    script by_other '#!/usr/bin/env -S -u A -v python3'
    PATH=/usr/bin:$PATH works "$PUBLIC/by_other"
    says '^/usr/bin/python3 is dynamic'
    script by_nothing '#!/usr/bin/env A=1'
    works "$PUBLIC/by_nothing"
    says 'by_nothing is a script'
    not says 'is dynamic'
    script by_script "#!$PUBLIC/plain"
    works "$PUBLIC/by_script"
    says '^/usr/bin/python3 is dynamic'
    # exec(3): what has no "#!" is the shell's.
    checked 0 /bin/sh
    shell=$(tail -n 1 <<<"$output") # dash can't accept, bash may load what can
    script text 'exec sleep 1'
    checked 0 "$PUBLIC/text"
    ends_with "^$shell\$"
    says '^/bin/sh is dynamic'
    works nginx # and what is none is not called one
    not says 'script'
}

@test "a script whose interpreter is static, missing or without end will not work" {
    script static '#!/bin/busybox sh'
    works_not "$PUBLIC/static" '/bin/busybox is statically linked'
    script missing '#!/no/such/interpreter'
    works_not "$PUBLIC/missing" '/no/such/interpreter: No such file'
    script loop "#!$PUBLIC/loop"
    works_not "$PUBLIC/loop" 'loop: a script for a script'
    script emptied '#!/usr/bin/env -i python3'
    works_not "$PUBLIC/emptied" 'empty environment'
}

# ---- files that lie ----

@test "a program that is cut short is called broken, wherever it is cut" {
    local size whole cut=0
    whole=$(stat -c %s /bin/true)
    for size in 1 4 15 16 17 20 63 64 65 200 500 800 1000 2000 5000 10000 20000 $((whole - 5000)); do
        head -c "$size" /bin/true >"$PUBLIC/cut"
        chmod 755 "$PUBLIC/cut"
        run "$WEIR" check "$PUBLIC/cut"
        echo "$size: $status $output"
        [ "$status" = 1 ]
        [ "$size" -lt 4 ] || says 'cut (is a broken ELF file|is for)'
        cut=$((cut + 1))
    done
    [ "$cut" = 18 ]
}

@test "no spoilt file makes the command crash or hang" {
    local program=$PUBLIC/spoilt
    for _ in {1..60}; do
        cp /bin/true "$program"
        head -c $((RANDOM % 40 + 1)) /dev/urandom |
            dd of="$program" bs=1 seek=$((RANDOM % 1000)) conv=notrunc status=none
        status=0
        timeout "$(patient 5)" "$WEIR" check "$program" >"$BATS_TEST_TMPDIR/said" 2>&1 || status=$?
        [ "$status" -le 1 ] || { cat "$BATS_TEST_TMPDIR/said"; echo "exit $status"; return 1; }
    done
    head -c 100000 /dev/urandom >"$program"
    works_not "$program" 'spoilt is neither an ELF file nor a script'
}

# fuzzed SOURCE: the reader of SOURCE's tree, under sanitizers, on programs that it has spoilt.
fuzzed() {
    gcc -std=gnu11 -O1 -g -w -I"$1" -fsanitize=address,undefined -fno-sanitize-recover=all \
        -o "$BATS_TEST_TMPDIR/fuzz" "$ROOT/tests/programs/check_fuzz.c"
    strip -o "$BATS_TEST_TMPDIR/stripped" "$WEIR_LIB" # five sixths of it are for the debugger
    ASAN_OPTIONS=quarantine_size_mb=8 timeout "$(patient 50)" "$BATS_TEST_TMPDIR/fuzz" 4000 "$RANDOM" \
        /bin/true "$(command -v memcached)" "$BATS_TEST_TMPDIR/stripped"
}

@test "the reader of ELF files stays inside them, whatever they say" {
    run fuzzed "$ROOT/shim"
    echo "$output"
    [ "$status" = 0 ]
    # It has got to the end of some, and not of all.
    says '^[1-9][0-9]{3,} of 12000 were read to their end'
}

@test "a reader that looks one bound less is caught" {
    mkdir "$BATS_TEST_TMPDIR/shim"
    cp -r "$ROOT/shim/." "$BATS_TEST_TMPDIR/shim"
    sed -i 's/offset > from.size || size > from.size - offset/offset > from.size/' \
        "$BATS_TEST_TMPDIR/shim/command/check/elf.c"
    not cmp -s "$ROOT/shim/command/check/elf.c" "$BATS_TEST_TMPDIR/shim/command/check/elf.c"
    run fuzzed "$BATS_TEST_TMPDIR/shim"
    [ "$status" != 0 ]
    says 'AddressSanitizer|runtime error'
}

@test "names out of a file can't write to the terminal" {
    local name=$PUBLIC/$'\e[31mred'
    script "${name##*/}" $'#!/no/such\e[2Jinterpreter'
    checked 1 "$name"
    not says $'\e'
    says '\\x1b\[2J'
}

# ---- processes ----

@test "a process with the shim in it" {
    serve server -- "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
    checked 0 "$SERVER_PID"
    says "oldhttpd is dynamic"
    says "^The shim is in it, of weir [0-9.]+: $WEIR_LIB\.$"
    ends_with '^will work: the shim is in it$'
}

@test "a process without the shim would work once it is started under it" {
    serve_bare server -- redis-server --port "$port" --save ''
    wait_port "$port"
    checked 0 "$SERVER_PID"
    says '^It accepts by .*\(in redis-.*covered'
    says '^The shim is not in it: it was started without\.$'
    ends_with '^will work when it is started again, by .weir run.$'
}

@test "of a process the libraries that it has loaded are looked at, also later ones" {
    serve_bare server -- /usr/bin/python3 -c 'import _ctypes, _bz2, time; time.sleep(60)'
    loaded() {
        grep -q '_bz2' "/proc/$SERVER_PID/maps"
    }
    wait_until 5 loaded
    works /usr/bin/python3
    local before=${output#*looked at: }
    checked 0 "$SERVER_PID"
    local after=${output#*looked at: }
    [ "${after%%.*}" -gt "${before%%.*}" ]
}

@test "a process that has the shim's file open as data does not have the shim in it" {
    serve_bare server -- /usr/bin/python3 -c 'import mmap, sys, time
file = open(sys.argv[1], "rb")
data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
time.sleep(60)' "$WEIR_LIB"
    has_data() {
        grep -q libweir.so "/proc/$SERVER_PID/maps"
    }
    wait_until 5 has_data
    checked 0 "$SERVER_PID"
    says '^The shim is not in it'
}

@test "a process whose shim stands aside: the value is named" {
    serve server WEIR_TIMEOUT=3x -- "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
    checked 1 "$SERVER_PID"
    ends_with '^will not work: the shim stands aside in pid [0-9]+: WEIR_TIMEOUT: "3x" is not a duration'
}

@test "a process that the loader distrusted (AT_SECURE): the shim in LD_PRELOAD was ignored" {
    can_be_nobody
    cp /bin/sleep "$PUBLIC/sleeper"
    chmod 4755 "$PUBLIC/sleeper"
    serve_bare secure "LD_PRELOAD=$PUBLIC/libweir.so" -- \
        setpriv --reuid=65534 --regid=65534 --clear-groups "$PUBLIC/sleeper" 60
    is_sleeper() {
        [ "$(<"/proc/$SERVER_PID/comm")" = sleeper ]
    }
    wait_until 5 is_sleeper
    checked 1 "$SERVER_PID"
    ends_with '^will not work: pid [0-9]+ was started with the shim in LD_PRELOAD, in secure-execution mode \(AT_SECURE: .*ignores it'

    # The same without LD_PRELOAD: it would be ignored.
    serve_bare other -- \
        setpriv --reuid=65534 --regid=65534 --clear-groups "$PUBLIC/sleeper" 60
    wait_until 5 is_sleeper
    checked 1 "$SERVER_PID"
    ends_with 'was started in secure-execution mode .*ignores LD_PRELOAD'
}

@test "a process whose loader did not find the shim" {
    serve_bare server "LD_PRELOAD=/no/such/libweir.so" -- sleep 60
    is_sleep() {
        [ "$(<"/proc/$SERVER_PID/comm")" = sleep ]
    }
    wait_until 5 is_sleep
    checked 1 "$SERVER_PID"
    ends_with 'was started with the shim in LD_PRELOAD, and it is not in there: the loader could not open it'
}

@test "a static process, and a Go one, will not work with the same reason as their files" {
    serve_bare static -- /bin/busybox sleep 60
    is_busybox() {
        [ "$(readlink "/proc/$SERVER_PID/exe")" = "$(readlink -f /bin/busybox)" ]
    }
    wait_until 5 is_busybox
    checked 1 "$SERVER_PID"
    ends_with '^will not work: .*busybox is statically linked'
}

@test "a process in a seccomp sandbox: that it may not be drained is said" {
    serve server -- "$PROGRAMS/sandbox_seccomp" filter "$port"
    wait_port "$port"
    checked 0 "$SERVER_PID"
    not says '^It is under seccomp'
    conn_open fd "$port"
    conn_send "$fd" 'hi\n'
    sandboxed() {
        grep -q '^Seccomp:[[:space:]]*2' "/proc/$SERVER_PID/status"
    }
    wait_until 5 sandboxed
    checked 0 "$SERVER_PID"
    says '^It is under seccomp'
}

@test "a process whose file is gone is looked at all the same" {
    cp "$(command -v memcached)" "$PUBLIC/gone"
    serve server -- "$PUBLIC/gone" -u nobody -p "$port"
    wait_port "$port"
    rm "$PUBLIC/gone"
    checked 0 "$SERVER_PID"
    says "gone \(deleted\) is dynamic"
    ends_with '^will work: the shim is in it$'
}

@test "a process whose libweir.so has been replaced since: it goes on with the old one" {
    LD_PRELOAD=$PUBLIC/libweir.so serve_bare server -- "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
    cp "$WEIR_LIB" "$PUBLIC/new.so"
    mv "$PUBLIC/new.so" "$PUBLIC/libweir.so"
    checked 0 "$SERVER_PID"
    says "^The shim is in it, of weir [0-9.]+: $PUBLIC/libweir\.so \(deleted\)\.$"
    says '^That file has been replaced or removed since: the process goes on with the old one'
    ends_with '^will work: the shim is in it$'
}

@test "no such process is 4, somebody else's process is 5" {
    can_be_nobody
    sleep 0 &
    local pid=$!
    wait "$pid"
    checked 4 "$pid"
    [ "$output" = "weir: pid $pid: no such process" ]
    checked 4 99999999999999999999
    serve_bare server -- sleep 60
    run as_nobody "$PUBLIC/weir" check "$SERVER_PID"
    [ "$status" = 5 ]
    says "^weir: pid $SERVER_PID: you may not look at it"
}

@test "a command is looked for in PATH, or where execvp looks without one" {
    printf 'no program\n' >"$PUBLIC/sh"
    PATH=$PUBLIC checked 1 sh
    ends_with '^will not work: sh: is in PATH, but you may not execute it$'
    PATH=$PUBLIC:/bin checked 0 sh
    run env -u PATH "$WEIR" check sh
    [ "$status" = 0 ]
    says '^/bin/sh is dynamic'
    run env -u PATH "$WEIR" check no-such-command
    [ "$status" = 1 ]
    ends_with ': no such command in PATH$'
}

@test "a program that can't accept: there is nothing to drain" {
    checked 0 dash
    ends_with '^nothing to drain: it accepts no connections; what it starts may$'
}

@test "a process that can't find the shim among its files: what it must have in there is said" {
    # shellcheck disable=SC2016  # expanded by the inner shell
    serve_bare server -- unshare --mount sh -c 'mount -t tmpfs none "$0" && exec sleep 60' "$ROOT/build"
    elsewhere() {
        [ "$(<"/proc/$SERVER_PID/comm")" = sleep ]
    }
    wait_until 5 elsewhere
    checked 0 "$SERVER_PID"
    says '\(a container, another mount namespace\), and this libweir\.so is not among them'
    # One that has another mount namespace, and the same files.
    for how in env 'unshare --mount'; do
        # shellcheck disable=SC2086  # words
        serve_bare here -- $how sleep 60
        wait_until 5 elsewhere
        checked 0 "$SERVER_PID"
        not says container
    done
}

# ---- the command line ----

@test "usage: one name, or help" {
    run "$WEIR" check
    [ "$status" = 2 ]
    says '^Usage: weir check COMMAND\|PID'
    run "$WEIR" check nginx redis-server
    [ "$status" = 2 ]
    run "$WEIR" check --no-such-option nginx
    [ "$status" = 2 ]
    says "^weir: unrecognized option '--no-such-option'"
    run "$WEIR" check --help
    [ "$status" = 0 ]
    says 'Exit: 0'
    [ "$(wc -L <<<"$output")" -le 80 ]
    run "$WEIR" check -- nginx
    [ "$status" = 0 ]
}

@test "without a libweir.so it says where that was looked for" {
    rm "$PUBLIC/libweir.so"
    run "$PUBLIC/weir" check nginx
    [ "$status" = 1 ]
    ends_with "no libweir\.so in $PUBLIC, nor in its \.\./lib, \.\./lib/weir, \.\./lib/x86_64-linux-gnu or \.\./lib64"
}
