/* SPDX-License-Identifier: MIT */
/*
 * joined.h - pages of this tree's processes that could not open its own.
 *
 * A process that execs after it gave up the right to open the page makes one, which names the tree.
 * The head finds them in the run directories, passes on what is asked, and waits for them. What is
 * in such a page is untrusted (page.h).
 */
#ifndef WEIR_JOINED_H
#define WEIR_JOINED_H

#include "page.h"

/* Whether there is one with a process that lives. Makes system calls: in a trigger's handler. */
bool joined_any(void);

/* Passes on what has been asked of this tree. In the handler thread. */
void joined_ask(void);

/* Whether they are all drained. Looks a few times a second at the most. */
bool joined_are_done(int64_t now);

/* In a child: it has asked nobody yet. */
void joined_forget(void);

#endif
