/* SPDX-License-Identifier: MIT */
/*
 * worker.h - the thread that drains, and the orders that it is given.
 *
 * An order is left by a signal's handler, on whichever of the program's threads the kernel picks,
 * or by a call of weir.h; who leaves it makes the thread where there is none. The thread is a raw
 * clone with a stack and a TLS block of its own. It makes its system calls itself and never calls
 * libc: it may have been made in the middle of malloc, and no libc knows it. It takes no signals,
 * does what is ordered (drain.h), and ends when nothing is left to do: a process has it only while
 * something drains.
 */
#ifndef WEIR_WORKER_H
#define WEIR_WORKER_H

#include "base/settings.h"
#include "base/state_page.h"

#include <signal.h>

/*
 * Leaves an order for this process and makes sure that there is a thread, or a timer in its place.
 * Returns false if neither can be made: idle connections were closed once instead.
 */
bool worker_order(enum action action, const struct origin *origin);

/* Leaves an order for the whole tree. */
void worker_order_tree(enum action action, const struct origin *origin);

/* Has the thread look at what is ordered of the tree, and at the stop signals that wait. */
void worker_look(void);

/* Notes that fd listens. Has the thread wait while others that were handed over are not bound. */
void worker_waits_for_bind(int fd);

/* Has a new listener stopped where a drain is on, or over. */
void worker_sees_listener(void);

/*
 * Stand around a call that changes what a thread may do or sees: credentials, capabilities,
 * namespaces (credentials(7), nptl(7)). Libc makes it on all of its threads, or it is the caller's
 * own. Our thread is known to nobody, and would keep what the program has given up. So it ends
 * before. If it had still something to do, the caller makes another one afterwards, which has what
 * the caller has.
 */
void worker_steps_aside(void);
void worker_comes_back(void);

/* Tells whether a signal is that timer's, which has the thread look. */
bool worker_is_timer(const siginfo_t *info);

/* Begins anew in a child, which has no worker. */
void worker_forked(void);

#endif
