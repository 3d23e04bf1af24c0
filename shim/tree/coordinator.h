/* SPDX-License-Identifier: MIT */
/*
 * coordinator.h - orders to the whole tree: who gives them, who is told, and when they have been
 * done.
 *
 * The head acts for the tree: the first process, and when that has ended (a daemon that forked
 * itself away) whoever asks first of those whose ancestors in the tree are all gone.
 */
#ifndef WEIR_COORDINATOR_H
#define WEIR_COORDINATOR_H

#include "base/state_page.h"
#include "base/proc.h"

/* Whether this process acts for the tree. May make a few system calls: in a trigger's handler. */
bool coordinator_is_here(void);

/* Whether that process is one of the tree's in any way, and drains with it. In the worker thread.
 */
bool coordinator_has_process(int32_t pid);

/* Asks it of the whole tree (page_ask). What may take long is done in the thread: what there was is
 * counted by coordinator_count_asked, before the others are woken by coordinator_wake. */
void coordinator_ask(enum action action, const struct origin *origin);
void coordinator_count_asked(void);
void coordinator_wake(void);

/* since: sys_now_ms, when it was asked for; timeout: ms, 0: for ever. */
struct drain_terms {
    bool whole_tree;
    int64_t since, timeout;
};

/* The terms of the tree's drain that is on, as this process knows them. */
void coordinator_terms(struct drain_terms *terms);

/* In the head, while its tree drains: wakes those that need it again and again. */
void coordinator_keep_awake(int64_t now);

/* Whether it was this process that saw the end of the tree's drain: one does, and tells it. */
bool coordinator_has_ended_it(void);

/* Whether it ended it after the timeout without some process that had not ended its own drain. */
bool coordinator_gave_up(void);

/* What has been asked since the last call: the actions, as bits 1 << enum action. */
uint32_t coordinator_news(void);

/* A drain of the tree is on; is over. */
bool coordinator_tree_drains(void);
bool coordinator_tree_is_drained(void);

/*
 * For a process that is drained itself, while the tree is not: the head, or the first of those that
 * are left, sees whether all are, and says so in the page. Returns whether the tree is drained.
 */
bool coordinator_check(int64_t now);

/* Begins or joins the tree (membership_begin). What has been asked of it before is not this
 * process's to do. */
bool coordinator_joins(const char *name, bool first);

/* The same in a child. */
void coordinator_forget(void);

#endif
