/* epoll_behind PORT: a server whose epoll is told of its listener in a way that no wrapper can see.
 * SPDX-License-Identifier: MIT
 *
 * libuv adds descriptors by io_uring. Says each client that it accepts, and each time that it is
 * woken for none.
 */
#define _GNU_SOURCE
#include "inline_call.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 100))
        err(1, "port %s", argv[1]);
    if (inline_call(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, listener, (long)&event) < 0)
        errx(1, "epoll_ctl");
    for (;;) {
        if (epoll_wait(epoll, &event, 1, -1) < 1)
            continue;
        int client = accept4(event.data.fd, NULL, NULL, 0);
        if (client < 0 && errno != EAGAIN)
            err(1, "accept");
        fprintf(stderr, client < 0 ? "woken for nobody\n" : "accepted\n");
        if (client >= 0)
            close(client);
    }
}
