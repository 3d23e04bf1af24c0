/* SPDX-License-Identifier: MIT */
/*
 * start.h - what is set up when: settings at load, the rest before the first connection.
 *
 *   load       the constructor: settings are read, the environment is put in order; in the first
 *              process of a tree the signals are taken. Any other process is dormant from here on.
 *   serving    the first bind, listen, accept or inherited socket: the table is made, the signals
 *              are taken, the log says "ready".
 *   forked     a child finds out that it is one (epoch.h).
 *
 * Where anything fails the shim stands aside: one line in the log, and the program runs as if it
 * weren't there.
 */
#ifndef WEIR_START_H
#define WEIR_START_H

#include "base/common.h"

/* Makes sure that the settings are read: in another library's constructor they may not be. */
void start_settled(void);

/* Makes sure that the process is serving. False: the shim stands aside. */
bool start_serving(void);

/* Before a fork that shares descriptors. Makes no system call. */
void start_forks(void);

/*
 * Whether a program that is started with this environment, by inetd's way (the connection is its
 * descriptor 0), has lost us on the way: an inetd takes LD_PRELOAD out. What to put back, or NULL.
 */
const char *start_lost_preload(char *const *envp);

/*
 * A program may start its own successor, to which its listeners go across exec (nginx, gunicorn,
 * unicorn by USR2): that is a tree of its own, where a worker that was started in the same way is
 * one of ours. A worker is told by its arguments that it is one, a successor finds nothing there
 * that its predecessor was not told as well. So where that is so, the program is told in WEIR_TREE
 * that it may be a successor: which entry of envp that is, or -1; and the entry that it is to get
 * instead, in room of START_TREE_ROOM bytes.
 */
#define START_TREE_ROOM 300
long start_successors_tree(char *const *argv, char *const *envp);
char *start_mark_tree(const char *entry, char *room);

#endif
