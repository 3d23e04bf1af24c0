/* SPDX-License-Identifier: MIT */
/*
 * worker.h - the signals that are ours, and the thread that acts on them.
 *
 * A signal's handler, on whichever of the program's threads the kernel picks, only leaves a wish
 * and makes the worker thread where there is none. The thread is a raw clone with a stack and a
 * TLS block of its own: it makes its system calls itself and never calls libc, for it may have been
 * made in the middle of malloc, and no libc knows it. It takes no signals, does what is wished
 * (drain.c), and ends when nothing is left to do: a process has it only while something drains.
 */
#ifndef WEIR_WORKER_H
#define WEIR_WORKER_H

#include "drain/drain.h"

#include <signal.h>

/* Takes the signals of the settings. What the program has installed for them already stays. */
void trigger_install(const struct settings *settings);

/*
 * The first process of its tree has become another program (exec). Where it did so in the middle of
 * a drain that one goes on, and the stop signal that waits for its end is the new program's.
 */
void trigger_resumes(void);

/* Whether it is the trigger, and not the program's own by now. */
bool trigger_is(int sig);

/*
 * The program has a use of its own for these signals: if the trigger is among them, it keeps it.
 * waits: it awaits or reads them, which nothing but this call tells; an action can be looked up.
 */
void trigger_yield(uint64_t wanted, bool waits);

/*
 * Around a call that changes what a thread may do or sees: credentials, capabilities, namespaces
 * (credentials(7), nptl(7)). Libc makes it on all of its threads, or it is the caller's own; ours
 * is known to nobody, and would keep what the program has given up. It ends before, and where it
 * had still to do the caller makes another afterwards, which has what that one has.
 */
void worker_steps_aside(void);
void worker_comes_back(void);

/*
 * Around a call by which the program enters a seccomp sandbox, in which no thread can be made: its
 * stop signals are its own from now on, and the trigger does nothing. Returns whether it was in one
 * before.
 */
bool trigger_enters_sandbox(void);
void trigger_entered_sandbox(bool was_in, bool failed);

/* The program listens: where a drain is over, nobody is to be accepted from that one either. */
void worker_sees_listener(void);

/* A stop signal that was sent on has lost its si_code on the way (signals_send): puts it back. */
void stop_signals_restore_code(siginfo_t *info);
/* The same for what a signalfd gave: `bytes` of struct signalfd_siginfo. */
void stop_signals_restore_codes(void *read, size_t bytes);

/*
 * Leaves a wish for the worker thread and makes sure that there is one. False: none can be made,
 * and idle connections were closed once instead.
 */
bool worker_order(enum action action, const struct origin *origin);

/* Has the thread look at what is asked of the tree. */
void worker_look(void);

/* A child's first look at itself: the thread did not come along. Then, when all the rest has been
 * put right: sends a signal again that has come meanwhile. */
void worker_forked(void);
void trigger_noticed(void);

#endif
