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
    if (flags & MSG_PEEK && got > 0 && !(flags & (MSG_ERRQUEUE | MSG_OOB)))
        conn_peeked(fd);
    return false;
}

/* Behind a read that the fast path does not understand. */
static __attribute__((noinline)) ssize_t read_rest(int fd, void *buf, size_t n, ssize_t got)
{
    if (got > 0 && table_follows(fd)) {
        conn_follows_read(table_conn((uint32_t)fd), (size_t)got, BYTES(buf, n));
        return got;
    }
    while (reads(fd, got, n, BYTES(buf, n)))
        got = libc_read(fd, buf, n);
    return got;
}

static __attribute__((noinline)) ssize_t read_slowly(int fd, void *buf, size_t n)
{
    conn_enters(fd);
    return read_rest(fd, buf, n, libc_read(fd, buf, n));
}

static __attribute__((noinline)) ssize_t read_tracked(int fd, void *buf, size_t n)
{
    struct conn *conn = table_conn((uint32_t)fd);
    if (UNLIKELY(GLANCE(&conn->state) & STATE_SLOW)) /* it may have to be adopted before it waits */
        return read_slowly(fd, buf, n);
    ssize_t got = libc_read(fd, buf, n);
    if (LIKELY(table_reads_fast(conn, got)))
        return got;
    return read_rest((int)table_number(conn), buf, n, got);
}

EXPORT HOT ssize_t read(int fd, void *buf, size_t n)
{
    if (UNLIKELY(!table_is_fast(fd)))
        return read_slowly(fd, buf, n);
    if (LIKELY(table_is_of_no_interest(fd)))
        return libc_read(fd, buf, n);
    return read_tracked(fd, buf, n);
}

static __attribute__((noinline)) ssize_t recv_rest(int fd, void *buf, size_t n, int flags,
                                                   ssize_t got)
{
    if (got > 0 && table_follows(fd) && LIKELY(!(flags & ODD_FLAGS))) {
        conn_follows_read(table_conn((uint32_t)fd), (size_t)got, BYTES(buf, n));
        return got;
    }
    while (receives(fd, got, flags, BYTES(buf, n)))
        got = libc_recv(fd, buf, n, flags);
    return got;
}

static __attribute__((noinline)) ssize_t recv_slowly(int fd, void *buf, size_t n, int flags)
{
    conn_enters(fd);
    return recv_rest(fd, buf, n, flags, libc_recv(fd, buf, n, flags));
}

static __attribute__((noinline)) ssize_t recv_tracked(int fd, void *buf, size_t n, int flags)
{
    struct conn *conn = table_conn((uint32_t)fd);
    if (UNLIKELY(GLANCE(&conn->state) & STATE_SLOW))
        return recv_slowly(fd, buf, n, flags);
    ssize_t got = libc_recv(fd, buf, n, flags);
    if (LIKELY(table_reads_fast(conn, got)))
        return got;
    return recv_rest((int)table_number(conn), buf, n, flags, got);
}

EXPORT HOT ssize_t recv(int fd, void *buf, size_t n, int flags)
{
    if (UNLIKELY(!table_is_fast(fd)))
        return recv_slowly(fd, buf, n, flags);
    if (LIKELY(table_is_of_no_interest(fd)))
        return libc_recv(fd, buf, n, flags);
    return UNLIKELY(flags & ODD_FLAGS) ? recv_slowly(fd, buf, n, flags)
                                       : recv_tracked(fd, buf, n, flags);
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
