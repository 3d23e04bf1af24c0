/* SPDX-License-Identifier: MIT */
/* walk.h - a walk over all connections of this process, a few claimed at a time. */
#ifndef WEIR_WALK_H
#define WEIR_WALK_H

#include "base/common.h"

/* Visits fd, which is claimed. Returns whether the walk is to go on. */
typedef bool walk_fn(int fd, void *context);
void walk(walk_fn *visit, void *context);

#endif
