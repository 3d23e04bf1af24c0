/* SPDX-License-Identifier: MIT */
/*
 * solo.h - as long as one thread alone works on connections, it need not lock the bus for it.
 *
 * Most daemons that serve thousands have one such thread. It owns the table: what it changes it
 * changes by single instructions that a signal's handler can't divide, but another processor
 * could. The first other thread that comes to a connection (ours included) ends that for good:
 *
 *   NOBODY --- a thread comes ---> its solo_me() --- another comes ---> LEAVING ---> NULL: locked
 *                                                     once the owner is outside
 *
 * So what costs something is the second thread's first step, a few microseconds, and no system
 * call. After a close-idle, when our thread has gone, whoever comes next may own it again.
 */
#ifndef WEIR_SOLO_H
#define WEIR_SOLO_H

#include "epoch.h"

#define SOLO_NOBODY ((const void *)1)
#define SOLO_LEAVING ((const void *)2)

struct solo {
    const void *_Atomic owner;
    _Atomic uint64_t inside; /* how deep its owner is: a signal's handler may come in again */
};

extern HIDDEN struct solo solo;

/* What tells a thread from every other one that lives: the address of a thread-local. */
static inline const int *solo_me(void)
{
    return &epoch_borrowed;
}

/* It may be owned from now on (again; in a child). ended: called when that is over. */
void solo_begin(void (*ended)(void));

/* Nobody owns it from now on: what happens is seen by several threads. */
void solo_end(void);

/* Whether it has ever begun: only where it can. */
bool solo_may_begin(void);

/* Who is not the owner: becomes it, where there is none yet, or ends it. */
bool solo_claim(void);

/* Adds to what nobody else writes to, with one instruction where there is such. */
static inline void solo_add(_Atomic uint64_t *at, uint64_t n)
{
#ifdef __x86_64__
    __asm__ volatile("addq %1, %0" : "+m"(*at) : "er"(n) : "cc", "memory");
#else
    atomic_fetch_add_explicit(at, n, memory_order_relaxed);
#endif
}

/* The same of a compare-and-swap. */
static inline bool solo_cas(_Atomic uint64_t *at, uint64_t *old, uint64_t next)
{
#ifdef __x86_64__
    bool same;
    __asm__ volatile("cmpxchgq %3, %1"
                     : "=@cce"(same), "+m"(*at), "+a"(*old)
                     : "r"(next)
                     : "memory");
    return same;
#else
    return atomic_compare_exchange_strong(at, old, next);
#endif
}

/*
 * Whether the calling thread is alone, until solo_leave. Between the two it must not wait. Not so
 * in a vfork child, which is its parent's thread to all appearances.
 */
static inline bool solo_enter(void)
{
    const int *me = solo_me();
    if (UNLIKELY(*me) ||
        (UNLIKELY(atomic_load_explicit(&solo.owner, memory_order_relaxed) != me) && !solo_claim()))
        return false;
    solo_add(&solo.inside, 1);
    if (LIKELY(atomic_load_explicit(&solo.owner, memory_order_relaxed) == me))
        return true;
    solo_add(&solo.inside, (uint64_t)-1);
    return false;
}

static inline void solo_leave(void)
{
    solo_add(&solo.inside, (uint64_t)-1);
}

/* Adds, as who has entered or as one of many. */
static inline void solo_count(bool alone, _Atomic uint64_t *at, uint64_t n)
{
    if (LIKELY(alone))
        solo_add(at, n);
    else
        atomic_fetch_add_explicit(at, n, memory_order_relaxed);
}

static inline bool solo_change(bool alone, _Atomic uint64_t *at, uint64_t *old, uint64_t next)
{
    return LIKELY(alone) ? solo_cas(at, old, next) : atomic_compare_exchange_strong(at, old, next);
}

#endif
