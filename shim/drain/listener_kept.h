/* SPDX-License-Identifier: MIT */
/* listener_kept.h - listeners that stay open in a drain, for a successor: by duplicates of ours. */
#ifndef WEIR_LISTENER_KEPT_H
#define WEIR_LISTENER_KEPT_H

#include "base/common.h"
#include "drain/listener_entry.h"

#include <sys/socket.h>

/* How many there are. */
extern HIDDEN _Atomic uint32_t listener_kept;

static inline bool listener_any_is_kept(void)
{
    return atomic_load_explicit(&listener_kept, memory_order_relaxed) > 0;
}

/* Keeps this one. Returns the duplicate's number, or -errno. */
int listener_keep(int fd);

/* Tells whether fd is such a duplicate. */
bool listener_keeps(int fd);

/* Tells whether one of them is bound to this path. */
bool listener_keeps_path(const char *path);

/*
 * Notes that the program is about to close this one. The tree's first process keeps one that the
 * store has, and that is not swapped: a worker has made it listen (Varnish).
 */
void listener_closes(const struct listener *listener, int fd);

/*
 * Does bind(2) of an address of which the store has the listener: the program has closed it, and
 * binds again as it ends (Varnish's manager, when its worker has ended). Returns false if there is
 * none.
 */
bool listener_binds_again(int fd, const struct sockaddr *addr, socklen_t len);

#endif
