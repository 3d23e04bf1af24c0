// A server's loop that changes its mask around each wait and is ended by its handler for SIGTERM:
// "thread_masks HOW PORT". setmask, unblock: SIGTERM is blocked while it waits. The others: it is
// blocked by the wait itself, for as long as that takes (ppoll, pselect, epoll_pwait, sigsuspend).
// ready: the same by ppoll with what is ready, so that each call ends with its result, however soon
// the signal comes.
// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t stops;

static void on_term(int sig)
{
    (void)sig;
    stops++;
}

static void on_alarm(int sig)
{
    (void)sig;
}

static void wait_ready(const sigset_t *term)
{
    static struct pollfd all[16000]; // so many that nearly all of the time is spent in the call
    static nfds_t count;
    static int ends[2];
    struct rlimit limit;
    if (!count) {
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        count = sizeof all / sizeof *all;
        if (count > limit.rlim_max)
            count = limit.rlim_max;
        if (pipe(ends) || write(ends[1], "", 1) != 1)
            err(1, "pipe");
        for (nfds_t i = 0; i < count; i++)
            all[i] = (struct pollfd){ends[0], POLLIN, 0};
    }
    if (ppoll(all, count, NULL, term) != (int)count)
        err(1, "ppoll");
}

static void wait_once(const char *how, int listener, int epoll, const sigset_t *term)
{
    struct timespec limit = {0, 50000000};
    struct pollfd polled = {listener, POLLIN, 0};
    struct epoll_event event;
    fd_set in;
    sigset_t before;
    FD_ZERO(&in);
    FD_SET(listener, &in);
    if (strcmp(how, "setmask") == 0) {
        sigprocmask(SIG_SETMASK, term, &before);
        poll(&polled, 1, 50);
        sigprocmask(SIG_SETMASK, &before, NULL);
    } else if (strcmp(how, "unblock") == 0) {
        pthread_sigmask(SIG_BLOCK, term, NULL);
        poll(&polled, 1, 50);
        pthread_sigmask(SIG_UNBLOCK, term, NULL);
    } else if (strcmp(how, "ppoll") == 0) {
        ppoll(&polled, 1, &limit, term);
    } else if (strcmp(how, "pselect") == 0) {
        pselect(listener + 1, &in, NULL, NULL, &limit, term);
    } else if (strcmp(how, "epoll_pwait") == 0) {
        epoll_pwait(epoll, &event, 1, 50, term);
    } else if (strcmp(how, "sigsuspend") == 0) {
        setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 50000}}, NULL);
        sigsuspend(term);
    } else if (strcmp(how, "ready") == 0) {
        wait_ready(term);
    } else {
        errx(2, "%s?", how);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: thread_masks HOW PORT");
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(argv[2])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    sigset_t term, after;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_term}, NULL);
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_alarm}, NULL);
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8) ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN}))
        err(1, "%s", argv[2]);
    while (!stops)
        wait_once(argv[1], listener, epoll, &term);
    sigprocmask(SIG_BLOCK, NULL, &after);
    printf("ended by %d; SIGTERM is %s\n", stops,
           sigismember(&after, SIGTERM) ? "blocked" : "open");
    return 0;
}
