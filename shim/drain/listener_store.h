/* SPDX-License-Identifier: MIT */
/*
 * listener_store.h - WEIR_LISTENERS=store: the listeners go to the service manager, which gives
 * them to the next start (tree/sd_notify.h, listen_fds.h). In the worker thread.
 */
#ifndef WEIR_LISTENER_STORE_H
#define WEIR_LISTENER_STORE_H

#include "base/settings.h"

/*
 * Goes on with handing this process's listeners to the store, at a drain. Returns LISTENERS_STORE
 * while that is under way: they still accept; LISTENERS_KEEP once the store has them;
 * LISTENERS_AUTO where it has not. The coordinator finds that out for the tree: others wait for it.
 * now: nobody has time to wait any more. awaits_bind: a predecessor's are there, and in the store
 * still.
 */
enum listeners listener_store(bool whole_tree, bool now, bool awaits_bind);

/* Sends them again, behind a removal of all. */
void listener_store_again(void);

/* In a child: it begins with nothing sent. */
void listener_store_forked(void);

#endif
