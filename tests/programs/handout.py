# SPDX-License-Identifier: MIT
"""A server that hands its connections to a pool of processes: handout.py PORT spawn|fork

What multiprocessing sends is duplicated, closed by its owner, and passed over a UNIX socket.
"""
import multiprocessing
import socket
import sys


def work(pipe):
    while True:
        connection = pipe.recv()
        with connection:
            connection.sendall(b"worker: " + connection.recv(100))


def main():
    multiprocessing.set_start_method(sys.argv[2])
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    pipes = []
    for _ in range(2):
        ours, theirs = multiprocessing.Pipe()
        multiprocessing.Process(target=work, args=(theirs,), daemon=True).start()
        pipes.append(ours)
    listener.listen(100)
    turn = 0
    while True:
        connection, _ = listener.accept()
        pipes[turn % len(pipes)].send(connection)
        connection.close()
        turn += 1


if __name__ == "__main__":
    main()
