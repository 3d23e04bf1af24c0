/* SPDX-License-Identifier: MIT */
/* listener_stop.h - how listeners stop, at a drain. In the worker thread. */
#ifndef WEIR_LISTENER_STOP_H
#define WEIR_LISTENER_STOP_H

#include "base/settings.h"

/*
 * Goes on with stopping every listener that takes part in a drain. New SYNs are dropped; once the
 * clients in its queue have been accepted (or at once: `now`) the listener is swapped. `listeners`
 * says what becomes of the old sockets. A listener that is also held by a process that goes on
 * (whole_tree: one that is not of the tree) is left as it is: this process serves those who are in
 * its queue, then no longer accepts from it. Returns whether all are stopped; called until they
 * are. Sets *wake if a thread may wait in accept on another socket than fd is now: it is to be
 * interrupted, and then waits on that one.
 */
bool listener_stop_all(enum listeners listeners, bool now, bool whole_tree, bool *wake);

#endif
