/* SPDX-License-Identifier: MIT */
/*
 * A process that has drained itself (weir_drain) has a child, which serves: fork_drained PORT.
 * Prints the child's pid once it listens; the child answers each read with what it has read.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "weir.h"

static int listen_on(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 5) < 0)
        exit(1);
    return fd;
}

static void serve(int listener)
{
    char buffer[1000];
    for (;;) {
        struct pollfd polled = {.fd = listener, .events = POLLIN};
        if (poll(&polled, 1, -1) < 0)
            continue;
        int fd = accept(listener, NULL, NULL);
        for (ssize_t got; fd >= 0 && (got = read(fd, buffer, sizeof buffer)) > 0;)
            if (write(fd, buffer, (size_t)got) != got)
                break;
        if (fd >= 0)
            close(fd);
    }
}

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 0;
    close(listen_on(port + 1));
    if (!weir_drain || weir_drain() != 0)
        return 2;
    pid_t child = fork();
    if (child == 0) {
        int listener = listen_on(port);
        printf("child %d\n", (int)getpid());
        fflush(stdout);
        serve(listener);
    }
    waitpid(child, NULL, 0);
    return 0;
}
