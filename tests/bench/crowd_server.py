"""A server of many connections, for `make bench`: it says its port, and answers a GET, and nothing else.
SPDX-License-Identifier: MIT"""
import select
import socket

listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
listener.setblocking(False)
print(listener.getsockname()[1], flush=True)
epoll = select.epoll()
epoll.register(listener, select.EPOLLIN)
connections = {}
while True:
    for fd, _ in epoll.poll():
        if fd == listener.fileno():
            try:
                connection = listener.accept()[0]
            except OSError: # a drain has taken it
                continue
            connections[connection.fileno()] = connection
            epoll.register(connection, select.EPOLLIN)
            continue
        request = connections[fd].recv(1000)
        if request.startswith(b"GET"):
            connections[fd].send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        elif not request:
            epoll.unregister(fd)
            connections.pop(fd).close()
