/* SPDX-License-Identifier: MIT */
/*
 * listener.h - the sockets that the program accepts from, and how they stop.
 *
 * A drain swaps a listener for one that nobody can reach, under the program's own number: its
 * event loop stays quiet, a thread that accepts waits as on any quiet day, and the program has
 * nothing to handle (DESIGN.md, "Swapping a listener").
 */
#ifndef WEIR_LISTENER_H
#define WEIR_LISTENER_H

#include "drain/listener_view.h"

#include <sys/select.h>

/* The program has bound fd to an address; listens on fd; has made a duplicate of it; frees it. */
void listener_bound(int fd, const struct sockaddr *addr, socklen_t len);
void listener_listens(int fd);
void listener_duplicated(int fd, int to);
void listener_gone(int fd);

/* fd, whatever it is, was sent to somebody over a socket (SCM_RIGHTS). */
void listener_sent(int fd);

/* fd was inherited across exec and listens: it is shared with whoever else holds it, unless a
 * process of the tree has made it. */
void listener_inherited(int fd);

/* Whether there is any that takes part in a drain. */
bool listener_any(void);

/* fd's: of one that is not known, what holds for all. */
const struct listener_view *listener_view(int fd);

/* Whether this process has closed a door: connections accepted since may be deaf
 * (sock_close_door). One flag for all listeners, for a duplicate's door is the same. */
extern HIDDEN _Atomic bool listener_doors;

static inline bool listener_has_closed(void)
{
    return atomic_load_explicit(&listener_doors, memory_order_relaxed);
}

/*
 * Whether the calling thread's accept on fd, which it begins now, must fail with EAGAIN: once in a
 * thread after a swap. A thread that was told of a connection before, which another one has
 * accepted, would wait for ever on a socket to which nobody comes. (select(2), "BUGS": who is told
 * may wait all the same, so that most programs are prepared for EAGAIN.)
 */
bool listener_would_wait(int fd);

/* Whether a listener is in a set of select's, whose first `count` numbers count. */
bool listener_is_in(const fd_set *set, int count);

/*
 * An accept on fd has failed with EINVAL, or would have blocked: whether that is the end of the
 * queue of an AF_UNIX listener whose door is closed (close_door). It is swapped in a moment.
 */
bool listener_ran_dry(int fd);

/* Whether fd has been stopped: an accept that fails with EINVAL on the old socket is to go on. */
bool listener_is_stopped(int fd);

#endif
