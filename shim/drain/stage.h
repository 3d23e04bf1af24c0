/* SPDX-License-Identifier: MIT */
/*
 * stage.h - how far this process has come, from its load to its end (start.h).
 */
#ifndef WEIR_STAGE_H
#define WEIR_STAGE_H

#include "base/common.h"

enum stage { STAGE_NOT_LOADED, STAGE_ASIDE, STAGE_DORMANT, STAGE_STARTING, STAGE_SERVING };

/* enum stage; a futex word. start.c alone writes it. */
extern HIDDEN _Atomic uint32_t stage;

/* Whether this process has never served: it has nothing to drain. */
static inline bool stage_is_dormant(void)
{
    return atomic_load(&stage) == STAGE_DORMANT;
}

/* Whether this program began as the first process of its tree, or as its successor by exec. */
extern HIDDEN bool stage_began_tree;

/* Is it the first process of its tree? */
bool stage_is_first(void);

/* Leaves the tree: the process is about to end. */
void stage_ends(void);

#endif
