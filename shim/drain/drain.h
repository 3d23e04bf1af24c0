/* SPDX-License-Identifier: MIT */
/*
 * drain.h - close-idle, drain, drain-all: which connection, and when.
 *
 * Everything here but drain_phase, drain_wait, drain_resumes and drain_forked runs in the handler
 * thread alone.
 */
#ifndef WEIR_DRAIN_H
#define WEIR_DRAIN_H

#include "tree/coordinator.h"

enum phase drain_phase(void);

/* Begins the action, or makes a drain that is on stronger. */
void drain_begin(enum action action, const struct origin *origin, const struct drain_terms *terms);

/*
 * Does what can be done now. Returns the ms until there may be more to do, or -1: nothing is left.
 */
int64_t drain_step(void);

/* How often close-idle has been done. For who waits for the next one: a futex word. */
_Atomic uint32_t *drain_sweeps(void);

/*
 * Waits until the process is drained. Returns 0; ETIMEDOUT: a connection was forced; ENOBUFS: one,
 * or a listener, goes on that there was no room to know.
 */
int drain_wait(void);

/* This process was drained, and has a connection all the same: one that another has handed on. */
void drain_resumes(void);

/* In a child: it has not drained anything yet. Returns whether its parent was draining. */
bool drain_forked(void);

/* Is this drain one that the process goes on with, which its parent had begun? */
bool drain_is_inherited(void);

#endif
