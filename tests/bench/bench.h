/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the programs of the benchmarks have in common.
 *
 * A figure is the median of many short blocks that take turns (bare, under the shim, bare, ...) on
 * one processor: what else runs on the machine meets both alike. Each is printed as a line of
 * words, NAME KEY=NUMBER..., for scripts/bench.
 */
#ifndef WEIR_BENCH_H
#define WEIR_BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <err.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The shim's headers, which come after this one, poison printf; not in a macro from before. */
#define SAY(...) printf(__VA_ARGS__)

static inline double clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static inline double now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* For what takes longer than a time slice: what else runs meanwhile is left out. */
static inline double thread_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* The n-th processor from the last; where there are fewer, none in particular. */
static inline void pin_to(int n)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    long last = sysconf(_SC_NPROCESSORS_ONLN) - 1 - n;
    if (last < 0)
        return;
    CPU_SET((size_t)last, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static inline int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts them. */
static inline double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

#endif
