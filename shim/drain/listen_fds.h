/* SPDX-License-Identifier: MIT */
/*
 * listen_fds.h - the descriptors that a service manager passes on (sd_listen_fds(3)): those of our
 * name out of its store are ours, the others the program's.
 */
#ifndef WEIR_LISTEN_FDS_H
#define WEIR_LISTEN_FDS_H

#include "base/common.h"

/*
 * Gives each of ours to `take`, at load. The program finds its own numbered from 3 without a hole,
 * or no LISTEN_* at all: envp is changed in place. Returns how many were ours.
 */
int listen_fds_take(char **envp, void (*take)(int fd));

/* Tells whether the manager has passed fd on to this program. */
bool listen_fds_has(int fd);

#endif
