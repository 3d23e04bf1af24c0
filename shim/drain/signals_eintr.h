/* SPDX-License-Identifier: MIT */
/*
 * signals_eintr.h - calls that a handler of ours has ended with EINTR, and those of the program's.
 */
#ifndef WEIR_SIGNALS_EINTR_H
#define WEIR_SIGNALS_EINTR_H

#include "conn/epoch.h"

#include <errno.h>
#include <ucontext.h>

/*
 * Whether the EINTR with which a call has just failed was the doing of our handler alone, so that
 * the call is to be made again.
 */
bool signals_must_restart(void);

/* Whether our handler may have ended one; and the same, errno being asked (libc) only then. */
static inline bool signals_must_call_again(void)
{
    return UNLIKELY(EPOCH_THREAD.interrupted) && errno == EINTR && signals_must_restart();
}

/* Has a call failed, and not by our doing? (Most that fail have nothing to read: EAGAIN.) */
static inline bool signals_left_alone(ssize_t result)
{
    return result < 0 && LIKELY(!EPOCH_THREAD.interrupted);
}

/* To be called by our handler, first: tells the above. */
void signals_interrupted(const void *context);
/* The same, last: a wait that is made again there already (signals_waits_on) needs no telling. */
void signals_goes_on(void *context);

/*
 * Whether an epoll_wait without a limit waits on by itself where our handler ended it: our handler
 * puts the thread back to before the system call, as the kernel does under SA_RESTART for others.
 * For that it has to know the call by its code, which is looked at here, after epoch_make.
 */
extern HIDDEN bool signals_waits_on;
void signals_know_wait(const void *epoll_wait);
/* Before a call that waits: an earlier interruption was another call's. */
static inline void signals_about_to_wait(void)
{
    epoch_lives_on();
    epoch_thread.interrupted = false;
}

/* Ends a call that our handler interrupted and that the kernel would begin again: the program's own
 * handler has not asked for that (SA_RESTART). */
void signals_end_call(ucontext_t *at);

#endif
