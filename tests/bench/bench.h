/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the programs of the benchmarks have in common.
 *
 * A figure is the median of many short blocks that take turns (bare, under the shim, bare, ...) on
 * one processor, and of those the ones in which a yardstick found the machine quiet: what else runs
 * there meets both, but not alike. Each is printed as a line of
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

/*
 * How long a fixed piece of work takes that keeps a core's units busy, in ns. On a machine that
 * others share it takes longer while one of them works on the core's other thread: it tells the
 * quiet runs from the disturbed ones by nothing that the shim has a part in.
 */
static inline double yardstick_ns(void)
{
    uint64_t sums[4] = {1, 2, 3, 4}, *to = sums;
    __asm__ volatile("" : "+r"(to)); /* they lie in memory */
    uint64_t a = 1, b = 2, c = 3, d = 4;
    double begin = now_ns();
    for (uint64_t i = 0; i < 4000; i++) {
        a += i ^ 5, b += i ^ 6, c += i ^ 7, d += i ^ 8;
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
        to[i & 1] = a + b;
        to[2 + (i & 1)] = c + d;
    }
    double ns = now_ns() - begin;
    __asm__ volatile("" : : "r"(a + b + c + d), "r"(to) : "memory");
    return ns;
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

/*
 * The median of those values, a quarter of them, beside which yardstick_ns told the least, and what
 * it told there.
 */
static inline double quiet_median(const double *values, const double *yards, size_t count,
                                  double *yard)
{
    double *ranked = malloc(2 * count * sizeof *ranked), *quiet = ranked + count;
    size_t found = 0;
    if (!ranked)
        err(1, "malloc");
    memcpy(ranked, yards, count * sizeof *ranked);
    qsort(ranked, count, sizeof *ranked, compare_doubles);
    for (size_t i = 0; i < count; i++)
        if (yards[i] <= ranked[count / 4])
            quiet[found++] = values[i];
    *yard = ranked[count / 8];
    double middle = median(quiet, found);
    free(ranked);
    return middle;
}

#endif
