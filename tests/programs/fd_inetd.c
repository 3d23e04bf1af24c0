/* fd_inetd: a small super server: for each connection it starts a program that has it as
 * descriptors 0 and 1, and as 2 too with "all". SPDX-License-Identifier: MIT
 *
 *   fd_inetd PORT io|all COMMAND [ARG...]      prints "child PID" for each, and
 *                                              "ended PID STATUS" (as wait has it)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "listen.h"

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: fd_inetd PORT io|all COMMAND [ARG...]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    int listener = listen_on(argv[1], SOCK_STREAM | SOCK_CLOEXEC, 64);
    for (;;) {
        struct pollfd wait = {.fd = listener, .events = POLLIN};
        int status;
        pid_t ended = waitpid(-1, &status, WNOHANG);
        if (ended > 0)
            printf("ended %d %d\n", (int)ended, status);
        if (poll(&wait, 1, 20) <= 0)
            continue;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        pid_t pid = fork();
        if (pid == 0) {
            dup2(fd, 0);
            dup2(fd, 1);
            if (!strcmp(argv[2], "all"))
                dup2(fd, 2);
            execvp(argv[3], argv + 3);
            _exit(127);
        }
        close(fd);
        printf("child %d\n", (int)pid);
    }
}
