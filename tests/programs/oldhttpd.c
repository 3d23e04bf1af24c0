// An old-fashioned HTTP server: a thread a connection, blocking calls, keep-alive, and not a word
// about stopping. "oldhttpd PORT" answers GET / with a page, GET /slow?ms=N after N ms, with a body
// in two pieces, and GET /bytes?n=N with N bytes.
// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <err.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char page[] = "<html><body><h1>It works!</h1></body></html>\n";

static bool send_all(int fd, const char *bytes, size_t length, int flags)
{
    while (length > 0) {
        ssize_t sent = send(fd, bytes, length, flags | MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        bytes += sent;
        length -= (size_t)sent;
    }
    return true;
}

static bool send_head(int fd, const char *status, size_t length)
{
    char head[160];
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 %s\r\nContent-Type: text/html\r\nContent-Length: %zu\r\n\r\n",
                        status, length);
    return send_all(fd, head, (size_t)size, MSG_MORE);
}

static bool answer_page(int fd, const char *status, const char *body)
{
    return send_head(fd, status, strlen(body)) && send_all(fd, body, strlen(body), 0);
}

static bool answer_slowly(int fd, unsigned ms)
{
    size_t length = strlen(page), half = length / 2;
    usleep(ms * 1000);
    if (!send_head(fd, "200 OK", length) || !send_all(fd, page, half, 0))
        return false;
    usleep(20 * 1000);
    return send_all(fd, page + half, length - half, 0);
}

static bool answer_bytes(int fd, size_t length)
{
    char block[4096];
    memset(block, 'x', sizeof block);
    bool good = send_head(fd, "200 OK", length);
    while (good && length > 0) {
        size_t piece = length < sizeof block ? length : sizeof block;
        good = send_all(fd, block, piece, 0);
        length -= piece;
    }
    return good;
}

static bool answer(int fd, const char *request)
{
    unsigned long number;
    if (sscanf(request, "GET /slow?ms=%lu ", &number) == 1)
        return answer_slowly(fd, (unsigned)number);
    if (sscanf(request, "GET /bytes?n=%lu ", &number) == 1)
        return answer_bytes(fd, number);
    if (strncmp(request, "GET / ", 6) == 0)
        return answer_page(fd, "200 OK", page);
    return answer_page(fd, "404 Not Found", "not here\n");
}

static void *serve(void *argument)
{
    int fd = (int)(intptr_t)argument;
    char request[8192];
    size_t have = 0;
    for (;;) {
        request[have] = '\0';
        char *end = strstr(request, "\r\n\r\n");
        if (end) {
            *end = '\0';
            if (!answer(fd, request) || strstr(request, "Connection: close"))
                break;
            size_t used = (size_t)(end + 4 - request);
            have -= used;
            memmove(request, request + used, have);
            continue;
        }
        ssize_t got = read(fd, request + have, sizeof request - 1 - have);
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        errx(2, "usage: oldhttpd PORT");
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 511))
        err(1, "port %s", argv[1]);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd))
            close(fd);
        else
            pthread_detach(thread);
    }
}
