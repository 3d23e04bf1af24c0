/* SPDX-License-Identifier: MIT */
/*
 * notify.h - what `systemctl status` says while a tree drains: sd_notify(3), without the library.
 *
 * The head of the tree tells it, for a service manager listens to the service's main process alone
 * (NotifyAccess=main). Only STATUS= and EXTEND_TIMEOUT_USEC= are ever sent: after a STOPPING=1 a
 * program that runs on would be killed, and READY=1 is the program's own to say.
 */
#ifndef WEIR_NOTIFY_H
#define WEIR_NOTIFY_H

#include "common.h"

/* NOTIFY_SOCKET's value, at load: the program may take the variable out of its environment. */
void notify_remember(const char *value);

/*
 * In the handler thread: tells how far the tree's drain is, when that is due. stopping: a stop
 * signal waits for its end. Returns the ms until it is due again; -1: there is nothing to tell.
 */
int64_t notify_step(int64_t now, bool stopping);

/* The tree's drain is over: what became of it. */
void notify_end(const char *what);

#endif
