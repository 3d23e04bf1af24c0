/* SPDX-License-Identifier: MIT */
/*
 * listener_holders.h - whether a listener is also held by a process that goes on when this one
 * drains (tree/holders.h).
 */
#ifndef WEIR_LISTENER_HOLDERS_H
#define WEIR_LISTENER_HOLDERS_H

#include "drain/listener_entry.h"

/* Whether it takes part in a drain, and is not swapped yet. */
bool listener_is_to_stop(const struct listener *listener);

/*
 * Whether somebody else goes on with it: then nothing is done to the socket itself. fresh: it is
 * about to be, for good.
 */
enum held listener_is_held(struct listener *listener, bool whole_tree, bool fresh);

/* Whether no other process has a listener of this one that nobody goes on with. */
bool listener_is_alone(void);

/* How long ago it was looked up, in ms. */
int64_t listener_held_age(void);

#endif
