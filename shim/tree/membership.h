/* SPDX-License-Identifier: MIT */
/*
 * membership.h - this process as a member of its tree, from its start over fork and exec to its
 * end.
 *
 * The first process of a tree makes the state page. Its descendants inherit the mapping, or open
 * the file that WEIR_TREE names. On a fork, an accept, an exec or an exit of the program only
 * memory is read and written: a child's pid is libc's, its time the vdso's.
 */
#ifndef WEIR_MEMBERSHIP_H
#define WEIR_MEMBERSHIP_H

#include "base/state_page.h"

/* ---- start-up ---- */

/*
 * Makes the tree's page, or opens it, and takes a slot in it. The first process of a tree makes it,
 * or goes on with the one that it made before it exec'd (name: WEIR_TREE's value, NULL where there
 * is none). Any other opens the page that name tells, or makes one of its own. Without a file the
 * page is memory that the tree shares all the same, and a line in the log says what can't be seen.
 * Returns false if there is no memory either.
 */
bool membership_begin(const char *name, bool first);

/*
 * Tells whether this process, which has inherited listeners of that tree across exec, is its
 * successor: other processes of the tree go on, and are not its children (HAProxy's master becomes
 * another program itself, and is none). Until membership_has_succeeded the listeners that the tree
 * had made count as its own.
 */
bool membership_succeeds(const char *name);
void membership_has_succeeded(void);

/* Tells whether processes of that tree descend from this one, which so was of it before it became
 * another program: HAProxy's master becomes itself again, and has no listener then. */
bool membership_leads(const char *name);

/* This process listens: the tree is called after the first that does (not sh, env, pg_ctl). */
void membership_listens(void);

/* Tells whether a process of the tree has listened. */
bool membership_has_listened(void);

/* Returns what programs that this one starts are to find in WEIR_TREE: the page's path, or its
 * name. */
const char *membership_name(void);

/* Tells whether name (WEIR_TREE's value) is of the tree that this process began. */
bool membership_is_named_after_us(const char *name);

/* ---- fork, exec, exit ---- */

/* Prepares for a fork that shares descriptors. inherits: sockets that matter are among them. */
void membership_forks(bool inherits);

/* Begins anew in a child, which has no slot yet (fork_detect.h). */
void membership_forked(void);

/* Takes a slot for a child that lives on, if it has inherited sockets. */
void membership_lives_on(void);

/* Tells whether this process began the tree, without the page. */
bool membership_is_first(void);

/* Prepares for an exec; undoes that where it failed. */
void membership_execs(void);
void membership_exec_failed(void);

/* Tells whether a process that this one was forked from still lives, as far as they are known. */
bool membership_descends_from_the_living(void);

/* Tells whether this process has ever started another; notes that it does. */
bool membership_has_forked(void);
void membership_spawns(void);

/* ---- the tree as a whole ---- */

/* Ends the delay of the tree's drain. */
void membership_delayed(void);

/* Counts the connections of the tree. */
void membership_totals(struct totals *totals);

/* Tells whether a process of the tree (or of the one that it succeeds) has made a listener of this
 * address itself. */
bool membership_listens_at(const struct sockaddr *addr, socklen_t len);

#endif
