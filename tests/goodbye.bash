# SPDX-License-Identifier: MIT
# Clients that keep the truth about how they were answered and told (ws_client.py, pg_client.py), and a
# drain that loses nothing: `load goodbye`. CLIENT is the program, `server` the pid, `port` its port.
# shellcheck shell=bash disable=SC2034,SC2154

# Is there when the drain has begun: what a client is to do in it waits for that.
export DRAINS=${BATS_TEST_TMPDIR:-/nonexistent}/drains

# client NAME HOW...: in the background, when it is ready.
client() {
    serve_bare "$1" -- /usr/bin/python3 "$ROOT/tests/programs/$CLIENT" "$port" "${@:2}"
    wait_until 20 log_has "$1" '^ready$'
}

# drains: 0, nothing was lost; `took` milliseconds.
drains() {
    local began
    began=$(now_ms)
    { wait_until 30 log_has server ': draining: ' && : >"$DRAINS"; } 3>&- &
    also_end "$!" # it may not come: Apache says it elsewhere
    timeout 70 "$ROOT/build/weir" drain --wait "$server" >"$BATS_TEST_TMPDIR/drained" 2>&1 || {
        cat "$BATS_TEST_TMPDIR/drained"
        return 1
    }
    took=$(($(now_ms) - began))
    grep -q ': drained in .* 0 forced' "$BATS_TEST_TMPDIR/drained"
}

# says NAME LINE: a client that has ended.
says() {
    wait_until 10 log_has "$1" '^answered '
    log_has "$1" "^$2$"
}
