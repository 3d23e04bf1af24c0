# SPDX-License-Identifier: MIT
"""queue_spread.py PORT PID CLIENTS SECONDS: connections to a redis that have rested for different
times (10 ms apart, in another order than that of their numbers). Then PID is drained (RTMIN+3), and for
SECONDS it is watched when each of them is closed. Prints
"closed=N quarters=N,N,N,N order=PERCENT last_ms=N": how many in each quarter of SECONDS, and how
much the order of their ends is that of their rest (100: exactly, 0: not at all)."""
import os
import random
import select
import signal
import socket
import sys
import time

port, pid, count, seconds = (int(text) for text in sys.argv[1:])


def ask(client):
    client.sendall(b"PING\r\n")
    client.recv(10)


clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
for client in clients:
    ask(client)
random.seed(1)
random.shuffle(clients)
for client in clients:
    ask(client)
    time.sleep(0.01)
time.sleep(0.2)

rank = {client: number for number, client in enumerate(clients)}
since = time.monotonic()
os.kill(pid, signal.SIGRTMIN + 3)
ends = []
while rank and time.monotonic() < since + seconds + 1:
    for client in select.select(list(rank), [], [], 0.01)[0]:
        if client.recv(10) == b"":
            ends.append((time.monotonic() - since, rank.pop(client)))

quarters = [sum(4 * end // seconds == quarter for end, _ in ends) for quarter in range(4)]
distance = sum((place - number) ** 2 for place, (_, number) in enumerate(ends))
order = 1 - 6 * distance / (count * (count * count - 1))
print(f"closed={len(ends)} quarters={','.join(map(str, quarters))} order={int(100 * order)}"
      f" last_ms={int(1000 * ends[-1][0]) if ends else 0}")
