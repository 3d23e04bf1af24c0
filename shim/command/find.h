/* SPDX-License-Identifier: MIT */
/*
 * find.h - which state page belongs to a process; which there are.
 */
#ifndef WEIR_COMMAND_FIND_H
#define WEIR_COMMAND_FIND_H

#include "command/reader.h"

/*
 * The tree that a process belongs to, with the pages that are joined to it. Returns an exit code,
 * and says on stderr why where it is not EXIT_DONE.
 */
int find_tree(int32_t pid, struct tree **tree);

/* The version of the shim in a process, as its state page has it. False: none is to be seen. */
bool find_version(int32_t pid, char version[VERSION_TEXT]);

/* The trees that this user may see and that live, by pid. NULL: there are none. */
struct tree *find_trees(void);

#endif
