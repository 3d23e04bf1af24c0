/* SPDX-License-Identifier: MIT */
/*
 * conn.h - what accept, a read, a write, an option, a mark and a close do to a connection.
 *
 * The wrappers in interpose/ tell what has happened; the drainer asks and acts. The inline
 * functions are the hot path: what a call costs that changes nothing.
 */
#ifndef WEIR_CONN_H
#define WEIR_CONN_H

#include "conn/epoch.h"
#include "http/framing.h"
#include "conn/rhythm.h"
#include "base/settings.h"
#include "base/sock.h"
#include "conn/table.h"

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
void conn_accepted(int fd, enum mode mode, uint32_t identity, enum identity kind);

/* Called once, when the process next has a connection that it had not before; NULL: nobody waits.
 */
extern HIDDEN void (*conn_on_first)(void);

/* Called before a connection of another process's becomes this one's; NULL: nobody waits. */
extern HIDDEN void (*conn_on_adopt)(void);

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
    const record_t *slot = table_record(fd);
    return slot && !((atomic_load_explicit(slot, memory_order_relaxed) ^
                      atomic_load_explicit(&epoch_page.in_use, memory_order_relaxed)) &
                     CONN_EPOCH);
}

/*
 * The program reads from or writes to what came over a socket, in a tree whose processes send each
 * other connections: what it is, is asked for now, so that it counts where it is served. The one
 * place outside a drain where a call on a connection makes others.
 */
void conn_uses_received(int fd);

/*
 * The event has happened to fd's connection; to the connection of a record, as it was seen. False:
 * it is not tracked.
 */
bool conn_event(int fd, enum conn_event event);
bool conn_step(record_t *slot, uint64_t record, enum conn_event event);

/*
 * A read has met the end of file: sends our FIN where the program has nothing left to say. True: a
 * request has come in behind the end, and is to be read instead.
 */
bool conn_read_end(int fd);

/*
 * fd, which is of this kind in the table, is about to be taken out of it and freed: where that ends
 * a connection while a drain is on, it may have to linger.
 */
void conn_closes(int fd, enum kind kind);

/* Whether that can be so at all. */
static inline bool conn_may_linger(void)
{
    return rhythm_is_noting();
}

/* weir_mark_*, weir_disown: 0, or the errno that they fail with. */
int conn_mark(int fd, bool in_use);
int conn_disown(int fd);

/* The bits that say whether an event can change anything, in a record in use and not half-closed.
 */
#define CONN_STEADY (CONN_EPOCH | CONN_IN_USE | CONN_POISED | CONN_SHUT)

/*
 * What tells the records to which reads and writes come again and again: the connections of this
 * process that have one descriptor and that no drain has touched. It is the low half of the record
 * against epoch_page.in_use.
 */
#define CONN_KEY (~(uint32_t)(CONN_UNIX | CONN_PORT | CONN_WATCHED))
#define CONN_KEY_OF(mode, flags) \
    ((uint32_t)(CONN_REF | (uint64_t)(mode) << CONN_MODE_SHIFT | (flags)))

enum {
    /* in use; idle differs by CONN_IN_USE */
    KEY_REPLY = CONN_KEY_OF(MODE_REPLY, CONN_ANSWERED | CONN_SEASONED),
    KEY_REPLY_FIRST = CONN_KEY_OF(MODE_REPLY, 0),
    KEY_AUTOMATIC = CONN_KEY_OF(MODE_AUTOMATIC, 0),
    KEY_DEADLINE = CONN_KEY_OF(MODE_DEADLINE, 0),
    KEY_HTTP = CONN_KEY_OF(MODE_HTTP, CONN_ANSWERED | CONN_SEASONED),
};

static inline uint32_t conn_key(uint64_t record)
{
    uint64_t mine = atomic_load_explicit(&epoch_page.in_use, memory_order_relaxed);
    return (uint32_t)(record ^ mine) & CONN_KEY;
}

/* The process's first call on a connection that it inherited through fork makes it its own. */
void conn_adopt(record_t *slot);

/* Whether fd still is the connection of a record with our FIN, and not somebody else's by now. */
bool conn_is_still_over(int fd, uint64_t record);

/*
 * A read or a write on fd, which is below the limit and of which there is no hint, begins. Returns
 * the record of its connection, which is this process's from now on; NULL: it is none.
 */
record_t *conn_enters_other(int fd);

/* Of a KIND_CONN. */
static inline record_t *conn_enters_own(int fd)
{
    record_t *slot = table_slot((uint32_t)fd);
    if (UNLIKELY((atomic_load_explicit(slot, memory_order_relaxed) ^
                  atomic_load_explicit(&epoch_page.in_use, memory_order_relaxed)) &
                 CONN_EPOCH))
        conn_adopt(slot);
    return slot;
}

static inline record_t *conn_enters(int fd)
{
    return LIKELY(table_is_conn(fd)) ? conn_enters_own(fd) : conn_enters_other(fd);
}

/* Whether our FIN is out: a write would be answered with SIGPIPE, and is reported as done instead.
 */
static inline bool conn_is_over(int fd, record_t *slot)
{
    uint64_t record = atomic_load_explicit(slot, memory_order_relaxed);
    return UNLIKELY(record & CONN_FIN) && conn_is_still_over(fd, record);
}

/*
 * While a drain is on: a read has returned n bytes, a write took `done`. The write that
 * completes an answer to a client that never rests half-closes the connection.
 */
void conn_notes_read(record_t *slot, uint64_t record, size_t n, struct bytes bytes);
void conn_notes_wrote(int fd, record_t *slot, size_t done, bool whole, struct bytes bytes);

/*
 * A write of `asked` bytes, which is about to be made, completes the last answer: it is held back
 * so that our FIN goes out with it. True: conn_release, after the write and what came of it.
 *
 * Where the answer is whole only in all likelihood the connection is half-closed first, and the
 * answer waits until the program meets that end or writes on: were it sent before, the next request
 * would be on its way when our FIN is. Should the program do neither, the kernel sends it after 200
 * ms (tcp(7), TCP_CORK).
 */
bool conn_holds_back(int fd, record_t *slot, size_t asked, struct bytes bytes);
void conn_release(int fd);

/* A write that the program says is a part only (MSG_MORE) took n bytes; a file that it sends has
 * ended. */
void conn_wrote_part(int fd, record_t *slot, size_t n, struct bytes bytes);
void conn_file_ended(int fd, record_t *slot);

/*
 * Mode http while a drain is on: what is written to the connection of a record is planned, so that
 * the last answer owed says that it is the last (http.h, "The notice"). NULL: it is not.
 */
struct http *conn_plans(record_t *slot);

/* A request has come in behind the one that is being answered, and the program has not read it: so
 * that one's answer is not the last. */
bool conn_is_asked_more(int fd, const struct http *http);

/* So many bytes of the program's own went out by a plan, of `asked`; -1: would block. */
void conn_wrote_planned(int fd, record_t *slot, size_t asked, ssize_t done);

/* epoll_ctl has asked for these events of fd, which the table knows. */
void conn_watched(int epoll, int fd, uint32_t events);

/*
 * In use from now on, where a record of one of those keys was idle, or idle: by who has entered
 * (solo.h). `hint` is what is said of fd's reads then.
 */
INLINE void conn_turns_now(int fd, record_t *slot, bool busy, enum hint hint)
{
    if (busy)
        solo_set(slot, CONN_IN_USE);
    else
        solo_clear(slot, CONN_IN_USE);
    /* Any shard will do: a figure is the sum of all. */
    solo_add(&table.shards->live, busy ? LIVE_IN_USE : -LIVE_IN_USE);
    atomic_store_explicit(table_hint_at((uint32_t)fd), (int8_t)hint, memory_order_relaxed);
}

/* False: that is not to be done here, for there are more threads (so always while a drain is on).
 */
INLINE bool conn_turns_to(int fd, record_t *slot, bool busy, enum hint hint)
{
    if (!solo_enter_again())
        return false;
    conn_turns_now(fd, slot, busy, hint);
    solo_leave();
    return true;
}

/* What is said of a connection from now on: of one that is reached by another number nothing is. */
INLINE enum hint conn_hint(bool busy)
{
    return busy ? (enum hint)atomic_load_explicit(&table.busy, memory_order_relaxed) : HINT_REST;
}

INLINE bool conn_turns(int fd, record_t *slot, bool busy)
{
    bool own = slot == table_slot((uint32_t)fd);
    return conn_turns_to(fd, slot, busy, LIKELY(own) ? conn_hint(busy) : HINT_ASK);
}

/* Of an idle record with such a key (but for CONN_IN_USE) a read makes one in use, and no more. */
static inline bool conn_read_turns(uint32_t key)
{
    return LIKELY(key == KEY_REPLY) || key == KEY_AUTOMATIC || key == KEY_DEADLINE;
}

/*
 * A record of one of the keys turns from idle to in use or back, where there are more threads than
 * one, and no drain. False: it is not so, or the record is not this one any more.
 */
bool conn_turns_among_many(record_t *slot, uint64_t record);

/*
 * The same where it is called, of a record as it was before a system call: a signal's handler may
 * have forked meanwhile, and the child return from the call as well. busy: to in use.
 */
INLINE bool conn_turns_here(record_t *slot, uint64_t record, bool busy)
{
    uint64_t next = busy ? record | CONN_IN_USE : record & ~CONN_IN_USE;
    uint64_t mine = atomic_load_explicit(&epoch_page.in_use, memory_order_relaxed);
    uint32_t turn = table_turn;
    if (UNLIKELY((record ^ mine) & CONN_EPOCH) ||
        atomic_load_explicit(&solo.owner, memory_order_relaxed) != SOLO_ENDED ||
        epoch_is_borrowed() || rhythm_is_noting() || UNLIKELY(!turn) ||
        UNLIKELY(!atomic_compare_exchange_strong(slot, &record, next)))
        return false;
    table_count_live_in(turn, busy ? LIVE_IN_USE : -LIVE_IN_USE);
    return true;
}

/*
 * Whether a read on fd, which is below the limit, would make its connection in use and no more; or
 * a write that takes all that it is to would make it idle. By the record as it is before the call:
 * conn_turns_here finds out whether it still is so. (Where fd is no connection its record is not
 * looked at: that could be the first touch of a page.)
 */
INLINE bool conn_may_begin(int fd, const record_t *slot, uint64_t *record)
{
    if (UNLIKELY(!table_is_conn(fd)))
        return false;
    *record = atomic_load_explicit(slot, memory_order_relaxed);
    return conn_read_turns(conn_key(*record) ^ (uint32_t)CONN_IN_USE);
}

INLINE bool conn_may_answer(int fd, const record_t *slot, uint64_t *record)
{
    if (UNLIKELY(!table_is_conn(fd)))
        return false;
    *record = atomic_load_explicit(slot, memory_order_relaxed);
    return LIKELY(conn_key(*record) == KEY_REPLY) && !rhythm_is_noting();
}

/* The rest: what has happened is new to the record. */
void conn_reads(int fd, record_t *slot, size_t n, struct bytes bytes);
void conn_wrote_other(int fd, record_t *slot, size_t asked, ssize_t done, struct bytes bytes);

/* A read on fd, whose record that is, returned n bytes, these; and one that leaves them there. */
void conn_peeked(int fd, record_t *slot);
INLINE void conn_read(int fd, record_t *slot, size_t n, struct bytes bytes)
{
    uint64_t record = atomic_load_explicit(slot, memory_order_relaxed);
    uint32_t key = conn_key(record) ^ (uint32_t)CONN_IN_USE;
    if (conn_read_turns(key) && (conn_turns(fd, slot, true) || conn_turns_among_many(slot, record)))
        return;
    conn_reads(fd, slot, n, bytes);
}

/* A read has returned data on a connection that was hinted to rest. False: it does so no more. */
INLINE bool conn_begins(int fd)
{
    if (!solo_enter_again())
        return false;
    bool rests = table_hint_within((uint32_t)fd) == HINT_REST;
    if (LIKELY(rests))
        conn_turns_now(fd, table_slot((uint32_t)fd), true, conn_hint(true));
    solo_leave();
    return rests;
}

/*
 * What is hinted to be in use is idle from now on, if this is what makes it so in its mode: a mark,
 * or else an answer (a first one does more). False: the hint is no longer there, or there is more
 * to it than that.
 */
INLINE bool conn_rests_by(int fd, bool mark)
{
    const uint32_t told = (uint32_t)(CONN_MODE | CONN_SEASONED);
    if (!solo_enter_again())
        return false;
    bool known = table_hint_within((uint32_t)fd) == HINT_BUSY;
    if (LIKELY(known)) {
        record_t *slot = table_slot((uint32_t)fd);
        uint32_t is = (uint32_t)atomic_load_explicit(slot, memory_order_relaxed) & told;
        bool is_marked = is == (KEY_AUTOMATIC & told) || is == (KEY_DEADLINE & told);
        bool turns = mark ? is_marked : is == (KEY_REPLY & told);
        if (LIKELY(turns))
            conn_turns_now(fd, slot, false, HINT_REST);
        known = turns || (!mark && is_marked);
    }
    solo_leave();
    return known;
}

/* A write has taken all that it was to, on a connection that was hinted to be in use. */
INLINE bool conn_answers(int fd)
{
    return conn_rests_by(fd, false);
}

/* fd is marked idle. */
INLINE bool conn_rests(int fd)
{
    return LIKELY(table_has(fd)) && conn_rests_by(fd, true);
}

/* A write of `asked` bytes on fd, whose record that is, took `done` (-1: would block). */
static inline void conn_wrote(int fd, record_t *slot, size_t asked, ssize_t done,
                              struct bytes bytes)
{
    uint64_t record = atomic_load_explicit(slot, memory_order_relaxed);
    if (LIKELY((size_t)done == asked) && conn_key(record) == KEY_REPLY &&
        (conn_turns(fd, slot, false) || conn_turns_among_many(slot, record)))
        return;
    conn_wrote_other(fd, slot, asked, done, bytes);
}

/* ---- for the drainer: fd is claimed ---- */

enum conn_look {
    LOOK_GONE, /* not a connection that is to be drained here (any more) */
    LOOK_IN_USE,
    LOOK_WAITING, /* idle, but it has to stay so for a while yet */
    LOOK_IDLE,
    LOOK_SHUT,   /* half-closed: the program has to close it */
    LOOK_FORCED, /* shut both ways: likewise */
};

/* What the limits of `reply` and `http` are, in ms. */
struct conn_limits {
    int64_t settle, first_byte;
    int64_t notice_until; /* sys_now_ms, until which an idle one can still be told (http) */
    int64_t now;          /* sys_now_ms */
    /* By a record's number, of so many; none: the look is not part of a longer wait. */
    int64_t *seen_at;
    uint32_t seen_count;
};

/*
 * verify: ask the kernel whether fd still is this connection also where nothing will be done to it.
 */
enum conn_look conn_look(int fd, const struct conn_limits *limits, bool verify);

/* How long it has been quiet, as far as the kernel knows. */
int64_t conn_quiet_ms(int fd);

/* Half-closes a connection that conn_look has just found idle. False: it has changed since. */
bool conn_shut(int fd);

/*
 * Both at once, and much faster, for the most usual of a few numbers from `first` on, all of which
 * are claimed and below table.high. Returns those that it has not looked at: bit n is of first + n.
 */
#define CONN_FEW 32
uint32_t conn_shut_few(uint32_t first, const struct conn_limits *limits);

/*
 * Sends the FIN of a half-closed connection to which the program does not attend. What `reply`
 * takes for idle may be in the middle of a long answer (an FTP transfer): there only in the end
 * (late).
 */
void conn_finish(int fd, bool late);

/* Shuts it both ways. */
void conn_force(int fd);

#endif
