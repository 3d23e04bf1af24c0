// A line server that closes everything, as daemons do, and selects on its lowest numbers:
// "quiet_numbers close_range|closefrom|loop FROM PORT". It answers a line with the number of its
// client's descriptor; at "again" it closes everything once more, and listens anew.
// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include "listen.h"

static void close_everything(const char *how, int from)
{
    if (strcmp(how, "close_range") == 0)
        close_range((unsigned)from, ~0U, 0);
    else if (strcmp(how, "closefrom") == 0)
        closefrom(from);
    else
        for (int fd = from; fd < sysconf(_SC_OPEN_MAX); fd++)
            close(fd);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int from = atoi(argv[2]), listener = -1;
    fd_set open, ready;
    for (;;) {
        if (listener < 0) {
            close_everything(argv[1], from);
            listener = listen_on(argv[3], SOCK_STREAM, 64);
            FD_ZERO(&open);
            FD_SET(listener, &open);
        }
        ready = open;
        if (select(FD_SETSIZE, &ready, NULL, NULL, NULL) < 0)
            continue;
        for (int fd = 0; fd < FD_SETSIZE; fd++) {
            char line[100] = "";
            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client >= 0 && client < FD_SETSIZE)
                    FD_SET(client, &open);
                continue;
            }
            ssize_t got = read(fd, line, sizeof line - 1);
            if (got <= 0) {
                FD_CLR(fd, &open);
                close(fd);
            } else if (strcmp(line, "again\n") == 0) {
                listener = -1;
                break;
            } else {
                int size = snprintf(line, sizeof line, "%d\n", fd);
                write(fd, line, (size_t)size);
            }
        }
    }
}
