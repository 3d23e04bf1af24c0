# SPDX-License-Identifier: MIT
"""linger_client.py ADDRESS [ASKED [UNTIL [PAUSE]]]: sends ASKED bytes (100000), reads nothing until
UNTIL seconds (1) have passed, then reads slowly, with a PAUSE (0.001) after each 4 KiB. Prints
"asked", and at the end "got N end" or "got N reset". ADDRESS: a port on 127.0.0.1, or unix:PATH."""
import socket
import sys
import time

since = time.monotonic()
address, *rest = sys.argv[1:]
asked, until, pause = [float(text) for text in rest] + [100000, 1, 0.001][len(rest):]
if address.startswith("unix:"):
    client = socket.socket(socket.AF_UNIX)
    client.connect(address[5:])
else:
    client = socket.create_connection(("127.0.0.1", int(address)))
client.sendall(b"?" * int(asked))
print("asked", flush=True)
time.sleep(until)
got, end = 0, "end"
try:
    while piece := client.recv(4096):
        got += len(piece)
        time.sleep(pause)
except ConnectionError:
    end = "reset"
print("got", got, end, flush=True)
