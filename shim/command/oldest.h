/* SPDX-License-Identifier: MIT */
/*
 * oldest.h - which connections are in use, and for how long.
 */
#ifndef WEIR_COMMAND_OLDEST_H
#define WEIR_COMMAND_OLDEST_H

#include "command/proc/sockets.h"
#include "command/view.h"

/*
 * Connections that one process has closed and another, which holds them too, has not touched yet
 * (page.h, gap): they are in use.
 */
void add_handed_on(struct view *view, struct tree *tree, struct sockets *sockets);

/* Fills in view->oldest. */
void take_oldest(struct view *view, struct tree *tree, struct sockets *sockets);

#endif
