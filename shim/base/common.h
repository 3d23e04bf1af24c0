/* SPDX-License-Identifier: MIT */
/*
 * common.h - what every file of the shim begins with: attributes, and the rules of its threads.
 *
 * The shim's code runs on the program's threads, in its signal handlers, between its fork and
 * exec, and in a thread that libc does not know. So, once start-up is over:
 *   - no allocation, no lock, no stdio: the names below do not compile;
 *   - no libc call but through libc.h (the call that the program made itself) and no system call
 *     but through sys.h, which leaves errno alone.
 */
#ifndef WEIR_COMMON_H
#define WEIR_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _LARGEFILE64_SOURCE
#define _LARGEFILE64_SOURCE 1 /* off64_t, in musl from 1.2.4 on */
#endif
#include <features.h>
/* C23's strtoul and sscanf have names of their own in glibc 2.38 (features.h, by either name),
 * which a program would need then: see libc_versions.h. */
#undef __GLIBC_USE_C2X_STRTOL
#define __GLIBC_USE_C2X_STRTOL 0
#undef __GLIBC_USE_C23_STRTOL
#define __GLIBC_USE_C23_STRTOL 0
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Said here alone, for the command, the library, its pages, the manual, weir.pc and the package;
 * and the version's day. */
#define WEIR_VERSION "0.1.0"
#define WEIR_DATE "November 26, 2026"

#define EXPORT __attribute__((visibility("default")))
/* For variables: also a declaration must say so, or they are reached through the GOT. */
#define HIDDEN __attribute__((visibility("hidden")))
#define INLINE static inline __attribute__((always_inline))
/* What a server calls all the time, side by side (the linker sorts by these names): each page of
 * code costs a miss of the TLB after each switch of processes. */
#define HOT __attribute__((section(".text.hot"), aligned(64)))

/*
 * A load that stands inside of a comparison, behind which others may follow that need what was
 * stored before it. (Compilers compare an atomic one in a register only: an instruction more in
 * each call. x86 loads in order. Never of more than a word, which is never torn.)
 */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GLANCE(at) atomic_load_explicit(at, memory_order_acquire)
#endif
#endif
#if !defined(GLANCE) && defined(__x86_64__)
#define GLANCE(at) (*(const __typeof__(((void)0, *(at))) *)(at))
#elif !defined(GLANCE)
#define GLANCE(at) atomic_load_explicit(at, memory_order_acquire)
#endif

/* What is needed behind a call only where that is not as usual lies on the stack: a register that
 * outlives a call has to be saved as well. */
#define KEPT_ON_STACK(variable) __asm__("" : "+m"(variable))

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define CACHE_LINE 64
#define STRING(x) STRING_OF(x)
#define STRING_OF(x) #x

/*
 * Big variables lie behind all others (the Makefile has the linker sort them by these names), so
 * that what each process writes to lies on few pages. LATE: nothing of it is used before a drain,
 * but in mode protocol. BIG: a part of it; an odd one is used from its end on, the next from its
 * beginning, so that the two share a page.
 */
#define BIG(order) __attribute__((section(".bss.big" #order)))
#define LATE __attribute__((section(".bss.late")))

/* The largest page of the machines that we build for: what is aligned to it has pages of its own.
 */
#ifdef __x86_64__
#define PAGE_MAX 4096
#else
#define PAGE_MAX 65536
#endif

/* Declared before they are poisoned: a header that is included later may not name them either. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How glibc declares its functions (sys/cdefs.h), and so does who stands in front of them. */
#ifndef __GLIBC__
#define __THROW
#define __nonnull(params)
#endif

#ifndef WEIR_COMMAND /* weir(1) is a program like any other */
#pragma GCC poison malloc calloc realloc free strdup printf fprintf snprintf vsnprintf puts fopen
#pragma GCC poison pthread_mutex_lock getpid gettid
#endif

/*
 * The next entry of a list whose first *used ones have been used before; most: there is no other.
 * What lies behind them is never looked at, so that it costs no memory.
 */
static inline uint32_t list_grows(_Atomic uint32_t *used, uint32_t most)
{
    uint32_t next = atomic_load(used);
    while (next < most && !atomic_compare_exchange_weak(used, &next, next + 1))
        ;
    return next < most ? next : most;
}

/*
 * Takes an entry of such a list that is free, or the next one. take: tries the i-th, which another
 * thread or process may be quicker to take. most: there is none.
 */
static inline uint32_t list_take(_Atomic uint32_t *used, uint32_t most, bool (*take)(uint32_t i))
{
    uint32_t fresh;
    do {
        for (uint32_t i = 0; i < atomic_load(used) && i < most; i++)
            if (take(i))
                return i;
        fresh = list_grows(used, most);
    } while (fresh < most && !take(fresh));
    return fresh;
}

/* A short wait in a loop that another processor is about to end. */
static inline void spin_pause(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

#endif
