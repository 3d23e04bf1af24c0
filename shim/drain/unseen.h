/* SPDX-License-Identifier: MIT */
/*
 * unseen.h - connections of the program's that no wrapper has seen: accepted by another library's
 * system call, or by one that the program makes itself.
 *
 * In a drain they are found among the process's descriptors, by the address of one of its listeners,
 * and tracked from then on: what the kernel knows of them tells whether they are idle. A listener
 * that was made so is named, and goes on.
 */
#ifndef WEIR_UNSEEN_H
#define WEIR_UNSEEN_H

#include "base/common.h"

/* A drain begins; the process is a new child. */
void unseen_begin(void);

/*
 * Looks, where it is time for it; last: the drain could end now. A connection that was there at two
 * looks is tracked: one that is in the middle of an accept is known at the second. Returns whether
 * there is one, which is to be drained or looked at again.
 */
bool unseen_step(int64_t now, bool last);

#endif
