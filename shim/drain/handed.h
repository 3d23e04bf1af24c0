/* SPDX-License-Identifier: MIT */
/*
 * handed.h - listening sockets of a predecessor, for the bind() of the same address.
 *
 * A service manager passes them on (listen_fds.h), or `weir restart` hands them over in
 * WEIR_HANDED=FD[,FD...]. The library takes the variable out of
 * the environment when it is loaded, and the descriptors out of the program's way. A program that
 * becomes another one, or starts one, before it listens (a shell, start-stop-daemon) hands them on.
 * bind() puts one in the place of the program's fresh socket. Clients who came between the two
 * programs wait in its queue.
 *
 * Several processes of one program may hold copies (a daemon forks, workers bind one each of a
 * group with SO_REUSEPORT). Memory that they share says which process has bound which.
 */
#ifndef WEIR_HANDED_H
#define WEIR_HANDED_H

#include "base/common.h"

#include <sys/socket.h>

/* How many are left here. */
extern HIDDEN _Atomic int handed_left;

static inline bool handed_any(void)
{
    return UNLIKELY(atomic_load_explicit(&handed_left, memory_order_relaxed) > 0);
}

/* Takes them at load, and the variable out of envp; and those that the service manager has stored
 * (listen_fds.h). Returns whether there are any of the latter. */
bool handed_take(char **envp);

/* Puts the one of this address in the place of fd, a fresh socket that the program binds, with what
 * the program has set on it. Returns false if there is none: nothing has been done. */
bool handed_adopt(int fd, const struct sockaddr *addr, socklen_t len);

/*
 * Closes what the service manager has stored, nobody has bound, and lies in the way of that address
 * (the program is configured for all of a machine's where it had one, or the other way round): else
 * it could not start until the store is empty. Returns whether there was any. It stays among those
 * that are left, as not bound in time (handed_step).
 */
bool handed_makes_way(int fd, const struct sockaddr *addr, socklen_t len);

/* Tells whether a connection of fd to this address would lead to one that nobody has bound yet. */
bool handed_is_at(int fd, const struct sockaddr *addr, socklen_t len);

/* Tells whether fd is one on which the program has not called listen yet. */
bool handed_awaits_listen(int fd);

/* Notes that fd listens: it is the program's for good. Returns whether others are left, for which
 * the worker is to wait (handed_step). */
bool handed_listens(int fd);

/*
 * Closes what nobody has bound when the program has served for HANDED_MS, and logs it; and has the
 * service manager remove it from its store. For the worker. Returns after how many ms to call it
 * again; -1: never.
 */
#define HANDED_S 10
#define HANDED_MS (HANDED_S * 1000)
int64_t handed_step(int64_t now);

/* Tells whether fd is our copy of one. */
bool handed_has(int fd);

/* Returns the least of our copies from this number on, while the program has listened on none of
 * them: it must not close them, for it may be a wrapper that closes everything. -1: there is none.
 */
int handed_next(unsigned int from);

/* Tells whether one that nobody has bound yet has this path: an unlink would lose who waits. */
bool handed_keeps_path(const char *path);

/* Returns the entry for the environment of a program that this one starts or becomes. NULL: this
 * one has listened, or nothing is left. */
const char *handed_entry(void);

/* Open our copies across that exec, and close them across any other. */
void handed_exec_begins(void);
void handed_exec_ends(void);

#endif
