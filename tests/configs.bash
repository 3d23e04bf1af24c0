# SPDX-License-Identifier: MIT
# What the configurations of servers that several files start have in common: `load configs`.
# shellcheck shell=bash disable=SC2154

# nginx_paths: of its http block, so that it writes in the test's directory alone.
nginx_paths() {
    local what
    for what in client_body proxy fastcgi uwsgi scgi; do
        echo "${what}_temp_path $BATS_TEST_TMPDIR/$what;"
    done
}

# nginx_user: a line of nginx's configuration: who its workers are.
nginx_user() {
    if has_users; then echo 'user nobody nogroup;'; else echo 'user root;'; fi
}

# vsftpd_lines FILES: it serves FILES to anonymous on $port. Without its seccomp sandbox, as Debian has
# it, unless `sandbox` is YES.
vsftpd_lines() {
    mkdir "$BATS_TEST_TMPDIR/empty"
    cat <<END
listen=YES
listen_address=127.0.0.1
listen_port=$port
background=NO
anonymous_enable=YES
anon_root=$1
xferlog_enable=NO
seccomp_sandbox=${sandbox:-NO}
secure_chroot_dir=$BATS_TEST_TMPDIR/empty
pasv_address=127.0.0.1
END
}

for postgres_bin in /usr/lib/postgresql/*/bin; do :; done # Debian has a directory for each version
as_postgres=(setpriv --reuid postgres --regid postgres --init-groups env HOME=/)

# postgres [VAR=value...]: PostgreSQL, which refuses to run as root, on $port, and at a path in `sockets`
# if that is set; with the options `postgres_also`. The cluster is one for all tests of a file, made when the first needs it.
postgres() {
    local cluster=$BATS_FILE_TMPDIR/cluster
    needs_users
    cd /
    [ -d "$cluster" ] || {
        chmod 755 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/file" "$BATS_FILE_TMPDIR"
        mkdir "$cluster"
        chown postgres "$cluster"
        "${as_postgres[@]}" "$postgres_bin/initdb" -A trust -U postgres --no-sync --no-instructions \
            -D "$cluster" >"$BATS_TEST_TMPDIR/initdb.log" 3>&-
    }
    serve_bare server -- "${as_postgres[@]}" "LD_PRELOAD=$WEIR_LIB" "$@" \
        "$postgres_bin/postgres" -D "$cluster" -p "$port" -c listen_addresses=127.0.0.1 \
        -c "unix_socket_directories=${sockets:-}" -c fsync=off -c log_min_messages=fatal \
        "${postgres_also[@]}"
    wait_port "$port"
    wait_until 10 "$postgres_bin/pg_isready" -q -h 127.0.0.1 -p "$port"
}
