/* SPDX-License-Identifier: MIT */
/*
 * find.h - which state page belongs to a process; which pages there are.
 */
#ifndef WEIR_COMMAND_FIND_H
#define WEIR_COMMAND_FIND_H

#include "command/reader.h"

/*
 * Finds the tree that `weir COMMAND NAME` is about, with the pages that are attached to it, and a
 * process of it: NAME is a number, the tree's systemd unit (nginx.service, or nginx) or its
 * program, where one tree alone has it. Where there is none weir ends, and says why.
 */
struct tree *find_target(const char *command, const char *name, int32_t *pid);

/* Finds the tree whose first process, or the one that acted for it later, had this pid. NULL: none
 * that lives did. */
struct tree *find_begun_by(int32_t pid);

/* Whether a process has the pages of other trees alone: a tree that it began, or belongs to. */
bool find_is_of_another(int32_t pid, const struct tree *tree);

/* Whether the shim is in it. */
bool find_has_shim(int32_t pid);

/* The version of the shim in a process, as its state page has it. NULL: it is not known. */
const char *find_version(int32_t pid);

/*
 * The trees that live and that this user may see, by pid. NULL: there are none. The files of trees
 * that are gone are removed from the run directories, if they are this user's. Trees of another
 * version are named on stderr, once.
 */
struct tree *find_trees(void);

/* Whether find_trees has named a tree of another version. */
extern bool find_met_others;

#endif
