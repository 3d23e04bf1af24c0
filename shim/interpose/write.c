/* SPDX-License-Identifier: MIT */
/*
 * Everything that writes to a connection: was it all taken?
 *
 * After our FIN a write has nowhere to go, and would be answered with SIGPIPE: it is reported as
 * done and not made (DESIGN.md, "The gap between end-of-file and close").
 */
#include "conn/conn.h"
#include "conn/goodbye.h"
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
static void wrote(int fd, struct conn *conn, size_t asked, ssize_t done, int flags,
                  struct bytes bytes)
{
    if ((UNLIKELY(done < 0) && errno != EAGAIN) || UNLIKELY(!asked))
        return;
    if (LIKELY(!(flags & MSG_MORE)) || done < (ssize_t)asked)
        conn_wrote(fd, conn, asked, done, bytes);
    else
        conn_wrote_part(fd, conn, (size_t)done, bytes);
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

/* Does the rest of a write that our handler has cut short. Returns what was taken in all; what
 * fails then fails the program's next one. */
static ssize_t goes_on(int fd, struct bytes bytes, size_t asked, int flags, ssize_t done)
{
    int saved = errno;
    for (ssize_t last = done; bytes.iov && (size_t)done < asked && signals_must_go_on(last);) {
        struct iovec rest[PIECES_MOST];
        struct msghdr msg = {.msg_iov = rest, .msg_iovlen = rest_of(bytes, (size_t)done, rest)};
        last = WRITE_AGAIN(libc_sendmsg(fd, &msg, flags | MSG_NOSIGNAL));
        done += last > 0 ? last : 0;
    }
    errno = saved;
    return done;
}

/*
 * A write of the program's, with what close_header_plan makes of it. Returns what the program's own
 * call would have: a text of ours is not counted, and where it alone has gone out the rest is
 * tried.
 */
static __attribute__((noinline)) ssize_t send_planned(int fd, struct conn *conn,
                                                      struct tracker *http, struct bytes bytes,
                                                      size_t asked, int flags,
                                                      const struct msghdr *from)
{
    size_t own = 0;
    ssize_t taken = 0;
    bool all = true;
    while (own < asked && (all || !own)) {
        struct iovec rest[PIECES_MOST];
        struct rewrite plan;
        close_header_plan(http, rest, rest_of(bytes, own, rest), &plan);
        struct msghdr msg = {.msg_iov = plan.piece, .msg_iovlen = (size_t)plan.count};
        if (from && !own) {
            msg.msg_control = from->msg_control;
            msg.msg_controllen = from->msg_controllen;
        }
        taken = WRITE_AGAIN(libc_sendmsg(fd, &msg, flags));
        if (taken < 0)
            break;
        all =
            (size_t)taken == length_of(plan.piece, (size_t)plan.count) || signals_must_go_on(taken);
        own += close_header_took(http, &plan, (size_t)taken);
    }
    if (taken >= 0 || own || errno == EAGAIN)
        conn_wrote_planned(fd, conn, asked, own ? (ssize_t)own : taken);
    return own || taken >= 0 ? (ssize_t)own : taken;
}

/* Whether anything is to go out but what the program says itself. */
static __attribute__((noinline)) bool has_text(int fd, const struct tracker *http,
                                               struct bytes bytes)
{
    struct rewrite plan;
    close_header_plan(http, bytes.iov, bytes.count, &plan);
    return !plan.same && (close_header_is_pending(http) || !conn_is_asked_more(fd, http));
}

/* Sends by a plan where there is to be one: then *done is the result. */
static inline bool sends_planned(int fd, struct conn *conn, struct bytes bytes, size_t asked,
                                 int flags, const struct msghdr *from, ssize_t *done)
{
    struct tracker *http = bytes.iov ? conn_plans(conn) : NULL;
    if (!http || !asked || !has_text(fd, http, bytes))
        return false;
    *done = send_planned(fd, conn, http, bytes, asked, flags, from);
    return true;
}

/* What is to be written to a connection, and how: with sendmsg's flags, and its message where it
 * has one. */
struct writing {
    int fd;
    struct conn *conn; /* NULL: none, and nothing has to be done around the call */
    struct bytes bytes;
    size_t asked; /* of a file; else it is the bytes' length, as soon as that may be looked at */
    int flags;
    const struct msghdr *from;
    bool held_back;
    bool entered; /* goodbye_leaves */
    ssize_t done; /* where `begins` is false */
};

static void measure(struct writing *writing)
{
    if (writing->bytes.iov)
        writing->asked = length_of(writing->bytes.iov, writing->bytes.count);
}

/*
 * Before the call, on the slow path. False: the call is not to be made, for writing->done has come
 * of it already: our FIN is out, or it was sent by a plan.
 */
static bool begins(struct writing *writing)
{
    struct conn *conn = writing->conn = conn_enters(writing->fd);
    if (UNLIKELY(!conn))
        return true;
    writing->entered = !gate_is_open() && goodbye_enters(writing->fd, conn);
    if (conn_is_over(writing->fd, conn)) {
        if (writing->entered)
            goodbye_leaves(writing->fd, conn);
        measure(writing);
        writing->done = (ssize_t)writing->asked;
        return false;
    }
    if (!gate_drains())
        return true;
    measure(writing);
    if (sends_planned(writing->fd, conn, writing->bytes, writing->asked, writing->flags,
                      writing->from, &writing->done))
        return false;
    writing->held_back = conn_holds_back(writing->fd, conn, writing->asked, writing->bytes);
    return true;
}

/*
 * Behind it. (Where it has failed its buffers are not looked at: that may be why, EFAULT. In a
 * drain they are looked at before the call: who passes what is not there, for the error, ends
 * then.)
 */
static ssize_t ends(struct writing *writing, ssize_t done)
{
    if (done >= 0)
        measure(writing);
    if (writing->conn && done > 0)
        done = goes_on(writing->fd, writing->bytes, writing->asked, writing->flags, done);
    if (writing->conn)
        wrote(writing->fd, writing->conn, writing->asked, done, writing->flags, writing->bytes);
    if (UNLIKELY(writing->held_back))
        conn_release(writing->fd);
    if (UNLIKELY(writing->entered))
        goodbye_leaves(writing->fd, writing->conn);
    return done;
}

#define WRITING(fd, bytes, asked, flags)                     \
    (struct writing)                                         \
    {                                                        \
        fd, NULL, bytes, asked, flags, NULL, false, false, 0 \
    }

/* A call on the slow path. */
#define WRITE_SLOWLY(writing, call) \
    (begins(writing) ? ends(writing, WRITE_AGAIN(call)) : (writing)->done)

static __attribute__((noinline)) ssize_t write_slowly(int fd, const void *buf, size_t n)
{
    struct writing writing = WRITING(fd, BYTES(buf, n), n, 0);
    return WRITE_SLOWLY(&writing, libc_write(fd, buf, n));
}

/* Whether a call has taken all, and that was something. */
INLINE bool is_all(ssize_t done, size_t asked)
{
    return LIKELY((size_t)done == asked) && LIKELY(done > 0);
}

/* Behind a call that the fast path does not understand. */
static ssize_t wrote_rest(struct conn *from, ssize_t done, size_t asked, int flags,
                          struct bytes bytes)
{
    int fd = (int)table_number(from);
    struct conn *conn = conn_enters(fd);
    if (done > 0)
        done = goes_on(fd, bytes, asked, flags, done);
    if (conn)
        wrote(fd, conn, asked, done, 0, bytes);
    return done;
}

static __attribute__((noinline)) ssize_t write_rest(struct conn *conn, const void *buf, size_t n,
                                                    ssize_t done)
{
    if (done < 0 && signals_must_call_again())
        return write_slowly((int)table_number(conn), buf, n);
    return wrote_rest(conn, done, n, 0, BYTES(buf, n));
}

/*
 * Whether a connection may have to be adopted, which is done before the call: once its bytes are
 * out, the peer may have a drain begin, in which another process would take it for its own.
 */
INLINE bool is_slow(const struct conn *conn)
{
    return UNLIKELY(GLANCE(&conn->state) & STATE_SLOW);
}

/* The fast path of mode protocol. */
static __attribute__((noinline)) ssize_t write_followed(int fd, const void *buf, size_t n,
                                                        struct conn *conn)
{
    if (is_slow(conn))
        return write_slowly(fd, buf, n);
    ssize_t done = libc_write(fd, buf, n);
    if (UNLIKELY(!is_all(done, n)) || UNLIKELY(!table_follows(conn)))
        return write_rest(conn, buf, n, done);
    conn_follows_write(conn, buf, n);
    return (ssize_t)n;
}

EXPORT HOT ssize_t write(int fd, const void *buf, size_t n)
{
    if (UNLIKELY(!table_is_fast(fd)))
        return write_slowly(fd, buf, n);
    if (LIKELY(table_is_of_no_interest(fd)))
        return libc_write(fd, buf, n);
    struct conn *conn = table_conn((uint32_t)fd);
    if (UNLIKELY(GLANCE(&conn->state) >= STATE_HTTP))
        return write_followed(fd, buf, n, conn);
    struct sending {
        struct conn *conn;
        const void *buf;
        size_t n;
    } kept = {conn, buf, n};
    KEPT_ON_STACK(kept);
    ssize_t done = libc_write(fd, buf, n);
    if (is_all(done, kept.n) && LIKELY(table_writes_fast(kept.conn)))
        return done;
    KEPT_ON_STACK(kept);
    return write_rest(kept.conn, kept.buf, kept.n, done);
}

static __attribute__((noinline)) ssize_t send_slowly(int fd, const void *buf, size_t n, int flags)
{
    struct writing writing = WRITING(fd, BYTES(buf, n), n, flags);
    return WRITE_SLOWLY(&writing, libc_send(fd, buf, n, flags));
}

static __attribute__((noinline)) ssize_t send_rest(struct conn *conn, const void *buf, size_t n,
                                                   int flags, ssize_t done)
{
    if (done < 0 && signals_must_call_again())
        return send_slowly((int)table_number(conn), buf, n, flags);
    return wrote_rest(conn, done, n, flags, BYTES(buf, n));
}

static __attribute__((noinline)) ssize_t send_followed(int fd, const void *buf, size_t n, int flags,
                                                       struct conn *conn)
{
    if (UNLIKELY(flags & MSG_MORE) || is_slow(conn))
        return send_slowly(fd, buf, n, flags);
    ssize_t done = libc_send(fd, buf, n, flags);
    if (UNLIKELY(!is_all(done, n)) || UNLIKELY(!table_follows(conn)))
        return send_rest(conn, buf, n, flags, done);
    conn_follows_write(conn, buf, n);
    return (ssize_t)n;
}

EXPORT HOT ssize_t send(int fd, const void *buf, size_t n, int flags)
{
    if (UNLIKELY(!table_is_fast(fd)))
        return send_slowly(fd, buf, n, flags);
    if (LIKELY(table_is_of_no_interest(fd)))
        return libc_send(fd, buf, n, flags);
    struct conn *conn = table_conn((uint32_t)fd);
    if (UNLIKELY(GLANCE(&conn->state) >= STATE_HTTP) || UNLIKELY(flags & MSG_MORE))
        return send_followed(fd, buf, n, flags, conn);
    struct sending {
        struct conn *conn;
        const void *buf;
        size_t n;
        int flags;
    } kept = {conn, buf, n, flags};
    KEPT_ON_STACK(kept);
    ssize_t done = libc_send(fd, buf, n, flags);
    if (is_all(done, kept.n) && LIKELY(table_writes_fast(kept.conn)))
        return done;
    KEPT_ON_STACK(kept);
    return send_rest(kept.conn, kept.buf, kept.n, kept.flags, done);
}

/* ---- in pieces ---- */

/* Behind a call on a connection. */
static ssize_t wrote_pieces(struct conn *conn, ssize_t done, size_t asked, int flags,
                            struct bytes bytes)
{
    if (LIKELY(is_all(done, asked))) {
        if (LIKELY(table_writes_fast(conn)))
            return done;
        if (LIKELY(GLANCE(&conn->state) & STATE_HTTP) && LIKELY(table_follows(conn))) {
            conn_follows_pieces(conn, bytes, asked);
            return done;
        }
    }
    return wrote_rest(conn, done, asked, flags, bytes);
}

static __attribute__((noinline)) ssize_t writev_slowly(int fd, const struct iovec *iov, int count)
{
    struct bytes bytes = {iov, (size_t)count};
    struct writing writing = WRITING(fd, bytes, 1, 0);
    return WRITE_SLOWLY(&writing, libc_writev(fd, iov, count));
}

EXPORT HOT ssize_t writev(int fd, const struct iovec *iov, int count)
{
    if (UNLIKELY(!table_is_fast(fd)))
        return writev_slowly(fd, iov, count);
    if (LIKELY(table_is_of_no_interest(fd)))
        return libc_writev(fd, iov, count);
    struct conn *conn = table_conn((uint32_t)fd);
    if (is_slow(conn))
        conn_enters(fd);
    ssize_t done = libc_writev(fd, iov, count);
    if (done < 0 && signals_must_call_again())
        return writev_slowly(fd, iov, count);
    size_t asked = done < 0 ? 1 : length_of(iov, (size_t)count);
    return wrote_pieces(conn, done, asked, 0, (struct bytes){iov, (size_t)count});
}

static struct bytes bytes_of(const struct msghdr *msg)
{
    return (struct bytes){msg->msg_iov, msg->msg_iovlen};
}

static __attribute__((noinline)) ssize_t sendmsg_slowly(int fd, const struct msghdr *msg, int flags)
{
    struct writing writing = WRITING(fd, BYTES_UNSEEN, 1, flags);
    writing.from = msg;
    if (conn_enters(fd)) /* else the message may not be one */
        writing.bytes = bytes_of(msg);
    return WRITE_SLOWLY(&writing, libc_sendmsg(fd, msg, flags));
}

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
            if (table_find(*fd) && !in_vfork_child()) {
                table_sends(*fd);
                handoff_note_sent();
            }
    }
}

EXPORT HOT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    ssize_t done;
    if (LIKELY(table_ignores(fd))) {
        done = libc_sendmsg(fd, msg, flags);
    } else if (LIKELY(table_is_fast(fd)) && LIKELY(!(flags & MSG_MORE))) {
        struct conn *conn = table_conn((uint32_t)fd);
        if (is_slow(conn))
            conn_enters(fd);
        done = libc_sendmsg(fd, msg, flags);
        size_t asked = done < 0 ? 1 : length_of(msg->msg_iov, msg->msg_iovlen);
        if (done < 0 && signals_must_call_again())
            done = sendmsg_slowly(fd, msg, flags);
        else
            done = wrote_pieces(conn, done, asked, flags, done < 0 ? BYTES_UNSEEN : bytes_of(msg));
    } else {
        done = sendmsg_slowly(fd, msg, flags);
    }
    if (done >= 0 && UNLIKELY(msg->msg_controllen))
        sends(msg);
    return done;
}

/* By sendmsg, which plans. */
static int send_each(int fd, struct mmsghdr *msgs, unsigned int count, int flags)
{
    for (unsigned int i = 0; i < count; i++) {
        ssize_t done = sendmsg_slowly(fd, &msgs[i].msg_hdr, flags);
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
    struct conn *conn = LIKELY(table_ignores(fd)) ? NULL : conn_enters(fd);
    if (LIKELY(!conn)) {
        int sent = libc_sendmmsg(fd, msgs, count, flags);
        for (int i = 0; i < sent; i++)
            if (UNLIKELY(msgs[i].msg_hdr.msg_controllen))
                sends(&msgs[i].msg_hdr);
        return sent;
    }
    if (conn_is_over(fd, conn)) {
        for (unsigned int i = 0; i < count; i++)
            msgs[i].msg_len =
                (unsigned int)length_of(msgs[i].msg_hdr.msg_iov, msgs[i].msg_hdr.msg_iovlen);
        return (int)count;
    }
    if (gate_drains() && (conn_plans(conn) || tracker_has_frames(&conn->http)))
        return send_each(fd, msgs, count, flags);
    int sent = libc_sendmmsg(fd, msgs, count, flags);
    if (sent < 0)
        wrote(fd, conn, 1, sent, flags, BYTES_UNSEEN);
    for (int i = 0; i < sent && (unsigned int)i < count; i++) {
        struct bytes bytes = {msgs[i].msg_hdr.msg_iov, msgs[i].msg_hdr.msg_iovlen};
        size_t asked = length_of(bytes.iov, bytes.count);
        bool more = i + 1 < sent, cut = i + 1 == sent && (unsigned int)sent < count;
        wrote(fd, conn, asked + cut, msgs[i].msg_len, more ? flags | MSG_MORE : flags, bytes);
    }
    return sent;
}

EXPORT ssize_t sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr,
                      socklen_t len)
{
    if (LIKELY(table_ignores(fd)))
        return libc_sendto(fd, buf, n, flags, addr, len);
    struct writing writing = WRITING(fd, BYTES(buf, n), n, flags);
    return WRITE_SLOWLY(&writing, libc_sendto(fd, buf, n, flags, addr, len));
}

/* ---- of files and pipes ---- */

/*
 * Less than was asked for may be the file's end as well as the peer's slowness: the first is told
 * by a call that follows and returns 0, the second by one that fails with EAGAIN.
 */
static ssize_t sent_file(struct writing *writing, ssize_t done)
{
    if (writing->conn && done == 0)
        conn_file_ended(writing->conn);
    if (done == 0 && writing->entered)
        goodbye_leaves(writing->fd, writing->conn);
    return done == 0 ? 0 : ends(writing, done);
}

typedef ssize_t file_sender(int out, int in, off_t *offset, size_t n);

static ssize_t send_file(file_sender *send, int out, int in, off_t *offset, size_t n)
{
    struct writing writing = WRITING(out, BYTES_UNSEEN, n, 0);
    if (!begins(&writing))
        return writing.done;
    ssize_t last = WRITE_AGAIN(send(out, in, offset, n)), done = last;
    int saved = errno;
    while ((size_t)done < n && signals_must_go_on(last)) {
        last = WRITE_AGAIN(send(out, in, offset, n - (size_t)done));
        done += last > 0 ? last : 0;
    }
    errno = saved;
    return sent_file(&writing, done);
}

EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t n)
{
    return LIKELY(table_ignores(out)) ? libc_sendfile(out, in, offset, n)
                                      : send_file(libc_sendfile, out, in, offset, n);
}

EXPORT ssize_t sendfile64(int out, int in, off64_t *offset, size_t n)
{
    return LIKELY(table_ignores(out)) ? libc_sendfile64(out, in, offset, n)
                                      : send_file(libc_sendfile64, out, in, offset, n);
}

/* Reads, writes, or both: one end at least is a pipe (splice(2)). */
EXPORT ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t n,
                      unsigned int flags)
{
    bool reads = UNLIKELY(!table_ignores(in));
    struct conn *to = LIKELY(table_ignores(out)) ? NULL : conn_enters(out);
    ssize_t done = libc_splice(in, in_offset, out, out_offset, n, flags);
    if (UNLIKELY(reads) && done >= 0)
        conn_read(in, done, n, BYTES_UNSEEN);
    if (UNLIKELY(to) && done > 0) /* less than n is the pipe's affair as a rule */
        wrote(out, to, (size_t)done, done, 0, BYTES_UNSEEN);
    return done;
}

/* ---- the same by libc's own names ---- */

EXPORT ssize_t __write(int fd, const void *buf, size_t n)
{
    if (LIKELY(table_ignores(fd)))
        return libc___write(fd, buf, n);
    struct writing writing = WRITING(fd, BYTES(buf, n), n, 0);
    return WRITE_SLOWLY(&writing, libc___write(fd, buf, n));
}

EXPORT ssize_t __send(int fd, const void *buf, size_t n, int flags)
{
    if (LIKELY(table_ignores(fd)))
        return libc___send(fd, buf, n, flags);
    struct writing writing = WRITING(fd, BYTES(buf, n), n, flags);
    return WRITE_SLOWLY(&writing, libc___send(fd, buf, n, flags));
}
