/* SPDX-License-Identifier: MIT */
/*
 * sd_notify.h - what `systemctl status` says while a tree drains: sd_notify(3), without the
 * library.
 *
 * The coordinator tells it, for a service manager listens to the service's main process alone
 * (NotifyAccess=main). Of a drain only STATUS= and EXTEND_TIMEOUT_USEC= are sent: after a
 * STOPPING=1 a program that runs on would be killed, and READY=1 is the program's own to say.
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

/*
 * The descriptor store (FileDescriptorStoreMax=): what is in it outlives a restart, and the next
 * start finds it in LISTEN_FDS under this name. All have the same, so they are removed together.
 */
#define SD_NOTIFY_STORED "weir"

/* Tells whether there is a manager that may be spoken to. */
bool sd_notify_has_manager(void);

/* Sends a listener to the store. -EAGAIN: the manager's queue is full; another -errno: it can't be
 * reached. What is in the store already it takes no second time. */
long sd_notify_store(int fd);

/* Removes what the store has of ours. */
void sd_notify_empties_store(void);

/*
 * Asks whether the store has taken what was sent before. Nothing in the protocol tells: so one more
 * is sent, the end of a pipe, which is closed there if the store is full, switched off, or not for
 * this process; a barrier behind it (systemd 246) says that it has been looked at. The manager
 * drops it from the store when our end is closed. To be called until it is answered, each few ms.
 */
#define STORE_ANSWER_MS 500 /* a manager without barriers that has not closed it by then has it */
enum store_answer { STORE_SILENT, STORE_HAS_THEM, STORE_REFUSES };
enum store_answer sd_notify_ask_store(int64_t now);

/* Begins anew in a child, which has told nothing yet. */
void sd_notify_forked(void);

#endif
