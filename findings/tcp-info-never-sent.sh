#!/bin/bash
# SPDX-License-Identifier: MIT
# TCP_INFO of a connection on which this side has never sent a byte: tcpi_last_data_sent does not say
# "never", nor a very long time. It counts from the handshake, as if something had been sent then. So
# "the peer spoke last" can't be told by comparing it with tcpi_last_data_recv: where the peer spoke
# right after the handshake both are the same. Only tcpi_data_segs_out (Linux 4.6) tells.
#
# Seen: Linux 6 on x86-64, Python 3.11.2 of Debian 12:
#   data segments sent: 0; last sent 500 ms ago, last received 500 ms ago
#
# In a network of its own; exits with 1 if that has changed. (/usr/bin/python3 is Debian's own.)
set -eu
exec unshare --net --map-root-user sh -c 'ip link set lo up && exec /usr/bin/python3 -' <<'END'
import socket
import struct
import sys
import time

listener = socket.create_server(("127.0.0.1", 8080))
client = socket.create_connection(("127.0.0.1", 8080))
client.sendall(b"x")
server, _ = listener.accept()
server.recv(1)
time.sleep(0.5)
info = server.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
sent, = struct.unpack_from("I", info, 44)  # linux/tcp.h, struct tcp_info
received, = struct.unpack_from("I", info, 52)
segments, = struct.unpack_from("I", info, 156)
print(f"data segments sent: {segments}; last sent {sent} ms ago, last received {received} ms ago")
sys.exit(not (segments == 0 and 400 <= sent <= 5000 and abs(sent - received) <= 20))
END
