/* SPDX-License-Identifier: MIT */
/*
 * tree.h - this process's part in its tree: the state page, its line there, and who acts for all.
 *
 * The first process of a tree makes the page, its descendants inherit the mapping or open the file
 * that WEIR_TREE names. What lies on the program's own way (a fork, an accept, an exec, an exit)
 * only reads and writes memory: a child's pid is libc's, its time the vdso's.
 *
 * The head acts for the tree: the first process, and when that has ended (a daemon that forked
 * itself away) whoever asks first of those whose ancestors in the tree are all gone.
 */
#ifndef WEIR_TREE_H
#define WEIR_TREE_H

#include "page.h"

/* ---- start-up ---- */

/*
 * The first process of a tree: makes its page, or takes up the one that it made before it exec'd
 * (name: WEIR_TREE's value, NULL where there is none). Any other: opens the page that name tells,
 * or makes one of its own. Takes a line. Never fails: without a file the page is memory that the
 * tree shares all the same, and a line in the log says what can't be seen.
 */
void tree_begin(const char *name, bool first);

/* The page of this process's tree, or NULL before tree_begin. */
struct page *tree_page(void);

/* What programs that this one starts are to find in WEIR_TREE: the page's path, or "PID.START". */
const char *tree_name(void);

/* Whether name (WEIR_TREE's value) says that it was this process that began the tree. */
bool tree_is_named_after_us(const char *name);

/* ---- fork, exec, exit ---- */

/* Before a fork that shares descriptors; and in the child after it (not needed, but sooner). */
void tree_forks(void);
void tree_in_child(void);

/* A child finds that it is one (epoch.h): it has no line yet. inherits: sockets of its parent's. */
void tree_forked(bool inherits);

/* Makes sure that this process has a line, where it can have one. */
void tree_take_line(void);
bool tree_has_line(void);

/* About to exec; it failed, the program goes on. About to end. */
void tree_execs(void);
void tree_exec_failed(void);
void tree_ends(void);

/* Whether this process has ever started another. */
bool tree_has_forked(void);
void tree_spawns(void);

/* ---- orders ---- */

/* Whether this process acts for the tree. May make a few system calls: in a trigger's handler. */
bool tree_is_head(void);

/* Is there anybody else in the tree who serves? */
bool tree_is_alone(void);

/* Asks it of the whole tree (page_ask). The others are woken by tree_wake, in the thread. */
void tree_ask(enum action action, const struct origin *origin);
void tree_wake(bool again);

/* What has been asked since the last call: the actions, as bits 1 << enum action. */
uint32_t tree_news(void);

/* A drain of the tree is on; is over. */
bool tree_is_draining(void);
bool tree_is_drained(void);

/*
 * For a process that is drained itself, while the tree is not: the head, or the first of those that
 * are left, sees whether all are, and says so in the page. Returns whether the tree is drained.
 */
bool tree_check(int64_t now);

/* ---- what it says of itself ---- */

void tree_set_phase(enum phase phase);
void tree_set_flag(uint32_t flag, bool on);
void tree_count_loss(bool in_use, bool unread, bool unsent);
void tree_count_cut(void);

/* All counts of the tree; its cut connections. */
void tree_totals(struct totals *totals);
uint64_t tree_cut(void);

/* A listener: its index in the page, + 1 (0: no room); what became of it. */
int tree_add_listener(const struct sockaddr *addr, socklen_t len, enum mode mode);
void tree_set_listener(int index, enum page_listener_state state);
void tree_remove_listener(int index);

/* ---- connections that are handed on ---- */

/* This process has closed a connection that another one may hold, with this record. */
void tree_hands_on(uint64_t record);
/* This process takes over a connection of another's. */
void tree_adopts(uint32_t identity);

#endif
