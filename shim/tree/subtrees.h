/* SPDX-License-Identifier: MIT */
/*
 * subtrees.h - attached subtrees: processes of this tree that could not open its page.
 *
 * A process that execs after it gave up the right to open the page makes one, which names the tree.
 * The coordinator passes orders on to it, and waits for it. A subtree is known by its descent, as
 * the kernel has it (/proc/PID/task/TID/children), never by what a file claims: files of other
 * users are not even opened. Such a page is untrusted (state_page.h). It is copied, not mapped: its
 * owner may truncate the file at any time, and a read of the mapping would raise SIGBUS.
 */
#ifndef WEIR_SUBTREES_H
#define WEIR_SUBTREES_H

#include "base/state_page.h"

/* Finds the subtrees, and passes on what has been ordered of this tree (since and timeout: struct
 * drain_terms). For the worker. */
void subtrees_ask(int64_t since, int64_t timeout);

/*
 * The same of those that were not there then, again and again while a drain is on: a process that
 * was between its fork and its exec, and runs as another user since.
 */
void subtrees_ask_new(int64_t since, int64_t timeout, int64_t now);

/* Tells whether all that were found are drained. Looks a few times a second at the most. */
bool subtrees_are_done(int64_t now);

/* Tells whether that process has a slot in one of them. For the worker. */
bool subtrees_has(int32_t pid);

/* Forgets them, in a child: it has ordered nothing. */
void subtrees_forget(void);

#endif
