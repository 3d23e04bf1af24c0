/* SPDX-License-Identifier: MIT */
/*
 * holders.h - which processes hold a socket, beside those that drain together with this one.
 *
 * A listener that somebody else holds is his as well: it was inherited by a successor or a child,
 * or was sent over a socket. /proc/PID/fd tells, whichever way it came to him. In the handler
 * thread alone.
 */
#ifndef WEIR_HOLDERS_H
#define WEIR_HOLDERS_H

#include "base/common.h"

struct holders_visitor {
    /* Whether the socket of this inode is one of those that are looked for. */
    bool (*is_wanted)(uint64_t inode);
    /* A process that goes on holds it. */
    void (*held)(uint64_t inode);
    /* And has an epoll under this number. */
    void (*has_epoll)(int32_t pid, int fd);
};

/*
 * Calls the visitor for each process that does not drain: whole_tree: those of this process's tree
 * do. sent: such a socket was sent to somebody, who may be anybody. Returns false where that is not
 * the whole truth: there is no /proc, it hides processes, one that may hold such a socket can't be
 * looked into, or there are more descriptors than a drain has time for.
 */
bool holders_look(const struct holders_visitor *visitor, bool whole_tree, bool sent);

/* Whether fd is the same epoll as number `other` of that process (kcmp(2)). */
bool holders_share(int fd, int32_t pid, int other);

#endif
