/* SPDX-License-Identifier: MIT */
/*
 * Everything that writes to a connection: was it all taken?
 *
 * After our FIN a write has nowhere to go, and would be answered with SIGPIPE: it is reported as
 * done and not made (DESIGN.md, "The gap between end-of-file and close").
 */
#include "conn/conn.h"
#include "base/libc.h"
#include "drain/listener.h"
#include "drain/signals_eintr.h"
#include "conn/handoff.h"

#include <errno.h>

static size_t length_of(const struct iovec *iov, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += iov[i].iov_len;
    return n;
}

/* A write of `asked` bytes returned done. MSG_MORE: the program says itself that more follows. */
HOT static void wrote(int fd, record_t *slot, size_t asked, ssize_t done, int flags,
                      struct bytes bytes)
{
    if ((UNLIKELY(done < 0) && errno != EAGAIN) || UNLIKELY(!asked))
        return;
    if (LIKELY(!(flags & MSG_MORE)) || done < (ssize_t)asked)
        conn_wrote(fd, slot, asked, done, bytes);
    else
        conn_wrote_part(fd, slot, (size_t)done, bytes);
}

/* signal(7): one with SO_SNDTIMEO ends with EINTR after our handler. */
#define WRITE_AGAIN(call)                                           \
    ({                                                              \
        ssize_t done_;                                              \
        do {                                                        \
            done_ = (call);                                         \
        } while (UNLIKELY(done_ < 0) && signals_must_call_again()); \
        done_;                                                      \
    })

/*
 * Nothing came of it, nor can its buffers be looked at where that is why (EFAULT). In a drain they
 * are looked at before the call: who passes what is not there, for the error, ends then.
 */
#define FAILED(done) (UNLIKELY((done) < 0) && errno != EAGAIN)

#define PIECES_MOST 64

/* The program's buffers from a byte on, as many of them as there is room for. */
static size_t rest_of(struct bytes bytes, size_t from, struct iovec rest[PIECES_MOST])
{
    size_t count = 0;
    for (size_t i = 0; i < bytes.count && count < PIECES_MOST; i++) {
        size_t skip = from < bytes.iov[i].iov_len ? from : bytes.iov[i].iov_len;
        from -= skip;
        if (bytes.iov[i].iov_len > skip)
            rest[count++] =
                (struct iovec){(char *)bytes.iov[i].iov_base + skip, bytes.iov[i].iov_len - skip};
    }
    return count;
}

/*
 * A write of the program's, with what http_plan makes of it. Returns what the program's own call
 * would have: a text of ours is not counted, and where it alone has gone out the rest is tried.
 */
static __attribute__((noinline)) ssize_t send_planned(int fd, record_t *slot, struct http *http,
                                                      struct bytes bytes, size_t asked, int flags,
                                                      const struct msghdr *from)
{
    size_t own = 0;
    ssize_t taken = 0;
    bool all = true;
    while (own < asked && (all || !own)) {
        struct iovec rest[PIECES_MOST];
        struct http_plan plan;
        http_plan(http, rest, rest_of(bytes, own, rest), &plan);
        struct msghdr msg = {.msg_iov = plan.piece, .msg_iovlen = (size_t)plan.count};
        if (from && !own) {
            msg.msg_control = from->msg_control;
            msg.msg_controllen = from->msg_controllen;
        }
        taken = WRITE_AGAIN(libc_sendmsg(fd, &msg, flags));
        if (taken < 0)
            break;
        all = (size_t)taken == length_of(plan.piece, (size_t)plan.count);
        own += http_took(http, &plan, (size_t)taken);
    }
    if (taken >= 0 || own || errno == EAGAIN)
        conn_wrote_planned(fd, slot, asked, own ? (ssize_t)own : taken);
    return own || taken >= 0 ? (ssize_t)own : taken;
}

/* Whether anything is to go out but what the program says itself. */
static __attribute__((noinline)) bool has_text(int fd, const struct http *http, struct bytes bytes)
{
    struct http_plan plan;
    http_plan(http, bytes.iov, bytes.count, &plan);
    return !plan.same && (http_is_in_text(http) || !conn_is_asked_more(fd, http));
}

/* Sends by a plan where there is to be one: then *done is the result. */
static inline bool sends_planned(int fd, record_t *slot, struct bytes bytes, size_t asked,
                                 int flags, const struct msghdr *from, ssize_t *done)
{
    struct http *http = bytes.iov ? conn_plans(slot) : NULL;
    if (!http || !asked || !has_text(fd, http, bytes))
        return false;
    *done = send_planned(fd, slot, http, bytes, asked, flags, from);
    return true;
}

/*
 * A call on a descriptor that the table knows. told: what conn is told, `done` being the result.
 * bytes: what it is to write; how: sendmsg's flags for the same, and its message where it has one.
 */
#define REST_WRITER(name, fd, params, args, asked, bytes, how, from, told)                 \
    HOT static __attribute__((noinline)) ssize_t rest_##name params                        \
    {                                                                                      \
        record_t *slot = conn_enters(fd);                                                  \
        ssize_t done;                                                                      \
        if (UNLIKELY(!slot))                                                               \
            return WRITE_AGAIN(libc_##name args);                                          \
        if (conn_is_over(fd, slot))                                                        \
            return (ssize_t)(asked);                                                       \
        if (rhythm_is_noting() && sends_planned(fd, slot, bytes, asked, how, from, &done)) \
            return done;                                                                   \
        bool held_back = rhythm_is_noting() && conn_holds_back(fd, slot, asked, bytes);    \
        done = WRITE_AGAIN(libc_##name args);                                              \
        if (!FAILED(done))                                                                 \
            told;                                                                          \
        if (UNLIKELY(held_back))                                                           \
            conn_release(fd);                                                              \
        return done;                                                                       \
    }

/*
 * One that is hinted to be in use has nothing to be asked about first. What is seldom is a function
 * of its own, so that the others lie close together.
 */
#define BUSY_WRITER(heat, name, fd, params, args, asked, ends_answer, told)            \
    static __attribute__((noinline)) ssize_t wrote_##name(UNPACK params, ssize_t done) \
    {                                                                                  \
        if (UNLIKELY(done < 0) && signals_must_call_again())                           \
            return rest_##name args;                                                   \
        record_t *slot = FAILED(done) ? NULL : conn_enters(fd);                        \
        if (slot)                                                                      \
            told;                                                                      \
        return done;                                                                   \
    }                                                                                  \
    heat static __attribute__((noinline)) ssize_t busy_##name params                   \
    {                                                                                  \
        ssize_t done = libc_##name args;                                               \
        if (LIKELY(done > 0) && LIKELY((size_t)done == (asked) && (ends_answer)) &&    \
            conn_answers(fd))                                                          \
            return done;                                                               \
        return wrote_##name(UNPACK args, done);                                        \
    }

/* The same where one of many threads writes, by what its record says before the call. */
#define WRITE_AMONG_MANY(many, name, fd, params, args, asked, ends_answer)          \
    many static __attribute__((noinline)) ssize_t known_##name params               \
    {                                                                               \
        record_t *slot = table_slot((uint32_t)fd);                                  \
        uint64_t record;                                                            \
        if (UNLIKELY(!conn_may_answer(fd, slot, &record)))                          \
            return rest_##name args;                                                \
        ssize_t done = libc_##name args;                                            \
        if (LIKELY(done > 0) && LIKELY((size_t)done == (asked) && (ends_answer)) && \
            conn_turns_here(slot, record, false))                                   \
            return done;                                                            \
        return wrote_##name(UNPACK args, done);                                     \
    }

/* asked: how much the call is to write; ends_answer: the program does not say that more follows. */
#define KNOWN_WRITER(heat, many, name, fd, params, args, asked, bytes, how, from, ends_answer, \
                     told)                                                                     \
    REST_WRITER(name, fd, params, args, asked, bytes, how, from, told)                         \
    BUSY_WRITER(heat, name, fd, params, args, asked, ends_answer, told)                        \
    WRITE_AMONG_MANY(many, name, fd, params, args, asked, ends_answer)

/* A call is one jump for a descriptor that is of no interest: so the rest are other functions. */
#define WRITE_BY_HINT(name, fd, args) \
    int8_t hint = table_hint(fd);     \
    if (LIKELY(hint < HINT_BUSY))     \
        return libc_##name args;      \
    if (LIKELY(hint == HINT_BUSY))    \
        return busy_##name args;      \
    return hint == HINT_HTTP ? rest_##name args : known_##name args

#define WRITER(heat, many, name, fd, params, args, asked, bytes, how, ends_answer, told)         \
    KNOWN_WRITER(heat, many, name, fd, params, args, asked, bytes, how, NULL, ends_answer, told) \
    EXPORT heat ssize_t name params                                                              \
    {                                                                                            \
        WRITE_BY_HINT(name, fd, args);                                                           \
    }

#define VECTOR ((struct bytes){iov, (size_t)count})
WRITER(HOTTEST, HOTTER, write, fd, (int fd, const void *buf, size_t n), (fd, buf, n), n,
       BYTES(buf, n), 0, true, wrote(fd, slot, n, done, 0, BYTES(buf, n)))
WRITER(HOTTEST, HOTTER, writev, fd, (int fd, const struct iovec *iov, int count), (fd, iov, count),
       length_of(iov, (size_t)count), VECTOR, 0, true,
       wrote(fd, slot, length_of(iov, (size_t)count), done, 0, VECTOR))
WRITER(HOTTEST, HOTTER, send, fd, (int fd, const void *buf, size_t n, int flags),
       (fd, buf, n, flags), n, BYTES(buf, n), flags, !(flags & MSG_MORE),
       wrote(fd, slot, n, done, flags, BYTES(buf, n)))
WRITER(HOT, HOT, sendto, fd,
       (int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr, socklen_t len),
       (fd, buf, n, flags, addr, len), n, BYTES(buf, n), flags, !(flags & MSG_MORE),
       wrote(fd, slot, n, done, flags, BYTES(buf, n)))

WRITER(HOT, HOT, __write, fd, (int fd, const void *buf, size_t n), (fd, buf, n), n, BYTES(buf, n),
       0, true, wrote(fd, slot, n, done, 0, BYTES(buf, n)))
WRITER(HOT, HOT, __send, fd, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags), n,
       BYTES(buf, n), flags, !(flags & MSG_MORE), wrote(fd, slot, n, done, flags, BYTES(buf, n)))

/* Descriptors that go along (unix(7), SCM_RIGHTS): who gets a connection may close it last. */
static __attribute__((noinline)) void sends(const struct msghdr *msg)
{
    for (struct cmsghdr *at = CMSG_FIRSTHDR(msg); at; at = CMSG_NXTHDR((struct msghdr *)msg, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        const int *fd = (const void *)CMSG_DATA(at);
        for (size_t n = (at->cmsg_len - CMSG_LEN(0)) / sizeof *fd; n; n--, fd++)
            listener_sent(*fd);
        fd = (const void *)CMSG_DATA(at);
        for (size_t n = (at->cmsg_len - CMSG_LEN(0)) / sizeof *fd; n; n--, fd++)
            if (table_record(*fd) && !epoch_is_borrowed()) {
                table_sends(*fd);
                handoff_note_sent();
            }
    }
}

#define MESSAGE ((struct bytes){msg->msg_iov, msg->msg_iovlen})
KNOWN_WRITER(HOTTEST, HOTTER, sendmsg, fd, (int fd, const struct msghdr *msg, int flags),
             (fd, msg, flags), length_of(msg->msg_iov, msg->msg_iovlen), MESSAGE, flags, msg,
             !(flags & MSG_MORE),
             wrote(fd, slot, length_of(msg->msg_iov, msg->msg_iovlen), done, flags, MESSAGE))

INLINE ssize_t sendmsg_by_hint(int fd, const struct msghdr *msg, int flags)
{
    WRITE_BY_HINT(sendmsg, fd, (fd, msg, flags));
}

EXPORT HOTTEST ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    ssize_t done = sendmsg_by_hint(fd, msg, flags);
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
    if (done == 0)
        conn_file_ended(out, slot);
    else
        wrote(out, slot, asked, done, 0, BYTES_UNSEEN);
}

WRITER(HOT, HOT, sendfile, out, (int out, int in, off_t *offset, size_t n), (out, in, offset, n), n,
       BYTES_UNSEEN, 0, true, sent_file(out, slot, n, done))
WRITER(HOT, HOT, sendfile64, out, (int out, int in, off64_t *offset, size_t n),
       (out, in, offset, n), n, BYTES_UNSEEN, 0, true, sent_file(out, slot, n, done))

/* By sendmsg, which plans. */
static int send_each(int fd, struct mmsghdr *msgs, unsigned int count, int flags)
{
    for (unsigned int i = 0; i < count; i++) {
        ssize_t done = rest_sendmsg(fd, &msgs[i].msg_hdr, flags);
        if (done < 0)
            return i ? (int)i : -1;
        msgs[i].msg_len = (unsigned int)done;
        if ((size_t)done < length_of(msgs[i].msg_hdr.msg_iov, msgs[i].msg_hdr.msg_iovlen))
            return (int)i + 1;
    }
    return (int)count;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned int count, mmsg_flags flags)
{
    record_t *slot = LIKELY(table_hint(fd) == HINT_NONE) ? NULL : conn_enters(fd);
    if (LIKELY(!slot)) {
        int sent = libc_sendmmsg(fd, msgs, count, flags);
        for (int i = 0; i < sent; i++)
            if (UNLIKELY(msgs[i].msg_hdr.msg_controllen))
                sends(&msgs[i].msg_hdr);
        return sent;
    }
    if (conn_is_over(fd, slot)) {
        for (unsigned int i = 0; i < count; i++)
            msgs[i].msg_len =
                (unsigned int)length_of(msgs[i].msg_hdr.msg_iov, msgs[i].msg_hdr.msg_iovlen);
        return (int)count;
    }
    if (rhythm_is_noting() && conn_plans(slot))
        return send_each(fd, msgs, count, flags);
    int sent = libc_sendmmsg(fd, msgs, count, flags);
    if (sent < 0)
        wrote(fd, slot, 1, sent, flags, BYTES_UNSEEN);
    for (int i = 0; i < sent && (unsigned int)i < count; i++) {
        struct bytes bytes = {msgs[i].msg_hdr.msg_iov, msgs[i].msg_hdr.msg_iovlen};
        size_t asked = length_of(bytes.iov, bytes.count);
        bool more = i + 1 < sent, cut = i + 1 == sent && (unsigned int)sent < count;
        wrote(fd, slot, asked + cut, msgs[i].msg_len, more ? flags | MSG_MORE : flags, bytes);
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
        conn_read(in, from, (size_t)done, BYTES_UNSEEN);
    if (UNLIKELY(from) && done == 0 && n)
        conn_read_end(in);
    if (UNLIKELY(to) && done > 0) /* less than n is the pipe's affair as a rule */
        wrote(out, to, (size_t)done, done, 0, BYTES_UNSEEN);
    return done;
}
