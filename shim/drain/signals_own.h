/* SPDX-License-Identifier: MIT */
/* signals_own.h - what signals.c and signals_handlers.c have in common: a thread's view. */
#ifndef WEIR_SIGNALS_OWN_H
#define WEIR_SIGNALS_OWN_H

#include "drain/signals.h"

#include <ucontext.h>

#define SIGNALS 65

/*
 * A thread's part. Of a signal that is ours, `blocked` is what the program believes, until the
 * signal is handed over and the thread comes by: then the kernel's mask is made to say the same,
 * and from there on it alone is asked (`settled`), for the kernel restores it where a handler
 * returns or jumps, and nobody tells us.
 */
struct signals_thread {
    uint64_t blocked, settled;
    uint64_t
        held_back; /* our handler has blocked these until the call that the thread is in ends */
    uint64_t base, wait_set; /* of a wait under a mask: the view behind it, and the mask */
    uintptr_t frame; /* the innermost handler of the program's, as signals_is_inside has it */
    bool waits;      /* in such a wait, or jumped out of it */
    bool changes;    /* between signals_mask and signals_masked */
    bool borrowed;   /* a vfork child has set its own mask: its kernel's is the truth */
};

extern HIDDEN __thread struct signals_thread own;

static inline void set_word(sigset_t *set, uint64_t value)
{
    *(uint64_t *)(void *)set = value;
}

static inline bool has_handler(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/* From now on the thread believes that it blocks these of ours. */
void signals_set_view(uint64_t set);

/* Those of which the kernel's mask does not tell whether this thread blocks them. */
uint64_t signals_hidden(void);

static inline long result_of(const ucontext_t *at)
{
#ifdef __x86_64__
    return at->uc_mcontext.gregs[REG_RAX];
#else
    return (long)at->uc_mcontext.regs[0];
#endif
}

static inline uintptr_t stack_of(const ucontext_t *at)
{
#ifdef __x86_64__
    return (uintptr_t)at->uc_mcontext.gregs[REG_RSP];
#else
    return at->uc_mcontext.sp;
#endif
}

/* Whether a handler has ended a wait under a mask, which never begins again by itself: what the
 * context then has is the mask for afterwards (kernel/signal.c, sigmask_to_save). */
static inline bool waits_under_mask(const ucontext_t *at)
{
    return own.waits && result_of(at) == -EINTR;
}

/*
 * Whether whoever has its stack there may be in a handler of the program's that we have called:
 * what it blocks by the kernel's mask ends with that handler. (After a handler that ran on a stack
 * of its own the answer may be yes for longer: then signals are settled later than they could be.)
 */
static inline bool signals_is_inside(uintptr_t stack)
{
    return UNLIKELY(stack < own.frame);
}

/* What the kernel has installed, as the program has: without what signals_install has made of it.
 */
void signals_unwrap(int sig, struct sigaction *action);

/* Calls the program's handler as the kernel would have: under the mask that its action asks for. */
void signals_call_program(const struct sigaction *action, siginfo_t *info, void *context);

#endif
