/* SPDX-License-Identifier: MIT */
/* Everything that reads from a connection: what does it return? conn_read has the rest. */
#include "conn/conn.h"
#include "drain/stop_signals.h"
#include "base/libc.h"
#include "drain/signals_eintr.h"
#include "drain/start.h"

#include <errno.h>

HOTTEST_BEGINS; /* the Makefile has this file first of those that have any */

/* What MSG_ERRQUEUE and MSG_OOB return is not of the stream (recv(2)). */
#define NOT_OF_THE_STREAM (MSG_ERRQUEUE | MSG_OOB)

/* has_room is asked for only where there was room to look at: a call may fail with EFAULT. */
#define MUST_READ_AGAIN(fd, got, has_room) \
    ((got) < 0 ? signals_must_call_again() : (has_room) && conn_read_end(fd))

/*
 * A reading call on a descriptor that the table knows: conn is told what came of it. It is made
 * again where our handler ended it with EINTR (signal(7): one with SO_RCVTIMEO fails so also under
 * SA_RESTART), and where a request has come in behind the end that our half-close had made.
 */
#define READ_KNOWN(fd, has_room, call, bytes, peeks) \
    READ_OF(fd, conn_enters(fd), has_room, call, bytes, peeks)

/* slot: what conn_enters returns. bytes: where they are, `got` being their number. */
#define READ_OF(fd, slot, has_room, call, bytes, peeks)                     \
    ({                                                                      \
        ssize_t got;                                                        \
        record_t *slot_ = slot;                                             \
        do {                                                                \
            got = (call);                                                   \
        } while (UNLIKELY(got <= 0) && MUST_READ_AGAIN(fd, got, has_room)); \
        if (UNLIKELY(peeks) && got > 0 && slot_)                            \
            conn_peeked(fd, slot_);                                         \
        else if (LIKELY(got > 0) && LIKELY(slot_))                          \
            conn_read(fd, slot_, (size_t)got, bytes);                       \
        got;                                                                \
    })

/*
 * The same where a hint has said that nothing will come of it, and while the call waited it has
 * been taken back: another thread has come, or a drain. The call can't be made again, for it has
 * kept no argument but fd (that would cost as much as all the rest), and need not be: a connection
 * in use is not half-closed under its only thread, and none that has a read timeout is hinted at.
 */
static __attribute__((noinline)) ssize_t busy_no_more(int fd, ssize_t got)
{
    record_t *slot = conn_enters(fd);
    if (got > 0 && slot)
        conn_read(fd, slot, (size_t)got, BYTES_UNSEEN);
    else if (got == 0 && slot)
        conn_read_end(fd);
    return got;
}

/*
 * The same where a hint has said that it begins a request: turns_NAME. Where it does not, or the
 * hint has been taken back meanwhile, came_NAME does what rest_NAME does behind the call. (To look
 * at what stays there begins a request as well, but in mode http, where none is hinted to rest.)
 */
#define READ_AT_REST(heat, name, params, args, has_room, of_the_stream, bytes, peeks) \
    static __attribute__((noinline)) ssize_t came_##name(UNPACK params, ssize_t got)  \
    {                                                                                 \
        if (!(of_the_stream))                                                         \
            return got;                                                               \
        if (got <= 0)                                                                 \
            return MUST_READ_AGAIN(fd, got, has_room) ? rest_##name args : got;       \
        record_t *slot = conn_enters(fd);                                             \
        if (slot && (peeks))                                                          \
            conn_peeked(fd, slot);                                                    \
        else if (slot)                                                                \
            conn_read(fd, slot, (size_t)got, bytes);                                  \
        return got;                                                                   \
    }                                                                                 \
    heat static __attribute__((noinline)) ssize_t turns_##name params                 \
    {                                                                                 \
        ssize_t got = libc_##name args;                                               \
        if (LIKELY(got > 0) && LIKELY(of_the_stream) && conn_begins(fd))              \
            return got;                                                               \
        if (signals_left_alone(got))                                                  \
            return got;                                                               \
        return came_##name(UNPACK args, got);                                         \
    }

/*
 * The same where one of many threads reads, by what its record says before the call: known_NAME.
 * Where the record says otherwise it is rest_NAME's; where it has changed meanwhile, came_NAME's.
 */
#define READ_AMONG_MANY(many, name, params, args, of_the_stream)                             \
    many static __attribute__((noinline)) ssize_t known_##name params                        \
    {                                                                                        \
        record_t *slot = table_slot((uint32_t)fd);                                           \
        uint64_t record;                                                                     \
        if (UNLIKELY(!conn_may_begin(fd, slot, &record)))                                    \
            return rest_##name args;                                                         \
        ssize_t got = libc_##name args;                                                      \
        if (LIKELY(got > 0) && LIKELY(of_the_stream) && conn_turns_here(slot, record, true)) \
            return got;                                                                      \
        if (signals_left_alone(got))                                                         \
            return got;                                                                      \
        return came_##name(UNPACK args, got);                                                \
    }

/* Another look, so that the first can be compared where it lies and with one value alone. */
INLINE int8_t hint_again(int fd)
{
    size_t at = (uint32_t)fd;
    __asm__("" : "+r"(at));
    return table_hint_within(at);
}

/*
 * A call is one jump for a descriptor that is of no interest, and little more where it is hinted
 * that it changes nothing: so the rest are other functions, turns_NAME, known_NAME and rest_NAME.
 * (The empty asm: what has to outlive the call is put aside there, and not for everybody.)
 */
#define READ_BY_HINT(heat, name, params, args)                                \
    EXPORT heat ssize_t name params                                           \
    {                                                                         \
        int8_t hint = table_hint(fd);                                         \
        if (LIKELY(hint < HINT_BUSY))                                         \
            return libc_##name args;                                          \
        if (hint != HINT_BUSY) {                                              \
            int8_t other = hint_again(fd);                                    \
            if (LIKELY(other == HINT_REST))                                   \
                return turns_##name args;                                     \
            return other == HINT_HTTP ? rest_##name args : known_##name args; \
        }                                                                     \
        size_t kept = (uint32_t)fd;                                           \
        __asm__("" : "+r"(kept));                                             \
        ssize_t got = libc_##name args;                                       \
        if (LIKELY(table_hint_within(kept) == HINT_BUSY))                     \
            return got;                                                       \
        return busy_no_more((int)kept, got);                                  \
    }

/*
 * has_room: whether 0 is the end of file. heat: HOT or HOTTEST; many: HOT or HOTTER. of_the_stream:
 * see above. bytes: see READ_OF. peeks: what is returned stays where it is (MSG_PEEK).
 */
#define READER(heat, many, name, params, args, has_room, of_the_stream, bytes, peeks)     \
    HOT static __attribute__((noinline)) ssize_t rest_##name params                       \
    {                                                                                     \
        return (of_the_stream) ? READ_KNOWN(fd, has_room, libc_##name args, bytes, peeks) \
                               : libc_##name args;                                        \
    }                                                                                     \
    READ_AT_REST(heat, name, params, args, has_room, of_the_stream, bytes, peeks)         \
    READ_AMONG_MANY(many, name, params, args, of_the_stream)                              \
    READ_BY_HINT(heat, name, params, args)

static bool has_room(const struct iovec *iov, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (iov[i].iov_len)
            return true;
    return false;
}

#define STREAM (!(flags & NOT_OF_THE_STREAM))
#define PEEKS (flags & MSG_PEEK)

static ssize_t read_signals(int fd, void *buf, size_t n)
{
    ssize_t got = libc_read(fd, buf, n);
    if (got > 0)
        stop_signals_restore_codes(buf, (size_t)got);
    return got;
}

static __attribute__((noinline)) ssize_t read_other(int fd, void *buf, size_t n)
{
    if (table_kind(fd) == KIND_SIGNALFD)
        return read_signals(fd, buf, n);
    return READ_KNOWN(fd, n, libc_read(fd, buf, n), BYTES(buf, n), false);
}

HOT static __attribute__((noinline)) ssize_t rest_read(int fd, void *buf, size_t n)
{
    if (UNLIKELY(!table_is_conn(fd)))
        return read_other(fd, buf, n);
    return READ_OF(fd, conn_enters_own(fd), n, libc_read(fd, buf, n), BYTES(buf, n), false);
}

READ_AT_REST(HOTTEST, read, (int fd, void *buf, size_t n), (fd, buf, n), n, true, BYTES(buf, n),
             false)
READ_AMONG_MANY(HOTTER, read, (int fd, void *buf, size_t n), (fd, buf, n), true)
READ_BY_HINT(HOTTEST, read, (int fd, void *buf, size_t n), (fd, buf, n))

READER(HOT, HOT, __read_chk, (int fd, void *buf, size_t n, size_t room), (fd, buf, n, room), n,
       true, BYTES(buf, n), false)
READER(HOT, HOT, readv, (int fd, const struct iovec *iov, int count), (fd, iov, count),
       has_room(iov, (size_t)count), true, ((struct bytes){iov, (size_t)count}), false)
READER(HOTTEST, HOTTER, recv, (int fd, void *buf, size_t n, int flags), (fd, buf, n, flags), n,
       STREAM, BYTES(buf, n), PEEKS)
READER(HOT, HOT, __recv_chk, (int fd, void *buf, size_t n, size_t room, int flags),
       (fd, buf, n, room, flags), n, STREAM, BYTES(buf, n), PEEKS)
READER(HOT, HOT, recvfrom,
       (int fd, void *buf, size_t n, int flags, struct sockaddr *addr, socklen_t *len),
       (fd, buf, n, flags, addr, len), n, STREAM, BYTES(buf, n), PEEKS)
READER(HOT, HOT, __recvfrom_chk,
       (int fd, void *buf, size_t n, size_t room, int flags, struct sockaddr *addr, socklen_t *len),
       (fd, buf, n, room, flags, addr, len), n, STREAM, BYTES(buf, n), PEEKS)

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

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    ssize_t got =
        LIKELY(table_hint(fd) == HINT_NONE) || !STREAM
            ? libc_recvmsg(fd, msg, flags)
            : READ_KNOWN(fd, has_room(msg->msg_iov, msg->msg_iovlen), libc_recvmsg(fd, msg, flags),
                         ((struct bytes){msg->msg_iov, msg->msg_iovlen}), PEEKS);
    if (got >= 0)
        receive(msg);
    return got;
}

/* Of a stream: the first message has what there is. */
EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned int count, mmsg_flags flags,
                    struct timespec *limit)
{
    int got;
    do {
        got = libc_recvmmsg(fd, msgs, count, flags, limit);
    } while (UNLIKELY(got < 0) && signals_must_call_again());
    for (int i = 0; i < got; i++)
        receive(&msgs[i].msg_hdr);
    record_t *slot = UNLIKELY(table_knows(fd)) && got > 0 && STREAM ? conn_enters(fd) : NULL;
    if (slot && msgs[0].msg_len)
        conn_read(fd, slot, msgs[0].msg_len,
                  (struct bytes){msgs[0].msg_hdr.msg_iov, msgs[0].msg_hdr.msg_iovlen});
    else if (slot)
        conn_read_end(fd);
    return got;
}

EXPORT ssize_t __read(int fd, void *buf, size_t n)
{
    if (LIKELY(table_hint(fd) == HINT_NONE))
        return libc___read(fd, buf, n);
    ssize_t got = READ_KNOWN(fd, n, libc___read(fd, buf, n), BYTES(buf, n), false);
    if (got > 0 && table_kind(fd) == KIND_SIGNALFD)
        stop_signals_restore_codes(buf, (size_t)got);
    return got;
}
