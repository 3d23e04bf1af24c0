/* SPDX-License-Identifier: MIT */
/*
 * listener.h - the sockets that the program accepts from, and how they stop.
 *
 * A drain swaps a listener for one that nobody can reach, under the program's own number: its
 * event loop stays quiet, a thread that accepts goes on waiting, and the program has nothing to
 * handle (DESIGN.md, "Swapping a listener").
 */
#ifndef WEIR_LISTENER_H
#define WEIR_LISTENER_H

#include "drain/listener_view.h"

#include <sys/select.h>

/* Follow what the program does: it has bound fd to an address; it listens on fd; it has made a
 * duplicate of it; it frees it; it has sent it over a socket (SCM_RIGHTS). fd may be anything. */
void listener_bound(int fd, const struct sockaddr *addr, socklen_t len);
void listener_listens(int fd);
void listener_duplicated(int fd, int to);
void listener_gone(int fd);
void listener_sent(int fd);

/* Adds a listener that was inherited across exec. It is shared with other processes, unless a
 * process of the tree has made it. */
void listener_inherited(int fd);

/* Adds those that came over a socket (SCM_RIGHTS). For the worker: what came is not looked at
 * before. */
void listener_find_received(void);

/* Notes whether it is a process of the tree that got, accepted from an AF_UNIX listener, is
 * connected to: one system call, until somebody else was seen. */
void listener_met(int fd, int got);

/* Tells whether there is any that takes part in a drain. */
bool listener_any(void);

/* Returns the mode of connections to this address, which is a connection's own (len 0: it has
 * none). MODE_OFF: none of our listeners has it, or its mode is that. */
enum mode listener_mode_at(const struct sockaddr_storage *own, socklen_t len);

/* Returns what is known of fd; of one that is not known, what holds for all. */
const struct listener_view *listener_view(int fd);

/* Whether this process has had a listener drop SYNs: connections that were accepted since may have
 * inherited its MINTTL (sock_drop_syns). One flag for all listeners, for a duplicate shares it. */
extern HIDDEN _Atomic bool listener_dropped_syns;

static inline bool listener_has_dropped_syns(void)
{
    return atomic_load_explicit(&listener_dropped_syns, memory_order_relaxed);
}

/* Counts the swaps, so that a thread can tell that one has been made since it looked last. */
extern HIDDEN _Atomic uint32_t listener_swaps;
extern HIDDEN __thread uint32_t listener_swaps_seen;
bool listener_was_swapped(int fd);

/*
 * Tells whether the accept on fd that the calling thread begins now must fail with EAGAIN: once in
 * a thread after a swap. A thread may have been told of a connection before that another one has
 * accepted since, and would wait for ever on a socket to which nobody connects. (select(2), "BUGS":
 * a wait may be in vain, so that most programs are prepared for EAGAIN.)
 */
static inline bool listener_would_wait(int fd)
{
    return UNLIKELY(atomic_load_explicit(&listener_swaps, memory_order_relaxed) !=
                    listener_swaps_seen) &&
           listener_was_swapped(fd);
}

/* Tells whether a listener is in a set of select's, whose first `count` numbers count. */
bool listener_is_in(const fd_set *set, int count);

/*
 * Tells whether an accept on fd that has failed with EINVAL, or would have blocked, has met the end
 * of the queue of an AF_UNIX listener that has stopped. It is swapped in a moment.
 */
bool listener_ran_dry(int fd);

/* Tells whether fd has been swapped: an accept that fails with EINVAL on the old socket is to go
 * on. */
bool listener_is_stopped(int fd);

#endif
