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

/* Takes sig, keeping the program's action aside. False: refused by the kernel. */
bool signals_take(int sig, signals_fn *handler);

/* Has the program a handler of its own for it? */
bool signals_has_handler(int sig);
bool signals_is_ignored(int sig);
/* Would its default action be the program's answer: no handler, and no thread that waits for it? */
bool signals_is_default(int sig);
/* The same of one that this thread has got: it has no handler, and is not blocked here. */
bool signals_is_default_here(int sig);

/* From now on these are the program's: signals_deliver gives them to it. */
void signals_hand_over(uint64_t set);

/* Makes the program's actions the kernel's at once: it makes no secret of what it wants. The
 * calling thread has settled (signals_settle). */
void signals_give_back(uint64_t set);

/* In our handler, for a signal that has been handed over: the program gets it. False: it ignores
 * it, or its thread blocks it and another one will get it; is_directed: this one, in the end. */
bool signals_deliver(int sig, siginfo_t *info, void *context, bool is_directed);

/* The same in a vfork child, to which it came: it does to that child what it would without us. */
void signals_deliver_in_vfork_child(int sig, siginfo_t *info, void *context);

/*
 * Sends the process (tid 0) or a thread of it a signal with all that it came with; but its si_code
 * becomes SI_QUEUE where the kernel lets nobody but the first thread claim to be somebody else
 * (kernel/signal.c, do_rt_sigqueueinfo), and this process has not sent it itself.
 */
void signals_send(int tid, const siginfo_t *info);

/* ---- what the program does ---- */

/* sigaction(sig, action, old). False: not one of ours, to be made by signals_install. */
bool signals_action(int sig, const struct sigaction *action, struct sigaction *old);

#endif
