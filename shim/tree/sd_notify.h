/* SPDX-License-Identifier: MIT */
/*
 * sd_notify.h - what `systemctl status` says while a tree drains: sd_notify(3), without the
 * library.
 *
 * The coordinator tells it, for a service manager listens to the service's main process alone
 * (NotifyAccess=main). Only STATUS= and EXTEND_TIMEOUT_USEC= are ever sent: after a STOPPING=1 a
 * program that runs on would be killed, and READY=1 is the program's own to say.
 *
 * EXTEND_TIMEOUT_USEC= is for TimeoutStopSec=, after which a service that is being stopped is
 * killed however much of WEIR_TIMEOUT is left (Debian's nginx: 5 s). By sd_notify(3) it counts only
 * when it comes before that time is over, and asks for a promise: from then on the manager must
 * hear again within what was asked for last. So the first message of a drain has it, with all that
 * is left of WEIR_TIMEOUT, each later one again, and the last one with what the program may need to
 * end; a message that is lost breaks no promise. A time that is longer already is never made
 * shorter, nor is any time counted in a service that runs and is not being stopped (RuntimeMaxSec=
 * apart): so each drain asks, whether by a stop signal, by KillSignal=USR2 or by an ExecStop= with
 * `weir drain`. With WEIR_TIMEOUT=0 there is no end that could be promised, and nothing is asked
 * for.
 */
#ifndef WEIR_SD_NOTIFY_H
#define WEIR_SD_NOTIFY_H

#include "base/common.h"

/* NOTIFY_SOCKET's value, at load: the program may take the variable out of its environment. */
void sd_notify_remember(const char *value);

/*
 * Tells how far the tree's drain is, when that is due. stopping: a stop
 * signal waits for its end; when one comes it is due at once, for TimeoutStopSec= counts from then
 * on. Returns the ms until it is due again; -1: there is nothing to tell.
 */
int64_t sd_notify_step(int64_t now, bool stopping);

/* Tells what became of the tree's drain. */
void sd_notify_end(const char *what);

/* Begins anew in a child, which has told nothing yet. */
void sd_notify_forked(void);

#endif
