/* SPDX-License-Identifier: MIT */
/*
 * fake_sock.h - sock.h without a kernel: what it says of each descriptor is what a test has set,
 * and what is done to one is counted.
 */
#ifndef WEIR_FAKE_SOCK_H
#define WEIR_FAKE_SOCK_H

#include "base/sock.h"

#define FAKES 2048

struct fake {
    struct sock_queues queues;
    struct sock_info info;
    uint32_t fingerprint;
    _Atomic unsigned int shut_read, shut_write, shut_both;
    size_t said; /* bytes of a goodbye */
    _Atomic bool corked;
    bool was_deaf, reset;
};

extern struct fake fakes[FAKES];

/* Called, where it is set, at the begin of everything that is asked of or done to fd. */
extern void (*fake_hook)(int fd, bool acts);

#endif
