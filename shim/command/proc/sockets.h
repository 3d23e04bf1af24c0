/* SPDX-License-Identifier: MIT */
/*
 * sockets.h - what the kernel knows of other processes' connections (sock_diag(7)).
 */
#ifndef WEIR_COMMAND_SOCKETS_H
#define WEIR_COMMAND_SOCKETS_H

#include "base/common.h"

#include <netinet/in.h>

struct socket {
    uint64_t inode;
    int64_t quiet_ms;              /* since the peer's last byte; -1: not known */
    struct sockaddr_in6 own, peer; /* or a sockaddr_in */
    char *path;                    /* AF_UNIX: what it is bound to, which is its listener's path */
    bool listens;
    bool can_talk;    /* neither end has been closed by its own side */
    uint32_t backlog; /* TCP: of one that listens */
};

/*
 * Finds a socket of the network that a process lives in. NULL: nothing is known of it. A network's
 * connections are read once, until sockets_forget, which makes what was found invalid.
 */
const struct socket *sockets_find(int32_t pid, uint64_t inode);
void sockets_forget(void);

/* Writes an end of a socket (own or peer) as the state page has it: of AF_UNIX there is one. Valid
 * until the next call. */
const char *sockets_address(const struct socket *socket, const struct sockaddr_in6 *end);

/* Tells whether a socket in that process's network listens at this address. */
bool sockets_listen_at(int32_t pid, const char *address);

#endif
