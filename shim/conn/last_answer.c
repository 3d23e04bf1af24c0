/* SPDX-License-Identifier: MIT */
/* The last answer in a drain: which one it is, and how our FIN goes out with it. */
#include "conn/conn.h"
#include "conn/conn_own.h"

#include "base/sys.h"
#include "conn/lingering_close.h"
#include "conn/pacing.h"

#include <errno.h>

/*
 * The framing of what a connection of mode reply says while the process drains; it begins with a
 * request that begins then. NULL: it is not known.
 */
struct tracker *tracker_in_drain(struct conn *conn, bool begins)
{
    enum tracker_state state = tracker_state(&conn->http);
    bool is_unknown = state == HTTP_NOT || (state == HTTP_NONE && !begins);
    return is_unknown || tracker_is_tls(&conn->http) ? NULL : &conn->http;
}

void notes_read(struct conn *conn, size_t n, struct bytes bytes)
{
    uint32_t number = table_number(conn);
    bool begins = !is_in_use(conn);
    if (mode_now(conn) != MODE_REPLY)
        return;
    reply_model_read(number, n, bytes.iov && n == bytes_room(bytes), begins);
    struct tracker *http = tracker_in_drain(conn, begins);
    if (http)
        tracker_received(http, bytes, n);
}

/* Whether the connection of a record may be closed by the write that completes an answer. */
static bool may_end(uint64_t record)
{
    bool is_kept = (record & (CONN_UNIX | CONN_MAY_END)) == CONN_UNIX;
    return !(record & (CONN_FIN | CONN_DISOWNED)) && mode_of(record) == MODE_REPLY && !is_kept &&
           (record & CONN_GENERATION) == generation_now() && !sys_is_sandboxed() &&
           pacing_lets(fingerprint_of(record));
}

/*
 * Whether the client has sent nothing more, and waits for its answers (framed: as its framing has
 * it). The look comes last: what comes in after it meets our FIN.
 */
static bool waits_for_more(int fd, uint32_t number, bool framed)
{
    bool waits = framed || reply_model_is_in_step(number);
    return waits && !sock_unread(fd);
}

/* A client whose next request is there before the answer is written can't have waited for it. */
static void look_ahead(int fd, const struct conn *conn, uint64_t record)
{
    if ((is_in_use(conn) || record & CONN_READ_SINCE_SHUT) && mode_of(record) == MODE_REPLY &&
        (record & CONN_GENERATION) == generation_now() && !sys_is_sandboxed())
        reply_model_looked_ahead(table_number(conn), sock_unread(fd));
}

/*
 * Whether an answer of such a sign is ended. One that is likely to be whole has the connection
 * half-closed, and that alone is undone by nothing, but loses nothing either where the answer was
 * not whole: the program writes on. It is enough where there is doubt, but not for a program that
 * watches for the end (nginx as a proxy): to that it says that the client has left.
 */
static bool is_ended_by(enum reply_model_sign sign, uint64_t record)
{
    return sign == REPLY_SURE || (sign == REPLY_LIKELY && !(record & (CONN_WATCHED | CONN_SHUT)));
}

/* What a write of so many of the bytes, the whole of which is `asked`, will make of the answer. */
static enum reply_model_sign sign_before(struct conn *conn, size_t asked, struct bytes bytes)
{
    uint32_t number = table_number(conn);
    const struct tracker *http = tracker_in_drain(conn, false);
    if (http)
        return tracker_would_rest(http, bytes, asked) ? REPLY_SURE : REPLY_NONE;
    return reply_model_is_in_step(number) ? reply_model_expects(number, asked) : REPLY_NONE;
}

bool conn_holds_back(int fd, struct conn *conn, size_t asked, struct bytes bytes)
{
    uint64_t record = atomic_load(&conn->record);
    int saved = errno;
    look_ahead(fd, conn, record);
    bool held = record && may_end(record) && is_ended_by(sign_before(conn, asked, bytes), record) &&
                conn_is_still(fd, record) && sock_cork(fd);
    if (held)
        reply_model_holds(table_number(conn), HOLD_WRITE);
    errno = saved;
    return held;
}

/* What was held back until the end goes out: the program has gone on, or the client has. */
static void release_end(int fd, uint32_t number)
{
    if (reply_model_held(number) != HOLD_END)
        return;
    reply_model_holds(number, HOLD_NONE);
    sock_uncork(fd);
}

void conn_release(int fd)
{
    struct conn *conn = table_find(fd);
    uint32_t number = conn ? table_number(conn) : UINT32_MAX;
    int saved = errno;
    if (reply_model_held(number) == HOLD_END)
        return;
    reply_model_holds(number, HOLD_NONE);
    if (!conn || !(atomic_load(&conn->record) & CONN_FIN))
        sock_uncork(fd);
    errno = saved;
}

/* What says of an answer that has come so far whether it is whole: its framing, or its model. */
static enum reply_model_sign sign_of(struct conn *conn, size_t done, struct bytes bytes)
{
    enum reply_model_sign sign = reply_model_wrote(table_number(conn), done);
    struct tracker *http = tracker_in_drain(conn, false);
    if (!http)
        return sign;
    enum tracker_state state = tracker_sent(http, bytes, done);
    if (state == HTTP_NOT)
        return sign;
    return state == HTTP_IDLE ? REPLY_SURE : REPLY_NONE;
}

void notes_wrote(int fd, struct conn *conn, size_t done, bool whole, struct bytes bytes)
{
    uint64_t record = atomic_load(&conn->record);
    uint32_t number = table_number(conn);
    if (mode_of(record) != MODE_REPLY || !done)
        return;
    int saved = errno;
    if (record & CONN_MET_END) {
        atomic_fetch_or(&conn->record, CONN_SPOKE);
        lingering_behind_end(fd, conn, false);
    }
    release_end(fd, number);
    enum reply_model_sign sign = sign_of(conn, done, bytes);
    if (record & CONN_SHUT)
        reply_model_wrote_on(number);
    bool sure = sign == REPLY_SURE;
    uint64_t shut = record | CONN_SHUT | (sure ? CONN_FIN : 0);
    if (whole && !is_in_use(conn) && !(record & CONN_READ_SINCE_SHUT) && may_end(record) &&
        is_ended_by(sign, record) && conn_is_still(fd, record) &&
        atomic_compare_exchange_strong(&conn->record, &record, shut)) {
        atomic_thread_fence(memory_order_seq_cst); /* another thread may read (fdtable.h) */
        if (is_in_use(conn) || !waits_for_more(fd, number, tracker_in_drain(conn, false))) {
            atomic_fetch_and(&conn->record, ~(shut & ~record));
        } else if (sure) {
            sock_shut_both(fd);
            lingering_behind_end(fd, conn, false);
        } else if (sock_shut_read(fd), reply_model_held(number) == HOLD_WRITE) {
            reply_model_holds(number, HOLD_END);
        }
    }
    errno = saved;
}

/* Whether the end that a read has met is one after which the program has nothing left to say. */
static bool is_last_end(const struct conn *conn, uint64_t record)
{
    return record & CONN_SHUT && !(record & (CONN_READ_SINCE_SHUT | CONN_FIN | CONN_DISOWNED)) &&
           !is_in_use(conn) && !is_owed_more(conn) &&
           (record & CONN_GENERATION) == generation_now();
}

/*
 * An answer that was taken for whole has gone on behind our half-close (the program was kept from
 * it for longer than WEIR_SETTLE), and a client that never rests follows it with its next request
 * at once: right when the program, which had the end waiting, would have our FIN sent. Such a
 * client is given a moment from the last write on, so that one moment is all that many connections
 * of one thread take.
 */
#define FOLLOWS_MS 12
#define LOOK_EACH_NS 500000

static void await_follower(int fd, uint32_t number)
{
    static const struct timespec step = {0, LOOK_EACH_NS};
    uint32_t unread = 0;
    while (!unread && reply_model_wrote_on_within(number, FOLLOWS_MS)) {
        sys2(SYS_nanosleep, &step, NULL);
        unread = sock_unread(fd);
    }
}

/*
 * Our FIN goes out in the read that meets the end: until the program closes, a client would send
 * into the gap. But of TLS the program has the last word, which only it can say: a close_notify as
 * a rule. Not on a connection that was in use a moment ago, nor once it has closed one without a
 * word: there the gap would cost requests, and bring nothing.
 */
#define RARELY_USED 4 /* times WEIR_SETTLE without a byte */

static _Atomic bool is_silent;

static bool has_last_word(int fd, const struct conn *conn)
{
    struct sock_info info;
    if (!tracker_is_tls(&conn->http) || atomic_load(&is_silent) ||
        reply_model_held(table_number(conn)) == HOLD_END)
        return false;
    sock_info(fd, &info);
    return info.received_ms >= RARELY_USED * settings_now()->settle;
}

void notes_close(uint64_t record)
{
    if ((record & (CONN_MET_END | CONN_SPOKE)) == CONN_MET_END)
        atomic_store(&is_silent, true);
}

bool conn_read_end(int fd)
{
    struct conn *conn = sys_is_sandboxed() ? NULL : table_find(fd);
    uint64_t record = conn ? atomic_load(&conn->record) : 0;
    if (!conn || !is_last_end(conn, record) || !conn_is_still(fd, record))
        return false;
    await_follower(fd, table_number(conn));
    record = tracker_is_tls(&conn->http) ? conn_becomes_reply(conn) : atomic_load(&conn->record);
    uint64_t over = has_last_word(fd, conn) ? CONN_MET_END : CONN_FIN;
    do {
        if (!is_last_end(conn, record))
            return false;
    } while (!atomic_compare_exchange_strong(&conn->record, &record, record | over));

    struct sock_queues queues;
    sock_queues(fd, &queues);
    atomic_thread_fence(memory_order_seq_cst); /* another thread may read (fdtable.h) */
    /* Both ways shut, anything more from the peer is answered with RST, which would take what it
     * has not read yet along (DESIGN.md, "A half-close is forgotten by nobody"). */
    bool ends = !queues.unread && !is_in_use(conn) &&
                (!queues.unsent || reply_model_waits_for_answers(table_number(conn)));
    if (ends && !(queues.unread = sock_unread_now(fd))) {
        if (over == CONN_MET_END) { /* for WEIR_SETTLE: conn_finish */
            atomic_fetch_and(&conn->state, (uint8_t)~STATE_SEEN);
        } else {
            sock_shut_write(fd);
            lingering_behind_end(fd, conn, false);
        }
        return false;
    }
    atomic_fetch_and(&conn->record, ~over);
    release_end(fd, table_number(conn));
    return queues.unread;
}
