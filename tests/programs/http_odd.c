// An HTTP server that writes its answers in odd pieces, by each call that writes, to sockets whose
// buffers are tiny. "http_odd PORT": a thread a connection. GET /CALL/N is answered by that call
// (write writev send sendto sendmsg sendmmsg more cork file) with a head of N lines and more, in
// pieces of up to 1 + N % 50 bytes; each N has another Connection line, or none.
// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *const connection_lines[] = {
    "",
    "Connection: keep-alive\r\n",
    "connection:Keep-Alive\r\n",
    "Connection: \t keep-alive \t,keep-alive\r\n",
    "Connection: keep-alivex, xkeep-alive,, te , KEEP-ALIVE , keep-alive x\r\n",
    "Connection: te\r\nX: keep-alive\r\nConnection: keep-alive\r\n",
    "Connection:\r\nConnection-X: keep-alive\r\n"};

#define LINES (sizeof connection_lines / sizeof *connection_lines)

struct answer {
    int fd;
    char call[16];
    size_t at, head, length, most; // how far it is; of bytes; of a piece
    unsigned dice;
    char bytes[65536];
};

static size_t draw(struct answer *a, size_t most)
{
    a->dice = a->dice * 1103515245 + 12345;
    return 1 + (a->dice >> 16) % most;
}

static void compose(struct answer *a, unsigned n)
{
    size_t body = 500 + n * 7;
    char *to = a->bytes;
    to += sprintf(to, "HTTP/1.1 200 OK\r\n%sContent-Length: %zu\r\n", connection_lines[n % LINES],
                  body);
    for (unsigned i = 0; i < n; i++)
        to += sprintf(to, "Line-%u: %.*s\r\n", i, (int)(i * n % 60),
                      "Connection: keep-alive, close\tConnection: close / keep-alive :::");
    to += sprintf(to, "\r\n");
    a->head = (size_t)(to - a->bytes);
    for (size_t i = 0; i < body; i++)
        *to++ = "Connection: keep-alive\r\n\r\n"[i % 26];
    a->length = (size_t)(to - a->bytes);
    a->most = 1 + n % 50;
    a->dice = n;
    a->at = 0;
}

// What is to be written next, in `count` pieces at the most. Returns how many.
static int pieces(struct answer *a, struct iovec *iov, int count, size_t end)
{
    size_t from = a->at;
    int i = 0;
    for (; i < count && from < end; i++) {
        size_t n = draw(a, a->most);
        n = n < end - from ? n : end - from;
        iov[i] = (struct iovec){a->bytes + from, n};
        from += n;
    }
    return i;
}

static ssize_t by_message(struct answer *a, struct iovec *iov, int count, int flags)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    return sendmsg(a->fd, &msg, flags);
}

static ssize_t by_messages(struct answer *a, struct iovec *iov, int count)
{
    struct mmsghdr msgs[40] = {0};
    ssize_t n = 0;
    for (int i = 0; i < count; i++)
        msgs[i].msg_hdr = (struct msghdr){.msg_iov = iov + i, .msg_iovlen = 1};
    int sent = sendmmsg(a->fd, msgs, (unsigned)count, 0);
    for (int i = 0; i < sent; i++)
        n += msgs[i].msg_len;
    return sent < 0 ? -1 : n;
}

static ssize_t by_file(struct answer *a, size_t n)
{
    static __thread int file = -1;
    if (file < 0)
        file = memfd_create("body", 0);
    if (pwrite(file, a->bytes, a->length, 0) != (ssize_t)a->length)
        err(1, "memfd");
    off_t at = (off_t)a->at;
    return sendfile(a->fd, file, &at, n);
}

static ssize_t write_some(struct answer *a)
{
    struct iovec iov[40];
    bool in_head = a->at < a->head;
    int count = pieces(a, iov, 40, in_head && !strcmp(a->call, "file") ? a->head : a->length);
    if (!strcmp(a->call, "write") || (!strcmp(a->call, "file") && in_head))
        return write(a->fd, iov->iov_base, iov->iov_len);
    if (!strcmp(a->call, "send"))
        return send(a->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
    if (!strcmp(a->call, "more"))
        return send(a->fd, iov->iov_base, iov->iov_len,
                    a->at + iov->iov_len < a->length ? MSG_MORE : 0);
    if (!strcmp(a->call, "sendto"))
        return sendto(a->fd, iov->iov_base, iov->iov_len, 0, NULL, 0);
    if (!strcmp(a->call, "sendmsg"))
        return by_message(a, iov, count, 0);
    if (!strcmp(a->call, "sendmmsg"))
        return by_messages(a, iov, count);
    if (!strcmp(a->call, "file"))
        return by_file(a, iov->iov_len);
    return writev(a->fd, iov, count); // and cork
}

static bool send_answer(struct answer *a, unsigned n)
{
    bool corks = !strcmp(a->call, "cork");
    compose(a, n);
    setsockopt(a->fd, IPPROTO_TCP, TCP_CORK, &(int){corks}, sizeof(int));
    while (a->at < a->length) {
        ssize_t sent = write_some(a);
        if (sent > 0)
            a->at += (size_t)sent;
        else if (sent < 0 && errno == EAGAIN)
            poll(&(struct pollfd){.fd = a->fd, .events = POLLOUT}, 1, -1);
        else
            return false;
    }
    setsockopt(a->fd, IPPROTO_TCP, TCP_CORK, &(int){0}, sizeof(int));
    return true;
}

static void *serve(void *argument)
{
    struct answer a = {.fd = (int)(intptr_t)argument};
    char request[4096];
    size_t have = 0;
    unsigned n;
    for (;;) {
        poll(&(struct pollfd){.fd = a.fd, .events = POLLIN}, 1, -1);
        ssize_t got = read(a.fd, request + have, sizeof request - 1 - have);
        if (got <= 0)
            break;
        request[have += (size_t)got] = '\0';
        if (!strstr(request, "\r\n\r\n"))
            continue;
        if (sscanf(request, "GET /%15[a-z]/%u ", a.call, &n) != 2 || n > 700 || !send_answer(&a, n))
            break;
        have = 0;
    }
    close(a.fd);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        errx(2, "usage: http_odd PORT");
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &(int){1}, sizeof(int)); // the least there is
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 511))
        err(1, "port %s", argv[1]);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        pthread_t thread;
        if (fd >= 0 && !pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd))
            pthread_detach(thread);
    }
}
