// A line server that has looked its calls up itself: "quiet_dlsym next|default PORT" with dlsym, or
// "quiet_dlsym LIBRARY PORT" with dlopen(RTLD_DEEPBIND) of a library that has plugin_read,
// plugin_write and plugin_close. It answers a line with the number of its client's descriptor;
// at "close" it closes that, and opens /dev/zero in its place.
// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "listen.h"

static ssize_t (*do_read)(int, void *, size_t);
static ssize_t (*do_write)(int, const void *, size_t);
static int (*do_close)(int);

static void look_up(const char *where)
{
    const char *prefix = "";
    void *handle = strcmp(where, "next") == 0 ? RTLD_NEXT : RTLD_DEFAULT;
    if (where[0] == '/') {
        handle = dlopen(where, RTLD_NOW | RTLD_DEEPBIND);
        prefix = "plugin_";
        if (!handle)
            errx(1, "%s", dlerror());
    }
    char name[40];
    snprintf(name, sizeof name, "%sread", prefix);
    *(void **)&do_read = dlsym(handle, name);
    snprintf(name, sizeof name, "%swrite", prefix);
    *(void **)&do_write = dlsym(handle, name);
    snprintf(name, sizeof name, "%sclose", prefix);
    *(void **)&do_close = dlsym(handle, name);
    if (!do_read || !do_write || !do_close)
        errx(1, "%s", dlerror());
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: quiet_dlsym next|default|LIBRARY PORT");
    look_up(argv[1]);
    struct pollfd fds[64] = {{.fd = listen_on(argv[2], SOCK_STREAM, 64), .events = POLLIN}};
    int count = 1;
    for (;;) {
        poll(fds, (nfds_t)count, -1);
        if (fds[0].revents && count < 64)
            fds[count++] = (struct pollfd){.fd = accept(fds[0].fd, NULL, NULL), .events = POLLIN};
        for (int i = 1; i < count; i++) {
            char line[100] = "";
            if (!fds[i].revents)
                continue;
            ssize_t got = do_read(fds[i].fd, line, sizeof line - 1);
            if (got > 0 && strcmp(line, "close\n") != 0) {
                int size = snprintf(line, sizeof line, "%d\n", fds[i].fd);
                do_write(fds[i].fd, line, (size_t)size);
                continue;
            }
            do_close(fds[i].fd);
            if (got > 0)
                open("/dev/zero", O_RDONLY);
            fds[i--] = fds[--count];
        }
    }
}
