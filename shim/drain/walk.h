/* SPDX-License-Identifier: MIT */
/* walk.h - a walk over all connections of this process, a few claimed at a time. */
#ifndef WEIR_WALK_H
#define WEIR_WALK_H

#include "base/common.h"

/* Visits fd, which is claimed. Returns whether the walk is to go on. */
typedef bool walk_fn(int fd, void *context);
void walk(walk_fn *visit, void *context);

/*
 * Visits those of a stride's numbers that it can all at once, and returns the others, which are to
 * be visited one by one: bit n is of first + n.
 */
typedef uint32_t walk_few_fn(uint32_t first, void *context);
void walk_by(walk_few_fn *visit_few, walk_fn *visit, void *context);

#endif
