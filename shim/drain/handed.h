/* SPDX-License-Identifier: MIT */
/*
 * handed.h - listening sockets of a predecessor, for the bind() of the same address.
 *
 * Who starts a program (`weir restart`) hands them over in WEIR_HANDED=FD[,FD...]. The library
 * takes the variable out of the environment when it is loaded, and the descriptors out of the
 * program's way. A program that becomes another one, or starts one, before it listens (a shell,
 * start-stop- daemon) hands them on. bind() puts one in the place of the program's fresh socket;
 * clients who came between two programs wait in its queue.
 *
 * Several processes of one program may hold copies (a daemon forks, workers bind one each of a
 * group with SO_REUSEPORT): who has which is told in memory that they share.
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

/* At load: takes them, and the variable out of envp. */
void handed_take(char **envp);

/* Puts the one of this address in the place of fd, a fresh socket that the program binds, with what
 * the program has set on it. Returns false where there is none: nothing has been done. */
bool handed_adopt(int fd, const struct sockaddr *addr, socklen_t len);

/* fd listens: it is the program's for good. Returns whether others are left, for which a thread is
 * to wait (handed_step). */
bool handed_listens(int fd);

/*
 * Closes what nobody has bound when the program has served for HANDED_MS, and says so. In the
 * worker. Returns the ms until it has to be looked at again; -1: never.
 */
#define HANDED_MS 10000
int64_t handed_step(int64_t now);

/* Whether fd is one that nobody has bound. */
bool handed_has(int fd);

/* The least number of those from this one on that the program must not close: it has not listened
 * yet, and what closes everything may be a wrapper. -1: there is none. */
int handed_next(unsigned int from);

/* Whether the path is that of one, and nobody has bound it yet: an unlink would lose who waits. */
bool handed_keeps_path(const char *path);

/*
 * The entry for the environment of a program that this process starts or becomes, which has not
 * listened; NULL: none. Around the call the descriptors are open across exec.
 */
const char *handed_entry(void);
void handed_exec_begins(void);
void handed_exec_ends(void);

#endif
