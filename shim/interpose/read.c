/* SPDX-License-Identifier: MIT */
/* Everything that reads from a connection: what does it return? conn_read has the rest. */
#include "conn.h"
#include "libc.h"
#include "signals.h"

#include <errno.h>

/* What MSG_ERRQUEUE and MSG_OOB return is not of the stream (recv(2)). */
#define NOT_OF_THE_STREAM (MSG_ERRQUEUE | MSG_OOB)

/*
 * Makes a call on a descriptor that the table knows. signal(7): one with SO_RCVTIMEO fails with
 * EINTR also under SA_RESTART, and is made again where it was our handler that ended it.
 */
#define CALL(call)                                                                \
    ({                                                                            \
        __typeof__(call) got_;                                                    \
        do {                                                                      \
            got_ = (call);                                                        \
        } while (UNLIKELY(got_ < 0) && errno == EINTR && signals_must_restart()); \
        got_;                                                                     \
    })

static bool has_room(const struct iovec *iov, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (iov[i].iov_len)
            return true;
    return false;
}

EXPORT ssize_t read(int fd, void *buf, size_t n)
{
    if (LIKELY(!table_knows(fd)))
        return libc_read(fd, buf, n);
    ssize_t got = CALL(libc_read(fd, buf, n));
    if (n)
        conn_read(fd, got);
    return got;
}

EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t room)
{
    if (LIKELY(!table_knows(fd)))
        return libc___read_chk(fd, buf, n, room);
    ssize_t got = CALL(libc___read_chk(fd, buf, n, room));
    if (n)
        conn_read(fd, got);
    return got;
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
    if (LIKELY(!table_knows(fd)))
        return libc_readv(fd, iov, count);
    ssize_t got = CALL(libc_readv(fd, iov, count));
    if (got > 0 || (got == 0 && count > 0 && has_room(iov, (size_t)count)))
        conn_read(fd, got);
    return got;
}

EXPORT ssize_t recv(int fd, void *buf, size_t n, int flags)
{
    if (LIKELY(!table_knows(fd)))
        return libc_recv(fd, buf, n, flags);
    ssize_t got = CALL(libc_recv(fd, buf, n, flags));
    if (n && !(flags & NOT_OF_THE_STREAM))
        conn_read(fd, got);
    return got;
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags)
{
    if (LIKELY(!table_knows(fd)))
        return libc___recv_chk(fd, buf, n, room, flags);
    ssize_t got = CALL(libc___recv_chk(fd, buf, n, room, flags));
    if (n && !(flags & NOT_OF_THE_STREAM))
        conn_read(fd, got);
    return got;
}

EXPORT ssize_t recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *addr,
                        socklen_t *len)
{
    if (LIKELY(!table_knows(fd)))
        return libc_recvfrom(fd, buf, n, flags, addr, len);
    ssize_t got = CALL(libc_recvfrom(fd, buf, n, flags, addr, len));
    if (n && !(flags & NOT_OF_THE_STREAM))
        conn_read(fd, got);
    return got;
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags,
                              struct sockaddr *addr, socklen_t *len)
{
    if (LIKELY(!table_knows(fd)))
        return libc___recvfrom_chk(fd, buf, n, room, flags, addr, len);
    ssize_t got = CALL(libc___recvfrom_chk(fd, buf, n, room, flags, addr, len));
    if (n && !(flags & NOT_OF_THE_STREAM))
        conn_read(fd, got);
    return got;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    if (LIKELY(!table_knows(fd)))
        return libc_recvmsg(fd, msg, flags);
    ssize_t got = CALL(libc_recvmsg(fd, msg, flags));
    if (!(flags & NOT_OF_THE_STREAM) &&
        (got > 0 || (got == 0 && has_room(msg->msg_iov, msg->msg_iovlen))))
        conn_read(fd, got);
    return got;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned int count, int flags,
                    struct timespec *limit)
{
    if (LIKELY(!table_knows(fd)))
        return libc_recvmmsg(fd, msgs, count, flags, limit);
    int got = CALL(libc_recvmmsg(fd, msgs, count, flags, limit));
    if (got > 0 && !(flags & NOT_OF_THE_STREAM))
        conn_read(fd, (ssize_t)msgs[0].msg_len);
    return got;
}

EXPORT ssize_t __read(int fd, void *buf, size_t n) __attribute__((alias("read")));
