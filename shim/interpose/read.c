/* SPDX-License-Identifier: MIT */
/*
 * Everything that reads from a connection.
 *
 * A call on a descriptor that is of no interest is one jump. Of a connection the fast path makes
 * one that is in use (fdtable.h); everything else is reads(), behind the call.
 */
#include "conn/conn.h"
#include "drain/stop_signals.h"
#include "base/libc.h"
#include "drain/signals_eintr.h"
#include "drain/start.h"

#include <errno.h>

/* What MSG_ERRQUEUE and MSG_OOB return is not of the stream, and MSG_PEEK leaves it there
 * (recv(2)). */
#define ODD_FLAGS (MSG_ERRQUEUE | MSG_OOB | MSG_PEEK)

/* Those that are none of the fast path's. */
#define SLOW_FLAGS (ODD_FLAGS | MSG_WAITALL)

/*
 * A call on fd that reads to these bytes has returned `got`. Returns whether it has to be made
 * again: where our handler has ended it with EINTR (signal(7): one with SO_RCVTIMEO fails so also
 * under SA_RESTART), or where a request has come in behind the end that our half-close had made.
 * has_room: 0 is the end of file. (Its bytes are looked at only where there are any: a call may
 * fail with EFAULT.)
 */
static __attribute__((noinline)) bool reads(int fd, ssize_t got, bool has_room, struct bytes bytes)
{
    if (got < 0)
        return signals_must_call_again();
    if (UNLIKELY(table_kind(fd) == KIND_SIGNALFD)) {
        if (got > 0 && bytes.iov)
            stop_signals_restore_codes(bytes.iov->iov_base, (size_t)got);
        return false;
    }
    return conn_read(fd, got, has_room, bytes);
}

/* The same of one with flags. */
static bool receives(int fd, ssize_t got, int flags, struct bytes bytes)
{
    if (LIKELY(!(flags & ODD_FLAGS)) || got < 0)
        return reads(fd, got, bytes_room(bytes), bytes);
    if (!(flags & MSG_PEEK) || flags & (MSG_ERRQUEUE | MSG_OOB))
        return false;
    if (got > 0)
        conn_peeked(fd);
    return got == 0 && bytes_room(bytes) && conn_read(fd, 0, true, bytes);
}

/* Behind a read of which the fast path knows no more. */
static __attribute__((noinline)) ssize_t read_rest(struct conn *conn, void *buf, size_t n,
                                                   ssize_t got)
{
    int fd = (int)table_number(conn);
    while (reads(fd, got, n, BYTES(buf, n)))
        got = libc_read(fd, buf, n);
    return got;
}

static __attribute__((noinline)) ssize_t read_slowly(int fd, void *buf, size_t n)
{
    conn_enters(fd);
    ssize_t got = libc_read(fd, buf, n);
    while (reads(fd, got, n, BYTES(buf, n)))
        got = libc_read(fd, buf, n);
    return got;
}

/* The fast path of mode protocol. What is slow may have to be adopted before it waits. */
static __attribute__((noinline)) ssize_t read_followed(int fd, void *buf, size_t n,
                                                       struct conn *conn)
{
    if (UNLIKELY(GLANCE(&conn->state) & STATE_SLOW))
        return read_slowly(fd, buf, n);
    size_t room = n;
    KEPT_ON_STACK(room);
    ssize_t got = libc_read(fd, buf, n);
    if (UNLIKELY(got <= 0) || UNLIKELY(!table_follows(conn)))
        return read_rest(conn, buf, room, got);
    conn_follows_read(conn, buf, (size_t)got);
    return got;
}

EXPORT HOT ssize_t read(int fd, void *buf, size_t n)
{
    if (UNLIKELY(!table_is_fast(fd)))
        return read_slowly(fd, buf, n);
    if (LIKELY(table_is_of_no_interest(fd)))
        return libc_read(fd, buf, n);
    struct conn *conn = table_conn((uint32_t)fd);
    if (UNLIKELY(GLANCE(&conn->state) >= STATE_HTTP))
        return read_followed(fd, buf, n, conn);
    struct reading {
        struct conn *conn;
        void *buf;
        size_t n;
    } kept = {conn, buf, n};
    KEPT_ON_STACK(kept);
    ssize_t got = libc_read(fd, buf, n);
    return LIKELY(table_reads_fast(kept.conn, got)) ? got
                                                    : read_rest(kept.conn, kept.buf, kept.n, got);
}

static __attribute__((noinline)) ssize_t recv_rest(struct conn *conn, void *buf, size_t n,
                                                   int flags, ssize_t got)
{
    int fd = (int)table_number(conn);
    while (receives(fd, got, flags, BYTES(buf, n)))
        got = libc_recv(fd, buf, n, flags);
    return got;
}

/* Who waits for all gets all, also where our handler has cut that short. */
static ssize_t recv_all(int fd, void *buf, size_t n, int flags)
{
    ssize_t last = libc_recv(fd, buf, n, flags), got = last;
    while (flags & MSG_WAITALL && (size_t)got < n && signals_must_go_on(last)) {
        last = libc_recv(fd, (char *)buf + got, n - (size_t)got, flags);
        got += last > 0 ? last : 0;
    }
    return got;
}

static __attribute__((noinline)) ssize_t recv_slowly(int fd, void *buf, size_t n, int flags)
{
    ssize_t got;
    conn_enters(fd);
    do
        got = recv_all(fd, buf, n, flags);
    while (receives(fd, got, flags, BYTES(buf, n)));
    return got;
}

static __attribute__((noinline)) ssize_t recv_followed(int fd, void *buf, size_t n, int flags,
                                                       struct conn *conn)
{
    if (UNLIKELY(GLANCE(&conn->state) & STATE_SLOW) || UNLIKELY(flags & SLOW_FLAGS))
        return recv_slowly(fd, buf, n, flags);
    size_t room = n;
    KEPT_ON_STACK(room);
    ssize_t got = libc_recv(fd, buf, n, flags);
    if (UNLIKELY(got <= 0) || UNLIKELY(!table_follows(conn)))
        return recv_rest(conn, buf, room, flags, got);
    conn_follows_read(conn, buf, (size_t)got);
    return got;
}

EXPORT HOT ssize_t recv(int fd, void *buf, size_t n, int flags)
{
    if (UNLIKELY(!table_is_fast(fd)))
        return recv_slowly(fd, buf, n, flags);
    if (LIKELY(table_is_of_no_interest(fd)))
        return libc_recv(fd, buf, n, flags);
    struct conn *conn = table_conn((uint32_t)fd);
    if (UNLIKELY(GLANCE(&conn->state) >= STATE_HTTP) || UNLIKELY(flags & SLOW_FLAGS))
        return recv_followed(fd, buf, n, flags, conn);
    struct reading {
        struct conn *conn;
        void *buf;
        size_t n;
        int flags;
    } kept = {conn, buf, n, flags};
    KEPT_ON_STACK(kept);
    ssize_t got = libc_recv(fd, buf, n, flags);
    return LIKELY(table_reads_fast(kept.conn, got))
               ? got
               : recv_rest(kept.conn, kept.buf, kept.n, kept.flags, got);
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
    struct bytes bytes = {iov, (size_t)count};
    ssize_t got;
    if (LIKELY(table_ignores(fd)))
        return libc_readv(fd, iov, count);
    conn_enters(fd);
    do
        got = libc_readv(fd, iov, count);
    while (reads(fd, got, got == 0 && bytes_room(bytes), bytes));
    return got;
}

EXPORT ssize_t recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *addr,
                        socklen_t *len)
{
    ssize_t got;
    if (LIKELY(table_ignores(fd)))
        return libc_recvfrom(fd, buf, n, flags, addr, len);
    conn_enters(fd);
    do
        got = libc_recvfrom(fd, buf, n, flags, addr, len);
    while (receives(fd, got, flags, BYTES(buf, n)));
    return got;
}

/* Descriptors that came along (unix(7), SCM_RIGHTS). The kernel says where there are none. */
static void receive(struct msghdr *msg)
{
    if (LIKELY(!msg->msg_controllen))
        return;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(msg); at; at = CMSG_NXTHDR(msg, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        if (!start_serving())
            return;
        const int *fd = (const void *)CMSG_DATA(at);
        for (size_t n = (at->cmsg_len - CMSG_LEN(0)) / sizeof *fd; n; n--)
            table_set(*fd++, KIND_RECEIVED);
    }
}

#define MESSAGE(msg) ((struct bytes){(msg)->msg_iov, (msg)->msg_iovlen})

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    ssize_t got;
    if (UNLIKELY(!table_ignores(fd)))
        conn_enters(fd);
    do
        got = libc_recvmsg(fd, msg, flags);
    while (UNLIKELY(!table_ignores(fd)) &&
           receives(fd, got, flags, got < 0 ? BYTES_UNSEEN : MESSAGE(msg)));
    if (got >= 0)
        receive(msg);
    return got;
}

/* Of a stream: the first message has what there is. */
EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned int count, mmsg_flags flags,
                    struct timespec *limit)
{
    int got;
    if (UNLIKELY(!table_ignores(fd)))
        conn_enters(fd);
    do {
        got = libc_recvmmsg(fd, msgs, count, flags, limit);
    } while (UNLIKELY(got < 0) && signals_must_call_again());
    for (int i = 0; i < got; i++)
        receive(&msgs[i].msg_hdr);
    if (UNLIKELY(!table_ignores(fd)) && got > 0)
        receives(fd, msgs[0].msg_len, (int)flags, MESSAGE(&msgs[0].msg_hdr));
    return got;
}

/* ---- the same by other names: for programs built with _FORTIFY_SOURCE; of libc's own ---- */

EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t room)
{
    ssize_t got;
    if (LIKELY(table_ignores(fd)))
        return libc___read_chk(fd, buf, n, room);
    conn_enters(fd);
    do
        got = libc___read_chk(fd, buf, n, room);
    while (reads(fd, got, n, BYTES(buf, n)));
    return got;
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags)
{
    ssize_t got;
    if (LIKELY(table_ignores(fd)))
        return libc___recv_chk(fd, buf, n, room, flags);
    conn_enters(fd);
    do
        got = libc___recv_chk(fd, buf, n, room, flags);
    while (receives(fd, got, flags, BYTES(buf, n)));
    return got;
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags,
                              struct sockaddr *addr, socklen_t *len)
{
    ssize_t got;
    if (LIKELY(table_ignores(fd)))
        return libc___recvfrom_chk(fd, buf, n, room, flags, addr, len);
    conn_enters(fd);
    do
        got = libc___recvfrom_chk(fd, buf, n, room, flags, addr, len);
    while (receives(fd, got, flags, BYTES(buf, n)));
    return got;
}

EXPORT ssize_t __read(int fd, void *buf, size_t n)
{
    ssize_t got;
    if (LIKELY(table_ignores(fd)))
        return libc___read(fd, buf, n);
    conn_enters(fd);
    do
        got = libc___read(fd, buf, n);
    while (reads(fd, got, n, BYTES(buf, n)));
    return got;
}
