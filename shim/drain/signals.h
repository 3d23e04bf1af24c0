/* SPDX-License-Identifier: MIT */
/*
 * signals.h - the program's view of the signals that are ours.
 *
 * For each of them the kernel has our handler, and no thread's kernel mask blocks it. What the
 * program installs, blocks and waits for is kept here, read back to it as it would expect, and
 * made true once a signal is handed over to it: because it has a use for the trigger itself, or
 * because a stop signal has waited for the drain. Handing over is lazy: a thread that should have
 * blocked the signal does so when it comes by, and sends it on.
 *
 * All functions are async-signal-safe and leave errno alone.
 */
#ifndef WEIR_SIGNALS_H
#define WEIR_SIGNALS_H

#include "drain/signals_view.h"

/* Our handler, for all of them. */
extern HIDDEN signals_fn *signals_our_handler;

/* Takes sig, and keeps the program's action. Returns false if the kernel refuses. */
bool signals_take(int sig);

/* Tell whether the program has a handler of its own for sig; whether it ignores it. */
bool signals_has_handler(int sig);
bool signals_is_ignored(int sig);
/* Tells whether sig would do its default action: no handler, and no thread that waits for it. */
bool signals_is_default(int sig);
/* The same for a signal that has come to this thread: no handler, and not blocked here. */
bool signals_is_default_here(int sig);

/* Hands these over to the program: from now on signals_deliver gives them to it. */
void signals_hand_over(uint64_t set);

/* Makes the program's actions the kernel's at once: it makes no secret of what it wants. The
 * calling thread has settled (signals_settle). */
void signals_give_back(uint64_t set);

/*
 * Gives the program a signal that has been handed over, in our handler. Returns false if it ignores
 * it, or if its thread blocks it: then another one will get it (is_directed: this one, in the end).
 */
bool signals_deliver(int sig, siginfo_t *info, void *context, bool is_directed);

/* The same in a vfork child, to which the signal came. */
void signals_deliver_in_vfork_child(int sig, siginfo_t *info, void *context);

/*
 * Sends a signal to the process (tid 0) or to a thread of it, with all that it came with. Its
 * si_code becomes SI_QUEUE where the kernel lets only the first thread name another sender
 * (kernel/signal.c, do_rt_sigqueueinfo), and this process has not sent it itself.
 */
void signals_send(int tid, const siginfo_t *info);

/* ---- interrupting the program's threads ---- */

/*
 * Makes every other thread of the process leave the system call that it waits in and begin it
 * again, so that one that waits in accept finds what its listener has become.
 */
void signals_wake_threads(void);

/* Tells whether our handler was called for that, or for signals_yield; does it there. */
bool signals_is_wake(const siginfo_t *info);
void signals_woken(const siginfo_t *info, void *context);

/*
 * Leaves these to the program, which has a use of its own for them. They are handed over, and given
 * back as soon as the kernel's masks are what the threads believe. Every other thread is
 * interrupted for that, if any has ever blocked one of them.
 */
void signals_yield(uint64_t set);

/* ---- what the program does ---- */

/* Does sigaction(2). Returns false if sig is not ours: then signals_install does it. */
bool signals_action(int sig, const struct sigaction *action, struct sigaction *old);

#endif
