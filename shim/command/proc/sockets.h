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
    int64_t quiet_ms;         /* since the peer's last byte; -1: not known */
    struct sockaddr_in6 peer; /* or a sockaddr_in */
    char *path;               /* AF_UNIX: what it is bound to, which is its listener's path */
};

struct sockets {
    struct socket *at; /* by inode */
    size_t count, room;
    uint32_t namespace; /* whose they are */
};

/* Reads the connections of the network that a process lives in; does nothing if they are there. */
void sockets_read(struct sockets *sockets, int32_t pid);
void sockets_free(struct sockets *sockets);

const struct socket *sockets_find(const struct sockets *sockets, uint64_t inode);

#endif
