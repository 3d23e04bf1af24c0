/* SPDX-License-Identifier: MIT */
/*
 * membership.h - this process's part in its tree: the state page, its line there, and who acts for
 * all.
 *
 * The first process of a tree makes the page, its descendants inherit the mapping or open the file
 * that WEIR_TREE names. What lies on the program's own way (a fork, an accept, an exec, an exit)
 * only reads and writes memory: a child's pid is libc's, its time the vdso's.
 */
#ifndef WEIR_MEMBERSHIP_H
#define WEIR_MEMBERSHIP_H

#include "base/state_page.h"

/* ---- start-up ---- */

/*
 * The first process of a tree: makes its page, or takes up the one that it made before it exec'd
 * (name: WEIR_TREE's value, NULL where there is none). Any other: opens the page that name tells,
 * or makes one of its own. Takes a line. Without a file the page is memory that the tree shares all
 * the same, and a line in the log says what can't be seen. False: not even for that there is room.
 */
bool membership_begin(const char *name, bool first);

/*
 * Whether this process, which inherits listeners of that tree's across exec, succeeds it: others of
 * the tree go on, that are not its children (it has not become another program itself, as HAProxy's
 * master does). Until membership_has_succeeded the listeners that the tree had made count as its
 * own.
 */
bool membership_succeeds(const char *name);
void membership_has_succeeded(void);

/* What programs that this one starts are to find in WEIR_TREE: the page's path, or its name. */
const char *membership_name(void);

/* Whether name (WEIR_TREE's value) says that it was this process that began the tree. */
bool membership_is_named_after_us(const char *name);

/* ---- fork, exec, exit ---- */

/* Before a fork that shares descriptors; inherits: sockets that matter are among them. */
void membership_forks(bool inherits);

/* A child finds that it is one (epoch.h): it has no line yet. It lives on: it has, if it inherits.
 */
void membership_forked(void);
void membership_lives_on(void);

/* Whether it was this process that began the tree: known without the page. */
bool membership_is_first(void);

/* About to exec; it failed, the program goes on. About to end. */
void membership_execs(void);
void membership_exec_failed(void);
void membership_ends(void);

/* Whether one of those that it was forked from, as far as they are known (up to oldest; 0: all of
 * them), is there still. */
bool membership_descends_from_the_living(int32_t oldest);

/* Whether this process has ever started another. */
bool membership_has_forked(void);
void membership_spawns(void);

/* ---- the tree as a whole ---- */

/* The delay of the tree's drain is over. */
void membership_delayed(void);

/* All counts of the tree; its force-closed connections. */
void membership_totals(struct totals *totals);
uint64_t membership_cut(void);

/* Whether a process of the tree (or of the one that it succeeds) has made a listener of this
 * address itself. */
bool membership_listens_at(const struct sockaddr *addr, socklen_t len);

#endif
