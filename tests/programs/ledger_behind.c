/* SPDX-License-Identifier: MIT */
/*
 * ledger_behind PORT HOW: a server some of whose calls go past libc. It listens on PORT, says
 * "ready", and echoes one byte on each connection, which it keeps until its end.
 *
 *   listens   it listens on PORT + 1 as well, past libc
 *   accepts   it accepts, reads and writes past libc; a q it does not answer
 */
#define WEIR_COMMAND
#include "base/sys.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in at(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int main(int argc, char **argv)
{
    int port = argc == 3 ? atoi(argv[1]) : 0, listener = socket(AF_INET, SOCK_STREAM, 0);
    bool accepts = port && strcmp(argv[2], "accepts") == 0;
    struct sockaddr_in own = at(port), next = at(port + 1);
    if (!port || bind(listener, (struct sockaddr *)&own, sizeof own) || listen(listener, 16))
        return 1;
    if (!accepts) {
        long behind = sys3(SYS_socket, AF_INET, SOCK_STREAM, 0);
        if (sys3(SYS_bind, behind, &next, sizeof next) < 0 || sys2(SYS_listen, behind, 16) < 0)
            return 1;
    }
    puts("ready");
    fflush(stdout);
    for (char byte;;) {
        long fd =
            accepts ? sys4(SYS_accept4, listener, NULL, NULL, 0) : accept(listener, NULL, NULL);
        long got;
        if (fd < 0)
            continue;
        do {
            got = accepts ? sys3(SYS_read, fd, &byte, 1) : read((int)fd, &byte, 1);
            if (got == 1 && accepts && byte == 'q')
                continue;
            if (got == 1 && accepts)
                got = sys3(SYS_write, fd, &byte, 1);
            else if (got == 1)
                got = write((int)fd, &byte, 1);
        } while (got == 1);
        if (accepts)
            sys1(SYS_close, fd);
        else
            close((int)fd);
    }
}
