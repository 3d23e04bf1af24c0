/* fd_moves: an echo server that does something to the descriptor of each connection first.
 * SPDX-License-Identifier: MIT
 *
 *   fd_moves MOVE PORT
 *
 * MOVE: stay; dup, dup2, dup3, dupfd, dupfd_cloexec, syscall (serves on a copy, the first is
 * closed); both (closes the first at the end, and a copy a second later); swap (each odd connection
 * is parked at a number, each even one is put over it with dup2, and served); stdio (fdopen, fgets,
 * fputs, fclose); stdio2 (a FILE each for reading and for writing, of a dup); freopen (the FILE of
 * a connection is opened anew, as /dev/null, once it has answered "bye"); scm (sent to itself over
 * a socketpair).
 *
 * A line is answered with itself, "counts" with weir_counts, "slow" after a second; "bye" ends it.
 * A connection has a thread of its own.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "listen.h"
#include "../../shim/weir.h" /* weak: null without the shim */

enum { FAR = 50, SWAPPED = 200 };

static const char *move;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static bool is(const char *name)
{
    return !strcmp(move, name);
}

/* Through the kernel's queue: what comes out is a new descriptor of the same socket. */
static int send_to_itself(int fd)
{
    int pair[2], got = -1;
    char byte = 'x', room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        fail("fd_moves: socketpair");
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(control), &fd, sizeof fd);
    if (sendmsg(pair[0], &message, 0) != 1)
        fail("fd_moves: sendmsg");
    close(fd);
    message.msg_controllen = sizeof room;
    if (recvmsg(pair[1], &message, 0) != 1)
        fail("fd_moves: recvmsg");
    memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof got);
    close(pair[0]);
    close(pair[1]);
    return got;
}

static int moved(int fd)
{
    static int moves;
    int to = fd;
    if (is("dup"))
        to = dup(fd);
    else if (is("dupfd"))
        to = fcntl(fd, F_DUPFD, FAR);
    else if (is("dupfd_cloexec"))
        to = fcntl(fd, F_DUPFD_CLOEXEC, FAR);
    else if (is("dup2"))
        to = dup2(fd, FAR + ++moves);
    else if (is("dup3"))
        to = dup3(fd, FAR + ++moves, O_CLOEXEC);
    else if (is("syscall"))
        to = syscall(SYS_fcntl, fd, F_DUPFD, FAR);
    else if (is("swap"))
        to = dup2(fd, SWAPPED);
    else if (is("scm"))
        return send_to_itself(fd);
    if (to < 0)
        fail(move);
    if (to != fd && is("syscall"))
        syscall(SYS_close, fd);
    else if (to != fd)
        close(fd);
    return to;
}

static size_t answer_to(char *line, size_t room)
{
    struct weir_counts counts = {0};
    if (!strncmp(line, "slow", 4))
        sleep(1);
    if (!strncmp(line, "counts", 6) && weir_counts && weir_counts(&counts) == 0)
        snprintf(line, room, "%llu %llu %llu %llu\n", (unsigned long long)counts.tracked,
                 (unsigned long long)counts.idle, (unsigned long long)counts.in_use,
                 (unsigned long long)counts.accepted);
    return strlen(line);
}

static void serve_stdio(int fd)
{
    char line[512];
    FILE *in = fdopen(fd, is("stdio2") ? "r" : "r+");
    FILE *out = is("stdio2") ? fdopen(dup(fd), "w") : in;
    if (!in || !out)
        fail("fd_moves: fdopen");
    while (fgets(line, sizeof line, in)) {
        answer_to(line, sizeof line);
        fputs(line, out);
        fflush(out);
        if (!strncmp(line, "bye", 3))
            break;
    }
    if (is("freopen")) {
        if (!freopen("/dev/null", "r+", in))
            fail("fd_moves: freopen");
        sleep(5); /* the FILE lives on, the connection doesn't */
    }
    if (out != in)
        fclose(out);
    fclose(in);
}

static void serve_calls(int fd)
{
    char line[512];
    ssize_t length;
    int copy = is("both") ? dup(fd) : -1;
    while ((length = read(fd, line, sizeof line - 1)) > 0) {
        line[length] = '\0';
        length = answer_to(line, sizeof line);
        if (write(fd, line, length) != length || !strncmp(line, "bye", 3))
            break;
    }
    close(fd);
    if (copy >= 0) {
        sleep(2);
        close(copy);
    }
}

static void *serve(void *argument)
{
    int fd = (intptr_t)argument;
    if (is("stdio") || is("stdio2") || is("freopen"))
        serve_stdio(fd);
    else
        serve_calls(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: fd_moves MOVE PORT\n");
        return 2;
    }
    move = argv[1];
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on(argv[2], SOCK_STREAM, 64);
    for (int accepted = 1;; accepted++) {
        pthread_t thread;
        intptr_t fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        fd = moved(fd);
        if (is("swap") && accepted % 2)
            continue;
        if (pthread_create(&thread, NULL, serve, (void *)fd) != 0)
            fail("fd_moves: pthread_create");
        pthread_detach(thread);
    }
}
