/* SPDX-License-Identifier: MIT */
/* calls.h - what the wrappers tell conn of a call, around the call itself. */
#ifndef WEIR_CALLS_H
#define WEIR_CALLS_H

#include "conn/conn.h"

static inline void call_read(int fd, size_t n)
{
    if (table_ignores(fd))
        return;
    if (!table_is_fast(fd) || !table_reads_fast(table_conn((uint32_t)fd), (ssize_t)n))
        conn_read(fd, (ssize_t)n, true, BYTES_UNSEEN);
}

static inline void call_write(int fd, size_t asked, ssize_t done)
{
    struct conn *conn;
    if (table_ignores(fd))
        return;
    if (table_is_fast(fd) && done > 0 && (size_t)done == asked &&
        table_writes_fast(table_conn((uint32_t)fd)))
        return;
    if ((conn = conn_enters(fd)))
        conn_wrote(fd, conn, asked, done, BYTES_UNSEEN);
}

/* Whether a write would be swallowed. */
static inline bool call_is_over(int fd)
{
    struct conn *conn = conn_enters(fd);
    return conn && conn_is_over(fd, conn);
}

/* A connection's state and record in one word. */
#define CONN_IN_USE UINT64_C(0x01)
#define CONN_ANSWERED UINT64_C(0x02)
#define CONN_SEASONED UINT64_C(0x04)
#define CONN_CUT_SHORT UINT64_C(0x20)
#define CONN_SEEN UINT64_C(0x40)

static inline uint64_t both_of(const struct conn *conn)
{
    uint8_t state = atomic_load(&conn->state);
    return atomic_load(&conn->record) |
           (state & (STATE_IN_USE | STATE_ANSWERED | STATE_ANSWERED_BEFORE)) |
           (state & STATE_CUT_SHORT ? CONN_CUT_SHORT : 0) | (state & STATE_SEEN ? CONN_SEEN : 0);
}

static inline void set_both(struct conn *conn, uint64_t both)
{
    const uint64_t low = CONN_IN_USE | CONN_ANSWERED | CONN_SEASONED;
    uint8_t state = atomic_load(&conn->state) & STATE_SLOW;
    atomic_store(&conn->state,
                 (uint8_t)(state | (both & low) | (both & CONN_CUT_SHORT ? STATE_CUT_SHORT : 0) |
                           (both & CONN_SEEN ? STATE_SEEN : 0)));
    atomic_store(&conn->record, both & ~(low | CONN_CUT_SHORT | CONN_SEEN));
}

#endif
