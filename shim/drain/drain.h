/* SPDX-License-Identifier: MIT */
/*
 * drain.h - close-idle, drain, drain-all: which connection, and when.
 *
 * All but drain_phase, drain_wait, drain_resumes and drain_forked is for the worker alone.
 */
#ifndef WEIR_DRAIN_H
#define WEIR_DRAIN_H

#include "tree/coordinator.h"

enum phase drain_phase(void);

/* Begins the action, or makes a drain that is on stronger. */
void drain_begin(enum action action, const struct origin *origin, const struct drain_terms *terms);

/* Does what can be done now. Returns the ms until there may be more to do; -1: nothing is left. */
int64_t drain_step(void);

/* Returns a futex word that counts the close-idle sweeps. */
_Atomic uint32_t *drain_sweeps(void);

/*
 * Waits until the process is drained. Returns 0; ETIMEDOUT: a connection was force-closed; ENOBUFS:
 * a connection or a listener goes on for which there was no room in the table.
 */
int drain_wait(void);

/* Goes on with a drain that was over: another process has handed over a connection. */
void drain_resumes(void);

/* Begins anew in a child, which has drained nothing yet. Returns whether its parent was draining.
 */
bool drain_forked(void);

/* Tells whether this drain was begun by the parent, and the process goes on with it. */
bool drain_is_inherited(void);

#endif
