#!/bin/bash
# SPDX-License-Identifier: MIT
# mosquitto_sub comes back when its broker goes away: it subscribes again as soon as there is a broker.
# Not so where a broker of MQTT 5 says goodbye first, by a DISCONNECT with a reason such as 0x8B (server
# shutting down): then it ends for good, without a word, and with exit code 0. A goodbye that was meant
# to help costs the client.
#
# Seen: mosquitto-clients and libmosquitto1 2.0.11-1.2+deb12u2, Debian 12, a broker that ends after 0.3 s:
#   closed: it comes again
#   DISCONNECT 0x8B, closed: it ends with 0, and says nothing
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
    version=$(apt-cache madison mosquitto-clients | awk '$3 ~ /^2\.0\.11/ { print $3; exit }')
    apt-get -qq download "mosquitto-clients=$version" "libmosquitto1=$version" libcjson1 >/dev/null 2>&1
    for package in *.deb; do
        dpkg-deb -x "$package" .
    done
    unshare --net --pid --fork --kill-child --mount-proc "$script"
    exit
fi

cd "$at"
ip link set lo up
export LD_LIBRARY_PATH=$at/usr/lib/x86_64-linux-gnu
/usr/bin/python3 - >said <<'END'
import socket
import subprocess
import time

CONNACK, SUBACK, SHUTTING_DOWN = b"\x20\3\0\0\0", b"\x90\4\0\1\0\0", b"\xe0\2\x8b\0"
listener = socket.create_server(("127.0.0.1", 1883))
listener.settimeout(20)

for name, goodbye in ("closed", b""), ("DISCONNECT 0x8B, closed", SHUTTING_DOWN):
    client = subprocess.Popen(["usr/bin/mosquitto_sub", "-V", "5", "-h", "127.0.0.1", "-t", "a"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with listener.accept()[0] as broker:
        broker.recv(4096)
        broker.sendall(CONNACK)
        broker.recv(4096)
        broker.sendall(SUBACK)
        time.sleep(0.3)
        broker.sendall(goodbye)
    if goodbye:
        says = client.communicate(timeout=20)[0] or "nothing"
        print(f"{name}: it ends with {client.returncode}, and says {says}")
    else:
        with listener.accept()[0]:
            print(f"{name}: it comes again")
        client.kill()
        client.wait()
END
cat said
diff - said <<'END' >/dev/null
closed: it comes again
DISCONNECT 0x8B, closed: it ends with 0, and says nothing
END
