// An HTTP server that answers through stdio, as many an old one does: where libc reads and writes
// for it, nobody sees the bytes pass. "http_stdio both|write PORT": a thread a connection; GET
// /slow?ms=N is answered after N ms. write: it reads with read(), and only the answers are stdio's.
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

#include "listen.h"

static bool by_stdio;

// The next line of a request, in `line`. False: there is none any more.
static bool next_line(int fd, FILE *in, char *line, size_t room)
{
    if (by_stdio)
        return fgets(line, (int)room, in);
    size_t have = 0;
    while (have < room - 1 && read(fd, line + have, 1) == 1)
        if (line[have++] == '\n')
            break;
    line[have] = '\0';
    return have;
}

static void answer(FILE *out, const char *request)
{
    unsigned ms = 0;
    if (sscanf(request, "GET /slow?ms=%u ", &ms) == 1)
        usleep(ms * 1000);
    fprintf(out, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    fprintf(out, "It works\n");
    fflush(out);
}

static void *serve(void *argument)
{
    int fd = (int)(intptr_t)argument;
    FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
    char request[1024], line[1024];
    while (next_line(fd, in, request, sizeof request)) {
        while (next_line(fd, in, line, sizeof line) && strcmp(line, "\r\n"))
            ;
        answer(out, request);
    }
    fclose(out);
    fclose(in);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: http_stdio both|write PORT");
    by_stdio = !strcmp(argv[1], "both");
    int listener = listen_on(argv[2], SOCK_STREAM, 511);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        if (fd >= 0 && !pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd))
            pthread_detach(thread);
    }
}
