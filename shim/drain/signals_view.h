/* SPDX-License-Identifier: MIT */
/*
 * signals_view.h - what the program believes of the signals that are ours, and each thread of it.
 */
#ifndef WEIR_SIGNALS_VIEW_H
#define WEIR_SIGNALS_VIEW_H

#include "base/common.h"

#include <errno.h>
#include <signal.h>
#include <ucontext.h>

#define SIGNAL_BIT(sig) (UINT64_C(1) << ((sig)-1))

/* The kernel knows 64 signals, libc's set has room for more: the first word is the kernel's. */
static inline uint64_t signals_word(const sigset_t *set)
{
    return set ? *(const uint64_t *)(const void *)set : 0;
}

/* The lowest signal of a set; 0: it is empty. */
static inline int signals_lowest(uint64_t set)
{
    return set ? __builtin_ctzll(set) + 1 : 0;
}

/* A handler of ours: info and context as sigaction(2) has them. */
typedef void signals_fn(int sig, siginfo_t *info, void *context);

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
    uintptr_t frame;     /* the innermost handler of the program's, as signals_is_inside has it */
    bool waits;          /* in such a wait, or jumped out of it */
    bool changes;        /* between signals_mask and signals_masked */
    bool in_vfork_child; /* a vfork child has set its own mask: its kernel's is the truth */
};

extern HIDDEN __thread struct signals_thread signals_own;

static inline void signals_set_word(sigset_t *set, uint64_t value)
{
    *(uint64_t *)(void *)set = value;
}

static inline bool signals_handles(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

/* The kernel has our handler for these; those of them that are the program's by now; and those of
 * them that some thread believes it blocks. */
extern HIDDEN _Atomic uint64_t signals_ours, signals_handed_over, signals_ever_blocked;

static inline bool signals_is_ours(int sig)
{
    return sig > 0 && sig < SIGNALS && atomic_load(&signals_ours) & SIGNAL_BIT(sig);
}

/* What the program believes is installed for a signal; signals_keep_action: from now on it has a
 * place of its own. */
struct sigaction *signals_program(int sig);
void signals_keep_action(int sig);

/* Returns those that are ours and have not been handed over. */
uint64_t signals_held(void);

/* Notes that the thread believes from now on that it blocks these of ours. */
void signals_set_view(uint64_t set);

/* Returns those of which the kernel's mask does not tell whether this thread blocks them. */
uint64_t signals_hidden(void);

static inline long signals_result_of(const ucontext_t *at)
{
#ifdef __x86_64__
    return at->uc_mcontext.gregs[REG_RAX];
#else
    return (long)at->uc_mcontext.regs[0];
#endif
}

static inline uintptr_t signals_stack_of(const ucontext_t *at)
{
#ifdef __x86_64__
    return (uintptr_t)at->uc_mcontext.gregs[REG_RSP];
#else
    return at->uc_mcontext.sp;
#endif
}

/* Whether a handler has ended a wait under a mask, which never begins again by itself: what the
 * context then has is the mask for afterwards (kernel/signal.c, sigmask_to_save). */
static inline bool signals_wait_is_interrupted(const ucontext_t *at)
{
    return signals_own.waits && signals_result_of(at) == -EINTR;
}

/* What the program believes it blocks where a handler has interrupted this thread. Of a wait under
 * a mask that is the mask only inside the system call: one that had its result already (an event,
 * its time) when the signal came gives the thread its own mask back before the handler runs. */
static inline uint64_t signals_view_at(const ucontext_t *at)
{
    return signals_own.waits && !signals_wait_is_interrupted(at) ? signals_own.base
                                                                 : signals_own.blocked;
}

/*
 * Tells whether a thread with its stack there may be in a handler of the program's that we have
 * called: what it blocks by the kernel's mask ends with that handler. (After a handler that ran on
 * a stack of its own the answer may be yes for longer: then signals are settled later than they
 * could be.)
 */
static inline bool signals_is_inside(uintptr_t stack)
{
    return UNLIKELY(stack < signals_own.frame);
}

/* Blocks what has been handed over since this thread came by last, where it is to be blocked. */
void signals_settle(void);

/* The same when our handler returns: brings the kernel's mask to what the thread believes. */
void signals_settle_after(uint64_t set, void *context);

/* Has the kernel block these as well when our handler returns. */
void signals_add_to_mask(void *context, uint64_t set);

/* Lets through what was held back for a call that is over. */
void signals_let_through(void);

#endif
