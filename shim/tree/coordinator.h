/* SPDX-License-Identifier: MIT */
/*
 * coordinator.h - orders to the whole tree, and when they have been done.
 *
 * The coordinator acts for the tree. It is the tree's first process. When that has ended (a daemon
 * that forked itself away), the first process that asks becomes it, if its ancestors in the tree
 * are all gone.
 */
#ifndef WEIR_COORDINATOR_H
#define WEIR_COORDINATOR_H

#include "base/state_page.h"
#include "base/proc.h"

/* Tells whether this process is the coordinator, and makes it so where it can be. May make a few
 * system calls: in a trigger's handler. */
bool coordinator_is_here(void);

/* Tells whether that process is in the tree in any way and drains with it. For the worker. */
bool coordinator_has_process(int32_t pid);

/* Leaves an order for the whole tree (page_ask). */
void coordinator_ask(enum action action, const struct origin *origin);

/* Counts the tree's connections as they were at the order. For the worker, before coordinator_wake:
 * it may take long. */
void coordinator_count_asked(void);

/* Wakes the tree's other processes, and passes the order on to attached subtrees. For the worker.
 */
void coordinator_wake(void);

/* since: when the drain was ordered (sys_now_ms); timeout: ms, 0: for ever. */
struct drain_terms {
    bool whole_tree;
    int64_t since, timeout;
};

/* Gives the terms of the tree's drain, as this process knows them. */
void coordinator_terms(struct drain_terms *terms);

/* Wakes processes again that have not begun, or that can make no thread, while the tree drains. */
void coordinator_keep_awake(int64_t now);

/* Tells whether this process has ended the tree's drain: one does, and logs it. */
bool coordinator_has_ended_it(void);

/* Tells whether it ended that drain after the timeout, before each process had ended its own. */
bool coordinator_gave_up(void);

/* What was counted when it ended, which is what the page says of it. Returns when that was. */
int64_t coordinator_totals_at_end(struct totals *totals);

/* Returns the actions that have been ordered since the last call, as bits 1 << enum action. */
uint32_t coordinator_news(void);

/* Tell whether a drain of the tree is on; whether it is over. */
bool coordinator_tree_drains(void);
bool coordinator_tree_is_drained(void);

/*
 * Looks whether all of the tree is drained, and says so in the page. Called by a process that is
 * drained itself; the coordinator does it, or else the first process that is left. Returns whether
 * the tree is drained.
 */
bool coordinator_check(int64_t now);

/* Begins or joins the tree (membership_begin). This process does not do what was ordered before. */
bool coordinator_joins(const char *name, bool first);

/* The same in a child. */
void coordinator_forget(void);

#endif
