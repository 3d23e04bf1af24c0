/* SPDX-License-Identifier: MIT */
/*
 * shared_stack PORT faults|all: a server whose 300 threads have one signal stack, all the same, as
 * Varnish's have: for a handler of SIGSEGV, which never runs; or (all) a stack for each, and a
 * handler of SIGURG there, as Go has. Each thread waits in poll; the first one accepts, and echoes
 * what comes. It says whether the shim's handler for SIGUSR2 is to run on such a stack.
 */
#define _GNU_SOURCE
#include "inline_call.h"
#include "listen.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIZE 65536

static char one_for_all[SIZE];
static int for_each;

static void *waits(void *unused)
{
    stack_t stack = {.ss_sp = for_each ? malloc(SIZE) : one_for_all, .ss_size = SIZE};
    sigaltstack(&stack, NULL);
    for (;;)
        poll(NULL, 0, -1);
    return unused;
}

static void crashed(int sig)
{
    _exit(sig);
}

static void say_flag(void)
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        unsigned long mask;
    } kernel = {0};
    inline_call(SYS_rt_sigaction, SIGUSR2, 0, (long)&kernel, 8);
    printf("on a signal stack: %s\n", kernel.flags & SA_ONSTACK ? "yes" : "no");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = crashed, .sa_flags = SA_ONSTACK};
    int listener = listen_on(argv[1], SOCK_STREAM, 64);
    for_each = argc > 2 && strcmp(argv[2], "all") == 0;
    sigaction(for_each ? SIGURG : SIGSEGV, &action, NULL);
    say_flag();
    for (int i = 0; i < 300; i++)
        pthread_create(&(pthread_t){0}, NULL, waits, NULL);
    for (;;) {
        char line[256];
        int fd = accept(listener, NULL, NULL);
        ssize_t got = fd < 0 ? 0 : read(fd, line, sizeof line);
        if (got > 0 && write(fd, line, (size_t)got) == got)
            close(fd);
    }
}
