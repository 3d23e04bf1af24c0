/* SPDX-License-Identifier: MIT */
/*
 * subtrees.h - pages of this tree's processes that could not open its own.
 *
 * A process that execs after it gave up the right to open the page makes one, which names the tree.
 * The head passes on what is asked, and waits for it. Such a process is known by its descent, as
 * the kernel has it (/proc/PID/task/TID/children), never by what a file claims: other users' files
 * are not even opened. What is in such a page is untrusted (state_page.h): it is copied, not
 * mapped, for who owns the file may cut it off at any time, which is SIGBUS for who looks at a
 * mapping.
 */
#ifndef WEIR_SUBTREES_H
#define WEIR_SUBTREES_H

#include "base/state_page.h"

/* Finds them, and passes on what has been asked of this tree (struct drain_terms has since and
 * timeout). In the worker thread. */
void subtrees_ask(int64_t since, int64_t timeout);

/* Whether those that were found are all drained. Looks a few times a second at the most. */
bool subtrees_are_done(int64_t now);

/* Whether that process is a line of one of them. In the worker thread. */
bool subtrees_has(int32_t pid);

/* In a child: it has asked nobody. */
void subtrees_forget(void);

#endif
