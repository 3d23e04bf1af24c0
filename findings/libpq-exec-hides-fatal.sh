#!/bin/sh
# SPDX-License-Identifier: MIT
# PostgreSQL says FATAL, 57P01, to a session that it ends (pg_terminate_backend, a stop), and closes it.
# For the statement that meets that, libpq 15's PQgetResult gives two results: one with the code 57P01, and
# one without any code, "server closed the connection unexpectedly". PQexec gives the last one alone. So
# who uses PQexec (psycopg2: its error is an OperationalError whose pgcode is None) can't tell a planned
# end, after which it may try again, from a crash; only PQerrorMessage, a text, has both. psql and who
# else takes results one by one can tell.
#
# Seen: libpq5 and postgresql-15 15.18-0+deb12u1, python3-psycopg2 2.9.5-1+b1, Debian 12:
#   PQsendQuery, PQgetResult: 57P01, then no code
#   PQexec: no code
#   psycopg2: OperationalError, pgcode None
#
# What follows installs them in a temporary folder, runs them on 127.0.0.1 in a network of its own, and
# exits with 1 if that has changed.
set -eu
export LC_ALL=C
script=$(realpath "$0")

if [ -z "${ISOLATED:-}" ]; then
    export ISOLATED=1
    at=$(mktemp -d)
    export at
    trap 'rm -rf "$at"' EXIT
    cd "$at"
    chmod 755 .
    apt-get -qq update
    version=$(apt-cache madison postgresql-15 | awk '$3 ~ /^15\./ { print $3; exit }')
    apt-get -qq download "postgresql-15=$version" "libpq5=$version" python3-psycopg2=2.9.5-1+b1 \
        libicu72 libxml2 libldap-2.5-0 libsasl2-2 >/dev/null 2>&1
    for package in *.deb; do
        dpkg-deb -x "$package" .
    done
    mkdir data
    chown nobody data
    unshare --net --pid --fork --kill-child --mount-proc "$script"
    exit
fi

cd "$at"
ip link set lo up
export LD_LIBRARY_PATH="$at/usr/lib/x86_64-linux-gnu" PYTHONPATH="$at/usr/lib/python3/dist-packages"
export PGHOST=127.0.0.1 PGPORT=5432 PGUSER=admin PGDATABASE=postgres PGSSLMODE=disable
bin=$at/usr/lib/postgresql/15/bin
as_nobody="setpriv --reuid nobody --regid nogroup --clear-groups"
$as_nobody "$bin/initdb" -A trust -U admin --no-sync -D data >initdb.log 2>&1
$as_nobody "$bin/postgres" -D data -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    >postgres.log 2>&1 </dev/null &

/usr/bin/python3 - >said <<'END'
import ctypes
import select
import time
import psycopg2

libpq = ctypes.CDLL("libpq.so.5")
for function in libpq.PQconnectdb, libpq.PQexec, libpq.PQgetResult:
    function.restype = ctypes.c_void_p
libpq.PQresultErrorField.restype = ctypes.c_char_p

for _ in range(100):
    try:
        manager = psycopg2.connect("")
        break
    except psycopg2.OperationalError:
        time.sleep(0.2)
manager.autocommit = True


def end_others(fd):
    """Ends each session but our own, and waits for the word of it."""
    manager.cursor().execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                             " AND backend_type = 'client backend'")
    select.select([fd], [], [], 10)


def ended_session():
    connection = ctypes.c_void_p(libpq.PQconnectdb(b""))
    end_others(libpq.PQsocket(connection))
    return connection


def code(result):
    value = libpq.PQresultErrorField(ctypes.c_void_p(result), ord("C"))  # PG_DIAG_SQLSTATE
    return value.decode() if value else "no code"


connection = ended_session()
libpq.PQsendQuery(connection, b"SELECT 1")
codes = []
while result := libpq.PQgetResult(connection):
    codes.append(code(result))
print("PQsendQuery, PQgetResult:", ", then ".join(codes))

print("PQexec:", code(libpq.PQexec(ended_session(), b"SELECT 1")))

connection = psycopg2.connect("")
end_others(connection.fileno())
try:
    connection.cursor().execute("SELECT 1")
except psycopg2.Error as error:
    print(f"psycopg2: {type(error).__name__}, pgcode {error.pgcode}")
END
cat said
diff - said <<'END' >/dev/null
PQsendQuery, PQgetResult: 57P01, then no code
PQexec: no code
psycopg2: OperationalError, pgcode None
END
