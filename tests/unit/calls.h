/* SPDX-License-Identifier: MIT */
/* calls.h - what the wrappers tell conn of a call, around the call itself. */
#ifndef WEIR_CALLS_H
#define WEIR_CALLS_H

#include "conn/conn.h"

static inline void call_read(int fd, size_t n)
{
    record_t *slot = table_knows(fd) ? conn_enters(fd) : NULL;
    if (slot)
        conn_read(fd, slot, n, BYTES_UNSEEN);
}

static inline void call_write(int fd, size_t asked, ssize_t done)
{
    record_t *slot = table_knows(fd) ? conn_enters(fd) : NULL;
    if (slot)
        conn_wrote(fd, slot, asked, done, BYTES_UNSEEN);
}

/* Whether a write would be swallowed. */
static inline bool call_is_over(int fd)
{
    record_t *slot = conn_enters(fd);
    return slot && conn_is_over(fd, slot);
}

#endif
