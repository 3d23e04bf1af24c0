/* SPDX-License-Identifier: MIT */
/* walk.h - a walk over all connections of this process, a few claimed at a time. */
#ifndef WEIR_WALK_H
#define WEIR_WALK_H

#include "base/common.h"

/* Visits fd, which is claimed. Returns whether the walk is to go on. */
typedef bool walk_fn(int fd, void *context);
void walk(walk_fn *visit, void *context);

/*
 * Waits until no walk is on, for WALK_HELD_MS at the most, and lets none begin until walk_go_on:
 * for a thread that ends the process, for what was cut is counted and named behind the cut.
 */
#define WALK_HELD_MS 500
void walk_hold(void);
void walk_go_on(void);

#endif
