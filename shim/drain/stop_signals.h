/* SPDX-License-Identifier: MIT */
/*
 * stop_signals.h - the signals of WEIR_STOP_SIGNALS, which wait for the end of a drain.
 *
 * Each is kept as it came, and released to the program when the drain is over.
 */
#ifndef WEIR_STOP_SIGNALS_H
#define WEIR_STOP_SIGNALS_H

#include "drain/signals.h"

/* Takes these signals: the kernel is to call our handler for them. */
void stop_signals_take(uint64_t set);

/* Those that have been taken, as bits; 0 before. */
uint64_t stop_signals_all(void);

/* Holds a signal until stop_signals_release. Returns false if one like it waits already. */
bool stop_signals_hold(int sig, const siginfo_t *info, int64_t now);

/* Those that wait, and since when the first does (sys_now_ms). */
uint64_t stop_signals_held(void);
int64_t stop_signals_held_since(void);

/* Sends those that wait to the program, which gets them by signals_deliver. */
void stop_signals_release(void);

/* Hands all of them over: from now on they pass straight through. */
void stop_signals_hand_over(void);

/*
 * Sees to a stop signal that came to another process than the tree's coordinator: it is held while
 * the tree drains. Returns the ms until it has to be looked at again; -1: there is none.
 */
int64_t stop_signals_step(int64_t now);

/* Ends the process if it is pid 1, where the kernel drops a default action (pid_namespaces(7));
 * not by a signal that ends nobody. */
void stop_signals_end_init(int sig);

/* Puts back the si_code that a released signal has lost on its way (signals_send). */
void stop_signals_restore_code(siginfo_t *info);
/* The same for what a signalfd gave: `bytes` of struct signalfd_siginfo. */
void stop_signals_restore_codes(void *read, size_t bytes);

/* In a child: none waits. */
void stop_signals_forked(void);

#endif
