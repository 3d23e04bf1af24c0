#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The smallest daemons of scripts/sweep, bare and under the shim: each serves a real client, is drained
# with a request in use, and ends by its own stop signal as it does bare, with nothing new in its log.
# mutant: shim/conn/conn.c: s/ \|\| handoff_is_apart\(\)//
# needs: ngircd mosquitto mosquitto-clients rsync nsd bind9-dnsutils beanstalkd pen rinetd sslh
# needs: tinyproxy webfs mini-httpd openbsd-inetd micro-httpd gophernicus microsocks cvs ucspi-tcp
# needs: socat busybox-static curl
# seconds: 43
# shellcheck disable=SC2154

load helpers
unset WEIR_MODE # the default, protocol

setup() {
    needs_users
}

# is_the_same DAEMON: nothing of it differs.
is_the_same() {
    run "$ROOT/scripts/sweep" "$1" 3>&-
    echo "$output"
    [ "$status" = 0 ]
    has "$output" $'\n'"$1 "
}

@test "ngircd is drained, and ends as it does bare" {
    is_the_same ngircd
}

@test "mosquitto is drained, and ends as it does bare" {
    is_the_same mosquitto
}

@test "rsync --daemon is drained, and ends as it does bare" {
    is_the_same rsync
}

@test "nsd is drained, and ends as it does bare" {
    is_the_same nsd
}

@test "beanstalkd is drained, and ends as it does bare" {
    is_the_same beanstalkd
}

@test "pen is drained, and ends as it does bare" {
    is_the_same pen
}

@test "rinetd is drained, and ends as it does bare" {
    is_the_same rinetd
}

@test "sslh is drained, and ends as it does bare" {
    is_the_same sslh
}

@test "tinyproxy is drained, and ends as it does bare" {
    is_the_same tinyproxy
}

@test "webfsd is drained, and ends as it does bare" {
    is_the_same webfsd
}

@test "mini_httpd is drained, and ends as it does bare" {
    is_the_same mini_httpd
}

@test "openbsd-inetd is drained with a service that is another user's, and ends as it does bare" {
    is_the_same inetd
}

@test "microsocks is drained, and ends as it does bare" {
    is_the_same microsocks
}

@test "tcpserver with cvs is drained, and ends as it does bare" {
    is_the_same cvs
}
