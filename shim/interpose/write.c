/* SPDX-License-Identifier: MIT */
/*
 * Everything that writes to a connection: was it all taken?
 *
 * After our FIN a write has nowhere to go, and would be answered with SIGPIPE: it is reported as
 * done and not made (DESIGN.md, "The gap between end-of-file and close").
 */
#include "conn.h"
#include "libc.h"
#include "signals.h"
#include "tree.h"

#include <errno.h>

static size_t length_of(const struct iovec *iov, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += iov[i].iov_len;
    return n;
}

/* A write of `asked` bytes returned done. MSG_MORE: the program says itself that more follows. */
static inline void wrote(int fd, record_t *slot, size_t asked, ssize_t done, int flags)
{
    if (UNLIKELY(done < 0) && errno != EAGAIN)
        return;
    if (LIKELY(asked) && (LIKELY(!(flags & MSG_MORE)) || done < (ssize_t)asked))
        conn_wrote(fd, slot, asked, done);
}

/* signal(7): one with SO_SNDTIMEO ends with EINTR after our handler. */
#define WRITE_AGAIN(call)                                                          \
    ({                                                                             \
        ssize_t done_;                                                             \
        do {                                                                       \
            done_ = (call);                                                        \
        } while (UNLIKELY(done_ < 0) && errno == EINTR && signals_must_restart()); \
        done_;                                                                     \
    })

/* A call on a descriptor that the table knows. told: what conn is told, `done` being the result. */
#define KNOWN_WRITER(name, fd, params, args, asked, told)        \
    static __attribute__((noinline)) ssize_t known_##name params \
    {                                                            \
        record_t *slot = conn_enters(fd);                        \
        if (UNLIKELY(!slot))                                     \
            return WRITE_AGAIN(libc_##name args);                \
        if (conn_is_over(fd, slot))                              \
            return (ssize_t)(asked);                             \
        bool held_back = conn_may_hold_back(fd, asked);          \
        ssize_t done = WRITE_AGAIN(libc_##name args);            \
        told;                                                    \
        if (UNLIKELY(held_back))                                 \
            conn_release(fd);                                    \
        return done;                                             \
    }

/* One that is hinted to be in use has nothing to be asked about first. */
#define BUSY_WRITER(name, fd, params, args, asked, ends_answer, told)                             \
    static __attribute__((noinline)) ssize_t busy_##name params                                   \
    {                                                                                             \
        ssize_t done = libc_##name args;                                                          \
        if (LIKELY((size_t)done == (asked)) && LIKELY(done && (ends_answer)) && conn_answers(fd)) \
            return done;                                                                          \
        if (done < 0 && errno == EINTR && signals_must_restart())                                 \
            return known_##name args;                                                             \
        record_t *slot = conn_enters(fd);                                                         \
        if (slot)                                                                                 \
            told;                                                                                 \
        return done;                                                                              \
    }

/*
 * A call is one jump for a descriptor that is of no interest: so the rest are other functions.
 * asked: how much the call is to write; ends_answer: the program does not say that more follows.
 */
#define WRITER(name, fd, params, args, asked, ends_answer, told)               \
    KNOWN_WRITER(name, fd, params, args, asked, told)                          \
    BUSY_WRITER(name, fd, params, args, asked, ends_answer, told)              \
    EXPORT ssize_t name params                                                 \
    {                                                                          \
        int8_t hint = table_hint(fd);                                          \
        if (LIKELY(hint > HINT_ASK))                                           \
            return libc_##name args;                                           \
        return LIKELY(hint < HINT_ASK) ? busy_##name args : known_##name args; \
    }

WRITER(write, fd, (int fd, const void *buf, size_t n), (fd, buf, n), n, true,
       wrote(fd, slot, n, done, 0))
WRITER(writev, fd, (int fd, const struct iovec *iov, int count), (fd, iov, count),
       length_of(iov, (size_t)count), true, wrote(fd, slot, length_of(iov, (size_t)count), done, 0))
WRITER(send, fd, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags), n,
       !(flags & MSG_MORE), wrote(fd, slot, n, done, flags))
WRITER(sendto, fd,
       (int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr, socklen_t len),
       (fd, buf, n, flags, addr, len), n, !(flags & MSG_MORE), wrote(fd, slot, n, done, flags))
/* Descriptors that go along (unix(7), SCM_RIGHTS): who gets a connection may close it last. */
static void sends(const struct msghdr *msg)
{
    for (struct cmsghdr *at = CMSG_FIRSTHDR(msg); at; at = CMSG_NXTHDR((struct msghdr *)msg, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        const int *fd = (const void *)CMSG_DATA(at);
        for (size_t n = (at->cmsg_len - CMSG_LEN(0)) / sizeof *fd; n; n--, fd++)
            if (table_record(*fd) && !epoch_is_borrowed()) {
                table_sends(*fd);
                tree_sends_one();
            }
    }
}

KNOWN_WRITER(sendmsg, fd, (int fd, const struct msghdr *msg, int flags), (fd, msg, flags),
             length_of(msg->msg_iov, msg->msg_iovlen),
             wrote(fd, slot, length_of(msg->msg_iov, msg->msg_iovlen), done, flags))

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    ssize_t done = LIKELY(table_hint(fd) > HINT_ASK) ? libc_sendmsg(fd, msg, flags)
                                                     : known_sendmsg(fd, msg, flags);
    if (done >= 0 && UNLIKELY(msg->msg_controllen))
        sends(msg);
    return done;
}

/*
 * Less than was asked for may be the file's end as well as the peer's slowness: the first is told
 * by a call that follows and returns 0, the second by one that fails with EAGAIN.
 */
static void sent_file(int out, record_t *slot, size_t asked, ssize_t done)
{
    wrote(out, slot, done == 0 ? 1 : asked, done == 0 ? 1 : done, 0);
}

WRITER(sendfile, out, (int out, int in, off_t *offset, size_t n), (out, in, offset, n), n, true,
       sent_file(out, slot, n, done))
WRITER(sendfile64, out, (int out, int in, off64_t *offset, size_t n), (out, in, offset, n), n, true,
       sent_file(out, slot, n, done))

EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned int count, int flags)
{
    record_t *slot = LIKELY(table_hint(fd) > HINT_ASK) ? NULL : conn_enters(fd);
    if (LIKELY(!slot))
        return libc_sendmmsg(fd, msgs, count, flags);
    if (conn_is_over(fd, slot)) {
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
        wrote(fd, slot, asked + !all, last->msg_len, flags);
    } else if (sent < 0) {
        wrote(fd, slot, 1, sent, flags);
    }
    return sent;
}

/* Reads, writes, or both: one end at least is a pipe (splice(2)). */
EXPORT ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t n,
                      unsigned int flags)
{
    record_t *from = LIKELY(!table_knows(in)) ? NULL : conn_enters(in);
    record_t *to = LIKELY(!table_knows(out)) ? NULL : conn_enters(out);
    ssize_t done = libc_splice(in, in_offset, out, out_offset, n, flags);
    if (UNLIKELY(from) && done > 0)
        conn_read(in, from, (size_t)done);
    if (UNLIKELY(from) && done == 0 && n)
        conn_read_end(in);
    if (UNLIKELY(to) && done > 0) /* less than n is the pipe's affair as a rule */
        wrote(out, to, (size_t)done, done, 0);
    return done;
}

EXPORT ssize_t __write(int fd, const void *buf, size_t n) __attribute__((alias("write")));
EXPORT ssize_t __send(int fd, const void *buf, size_t n, int flags) __attribute__((alias("send")));
