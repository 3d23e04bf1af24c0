// Who gets a signal that the program has a use for: "thread_signals SIGNAL before|after". Its
// handler blocks it and returns (signal(7): the mask is restored), as a collector's does that stops
// the world. The handler is installed before its threads are made, or after: then one of them
// blocks it. SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <err.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int sig;
static pthread_t threads[3]; // the first, one that lets it in, one that blocks it
static sem_t ready, handled, done;
static char seen[200];

static void handler(int number, siginfo_t *info, void *context)
{
    sigset_t own, now;
    int who = 0;
    (void)context;
    while (who < 2 && !pthread_equal(threads[who], pthread_self()))
        who++;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    snprintf(seen, sizeof seen, "%d in thread %d, code %d, value %d, %s, mask%s%s%s", number, who,
             info->si_code, info->si_code == SI_QUEUE ? info->si_value.sival_int : 0,
             info->si_pid == getpid() ? "of its own" : "of another",
             sigismember(&now, number) ? " own" : "", sigismember(&now, SIGINT) ? " int" : "",
             sigismember(&now, SIGHUP) ? " hup" : "");
    sigemptyset(&own);
    sigaddset(&own, number);
    pthread_sigmask(SIG_BLOCK, &own, NULL);
    sem_post(&handled);
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART}, now;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGHUP);
    sigaction(sig, &action, NULL);
    sigaction(sig, NULL, &now);
    printf("installed: %s\n", now.sa_sigaction == handler ? "yes" : "no");
}

static void *run(void *blocks)
{
    sigset_t own;
    sigemptyset(&own);
    sigaddset(&own, sig);
    pthread_sigmask(blocks ? SIG_BLOCK : SIG_UNBLOCK, &own, NULL);
    sem_post(&ready);
    while (sem_wait(&done)) {
    }
    return NULL;
}

static void await(const char *what)
{
    while (sem_wait(&handled)) {
    }
    printf("%s: %s\n", what, seen);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: thread_signals SIGNAL before|after");
    bool before = strcmp(argv[2], "before") == 0;
    sigset_t own, old;
    sig = atoi(argv[1]);
    sigemptyset(&own);
    sigaddset(&own, sig);
    sem_init(&ready, 0, 0);
    sem_init(&handled, 0, 0);
    sem_init(&done, 0, 0);
    threads[0] = pthread_self();
    sigprocmask(SIG_BLOCK, &own, NULL);
    if (before)
        install();
    for (int i = 1; i < 3; i++)
        if (pthread_create(&threads[i], NULL, run, i == 2 ? "" : NULL) || sem_wait(&ready))
            err(1, "a thread");
    if (!before)
        install();
    for (int i = 0; i < 3; i++) {
        pthread_kill(threads[1], sig);
        await("pthread_kill");
        pthread_sigqueue(threads[1], sig, (union sigval){.sival_int = i + 1});
        await("pthread_sigqueue");
        kill(getpid(), sig); // the first and the third block it
        await("kill");
    }
    pthread_kill(threads[2], sig); // stays there
    pthread_kill(threads[0], sig); // comes once it is let in
    sigprocmask(SIG_UNBLOCK, &own, &old);
    await("unblocked");
    printf("was %s\n", sigismember(&old, sig) ? "blocked" : "open");
    fflush(stdout);
    _exit(0);
}
