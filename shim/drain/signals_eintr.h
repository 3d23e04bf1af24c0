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

/*
 * The same of a call that has returned `done`, less than it was to write or read: a program that
 * waits for all need not expect less, and takes it for the end (signal(7): SA_RESTART does not help
 * where something was transferred). The rest is to be done.
 */
static inline bool signals_must_go_on(ssize_t done)
{
    if (LIKELY(fork_thread.cut_short != done) || done <= 0)
        return false;
    fork_thread.cut_short = 0;
    return true;
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
