/* fork_each: an echo server with a child for each connection, forked in one of several ways.
 * SPDX-License-Identifier: MIT
 *
 *   fork_each HOW PORT      HOW: fork, _Fork, clone (a raw one), sysfork, handler (the child is
 *                           forked in a signal handler), prefork (one child that accepts itself)
 *
 * Prints "server PID", then "child PID" for each. The line "counts" is answered with weir_counts of
 * the process that serves, "parent" with the parent's, every other line with itself.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "listen.h"
#include "../../shim/weir.h" /* weak: null without the shim */

static int listener;
static const char *how;
static struct weir_counts *parents; /* shared memory: as the parent saw them last */
static volatile sig_atomic_t child;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int counts_line(char *line, size_t room, const struct weir_counts *counts)
{
    return snprintf(line, room, "%llu %llu %llu %llu\n", (unsigned long long)counts->tracked,
                    (unsigned long long)counts->idle, (unsigned long long)counts->in_use,
                    (unsigned long long)counts->accepted);
}

static void echo(int fd)
{
    char line[512];
    ssize_t length;
    while ((length = read(fd, line, sizeof line)) > 0) {
        struct weir_counts counts = *parents;
        if (!strncmp(line, "counts", 6) && weir_counts && weir_counts(&counts) == 0)
            length = counts_line(line, sizeof line, &counts);
        else if (!strncmp(line, "parent", 6))
            length = counts_line(line, sizeof line, &counts);
        if (write(fd, line, length) != length)
            break;
    }
    close(fd);
}

static void fork_in_handler(int sig)
{
    (void)sig;
    child = fork();
}

static pid_t fork_somehow(void)
{
    if (!strcmp(how, "_Fork"))
        return _Fork();
    if (!strcmp(how, "clone"))
        return syscall(SYS_clone, SIGCHLD, 0L, 0L, 0L, 0L);
#ifdef SYS_fork
    if (!strcmp(how, "sysfork"))
        return syscall(SYS_fork);
#endif
    if (!strcmp(how, "handler")) {
        raise(SIGALRM);
        return child;
    }
    return fork();
}

static void note_counts(void)
{
    if (weir_counts)
        weir_counts(parents);
}

static void serve_one(int fd)
{
    pid_t pid = fork_somehow();
    if (pid < 0)
        fail("fork_each: fork");
    if (pid == 0) {
        close(listener);
        echo(fd);
        _exit(0);
    }
    close(fd);
    note_counts();
    printf("child %d\n", (int)pid);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: fork_each HOW PORT\n");
        return 2;
    }
    how = argv[1];
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN); /* nobody waits for them */
    signal(SIGALRM, fork_in_handler);
    parents =
        mmap(NULL, sizeof *parents, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    listener = listen_on(argv[2], SOCK_STREAM, 64);
    printf("server %d\n", (int)getpid());
    if (!strcmp(how, "prefork")) {
        pid_t pid = fork();
        if (pid > 0) {
            printf("child %d\n", (int)pid);
            for (;;)
                pause();
        }
    }
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        if (strcmp(how, "prefork"))
            serve_one(fd);
        else
            echo(fd);
    }
}
