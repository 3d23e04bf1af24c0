/* SPDX-License-Identifier: MIT */
/*
 * holders.h - which processes hold a socket, beside those that drain together with this one.
 *
 * Another process may have inherited a listener across fork or exec, or received it over a socket.
 * /proc/PID/fd tells, in each case. For the worker alone.
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
 * Calls the visitor for each process that does not drain. whole_tree: those of this process's tree
 * do. sent: such a socket was sent to another process, which may be any. Returns false if some may
 * have been missed: there is no /proc, it hides processes, one that may hold such a socket can't be
 * read, or there are more descriptors than a drain has time for.
 */
bool holders_look(const struct holders_visitor *visitor, bool whole_tree, bool sent);

/* Tells whether fd is the same epoll as number `other` of that process (kcmp(2)). */
bool holders_share(int fd, int32_t pid, int other);

#endif
