#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Dialogs of many commands, whose client pauses for 50 ms before each, in mode reply: at whatever
# moment a drain comes, a dialog is finished or closed between two commands, never in the middle of
# one.
# mutant: shim/drain/drain_state.c: s/settle = at_least\(settings->settle\)/settle = 0/
# needs: dovecot-imapd
# seconds: 31
# shellcheck shell=bash disable=SC2030,SC2031,SC2034,SC2154

load helpers
unset WEIR_MODE # the default, protocol
load configs

setup() {
    port=$((19000 + 10 * BATS_TEST_NUMBER))
    temporary=$BATS_TEST_TMPDIR
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR"/* "$temporary" # servers have users of their own
    : >"$temporary/weir.log"
    chmod 666 "$temporary/weir.log"
    LOGGED+=(weir)
}

# In the foreground; a process for each client.
start_exim() {
    needs_users
    mkdir "$temporary/spool"
    chown Debian-exim: "$temporary/spool"
    cat >"$temporary/exim.conf" <<END2
spool_directory = $temporary/spool
log_file_path = $temporary/spool/%slog
pid_file_path = $temporary/spool/pid
primary_hostname = localhost
host_lookup =
rfc1413_hosts =
tls_advertise_hosts =
smtp_accept_max = 500
smtp_connect_backlog = 1000
smtp_load_reserve = 1000.0
queue_only = true
acl_smtp_rcpt = accept
acl_smtp_data = accept
begin acl
begin routers
begin transports
END2
    serve server "WEIR_LOG=$temporary/weir.log" "$@" -- exim4 -bdf -C "$temporary/exim.conf" \
        -oX "127.0.0.1 : $port" -oP "$temporary/spool/pid"
    wait_port "$port"
}

# dovecot_VERSION: what each says in a way of its own, of `names` and the mail's place. It comes first.
dovecot_23() {
    local service
    cat <<END2
disable_plaintext_auth = no
import_environment = TZ CORE_OUTOFMEM ${names[*]}
mail_location = maildir:~/Maildir
passdb {
    driver = static
    args = nopassword
}
userdb {
    driver = static
    args = uid=mail gid=mail home=$temporary/mail/%u
}
END2
    for service in director:director-admin doveadm:doveadm-server replicator:replicator \
        aggregator:replication-notify old-stats:old-stats; do
        printf 'service %s {\n unix_listener %s {\n mode = 0\n }\n}\n' "${service%:*}" "${service#*:}"
    done
}

dovecot_24() {
    local name
    cat <<END2
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
passdb static {
    fields {
        nopassword = yes
    }
}
userdb static {
    fields {
        uid = mail
        gid = mail
        home = $temporary/mail/%{user}
    }
}
import_environment {
END2
    for name in "${names[@]}"; do
        echo "    $name = %{env:$name}"
    done
    echo '}'
}

# A process that takes the log-ins, and hands each client to one of its own. Dovecot empties its
# children's environment, but for the names that it is told: WEIR_TREE says whose they are.
start_dovecot() {
    local name names=(LD_PRELOAD WEIR_TREE) mode=reply
    needs_users
    mkdir -p "$temporary/mail/user/Maildir"
    chown -R mail: "$temporary/mail"
    for name in WEIR_LOG WEIR_MODE "$@"; do
        names+=("${name%%=*}")
    done
    cat >"$temporary/dovecot.conf" <<END2
$("dovecot_$(dovecot --version | sed 's/\(2\.[34]\).*/\1/; s/\.//')")
base_dir = $temporary/run
state_dir = $temporary/state
log_path = /dev/stderr
protocols = imap
listen = 127.0.0.1
ssl = no
mail_max_userip_connections = 0
default_process_limit = 400
first_valid_uid = 1
first_valid_gid = 1
service dict {
    unix_listener dict {
        mode = 0
    }
}
service dict-async {
    unix_listener dict-async {
        mode = 0
    }
}
service imap-login {
    inet_listener imap {
        port = $port
    }
    inet_listener imaps {
        port = 0
    }
}
END2
    # What its processes say to each other, by sockets of their own, takes no part in a drain.
    serve_bare first -- dovecot -F -c "$temporary/dovecot.conf"
    wait_until 20 log_has first 'starting up' # which it says when all of them are there
    for name in "$temporary"/run/* "$temporary"/run/*/*; do
        [ ! -S "$name" ] || mode+=",unix:$name=off"
    done
    # Not by KILL: it may hold a lock that the next one would wait for.
    kill -TERM "$SERVER_PID"
    wait_gone "$SERVER_PID"
    end_started 2>"$temporary/ended"
    LOGGED=(weir)
    serve server "WEIR_LOG=$temporary/weir.log" "WEIR_MODE=$mode" "$@" -- \
        dovecot -F -c "$temporary/dovecot.conf"
    wait_port "$port"
}

# Two processes for each client.
start_vsftpd() {
    needs_users
    mkdir "$temporary/files"
    head -c 1500000 /dev/zero >"$temporary/files/slow"
    head -c 10 /dev/zero >"$temporary/files/small"
    {
        vsftpd_lines "$temporary/files"
        echo anon_max_rate=1000000
    } >"$temporary/vsftpd.conf"
    serve server "WEIR_LOG=$temporary/weir.log" "$@" -- vsftpd "$temporary/vsftpd.conf"
    wait_port "$port"
}

# dialogs PROTOCOL COUNT STAGGER [MORE]: in the background, until the first are nearly over.
dialogs() {
    new_log dialogs
    /usr/bin/python3 "$ROOT/tests/programs/dialog_client.py" "$1" "$port" "$2" "$3" 3>&- \
        >"$temporary/dialogs.log" 2>&1 &
    CLIENTS=$!
    LOGGED+=(dialogs)
    STARTED+=("$CLIENTS")
    wait_until 20 log_has dialogs 'under way'
}

# all_end_well COUNT: so many dialogs have ended, and none in the middle of a command.
all_end_well() {
    wait "$CLIENTS"
    sort "$temporary/dialogs.log" | uniq -c
    not log_has dialogs 'LOST|Error'
    [ "$(grep -Ec '^(finished|closed before .*|refused)$' "$temporary/dialogs.log")" = "$1" ]
}

# drained SECONDS
drained() {
    wait_drained weir "$1"
    log_has weir ': drained in [0-9.]+m?s: .* 0 forced; the program runs on$'
    alive "$SERVER_PID"
}

@test "without a drain each of the dialogs is finished" {
    start_exim
    dialogs smtp 2 1
    all_end_well 2
    [ "$(grep -c finished "$temporary/dialogs.log")" = 2 ]
    end_started
    LOGGED=(weir)
    start_dovecot
    dialogs imap 2 1
    all_end_well 2
    [ "$(grep -c finished "$temporary/dialogs.log")" = 2 ]
    end_started
    start_vsftpd
    dialogs ftp 2 1
    all_end_well 2
    [ "$(grep -c finished "$temporary/dialogs.log")" = 2 ]
}

# A connection on which nobody has spoken for WEIR_FIRST_BYTE is closed; on a busy machine exim and
# dovecot greet later than a second after the accept, since their children have to start first.
GREETS_LATE="WEIR_FIRST_BYTE=5s"

@test "SMTP (exim): a dialog is finished or closed between two commands, whenever the drain comes" {
    start_exim WEIR_SIGNAL=RTMIN+3 "$GREETS_LATE"
    dialogs smtp 60 20
    kill -s RTMIN+3 "$SERVER_PID"
    all_end_well 60
    drained 5
}

@test "IMAP (dovecot): a dialog is finished or closed between two commands, whenever the drain comes" {
    start_dovecot WEIR_SIGNAL=RTMIN+3 "$GREETS_LATE"
    dialogs imap 60 20
    kill -s RTMIN+3 "$SERVER_PID"
    all_end_well 60
    drained 5
}

@test "FTP (vsftpd): a dialog, and its transfer, is finished or closed between two commands" {
    start_vsftpd WEIR_SIGNAL=RTMIN+3
    dialogs ftp 40 100
    kill -s RTMIN+3 "$SERVER_PID"
    all_end_well 40
    drained 10
}

# Dovecot's processes ask each other by AF_UNIX sockets, on which their master listens: as long as one
# has a client of its own, they go on.
@test "IMAP (dovecot): who logs in when the drain comes is logged in, and served" {
    local client line
    start_dovecot WEIR_MODE=reply "$GREETS_LATE"
    exec {client}<>"/dev/tcp/127.0.0.1/$port"
    read -r -t 20 -u "$client" line
    printf 'a LOGIN user sec' >&"$client"
    pause 0.3
    kill -USR2 "$SERVER_PID"
    wait_until 10 log_has weir 'draining: '
    pause 1 # what nobody needs has ended by then
    printf 'ret\r\n' >&"$client"
    read -r -t 20 -u "$client" line
    has "$line" 'a OK'
    printf 'b LOGOUT\r\n' >&"$client"
    read -r -t 20 -u "$client" line
    has "$line" '* BYE'
    exec {client}>&-
}

# Dovecot's auth asks its anvil so at each log-in, and ends where that has closed.
@test "a helper that is asked the same without a pause stays as long as a client waits" {
    local client line
    serve server "WEIR_LOG=$temporary/weir.log" -- /usr/bin/python3 \
        "$ROOT/tests/programs/helper_asked.py" "$port" "$temporary/helper" "$temporary/asked"
    wait_port "$port"
    exec {client}<>"/dev/tcp/127.0.0.1/$port"
    echo ask >&"$client"
    kill -USR2 "$SERVER_PID"
    wait_until 10 log_has weir 'draining: '
    pause 1 # so many answers that are alike show a client that waits for them
    touch "$temporary/asked"
    read -r -t 20 -u "$client" line
    has "$line" 'asked '
    drained 10
    exec {client}>&-
}

# As Dovecot's imap-login hands them to imap.
@test "a client that goes from process to process is not overlooked by those who are asked for it" {
    local client line feeder
    serve server "WEIR_LOG=$temporary/weir.log" -- /usr/bin/python3 \
        "$ROOT/tests/programs/handed_round.py" "$port" "$temporary" "$temporary/enough"
    wait_port "$port"
    exec {client}<>"/dev/tcp/127.0.0.1/$port"
    head -c 100000 /dev/zero >&"$client" # of which each reads a byte
    kill -USR2 "$SERVER_PID"
    wait_until 10 log_has weir 'draining: '
    touch "$temporary/enough"
    read -r -t 20 -u "$client" line
    has "$line" asked
    exec {client}>&-
}
