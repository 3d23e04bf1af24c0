/* sig_stop: an echo server with its own use for SIGTERM; it says what it was told, and ends.
 * SPDX-License-Identifier: MIT
 *
 *   sig_stop HOW PORT
 *
 * HOW: handler, reset (SA_RESETHAND), thread (a handler, and all threads but one block it),
 * sigwait, sigwaitinfo, signalfd, sigsuspend, ppoll, ignore, default; all (every signal is blocked
 * in every thread, and nobody waits); own (a handler for SIGUSR2). Prints "SIG code CODE from PID"
 * and exits with 0.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "listen.h"

static volatile sig_atomic_t got, code, from;
static int listener;

static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)context;
    got = sig;
    code = info->si_code;
    from = info->si_pid;
}

static void told(int sig, int its_code, int its_from)
{
    printf("%d code %d from %d\n", sig, its_code, its_from);
    fflush(stdout);
    _exit(0);
}

static void *echo(void *argument)
{
    int fd = (intptr_t)argument;
    char line[512];
    ssize_t length;
    while ((length = read(fd, line, sizeof line)) > 0 && write(fd, line, length) == length)
        ;
    close(fd);
    return NULL;
}

static void *serve(void *argument)
{
    for (;;) {
        pthread_t thread;
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && pthread_create(&thread, NULL, echo, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
    }
    return argument;
}

static void *wait_for_it(void *argument)
{
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    while (!got)
        usleep(1000);
    told(got, code, from);
    return argument;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: sig_stop HOW PORT\n");
        return 2;
    }
    const char *how = argv[1];
    bool resets = !strcmp(how, "reset"), own = !strcmp(how, "own");
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | (resets ? (int)SA_RESETHAND : 0)};
    sigset_t term, all, none;
    sigemptyset(&none);
    sigfillset(&all);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    bool takes_it = strstr("handler reset thread sigsuspend ppoll", how);
    if (takes_it)
        sigaction(SIGTERM, &action, NULL);
    if (own)
        sigaction(SIGUSR2, &action, NULL);
    if (!strcmp(how, "ignore"))
        signal(SIGTERM, SIG_IGN);
    if (!strcmp(how, "all"))
        sigprocmask(SIG_BLOCK, &all, NULL);
    else if (strcmp(how, "handler") && !resets && !own && strcmp(how, "default"))
        sigprocmask(SIG_BLOCK, &term, NULL);

    listener = listen_on(argv[2], SOCK_STREAM, 64);
    pthread_t thread;
    pthread_create(&thread, NULL, serve, NULL);
    if (!strcmp(how, "thread"))
        pthread_create(&thread, NULL, wait_for_it, NULL);

    siginfo_t info;
    int sig;
    if (!strcmp(how, "sigwait") && sigwait(&term, &sig) == 0)
        told(sig, 0, 0);
    if (!strcmp(how, "sigwaitinfo") && (sig = sigwaitinfo(&term, &info)) > 0)
        told(sig, info.si_code, info.si_pid);
    if (!strcmp(how, "signalfd")) {
        struct signalfd_siginfo came;
        int fd = signalfd(-1, &term, SFD_NONBLOCK);
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        while (read(fd, &came, sizeof came) != sizeof came)
            poll(&wait, 1, -1);
        told((int)came.ssi_signo, came.ssi_code, (int)came.ssi_pid);
    }
    while (!strcmp(how, "sigsuspend") && !got)
        sigsuspend(&none);
    while (!strcmp(how, "ppoll") && !got)
        ppoll(NULL, 0, NULL, &none);
    while (!got || !strcmp(how, "thread"))
        pause();
    told(got, code, from);
}
