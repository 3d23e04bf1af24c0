# SPDX-License-Identifier: MIT
# Words that a test's assertions are made of: `load words`.
# shellcheck shell=bash

# not COMMAND...: it says no. bash lets a plain "! COMMAND" pass under set -e. One that could not ask
# has said nothing: there was no such command, or no such file (2, from grep, cmp, diff and test).
not() {
    local status=0
    "$@" || status=$?
    case $status in
    2 | 126 | 127)
        echo "status $status: $*" >&2
        return 1
        ;;
    esac
    [ "$status" != 0 ]
}
