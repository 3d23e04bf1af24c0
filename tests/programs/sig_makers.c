/* SPDX-License-Identifier: MIT */
/*
 * Two threads make others at the same time, one of them with SIGUSR2 blocked: sig_makers ROUNDS.
 * Each thread is to find the mask that its maker has. Prints "wrong N of M".
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static atomic_int wrong, made;
static int rounds;

static void *made_by(void *blocks)
{
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    atomic_fetch_add(&wrong, sigismember(&mask, SIGUSR2) != (int)(intptr_t)blocks);
    atomic_fetch_add(&made, 1);
    return NULL;
}

static void *makes(void *blocks)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(blocks ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
    for (int i = 0; i < rounds; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, made_by, blocks) != 0)
            exit(1);
        pthread_join(thread, NULL);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t blocking, other;
    rounds = argc > 1 ? atoi(argv[1]) : 1;
    pthread_create(&blocking, NULL, makes, (void *)1);
    pthread_create(&other, NULL, makes, NULL);
    pthread_join(blocking, NULL);
    pthread_join(other, NULL);
    printf("wrong %d of %d\n", wrong, made);
    return 0;
}
