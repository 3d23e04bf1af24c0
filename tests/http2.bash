# SPDX-License-Identifier: MIT
# Servers of HTTP/2 in the clear, under the shim unless `how` is serve_bare: `load http2` after helpers and
# configs. SERVER_PID, on $port. Where `tls` is a directory, nginx, HAProxy and Apache speak TLS by the
# key.pem, certificate.pem and both.pem in it.
# shellcheck shell=bash disable=SC2154

begins() {
    "${how:-serve}" server WEIR_TIMEOUT=15s "$@"
}

start_node() {
    begins "$@" -- node "$ROOT/tests/programs/h2_server.js" "$port"
    [ "${port#/}" != "$port" ] || wait_port "$port"
    [ "${port#/}" = "$port" ] || wait_until 10 listening_unix "$port"
}

# start_slow: what answers /slowN after N seconds, in HTTP/1.1, behind a proxy.
start_slow() {
    serve_bare slow -- /usr/bin/python3 "$ROOT/tests/programs/slow_server.py" $((port + 1))
    wait_port $((port + 1))
}

start_nginx() {
    local at=$BATS_TEST_TMPDIR
    start_slow
    cat >"$at/nginx.conf" <<END2
daemon off;
master_process off;
$(nginx_user)
pid $at/nginx.pid;
events {}
http {
    access_log off;
    $(nginx_paths)
    server {
        listen 127.0.0.1:$port ${tls:+ssl} http2;
        ${tls:+ssl_certificate $tls/certificate.pem; ssl_certificate_key $tls/key.pem;}
        root $at/www;
        location /slow { proxy_pass http://127.0.0.1:$((port + 1)); }
    }
}
END2
    mkdir "$at/www" && echo 'It works' >"$at/www/index.html"
    begins -- nginx -c "$at/nginx.conf" -e "$at/nginx.err"
    wait_port "$port"
}

start_haproxy() {
    start_slow
    cat >"$BATS_TEST_TMPDIR/haproxy.cfg" <<END2
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
listen web
    bind 127.0.0.1:$port ${tls:+ssl crt $tls/both.pem alpn h2,http/1.1} $([ -n "${tls:-}" ] || echo proto h2)
    server slow 127.0.0.1:$((port + 1))
END2
    begins -- haproxy -db -f "$BATS_TEST_TMPDIR/haproxy.cfg"
    wait_port "$port"
}

start_apache() {
    local at=$BATS_TEST_TMPDIR modules=/usr/lib/apache2/modules
    start_slow
    mkdir "$at/www" && echo 'It works' >"$at/www/index.html"
    cat >"$at/apache.conf" <<END2
ServerName localhost
ServerRoot $at
PidFile $at/apache.pid
Mutex file:$at
ErrorLog $at/apache.err
Listen 127.0.0.1:$port
DocumentRoot $at/www
LoadModule mpm_event_module $modules/mod_mpm_event.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule dir_module $modules/mod_dir.so
LoadModule http2_module $modules/mod_http2.so
LoadModule proxy_module $modules/mod_proxy.so
LoadModule proxy_http_module $modules/mod_proxy_http.so
DirectoryIndex index.html
Protocols ${tls:+h2} h2c http/1.1
${tls:+LoadModule ssl_module $modules/mod_ssl.so
SSLEngine on
SSLCertificateFile $tls/certificate.pem
SSLCertificateKeyFile $tls/key.pem}
ProxyPassMatch ^(/slow.*)$ http://127.0.0.1:$((port + 1))\$1
StartServers 1
ServerLimit 1
KeepAliveTimeout 60
END2
    begins -- setsid apache2 -f "$at/apache.conf" -DFOREGROUND
    wait_port "$port"
}

start_h2o() {
    local at=$BATS_TEST_TMPDIR
    start_slow
    mkdir "$at/www" && echo 'It works' >"$at/www/index.html"
    cat >"$at/h2o.conf" <<END2
listen: { host: 127.0.0.1, port: $port }
user: root
num-threads: 2
hosts:
  default:
    paths:
      /: { file.dir: $at/www }
$(for n in 1 2 3; do echo "      /slow$n: { proxy.reverse.url: \"http://127.0.0.1:$((port + 1))/slow$n\" }"; done)
END2
    begins -- h2o -c "$at/h2o.conf"
    wait_port "$port"
}

start_hypercorn() {
    begins -- /usr/bin/python3 -m hypercorn --bind "127.0.0.1:$port" \
        "$ROOT/tests/programs/asgi_server.py:serve"
    wait_port "$port"
}

start_nghttpd() {
    mkdir "$BATS_TEST_TMPDIR/www" && echo 'It works' >"$BATS_TEST_TMPDIR/www/index.html"
    begins -- \
        nghttpd --no-tls -a 127.0.0.1 -d "$BATS_TEST_TMPDIR/www" "$port"
    wait_port "$port"
}
