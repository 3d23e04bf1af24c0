#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""pool_client.py PORT SECONDS WORKERS: Python's requests (urllib3), with a pool of connections.

Each worker sends one POST after the other, pausing for 0 to 3 ms, each with an id of its own. Where
no connection can be had nothing has been sent, and it tries again. It prints "answered ID" or
"lost ID: WHY", and ends with these when SECONDS are over, or at a SIGTERM."""
import random
import signal
import sys
import threading
import time

import requests
import urllib3.exceptions

port, seconds, workers = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
session = requests.Session()
session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=workers, max_retries=0))
end = time.monotonic() + seconds


def finish(*_):
    global end
    end = 0


def post(id):
    while True:
        try:
            answer = session.post(f"http://127.0.0.1:{port}/slow?0.01", data=id, timeout=10)
        except requests.ConnectionError as error:
            reason = getattr(error.args[0], "reason", error)
            if isinstance(reason, urllib3.exceptions.NewConnectionError):
                time.sleep(0.05)
                continue
            return f"lost {id}: {reason!r}\n"
        if answer.status_code != 200 or answer.text != id:
            return f"lost {id}: {answer.status_code} {answer.text!r}\n"
        return f"answered {id}\n"


def work(worker):
    number = 0
    while time.monotonic() < end:
        number += 1
        sys.stdout.write(post(f"{worker}-{number}"))
        time.sleep(random.uniform(0, 0.003))


signal.signal(signal.SIGTERM, finish)
threads = [threading.Thread(target=work, args=[worker]) for worker in range(workers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
