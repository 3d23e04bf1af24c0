/* Where the servers of the tests listen: on a port of 127.0.0.1. SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

/* type: SOCK_STREAM, and SOCK_CLOEXEC or not. */
static inline int listen_on(const char *port, int type, int backlog)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(port)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, type, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, backlog))
        err(1, "port %s", port);
    return listener;
}
