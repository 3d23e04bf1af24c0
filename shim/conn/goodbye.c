/* SPDX-License-Identifier: MIT */
#include "conn/goodbye.h"

#include "conn/conn_own.h"
#include "conn/pacing.h"
#include "base/sys.h"
#include "http/parser.h"

#include <errno.h>

#define STREAM_MOST 0x7fffffffu

/* GOAWAY, NO_ERROR; and behind the first our PING. Nothing of it is followed by our parser: it
 * stands between two frames. */
static bool say(int fd, uint32_t last)
{
    char frames[] = HEAD_OF_EIGHT("\7", "\0") "last\0\0\0\0" PING("\0");
    for (int i = 0; i < 4; i++)
        frames[PING_WHOLE - PING_LENGTH + i] = (char)(last >> (24 - 8 * i));
    return sock_say(fd, frames, last == STREAM_MOST ? 2 * PING_WHOLE : PING_WHOLE);
}

/* WebSocket's Close, 1001: "going away" (RFC 6455, 7.4.1). */
static bool say_close(int fd)
{
    enum { FIN_AND_CLOSE = 0x88, LENGTH = 2, GOING_AWAY = 1001 };
    const unsigned char frame[2 + LENGTH] = {FIN_AND_CLOSE, LENGTH, GOING_AWAY >> 8,
                                             GOING_AWAY & 0xff};
    return sock_say(fd, frame, sizeof frame);
}

/* PostgreSQL's own words on a TERM: an ErrorResponse of these fields. */
static bool say_fatal(int fd)
{
    static const char fields[] = "SFATAL\0VFATAL\0C57P01\0"
                                 "Mterminating connection due to administrator command\0";
    enum { LENGTH = 4 + sizeof fields };
    char message[1 + LENGTH] = {'E', 0, 0, 0, LENGTH};
    for (size_t i = 0; i < sizeof fields; i++)
        message[5 + i] = fields[i];
    return sock_say(fd, message, sizeof message);
}

static void say_last(int fd, const struct tracker *http)
{
    enum tracker_frames frames = tracker_frames(http);
    if (frames == FRAMES_WEBSOCKET)
        say_close(fd);
    else if (frames == FRAMES_POSTGRES)
        say_fatal(fd);
    else
        say(fd, tracker_last_stream(http));
}

bool goodbye_may_be_said(int fd, const struct conn *conn)
{
    uint64_t record = atomic_load(&conn->record);
    /* A close-idle looks once, and so has no time for the two words of HTTP/2. */
    bool is_time = gate_drains() || (!gate_is_open() && tracker_frames(&conn->http) > FRAMES_HTTP2);
    return mode_of(record) == MODE_PROTOCOL && is_time && table_kind(fd) == KIND_CONN &&
           (record & CONN_REFS) == CONN_REF && tracker_takes_goodbye(&conn->http);
}

static void warn(int fd, struct conn *conn)
{
    const uint64_t over = CONN_WARNED | CONN_SHUT | CONN_FIN | CONN_FORCED | CONN_DISOWNED;
    uint64_t record = atomic_load(&conn->record);
    if (record & over || (record & CONN_GENERATION) != generation_now() ||
        tracker_frames(&conn->http) != FRAMES_HTTP2 || !goodbye_may_be_said(fd, conn) ||
        !conn_is_still(fd, record) || !say(fd, STREAM_MOST))
        return;
    atomic_fetch_or(&conn->record, CONN_WARNED);
    atomic_fetch_and(&conn->state, (uint8_t)~STATE_SEEN); /* it is quiet from now on */
}

bool goodbye_enters(int fd, struct conn *conn)
{
    if (in_vfork_child() || sys_is_sandboxed() || mode_now(conn) != MODE_PROTOCOL ||
        !tracker_has_frames(&conn->http))
        return false;
    atomic_fetch_or(&conn->record, CONN_WRITES); /* and then looks whether there is a claim */
    table_await_claim(fd);
    return true;
}

/* A WebSocket, or a PostgreSQL session, whose client never rests is idle only right behind an
 * answer. */
static void closes_behind_answer(int fd, struct conn *conn)
{
    const uint64_t over = CONN_SHUT | CONN_FIN | CONN_FORCED | CONN_DISOWNED;
    uint64_t record = atomic_load(&conn->record);
    uint8_t state = atomic_load(&conn->state);
    if (tracker_frames(&conn->http) > FRAMES_HTTP2 && !tracker_is_unfinished(&conn->http) &&
        !tracker_has_only_begun(&conn->http) && !(record & over) &&
        (record & CONN_GENERATION) == generation_now() && goodbye_may_be_said(fd, conn))
        goodbye_shuts(fd, conn, record, state);
}

void goodbye_leaves(int fd, struct conn *conn)
{
    int saved = errno;
    bool is_moment = gate_drains() && tracker_state(&conn->http) == HTTP_IDLE &&
                     pacing_lets(fingerprint_of(atomic_load(&conn->record)));
    if (is_moment)
        warn(fd, conn);
    atomic_fetch_and(&conn->record, ~CONN_WRITES);
    if (is_moment)
        closes_behind_answer(fd, conn);
    errno = saved;
}

void goodbye_warns(int fd, struct conn *conn)
{
    if (!(atomic_load(&conn->record) & CONN_WRITES))
        warn(fd, conn);
}

bool goodbye_shuts(int fd, struct conn *conn, uint64_t record, uint8_t state)
{
    const uint64_t told = CONN_SHUT | CONN_FIN | CONN_TOLD;
    if (!(record & CONN_WARNED) && tracker_frames(&conn->http) == FRAMES_HTTP2) {
        goodbye_warns(fd, conn);
        return false;
    }
    int pin = record & CONN_WRITES ? -1 : sock_guard(fd);
    if (pin < 0)
        return false;
    bool ends = conn_is_still(pin, record) &&
                atomic_compare_exchange_strong(&conn->record, &record, record | told);
    if (ends) {
        atomic_thread_fence(memory_order_seq_cst); /* fdtable.h: a read's is in conn_step */
        if (((atomic_load(&conn->state) ^ state) & ~STATE_SEEN) ||
            tracker_state(&conn->http) == HTTP_IN_USE || sock_unread_now(pin)) {
            atomic_fetch_and(&conn->record, ~(told | CONN_READ_SINCE_SHUT));
            ends = false;
        } else {
            say_last(pin, &conn->http);
            sock_shut_write(pin);
        }
    }
    sock_unguard(fd, pin);
    return ends;
}

void goodbye_lingers(int fd, uint64_t record)
{
    struct sock_info info;
    sock_info(fd, &info);
    if (conn_is_still(fd, record) && (!info.has || info.sent_ms >= settings_now()->linger))
        sock_shut_read(fd);
}
