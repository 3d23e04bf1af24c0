/* SPDX-License-Identifier: MIT */
/*
 * listener_epolls.h - which epolls hold a listener, as they were told by epoll_ctl.
 */
#ifndef WEIR_LISTENER_EPOLLS_H
#define WEIR_LISTENER_EPOLLS_H

#include "base/common.h"

#include <sys/epoll.h>

/* epoll_ctl(epoll, op, fd, event) has succeeded. */
void listener_registered(int epoll, int op, int fd, const struct epoll_event *event);

/* Looks for those of which nobody has told (io_uring), of listeners of which none is known: once.
 * For the worker. */
void listener_epolls_find(void);

/* fd is closed. */
void listener_epolls_forget(int fd);

/* Whether there was no room for some since the last call. */
bool listener_epolls_missed(void);

/* Puts another socket in fd's place, also in its epolls. */
void listener_epolls_put(int fd, int other);

/*
 * Whether an epoll that holds fd is shared with a process that goes on when this one drains.
 * Before: none is; this number of that process is one.
 */
bool listener_epolls_is_shared(int fd);
void listener_epolls_shared_by_nobody(void);
void listener_epolls_shared(int32_t pid, int fd);

#endif
