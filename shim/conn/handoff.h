/* SPDX-License-Identifier: MIT */
/*
 * handoff.h - connections that go from one process of a tree to another.
 *
 * One process closes its descriptor (it has forked, or has sent it over a socket), and another one
 * serves on. Between the two neither counts it: the tree's page notes it in its hand-off table, by
 * the connection's fingerprint, so that a drain does not end in that moment.
 */
#ifndef WEIR_HANDOFF_H
#define WEIR_HANDOFF_H

#include "base/state_page.h"

/* Releases a connection with this record, which was closed here and which another process may
 * hold. Without system calls, as all of these. */
void handoff_release(uint64_t record);

/* Notes that a connection was sent to another process (SCM_RIGHTS); whether any ever was, in this
 * tree. */
void handoff_note_sent(void);
bool handoff_any_sent(void);

/* Whether a connection has been on its way between two processes for less than 2 s. */
bool handoff_any_is_new(void);

/* Whether this process has a page beside its tree's, which it may not open: what the tree has
 * released can't be looked up there. */
bool handoff_is_apart(void);

/* Takes over a connection that somebody has released. Returns false where there is no such. */
bool handoff_take(uint32_t fingerprint);

/* Takes over a connection of another process's, whether that has released it yet or not. */
void handoff_adopt(uint32_t fingerprint);

#endif
