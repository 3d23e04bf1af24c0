/* SPDX-License-Identifier: MIT */
/*
 * Everything that writes to a connection: was it all taken?
 *
 * After our FIN a write has nowhere to go, and would be answered with SIGPIPE: it is reported as
 * done and not made (DESIGN.md, "The gap between end-of-file and close").
 */
#include "conn.h"
#include "libc.h"

#include <errno.h>

static size_t length_of(const struct iovec *iov, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += iov[i].iov_len;
    return n;
}

/* A write of `asked` bytes returned done. MSG_MORE: the program says itself that more follows. */
static void wrote(int fd, size_t asked, ssize_t done, int flags)
{
    if (done < 0 && errno != EAGAIN)
        return;
    if (asked && (!(flags & MSG_MORE) || done < (ssize_t)asked))
        conn_wrote(fd, asked, done);
}

EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
    if (LIKELY(!table_knows(fd)))
        return libc_write(fd, buf, n);
    if (conn_is_over(fd))
        return (ssize_t)n;
    ssize_t done = libc_write(fd, buf, n);
    wrote(fd, n, done, 0);
    return done;
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
    if (LIKELY(!table_knows(fd)))
        return libc_writev(fd, iov, count);
    size_t asked = count > 0 ? length_of(iov, (size_t)count) : 0;
    if (conn_is_over(fd))
        return (ssize_t)asked;
    ssize_t done = libc_writev(fd, iov, count);
    wrote(fd, asked, done, 0);
    return done;
}

EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags)
{
    if (LIKELY(!table_knows(fd)))
        return libc_send(fd, buf, n, flags);
    if (conn_is_over(fd))
        return (ssize_t)n;
    ssize_t done = libc_send(fd, buf, n, flags);
    wrote(fd, n, done, flags);
    return done;
}

EXPORT ssize_t sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr,
                      socklen_t len)
{
    if (LIKELY(!table_knows(fd)))
        return libc_sendto(fd, buf, n, flags, addr, len);
    if (conn_is_over(fd))
        return (ssize_t)n;
    ssize_t done = libc_sendto(fd, buf, n, flags, addr, len);
    wrote(fd, n, done, flags);
    return done;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    if (LIKELY(!table_knows(fd)))
        return libc_sendmsg(fd, msg, flags);
    size_t asked = length_of(msg->msg_iov, msg->msg_iovlen);
    if (conn_is_over(fd))
        return (ssize_t)asked;
    ssize_t done = libc_sendmsg(fd, msg, flags);
    wrote(fd, asked, done, flags);
    return done;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned int count, int flags)
{
    if (LIKELY(!table_knows(fd)))
        return libc_sendmmsg(fd, msgs, count, flags);
    if (conn_is_over(fd)) {
        for (unsigned int i = 0; i < count; i++)
            msgs[i].msg_len =
                (unsigned int)length_of(msgs[i].msg_hdr.msg_iov, msgs[i].msg_hdr.msg_iovlen);
        return (int)count;
    }
    int sent = libc_sendmmsg(fd, msgs, count, flags);
    if (sent > 0 && (unsigned int)sent <= count) {
        const struct mmsghdr *last = &msgs[sent - 1];
        size_t asked = length_of(last->msg_hdr.msg_iov, last->msg_hdr.msg_iovlen);
        bool all = (unsigned int)sent == count;
        wrote(fd, asked + !all, last->msg_len, flags);
    } else if (sent < 0) {
        wrote(fd, 1, sent, flags);
    }
    return sent;
}

/*
 * Less than was asked for may be the file's end as well as the peer's slowness: the first is told
 * by a call that follows and returns 0, the second by one that fails with EAGAIN.
 */
static void sent_file(int out, size_t asked, ssize_t done)
{
    wrote(out, done == 0 ? 1 : asked, done == 0 ? 1 : done, 0);
}

EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t n)
{
    if (LIKELY(!table_knows(out)))
        return libc_sendfile(out, in, offset, n);
    if (conn_is_over(out))
        return (ssize_t)n;
    ssize_t done = libc_sendfile(out, in, offset, n);
    sent_file(out, n, done);
    return done;
}

EXPORT ssize_t sendfile64(int out, int in, off64_t *offset, size_t n)
{
    if (LIKELY(!table_knows(out)))
        return libc_sendfile64(out, in, offset, n);
    if (conn_is_over(out))
        return (ssize_t)n;
    ssize_t done = libc_sendfile64(out, in, offset, n);
    sent_file(out, n, done);
    return done;
}

/* Reads, writes, or both: one end at least is a pipe (splice(2)). */
EXPORT ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t n,
                      unsigned int flags)
{
    bool reads = table_knows(in), writes = table_knows(out);
    ssize_t done = libc_splice(in, in_offset, out, out_offset, n, flags);
    if (UNLIKELY(reads) && n)
        conn_read(in, done);
    if (UNLIKELY(writes) && done > 0) /* less than n is the pipe's affair as a rule */
        wrote(out, (size_t)done, done, 0);
    return done;
}

EXPORT ssize_t __write(int fd, const void *buf, size_t n) __attribute__((alias("write")));
EXPORT ssize_t __send(int fd, const void *buf, size_t n, int flags) __attribute__((alias("send")));
