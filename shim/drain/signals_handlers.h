/* SPDX-License-Identifier: MIT */
/*
 * signals_handlers.h - the program's handlers, and what they find and leave of the signals that are
 * ours.
 */
#ifndef WEIR_SIGNALS_HANDLERS_H
#define WEIR_SIGNALS_HANDLERS_H

#include "base/common.h"

#include <signal.h>

/*
 * Does sigaction(2) of a signal that is not ours. From signals_wrap on the kernel gets a function
 * of ours for the program's handler, which shows that the mask that the program believes in
 * (signals_handlers.c); the program reads back its own. signals_will_wrap: a handler was installed
 * by another way, which is not to be taken any more once signals_wraps.
 */
int signals_install(int sig, const struct sigaction *action, struct sigaction *old);
void signals_wrap(void);
bool signals_wraps(void);
void signals_will_wrap(int sig);

/* What the kernel has installed, as the program has: without what signals_install has made of it.
 */
void signals_unwrap(int sig, struct sigaction *action);

/* Calls the program's handler as the kernel would have: under the mask that its action asks for. */
void signals_call_program(const struct sigaction *action, siginfo_t *info, void *context);

#endif
