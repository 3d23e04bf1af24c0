/* SPDX-License-Identifier: MIT */
/*
 * A load client for memcached: each connection has one request under way.
 *
 *   ask PORT CONNECTIONS SECONDS      on 127.0.0.1: ask requests=N seconds=S p99_us=T
 */
#include "bench.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static const char question[] = "get key\r\n", end[] = "END\r\n";

enum { CONNECTIONS = 256, TIMES = 4000000 };
static double asked[1024];
static double times[TIMES];

static void ask(int fd)
{
    asked[fd] = now_ns();
    if (write(fd, question, sizeof question - 1) != sizeof question - 1)
        err(1, "write");
}

/* Answers are short: they come in one piece. */
static void answer(int fd)
{
    char buffer[4096];
    ssize_t got = read(fd, buffer, sizeof buffer);
    size_t length = sizeof end - 1;
    if (got < (ssize_t)length || memcmp(buffer + got - length, end, length) != 0)
        errx(1, "no answer (%zd)", got);
}

static int open_one(struct sockaddr_in *to)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || fd >= 1024 || connect(fd, (struct sockaddr *)to, sizeof *to) < 0)
        err(1, "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 4 || atoi(argv[2]) < 1 || atoi(argv[2]) > CONNECTIONS)
        errx(2, "usage: ask PORT CONNECTIONS SECONDS");
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(argv[1])),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int epoll = epoll_create1(0);
    size_t count = 0;
    double start = now_ns(), until = start + atof(argv[3]) * 1e9, now = start;
    for (int i = 0; i < atoi(argv[2]); i++) {
        int fd = open_one(&to);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        ask(fd);
    }
    while (now < until) {
        struct epoll_event events[64];
        int got = epoll_wait(epoll, events, 64, 1000);
        if (got < 1)
            errx(1, "no answer within a second");
        now = now_ns();
        for (int i = 0; i < got; i++) {
            answer(events[i].data.fd);
            if (count < TIMES)
                times[count++] = now - asked[events[i].data.fd];
            ask(events[i].data.fd);
        }
    }
    qsort(times, count, sizeof *times, compare_doubles);
    printf("ask requests=%zu seconds=%.3f p99_us=%.1f\n", count, (now - start) / 1e9,
           times[count * 99 / 100] / 1e3);
    return 0;
}
