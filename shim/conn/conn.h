/* SPDX-License-Identifier: MIT */
/*
 * conn.h - what accept, a read, a write, an option, a mark and a close do to a connection.
 *
 * The wrappers in interpose/ tell what has happened; the drainer asks and acts. What most
 * requests need is fdtable.h's fast path.
 */
#ifndef WEIR_CONN_H
#define WEIR_CONN_H

#include "conn/fork_detect.h"
#include "http/tracker.h"
#include "http/close_header.h"
#include "conn/reply_model.h"
#include "base/settings.h"
#include "base/sock.h"
#include "conn/fdtable.h"

enum conn_event {
    CONN_READ,    /* a read returned data */
    CONN_WROTE,   /* a write took all of it */
    CONN_CUT,     /* a write took a part, or nothing because the peer is slow */
    CONN_TIMEOUT, /* SO_RCVTIMEO was set */
    CONN_MARK_IDLE,
    CONN_MARK_IN_USE,
    CONN_EVENTS,
};

/* An accept returned fd. */
void conn_accepted(int fd, enum mode mode, uint32_t fingerprint, enum fingerprint kind);

/* Called once, when the process next has a connection that it had not before; NULL: nobody waits.
 */
extern HIDDEN void (*conn_on_first)(void);

/* Called before a connection of another process's becomes this one's; NULL: nobody waits. */
extern HIDDEN void (*conn_on_adopt)(void);

/* Called behind each connection that begins in this process while it drains. */
extern HIDDEN void (*conn_on_arrival)(void);

/* fd came across exec, from outside of the tree: it is tracked if it is a stream socket with a
 * peer.
 */
void conn_inherited(int fd, enum mode mode);

/*
 * For the drainer, which has claimed fd: it came over a socket, or across exec, or the process was
 * forked with it. If nobody else serves it, it is this process's from now on.
 */
void conn_received(int fd, enum mode mode);
void conn_left(int fd);
static inline bool conn_is_ours(int fd)
{
    const struct conn *conn = table_find(fd);
    return conn && (atomic_load_explicit(&conn->record, memory_order_relaxed) & CONN_GENERATION) ==
                       generation_now();
}

/*
 * The event has happened to fd's connection, or to this one. False: it is not tracked.
 */
bool conn_event(int fd, enum conn_event event);
bool conn_step(struct conn *conn, enum conn_event event);

/*
 * A read has met the end of file: sends our FIN where the program has nothing left to say. True: a
 * request has come in behind the end, and is to be read instead.
 */
bool conn_read_end(int fd);

/*
 * fd, which was of this kind, has been taken out of the table and is about to be freed: where that
 * ends a connection while a drain is on, it may have to linger. Behind table_take, which waits for
 * the drainer: it may have cut it just before, and has counted it then.
 */
void conn_closes(int fd, enum kind kind);

/* Whether that can be so at all. */
static inline bool conn_may_linger(void)
{
    return gate_drains();
}

/* weir_mark_*, weir_disown: 0, or the errno that they fail with. */
int conn_mark(int fd, bool in_use);
int conn_disown(int fd);

/* Tells whether the table knows what fd is, and it still is that; if not, it was closed on a path
 * that we don't see. */
bool conn_is_known(int fd);

/* For the drainer, which has claimed fd: it has ended there if it was closed on such a path. */
void conn_ends_unseen(int fd);

/*
 * A call on fd begins, on the slow path. Returns its connection, which is this process's from now
 * on; NULL: it is none.
 */
struct conn *conn_enters(int fd);

/*
 * A read on fd has returned `got`, and the fast path does not know what that means. bytes: where
 * they are; peeks: they stay where they were (MSG_PEEK). Returns whether the call has to be made
 * again: where a request has come in behind the end that our half-close had made. has_room: 0 is
 * the end of file.
 */
bool conn_read(int fd, ssize_t got, bool has_room, struct bytes bytes);
void conn_peeked(int fd);

/*
 * The same where table_follows says that no more has to be looked at: of a read that returned n
 * bytes, and of a write that took all of them, which lie in one buffer or in several.
 */
void conn_follows_odd_read(struct conn *conn, enum tracker_state state);
void conn_follows_odd_write(struct conn *conn, enum tracker_state state);
void conn_follows_pieces(struct conn *conn, struct bytes bytes, size_t n);

INLINE void conn_follows_read(struct conn *conn, const void *buf, size_t n)
{
    enum tracker_state state = tracker_received_here(&conn->http, buf, n);
    if (UNLIKELY(state != HTTP_IN_USE))
        return conn_follows_odd_read(conn, state);
    atomic_store_explicit(&conn->state, GLANCE(&conn->state) | STATE_IN_USE, memory_order_relaxed);
}

INLINE void conn_follows_write_to(struct conn *conn, enum tracker_state state)
{
    if (UNLIKELY(state != HTTP_IDLE))
        return conn_follows_odd_write(conn, state);
    atomic_store_explicit(&conn->state, STATE_HTTP | STATE_REPLY_IDLE, memory_order_relaxed);
}

INLINE void conn_follows_write(struct conn *conn, const void *buf, size_t n)
{
    conn_follows_write_to(conn, tracker_sent_here(&conn->http, buf, n));
}

/* Whether our FIN is out: a write would be answered with SIGPIPE, and is reported as done instead.
 */
bool conn_is_over(int fd, struct conn *conn);

/* A write of `asked` bytes on fd's connection took `done` (-1: would block). */
void conn_wrote(int fd, struct conn *conn, size_t asked, ssize_t done, struct bytes bytes);

/*
 * A write of `asked` bytes, which is about to be made, completes the last answer: it is held back
 * so that our FIN goes out with it. True: conn_release, after the write and what came of it.
 *
 * Where the answer is whole only in all likelihood the connection is half-closed first, and the
 * answer waits until the program meets that end or writes on: were it sent before, the next request
 * would be on its way when our FIN is. Should the program do neither, the kernel sends it after 200
 * ms (tcp(7), TCP_CORK).
 */
bool conn_holds_back(int fd, struct conn *conn, size_t asked, struct bytes bytes);
void conn_release(int fd);

/* A write that the program says is a part only (MSG_MORE) took n bytes; a file that it sends has
 * ended. */
void conn_wrote_part(int fd, struct conn *conn, size_t n, struct bytes bytes);
void conn_file_ended(struct conn *conn);

/*
 * Mode http while a drain is on: what is written to the connection is planned, so that the last
 * answer owed says that it is the last (close_header.h). NULL: it is not.
 */
struct tracker *conn_plans(struct conn *conn);

/* A request has come in behind the one that is being answered, and the program has not read it: so
 * that one's answer is not the last. */
bool conn_is_asked_more(int fd, const struct tracker *http);

/* So many bytes of the program's own went out by a plan, of `asked`; -1: would block. */
void conn_wrote_planned(int fd, struct conn *conn, size_t asked, ssize_t done);

/* epoll_ctl has asked for these events of fd, which the table knows. */
void conn_watched(int epoll, int fd, uint32_t events);

/* ---- for the drainer: fd is claimed ---- */

enum conn_class {
    CONN_IS_GONE, /* not a connection that is to be drained here (any more) */
    CONN_IS_IN_USE,
    CONN_IS_WAITING, /* idle, but it has to stay so for a while yet */
    CONN_IS_IDLE,
    CONN_IS_SHUT,   /* half-closed: the program has to close it */
    CONN_IS_FORCED, /* shut both ways: likewise */
};

/* What the limits of `reply` and `http` are, in ms. */
struct conn_limits {
    int64_t settle, first_byte;
    int64_t notice_until; /* sys_now_ms, until which an idle one can still be told (http) */
    int64_t now;          /* sys_now_ms */
    /* By a record's number, of so many; none: the look is not part of a longer wait. */
    int64_t *seen_at;
    uint32_t seen_count;
    int64_t answer;     /* how long a message of a WebSocket may wait for its answer */
    int64_t heard;      /* how long a client of HTTP/2 may take to answer our PING */
    int64_t first_look; /* sys_now_ms: what was first seen later was accepted in this drain */
    int64_t pause_most; /* how long a pause that is expected within an answer may be */
};

/*
 * verify: ask the kernel whether fd still is this connection also where nothing will be done to it.
 */
enum conn_class conn_classify(int fd, const struct conn_limits *limits, bool verify);

/* For how many ms at the least what conn_classify has just returned is so, if nothing happens on
 * the connection; 0: that is not known. */
#define CONN_LASTS INT64_MAX
int64_t conn_lasts_ms(void);

/* Tells whether conn_classify has just gone by when the drainer first saw the connection as it is:
 * of AF_UNIX the kernel has no times. */
bool conn_goes_by_sight(void);

/* Whether nothing has happened on it that we would see since conn_classify: what that has found by
 * the connection's turn is so still. */
bool conn_is_unchanged(int fd);

/* In a drain: what conn_classify has found counts, or what has happened since (table_counts). */
void conn_counts(int fd, bool in_use);

/* How long it has been quiet, as far as the kernel knows. */
int64_t conn_quiet_ms(int fd);

/* Half-closes a connection that conn_classify has just found idle. False: it has changed since. */
bool conn_shut(int fd);

/*
 * Lets the write that completes an answer end an AF_UNIX connection of a client that never rests.
 * Whether a process of the tree itself asks by it, and needs it still, only the drainer can tell.
 */
void conn_lets_answer_end(int fd);

/*
 * Sends the FIN of a half-closed connection to which the program does not attend. What `reply`
 * takes for idle may be in the middle of a long answer (an FTP transfer): there only in the end
 * (late). Of TLS the program has WEIR_SETTLE for an alert of its own.
 */
void conn_finish(int fd, const struct conn_limits *limits, bool late);

/* HTTP/2: tells the client to open no more streams, beside those that are open (goodbye.h). */
void conn_warn(int fd);

/* What a cut costs the client: bytes of its queues, and whether it was in use, idle or half-closed.
 */
struct conn_cost {
    enum conn_class look;
    struct sock_queues queues;
};

/*
 * Shuts it both ways; cost->look: what conn_classify has just found. What that costs is found out
 * behind the cut; threads of the program's are given until then to note what they did before it.
 * Returns false if it is not to be done (any more); else the caller counts it (table_count_forced).
 */
bool conn_force(int fd, const struct conn_limits *limits, int64_t until, struct conn_cost *cost);

/* Whether it has been cut. */
static inline bool conn_is_cut(int fd)
{
    const struct conn *conn = table_find(fd);
    return conn && atomic_load_explicit(&conn->record, memory_order_relaxed) & CONN_FORCED;
}

#endif
