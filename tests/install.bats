#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What somebody else gets: make install and uninstall, the manual, the completion, weir.pc, the
# Debian package, and a new version beside servers that run under the old one.
# mutant: scripts/install: s/^( *)chmod "\$1" "\$new"$/\1:/
# seconds: 20
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load helpers
unset WEIR_MODE # the default, protocol

# make_at DIRECTORY ARGUMENT...: silent where it works.
make_at() {
    local directory=$1 said
    shift
    said=$(make -C "$directory" --no-print-directory --silent "$@" 2>&1) ||
        { echo "make $*: $said" >&2; return 1; }
}

# copy_tree DIRECTORY: what the build needs, to be changed.
copy_tree() {
    mkdir -p "$1/tests/programs"
    cp -r "$ROOT/shim" "$ROOT/scripts" "$ROOT/Makefile" "$1"
}

# $FIRST: this tree, installed. $NEXT: the tree of another version, whose pages have another layout.
# $PACKAGES: with the package.
setup_file() {
    export FIRST=$BATS_FILE_TMPDIR/first NEXT=$BATS_FILE_TMPDIR/next
    export PACKAGES=$BATS_FILE_TMPDIR/packages
    (umask 077 && make_at "$ROOT" install "DESTDIR=$FIRST")
    "$ROOT/scripts/package" "$PACKAGES" >"$BATS_FILE_TMPDIR/package.log" 2>&1 &
    copy_tree "$NEXT"
    sed -i 's/^#define WEIR_VERSION .*/#define WEIR_VERSION "0.2.0-next"/' "$NEXT/shim/base/common.h"
    sed -i -e 's/^#define PAGE_LAYOUT .*/#define PAGE_LAYOUT 999/' \
        -e 's|^    char program\[40\];|    uint64_t added[8];\n&|' "$NEXT/shim/base/state_page.h"
    make_at "$NEXT" CFLAGS=-O0
    wait $! || { cat "$BATS_FILE_TMPDIR/package.log" >&2; return 1; }
}

setup() {
    port=$((15000 + 20 * BATS_TEST_NUMBER))
    SHARE=$FIRST/usr/local/share
    run_dir=$BATS_TEST_TMPDIR/run
}

# exits CODE COMMAND...: what it says, on both, is in $said.
exits() {
    local wanted=$1 code=0
    shift
    said=$(timeout "$(patient 30)" "$@" 2>&1 </dev/null 3>&-) || code=$?
    [ "$code" = "$wanted" ] || { echo "$*: exit $code, not $wanted: $said"; return 1; }
}

# same TEXT TEXT
same() {
    diff <(echo "$1") <(echo "$2")
}

listing() {
    find "$1" -mindepth 1 -printf '%M %P\n' | LC_ALL=C sort -k 2
}

# The version that the tree says it is.
version() {
    sed -n 's/^#define WEIR_VERSION "\(.*\)"$/\1/p' "$ROOT/shim/base/common.h"
}

# memcached under a library; SERVER_PID.
serve_memcached() {
    local library=$1
    shift
    serve_bare server "LD_PRELOAD=$library" "WEIR_RUN_DIR=$run_dir" "$@" -- \
        memcached -l 127.0.0.1 -p "$port" -U 0 -u "$(id -un)"
    wait_port "$port"
}

# answered VAR: a client that has been.
answered() {
    local answer
    conn_open "$1" "$port"
    conn_send "${!1}" 'version\r\n'
    read_line answer "${!1}" 5
    has "$answer" VERSION
}

# ---- make install

@test "make install puts each file in its place, with its mode, whatever the umask" {
    same "$(listing "$FIRST/usr/local")" "$(cat <<'END'
drwxr-xr-x bin
-rwxr-xr-x bin/weir
drwxr-xr-x include
-rw-r--r-- include/weir.h
drwxr-xr-x lib
-rw-r--r-- lib/libweir.so
drwxr-xr-x share
drwxr-xr-x share/bash-completion
drwxr-xr-x share/bash-completion/completions
-rw-r--r-- share/bash-completion/completions/weir
drwxr-xr-x share/doc
drwxr-xr-x share/doc/weir
drwxr-xr-x share/doc/weir/examples
-rw-r--r-- share/doc/weir/examples/weir-alerts.yml
-rw-r--r-- share/doc/weir/examples/weir-metrics.service
-rw-r--r-- share/doc/weir/examples/weir-metrics.timer
-rw-r--r-- share/doc/weir/examples/weir.conf
-rw-r--r-- share/doc/weir/examples/weir.tmpfiles
-rw-r--r-- share/doc/weir/examples/weir_apache2.conf
-rw-r--r-- share/doc/weir/examples/weir_nginx.conf
-rw-r--r-- share/doc/weir/examples/weir_postgresql.environment
-rw-r--r-- share/doc/weir/examples/weir_redis.conf
drwxr-xr-x share/man
drwxr-xr-x share/man/man1
-rw-r--r-- share/man/man1/weir.1
drwxr-xr-x share/man/man7
-rw-r--r-- share/man/man7/libweir.7
-rw-r--r-- share/man/man7/weir-services.7
drwxr-xr-x share/pkgconfig
-rw-r--r-- share/pkgconfig/weir.pc
drwxr-xr-x share/weir
-rw-r--r-- share/weir/installed
END
)"
    cmp "$ROOT/build/libweir.so" "$FIRST/usr/local/lib/libweir.so"
    cmp "$ROOT/shim/weir.h" "$FIRST/usr/local/include/weir.h"
    # No text is left to be filled in.
    lacks "$(cat "$SHARE"/man/man?/* "$SHARE/pkgconfig/weir.pc")" @
    [ "$(grep -cE '@[A-Z]+@' "$SHARE/bash-completion/completions/weir")" = 0 ]
}

@test "what is installed works where it is: the command finds its library" {
    exits 0 "$FIRST/usr/local/bin/weir" --version
    [ "$said" = "weir $(version)" ]
    # The library says it, too.
    grep -qaF "weir $(version)" "$FIRST/usr/local/lib/libweir.so"
    # shellcheck disable=SC2016  # the inner shell's
    exits 0 "$FIRST/usr/local/bin/weir" run --log none sh -c 'echo $LD_PRELOAD'
    [ "$said" = "$FIRST/usr/local/lib/libweir.so" ]
}

@test "PREFIX and LIBDIR are honoured, and said where a text names the library" {
    local root="$BATS_TEST_TMPDIR/a root"
    make_at "$ROOT" install "DESTDIR=$root" PREFIX=/opt/weir LIBDIR=/opt/weir/lib/weir
    [ -s "$root/opt/weir/lib/weir/libweir.so" ]
    [ "$(find "$root" -mindepth 1 -maxdepth 2 -printf '%P ')" = 'opt opt/weir ' ]
    exits 1 "$root/opt/weir/bin/weir" run --log none true
    has "$said" "$root/opt/weir/lib/weir/libweir.so: LD_PRELOAD can't name a path with a space"
    grep -q '^prefix=/opt/weir$' "$root/opt/weir/share/pkgconfig/weir.pc"
    grep -q '^libdir=/opt/weir/lib/weir$' "$root/opt/weir/share/pkgconfig/weir.pc"
    grep -q 'LD_PRELOAD=/opt/weir/lib/weir/libweir.so' "$root/opt/weir/share/man/man7/libweir.7"
    # No text names the default, and what they name instead is there.
    [ "$(grep -rIl /usr/local "$root" | wc -l)" = 0 ]
    grep -rIohE '/opt/weir/(bin|lib|share|include)[a-z0-9/._-]*[a-z0-9]' "$root/opt/weir/share" | sort -u \
        >"$BATS_TEST_TMPDIR/named"
    [ "$(wc -l <"$BATS_TEST_TMPDIR/named")" -ge 6 ]
    while read -r path; do
        [ -e "$root$path" ] || { echo "named, and not there: $path"; return 1; }
    done <"$BATS_TEST_TMPDIR/named"
    make_at "$ROOT" uninstall "DESTDIR=$root" PREFIX=/opt/weir
    left=$(ls -A "$root")
    [ -z "$left" ]
    exits 2 make -C "$ROOT" install "DESTDIR=$root" PREFIX=usr
    has "$said" 'have to be absolute'
}

@test "make install says where things are, and what comes next" {
    local prefix=$BATS_TEST_TMPDIR/prefix path
    exits 0 make -C "$ROOT" --no-print-directory --silent install "PREFIX=$prefix"
    grep -oE "${prefix}[^ :]*" <<<"$said" | sort -u >"$BATS_TEST_TMPDIR/named"
    [ "$(wc -l <"$BATS_TEST_TMPDIR/named")" = 6 ]
    while read -r path; do
        [ -e "$path" ] || { echo "named, and not there: $path"; return 1; }
    done <"$BATS_TEST_TMPDIR/named"
    has "$said" "  $prefix/bin/weir check your-daemon"
    PATH=$prefix/bin:$PATH exits 0 make -C "$ROOT" --no-print-directory --silent install "PREFIX=$prefix"
    has "$said" '  weir check your-daemon'
    # It is taken away again as it says.
    exits 0 make -C "$ROOT" --no-print-directory --silent uninstall "PREFIX=$prefix"
    [ ! -e "$prefix" ]
    # What is moved elsewhere has no next step yet.
    exits 0 make -C "$ROOT" --no-print-directory --silent install "DESTDIR=$BATS_TEST_TMPDIR/root"
    has "$said" "$BATS_TEST_TMPDIR/root/usr/local/bin/weir"
    lacks "$said" systemctl
}

@test "a file is renamed over the old one: a server that has that mapped goes on" {
    local root=$BATS_TEST_TMPDIR/root library before client
    library=$root/usr/local/lib/libweir.so
    make_at "$ROOT" install "DESTDIR=$root"
    before=$(stat -c %i "$library")
    serve_memcached "$library"
    # Another library: who has the file mapped that this is written into does not live on.
    make_at "$NEXT" install "DESTDIR=$root" CFLAGS=-O0
    [ "$(stat -c %i "$library")" != "$before" ]
    cmp "$NEXT/build/libweir.so" "$library"
    grep -qF "$library (deleted)" "/proc/$SERVER_PID/maps"
    answered client
    same "$(listing "$root")" "$(listing "$FIRST")" # and nothing lies beside
    kill -USR2 "$SERVER_PID"
    wait_drained server
    at_eof "$client" 5
}

@test "make uninstall removes what make install made, and nothing else" {
    local root=$BATS_TEST_TMPDIR/root before
    mkdir -p "$root/usr/local/include" "$root/usr/local/share/man/man1" "$root/usr/local/bin"
    touch "$root/usr/local/bin/other" "$root/usr/local/share/man/man1/other.1"
    before=$(listing "$root")
    make_at "$ROOT" install "DESTDIR=$root"
    make_at "$ROOT" install "DESTDIR=$root"
    [ "$(listing "$root")" != "$before" ]
    make_at "$ROOT" uninstall "DESTDIR=$root"
    same "$before" "$(listing "$root")"
    # Again: there is nothing to do.
    make_at "$ROOT" uninstall "DESTDIR=$root"
    same "$before" "$(listing "$root")"
    # A directory that was made and that others use now stays.
    make_at "$ROOT" install "DESTDIR=$root"
    touch "$root/usr/local/lib/other"
    make_at "$ROOT" uninstall "DESTDIR=$root"
    rm "$root/usr/local/lib/other"
    rmdir "$root/usr/local/lib"
    same "$before" "$(listing "$root")"
}

# ---- the manual

# page NAME.SECTION: its path.
page() {
    echo "$SHARE/man/man${1##*.}/$1"
}

@test "the manual pages are shown without a warning" {
    local name locale
    for name in weir.1 libweir.7 weir-services.7; do
        for locale in C C.UTF-8; do
            said=$(LC_ALL=$locale MANWIDTH=80 man --warnings=all -l "$(page "$name")" \
                2>&1 >"$BATS_TEST_TMPDIR/shown")
            [ -z "$said" ] || { echo "$name: $said"; return 1; }
            [ "$(wc -l <"$BATS_TEST_TMPDIR/shown")" -gt 100 ]
        done
        exits 0 mandoc -T lint -W warning "$(page "$name")"
        [ -z "$said" ]
    done
    MANPATH=$SHARE/man exits 0 man -w weir
    [ "$said" = "$(page weir.1)" ]
}

# settings TREE: the variables of the table.
settings() {
    sed -n 's/^    {"\(WEIR_[A-Z_]*\)", .*/\1/p' "$1/shim/base/settings.c"
}

# described PAGE MACRO: "NAME description...", a line for each item of that macro.
described() {
    awk -v macro="$2" '
        /^\.It/ { if (name) print name, text; name = text = ""
                  if (index($0, ".It " macro) == 1) name = $3; next }
        /^\.El/ { if (name) print name, text; name = text = ""; next }
        name    { text = text " " $0 }' "$1"
}

@test "libweir(7) describes each setting of the table" {
    [ "$(settings "$ROOT" | wc -l)" -ge 19 ]
    described "$(page libweir.7)" 'Ev WEIR_' | grep 'A value is' >"$BATS_TEST_TMPDIR/items"
    same "$(settings "$ROOT")" "$(awk '{ print $1 }' "$BATS_TEST_TMPDIR/items")"
    # What the table says of one, its default and what is accepted.
    grep -q '^WEIR_SPREAD .*close idle connections evenly.*A value is a duration.*\.Cm 0$' \
        "$BATS_TEST_TMPDIR/items"
    awk 'NF < 8' "$BATS_TEST_TMPDIR/items" >"$BATS_TEST_TMPDIR/short"
    [ ! -s "$BATS_TEST_TMPDIR/short" ]
}

# options COMMAND: those that its help names.
options() {
    local said
    said=$("$FIRST/usr/local/bin/weir" "$1" --help)
    { grep -oE -- '--[a-z][a-z-]*' <<<"$said"; echo --help; } | sort -u
}

@test "weir(1) has each option of each command" {
    local command option
    [ "$(options run | wc -l)" = $(($(settings "$ROOT" | wc -l) + 1)) ]
    described "$(page weir.1)" 'Fl -' | awk '{ print "-" $1 }' | sort -u >"$BATS_TEST_TMPDIR/items"
    for command in run drain close-idle drain-all restart status list check; do
        grep -q "^\.Cm $command\$" "$(page weir.1)"
        for option in $(options "$command"); do
            grep -qx -- "$option" "$BATS_TEST_TMPDIR/items" ||
                { echo "weir $command $option is not in weir(1)"; return 1; }
        done
    done
}

@test "a setting that is added to the table is everywhere, and one without a description builds nothing" {
    local tree=$BATS_TEST_TMPDIR/tree share=build/share
    copy_tree "$tree"
    grep -q '^    {"WEIR_RUN_DIR", ' "$tree/shim/base/settings.c"
    sed -i 's|^    {"WEIR_RUN_DIR", |    {"WEIR_NEW_ONE", "5s", parse_duration, IN(delay), DURATION, "a new one"},\n&|' \
        "$tree/shim/base/settings.c"
    make_at "$tree" $share/weir.1 $share/libweir.7 $share/weir.bash
    described "$tree/$share/libweir.7" 'Ev WEIR_' |
        grep -q '^WEIR_NEW_ONE  a new one\. A value is a duration (250ms, 30s, 5m, 0)\. .*\.Cm 5s$'
    described "$tree/$share/weir.1" 'Fl -' | grep -q '^-new-one  a new one\.$'
    grep -qF "[--new-one]='250ms 30s 5m 0'" "$tree/$share/weir.bash"

    sed -i 's/"a new one"/""/' "$tree/shim/base/settings.c"
    exits 2 make -C "$tree" $share/libweir.7
    has "$said" 'WEIR_NEW_ONE has no description'
    # Nor by the next make.
    exits 2 make -C "$tree" $share/libweir.7
    sed -i 's/DURATION, ""}/DURATION}/' "$tree/shim/base/settings.c"
    exits 2 make -C "$tree" $share/libweir.7
    has "$said" missing-field-initializers
}

# ---- the completion

# completes WORD...: what the last one can be, as bash-completion finds it by the command's name.
completes() {
    # shellcheck disable=SC2016  # the inner shell's
    PATH=$FIRST/usr/local/bin:$PATH XDG_DATA_DIRS=$SHARE HOME=$BATS_TEST_TMPDIR timeout "$(patient 10)" \
        bash --norc -c '
        . /usr/share/bash-completion/bash_completion
        _completion_loader weir
        [ "$(complete -p weir)" = "complete -F _weir weir" ] || exit 1
        compopt() { :; } # which bash refuses outside of a completion
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        _weir weir "$2" "$1"
        printf "%s\n" "${COMPREPLY[@]}"' bash "$@" 2>&1 | sort -u
}

@test "the completion has each command, and each option of each" {
    local command
    same "$(completes weir '')" "$(printf '%s\n' --help --version check close-idle drain drain-all \
        list restart run status | sort)"
    for command in run drain close-idle drain-all restart status check; do
        same "$(options "$command")" "$(completes weir "$command" --)"
    done
    same "$(options status)" "$(completes weir list --)"
    [ "$(completes weir run --list)" = --listeners ]
    [ "$(completes weir run --mode protocol --lis)" = --listeners ]
    [ "$(completes weir run --mode = http --lis)" = --listeners ]
}

@test "the completion has the values of an option, and weir accepts each" {
    local option value count=0 values
    same "$(completes weir run --listeners '')" $'auto\nclose\nkeep\nstore'
    same "$(completes weir run --listeners =)" $'auto\nclose\nkeep\nstore'
    [ "$(completes weir run --timeout 5s --mode = de)" = deadline ]
    same "$(completes weir run --log s)" $'stderr\nsyslog'
    same "$(completes weir drain --timeout =)" "$(completes weir drain --timeout '')"
    [ -n "$(completes weir drain-all --timeout = 3)" ]
    for option in $(options run | grep -vx -- --help); do
        values=$(completes weir run "$option" '')
        for value in $values; do
            # With what can't clash with it.
            exits 0 "$FIRST/usr/local/bin/weir" run --timeout 0 --signal RTMIN+9 --log none \
                "$option" "$value" true
            count=$((count + 1))
        done
    done
    [ "$count" -ge 50 ]
}

@test "the completion has the pids and names of trees, and the command that weir run is to start" {
    serve_memcached "$FIRST/usr/local/lib/libweir.so"
    export WEIR_RUN_DIR=$run_dir
    for command in drain restart status; do
        completes weir "$command" '' | grep -qx "$SERVER_PID"
    done
    # By name, too, where it is one alone.
    [ "$(completes weir drain memc)" = memcached ]
    if [ "$(id -u)" = 0 ]; then
        echo 0::/system.slice/cache.service >"$BATS_TEST_TMPDIR/cgroup"
        mount --bind "$BATS_TEST_TMPDIR/cgroup" "/proc/$SERVER_PID/cgroup"
        unit=$(completes weir restart ca)
        umount "/proc/$SERVER_PID/cgroup"
        [ "$unit" = cache.service ]
    fi
    completes weir check "${SERVER_PID%?}" | grep -qx "$SERVER_PID"
    port=$((port + 1))
    serve_memcached "$FIRST/usr/local/lib/libweir.so"
    not grep -qx memcached <<<"$(completes weir drain memc)"
    completes weir run --mode protocol memcach | grep -qx memcached
    completes weir run -- memcach | grep -qx memcached
    # Its own completion, from there on.
    mkdir -p "$BATS_TEST_TMPDIR/.local/share/bash-completion/completions"
    echo '_its_own() { COMPREPLY=(its-own); }; complete -F _its_own memcached' \
        >"$BATS_TEST_TMPDIR/.local/share/bash-completion/completions/memcached"
    [ "$(completes weir run --mode protocol memcached --)" = its-own ]
}

@test "at a prompt, a tab completes an option" {
    # shellcheck disable=SC2016  # python's
    PATH=$FIRST/usr/local/bin:$PATH XDG_DATA_DIRS=$SHARE timeout 30 /usr/bin/python3 -c '
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.environ.update(PS1="ready> ", TERM="dumb", HOME=sys.argv[1])
    os.execlp("bash", "bash", "--norc", "--noprofile", "-i")
seen, end = b"", time.monotonic() + 20
def wait_for(text):
    global seen
    while text not in seen:
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            sys.exit("no %r in %r" % (text, seen))
        seen += os.read(fd, 4096)
    seen = seen.split(text, 1)[1]
wait_for(b"ready> ")
os.write(fd, b". /usr/share/bash-completion/bash_completion; echo lo\"\"aded\n")
wait_for(b"loaded")
wait_for(b"ready> ")
os.write(fd, b"weir run --listen\t")
wait_for(b"--listeners ")
os.write(fd, b"k\t")
wait_for(b"keep ")
os.write(fd, b"\x03exit\n")
' "$BATS_TEST_TMPDIR"
}

# ---- weir.pc

@test "pkg-config: a program with weir.h needs no library, and works with it" {
    export PKG_CONFIG_PATH=$SHARE/pkgconfig
    local flags preload
    [ "$(pkg-config --modversion weir)" = "$(version)" ]
    flags=$(pkg-config --libs weir)
    [ -z "$flags" ]
    flags=$(pkg-config --define-variable=prefix="$FIRST/usr/local" --cflags weir)
    preload=$(pkg-config --variable=preload weir)
    [ "$preload" = /usr/local/lib/libweir.so ]
    cat >"$BATS_TEST_TMPDIR/user.c" <<'END'
#include <stdio.h>
#include <weir.h>
int main(void)
{
    struct weir_counts counts = {9, 9, 9, 9};
    puts(weir_counts && weir_counts(&counts) == 0 && counts.tracked == 0 ? "with" : "without");
    return 0;
}
END
    # shellcheck disable=SC2086  # a word each
    gcc -Wall -Wextra -Werror $flags -o "$BATS_TEST_TMPDIR/user" "$BATS_TEST_TMPDIR/user.c"
    [ "$("$BATS_TEST_TMPDIR/user")" = without ]
    [ "$(LD_PRELOAD=$FIRST$preload "$BATS_TEST_TMPDIR/user")" = with ]
}

# ---- the package

the_package() {
    echo "$PACKAGES"/weir_*.deb
}

@test "lintian has nothing to say about the package" {
    exits 0 lintian --allow-root --fail-on error,warning,info --display-info "$(the_package)"
    lacks "$said" ' weir: '
    [ "$(dpkg-deb -f "$(the_package)" Version)" = "$(version)" ]
    # Of glibc no more than the README says.
    local depends needs
    depends=$(dpkg-deb -f "$(the_package)" Depends)
    has "$depends" 'libc6 (>= '
    needs=$(sed 's/.*libc6 (>= \([0-9.]*\)).*/\1/' <<<"$depends")
    dpkg --compare-versions "$needs" le 2.28 || { echo "$depends"; return 1; }
}

@test "without dpkg-dev no package is made, and it is said" {
    local bin=$BATS_TEST_TMPDIR/bin tool
    mkdir "$bin"
    for tool in bash sh dirname sed mkdir rm date dpkg dpkg-deb make cc nproc; do
        ln -s "$(command -v "$tool")" "$bin/$tool"
    done
    exits 1 env PATH="$bin" "$ROOT/scripts/package" "$BATS_TEST_TMPDIR/into"
    has "$said" dpkg-dev
    [ -z "$(compgen -G "$BATS_TEST_TMPDIR/into/*.deb")" ]
}

# in_a_copy SCRIPT: bash runs it in a copy-on-write view of this machine's files, with a /run and a
# /dev/shm of its own, which is gone with the mount namespace. The last line that it says is what
# files differ, dpkg's own records left out.
in_a_copy() {
    local copy=$BATS_TEST_TMPDIR/copy
    mkdir "$copy"
    # shellcheck disable=SC2016  # the inner shells'
    timeout "$(patient 50)" unshare --mount --propagation private sh -ec '
        mount -t tmpfs none "$1"
        mkdir "$1/upper" "$1/work" "$1/root"
        mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
        mount --rbind /proc "$1/root/proc"
        mount -t tmpfs none "$1/root/dev"
        mkdir "$1/root/dev/shm"
        for device in null zero urandom; do
            touch "$1/root/dev/$device"
            mount --bind "/dev/$device" "$1/root/dev/$device"
        done
        mount -t tmpfs -o mode=755 none "$1/root/run"
        changed() {
            cd "$1/upper"
            find . -not \( -type d -o -path "./var/lib/dpkg/*" -o -path "./var/log/*" -o \
                -path "./var/cache/*" \) | sort
        }
        cp "$2" "$1/root/root/weir.deb"
        status=0
        PORT=$4 chroot "$1/root" bash -c "$3" || status=$?
        rm "$1/root/root/weir.deb"
        echo "left behind:" $(changed "$1")
        exit "$status"' sh "$copy" "$(the_package)" "$1" "$port"
}

@test "the package installs, works, and leaves nothing behind when it is purged" {
    needs_root # its file system is an overlay
    local code=0
    # shellcheck disable=SC2016  # the inner shell's
    in_a_copy '
        set -eu
        cd /
        listens() { grep -q "$(printf ":%04X 00000000:0000 0A" "$1")" /proc/net/tcp; }
        up() { for i in $(seq 200); do if listens "$1"; then return 0; fi; sleep 0.05; done; return 1; }
        start() {
            port=$1
            shift
            "$@" weir run --stop-signals TERM --log stderr \
                memcached -l 127.0.0.1 -p "$port" -U 0 -u root </dev/null &
            up "$port"
        }
        ends() { kill "-$1" "$2"; wait "$2" || true; }
        pages() { ls /run/weir | wc -l; }
        install() { dpkg --no-triggers --path-include="/usr/share/*" -i /root/weir.deb; }
        purge() { dpkg --no-triggers -P weir; }

        install
        [ ! -e /run/systemd/system ] || rm -rf /run/weir # made by tmpfiles.d, where systemd runs
        weir --version
        [ ! -e /run/weir ]
        start "$PORT"
        grep -q /usr/lib/weir/libweir.so "/proc/$!/maps"
        weir list | grep "^$! "
        [ "$(pages)" = 1 ]
        weir check "$!"
        man -w weir libweir
        pkg-config --cflags --variable=preload weir
        # The drop-ins are for the library where the package has it.
        named=$(sed -nE "s#^(.*LD_PRELOAD ?= ?|.*ExecPaths=-).?(/[^ \x27]*).?\$#\2#p" \
            /usr/share/doc/weir/examples/weir* | sort -u)
        [ "$named" = /usr/lib/weir/libweir.so ]
        grep -q "^d /run/weir " /usr/lib/tmpfiles.d/weir.conf
        weir drain --wait "$!"
        ends TERM "$!"
        [ "$(pages)" = 0 ]

        # One that is killed leaves its page; who still runs keeps his.
        start "$((PORT + 1))"
        killed=$!
        start "$((PORT + 2))"
        ends KILL "$killed"
        [ "$(pages)" = 2 ]
        purge
        [ "$(pages)" = 1 ]
        [ -f /run/weir/"$!".* ]
        [ ! -e /usr/bin/weir ]
        [ ! -e /usr/lib/weir ]
        ends TERM "$!"

        # And where nobody does.
        install
        start "$((PORT + 3))"
        ends KILL "$!"
        [ "$(pages)" = 1 ]
        purge
        [ -z "$(find /run /dev/shm /var/lib/dpkg -name "*weir*")" ]

        # A user has his where /run/weir is not his to make. What is no page of ours stays, and what
        # his directory is made to point at.
        install
        mkdir -m 700 /dev/shm/weir-33
        chown 33:33 /dev/shm/weir-33
        start "$((PORT + 4))" setpriv --reuid=33 --regid=33 --clear-groups
        [ "$(find /dev/shm/weir-33 -type f | wc -l)" = 1 ]
        ends KILL "$!"
        mkdir /root/other
        touch /root/other/1.2 /dev/shm/weir-33/note
        ln -s /root/other /dev/shm/weir-34
        # That it is a mount keeps nobody from the purge.
        mkdir -p /run/weir
        mount -t tmpfs none /run/weir
        purge
        [ "$(ls /dev/shm/weir-33 /root/other | tr "\n" " ")" = "/dev/shm/weir-33: note  /root/other: 1.2 " ]
        umount /run/weir
        rm -r /run/weir /dev/shm/weir-3? /root/other
        echo all is well' >"$BATS_TEST_TMPDIR/said" 2>&1 </dev/null 3>&- || code=$?
    said=$(<"$BATS_TEST_TMPDIR/said")
    [ "$code" = 0 ] || { echo "exit $code: $said"; return 1; }
    has "$said" 'all is well'
    [ "$(grep -c '^weir\[.*: drained in ' <<<"$said")" = 2 ]
    [ "$(tail -n 1 <<<"$said")" = 'left behind:' ] || { echo "$said"; return 1; }
}

# ---- two versions

@test "the new weir names both versions of an old tree, and its signals drain it" {
    local root=$BATS_TEST_TMPDIR/root new old=$FIRST/usr/local/bin/weir client
    new=$root/usr/local/bin/weir
    make_at "$ROOT" install "DESTDIR=$root"
    serve_memcached "$root/usr/local/lib/libweir.so" WEIR_STOP_SIGNALS=TERM WEIR_SIGNAL=RTMIN+2 \
        WEIR_FIRST_BYTE=100ms
    exits 0 "$new" status "$SERVER_PID"
    make_at "$NEXT" install "DESTDIR=$root" CFLAGS=-O0
    for command in status list drain drain-all close-idle; do
        exits 1 "$new" "$command" "$SERVER_PID"
        has "$said" "pid $SERVER_PID: its state page is of weir $(version) (layout "
        has "$said" 'and this is weir 0.2.0-next (layout 999)'
        has "$said" "What still works are its signals: send pid $SERVER_PID its WEIR_SIGNAL (RTMIN+2"
        has "$said" 'one of WEIR_STOP_SIGNALS (TERM)'
    done
    exits 0 "$new" check "$SERVER_PID"
    has "$said" "The shim is in it, of weir $(version) (layout "
    has "$said" 'has been replaced or removed since'
    # The old command, where it still is, reads it.
    exits 0 env "WEIR_RUN_DIR=$run_dir" "$old" status "$SERVER_PID" --json
    has "$said" '"phase": "serving"'
    answered client
    kill "$SERVER_PID"
    at_eof "$client" 5
    wait_gone "$SERVER_PID"
    log_has server 'drained in .* 1 closed clean, 0 forced'
}

@test "trees of another version are not left out of weir status in silence" {
    export WEIR_RUN_DIR=$run_dir
    local old new
    serve_memcached "$NEXT/build/libweir.so"
    new=$SERVER_PID
    port=$((port + 1))
    serve_memcached "$FIRST/usr/local/lib/libweir.so"
    old=$SERVER_PID
    "$NEXT/build/weir" list >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err"
    grep -q "^$new " "$BATS_TEST_TMPDIR/out"
    [ "$(grep -c "^weir: pid $old: its state page is of weir .*0.2.0-next" "$BATS_TEST_TMPDIR/err")" = 1 ]
    lacks "$(<"$BATS_TEST_TMPDIR/out")" "$old "
    "$FIRST/usr/local/bin/weir" list >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err"
    grep -q "^$old " "$BATS_TEST_TMPDIR/out"
    grep -q "^weir: pid $new: its state page is of weir 0.2.0-next" "$BATS_TEST_TMPDIR/err"
    # Nor taken for trees that are gone.
    [ "$(find "$run_dir" -type f | wc -l)" = 2 ]
}

@test "a new version with the same layout drains an old tree" {
    local tree=$BATS_TEST_TMPDIR/tree
    # The command alone is built: of the library it has the layout.
    copy_tree "$tree"
    sed -i 's/^#define WEIR_VERSION .*/#define WEIR_VERSION "0.1.1-next"/' "$tree/shim/base/common.h"
    make_at "$tree" CFLAGS=-O0 build/weir
    serve_memcached "$FIRST/usr/local/lib/libweir.so"
    exits 0 "$tree/build/weir" status --json "$SERVER_PID"
    has "$said" "\"version\": \"$(version)\""
    exits 0 "$tree/build/weir" drain --wait "$SERVER_PID"
    wait_drained server
}
