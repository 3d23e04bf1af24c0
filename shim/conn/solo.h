/* SPDX-License-Identifier: MIT */
/*
 * solo.h - as long as one thread alone works on connections, it need not lock the bus for it.
 *
 * Most daemons that serve thousands have one such thread. It owns the table: what it changes it
 * changes by single instructions that a signal's handler can't divide, but another processor
 * could. The first other thread that comes to a connection (ours included) ends that for good:
 *
 *   NOBODY --- a thread comes ---> its turn --- another comes ---> LEAVING ---> ENDED: locked
 *                                                   once the owner is outside
 *
 * So what costs something is the second thread's first step, a few microseconds, and no system
 * call. After a close-idle, when our thread has gone, whoever comes next may own it again.
 *
 * Only x86 has such instructions, and others see what the owner stores in the order in which it
 * does (and that soon, by itself). Elsewhere a second thread could be sure of the owner only by a
 * system call (membarrier(2)), so that nobody is alone: every step is an atomic one.
 */
#ifndef WEIR_SOLO_H
#define WEIR_SOLO_H

#include "conn/epoch.h"

#ifdef __x86_64__
#define SOLO_IS_SAFE true
#else
#define SOLO_IS_SAFE false
#endif

/* No thread's word: none is a vfork child so many times over. */
#define SOLO_ENDED UINT64_C(0x0ffffffff)
#define SOLO_NOBODY UINT64_C(0x1ffffffff)
#define SOLO_LEAVING UINT64_C(0x2ffffffff)

struct solo {
    _Atomic uint64_t owner; /* its epoch_thread.word; there is no turn 0 */
    _Atomic bool inside;    /* it is in the middle of a step */
};

extern HIDDEN struct solo solo;

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

/* Likewise: sets bits and clears others; and a compare-and-swap. */
static inline void solo_set(_Atomic uint64_t *at, uint64_t bits)
{
#ifdef __x86_64__
    __asm__ volatile("orq %1, %0" : "+m"(*at) : "er"(bits) : "cc", "memory");
#else
    atomic_fetch_or_explicit(at, bits, memory_order_relaxed);
#endif
}

static inline void solo_clear(_Atomic uint64_t *at, uint64_t bits)
{
#ifdef __x86_64__
    __asm__ volatile("andq %1, %0" : "+m"(*at) : "er"(~bits) : "cc", "memory");
#else
    atomic_fetch_and_explicit(at, ~bits, memory_order_relaxed);
#endif
}

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
 * Whether the calling thread is alone, until solo_leave. Between the two it must not wait. A vfork
 * child, which is its parent's thread otherwise, never is. The first: where it is already.
 */
static inline bool solo_enter_again(void)
{
    uint64_t me = EPOCH_THREAD.word;
    if (!SOLO_IS_SAFE)
        return false;
    if (UNLIKELY(atomic_load_explicit(&solo.owner, memory_order_relaxed) != me))
        return false;
    atomic_store_explicit(&solo.inside, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    if (LIKELY(atomic_load_explicit(&solo.owner, memory_order_relaxed) == me))
        return true;
    atomic_store_explicit(&solo.inside, false, memory_order_relaxed);
    return false;
}

static inline bool solo_enter(void)
{
    return LIKELY(solo_enter_again()) || (SOLO_IS_SAFE && solo_claim() && solo_enter_again());
}

static inline void solo_leave(void)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&solo.inside, false, memory_order_relaxed);
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
