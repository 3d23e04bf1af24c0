/* SPDX-License-Identifier: MIT */
/*
 * A server and its client in one process, over a library that makes their calls in another way:
 * syscall_behind. Prints what weir_counts says of the connections in the end.
 *
 * The library is this file, too (cc -shared -DBY_SYSCALL or -DBY_OTHER_NAMES): it stands in front
 * of libc as a proxy's or a tracer's library does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#if defined BY_SYSCALL
#define BY(type, name, params, ...)        \
    type name params                       \
    {                                      \
        return (type)syscall(__VA_ARGS__); \
    }
BY(int, accept4, (int fd, struct sockaddr *a, socklen_t *l, int f), SYS_accept4, fd, a, l, f)
BY(int, accept, (int fd, struct sockaddr *a, socklen_t *l), SYS_accept4, fd, a, l, 0)
BY(int, bind, (int fd, const struct sockaddr *a, socklen_t l), SYS_bind, fd, a, l)
BY(int, listen, (int fd, int n), SYS_listen, fd, n)
BY(ssize_t, read, (int fd, void *b, size_t n), SYS_read, fd, b, n)
BY(ssize_t, readv, (int fd, const struct iovec *v, int n), SYS_readv, fd, v, n)
BY(ssize_t, recv, (int fd, void *b, size_t n, int f), SYS_recvfrom, fd, b, n, f, NULL, NULL)
BY(ssize_t, recvfrom, (int fd, void *b, size_t n, int f, struct sockaddr *a, socklen_t *l),
   SYS_recvfrom, fd, b, n, f, a, l)
BY(ssize_t, recvmsg, (int fd, struct msghdr *m, int f), SYS_recvmsg, fd, m, f)
BY(ssize_t, write, (int fd, const void *b, size_t n), SYS_write, fd, b, n)
BY(ssize_t, writev, (int fd, const struct iovec *v, int n), SYS_writev, fd, v, n)
BY(ssize_t, send, (int fd, const void *b, size_t n, int f), SYS_sendto, fd, b, n, f, NULL, 0)
BY(ssize_t, sendto, (int fd, const void *b, size_t n, int f, const struct sockaddr *a, socklen_t l),
   SYS_sendto, fd, b, n, f, a, l)
BY(ssize_t, sendmsg, (int fd, const struct msghdr *m, int f), SYS_sendmsg, fd, m, f)
BY(int, setsockopt, (int fd, int l, int o, const void *v, socklen_t n), SYS_setsockopt, fd, l, o, v,
   n)
BY(int, shutdown, (int fd, int how), SYS_shutdown, fd, how)
BY(int, dup, (int fd), SYS_dup, fd)
BY(int, dup3, (int fd, int to, int f), SYS_dup3, fd, to, f)
BY(int, dup2, (int fd, int to), SYS_dup3, fd, to, 0)
BY(int, close, (int fd), SYS_close, fd)
#elif defined BY_OTHER_NAMES
ssize_t __read(int fd, void *b, size_t n);
ssize_t __write(int fd, const void *b, size_t n);
ssize_t __send(int fd, const void *b, size_t n, int f);
int __close(int fd);
int __dup2(int fd, int to);
int __poll(struct pollfd *fds, nfds_t count, int ms);
int __select(int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *limit);
int __nanosleep(const struct timespec *time, struct timespec *left);
int __sigaction(int sig, const struct sigaction *action, struct sigaction *old);
int poll(struct pollfd *fds, nfds_t count, int ms)
{
    return __poll(fds, count, ms);
}
int select(int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *limit)
{
    return __select(count, in, out, except, limit);
}
int nanosleep(const struct timespec *time, struct timespec *left)
{
    return __nanosleep(time, left);
}
int sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    return __sigaction(sig, action, old);
}
int accept(int fd, struct sockaddr *a, socklen_t *l)
{
    return accept4(fd, a, l, SOCK_CLOEXEC);
}
ssize_t read(int fd, void *b, size_t n)
{
    return __read(fd, b, n);
}
ssize_t write(int fd, const void *b, size_t n)
{
    return __write(fd, b, n);
}
ssize_t send(int fd, const void *b, size_t n, int f)
{
    return __send(fd, b, n, f);
}
int close(int fd)
{
    return __close(fd);
}
int dup2(int fd, int to)
{
    return __dup2(fd, to);
}
#else

#define MUST(condition)                                        \
    do {                                                       \
        if (!(condition)) {                                    \
            fprintf(stderr, "%d: %s\n", __LINE__, #condition); \
            return 1;                                          \
        }                                                      \
    } while (0)

struct counts {
    uint64_t tracked, idle, in_use, accepted;
};

int main(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    struct timeval limit = {5, 0};
    char text[8] = "ping";
    struct iovec iov = {text, 4};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    MUST(bind(listener, (struct sockaddr *)&at, len) == 0 && listen(listener, 5) == 0);
    MUST(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
    for (int round = 0; round < 10; round++) {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        MUST(connect(client, (struct sockaddr *)&at, len) == 0);
        int fd = round % 2 ? accept(listener, NULL, NULL) : accept4(listener, NULL, NULL, 0);
        MUST(fd >= 0);
        MUST(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
        MUST(write(client, text, 4) == 4 && read(fd, text, 4) == 4);
        MUST(writev(fd, &iov, 1) == 4 && readv(client, &iov, 1) == 4);
        MUST(send(client, text, 4, 0) == 4 && recv(fd, text, 4, 0) == 4);
        MUST(sendto(fd, text, 4, 0, NULL, 0) == 4 && recvfrom(client, text, 4, 0, NULL, NULL) == 4);
        MUST(sendmsg(client, &msg, 0) == 4 && recvmsg(fd, &msg, 0) == 4);
        int copy = dup(fd), other = dup(copy);
        MUST(dup2(copy, other) == other && dup3(fd, copy, 0) == copy);
        MUST(fcntl(other, F_GETFD) >= 0);
        MUST(write(other, text, 4) == 4 && read(client, text, 4) == 4);
        close(copy);
        close(other);
        MUST(shutdown(fd, SHUT_WR) == 0 && read(client, text, 4) == 0);
        if (round < 8)
            close(fd);
        close(client);
    }
    struct timespec moment = {0, 1000};
    struct timeval now = {0, 0};
    struct pollfd polled = {.fd = listener, .events = POLLIN};
    struct sigaction action;
    MUST(poll(&polled, 1, 0) == 0 && select(0, NULL, NULL, NULL, &now) == 0);
    MUST(nanosleep(&moment, NULL) == 0 && sigaction(SIGUSR1, NULL, &action) == 0);
    struct counts counts = {0};
    int (*ask)(struct counts *) = (int (*)(struct counts *))dlsym(RTLD_DEFAULT, "weir_counts");
    if (ask)
        ask(&counts);
    printf("accepted %d tracked %d in use %d\n", (int)counts.accepted, (int)counts.tracked,
           (int)counts.in_use);
    return 0;
}
#endif
