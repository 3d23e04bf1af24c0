#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""fleet_agent.py PORT WEIR FILE: tells HAProxy's agent-check of the server whose pid is in FILE: "drain",
unless the phase of `WEIR status PID --json` is "serving"."""
import socket
import subprocess
import sys

port, weir, file = sys.argv[1:]
listener = socket.create_server(("", int(port)))
while True:
    client, _ = listener.accept()
    with client, open(file) as pid:
        command = [weir, "status", pid.read().strip(), "--json"]
        status = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        serving = b'"phase": "serving"' in status.stdout
        try:
            client.sendall(b"ready\n" if serving else b"drain\n")
        except ConnectionError:
            pass  # it has asked for too long
