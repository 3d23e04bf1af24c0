/* SPDX-License-Identifier: MIT */
/*
 * environment.h - what the environment says to this program, and to those that it starts.
 */
#ifndef WEIR_ENVIRONMENT_H
#define WEIR_ENVIRONMENT_H

#include "base/common.h"

/* Takes our item out of LD_PRELOAD, and the WEIR_* names out: programs that this one starts run
 * without us. */
void environment_leave_children(char **envp);

/* Names the tree in WEIR_TREE, for the programs that this one starts. */
void environment_name_tree(char **envp);

/* WEIR_TREE's value there, or NULL. */
char *environment_tree(char *const *envp);

/* Keeps copies of what the environment says at load; the value that WEIR_TREE had then, or NULL. */
void environment_remember(char *const *envp, bool children_follow);
extern HIDDEN const char *environment_tree_value;

/*
 * Whether a program that is started with this environment, by inetd's way (the connection is its
 * descriptor 0), has lost us on the way: an inetd takes LD_PRELOAD out. What to put back, or NULL.
 */
const char *environment_lost_preload(char *const *envp);

/*
 * A program may start its own successor, to which its listeners go across exec (nginx, gunicorn,
 * unicorn by USR2): that is a tree of its own, where a worker that was started in the same way is
 * one of ours. A worker is told by its arguments that it is one, a successor finds nothing there
 * that its predecessor was not told as well. So where that is so, the program is told in WEIR_TREE
 * that it may be a successor (MARK_SUCCESSOR).
 *
 * Where this one serves nothing (a shell, start-stop-daemon), the program may be the one that goes
 * on when this one has ended: it is told to remember how it was started (MARK_START, record.h).
 */
enum environment_mark { MARK_NONE, MARK_SUCCESSOR, MARK_START };
enum environment_mark environment_mark_for(char *const *argv);

/* Which entry is WEIR_TREE's. -1: there is none. */
long environment_find_tree(char *const *envp);

/* That entry with a mark, in room of ENVIRONMENT_TREE_ROOM bytes. */
#define ENVIRONMENT_TREE_ROOM 300
char *environment_put_mark(const char *entry, enum environment_mark mark, char *room);

/* Takes the mark off WEIR_TREE's value (NULL: there is none), and returns it. */
enum environment_mark environment_take_mark(char *value);

/* Keeps this program's own command line, for environment_mark_for. */
void environment_remember_words(int argc, char **argv);

/* Tells whether it had this word. */
bool environment_is_own_word(const char *word);

#endif
