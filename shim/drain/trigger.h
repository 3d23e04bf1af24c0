/* SPDX-License-Identifier: MIT */
/*
 * trigger.h - the signals that are ours: the trigger, the control signal and the stop signals.
 *
 * Their handler only leaves an order for the worker.
 */
#ifndef WEIR_TRIGGER_H
#define WEIR_TRIGGER_H

#include "base/settings.h"

/* Takes the signals of the settings. What the program has installed for them already stays. */
void trigger_install(const struct settings *settings);

/*
 * Goes on with the tree's drain in its first process, which has become another program (exec). The
 * stop signal that waits for the drain's end is the new program's.
 */
void trigger_resumes(void);

/* Whether sig is the trigger, and not the program's own by now. */
bool trigger_is(int sig);

/*
 * Leaves these signals to the program, which has a use of its own for them. waits: it waits for
 * them or reads them, which nothing but this call tells; an action can be looked up.
 */
void trigger_yield(uint64_t wanted, bool waits);

/*
 * Stand around a call by which the program enters a seccomp sandbox, in which no thread can be
 * made. Its stop signals are its own from then on, and the trigger does nothing. The first returns
 * whether it was in one before.
 */
bool trigger_enters_sandbox(void);
void trigger_entered_sandbox(bool was_in, bool failed);

/* Begins anew in a child. trigger_noticed, when all the rest has: sends signals again that have
 * come meanwhile. */
void trigger_forked(void);
void trigger_noticed(void);

#endif
