/* SPDX-License-Identifier: MIT */
/*
 * unit.h - what the unit tests of the shim's modules have in common.
 *
 * To be included first: the shim's headers poison what a test says its findings with, and only
 * macros and functions from before that still work. A test is a function that returns; the first
 * CHECK that fails ends the program. A program that hangs is ended by its alarm.
 */
#ifndef WEIR_UNIT_H
#define WEIR_UNIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct unit_test {
    const char *sentence;
    void (*run)(void);
};

static const char *unit_now = "start";

#define SAY(...) fprintf(stderr, __VA_ARGS__)

/* A fuzzer keeps the input of who aborts. */
#ifndef UNIT_FAILS
#define UNIT_FAILS _exit(1)
#endif

/* After the condition there may be what to say, as for SAY. */
#define CHECK(condition, ...)                                                                     \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "not ok - %s\n%s:%d: %s:", unit_now, __FILE__, __LINE__, #condition); \
            fprintf(stderr, " " __VA_ARGS__);                                                     \
            fprintf(stderr, "\n");                                                                \
            UNIT_FAILS;                                                                           \
        }                                                                                         \
    } while (0)

static inline int unit_main(const struct unit_test *tests, size_t count)
{
    alarm(250); /* against hanging: a sanitizer on a busy machine is slow */
    for (size_t i = 0; i < count; i++) {
        unit_now = tests[i].sentence;
        tests[i].run();
        printf("ok - %s\n", unit_now);
        fflush(stdout);
    }
    return 0;
}

static inline FILE *unit_open(const char *path)
{
    return fopen(path, "r");
}

/* Runs `test` in a child of its own, which has `seconds`; what it says comes out here. */
static inline void unit_in_child(void (*test)(void), unsigned int seconds)
{
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (!pid) {
        alarm(seconds);
        test();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
    CHECK(!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM, "the child still waits after %us",
          seconds);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status 0x%x",
          (unsigned int)status);
}

/* xorshift64*: a seed that is not 0 gives the same numbers everywhere. */
static inline uint64_t unit_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

#endif
