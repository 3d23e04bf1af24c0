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
 * Does sigaction(2) of a signal that is not ours. From signals_wrap on the kernel gets a wrapper of
 * ours for the program's handler, which shows it the mask that the program believes in
 * (signals_handlers.c). The program reads back its own.
 */
int signals_install(int sig, const struct sigaction *action, struct sigaction *old);

/* Wraps all handlers from now on, also those that are installed. Whether they are wrapped. */
void signals_wrap(void);
bool signals_wraps(void);

/* Notes a handler that was installed by another way, which is not to be used once signals_wraps. */
void signals_will_wrap(int sig);

/* Takes the wrapper off an action that the kernel has. */
void signals_unwrap(int sig, struct sigaction *action);

/* Calls the program's handler as the kernel would have, under the mask that its action asks for. */
void signals_call_program(const struct sigaction *action, siginfo_t *info, void *context);

#endif
