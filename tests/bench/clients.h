/* SPDX-License-Identifier: MIT */
/*
 * clients.h - real connections over loopback, whose other ends are in a process of their own:
 * RLIMIT_NOFILE holds for each.
 */
#ifndef WEIR_BENCH_CLIENTS_H
#define WEIR_BENCH_CLIENTS_H

#include "bench.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

static inline void raise_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* In the child: connects count times, and waits until it is killed. */
static inline void clients_run(const struct sockaddr_in *to, int count)
{
    /* The end of a connection is a reset: no TIME_WAIT takes its port from the next run. */
    struct linger reset = {1, 0};
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof *to) < 0)
            err(1, "client %d", i);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    for (;;)
        pause();
}

/*
 * Listens, starts a process that connects `count` times, and accepts them all; it ends with this
 * one. Returns its pid.
 */
static inline pid_t clients_accept(int *fds, int count)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof own;
    raise_limit();
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&own, sizeof own) < 0 ||
        getsockname(listener, (struct sockaddr *)&own, &len) < 0)
        err(1, "bind");
    /* Before it listens: a process that has not served yet is nothing to the shim. */
    int ready[2];
    char byte;
    if (pipe(ready) < 0)
        err(1, "pipe");
    pid_t pid = fork();
    if (pid < 0)
        err(1, "fork");
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ready[1]);
        close(listener);
        if (read(ready[0], &byte, 1) == 1)
            clients_run(&own, count);
        _exit(1);
    }
    if (listen(listener, 4096) < 0 || write(ready[1], "x", 1) != 1)
        err(1, "listen");
    close(ready[0]);
    close(ready[1]);
    for (int i = 0; i < count; i++) {
        fds[i] = accept(listener, NULL, NULL);
        if (fds[i] < 0)
            err(1, "accept %d", i);
    }
    return pid;
}

#endif
