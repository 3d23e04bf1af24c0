/* SPDX-License-Identifier: MIT */
/*
 * log_server PORT: an echo server of one poll loop, which ends on TERM by default, never writes to
 * stderr, and answers "signals" with how many SIGPIPE and SIGTTOU it has had.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile sig_atomic_t signals;

static void count(int sig)
{
    (void)sig;
    signals++;
}

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&addr, sizeof addr) || listen(fd, 64))
        exit(1);
    return fd;
}

/* Returns whether the connection goes on. */
static int answer(int fd)
{
    char line[256];
    ssize_t n = read(fd, line, sizeof line - 1);
    if (n <= 0)
        return 0;
    line[n] = '\0';
    if (strcmp(line, "signals\n") == 0)
        n = snprintf(line, sizeof line, "%d\n", (int)signals);
    return send(fd, line, (size_t)n, MSG_NOSIGNAL) == n;
}

int main(int argc, char **argv)
{
    struct pollfd polled[64];
    int count_of = 1;
    if (argc != 2)
        return 2;
    signal(SIGPIPE, count);
    signal(SIGTTOU, count);
    polled[0] = (struct pollfd){.fd = listen_on(atoi(argv[1])), .events = POLLIN};
    for (;;) {
        if (poll(polled, (nfds_t)count_of, -1) < 0)
            continue;
        if (polled[0].revents & POLLIN && count_of < 64) {
            int fd = accept(polled[0].fd, NULL, NULL);
            if (fd >= 0)
                polled[count_of++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
        for (int i = 1; i < count_of; i++) {
            if (polled[i].revents && !answer(polled[i].fd)) {
                close(polled[i].fd);
                polled[i--] = polled[--count_of];
            }
        }
    }
}
