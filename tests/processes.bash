# SPDX-License-Identifier: MIT
# The processes of a server's tree: `load processes` after helpers.
# shellcheck shell=bash

# descendants PID: those that live, a line each.
descendants() {
    local list child children
    for list in "/proc/$1/task"/*/children; do
        children=()
        { read -r -a children <"$list"; } 2>/dev/null || true # no newline ends it; and it may be gone
        for child in "${children[@]}"; do
            echo "$child"
            descendants "$child"
        done
    done
}

# has_forked PID: a worker. nginx's master loses a signal that comes before: it is only noted until others
# are blocked, and then waited for.
has_forked() {
    [ -n "$(<"/proc/$1/task/$1/children")" ]
}

# child_of NUMBER: the pid of the child that the server named as that one ("child PID", a line each)
# goes to `child`.
child_of() {
    wait_until 2 has_children "$1"
    child=$(log server | sed -n 's/^child //p' | sed -n "$1p")
    also_end "$child"
}

has_children() {
    log_has server '^child ' && [ "$(log server | grep -c '^child ')" -ge "$1" ]
}
