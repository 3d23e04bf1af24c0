#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# TLS, in mode protocol: an idle connection ends with the word that its program has for that, a
# close_notify as a rule, and the FIN behind it; of a program that says nothing, with the FIN alone.
# Clients that look before they send lose nothing by the moment between the end and that word.
# mutant: shim/http/tracker.c: s/request.what == TLS_HANDSHAKE/false/
# needs: h2o nginx-light apache2 haproxy nodejs redis-server postgresql openssl
# seconds: 26
# shellcheck disable=SC2030,SC2031,SC2034,SC2154

load helpers
load configs
load goodbye
unset WEIR_MODE # the default, protocol
CLIENT=tls_client.py

setup_file() {
    cd "$BATS_FILE_TMPDIR" || return
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
        -keyout key.pem -out certificate.pem 2>openssl.log
    cat certificate.pem key.pem >both.pem
}

setup() {
    port=$((27000 + 10 * BATS_TEST_NUMBER))
    at=$BATS_TEST_TMPDIR
    key=$BATS_FILE_TMPDIR/key.pem certificate=$BATS_FILE_TMPDIR/certificate.pem
    mkdir "$at/www" && echo 'It works' >"$at/www/index.html"
}

# begins COMMAND...: under the shim, and listens.
begins() {
    serve server WEIR_TIMEOUT=20s WEIR_SIGNAL=RTMIN+3 -- "$@"
    server=$SERVER_PID
    wait_port "$port"
}

# tells: drains, and says of how many clients a request came in while their connection was closed.
tells() {
    local status=0
    timeout 70 "$ROOT/build/weir" drain --wait "$server" >"$at/drained" 2>&1 || status=$?
    cat "$at/drained"
    told=$(sed -En 's/.*: drained in .* ([0-9]+) forced, \1 of them in use$/\1/p' "$at/drained")
    [ "$status" = $((told > 0 ? 3 : 0)) ]
}

# ends_well KIND HOW: ten idle connections end so; those that ask every quarter of a second, and are
# found idle between, lose nothing but what is told; on a busy machine a request may come in right
# between the last look and the FIN.
ends_well() {
    client idle "$1" 10 0
    client busy "$1" 20 0.25
    tells
    [ "$told" -le 2 ]
    wait_until 20 log_has idle '^answered '
    log_has idle "^answered 10, lost 0, ended by \\{'$2': 10\\}$"
    wait_until 70 log_has busy '^answered '
    log_has busy "^answered [0-9]+, lost $told, ended by "
    lacks "$(log busy)" reset
}

haproxy_config() {
    cat >"$at/haproxy.cfg" <<END2
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend web
    bind 127.0.0.1:$port ssl crt $BATS_FILE_TMPDIR/both.pem
    http-request return status 200 content-type text/plain string "It works"
END2
}

# never_rests KIND: clients that ask for the next thing 5 to 15 ms after each answer don't keep a drain
# from its end, and lose nothing.
never_rests() {
    client restless "$1" 10 0.01
    tells
    [ "$told" -le 1 ]
    wait_until 20 log_has restless '^answered '
    log_has restless "^answered [0-9]+, lost $told, ended by "
}

apache() {
    cat >"$at/apache.conf" <<END2
ServerName localhost
ServerRoot $at
PidFile $at/apache.pid
Mutex file:$at
ErrorLog $at/apache.err
Listen 127.0.0.1:$port
DocumentRoot $at/www
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
DirectoryIndex index.html
SSLEngine on
SSLCertificateFile $certificate
SSLCertificateKeyFile $key
StartServers 1
ServerLimit 1
KeepAliveTimeout 60
MaxKeepAliveRequests 0
END2
    begins setsid apache2 -f "$at/apache.conf" -DFOREGROUND
}

@test "Apache: an idle connection ends with a close_notify" {
    apache
    ends_well http close_notify
}

# Apache throws away what it has not read, before it closes, and the client has left by then.
@test "Apache, held up between the last look and the FIN: each request that came in is told as lost" {
    apache
    client busy http 20 0.25
    serve_bare strace -- strace -f -qq -o "$at/trace" -e trace=shutdown \
        -e inject=shutdown:delay_enter=100000 -p "$(pgrep -P "$server")"
    wait_until 10 grep -q '^TracerPid:.*[1-9]' /proc/"$(pgrep -P "$server")"/status
    tells
    wait_until 70 log_has busy '^answered '
    log busy
    [ "$told" -gt 0 ]
    log_has busy "^answered [0-9]+, lost $told, ended by "
}

@test "HAProxy: an idle connection ends with a close_notify" {
    haproxy_config
    begins haproxy -db -f "$at/haproxy.cfg"
    ends_well http close_notify
}

@test "Node: an idle connection ends with a close_notify" {
    begins node "$ROOT/tests/programs/tls_server.js" "$port" "$key" "$certificate"
    ends_well http close_notify
}

# serves_new COUNT: so many new connections.
serves_new() {
    local i
    for ((i = 0; i < $1; i++)); do
        curl -sfk --http1.1 -m 10 "https://127.0.0.1:$port/" >"$at/answer"
        grep -q 'It works' "$at/answer"
    done
}

# Its threads have it sign by a process of its own, and abort where that has closed their connection.
@test "h2o: the process that has its key is asked on after a close-idle, and until the drain is over" {
    command -v h2o >/dev/null || skip "there is no h2o"
    needs_users
    cat >"$at/h2o.conf" <<END2
user: root
num-threads: 2
pid-file: $at/pid
listen: { host: 127.0.0.1, port: $port, ssl: { certificate-file: $certificate, key-file: $key } }
hosts: { default: { paths: { /: { file.dir: $at/www } } } }
END2
    begins h2o -c "$at/h2o.conf"
    serves_new 8
    timeout 10 "$ROOT/build/weir" close-idle "$server"
    wait_until 10 log_has server ': closing idle connections: '
    serves_new 8
    client busy http 20 0.25
    tells
    [ "$told" -le 2 ]
    wait_until 70 log_has busy '^answered '
    log_has busy "^answered [0-9]+, lost $told, ended by "
    alive "$server"
}

@test "PostgreSQL: an idle session ends with a close_notify" {
    needs_users
    cp "$key" "$certificate" "$at" && chown postgres "$at" "$at"/*.pem
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test" "$at"
    postgres_also=(-c ssl=on -c "ssl_key_file=$at/key.pem" -c "ssl_cert_file=$at/certificate.pem")
    postgres WEIR_TIMEOUT=20s WEIR_SIGNAL=RTMIN+3 WEIR_RUN_DIR="$at" WEIR_LOG=stderr
    server=$SERVER_PID
    ends_well postgres close_notify
}

@test "nginx says nothing, and the FIN goes out alone" {
    cat >"$at/nginx.conf" <<END2
daemon off;
master_process off;
$(nginx_user)
pid $at/nginx.pid;
events {}
http {
    access_log off;
    $(nginx_paths)
    keepalive_requests 1000000;
    server {
        listen 127.0.0.1:$port ssl;
        ssl_certificate $certificate;
        ssl_certificate_key $key;
        root $at/www;
    }
}
END2
    begins nginx -c "$at/nginx.conf" -e "$at/nginx.err"
    ends_well http FIN
}

@test "Python says nothing, and the FIN goes out alone" {
    begins /usr/bin/python3 "$ROOT/tests/programs/tls_server.py" "$port" "$key" "$certificate"
    ends_well http FIN
}

@test "redis: what OpenSSL says of an end goes out" {
    begins redis-server --bind 127.0.0.1 --port 0 --tls-port "$port" --save '' --dir "$at" \
        --tls-cert-file "$certificate" --tls-key-file "$key" --tls-ca-cert-file "$certificate" \
        --tls-auth-clients no
    ends_well redis TLSV1_ALERT_DECODE_ERROR
}

@test "redis: clients that never rest are closed behind an answer" {
    begins redis-server --bind 127.0.0.1 --port 0 --tls-port "$port" --save '' --dir "$at" \
        --tls-cert-file "$certificate" --tls-key-file "$key" --tls-ca-cert-file "$certificate" \
        --tls-auth-clients no
    never_rests redis
}

@test "HAProxy: clients that never rest are closed behind an answer" {
    haproxy_config
    begins haproxy -db -f "$at/haproxy.cfg"
    never_rests http
}

@test "Python: clients that never rest are closed behind an answer" {
    begins /usr/bin/python3 "$ROOT/tests/programs/tls_server.py" "$port" "$key" "$certificate"
    never_rests http
}
