/* SPDX-License-Identifier: MIT */
/*
 * signals_eintr.h - calls that a handler of ours has ended with EINTR, and those of the program's.
 */
#ifndef WEIR_SIGNALS_EINTR_H
#define WEIR_SIGNALS_EINTR_H

#include "conn/fork_detect.h"

#include <errno.h>
#include <ucontext.h>

/* Tells whether our handler alone has ended the call that has just failed with EINTR, so that it is
 * to be made again. */
bool signals_must_restart(void);

/* The same, but errno (libc) is asked only where our handler may have ended a call. */
static inline bool signals_must_call_again(void)
{
    return UNLIKELY(fork_thread.interrupted) && errno == EINTR && signals_must_restart();
}

/* Notes which call our handler has interrupted. Called by our handler, first, and again last. */
void signals_interrupted(const void *context);

/* Begins a call that waits: an earlier interruption was another call's. */
static inline void signals_about_to_wait(void)
{
    fork_lives_on();
    fork_thread.interrupted = false;
}

/* Ends a call that our handler interrupted and that the kernel would begin again: the program's own
 * handler has not asked for that (SA_RESTART). */
void signals_end_call(ucontext_t *at);

#endif
